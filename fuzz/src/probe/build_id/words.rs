// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words of this probe's parameters.

use serde::{Deserialize, Serialize};

/// The helper that is asked for build ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::enum_variant_names, reason = "the helpers' own names")]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// The kernel context a sample is taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stress {
    /// Nothing: the sampled thread is alone on its CPU, nobody maps memory.
    #[default]
    Idle,
    /// One thread on another CPU maps, protects and unmaps memory.
    MmapWriters,
    /// More runnable threads than CPUs.
    Oversubscribed,
    /// The page with the build id is not resident: a control, in which every
    /// candidate has to fail alike.
    PageOut,
}
