// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where kernels are made, and how those places go away again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use super::TREE;
use crate::base::error::{Context, Result};
use crate::keep::cache::{Cache, Kind};

/// What the name of a log of a base's build ends in, after the key it is built for.
pub(super) const STOCK_LOG: &str = ".stock.log";
/// What the name of a folder that is being removed ends in.
const GONE: &str = "gone";

/// A folder to build in, gone when done. Its place follows from the key, and the
/// caller holds the key's lock: what lies there is left over from a crash.
pub(super) struct Workspace<'a> {
    pub(super) dir: PathBuf,
    pub(super) tree: PathBuf,
    bin: &'a Bin,
}

impl Workspace<'_> {
    pub(super) fn new<'a>(cache: &Cache, key: &str, bin: &'a Bin) -> Result<Workspace<'a>> {
        let dir = cache.work_dir()?.join(key);
        if dir.exists() {
            fs::remove_dir_all(&dir).at_path("remove", &dir)?;
        }
        fs::create_dir_all(&dir).at_path("create", &dir)?;
        Ok(Workspace { tree: dir.join(TREE), dir, bin })
    }
}

/// Removes the workspaces of runs that were killed: a gigabyte each. One whose
/// key is locked is in use.
pub(super) fn remove_leftovers(cache: &Cache) -> Result<()> {
    let work = cache.work_dir()?;
    for entry in fs::read_dir(&work).at_path("read", &work)? {
        let dir = entry.at_path("read", &work)?.path();
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Renamed for removal, then came a crash, or another run is at it: it is of no
        // use to anybody, and need not have a tree any more.
        if dir.extension().is_some_and(|ext| ext == GONE) {
            let _ = fs::remove_dir_all(&dir);
            continue;
        }
        // What was said while a base was made; whoever is at it has its lock.
        if let Some(key) = name.strip_suffix(STOCK_LOG)
            && cache.try_lock(Kind::Kernel, key)?.is_some()
        {
            let _ = fs::remove_file(&dir);
            continue;
        }
        // Only what a kernel was made in has a tree with this name.
        if dir.join(TREE).is_dir()
            && let Some(_lock) = cache.try_lock(Kind::Kernel, &name)?
        {
            let removed = fs::remove_dir_all(&dir);
            // Somebody else may be at it.
            if dir.exists() {
                removed.at_path("remove", &dir)?;
            }
        }
    }
    Ok(())
}

impl Drop for Workspace<'_> {
    fn drop(&mut self) {
        self.bin.remove(&self.dir);
    }
}

/// Removes folders while others work: eighty thousand links and a gigabyte of
/// objects take seconds. Whoever drops it waits for the rest.
#[derive(Debug, Default)]
pub(super) struct Bin {
    busy: Mutex<Vec<JoinHandle<()>>>,
}

impl Bin {
    /// The name is free at once. A folder that a crash leaves half removed has the
    /// name of a workspace still, of a key that nobody has.
    fn remove(&self, dir: &Path) {
        let gone = dir.with_extension(GONE);
        if fs::rename(dir, &gone).is_err() {
            let _ = fs::remove_dir_all(dir);
            return;
        }
        let thread = std::thread::spawn(move || drop(fs::remove_dir_all(gone)));
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
    }
}

impl Drop for Bin {
    fn drop(&mut self) {
        let busy = self.busy.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in busy.drain(..) {
            // A thread that panicked leaves a folder for the next run to remove.
            let _ = thread.join();
        }
    }
}
