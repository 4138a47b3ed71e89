// SPDX-License-Identifier: MIT OR Apache-2.0
//! One boot of a guest that fuzzes itself, or replays: everything it says is
//! taken in until it ends or there is a reason to end it.
//!
//! A guest that dies is what one hopes for: all that is ours is an error, all
//! else is an [`End`].

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bakeoff_fuzz::fuzzer::{ORDERS_PATH, Orders, Told, flight};

use super::bench::Bench;
use crate::base::command::Cancel;
use crate::base::error::{Context, Error, Result};
use crate::machine::accel::Accel;
use crate::machine::boot::Guest;
use crate::machine::listen::{Console, Happening, Listener};
use crate::machine::qmp::QmpEvent;
use crate::see::observe::{Parser, Splat, fingerprint};

/// How a boot ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// In order.
    Ran,
    /// In a panic; its line.
    Panicked(String),
    /// It said nothing any more.
    Hung,
    /// QEMU ended before the guest was done.
    Gone,
    /// It was ended because lockdep was off, so that nothing more was proven.
    LockdepOff,
    /// It was ended because it had reported something.
    Reported,
    /// It was ended because its console was flooded.
    Flood,
    /// The emulator lost it: nothing is known of the kernel. Why.
    Emulator(String),
    /// No Hello came.
    NoHello(String),
}

/// What the console looked like when something was printed on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspects {
    /// Bytes on the console by then.
    pub at: u64,
    /// Programs in flight, by worker.
    pub programs: Vec<String>,
}

/// A boot that was listened to.
#[derive(Debug)]
pub struct Session {
    /// How it ended.
    pub end: End,
    /// Its splats.
    pub splats: Vec<Splat>,
    /// Programs in flight when the kernel spoke.
    pub suspects: Vec<Suspects>,
    /// Where the console is kept.
    pub console: PathBuf,
    /// Seconds from power-on to Hello.
    pub hello_seconds: Option<f64>,
}

/// How long the workers of a guest may be silent: they tell their counts every two seconds.
fn silence(accel: Accel) -> Duration {
    match accel {
        Accel::Kvm => Duration::from_secs(30),
        Accel::Tcg => Duration::from_secs(60),
    }
}

/// How often a guest that talks is looked after.
const LOOK: Duration = Duration::from_millis(200);
const HELLO: Duration = Duration::from_secs(120);
const AFTER_PANIC: Duration = Duration::from_secs(5);
const CONSOLE_BYTES: u64 = 16 << 20;
/// What a splat that is not complete yet may still say.
const AFTER_LOCKDEP: Duration = Duration::from_secs(2);

/// What a report may still say, once it has begun.
const AFTER_REPORT: Duration = Duration::from_secs(3);

/// How long other reports are waited through, for the one that is wanted.
const OTHERS: Duration = Duration::from_secs(20);

/// What ends a boot before its orders are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until<'a> {
    /// Nothing but what proves nothing more.
    End,
    /// A report, whichever.
    Report,
    /// The report with this fingerprint; others only if it does not come soon.
    Wanted(&'a str),
}

/// Words with which a report may begin: when they come, the programs in flight
/// are noted.
const ALARMS: [&str; 6] = ["WARNING:", "BUG:", "INFO:", "cut here", "Oops", "panic"];

/// Rows of the log reader's that say no more than that memory was not to be had, of which
/// programs see to themselves: `fail-nth`.
const NO_MEMORY: [&str; 4] =
    ["page-allocation", "page-allocation-stall", "vmalloc-error", "percpu-allocation"];

fn is_of_interest(splat: &Splat) -> bool {
    !NO_MEMORY.contains(&splat.row.as_str())
}

