// SPDX-License-Identifier: MIT OR Apache-2.0
//! Boots, one after the other, until the time is up. Corpus and coverage go
//! from one boot to the next; a guest that dies costs a boot, no more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bakeoff_fuzz::engine::Times;
use bakeoff_fuzz::fuzzer::{Mode, Orders, Stats, Told, VERSION};
use bakeoff_fuzz::oracle;

use super::bench::Bench;
use super::corpus::{self, Corpus};
use super::coverage::{self, FOLDERS, Map};
use super::finding::Findings;
use super::reach;
use super::session::{self, End, Session, Until};
use super::summary::Summary;
use crate::base::error::{Context, Error, Result};
use crate::base::event::Stage;
use crate::keep::store::{write_json, write_whole};
use crate::run::{GUEST_CPUS, Tools};

/// Boots that may fail to bring up a guest before that is called our failure.
const TRIES: u32 = 3;
/// A leak check after this many programs of a worker.
const LEAK_CHECK_EVERY: u32 = 6000;
/// Boots in a row that may end within a second of fuzzing.
const FRUITLESS: u32 = 5;
/// Seconds of a boot after which its rates count as steady.
const STEADY_AFTER: f64 = 10.0;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Seconds of fuzzing, boots not counted.
    pub seconds: u32,
    /// Seed of everything random.
    pub seed: u32,
    /// Where everything is kept.
    pub out: PathBuf,
    /// Programs to begin with, as texts; also where new ones are kept.
    pub corpus: Option<PathBuf>,
    /// A folder of programs to begin with that stays as it is.
    pub seeds: Option<PathBuf>,
    /// End at the first finding.
    pub until_finding: bool,
}

/// What is known so far.
#[derive(Debug, Default)]
struct Known {
    pcs: BTreeSet<u64>,
    /// When each address was first seen: seconds after its boot's power-on, plus
    /// what earlier boots fuzzed.
    first_seen: BTreeMap<u64, f64>,
    total: Totals,
    steady: Steady,
    lost: BTreeMap<String, u64>,
    leaks: BTreeMap<String, u64>,
    /// Folders of leaks.
    leaks_kept: usize,
    /// Leaks whose programs are not written down yet.
    leaking: Vec<(usize, String, Vec<String>)>,
    skipped: Vec<String>,
    /// Whether interrupts show in the coverage.
    interrupts: bool,
    /// Points at which programs may hold a CPU up.
    points: usize,
    times: BTreeMap<String, Times>,
    /// Wrong answers of stack lookups, and the programs that got them.
    wrong: Vec<(String, String)>,
}

/// Sums over boots.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    execs: u64,
    calls: u64,
    bpf_run: u64,
    loaded: u64,
    ways: u64,
    seconds: f64,
}

impl Totals {
    /// With a boot's workers, each as it last told.
    fn with(mut self, workers: &BTreeMap<u32, Stats>) -> Totals {
        for stats in workers.values() {
            self.execs += stats.execs;
            self.calls += stats.calls;
            self.bpf_run += stats.bpf_run;
            self.loaded += stats.loaded;
            self.ways += stats.ways;
        }
        let longest = workers.values().map(|stats| stats.run_ns).max().unwrap_or(0);
        self.seconds += longest as f64 / 1e9;
        self
    }
}

/// What workers did after the first [`STEADY_AFTER`] seconds of their boots.
#[derive(Clone, Copy, Debug, Default)]
struct Steady {
    execs: u64,
    calls: u64,
    /// Seconds, times the workers of a boot.
    worker_seconds: f64,
}

impl Steady {
    /// With a boot's workers, from the first counts that matter to the last.
    fn with(mut self, from: &BTreeMap<u32, Stats>, to: &BTreeMap<u32, Stats>) -> Steady {
        for (worker, from) in from {
            if let Some(to) = to.get(worker) {
                self.execs += to.execs - from.execs;
                self.calls += to.calls - from.calls;
                self.worker_seconds += (to.run_ns - from.run_ns) as f64 / 1e9;
            }
        }
        self
    }

    fn execs_per_s(self) -> f64 {
        if self.worker_seconds > 0.0 {
            f64::from(GUEST_CPUS) * self.execs as f64 / self.worker_seconds
        } else {
            0.0
        }
    }

