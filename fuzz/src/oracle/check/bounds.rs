// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the BPF verifier says that registers can hold, against what they hold when the
//! program runs.
//!
//! A program of arithmetic, jumps and spills is loaded with the verifier's log. At its end
//! each register is moved to itself, which has the log tell its state, once for each way
//! there that was looked at. Then each register is used as an offset into a map's value:
//! that makes it *precise*, so that a way is passed over only if what it can hold there is
//! in a state that was told. (Compare Sun and Su, "Validating the eBPF Verifier via State
//! Embedding", OSDI 2024, which checks states in the program itself.)

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::Stage;
use super::maps::Map;
use crate::bpf::insn::{Insn, Short};
use crate::engine::pool::bytes_of;
use crate::op::Place;
use crate::op::value::Dice;
use crate::sys::call::{self, Answer, Attributes};
use crate::sys::trigger::Stack;

const PROG_LOAD: u32 = 5;
/// Bytes of the log; a longer one is not read.
const LOG: usize = 256 << 10;
/// The registers that are calculated with.
const REGISTERS: [u8; 3] = [6, 7, 8];
/// The map's value: what each of them held, whether the program ran to its end, room to be
/// written to at an offset, and what it begins with.
const RAN: u8 = 24;
const ROOM: u8 = 32;
const INPUTS: u8 = 40;
const VALUE: usize = 64;
/// Jumps of a program: each may double the ways through it, and the log.
const JUMPS: usize = 4;

/// Loads of 8, 4, 2 bytes and one, and the last three with their sign.
const LOADS: [u8; 7] = [0x79, 0x61, 0x69, 0x71, 0x81, 0x89, 0x91];

/// Numbers near which arithmetic goes wrong.
const SPECIAL: [i32; 20] = [
    0,
    1,
    -1,
    2,
    3,
    7,
    15,
    16,
    31,
    32,
    63,
    127,
    128,
    255,
    0x7fff,
    0x8000,
    0xffff,
    i32::MAX,
    i32::MIN,
    -128,
];

pub(super) fn run(stage: &mut Stage<'_>) -> Answer<()> {
    let stack = Stack::new(&[0x1000]);
    let executor = &*stage.executor;
    let played = play(&mut stage.play.dice, |program| {
        // These kernels have no network, and BPF_PROG_TEST_RUN is a part of it.
        executor.arm(Place::FileLock, program)?;
        stack.file_lock(executor.files.text.as_fd()).map(drop)
    });
    let _ = executor.disarm(Place::FileLock);
    if let Some(what) = played? {
        stage.wrong(what);
    }
    Ok(())
}