/// Boots once. `take` gets each record, with the seconds since power-on.
///
/// # Errors
/// What is ours: QEMU, a guest of other sources, a full disk.
pub fn boot(
    bench: &Bench,
    orders: &Orders,
    until: Until<'_>,
    dir: &Path,
    cancel: &Cancel,
    mut take: impl FnMut(Told, f64),
) -> Result<Session> {
    fs::create_dir_all(dir).at_path("create", dir)?;
    let initramfs = dir.join("initramfs.cpio");
    let text = serde_json::to_vec(orders).context(|| "write the orders".into())?;
    bench.binaries.write_with(ORDERS_PATH, &text, &initramfs)?;
    let shared = dir.join("flight");
    let memory = File::create(&shared).at_path("create", &shared)?;
    memory.set_len(flight::LENGTH as u64).at_path("write", &shared)?;
    let console = dir.join("console.log");
    let mut log = File::create(&console).at_path("create", &console)?;
    let (tell, told) = std::sync::mpsc::channel();
    let (guest, outlets) = Guest::start_sharing(
        &bench.machine(),
        &bench.kernel.image,
        &initramfs,
        Some((shared.clone(), flight::LENGTH)),
        cancel,
        move |event| {
            // Nobody listens any more once the boot was given up.
            let _ = tell.send(event);
        },
    )?;
    let mut listening = Listening {
        guest,
        listener: Listener::start(outlets, told)?,
        console: Console::default(),
        parser: Parser::new(),
        splats: Vec::new(),
        suspects: Vec::new(),
        shared,
        workers: orders.workers,
        line: Vec::new(),
        bytes: 0,
        hello: None,
        ended: false,
        lockdep_off: None,
        misfit: None,
        alarmed: None,
        reported: None,
        wrong: None,
        until,
    };
    let total = Duration::from_secs(u64::from(orders.seconds) * 2) + HELLO * 3;
    let end = listening.listen(&mut log, silence(bench.accel), total, cancel, &mut take)?;
    listening.guest.end();
    listening.rest(&mut log, &mut take)?;
    if let Some(why) = listening.misfit {
        return Err(Error::failure(why));
    }
    let mut splats = listening.splats;
    splats.extend(listening.parser.finish().into_iter().filter(is_of_interest));
    let stale = match bench.accel {
        Accel::Tcg => listening.console.stale_breakpoint(),
        Accel::Kvm => None,
    };
    if let Some((why, _)) = stale {
        // Reports of a kernel that ran into what is not there are none.
        splats.clear();
        fs::remove_file(&initramfs).at_path("remove", &initramfs)?;
        return Ok(Session {
            end: End::Emulator(why),
            splats,
            suspects: Vec::new(),
            console,
            hello_seconds: listening.hello.map(|time| time.as_secs_f64()),
        });
    }
    let end = match (end, listening.console.panic_line()) {
        (End::Ran, _) => End::Ran,
        (_, Some(line)) => End::Panicked(line.to_owned()),
        (end, None) => end,
    };
    fs::remove_file(&initramfs).at_path("remove", &initramfs)?;
    Ok(Session {
        end,
        splats,
        suspects: listening.suspects,
        console,
        hello_seconds: listening.hello.map(|time| time.as_secs_f64()),
    })
}

struct Listening<'a> {
    guest: Guest,
    listener: Listener,
    console: Console,
    parser: Parser,
    splats: Vec<Splat>,
    suspects: Vec<Suspects>,
    shared: PathBuf,
    workers: u32,
    line: Vec<u8>,
    bytes: u64,
    hello: Option<Duration>,
    ended: bool,
    lockdep_off: Option<Instant>,
    misfit: Option<String>,
    /// When the console said a word of [`ALARMS`], the first since it was looked at.
    alarmed: Option<Instant>,
    /// When the first report was complete.
    reported: Option<Instant>,
    /// When a lookup was answered wrongly: a finding, though the kernel says nothing.
    wrong: Option<Instant>,
    until: Until<'a>,
}

