// SPDX-License-Identifier: MIT OR Apache-2.0
use super::story::{IDLE, Story, splat};
use crate::judge::row::{ControlSplat, SplatReading};

const LOCKDEP: &str = "profiles: [lockdep]\n";
const BUG: &str = "WARNING in old_lookup";
const NEW: &str = "WARNING in new_code";

fn reading(story: &Story, title: &str) -> SplatReading {
    story.splat_row("mine", title).map(|row| row.reading).unwrap()
}

/// The control's report is fixed where what provokes it ran on as many calls, and unclear
/// where it hardly ran.
#[test]
fn an_absence_counts_where_enough_ran() {
    let mut story = Story::of(LOCKDEP);
    story.splat("reported", BUG, 12);
    let row = story.splat_row("mine", BUG).unwrap();
    assert_eq!((row.reading, row.seen.k, row.seen.n), (SplatReading::Fixed, 0, 12), "{row:?}");
    assert_eq!(story.splat_row("reported", BUG).unwrap().reading, SplatReading::Control);
    assert_eq!(story.verdict("mine").control_splat, Some(ControlSplat::Gone));
    for boot in story.boots("mine") {
        boot.visits.iter_mut().for_each(|visit| visit.blocks.truncate(1));
    }
    story.boots("mine").into_iter().skip(1).for_each(|boot| boot.visits.clear());
    let row = story.splat_row("mine", BUG).unwrap();
    assert_eq!(row.reading, SplatReading::Unclear, "{row:?}");
    assert!(row.reason.starts_with("cannot tell whether it is gone"), "{}", row.reason);
}

/// Nothing that ran with lockdep off shows that a report is gone.
#[test]
fn an_absence_without_lockdep_proves_nothing() {
    let mut story = Story::of(LOCKDEP);
    story.splat("reported", BUG, 12);
    for boot in story.boots("mine") {
        for block in boot.visits.iter_mut().flat_map(|visit| &mut visit.blocks) {
            block.debug_locks_before = Some(false);
        }
    }
    assert_eq!(reading(&story, BUG), SplatReading::Unclear);
    let mut story = Story::of(LOCKDEP);
    story.splat("reported", BUG, 12);
    for boot in story.boots("mine") {
        boot.hello.as_mut().unwrap().debug_locks = None;
    }
    assert_eq!(reading(&story, BUG), SplatReading::Unclear);
}

/// The control's report in a contender is still there, and speaks against it.
#[test]
fn a_report_that_stays_is_the_controls() {
    let mut story = Story::of(LOCKDEP);
    story.splat("reported", BUG, 12);
    story.splat("mine", BUG, 3);
    let row = story.splat_row("mine", BUG).unwrap();
    assert_eq!((row.reading, row.seen.k), (SplatReading::Control, 3));
    assert_eq!(story.verdict("mine").control_splat, Some(ControlSplat::Present));
}

/// A control that shows its report now and then: an absence counts where the exact test
/// says it is no chance, and only there.
#[test]
fn a_rare_control_needs_the_exact_test() {
    let mut story = Story::of(LOCKDEP);
    story.splat("reported", BUG, 8);
    assert_eq!(reading(&story, BUG), SplatReading::Fixed);
    let mut story = Story::of(LOCKDEP);
    story.splat("reported", BUG, 2);
    let row = story.splat_row("mine", BUG).unwrap();
    assert_eq!(row.reading, SplatReading::Unclear);
    assert!(row.reason.contains("2 of 12"), "{}", row.reason);
}

/// What was seen once blames nobody; what comes again in fresh boots of the candidate and
/// not of the reference is introduced, with the test.
#[test]
fn nobody_is_blamed_for_what_was_seen_once() {
    let mut story = Story::of(LOCKDEP);
    story.splat("mine", NEW, 1);
    let row = story.splat_row("mine", NEW).unwrap();
    assert_eq!((row.reading, row.seen.k, row.seen.n), (SplatReading::SeenOnce, 1, 12));
    assert_eq!(row.place.evidence, ["0-000/console.log"]);
    story.boots("mine")[7].splats.push(splat(NEW));
    let row = story.splat_row("mine", NEW).unwrap();
    assert_eq!(row.reading, SplatReading::SeenOnce);
    assert!(row.reason.contains("1 of 11 fresh boots"), "{}", row.reason);
    let mut story = Story::of(LOCKDEP);
    story.splat("mine", NEW, 12);
    let row = story.splat_row("mine", NEW).unwrap();
    assert_eq!((row.reading, row.reference.k, row.reference.n), (SplatReading::Introduced, 0, 12));
    assert!(row.p.unwrap() < 0.001, "{row:?}");
    let verdict = story.verdict("mine");
    assert!(verdict.because[0].starts_with("new: WARNING in new_code"), "{verdict:?}");
}

