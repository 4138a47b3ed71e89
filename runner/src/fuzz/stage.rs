// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzing as a stage of a run: for each base a campaign on the reference and one on
//! each candidate, then all they kept, in one order, on every candidate and architecture.
//!
//! ```text
//! RUN/fuzz/<base>/campaign/           corpus, findings and consoles of the campaign
//! RUN/fuzz/<base>/summary.json        what it came to
//! RUN/fuzz/<base>/<candidate>/        a campaign on that candidate; own.json is its result
//! RUN/fuzz/<base>/corpus.json         the programs that are replayed, in order
//! RUN/cells/<cell>/fuzz.json          what one kernel made of them
//! RUN/cells/<cell>/fuzz/              its consoles
//! ```
//!
//! Each file completes a part, so that going on with an interrupted run is the
//! same code. A kernel that cannot be built is a result; a guest that the
//! emulator lost is not, and its boot does not count.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bakeoff_fuzz::program::text;
use serde::{Deserialize, Serialize};

use super::bench::{self, Bench, Subject};
use super::campaign::{Campaign, fuzz, read_programs};
use super::replay::{Replay, replay};
use super::reproduce::{self, Confirmed, Effort, Reading};
use super::summary::Summary;
use crate::base::error::{Context, Error, Result};
use crate::keep::freeze;
use crate::keep::store::{KernelOutcome, RunJson, Store, VERSION, read_json, write_json};
use crate::run::{Machinery, Tools};
use crate::spec::Spec;
use crate::spec::plan::CellId;
use crate::spec::plan::fuzz::{FuzzCell, FuzzPlan};

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

/// What a campaign on a candidate came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnJson {
    /// Version of the store.
    pub store_version: u32,
    /// Why there was none.
    pub not_tried: Option<String>,
    /// The campaign.
    pub summary: Option<Summary>,
    /// What it found, tried again.
    pub found: Vec<Found>,
}

/// A finding, tried again here and on the reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// Identity.
    pub fingerprint: String,
    /// Title.
    pub title: String,
    /// What that says of the patch.
    pub reading: Reading,
    /// The numbers.
    pub confirmed: Confirmed,
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
        let programs = stage.corpus(&base.name, &first.id, &cells)?;
        for cell in &cells {
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

    /// The programs of a base: those of the spec, and what campaigns make of them, first
    /// one on the reference and then one on each candidate, for no coverage of another
    /// kernel guides towards the code that a patch adds.
    fn corpus(&self, base: &str, id: &CellId, cells: &[&FuzzCell]) -> Result<Vec<String>> {
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
        let mut lists = vec![read_programs(&kept, self.tools)?];
        if self.plan.seconds > 0 {
            let own = cells.iter().filter(|cell| cell.id != *id && cell.id.arch == id.arch);
            for cell in own {
                self.own(&cell.id, id, &kept)?;
                let corpus = self.store.fuzz(base).join(&cell.id.candidate).join("corpus");
                if corpus.is_dir() {
                    lists.push(read_programs(&corpus, self.tools)?);
                }
            }
        }
        let programs = union(lists, self.plan.programs);
        if programs.is_empty() {
            return Err(Error::failure(format!("the campaign on {id} kept no program"))
                .hint(format!("its consoles are in {}", out.display())));
        }
        write_json(&path, &CorpusJson { store_version: VERSION, programs: programs.clone() })?;
        Ok(programs)
    }

    /// A campaign on a candidate, and its findings tried on the reference at once.
    fn own(&self, id: &CellId, reference: &CellId, seeds: &Path) -> Result<()> {
        let dir = self.store.fuzz(&id.base).join(&id.candidate);
        let path = dir.join("own.json");
        if path.is_file() {
            return Ok(());
        }
        if dir.is_dir() {
            fs::remove_dir_all(&dir).at_path("remove", &dir)?;
        }
        fs::create_dir_all(&dir).at_path("create", &dir)?;
        let none = |not_tried: String| OwnJson {
            store_version: VERSION,
            not_tried: Some(not_tried),
            summary: None,
            found: Vec::new(),
        };
        let bench = match self.bench(id)? {
            Ok(bench) => bench,
            Err(outcome) => return write_json(&path, &none(bench::why(&outcome))),
        };
        let stock = self.bench(reference)?.map_err(|outcome| {
            Error::bad_input(format!("the reference has no kernel: {}", bench::why(&outcome)))
        })?;
        let campaign = Campaign {
            seconds: self.plan.seconds,
            seed: self.plan.seed.wrapping_add(1),
            out: dir.clone(),
            corpus: None,
            seeds: Some(seeds.to_owned()),
            until_finding: false,
        };
        let summary = fuzz(&bench, &campaign, self.tools)?;
        if let Some(said) = &summary.did_not_boot {
            return write_json(&path, &none(format!("it does not boot; it last said: {said}")));
        }
        let background: BTreeSet<String> = self::summary(self.store, &id.base)?
            .into_iter()
            .flat_map(|summary| summary.findings)
            .map(|finding| finding.fingerprint)
            .collect();
        let mut found = Vec::new();
        for finding in summary.findings.iter().filter(|finding| !finding.secondary).take(TRIED) {
            let effort = Effort { boots: self.plan.boots.max(2), ..Effort::default() };
            let reference = Some(&stock);
            let confirmed = reproduce::confirm(
                &bench,
                reference,
                finding,
                &background,
                effort,
                &dir,
                self.tools,
            )?;
            found.push(Found {
                fingerprint: finding.fingerprint.clone(),
                title: finding.title.clone(),
                reading: confirmed.reading(),
                confirmed,
            });
        }
        let summary = Some(summary);
        write_json(&path, &OwnJson { store_version: VERSION, not_tried: None, summary, found })
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
        let mut replay = replay(&bench, programs, self.plan.boots, &out, self.tools)?;
        // Of the others there are a hundred.
        replay.operations.retain(|file, _| bench.patched_files.contains(file));
        let json = FuzzJson { store_version: VERSION, not_tried: None, replay: Some(replay) };
        write_json(&path, &json)
    }
}

/// Findings of a candidate's campaign that are tried again.
const TRIED: usize = 6;

/// Programs of several corpora, each once: by turns, so that none fills the list.
fn union(lists: Vec<Vec<String>>, most: usize) -> Vec<String> {
    let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
    let mut programs: Vec<String> = Vec::new();
    let mut seen = BTreeSet::new();
    for at in 0..longest {
        for program in lists.iter().filter_map(|list| list.get(at)) {
            if programs.len() < most && seen.insert(program) {
                programs.push(program.clone());
            }
        }
    }
    programs
}

/// What a candidate's own campaign came to, if there was one.
///
/// # Errors
/// Its file is broken.
pub fn own(store: &Store, id: &CellId) -> Result<Option<OwnJson>> {
    let path = store.fuzz(&id.base).join(&id.candidate).join("own.json");
    path.is_file().then(|| read_json(&path)).transpose()
}

/// What a base's campaign came to, if there was one.
///
/// # Errors
/// Its file is broken.
pub fn summary(store: &Store, base: &str) -> Result<Option<Summary>> {
    let path = store.fuzz(base).join("summary.json");
    path.is_file().then(|| read_json(&path)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Corpora take turns, and what two of them have is replayed once.
    #[test]
    fn corpora_take_turns() {
        let list = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let lists = || vec![list("a b c d"), list("x b y")];
        assert_eq!(union(lists(), 10), list("a x b c y d"));
        assert_eq!(union(lists(), 3), list("a x b"));
        assert!(union(Vec::new(), 3).is_empty());
    }
}
