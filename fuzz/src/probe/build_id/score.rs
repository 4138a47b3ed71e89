// SPDX-License-Identifier: MIT OR Apache-2.0
//! Judging a sample: eligible or not, from the right context or not, answered
//! or not, rightly or not. Pure: words in, counts out.

use std::ops::Range;

use super::sample::slot;
use crate::elf::BUILD_ID_LENGTH;
use crate::interrupt::{self, Layout, Level};
use crate::sys;
use crate::sys::sampled::DEPTH;
use crate::wire::Counts;

/// `IRQ_WORK_BUSY`: the kernel does not try the lock while it is set.
const IRQ_WORK_BUSY: u64 = 2;

/// Status of a frame, as the kernel numbers them.
const STATUS_VALID: u32 = 1;
const STATUS_IP: u32 = 2;

/// One frame, `struct bpf_stack_build_id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    status: u32,
    /// Of the file, where the frame is valid.
    pub build_id: [u8; BUILD_ID_LENGTH],
    /// In the file, where the frame is valid; else the address.
    pub offset: u64,
}

impl Frame {
    /// A frame with an answer.
    #[cfg(test)]
    pub fn valid(build_id: [u8; BUILD_ID_LENGTH], offset: u64) -> Self {
        Self { status: STATUS_VALID, build_id, offset }
    }

    /// Whether it has an answer at all.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.status == STATUS_VALID
    }

    fn from_words(words: [u64; 4]) -> Self {
        let mut bytes = [0; 32];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        let mut status = [0; 4];
        let mut build_id = [0; BUILD_ID_LENGTH];
        status.copy_from_slice(&bytes[..4]);
        build_id.copy_from_slice(&bytes[4..24]);
        Self { status: u32::from_ne_bytes(status), build_id, offset: words[3] }
    }
}

/// One sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    answer: i64,
    count: u64,
    work: u64,
    frames: [Frame; slot::DEPTH],
}

impl Sample {
    /// Decodes what the program wrote; `word` reads at a byte offset.
    pub fn read(word: impl Fn(usize) -> u64) -> Self {
        let mut frames = [Frame::default(); slot::DEPTH];
        for (index, frame) in frames.iter_mut().enumerate() {
            let at = slot::FRAMES as usize + index * slot::FRAME;
            *frame = Frame::from_words([word(at), word(at + 8), word(at + 16), word(at + 24)]);
        }
        Self {
            answer: word(slot::ANSWER as usize).cast_signed(),
            count: word(slot::COUNT as usize),
            work: word(slot::WORK as usize),
            frames,
        }
    }
}

/// Which samples count.
#[derive(Clone, Copy, Debug)]
pub struct Eligible {
    /// The level that was asked for.
    pub level: Level,
    /// How to read the preempt count.
    pub layout: Layout,
}

impl Eligible {
    /// The frames of an eligible call; any other is counted as what it is.
    pub fn frames<'a>(&self, sample: &'a Sample, counts: &mut Counts) -> Option<&'a [Frame]> {
        let bytes = match usize::try_from(sample.answer) {
            Err(_) => {
                let errno = i32::try_from(-sample.answer.max(-4096)).unwrap_or(0);
                *counts.ineligible.entry(sys::errno_name(errno)).or_default() += 1;
                return None;
            }
            Ok(0) => {
                *counts.ineligible.entry("0".to_owned()).or_default() += 1;
                return None;
            }
            Ok(bytes) => bytes,
        };
        let frames = bytes
            .is_multiple_of(slot::FRAME)
            .then(|| sample.frames.get(..bytes / slot::FRAME))
            .flatten();
        if frames.is_none() {
            counts.errors += 1;
            return None;
        }
        let level = self.layout.level(sample.count);
        if level != self.level {
            *counts.wrong_context.entry(level.to_string()).or_default() += 1;
            return None;
        }
        frames
    }
}

