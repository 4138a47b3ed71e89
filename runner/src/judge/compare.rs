// SPDX-License-Identifier: MIT OR Apache-2.0
//! Says what differs between candidates, and what cannot be told.
//!
//! [`compare`] is pure: observations in, a [`Comparison`] out. Rows are counted
//! first ([`CellRow`], [`SplatRow`], [`RateRow`]); then each oracle of
//! [`ORACLES`] looks at one cell beside its reference and its control and says
//! what it finds; then the findings of a base × candidate × architecture are
//! folded into a verdict, and the spec's gates are asked.
//!
//! Better and worse are against the reference. Our own errors, lockdep being off
//! and exercises that did not run make a verdict *inconclusive*; they never count
//! for or against a candidate.

mod between;
mod blind;
mod cell;
mod flip;
mod gate;
mod oracle;
mod rate;
mod row;
mod splat;
#[cfg(test)]
mod splat_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod untested;
mod verdict;
pub(crate) mod words;

use bakeoff_fuzz::wire::Step;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use blind::BlindRow;
pub use oracle::{ORACLES, Pair};
pub use row::{
    CellEnd, CellRow, Change, ClaimState, Effect, Finding, GateRow, GateState, NotTested, Outcome,
    Place, PredictionRow, RateRow, SplatRow, Verdict, VerdictRow,
};

pub(crate) use flip::{Untested, has_tested, untested_on};
pub(crate) use rate::{claim_words, condition, means, plain_condition, shown};

use crate::judge::stats;
use crate::see::observation::Observation;
pub(crate) use crate::spec::plan::label;
use crate::spec::plan::{CellId, Claim, Plan, Planned};
use crate::spec::{Gate, KnownSplat, Prediction, Role, Spec};

/// What of the spec and the plan the comparison needs.
#[derive(Clone, Debug)]
pub struct Subject {
    /// What every round of every cell was to do, if it is for its profile.
    pub steps: Vec<Planned>,
    /// The claim that is put to the test.
    pub claim: Option<Claim>,
    /// Who competes, in the order of the spec.
    pub candidates: Vec<CandidateInfo>,
    /// What `--gate` insists on.
    pub gates: Vec<Gate>,
    /// What was expected before anything was measured.
    pub predictions: Vec<Prediction>,
    /// Splats that blame nobody.
    pub known: Vec<KnownSplat>,
}

/// A candidate as a report names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CandidateInfo {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// One line on what it does.
    pub title: String,
    /// What the bake-off knows it does not test.
    pub untested: Option<String>,
    /// The probe that tests it after all, where that probe is known to be sensitive.
    pub tested_by: Option<String>,
}

impl Subject {
    /// From a spec and the plan made of it.
    #[must_use]
    pub fn new(spec: &Spec, plan: &Plan) -> Subject {
        let planned = |name: &str| plan.cells.iter().any(|cell| cell.id.candidate == name);
        let candidates = spec.candidates.iter().filter(|c| planned(&c.name));
        Subject {
            steps: plan.steps.clone(),
            claim: plan.claim,
            candidates: candidates
                .map(|c| CandidateInfo {
                    name: c.name.clone(),
                    role: c.role,
                    title: c.title.clone(),
                    untested: c.untested.clone(),
                    tested_by: c.tested_by.clone(),
                })
                .collect(),
            gates: spec.gates.clone(),
            predictions: spec.predictions.clone(),
            known: spec.known_splats.clone(),
        }
    }

    /// The steps that a cell does.
    fn steps_of(&self, role: Role, cell: &CellId) -> Vec<Step> {
        let here = self.steps.iter().filter(|planned| planned.is_for(role, &cell.profile));
        here.map(|planned| planned.step.clone()).collect()
    }

    /// Below which difference rates of a step are the same.
    fn margin(&self, step: u32, settings: &Settings) -> f64 {
        let planned = self.steps.iter().find(|planned| planned.step.id == step);
        let own = planned.and_then(|planned| planned.margin_ppm);
        own.map_or(settings.margin, |ppm| f64::from(ppm) / 1e6)
    }

    /// The reference's name.
    fn reference(&self) -> &str {
        let found = self.candidates.iter().find(|c| c.role == Role::Reference);
        found.map_or("the reference", |c| c.name.as_str())
    }
}

/// How sure, and how small a difference counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Confidence of all comparisons of rates together.
    pub confidence: f64,
    /// Rates that differ by less are the same. Two boots of one kernel differ
    /// too, by how the host schedules the guest: a single boot must not blame a
    /// candidate for less than this.
    pub margin: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { confidence: stats::CONFIDENCE, margin: 0.01 }
    }
}

