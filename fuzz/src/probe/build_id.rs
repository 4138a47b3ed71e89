// SPDX-License-Identifier: MIT OR Apache-2.0
//! How often `bpf_get_stack(…, BPF_F_USER_BUILD_ID)` and its kin answer, and how
//! often rightly.
//!
//! One thread, pinned to a CPU of its own, runs code whose every legal address
//! is known ([`sampled`]). A BPF program samples it, from the asked context,
//! straight into a mapped array: no ring buffer, whose wake-ups would queue
//! the very kind of work that is being measured. Another CPU waits, and scores
//! the block when the sampling is over.
//!
//! A sample that was not taken is not a failure; a sample from another context
//! than the asked one is neither; both are counted apart.
//!
//! | file | |
//! |---|---|
//! | `params`, `words` | what a spec may say, and the condition it comes to |
//! | `metrics` | what comes out: metrics, notes, reasons, in words |
//! | `method` | context and interface → event, program, what the thread does |
//! | `scene` | stack → functions, files, legal addresses |
//! | `stress` | what else goes on; the writer's duty |
//! | `sample` | the BPF program |
//! | `trigger` | the event it is attached to, and what it missed |
//! | `score`, `buckets` | samples → a block |
//!
//! Nothing in a visit has a rhythm of its own: the sampled thread's acts, a timer's
//! period and phase, and the writer's pauses are random (see [`chance`](crate::chance)).

use std::sync::mpsc;
use std::thread::Scope;
use std::time::Duration;

use method::{Ask, Method, Source};
use metrics::{ERRORS, MISSED};
use sample::{Facts, Maps, UNLOCK_WORK, UNLOCK_WORK_FLAGS, control, slot};
use scene::Scene;
use score::{Answer, Eligible, Expected};
use stress::{Waiting, Writer, WriterTime};
use trigger::Trigger;
use words::Stress;

pub(super) use metrics::EXCLUDED;
pub(super) use params::{Asked, CONTEXT, PERIOD_US, word};
pub(super) use score::{Frame, Sample};
pub(super) use words::Context;

use super::{Emit, Probe, Size};
use crate::chance::Chance;
use crate::failure::Failure;
use crate::guest::say;
use crate::interrupt::{self, Place, Reader};
use crate::landmarks::Landmarks;
use crate::sys::bpf::{Program, SharedArray};
use crate::sys::memory::Page;
use crate::sys::sampled::{self, Leaf, Orders, Spot, Work};
use crate::wire::{Block, Record, Visit};
use crate::{held, kernel, sys};

mod buckets;
mod method;
mod metrics;
mod params;
mod sample;
mod scene;
mod score;
mod stress;
mod trigger;
mod words;

/// This probe's row.
pub const PROBE: Probe = Probe {
    name: "build_id",
    doc: "how often bpf_get_stack answers a user stack as build ids and offsets, and rightly",
    params: params::PARAMS,
    metrics: metrics::METRICS,
    excluded: metrics::EXCLUDED,
    notes: metrics::NOTES,
    condition: params::condition,
    size: Size { blocks: 5, calls_per_block: 20, block_ms: 2000 },
    run,
};

/// Bytes of slots at most; a longer block is taken in several rounds.
const SLOT_BYTES: usize = 20 << 20;
/// Slots at most.
const SLOTS: u64 = 65_536;
/// Room for frames beyond the legal ones, so that more would show.
const MORE_FRAMES: usize = 4;

/// How often the watching CPU looks whether a round is over. With writers it is
/// the writer's CPU too, and each look would preempt it with the lock held.
const LOOK: Duration = Duration::from_micros(500);
const LOOK_AT_WRITERS: Duration = Duration::from_millis(5);
/// How far the time from one act of the sampled thread to the next may be from the one
/// asked for, either way.
const PACES_WITHIN: f64 = 0.25;
/// A program that runs on another CPU has ended by then.
const LINGER: Duration = Duration::from_millis(1);

/// Ends whatever the threads of a visit do, however it is left.
struct StopOnDrop<'a> {
    work: &'a Work,
    writer: &'a Writer,
}

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.work.stop();
        self.writer.stop();
    }
}

/// Everything that stays the same from block to block.
struct Sampling<'a> {
    rig: &'a Rig,
    work: &'a Work,
    trigger: Trigger,
    judge: &'a Judge<'a>,
    stacks: Option<buckets::Maps>,
    writing: Option<Writing<'a>>,
}

