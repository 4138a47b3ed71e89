// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which cells a bake-off has, in which order, with which seeds. Pure.
//!
//! A cell is base × candidate × architecture × profile: one kernel, one or more
//! boots. Candidates are interleaved within base × architecture × profile so
//! that a drift of the machine favours none of them, and that group is what a
//! shard holds: hosts are never compared with each other.

use std::fmt;
use std::path::PathBuf;

use bakeoff_fuzz::wire::{Interface, Stack, Step, Stop, Stress};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::spec::{Probe, Role, Series, Spec, did_you_mean};

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
}

/// Everything a run will do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Root of all seeds.
    pub seed: u64,
    /// Cells in the order they are gone through.
    pub cells: Vec<Cell>,
    /// Steps each round of each cell does.
    pub steps: Vec<Step>,
}

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
}

impl Plan {
    /// The plan for a spec.
    ///
    /// # Errors
    /// A selected word the spec does not have.
    pub fn new(spec: &Spec, selection: &Selection, seed: u64) -> Result<Plan> {
        let archs = pick("architecture", &spec.architectures, &selection.archs)?;
        let profiles = pick("profile", &spec.profiles, &selection.profiles)?;
        let names: Vec<String> = spec.candidates.iter().map(|c| c.name.clone()).collect();
        let wanted = pick("candidate", &names, &selection.candidates)?;
        let mut steps = Vec::new();
        for (id, probe) in spec.probes.iter().enumerate() {
            let label = probe.label();
            let selected = |w: &String| label == *w || label.starts_with(&format!("{w}/"));
            if selection.probes.is_empty() || selection.probes.iter().any(selected) {
                steps.push(step(id, probe));
            }
        }
        for written in &selection.probes {
            let labels: Vec<String> = spec.probes.iter().map(Probe::label).collect();
            if !labels.iter().any(|l| l == written || l.starts_with(&format!("{written}/"))) {
                return Err(Error::bad_input(format!("the spec has no probe `{written}`"))
                    .hint(did_you_mean(written, labels.iter().map(String::as_str))));
            }
        }
        let mut cells = Vec::new();
        for base in &spec.bases {
            for profile in &profiles {
                for arch in &archs {
                    for candidate in &spec.candidates {
                        let role = candidate.role;
                        let idle = steps_of(role, &steps).next().is_none();
                        if idle || role == Role::Contender && !wanted.contains(&candidate.name) {
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
                            rounds: if role == Role::Reference { 2 } else { 1 },
                        });
                    }
                }
            }
        }
        Ok(Plan { seed, cells, steps })
    }
}

/// The steps that a candidate with this role does. A kernel with a planted fault
/// does those that have to find it: they need a mapping that changes.
pub fn steps_of(role: Role, steps: &[Step]) -> impl Iterator<Item = &Step> {
    steps.iter().filter(move |step| match role {
        Role::Reference | Role::Control | Role::Contender => true,
        Role::Sensitivity => step.stress == Stress::Flip,
    })
}

fn step(id: usize, probe: &Probe) -> Step {
    let Probe { probe, context, stress, period_us, blocks, calls_per_block, block_ms } =
        probe.clone();
    let id = u32::try_from(id).unwrap_or(u32::MAX);
    Step {
        id,
        probe,
        context,
        stress,
        period_us,
        blocks,
        calls_per_block,
        block_ms,
        interface: Interface::default(),
        stack: Stack::default(),
        writer_duty: None,
        stop: Stop::default(),
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
mod tests {
    use super::*;
    use crate::data::DataDir;
    use std::path::Path;

    fn spec() -> Spec {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../patches/find-vma");
        Spec::load(&dir, &DataDir::embedded()).unwrap()
    }

    fn select(candidates: &[&str], probes: &[&str]) -> Selection {
        let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect();
        Selection { candidates: words(candidates), probes: words(probes), ..Selection::default() }
    }

    /// Candidates stand side by side within an architecture, so that a drift of the
    /// machine favours none, and the reference is run twice.
    #[test]
    fn candidates_are_interleaved_and_the_reference_is_run_twice() {
        let plan = Plan::new(&spec(), &Selection::default(), 1).unwrap();
        let archs: Vec<&str> = plan.cells.iter().map(|c| c.id.arch.as_str()).collect();
        assert_eq!(archs, [["x86_64"; 8], ["arm64"; 8]].concat());
        for cell in &plan.cells {
            assert_eq!(cell.rounds, if cell.role == Role::Reference { 2 } else { 1 });
        }
    }

    /// Selecting a contender keeps what it is compared with.
    #[test]
    fn reference_and_control_are_always_kept() {
        let plan = Plan::new(&spec(), &select(&["peter-removal"], &[]), 1).unwrap();
        let names: Vec<&str> = plan.cells.iter().take(3).map(|c| c.id.candidate.as_str()).collect();
        assert_eq!(names, ["landed", "as-reported", "peter-removal"]);
    }

    /// A kernel with a planted fault is there for the probe that has to find it,
    /// and does nothing else.
    #[test]
    fn the_planted_fault_is_looked_for_only_where_it_can_be_found() {
        let has = |plan: &Plan| plan.cells.iter().any(|cell| cell.role == Role::Sensitivity);
        let all = Plan::new(&spec(), &Selection::default(), 1).unwrap();
        assert!(has(&all));
        let did: Vec<&str> =
            steps_of(Role::Sensitivity, &all.steps).map(|step| step.probe.as_str()).collect();
        assert!(!did.is_empty() && did.iter().all(|probe| *probe == "flip"));
        assert!(!has(&Plan::new(&spec(), &select(&[], &["build_id"]), 1).unwrap()));
        assert!(has(&Plan::new(&spec(), &select(&["lockless-tree"], &["flip"]), 1).unwrap()));
    }

    /// A step keeps its number when only some are selected, so that runs can be compared.
    #[test]
    fn steps_keep_their_numbers() {
        let plan = Plan::new(&spec(), &select(&[], &["build_id/hardirq"]), 1).unwrap();
        let all = Plan::new(&spec(), &Selection::default(), 1).unwrap();
        assert_eq!(plan.steps.len(), 1);
        assert!(all.steps.contains(&plan.steps[0]) && plan.steps[0].id > 0);
    }

    /// A misspelt word names the nearest one.
    #[test]
    fn misspelt_selections_get_a_suggestion() {
        for selection in [select(&["peter-remove"], &[]), select(&[], &["build_id/hardriq"])] {
            let error = Plan::new(&spec(), &selection, 1).unwrap_err();
            assert!(error.next_step().unwrap().contains("did you mean"), "{error:?}");
        }
    }

    /// Seeds differ between boots and cells, and follow from the root seed alone.
    #[test]
    fn seeds_are_reproducible_and_different() {
        let plan = Plan::new(&spec(), &Selection::default(), 1).unwrap();
        let (one, two) = (&plan.cells[0].id, &plan.cells[1].id);
        assert_eq!(boot_seed(1, one, "0-000"), boot_seed(1, one, "0-000"));
        assert_ne!(boot_seed(1, one, "0-000"), boot_seed(1, two, "0-000"));
        assert_ne!(boot_seed(1, one, "0-000"), boot_seed(1, one, "0-001"));
        assert_ne!(boot_seed(1, one, "0-000"), boot_seed(2, one, "0-000"));
    }
}
