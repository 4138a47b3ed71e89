// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking a sample: the BPF program, and the words it shares with user space.

use super::method::{Ask, Source};
use crate::bpf::insn::{Alu, Assembler, Cond, Helper, Insn, Reg, STACK, Width};
use crate::failure::Failure;
use crate::interrupt::{Count, Place, Reader};
use crate::sys::bpf::ProgramKind;

/// Control words, shared with the program.
pub mod control {
    /// Not 0: samples count.
    pub const ARMED: i16 = 0;
    /// Thread that is sampled.
    pub const THREAD: i16 = 8;
    /// Slots to fill.
    pub const LIMIT: i16 = 16;
    /// Slots filled.
    pub const NEXT: i16 = 24;
    /// Runs for the sampled thread, those beyond the limit included.
    pub const RUNS: i16 = 32;
    /// Runs that found no slot.
    pub const LOST: i16 = 40;
    /// The one NMI handler after which samples are taken.
    pub const HANDLER: i16 = 48;
    /// Size of all.
    pub const SIZE: u32 = 64;
}

/// One sample's words, written by the program.
pub mod slot {
    /// What the helper answered.
    pub const ANSWER: i16 = 0;
    /// CLOCK_MONOTONIC when the helper had answered.
    pub const AT: i16 = 8;
    /// The preempt count.
    pub const COUNT: i16 = 16;
    /// Flags of this CPU's unlock work before the call.
    pub const WORK: i16 = 24;
    /// The count of `mmap_lock` before the call.
    pub const BEFORE: i16 = 32;
    /// The count of `mmap_lock` after the call.
    pub const AFTER: i16 = 40;
    /// What else proves the context: the run-queue lock, the address of a fault.
    pub const PROOF: i16 = 48;
    /// CLOCK_MONOTONIC when the helper was called. Read in the fast way that an NMI may
    /// use, which may step back a little when the clock is adjusted.
    pub const CALLED: i16 = 56;
    /// The frames, where the helper writes them.
    pub const FRAMES: i16 = 64;
    /// Size of a `struct bpf_stack_build_id`.
    pub const FRAME: usize = 32;

    /// Size of all with room for this many frames.
    #[must_use]
    pub const fn size(depth: usize) -> usize {
        FRAMES as usize + depth * FRAME
    }
}

#[allow(clippy::cast_possible_truncation)] // a system call's number
const GETPPID: i32 = libc::SYS_getppid as i32;
const BPF_F_USER_STACK: i32 = 1 << 8;
const BPF_F_FAST_STACK_CMP: i32 = 1 << 9;
const BPF_F_USER_BUILD_ID: i32 = 1 << 11;

/// The per-CPU work that releases `mmap_lock` once interrupts are on again.
pub const UNLOCK_WORK: &str = "mmap_unlock_work";
/// `irq_work.node.a_flags`, since 5.11.
pub const UNLOCK_WORK_FLAGS: u64 = 8;

/// Where `struct bpf_perf_event_data` has the address that the event is about:
/// behind the registers and the period.
const EVENT_ADDRESS: i16 = if cfg!(target_arch = "aarch64") { 280 } else { 176 };

/// What the program needs to know of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Reads kernel memory.
    pub reader: Reader,
    /// The preempt count.
    pub count: Count,
    /// Flags of the unlock work, where the kernel shows it.
    pub unlock_work: Option<Place>,
    /// The count of `mmap_lock`, where it was found.
    pub mmap_lock: Option<Place>,
    /// The run-queue lock, where it is the proof.
    pub run_queue: Option<Place>,
}

/// Descriptors of the maps that the program uses.
#[derive(Clone, Copy, Debug)]
pub struct Maps {
    /// [`control`]
    pub control: i32,
    /// [`slot`]s.
    pub slots: i32,
    /// Stack maps for every second call each, without and with the flag for the
    /// fast comparison.
    pub stacks: Option<[i32; 2]>,
}

