// SPDX-License-Identifier: MIT OR Apache-2.0
//! The code that is sampled: a few functions in assembly, so that each frame's
//! legal addresses are known to the byte.
//!
//! `base` calls `outer` calls `middle`, which calls the first of a chain of
//! addresses; a *relay* calls the next one, and the last is a *leaf*, where the
//! samples are taken. The frame pointer is zero in `base`, so every complete
//! walk ends there. Compiled code would do, but then the legal addresses would
//! have to be taken from debug information, by a second implementation of what
//! is being tested.
//!
//! All of it is one piece without relocations: [`code`] can be copied into an
//! object of our own ([`crate::object`]) and run there as well.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

/// Frames of a complete walk without relays.
pub const DEPTH: usize = 4;

/// Relays in the code.
pub const RELAYS: usize = 4;

/// What the sampled thread and the one that watches it share.
#[repr(C)]
#[derive(Debug)]
pub struct Work {
    /// Not 0: return.
    stop: AtomicU64,
    /// Not 0: act (every leaf but [`Leaf::Spin`]).
    go: AtomicU64,
    /// Acts done.
    acts: AtomicU64,
    /// 1 while at work.
    busy: AtomicU64,
    /// Laid over the leaf's frame pointer: all ones keeps it, 0 hides the callers.
    frame: AtomicU64,
    /// Number of the system call of [`Leaf::SystemCalls`].
    number: AtomicU64,
    /// The page of [`Leaf::Faults`].
    page: AtomicU64,
    /// Its size.
    page_size: AtomicU64,
    /// Ticks from one act to the next, at least: the acts go through them in turn.
    paces: [AtomicU64; PACES_KEPT],
}

/// Paces that the acts go through in turn; a power of two.
const PACES_KEPT: usize = 128;

const STOP: usize = std::mem::offset_of!(Work, stop);
const GO: usize = std::mem::offset_of!(Work, go);
const ACTS: usize = std::mem::offset_of!(Work, acts);
const BUSY: usize = std::mem::offset_of!(Work, busy);
const FRAME: usize = std::mem::offset_of!(Work, frame);
const NUMBER: usize = std::mem::offset_of!(Work, number);
const PAGE: usize = std::mem::offset_of!(Work, page);
const PAGE_SIZE: usize = std::mem::offset_of!(Work, page_size);
const PACES: usize = std::mem::offset_of!(Work, paces);
const LAST_PACE: usize = PACES_KEPT - 1;

/// What a [`Work`] begins with.
#[derive(Clone, Copy, Debug)]
pub struct Orders {
    /// Ticks from one act to the next, at least (0: as fast as they go).
    pub pace: u64,
    /// Hide the callers: the walk ends in the leaf.
    pub alone: bool,
    /// The system call that [`Leaf::SystemCalls`] makes, without arguments.
    pub system_call: SystemCall,
    /// Address and size of the page that [`Leaf::Faults`] drops and touches.
    pub page: Option<(u64, u64)>,
}

/// As fast as they go, with all callers, `getppid`.
pub const PLAIN: Orders =
    Orders { pace: 0, alone: false, system_call: SystemCall::Getppid, page: None };

/// A system call that does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemCall {
    /// `getppid(2)`, which nobody caches.
    Getppid,
    /// `sched_yield(2)`
    SchedYield,
}

impl SystemCall {
    /// Its number on this architecture.
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            Self::Getppid => libc::SYS_getppid.cast_unsigned(),
            Self::SchedYield => libc::SYS_sched_yield.cast_unsigned(),
        }
    }
}

impl Work {
    /// Work to be done as ordered.
    #[must_use]
    pub fn new(orders: &Orders) -> Self {
        let Orders { pace, alone, system_call, page } = *orders;
        let (page, page_size) = page.unwrap_or_default();
        Self {
            stop: AtomicU64::default(),
            go: AtomicU64::default(),
            acts: AtomicU64::default(),
            busy: AtomicU64::default(),
            frame: AtomicU64::new(if alone { 0 } else { u64::MAX }),
            number: AtomicU64::new(system_call.number()),
            page: AtomicU64::new(page),
            page_size: AtomicU64::new(page_size),
            paces: std::array::from_fn(|_| AtomicU64::new(pace)),
        }
    }

