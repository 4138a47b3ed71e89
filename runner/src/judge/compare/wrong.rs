// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers that must never be wrong, and what it is worth that none was.
//!
//! They are confirmed like reports ([`super::confirm`]). No wrong answer counts for
//! something only where the negative control, a kernel that answers without checking,
//! would have been expected to show at least three in as many answers.

use std::collections::{BTreeMap, BTreeSet};

use bakeoff_fuzz::probe::{self, MetricRole};
use bakeoff_fuzz::wire::Share;

use super::Peers;
use super::confirm::{Asked, ToConfirm, ask, k_of_n};
use super::measure::{evidence, means, names, rounded, words};
use crate::judge::claims::{Confirmed, Seen, zero_means};
use crate::judge::row::{Place, WrongReading, WrongRow};
use crate::see::observation::Observation;
use crate::spec::Role;
use crate::spec::plan::{Plan, Planned};

/// Fresh boots without a wrong answer after which one boot with some stays "seen once".
const FRESH_BOOTS: u64 = 4;
/// Boots of one kernel, at most, to confirm wrong answers.
const MOST_BOOTS: u64 = 16;

/// The rows of one cell.
pub(super) fn rows(seen: &Observation, peers: &Peers<'_>, plan: &Plan) -> Vec<WrongRow> {
    plan.steps_of(seen.id())
        .flat_map(|planned| {
            let metrics = never_wrong(seen, planned);
            metrics.into_iter().map(move |(name, means)| row(seen, peers, planned, &name, means))
        })
        .collect()
}

/// The metrics of a step that must never be wrong: names, and what they mean.
fn never_wrong(seen: &Observation, planned: &Planned) -> Vec<(String, String)> {
    let Some(probe) = probe::find(&planned.step.probe) else { return Vec::new() };
    let declared = || probe.metrics.iter().filter(|m| m.role == MetricRole::NeverWrong);
    if declared().next().is_none() {
        return Vec::new();
    }
    let mut metrics = names(seen, planned);
    metrics.retain(|(_, metric)| metric.role == MetricRole::NeverWrong);
    if metrics.is_empty() && !seen.boots.is_empty() {
        metrics = declared().map(|metric| (metric.name.to_owned(), metric)).collect();
    }
    let said = |(name, metric): (String, _)| {
        let means = means(&name, metric);
        (name, means)
    };
    metrics.into_iter().map(said).collect()
}

/// Wrong answers that were seen, not confirmed, and may still be.
pub(super) fn to_confirm(seen: &Observation, peers: &Peers<'_>, plan: &Plan) -> Vec<ToConfirm> {
    let Some(reference) = peers.reference else { return Vec::new() };
    if seen.cell.role != Role::Contender {
        return Vec::new();
    }
    let mut all = Vec::new();
    for planned in plan.steps_of(seen.id()) {
        for (name, means) in never_wrong(seen, planned) {
            let row = row(seen, peers, planned, &name, means);
            // Boots of the reference that never got here say nothing, and may not be had.
            let there = answers(reference, planned, &name).boots.len() as u64;
            let gone = row.seen.k <= 1 && row.seen.n > FRESH_BOOTS && there >= FRESH_BOOTS;
            let more_here = row.seen.n < MOST_BOOTS;
            let more_there = there + 1 < row.seen.n.max(FRESH_BOOTS + 1);
            if row.reading == WrongReading::SeenOnce && !gone && (more_here || more_there) {
                let title = format!("wrong answers ({}, {})", row.means, row.condition);
                let steps = BTreeSet::from([planned.step.id]);
                all.push(ToConfirm { steps, title, more_here, more_there });
            }
        }
    }
    all
}

/// Answers of a metric in a step, and the boots that gave them.
#[derive(Default)]
struct Answers {
    sum: Share,
    boots: BTreeSet<String>,
    wrong_in: BTreeSet<String>,
    causes: BTreeMap<String, u64>,
}

impl Answers {
    /// Boots with wrong ones, of those that answered.
    fn times(&self) -> Seen {
        Seen { times: self.wrong_in.len() as u64, of: self.boots.len() as u64 }
    }
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
    peers: &Peers<'_>,
    planned: &Planned,
    metric: &str,
    means: String,
) -> WrongRow {
    let ours = answers(seen, planned, metric);
    let wrong = ours.sum.of - ours.sum.right;
    let zero = peers.negative.map(|negative| {
        let theirs = answers(negative, planned, metric).sum;
        zero_means(Seen { times: theirs.of - theirs.right, of: theirs.of }, ours.sum.of)
    });
    let is_negative = peers.negative.is_some_and(|negative| negative.id() == seen.id());
    let reference = peers
        .reference
        .filter(|reference| reference.id() != seen.id())
        .map(|reference| answers(reference, planned, metric).times());
    let read = Read { reading: WrongReading::NotReached, reason: String::new(), p: None };
    let Read { reading, reason, p } = if ours.sum.of == 0 {
        read
    } else if wrong > 0 {
        blame(seen.cell.role, ours.times(), reference)
    } else if zero.is_some_and(|zero| zero.counts) {
        Read { reading: WrongReading::None, ..read }
    } else {
        Read { reading: WrongReading::NotShown, ..read }
    };
    WrongRow {
        place: Place::new(seen.id(), evidence(seen, planned.step.id)),
        metric: metric.to_owned(),
        means,
        label: planned.label.clone(),
        condition: words(planned),
        answers: ours.sum.of,
        wrong,
        seen: k_of_n(ours.times()),
        reference: k_of_n(reference.unwrap_or_default()),
        p: p.map(rounded),
        expected: zero.filter(|_| !is_negative).map(|zero| rounded(zero.expected)),
        causes: ours.causes,
        reading,
        reason,
    }
}

/// What wrong answers are worth.
struct Read {
    reading: WrongReading,
    reason: String,
    p: Option<f64>,
}

/// Whether wrong answers in so many boots speak against the kernel that gave them.
fn blame(role: Role, ours: Seen, reference: Option<Seen>) -> Read {
    let plain = |reading| Read { reading, reason: String::new(), p: None };
    match role {
        // It is there to give them; and of the controls and the reference it is a fact, no
        // accusation.
        Role::NegativeControl | Role::Control | Role::Reference => {
            plain(if ours.times > 1 { WrongReading::Wrong } else { WrongReading::SeenOnce })
        }
        Role::Contender => {
            let Some(theirs) = reference else { return plain(WrongReading::SeenOnce) };
            let fresh = Seen { times: ours.times - 1, of: ours.of - 1 };
            let Asked { confirmed, said: reason, p } = ask(fresh, theirs, "");
            let reading = match confirmed {
                Confirmed::Added => WrongReading::Wrong,
                Confirmed::Both => WrongReading::Present,
                Confirmed::SeenOnce | Confirmed::Open { .. } => WrongReading::SeenOnce,
            };
            Read { reading, reason, p: Some(p) }
        }
    }
}
