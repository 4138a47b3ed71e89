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
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::base::command::{Cancel, host_cpus};
use crate::base::error::{Context, Error, Result};
use crate::base::scratch::{self, Scratch};
use crate::keep::remote::Remote;
use crate::keep::store::write_json;

/// The manifest's name in each entry.
pub(super) const MANIFEST: &str = "manifest.json";

/// What the name of an entry that is being made begins with.
const MAKING: &str = ".making-";

/// What kind of thing is kept, and so how it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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

    /// Whether contents are compared each time. Trees and build folders have 90,000 files:
    /// of them sizes are, and contents once for each run that builds from them
    /// ([`Cache::get_verified`]).
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
    /// Path → `<bytes> <SHA-256>`, or `link <target>`. Older ones have the SHA-256 alone,
    /// or, for trees and build folders, the bytes.
    files: BTreeMap<PathBuf, String>,
}

/// The cache folder.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
    remote: Option<Arc<Remote>>,
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
        Ok(Cache { root, remote: None })
    }

    /// The same cache, with a remote one behind it.
    #[must_use]
    pub fn with_remote(self, remote: Remote) -> Cache {
        Cache { remote: Some(Arc::new(remote)), ..self }
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

    /// An entry that is there and fits its manifest, here or at the remote cache. One
    /// that does not is removed, and it is as if it had never been there.
    ///
    /// # Errors
    /// Failures of the disk; interrupted. Those of a remote are warnings.
    pub fn get(&self, kind: Kind, key: &str) -> Result<Option<PathBuf>> {
        let here = self.get_local(kind, key)?;
        match &self.remote {
            Some(remote) if here.is_none() && remote.fetch(self, kind, key)? => {
                self.get_local(kind, key)
            }
            _ => Ok(here),
        }
    }

    /// As [`Cache::get`], here only.
    ///
    /// # Errors
    /// Failures of the disk.
    pub fn get_local(&self, kind: Kind, key: &str) -> Result<Option<PathBuf>> {
        self.look(kind, key, kind.hashed())
    }

    /// As [`Cache::get_local`]; contents are compared whatever the kind. Seconds for a
    /// tree, so for who is about to build from it.
    ///
    /// # Errors
    /// Failures of the disk.
    pub fn get_verified(&self, kind: Kind, key: &str) -> Result<Option<PathBuf>> {
        self.look(kind, key, true)
    }

    fn look(&self, kind: Kind, key: &str, contents: bool) -> Result<Option<PathBuf>> {
        let dir = self.path(kind, key)?;
        if !dir.is_dir() {
            return Ok(None);
        }
        let whole = || -> Result<bool> {
            let text = fs::read(dir.join(MANIFEST)).at_path("read the manifest of", &dir)?;
            let manifest: Manifest =
                serde_json::from_slice(&text).at_path("read the manifest of", &dir)?;
            fits(&manifest, &dir, contents)
        };
        if whole().unwrap_or(false) {
            return Ok(Some(dir));
        }
        // Aside first: what is half removed must not be found.
        let gone = Scratch::new_in(dir.parent().unwrap_or(&self.root), MAKING)?;
        match fs::rename(&dir, gone.path().join(key)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(e).at_path("remove the broken cache entry", &dir)
            }
            _ => Ok(None),
        }
    }

    /// Whether there is an entry, whole or not: for a guess, not for use.
    #[must_use]
    pub fn has(&self, kind: Kind, key: &str) -> bool {
        self.path(kind, key).is_ok_and(|dir| dir.is_dir())
    }

    /// Makes an entry: `fill` gets an empty folder aside. The caller holds the
    /// key's lock. An entry that is there stays as it is. A remote cache that takes
    /// entries gets it, too.
    ///
    /// # Errors
    /// Whatever `fill` says; the half-made folder is removed.
    pub fn put(
        &self,
        kind: Kind,
        key: &str,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let made = self.put_local(kind, key, fill)?;
        if let Some(remote) = &self.remote {
            remote.offer(self, kind, key);
        }
        Ok(made)
    }

    /// As [`Cache::put`], here only.
    ///
    /// # Errors
    /// As [`Cache::put`].
    pub fn put_local(
        &self,
        kind: Kind,
        key: &str,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let dir = self.path(kind, key)?;
        let parent = self.root.join(kind.name());
        fs::create_dir_all(&parent).at_path("create", &parent)?;
        let aside = Scratch::new_in(&parent, MAKING)?;
        fill(aside.path())?;
        write_json(&aside.path().join(MANIFEST), &manifest_of(aside.path())?)?;
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

    /// Removes entries that somebody was making when he was killed.
    pub fn remove_half_made(&self) {
        for kind in KINDS {
            scratch::sweep(&self.root.join(kind.name()), MAKING);
        }
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

    /// The keys of a kind, in order, with the bytes each takes on the disk; whole or not.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn keys(&self, kind: Kind) -> Result<Vec<(String, u64)>> {
        let dir = self.root.join(kind.name());
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e).at_path("read", &dir),
        };
        let mut keys = Vec::new();
        for entry in entries {
            let name = entry.at_path("read", &dir)?.file_name().to_string_lossy().into_owned();
            if let Ok(path) = self.path(kind, &name) {
                keys.push((name, disk_bytes(&path)?));
            }
        }
        keys.sort();
        Ok(keys)
    }

    fn path(&self, kind: Kind, key: &str) -> Result<PathBuf> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-+~".contains(c);
        if key.is_empty() || key.starts_with('.') || !key.chars().all(plain) {
            return Err(Error::failure(format!("`{}` is not a cache key", key.escape_debug())));
        }
        Ok(self.root.join(kind.name()).join(key))
    }
}

