// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bake-off as somebody wrote it, and as it is meant.
//!
//! [`RawSpec`] is the YAML, key for key: unknown keys and unknown words are
//! refused where they stand. [`Spec`] is what it means: paths found, folders
//! read, names checked against each other. This module is the only user of the
//! YAML library.

pub mod arch;
mod fuzz;
mod known;
mod many;
pub mod plan;
mod raw;
mod resolve;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use bakeoff_fuzz::wire::{Context as ProbeContext, Interface, Stack, Stop, Stress};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use fuzz::{Fuzz, RawFuzz, When};
pub use known::KnownSplat;
pub use raw::RawSpec;

use crate::base::data::DataDir;
use crate::base::error::{Error, Result};
use crate::judge::compare::{Change, Effect, Verdict};

/// The file in a bake-off's folder.
pub const FILE_NAME: &str = "bakeoff.yaml";
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
    /// A kernel with a planted fault. It competes for nothing: it shows whether
    /// a probe that looks for such faults would find one.
    Sensitivity,
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
    /// Came from the command line, not from the spec: its Makefiles are not trusted.
    pub foreign: bool,
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

/// One measurement: what was written with a list of periods or duties is one for
/// each of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Name of a row of the guest's `PROBES` table.
    pub probe: String,
    /// Where the samples come from.
    pub context: ProbeContext,
    /// What else goes on.
    pub stress: Stress,
    /// Asked distance between samples in microseconds.
    pub period_us: Option<u32>,
    /// Asked share of time in percent that the writer holds or waits for the lock.
    pub writer_duty: Option<u8>,
    /// Which helper is asked.
    pub interface: Interface,
    /// What the sampled stack looks like.
    pub stack: Stack,
    /// Blocks to take.
    pub blocks: u32,
    /// Eligible calls in a block.
    pub calls_per_block: u32,
    /// Milliseconds a block may take.
    pub block_ms: u32,
    /// Boots that the blocks are spread over: two boots of one kernel differ by more
    /// than the blocks of either.
    pub boots: u32,
    /// When it may end before its last block.
    pub stop: Stop,
    /// Rates that differ by less millionths are the same; `None`: than the comparison's
    /// own margin.
    pub margin_ppm: Option<u32>,
    /// Profiles it is done in; empty: all of the bake-off's.
    pub profiles: Vec<String>,
    /// It gets boots of its own: what it leaves behind would spoil other steps.
    pub own_boot: bool,
    /// `--quick` keeps it.
    pub quick: bool,
}

impl Probe {
    /// `build_id/hardirq/idle/4000us`: how a person names it, also on the command line.
    #[must_use]
    pub fn label(&self) -> String {
        crate::spec::plan::label(&crate::spec::plan::step(0, self))
    }
}

/// What `--gate` insists on, for every contender that could be tested.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "gate", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Gate {
    /// It adds no splat to the reference's.
    NoAddedSplats,
    /// The control's splat is gone.
    ControlSplatRemoved,
    /// The lower bound of a rate is at least this.
    RateAtLeast {
        /// Metric, `build_id.top_frame`.
        metric: String,
        /// In which context; left out: in all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context: Option<ProbeContext>,
        /// Of which probes, by label or by any leading part of it; left out: of all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        probe: Option<String>,
        /// Between 0 and 1.
        rate: f64,
    },
    /// The upper bound of a rate is at most this.
    RateAtMost {
        /// Metric, `build_id.top_frame`.
        metric: String,
        /// In which context; left out: in all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context: Option<ProbeContext>,
        /// Of which probes, by label or by any leading part of it; left out: of all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        probe: Option<String>,
        /// Between 0 and 1.
        rate: f64,
    },
    /// No call is right in any of these conditions: one right call fails it. It is met
    /// when all their calls together bound the rate; of one condition alone they may be
    /// too few, where boots of other kernels differ much.
    RateNever {
        /// Metric, `build_id.top_frame`.
        metric: String,
        /// In which context; left out: in all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context: Option<ProbeContext>,
        /// Of which probes, by label or by any leading part of it; left out: of all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        probe: Option<String>,
        /// The rate over these conditions is at most this, between 0 and 1.
        rate: f64,
    },
    /// A rate is lower in one condition than in another: the 95% interval of the
    /// difference lies below nothing. A fall by less than the probe's margin is none.
    RateFalls {
        /// Metric, `build_id.top_frame`.
        metric: String,
        /// Of which probe, by its whole label: `build_id/hardirq/idle/100us`.
        probe: String,
        /// Lower than with this one.
        from: String,
    },
    /// A rate, set against the reference's, is one of these.
    RateIs {
        /// Metric, `build_id.top_frame`.
        metric: String,
        /// In which context; left out: in all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context: Option<ProbeContext>,
        /// Of which probes, by label or by any leading part of it; left out: of all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        probe: Option<String>,
        /// `[same, better]`.
        is: Vec<Verdict>,
    },
    /// A splat that was seen somewhere in the bake-off is one of these here.
    SplatIs {
        /// Its title, `WARNING in find_vma`.
        title: String,
        /// `[removed]`.
        is: Vec<Change>,
    },
    /// It has no splat that is one of these.
    NoSplats {
        /// `[added, unclear]`.
        change: Vec<Change>,
    },
    /// Its verdict is at least `same`.
    NotWorse,
    /// Its verdict is one of these.
    VerdictIs {
        /// `[better]`.
        is: Vec<Verdict>,
    },
    /// The gravest finding of an oracle is one of these.
    FindingIs {
        /// Its name, `flip`.
        oracle: String,
        /// `[same]`.
        is: Vec<Effect>,
    },
}

