// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs fuzz programs on this kernel. Only inside a guest.
//!
//! A program starts with empty tables of resources and an empty arena, and all
//! it made is released when it ends: at once, or by the reaper where that waits
//! for RCU. What stays from program to program is the [`pool`] of maps and
//! loaded BPF programs, the dispatchers that call armed programs, and the keepers:
//! idle events of a thread that does nothing, one for each software kind and each
//! probe that programs use, without which every first event of a kind would set
//! things up anew, and every last one wait for RCU. Where probes patch the
//! kernel's code keepers have another use: QEMU's translator may run patched code
//! long after the patch was taken back, on the other CPU, and the kernel then
//! dies of a breakpoint it has removed already (`int3`). So each tracepoint has
//! two keepers (with one probe its call is patched to be that probe's, with more
//! it goes through a list), and the function that kprobes are on has one.

pub mod aside;
pub mod assemble;
mod beside;
pub(crate) mod events;
pub mod files;
pub mod pool;
mod run;
pub mod scratch;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::op::step::{Body, Flaw};
use crate::op::{Check, EventKind, Op, Place, ProgKind};
pub use crate::oracle::buckets::LOST_BUCKETS;
use crate::oracle::legal::Model;
use crate::oracle::lookups::Code;
use crate::program::Program;
use crate::sys;
use crate::sys::call::{self, Answer, Attributes, Part};
use crate::sys::kcov::{Delays, Kcov};
use crate::sys::memory::Mapping;
use crate::sys::trigger;
use aside::{Helper, Reaper, Task};
use beside::Meeting;
pub use events::{PROBED, SHORTEST, attribute_bits, uprobe_in_elf};
use files::Files;
use pool::{Around, Map, Pool};

/// Which allocation of this thread fails (`CONFIG_FAULT_INJECTION`).
const FAIL_NTH: &str = "/proc/thread-self/fail-nth";

/// What an operation answers if what it refers to is closed already: no errno,
/// for there was no call.
pub const GONE: i32 = -1;

/// What a program did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// System calls.
    pub calls: u64,
    /// Runs of BPF programs.
    pub bpf_runs: u64,
    /// Errno of each operation: 0 is success, [`GONE`] is no call.
    pub errnos: Vec<i32>,
    /// Whether the helper thread or the reaper got stuck.
    pub stuck: bool,
    /// A stack lookup's answer that cannot be right.
    pub wrong: Option<String>,
    /// Whether a stack map was found to have lost its buckets: see [`LOST_BUCKETS`].
    pub lost_buckets: bool,
    /// What the last lookup of each operation's forged stacks answered.
    pub lookups: Vec<Lookup>,
    /// How many addresses of this thread were traced at each operation's end.
    pub traced: Vec<usize>,
}

/// The answer of a lookup of a stack by build ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    /// Place of the operation in the program.
    pub op: u32,
    /// Frames with a build id.
    pub valid: u8,
    /// Frames with an address only.
    pub address: u8,
}

/// Where time went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// How often.
    pub count: u64,
    /// How often it failed.
    pub failures: u64,
    /// Nanoseconds.
    pub ns: u64,
}

/// What operations took that each take as long as several programs, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlowTime {
    /// Each check, in the order of [`Check::ALL`].
    pub checks_ns: [u64; Check::ALL.len()],
    /// Others that wait, see [`Op::waits`], and the closing of uprobes.
    pub waits_ns: u64,
}

/// What time was spent on: an operation's word and, where kinds differ much, its
/// kind's; in parentheses what is no operation.
pub type Spent = (&'static str, &'static str);

/// A perf event of the running program.
#[derive(Debug)]
pub(crate) struct Event {
    fd: OwnedFd,
    kind: EventKind,
    buffer: Option<call::Region>,
}

/// What comes of [`Op::Beside`].
#[derive(Debug)]
enum Beside {
    /// The next operation is the helper's, with this skew.
    Next(u8),
    /// The helper waits for the next operation to begin.
    Meet(Meeting),
}

/// What the running program has made.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    events: Vec<Option<Event>>,
    maps: Vec<Option<Map>>,
    progs: Vec<Option<Arc<OwnedFd>>>,
    links: Vec<Option<OwnedFd>>,
    armed: Vec<Place>,
    /// Elements that hold an event or a program, by map and key.
    filled: Vec<(Map, u32)>,
    pub(crate) arena: Model,
    pub(crate) wrong: Option<String>,
    pub(crate) lookup: Option<Lookup>,
    events_off: bool,
    moved: bool,
    delayed: bool,
}

