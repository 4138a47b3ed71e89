// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rows that a comparison consists of. They are the rows of `report.json` too
//! (schema 2), so every field is part of a format that others build on.
//!
//! A [`ClaimRow`] judges; a [`MeasureRow`] shows what was seen and judges nothing. Every
//! row says where it is from ([`Place`]) and which files show it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::plan::CellId;
use crate::spec::{Gate, Role};

pub use crate::judge::compare::BlindRow;

pub use crate::base::verdict::{ClaimReading, SplatReading, Verdict, WrongReading};

/// What a row speaks of, and what it rests on.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub struct Place {
    /// Base name.
    pub base: String,
    /// Candidate name.
    pub candidate: String,
    /// Architecture name.
    pub arch: String,
    /// Profile name; several are joined by `+`.
    pub profile: String,
    /// Files that show it, relative to the run.
    pub evidence: Vec<String>,
}

impl Place {
    /// A place in one cell.
    #[must_use]
    pub fn new(id: &CellId, evidence: Vec<String>) -> Place {
        let CellId { base, candidate, arch, profile } = id.clone();
        Place { base, candidate, arch, profile, evidence }
    }

    /// The same base, candidate and architecture.
    #[must_use]
    pub fn same_target(&self, other: &Place) -> bool {
        self.base == other.base && self.candidate == other.candidate && self.arch == other.arch
    }

    /// The same cell.
    #[must_use]
    pub fn same_cell(&self, other: &Place) -> bool {
        self.same_target(other) && self.profile == other.profile
    }
}

/// How a cell ended.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum CellEnd {
    /// Its boots ended in order, or were ended early by a flood of one report.
    Ran,
    /// A patch of the series does not apply.
    DidNotApply,
    /// It does not compile or link.
    DidNotBuild,
    /// The kernel never got as far as the agent.
    DidNotBoot,
    /// The kernel panicked, or the guest went away without a word.
    Panicked,
    /// The guest stopped making progress.
    Hung,
    /// Declared not to be possible on this base.
    NotPortable,
    /// Ours: interrupted, out of time, unreadable. Never counts against a candidate.
    Error,
    /// Not done yet.
    Waiting,
}

/// One kernel and how it fared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CellRow {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// What the candidate is for.
    pub role: Role,
    /// How it ended.
    pub end: CellEnd,
    /// What happened, if there is more to say than `end` does.
    pub note: Option<String>,
    /// Its boots.
    pub boots: u32,
    /// What it took.
    pub seconds: CellSeconds,
    /// Objects compiled; `null` if the kernel came from the cache or there is none.
    pub objects: Option<u64>,
}

impl CellRow {
    /// The reference's cell in the same place, where it gets no further: what this one
    /// cannot do is not its own doing then. Whether patches apply always is.
    #[must_use]
    pub fn excused_by<'a>(&self, all: &'a [CellRow]) -> Option<&'a CellRow> {
        let stage = |end| match end {
            CellEnd::DidNotBuild => Some(0),
            CellEnd::DidNotBoot => Some(1),
            CellEnd::Panicked | CellEnd::Hung => Some(2),
            CellEnd::DidNotApply
            | CellEnd::Ran
            | CellEnd::NotPortable
            | CellEnd::Error
            | CellEnd::Waiting => None,
        };
        let own = stage(self.end)?;
        all.iter().find(|other| {
            other.role == Role::Reference
                && self.role != Role::Reference
                && other.place.base == self.place.base
                && other.place.arch == self.place.arch
                && other.place.profile == self.place.profile
                && (other.end == self.end || stage(other.end).is_some_and(|stage| stage < own))
        })
    }
}

/// What a cell took, in seconds on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CellSeconds {
    /// Copying the tree and applying the series; `null` if nothing was built.
    pub copy: Option<f64>,
    /// In make; `null` if nothing was built.
    pub make: Option<f64>,
    /// Copy and make when the kernel was made that now came from the cache; `null`
    /// if it did not.
    pub cached: Option<f64>,
    /// Power-on to the agent's first word, the median of the boots.
    pub hello: Option<f64>,
    /// All boots, power-on to end.
    pub boots: f64,
}

/// `k` of `n`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub struct KOfN {
    /// How often it was seen.
    pub k: u64,
    /// How often it could have been.
    pub n: u64,
}

