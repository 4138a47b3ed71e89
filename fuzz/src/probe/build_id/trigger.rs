// SPDX-License-Identifier: MIT OR Apache-2.0
//! What takes the samples: attached, started, paused, and asked how many events
//! passed without a sample.

use std::os::fd::OwnedFd;

use super::method::{Method, Source};
use super::wait_until;
use crate::chance::Chance;
use crate::failure::Failure;
use crate::sys;
use crate::sys::bpf::Program;
use crate::sys::perf::Event;
use crate::sys::sampled::{Leaf, Work};

/// Events that passed without a run, from two totals that wobble by one against
/// each other: only a lag never seen before is new.
#[derive(Debug, Default)]
pub struct Lag {
    highest: u64,
}

impl Lag {
    fn missed(&mut self, due: u64, runs: u64) -> u64 {
        let lag = due.saturating_sub(runs);
        let missed = lag.saturating_sub(self.highest);
        self.highest = self.highest.max(lag);
        missed
    }
}

/// How events are counted that should have been sampled.
#[derive(Debug)]
enum Count {
    /// Each act of the leaf is one.
    Acts { before: u64 },
    /// The event counts what it samples, one every so many.
    Event { period: u64, runs: u64, lag: Lag },
    /// The kernel counts the runs it skipped.
    Skipped { before: u64 },
}

/// What takes the samples.
#[derive(Debug)]
pub struct Trigger {
    /// Ends when dropped.
    _link: Option<OwnedFd>,
    event: Option<Event>,
    count: Count,
    /// Started and paused with each round, or left on.
    switched: bool,
    /// Draws when a round begins.
    chance: Chance,
    /// Nanoseconds within which it begins, anywhere.
    phase_ns: u64,
}

/// How far the period of a visit may be from the one asked for, either way: what else
/// has a period (the tick) then falls out of step with it.
const PERIODS_WITHIN: f64 = 0.1;
/// The longest that a round's beginning is put off: the longest tick there is.
const LONGEST_PHASE_NS: u64 = 10_000_000;
/// The kernel makes a shorter period this long.
const SHORTEST_NS: u64 = 10_000;