    /// Gives each act a pace of its own, from what is drawn for it.
    pub fn pace_by(&self, mut draw: impl FnMut() -> u64) {
        for pace in &self.paces {
            pace.store(draw(), Ordering::Release);
        }
    }

    /// Makes the leaf return, also while it acts.
    pub fn stop(&self) {
        self.stop.store(1, Ordering::Release);
        self.go(false);
    }

    /// Whether the leaf was told to return.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire) != 0
    }

    /// Lets the leaf act, or not.
    pub fn go(&self, go: bool) {
        self.go.store(u64::from(go), Ordering::Release);
    }

    /// Whether the leaf may act.
    #[must_use]
    pub fn goes(&self) -> bool {
        self.go.load(Ordering::Acquire) != 0
    }

    /// Whether the leaf is at work (spinning, or acting).
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire) != 0
    }

    /// Acts done so far; exact while not busy.
    #[must_use]
    pub fn acts(&self) -> u64 {
        self.acts.load(Ordering::Acquire)
    }
}

/// The innermost function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    /// Makes one system call an act.
    SystemCalls,
    /// Counts in a register; no system call, no vdso.
    Spin,
    /// Drops a page of its own and touches it, which is a page fault.
    Faults,
    /// Passes one instruction, for a user probe to stand on.
    Passes,
}

/// A place in the sampled code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    /// The outermost function.
    Base,
    /// Its callee.
    Outer,
    /// The one that calls the chain.
    Middle,
    /// One of the [`RELAYS`].
    Relay(usize),
    /// A leaf, at the one instruction where its act happens.
    Act(Leaf),
    /// A leaf, anywhere in its loop.
    Loop(Leaf),
}

unsafe extern "C" {
    fn bakeoff_base(work: *const Work, chain: *const u64);
    static bakeoff_sampled_from: u8;
    static bakeoff_sampled_to: u8;
    static bakeoff_in_base: u8;
    static bakeoff_in_outer: u8;
    static bakeoff_in_middle: u8;
    static bakeoff_relay_0: u8;
    static bakeoff_relay_1: u8;
    static bakeoff_relay_2: u8;
    static bakeoff_relay_3: u8;
    static bakeoff_in_relay_0: u8;
    static bakeoff_in_relay_1: u8;
    static bakeoff_in_relay_2: u8;
    static bakeoff_in_relay_3: u8;
    static bakeoff_system_calls: u8;
    static bakeoff_system_calls_from: u8;
    static bakeoff_in_system_calls: u8;
    static bakeoff_system_calls_to: u8;
    static bakeoff_spin: u8;
    static bakeoff_spin_from: u8;
    static bakeoff_spin_to: u8;
    static bakeoff_faults: u8;
    static bakeoff_faults_from: u8;
    static bakeoff_in_faults: u8;
    static bakeoff_faults_to: u8;
    static bakeoff_passes: u8;
    static bakeoff_passes_from: u8;
    static bakeoff_in_passes: u8;
    static bakeoff_passes_to: u8;
}

/// Runs the chain of functions in the calling thread until [`Work::stop`]:
/// relays, then a leaf, each by its address.
///
/// # Safety
/// Every address is a relay's or, last and only last, a leaf's, in a copy of
/// [`code`] that stays mapped and executable until this returns. With
/// [`Leaf::Faults`], the page in the orders is private, anonymous, writable and
/// nobody else's.
pub unsafe fn run(work: &Work, chain: &[u64]) {
    // SAFETY: the assembly keeps the C calling convention, touches only its own
    // stack, the words of `work`, which are atomics, and the page; and it calls
    // only what is in the chain, which ends in a leaf.
    unsafe { bakeoff_base(std::ptr::from_ref(work), chain.as_ptr()) };
}

/// The machine code of all functions here, [`run`]'s first one first. It does not
/// depend on where it lies: a copy does the same at any address.
#[must_use]
pub fn code() -> &'static [u8] {
    let from = &raw const bakeoff_sampled_from;
    let to = &raw const bakeoff_sampled_to;
    // SAFETY: both labels bound the one section that the assembly fills, and
    // code is readable and never written.
    unsafe { std::slice::from_raw_parts(from, to as usize - from as usize) }
}

