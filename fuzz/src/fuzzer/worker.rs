// SPDX-License-Identifier: MIT OR Apache-2.0
//! A worker: runs programs on its CPU, keeps count, and tells.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use super::flight::Slot;
use super::leaks::{self, Held};
use super::seen::Seen;
use super::{STATS_SECONDS, Stats, Told};
use crate::engine::{Executor, LOST_BUCKETS, Ran, SlowTime, Spent};
use crate::kernel;
use crate::op::{Check, Op};
use crate::program::{Favour, Program, Slow, text};
use crate::sys;

/// Programs kept for a leak's report: as many as run from check to check.
const KEPT: usize = 6000;
/// Growth of unreclaimable slab, in KiB, that is called a leak, if the slab grew
/// between any two of so many checks.
const LEAK_KIB: u64 = 8192;
const SLAB_CHECKS: usize = 6;
/// Passes over a list of programs, and the KiB that a leak takes in each.
const PASSES: u32 = 4;
const PASS_KIB: u64 = 256;
/// Leaks whose programs are searched for: it takes seconds, and who leaks once
/// may leak all the time.
const HUNTS: u32 = 3;
/// Checks together get one part in so many of a worker's time, and those that are about what
/// is patched another one.
const CHECKS_SHARE: u64 = 10;
const FAVOURED_SHARE: u64 = 3;
/// What a check that finds by chance has of it, for each of another's.
const CHANCE_WEIGHT: u64 = 4;
/// The same of one that runs through what is patched.
const REACHING_WEIGHT: u64 = 4;
/// The same of other operations that wait. While one opens or closes a uprobe, tens of
/// milliseconds, the other worker cannot open a tracepoint either (`event_mutex`).
const WAITS_SHARE: u64 = 25;
const NOT_RELEASED: &str = "what a program made is not released after 30 s";

/// A worker in its process.
#[derive(Debug)]
pub struct Worker {
    number: u32,
    executor: Executor,
    slot: Option<Slot>,
    seen: Seen,
    stats: Stats,
    began_ns: u64,
    told_ns: u64,
    until_ns: u64,
    leak_check_every: u32,
    held: Option<Held>,
    slab_kib: VecDeque<u64>,
    hunts: u32,
    recent: VecDeque<String>,
    /// Whether lost buckets were told with all programs before.
    told_lost: bool,
    ran_ns: Option<u64>,
    favour: Favour,
}

impl Worker {
    /// Sets everything up, on the CPU and in the slot of `place`. It is done after `seconds`.
    pub fn new(number: u32, place: u32, seconds: u32, leak_check_every: u32) -> io::Result<Self> {
        let executor = Executor::new(place)?;
        let slot = Slot::open(place)?;
        let now = sys::monotonic_ns();
        Ok(Self {
            number,
            executor,
            slot,
            seen: Seen::new(&[]),
            stats: Stats { worker: number, ..Stats::default() },
            began_ns: now,
            told_ns: now,
            until_ns: now + u64::from(seconds) * 1_000_000_000,
            leak_check_every,
            held: None,
            slab_kib: VecDeque::new(),
            hunts: HUNTS,
            recent: VecDeque::new(),
            told_lost: false,
            ran_ns: None,
            favour: Favour::default(),
        })
    }

    /// Has something done more often.
    #[must_use]
    pub fn favouring(mut self, favour: Favour) -> Self {
        self.favour = favour;
        self
    }

    /// Has some basic blocks of the kernel weigh more, by what KCOV says of them.
    #[must_use]
    pub fn weighing(mut self, heavy: &[u64]) -> Self {
        self.seen = Seen::new(heavy);
        self
    }

    /// What is done more often.
    #[must_use]
    pub fn favour(&self) -> &Favour {
        &self.favour
    }

    /// What slow operations there may be in what is made next.
    #[must_use]
    pub fn allowed(&self) -> Slow {
        let all = sys::monotonic_ns() - self.began_ns;
        allowed(self.executor.slow_time(), all, &self.favour)
    }

    /// Whether its time is up.
    #[must_use]
    pub fn is_done(&self) -> bool {
        sys::monotonic_ns() >= self.until_ns
    }

