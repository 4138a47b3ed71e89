// SPDX-License-Identifier: MIT OR Apache-2.0
//! Breakpoints on memory of the own thread: each access counts once, also after the event was
//! changed; and what they take of a CPU's is there again when they are gone.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use super::{IOC_DISABLE, IOC_ENABLE, Play, Stage};
use crate::op::value::Dice;
use crate::sys::call::{self, Answer, Attributes};

/// `PERF_TYPE_BREAKPOINT`, and `PERF_EVENT_IOC_MODIFY_ATTRIBUTES`.
const TYPE: u32 = 5;
const MODIFY: u32 = 0x4008_240b;
/// Bytes of the attributes: PERF_ATTR_SIZE_VER5, with all that these events need.
const SIZE: u32 = 112;
/// Accesses: `HW_BREAKPOINT_W`, `HW_BREAKPOINT_RW`.
const WRITE: u32 = 2;
const EITHER: u32 = 3;
/// More than any CPU has.
const MANY: usize = 40;

/// What is watched: words that nothing else touches.
struct Words([AtomicU64; 4]);

/// What a breakpoint watches.
#[derive(Clone, Copy, Debug)]
struct Watch {
    word: usize,
    length: usize,
    access: u32,
    on: bool,
}

impl Watch {
    fn any(dice: &mut dyn Dice) -> Self {
        Self {
            word: dice.below(4) as usize,
            length: 1 << dice.below(4),
            access: [WRITE, EITHER][dice.below(2) as usize],
            on: dice.below(4) > 0,
        }
    }

    fn attributes(self, words: &Words) -> Attributes<'static> {
        let at = words.0.get(self.word).map_or(0, |word| word.as_ptr() as u64);
        // Of user space only: the kernel may read and write there for others.
        let flags = 1 << 5 | u64::from(!self.on);
        Attributes::default()
            .word(0, TYPE)
            .word(4, SIZE)
            .double(40, flags)
            .word(52, self.access)
            .double(56, at)
            .double(64, self.length as u64)
    }

    /// How many of the accesses count.
    fn counts(self, word: usize, writes: u64, reads: u64) -> u64 {
        if !self.on || self.word != word {
            return 0;
        }
        writes + if self.access == WRITE { 0 } else { reads }
    }
}

pub(super) fn run(stage: &mut Stage<'_>) -> Answer<()> {
    let play = &mut stage.play;
    match play.dice.below(4) {
        0 => slots(play),
        _ => hits(play),
    }
}

/// Accesses to what is watched, by one breakpoint: of several QEMU (7.2) mixes up which was
/// hit.
fn hits(play: &mut Play) -> Answer<()> {
    let words = Box::new(Words(Default::default()));
    let mut watch = Watch::any(&mut play.dice);
    let event = match call::perf_event_open(&watch.attributes(&words), 0, -1, None) {
        // Other programs have all of a CPU's.
        Err(libc::ENOSPC) => return Ok(()),
        other => other?,
    };
    let mut before = 0;
    for _ in 0..4 + play.dice.below(12) {
        if play.dice.below(3) == 0 {
            change(play, &event, &mut watch, &words)?;
        }
        let at = play.dice.below(4) as usize;
        let Some(word) = words.0.get(at) else { continue };
        let (writes, reads) = (play.dice.below(20).into(), play.dice.below(20).into());
        access(word, writes, reads);
        let mut memory = [0_u64; 4];
        call::read_words(event.as_fd(), &mut memory)?;
        let counted = memory[0].wrapping_sub(std::mem::replace(&mut before, memory[0]));
        let right = watch.counts(at, writes, reads);
        if counted != right {
            play.wrong(format!(
                "{watch:?} (access 2: writes, 3: either): {writes} writes and {reads} reads of \
                 word {at} counted {counted} and not {right}"
            ));
        }
    }
    Ok(())
}

/// Writes and reads a word's first byte, which each breakpoint on it watches.
fn access(word: &AtomicU64, writes: u64, reads: u64) {
    // SAFETY: a byte of the word, which is valid as long as the word is, and is accessed by
    // this thread only.
    let byte = unsafe { AtomicU8::from_ptr(word.as_ptr().cast()) };
    for _ in 0..writes {
        byte.store(1, Ordering::Relaxed);
    }
    for _ in 0..reads {
        std::hint::black_box(byte.load(Ordering::Relaxed));
    }
}

/// Turns a breakpoint on or off, or has it watch something else.
fn change(play: &mut Play, event: &OwnedFd, watch: &mut Watch, words: &Words) -> Answer<()> {
    if play.dice.below(2) == 0 {
        watch.on = !watch.on;
        let call = if watch.on { IOC_ENABLE } else { IOC_DISABLE };
        return call::ioctl(event.as_fd(), call, 0).map(drop);
    }
    let next = Watch::any(&mut play.dice);
    let mut memory = [0_u64; 16];
    let attributes = next.attributes(words);
    for (at, word) in memory.iter_mut().enumerate() {
        let [low, high] = [8 * at, 8 * at + 4].map(|at| u64::from(attributes.word_at(at)));
        *word = low | high << 32;
    }
    let answer = call::ioctl_memory(event.as_fd(), MODIFY, &mut memory).map(drop);
    play.expect("a breakpoint that is changed", &[0], &answer);
    if answer.is_ok() {
        *watch = next;
    }
    answer
}

/// As many as a CPU has, and again as many when these are gone.
fn slots(play: &mut Play) -> Answer<()> {
    let words = Words(Default::default());
    let watch = Watch { on: play.dice.below(2) == 0, ..Watch::any(&mut play.dice) };
    let fill = || {
        let mut events = Vec::new();
        while events.len() < MANY {
            match call::perf_event_open(&watch.attributes(&words), 0, -1, None) {
                Ok(event) => events.push(event),
                Err(libc::ENOSPC) => return Ok(events.len()),
                Err(errno) => return Err(errno),
            }
        }
        Ok(MANY)
    };
    let first = fill()?;
    let mut then = fill()?;
    // Other programs may have some of a CPU's for a while.
    for _ in 0..50 {
        if then >= first {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
        then = fill()?;
    }
    if first == MANY || then < first {
        play.wrong(format!("{first} breakpoints of {watch:?}, and then {then}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::check::plays;

    /// The kernel that this runs on, if it may be asked, is right about each of them.
    #[test]
    fn this_kernel_is_right() {
        for (seed, mut play) in plays("breakpoints", 0..200_u16) {
            let answer = if seed % 4 == 0 { slots(&mut play) } else { hits(&mut play) };
            match answer {
                // No permission, or no such thing in this virtual machine.
                Err(libc::EPERM | libc::EACCES | libc::ENOSYS | libc::EOPNOTSUPP) => return,
                answer => assert_eq!((answer, play.wrong), (Ok(()), None), "{seed}"),
            }
        }
    }

    /// What counts is what is watched.
    #[test]
    fn accesses_count_where_they_are_watched() {
        let watch = Watch { word: 2, length: 8, access: WRITE, on: true };
        assert_eq!(watch.counts(2, 5, 7), 5);
        assert_eq!(watch.counts(1, 5, 7), 0);
        assert_eq!(Watch { access: EITHER, ..watch }.counts(2, 5, 7), 12);
        assert_eq!(Watch { on: false, ..watch }.counts(2, 5, 7), 0);
    }
}