/// Runs programs, one after the other, in the thread that made it.
#[derive(Debug)]
pub struct Executor {
    pub(crate) tables: Tables,
    pub(crate) pool: Pool,
    helper: Helper,
    reaper: Reaper,
    pub(crate) files: Files,
    coverage: Option<Kcov>,
    pub(crate) scratch: OwnedFd,
    pub(crate) counters: Mapping,
    places: OwnedFd,
    /// Where this program's own code lies.
    pub(crate) code: Vec<Code>,
    /// This process, for maps whose keys are processes.
    process: Option<Arc<OwnedFd>>,
    pub(crate) kprobes: Option<u32>,
    pub(crate) uprobes: Option<u32>,
    pub(crate) uprobe_at: u64,
    pub(crate) tracepoints: events::Tracepoints,
    cpu: u32,
    times: FxHashMap<Spent, Times>,
    slow: SlowTime,
    /// Where the kernel is told which allocation of this thread fails, if it can be.
    failing: Option<std::fs::File>,
    /// Whether the next operation is to have one fail.
    fails: bool,
    /// What the next operation is done beside of.
    beside: Option<Beside>,
    /// Where the kernel is told at which points it is held up, if it can be.
    delays: Option<Delays>,
    /// Whether the helper did not come back from the last program's tasks.
    stuck: bool,
    // Held, not used: see the module's description.
    _keepers: Vec<OwnedFd>,
}

/// None of them is on the way of every system call: a program there would cost
/// each call many times its own time.
const PLACES: [(Place, &std::ffi::CStr); 3] = [
    (Place::FileLock, c"locks_get_lock_context"),
    (Place::SchedSwitch, c"sched_switch"),
    (Place::Signal, c"signal_generate"),
];

fn place_index(place: Place) -> usize {
    PLACES.iter().position(|row| row.0 == place).unwrap_or(0)
}

/// Attaches a program at a raw tracepoint.
fn at_tracepoint(name: &std::ffi::CStr, program: BorrowedFd<'_>) -> Answer<OwnedFd> {
    let attributes = Attributes::default().input(0, name.to_bytes_with_nul()).fd(8, program);
    call::bpf_fd(17, attributes, 16)
}

/// Attaches a dispatcher: it calls what the map of places has at `index`, in this process
/// only.
fn dispatch(
    name: &std::ffi::CStr,
    index: usize,
    (counters, scratch, places): (&Mapping, &OwnedFd, &OwnedFd),
) -> Answer<OwnedFd> {
    counters.store(scratch::INDICES + 8 * index, index as u64);
    let process = std::process::id();
    let insns = assemble::dispatcher(process, places.as_raw_fd(), scratch.as_raw_fd(), index);
    at_tracepoint(name, pool::load(ProgKind::RawTp, &insns, None)?.as_fd())
}

fn failed(what: &str) -> impl Fn(i32) -> io::Error + '_ {
    move |errno| io::Error::other(format!("{what}: {}", io::Error::from_raw_os_error(errno)))
}

