// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fault campaign: `cargo run --release --example faults -- N [SEED [MINUTES]] [--jobs J]`.
//!
//! Each of N times a bake-off of played guests (`tests/support/world.rs`) is disturbed in
//! one way, at a random moment or place, and then gone on with. It has to end with the
//! verdicts of an undisturbed one; nothing that was complete may be measured again; no
//! process, mount, loop device or temporary file may be left; and nothing wrong may be in
//! the cache. The table says how often each was tried and how often that was not so. Each
//! trial has a seed of its own, so that J of them at a time (two for each CPU, unless told
//! otherwise) are the same trials; those with disks are made one by one.
//!
//! With `--real SPEC` the same is done to real kernels and QEMU, with the faults that a
//! real guest can have, as far as the cache has the kernels. Full and read-only disks need
//! root, for loop devices; without it they are left out, and the table says so.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

#[path = "../tests/support/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use world::World;

/// Environment: this process is to be bakeoff itself.
const AS_BAKEOFF: &str = "BAKEOFF_FAULTS_AS_BAKEOFF";
/// A run that has not ended by then hangs.
const PATIENCE: Duration = Duration::from_secs(400);

/// A small generator (xorshift64*): the same seed, the same campaign.
struct Dice(u64);

impl Dice {
    /// That of one trial of a campaign.
    fn of(seed: u64, number: u64) -> Dice {
        let mut dice = Dice((seed << 32 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        // Seeds that are alike begin alike.
        for _ in 0..8 {
            dice.roll();
        }
        dice
    }

    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n.max(1)
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    RunnerKilled,
    RunnerTerminated,
    RunnerStopped,
    StoppedForAnHour,
    ClockJumps,
    EmulatorKilled,
    EmulatorTerminated,
    EmulatorAborts,
    EmulatorStopped,
    GuestPanics,
    GuestHangs,
    GuestFloods,
    GuestGarbage,
    GuestLongLine,
    GuestNoise,
    GuestVersion,
    GuestSources,
    GuestNoTimers,
    RecordsCut,
    ConsoleCut,
    EndCut,
    CacheFlipped,
    CacheCut,
    DiskFull,
    NoInodes,
    ReadOnly,
    TwoOnOneCache,
    TwoOnOneRun,
    ImportKilled,
    ServerStalls,
    ServerCuts,
    ServerRedirects,
    ServerLies,
    ServerFlips,
}

use Fault::{
    CacheCut, CacheFlipped, ClockJumps, ConsoleCut, DiskFull, EmulatorAborts, EmulatorKilled,
    EmulatorStopped, EmulatorTerminated, EndCut, GuestFloods, GuestGarbage, GuestHangs,
    GuestLongLine, GuestNoTimers, GuestNoise, GuestPanics, GuestSources, GuestVersion,
    ImportKilled, NoInodes, ReadOnly, RecordsCut, RunnerKilled, RunnerStopped, RunnerTerminated,
    ServerCuts, ServerFlips, ServerLies, ServerRedirects, ServerStalls, StoppedForAnHour,
    TwoOnOneCache, TwoOnOneRun,
};

/// Each fault: how often, in words, and the fault a played guest has.
const FAULTS: &[(Fault, u64, &str, &str)] = &[
    (RunnerKilled, 24, "runner killed (SIGKILL) at any point", ""),
    (RunnerTerminated, 6, "runner terminated (SIGTERM)", ""),
    (RunnerStopped, 3, "runner stopped for 3 s and continued", ""),
    (StoppedForAnHour, 4, "clock: an hour passes at once", ""),
    (ClockJumps, 4, "clock: the date jumps by a day, back or forth", ""),
    (EmulatorKilled, 6, "QEMU killed", "killed"),
    (EmulatorTerminated, 3, "QEMU terminated", "terminated"),
    (EmulatorAborts, 3, "QEMU aborts", "aborts"),
    (EmulatorStopped, 3, "QEMU stopped for a second and continued", "stopped"),
    (GuestPanics, 4, "guest panics", "panic"),
    (GuestHangs, 1, "guest hangs", "hang"),
    (GuestFloods, 1, "guest floods the console", "flood"),
    (GuestGarbage, 4, "guest answers garbage", "garbage"),
    (GuestLongLine, 2, "guest sends a record without end", "long-line"),
    (GuestNoise, 4, "console with any bytes", "noise"),
    (GuestVersion, 3, "guest lies about its version", "lies-about-version"),
    (GuestSources, 3, "guest lies about its sources", "lies-about-sources"),
    (GuestNoTimers, 3, "guest without timers", "no-timers"),
    (RecordsCut, 8, "records cut at any byte", ""),
    (ConsoleCut, 4, "console cut at any byte", ""),
    (EndCut, 4, "end.json cut at any byte", ""),
    (CacheFlipped, 12, "cache: a bit flipped in any file", ""),
    (CacheCut, 6, "cache: any file cut at any byte", ""),
    (DiskFull, 10, "disk full at any write", ""),
    (NoInodes, 4, "no inodes left", ""),
    (ReadOnly, 4, "disk turns read-only", ""),
    (TwoOnOneCache, 3, "two runs on one empty cache", ""),
    (TwoOnOneRun, 3, "two runs on one run directory", ""),
    (ImportKilled, 4, "cache import killed", ""),
    (ServerStalls, 1, "cache server stalls", ""),
    (ServerCuts, 3, "cache server cuts off", ""),
    (ServerRedirects, 2, "cache server redirects in circles", ""),
    (ServerLies, 3, "cache server lies about the length", ""),
    (ServerFlips, 3, "cache server flips a bit", ""),
];

impl Fault {
    fn needs_root(self) -> bool {
        matches!(self, DiskFull | NoInodes | ReadOnly)
    }

    /// What a fault of this kind is about: a guest's own behaviour is that kernel's result,
    /// and may cost its candidate the verdict, nobody else's.
    fn is_a_result(self) -> bool {
        matches!(self, GuestPanics | GuestHangs | GuestFloods)
    }
}

/// What came of one trial.
#[derive(Clone, Debug, Default)]
struct Outcome {
    wrong: Vec<String>,
    lost: Vec<String>,
    left: Vec<String>,
    cache: Vec<String>,
}

struct Campaign {
    dir: PathBuf,
    program: PathBuf,
    /// What an undisturbed run says.
    verdicts: BTreeSet<String>,
    /// How long it takes with an empty cache, and with a full one.
    cold: Duration,
    warm: Duration,
    /// The world whose cache is full and good.
    good: World,
    /// What jumps the clock of whoever loads it.
    clock: Option<PathBuf>,
    /// That cache as an archive, once somebody has asked.
    archive: Mutex<Option<PathBuf>>,
    /// The same as a remote's folder.
    remote: Mutex<Option<PathBuf>>,
}

fn main() -> ExitCode {
    // A guest's surroundings are those of the bakeoff that started it.
    world::play_if_asked();
    if std::env::var_os(AS_BAKEOFF).is_some() {
        return bakeoff::cli::main();
    }
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let jobs = words.iter().position(|word| word == "--jobs").map(|at| {
        let jobs = words.drain(at..(at + 2).min(words.len())).next_back();
        jobs.and_then(|jobs| jobs.parse().ok()).expect("--jobs J")
    });
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = jobs.unwrap_or(2 * cpus).max(1);
    let mut numbers = words.iter().filter_map(|word| word.parse::<u64>().ok());
    let count = numbers.next().unwrap_or(100);
    let seed = numbers.next().unwrap_or(1);
    let minutes = numbers.next().unwrap_or(u64::MAX / 60);
    if let Some(at) = words.iter().position(|word| word == "--real") {
        let spec = words.get(at + 1).expect("--real SPEC");
        return real(spec, count, seed);
    }
    let base = tempfile::Builder::new().prefix("bf").tempdir_in("/tmp").unwrap();
    let root = String::from_utf8(Command::new("id").arg("-u").output().unwrap().stdout).unwrap();
    let root = root.trim() == "0" && can_mount(base.path());
    let faults: Vec<_> = FAULTS.iter().filter(|(fault, ..)| root || !fault.needs_root()).collect();
    let bag: Vec<Fault> = faults
        .iter()
        .flat_map(|(fault, n, ..)| vec![*fault; usize::try_from(*n).unwrap()])
        .collect();
    let campaign = Campaign::prepare(&base.path().join("many"), jobs);
    let alone = Campaign::prepare(&base.path().join("one"), 1);
    let began = Instant::now();
    let done = AtomicU64::new(0);
    let table: Mutex<BTreeMap<usize, (u64, Outcome)>> = Mutex::default();
    let work = |campaign: &Campaign, next: &AtomicU64, on_disks: bool| {
        while began.elapsed().as_secs() < minutes.saturating_mul(60) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let mut dice = Dice::of(seed, number);
            // Each fault once, then by weight.
            let fault = match faults.get(usize::try_from(number).unwrap()) {
                Some((fault, ..)) if count >= faults.len() as u64 => *fault,
                _ => *dice.pick(&bag),
            };
            if fault.needs_root() != on_disks {
                continue;
            }
            let row = FAULTS.iter().position(|(known, ..)| *known == fault).unwrap();
            let outcome = campaign.trial(fault, FAULTS[row].3, number, &mut dice);
            let bad = [&outcome.wrong, &outcome.lost, &outcome.left, &outcome.cache];
            for text in bad.into_iter().flatten() {
                eprintln!("{number}: {fault:?}: {text}");
            }
            let mut table = table.lock().unwrap();
            let (tried, all) = table.entry(row).or_default();
            *tried += 1;
            all.wrong.extend(outcome.wrong.into_iter().take(1));
            all.lost.extend(outcome.lost.into_iter().take(1));
            all.left.extend(outcome.left.into_iter().take(1));
            all.cache.extend(outcome.cache.into_iter().take(1));
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            if done.is_multiple_of(20) {
                eprintln!("{done} of {count}, {} s", began.elapsed().as_secs());
            }
        }
    };
    // A sandbox of another trial has a copy of every mount there is, and a disk that is to be
    // mended would stay mounted there: disks have their turn when all others are done.
    for (campaign, jobs, on_disks) in [(&campaign, jobs, false), (&alone, 1, true)] {
        let next = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| work(campaign, &next, on_disks));
            }
        });
    }
    let done = done.into_inner();
    if done < count {
        eprintln!("{minutes} min are over after {done} of {count}");
    }
    let table = table.into_inner().unwrap();
    print(&table, seed, root)
}

