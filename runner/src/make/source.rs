// SPDX-License-Identifier: MIT OR Apache-2.0
//! A base is a kernel source that is pinned; a tree is that source on disk.
//!
//! However it was obtained, a tree ends as an immutable entry of the cache whose
//! key says what it is: the hash of the archive, the commit, the hash of the
//! directory. Nothing is ever built or patched in it; [`workspace`] makes the
//! copies that are.

use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use crate::base::command::Cancel;
use crate::base::error::{Context, Error, Result};
use crate::base::event::{Events, Stage, Task};
use crate::base::path::stays_inside;
use crate::keep::cache::{Cache, Kind};
use crate::spec::BaseSource;

mod debian;
mod directory;
mod git;
pub mod series;
pub mod workspace;

/// The source's folder in its cache entry.
const FOLDER: &str = "linux";
/// What an unpacked kernel takes, with room for its growth.
const TREE_BYTES: u64 = 2 << 30;

/// How a base may be obtained.
#[derive(Clone, Debug, Default)]
pub struct Fetch {
    /// `--base-latest`: if the pinned version is gone, the newest one will do.
    pub latest: bool,
    /// Folders, or addresses of folders, to look for a package in before
    /// Debian's pools.
    pub mirrors: Vec<String>,
    /// Take nothing from the network.
    pub offline: bool,
}

/// A kernel source on disk; not to be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Says exactly which source this is.
    pub key: String,
    /// The folder with the top `Makefile`.
    pub dir: PathBuf,
    /// For people: `Debian linux-source-6.12 6.12.117-1~deb12u1`.
    pub label: String,
    /// It is not the pinned source but the newest one (`--base-latest`).
    pub substituted: bool,
}

/// Gets a base: from the cache, else from where it comes from.
///
/// # Errors
/// The version is gone, the hash is another one, no such revision, no kernel
/// tree, full disk, interrupted.
pub fn obtain(
    source: &BaseSource,
    fetch: &Fetch,
    cache: &Cache,
    events: &Events,
    cancel: &Cancel,
) -> Result<Tree> {
    let desk = Desk { fetch, cache, events, cancel };
    match source {
        BaseSource::Debian { package, version, sha256 } => {
            debian::obtain(&desk, package, version, sha256)
        }
        BaseSource::Git { repository, revision } => git::obtain(&desk, repository, revision),
        BaseSource::Directory(dir) => directory::obtain(&desk, dir),
    }
}

/// A file in a package of Debian's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PackageFile<'a> {
    pub package: &'a str,
    pub version: &'a str,
    /// The package's.
    pub sha256: &'a str,
    pub url: &'a str,
    /// Its path in the package.
    pub path: &'a str,
}

/// Reads one file of a package, which is fetched and kept as a base's is.
///
/// # Errors
/// It is not to be had, the hash is another one, full disk, interrupted.
pub(crate) fn file_of_package(
    file: &PackageFile<'_>,
    cache: &Cache,
    events: &Events,
    cancel: &Cancel,
) -> Result<Vec<u8>> {
    let fetch = Fetch::default();
    debian::file(&Desk { fetch: &fetch, cache, events, cancel }, file)
}

/// A base's tree if nothing has to be fetched or unpacked for it: to look at, not to build.
///
/// # Errors
/// No such revision, a disk that fails.
pub fn at_hand(source: &BaseSource, cache: &Cache, cancel: &Cancel) -> Result<Option<PathBuf>> {
    let key = match source {
        BaseSource::Debian { package, version: _, sha256 } => debian::archive_key(package, sha256),
        BaseSource::Git { repository, revision } => {
            git::key(&git::commit(repository, revision, cancel)?)
        }
        BaseSource::Directory(dir) => {
            check_is_kernel(dir, &format!("directory {}", dir.display()))?;
            return Ok(Some(dir.clone()));
        }
    };
    Ok(cache.get(Kind::Tree, &key)?.map(|entry| entry.join(FOLDER)))
}

/// The commit that a revision of a repository names today.
///
/// # Errors
/// There is no such revision, or no repository.
pub(crate) fn commit(repository: &Path, revision: &str, cancel: &Cancel) -> Result<String> {
    git::commit(repository, revision, cancel)
}

/// The tree that [`obtain`] would give, if nothing has to be fetched or unpacked for it.
///
/// # Errors
/// As [`at_hand`].
pub fn tree_at_hand(source: &BaseSource, cache: &Cache, cancel: &Cancel) -> Result<Option<Tree>> {
    let key = match source {
        BaseSource::Debian { package, version: _, sha256 } => debian::archive_key(package, sha256),
        BaseSource::Git { repository, revision } => {
            git::key(&git::commit(repository, revision, cancel)?)
        }
        BaseSource::Directory(dir) if dir.is_dir() => directory::key(dir, cancel)?,
        BaseSource::Directory(_) => return Ok(None),
    };
    let entry = cache.get(Kind::Tree, &key)?;
    Ok(entry.map(|entry| Tree {
        key,
        dir: entry.join(FOLDER),
        label: source.to_string(),
        substituted: false,
    }))
}

