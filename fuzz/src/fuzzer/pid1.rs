// SPDX-License-Identifier: MIT OR Apache-2.0
//! PID 1 of a guest that is fuzzed, and the entry of its workers.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::worker::{Worker, replay};
use super::{Mode, ORDERS_PATH, Orders, Told, VERSION};
use crate::engine::files;
use crate::guest::{self, EXIT_NOT_A_GUEST, EXIT_STEP_LOST, EXIT_STEP_REPORTED, Port, say};
use crate::op::value::{Seeded, Upto};
use crate::op::{Check, Op};
use crate::oracle::ORACLES;
use crate::program::{Favour, Program, text};
use crate::sys::child::ENDS;
use crate::sys::{kcov, puppet};
use crate::{kernel, sys};

/// First argument of a worker's process; its number and its seconds follow.
const WORKER: &str = "--worker";
/// Where libFuzzer keeps its corpus.
pub const CORPUS: &str = "/tmp/corpus";
/// A worker that says nothing for this long is given up. One that replays says
/// something after each program, and waits for 30 s at most when all were run.
const SILENCE: Duration = Duration::from_secs(60);
const REPLAY_SILENCE: Duration = Duration::from_secs(40);
/// What workers may take beyond their time.
const GRACE: Duration = Duration::from_secs(45);

/// The fuzzer, or one of its workers. `engine` makes programs until the
/// worker's time is up, and does not come back.
pub fn main(engine: fn(Worker, u32) -> ExitCode) -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some(WORKER), Some(number)) => match guest::check_step() {
            Ok(()) => work(&number, &arguments.next().unwrap_or_default(), engine),
            Err(refusal) => refuse(&refusal),
        },
        (Some(puppet::WORD), None) => match guest::check_puppet() {
            Ok(()) => puppet::live(),
            Err(refusal) => refuse(&refusal),
        },
        _ => match guest::check_pid1() {
            Ok(()) => serve(),
            Err(refusal) => refuse(&refusal),
        },
    }
}

fn refuse(refusal: &guest::Refusal) -> ExitCode {
    say(refusal);
    ExitCode::from(EXIT_NOT_A_GUEST)
}

fn orders() -> io::Result<Orders> {
    let orders: Orders = serde_json::from_slice(&fs::read(ORDERS_PATH)?)?;
    if orders.version != VERSION {
        return Err(io::Error::other(format!(
            "{ORDERS_PATH}: version {}, this guest speaks {VERSION}",
            orders.version
        )));
    }
    Ok(orders)
}

/// PID 1's life. Whatever happens in it, the machine ends in order.
fn serve() -> ExitCode {
    let served = catch_unwind(AssertUnwindSafe(|| -> io::Result<()> {
        guest::prepare();
        prepare();
        let mut port = Port::open()?;
        let orders = orders()?;
        let hello = Box::new(kernel::hello(&orders.boot)?);
        let coverage = fs::exists("/sys/kernel/debug/kcov")?;
        let interrupts = kcov::trace_interrupts()?;
        let delays = kcov::delay_at(&orders.points)?;
        port.send(&Told::Hello { version: VERSION, hello, coverage, interrupts, delays })?;
        begin_corpus(&orders, &mut port)?;
        // Once, before there are workers: a file that runs cannot be written to.
        let ends = Path::new(OsStr::from_bytes(ENDS.to_bytes()));
        fs::write(ends, files::ends())?;
        fs::set_permissions(ends, fs::Permissions::from_mode(0o755))?;
        supervise(&orders, &mut port)?;
        sys::kill_all_others();
        port.send_last(&Told::End {
            debug_locks: kernel::debug_locks(),
            tainted: kernel::tainted(),
            at_ns: sys::monotonic_ns(),
        })
    }));
    match served {
        Ok(Ok(())) => {}
        Ok(Err(error)) => say(format_args!("gives up: {error}")),
        Err(_) => say("gives up: the fuzzer itself panicked"),
    }
    guest::end()
}

