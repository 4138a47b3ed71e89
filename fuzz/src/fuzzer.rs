// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzing, as far as it happens inside the guest.
//!
//! The fuzzer is PID 1. It reads its [`Orders`], starts a worker process for
//! each CPU, passes on what they say ([`Told`]) and ends the machine. A worker
//! runs programs: those libFuzzer makes ([`Mode::Fuzz`]), or a list, in order
//! ([`Mode::Replay`]). The program in flight always lies in memory shared with
//! the host ([`flight`]), for the guest may not live to tell.

pub mod flight;
mod leaks;
mod pid1;
mod seen;
pub mod worker;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::{Lookup, Times};
use crate::wire::Hello;

pub use pid1::main;

/// Version of [`Orders`] and [`Told`]; a change of meaning raises it.
pub const VERSION: u32 = 5;

/// Where the fuzzer finds its [`Orders`] inside the initramfs.
pub const ORDERS_PATH: &str = "/bakeoff/fuzz.json";

/// Seconds between two [`Told::Stats`] of a worker.
pub const STATS_SECONDS: u64 = 2;

/// What a guest is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Orders {
    /// [`VERSION`] of the host.
    pub version: u32,
    /// Comes back in the Hello.
    pub boot: String,
    /// Seed of everything random.
    pub seed: u32,
    /// Seconds to fuzz; a replay ends by itself.
    pub seconds: u32,
    /// Worker processes, one on each CPU. One that dies is followed by one whose number is
    /// greater by this.
    pub workers: u32,
    /// What to do.
    pub mode: Mode,
    /// Programs to begin with, or to replay, as text.
    pub programs: Vec<String>,
    /// Checks ([`crate::oracle`]) that are about what a patch changes, by their words: they
    /// are played more often.
    pub favour: Vec<String>,
    /// Operations that reach the files that a patch changes, by their words: they are done
    /// more often.
    pub ops: Vec<String>,
    /// Points of the kernel's code at which programs may have a CPU held up: what KCOV says
    /// of them, in ascending order.
    pub points: Vec<u64>,
    /// Basic blocks that weigh more: those of what patches change and of what that calls.
    pub heavy: Vec<u64>,
    /// A leak check after this many programs of a worker; 0: none. After a replay,
    /// if not 0.
    pub leak_check_every: u32,
}

/// What is done with programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// They are what libFuzzer begins with.
    Fuzz,
    /// They are run in order, once each, by worker 0.
    Replay,
}

/// One line from the guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "kebab-case")]
pub enum Told {
    /// First: what the guest is like.
    Hello {
        /// [`VERSION`] of the guest.
        version: u32,
        /// What every guest says.
        hello: Box<Hello>,
        /// Whether this kernel has KCOV.
        coverage: bool,
        /// Whether what interrupts a traced thread is traced, too.
        interrupts: bool,
        /// Whether programs can have a CPU held up at the points of the orders.
        delays: bool,
    },
    /// A program that ran through code no program of this worker had run
    /// through before.
    Entry {
        /// Which worker.
        worker: u32,
        /// The program.
        program: String,
        /// The new addresses, as KCOV gives them.
        pcs: Vec<u64>,
        /// Guest monotonic clock, nanoseconds since boot.
        at_ns: u64,
    },
    /// How far a worker is.
    Stats(Stats),
    /// Where a worker's time went, at its end.
    Times {
        /// Which worker.
        worker: u32,
        /// By operation; in parentheses what is none.
        times: BTreeMap<String, Times>,
    },
    /// What a replayed program did.
    Replayed {
        /// Its place in the orders.
        index: u32,
        /// Errno of each operation: 0 success, -1 no call.
        errnos: Vec<i32>,
        /// Runs of BPF programs.
        bpf_runs: u64,
        /// Distinct addresses that each operation ran through; then those of the release and
        /// of the helper.
        pcs: Vec<Vec<u64>>,
        /// What lookups of stacks by build ids answered.
        lookups: Vec<Lookup>,
    },
    /// Something grew and did not shrink again.
    Leak {
        /// Which worker.
        worker: u32,
        /// What grew, and by how much.
        what: String,
        /// The program to blame, if it leaks again; else those run since the last
        /// check, newest last.
        programs: Vec<String>,
    },
    /// A stack lookup answered what cannot be right.
    Wrong {
        /// Which worker.
        worker: u32,
        /// The answer.
        what: String,
        /// The program.
        program: String,
    },
    /// A worker ended before its time: our error, unless the kernel killed it.
    Lost {
        /// Which worker.
        worker: u32,
        /// How it ended.
        how: String,
    },
    /// A program that could not be read, and was left out.
    Skipped {
        /// Its place in the orders.
        index: u32,
        /// Why.
        why: String,
    },
    /// Last: all is done.
    End {
        /// Lockdep's `debug_locks`.
        debug_locks: Option<bool>,
        /// `/proc/sys/kernel/tainted`.
        tainted: u64,
        /// Guest monotonic clock, nanoseconds since boot.
        at_ns: u64,
    },
}

/// A worker's counts since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Which worker.
    pub worker: u32,
    /// Programs run.
    pub execs: u64,
    /// System calls they made.
    pub calls: u64,
    /// Operations they had.
    pub ops: u64,
    /// Programs in which a BPF program ran.
    pub bpf_run: u64,
    /// BPF programs loaded, and taken from the pool.
    pub loaded: u64,
    /// See [`Stats::loaded`].
    pub pooled: u64,
    /// Distinct addresses.
    pub pcs: u64,
    /// New ways through the basic blocks that weigh more.
    pub ways: u64,
    /// Lockdep's `debug_locks`.
    pub debug_locks: Option<bool>,
    /// Nanoseconds since the worker began to run programs.
    pub run_ns: u64,
    /// Guest monotonic clock, nanoseconds since boot.
    pub at_ns: u64,
}
