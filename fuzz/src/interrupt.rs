// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which interrupt level a BPF program really ran at.
//!
//! The kernel knows from its preempt count; no helper tells it, so programs
//! read it from kernel memory. Where it lies depends on version and
//! configuration, and there is no BTF to ask. So it is not assumed: each
//! candidate place is read in two situations whose answers are known (a system
//! call of ours; an hrtimer's expiry), and only a place that behaves like the
//! preempt count in both is believed. No such place: the step fails.
//!
//! | | where |
//! |---|---|
//! | x86_64 to 6.1, from 6.15 | per-CPU `__preempt_count` |
//! | x86_64 6.2 to 6.14 | per-CPU `pcpu_hot`, second word |
//! | arm64 | `task_struct.thread_info`, at 8; at 16 with `ARM64_SW_TTBR0_PAN` |
//!
//! Per-CPU symbols show in `/proc/kallsyms` only with `KALLSYMS_ALL`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bpf::insn::{Alu, Assembler, Cond, Helper, Insn, Reg, STACK, Width};
use crate::failure::Failure;
use crate::sys;
use crate::sys::bpf::{Program, ProgramKind, SharedArray};

/// Symbols that `Places::candidates` looks for.
pub const SYMBOLS: &[&str] = &["__per_cpu_offset", "__preempt_count", "pcpu_hot"];

/// What a program stores where the preempt count could not be read.
pub const UNREADABLE: u64 = u64::MAX;

/// A level, innermost interrupt first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Non-maskable interrupt, or what counts as one (arm64's pseudo-NMI).
    Nmi,
    /// Hardware interrupt.
    Hardirq,
    /// Soft interrupt being served.
    Softirq,
    /// A task that switches, under its run queue's lock. No count tells it.
    RqLock,
    /// A task that takes a page fault. No count tells it.
    PageFault,
    /// A task.
    Process,
    /// The count could not be read, or has bits nobody knows.
    Unknown,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nmi => "nmi",
            Self::Hardirq => "hardirq",
            Self::Softirq => "softirq",
            Self::RqLock => "rq-lock",
            Self::PageFault => "page-fault",
            Self::Process => "process",
            Self::Unknown => "unknown",
        })
    }
}

/// How the preempt count's bits are dealt out. 8 bits of preemption and 8 of
/// softirq come first everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// Hardirq at 16, NMI at 20: every release so far.
    Classic,
    /// Counted interrupt disabling at 16, hardirq at 24, NMI at 28.
    CountedDisable,
}

impl Layout {
    /// The layout in which this count is one hardware interrupt and no more.
    fn of_one_hardirq(count: u64) -> Option<Self> {
        match (count >> 16) & 0x7fff {
            0x001 => Some(Self::Classic),
            upper if upper & 0x7f00 == 0x100 => Some(Self::CountedDisable),
            _ => None,
        }
    }

    /// The level a count stands for. Bit 31 is x86's "need not resched".
    #[must_use]
    pub fn level(self, count: u64) -> Level {
        if count > u64::from(u32::MAX) {
            return Level::Unknown;
        }
        let (nmi, hardirq, unknown) = match self {
            Self::Classic => (0x00f0_0000, 0x000f_0000, 0x7f00_0000),
            Self::CountedDisable => (0x7000_0000, 0x0f00_0000, 0),
        };
        if count & unknown != 0 {
            Level::Unknown
        } else if count & nmi != 0 {
            Level::Nmi
        } else if count & hardirq != 0 {
            Level::Hardirq
        } else if count & 0x100 != 0 {
            Level::Softirq
        } else {
            Level::Process
        }
    }
}

/// Where a preempt count may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// A per-CPU variable.
    PerCpu(u64),
    /// At this offset in the current `task_struct`.
    Task(i32),
    /// At this address.
    At(u64),
}

/// Stack displacement of this CPU's per-CPU base.
const BASE: i16 = -24;
/// Stack displacement of what was read.
const READ: i16 = -16;

/// Reads kernel memory from BPF programs.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    /// Address of `__per_cpu_offset[]`.
    per_cpu_offset: Option<u64>,
}

impl Reader {
    /// Takes the addresses it needs from [`SYMBOLS`].
    #[must_use]
    pub fn new(symbols: &BTreeMap<String, u64>) -> Self {
        Self { per_cpu_offset: symbols.get("__per_cpu_offset").copied() }
    }

    /// Emits the instructions every reading of a per-CPU variable relies on.
    /// Uses R0 to R5 and the stack from -24.
    pub fn emit_base(self, asm: &mut Assembler) {
        let Some(table) = self.per_cpu_offset else {
            return;
        };
        asm.call(Helper::GetSmpProcessorId)
            .alu(Alu::ShiftLeft, Reg::R0, 3)
            .load_u64(Reg::R3, table)
            .alu(Alu::Add, Reg::R3, Reg::R0)
            .address(Reg::R1, STACK, i32::from(BASE))
            .mov(Reg::R2, 8)
            .call(Helper::ProbeReadKernel);
    }

