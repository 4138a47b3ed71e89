// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs run again: in order, the same way on every kernel, in fresh boots.
//! And made smaller, while the report they cause stays.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bakeoff_fuzz::fuzzing::{Mode, Orders, Told, VERSION};
use bakeoff_fuzz::program::{Program, text};
use serde::{Deserialize, Serialize};

use super::bench::Bench;
use super::coverage::Map;
use super::finding::{WRONG, reports};
use super::session::{self, End};
use crate::error::{Error, Result};
use crate::event::Stage;
use crate::run::Tools;
use crate::stats::clopper_pearson;

/// Seconds a replay may take in the guest, for the host's limits.
const SECONDS: u32 = 120;
/// Confidence of the interval of a reproduction's rate.
const CONFIDENCE: f64 = 0.95;

/// What one program did in one boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// Errno of each operation: 0 success, -1 no call.
    pub errnos: Vec<i32>,
    /// Runs of BPF programs.
    pub bpf_runs: u64,
    /// Distinct addresses.
    pub pcs: usize,
}

/// One boot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Boot {
    /// How it ended, in a word or two.
    pub end: String,
    /// Titles of its reports, by fingerprint.
    pub reports: BTreeMap<String, String>,
    /// By place in the list of programs; what is missing was not reached.
    pub replayed: BTreeMap<u32, Replayed>,
    /// Lockdep's `debug_locks` at the end.
    pub debug_locks: Option<bool>,
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
    /// Operations whose errno differed from boot to boot: `program.operation`.
    pub unstable: Vec<String>,
    /// Patched functions of this kernel that no program reached.
    pub not_reached: Vec<String>,
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

/// Boots once and runs the programs in order.
///
/// # Errors
/// What is ours.
pub fn once(bench: &Bench, programs: &[String], dir: &Path, tools: &Tools<'_>) -> Result<Boot> {
    once_tracing(bench, programs, dir, tools, &mut BTreeSet::new())
}

/// The same; adds the addresses that were run through.
fn once_tracing(
    bench: &Bench,
    programs: &[String],
    dir: &Path,
    tools: &Tools<'_>,
    traced: &mut BTreeSet<u64>,
) -> Result<Boot> {
    let orders = Orders {
        version: VERSION,
        boot: "replay".into(),
        seed: 1,
        seconds: SECONDS,
        workers: 1,
        mode: Mode::Replay,
        programs: programs.to_vec(),
        leak_check_every: 0,
    };
    let (mut replayed, mut debug_locks) = (BTreeMap::new(), None);
    let mut wrong = BTreeSet::new();
    let session = session::boot(bench, &orders, false, dir, tools.cancel, |told, _| match told {
        Told::Replayed { index, errnos, bpf_runs, pcs } => {
            replayed.insert(index, Replayed { errnos, bpf_runs, pcs: pcs.len() });
            traced.extend(pcs);
        }
        Told::End { debug_locks: locks, .. } => debug_locks = locks,
        Told::Skipped { index, why } => {
            tools.events.warning(format!("program {index} is skipped: {why}"));
        }
        Told::Wrong { what, .. } => drop(wrong.insert(what)),
        Told::Lost { how, .. } => tools.events.warning(format!("the worker {how}")),
        Told::Hello { .. } | Told::Entry { .. } | Told::Stats(_) | Told::Leak { .. } => {}
    })?;
    if let End::NoHello(line) = &session.end {
        return Err(Error::failure(format!("the guest did not come up; it last said: {line}")));
    }
    let mut reports: BTreeMap<String, String> = reports(&session)
        .into_iter()
        .map(|(fingerprint, title, ..)| (fingerprint, title))
        .collect();
    if let Some(what) = wrong.first() {
        reports.insert(WRONG.0.into(), format!("{}: {what}", WRONG.1));
    }
    Ok(Boot { end: format!("{:?}", session.end), reports, replayed, debug_locks })
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
    let (mut done, mut traced) = (Vec::new(), BTreeSet::new());
    for number in 0..boots {
        let dir = out.join("boots").join(format!("replay-{number:03}"));
        done.push(once_tracing(bench, programs, &dir, tools, &mut traced)?);
        task.progress(u64::from(number) + 1, Some(boots.into()), "boots");
    }
    task.finish(format!("{} boots", done.len()));
    let map = Map::open(&bench.kernel.vmlinux)?;
    let reached: BTreeSet<String> =
        traced.into_iter().flat_map(|pc| map.place(pc).functions).collect();
    let patched = bench.patched.iter().filter(|name| map.has_symbol(name));
    Ok(Replay {
        cell: bench.cell.to_string(),
        not_reached: patched.filter(|name| !reached.contains(*name)).cloned().collect(),
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
        entry.interval = clopper_pearson(entry.boots, of, CONFIDENCE)
            .map(|interval| (interval.low, interval.high));
    }
    counted
}

/// Operations whose errno is not the same in every boot that reached them.
fn unstable(boots: &[Boot]) -> Vec<String> {
    let mut seen: BTreeMap<(u32, usize), i32> = BTreeMap::new();
    let mut differ = BTreeSet::new();
    for boot in boots {
        for (program, replayed) in &boot.replayed {
            for (op, errno) in replayed.errnos.iter().enumerate() {
                if *seen.entry((*program, op)).or_insert(*errno) != *errno {
                    differ.insert((*program, op));
                }
            }
        }
    }
    differ.into_iter().map(|(program, op)| format!("{program}.{op}")).collect()
}

/// What minimizing has come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Minimized {
    /// The smaller program.
    pub program: String,
    /// Its operations, and those of the one it came from.
    pub ops: (usize, usize),
    /// Boots it took.
    pub boots: u32,
    /// The report that stayed.
    pub fingerprint: String,
}

