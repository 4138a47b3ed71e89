// SPDX-License-Identifier: MIT OR Apache-2.0
//! `command`: anyone's workload.
//!
//! A visit runs one command line once, in a place of its own, and reads the result from
//! its exit status, from KTAP on its output, from lines `metric NAME VALUE UNIT`, or from
//! several of these. The probe knows nothing of what the command does. A program that
//! cannot be started, and a metric line that makes no sense, are errors of the visit;
//! everything else that a command may do, dying and never ending included, is a result.

mod child;
pub mod ktap;
mod metric;
mod output;
mod workplace;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use self::child::{End, Job, Stream};
use self::ktap::Tests;
use self::metric::Declared;
use self::output::{Evidence, Lines};
use self::workplace::Workplace;
use super::{Better, Condition, Emit, Metric, MetricKind, MetricRole, Note, Param, Probe, Reason};
use crate::failure::Failure;
use crate::wire::{Block, Output, Params, Record, Share, Summary, Visit};
use crate::{kernel, sys};

/// Anyone's workload.
pub const PROBE: Probe = Probe {
    name: "command",
    doc: "runs a command of the bake-off's and reads its exit status, its test results or \
          its own metrics",
    params: &[
        Param {
            name: "run",
            means: "the command line; run by `/bin/sh -c` if it has shell syntax (that needs \
                    `busybox: true` or a root file system), else split at spaces",
            takes: "text",
            sweeps: true,
        },
        Param {
            name: "name",
            means: "names the condition; left out: the program's name",
            takes: "letters, digits, `_`, `.` and `-`",
            sweeps: false,
        },
        Param {
            name: "read",
            means: "where the result comes from; left out: `exit`",
            takes: "`exit`, `ktap`, `metrics`, or a list of these",
            sweeps: false,
        },
        Param {
            name: "time-limit",
            means: "seconds after which the command is killed and has failed; left out: 60",
            takes: "1 to 3600",
            sweeps: false,
        },
        Param {
            name: "metrics",
            means: "the metrics that the command prints",
            takes: "a list of {name, unit, better: higher, lower or none, margin: 0.05}",
            sweeps: false,
        },
        Param {
            name: "processes",
            means: "processes and threads that it may have at a time; left out: 1000",
            takes: "1 to 30000",
            sweeps: false,
        },
        Param {
            name: "writes",
            means: "what it may write to. `files`: /tmp, /dev/shm and the disk. `kernel`: also \
                    /proc, /sys and all of /dev; what it changes there lasts until the boot \
                    ends, so give the step `own-boot: true`. Left out: `files`",
            takes: "`files` or `kernel`",
            sweeps: false,
        },
    ],
    metrics: &[
        Metric {
            name: PASS,
            means: "runs that passed, by exit status",
            unit: "runs",
            kind: MetricKind::Share,
            better: Better::Higher,
            margin: RUNS,
            role: MetricRole::Claim,
        },
        Metric {
            name: COMPLETE,
            means: "runs that ended by themselves with all the results they had announced",
            unit: "runs",
            kind: MetricKind::Share,
            better: Better::Higher,
            margin: RUNS,
            role: MetricRole::Claim,
        },
        Metric {
            name: TEST,
            means: "runs in which the test passed",
            unit: "runs",
            kind: MetricKind::Share,
            better: Better::Higher,
            margin: RUNS,
            role: MetricRole::Claim,
        },
        Metric {
            name: METRIC,
            means: "printed by the command",
            // Each has its own: `Condition::metrics`.
            unit: "as declared",
            kind: MetricKind::Value,
            better: Better::None,
            margin: 0.05,
            role: MetricRole::Shown,
        },
        Metric {
            name: SECONDS,
            means: "time from start to end of the command",
            unit: "s",
            kind: MetricKind::Value,
            better: Better::Lower,
            margin: 0.05,
            role: MetricRole::Shown,
        },
    ],
    excluded: &[
        Reason {
            name: "skip",
            means: "the command said that it skips (exit status 4)",
            missing: false,
        },
        Reason {
            name: "expected-failure",
            means: "the command failed as it expected to (exit status 2)",
            missing: false,
        },
        Reason { name: SKIPPED, means: "the test was skipped", missing: false },
        Reason { name: NOT_BUILT, means: "the test does not build", missing: false },
        Reason {
            name: "expected-failure/",
            means: "the test is expected to fail (XFAIL, TODO)",
            missing: false,
        },
        Reason {
            name: "no-value/",
            means: "the command ended well without printing this metric",
            missing: false,
        },
        Reason {
            name: "failed-run",
            means: "metrics of a run that failed do not count",
            missing: false,
        },
    ],
    notes: &[
        Note { name: "timed-out", means: "runs killed at their time limit", explains: None },
        Note { name: "killed", means: "runs ended by a signal", explains: None },
        Note {
            name: "tests-missing",
            means: "tests that were planned and had no result",
            explains: Some(COMPLETE),
        },
        Note {
            name: "tests-none",
            means: "runs without a single test result",
            explains: Some(COMPLETE),
        },
        Note {
            name: "tests-dropped",
            means: "results beyond the 2000 tests of a run that are told apart",
            explains: None,
        },
    ],
    condition,
    size: super::Size { blocks: 1, calls_per_block: 1, block_ms: 60_000 },
    run,
};

