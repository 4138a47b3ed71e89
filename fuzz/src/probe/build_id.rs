// SPDX-License-Identifier: MIT OR Apache-2.0
//! How often `bpf_get_stack(…, BPF_F_USER_BUILD_ID)` answers, and how often
//! rightly.
//!
//! One thread, pinned to a CPU of its own, runs code whose every legal address
//! is known ([`sampled`]). A BPF program samples it, from the asked context,
//! straight into a mapped array: no ring buffer, whose wake-ups would queue
//! the very kind of work that is being measured. Another CPU waits, and scores
//! the block when the sampling is over.
//!
//! A sample that was not taken is not a failure; a sample from another context
//! than the asked one is neither; both are counted apart.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::time::Duration;

use super::{Emit, Failure, Probe, Reach};
use crate::bpf::insn::{Alu, Assembler, Cond, Helper, Insn, Reg, STACK, Width};
use crate::elf::{BUILD_ID_LENGTH, Elf};
use crate::interrupt::{self, Count, Layout, Level, Place, Reader};
use crate::sys::bpf::{Program, ProgramKind, SharedArray};
use crate::sys::perf::Event;
use crate::sys::sampled::{self, DEPTH, Leaf, Work};
use crate::wire::{Block, Context, Counts, Step};
use crate::{kernel, sys};

/// This probe's row.
pub const PROBE: Probe = Probe {
    name: "build_id",
    doc: "how often bpf_get_stack answers a user stack as build ids and offsets, and rightly",
    metrics: &["build_id.top_frame", "build_id.all_frames"],
    contexts: &[
        Reach {
            context: Context::Process,
            trigger: "raw tracepoint sys_enter of getppid",
            not_on_x86_64: None,
            not_on_arm64: None,
        },
        Reach {
            context: Context::Hardirq,
            trigger: "software event cpu-clock (hrtimer)",
            not_on_x86_64: None,
            not_on_arm64: None,
        },
    ],
    run,
};

/// How a context is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Method {
    program: ProgramKind,
    leaf: Leaf,
    level: Level,
    period_ns: Option<u64>,
}

impl Method {
    fn of(step: &Step) -> Result<Self, Failure> {
        let period_ns = step.period_us.map(|us| u64::from(us) * 1000);
        match step.context {
            Context::Process => Ok(Self {
                program: ProgramKind::RawTracepoint,
                leaf: Leaf::SystemCalls,
                level: Level::Process,
                period_ns,
            }),
            Context::Hardirq => {
                // The kernel would silently make it 10 µs.
                if period_ns.is_none_or(|period| period < 10_000) {
                    return Err(Failure::new(
                        "hardirq needs period_us, 10 or more: the hrtimer takes no shorter one",
                    ));
                }
                Ok(Self {
                    program: ProgramKind::PerfEvent,
                    leaf: Leaf::Spin,
                    level: Level::Hardirq,
                    period_ns,
                })
            }
            Context::Softirq | Context::RqLock | Context::PageFault | Context::Nmi => {
                Err(Failure::new(format!("no way to sample in context {:?}", step.context)))
            }
        }
    }
}

