// SPDX-License-Identifier: MIT OR Apache-2.0
//! Timers in elements of BPF maps: what their calls answer, that one fires once and not when
//! it was cancelled; and two threads at the same ones, whose callbacks stop each other.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use super::Stage;
use super::desk::Desk;
use super::iterators::end;
use super::races::{Side, race};
use crate::bpf::btf;
use crate::bpf::insn::{FUNCTION, Short};
use crate::engine::pool;
use crate::op::value::{Dice, Seeded};
use crate::sys::call::{self, Answer, Attributes};

/// Calls, by the number of their helper.
const INIT: u64 = 169;
const SET_CALLBACK: u64 = 170;
const START: u64 = 171;
const CANCEL: u64 = 172;

/// What the program works on: which call, its flags, nanoseconds; the key of its element, and
/// that of another one; what the callback does; then the answer, and calls of the callback.
const CALL: usize = 0;
const FLAGS: i16 = 8;
const NANOSECONDS: i16 = 16;
const KEY: i32 = 24;
const OTHER: i32 = 32;
const WHAT: i16 = 40;
const ANSWER: i16 = 48;
const FIRED: i16 = 56;
const DESK: usize = 64;

/// What a callback does: begins anew, cancels another timer, deletes another element, begins
/// anew and deletes its own element, cancels itself; nothing if it is none of these.
const ANEW: u64 = 1;
const CANCEL_OTHER: u64 = 2;
const DELETE_OTHER: u64 = 3;
const ANEW_AND_DELETE: u64 = 4;
const CANCEL_ITSELF: u64 = 5;
/// Calls after which a callback does nothing any more.
const MOST: i32 = 40;

/// Elements of the map.
const ELEMENTS: u32 = 4;
/// Bytes of a value: a word, and a timer.
const VALUE: usize = 24;

/// A map with timers.
struct Timers(OwnedFd);

impl Timers {
    /// A hash or an array.
    fn create(kind: u32, flags: u32) -> Answer<Self> {
        let types = pool::types().ok_or(libc::ENOENT)?;
        let attributes = Attributes::default()
            .word(0, kind)
            .word(4, 4)
            .word(8, u32::try_from(VALUE).unwrap_or(0))
            .word(12, ELEMENTS)
            .word(16, flags)
            .fd(48, types.as_fd())
            .word(52, btf::KEY)
            .word(56, btf::TIMED);
        call::bpf_fd(0, attributes, 72).map(Self)
    }

    fn update(&self, key: u32) -> Answer<()> {
        let (key, value) = (key.to_ne_bytes(), [0; VALUE]);
        let attributes = Attributes::default().fd(0, self.0.as_fd()).input(8, &key);
        call::bpf(2, attributes.input(16, &value), 32).map(drop)
    }

    fn delete(&self, key: u32) -> Answer<()> {
        let key = key.to_ne_bytes();
        call::bpf(3, Attributes::default().fd(0, self.0.as_fd()).input(8, &key), 32).map(drop)
    }
}

/// A program that makes the calls it is told to.
struct Caller {
    desk: Desk,
    link: OwnedFd,
}

/// A call, and what the callback is to do.
#[derive(Clone, Copy, Default)]
struct Order {
    call: u64,
    flags: u64,
    nanoseconds: u64,
    key: u32,
    other: u32,
    what: u64,
}

