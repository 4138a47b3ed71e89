// SPDX-License-Identifier: MIT OR Apache-2.0
//! What helpers of BPF programs answer: printed text, numbers from text, compared text,
//! dynamic pointers, loops. The programs are an iterator's, which user space runs by read(2).

mod drain;
mod format;
mod print;

use std::os::fd::{AsFd, AsRawFd};

use super::Stage;
use super::desk::Desk;
use super::infos::CLEAN;
use super::iterators::end;
use super::maps::{Map, READ_ONLY, freeze};
use crate::bpf::insn::{FUNCTION, Short};
use crate::op::value::Dice;
use crate::sys::call::Answer;

/// What its programs are about: the answers of helpers, and what they read and write.
const ANSWERS: usize = 0;
const TEXT: usize = 128;
const OUT: usize = 384;
/// Bytes of all.
const DESK: usize = 512;

/// Keeps a helper's answer as one of those.
fn keep(desk: &Desk, code: &mut Short, nth: usize) {
    desk.at(code, 1, ANSWERS + 8 * nth);
    code.push(0x7b, 1, 0, 0, 0);
}

/// The answers of helpers, as they were kept, and all of the value.
fn answers(desk: &Desk) -> Answer<(Vec<i64>, Vec<u8>)> {
    let value = desk.value()?;
    let words = value.chunks_exact(8).filter_map(|word| word.try_into().ok());
    Ok((words.map(i64::from_ne_bytes).take(TEXT / 8).collect(), value))
}

/// Runs a program once: what it told.
fn run_once(desk: &Desk, code: Short, none: usize) -> Answer<Vec<u8>> {
    Desk::run(desk.load(&end(code, &[none]))?.as_fd())
}

/// What was answered wrongly, if anything.
type Told = Result<(), String>;

pub(super) fn run(stage: &mut Stage<'_>) -> Answer<()> {
    let dice = &mut stage.play.dice;
    let told = match dice.below(8) {
        0 | 1 => print::print(dice)?,
        2 | 3 => numbers(dice)?,
        4 => compare(dice)?,
        5 => pointers(dice)?,
        6 => drain::drain(dice)?,
        _ => turns(dice)?,
    };
    if let Err(what) = told {
        stage.wrong(what);
    }
    Ok(())
}

/// A text that a number may be read from.
fn number_text(dice: &mut dyn Dice) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..dice.below(3) {
        text.push(b" \t\n"[dice.below(3) as usize]);
    }
    if dice.below(3) == 0 {
        text.push(b'-');
    }
    if dice.below(3) == 0 {
        text.extend([&b"0x"[..], b"0", b"0X", b"00"][dice.below(4) as usize]);
    }
    let digits = [&b"0123456789"[..], b"01234567", b"0123456789abcdefABCDEF", b"fF9"];
    let digits = digits[dice.below(4) as usize];
    let most = [3, 12, 20, 23][dice.below(4) as usize];
    for _ in 0..dice.below(most) {
        text.push(digits[dice.below(u32::try_from(digits.len()).unwrap_or(1)) as usize]);
    }
    match dice.below(8) {
        0 => text = i64::MIN.to_string().into_bytes(),
        1 => text = i64::MAX.to_string().into_bytes(),
        2 => text = format!("{}", u64::MAX).into_bytes(),
        3 => text = format!("-{}", 1_u64 << 63 | u64::from(dice.below(2))).into_bytes(),
        _ => {}
    }
    if dice.below(3) == 0 {
        text.extend(b"zx -"[dice.below(4) as usize..].iter().take(1));
    }
    if text.is_empty() {
        text.push(b' ');
    }
    text
}

/// `bpf_strtol()` and `bpf_strtoul()`, of several texts.
fn numbers(dice: &mut dyn Dice) -> Answer<Told> {
    const STRTOL: i32 = 105;
    const EACH: usize = 32;
    let desk = Desk::new(DESK)?;
    let mut value = vec![0; DESK];
    let (mut code, none) = Desk::code();
    let mut asked = Vec::new();
    for nth in 0..(OUT - TEXT) / EACH {
        let text = number_text(dice);
        let flags = [0, 0, 8, 10, 16, 16, 3, 0x20][dice.below(8) as usize];
        let signed = dice.below(2) == 0;
        let at = TEXT + EACH * nth;
        if let Some(room) = value.get_mut(at..at + text.len()) {
            room.copy_from_slice(&text);
        }
        desk.at(&mut code, 1, at);
        code.mov_imm(2, i32::try_from(text.len()).unwrap_or(0));
        code.mov_imm(3, i32::try_from(flags).unwrap_or(0));
        code.push(0x7a, 10, 0, -8, 0);
        code.stack(4, -8);
        code.call(if signed { STRTOL } else { STRTOL + 1 });
        keep(&desk, &mut code, 2 * nth);
        code.push(0x79, 0, 10, -8, 0);
        keep(&desk, &mut code, 2 * nth + 1);
        asked.push((text, flags, signed));
    }
    desk.put(&value)?;
    run_once(&desk, code, none)?;
    let (answers, _) = answers(&desk)?;
    for ((text, flags, signed), answer) in asked.iter().zip(answers.chunks(2)) {
        let told = match *answer {
            [read, number] if read >= 0 => {
                Ok((usize::try_from(read).unwrap_or(0), number.cast_unsigned()))
            }
            [errno, _] => Err(i32::try_from(-errno).unwrap_or(0)),
            _ => return Err(libc::EIO),
        };
        let right = format::number(text, *flags, *signed);
        if told != right {
            let name = if *signed { "bpf_strtol" } else { "bpf_strtoul" };
            let text = String::from_utf8_lossy(text);
            return Ok(Err(format!("{name}({text:?}, flags {flags}): {told:?} and not {right:?}")));
        }
    }
    Ok(Ok(()))
}

