// SPDX-License-Identifier: MIT OR Apache-2.0
//! What bakeoff itself costs: `bakeoff bench`.
//!
//! Three runs of one bake-off on one machine, one after the other, each steered as `run` is: a
//! cold one, whose trees, kernels and guest binaries are made in a cache of its own and without
//! ccache (archives come from the real cache: a mirror's speed is not ours), a rerun of it with
//! that cache, and a quick one with it. Everything that is compared is compared within that
//! call; absolute times of a shared machine mean little.
//!
//! `bakeoff bench --of RUN` says the same of runs that there are, from their records and logs.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::error::{Context, Result};
use crate::base::progress::{Spent, rough};
use crate::judge;
use crate::judge::steer::Steer;
use crate::keep::cache::{Cache, Kind};
use crate::keep::store::{
    BuildSeconds, EndJson, KernelJson, KernelOutcome, RunJson, Store, read_json,
};
use crate::run::{self, Machinery, Request, Tools};
use crate::spec::plan::CellId;

/// Where the time of one run went, in seconds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Ledger {
    name: String,
    spent: Spent,
    make: f64,
    guests: f64,
    boots: usize,
    cells: Vec<CellCost>,
}

#[derive(Clone, Debug, PartialEq)]
struct CellCost {
    id: CellId,
    copy: f64,
    make: f64,
    /// None if it was not compiled for this run.
    objects: Option<u64>,
    hello: Vec<f64>,
}

/// Measures, and says it in a table.
///
/// # Errors
/// As a run's.
pub fn measure(request: &Request, machinery: &Machinery, tools: &Tools<'_>) -> Result<String> {
    let work = tools.cache.work_dir()?;
    let dir = tempfile::tempdir_in(&work).at_path("write in", &work)?;
    let cache = Cache::open(Some(&dir.path().join("cache")))?;
    share_archives(tools.cache, &cache)?;
    let tools = Tools { cache: &cache, ..tools.clone() };
    let machinery = &Machinery { without_ccache: true, ..machinery.clone() };
    let once = |name: &str, quick: bool| -> Result<Ledger> {
        let mut request = Request { out: Some(dir.path().join(name)), ..request.clone() };
        request.selection.quick |= quick;
        let store = run::begin(&request, machinery, &tools)?;
        let steer = Steer { store: &store, data: tools.data, events: tools.events, decide: false };
        run::carry_out(&store, machinery, &tools, &steer, &|_| {
            judge::write(&store, &judge::judge(&store, tools.data)?)
        })?;
        Ledger::of(name, &store)
    };
    Ok(table(&[once("cold", false)?, once("cached", false)?, once("quick", true)?]))
}

/// Says where the time of runs went that there are.
///
/// # Errors
/// One is no run, or cannot be read.
pub fn of(runs: &[PathBuf]) -> Result<String> {
    let ledger = |path: &PathBuf| Ledger::of(&path.display().to_string(), &Store::open(path)?);
    Ok(table(&runs.iter().map(ledger).collect::<Result<Vec<_>>>()?))
}

/// Archives are what the network gave; they are linked, not fetched again.
fn share_archives(from: &Cache, to: &Cache) -> Result<()> {
    let name = Kind::Archive.name();
    let (from, to) = (from.root().join(name), to.root().join(name));
    if from.is_dir() {
        crate::make::source::workspace::link_tree(
            &from,
            &to,
            &crate::base::command::Cancel::new(),
        )?;
    }
    Ok(())
}

impl Ledger {
    fn of(name: &str, store: &Store) -> Result<Ledger> {
        let log = store.log();
        let text = fs::read_to_string(&log).at_path("read", &log)?;
        let mut ledger =
            Ledger { name: name.to_owned(), spent: Spent::read(&text), ..Ledger::default() };
        let run: RunJson = read_json(&store.run_json())?;
        for cell in run.plan.cells {
            let path: PathBuf = store.kernel_json(&cell.id);
            if !fs::exists(&path).at_path("look for", &path)? {
                continue;
            }
            let kernel: KernelJson = read_json(&path)?;
            let objects = match kernel.outcome {
                KernelOutcome::Built { objects, .. } => objects,
                _ => None,
            };
            let mut hello = Vec::new();
            for boot in store.boots(&cell.id)? {
                let end: EndJson = read_json(&store.end_json(&boot))?;
                ledger.guests += end.seconds;
                ledger.boots += 1;
                hello.extend(end.hello_seconds);
            }
            let BuildSeconds { copy, make, cached: _ } = kernel.seconds;
            ledger.make += make;
            ledger.cells.push(CellCost { id: cell.id, copy, make, objects, hello });
        }
        Ok(ledger)
    }

