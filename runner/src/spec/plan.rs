// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which cells a bake-off has, in which order, with which seeds. Pure.
//!
//! A cell is base × candidate × architecture × profile: one kernel, some boots.
//! Candidates are interleaved within base × architecture × profile so that a drift of
//! the machine favours none of them, and that group is what a shard holds: hosts are
//! never compared with each other. All profiles of one architecture come before the next
//! architecture, so that a first answer comes early.

pub mod fuzz;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bakeoff_fuzz::probe;
use bakeoff_fuzz::wire::Step;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::base::error::{Error, Result};
use crate::base::words::did_you_mean;
use crate::spec::{Claim, Probe, Role, Series, Spec};

/// Every probe there is: the guest's own table.
pub use bakeoff_fuzz::probe::PROBES;

/// Names a cell: base × candidate × architecture × profile.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct CellId {
    /// Base name.
    pub base: String,
    /// Candidate name.
    pub candidate: String,
    /// Architecture name.
    pub arch: String,
    /// Profile name.
    pub profile: String,
}

impl fmt::Display for CellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.base, self.candidate, self.arch, self.profile)
    }
}

/// One kernel and what is done with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// Its name.
    pub id: CellId,
    /// What the candidate is for.
    pub role: Role,
    /// Came from the command line.
    pub foreign: bool,
    /// Where its patches lie, in order; empty for the stock tree.
    pub patches: Vec<PathBuf>,
    /// Why there is nothing to build.
    pub not_portable: Option<String>,
}

/// A step, and where it is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    /// What a visit does.
    pub step: Step,
    /// `command/futex`: as a person names it.
    pub label: String,
    /// Visits on each kernel, before anybody asks for more.
    pub visits: u32,
    /// Profiles it is done in; empty: all.
    pub profiles: Vec<String>,
    /// It gets boots of its own.
    pub own_boot: bool,
    /// What it is measured for.
    pub purpose: Purpose,
}

/// What a step is measured for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// A claim is about it.
    Claim,
    /// Something else is judged by it: reports, answers that must not be wrong, a gate or a
    /// prediction that names it.
    Other,
    /// Nothing is: it comes after all that is, while the budget lasts.
    Shown,
}

impl Planned {
    /// Whether it is done in a profile.
    #[must_use]
    pub fn is_for(&self, profile: &str) -> bool {
        self.profiles.is_empty() || self.profiles.iter().any(|name| name == profile)
    }

    /// Visits on a kernel of that role. No claim is asked of the controls: what others would
    /// be compared with takes a few, and what is only shown none.
    #[must_use]
    pub fn visits_of(&self, role: Role) -> u32 {
        match self.purpose {
            Purpose::Claim if role.is_control() => self.visits.min(SHOWN_VISITS),
            Purpose::Shown if role.is_control() => 0,
            Purpose::Claim | Purpose::Other | Purpose::Shown => self.visits,
        }
    }
}

/// A claim, on the steps of this plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedClaim {
    /// As the spec has it.
    pub claim: Claim,
    /// Its steps by number.
    pub steps: Vec<u32>,
    /// The profile whose kernels it is judged on.
    pub profile: String,
}

/// Everything a run will do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Root of all seeds.
    pub seed: u64,
    /// Cells in the order they are gone through.
    pub cells: Vec<Cell>,
    /// Steps that each cell does, if they are for its profile.
    pub steps: Vec<Planned>,
    /// What is judged.
    pub claims: Vec<PlannedClaim>,
    /// Seconds that the measuring may take; `None`: no limit but the looks.
    pub budget_seconds: Option<u64>,
    /// Boots that the visits before the first look are spread over.
    #[serde(default = "usual_spread")]
    pub spread: u32,
}

fn usual_spread() -> u32 {
    SPREAD
}

/// Boots that the visits before the first look are spread over.
pub const SPREAD: u32 = 8;
/// The same in a run that is to be quick: with short visits, a boot costs as much as ten.
pub const QUICK_SPREAD: u32 = 4;

/// The profile whose kernels claims are judged on, where a run has it: debug options
/// distort them.
pub const PRODUCTION: &str = "production";

/// Visits of a condition that no claim is about.
pub(crate) const SHOWN_VISITS: u32 = 4;
/// Visits of a condition of a claim before the first look.
pub const FIRST_LOOK: u32 = 12;

/// Which part of a spec is wanted; empty means all of it.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Architectures.
    pub archs: Vec<String>,
    /// Candidates; what they are judged by is always kept.
    pub candidates: Vec<String>,
    /// Profiles.
    pub profiles: Vec<String>,
    /// Conditions, by label or by any leading part of it.
    pub probes: Vec<String>,
    /// Only what the spec marks as quick.
    pub quick: bool,
    /// Time the measuring may take, in place of the spec's.
    pub budget: Option<Duration>,
}

