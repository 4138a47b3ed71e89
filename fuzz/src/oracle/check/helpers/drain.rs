// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ring buffers that user space fills.

use std::os::fd::{AsFd, AsRawFd};

use super::{ANSWERS, DESK, Told, answers, keep};
use crate::bpf::insn::{FUNCTION, Short};
use crate::op::value::Dice;
use crate::oracle::check::desk::Desk;
use crate::oracle::check::iterators::end;
use crate::oracle::check::maps::Map;
use crate::sys::call::{Answer, Region};

/// A BPF ring buffer that user space fills and a program drains: each record once, unless user
/// space says that it is none, and no further than it says that it wrote.
pub(super) fn drain(dice: &mut dyn Dice) -> Answer<Told> {
    const DRAIN: i32 = 209;
    const READ: i32 = 201;
    const PAGE: usize = 4096;
    const BUSY: u64 = 1 << 31;
    const DISCARD: u64 = 1 << 30;
    let size = 4096_u64 << dice.below(2);
    let ring = Map::create(31, 0, 0, u32::try_from(size).unwrap_or(4096), 0)?;
    let consumer = Region::map(ring.fd.as_fd(), PAGE, false)?;
    let data = PAGE + usize::try_from(size).unwrap_or(PAGE);
    let producer = Region::map_at(ring.fd.as_fd(), PAGE, data, true)?;
    let flags = [0, 0, 1, 2, 4][dice.below(5) as usize];
    // When the program has enough.
    let last = i64::from(1 + dice.below(12));
    let desk = Desk::new(DESK)?;
    let (mut code, none) = Desk::code();
    code.load_wide(1, 1, ring.fd.as_raw_fd(), 0);
    let function = code.insns.len();
    code.load_wide(2, FUNCTION, 0, 0);
    code.mov_imm(3, 0);
    code.mov_imm(4, flags);
    code.call(DRAIN);
    keep(&desk, &mut code, 0);
    let first = end(code, &[none]);
    // Counts the records, and adds their first words.
    let mut code = Short::default();
    code.push(0x7a, 10, 0, -8, 0);
    code.mov(3, 1);
    code.stack(1, -8);
    code.mov_imm(2, 8);
    code.mov_imm(4, 0);
    code.mov_imm(5, 0);
    code.call(READ);
    desk.at(&mut code, 1, ANSWERS + 8);
    code.push(0x79, 6, 1, 0, 0);
    code.add_imm(6, 1);
    code.push(0x7b, 1, 6, 0, 0);
    code.push(0x79, 2, 1, 8, 0);
    code.push(0x79, 3, 10, -8, 0);
    code.push(0x0f, 2, 3, 0, 0); // r2 += r3
    code.push(0x7b, 1, 2, 8, 0);
    code.mov_imm(0, 0);
    let more = code.jump_if(0xa5, 6, i32::try_from(last).unwrap_or(1)); // if r6 < last
    code.mov_imm(0, 1);
    code.land(more);
    code.push(0x95, 0, 0, 0, 0);
    let link = desk.load_with(first, function, code.insns)?;
    let place = |position: u64| PAGE + usize::try_from(position % size).unwrap_or(0);
    let mut position = 0;
    for round in 1..4_u64 {
        // What it comes to: the answer, records, their words, and how far it is read.
        let (mut answer, mut count, mut sum, mut read) = (0_i64, 0_i64, 0_i64, position);
        let mut ended = flags == 4;
        for nth in 0..u64::from(dice.below(20)) {
            let length = 8 + u64::from(dice.below(400));
            let total = (length + 8).next_multiple_of(8);
            if position + total - consumer.load(0) > size {
                break;
            }
            let (word, kind) = (round << 8 | nth, dice.below(16));
            let header = match kind {
                0..=3 => length | DISCARD,
                4 => length | BUSY,
                // Further than there is anything.
                5 => length + 2 * size,
                _ => length,
            };
            producer.store(place(position), header);
            producer.store(place(position + 8), word);
            position += total;
            if ended {
                continue;
            }
            match kind {
                4 => ended = true,
                5 => (answer, ended) = (-i64::from(libc::EINVAL), true),
                _ => {
                    read += total;
                    if kind > 3 {
                        (count, sum) = (count + 1, sum + word.cast_signed());
                        ended = count == last;
                    }
                }
            }
        }
        if answer == 0 {
            answer = if flags == 4 { -i64::from(libc::EINVAL) } else { count };
        }
        producer.store(0, position);
        desk.put(&[0; DESK])?;
        Desk::run(link.as_fd())?;
        let (answers, _) = answers(&desk)?;
        let (right, at) = ([answer, count, sum], consumer.load(0));
        if !answers.starts_with(&right) || at != read {
            return Ok(Err(format!(
                "a ring buffer of {size} bytes, {last} records at most, flags {flags}: {:?}, read \
                 to {at}, and not {right:?}, to {read} (the answer, records, their words)",
                answers.get(..3)
            )));
        }
        // What is left would be read with what follows.
        if read != position {
            break;
        }
    }
    Ok(Ok(()))
}
