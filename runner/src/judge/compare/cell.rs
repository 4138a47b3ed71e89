// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a cell ended, and which work in it proves something.

use std::collections::BTreeSet;

use bakeoff_fuzz::wire::StepOutcome;

use super::measure;
use super::words::{count, counted, list};
use crate::judge::row::{CellEnd, CellRow, CellSeconds, Place};
use crate::keep::store::{BootEnd, KernelOutcome};
use crate::see::observation::{BootObservation, Observation};
use crate::spec::plan::{Plan, Planned};

/// All evidence of a cell: its build, then its boots.
pub(super) fn evidence(seen: &Observation) -> Vec<String> {
    let boots = seen.boots.iter().flat_map(|boot| boot.evidence.iter().cloned());
    seen.evidence.iter().cloned().chain(boots).collect()
}

/// The console shows it; it comes first.
pub(super) fn console_first(boot: &BootObservation) -> Vec<String> {
    let mut files = boot.evidence.clone();
    files.sort_by_key(|file| !file.ends_with("console.log"));
    files
}

/// What the boots of a cell did about one step.
#[derive(Debug, Default)]
pub(super) struct Exercise {
    /// Some visit of it came to its end.
    pub(super) done: bool,
    /// Calls in blocks that prove something.
    pub(super) calls: u64,
    /// Why the guest cannot do it.
    pub(super) unreachable: Option<String>,
    /// What failed on our side.
    pub(super) failed: Option<String>,
    /// Visits that were begun.
    pub(super) begun: u64,
    /// Visits in which the guest ended, but not by a flood of reports.
    pub(super) deaths: u64,
}

pub(super) fn exercise(seen: &Observation, step: u32) -> Exercise {
    let mut found = Exercise::default();
    for boot in &seen.boots {
        for visit in boot.visits.iter().filter(|visit| visit.step == step) {
            found.begun += 1;
            match &visit.outcome {
                Some(StepOutcome::Done) => found.done = true,
                Some(StepOutcome::Unreachable { reason }) => {
                    found.unreachable = Some(reason.clone());
                }
                Some(StepOutcome::Failed { reason }) => found.failed = Some(reason.clone()),
                None => found.deaths += u64::from(!matches!(boot.end, BootEnd::Flood { .. })),
            }
            found.calls += visit.proven().map(calls_of).sum::<u64>();
        }
    }
    found
}

/// What a block did: its calls; one whose calls are all excluded did something too.
pub(super) fn calls_of(block: &bakeoff_fuzz::wire::Block) -> u64 {
    block.calls
}

/// The cell's row.
pub(super) fn row(seen: &Observation, plan: &Plan) -> CellRow {
    let (end, note) = end(seen, plan);
    let (mut seconds, mut objects) = (CellSeconds::default(), None);
    if let Some(kernel) = &seen.kernel {
        match &kernel.outcome {
            KernelOutcome::Built { from_cache, objects: compiled, .. } => {
                objects = *compiled;
                seconds.cached = kernel.seconds.cached;
                if !from_cache {
                    seconds.copy = Some(kernel.seconds.copy);
                    seconds.make = Some(kernel.seconds.make);
                }
            }
            KernelOutcome::DidNotBuild { .. } | KernelOutcome::DidNotApply { .. } => {
                seconds.copy = Some(kernel.seconds.copy);
                seconds.make = Some(kernel.seconds.make);
            }
            KernelOutcome::NotPortable { .. } => {}
        }
    }
    let mut hellos: Vec<f64> = seen.boots.iter().filter_map(|b| b.hello_seconds).collect();
    hellos.sort_by(f64::total_cmp);
    seconds.hello = hellos.get(hellos.len() / 2).copied();
    // Folded from zero: the sum of nothing is -0.0. Milliseconds are enough.
    let all = seen.boots.iter().fold(0.0, |sum, boot| sum + boot.seconds);
    seconds.boots = (all * 1e3).round() / 1e3;
    let place = Place::new(seen.id(), evidence(seen));
    let boots = u32::try_from(seen.boots.len()).unwrap_or(u32::MAX);
    CellRow { place, role: seen.cell.role, end, note, boots, seconds, objects }
}