/// Where [`code`] lies in this program.
#[must_use]
pub fn code_at() -> u64 {
    (&raw const bakeoff_sampled_from) as u64
}

/// Offset of a function in [`code`]; only relays and leaves can be called.
#[must_use]
pub fn entry(spot: Spot) -> Option<u64> {
    let label = match spot {
        Spot::Base | Spot::Outer | Spot::Middle => return None,
        Spot::Relay(index) => *[
            &raw const bakeoff_relay_0,
            &raw const bakeoff_relay_1,
            &raw const bakeoff_relay_2,
            &raw const bakeoff_relay_3,
        ]
        .get(index)?,
        Spot::Act(leaf) | Spot::Loop(leaf) => match leaf {
            Leaf::SystemCalls => &raw const bakeoff_system_calls,
            Leaf::Spin => &raw const bakeoff_spin,
            Leaf::Faults => &raw const bakeoff_faults,
            Leaf::Passes => &raw const bakeoff_passes,
        },
    };
    Some(label as u64 - code_at())
}

/// Where a frame's address may lie, as offsets in [`code`]. `None`: there is no
/// such spot.
#[must_use]
pub fn legal(spot: Spot) -> Option<Range<u64>> {
    let one = |label: *const u8| Some((label, label.wrapping_add(1)));
    let (from, to) = match spot {
        Spot::Base => one(&raw const bakeoff_in_base),
        Spot::Outer => one(&raw const bakeoff_in_outer),
        Spot::Middle => one(&raw const bakeoff_in_middle),
        Spot::Relay(index) => [
            &raw const bakeoff_in_relay_0,
            &raw const bakeoff_in_relay_1,
            &raw const bakeoff_in_relay_2,
            &raw const bakeoff_in_relay_3,
        ]
        .get(index)
        .and_then(|label| one(*label)),
        // After the system call instruction: nowhere else is it seen.
        Spot::Act(Leaf::SystemCalls) => one(&raw const bakeoff_in_system_calls),
        // The instruction that is to be repeated.
        Spot::Act(Leaf::Faults) => one(&raw const bakeoff_in_faults),
        // The instruction under the probe.
        Spot::Act(Leaf::Passes) => one(&raw const bakeoff_in_passes),
        Spot::Act(Leaf::Spin) | Spot::Loop(Leaf::Spin) => {
            Some((&raw const bakeoff_spin_from, &raw const bakeoff_spin_to))
        }
        Spot::Loop(Leaf::SystemCalls) => {
            Some((&raw const bakeoff_system_calls_from, &raw const bakeoff_system_calls_to))
        }
        Spot::Loop(Leaf::Faults) => {
            Some((&raw const bakeoff_faults_from, &raw const bakeoff_faults_to))
        }
        Spot::Loop(Leaf::Passes) => {
            Some((&raw const bakeoff_passes_from, &raw const bakeoff_passes_to))
        }
    }?;
    Some(from as u64 - code_at()..to as u64 - code_at())
}