/// The writer, watched.
struct Writing<'a> {
    writer: &'a Writer,
    waiting: Option<Waiting>,
    ticks_in_a_ms: u64,
}

impl Writing<'_> {
    fn mark(&self) -> stress::Mark {
        self.writer.mark(self.waiting.as_ref().map_or(0, Waiting::waited_ns))
    }
}

/// What becomes of the samples.
pub(super) struct Judge<'a> {
    /// A block in which nothing has happened yet.
    pub(super) nothing_yet: Block,
    /// Adds one sample.
    pub(super) score: &'a dyn Fn(&Sample, &mut Block),
}

/// Makes one visit.
fn run(visit: &Visit, emit: &mut Emit<'_>) -> Result<(), Failure> {
    let asked = Asked::read(&visit.step.params)?;
    let method = Method::of(&asked);
    check_kernel(&method)?;
    let scene = Scene::set(&asked, &method)?;
    let mut rig = Rig::new(visit, asked, scene.frames.len())?;
    let expected = Expected {
        eligible: rig.eligible(),
        frames: scene.frames.clone(),
        work_is_known: method.interrupts_off && rig.facts.unlock_work.is_some(),
        lock_is_known: rig.facts.mmap_lock.is_some(),
    };
    // Text and stacks are in memory from here on.
    sys::lock_memory().map_err(|e| Failure::at("locking memory", &e))?;
    let judge = Judge {
        nothing_yet: expected.nothing_yet(),
        score: &|sample, block| expected.score(sample, block),
    };
    let enter = |work: &Work| {
        // SAFETY: the chain is the scene's, whose objects outlive the thread, and
        // so does the rig's page, which nobody else touches.
        unsafe { sampled::run(work, &scene.chain) };
    };
    rig.sample(visit, Some(&scene), enter, &judge, &mut |block| emit(Record::Block(block)))
}

/// What takes the samples and keeps them: all but the code that is sampled and
/// the judgement of what it gave.
pub(super) struct Rig {
    asked: Asked,
    method: Method,
    /// The CPU of the thread that waits and scores.
    pub(super) own_cpu: u32,
    online: Vec<u32>,
    sampled_cpu: u32,
    facts: Facts,
    control: SharedArray,
    slots: SharedArray,
    /// Frames a slot has room for.
    depth: usize,
    /// Slots.
    capacity: u64,
    stacks: Option<buckets::Maps>,
    program: Program,
    /// What the sampled thread faults on.
    page: Option<Page>,
}

impl Rig {
    /// Pins the calling thread, looks around in the kernel, loads the program for
    /// stacks of so many frames.
    pub(super) fn new(visit: &Visit, asked: Asked, frames: usize) -> Result<Self, Failure> {
        let method = Method::of(&asked);
        check_timers()?;
        let online = kernel::cpus_online().map_err(|e| Failure::at("counting CPUs", &e))?;
        let [first, .., last] = online[..] else {
            return Err(Failure::new(format!(
                "needs a CPU of its own for the sampled thread; online: {online:?}"
            )));
        };
        // An NMI from outside reaches the CPU that booted and no other.
        let (own_cpu, sampled_cpu) =
            if method.source == Source::NmiHandler { (last, first) } else { (first, last) };
        sys::pin(own_cpu).map_err(|e| Failure::at(format!("pinning to CPU {own_cpu}"), &e))?;
        let facts = look_around(&method, own_cpu)?;
        let page = match method.leaf {
            Leaf::Faults => {
                Some(Page::new().map_err(|e| Failure::at("mapping the page to fault on", &e))?)
            }
            Leaf::SystemCalls | Leaf::Spin | Leaf::Passes => None,
        };
        let room = frames + MORE_FRAMES;
        let depth = if method.ask == Ask::Stackid { 0 } else { room };
        let slot_size = slot::size(depth);
        let most = SLOTS.min((SLOT_BYTES / slot_size) as u64);
        // In pairs, for every second call to a stack map is another map's.
        let capacity = most.min(2 * u64::from(visit.step.calls_per_block)).next_multiple_of(2);
        let entries = u32::try_from(capacity).map_err(Failure::new)?;
        let map = |e: std::io::Error| Failure::at("making a BPF map", &e);
        let control = SharedArray::new(control::SIZE, 1).map_err(map)?;
        let slot_size = u32::try_from(slot_size).map_err(Failure::new)?;
        let slots = SharedArray::new(slot_size, entries).map_err(map)?;
        let stacks = match method.ask {
            Ask::Stackid => Some(buckets::Maps::new(room)?),
            Ask::Stack | Ask::TaskStack => None,
        };
        let maps = Maps {
            control: control.number(),
            slots: slots.number(),
            stacks: stacks.as_ref().map(buckets::Maps::numbers),
        };
        let insns = sample::program(method.source, method.ask, room, &facts, maps)?;
        let program = Program::load(method.source.program_kind(method.sleepable), &insns)
            .map_err(|e| Failure::at("loading the sampling program", &e))?;
        Ok(Self {
            asked,
            method,
            own_cpu,
            online,
            sampled_cpu,
            facts,
            control,
            slots,
            depth,
            capacity,
            stacks,
            program,
            page,
        })
    }