/// One report of the kernel, by identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SplatRow {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// Kind: `warning`, `lockdep-circular` …
    pub kind: String,
    /// `WARNING in old_lookup`.
    pub title: String,
    /// Identity: kind, lock classes, call chain.
    pub fingerprint: String,
    /// What it is.
    pub reading: SplatReading,
    /// In how many of the boots that did what provokes it.
    pub seen: KOfN,
    /// The same of the reference.
    pub reference: KOfN,
    /// Fisher's exact test, one-sided: how probable a difference like this is, were both
    /// kernels the same; `null` where it is not asked.
    pub p: Option<f64>,
    /// How often it was printed.
    pub count: u64,
    /// Byte offset of the first one on the first console of `evidence`.
    pub first_offset: Option<u64>,
    /// It turned lockdep off for the rest of its boot.
    pub disables_lockdep: bool,
    /// Why it is read so.
    pub reason: String,
    /// What the identity is made of, one part per line.
    pub signature: Vec<String>,
}

/// A claim, for one candidate on one architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimRow {
    /// Where. The reference has rows too, with its own value and no difference.
    #[serde(flatten)]
    pub place: Place,
    /// Name of the claim.
    pub claim: String,
    /// What it asks, in a reader's words.
    pub question: String,
    /// The metric.
    pub metric: String,
    /// The metric in words.
    pub means: String,
    /// Its unit.
    pub unit: String,
    /// A share (differences in points) or a number (ratios).
    pub kind: ValueKind,
    /// Which way is good.
    pub better: Direction,
    /// Differences below it do not count: of a share 0.02 is two points, of a number 0.05
    /// is 5 % of the reference.
    pub margin: f64,
    /// The conditions, in words.
    pub conditions: Vec<String>,
    /// The candidate's own value, mean over the conditions.
    pub value: Option<f64>,
    /// The reference's.
    pub reference: Option<f64>,
    /// Candidate − reference of a share, candidate ÷ reference of a number.
    pub estimate: Option<f64>,
    /// Lower bound; the bounds of all claims of the run hold together at the confidence of
    /// `run`.
    pub low: Option<f64>,
    /// Upper bound.
    pub high: Option<f64>,
    /// What it says.
    pub reading: ClaimReading,
    /// Visits of each condition on each kernel, the fewest.
    pub visits: u32,
    /// Calls of the candidate.
    pub calls: u64,
    /// Measured load of candidate and reference, where one is measured: the comparison is
    /// made at the reference's.
    pub load: Option<Load>,
    /// Part of the samples that was lost, and how wide the interval is if the lost ones are
    /// taken at their worst.
    pub missing: Option<MissingBounds>,
    /// What would decide an open one.
    pub to_decide: Option<ToDecide>,
    /// Why it is open or not reached, and what is unusual; may be empty.
    pub reason: String,
}

impl ClaimRow {
    /// The claim of the spec: of one on a family of metrics there is a row for each member,
    /// `test/NAME`.
    #[must_use]
    pub fn of(&self) -> &str {
        self.claim.split('/').next().unwrap_or_default()
    }
}

/// A share or a number.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ValueKind {
    /// Right ones out of all.
    Share,
    /// A mean.
    Value,
}

/// Which way is good.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
    /// Neither.
    None,
}

/// A measured load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Load {
    /// The candidate's, mean over the conditions that have one.
    pub candidate: f64,
    /// The reference's.
    pub reference: f64,
}

/// What lost samples could change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MissingBounds {
    /// Part of the candidate's samples.
    pub candidate: f64,
    /// Part of the reference's.
    pub reference: f64,
    /// Lower bound, if all of the candidate's had failed and all of the reference's not.
    pub low: Option<f64>,
    /// Upper bound in the opposite case.
    pub high: Option<f64>,
}

/// What would decide a claim.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToDecide {
    /// Visits of each condition and kernel, beyond those made.
    pub visits: u32,
    /// What they take, at the pace of this run.
    pub minutes: f64,
    /// The estimate lies so near the margin that more visits will hardly help.
    pub on_the_margin: bool,
}