/// Margin of shares of runs. A run is one answer, and answers that are all alike bound a
/// loss by their number alone: 24 of them by about a quarter. A test that now always fails
/// shows in the first look; a claim of the spec may ask for less, and takes longer.
const RUNS: f64 = 0.25;

const PASS: &str = "command.pass";
const COMPLETE: &str = "command.complete";
const TEST: &str = "command.test/";
const METRIC: &str = "command.metric/";
const SECONDS: &str = "command.seconds";

/// Tests that were not run; what follows is their name.
pub const SKIPPED: &str = "skip/";
/// Tests that were not run because they do not build.
pub const NOT_BUILT: &str = "not-built/";

/// Where the host says why commands cannot be tried in this guest, if they cannot.
pub const NOT_TRIED: &str = "/workload/.not-tried";

/// Where packed programs lie in the guest, before the folders of a root file system.
const PATH: [&str; 5] = ["/workload", "/bin", "/sbin", "/usr/bin", "/usr/sbin"];
const SHELL: &str = "/bin/sh";

/// The parameters, which are their own table.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Command {
    run: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    read: OneOrMany,
    #[serde(default = "sixty")]
    time_limit: u32,
    #[serde(default)]
    metrics: Vec<Declared>,
    #[serde(default = "thousand")]
    processes: u32,
    #[serde(default)]
    writes: Writes,
}

fn sixty() -> u32 {
    60
}

fn thousand() -> u32 {
    1000
}

/// How a result is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Read {
    Exit,
    Ktap,
    Metrics,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected `exit`, `ktap`, `metrics`, or a list of these")]
enum OneOrMany {
    One(Read),
    Many(BTreeSet<Read>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        OneOrMany::One(Read::Exit)
    }
}

impl OneOrMany {
    fn has(&self, read: Read) -> bool {
        match self {
            OneOrMany::One(one) => *one == read,
            OneOrMany::Many(many) => many.contains(&read),
        }
    }
}

/// What a command may write to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Writes {
    #[default]
    Files,
    Kernel,
}

impl Command {
    fn of(params: &Params) -> Result<Command, Failure> {
        let command: Command = super::read(params)?;
        let Command { run, name, read, time_limit, metrics, processes, writes: _ } = &command;
        if run.trim().is_empty() || run.contains('\0') {
            return Err(Failure::new("`run` is not a command line").about("run"));
        }
        if let Some(name) = name {
            let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            if name.is_empty() || name.len() > 60 || !name.chars().all(plain) {
                return Err(Failure::new(format!(
                    "the name {name:?} is not made of letters, digits, `_`, `.` and `-`"
                ))
                .about("name"));
            }
        }
        if matches!(read, OneOrMany::Many(many) if many.is_empty()) {
            let why = "`read` names nothing: give `exit`, `ktap` or `metrics`";
            return Err(Failure::new(why).about("read"));
        }
        if read.has(Read::Metrics) && metrics.is_empty() {
            return Err(Failure::new(
                "`read: metrics` needs `metrics:` with a name, a unit and a direction for each",
            )
            .about("read"));
        }
        if !read.has(Read::Metrics) && !metrics.is_empty() {
            let why = "`metrics` is given, but `read` does not name `metrics`";
            return Err(Failure::new(why).about("metrics"));
        }
        for (what, value, most) in
            [("time-limit", *time_limit, 3600), ("processes", *processes, 30_000)]
        {
            if value == 0 || value > most {
                let why = format!("{what} is {value}, not between 1 and {most}");
                return Err(Failure::new(why).about(what));
            }
        }
        metric::check(metrics)?;
        Ok(command)
    }