/// Loads a program and has it run; what a register held that it cannot.
fn play(
    dice: &mut dyn Dice,
    mut run: impl FnMut(BorrowedFd<'_>) -> Answer<()>,
) -> Answer<Option<String>> {
    let map = Map::create(2, 4, VALUE, 1, 0)?;
    let (insns, end) = program(dice, map.fd.as_raw_fd());
    let bytes = bytes_of(&insns);
    let mut log = vec![0_u8; LOG];
    let attributes = Attributes::default()
        .word(0, 17) // BPF_PROG_TYPE_RAW_TRACEPOINT
        .word(4, u32::try_from(insns.len()).unwrap_or(0))
        .input(8, &bytes)
        .input(16, b"GPL\0")
        .word(24, 2) // BPF_LOG_LEVEL2
        .word(28, u32::try_from(LOG).unwrap_or(0))
        .output(32, &mut log);
    let program = call::bpf_fd(PROG_LOAD, attributes, 72)?;
    // Most of it is not written to, and so is not there yet.
    let log = CStr::from_bytes_until_nul(&log).map_err(|_| libc::ENOSPC)?.to_string_lossy();
    let states = [0, 1, 2].map(|nth| states(&log, end + nth, REGISTERS[nth]));
    // A log in other words than these says nothing.
    if states.iter().any(Vec::is_empty) {
        return Err(libc::ENOMSG);
    }
    for _ in 0..6 {
        let mut value = vec![0_u8; INPUTS.into()];
        value.extend((0..3).flat_map(|_| number(dice).to_ne_bytes()));
        map.update(&[0; 4], &value, 0)?;
        run(program.as_fd())?;
        let value = map.lookup(1, &[0; 4])?;
        let words = value.chunks_exact(8).filter_map(|word| word.try_into().ok());
        let words: Vec<u64> = words.map(u64::from_ne_bytes).collect();
        // A hit may be passed over, see `SHORT_ROUNDS`.
        if words.get(usize::from(RAN / 8)) != Some(&1) {
            continue;
        }
        for ((register, states), held) in REGISTERS.iter().zip(&states).zip(words) {
            if states.iter().any(|state| state.holds(held)) {
                continue;
            }
            let said: Vec<&str> = states.iter().map(|state| state.text.as_str()).take(4).collect();
            let what = format!("r{register} holds {held:#x}, and the verifier says {said:?}");
            return Ok(Some(what));
        }
    }
    Ok(None)
}

/// A number of 64 bits that something may go wrong with.
fn number(dice: &mut dyn Dice) -> u64 {
    let small = i64::from(SPECIAL[dice.below(20) as usize]).cast_unsigned();
    match dice.below(5) {
        0 => small,
        1 => small.wrapping_add(u64::from(dice.below(5))).wrapping_sub(2),
        2 => small << dice.below(64),
        3 => u64::from(dice.below(u32::MAX)) << 32 | u64::from(dice.below(u32::MAX)),
        _ => u64::from(dice.below(300)),
    }
}

/// A constant of an instruction.
fn constant(dice: &mut dyn Dice) -> i32 {
    match dice.below(3) {
        0 => i32::from_ne_bytes(dice.below(u32::MAX).to_ne_bytes()),
        _ => SPECIAL[dice.below(20) as usize],
    }
}

/// A program, and where its end begins: the registers moved to themselves.
fn program(dice: &mut dyn Dice, map: i32) -> (Vec<Insn>, usize) {
    let mut code = Short::default();
    code.load_wide(9, 2, map, 0);
    for (nth, register) in (0_i16..).zip(REGISTERS) {
        if dice.below(5) == 0 {
            let [low, high] = [0, 32].map(|by| (number(dice) >> by) as u32);
            code.load_wide(register, 0, low.cast_signed(), high.cast_signed());
        } else {
            // Mostly a part of it, whose bounds are known.
            let load = LOADS[dice.below(7) as usize];
            code.push(load, register, 9, i16::from(INPUTS) + 8 * nth, 0);
        }
    }
    code.push(0x7b, 10, 6, -8, 0);
    code.push(0x7b, 10, 7, -16, 0);
    let mut jumps = Vec::new();
    for _ in 0..3 + dice.below(14) {
        if jumps.len() < JUMPS && dice.below(3) == 0 {
            jumps.push(jump(dice, &mut code));
        } else if dice.below(6) == 0 {
            memory(dice, &mut code);
        } else {
            arithmetic(dice, &mut code);
        }
    }
    let end = code.insns.len();
    for at in jumps {
        let most = i16::try_from(end - at - 1).unwrap_or(0);
        if let Some(insn) = code.insns.get_mut(at) {
            insn.offset = insn.offset.min(most);
        }
    }
    for register in REGISTERS {
        code.mov(register, register);
    }
    for (nth, register) in (0_i16..).zip(REGISTERS) {
        code.push(0x7b, 9, register, 8 * nth, 0);
    }
    code.push(0x7a, 9, 0, RAN.into(), 1);
    for register in REGISTERS {
        code.mov(5, register);
        code.push(0x57, 5, 0, 0, 7); // r5 &= 7
        code.mov(4, 9);
        code.push(0x0f, 4, 5, 0, 0); // r4 += r5
        code.push(0x72, 4, 0, ROOM.into(), 0); // *(u8 *)(r4 + ROOM) = 0
    }
    code.mov_imm(0, 0);
    code.push(0x95, 0, 0, 0, 0);
    (code.insns, end)
}

fn register(dice: &mut dyn Dice) -> u8 {
    REGISTERS[dice.below(3) as usize]
}

/// A conditional jump, forward.
fn jump(dice: &mut dyn Dice, code: &mut Short) -> usize {
    const CONDITIONS: [u8; 11] = [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xa0, 0xb0, 0xc0, 0xd0];
    let condition = CONDITIONS[dice.below(11) as usize];
    let class = if dice.below(2) == 0 { 5 } else { 6 };
    let (left, right) = (register(dice), register(dice));
    let distance = i16::try_from(1 + dice.below(4)).unwrap_or(1);
    if dice.below(2) == 0 {
        code.push(condition | class | 8, left, right, distance, 0)
    } else {
        code.push(condition | class, left, 0, distance, constant(dice))
    }
}

/// A spill to the stack, or something filled from there, with or without its sign.
fn memory(dice: &mut dyn Dice, code: &mut Short) {
    const STORES: [u8; 4] = [0x7b, 0x63, 0x6b, 0x73];
    let width = |code: u8| match code & 0x18 {
        0x18 => 8_i16,
        0x00 => 4,
        0x08 => 2,
        _ => 1,
    };
    let register = register(dice);
    let slot = if dice.below(2) == 0 { -8 } else { -16 };
    let choice = if dice.below(2) == 0 {
        STORES[dice.below(4) as usize]
    } else {
        LOADS[dice.below(7) as usize]
    };
    let size = width(choice);
    let at = i16::try_from(dice.below(8)).unwrap_or(0) / size * size;
    if STORES.contains(&choice) {
        code.push(choice, 10, register, slot + at, 0);
    } else {
        code.push(choice, register, 10, slot + at, 0);
    }
}

/// Arithmetic on 32 or 64 bits.
fn arithmetic(dice: &mut dyn Dice, code: &mut Short) {
    const SHIFTS: [u8; 3] = [0x60, 0x70, 0xc0];
    const OTHERS: [u8; 9] = [0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x90, 0xa0, 0xb0];
    let wide = dice.below(2) == 0;
    let class = if wide { 7 } else { 4 };
    let (dst, src) = (register(dice), register(dice));
    match dice.below(10) {
        0 | 1 => {
            let op = SHIFTS[dice.below(3) as usize];
            if dice.below(4) == 0 {
                code.push(op | class | 8, dst, src, 0, 0);
            } else {
                let by = dice.below(if wide { 64 } else { 32 });
                code.push(op | class, dst, 0, 0, by.cast_signed());
            }
        }
        2 => {
            code.push(0x80 | class, dst, 0, 0, 0);
        }
        3 => {
            // To another order of bytes: always, or as the host's own is.
            let bits = [16, 32, 64][dice.below(3) as usize];
            let op = [0xd4, 0xdc, 0xd7][dice.below(3) as usize];
            code.push(op, dst, 0, 0, bits);
        }
        4 => {
            // With the sign of 8, 16 or 32 bits.
            let bits = [8, 16, 32][dice.below(if wide { 3 } else { 2 }) as usize];
            code.push(0xb8 | class, dst, src, bits, 0);
        }
        _ => {
            let op = OTHERS[dice.below(9) as usize];
            let divides = matches!(op, 0x30 | 0x90);
            let signed = i16::from(divides && dice.below(2) == 0);
            if dice.below(2) == 0 {
                code.push(op | class | 8, dst, src, signed, 0);
            } else {
                let constant = constant(dice);
                let constant = if divides && constant == 0 { 3 } else { constant };
                code.push(op | class, dst, 0, signed, constant);
            }
        }
    }
}

/// What a register can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    unsigned: (u64, u64),
    signed: (i64, i64),
    unsigned_32: (u32, u32),
    signed_32: (i32, i32),
    /// Bits that are known, and those that are not (`tnum`).
    bits: (u64, u64),
    text: String,
}

