// SPDX-License-Identifier: MIT OR Apache-2.0
use std::collections::BTreeSet;

use bakeoff_fuzz::wire::{Score, StepOutcome};

use super::testing::*;
use super::untested::{CONTEXTS, STRESSES};
use super::*;
use crate::judge::compare::rate::METRICS;
use crate::keep::store::{BootEnd, KernelOutcome};
use crate::see::observation::{BootObservation, Observation};
use crate::spec::Gate;

fn judged(all: &[Observation]) -> Comparison {
    compare(&subject(), all, &Settings::default())
}

fn verdict<'a>(found: &'a Comparison, candidate: &str) -> &'a VerdictRow {
    found.verdicts.iter().find(|v| v.place.candidate == candidate).unwrap()
}

fn says(found: &Comparison, candidate: &str, words: &str) {
    let reasons = &verdict(found, candidate).reasons;
    assert!(reasons.iter().any(|r| r.contains(words)), "no `{words}` in {reasons:#?}");
}

fn gate<'a>(found: &'a Comparison, candidate: &str, name: &str) -> &'a GateRow {
    let named = |gate: &Gate| serde_json::to_value(gate).unwrap()["gate"] == name;
    found.gates.iter().find(|g| g.place.candidate == candidate && named(&g.rule)).unwrap()
}

fn change(found: &Comparison, candidate: &str, title: &str) -> Change {
    let row = found.splats.iter().find(|s| s.place.candidate == candidate && s.title == title);
    row.unwrap_or_else(|| panic!("no row of {title} in {candidate}: {:#?}", found.splats)).change
}

/// The dispute's first answer: the removal loses what users read although the
/// splat is gone; the helper cannot be told from the fix; the control splats.
#[test]
fn the_dispute_is_settled_as_predicted() {
    let found = judged(&prediction("x86_64"));
    let of = |candidate| verdict(&found, candidate).verdict;
    assert_eq!(of("landed"), Verdict::Same);
    assert_eq!(of("as-reported"), Verdict::Worse);
    assert_eq!(of("no-check-helper"), Verdict::Same);
    assert_eq!(of("peter-removal"), Verdict::Worse);
    assert_eq!(of("lockless-tree"), Verdict::Same);
    says(&found, "as-reported", "has the splat of the dispute: WARNING in find_vma (312 times");
    says(&found, "no-check-helper", "silenced");
    says(&found, "no-check-helper", "none in 22,000 calls with lockdep on, 1 boot");
    says(&found, "peter-removal", "0/20,000 = 0% [0, 0.02], lower than landed's 40,000/40,000");
    says(&found, "peter-removal", "find_vma (312 in as-reported) is gone");
    says(&found, "lockless-tree", "not tested: correctness under churn");
    assert_eq!(found.open_verdicts().count(), 0);
}

/// A verdict can be followed: its evidence lies in the cell it speaks of.
#[test]
fn verdicts_point_to_evidence() {
    let found = judged(&prediction("arm64"));
    for row in &found.verdicts {
        let dir = format!("cells/6.12/{}/arm64/", row.place.candidate);
        assert!(!row.place.evidence.is_empty(), "{row:?}");
        assert!(row.place.evidence.iter().all(|file| file.starts_with(&dir)), "{row:?}");
    }
    let row = &verdict(&found, "as-reported").place;
    assert!(row.evidence[0].ends_with("console.log"), "{row:?}");
}

