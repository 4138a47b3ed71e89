// SPDX-License-Identifier: MIT OR Apache-2.0
//! Boots, one after the other, until the time is up. Corpus and coverage go
//! from one boot to the next; a guest that dies costs a boot, no more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bakeoff_fuzz::fuzzing::{Mode, Orders, Stats, Told, VERSION};
use bakeoff_fuzz::program::text;
use sha2::{Digest, Sha256};

use super::bench::Bench;
use super::coverage::{self, FOLDERS, Map};
use super::finding::{Findings, WRONG};
use super::session::{self, End, Session};
use super::summary::Summary;
use crate::cache::hex;
use crate::error::{Context, Error, Result};
use crate::event::Stage;
use crate::run::{GUEST_CPUS, Tools};
use crate::store::{write_json, write_whole};

/// Boots that may fail to bring up a guest before that is called our failure.
const TRIES: u32 = 3;
/// A leak check after this many programs of a worker.
const LEAK_CHECK_EVERY: u32 = 5000;

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
    /// End at the first finding.
    pub until_finding: bool,
}

/// What is known so far.
#[derive(Debug, Default)]
struct Known {
    corpus: Vec<String>,
    pcs: BTreeSet<u64>,
    /// When each address was first seen: seconds after its boot's power-on, plus
    /// what earlier boots fuzzed.
    first_seen: BTreeMap<u64, f64>,
    total: Totals,
    lost: BTreeMap<String, u64>,
    leaks: BTreeMap<String, u64>,
    skipped: Vec<String>,
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
        }
        let longest = workers.values().map(|stats| stats.run_ns).max().unwrap_or(0);
        self.seconds += longest as f64 / 1e9;
        self
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
    let mut known = Known { corpus: read_corpus(campaign, tools)?, ..Known::default() };
    let mut findings = Findings::default();
    let began = Instant::now();
    let (mut boots, mut failed, mut first_hello) = (0_u32, 0, None);
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
            programs: known.corpus.clone(),
            leak_check_every: LEAK_CHECK_EVERY,
        };
        let session = one_boot(bench, &orders, campaign, &mut known, tools)?;
        first_hello = first_hello.or(session.hello_seconds);
        for fingerprint in findings.take(&session, boots, began.elapsed().as_secs_f64()) {
            findings.write(out, &fingerprint, &session.console)?;
        }
        for (what, program) in std::mem::take(&mut known.wrong) {
            if findings.take_wrong(&what, &program, boots, began.elapsed().as_secs_f64()) {
                findings.write(out, WRONG.0, &session.console)?;
            }
        }
        boots += 1;
        if campaign.until_finding && findings.iter().next().is_some() {
            break;
        }
        if let End::NoHello(line) = &session.end {
            failed += 1;
            if failed >= TRIES {
                return Err(Error::failure(format!(
                    "the guest did not come up in {TRIES} boots; it last said: {line}"
                )));
            }
        }
        if known.total.execs == 0 && boots >= TRIES {
            return Err(Error::failure(format!("no program was run in {boots} boots"))
                .hint(format!("the consoles are in {}", out.display())));
        }
    }
    for why in &known.skipped {
        tools.events.warning(why.clone());
    }
    keep_corpus(&known, campaign)?;
    let summary = summarize(bench, &map, &known, &findings, boots, first_hello);
    write_json(&out.join("summary.json"), &summary)?;
    Ok(summary)
}

fn one_boot(
    bench: &Bench,
    orders: &Orders,
    campaign: &Campaign,
    known: &mut Known,
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
    let mut workers = BTreeMap::new();
    let until = campaign.until_finding;
    let session =
        session::boot(bench, orders, until, &dir, tools.cancel, |told, after| match told {
            Told::Entry { program, pcs, .. } => {
                let new: Vec<u64> = pcs.into_iter().filter(|pc| known.pcs.insert(*pc)).collect();
                if !new.is_empty() {
                    known.corpus.push(program);
                }
                for pc in new {
                    known.first_seen.insert(pc, before.seconds + after);
                }
            }
            Told::Stats(stats) => {
                workers.insert(stats.worker, stats);
                let so_far = before.with(&workers);
                task.progress(so_far.execs, None, "programs");
            }
            Told::Lost { how, .. } => *known.lost.entry(how).or_default() += 1,
            Told::Wrong { what, program, .. } => known.wrong.push((what, program)),
            Told::Leak { what, .. } => *known.leaks.entry(what).or_default() += 1,
            Told::Skipped { index, why } => {
                known.skipped.push(format!("program {index} of the corpus was left out: {why}"));
            }
            Told::Hello { .. } | Told::Replayed { .. } | Told::End { .. } => {}
        })?;
    known.total = before.with(&workers);
    task.finish(format!("{:?}, {} programs", session.end, known.total.execs - before.execs));
    Ok(session)
}

/// The texts of a corpus; what is none is left out with a warning.
fn read_corpus(campaign: &Campaign, tools: &Tools<'_>) -> Result<Vec<String>> {
    let Some(dir) = campaign.corpus.as_deref().filter(|dir| dir.is_dir()) else {
        return Ok(Vec::new());
    };
    read_programs(dir, tools)
}

/// Programs of a folder, in the order of their names.
///
/// # Errors
/// The folder cannot be read.
pub fn read_programs(dir: &Path, tools: &Tools<'_>) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).at_path("read the folder", dir)? {
        let entry = entry.at_path("read the folder", dir)?;
        // A pipe or a device would keep us waiting.
        if entry.file_type().at_path("read the folder", dir)?.is_file() {
            paths.push(entry.path());
        }
    }
    paths.sort();
    let mut programs = Vec::new();
    for path in paths {
        let length = fs::metadata(&path).at_path("read", &path)?.len();
        let read = if length > text::LONGEST as u64 {
            Err(text::TextError::TooLong)
        } else {
            text::read(&fs::read(&path).at_path("read", &path)?)
        };
        match read {
            Ok(program) => programs.push(text::write(&program)),
            Err(why) => tools.events.warning(format!("{}: {why}; it is skipped", path.display())),
        }
    }
    Ok(programs)
}

/// Keeps the programs that ran through something first.
fn keep_corpus(known: &Known, campaign: &Campaign) -> Result<()> {
    let dir = campaign.corpus.clone().unwrap_or_else(|| campaign.out.join("corpus"));
    fs::create_dir_all(&dir).at_path("create", &dir)?;
    for program in &known.corpus {
        let digest = hex(&Sha256::digest(program.as_bytes()));
        let name = format!("{}.txt", digest.get(..16).unwrap_or(&digest));
        write_whole(&dir.join(name), program.as_bytes())?;
    }
    Ok(())
}

fn summarize(
    bench: &Bench,
    map: &Map,
    known: &Known,
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
    let Totals { execs, calls, bpf_run, loaded, seconds } = known.total;
    let per = |count: u64, of: f64| if of > 0.0 { round(count as f64 / of) } else { 0.0 };
    Summary {
        cell: bench.cell.to_string(),
        boots,
        seconds: round(seconds),
        execs,
        execs_per_s: per(execs, seconds),
        calls_per_s: per(calls, seconds),
        calls_per_exec: per(calls, execs as f64),
        bpf_run_share: per(bpf_run, execs as f64),
        loads_per_s: per(loaded, seconds),
        pcs: covered.pcs,
        pcs_by_dir: covered.by_folder,
        pcs_at,
        corpus: known.corpus.len(),
        findings: findings.iter().cloned().collect(),
        patched_functions_reached: reached,
        lost: known.lost.clone(),
        leaks: known.leaks.clone(),
        hello_seconds,
    }
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