impl Plan {
    /// The plan for a spec.
    ///
    /// # Errors
    /// A selected word the spec does not have.
    pub fn new(spec: &Spec, selection: &Selection, seed: u64) -> Result<Plan> {
        let archs = pick("architecture", &spec.architectures, &selection.archs)?;
        let profiles = match selection.profiles.as_slice() {
            [] => spec.profiles.clone(),
            asked => {
                let all = [spec.profiles.clone(), spec.on_request.clone()].concat();
                pick("profile", &all, asked)?
            }
        };
        let names: Vec<String> = spec.candidates.iter().map(|c| c.name.clone()).collect();
        let wanted = pick("candidate", &names, &selection.candidates)?;
        let mut steps = steps(spec, selection, &profiles)?;
        let claims = claims(spec, &steps, &profiles);
        for planned in &mut steps {
            planned.purpose = purpose(planned, spec, selection, &profiles, &claims);
        }
        let mut cells = Vec::new();
        for base in &spec.bases {
            for arch in &archs {
                for profile in &profiles {
                    if !steps.iter().any(|planned| planned.is_for(profile)) {
                        continue;
                    }
                    for candidate in in_order(spec) {
                        if candidate.role == Role::Contender && !wanted.contains(&candidate.name) {
                            continue;
                        }
                        let (patches, not_portable) = match candidate.on.get(&base.name) {
                            Some(Series::Patches(patches)) => (patches.clone(), None),
                            Some(Series::NotPortable(reason)) => (Vec::new(), Some(reason.clone())),
                            Some(Series::Stock) | None => (Vec::new(), None),
                        };
                        cells.push(Cell {
                            id: CellId {
                                base: base.name.clone(),
                                candidate: candidate.name.clone(),
                                arch: arch.clone(),
                                profile: profile.clone(),
                            },
                            role: candidate.role,
                            foreign: candidate.foreign,
                            patches,
                            not_portable,
                        });
                    }
                }
            }
        }
        let of_spec = if selection.quick { spec.quick_budget } else { spec.budget };
        let budget_seconds = selection.budget.or(of_spec).map(|budget| budget.as_secs());
        let spread = if selection.quick { QUICK_SPREAD } else { SPREAD };
        Ok(Plan { seed, cells, steps, claims, budget_seconds, spread })
    }

    /// The steps that a cell does.
    pub fn steps_of<'a>(&'a self, cell: &'a CellId) -> impl Iterator<Item = &'a Planned> {
        self.steps.iter().filter(|planned| planned.is_for(&cell.profile))
    }

    /// The step of that number.
    #[must_use]
    pub fn step(&self, id: u32) -> Option<&Planned> {
        self.steps.iter().find(|planned| planned.step.id == id)
    }

    /// Cells that are compared with each other, in order: one base, architecture and
    /// profile.
    #[must_use]
    pub fn groups(&self) -> Vec<Vec<&Cell>> {
        let mut groups: indexmap::IndexMap<(&str, &str, &str), Vec<&Cell>> =
            indexmap::IndexMap::new();
        for cell in &self.cells {
            let CellId { base, arch, profile, candidate: _ } = &cell.id;
            groups.entry((base, arch, profile)).or_default().push(cell);
        }
        groups.into_values().collect()
    }
}

/// The candidates in the order in which they are gone through: first what the others are
/// compared with.
fn in_order(spec: &Spec) -> Vec<&crate::spec::Candidate> {
    let mut all: Vec<_> = spec.candidates.iter().collect();
    all.sort_by_key(|candidate| match candidate.role {
        Role::Reference => 0,
        Role::Control => 1,
        Role::Contender => 2,
        Role::NegativeControl => 3,
    });
    all
}