/// `bpf_strncmp()`.
fn compare(dice: &mut dyn Dice) -> Answer<Told> {
    const STRNCMP: i32 = 182;
    let mut any = |most: u32| -> Vec<u8> {
        (0..dice.below(most)).map(|_| b"ab\x80"[dice.below(3) as usize]).collect()
    };
    let (mut left, mut right) = (any(5), any(5));
    left.push(0);
    left.resize(8, b'x');
    right.push(0);
    let length = 1 + dice.below(8) as usize;
    let desk = Desk::new(DESK)?;
    let mut value = vec![0; TEXT];
    value.extend(&left);
    value.resize(DESK, 0);
    desk.put(&value)?;
    let constant = Map::create(2, 4, right.len(), 1, READ_ONLY)?;
    constant.update(&[0; 4], &right, 0)?;
    freeze(&constant)?;
    let (mut code, none) = Desk::code();
    desk.at(&mut code, 1, TEXT);
    code.mov_imm(2, i32::try_from(length).unwrap_or(1));
    code.load_wide(3, 2, constant.fd.as_raw_fd(), 0);
    code.call(STRNCMP);
    keep(&desk, &mut code, 0);
    run_once(&desk, code, none)?;
    let told = answers(&desk)?.0.first().copied().unwrap_or(0);
    let promised = format::compared(&left, &right, length);
    // 32 bits are the answer.
    if (told as i32).signum() != promised {
        return Ok(Err(format!(
            "bpf_strncmp() of {length} bytes of {left:x?} and {right:x?}: {told} and not {promised}"
        )));
    }
    Ok(Ok(()))
}

/// Dynamic pointers to memory of a map: what is written, read and looked at is within.
fn pointers(dice: &mut dyn Dice) -> Answer<Told> {
    const FROM_MEM: i32 = 197;
    const READ: i32 = 201;
    const WRITE: i32 = 202;
    const DATA: i32 = 203;
    const ROOM: usize = 64;
    let desk = Desk::new(DESK)?;
    let length = dice.below(ROOM as u32 + 1);
    let mut value = vec![0; TEXT];
    value.resize(DESK, CLEAN);
    desk.put(&value)?;
    let mut memory = vec![CLEAN; ROOM];
    let (mut code, none) = Desk::code();
    desk.at(&mut code, 1, TEXT);
    code.mov_imm(2, length.cast_signed());
    code.mov_imm(3, 0);
    code.stack(4, -16);
    code.call(FROM_MEM);
    keep(&desk, &mut code, 0);
    // What may be answered: where both the range and a flag are wrong either is.
    let mut right = vec![[0_i64; 2]];
    for nth in 1..1 + dice.below(10) as usize {
        let near = [0, length, length.wrapping_sub(8), u32::MAX, 8][dice.below(5) as usize];
        let offset = near.wrapping_add(dice.below(10)).wrapping_sub(dice.below(4));
        let size = 1 + dice.below(16);
        let inside = u64::from(offset) + u64::from(size) <= u64::from(length);
        let flags = i64::from(dice.below(8) == 0);
        let range = offset as usize..(offset as usize).saturating_add(size as usize);
        let (far, unknown) = (-i64::from(libc::E2BIG), -i64::from(libc::EINVAL));
        let either = match (inside, flags > 0) {
            (true, false) => [0; 2],
            (true, true) => [unknown; 2],
            (false, false) => [far; 2],
            (false, true) => [far, unknown],
        };
        match dice.below(3) {
            0 => {
                let fill = i32::try_from(nth).unwrap_or(0) * 0x0101_0101;
                for slot in [-24, -32] {
                    code.mov_imm(1, fill);
                    code.push(0x7b, 10, 1, slot, 0);
                }
                code.stack(1, -16);
                code.push(0xb4, 2, 0, 0, offset.cast_signed()); // w2 = offset
                code.stack(3, -32);
                code.mov_imm(4, size.cast_signed());
                code.mov_imm(5, flags as i32);
                code.call(WRITE);
                if either == [0; 2] {
                    let bytes = [i64::from(fill).to_ne_bytes(); 2].concat();
                    if let Some(part) = memory.get_mut(range) {
                        part.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
                    }
                }
                right.push(either);
            }
            1 => {
                code.stack(1, -48);
                code.mov_imm(2, size.cast_signed());
                code.stack(3, -16);
                code.push(0xb4, 4, 0, 0, offset.cast_signed());
                code.mov_imm(5, flags as i32);
                code.call(READ);
                right.push(either);
            }
            _ => {
                // Its first byte, or that there is none.
                code.stack(1, -16);
                code.push(0xb4, 2, 0, 0, offset.cast_signed());
                code.mov_imm(3, size.cast_signed());
                code.call(DATA);
                let nothing = code.jump_if(0x15, 0, 0);
                code.push(0x71, 0, 0, 0, 0);
                code.add_imm(0, 1);
                code.land(nothing);
                let first = memory.get(range).filter(|_| inside).and_then(|part| part.first());
                right.push([first.map_or(0, |byte| i64::from(*byte) + 1); 2]);
            }
        }
        keep(&desk, &mut code, nth);
    }
    run_once(&desk, code, none)?;
    let (answers, value) = answers(&desk)?;
    let told = value.get(TEXT..TEXT + ROOM).unwrap_or_default();
    let fine = answers.iter().zip(&right).all(|(answer, right)| right.contains(answer));
    if !fine || told != memory {
        return Ok(Err(format!(
            "a dynamic pointer to {length} bytes: {answers:?} and not {right:?}; {told:x?} and \
             not {memory:x?}"
        )));
    }
    Ok(Ok(()))
}