/// What was measured of one metric under one condition: shown, not judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeasureRow {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// Number of the step in the plan.
    pub step: u32,
    /// The probe.
    pub probe: String,
    /// The condition as the command line names it: `command/futex`.
    pub label: String,
    /// The condition in a reader's words.
    pub condition: String,
    /// Its numbers, for charts: name, unit, value, the condition without it.
    pub axes: Vec<AxisValue>,
    /// The metric.
    pub metric: String,
    /// The metric in words.
    pub means: String,
    /// Its unit.
    pub unit: String,
    /// A share or a number.
    pub kind: ValueKind,
    /// Which way is good.
    pub better: Direction,
    /// Calls that count (of a share: what it is about; of a number: how often measured).
    pub calls: u64,
    /// Right ones, of a share.
    pub right: Option<u64>,
    /// The share or the mean; `null` without calls.
    pub estimate: Option<f64>,
    /// Lower bound of this row alone, at 95 %; `null` without enough visits.
    pub low: Option<f64>,
    /// Upper bound.
    pub high: Option<f64>,
    /// Visits.
    pub visits: u32,
    /// Boots they lie in.
    pub boots: u32,
    /// Calls and events that do not count, by reason.
    pub excluded: BTreeMap<String, u64>,
    /// Why the failures failed, by cause, in words.
    pub causes: BTreeMap<String, u64>,
    /// Why there is no number; empty where there is one.
    pub reason: String,
}

/// A numeric parameter of a condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AxisValue {
    /// Its name: `period`.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// As asked.
    pub value: f64,
    /// As measured, where the probe measures it, in the same unit.
    pub measured: Option<f64>,
    /// The condition without it.
    pub rest: String,
}

/// One visit, for the charts: conditions of claims only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VisitRow {
    /// Base name.
    pub base: String,
    /// Candidate name.
    pub candidate: String,
    /// Architecture name.
    pub arch: String,
    /// Profile name.
    pub profile: String,
    /// The metric.
    pub metric: String,
    /// The condition's label.
    pub label: String,
    /// The boot, by name.
    pub boot: String,
    /// Place among all visits of this shard in time, from 0.
    pub order: u32,
    /// The share or the mean.
    pub value: f64,
    /// Calls.
    pub calls: u64,
    /// The measured load, if there is one.
    pub load: Option<f64>,
}

/// Answers that must never be wrong, under one condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WrongRow {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// The metric.
    pub metric: String,
    /// The metric in words.
    pub means: String,
    /// The condition's label.
    pub label: String,
    /// The condition in words.
    pub condition: String,
    /// Answers.
    pub answers: u64,
    /// Wrong ones.
    pub wrong: u64,
    /// Boots with a wrong one, of those that answered.
    pub seen: KOfN,
    /// The same of the reference.
    pub reference: KOfN,
    /// Fisher's exact test, one-sided, without the boot that was first: how probable a
    /// difference like this is, were both kernels the same; `null` where it is not asked.
    pub p: Option<f64>,
    /// How many the negative control's rate would have given; `null` without one.
    pub expected: Option<f64>,
    /// By cause, in words.
    pub causes: BTreeMap<String, u64>,
    /// What it is worth.
    pub reading: WrongReading,
    /// Why it is read so, where the counts do not say it.
    pub reason: String,
}

/// The conclusion for one base, candidate and architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VerdictRow {
    /// Where; all profiles together.
    #[serde(flatten)]
    pub place: Place,
    /// What the candidate is for.
    pub role: Role,
    /// The conclusion.
    pub verdict: Verdict,
    /// Declared not to be possible on this base: nothing to conclude, and nothing open.
    pub declared: bool,
    /// What it rests on, the decisive first; each a short sentence.
    pub because: Vec<String>,
    /// The control's splat: gone, still there, or not to be told; `null` without a control
    /// or without its splat.
    pub control_splat: Option<ControlSplat>,
}

/// What became of the control's splat.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ControlSplat {
    /// It does not come, though what provokes it ran.
    Gone,
    /// It is still there.
    Present,
    /// What provokes it did not run, or too little.
    Unclear,
}

/// How a gate or a prediction stands.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum GateState {
    /// It is met.
    Passed,
    /// It is not.
    Failed,
    /// Cannot be told.
    Undecided,
}

/// A gate, asked of one candidate on one architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GateRow {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// The gate in words.
    pub name: String,
    /// As the spec has it.
    pub gate: Gate,
    /// How it stands.
    pub state: GateState,
    /// Why.
    pub reason: String,
}

/// A prediction, on one base and architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PredictionRow {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// What was predicted.
    pub says: String,
    /// Why it was changed after results were known, if it was.
    pub amended: Option<String>,
    /// Confirmed, refuted, or cannot be told.
    pub state: GateState,
    /// The evidence in words.
    pub reason: String,
}

/// What nobody should conclude from the tables.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct NotTested {
    /// What.
    pub what: String,
    /// Why not.
    pub reason: String,
    /// Where; left out: everywhere.
    pub base: Option<String>,
    /// Whose.
    pub candidate: Option<String>,
    /// On which architecture.
    pub arch: Option<String>,
    /// In which profile.
    pub profile: Option<String>,
}
