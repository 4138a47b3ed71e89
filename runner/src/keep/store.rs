// SPDX-License-Identifier: MIT OR Apache-2.0
//! The run directory: the only module that knows where things lie.
//!
//! ```text
//! RUN/run.json                        frozen plan, hash of the spec, root seed, environment
//! RUN/spec/                           the spec and its patches as they were
//! RUN/bakeoff.log                     the event stream
//! RUN/cells/<base>/<candidate>/<arch>/<profile>/kernel.json, build.log
//!     …/boots/<shard>-<nnn>/{records.jsonl, console.log, console.times, end.json}
//! RUN/fuzz/<base>/{corpus.json, summary.json, campaign/}   one corpus a base
//! RUN/cells/…/<profile>/fuzz.json, fuzz/      that corpus on one kernel
//! RUN/shards/<shard>/, slurm/         parts that other machines do, until they are merged
//! RUN/report.json, report.txt, report.md        derived, can be deleted
//! ```
//!
//! It is append-only: a file is written aside and renamed, `kernel.json`
//! completes a cell's build and `end.json` completes a boot, so what is there is
//! whole. Paths inside the files are relative to the run. Merging two runs of
//! one plan is the union of their folders.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::base::error::{Context, Error, Result};
use crate::spec::BaseSource;
use crate::spec::guest::{MachineSpec, Pack};
use crate::spec::plan::fuzz::FuzzPlan;
use crate::spec::plan::{Cell, CellId, Plan};

/// Version of the files of a run.
pub const VERSION: u32 = 2;

/// `run.json`: what was planned, and on what machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunJson {
    /// [`VERSION`].
    pub store_version: u32,
    /// Program and version that wrote it.
    pub tool: String,
    /// Name of the bake-off.
    pub bakeoff: String,
    /// SHA-256 over spec and patches.
    pub spec_sha256: String,
    /// Where the spec was when the run began, as it was given.
    pub spec_path: PathBuf,
    /// Series of `--add`, as they were given.
    pub added: Vec<PathBuf>,
    /// Copies of the reference that take part in place of the candidates.
    #[serde(default)]
    pub against_itself: Option<u32>,
    /// When the run began, RFC 3339.
    pub started: String,
    /// Where each base comes from.
    pub bases: BTreeMap<String, BaseSource>,
    /// What is to be done.
    pub plan: Plan,
    /// What commands need in the guest.
    #[serde(default, skip_serializing_if = "Pack::is_empty")]
    pub pack: Pack,
    /// What the virtual machine is like.
    #[serde(default)]
    pub machine: MachineSpec,
    /// The machine.
    pub environment: Environment,
    /// What is fuzzed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuzz: Option<FuzzPlan>,
    /// The part of the plan that is done here; `None`: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// What did not fit into the time there was, what decides most first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<CellId>,
}

impl RunJson {
    /// Whether a cell is done in this run directory.
    #[must_use]
    pub fn does(&self, cell: &CellId) -> bool {
        self.shard.as_ref().is_none_or(|shard| shard.has(cell))
    }

    /// The cells that are done in this run directory.
    pub fn own_cells(&self) -> impl Iterator<Item = &Cell> {
        self.plan.cells.iter().filter(|cell| self.does(&cell.id))
    }
}

/// Cells that are compared with each other, on one machine: one base, architecture and
/// profile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// Base name.
    pub base: String,
    /// Architecture name.
    pub arch: String,
    /// Profile name.
    pub profile: String,
}

impl Shard {
    /// The shard of a cell.
    #[must_use]
    pub fn of(cell: &CellId) -> Shard {
        let CellId { base, arch, profile, candidate: _ } = cell.clone();
        Shard { base, arch, profile }
    }

    /// Whether a cell belongs to it.
    #[must_use]
    pub fn has(&self, cell: &CellId) -> bool {
        *self == Shard::of(cell)
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.base, self.arch, self.profile)
    }
}

/// The machine and its tools.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Accelerator per architecture: `kvm` or `tcg`.
    pub accel: BTreeMap<String, String>,
    /// Why it is that one.
    pub accel_reason: BTreeMap<String, String>,
    /// First line of `qemu-system-… --version`, per architecture.
    pub qemu: BTreeMap<String, String>,
    /// First line of the C compiler's `--version`, per architecture.
    pub compiler: BTreeMap<String, String>,
    /// CPUs of the host.
    pub cpus: u32,
    /// CPUs of a guest.
    pub guest_cpus: u32,
    /// The host's own kernel.
    pub host_kernel: String,
}

/// `kernel.json`: how the build of a cell ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelJson {
    /// [`VERSION`].
    pub store_version: u32,
    /// How it ended.
    pub outcome: KernelOutcome,
    /// Titles of the series' patches.
    pub patches: Vec<String>,
    /// Where the time went.
    pub seconds: BuildSeconds,
}