/// Every way a kernel can fail to come up is worse, if the reference comes up.
#[test]
fn a_candidate_that_fails_is_worse() {
    let built = [
        (
            KernelOutcome::DidNotApply { patch: "0001-x.patch".into(), reason: "hunk 2".into() },
            CellEnd::DidNotApply,
        ),
        (KernelOutcome::DidNotBuild { reason: "stackmap.c:1: error".into() }, CellEnd::DidNotBuild),
    ];
    for (outcome, end) in built {
        let found = judged(&with(clean("peter-removal", "x86_64").builds(outcome)));
        assert_eq!(verdict(&found, "peter-removal").verdict, Verdict::Worse, "{end:?}");
        assert!(found.cells.iter().any(|c| c.end == end));
        assert_eq!(gate(&found, "peter-removal", "no-added-splats").state, GateState::Failed);
    }
    let booted = [
        (BootEnd::DidNotBoot { reason: "silence".into() }, CellEnd::DidNotBoot, "does not boot"),
        (BootEnd::Panicked { line: "Fatal exception".into() }, CellEnd::Panicked, "Fatal"),
        (BootEnd::Hung { silent_seconds: 60 }, CellEnd::Hung, "silent for 60 seconds in step 1"),
        (BootEnd::EarlyExit { reason: "guest-reset".into() }, CellEnd::Panicked, "went away"),
    ];
    for (how, end, words) in booted {
        let found = judged(&with(clean("peter-removal", "x86_64").dies(how, HARDIRQ)));
        assert_eq!(verdict(&found, "peter-removal").verdict, Verdict::Worse, "{end:?}");
        assert!(found.cells.iter().any(|c| c.end == end), "{end:?}");
        says(&found, "peter-removal", words);
    }
}

/// What happens to the reference too is nobody's fault.
#[test]
fn a_failure_the_reference_shares_blames_nobody() {
    let dead = |c| {
        clean(c, "x86_64").dies(BootEnd::Panicked { line: "Attempted to kill init!".into() }, 0)
    };
    let found = judged(&[dead("landed"), dead("as-reported"), dead("no-check-helper")]);
    for row in &found.verdicts {
        assert_eq!(row.verdict, Verdict::Inconclusive, "{row:?}");
    }
    assert_eq!(gate(&found, "no-check-helper", "no-added-splats").state, GateState::Undecided);
}

/// Our own failures never count against a candidate.
#[test]
fn our_errors_are_inconclusive() {
    let mut interrupted = clean("no-check-helper", "x86_64");
    interrupted.kernel = None;
    interrupted.boots.clear();
    let mut unreadable = clean("no-check-helper", "x86_64");
    unreadable.errors.push("end.json is broken".into());
    let cases = [
        interrupted,
        unreadable,
        clean("no-check-helper", "x86_64").boots(|_| false),
        clean("no-check-helper", "x86_64").dies(BootEnd::OutOfTime { limit_seconds: 600 }, HARDIRQ),
        clean("no-check-helper", "x86_64")
            .step_ends(HARDIRQ, StepOutcome::Failed { reason: "perf_event_open: EINVAL".into() }),
    ];
    for (case, seen) in cases.into_iter().enumerate() {
        let found = judged(&with(seen));
        let row = verdict(&found, "no-check-helper");
        assert_eq!(row.verdict, Verdict::Inconclusive, "case {case}: {row:#?}");
        assert_eq!(found.open_verdicts().count(), 1, "case {case}");
    }
}

/// A base that has no room for a patch is declared; more work would not help.
#[test]
fn not_portable_is_declared() {
    let mut seen = clean("lockless-tree", "x86_64");
    seen.cell.not_portable = Some("no maple tree".into());
    seen.kernel = None;
    seen.boots.clear();
    let found = judged(&with(seen));
    let row = verdict(&found, "lockless-tree");
    assert_eq!((row.verdict, row.declared), (Verdict::Inconclusive, true));
    assert_eq!(found.open_verdicts().count(), 0);
    assert!(!found.gates.iter().any(|g| g.place.candidate == "lockless-tree"));
    says(&found, "lockless-tree", "no maple tree");
}

/// A contender that still has the control's splat, or one of its own, is worse.
#[test]
fn kept_and_added_splats_are_worse() {
    let found = judged(&with(clean("no-check-helper", "x86_64").splats(BUG, 300)));
    assert_eq!(change(&found, "no-check-helper", BUG), Change::Control);
    says(&found, "no-check-helper", "still has the control's splat");
    assert_eq!(gate(&found, "no-check-helper", "control-splat-removed").state, GateState::Failed);
    let found = judged(&with(clean("no-check-helper", "x86_64").splats("BUG in foo", 1)));
    assert_eq!(change(&found, "no-check-helper", "BUG in foo"), Change::Added);
    assert_eq!(verdict(&found, "no-check-helper").verdict, Verdict::Worse);
    assert_eq!(gate(&found, "no-check-helper", "no-added-splats").state, GateState::Failed);
    assert_eq!(gate(&found, "no-check-helper", "control-splat-removed").state, GateState::Met);
}