impl Caller {
    fn of(timers: &Timers) -> Answer<Self> {
        let desk = Desk::new(DESK)?;
        let map = timers.0.as_raw_fd();
        let (mut code, none) = Desk::code();
        desk.at(&mut code, 9, 0);
        code.push(0x79, 6, 9, 0, 0);
        let find = |code: &mut Short, key: i32| {
            code.load_wide(1, 1, map, 0);
            code.mov(2, 9);
            code.add_imm(2, key);
            code.call(1);
            code.jump_if(0x15, 0, 0)
        };
        let nothing = find(&mut code, KEY);
        code.mov(8, 0);
        code.add_imm(8, 8);
        let mut function = 0;
        for call in [INIT, SET_CALLBACK, START, CANCEL] {
            let number = i32::try_from(call).unwrap_or(0);
            let another = code.jump_if(0x55, 6, number);
            code.mov(1, 8);
            match call {
                INIT => {
                    code.load_wide(2, 1, map, 0);
                    code.push(0x79, 3, 9, FLAGS, 0);
                }
                SET_CALLBACK => {
                    function = code.insns.len();
                    code.load_wide(2, FUNCTION, 0, 0);
                }
                START => {
                    code.push(0x79, 2, 9, NANOSECONDS, 0);
                    code.push(0x79, 3, 9, FLAGS, 0);
                }
                _ => {}
            }
            code.call(number);
            code.push(0x7b, 9, 0, ANSWER, 0);
            code.land(another);
        }
        let first = end(code, &[none, nothing]);
        // The callback: its map, key and value are R1 to R3.
        let mut code = Short::default();
        code.mov(6, 2);
        code.mov(7, 3);
        code.add_imm(7, 8);
        desk.at(&mut code, 9, 0);
        code.mov_imm(1, 1);
        code.push(0xdb, 9, 1, FIRED, 0x01); // r1 = fetch and add
        let enough = code.jump_if(0x25, 1, MOST);
        code.push(0x79, 8, 9, WHAT, 0);
        for what in [ANEW, CANCEL_OTHER, DELETE_OTHER, ANEW_AND_DELETE, CANCEL_ITSELF] {
            let another = code.jump_if(0x55, 8, i32::try_from(what).unwrap_or(0));
            if matches!(what, ANEW | ANEW_AND_DELETE) {
                code.mov(1, 7);
                code.push(0x79, 2, 9, NANOSECONDS, 0);
                code.mov_imm(3, 0);
                code.call(START as i32);
            }
            match what {
                CANCEL_OTHER => {
                    let nothing = find(&mut code, OTHER);
                    code.mov(1, 0);
                    code.add_imm(1, 8);
                    code.call(CANCEL as i32);
                    code.land(nothing);
                }
                DELETE_OTHER | ANEW_AND_DELETE => {
                    code.load_wide(1, 1, map, 0);
                    code.mov(2, 9);
                    code.add_imm(2, OTHER);
                    if what == ANEW_AND_DELETE {
                        code.mov(2, 6);
                    }
                    code.call(3);
                }
                CANCEL_ITSELF => {
                    code.mov(1, 7);
                    code.call(CANCEL as i32);
                }
                _ => {}
            }
            code.land(another);
        }
        let link = desk.load_with(first, function, end(code, &[enough]))?;
        Ok(Self { desk, link })
    }

    /// Has the program make a call: its answer, and none if there is no such element.
    fn call(&self, order: Order) -> Answer<Option<i64>> {
        let mut desk = vec![0; DESK];
        let mut put = |at: usize, word: u64| {
            desk.iter_mut().skip(at).zip(word.to_ne_bytes()).for_each(|(to, from)| *to = from);
        };
        let place = |at: i16| usize::from(at.unsigned_abs());
        put(CALL, order.call);
        put(place(FLAGS), order.flags);
        put(place(NANOSECONDS), order.nanoseconds);
        put(KEY as usize, order.key.into());
        put(OTHER as usize, order.other.into());
        put(place(WHAT), order.what);
        put(place(ANSWER), u64::MAX);
        self.desk.put(&desk)?;
        Desk::run(self.link.as_fd())?;
        let answer = self.word(ANSWER)?.cast_signed();
        Ok((answer != -1).then_some(answer))
    }

    fn word(&self, at: i16) -> Answer<u64> {
        self.desk.word(at.unsigned_abs().into())
    }
}

/// What a timer is, as far as is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    there: bool,
    begun: bool,
    callback: bool,
    armed: bool,
}

pub(super) fn run(stage: &mut Stage<'_>) -> Answer<()> {
    if let Err(what) = calls(&mut stage.play.dice)? {
        stage.wrong(what);
    }
    Ok(())
}

/// A hundred seconds: never, for a play.
const NEVER: u64 = 100_000_000_000;

