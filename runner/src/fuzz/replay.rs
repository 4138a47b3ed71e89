// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs run again: in order, the same way on every kernel, in fresh boots.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bakeoff_fuzz::engine::Lookup;
use bakeoff_fuzz::fuzzer::{Mode, Orders, Told, VERSION};
use serde::{Deserialize, Serialize};

use super::bench::Bench;
use super::coverage::{self, Map};
use super::finding::{self, LEAK, Report, reports};
use super::reach::{Reach, Traced};
use super::session::{self, End, Session, Until};
use crate::base::error::{Error, Result};
use crate::base::event::Stage;
use crate::run::Tools;
use bakeoff_fuzz::stats::clopper_pearson;

/// Seconds a replay may take in the guest, for the host's limits.
const SECONDS: u32 = 120;
/// Boots that the emulator may lose before that is called our failure.
const LOST: u32 = 5;
/// Further guests for one pass over the programs, where some of them end theirs.
const FURTHER: usize = 3;

/// What one program did in one boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// Errno of each operation: 0 success, -1 no call.
    pub errnos: Vec<i32>,
    /// Runs of BPF programs.
    pub bpf_runs: u64,
    /// Distinct addresses.
    pub pcs: usize,
    /// What lookups of stacks by build ids answered.
    pub lookups: Vec<Lookup>,
}

/// One boot, and those that went on where it ended too early.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Boot {
    /// How it ended, in a word or two.
    pub end: String,
    /// Programs that were in flight when their guest ended: the next one was run in
    /// another guest.
    #[serde(default)]
    pub ended_by: Vec<u32>,
    /// Titles of its reports, by fingerprint.
    pub reports: BTreeMap<String, String>,
    /// By place in the list of programs; what is missing was not reached.
    pub replayed: BTreeMap<u32, Replayed>,
    /// Lockdep's `debug_locks` at the end.
    pub debug_locks: Option<bool>,
    /// The first program that got a wrong answer, by the answer's fingerprint.
    #[serde(skip)]
    pub wrong_by: BTreeMap<String, String>,
    /// How far it came: the place after the last program that was run or skipped.
    #[serde(skip)]
    pub came_to: u32,
}

/// All boots of a replay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    /// Base, candidate, architecture and profile.
    pub cell: String,
    /// The boots.
    pub boots: Vec<Boot>,
    /// For each report: title, boots in which it came, boots, and the interval
    /// of that rate at 95%.
    pub reproduced: BTreeMap<String, Reproduced>,
    /// Operations that answer one thing in one boot and another in the next.
    pub unstable: Vec<Unstable>,
    /// Patched functions of this kernel that a program reached.
    pub reached: Vec<String>,
    /// Those that none did.
    pub not_reached: Vec<String>,
    /// Distinct addresses of each patched function.
    pub functions: BTreeMap<String, u64>,
    /// Distinct addresses of each file with patched functions.
    pub files: BTreeMap<String, u64>,
    /// Distinct addresses of each file by operation.
    #[serde(default)]
    pub operations: Reach,
}

/// An operation that cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unstable {
    /// Place of the program in the list.
    pub program: u32,
    /// Place of the operation in the program.
    pub op: usize,
    /// Errnos it answered; 0 is success, -1 no call.
    pub answers: BTreeSet<i32>,
    /// Why it is not compared.
    pub why: String,
}

/// How often a report came again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reproduced {
    /// Its title.
    pub title: String,
    /// Boots in which it came.
    pub boots: u64,
    /// Boots.
    pub of: u64,
    /// Lower and upper bound of the rate at 95%.
    pub interval: Option<(f64, f64)>,
}

/// What programs ran through.
#[derive(Debug, Default)]
pub struct Addresses {
    /// All of it.
    pub all: BTreeSet<u64>,
    /// Of each operation.
    pub by_op: Traced,
}