fn print(table: &BTreeMap<usize, (u64, Outcome)>, seed: u64, root: bool) -> ExitCode {
    println!("| fault | tried | verdict wrong | lost | left behind | cache wrong |");
    println!("|---|---:|---:|---:|---:|---:|");
    let mut sums = [0; 5];
    for (row, (tried, Outcome { wrong, lost, left, cache })) in table {
        let counts =
            [usize::try_from(*tried).unwrap(), wrong.len(), lost.len(), left.len(), cache.len()];
        let cells: Vec<String> = counts.iter().map(ToString::to_string).collect();
        println!("| {} | {} |", FAULTS[*row].2, cells.join(" | "));
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    let cells: Vec<String> = sums.iter().map(ToString::to_string).collect();
    println!("| **all** | {} |", cells.join(" | "));
    println!("\nSeed {seed}.");
    if !root {
        println!("Without root: full, read-only and inode-less disks were not tried.");
    }
    if sums[1..].iter().all(|count| *count == 0) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A child that has to end some day.
fn wait(child: &mut Child) -> Option<i32> {
    let until = Instant::now() + PATIENCE;
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status.code(),
            None if Instant::now() > until => {
                child.kill().unwrap();
                child.wait().unwrap();
                return None;
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn signal(pid: u32, signal: &str) {
    let _ = Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).status();
}

/// 0 or 5: a report was reached, whoever won.
fn reached(code: Option<i32>) -> bool {
    matches!(code, Some(0 | 5))
}

impl Campaign {
    /// Undisturbed runs, as many at a time as there will be disturbed ones.
    fn prepare(dir: &Path, jobs: usize) -> Campaign {
        fs::create_dir_all(dir).unwrap();
        let program = std::env::current_exe().unwrap();
        let worlds: Vec<World> =
            (0..jobs).map(|job| Self::world(&dir.join(format!("good-{job}")), &program)).collect();
        let mut campaign = Campaign {
            dir: dir.to_owned(),
            program,
            verdicts: BTreeSet::new(),
            cold: Duration::ZERO,
            warm: Duration::ZERO,
            clock: clock(dir),
            good: worlds[0].clone(),
            archive: Mutex::default(),
            remote: Mutex::default(),
        };
        for (name, cold) in [("cold", true), ("warm", false)] {
            let began = Instant::now();
            let runs: Vec<_> = worlds.iter().map(|w| (w, campaign.start(w, name, &[]))).collect();
            for (world, mut run) in runs {
                let code = wait(&mut run);
                assert!(reached(code), "an undisturbed run failed ({code:?}):\n{}", said(world));
            }
            let took = began.elapsed();
            *(if cold { &mut campaign.cold } else { &mut campaign.warm }) = took;
            for world in &worlds {
                let verdicts = verdicts(&world.dir.join(name));
                let same = campaign.verdicts.is_empty() || verdicts == campaign.verdicts;
                assert!(same, "two undisturbed runs differ");
                campaign.verdicts = verdicts;
            }
        }
        assert!(campaign.verdicts.len() >= 8, "{:?}", campaign.verdicts);
        let (cold, warm) = (campaign.cold, campaign.warm);
        eprintln!("undisturbed, {jobs} at a time: cold {cold:.1?}, cached {warm:.1?}");
        campaign
    }

    fn world(dir: &Path, program: &Path) -> World {
        fs::create_dir_all(dir).unwrap();
        World::make(dir, &[program.to_str().unwrap()], &["production"])
    }

    /// bakeoff with these words; what it says goes to the world's `said`.
    fn bakeoff(&self, world: &World, cache: &str, words: &[&str]) -> Command {
        let mut command = world.bakeoff(&self.program, cache, words);
        let log = fs::File::options().create(true).append(true).open(world.dir.join("said"));
        let log = log.unwrap();
        command.env(AS_BAKEOFF, "1").stdout(Stdio::null()).stderr(log);
        command
    }

    fn command(&self, world: &World, first: &[&str], more: &[&str]) -> Command {
        let machinery = world.machinery();
        let machinery: Vec<&str> = machinery.iter().map(String::as_str).collect();
        self.bakeoff(world, "cache", &[first, more, &machinery].concat())
    }

    /// Starts a run in the folder `out`.
    fn start(&self, world: &World, out: &str, more: &[&str]) -> Child {
        let spec = world.spec();
        self.command(world, &["run", &spec, "--out", out], more).spawn().unwrap()
    }

    /// Goes on with a run until it is done: how often that took.
    fn go_on(&self, world: &World, out: &str, outcome: &mut Outcome) {
        for _ in 0..5 {
            let begun = world.dir.join(out).join("run.json").exists();
            let mut child = match begun {
                true => self.command(world, &["resume", out], &[]).spawn().unwrap(),
                // It died before there was anything to go on with.
                false => self.start(world, out, &[]),
            };
            if reached(wait(&mut child)) {
                return;
            }
        }
        outcome.wrong.push(format!("it does not come to its end:\n{}", said(world)));
    }

    fn trial(&self, fault: Fault, guest: &str, number: u64, dice: &mut Dice) -> Outcome {
        let dir = self.dir.join(format!("t{number}"));
        let world = Self::world(&dir, &self.program);
        // Two of three times everything is built already.
        let cold = match fault {
            CacheFlipped | CacheCut => false,
            TwoOnOneCache | ServerStalls | ServerCuts | ServerRedirects | ServerLies
            | ServerFlips => true,
            _ => dice.below(3) == 0,
        };
        if !cold {
            copy(&self.good.dir.join("cache"), &world.dir.join("cache"));
        }
        let all = if cold { self.cold } else { self.warm };
        let moment = all.mul_f64(dice.below(1000) as f64 / 1000.0);
        let mut outcome = Outcome::default();
        let out = "run";
        let run = world.dir.join(out);
        let mut damaged = None;
        let mut blamed = None;
        match fault {
            RunnerKilled | RunnerTerminated | RunnerStopped => {
                let mut child = self.start(&world, out, &[]);
                std::thread::sleep(moment);
                match fault {
                    RunnerKilled => signal(child.id(), "-KILL"),
                    RunnerTerminated => signal(child.id(), "-TERM"),
                    _ => {
                        signal(child.id(), "-STOP");
                        std::thread::sleep(Duration::from_secs(3));
                        signal(child.id(), "-CONT");
                    }
                }
                let code = wait(&mut child);
                if fault == RunnerStopped && !reached(code) {
                    outcome.wrong.push(format!("it ended with {code:?}:\n{}", said(&world)));
                }
            }
            StoppedForAnHour | ClockJumps => {
                let mut command = self.command(&world, &["run", "spec", "--out", out], &[]);
                if let Some(clock) = &self.clock {
                    let hour = 3600_i64;
                    let day = if dice.below(2) == 0 { 24 * hour } else { -24 * hour };
                    let (kind, by) =
                        if fault == ClockJumps { ("REALTIME", day) } else { ("MONOTONIC", hour) };
                    command
                        .env("LD_PRELOAD", clock)
                        .env(format!("JUMP_{kind}"), by.to_string())
                        .env("JUMP_AFTER_MS", moment.as_millis().to_string());
                }
                let code = wait(&mut command.spawn().unwrap());
                if !reached(code) {
                    outcome.wrong.push(format!("it ended with {code:?}:\n{}", said(&world)));
                }
            }
            RecordsCut | ConsoleCut | EndCut => {
                let mut child = self.start(&world, out, &[]);
                // In the middle of a run, or after it.
                std::thread::sleep(moment);
                if dice.below(2) == 0 {
                    signal(child.id(), "-KILL");
                }
                wait(&mut child);
                let name = match fault {
                    RecordsCut => "records.jsonl",
                    ConsoleCut => "console.log",
                    _ => "end.json",
                };
                let files = files_named(&run, name);
                if !files.is_empty() {
                    let file = dice.pick(&files);
                    let length = fs::metadata(file).unwrap().len();
                    let opened = fs::File::options().write(true).open(file).unwrap();
                    opened.set_len(dice.below(length)).unwrap();
                    damaged = Some(file.parent().unwrap().to_owned());
                }
            }
            CacheFlipped | CacheCut => {
                let mut files = Vec::new();
                files_below(&world.dir.join("cache"), &mut files);
                files.retain(|file| fs::metadata(file).is_ok_and(|m| m.len() > 0));
                let file = dice.pick(&files);
                let mut bytes = fs::read(file).unwrap();
                let at = usize::try_from(dice.below(bytes.len() as u64)).unwrap();
                if fault == CacheFlipped {
                    bytes[at] ^= 1 << dice.below(8);
                } else {
                    bytes.truncate(at);
                }
                let mode = fs::metadata(file).unwrap().permissions();
                fs::remove_file(file).unwrap();
                fs::write(file, bytes).unwrap();
                fs::set_permissions(file, mode).unwrap();
                // Half of the times the kernels have to be made again from what is there.
                if dice.below(2) == 0 {
                    let _ = fs::remove_dir_all(world.dir.join("cache/kernel"));
                }
                wait(&mut self.start(&world, out, &[]));
            }
            DiskFull | NoInodes | ReadOnly => {
                let disk = Disk::mount(&world.dir);
                let (there, out) = (run.clone(), disk.at.join("run"));
                fs::create_dir(&out).unwrap();
                std::os::unix::fs::symlink(&out, &there).unwrap();
                match fault {
                    DiskFull => disk.fill(dice.below(400)),
                    NoInodes => disk.fill_inodes(dice.below(120)),
                    _ => {}
                }
                let mut child = self.start(&world, "run", &[]);
                if fault == ReadOnly {
                    std::thread::sleep(moment);
                    disk.turn_read_only();
                }
                wait(&mut child);
                if fault == ReadOnly {
                    disk.mend();
                }
                disk.empty();
                let before = boots(&run);
                self.go_on(&world, "run", &mut outcome);
                self.check(&world, "run", &before, None, None, &mut outcome);
                // Where it is checked for what is left, it has to be gone.
                fs::remove_file(&there).unwrap();
                copy(&out, &there);
                drop(disk);
                self.check_left(&world, &mut outcome);
                fs::remove_dir_all(&dir).unwrap();
                return outcome;
            }
            TwoOnOneCache => {
                let mut other = self.start(&world, "other", &[]);
                let code = wait(&mut self.start(&world, out, &[]));
                if !reached(code) || !reached(wait(&mut other)) {
                    outcome.wrong.push(format!("one of the two failed:\n{}", said(&world)));
                } else if verdicts(&world.dir.join("other")) != self.verdicts {
                    outcome.wrong.push("the other run has other verdicts".into());
                }
            }
            TwoOnOneRun => {
                let mut child = self.start(&world, out, &[]);
                std::thread::sleep(moment);
                let second =
                    wait(&mut self.command(&world, &["resume", out], &[]).spawn().unwrap());
                let first = wait(&mut child);
                // Refused, or there was no run yet, or the first one had ended.
                if !(matches!(second, Some(0 | 1 | 2 | 5)) && reached(first)) {
                    let both = format!("{first:?} and {second:?}");
                    outcome.wrong.push(format!("they ended with {both}:\n{}", said(&world)));
                }
            }
            ImportKilled => {
                let archive = self.archive();
                let archive = archive.to_str().unwrap();
                let _ = fs::remove_dir_all(world.dir.join("cache"));
                let import = ["cache", "import", archive];
                let mut child = self.bakeoff(&world, "cache", &import).spawn().unwrap();
                std::thread::sleep(Duration::from_micros(dice.below(200_000)));
                signal(child.id(), "-KILL");
                wait(&mut child);
                let again = self.bakeoff(&world, "cache", &import).status().unwrap();
                if !again.success() {
                    outcome.wrong.push(format!("the second import failed:\n{}", said(&world)));
                }
            }
            ServerStalls | ServerCuts | ServerRedirects | ServerLies | ServerFlips => {
                let address = serve(fault, self.remote(), dice.roll());
                let code = wait(&mut self.start(&world, out, &["--cache-remote", &address]));
                if !reached(code) {
                    outcome.wrong.push(format!("it ended with {code:?}:\n{}", said(&world)));
                }
            }
            _ => {
                let mut child = self.start(&world, out, &[]);
                std::thread::sleep(moment);
                fs::write(world.dir.join("fault-new"), guest).unwrap();
                fs::rename(world.dir.join("fault-new"), world.dir.join("fault")).unwrap();
                wait(&mut child);
                let _ = fs::remove_file(world.dir.join("fault"));
                if fault.is_a_result() {
                    blamed = Some(());
                }
            }
        }
        let before = boots(&run);
        self.go_on(&world, out, &mut outcome);
        self.check(&world, out, &before, damaged.as_deref(), blamed, &mut outcome);
        self.check_left(&world, &mut outcome);
        fs::remove_dir_all(&dir).unwrap();
        outcome
    }

    fn archive(&self) -> PathBuf {
        let make = || {
            let archive = self.dir.join("archive.tar.zst");
            let words = ["cache", "export", archive.to_str().unwrap(), "kernel", "tree", "build"];
            let status = self.bakeoff(&self.good, "cache", &words).status().unwrap();
            assert!(status.success(), "{}", said(&self.good));
            archive
        };
        self.archive.lock().unwrap().get_or_insert_with(make).clone()
    }

    fn remote(&self) -> PathBuf {
        let make = || {
            let remote = self.dir.join("remote");
            let maker = Self::world(&self.dir.join("maker"), &self.program);
            let push = ["--cache-remote", remote.to_str().unwrap(), "--cache-push"];
            let code = wait(&mut self.start(&maker, "run", &push));
            assert!(reached(code), "{}", said(&maker));
            remote
        };
        self.remote.lock().unwrap().get_or_insert_with(make).clone()
    }

    /// Verdicts, what was measured again, and the cache.
    fn check(
        &self,
        world: &World,
        out: &str,
        before: &BTreeMap<PathBuf, Vec<u8>>,
        damaged: Option<&Path>,
        blamed: Option<()>,
        outcome: &mut Outcome,
    ) {
        let run = world.dir.join(out);
        let now = verdicts(&run);
        let differ: BTreeSet<&String> = now.symmetric_difference(&self.verdicts).collect();
        // A guest's own death is its candidate's business; one candidate at most.
        let candidates: BTreeSet<&str> =
            differ.iter().filter_map(|line| line.split(' ').nth(1)).collect();
        if !(differ.is_empty() || blamed.is_some() && candidates.len() == 1) {
            outcome.wrong.push(format!("{differ:?}\n{}", said(world)));
        }
        let after = boots(&run);
        for (end, text) in before {
            if damaged.is_some_and(|dir| end.starts_with(dir)) {
                continue;
            }
            if after.get(end) != Some(text) {
                outcome.lost.push(format!("{} was measured again", end.display()));
            }
        }
        // Entries that are not what they were, and that bakeoff would still use.
        for kind in ["kernel", "tree", "build"] {
            let (ours, good) = (world.dir.join("cache"), self.good.dir.join("cache"));
            let Ok(entries) = fs::read_dir(ours.join(kind)) else { continue };
            for entry in entries.flatten() {
                let key = entry.file_name().to_string_lossy().into_owned();
                let pristine = good.join(kind).join(&key);
                if key.starts_with('.') || !pristine.exists() {
                    continue;
                }
                if differs(&entry.path(), &pristine) {
                    let to = world.path("export");
                    let name = format!("{kind}/{key}");
                    let words = ["cache", "export", &to, &name];
                    if self.bakeoff(world, "cache", &words).status().unwrap().success() {
                        outcome.cache.push(format!("{name} is another one than it was"));
                    }
                }
            }
        }
    }

    /// Processes, mounts, loop devices, temporary files.
    fn check_left(&self, world: &World, outcome: &mut Outcome) {
        let dir = world.dir.to_str().unwrap();
        let until = Instant::now() + Duration::from_secs(5);
        // The kernel takes a loop device away when the last one who looks at it has gone,
        // and another trial may be looking.
        let held = loop {
            let held = [processes(dir), mounts(dir), loop_devices(dir)].concat();
            if held.is_empty() || Instant::now() > until {
                break held;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        outcome.left.extend(held);
        let mut files = Vec::new();
        entries_below(&world.dir.join("tmp"), &mut files);
        entries_below(&world.dir.join("cache/work"), &mut files);
        let mut all = Vec::new();
        entries_below(&world.dir, &mut all);
        files.extend(all.into_iter().filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            [".making-", ".writing-", ".tmp"].iter().any(|prefix| name.starts_with(prefix))
                || name == "initramfs.cpio"
        }));
        outcome.left.extend(files.iter().map(|path| path.display().to_string()));
    }
}

fn said(world: &World) -> String {
    let text = fs::read(world.dir.join("said")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// What a report settles, one line each.
fn verdicts(run: &Path) -> BTreeSet<String> {
    let Ok(bytes) = fs::read(run.join("report.json")) else { return BTreeSet::new() };
    let report: Value = serde_json::from_slice(&bytes).unwrap();
    let rows = |list: &str, keys: &[&str]| -> Vec<String> {
        let rows = report[list].as_array().cloned().unwrap_or_default();
        let text = |row: &Value, key: &str| match &row[key] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let line = |row: &Value| keys.iter().map(|key| text(row, key)).collect::<Vec<_>>();
        rows.iter().map(|row| format!("{list} {}", line(row).join(" "))).collect()
    };
    let mut all = rows("verdicts", &["candidate", "arch", "verdict"]);
    all.extend(rows("claims", &["candidate", "arch", "claim", "reading"]));
    all.extend(rows("splats", &["candidate", "arch", "profile", "reading", "title"]));
    all.into_iter().collect()
}

/// Each complete boot: its `end.json`, and what stands in it.
fn boots(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files_named(run, "end.json").into_iter().map(|f| (f.clone(), fs::read(f).unwrap())).collect()
}

fn files_named(dir: &Path, name: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    files_below(dir, &mut all);
    // Only of boots that are complete.
    all.retain(|path| path.ends_with(name) && path.with_file_name("end.json").exists());
    all.sort();
    all
}

fn files_below(dir: &Path, all: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() { files_below(&path, all) } else { all.push(path) }
    }
    all.sort();
}

fn entries_below(dir: &Path, all: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            entries_below(&path, all);
        }
        all.push(path);
    }
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").args(["-a", "--"]).arg(from).arg(to).status().unwrap();
    assert!(status.success(), "cp of {}", from.display());
}

/// Whether two entries differ in what is used of them.
fn differs(one: &Path, other: &Path) -> bool {
    let read = |dir: &Path| {
        let mut files = Vec::new();
        files_below(dir, &mut files);
        // These say when and where it was made.
        let own = ["manifest.json", "built.json", "workspace.json"];
        files.retain(|file| !own.iter().any(|name| file.ends_with(name)));
        files.sort();
        let inside = |file: &PathBuf| file.strip_prefix(dir).unwrap().to_owned();
        files
            .iter()
            .map(|file| (inside(file), fs::read(file).unwrap_or_default()))
            .collect::<Vec<_>>()
    };
    read(one) != read(other)
}

/// Processes that have to do with a folder.
fn processes(dir: &str) -> Vec<String> {
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        if pid == std::process::id() {
            continue;
        }
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        let ours = [read("cmdline"), read("environ")]
            .iter()
            .any(|bytes| String::from_utf8_lossy(bytes).contains(&format!("{dir}/")));
        if ours && !stat.contains(") Z ") {
            let line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            left.push(format!("{pid} {line}"));
        }
    }
    left
}

/// Mounts in a folder.
fn mounts(dir: &str) -> Vec<String> {
    lines_about(dir, &fs::read_to_string("/proc/self/mountinfo").unwrap())
}

/// Loop devices on a file in a folder.
fn loop_devices(dir: &str) -> Vec<String> {
    let Ok(output) = Command::new("losetup").arg("-a").output() else { return Vec::new() };
    lines_about(dir, &String::from_utf8_lossy(&output.stdout))
}

fn lines_about(dir: &str, text: &str) -> Vec<String> {
    let inside = format!("{dir}/");
    text.lines().filter(|line| line.contains(&inside)).map(str::to_owned).collect()
}

/// A library that makes the clock of whoever loads it jump, once, after a time.
fn clock(dir: &Path) -> Option<PathBuf> {
    const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>
static long after(void) { const char *s = getenv("JUMP_AFTER_MS"); return s ? atol(s) : 0; }
static struct timespec begun;
__attribute__((constructor)) static void begin(void) { syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &begun); }
int clock_gettime(clockid_t id, struct timespec *ts)
{
	int r = syscall(SYS_clock_gettime, id, ts);
	const char *by = getenv(id == CLOCK_REALTIME ? "JUMP_REALTIME" : id == CLOCK_MONOTONIC ? "JUMP_MONOTONIC" : "");
	struct timespec now;
	if (r || !by)
		return r;
	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
	if ((now.tv_sec - begun.tv_sec) * 1000 + (now.tv_nsec - begun.tv_nsec) / 1000000 >= after())
		ts->tv_sec += atol(by);
	return r;
}
"#;
    let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
    fs::write(&source, SOURCE).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(&source);
    gcc.status().ok()?.success().then_some(library)
}

