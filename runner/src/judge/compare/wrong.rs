// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers that must never be wrong, and what it is worth that none was.
//!
//! A wrong answer in one boot is *seen once*; two boots that show it are believed. No wrong
//! answer counts for something only where the negative control, a kernel that answers
//! without checking, would have been expected to show at least three in as many answers.

use std::collections::{BTreeMap, BTreeSet};

use bakeoff_fuzz::probe::{self, MetricRole};
use bakeoff_fuzz::wire::Share;

use super::measure::{evidence, means, names, rounded, words};
use crate::judge::claims::{Seen, zero_means};
use crate::judge::row::{KOfN, Place, WrongReading, WrongRow};
use crate::see::observation::Observation;
use crate::spec::plan::{Plan, Planned};

/// The rows of one cell.
pub(super) fn rows(
    seen: &Observation,
    negative: Option<&Observation>,
    plan: &Plan,
) -> Vec<WrongRow> {
    let mut rows = Vec::new();
    for planned in plan.steps_of(seen.id()) {
        let Some(probe) = probe::find(&planned.step.probe) else { continue };
        if !probe.metrics.iter().any(|metric| metric.role == MetricRole::NeverWrong) {
            continue;
        }
        let mut metrics = names(seen, planned);
        metrics.retain(|(_, metric)| metric.role == MetricRole::NeverWrong);
        if metrics.is_empty() && !seen.boots.is_empty() {
            let all = probe.metrics.iter().filter(|m| m.role == MetricRole::NeverWrong);
            metrics = all.map(|metric| (metric.name.to_owned(), metric)).collect();
        }
        for (name, metric) in metrics {
            rows.push(row(seen, negative, planned, &name, means(&name, metric)));
        }
    }
    rows
}

/// Answers of a metric in a step, and the boots that gave them.
#[derive(Default)]
struct Answers {
    sum: Share,
    boots: BTreeSet<String>,
    wrong_in: BTreeSet<String>,
    causes: BTreeMap<String, u64>,
}

fn answers(seen: &Observation, planned: &Planned, metric: &str) -> Answers {
    let mut all = Answers::default();
    let notes = probe::find(&planned.step.probe).map(|probe| probe.notes).unwrap_or_default();
    for boot in &seen.boots {
        for visit in boot.visits.iter().filter(|v| v.step == planned.step.id) {
            // A wrong answer is one whether or not lockdep was on, and whether or not the
            // guest lived to the end of the visit.
            for block in &visit.blocks {
                let Some(share) = block.shares.get(metric).filter(|share| share.of > 0) else {
                    continue;
                };
                all.sum.add(*share);
                all.boots.insert(boot.name.clone());
                if share.right < share.of {
                    all.wrong_in.insert(boot.name.clone());
                }
                for note in notes.iter().filter(|note| note.explains == Some(metric)) {
                    if let Some(count) = block.notes.get(note.name).filter(|count| **count > 0) {
                        *all.causes.entry(note.means.to_owned()).or_insert(0) += count;
                    }
                }
            }
        }
    }
    all
}

fn row(
    seen: &Observation,
    negative: Option<&Observation>,
    planned: &Planned,
    metric: &str,
    means: String,
) -> WrongRow {
    let ours = answers(seen, planned, metric);
    let wrong = ours.sum.of - ours.sum.right;
    let zero = negative.map(|negative| {
        let theirs = answers(negative, planned, metric).sum;
        zero_means(Seen { times: theirs.of - theirs.right, of: theirs.of }, ours.sum.of)
    });
    let is_negative = negative.is_some_and(|negative| negative.id() == seen.id());
    let count = |set: &BTreeSet<String>| set.len() as u64;
    let reading = if ours.sum.of == 0 {
        WrongReading::NotReached
    } else if ours.wrong_in.len() > 1 {
        WrongReading::Wrong
    } else if wrong > 0 {
        WrongReading::SeenOnce
    } else if zero.is_some_and(|zero| zero.counts) {
        WrongReading::None
    } else {
        WrongReading::NotShown
    };
    WrongRow {
        place: Place::new(seen.id(), evidence(seen, planned.step.id)),
        metric: metric.to_owned(),
        means,
        label: planned.label.clone(),
        condition: words(planned),
        answers: ours.sum.of,
        wrong,
        seen: KOfN { k: count(&ours.wrong_in), n: count(&ours.boots) },
        expected: zero.filter(|_| !is_negative).map(|zero| rounded(zero.expected)),
        causes: ours.causes,
        reading,
    }
}
