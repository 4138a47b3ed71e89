// SPDX-License-Identifier: MIT OR Apache-2.0
//! Run directories of one spec and seed become one: the union of their boots.
//!
//! Files are linked, or copied to another file system, each boot with its `end.json`
//! last, so that a merge that is killed can be done again. What is not complete stays
//! where it is.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::base::command::Cancel;
use crate::base::data::DataDir;
use crate::base::error::{Context, Error, Result};
use crate::fleet::copy_spec;
use crate::keep::freeze;
use crate::keep::store::{Environment, RunJson, Store, read_json, write_json};
use crate::spec::plan::CellId;

/// A run directory and its `run.json`.
type Part = (Store, RunJson);

/// Merges runs into a new run directory.
///
/// # Errors
/// They do not fit together, with what is different; the folder is taken; full disk;
/// interrupted.
pub fn merge(runs: &[PathBuf], out: &Path, data: &DataDir, cancel: &Cancel) -> Result<Store> {
    let parts = open(runs)?;
    let Some((first, rest)) = parts.split_first() else {
        return Err(Error::bad_input("there is nothing to merge").hint("name run directories"));
    };
    for part in rest {
        check_fit(first, part)?;
    }
    // What a run keeps of its spec is what its hash says.
    for (store, run) in &parts {
        freeze::thaw(store, run, data)?;
    }
    check_apart(&parts)?;
    let accels = environment(&parts)?;
    let store = Store::create(out)?;
    copy_spec(&first.0, &store, cancel)?;
    take_cells(&store, &parts)?;
    let run = RunJson { shard: None, environment: accels, ..first.1.clone() };
    write_json(&store.run_json(), &run)?;
    Ok(store)
}

/// Takes what shards measured into the run they are parts of.
///
/// # Errors
/// They are not parts of it; full disk.
pub fn into(home: &Store, shards: &[PathBuf]) -> Result<()> {
    let run: RunJson = read_json(&home.run_json())?;
    let parts = open(shards)?;
    let whole = (home.clone(), run.clone());
    for part in &parts {
        check_fit(&whole, part)?;
    }
    let environment = environment(&parts)?;
    take_cells(home, &parts)?;
    write_json(&home.run_json(), &RunJson { environment, ..run })
}

fn open(runs: &[PathBuf]) -> Result<Vec<Part>> {
    let part = |path: &PathBuf| {
        let store = Store::open(path)?;
        let run = read_json(&store.run_json())?;
        Ok((store, run))
    };
    runs.iter().map(part).collect()
}

/// Whether two runs are parts of one.
fn check_fit((one, a): &Part, (other, b): &Part) -> Result<()> {
    let names = format!("{} and {}", one.root().display(), other.root().display());
    let refuse =
        |how: String, hint: &str| Err(Error::bad_input(format!("{names} {how}")).hint(hint));
    if a.bakeoff != b.bakeoff {
        let how = format!("are runs of different bake-offs, {} and {}", a.bakeoff, b.bakeoff);
        return refuse(how, "merge shards of one `bakeoff shard SPEC`");
    }
    if a.spec_sha256 != b.spec_sha256 {
        let how = "are runs of different specs".to_owned();
        return refuse(how, "patches or bakeoff.yaml changed in between: do one of them again");
    }
    if a.plan.seed != b.plan.seed {
        let how = format!("have different seeds, {} and {}", a.plan.seed, b.plan.seed);
        return refuse(how, "do one of them again with the other's --seed");
    }
    if a.store_version != b.store_version || a.against_itself != b.against_itself {
        let how = "are of different kinds".to_owned();
        return refuse(how, "shards are made by one version of bakeoff, and not of `calibrate`");
    }
    if a.plan != b.plan || a.machine != b.machine || a.pack != b.pack {
        let how = "have different plans".to_owned();
        return refuse(
            how,
            "give all shards the same --arch, --candidate, --probe, --quick, --budget",
        );
    }
    Ok(())
}

/// No boot may have been made twice: one of the two would be lost.
fn check_apart(parts: &[Part]) -> Result<()> {
    let mut seen: BTreeMap<CellId, &Store> = BTreeMap::new();
    for (store, run) in parts {
        for cell in &run.plan.cells {
            if store.boots(&cell.id)?.is_empty() {
                continue;
            }
            if let Some(before) = seen.insert(cell.id.clone(), store) {
                return Err(Error::bad_input(format!(
                    "{} and {} both measured {}",
                    before.root().display(),
                    store.root().display(),
                    cell.id
                ))
                .hint("they did the same shard: merge one of them"));
            }
        }
    }
    Ok(())
}

/// What the machines were: one accelerator for each architecture, or its profiles were
/// measured in two worlds.
fn environment(parts: &[Part]) -> Result<Environment> {
    let mut all = Environment::default();
    for (store, run) in parts {
        let one = &run.environment;
        for (arch, accel) in &one.accel {
            if let Some(other) = all.accel.get(arch).filter(|other| *other != accel) {
                return Err(Error::bad_input(format!(
                    "{} ran {arch} with {accel}, others with {other}",
                    store.root().display()
                ))
                .hint("give all shards of an architecture the same --accel"));
            }
        }
        let join = |all: &mut BTreeMap<String, String>, one: &BTreeMap<String, String>| {
            for (arch, says) in one {
                also(all.entry(arch.clone()).or_default(), says);
            }
        };
        join(&mut all.accel, &one.accel);
        join(&mut all.accel_reason, &one.accel_reason);
        join(&mut all.qemu, &one.qemu);
        join(&mut all.compiler, &one.compiler);
        all.cpus = all.cpus.max(one.cpus);
        all.guest_cpus = all.guest_cpus.max(one.guest_cpus);
        also(&mut all.host_kernel, &one.host_kernel);
    }
    Ok(all)
}

/// Adds what is not said yet.
fn also(all: &mut String, one: &str) {
    if all.split("; ").any(|said| said == one) {
        return;
    }
    if !all.is_empty() {
        all.push_str("; ");
    }
    all.push_str(one);
}

fn take_cells(to: &Store, parts: &[Part]) -> Result<()> {
    let mut log = Vec::new();
    for (from, run) in parts {
        for cell in &run.plan.cells {
            let id = &cell.id;
            for file in [from.build_log(id), from.kernel_json(id)] {
                if file.is_file() {
                    take(&file, &to.root().join(from.relative(&file)))?;
                }
            }
            for boot in from.boots(id)? {
                let end = from.end_json(&boot);
                let target = to.end_json(&boot);
                if target.is_file() {
                    continue;
                }
                for entry in fs::read_dir(from.boot(&boot)).at_path("read", &end)? {
                    let path = entry.at_path("read", &end)?.path();
                    if path != end && path.is_file() {
                        take(&path, &to.root().join(from.relative(&path)))?;
                    }
                }
                take(&end, &target)?;
            }
        }
        if let Ok(said) = fs::read(from.log()) {
            let what = run.shard.as_ref().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(log, "shard {what}");
            log.extend(said);
        }
    }
    let path = to.log();
    let mut file =
        fs::File::options().create(true).append(true).open(&path).at_path("open", &path)?;
    file.write_all(&log).at_path("write", &path)
}

/// Links a file, or copies it; one that is there is replaced, for whoever put it there
/// did not come to the end.
fn take(from: &Path, to: &Path) -> Result<()> {
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir).at_path("create", dir)?;
    }
    match fs::remove_file(to) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).at_path("replace", to),
        _ => {}
    }
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to).map(|_| ()).at_path("copy to", to)
}
