// SPDX-License-Identifier: MIT OR Apache-2.0
//! How samples are taken. Pure.
//!
//! | context | event | program | in the sampled thread |
//! |---|---|---|---|
//! | process | `sys_enter` of getppid; or a user probe | raw tracepoint; uprobe | makes the calls; passes the probe |
//! | softirq | `softirq_entry` | raw tracepoint | spins |
//! | hardirq | cpu-clock | perf event | spins |
//! | rq-lock | `sched_switch` away from it | raw tracepoint | yields to a peer on its CPU |
//! | page-fault | page-faults | perf event | drops a page and touches it |
//! | page-fault-locked | page-faults-min | perf event | the same |
//! | nmi, x86_64 | `nmi_handler`, once per NMI | raw tracepoint | spins |
//! | nmi, arm64 | cycles of the PMU | perf event | spins |

use super::params::Asked;
use super::words::{Context, Interface};
use crate::interrupt::Level;
use crate::sys::sampled::{Leaf, Spot, SystemCall};

/// The event that takes the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Raw tracepoint `sys_enter`.
    SysEnter,
    /// A user probe on one instruction of the leaf.
    UserProbe,
    /// Raw tracepoint `softirq_entry`: interrupts are on.
    SoftirqEntry,
    /// Raw tracepoint `sched_switch`: under the run queue's lock, and the thread
    /// that is switched away from is still the current one.
    SchedSwitch,
    /// Raw tracepoint `nmi_handler`.
    NmiHandler,
    /// Software event cpu-clock, an hrtimer.
    CpuClock,
    /// Software event page-faults: before any lock.
    Fault,
    /// Software event page-faults-min: inside `handle_mm_fault()`.
    FaultServed,
    /// Hardware event cycles, whose interrupt is a pseudo-NMI.
    Cycles,
}

/// The helper that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// `bpf_get_stack`
    Stack,
    /// `bpf_get_stackid`
    Stackid,
    /// `bpf_get_task_stack`
    TaskStack,
}

/// How samples are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// What takes them.
    pub source: Source,
    /// What is asked.
    pub ask: Ask,
    /// Whether the program may sleep.
    pub sleepable: bool,
    /// Where the sampled thread is meanwhile.
    pub leaf: Leaf,
    /// Where in the leaf it is seen.
    pub spot: Spot,
    /// The system call it makes.
    pub system_call: SystemCall,
    /// The level that the samples have to come from.
    pub level: Level,
    /// Whether interrupts are off, so that the flags of the unlock work are what
    /// the helper sees a moment later.
    pub interrupts_off: bool,
    /// Asked distance between samples, on average.
    pub period_ns: Option<u64>,
}

/// Where NMIs come from differs.
const NMI: Source = if cfg!(target_arch = "aarch64") { Source::Cycles } else { Source::NmiHandler };

impl Method {
    /// The one way to do what is asked for.
    pub fn of(asked: &Asked) -> Self {
        let user_probe =
            matches!(asked.interface, Interface::GetStackUprobe | Interface::GetStackSleepable);
        let spins = (Leaf::Spin, Spot::Loop(Leaf::Spin));
        let acts = |leaf| (leaf, Spot::Act(leaf));
        let (source, (leaf, spot), level) = match asked.context {
            Context::Process if user_probe => {
                (Source::UserProbe, acts(Leaf::Passes), Level::Process)
            }
            Context::Process => (Source::SysEnter, acts(Leaf::SystemCalls), Level::Process),
            Context::Softirq => (Source::SoftirqEntry, spins, Level::Softirq),
            Context::Hardirq => (Source::CpuClock, spins, Level::Hardirq),
            // It may be switched away from anywhere, not only where it yields.
            Context::RqLock => (
                Source::SchedSwitch,
                (Leaf::SystemCalls, Spot::Loop(Leaf::SystemCalls)),
                Level::RqLock,
            ),
            Context::PageFault => (Source::Fault, acts(Leaf::Faults), Level::PageFault),
            Context::PageFaultLocked => (Source::FaultServed, acts(Leaf::Faults), Level::PageFault),
            Context::Nmi => (NMI, spins, Level::Nmi),
        };
        Self {
            source,
            ask: match asked.interface {
                Interface::GetStack | Interface::GetStackUprobe | Interface::GetStackSleepable => {
                    Ask::Stack
                }
                Interface::GetStackid => Ask::Stackid,
                Interface::GetTaskStack => Ask::TaskStack,
            },
            sleepable: asked.interface == Interface::GetStackSleepable,
            leaf,
            spot,
            system_call: match source {
                Source::SchedSwitch => SystemCall::SchedYield,
                _ => SystemCall::Getppid,
            },
            level,
            interrupts_off: matches!(level, Level::Hardirq | Level::RqLock | Level::Nmi),
            period_ns: asked.period_us.map(|us| u64::from(us) * 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::params::tests::{CONTEXTS, asked};
    use super::*;

    /// Every context has a way to be sampled, and comes from another event than every
    /// other one.
    #[test]
    fn every_context_can_be_sampled() {
        let methods = CONTEXTS.map(|context| Method::of(&asked(context)));
        for (index, method) in methods.iter().enumerate() {
            assert!(methods[..index].iter().all(|other| other.source != method.source));
        }
    }

    /// Where interrupts are on, the unlock work explains nothing.
    #[test]
    fn the_unlock_work_matters_with_interrupts_off() {
        for (context, off) in [
            (Context::Process, false),
            (Context::Softirq, false),
            (Context::PageFault, false),
            (Context::PageFaultLocked, false),
            (Context::Hardirq, true),
            (Context::RqLock, true),
            (Context::Nmi, true),
        ] {
            assert_eq!(Method::of(&asked(context)).interrupts_off, off, "{context:?}");
        }
    }
}
