// SPDX-License-Identifier: MIT OR Apache-2.0
//! Few programs instead of many: those that together cover what all of them do,
//! judged by what each was seen to run through in a boot of its own kind.

use std::collections::BTreeSet;
use std::path::Path;

use bakeoff_fuzz::fuzzer::{Mode, Orders, Told, VERSION};

use super::bench::Bench;
use super::corpus::cover;
use super::coverage::{FOLDERS, Map};
use super::session;
use crate::base::error::{Error, Result};
use crate::base::event::Stage;
use crate::run::Tools;

/// Seconds a boot may take in the guest, for the host's limits.
const SECONDS: u32 = 300;

/// What was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distilled {
    /// The programs; the one that covers most comes first.
    pub programs: Vec<String>,
    /// Programs there were.
    pub of: usize,
    /// Distinct addresses of the folders looked at that the chosen ones cover, and
    /// that all cover.
    pub pcs: (usize, usize),
    /// Programs that ended a boot: they are not chosen.
    pub deadly: usize,
}

impl Distilled {
    /// In words.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { programs, of, pcs: (chosen, all), deadly } = self;
        let mut text = format!(
            "{} of {of} programs cover {chosen} of the {all} addresses that all of them cover in \
             {}\n",
            programs.len(),
            FOLDERS.join(", "),
        );
        if *deadly > 0 {
            text.push_str(&format!("{deadly} ended the guest and were left out\n"));
        }
        text
    }
}

/// Runs the programs, once each and in order, and chooses. A guest that dies
/// costs the program that was running: the next boot goes on behind it.
///
/// # Errors
/// No program could be run; what is ours.
pub fn distill(
    bench: &Bench,
    programs: &[String],
    most: Option<usize>,
    dir: &Path,
    tools: &Tools<'_>,
) -> Result<Distilled> {
    let mut traces: Vec<Vec<u64>> = vec![Vec::new(); programs.len()];
    let (mut from, mut deadly, mut boot) = (0, 0, 0);
    while let Some(rest) = programs.get(from..).filter(|rest| !rest.is_empty()) {
        let orders = Orders {
            version: VERSION,
            boot: format!("{boot:03}"),
            seed: 1,
            seconds: SECONDS,
            workers: 1,
            mode: Mode::Replay,
            programs: rest.to_vec(),
            favour: Vec::new(),
            ops: Vec::new(),
            points: Vec::new(),
            heavy: Vec::new(),
            leak_check_every: 0,
        };
        let task = tools.events.start(Stage::Boot, format!("{} distill", bench.cell), None);
        let mut done = 0;
        let dir = dir.join("boots").join(&orders.boot);
        let session =
            session::boot(bench, &orders, session::Until::End, &dir, tools.cancel, |told, _| {
                if let Told::Replayed { index, pcs, .. } = told {
                    done = index as usize + 1;
                    if let Some(trace) = traces.get_mut(from + index as usize) {
                        *trace = pcs.concat();
                        trace.sort_unstable();
                        trace.dedup();
                    }
                    task.progress(done as u64, Some(rest.len() as u64), "programs");
                }
            })?;
        task.finish(format!("{:?}, {done} of {} programs", session.end, rest.len()));
        boot += 1;
        if done < rest.len() {
            deadly += 1;
        }
        from += done + 1;
        if done == 0 && deadly > 3 && traces.iter().all(Vec::is_empty) {
            return Err(Error::failure("no program could be run"));
        }
    }
    let map = Map::open(&bench.kernel.vmlinux)?;
    let mut all = BTreeSet::new();
    let inside: BTreeSet<u64> = traces
        .iter()
        .flatten()
        .copied()
        .filter(|pc| all.insert(*pc) && is_inside(&map, *pc))
        .collect();
    for trace in &mut traces {
        trace.retain(|pc| inside.contains(pc));
    }
    let lengths: Vec<usize> = programs.iter().map(String::len).collect();
    let chosen = cover(&traces, &lengths, most.unwrap_or(usize::MAX));
    let covered: BTreeSet<u64> =
        chosen.iter().filter_map(|index| traces.get(*index)).flatten().copied().collect();
    Ok(Distilled {
        programs: chosen.iter().filter_map(|index| programs.get(*index)).cloned().collect(),
        of: programs.len(),
        pcs: (covered.len(), inside.len()),
        deadly,
    })
}

/// Whether an address belongs to a file of one of [`FOLDERS`].
fn is_inside(map: &Map, pc: u64) -> bool {
    map.place(pc).unit.is_some_and(|unit| {
        FOLDERS
            .iter()
            .any(|folder| unit.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
    })
}
