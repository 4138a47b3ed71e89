// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shards as a job array of Slurm's.
//!
//! ```text
//! RUN/slurm/job.sh         what each task runs
//! RUN/slurm/job.json       the job, so that `resume --on slurm` finds it again
//! RUN/slurm/<shard>.log    what a task said, all attempts in one
//! RUN/shards/<shard>/      the shard's run directory
//! ```
//!
//! The run directory has to be at the same place on all nodes. A task that is started
//! again, because its node died or it was preempted, goes on where it was: its shard is a
//! run like any other. Slurm is asked with `squeue`, and whether a shard is done is told
//! by its `done.json`, never by Slurm.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::base::command::{Command, Finished, find_program, last_lines, quote};
use crate::base::error::{Context, Error, Result};
use crate::base::event::{Event, Stage, Task};
use crate::base::words::did_you_mean;
use crate::fleet::{merge, shard};
use crate::keep::store::{RunJson, Shard, Store, read_json, write_json, write_whole};
use crate::run::Tools;

/// How often Slurm is asked.
const POLL: Duration = Duration::from_secs(2);
/// Time for one of Slurm's commands.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time for which the controller may be away.
const AWAY: Duration = Duration::from_secs(15 * 60);
/// Time after which a shared file system shows what another node wrote.
const SETTLE: Duration = Duration::from_secs(10);
/// How often a shard is submitted that ended without being done.
const ATTEMPTS: u32 = 3;

/// How to submit.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--partition`; Slurm's own default otherwise.
    pub partition: Option<String>,
    /// More arguments of sbatch.
    pub sbatch: Vec<String>,
    /// Arguments of `bakeoff shard` beside the run, the shard and `--out`.
    pub shard: Vec<String>,
}

/// `job.json`
#[derive(Debug, Serialize, Deserialize)]
struct JobJson {
    job: String,
}

/// Whether there is a Slurm that takes jobs, and the partition.
///
/// # Errors
/// No sbatch, a controller that does not answer, no such partition.
pub fn check(options: &Options, tools: &Tools<'_>) -> Result<()> {
    for program in ["sbatch", "squeue", "sinfo", "scancel"] {
        if find_program(program).is_none() {
            return Err(Error::missing(format!("there is no Slurm here: no `{program}`")).hint(
                "run this where `sbatch` works (Debian: slurm-client), or leave out --on slurm",
            ));
        }
    }
    let finished = ask("sinfo", &["-h", "-o", "%R"], tools)?;
    if !finished.success() {
        return Err(Error::failure(format!("Slurm does not answer: {}", said(&finished))).hint(
            "`scontrol ping` says whether its controller runs; without --on slurm the run is \
             done here",
        ));
    }
    let text = finished.text();
    let mut partitions: Vec<&str> = text.lines().map(str::trim).collect();
    partitions.dedup();
    if let Some(wanted) = &options.partition
        && !partitions.contains(&wanted.as_str())
    {
        return Err(Error::bad_input(format!("Slurm has no partition `{wanted}`")).hint(format!(
            "it has {}; {}",
            partitions.join(", "),
            did_you_mean(wanted, partitions.iter().copied())
        )));
    }
    Ok(())
}

fn ask(program: &str, args: &[&str], tools: &Tools<'_>) -> Result<Finished> {
    Command::new(program)
        .args(args.iter().copied())
        .env("LC_ALL", "C")
        .timeout(PATIENCE)
        .run(tools.cancel)
}

/// The last line that a command said.
fn said(finished: &Finished) -> String {
    let said = last_lines(&finished.tail, 1).trim().to_owned();
    match (said.is_empty(), finished.timed_out) {
        (false, _) => said,
        (true, true) => "it takes longer than a minute".to_owned(),
        (true, false) => finished.status.to_string(),
    }
}

