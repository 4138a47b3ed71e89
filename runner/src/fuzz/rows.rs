// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a report says of fuzzing, recounted from the files of a run.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::across::{Across, Change, Outcome, compare};
use super::replay::Replay;
use super::stage::{self, CorpusJson, FuzzJson};
use super::summary::Summary;
use crate::base::error::Result;
use crate::keep::store::{Store, read_json};
use crate::spec::Role;
use crate::spec::plan::CellId;
use crate::spec::plan::fuzz::FuzzPlan;
use bakeoff_fuzz::stats::clopper_pearson;

/// Differences of each kind that a row lists; their number is whole.
const LISTED: usize = 50;

/// Fuzzing, as far as a run did it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FuzzReport {
    /// Campaigns: for each base one on the reference, then one on each candidate.
    pub campaigns: Vec<CampaignRow>,
    /// The campaign's corpus on each kernel.
    pub replays: Vec<ReplayRow>,
}

/// A campaign.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CampaignRow {
    /// Base name.
    pub base: String,
    /// Candidate name.
    pub candidate: String,
    /// Architecture name.
    pub arch: String,
    /// Profile name.
    pub profile: String,
    /// Boots.
    pub boots: u32,
    /// Files of the run, relative to it.
    pub evidence: Vec<String>,
    /// Seconds in which programs were run.
    pub seconds: f64,
    /// Programs run.
    pub execs: u64,
    /// Programs a second.
    pub execs_per_s: f64,
    /// System calls a second.
    pub calls_per_s: f64,
    /// Share of programs in which a BPF program ran.
    pub bpf_run_share: f64,
    /// Distinct addresses.
    pub pcs: u64,
    /// The same by folder of the kernel's tree.
    pub pcs_by_dir: BTreeMap<String, u64>,
    /// Titles of what was reported, by fingerprint.
    pub reports: BTreeMap<String, String>,
    /// Of a candidate's own campaign: what came of trying its findings again.
    #[serde(default)]
    pub tried: Vec<TriedRow>,
    /// Why there was no campaign.
    #[serde(default)]
    pub reason: Option<String>,
}

/// A finding of a candidate's own campaign, tried again there and on the reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TriedRow {
    /// Identity.
    pub fingerprint: String,
    /// Title.
    pub title: String,
    /// `introduced`, `present` or `undecided`.
    pub reading: String,
    /// On the candidate.
    pub candidate: Rate,
    /// On the reference.
    pub reference: Rate,
}

/// A corpus on one kernel, beside the reference's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplayRow {
    /// Base name.
    pub base: String,
    /// Candidate name.
    pub candidate: String,
    /// Architecture name.
    pub arch: String,
    /// Profile name.
    pub profile: String,
    /// What the candidate is for.
    pub role: Role,
    /// Boots.
    pub boots: u64,
    /// Files of the run, relative to it.
    pub evidence: Vec<String>,
    /// What it comes to.
    pub outcome: Outcome,
    /// Why it was not tried, or not compared.
    pub reason: Option<String>,
    /// Programs in the corpus.
    pub programs: u64,
    /// Programs that came to their end on both kernels, in every boot.
    pub compared: u64,
    /// How its boots ended.
    pub ends: Vec<String>,
    /// Programs that were in flight when a guest ended too early; the next one was run
    /// in another guest.
    #[serde(default)]
    pub ended_by: Vec<u32>,
    /// Reports of either kernel.
    pub reports: Vec<ReportRow>,
    /// Operations whose errno is another one than the reference's.
    pub errnos: u64,
    /// The first of them.
    pub errno_changes: Vec<Answer>,
    /// Lookups of stacks by build id that answer differently.
    pub lookups: u64,
    /// What the lookups that were compared answered.
    pub frames: Frames,
    /// The same on the reference.
    pub reference_frames: Frames,
    /// Operations that were not compared.
    pub unstable: u64,
    /// The first of them, with the reason.
    pub not_compared: Vec<Noise>,
    /// Distinct addresses of each patched function of this kernel; 0: not reached.
    pub functions: BTreeMap<String, u64>,
    /// Distinct addresses of each patched file.
    pub files: BTreeMap<String, u64>,
}