    /// Which samples count.
    pub(super) fn eligible(&self) -> Eligible {
        Eligible {
            level: self.method.level,
            layout: self.facts.count.layout,
            page: self.page.as_ref().map(Page::address),
        }
    }

    /// Where the sampled thread is meanwhile: the leaf, and the place in it.
    pub(super) fn leaf(&self) -> (Leaf, Spot) {
        (self.method.leaf, self.method.spot)
    }

    /// What the sampled thread is told.
    fn orders(&self, alone: bool) -> Orders {
        let Method { leaf, period_ns, system_call, .. } = self.method;
        Orders {
            pace: match leaf {
                Leaf::Spin => 0,
                Leaf::SystemCalls | Leaf::Faults | Leaf::Passes => period_ns.map_or(0, ticks_in),
            },
            alone,
            system_call,
            page: self.page.as_ref().map(|page| (page.address(), page.size())),
        }
    }

    /// Takes the visit's blocks while `enter` runs in a thread on a CPU of its
    /// own: the chain of [`sampled`], wherever it lies. With a scene nothing maps
    /// memory any more but the stress.
    pub(super) fn sample(
        &mut self,
        visit: &Visit,
        scene: Option<&Scene>,
        enter: impl FnOnce(&Work) + Send,
        judge: &Judge<'_>,
        take: &mut dyn FnMut(Block) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let stacks = self.stacks.take();
        let rig = &*self;
        let mut chance = Chance::new(visit.seed);
        let orders = rig.orders(scene.is_some_and(|scene| scene.alone));
        let work = Work::new(&orders);
        work.pace_by(|| chance.around(orders.pace, PACES_WITHIN));
        let writer = Writer::default();
        std::thread::scope(|scope| {
            let (work, writer) = (&work, &writer);
            let _stop = StopOnDrop { work, writer };
            let thread = start(scope, &[rig.sampled_cpu], move || enter(work))?;
            rig.control.memory().store(control::THREAD as usize, u64::from(thread));
            rig.start_helpers(scope, work)?;
            let leaf = scene.map(|scene| &scene.leaf);
            let trigger = Trigger::attach(&rig.method, &rig.program, thread, leaf, chance.split())?;
            let writing = rig.start_stress(scope, work, writer, chance.split())?;
            if let Some(scene) = scene {
                // From here on nothing of ours maps memory but who is to.
                sys::lock_no_more_memory().map_err(|e| Failure::at("locking memory", &e))?;
                if let Some(page) = &rig.page {
                    let failed = |e| Failure::at("unlocking the page to fault on", &e);
                    page.unlock().map_err(failed)?;
                }
                if rig.asked.stress == Stress::PageOut {
                    scene.drop_headers()?;
                }
            }
            if rig.method.leaf == Leaf::Spin {
                wait_until("the sampled thread to spin", || work.is_busy())?;
            }
            let mut sampling = Sampling { rig, work, trigger, judge, stacks, writing };
            (0..visit.step.blocks).try_for_each(|number| take(sampling.block(visit, number)?))
        })
    }