/// A small file system of its own.
struct Disk {
    image: PathBuf,
    at: PathBuf,
}

fn tool(program: &str, words: &[&str]) -> bool {
    Command::new(program)
        .args(words)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn can_mount(dir: &Path) -> bool {
    let dir = dir.join("try");
    fs::create_dir_all(&dir).unwrap();
    let image = dir.join("image");
    let at = dir.join("at");
    fs::create_dir_all(&at).unwrap();
    fs::File::create(&image).unwrap().set_len(4 << 20).unwrap();
    tool("mkfs.ext4", &["-q", image.to_str().unwrap()])
        && tool("mount", &["-o", "loop", image.to_str().unwrap(), at.to_str().unwrap()])
        && tool("umount", &[at.to_str().unwrap()])
}

impl Disk {
    fn mount(dir: &Path) -> Disk {
        let (image, at) = (dir.join("image"), dir.join("disk"));
        fs::create_dir_all(&at).unwrap();
        fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        assert!(tool("mkfs.ext4", &["-q", "-m", "0", "-N", "2000", image.to_str().unwrap()]));
        let disk = Disk { image, at };
        disk.put();
        disk
    }

    fn put(&self) {
        let (image, at) = (self.image.to_str().unwrap(), self.at.to_str().unwrap());
        assert!(tool("mount", &["-o", "loop", image, at]));
    }

    /// Leaves so many KiB.
    fn fill(&self, kib: u64) {
        let mut file = fs::File::create(self.at.join("ballast")).unwrap();
        let part = vec![1; 4096];
        while file.write_all(&part).is_ok() {}
        let _ = file.sync_all();
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(kib << 10)).unwrap();
    }

    /// Leaves so many inodes.
    fn fill_inodes(&self, left: u64) {
        let dir = self.at.join("many");
        fs::create_dir(&dir).unwrap();
        let mut made = 0_u64;
        while fs::File::create(dir.join(made.to_string())).is_ok() {
            made += 1;
        }
        for number in made.saturating_sub(left)..made {
            let _ = fs::remove_file(dir.join(number.to_string()));
        }
    }

    fn empty(&self) {
        let _ = fs::remove_file(self.at.join("ballast"));
        let _ = fs::remove_dir_all(self.at.join("many"));
    }

    fn turn_read_only(&self) {
        let at = self.at.to_str().unwrap();
        // With files open for writing it says no: then as ext4 does after an error.
        if !tool("mount", &["-o", "remount,ro", at]) {
            assert!(tool("mount", &["-o", "remount,abort", at]));
        }
    }

    /// As after fsck and a reboot.
    fn mend(&self) {
        self.take_away();
        self.put();
    }

    fn take_away(&self) {
        for _ in 0..100 {
            if tool("umount", &[self.at.to_str().unwrap()]) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.take_away();
    }
}

/// A server of a remote cache that fails; it ends with the campaign.
fn serve(fault: Fault, remote: PathBuf, dice: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut dice = Dice(dice | 1);
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head.split(' ').nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
            let Ok(mut bytes) = fs::read(remote.join(&path)) else {
                let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
                continue;
            };
            let all = bytes.len();
            let at = usize::try_from(dice.below(all as u64)).unwrap();
            let length = match fault {
                ServerLies => usize::try_from(dice.below(2 * all as u64)).unwrap(),
                _ => all,
            };
            match fault {
                ServerRedirects => {
                    let _ = write!(
                        stream,
                        "HTTP/1.1 302 Found\r\nlocation: /{path}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                    );
                    continue;
                }
                ServerFlips => bytes[at] ^= 1 << dice.below(8),
                ServerCuts | ServerStalls => bytes.truncate(at),
                _ => {}
            }
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            let _ = stream.write_all(&bytes);
            if fault == ServerStalls {
                // Another request finds nobody at home.
                std::thread::sleep(Duration::from_secs(60));
            }
        }
    });
    address
}

