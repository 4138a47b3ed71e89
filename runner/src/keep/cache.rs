// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be made again but should not have to be: archives, trees, kernels,
//! guest binaries.
//!
//! An entry is a folder `<cache>/<kind>/<key>`, filled aside and renamed, so it
//! is whole or not there, and never changed afterwards. Its `manifest.json`
//! says what was put in; [`Cache::get`] compares before the entry is used, and an
//! entry that does not fit its manifest is thrown away and made again. One
//! lock per key lets two runs share a cache.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::base::command::Cancel;
use crate::base::error::{Context, Error, Result};
use crate::keep::store::write_json;

/// The manifest's name in each entry.
const MANIFEST: &str = "manifest.json";

/// What kind of thing is kept, and so how it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Fetched archives.
    Archive,
    /// Unpacked kernel sources.
    Tree,
    /// Build folders of bases, from which candidates start.
    Build,
    /// Images, symbols and configurations.
    Kernel,
    /// Guest binaries.
    Guest,
}

/// All kinds, in the order `bakeoff cache` shows them.
pub const KINDS: [Kind; 5] = [Kind::Archive, Kind::Tree, Kind::Build, Kind::Kernel, Kind::Guest];

impl Kind {
    /// Its folder.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Archive => "archive",
            Kind::Tree => "tree",
            Kind::Build => "build",
            Kind::Kernel => "kernel",
            Kind::Guest => "guest",
        }
    }

    /// Trees and build folders have 90,000 files: their sizes are compared, not
    /// their contents. Everything that is booted or unpacked is hashed.
    fn hashed(self) -> bool {
        match self {
            Kind::Archive | Kind::Kernel | Kind::Guest => true,
            Kind::Tree | Kind::Build => false,
        }
    }
}

/// What an entry holds.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    /// Path → SHA-256, or its size where the kind is not hashed.
    files: BTreeMap<PathBuf, String>,
}

/// The cache folder.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// How much a kind takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Entries.
    pub entries: u64,
    /// Bytes on disk; a file with several links counts once.
    pub bytes: u64,
}