/// What a right answer looks like.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The level that was asked for.
    pub level: Level,
    /// How to read the preempt count.
    pub layout: Layout,
    /// The executable's own.
    pub build_id: [u8; BUILD_ID_LENGTH],
    /// File offsets, innermost frame first.
    pub frames: [Range<u64>; DEPTH],
    /// Whether the flags of the unlock work were read with interrupts off, so
    /// that they are what the helper saw a moment later.
    pub work_is_known: bool,
}

impl Expected {
    fn is_correct(&self, index: usize, frame: &Frame) -> bool {
        frame.status == STATUS_VALID
            && frame.build_id == self.build_id
            && self.frames.get(index).is_some_and(|legal| legal.contains(&frame.offset))
    }

    /// Adds one sample to the counts.
    pub fn score(&self, sample: &Sample, counts: &mut Counts) {
        let wanted = Eligible { level: self.level, layout: self.layout };
        let Some(frames) = wanted.frames(sample, counts) else {
            return;
        };
        counts.calls += 1;
        counts.frames += frames.len() as u64;
        let valid = Frame::is_valid;
        if let Some(top) = frames.first() {
            counts.top.valid += u64::from(valid(top));
            counts.top.correct += u64::from(self.is_correct(0, top));
        }
        counts.all.valid += u64::from(frames.iter().all(valid));
        // A stack cut short, or too long, is not a right answer.
        counts.all.correct += u64::from(
            frames.len() == DEPTH
                && frames.iter().enumerate().all(|(index, frame)| self.is_correct(index, frame)),
        );
        if self.work_is_known && sample.work != interrupt::UNREADABLE {
            // Only a busy work makes the whole call fall back *and* shows here.
            let fell_back = frames.iter().all(|frame| frame.status == STATUS_IP);
            let busy = sample.work & IRQ_WORK_BUSY != 0;
            *counts.slot_busy.get_or_insert(0) += u64::from(fell_back && busy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Score;
    use std::collections::BTreeMap;

    const ID: [u8; BUILD_ID_LENGTH] = [7; BUILD_ID_LENGTH];
    const HARDIRQ: u64 = 0x0001_0000;

    fn expected() -> Expected {
        Expected {
            level: Level::Hardirq,
            layout: Layout::Classic,
            build_id: ID,
            frames: [0x100..0x110, 0x120..0x121, 0x130..0x131, 0x140..0x141],
            work_is_known: true,
        }
    }

    /// A hardirq sample with these frames.
    fn sample(frames: &[Frame]) -> Sample {
        let mut sample = Sample {
            answer: i64::try_from(frames.len() * slot::FRAME).unwrap(),
            count: HARDIRQ,
            work: 0,
            frames: [Frame::default(); slot::DEPTH],
        };
        sample.frames[..frames.len()].copy_from_slice(frames);
        sample
    }

    fn valid(offset: u64) -> Frame {
        Frame { status: STATUS_VALID, build_id: ID, offset }
    }

    fn fallback(ip: u64) -> Frame {
        Frame { status: STATUS_IP, build_id: [0; BUILD_ID_LENGTH], offset: ip }
    }

    fn right() -> [Frame; 4] {
        [0x10f, 0x120, 0x130, 0x140].map(valid)
    }

    fn score(samples: &[Sample]) -> Counts {
        let mut counts = Counts::default();
        for sample in samples {
            expected().score(sample, &mut counts);
        }
        counts
    }

    const NONE: Score = Score { valid: 0, correct: 0 };
    const VALID: Score = Score { valid: 1, correct: 0 };
    const BOTH: Score = Score { valid: 1, correct: 1 };

    /// A full answer counts for the top frame and for all of them.
    #[test]
    fn a_right_answer() {
        let counts = score(&[sample(&right())]);
        assert_eq!((counts.calls, counts.frames), (1, 4));
        assert_eq!((counts.top, counts.all), (BOTH, BOTH));
    }

    /// A valid frame outside the sampled code, or of another file, is valid but wrong.
    #[test]
    fn wrong_answers_are_valid_but_not_correct() {
        let mut off = right();
        off[0].offset = 0x110;
        let mut other = right();
        other[0].build_id[19] ^= 1;
        for frames in [off, other] {
            let counts = score(&[sample(&frames)]);
            assert_eq!((counts.top, counts.all), (VALID, VALID));
        }
        let mut caller = right();
        caller[2].offset += 1;
        let counts = score(&[sample(&caller)]);
        assert_eq!((counts.top, counts.all), (BOTH, VALID));
    }

    /// A stack cut short or too long has a right top, but not all frames right.
    #[test]
    fn the_depth_counts() {
        let mut long = right().to_vec();
        long.push(valid(0x140));
        for frames in [&right()[..3], &long] {
            let counts = score(&[sample(frames)]);
            assert_eq!((counts.top, counts.all), (BOTH, VALID));
        }
    }

    /// A call that fell back as a whole with the unlock work busy is slot_busy;
    /// one that fell back otherwise, or in part, is not.
    #[test]
    fn a_busy_slot_is_told_apart() {
        let fell_back = sample(&[0x1, 0x2, 0x3, 0x4].map(fallback));
        let busy = Sample { work: 3, ..fell_back.clone() };
        let counts = score(&[busy, fell_back]);
        assert_eq!((counts.calls, counts.slot_busy), (2, Some(1)));
        assert_eq!((counts.top, counts.all), (NONE, NONE));
        let mut partly = right();
        partly[3] = fallback(1);
        let partly = Sample { work: 2, ..sample(&partly) };
        let counts = score(&[partly]);
        assert_eq!((counts.top, counts.all, counts.slot_busy), (BOTH, NONE, Some(0)));
    }

    /// Flags that could not be read say nothing.
    #[test]
    fn unread_flags_are_no_answer() {
        let unread = Sample { work: interrupt::UNREADABLE, ..sample(&right()) };
        assert_eq!(score(&[unread]).slot_busy, None);
        assert_eq!(score(&[]).lock_failed, None);
    }

    /// No stack: ineligible by errno, and nothing else is counted.
    #[test]
    fn ineligible_calls_are_named() {
        let answers = [-14, -14, 0, -22, -9999].map(|answer| Sample { answer, ..sample(&[]) });
        let counts = score(&answers);
        assert_eq!(counts.calls, 0);
        assert_eq!(
            counts.ineligible,
            BTreeMap::from([
                ("0".to_owned(), 1),
                ("EFAULT".to_owned(), 2),
                ("EINVAL".to_owned(), 1),
                ("errno 4096".to_owned(), 1),
            ])
        );
    }

    /// An answer longer than the buffer, or no whole number of frames, is our error.
    #[test]
    fn impossible_answers_are_errors() {
        let samples = [33, 288, i64::MAX].map(|answer| Sample { answer, ..sample(&right()) });
        let counts = score(&samples);
        assert_eq!((counts.errors, counts.calls), (3, 0));
    }

    /// Samples from elsewhere are counted by where they came from, not as calls.
    #[test]
    fn a_wrong_context_is_no_call() {
        let samples =
            [0x1, 0x101, 0x0010_0000, u64::MAX].map(|count| Sample { count, ..sample(&right()) });
        let counts = score(&samples);
        assert_eq!((counts.calls, counts.top.valid), (0, 0));
        assert_eq!(
            counts.wrong_context,
            BTreeMap::from(
                ["process", "softirq", "nmi", "unknown"].map(|level| (level.to_owned(), 1))
            )
        );
    }

    /// The kernel's struct: status, 20 bytes of id, offset at 24.
    #[test]
    fn frames_are_decoded() {
        let mut bytes = [0_u8; 32];
        bytes[..4].copy_from_slice(&1_u32.to_ne_bytes());
        bytes[4..24].copy_from_slice(&ID);
        bytes[24..].copy_from_slice(&0x123_u64.to_ne_bytes());
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(chunk.try_into().unwrap());
        }
        assert_eq!(Frame::from_words(words), valid(0x123));
    }
}
