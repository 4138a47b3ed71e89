// SPDX-License-Identifier: MIT OR Apache-2.0
//! Judging a sample: eligible or not, from the right context or not, answered
//! or not, rightly or not. Pure: words in, a block out.

use super::metrics::{
    ALL_ANSWERED, ALL_FRAMES, ANSWERED_RIGHT, CALL_NS, CONTEXT, ERRNO, ERRORS, FRAMES, LOCK_FAILED,
    SLOT_BUSY, TOP_ANSWERED, TOP_FRAME,
};
use super::sample::slot;
use super::scene::Legal;
use crate::elf::BUILD_ID_LENGTH;
use crate::held::{RWSEM_KEEPS_READERS_OUT, spinlock_is_taken};
use crate::interrupt::{self, Layout, Level};
use crate::sys;
use crate::wire::Block;

#[cfg(test)]
pub(super) mod tests;

/// `IRQ_WORK_BUSY`: the kernel does not try the lock while it is set.
const IRQ_WORK_BUSY: u64 = 2;

/// Status of a frame, as the kernel numbers them.
const STATUS_VALID: u32 = 1;
const STATUS_IP: u32 = 2;
/// Behind the last frame of a stack in a map.
const STATUS_EMPTY: u32 = 0;

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

/// The frames of a stack, as words; it ends with the first one that has no status.
pub fn frames(words: &[u64]) -> Vec<Frame> {
    words
        .chunks_exact(4)
        .filter_map(|chunk| Some(Frame::from_words(chunk.try_into().ok()?)))
        .take_while(|frame| frame.status != STATUS_EMPTY)
        .collect()
}

/// Whether a stack has a frame that was not answered.
pub fn has_fallback(frames: &[Frame]) -> bool {
    frames.iter().any(|frame| frame.status == STATUS_IP)
}

/// What the helper answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A user stack.
    Stack(Vec<Frame>),
    /// No user stack; 0 for an empty one.
    Nothing(i32),
    /// There was a user stack, but the map has another one in its place.
    Exists,
    /// Nothing that the helper could answer.
    Impossible,
}

impl Answer {
    /// A helper's that writes frames: their bytes, or an errno. `word` reads at
    /// an offset in the slot, which has room for `depth` frames.
    pub fn of_bytes(answer: i64, depth: usize, word: impl Fn(usize) -> u64) -> Self {
        let Ok(bytes) = usize::try_from(answer) else {
            return Self::Nothing(errno(answer));
        };
        match (bytes, bytes / slot::FRAME) {
            (0, _) => Self::Nothing(0),
            (_, count) if bytes.is_multiple_of(slot::FRAME) && count <= depth => {
                let at = slot::FRAMES as usize;
                let words: Vec<u64> = (0..bytes / 8).map(|index| word(at + index * 8)).collect();
                let frame = |chunk: &[u64]| chunk.try_into().ok().map(Frame::from_words);
                Self::Stack(words.chunks_exact(4).filter_map(frame).collect())
            }
            _ => Self::Impossible,
        }
    }

    /// `bpf_get_stackid`'s: an id, or an errno. `stack` gives what is under the id.
    pub fn of_id(answer: i64, stack: impl FnOnce(u32) -> Option<Vec<Frame>>) -> Self {
        match u32::try_from(answer) {
            Ok(id) => stack(id).map_or(Self::Impossible, Self::Stack),
            Err(_) if answer == -i64::from(libc::EEXIST) => Self::Exists,
            Err(_) if answer < 0 => Self::Nothing(errno(answer)),
            Err(_) => Self::Impossible,
        }
    }
}

fn errno(answer: i64) -> i32 {
    i32::try_from(-answer.max(-4096)).unwrap_or(0)
}

/// One sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// What the helper answered.
    pub answer: Answer,
    /// The preempt count.
    pub count: u64,
    /// Flags of the unlock work.
    pub work: u64,
    /// The count of `mmap_lock` before and after the call.
    pub lock: [u64; 2],
    /// The context's own proof.
    pub proof: u64,
    /// When the helper was called and when it had answered, in nanoseconds.
    pub called: [u64; 2],
}

impl Sample {
    /// Decodes what the program wrote next to the answer; `word` reads at a byte
    /// offset.
    pub fn read(answer: Answer, word: impl Fn(i16) -> u64) -> Self {
        Self {
            answer,
            count: word(slot::COUNT),
            work: word(slot::WORK),
            lock: [word(slot::BEFORE), word(slot::AFTER)],
            proof: word(slot::PROOF),
            called: [word(slot::CALLED), word(slot::AT)],
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
    /// The page that is touched, where a page fault is asked for.
    pub page: Option<u64>,
}

impl Eligible {
    /// The frames of an eligible call, none if it was refused with EEXIST; any
    /// other call is counted as what it is.
    pub fn frames<'a>(&self, sample: &'a Sample, block: &mut Block) -> Option<&'a [Frame]> {
        let frames: &[Frame] = match &sample.answer {
            Answer::Stack(frames) => frames,
            Answer::Exists => &[],
            Answer::Nothing(errno) => {
                let name = if *errno == 0 { "0".to_owned() } else { sys::errno_name(*errno) };
                // One without a name is told by its number.
                let name = name.strip_prefix("errno ").unwrap_or(&name);
                block.exclude(format!("{ERRNO}{name}"), 1);
                return None;
            }
            Answer::Impossible => {
                block.exclude(ERRORS, 1);
                return None;
            }
        };
        let level = self.level_of(sample);
        if level != self.level {
            block.exclude(format!("{CONTEXT}{level}"), 1);
            return None;
        }
        Some(frames)
    }

