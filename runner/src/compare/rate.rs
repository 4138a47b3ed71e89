// SPDX-License-Identifier: MIT OR Apache-2.0
//! How often each metric was right, and whether that differs from the reference.

use std::collections::BTreeMap;

use bakeoff_fuzz::wire::{Block, Counts, Score, Step, Stress};

use super::cell::{self, exercise, proves};
use super::row::{Bounds, CellEnd, CellRow, Effect, Place, RateRow, Verdict};
use super::words::{count, counted, rate};
use super::{Settings, words};
use crate::observation::{BootObservation, Observation};
use crate::spec::Role;
use crate::stats::{self, Cluster, Estimate, Judgement};

/// A number that a probe's blocks answer.
#[derive(Debug)]
pub struct Metric {
    /// Its name in specs and reports.
    pub name: &'static str,
    /// The probe.
    pub probe: &'static str,
    /// What the calls counted as correct got, in the words of a reader.
    pub means: &'static str,
    score: fn(&Counts) -> Score,
}

/// Every metric there is.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "build_id.top_frame",
        probe: "build_id",
        means: "the right build id for the innermost frame",
        score: |counts| counts.top,
    },
    Metric {
        name: "build_id.all_frames",
        probe: "build_id",
        means: "the right build ids for all frames",
        score: |counts| counts.all,
    },
    Metric {
        name: "flip.top_frame",
        probe: "flip",
        means: "an id and offset that belong together for the innermost frame",
        score: |counts| counts.top,
    },
];

/// A row on its way, with the numbers a comparison needs.
pub(super) struct Rate {
    pub(super) row: RateRow,
    estimate: Option<Estimate>,
    rounds: Vec<Estimate>,
}

/// The rows of one cell, not yet compared.
pub(super) fn measure(seen: &Observation, cell: &CellRow, steps: &[Step]) -> Vec<Rate> {
    let mut rates = Vec::new();
    for step in steps {
        for metric in METRICS.iter().filter(|m| m.probe == step.probe) {
            rates.push(measure_one(seen, cell, step, metric));
        }
    }
    rates
}

fn measure_one(seen: &Observation, cell: &CellRow, step: &Step, metric: &Metric) -> Rate {
    let score = |block: &Block| {
        let Score { valid, correct } = (metric.score)(&block.counts);
        // A guest that counts more right answers than calls is not believed.
        let calls = block.counts.calls;
        (calls, valid.min(calls), correct.min(valid).min(calls))
    };
    let of_step = |boot: &BootObservation| -> Vec<Block> {
        boot.blocks.iter().filter(|b| b.step == step.id).cloned().collect()
    };
    let mut row = empty(seen, step, metric);
    let (mut blocks, mut boots, mut by_round) =
        (Vec::new(), Vec::new(), BTreeMap::<u32, Vec<Cluster>>::new());
    let mut evidence = Vec::new();
    for boot in &seen.boots {
        let taken = of_step(boot);
        if taken.is_empty() && !boot.asked.contains(&step.id) {
            continue;
        }
        row.place.boots = row.place.boots.saturating_add(1);
        evidence.extend(boot.evidence.iter().cloned());
        let mut whole = Cluster::default();
        for block in &taken {
            if !proves(block) {
                row.blocks_without_lockdep += 1;
                continue;
            }
            let (calls, valid, correct) = score(block);
            add(&mut row, &block.counts);
            row.blocks += 1;
            row.valid += valid;
            row.correct += correct;
            let cluster = Cluster { trials: calls, successes: correct };
            whole.trials += calls;
            whole.successes += correct;
            blocks.push(cluster);
            by_round.entry(boot.round).or_default().push(cluster);
        }
        boots.push(whole);
    }
    if evidence.is_empty() {
        evidence = cell::evidence(seen);
    }
    row.place.evidence = evidence;
    let estimate = Estimate::new(&blocks, &boots);
    if let Some(estimate) = &estimate {
        let interval = estimate.interval(stats::CONFIDENCE);
        row.low = Some(words::round_down(interval.low));
        row.high = Some(words::round_up(interval.high));
        row.design_effect = Some(words::round_up(estimate.design_effect));
        row.independence_assumed = estimate.independence_assumed;
    } else {
        row.reason = why_none(seen, cell, step, &row);
    }
    let rounds = by_round.values().filter_map(|blocks| Estimate::new(blocks, &[])).collect();
    Rate { row, estimate, rounds }
}

