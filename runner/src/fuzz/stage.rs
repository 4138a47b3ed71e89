// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzing as a stage of a run: for each base a campaign on the reference, then
//! its corpus, in one order, on every candidate and architecture.
//!
//! ```text
//! RUN/fuzz/<base>/campaign/           corpus, findings and consoles of the campaign
//! RUN/fuzz/<base>/summary.json        what it came to
//! RUN/fuzz/<base>/corpus.json         the programs that are replayed, in order
//! RUN/cells/<cell>/fuzz.json          what one kernel made of them
//! RUN/cells/<cell>/fuzz/              its consoles
//! ```
//!
//! Each file completes a part, so that going on with an interrupted run is the
//! same code. A kernel that cannot be built is a result; a guest that the
//! emulator lost is not, and its boot does not count.

use std::fs;
use std::path::Path;

use bakeoff_fuzz::program::text;
use serde::{Deserialize, Serialize};

use super::bench::{self, Bench, Subject};
use super::campaign::{Campaign, fuzz, read_programs};
use super::plan::{FuzzCell, FuzzPlan};
use super::replay::{Replay, replay};
use super::summary::Summary;
use crate::base::error::{Context, Error, Result};
use crate::keep::freeze;
use crate::keep::store::{KernelOutcome, RunJson, Store, VERSION, read_json, write_json};
use crate::run::{Machinery, Tools};
use crate::spec::Spec;
use crate::spec::plan::CellId;

/// The programs of a base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusJson {
    /// Version of the store.
    pub store_version: u32,
    /// The programs, in the order in which they are replayed.
    pub programs: Vec<String>,
}

/// What a kernel made of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FuzzJson {
    /// Version of the store.
    pub store_version: u32,
    /// Why it was not tried.
    pub not_tried: Option<String>,
    /// Its boots.
    pub replay: Option<Replay>,
}

/// Does what is not done yet of a run's fuzzing.
///
/// # Errors
/// Ours; what was done stays.
pub fn carry_out(
    store: &Store,
    run: &RunJson,
    machinery: &Machinery,
    tools: &Tools<'_>,
) -> Result<()> {
    let Some(plan) = &run.fuzz else { return Ok(()) };
    let spec = freeze::thaw(store, run, tools.data)?;
    let stage = Stage { store, run, plan, spec: &spec, machinery, tools };
    for base in &spec.bases {
        let cells: Vec<&FuzzCell> =
            plan.cells.iter().filter(|cell| cell.id.base == base.name).collect();
        let Some(first) = cells.first() else { continue };
        let programs = stage.corpus(&base.name, &first.id)?;
        for cell in cells {
            stage.cell(&cell.id, &programs)?;
        }
    }
    Ok(())
}

struct Stage<'a> {
    store: &'a Store,
    run: &'a RunJson,
    plan: &'a FuzzPlan,
    spec: &'a Spec,
    machinery: &'a Machinery,
    tools: &'a Tools<'a>,
}

impl Stage<'_> {
    fn bench(&self, id: &CellId) -> Result<Result<Bench, KernelOutcome>> {
        let subject = Subject {
            spec: self.store.spec_dir(),
            base: Some(id.base.clone()),
            candidate: id.candidate.clone(),
            arch: id.arch.clone(),
            profile: id.profile.clone(),
            extra: Vec::new(),
        };
        let dir = self.store.cell(id);
        fs::create_dir_all(&dir).at_path("create", &dir)?;
        let source = self.run.bases.get(&id.base);
        let log = self.store.build_log(id);
        Bench::of(self.spec, source, &subject, self.machinery, &log, self.tools)
    }

    /// The programs of a base: those of the spec, and what a campaign makes of them.
    fn corpus(&self, base: &str, id: &CellId) -> Result<Vec<String>> {
        let dir = self.store.fuzz(base);
        let path = dir.join("corpus.json");
        if path.is_file() {
            return Ok(read_json::<CorpusJson>(&path)?.programs);
        }
        let out = dir.join("campaign");
        if out.is_dir() {
            // Half of a campaign is none.
            fs::remove_dir_all(&out).at_path("remove", &out)?;
        }
        let kept = out.join("corpus");
        fs::create_dir_all(&kept).at_path("create", &kept)?;
        let given = self.spec.fuzz.iter().flat_map(|fuzz| &fuzz.programs_given);
        for path in given {
            self.copy(path, &kept)?;
        }
        if self.plan.seconds > 0 {
            let bench = self.bench(id)?.map_err(|outcome| {
                Error::bad_input(format!("the reference has no kernel: {}", bench::why(&outcome)))
            })?;
            let campaign = Campaign {
                seconds: self.plan.seconds,
                seed: self.plan.seed,
                out: out.clone(),
                corpus: Some(kept.clone()),
                seeds: None,
                until_finding: false,
            };
            let summary = fuzz(&bench, &campaign, self.tools)?;
            write_json(&dir.join("summary.json"), &summary)?;
        }
        let mut programs = read_programs(&kept, self.tools)?;
        programs.truncate(self.plan.programs);
        if programs.is_empty() {
            return Err(Error::failure(format!("the campaign on {id} kept no program"))
                .hint(format!("its consoles are in {}", out.display())));
        }
        write_json(&path, &CorpusJson { store_version: VERSION, programs: programs.clone() })?;
        Ok(programs)
    }

    /// Copies a program of the spec's; one that is none is left out with a warning.
    fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        let bytes = fs::read(from).at_path("read", from)?;
        match text::read(&bytes) {
            Ok(_) => {
                let to = to.join(from.file_name().unwrap_or_default());
                fs::write(&to, bytes).at_path("write", &to)
            }
            Err(why) => {
                let warning = format!("{}: {why}; it is skipped", from.display());
                self.tools.events.warning(warning);
                Ok(())
            }
        }
    }

    /// The corpus on one kernel.
    fn cell(&self, id: &CellId, programs: &[String]) -> Result<()> {
        let path = self.store.fuzz_json(id);
        if path.is_file() {
            return Ok(());
        }
        let bench = match self.bench(id)? {
            Ok(bench) => bench,
            Err(outcome) => {
                let not_tried = Some(bench::why(&outcome));
                let json = FuzzJson { store_version: VERSION, not_tried, replay: None };
                return write_json(&path, &json);
            }
        };
        let out = self.store.cell(id).join("fuzz");
        let replay = replay(&bench, programs, self.plan.boots, &out, self.tools)?;
        let json = FuzzJson { store_version: VERSION, not_tried: None, replay: Some(replay) };
        write_json(&path, &json)
    }
}

/// What a base's campaign came to, if there was one.
///
/// # Errors
/// Its file is broken.
pub fn summary(store: &Store, base: &str) -> Result<Option<Summary>> {
    let path = store.fuzz(base).join("summary.json");
    path.is_file().then(|| read_json(&path)).transpose()
}
