// SPDX-License-Identifier: MIT OR Apache-2.0
use super::story::{CLAIM, FLIP, LEGAL, Story};
use crate::judge::row::{Verdict, WrongReading};

/// No wrong answer counts where the negative control would have shown at least three.
#[test]
fn a_zero_counts_where_the_negative_control_shows_some() {
    let mut story = Story::of(CLAIM);
    story.right("naive", FLIP, LEGAL, &[98]);
    let row = story.wrong("mine");
    assert_eq!((row.reading, row.wrong, row.answers), (WrongReading::None, 0, 1200));
    assert!((row.expected.unwrap() - 24.0).abs() < 1e-9, "{row:?}");
    assert_eq!(story.wrong("naive").reading, WrongReading::Wrong);
    assert_eq!(story.wrong("naive").expected, None, "nobody is measured by himself");
}

/// Where the negative control shows none, or hardly any, no zero counts; and without one.
#[test]
fn a_zero_is_worth_nothing_otherwise() {
    let mut story = Story::of(CLAIM);
    assert_eq!(story.wrong("mine").reading, WrongReading::NotShown);
    let mut few = [100; 12];
    few[0] = 98;
    story.right("naive", FLIP, LEGAL, &few);
    let row = story.wrong("mine");
    assert_eq!(row.reading, WrongReading::NotShown, "{row:?}");
    let untested = story.compare().not_tested;
    assert!(untested.iter().any(|row| row.reason.contains("negative control")), "{untested:?}");
    story.right("naive", FLIP, LEGAL, &[98]);
    story.seen.retain(|seen| seen.cell.id.candidate != "naive");
    assert_eq!(story.wrong("mine").reading, WrongReading::NotShown);
}

/// Wrong answers in one boot are seen once, in two they are believed and speak against the
/// candidate. Until then the verdict is open.
#[test]
fn wrong_answers_are_believed_in_two_boots() {
    let mut story = Story::of(&CLAIM.replace("5 points", "10 points"));
    let mut right = [100; 12];
    right[3] = 90;
    story.right("mine", FLIP, LEGAL, &right);
    let row = story.wrong("mine");
    assert_eq!((row.reading, row.wrong, row.seen.k), (WrongReading::SeenOnce, 10, 1));
    assert_eq!(story.verdict("mine").verdict, Verdict::Open);
    right[9] = 99;
    story.right("mine", FLIP, LEGAL, &right);
    let row = story.wrong("mine");
    assert_eq!((row.reading, row.wrong, row.seen.k, row.seen.n), (WrongReading::Wrong, 11, 2, 12));
    assert_eq!(story.verdict("mine").verdict, Verdict::NotOk);
}

/// A wrong answer is one even if the guest died before the visit ended.
#[test]
fn wrong_answers_of_dying_guests_count() {
    let mut story = Story::of(CLAIM);
    story.right("mine", FLIP, LEGAL, &[99]);
    story.visits("mine", FLIP).into_iter().for_each(|visit| visit.outcome = None);
    assert_eq!(story.wrong("mine").reading, WrongReading::Wrong);
}

/// Without an answer nothing was reached.
#[test]
fn no_answer_is_not_reached() {
    let mut story = Story::of(CLAIM);
    for visit in story.visits("mine", FLIP) {
        visit.blocks.iter_mut().for_each(|block| block.shares.clear());
    }
    let row = story.wrong("mine");
    assert_eq!((row.reading, row.answers), (WrongReading::NotReached, 0));
}