impl State {
    fn holds(&self, value: u64) -> bool {
        #[allow(clippy::cast_possible_truncation)] // the lower half is what is meant
        let low = value as u32;
        let within = |range: (u64, u64), value| range.0 <= value && value <= range.1;
        within(self.unsigned, value)
            && self.signed.0 <= value.cast_signed()
            && value.cast_signed() <= self.signed.1
            && self.unsigned_32.0 <= low
            && low <= self.unsigned_32.1
            && self.signed_32.0 <= low.cast_signed()
            && low.cast_signed() <= self.signed_32.1
            && value & !self.bits.1 == self.bits.0
    }

    /// As the verifier's log has it (`print_reg_state()` of kernel/bpf/log.c); none for what
    /// is no number, or written in another way.
    fn parse(text: &str) -> Option<Self> {
        let state = Self {
            unsigned: (0, u64::MAX),
            signed: (i64::MIN, i64::MAX),
            unsigned_32: (0, u32::MAX),
            signed_32: (i32::MIN, i32::MAX),
            bits: (0, u64::MAX),
            text: text.to_owned(),
        };
        let text = text.strip_prefix('P').unwrap_or(text);
        let Some(inner) = text.strip_prefix("scalar(") else {
            let value = word(text)?;
            return Some(Self { bits: (value, 0), ..state });
        };
        let inner = inner.strip_suffix(')')?;
        let mut state = state;
        for field in inner.split(',').filter(|field| !field.is_empty()) {
            let (names, value) = field.rsplit_once('=')?;
            if let Some(bits) = value.strip_prefix('(') {
                let (known, unknown) = bits.strip_suffix(')')?.split_once("; ")?;
                state.bits = (word(known)?, word(unknown)?);
                continue;
            }
            for name in names.split('=') {
                // `id=3+8`: which others it is equal to.
                if name == "id" {
                    continue;
                }
                let value = word(value)?;
                #[allow(clippy::cast_possible_truncation)] // of 32 bits as it is
                let low = value as u32;
                match name {
                    "umin" => state.unsigned.0 = value,
                    "umax" => state.unsigned.1 = value,
                    "smin" => state.signed.0 = value.cast_signed(),
                    "smax" => state.signed.1 = value.cast_signed(),
                    "umin32" => state.unsigned_32.0 = low,
                    "umax32" => state.unsigned_32.1 = low,
                    "smin32" => state.signed_32.0 = low.cast_signed(),
                    "smax32" => state.signed_32.1 = low.cast_signed(),
                    "var_off" => state.bits = (value, 0),
                    _ => return None,
                }
            }
        }
        Some(state)
    }
}

