// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a patch did to the splats, told as stories.

use super::testing::*;
use super::*;
use crate::judge::compare::blind::Blind;
use crate::see::observation::Observation;
use crate::see::observe::Note;
use crate::see::observe::diff::Edit;
use crate::spec::KnownSplat;

fn judged(all: &[Observation]) -> Comparison {
    compare(&subject(), all, &Settings::default())
}

fn row<'a>(found: &'a Comparison, candidate: &str, title: &str) -> &'a SplatRow {
    let row = found.splats.iter().find(|s| s.place.candidate == candidate && s.title == title);
    row.unwrap_or_else(|| panic!("no row of {title} in {candidate}: {:#?}", found.splats))
}

fn verdict(found: &Comparison, candidate: &str) -> Verdict {
    found.verdicts.iter().find(|v| v.place.candidate == candidate).unwrap().verdict
}

/// The cell booted again, and this time nothing happened.
fn and_a_quiet_boot(mut cell: Observation) -> Observation {
    let mut again = cell.boots[0].clone();
    again.name = "0-007".into();
    again.splats.clear();
    cell.boots.push(again);
    cell
}

fn chain(locks: &[&str]) -> Vec<String> {
    ["lockdep-circular"].iter().chain(locks).map(|word| (*word).to_owned()).collect()
}

const DEADLOCK: &str = "possible deadlock in f";

/// A candidate whose boots show a circle over these locks.
fn deadlock(candidate: &str, locks: &[&str]) -> Observation {
    clean(candidate, "x86_64").splats(DEADLOCK, 2).last_splat(|splat| {
        splat.fingerprint = locks.join("-");
        splat.signature = chain(locks);
        splat.kind = "LOCKDEP".into();
    })
}

/// Only the last of each boot's splats is a story's; one is enough.
fn one(mut cell: Observation) -> Observation {
    for boot in &mut cell.boots {
        boot.splats.drain(..boot.splats.len().saturating_sub(1));
    }
    cell
}

/// Every row says how often, and in how many boots, here and beside.
#[test]
fn counts_are_of_reports_and_of_boots() {
    let found = judged(&prediction("x86_64"));
    let gone = row(&found, "no-check-helper", BUG);
    assert_eq!(gone.change, Change::Removed);
    assert_eq!((gone.count, gone.boots_seen, gone.place.boots), (0, 0, 1));
    let beside = gone.beside.as_ref().unwrap();
    assert_eq!(beside.candidate, "as-reported");
    assert_eq!((beside.count, beside.boots_seen, beside.boots), (312, 1, 1));
}

/// What the control shows only in some of its boots is flaky: whoever lacks it is not credited,
/// whoever has it is not blamed.
#[test]
fn what_the_control_shows_by_chance_blames_nobody() {
    let all = |ours: Observation| {
        vec![clean("landed", "x86_64"), and_a_quiet_boot(control("x86_64")), ours]
    };
    let found = judged(&all(clean("no-check-helper", "x86_64").splats(BUG, 312)));
    assert_eq!(row(&found, "as-reported", BUG).change, Change::Flaky);
    let here = row(&found, "no-check-helper", BUG);
    assert_eq!(here.change, Change::Flaky);
    assert!(here.reason.contains("1 of 2 boots"), "{}", here.reason);
    assert_ne!(verdict(&found, "no-check-helper"), Verdict::Worse);

    let found = judged(&all(clean("no-check-helper", "x86_64")));
    let absent = row(&found, "no-check-helper", BUG);
    assert_eq!((absent.change, absent.count), (Change::Flaky, 0));
    assert_ne!(verdict(&found, "no-check-helper"), Verdict::Better);
}

/// A boot of the control that did other steps does not make its splat flaky.
#[test]
fn a_boot_that_did_something_else_proves_no_chance() {
    let mut control = and_a_quiet_boot(control("x86_64"));
    for boot in &mut control.boots {
        let step = if boot.splats.is_empty() { HARDIRQ } else { PROCESS };
        boot.begun = vec![step];
        boot.steps.retain(|id, _| *id == step);
        boot.blocks.retain(|block| block.step == step);
    }
    let found = judged(&[clean("landed", "x86_64"), control, clean("no-check-helper", "x86_64")]);
    assert_eq!(row(&found, "as-reported", BUG).change, Change::Control);
    assert_eq!(row(&found, "no-check-helper", BUG).change, Change::Removed);
}

/// A patch that swaps one inversion for another under the same title has fixed nothing, and the
/// two chains are shown side by side.
#[test]
fn a_swapped_inversion_is_changed_not_removed() {
    let control = one(deadlock("as-reported", &["a", "b", "c"]));
    let ours = one(deadlock("no-check-helper", &["a", "b", "d"]));
    let found = judged(&[clean("landed", "x86_64"), control, ours]);
    let changed = row(&found, "no-check-helper", DEADLOCK);
    assert_eq!(changed.change, Change::Changed);
    assert_eq!(changed.beside.as_ref().unwrap().fingerprint, "a-b-c");
    assert!(changed.edits.contains(&Edit::Removed("c".into())));
    assert!(changed.edits.contains(&Edit::Added("d".into())));
    assert!(changed.edits.contains(&Edit::Same("a".into())));
    let ours = |s: &&SplatRow| s.place.candidate == "no-check-helper";
    assert_eq!(found.splats.iter().filter(ours).count(), 1, "the old one has no row of its own");
    assert_eq!(verdict(&found, "no-check-helper"), Verdict::Worse);
    for gate in found.gates.iter().filter(|g| g.place.candidate == "no-check-helper") {
        let splats = matches!(gate.rule, Gate::NoAddedSplats | Gate::ControlSplatRemoved);
        assert!(!splats || gate.state == GateState::Failed, "{gate:?}");
    }
}