/// Has Slurm do all shards of a run that are not done, and takes in what they measured.
///
/// # Errors
/// Slurm refuses the job; a shard fails again and again; interrupted, and then the job is
/// cancelled. Everything that was measured stays.
pub fn carry_out(home: &Store, options: &Options, tools: &Tools<'_>) -> Result<()> {
    let _lock = home.lock()?;
    let run: RunJson = read_json(&home.run_json())?;
    tools.events.add(Box::new(crate::base::progress::Log::append(&home.log())?));
    let mut follow = Follow {
        home,
        options,
        tools,
        shards: shard::all(&run.plan),
        run: &run,
        job: None,
        rows: BTreeMap::new(),
        logs: BTreeMap::new(),
        attempts: BTreeMap::new(),
        away: None,
    };
    let cells = run.plan.cells.len();
    tools.events.send(&Event::RunStarted { cells, expected: None });
    let followed = follow.all();
    if let Err(error) = followed {
        follow.cancel();
        return Err(error);
    }
    tools.events.send(&Event::RunFinished);
    take_in(home)
}

/// Takes into a run what its shards have measured so far.
///
/// # Errors
/// A shard is of another run; full disk.
pub fn take_in(home: &Store) -> Result<()> {
    let dir = home.shards_dir();
    let mut shards = Vec::new();
    if let Ok(entries) = fs::read_dir(&dir) {
        for entry in entries {
            let path = entry.at_path("read", &dir)?.path();
            if path.join("run.json").is_file() {
                shards.push(path);
            }
        }
    }
    shards.sort();
    if shards.is_empty() { Ok(()) } else { merge::into(home, &shards) }
}

/// A job that is followed.
struct Follow<'a> {
    home: &'a Store,
    options: &'a Options,
    tools: &'a Tools<'a>,
    shards: Vec<Shard>,
    run: &'a RunJson,
    job: Option<String>,
    /// What Slurm last said of a shard's task.
    rows: BTreeMap<usize, Row>,
    /// How far the shards' logs were told.
    logs: BTreeMap<usize, u64>,
    attempts: BTreeMap<usize, u32>,
    /// Since when the controller does not answer.
    away: Option<Instant>,
}

/// A task as Slurm has it.
#[derive(Debug)]
enum Row {
    Waiting,
    Running(Task),
    /// Slurm has it no more; since when.
    Gone(Instant),
}

