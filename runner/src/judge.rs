// SPDX-License-Identifier: MIT OR Apache-2.0
//! Run directory → report: nothing is measured here, everything is recounted.

pub mod calibrate;
pub mod claims;
pub mod compare;
pub mod mutants;
pub mod report;
pub mod row;
pub mod steer;
pub mod verify;
use std::collections::BTreeMap;
use std::path::Path;

use crate::base::data::DataDir;
use crate::base::error::{Context, Result, exit_code};
use crate::fuzz::rows;
use crate::judge::compare::{Comparison, Subject, compare, untested};
use crate::judge::report::{
    CandidateInfo, ClaimInfo, FORMATS, How, PatchInfo, Report, Run, SCHEMA_VERSION, SeriesInfo,
};
use crate::judge::row::{CellEnd, ClaimReading, GateState, Verdict};
use crate::keep::freeze;
use crate::keep::store::{RunJson, Store, read_json, write_whole};
use crate::make::source::series;
use crate::see::assemble::observe_cell;
use crate::see::observation::Observation;
use crate::series::{Described, DescribedPatch, described_in};
use crate::spec::{CONFIDENCE, Role, Spec, declared, margin_words};

/// Recomputes the report of a run from its records and consoles. A run that is
/// not complete gives the report of what there is.
///
/// # Errors
/// `run.json` or the frozen spec is broken or was changed.
pub fn judge(store: &Store, data: &DataDir) -> Result<Report> {
    let run: RunJson = read_json(&store.run_json())?;
    let spec = freeze::thaw(store, &run, data)?;
    let seen: Vec<Observation> =
        run.plan.cells.iter().map(|cell| observe_cell(store, cell)).collect();
    let subject = Subject::new(&spec, &run.plan);
    let comparison = compare(&subject, &seen);
    let info = describe(store, &run, &spec, &seen, &comparison);
    let Comparison {
        cells,
        claims,
        measures,
        visits,
        wrong,
        splats,
        blind,
        verdicts,
        gates,
        predictions,
        mut not_tested,
    } = comparison;
    // First: on a short page the end goes.
    not_tested.splice(0..0, untested::left_out(&run.left_out));
    Ok(Report {
        schema_version: SCHEMA_VERSION,
        tool: run.tool.clone(),
        run: info,
        environment: run.environment.clone(),
        verdicts,
        claims,
        measures,
        visits,
        wrong,
        splats,
        blind,
        cells,
        gates,
        predictions,
        not_tested,
        fuzz: run.fuzz.map(|plan| rows::report(store, &plan)).transpose()?,
    })
}

