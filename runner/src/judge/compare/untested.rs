// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was not tested, so that nobody concludes it from a clean table.

use std::collections::BTreeSet;

use bakeoff_fuzz::wire::{Context, Stress};

use super::flip::{self, Untested};
use super::rate::condition;
use super::row::{CellEnd, NotTested};
use super::words::{count, list};
use super::{Comparison, Subject, end_words};
use crate::judge::stats;
use crate::spec::word;

/// All of them; a test asserts that none is forgotten.
pub(super) const CONTEXTS: [Context; 7] = [
    Context::Process,
    Context::Softirq,
    Context::Hardirq,
    Context::RqLock,
    Context::PageFault,
    Context::PageFaultLocked,
    Context::Nmi,
];
/// All of them; a test asserts that none is forgotten.
pub(super) const STRESSES: [Stress; 5] =
    [Stress::Idle, Stress::MmapWriters, Stress::Oversubscribed, Stress::Flip, Stress::PageOut];
/// What is said of the largest claim a maintainer makes.
const CLAIM: f64 = 0.99999;

pub(super) fn list_all(subject: &Subject, found: &Comparison) -> Vec<NotTested> {
    let mut all = Vec::new();
    for candidate in &subject.candidates {
        let Some(untested) = &candidate.untested else { continue };
        let row = NotTested {
            candidate: Some(candidate.name.clone()),
            ..match &candidate.tested_by {
                Some(probe) => general(untested, &format!("the probe {probe} shows nothing of it")),
                None => general(untested, "no step of this bake-off tests it"),
            }
        };
        match flip::untested_on(candidate, &found.findings, &found.verdicts) {
            Untested::Everywhere => all.push(row),
            Untested::On(places) => all.extend(places.into_iter().map(|at| NotTested {
                base: Some(at.base.clone()),
                arch: Some(at.arch.clone()),
                ..row.clone()
            })),
        }
    }
    for cell in &found.cells {
        let reason = cell.note.clone().unwrap_or_default();
        if cell.end != CellEnd::Ran {
            all.push(NotTested {
                base: Some(cell.place.base.clone()),
                candidate: Some(cell.place.candidate.clone()),
                arch: Some(cell.place.arch.clone()),
                profile: Some(cell.place.profile.clone()),
                ..general(
                    match cell.end {
                        CellEnd::Panicked | CellEnd::Hung => "what comes after it died",
                        CellEnd::Ran
                        | CellEnd::DidNotApply
                        | CellEnd::DidNotBuild
                        | CellEnd::DidNotBoot
                        | CellEnd::NotPortable
                        | CellEnd::Error => "everything",
                    },
                    &format!("{}: {reason}", end_words(cell.end)),
                )
            });
        }
    }
    let mut told = BTreeSet::new();
    for row in found.rates.iter().filter(|row| row.calls == 0) {
        let ran =
            found.cells.iter().any(|c| c.end == CellEnd::Ran && same_cell(&c.place, &row.place));
        let key = (row.place.base.clone(), row.place.candidate.clone(), row.place.arch.clone());
        if ran && told.insert((key, row.place.profile.clone(), row.step)) {
            all.push(NotTested {
                base: Some(row.place.base.clone()),
                candidate: Some(row.place.candidate.clone()),
                arch: Some(row.place.arch.clone()),
                profile: Some(row.place.profile.clone()),
                ..general(&condition(row), &row.reason)
            });
        }
    }
    let contexts: Vec<String> = CONTEXTS
        .iter()
        .filter(|context| !subject.steps.iter().any(|step| step.step.context == **context))
        .map(word)
        .collect();
    if !contexts.is_empty() {
        all.push(general(&format!("contexts {}", list(&contexts)), "no step asks for them"));
    }
    let stresses: Vec<String> = STRESSES
        .iter()
        .filter(|stress| !subject.steps.iter().any(|step| step.step.stress == **stress))
        .map(word)
        .collect();
    if !stresses.is_empty() {
        all.push(general(&format!("conditions {}", list(&stresses)), "no step asks for them"));
    }
    all.extend(claim(found));
    if !found.rates.is_empty() && !found.cells.iter().any(|c| c.place.profile == "production") {
        all.push(general(
            "rates and cost on a kernel without debug options",
            "no cell has the profile `production`",
        ));
    }
    all
}

/// The claim of the dispute, where no row has the calls to show it.
fn claim(found: &Comparison) -> Option<NotTested> {
    let most = found.rates.iter().map(|row| row.calls).max()?;
    let needed = stats::calls_for_claim(CLAIM, 0, stats::CONFIDENCE)?;
    let reason = format!(
        "it takes {} calls without a failure; the largest row here has {}",
        count(needed),
        count(most)
    );
    (most < needed).then(|| general("availability of 99.999% or more", &reason))
}

fn same_cell(a: &super::Place, b: &super::Place) -> bool {
    super::verdict::same_target(a, b) && a.profile == b.profile
}

fn general(what: &str, reason: &str) -> NotTested {
    NotTested {
        what: what.to_owned(),
        reason: reason.trim_end_matches(": ").to_owned(),
        base: None,
        candidate: None,
        arch: None,
        profile: None,
    }
}