/// Every file of an entry but its manifest.
fn files_of(dir: &Path) -> Result<BTreeMap<PathBuf, fs::Metadata>> {
    let mut files = BTreeMap::new();
    for_each_file(dir, &mut |path, metadata| {
        let name = path.strip_prefix(dir).unwrap_or(path).to_owned();
        if name != Path::new(MANIFEST) {
            files.insert(name, metadata.clone());
        }
        Ok(())
    })?;
    Ok(files)
}

fn link_words(path: &Path) -> Result<String> {
    Ok(format!("link {}", fs::read_link(path).at_path("read", path)?.display()))
}

fn manifest_of(dir: &Path) -> Result<Manifest> {
    let files: Vec<(PathBuf, fs::Metadata)> = files_of(dir)?.into_iter().collect();
    let says = on_all_cpus(&files, |(name, metadata)| {
        let path = dir.join(name);
        if metadata.is_symlink() {
            return link_words(&path);
        }
        Ok(format!("{} {}", metadata.len(), sha256_file(&path)?))
    })?;
    let names = files.into_iter().map(|(name, _)| name);
    Ok(Manifest { files: names.zip(says).collect() })
}

/// Whether an entry is as its manifest says: all files and no other, of that size and, if
/// `contents` are asked for, with these bytes.
fn fits(manifest: &Manifest, dir: &Path, contents: bool) -> Result<bool> {
    let files = files_of(dir)?;
    if !files.keys().eq(manifest.files.keys()) {
        return Ok(false);
    }
    let both: Vec<_> = files.iter().zip(manifest.files.values()).collect();
    let same = on_all_cpus(&both, |((name, metadata), says)| {
        let path = dir.join(name);
        if metadata.is_symlink() {
            return Ok(**says == link_words(&path)?);
        }
        let (bytes, sha256) = match says.split_once(' ') {
            Some((bytes, sha256)) => (Some(bytes), Some(sha256)),
            None if says.len() == 64 => (None, Some(says.as_str())),
            None => (Some(says.as_str()), None),
        };
        if bytes.is_some_and(|bytes| bytes != metadata.len().to_string()) {
            return Ok(false);
        }
        Ok(match sha256 {
            Some(sha256) if contents => sha256 == sha256_file(&path)?,
            _ => true,
        })
    })?;
    Ok(same.into_iter().all(|same| same))
}

/// Does something with each of many, a share on each CPU; the results in order.
fn on_all_cpus<T: Sync, R: Send>(
    all: &[T],
    act: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let share = all.len().div_ceil(host_cpus() as usize).max(1);
    let part = |part: &[T]| part.iter().map(&act).collect::<Result<Vec<R>>>();
    let part = &part;
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            all.chunks(share).map(|chunk| scope.spawn(move || part(chunk))).collect();
        let mut results = Vec::with_capacity(all.len());
        for worker in workers {
            let one = worker.join().map_err(|_| Error::failure("a thread that hashes died"))?;
            results.extend(one?);
        }
        Ok(results)
    })
}

pub(super) fn for_each_file(
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

    /// A flipped bit in a tree is found by who builds from it; and entries of before, which
    /// have sizes alone, are still used.
    #[test]
    fn contents_of_trees_are_compared_on_demand() {
        let (_dir, cache) = cache();
        let fill = |dir: &Path| fs::write(dir.join("a.c"), "good").at_path("write", dir);
        let entry = cache.put(Kind::Tree, "t", fill).unwrap();
        assert!(cache.get_verified(Kind::Tree, "t").unwrap().is_some());
        fs::write(entry.join("a.c"), "evil").unwrap();
        assert!(cache.get(Kind::Tree, "t").unwrap().is_some());
        assert!(cache.get_verified(Kind::Tree, "t").unwrap().is_none());
        assert!(!entry.exists());
        let entry = cache.put(Kind::Tree, "t", fill).unwrap();
        write_json(&entry.join(MANIFEST), &serde_json::json!({"files": {"a.c": "4"}})).unwrap();
        assert!(cache.get_verified(Kind::Tree, "t").unwrap().is_some());
        let entry = cache.put(Kind::Kernel, "k", fill).unwrap();
        let files = serde_json::json!({"a.c": sha256(b"good")});
        write_json(&entry.join(MANIFEST), &serde_json::json!({"files": files})).unwrap();
        assert!(cache.get(Kind::Kernel, "k").unwrap().is_some());
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