/// Control words, shared with the program.
mod control {
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
mod slot {
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

/// Slots at most; a longer block is taken in several rounds. 19 MB.
const SLOTS: u64 = 65_536;

/// As much of the executable as is read: headers and build id come first.
const ELF_PREFIX: u64 = 64 << 10;

const BPF_F_USER_STACK: i32 = 1 << 8;
const BPF_F_USER_BUILD_ID: i32 = 1 << 11;

/// The per-CPU work that releases `mmap_lock` once interrupts are on again.
const UNLOCK_WORK: &str = "mmap_unlock_work";
/// `irq_work.node.a_flags`, since 5.11.
const UNLOCK_WORK_FLAGS: u64 = 8;
/// `IRQ_WORK_BUSY`: the kernel does not try the lock while it is set.
const IRQ_WORK_BUSY: u64 = 2;

/// What the program needs to know of the kernel.
#[derive(Clone, Copy, Debug)]
struct Facts {
    reader: Reader,
    count: Count,
    unlock_work: Option<Place>,
}

/// The sampling program: one `bpf_get_stack`, straight into a slot.
fn program(method: &Method, facts: &Facts, control: i32, slots: i32) -> Result<Vec<Insn>, Failure> {
    let mut asm = Assembler::new();
    asm.mov(Reg::R6, Reg::R1)
        .load_map_value(Reg::R7, control)
        .load(Width::Double, Reg::R1, Reg::R7, control::ARMED)
        .jump_if(Cond::Equal, Reg::R1, 0, "out")
        .call(Helper::GetCurrentPidTgid)
        .truncate(Reg::R0)
        .load(Width::Double, Reg::R1, Reg::R7, control::THREAD)
        .jump_if(Cond::NotEqual, Reg::R0, Reg::R1, "out");
    if method.program == ProgramKind::RawTracepoint {
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

#[allow(clippy::cast_possible_truncation)] // a system call's number
const GETPPID: i32 = libc::SYS_getppid as i32;

/// Status of a frame, as the kernel numbers them.
const STATUS_VALID: u32 = 1;
const STATUS_IP: u32 = 2;

/// One frame, `struct bpf_stack_build_id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Frame {
    status: u32,
    build_id: [u8; BUILD_ID_LENGTH],
    offset: u64,
}

impl Frame {
    fn from_words(words: [u64; 4]) -> Self {
        let mut bytes = [0; 32];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        let mut status = [0; 4];
        let mut build_id = [0; BUILD_ID_LENGTH];
        status.copy_from_slice(&bytes[..4]);
        build_id.copy_from_slice(&bytes[4..24]);
        Self { status: u32::from_ne_bytes(status), build_id, offset: words[3] }
    }
}

/// One sample.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sample {
    answer: i64,
    count: u64,
    work: u64,
    frames: [Frame; slot::DEPTH],
}

impl Sample {
    /// Decodes what the program wrote; `word` reads at a byte offset.
    fn read(word: impl Fn(usize) -> u64) -> Self {
        let mut frames = [Frame::default(); slot::DEPTH];
        for (index, frame) in frames.iter_mut().enumerate() {
            let at = slot::FRAMES as usize + index * slot::FRAME;
            *frame = Frame::from_words([word(at), word(at + 8), word(at + 16), word(at + 24)]);
        }
        Self {
            answer: word(slot::ANSWER as usize).cast_signed(),
            count: word(slot::COUNT as usize),
            work: word(slot::WORK as usize),
            frames,
        }
    }
}

/// What a right answer looks like.
#[derive(Clone, Debug)]
struct Expected {
    level: Level,
    layout: Layout,
    build_id: [u8; BUILD_ID_LENGTH],
    /// File offsets, innermost frame first.
    frames: [Range<u64>; DEPTH],
    /// Whether the flags of the unlock work were read with interrupts off, so
    /// that they are what the helper saw a moment later.
    work_is_known: bool,
}

impl Expected {
    fn is_correct(&self, index: usize, frame: &Frame) -> bool {
        frame.status == STATUS_VALID
            && frame.build_id == self.build_id
            && self.frames.get(index).is_some_and(|legal| legal.contains(&frame.offset))
    }