/// Frames of stacks that were looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Frames {
    /// With a build id.
    pub valid: u64,
    /// All of them.
    pub all: u64,
}

impl From<(u64, u64)> for Frames {
    fn from((valid, all): (u64, u64)) -> Frames {
        Frames { valid, all }
    }
}

/// A report of a kernel on replay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReportRow {
    /// Identity.
    pub fingerprint: String,
    /// Title.
    pub title: String,
    /// Who has it.
    pub change: Change,
    /// On the candidate.
    pub candidate: Rate,
    /// On the reference.
    pub reference: Rate,
}

/// Boots with something.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rate {
    /// Boots with it.
    pub boots: u64,
    /// Boots.
    pub of: u64,
    /// Lower bound of the rate at 95%.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

impl Rate {
    fn new((boots, of): (u64, u64)) -> Rate {
        let (low, high) = clopper_pearson(boots, of, crate::spec::CONFIDENCE)
            .map_or((0.0, 1.0), |interval| (interval.low, interval.high));
        Rate { boots, of, low, high }
    }
}

/// An operation that answers differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// Place of the program in the corpus.
    pub program: u32,
    /// Place of the operation in the program.
    pub op: u64,
    /// Errno on the reference; 0 is success, -1 no call.
    pub reference: i32,
    /// Errno on the candidate.
    pub candidate: i32,
}

/// An operation that was not compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Noise {
    /// Place of the program in the corpus.
    pub program: u32,
    /// Place of the operation in the program.
    pub op: u64,
    /// Errnos it answered.
    pub answers: Vec<i32>,
    /// Why it was not compared.
    pub why: String,
}

/// The rows of a run; what is not done yet is left out.
///
/// # Errors
/// A file of the run is broken.
pub fn report(store: &Store, plan: &FuzzPlan) -> Result<FuzzReport> {
    let mut report = FuzzReport::default();
    let mut bases: Vec<&str> = Vec::new();
    for group in plan.groups() {
        let Some(first) = group.first() else { continue };
        let base = first.id.base.as_str();
        let path = store.fuzz(base).join("corpus.json");
        if !path.is_file() {
            continue;
        }
        let programs = read_json::<CorpusJson>(&path)?.programs.len() as u64;
        if !bases.contains(&base) {
            bases.push(base);
            report.campaigns.extend(campaign(store, &first.id)?);
            for cell in group.iter().skip(1) {
                report.campaigns.extend(own(store, &cell.id)?);
            }
        }
        let reference = read(store, &first.id)?;
        for cell in group {
            if let Some(json) = read(store, &cell.id)? {
                let row = row(store, &cell.id, cell.role, programs, json, reference.as_ref());
                report.replays.push(row);
            }
        }
    }
    Ok(report)
}

fn read(store: &Store, id: &CellId) -> Result<Option<FuzzJson>> {
    let path = store.fuzz_json(id);
    path.is_file().then(|| read_json(&path)).transpose()
}

fn campaign(store: &Store, id: &CellId) -> Result<Option<CampaignRow>> {
    let Some(summary) = stage::summary(store, &id.base)? else { return Ok(None) };
    let dir = store.fuzz(&id.base);
    let evidence = ["summary.json", "corpus.json", "campaign"];
    let evidence = evidence.iter().map(|name| store.relative(&dir.join(name))).collect();
    Ok(Some(campaign_row(id, evidence, summary)))
}

fn campaign_row(id: &CellId, evidence: Vec<String>, summary: Summary) -> CampaignRow {
    let CellId { base, candidate, arch, profile } = id.clone();
    CampaignRow {
        base,
        candidate,
        arch,
        profile,
        boots: summary.boots,
        evidence,
        seconds: summary.seconds,
        execs: summary.execs,
        execs_per_s: summary.execs_per_s,
        calls_per_s: summary.calls_per_s,
        bpf_run_share: summary.bpf_run_share,
        pcs: summary.pcs,
        pcs_by_dir: summary.pcs_by_dir,
        reports: summary.findings.into_iter().map(|f| (f.fingerprint, f.title)).collect(),
        tried: Vec::new(),
        reason: None,
    }
}

