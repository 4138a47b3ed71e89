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
//! | `method` | context and interface → event, program, what the thread does |
//! | `scene` | stack → functions, files, legal addresses |
//! | `stress` | what else goes on; the writer's duty |
//! | `sample` | the BPF program |
//! | `trigger` | the event it is attached to, and what it missed |
//! | `score`, `buckets` | samples → counts |

use std::sync::mpsc;
use std::time::Duration;

use method::{Ask, Method, Source};
use sample::{Facts, Maps, UNLOCK_WORK, UNLOCK_WORK_FLAGS, control, slot};
use scene::Scene;
use score::{Answer, Expected, Sample};
use stress::{Waiting, Writer};
use trigger::Trigger;

use super::{Emit, Failure, Next, Probe, Reach};
use crate::guest::say;
use crate::interrupt::{self, Place, Reader};
use crate::sys::bpf::{Program, SharedArray};
use crate::sys::memory::Page;
use crate::sys::sampled::{self, Leaf, Orders, Work};
use crate::wire::{Block, Context, Counts, Step, Stress, WriterTime};
use crate::{held, kernel, sys};

mod buckets;
mod method;
mod sample;
mod scene;
mod score;
mod stress;
mod trigger;

/// This probe's row.
pub const PROBE: Probe = Probe {
    name: "build_id",
    doc: "how often bpf_get_stack answers a user stack as build ids and offsets, and rightly",
    metrics: &["build_id.top_frame", "build_id.all_frames"],
    contexts: &[
        reached(Context::Process, "raw tracepoint sys_enter of getppid, or a user probe", None),
        reached(Context::Softirq, "raw tracepoint softirq_entry", None),
        // The kernel would silently make a shorter period 10 µs.
        reached(Context::Hardirq, "software event cpu-clock (hrtimer)", Some(10)),
        reached(Context::RqLock, "raw tracepoint sched_switch, yielding to a peer", None),
        reached(Context::PageFault, "software event page-faults, before any lock", None),
        reached(
            Context::PageFaultLocked,
            "software event page-faults-min, inside handle_mm_fault()",
            None,
        ),
        reached(
            Context::Nmi,
            "x86_64: raw tracepoint nmi_handler, NMIs injected by the host; \
             arm64: cycles of the PMU as pseudo-NMIs",
            Some(100),
        ),
    ],
    stresses: &[Stress::Idle, Stress::MmapWriters, Stress::Oversubscribed, Stress::PageOut],
    refuse: method::refuse,
    run,
};

/// A context that both architectures reach.
const fn reached(
    context: Context,
    trigger: &'static str,
    shortest_period_us: Option<u32>,
) -> Reach {
    Reach { context, trigger, shortest_period_us, not_on_x86_64: None, not_on_arm64: None }
}

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
/// A program that runs on another CPU has ended by then.
const LINGER: Duration = Duration::from_millis(1);

/// Ends whatever the threads of a step do, however the step is left.
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
    method: Method,
    work: &'a Work,
    trigger: Trigger,
    program: &'a Program,
    control: &'a SharedArray,
    slots: &'a SharedArray,
    depth: usize,
    capacity: u64,
    expected: Expected,
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

