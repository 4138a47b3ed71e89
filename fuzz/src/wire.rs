// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words guest and host exchange, and nothing else.
//!
//! The host puts one [`Workload`] into the initramfs. The agent answers with a
//! stream of [`Record`]s, one JSON object a line, on the virtio-serial port
//! [`RECORDS_PORT`]: exactly one [`Hello`] first, exactly one [`End`] last.
//! A boot without an `End` did not end well, whatever QEMU's exit code says.
//!
//! Both sides check [`VERSION`] and [`Hello::source_hash`]: a guest binary that
//! does not fit the host is the host's error and never counts for or against
//! a patch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Version of everything in this module; a change of meaning raises it.
pub const VERSION: u32 = 2;

/// The oldest version whose saved records still mean what they say here: what
/// came since was only added. Live, both sides have to speak [`VERSION`].
pub const OLDEST_READ: u32 = 1;

/// Name of the virtio-serial port that carries the records.
pub const RECORDS_PORT: &str = "bakeoff.records";

/// Where the agent finds its [`Workload`] inside the initramfs.
pub const WORKLOAD_PATH: &str = "/bakeoff/workload.json";

/// Milliseconds beyond its [`Step::block_ms`] after which the agent gives up a
/// step that sends nothing. The host waits longer, so that a probe that hangs is
/// a failed step and only a guest that hangs is a hung one.
pub const STEP_SILENCE_MS: u32 = 30_000;

/// What one boot is asked to do, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// [`VERSION`] of the host.
    pub wire: u32,
    /// The boot's name in the run directory; comes back in [`Hello::boot`].
    pub boot: String,
    /// Seed of everything random in this boot.
    pub seed: u64,
    /// What to do, in this order.
    pub steps: Vec<Step>,
}

/// One probe in one context under one condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Number within the cell (not the boot): a step keeps it when it is run again.
    pub id: u32,
    /// Name of a row of the guest's `PROBES` table.
    pub probe: String,
    /// The context the samples have to come from.
    pub context: Context,
    /// What else goes on in the guest meanwhile.
    pub stress: Stress,
    /// Asked distance between two samples in microseconds; `None`: as fast as
    /// the event comes (each system call, each switch).
    pub period_us: Option<u32>,
    /// Blocks to take. A block is the unit that is kept or dropped as a whole.
    pub blocks: u32,
    /// Eligible calls after which a block is complete.
    pub calls_per_block: u32,
    /// Milliseconds after which a block ends with what it has.
    pub block_ms: u32,
    /// Which helper is asked, from which kind of program.
    #[serde(default)]
    pub interface: Interface,
    /// What the sampled stack looks like.
    #[serde(default)]
    pub stack: Stack,
    /// Asked share of time in percent during which the writer holds the lock or
    /// waits for it, with [`Stress::MmapWriters`]; the blocks tell the true one.
    #[serde(default)]
    pub writer_duty: Option<u8>,
    /// Whether the step may end before its last block.
    #[serde(default)]
    pub stop: Stop,
}

/// The helper that is asked for build ids.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Interface {
    /// `bpf_get_stack`.
    #[default]
    GetStack,
    /// `bpf_get_stack` in a program on a user probe.
    GetStackUprobe,
    /// `bpf_get_stackid` on a stack-trace map with `BPF_F_STACK_BUILD_ID`.
    GetStackid,
    /// `bpf_get_task_stack` of the running task.
    GetTaskStack,
    /// `bpf_get_stack` in a sleepable program, where the kernel has it.
    GetStackSleepable,
}

/// What the sampled stack looks like.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Stack {
    /// A few frames, all in the executable.
    #[default]
    Short,
    /// One frame.
    One,
    /// Many frames, through two shared objects.
    Deep,
}

/// Whether a step may end before its last block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Stop {
    /// It takes all its blocks.
    #[default]
    Fixed,
    /// It ends at the look at which every rate is known well enough, or with its
    /// last block; see [`stop`](crate::stop).
    Precise {
        /// Half the width of the interval that is enough, in millionths.
        half_width_ppm: u32,
    },
    /// It ends when it has its calls, or at the look at which the claim is refuted.
    Claim {
        /// The rate claimed, in thousand millionths.
        at_least_ppb: u32,
        /// Eligible calls this boot has to take for it.
        calls: u64,
    },
}

/// The kernel context a sample is taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Context {
    /// A task, interrupts on.
    Process,
    /// A soft interrupt, interrupts on.
    Softirq,
    /// A hardware interrupt (here: the hrtimer's).
    Hardirq,
    /// Interrupts off under a run queue's lock (a context switch).
    RqLock,
    /// A page fault, before any lock is taken.
    PageFault,
    /// A page fault inside `handle_mm_fault()`, with the VMA's lock or
    /// `mmap_lock` held for reading.
    PageFaultLocked,
    /// A non-maskable interrupt, or arm64's pseudo-NMI.
    Nmi,
}

