// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stories about rates: gates, profiles, claims, stopping.

use super::*;

/// Gates may name any rate, any change of a splat and any verdict.
#[test]
fn gates_name_rates_splats_and_verdicts() {
    let state = |candidate: &str, yaml: &str| {
        let gate: Gate = crate::spec::yaml(yaml, "gate").unwrap();
        let subject = Subject { gates: vec![gate], ..subject() };
        let found = compare(&subject, &prediction("x86_64"), &Settings::default());
        let row = found.gates.iter().find(|g| g.place.candidate == candidate).unwrap();
        (row.state, row.reason.clone())
    };
    let top = "metric: build_id.top_frame";
    use GateState::{Failed, Met, Undecided};
    for (candidate, yaml, expected) in [
        ("peter-removal", format!("{{gate: rate-at-most, {top}, rate: 0.01}}"), Met),
        ("lockless-tree", format!("{{gate: rate-at-most, {top}, rate: 0.01}}"), Failed),
        ("lockless-tree", format!("{{gate: rate-at-most, {top}, rate: 0.99999}}"), Undecided),
        ("lockless-tree", format!("{{gate: rate-at-least, {top}, rate: 0.99}}"), Met),
        ("lockless-tree", format!("{{gate: rate-is, {top}, is: [same, better]}}"), Met),
        (
            "peter-removal",
            format!("{{gate: rate-is, {top}, probe: build_id/hardirq, is: [same]}}"),
            Failed,
        ),
        ("peter-removal", "{gate: verdict-is, is: [worse]}".into(), Met),
        ("lockless-tree", "{gate: verdict-is, is: [better]}".into(), Failed),
        (
            "lockless-tree",
            "{gate: splat-is, title: WARNING in find_vma, is: [removed]}".into(),
            Met,
        ),
        (
            "lockless-tree",
            "{gate: splat-is, title: WARNING in find_vma, is: [control]}".into(),
            Failed,
        ),
        ("lockless-tree", "{gate: splat-is, title: BUG in foo, is: [removed]}".into(), Undecided),
        ("lockless-tree", "{gate: no-splats, change: [added, control]}".into(), Met),
        ("lockless-tree", "{gate: no-splats, change: [removed]}".into(), Failed),
    ] {
        let (state, reason) = state(candidate, &yaml);
        assert_eq!(state, expected, "{candidate} {yaml}: {reason}");
        assert!(!reason.is_empty());
    }
}

/// A fall is one rate against another of the same kernel, and shown by their difference.
#[test]
fn a_fall_is_between_two_conditions() {
    let yaml = "{gate: rate-falls, metric: build_id.top_frame, \
                probe: build_id/hardirq/idle/4000us, from: build_id/process/idle}";
    let gate: Gate = crate::spec::yaml(yaml, "gate").unwrap();
    let ask = |answered: u64| {
        let subject = Subject { gates: vec![gate.clone()], ..subject() };
        let tree = clean("lockless-tree", "x86_64").answers(HARDIRQ, answered);
        let found = compare(&subject, &with(tree), &Settings::default());
        found.gates.into_iter().find(|g| g.place.candidate == "lockless-tree").unwrap()
    };
    for (answered, expected) in [(199, GateState::Met), (200, GateState::Failed)] {
        let row = ask(answered);
        assert_eq!(row.state, expected, "{answered}: {}", row.reason);
        assert!(row.reason.contains("process/idle"), "{}", row.reason);
    }
}

