// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the steps of a BPF program to its instructions: valid by construction,
//! apart from the flaw it is asked to have.
//!
//! R6 holds the context, R7 the last step's result, R9 a loop's counter. The
//! stack holds a key at -8, a value of 64 bytes at -80. Answers longer than that
//! go to the scratch map, whose first word counts runs.

use super::scratch::{BUFFER, INDICES, RAW_BUFFER, READ_BUFFER, RUNS, SCRATCH};
pub(crate) use crate::bpf::insn::Short;
use crate::bpf::insn::{FUNCTION, Insn};
use crate::op::step::{Address, Body, Flaw, Plain, Size, StackFlags, Step, Test};
use crate::op::{MapKind, ProgKind};
use crate::oracle::judged::asks;
use crate::sys::call::ARENA;

#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // 4096
const STACKS_AT: i32 = BUFFER as i32;
/// The second of [`INDICES`], which is 1.
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // 72
const INDEX_AT: i32 = INDICES as i32 + 8;

/// What a program is assembled with.
pub trait Surroundings {
    /// The descriptor of the program's `index`-th map if that is of a kind in
    /// `kinds`, else of some map that is; -1 if there is none.
    fn map(&mut self, index: u8, kinds: &[MapKind]) -> i32;
    /// The descriptor of the scratch map.
    fn scratch(&self) -> i32;
    /// Whether this kernel has BTF, without which some helpers do not exist.
    fn has_btf(&self) -> bool;
    /// The thread whose stacks are compared with what they should be, if any are.
    fn thread(&self) -> Option<u32>;
}

const STACKS: &[MapKind] = &[MapKind::BuildIds, MapKind::Stacks];
const TABLES: &[MapKind] = &[MapKind::Array, MapKind::Hash, MapKind::PerCpuHash, MapKind::LruHash];
const ARRAYS: &[MapKind] = &[MapKind::Array];
const RINGS: &[MapKind] = &[MapKind::Ringbuf];
const EVENTS: &[MapKind] = &[MapKind::Events];
const TASKS: &[MapKind] = &[MapKind::TaskStorage];
const PROGRAMS: &[MapKind] = &[MapKind::Programs];

pub(crate) struct Code<'a> {
    list: Short,
    pub(crate) around: &'a mut dyn Surroundings,
    kind: ProgKind,
    flaw: Flaw,
    /// Instructions that name the function [`Code::found`].
    pub(crate) callbacks: Vec<usize>,
}

/// The instructions of a program. Where a [`FUNCTION`] is named there is a second one
/// behind the first one's end.
pub fn assemble(
    kind: ProgKind,
    flaw: Flaw,
    body: &Body,
    around: &mut dyn Surroundings,
) -> Vec<Insn> {
    let mut code = Code { list: Short::default(), around, kind, flaw, callbacks: Vec::new() };
    code.prologue();
    if body.0.iter().any(asks) {
        code.look_for_foreign();
    }
    code.steps(&body.0);
    code.flaw();
    code.mov_imm(0, 0);
    if flaw != Flaw::Endless {
        code.push(0x95, 0, 0, 0, 0);
    }
    if !code.callbacks.is_empty() {
        code.found();
    }
    code.list.insns
}

/// Where a program's second function begins, if it has one.
#[must_use]
pub fn second_function(insns: &[Insn]) -> Option<usize> {
    let names = |insn: &Insn| insn.code == 0x18 && insn.registers >> 4 == FUNCTION;
    let at = insns.iter().position(names)?;
    let distance = usize::try_from(insns.get(at)?.immediate).ok()?;
    Some(at + 1 + distance)
}

/// A program that does nothing but answer a number.
#[must_use]
pub fn nothing(answer: i32) -> Vec<Insn> {
    let insn = |code, immediate| Insn { code, registers: 0, offset: 0, immediate };
    vec![insn(0xb7, answer), insn(0x95, 0)]
}

