// SPDX-License-Identifier: MIT OR Apache-2.0
//! Boots a guest, listens until it ends, and says how it ended.
//!
//! Everything the guest says goes to the boot's folder as it comes; `end.json`
//! is written last and completes the boot. How a boot ended ([`BootEnd`]) is a
//! result of the candidate's kernel. What is ours is an [`Error`] and
//! completes nothing: a guest that does not fit this program, records that break the
//! rules, a full disk. A QEMU that crashed or was killed costs the boot, which is then
//! done again.
//!
//! Progress is records. A guest that prints without end is no more alive than a silent
//! one, and one whose kernel reports that it is stuck gets even less time.

mod ending;
mod files;
mod limits;
mod nmi;
mod protocol;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use bakeoff_fuzz::wire::{Hello, Record, StepOutcome, Workload};

use crate::base::command::Cancel;
use crate::base::error::{Context, Error, Kind, Result};
use crate::base::event::{Events, Stage, Task};
use crate::keep::store::{self, BootEnd, BootId, ConsoleReport, EndJson, Store, write_json};
use crate::machine::accel::Accel;
use crate::machine::boot::{self, Files, Guest, Machine};
use crate::machine::listen::{Console, Happening, Listener};
use crate::machine::qmp::QmpEvent;
use crate::make::guest::GuestBinaries;

use ending::{Fault, Seen, Stop};
use files::BootFiles;
pub use limits::Limits;
use nmi::Injector;
pub use protocol::Protocol;

/// Boots of which one has to bring up a guest that is fit to be measured, and keep it
/// so. Long boots on x86_64 were seen to be lost to TCG about once in three.
const TRIES: u32 = 12;
/// Times a boot is done again because its QEMU crashed or was killed. Once can be
/// chance; a QEMU that always crashes is something to look into.
const AGAIN: u32 = 3;

/// Looks at the console while it comes.
pub trait ConsoleWatch {
    /// A console begins. An unfit guest is booted again: what its console said
    /// does not count.
    fn begin(&mut self);

    /// Takes the next bytes; lines may be cut anywhere.
    fn push(&mut self, bytes: &[u8]);

    /// The console pauses, or has been printing for long: reports that were begun are
    /// taken as they are.
    fn pause(&mut self);

    /// Set once one report has come so often that more of it says nothing new.
    fn flood(&self) -> Option<Flood>;

    /// New reports, since this was last asked, that bode ill for the next record.
    fn troubles(&mut self) -> Vec<Trouble>;
}

/// A report of a kernel that may not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The report.
    pub report: ConsoleReport,
    /// The kernel says that it is stuck; else it lost a task, and may well go on.
    pub stuck: bool,
}

/// One report, over and over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flood {
    /// Its headline.
    pub title: String,
    /// How often it was seen.
    pub count: u64,
}

#[cfg(test)]
/// A watch that sees nothing; the console's limit of bytes still holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoWatch;

#[cfg(test)]
impl ConsoleWatch for NoWatch {
    fn begin(&mut self) {}

    fn push(&mut self, _bytes: &[u8]) {}

    fn pause(&mut self) {}

    fn flood(&self) -> Option<Flood> {
        None
    }

    fn troubles(&mut self) -> Vec<Trouble> {
        Vec::new()
    }
}

/// One boot to do.
#[derive(Clone, Debug)]
pub struct Exercise<'a> {
    /// The run it belongs to.
    pub store: &'a Store,
    /// Its name.
    pub id: &'a BootId,
    /// The virtual machine.
    pub machine: Machine<'a>,
    /// The kernel's image.
    pub kernel: &'a Path,
    /// What runs in it.
    pub binaries: &'a GuestBinaries,
    /// What it is asked to do.
    pub workload: &'a Workload,
    /// How long it may take, and how much it may say.
    pub limits: Limits,
}

/// A boot that was done.
#[derive(Clone, Debug)]
pub struct Run {
    /// As it stands in `end.json`.
    pub end: EndJson,
    /// What the guest said it is.
    #[cfg(test)]
    pub hello: Option<Hello>,
}