impl Executor {
    /// Sets everything up, on this CPU.
    pub fn new(cpu: u32) -> io::Result<Self> {
        trigger::catch_signals()?;
        call::affinity(1 << cpu).map_err(failed("affinity"))?;
        call::allow_descriptors(pool::DESCRIPTORS).map_err(failed("descriptors"))?;
        Part::map_neighbour().map_err(failed("a page beside the arena"))?;
        let scratch = call::bpf_fd(
            0,
            Attributes::default()
                .word(0, 2)
                .word(4, 4)
                .word(8, scratch::SCRATCH)
                .word(12, 1)
                .word(16, 1 << 10),
            72,
        )
        .map_err(failed("the scratch map"))?;
        let counters = Mapping::of(&scratch, scratch::SCRATCH as usize)?;
        let places =
            call::bpf_fd(0, Attributes::default().word(0, 3).word(4, 4).word(8, 4).word(12, 8), 72)
                .map_err(failed("the map of places"))?;
        let mut keepers = Vec::new();
        for (index, (_, name)) in PLACES.iter().enumerate() {
            let link = dispatch(name, index, (&counters, &scratch, &places));
            keepers.push(link.map_err(failed("a dispatcher"))?);
        }
        let nothing = pool::load(ProgKind::RawTp, &assemble::nothing(0), None)
            .map_err(failed("the empty program"))?;
        for name in events::ALONE {
            keepers.extend(at_tracepoint(name, nothing.as_fd()).ok());
        }
        // One more at a tracepoint where programs are attached to events, which does not
        // keep samples from being taken: the first one is attached in another way.
        let one = pool::load(ProgKind::Tracepoint, &assemble::nothing(1), None)
            .map_err(failed("the program of a keeper"))?;
        keepers.extend(events::keepers(one.as_raw_fd())?);
        keepers.push(one);
        Ok(Self {
            tables: Tables::default(),
            pool: Pool::of(pool::types()),
            helper: Helper::start(cpu)?,
            reaper: Reaper::start()?,
            files: Files::make()?,
            coverage: Kcov::of_this_thread().ok(),
            scratch,
            counters,
            places,
            code: Code::of_this_program(),
            process: call::this_process().ok().map(Arc::new),
            kprobes: events::pmu("kprobe"),
            uprobes: events::pmu("uprobe"),
            uprobe_at: events::uprobe_at(),
            tracepoints: events::Tracepoints::read(),
            cpu,
            times: FxHashMap::default(),
            slow: SlowTime::default(),
            failing: std::fs::File::options().write(true).open(FAIL_NTH).ok(),
            fails: false,
            beside: None,
            delays: Delays::open(),
            stuck: false,
            _keepers: keepers,
        })
    }

    /// Whether this kernel tells what was run through.
    #[must_use]
    pub fn has_coverage(&self) -> bool {
        self.coverage.is_some()
    }

    /// Programs loaded, and taken from the pool.
    #[must_use]
    pub fn loads(&self) -> (u64, u64) {
        self.pool.loads
    }

    /// Descriptors that stay from program to program in the pool.
    #[must_use]
    pub fn pooled(&self) -> usize {
        self.pool.descriptors()
    }

    /// Closes what the pool holds, for what is held beside it to show.
    pub fn empty_pool(&mut self) {
        self.pool.empty();
    }

    /// Where the time went: for each operation how often, how often in vain, and
    /// nanoseconds.
    #[must_use]
    pub fn times(&self) -> &FxHashMap<Spent, Times> {
        &self.times
    }

    /// What slow operations took.
    #[must_use]
    pub fn slow_time(&self) -> SlowTime {
        let SlowTime { checks_ns, waits_ns } = self.slow;
        SlowTime { checks_ns, waits_ns: waits_ns + self.reaper.uprobes_ns() }
    }

    /// Notes time spent on something that is no operation.
    pub fn spent(&mut self, word: &'static str, ns: u64) {
        let times = self.times.entry((word, "")).or_default();
        times.count += 1;
        times.ns += ns;
    }

    fn timed(&mut self, word: Spent, began_ns: u64, failed: bool) -> u64 {
        let now = sys::monotonic_ns();
        let Times { count, failures, ns } = self.times.entry(word).or_default();
        *count += 1;
        *failures += u64::from(failed);
        *ns += now - began_ns;
        now
    }

    /// The kernel addresses that the last program ran through, in each of its
    /// threads: repeats included.
    pub fn traces(&self) -> impl Iterator<Item = &[AtomicU64]> {
        let helper = self.helper.coverage.as_deref().filter(|_| !self.stuck);
        self.coverage.iter().chain(helper).map(Kcov::traced)
    }

