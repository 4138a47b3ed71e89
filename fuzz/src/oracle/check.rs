// SPDX-License-Identifier: MIT OR Apache-2.0
//! The checks: each plays a short play by a seed and knows what the kernel has to say.

mod access;
mod bounds;
mod breakpoints;
mod buffer;
mod counts;
mod desk;
mod helpers;
mod hits;
mod infos;
mod iterators;
mod lives;
mod maps;
mod memory;
mod promises;
mod races;
mod records;
mod ring;
mod sideband;
mod timers;
mod wakeups;

use crate::engine::Executor;
use crate::op::Check;
use crate::op::value::{Digits, Seeded};
use crate::sys::call::Answer;

/// `PERF_EVENT_IOC_ENABLE`, `DISABLE`, `ID`.
const IOC_ENABLE: u32 = 0x2400;
const IOC_DISABLE: u32 = 0x2401;
const IOC_ID: u32 = 0x8008_2407;

/// Rounds in a row in which a probe counts too little before that is wrong: where any program
/// is attached to a tracepoint, a hit on a CPU whose bpf(2) call was preempted is passed over
/// (`bpf_prog_active`).
const SHORT_ROUNDS: u32 = 4;

/// Whether an errno says nothing about the call: there was no memory, or a signal came (the
/// verifier gives up where one is pending, with EAGAIN).
fn says_nothing(errno: i32) -> bool {
    matches!(errno, libc::ENOMEM | libc::EAGAIN | libc::EINTR)
}

/// A play, and what went wrong in it.
struct Play {
    dice: Digits,
    name: &'static str,
    wrong: Option<String>,
}

impl Play {
    /// What it does first is by `part` alone: plays of one part are about the same thing.
    fn of(name: &'static str, part: u8, seed: u8) -> Self {
        let seed = (u64::from(part) << 8 | u64::from(seed)).wrapping_mul(0x9e37_79b9);
        Self { dice: Digits::new(part, Seeded(seed)), name, wrong: None }
    }

    /// Notes what the kernel may not have answered; the first counts.
    fn wrong(&mut self, what: String) {
        let name = self.name;
        self.wrong.get_or_insert_with(|| format!("{name}: {what}"));
    }

    /// Says what was answered instead of what is promised: errnos, 0 if it is none.
    fn expect<T>(&mut self, what: &str, promised: &[i32], answer: &Answer<T>) {
        let errno = answer.as_ref().err().copied().unwrap_or(0);
        if !promised.contains(&errno) && !says_nothing(errno) {
            self.wrong(format!("{what}: errno {errno}, promised is {promised:?}"));
        }
    }
}

/// What a check is played on.
struct Stage<'a> {
    play: Play,
    executor: &'a mut Executor,
}

impl Stage<'_> {
    /// See [`Play::wrong`].
    fn wrong(&mut self, what: String) {
        self.play.wrong(what);
    }

    /// See [`Play::expect`].
    fn expect<T>(&mut self, what: &str, promised: &[i32], answer: &Answer<T>) {
        self.play.expect(what, promised, answer);
    }

    /// The number of the tracepoint at the entry of system calls.
    fn sys_enter(&self) -> Option<u64> {
        self.executor.tracepoints.sys_enter
    }
}

/// Plays a part of a check. What went wrong, if anything, and what the play's last call
/// answered: its own limits are errors, too.
pub fn play(
    executor: &mut Executor,
    check: Check,
    part: u8,
    seed: u8,
) -> (Answer<()>, Option<String>) {
    let mut stage = Stage { play: Play::of(check.word(), part, seed), executor };
    let answer = match check {
        Check::Counts => counts::run(&mut stage),
        Check::Records => records::run(&mut stage),
        Check::Sideband => sideband::run(&mut stage),
        Check::Breakpoints => breakpoints::run(&mut stage),
        Check::Promises => promises::run(&mut stage),
        Check::Access => access::run(&mut stage),
        Check::Wakeups => wakeups::run(&mut stage),
        Check::Infos => infos::run(&mut stage),
        Check::Iterators => iterators::run(&mut stage),
        Check::Helpers => helpers::run(&mut stage),
        Check::Timers => timers::run(&mut stage),
        Check::Bounds => bounds::run(&mut stage),
        Check::Maps => maps::run(&mut stage),
        Check::Ring => ring::run(&mut stage),
        Check::Memory => memory::run(&mut stage),
        Check::Hits => hits::run(&mut stage),
        Check::Lives => lives::run(&mut stage),
        Check::Races => races::events(&mut stage),
        Check::MapRaces => races::maps(&mut stage),
        Check::MemoryRaces => races::memory(&mut stage),
    };
    (answer, stage.play.wrong)
}

/// Plays of a check, by seeds whose lower half is the part.
#[cfg(test)]
fn plays(
    name: &'static str,
    seeds: impl IntoIterator<Item = u16>,
) -> impl Iterator<Item = (u16, Play)> {
    seeds.into_iter().map(move |seed| {
        let [part, more] = seed.to_le_bytes();
        (seed, Play::of(name, part, more))
    })
}
