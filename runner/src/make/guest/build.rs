// SPDX-License-Identifier: MIT OR Apache-2.0
//! Builds guest binaries with cargo and keeps them in the cache.
//!
//! Sources and cargo's target folder stay in the cache's work folder, so that a
//! change to the agent compiles the agent only. They are shared by all
//! architectures, so one build runs at a time.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Origins, Which};
use crate::base::command::{Cancel, Command, find_program, last_lines};
use crate::base::error::{Context, Error, Kind, Result};
use crate::base::event::{Events, Stage};
use crate::keep::cache::{Kind as CacheKind, hex};
use crate::keep::store::write_whole;
use crate::spec::arch::Arch;

/// Raised when a build with the same inputs would give something else.
const RECIPE: u32 = 1;

/// What rustc is told beside the profile `guest`: a guest has no libraries.
const RUSTFLAGS: &str = "-C target-feature=+crt-static";

/// Bytes a build takes at most.
const ROOM: u64 = 512 << 20;

/// What cargo and rustc get of our environment: where they live and how they
/// reach the registry. Not the flags and wrappers of whoever builds bakeoff.
const KEPT_ENVIRONMENT: &[&str] = &[
    "PATH",
    "HOME",
    "TMPDIR",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "http_proxy",
    "https_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CARGO_HTTP_CAINFO",
    "CARGO_HTTP_PROXY",
    "CARGO_NET_OFFLINE",
    "CARGO_NET_GIT_FETCH_WITH_CLI",
];

/// A cargo and a rustc that can build for a target.
#[derive(Debug)]
struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    /// `RUSTC=`, where cargo would take another one.
    forced: bool,
    /// `rustc -vV`.
    version: String,
}

/// A binary's bytes, and where they come from.
pub(super) fn from_cache_or_cargo(
    arch: &Arch,
    which: Which,
    origins: &Origins<'_>,
    events: &Events,
    cancel: &Cancel,
) -> Result<(Vec<u8>, String)> {
    let toolchain = Toolchain::find(arch, cancel)?;
    let sources = origins.data.guest_sources()?;
    let key = key(&sources, arch, which, &toolchain);
    let cache = origins.cache;
    let read = |dir: PathBuf| {
        let path = dir.join(which.name());
        fs::read(&path).at_path("read", &path)
    };
    if let Some(dir) = cache.get(CacheKind::Guest, &key)? {
        return Ok((read(dir)?, format!("cache, {key}")));
    }
    let task = events.start(Stage::GuestBinaries, &arch.name, Some(Duration::from_secs(30)));
    let _lock = cache.lock(CacheKind::Guest, "cargo", cancel)?;
    // Somebody else may have built it while we waited.
    if let Some(dir) = cache.get(CacheKind::Guest, &key)? {
        task.finish("built by another bakeoff");
        return Ok((read(dir)?, format!("cache, {key}")));
    }
    cache.require_free(ROOM, "building the guest binaries")?;
    let work = cache.work_dir()?.join("guest");
    let workspace = work.join("workspace");
    write_workspace(&workspace, &sources)?;
    let built = cargo(arch, which, &toolchain, &work, &workspace, cancel)?;
    let agent = fs::read(&built).at_path("read", &built)?;
    // What cannot run must not get into the cache.
    super::elf::check(&agent, arch)
        .map_err(|why| Error::failure(format!("cargo built a guest binary that {why}")))?;
    cache.put(CacheKind::Guest, &key, |dir| write_whole(&dir.join(which.name()), &agent))?;
    task.finish("built");
    Ok((agent, format!("built with {}", toolchain.first_line())))
}

/// The key of a product: everything that decides what comes out.
fn key(
    sources: &BTreeMap<String, Vec<u8>>,
    arch: &Arch,
    which: Which,
    toolchain: &Toolchain,
) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(&RECIPE.to_le_bytes());
    for text in [&arch.guest.rust_target, arch.linker(), &toolchain.version, RUSTFLAGS] {
        part(text.as_bytes());
    }
    // The agent had a key before there was a choice.
    match which {
        Which::Agent => {}
        Which::Fuzzer => part(which.name().as_bytes()),
    }
    for (name, bytes) in sources {
        part(name.as_bytes());
        part(bytes);
    }
    let digest = hex(&hash.finalize());
    format!("{}-{}", arch.name, digest.get(..16).unwrap_or(&digest))
}

