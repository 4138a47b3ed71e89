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
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::time::Duration;

use sample::{Facts, UNLOCK_WORK, UNLOCK_WORK_FLAGS, control, slot};
use score::Expected;

pub(super) use score::{Eligible, Frame, Sample};

use super::{Emit, Failure, Next, Probe, Reach};
use crate::elf::Elf;
use crate::interrupt::{self, Layout, Level, Place, Reader};
use crate::sys::bpf::{Program, ProgramKind, SharedArray};
use crate::sys::perf::Event;
use crate::sys::sampled::{self, Leaf, Work};
use crate::wire::{Block, Context, Counts, Step, Stress};
use crate::{kernel, sys};

mod sample;
mod score;

/// System calls: nothing need be done for them.
pub(super) const PROCESS: Reach = Reach {
    context: Context::Process,
    trigger: "raw tracepoint sys_enter of getppid",
    shortest_period_us: None,
    not_on_x86_64: None,
    not_on_arm64: None,
};

/// The hrtimer's interrupt.
pub(super) const HARDIRQ: Reach = Reach {
    context: Context::Hardirq,
    trigger: "software event cpu-clock (hrtimer)",
    // The kernel would silently make it 10 µs.
    shortest_period_us: Some(10),
    not_on_x86_64: None,
    not_on_arm64: None,
};

/// This probe's row.
pub const PROBE: Probe = Probe {
    name: "build_id",
    doc: "how often bpf_get_stack answers a user stack as build ids and offsets, and rightly",
    metrics: &["build_id.top_frame", "build_id.all_frames"],
    contexts: &[PROCESS, HARDIRQ],
    stresses: &[Stress::Idle],
    run,
};

/// How a context is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Method {
    program: ProgramKind,
    /// The innermost function of the sampled thread.
    pub(super) leaf: Leaf,
    /// The level the samples have to come from.
    pub(super) level: Level,
    period_ns: Option<u64>,
}

impl Method {
    /// The method for a step; one that asks for what cannot be done is refused.
    pub(super) fn of(step: &Step) -> Result<Self, Failure> {
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

/// Slots at most; a longer block is taken in several rounds. 19 MB.
const SLOTS: u64 = 65_536;

/// As much of the executable as is read: headers and build id come first.
const ELF_PREFIX: u64 = 64 << 10;

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

/// Adds one sample to a block's counts.
pub(super) type Score<'a> = dyn Fn(&Sample, &mut Counts) + 'a;

/// Everything that stays the same from block to block.
struct Sampling<'a> {
    work: &'a Work,
    trigger: Trigger,
    rig: &'a Rig,
    score: &'a Score<'a>,
    runs: u64,
    lag: Lag,
}

/// Runs the probe for one step.
fn run(step: &Step, emit: &mut Emit<'_>) -> Result<(), Failure> {
    let rig = Rig::new(step, Method::of(step)?)?;
    let expected = expect(&rig)?;
    // Text and stacks are in memory from here on; nothing is mapped later.
    sys::lock_memory().map_err(|e| Failure::at("locking memory", &e))?;
    let leaf = rig.method.leaf;
    let score = |sample: &Sample, counts: &mut Counts| expected.score(sample, counts);
    rig.sample(step, |work| sampled::run(work, leaf), &score, emit)
}

/// What takes the samples and keeps them: all but the thread that is sampled
/// and the judgement of what it gave.
pub(super) struct Rig {
    /// How.
    pub(super) method: Method,
    /// The CPU of the thread that waits and scores.
    pub(super) own_cpu: u32,
    sampled_cpu: u32,
    facts: Facts,
    control: SharedArray,
    slots: SharedArray,
    program: Program,
}

impl Rig {
    /// Pins the calling thread, looks around in the kernel, loads the program.
    pub(super) fn new(step: &Step, method: Method) -> Result<Self, Failure> {
        check_timers()?;
        let online = kernel::cpus_online().map_err(|e| Failure::at("counting CPUs", &e))?;
        let [own_cpu, .., sampled_cpu] = online[..] else {
            return Err(Failure::new(format!(
                "needs a CPU of its own for the sampled thread; online: {online:?}"
            )));
        };
        sys::pin(own_cpu).map_err(|e| Failure::at(format!("pinning to CPU {own_cpu}"), &e))?;

        let symbols = [interrupt::SYMBOLS, &[UNLOCK_WORK]].concat();
        let symbols =
            kernel::symbols(&symbols).map_err(|e| Failure::at("reading /proc/kallsyms", &e))?;
        let facts = Facts {
            reader: Reader::new(&symbols),
            count: interrupt::locate(&symbols, own_cpu)?,
            unlock_work: symbols.get(UNLOCK_WORK).map(|at| Place::PerCpu(at + UNLOCK_WORK_FLAGS)),
        };

        let slot_size = u32::try_from(slot::SIZE).map_err(Failure::new)?;
        let entries = SLOTS.min(u64::from(step.calls_per_block));
        let entries = u32::try_from(entries).map_err(Failure::new)?;
        let map = |e: std::io::Error| Failure::at("making a BPF map", &e);
        let control = SharedArray::new(control::SIZE, 1).map_err(map)?;
        let slots = SharedArray::new(slot_size, entries).map_err(map)?;
        let insns = sample::program(method.program, &facts, control.number(), slots.number())?;
        let program = Program::load(method.program, &insns)
            .map_err(|e| Failure::at("loading the sampling program", &e))?;
        Ok(Self { method, own_cpu, sampled_cpu, facts, control, slots, program })
    }