/// What the stock tree reports too is no candidate's; in one round only, noise.
#[test]
fn the_references_own_splats_blame_nobody() {
    for (rounds, expected) in [(2, Change::Same), (1, Change::Flaky)] {
        let mut reference = clean("landed", "x86_64").splats("INFO: rcu stall", 1);
        if rounds == 1 {
            reference.boots[1].splats.clear();
        }
        let mut all = with(clean("no-check-helper", "x86_64").splats("INFO: rcu stall", 3));
        all[0] = reference;
        let found = judged(&all);
        assert_eq!(change(&found, "no-check-helper", "INFO: rcu stall"), expected);
        assert_eq!(change(&found, "landed", "INFO: rcu stall"), expected);
        assert_eq!(verdict(&found, "no-check-helper").verdict, Verdict::Same);
        assert_eq!(gate(&found, "no-check-helper", "no-added-splats").state, GateState::Met);
    }
}

/// A report that the printing of another one raised is a result, not a bug.
#[test]
fn secondary_splats_are_no_second_bug() {
    let title = "possible circular locking dependency in console_trylock_spinning";
    let seen = clean("no-check-helper", "x86_64")
        .splats(title, 1)
        .last_splat(|splat| splat.secondary = true);
    let found = judged(&with(seen));
    assert_eq!(change(&found, "no-check-helper", title), Change::Secondary);
    assert_eq!(verdict(&found, "no-check-helper").verdict, Verdict::Same);
    says(&found, "no-check-helper", "note: possible circular");
}

/// A garbled report of something new cannot be dismissed nor attributed.
#[test]
fn garbled_reports_are_inconclusive() {
    let seen = clean("no-check-helper", "x86_64")
        .splats("WARNING in fi[ 3.1]nd_", 1)
        .last_splat(|splat| splat.corrupted = true);
    let found = judged(&with(seen));
    assert_eq!(verdict(&found, "no-check-helper").verdict, Verdict::Inconclusive);
    assert_eq!(gate(&found, "no-check-helper", "no-added-splats").state, GateState::Undecided);
    // In the flood of the control it is one more of the same.
    let mut control = control("x86_64");
    control.boots[0].splats[7].corrupted = true;
    let found = judged(&with(control));
    assert_eq!(verdict(&found, "as-reported").verdict, Verdict::Worse);
}

/// The control's bug by another call chain is not "removed".
#[test]
fn the_same_title_elsewhere_is_not_removed() {
    let seen = clean("no-check-helper", "x86_64").splats(BUG, 3).last_splat(|splat| {
        splat.fingerprint = "another chain".into();
        splat.signature = ["warning", "g", "h", "i", "j"].map(String::from).to_vec();
    });
    let mut seen = seen;
    seen.boots[0].splats.drain(..2);
    let found = judged(&with(seen));
    let changes: BTreeSet<Change> = found
        .splats
        .iter()
        .filter(|s| s.place.candidate == "no-check-helper")
        .map(|s| s.change)
        .collect();
    assert_eq!(changes, BTreeSet::from([Change::Added, Change::Unclear]));
    assert_eq!(
        gate(&found, "no-check-helper", "control-splat-removed").state,
        GateState::Undecided
    );
}