/// Makes `workspace` hold exactly these sources, and of the runner a stub.
///
/// cargo decides by time stamps, so what did not change is not touched; and a
/// file that is no longer a source must go, for it would be compiled into the
/// source hash.
fn write_workspace(workspace: &Path, sources: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    let stub: &[u8] = b"fn main() {}\n";
    // Every target that the runner's manifest names has to be there.
    let stubs =
        ["runner/src/lib.rs", "runner/src/main.rs", "runner/build.rs", "runner/benches/splats.rs"];
    let wanted: BTreeMap<PathBuf, &[u8]> = sources
        .iter()
        .map(|(name, bytes)| (workspace.join(name), bytes.as_slice()))
        .chain(stubs.map(|name| (workspace.join(name), stub)))
        .collect();
    remove_strangers(workspace, &wanted)?;
    for (path, bytes) in wanted {
        if fs::read(&path).is_ok_and(|old| old == bytes) {
            continue;
        }
        let dir = path.parent().unwrap_or(workspace);
        fs::create_dir_all(dir).at_path("create", dir)?;
        fs::write(&path, bytes).at_path("write", &path)?;
    }
    Ok(())
}

fn remove_strangers(dir: &Path, wanted: &BTreeMap<PathBuf, &[u8]>) -> Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.at_path("read", dir)?,
    };
    for entry in entries {
        let path = entry.at_path("read", dir)?.path();
        if path.is_dir() && !path.is_symlink() {
            remove_strangers(&path, wanted)?;
        } else if !wanted.contains_key(&path) {
            fs::remove_file(&path).at_path("remove", &path)?;
        }
    }
    Ok(())
}

/// Runs cargo; gives the path of what it built.
fn cargo(
    arch: &Arch,
    which: Which,
    toolchain: &Toolchain,
    work: &Path,
    workspace: &Path,
    cancel: &Cancel,
) -> Result<PathBuf> {
    let linker = arch.linker();
    if find_program(linker).is_none() {
        return Err(Error::missing(format!(
            "the linker `{linker}` for {} guest binaries was not found",
            arch.name
        ))
        .hint("run `bakeoff setup`"));
    }
    let target = work.join("target");
    let triple = &arch.guest.rust_target;
    let variable = triple.to_uppercase().replace('-', "_");
    let mut cargo = Command::new(&toolchain.cargo)
        .args(["build", "--locked", "--profile", "guest", "-p", "bakeoff-fuzz"])
        .args(which.features())
        .args(["--bin", which.name(), "--target", triple.as_str(), "--target-dir"])
        .arg(&target)
        .cwd(workspace)
        .only_env(KEPT_ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("RUSTFLAGS", RUSTFLAGS)
        .env(format!("CARGO_TARGET_{variable}_LINKER"), linker)
        // Empty: also against a wrapper in the user's cargo configuration.
        .env("RUSTC_WRAPPER", "")
        .env("CARGO_TERM_COLOR", "never")
        .log(work.join("build.log"));
    if toolchain.forced {
        cargo = cargo.env("RUSTC", &toolchain.rustc);
    }
    let finished = cargo.run(cancel)?;
    if !finished.success() {
        return Err(Error::failure(format!(
            "the guest binaries for {} do not build: {}",
            arch.name,
            last_lines(&finished.tail, 12)
        ))
        .hint(format!("the whole log is in {}", work.join("build.log").display())));
    }
    Ok(target.join(triple).join("guest").join(which.name()))
}

impl Toolchain {
    /// The active toolchain if it has the target's standard library, else
    /// Debian's.
    fn find(arch: &Arch, cancel: &Cancel) -> Result<Toolchain> {
        let triple = &arch.guest.rust_target;
        let cargo = tool("cargo").ok_or_else(|| {
            Error::missing("cargo was not found, neither in PATH nor in ~/.cargo/bin")
                .hint("install Rust (https://rustup.rs), or give --guest-dir")
        })?;
        if let Some(rustc) = rustc_for(triple, cancel)? {
            let version = Command::new(&rustc).arg("-vV").check(cancel)?.text();
            let forced = tool("rustc").is_none_or(|active| active != rustc);
            return Ok(Toolchain { cargo, rustc, forced, version });
        }
        Err(Error::missing(format!("there is no Rust standard library for {triple}")).hint(
            format!(
                "run `rustup target add {triple}`, or on Debian `apt-get install rustc-web \
             libstd-rust-web-dev:arm64` (after `dpkg --add-architecture arm64`), \
             or give --guest-dir"
            ),
        ))
    }

    fn first_line(&self) -> &str {
        self.version.lines().next().unwrap_or_default()
    }
}

/// The rustc that can link programs for a target, if there is one.
pub(super) fn rustc_for(triple: &str, cancel: &Cancel) -> Result<Option<PathBuf>> {
    let debian = Path::new("/usr/bin/rustc");
    for rustc in tool("rustc").into_iter().chain(debian.is_file().then(|| debian.to_owned())) {
        if has_std(&rustc, triple, cancel)? {
            return Ok(Some(rustc));
        }
    }
    Ok(None)
}

/// In `PATH`, else where rustup puts it.
pub(super) fn tool(name: &str) -> Option<PathBuf> {
    let home = || {
        let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let cargo_home =
            cargo_home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))?;
        find_program(cargo_home.join("bin").join(name).to_str()?)
    };
    find_program(name).or_else(home)
}