impl Listening<'_> {
    fn listen(
        &mut self,
        log: &mut File,
        silence: Duration,
        total: Duration,
        cancel: &Cancel,
        take: &mut dyn FnMut(Told, f64),
    ) -> Result<End> {
        let began = Instant::now();
        let mut heard = Instant::now();
        let mut panicked: Option<Instant> = None;
        let mut looked = Instant::now();
        loop {
            cancel.check()?;
            if let Some(happening) = self.listener.next() {
                // A kernel that is stuck goes on to say so; it is the workers that are to speak.
                if self.hello.is_none() || matches!(happening, Happening::Records { .. }) {
                    heard = Instant::now();
                }
                self.happening(happening, log, take)?;
                // Records come all the time; the rest is looked at now and then.
                if looked.elapsed() < LOOK {
                    continue;
                }
            }
            looked = Instant::now();
            if self.guest.wait_for(Duration::ZERO)?.is_some() {
                return Ok(if self.ended { End::Ran } else { End::Gone });
            }
            if self.ended && heard.elapsed() > Duration::from_secs(5) {
                return Ok(End::Ran);
            }
            for event in self.listener.events() {
                match event {
                    QmpEvent::Shutdown { .. } if self.ended => return Ok(End::Ran),
                    QmpEvent::Shutdown { .. }
                    | QmpEvent::Reset { .. }
                    | QmpEvent::GuestPanicked
                    | QmpEvent::Stop
                    | QmpEvent::Other(_) => {}
                }
            }
            if self.misfit.is_some() {
                return Ok(End::Gone);
            }
            if let Some(why) = self.console.agent_gave_up() {
                return Err(Error::failure(format!("the fuzzer gave up: {why}")));
            }
            if self.console.panic_line().is_some()
                && panicked.get_or_insert_with(Instant::now).elapsed() > AFTER_PANIC
            {
                return Ok(End::Gone);
            }
            if self.bytes > CONSOLE_BYTES {
                return Ok(End::Flood);
            }
            if self.has_reported() {
                return Ok(End::Reported);
            }
            if self.lockdep_off.is_some_and(|since| since.elapsed() > AFTER_LOCKDEP) {
                return Ok(End::LockdepOff);
            }
            if self.hello.is_none() && began.elapsed() > HELLO {
                return Ok(End::NoHello(self.console.last_line().to_owned()));
            }
            if heard.elapsed() > silence || began.elapsed() > total {
                return Ok(End::Hung);
            }
        }
    }

    /// Whether what the boot was to run until has come.
    fn has_reported(&mut self) -> bool {
        if self.until == Until::End {
            return false;
        }
        if self.alarmed.is_some_and(|at| at.elapsed() > AFTER_REPORT) {
            self.alarmed = None;
            let splats = self.parser.flush();
            self.splats.extend(splats.into_iter().filter(is_of_interest));
            if !self.splats.is_empty() {
                self.reported = self.reported.or_else(|| Some(Instant::now()));
            }
        }
        let enough = |at: Instant| match self.until {
            Until::Wanted(wanted) if at.elapsed() < OTHERS => {
                self.splats.iter().any(|splat| fingerprint(splat) == wanted)
            }
            Until::Wanted(_) | Until::Report | Until::End => true,
        };
        self.reported.is_some_and(enough)
            || self.wrong.is_some_and(|at| at.elapsed() > AFTER_REPORT)
    }

    fn happening(
        &mut self,
        happening: Happening,
        log: &mut File,
        take: &mut dyn FnMut(Told, f64),
    ) -> Result<()> {
        match happening {
            Happening::Console { bytes, .. } => {
                log.write_all(&bytes).context(|| "write the console".into())?;
                self.bytes += bytes.len() as u64;
                let text = String::from_utf8_lossy(&bytes);
                if ALARMS.iter().any(|alarm| text.contains(alarm)) {
                    self.alarmed = self.alarmed.or_else(|| Some(Instant::now()));
                    self.note_suspects()?;
                }
                let splats = self.parser.push(&bytes);
                self.splats.extend(splats.into_iter().filter(is_of_interest));
                self.console.push(&bytes);
            }
            Happening::Records { bytes, at } => {
                self.line.extend_from_slice(&bytes);
                let after = at.saturating_duration_since(self.guest.power_on);
                while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = self.line.drain(..=end).collect();
                    let told: Told = serde_json::from_slice(&line).map_err(|cause| {
                        let start: String =
                            String::from_utf8_lossy(&line).chars().take(80).collect();
                        Error::failure(format!("the fuzzer said {start:?}")).because(cause)
                    })?;
                    self.record(&told, after);
                    take(told, after.as_secs_f64());
                }
            }
        }
        Ok(())
    }

    fn record(&mut self, told: &Told, after: Duration) {
        match told {
            Told::Hello { hello, .. } => {
                self.hello = Some(after);
                if hello.source_hash != bakeoff_fuzz::SOURCE_HASH {
                    self.misfit =
                        Some("the fuzzer is not built from the sources of this bakeoff".into());
                }
            }
            Told::Stats(stats) if stats.debug_locks == Some(false) => {
                self.lockdep_off.get_or_insert_with(Instant::now);
            }
            Told::End { .. } => self.ended = true,
            Told::Wrong { .. } => self.wrong = self.wrong.or_else(|| Some(Instant::now())),
            Told::Stats(_)
            | Told::Entry { .. }
            | Told::Replayed { .. }
            | Told::Leak { .. }
            | Told::Lost { .. }
            | Told::Times { .. }
            | Told::Skipped { .. } => {}
        }
    }

    /// Which programs run while the kernel speaks.
    fn note_suspects(&mut self) -> Result<()> {
        // A flood is about the same few programs.
        if self.suspects.len() >= 256 {
            return Ok(());
        }
        let memory = fs::read(&self.shared).at_path("read", &self.shared)?;
        let programs = (0..self.workers).filter_map(|w| flight::read(&memory, w)).collect();
        self.suspects.push(Suspects { at: self.bytes, programs });
        Ok(())
    }

    /// Takes what was still under way.
    fn rest(&mut self, log: &mut File, take: &mut dyn FnMut(Told, f64)) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(3);
        while !self.listener.is_over() && Instant::now() < until {
            if let Some(happening) = self.listener.next() {
                self.happening(happening, log, take)?;
            }
        }
        self.console.finish();
        if self.suspects.is_empty() || !self.ended {
            self.note_suspects()?;
        }
        Ok(())
    }
}