impl Follow<'_> {
    fn dir(&self, number: usize) -> PathBuf {
        self.home.shards_dir().join(number.to_string())
    }

    fn log(&self, number: usize) -> PathBuf {
        self.home.slurm_dir().join(format!("{number}.log"))
    }

    fn name(&self, number: usize) -> String {
        self.shards.get(number).map(ToString::to_string).unwrap_or_default()
    }

    fn open(&self) -> Vec<usize> {
        (0..self.shards.len()).filter(|number| !shard::is_done(&self.dir(*number))).collect()
    }

    fn all(&mut self) -> Result<()> {
        let open = self.open();
        let mut told = self.done_cells(&open);
        let total = self.run.plan.cells.len();
        let event = |done| Event::CellDone { done, total };
        if told > 0 {
            self.tools.events.send(&event(told));
        }
        let missing = self.find_again(&open)?;
        self.submit(&missing)?;
        loop {
            self.tell_logs();
            let open = self.open();
            let done = self.done_cells(&open);
            if done != told {
                told = done;
                self.tools.events.send(&event(done));
            }
            for number in (0..self.shards.len()).filter(|number| !open.contains(number)) {
                if let Some(Row::Running(task)) = self.rows.remove(&number) {
                    task.finish("done");
                }
            }
            if open.is_empty() {
                return Ok(());
            }
            let again = self.look(&open)?;
            self.submit(&again)?;
            let until = Instant::now() + POLL;
            while Instant::now() < until {
                self.tools.cancel.check()?;
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }

    fn done_cells(&self, open: &[usize]) -> usize {
        let done = self.shards.iter().enumerate().filter(|(number, _)| !open.contains(number));
        done.map(|(_, of)| shard::cells(&self.run.plan, of).count()).sum()
    }

    /// The shards that no job of before is still doing.
    fn find_again(&mut self, open: &[usize]) -> Result<Vec<usize>> {
        let path = self.home.slurm_dir().join("job.json");
        if !path.is_file() {
            return Ok(open.to_vec());
        }
        let JobJson { job } = read_json(&path)?;
        let states = self.states(&job)?.unwrap_or_default();
        let alive: Vec<usize> = open.iter().copied().filter(|n| states.contains_key(n)).collect();
        if !alive.is_empty() {
            self.tools.events.note(format!("job {job} is still in the queue"));
            self.job = Some(job);
            self.rows.extend(alive.iter().map(|number| (*number, Row::Waiting)));
        }
        Ok(open.iter().copied().filter(|number| !alive.contains(number)).collect())
    }

    fn submit(&mut self, numbers: &[usize]) -> Result<()> {
        if numbers.is_empty() {
            return Ok(());
        }
        let dir = self.home.slurm_dir();
        fs::create_dir_all(&dir).at_path("create", &dir)?;
        let dir = dir.canonicalize().at_path("find", &dir)?;
        let home = self.home.root();
        let home = home.canonicalize().at_path("find", home)?;
        let script = dir.join("job.sh");
        write_whole(&script, self.script(&home.display().to_string())?.as_bytes())?;
        let array: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        let mut command = Command::new("sbatch")
            .args(["--parsable", "--requeue", "--open-mode=append", "--exclusive"])
            .arg(format!("--array={}", array.join(",")))
            .arg(format!("--job-name=bakeoff-{}", self.run.bakeoff))
            // In sbatch's patterns a percent sign is doubled.
            .arg(format!("--output={}/%a.log", dir.display().to_string().replace('%', "%%")))
            .arg(format!("--chdir={}", home.display()));
        if let Some(partition) = &self.options.partition {
            command = command.arg(format!("--partition={partition}"));
        }
        let command = command.args(&self.options.sbatch).arg(&script);
        let finished = command.timeout(PATIENCE).run(self.tools.cancel)?;
        // `--parsable`: the job's number, and the cluster's name where there are several.
        let text = finished.text();
        let job = text.split(';').next().unwrap_or_default().trim().to_owned();
        if !finished.success() || job.is_empty() {
            return Err(Error::failure(format!("Slurm refuses the job: {}", said(&finished)))
                .hint("its options are --partition and --sbatch; `sinfo` shows what there is"));
        }
        write_json(&dir.join("job.json"), &JobJson { job: job.clone() })?;
        for number in numbers {
            *self.attempts.entry(*number).or_default() += 1;
            self.rows.insert(*number, Row::Waiting);
        }
        let shards = if numbers.len() == 1 { "shard" } else { "shards" };
        self.tools.events.note(format!("slurm   job {job}: {} {shards}", numbers.len()));
        self.job = Some(job);
        Ok(())
    }

    fn script(&self, home: &str) -> Result<String> {
        let program = std::env::current_exe().context(|| "find this program".into())?;
        let words: Vec<String> = self.options.shard.iter().map(|word| quote(word)).collect();
        let home = quote(home);
        Ok(format!(
            "#!/bin/sh\n# A task of a job array: does one shard, or goes on with it.\n\
             exec {} shard {home} \"$SLURM_ARRAY_TASK_ID\" \
             --out {home}/shards/\"$SLURM_ARRAY_TASK_ID\" --progress lines {}\n",
            quote(&program.display().to_string()),
            words.join(" ")
        ))
    }

    /// State and nodes of each task that Slurm still has; `None` if it does not answer.
    fn states(&mut self, job: &str) -> Result<Option<BTreeMap<usize, (String, String)>>> {
        let finished = ask("squeue", &["-h", "-r", "-j", job, "-o", "%K %T %N"], self.tools)?;
        let mut states = BTreeMap::new();
        if finished.success() {
            for line in finished.text().lines() {
                let mut words = line.split_whitespace().map(str::to_owned);
                let number = words.next().and_then(|number| number.parse().ok());
                if let (Some(number), Some(state)) = (number, words.next()) {
                    states.insert(number, (state, words.next().unwrap_or_default()));
                }
            }
        } else if !finished.tail.contains("Invalid job id") {
            let since = *self.away.get_or_insert_with(|| {
                self.tools.events.warning(format!("Slurm does not answer: {}", said(&finished)));
                Instant::now()
            });
            if since.elapsed() > AWAY {
                return Err(Error::failure("Slurm has not answered for a quarter of an hour")
                    .hint("the job goes on if its nodes do"));
            }
            return Ok(None);
        }
        self.away = None;
        Ok(Some(states))
    }

    /// Asks how the tasks are; gives those that have to be submitted again.
    fn look(&mut self, open: &[usize]) -> Result<Vec<usize>> {
        let Some(job) = self.job.clone() else { return Ok(open.to_vec()) };
        let Some(states) = self.states(&job)? else { return Ok(Vec::new()) };
        let mut again = Vec::new();
        for number in open.iter().copied() {
            let name = self.name(number);
            let row = self.rows.remove(&number).unwrap_or(Row::Waiting);
            let row = match (row, states.get(&number)) {
                (Row::Running(task), Some((state, _))) if !runs(state) => {
                    task.finish(format!("taken off its node ({state}); it will go on from there"));
                    Row::Waiting
                }
                (Row::Running(task), Some(_)) => Row::Running(task),
                (_, Some((state, node))) if runs(state) => {
                    let what = format!("{name} on {node}");
                    Row::Running(self.tools.events.start(Stage::Shard, what, None))
                }
                (_, Some(_)) => Row::Waiting,
                (Row::Gone(since), None) if since.elapsed() < SETTLE => Row::Gone(since),
                (Row::Gone(_), None) => {
                    self.ended(number)?;
                    again.push(number);
                    continue;
                }
                (Row::Running(task), None) => {
                    task.finish("ended");
                    Row::Gone(Instant::now())
                }
                (Row::Waiting, None) => Row::Gone(Instant::now()),
            };
            self.rows.insert(number, row);
        }
        Ok(again)
    }

    /// A task that ended without its shard being done: once more, or it is given up.
    fn ended(&self, number: usize) -> Result<()> {
        let name = self.name(number);
        let log = self.log(number);
        let text = fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let why = text.lines().rev().find_map(|line| line.strip_prefix("error: "));
        let attempts = self.attempts.get(&number).copied().unwrap_or_default();
        // What says why it failed fails again; what was lost is not known to.
        let most = if why.is_some() { ATTEMPTS - 1 } else { ATTEMPTS };
        if attempts < most {
            let why = why.unwrap_or("its task is gone");
            self.tools.events.warning(format!("shard {name}: {why}; it is submitted again"));
            return Ok(());
        }
        let why = why.unwrap_or("its task ended without a word");
        Err(Error::failure(format!("shard {name} failed {attempts} times on Slurm: {why}"))
            .hint(format!("see {}", log.display())))
    }

    /// Tells what the shards' own logs say, as a run here would.
    fn tell_logs(&mut self) {
        for number in 0..self.shards.len() {
            let path = self.dir(number).join("bakeoff.log");
            let at = self.logs.get(&number).copied().unwrap_or_default();
            let Ok(mut file) = File::open(&path) else { continue };
            let mut text = Vec::new();
            if file.seek(SeekFrom::Start(at)).is_err() || file.read_to_end(&mut text).is_err() {
                continue;
            }
            let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            for line in String::from_utf8_lossy(text.get(..whole).unwrap_or_default()).lines() {
                // The time since the shard began, then the line.
                let line = line.trim_start().split_once(' ').map_or("", |(_, line)| line);
                let begins = line.contains(" ...");
                if !begins && !line.is_empty() && !line.starts_with("run ") {
                    self.tools.events.note(line);
                }
            }
            self.logs.insert(number, at + whole as u64);
        }
    }

    /// Takes the job back; nobody would take in what it does.
    fn cancel(&self) {
        if let Some(job) = &self.job {
            // The run was interrupted: that must not stop this.
            let command = Command::new("scancel").arg(job).timeout(PATIENCE);
            let _ = command.run(&crate::base::command::Cancel::new());
        }
    }
}

/// Whether a task in this state has a node.
fn runs(state: &str) -> bool {
    matches!(state, "RUNNING" | "COMPLETING" | "SUSPENDED" | "STOPPED")
}
