// SPDX-License-Identifier: MIT OR Apache-2.0
use super::story::{
    BUSY, BUSY_SLOT, CALL_NS, CALLS, CLAIM, DUTY, IDLE, Story, TIME_CLAIM, TOP, half,
};
use crate::judge::claims::Looks;
use crate::judge::compare::looks;
use crate::judge::row::{ClaimReading, Direction};

/// All of the interval on the good side gains, all of it on the bad side loses.
#[test]
fn gains_and_losses() {
    let mut story = Story::of(CLAIM);
    story.right("mine", IDLE, TOP, &half(20));
    let row = story.claim("mine", "idle");
    assert_eq!(row.reading, ClaimReading::Gains, "{row:?}");
    assert!((row.estimate.unwrap() - 0.2).abs() < 1e-9 && row.low.unwrap() > 0.1);
    assert_eq!((row.visits, row.calls), (12, 1200));
    story.right("mine", IDLE, TOP, &half(-20));
    assert_eq!(story.claim("mine", "idle").reading, ClaimReading::Loses);
}

/// A loss that is surely smaller than the margin is told apart from one that is not.
#[test]
fn small_losses_are_told_apart() {
    let mut story = Story::of(&CLAIM.replace("5 points", "50 points"));
    story.right("mine", IDLE, TOP, &half(-20));
    assert_eq!(story.claim("mine", "idle").reading, ClaimReading::LosesLittle);
}

/// No loss beyond the margin is no worse; what reaches beyond it is open and says what it
/// would take, in visits and minutes.
#[test]
fn no_worse_or_open() {
    let story = Story::of(&CLAIM.replace("5 points", "10 points"));
    let row = story.claim("mine", "idle");
    assert_eq!((row.reading, row.to_decide), (ClaimReading::NoWorse, None), "{row:?}");
    let story = Story::of(&CLAIM.replace("5 points", "0.5 points"));
    let row = story.claim("mine", "idle");
    assert_eq!(row.reading, ClaimReading::Open);
    let need = row.to_decide.unwrap();
    assert!(need.visits > 0 && need.minutes > 0.0, "{need:?}");
}

/// A condition that one kernel never did leaves the claim not reached, with its name.
#[test]
fn what_was_never_done_is_not_reached() {
    let mut story = Story::of(CLAIM);
    let step = story.step(IDLE);
    story.boots("mine").into_iter().for_each(|boot| boot.visits.retain(|v| v.step != step));
    let row = story.claim("mine", "idle");
    assert_eq!((row.reading, row.estimate), (ClaimReading::NotReached, None));
    assert!(row.reason.contains(&row.conditions[0]), "{}", row.reason);
}

/// What the reference never gets right cannot be lost: that is no "no worse".
#[test]
fn nothing_can_be_lost_of_nothing() {
    let mut story = Story::of(CLAIM);
    for who in ["landed", "mine"] {
        story.right(who, IDLE, TOP, &[0]);
    }
    let row = story.claim("mine", "idle");
    assert_eq!(row.reading, ClaimReading::NotReached);
    assert!(row.reason.contains("nothing can be lost"), "{}", row.reason);
    assert_eq!(story.verdict("mine").verdict, crate::judge::row::Verdict::Open);
    story.right("mine", IDLE, TOP, &half(0));
    assert_eq!(story.claim("mine", "idle").reading, ClaimReading::Gains);
}

/// The reference has a row with its own value, no difference, and nothing to decide; the
/// control has none.
#[test]
fn the_reference_shows_its_own_value() {
    let story = Story::of(&CLAIM.replace("5 points", "0.5 points"));
    let row = story.claim("landed", "idle");
    assert!(row.value.is_some_and(|value| (value - 0.5).abs() < 1e-9), "{row:?}");
    assert_eq!((row.estimate, row.low, row.to_decide), (None, None, None));
    assert_eq!(row.reading, ClaimReading::NoWorse, "nothing differs from itself");
    let claims = story.compare().claims;
    assert!(claims.iter().all(|row| row.place.candidate != "reported"));
    assert!(claims.iter().any(|row| row.place.candidate == "naive"));
}

/// Of a number less can be better, and its estimate is a ratio.
#[test]
fn less_can_be_better() {
    let mut story = Story::of(TIME_CLAIM);
    let base = [100.0, 101.0, 99.0];
    for who in ["landed", "mine", "naive"] {
        story.value(who, IDLE, CALL_NS, &base);
    }
    assert_eq!(story.claim("mine", "time").reading, ClaimReading::NoWorse);
    story.value("mine", IDLE, CALL_NS, &base.map(|ns| ns * 1.2));
    let row = story.claim("mine", "time");
    assert_eq!((row.reading, row.better), (ClaimReading::Loses, Direction::Lower));
    assert!((row.estimate.unwrap() - 1.2).abs() < 1e-6, "{row:?}");
    story.value("mine", IDLE, CALL_NS, &base.map(|ns| ns * 0.8));
    assert_eq!(story.claim("mine", "time").reading, ClaimReading::Gains);
}

