// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which pairs of build id and offset are legal. Pure.

use std::ops::Range;

use super::{ANSWERED, DECOY, ILLEGAL_CALLS, IP, LEGAL, MIXED, OUT_OF_RANGE, UNKNOWN_ID};
use crate::elf::BUILD_ID_LENGTH;
use crate::probe::build_id::Frame;
use crate::sys::sampled::DEPTH;
use crate::wire::Block;

/// What may be answered, and what may be mistaken for it.
#[derive(Clone, Debug)]
pub struct Pairs {
    /// Build ids of the two files that are shown.
    pub ids: [[u8; BUILD_ID_LENGTH]; 2],
    /// Where the code begins in each of them.
    pub code_at: [u64; 2],
    /// Where each frame may lie in the code, innermost first.
    pub frames: [Range<u64>; DEPTH],
    /// Build ids of files that are opened and never mapped.
    pub decoys: Vec<[u8; BUILD_ID_LENGTH]>,
}

/// What one frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Legal,
    Ip,
    Mixed,
    Decoy,
    UnknownId,
    OutOfRange,
}

impl Pairs {
    fn kind(&self, index: usize, frame: &Frame) -> Kind {
        if !frame.is_valid() {
            return Kind::Ip;
        }
        // Beyond the chain no address is legal.
        let legal = self.frames.get(index).cloned().unwrap_or(0..0);
        let lies_in = |code_at: u64| {
            frame.offset.checked_sub(code_at).is_some_and(|offset| legal.contains(&offset))
        };
        let [a, b] = self.code_at;
        let (own, other) = if frame.build_id == self.ids[0] {
            (a, b)
        } else if frame.build_id == self.ids[1] {
            (b, a)
        } else if self.decoys.contains(&frame.build_id) {
            return Kind::Decoy;
        } else {
            return Kind::UnknownId;
        };
        if lies_in(own) {
            Kind::Legal
        } else if lies_in(other) {
            Kind::Mixed
        } else {
            Kind::OutOfRange
        }
    }

    /// A block in which nothing has happened yet.
    pub fn nothing_yet() -> Block {
        let mut block = Block::default();
        for name in [IP, MIXED, DECOY, UNKNOWN_ID, OUT_OF_RANGE, ILLEGAL_CALLS] {
            block.note(name, 0);
        }
        block
    }

    /// Adds an eligible call to its block.
    pub fn score(&self, frames: &[Frame], block: &mut Block) {
        block.calls += 1;
        let mut illegal = false;
        for (index, frame) in frames.iter().enumerate() {
            let kind = self.kind(index, frame);
            let name = match kind {
                Kind::Legal => None,
                Kind::Ip => Some(IP),
                Kind::Mixed => Some(MIXED),
                Kind::Decoy => Some(DECOY),
                Kind::UnknownId => Some(UNKNOWN_ID),
                Kind::OutOfRange => Some(OUT_OF_RANGE),
            };
            if let Some(name) = name {
                block.note(name, 1);
            }
            let answered = kind != Kind::Ip;
            let legal = kind == Kind::Legal;
            illegal |= answered && !legal;
            block.share(ANSWERED, 1, u64::from(answered));
            block.share(LEGAL, u64::from(answered), u64::from(legal));
        }
        block.note(ILLEGAL_CALLS, u64::from(illegal));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Share;

    fn pairs() -> Pairs {
        Pairs {
            ids: [[1; 20], [2; 20]],
            code_at: [0x3000, 0xf000],
            frames: [0x40..0x50, 0x30..0x31, 0x20..0x21, 0x10..0x11],
            decoys: vec![[8; 20], [9; 20]],
        }
    }

    fn kind(id: u8, offset: u64) -> Kind {
        pairs().kind(0, &Frame::valid([id; 20], offset))
    }

    /// A pair is legal for either file, whatever is mapped now; each other kind
    /// has its name.
    #[test]
    fn kinds_of_pairs() {
        assert_eq!(kind(1, 0x3040), Kind::Legal);
        assert_eq!(kind(2, 0xf04f), Kind::Legal);
        assert_eq!(kind(1, 0xf040), Kind::Mixed);
        assert_eq!(kind(2, 0x3040), Kind::Mixed);
        assert_eq!(kind(9, 0x3040), Kind::Decoy);
        assert_eq!(kind(7, 0x3040), Kind::UnknownId);
        // Off by a page: start and offset of different moments.
        assert_eq!(kind(1, 0x4040), Kind::OutOfRange);
        assert_eq!(kind(1, 0x2040), Kind::OutOfRange);
        assert_eq!(kind(1, 0x3050), Kind::OutOfRange);
        assert_eq!(pairs().kind(0, &Frame::default()), Kind::Ip);
        assert_eq!(pairs().kind(DEPTH, &Frame::valid([1; 20], 0x3040)), Kind::OutOfRange);
    }

    /// Frames are judged each on its own: a stack may be of both files. One bad
    /// frame makes its call a bad one.
    #[test]
    fn calls_and_frames_are_counted() {
        let good = [
            Frame::valid([1; 20], 0x3040),
            Frame::valid([2; 20], 0xf030),
            Frame::valid([2; 20], 0xf020),
            Frame::valid([1; 20], 0x3010),
        ];
        let mut bad = good;
        bad[2] = Frame::valid([9; 20], 0xf020);
        let mut block = Pairs::nothing_yet();
        pairs().score(&good, &mut block);
        pairs().score(&good[..3], &mut block);
        pairs().score(&bad, &mut block);
        pairs().score(&[Frame::default(); 4], &mut block);
        assert_eq!(block.calls, 4);
        assert_eq!(crate::probe::flip::PROBE.check(&block), Ok(()));
        assert_eq!(block.shares[ANSWERED], Share { of: 15, right: 11 });
        assert_eq!(block.shares[LEGAL], Share { of: 11, right: 10 });
        let notes = [(IP, 4), (MIXED, 0), (DECOY, 1), (UNKNOWN_ID, 0), (OUT_OF_RANGE, 0)];
        for (name, times) in notes.into_iter().chain([(ILLEGAL_CALLS, 1)]) {
            assert_eq!(block.notes[name], times, "{name}");
        }
    }
}