fn empty(seen: &Observation, step: &Step, metric: &Metric) -> RateRow {
    RateRow {
        place: Place::new(seen.id(), 0, Vec::new()),
        step: step.id,
        metric: metric.name.to_owned(),
        context: step.context,
        stress: step.stress,
        period_us: step.period_us,
        writer_duty: None,
        calls: 0,
        ineligible: 0,
        ineligible_by: BTreeMap::new(),
        missed: 0,
        errors: 0,
        wrong_context: BTreeMap::new(),
        slot_busy: None,
        lock_failed: None,
        valid: 0,
        correct: 0,
        low: None,
        high: None,
        confidence: stats::CONFIDENCE,
        blocks: 0,
        blocks_without_lockdep: 0,
        design_effect: None,
        independence_assumed: false,
        difference: None,
        noise: None,
        needs: None,
        verdict: Verdict::Inconclusive,
        reason: String::new(),
    }
}

/// Destructured, so that a new count cannot be forgotten here.
fn add(row: &mut RateRow, counts: &Counts) {
    let Counts {
        calls,
        ineligible,
        missed,
        errors,
        wrong_context,
        slot_busy,
        lock_failed,
        top: _,
        all: _,
        frames: _,
        // For the oracle of its own.
        flip: _,
    } = counts;
    row.calls = row.calls.saturating_add(*calls);
    row.missed = row.missed.saturating_add(*missed);
    row.errors = row.errors.saturating_add(*errors);
    for (errno, times) in ineligible {
        row.ineligible = row.ineligible.saturating_add(*times);
        *row.ineligible_by.entry(errno.clone()).or_default() += times;
    }
    for (context, times) in wrong_context {
        *row.wrong_context.entry(context.clone()).or_default() += times;
    }
    for (sum, part) in [(&mut row.slot_busy, slot_busy), (&mut row.lock_failed, lock_failed)] {
        if let Some(part) = part {
            *sum = Some(sum.unwrap_or_default().saturating_add(*part));
        }
    }
}

/// Why there is no number.
fn why_none(seen: &Observation, cell: &CellRow, step: &Step, row: &RateRow) -> String {
    if seen.boots.is_empty() {
        let end = super::end_words(cell.end);
        return match &cell.note {
            Some(note) => format!("{end}: {note}"),
            None => end.into(),
        };
    }
    let did = exercise(seen, step.id);
    if let Some(reason) = did.unreachable {
        return format!("cannot be reached: {reason}");
    }
    if let Some(reason) = did.failed {
        return format!("our error: {reason}");
    }
    if row.blocks_without_lockdep > 0 {
        let blocks = counted(row.blocks_without_lockdep.into(), "block");
        return format!("{blocks} ran, all with lockdep off: they prove nothing");
    }
    if !row.wrong_context.is_empty() {
        let found: Vec<&String> = row.wrong_context.keys().collect();
        return format!("all calls came from another context: {}", words::list(&found));
    }
    if row.ineligible > 0 {
        return format!(
            "no eligible call: {} without a user stack",
            counted(row.ineligible, "call")
        );
    }
    if cell.end != CellEnd::Ran {
        return format!("{} before it came to this", super::end_words(cell.end));
    }
    "no block of it was taken".into()
}

/// Judges every row against the reference's: `groups` holds the rows of one
/// base × architecture × profile each, the reference's among them; `name` is the
/// reference's.
pub(super) fn judge(groups: &mut [Vec<(Role, Vec<Rate>)>], settings: &Settings, name: &str) {
    let comparisons: usize = groups.iter().map(|group| comparisons(group)).sum();
    let confidence = stats::corrected(settings.confidence, comparisons);
    for group in groups {
        let reference = group.iter().position(|(role, _)| *role == Role::Reference);
        let theirs: Vec<Reference> = match reference.and_then(|at| group.get(at)) {
            Some((_, rates)) => rates.iter().map(|rate| Reference::new(rate, confidence)).collect(),
            None => Vec::new(),
        };
        for (role, rates) in group {
            for rate in rates {
                if !is_compared(&rate.row) {
                    if rate.estimate.is_some() {
                        rate.row.reason = NOT_COMPARED.into();
                    }
                    continue;
                }
                let theirs = theirs
                    .iter()
                    .find(|r| r.row.step == rate.row.step && r.row.metric == rate.row.metric);
                if *role == Role::Reference {
                    judge_reference(rate, theirs);
                } else {
                    judge_one(rate, theirs, confidence, settings.margin, name);
                }
            }
        }
    }
}

/// Whether a rate says something about a candidate beside the reference. Where
/// mappings change as fast as they go, how fast that is depends on the candidate
/// and on the host; there the pairs count, not how many there are.
pub(crate) fn is_compared(row: &RateRow) -> bool {
    row.stress != Stress::Flip
}