/// A candidate's own campaign.
fn own(store: &Store, id: &CellId) -> Result<Option<CampaignRow>> {
    let Some(json) = stage::own(store, id)? else { return Ok(None) };
    let dir = store.fuzz(&id.base).join(&id.candidate);
    let evidence = vec![store.relative(&dir.join("own.json"))];
    let tried = json.found.iter().map(|found| {
        let stage::Found { fingerprint, title, reading, confirmed } = found;
        TriedRow {
            fingerprint: fingerprint.clone(),
            title: title.clone(),
            reading: reading.word().to_owned(),
            candidate: Rate::new(confirmed.again),
            reference: Rate::new(confirmed.reference.unwrap_or((0, 0))),
        }
    });
    let tried = tried.collect();
    let summary = json.summary.unwrap_or_default();
    let row = campaign_row(id, evidence, summary);
    Ok(Some(CampaignRow { tried, reason: json.not_tried, ..row }))
}

fn row(
    store: &Store,
    id: &CellId,
    role: Role,
    programs: u64,
    json: FuzzJson,
    reference: Option<&FuzzJson>,
) -> ReplayRow {
    let CellId { base, candidate, arch, profile } = id.clone();
    let mut row = ReplayRow {
        base,
        candidate,
        arch,
        profile,
        role,
        boots: 0,
        evidence: vec![store.relative(&store.fuzz_json(id))],
        outcome: Outcome::NotReached,
        reason: json.not_tried,
        programs,
        compared: 0,
        ends: Vec::new(),
        ended_by: Vec::new(),
        reports: Vec::new(),
        errnos: 0,
        errno_changes: Vec::new(),
        lookups: 0,
        frames: Frames::default(),
        reference_frames: Frames::default(),
        unstable: 0,
        not_compared: Vec::new(),
        functions: BTreeMap::new(),
        files: BTreeMap::new(),
    };
    let Some(replay) = json.replay else { return row };
    let Some(reference) = reference.and_then(|json| json.replay.as_ref()) else {
        row.reason = Some("there is no replay of the reference to compare with".into());
        return row;
    };
    let across = compare(reference, &replay);
    fill(&mut row, across, replay);
    let dir = store.cell(id).join("fuzz/boots");
    if dir.is_dir() {
        row.evidence.push(store.relative(&dir));
    }
    row
}

fn fill(row: &mut ReplayRow, across: Across, replay: Replay) {
    let Across { reports, errnos, lookups, unstable, compared, outcome, .. } = across;
    row.boots = replay.boots.len() as u64;
    let ended_by: BTreeSet<u32> =
        replay.boots.iter().flat_map(|boot| boot.ended_by.iter().copied()).collect();
    row.ended_by = ended_by.into_iter().collect();
    row.ends = replay.boots.into_iter().map(|boot| boot.end).collect();
    row.outcome = outcome;
    row.compared = compared as u64;
    row.reports = reports
        .into_iter()
        .map(|(fingerprint, report)| ReportRow {
            fingerprint,
            title: report.title,
            change: report.change,
            candidate: Rate::new(report.candidate),
            reference: Rate::new(report.reference),
        })
        .collect();
    row.errnos = errnos.len() as u64;
    row.errno_changes = errnos
        .into_iter()
        .take(LISTED)
        .map(|change| Answer {
            program: change.program,
            op: change.op as u64,
            reference: change.reference,
            candidate: change.candidate,
        })
        .collect();
    row.lookups = lookups.len() as u64;
    row.frames = across.candidate_valid.into();
    row.reference_frames = across.reference_valid.into();
    row.unstable = unstable.len() as u64;
    row.not_compared = unstable
        .into_iter()
        .take(LISTED)
        .map(|noise| Noise {
            program: noise.program,
            op: noise.op as u64,
            answers: noise.answers.into_iter().collect(),
            why: noise.why,
        })
        .collect();
    row.functions = replay.functions;
    row.files = replay.files;
}