/// "Never" is refuted by one right call, and met by the calls of all conditions together
/// where those of one would not do.
#[test]
fn never_is_told_by_all_conditions_together() {
    let ask = |rate: f64, answered: u64| {
        let yaml = format!("{{gate: rate-never, metric: build_id.top_frame, rate: {rate}}}");
        let gate: Gate = crate::spec::yaml(&yaml, "gate").unwrap();
        let subject = Subject { gates: vec![gate], ..subject() };
        let removal = clean("peter-removal", "x86_64");
        let steps: BTreeSet<u32> = removal.boots[0].blocks.iter().map(|b| b.step).collect();
        let none = steps.iter().fold(removal, |seen, step| seen.answers(*step, 0));
        let removal = none.answers(HARDIRQ, answered);
        let found = compare(&subject, &with(removal), &Settings::default());
        let of = |place: &Place| place.candidate == "peter-removal";
        let highest = found.rates.iter().filter(|row| of(&row.place) && row.calls > 0);
        let highest = highest.filter_map(|row| row.high).fold(0.0, f64::max);
        (found.gates.into_iter().find(|gate| of(&gate.place)).unwrap(), highest)
    };
    let (row, highest) = ask(0.001, 0);
    assert_eq!(row.state, GateState::Met, "{}", row.reason);
    assert!(row.reason.contains("none of"), "{}", row.reason);
    assert!(highest > 0.001, "one condition alone shows no more than {highest}");
    let (row, _) = ask(0.000_001, 0);
    assert_eq!(row.state, GateState::Undecided, "{}", row.reason);
    let (row, _) = ask(0.001, 1);
    assert_eq!(row.state, GateState::Failed, "{}", row.reason);
}

/// What no kernel can do, the reference included, keeps no gate open beside what was
/// measured; what only this kernel cannot do does.
#[test]
fn what_nobody_reaches_decides_no_gate() {
    let unreachable = |seen: Observation| {
        seen.step_ends(HARDIRQ, StepOutcome::Unreachable { reason: "no".into() })
    };
    let gate = "{gate: rate-at-least, metric: build_id.top_frame, rate: 0.99}";
    let gate: Gate = crate::spec::yaml(gate, "gate").unwrap();
    let ask = |all: Vec<Observation>| {
        let subject = Subject { gates: vec![gate.clone()], ..subject() };
        let found = compare(&subject, &all, &Settings::default());
        found.gates.into_iter().find(|g| g.place.candidate == "lockless-tree").unwrap()
    };
    let everybody = prediction("x86_64").into_iter().map(unreachable).collect();
    let row = ask(everybody);
    assert_eq!(row.state, GateState::Met, "{}", row.reason);
    let row = ask(with(unreachable(clean("lockless-tree", "x86_64"))));
    assert_eq!(row.state, GateState::Undecided, "{}", row.reason);
}

/// A report that was cut says nothing of its kind beside whole ones.
#[test]
fn cut_reports_decide_no_gate() {
    let title = "WARNING in find_vma";
    let control = clean("as-reported", "x86_64").splats(title, 3);
    let cut = control.splats(title, 1).last_splat(|splat| {
        splat.fingerprint = "corrupted".into();
        splat.corrupted = true;
        splat.secondary = true;
    });
    let rule = "{gate: splat-is, title: WARNING in find_vma, is: [control]}";
    let gate: Gate = crate::spec::yaml(rule, "gate").unwrap();
    let predictions =
        vec![Prediction { candidate: "as-reported".into(), says: "splats".into(), holds_if: gate }];
    let subject = Subject { predictions, ..subject() };
    let all = [clean("landed", "x86_64"), cut];
    let found = compare(&subject, &all, &Settings::default());
    assert!(found.splats.iter().any(|row| row.change == Change::Secondary), "{:?}", found.splats);
    assert_eq!(found.predictions[0].outcome, Outcome::Confirmed, "{:?}", found.predictions);
}

fn on_production(mut seen: Observation) -> Observation {
    for boot in &mut seen.boots {
        boot.hello.iter_mut().for_each(|hello| hello.debug_locks = None);
        for block in &mut boot.blocks {
            (block.debug_locks_before, block.debug_locks_after) = (None, None);
        }
    }
    seen.profile("production")
}

