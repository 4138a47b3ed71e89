// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest runs: static binaries for its architecture, packed into an
//! initramfs.
//!
//! A guest has no disk, no root and no network. All it gets is a cpio archive
//! with the agent as `/init` and its orders in [`WORKLOAD_PATH`].
//!
//! The agent is looked for in the folder the user named, beside the installed
//! program and in the cache; failing that, cargo builds it from the sources of
//! `fuzz/` that this program carries. Never in a build script: an installed
//! program has to be able to do it for an architecture that was added later.

mod build;
mod cpio;
mod elf;

use std::fs;
use std::path::{Path, PathBuf};

use bakeoff_fuzz::wire::{WORKLOAD_PATH, Workload};

use crate::base::command::Cancel;
use crate::base::data::DataDir;
use crate::base::error::{Context, Error, Result};
use crate::base::event::Events;
use crate::keep::cache::Cache;
use crate::make::workload::Packed;
use crate::spec::arch::Arch;

/// A guest binary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// Runs probes.
    #[default]
    Agent,
    /// Runs fuzz programs; needs a C++ compiler to be built.
    Fuzzer,
}

impl Which {
    /// Its file name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Which::Agent => "agent",
            Which::Fuzzer => "fuzzer",
        }
    }

    /// What cargo is told beside its name.
    fn features(self) -> &'static [&'static str] {
        match self {
            Which::Agent => &[],
            Which::Fuzzer => &["--features", "libfuzzer"],
        }
    }
}

/// Where guest binaries may come from.
#[derive(Clone, Debug)]
pub struct Origins<'a> {
    /// `--guest-dir`: holds `<arch>/<binary>`, and nothing else is tried.
    pub guest_dir: Option<&'a Path>,
    /// The sources to build from.
    pub data: &'a DataDir,
    /// Where they are kept once they are built.
    pub cache: &'a Cache,
}

/// The rustc that can build guest binaries for a Rust target, if there is one.
///
/// # Errors
/// Interrupted.
pub fn find_std(triple: &str, cancel: &Cancel) -> Result<Option<PathBuf>> {
    build::rustc_for(triple, cancel)
}

/// A program of the Rust toolchain: in `PATH`, else where rustup puts it.
#[must_use]
pub fn rust_tool(name: &str) -> Option<PathBuf> {
    build::tool(name)
}

/// The guest binaries of one architecture.
#[derive(Clone, Debug)]
pub struct GuestBinaries {
    /// PID 1 of the guest.
    init: Vec<u8>,
    /// Where it was found or how it was made, in a few words.
    #[allow(dead_code, reason = "for whoever prints it while debugging")]
    pub origin: String,
    /// What else goes into the guest's root.
    pub packed: Packed,
}

impl GuestBinaries {
    /// Finds or builds the agent for `arch`.
    ///
    /// # Errors
    /// As [`GuestBinaries::obtain_which`].
    pub fn obtain(
        arch: &Arch,
        origins: &Origins<'_>,
        events: &Events,
        cancel: &Cancel,
    ) -> Result<GuestBinaries> {
        Self::obtain_which(Which::Agent, arch, origins, events, cancel)
    }

    /// Finds or builds a guest binary for `arch`.
    ///
    /// # Errors
    /// `--guest-dir` holds none, or some of other sources; no toolchain or
    /// linker for that architecture; the build fails; a full disk.
    pub fn obtain_which(
        which: Which,
        arch: &Arch,
        origins: &Origins<'_>,
        events: &Events,
        cancel: &Cancel,
    ) -> Result<GuestBinaries> {
        if let Some(dir) = origins.guest_dir {
            return Self::from_guest_dir(which, arch, dir);
        }
        if let Some(path) = beside_program(which, &arch.name)
            && let Ok(init) = fs::read(&path)
        {
            if is_of_our_sources(&init) {
                return Ok(GuestBinaries {
                    init,
                    origin: path.display().to_string(),
                    packed: Packed::default(),
                });
            }
            events.note(format!("{} is of another version and is not used", path.display()));
        }
        let (init, origin) = build::from_cache_or_cargo(arch, which, origins, events, cancel)?;
        if !is_of_our_sources(&init) {
            return Err(Error::bad_input(format!(
                "{} is not what this program was built from",
                origins.data.describe("fuzz/")
            ))
            .hint("build and run bakeoff from the checkout that --data-dir names"));
        }
        Ok(GuestBinaries { init, origin, packed: Packed::default() })
    }

    fn from_guest_dir(which: Which, arch: &Arch, dir: &Path) -> Result<GuestBinaries> {
        let path = dir.join(&arch.name).join(which.name());
        let init = fs::read(&path).map_err(|cause| {
            Error::bad_input(format!("--guest-dir: cannot read {}", path.display()))
                .hint("it holds a folder for each architecture, with the static binaries in it")
                .because(cause)
        })?;
        elf::check(&init, arch)
            .map_err(|why| Error::bad_input(format!("{} {why}", path.display())))?;
        if !is_of_our_sources(&init) {
            let what = format!("{} is not built from the sources of this bakeoff", path.display());
            return Err(
                Error::bad_input(what).hint("leave out --guest-dir to have the right one built")
            );
        }
        Ok(GuestBinaries { init, origin: path.display().to_string(), packed: Packed::default() })
    }

