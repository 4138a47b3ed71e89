// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a step's samples are taken, and which steps make no sense. Pure.
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

use crate::interrupt::Level;
use crate::failure::Failure;
use crate::sys::sampled::{Leaf, Spot, SystemCall};
use crate::wire::{Context, Interface, Stack, Step, Stress};

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

/// How a step's samples are taken.
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
    /// Asked distance between samples.
    pub period_ns: Option<u64>,
}

/// Where NMIs come from differs.
const NMI: Source = if cfg!(target_arch = "aarch64") { Source::Cycles } else { Source::NmiHandler };

impl Method {
    /// The one way to do what the step asks for.
    pub fn of(step: &Step) -> Result<Self, Failure> {
        refuse(step)?;
        let user_probe =
            matches!(step.interface, Interface::GetStackUprobe | Interface::GetStackSleepable);
        let spins = (Leaf::Spin, Spot::Loop(Leaf::Spin));
        let acts = |leaf| (leaf, Spot::Act(leaf));
        let (source, (leaf, spot), level) = match step.context {
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
        Ok(Self {
            source,
            ask: match step.interface {
                Interface::GetStack | Interface::GetStackUprobe | Interface::GetStackSleepable => {
                    Ask::Stack
                }
                Interface::GetStackid => Ask::Stackid,
                Interface::GetTaskStack => Ask::TaskStack,
            },
            sleepable: step.interface == Interface::GetStackSleepable,
            leaf,
            spot,
            system_call: match source {
                Source::SchedSwitch => SystemCall::SchedYield,
                _ => SystemCall::Getppid,
            },
            level,
            interrupts_off: matches!(level, Level::Hardirq | Level::RqLock | Level::Nmi),
            period_ns: step.period_us.map(|us| u64::from(us) * 1000),
        })
    }
}

/// Says why a step makes no sense, though each of its words is known.
pub fn refuse(step: &Step) -> Result<(), Failure> {
    let no = |why: &str| Err(Failure::new(why));
    match (step.interface, step.context) {
        (Interface::GetStackUprobe | Interface::GetStackSleepable, context)
            if context != Context::Process =>
        {
            return no("a user probe runs in process context: no other can be asked of it");
        }
        _ => {}
    }
    match (step.stress, step.writer_duty) {
        (Stress::MmapWriters, None) => return no("stress mmap-writers needs a writer_duty"),
        (Stress::MmapWriters, Some(duty)) if !(1..=100).contains(&duty) => {
            return Err(Failure::new(format!("writer_duty is {duty}, not between 1 and 100")));
        }
        (Stress::MmapWriters, Some(_)) => {}
        (Stress::Idle | Stress::Oversubscribed | Stress::Flip | Stress::PageOut, Some(_)) => {
            return no("writer_duty belongs to stress mmap-writers, where there is a writer");
        }
        (Stress::Idle | Stress::Oversubscribed | Stress::Flip | Stress::PageOut, None) => {}
    }
    match (step.stress, step.stack) {
        (Stress::PageOut, Stack::Deep) => {
            return no("stress page-out takes the page of one object away, and a deep stack has \
                       two: take stack short or one");
        }
        (Stress::PageOut, Stack::Short | Stack::One) => {}
        (Stress::Idle | Stress::MmapWriters | Stress::Oversubscribed | Stress::Flip, _) => {}
    }
    match (step.context, step.period_us) {
        (Context::Softirq, Some(_)) => {
            no("context softirq knows no period: the kernel serves softirqs when there are some")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::probe::build_id::PROBE;
    use crate::wire::Stop;

    pub fn step(context: Context) -> Step {
        let reach = PROBE.contexts.iter().find(|reach| reach.context == context).unwrap();
        Step {
            id: 0,
            probe: PROBE.name.to_owned(),
            context,
            stress: Stress::Idle,
            period_us: reach.shortest_period_us,
            blocks: 1,
            calls_per_block: 1,
            block_ms: 1,
            interface: Interface::default(),
            stack: Stack::default(),
            writer_duty: None,
            stop: Stop::default(),
        }
    }

    /// Every context in the table has a way to be sampled, and proves another level
    /// or comes from another event than every other one.
    #[test]
    fn every_context_in_the_table_can_be_sampled() {
        let methods: Vec<Method> =
            PROBE.contexts.iter().map(|reach| Method::of(&step(reach.context)).unwrap()).collect();
        for (index, method) in methods.iter().enumerate() {
            assert!(methods[..index].iter().all(|other| other.source != method.source));
        }
    }

    /// What cannot be is refused with the reason.
    #[test]
    fn senseless_steps_are_refused_with_words() {
        let reason = |step: &Step| crate::probe::check(step).unwrap_err().to_string();
        let process = step(Context::Process);
        assert!(crate::probe::check(&process).is_ok());

        let hardirq = step(Context::Hardirq);
        for interface in [Interface::GetStackUprobe, Interface::GetStackSleepable] {
            assert!(reason(&Step { interface, ..hardirq.clone() }).contains("process context"));
            assert!(crate::probe::check(&Step { interface, ..process.clone() }).is_ok());
        }
        let writers = Step { stress: Stress::MmapWriters, ..process.clone() };
        assert!(reason(&writers).contains("needs a writer_duty"));
        let duty = |duty| Step { writer_duty: Some(duty), ..writers.clone() };
        assert!(reason(&duty(0)).contains("writer_duty is 0"));
        assert!(reason(&duty(101)).contains("writer_duty is 101"));
        assert!(crate::probe::check(&duty(50)).is_ok());
        assert!(reason(&Step { writer_duty: Some(5), ..process.clone() }).contains("mmap-writers"));
        let out = Step { stress: Stress::PageOut, stack: Stack::Deep, ..process.clone() };
        assert!(reason(&out).contains("deep"));
        assert!(crate::probe::check(&Step { stack: Stack::One, ..out }).is_ok());
        let softirq = Step { period_us: Some(1000), ..step(Context::Softirq) };
        assert!(reason(&softirq).contains("no period"));
        assert!(reason(&Step { period_us: None, ..hardirq.clone() }).contains("needs a period"));
        assert!(reason(&Step { period_us: Some(9), ..hardirq }).contains("less than"));
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
            assert_eq!(Method::of(&step(context)).unwrap().interrupts_off, off, "{context:?}");
        }
    }
}
