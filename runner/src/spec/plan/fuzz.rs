// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run does of a spec's `fuzz:` section. Pure.

use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};
use crate::spec::plan::{CellId, Selection};
use crate::spec::{Fuzz, Role, Spec, When};

/// A kernel that replays the corpus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FuzzCell {
    /// Its name.
    pub id: CellId,
    /// What its candidate is for.
    pub role: Role,
}

/// What is to be fuzzed, as `run.json` keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FuzzPlan {
    /// Seconds of fuzzing, for each base.
    pub seconds: u32,
    /// Boots in which each kernel replays the corpus.
    pub boots: u32,
    /// Programs that are replayed at most.
    pub programs: usize,
    /// Seed of everything random.
    pub seed: u32,
    /// Kernels, the ones that are fuzzed first: for each base the reference on the
    /// first architecture.
    pub cells: Vec<FuzzCell>,
}

impl FuzzPlan {
    /// The plan, if the section is to be carried out: `asked` is `--fuzz`.
    ///
    /// # Errors
    /// It is asked for and the spec has no such section.
    pub fn new(spec: &Spec, selection: &Selection, asked: bool, seed: u64) -> Result<Option<Self>> {
        let Some(fuzz) = &spec.fuzz else {
            return if asked {
                Err(Error::bad_input(format!("{} has no `fuzz:` section", spec.file.display()))
                    .hint("`bakeoff fuzz` fuzzes a kernel without one"))
            } else {
                Ok(None)
            };
        };
        let by_itself = match fuzz.when {
            When::Always => !selection.quick,
            When::Asked => false,
        };
        if !asked && !by_itself {
            return Ok(None);
        }
        let Fuzz { seconds, boots, programs, profile, candidates, architectures, .. } = fuzz;
        let selected = |list: &[String], word: &String| list.is_empty() || list.contains(word);
        let mut cells = Vec::new();
        for base in &spec.bases {
            for arch in architectures.iter().filter(|arch| selected(&selection.archs, arch)) {
                // Series that were added take part as contenders do.
                let added = spec.candidates.iter().filter(|c| c.added).map(|c| &c.name);
                for name in candidates.iter().chain(added) {
                    let Some(candidate) = spec.candidates.iter().find(|c| c.name == *name) else {
                        continue;
                    };
                    let role = candidate.role;
                    if role == Role::Contender && !selected(&selection.candidates, name) {
                        continue;
                    }
                    let id = CellId {
                        base: base.name.clone(),
                        candidate: name.clone(),
                        arch: arch.clone(),
                        profile: profile.clone(),
                    };
                    cells.push(FuzzCell { id, role });
                }
            }
        }
        let (seconds, boots, programs) = (*seconds, *boots, *programs);
        let seed = u32::try_from(seed & 0x7fff_ffff).unwrap_or(1);
        Ok((!cells.is_empty()).then_some(Self { seconds, boots, programs, seed, cells }))
    }

    /// The cells of one base and architecture that are compared, with the one they
    /// are compared with first.
    #[must_use]
    pub fn groups(&self) -> Vec<Vec<&FuzzCell>> {
        let mut groups: Vec<Vec<&FuzzCell>> = Vec::new();
        for cell in &self.cells {
            let key = |cell: &FuzzCell| (cell.id.base.clone(), cell.id.arch.clone());
            match groups.iter_mut().find(|group| group.first().is_some_and(|c| key(c) == key(cell)))
            {
                Some(group) => group.push(cell),
                None => groups.push(vec![cell]),
            }
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::base::data::DataDir;

    fn spec(section: &str) -> Spec {
        let dir = tempfile::tempdir().unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/spec/valid");
        let text = std::fs::read_to_string(from.join("smallest.yaml")).unwrap();
        let file = dir.path().join("bakeoff.yaml");
        std::fs::write(&file, text + section).unwrap();
        Spec::load(&file, &DataDir::embedded()).unwrap()
    }

    /// Without a section nothing changes; with one it is part of a run, but not of
    /// a quick one; and asking for what is not there is an error.
    #[test]
    fn the_section_decides() {
        let quick = Selection { quick: true, ..Selection::default() };
        let all = Selection::default();
        let without = spec("");
        assert_eq!(FuzzPlan::new(&without, &all, false, 1).unwrap(), None);
        assert!(FuzzPlan::new(&without, &all, true, 1).is_err());
        let always = spec("\nfuzz: {seconds: 20}\n");
        let plan = FuzzPlan::new(&always, &all, false, 7).unwrap().unwrap();
        assert_eq!((plan.seconds, plan.boots, plan.seed), (20, 2, 7));
        assert_eq!(plan.cells[0].role, Role::Reference);
        assert_eq!(plan.cells[0].id.profile, "kcov");
        assert_eq!(FuzzPlan::new(&always, &quick, false, 1).unwrap(), None);
        assert!(FuzzPlan::new(&always, &quick, true, 1).unwrap().is_some());
        let asked = spec("\nfuzz: {seconds: 20, when: asked}\n");
        assert_eq!(FuzzPlan::new(&asked, &all, false, 1).unwrap(), None);
        assert!(FuzzPlan::new(&asked, &all, true, 1).unwrap().is_some());
    }
}