/// Of two that came, the nearest is the changed one; the other was added.
#[test]
fn the_nearest_is_the_changed_one() {
    let control = one(deadlock("as-reported", &["a", "b", "c"]));
    let near = one(deadlock("no-check-helper", &["a", "b", "d"]));
    let mut ours = near.clone();
    let mut far = near.boots[0].splats[0].clone();
    far.fingerprint = "a-x-y".into();
    far.signature = chain(&["a", "x", "y"]);
    far.title = "possible deadlock in g".into();
    ours.boots[0].splats.insert(0, far);
    let found = judged(&[clean("landed", "x86_64"), control, ours]);
    assert_eq!(row(&found, "no-check-helper", DEADLOCK).change, Change::Changed);
    assert_eq!(row(&found, "no-check-helper", "possible deadlock in g").change, Change::Added);
}

/// The reference's splat, changed by a contender, is not the reference's any more.
#[test]
fn a_change_of_the_references_splat_counts() {
    let reference = one(deadlock("landed", &["a", "b"]));
    let found =
        judged(&[reference, control("x86_64"), one(deadlock("no-check-helper", &["a", "b", "c"]))]);
    let changed = row(&found, "no-check-helper", DEADLOCK);
    assert_eq!(changed.change, Change::Changed);
    assert_eq!(changed.beside.as_ref().unwrap().candidate, "landed");
}

/// What the spec knows is shown with its reason and link, and blames nobody: not who has it, and
/// not who lacks it.
#[test]
fn known_splats_blame_nobody() {
    let mut subject = subject();
    subject.known.push(KnownSplat {
        pattern: "possible deadlock in *".into(),
        reason: "the console driver's".into(),
        link: "https://lore.kernel.org/r/x".into(),
        expires: "2999-12-31".into(),
    });
    let all = with(deadlock("no-check-helper", &["a", "b"]));
    let blamed = judged(&all);
    assert_eq!(verdict(&blamed, "no-check-helper"), Verdict::Worse);
    let found = compare(&subject, &all, &Settings::default());
    let known = row(&found, "no-check-helper", DEADLOCK);
    assert_eq!(known.change, Change::Known);
    assert!(known.reason.contains("the console driver's, https://lore.kernel.org/r/x"));
    assert_eq!(known.known.as_ref(), subject.known.last());
    assert_eq!(verdict(&found, "no-check-helper"), Verdict::Same);

    let mut all = prediction("x86_64");
    all[1] = control("x86_64").splats(DEADLOCK, 1);
    let found = compare(&subject, &all, &Settings::default());
    let ours = |s: &&SplatRow| s.place.candidate == "no-check-helper" && s.title == DEADLOCK;
    assert_eq!(found.splats.iter().find(ours), None);
}

/// Each way lockdep looks away has a row that names it and says what follows.
#[test]
fn what_lockdep_could_not_see_is_listed() {
    for (note, blind) in [
        (Note::NmiUse, Blind::NmiUse),
        (Note::Secondary, Blind::Secondary),
        (Note::CutByFlood, Blind::CutByFlood),
        (Note::LockdepOff, Blind::OffAfterReport),
        (Note::LockdepOffBefore, Blind::OffBefore),
        (Note::InNmi, Blind::InNmi),
    ] {
        let ours = clean("no-check-helper", "x86_64")
            .splats(BUG, 3)
            .last_splat(|splat| splat.notes.push(note));
        let found = judged(&with(ours));
        let rows: Vec<&BlindRow> = found.blind.iter().collect();
        assert_eq!(rows.len(), 1, "{rows:#?}");
        assert_eq!((rows[0].blind, rows[0].count, rows[0].boots_seen), (blind, 1, 1));
        assert_eq!(rows[0].example.as_deref(), Some(BUG));
        assert!(rows[0].text.len() > 20);
    }
}

/// `debug_locks` went off, and no report says why.
#[test]
fn lockdep_off_in_silence_is_seen() {
    let found = judged(&with(clean("no-check-helper", "x86_64").lockdep_off_after(3)));
    assert_eq!(found.blind[0].blind, Blind::OffInSilence);
    assert_eq!(found.blind[0].place.candidate, "no-check-helper");
    let told = clean("no-check-helper", "x86_64")
        .lockdep_off_after(3)
        .splats(BUG, 1)
        .last_splat(|splat| splat.disables_lockdep = true);
    let found = judged(&with(told));
    assert_eq!(
        found.blind.iter().map(|row| row.blind).collect::<Vec<_>>(),
        [Blind::OffAfterReport]
    );
    assert!(judged(&prediction("x86_64")).blind.is_empty());
}
