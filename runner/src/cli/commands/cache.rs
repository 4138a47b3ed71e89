// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bakeoff cache`: what is kept, and how it gets to another machine.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::base::error::{Context, Error, Result};
use crate::base::event::Stage;
use crate::base::words::did_you_mean;
use crate::cli::commands::{Desk, print};
use crate::cli::{CacheArgs, CacheCommand, CacheExport, CacheImport};
use crate::keep::bundle::{self, Imported, Name, Wanted};
use crate::keep::cache::{Cache, KINDS, Kind};
use crate::keep::store::{KernelJson, KernelOutcome, RunJson, Store, read_json};
use crate::make::source;

pub fn cache(args: &CacheArgs, desk: &Desk) -> Result<u8> {
    match &args.command {
        None => usage(args.clean, &desk.cache),
        Some(CacheCommand::List) => list(&desk.cache),
        Some(CacheCommand::Export(args)) => export(args, desk),
        Some(CacheCommand::Import(args)) => import(args, desk),
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn usage(clean: bool, cache: &Cache) -> Result<u8> {
    let mut text = format!("{}\n", cache.root().display());
    let mut total = 0;
    for (kind, usage) in cache.usage()? {
        total += usage.bytes;
        let mib = mib(usage.bytes);
        text.push_str(&format!("  {kind:<8} {:>4} entries {mib:>10.1} MiB\n", usage.entries));
    }
    text.push_str(&format!("  {:<8} {:>4}         {:>10.1} MiB\n", "total", "", mib(total)));
    if clean {
        cache.clean()?;
        text.push_str("removed\n");
    }
    print(&text)
}

/// Every entry there is, whole or not.
fn all(cache: &Cache) -> Result<Vec<(Name, u64)>> {
    let mut all = Vec::new();
    for kind in KINDS {
        let keys = cache.keys(kind)?;
        all.extend(keys.into_iter().map(|(key, bytes)| (Name { kind, key }, bytes)));
    }
    Ok(all)
}

fn list(cache: &Cache) -> Result<u8> {
    let mut text = String::new();
    for (name, bytes) in all(cache)? {
        text.push_str(&format!("{:>10.1} MiB  {name}\n", mib(bytes)));
    }
    print(&text)
}

fn export(args: &CacheExport, desk: &Desk) -> Result<u8> {
    let names = chosen(args, desk)?;
    let file = &args.file;
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Whole or not at all: a CI that is stopped must not keep half an archive.
    let mut aside = tempfile::NamedTempFile::new_in(dir).at_path("write in", dir)?;
    let task = desk.events.start(Stage::Cache, format!("{} entries", names.len()), None);
    bundle::write(&desk.cache, &names, aside.as_file_mut(), &desk.cancel, &mut |done| {
        task.progress(done, None, "B");
    })?;
    let bytes = aside.as_file().metadata().at_path("read", file)?.len();
    aside.persist(file).map_err(|e| e.error).at_path("write", file)?;
    task.finish("exported");
    let mut text: String = names.iter().map(|name| format!("{name}\n")).collect();
    text.push_str(&format!(
        "exported {} to {}, {:.1} MiB\n",
        entries(names.len()),
        file.display(),
        mib(bytes)
    ));
    print(&text)
}

fn entries(count: usize) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

fn chosen(args: &CacheExport, desk: &Desk) -> Result<Vec<Name>> {
    let all: Vec<Name> = all(&desk.cache)?.into_iter().map(|(name, _)| name).collect();
    let mut names = Vec::new();
    if let Some(run) = &args.run {
        names.extend(needed(&Store::open(run)?, &all, desk)?);
    } else if args.what.is_empty() {
        let usual = [Kind::Kernel, Kind::Tree, Kind::Guest];
        names.extend(all.iter().filter(|name| usual.contains(&name.kind)).cloned());
    }
    for what in &args.what {
        let (kind, key) = what.split_once('/').unwrap_or((what, ""));
        let words = || KINDS.map(Kind::name).into_iter();
        if !words().any(|known| known == kind) {
            return Err(Error::bad_input(format!("the cache has no kind `{kind}`"))
                .hint(did_you_mean(kind, words())));
        }
        let fits = |name: &&Name| name.kind.name() == kind && name.key.starts_with(key);
        let before = names.len();
        names.extend(all.iter().filter(fits).cloned());
        if names.len() == before {
            return Err(Error::bad_input(format!(
                "the cache has nothing that begins with `{what}`"
            ))
            .hint("`bakeoff cache list` shows what there is"));
        }
    }
    names.sort();
    names.dedup();
    if names.is_empty() {
        return Err(Error::bad_input("there is nothing to export")
            .hint("`bakeoff cache list` shows what there is"));
    }
    Ok(names)
}

/// What a run needs to be resumed elsewhere.
fn needed(store: &Store, all: &[Name], desk: &Desk) -> Result<Vec<Name>> {
    let run: RunJson = read_json(&store.run_json())?;
    let mut names = Vec::new();
    for cell in &run.plan.cells {
        let path = store.kernel_json(&cell.id);
        if !path.is_file() {
            continue;
        }
        let kernel: KernelJson = read_json(&path)?;
        if let KernelOutcome::Built { key, .. } = kernel.outcome {
            names.push(Name { kind: Kind::Kernel, key });
        }
        let guests = format!("{}-", cell.id.arch);
        let of_arch = |name: &&Name| name.kind == Kind::Guest && name.key.starts_with(&guests);
        names.extend(all.iter().filter(of_arch).cloned());
    }
    for base in run.bases.values() {
        // What is no entry of the cache is had from where it comes from.
        if let Ok(Some(tree)) = source::tree_at_hand(base, &desk.cache, &desk.cancel) {
            names.push(Name { kind: Kind::Tree, key: tree.key });
        }
    }
    Ok(names)
}

fn import(args: &CacheImport, desk: &Desk) -> Result<u8> {
    let mut text = String::new();
    for path in &args.files {
        let (input, what): (Box<dyn Read>, String) = match path.to_str() {
            Some("-") => (Box::new(io::stdin().lock()), "standard input".into()),
            _ => {
                let file = File::open(path)
                    .at_path("open", path)
                    .map_err(|error| error.hint("give a file that `bakeoff cache export` wrote"))?;
                (Box::new(file), path.display().to_string())
            }
        };
        let task = desk.events.start(Stage::Cache, what.clone(), None);
        let Imported { added, kept, bytes } =
            bundle::read(&desk.cache, input, &what, Wanted::All, &desk.cancel)?;
        task.finish("imported");
        text.extend(added.iter().map(|name| format!("new    {name}\n")));
        text.extend(kept.iter().map(|name| format!("there  {name}\n")));
        text.push_str(&format!(
            "{what}: {} new, {:.1} MiB; {} there already\n",
            entries(added.len()),
            mib(bytes),
            kept.len()
        ));
    }
    print(&text)
}