/// How the build of a cell ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum KernelOutcome {
    /// There is a kernel in the cache.
    Built {
        /// Its key in the cache.
        key: String,
        /// SHA-256 of the image.
        image_sha256: String,
        /// It was there already.
        from_cache: bool,
        /// Objects compiled for it; `None` if it came from the cache.
        objects: Option<u64>,
        /// Whether make ran in the sandbox, and if not, why.
        sandbox: String,
        /// The `make` command line.
        make: String,
    },
    /// A patch of the series does not apply.
    DidNotApply {
        /// Its file name.
        patch: String,
        /// What was said, with the hunk.
        reason: String,
    },
    /// It does not compile or link.
    DidNotBuild {
        /// The first errors.
        reason: String,
    },
    /// It cannot exist on this base.
    NotPortable {
        /// Why.
        reason: String,
    },
}

/// Where the time of a build went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildSeconds {
    /// Copying tree and build folder, applying the series.
    pub copy: f64,
    /// In make.
    pub make: f64,
    /// Both together when the kernel that now came from the cache was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<f64>,
}

/// `end.json`: how a boot ended; its presence completes the boot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndJson {
    /// [`VERSION`].
    pub store_version: u32,
    /// How it ended.
    pub end: BootEnd,
    /// The step ([`bakeoff_fuzz::wire::Step::id`]) of each visit it was asked to make.
    pub asked: Vec<u32>,
    /// Visits it brought to their end, by their place in `asked`.
    pub done: Vec<u32>,
    /// Power-on to Hello, seconds on the host's clock.
    pub hello_seconds: Option<f64>,
    /// Power-on to the end, seconds on the host's clock.
    pub seconds: f64,
    /// QEMU's command line; files of the run are relative to it.
    pub argv: Vec<String>,
    /// Bytes of `console.log`.
    pub console_bytes: u64,
    /// Lines of `records.jsonl`.
    pub records: u64,
    /// NMIs that the host injected, by step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub injected: Vec<Injected>,
}

/// What was injected in a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Injected {
    /// The step's number in the plan.
    pub step: u32,
    /// Commands that QEMU answered.
    pub nmis: u64,
    /// Time in which they were sent, seconds on the host's clock.
    pub seconds: f64,
    /// Mean time QEMU took to answer one, microseconds.
    pub mean_us: f64,
    /// Longest time QEMU took to answer one, microseconds.
    pub slowest_us: f64,
}

/// How a boot ended. Everything here is a result of the candidate's kernel;
/// a QEMU that fails by itself is an [`Error`] and writes no `end.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "end", rename_all = "kebab-case")]
pub enum BootEnd {
    /// End record and an orderly power-off or restart.
    Ran,
    /// The kernel panicked.
    Panicked {
        /// The panic's line.
        line: String,
    },
    /// It stopped making progress: no record came, whatever the console said.
    Hung {
        /// After how many seconds without a record it was given up.
        silent_seconds: u64,
        /// The step it hung in; none if it hung between two steps.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<u32>,
        /// What the kernel said about it, if it noticed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        report: Option<ConsoleReport>,
    },
    /// It never got as far as its Hello.
    DidNotBoot {
        /// What was seen: silence, the last line of the console.
        reason: String,
    },
    /// The guest went away without an End record and without a panic.
    EarlyExit {
        /// What QEMU said of it.
        reason: String,
    },
    /// One report over and over: ended early, and counted.
    Flood {
        /// The report's headline.
        title: String,
        /// How often it had been seen.
        count: u64,
    },
    /// The emulator failed the guest after it had finished some steps. Those count;
    /// nothing else of this boot does, and the other steps get another one.
    Lost {
        /// What the emulator did.
        reason: String,
        /// Where on the console that begins to show, in bytes.
        console_offset: u64,
    },
    /// It was still making progress when its time was up.
    OutOfTime {
        /// The limit, seconds.
        limit_seconds: u64,
    },
}

/// A report of the kernel's, and where to read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConsoleReport {
    /// Its headline.
    pub title: String,
    /// Where on the console it begins, in bytes.
    pub console_offset: u64,
}

/// Names a boot: its cell and its folder's name, `<shard>-<nnn>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootId {
    /// The cell.
    pub cell: CellId,
    /// `<shard>-<nnn>`.
    pub name: String,
}

/// What the name of a file that is being written begins with.
const SCRAP: &str = ".writing-";

/// Marks a folder as a run's, from before there is a `run.json`.
const BEGUN: &str = ".lock";