    /// The level a sample came from. A count cannot tell a context switch or a
    /// page fault from any other task's doing; the proof can.
    fn level_of(&self, sample: &Sample) -> Level {
        match (self.layout.level(sample.count), self.level) {
            (Level::Process, Level::RqLock) if spinlock_is_taken(sample.proof) => Level::RqLock,
            (Level::Process, Level::PageFault) if Some(sample.proof) == self.page => {
                Level::PageFault
            }
            (level, _) => level,
        }
    }
}

/// What a right answer looks like.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Which samples count.
    pub eligible: Eligible,
    /// The whole stack, innermost frame first.
    pub frames: Vec<Legal>,
    /// Whether the flags of the unlock work were read with interrupts off, so
    /// that they are what the helper saw a moment later.
    pub work_is_known: bool,
    /// Whether the count of `mmap_lock` was read.
    pub lock_is_known: bool,
}

impl Expected {
    /// A block in which nothing has happened yet: what can be told apart is 0, the rest
    /// is not there.
    pub fn nothing_yet(&self) -> Block {
        let mut block = Block::default();
        if self.work_is_known {
            block.note(SLOT_BUSY, 0);
        }
        if self.lock_is_known {
            block.note(LOCK_FAILED, 0);
        }
        block
    }

    fn is_correct(&self, index: usize, frame: &Frame) -> bool {
        frame.is_valid()
            && self.frames.get(index).is_some_and(|legal| {
                legal.build_id == frame.build_id && legal.offsets.contains(&frame.offset)
            })
    }

    /// Adds one sample to its block.
    pub fn score(&self, sample: &Sample, block: &mut Block) {
        let Some(frames) = self.eligible.frames(sample, block) else {
            return;
        };
        block.calls += 1;
        block.note(FRAMES, frames.len() as u64);
        let correct: Vec<bool> =
            frames.iter().enumerate().map(|(at, frame)| self.is_correct(at, frame)).collect();
        let valid = Frame::is_valid;
        block.note(TOP_ANSWERED, u64::from(frames.first().is_some_and(valid)));
        block.share(TOP_FRAME, 1, u64::from(correct.first() == Some(&true)));
        // A walk that the kernel cut short (an NMI in the midst of a TLB flush must not
        // touch user memory: nmi_uaccess_okay()) lacks frames; what it has is not wrong.
        let whole = frames.len() >= self.frames.len();
        let answered = !frames.is_empty() && whole && frames.iter().all(valid);
        block.note(ALL_ANSWERED, u64::from(answered));
        // A stack that is too long is not a right answer.
        let right = frames.len() == self.frames.len() && correct.iter().all(|right| *right);
        block.share(ALL_FRAMES, 1, u64::from(right));
        let count = |frames: usize| frames as u64;
        block.share(
            ANSWERED_RIGHT,
            count(frames.iter().filter(|frame| valid(frame)).count()),
            count(correct.iter().filter(|right| **right).count()),
        );
        let [called, answered] = sample.called;
        if let Some(took) = answered.checked_sub(called) {
            block.value(CALL_NS, crate::stats::float(took));
        }
        // Work and lock are the whole call's: if they fail, every frame does. None
        // at all: refused, for what it found was not what is in the map.
        let fell_back = frames.iter().all(|frame| frame.status == STATUS_IP);
        self.explain(sample, fell_back, block);
    }

    /// Why a call fell back as a whole, where the program saw it.
    fn explain(&self, sample: &Sample, fell_back: bool, block: &mut Block) {
        // One reading that failed, and the block's numbers would be too low.
        if sample.work == interrupt::UNREADABLE {
            block.notes.remove(SLOT_BUSY);
        }
        if sample.lock.contains(&interrupt::UNREADABLE) {
            block.notes.remove(LOCK_FAILED);
        }
        let busy = self.work_is_known && sample.work & IRQ_WORK_BUSY != 0;
        let locked = sample.lock.iter().any(|count| count & RWSEM_KEEPS_READERS_OUT != 0);
        if let Some(slot_busy) = block.notes.get_mut(SLOT_BUSY) {
            *slot_busy += u64::from(fell_back && busy);
        }
        if let Some(lock_failed) = block.notes.get_mut(LOCK_FAILED) {
            *lock_failed += u64::from(fell_back && !busy && locked);
        }
    }
}