/// Absence is proof only where the exercise ran, with lockdep on, often enough.
#[test]
fn a_splat_is_removed_only_where_its_exercise_ran() {
    let lost = clean("no-check-helper", "x86_64").lockdep_off_after(0);
    let found = judged(&with(lost));
    assert_eq!(change(&found, "no-check-helper", BUG), Change::Unclear);
    assert_eq!(verdict(&found, "no-check-helper").verdict, Verdict::Inconclusive);
    assert_eq!(
        gate(&found, "no-check-helper", "control-splat-removed").state,
        GateState::Undecided
    );
    let row = found.rates.iter().find(|r| r.place.candidate == "no-check-helper").unwrap();
    assert_eq!((row.calls, row.low, row.blocks_without_lockdep), (0, None, 20));
    assert!(row.reason.contains("lockdep off"), "{}", row.reason);

    // One splat in 22,000 calls; two blocks cannot show that it is gone.
    let rare = clean("as-reported", "x86_64").splats(BUG, 1);
    let mut few = clean("no-check-helper", "x86_64");
    few.boots[0].blocks.retain(|b| b.block < 2);
    let mut all = with(few);
    all.retain(|o| o.id().candidate != "as-reported");
    all.push(rare);
    let found = judged(&all);
    assert_eq!(change(&found, "no-check-helper", BUG), Change::Unclear);
    assert_eq!(change(&found, "peter-removal", BUG), Change::Removed);
}

/// Without the bug there is nothing to remove: nobody can be the one to fix it.
#[test]
fn an_unreproduced_problem_settles_nothing() {
    let mut all = prediction("x86_64");
    all[1] = clean("as-reported", "x86_64");
    let found = judged(&all);
    for candidate in ["as-reported", "no-check-helper", "lockless-tree"] {
        assert_eq!(verdict(&found, candidate).verdict, Verdict::Inconclusive, "{candidate}");
        says(&found, candidate, "did not splat");
    }
    assert_eq!(verdict(&found, "peter-removal").verdict, Verdict::Worse);
}

/// A profile without lockdep cannot show the splat and is not asked about it.
#[test]
fn the_bug_is_looked_for_where_it_can_show() {
    let bare = |mut seen: Observation| {
        for boot in &mut seen.boots {
            if let Some(hello) = &mut boot.hello {
                hello.debug_locks = None;
            }
            for block in &mut boot.blocks {
                (block.debug_locks_before, block.debug_locks_after) = (None, None);
            }
        }
        seen.profile("production")
    };
    let mut all = prediction("x86_64");
    let names = ["landed", "as-reported", "no-check-helper"];
    all.extend(names.map(|name| bare(clean(name, "x86_64"))));
    let found = judged(&all);
    assert_eq!(verdict(&found, "no-check-helper").verdict, Verdict::Same);
    assert_eq!(verdict(&found, "no-check-helper").place.profile, "lockdep+production");
    assert_eq!(verdict(&found, "as-reported").verdict, Verdict::Worse);
}

/// A context nobody can reach is a row with its reason, and no fault.
#[test]
fn unreachable_contexts_are_rows() {
    let reason = || StepOutcome::Unreachable { reason: "no PMU".into() };
    let all: Vec<Observation> =
        prediction("arm64").into_iter().map(|seen| seen.step_ends(HARDIRQ, reason())).collect();
    let found = judged(&all);
    let rows: Vec<&RateRow> = found.rates.iter().filter(|r| r.step == HARDIRQ).collect();
    assert_eq!(rows.len(), 10);
    for row in rows {
        assert_eq!((row.calls, row.low, row.high), (0, None, None));
        assert!(row.out_of_reach);
        assert!(row.reason.contains("no PMU"), "{}", row.reason);
    }
    assert!(found.rates.iter().all(|r| r.out_of_reach == (r.step == HARDIRQ)));
    assert_eq!(verdict(&found, "no-check-helper").verdict, Verdict::Same);
    assert!(found.not_tested.iter().any(|n| n.reason.contains("no PMU")));
}

/// Few calls do not show "same", and the row says how many more would.
#[test]
fn few_calls_are_inconclusive() {
    let mut seen = clean("no-check-helper", "x86_64");
    seen.boots[0].blocks.retain(|b| b.step != HARDIRQ || b.block == 0);
    let found = judged(&with(seen));
    let row = found
        .rates
        .iter()
        .find(|r| r.place.candidate == "no-check-helper" && r.step == HARDIRQ)
        .unwrap();
    assert_eq!(row.verdict, Verdict::Inconclusive);
    assert!(row.reason.contains("needs about"), "{}", row.reason);
    assert!(row.needs.is_some_and(|calls| (100..2000).contains(&calls)), "{:?}", row.needs);
    assert_eq!(verdict(&found, "no-check-helper").verdict, Verdict::Inconclusive);
}

