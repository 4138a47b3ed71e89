// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bake-off as somebody wrote it, and as it is meant.
//!
//! [`RawSpec`] is the YAML, key for key: unknown keys and unknown words are
//! refused where they stand. [`Spec`] is what it means: paths found, folders
//! read, names checked against each other.

pub mod arch;
mod claims;
mod fuzz;
pub mod guest;
mod known;
pub mod plan;
mod raw;
pub mod reference;
mod resolve;
pub mod schema;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bakeoff_fuzz::wire::Step;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use claims::{Claim, declared, margin_words, own_metric};
pub use fuzz::{Fuzz, RawFuzz, When};
pub use known::KnownSplat;
pub use raw::RawSpec;
pub(crate) use resolve::patches_in;

use crate::base::data::DataDir;
use crate::base::error::{Error, Result};
use crate::base::verdict::{ClaimReading, SplatReading, Verdict, WrongReading};
use crate::base::words::{nearest, word};
use crate::base::yaml::Document;

/// The file in a bake-off's folder.
pub const FILE_NAME: &str = "bakeoff.yaml";
/// Confidence of every interval that is printed: of one alone, and of all claims of a run
/// together.
pub const CONFIDENCE: f64 = 0.95;
/// The version of the format this program reads.
pub const VERSION: u32 = 1;

/// A bake-off: one problem, bases, candidates, and what is to be measured.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The file it was read from.
    pub file: PathBuf,
    /// The folder it lies in.
    pub dir: PathBuf,
    /// Short name, also the folder's.
    pub name: String,
    /// One line on what is disputed.
    pub title: String,
    /// The mail thread it came from.
    pub thread: Option<Thread>,
    /// Kernels the candidates are tried on, in the order of the file.
    pub bases: Vec<Base>,
    /// What competes, in the order of the file: the reference first.
    pub candidates: Vec<Candidate>,
    /// Names of architectures, each with a `qemu/<name>.yaml`.
    pub architectures: Vec<String>,
    /// Names of profiles, each with a `kconfigs/<name>.config`.
    pub profiles: Vec<String>,
    /// More of them, for runs that are asked for them by name.
    pub on_request: Vec<String>,
    /// What is measured, in order; a step's number is its place here.
    pub probes: Vec<Probe>,
    /// What commands need in the guest.
    pub pack: guest::Pack,
    /// What the virtual machine is like.
    pub machine: guest::MachineSpec,
    /// What candidates are judged by.
    pub claims: Vec<Claim>,
    /// Time the measuring may take.
    pub budget: Option<Duration>,
    /// The same for `--quick`.
    pub quick_budget: Option<Duration>,
    /// What `--gate` insists on.
    pub gates: Vec<Gate>,
    /// What was expected before anything was measured.
    pub predictions: Vec<Prediction>,
    /// Splats that blame nobody.
    pub known_splats: Vec<KnownSplat>,
    /// What is fuzzed.
    pub fuzz: Option<Fuzz>,
}

/// A statement about a candidate that the run confirms or refutes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Prediction {
    /// About whom.
    pub candidate: String,
    /// In a few words.
    pub says: String,
    /// It was changed after results were known: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amended: Option<String>,
    /// What has to be met for it to be true.
    pub holds_if: Gate,
}

/// The mail thread a bake-off came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Thread {
    /// Message id, without angle brackets.
    pub message_id: String,
    /// Subject of that mail.
    pub subject: String,
    /// The question the report answers.
    #[serde(default)]
    pub question: Option<String>,
    /// Addresses a reply goes to.
    #[serde(default)]
    pub to: Vec<String>,
    /// Addresses that get a copy.
    #[serde(default)]
    pub cc: Vec<String>,
}

/// A kernel source, pinned.
#[derive(Clone, Debug)]
pub struct Base {
    /// Its name, as in the folder of patches.
    pub name: String,
    /// Where it comes from.
    pub source: BaseSource,
}

