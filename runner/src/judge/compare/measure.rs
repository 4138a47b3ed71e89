// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counts what the visits of a cell measured, metric by metric, from what the probes
//! declare.

use std::collections::{BTreeMap, BTreeSet};

use bakeoff_fuzz::probe::{self, Metric, MetricKind, MetricRole, Probe};
use bakeoff_fuzz::wire::{Share, Step, Summary};

use super::cell;
use crate::judge::claims::{self, BLOCK_CALLS, Visit};
use crate::judge::row::{AxisValue, Direction, MeasureRow, Place, ValueKind};
use crate::see::observation::Observation;
use crate::see::records::VisitRecord;
use crate::spec::plan::{Plan, Planned, Purpose};
use crate::spec::{CONFIDENCE, own_metric};

/// One visit of one metric, and where it is from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    /// What it found.
    pub(crate) visit: Visit,
    /// The boot's name.
    pub(crate) boot: String,
    /// When it began, in nanoseconds of its boot.
    pub(crate) begin_ns: u64,
}

/// All visits of a metric in a step that count, in the order in which they were made.
pub(crate) fn points(seen: &Observation, planned: &Planned, name: &str) -> Vec<Point> {
    let Some(probe) = probe::find(&planned.step.probe) else { return Vec::new() };
    let Some(metric) = probe.metric(name) else { return Vec::new() };
    let mut points = Vec::new();
    for (number, boot) in seen.boots.iter().enumerate() {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        for record in boot.visits.iter().filter(|v| v.step == planned.step.id && v.counts()) {
            let mut visit = match metric.kind {
                MetricKind::Share => share(record, name, planned.step.calls_per_block),
                MetricKind::Value => value(record, name),
            };
            visit.boot = number;
            visit.missing = missing(probe, record);
            visit.duty = load(probe, record);
            points.push(Point { visit, boot: boot.name.clone(), begin_ns: record.begin_ns });
        }
    }
    points.retain(|point| point.visit.calls > 0);
    points
}

fn share(record: &VisitRecord, name: &str, calls_per_block: u32) -> Visit {
    let mut sum = Share::default();
    let (mut blocks, mut failed_blocks) = (0, 0);
    for share in record.proven().filter_map(|block| block.shares.get(name)) {
        sum.add(*share);
        if share.of > 0 {
            blocks += 1;
            failed_blocks += u64::from(share.right < share.of);
        }
    }
    let visit = Visit::share(0, sum.right, sum.of);
    // Larger blocks are no unit for rare failures: those are derived from the calls.
    if u64::from(calls_per_block) > BLOCK_CALLS {
        return visit;
    }
    Visit { blocks, failed_blocks, ..visit }
}

/// Blocks of a visit as the bounds count them.
pub(super) fn blocks_of(step: &Step) -> u64 {
    let calls = u64::from(step.calls_per_block);
    let times = calls.div_ceil(BLOCK_CALLS).max(1);
    u64::from(step.blocks) * times
}

fn value(record: &VisitRecord, name: &str) -> Visit {
    let mut sum = Summary::default();
    for value in record.proven().filter_map(|block| block.values.get(name)) {
        sum.add(value);
    }
    Visit::mean(0, sum.mean, sum.n)
}

/// Samples that would have counted, had they been seen.
fn missing(probe: &Probe, record: &VisitRecord) -> u64 {
    let lost = |name: &str| {
        probe.excluded.iter().any(|reason| reason.missing && declares(reason.name, name))
    };
    record
        .proven()
        .flat_map(|block| &block.excluded)
        .filter(|(name, _)| lost(name))
        .map(|(_, count)| count)
        .sum()
}

/// The load that was measured, where the probe measures one.
fn load(probe: &Probe, record: &VisitRecord) -> Option<f64> {
    let metric = probe.metrics.iter().find(|metric| metric.role == MetricRole::Condition)?;
    let visit = value(record, metric.name);
    (visit.calls > 0).then_some(visit.value)
}