    /// How to read the preempt count.
    pub(super) fn layout(&self) -> Layout {
        self.facts.count.layout
    }

    /// Takes the step's blocks while `enter` runs in a thread on a CPU of its
    /// own: the chain of [`sampled`], wherever it lies.
    pub(super) fn sample(
        &self,
        step: &Step,
        enter: impl FnOnce(&Work) + Send,
        score: &Score<'_>,
        emit: &mut Emit<'_>,
    ) -> Result<(), Failure> {
        let Self { method, sampled_cpu, control, program, .. } = self;
        let work = Work::new(match method.leaf {
            Leaf::SystemCalls => method.period_ns.map_or(0, ticks_in),
            Leaf::Spin => 0,
        });
        std::thread::scope(|scope| {
            let work = &work;
            let _stop = StopOnDrop(work);
            let (tell, told) = mpsc::channel();
            scope.spawn(move || {
                let ready = sys::pin(*sampled_cpu).map(|()| sys::thread_id());
                let pinned = ready.is_ok();
                // A receiver that is gone has failed already, and stops us below.
                let _ = tell.send(ready);
                if pinned {
                    enter(work);
                }
            });
            let thread = told
                .recv()
                .map_err(|e| Failure::at("starting the sampled thread", &e))?
                .map_err(|e| Failure::at(format!("pinning to CPU {sampled_cpu}"), &e))?;
            control.memory().store(control::THREAD as usize, u64::from(thread));
            let trigger = attach(method, program, thread)?;
            if method.leaf == Leaf::Spin {
                wait_until("the sampled thread to spin", || work.is_busy())?;
            }
            let mut sampling =
                Sampling { work, trigger, rig: self, score, runs: 0, lag: Lag::default() };
            for number in 0..step.blocks {
                if emit(sampling.block(step, number)?)? == Next::Enough {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Whether the unlock work's flags are what the helper saw a moment later.
    fn work_is_known(&self) -> bool {
        self.method.level == Level::Hardirq && self.facts.unlock_work.is_some()
    }
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
fn expect(rig: &Rig) -> Result<Expected, Failure> {
    let method = &rig.method;
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
        layout: rig.layout(),
        build_id: elf.build_id,
        frames,
        work_is_known: rig.work_is_known(),
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
        self.rig.control.memory().load(offset as usize)
    }

    fn set(&self, offset: i16, value: u64) {
        self.rig.control.memory().store(offset as usize, value);
    }

    /// Takes one block.
    fn block(&mut self, step: &Step, number: u32) -> Result<Block, Failure> {
        let debug_locks_before = kernel::debug_locks();
        let wanted = u64::from(step.calls_per_block);
        let at_ns = sys::monotonic_ns();
        let deadline = at_ns + u64::from(step.block_ms) * 1_000_000;
        let mut counts = Counts::default();
        if self.rig.work_is_known() {
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
            let sample = Sample::read(|offset| self.rig.slots.memory().load(at + offset));
            (self.score)(&sample, counts);
        }
        // The window ends with its last sample, not when we noticed.
        let last = match filled.checked_sub(1) {
            Some(last) if filled as u64 == limit => {
                self.rig.slots.memory().load(last * slot::SIZE + slot::AT as usize)
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
    use crate::wire::{Interface, Stack, Stop, Stress};

    fn step(context: Context, period_us: Option<u32>) -> Step {
        Step {
            id: 0,
            probe: PROBE.name.to_owned(),
            context,
            stress: Stress::Idle,
            period_us,
            blocks: 1,
            calls_per_block: 1,
            block_ms: 1,
            interface: Interface::default(),
            stack: Stack::default(),
            writer_duty: None,
            stop: Stop::default(),
        }
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
        let hardirq = |period_us| Method::of(&step(Context::Hardirq, period_us));
        assert!(hardirq(None).is_err());
        assert!(hardirq(Some(9)).is_err());
        assert!(hardirq(Some(10)).is_ok());
    }

    /// Every context in the table has a way to be sampled.
    #[test]
    fn every_context_in_the_table_can_be_sampled() {
        for reach in PROBE.contexts {
            assert!(Method::of(&step(reach.context, Some(1000))).is_ok());
        }
    }
}
