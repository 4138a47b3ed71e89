// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same calls on a map, made by a BPF program: it does what the value says that it works
//! on, and notes there what was answered.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::{Map, VALUE};
use crate::bpf::insn::Short;
use crate::oracle::check::desk::Desk;
use crate::oracle::check::iterators::end;
use crate::sys::call::Answer;

/// What the value holds: which call, flags, a key, a value, and then what was answered, the
/// value that was found, and the CPU.
const FLAGS: usize = 8;
const KEY: usize = 16;
const GIVEN: usize = 64;
const ANSWER: i16 = 72;
const FOUND: i16 = 80;
const CPU: i16 = 88;
const DESK: usize = 96;

/// A call, by the number of its helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Lookup = 1,
    Update = 2,
    Delete = 3,
    Push = 87,
    Pop = 88,
    Peek = 89,
}

/// What came of a call.
pub(super) struct Done {
    pub(super) answer: Answer<()>,
    /// What was found, on this CPU.
    pub(super) found: [u8; VALUE],
    /// The CPU that the program ran on.
    pub(super) cpu: usize,
}

/// A program that makes such calls on one map.
pub(super) struct Caller {
    desk: Desk,
    link: OwnedFd,
}

impl Caller {
    /// For a table, or for a queue, whose calls are others.
    pub(super) fn of(map: &Map, calls: &[Call]) -> Answer<Self> {
        let desk = Desk::new(DESK)?;
        let (mut code, none) = Desk::code();
        desk.at(&mut code, 9, 0);
        code.push(0x79, 6, 9, 0, 0); // which
        code.mov_imm(8, 0);
        for call in calls {
            let another = code.jump_if(0x55, 6, *call as i32);
            code.load_wide(1, 1, map.fd.as_raw_fd(), 0);
            let place = |code: &mut Short, register: u8, at: i32| {
                code.mov(register, 9);
                code.add_imm(register, at);
            };
            let given = match call {
                Call::Lookup | Call::Update | Call::Delete => KEY,
                Call::Push => GIVEN,
                Call::Pop | Call::Peek => FOUND.unsigned_abs().into(),
            };
            place(&mut code, 2, i32::try_from(given).unwrap_or(0));
            match call {
                Call::Update => {
                    place(&mut code, 3, i32::try_from(GIVEN).unwrap_or(0));
                    code.push(0x79, 4, 9, FLAGS as i16, 0);
                }
                Call::Push => {
                    code.push(0x79, 3, 9, FLAGS as i16, 0);
                }
                Call::Lookup | Call::Delete | Call::Pop | Call::Peek => {}
            }
            code.call(*call as i32);
            if *call == Call::Lookup {
                code.mov_imm(8, -libc::ENOENT);
                let nothing = code.jump_if(0x15, 0, 0);
                code.push(0x79, 1, 0, 0, 0);
                code.push(0x7b, 9, 1, FOUND, 0);
                code.mov_imm(8, 0);
                code.land(nothing);
            } else {
                code.mov(8, 0);
            }
            code.land(another);
        }
        code.push(0x7b, 9, 8, ANSWER, 0);
        code.call(8); // bpf_get_smp_processor_id()
        code.push(0x7b, 9, 0, CPU, 0);
        let link = desk.load(&end(code, &[none]))?;
        Ok(Self { desk, link })
    }

    /// Has the program make a call.
    pub(super) fn call(&self, call: Call, key: &[u8], value: &[u8], flags: u64) -> Answer<Done> {
        let mut desk = vec![0; DESK];
        let parts: [(usize, &[u8]); 4] =
            [(0, &[call as u8]), (FLAGS, &flags.to_ne_bytes()), (KEY, key), (GIVEN, value)];
        for (at, bytes) in parts {
            let part = desk.iter_mut().skip(at).take(bytes.len().min(if at == GIVEN {
                VALUE
            } else {
                40
            }));
            part.zip(bytes).for_each(|(to, from)| *to = *from);
        }
        self.desk.put(&desk)?;
        Desk::run(self.link.as_fd())?;
        let word = |at: i16| self.desk.word(at.unsigned_abs().into());
        let answer = word(ANSWER)?.cast_signed();
        Ok(Done {
            answer: match answer {
                0 => Ok(()),
                errno => Err(i32::try_from(-errno).unwrap_or(libc::EIO)),
            },
            found: word(FOUND)?.to_ne_bytes(),
            cpu: usize::try_from(word(CPU)?).unwrap_or(0),
        })
    }
}
