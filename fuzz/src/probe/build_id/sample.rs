// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking a sample: the BPF program, and the words it shares with user space.

use crate::bpf::insn::{Alu, Assembler, Cond, Helper, Insn, Reg, STACK, Width};
use crate::interrupt::{Count, Place, Reader};
use crate::probe::Failure;
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
    /// Size of all.
    pub const SIZE: u32 = 64;
}

/// One sample's words, written by the program.
pub mod slot {
    /// What the helper answered.
    pub const ANSWER: i16 = 0;
    /// CLOCK_MONOTONIC.
    pub const AT: i16 = 8;
    /// The preempt count.
    pub const COUNT: i16 = 16;
    /// Flags of this CPU's unlock work before the call.
    pub const WORK: i16 = 24;
    /// The frames.
    pub const FRAMES: i16 = 32;
    /// Frames there is room for: twice what is legal, so that more would show.
    pub const DEPTH: usize = 8;
    /// Size of a `struct bpf_stack_build_id`.
    pub const FRAME: usize = 32;
    /// Size of all.
    pub const SIZE: usize = FRAMES as usize + DEPTH * FRAME;
}

#[allow(clippy::cast_possible_truncation)] // a system call's number
const GETPPID: i32 = libc::SYS_getppid as i32;
const BPF_F_USER_STACK: i32 = 1 << 8;
const BPF_F_USER_BUILD_ID: i32 = 1 << 11;

/// The per-CPU work that releases `mmap_lock` once interrupts are on again.
pub const UNLOCK_WORK: &str = "mmap_unlock_work";
/// `irq_work.node.a_flags`, since 5.11.
pub const UNLOCK_WORK_FLAGS: u64 = 8;

/// What the program needs to know of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Reads kernel memory.
    pub reader: Reader,
    /// The preempt count.
    pub count: Count,
    /// Flags of the unlock work, where the kernel shows it.
    pub unlock_work: Option<Place>,
}

/// The sampling program: one `bpf_get_stack`, straight into a slot.
pub fn program(
    kind: ProgramKind,
    facts: &Facts,
    control: i32,
    slots: i32,
) -> Result<Vec<Insn>, Failure> {
    let mut asm = Assembler::new();
    asm.mov(Reg::R6, Reg::R1)
        .load_map_value(Reg::R7, control)
        .load(Width::Double, Reg::R1, Reg::R7, control::ARMED)
        .jump_if(Cond::Equal, Reg::R1, 0, "out")
        .call(Helper::GetCurrentPidTgid)
        .truncate(Reg::R0)
        .load(Width::Double, Reg::R1, Reg::R7, control::THREAD)
        .jump_if(Cond::NotEqual, Reg::R0, Reg::R1, "out");
    if kind == ProgramKind::RawTracepoint {
        // sys_enter's arguments: registers, number of the call.
        asm.load(Width::Double, Reg::R1, Reg::R6, 8).jump_if(
            Cond::NotEqual,
            Reg::R1,
            GETPPID,
            "out",
        );
    }
    asm.increment(Reg::R7, control::RUNS, Reg::R1)
        .load(Width::Double, Reg::R8, Reg::R7, control::NEXT)
        .load(Width::Double, Reg::R1, Reg::R7, control::LIMIT)
        .jump_if(Cond::AtLeast, Reg::R8, Reg::R1, "out")
        .store(Width::Word, STACK, -4, Reg::R8)
        .load_map(Reg::R1, slots)
        .address(Reg::R2, STACK, -4)
        .call(Helper::MapLookupElem)
        .jump_if(Cond::Equal, Reg::R0, 0, "lost")
        .mov(Reg::R9, Reg::R0);
    facts.reader.emit_base(&mut asm);
    facts.reader.emit_read(&mut asm, facts.count.place, "count");
    asm.store(Width::Double, Reg::R9, slot::COUNT, Reg::R1);
    if let Some(work) = facts.unlock_work {
        facts.reader.emit_read(&mut asm, work, "work");
        asm.store(Width::Double, Reg::R9, slot::WORK, Reg::R1);
    }
    asm.mov(Reg::R1, Reg::R6)
        .address(Reg::R2, Reg::R9, i32::from(slot::FRAMES))
        .mov(Reg::R3, (slot::DEPTH * slot::FRAME) as i32)
        .mov(Reg::R4, BPF_F_USER_STACK | BPF_F_USER_BUILD_ID)
        .call(Helper::GetStack)
        .store(Width::Double, Reg::R9, slot::ANSWER, Reg::R0)
        .call(Helper::KtimeGetNs)
        .store(Width::Double, Reg::R9, slot::AT, Reg::R0)
        .alu(Alu::Add, Reg::R8, 1)
        .store(Width::Double, Reg::R7, control::NEXT, Reg::R8)
        .label("out")
        .exit()
        .label("lost")
        .increment(Reg::R7, control::LOST, Reg::R1)
        .exit();
    asm.finish().map_err(Failure::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interrupt::Layout;
    use std::collections::BTreeMap;

    /// Both programs assemble, with exactly one `bpf_get_stack` each.
    #[test]
    fn one_helper_call_per_event() {
        let facts = Facts {
            reader: Reader::new(&BTreeMap::from([("__per_cpu_offset".to_owned(), 0x1000)])),
            count: Count { place: Place::PerCpu(8), layout: Layout::Classic },
            unlock_work: Some(Place::PerCpu(16)),
        };
        for kind in [ProgramKind::RawTracepoint, ProgramKind::PerfEvent] {
            let insns = program(kind, &facts, 3, 4).unwrap();
            let get_stack = |insn: &&Insn| insn.code == 0x85 && insn.immediate == 67;
            assert_eq!(insns.iter().filter(get_stack).count(), 1);
        }
    }
}