/// What else goes on in the guest while samples are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Stress {
    /// Nothing: the sampled thread is alone on its CPU, nobody maps memory.
    Idle,
    /// One thread on another CPU maps, protects and unmaps memory.
    MmapWriters,
    /// More runnable threads than CPUs.
    Oversubscribed,
    /// Mappings change their file under the sampled addresses.
    Flip,
    /// The page with the build id is not resident: a control, in which every
    /// candidate has to fail alike.
    PageOut,
}

/// One line from the guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Record {
    /// First: what the guest is really like.
    Hello(Hello),
    /// A step begins; its splats on the console come after this moment.
    StepBegin {
        /// [`Step::id`].
        step: u32,
        /// Guest monotonic clock, nanoseconds since boot.
        at_ns: u64,
    },
    /// One block of samples.
    Block(Block),
    /// A step ends.
    StepEnd {
        /// [`Step::id`].
        step: u32,
        /// How.
        outcome: StepOutcome,
        /// Guest monotonic clock, nanoseconds since boot.
        at_ns: u64,
    },
    /// Last: the workload is done.
    End(End),
}

/// What the guest is really like, read from inside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of the guest.
    pub wire: u32,
    /// [`SOURCE_HASH`](crate::SOURCE_HASH) of the guest binary.
    pub source_hash: String,
    /// [`Workload::boot`].
    pub boot: String,
    /// `uname -r`.
    pub release: String,
    /// `uname -m`.
    pub machine: String,
    /// The kernel's own command line.
    pub cmdline: String,
    /// CPUs online.
    pub cpus_online: u32,
    /// Clock source in use (`tsc`, `arch_sys_counter`, `jiffies` …).
    pub clocksource: String,
    /// Resolution of CLOCK_MONOTONIC in nanoseconds: 1 with high-resolution timers.
    pub timer_resolution_ns: u64,
    /// Shortest expiry seen of a 100 µs absolute sleep, in nanoseconds.
    pub timer_100us_measured_ns: u64,
    /// Lockdep's `debug_locks`; `None` on a kernel without lockdep.
    pub debug_locks: Option<bool>,
    /// `/proc/sys/kernel/tainted`.
    pub tainted: u64,
    /// Size of a page in bytes.
    pub page_size: u64,
    /// Nanoseconds since boot when the agent was ready.
    pub at_ns: u64,
}

/// One block of samples: kept or dropped as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// [`Step::id`].
    pub step: u32,
    /// Number within the step, from 0.
    pub block: u32,
    /// Guest monotonic clock at the start, nanoseconds since boot.
    pub at_ns: u64,
    /// Length of the sampled window in nanoseconds.
    pub window_ns: u64,
    /// `debug_locks` before the block; `None` on a kernel without lockdep.
    pub debug_locks_before: Option<bool>,
    /// `debug_locks` after the block.
    pub debug_locks_after: Option<bool>,
    /// What was counted.
    pub counts: Counts,
}

/// What a block of `build_id` samples counted. The unit is the helper call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Eligible calls: the sampled task was the target and the helper returned
    /// a user stack (> 0 bytes).
    pub calls: u64,
    /// Calls that returned no user stack, by errno name (`EFAULT`, …; `0` for an
    /// empty stack).
    pub ineligible: BTreeMap<String, u64>,
    /// Events after which the program did not run: system calls made, or
    /// expiries fallen due, minus runs. Recursion misses are among them.
    pub missed: u64,
    /// Samples that ran but could not be stored or scored.
    pub errors: u64,
    /// Eligible calls whose context, read from inside the BPF program, was not
    /// the asked one, by the context found. They are not in `calls`.
    pub wrong_context: BTreeMap<String, u64>,
    /// Calls that fell back as a whole while the flags of this CPU's unlock work,
    /// read by the program just before, said that it was busy. `None` where the
    /// flags do not matter (interrupts on) or cannot be read.
    pub slot_busy: Option<u64>,
    /// Calls that fell back as a whole, with the work not busy, while the count of
    /// `mmap_lock`, read by the program just before and just after, showed a
    /// writer or somebody waiting. A writer that came and went between the two
    /// readings is not seen; a candidate that falls back for another reason while
    /// a writer is there is counted all the same. `None` where the count cannot
    /// be read. What is in neither of the two has another cause.
    pub lock_failed: Option<u64>,
    /// The innermost frame.
    pub top: Score,
    /// All frames of the call at once.
    pub all: Score,
    /// Frames of all eligible calls.
    pub frames: u64,
    /// What the frames were, with [`Stress::Flip`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flip: Option<Box<Flip>>,
    /// What the writer did meanwhile, with [`Stress::MmapWriters`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<WriterTime>,
    /// What became of the stacks in the map, with [`Interface::GetStackid`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buckets: Option<Buckets>,
}