/// Boots once and runs the programs in order; adds the addresses that were run
/// through. The boot as it was listened to is the second half of the answer.
///
/// # Errors
/// What is ours.
pub fn once(
    bench: &Bench,
    programs: &[String],
    until: Until<'_>,
    dir: &Path,
    tools: &Tools<'_>,
    traced: &mut Addresses,
) -> Result<(Boot, Session)> {
    let orders = Orders {
        version: VERSION,
        boot: "replay".into(),
        seed: 1,
        seconds: SECONDS,
        workers: 1,
        mode: Mode::Replay,
        programs: programs.to_vec(),
        favour: Vec::new(),
        ops: Vec::new(),
        points: bench.points()?,
        heavy: Vec::new(),
        // At the end only; a boot that ends with the first report has no time for it.
        leak_check_every: if until == Until::End { u32::MAX } else { 0 },
    };
    let (mut replayed, mut debug_locks, mut came_to) = (BTreeMap::new(), None, 0);
    let (mut wrong, mut wrong_by) = (BTreeSet::new(), BTreeMap::new());
    let mut leaks = BTreeSet::new();
    let listened = |told, _| match told {
        Told::Replayed { index, errnos, bpf_runs, pcs, lookups } => {
            let distinct: BTreeSet<u64> = pcs.iter().flatten().copied().collect();
            replayed.insert(index, Replayed { errnos, bpf_runs, pcs: distinct.len(), lookups });
            traced.all.extend(distinct);
            if let Some(program) = programs.get(index as usize) {
                traced.by_op.add(program, &pcs);
            }
            came_to = index + 1;
        }
        Told::End { debug_locks: locks, .. } => debug_locks = locks,
        Told::Skipped { index, why } => {
            tools.events.warning(format!("program {index} is skipped: {why}"));
            came_to = index + 1;
        }
        Told::Wrong { what, program, .. } => {
            wrong_by.entry(finding::wrong(&what).0).or_insert(program);
            wrong.insert(what);
        }
        Told::Lost { how, .. } => tools.events.warning(format!("the worker {how}")),
        Told::Leak { what, .. } => drop(leaks.insert(what)),
        Told::Hello { .. } | Told::Entry { .. } | Told::Stats(_) | Told::Times { .. } => {}
    };
    let session = session::boot(bench, &orders, until, dir, tools.cancel, listened)?;
    if let End::NoHello(line) = &session.end {
        return Err(Error::failure(format!("the guest did not come up; it last said: {line}")));
    }
    let mut reports: BTreeMap<String, String> = reports(&session)
        .into_iter()
        .map(|Report { fingerprint, title, secondary, .. }| {
            let note = if secondary { " (while another report was printed)" } else { "" };
            (fingerprint, title + note)
        })
        .collect();
    for what in &wrong {
        let (fingerprint, title) = finding::wrong(what);
        reports.entry(fingerprint).or_insert_with(|| format!("{title}: {what}"));
    }
    if let Some(what) = leaks.first() {
        reports.insert(LEAK.0.into(), format!("{}: {what}", LEAK.1));
    }
    let end = format!("{:?}", session.end);
    let ended_by = Vec::new();
    Ok((Boot { end, ended_by, reports, replayed, debug_locks, wrong_by, came_to }, session))
}

impl Boot {
    /// Adds what another guest did with the programs from `from` on.
    fn add(&mut self, further: Boot, from: u32) {
        for (fingerprint, title) in further.reports {
            self.reports.entry(fingerprint).or_insert(title);
        }
        let replayed = further.replayed.into_iter();
        self.replayed.extend(replayed.map(|(index, ran)| (from + index, ran)));
        self.debug_locks = match (self.debug_locks, further.debug_locks) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            (None, _) | (_, None) => None,
        };
        for (fingerprint, program) in further.wrong_by {
            self.wrong_by.entry(fingerprint).or_insert(program);
        }
        self.came_to = from + further.came_to;
    }
}

/// Runs the programs once. Where one of them ends its guest, those after it are run in
/// another one, [`FURTHER`] times: a kernel is not spared the rest of the programs for
/// having died of one. The inner error says why the emulator lost a guest.
fn pass(
    bench: &Bench,
    programs: &[String],
    dir: &Path,
    tools: &Tools<'_>,
    traced: &mut Addresses,
) -> Result<Result<Boot, String>> {
    let (mut boot, session) = once(bench, programs, Until::End, dir, tools, traced)?;
    if let End::Emulator(why) = session.end {
        return Ok(Err(why));
    }
    while (boot.came_to as usize) < programs.len() {
        let ended_by = boot.came_to;
        boot.ended_by.push(ended_by);
        let from = ended_by + 1;
        let rest = programs.get(from as usize..).unwrap_or_default();
        if rest.is_empty() || boot.ended_by.len() > FURTHER {
            break;
        }
        let dir = dir.with_extension(format!("after-{ended_by}"));
        let (further, session) = once(bench, rest, Until::End, &dir, tools, traced)?;
        if let End::Emulator(why) = session.end {
            return Ok(Err(why));
        }
        boot.add(further, from);
    }
    Ok(Ok(boot))
}