    /// Emits: R1 = the 32 bits at `place`, or [`UNREADABLE`]. Uses R0 to R5.
    pub fn emit_read(self, asm: &mut Assembler, place: Place, done: &'static str) {
        asm.store(Width::Double, STACK, READ, -1).mov(Reg::R1, -1);
        match place {
            Place::PerCpu(symbol) => {
                if self.per_cpu_offset.is_none() {
                    asm.label(done);
                    return;
                }
                asm.load(Width::Double, Reg::R3, STACK, BASE)
                    // 0: the table itself could not be read.
                    .jump_if(Cond::Equal, Reg::R3, 0, done)
                    .load_u64(Reg::R1, symbol)
                    .alu(Alu::Add, Reg::R3, Reg::R1);
            }
            Place::Task(offset) => {
                asm.call(Helper::GetCurrentTask).mov(Reg::R3, Reg::R0).alu(
                    Alu::Add,
                    Reg::R3,
                    offset,
                );
            }
            Place::At(address) => {
                asm.load_u64(Reg::R3, address);
            }
        }
        asm.address(Reg::R1, STACK, i32::from(READ))
            .mov(Reg::R2, 4)
            .call(Helper::ProbeReadKernel)
            .mov(Reg::R1, -1)
            .jump_if(Cond::NotEqual, Reg::R0, 0, done)
            .load(Width::Word, Reg::R1, STACK, READ)
            .label(done);
    }
}

/// The place of the preempt count, proven, and how to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Where.
    pub place: Place,
    /// How its bits are dealt out.
    pub layout: Layout,
}

/// Places worth trying on this architecture.
fn candidates(symbols: &BTreeMap<String, u64>) -> Vec<Place> {
    if cfg!(target_arch = "aarch64") {
        return vec![Place::Task(8), Place::Task(16)];
    }
    let hot = symbols.get("pcpu_hot").map(|at| Place::PerCpu(at + 8));
    let own = symbols.get("__preempt_count").copied().map(Place::PerCpu);
    hot.into_iter().chain(own).collect()
}

/// Control words of the program that tries a place.
const FILTER: usize = 0;
const SEEN: usize = 8;
const VALUE: usize = 16;

/// Finds the one place that behaves like the preempt count. The calling thread
/// has to be pinned to `cpu`.
pub fn locate(symbols: &BTreeMap<String, u64>, cpu: u32) -> Result<Count, Failure> {
    let reader = Reader::new(symbols);
    let candidates = candidates(symbols);
    if candidates.is_empty() {
        return Err(Failure::new(
            "the preempt count cannot be located: /proc/kallsyms has neither pcpu_hot nor \
             __preempt_count (build with CONFIG_KALLSYMS_ALL)",
        ));
    }
    let mut found = Vec::new();
    let mut tried = Vec::new();
    for place in candidates {
        let process = in_process(reader, place)?;
        let hardirq = in_hardirq(reader, place, cpu)?;
        tried.push(format!(
            "{place:x?}: {} in a system call, {} in an hrtimer",
            shown(process),
            shown(hardirq)
        ));
        if let (Some(process), Some(hardirq)) = (process, hardirq)
            && let Some(layout) = judge(process, hardirq)
        {
            found.push(Count { place, layout });
        }
    }
    match found.as_slice() {
        [count] => Ok(*count),
        _ => Err(Failure::new(format!(
            "the preempt count cannot be located, {} places fit ({})",
            found.len(),
            tried.join("; ")
        ))),
    }
}

fn shown(value: Option<u64>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| format!("{value:#x}"))
}

/// Whether a value is the preempt count, from what it is in a system call
/// (nothing but a little preemption) and in an hrtimer's expiry (one hardirq).
fn judge(process: u64, hardirq: u64) -> Option<Layout> {
    let layout = Layout::of_one_hardirq(hardirq)?;
    let quiet = process & !0x8000_0000 <= 0xff;
    (quiet && layout.level(hardirq) == Level::Hardirq).then_some(layout)
}