/// Drops operations of a program while the report stays. Each trial runs the
/// candidate program `repeat` times in a fresh boot.
///
/// # Errors
/// What is ours; the program does not cause that report.
pub fn minimize(
    bench: &Bench,
    program: &Program,
    fingerprint: Option<&str>,
    repeat: usize,
    out: &Path,
    tools: &Tools<'_>,
) -> Result<Minimized> {
    let task = tools.events.start(Stage::Boot, format!("{} minimize", bench.cell), None);
    let mut boots = 0;
    let mut reports_of = |program: &Program| -> Result<BTreeMap<String, String>> {
        let written = text::write(program);
        let dir = out.join("boots").join(format!("minimize-{boots:03}"));
        boots += 1;
        task.progress(boots.into(), None, "boots");
        Ok(once(bench, &vec![written; repeat.max(1)], &dir, tools)?.reports)
    };
    let first = reports_of(program)?;
    let wanted = match fingerprint {
        Some(wanted) if first.contains_key(wanted) => wanted.to_owned(),
        None if !first.is_empty() => first.keys().next().cloned().unwrap_or_default(),
        _ => {
            return Err(Error::bad_input("the program does not cause that report on this kernel")
                .hint("give --repeat a larger number, if it comes now and then only"));
        }
    };
    let smaller = shrink(program, |candidate| Ok(reports_of(candidate)?.contains_key(&wanted)))?;
    task.finish(format!("{} of {} operations", smaller.ops.len(), program.ops.len()));
    Ok(Minimized {
        ops: (smaller.ops.len(), program.ops.len()),
        program: text::write(&smaller),
        boots,
        fingerprint: wanted,
    })
}

/// Delta debugging over operations: ever smaller pieces are left out, as long as
/// `still` holds for what is left (Zeller and Hildebrandt, 2002).
fn shrink(program: &Program, mut still: impl FnMut(&Program) -> Result<bool>) -> Result<Program> {
    let mut best = program.clone();
    let mut piece = best.ops.len().div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        while at < best.ops.len() {
            let mut candidate = best.clone();
            let end = (at + piece).min(candidate.ops.len());
            candidate.ops.drain(at..end);
            candidate.fixup();
            if candidate.ops.len() < best.ops.len() && still(&candidate)? {
                best = candidate;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakeoff_fuzz::op::Op;
    use bakeoff_fuzz::op::value::Seeded;

    fn boot(reports: &[&str], errnos: &[i32]) -> Boot {
        Boot {
            end: "Ran".into(),
            reports: reports.iter().map(|f| ((*f).to_owned(), format!("title of {f}"))).collect(),
            replayed: BTreeMap::from([(
                0,
                Replayed { errnos: errnos.to_vec(), bpf_runs: 0, pcs: 0 },
            )]),
            debug_locks: None,
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
        assert_eq!(unstable(&boots), ["0.1"]);
    }

    /// Only the operations that matter are left, and what is left runs.
    #[test]
    fn shrinking_keeps_what_matters() {
        let mut tried = 0;
        for seed in 0..50 {
            let program = Program::roll(&mut Seeded(seed));
            let matters = |p: &Program| p.ops.iter().any(|op| matches!(op, Op::Trigger { .. }));
            if !matters(&program) {
                continue;
            }
            tried += 1;
            let small = shrink(&program, |p| Ok(matters(p))).unwrap();
            assert_eq!(small.ops.len(), 1, "{small:?}");
            let mut fixed = small.clone();
            fixed.fixup();
            assert_eq!(fixed, small);
        }
        assert!(tried > 10);
    }
}