/// The program that is always attached at a place: calls the one that is armed
/// there, for threads of this process only.
pub fn dispatcher(process: u32, programs: i32, scratch: i32, index: usize) -> Vec<Insn> {
    struct Nothing;
    impl Surroundings for Nothing {
        fn map(&mut self, _: u8, _: &[MapKind]) -> i32 {
            -1
        }
        fn scratch(&self) -> i32 {
            -1
        }
        fn has_btf(&self) -> bool {
            false
        }
        fn thread(&self) -> Option<u32> {
            None
        }
    }
    let mut nothing = Nothing;
    let mut code = Code {
        list: Short::default(),
        around: &mut nothing,
        kind: ProgKind::RawTp,
        flaw: Flaw::Sound,
        callbacks: Vec::new(),
    };
    code.mov(6, 1);
    code.call(14); // get_current_pid_tgid
    code.push(0x77, 0, 0, 0, 32); // r0 >>= 32
    code.push(0x55, 0, 0, 6, process.cast_signed()); // if r0 != process goto out
    code.load_wide(2, 2, scratch, offset(INDICES + 8 * index));
    code.push(0x79, 3, 2, 0, 0); // r3 = *(u64 *)r2
    code.mov(1, 6);
    code.load_wide(2, 1, programs, 0);
    let at = code.insns.len();
    code.call(12); // tail_call
    code.mov_imm(0, 0);
    code.push(0x95, 0, 0, 0, 0);
    // The jump goes to the two instructions behind the call.
    if let Some(jump) = code.insns.get_mut(3) {
        jump.offset = i16::try_from(at + 1 - 4).unwrap_or(0);
    }
    code.list.insns
}

impl std::ops::Deref for Code<'_> {
    type Target = Short;

    fn deref(&self) -> &Short {
        &self.list
    }
}

impl std::ops::DerefMut for Code<'_> {
    fn deref_mut(&mut self) -> &mut Short {
        &mut self.list
    }
}