/// Runs the probe for one step.
fn run(step: &Step, emit: &mut Emit<'_>) -> Result<(), Failure> {
    let method = Method::of(step)?;
    check_kernel(&method)?;
    check_timers()?;
    let online = kernel::cpus_online().map_err(|e| Failure::at("counting CPUs", &e))?;
    let [own, .., sampled_cpu] = online[..] else {
        return Err(Failure::new(format!(
            "needs a CPU of its own for the sampled thread; online: {online:?}"
        )));
    };
    sys::pin(own).map_err(|e| Failure::at(format!("pinning to CPU {own}"), &e))?;

    let facts = look_around(&method, own)?;
    let scene = Scene::set(step, &method)?;
    let page = match method.leaf {
        Leaf::Faults => {
            Some(Page::new().map_err(|e| Failure::at("mapping the page to fault on", &e))?)
        }
        Leaf::SystemCalls | Leaf::Spin | Leaf::Passes => None,
    };
    let expected = Expected {
        level: method.level,
        layout: facts.count.layout,
        frames: scene.frames.clone(),
        page: page.as_ref().map(Page::address),
        work_is_known: method.interrupts_off && facts.unlock_work.is_some(),
        lock_is_known: facts.mmap_lock.is_some(),
    };

    let depth = scene.frames.len() + MORE_FRAMES;
    let slot_depth = if method.ask == Ask::Stackid { 0 } else { depth };
    let slot_size = slot::size(slot_depth);
    let capacity = SLOTS.min((SLOT_BYTES / slot_size) as u64).min(u64::from(step.calls_per_block));
    // In pairs, for every second call to a stack map is another map's.
    let capacity = capacity.next_multiple_of(2);
    let entries = u32::try_from(capacity).map_err(Failure::new)?;
    let map = |e: std::io::Error| Failure::at("making a BPF map", &e);
    let control = SharedArray::new(control::SIZE, 1).map_err(map)?;
    let slots =
        SharedArray::new(u32::try_from(slot_size).map_err(Failure::new)?, entries).map_err(map)?;
    let stacks = match method.ask {
        Ask::Stackid => Some(buckets::Maps::new(depth)?),
        Ask::Stack | Ask::TaskStack => None,
    };
    let maps = Maps {
        control: control.number(),
        slots: slots.number(),
        stacks: stacks.as_ref().map(buckets::Maps::numbers),
    };
    let insns = sample::program(method.source, method.ask, depth, &facts, maps)?;
    let program = Program::load(method.source.program_kind(method.sleepable), &insns)
        .map_err(|e| Failure::at("loading the sampling program", &e))?;
    // Text and stacks are in memory from here on.
    sys::lock_memory().map_err(|e| Failure::at("locking memory", &e))?;

    let work = Work::new(&Orders {
        pace: match method.leaf {
            Leaf::Spin => 0,
            Leaf::SystemCalls | Leaf::Faults | Leaf::Passes => method.period_ns.map_or(0, ticks_in),
        },
        alone: scene.alone,
        system_call: method.system_call,
        page: page.as_ref().map(|page| (page.address(), page.size())),
    });
    let writer = Writer::default();
    std::thread::scope(|scope| {
        let (work, writer, chain) = (&work, &writer, scene.chain.as_slice());
        let _stop = StopOnDrop { work, writer };
        let thread = start_thread(scope, sampled_cpu, move || {
            // SAFETY: the chain is the scene's, whose objects outlive this scope,
            // and so does the page, which nobody else touches.
            unsafe { sampled::run(work, chain) };
        })?;
        control.memory().store(control::THREAD as usize, u64::from(thread));
        match method.source {
            Source::SchedSwitch => {
                start_thread(scope, sampled_cpu, move || stress::yield_to(work))?;
            }
            Source::SoftirqEntry => {
                start_thread(scope, own, move || stress::keep_rcu_busy(work))?;
            }
            Source::SysEnter
            | Source::UserProbe
            | Source::NmiHandler
            | Source::CpuClock
            | Source::Fault
            | Source::FaultServed
            | Source::Cycles => {}
        }
        let trigger = Trigger::attach(&method, &program, thread, &scene)?;
        let writing = match (step.stress, step.writer_duty) {
            (Stress::MmapWriters, Some(duty)) => {
                start_thread(scope, own, move || told(writer.run(duty)))?;
                wait_until("the writer to begin", || writer.thread().is_some())?;
                let thread = writer.thread().unwrap_or_default();
                let waiting = Waiting::watch(thread, facts.mmap_lock)?;
                Some(Writing { writer, waiting, ticks_in_a_ms: ticks_in(1_000_000) })
            }
            _ => None,
        };
        if step.stress == Stress::Oversubscribed {
            for _ in 0..2 * online.len() {
                start_anywhere(scope, &online, move || told(stress::crowd(work)))?;
            }
        }
        // From here on nothing of ours maps memory but who is to.
        sys::lock_no_more_memory().map_err(|e| Failure::at("locking memory", &e))?;
        if let Some(page) = &page {
            page.unlock().map_err(|e| Failure::at("unlocking the page to fault on", &e))?;
        }
        if step.stress == Stress::PageOut {
            scene.drop_headers()?;
        }
        if method.leaf == Leaf::Spin {
            wait_until("the sampled thread to spin", || work.is_busy())?;
        }
        let mut sampling = Sampling {
            method,
            work,
            trigger,
            program: &program,
            control: &control,
            slots: &slots,
            depth: slot_depth,
            capacity,
            expected,
            stacks,
            writing,
        };
        for number in 0..step.blocks {
            if emit(sampling.block(step, number)?)? == Next::Enough {
                break;
            }
        }
        Ok(())
    })
}