impl Cache {
    /// The cache at `root`, else `$XDG_CACHE_HOME/bakeoff`, else `~/.cache/bakeoff`.
    ///
    /// # Errors
    /// There is no home, or the folder cannot be created.
    pub fn open(root: Option<&Path>) -> Result<Cache> {
        let absolute = |name: &str| {
            std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
        };
        let root = root
            .map(Path::to_owned)
            .or_else(|| absolute("XDG_CACHE_HOME").map(|dir| dir.join("bakeoff")))
            .or_else(|| absolute("HOME").map(|dir| dir.join(".cache/bakeoff")))
            .ok_or_else(|| Error::failure("no home directory for the cache").hint("set HOME"))?;
        fs::create_dir_all(&root).at_path("create the cache", &root)?;
        let root = root.canonicalize().at_path("find the cache", &root)?;
        Ok(Cache { root })
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Locks a key; waits for another run that is making the same thing.
    ///
    /// # Errors
    /// Interrupted, or the file system has no locks.
    pub fn lock(&self, kind: Kind, key: &str, cancel: &Cancel) -> Result<fs::File> {
        loop {
            if let Some(lock) = self.try_lock(kind, key)? {
                return Ok(lock);
            }
            cancel.check()?;
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Locks a key unless somebody has it.
    ///
    /// # Errors
    /// The file system has no locks, or is full.
    pub fn try_lock(&self, kind: Kind, key: &str) -> Result<Option<fs::File>> {
        let dir = self.root.join("locks");
        fs::create_dir_all(&dir).at_path("create", &dir)?;
        let path = dir.join(format!("{}-{key}", kind.name()));
        let file = fs::File::create(&path).at_path("create", &path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(e).at_path("lock", &path),
        }
    }

    /// An entry that is there and fits its manifest. One that does not is
    /// removed, and it is as if it had never been there.
    ///
    /// # Errors
    /// Failures of the disk.
    pub fn get(&self, kind: Kind, key: &str) -> Result<Option<PathBuf>> {
        let dir = self.path(kind, key)?;
        if !dir.is_dir() {
            return Ok(None);
        }
        let whole = || -> Result<bool> {
            let text = fs::read(dir.join(MANIFEST)).at_path("read the manifest of", &dir)?;
            let manifest: Manifest =
                serde_json::from_slice(&text).at_path("read the manifest of", &dir)?;
            Ok(manifest == manifest_of(kind, &dir)?)
        };
        if whole().unwrap_or(false) {
            return Ok(Some(dir));
        }
        fs::remove_dir_all(&dir).at_path("remove the broken cache entry", &dir)?;
        Ok(None)
    }

    /// Whether there is an entry, whole or not: for a guess, not for use.
    #[must_use]
    pub fn has(&self, kind: Kind, key: &str) -> bool {
        self.path(kind, key).is_ok_and(|dir| dir.is_dir())
    }

    /// Makes an entry: `fill` gets an empty folder aside. The caller holds the
    /// key's lock. An entry that is there stays as it is.
    ///
    /// # Errors
    /// Whatever `fill` says; the half-made folder is removed.
    pub fn put(
        &self,
        kind: Kind,
        key: &str,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let dir = self.path(kind, key)?;
        let parent = self.root.join(kind.name());
        fs::create_dir_all(&parent).at_path("create", &parent)?;
        let aside = tempfile::Builder::new()
            .prefix(".making-")
            .tempdir_in(&parent)
            .at_path("write in", &parent)?;
        fill(aside.path())?;
        write_json(&aside.path().join(MANIFEST), &manifest_of(kind, aside.path())?)?;
        let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        fs::set_permissions(aside.path(), mode).at_path("write", &dir)?;
        let made = aside.keep();
        match fs::rename(&made, &dir) {
            Ok(()) => Ok(dir),
            Err(e) => {
                let _ = fs::remove_dir_all(&made);
                if dir.is_dir() { Ok(dir) } else { Err(e).at_path("write", &dir) }
            }
        }
    }

    /// A folder for work in progress on the cache's file system.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn work_dir(&self) -> Result<PathBuf> {
        let dir = self.root.join("work");
        fs::create_dir_all(&dir).at_path("create", &dir)?;
        Ok(dir)
    }

    /// Insists on free space before something big is begun.
    ///
    /// # Errors
    /// There is less, with how much and what to do.
    pub fn require_free(&self, bytes: u64, what: &str) -> Result<()> {
        let free = self.free_bytes()?;
        if free >= bytes {
            return Ok(());
        }
        let mib = |bytes: u64| bytes / (1 << 20);
        Err(Error::failure(format!(
            "{what} needs {} MiB, {} has {} MiB left",
            mib(bytes),
            self.root.display(),
            mib(free)
        ))
        .hint("free some space, run `bakeoff cache --clean`, or set XDG_CACHE_HOME elsewhere"))
    }

    /// Free bytes on the cache's file system.
    ///
    /// # Errors
    /// statvfs(3) fails.
    pub fn free_bytes(&self) -> Result<u64> {
        let stat =
            rustix::fs::statvfs(&self.root).at_path("ask for the free space of", &self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// How much each kind takes, work in progress and leftovers included.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn usage(&self) -> Result<BTreeMap<&'static str, Usage>> {
        let mut all = BTreeMap::new();
        for name in KINDS.map(Kind::name).into_iter().chain(["work"]) {
            let dir = self.root.join(name);
            let mut usage = Usage::default();
            if dir.is_dir() {
                usage.entries = fs::read_dir(&dir).at_path("read", &dir)?.count() as u64;
                usage.bytes = disk_bytes(&dir)?;
            }
            all.insert(name, usage);
        }
        Ok(all)
    }

    /// Removes everything.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn clean(&self) -> Result<()> {
        for name in KINDS.map(Kind::name).into_iter().chain(["work", "locks"]) {
            let dir = self.root.join(name);
            match fs::remove_dir_all(&dir) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e).at_path("remove", &dir),
            }
        }
        Ok(())
    }

    fn path(&self, kind: Kind, key: &str) -> Result<PathBuf> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-+~".contains(c);
        if key.is_empty() || key.starts_with('.') || !key.chars().all(plain) {
            return Err(Error::failure(format!("`{}` is no cache key", key.escape_debug())));
        }
        Ok(self.root.join(kind.name()).join(key))
    }
}

