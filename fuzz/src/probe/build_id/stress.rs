// SPDX-License-Identifier: MIT OR Apache-2.0
//! What else goes on in the guest while samples are taken.
//!
//! | stress | sampled thread | others |
//! |---|---|---|
//! | idle | a CPU of its own | none (rq-lock: a peer to switch to; softirq: RCU work) |
//! | mmap-writers | a CPU of its own | one thread on the other CPU maps, protects and unmaps a page |
//! | oversubscribed | pinned | as many such threads as CPUs, on any CPU, without a pause |
//! | page-out | a CPU of its own | none |
//!
//! **The writer's duty** is the share of time in which it holds the lock or waits
//! for it. It is asked for, and measured, because what is asked for is not what
//! comes: the writer waits for readers, and is preempted. Time is taken around
//! the three system calls of a cycle; of it goes what they cost apart from the
//! lock, which is measured as the least time of an `mprotect` that is refused
//! before it asks for the lock. Then the writer pauses, on average as long as makes
//! the duty what was asked for. How long a pause is, is random: a writer with a rhythm
//! would lock in phase with samples that have one.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::metrics::{WRITER_CYCLES, WRITER_DUTY, WRITER_HELD_NS, WRITER_WAITED_NS};
use crate::bpf::insn::{Alu, Assembler, Cond, Helper, Reg, Width};
use crate::chance::Chance;
use crate::failure::Failure;
use crate::interrupt::Place;
use crate::stats::float;
use crate::sys;
use crate::sys::bpf::{Program, ProgramKind, SharedArray};
use crate::sys::memory;
use crate::sys::sampled::{self, Work};
use crate::wire::Block;

/// System calls of a cycle.
const CALLS: u64 = 3;

/// What a writer has done so far.
#[derive(Debug, Default)]
pub struct Writer {
    stop: AtomicU64,
    /// 0 until it writes.
    thread: AtomicU64,
    busy_ticks: AtomicU64,
    cycles: AtomicU64,
}

/// What a writer had done at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    at_ns: u64,
    busy_ticks: u64,
    waited_ns: u64,
    cycles: u64,
}

impl Writer {
    /// Ends it.
    pub fn stop(&self) {
        self.stop.store(1, Ordering::Release);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire) != 0
    }

    /// The writing thread, once it writes.
    pub fn thread(&self) -> Option<u64> {
        Some(self.thread.load(Ordering::Acquire)).filter(|thread| *thread != 0)
    }

    /// Maps, protects and unmaps a page until told to stop. `duty` in percent.
    pub fn run(&self, duty: u32, mut chance: Chance) -> io::Result<()> {
        let outside = CALLS * outside()?;
        self.thread.store(u64::from(sys::thread_id()), Ordering::Release);
        while !self.is_stopped() {
            let start = sampled::ticks();
            cycle()?;
            let end = sampled::ticks();
            let busy = end.wrapping_sub(start).saturating_sub(outside);
            self.busy_ticks.fetch_add(busy, Ordering::Release);
            self.cycles.fetch_add(1, Ordering::Release);
            let pause = chance.pause(mean_pause(busy, outside, duty));
            while sampled::ticks().wrapping_sub(end) < pause && !self.is_stopped() {
                std::hint::spin_loop();
            }
        }
        Ok(())
    }

    /// What it has done so far.
    pub fn mark(&self, waited_ns: u64) -> Mark {
        Mark {
            at_ns: sys::monotonic_ns(),
            busy_ticks: self.busy_ticks.load(Ordering::Acquire),
            waited_ns,
            cycles: self.cycles.load(Ordering::Acquire),
        }
    }
}

/// Ticks to pause on average after a cycle, so that `busy` is `duty` percent of all; the
/// time outside the lock is a pause already.
fn mean_pause(busy: u64, outside: u64, duty: u32) -> u64 {
    let duty = u64::from(duty.clamp(1, 100));
    (busy.saturating_mul(100 - duty) / duty).saturating_sub(outside)
}

fn cycle() -> io::Result<()> {
    let mut page = memory::Page::new()?;
    page.protect()?;
    drop(page);
    Ok(())
}

/// The least ticks of a system call that is refused before it asks for the lock.
fn outside() -> io::Result<u64> {
    let mut least = u64::MAX;
    for _ in 0..1000 {
        let start = sampled::ticks();
        sys::memory::refused_protect();
        least = least.min(sampled::ticks().wrapping_sub(start));
    }
    if least == u64::MAX {
        Err(io::Error::other("the tick counter stands still"))
    } else {
        Ok(least)
    }
}