/// What was done, for the head of the report.
fn describe(
    store: &Store,
    run: &RunJson,
    spec: &Spec,
    seen: &[Observation],
    found: &Comparison,
) -> Run {
    let boots = || seen.iter().flat_map(|seen| &seen.boots);
    let waiting = found.cells.iter().filter(|cell| cell.end == CellEnd::Waiting).count();
    let interim = (waiting > 0)
        .then(|| format!("{waiting} of {} kernels are not done yet", found.cells.len()));
    let mut words: [Vec<String>; 2] = [Vec::new(), Vec::new()];
    for cell in &run.plan.cells {
        for (list, word) in words.iter_mut().zip([&cell.id.arch, &cell.id.profile]) {
            if !list.contains(word) {
                list.push(word.clone());
            }
        }
    }
    let [architectures, profiles] = words;
    let claim = |planned: &crate::spec::plan::PlannedClaim| {
        let claim = &planned.claim;
        let metric = declared(&claim.metric)?;
        Some(ClaimInfo {
            name: claim.name.clone(),
            question: claim.question.clone(),
            means: metric.means.to_owned(),
            margin: margin_words(claim.margin, metric.kind),
            by_default: claim.by_default,
        })
    };
    let candidate = |candidate: &crate::spec::Candidate| {
        let cell = run.plan.cells.iter().find(|cell| cell.id.candidate == candidate.name)?;
        let patches: Vec<_> = cell.patches.iter().map(|patch| store.root().join(patch)).collect();
        let (touches, lines) = series::extent(&patches);
        Some(CandidateInfo {
            name: candidate.name.clone(),
            role: candidate.role,
            title: candidate.title.clone(),
            touches,
            lines,
            series: patches.first().and_then(|patch| series_info(patch.parent()?)),
        })
    };
    let bases: BTreeMap<String, String> =
        run.bases.iter().map(|(name, base)| (name.clone(), base.to_string())).collect();
    Run {
        bakeoff: run.bakeoff.clone(),
        title: spec.title.clone(),
        thread: spec.thread.clone(),
        started: run.started.clone(),
        interim,
        spec_sha256: run.spec_sha256.clone(),
        seed: run.plan.seed,
        bases,
        candidates: spec.candidates.iter().filter_map(candidate).collect(),
        architectures,
        profiles,
        claims: run.plan.claims.iter().filter_map(claim).collect(),
        confidence: CONFIDENCE,
        budget_minutes: run.plan.budget_seconds.map(|seconds| seconds as f64 / 60.0),
        // An empty sum is a negative zero.
        boot_minutes: (boots().map(|boot| boot.seconds).sum::<f64>() / 6.0).round() / 10.0 + 0.0,
        visits: boots().map(|boot| boot.visits.len() as u64).sum(),
    }
}

/// What is known of the series in a folder of the run.
fn series_info(dir: &Path) -> Option<SeriesInfo> {
    let Described { source, version, subject, message_id, patches, base } = described_in(dir)?;
    let patch =
        |patch: DescribedPatch| PatchInfo { subject: patch.subject, message_id: patch.message_id };
    Some(SeriesInfo {
        source,
        version,
        subject,
        message_id,
        patches: patches.into_iter().map(patch).collect(),
        base: base.describe().lines().map(str::to_owned).collect(),
    })
}

/// Claims of contenders that are open, in words.
fn open_words(report: &Report) -> String {
    let contender = |name: &str| {
        report.run.candidates.iter().any(|c| c.name == name && c.role == Role::Contender)
    };
    let rows = || report.claims.iter().filter(|row| contender(&row.place.candidate));
    let open = rows().filter(|row| row.reading == ClaimReading::Open).count();
    format!("{open} of {} claims open", rows().count())
}

/// Writes the report into the run, once in every format.
///
/// # Errors
/// Disk full.
pub fn write(store: &Store, report: &Report) -> Result<()> {
    for format in FORMATS {
        let how = How { full: false, run: Some(store.root()) };
        write_whole(&store.derived(format.file), format.render(report, &how)?.as_bytes())?;
    }
    Ok(())
}

/// The JSON Schema of report.json, as text.
///
/// # Errors
/// Never, as far as is known: a schema is always JSON.
pub fn schema_text() -> Result<String> {
    let schema = serde_json::to_string_pretty(&crate::judge::report::schema());
    schema.map(|text| text + "\n").context(|| "write the schema".into())
}

/// The exit code of a run without `--gate`: whether its verdicts were reached.
#[must_use]
pub fn verdict_code(report: &Report) -> u8 {
    let open = |row: &row::VerdictRow| {
        row.role == Role::Contender && row.verdict == Verdict::Open && !row.declared
    };
    if report.verdicts.iter().any(open) { exit_code::INCONCLUSIVE } else { exit_code::OK }
}

/// The exit code with `--gate`: a gate that failed, else one that could not be
/// decided, else success.
#[must_use]
pub fn gate_code(report: &Report) -> u8 {
    let any = |state| report.gates.iter().any(|gate| gate.state == state);
    if any(GateState::Failed) {
        exit_code::GATE_FAILED
    } else if any(GateState::Undecided) {
        exit_code::INCONCLUSIVE
    } else {
        exit_code::OK
    }
}