impl Code<'_> {
    fn load_map(&mut self, dst: u8, index: u8, kinds: &[MapKind]) {
        let fd = self.around.map(index, kinds);
        self.load_wide(dst, 1, fd, 0);
    }

    pub(crate) fn scratch(&mut self, dst: u8, offset: i32) {
        let fd = self.around.scratch();
        self.load_wide(dst, 2, fd, offset);
    }

    fn prologue(&mut self) {
        self.mov(6, 1);
        self.mov_imm(7, 0);
        self.scratch(1, offset(RUNS));
        self.mov_imm(2, 1);
        self.push(0xdb, 1, 2, 0, 0); // lock *(u64 *)(r1) += r2
        for slot in 1..=10 {
            self.push(0x7a, 10, 0, -8 * slot, 0);
        }
    }

    fn steps(&mut self, steps: &[Step]) {
        let mut rest = steps;
        while let Some((step, after)) = rest.split_first() {
            rest = after;
            match step {
                Step::Loop { times } => {
                    let Some((inner, after)) = rest.split_first() else { return };
                    // A loop of loops would take the verifier, and us, for ever.
                    if matches!(inner, Step::Loop { .. } | Step::When { .. }) {
                        continue;
                    }
                    rest = after;
                    self.mov_imm(9, i32::from(times.0) + 1);
                    let top = self.insns.len();
                    self.compared(inner);
                    self.add_imm(9, -1);
                    let distance = top.cast_signed() - self.insns.len().cast_signed() - 1;
                    self.push(0x55, 9, 0, i16::try_from(distance).unwrap_or(0), 0);
                }
                Step::When { test, steps } => {
                    // The jump is over the steps, so the test is the opposite.
                    let code = match test {
                        Test::Zero => 0x55,
                        Test::NotZero => 0x15,
                        Test::Negative => 0x75,
                    };
                    let jump = self.jump_if(code, 7, 0);
                    let count = usize::from(steps.0).min(rest.len());
                    let (inner, after) = rest.split_at(count);
                    rest = after;
                    self.steps(inner);
                    self.land(jump);
                }
                simple => self.compared(simple),
            }
        }
    }

    pub(crate) fn step(&mut self, step: &Step) {
        match step {
            Step::GetStack { flags, skip, size } => {
                self.mov(1, 6);
                self.scratch(2, stack_at(*size, *flags));
                self.mov_imm(3, bytes(*size));
                self.mov_imm(4, stack_flags(*flags) | i32::from(skip.0));
                self.call(67);
                self.note_excess(bytes(*size));
            }
            // What may sleep may use few kinds of maps.
            Step::GetStackid { .. }
            | Step::Output { .. }
            | Step::ReadValue { .. }
            | Step::TailCall { .. }
                if self.kind == ProgKind::Sleepable =>
            {
                self.call(35);
            }
            Step::GetStackid { map, flags } => {
                let fd = self.around.map(map.0, STACKS);
                self.mov(1, 6);
                self.load_wide(2, 1, fd, 0);
                self.mov_imm(3, stack_flags(*flags));
                self.call(27);
                self.note_stackid(fd, !flags.fast);
            }
            Step::GetTaskStack { flags, size } if self.around.has_btf() => {
                self.call(158); // get_current_task_btf
                self.mov(1, 0);
                self.scratch(2, stack_at(*size, *flags));
                self.mov_imm(3, bytes(*size));
                self.mov_imm(4, stack_flags(*flags));
                self.call(141);
                self.note_excess(bytes(*size));
            }
            Step::FindVma { page } if self.around.has_btf() => self.find_vma(page.0),
            Step::TaskStorage { map, how } if self.around.has_btf() && !may_be_nmi(self.kind) => {
                self.task_storage(map.0, how.0);
            }
            // Without a task to point at, its address is all there is.
            Step::GetTaskStack { .. } | Step::FindVma { .. } | Step::TaskStorage { .. } => {
                self.call(35);
            }
            Step::Lookup { map, key } => {
                self.key(key.0);
                self.load_map(1, map.0, TABLES);
                self.stack(2, -8);
                self.call(1);
                self.count_up();
            }
            Step::Update { map, key, how } => {
                self.key(key.0);
                self.load_map(1, map.0, written(self.kind));
                self.stack(2, -8);
                self.stack(3, -80);
                self.mov_imm(4, i32::from(how.0));
                self.call(2);
            }
            Step::Delete { map, key } => {
                self.key(key.0);
                self.load_map(1, map.0, written(self.kind));
                self.stack(2, -8);
                self.call(3);
            }
            Step::Ringbuf { map, words } => {
                self.load_map(1, map.0, RINGS);
                self.scratch(2, STACKS_AT);
                self.mov_imm(3, i32::from(words.0) * 8);
                self.mov_imm(4, 0);
                self.call(130);
            }
            Step::Reserve { map, submit } => {
                self.load_map(1, map.0, RINGS);
                self.mov_imm(2, 16);
                self.mov_imm(3, 0);
                self.call(131);
                let none = self.jump_if(0x15, 0, 0);
                self.push(0x7a, 0, 0, 0, 7);
                if self.flaw != Flaw::Kept {
                    self.mov(1, 0);
                    self.mov_imm(2, 0);
                    self.call(if submit.0 == 1 { 132 } else { 133 });
                }
                self.land(none);
                self.mov_imm(0, 0);
            }
            Step::Read { how, from } => {
                match from {
                    Address::Arena => {
                        let high = i32::try_from(ARENA >> 32).unwrap_or(0);
                        self.load_wide(3, 0, 4096, high);
                    }
                    Address::Null => self.mov_imm(3, 0),
                    Address::Kernel => self.load_wide(3, 0, 0, -30_000),
                    Address::Context => self.mov(3, 6),
                }
                self.scratch(1, READ_BUFFER);
                self.mov_imm(2, 64);
                self.call(match how.0 {
                    0 => 112,
                    1 => 113,
                    2 => 114,
                    _ => 115,
                });
            }
            Step::Plain { helper } => {
                let number = match helper {
                    Plain::Time => 5,
                    Plain::Cpu => 8,
                    Plain::Pid => 14,
                    Plain::Uid => 15,
                    Plain::Random => 7,
                    Plain::Node => 42,
                    Plain::Task => 35,
                    Plain::Jiffies => 118,
                    // Programs of other kinds may not ask for one everywhere.
                    Plain::Cookie if self.kind == ProgKind::PerfEvent => 174,
                    Plain::Cookie => 5,
                };
                self.mov(1, 6);
                self.call(number);
            }
            Step::Comm {} => {
                self.stack(1, -80);
                self.mov_imm(2, 16);
                self.call(16);
            }
            Step::Output { map, words } => {
                self.mov(1, 6);
                self.load_map(2, map.0, EVENTS);
                self.load_wide(3, 0, -1, 0); // BPF_F_CURRENT_CPU
                self.scratch(4, STACKS_AT);
                self.mov_imm(5, i32::from(words.0) * 8);
                self.call(25);
            }
            Step::ReadValue { map } => {
                self.load_map(1, map.0, EVENTS);
                self.load_wide(2, 0, -1, 0);
                self.stack(3, -80);
                self.mov_imm(4, 24);
                self.call(55);
            }
            Step::OwnValue {} => {
                if self.kind == ProgKind::PerfEvent {
                    self.mov(1, 6);
                    self.stack(2, -80);
                    self.mov_imm(3, 24);
                    self.call(56);
                } else {
                    self.call(5);
                }
            }
            Step::TailCall { map } => {
                // From memory: see INDICES.
                self.scratch(1, INDEX_AT);
                self.push(0x79, 3, 1, 0, 0);
                self.mov(1, 6);
                self.load_map(2, map.0, PROGRAMS);
                self.call(12);
                self.mov_imm(0, 0);
            }
            Step::Signal {} => {
                self.mov_imm(1, 23); // SIGURG
                self.call(109);
            }
            Step::Loop { .. } | Step::When { .. } => self.mov_imm(0, 0),
        }
        self.mov(7, 0);
    }

    /// Reads or makes the current task's value in a map (0, 1), or deletes it (2).
    fn task_storage(&mut self, map: u8, how: u8) {
        self.call(158); // get_current_task_btf
        self.mov(2, 0);
        self.load_map(1, map, TASKS);
        if how == 2 {
            self.call(157);
            return;
        }
        self.mov_imm(3, 0);
        self.mov_imm(4, i32::from(how == 1)); // BPF_LOCAL_STORAGE_GET_F_CREATE
        self.call(156);
        self.count_up();
    }

    /// Changes the value that R0 points to, if there is one: R0 is then 1, and 0 if not.
    fn count_up(&mut self) {
        let none = self.jump_if(0x15, 0, 0);
        self.push(0x79, 1, 0, 0, 0);
        self.add_imm(1, 1);
        self.push(0x7b, 0, 1, 0, 0);
        self.mov_imm(0, 1);
        self.land(none);
    }

    fn key(&mut self, key: u8) {
        self.push(0x7a, 10, 0, -8, i32::from(key));
    }

    fn flaw(&mut self) {
        match self.flaw {
            Flaw::Sound | Flaw::Endless | Flaw::Kept => {}
            Flaw::Unset => self.mov(7, 8),
            Flaw::Unchecked => {
                self.key(0);
                self.load_map(1, 0, TABLES);
                self.stack(2, -8);
                self.call(1);
                self.push(0x79, 1, 0, 0, 0);
            }
            Flaw::Stack => {
                self.push(0x79, 1, 10, -520, 0);
            }
            Flaw::Room => {
                self.mov(1, 6);
                self.scratch(2, STACKS_AT);
                self.mov_imm(3, 1 << 20);
                self.mov_imm(4, 256);
                self.call(67);
            }
            Flaw::WrongMap => {
                self.mov(1, 6);
                self.load_map(2, 0, TABLES);
                self.mov_imm(3, 256);
                self.call(27);
            }
            Flaw::Jump => {
                self.push(0x05, 0, 0, 1000, 0);
            }
            Flaw::Pointers => {
                self.push(0x0f, 6, 10, 0, 0);
            }
            Flaw::Forever => {
                self.push(0x05, 0, 0, -1, 0);
            }
        }
    }
}