    /// Starts whoever makes the events that the sampled thread cannot make alone.
    fn start_helpers<'scope>(
        &self,
        scope: &'scope Scope<'scope, '_>,
        work: &'scope Work,
    ) -> Result<(), Failure> {
        match self.method.source {
            Source::SchedSwitch => {
                start(scope, &[self.sampled_cpu], move || stress::yield_to(work))?;
            }
            Source::SoftirqEntry => {
                start(scope, &[self.own_cpu], move || stress::keep_rcu_busy(work))?;
            }
            Source::SysEnter
            | Source::UserProbe
            | Source::NmiHandler
            | Source::CpuClock
            | Source::Fault
            | Source::FaultServed
            | Source::Cycles => {}
        }
        Ok(())
    }

    /// Starts what else is to go on.
    fn start_stress<'scope>(
        &self,
        scope: &'scope Scope<'scope, '_>,
        work: &'scope Work,
        writer: &'scope Writer,
        chance: Chance,
    ) -> Result<Option<Writing<'scope>>, Failure> {
        match (self.asked.stress, self.asked.writer_duty) {
            (Stress::MmapWriters, Some(duty)) => {
                start(scope, &[self.own_cpu], move || told(writer.run(duty, chance)))?;
                wait_until("the writer to begin", || writer.thread().is_some())?;
                let thread = writer.thread().unwrap_or_default();
                let waiting = Waiting::watch(thread, self.facts.mmap_lock)?;
                Ok(Some(Writing { writer, waiting, ticks_in_a_ms: ticks_in(1_000_000) }))
            }
            (Stress::Oversubscribed, _) => {
                for _ in &self.online {
                    start(scope, &self.online, move || told(stress::crowd(work)))?;
                }
                Ok(None)
            }
            (Stress::Idle | Stress::PageOut | Stress::MmapWriters, _) => Ok(None),
        }
    }
}

/// A stress thread's trouble is told; the block's own numbers show its effect.
fn told(ended: std::io::Result<()>) {
    if let Err(error) = ended {
        say(format_args!("a thread that maps memory ended: {error}"));
    }
}

/// Starts a thread on one of these CPUs; gives its number once it runs there.
fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    cpus: &[u32],
    body: impl FnOnce() + Send + 'scope,
) -> Result<u32, Failure> {
    let (tell, told) = mpsc::channel();
    let cpus = cpus.to_vec();
    let what = format!("pinning to CPUs {cpus:?}");
    scope.spawn(move || {
        let ready = sys::pin_to(&cpus).map(|()| sys::thread_id());
        let pinned = ready.is_ok();
        // A receiver that is gone has failed already, and stops us below.
        let _ = tell.send(ready);
        if pinned {
            body();
        }
    });
    told.recv()
        .map_err(|e| Failure::at("starting a thread", &e))?
        .map_err(|e| Failure::at(what, &e))
}

/// What this kernel cannot be asked is a fact for the report.
fn check_kernel(method: &Method) -> Result<(), Failure> {
    if method.ask == Ask::TaskStack && !std::path::Path::new(BTF).exists() {
        return Err(Failure::unreachable(
            "bpf_get_task_stack takes a task_struct that only a kernel with BTF hands out \
             (CONFIG_DEBUG_INFO_BTF), and this one has none",
        ));
    }
    Ok(())
}