    fn calls_per_s(self) -> f64 {
        if self.worker_seconds > 0.0 {
            f64::from(GUEST_CPUS) * self.calls as f64 / self.worker_seconds
        } else {
            0.0
        }
    }
}

/// Fuzzes until the time is up.
///
/// # Errors
/// What is ours.
pub fn fuzz(bench: &Bench, campaign: &Campaign, tools: &Tools<'_>) -> Result<Summary> {
    let out = &campaign.out;
    fs::create_dir_all(out).at_path("create", out)?;
    let map = Map::open(&bench.kernel.vmlinux)?;
    let mut corpus = begin(campaign, tools)?;
    let mut known = Known::default();
    let mut findings = Findings::default();
    let began = Instant::now();
    let (mut boots, mut failed, mut fruitless, mut first_hello) = (0_u32, 0, 0, None);
    let mut did_not_boot = None;
    loop {
        let left = f64::from(campaign.seconds) - known.total.seconds;
        if left < 1.0 {
            break;
        }
        let orders = Orders {
            version: VERSION,
            boot: format!("{boots:03}"),
            seed: campaign.seed.wrapping_add(boots.wrapping_mul(1000)),
            seconds: left.ceil() as u32,
            workers: GUEST_CPUS,
            mode: Mode::Fuzz,
            programs: corpus.programs(),
            // A kernel without patches of its own has nothing to be looked at first.
            favour: favour(&bench.own_files),
            ops: reach::operations(&bench.own_files),
            points: bench.points()?,
            heavy: bench.heavy()?,
            leak_check_every: LEAK_CHECK_EVERY,
        };
        let told_before = known.total.seconds;
        let session = match one_boot(bench, &orders, campaign, (&mut known, &mut corpus), tools) {
            Ok(session) => session,
            Err(error) => {
                // Interrupted, mostly: what is known so far stays.
                let known = (&known, corpus.len());
                let summary = summarize(bench, &map, known, &findings, boots, first_hello);
                write_json(&out.join("summary.json"), &summary)?;
                return Err(error);
            }
        };
        if !matches!(session.end, End::Ran) {
            corpus.leave_out(&keep_in_flight(&session, &orders, out)?);
        }
        first_hello = first_hello.or(session.hello_seconds);
        for fingerprint in findings.take(&session, boots, began.elapsed().as_secs_f64()) {
            findings.write(out, &fingerprint, &session.console)?;
        }
        for (what, program) in std::mem::take(&mut known.wrong) {
            let after = began.elapsed().as_secs_f64();
            if let Some(first) = findings.take_wrong(&what, &program, boots, after) {
                findings.write(out, &first, &session.console)?;
            }
        }
        for (number, what, programs) in std::mem::take(&mut known.leaking) {
            keep_leak(out, number, &what, &programs)?;
        }
        boots += 1;
        if campaign.until_finding && findings.iter().next().is_some() {
            break;
        }
        if let End::NoHello(line) = &session.end {
            failed += 1;
            if failed >= TRIES {
                did_not_boot = Some(line.clone());
                break;
            }
        }
        fruitless = if known.total.seconds - told_before < 1.0 { fruitless + 1 } else { 0 };
        if fruitless >= FRUITLESS && known.total.execs > 0 {
            tools.events.warning(format!(
                "{FRUITLESS} boots in a row ended within a second of fuzzing: given up"
            ));
            break;
        }
        if known.total.execs == 0 && boots >= TRIES {
            return Err(Error::failure(format!("no program was run in {boots} boots"))
                .hint(format!("the consoles are in {}", out.display())));
        }
    }
    for why in &known.skipped {
        tools.events.warning(why.clone());
    }
    let known = (&known, corpus.len());
    let mut summary = summarize(bench, &map, known, &findings, boots, first_hello);
    summary.did_not_boot = did_not_boot;
    write_json(&out.join("summary.json"), &summary)?;
    Ok(summary)
}

