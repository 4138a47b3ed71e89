// SPDX-License-Identifier: MIT OR Apache-2.0
//! Temporary folders that do not outlive us for long: who is killed cannot remove his
//! own, so the next one who makes one removes it.
//!
//! A folder is locked by whoever uses it (flock(2), which the kernel gives back when he is
//! gone). One of the same kind that nobody has locked is left over.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::base::error::{Context, Error, Result};

/// What names of temporary folders begin with. Nobody else calls a folder so: what has this
/// name and no lock is removed, and `/tmp/bakeoff-results` may be a run of somebody's.
pub const TEMPORARY: &str = ".bakeoff-scratch-";

/// A temporary folder, gone with the value.
#[derive(Debug)]
pub struct Scratch {
    dir: tempfile::TempDir,
    _lock: File,
}

impl Scratch {
    /// A folder in the usual place for temporary files.
    ///
    /// # Errors
    /// Full disk, no permission.
    pub fn new() -> Result<Scratch> {
        Scratch::new_in(&std::env::temp_dir(), TEMPORARY)
    }

    /// A folder in `parent` whose name begins with `prefix`; what is left over of that kind
    /// is removed first.
    ///
    /// # Errors
    /// Full disk, no permission.
    pub fn new_in(parent: &Path, prefix: &str) -> Result<Scratch> {
        sweep(parent, prefix);
        for _ in 0..100 {
            let dir = tempfile::Builder::new()
                .prefix(prefix)
                .tempdir_in(parent)
                .at_path("create a temporary folder in", parent)?;
            let Ok(lock) = File::open(dir.path()) else { continue };
            // On a file system without such locks nobody takes ours for left over.
            let _ = lock.lock();
            // A sweep may have come between the folder and its lock.
            let same =
                |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
            if let (Ok(ours), Ok(there)) = (lock.metadata(), fs::metadata(dir.path()))
                && same(&ours, &there)
            {
                return Ok(Scratch { dir, _lock: lock });
            }
        }
        Err(Error::failure(format!("temporary folders in {} vanish", parent.display())))
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// It stays.
    #[must_use]
    pub fn keep(self) -> PathBuf {
        self.dir.keep()
    }
}

/// Removes what is left over in the usual place for temporary files.
pub fn sweep_temporary() {
    sweep(&std::env::temp_dir(), TEMPORARY);
}

/// Removes the folders in `parent` that begin with `prefix` and that nobody uses. What
/// cannot be removed stays.
pub fn sweep(parent: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(prefix)
            && entry.metadata().is_ok_and(|m| m.is_dir() && m.uid() == me());
        if !is_ours {
            continue;
        }
        let path = entry.path();
        if let Ok(file) = File::open(&path)
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What nobody uses any more goes with the next one; what somebody uses, and what has
    /// another name, stays.
    #[test]
    fn left_over_folders_go() {
        let dir = tempfile::tempdir().unwrap();
        let used = Scratch::new_in(dir.path(), "x-").unwrap();
        let left = dir.path().join("x-left");
        let other = dir.path().join("y");
        fs::create_dir_all(left.join("deep")).unwrap();
        fs::create_dir(&other).unwrap();
        let second = Scratch::new_in(dir.path(), "x-").unwrap();
        assert!(!left.exists() && other.exists());
        assert!(used.path().exists() && second.path().exists());
        let kept = second.keep();
        drop(used);
        assert!(kept.exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    /// Folders that people name are theirs, also beside our own.
    #[test]
    fn folders_of_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["bakeoff", "bakeoff-ci", "bakeoff-results", ".bakeoff"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::create_dir(dir.path().join(format!("{TEMPORARY}left"))).unwrap();
        sweep(dir.path(), TEMPORARY);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    }

    /// Many at a time do not sweep each other away.
    #[test]
    fn folders_survive_each_other() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let one = Scratch::new_in(dir.path(), "x-").unwrap();
                        fs::write(one.path().join("file"), "x").unwrap();
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
