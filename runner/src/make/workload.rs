// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a bake-off's commands need in the guest: its own files, what is built from them,
//! kselftests of the base, busybox, a root file system.
//!
//! All of it becomes one folder in the cache, for one architecture and one base, whose key
//! is the hash of everything that it is made from. The folder is packed into the
//! initramfs of every boot; nothing of it is ever run on the host but the compiler.
//!
//! A kselftest that does not compile for an architecture is no error: other kernels are
//! none the better for it. The guest gets a note instead, and commands in it are "not
//! tried" with the reason.

mod busybox;
mod kselftest;
mod sandboxed;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use bakeoff_fuzz::probe::command::NOT_TRIED;
use sha2::{Digest, Sha256};

use self::sandboxed::Shop;
use crate::base::command::Cancel;
use crate::base::error::{Context, Error, Result};
use crate::base::event::{Events, Stage};
use crate::keep::cache::{Cache, Kind, hex};
use crate::make::compile::Toolchain;
use crate::make::source::Tree;
use crate::spec::arch::Arch;
use crate::spec::guest::Pack;

/// Raised when the way workloads are packed changes.
const RECIPE: u32 = 2;
/// The guest's folder for a bake-off's files.
const WORKLOAD: &str = "workload";
/// The guest's root, in the cache entry.
const ROOT: &str = "root";
/// What a workload takes at most while it is made.
const BYTES: u64 = 1 << 30;

/// What workloads are made with.
#[derive(Clone, Copy, Debug)]
pub struct Desk<'a> {
    /// Where they are kept.
    pub cache: &'a Cache,
    /// Whom to tell.
    pub events: &'a Events,
    /// Whether to stop.
    pub cancel: &'a Cancel,
}

/// A workload in the cache, ready to be packed into an initramfs.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    /// The guest's root as a folder; `None`: nothing to add.
    pub root: Option<PathBuf>,
    /// Why commands cannot be tried on this architecture.
    #[allow(dead_code, reason = "it travels as a file in `root`; tests read it here")]
    pub not_tried: Option<String>,
}

/// Gets the workload of a bake-off, whose files lie in `dir`, for one architecture.
///
/// # Errors
/// A file that cannot be read, a build line that fails, no busybox to be had, a missing
/// compiler, a full disk.
pub fn obtain(
    pack: &Pack,
    dir: &Path,
    arch: &Arch,
    tree: &Tree,
    desk: &Desk<'_>,
) -> Result<Packed> {
    if pack.is_empty() {
        return Ok(Packed::default());
    }
    let job = Job { pack, dir, arch, tree, desk };
    let key = job.key()?;
    let Desk { cache, events, cancel } = desk;
    let _lock = cache.lock(Kind::Guest, &key, cancel)?;
    let note = |entry: &Path| entry.join(ROOT).join(NOT_TRIED.trim_start_matches('/'));
    let kept = match cache.get(Kind::Guest, &key)? {
        // What did not build for want of room or memory may now.
        Some(entry) if note(&entry).is_file() => {
            fs::remove_dir_all(&entry).at_path("remove", &entry)?;
            None
        }
        kept => kept,
    };
    let entry = match kept {
        Some(entry) => entry,
        None => {
            cache.require_free(BYTES, "packing the workload")?;
            let task = events.start(Stage::Build, format!("workload for {}", arch.name), None);
            let entry = cache.put(Kind::Guest, &key, |aside| {
                let root = aside.join(ROOT);
                fs::create_dir(&root).at_path("create", &root)?;
                job.fill(&root)
            })?;
            task.finish("packed");
            entry
        }
    };
    let root = entry.join(ROOT);
    let note = note(&entry);
    let not_tried = match note.is_file() {
        true => Some(fs::read_to_string(&note).at_path("read", &note)?),
        false => None,
    };
    if let Some(why) = &not_tried {
        events.warning(format!("commands: {why}"));
    }
    Ok(Packed { root: Some(root), not_tried })
}

struct Job<'a> {
    pack: &'a Pack,
    dir: &'a Path,
    arch: &'a Arch,
    tree: &'a Tree,
    desk: &'a Desk<'a>,
}