    /// Runs a program.
    pub fn run(&mut self, program: &Program) -> Ran {
        let calls = call::count();
        let runs = self.counters.load(scratch::RUNS);
        let wrong_vmas = self.counters.load(scratch::WRONG_VMA);
        if let Some(coverage) = &self.coverage {
            coverage.reset();
        }
        if let Some(coverage) = &self.helper.coverage {
            coverage.reset();
        }
        let mut clock = sys::monotonic_ns();
        let mut errnos = Vec::with_capacity(program.ops.len());
        let (mut lookups, mut traced) = (Vec::new(), Vec::new());
        for (at, op) in (0..).zip(&program.ops) {
            let failing = std::mem::take(&mut self.fails);
            let answer = self.op_or_beside(op);
            if failing {
                self.tell_failing(0);
            }
            let errno = match answer {
                Ok(()) => 0,
                Err(errno) => errno,
            };
            let began = clock;
            clock = self.timed((op.word(), op.detail()), began, errno != 0);
            if let Op::Check { what, .. } = op {
                if let Some(spent) = self.slow.checks_ns.get_mut(what.nth()) {
                    *spent += clock - began;
                }
            } else if op.waits() {
                self.slow.waits_ns += clock - began;
            }
            errnos.push(errno);
            traced.push(self.coverage.as_ref().map_or(0, Kcov::count));
            lookups.extend(self.tables.lookup.take().map(|lookup| Lookup { op: at, ..lookup }));
        }
        // What the last operation asked of one that does not follow is asked no more: the next
        // allocation would be the engine's.
        self.beside = None;
        if std::mem::take(&mut self.fails) {
            self.tell_failing(0);
        }
        let settled = self.helper.settle();
        self.stuck = !settled;
        clock = self.timed(("(settle)", ""), clock, !settled);
        let wrong_vmas = self.counters.load(scratch::WRONG_VMA).wrapping_sub(wrong_vmas);
        if wrong_vmas > 0 {
            self.tables.wrong.get_or_insert_with(|| {
                format!("find-vma: {wrong_vmas} mappings that do not hold the address")
            });
        }
        let too_long = self.counters.load(scratch::TOO_LONG);
        if too_long > 0 {
            self.counters.store(scratch::TOO_LONG, 0);
            self.tables.wrong.get_or_insert_with(|| {
                format!("stack-room: a stack is {too_long} bytes longer than there is room for")
            });
        }
        let wrong = self.tables.wrong.take();
        self.release();
        self.timed(("(release)", ""), clock, false);
        Ran {
            calls: call::count().wrapping_sub(calls),
            bpf_runs: self.counters.load(scratch::RUNS).wrapping_sub(runs),
            errnos,
            stuck: !settled,
            wrong,
            lost_buckets: self.lost_buckets(),
            lookups,
            traced,
        }
    }

    /// Does an operation: by itself, by the helper, or while the helper does the one before.
    fn op_or_beside(&mut self, op: &Op) -> Answer<()> {
        match self.beside.take() {
            None => {}
            Some(Beside::Next(skew)) => {
                if let Some(call) = self.elsewhere(op) {
                    let meeting = Meeting::new(skew);
                    self.helper.give(Task::Beside { meeting: meeting.clone(), call });
                    self.beside = Some(Beside::Meet(meeting));
                    return Ok(());
                }
            }
            // A check knows what happens while it plays: nothing.
            Some(Beside::Meet(_)) if matches!(op, Op::Check { .. }) => {
                self.stuck |= !self.helper.settle();
            }
            Some(Beside::Meet(meeting)) => {
                let began = sys::monotonic_ns();
                let met = meeting.here();
                self.timed(("(meet)", ""), began, !met);
            }
        }
        self.op(op)
    }

    /// Releases what the program made.
    fn release(&mut self) {
        let Tables {
            events, maps, progs, links, armed, filled, events_off, moved, delayed, ..
        } = std::mem::take(&mut self.tables);
        // A map that stays would keep what was put into it.
        for (map, key) in filled {
            let key = key.to_ne_bytes();
            let attributes = Attributes::default().fd(0, map.fd.as_fd()).input(8, &key);
            let _ = call::bpf(3, attributes, 32);
        }
        for place in armed {
            let _ = self.disarm(place);
        }
        for link in links.into_iter().flatten() {
            self.reaper.take(link);
        }
        // Members of a group before their leader, as most were made later.
        for event in events.into_iter().rev().flatten() {
            self.close_event(event);
        }
        drop(progs);
        drop(maps);
        trigger::allow_signals();
        self.pool.trim();
        let _ = Part::all().unmap();
        if events_off {
            let _ = call::task_events(true);
        }
        if moved {
            let _ = call::affinity(1 << self.cpu);
        }
        if delayed && let Some(delays) = &self.delays {
            let _ = delays.seed(0);
        }
    }

