// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is printed by a format.

use std::os::fd::AsRawFd;

use super::format::{Argument, Format, texts};
use super::{DESK, OUT, TEXT, Told, answers, keep, run_once};
use crate::bpf::insn::Short;
use crate::op::value::Dice;
use crate::oracle::check::desk::Desk;
use crate::oracle::check::infos::CLEAN;
use crate::oracle::check::maps::{Map, READ_ONLY, freeze};
use crate::oracle::check::says_nothing;
use crate::sys::call::Answer;

/// `bpf_seq_printf()` and `bpf_snprintf()`.
pub(super) fn print(dice: &mut dyn Dice) -> Answer<Told> {
    const SEQ_PRINTF: i32 = 126;
    const SNPRINTF: i32 = 165;
    let format = Format::any(dice);
    let desk = Desk::new(DESK)?;
    let mut value = vec![0; TEXT];
    value.extend(texts());
    value.resize(OUT, 0);
    value.resize(DESK, CLEAN);
    let (mut code, none) = Desk::code();
    let first = -8 * i16::try_from(format.arguments.len().max(1)).unwrap_or(1);
    for (at, argument) in (first..).step_by(8).zip(&format.arguments) {
        match argument {
            Argument::Word(word) => {
                let [low, high] = [0, 32].map(|by| (word >> by) as u32);
                code.load_wide(1, 0, low.cast_signed(), high.cast_signed());
            }
            Argument::Text(at) => desk.at(&mut code, 1, TEXT + at),
        }
        code.push(0x7b, 10, 1, at, 0);
    }
    let length = 8 * i32::try_from(format.arguments.len()).unwrap_or(0);
    let arguments = |code: &mut Short, register: u8| match length {
        0 => code.mov_imm(register, 0),
        _ => code.stack(register, first.into()),
    };
    let text = [format.text.as_slice(), &[0]].concat();
    let right = format.right.as_deref().ok_or(libc::EINVAL);
    if dice.below(2) == 0 {
        if let Some(room) = value.get_mut(TEXT + 128..TEXT + 128 + text.len()) {
            room.copy_from_slice(&text);
        }
        desk.put(&value)?;
        code.mov(1, 7);
        desk.at(&mut code, 2, TEXT + 128);
        code.mov_imm(3, i32::try_from(text.len()).unwrap_or(0));
        arguments(&mut code, 4);
        code.mov_imm(5, length);
        code.call(SEQ_PRINTF);
        keep(&desk, &mut code, 0);
        let told = run_once(&desk, code, none)?;
        let answer = answers(&desk)?.0.first().copied().unwrap_or(0);
        let promised = right.err().map_or(0, |errno| -i64::from(errno));
        let printed = right.unwrap_or_default();
        if answer != promised || told != printed.as_bytes() {
            return Ok(Err(format!(
                "bpf_seq_printf({format}) answers {answer}, {:?} and not {promised}, {printed:?}",
                String::from_utf8_lossy(&told)
            )));
        }
        return Ok(Ok(()));
    }
    // Where there is no room left, 6.12.117 passes over an address and takes it for what comes
    // next (`bstr_printf()`; fuzz/found/bpf-snprintf-full.c).
    let room = match format.has_address() {
        true => 128,
        false => [0, 1, 5, 16, 64, 128][dice.below(6) as usize],
    };
    let constant = Map::create(2, 4, text.len(), 1, READ_ONLY)?;
    constant.update(&[0; 4], &text, 0)?;
    freeze(&constant)?;
    desk.put(&value)?;
    desk.at(&mut code, 1, OUT);
    code.mov_imm(2, room);
    code.load_wide(3, 2, constant.fd.as_raw_fd(), 0);
    arguments(&mut code, 4);
    code.mov_imm(5, length);
    code.call(SNPRINTF);
    keep(&desk, &mut code, 0);
    let loaded = run_once(&desk, code, none).map(drop);
    if loaded != right.map(drop) {
        if loaded.is_err_and(says_nothing) {
            return Ok(Ok(()));
        }
        return Ok(Err(format!("bpf_snprintf({format}): {loaded:?} and not {right:?}")));
    }
    let Ok(right) = right else { return Ok(Ok(())) };
    if format.has_address() && right.len() >= 128 {
        return Ok(Ok(()));
    }
    let (answers, value) = answers(&desk)?;
    let room = usize::try_from(room).unwrap_or(0);
    let mut out: Vec<u8> = right.bytes().take(room.saturating_sub(1)).collect();
    if room > 0 {
        out.push(0);
    }
    let behind = OUT + room;
    let fits = value.get(OUT..).is_some_and(|told| told.starts_with(&out))
        && value.iter().skip(behind).all(|byte| *byte == CLEAN);
    let length = i64::try_from(right.len() + 1).unwrap_or(0);
    if answers.first() != Some(&length) || !fits {
        return Ok(Err(format!(
            "bpf_snprintf({format}) with room for {room}: {:?}, {:x?} and not {length}, {right:?}",
            answers.first(),
            value.get(OUT..)
        )));
    }
    Ok(Ok(()))
}