/// A run directory.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// A new run; the folder must not exist, or be empty.
    ///
    /// # Errors
    /// There is something already, or it cannot be created.
    pub fn create(root: &Path) -> Result<Store> {
        fs::create_dir_all(root).at_path("create the run directory", root)?;
        let store = Store { root: root.to_owned() };
        if store.was_begun_only()? {
            for dir in [store.spec_dir(), store.added_dir()] {
                match fs::remove_dir_all(&dir) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        return Err(e).at_path("remove", &dir);
                    }
                    _ => {}
                }
            }
        } else if fs::read_dir(root).at_path("read", root)?.next().is_some() {
            return Err(Error::bad_input(format!("{} is not empty", root.display()))
                .hint("give --out a new folder, or `bakeoff resume` this run"));
        }
        let mark = root.join(BEGUN);
        fs::write(&mark, "").at_path("write", &mark)?;
        Ok(store)
    }

    /// Whether somebody died between beginning this run and writing its `run.json`: all
    /// there is then can be written again.
    fn was_begun_only(&self) -> Result<bool> {
        if self.run_json().exists() || !self.root.join(BEGUN).exists() {
            return Ok(false);
        }
        for entry in fs::read_dir(&self.root).at_path("read", &self.root)? {
            let path = entry.at_path("read", &self.root)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let ours = path == self.spec_dir() || path == self.added_dir();
            if !(ours || name == BEGUN || name.starts_with(SCRAP)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A run that is there.
    ///
    /// # Errors
    /// No `run.json`.
    pub fn open(root: &Path) -> Result<Store> {
        let store = Store { root: root.to_owned() };
        if !store.run_json().is_file() {
            return Err(Error::bad_input(format!(
                "{} is not a run directory: no run.json",
                root.display()
            ))
            .hint("`bakeoff list` shows the runs there are"));
        }
        Ok(store)
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `run.json`.
    #[must_use]
    pub fn run_json(&self) -> PathBuf {
        self.root.join("run.json")
    }

    /// The frozen spec's folder.
    #[must_use]
    pub fn spec_dir(&self) -> PathBuf {
        self.root.join("spec")
    }

    /// The folder of `--add`ed series.
    #[must_use]
    pub fn added_dir(&self) -> PathBuf {
        self.root.join("added")
    }

    /// The run directories of shards that other machines do.
    #[must_use]
    pub fn shards_dir(&self) -> PathBuf {
        self.root.join("shards")
    }

    /// What belongs to a job of Slurm's.
    #[must_use]
    pub fn slurm_dir(&self) -> PathBuf {
        self.root.join("slurm")
    }

    /// The event log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.root.join("bakeoff.log")
    }

    /// A derived file at the top: `report.json`, `report.txt` …
    #[must_use]
    pub fn derived(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A cell's folder.
    #[must_use]
    pub fn cell(&self, id: &CellId) -> PathBuf {
        self.root.join("cells").join(&id.base).join(&id.candidate).join(&id.arch).join(&id.profile)
    }

    /// A cell's `kernel.json`.
    #[must_use]
    pub fn kernel_json(&self, id: &CellId) -> PathBuf {
        self.cell(id).join("kernel.json")
    }

    /// A cell's build log.
    #[must_use]
    pub fn build_log(&self, id: &CellId) -> PathBuf {
        self.cell(id).join("build.log")
    }

    /// A boot's folder.
    #[must_use]
    pub fn boot(&self, id: &BootId) -> PathBuf {
        self.cell(&id.cell).join("boots").join(&id.name)
    }

    /// A boot's console.
    #[must_use]
    pub fn console(&self, id: &BootId) -> PathBuf {
        self.boot(id).join("console.log")
    }

    /// When what came on the console: lines of a byte offset and the milliseconds
    /// since power-on at which that byte arrived.
    #[must_use]
    pub fn console_times(&self, id: &BootId) -> PathBuf {
        self.boot(id).join("console.times")
    }

    /// A boot's records.
    #[must_use]
    pub fn records(&self, id: &BootId) -> PathBuf {
        self.boot(id).join("records.jsonl")
    }

    /// A boot's `end.json`.
    #[must_use]
    pub fn end_json(&self, id: &BootId) -> PathBuf {
        self.boot(id).join("end.json")
    }

    /// The folder of a base's campaign and corpus.
    #[must_use]
    pub fn fuzz(&self, base: &str) -> PathBuf {
        self.root.join("fuzz").join(base)
    }

    /// What a cell made of the corpus; its presence completes the replay.
    #[must_use]
    pub fn fuzz_json(&self, id: &CellId) -> PathBuf {
        self.cell(id).join("fuzz.json")
    }

    /// Names of a cell's complete boots, in order.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn boots(&self, cell: &CellId) -> Result<Vec<BootId>> {
        let dir = self.cell(cell).join("boots");
        let mut boots = Vec::new();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(boots),
            Err(e) => return Err(e).at_path("read", &dir),
        };
        for entry in entries {
            let name = entry.at_path("read", &dir)?.file_name().to_string_lossy().into_owned();
            let id = BootId { cell: cell.clone(), name };
            if self.end_json(&id).is_file() {
                boots.push(id);
            }
        }
        boots.sort();
        Ok(boots)
    }

    /// Removes files that somebody was writing when he was killed. For who holds the lock.
    ///
    /// # Errors
    /// A folder cannot be read, or a file not removed.
    pub fn remove_scraps(&self) -> Result<()> {
        let mut folders = vec![self.root.clone()];
        while let Some(dir) = folders.pop() {
            for entry in fs::read_dir(&dir).at_path("read", &dir)? {
                let entry = entry.at_path("read", &dir)?;
                let path = entry.path();
                let kind = entry.file_type().at_path("read", &path)?;
                // Shards have locks of their own.
                if kind.is_dir() && path != self.shards_dir() {
                    folders.push(path);
                } else if kind.is_file() && entry.file_name().to_string_lossy().starts_with(SCRAP) {
                    fs::remove_file(&path).at_path("remove", &path)?;
                }
            }
        }
        Ok(())
    }

    /// A path inside the run, as it stands in `evidence[]`.
    #[must_use]
    pub fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    /// Locks the run for writing; a second writer is refused, not queued.
    ///
    /// # Errors
    /// Somebody else is at it.
    pub fn lock(&self) -> Result<fs::File> {
        let path = self.root.join(BEGUN);
        let file = fs::File::create(&path).at_path("create", &path)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => {
                Err(Error::failure(format!("another bakeoff works on {}", self.root.display()))
                    .hint("wait for it, or end it"))
            }
            Err(fs::TryLockError::Error(e)) => Err(e).at_path("lock", &path),
        }
    }
}