impl Job<'_> {
    fn key(&self) -> Result<String> {
        let Pack { files, build, kselftest, busybox, rootfs } = self.pack;
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(&RECIPE.to_le_bytes());
        add(self.arch.name.as_bytes());
        for path in files.iter().chain(rootfs) {
            each_file(&self.dir.join(path), &mut |file| {
                add(file.strip_prefix(self.dir).unwrap_or(file).as_os_str().as_encoded_bytes());
                add(&fs::read(file).at_path("read", file)?);
                Ok(())
            })?;
        }
        add(b"rootfs");
        add(rootfs.as_ref().map_or(&[], |path| path.as_os_str().as_encoded_bytes()));
        add(build.as_deref().unwrap_or_default().as_bytes());
        for name in kselftest {
            add(name.as_bytes());
        }
        if build.is_some() || !kselftest.is_empty() {
            let toolchain = Toolchain::find(self.arch, false, false, self.desk.cancel)?;
            add(toolchain.compiler.as_bytes());
            add(toolchain.linker.as_bytes());
        }
        if !kselftest.is_empty() {
            add(self.tree.key.as_bytes());
        }
        if *busybox {
            add(busybox::identity(self.arch)?.as_bytes());
        }
        let hash = hex(&hash.finalize());
        Ok(format!("workload-{}-{}", self.arch.name, hash.get(..24).unwrap_or_default()))
    }

    fn fill(&self, root: &Path) -> Result<()> {
        let Pack { files, build, kselftest, busybox, rootfs } = self.pack;
        if let Some(path) = rootfs {
            unpack(&self.dir.join(path), root)?;
        }
        if *busybox {
            busybox::install(root, self.arch, self.desk)?;
        }
        let workload = root.join(WORKLOAD);
        fs::create_dir_all(&workload).at_path("create", &workload)?;
        for path in files {
            copy_into(&self.dir.join(path), &workload)?;
        }
        if let Some(line) = build {
            let shop = Shop::new(self.arch, self.desk)?;
            shop.build_line(line, &workload)?;
        }
        let mut failed = Vec::new();
        for name in kselftest {
            if let Err(why) = kselftest::build(name, &workload, self.arch, self.tree, self.desk)? {
                failed.push(format!("kselftest {name} does not build: {why}"));
            }
        }
        if !failed.is_empty() {
            let note = root.join(NOT_TRIED.trim_start_matches('/'));
            let why = format!("not tried on {}: {}", self.arch.name, failed.join("; "));
            fs::write(&note, why).at_path("write", &note)?;
        }
        Ok(())
    }
}

/// Each file at or below a path, in the order of their names.
fn each_file(path: &Path, tell: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    if !path.is_dir() {
        return tell(path);
    }
    for entry in entries(path)? {
        each_file(&entry, tell)?;
    }
    Ok(())
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
    };
    let mut entries = read().at_path("read", dir)?;
    entries.sort();
    Ok(entries)
}

/// Copies a file or folder into a folder, under its own name. A run keeps its spec's files
/// without their modes, so what looks like a program is made one.
fn copy_into(from: &Path, dir: &Path) -> Result<()> {
    let to = dir.join(from.file_name().unwrap_or_default());
    if from.is_dir() {
        fs::create_dir_all(&to).at_path("create", &to)?;
        return entries(from)?.iter().try_for_each(|entry| copy_into(entry, &to));
    }
    let bytes = fs::read(from).at_path("read", from)?;
    fs::write(&to, &bytes).at_path("write", &to)?;
    let program = bytes.starts_with(b"#!") || bytes.starts_with(b"\x7fELF");
    let mode = if program { 0o755 } else { 0o644 };
    fs::set_permissions(&to, fs::Permissions::from_mode(mode)).at_path("write", &to)
}