fn declares(declared: &str, name: &str) -> bool {
    if declared.ends_with('/') { name.starts_with(declared) } else { declared == name }
}

/// The names of the metrics that a step of a cell gave, or should have.
pub(crate) fn names(seen: &Observation, planned: &Planned) -> Vec<(String, &'static Metric)> {
    let Some(probe) = probe::find(&planned.step.probe) else { return Vec::new() };
    let mut found: BTreeSet<String> = BTreeSet::new();
    for boot in &seen.boots {
        for block in boot.blocks().filter(|block| block.step == planned.step.id) {
            found.extend(block.shares.keys().cloned());
            found.extend(block.values.keys().cloned());
        }
    }
    // What is judged has a row even if nothing came of it.
    let judged = probe.metrics.iter().filter(|m| m.role == MetricRole::Claim);
    found.extend(judged.filter(|m| !m.name.ends_with('/')).map(|m| m.name.to_owned()));
    found.into_iter().filter_map(|name| probe.metric(&name).map(|metric| (name, metric))).collect()
}

/// The measures of a cell: one row for each metric of each condition.
pub(super) fn rows(seen: &Observation, plan: &Plan) -> Vec<MeasureRow> {
    if seen.boots.is_empty() {
        return Vec::new();
    }
    let mut rows = Vec::new();
    for planned in plan.steps_of(seen.id()).filter(|planned| !is_left(seen, planned)) {
        for (name, metric) in names(seen, planned) {
            if metric.role != MetricRole::NeverWrong {
                rows.push(row(seen, planned, &name, metric));
            }
        }
    }
    rows
}

/// Whether a step is one that nothing is judged by, and that there was no time for.
pub(super) fn is_left(seen: &Observation, planned: &Planned) -> bool {
    let visits = || seen.boots.iter().flat_map(|boot| &boot.visits);
    planned.purpose == Purpose::Shown && visits().all(|visit| visit.step != planned.step.id)
}

fn row(seen: &Observation, planned: &Planned, name: &str, metric: &Metric) -> MeasureRow {
    let own = own_metric(&planned.step, name);
    let points = points(seen, planned, name);
    let visits: Vec<Visit> = points.iter().map(|point| point.visit).collect();
    let calls: u64 = visits.iter().map(|visit| visit.calls).sum();
    let right = (metric.kind == MetricKind::Share)
        .then(|| visits.iter().map(|visit| visit.right).sum::<u64>());
    let scale = match metric.kind {
        MetricKind::Share => claims::Scale::Share,
        MetricKind::Value => claims::Scale::Ratio,
    };
    let alone = claims::alone(scale, &visits, 1.0 - CONFIDENCE);
    let boots: BTreeSet<&str> = points.iter().map(|point| point.boot.as_str()).collect();
    let (excluded, causes) = explained(seen, planned, name);
    let reason = if calls > 0 { String::new() } else { why_nothing(seen, planned) };
    MeasureRow {
        place: Place::new(seen.id(), evidence(seen, planned.step.id)),
        step: planned.step.id,
        probe: planned.step.probe.clone(),
        label: planned.label.clone(),
        condition: words(planned),
        axes: axes(planned, &visits),
        metric: name.to_owned(),
        means: means(name, metric),
        better: own.as_ref().map_or(direction(metric), |own| direction_of(own.better)),
        unit: own.map_or(metric.unit.to_owned(), |own| own.unit),
        kind: kind(metric),
        calls,
        right,
        estimate: alone.map(|(estimate, _)| rounded(estimate)),
        low: alone.map(|(_, interval)| rounded(interval.low)),
        high: alone.map(|(_, interval)| rounded(interval.high)),
        visits: u32::try_from(visits.len()).unwrap_or(u32::MAX),
        boots: u32::try_from(boots.len()).unwrap_or(u32::MAX),
        excluded,
        causes,
        reason,
    }
}

/// Nine decimals are more than any run can show, and every reader of the JSON gets the
/// number that was written.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