/// Writes a file whole or not at all: aside, synced, renamed.
///
/// # Errors
/// Disk full, no permission; the old file is left as it was.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir).at_path("create", dir)?;
    let mut aside =
        tempfile::Builder::new().prefix(SCRAP).tempfile_in(dir).at_path("write in", dir)?;
    let write = |file: &mut fs::File| file.write_all(bytes).and_then(|()| file.sync_all());
    write(aside.as_file_mut()).at_path("write", path)?;
    let everyone = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
    aside.as_file().set_permissions(everyone).at_path("write", path)?;
    aside.persist(path).map_err(|e| e.error).at_path("write", path)?;
    Ok(())
}

/// Writes a value as pretty JSON, whole or not at all.
///
/// # Errors
/// As [`write_whole`].
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).at_path("write", path)?;
    text.push('\n');
    write_whole(path, text.as_bytes())
}

/// Reads a JSON file of ours.
///
/// # Errors
/// Missing, truncated or something else: named, with the place.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).at_path("read", path)?;
    serde_json::from_slice(&text).map_err(|cause| {
        Error::bad_input(format!("{} is broken", path.display()))
            .hint("delete it and `bakeoff resume` the run: what it recorded is measured again")
            .because(cause)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is being written is never seen half: the old one stays until the rename.
    #[test]
    fn writing_replaces_whole_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/x.json");
        write_json(&path, &1).unwrap();
        write_json(&path, &[1, 2]).unwrap();
        assert_eq!(read_json::<Vec<u32>>(&path).unwrap(), [1, 2]);
        let left: Vec<_> = fs::read_dir(dir.path().join("deep")).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing is left aside");
    }

    /// A truncated file is named and is bad input, not a panic.
    #[test]
    fn truncated_json_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("end.json");
        fs::write(&path, "{\"store_version\": 1,").unwrap();
        let error = read_json::<EndJson>(&path).unwrap_err();
        assert_eq!(error.kind(), crate::base::error::Kind::BadInput);
        assert!(error.message().contains("end.json"), "{error}");
    }

    /// A run whose beginning was cut short can be begun again; a folder of somebody's, or a
    /// run, is never taken.
    #[test]
    fn half_begun_runs_are_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("run");
        let store = Store::create(&root).unwrap();
        fs::create_dir(store.spec_dir()).unwrap();
        fs::write(store.spec_dir().join("bakeoff.yaml"), "half").unwrap();
        Store::create(&root).unwrap();
        assert!(!store.spec_dir().exists());
        fs::write(root.join("thesis.tex"), "x").unwrap();
        assert!(Store::create(&root).unwrap_err().message().contains("is not empty"));
        fs::remove_file(root.join("thesis.tex")).unwrap();
        fs::write(store.run_json(), "{}").unwrap();
        assert!(Store::create(&root).unwrap_err().message().contains("is not empty"));
    }

    /// Two writers on one run would interleave their boots: the second is refused.
    #[test]
    fn a_run_has_one_writer() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("run")).unwrap();
        let _lock = store.lock().unwrap();
        assert!(store.lock().unwrap_err().message().contains("another bakeoff"));
    }
}