/// What the writer did during a block's sampled windows. Its duty is
/// (held + waited) / window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriterTime {
    /// Nanoseconds in `mmap`, `mprotect` and `munmap` calls, less what a call of
    /// `mprotect` takes that is refused before it asks for the lock, less
    /// `waited_ns`. It is a little more than the time the lock was held for
    /// writing: the calls' work outside the lock is in it, and so is the end of
    /// `munmap`, which holds it for reading.
    pub held_ns: u64,
    /// Nanoseconds from a writer's failed first try to its getting the lock, from
    /// the kernel's own tracepoints (`contention_begin`, `contention_end`); 0, and
    /// contained in `held_ns`, on kernels without them.
    pub waited_ns: u64,
    /// Nanoseconds watched: the block's sampled windows.
    pub window_ns: u64,
    /// Times it mapped, protected and unmapped.
    pub cycles: u64,
}

/// What became of the stacks of a block in a stack-trace map with build ids.
///
/// Of the calls, every second one goes to a map of its own with
/// `BPF_F_FAST_STACK_CMP`; only the others are in [`Counts::calls`]. The maps are
/// empty when a block begins. A call with an id is scored by what stands under
/// that id after the block, which is what its user reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Buckets {
    /// Distinct ids that calls without the flag were given. The kernel hashes raw
    /// addresses, so one stack has one id per address of its innermost frame.
    pub ids: u64,
    /// Of these, how many stand for a stack with a fallback in it.
    pub fallback_ids: u64,
    /// Calls without the flag that were refused with `EEXIST`: the same addresses
    /// were there with other build ids. They are in [`Counts::calls`], unanswered.
    pub exists: u64,
    /// Calls with the flag that were given an id.
    pub fast_calls: u64,
    /// Of these, how many were given, without a lookup, an id whose stack has a
    /// fallback in it: an earlier call's bad luck.
    pub fast_stale: u64,
}

/// What a block of `flip` samples counted. The unit is the frame: each is looked
/// up on its own. A frame is legal if its build id and its offset belong
/// together, to whichever file; nobody can ask for more while files change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flip {
    /// Times the mapping was replaced by the other file's, during the block.
    pub flips: u64,
    /// Times its head was split off and merged again.
    pub splits: u64,
    /// Frames with an id and an offset that belong together.
    pub legal: u64,
    /// Frames without an answer: the address.
    pub ip: u64,
    /// Frames with the id of one file and an offset of the other.
    pub mixed: u64,
    /// Frames with the id of a file that was opened but never mapped.
    pub decoy: u64,
    /// Frames with an id that no file has.
    pub unknown_id: u64,
    /// Frames with an id of a mapped file and an offset that is no file's.
    pub out_of_range: u64,
    /// Calls with at least one frame of the last four kinds.
    pub illegal_calls: u64,
}

impl Flip {
    /// Frames whose id and offset do not belong together.
    #[must_use]
    pub fn illegal(&self) -> u64 {
        self.mixed
            .saturating_add(self.decoy)
            .saturating_add(self.unknown_id)
            .saturating_add(self.out_of_range)
    }

    /// Frames that were checked.
    #[must_use]
    pub fn checked(&self) -> u64 {
        self.illegal().saturating_add(self.legal).saturating_add(self.ip)
    }
}

/// Of the eligible calls, how many were answered, and how many rightly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// Status `BPF_STACK_BUILD_ID_VALID`.
    pub valid: u64,
    /// Valid, with the expected build id and an offset inside the sampled code.
    pub correct: u64,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum StepOutcome {
    /// All blocks were taken.
    Done,
    /// This guest cannot reach the context: a fact for the report.
    Unreachable {
        /// Why.
        reason: String,
    },
    /// The probe itself failed: our error.
    Failed {
        /// What failed, with the errno.
        reason: String,
    },
}

/// The last record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Records sent before this one.
    pub records: u64,
    /// `debug_locks` at the end.
    pub debug_locks: Option<bool>,
    /// `/proc/sys/kernel/tainted` at the end.
    pub tainted: u64,
    /// Guest monotonic clock, nanoseconds since boot.
    pub at_ns: u64,
}