/// What a metric is called: a member of a family by its own name.
pub(super) fn means(name: &str, metric: &Metric) -> String {
    match name.strip_prefix(metric.name).filter(|_| metric.name.ends_with('/')) {
        Some(own) => format!("{}: {own}", metric.means),
        None => metric.means.to_owned(),
    }
}

pub(super) fn kind(metric: &Metric) -> ValueKind {
    match metric.kind {
        MetricKind::Share => ValueKind::Share,
        MetricKind::Value => ValueKind::Value,
    }
}

pub(super) fn direction(metric: &Metric) -> Direction {
    direction_of(metric.better)
}

pub(super) fn direction_of(better: probe::Better) -> Direction {
    match better {
        probe::Better::Higher => Direction::Higher,
        probe::Better::Lower => Direction::Lower,
        probe::Better::None => Direction::None,
    }
}

/// A condition in a reader's words.
pub(super) fn words(planned: &Planned) -> String {
    match probe::check(&planned.step) {
        Ok((_, condition)) => condition.words,
        Err(_) => planned.label.clone(),
    }
}

fn axes(planned: &Planned, visits: &[Visit]) -> Vec<AxisValue> {
    let Ok((_, condition)) = probe::check(&planned.step) else { return Vec::new() };
    let duties: Vec<f64> = visits.iter().filter_map(|visit| visit.duty).collect();
    let mean = (!duties.is_empty()).then(|| duties.iter().sum::<f64>() / duties.len() as f64);
    let axis = |axis: probe::Axis| AxisValue {
        name: axis.name.to_owned(),
        unit: axis.unit.to_owned(),
        value: axis.value,
        measured: axis
            .measured_by
            .and(mean)
            .map(|mean| rounded(if axis.unit == "%" { mean * 100.0 } else { mean })),
        rest: axis.rest,
    };
    condition.axes.into_iter().map(axis).collect()
}

/// Excluded calls by reason, and what explains the failures of a metric, both in words.
fn explained(
    seen: &Observation,
    planned: &Planned,
    metric: &str,
) -> (BTreeMap<String, u64>, BTreeMap<String, u64>) {
    let Some(probe) = probe::find(&planned.step.probe) else { return Default::default() };
    let (mut excluded, mut causes) = (BTreeMap::new(), BTreeMap::new());
    let visits = seen.boots.iter().flat_map(|boot| &boot.visits);
    for block in
        visits.filter(|v| v.step == planned.step.id && v.counts()).flat_map(VisitRecord::proven)
    {
        for (name, count) in block.excluded.iter().filter(|(_, count)| **count > 0) {
            let reason = probe.excluded.iter().find(|reason| declares(reason.name, name));
            let words = reason.map_or_else(
                || name.clone(),
                |reason| match name.strip_prefix(reason.name).filter(|own| !own.is_empty()) {
                    Some(own) => format!("{} ({own})", reason.means),
                    None => reason.means.to_owned(),
                },
            );
            *excluded.entry(words).or_insert(0) += count;
        }
        for note in probe.notes.iter().filter(|note| note.explains == Some(metric)) {
            if let Some(count) = block.notes.get(note.name).filter(|count| **count > 0) {
                *causes.entry(note.means.to_owned()).or_insert(0) += count;
            }
        }
    }
    (excluded, causes)
}

pub(super) fn evidence(seen: &Observation, step: u32) -> Vec<String> {
    let did = seen.boots.iter().filter(|boot| boot.visits.iter().any(|v| v.step == step));
    did.flat_map(|boot| boot.evidence.iter().cloned()).collect()
}

/// Why a condition has no calls.
pub(super) fn why_nothing(seen: &Observation, planned: &Planned) -> String {
    let did = cell::exercise(seen, planned.step.id);
    if let Some(reason) = did.unreachable {
        return reason;
    }
    if let Some(reason) = did.failed {
        return format!("the probe failed: {reason}");
    }
    if did.deaths > 0 {
        return format!("the guest dies or hangs here ({} of {})", did.deaths, did.begun);
    }
    if did.done { "no call that counts".into() } else { "not done".into() }
}