/// `bpf_for_each_map_elem()` and `bpf_loop()`: as many turns as there are, or as are asked for.
fn turns(dice: &mut dyn Dice) -> Answer<Told> {
    const FOR_EACH: i32 = 164;
    const LOOP: i32 = 181;
    let desk = Desk::new(DESK)?;
    desk.put(&[0; DESK])?;
    let kind = [1, 2, 5, 6, 9][dice.below(5) as usize];
    let map = Map::create(kind, 4, 8, 1 + dice.below(20), 0)?;
    if !matches!(kind, 2 | 6) {
        for key in 0..dice.below(20) {
            let _ = map.update(&key.to_ne_bytes(), &map.filled(1), 0);
        }
    }
    let there = map.keys().map_err(|_| libc::EIO)?.len() as u64;
    let each = dice.below(2) == 0;
    let asked =
        u64::from([dice.below(60), (1 << 23) + dice.below(2)][usize::from(dice.below(6) == 0)]);
    // When the callback says that it is enough.
    let last = if each || asked < 100 { 1 + u64::from(dice.below(70)) } else { 3 };
    let flags = u64::from(dice.below(8) == 0);
    let (mut code, none) = Desk::code();
    if each {
        code.load_wide(1, 1, map.fd.as_raw_fd(), 0);
    } else {
        code.mov_imm(1, i32::try_from(asked).unwrap_or(0));
    }
    let function = code.insns.len();
    code.load_wide(2, FUNCTION, 0, 0);
    code.mov_imm(3, 0);
    code.mov_imm(4, i32::try_from(flags).unwrap_or(0));
    code.call(if each { FOR_EACH } else { LOOP });
    keep(&desk, &mut code, 0);
    // The callback counts, and says whether it is enough.
    let mut callback = Short::default();
    desk.at(&mut callback, 1, ANSWERS + 8);
    callback.push(0x79, 2, 1, 0, 0);
    callback.add_imm(2, 1);
    callback.push(0x7b, 1, 2, 0, 0);
    callback.mov_imm(0, 0);
    let more = callback.jump_if(0xa5, 2, i32::try_from(last).unwrap_or(1)); // if r2 < last
    callback.mov_imm(0, 1);
    callback.land(more);
    callback.push(0x95, 0, 0, 0, 0);
    let link = desk.load_with(end(code, &[none]), function, callback.insns)?;
    Desk::run(link.as_fd())?;
    let (answers, _) = answers(&desk)?;
    let all = if each { there } else { asked };
    let done = all.min(last).cast_signed();
    let right = if flags > 0 {
        [-i64::from(libc::EINVAL), 0]
    } else if !each && asked > 1 << 23 {
        [-i64::from(libc::E2BIG), 0]
    } else {
        [done, done]
    };
    // Where the verifier puts a loop in the call's place, an errno has 32 bits only, and is no
    // number below zero (`inline_bpf_loop()`).
    let [answer, calls] = [0, 1].map(|nth| answers.get(nth).copied().unwrap_or(0));
    let told = [if each { answer } else { i64::from(answer as i32) }, calls];
    if told != right {
        let what = if each { "elements of a map" } else { "turns of a loop" };
        return Ok(Err(format!(
            "{all} {what}, {last} at most, flags {flags}: {told:?} and not {right:?} (the answer, \
             calls)"
        )));
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::value::Seeded;

    /// The kernel that this runs on, if it may be asked, is right about each of them.
    #[test]
    fn this_kernel_is_right() {
        let plays: [fn(&mut dyn Dice) -> Answer<Told>; 6] =
            [print::print, numbers, compare, pointers, turns, drain::drain];
        for seed in 0..1000 {
            match plays[seed as usize % plays.len()](&mut Seeded(seed)) {
                Err(libc::EPERM | libc::ENOSYS | libc::ENOENT) if seed == 0 => return,
                told => assert_eq!(told, Ok(Ok(())), "{seed}"),
            }
        }
    }
}
