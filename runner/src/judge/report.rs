// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells a reader what a run showed: one [`Report`], in each format of
//! [`FORMATS`].
//!
//! [`Report`] *is* `report.json`; [`schema`] is made from its types. The text is
//! meant for a terminal and for a mail to a kernel list: one page in plain ASCII, at
//! most [`LINES`] lines of [`WIDTH`] columns, the answer first. The tables are behind it
//! where they are asked for. Output depends on the input alone.

pub(crate) mod formats;
mod full;
mod fuzz;
mod html;
mod json;
mod markdown;
mod matrix;
mod page;
mod pick;
#[cfg(test)]
mod tests;
mod text;
mod words;
mod wrap;

pub use pick::Pick;

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::error::Result;
use crate::fuzz::rows::FuzzReport;
use crate::judge::row::{
    BlindRow, CellRow, ClaimRow, GateRow, MeasureRow, NotTested, PredictionRow, SplatRow,
    VerdictRow, VisitRow, WrongRow,
};
use crate::keep::store::Environment;
use crate::spec::{Role, Thread};

/// Version of `report.json`; a change of meaning raises it.
pub const SCHEMA_VERSION: u32 = 2;

/// The widest line of the text: what survives being quoted in a mail.
pub const WIDTH: usize = 75;

/// The longest page.
pub const LINES: usize = 60;

/// All that a run showed. Every row names its `base`, `candidate`, `arch` and `profile`,
/// and its `evidence`: files relative to the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "bakeoff report")]
pub struct Report {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Program and version that measured.
    pub tool: String,
    /// What was done.
    pub run: Run,
    /// On what machine.
    pub environment: Environment,
    /// What is concluded, per base, candidate and architecture.
    pub verdicts: Vec<VerdictRow>,
    /// What was asked, and the answers. They hold jointly.
    pub claims: Vec<ClaimRow>,
    /// What was measured: shown, not judged.
    pub measures: Vec<MeasureRow>,
    /// The visits of the claims, for charts.
    pub visits: Vec<VisitRow>,
    /// Answers that must never be wrong.
    pub wrong: Vec<WrongRow>,
    /// Reports of the kernels.
    pub splats: Vec<SplatRow>,
    /// Where lockdep did not look, or could not: what a clean console does not prove.
    pub blind: Vec<BlindRow>,
    /// How each cell ended, and what it cost.
    pub cells: Vec<CellRow>,
    /// The spec's gates, per contender.
    pub gates: Vec<GateRow>,
    /// The spec's predictions, per base and architecture.
    pub predictions: Vec<PredictionRow>,
    /// What nobody should conclude from all this.
    pub not_tested: Vec<NotTested>,
    /// Fuzzing, where the run did some. No verdict rests on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuzz: Option<FuzzReport>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Name of the bake-off.
    pub bakeoff: String,
    /// One line on what is disputed.
    pub title: String,
    /// The mail thread it came from.
    pub thread: Option<Thread>,
    /// When it began, RFC 3339.
    pub started: String,
    /// Why this is not the whole of it: cells that are not done yet; `null` once it is.
    pub interim: Option<String>,
    /// SHA-256 over spec and patches.
    pub spec_sha256: String,
    /// Root of all seeds.
    pub seed: u64,
    /// Where each base comes from.
    pub bases: BTreeMap<String, String>,
    /// Who competes, in the order of the spec.
    pub candidates: Vec<CandidateInfo>,
    /// Architectures, in the order of the spec.
    pub architectures: Vec<String>,
    /// Profiles.
    pub profiles: Vec<String>,
    /// The claims, in the order of the spec: the columns of the matrix.
    pub claims: Vec<ClaimInfo>,
    /// All claims hold together with this confidence.
    pub confidence: f64,
    /// Minutes the spec allows for measuring; `null`: no limit.
    pub budget_minutes: Option<f64>,
    /// Minutes all boots took.
    pub boot_minutes: f64,
    /// Visits made, of all cells.
    pub visits: u64,
}

/// A claim as the report names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimInfo {
    /// Its name, short enough for a column: `quiet`.
    pub name: String,
    /// What it asks.
    pub question: String,
    /// The metric in words.
    pub means: String,
    /// The margin in words: `0.5 points`, `5 %`.
    pub margin: String,
    /// The spec has no claims, this one is made of a probe's declaration.
    pub by_default: bool,
}

/// A candidate as the report names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CandidateInfo {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// One line on what it does.
    pub title: String,
    /// Files that its patches touch, and lines added and removed: what it costs to read.
    pub touches: Vec<String>,
    /// Lines added and removed.
    pub lines: [u32; 2],
    /// The series it is, where it came as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<SeriesInfo>,
}

/// A patch series that was tested: which version of what, and on which base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SeriesInfo {
    /// What was asked for: a message id, an address, commits.
    pub source: String,
    /// Its version.
    pub version: u32,
    /// Of the cover letter, else of the first patch.
    pub subject: String,
    /// Of the same mail.
    pub message_id: String,
    /// Its patches, in order.
    pub patches: Vec<PatchInfo>,
    /// The base it was made for and how that was found, in lines.
    pub base: Vec<String>,
}

