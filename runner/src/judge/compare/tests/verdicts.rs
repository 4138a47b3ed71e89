// SPDX-License-Identifier: MIT OR Apache-2.0
use super::story::{CLAIM, IDLE, Story, TOP, half};
use crate::judge::row::{CellEnd, GateState, Verdict};
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

/// What the reference cannot do either is not held against a contender: it is open, with
/// the reason. What the reference can do is; and patches that do not apply always are.
#[test]
fn what_the_reference_cannot_do_either_is_open() {
    let build = |why: &str| KernelOutcome::DidNotBuild { reason: why.into() };
    let apply = KernelOutcome::DidNotApply { patch: "0001".into(), reason: "hunk 1".into() };
    let story = |outcomes: [(&str, Option<&KernelOutcome>); 2]| {
        let mut story = Story::of(&format!("{CLAIM}gates: [{{gate: verdict-is, is: [ok]}}]\n"));
        for (who, outcome) in outcomes {
            let Some(outcome) = outcome else { continue };
            for seen in story.of_mut(who) {
                seen.boots.clear();
                seen.kernel.as_mut().unwrap().outcome = outcome.clone();
            }
        }
        story
    };
    let (one, other) = (build("a.c: no such field"), build("b.c: no such field"));
    for (mine, theirs, verdict, words) in [
        (
            Some(&one),
            Some(&one),
            Verdict::Open,
            "production does not build, like the reference landed: a.c: no such field",
        ),
        (
            Some(&one),
            Some(&other),
            Verdict::Open,
            "like the reference landed: a.c: no such field; landed: b.c: no such field",
        ),
        (Some(&one), None, Verdict::NotOk, "production does not build: a.c: no such field"),
        (Some(&apply), Some(&one), Verdict::NotOk, "production does not apply: 0001: hunk 1"),
    ] {
        let story = story([("mine", mine), ("landed", theirs)]);
        let row = story.verdict("mine");
        assert_eq!(row.verdict, verdict, "{:?}", row.because);
        assert!(row.because.iter().any(|why| why.ends_with(words)), "{:?}", row.because);
        let state = match verdict {
            Verdict::Open => GateState::Undecided,
            Verdict::NotOk | Verdict::Ok => GateState::Failed,
        };
        assert_eq!(story.compare().gates[0].state, state);
    }
    // The reference itself is not excused by itself.
    let story = story([("landed", Some(&one)), ("mine", Some(&one))]);
    assert_eq!(story.verdict("landed").verdict, Verdict::NotOk);
}

/// A panic of a contender blames it where the reference lives, not where the reference
/// panics or does not even build, and it does where the reference hangs.
#[test]
fn panics_of_the_reference_excuse() {
    let panic = || BootEnd::Panicked { line: "Kernel panic".into() };
    let hang = || BootEnd::Hung { silent_seconds: 60, step: None, report: None };
    for (theirs, verdict, words) in [
        (None, Verdict::NotOk, "panicked: 1 of 12 boots"),
        (Some(panic()), Verdict::Open, "panicked, like the reference landed"),
        (Some(hang()), Verdict::NotOk, "panicked: 1 of 12 boots"),
        (
            Some(BootEnd::DidNotBoot { reason: "nothing".into() }),
            Verdict::Open,
            "panicked where the reference landed does not boot",
        ),
    ] {
        let mut story = ok();
        story.boots("mine")[4].end = panic();
        if let Some(end) = theirs {
            story.boots("landed")[4].end = end;
        }
        let row = story.verdict("mine");
        assert_eq!(row.verdict, verdict, "{:?}", row.because);
        assert!(row.because.iter().any(|why| why.contains(words)), "{:?}", row.because);
    }
}

/// Tests that were skipped or do not build are not tested, and named: once if nobody ran
/// them, and with the candidate if others did.
#[test]
fn tests_that_were_not_run_are_listed() {
    let mut story = Story::of_probes(
        "probes:\n  - {probe: command, name: mm, run: ./mm, read: ktap}\nprofiles: [production]\n",
    );
    for who in ["landed", "reported", "mine", "naive"] {
        for visit in story.visits(who, "command/mm") {
            for block in &mut visit.blocks {
                block.excluded.insert("not-built/selftests: mm: khugepaged".into(), 1);
                for n in 0..7 {
                    block.excluded.insert(format!("skip/huge {n}"), 1);
                }
                if who == "mine" {
                    block.excluded.insert("skip/mine alone".into(), 1);
                }
            }
        }
    }
    let found = story.compare();
    let told: Vec<(Option<&str>, &str, &str)> = found
        .not_tested
        .iter()
        .filter(|row| row.what.starts_with("command/mm: "))
        .map(|row| (row.candidate.as_deref(), row.what.as_str(), row.reason.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (None, "command/mm: selftests: mm: khugepaged", "the test does not build"),
            (
                None,
                "command/mm: huge 0, huge 1, huge 2, huge 3, huge 4, huge 5 and 1 more",
                "the test was skipped"
            ),
            (Some("mine"), "command/mm: mine alone", "the test was skipped"),
        ]
    );
}