/// Unpacks a root file system, a folder or a tar file.
fn unpack(from: &Path, root: &Path) -> Result<()> {
    if from.is_dir() {
        return entries(from)?.iter().try_for_each(|entry| copy_into(entry, root));
    }
    let file = fs::File::open(from).at_path("open", from)?;
    let broken = |cause| {
        Error::bad_input(format!("cannot unpack the root file system {}", from.display()))
            .hint("give an uncompressed tar file or a folder")
            .because(cause)
    };
    let mut archive = tar::Archive::new(std::io::BufReader::new(file));
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let kind = entry.header().entry_type();
        // Devices are the guest's to make, and making them here takes root.
        if !(kind.is_file() || kind.is_dir() || kind.is_symlink() || kind.is_hard_link()) {
            continue;
        }
        // Refuses names and links that lead out of the folder.
        entry.unpack_in(root).map_err(broken)?;
    }
    Ok(())
}

/// A link in the guest; whatever is there already stays.
fn link(target: &str, path: &Path) -> Result<()> {
    match symlink(target, path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made.at_path("create", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::data::DataDir;

    fn packed(pack: &str, fill: impl FnOnce(&Path)) -> (tempfile::TempDir, Result<Packed>) {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path());
        let pack: Pack = serde_yaml::from_str(pack).unwrap();
        let arch = Arch::load(&DataDir::embedded(), "x86_64").unwrap();
        let cache = Cache::open(Some(&dir.path().join("cache"))).unwrap();
        let (events, cancel) = (Events::silent(), Cancel::new());
        let desk = Desk { cache: &cache, events: &events, cancel: &cancel };
        let tree = Tree {
            key: "t".into(),
            dir: dir.path().join("linux"),
            label: "t".into(),
            substituted: false,
        };
        let packed = obtain(&pack, dir.path(), &arch, &tree, &desk);
        (dir, packed)
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    /// Files and folders lie in /workload, and scripts can be run whatever their mode was.
    #[test]
    fn files_are_packed() {
        let (_dir, packed) = packed("files: [run.sh, data]", |dir| {
            fs::write(dir.join("run.sh"), "#!/bin/sh\n").unwrap();
            fs::create_dir(dir.join("data")).unwrap();
            fs::write(dir.join("data/one"), "1").unwrap();
        });
        let packed = packed.unwrap();
        let root = packed.root.unwrap().join("workload");
        assert_eq!(mode(&root.join("run.sh")), 0o755);
        assert_eq!(mode(&root.join("data/one")), 0o644);
        assert_eq!(packed.not_tried, None);
    }

    /// Nothing asked for is nothing made.
    #[test]
    fn an_empty_pack_is_nothing() {
        assert!(packed("{}", |_| {}).1.unwrap().root.is_none());
    }

    /// The build line makes programs of the files for the guest's architecture; what it
    /// says when it fails is in the error.
    #[test]
    fn build_lines_build() {
        let source = |dir: &Path| fs::write(dir.join("a.c"), "int main(void){return 0;}").unwrap();
        let line = "files: [a.c]\nbuild: $CC -static -O2 -o a a.c";
        let (_dir, made) = packed(line, source);
        let made = made.unwrap().root.unwrap().join("workload/a");
        assert!(fs::read(&made).unwrap().starts_with(b"\x7fELF"));
        assert_eq!(mode(&made), 0o755);
        let (_dir, made) = packed("files: [a.c]\nbuild: $CC -o a b.c", source);
        let error = made.unwrap_err();
        assert!(error.message().contains("b.c"), "{error}");
    }

    /// A root file system's links and programs are unpacked, what leads outside is not.
    #[test]
    fn tar_files_are_unpacked() {
        let (_dir, packed) = packed("rootfs: root.tar", |dir| {
            let mut tar = tar::Builder::new(fs::File::create(dir.join("root.tar")).unwrap());
            let mut header = tar::Header::new_ustar();
            header.set_size(2);
            header.set_mode(0o755);
            header.set_cksum();
            tar.append_data(&mut header.clone(), "bin/tool", &b"hi"[..]).unwrap();
            header.set_size(0);
            header.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut header, "bin/other", "tool").unwrap();
            tar.finish().unwrap();
        });
        let root = packed.unwrap().root.unwrap();
        assert_eq!(mode(&root.join("bin/tool")), 0o755);
        assert_eq!(fs::read_link(root.join("bin/other")).unwrap(), Path::new("tool"));
    }
}
