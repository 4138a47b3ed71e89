// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parts that a run can be split into.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};
use crate::base::words::did_you_mean;
use crate::fleet::copy_spec;
use crate::keep::store::{RunJson, Shard, Store, read_json, write_json};
use crate::run::{self, Machinery, Tools};
use crate::spec::plan::{Cell, Plan};

/// Its presence completes a shard.
const DONE: &str = "done.json";

/// `done.json`.
#[derive(Debug, Serialize, Deserialize)]
struct DoneJson {
    shard: Shard,
}

/// All shards of a plan, in its order.
#[must_use]
pub fn all(plan: &Plan) -> Vec<Shard> {
    plan.groups().iter().filter_map(|group| group.first()).map(|cell| Shard::of(&cell.id)).collect()
}

/// The cells of a shard.
pub fn cells<'a>(plan: &'a Plan, shard: &'a Shard) -> impl Iterator<Item = &'a Cell> {
    plan.cells.iter().filter(|cell| shard.has(&cell.id))
}

/// The shard of that number, or of that name.
///
/// # Errors
/// There is none.
pub fn find(plan: &Plan, written: &str) -> Result<Shard> {
    let all = all(plan);
    let by_number = written.parse().ok().and_then(|number: usize| all.get(number));
    if let Some(shard) = by_number.or_else(|| all.iter().find(|s| s.to_string() == written)) {
        return Ok(shard.clone());
    }
    let names: Vec<String> = all.iter().map(Shard::to_string).collect();
    Err(Error::bad_input(format!("there is no shard `{written}`")).hint(format!(
        "shards have numbers from 0 to {}, and names; {}",
        all.len().saturating_sub(1),
        did_you_mean(written, names.iter().map(String::as_str))
    )))
}

/// Begins one shard of a run that is there: the same plan, on this machine.
///
/// # Errors
/// The folder is taken; a tool is missing; full disk.
pub fn begin(
    home: &Store,
    shard: &Shard,
    out: &Path,
    machinery: &Machinery,
    tools: &Tools<'_>,
) -> Result<Store> {
    let run: RunJson = read_json(&home.run_json())?;
    let store = Store::create(out)?;
    copy_spec(home, &store, tools.cancel)?;
    let environment = run::environment(cells(&run.plan, shard), &run.machine, machinery, tools)?;
    let run = RunJson { shard: Some(shard.clone()), environment, fuzz: None, ..run };
    write_json(&store.run_json(), &run)?;
    Ok(store)
}

/// Marks a shard as done.
///
/// # Errors
/// Full disk.
pub fn finish(store: &Store, shard: &Shard) -> Result<()> {
    write_json(&store.derived(DONE), &DoneJson { shard: shard.clone() })
}

/// Whether a shard is done.
#[must_use]
pub fn is_done(dir: &Path) -> bool {
    dir.join(DONE).is_file()
}