/// Where a kernel source comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BaseSource {
    /// A source package of Debian.
    Debian {
        /// Binary package that holds the tree, `linux-source-6.12`.
        package: String,
        /// Its exact version.
        version: String,
        /// SHA-256 of the `.deb`.
        sha256: String,
    },
    /// A revision of a local git repository.
    Git {
        /// The repository.
        repository: PathBuf,
        /// The revision.
        revision: String,
    },
    /// A directory that holds a kernel tree.
    Directory(PathBuf),
}

impl BaseSource {
    /// With paths that hold wherever the run is resumed from.
    #[must_use]
    pub fn absolute(self) -> BaseSource {
        let absolute = |path: PathBuf| path.canonicalize().unwrap_or(path);
        match self {
            BaseSource::Debian { .. } => self,
            BaseSource::Git { repository, revision } => {
                BaseSource::Git { repository: absolute(repository), revision }
            }
            BaseSource::Directory(dir) => BaseSource::Directory(absolute(dir)),
        }
    }
}

impl fmt::Display for BaseSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BaseSource::Debian { package, version, .. } => write!(f, "Debian {package} {version}"),
            BaseSource::Git { repository, revision } => {
                write!(f, "git {} at {revision}", repository.display())
            }
            BaseSource::Directory(dir) => write!(f, "directory {}", dir.display()),
        }
    }
}

/// What a candidate is for.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The healthy tree: is anything added, lost, slower?
    Reference,
    /// It has the bug: is its splat removed?
    Control,
    /// One of the competing answers.
    #[default]
    Contender,
    /// It answers without checking: where answers must never be wrong, how often it is
    /// wrong says what another candidate's zero is worth.
    NegativeControl,
}

impl Role {
    /// Whether nothing is asked of it, and others are held against it.
    #[must_use]
    pub fn is_control(self) -> bool {
        matches!(self, Role::Control | Role::NegativeControl)
    }
}

/// A patch series on a base, or the stock tree.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its name, as in the folder of patches.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// One line on what it does.
    pub title: String,
    /// What this bake-off knows it does not test.
    pub untested: Option<String>,
    /// The probe that tests it after all, where that probe is known to be
    /// sensitive in the same run.
    pub tested_by: Option<String>,
    /// The patches on each base, or why there are none.
    pub on: BTreeMap<String, Series>,
    /// Its Makefiles are not trusted.
    pub foreign: bool,
    /// It came from the command line, not from the spec.
    pub added: bool,
}

/// A candidate on one base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Series {
    /// The base as it is.
    Stock,
    /// These patches, in this order.
    Patches(Vec<PathBuf>),
    /// It cannot exist on this base.
    NotPortable(String),
}

/// One measurement: what was written with a list is one for each of its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Probe, parameters, and what a visit takes; the number is not set yet.
    pub step: Step,
    /// `command/futex`: how a person names it, also on the command line.
    pub label: String,
    /// Visits on each kernel; `None`: the usual number.
    pub visits: Option<u32>,
    /// Profiles it is done in; empty: all of the bake-off's.
    pub profiles: Vec<String>,
    /// It gets boots of its own: what it leaves behind would spoil other steps.
    pub own_boot: bool,
    /// `--quick` keeps it.
    pub quick: bool,
}