    /// Runs a program; `feature` is called for each thing that it did and that no program of
    /// this worker did before, see [`super::seen`]. What is new is told.
    pub fn run(
        &mut self,
        program: &Program,
        written: &str,
        mut feature: impl FnMut(),
    ) -> io::Result<Ran> {
        let began = sys::monotonic_ns();
        if let Some(before) = self.ran_ns {
            self.executor.spent("(engine)", began - before);
        }
        if let Some(slot) = &mut self.slot {
            slot.put(written);
        }
        self.executor.spent("(flight)", sys::monotonic_ns() - began);
        let mut new = Vec::new();
        let ran = self.executor.run(program);
        let ended = sys::monotonic_ns();
        let mut ways = 0;
        for trace in self.executor.traces() {
            ways += self.seen.add_all(trace, |pc| new.push(pc));
        }
        ways += self.seen.end();
        (0..new.len() + ways).for_each(|_| feature());
        if self.favour.looks() {
            self.note_parts(program, &ran.traced);
        }
        self.executor.spent("(coverage)", sys::monotonic_ns() - ended);
        self.stats.execs += 1;
        self.stats.calls += ran.calls;
        self.stats.ops += program.ops.len() as u64;
        self.stats.bpf_run += u64::from(ran.bpf_runs > 0);
        self.stats.pcs += new.len() as u64;
        self.stats.ways += ways as u64;
        let now = sys::monotonic_ns();
        if !new.is_empty() {
            tell(&Told::Entry {
                worker: self.number,
                program: written.to_owned(),
                pcs: new,
                at_ns: now,
            })?;
        }
        if let Some(what) = &ran.wrong {
            tell(&Told::Wrong {
                worker: self.number,
                what: what.clone(),
                program: written.to_owned(),
            })?;
        }
        if ran.lost_buckets {
            // Any program that used the map may have lost them, this one most likely. Who
            // loses buckets once may lose some all the time: thousands of programs are
            // told once.
            let before = if self.told_lost { 0 } else { self.recent.len() };
            self.told_lost = true;
            let mut programs: Vec<String> = self.recent.iter().take(before).cloned().collect();
            programs.push(written.to_owned());
            let what = LOST_BUCKETS.to_owned();
            tell(&Told::Leak { worker: self.number, what, programs })?;
            self.executor.empty_pool();
        }
        if ran.stuck {
            tell(&Told::Lost {
                worker: self.number,
                how: "the helper thread is stuck in the kernel".to_owned(),
            })?;
        }
        if now - self.told_ns > STATS_SECONDS * 1_000_000_000 {
            self.tell_stats()?;
        }
        if self.leak_check_every > 0 {
            self.recent.push_back(written.to_owned());
            if self.recent.len() > KEPT {
                self.recent.pop_front();
            }
            if self.stats.execs.is_multiple_of(u64::from(self.leak_check_every)) {
                self.check_leaks()?;
            }
        }
        self.ran_ns = Some(sys::monotonic_ns());
        Ok(ran)
    }

    /// Notes which parts of checks ran through what is patched, by where this thread's trace was
    /// at the end of each operation.
    fn note_parts(&mut self, program: &Program, ends: &[usize]) {
        let own = self.executor.traces().next().unwrap_or_default();
        for (op, ran) in program.ops.iter().zip(parts(own, ends)) {
            if let Op::Check { what, seed, .. } = op {
                self.favour.note(*what, seed.0, ran.iter().map(|pc| pc.load(Ordering::Relaxed)));
            }
        }
    }

    /// The addresses that each operation of the last program ran through, by where the trace
    /// was at the end of each; then those of the release and of the helper.
    #[must_use]
    fn last_pcs(&self, ends: &[usize]) -> Vec<Vec<u64>> {
        let mut traces = self.executor.traces();
        let own = traces.next().unwrap_or_default();
        let distinct = |words: &mut dyn Iterator<Item = &AtomicU64>| {
            let mut pcs: Vec<u64> = words.map(|word| word.load(Ordering::Relaxed)).collect();
            pcs.sort_unstable();
            pcs.dedup();
            pcs
        };
        let mut pcs: Vec<Vec<u64>> =
            parts(own, ends).map(|ran| distinct(&mut ran.iter())).collect();
        let rest = own.get(ends.iter().copied().max().unwrap_or(0)..).unwrap_or_default();
        pcs.push(distinct(&mut rest.iter().chain(traces.flatten())));
        pcs
    }