/// Does one boot. What an earlier, killed run left of it is replaced.
///
/// # Errors
/// Everything that is not the kernel's doing; the boot is then not complete.
pub fn exercise(
    order: &Exercise<'_>,
    watch: &mut dyn ConsoleWatch,
    events: &Events,
    cancel: &Cancel,
) -> Result<Run> {
    let what = format!("{} {}", order.id.cell, order.id.name);
    let expected = Some(order.limits.expected);
    let task = events.start(Stage::Boot, &what, expected);
    match tries(order, watch, &task, events, cancel) {
        Ok(run) => {
            task.finish(word_of(&run.end.end));
            Ok(run)
        }
        Err(error) if error.kind() == Kind::Interrupted => Err(error),
        Err(error) => {
            task.finish("lost, by an error of ours");
            Err(error).context(|| format!("boot {what}"))
        }
    }
}

/// Boots until a guest comes up that is fit to be measured, under a QEMU that lives. A
/// busy host makes guests lose timer interrupts, and with them their timers or a CPU.
fn tries(
    order: &Exercise<'_>,
    watch: &mut dyn ConsoleWatch,
    task: &Task,
    events: &Events,
    cancel: &Cancel,
) -> Result<Run> {
    let (mut unfit, mut lost) = (0, 0);
    loop {
        watch.begin();
        let files = BootFiles::create(order.store, order.id)?;
        let why = match boot_once(order, files, watch, task, cancel)? {
            Boot::Done(run) => return Ok(*run),
            Boot::Unfit(why) => {
                unfit += 1;
                if unfit == TRIES {
                    return Err(Error::failure(format!("{why}, in {TRIES} boots"))
                        .hint("the host may be too busy: give it less to do at once"));
                }
                why
            }
            Boot::NoQemu(error) => {
                lost += 1;
                if lost > AGAIN {
                    return Err(error.hint(format!(
                        "the boot was tried {lost} times; look for what ends QEMU on this host \
                         (out of memory?), then `bakeoff resume` the run"
                    )));
                }
                error.chain()
            }
        };
        let id = order.id;
        events.warning(format!("{} {}: {why}; it is booted again", id.cell, id.name));
    }
}

/// What became of one try.
enum Boot {
    Done(Box<Run>),
    Unfit(String),
    /// QEMU crashed, or somebody on the host ended it.
    NoQemu(Error),
}

fn boot_once(
    order: &Exercise<'_>,
    files: BootFiles,
    watch: &mut dyn ConsoleWatch,
    task: &Task,
    cancel: &Cancel,
) -> Result<Boot> {
    let initramfs = files.initramfs();
    order.binaries.write_initramfs(order.workload, initramfs.path())?;
    let (tell, told) = std::sync::mpsc::channel();
    let (guest, outlets) =
        Guest::start(&order.machine, order.kernel, initramfs.path(), cancel, move |event| {
            // Nobody listens any more once the boot was given up.
            let _ = tell.send(event);
        })?;
    let mut session = Session {
        order,
        listener: Listener::start(outlets, told)?,
        guest,
        files,
        watch,
        task,
        console: Console::default(),
        protocol: Protocol::new(order.workload, order.machine.cpus),
        progress: Progress::default(),
        shutdown: None,
        injector: None,
    };
    let stop = session.listen(cancel)?;
    let end = match (session.protocol.misfit(), session.stale_breakpoint()) {
        (Some(why), _) => return Ok(Boot::Unfit(why.to_owned())),
        (None, Some((why, _))) if session.progress.done.is_empty() => {
            return Ok(Boot::Unfit(why));
        }
        // What it has finished was before that, and is worth having.
        (None, Some((reason, console_offset))) => {
            session.stop_now()?;
            BootEnd::Lost { reason, console_offset }
        }
        (None, None) => match session.end(stop)? {
            Ok(end) => end,
            Err(Fault::Emulator(error)) => return Ok(Boot::NoQemu(error)),
            Err(Fault::Agent(error)) => return Err(error),
        },
    };
    // A runner that is killed once the boot is complete leaves nothing else in its folder.
    drop(initramfs);
    session.complete(end).map(|run| Boot::Done(Box::new(run)))
}