impl SeriesInfo {
    /// Whether a mail is part of it.
    #[must_use]
    pub fn has(&self, message_id: &str) -> bool {
        self.message_id == message_id
            || self.patches.iter().any(|patch| patch.message_id == message_id)
    }

    /// Why it was tested on the base that it was tested on, where nobody named that.
    #[must_use]
    pub fn chosen(&self) -> Option<&str> {
        self.base.iter().find_map(|line| line.strip_prefix(CHOSEN))
    }

    /// Whether its mails were sent: commits get message ids that no archive knows.
    #[must_use]
    pub fn is_mail(&self) -> bool {
        self.message_id.contains('@') && !self.message_id.ends_with(".invalid")
    }
}

/// Begins the line of [`SeriesInfo::base`] that says why a run has its base.
pub const CHOSEN: &str = "base of the run: ";

/// A patch of a series.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PatchInfo {
    /// Its subject, without brackets.
    pub subject: String,
    /// Its mail.
    pub message_id: String,
}

/// How a report is written down.
#[derive(Clone, Copy, Debug, Default)]
pub struct How<'a> {
    /// With all tables behind the page.
    pub full: bool,
    /// The run's folder, where it is at hand: a mail quotes its consoles.
    pub run: Option<&'a Path>,
}

/// A way to write a report down.
#[derive(Debug)]
pub struct Format {
    /// Its name on the command line.
    pub name: &'static str,
    /// The file it gets in the run directory.
    pub file: &'static str,
    /// One line for `--help`.
    pub about: &'static str,
    render: fn(&Report, &How<'_>) -> Result<String>,
}

impl Format {
    /// The report in this format; `full` adds the tables to a page.
    ///
    /// # Errors
    /// Only where the format can fail to represent it, which none can today.
    pub fn render(&self, report: &Report, how: &How<'_>) -> Result<String> {
        (self.render)(report, how)
    }
}

/// Every format there is; the first is the default.
pub const FORMATS: &[Format] = &[
    Format {
        name: "text",
        file: "report.txt",
        about: "one page for a terminal or a mail, at most 75 columns",
        render: |report, how| Ok(text::render(report, how.full)),
    },
    Format {
        name: "markdown",
        file: "report.md",
        about: "the same page for a merge request",
        render: |report, how| Ok(markdown::render(report, how.full)),
    },
    Format {
        name: "html",
        file: "report.html",
        about: "one file with the page, charts and all tables, for a browser",
        render: |report, _| Ok(html::render(report)),
    },
    Format {
        name: "json",
        file: "report.json",
        about: "every row with its evidence; `bakeoff schema` describes it",
        render: |report, _| json::render(report),
    },
    Format {
        name: "mail",
        file: "reply.eml",
        about: "a reply to the series, for `git send-email`; nothing is sent",
        render: |report, how| Ok(formats::mail::render(report, how.run)),
    },
    Format {
        name: "junit",
        file: "junit.xml",
        about: "JUnit XML; what is not decided is skipped",
        render: |report, _| formats::junit::render(report),
    },
    Format {
        name: "ktap",
        file: "report.ktap",
        about: "KTAP, as the kernel's kunit.py parses it",
        render: |report, _| Ok(formats::ktap::render(report)),
    },
    Format {
        name: "kcidb",
        file: "kcidb.json",
        about: "KCIDB v5.3: builds, tests, issues and incidents",
        render: |report, _| formats::kcidb::render(report),
    },
    Format {
        name: "github",
        file: "github-summary.md",
        about: "a step summary for GitHub Actions",
        render: |report, _| Ok(formats::github::summary(report)),
    },
    Format {
        name: "github-annotations",
        file: "github-annotations.txt",
        about: "workflow commands that GitHub Actions shows as annotations",
        render: |report, _| Ok(formats::github::annotations(report)),
    },
    Format {
        name: "gitlab",
        file: "gl-code-quality.json",
        about: "a code quality report for GitLab",
        render: |report, _| formats::gitlab::render(report),
    },
    Format {
        name: "patchwork",
        file: "patchwork.json",
        about: "checks for Patchwork's REST API; nothing is sent",
        render: |report, _| formats::patchwork::render(report),
    },
    Format {
        name: "b4-check",
        file: "b4-check.json",
        about: "the array that b4 reads from a check command",
        render: |report, _| formats::b4::render(report),
    },
    Format {
        name: "lkp",
        file: "report.lkp.txt",
        about: "a comparison block as the 0-day robot prints it, with intervals",
        render: |report, _| Ok(formats::lkp::render(report)),
    },
];

/// The format of that name.
#[must_use]
pub fn format(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

/// The JSON Schema of `report.json`, made from the types.
#[must_use]
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(Report)
}