    /// What was spent neither in make nor in a running guest.
    fn own(&self) -> f64 {
        self.spent.seconds - self.make - self.guests
    }
}

fn table(runs: &[Ledger]) -> String {
    let seconds = |s: f64| rough(Duration::from_secs_f64(s.max(0.0)));
    let mut text = String::new();
    for Ledger { name, cells, .. } in runs {
        let built: Vec<&CellCost> = cells.iter().filter(|cell| cell.objects.is_some()).collect();
        if built.is_empty() {
            continue;
        }
        text.push_str(&format!(
            "builds of {name} (a candidate starts from its base's build folder)\n\
             {:<42} copy s  make s  objects\n",
            "cell"
        ));
        for CellCost { id, copy, make, objects, .. } in built {
            let objects = objects.map_or_else(|| "-".into(), |n| n.to_string());
            let id = id.to_string();
            text.push_str(&format!("{id:<42} {copy:>6.1} {make:>7.1} {objects:>8}\n"));
        }
        text.push('\n');
    }
    for Ledger { name, cells, .. } in runs {
        let mut hello: Vec<f64> = cells.iter().flat_map(|cell| cell.hello.clone()).collect();
        hello.sort_by(f64::total_cmp);
        if let (Some(least), Some(median), Some(most)) =
            (hello.first(), hello.get(hello.len() / 2), hello.last())
        {
            text.push_str(&format!(
                "power-on to Hello, {name}: median {median:.1} s ({least:.1} to {most:.1}, {} \
                 boots)\n",
                hello.len()
            ));
        }
    }
    text.push_str(&format!(
        "\n{:<24} {:>13} {:>7} {:>7} {:>7} {:>6} {:>6}\n",
        "whole runs", "wall", "make s", "boots s", "own s", "own %", "boots"
    ));
    for ledger in runs {
        text.push_str(&format!(
            "{:<24} {:>13} {:>7.0} {:>7.0} {:>7.0} {:>5.1}% {:>6}\n",
            ledger.name,
            seconds(ledger.spent.seconds),
            ledger.make,
            ledger.guests,
            ledger.own(),
            100.0 * ledger.own() / ledger.spent.seconds.max(f64::MIN_POSITIVE),
            ledger.boots
        ));
    }
    text.push_str("own: spent neither in make nor in a running guest\n");
    for Ledger { name, spent, .. } in runs.iter().filter(|ledger| !ledger.spent.pages.is_empty()) {
        let pages: Vec<String> = spent.pages.iter().map(|at| seconds(*at)).collect();
        text.push_str(&format!("pages before the last one, {name}: after {}\n", pages.join(", ")));
    }
    if let [cold, cached, ..] = runs
        && cold.cells.iter().map(|cell| &cell.id).eq(cached.cells.iter().map(|cell| &cell.id))
    {
        text.push_str(&format!(
            "{} / {}: {:.2}\n",
            cached.name,
            cold.name,
            cached.spent.seconds / cold.spent.seconds.max(f64::MIN_POSITIVE)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is neither make's nor the guests' is ours, and a cell that was in the cache is in
    /// no table of builds.
    #[test]
    fn a_ledger_adds_up() {
        let id = |candidate: &str| CellId {
            base: "b".into(),
            candidate: candidate.into(),
            arch: "x86_64".into(),
            profile: "lockdep".into(),
        };
        let cell =
            |name, objects, hello| CellCost { id: id(name), copy: 1.0, make: 9.0, objects, hello };
        let cold = Ledger {
            name: "cold".into(),
            spent: Spent { seconds: 100.0, pages: vec![30.0, 61.0] },
            make: 60.0,
            guests: 30.0,
            boots: 2,
            cells: vec![cell("stock", Some(700), vec![1.5, 0.5])],
        };
        let cached = Ledger {
            name: "cached".into(),
            spent: Spent { seconds: 25.0, pages: vec![] },
            cells: vec![cell("stock", None, vec![])],
            ..cold.clone()
        };
        let text = table(&[cold, cached]);
        for part in [
            "builds of cold",
            "b/stock/x86_64/lockdep                        1.0     9.0      700",
            "cold: median 1.5 s (0.5 to 1.5, 2 boots)",
            "1 min 40 s      60      30      10  10.0%      2",
            "pages before the last one, cold: after 30 s, 1 min 1 s",
            "cached / cold: 0.25",
        ] {
            assert!(text.contains(part), "no {part:?} in:\n{text}");
        }
        assert!(!text.contains("builds of cached"), "{text}");
    }
}
