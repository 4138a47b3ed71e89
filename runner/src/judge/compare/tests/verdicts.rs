// SPDX-License-Identifier: MIT OR Apache-2.0
use super::story::{CLAIM, IDLE, Story, TOP, half};
use crate::judge::row::{CellEnd, Verdict};
use crate::keep::store::{BootEnd, KernelOutcome};

fn ok() -> Story {
    Story::of(&CLAIM.replace("5 points", "10 points"))
}

/// Where every claim is no worse the verdict is ok and says so.
#[test]
fn no_worse_is_ok() {
    let row = ok().verdict("mine");
    assert_eq!((row.verdict, row.because), (Verdict::Ok, vec!["idle: no worse".to_owned()]));
}

/// One loss is not ok; one open claim leaves it open, with the claim's name.
#[test]
fn losses_and_open_claims() {
    let mut story = ok();
    story.right("mine", IDLE, TOP, &half(-30));
    let row = story.verdict("mine");
    assert_eq!((row.verdict, row.because[0].as_str()), (Verdict::NotOk, "idle: loses"));
    assert!(!row.place.evidence.is_empty());
    let row = Story::of(&CLAIM.replace("5 points", "0.5 points")).verdict("mine");
    assert_eq!((row.verdict, row.because[0].as_str()), (Verdict::Open, "idle: not decided"));
}

/// A kernel that does not build, apply, boot or live is not ok, with what was said.
#[test]
fn dead_kernels_are_not_ok() {
    for (outcome, end) in [
        (KernelOutcome::DidNotBuild { reason: "no such field".into() }, CellEnd::DidNotBuild),
        (
            KernelOutcome::DidNotApply { patch: "0001".into(), reason: "hunk 1".into() },
            CellEnd::DidNotApply,
        ),
    ] {
        let mut story = ok();
        for seen in story.of_mut("mine") {
            seen.boots.clear();
            seen.kernel.as_mut().unwrap().outcome = outcome.clone();
        }
        let found = story.compare();
        let cell = found.cells.iter().find(|cell| cell.place.candidate == "mine").unwrap();
        assert_eq!((cell.end, story.verdict("mine").verdict), (end, Verdict::NotOk));
    }
    let mut story = ok();
    story.boots("mine")[4].end = BootEnd::Panicked { line: "Kernel panic".into() };
    let row = story.verdict("mine");
    assert_eq!(row.verdict, Verdict::NotOk);
    assert!(row.because[0].contains("1 of 12 boots; Kernel panic"), "{:?}", row.because);
}

/// Our own failures and what was not done yet leave it open, never not ok.
#[test]
fn our_failures_leave_it_open() {
    let mut story = ok();
    for seen in story.of_mut("mine") {
        (seen.kernel, seen.errors) = (None, vec!["disk full".into()]);
        seen.boots.clear();
    }
    let row = story.verdict("mine");
    assert_eq!(row.verdict, Verdict::Open);
    assert!(row.because.iter().any(|why| why.contains("disk full")), "{:?}", row.because);
}

/// What was declared not to be possible is open and declared, and no gate is asked of it.
#[test]
fn declared_is_not_judged() {
    let mut story = Story::of(&format!("{CLAIM}gates: [{{gate: no-new-splats}}]\n"));
    for seen in story.of_mut("mine") {
        seen.cell.not_portable = Some("no maple tree".into());
        (seen.kernel, seen.boots) = (None, Vec::new());
    }
    let row = story.verdict("mine");
    assert!(row.declared && row.verdict == Verdict::Open, "{row:?}");
    assert!(story.compare().gates.is_empty());
}

/// What died, what was never measured, and a run without production kernels are listed as
/// not tested.
#[test]
fn what_was_not_tested_is_listed() {
    let mut story = Story::of("profiles: [lockdep]\n");
    story.visits("mine", IDLE).into_iter().for_each(|visit| visit.blocks.clear());
    story.boots("naive")[0].end = BootEnd::Panicked { line: "Kernel panic".into() };
    let rows = story.compare().not_tested;
    let has = |who: Option<&str>, words: &str| {
        rows.iter().any(|row| {
            row.candidate.as_deref() == who
                && format!("{}: {}", row.what, row.reason).contains(words)
        })
    };
    assert!(has(Some("naive"), "what comes after it died: panicked"), "{rows:?}");
    assert!(has(Some("mine"), "no call that counts"), "{rows:?}");
    assert!(has(None, "no cell has the profile `production`"), "{rows:?}");
}
