// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changes of programs: on operations, never on bytes.

use super::Program;
use crate::op::Op;
use crate::op::step::{Body, Flaw, MaybeFlaw, Size, StackFlags, Step};
use crate::op::value::{Dice, EventRef, MapRef, ProgRef, Upto, Value};
use crate::op::{
    Backing, EventFlags, EventKind, How, MapFlags, MapKind, Period, Place, ProgKind, Protection,
    SampleFlags, Target,
};

fn pick(dice: &mut dyn Dice, length: usize) -> usize {
    dice.below(u32::try_from(length).unwrap_or(u32::MAX)) as usize
}

/// An operation for this place of a new program: resources early, what uses
/// them later.
pub(super) fn op_for(position: u32, dice: &mut dyn Dice) -> Op {
    if dice.below(4) == 0 {
        return Op::any(dice);
    }
    match position {
        0 => Op::MapCreate {
            kind: MapKind::roll(dice),
            flags: MapFlags::default(),
            entries: Upto::roll(dice),
            pooled: Upto(15),
        },
        1 | 2 => program(dice),
        3 | 4 => event(dice),
        5 => Op::PerfBpf { event: EventRef::roll(dice), prog: ProgRef::roll(dice) },
        6 | 7 => mapping(dice),
        8 => Op::Arm { place: Place::roll(dice), prog: ProgRef::roll(dice) },
        9 | 10 => trigger(dice),
        _ => Op::any(dice),
    }
}

fn program(dice: &mut dyn Dice) -> Op {
    let kind = if dice.below(2) == 0 { ProgKind::PerfEvent } else { ProgKind::RawTp };
    let flags = StackFlags { user: true, build_id: dice.below(4) > 0, ..StackFlags::default() };
    let stack = match dice.below(4) {
        0 | 1 => Step::GetStack { flags, skip: Upto(0), size: Size::Some },
        2 => Step::GetStackid { map: Upto(0), flags: StackFlags { build_id: false, ..flags } },
        _ => Step::roll(dice),
    };
    let mut body = Body::roll(dice);
    body.0.insert(0, stack);
    Op::ProgLoad {
        kind,
        flaw: MaybeFlaw(Flaw::Sound),
        maps: vec![MapRef(0), MapRef::roll(dice)],
        body,
    }
}

fn event(dice: &mut dyn Dice) -> Op {
    let event = match dice.below(6) {
        0 | 1 => EventKind::PageFaults,
        2 => EventKind::CpuClock,
        3 => EventKind::Switches,
        _ => EventKind::roll(dice),
    };
    let period = if event == EventKind::CpuClock { Period::Short } else { Period::Each };
    Op::PerfOpen {
        event,
        period,
        target: if dice.below(4) == 0 { Target::roll(dice) } else { Target::Own },
        flags: if dice.below(2) == 0 { EventFlags::roll(dice) } else { EventFlags::default() },
        sample: SampleFlags::roll(dice),
        group: None,
        page: Upto::roll(dice),
    }
}

fn mapping(dice: &mut dyn Dice) -> Op {
    Op::Mmap {
        page: Upto::roll(dice),
        more: Upto::roll(dice),
        what: Backing::roll(dice),
        protection: if dice.below(2) == 0 { Protection::ReadWrite } else { Protection::ReadExec },
        offset: Upto::roll(dice),
    }
}

fn trigger(dice: &mut dyn Dice) -> Op {
    Op::Trigger {
        how: How::roll(dice),
        page: Upto::roll(dice),
        frames: (0..=dice.below(4)).map(|_| Upto::roll(dice)).collect(),
        again: Upto::roll(dice),
    }
}

impl Program {
    /// Another program, a few changes away, that runs as it is.
    pub fn mutate(&mut self, dice: &mut dyn Dice) {
        for _ in 0..=dice.below(3) {
            self.change(dice);
        }
        self.fixup();
    }

    fn change(&mut self, dice: &mut dyn Dice) {
        let ops = &mut self.ops;
        let at = pick(dice, ops.len());
        match dice.below(16) {
            0..=3 => ops.insert(at, Op::any(dice)),
            // The end is where things are set up already.
            4 => ops.push(trigger(dice)),
            5 => ops.push(Op::any(dice)),
            6 | 7 if ops.len() > 2 => drop(ops.remove(at)),
            8 if ops.len() > 2 => {
                let other = pick(dice, ops.len());
                ops.swap(at, other);
            }
            9 => {
                if let Some(op) = ops.get(at).cloned() {
                    let to = pick(dice, ops.len() + 1);
                    ops.insert(to, op);
                }
            }
            _ => match ops.get_mut(at) {
                // A changed program has to be verified, which takes as long as
                // all else together.
                Some(Op::ProgLoad { .. }) if dice.below(2) == 0 => ops.push(trigger(dice)),
                Some(op) => op.tweak(dice),
                None => ops.push(Op::any(dice)),
            },
        }
    }

    /// The beginning of this one and the end of another.
    pub fn splice(&mut self, other: &Self, dice: &mut dyn Dice) {
        let keep = pick(dice, self.ops.len() + 1);
        let from = pick(dice, other.ops.len() + 1);
        self.ops.truncate(keep);
        self.ops.extend(other.ops.iter().skip(from).cloned());
        self.fixup();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::value::Seeded;

    /// Mutants and splices run as they are, and are mostly something new.
    #[test]
    fn changes_keep_programs_runnable() {
        let mut dice = Seeded(1);
        let mut program = Program::roll(&mut dice);
        let other = Program::roll(&mut dice);
        let mut changed = 0;
        for _ in 0..2000 {
            let before = program.clone();
            program.mutate(&mut dice);
            if dice.below(10) == 0 {
                program.splice(&other, &mut dice);
            }
            let mut fixed = program.clone();
            fixed.fixup();
            assert_eq!(program, fixed);
            changed += u32::from(program != before);
        }
        assert!(changed > 1600, "{changed} of 2000 changes changed anything");
    }
}