/// A number of the log: decimal, or hexadecimal without a sign.
fn word(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok().map(i64::cast_unsigned),
    }
}

/// The states of a register behind an instruction that moves it to itself: one for each way
/// there. None at all if one of them cannot be read.
fn states(log: &str, at: usize, register: u8) -> Vec<State> {
    let begin = format!("{at}: (bf) r{register} = r{register} ");
    let mut states = Vec::new();
    for line in log.lines().filter(|line| line.starts_with(&begin)) {
        let state = line.split_once(" ; ").and_then(|(_, told)| {
            let told = told.trim_start().strip_prefix(&format!("R{register}"))?;
            let (_, told) = told.split_once('=')?;
            // Until the next register; in parentheses there are spaces, too.
            let end = told.find(" R").unwrap_or(told.len());
            State::parse(told.get(..end)?.trim_end())
        });
        match state {
            Some(state) => states.push(state),
            None => return Vec::new(),
        }
    }
    states
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::value::Seeded;

    const LOG: &str = "\
10: (bf) r6 = r6                      ; R6_w=scalar(id=1,smin=0,smax=umax=0xffffffff,var_off=(0x0; 0xffffffff))
11: (bf) r7 = r7                      ; R7=-5
12: (bf) r8 = r8                      ; R8=P7 R9=scalar()
from 4 to 10: R1=ctx() R6_w=scalar()
10: (bf) r6 = r6                      ; R6_w=Pscalar(smin=smin32=-2,smax=smax32=7,umin32=0,var_off=(0x1; 0xfffffffffffffffe))
10: (bf) r60 = r60 ; R60=1
";

    /// States are read as the log has them, one for each way, and hold what they say.
    #[test]
    fn states_are_read() {
        let six = states(LOG, 10, 6);
        assert_eq!(six.len(), 2);
        let held = |value: u64| [six[0].holds(value), six[1].holds(value)];
        assert_eq!(held(0), [true, false]);
        assert_eq!(held(5), [true, true]);
        assert_eq!(held(u64::MAX), [false, true]);
        assert_eq!(held(0xffff_ffff), [true, false]);
        assert_eq!(held(9), [true, false]);
        assert_eq!(held((-3_i64).cast_unsigned()), [false, false]);
        let [seven, eight] = [(11, 7), (12, 8)].map(|(at, register)| states(LOG, at, register));
        assert!(seven[0].holds((-5_i64).cast_unsigned()) && !seven[0].holds(5));
        assert!(eight.len() == 1 && eight[0].holds(7) && !eight[0].holds(8));
        assert!(states(LOG, 13, 6).is_empty());
        // What cannot be read judges nothing.
        assert!(states("3: (bf) r6 = r6 ; R6=ctx()\n", 3, 6).is_empty());
        assert!(states("3: (bf) r6 = r6 ; R6=scalar(more=1)\n", 3, 6).is_empty());
    }

    /// Each bound is one.
    #[test]
    fn each_bound_counts() {
        let all = State::parse("scalar()").unwrap();
        assert!([0, 1 << 31, 1 << 63, u64::MAX].into_iter().all(|value| all.holds(value)));
        for (text, inside, outside) in [
            ("scalar(umin=2)", 2, 1),
            ("scalar(umax=2)", 2, 3),
            ("scalar(smin=-1)", u64::MAX, u64::MAX - 1),
            ("scalar(smax=0xfffffffffffffff0)", u64::MAX - 15, u64::MAX - 14),
            ("scalar(umin32=2)", 1 << 32 | 2, 1 << 32 | 1),
            ("scalar(umax32=2)", 1 << 32 | 2, 1 << 32 | 3),
            ("scalar(smin32=0xffff0000)", 0xffff_0000, 0xfffe_ffff),
            ("scalar(smax32=1)", 1, 2),
            ("scalar(id=4+1,var_off=(0x4; 0x3))", 7, 8),
        ] {
            let state = State::parse(text).unwrap();
            assert_eq!((state.holds(inside), state.holds(outside)), (true, false), "{text}");
        }
    }

    /// The kernel that this runs on, if it may be asked, is right about each of them, and
    /// its log can be read.
    #[test]
    fn this_kernel_is_right() {
        const TEST_RUN: u32 = 10;
        let mut long = 0;
        for seed in 0..300 {
            let played = play(&mut Seeded(seed), |program| {
                call::bpf(TEST_RUN, Attributes::default().fd(0, program), 80).map(drop)
            });
            match played {
                Err(libc::EPERM | libc::ENOSYS) if seed == 0 => return,
                Err(libc::ENOSPC) => long += 1,
                played => assert_eq!(played, Ok(None), "{seed}"),
            }
        }
        assert!(long < 30, "{long} of 300 logs are too long");
    }

    /// Jumps go forward, and no further than to the end.
    #[test]
    fn programs_end() {
        for seed in 0..300 {
            let (insns, end) = program(&mut Seeded(seed), 3);
            for (at, insn) in insns.iter().enumerate() {
                let class = insn.code & 7;
                if matches!(class, 5 | 6) && insn.code != 0x95 {
                    let to = at + 1 + usize::try_from(insn.offset).unwrap();
                    assert!(at < end && to <= end, "{seed}: {at} to {to} of {end}");
                }
            }
            assert_eq!(insns[end].code, 0xbf);
        }
    }
}