/// What every way of getting a tree works with.
struct Desk<'a> {
    fetch: &'a Fetch,
    cache: &'a Cache,
    events: &'a Events,
    cancel: &'a Cancel,
}

impl Desk<'_> {
    /// The tree `key` from the cache, or filled by `fill`, which gets an empty folder.
    fn tree(
        &self,
        key: &str,
        label: String,
        fill: impl FnOnce(&Path, &Task) -> Result<()>,
    ) -> Result<Tree> {
        let _lock = self.cache.lock(Kind::Tree, key, self.cancel)?;
        let entry = match self.cache.get(Kind::Tree, key)? {
            Some(entry) => entry,
            None => {
                self.cache.require_free(TREE_BYTES, "a kernel source")?;
                let task = self.events.start(Stage::Unpack, label.clone(), None);
                let entry = self.cache.put(Kind::Tree, key, |aside| {
                    let dir = aside.join(FOLDER);
                    fs::create_dir(&dir).at_path("create", &dir)?;
                    fill(&dir, &task)?;
                    check_is_kernel(&dir, &label)
                })?;
                task.finish("unpacked");
                entry
            }
        };
        Ok(Tree { key: key.to_owned(), dir: entry.join(FOLDER), label, substituted: false })
    }
}

/// A kernel source has these at its top, whatever its age.
pub(crate) fn check_is_kernel(dir: &Path, label: &str) -> Result<()> {
    for needed in ["Makefile", "Kconfig"] {
        if !dir.join(needed).is_file() {
            return Err(Error::bad_input(format!(
                "{label} is not a kernel source tree: no `{needed}`"
            ))
            .hint("name the folder that holds the kernel's top Makefile"));
        }
    }
    for built in [".config", "include/config", "arch/x86/include/generated"] {
        if dir.join(built).exists() {
            return Err(Error::bad_input(format!(
                "{label} was built in: it has a `{built}`, and kbuild refuses such a source"
            ))
            .hint("run `make mrproper` in it, or name a git revision"));
        }
    }
    Ok(())
}

/// Unpacks a tar stream below `into`, without the first `strip` folders of each name.
fn untar(stream: impl Read, strip: usize, into: &Path, what: &str, cancel: &Cancel) -> Result<u64> {
    let broken = |cause: io::Error| {
        // An interruption comes through the reader as an error of its own.
        match cancel.check() {
            Err(interrupted) => interrupted,
            Ok(()) => Error::failure(format!("failed to unpack {what}")).because(cause),
        }
    };
    let mut archive = tar::Archive::new(stream);
    archive.set_preserve_mtime(true);
    let mut files = 0;
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        cancel.check()?;
        if !matches!(
            entry.header().entry_type(),
            tar::EntryType::Regular
                | tar::EntryType::Continuous
                | tar::EntryType::Directory
                | tar::EntryType::Symlink
        ) {
            continue;
        }
        let name = entry.path().map_err(broken)?.into_owned();
        let Some(inside) = inside(&name, strip) else {
            return Err(Error::failure(format!(
                "{what} holds `{}`, which leads out of the archive",
                name.display()
            )));
        };
        if inside.as_os_str().is_empty() {
            continue;
        }
        if let Some(target) = entry.link_name().map_err(broken)?
            && !stays_inside(&inside, &target)
        {
            return Err(Error::failure(format!(
                "{what} holds the link `{}` to `{}`, which leads out of the archive",
                name.display(),
                target.display()
            )));
        }
        let path = into.join(&inside);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).at_path("create", parent)?;
        }
        entry.unpack(&path).map_err(broken)?;
        files += 1;
    }
    Ok(files)
}

/// `./a/b/c` without its first `strip` folders; `None` if it leads elsewhere.
fn inside(name: &Path, strip: usize) -> Option<PathBuf> {
    let mut parts = Vec::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => parts.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.into_iter().skip(strip).collect())
}

/// Tells progress of what is read through it, and stops when interrupted.
struct Watched<'a, R> {
    inner: R,
    task: &'a Task,
    cancel: &'a Cancel,
    done: u64,
    told: u64,
    total: Option<u64>,
}

impl<'a, R> Watched<'a, R> {
    fn new(inner: R, task: &'a Task, total: Option<u64>, cancel: &'a Cancel) -> Self {
        Watched { inner, task, cancel, done: 0, told: 0, total }
    }
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("interrupted"));
        }
        let n = self.inner.read(buffer)?;
        self.done += n as u64;
        if self.done - self.told >= 1 << 20 || n == 0 {
            self.told = self.done;
            self.task.progress(self.done, self.total, "B");
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
