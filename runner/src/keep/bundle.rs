// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entries of the cache in one file: what `bakeoff cache export` writes and a remote
//! cache keeps.
//!
//! A tar, compressed with zstd. Its first member, [`INDEX`], is JSON and says which
//! version this is and, for each entry, which files it has with their SHA-256; then come
//! the files as `<kind>/<key>/<path>`, entry after entry. Symbolic links stand in the
//! index only, so nothing is ever written through one.
//!
//! Reading trusts nothing: an entry is unpacked aside, each file is hashed on its way,
//! and only an entry that is whole gets its name in the cache. One that is there and
//! fits its manifest stays as it is. What the hashes cannot say is who wrote the file:
//! take one only from somebody whose compiler you would use.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Cursor, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::base::command::{Cancel, host_cpus};
use crate::base::error::{Context, Error, Result};
use crate::base::path::stays_inside;
use crate::keep::cache::{Cache, Kind, MANIFEST, for_each_file, hex, sha256_file};

/// Version of the file; another one is refused.
pub const VERSION: u32 = 1;
/// Name of the first member.
const INDEX: &str = "bakeoff-cache.json";
/// Bytes of an index; a kernel tree of 90,000 files takes 12 MB.
const LARGEST_INDEX: u64 = 256 << 20;
/// What zstd files begin with (RFC 8878, 3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// zstd's own default: objects and sources become a quarter.
const LEVEL: i32 = 3;
/// How a symbolic link stands in the index, before where it leads.
const LINK: &str = "link ";

/// Names an entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Its kind.
    pub kind: Kind,
    /// Its key.
    pub key: String,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind.name(), self.key)
    }
}

/// The first member.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    bakeoff_cache: u32,
    tool: String,
    entries: Vec<Indexed>,
}

/// The part of it that every version has.
#[derive(Debug, Deserialize)]
struct Head {
    bakeoff_cache: u32,
    #[serde(default)]
    tool: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Indexed {
    kind: Kind,
    key: String,
    /// Of all its files together.
    bytes: u64,
    /// Path → SHA-256, or `link <target>`.
    files: BTreeMap<PathBuf, String>,
}

/// What reading an archive did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Entries that are new.
    pub added: Vec<Name>,
    /// Entries that were there already, and whole.
    pub kept: Vec<Name>,
    /// Bytes of the new ones.
    pub bytes: u64,
}

/// Writes entries; `tell` gets the bytes done so far, hashed and written.
///
/// # Errors
/// An entry is not there or does not fit its manifest; full disk; interrupted.
pub fn write(
    cache: &Cache,
    names: &[Name],
    out: impl Write,
    cancel: &Cancel,
    tell: &mut dyn FnMut(u64),
) -> Result<()> {
    let mut done = 0;
    let mut index =
        Index { bakeoff_cache: VERSION, tool: crate::keep::tool(), entries: Vec::new() };
    for name in names {
        let dir = cache.get_verified(name.kind, &name.key)?.ok_or_else(|| {
            Error::bad_input(format!("the cache has no complete {name}"))
                .hint("`bakeoff cache list` shows what there is")
        })?;
        index.entries.push(indexed(name, &dir, cancel, &mut |bytes| {
            done += bytes;
            tell(done);
        })?);
    }
    let broken = |cause: io::Error| Error::failure("failed to write the archive").because(cause);
    let mut zstd = zstd::Encoder::new(out, LEVEL).map_err(broken)?;
    zstd.include_checksum(true).map_err(broken)?;
    zstd.multithread(host_cpus()).map_err(broken)?;
    let mut tar = tar::Builder::new(zstd);
    let text = serde_json::to_vec(&index).context(|| "write the index".into())?;
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, INDEX, text.as_slice()).map_err(broken)?;
    for entry in &index.entries {
        let at = Path::new(entry.kind.name()).join(&entry.key);
        let dir = cache.root().join(&at);
        let mut inodes = HashMap::new();
        for (path, says) in &entry.files {
            cancel.check()?;
            if says.starts_with(LINK) {
                continue;
            }
            let from = dir.join(path);
            let file = fs::File::open(&from).at_path("open", &from)?;
            let metadata = file.metadata().at_path("read", &from)?;
            let mut header = tar::Header::new_gnu();
            header.set_mode(metadata.mode() & 0o777);
            header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
            if let Some(first) = inodes.get(&metadata.ino()) {
                header.set_entry_type(tar::EntryType::Link);
                header.set_size(0);
                tar.append_link(&mut header, at.join(path), at.join(first)).map_err(broken)?;
                continue;
            }
            if metadata.nlink() > 1 {
                inodes.insert(metadata.ino(), path);
            }
            header.set_size(metadata.len());
            tar.append_data(&mut header, at.join(path), file.take(metadata.len()))
                .map_err(broken)?;
            done += metadata.len();
            tell(done);
        }
    }
    let zstd = tar.into_inner().map_err(broken)?;
    zstd.finish().and_then(|mut out| out.flush()).map_err(broken)
}

