// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rows a comparison consists of. They are the rows of `report.json` too, so
//! every field is part of a format that others build on.

use std::collections::BTreeMap;

use bakeoff_fuzz::wire::{Context, Interface, Stack, Stress};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::see::observe::diff::Edit;
use crate::spec::plan::CellId;
use crate::spec::{Gate, KnownSplat, Role};

/// What a row speaks of, and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// Base name.
    pub base: String,
    /// Candidate name.
    pub candidate: String,
    /// Architecture name.
    pub arch: String,
    /// Profile name; several are joined by `+`.
    pub profile: String,
    /// Boots it rests on.
    pub boots: u32,
    /// Files that show it, relative to the run.
    pub evidence: Vec<String>,
}

impl Place {
    /// A place in one cell.
    #[must_use]
    pub fn new(id: &CellId, boots: usize, evidence: Vec<String>) -> Place {
        let CellId { base, candidate, arch, profile } = id.clone();
        Place { base, candidate, arch, profile, boots: small(boots), evidence }
    }
}

/// A count of boots or blocks; there are never more than fit.
pub(crate) fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
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
    /// What it took.
    pub seconds: CellSeconds,
    /// Objects compiled; `null` if the kernel came from the cache or there is none.
    pub objects: Option<u64>,
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

/// What a splat is, seen from the reference and the control.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// The control's: in the control it is the bug, in a contender it is still there.
    Control,
    /// Neither the reference nor the control has it.
    Added,
    /// The control has it; here its exercise ran with lockdep on and it did not come.
    Removed,
    /// The reference has it in all its rounds.
    Same,
    /// The control's or the reference's is gone, and one much like it came instead: the
    /// nearest one, see `edits`.
    Changed,
    /// The spec knows of it: it blames nobody.
    Known,
    /// The reference or the control shows it only in some of its boots: neither its presence
    /// nor its absence says anything about a patch.
    Flaky,
    /// Raised by the printing of another report: a result, not a second bug.
    Secondary,
    /// Cannot be told: the report is garbled, or the exercise that would show it
    /// did not run (with lockdep on) where it should have.
    Unclear,
}

/// One report of the kernel, by identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SplatRow {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// Kind: `warning`, `lockdep-circular` …
    pub kind: String,
    /// `WARNING in find_vma`.
    pub title: String,
    /// Identity: kind, lock classes, call chain.
    pub fingerprint: String,
    /// How often it was seen.
    pub count: u64,
    /// In how many boots.
    pub boots_seen: u32,
    /// Byte offset of the first one on the first console of `evidence`.
    pub first_offset: Option<u64>,
    /// It turned lockdep off for the rest of its boot.
    pub disables_lockdep: bool,
    /// What it is.
    pub change: Change,
    /// Why it is that.
    pub reason: String,
    /// What the cell it was judged by showed.
    pub beside: Option<Beside>,
    /// For a changed one, how its identity differs from the one beside, line by line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<Edit>,
    /// The entry of the spec that knows of it.
    pub known: Option<KnownSplat>,
}

/// A splat of the reference or the control, which another one is judged by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Beside {
    /// Whose.
    pub candidate: String,
    /// Its title.
    pub title: String,
    /// Its identity.
    pub fingerprint: String,
    /// How often it was seen.
    pub count: u64,
    /// In how many boots.
    pub boots_seen: u32,
    /// Of how many that did what shows it.
    pub boots: u32,
}

/// Better, same, worse, or cannot tell.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Better than the reference.
    Better,
    /// The same as the reference, as far as tested.
    Same,
    /// Worse than the reference.
    Worse,
    /// Cannot be told, for the reasons given.
    Inconclusive,
}

/// How often a metric was right, under one condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RateRow {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// Number of the step in the spec's list of probes.
    pub step: u32,
    /// `build_id.top_frame` …
    pub metric: String,
    /// The context the samples come from.
    pub context: Context,
    /// What else went on.
    pub stress: Stress,
    /// Asked distance between samples; `null`: as fast as the event comes.
    pub period_us: Option<u32>,
    /// The helper that was asked.
    pub interface: Interface,
    /// What the sampled stack looked like.
    pub stack: Stack,
    /// Part of the time in percent that a writer was asked to hold or await the lock.
    pub writer_duty_asked: Option<u8>,
    /// Part of the time a writer held or waited for the lock, measured; `null`
    /// where there was no writer.
    pub writer_duty: Option<f64>,
    /// Eligible calls.
    pub calls: u64,
    /// Calls without a user stack: not in `calls`.
    pub ineligible: u64,
    /// The same by errno.
    pub ineligible_by: BTreeMap<String, u64>,
    /// Events without a run of the program: not in `calls`.
    pub missed: u64,
    /// Samples that could not be stored or scored: not in `calls`.
    pub errors: u64,
    /// Calls that came from another context than asked: not in `calls`.
    pub wrong_context: BTreeMap<String, u64>,
    /// The condition cannot be had on this kernel, for the reason given: there are no
    /// calls, and there will be none.
    #[serde(default)]
    pub out_of_reach: bool,
    /// Calls that fell back because the unlock work was busy, if it can be told.
    pub slot_busy: Option<u64>,
    /// Calls that fell back because the lock was not to be had, if it can be told.
    pub lock_failed: Option<u64>,
    /// What became of the stacks in the map, where the helper keeps them in one.
    pub buckets: Option<BucketsRow>,
    /// Calls with an answer.
    pub valid: u64,
    /// Calls with the right answer.
    pub correct: u64,
    /// Lower bound of `correct / calls`; `null` without calls.
    pub low: Option<f64>,
    /// Upper bound.
    pub high: Option<f64>,
    /// Confidence of the bounds, whatever ended the sampling.
    pub confidence: f64,
    /// The part of the error the bounds may make: less than 1 where the sampling
    /// looked at its numbers and could have stopped earlier.
    pub error_share: Option<f64>,
    /// Blocks counted.
    pub blocks: u32,
    /// Blocks not counted: lockdep was off before or after them.
    pub blocks_without_lockdep: u32,
    /// How much more the blocks vary than independent calls would; at least 1.
    pub design_effect: Option<f64>,
    /// The same of boots, as all rates of this kind tell together (metric, context,
    /// stress and interface of this base, architecture and profile); `null` where too
    /// few boots tell. The bounds take the larger of the two.
    #[serde(default)]
    pub boot_effect: Option<f64>,
    /// Blocks that hold a failure, or a success if those are fewer: below ten how
    /// failures clump is hardly known, and the bounds rest on that little.
    pub rarer_in: Option<u32>,
    /// No block could disagree with another: the bounds assume independent calls.
    pub independence_assumed: bool,
    /// The claim that was put to the test, and what came of it.
    pub claim: Option<ClaimRow>,
    /// It counts for the verdict. Debug options distort rates: where a base and
    /// architecture have the profile `production`, only its rates do.
    pub judged: bool,
    /// Interval of this rate minus the reference's, corrected for the number of
    /// comparisons made.
    pub difference: Option<Bounds>,
    /// The same as of one comparison alone: what "same" rests on, since more comparisons
    /// make it harder to be the same in all of them.
    #[serde(default)]
    pub alone: Option<Bounds>,
    /// Differences below this are none, for this condition.
    #[serde(default)]
    pub margin: f64,
    /// By how much the reference's own rounds differ; `null` if they agree.
    pub noise: Option<f64>,
    /// Calls more that would decide, if they went as these did; `null` if it is
    /// decided or calls alone would not do it.
    pub needs: Option<u64>,
    /// Against the reference.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
}