/// A stress thread's trouble is told; the block's own numbers show its effect.
fn told(ended: std::io::Result<()>) {
    if let Err(error) = ended {
        say(format_args!("a thread that maps memory ended: {error}"));
    }
}

/// Starts a thread on a CPU; gives its number once it runs there.
fn start_thread<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    cpu: u32,
    body: impl FnOnce() + Send + 'scope,
) -> Result<u32, Failure> {
    start(scope, vec![cpu], body)
}

/// Starts a thread that may run on any CPU.
fn start_anywhere<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    online: &[u32],
    body: impl FnOnce() + Send + 'scope,
) -> Result<u32, Failure> {
    start(scope, online.to_vec(), body)
}

fn start<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    cpus: Vec<u32>,
    body: impl FnOnce() + Send + 'scope,
) -> Result<u32, Failure> {
    let (tell, told) = mpsc::channel();
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
    let symbols =
        kernel::symbols(&symbols).map_err(|e| Failure::at("reading /proc/kallsyms", &e))?;
    let mmap_lock = held::mmap_lock();
    if let Err(why) = &mmap_lock {
        say(format_args!("lock_failed cannot be told: {why}"));
    }
    Ok(Facts {
        reader: Reader::new(&symbols),
        count: interrupt::locate(&symbols, cpu)?,
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
        let mut counts = self.expected.nothing_yet();
        counts.writer = self.writing.as_ref().map(|_| WriterTime::default());
        let mut window_ns = 0;
        while counts.calls < wanted && sys::monotonic_ns() < deadline {
            window_ns += self.round(wanted - counts.calls, deadline, &mut counts)?;
        }
        if let Some(stacks) = &mut self.stacks {
            counts.buckets = Some(stacks.settle()?);
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
        // Every second call to a stack map is not a call of the block's.
        let slots_per_call = if self.stacks.is_some() { 2 } else { 1 };
        let limit = (wanted * slots_per_call).min(self.capacity);
        self.set(control::NEXT, 0);
        self.set(control::LOST, 0);
        self.set(control::RUNS, 0);
        self.set(control::LIMIT, limit);
        self.set(control::ARMED, 1);
        let mark = self.writing.as_ref().map(Writing::mark);
        let start = sys::monotonic_ns();
        self.trigger.start(self.work, self.program, self.method.leaf)?;
        let look = if self.writing.is_some() { LOOK_AT_WRITERS } else { LOOK };
        while self.word(control::NEXT) < limit && sys::monotonic_ns() < deadline {
            std::thread::sleep(look);
        }
        self.trigger.pause(self.work, self.method.leaf)?;
        let end = sys::monotonic_ns();
        if let (Some(writing), Some(mark), Some(time)) = (&self.writing, mark, &mut counts.writer) {
            stress::add(time, mark, writing.mark(), writing.ticks_in_a_ms);
        }
        self.set(control::ARMED, 0);
        if self.trigger.lingers() {
            std::thread::sleep(LINGER);
        }

        let runs = self.word(control::RUNS);
        counts.errors += self.word(control::LOST);
        counts.missed += self.trigger.missed(self.work, self.program, runs)?;
        let filled = usize::try_from(self.word(control::NEXT).min(limit)).map_err(Failure::new)?;
        self.score(filled, counts)?;
        // The window ends with its last sample, not when we noticed.
        let last = match filled.checked_sub(1) {
            Some(last) if filled as u64 == limit => self.slot_word(last, slot::AT),
            _ => end,
        };
        Ok(last.clamp(start, end) - start)
    }

    fn slot_word(&self, index: usize, offset: i16) -> u64 {
        self.slots.memory().load(index * slot::size(self.depth) + offset as usize)
    }

    /// Scores the slots that were filled.
    fn score(&mut self, filled: usize, counts: &mut Counts) -> Result<(), Failure> {
        let answers: Vec<i64> =
            (0..filled).map(|index| self.slot_word(index, slot::ANSWER).cast_signed()).collect();
        let calls: Vec<(usize, Answer)> = match &mut self.stacks {
            Some(stacks) => stacks.take(&answers)?,
            None => answers
                .iter()
                .enumerate()
                .map(|(index, answer)| {
                    let at = index * slot::size(self.depth);
                    let word = |offset| self.slots.memory().load(at + offset);
                    (index, Answer::of_bytes(*answer, self.depth, word))
                })
                .collect(),
        };
        for (index, answer) in calls {
            let sample = Sample::read(answer, |offset| self.slot_word(index, offset));
            self.expected.score(&sample, counts);
        }
        Ok(())
    }
}