impl ReplayRow {
    /// The outcome in words.
    #[must_use]
    pub fn words(&self) -> &'static str {
        match self.outcome {
            _ if self.reason.is_some() => "not tried",
            Outcome::Introduces => "new reports",
            Outcome::AnswersDiffer => "answers differ",
            Outcome::NothingDiffers if self.role == Role::Reference => "reference",
            Outcome::NothingDiffers => "nothing differs",
            Outcome::NotReached => "not reached",
        }
    }

    /// Reached and all patched functions.
    #[must_use]
    pub fn reached(&self) -> (usize, usize) {
        (self.functions.values().filter(|count| **count > 0).count(), self.functions.len())
    }

    /// For each title and change the report that most boots have, and how many more there
    /// are: a warning that comes from many places has a fingerprint for each.
    fn told_reports(&self) -> Vec<(&ReportRow, usize)> {
        let mut told: Vec<(&ReportRow, usize)> = Vec::new();
        for report in &self.reports {
            let same =
                |other: &ReportRow| other.title == report.title && other.change == report.change;
            let boots = |report: &ReportRow| (report.candidate.boots, report.reference.boots);
            match told.iter_mut().find(|(first, _)| same(first)) {
                Some((first, more)) => {
                    *more += 1;
                    if boots(report) > boots(first) {
                        *first = report;
                    }
                }
                None => told.push((report, 0)),
            }
        }
        told
    }

    /// What is to be said beside the numbers, a line each.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.reason.iter().cloned().collect();
        if !self.ended_by.is_empty() {
            let programs: Vec<String> = self.ended_by.iter().map(u32::to_string).collect();
            lines.push(format!(
                "guests ended early, with program {} in flight; those after it were run in \
                 another guest, at most three times",
                programs.join(", ")
            ));
        }
        for (report, more) in self.told_reports() {
            let ReportRow { title, change, candidate, reference, fingerprint } = report;
            let who = match change {
                Change::Introduced => "introduced by it",
                Change::Fixed => "the reference has it, it does not",
                // The reference beside itself says nothing new.
                Change::Everywhere => "present everywhere",
            };
            lines.push(format!(
                "{title}: {who}, in {} of {} boots ({} to {}%; the reference {} of {}) \
                 [{fingerprint}]{}",
                candidate.boots,
                candidate.of,
                (100.0 * candidate.low).round(),
                (100.0 * candidate.high).round(),
                reference.boots,
                reference.of,
                match more {
                    0 => String::new(),
                    1 => "; another of that title, with another stack".to_owned(),
                    more => format!("; {more} more of that title, with other stacks"),
                },
            ));
        }
        if let Some(first) = self.errno_changes.first() {
            lines.push(format!(
                "{} calls answer differently, the first (program {}, operation {}) errno {} \
                 instead of {}",
                self.errnos, first.program, first.op, first.candidate, first.reference
            ));
        }
        if self.lookups > 0 {
            let (ours, theirs) = (self.frames, self.reference_frames);
            lines.push(format!(
                "{} lookups answer differently: build ids in {} of {} frames, the reference's \
                 in {} of {}",
                self.lookups, ours.valid, ours.all, theirs.valid, theirs.all
            ));
        }
        let missed: Vec<&str> =
            self.functions.iter().filter(|f| *f.1 == 0).map(|f| f.0.as_str()).collect();
        if !missed.is_empty() {
            lines.push(format!("not reached: {}", missed.join(", ")));
        }
        if self.unstable > 0 {
            lines.push(format!("{} calls were not compared (noise)", self.unstable));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::fuzz::replay::{Boot, Replayed, Reproduced};
    use crate::keep::store::{VERSION, write_json};
    use crate::spec::plan::fuzz::FuzzCell;

    fn cell(candidate: &str, role: Role) -> FuzzCell {
        let id = CellId {
            base: "6.12".into(),
            candidate: candidate.into(),
            arch: "x86_64".into(),
            profile: "kcov".into(),
        };
        FuzzCell { id, role }
    }

    fn plan(cells: Vec<FuzzCell>) -> FuzzPlan {
        FuzzPlan { seconds: 1, boots: 2, programs: 9, seed: 1, cells }
    }

    fn replay(errno: i32, reports: &[&str]) -> Replay {
        let replayed =
            Replayed { errnos: vec![0, errno], bpf_runs: 1, pcs: 9, lookups: Vec::new() };
        let boot = Boot {
            end: "Ran".into(),
            replayed: BTreeMap::from([(0, replayed)]),
            debug_locks: Some(true),
            ..Boot::default()
        };
        let again = |title: &&str| {
            let again = Reproduced { title: (*title).to_owned(), boots: 2, of: 2, interval: None };
            ((*title).to_owned(), again)
        };
        Replay {
            cell: String::new(),
            boots: vec![boot.clone(), boot],
            reproduced: reports.iter().map(again).collect(),
            unstable: Vec::new(),
            reached: vec!["old_lookup".into()],
            not_reached: Vec::new(),
            functions: BTreeMap::from([("old_lookup".into(), 3)]),
            files: BTreeMap::new(),
            operations: BTreeMap::new(),
        }
    }

    /// Each kernel is set against the reference's boots; one that could not be
    /// built, or was not replayed yet, is no pass.
    #[test]
    fn rows_are_recounted_from_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("run")).unwrap();
        let plan = plan(vec![
            cell("landed", Role::Reference),
            cell("as-reported", Role::Control),
            cell("broken", Role::Contender),
            cell("later", Role::Contender),
        ]);
        assert_eq!(report(&store, &plan).unwrap(), FuzzReport::default());
        let corpus = CorpusJson { store_version: VERSION, programs: vec!["p".into()] };
        write_json(&store.fuzz("6.12").join("corpus.json"), &corpus).unwrap();
        let write = |cell: &FuzzCell, replay: Option<Replay>| {
            let not_tried = replay.is_none().then(|| "it does not build".to_owned());
            let json = FuzzJson { store_version: VERSION, not_tried, replay };
            write_json(&store.fuzz_json(&cell.id), &json).unwrap();
        };
        write(&plan.cells[1], Some(replay(22, &["WARNING in old_lookup"])));
        let alone = report(&store, &plan).unwrap();
        assert!(
            alone.replays[0].reason.is_some() && alone.replays[0].outcome == Outcome::NotReached
        );
        write(&plan.cells[0], Some(replay(0, &[])));
        write(&plan.cells[2], None);
        let rows = report(&store, &plan).unwrap().replays;
        let words: Vec<&str> = rows.iter().map(ReplayRow::words).collect();
        assert_eq!(words, ["reference", "new reports", "not tried"]);
        assert_eq!((rows[1].errnos, rows[1].compared, rows[1].reached()), (1, 1, (1, 1)));
        let rate = rows[1].reports[0].candidate;
        assert!(rate.low > 0.15 && rate.low < 0.16 && rate.boots == 2, "{rate:?}");
        assert!(rows[1].remarks()[0].contains("introduced by it"), "{:?}", rows[1].remarks());
    }

    /// One line for all the fingerprints of a title, with the boots of the most frequent.
    #[test]
    fn a_title_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("run")).unwrap();
        let plan = plan(vec![cell("landed", Role::Reference), cell("as-reported", Role::Control)]);
        let corpus = CorpusJson { store_version: VERSION, programs: vec!["p".into()] };
        write_json(&store.fuzz("6.12").join("corpus.json"), &corpus).unwrap();
        let mut control = replay(0, &["a", "b", "c"]);
        for (fingerprint, again) in &mut control.reproduced {
            again.title = "WARNING in old_lookup".into();
            again.boots = if fingerprint == "b" { 2 } else { 1 };
        }
        for (cell, replay) in plan.cells.iter().zip([replay(0, &[]), control]) {
            let json = FuzzJson { store_version: VERSION, not_tried: None, replay: Some(replay) };
            write_json(&store.fuzz_json(&cell.id), &json).unwrap();
        }
        let rows = report(&store, &plan).unwrap().replays;
        assert_eq!(rows[1].reports.len(), 3);
        let remarks = rows[1].remarks();
        let told: Vec<_> = remarks.iter().filter(|line| line.contains("old_lookup")).collect();
        assert_eq!(told.len(), 1, "{remarks:?}");
        assert!(told[0].contains("2 of 2") && told[0].contains("[b]; 2 more"), "{told:?}");
    }
}