/// Where the load was measured both sides of it are shown.
#[test]
fn the_measured_load_is_shown() {
    let mut story = Story::of(&CLAIM.replace(IDLE, BUSY));
    let load = |by: f64| [0.40, 0.50, 0.60, 0.45].map(|duty| duty + by);
    for (who, by) in [("landed", 0.0), ("mine", 0.1), ("naive", 0.0)] {
        story.value(who, BUSY, DUTY, &load(by));
    }
    let found = story.claim("mine", "idle").load.unwrap();
    assert!(found.candidate - found.reference > 0.05, "{found:?}");
}

/// A claim is judged on production kernels: what a kernel with lockdep loses is shown, not
/// judged.
#[test]
fn claims_are_judged_on_production_alone() {
    let mut story = Story::of(&CLAIM.replace("[production]", "[lockdep, production]"));
    let lockdep = story.of_mut("mine").find(|seen| seen.cell.id.profile == "lockdep").unwrap();
    for block in lockdep.boots.iter_mut().flat_map(|b| &mut b.visits).flat_map(|v| &mut v.blocks) {
        block.shares.values_mut().for_each(|share| share.right = 0);
    }
    let found = story.compare();
    let ours: Vec<_> = found.claims.iter().filter(|r| r.place.candidate == "mine").collect();
    assert_eq!(ours.len(), 1);
    assert_eq!(ours[0].place.profile, "production");
    assert!((ours[0].value.unwrap() - 0.5).abs() < 1e-9);
}

/// What does not count is named in words with its number; what was asked for and lost is
/// bounded at its worst; causes of failures are in words too.
#[test]
fn excluded_missing_and_causes() {
    let mut story = Story::of(CLAIM);
    for visit in story.visits("mine", IDLE) {
        visit.blocks[0].exclude("errno/0", 3);
        visit.blocks[0].exclude("missed", 25);
        visit.blocks[0].note(BUSY_SLOT, 2);
    }
    let row = story.measure("mine", IDLE, TOP);
    let numbers: Vec<u64> = row.excluded.values().copied().collect();
    assert_eq!(numbers.iter().sum::<u64>(), 12 * 28, "{:?}", row.excluded);
    assert!(row.excluded.keys().any(|words| words.ends_with("(0)")), "{:?}", row.excluded);
    assert!(row.excluded.contains_key("the kernel did not run the program"));
    assert_eq!(row.causes.values().sum::<u64>(), 24, "{:?}", row.causes);
    let claim = story.claim("mine", "idle");
    let missing = claim.missing.unwrap();
    assert!((missing.candidate - 0.2).abs() < 1e-9 && missing.reference == 0.0);
    assert!(missing.low.unwrap() < claim.low.unwrap(), "{claim:?}");
}

/// Axes of a condition carry the value that was measured next to the one that was asked.
#[test]
fn axes_are_measured() {
    let mut story = Story::of(CLAIM);
    story.value("mine", BUSY, DUTY, &[0.31]);
    let axes = story.measure("mine", BUSY, TOP).axes;
    let duty = axes.iter().find(|axis| axis.unit == "%").unwrap();
    assert_eq!((duty.value, duty.measured), (25.0, Some(31.0)));
}

/// Blocks that ran with lockdep off prove nothing and are left out; a visit of nothing
/// else does not count.
#[test]
fn blocks_without_lockdep_are_left_out() {
    let mut story = Story::of(&CLAIM.replace("[production]", "[lockdep]"));
    for visit in story.visits("mine", IDLE).into_iter().take(2) {
        visit.blocks[4].debug_locks_after = Some(false);
    }
    for block in &mut story.visits("mine", IDLE)[2].blocks {
        block.debug_locks_before = Some(false);
    }
    let row = story.measure("mine", IDLE, TOP);
    assert_eq!((row.calls, row.visits, row.boots), (11 * CALLS - 40, 11, 11));
}