/// What the writer did during a block's sampled windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterTime {
    /// Nanoseconds in `mmap`, `mprotect` and `munmap` calls, less what a call of
    /// `mprotect` takes that is refused before it asks for the lock, less
    /// `waited_ns`. It is a little more than the time the lock was held for
    /// writing: the calls' work outside the lock is in it, and so is the end of
    /// `munmap`, which holds it for reading.
    held_ns: u64,
    /// Nanoseconds from a writer's failed first try to its getting the lock, from
    /// the kernel's own tracepoints (`contention_begin`, `contention_end`); 0, and
    /// contained in `held_ns`, on kernels without them.
    waited_ns: u64,
    /// Nanoseconds watched: the block's sampled windows.
    window_ns: u64,
    /// Times it mapped, protected and unmapped.
    cycles: u64,
}

impl WriterTime {
    /// Adds it to a block. Its duty is (held + waited) / window.
    pub fn tell(&self, block: &mut Block) {
        let Self { held_ns, waited_ns, window_ns, cycles } = *self;
        if window_ns > 0 {
            let busy = float(held_ns.saturating_add(waited_ns));
            block.value(WRITER_DUTY, (busy / float(window_ns)).min(1.0));
        }
        block.note(WRITER_HELD_NS, held_ns);
        block.note(WRITER_WAITED_NS, waited_ns);
        block.note(WRITER_CYCLES, cycles);
    }
}

/// Adds what a writer did between two marks.
pub fn add(to: &mut WriterTime, from: Mark, until: Mark, ticks_in_a_ms: u64) {
    let ticks = u128::from(until.busy_ticks - from.busy_ticks);
    let busy = ticks * 1_000_000 / u128::from(ticks_in_a_ms.max(1));
    let busy = u64::try_from(busy).unwrap_or(u64::MAX);
    let waited = (until.waited_ns - from.waited_ns).min(busy);
    to.held_ns += busy - waited;
    to.waited_ns += waited;
    to.window_ns += until.at_ns - from.at_ns;
    to.cycles += until.cycles - from.cycles;
}

/// Maps, protects and unmaps without a pause until told to stop.
pub fn crowd(stop: &Work) -> io::Result<()> {
    while !stop.is_stopped() {
        cycle()?;
    }
    Ok(())
}

/// Switches to whoever else is on this CPU while the sampled thread does.
pub fn yield_to(work: &Work) {
    while !work.is_stopped() {
        if work.goes() {
            sys::yield_now();
        } else {
            std::thread::sleep(std::time::Duration::from_micros(500));
        }
    }
}