fn indexed(name: &Name, dir: &Path, cancel: &Cancel, tell: &mut dyn FnMut(u64)) -> Result<Indexed> {
    let mut entry =
        Indexed { kind: name.kind, key: name.key.clone(), bytes: 0, files: BTreeMap::new() };
    for_each_file(dir, &mut |path, metadata| {
        cancel.check()?;
        let inside = path.strip_prefix(dir).unwrap_or(path).to_owned();
        if inside == Path::new(MANIFEST) {
            return Ok(());
        }
        let says = if metadata.is_symlink() {
            format!("{LINK}{}", fs::read_link(path).at_path("read", path)?.display())
        } else {
            entry.bytes += metadata.len();
            tell(metadata.len());
            sha256_file(path)?
        };
        entry.files.insert(inside, says);
        Ok(())
    })?;
    Ok(entry)
}

/// What is wanted of an archive.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// Everything; each entry is taken under its key's lock.
    All,
    /// This one entry and no other; the caller may hold its lock.
    One(&'a Name),
}

/// Reads an archive into the cache; `what` names it in errors.
///
/// # Errors
/// It is no archive, or one of another version; it is cut off, damaged, or leads out of
/// itself; full disk; interrupted. Entries that were whole before that stay.
pub fn read(
    cache: &Cache,
    mut input: impl Read,
    what: &str,
    wanted: Wanted<'_>,
    cancel: &Cancel,
) -> Result<Imported> {
    let damaged = |cause: io::Error| match cancel.check() {
        Err(interrupted) => interrupted,
        Ok(()) => Error::failure(format!("{what} is cut off or damaged"))
            .hint("copy or export it again")
            .because(cause),
    };
    let mut start = Vec::new();
    input.by_ref().take(512).read_to_end(&mut start).map_err(damaged)?;
    if !start.starts_with(&ZSTD) {
        return Err(not_an_archive(what, &start));
    }
    let zstd = zstd::Decoder::new(Cursor::new(start).chain(input)).map_err(damaged)?;
    let mut tar = tar::Archive::new(zstd);
    let mut members = tar.entries().map_err(damaged)?;
    let first = members.next().transpose().map_err(damaged)?;
    let index = read_index(first, what, damaged)?;
    if let Wanted::One(name) = wanted {
        let is = index.entries.iter().map(|e| (e.kind, e.key.as_str()));
        if !is.eq([(name.kind, name.key.as_str())]) {
            return Err(Error::failure(format!("{what} does not hold {name} and that alone")));
        }
    }
    let mut imported = Imported::default();
    for entry in &index.entries {
        let name = Name { kind: entry.kind, key: entry.key.clone() };
        let _lock = match wanted {
            Wanted::All => Some(cache.lock(entry.kind, &entry.key, cancel)?),
            Wanted::One(_) => None,
        };
        let mut unpack = Unpack { entry, what, cancel, seen: HashMap::new() };
        let mut next = || -> Result<tar::Entry<'_, _>> {
            let cut = || damaged(io::ErrorKind::UnexpectedEof.into());
            members.next().ok_or_else(cut)?.map_err(damaged)
        };
        if cache.get_local(entry.kind, &entry.key)?.is_some() {
            for _ in 0..unpack.members() {
                cancel.check()?;
                next()?;
            }
            imported.kept.push(name);
            continue;
        }
        cache.require_free(entry.bytes, &name.to_string())?;
        cache.put_local(entry.kind, &entry.key, |aside| {
            let mut bytes = 0;
            for _ in 0..unpack.members() {
                bytes += unpack.member(&mut next()?, aside, &damaged)?;
                if bytes > entry.bytes {
                    return Err(unpack.lies("holds more bytes than its index says"));
                }
            }
            unpack.links(aside)
        })?;
        imported.bytes += entry.bytes;
        imported.added.push(name);
    }
    if members.next().is_some() {
        return Err(Error::failure(format!("{what} holds more than its index says"))
            .hint("it is damaged, or was not written by bakeoff: export it again"));
    }
    // To the very end, where zstd has a checksum of it all.
    io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(damaged)?;
    Ok(imported)
}

