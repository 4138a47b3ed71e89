// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which pairs of build id and offset are legal. Pure.

use std::ops::Range;

use crate::elf::BUILD_ID_LENGTH;
use crate::probe::build_id::Frame;
use crate::sys::sampled::DEPTH;
use crate::wire::Counts;

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

    /// Adds an eligible call to the counts.
    pub fn score(&self, frames: &[Frame], counts: &mut Counts) {
        let flip = counts.flip.get_or_insert_default();
        let before = flip.illegal();
        counts.calls += 1;
        counts.frames += frames.len() as u64;
        let (mut valid, mut legal) = (0, 0);
        for (index, frame) in frames.iter().enumerate() {
            let kind = self.kind(index, frame);
            valid += usize::from(kind != Kind::Ip);
            legal += usize::from(kind == Kind::Legal);
            *match kind {
                Kind::Legal => &mut flip.legal,
                Kind::Ip => &mut flip.ip,
                Kind::Mixed => &mut flip.mixed,
                Kind::Decoy => &mut flip.decoy,
                Kind::UnknownId => &mut flip.unknown_id,
                Kind::OutOfRange => &mut flip.out_of_range,
            } += 1;
            if index == 0 {
                counts.top.valid += u64::from(kind != Kind::Ip);
                counts.top.correct += u64::from(kind == Kind::Legal);
            }
        }
        counts.all.valid += u64::from(valid == frames.len());
        counts.all.correct += u64::from(legal == frames.len() && legal == DEPTH);
        flip.illegal_calls += u64::from(flip.illegal() > before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut counts = Counts::default();
        pairs().score(&good, &mut counts);
        pairs().score(&good[..3], &mut counts);
        pairs().score(&bad, &mut counts);
        pairs().score(&[Frame::default(); 4], &mut counts);
        let flip = counts.flip.unwrap();
        assert_eq!((counts.calls, counts.frames, flip.checked()), (4, 15, 15));
        assert_eq!((flip.legal, flip.ip, flip.decoy, flip.illegal_calls), (10, 4, 1, 1));
        assert_eq!((counts.top.valid, counts.top.correct), (3, 3));
        // A stack cut short is answered, but not a whole one.
        assert_eq!((counts.all.valid, counts.all.correct), (3, 1));
    }
}
