// SPDX-License-Identifier: MIT OR Apache-2.0
//! The folder of a boot while it is filled.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::error::{Context, Error, Result};
use crate::keep::store::{BootId, Store};

/// Two entries of `console.times` are at least this far apart.
const TIMES: Duration = Duration::from_millis(10);

/// An open file that knows its name and its size.
#[derive(Debug)]
struct Output {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Output {
    fn create(path: PathBuf) -> Result<Output> {
        let file = File::create(&path).at_path("create", &path)?;
        Ok(Output { path, file, bytes: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).at_path("write", &self.path)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_all().at_path("write", &self.path)
    }
}

/// The files of a boot that is not complete yet.
#[derive(Debug)]
pub(super) struct BootFiles {
    dir: PathBuf,
    console: Output,
    times: Output,
    records: Output,
    last_time: Option<Duration>,
}

/// A file that is gone when the boot is over.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // If it stays, the next boot of that name replaces it.
        let _ = fs::remove_file(&self.0);
    }
}

impl BootFiles {
    /// Begins a boot's folder; what a killed run left of it goes.
    ///
    /// # Errors
    /// The boot is complete, or the disk is full.
    pub(super) fn create(store: &Store, id: &BootId) -> Result<BootFiles> {
        let dir = store.boot(id);
        if store.end_json(id).exists() {
            return Err(Error::failure(format!("boot {} is complete already", dir.display())));
        }
        if dir.exists() {
            fs::remove_dir_all(&dir).at_path("remove the unfinished boot", &dir)?;
        }
        fs::create_dir_all(&dir).at_path("create", &dir)?;
        Ok(BootFiles {
            console: Output::create(store.console(id))?,
            times: Output::create(store.console_times(id))?,
            records: Output::create(store.records(id))?,
            dir,
            last_time: None,
        })
    }

    /// Where the initramfs lies during the boot. In the boot's folder, so that
    /// a killed run leaves it where it will be replaced.
    pub(super) fn initramfs(&self) -> Scratch {
        Scratch(self.dir.join("initramfs.cpio"))
    }

    /// Keeps what came on the console `after` power-on.
    pub(super) fn console(&mut self, bytes: &[u8], after: Duration) -> Result<()> {
        if self.last_time.is_none_or(|last| after >= last + TIMES) {
            self.last_time = Some(after);
            let line = format!("{} {}\n", self.console.bytes, after.as_millis());
            self.times.write(line.as_bytes())?;
        }
        self.console.write(bytes)
    }

    /// Keeps records as they came, well-formed or not.
    pub(super) fn records(&mut self, bytes: &[u8]) -> Result<()> {
        self.records.write(bytes)
    }

    pub(super) fn console_bytes(&self) -> u64 {
        self.console.bytes
    }

    pub(super) fn records_bytes(&self) -> u64 {
        self.records.bytes
    }

    /// Everything is on the disk, before `end.json` says so.
    pub(super) fn sync(&self) -> Result<()> {
        [&self.console, &self.times, &self.records].into_iter().try_for_each(Output::sync)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::plan::CellId;

    fn boot() -> (tempfile::TempDir, Store, BootId) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("run")).unwrap();
        let part = |s: &str| s.to_owned();
        let cell = CellId {
            base: part("6.12"),
            candidate: part("landed"),
            arch: part("x86_64"),
            profile: part("lockdep"),
        };
        (dir, store, BootId { cell, name: "0-000".into() })
    }

    /// What a killed run left is replaced whole; a complete boot is not touched.
    #[test]
    fn unfinished_boots_are_replaced_and_complete_ones_kept() {
        let (_dir, store, id) = boot();
        let mut files = BootFiles::create(&store, &id).unwrap();
        files.console(b"old", Duration::ZERO).unwrap();
        fs::write(store.boot(&id).join("initramfs.cpio"), "left over").unwrap();
        let files = BootFiles::create(&store, &id).unwrap();
        assert_eq!(fs::read(store.console(&id)).unwrap(), b"");
        assert!(!files.initramfs().path().exists());
        fs::write(store.end_json(&id), "{}").unwrap();
        assert!(BootFiles::create(&store, &id).unwrap_err().message().contains("complete"));
    }

    /// A full disk is an error that names the file.
    #[test]
    fn full_disk_is_named() {
        let (_dir, store, id) = boot();
        let mut files = BootFiles::create(&store, &id).unwrap();
        files.records.file = File::options().write(true).open("/dev/full").unwrap();
        let error = files.records(b"{}\n").unwrap_err();
        assert!(error.message().contains("records.jsonl"), "{error}");
        assert_eq!(error.kind(), crate::base::error::Kind::Failure);
    }

    /// Host times say where on the console it was how late.
    #[test]
    fn times_index_the_console() {
        let (_dir, store, id) = boot();
        let mut files = BootFiles::create(&store, &id).unwrap();
        for (text, ms) in [("one\n", 0), ("two\n", 3), ("three\n", 40)] {
            files.console(text.as_bytes(), Duration::from_millis(ms)).unwrap();
        }
        assert_eq!(fs::read_to_string(store.console_times(&id)).unwrap(), "0 0\n8 40\n");
    }
}
