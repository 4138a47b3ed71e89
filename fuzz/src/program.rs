// SPDX-License-Identifier: MIT OR Apache-2.0
//! A fuzz program: limits, and operations in order.
//!
//! Any sequence of operations becomes a runnable program by [`Program::fixup`],
//! which is total (there is nothing it refuses) and idempotent. Programs are
//! made from fuzzer input by [`Arbitrary`], changed by [`Program::mutate`] and
//! [`Program::splice`], and kept as text ([`text`]).

mod favour;
mod mutate;
pub mod text;

use arbitrary::{Arbitrary, Unstructured};

pub use favour::Favour;

use crate::op::value::{Dice, Input, Made, Value};
use crate::op::{Check, Op};

/// Operations of a program at most.
pub const MOST_OPS: u8 = 40;
/// Slow operations of a program at most.
pub const MOST_SLOW: u8 = 8;

/// What a program may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Operations; the rest is cut off.
    pub ops: u8,
    /// Slow operations ([`Op::is_slow`]); further ones are left out.
    pub slow: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self { ops: 20, slow: 1 }
    }
}

/// Which operations that take as long as several programs may be in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slow {
    /// Each check, in the order of [`Check::ALL`].
    pub checks: [bool; Check::ALL.len()],
    /// Others that wait ([`Op::waits`]).
    pub waits: bool,
}

/// A fuzz program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// What it may cost.
    pub limits: Limits,
    /// What it does.
    pub ops: Vec<Op>,
}

impl Program {
    /// Makes it runnable: within its limits, and every reference to something
    /// that an earlier operation makes. An operation that refers to what nobody
    /// makes is left out.
    pub fn fixup(&mut self) {
        let Self { limits, ops } = self;
        let Limits { ops: most, slow } = limits;
        *most = (*most).clamp(1, MOST_OPS);
        *slow = (*slow).min(MOST_SLOW);
        let mut made = Made::default();
        let mut kept = 0;
        let mut slow_left = *slow;
        ops.retain_mut(|op| {
            if kept >= *most || !op.fix(&made) {
                return false;
            }
            if op.is_slow() {
                match slow_left.checked_sub(1) {
                    Some(left) => slow_left = left,
                    None => return false,
                }
            }
            op.count(&mut made);
            kept += 1;
            true
        });
    }

    /// A program by chance, every other operation of which is a favoured one.
    pub fn about(favour: &Favour, dice: &mut dyn Dice) -> Self {
        let mut program = Self::roll(dice);
        for at in (0..program.ops.len()).rev().step_by(2) {
            if let (Some(op), Some(place)) =
                (Op::one_of(&favour.ops, dice), program.ops.get_mut(at))
            {
                *place = op;
            }
        }
        program.fixup();
        program.aim();
        program.fixup();
        program
    }

    /// A program by chance.
    pub fn roll(dice: &mut dyn Dice) -> Self {
        let mut program = Self::default();
        // What others refer to comes first, else most would be left out.
        let count = 10 + dice.below(11);
        for position in 0..count {
            program.ops.push(mutate::op_for(position, dice));
        }
        program.fixup();
        program.aim();
        program
    }
}

impl<'a> Arbitrary<'a> for Program {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(Self::roll(&mut Input(input)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::value::Seeded;

    /// Whatever the input, the program that comes out runs as it is: fixing it
    /// again changes nothing.
    #[test]
    fn fixup_is_idempotent() {
        for seed in 0..3000 {
            let mut dice = Seeded(seed);
            // Unfixed, with references to anything and any limits.
            let mut program = Program {
                limits: Limits {
                    ops: u8::try_from(dice.below(256)).unwrap(),
                    slow: u8::try_from(dice.below(256)).unwrap(),
                },
                ops: (0..dice.below(80)).map(|_| Op::roll(&mut dice)).collect(),
            };
            program.fixup();
            let once = program.clone();
            program.fixup();
            assert_eq!(program, once, "seed {seed}");
            assert!(program.ops.len() <= usize::from(MOST_OPS));
        }
    }

    /// Every reference of a fixed program is to something made before it.
    #[test]
    fn references_are_to_earlier_operations() {
        for seed in 0..500 {
            let program = Program::roll(&mut Seeded(seed));
            let mut made = Made::default();
            for op in &program.ops {
                let mut same = op.clone();
                assert!(same.fix(&made), "{op:?}");
                assert_eq!(&same, op);
                op.count(&mut made);
            }
        }
    }

    /// Any bytes are a program, none included, and the same bytes the same one.
    #[test]
    fn any_bytes_are_a_program() {
        for length in [0, 1, 7, 100, 4000] {
            let mut dice = Seeded(length);
            let bytes: Vec<u8> =
                (0..length).map(|_| u8::try_from(dice.below(256)).unwrap()).collect();
            let read = |bytes: &[u8]| Program::arbitrary(&mut Unstructured::new(bytes)).unwrap();
            let program = read(&bytes);
            let mut fixed = program.clone();
            fixed.fixup();
            assert_eq!(program, fixed);
            assert_eq!(program, read(&bytes));
        }
    }

    /// Chance finds every operation, and programs are not mostly cut away.
    #[test]
    fn every_operation_occurs() {
        let mut seen = std::collections::BTreeSet::new();
        let mut ops = 0;
        for seed in 0..2000 {
            let program = Program::roll(&mut Seeded(seed));
            ops += program.ops.len();
            seen.extend(program.ops.iter().map(Op::word));
        }
        let missing: Vec<_> = Op::TABLE.iter().filter(|row| !seen.contains(row.0)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(ops / 2000 >= 10, "{} operations a program", ops / 2000);
    }
}
