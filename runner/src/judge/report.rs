// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells a reader what a run showed: one [`Report`], in each format of
//! [`FORMATS`].
//!
//! [`Report`] *is* `report.json`; [`schema`] is made from its types. The text is
//! meant for a terminal and for a mail to a kernel list: plain ASCII, at most
//! [`WIDTH`] columns, the verdict first. Output depends on the input alone.

mod answer;
mod fuzz;
mod html;
mod json;
mod markdown;
mod splats;
mod sweep;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod wrap;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::error::Result;
use crate::fuzz::rows::FuzzReport;
use crate::judge::compare::{
    BlindRow, CandidateInfo, CellRow, Comparison, Finding, GateRow, NotTested, PredictionRow,
    RateRow, Settings, SplatRow, Subject, VerdictRow, label,
};
use crate::keep::store::{Environment, RunJson};
use crate::spec::{Spec, Thread};

/// Version of `report.json`; a change of meaning raises it.
pub const SCHEMA_VERSION: u32 = 1;

/// The widest line of the text: what survives being quoted in a mail.
pub const WIDTH: usize = 75;

/// All that a run showed. Every row of every list names its `base`, `candidate`,
/// `arch` and `profile`, the number of `boots` it rests on, and its `evidence`:
/// files relative to the run.
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
    /// How sure the verdicts are, and which differences count.
    pub settings: Settings,
    /// Better, same, worse or inconclusive, per base, candidate and architecture.
    pub verdicts: Vec<VerdictRow>,
    /// The spec's gates, per contender.
    pub gates: Vec<GateRow>,
    /// The spec's predictions, per base and architecture.
    pub predictions: Vec<PredictionRow>,
    /// How each cell ended, and what it cost.
    pub cells: Vec<CellRow>,
    /// Reports of the kernels.
    pub splats: Vec<SplatRow>,
    /// Where lockdep did not look, or could not: what a clean console does not prove.
    pub blind: Vec<BlindRow>,
    /// How often each metric was right.
    pub rates: Vec<RateRow>,
    /// What the oracles found.
    pub findings: Vec<Finding>,
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
    /// SHA-256 over spec and patches.
    pub spec_sha256: String,
    /// Root of all seeds.
    pub seed: u64,
    /// Where each base comes from.
    pub bases: BTreeMap<String, String>,
    /// Who competes, in the order of the spec.
    pub candidates: Vec<CandidateInfo>,
    /// What was measured, in the order of the spec.
    pub steps: Vec<String>,
}

impl Report {
    /// The report of a run.
    #[must_use]
    pub fn new(run: &RunJson, spec: &Spec, comparison: Comparison) -> Report {
        let subject = Subject::new(spec, &run.plan);
        let Comparison {
            settings,
            cells,
            splats,
            blind,
            rates,
            findings,
            verdicts,
            gates,
            predictions,
            not_tested,
        } = comparison;
        Report {
            schema_version: SCHEMA_VERSION,
            tool: run.tool.clone(),
            run: Run {
                bakeoff: run.bakeoff.clone(),
                title: spec.title.clone(),
                thread: spec.thread.clone(),
                started: run.started.clone(),
                spec_sha256: run.spec_sha256.clone(),
                seed: run.plan.seed,
                bases: run
                    .bases
                    .iter()
                    .map(|(name, base)| (name.clone(), base.to_string()))
                    .collect(),
                candidates: subject.candidates,
                steps: run.plan.steps.iter().map(|planned| label(&planned.step)).collect(),
            },
            environment: run.environment.clone(),
            settings,
            verdicts,
            gates,
            predictions,
            cells,
            splats,
            blind,
            rates,
            findings,
            not_tested,
            fuzz: None,
        }
    }
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
    render: fn(&Report) -> Result<String>,
}

impl Format {
    /// The report in this format.
    ///
    /// # Errors
    /// Only where the format can fail to represent it, which none can today.
    pub fn render(&self, report: &Report) -> Result<String> {
        (self.render)(report)
    }
}

/// Every format there is; the first is the default.
pub const FORMATS: &[Format] = &[
    Format {
        name: "text",
        file: "report.txt",
        about: "for a terminal or a mail, at most 75 columns",
        render: |report| Ok(text::render(report)),
    },
    Format {
        name: "json",
        file: "report.json",
        about: "every row with its evidence; `bakeoff schema` describes it",
        render: json::render,
    },
    Format {
        name: "markdown",
        file: "report.md",
        about: "for a web page or a merge request",
        render: |report| Ok(markdown::render(report)),
    },
    Format {
        name: "html",
        file: "report.html",
        about: "for a browser: one file, with links to the evidence beside it",
        render: |report| Ok(html::render(report)),
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