/// An offset in the scratch map as an instruction has it.
pub(crate) fn offset(at: usize) -> i32 {
    i32::try_from(at).unwrap_or(0)
}

fn bytes(size: Size) -> i32 {
    match size {
        Size::Edge => EDGE,
        Size::Nothing | Size::One | Size::Some | Size::Many | Size::Odd => {
            size.word().parse().unwrap_or(0)
        }
    }
}

/// Bytes of the scratch map that are its last, behind which there is no memory.
const EDGE: i32 = 32;

/// Where in the scratch map a stack of this size and form is written to.
fn stack_at(size: Size, flags: StackFlags) -> i32 {
    match size {
        Size::Edge => SCRATCH.cast_signed() - EDGE,
        _ if !flags.build_id => offset(RAW_BUFFER),
        Size::Nothing | Size::One | Size::Some | Size::Many | Size::Odd => STACKS_AT,
    }
}

/// Whether programs of this kind may run in what lockdep takes for an NMI: where events
/// come by a pseudo-NMI (arm64's PMU), and in a kprobe's breakpoint. The locks of a
/// task's storage are taken there, even to look something up, which the stock kernel
/// lets them be, too.
fn may_be_nmi(kind: ProgKind) -> bool {
    match kind {
        ProgKind::Kprobe | ProgKind::PerfEvent => true,
        ProgKind::Tracepoint
        | ProgKind::RawTp
        | ProgKind::RawTpWritable
        | ProgKind::Sleepable
        | ProgKind::UprobeMulti => false,
    }
}

