// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long a guest may take and how much it may say.

use std::time::{Duration, Instant};

use bakeoff_fuzz::wire::{STEP_SILENCE_MS, Workload};

use crate::machine::accel::Accel;

/// For what is still under way when QEMU has ended.
pub(super) const DRAIN: Duration = Duration::from_secs(5);
/// Most that one look at the clock may add: a runner that was stopped, or a
/// laptop that slept, must not count against the guest.
const LONGEST_STEP: Duration = Duration::from_secs(1);
/// How often the guest is looked after when nothing comes from it.
pub(super) const TICK: Duration = Duration::from_millis(20);

/// How long a guest may take and how much it may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Power-on to Hello.
    pub hello: Duration,
    /// Without a record and without anything new on the console.
    pub silence: Duration,
    /// Power-on to the end.
    pub total: Duration,
    /// From the panic's line to the end of what it prints.
    pub after_panic: Duration,
    /// From QEMU's SHUTDOWN to its exit.
    pub after_shutdown: Duration,
    /// Bytes on the console; more is a flood of something.
    pub console_bytes: u64,
    /// Bytes of records; more is nonsense.
    pub records_bytes: u64,
    /// What it will probably take, for the progress display.
    pub expected: Duration,
}

impl Limits {
    /// The limits for a workload. Emulation is about ten times slower, but what
    /// takes long are sampling windows, whose length is the guest's own clock's.
    #[must_use]
    pub fn new(accel: Accel, workload: &Workload) -> Limits {
        let slowness = match accel {
            Accel::Kvm => 1,
            Accel::Tcg => 4,
        };
        let scaled = |seconds: u64| Duration::from_secs(seconds * slowness);
        let longest = workload.steps.iter().map(|step| step.block_ms).max().unwrap_or(0);
        let spoken = Duration::from_millis(u64::from(longest) + u64::from(STEP_SILENCE_MS));
        let windows: Duration = workload
            .steps
            .iter()
            .map(|step| Duration::from_millis(u64::from(step.block_ms)) * step.blocks)
            .sum();
        let steps = u32::try_from(workload.steps.len()).unwrap_or(u32::MAX);
        let hello = scaled(30);
        Limits {
            hello,
            silence: spoken + scaled(15),
            total: hello + windows * 2 + (spoken + scaled(10)).saturating_mul(steps + 1),
            after_panic: scaled(5),
            after_shutdown: scaled(5),
            console_bytes: 128 << 20,
            records_bytes: 256 << 20,
            // Blocks are complete long before their time is up, as a rule.
            expected: scaled(1) + windows / 4,
        }
    }
}

/// Time as the guest had it: steps of the clock, each cut to a second.
#[derive(Debug)]
pub(super) struct Clock {
    last: Instant,
    total: Duration,
    quiet: Duration,
    since_panic: Option<Duration>,
    since_shutdown: Option<Duration>,
    unattended: Duration,
}

/// One step of the clock.
pub(super) struct Step {
    /// How long it was.
    pub time: Duration,
    /// Time to see whether QEMU still runs.
    pub looks_up: bool,
}

impl Clock {
    pub(super) fn start() -> Clock {
        Clock {
            last: Instant::now(),
            total: Duration::ZERO,
            quiet: Duration::ZERO,
            since_panic: None,
            since_shutdown: None,
            unattended: Duration::ZERO,
        }
    }

    pub(super) fn tick(&mut self) -> Step {
        let now = Instant::now();
        let step = (now - self.last).min(LONGEST_STEP);
        self.last = now;
        self.total += step;
        self.quiet += step;
        self.unattended += step;
        for since in [&mut self.since_panic, &mut self.since_shutdown].into_iter().flatten() {
            *since += step;
        }
        let looks_up = self.unattended >= TICK;
        if looks_up {
            self.unattended = Duration::ZERO;
        }
        Step { time: step, looks_up }
    }

    /// The guest said something.
    pub(super) fn heard(&mut self) {
        self.quiet = Duration::ZERO;
    }

    /// There is a panic on the console.
    pub(super) fn panicked(&mut self) {
        self.since_panic.get_or_insert_default();
    }

    /// QEMU told the guest's end.
    pub(super) fn shut_down(&mut self) {
        self.since_shutdown.get_or_insert_default();
    }

    pub(super) fn total(&self) -> Duration {
        self.total
    }

    pub(super) fn quiet(&self) -> Duration {
        self.quiet
    }

    pub(super) fn since_panic(&self) -> Duration {
        self.since_panic.unwrap_or_default()
    }

    pub(super) fn since_shutdown(&self) -> Duration {
        self.since_shutdown.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Emulated guests get more time, and no guest is given up before the agent
    /// would give up its step.
    #[test]
    fn limits_scale_with_the_accelerator() {
        let workload = Workload { wire: 1, boot: "0-000".into(), seed: 0, steps: Vec::new() };
        let kvm = Limits::new(Accel::Kvm, &workload);
        let tcg = Limits::new(Accel::Tcg, &workload);
        assert!(tcg.hello > kvm.hello && tcg.silence > kvm.silence && tcg.total > kvm.total);
        assert!(kvm.silence > Duration::from_millis(STEP_SILENCE_MS.into()));
    }

    /// A runner that was stopped for an hour does not call its guest hung.
    #[test]
    fn stopped_runner_is_not_the_guests_silence() {
        let mut clock = Clock::start();
        let Some(hour_ago) = clock.last.checked_sub(Duration::from_secs(3600)) else { return };
        clock.last = hour_ago;
        clock.tick();
        assert_eq!(clock.quiet(), LONGEST_STEP);
    }
}
