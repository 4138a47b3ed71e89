// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a cell ended, and which work in it proves something.

use std::collections::BTreeSet;

use bakeoff_fuzz::wire::{Block, Step, StepOutcome};

use super::label;
use super::row::{CellEnd, CellRow, CellSeconds, Place};
use super::words::{count, counted, list};
use crate::keep::store::{BootEnd, KernelOutcome};
use crate::see::observation::{BootObservation, Observation};

/// A block that ran with lockdep on throughout, or on a kernel without it.
pub(super) fn proves(block: &Block) -> bool {
    block.debug_locks_before != Some(false) && block.debug_locks_after != Some(false)
}

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
    /// Some boot brought it to its end.
    pub(super) done: bool,
    /// Eligible calls in blocks that prove something.
    pub(super) calls: u64,
    /// Why the guest cannot do it.
    pub(super) unreachable: Option<String>,
    /// What failed on our side.
    pub(super) failed: Option<String>,
    /// It was asked for.
    pub(super) asked: bool,
}

pub(super) fn exercise(seen: &Observation, step: u32) -> Exercise {
    let mut found = Exercise::default();
    for boot in &seen.boots {
        found.asked |= boot.asked.contains(&step);
        match boot.steps.get(&step) {
            Some(StepOutcome::Done) => found.done = true,
            Some(StepOutcome::Unreachable { reason }) => found.unreachable = Some(reason.clone()),
            Some(StepOutcome::Failed { reason }) => found.failed = Some(reason.clone()),
            None => {}
        }
        let blocks = boot.blocks.iter().filter(|b| b.step == step && proves(b));
        found.calls += blocks.map(|b| b.counts.calls).sum::<u64>();
    }
    found
}

/// The cell's row.
pub(super) fn row(seen: &Observation, steps: &[Step]) -> CellRow {
    let (end, note) = end(seen, steps);
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
    let place = Place::new(seen.id(), seen.boots.len(), evidence(seen));
    CellRow { place, role: seen.cell.role, end, note, seconds, objects }
}

fn end(seen: &Observation, steps: &[Step]) -> (CellEnd, Option<String>) {
    if let Some(reason) = &seen.cell.not_portable {
        return (CellEnd::NotPortable, Some(reason.clone()));
    }
    match seen.kernel.as_ref().map(|kernel| &kernel.outcome) {
        None => {
            let why = match seen.errors.first() {
                Some(error) => error.clone(),
                None => "the run is not complete".into(),
            };
            return (CellEnd::Error, Some(why));
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
        let why = match seen.errors.first() {
            Some(error) => error.clone(),
            None => "built, but no boot of it is complete".into(),
        };
        return (CellEnd::Error, Some(why));
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
    let missing: Vec<String> = steps.iter().filter_map(|step| not_done(seen, step)).collect();
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
fn not_done(seen: &Observation, step: &Step) -> Option<String> {
    let did = exercise(seen, step.id);
    match did {
        Exercise { done: true, .. } | Exercise { unreachable: Some(_), .. } => None,
        Exercise { failed: Some(why), .. } => Some(format!("{} ({why})", label(step))),
        Exercise { .. } => Some(label(step)),
    }
}

/// The step that was begun and never ended: what the boot died of.
pub(super) fn died_in(boot: &BootObservation) -> Option<u32> {
    boot.begun.iter().find(|step| !boot.steps.contains_key(step)).copied()
}

fn boot_end(boot: &BootObservation) -> (CellEnd, Option<String>) {
    match &boot.end {
        BootEnd::Ran => (CellEnd::Ran, None),
        BootEnd::Panicked { line } => (CellEnd::Panicked, Some(line.clone())),
        BootEnd::Hung { silent_seconds } => {
            let last = match died_in(boot) {
                Some(step) => format!(" in step {step}"),
                None => String::new(),
            };
            let text = format!("silent for {}{last}", counted(*silent_seconds, "second"));
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
