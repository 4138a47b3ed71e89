// SPDX-License-Identifier: MIT OR Apache-2.0
use super::story::{BUSY, CLAIM, IDLE, LEGAL, PAIRS, Story, TOP, half};
use crate::judge::row::GateState::{self, Failed, Passed, Undecided};

/// The story with this gate, and how it stands for the contender.
fn asked(gate: &str, tell: impl FnOnce(&mut Story)) -> GateState {
    let mut story = Story::of(&format!("{CLAIM}gates: [{{{gate}}}]\n"));
    tell(&mut story);
    let rows = story.compare().gates;
    assert_eq!(rows.len(), 1, "gates are asked of contenders");
    assert!(!rows[0].reason.is_empty() && !rows[0].name.is_empty());
    rows[0].state
}

fn right(story: &mut Story, of_100: u64) {
    story.right("mine", IDLE, TOP, &[of_100, of_100 + u64::from(of_100 < 100 && of_100 > 0)]);
}

/// A lower bound passes above, fails below, and is undecided where the interval has it.
#[test]
fn at_least() {
    let gate = format!("gate: at-least, metric: {TOP}, condition: {IDLE}, value: 0.5");
    assert_eq!(asked(&gate, |story| right(story, 90)), Passed);
    assert_eq!(asked(&gate, |story| right(story, 10)), Failed);
    assert_eq!(asked(&gate, |_| ()), Undecided);
}

/// The same for an upper bound.
#[test]
fn at_most() {
    let gate = format!("gate: at-most, metric: {TOP}, condition: {IDLE}, value: 0.5");
    assert_eq!(asked(&gate, |story| right(story, 90)), Failed);
    assert_eq!(asked(&gate, |story| right(story, 10)), Passed);
    assert_eq!(asked(&gate, |_| ()), Undecided);
}

/// "Never" fails with one right call; with none it passes only where all blocks together
/// bound the share.
#[test]
fn never() {
    let gate =
        |value: f64| format!("gate: never, metric: {TOP}, condition: {IDLE}, value: {value}");
    assert_eq!(asked(&gate(0.1), |story| right(story, 0)), Passed);
    assert_eq!(asked(&gate(0.001), |story| right(story, 0)), Undecided);
    assert_eq!(asked(&gate(0.1), |_| ()), Failed);
}

/// A metric falls where the intervals do not meet, and does not where it is no lower.
#[test]
fn falls() {
    let gate = format!("gate: falls, metric: {TOP}, condition: \"{BUSY}\", from: {IDLE}");
    assert_eq!(asked(&gate, |story| story.right("mine", BUSY, TOP, &half(-30))), Passed);
    assert_eq!(asked(&gate, |story| story.right("mine", BUSY, TOP, &half(30))), Failed);
    assert_eq!(asked(&gate, |story| story.right("mine", BUSY, TOP, &half(-1))), Undecided);
}

/// A claim reads as asked, reads otherwise, or is open.
#[test]
fn claim_is() {
    let gate = "gate: claim-is, claim: idle, is: [gains]";
    assert_eq!(asked(gate, |story| story.right("mine", IDLE, TOP, &half(20))), Passed);
    assert_eq!(asked(gate, |story| story.right("mine", IDLE, TOP, &half(-20))), Failed);
    let unsure = [20, 80, 30, 70, 50, 50, 10, 90, 45, 55, 60, 40];
    assert_eq!(asked(gate, |story| story.right("mine", IDLE, TOP, &unsure)), Undecided);
}

/// The control's splat is gone, still there, or there is none to be gone.
#[test]
fn control_splat_removed() {
    let gate = "gate: control-splat-removed";
    assert_eq!(asked(gate, |story| story.splat("reported", "WARNING in x", 12)), Passed);
    let both = |story: &mut Story| {
        story.splat("reported", "WARNING in x", 12);
        story.splat("mine", "WARNING in x", 1);
    };
    assert_eq!(asked(gate, both), Failed);
    assert_eq!(asked(gate, |_| ()), Undecided);
}

/// A confirmed splat fails the gate; one seen once does not; a garbled one leaves it open.
#[test]
fn no_new_splats() {
    let gate = "gate: no-new-splats";
    assert_eq!(asked(gate, |_| ()), Passed);
    assert_eq!(asked(gate, |story| story.splat("mine", "WARNING in x", 1)), Passed);
    assert_eq!(asked(gate, |story| story.splat("mine", "WARNING in x", 12)), Failed);
    let garbled = |story: &mut Story| {
        story.splat("mine", "WARNING in x", 1);
        story.boots("mine")[0].splats[0].corrupted = true;
    };
    assert_eq!(asked(gate, garbled), Undecided);
    let dead = |story: &mut Story| story.of_mut("mine").for_each(|seen| seen.boots.clear());
    assert_eq!(asked(gate, dead), Undecided);
}

/// A splat that was looked for reads as asked; one nobody ever saw cannot be judged.
#[test]
fn splat_is() {
    let gate = "gate: splat-is, title: WARNING in x, is: [fixed]";
    assert_eq!(asked(gate, |story| story.splat("reported", "WARNING in x", 12)), Passed);
    assert_eq!(asked(gate, |story| story.splat("mine", "WARNING in x", 12)), Failed);
    assert_eq!(asked(gate, |_| ()), Undecided);
}

/// Wrong answers: a zero that counts, one that does not, and wrong ones.
#[test]
fn wrong_is() {
    let gate = "gate: wrong-is, metric: flip.legal, is: [none]";
    assert_eq!(asked(gate, |story| story.right("naive", PAIRS, LEGAL, &[90])), Passed);
    assert_eq!(asked(gate, |_| ()), Undecided);
    assert_eq!(asked(gate, |story| story.right("mine", PAIRS, LEGAL, &[90])), Failed);
}

/// The verdict is as asked, otherwise, or open.
#[test]
fn verdict_is() {
    let gate = "gate: verdict-is, is: [ok]";
    assert_eq!(asked(gate, |story| story.right("mine", IDLE, TOP, &half(20))), Passed);
    assert_eq!(asked(gate, |story| story.right("mine", IDLE, TOP, &half(-20))), Failed);
    let never = |story: &mut Story| story.of_mut("mine").for_each(|seen| seen.boots.clear());
    assert_eq!(asked(gate, never), Undecided);
}

/// A prediction is asked of its candidate, whatever its role, and keeps what was said when
/// it was changed.
#[test]
fn predictions_are_confirmed_or_refuted() {
    let mut story = Story::of(&format!(
        "{CLAIM}predictions:
  - {{candidate: mine, says: it gains, holds-if: {{gate: claim-is, claim: idle, is: [gains]}}}}
  - {{candidate: reported, says: it warns, amended: the title was wrong, holds-if: {{gate: splat-is, title: WARNING in x, is: [control]}}}}
"
    ));
    story.splat("reported", "WARNING in x", 12);
    story.right("mine", IDLE, TOP, &half(-20));
    let rows = story.compare().predictions;
    assert_eq!(rows.iter().map(|row| row.state).collect::<Vec<_>>(), [Failed, Passed]);
    assert_eq!(rows[1].amended.as_deref(), Some("the title was wrong"));
}