    /// Adds one sample to the counts.
    fn score(&self, sample: &Sample, counts: &mut Counts) {
        let bytes = match usize::try_from(sample.answer) {
            Err(_) => {
                let errno = i32::try_from(-sample.answer.max(-4096)).unwrap_or(0);
                *counts.ineligible.entry(sys::errno_name(errno)).or_default() += 1;
                return;
            }
            Ok(0) => {
                *counts.ineligible.entry("0".to_owned()).or_default() += 1;
                return;
            }
            Ok(bytes) => bytes,
        };
        let Some(frames) = bytes
            .is_multiple_of(slot::FRAME)
            .then(|| sample.frames.get(..bytes / slot::FRAME))
            .flatten()
        else {
            counts.errors += 1;
            return;
        };
        let level = self.layout.level(sample.count);
        if level != self.level {
            *counts.wrong_context.entry(level.to_string()).or_default() += 1;
            return;
        }
        counts.calls += 1;
        counts.frames += frames.len() as u64;
        let valid = |frame: &Frame| frame.status == STATUS_VALID;
        if let Some(top) = frames.first() {
            counts.top.valid += u64::from(valid(top));
            counts.top.correct += u64::from(self.is_correct(0, top));
        }
        counts.all.valid += u64::from(frames.iter().all(valid));
        // A stack cut short, or too long, is not a right answer.
        counts.all.correct += u64::from(
            frames.len() == DEPTH
                && frames.iter().enumerate().all(|(index, frame)| self.is_correct(index, frame)),
        );
        if self.work_is_known && sample.work != interrupt::UNREADABLE {
            // Only a busy work makes the whole call fall back *and* shows here.
            let fell_back = frames.iter().all(|frame| frame.status == STATUS_IP);
            let busy = sample.work & IRQ_WORK_BUSY != 0;
            *counts.slot_busy.get_or_insert(0) += u64::from(fell_back && busy);
        }
    }
}

/// Expiries that fell due without a run, from two totals that wobble by one
/// against each other: only a lag never seen before is new.
#[derive(Debug, Default)]
struct Lag {
    highest: u64,
}

impl Lag {
    fn missed(&mut self, due: u64, runs: u64) -> u64 {
        let lag = due.saturating_sub(runs);
        let missed = lag.saturating_sub(self.highest);
        self.highest = self.highest.max(lag);
        missed
    }
}

/// Ends the sampled thread's work however the step is left.
struct StopOnDrop<'a>(&'a Work);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// What takes the samples.
enum Trigger {
    Tracepoint { _link: OwnedFd },
    Timer { event: Event, period_ns: u64 },
}

/// Everything that stays the same from block to block.
struct Sampling<'a> {
    work: &'a Work,
    trigger: Trigger,
    control: &'a SharedArray,
    slots: &'a SharedArray,
    expected: Expected,
    runs: u64,
    lag: Lag,
}

/// Runs the probe for one step.
fn run(step: &Step, emit: &mut Emit<'_>) -> Result<(), Failure> {
    let method = Method::of(step)?;
    check_timers()?;
    let online = kernel::cpus_online().map_err(|e| Failure::at("counting CPUs", &e))?;
    let [own, .., sampled_cpu] = online[..] else {
        return Err(Failure::new(format!(
            "needs a CPU of its own for the sampled thread; online: {online:?}"
        )));
    };
    sys::pin(own).map_err(|e| Failure::at(format!("pinning to CPU {own}"), &e))?;

    let symbols = [interrupt::SYMBOLS, &[UNLOCK_WORK]].concat();
    let symbols =
        kernel::symbols(&symbols).map_err(|e| Failure::at("reading /proc/kallsyms", &e))?;
    let facts = Facts {
        reader: Reader::new(&symbols),
        count: interrupt::locate(&symbols, own)?,
        unlock_work: symbols.get(UNLOCK_WORK).map(|at| Place::PerCpu(at + UNLOCK_WORK_FLAGS)),
    };
    let expected = expect(&method, &facts)?;

    let slot_size = u32::try_from(slot::SIZE).map_err(Failure::new)?;
    let entries = SLOTS.min(u64::from(step.calls_per_block));
    let entries = u32::try_from(entries).map_err(Failure::new)?;
    let map = |e: std::io::Error| Failure::at("making a BPF map", &e);
    let control = SharedArray::new(control::SIZE, 1).map_err(map)?;
    let slots = SharedArray::new(slot_size, entries).map_err(map)?;
    let insns = program(&method, &facts, control.number(), slots.number())?;
    let program = Program::load(method.program, &insns)
        .map_err(|e| Failure::at("loading the sampling program", &e))?;
    // Text and stacks are in memory from here on; nothing is mapped later.
    sys::lock_memory().map_err(|e| Failure::at("locking memory", &e))?;

    let work = Work::new(match method.leaf {
        Leaf::SystemCalls => method.period_ns.map_or(0, ticks_in),
        Leaf::Spin => 0,
    });
    std::thread::scope(|scope| {
        let work = &work;
        let _stop = StopOnDrop(work);
        let (tell, told) = mpsc::channel();
        scope.spawn(move || {
            let ready = sys::pin(sampled_cpu).map(|()| sys::thread_id());
            let pinned = ready.is_ok();
            // A receiver that is gone has failed already, and stops us below.
            let _ = tell.send(ready);
            if pinned {
                sampled::run(work, method.leaf);
            }
        });
        let thread = told
            .recv()
            .map_err(|e| Failure::at("starting the sampled thread", &e))?
            .map_err(|e| Failure::at(format!("pinning to CPU {sampled_cpu}"), &e))?;
        control.memory().store(control::THREAD as usize, u64::from(thread));
        let trigger = attach(&method, &program, thread)?;
        if method.leaf == Leaf::Spin {
            wait_until("the sampled thread to spin", || work.is_busy())?;
        }
        let mut sampling = Sampling {
            work,
            trigger,
            control: &control,
            slots: &slots,
            expected,
            runs: 0,
            lag: Lag::default(),
        };
        for number in 0..step.blocks {
            emit(sampling.block(step, number)?)?;
        }
        Ok(())
    })
}