/// The sampling program: one helper call, straight into a slot.
pub fn program(
    source: Source,
    ask: Ask,
    depth: usize,
    facts: &Facts,
    maps: Maps,
) -> Result<Vec<Insn>, Failure> {
    let mut asm = Assembler::new();
    asm.mov(Reg::R6, Reg::R1)
        .load_map_value(Reg::R7, maps.control)
        .load(Width::Double, Reg::R1, Reg::R7, control::ARMED)
        .jump_if(Cond::Equal, Reg::R1, 0, "out")
        .call(Helper::GetCurrentPidTgid)
        .truncate(Reg::R0)
        .load(Width::Double, Reg::R1, Reg::R7, control::THREAD)
        .jump_if(Cond::NotEqual, Reg::R0, Reg::R1, "out");
    filter(&mut asm, source);
    asm.increment(Reg::R7, control::RUNS, Reg::R1)
        .load(Width::Double, Reg::R8, Reg::R7, control::NEXT)
        .load(Width::Double, Reg::R1, Reg::R7, control::LIMIT)
        .jump_if(Cond::AtLeast, Reg::R8, Reg::R1, "out")
        .store(Width::Word, STACK, -4, Reg::R8)
        .load_map(Reg::R1, maps.slots)
        .address(Reg::R2, STACK, -4)
        .call(Helper::MapLookupElem)
        .jump_if(Cond::Equal, Reg::R0, 0, "lost")
        .mov(Reg::R9, Reg::R0);
    facts.reader.emit_base(&mut asm);
    let keep = |place: Option<Place>, at: i16, done: &'static str, asm: &mut Assembler| {
        if let Some(place) = place {
            facts.reader.emit_read(asm, place, done);
            asm.store(Width::Double, Reg::R9, at, Reg::R1);
        }
    };
    keep(Some(facts.count.place), slot::COUNT, "count", &mut asm);
    match source {
        Source::SchedSwitch => keep(facts.run_queue, slot::PROOF, "proof", &mut asm),
        Source::Fault | Source::FaultServed => {
            asm.load(Width::Double, Reg::R1, Reg::R6, EVENT_ADDRESS).store(
                Width::Double,
                Reg::R9,
                slot::PROOF,
                Reg::R1,
            );
        }
        Source::SysEnter
        | Source::UserProbe
        | Source::SoftirqEntry
        | Source::NmiHandler
        | Source::CpuClock
        | Source::Cycles => {}
    }
    keep(facts.unlock_work, slot::WORK, "work", &mut asm);
    keep(facts.mmap_lock, slot::BEFORE, "before", &mut asm);
    // Between the lock's readings and the call there is nothing but the clock's.
    asm.call(Helper::KtimeGetNs).store(Width::Double, Reg::R9, slot::CALLED, Reg::R0);
    question(&mut asm, ask, depth, maps)?;
    asm.store(Width::Double, Reg::R9, slot::ANSWER, Reg::R0).call(Helper::KtimeGetNs).store(
        Width::Double,
        Reg::R9,
        slot::AT,
        Reg::R0,
    );
    keep(facts.mmap_lock, slot::AFTER, "after", &mut asm);
    asm.alu(Alu::Add, Reg::R8, 1)
        .store(Width::Double, Reg::R7, control::NEXT, Reg::R8)
        .label("out")
        .exit()
        .label("lost")
        .increment(Reg::R7, control::LOST, Reg::R1)
        .exit();
    asm.finish().map_err(Failure::new)
}

/// Emits: to "out" unless this event is one to sample.
fn filter(asm: &mut Assembler, source: Source) {
    match source {
        Source::SysEnter => {
            // sys_enter's arguments: registers, number of the call.
            asm.load(Width::Double, Reg::R1, Reg::R6, 8).jump_if(
                Cond::NotEqual,
                Reg::R1,
                GETPPID,
                "out",
            );
        }
        Source::NmiHandler => {
            // The event comes once per registered handler, its first argument.
            // The first one seen is the one that counts: it comes once per NMI.
            asm.load(Width::Double, Reg::R1, Reg::R6, 0)
                .load(Width::Double, Reg::R2, Reg::R7, control::HANDLER)
                .jump_if(Cond::NotEqual, Reg::R2, 0, "known")
                .store(Width::Double, Reg::R7, control::HANDLER, Reg::R1)
                .mov(Reg::R2, Reg::R1)
                .label("known")
                .jump_if(Cond::NotEqual, Reg::R1, Reg::R2, "out");
        }
        Source::UserProbe
        | Source::SoftirqEntry
        | Source::SchedSwitch
        | Source::CpuClock
        | Source::Fault
        | Source::FaultServed
        | Source::Cycles => {}
    }
}