/// A program that keeps the first value it sees at `place`.
fn trial(
    reader: Reader,
    place: Place,
    control: &SharedArray,
    event: TrialEvent,
) -> Result<Vec<Insn>, Failure> {
    let mut asm = Assembler::new();
    asm.mov(Reg::R6, Reg::R1)
        .load_map_value(Reg::R7, control.number())
        .load(Width::Double, Reg::R1, Reg::R7, SEEN as i16)
        .jump_if(Cond::NotEqual, Reg::R1, 0, "out");
    match event {
        TrialEvent::SystemCall => asm
            .call(Helper::GetCurrentPidTgid)
            .truncate(Reg::R0)
            .load(Width::Double, Reg::R1, Reg::R7, FILTER as i16)
            .jump_if(Cond::NotEqual, Reg::R0, Reg::R1, "out"),
        TrialEvent::Hrtimer => asm
            .call(Helper::GetSmpProcessorId)
            .load(Width::Double, Reg::R1, Reg::R7, FILTER as i16)
            .jump_if(Cond::NotEqual, Reg::R0, Reg::R1, "out"),
    };
    reader.emit_base(&mut asm);
    reader.emit_read(&mut asm, place, "read");
    if event == TrialEvent::Hrtimer {
        // Some hrtimers expire in a softirq: those prove nothing here.
        asm.mov(Reg::R2, Reg::R1).alu(Alu::And, Reg::R2, 0x7fff_0000).jump_if(
            Cond::Equal,
            Reg::R2,
            0,
            "out",
        );
    }
    asm.store(Width::Double, Reg::R7, VALUE as i16, Reg::R1)
        .store(Width::Double, Reg::R7, SEEN as i16, 1)
        .label("out")
        .exit();
    asm.finish().map_err(Failure::new)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TrialEvent {
    SystemCall,
    Hrtimer,
}

fn value(control: &SharedArray) -> Option<u64> {
    (control.memory().load(SEEN) != 0).then(|| control.memory().load(VALUE))
}

fn run_trial(
    reader: Reader,
    place: Place,
    event: TrialEvent,
    filter: u32,
    provoke: impl Fn(&Program, &SharedArray) -> Result<(), Failure>,
) -> Result<Option<u64>, Failure> {
    let control = SharedArray::new(64, 1).map_err(|e| Failure::at("making a BPF map", &e))?;
    control.memory().store(FILTER, u64::from(filter));
    let insns = trial(reader, place, &control, event)?;
    let program = Program::load(ProgramKind::RawTracepoint, &insns)
        .map_err(|e| Failure::at("loading the program that locates the preempt count", &e))?;
    provoke(&program, &control)?;
    Ok(value(&control))
}

fn in_process(reader: Reader, place: Place) -> Result<Option<u64>, Failure> {
    run_trial(reader, place, TrialEvent::SystemCall, sys::thread_id(), |program, _| {
        program.in_system_calls().run().map_err(|e| Failure::at("running a BPF program", &e))
    })
}

fn in_hardirq(reader: Reader, place: Place, cpu: u32) -> Result<Option<u64>, Failure> {
    run_trial(reader, place, TrialEvent::Hrtimer, cpu, |program, control| {
        let tracepoint = "hrtimer_expire_entry";
        let link = program.attach_raw_tracepoint(tracepoint).map_err(|e| {
            Failure::at(format!("attaching to the raw tracepoint {tracepoint}"), &e)
        })?;
        // Each sleep ends with an hrtimer's expiry on this CPU.
        for _ in 0..40 {
            std::thread::sleep(Duration::from_micros(500));
            if value(control).is_some() {
                break;
            }
        }
        drop(link);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Levels as the kernel's own macros have them; need-resched does not matter.
    #[test]
    fn levels() {
        let level = |count| Layout::Classic.level(count);
        assert_eq!(level(0), Level::Process);
        assert_eq!(level(0x8000_0001), Level::Process);
        assert_eq!(level(0x0201), Level::Process); // softirqs off, none served
        assert_eq!(level(0x0101), Level::Softirq);
        assert_eq!(level(0x8001_0002), Level::Hardirq);
        assert_eq!(level(0x0001_0102), Level::Hardirq); // on top of a softirq
        assert_eq!(level(0x0011_0000), Level::Nmi);
        assert_eq!(level(0x0100_0000), Level::Unknown);
        assert_eq!(level(UNREADABLE), Level::Unknown);
        let level = |count| Layout::CountedDisable.level(count);
        assert_eq!(level(0x0001_0001), Level::Process); // interrupts off, counted
        assert_eq!(level(0x0100_0001), Level::Hardirq);
        assert_eq!(level(0x1100_0001), Level::Nmi);
    }

    /// Only what behaves like a preempt count in both situations is one: not a
    /// page table's address, not a CPU number, not a stack.
    #[test]
    fn only_the_preempt_count_is_believed() {
        assert_eq!(judge(0x8000_0002, 0x8001_0002), Some(Layout::Classic));
        assert_eq!(judge(1, 0x0001_0000), Some(Layout::Classic));
        assert_eq!(judge(1, 0x0100_0001), Some(Layout::CountedDisable));
        assert_eq!(judge(0x4211_2000, 0x4211_2000), None);
        assert_eq!(judge(0, 0), None);
        assert_eq!(judge(1, 0x0021_0000), None);
        assert_eq!(judge(0x0001_0000, 0x0001_0000), None);
        assert_eq!(judge(UNREADABLE, UNREADABLE), None);
    }
}
