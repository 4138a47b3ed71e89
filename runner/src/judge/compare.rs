// SPDX-License-Identifier: MIT OR Apache-2.0
//! Says what differs between candidates, and what cannot be told.
//!
//! [`compare`] is pure: observations in, a [`Comparison`] out. What was seen is counted
//! first ([`measure`]); claims are settled from the visits ([`settle`]), answers that must
//! never be wrong are weighed against a negative control ([`wrong`]), reports of the
//! kernels against reference and control ([`splat`]). A verdict is read off these rows,
//! then gates and predictions are asked.
//!
//! Our own errors and work that did not run leave a verdict *open*; they never count for
//! or against a candidate.

mod blind;
mod cell;
mod confirm;
mod gate;
mod measure;
mod settle;
mod splat;
pub(crate) mod untested;
mod verdict;
pub(crate) mod words;
mod wrong;

pub use blind::BlindRow;
pub(crate) use confirm::to_confirm;
pub(crate) use settle::{Open, looks, open as open_claims, pools, smallest_loss};
pub(crate) use verdict::{end_words as verdict_words, excuse_words};

use crate::judge::row::{
    CellRow, ClaimRow, GateRow, MeasureRow, NotTested, PredictionRow, SplatRow, VerdictRow,
    VisitRow, WrongRow,
};
use crate::see::observation::Observation;
use crate::spec::plan::Plan;
use crate::spec::{Candidate, Claim, Gate, KnownSplat, Prediction, Role, Spec};

/// What of the spec and the plan the comparison needs.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// What was to be done.
    pub plan: &'a Plan,
    /// Who competes, in the order of the spec.
    pub candidates: Vec<&'a Candidate>,
    /// What `--gate` insists on.
    pub gates: &'a [Gate],
    /// What the spec asks.
    pub claims: &'a [Claim],
    /// What was expected before anything was measured.
    pub predictions: &'a [Prediction],
    /// Splats that blame nobody.
    pub known: &'a [KnownSplat],
}

impl<'a> Subject<'a> {
    /// From a spec and the plan made of it.
    #[must_use]
    pub fn new(spec: &'a Spec, plan: &'a Plan) -> Subject<'a> {
        let planned = |name: &str| plan.cells.iter().any(|cell| cell.id.candidate == name);
        Subject {
            plan,
            candidates: spec.candidates.iter().filter(|c| planned(&c.name)).collect(),
            gates: &spec.gates,
            claims: &spec.claims,
            predictions: &spec.predictions,
            known: &spec.known_splats,
        }
    }
}

impl Subject<'_> {
    /// Claims of the spec that this run does not ask: it has none of their conditions.
    fn not_asked(&self) -> impl Iterator<Item = &str> {
        let planned = |name: &str| self.plan.claims.iter().any(|p| p.claim.name == name);
        self.claims.iter().map(|claim| claim.name.as_str()).filter(move |name| !planned(name))
    }
}

/// Everything that can be said of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// How each cell ended.
    pub cells: Vec<CellRow>,
    /// What was asked, and the answers.
    pub claims: Vec<ClaimRow>,
    /// What was measured.
    pub measures: Vec<MeasureRow>,
    /// The visits of the claims.
    pub visits: Vec<VisitRow>,
    /// Answers that must never be wrong.
    pub wrong: Vec<WrongRow>,
    /// Reports of the kernels.
    pub splats: Vec<SplatRow>,
    /// Where lockdep did not look, or could not.
    pub blind: Vec<BlindRow>,
    /// What is concluded.
    pub verdicts: Vec<VerdictRow>,
    /// The spec's gates.
    pub gates: Vec<GateRow>,
    /// The spec's predictions.
    pub predictions: Vec<PredictionRow>,
    /// What nobody should conclude from all this.
    pub not_tested: Vec<NotTested>,
}

/// Compares the cells of a run. `observations` come in the order of the plan;
/// the rows keep it.
#[must_use]
pub fn compare(subject: &Subject<'_>, observations: &[Observation]) -> Comparison {
    let mut all = Comparison::default();
    let looks = looks(subject.plan, observations);
    for group in groups(observations) {
        let peers = Peers::of(&group);
        for seen in &group {
            all.cells.push(cell::row(seen, subject.plan));
            all.splats.extend(splat::rows(seen, &peers, subject.known));
            all.blind.extend(blind::rows(seen));
            all.measures.extend(measure::rows(seen, subject.plan));
            all.wrong.extend(wrong::rows(seen, &peers, subject.plan));
        }
        all.claims.extend(settle::rows(&group, &peers, subject.plan, looks));
        all.visits.extend(settle::visits(&group, subject.plan));
    }
    all.verdicts = verdict::fold(subject, &all);
    all.gates = gate::ask(subject, &all);
    all.predictions = gate::predict(subject, &all);
    all.not_tested = untested::list_all(subject, &all);
    all
}

/// What the cells of a group are judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peers<'a> {
    pub(crate) reference: Option<&'a Observation>,
    pub(crate) control: Option<&'a Observation>,
    pub(crate) negative: Option<&'a Observation>,
}

impl<'a> Peers<'a> {
    /// Those of a group.
    pub(crate) fn of(group: &[&'a Observation]) -> Peers<'a> {
        Peers {
            reference: with_role(group, Role::Reference),
            control: with_role(group, Role::Control),
            negative: with_role(group, Role::NegativeControl),
        }
    }
}

/// Cells that are compared with each other: one base, architecture and profile.
pub(crate) fn groups(observations: &[Observation]) -> Vec<Vec<&Observation>> {
    let mut groups: indexmap::IndexMap<(&str, &str, &str), Vec<&Observation>> =
        indexmap::IndexMap::new();
    for seen in observations {
        let id = seen.id();
        groups.entry((&id.base, &id.arch, &id.profile)).or_default().push(seen);
    }
    groups.into_values().collect()
}

fn with_role<'a>(group: &[&'a Observation], role: Role) -> Option<&'a Observation> {
    group.iter().find(|seen| seen.cell.role == role).copied()
}

#[cfg(test)]
pub(crate) mod tests;
