// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long a guest may take and how much it may say.

use std::time::{Duration, Instant};

use bakeoff_fuzz::wire::{STEP_SILENCE_MS, Step, Workload};

use crate::machine::accel::Accel;
use crate::machine::listen::TICK;

/// For what is still under way when QEMU has ended.
pub(super) const DRAIN: Duration = Duration::from_secs(5);
/// Most that one look at the clock may add: a runner that was stopped, or a
/// laptop that slept, must not count against the guest.
const LONGEST_STEP: Duration = Duration::from_secs(1);

/// A console that has been quiet for this long has finished printing a report.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a guest may take and how much it may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Power-on to Hello.
    pub hello: Duration,
    /// Without a record, beyond the time of one block; what the console says does
    /// not count.
    pub silence: Duration,
    /// Most that a report may take to be printed.
    pub printing: Duration,
    /// Without a record once the kernel has reported that it is stuck.
    pub after_report: Duration,
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

/// A boot may take this many times what its steps should take.
const PATIENCE: u32 = 3;

/// [`Limits::after_report`] of a kernel that is known to hang behind a report.
const AFTER_KNOWN_REPORT: Duration = Duration::from_secs(10);

impl Limits {
    /// The limits for a workload that should take `expected`. What scales is what the
    /// guest has to compute; how long a block or a silence may be, its own clock says,
    /// and that is as fast as ours.
    #[must_use]
    pub fn new(accel: Accel, workload: &Workload, expected: Duration) -> Limits {
        let slowness = match accel {
            Accel::Kvm => 1,
            Accel::Tcg => 4,
        };
        let scaled = |seconds: u64| Duration::from_secs(seconds * slowness);
        // The agent gives up a silent step after this; then it has 12 seconds to end
        // the step's process, and says so in a record.
        let given_up = Duration::from_millis(STEP_SILENCE_MS.into());
        let margin = Duration::from_secs(16) + scaled(4);
        let silence = given_up + margin;
        let hello = scaled(30);
        // Even a step that takes all the time it may is not cut.
        let longest = workload.steps.iter().map(step_time).max().unwrap_or_default();
        Limits {
            hello,
            silence,
            printing: Duration::from_secs(10),
            // A block takes a few seconds at most, and QEMU's clock is as fast as ours.
            after_report: Duration::from_secs(20),
            total: hello + expected * PATIENCE + longest + silence,
            after_panic: scaled(5),
            after_shutdown: scaled(5),
            console_bytes: 128 << 20,
            records_bytes: 256 << 20,
            expected,
        }
    }

    /// The limits for a kernel of which a boot hung behind a report, if one did: the next one
    /// is not waited for as long.
    #[must_use]
    pub fn after_hangs(self, hangs: usize) -> Limits {
        let after_report = match hangs {
            0 => self.after_report,
            _ => self.after_report.min(AFTER_KNOWN_REPORT),
        };
        Limits { after_report, ..self }
    }
}

/// What each visit of a workload does.
pub(super) fn steps(workload: &Workload) -> impl Iterator<Item = &Step> {
    let step = |id: &u32| workload.steps.iter().find(|step| step.id == *id);
    workload.visits.iter().filter_map(step)
}

/// Blocks that a workload asks for.
pub(super) fn blocks(workload: &Workload) -> u64 {
    steps(workload).map(|step| u64::from(step.blocks)).sum()
}

/// The longest that one block of a step may take.
pub(super) fn block_time(step: &Step) -> Duration {
    Duration::from_millis(step.block_ms.into())
}

/// The longest that all blocks of a step may take.
fn step_time(step: &Step) -> Duration {
    block_time(step).saturating_mul(step.blocks)
}

/// Time as the guest had it: steps of the clock, each cut to a second.
#[derive(Debug)]
pub(super) struct Clock {
    last: Instant,
    total: Duration,
    /// Since the last record.
    silent: Duration,
    /// Since the console last said something.
    quiet: Duration,
    /// Since the console began to say what was not looked at yet.
    unread: Option<Duration>,
    since_report: Option<Duration>,
    since_panic: Option<Duration>,
    since_shutdown: Option<Duration>,
    unattended: Duration,
}