    /// Notes time spent on changing programs, which is part of the engine's.
    pub fn spent_mutating(&mut self, ns: u64) {
        self.executor.spent("(mutate)", ns);
    }

    /// Tells how far it is.
    pub fn tell_stats(&mut self) -> io::Result<()> {
        let now = sys::monotonic_ns();
        self.told_ns = now;
        let (loaded, pooled) = self.executor.loads();
        self.stats.loaded = loaded;
        self.stats.pooled = pooled;
        self.stats.debug_locks = kernel::debug_locks();
        self.stats.run_ns = now - self.began_ns;
        self.stats.at_ns = now;
        tell(&Told::Stats(self.stats.clone()))
    }

    /// Tells where the time went; the rest was libFuzzer's and the telling's.
    fn tell_times(&self) -> io::Result<()> {
        let times = self.executor.times();
        let name = |(word, detail): &Spent| format!("{word} {detail}").trim_end().to_owned();
        let times = times.iter().map(|(spent, times)| (name(spent), *times)).collect();
        tell(&Told::Times { worker: self.number, times })
    }

    /// Tells if what programs made is not released.
    fn check_release(&mut self) -> io::Result<()> {
        if self.executor.settle() {
            return Ok(());
        }
        tell(&Told::Leak {
            worker: self.number,
            what: NOT_RELEASED.to_owned(),
            programs: self.recent.iter().cloned().collect(),
        })
    }

    /// The end of all programs: empties the pool, too, for it has descriptors of
    /// programs that the kernel may have forgotten to let go.
    pub fn finish(&mut self) -> io::Result<()> {
        if self.leak_check_every > 0 && self.executor.settle() {
            self.executor.empty_pool();
            if leaks::has_orphans() {
                tell(&Told::Leak {
                    worker: self.number,
                    what: leaks::ORPHAN.to_owned(),
                    programs: self.recent.iter().cloned().collect(),
                })?;
            }
        }
        self.tell_times()?;
        self.tell_stats()
    }

    /// Waits until everything is released, and compares what is held with what
    /// was held at the last check.
    fn check_leaks(&mut self) -> io::Result<()> {
        let began = sys::monotonic_ns();
        if !self.executor.settle() {
            let programs = self.recent.drain(..).collect();
            let what = NOT_RELEASED.to_owned();
            return tell(&Told::Leak { worker: self.number, what, programs });
        }
        let now = Held::now(self.executor.pooled());
        let before = self.held.replace(now.clone());
        let more = before.as_ref().and_then(|before| now.more_than(before));
        if let Some(what) = more {
            let suspects: Vec<String> = self.recent.iter().cloned().collect();
            // The search may take longer than there is time.
            let worker = self.number;
            let tell = |programs| tell(&Told::Leak { worker, what: what.to_owned(), programs });
            tell(suspects.clone())?;
            if let Some(program) = self.hunt(&suspects)? {
                tell(vec![program])?;
            }
            self.held = Some(Held::now(self.executor.pooled()));
        }
        self.slab_kib.push_back(leaks::slab_kib());
        if self.slab_kib.len() > SLAB_CHECKS {
            self.slab_kib.pop_front();
            if grows(self.slab_kib.make_contiguous()) {
                let programs = self.recent.iter().cloned().collect();
                let what = "unreclaimable slab, from check to check".to_owned();
                tell(&Told::Leak { worker: self.number, what, programs })?;
                self.slab_kib.clear();
            }
        }
        self.recent.clear();
        self.executor.spent("(leak check)", sys::monotonic_ns() - began);
        Ok(())
    }

