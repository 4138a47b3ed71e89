// SPDX-License-Identifier: MIT OR Apache-2.0
//! A base that is a package of Debian: fetched as a plain file, nothing installed.
//!
//! `linux-source-X.Y` is a `.deb` (an `ar` archive) with one large
//! `linux-source-X.Y.tar.xz` in its `data.tar.xz`. apt, where there is one, knows
//! where a version lies today; it is asked for the address only. The pools are
//! tried as well, so it works on hosts that are no Debian, or whose lists are
//! old. The hash in the spec decides, not the place.

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use lzma_rust2::{XzReader, XzReaderMt};

use super::{Desk, PackageFile, Tree, Watched, untar};
use crate::base::command::{Command, find_program, host_cpus};
use crate::base::error::{Context, Error, Result};
use crate::base::event::{Stage, Task};
use crate::keep::cache::{Kind, sha256_file};

/// Folders that hold `pool/` folders of all sources; security last, since a
/// stable update moves to the main pool.
const POOLS: [&str; 2] = [
    "https://deb.debian.org/debian/pool/main",
    "https://deb.debian.org/debian-security/pool/updates/main",
];
/// The package's name in its cache entry.
const FILE: &str = "package.deb";
/// A `.deb` of 160 MB, and as much again.
const ARCHIVE_BYTES: u64 = 400 << 20;

/// Where a package is, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Located {
    url: String,
    version: String,
    sha256: String,
}

pub(super) fn obtain(desk: &Desk<'_>, package: &str, version: &str, sha256: &str) -> Result<Tree> {
    let key = archive_key(package, sha256);
    if let Some(entry) = desk.cache.get(Kind::Archive, &key)? {
        return unpacked(desk, package, version, sha256, &entry.join(FILE));
    }
    match fetched(desk, package, version, sha256) {
        Ok(entry) => unpacked(desk, package, version, sha256, &entry.join(FILE)),
        Err(gone) if desk.fetch.latest && gone.kind() != crate::base::error::Kind::Interrupted => {
            let newest = ask_apt(desk, package, None)?.ok_or_else(|| {
                Error::failure(format!(
                    "apt knows no version of {package}, so the newest one cannot be found"
                ))
                .hint("run `apt-get update`, or put a newer version and hash into the spec")
                .because(gone)
            })?;
            desk.events.warning(format!(
                "{package} {version} is not to be had: {} is used instead (--base-latest)",
                newest.version
            ));
            let entry = fetched_from(
                desk,
                package,
                &newest.version,
                &newest.sha256,
                std::slice::from_ref(&newest.url),
            )?;
            let archive = entry.join(FILE);
            let mut tree = unpacked(desk, package, &newest.version, &newest.sha256, &archive)?;
            tree.substituted = true;
            Ok(tree)
        }
        Err(gone) => Err(gone),
    }
}

/// Reads one file of a package.
pub(super) fn file(desk: &Desk<'_>, file: &PackageFile<'_>) -> Result<Vec<u8>> {
    let PackageFile { package, version, sha256, url, path } = *file;
    let entry = fetched_from(desk, package, version, sha256, &[url.to_owned()])?;
    let deb = entry.join(FILE);
    let broken =
        |cause: io::Error| Error::failure(format!("failed to unpack {package}")).because(cause);
    let opened = fs::File::open(&deb).at_path("open", &deb)?;
    let mut members = ar::Archive::new(io::BufReader::new(opened));
    while let Some(member) = members.next_entry() {
        let member = member.map_err(broken)?;
        if !member.header().identifier().starts_with(b"data.tar.xz") {
            continue;
        }
        let mut data = tar::Archive::new(XzReader::new(io::BufReader::new(member), true));
        for entry in data.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            if entry.path().map_err(broken)?.strip_prefix(".").is_ok_and(|p| p == Path::new(path)) {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).map_err(broken)?;
                return Ok(bytes);
            }
        }
    }
    Err(Error::failure(format!("{package} {version} holds no {path}")))
}

pub(super) fn archive_key(package: &str, sha256: &str) -> String {
    format!("{package}-{}", sha256.get(..16).unwrap_or(sha256))
}

/// The archive in the cache, from wherever that version can be had.
fn fetched(
    desk: &Desk<'_>,
    package: &str,
    version: &str,
    sha256: &str,
) -> Result<std::path::PathBuf> {
    let file = file_name(package, version);
    let mut places: Vec<String> = desk
        .fetch
        .mirrors
        .iter()
        .map(|mirror| format!("{}/{file}", mirror.trim_end_matches('/')))
        .collect();
    if !desk.fetch.offline {
        if let Some(located) = ask_apt(desk, package, Some(version))? {
            if located.sha256 != sha256 {
                return Err(Error::bad_input(format!(
                    "apt says that {package} {version} has the SHA-256 {}, the spec says {sha256}",
                    located.sha256
                ))
                .hint("if you trust apt, correct the `sha256:` of the base"));
            }
            places.push(located.url);
        }
        places.extend(pool_urls(package, version));
    }
    fetched_from(desk, package, version, sha256, &places)
}