/// What is known of a boot in progress, beside its files.
#[derive(Debug, Default)]
struct Progress {
    hello: Option<Hello>,
    hello_after: Option<Duration>,
    done: Vec<u32>,
    blocks: u64,
    ended: bool,
    injected: Vec<store::Injected>,
    /// The step that has begun and not ended.
    step: Option<u32>,
    /// The kernel's first bad report since the last progress.
    report: Option<ConsoleReport>,
    /// One of the reports since then said that the kernel is stuck.
    stuck: bool,
    /// The last such report before that.
    earlier: Option<ConsoleReport>,
    /// The agent gave up this step after such a report: that is how it hangs.
    gave_up_step: bool,
    /// The first step that failed since a block was taken or a step was done. If the
    /// kernel reports later that it is stuck, this is where it got stuck.
    failed: Option<u32>,
}

impl Progress {
    /// There is news: what was reported before has not stopped the guest.
    fn go_on(&mut self) {
        self.earlier = self.report.take().or(self.earlier.take());
        self.stuck = false;
    }

    fn trouble(&mut self, trouble: Trouble) {
        self.report.get_or_insert(trouble.report);
        self.stuck |= trouble.stuck;
    }
}

/// A guest that makes no progress.
#[derive(Clone, Debug)]
struct Hang {
    /// For how long there was no record.
    silent: Duration,
    /// In which step.
    step: Option<u32>,
    /// What the kernel said about it.
    report: Option<ConsoleReport>,
}

/// A boot in progress.
struct Session<'a> {
    order: &'a Exercise<'a>,
    guest: Guest,
    listener: Listener,
    files: BootFiles,
    watch: &'a mut dyn ConsoleWatch,
    task: &'a Task,
    console: Console,
    protocol: Protocol,
    progress: Progress,
    shutdown: Option<ending::Shutdown>,
    injector: Option<Injector>,
}