    /// Runs programs that were run before, again and again, each time with an empty
    /// pool: all that they make is made and released anew, so memory must not become
    /// more each time.
    fn check_passes(&mut self, programs: &[String]) -> io::Result<()> {
        // What a kernel that has warned or died holds proves nothing.
        const WARNED: u64 = 1 << 7 | 1 << 9;
        if kernel::tainted() & WARNED != 0 || kernel::debug_locks() == Some(false) {
            return Ok(());
        }
        let (mut kib, mut grown) = (None, Vec::new());
        for _ in 0..PASSES {
            for written in programs {
                let Ok(program) = text::read(written.as_bytes()) else { continue };
                self.run(&program, written, || {})?;
            }
            self.check_release()?;
            self.executor.empty_pool();
            let now = leaks::settled_kib();
            if let Some(before) = kib.replace(now) {
                let more = now.saturating_sub(before);
                if more < PASS_KIB {
                    return Ok(());
                }
                grown.push(format!("{more} KiB"));
            }
        }
        tell(&Told::Leak {
            worker: self.number,
            what: format!("memory, each time the programs run ({})", grown.join(", ")),
            programs: programs.to_vec(),
        })
    }

    /// Of programs one of which leaks, the one that does: runs halves of them. None
    /// if it does not leak again.
    fn hunt(&mut self, suspects: &[String]) -> io::Result<Option<String>> {
        if self.hunts == 0 {
            return Ok(None);
        }
        self.hunts -= 1;
        let mut rest = suspects;
        while rest.len() > 1 {
            let (first, second) = rest.split_at(rest.len() / 2);
            rest = if self.leaks(first)? { first } else { second };
        }
        Ok(if self.leaks(rest)? { rest.first().cloned() } else { None })
    }

    /// Whether these programs, run again, leave anything behind.
    fn leaks(&mut self, programs: &[String]) -> io::Result<bool> {
        let before = Held::now(self.executor.pooled());
        for written in programs {
            let Ok(program) = text::read(written.as_bytes()) else { continue };
            if let Some(slot) = &mut self.slot {
                slot.put(written);
            }
            let ran = self.executor.run(&program);
            self.stats.execs += 1;
            self.stats.calls += ran.calls;
        }
        // The host is to know that we are alive.
        self.tell_stats()?;
        let settled = self.executor.settle();
        Ok(!settled || Held::now(self.executor.pooled()).more_than(&before).is_some())
    }
}

/// A trace in parts, by where each of them ends.
fn parts<'a>(trace: &'a [AtomicU64], ends: &'a [usize]) -> impl Iterator<Item = &'a [AtomicU64]> {
    let mut from = 0;
    ends.iter().map(move |end| {
        let end = (*end).clamp(from, trace.len());
        let part = trace.get(from..end).unwrap_or_default();
        from = end;
        part
    })
}

/// Slow operations that had their share of so many nanoseconds are not to be in what is made
/// next. Each check that judges has the same share, however long one play takes, and one that
/// leaves that to the kernel several of these, as has one that runs through what is patched.
///
/// Only the clock can tell, for one check takes as long as two programs and another one as
/// long as thirty, and what the corpus is full of depends on the kernel.
fn allowed(slow: SlowTime, all: u64, favour: &Favour) -> Slow {
    let SlowTime { checks_ns, waits_ns } = slow;
    let is_favoured = |check: &Check| favour.checks.contains(check);
    let weight = |check: &Check| {
        let by_chance = if check.is_by_chance() { CHANCE_WEIGHT } else { 1 };
        by_chance * if favour.reaches(*check) { REACHING_WEIGHT } else { 1 }
    };
    let weights = |wanted: bool| -> u64 {
        Check::ALL.iter().filter(|check| is_favoured(check) == wanted).map(weight).sum()
    };
    let (favoured_parts, parts) = (FAVOURED_SHARE * weights(true), CHECKS_SHARE * weights(false));
    let mut checks = [false; Check::ALL.len()];
    for ((check, spent), may) in Check::ALL.iter().zip(checks_ns).zip(&mut checks) {
        let parts = if is_favoured(check) { favoured_parts } else { parts };
        *may = spent <= all * weight(check) / parts;
    }
    Slow { checks, waits: waits_ns <= all / WAITS_SHARE }
}

/// Whether the slab became more from each check to the next, and much more in all.
fn grows(kib: &[u64]) -> bool {
    let always = kib.windows(2).all(|pair| pair.first() < pair.last());
    let by = kib.last().unwrap_or(&0).saturating_sub(*kib.first().unwrap_or(&0));
    always && by > LEAK_KIB
}