    /// Has CPUs held up until the program ends.
    pub(crate) fn delay(&mut self, seed: u64) -> Answer<()> {
        let delays = self.delays.as_ref().ok_or(libc::ENOENT)?;
        self.tables.delayed = true;
        delays.seed(seed).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// Has the n-th allocation of the next operation fail.
    pub(crate) fn fail_nth(&mut self, nth: u32) {
        self.tell_failing(nth);
        self.fails = true;
    }

    /// Tells the kernel which allocation of this thread fails; 0: none.
    fn tell_failing(&self, nth: u32) {
        use std::io::Write;
        if let Some(mut file) = self.failing.as_ref() {
            let _ = file.write_all(nth.to_string().as_bytes());
        }
    }

    /// Has a descriptor closed by who may wait.
    pub(crate) fn reap(&self, fd: OwnedFd) {
        self.reaper.take(fd);
    }

    fn close_event(&self, event: Event) {
        let Event { fd, kind, buffer } = event;
        drop(buffer);
        if kind.is_uprobe() {
            self.reaper.take_uprobe(fd);
        } else if kind.is_slow() {
            self.reaper.take(fd);
        }
    }

    /// Waits until everything is released; false if that takes too long.
    #[must_use]
    pub fn settle(&mut self) -> bool {
        self.helper.settle() && self.reaper.settle()
    }

    pub(crate) fn arm(&self, place: Place, prog: BorrowedFd<'_>) -> Answer<i64> {
        self.occupy(place_index(place), prog)
    }

    /// Has the dispatcher of a place call a program.
    fn occupy(&self, index: usize, prog: BorrowedFd<'_>) -> Answer<i64> {
        let key = u32::try_from(index).unwrap_or(0).to_ne_bytes();
        let value = prog.as_raw_fd().to_ne_bytes();
        let attributes = Attributes::default().fd(0, self.places.as_fd());
        call::bpf(2, attributes.input(8, &key).input(16, &value), 32)
    }

    /// No longer.
    fn vacate(&self, index: usize) -> Answer<i64> {
        let key = u32::try_from(index).unwrap_or(0).to_ne_bytes();
        call::bpf(3, Attributes::default().fd(0, self.places.as_fd()).input(8, &key), 32)
    }

    /// A loaded program of these steps, from the pool if all its maps are.
    pub(crate) fn load(
        &mut self,
        kind: ProgKind,
        flaw: Flaw,
        maps: Vec<Map>,
        body: &Body,
    ) -> Answer<Arc<OwnedFd>> {
        let mut around =
            Around { maps, pool: &mut self.pool, scratch: self.scratch.as_raw_fd(), pooled: true };
        let insns = assemble::assemble(kind, flaw, body, &mut around);
        let pooled = around.pooled;
        let before = self.pool.loads.0;
        let began = sys::monotonic_ns();
        let loaded = self.pool.program(kind, insns, pooled);
        if self.pool.loads.0 > before {
            self.timed(("(load)", ""), began, loaded.is_err());
        }
        loaded
    }

    /// Has a program called at another raw tracepoint than the usual ones, for this process
    /// only, until [`Executor::detach`].
    pub(crate) fn attach(&self, name: &std::ffi::CStr, prog: BorrowedFd<'_>) -> Answer<OwnedFd> {
        self.occupy(PLACES.len(), prog)?;
        dispatch(name, PLACES.len(), (&self.counters, &self.scratch, &self.places))
    }

    /// Ends what [`Executor::attach`] began, or failed to.
    pub(crate) fn detach(&self, link: Option<OwnedFd>) {
        let _ = self.vacate(PLACES.len());
        if let Some(link) = link {
            self.reap(link);
        }
    }

    pub(crate) fn disarm(&self, place: Place) -> Answer<i64> {
        self.vacate(place_index(place))
    }

    fn event(&self, event: crate::op::value::EventRef) -> Answer<BorrowedFd<'_>> {
        let found = self.tables.events.get(usize::from(event.0)).and_then(Option::as_ref);
        found.map(|event| event.fd.as_fd()).ok_or(GONE)
    }

    fn map(&self, map: crate::op::value::MapRef) -> Answer<&Map> {
        self.tables.maps.get(usize::from(map.0)).and_then(Option::as_ref).ok_or(GONE)
    }

    fn prog(&self, prog: crate::op::value::ProgRef) -> Answer<BorrowedFd<'_>> {
        let found = self.tables.progs.get(usize::from(prog.0)).and_then(Option::as_ref);
        found.map(|fd| fd.as_fd()).ok_or(GONE)
    }

    fn link(&self, link: crate::op::value::LinkRef) -> Answer<BorrowedFd<'_>> {
        let found = self.tables.links.get(usize::from(link.0)).and_then(Option::as_ref);
        found.map(|fd| fd.as_fd()).ok_or(GONE)
    }
}
