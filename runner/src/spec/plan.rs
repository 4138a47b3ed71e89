// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which cells a bake-off has, in which order, with which seeds. Pure.
//!
//! A cell is base × candidate × architecture × profile: one kernel, one or more
//! boots. Candidates are interleaved within base × architecture × profile so
//! that a drift of the machine favours none of them, and that group is what a
//! shard holds: hosts are never compared with each other.

use std::fmt;
use std::path::PathBuf;

use bakeoff_fuzz::wire::{self, Interface, Stack, Step, Stop, Stress};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::base::error::{Error, Result};
use crate::spec::{Probe, Role, Series, Spec, did_you_mean, word};

/// Every probe there is: the guest's own table.
pub use bakeoff_fuzz::probe::PROBES;

/// Whether a written probe makes sense: the guest's own check.
pub(crate) fn check_probe(probe: &Probe) -> Result<(), String> {
    bakeoff_fuzz::probe::check(&step(0, probe)).map(|_| ()).map_err(|why| why.to_string())
}

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
    /// How often all steps are done, each time in fresh boots. The reference
    /// is run twice: what differs between its own runs is noise.
    pub rounds: u32,
    /// Boots that a round takes at least: as many as one of its steps is spread over.
    #[serde(default = "one")]
    pub boots: u32,
}

impl Cell {
    /// Numbers of the turns of a round: a turn is one of the boots that its steps are
    /// spread over, or more if something cuts it short.
    pub fn turns(&self, round: u32) -> std::ops::Range<u32> {
        round * self.boots..(round + 1) * self.boots
    }

    /// The round that a turn belongs to.
    #[must_use]
    pub fn round_of(&self, turn: u32) -> u32 {
        turn / self.boots.max(1)
    }
}

fn one() -> u32 {
    1
}

/// A step, and where it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WrittenStep")]
pub struct Planned {
    /// What the guest does, in each of its boots.
    pub step: Step,
    /// Profiles it is done in; empty: all.
    pub profiles: Vec<String>,
    /// It gets boots of its own.
    pub own_boot: bool,
    /// Boots of a round that it is done in.
    pub boots: u32,
    /// Rates that differ by less millionths are the same; `None`: than the comparison's
    /// own margin.
    pub margin_ppm: Option<u32>,
}

/// A step as a run has it written: older runs have the bare step.
#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenStep {
    Planned {
        step: Step,
        profiles: Vec<String>,
        own_boot: bool,
        #[serde(default = "one")]
        boots: u32,
        #[serde(default)]
        margin_ppm: Option<u32>,
    },
    Bare(Step),
}

impl From<WrittenStep> for Planned {
    fn from(written: WrittenStep) -> Planned {
        match written {
            WrittenStep::Planned { step, profiles, own_boot, boots, margin_ppm } => {
                Planned { step, profiles, own_boot, boots, margin_ppm }
            }
            WrittenStep::Bare(step) => step.into(),
        }
    }
}

impl Planned {
    /// The same, as much of it as the role needs: whether a planted fault is found shows
    /// in a few blocks, and a kernel full of delays takes its time for each.
    fn sized_for(&self, role: Role) -> Planned {
        let mut planned = self.clone();
        match role {
            Role::Reference | Role::Control | Role::Contender => {}
            Role::Sensitivity => planned.step.blocks = planned.step.blocks.div_ceil(4),
        }
        planned
    }

    /// Whether a candidate with this role does it in a profile. A kernel with a
    /// planted fault does the steps that have to find it: they need a mapping that
    /// changes.
    #[must_use]
    pub fn is_for(&self, role: Role, profile: &str) -> bool {
        let does = match role {
            Role::Reference | Role::Control | Role::Contender => true,
            Role::Sensitivity => self.step.stress == Stress::Flip,
        };
        does && (self.profiles.is_empty() || self.profiles.iter().any(|p| p == profile))
    }
}

impl From<Step> for Planned {
    fn from(step: Step) -> Planned {
        Planned { step, profiles: Vec::new(), own_boot: false, boots: 1, margin_ppm: None }
    }
}

/// A rate that is claimed, and the calls without a failure that show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The rate, in thousand millionths: 999,990,000 is "five nines".
    pub at_least_ppb: u32,
    /// Calls of each cell and step.
    pub calls: u64,
    /// Boots they are spread over.
    pub boots: u32,
}

impl Claim {
    /// Boots a claim is spread over: enough that one odd boot is seen to be odd.
    const BOOTS: u32 = 3;