/// Everything that can be said of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// What was asked.
    pub settings: Settings,
    /// How each cell ended.
    pub cells: Vec<CellRow>,
    /// Reports of the kernels.
    pub splats: Vec<SplatRow>,
    /// Where lockdep did not look, or could not.
    pub blind: Vec<BlindRow>,
    /// How often each metric was right.
    pub rates: Vec<RateRow>,
    /// What the oracles found.
    pub findings: Vec<Finding>,
    /// Better, same, worse or inconclusive.
    pub verdicts: Vec<VerdictRow>,
    /// The spec's gates.
    pub gates: Vec<GateRow>,
    /// The spec's predictions.
    pub predictions: Vec<PredictionRow>,
    /// What nobody should conclude from all this.
    pub not_tested: Vec<NotTested>,
}

impl Comparison {
    /// Verdicts that more work would reach: inconclusive, and not by declaration.
    pub fn open_verdicts(&self) -> impl Iterator<Item = &VerdictRow> {
        self.verdicts.iter().filter(|v| v.is_open())
    }
}

/// Compares the cells of a run. `observations` come in the order of the plan;
/// the rows keep it.
#[must_use]
pub fn compare(subject: &Subject, observations: &[Observation], settings: &Settings) -> Comparison {
    let groups = group(observations);
    let mut cells = Vec::new();
    let mut splats = Vec::new();
    let mut blind = Vec::new();
    let mut rates = Vec::new();
    for group in &groups {
        let reference = with_role(group, Role::Reference);
        let control = with_role(group, Role::Control);
        let id = group.first().map(|seen| seen.id());
        let steps = id.map(|id| subject.steps_of(Role::Contender, id)).unwrap_or_default();
        let peers = splat::Peers { reference, control, steps: &steps, known: &subject.known };
        let mut measured = Vec::new();
        for seen in group {
            let steps = subject.steps_of(seen.cell.role, seen.id());
            let cell = cell::row(seen, &steps);
            splats.extend(splat::rows(seen, &peers));
            blind.extend(blind::rows(seen));
            // A planted fault is found or not; how often is nobody's rate.
            let rates = match seen.cell.role {
                Role::Sensitivity => Vec::new(),
                Role::Reference | Role::Control | Role::Contender => {
                    let mut rates = rate::measure(seen, &cell, &steps, subject.claim);
                    for rate in &mut rates {
                        rate.row.margin = subject.margin(rate.row.step, settings);
                    }
                    rates
                }
            };
            measured.push((seen.cell.role, rates));
            cells.push(cell);
        }
        rates.push(measured);
    }
    rate::judge(&mut rates, settings, subject.reference());
    let rates: Vec<RateRow> = rates
        .into_iter()
        .flatten()
        .flat_map(|(_, rates)| rates.into_iter().map(|rate| rate.row))
        .collect();

    let mut comparison =
        Comparison { settings: *settings, cells, splats, blind, rates, ..Comparison::default() };
    for group in &groups {
        let reference = with_role(group, Role::Reference);
        let control = with_role(group, Role::Control);
        let sensitivity = with_role(group, Role::Sensitivity);
        for seen in group {
            let pair = Pair::new(subject, seen, reference, control, observations, &comparison)
                .beside(sensitivity);
            let found: Vec<Finding> =
                ORACLES.iter().flat_map(|oracle| oracle::ask(oracle, &pair)).collect();
            comparison.findings.extend(found);
        }
    }
    comparison.verdicts = verdict::fold(subject, &comparison);
    comparison.gates = gate::ask(subject, &comparison);
    comparison.predictions = gate::predict(subject, &comparison);
    comparison.not_tested = untested::list_all(subject, &comparison);
    comparison
}

/// Cells that are compared with each other: one base, architecture and profile.
fn group(observations: &[Observation]) -> Vec<Vec<&Observation>> {
    let mut groups: Vec<Vec<&Observation>> = Vec::new();
    for seen in observations {
        let like = |other: &&Observation| {
            let (a, b) = (seen.id(), other.id());
            a.base == b.base && a.arch == b.arch && a.profile == b.profile
        };
        match groups.iter_mut().find(|group| group.first().is_some_and(&like)) {
            Some(group) => group.push(seen),
            None => groups.push(vec![seen]),
        }
    }
    groups
}

fn with_role<'a>(group: &[&'a Observation], role: Role) -> Option<&'a Observation> {
    group.iter().find(|seen| seen.cell.role == role).copied()
}

/// A cell's end in words.
pub(crate) fn end_words(end: CellEnd) -> &'static str {
    match end {
        CellEnd::Ran => "ran",
        CellEnd::DidNotApply => "does not apply",
        CellEnd::DidNotBuild => "does not build",
        CellEnd::DidNotBoot => "does not boot",
        CellEnd::Panicked => "panicked",
        CellEnd::Hung => "hung",
        CellEnd::NotPortable => "not portable",
        CellEnd::Error => "not tested",
    }
}