fn steps(spec: &Spec, selection: &Selection, profiles: &[String]) -> Result<Vec<Planned>> {
    let in_claim = |label: &str| {
        spec.claims.iter().any(|claim| claim.conditions.iter().any(|known| known == label))
    };
    let mut steps = Vec::new();
    for (id, probe) in spec.probes.iter().enumerate() {
        let Probe { step, label, visits, profiles: only, own_boot, quick } = probe.clone();
        let named = selection.probes.is_empty()
            || selection.probes.iter().any(|written| selects(written, &label));
        let done = only.is_empty() || only.iter().any(|profile| profiles.contains(profile));
        if !named || !done || (selection.quick && !quick) {
            continue;
        }
        let usual = if in_claim(&label) { FIRST_LOOK } else { SHOWN_VISITS };
        steps.push(Planned {
            step: Step { id: u32::try_from(id).unwrap_or(u32::MAX), ..step },
            label,
            visits: visits.unwrap_or(usual),
            profiles: only,
            own_boot,
            purpose: Purpose::Other,
        });
    }
    if selection.quick && !spec.probes.iter().any(|probe| probe.quick) {
        return Err(Error::bad_input("no probe of the spec is marked `quick: true`")
            .hint("mark some, or omit --quick and select with --probe"));
    }
    let labels = || spec.probes.iter().map(|probe| probe.label.as_str());
    for written in &selection.probes {
        if !labels().any(|label| selects(written, label)) {
            return Err(Error::bad_input(format!("the spec has no condition `{written}`"))
                .hint(did_you_mean(written, labels())));
        }
    }
    if steps.is_empty() {
        return Err(Error::bad_input("nothing is left to measure")
            .hint("`bakeoff list` shows the conditions; some are for one profile only"));
    }
    Ok(steps)
}

/// Claims are judged where debug options do not distort them: in the profile
/// `production`, where the spec measures their conditions in it, else in the first profile
/// in which it does. A run without that profile does not ask them.
fn claims(spec: &Spec, steps: &[Planned], profiles: &[String]) -> Vec<PlannedClaim> {
    let production = |claim: &Claim| {
        spec.profiles.iter().any(|profile| profile == PRODUCTION)
            && spec.probes.iter().any(|probe| {
                claim.conditions.contains(&probe.label)
                    && (probe.profiles.is_empty() || probe.profiles.iter().any(|p| p == PRODUCTION))
            })
    };
    let planned = |claim: &Claim| {
        let only = production(claim);
        profiles.iter().filter(|profile| !only || *profile == PRODUCTION).find_map(|profile| {
            let steps: Vec<u32> = steps
                .iter()
                .filter(|p| claim.conditions.contains(&p.label) && p.is_for(profile))
                .map(|p| p.step.id)
                .collect();
            let (claim, profile) = (claim.clone(), (*profile).clone());
            (!steps.is_empty()).then_some(PlannedClaim { claim, steps, profile })
        })
    };
    spec.claims.iter().filter_map(planned).collect()
}

/// A step is only shown if no claim, gate or prediction is about it although its probe has
/// something to claim, nobody asked for it by name, and the kernels it runs on are those that
/// claims are judged on: others are there for their reports.
fn purpose(
    planned: &Planned,
    spec: &Spec,
    selection: &Selection,
    profiles: &[String],
    claims: &[PlannedClaim],
) -> Purpose {
    let Planned { step, label, .. } = planned;
    if claims.iter().any(|claim| claim.steps.contains(&step.id)) {
        return Purpose::Claim;
    }
    // A probe that claims nothing is there for what else it judges.
    let claims_nothing = |probe: &probe::Probe| {
        probe.metrics.iter().all(|metric| metric.role != probe::MetricRole::Claim)
    };
    let mut gates = spec.gates.iter().chain(spec.predictions.iter().map(|told| &told.holds_if));
    let mut here = profiles.iter().filter(|profile| planned.is_for(profile));
    let judged = !selection.probes.is_empty()
        || gates.any(|gate| gate.conditions().any(|named| selects(named, label)))
        || probe::find(&step.probe).is_some_and(claims_nothing)
        || !here.all(|profile| claims.iter().any(|claim| claim.profile == *profile));
    if judged { Purpose::Other } else { Purpose::Shown }
}

/// Whether a label, or any leading part of it, names a step.
pub(crate) fn selects(written: &str, label: &str) -> bool {
    label.strip_prefix(written).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn pick(what: &str, all: &[String], wanted: &[String]) -> Result<Vec<String>> {
    for word in wanted {
        if !all.contains(word) {
            return Err(Error::bad_input(format!("the spec has no {what} `{word}`"))
                .hint(did_you_mean(word, all.iter().map(String::as_str))));
        }
    }
    Ok(all.iter().filter(|w| wanted.is_empty() || wanted.contains(w)).cloned().collect())
}

/// The seed of one boot: a hash of root seed, cell and boot name.
#[must_use]
pub fn boot_seed(root: u64, cell: &CellId, boot: &str) -> u64 {
    let mut hash = Sha256::new();
    hash.update(root.to_le_bytes());
    for part in [&cell.base, &cell.candidate, &cell.arch, &cell.profile] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.update(boot.as_bytes());
    let digest = hash.finalize();
    digest.iter().take(8).fold(0, |seed, byte| (seed << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests;
