// SPDX-License-Identifier: MIT OR Apache-2.0
//! BPF ring buffers, of which user space writes the consumer's position: a program
//! reserves records, fills them to the last word, and submits them in any order.

use std::os::fd::{AsFd, AsRawFd};

use super::Stage;
use crate::bpf::insn::{Insn, Short};
use crate::engine::pool::load;
use crate::engine::scratch::NOTES;
use crate::op::value::Dice;
use crate::op::{Place, ProgKind};
use crate::sys::call::{self, Answer, Attributes, Region};
use crate::sys::trigger::Stack;

const PAGE: usize = 4096;
/// Bytes before each record.
const HEADER: u64 = 8;
/// `BPF_RINGBUF_BUSY_BIT` and `BPF_RINGBUF_DISCARD_BIT`.
const BUSY: u32 = 1 << 31;
const DISCARD: u32 = 1 << 30;
/// What is written into the n-th record.
const FILL: i32 = 0x5a5a_5a00;

/// A program that reserves records of these lengths, fills them, and submits or discards
/// them, the last one first if `backwards`.
fn program(map: i32, scratch: i32, lengths: [u32; 2], discard: bool, backwards: bool) -> Vec<Insn> {
    let mut code = Short::default();
    code.mov(6, 1);
    for (slot, length) in [8_u8, 9].into_iter().zip(lengths) {
        code.load_wide(1, 1, map, 0);
        code.mov_imm(2, length.cast_signed());
        code.mov_imm(3, 0);
        code.call(131);
        code.mov(slot, 0);
    }
    // Which of them there are: 1, 2, or 3 for both.
    for (slot, bit) in [(8, 1), (9, 2)] {
        let none = code.jump_if(0x15, slot, 0);
        code.load_wide(1, 2, scratch, i32::try_from(NOTES).unwrap_or(0));
        code.mov_imm(2, bit);
        code.push(0xdb, 1, 2, 0, 0x40); // lock *(u64 *)(r1) |= r2
        code.land(none);
    }
    for (nth, (slot, length)) in [8_u8, 9].into_iter().zip(lengths).enumerate() {
        let none = code.jump_if(0x15, slot, 0);
        let step = (length / 8 / 96).max(1) * 8;
        let fill = FILL | i32::try_from(nth).unwrap_or(0);
        for at in (0..length).step_by(step as usize).chain([length - 8]) {
            code.push(0x7a, slot, 0, i16::try_from(at).unwrap_or(0), fill);
        }
        code.land(none);
    }
    let order: [u8; 2] = if backwards { [9, 8] } else { [8, 9] };
    for slot in order {
        let none = code.jump_if(0x15, slot, 0);
        code.mov(1, slot);
        code.mov_imm(2, 0);
        code.call(if discard && slot == 8 { 133 } else { 132 });
        code.land(none);
    }
    code.mov_imm(0, 0);
    code.push(0x95, 0, 0, 0, 0);
    code.insns
}

pub(super) fn run(stage: &mut Stage<'_>) -> Answer<()> {
    let size = 4096_u64 << stage.play.dice.below(3);
    let attributes =
        Attributes::default().word(0, 27).word(12, u32::try_from(size).unwrap_or(4096));
    let map = call::bpf_fd(0, attributes, 72)?;
    let consumer = Region::map(map.as_fd(), PAGE, true)?;
    let producer =
        Region::map_at(map.as_fd(), PAGE, PAGE + 2 * usize::try_from(size).unwrap_or(0), false)?;
    // Parts of the buffer: what is near a quarter, half and all of it is what matters.
    let quarters = [1, 2, 3, 4, 5, 6];
    let length = |stage: &mut Stage<'_>| {
        let part = size / 8 * quarters[stage.play.dice.below(6) as usize];
        let near = [0, 8, 16][stage.play.dice.below(3) as usize];
        u32::try_from(part.saturating_sub(near).max(8) / 8 * 8).unwrap_or(8)
    };
    let lengths = [length(stage), length(stage)];
    let (discard, backwards) = (stage.play.dice.below(3) == 0, stage.play.dice.below(2) == 0);
    let scratch = stage.executor.scratch.as_raw_fd();
    let insns = program(map.as_raw_fd(), scratch, lengths, discard, backwards);
    let program = load(ProgKind::RawTp, &insns, None)?;
    stage.executor.arm(Place::FileLock, program.as_fd())?;
    let moved = stage.play.dice.below(2) == 0;
    let stack = Stack::new(&[0x1000]);
    for _ in 0..1 + stage.play.dice.below(4) {
        if moved {
            // Where user space likes: the kernel has to see for itself what is free.
            let at = size / 8 * u64::from(stage.play.dice.below(16))
                + 8 * u64::from(stage.play.dice.below(3));
            consumer.store(0, at);
        }
        stage.executor.counters.store(NOTES, 0);
        let _ = stack.file_lock(stage.executor.files.text.as_fd());
        let both = stage.executor.counters.load(NOTES) == 3;
        let needed: u64 = lengths.iter().map(|length| u64::from(*length) + HEADER).sum();
        if both && needed > size {
            stage.wrong(format!(
                "records of {lengths:?} bytes were reserved at the same time in a buffer of {size}"
            ));
        }
        if !moved {
            consume(stage, &consumer, &producer, size);
        }
    }
    let _ = stage.executor.disarm(Place::FileLock);
    Ok(())
}

/// Reads what is in the buffer, as a consumer does.
fn consume(stage: &mut Stage<'_>, consumer: &Region, producer: &Region, size: u64) {
    let (mut at, end) = (consumer.load(0), producer.load(0));
    if end.wrapping_sub(at) > size {
        stage.wrong(format!("a buffer of {size} bytes holds {}", end.wrapping_sub(at)));
        return;
    }
    while at < end {
        let data = |at: u64| producer.load(PAGE + usize::try_from(at & (size - 1)).unwrap_or(0));
        #[allow(clippy::cast_possible_truncation)] // the lower half is the length
        let length = data(at) as u32;
        if length & BUSY != 0 {
            stage.wrong("a record that was submitted is busy".to_owned());
            return;
        }
        let bytes = u64::from(length & !(BUSY | DISCARD));
        let whole = (bytes + HEADER).div_ceil(8) * 8;
        if bytes == 0 || at + whole > end {
            stage.wrong(format!("a record of {bytes} bytes with {} left", end - at));
            return;
        }
        let (first, last) = (data(at + 8), data(at + whole - 8));
        if length & DISCARD == 0 && first != last {
            stage.wrong(format!("a record begins with {first:#x} and ends with {last:#x}"));
        }
        at += whole;
    }
    consumer.store(0, at);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::scratch::SCRATCH;

    /// A program fills both records to the last word, and submits what it reserved.
    #[test]
    fn programs_fill_their_records() {
        let insns = program(5, 4, [16, 4096], true, true);
        let stores: Vec<i16> =
            insns.iter().filter(|insn| insn.code == 0x7a).map(|insn| insn.offset).collect();
        assert!(stores.contains(&8) && stores.contains(&4088), "{stores:?}");
        let calls =
            |number| insns.iter().filter(|i| i.code == 0x85 && i.immediate == number).count();
        assert_eq!((calls(131), calls(132), calls(133)), (2, 1, 1));
        assert!(usize::try_from(SCRATCH).unwrap() > NOTES);
        assert_eq!(insns.last().map(|insn| insn.code), Some(0x95));
    }
}
