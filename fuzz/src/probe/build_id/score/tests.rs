// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::wire::{Share, Summary};
use std::collections::BTreeMap;

const ID: [u8; BUILD_ID_LENGTH] = [7; BUILD_ID_LENGTH];
const OTHER: [u8; BUILD_ID_LENGTH] = [8; BUILD_ID_LENGTH];
const HARDIRQ: u64 = 0x0001_0000;
const DEPTH: usize = 8;

pub fn expected() -> Expected {
    let legal = |build_id, offsets| Legal { build_id, offsets };
    Expected {
        eligible: Eligible { level: Level::Hardirq, layout: Layout::Classic, page: None },
        frames: vec![
            legal(ID, 0x100..0x110),
            legal(OTHER, 0x120..0x121),
            legal(ID, 0x130..0x131),
            legal(ID, 0x140..0x141),
        ],
        work_is_known: true,
        lock_is_known: true,
    }
}

/// A hardirq sample with these frames.
pub fn sample(frames: &[Frame]) -> Sample {
    let answer = Answer::Stack(frames.to_vec());
    Sample { answer, count: HARDIRQ, work: 0, lock: [0, 0x100], proof: 0, called: [50, 250] }
}

fn fallback(ip: u64) -> Frame {
    Frame { status: STATUS_IP, build_id: [0; BUILD_ID_LENGTH], offset: ip }
}

pub fn right() -> [Frame; 4] {
    [
        Frame::valid(ID, 0x10f),
        Frame::valid(OTHER, 0x120),
        Frame::valid(ID, 0x130),
        Frame::valid(ID, 0x140),
    ]
}

pub fn fallen_back() -> [Frame; 4] {
    [0x1, 0x2, 0x3, 0x4].map(fallback)
}

/// The words of frames, as the kernel writes them.
pub fn words(frames: &[Frame]) -> Vec<u64> {
    let mut words = Vec::new();
    for frame in frames {
        let mut bytes = [0_u8; 32];
        bytes[..4].copy_from_slice(&frame.status.to_ne_bytes());
        bytes[4..24].copy_from_slice(&frame.build_id);
        bytes[24..].copy_from_slice(&frame.offset.to_ne_bytes());
        words
            .extend(bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())));
    }
    words
}

fn score_as(expected: &Expected, samples: &[Sample]) -> Block {
    let mut block = expected.nothing_yet();
    for sample in samples {
        expected.score(sample, &mut block);
    }
    block
}

fn score(samples: &[Sample]) -> Block {
    score_as(&expected(), samples)
}

/// Of the innermost frames, or of whole stacks: how many were answered, how many
/// rightly.
type Score = [u64; 2];
const NONE: Score = [0, 0];
const VALID: Score = [1, 0];
const BOTH: Score = [1, 1];

fn top(block: &Block) -> Score {
    [block.notes[TOP_ANSWERED], block.shares[TOP_FRAME].right]
}

fn all(block: &Block) -> Score {
    [block.notes[ALL_ANSWERED], block.shares[ALL_FRAMES].right]
}

fn slot_busy(block: &Block) -> Option<u64> {
    block.notes.get(SLOT_BUSY).copied()
}

fn lock_failed(block: &Block) -> Option<u64> {
    block.notes.get(LOCK_FAILED).copied()
}

fn excluded(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    pairs.iter().map(|(reason, times)| ((*reason).to_owned(), *times)).collect()
}

/// A full answer counts for the top frame and for all of them.
#[test]
fn a_right_answer() {
    let counts = score(&[sample(&right())]);
    assert_eq!((counts.calls, counts.notes[FRAMES]), (1, 4));
    assert_eq!(counts.shares[TOP_FRAME], Share { of: 1, right: 1 });
    assert_eq!(counts.shares[ALL_FRAMES], Share { of: 1, right: 1 });
    assert_eq!(counts.shares[ANSWERED_RIGHT], Share { of: 4, right: 4 });
    assert_eq!((top(&counts), all(&counts)), (BOTH, BOTH));
}

/// A valid frame outside the sampled code, or of another file, is valid but wrong.
#[test]
fn wrong_answers_are_valid_but_not_correct() {
    let mut off = right();
    off[0].offset = 0x110;
    let mut other = right();
    other[0].build_id = OTHER;
    for frames in [off, other] {
        let counts = score(&[sample(&frames)]);
        assert_eq!(counts.shares[ANSWERED_RIGHT], Share { of: 4, right: 3 });
        assert_eq!((top(&counts), all(&counts)), (VALID, VALID));
    }
    let mut caller = right();
    caller[2].offset += 1;
    let mut file = right();
    file[1].build_id = ID;
    for frames in [caller, file] {
        let counts = score(&[sample(&frames)]);
        assert_eq!((top(&counts), all(&counts)), (BOTH, VALID));
    }
}