    /// Guest binaries that somebody else made; nothing is checked.
    #[must_use]
    pub fn of(init: Vec<u8>, origin: &str) -> GuestBinaries {
        GuestBinaries { init, origin: origin.to_owned(), packed: Packed::default() }
    }

    /// The same, with more in the guest's root.
    #[must_use]
    pub fn with(self, packed: Packed) -> GuestBinaries {
        GuestBinaries { packed, ..self }
    }

    /// The binary itself.
    #[must_use]
    pub fn init(&self) -> &[u8] {
        &self.init
    }

    /// Writes the initramfs for one boot.
    ///
    /// # Errors
    /// A full disk.
    pub fn write_initramfs(&self, workload: &Workload, path: &Path) -> Result<()> {
        let orders = serde_json::to_vec_pretty(workload).context(|| "write the workload".into())?;
        self.write_with(WORKLOAD_PATH, &orders, path)
    }

    /// Writes the initramfs for one boot whose init finds its orders in `name`.
    ///
    /// # Errors
    /// A full disk.
    pub fn write_with(&self, name: &str, orders: &[u8], path: &Path) -> Result<()> {
        let file = fs::File::create(path).at_path("create", path)?;
        let add = |archive: &mut cpio::Archive<_>| match &self.packed.root {
            Some(root) => archive.folder(root),
            None => Ok(()),
        };
        let write = || -> std::io::Result<()> {
            let mut archive = cpio::Archive::new(std::io::BufWriter::new(file));
            // First: what the guest itself needs replaces what a root file system has.
            add(&mut archive)?;
            for directory in ["dev", "proc", "sys", "tmp", "bakeoff"] {
                archive.directory(directory)?;
            }
            // The kernel opens it for the first program before anybody could
            // mount a devtmpfs.
            archive.character_device("dev/console", 5, 1)?;
            archive.executable("init", &self.init)?;
            archive.file(name.trim_start_matches('/'), orders)?;
            archive.finish().map(drop)
        };
        write().at_path("write", path)
    }
}

/// `../lib/bakeoff/guest/<arch>/<binary>` from the folder of the running program: how
/// archives and packages ship them.
fn beside_program(which: Which, arch: &str) -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let guests = program.parent()?.parent()?.join("lib/bakeoff/guest");
    let path = guests.join(arch).join(which.name());
    path.is_file().then_some(path)
}

/// The agent that came with the program, if it is of the same sources.
#[must_use]
pub fn shipped(arch: &str) -> Option<PathBuf> {
    beside_program(Which::Agent, arch)
        .filter(|path| fs::read(path).is_ok_and(|binary| is_of_our_sources(&binary)))
}

/// Whether a binary carries the mark of the sources this program was built
/// with. Its Hello would tell too, but only after a boot.
fn is_of_our_sources(binary: &[u8]) -> bool {
    let mark = bakeoff_fuzz::SOURCE_MARK.as_bytes();
    binary.windows(mark.len()).any(|window| window == mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guest binary of other sources is refused before it is booted.
    #[test]
    fn guest_dir_of_other_sources_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let arch = Arch::load(&DataDir::embedded(), "arm64").unwrap();
        let data = DataDir::embedded();
        let cache = Cache::open(Some(&dir.path().join("cache"))).unwrap();
        let origins = Origins { guest_dir: Some(dir.path()), data: &data, cache: &cache };
        let obtain = || GuestBinaries::obtain(&arch, &origins, &Events::silent(), &Cancel::new());
        assert!(obtain().unwrap_err().message().contains("arm64/agent"));
        fs::create_dir(dir.path().join("arm64")).unwrap();
        let agent = dir.path().join("arm64/agent");
        let mut binary = elf::tests::binary(183, &[1]);
        fs::write(&agent, &binary).unwrap();
        assert!(obtain().unwrap_err().message().contains("not built from the sources"));
        binary.extend_from_slice(bakeoff_fuzz::SOURCE_MARK.as_bytes());
        fs::write(&agent, &binary).unwrap();
        assert_eq!(obtain().unwrap().origin, agent.display().to_string());
    }

    /// The initramfs is the same for the same input, and holds the orders.
    #[test]
    fn initramfs_is_reproducible() {
        let dir = tempfile::tempdir().unwrap();
        let workload = Workload {
            wire: bakeoff_fuzz::wire::VERSION,
            boot: "0-000".into(),
            seed: 7,
            steps: Vec::new(),
            visits: Vec::new(),
        };
        let binaries = GuestBinaries::of(b"\x7fELF".to_vec(), "test");
        let write = |name: &str| {
            let path = dir.path().join(name);
            binaries.write_initramfs(&workload, &path).unwrap();
            fs::read(path).unwrap()
        };
        let first = write("a");
        assert_eq!(first, write("b"));
        let text = String::from_utf8_lossy(&first);
        assert!(text.contains("bakeoff/workload.json") && text.contains("\"0-000\""), "{text}");
    }
}