/// The counter that [`Work`]'s pace is measured in.
#[cfg(target_arch = "x86_64")]
#[must_use]
pub fn ticks() -> u64 {
    // SAFETY: reads the time stamp counter, which every x86_64 has.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The counter that [`Work`]'s pace is measured in.
#[cfg(target_arch = "aarch64")]
#[must_use]
pub fn ticks() -> u64 {
    let ticks;
    // SAFETY: reads the virtual counter, which Linux leaves open to user space.
    unsafe {
        core::arch::asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack));
    }
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(spot: Spot) -> u64 {
        code_at() + entry(spot).unwrap()
    }

    /// Runs a chain in a thread of its own while `watch` looks on.
    fn watched(work: &Work, chain: &[u64], watch: impl FnOnce()) {
        std::thread::scope(|scope| {
            // SAFETY: the chains below are relays and a leaf of this program.
            let sampled = scope.spawn(|| unsafe { run(work, chain) });
            watch();
            work.stop();
            assert!(sampled.join().is_ok());
        });
    }

    fn wait(done: impl Fn() -> bool) {
        while !done() {
            std::thread::yield_now();
        }
    }

    /// Leaves act only while told to, count every act, and return; also behind
    /// relays, and with their callers hidden.
    #[test]
    fn acts_are_counted_exactly() {
        let relays = (0..RELAYS).map(Spot::Relay);
        for leaf in [Leaf::SystemCalls, Leaf::Passes] {
            for alone in [false, true] {
                let work = Work::new(&Orders { alone, ..PLAIN });
                let spots = relays.clone().chain([Spot::Act(leaf)]);
                let chain: Vec<u64> = spots.map(address).collect();
                watched(&work, &chain, || {
                    work.go(true);
                    wait(|| work.acts() >= 10);
                    work.go(false);
                    wait(|| !work.is_busy());
                    let acts = work.acts();
                    std::thread::sleep(std::time::Duration::from_millis(5));
                    assert_eq!(work.acts(), acts);
                });
            }
        }
    }

    /// Each act has a pace of its own: with a short one everywhere but in one place,
    /// the leaf gets as far as that place and waits there.
    #[test]
    fn acts_go_through_the_paces() {
        for leaf in [Leaf::SystemCalls, Leaf::Passes] {
            let work = Work::new(&PLAIN);
            let mut place = 0;
            work.pace_by(|| {
                place += 1;
                // The fifth: after five acts have been counted.
                if place == 6 { u64::MAX } else { 0 }
            });
            watched(&work, &[address(Spot::Act(leaf))], || {
                work.go(true);
                wait(|| work.acts() >= 5);
                std::thread::sleep(std::time::Duration::from_millis(5));
                assert_eq!(work.acts(), 5);
            });
        }
    }

    /// The faulting leaf leaves its page touched.
    #[test]
    fn faults_touch_their_page() {
        let page = crate::sys::memory::Page::new().unwrap();
        let work = Work::new(&Orders { page: Some((page.address(), page.size())), ..PLAIN });
        watched(&work, &[address(Spot::Act(Leaf::Faults))], || {
            work.go(true);
            wait(|| work.acts() >= 10);
        });
    }

    /// The spinning leaf says that it spins, and returns.
    #[test]
    fn spin_ends_when_told() {
        let work = Work::new(&PLAIN);
        watched(&work, &[address(Spot::Loop(Leaf::Spin))], || wait(|| work.is_busy()));
    }

    /// Every frame has a legal place of its own, inside the code.
    #[test]
    fn frames_do_not_overlap() {
        for leaf in [Leaf::SystemCalls, Leaf::Spin, Leaf::Faults, Leaf::Passes] {
            let outer = [Spot::Base, Spot::Outer, Spot::Middle, Spot::Loop(leaf)];
            let spots = outer.into_iter().chain((0..RELAYS).map(Spot::Relay));
            let mut legal: Vec<_> = spots.map(|spot| legal(spot).unwrap()).collect();
            legal.sort_by_key(|range| range.start);
            assert!(legal.iter().all(|range| !range.is_empty()));
            assert!(legal.windows(2).all(|pair| pair[0].end <= pair[1].start));
            assert!(legal.last().unwrap().end <= code().len() as u64);
            let (act, around) =
                (super::legal(Spot::Act(leaf)).unwrap(), super::legal(Spot::Loop(leaf)).unwrap());
            assert!(around.start <= act.start && act.end <= around.end);
        }
        assert_eq!(legal(Spot::Relay(RELAYS)), None);
        assert_eq!(entry(Spot::Middle), None);
    }

    /// The code refers to nothing outside itself: a copy elsewhere runs.
    #[test]
    fn a_copy_of_the_code_runs() {
        let path = std::env::temp_dir().join(format!("bakeoff-blob-{}", std::process::id()));
        let mut bytes = code().to_vec();
        bytes.resize(bytes.len().next_multiple_of(4096), 0);
        std::fs::write(&path, &bytes).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let code = crate::sys::memory::Code::map(&file, 0, bytes.len()).unwrap();
        let at = |spot| code.address() + entry(spot).unwrap();
        let work = Work::new(&PLAIN);
        let chain = [at(Spot::Relay(1)), address(Spot::Relay(2)), at(Spot::Act(Leaf::SystemCalls))];
        watched(&work, &chain, || {
            work.go(true);
            wait(|| work.acts() >= 10);
        });
    }
}