/// Runs the programs in `boots` fresh boots.
///
/// # Errors
/// What is ours.
pub fn replay(
    bench: &Bench,
    programs: &[String],
    boots: u32,
    out: &Path,
    tools: &Tools<'_>,
) -> Result<Replay> {
    let task = tools.events.start(Stage::Boot, format!("{} replay", bench.cell), None);
    let (mut done, mut traced) = (Vec::new(), Addresses::default());
    let mut lost = 0;
    while done.len() < boots as usize {
        let dir = out.join("boots").join(format!("replay-{:03}", done.len()));
        match pass(bench, programs, &dir, tools, &mut traced)? {
            Ok(boot) => done.push(boot),
            Err(why) => {
                lost += 1;
                if lost > LOST {
                    return Err(Error::failure(format!("{}: {why}, {lost} times", bench.cell)));
                }
                continue;
            }
        }
        task.progress(done.len() as u64, Some(boots.into()), "boots");
    }
    task.finish(format!("{} boots", done.len()));
    let map = Map::open(&bench.kernel.vmlinux)?;
    let covered = coverage::count(&map, traced.all.iter().copied());
    let patched = bench.patched.iter().filter(|name| map.has_symbol(name)).cloned();
    let (reached, not_reached): (Vec<String>, Vec<String>) =
        patched.partition(|name| covered.by_function.contains_key(name));
    let of = |counted: &BTreeMap<String, u64>, names: &[String]| -> BTreeMap<String, u64> {
        let count = |name: &String| counted.get(name).copied().unwrap_or(0);
        names.iter().map(|name| (name.clone(), count(name))).collect()
    };
    Ok(Replay {
        cell: bench.cell.to_string(),
        functions: of(&covered.by_function, &[reached.clone(), not_reached.clone()].concat()),
        files: of(&covered.by_file, &bench.patched_files),
        operations: traced.by_op.by_file(&map),
        reached,
        not_reached,
        reproduced: reproduced(&done),
        unstable: unstable(&done),
        boots: done,
    })
}

fn reproduced(boots: &[Boot]) -> BTreeMap<String, Reproduced> {
    let of = boots.len() as u64;
    let mut counted: BTreeMap<String, Reproduced> = BTreeMap::new();
    for (fingerprint, title) in boots.iter().flat_map(|boot| &boot.reports) {
        let entry = counted.entry(fingerprint.clone()).or_insert_with(|| Reproduced {
            title: title.clone(),
            boots: 0,
            of,
            interval: None,
        });
        entry.boots += 1;
    }
    for entry in counted.values_mut() {
        entry.interval = clopper_pearson(entry.boots, of, crate::spec::CONFIDENCE)
            .map(|interval| (interval.low, interval.high));
    }
    counted
}

/// An answer that is the executor's own limit, not the kernel's.
const TIMED_OUT: i32 = 110;

/// Operations whose errno is not the same in every boot that reached them, and
/// those that ran into a limit of time.
fn unstable(boots: &[Boot]) -> Vec<Unstable> {
    let mut seen: BTreeMap<(u32, usize), BTreeSet<i32>> = BTreeMap::new();
    for boot in boots {
        for (program, replayed) in &boot.replayed {
            for (op, errno) in replayed.errnos.iter().enumerate() {
                seen.entry((*program, op)).or_default().insert(*errno);
            }
        }
    }
    let why = |answers: &BTreeSet<i32>| match (answers.contains(&TIMED_OUT), answers.len()) {
        (true, _) => Some("it took longer than the executor waits"),
        (false, 2..) => Some("it answers differently from boot to boot"),
        (false, _) => None,
    };
    seen.into_iter()
        .filter_map(|((program, op), answers)| {
            let why = why(&answers)?.to_owned();
            Some(Unstable { program, op, answers, why })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(reports: &[&str], errnos: &[i32]) -> Boot {
        Boot {
            end: "Ran".into(),
            came_to: 1,
            reports: reports.iter().map(|f| ((*f).to_owned(), format!("title of {f}"))).collect(),
            replayed: BTreeMap::from([(
                0,
                Replayed { errnos: errnos.to_vec(), bpf_runs: 0, pcs: 0, lookups: Vec::new() },
            )]),
            ..Boot::default()
        }
    }

    /// A report is counted once a boot, and its rate has an interval.
    #[test]
    fn reproductions_are_counted_by_boot() {
        let boots = [boot(&["a"], &[0, 22]), boot(&["a", "b"], &[0, 11]), boot(&[], &[0, 22])];
        let counted = reproduced(&boots);
        assert_eq!((counted["a"].boots, counted["a"].of), (2, 3));
        assert_eq!(counted["b"].boots, 1);
        let (low, high) = counted["a"].interval.unwrap();
        assert!(low > 0.09 && low < 0.1 && high > 0.99, "{low} {high}");
    }

    /// What a further guest did has the places its programs have in the whole list.
    #[test]
    fn a_further_guest_adds_what_it_did() {
        let mut first = boot(&["a"], &[0]);
        first.add(Boot { debug_locks: Some(false), ..boot(&["b"], &[22]) }, 7);
        assert_eq!(first.replayed.keys().copied().collect::<Vec<_>>(), [0, 7]);
        assert_eq!(first.reports.len(), 2);
        assert_eq!((first.came_to, first.debug_locks), (8, Some(false)));
    }

    /// What differs from boot to boot, or took too long, is listed with the reason.
    #[test]
    fn noise_has_its_reason() {
        let boots = [boot(&[], &[0, 22, 110]), boot(&[], &[0, 11, 110])];
        let unstable = unstable(&boots);
        let places: Vec<_> = unstable.iter().map(|u| (u.program, u.op, u.why.as_str())).collect();
        assert_eq!(
            places,
            [
                (0, 1, "it answers differently from boot to boot"),
                (0, 2, "it took longer than the executor waits"),
            ]
        );
        assert_eq!(unstable[0].answers, BTreeSet::from([11, 22]));
    }
}