/// Makes RCU work, which the other CPUs' ticks serve in softirqs.
pub fn keep_rcu_busy(work: &Work) {
    while !work.is_stopped() {
        sys::wait_for_grace_period();
        // Where that is refused or instant, it must not take the CPU.
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
}

/// How long a thread has waited for `mmap_lock`, as the kernel's tracepoints say.
#[derive(Debug)]
pub struct Waiting {
    control: SharedArray,
    _links: Vec<std::os::fd::OwnedFd>,
    _programs: Vec<Program>,
}

/// Control words of its programs.
const THREAD: i16 = 0;
const SINCE: i16 = 8;
const WAITED: i16 = 16;

impl Waiting {
    /// Watches a thread. `None`: this kernel does not tell (before 5.19), or the
    /// lock was not found.
    pub fn watch(thread: u64, lock: Option<Place>) -> Result<Option<Self>, Failure> {
        let Some(Place::At(lock)) = lock else { return Ok(None) };
        let control = SharedArray::new(64, 1).map_err(|e| Failure::at("making a BPF map", &e))?;
        control.memory().store(THREAD as usize, thread);
        let mut links = Vec::new();
        let mut programs = Vec::new();
        for (tracepoint, ends) in [("contention_begin", false), ("contention_end", true)] {
            let program = contention(control.number(), lock, ends)?;
            match program.attach_raw_tracepoint(tracepoint) {
                Ok(link) => links.push(link),
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(e) => {
                    let what = format!("attaching to the raw tracepoint {tracepoint}");
                    return Err(Failure::at(what, &e));
                }
            }
            programs.push(program);
        }
        Ok(Some(Self { control, _links: links, _programs: programs }))
    }

    /// Nanoseconds so far.
    pub fn waited_ns(&self) -> u64 {
        self.control.memory().load(WAITED as usize)
    }
}

fn contention(control: i32, lock: u64, ends: bool) -> Result<Program, Failure> {
    let mut asm = Assembler::new();
    asm.load(Width::Double, Reg::R6, Reg::R1, 0)
        .load_map_value(Reg::R7, control)
        .load_u64(Reg::R1, lock)
        .jump_if(Cond::NotEqual, Reg::R6, Reg::R1, "out")
        .call(Helper::GetCurrentPidTgid)
        .truncate(Reg::R0)
        .load(Width::Double, Reg::R1, Reg::R7, THREAD)
        .jump_if(Cond::NotEqual, Reg::R0, Reg::R1, "out")
        .call(Helper::KtimeGetNs);
    if ends {
        asm.load(Width::Double, Reg::R1, Reg::R7, SINCE)
            .jump_if(Cond::Equal, Reg::R1, 0, "out")
            .alu(Alu::Subtract, Reg::R0, Reg::R1)
            .load(Width::Double, Reg::R1, Reg::R7, WAITED)
            .alu(Alu::Add, Reg::R1, Reg::R0)
            .store(Width::Double, Reg::R7, WAITED, Reg::R1)
            .store(Width::Double, Reg::R7, SINCE, 0);
    } else {
        asm.store(Width::Double, Reg::R7, SINCE, Reg::R0);
    }
    asm.label("out").exit();
    Program::load(ProgramKind::RawTracepoint, &asm.finish().map_err(Failure::new)?)
        .map_err(|e| Failure::at("loading the program that times the writer's waiting", &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean pause makes the duty, and what the calls cost outside the lock is part
    /// of it; a duty of 100 knows no pause.
    #[test]
    fn pauses_make_the_duty() {
        assert_eq!(mean_pause(100, 0, 50), 100);
        assert_eq!(mean_pause(100, 0, 5), 1900);
        assert_eq!(mean_pause(100, 0, 80), 25);
        assert_eq!(mean_pause(100, 30, 50), 70);
        assert_eq!(mean_pause(100, 30, 90), 0);
        assert_eq!(mean_pause(100, 0, 100), 0);
        assert_eq!(mean_pause(u64::MAX, 0, 1), u64::MAX);
    }

    /// Ticks become nanoseconds, waiting is not holding, and windows add up.
    #[test]
    fn time_is_split_and_added() {
        let mark =
            |at_ns, busy_ticks, waited_ns, cycles| Mark { at_ns, busy_ticks, waited_ns, cycles };
        let mut time = WriterTime::default();
        // 2,000 ticks a millisecond: a tick is 500 ns.
        add(&mut time, mark(0, 0, 0, 0), mark(10_000, 8, 1_000, 2), 2_000);
        let expected =
            WriterTime { held_ns: 3_000, waited_ns: 1_000, window_ns: 10_000, cycles: 2 };
        assert_eq!(time, expected);
        // A wait that began in an earlier window is no more than what was busy.
        add(&mut time, mark(20_000, 8, 1_000, 2), mark(30_000, 10, 9_000, 3), 2_000);
        let expected =
            WriterTime { held_ns: 3_000, waited_ns: 2_000, window_ns: 20_000, cycles: 3 };
        assert_eq!(time, expected);
    }

    /// The block is told the duty as a part of the time, and none without any time.
    #[test]
    fn the_duty_is_told() {
        let told = |held_ns, waited_ns, window_ns| {
            let mut block = Block::default();
            WriterTime { held_ns, waited_ns, window_ns, cycles: 5 }.tell(&mut block);
            assert_eq!(crate::probe::build_id::PROBE.check(&block), Ok(()));
            assert_eq!(block.notes[WRITER_CYCLES], 5);
            assert_eq!(block.notes[WRITER_HELD_NS], held_ns);
            assert_eq!(block.notes[WRITER_WAITED_NS], waited_ns);
            block.values.get(WRITER_DUTY).map(|duty| duty.mean)
        };
        assert_eq!(told(3_000, 1_000, 16_000), Some(0.25));
        // A cycle is counted when it ends: the first one may have begun before.
        assert_eq!(told(30_000, 0, 16_000), Some(1.0));
        assert_eq!(told(0, 0, 0), None);
    }

    /// A writer with half the time for itself is busy about half the time; what it
    /// is on this machine is measured, not assumed, so the bounds are wide.
    #[test]
    fn a_writer_writes() {
        let writer = Writer::default();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| writer.run(50, Chance::new(1)));
            while writer.thread().is_none() {
                std::thread::yield_now();
            }
            let from = writer.mark(0);
            std::thread::sleep(std::time::Duration::from_millis(50));
            let until = writer.mark(0);
            writer.stop();
            assert!(thread.join().unwrap().is_ok());
            assert!(until.cycles > from.cycles && until.busy_ticks > from.busy_ticks);
        });
    }
}