fn fetched_from(
    desk: &Desk<'_>,
    package: &str,
    version: &str,
    sha256: &str,
    places: &[String],
) -> Result<std::path::PathBuf> {
    let key = archive_key(package, sha256);
    let _lock = desk.cache.lock(Kind::Archive, &key, desk.cancel)?;
    if let Some(entry) = desk.cache.get(Kind::Archive, &key)? {
        return Ok(entry);
    }
    desk.cache.require_free(ARCHIVE_BYTES, "a source package")?;
    let mut tried = Vec::new();
    for place in places {
        desk.cancel.check()?;
        let task = desk.events.start(Stage::Fetch, format!("{package} {version}"), None);
        let put = desk.cache.put(Kind::Archive, &key, |aside| {
            let file = aside.join(FILE);
            download(desk, place, &file, &task)?;
            let is = sha256_file(&file)?;
            if is == sha256 {
                return Ok(());
            }
            Err(Error::failure(format!("it has the SHA-256 {is}, not {sha256}")))
        });
        match put {
            Ok(entry) => {
                task.finish("fetched, hash as pinned");
                return Ok(entry);
            }
            Err(e) if e.kind() == crate::base::error::Kind::Interrupted => return Err(e),
            Err(e) => {
                task.finish("not there");
                tried.push(format!("{place}: {}", e.chain()));
            }
        }
    }
    let what = if tried.is_empty() {
        format!("{package} {version} is not in the cache, and there is no place to look for it")
    } else {
        format!("{package} {version} is not to be had; tried {}", tried.join("; "))
    };
    Err(Error::failure(what).hint(
        "stable updates replace each other: give --base-latest for the newest version, or put \
         another version with its hash into the spec",
    ))
}

/// Asks apt where a version lies; `None` if there is no apt, or it does not know.
fn ask_apt(desk: &Desk<'_>, package: &str, version: Option<&str>) -> Result<Option<Located>> {
    if desk.fetch.offline || find_program("apt-get").is_none() {
        return Ok(None);
    }
    let wanted = version.map_or_else(|| package.to_owned(), |v| format!("{package}={v}"));
    let finished = Command::new("apt-get")
        .args(["download", "--print-uris", "--"])
        .arg(wanted)
        .env("LC_ALL", "C")
        .timeout(Duration::from_secs(60))
        .run(desk.cancel)?;
    // apt fails for a version it does not know: that is an answer, not an error.
    if !finished.success() {
        return Ok(None);
    }
    Ok(finished.text().lines().find_map(parse_uri_line))
}

/// `'http://…/x_1%7e2_all.deb' x_1~2_all.deb 153476148 SHA256:e849…`
fn parse_uri_line(line: &str) -> Option<Located> {
    let rest = line.trim().strip_prefix('\'')?;
    let (url, rest) = rest.split_once('\'')?;
    let mut words = rest.split_whitespace();
    let file = words.next()?;
    let sha256 = words.find_map(|word| word.strip_prefix("SHA256:"))?;
    if sha256.len() != 64 {
        return None;
    }
    let version = file.split('_').nth(1)?.replace("%3a", ":");
    Some(Located { url: url.to_owned(), version, sha256: sha256.to_lowercase() })
}

/// The file's name leaves the epoch out.
fn file_name(package: &str, version: &str) -> String {
    let version = version.split_once(':').map_or(version, |(_epoch, rest)| rest);
    format!("{package}_{version}_all.deb")
}

/// `linux-source-6.12` is built from `linux` in the release that 6.12 belongs to,
/// and from `linux-6.12` in the releases before.
fn pool_urls(package: &str, version: &str) -> Vec<String> {
    let file = file_name(package, version);
    let own = package.replacen("linux-source-", "linux-", 1);
    let mut urls = Vec::new();
    for pool in POOLS {
        for source in [own.as_str(), "linux"] {
            urls.push(format!("{pool}/l/{source}/{file}"));
        }
    }
    urls
}