/// By how much the reference differs from itself is what blames nobody.
#[test]
fn the_references_own_difference_is_noise() {
    let mut reference = clean("landed", "x86_64");
    for block in reference.boots[1].blocks.iter_mut().filter(|b| b.step == PROCESS) {
        block.counts.top.correct = 900;
        block.counts.top.valid = 900;
    }
    let lower = clean("no-check-helper", "x86_64").answers(PROCESS, 900);
    let mut all = with(lower.clone());
    all[0] = reference;
    let top = |found: &Comparison| {
        let is = |r: &&RateRow| {
            r.place.candidate == "no-check-helper" && r.metric == "build_id.top_frame"
        };
        found.rates.iter().find(is).unwrap().clone()
    };
    let row = top(&judged(&all));
    assert_ne!(row.verdict, Verdict::Worse, "{}", row.reason);
    assert!(row.reason.contains("own rounds differ"), "{}", row.reason);
    // With a reference that agrees with itself the same rate is worse.
    assert_eq!(top(&judged(&with(lower))).verdict, Verdict::Worse);
}

/// Higher availability is better, if nothing else is worse.
#[test]
fn higher_availability_is_better() {
    let mut all: Vec<Observation> = prediction("x86_64")
        .into_iter()
        .map(|seen| {
            let better = seen.id().candidate == "lockless-tree";
            if better { seen } else { seen.answers(HARDIRQ, 150) }
        })
        .collect();
    let found = judged(&all);
    assert_eq!(verdict(&found, "lockless-tree").verdict, Verdict::Better);
    all[4] = all[4].clone().splats("KASAN: use-after-free in mas_walk", 1);
    let found = judged(&all);
    assert_eq!(verdict(&found, "lockless-tree").verdict, Verdict::Worse);
    says(&found, "lockless-tree", "higher than landed's");
}

/// A valid answer that is wrong is worse than none, however rare.
#[test]
fn wrong_answers_are_worse() {
    let mut seen = clean("lockless-tree", "x86_64");
    seen.boots[0].blocks[3].counts.top.correct -= 1;
    let found = judged(&with(seen));
    assert_eq!(verdict(&found, "lockless-tree").verdict, Verdict::Worse);
    says(&found, "lockless-tree", "1 of 20,000 valid answers are wrong");
}

/// Calls from another context are told, not counted; a guest that counts more
/// right answers than calls is not believed.
#[test]
fn strange_counts_are_told() {
    let mut seen = clean("no-check-helper", "x86_64");
    let counts = &mut seen.boots[0].blocks[0].counts;
    counts.wrong_context.insert("process".into(), 7);
    counts.top.correct = u64::MAX;
    counts.ineligible.insert("EFAULT".into(), 3);
    counts.slot_busy = Some(2);
    let found = judged(&with(seen));
    says(&found, "no-check-helper", "7 calls came from process");
    let row = found.rates.iter().find(|r| r.place.candidate == "no-check-helper").unwrap();
    assert_eq!((row.correct, row.calls, row.ineligible), (20_000, 20_000, 3));
    assert_eq!((row.slot_busy, row.lock_failed), (Some(2), None));
}

/// A flood ends a boot early; it is counted, and the control is worse all the same.
#[test]
fn a_flood_is_a_result() {
    let flood = BootEnd::Flood { title: BUG.into(), count: 100_000 };
    let found = judged(&with(control("x86_64").dies(flood, HARDIRQ)));
    let row = found.cells.iter().find(|c| c.place.candidate == "as-reported").unwrap();
    assert_eq!(row.end, CellEnd::Ran);
    assert!(row.note.as_ref().unwrap().contains("100,000 times"), "{row:?}");
    assert!(row.note.as_ref().unwrap().contains("not done: build_id/hardirq"), "{row:?}");
    assert_eq!(verdict(&found, "as-reported").verdict, Verdict::Worse);
    assert_eq!(change(&found, "no-check-helper", BUG), Change::Removed);
}