impl Session<'_> {
    /// Listens until the guest is gone or there is a reason to end it.
    fn listen(&mut self, cancel: &Cancel) -> Result<Stop> {
        let mut clock = limits::Clock::start();
        loop {
            let happening = self.listener.next();
            let step = clock.tick();
            if let Some(happening) = happening {
                self.take(happening, &mut clock)?;
            }
            let events = self.listener.events();
            self.take_events(events);
            if clock.looks_at_console(self.order.limits.printing) {
                self.watch.pause();
            }
            for trouble in self.watch.troubles() {
                self.progress.trouble(trouble);
                clock.reported();
            }
            if self.console.panic_line().is_some() {
                clock.panicked();
            }
            if self.shutdown.is_some() {
                clock.shut_down();
            }
            cancel.check()?;
            if (self.listener.is_over() || step.looks_up)
                && let Some(finished) = self.guest.wait_for(Duration::ZERO)?
            {
                self.drain()?;
                return Ok(Stop::Gone { status: finished.status, said: finished.tail });
            }
            if let Some(stop) = self.reason_to_stop(&clock) {
                return Ok(stop);
            }
        }
    }

    /// Why its emulator cannot be believed any more, and from which byte of the console
    /// on that shows.
    fn stale_breakpoint(&self) -> Option<(String, u64)> {
        match self.order.machine.accel {
            Accel::Tcg => self.console.stale_breakpoint(),
            Accel::Kvm => None,
        }
    }

    /// Whether patience is at its end, and over what.
    fn reason_to_stop(&self, clock: &limits::Clock) -> Option<Stop> {
        let limits = &self.order.limits;
        if self.protocol.misfit().is_some() || self.stale_breakpoint().is_some() {
            return Some(Stop::Unfit);
        }
        if let Some(flood) = self.watch.flood() {
            return Some(Stop::Flood(flood));
        }
        if self.files.console_bytes() > limits.console_bytes {
            let title = format!("more than {} MiB on the console", limits.console_bytes >> 20);
            return Some(Stop::Flood(Flood { title, count: self.console.lines() }));
        }
        if self.console.panic_line().is_some() {
            let over = clock.since_panic() > limits.after_panic;
            return over.then_some(Stop::Panicked);
        }
        if self.shutdown.is_some() {
            let over = clock.since_shutdown() > limits.after_shutdown;
            return over.then_some(Stop::DoesNotExit);
        }
        if self.progress.hello.is_none() && clock.total() > limits.hello {
            let report = self.progress.report.as_ref().map(|report| report.title.clone());
            return Some(Stop::NoHello { limit: limits.hello, report });
        }
        if self.progress.hello.is_some() && self.is_stuck(clock) {
            let Progress { step, report, earlier, stuck, failed, .. } = &self.progress;
            return Some(Stop::Hung(Hang {
                silent: clock.silent(),
                step: failed.filter(|_| *stuck).or(*step),
                report: report.as_ref().or(earlier.as_ref()).cloned(),
            }));
        }
        if clock.total() > limits.total {
            return Some(Stop::OutOfTime { limit: limits.total });
        }
        None
    }

    /// Whether no record came for longer than the step may be silent, or for half a
    /// minute after the kernel reported that it is stuck.
    fn is_stuck(&self, clock: &limits::Clock) -> bool {
        let limits = &self.order.limits;
        let steps = &self.order.workload.steps;
        let step = steps.iter().find(|step| Some(step.id) == self.progress.step);
        let block = step.map(limits::block_time).unwrap_or_default();
        self.progress.gave_up_step
            || clock.since_report() > limits.after_report
            || clock.silent() > block + limits.silence
    }

    /// Takes what came from the console or as records.
    fn take(&mut self, happening: Happening, clock: &mut limits::Clock) -> Result<()> {
        match happening {
            Happening::Console { bytes, at } => {
                clock.printed();
                let after = at.saturating_duration_since(self.guest.power_on);
                self.files.console(&bytes, after)?;
                self.watch.push(&bytes);
                self.console.push(&bytes);
            }
            Happening::Records { bytes, at } => {
                self.files.records(&bytes)?;
                if self.files.records_bytes() > self.order.limits.records_bytes {
                    return Err(Error::failure(format!(
                        "the guest sent more than {} MiB of records",
                        self.order.limits.records_bytes >> 20
                    )));
                }
                for record in self.protocol.push(&bytes)? {
                    let after = at.saturating_duration_since(self.guest.power_on);
                    self.record(record, after, clock)?;
                }
            }
        }
        Ok(())
    }

    fn record(&mut self, record: Record, after: Duration, clock: &mut limits::Clock) -> Result<()> {
        // Any record is progress, but one: after the kernel has reported that it is
        // stuck, an agent that gives up the step only says the same.
        let gives_up =
            matches!(record, Record::VisitEnd { outcome: StepOutcome::Failed { .. }, .. });
        self.progress.gave_up_step |= gives_up && self.progress.stuck;
        if self.progress.gave_up_step {
            return Ok(());
        }
        self.progress.go_on();
        clock.progressed();
        match record {
            Record::Hello(hello) => {
                self.progress.hello = Some(hello);
                self.progress.hello_after = Some(after);
            }
            Record::VisitBegin { step, .. } => {
                self.progress.step = Some(step);
                let method = self.order.machine.arch.qemu.nmi;
                let step = self.order.workload.steps.iter().find(|asked| asked.id == step);
                if let Some(step) = step
                    && let Some(period) = nmi::period_of(step, method)
                {
                    self.injector = Some(Injector::start(step.id, period, &self.guest.qmp)?);
                }
            }
            Record::Block(_) => {
                self.progress.failed = None;
                self.progress.blocks += 1;
                self.task.progress(
                    self.progress.blocks,
                    Some(limits::blocks(self.order.workload)),
                    "blocks",
                );
            }
            // Evidence for people; it is kept with the other records.
            Record::Output(_) => {}
            Record::VisitEnd { visit, step, outcome, .. } => {
                self.progress.step = None;
                self.progress.failed = gives_up.then(|| self.progress.failed.unwrap_or(step));
                match outcome {
                    StepOutcome::Done
                    | StepOutcome::Unreachable { .. }
                    | StepOutcome::Failed { .. } => self.progress.done.push(visit),
                }
                if let Some(injector) = self.injector.take() {
                    let (injected, trouble) = injector.finish()?;
                    self.progress.injected.push(injected);
                    // Once the guest has ended, QEMU answers nothing, and rightly.
                    if let Some(trouble) = trouble
                        && self.shutdown.is_none()
                        && self.guest.wait_for(Duration::ZERO)?.is_none()
                    {
                        return Err(trouble);
                    }
                }
            }
            Record::End(_) => self.progress.ended = true,
        }
        Ok(())
    }

    fn take_events(&mut self, events: Vec<QmpEvent>) {
        for event in events {
            match event {
                QmpEvent::Shutdown { guest, reason } => {
                    self.shutdown = Some(ending::Shutdown { guest, reason });
                }
                // A restart comes as a shutdown, for QEMU runs with -no-reboot;
                // a panic stands on the console.
                QmpEvent::Reset { .. }
                | QmpEvent::GuestPanicked
                | QmpEvent::Stop
                | QmpEvent::Other(_) => {}
            }
        }
    }

    /// Takes what was still under way when QEMU ended.
    fn drain(&mut self) -> Result<()> {
        let mut clock = limits::Clock::start();
        let mut left = limits::DRAIN;
        while !self.listener.is_over() && !left.is_zero() {
            if let Some(happening) = self.listener.next() {
                self.take(happening, &mut clock)?;
            }
            left = left.saturating_sub(clock.tick().time);
        }
        let events = self.listener.last_events(limits::DRAIN);
        self.take_events(events);
        self.console.finish();
        Ok(())
    }

    /// Ends the guest, and takes what it had said.
    fn stop_now(&mut self) -> Result<()> {
        self.injector = None;
        self.guest.end();
        self.drain()
    }

    /// Ends the guest if it still runs, and says how the boot ended.
    fn end(&mut self, stop: Stop) -> Result<Result<BootEnd, Fault>> {
        self.injector = None;
        if stop.blames_silence() {
            // Silence counts against the kernel only if QEMU is well.
            let ill = match self.guest.qmp.query_status() {
                Ok(status) if status == "running" => None,
                Ok(status) => {
                    Some(Error::failure(format!("QEMU has stopped the guest ({status})")))
                }
                Err(error) => Some(error),
            };
            if let Some(error) = ill {
                return Ok(Err(Fault::Emulator(error)));
            }
        }
        if !matches!(stop, Stop::Gone { .. }) {
            self.stop_now()?;
        }
        Ok(ending::judge(&Seen {
            stop,
            hello: self.progress.hello.is_some(),
            ended: self.progress.ended,
            shutdown: self.shutdown.clone(),
            panic_line: self.console.panic_line(),
            gave_up: self.console.agent_gave_up(),
            last_line: self.console.last_line(),
        }))
    }

    /// Writes `end.json`.
    fn complete(self, end: BootEnd) -> Result<Run> {
        self.files.sync()?;
        let machine = &self.order.machine;
        let end = EndJson {
            store_version: store::VERSION,
            end,
            asked: self.order.workload.visits.clone(),
            done: self.progress.done,
            hello_seconds: self.progress.hello_after.map(seconds),
            seconds: seconds(self.guest.power_on.elapsed()),
            argv: boot::command(machine, &Files::placeholders(machine.arch)).argv(),
            console_bytes: self.files.console_bytes(),
            records: self.protocol.records(),
            injected: self.progress.injected,
        };
        write_json(&self.order.store.end_json(self.order.id), &end)?;
        Ok(Run {
            end,
            #[cfg(test)]
            hello: self.progress.hello,
        })
    }
}

/// To the millisecond: more digits would be noise, and not survive JSON.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

/// How a boot ended, in a few words for the progress display.
fn word_of(end: &BootEnd) -> String {
    match end {
        BootEnd::Ran => "ran".into(),
        BootEnd::Panicked { line } => format!("panicked: {line}"),
        BootEnd::Hung { silent_seconds, report: None, .. } => {
            format!("hung (no record for {silent_seconds} s)")
        }
        BootEnd::Hung { report: Some(report), .. } => format!("hung: {}", report.title),
        BootEnd::DidNotBoot { reason } => format!("did not boot: {reason}"),
        BootEnd::EarlyExit { reason } => format!("ended early: {reason}"),
        BootEnd::Flood { title, count } => format!("flooded: {title}, {count} times"),
        BootEnd::Lost { reason, .. } => format!("lost: {reason}"),
        BootEnd::OutOfTime { limit_seconds } => format!("out of time ({limit_seconds} s)"),
    }
}
