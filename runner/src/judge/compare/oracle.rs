// SPDX-License-Identifier: MIT OR Apache-2.0
//! Oracles look at a cell beside its reference and its control and say what they
//! find. Each is a row of [`ORACLES`]; none knows of another.

use bakeoff_fuzz::stop;
use bakeoff_fuzz::wire::{Block, StepOutcome, Stop, Stress};

use super::cell::{self, exercise};
use super::rate::{claim_words, condition, effect, means, shown};
use super::row::{CellEnd, CellRow, Change, Effect, Finding, Place, RateRow, SplatRow};
use super::words::{Round, count, counted, list, percent, points, ratio};
use super::{Comparison, Subject, end_words, flip, label, splat};
use crate::see::observation::Observation;
use crate::spec::Role;

/// A cell, and what it is judged by.
#[derive(Debug)]
pub struct Pair<'a> {
    pub(super) subject: &'a Subject,
    pub(super) ours: &'a Observation,
    reference: Option<&'a Observation>,
    /// The kernel with the planted fault, of the same base, architecture and profile.
    pub(super) sensitivity: Option<&'a Observation>,
    cell: Option<&'a CellRow>,
    reference_cell: Option<&'a CellRow>,
    control_cell: Option<&'a CellRow>,
    splats: Vec<&'a SplatRow>,
    control_splats: Vec<&'a SplatRow>,
    rates: Vec<&'a RateRow>,
    reference_rates: Vec<&'a RateRow>,
    /// The control shows its bug on this base and architecture, in some profile.
    reproduced: bool,
    /// The profile in which questions about all profiles are answered.
    first_profile: bool,
}

impl<'a> Pair<'a> {
    pub(super) fn new(
        subject: &'a Subject,
        ours: &'a Observation,
        reference: Option<&'a Observation>,
        control: Option<&'a Observation>,
        all: &'a [Observation],
        counted: &'a Comparison,
    ) -> Pair<'a> {
        let at = |place: &Place, seen: &Observation| {
            let id = seen.id();
            place.base == id.base
                && place.candidate == id.candidate
                && place.arch == id.arch
                && place.profile == id.profile
        };
        let cell = |seen: &Observation| counted.cells.iter().find(|c| at(&c.place, seen));
        let rates = |seen: &Observation| {
            counted.rates.iter().filter(|r| at(&r.place, seen)).collect::<Vec<_>>()
        };
        let splats = |seen: &Observation| {
            counted.splats.iter().filter(|s| at(&s.place, seen)).collect::<Vec<_>>()
        };
        let here = |place: &Place| place.base == ours.id().base && place.arch == ours.id().arch;
        let controls: Vec<&str> = all
            .iter()
            .filter(|o| o.cell.role == Role::Control)
            .map(|o| o.id().candidate.as_str())
            .collect();
        let reproduced = counted.splats.iter().any(|s| {
            s.change == Change::Control
                && here(&s.place)
                && controls.contains(&s.place.candidate.as_str())
        });
        let first = all.iter().find(|o| {
            let (a, b) = (o.id(), ours.id());
            a.base == b.base && a.arch == b.arch && a.candidate == b.candidate
        });
        Pair {
            subject,
            ours,
            reference,
            sensitivity: None,
            cell: cell(ours),
            reference_cell: reference.and_then(cell),
            control_cell: control.and_then(cell),
            splats: splats(ours),
            control_splats: control.map(splats).unwrap_or_default(),
            rates: rates(ours),
            reference_rates: reference.map(rates).unwrap_or_default(),
            reproduced,
            first_profile: first.is_some_and(|o| o.id() == ours.id()),
        }
    }

    /// With the kernel that shows whether a probe would find a fault.
    pub(super) fn beside(mut self, sensitivity: Option<&'a Observation>) -> Pair<'a> {
        self.sensitivity = sensitivity;
        self
    }

    pub(super) fn role(&self) -> Role {
        self.ours.cell.role
    }

    fn end(&self) -> CellEnd {
        self.cell.map_or(CellEnd::Error, |cell| cell.end)
    }

    /// It came as far as running something.
    pub(super) fn booted(&self) -> bool {
        self.ours.boots.iter().any(|boot| boot.hello.is_some())
    }
}