fn manifest_of(kind: Kind, dir: &Path) -> Result<Manifest> {
    let mut files = BTreeMap::new();
    for_each_file(dir, &mut |path, metadata| {
        let name = path.strip_prefix(dir).unwrap_or(path).to_owned();
        if name == Path::new(MANIFEST) {
            return Ok(());
        }
        let says = if metadata.is_symlink() {
            format!("link {}", fs::read_link(path).at_path("read", path)?.display())
        } else if kind.hashed() {
            sha256_file(path)?
        } else {
            metadata.len().to_string()
        };
        files.insert(name, says);
        Ok(())
    })?;
    Ok(Manifest { files })
}

fn for_each_file(
    dir: &Path,
    tell: &mut dyn FnMut(&Path, &fs::Metadata) -> Result<()>,
) -> Result<()> {
    for entry in fs::read_dir(dir).at_path("read", dir)? {
        let entry = entry.at_path("read", dir)?;
        let path = entry.path();
        let metadata = entry.metadata().at_path("read", &path)?;
        if metadata.is_dir() {
            for_each_file(&path, tell)?;
        } else {
            tell(&path, &metadata)?;
        }
    }
    Ok(())
}

fn disk_bytes(dir: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut seen = std::collections::HashSet::new();
    let mut bytes = 0;
    for_each_file(dir, &mut |_, metadata| {
        if metadata.nlink() == 1 || seen.insert((metadata.dev(), metadata.ino())) {
            bytes += metadata.blocks() * 512;
        }
        Ok(())
    })?;
    Ok(bytes)
}

/// SHA-256 of a file, hexadecimal.
///
/// # Errors
/// It cannot be read.
pub fn sha256_file(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).at_path("open", path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = file.read(&mut buffer).at_path("read", path)?;
        if n == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..n]);
    }
}

/// SHA-256 of bytes, hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(&dir.path().join("cache"))).unwrap();
        (dir, cache)
    }

    /// An entry whose bytes changed is thrown away, not used.
    #[test]
    fn a_tampered_kernel_is_not_used() {
        let (_dir, cache) = cache();
        let fill = |dir: &Path| fs::write(dir.join("vmlinux"), "good").at_path("write", dir);
        let entry = cache.put(Kind::Kernel, "k1", fill).unwrap();
        assert_eq!(cache.get(Kind::Kernel, "k1").unwrap(), Some(entry.clone()));
        fs::write(entry.join("vmlinux"), "evil").unwrap();
        assert_eq!(cache.get(Kind::Kernel, "k1").unwrap(), None);
        assert!(!entry.exists());
    }

    /// A file that came or went makes an entry another one, for trees too.
    #[test]
    fn a_tree_with_a_lost_file_is_not_used() {
        let (_dir, cache) = cache();
        let entry = cache
            .put(Kind::Tree, "t", |dir| {
                fs::write(dir.join("Makefile"), "all:").at_path("write", dir)
            })
            .unwrap();
        fs::remove_file(entry.join("Makefile")).unwrap();
        assert_eq!(cache.get(Kind::Tree, "t").unwrap(), None);
    }

    /// A failed fill leaves nothing behind.
    #[test]
    fn a_failed_entry_leaves_nothing() {
        let (_dir, cache) = cache();
        let failed = cache.put(Kind::Guest, "g", |dir| {
            fs::write(dir.join("half"), "x").at_path("write", dir)?;
            Err(Error::failure("out of luck"))
        });
        assert_eq!(failed.unwrap_err().message(), "out of luck");
        assert_eq!(fs::read_dir(cache.root().join("guest")).unwrap().count(), 0);
    }

    /// Keys become folders; one that leads elsewhere is refused.
    #[test]
    fn hostile_keys_are_refused() {
        let (_dir, cache) = cache();
        for key in ["../x", "", ".hidden", "a/b"] {
            assert!(cache.get(Kind::Kernel, key).is_err(), "{key:?}");
        }
    }

    /// Too little space is said before the work begins.
    #[test]
    fn full_disks_are_noticed_up_front() {
        let (_dir, cache) = cache();
        let error = cache.require_free(u64::MAX, "a kernel build").unwrap_err();
        assert!(error.message().starts_with("a kernel build needs"), "{error}");
    }
}