impl Trigger {
    /// Attaches the program for one thread. `leaf`: the file of the leaf, and the
    /// place of its act there, for a user probe.
    ///
    /// A timer's or the PMU's period is drawn once, here, and not for each block: the
    /// event carries what is left of a period from round to round, and what is missed
    /// is counted by it.
    pub fn attach(
        method: &Method,
        program: &Program,
        thread: u32,
        leaf: Option<&(String, u64)>,
        mut chance: Chance,
    ) -> Result<Self, Failure> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |e: std::io::Error| Failure::at(what, &e)
        };
        let period_ns =
            method.period_ns.map(|period| chance.around(period, PERIODS_WITHIN).max(SHORTEST_NS));
        let needs_period = || Failure::new("this event needs a period");
        let acts = Count::Acts { before: 0 };
        let tracepoint = |name: &str, count| {
            let link = program
                .attach_raw_tracepoint(name)
                .map_err(failed(&format!("attaching to the raw tracepoint {name}")))?;
            let chance = chance.clone();
            Ok(Self { _link: Some(link), event: None, count, switched: false, chance, phase_ns: 0 })
        };
        let sampled = |event: Event, what: &str, count, switched: bool| {
            event.attach(program).map_err(failed(&format!("attaching to {what}")))?;
            if !switched {
                event.enable().map_err(failed(&format!("enabling {what}")))?;
            }
            let phase_ns = period_ns.unwrap_or(0).min(LONGEST_PHASE_NS);
            let chance = chance.clone();
            Ok(Self { _link: None, event: Some(event), count, switched, chance, phase_ns })
        };
        let skipped = Count::Skipped { before: 0 };
        match method.source {
            Source::SysEnter => tracepoint("sys_enter", acts),
            Source::SoftirqEntry => tracepoint("softirq_entry", skipped),
            Source::SchedSwitch => tracepoint("sched_switch", skipped),
            Source::NmiHandler => tracepoint("nmi_handler", skipped),
            Source::UserProbe => {
                let (path, offset) =
                    leaf.ok_or_else(|| Failure::new("there is no place for a user probe"))?;
                let event = Event::user_probe(thread, path, *offset)
                    .map_err(failed("placing the user probe"))?;
                sampled(event, "the user probe", acts, false)
            }
            Source::Fault => {
                let event =
                    Event::page_faults(thread).map_err(failed("opening the page-faults event"))?;
                sampled(event, "the page-faults event", acts, false)
            }
            Source::FaultServed => {
                let event = Event::page_faults_served(thread)
                    .map_err(failed("opening the page-faults-min event"))?;
                sampled(event, "the page-faults-min event", acts, false)
            }
            Source::CpuClock => {
                let period = period_ns.ok_or_else(needs_period)?;
                let event = Event::cpu_clock(thread, period)
                    .map_err(failed("opening the cpu-clock event"))?;
                let count = Count::Event { period, runs: 0, lag: Lag::default() };
                sampled(event, "the cpu-clock event", count, true)
            }
            Source::Cycles => {
                let period = period_ns.ok_or_else(needs_period)?;
                let period = cycles_in(period)?;
                let event = Event::cycles(thread, Some(period))
                    .map_err(failed("opening the PMU's cycles event"))?;
                let count = Count::Event { period, runs: 0, lag: Lag::default() };
                sampled(event, "the PMU's cycles event", count, true)
            }
        }
    }

    /// Waits for a moment that has nothing to do with what else goes on. Where the
    /// sampled thread makes the events, its own paces see to that.
    pub fn wait_for_phase(&mut self) {
        if self.switched {
            let wait = self.chance.below(self.phase_ns);
            sys::sleep_until(sys::monotonic_ns() + wait);
        }
    }

    /// Lets the samples begin.
    pub fn start(&mut self, work: &Work, program: &Program, leaf: Leaf) -> Result<(), Failure> {
        match &mut self.count {
            Count::Acts { before } => *before = work.acts(),
            Count::Skipped { before } => *before = skipped_runs(program)?,
            Count::Event { .. } => {}
        }
        if leaf != Leaf::Spin {
            work.go(true);
            wait_until("the sampled thread to start", || work.is_busy())?;
        }
        match &self.event {
            Some(event) if self.switched => {
                event.enable().map_err(|e| Failure::at("enabling the event", &e))
            }
            _ => Ok(()),
        }
    }

    /// Ends them: of the sampled thread's own events none comes after this.
    pub fn pause(&self, work: &Work, leaf: Leaf) -> Result<(), Failure> {
        if let Some(event) = &self.event
            && self.switched
        {
            event.disable().map_err(|e| Failure::at("disabling the event", &e))?;
        }
        if leaf != Leaf::Spin {
            work.go(false);
            wait_until("the sampled thread to pause", || !work.is_busy())?;
        }
        Ok(())
    }

    /// Whether an event may still come when the sampled thread has paused.
    pub fn lingers(&self) -> bool {
        matches!(self.count, Count::Skipped { .. })
    }

    /// Events of the round that ends now for which the program did not run, of
    /// which there were `runs`.
    pub fn missed(&mut self, work: &Work, program: &Program, runs: u64) -> Result<u64, Failure> {
        match (&mut self.count, &self.event) {
            (Count::Acts { before }, _) => Ok((work.acts() - *before).saturating_sub(runs)),
            (Count::Skipped { before }, _) => Ok(skipped_runs(program)?.saturating_sub(*before)),
            (Count::Event { period, runs: all, lag }, Some(event)) => {
                *all += runs;
                let counted = event.count().map_err(|e| Failure::at("reading the event", &e))?;
                Ok(lag.missed(counted / *period, *all))
            }
            (Count::Event { .. }, None) => Ok(0),
        }
    }
}

fn skipped_runs(program: &Program) -> Result<u64, Failure> {
    program.recursion_misses().map_err(|e| Failure::at("reading the program's fdinfo", &e))
}

/// Cycles of the PMU in this much time, measured on the calling thread: an
/// emulated one counts at a rate of its own.
fn cycles_in(period_ns: u64) -> Result<u64, Failure> {
    let failed = |e: std::io::Error| Failure::at("counting the PMU's cycles", &e);
    let event = Event::cycles(sys::thread_id(), None).map_err(failed)?;
    let start = sys::monotonic_ns();
    event.enable().map_err(failed)?;
    let mut now = start;
    while now < start + 20_000_000 {
        now = sys::monotonic_ns();
    }
    event.disable().map_err(failed)?;
    let cycles = event.count().map_err(failed)?;
    let period = u128::from(cycles) * u128::from(period_ns) / u128::from((now - start).max(1));
    match u64::try_from(period) {
        Ok(0) => Err(Failure::new("the PMU counts no cycles")),
        Ok(period) => Ok(period),
        Err(_) => Err(Failure::new("the PMU counts too many cycles")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two totals that wobble by one against each other do not add up to misses.
    #[test]
    fn wobble_is_not_missed() {
        let mut lag = Lag::default();
        assert_eq!(lag.missed(10, 10), 0);
        assert_eq!(lag.missed(21, 20), 1);
        assert_eq!(lag.missed(30, 31), 0);
        assert_eq!(lag.missed(41, 40), 0);
        assert_eq!(lag.missed(50, 45), 4);
    }
}
