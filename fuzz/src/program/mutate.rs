// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changes of programs: on operations, never on bytes.

use super::{Favour, Program, Slow};
use crate::op::Op;
use crate::op::step::{Body, Flaw, MaybeFlaw, Size, StackFlags, Step};
use crate::op::value::{Dice, EventRef, MapRef, ProgRef, Seeded, Upto, Value};
use crate::op::{
    ARENA_PAGES, Backing, Check, EventFlags, EventKind, How, MapFlags, MapKind, Period, Place,
    ProgKind, Protection, SampleFlags, Target,
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
        1 => usual(dice),
        2 => match dice.below(4) {
            0 => program(dice),
            _ => usual(dice),
        },
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
    let stack = match dice.below(6) {
        0 => Step::GetStack { flags, skip: Upto(0), size: Size::Some },
        // Now and then with nothing behind the buffer.
        1 => Step::GetStack {
            flags,
            skip: Upto(0),
            size: if dice.below(2) == 0 { Size::Edge } else { Size::Some },
        },
        2 => Step::GetStackid { map: Upto(0), flags: StackFlags { build_id: false, ..flags } },
        3 => Step::FindVma { page: Upto::roll(dice) },
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

/// Distinct programs that most new operations load one of.
const USUAL: u32 = 48;

/// One of them. Half of them use maps that are always the same: with maps of the
/// program's own the same steps are other instructions, which are verified anew.
fn usual(dice: &mut dyn Dice) -> Op {
    let number = dice.below(USUAL);
    match program(&mut Seeded(number.into())) {
        Op::ProgLoad { kind, flaw, body, maps: _ } if number.is_multiple_of(2) => {
            Op::ProgLoad { kind, flaw, maps: Vec::new(), body }
        }
        op => op,
    }
}

/// Any operation; if it loads a program, mostly one of those that stay loaded, for
/// to verify a new one takes as long as all else together.
fn any(dice: &mut dyn Dice) -> Op {
    match Op::any(dice) {
        Op::ProgLoad { .. } if dice.below(8) > 0 => usual(dice),
        op => op,
    }
}

/// Of how many changed programs one plays a favoured check.
const FAVOURED: u32 = 12;

/// Operations up to which a program gets cheap ones with its other changes.
const ROOMY: usize = 18;

/// A call that takes little and asks or tells what is there already.
fn cheap(dice: &mut dyn Dice) -> Op {
    let event = EventRef::roll(dice);
    match dice.below(4) {
        0 => Op::Trigger {
            how: How::Syscall,
            page: Upto(0),
            frames: vec![Upto::roll(dice)],
            again: Upto::roll(dice),
        },
        1 => Op::PerfIoctl { event, call: Value::roll(dice) },
        2 => Op::PerfRead { event },
        _ => Op::MapElement {
            map: MapRef::roll(dice),
            call: Value::roll(dice),
            key: Upto::roll(dice),
            how: Upto::roll(dice),
        },
    }
}

/// One of a few programs that stay loaded.
fn common(dice: &mut dyn Dice) -> Op {
    let flags = StackFlags { user: true, build_id: dice.below(3) > 0, ..StackFlags::default() };
    let step = match dice.below(6) {
        0 | 1 => Step::GetStackid { map: Upto(0), flags: StackFlags { build_id: false, ..flags } },
        // A page or two: each other page would be another program to load.
        2 => Step::FindVma { page: Upto(if dice.below(2) == 0 { 0 } else { 8 }) },
        _ => Step::GetStack { flags, skip: Upto(0), size: Size::Some },
    };
    Op::ProgLoad {
        kind: ProgKind::RawTp,
        flaw: MaybeFlaw(Flaw::Sound),
        maps: Vec::new(),
        body: Body(vec![step]),
    }
}

/// A program for uprobes that may sleep, and so read a file's build id from the disk.
fn sleepable(dice: &mut dyn Dice) -> Op {
    let flags = StackFlags { user: true, build_id: dice.below(3) > 0, ..StackFlags::default() };
    Op::ProgLoad {
        kind: ProgKind::Sleepable,
        flaw: MaybeFlaw(Flaw::Sound),
        maps: Vec::new(),
        body: Body(vec![match dice.below(4) {
            0 => Step::roll(dice),
            1 => Step::GetTaskStack { flags, size: Size::Some },
            _ => Step::GetStack { flags, skip: Upto(0), size: Size::Some },
        }]),
    }
}

fn event(dice: &mut dyn Dice) -> Op {
    let event = match dice.below(6) {
        0 | 1 => EventKind::PageFaults,
        2 => EventKind::CpuClock,
        3 => EventKind::Switches,
        _ => match EventKind::roll(dice) {
            // See Op::any.
            EventKind::Uprobe | EventKind::UprobeElf if dice.below(8) > 0 => EventKind::MinorFaults,
            slow if slow.is_slow() && dice.below(3) > 0 => EventKind::MinorFaults,
            any => any,
        },
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
    let how = match How::roll(dice) {
        // As in `Op::any`.
        How::Sleep if dice.below(8) > 0 => How::Syscall,
        how => how,
    };
    Op::Trigger {
        how,
        page: Upto::roll(dice),
        frames: (0..=dice.below(4)).map(|_| Upto::roll(dice)).collect(),
        again: Upto::roll(dice),
    }
}

/// Which pages of the arena are mapped, roughly.
#[derive(Default)]
struct Mapped([bool; ARENA_PAGES as usize]);

impl Mapped {
    fn set(&mut self, page: u8, more: u8, to: bool) {
        let from = usize::from(page);
        let pages = self.0.iter_mut().skip(from).take(usize::from(more) + 1);
        pages.for_each(|mapped| *mapped = to);
    }

    /// The page itself or, if nothing is mapped there, the next that is.
    fn near<const MAX: u8>(&self, page: &mut Upto<MAX>) {
        let start = usize::from(page.0);
        let found = (start..self.0.len()).chain(0..start).find(|at| self.0.get(*at) == Some(&true));
        if let Some(found) = found.and_then(|at| u8::try_from(at).ok()) {
            page.0 = found;
        }
    }

    /// Has an operation that needs something mapped find it.
    fn aim(&mut self, op: &mut Op) {
        match op {
            Op::Mmap { page, more, .. } => self.set(page.0, more.0, true),
            Op::Munmap { page, more } => {
                self.near(page);
                self.set(page.0, more.0, false);
            }
            Op::Mprotect { page, .. } | Op::Madvise { page, .. } | Op::Aside { page, .. } => {
                self.near(page);
            }
            Op::Mremap { page, more, to, then } => {
                self.near(page);
                // Several mappings cannot be moved at once, nor onto themselves.
                more.0 = 0;
                self.set(page.0, 0, false);
                self.set(to.0, then.0, true);
            }
            Op::Trigger { page, frames, .. } => {
                self.near(page);
                frames.iter_mut().for_each(|frame| self.near(frame));
            }
            _ => {}
        }
    }
}

/// The kinds of programs that an event of this kind runs.
fn runs(event: EventKind) -> &'static [ProgKind] {
    match event {
        EventKind::SysEnter | EventKind::SchedSwitch | EventKind::Softirq | EventKind::FileLock => {
            &[ProgKind::Tracepoint]
        }
        EventKind::Kprobe => &[ProgKind::Kprobe],
        EventKind::Uprobe | EventKind::UprobeElf => &[ProgKind::Sleepable, ProgKind::Kprobe],
        EventKind::CpuClock
        | EventKind::TaskClock
        | EventKind::PageFaults
        | EventKind::MinorFaults
        | EventKind::Switches
        | EventKind::Migrations
        | EventKind::Alignment
        | EventKind::BpfOutput
        | EventKind::Dummy
        | EventKind::Cycles
        | EventKind::Breakpoint
        | EventKind::Unknown => &[ProgKind::PerfEvent],
    }
}

impl Program {
    /// Has events and places refer to programs of the kind they run, as far as
    /// there are such: chance alone gets that right one time in five.
    pub(super) fn aim(&mut self) {
        let (mut progs, mut events): (Vec<ProgKind>, Vec<EventKind>) = Default::default();
        let mut mapped = Mapped::default();
        for op in &mut self.ops {
            mapped.aim(op);
            let wanted = match op {
                Op::ProgLoad { kind, .. } => {
                    progs.push(*kind);
                    continue;
                }
                Op::PerfOpen { event, .. } => {
                    events.push(*event);
                    continue;
                }
                Op::Arm { prog, .. } | Op::RawOpen { prog, .. } => {
                    Some(([ProgKind::RawTp].as_slice(), prog))
                }
                Op::UprobeLink { prog, .. } => Some(([ProgKind::UprobeMulti].as_slice(), prog)),
                Op::PerfBpf { event, prog } | Op::PerfLink { event, prog } => {
                    events.get(usize::from(event.0)).map(|event| (runs(*event), prog))
                }
                _ => None,
            };
            let Some((wanted, prog)) = wanted else { continue };
            if progs.get(usize::from(prog.0)).is_some_and(|kind| wanted.contains(kind)) {
                continue;
            }
            let fitting = progs.iter().rposition(|kind| wanted.contains(kind));
            if let Some(fitting) = fitting.and_then(|at| u8::try_from(at).ok()) {
                *prog = ProgRef(fitting);
            }
        }
    }

    /// Adds what makes a BPF program run: mostly one that others load too.
    fn run_bpf(&mut self, dice: &mut dyn Dice) {
        if dice.below(24) == 0 {
            return self.probe_user(dice);
        }
        let has = |kind| {
            self.ops.iter().any(|op| matches!(op, Op::ProgLoad { kind: k, .. } if *k == kind))
        };
        if !has(ProgKind::RawTp) {
            self.ops.push(common(dice));
        }
        self.ops.push(Op::Arm { place: Place::FileLock, prog: ProgRef::roll(dice) });
        let frames = (0..=dice.below(4)).map(|_| Upto::roll(dice)).collect();
        let again = Upto::roll(dice);
        self.ops.push(Op::Trigger { how: How::Syscall, page: Upto(0), frames, again });
    }

    /// Adds two operations at the same time, about the same thing: that is where races are.
    fn pair(&mut self, dice: &mut dyn Dice) {
        let event = EventRef::roll(dice);
        let of_event = |dice: &mut dyn Dice, event: EventRef| match dice.below(7) {
            0 => Op::PerfOutput { event, into: Some(EventRef::roll(dice)) },
            1 => Op::PerfClose { event },
            2 => Op::PerfRead { event },
            3 => Op::PerfBpf { event, prog: ProgRef::roll(dice) },
            _ => Op::PerfIoctl { event, call: Value::roll(dice) },
        };
        let (map, key) = (MapRef::roll(dice), Upto::roll(dice));
        let of_map = |dice: &mut dyn Dice| Op::MapElement {
            map,
            call: Value::roll(dice),
            key,
            how: Upto::roll(dice),
        };
        let (page, more) = (Upto::roll(dice), Upto::roll(dice));
        let (first, second) = match dice.below(8) {
            0 | 1 => (of_event(dice, event), of_event(dice, event)),
            // A group, or a buffer that two share.
            2 | 3 => {
                let other = EventRef(event.0.wrapping_add(1));
                (of_event(dice, event), of_event(dice, other))
            }
            4 | 5 => (of_map(dice), of_map(dice)),
            _ => {
                let first = match dice.below(3) {
                    0 => Op::Munmap { page, more },
                    1 => Op::Mprotect { page, more, protection: Value::roll(dice) },
                    _ => Op::Madvise { page, more, advice: Value::roll(dice) },
                };
                let second = match dice.below(3) {
                    0 => mapping(dice),
                    1 => Op::Mremap { page, more, to: Upto::roll(dice), then: more },
                    _ => Op::Trigger {
                        how: Value::roll(dice),
                        page,
                        frames: vec![page],
                        again: Upto(0),
                    },
                };
                (first, second)
            }
        };
        // What comes last would be cut off.
        self.ops.truncate(ROOMY - 3);
        self.ops.extend([Op::Beside { skew: Upto::roll(dice) }, first, second]);
    }

    /// Adds what makes a BPF program run at uprobes: by a link to several, or by the
    /// event of one, where a program may sleep.
    fn probe_user(&mut self, dice: &mut dyn Dice) {
        // One slow operation is enough, and what comes last would be cut off.
        self.ops.retain(|op| !op.is_slow());
        self.ops.truncate(ROOMY - 5);
        let count = |wanted: fn(&Op) -> bool| {
            let count = self.ops.iter().filter(|op| wanted(op)).count();
            u8::try_from(count).unwrap_or(u8::MAX)
        };
        let prog = ProgRef(count(|op| matches!(op, Op::ProgLoad { .. })));
        let event = EventRef(count(|op| matches!(op, Op::PerfOpen { .. })));
        if dice.below(2) == 0 {
            let flags = StackFlags { user: true, build_id: true, ..StackFlags::default() };
            self.ops.extend([
                Op::ProgLoad {
                    kind: ProgKind::UprobeMulti,
                    flaw: MaybeFlaw(Flaw::Sound),
                    maps: Vec::new(),
                    body: Body(vec![Step::GetStack { flags, skip: Upto(0), size: Size::Some }]),
                },
                Op::UprobeLink { prog, whose: Value::roll(dice), at: Value::roll(dice) },
            ]);
        } else {
            self.ops.extend([
                Op::PerfOpen {
                    event: EventKind::Uprobe,
                    period: Period::Each,
                    target: Target::Own,
                    flags: EventFlags::default(),
                    sample: SampleFlags::default(),
                    group: None,
                    page: Upto(0),
                },
                sleepable(dice),
                Op::PerfBpf { event, prog },
            ]);
        }
        let frames = (0..=dice.below(4)).map(|_| Upto::roll(dice)).collect();
        let spin = Op::Trigger { how: How::Spin, page: Upto(0), frames, again: Upto(0) };
        self.ops.extend([mapping(dice), spin]);
    }

    /// Another program, a few changes away, that runs as it is.
    pub fn mutate(&mut self, dice: &mut dyn Dice) {
        self.mutate_for(dice, &Favour::default());
    }

    /// The same; now and then it plays a favoured check or does a favoured operation.
    pub fn mutate_for(&mut self, dice: &mut dyn Dice, favour: &Favour) {
        for _ in 0..=dice.below(3) {
            self.change(dice);
        }
        if !favour.ops.is_empty() && dice.below(2) == 0 {
            let at = pick(dice, self.ops.len() + 1);
            let op = Op::one_of(&favour.ops, dice);
            self.ops.splice(at..at, op);
        }
        if let Some(check) = favour.check(dice).filter(|_| dice.below(FAVOURED) == 0) {
            // One slow operation is enough, and what comes last would be cut off.
            self.ops.retain(|op| !op.is_slow());
            self.ops.truncate(ROOMY - 1);
            let at = pick(dice, self.ops.len() + 1);
            self.ops.insert(at, check);
            // What two threads do at the same time is seldom done at the wrong moment.
            if dice.below(3) == 0 {
                self.ops.insert(at, Op::Delays { seed: Upto::roll(dice) });
            }
        }
        // What was set up costs most; what is asked of it costs little.
        while self.ops.len() < ROOMY && dice.below(4) > 0 {
            self.ops.push(cheap(dice));
        }
        // What takes longest is handed down every other time: a few programs with it in
        // the corpus would have it in all that is made of them.
        for op in self.ops.iter_mut().filter(|op| op.waits()) {
            if dice.below(2) == 0 {
                op.hasten();
            }
        }
        // The same of what has two CPUs wait for each other, or one for a while.
        self.ops.retain(|op| !op.holds_up() || dice.below(2) == 0);
        self.fixup();
        // Now and then as chance has it, for the kernel has to refuse that too.
        if dice.below(5) > 0 {
            self.aim();
            self.fixup();
        }
    }

    /// The same without the slow operations that may not be in it: checks are left out, what
    /// waits does something alike that does not. Nothing refers to either, so a program that
    /// was runnable is.
    pub fn leave_out(&mut self, allowed: Slow) {
        let may = |what: Check| allowed.checks.get(what.nth()).copied().unwrap_or(false);
        self.ops.retain(|op| !matches!(op, Op::Check { what, .. } if !may(*what)));
        if !allowed.waits {
            let waiting = |op: &&mut Op| op.waits() && !matches!(op, Op::Check { .. });
            self.ops.iter_mut().filter(waiting).for_each(Op::hasten);
        }
    }

    fn change(&mut self, dice: &mut dyn Dice) {
        let ops = &mut self.ops;
        let at = pick(dice, ops.len());
        match dice.below(19) {
            16 | 17 => self.run_bpf(dice),
            18 => self.pair(dice),
            0..=3 => ops.insert(at, any(dice)),
            // The end is where things are set up already.
            4 => ops.push(cheap(dice)),
            5 => ops.push(any(dice)),
            6 | 7 if ops.len() > 2 => drop(ops.remove(at)),
            8 if ops.len() > 2 => {
                let other = pick(dice, ops.len());
                ops.swap(at, other);
            }
            9 | 10 => {
                if let Some(op) = ops.get(at).cloned() {
                    // The same call again shows what the first one left behind.
                    let to = if dice.below(2) == 0 { at + 1 } else { pick(dice, ops.len() + 1) };
                    ops.insert(to, op);
                }
            }
            _ => match ops.get_mut(at) {
                // As in `any`.
                Some(Op::ProgLoad { .. }) if dice.below(8) > 0 => ops.push(cheap(dice)),
                Some(op) => op.tweak(dice),
                None => ops.push(any(dice)),
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
    use std::collections::BTreeSet;

    use super::*;

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

    /// What may not be in a program is not, and what it refers to still is before it.
    #[test]
    fn slow_operations_are_left_out() {
        let mut dice = Seeded(2);
        let (mut checks, mut waits) = (0, 0);
        for _ in 0..3000 {
            let mut program = Program::roll(&mut dice);
            program.mutate(&mut dice);
            let count = |program: &Program, wanted: fn(&Op) -> bool| {
                program.ops.iter().filter(|op| wanted(op)).count()
            };
            let check = |op: &Op| matches!(op, Op::Check { .. });
            let wait = |op: &Op| op.waits() && !matches!(op, Op::Check { .. });
            checks += count(&program, check);
            waits += count(&program, wait);
            let mut less = program.clone();
            let all = Slow { checks: [true; Check::ALL.len()], waits: true };
            less.leave_out(all);
            assert_eq!(less, program);
            // One check may not, the others may.
            let mut but_one = all;
            but_one.checks[Check::Records.nth()] = false;
            less.leave_out(but_one);
            let records = |op: &Op| matches!(op, Op::Check { what: Check::Records, .. });
            assert_eq!(count(&less, records), 0);
            assert_eq!(count(&less, check), count(&program, check) - count(&program, records));
            let none = [false; Check::ALL.len()];
            less.leave_out(Slow { checks: none, waits: true });
            assert_eq!((count(&less, check), count(&less, wait)), (0, count(&program, wait)));
            less.leave_out(Slow { checks: none, waits: false });
            assert_eq!(count(&less, Op::waits), 0);
            let mut fixed = less.clone();
            fixed.fixup();
            assert_eq!(less, fixed);
        }
        assert!(checks > 30 && waits > 30, "{checks} checks, {waits} others");
    }

    /// What reaches a patch's files is in most programs, and what plays a check in some.
    #[test]
    fn favoured_operations_are_done_more() {
        let favour = Favour::of(&["ring".into()], &["mremap".into(), "no-such".into()]);
        assert_eq!((favour.checks.len(), favour.ops.len()), (1, 1));
        let count = |favour: &Favour| {
            let mut dice = Seeded(6);
            let (mut moves, mut rings) = (0, 0);
            for _ in 0..1000 {
                let mut program = Program::roll(&mut dice);
                program.mutate_for(&mut dice, favour);
                let has = |wanted: fn(&Op) -> bool| usize::from(program.ops.iter().any(wanted));
                moves += has(|op| matches!(op, Op::Mremap { .. }));
                rings += has(|op| matches!(op, Op::Check { what: Check::Ring, .. }));
            }
            (moves, rings)
        };
        let (plain, favoured) = (count(&Favour::default()), count(&favour));
        assert!(favoured.0 > plain.0 + 200, "{plain:?} {favoured:?}");
        assert!(favoured.1 > plain.1 + 40, "{plain:?} {favoured:?}");
        let mut dice = Seeded(7);
        let about = (0..200).map(|_| Program::about(&favour, &mut dice));
        let moving = |program: &Program| {
            program.ops.iter().filter(|op| matches!(op, Op::Mremap { .. })).count() > 2
        };
        assert!(about.filter(moving).count() > 150);
    }

    /// What has others wait is handed down every other time.
    #[test]
    fn what_holds_up_is_handed_down_seldom() {
        let delays = |op: &&Op| matches!(op, Op::Delays { .. });
        let mut left = 0;
        for seed in 0..1000 {
            let mut program = Program::default();
            program.ops.push(Op::Delays { seed: Upto(7) });
            program.mutate(&mut Seeded(seed));
            left += usize::from(program.ops.iter().filter(delays).count() > 0);
        }
        assert!((300..700).contains(&left), "{left} of 1000");
    }

    /// Pairs are made of all that another thread can do, in many ways, about the same thing.
    #[test]
    fn pairs_are_made() {
        let mut dice = Seeded(4);
        let (mut firsts, mut seconds) = (BTreeSet::new(), BTreeSet::new());
        let (mut pairs, mut alike) = (0, 0);
        for _ in 0..1000 {
            let mut program = Program::roll(&mut dice);
            program.pair(&mut dice);
            assert!(program.ops.len() <= ROOMY, "the rest would be cut off");
            let Some([Op::Beside { .. }, first, second]) = program.ops.last_chunk() else {
                panic!("{program:?}");
            };
            firsts.insert(first.word());
            seconds.insert(second.word());
            alike += usize::from(match (first, second) {
                (Op::PerfIoctl { event: a, .. }, Op::PerfIoctl { event: b, .. }) => a == b,
                (Op::MapElement { map: a, .. }, Op::MapElement { map: b, .. }) => a == b,
                (Op::Munmap { page: a, .. }, Op::Trigger { page: b, .. }) => a == b,
                _ => false,
            });
            program.fixup();
            let pair = program
                .ops
                .windows(3)
                .any(|ops| matches!(ops, [Op::Beside { .. }, first, _] if first.goes_elsewhere()));
            pairs += usize::from(pair);
        }
        let of_both = ["map-element", "perf-bpf", "perf-close", "perf-ioctl", "perf-output"];
        let all = |more: &[&'static str]| -> BTreeSet<&str> {
            of_both.iter().chain(&["perf-read"]).chain(more).copied().collect()
        };
        assert_eq!(firsts, all(&["munmap", "mprotect", "madvise"]));
        assert_eq!(seconds, all(&["mmap", "mremap", "trigger"]));
        assert!(pairs > 600 && alike > 200, "{pairs} of 1000 run, {alike} alike");
    }
}