/// Emits the one helper call. R6: context, R8: number of the slot, R9: slot.
fn question(asm: &mut Assembler, ask: Ask, depth: usize, maps: Maps) -> Result<(), Failure> {
    let size = i32::try_from(depth * slot::FRAME).map_err(Failure::new)?;
    let stack = |asm: &mut Assembler, helper: Helper| {
        asm.address(Reg::R2, Reg::R9, i32::from(slot::FRAMES))
            .mov(Reg::R3, size)
            .mov(Reg::R4, BPF_F_USER_STACK | BPF_F_USER_BUILD_ID)
            .call(helper);
    };
    match ask {
        Ask::Stack => {
            asm.mov(Reg::R1, Reg::R6);
            stack(asm, Helper::GetStack);
        }
        Ask::TaskStack => {
            asm.call(Helper::GetCurrentTaskBtf).mov(Reg::R1, Reg::R0);
            stack(asm, Helper::GetTaskStack);
        }
        Ask::Stackid => {
            let [plain, fast] =
                maps.stacks.ok_or_else(|| Failure::new("there are no stack maps to ask for"))?;
            asm.mov(Reg::R1, Reg::R8)
                .alu(Alu::And, Reg::R1, 1)
                .jump_if(Cond::NotEqual, Reg::R1, 0, "fast")
                .load_map(Reg::R2, plain)
                .mov(Reg::R3, BPF_F_USER_STACK)
                .jump("ask")
                .label("fast")
                .load_map(Reg::R2, fast)
                .mov(Reg::R3, BPF_F_USER_STACK | BPF_F_FAST_STACK_CMP)
                .label("ask")
                .mov(Reg::R1, Reg::R6)
                .call(Helper::GetStackid);
        }
    }
    Ok(())
}

impl Source {
    /// The type of program that can be attached there.
    pub fn program_kind(self, sleepable: bool) -> ProgramKind {
        match self {
            Self::SysEnter | Self::SoftirqEntry | Self::SchedSwitch | Self::NmiHandler => {
                ProgramKind::RawTracepoint
            }
            Self::UserProbe if sleepable => ProgramKind::SleepableUserProbe,
            Self::UserProbe => ProgramKind::UserProbe,
            Self::CpuClock | Self::Fault | Self::FaultServed | Self::Cycles => {
                ProgramKind::PerfEvent
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interrupt::Layout;
    use std::collections::BTreeMap;

    const SOURCES: [Source; 9] = [
        Source::SysEnter,
        Source::UserProbe,
        Source::SoftirqEntry,
        Source::SchedSwitch,
        Source::NmiHandler,
        Source::CpuClock,
        Source::Fault,
        Source::FaultServed,
        Source::Cycles,
    ];

    fn facts() -> Facts {
        Facts {
            reader: Reader::new(&BTreeMap::from([("__per_cpu_offset".to_owned(), 0x1000)])),
            count: Count { place: Place::PerCpu(8), layout: Layout::Classic },
            unlock_work: Some(Place::PerCpu(16)),
            mmap_lock: Some(Place::At(0xffff_8880_0000_1000)),
            run_queue: Some(Place::PerCpu(0)),
        }
    }

    /// Every program assembles, with exactly one call of the helper that is asked.
    #[test]
    fn one_helper_call_per_event() {
        let maps = Maps { control: 3, slots: 4, stacks: Some([5, 6]) };
        let questions = [(Ask::Stack, 67), (Ask::Stackid, 27), (Ask::TaskStack, 141)];
        for source in SOURCES {
            for (ask, helper) in questions {
                let insns = program(source, ask, 8, &facts(), maps).unwrap();
                let calls = |number: i32| {
                    insns.iter().filter(|i| i.code == 0x85 && i.immediate == number).count()
                };
                for (_, other) in questions {
                    assert_eq!(calls(other), usize::from(other == helper), "{source:?} {ask:?}");
                }
            }
        }
    }

    /// The clock is read once before and once after the helper, and nothing else of the
    /// kernel is asked in between but for what the helper's arguments take.
    #[test]
    fn the_helper_is_timed() {
        let maps = Maps { control: 3, slots: 4, stacks: Some([5, 6]) };
        for source in SOURCES {
            for (ask, between) in [
                (Ask::Stack, &[67][..]),
                (Ask::Stackid, &[27]),
                (Ask::TaskStack, &[Helper::GetCurrentTaskBtf as i32, 141]),
            ] {
                let insns = program(source, ask, 8, &facts(), maps).unwrap();
                let calls: Vec<i32> =
                    insns.iter().filter(|i| i.code == 0x85).map(|i| i.immediate).collect();
                let clock = Helper::KtimeGetNs as i32;
                let parts: Vec<&[i32]> = calls.split(|call| *call == clock).collect();
                assert_eq!((parts.len(), parts[1]), (3, between), "{source:?} {ask:?}");
            }
        }
    }

    /// Slots stay a multiple of 8 bytes, and the header leaves room for every word.
    #[test]
    fn slots_are_aligned() {
        for depth in [0, 8, 32] {
            assert!(slot::size(depth).is_multiple_of(8));
        }
        const { assert!(slot::CALLED + 8 <= slot::FRAMES) };
    }
}