/// A stack that is too long is wrong; one that was cut short lacks an answer. The
/// top of both is right.
#[test]
fn the_depth_counts() {
    let mut long = right().to_vec();
    long.push(Frame::valid(ID, 0x140));
    for (frames, whole) in [(&right()[..3], NONE), (&long[..], VALID)] {
        let counts = score(&[sample(frames)]);
        assert_eq!((top(&counts), all(&counts)), (BOTH, whole));
    }
}

/// A call that fell back as a whole with the unlock work busy is slot_busy;
/// one that fell back otherwise, or in part, is not.
#[test]
fn a_busy_slot_is_told_apart() {
    let fell_back = sample(&fallen_back());
    // A writer as well: the lock was not even tried.
    let busy = Sample { work: 3, lock: [1, 1], ..fell_back.clone() };
    let counts = score(&[busy, fell_back]);
    assert_eq!((counts.calls, slot_busy(&counts), lock_failed(&counts)), (2, Some(1), Some(0)));
    assert_eq!((top(&counts), all(&counts)), (NONE, NONE));
    let mut partly = right();
    partly[3] = fallback(1);
    let partly = Sample { work: 2, lock: [1, 1], ..sample(&partly) };
    let counts = score(&[partly]);
    assert_eq!((top(&counts), all(&counts)), (BOTH, NONE));
    assert_eq!((slot_busy(&counts), lock_failed(&counts)), (Some(0), Some(0)));
}

/// A writer or a waiter, seen before or after, explains a call that fell back
/// as a whole; readers do not, and nothing explains one that did not.
#[test]
fn a_lock_that_was_not_to_be_had_is_told_apart() {
    let lock = |before, after| Sample { lock: [before, after], ..sample(&fallen_back()) };
    let explained = [lock(1, 0), lock(0, 1), lock(0x102, 0x100), lock(0x104, 0x104)];
    assert_eq!(lock_failed(&score(&explained)), Some(4));
    let unexplained = [lock(0, 0), lock(0x100, 0x300)];
    let counts = score(&unexplained);
    assert_eq!((lock_failed(&counts), slot_busy(&counts)), (Some(0), Some(0)));
    let answered = Sample { lock: [1, 1], ..sample(&right()) };
    assert_eq!(lock_failed(&score(&[answered])), Some(0));
    let unknown = Expected { lock_is_known: false, ..expected() };
    assert_eq!(lock_failed(&score_as(&unknown, &explained)), None);
}

/// With interrupts on the work's flags say nothing, and a lock may.
#[test]
fn flags_that_do_not_matter_are_no_answer() {
    let on = Expected { work_is_known: false, ..expected() };
    let busy = Sample { work: 2, lock: [1, 1], ..sample(&fallen_back()) };
    let counts = score_as(&on, &[busy]);
    assert_eq!((slot_busy(&counts), lock_failed(&counts)), (None, Some(1)));
}

/// What could not be read once makes the block's numbers no numbers.
#[test]
fn unread_words_are_no_answer() {
    let unread = interrupt::UNREADABLE;
    let work = Sample { work: unread, ..sample(&right()) };
    let counts = score(&[sample(&right()), work, sample(&right())]);
    assert_eq!((slot_busy(&counts), lock_failed(&counts)), (None, Some(0)));
    let lock = Sample { lock: [0, unread], ..sample(&right()) };
    let counts = score(&[lock, sample(&right())]);
    assert_eq!((slot_busy(&counts), lock_failed(&counts)), (Some(0), None));
}

/// No stack: ineligible by errno, and nothing else is counted.
#[test]
fn ineligible_calls_are_named() {
    let answers = [-14, -14, 0, -22, -9999]
        .map(|answer| Sample { answer: Answer::of_bytes(answer, DEPTH, |_| 0), ..sample(&[]) });
    let counts = score(&answers);
    assert_eq!(counts.calls, 0);
    assert_eq!(
        counts.excluded,
        excluded(&[("errno/0", 1), ("errno/EFAULT", 2), ("errno/EINVAL", 1), ("errno/4096", 1)])
    );
    assert_eq!(counts.shares, BTreeMap::new());
}