/// What a file is that is none of ours.
fn not_an_archive(what: &str, start: &[u8]) -> Error {
    if start.is_empty() {
        return Error::bad_input(format!("{what} is empty")).hint("export it again");
    }
    if is_web_page(start) {
        return Error::bad_input(format!("{what} is a web page, not an archive of a cache"))
            .hint("a server answered with a login or an error page: fetch the file itself");
    }
    Error::bad_input(format!("{what} is not a cache archive"))
        .hint("give a file that `bakeoff cache export` wrote")
}

fn is_web_page(start: &[u8]) -> bool {
    start.trim_ascii_start().starts_with(b"<")
}

fn read_index<R: Read>(
    first: Option<tar::Entry<'_, R>>,
    what: &str,
    damaged: impl Fn(io::Error) -> Error,
) -> Result<Index> {
    let none = || {
        Error::bad_input(format!("{what} is not a cache archive: it does not begin with {INDEX}"))
            .hint("give a file that `bakeoff cache export` wrote")
    };
    let first = first.ok_or_else(none)?;
    if first.path().map_err(&damaged)? != Path::new(INDEX) {
        return Err(none());
    }
    let mut text = Vec::new();
    first.take(LARGEST_INDEX).read_to_end(&mut text).map_err(&damaged)?;
    let head: Head = serde_json::from_slice(&text).map_err(|_| none())?;
    if head.bakeoff_cache != VERSION {
        let wrote = if head.tool.is_empty() {
            String::new()
        } else {
            format!(", written by {}", head.tool)
        };
        return Err(Error::bad_input(format!(
            "{what} is of version {}{wrote}; this bakeoff reads version {VERSION}",
            head.bakeoff_cache
        ))
        .hint("export it again with this version, or use the one that wrote it"));
    }
    let index: Index = serde_json::from_slice(&text).map_err(|cause| none().because(cause))?;
    for path in index.entries.iter().flat_map(|entry| entry.files.keys()) {
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || path.as_os_str().is_empty() || path == Path::new(MANIFEST) {
            return Err(Error::bad_input(format!(
                "{what} holds `{}`, which leads out of its entry",
                path.display()
            ))
            .hint("bakeoff does not write such archives: do not trust this one"));
        }
    }
    Ok(index)
}

/// One entry on its way.
struct Unpack<'a> {
    entry: &'a Indexed,
    what: &'a str,
    cancel: &'a Cancel,
    seen: HashMap<PathBuf, &'a str>,
}