fn calls(dice: &mut dyn Dice) -> Answer<Result<(), String>> {
    let (kind, flags) = [(1, 0), (1, 1), (2, 0)][dice.below(3) as usize];
    let array = kind == 2;
    let timers = Timers::create(kind, flags)?;
    let caller = Caller::of(&timers)?;
    let mut model = [State { there: array, ..State::default() }; ELEMENTS as usize];
    let (inval, busy) = (-i64::from(libc::EINVAL), -i64::from(libc::EBUSY));
    for _ in 0..8 + dice.below(24) {
        let key = dice.below(ELEMENTS);
        let Some(state) = model.get_mut(key as usize) else { continue };
        let mut order = Order { key, ..Order::default() };
        let right = match dice.below(8) {
            0 => {
                timers.update(key)?;
                *state = State { there: true, ..State::default() };
                continue;
            }
            1 if !array => {
                let _ = timers.delete(key);
                *state = State::default();
                continue;
            }
            2 | 3 => {
                // A clock, or what is none.
                order.flags = [1, 1, 0, 7, 2, 16][dice.below(6) as usize];
                order.call = INIT;
                let clock = matches!(order.flags, 0 | 1 | 7);
                let right = match (clock, state.begun) {
                    (false, _) => inval,
                    (true, true) => busy,
                    (true, false) => 0,
                };
                state.begun |= right == 0 && state.there;
                right
            }
            4 => {
                order.call = SET_CALLBACK;
                state.callback |= state.begun;
                if state.begun { 0 } else { inval }
            }
            5 | 6 => {
                order.call = START;
                const UNKNOWN: u64 = 8;
                let soon = dice.below(2) == 0;
                order.nanoseconds = if soon { u64::from(dice.below(2)) } else { NEVER };
                // At a time long ago, and on this CPU.
                let flags = [0, 1, 2, 3][dice.below(if soon { 4 } else { 1 }) as usize];
                order.flags = if dice.below(6) == 0 { UNKNOWN } else { flags };
                let right = if order.flags == UNKNOWN || !state.callback { inval } else { 0 };
                if right == 0 {
                    state.armed = !soon;
                }
                right
            }
            _ => {
                order.call = CANCEL;
                let right = if state.begun { i64::from(state.armed) } else { inval };
                (state.callback, state.armed) = (false, false);
                right
            }
        };
        let there = state.there;
        let told = caller.call(order)?;
        let Order { call, flags, nanoseconds, .. } = order;
        if told == Some(-i64::from(libc::ENOMEM)) {
            return Err(libc::ENOMEM);
        }
        if told != there.then_some(right) {
            return Ok(Err(format!(
                "helper {call} with flags {flags} and {nanoseconds} ns on a timer of a map of \
                 kind {kind}: {told:?} and not {right}"
            )));
        }
        let fires = call == START && right == 0 && there && nanoseconds < NEVER;
        if fires && let Err(times) = fired(&caller)? {
            return Ok(Err(format!("a timer that is to fire at once fired {times} times")));
        }
    }
    Ok(Ok(()))
}

/// Waits until a timer has fired, and then whether it does once more.
fn fired(caller: &Caller) -> Answer<Result<(), u64>> {
    let pause = || std::thread::sleep(Duration::from_micros(100));
    let until = crate::sys::monotonic_ns() + 5_000_000_000;
    while caller.word(FIRED)? == 0 && crate::sys::monotonic_ns() < until {
        pause();
    }
    pause();
    Ok(match caller.word(FIRED)? {
        1 => Ok(()),
        times => Err(times),
    })
}

/// Two threads at the timers of one map, whose callbacks stop, delete and begin what there is.
pub(super) fn two(stage: &mut Stage<'_>) -> Answer<()> {
    let dice = &mut stage.play.dice;
    let timers = std::sync::Arc::new(Timers::create(1, dice.below(2))?);
    // Every other time all callbacks do the same, and each thread's timer is its own: to get in
    // each other's way takes two that run at the same time.
    let same = (dice.below(2) == 0).then(|| 1 + u64::from(dice.below(5)));
    let side = |own: u32| -> Answer<Side> {
        let (timers, caller) = (timers.clone(), Caller::of(&timers)?);
        Ok(Box::new(move |dice: &mut Seeded| {
            let key = if same.is_some() { own } else { dice.below(2) };
            let calls = [INIT, SET_CALLBACK, START, START, CANCEL];
            let mut order = Order {
                flags: 0,
                nanoseconds: [1_000, 50_000, 1_000_000][dice.below(3) as usize],
                key,
                other: 1 - key,
                what: same.unwrap_or_else(|| dice.below(6).into()),
                ..Order::default()
            };
            match dice.below(8) {
                0 | 1 => drop(timers.update(key)),
                2 => drop(timers.delete(key)),
                3..=5 => {
                    // All it takes.
                    for call in [INIT, SET_CALLBACK, START] {
                        order.call = call;
                        let _ = caller.call(order);
                    }
                }
                _ => {
                    order.call = calls[dice.below(5) as usize];
                    let _ = caller.call(order);
                }
            }
        }))
    };
    let (one, other) = (side(0)?, side(1)?);
    race(stage, one, other)
}