fn one_boot(
    bench: &Bench,
    orders: &Orders,
    campaign: &Campaign,
    (known, corpus): (&mut Known, &mut Corpus),
    tools: &Tools<'_>,
) -> Result<Session> {
    let dir = campaign.out.join("boots").join(&orders.boot);
    let what = format!("{} fuzz {}", bench.cell, orders.boot);
    let task = tools.events.start(
        Stage::Boot,
        &what,
        Some(std::time::Duration::from_secs(u64::from(orders.seconds) + 10)),
    );
    let before = known.total;
    let (mut workers, mut steady_from) = (BTreeMap::new(), BTreeMap::new());
    let mut not_kept = None;
    let until = if campaign.until_finding { Until::Report } else { Until::End };
    let session =
        session::boot(bench, orders, until, &dir, tools.cancel, |told, after| match told {
            Told::Entry { program, pcs, .. } => {
                let new: Vec<u64> = pcs.into_iter().filter(|pc| known.pcs.insert(*pc)).collect();
                if !new.is_empty()
                    && let Err(error) = corpus.add(program)
                {
                    not_kept.get_or_insert(error);
                }
                for pc in new {
                    known.first_seen.insert(pc, before.seconds + after);
                }
            }
            Told::Stats(stats) => {
                if stats.run_ns as f64 / 1e9 >= STEADY_AFTER {
                    steady_from.entry(stats.worker).or_insert_with(|| stats.clone());
                }
                workers.insert(stats.worker, stats);
                let so_far = before.with(&workers);
                task.progress(so_far.execs, None, "programs");
            }
            Told::Lost { how, .. } => *known.lost.entry(how).or_default() += 1,
            Told::Wrong { what, program, .. } => known.wrong.push((what, program)),
            Told::Leak { what, programs, .. } => {
                let count = known.leaks.entry(what.clone()).or_default();
                *count += 1;
                // All that may be to blame comes first, then the one that is.
                if *count == 1 || programs.len() == 1 {
                    known.leaks_kept += 1;
                    known.leaking.push((known.leaks_kept, what, programs));
                }
            }
            Told::Skipped { index, why } => {
                known.skipped.push(format!("program {index} of the corpus was left out: {why}"));
            }
            Told::Times { times, .. } => {
                for (word, times) in times {
                    let Times { count, failures, ns } = times;
                    let sum = known.times.entry(word).or_default();
                    sum.count += count;
                    sum.failures += failures;
                    sum.ns += ns;
                }
            }
            Told::Hello { interrupts, delays, .. } => {
                known.interrupts = interrupts;
                known.points = if delays { orders.points.len() } else { 0 };
            }
            Told::Replayed { .. } | Told::End { .. } => {}
        });
    known.total = before.with(&workers);
    known.steady = known.steady.with(&steady_from, &workers);
    if let Some(error) = not_kept {
        return Err(error);
    }
    let session = session?;
    task.finish(format!("{:?}, {} programs", session.end, known.total.execs - before.execs));
    Ok(session)
}

/// The checks that are about what the patches change, by their words. A patch of a file
/// that no check is about favours none.
fn favour(files: &[String]) -> Vec<String> {
    let mut words: Vec<String> = files
        .iter()
        .flat_map(|file| oracle::checks_of(file))
        .map(|check| check.word().to_owned())
        .collect();
    words.sort();
    words.dedup();
    words
}

/// The corpus to begin with: the programs of the seeds, then those of its folder.
fn begin(campaign: &Campaign, tools: &Tools<'_>) -> Result<Corpus> {
    let dir = campaign.corpus.clone().unwrap_or_else(|| campaign.out.join("corpus"));
    let mut programs = Vec::new();
    for folder in campaign.seeds.iter().chain([&dir]).filter(|folder| folder.is_dir()) {
        programs.extend(read_programs(folder, tools)?);
    }
    Corpus::new(dir, programs)
}

/// Programs of a folder, in the order of their names; what is none is skipped with
/// a warning that names it.
///
/// # Errors
/// The folder cannot be read.
pub fn read_programs(dir: &Path, tools: &Tools<'_>) -> Result<Vec<String>> {
    corpus::read(dir, |warning| tools.events.warning(warning))
}

/// Writes the programs that leaked, or of which one did, into a folder.
fn keep_leak(out: &Path, number: usize, what: &str, programs: &[String]) -> Result<()> {
    let dir = out.join("leaks").join(format!("{number:02}"));
    fs::create_dir_all(&dir).at_path("create", &dir)?;
    write_whole(&dir.join("what"), format!("{what}\n").as_bytes())?;
    for (index, program) in programs.iter().enumerate() {
        write_whole(&dir.join(format!("{index:03}.txt")), program.as_bytes())?;
    }
    Ok(())
}