/// What fuzzing needs beside what every guest has: RCU that does not keep
/// programs waiting, and trouble that shows in seconds.
fn prepare() {
    for (path, value) in [
        ("/sys/kernel/rcu_expedited", "1"),
        ("/proc/sys/kernel/perf_cpu_time_max_percent", "25"),
        ("/proc/sys/kernel/perf_event_max_sample_rate", "20000"),
        // As kernels begin: guests have -1 otherwise, where nobody is asked for a capability.
        ("/proc/sys/kernel/perf_event_paranoid", "2"),
        ("/proc/sys/kernel/perf_cpu_time_max_percent", "0"),
        ("/proc/sys/kernel/hung_task_timeout_secs", "15"),
        ("/proc/sys/kernel/hung_task_check_interval_secs", "5"),
        ("/proc/sys/kernel/hung_task_warnings", "-1"),
        ("/proc/sys/kernel/watchdog_thresh", "10"),
        ("/sys/module/rcupdate/parameters/rcu_cpu_stall_timeout", "15"),
        ("/proc/sys/kernel/printk_ratelimit", "0"),
        // Allocations that may wait can fail, too, and none says that it was made to.
        ("/sys/kernel/debug/failslab/ignore-gfp-wait", "N"),
        ("/sys/kernel/debug/failslab/verbose", "0"),
        ("/sys/kernel/debug/fail_page_alloc/verbose", "0"),
        // Patches code: see the module `engine`.
        ("/proc/sys/debug/kprobes-optimization", "0"),
    ] {
        if let Err(error) = fs::write(path, value) {
            say(format_args!("{path} = {value}: {error}"));
        }
    }
    // Objects can be pinned there.
    if let Err(error) = crate::sys::mount("bpf", "/sys/fs/bpf") {
        say(format_args!("the BPF file system: {error}"));
    }
    // Only a kernel with KCSAN has it. By default it watches one access in 4,000: next to
    // nothing of a program that takes milliseconds.
    if let Err(error) = fs::write(KCSAN_SKIP, "500")
        && error.kind() != io::ErrorKind::NotFound
    {
        say(format_args!("{KCSAN_SKIP}: {error}"));
    }
}

/// Accesses to memory after which the next one is watched.
const KCSAN_SKIP: &str = "/sys/module/kcsan/parameters/skip_watch";

/// Writes the programs libFuzzer begins with; without any it would give up, so
/// the smallest one is among them.
fn begin_corpus(orders: &Orders, port: &mut Port) -> io::Result<()> {
    if orders.mode == Mode::Replay {
        return Ok(());
    }
    fs::create_dir_all(CORPUS)?;
    fs::write(format!("{CORPUS}/empty"), text::write(&Program::default()))?;
    let delays = !orders.points.is_empty();
    for (index, written) in (0_u32..).zip(checks(&orders.favour, delays)) {
        fs::write(format!("{CORPUS}/check-{index}"), text::write(&written))?;
    }
    for (index, written) in (0_u32..).zip(about(&Favour::of(&[], &orders.ops))) {
        fs::write(format!("{CORPUS}/about-{index}"), text::write(&written))?;
    }
    for (index, written) in (0_u32..).zip(&orders.programs) {
        match text::read(written.as_bytes()) {
            Ok(_) => fs::write(format!("{CORPUS}/{index}"), written)?,
            Err(error) => port.send(&Told::Skipped { index, why: error.to_string() })?,
        }
    }
    Ok(())
}

/// Programs of one check each, by some seeds: all there are, and those that are about what
/// a patch changes with more of them, every other one with delays where that is possible.
fn checks(favour: &[String], delays: bool) -> Vec<Program> {
    let of = |check: Check| {
        let favoured = favour.iter().any(|word| word == check.word());
        (0..if favoured { FAVOURED } else { FEW }).map(move |seed| {
            let delay =
                (delays && favoured && seed % 2 == 1).then_some(Op::Delays { seed: Upto(seed) });
            let check = Op::Check { what: check, seed: Upto(seed), more: Upto(0) };
            Program { ops: delay.into_iter().chain([check]).collect(), ..Program::default() }
        })
    };
    ORACLES.iter().filter_map(|row| row.check).flat_map(of).collect()
}

/// Programs of the operations that reach what a patch changes.
fn about(favour: &Favour) -> Vec<Program> {
    let programs = if favour.ops.is_empty() { 0 } else { ABOUT };
    (0..programs).map(|seed| Program::about(favour, &mut Seeded(seed))).collect()
}

/// How many of these fuzzing begins with.
const ABOUT: u64 = 32;

/// Seeds of a check that fuzzing begins with, and of one that is favoured.
const FEW: u8 = 4;
const FAVOURED: u8 = 24;