/// Why it does not.
const NOT_COMPARED: &str = "not compared: how often the mapping changes is not held equal";

/// How many rates of a group are set against the reference's.
fn comparisons(group: &[(Role, Vec<Rate>)]) -> usize {
    let others = group.iter().filter(|(role, _)| *role != Role::Reference);
    let rates = others.flat_map(|(_, rates)| rates);
    rates.filter(|rate| rate.estimate.is_some() && is_compared(&rate.row)).count()
}

/// The reference's rate, and by how much its own rounds differ.
struct Reference {
    row: RateRow,
    estimate: Option<Estimate>,
    noise: f64,
}

impl Reference {
    fn new(rate: &Rate, confidence: f64) -> Reference {
        let mut noise = 0.0f64;
        for (at, a) in rate.rounds.iter().enumerate() {
            for b in rate.rounds.iter().skip(at + 1) {
                let apart = stats::difference(a, b, confidence);
                if apart.low > 0.0 || apart.high < 0.0 {
                    noise = noise.max(apart.low.abs()).max(apart.high.abs());
                }
            }
        }
        Reference { row: rate.row.clone(), estimate: rate.estimate, noise }
    }

    fn noise(&self) -> Option<f64> {
        (self.noise > 0.0).then(|| words::round_up(self.noise))
    }
}

fn judge_reference(rate: &mut Rate, itself: Option<&Reference>) {
    if rate.estimate.is_none() {
        return;
    }
    rate.row.verdict = Verdict::Same;
    rate.row.noise = itself.and_then(Reference::noise);
    rate.row.reason = match rate.row.noise {
        Some(noise) => {
            format!("the reference; its own rounds differ by up to {}", words::points(noise))
        }
        None => "the reference".into(),
    };
}

fn judge_one(
    rate: &mut Rate,
    theirs: Option<&Reference>,
    confidence: f64,
    margin: f64,
    reference: &str,
) {
    let (Some(ours), Some(theirs)) = (rate.estimate, theirs) else {
        return;
    };
    let Some(other) = theirs.estimate else {
        rate.row.reason = format!("{reference} has no number here: {}", theirs.row.reason);
        return;
    };
    let margin = margin + theirs.noise;
    let apart = stats::difference(&ours, &other, confidence);
    rate.row.difference = Some(Bounds {
        low: words::round_down(apart.low),
        high: words::round_up(apart.high),
        confidence: words::round_up(confidence),
    });
    let (verdict, text) = match stats::judge(apart, margin) {
        Judgement::Lower => (Verdict::Worse, format!("lower than {reference}'s")),
        Judgement::Higher => (Verdict::Better, format!("higher than {reference}'s")),
        Judgement::Same => {
            (Verdict::Same, format!("within {} of {reference}'s", words::points(margin)))
        }
        Judgement::Open => {
            let needs = stats::calls_for_judgement(&ours, &other, margin, confidence);
            rate.row.needs = needs.map(|calls| calls.max(1));
            let needs = match rate.row.needs {
                Some(calls) => format!("needs about {} more calls", count(calls)),
                None => format!("on the margin of {}, needs more boots", words::points(margin)),
            };
            (Verdict::Inconclusive, format!("inconclusive: {needs}; {reference} has"))
        }
    };
    rate.row.verdict = verdict;
    rate.row.noise = theirs.noise();
    rate.row.reason = format!("{text} {}", shown(&theirs.row));
    if let Some(noise) = rate.row.noise {
        let noise = words::points(noise);
        rate.row.reason.push_str(&format!(", whose own rounds differ by up to {noise}"));
    }
}

/// `20,000/20,000 = 100% [99.98, 100]`.
pub(crate) fn shown(row: &RateRow) -> String {
    rate(row.correct, row.calls, row.low, row.high)
}

/// `build_id/hardirq/idle/4000us`, from a row.
pub(crate) fn condition(row: &RateRow) -> String {
    let mut text = format!("{}/{}", crate::spec::word(row.context), crate::spec::word(row.stress));
    if let Some(period) = row.period_us {
        text.push_str(&format!("/{period}us"));
    }
    text
}

/// What a row says about its candidate.
pub(super) fn effect(row: &RateRow) -> Effect {
    match row.verdict {
        Verdict::Better => Effect::Better,
        Verdict::Same => Effect::Same,
        Verdict::Worse => Effect::Worse,
        Verdict::Inconclusive => Effect::Inconclusive,
    }
}

/// The reader's words for a metric.
pub(crate) fn means(metric: &str) -> &str {
    METRICS.iter().find(|m| m.name == metric).map_or(metric, |m| m.means)
}