impl Gate {
    /// A gate as a person names it.
    #[must_use]
    pub fn name(&self) -> String {
        let words = |list: &[String]| list.join(" or ");
        let rate = |metric: &str, context: &Option<ProbeContext>, probe: &Option<String>| {
            let place = match (context, probe) {
                (None, None) => metric.to_owned(),
                (Some(context), None) => word(*context),
                (None, Some(probe)) => probe.clone(),
                (Some(context), Some(probe)) => format!("{} {probe}", word(*context)),
            };
            format!(" {place}")
        };
        match self {
            Gate::NoAddedSplats => "no-added-splats".into(),
            Gate::ControlSplatRemoved => "control-splat-removed".into(),
            Gate::RateAtLeast { metric, context, probe, rate: _ } => {
                format!("rate-at-least{}", rate(metric, context, probe))
            }
            Gate::RateAtMost { metric, context, probe, rate: _ } => {
                format!("rate-at-most{}", rate(metric, context, probe))
            }
            Gate::RateNever { metric, context, probe, rate: _ } => {
                format!("rate-never{}", rate(metric, context, probe))
            }
            Gate::RateFalls { metric: _, probe, from } => {
                format!("rate-falls {probe} from {from}")
            }
            Gate::RateIs { metric, context, probe, is } => {
                let is: Vec<String> = is.iter().map(word).collect();
                format!("rate-is {}{}", words(&is), rate(metric, context, probe))
            }
            Gate::SplatIs { title, is } => {
                let is: Vec<String> = is.iter().map(word).collect();
                format!("splat-is {} {title}", words(&is))
            }
            Gate::NoSplats { change } => {
                let change: Vec<String> = change.iter().map(word).collect();
                format!("no-splats {}", words(&change))
            }
            Gate::NotWorse => "not-worse".into(),
            Gate::VerdictIs { is } => {
                let is: Vec<String> = is.iter().map(word).collect();
                format!("verdict-is {}", words(&is))
            }
            Gate::FindingIs { oracle, is } => {
                let is: Vec<String> = is.iter().map(word).collect();
                format!("finding-is {oracle} {}", words(&is))
            }
        }
    }
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
                .hint("give a folder that holds a bakeoff.yaml, such as patches/find-vma")
                .because(cause)
        })?;
        let raw: RawSpec = yaml(&text, &file.display().to_string())?;
        resolve::resolve(raw, &text, &file, data, today)
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
        resolve::check_name("candidate", &name)?;
        if self.candidates.iter().any(|c| c.name == name) {
            return Err(Error::bad_input(format!("there is a candidate `{name}` already"))
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
        });
        Ok(())
    }
}

/// The word serde uses for a unit variant, as it stands in files and reports.
pub fn word<T: Serialize>(value: T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// Reads YAML and says where it is wrong; `name` is the file's, for the error.
///
/// # Errors
/// What does not fit `T`, with line and column.
pub fn yaml<T: DeserializeOwned>(text: &str, name: &str) -> Result<T> {
    serde_yaml::from_str(text).map_err(|cause| {
        let place = cause.location().map_or_else(String::new, |at| format!(":{}", at.line()));
        let message = cause.to_string();
        // The library appends " at line L column C"; the line stands in front already.
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        Error::bad_input(format!("{name}{place}: {}", suggest_unknown(&message)))
    })
}

/// "unknown field `x`, expected one of `a`, `b`" → the same with the nearest first.
fn suggest_unknown(message: &str) -> String {
    let words: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let unknown = message.contains("unknown field") || message.contains("unknown variant");
    match words.split_first() {
        Some((written, valid)) if unknown && !valid.is_empty() => {
            format!("{message} ({})", did_you_mean(written, valid.iter().copied()))
        }
        _ => message.to_owned(),
    }
}

/// Words that an error lists at most.
const MOST_WORDS: usize = 12;

/// The valid word that is most like what was written, if one is like it.
#[must_use]
pub fn nearest<'a>(written: &str, valid: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    valid
        .into_iter()
        .map(|word| (strsim::normalized_damerau_levenshtein(written, word), word))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness >= 0.5)
        .map(|(_, word)| word)
}

/// "did you mean `x`?", or the list of what there is when nothing is near.
pub fn did_you_mean<'a>(written: &str, valid: impl IntoIterator<Item = &'a str>) -> String {
    let valid: Vec<&str> = valid.into_iter().collect();
    match nearest(written, valid.iter().copied()) {
        Some(word) => format!("did you mean `{word}`?"),
        _ if valid.is_empty() => "there are none".into(),
        _ => {
            let few = valid.iter().take(MOST_WORDS);
            let list: Vec<String> = few.map(|word| format!("`{word}`")).collect();
            let more = match valid.len().saturating_sub(MOST_WORDS) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("there are {}{more}", list.join(", "))
        }
    }
}

#[cfg(test)]
mod tests;