/// An answer longer than the buffer, or no whole number of frames, is our error.
#[test]
fn impossible_answers_are_errors() {
    let samples = [33, 288, i64::MAX]
        .map(|answer| Sample { answer: Answer::of_bytes(answer, DEPTH, |_| 0), ..sample(&[]) });
    let counts = score(&samples);
    assert_eq!((counts.excluded, counts.calls), (excluded(&[("errors", 3)]), 0));
}

/// Samples from elsewhere are counted by where they came from, not as calls.
#[test]
fn a_wrong_context_is_no_call() {
    let samples =
        [0x1, 0x101, 0x0010_0000, u64::MAX].map(|count| Sample { count, ..sample(&right()) });
    let counts = score(&samples);
    assert_eq!((counts.calls, counts.shares), (0, BTreeMap::new()));
    let levels = ["process", "softirq", "nmi", "unknown"];
    let levels = levels.map(|level| (format!("context/{level}"), 1));
    assert_eq!(counts.excluded, BTreeMap::from(levels));
}

/// A context switch is one only with the run queue's lock taken, a page fault
/// only on the page that is touched, and neither inside an interrupt.
#[test]
fn contexts_without_a_count_need_their_proof() {
    let asked = |level, page| Expected {
        eligible: Eligible { level, page, layout: Layout::Classic },
        ..expected()
    };
    let switch = asked(Level::RqLock, None);
    let fault = asked(Level::PageFault, Some(0x7000));
    for (expected, proof) in [(switch, 1), (fault, 0x7000)] {
        let with = |count, proof| Sample { count, proof, ..sample(&right()) };
        let samples = [with(2, proof), with(2, 0), with(2, u64::MAX), with(HARDIRQ, proof)];
        let counts = score_as(&expected, &samples);
        assert_eq!(counts.calls, 1);
        let expected = excluded(&[("context/process", 2), ("context/hardirq", 1)]);
        assert_eq!(counts.excluded, expected);
    }
}

/// The kernel's struct: status, 20 bytes of id, offset at 24; a slot holds as
/// many as the answer says.
#[test]
fn frames_are_decoded() {
    let words = words(&right());
    let word = |at: usize| words[(at - slot::FRAMES as usize) / 8];
    assert_eq!(Answer::of_bytes(128, DEPTH, word), Answer::Stack(right().to_vec()));
    assert_eq!(Answer::of_bytes(64, DEPTH, word), Answer::Stack(right()[..2].to_vec()));
    let padded: Vec<u64> = words.iter().copied().chain([0; 8]).collect();
    assert_eq!(frames(&padded), right());
    assert_eq!(frames(&[]), []);
}

/// An id stands for what is under it; EEXIST is a user stack without an answer.
#[test]
fn ids_are_decoded() {
    let stack = |id| (id == 7).then(|| right().to_vec());
    assert_eq!(Answer::of_id(7, stack), Answer::Stack(right().to_vec()));
    assert_eq!(Answer::of_id(8, stack), Answer::Impossible);
    assert_eq!(Answer::of_id(-17, stack), Answer::Exists);
    assert_eq!(Answer::of_id(-14, stack), Answer::Nothing(14));
    assert_eq!(Answer::of_id(1 << 40, stack), Answer::Impossible);
    let refused = Sample { answer: Answer::Exists, lock: [1, 1], ..sample(&[]) };
    let counts = score(&[refused]);
    assert_eq!((counts.calls, all(&counts), lock_failed(&counts)), (1, NONE, Some(1)));
    assert_eq!(counts.shares[TOP_FRAME], Share { of: 1, right: 0 });
}

/// Whatever a sample adds to its block, the probe declares.
#[test]
fn what_is_counted_is_declared() {
    let with = |answer| Sample { answer, ..sample(&right()) };
    let counts = score(&[
        sample(&right()),
        sample(&fallen_back()),
        with(Answer::Impossible),
        with(Answer::Nothing(14)),
        Sample { count: 0, ..sample(&right()) },
    ]);
    assert_eq!(counts.excluded.len(), 3);
    assert_eq!(crate::probe::build_id::PROBE.check(&counts), Ok(()));
}

/// The duration of each call that counts is kept; a clock that stepped back gives
/// none.
#[test]
fn calls_are_timed() {
    let took = |called| Sample { called, ..sample(&right()) };
    let elsewhere = Sample { count: 0, ..took([0, 9000]) };
    let counts = score(&[took([10, 110]), took([10, 310]), took([10, 9]), elsewhere]);
    let Summary { n, mean, min, max, .. } = counts.values[CALL_NS];
    assert_eq!((counts.calls, n, mean, min, max), (3, 2, 200.0, 100.0, 300.0));
}