/// Blocks of more than twenty calls are no unit where nothing failed: the bound is that of
/// their calls in blocks of twenty.
#[test]
fn large_blocks_are_no_unit() {
    let bound = |calls_per_block: &str| {
        let mut story = Story::of(CLAIM);
        let step = story.step(IDLE);
        let planned = story.plan.steps.iter_mut().find(|p| p.step.id == step).unwrap();
        planned.step.calls_per_block = calls_per_block.parse().unwrap();
        for who in ["landed", "mine", "naive", "reported"] {
            story.right(who, IDLE, TOP, &[CALLS]);
        }
        if calls_per_block != "20" {
            for who in ["landed", "mine", "naive", "reported"] {
                for visit in story.visits(who, IDLE) {
                    visit.blocks.truncate(1);
                    let block = &mut visit.blocks[0];
                    block.calls = CALLS;
                    block.shares.get_mut(TOP).unwrap().of = CALLS;
                    block.shares.get_mut(TOP).unwrap().right = CALLS;
                }
            }
        }
        story.claim("mine", "idle").low.unwrap()
    };
    assert!((bound("20") - bound("100")).abs() < 1e-9);
}

/// A condition that failed on our side, one that cannot be had and one the guest died in
/// say so in the row that has no number.
#[test]
fn an_empty_row_says_why() {
    use bakeoff_fuzz::wire::StepOutcome;
    let says = |outcome: Option<StepOutcome>| {
        let mut story = Story::of(CLAIM);
        for visit in story.visits("mine", IDLE) {
            visit.outcome = outcome.clone();
            visit.blocks.clear();
        }
        story.measure("mine", IDLE, TOP).reason
    };
    assert_eq!(says(Some(StepOutcome::Unreachable { reason: "no NMI".into() })), "no NMI");
    let failed = says(Some(StepOutcome::Failed { reason: "EPERM".into() }));
    assert_eq!(failed, "the probe failed: EPERM");
    assert_eq!(says(None), "the guest dies or hangs here (12 of 12)");
}

/// The visits of claims are there for the charts, boots of all kernels interleaved.
#[test]
fn visits_come_in_the_order_of_time() {
    let rows = Story::of(CLAIM).compare().visits;
    assert_eq!(rows.len(), 12 * 4);
    assert!(rows.iter().zip(0..).all(|(row, order)| row.order == order));
    let boots: Vec<&str> = rows.iter().map(|row| row.boot.as_str()).collect();
    assert!(boots.is_sorted(), "{boots:?}");
}

/// All claims of all contenders hold together; a claim about a family of metrics is as many
/// as were measured.
#[test]
fn members_of_a_family_hold_together_too() {
    let spec = r#"version: 1
name: demo
title: A demonstration
bases: {"6.12": {directory: linux}}
candidates:
  landed: {role: reference, stock: true, title: the tree as it is}
  mine: {stock: true, title: one answer}
  yours: {stock: true, title: another}
architectures: [x86_64, arm64]
profiles: [production]
probes:
  - {probe: command, run: ./bench, read: [exit, ktap]}
claims:
  - {claim: ends, question: Does it end well?, metric: command.pass, conditions: [command], margin: 5 points}
  - {claim: tests, question: Do its tests pass?, metric: command.test/, conditions: [command], margin: 5 points}
"#;
    let mut story = Story::of_spec(spec);
    let claims = |story: &Story| looks(&story.plan, &story.seen);
    // Nothing was measured yet: two claims of two contenders on two architectures.
    assert_eq!(claims(&story), Looks::extendable(8));
    let label = story.plan.steps[0].label.clone();
    for metric in ["command.test/a", "command.test/b", "command.test/c"] {
        story.right("mine", &label, metric, &[100]);
    }
    assert_eq!(claims(&story), Looks::extendable(16));
    // What neither the reference nor he has is not his.
    let of = |who: &str| {
        let rows = story.compare().claims.into_iter();
        rows.filter(|row| row.place.candidate == who && row.claim.starts_with("tests/")).count()
    };
    assert_eq!((of("mine"), of("yours"), of("landed")), (6, 0, 0));
}

/// A test of one command is not missed in the others: only the steps that have it count.
#[test]
fn a_test_is_asked_of_its_own_command() {
    let spec = "\
probes:
  - {probe: command, name: one, run: ./one, read: ktap}
  - {probe: command, name: two, run: ./two, read: ktap}
profiles: [production]
claims:
  - {claim: tests, question: Do they pass?, metric: command.test/, conditions: [command/one, command/two], margin: 25 points}
";
    let mut story = Story::of_probes(spec);
    for who in ["landed", "reported", "mine", "naive"] {
        story.right(who, "command/one", "command.test/a", &[100]);
        story.right(who, "command/two", "command.test/b", &[100]);
    }
    let rows = story.compare().claims;
    let mine: Vec<_> = rows.iter().filter(|row| row.place.candidate == "mine").collect();
    let metrics: Vec<&str> = mine.iter().map(|row| row.metric.as_str()).collect();
    assert_eq!(metrics, ["command.test/a", "command.test/b"]);
    for row in mine {
        assert_ne!(row.reading, ClaimReading::NotReached, "{row:?}");
    }
}