/// What users of `bpf_get_stackid` see of fallbacks, added up over the blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BucketsRow {
    /// Ids that calls were given; the maps were empty when a block began.
    pub ids: u64,
    /// Of these, how many stand for a stack with a fallback in it: one stack is
    /// then split into two.
    pub fallback_ids: u64,
    /// Calls refused with `EEXIST`: the addresses were there with other build ids.
    pub exists: u64,
    /// Calls with `BPF_F_FAST_STACK_CMP` that were given an id.
    pub fast_calls: u64,
    /// Of these, how many were given an earlier call's stack with a fallback in it.
    pub fast_stale: u64,
}

/// What came of a claim.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ClaimState {
    /// The rate is at least what was claimed.
    Holds,
    /// It is less.
    Refuted,
    /// The calls there are cannot tell.
    Open,
}

/// A claim about a rate, put to the test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimRow {
    /// The rate claimed.
    pub at_least: f64,
    /// What came of it, at 95% confidence for this row alone.
    pub state: ClaimState,
    /// The rate is at least this, one-sided.
    pub low: f64,
    /// The rate is at most this, one-sided.
    pub high: f64,
    /// Calls more that would show it if none of them failed; `null` if it is decided.
    pub needs: Option<u64>,
}

/// Two bounds of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bounds {
    /// Lower.
    pub low: f64,
    /// Upper.
    pub high: f64,
    /// Confidence of the interval; of `difference` such that all hold at once with 95%.
    pub confidence: f64,
}

/// What a finding says about the candidate.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Worse than the reference.
    Worse,
    /// Something that had to be known is not.
    Inconclusive,
    /// Better than the reference.
    Better,
    /// As the reference.
    Same,
    /// Worth knowing; decides nothing.
    Note,
}

/// What an oracle found in one cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// The row of `ORACLES` that found it.
    pub oracle: String,
    /// What it says about the candidate.
    pub effect: Effect,
    /// In plain words.
    pub text: String,
}

/// The judgement of a candidate on a base and an architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VerdictRow {
    /// Where; `evidence` shows the reasons that decided.
    #[serde(flatten)]
    pub place: Place,
    /// What the candidate is for.
    pub role: Role,
    /// Against the reference.
    pub verdict: Verdict,
    /// There was nothing to decide: declared not portable to this base.
    pub declared: bool,
    /// Why, what decided first.
    pub reasons: Vec<String>,
}

impl VerdictRow {
    /// More work would reach it: inconclusive, and not by declaration.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.verdict == Verdict::Inconclusive && !self.declared
    }
}

/// Whether a gate lets a candidate through.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum GateState {
    /// It does.
    Met,
    /// It does not.
    Failed,
    /// Cannot be told, for the reason given.
    Undecided,
}

/// A gate of the spec, for one contender.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GateRow {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// The gate.
    pub rule: Gate,
    /// Whether it is met.
    pub state: GateState,
    /// Why.
    pub reason: String,
}

/// What became of a prediction.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is as was said.
    Confirmed,
    /// It is not.
    Refuted,
    /// Cannot be told, for the reason given.
    Undecided,
}

/// A prediction of the spec, on one base and architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PredictionRow {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// What was said.
    pub says: String,
    /// What had to be met.
    pub rule: Gate,
    /// What became of it.
    pub outcome: Outcome,
    /// Why.
    pub reason: String,
}

/// Something that was not tested; a name that is `null` means all of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct NotTested {
    /// What.
    pub what: String,
    /// Why not.
    pub reason: String,
    /// Base name.
    pub base: Option<String>,
    /// Candidate name.
    pub candidate: Option<String>,
    /// Architecture name.
    pub arch: Option<String>,
    /// Profile name.
    pub profile: Option<String>,
}