/// Where a production kernel was measured its rates decide: a debug kernel's are
/// shown and blame nobody, and count for no correction.
#[test]
fn rates_of_debug_kernels_are_not_judged() {
    let mut all = with(clean("no-check-helper", "x86_64").answers(PROCESS, 500));
    let alone = judged(&all);
    assert_eq!(verdict(&alone, "no-check-helper").verdict, Verdict::Worse);
    all.extend(["landed", "no-check-helper"].map(|name| on_production(clean(name, "x86_64"))));
    let found = judged(&all);
    assert_eq!(verdict(&found, "no-check-helper").verdict, Verdict::Same);
    let of = |found: &Comparison, profile: &str| -> Vec<RateRow> {
        let own =
            |r: &&RateRow| r.place.candidate == "no-check-helper" && r.place.profile == profile;
        found.rates.iter().filter(own).cloned().collect()
    };
    for row in of(&found, "lockdep") {
        assert!(!row.judged && row.difference.is_none() && row.low.is_some(), "{row:?}");
        assert!(row.reason.contains("debug kernel"), "{}", row.reason);
    }
    // Four comparisons in all, of the one candidate that has a production kernel.
    let each = of(&found, "production")[0].difference.unwrap().confidence;
    assert!((each - stats::corrected(0.95, 4)).abs() < 1e-8, "{each}");
}

/// Every boot has a rate of its own, whatever the kernel.
fn restless(names: &[&str], boots: usize) -> Vec<Observation> {
    let mut coins = Coins(3);
    let mut all: Vec<Observation> = names.iter().map(|name| clean(name, "x86_64")).collect();
    for seen in &mut all {
        let more: Vec<BootObservation> = seen.boots.iter().cycle().take(boots).cloned().collect();
        seen.boots = more;
        for boot in &mut seen.boots {
            let rate = 0.7 + 0.2 * coins.unit();
            for block in &mut boot.blocks {
                let right = coins.heads(block.counts.calls, rate);
                block.counts.top = Score { valid: right, correct: right };
                block.counts.all = block.counts.top;
            }
        }
    }
    all
}

/// Boots that differ, whatever the kernel, blame nobody where all of them are heard;
/// blocks of single boots would. Who answers nothing is found all the same.
#[test]
fn boots_that_differ_blame_nobody() {
    let names = ["landed", "as-reported", "no-check-helper", "lockless-tree"];
    let blamed = |all: &[Observation]| {
        let found = judged(all);
        let blame = |row: &&RateRow| matches!(row.verdict, Verdict::Worse | Verdict::Better);
        found.rates.iter().filter(blame).count()
    };
    assert!(blamed(&restless(&names, 1)) > 0, "the boots do not differ");
    let mut all = restless(&names, 4);
    assert_eq!(blamed(&all), 0);
    let rows = judged(&all).rates;
    assert!(rows.iter().all(|row| row.boot_effect.is_some_and(|effect| effect > 2.0)), "{rows:?}");
    all.push(clean("peter-removal", "x86_64").answers(PROCESS, 0).answers(HARDIRQ, 0));
    assert_eq!(verdict(&judged(&all), "peter-removal").verdict, Verdict::Worse);
    assert_eq!(blamed(&all), 4);
}

/// A condition may have a margin of its own.
#[test]
fn conditions_have_margins() {
    let mut subject = subject();
    subject.steps[0].margin_ppm = Some(100_000);
    let all = with(clean("no-check-helper", "x86_64").answers(PROCESS, 950).answers(HARDIRQ, 95));
    let found = compare(&subject, &all, &Settings::default());
    let of = |step: u32| {
        let own = |r: &&RateRow| r.place.candidate == "no-check-helper" && r.step == step;
        found.rates.iter().find(own).unwrap().clone()
    };
    assert_eq!((of(PROCESS).verdict, of(PROCESS).margin), (Verdict::Same, 0.1));
    assert_eq!((of(HARDIRQ).verdict, of(HARDIRQ).margin), (Verdict::Worse, 0.01));
}