    /// The label: the name, or the program's.
    fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            let first = self.run.split_whitespace().next().unwrap_or_default();
            let program = first.rsplit('/').next().unwrap_or_default();
            let plain = |c: &char| c.is_ascii_alphanumeric() || "_.-".contains(*c);
            let program: String = program.chars().filter(plain).take(60).collect();
            if program.is_empty() { "command".to_owned() } else { program }
        })
    }

    fn needs_shell(&self) -> bool {
        self.run.contains(|c: char| "|&;<>()$`\\\"'*?[]#~=%!{}\n".contains(c))
    }

    /// The program and its arguments; `has` tells whether there is a program at a path.
    fn words(
        &self,
        path: &[&str],
        has: fn(&Path) -> bool,
    ) -> Result<(PathBuf, Vec<String>), Failure> {
        if self.needs_shell() {
            if !has(Path::new(SHELL)) {
                return Err(Failure::new(format!(
                    "`{}` has shell syntax, and there is no {SHELL} in the guest: give \
                     `busybox: true`, or a root file system with a shell",
                    self.run
                )));
            }
            return Ok((SHELL.into(), vec!["-c".to_owned(), self.run.clone()]));
        }
        let mut words = self.run.split_whitespace().map(str::to_owned);
        let first = words.next().unwrap_or_default();
        let program = if first.contains('/') {
            Some(PathBuf::from(&first)).filter(|program| has(program))
        } else {
            path.iter().map(|dir| Path::new(dir).join(&first)).find(|program| has(program))
        };
        match program {
            Some(program) => Ok((program, words.collect())),
            None => Err(Failure::new(format!(
                "there is no program `{first}` in the guest (looked in {})",
                path.join(", ")
            ))),
        }
    }
}

fn condition(params: &Params) -> Result<Condition, Failure> {
    let command = Command::of(params)?;
    let read = |read| command.read.has(read);
    let measured = |metric: &str| match metric {
        PASS => read(Read::Exit),
        COMPLETE => read(Read::Ktap) || read(Read::Metrics),
        TEST => read(Read::Ktap),
        METRIC => read(Read::Metrics),
        _ => true,
    };
    Ok(Condition {
        without: PROBE.metrics.iter().map(|m| m.name).filter(|name| !measured(name)).collect(),
        label: command.label(),
        words: format!("`{}`", command.run.trim()),
        metrics: metric::own(&command.metrics),
        block_ms: Some(command.time_limit.saturating_mul(1000)),
        ..Condition::default()
    })
}