/// Refuses a boot whose clock ticks in jiffies (an x86_64 guest on a busy host
/// may fail to calibrate its TSC): periods would be other than stated, and
/// slow sampling looks like high availability.
fn check_timers() -> Result<(), Failure> {
    let resolution = sys::monotonic_resolution_ns()
        .map_err(|e| Failure::at("asking for the timers' resolution", &e))?;
    if resolution > kernel::COARSEST_TIMER_NS {
        return Err(Failure::new(format!(
            "this boot has no high-resolution timers: theirs is {resolution} ns"
        )));
    }
    Ok(())
}

/// What a right answer looks like, read from our own executable.
fn expect(method: &Method, facts: &Facts) -> Result<Expected, Failure> {
    let mut file = Vec::new();
    File::open("/proc/self/exe")
        .and_then(|exe| exe.take(ELF_PREFIX).read_to_end(&mut file))
        .map_err(|e| Failure::at("reading /proc/self/exe", &e))?;
    let elf = Elf::parse(&file).map_err(Failure::new)?;
    let mut frames = std::array::from_fn(|_| 0..0);
    let headers = sys::program_headers_at();
    for (frame, addresses) in frames.iter_mut().zip(sampled::legal(method.leaf)) {
        *frame = elf.file_range(&addresses, headers).ok_or_else(|| {
            Failure::new("the sampled code lies outside the executable's segments")
        })?;
    }
    Ok(Expected {
        level: method.level,
        layout: facts.count.layout,
        build_id: elf.build_id,
        frames,
        work_is_known: method.level == Level::Hardirq && facts.unlock_work.is_some(),
    })
}

/// Length of a period in [`sampled::ticks`], measured.
fn ticks_in(period_ns: u64) -> u64 {
    let (from, from_ns) = (sampled::ticks(), sys::monotonic_ns());
    sys::sleep_until(from_ns + 20_000_000);
    let (to, to_ns) = (sampled::ticks(), sys::monotonic_ns());
    let ticks = u128::from(to.wrapping_sub(from)) * u128::from(period_ns);
    u64::try_from(ticks / u128::from((to_ns - from_ns).max(1))).unwrap_or(u64::MAX)
}

fn attach(method: &Method, program: &Program, thread: u32) -> Result<Trigger, Failure> {
    match method.period_ns {
        Some(period_ns) if method.program == ProgramKind::PerfEvent => {
            let event = Event::cpu_clock(thread, period_ns)
                .map_err(|e| Failure::at("opening the cpu-clock event", &e))?;
            event
                .attach(program)
                .map_err(|e| Failure::at("attaching to the cpu-clock event", &e))?;
            Ok(Trigger::Timer { event, period_ns })
        }
        _ => Ok(Trigger::Tracepoint {
            _link: program
                .attach_raw_tracepoint("sys_enter")
                .map_err(|e| Failure::at("attaching to the raw tracepoint sys_enter", &e))?,
        }),
    }
}