/// What `--gate` insists on, for every contender that could be tested.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "gate", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Gate {
    /// No splat is confirmed that the reference does not have.
    NoNewSplats,
    /// The control's splat is gone.
    ControlSplatRemoved,
    /// The lower bound of a metric is at least this.
    AtLeast {
        /// Metric, `command.seconds`.
        metric: String,
        /// Of which conditions, by label or by any leading part of it; left out: of all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        condition: Option<String>,
        /// Of a share between 0 and 1.
        value: f64,
    },
    /// The upper bound of a metric is at most this.
    AtMost {
        /// Metric, `command.seconds`.
        metric: String,
        /// Of which conditions, by label or by any leading part of it; left out: of all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        condition: Option<String>,
        /// Of a share between 0 and 1.
        value: f64,
    },
    /// No call is right in any of these conditions: one right call fails it. It is met
    /// when all their blocks together bound the share.
    Never {
        /// Metric, `command.seconds`.
        metric: String,
        /// Of which conditions, by label or by any leading part of it; left out: of all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        condition: Option<String>,
        /// The share over these conditions is at most this, between 0 and 1.
        value: f64,
    },
    /// A metric is lower under one condition than under another: their 95 % intervals do
    /// not meet.
    Falls {
        /// Metric, `command.seconds`.
        metric: String,
        /// Under which condition, by its whole label.
        condition: String,
        /// Lower than under this one.
        from: String,
    },
    /// A claim reads as one of these.
    ClaimIs {
        /// Its name.
        claim: String,
        /// `[no-worse, gains]`.
        is: Vec<ClaimReading>,
    },
    /// A splat that was seen somewhere in the bake-off reads as one of these here.
    SplatIs {
        /// Its title, `WARNING in old_lookup`.
        title: String,
        /// `[fixed]`.
        is: Vec<SplatReading>,
    },
    /// It has no splat that reads as one of these.
    NoSplats {
        /// `[introduced, control]`.
        reading: Vec<SplatReading>,
    },
    /// Answers that must never be wrong are, over all conditions, one of these: the
    /// gravest counts.
    WrongIs {
        /// Metric.
        metric: String,
        /// `[none, not-shown]`.
        is: Vec<WrongReading>,
    },
    /// Its verdict is one of these.
    VerdictIs {
        /// `[ok]`.
        is: Vec<Verdict>,
    },
}

impl Gate {
    /// The conditions that it names, by label or by any leading part of it.
    pub fn conditions(&self) -> impl Iterator<Item = &str> {
        let named: [Option<&String>; 2] = match self {
            Gate::AtLeast { condition, .. }
            | Gate::AtMost { condition, .. }
            | Gate::Never { condition, .. } => [condition.as_ref(), None],
            Gate::Falls { condition, from, metric: _ } => [Some(condition), Some(from)],
            Gate::NoNewSplats
            | Gate::ControlSplatRemoved
            | Gate::ClaimIs { .. }
            | Gate::SplatIs { .. }
            | Gate::NoSplats { .. }
            | Gate::WrongIs { .. }
            | Gate::VerdictIs { .. } => [None, None],
        };
        named.into_iter().flatten().map(String::as_str)
    }

    /// A gate as a person names it.
    #[must_use]
    pub fn name(&self) -> String {
        fn words<T: Serialize>(list: &[T]) -> String {
            list.iter().map(word).collect::<Vec<_>>().join(" or ")
        }
        let of = |metric: &str, condition: &Option<String>| match condition {
            None => metric.to_owned(),
            Some(condition) => format!("{metric} in {condition}"),
        };
        match self {
            Gate::NoNewSplats => "no new splats".into(),
            Gate::ControlSplatRemoved => "the control's splat is gone".into(),
            Gate::AtLeast { metric, condition, value } => {
                format!("{} is at least {value}", of(metric, condition))
            }
            Gate::AtMost { metric, condition, value } => {
                format!("{} is at most {value}", of(metric, condition))
            }
            Gate::Never { metric, condition, value: _ } => {
                format!("{} is never right", of(metric, condition))
            }
            Gate::Falls { metric: _, condition, from } => {
                format!("{condition} is lower than {from}")
            }
            Gate::ClaimIs { claim, is } => format!("claim {claim} reads {}", words(is)),
            Gate::SplatIs { title, is } => format!("{title} is {}", words(is)),
            Gate::NoSplats { reading } => format!("no splat is {}", words(reading)),
            Gate::WrongIs { metric, is } => format!("wrong answers of {metric}: {}", words(is)),
            Gate::VerdictIs { is } => format!("the verdict is {}", words(is)),
        }
    }
}