/// A visit in a guest.
fn run(visit: &Visit, emit: &mut Emit<'_>) -> Result<(), Failure> {
    let command = Command::of(&visit.step.params)?;
    if visit.step.blocks != 1 {
        return Err(Failure::new(format!(
            "a visit of `command` is one run, so `blocks` is 1 and not {}",
            visit.step.blocks
        )));
    }
    if let Ok(why) = std::fs::read_to_string(NOT_TRIED) {
        return Err(Failure::unreachable(why));
    }
    let mut place = Workplace::enter(command.processes, command.writes == Writes::Kernel)?;
    let directory = Path::new(workplace::DIRECTORY);
    take(&command, visit, &PATH, directory, Some(&mut place), emit)
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// One run of the command. Without a place it takes place wherever we are.
fn take(
    command: &Command,
    visit: &Visit,
    path: &[&str],
    directory: &Path,
    place: Option<&mut Workplace>,
    emit: &mut Emit<'_>,
) -> Result<(), Failure> {
    let (program, arguments) = command.words(path, is_program)?;
    let job = Job {
        program,
        arguments,
        directory,
        environment: BTreeMap::from([
            ("PATH", path.join(":")),
            ("HOME", directory.display().to_string()),
            ("TMPDIR", directory.display().to_string()),
            ("LC_ALL", "C".to_owned()),
            ("BAKEOFF_SEED", visit.seed.to_string()),
        ]),
        limit: Duration::from_secs(u64::from(command.time_limit)),
        alone: place.is_some(),
    };
    let mut evidence = Evidence::default();
    let mut lines = [Lines::default(), Lines::default()];
    let mut tests = ktap::Reader::default();
    let mut metrics = metric::Reader::new(&command.metrics);
    let (read_tests, read_metrics) =
        (command.read.has(Read::Ktap), command.read.has(Read::Metrics));
    let mut line = |line: &str| {
        if read_tests {
            tests.line(line);
        }
        if read_metrics {
            metrics.line(line);
        }
    };
    let debug_locks_before = kernel::debug_locks();
    let at_ns = sys::monotonic_ns();
    let child = match place {
        Some(place) => place.expendable(|| child::start(&job))?,
        None => child::start(&job)?,
    };
    let ended = child::finish(&job, child, |stream, bytes| {
        evidence.add(bytes);
        let index = match stream {
            Stream::Output => 0,
            Stream::Error => 1,
        };
        if read_tests || read_metrics {
            lines[index].add(bytes, &mut line);
        }
    });
    for rest in lines {
        rest.finish(&mut line);
    }
    let window_ns = sys::monotonic_ns().saturating_sub(at_ns);
    let (text, cut_bytes) = evidence.finish();
    let (step, number) = (visit.step.id, visit.number);
    let end = match &ended {
        Ok((end, _)) => end.to_string(),
        Err(failure) => failure.to_string(),
    };
    // Before anything can fail: an error is understood by what was printed.
    emit(Record::Output(Output { step, visit: number, end, text, cut_bytes }))?;
    let (end, seconds) = ended?;
    if let End::Exited(status @ (126 | 127)) = end {
        return Err(Failure::new(format!(
            "`{}` was not run: exit status {status} is a shell's word for a program that is not \
             there or cannot be executed",
            command.run
        )));
    }
    let mut block = Block {
        step,
        visit: number,
        at_ns,
        window_ns,
        debug_locks_before,
        debug_locks_after: kernel::debug_locks(),
        ..Block::default()
    };
    let read = Results { end, seconds, tests: tests.finish(), metrics: metrics.finish()? };
    count(command, read, &mut block);
    emit(Record::Block(block))
}

/// What a run came to.
struct Results<'a> {
    end: End,
    seconds: f64,
    tests: Tests,
    metrics: (BTreeMap<String, Summary>, Vec<&'a str>),
}

/// Statuses of `tools/testing/selftests/kselftest.h`.
const KSFT_PASS: i32 = 0;
const KSFT_XFAIL: i32 = 2;
const KSFT_XPASS: i32 = 3;
const KSFT_SKIP: i32 = 4;

/// From what a run came to, to the block's counts.
fn count(command: &Command, results: Results<'_>, block: &mut Block) {
    let Results { end, seconds, tests, metrics: (values, without) } = results;
    let one = |right: bool| Share { of: 1, right: u64::from(right) };
    let ended = match end {
        End::Exited(_) => true,
        End::Killed(_) => {
            block.notes.insert("killed".into(), 1);
            false
        }
        End::TimedOut(_) => {
            block.notes.insert("timed-out".into(), 1);
            false
        }
    };
    block.calls = 1;
    let passed = match end {
        End::Exited(KSFT_SKIP) => Err("skip"),
        End::Exited(KSFT_XFAIL) => Err("expected-failure"),
        End::Exited(status) => Ok(matches!(status, KSFT_PASS | KSFT_XPASS)),
        End::Killed(_) | End::TimedOut(_) => Ok(false),
    };
    if command.read.has(Read::Exit) {
        match passed {
            Ok(passed) => {
                block.shares.insert(PASS.into(), one(passed));
            }
            Err(reason) => {
                block.excluded.insert(reason.into(), 1);
                block.calls = 0;
            }
        }
    }
    let mut complete = ended;
    if command.read.has(Read::Ktap) {
        // A program that skips as a whole need not print a result.
        let none = tests.by_name.is_empty() && passed != Err("skip");
        complete &= tests.missing == 0 && !none;
        for (note, n) in [
            ("tests-missing", tests.missing),
            ("tests-none", u64::from(none)),
            ("tests-dropped", tests.dropped),
        ] {
            if n > 0 {
                block.notes.insert(note.into(), n);
            }
        }
        for (name, tally) in tests.by_name {
            let of = tally.passed + tally.failed;
            if of > 0 {
                block.shares.insert(format!("{TEST}{name}"), Share { of, right: tally.passed });
            }
            for (reason, n) in [
                (SKIPPED, tally.skipped),
                (NOT_BUILT, tally.not_built),
                ("expected-failure/", tally.expected),
            ] {
                if n > 0 {
                    block.excluded.insert(format!("{reason}{name}"), n);
                }
            }
        }
    }
    // Nothing is complete that did nothing.
    let reads = command.read.has(Read::Ktap) || command.read.has(Read::Metrics);
    if reads && passed != Err("skip") {
        block.shares.insert(COMPLETE.into(), one(complete));
    }
    if command.read.has(Read::Metrics) {
        match passed {
            Ok(true) => {
                block.values.extend(values);
                let names = without.into_iter().map(|name| (format!("no-value/{name}"), 1));
                block.excluded.extend(names);
            }
            Ok(false) => {
                block.excluded.insert("failed-run".into(), 1);
            }
            Err(_) => {}
        }
    }
    if ended && passed != Err("skip") {
        block.values.insert(SECONDS.into(), Summary::of(seconds));
    }
}

#[cfg(test)]
mod tests;