fn end(seen: &Observation, plan: &Plan) -> (CellEnd, Option<String>) {
    if let Some(reason) = &seen.cell.not_portable {
        return (CellEnd::NotPortable, Some(reason.clone()));
    }
    match seen.kernel.as_ref().map(|kernel| &kernel.outcome) {
        None => {
            return match seen.errors.first() {
                Some(error) => (CellEnd::Error, Some(error.clone())),
                None => (CellEnd::Waiting, None),
            };
        }
        Some(KernelOutcome::NotPortable { reason }) => {
            return (CellEnd::NotPortable, Some(reason.clone()));
        }
        Some(KernelOutcome::DidNotApply { patch, reason }) => {
            return (CellEnd::DidNotApply, Some(format!("{patch}: {reason}")));
        }
        Some(KernelOutcome::DidNotBuild { reason }) => {
            return (CellEnd::DidNotBuild, Some(reason.clone()));
        }
        Some(KernelOutcome::Built { .. }) => {}
    }
    if seen.boots.is_empty() {
        return match seen.errors.first() {
            Some(error) => (CellEnd::Error, Some(error.clone())),
            None => (CellEnd::Waiting, Some("built, not booted yet".into())),
        };
    }
    let ends: Vec<(CellEnd, Option<String>)> = seen.boots.iter().map(boot_end).collect();
    // The worst of its boots is how it ended: one panic among good boots is a panic.
    let worst = [CellEnd::Panicked, CellEnd::Hung, CellEnd::DidNotBoot, CellEnd::Error];
    let end = worst.into_iter().find(|w| ends.iter().any(|(e, _)| e == w)).unwrap_or(CellEnd::Ran);
    let mut notes: Vec<String> = Vec::new();
    if end != CellEnd::Ran && ends.len() > 1 {
        let times = ends.iter().filter(|(e, _)| *e == end).count();
        notes.push(format!("{times} of {} boots", ends.len()));
    }
    let mut told = BTreeSet::new();
    for (_, note) in ends.iter().filter(|(e, _)| *e == end) {
        notes.extend(note.iter().filter(|note| told.insert((*note).clone())).cloned());
    }
    let missing: Vec<String> =
        plan.steps_of(seen.id()).filter_map(|planned| not_done(seen, planned)).collect();
    // A boot out of time is ours, unless all that was asked got done in another.
    if end == CellEnd::Error && missing.is_empty() {
        return (CellEnd::Ran, join(notes));
    }
    if !missing.is_empty() {
        notes.push(format!("not done: {}", list(&missing)));
    }
    notes.extend(seen.errors.first().cloned());
    (end, join(notes))
}

fn join(notes: Vec<String>) -> Option<String> {
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// The step's name, if no boot brought it to an answer.
fn not_done(seen: &Observation, planned: &Planned) -> Option<String> {
    // Left to a longer budget, and said once for all of them.
    if measure::is_left(seen, planned) {
        return None;
    }
    let did = exercise(seen, planned.step.id);
    let name = planned.label.clone();
    match did {
        Exercise { done: true, .. } | Exercise { unreachable: Some(_), .. } => None,
        Exercise { failed: Some(why), .. } => Some(format!("{name} ({why})")),
        Exercise { deaths: 0, .. } => Some(name),
        Exercise { deaths, begun, .. } => {
            let hung = seen.boots.iter().any(|boot| {
                matches!(boot.end, BootEnd::Hung { .. }) && boot.died_in() == Some(planned.step.id)
            });
            let how = if hung { "hangs" } else { "dies" };
            Some(format!("{name}: {how} here ({deaths} of {begun})"))
        }
    }
}

fn boot_end(boot: &BootObservation) -> (CellEnd, Option<String>) {
    match &boot.end {
        BootEnd::Ran => (CellEnd::Ran, None),
        BootEnd::Panicked { line } => (CellEnd::Panicked, Some(line.clone())),
        BootEnd::Hung { silent_seconds, step, report } => {
            let at = match step.or_else(|| boot.died_in()) {
                Some(step) => format!(" in step {step}"),
                None => String::new(),
            };
            let why = match report {
                Some(report) => format!(", after {}", report.title),
                None => String::new(),
            };
            let text = format!("silent for {}{at}{why}", counted(*silent_seconds, "second"));
            (CellEnd::Hung, Some(text))
        }
        BootEnd::DidNotBoot { reason } => (CellEnd::DidNotBoot, Some(reason.clone())),
        // A triple fault and a panic that never reached the console look like this.
        BootEnd::EarlyExit { reason } => {
            let text = format!("the guest went away without a panic on the console: {reason}");
            (CellEnd::Panicked, Some(text))
        }
        BootEnd::Flood { title, count: times } => {
            let text = format!("ended early by a flood: {title}, {} times", count(*times));
            (CellEnd::Ran, Some(text))
        }
        BootEnd::Lost { reason, .. } => {
            (CellEnd::Ran, Some(format!("a boot was lost, another went on: {reason}")))
        }
        BootEnd::OutOfTime { limit_seconds } => {
            let limit = counted(*limit_seconds, "second");
            (CellEnd::Error, Some(format!("still at work when its {limit} were over")))
        }
    }
}