/// Bake-offs beside the one that is not there, or below patches/ where only a name was given.
fn near_specs(path: &Path) -> String {
    const LIKE: &str = "give a folder that holds a bakeoff.yaml, such as patches/find-vma";
    let beside = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = beside.unwrap_or(Path::new("patches"));
    let Some(written) = path.file_name().and_then(|name| name.to_str()) else { return LIKE.into() };
    let folders = folders_with(dir, FILE_NAME);
    let names = folders.iter().filter_map(|folder| folder.file_name()?.to_str());
    match nearest(written, names) {
        Some(name) => format!("did you mean {}?", dir.join(name).display()),
        None => LIKE.into(),
    }
}

/// Folders below `dir` (or `dir` itself) that hold `file`, sorted.
pub(crate) fn folders_with(dir: &Path, file: &str) -> Vec<PathBuf> {
    if dir.join(file).is_file() {
        return vec![dir.to_owned()];
    }
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.join(file).is_file()).collect();
    found.sort();
    found
}

/// Whether a bake-off may have this name.
///
/// # Errors
/// It may not.
pub fn check_name(name: &str) -> Result<()> {
    resolve::check_name("bake-off", name).map_err(Error::bad_input)
}

impl Spec {
    /// Reads `DIR/bakeoff.yaml` (or the file itself) and everything it names.
    ///
    /// # Errors
    /// All that is wrong with it, with file, line and the nearest valid word.
    pub fn load(path: &Path, data: &DataDir) -> Result<Spec> {
        Spec::load_as_of(path, data, jiff::Zoned::now().date())
    }

    /// The same on a given day: what a run knew when it began, its report knows
    /// for ever.
    ///
    /// # Errors
    /// As [`Spec::load`].
    pub fn load_as_of(path: &Path, data: &DataDir, today: jiff::civil::Date) -> Result<Spec> {
        let file = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
        let text = fs::read_to_string(&file).map_err(|cause| {
            Error::bad_input(format!("cannot read the spec {}", file.display()))
                .hint(near_specs(path))
                .because(cause)
        })?;
        let (raw, document) = Document::read::<RawSpec>(&text, &file.display().to_string())?;
        resolve::resolve(raw, &file, data, today).map_err(|wrong| document.error(wrong))
    }

    /// The reference.
    #[must_use]
    pub fn reference(&self) -> Option<&Candidate> {
        self.candidates.iter().find(|c| c.role == Role::Reference)
    }

    /// Turns it into a bake-off of the reference against so many copies of itself.
    pub fn against_itself(&mut self, copies: u32) {
        self.candidates.retain(|c| c.role == Role::Reference);
        let Some(reference) = self.candidates.first().cloned() else { return };
        for copy in 1..=copies {
            self.candidates.push(Candidate {
                name: format!("{}-again-{copy}", reference.name),
                role: Role::Contender,
                title: format!("{} once more", reference.name),
                untested: None,
                ..reference.clone()
            });
        }
    }

    /// Adds a series from the command line; it is built in the sandbox.
    ///
    /// # Errors
    /// A folder without patches, or with a name that is taken.
    pub fn add_series(&mut self, dir: &Path) -> Result<()> {
        let name = dir
            .canonicalize()
            .ok()
            .and_then(|d| Some(d.file_name()?.to_string_lossy().into_owned()))
            .ok_or_else(|| Error::bad_input(format!("there is no folder {}", dir.display())))?;
        resolve::check_name("candidate", &name).map_err(Error::bad_input)?;
        if self.candidates.iter().any(|c| c.name == name) {
            return Err(Error::bad_input(format!("there already is a candidate `{name}`"))
                .hint("rename the folder given to --add"));
        }
        let patches = resolve::patches_in(dir)?;
        let on = self
            .bases
            .iter()
            .map(|base| (base.name.clone(), Series::Patches(patches.clone())))
            .collect();
        self.candidates.push(Candidate {
            title: format!("added from {}", dir.display()),
            name,
            role: Role::Contender,
            untested: None,
            tested_by: None,
            on,
            foreign: true,
            added: true,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