/// What the reference has as well is present; what it has far less often may only have been
/// uncovered.
#[test]
fn what_the_reference_has_is_not_new() {
    let mut story = Story::of(LOCKDEP);
    story.splat("landed", NEW, 1);
    story.splat("mine", NEW, 2);
    assert_eq!(reading(&story, NEW), SplatReading::Present);
    let mut story = Story::of(LOCKDEP);
    story.splat("landed", NEW, 1);
    story.splat("mine", NEW, 12);
    assert_eq!(reading(&story, NEW), SplatReading::Exposed);
}

/// Without a reference, or with one that ran without lockdep, nobody can tell.
#[test]
fn without_a_reference_nobody_can_tell() {
    let mut story = Story::of(LOCKDEP);
    story.splat("mine", NEW, 12);
    story.seen.retain(|seen| seen.cell.id.candidate != "landed");
    assert_eq!(reading(&story, NEW), SplatReading::Unclear);
    let mut story = Story::of(LOCKDEP);
    story.splat("mine", NEW, 12);
    for boot in story.boots("landed") {
        boot.hello.as_mut().unwrap().debug_locks = None;
    }
    assert_eq!(reading(&story, NEW), SplatReading::Unclear);
}

/// Reports raised by the printing of others, known ones, our own configuration's and garbled
/// copies of whole ones blame nobody; a garbled one that stands alone is unclear.
#[test]
fn some_reports_blame_nobody() {
    let known = format!(
        "{LOCKDEP}known_splats:
  - {{pattern: WARNING in lab*, reason: ours, link: \"https://lore.kernel.org/r/x\", expires: 2999-12-31}}
"
    );
    let with = |title: &str, change: fn(&mut crate::see::observation::SeenSplat)| {
        let mut story = Story::of(&known);
        story.splat("mine", title, 12);
        story.boots("mine").into_iter().for_each(|boot| change(&mut boot.splats[0]));
        story
    };
    let background = SplatReading::Background;
    assert_eq!(reading(&with(NEW, |splat| splat.secondary = true), NEW), background);
    let row = with("WARNING in lab_init", |_| ()).splat_row("mine", "WARNING in lab_init").unwrap();
    assert_eq!(row.reading, background);
    assert!(row.reason.starts_with("known: ours"), "{}", row.reason);
    let overflow = "BUG: MAX_LOCKDEP_CHAINS too low!";
    assert_eq!(reading(&with(overflow, |_| ()), overflow), background);
    let mut garbled = with(NEW, |splat| splat.corrupted = true);
    assert_eq!(reading(&garbled, NEW), SplatReading::Unclear);
    garbled.boots("mine")[0].splats.push(splat(NEW));
    let rows = garbled.compare().splats;
    let row = rows.iter().find(|row| row.fingerprint == "corrupted").unwrap();
    assert_eq!(row.reading, background);
}

/// Another report of the control's title may be the same bug by another way: that it is gone
/// cannot be told.
#[test]
fn the_same_title_by_another_chain_is_unclear() {
    let mut story = Story::of(LOCKDEP);
    story.splat("reported", BUG, 12);
    for boot in story.boots("mine") {
        boot.splats.push(crate::see::observation::SeenSplat {
            fingerprint: "another chain".into(),
            ..splat(BUG)
        });
    }
    let rows = story.compare().splats;
    let absent = rows.iter().find(|row| row.place.candidate == "mine" && row.count == 0).unwrap();
    assert_eq!(absent.reading, SplatReading::Unclear, "{absent:?}");
}

/// A boot that did nothing of what provokes a report is none in which it could have come.
#[test]
fn boots_that_did_something_else_do_not_count() {
    let mut story = Story::of(LOCKDEP);
    let step = story.step(IDLE);
    story.splat("mine", NEW, 1);
    story.boots("mine")[0].visits.retain(|visit| visit.step == step);
    for boot in story.boots("landed").into_iter().skip(4) {
        boot.visits.retain(|visit| visit.step != step);
    }
    assert_eq!(story.splat_row("mine", NEW).unwrap().reference.n, 4);
}