/// What an oracle says, before it is put in its place.
#[derive(Debug)]
pub struct Said {
    pub(super) effect: Effect,
    pub(super) text: String,
    pub(super) evidence: Option<Vec<String>>,
}

pub(super) fn said(effect: Effect, text: String) -> Said {
    Said { effect, text, evidence: None }
}

/// A pure function from a cell and its peers to what it finds.
#[derive(Debug)]
pub struct Oracle {
    /// Its name in `findings[]`.
    pub name: &'static str,
    /// The question it answers.
    pub asks: &'static str,
    /// Asked of a kernel with a planted fault too, which competes for nothing.
    of_sensitivity: bool,
    judge: fn(&Pair<'_>) -> Vec<Said>,
}

/// Every oracle there is, in the order their findings are reported.
pub const ORACLES: &[Oracle] = &[
    Oracle {
        name: "end",
        asks: "Does it apply, build, boot and run to the end?",
        of_sensitivity: true,
        judge: end,
    },
    Oracle {
        name: "splat-added",
        asks: "Does it raise a splat that the reference does not have?",
        of_sensitivity: false,
        judge: splat_added,
    },
    Oracle {
        name: "reproduced",
        asks: "Does the control show the problem at all?",
        of_sensitivity: false,
        judge: reproduced,
    },
    Oracle {
        name: "splat-removed",
        asks: "Is the control's splat gone, and did what provokes it really run?",
        of_sensitivity: false,
        judge: splat_removed,
    },
    Oracle {
        name: "availability",
        asks: "Is each rate higher, lower or the same as the reference's?",
        of_sensitivity: false,
        judge: availability,
    },
    Oracle {
        name: "wrong-answer",
        asks: "Does it give answers that are valid and wrong?",
        of_sensitivity: false,
        judge: wrong_answer,
    },
    Oracle {
        name: flip::NAME,
        asks: "Do ids and offsets belong together while mappings change, and would it be noticed?",
        of_sensitivity: true,
        judge: flip::judge,
    },
    Oracle {
        name: "exercise",
        asks: "Did what was planned run, where it should, with lockdep on?",
        of_sensitivity: true,
        judge: exercised,
    },
    Oracle {
        name: "claim",
        asks: "Does the rate that is claimed hold?",
        of_sensitivity: false,
        judge: claimed,
    },
    Oracle {
        name: "noise",
        asks: "Do the reference's own rounds differ?",
        of_sensitivity: false,
        judge: noise,
    },
];

/// Asks one oracle.
pub(super) fn ask(oracle: &Oracle, pair: &Pair<'_>) -> Vec<Finding> {
    if pair.role() == Role::Sensitivity && !oracle.of_sensitivity {
        return Vec::new();
    }
    (oracle.judge)(pair)
        .into_iter()
        .map(|Said { effect, text, evidence }| Finding {
            place: Place::new(
                pair.ours.id(),
                pair.ours.boots.len(),
                evidence.unwrap_or_else(|| cell::evidence(pair.ours)),
            ),
            oracle: oracle.name.to_owned(),
            effect,
            text,
        })
        .collect()
}

fn end(pair: &Pair<'_>) -> Vec<Said> {
    let Some(cell) = pair.cell else { return Vec::new() };
    let what = match &cell.note {
        Some(note) => format!("{}: {note}", end_words(cell.end)),
        None => end_words(cell.end).to_owned(),
    };
    let reference = pair.subject.reference();
    let theirs = pair.reference_cell.map_or(CellEnd::Error, |c| c.end);
    let lost = theirs != CellEnd::Ran;
    match cell.end {
        CellEnd::Ran if pair.role() == Role::Reference => {
            let mut all =
                vec![said(Effect::Same, "the reference: applies, builds, boots, runs".into())];
            all.extend(cell.note.clone().map(|note| said(Effect::Note, note)));
            all
        }
        _ if pair.role() == Role::Reference => {
            vec![said(Effect::Inconclusive, format!("the reference {what}"))]
        }
        CellEnd::Ran if lost => {
            let text =
                format!("runs, but {reference} {}: nothing to compare with", end_words(theirs));
            vec![said(Effect::Inconclusive, text)]
        }
        CellEnd::Ran => {
            let mut all = vec![said(Effect::Same, "applies, builds, boots and runs".into())];
            all.extend(cell.note.clone().map(|note| said(Effect::Note, note)));
            all
        }
        CellEnd::NotPortable | CellEnd::Error => vec![said(Effect::Inconclusive, what)],
        // Whatever the reference does, a stock tree always applies to itself.
        CellEnd::DidNotApply => vec![said(Effect::Worse, what)],
        CellEnd::DidNotBuild | CellEnd::DidNotBoot | CellEnd::Panicked | CellEnd::Hung if lost => {
            let text = format!("{what}; but {reference} {} too", end_words(theirs));
            vec![said(Effect::Inconclusive, text)]
        }
        CellEnd::DidNotBuild | CellEnd::DidNotBoot | CellEnd::Panicked | CellEnd::Hung => {
            let healthy = match cell.end {
                CellEnd::DidNotBuild => "builds",
                CellEnd::DidNotBoot => "boots",
                CellEnd::Ran
                | CellEnd::DidNotApply
                | CellEnd::Panicked
                | CellEnd::Hung
                | CellEnd::NotPortable
                | CellEnd::Error => "runs to the end",
            };
            vec![said(Effect::Worse, format!("{what}; {reference} {healthy}"))]
        }
    }
}

/// `WARNING in find_vma (12 times in 1 of 2 boots)`.
fn times(splat: &SplatRow) -> String {
    let times = counted(splat.count, "time");
    format!(
        "{} ({times} in {} of {})",
        splat.title,
        splat.boots_seen,
        counted(splat.place.boots.into(), "boot")
    )
}

fn splat_added(pair: &Pair<'_>) -> Vec<Said> {
    let mut all = Vec::new();
    for splat in &pair.splats {
        let (effect, text) = match (splat.change, pair.role()) {
            // The reference's own are for the oracle `noise`.
            (_, Role::Reference) => continue,
            (Change::Added, _) => {
                (Effect::Worse, format!("adds {}; {}", times(splat), splat.reason))
            }
            (Change::Changed, _) => {
                let before = splat.beside.as_ref();
                let what =
                    before.map_or_else(String::new, |b| format!("{}'s {}", b.candidate, b.title));
                (Effect::Worse, format!("turns {what} into {}; {}", times(splat), splat.reason))
            }
            (Change::Control, Role::Control) => {
                (Effect::Worse, format!("has the splat of the dispute: {}", times(splat)))
            }
            (Change::Control, Role::Contender | Role::Sensitivity) => {
                (Effect::Worse, format!("still has the control's splat: {}", times(splat)))
            }
            (Change::Unclear, _) if splat.count > 0 => {
                let effect = match pair.role() {
                    Role::Control => Effect::Note,
                    Role::Reference | Role::Contender | Role::Sensitivity => Effect::Inconclusive,
                };
                (effect, format!("{}: {}", times(splat), splat.reason))
            }
            (Change::Flaky, _) if splat.count == 0 => continue,
            (Change::Secondary | Change::Flaky | Change::Same | Change::Known, _) => {
                (Effect::Note, format!("{}: {}", times(splat), splat.reason))
            }
            (Change::Removed | Change::Unclear, _) => continue,
        };
        all.push(Said { effect, text, evidence: Some(splat.place.evidence.clone()) });
    }
    all
}

/// Said once for all profiles: where there is no lockdep the bug cannot show.
fn reproduced(pair: &Pair<'_>) -> Vec<Said> {
    let Some(control) = pair.control_cell else { return Vec::new() };
    if pair.reproduced || !pair.first_profile {
        return Vec::new();
    }
    match pair.role() {
        Role::Reference | Role::Sensitivity => Vec::new(),
        Role::Control => {
            let why = match pair.end() {
                CellEnd::Ran => "did not splat",
                end => end_words(end),
            };
            let text = format!("the control {why}: the problem was not reproduced");
            vec![said(Effect::Inconclusive, text)]
        }
        // How it ended says more.
        Role::Contender if !pair.booted() => Vec::new(),
        Role::Contender => {
            let name = &control.place.candidate;
            let text = format!("{name} did not splat: nothing was seen that could be removed");
            vec![said(Effect::Inconclusive, text)]
        }
    }
}

fn splat_removed(pair: &Pair<'_>) -> Vec<Said> {
    if pair.role() != Role::Contender {
        return Vec::new();
    }
    let Some(control) = pair.control_cell else { return Vec::new() };
    let mut all = Vec::new();
    for splat in pair.splats.iter().filter(|s| s.count == 0) {
        let before = pair.control_splats.iter().find(|s| s.fingerprint == splat.fingerprint);
        let before = before.map_or_else(String::new, |s| {
            format!(" ({} in {})", count(s.count), control.place.candidate)
        });
        let (effect, text) = match splat.change {
            Change::Removed => (
                Effect::Same,
                format!("the control's {}{before} is gone: {}", splat.title, splat.reason),
            ),
            // How it ended has been said; this follows from it.
            _ if !pair.booted() => continue,
            Change::Flaky => {
                (Effect::Note, format!("the control's {}{before}: {}", splat.title, splat.reason))
            }
            Change::Unclear
            | Change::Control
            | Change::Added
            | Change::Same
            | Change::Changed
            | Change::Known
            | Change::Secondary => (
                Effect::Inconclusive,
                format!("the control's {}{before}: {}", splat.title, splat.reason),
            ),
        };
        all.push(Said { effect, text, evidence: Some(splat.place.evidence.clone()) });
    }
    all
}

fn availability(pair: &Pair<'_>) -> Vec<Said> {
    if pair.role() == Role::Reference {
        return Vec::new();
    }
    let mut all = Vec::new();
    for row in &pair.rates {
        let theirs =
            pair.reference_rates.iter().find(|r| r.step == row.step && r.metric == row.metric);
        let nobody = row.calls == 0 && theirs.is_some_and(|theirs| theirs.calls == 0);
        let effect = match effect(row) {
            // How it ended says it already.
            Effect::Inconclusive if !pair.booted() => continue,
            Effect::Inconclusive if row.calls == 0 && pair.end() != CellEnd::Ran => continue,
            // What the reference cannot reach either says nothing about a patch.
            Effect::Inconclusive if nobody => Effect::Note,
            effect => effect,
        };
        let number = if row.calls == 0 { String::new() } else { format!("{}, ", shown(row)) };
        let text = format!("{}, {}: {number}{}", condition(row), means(&row.metric), row.reason);
        all.push(Said { effect, text, evidence: Some(row.place.evidence.clone()) });
    }
    all
}

/// A claim speaks of a rate, not of the difference to the reference's, so it does
/// not make a candidate better or worse.
fn claimed(pair: &Pair<'_>) -> Vec<Said> {
    let mut all = Vec::new();
    for row in &pair.rates {
        if let Some(claim) = &row.claim {
            let text =
                format!("{}, {}: {}", condition(row), means(&row.metric), claim_words(claim));
            let evidence = Some(row.place.evidence.clone());
            all.push(Said { effect: Effect::Note, text, evidence });
        }
    }
    all
}

fn wrong_answer(pair: &Pair<'_>) -> Vec<Said> {
    let mut all = Vec::new();
    // While files change the oracle `flip` knows more.
    let wrong = |row: &&&RateRow| row.valid > row.correct && row.stress != Stress::Flip;
    for row in pair.rates.iter().filter(wrong) {
        let wrong = row.valid - row.correct;
        let text = format!(
            "{}, {}: {} of {} valid answers are wrong ({}%)",
            condition(row),
            row.metric,
            count(wrong),
            count(row.valid),
            percent(ratio(wrong, row.valid), Round::Up),
        );
        let theirs = pair
            .reference_rates
            .iter()
            .find(|r| r.step == row.step && r.metric == row.metric)
            .is_some_and(|r| r.calls > 0 && r.valid == r.correct);
        // A wrong id is worse than none: nobody who reads it can tell.
        let effect = match pair.role() {
            Role::Control | Role::Contender if theirs => Effect::Worse,
            Role::Reference | Role::Control | Role::Contender | Role::Sensitivity => Effect::Note,
        };
        all.push(Said { effect, text, evidence: Some(row.place.evidence.clone()) });
    }
    all
}

fn exercised(pair: &Pair<'_>) -> Vec<Said> {
    let mut all = Vec::new();
    if let Some((blocks, by)) = splat::lockdep_lost(pair.ours) {
        let by = by.map_or_else(String::new, |title| format!(" after {title}"));
        let text = format!(
            "lockdep was off{by}: {} not counted, what ran then proves nothing",
            counted(blocks, "block")
        );
        all.push(said(Effect::Note, text));
    }
    for row in &pair.rates {
        // The rows of one step count the same calls.
        if pair.rates.iter().find(|r| r.step == row.step).map(|r| &r.metric) != Some(&row.metric) {
            continue;
        }
        let astray: u64 = row.wrong_context.values().sum();
        if astray > 0 {
            let contexts: Vec<&String> = row.wrong_context.keys().collect();
            let text = format!(
                "{}: {} came from {} and are not counted",
                condition(row),
                counted(astray, "call"),
                list(&contexts)
            );
            all.push(said(Effect::Note, text));
        }
        if row.errors > 0 && row.errors.saturating_mul(100) > row.calls {
            let text = format!(
                "{}: {} could not be scored beside {}: our error",
                condition(row),
                counted(row.errors, "sample"),
                counted(row.calls, "call")
            );
            all.push(said(Effect::Inconclusive, text));
        }
    }
    if pair.booted() && pair.role() != Role::Reference {
        let steps = pair.subject.steps_of(pair.role(), pair.ours.id());
        let undone = steps.iter().filter(|step| {
            let ours = exercise(pair.ours, step.id);
            let theirs = pair.reference.map(|r| exercise(r, step.id)).unwrap_or_default();
            theirs.done && !ours.done
        });
        let undone: Vec<String> = undone.map(label).collect();
        if !undone.is_empty() && pair.end() == CellEnd::Ran {
            let text = format!("not brought to its end here: {}", list(&undone));
            let effect = match pair.role() {
                // The control is there to splat, and floods for it.
                Role::Control => Effect::Note,
                Role::Reference | Role::Contender | Role::Sensitivity => Effect::Inconclusive,
            };
            all.push(said(effect, text));
        }
    }
    all.extend(stopped_early(pair));
    for error in &pair.ours.errors {
        all.push(said(Effect::Inconclusive, format!("our error: {error}")));
    }
    all
}

/// Steps that ended before their rule let them: the interval would promise too much.
fn stopped_early(pair: &Pair<'_>) -> Vec<Said> {
    let mut all = Vec::new();
    for step in &pair.subject.steps_of(pair.role(), pair.ours.id()) {
        for boot in &pair.ours.boots {
            let done = boot.steps.get(&step.id) == Some(&StepOutcome::Done);
            let taken: Vec<Block> =
                boot.blocks.iter().filter(|block| block.step == step.id).cloned().collect();
            if step.stop == Stop::Fixed || !done || stop::is_enough(step, &taken) {
                continue;
            }
            let text = format!(
                "{}: boot {} ended it after {} of {} blocks, which its rule does not allow: our \
                 error",
                label(step),
                boot.name,
                taken.len(),
                step.blocks
            );
            all.push(said(Effect::Inconclusive, text));
        }
    }
    all
}

fn noise(pair: &Pair<'_>) -> Vec<Said> {
    if pair.role() != Role::Reference {
        return Vec::new();
    }
    let mut all = Vec::new();
    let rounds: std::collections::BTreeSet<u32> =
        pair.ours.boots.iter().map(|boot| boot.round).collect();
    let planned = pair.ours.cell.rounds;
    if !rounds.is_empty() && u64::from(planned) > rounds.len() as u64 {
        let text = format!(
            "{} of {planned} rounds were run: how much it differs from itself is not known",
            rounds.len()
        );
        all.push(said(Effect::Note, text));
    }
    for splat in &pair.splats {
        let text = format!("{}: {}", times(splat), splat.reason);
        all.push(Said { effect: Effect::Note, text, evidence: Some(splat.place.evidence.clone()) });
    }
    for row in &pair.rates {
        if let Some(noise) = row.noise {
            let by = points(noise);
            let text = format!("its own rounds differ by up to {by} in {}", condition(row));
            // The same calls answer both metrics.
            if all.iter().any(|known: &Said| known.text == text) {
                continue;
            }
            let evidence = Some(row.place.evidence.clone());
            all.push(Said { effect: Effect::Note, text, evidence });
        }
    }
    all
}