    /// The claim that a rate is at least so much.
    ///
    /// # Errors
    /// Not a rate that a number of calls can show: not between 50% and 100%, or
    /// one that takes more than a thousand million calls.
    pub fn new(percent: f64) -> Result<Claim> {
        let wrong = |why: &str| {
            Err(Error::bad_input(format!("a claim of {percent}% {why}"))
                .hint("give a percentage such as 99.999; it takes 299,572 calls"))
        };
        if !(50.0..100.0).contains(&percent) {
            return wrong("is not between 50 and 100");
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 1e9")]
        let at_least_ppb = (percent * 1e7).round() as u32;
        let rate = f64::from(at_least_ppb) / 1e9;
        match crate::judge::stats::calls_for_claim(rate, 0, crate::judge::stats::CONFIDENCE) {
            Some(calls) if calls <= 1_000_000_000 => {
                Ok(Claim { at_least_ppb, calls, boots: Claim::BOOTS })
            }
            Some(_) | None => wrong("takes more calls than a machine can make"),
        }
    }

    /// The rate claimed.
    #[must_use]
    pub fn rate(self) -> f64 {
        f64::from(self.at_least_ppb) / 1e9
    }

    /// The step, sized for one of the claim's boots. A fifth more blocks than the
    /// calls need: blocks that their time cuts short do not end it early.
    fn resize(self, step: &mut Step) {
        let calls = self.calls.div_ceil(u64::from(self.boots.max(1)));
        let blocks = calls.div_ceil(u64::from(step.calls_per_block.max(1)));
        step.blocks = u32::try_from(blocks + blocks.div_ceil(5)).unwrap_or(u32::MAX);
        step.stop = Stop::Claim { at_least_ppb: self.at_least_ppb, calls };
    }
}

/// Everything a run will do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Root of all seeds.
    pub seed: u64,
    /// Cells in the order they are gone through.
    pub cells: Vec<Cell>,
    /// Steps each round of each cell does, if they are for its profile.
    pub steps: Vec<Planned>,
    /// The claim that is put to the test.
    #[serde(default)]
    pub claim: Option<Claim>,
}

/// The profile whose kernels rates are taken from, where a run has it: debug
/// options distort them.
pub const PRODUCTION: &str = "production";

/// Which part of a spec is wanted; empty means all of it.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Architectures.
    pub archs: Vec<String>,
    /// Candidates; what they are judged by is always kept.
    pub candidates: Vec<String>,
    /// Profiles.
    pub profiles: Vec<String>,
    /// Probes, by label or by any leading part of it.
    pub probes: Vec<String>,
    /// Only what the spec marks as quick.
    pub quick: bool,
    /// A rate in percent to be shown or refuted.
    pub claim: Option<f64>,
}