/// Whether this rustc can link programs for the target.
fn has_std(rustc: &Path, triple: &str, cancel: &Cancel) -> Result<bool> {
    let ask = Command::new(rustc).args(["--print", "target-libdir", "--target", triple]);
    let answer = match ask.run(cancel) {
        // A rustup proxy without a toolchain, a rustc that does not start.
        Err(error) if error.kind() != Kind::Interrupted => return Ok(false),
        answer => answer?,
    };
    if !answer.success() {
        return Ok(false);
    }
    let Ok(files) = fs::read_dir(answer.text()) else { return Ok(false) };
    Ok(files.flatten().any(|file| {
        let name = file.file_name().to_string_lossy().into_owned();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::data::DataDir;

    /// What is no longer a source is gone from the workspace, and what did not
    /// change keeps its time stamp.
    #[test]
    fn workspace_holds_exactly_the_sources() {
        let dir = tempfile::tempdir().unwrap();
        let mut sources = BTreeMap::from([
            ("fuzz/src/lib.rs".to_owned(), b"// lib".to_vec()),
            ("fuzz/src/old.rs".to_owned(), b"// old".to_vec()),
        ]);
        write_workspace(dir.path(), &sources).unwrap();
        let time = |name: &str| fs::metadata(dir.path().join(name)).unwrap().modified().unwrap();
        let before = time("fuzz/src/lib.rs");
        sources.remove("fuzz/src/old.rs");
        std::thread::sleep(Duration::from_millis(20));
        write_workspace(dir.path(), &sources).unwrap();
        assert_eq!(time("fuzz/src/lib.rs"), before);
        assert!(!dir.path().join("fuzz/src/old.rs").exists());
        assert!(dir.path().join("runner/src/lib.rs").exists());
    }

    /// Every input is in the key.
    #[test]
    fn key_changes_with_every_input() {
        let data = DataDir::embedded();
        let x86 = Arch::load(&data, "x86_64").unwrap();
        let arm = Arch::load(&data, "arm64").unwrap();
        let toolchain = |version: &str| Toolchain {
            cargo: "cargo".into(),
            rustc: "rustc".into(),
            forced: false,
            version: version.into(),
        };
        let sources = |text: &str| BTreeMap::from([("fuzz/src/lib.rs".to_owned(), text.into())]);
        let first = key(&sources("a"), &x86, Which::Agent, &toolchain("1"));
        assert_eq!(first, key(&sources("a"), &x86, Which::Agent, &toolchain("1")));
        assert_ne!(first, key(&sources("b"), &x86, Which::Agent, &toolchain("1")));
        assert_ne!(first, key(&sources("a"), &x86, Which::Agent, &toolchain("2")));
        assert_ne!(first, key(&sources("a"), &arm, Which::Agent, &toolchain("1")));
        assert_ne!(first, key(&sources("a"), &x86, Which::Fuzzer, &toolchain("1")));
    }
}