/// Writes the programs that were in flight when a guest died beside its console.
fn keep_in_flight(session: &Session, orders: &Orders, out: &Path) -> Result<Vec<String>> {
    let programs = session.suspects.last().map(|last| last.programs.clone()).unwrap_or_default();
    for (worker, program) in programs.iter().enumerate() {
        let file = out.join("boots").join(&orders.boot).join(format!("in-flight-{worker}.txt"));
        write_whole(&file, program.as_bytes())?;
    }
    Ok(programs)
}

fn summarize(
    bench: &Bench,
    map: &Map,
    (known, corpus): (&Known, usize),
    findings: &Findings,
    boots: u32,
    hello_seconds: Option<f64>,
) -> Summary {
    let covered = coverage::count(map, known.pcs.iter().copied());
    let mut reached: BTreeMap<String, Option<f64>> = bench
        .patched
        .iter()
        .filter(|name| map.has_symbol(name))
        .map(|name| (name.clone(), None))
        .collect();
    let mut pcs_at: BTreeMap<u32, u64> = [10, 20, 30, 60, 120, 300].map(|at| (at, 0)).into();
    for (pc, seconds) in &known.first_seen {
        let place = map.place(*pc);
        for function in &place.functions {
            if let Some(first) = reached.get_mut(function) {
                *first = Some(first.map_or(*seconds, |first| first.min(*seconds)));
            }
        }
        let inside = |unit: &String| {
            FOLDERS
                .iter()
                .any(|folder| unit.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
        };
        if place.unit.as_ref().is_some_and(inside) {
            for (at, count) in &mut pcs_at {
                *count += u64::from(*seconds <= f64::from(*at));
            }
        }
    }
    let Totals { execs, calls, bpf_run, loaded, ways, seconds } = known.total;
    let per = |count: u64, of: f64| if of > 0.0 { round(count as f64 / of) } else { 0.0 };
    Summary {
        cell: bench.cell.to_string(),
        boots,
        seconds: round(seconds),
        execs,
        execs_per_s: per(execs, seconds),
        calls_per_s: per(calls, seconds),
        steady_execs_per_s: round(known.steady.execs_per_s()),
        steady_calls_per_s: round(known.steady.calls_per_s()),
        calls_per_exec: per(calls, execs as f64),
        bpf_run_share: per(bpf_run, execs as f64),
        loads_per_s: per(loaded, seconds),
        pcs: covered.pcs,
        pcs_by_dir: covered.by_folder,
        pcs_at,
        corpus,
        findings: findings.iter().cloned().collect(),
        patched_functions_reached: reached,
        lost: known.lost.clone(),
        leaks: known.leaks.clone(),
        hello_seconds,
        did_not_boot: None,
        interrupts: known.interrupts,
        points: known.points,
        ways,
        times: known.times.clone(),
    }
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(worker: u32, execs: u64, seconds: u64) -> (u32, Stats) {
        let run_ns = seconds * 1_000_000_000;
        (worker, Stats { worker, execs, calls: 20 * execs, run_ns, ..Stats::default() })
    }

    /// Steady rates are of all workers together, whatever the boots they come from,
    /// and leave the beginning of each boot out.
    #[test]
    fn steady_rates_leave_the_beginning_out() {
        let from = BTreeMap::from([stats(0, 500, 10), stats(1, 700, 10)]);
        let to = BTreeMap::from([stats(0, 2500, 20), stats(1, 3700, 20)]);
        let once = Steady::default().with(&from, &to);
        assert!((once.execs_per_s() - 500.0).abs() < 1e-9, "{}", once.execs_per_s());
        assert!((once.calls_per_s() - 10_000.0).abs() < 1e-9);
        let twice = once.with(&from, &to);
        assert!((twice.execs_per_s() - 500.0).abs() < 1e-9);
        // A boot that ended before counts for nothing.
        let short = BTreeMap::from([stats(0, 100, 5)]);
        assert!((twice.with(&BTreeMap::new(), &short).execs_per_s() - 500.0).abs() < 1e-9);
        assert!(Steady::default().execs_per_s().abs() < 1e-9);
    }
}