/// A step is done in its profiles only, and nobody misses it elsewhere.
#[test]
fn steps_have_profiles() {
    let mut subject = subject();
    subject.steps[1].profiles = vec!["production".into()];
    let mut all = vec![clean("landed", "x86_64"), clean("no-check-helper", "x86_64")];
    for seen in &mut all {
        for boot in &mut seen.boots {
            boot.blocks.retain(|block| block.step == PROCESS);
            boot.asked.retain(|step| *step == PROCESS);
            boot.steps.remove(&HARDIRQ);
        }
    }
    all.extend(["landed", "no-check-helper"].map(|name| on_production(clean(name, "x86_64"))));
    let found = compare(&subject, &all, &Settings::default());
    assert_eq!(verdict(&found, "no-check-helper").verdict, Verdict::Same);
    let lockdep = found.rates.iter().filter(|row| row.place.profile == "lockdep");
    assert!(lockdep.clone().all(|row| row.step == PROCESS) && lockdep.count() == 4);
    assert!(found.cells.iter().all(|cell| cell.note.is_none()), "{:#?}", found.cells);
}

/// A claim holds, is refuted, or needs so many calls more; it blames nobody.
#[test]
fn claims_are_put_to_the_test() {
    let claim = |percent: f64| Some(crate::spec::plan::Claim::new(percent).unwrap());
    let mut all = prediction("x86_64");
    all[2].boots[0].blocks[0].counts.top.correct -= 3;
    all[2].boots[0].blocks[0].counts.top.valid -= 3;
    let of = |percent: f64, candidate: &str| {
        let subject = Subject { claim: claim(percent), ..subject() };
        let found = compare(&subject, &all, &Settings::default());
        let own = |r: &&RateRow| r.place.candidate == candidate && r.step == PROCESS;
        found.rates.iter().find(own).unwrap().claim.unwrap()
    };
    assert_eq!(of(99.9, "lockless-tree").state, ClaimState::Holds);
    assert_eq!(of(99.9, "peter-removal").state, ClaimState::Refuted);
    let open = of(99.999, "lockless-tree");
    assert_eq!((open.state, open.needs), (ClaimState::Open, Some(299_572 - 20_000)));
    // Three failures of 20,000 in one block: independent calls would show 99.9%.
    let clumped = of(99.9, "no-check-helper");
    assert_eq!(clumped.state, ClaimState::Open, "{clumped:?}");
    let holds = "99.9% holds: at least 99.98% with 95% confidence";
    assert_eq!(claim_words(&of(99.9, "lockless-tree")), holds);
    let subject = Subject { claim: claim(99.999), ..subject() };
    let found = compare(&subject, &prediction("x86_64"), &Settings::default());
    assert_eq!(verdict(&found, "lockless-tree").verdict, Verdict::Same);
}

/// A guest that ends a step before its rule allows it is our error.
#[test]
fn stopping_is_recounted() {
    let mut subject = subject();
    subject.steps[0].step.stop = bakeoff_fuzz::wire::Stop::Precise { half_width_ppm: 5_000 };
    let stopping = |at: u32| -> Vec<Observation> {
        let mut all = prediction("x86_64");
        let blocks = all.iter_mut().flat_map(|seen| &mut seen.boots);
        blocks.for_each(|boot| boot.blocks.retain(|b| b.step != PROCESS || b.block < at));
        all
    };
    let found = compare(&subject, &stopping(8), &Settings::default());
    assert_eq!(verdict(&found, "lockless-tree").verdict, Verdict::Same);
    let row = found.rates.iter().find(|row| row.place.candidate == "lockless-tree").unwrap();
    assert!(row.error_share.unwrap() < 0.1, "stopping at a look spends little: {row:?}");
    let found = compare(&subject, &stopping(7), &Settings::default());
    assert_eq!(verdict(&found, "lockless-tree").verdict, Verdict::Inconclusive);
    says(&found, "lockless-tree", "after 7 of 20 blocks");
}
