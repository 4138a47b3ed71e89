// SPDX-License-Identifier: MIT OR Apache-2.0
use super::story::{CLAIM, LEGAL, PAIRS, Story};
use crate::judge::row::{Verdict, WrongReading};

/// No wrong answer counts where the negative control would have shown at least three.
#[test]
fn a_zero_counts_where_the_negative_control_shows_some() {
    let mut story = Story::of(CLAIM);
    story.right("naive", PAIRS, LEGAL, &[98]);
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
    story.right("naive", PAIRS, LEGAL, &few);
    let row = story.wrong("mine");
    assert_eq!(row.reading, WrongReading::NotShown, "{row:?}");
    let untested = story.compare().not_tested;
    assert!(untested.iter().any(|row| row.reason.contains("negative control")), "{untested:?}");
    story.right("naive", PAIRS, LEGAL, &[98]);
    story.seen.retain(|seen| seen.cell.id.candidate != "naive");
    assert_eq!(story.wrong("mine").reading, WrongReading::NotShown);
}

/// Wrong answers in one boot are seen once; fresh boots of candidate and reference, by the
/// exact test, make them believed. Until then the verdict is open and nobody is blamed.
#[test]
fn wrong_answers_are_confirmed() {
    let mut story = Story::of(&CLAIM.replace("5 points", "10 points"));
    let right =
        |boots: usize| -> Vec<u64> { (0..12).map(|i| 100 - u64::from(i < boots)).collect() };
    for (boots, reading, verdict) in [
        (1, WrongReading::SeenOnce, Verdict::Open),
        (2, WrongReading::SeenOnce, Verdict::Open),
        (4, WrongReading::SeenOnce, Verdict::Open),
        (5, WrongReading::Wrong, Verdict::NotOk),
    ] {
        story.right("mine", PAIRS, LEGAL, &right(boots));
        let row = story.wrong("mine");
        let k = boots as u64;
        assert_eq!((row.reading, row.wrong, row.seen.k, row.seen.n), (reading, k, k, 12));
        assert_eq!((row.reference.k, row.reference.n), (0, 12));
        assert_eq!(story.verdict("mine").verdict, verdict, "{boots}: {}", row.reason);
    }
    assert!(story.wrong("mine").p.unwrap() < 0.05);
    story.right("mine", PAIRS, LEGAL, &right(3));
    let reason = story.wrong("mine").reason;
    assert_eq!(reason, "2 of 11 fresh boots, 0 of 12 of the reference; 28 of each would tell");
}

/// What the reference gives as well is not the candidate's.
#[test]
fn wrong_answers_of_the_reference_blame_nobody() {
    let mut story = Story::of(&CLAIM.replace("5 points", "10 points"));
    let two: Vec<u64> = (0..12).map(|i| 100 - u64::from(i < 2)).collect();
    story.right("landed", PAIRS, LEGAL, &two);
    story.right("mine", PAIRS, LEGAL, &two);
    let row = story.wrong("mine");
    assert_eq!((row.reading, row.reference.k), (WrongReading::Present, 2), "{}", row.reason);
    assert_ne!(story.verdict("mine").verdict, Verdict::NotOk);
    assert_eq!(story.wrong("landed").reading, WrongReading::Wrong);
}

/// A wrong answer is one even if the guest died before the visit ended.
#[test]
fn wrong_answers_of_dying_guests_count() {
    let mut story = Story::of(CLAIM);
    story.right("mine", PAIRS, LEGAL, &[99]);
    story.visits("mine", PAIRS).into_iter().for_each(|visit| visit.outcome = None);
    assert_eq!(story.wrong("mine").reading, WrongReading::Wrong);
}

/// Without an answer nothing was reached.
#[test]
fn no_answer_is_not_reached() {
    let mut story = Story::of(CLAIM);
    for visit in story.visits("mine", PAIRS) {
        visit.blocks.iter_mut().for_each(|block| block.shares.clear());
    }
    let row = story.wrong("mine");
    assert_eq!((row.reading, row.answers), (WrongReading::NotReached, 0));
}