/// Where a kernel shows its types.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Finds what the sampling program is to read. The calling thread is pinned.
fn look_around(method: &Method, cpu: u32) -> Result<Facts, Failure> {
    let symbols = [interrupt::SYMBOLS, held::SYMBOLS, &[UNLOCK_WORK]].concat();
    let Landmarks { symbols, count, mmap_lock } = Landmarks::find(&symbols, cpu)?;
    let mmap_lock = mmap_lock.map_err(Failure::new).and_then(held::mmap_lock);
    if let Err(why) = &mmap_lock {
        say(format_args!("lock_failed cannot be told: {why}"));
    }
    Ok(Facts {
        reader: Reader::new(&symbols),
        count,
        unlock_work: symbols.get(UNLOCK_WORK).map(|at| Place::PerCpu(at + UNLOCK_WORK_FLAGS)),
        mmap_lock: mmap_lock.ok().map(Place::At),
        run_queue: match method.source {
            Source::SchedSwitch => Some(held::run_queue(&symbols)?),
            Source::SysEnter
            | Source::UserProbe
            | Source::SoftirqEntry
            | Source::NmiHandler
            | Source::CpuClock
            | Source::Fault
            | Source::FaultServed
            | Source::Cycles => None,
        },
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

/// Length of a period in [`sampled::ticks`], measured.
fn ticks_in(period_ns: u64) -> u64 {
    let (from, from_ns) = (sampled::ticks(), sys::monotonic_ns());
    sys::sleep_until(from_ns + 20_000_000);
    let (to, to_ns) = (sampled::ticks(), sys::monotonic_ns());
    let ticks = u128::from(to.wrapping_sub(from)) * u128::from(period_ns);
    u64::try_from(ticks / u128::from((to_ns - from_ns).max(1))).unwrap_or(u64::MAX)
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
    fn block(&mut self, visit: &Visit, number: u32) -> Result<Block, Failure> {
        let debug_locks_before = kernel::debug_locks();
        let at_ns = sys::monotonic_ns();
        let mut block = Block {
            step: visit.step.id,
            visit: visit.number,
            block: number,
            at_ns,
            debug_locks_before,
            ..self.judge.nothing_yet.clone()
        };
        let wanted = u64::from(visit.step.calls_per_block);
        let deadline = at_ns + u64::from(visit.step.block_ms) * 1_000_000;
        let mut time = WriterTime::default();
        while block.calls < wanted && sys::monotonic_ns() < deadline {
            let asked = wanted - block.calls;
            block.window_ns += self.round(asked, deadline, &mut block, &mut time)?;
        }
        if let Some(stacks) = &mut self.stacks {
            stacks.settle()?.tell(&mut block);
        }
        if self.writing.is_some() {
            time.tell(&mut block);
        }
        block.debug_locks_after = kernel::debug_locks();
        Ok(block)
    }

    /// Fills the slots once, or until the deadline; answers the window's length.
    fn round(
        &mut self,
        wanted: u64,
        deadline: u64,
        block: &mut Block,
        time: &mut WriterTime,
    ) -> Result<u64, Failure> {
        // Every second call to a stack map is not a call of the block's.
        let slots_per_call = if self.stacks.is_some() { 2 } else { 1 };
        let limit = (wanted * slots_per_call).min(self.rig.capacity);
        self.trigger.wait_for_phase();
        self.set(control::NEXT, 0);
        self.set(control::LOST, 0);
        self.set(control::RUNS, 0);
        self.set(control::LIMIT, limit);
        self.set(control::ARMED, 1);
        let mark = self.writing.as_ref().map(Writing::mark);
        let start = sys::monotonic_ns();
        self.trigger.start(self.work, &self.rig.program, self.rig.method.leaf)?;
        let look = if self.writing.is_some() { LOOK_AT_WRITERS } else { LOOK };
        while self.word(control::NEXT) < limit && sys::monotonic_ns() < deadline {
            std::thread::sleep(look);
        }
        self.trigger.pause(self.work, self.rig.method.leaf)?;
        let end = sys::monotonic_ns();
        if let (Some(writing), Some(mark)) = (&self.writing, mark) {
            stress::add(time, mark, writing.mark(), writing.ticks_in_a_ms);
        }
        self.set(control::ARMED, 0);
        if self.trigger.lingers() {
            std::thread::sleep(LINGER);
        }

        let runs = self.word(control::RUNS);
        block.exclude(ERRORS, self.word(control::LOST));
        block.exclude(MISSED, self.trigger.missed(self.work, &self.rig.program, runs)?);
        let filled = usize::try_from(self.word(control::NEXT).min(limit)).map_err(Failure::new)?;
        self.score(filled, block)?;
        // The window ends with its last sample, not when we noticed.
        let last = match filled.checked_sub(1) {
            Some(last) if filled as u64 == limit => self.slot_word(last, slot::AT),
            _ => end,
        };
        Ok(last.clamp(start, end) - start)
    }

    fn slot_word(&self, index: usize, offset: i16) -> u64 {
        self.rig.slots.memory().load(index * slot::size(self.rig.depth) + offset as usize)
    }

    /// Scores the slots that were filled.
    fn score(&mut self, filled: usize, block: &mut Block) -> Result<(), Failure> {
        let answers: Vec<i64> =
            (0..filled).map(|index| self.slot_word(index, slot::ANSWER).cast_signed()).collect();
        let calls: Vec<(usize, Answer)> = match &mut self.stacks {
            Some(stacks) => stacks.take(&answers)?,
            None => answers
                .iter()
                .enumerate()
                .map(|(index, answer)| {
                    let at = index * slot::size(self.rig.depth);
                    let word = |offset| self.rig.slots.memory().load(at + offset);
                    (index, Answer::of_bytes(*answer, self.rig.depth, word))
                })
                .collect(),
        };
        for (index, answer) in calls {
            let sample = Sample::read(answer, |offset| self.slot_word(index, offset));
            (self.judge.score)(&sample, block);
        }
        Ok(())
    }
}