impl Plan {
    /// The plan for a spec.
    ///
    /// # Errors
    /// A selected word the spec does not have.
    pub fn new(spec: &Spec, selection: &Selection, seed: u64) -> Result<Plan> {
        let claim = selection.claim.map(Claim::new).transpose()?;
        let archs = pick("architecture", &spec.architectures, &selection.archs)?;
        let mut profiles = match selection.profiles.as_slice() {
            [] => spec.profiles.clone(),
            asked => {
                let all = [spec.profiles.clone(), spec.on_request.clone()].concat();
                pick("profile", &all, asked)?
            }
        };
        // A claim is about rates, and those are production's where there is such.
        if claim.is_some() && selection.profiles.is_empty() {
            let production = |profile: &String| profile == PRODUCTION;
            if profiles.iter().any(production) {
                profiles.retain(production);
            }
        }
        let names: Vec<String> = spec.candidates.iter().map(|c| c.name.clone()).collect();
        let wanted = pick("candidate", &names, &selection.candidates)?;
        let mut steps = Vec::new();
        for (id, probe) in spec.probes.iter().enumerate() {
            let label = probe.label();
            let selected = |w: &String| selects(w, &label);
            let named = selection.probes.is_empty() || selection.probes.iter().any(selected);
            let done = probe.profiles.is_empty()
                || probe.profiles.iter().any(|profile| profiles.contains(profile));
            if named && done && (probe.quick || !selection.quick) {
                let mut step = step(id, probe);
                let Probe { profiles, own_boot, mut boots, margin_ppm, .. } = probe.clone();
                step.blocks = step.blocks.div_ceil(boots.max(1));
                if let Some(claim) = claim {
                    // Its rounds are boots enough.
                    boots = 1;
                    claim.resize(&mut step);
                }
                steps.push(Planned { step, profiles, own_boot, boots, margin_ppm });
            }
        }
        if selection.quick && !spec.probes.iter().any(|probe| probe.quick) {
            return Err(Error::bad_input("no probe of the spec is marked `quick: true`")
                .hint("mark some, or leave out --quick and select with --probe"));
        }
        for written in &selection.probes {
            let labels: Vec<String> = spec.probes.iter().map(Probe::label).collect();
            if !labels.iter().any(|label| selects(written, label)) {
                return Err(Error::bad_input(format!("the spec has no probe `{written}`"))
                    .hint(did_you_mean(written, labels.iter().map(String::as_str))));
            }
        }
        if steps.is_empty() {
            return Err(Error::bad_input("nothing is left to be measured")
                .hint("`bakeoff list` shows the probes; a probe may be for some profiles only"));
        }
        let mut cells = Vec::new();
        for base in &spec.bases {
            for profile in &profiles {
                for arch in &archs {
                    for candidate in &spec.candidates {
                        let role = candidate.role;
                        let does = || steps.iter().filter(|planned| planned.is_for(role, profile));
                        let Some(boots) = does().map(|planned| planned.boots).max() else {
                            continue;
                        };
                        if role == Role::Contender && !wanted.contains(&candidate.name) {
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
                            role,
                            foreign: candidate.foreign,
                            patches,
                            not_portable,
                            rounds: rounds(role, claim),
                            boots,
                        });
                    }
                }
            }
        }
        Ok(Plan { seed, cells, steps, claim })
    }

    /// The steps of a turn of a cell.
    #[must_use]
    pub fn steps_of_turn(&self, cell: &Cell, turn: u32) -> Vec<Planned> {
        let boot = turn % cell.boots.max(1);
        let here = self.steps_of(cell).filter(|planned| boot < planned.boots);
        here.map(|planned| planned.sized_for(cell.role)).collect()
    }

    /// The steps that a cell does.
    pub fn steps_of<'a>(&'a self, cell: &'a Cell) -> impl Iterator<Item = &'a Planned> {
        self.steps.iter().filter(|planned| planned.is_for(cell.role, &cell.id.profile))
    }
}

/// Whether a label, or any leading part of it, names a step.
pub(crate) fn selects(written: &str, label: &str) -> bool {
    label.strip_prefix(written).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// How often a cell does its steps. The reference is run twice; a claim wants
/// several boots of everybody.
fn rounds(role: Role, claim: Option<Claim>) -> u32 {
    let once = if role == Role::Reference { 2 } else { 1 };
    claim.map_or(once, |claim| claim.boots.max(once))
}

/// `build_id/hardirq/idle/4000us`: a step as a person names it. What is as usual
/// is left out; what is not, is not: no two steps of a spec have one name.
#[must_use]
pub fn label(step: &Step) -> String {
    let Step { probe, context, stress, period_us, writer_duty, interface, stack, .. } = step;
    let condition = condition(*context, *stress, *period_us, *writer_duty, *interface, *stack);
    format!("{probe}/{condition}")
}

/// The same without the probe's name.
pub(crate) fn condition(
    context: wire::Context,
    stress: wire::Stress,
    period_us: Option<u32>,
    writer_duty: Option<u8>,
    interface: Interface,
    stack: Stack,
) -> String {
    let mut text = format!("{}/{}", word(context), word(stress));
    if let Some(duty) = writer_duty {
        text.push_str(&format!("/{duty}%"));
    }
    if let Some(period) = period_us {
        text.push_str(&format!("/{period}us"));
    }
    if interface != Interface::default() {
        text.push_str(&format!("/{}", word(interface)));
    }
    if stack != Stack::default() {
        text.push_str(&format!("/{}", word(stack)));
    }
    text
}

pub(crate) fn step(id: usize, probe: &Probe) -> Step {
    let Probe {
        probe,
        context,
        stress,
        period_us,
        writer_duty,
        interface,
        stack,
        blocks,
        calls_per_block,
        block_ms,
        stop,
        profiles: _,
        boots: _,
        margin_ppm: _,
        own_boot: _,
        quick: _,
    } = probe.clone();
    Step {
        id: u32::try_from(id).unwrap_or(u32::MAX),
        probe,
        context,
        stress,
        period_us,
        blocks,
        calls_per_block,
        block_ms,
        interface,
        stack,
        writer_duty,
        stop,
    }
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