/// Waits for the other thread; a scheduler that forgets it is not waited for.
fn wait_until(what: &str, done: impl Fn() -> bool) -> Result<(), Failure> {
    let limit = sys::monotonic_ns() + 10_000_000_000;
    while !done() {
        if sys::monotonic_ns() > limit {
            return Err(Failure::new(format!("waited 10 s for {what}")));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

impl Sampling<'_> {
    fn word(&self, offset: i16) -> u64 {
        self.control.memory().load(offset as usize)
    }

    fn set(&self, offset: i16, value: u64) {
        self.control.memory().store(offset as usize, value);
    }

    /// Takes one block.
    fn block(&mut self, step: &Step, number: u32) -> Result<Block, Failure> {
        let debug_locks_before = kernel::debug_locks();
        let wanted = u64::from(step.calls_per_block);
        let at_ns = sys::monotonic_ns();
        let deadline = at_ns + u64::from(step.block_ms) * 1_000_000;
        let mut counts = Counts::default();
        if self.expected.work_is_known {
            counts.slot_busy = Some(0);
        }
        let mut window_ns = 0;
        while counts.calls < wanted && sys::monotonic_ns() < deadline {
            window_ns += self.round(wanted - counts.calls, deadline, &mut counts)?;
        }
        Ok(Block {
            step: step.id,
            block: number,
            at_ns,
            window_ns,
            debug_locks_before,
            debug_locks_after: kernel::debug_locks(),
            counts,
        })
    }

    /// Fills the slots once, or until the deadline; answers the window's length.
    fn round(&mut self, wanted: u64, deadline: u64, counts: &mut Counts) -> Result<u64, Failure> {
        let limit = wanted.min(SLOTS);
        self.set(control::NEXT, 0);
        self.set(control::LOST, 0);
        self.set(control::RUNS, 0);
        self.set(control::LIMIT, limit);
        self.set(control::ARMED, 1);
        let calls = self.work.calls();
        let start = sys::monotonic_ns();
        self.start()?;
        while self.word(control::NEXT) < limit && sys::monotonic_ns() < deadline {
            std::thread::sleep(Duration::from_micros(500));
        }
        self.pause()?;
        let end = sys::monotonic_ns();
        self.set(control::ARMED, 0);

        let runs = self.word(control::RUNS);
        self.runs += runs;
        counts.errors += self.word(control::LOST);
        counts.missed += match &self.trigger {
            // Each call is an event, and they are counted where they are made.
            Trigger::Tracepoint { .. } => (self.work.calls() - calls).saturating_sub(runs),
            Trigger::Timer { event, period_ns } => {
                let ran_ns =
                    event.count().map_err(|e| Failure::at("reading the cpu-clock event", &e))?;
                self.lag.missed(ran_ns / period_ns, self.runs)
            }
        };
        let filled = usize::try_from(self.word(control::NEXT).min(limit)).map_err(Failure::new)?;
        for index in 0..filled {
            let at = index * slot::SIZE;
            let sample = Sample::read(|offset| self.slots.memory().load(at + offset));
            self.expected.score(&sample, counts);
        }
        // The window ends with its last sample, not when we noticed.
        let last = match filled.checked_sub(1) {
            Some(last) if filled as u64 == limit => {
                self.slots.memory().load(last * slot::SIZE + slot::AT as usize)
            }
            _ => end,
        };
        Ok(last.clamp(start, end) - start)
    }

    fn start(&self) -> Result<(), Failure> {
        match &self.trigger {
            Trigger::Tracepoint { .. } => {
                self.work.go(true);
                wait_until("the sampled thread to start", || self.work.is_busy())
            }
            Trigger::Timer { event, .. } => {
                event.enable().map_err(|e| Failure::at("enabling the cpu-clock event", &e))
            }
        }
    }

    fn pause(&self) -> Result<(), Failure> {
        match &self.trigger {
            Trigger::Tracepoint { .. } => {
                self.work.go(false);
                wait_until("the sampled thread to pause", || !self.work.is_busy())
            }
            Trigger::Timer { event, .. } => {
                event.disable().map_err(|e| Failure::at("disabling the cpu-clock event", &e))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Score;
    use std::collections::BTreeMap;

    const ID: [u8; BUILD_ID_LENGTH] = [7; BUILD_ID_LENGTH];
    const HARDIRQ: u64 = 0x0001_0000;

    fn expected() -> Expected {
        Expected {
            level: Level::Hardirq,
            layout: Layout::Classic,
            build_id: ID,
            frames: [0x100..0x110, 0x120..0x121, 0x130..0x131, 0x140..0x141],
            work_is_known: true,
        }
    }

    /// A hardirq sample with these frames.
    fn sample(frames: &[Frame]) -> Sample {
        let mut sample = Sample {
            answer: i64::try_from(frames.len() * slot::FRAME).unwrap(),
            count: HARDIRQ,
            work: 0,
            frames: [Frame::default(); slot::DEPTH],
        };
        sample.frames[..frames.len()].copy_from_slice(frames);
        sample
    }

    fn valid(offset: u64) -> Frame {
        Frame { status: STATUS_VALID, build_id: ID, offset }
    }

    fn fallback(ip: u64) -> Frame {
        Frame { status: STATUS_IP, build_id: [0; BUILD_ID_LENGTH], offset: ip }
    }

    fn right() -> [Frame; 4] {
        [0x10f, 0x120, 0x130, 0x140].map(valid)
    }

    fn score(samples: &[Sample]) -> Counts {
        let mut counts = Counts::default();
        for sample in samples {
            expected().score(sample, &mut counts);
        }
        counts
    }

    const NONE: Score = Score { valid: 0, correct: 0 };
    const VALID: Score = Score { valid: 1, correct: 0 };
    const BOTH: Score = Score { valid: 1, correct: 1 };

    /// A full answer counts for the top frame and for all of them.
    #[test]
    fn a_right_answer() {
        let counts = score(&[sample(&right())]);
        assert_eq!((counts.calls, counts.frames), (1, 4));
        assert_eq!((counts.top, counts.all), (BOTH, BOTH));
    }

    /// A valid frame outside the sampled code, or of another file, is valid but wrong.
    #[test]
    fn wrong_answers_are_valid_but_not_correct() {
        let mut off = right();
        off[0].offset = 0x110;
        let mut other = right();
        other[0].build_id[19] ^= 1;
        for frames in [off, other] {
            let counts = score(&[sample(&frames)]);
            assert_eq!((counts.top, counts.all), (VALID, VALID));
        }
        let mut caller = right();
        caller[2].offset += 1;
        let counts = score(&[sample(&caller)]);
        assert_eq!((counts.top, counts.all), (BOTH, VALID));
    }

    /// A stack cut short or too long has a right top, but not all frames right.
    #[test]
    fn the_depth_counts() {
        let mut long = right().to_vec();
        long.push(valid(0x140));
        for frames in [&right()[..3], &long] {
            let counts = score(&[sample(frames)]);
            assert_eq!((counts.top, counts.all), (BOTH, VALID));
        }
    }

    /// A call that fell back as a whole with the unlock work busy is slot_busy;
    /// one that fell back otherwise, or in part, is not.
    #[test]
    fn a_busy_slot_is_told_apart() {
        let fell_back = sample(&[0x1, 0x2, 0x3, 0x4].map(fallback));
        let busy = Sample { work: 3, ..fell_back.clone() };
        let counts = score(&[busy, fell_back]);
        assert_eq!((counts.calls, counts.slot_busy), (2, Some(1)));
        assert_eq!((counts.top, counts.all), (NONE, NONE));
        let mut partly = right();
        partly[3] = fallback(1);
        let partly = Sample { work: 2, ..sample(&partly) };
        let counts = score(&[partly]);
        assert_eq!((counts.top, counts.all, counts.slot_busy), (BOTH, NONE, Some(0)));
    }

    /// Flags that could not be read say nothing.
    #[test]
    fn unread_flags_are_no_answer() {
        let unread = Sample { work: interrupt::UNREADABLE, ..sample(&right()) };
        assert_eq!(score(&[unread]).slot_busy, None);
        assert_eq!(score(&[]).lock_failed, None);
    }

    /// No stack: ineligible by errno, and nothing else is counted.
    #[test]
    fn ineligible_calls_are_named() {
        let answers = [-14, -14, 0, -22, -9999].map(|answer| Sample { answer, ..sample(&[]) });
        let counts = score(&answers);
        assert_eq!(counts.calls, 0);
        assert_eq!(
            counts.ineligible,
            BTreeMap::from([
                ("0".to_owned(), 1),
                ("EFAULT".to_owned(), 2),
                ("EINVAL".to_owned(), 1),
                ("errno 4096".to_owned(), 1),
            ])
        );
    }

    /// An answer longer than the buffer, or no whole number of frames, is our error.
    #[test]
    fn impossible_answers_are_errors() {
        let samples = [33, 288, i64::MAX].map(|answer| Sample { answer, ..sample(&right()) });
        let counts = score(&samples);
        assert_eq!((counts.errors, counts.calls), (3, 0));
    }

    /// Samples from elsewhere are counted by where they came from, not as calls.
    #[test]
    fn a_wrong_context_is_no_call() {
        let samples =
            [0x1, 0x101, 0x0010_0000, u64::MAX].map(|count| Sample { count, ..sample(&right()) });
        let counts = score(&samples);
        assert_eq!((counts.calls, counts.top.valid), (0, 0));
        assert_eq!(
            counts.wrong_context,
            BTreeMap::from(
                ["process", "softirq", "nmi", "unknown"].map(|level| (level.to_owned(), 1))
            )
        );
    }

    /// The kernel's struct: status, 20 bytes of id, offset at 24.
    #[test]
    fn frames_are_decoded() {
        let mut bytes = [0_u8; 32];
        bytes[..4].copy_from_slice(&1_u32.to_ne_bytes());
        bytes[4..24].copy_from_slice(&ID);
        bytes[24..].copy_from_slice(&0x123_u64.to_ne_bytes());
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(chunk.try_into().unwrap());
        }
        assert_eq!(Frame::from_words(words), valid(0x123));
    }

    /// Two totals that wobble by one against each other do not add up to misses.
    #[test]
    fn wobble_is_not_missed() {
        let mut lag = Lag::default();
        assert_eq!(lag.missed(10, 10), 0);
        assert_eq!(lag.missed(21, 20), 1);
        assert_eq!(lag.missed(30, 31), 0);
        assert_eq!(lag.missed(41, 40), 0);
        assert_eq!(lag.missed(50, 45), 4);
    }

    /// Hardirq without a period, or with one the kernel would change, is refused.
    #[test]
    fn the_hrtimer_needs_a_period() {
        let mut step = Step {
            id: 0,
            probe: "build_id".to_owned(),
            context: Context::Hardirq,
            stress: crate::wire::Stress::Idle,
            period_us: None,
            blocks: 1,
            calls_per_block: 1,
            block_ms: 1,
        };
        assert!(Method::of(&step).is_err());
        step.period_us = Some(9);
        assert!(Method::of(&step).is_err());
        step.period_us = Some(10);
        assert!(Method::of(&step).is_ok());
    }

    /// The table of contexts and the ways to sample are the same set.
    #[test]
    fn every_context_in_the_table_can_be_sampled() {
        for reach in PROBE.contexts {
            let step = Step {
                id: 0,
                probe: PROBE.name.to_owned(),
                context: reach.context,
                stress: crate::wire::Stress::Idle,
                period_us: Some(1000),
                blocks: 1,
                calls_per_block: 1,
                block_ms: 1,
            };
            assert!(Method::of(&step).is_ok());
        }
    }

    /// Both programs assemble, with exactly one `bpf_get_stack` each.
    #[test]
    fn one_helper_call_per_event() {
        let facts = Facts {
            reader: Reader::new(&BTreeMap::from([("__per_cpu_offset".to_owned(), 0x1000)])),
            count: Count { place: Place::PerCpu(8), layout: Layout::Classic },
            unlock_work: Some(Place::PerCpu(16)),
        };
        for (program_kind, leaf) in
            [(ProgramKind::RawTracepoint, Leaf::SystemCalls), (ProgramKind::PerfEvent, Leaf::Spin)]
        {
            let method =
                Method { program: program_kind, leaf, level: Level::Process, period_ns: None };
            let insns = program(&method, &facts, 3, 4).unwrap();
            let get_stack = |insn: &&Insn| insn.code == 0x85 && insn.immediate == 67;
            assert_eq!(insns.iter().filter(get_stack).count(), 1);
        }
    }
}