fn download(desk: &Desk<'_>, place: &str, to: &Path, task: &Task) -> Result<()> {
    let mut out = fs::File::create(to).at_path("create", to)?;
    let local = place.strip_prefix("file://").unwrap_or(place);
    if local.starts_with('/') {
        let file = fs::File::open(local).at_path("open", Path::new(local))?;
        let total = file.metadata().ok().map(|m| m.len());
        let mut from = Watched::new(file, task, total, desk.cancel);
        return copy(desk, &mut from, &mut out, local);
    }
    // ring rather than the default aws-lc, which takes longer to compile than
    // all of bakeoff. An error says that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::blocking::Client::builder()
        .user_agent(concat!("bakeoff/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(20))
        // The whole of it may take long; a silence may not.
        .timeout(None)
        .tcp_keepalive(Duration::from_secs(20))
        .build()
        .context(|| "set up the download".into())?;
    let answer = client
        .get(place)
        .send()
        .and_then(reqwest::blocking::Response::error_for_status)
        .map_err(|cause| Error::failure("no answer").because(cause.without_url()))?;
    let total = answer.content_length();
    let mut from = Watched::new(answer, task, total, desk.cancel);
    copy(desk, &mut from, &mut out, place)
}

fn copy(desk: &Desk<'_>, from: &mut dyn Read, to: &mut dyn Write, name: &str) -> Result<()> {
    io::copy(from, to).map(|_| ()).map_err(|cause| match desk.cancel.check() {
        Err(interrupted) => interrupted,
        Ok(()) => Error::failure(format!("failed to fetch {name}")).because(cause),
    })
}

fn unpacked(
    desk: &Desk<'_>,
    package: &str,
    version: &str,
    sha256: &str,
    deb: &Path,
) -> Result<Tree> {
    let label = format!("Debian {package} {version}");
    desk.tree(&archive_key(package, sha256), label, |into, task| unpack(desk, deb, into, task))
}

/// `.deb` → `data.tar.xz` → `…/linux-source-X.Y.tar.xz` → tree, as one stream.
fn unpack(desk: &Desk<'_>, deb: &Path, into: &Path, task: &Task) -> Result<()> {
    let name = deb.display().to_string();
    let broken = |cause: io::Error| match desk.cancel.check() {
        Err(interrupted) => interrupted,
        Ok(()) => Error::failure(format!("failed to unpack {name}")).because(cause),
    };
    let file = fs::File::open(deb).at_path("open", deb)?;
    let total = file.metadata().ok().map(|m| m.len());
    let mut members = ar::Archive::new(Watched::new(file, task, total, desk.cancel));
    while let Some(member) = members.next_entry() {
        let member = member.map_err(broken)?;
        let id = String::from_utf8_lossy(member.header().identifier()).into_owned();
        if !id.starts_with("data.tar") {
            continue;
        }
        if id.trim_end_matches('/') != "data.tar.xz" {
            return Err(Error::failure(format!("{name} holds a {id}: only xz is understood")));
        }
        let mut data = tar::Archive::new(XzReader::new(io::BufReader::new(member), true));
        for entry in data.entries().map_err(broken)? {
            let entry = entry.map_err(broken)?;
            let path = entry.path().map_err(broken)?.into_owned();
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !(file.starts_with("linux-source-") && file.ends_with(".tar.xz")) {
                continue;
            }
            // Written out, so that several threads can decode its blocks.
            let mut entry = entry;
            let aside = into.parent().unwrap_or(into);
            let mut inner = tempfile::tempfile_in(aside).at_path("write in", aside)?;
            io::copy(&mut entry, &mut inner).map_err(broken)?;
            inner.rewind().map_err(broken)?;
            let inner = io::BufReader::with_capacity(1 << 20, inner);
            let stream = XzReaderMt::new(inner, true, host_cpus()).map_err(broken)?;
            untar(stream, 1, into, &file, desk.cancel)?;
            return Ok(());
        }
    }
    Err(Error::bad_input(format!("{name} holds no linux-source-….tar.xz"))
        .hint("the base's `package:` is one of Debian's linux-source packages"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// apt's answer is taken apart as it is printed, quoted and with escapes.
    #[test]
    fn uri_line_of_apt() {
        let line = "'http://deb.debian.org/debian-security/pool/updates/main/l/linux-6.12/linux-source-6.12_6.12.117-1%7edeb12u1_all.deb' linux-source-6.12_6.12.117-1~deb12u1_all.deb 153476148 SHA256:e849faf31ca3555757f3a8877cb01af92122f744f75d1f3102734651c4e14703";
        let located = parse_uri_line(line).unwrap();
        assert_eq!(located.version, "6.12.117-1~deb12u1");
        assert!(located.url.ends_with("_6.12.117-1%7edeb12u1_all.deb"));
        assert!(located.sha256.starts_with("e849faf3"));
        for bad in ["", "E: no such package", "'http://x' x_1_all.deb 5 MD5Sum:00"] {
            assert_eq!(parse_uri_line(bad), None, "{bad:?}");
        }
    }

    /// The pools are searched under both source names, without the epoch.
    #[test]
    fn pool_addresses() {
        let urls = pool_urls("linux-source-6.12", "1:6.12.9-1");
        assert_eq!(urls.len(), 4);
        assert!(urls[0].ends_with("/main/l/linux-6.12/linux-source-6.12_6.12.9-1_all.deb"));
        assert!(urls[1].ends_with("/main/l/linux/linux-source-6.12_6.12.9-1_all.deb"));
    }
}