/// Says a record on standard output, which PID 1 listens to.
pub fn tell(told: &Told) -> io::Result<()> {
    let mut line = serde_json::to_vec(told)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

/// Replays programs in order, telling what each did.
pub fn replay(worker: &mut Worker, programs: &[String]) -> io::Result<()> {
    for (index, written) in (0..).zip(programs) {
        match text::read(written.as_bytes()) {
            Err(error) => tell(&Told::Skipped { index, why: error.to_string() })?,
            Ok(program) => {
                let ran = worker.run(&program, written, || {})?;
                let pcs = worker.last_pcs(&ran.traced);
                let Ran { errnos, bpf_runs, lookups, .. } = ran;
                tell(&Told::Replayed { index, errnos, bpf_runs, pcs, lookups })?;
            }
        }
    }
    worker.check_release()?;
    if worker.leak_check_every > 0 {
        worker.check_passes(programs)?;
    }
    worker.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What took its share waits until the rest has caught up.
    #[test]
    fn slow_operations_have_their_share() {
        const ALL: u64 = 315_000;
        let favour = |checks: &[Check]| {
            let words: Vec<String> = checks.iter().map(|check| check.word().to_owned()).collect();
            Favour::of(&words, &[])
        };
        let of_any = |check: Check, spent, favour: &Favour| {
            let mut slow = SlowTime::default();
            slow.checks_ns[check.nth()] = spent;
            let Slow { checks, waits } = allowed(slow, ALL, favour);
            assert!(waits && checks.iter().filter(|may| !**may).count() <= 1);
            checks[check.nth()]
        };
        let of = |check, spent, favoured: &[Check]| of_any(check, spent, &favour(favoured));
        // A tenth of all, for fifteen checks, and five of which each is four.
        assert_eq!(Check::ALL.iter().filter(|check| check.judges()).count(), 16);
        assert!(of(Check::Counts, 900, &[]) && !of(Check::Counts, 901, &[]));
        assert!(of(Check::Races, 3600, &[]) && !of(Check::Races, 3601, &[]));
        // A third if a patch is about it, and a part of that if about another one, too.
        let one = [Check::Ring];
        assert!(of(Check::Ring, 105_000, &one) && !of(Check::Ring, 105_001, &one));
        let two = [Check::Races, Check::Counts];
        assert!(of(Check::Counts, 21_000, &two) && !of(Check::Counts, 21_001, &two));
        assert!(of(Check::Races, 84_000, &two) && !of(Check::Races, 84_001, &two));
        assert!(of(Check::Hits, 926, &one) && !of(Check::Hits, 927, &one));
        // And more of that if it runs through what is patched.
        let mut reaching = favour(&two).through(&[1]);
        reaching.note(Check::Counts, 0, [1].into_iter());
        let counts = |spent| of_any(Check::Counts, spent, &reaching);
        assert!(counts(52_500) && !counts(52_501));
        let waits = |waits_ns| {
            allowed(SlowTime { waits_ns, ..SlowTime::default() }, ALL, &favour(&[])).waits
        };
        assert!(waits(12_600) && !waits(12_601));
    }

    /// A trace is cut where its parts end; what ends before another one, or behind the trace,
    /// is empty or short.
    #[test]
    fn traces_are_cut_into_parts() {
        let trace: Vec<AtomicU64> = (0..6).map(AtomicU64::new).collect();
        let lengths = |ends: &[usize]| -> Vec<usize> {
            parts(&trace, ends).map(<[AtomicU64]>::len).collect()
        };
        assert_eq!(lengths(&[2, 2, 5]), [2, 0, 3]);
        assert_eq!(lengths(&[4, 3, 9]), [4, 0, 2]);
        assert_eq!(parts(&trace, &[2, 5]).nth(1).unwrap()[0].load(Ordering::Relaxed), 2);
    }

    /// Only a slab that never shrinks is suspected, and only if it grows much.
    #[test]
    fn growing_slabs_are_suspected() {
        assert!(grows(&[1000, 4000, 8000, 12_000]));
        assert!(!grows(&[1000, 4000, 3999, 12_000]));
        assert!(!grows(&[1000, 1001, 1002, 1003]));
    }
}