/// One step of the clock.
pub(super) struct Tick {
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
            silent: Duration::ZERO,
            quiet: Duration::ZERO,
            unread: None,
            since_report: None,
            since_panic: None,
            since_shutdown: None,
            unattended: Duration::ZERO,
        }
    }

    pub(super) fn tick(&mut self) -> Tick {
        let now = Instant::now();
        let step = (now - self.last).min(LONGEST_STEP);
        self.last = now;
        self.total += step;
        self.silent += step;
        self.quiet += step;
        self.unattended += step;
        let since = [
            &mut self.unread,
            &mut self.since_report,
            &mut self.since_panic,
            &mut self.since_shutdown,
        ];
        for since in since.into_iter().flatten() {
            *since += step;
        }
        let looks_up = self.unattended >= TICK;
        if looks_up {
            self.unattended = Duration::ZERO;
        }
        Tick { time: step, looks_up }
    }

    /// The guest sent a record that is progress.
    pub(super) fn progressed(&mut self) {
        self.silent = Duration::ZERO;
        self.since_report = None;
    }

    /// The console said something.
    pub(super) fn printed(&mut self) {
        self.quiet = Duration::ZERO;
        self.unread.get_or_insert_default();
    }

    /// Whether what the console said can be looked at: it pauses, or has been printing
    /// for long enough. True once for what was said until then.
    pub(super) fn looks_at_console(&mut self, printing: Duration) -> bool {
        let due = self.unread.is_some_and(|unread| self.quiet >= PAUSE || unread >= printing);
        if due {
            self.unread = None;
        }
        due
    }

    /// The kernel has reported that it is stuck.
    pub(super) fn reported(&mut self) {
        self.since_report.get_or_insert_default();
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

    /// Without a record.
    pub(super) fn silent(&self) -> Duration {
        self.silent
    }

    pub(super) fn since_report(&self) -> Duration {
        self.since_report.unwrap_or_default()
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
    use crate::run::exercise::protocol::tests::workload;

    const EXPECTED: Duration = Duration::from_secs(100);

    /// Emulated guests get more time, and no guest is given up before the agent
    /// would have given up its step and said so.
    #[test]
    fn limits_scale_with_the_accelerator() {
        let kvm = Limits::new(Accel::Kvm, &workload(), EXPECTED);
        let tcg = Limits::new(Accel::Tcg, &workload(), EXPECTED);
        assert!(tcg.hello > kvm.hello && tcg.silence > kvm.silence && tcg.total > kvm.total);
        let agent = Duration::from_millis(STEP_SILENCE_MS.into()) + Duration::from_secs(12);
        assert!(kvm.silence > agent && tcg.silence > agent);
    }

    /// A guest that is silent, or stuck, is over well within two minutes.
    #[test]
    fn no_silence_takes_two_minutes() {
        let limits = Limits::new(Accel::Tcg, &workload(), EXPECTED);
        assert!(limits.silence <= Duration::from_secs(90));
        assert!(limits.printing + limits.after_report <= Duration::from_secs(60));
    }

    /// One boot is given its time; by the second its kernel is known.
    #[test]
    fn a_kernel_that_hangs_is_known_for_it() {
        let usual = Limits::new(Accel::Tcg, &workload(), EXPECTED);
        assert_eq!(usual.after_hangs(0), usual);
        let known = usual.after_hangs(1);
        assert!(known.after_report < usual.after_report);
        assert_eq!(Limits { after_report: usual.after_report, ..known }, usual);
        assert_eq!(usual.after_hangs(9), known);
    }

    /// A boot of many steps gets a small multiple of what they should take, not the
    /// sum of all that each of them may take.
    #[test]
    fn many_steps_do_not_add_up_their_patience() {
        let mut many = workload();
        many.steps[0].blocks = 40;
        many.steps[0].block_ms = 2000;
        let one = many.clone();
        many.visits = vec![many.visits[0]; 60];
        let limits = |workload| Limits::new(Accel::Tcg, workload, EXPECTED);
        assert_eq!(limits(&many).total, limits(&one).total);
        assert!(limits(&many).total < EXPECTED * 4 + Duration::from_secs(300));
        assert!(limits(&one).total > step_time(&one.steps[0]));
    }

    /// A runner that was stopped for an hour does not call its guest hung.
    #[test]
    fn stopped_runner_is_not_the_guests_silence() {
        let mut clock = Clock::start();
        let Some(hour_ago) = clock.last.checked_sub(Duration::from_secs(3600)) else { return };
        clock.last = hour_ago;
        clock.tick();
        assert_eq!(clock.silent(), LONGEST_STEP);
    }

    /// What the console said is looked at once: when it pauses, or after a while.
    #[test]
    fn console_is_looked_at_when_it_pauses() {
        let mut clock = Clock::start();
        assert!(!clock.looks_at_console(Duration::ZERO), "it said nothing");
        clock.printed();
        assert!(!clock.looks_at_console(NEVER));
        clock.quiet = PAUSE;
        assert!(clock.looks_at_console(NEVER));
        assert!(!clock.looks_at_console(NEVER));
        clock.printed();
        assert!(clock.looks_at_console(Duration::ZERO));
    }

    /// A record ends what a report has begun.
    #[test]
    fn progress_outweighs_a_report() {
        let mut clock = Clock::start();
        clock.reported();
        clock.since_report = Some(NEVER);
        clock.progressed();
        assert_eq!((clock.since_report(), clock.silent()), (Duration::ZERO, Duration::ZERO));
    }

    const NEVER: Duration = Duration::from_secs(1 << 20);
}