/// A step that was run again in a fresh boot counts with the calls of both.
#[test]
fn repeated_steps_add_up() {
    let mut seen = clean("no-check-helper", "x86_64").lockdep_off_after(5);
    let mut again = clean("no-check-helper", "x86_64").boots.remove(0);
    again.name = "0-001".into();
    seen.boots.push(again);
    let found = judged(&with(seen));
    let row = found.rates.iter().find(|r| r.place.candidate == "no-check-helper").unwrap();
    assert_eq!((row.calls, row.blocks, row.blocks_without_lockdep), (25_000, 25, 15));
    assert_eq!(row.place.boots, 2);
    assert_eq!(verdict(&found, "no-check-helper").verdict, Verdict::Same);
}

/// Each gate of the spec is met, failed or undecided, with its reason.
#[test]
fn gates_decide() {
    let found = judged(&prediction("x86_64"));
    let state = |candidate, name| gate(&found, candidate, name).state;
    for name in ["no-added-splats", "control-splat-removed", "rate-at-least", "not-worse"] {
        assert_eq!(state("no-check-helper", name), GateState::Met, "{name}");
    }
    assert_eq!(state("peter-removal", "rate-at-least"), GateState::Failed);
    assert_eq!(state("peter-removal", "not-worse"), GateState::Failed);
    assert_eq!(state("peter-removal", "control-splat-removed"), GateState::Met);
    assert!(gate(&found, "peter-removal", "rate-at-least").reason.contains("below 99.9%"));
    let mut few = clean("no-check-helper", "x86_64");
    few.boots[0].blocks.retain(|b| b.block < 2);
    let found = judged(&with(few));
    let row = gate(&found, "no-check-helper", "rate-at-least");
    assert_eq!(row.state, GateState::Undecided);
    assert!(row.reason.contains("needs about"), "{}", row.reason);
}

/// Stock against stock blames nobody: eighty bake-offs in which every boot
/// draws its own rate and every block its own, as boots and blocks do.
#[test]
fn the_reference_against_itself_blames_nobody() {
    let mut coins = Coins(2021);
    let mut open = 0;
    for round in 0..80 {
        let mut all = vec![clean("landed", "x86_64"), control("x86_64")];
        all.push(clean("no-check-helper", "x86_64"));
        // From nearly always to the rate of fast sampling, where the slot is busy.
        let rate = [0.9995, 0.998, 0.989, 0.9][round % 4];
        for seen in &mut all {
            for boot in &mut seen.boots {
                let of_boot = rate + (coins.unit() - 0.5) * (1.0 - rate) * 0.2;
                for block in &mut boot.blocks {
                    let of_block = of_boot + (coins.unit() - 0.5) * (1.0 - of_boot);
                    let right = coins.heads(block.counts.calls, of_block);
                    block.counts.top = Score { valid: right, correct: right };
                    block.counts.all = block.counts.top;
                }
            }
        }
        let found = judged(&all);
        let row = verdict(&found, "no-check-helper");
        assert!(
            matches!(row.verdict, Verdict::Same | Verdict::Inconclusive),
            "round {round}: {row:#?}"
        );
        open += u32::from(row.verdict == Verdict::Inconclusive && rate > 0.999);
    }
    assert_eq!(open, 0, "high rates are settled by the calls there are");
}

/// A stall in one boot may be the host's; lockdep's own limits are ours.
#[test]
fn reports_that_are_not_the_patchs_are_inconclusive() {
    for (kind, title, boots, expected) in [
        ("HANG", "INFO: rcu detected stall in foo", 1, Change::Unclear),
        ("HANG", "INFO: rcu detected stall in foo", 2, Change::Added),
        ("LOCKDEP", "BUG: MAX_LOCKDEP_ENTRIES too low!", 2, Change::Unclear),
        ("SYZ_FAILURE", "SYZFAIL: x", 2, Change::Unclear),
    ] {
        let mut seen = clean("no-check-helper", "x86_64").splats(title, 1);
        seen = seen.last_splat(|splat| splat.kind = kind.into());
        if boots == 2 {
            let mut again = seen.boots[0].clone();
            again.name = "0-001".into();
            seen.boots.push(again);
        }
        let found = judged(&with(seen));
        assert_eq!(change(&found, "no-check-helper", title), expected, "{title} {boots}");
        let worse = verdict(&found, "no-check-helper").verdict == Verdict::Worse;
        assert_eq!(worse, expected == Change::Added, "{title} {boots}");
    }
}