/// Real kernels and QEMU: killed, stopped, terminated, and gone on with.
fn real(spec: &str, count: u64, seed: u64) -> ExitCode {
    let base = tempfile::Builder::new().prefix("bf").tempdir_in("/tmp").unwrap();
    let program = std::env::current_exe().unwrap();
    let part = ["--arch", "x86_64", "--quick", "--accel", "tcg"];
    let start = |words: &[&str]| {
        let log = fs::File::options().create(true).append(true).open(base.path().join("said"));
        Command::new(&program)
            .args(words)
            .args(["--progress", "lines"])
            .env(AS_BAKEOFF, "1")
            .env("TMPDIR", base.path().join("tmp"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap()
    };
    fs::create_dir_all(base.path().join("tmp")).unwrap();
    let out = |name: &str| base.path().join(name).display().to_string();
    let began = Instant::now();
    let whole = out("whole");
    let code = wait(&mut start(&[&["run", spec, "--out", &whole][..], &part].concat()));
    let all = began.elapsed();
    assert!(reached(code), "an undisturbed run failed: {code:?}");
    let expected = verdicts(Path::new(&whole));
    let only_verdicts = |all: &BTreeSet<String>| -> BTreeSet<String> {
        all.iter().filter(|line| line.starts_with("verdicts")).cloned().collect()
    };
    eprintln!("undisturbed: {:.0?}", all);
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut rows: BTreeMap<&str, [u64; 4]> = BTreeMap::new();
    for number in 0..count {
        let what = *dice.pick(&["runner killed (SIGKILL)", "QEMU killed", "QEMU stopped for 2 s"]);
        let run = out(&format!("t{number}"));
        let mut child = start(&[&["run", spec, "--out", &run][..], &part].concat());
        std::thread::sleep(all.mul_f64(0.05 + dice.below(800) as f64 / 1000.0));
        let qemu = || {
            let line = processes(base.path().to_str().unwrap());
            line.into_iter()
                .find(|l| l.contains(" qemu-system") && l.contains(&run))
                .and_then(|l| l.split(' ').next()?.parse().ok())
        };
        match (what, qemu()) {
            ("runner killed (SIGKILL)", _) => signal(child.id(), "-KILL"),
            ("QEMU killed", Some(pid)) => signal(pid, "-KILL"),
            (_, Some(pid)) => {
                signal(pid, "-STOP");
                std::thread::sleep(Duration::from_secs(2));
                signal(pid, "-CONT");
            }
            (_, None) => {}
        }
        let mut code = wait(&mut child);
        let before = boots(Path::new(&run));
        for _ in 0..3 {
            if reached(code) {
                break;
            }
            code = wait(&mut start(&["resume", &run, "--accel", "tcg"]));
        }
        let after = boots(Path::new(&run));
        let row = rows.entry(what).or_default();
        row[0] += 1;
        let now = verdicts(Path::new(&run));
        row[1] += u64::from(!reached(code) || only_verdicts(&now) != only_verdicts(&expected));
        row[2] += u64::from(before.iter().any(|(end, text)| after.get(end) != Some(text)));
        std::thread::sleep(Duration::from_secs(1));
        let tmp = fs::read_dir(base.path().join("tmp")).unwrap().count();
        row[3] += u64::from(!processes(base.path().to_str().unwrap()).is_empty() || tmp > 0);
    }
    println!("| fault, real kernels and QEMU | tried | verdict wrong | lost | left behind |");
    println!("|---|---:|---:|---:|---:|");
    for (what, [tried, wrong, lost, left]) in &rows {
        println!("| {what} | {tried} | {wrong} | {lost} | {left} |");
    }
    if rows.values().all(|row| row[1..].iter().all(|n| *n == 0)) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
