// SPDX-License-Identifier: MIT OR Apache-2.0
//! `shard`, `merge`, and runs that a cluster does.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::error::{Error, Result};
use crate::base::progress::rough;
use crate::cli;
use crate::cli::commands::work::{self, machinery};
use crate::cli::commands::{Desk, print};
use crate::cli::dry_run;
use crate::fleet::{merge as merging, shard as sharding, slurm};
use crate::keep::freeze;
use crate::keep::store::{RunJson, Shard, Store, read_json};
use crate::run::{self, Machinery, Request};
use crate::spec::plan::Plan;

/// `bakeoff shard`: lists the shards, or does one.
pub fn shard(args: &cli::Shard, desk: &Desk) -> Result<u8> {
    let home =
        if args.spec.join("run.json").is_file() { Some(Store::open(&args.spec)?) } else { None };
    let request = Request {
        spec: args.spec.clone(),
        add: args.add.clone(),
        ..work::request(&args.begin, args.budget)
    };
    let plan = match &home {
        Some(home) => read_json::<RunJson>(&home.run_json())?.plan,
        None => request.plan(&request.spec(&desk.data)?)?,
    };
    let Some(written) = &args.shard else { return list(&plan) };
    let shard = sharding::find(&plan, written)?;
    let machinery = machinery(&args.begin.machinery);
    let own = Plan { cells: sharding::cells(&plan, &shard).cloned().collect(), ..plan };
    work::ensure_for(&own, None, &args.begin.machinery, desk)?;
    let begun = args.begin.out.as_ref().filter(|out| out.join("run.json").is_file());
    let store = match (begun, &home) {
        (Some(out), _) => gone_on_with(&Store::open(out)?, &shard, home.as_ref(), &request, desk)?,
        (None, None) => {
            let request = Request { shard: Some(shard.clone()), ..request };
            run::begin(&request, &machinery, &desk.tools())?
        }
        (None, Some(home)) => {
            let Some(out) = &args.begin.out else {
                return Err(Error::bad_input("a shard of a run needs a folder of its own")
                    .hint("give --out DIR"));
            };
            sharding::begin(home, &shard, out, &machinery, &desk.tools())?
        }
    };
    work::carry_out(&store, &machinery, false, desk)?;
    sharding::finish(&store, &shard)?;
    print(&format!("shard {shard} is done: {}\n", store.root().display()))
}

/// A shard that was interrupted, if it is the one that is wanted.
fn gone_on_with(
    store: &Store,
    shard: &Shard,
    home: Option<&Store>,
    request: &Request,
    desk: &Desk,
) -> Result<Store> {
    let run: RunJson = read_json(&store.run_json())?;
    let dir = store.root().display();
    if run.shard.as_ref() != Some(shard) {
        let is = run.shard.map_or_else(|| "a whole run".to_owned(), |is| format!("shard {is}"));
        return Err(Error::bad_input(format!("{dir} is {is}, not shard {shard}"))
            .hint("give --out another folder"));
    }
    if home.is_none() {
        freeze::check_unchanged(&run, &desk.data)?;
        if run.plan.seed != request.seed {
            return Err(Error::bad_input(format!(
                "{dir} has the seed {}, not {}",
                run.plan.seed, request.seed
            ))
            .hint("give --out another folder, or the same --seed"));
        }
    }
    Ok(store.clone())
}

fn list(plan: &Plan) -> Result<u8> {
    let mut costs: BTreeMap<Shard, (usize, Duration)> = BTreeMap::new();
    for (cell, [build, boots]) in plan.cells.iter().zip(dry_run::expected(plan)?) {
        let (cells, time) = costs.entry(Shard::of(&cell.id)).or_default();
        *cells += 1;
        *time += build + boots;
    }
    let mut text = String::new();
    for (number, shard) in sharding::all(plan).iter().enumerate() {
        let (cells, time) = costs.get(shard).copied().unwrap_or_default();
        text.push_str(&format!(
            "{number:>3}  {:<32} {cells} kernels, about {} if none is in the cache\n",
            shard.to_string(),
            rough(time)
        ));
    }
    print(&text)
}

/// `bakeoff merge`.
pub fn merge(args: &cli::Merge, desk: &Desk) -> Result<u8> {
    let store = merging::merge(&args.runs, &args.out, &desk.data, &desk.cancel)?;
    desk.events.note(format!("run directory: {}", store.root().display()));
    work::conclude(&store, args.gate, args.format, desk)
}

fn options(cluster: &cli::Cluster, typed: &cli::Machinery, desk: &Desk) -> slurm::Options {
    let cli::Machinery { accel, guest_dir, trust, base_latest, yes: _ } = typed;
    let mut words = desk.global.clone();
    if let Some(accel) = accel {
        let word = match accel {
            cli::Accel::Kvm => "kvm",
            cli::Accel::Tcg => "tcg",
        };
        words.extend(["--accel".to_owned(), word.to_owned()]);
    }
    if let Some(dir) = guest_dir {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
        words.extend(["--guest-dir".to_owned(), dir.display().to_string()]);
    }
    words.extend(trust.then(|| "--trust".to_owned()));
    words.extend(base_latest.then(|| "--base-latest".to_owned()));
    slurm::Options {
        partition: cluster.partition.clone(),
        sbatch: cluster.sbatch.clone(),
        shard: words,
    }
}

/// A run whose shards a cluster does.
pub fn run(request: &Request, args: &cli::Run, machinery: &Machinery, desk: &Desk) -> Result<u8> {
    if args.fuzz {
        return Err(Error::bad_input("fuzzing is not split into shards")
            .hint("leave out --fuzz here; `bakeoff fuzz` runs on one machine"));
    }
    let options = options(&args.cluster, &args.begin.machinery, desk);
    // Before there is a run directory.
    slurm::check(&options, &desk.tools())?;
    let store = run::begin(request, machinery, &desk.tools())?;
    follow(&store, &options, args.gate, args.format, desk)
}

/// Goes on with a run whose shards a cluster does.
pub fn resume(store: &Store, args: &cli::Resume, desk: &Desk) -> Result<u8> {
    let options = options(&args.cluster, &args.machinery, desk);
    slurm::check(&options, &desk.tools())?;
    follow(store, &options, args.gate, args.format, desk)
}

fn follow(
    store: &Store,
    options: &slurm::Options,
    gate: bool,
    format: &crate::judge::report::Format,
    desk: &Desk,
) -> Result<u8> {
    desk.events.note(format!("run directory: {}", store.root().display()));
    slurm::carry_out(store, options, &desk.tools()).map_err(|error| {
        let resume = format!("`bakeoff resume {} --on slurm` goes on", store.root().display());
        let hint = match error.next_step() {
            Some(step) => format!("{step}; {resume}"),
            None => resume,
        };
        error.hint(hint)
    })?;
    work::conclude(store, gate, format, desk)
}