/// Starts the workers and passes on what they say, until they are done.
fn supervise(orders: &Orders, port: &mut Port) -> io::Result<()> {
    let workers = if orders.mode == Mode::Replay { 1 } else { orders.workers };
    let (say, heard) = channel();
    let mut children = Vec::new();
    for number in 0..workers {
        children.push((number, start(number, orders.seconds, say.clone())?, false));
    }
    let mut last = Instant::now();
    let ends = Instant::now() + Duration::from_secs(orders.seconds.into());
    let until = ends + GRACE;
    loop {
        match heard.recv_timeout(Duration::from_millis(500)) {
            Ok(line) => {
                last = Instant::now();
                port.send_line(&line)?;
                continue;
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        for (number, child, over) in children.iter_mut().filter(|(_, _, over)| !over) {
            let Some(status) = child.try_wait()? else { continue };
            *over = true;
            if status.code() == Some(i32::from(EXIT_STEP_REPORTED)) {
                continue;
            }
            let how = match status.signal() {
                Some(signal) => format!("died of signal {signal}"),
                None => format!("ended with {status}"),
            };
            port.send(&Told::Lost { worker: *number, how })?;
            // With another number of the same place: what it counts begins at nothing.
            let next = *number + workers;
            let left = ends.saturating_duration_since(Instant::now()).as_secs();
            if orders.mode == Mode::Fuzz && left >= FEWEST && next < MOST_WORKERS {
                let seconds = u32::try_from(left).unwrap_or(orders.seconds);
                (*number, *child, *over) = (next, start(next, seconds, say.clone())?, false);
            }
        }
        if children.iter().all(|(_, _, over)| *over) {
            while let Ok(line) = heard.try_recv() {
                port.send_line(&line)?;
            }
            return Ok(());
        }
        let over = match orders.mode {
            Mode::Replay => last.elapsed() > REPLAY_SILENCE,
            Mode::Fuzz => last.elapsed() > SILENCE || Instant::now() > until,
        };
        if over {
            for (number, ..) in children.iter().filter(|(_, _, over)| !over) {
                let how = "took too long and was given up".to_owned();
                port.send(&Told::Lost { worker: *number, how })?;
            }
            return Ok(());
        }
    }
}

/// A worker that died is followed by another one if there are so many seconds left, and if
/// its number is below this one.
const FEWEST: u64 = 5;
const MOST_WORKERS: u32 = 12;

/// Starts a worker for so many seconds. What it says is passed on as it is: to read it here would
/// cost the workers a good part of their time.
fn start(number: u32, seconds: u32, tell: Sender<Vec<u8>>) -> io::Result<Child> {
    let mut child = Command::new("/proc/self/exe")
        .arg(WORKER)
        .arg(number.to_string())
        .arg(seconds.to_string())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(pipe) = child.stdout.take() {
        std::thread::Builder::new().name(format!("listener {number}")).spawn(move || {
            let mut pipe = BufReader::new(pipe);
            loop {
                let mut line = Vec::new();
                match pipe.read_until(b'\n', &mut line) {
                    Ok(length) if length > 0 => {}
                    Ok(_) | Err(_) => return,
                }
                if !(line.starts_with(b"{\"told\":") && line.ends_with(b"}\n")) {
                    let said: String = String::from_utf8_lossy(&line).chars().take(80).collect();
                    let how = format!("said {said:?}");
                    line =
                        serde_json::to_vec(&Told::Lost { worker: number, how }).unwrap_or_default();
                    line.push(b'\n');
                }
                if tell.send(line).is_err() {
                    return;
                }
            }
        })?;
    }
    Ok(child)
}

/// A worker's process.
fn work(number: &str, seconds: &str, engine: fn(Worker, u32) -> ExitCode) -> ExitCode {
    let begun = || -> io::Result<(Worker, Orders, u32)> {
        let number: u32 = number.parse().map_err(io::Error::other)?;
        let seconds = seconds.parse().map_err(io::Error::other)?;
        let orders = orders()?;
        // One that follows another has its place.
        let place = number % orders.workers.max(1);
        let worker = Worker::new(number, place, seconds, orders.leak_check_every)?;
        // What is patched may have become a part of others without a block of its own.
        let blocks = if orders.points.is_empty() { &orders.heavy } else { &orders.points };
        let favour = Favour::of(&orders.favour, &orders.ops).through(blocks);
        Ok((worker.favouring(favour).weighing(&orders.heavy), orders, number))
    };
    match begun() {
        Err(error) => {
            say(format_args!("worker {number}: {error}"));
            ExitCode::from(EXIT_STEP_LOST)
        }
        Ok((mut worker, orders, number)) => match orders.mode {
            Mode::Fuzz => engine(worker, orders.seed.wrapping_add(number)),
            Mode::Replay => match replay(&mut worker, &orders.programs) {
                Ok(()) => ExitCode::from(EXIT_STEP_REPORTED),
                Err(error) => {
                    say(format_args!("worker {number}: {error}"));
                    ExitCode::from(EXIT_STEP_LOST)
                }
            },
        },
    }
}
