// SPDX-License-Identifier: MIT OR Apache-2.0
//! What bakeoff itself costs: `bakeoff bench`.
//!
//! Two runs of one plan on one machine, one after the other: a cold one, whose
//! trees, kernels and guest binaries are made in a cache of its own and without
//! ccache (archives come from the real cache: a mirror's speed is not ours), and
//! a rerun of it with that cache. Everything that is compared is compared within that call;
//! absolute times of a shared machine mean little.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use crate::base::error::{Context, Result};
use crate::base::progress::rough;
use crate::judge;
use crate::keep::cache::{Cache, Kind};
use crate::keep::store::{EndJson, KernelJson, KernelOutcome, RunJson, Store, read_json};
use crate::run::schedule::AsPlanned;
use crate::run::{self, Machinery, Request, Tools};
use crate::spec::plan::CellId;

/// Where the time of one run went, in seconds.
#[derive(Clone, Debug, Default)]
struct Ledger {
    wall: f64,
    make: f64,
    guests: f64,
    boots: usize,
    cells: Vec<CellCost>,
}

#[derive(Clone, Debug)]
struct CellCost {
    id: CellId,
    copy: f64,
    make: f64,
    objects: Option<u64>,
    hello: Vec<f64>,
}

/// Measures, and says it in a table.
///
/// # Errors
/// As a run's.
pub fn run(request: &Request, machinery: &Machinery, tools: &Tools<'_>) -> Result<String> {
    let work = tools.cache.work_dir()?;
    let dir = tempfile::tempdir_in(&work).at_path("write in", &work)?;
    let cache = Cache::open(Some(&dir.path().join("cache")))?;
    share_archives(tools.cache, &cache)?;
    let tools = Tools { cache: &cache, ..tools.clone() };
    let machinery = &Machinery { without_ccache: true, ..machinery.clone() };
    let once = |name: &str| -> Result<Ledger> {
        let request = Request { out: Some(dir.path().join(name)), ..request.clone() };
        let began = Instant::now();
        let store = run::begin(&request, machinery, &tools)?;
        run::carry_out(&store, machinery, &tools, &AsPlanned, &|_| Ok(()))?;
        judge::write(&store, &judge::judge(&store, tools.data)?)?;
        let wall = began.elapsed().as_secs_f64();
        Ledger { wall, ..Ledger::default() }.read(&store)
    };
    let cold = once("cold")?;
    let cached = once("cached")?;
    Ok(table(&cold, &cached))
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
    fn read(mut self, store: &Store) -> Result<Ledger> {
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
                self.guests += end.seconds;
                self.boots += 1;
                hello.extend(end.hello_seconds);
            }
            let crate::keep::store::BuildSeconds { copy, make, cached: _ } = kernel.seconds;
            self.make += make;
            self.cells.push(CellCost { id: cell.id, copy, make, objects, hello });
        }
        Ok(self)
    }

    /// What was spent neither in make nor in a running guest.
    fn own(&self) -> f64 {
        self.wall - self.make - self.guests
    }
}

fn table(cold: &Ledger, cached: &Ledger) -> String {
    let seconds = |s: f64| rough(std::time::Duration::from_secs_f64(s.max(0.0)));
    let mut text = String::from(
        "builds, cold (a candidate starts from its base's build folder)\n\
         cell                                       copy s  make s  objects\n",
    );
    for CellCost { id, copy, make, objects, .. } in &cold.cells {
        let objects = objects.map_or_else(|| "-".into(), |n| n.to_string());
        text.push_str(&format!("{:<42} {copy:>6.1} {make:>7.1} {objects:>8}\n", id.to_string()));
    }
    text.push_str("\npower-on to Hello, seconds\n");
    for CellCost { id, hello, .. } in &cached.cells {
        let mut hello = hello.clone();
        hello.sort_by(f64::total_cmp);
        if let (Some(least), Some(most)) = (hello.first(), hello.last()) {
            let median = hello.get(hello.len() / 2).copied().unwrap_or(*least);
            text.push_str(&format!(
                "{:<42} median {median:.1} ({least:.1} to {most:.1}, {} boots)\n",
                id.to_string(),
                hello.len()
            ));
        }
    }
    text.push_str("\nwhole runs               wall      make    guests       own      share\n");
    for (name, ledger) in [("cold", cold), ("cached", cached)] {
        text.push_str(&format!(
            "{name:<16} {:>12} {:>9.1} {:>9.1} {:>9.1} {:>9.1}%\n",
            seconds(ledger.wall),
            ledger.make,
            ledger.guests,
            ledger.own(),
            100.0 * ledger.own() / ledger.wall
        ));
    }
    text.push_str(&format!(
        "cached / cold: {:.2} (boots: {} and {})\n\
         own: spent neither in make nor in a running guest, seconds\n",
        cached.wall / cold.wall,
        cold.boots,
        cached.boots
    ));
    text
}
