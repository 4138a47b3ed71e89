// SPDX-License-Identifier: MIT OR Apache-2.0
//! A worker: runs programs on its CPU, keeps count, and tells.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write};

use super::flight::Slot;
use super::{STATS_SECONDS, Stats, Told};
use crate::exec::{Executor, Ran};
use crate::kernel;
use crate::program::{Program, text};
use crate::sys;

/// Programs kept for a leak's report.
const KEPT: usize = 64;
/// Growth of unreclaimable slab, in KiB, that is called a leak.
const LEAK_KIB: u64 = 4096;

/// The kernel addresses seen, as a hash set without deletion: tens of
/// thousands of lookups a program must cost next to nothing.
#[derive(Debug)]
struct Seen {
    slots: Vec<u64>,
    used: usize,
}

impl Seen {
    fn new() -> Self {
        Self { slots: vec![0; 1 << 16], used: 0 }
    }

    fn index(&self, pc: u64) -> usize {
        let hash = pc.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        usize::try_from(hash).unwrap_or(0) & (self.slots.len() - 1)
    }

    /// Adds an address; true if it is new.
    fn add(&mut self, pc: u64) -> bool {
        let mut at = self.index(pc);
        loop {
            match self.slots.get(at).copied() {
                Some(found) if found == pc => return false,
                Some(0) => break,
                _ => at = (at + 1) & (self.slots.len() - 1),
            }
        }
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = pc;
        }
        self.used += 1;
        if self.used * 2 > self.slots.len() {
            let old = std::mem::take(&mut self.slots);
            self.slots = vec![0; old.len() * 2];
            self.used = 0;
            for pc in old.into_iter().filter(|pc| *pc != 0) {
                self.add(pc);
            }
        }
        true
    }
}

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
    slab_kib: Option<u64>,
    recent: VecDeque<String>,
}

impl Worker {
    /// Sets everything up. It is done after `seconds`.
    pub fn new(number: u32, seconds: u32, leak_check_every: u32) -> io::Result<Self> {
        let executor = Executor::new(number)?;
        let slot = Slot::open(number)?;
        let now = sys::monotonic_ns();
        Ok(Self {
            number,
            executor,
            slot,
            seen: Seen::new(),
            stats: Stats { worker: number, ..Stats::default() },
            began_ns: now,
            told_ns: now,
            until_ns: now + u64::from(seconds) * 1_000_000_000,
            leak_check_every,
            slab_kib: None,
            recent: VecDeque::new(),
        })
    }

    /// Whether its time is up.
    #[must_use]
    pub fn is_done(&self) -> bool {
        sys::monotonic_ns() >= self.until_ns
    }

    /// Runs a program; `feature` gets each address it ran through. What is new
    /// is told.
    pub fn run(
        &mut self,
        program: &Program,
        written: &str,
        mut feature: impl FnMut(u64),
    ) -> io::Result<Ran> {
        if let Some(slot) = &mut self.slot {
            slot.put(written);
        }
        let mut new = Vec::new();
        let seen = &mut self.seen;
        let ran = self.executor.run(program, |pc| {
            if seen.add(pc) {
                new.push(pc);
            }
            feature(pc);
        });
        self.stats.execs += 1;
        self.stats.calls += ran.calls;
        self.stats.ops += program.ops.len() as u64;
        self.stats.bpf_run += u64::from(ran.bpf_runs > 0);
        self.stats.pcs += new.len() as u64;
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
        Ok(ran)
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

    /// Waits until everything is released, and compares what is held with what
    /// was held at the last check.
    fn check_leaks(&mut self) -> io::Result<()> {
        let settled = self.executor.settle();
        let now = unreclaimable_kib();
        let before = self.slab_kib.replace(now);
        let grown = before.map_or(0, |before| now.saturating_sub(before));
        let what = match (settled, grown > LEAK_KIB) {
            (false, _) => "what a program made is not released after 30 s".to_owned(),
            // Caches and the pool grow at first: the first checks only look.
            (true, true) if self.stats.execs > 4 * u64::from(self.leak_check_every) => {
                format!("unreclaimable slab: {grown} KiB more")
            }
            (true, _) => return Ok(()),
        };
        let programs = self.recent.iter().cloned().collect();
        tell(&Told::Leak { worker: self.number, what, programs })
    }
}

fn unreclaimable_kib() -> u64 {
    fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("SUnreclaim:"))?;
            line.trim().trim_end_matches(" kB").parse().ok()
        })
        .unwrap_or(0)
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
                let mut pcs = Vec::new();
                let ran = worker.run(&program, written, |pc| pcs.push(pc))?;
                pcs.sort_unstable();
                pcs.dedup();
                let Ran { errnos, bpf_runs, .. } = ran;
                tell(&Told::Replayed { index, errnos, bpf_runs, pcs })?;
            }
        }
    }
    worker.tell_stats()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each address is new once, however many there are.
    #[test]
    fn addresses_are_new_once() {
        let mut seen = Seen::new();
        let addresses: Vec<u64> = (1..200_000).map(|n| 0xffff_ffff_8100_0000 + n * 5).collect();
        assert!(addresses.iter().all(|pc| seen.add(*pc)));
        assert!(!addresses.iter().any(|pc| seen.add(*pc)));
        assert_eq!(seen.used, addresses.len());
    }
}