/// Maps that a program of this kind writes to. A kprobe's breakpoint is an NMI to
/// lockdep, and so is a PMU's interrupt on arm64 (elsewhere guests have no PMU). Stock
/// kernels let either take the locks of a hash table all the same: with
/// the first such report (`{INITIAL USE} -> {IN-NMI}`) lockdep is off, and blind to
/// what a patch does.
fn written(kind: ProgKind) -> &'static [MapKind] {
    match kind {
        ProgKind::Kprobe => ARRAYS,
        ProgKind::PerfEvent if cfg!(target_arch = "aarch64") => ARRAYS,
        ProgKind::Tracepoint
        | ProgKind::PerfEvent
        | ProgKind::RawTp
        | ProgKind::RawTpWritable
        | ProgKind::Sleepable
        | ProgKind::UprobeMulti => TABLES,
    }
}

fn stack_flags(flags: StackFlags) -> i32 {
    let StackFlags { user, build_id, fast, reuse, unknown } = flags;
    i32::from(user) << 8
        | i32::from(fast) << 9
        | i32::from(reuse) << 10
        | i32::from(build_id) << 11
        | i32::from(unknown) << 20
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::value::{Seeded, Upto, Value};

    struct Fake;
    impl Surroundings for Fake {
        fn map(&mut self, _: u8, _: &[MapKind]) -> i32 {
            5
        }
        fn scratch(&self) -> i32 {
            4
        }
        fn has_btf(&self) -> bool {
            true
        }
        fn thread(&self) -> Option<u32> {
            Some(77)
        }
    }

    /// Whatever the steps, jumps of a sound program stay inside it, land on an
    /// instruction (not in the middle of a long one), and the end is an exit.
    #[test]
    fn jumps_stay_inside() {
        for seed in 0..3000 {
            let mut dice = Seeded(seed);
            let mut body = Body::roll(&mut dice);
            for _ in 0..20 {
                body.tweak(&mut dice);
            }
            let kind = ProgKind::roll(&mut dice);
            let insns = assemble(kind, Flaw::Sound, &body, &mut Fake);
            assert_eq!(insns.last().map(|insn| insn.code), Some(0x95));
            let mut second_half = false;
            let halves: Vec<bool> = insns
                .iter()
                .map(|insn| {
                    let this = second_half;
                    second_half = !this && insn.code == 0x18;
                    this
                })
                .collect();
            for (at, insn) in insns.iter().enumerate() {
                let is_jump =
                    matches!(insn.code, 0x05 | 0x15 | 0x2d | 0x55 | 0x56 | 0x5d | 0x75 | 0xc5);
                if is_jump && !halves[at] {
                    let target = at.cast_signed() + 1 + isize::from(insn.offset);
                    let target = usize::try_from(target).unwrap();
                    assert!(target < insns.len() && !halves[target], "{body:?}");
                }
            }
        }
    }

    /// What is judged as build ids is written by who asked for build ids, and by nobody
    /// who asked for addresses.
    #[test]
    fn addresses_are_written_elsewhere() {
        let places = |build_id| {
            let flags = StackFlags { user: true, build_id, ..StackFlags::default() };
            let mut places = Vec::new();
            for size in [Size::Nothing, Size::One, Size::Some, Size::Many, Size::Odd] {
                let body = Body(vec![
                    Step::GetStack { flags, skip: Upto(0), size },
                    Step::GetTaskStack { flags, size },
                ]);
                let insns = assemble(ProgKind::RawTp, Flaw::Sound, &body, &mut Fake);
                let second = |at: usize| insns.get(at + 1).map_or(0, |insn| insn.immediate);
                places.extend(
                    (0..insns.len())
                        .filter(|at| insns[*at].code == 0x18 && insns[*at].registers == 0x22)
                        .map(second),
                );
            }
            places
        };
        assert!(places(true).contains(&STACKS_AT));
        assert!(!places(false).contains(&STACKS_AT));
        assert!(places(false).contains(&offset(RAW_BUFFER)));
    }

    /// A second function begins behind the first one's end, and what names it says
    /// how far away that is.
    #[test]
    fn functions_are_named_by_their_distance() {
        let body = Body(vec![Step::FindVma { page: Upto(3) }, Step::FindVma { page: Upto(9) }]);
        let insns = assemble(ProgKind::RawTp, Flaw::Sound, &body, &mut Fake);
        let begin = second_function(&insns).unwrap();
        assert_eq!(insns[begin - 1].code, 0x95);
        let named: Vec<usize> = (0..insns.len())
            .filter(|at| insns[*at].code == 0x18 && insns[*at].registers >> 4 == FUNCTION)
            .map(|at| at + 1 + usize::try_from(insns[at].immediate).unwrap())
            .collect();
        assert_eq!(named, [begin, begin]);
        let plain = Body(vec![Step::Comm {}]);
        assert_eq!(
            second_function(&assemble(ProgKind::RawTp, Flaw::Sound, &plain, &mut Fake)),
            None
        );
    }

    /// Each flaw makes another program of the same steps.
    #[test]
    fn flaws_show() {
        let body = Body(vec![Step::Reserve { map: Upto(0), submit: Upto(1) }]);
        let sound = assemble(ProgKind::RawTp, Flaw::Sound, &body, &mut Fake);
        for flaw in Flaw::ALL.iter().filter(|flaw| **flaw != Flaw::Sound) {
            assert_ne!(assemble(ProgKind::RawTp, *flaw, &body, &mut Fake), sound, "{flaw:?}");
        }
    }

    /// The dispatcher leaves foreign processes alone: its jump goes behind the
    /// tail call.
    #[test]
    fn dispatcher_skips_the_call() {
        let insns = dispatcher(7, 5, 4, 1);
        let jump = insns[3];
        assert_eq!((jump.code, jump.immediate), (0x55, 7));
        let target = 4 + usize::try_from(jump.offset).unwrap();
        assert_eq!((insns[target - 1].code, insns[target - 1].immediate), (0x85, 12));
        assert_eq!(insns[target].code, 0xb7);
    }
}