impl Unpack<'_> {
    /// Members of the tar that belong to it.
    fn members(&self) -> usize {
        self.entry.files.values().filter(|says| !says.starts_with(LINK)).count()
    }

    fn lies(&self, how: &str) -> Error {
        let Indexed { kind, key, .. } = self.entry;
        Error::failure(format!("{}: {}/{key} {how}", self.what, kind.name()))
            .hint("it is damaged: copy or export it again")
    }

    /// The path of a member inside its entry, and the hash it is to have.
    fn place(&self, path: &Path) -> Result<(PathBuf, &str)> {
        let at = Path::new(self.entry.kind.name()).join(&self.entry.key);
        let known = path.strip_prefix(at).ok().and_then(|inside| {
            let (inside, says) = self.entry.files.get_key_value(inside)?;
            (!says.starts_with(LINK)).then_some((inside.clone(), says.as_str()))
        });
        known.ok_or_else(|| self.lies(&format!("has no `{}` in its index", path.display())))
    }

    /// Takes one member; the bytes that were written for it.
    fn member<R: Read>(
        &mut self,
        member: &mut tar::Entry<'_, R>,
        aside: &Path,
        damaged: &impl Fn(io::Error) -> Error,
    ) -> Result<u64> {
        self.cancel.check()?;
        let path = member.path().map_err(damaged)?.into_owned();
        let (inside, _) = self.place(&path)?;
        let says = self.entry.files.get(&inside).map(String::as_str).unwrap_or_default();
        let to = aside.join(&inside);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).at_path("create", parent)?;
        }
        let mut bytes = 0;
        match member.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let mut out = fs::File::create_new(&to).at_path("create", &to)?;
                let mut hash = Sha256::new();
                let mut part = vec![0; 1 << 16];
                loop {
                    let n = member.read(&mut part).map_err(damaged)?;
                    if n == 0 {
                        break;
                    }
                    hash.update(&part[..n]);
                    out.write_all(&part[..n]).at_path("write", &to)?;
                    bytes += n as u64;
                }
                if hex(&hash.finalize()) != says {
                    return Err(self.lies(&format!("has another `{}`", inside.display())));
                }
                let mode = member.header().mode().map_err(damaged)? & 0o777;
                out.set_permissions(fs::Permissions::from_mode(mode)).at_path("write", &to)?;
                let seconds = member.header().mtime().map_err(damaged)?;
                // A time that no clock can show is not worth an error.
                if let Some(time) = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
                {
                    out.set_modified(time).at_path("set the time of", &to)?;
                }
            }
            tar::EntryType::Link => {
                let target = member.link_name().map_err(damaged)?.unwrap_or_default().into_owned();
                let (first, _) = self.place(&target)?;
                if self.seen.get(&first) != Some(&says) {
                    return Err(self.lies(&format!("has another `{}`", inside.display())));
                }
                fs::hard_link(aside.join(first), &to).at_path("link", &to)?;
            }
            _ => return Err(self.lies(&format!("has no file `{}`", inside.display()))),
        }
        if self.seen.insert(inside.clone(), says).is_some() {
            return Err(self.lies(&format!("has `{}` twice", inside.display())));
        }
        Ok(bytes)
    }

    /// Makes the symbolic links, when all files are there.
    fn links(&self, aside: &Path) -> Result<()> {
        for (path, says) in &self.entry.files {
            let Some(target) = says.strip_prefix(LINK) else { continue };
            // A build folder leads to the sources it was made from, whatever is there now.
            if self.entry.kind != Kind::Build && !stays_inside(path, Path::new(target)) {
                return Err(self.lies(&format!("has a link `{}` that leads out", path.display())));
            }
            let to = aside.join(path);
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent).at_path("create", parent)?;
            }
            symlink(target, &to).at_path("link", &to)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error;

    fn cache(dir: &Path, name: &str) -> Cache {
        Cache::open(Some(&dir.join(name))).unwrap()
    }

    fn name(kind: Kind, key: &str) -> Name {
        Name { kind, key: key.into() }
    }

    /// A kernel with two names for one file, and a tree with a script and a link.
    fn filled(dir: &Path) -> (Cache, Vec<Name>) {
        let cache = cache(dir, "from");
        cache
            .put_local(Kind::Kernel, "k", |dir| {
                fs::write(dir.join("image"), "kernel").unwrap();
                fs::hard_link(dir.join("image"), dir.join("vmlinux")).unwrap();
                Ok(())
            })
            .unwrap();
        cache
            .put_local(Kind::Tree, "t", |dir| {
                fs::create_dir_all(dir.join("linux/scripts")).unwrap();
                fs::write(dir.join("linux/Makefile"), "all:").unwrap();
                let script = dir.join("linux/scripts/run");
                fs::write(&script, "#!/bin/sh").unwrap();
                fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
                let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
                fs::File::open(&script).unwrap().set_modified(past).unwrap();
                symlink("../Makefile", dir.join("linux/scripts/Makefile")).unwrap();
                Ok(())
            })
            .unwrap();
        (cache, vec![name(Kind::Kernel, "k"), name(Kind::Tree, "t")])
    }

    fn archive(cache: &Cache, names: &[Name]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(cache, names, &mut bytes, &Cancel::new(), &mut |_| {}).unwrap();
        bytes
    }

    fn import(cache: &Cache, bytes: &[u8]) -> Result<Imported> {
        read(cache, bytes, "a.tar.zst", Wanted::All, &Cancel::new())
    }

    /// Entries in a cache, half-made ones included.
    fn all_of(cache: &Cache) -> Vec<PathBuf> {
        let mut all = Vec::new();
        for kind in crate::keep::cache::KINDS {
            if let Ok(entries) = fs::read_dir(cache.root().join(kind.name())) {
                all.extend(entries.map(|entry| entry.unwrap().path()));
            }
        }
        all
    }

    /// What is exported arrives: contents, modes, times, links of both kinds; and it is
    /// whole to the cache's own eyes. A second import changes nothing.
    #[test]
    fn entries_travel_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (from, names) = filled(dir.path());
        let bytes = archive(&from, &names);
        let to = cache(dir.path(), "to");
        let imported = import(&to, &bytes).unwrap();
        assert_eq!((imported.added, imported.kept.len()), (names.clone(), 0));
        let kernel = to.get_local(Kind::Kernel, "k").unwrap().unwrap();
        let image = fs::metadata(kernel.join("image")).unwrap();
        assert_eq!(fs::read_to_string(kernel.join("vmlinux")).unwrap(), "kernel");
        assert_eq!(image.nlink(), 2, "one file with two names, as before");
        let tree = to.get_local(Kind::Tree, "t").unwrap().unwrap();
        let script = fs::metadata(tree.join("linux/scripts/run")).unwrap();
        assert_eq!((script.mode() & 0o777, script.mtime()), (0o755, 1_000_000));
        assert_eq!(fs::read_to_string(tree.join("linux/scripts/Makefile")).unwrap(), "all:");
        let again = import(&to, &bytes).unwrap();
        assert_eq!((again.added.len(), again.kept), (0, names));
    }

    /// An entry that is there and whole is never replaced, whatever the archive holds under
    /// its name; a broken one is.
    #[test]
    fn good_entries_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (from, names) = filled(dir.path());
        let bytes = archive(&from, &names[..1]);
        let to = cache(dir.path(), "to");
        let ours = |dir: &Path| fs::write(dir.join("image"), "ours").at_path("write", dir);
        let entry = to.put_local(Kind::Kernel, "k", ours).unwrap();
        assert_eq!(import(&to, &bytes).unwrap().kept.len(), 1);
        assert_eq!(fs::read_to_string(entry.join("image")).unwrap(), "ours");
        fs::write(entry.join("image"), "flipped").unwrap();
        assert_eq!(import(&to, &bytes).unwrap().added.len(), 1);
        assert_eq!(fs::read_to_string(entry.join("image")).unwrap(), "kernel");
    }

    /// Cut off anywhere, or with any byte changed, an archive is an error or leaves whole
    /// entries only.
    #[test]
    fn damaged_archives_leave_no_half_entry() {
        let dir = tempfile::tempdir().unwrap();
        let (from, names) = filled(dir.path());
        let bytes = archive(&from, &names);
        for at in 0..bytes.len() {
            let to = cache(dir.path(), "to");
            let error = import(&to, &bytes[..at]).unwrap_err();
            assert!(error.next_step().is_some(), "{error}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            let _ = import(&to, &flipped);
            for entry in all_of(&to) {
                let key = entry.file_name().unwrap().to_str().unwrap().to_owned();
                assert!(!key.starts_with(".making"), "half an entry after byte {at}");
                let kind = if key == "k" { Kind::Kernel } else { Kind::Tree };
                assert!(to.get_local(kind, &key).unwrap().is_some(), "byte {at}");
            }
            fs::remove_dir_all(to.root()).unwrap();
        }
    }

    fn packed(index: &serde_json::Value, members: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let text = index.to_string();
        for (path, text) in [(INDEX, text.as_str())].iter().chain(members) {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        zstd::encode_all(tar.into_inner().unwrap().as_slice(), 1).unwrap()
    }

    /// An archive of another version, a web page, something else: bad input with what it is
    /// and what to do.
    #[test]
    fn what_is_no_archive_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let to = cache(dir.path(), "to");
        let newer = serde_json::json!({"bakeoff_cache": 2, "tool": "bakeoff 9.0", "new": []});
        for (bytes, part) in [
            (packed(&newer, &[]), "is of version 2, written by bakeoff 9.0; this bakeoff reads"),
            (b"\n<!doctype html><html>".to_vec(), "is a web page"),
            (b"PK\x03\x04".to_vec(), "is not a cache archive"),
            (Vec::new(), "is empty"),
            (zstd::encode_all(&b"x"[..], 1).unwrap(), "a.tar.zst"),
        ] {
            let error = import(&to, &bytes).unwrap_err();
            assert!(error.message().contains(part), "{part}: {error}");
            assert!(error.next_step().is_some() && !error.message().contains('\n'), "{error}");
        }
    }

    /// An archive that leads out of its entry writes nothing anywhere.
    #[test]
    fn hostile_archives_write_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let sha = crate::keep::cache::sha256(b"x");
        let with = |key: &str, files: serde_json::Value| {
            let entry = serde_json::json!(
                {"kind": "kernel", "key": key, "bytes": 10, "files": files});
            serde_json::json!({"bakeoff_cache": 1, "tool": "", "entries": [entry]})
        };
        let files = |path: &str| serde_json::json!({path: sha});
        for (index, members) in [
            (with("k", files("../../evil")), vec![("kernel/k/x", "x")]),
            (with("k", files("/tmp/evil")), vec![("kernel/k/x", "x")]),
            (with("../k", files("x")), vec![("kernel/k/x", "x")]),
            (with("k", files("manifest.json")), vec![("kernel/k/manifest.json", "x")]),
            (with("k", files("x")), vec![("kernel/other/x", "x")]),
            (with("k", files("x")), vec![("kernel/k/x", "y")]),
            (with("k", files("x")), vec![("kernel/k/x", "x"), ("kernel/k/y", "y")]),
            (with("k", serde_json::json!({"a": "link /etc"})), vec![]),
            (
                with("k", serde_json::json!({"a": "link ..", "a/x": sha})),
                vec![("kernel/k/a/x", "x")],
            ),
        ] {
            let more_than_said = members.len() > 1;
            let to = cache(dir.path(), "to");
            let error = import(&to, &packed(&index, &members)).unwrap_err();
            assert_ne!(error.kind(), error::Kind::Interrupted);
            if !more_than_said {
                assert!(all_of(&to).is_empty(), "{index}");
            }
            fs::remove_dir_all(to.root()).unwrap();
        }
        assert!(!dir.path().join("evil").exists());
    }
}