/// Nothing at all, half a run, and a run without reference do not panic and
/// settle nothing.
#[test]
fn partial_runs_settle_nothing() {
    assert_eq!(judged(&[]), Comparison::default().clone_with(judged(&[]).not_tested));
    let found = judged(&[clean("no-check-helper", "x86_64")]);
    assert_eq!(verdict(&found, "no-check-helper").verdict, Verdict::Inconclusive);
    // A reference that ran once says so: its noise is not known.
    let once = clean("landed", "x86_64").boots(|boot| boot.round == 0);
    says(&judged(&[once]), "landed", "1 of 2 rounds");
    let found = judged(&[clean("landed", "x86_64"), clean("peter-removal", "x86_64")]);
    assert_eq!(verdict(&found, "peter-removal").verdict, Verdict::Same, "no control was planned");
}

/// The same input gives the same rows, whatever else the process did.
#[test]
fn the_comparison_is_deterministic() {
    assert_eq!(judged(&prediction("x86_64")), judged(&prediction("x86_64")));
}

/// Every oracle has a story in which it finds something, and every metric of
/// every probe is known.
#[test]
fn every_row_of_the_tables_is_exercised() {
    let mut reference = clean("landed", "x86_64").splats("INFO: x", 1);
    reference.boots[1].splats.clear();
    let mut wrong = clean("lockless-tree", "x86_64").lockdep_off_after(25).splats("BUG in y", 1);
    wrong.boots[0].blocks[0].counts.top.correct = 1;
    let mut all = with(wrong);
    all[0] = reference;
    let subject =
        Subject { claim: Some(crate::spec::plan::Claim::new(99.9).unwrap()), ..subject() };
    let found = compare(&subject, &all, &Settings::default());
    let healthy = judged(&[clean("landed", "x86_64"), clean("as-reported", "x86_64")]);
    let churn = super::flip::tests::story();
    let findings = found.findings.iter().chain(&healthy.findings).chain(&churn.findings);
    let heard: BTreeSet<&str> = findings.map(|f| f.oracle.as_str()).collect();
    let table: BTreeSet<&str> = ORACLES.iter().map(|o| o.name).collect();
    assert_eq!(heard, table);
    assert_eq!(table.len(), ORACLES.len(), "names are unique");
    for probe in crate::spec::plan::PROBES {
        for metric in probe.metrics {
            assert!(METRICS.iter().any(|m| m.name == *metric && m.probe == probe.name), "{metric}");
        }
    }
}

/// The lists of what there is to test name every context and condition.
#[test]
fn no_context_is_forgotten() {
    let text = serde_json::to_string(&schemars::schema_for!(bakeoff_fuzz::wire::Context)).unwrap();
    assert_eq!(text.matches("\"const\"").count(), CONTEXTS.len(), "{text}");
    let text = serde_json::to_string(&schemars::schema_for!(bakeoff_fuzz::wire::Stress)).unwrap();
    assert_eq!(text.matches("\"const\"").count(), STRESSES.len(), "{text}");
}

impl Comparison {
    fn clone_with(self, not_tested: Vec<NotTested>) -> Comparison {
        Comparison { not_tested, ..self }
    }
}

/// A prediction holds, fails, or cannot be told, with the numbers it rests on.
#[test]
fn predictions_are_held_against_the_evidence() {
    let all = prediction("x86_64");
    let found = compare(&subject(), &all, &Settings::default());
    let outcomes: Vec<(&str, Outcome)> =
        found.predictions.iter().map(|p| (p.place.candidate.as_str(), p.outcome)).collect();
    assert_eq!(
        outcomes,
        [
            ("peter-removal", Outcome::Confirmed),
            ("landed", Outcome::Refuted),
            ("lockless-tree", Outcome::Undecided),
        ]
    );
    assert!(found.predictions.iter().all(|p| !p.reason.is_empty()));
}

mod rates;
