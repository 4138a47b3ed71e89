// SPDX-License-Identifier: MIT OR Apache-2.0
//! Run directory → report: nothing is measured here, everything is recounted.

pub mod calibrate;
pub mod compare;
pub mod report;
pub mod stats;
pub mod verify;
use crate::base::data::DataDir;
use crate::base::error::{Context, Result, exit_code};
use crate::fuzz::rows;
use crate::judge::compare::{
    ClaimState, GateState, RateRow, Settings, Subject, VerdictRow, compare,
};
use crate::judge::report::{FORMATS, Report};
use crate::keep::freeze;
use crate::keep::store::{RunJson, Store, read_json, write_whole};
use crate::see::assemble::observe_cell;
use crate::see::observation::Observation;

/// Recomputes the report of a run from its records and consoles. A run that is
/// not complete gives the report of what there is.
///
/// # Errors
/// `run.json` or the frozen spec is broken or was changed.
pub fn judge(store: &Store, data: &DataDir) -> Result<Report> {
    let run: RunJson = read_json(&store.run_json())?;
    let spec = freeze::thaw(store, &run, data)?;
    let observations: Vec<Observation> =
        run.plan.cells.iter().map(|cell| observe_cell(store, cell)).collect();
    let comparison = compare(&Subject::new(&spec, &run.plan), &observations, &Settings::default());
    let mut report = Report::new(&run, &spec, comparison);
    report.fuzz = run.fuzz.map(|plan| rows::report(store, &plan)).transpose()?;
    Ok(report)
}

/// Writes the report into the run, once in every format.
///
/// # Errors
/// Disk full.
pub fn write(store: &Store, report: &Report) -> Result<()> {
    for format in FORMATS {
        write_whole(&store.derived(format.file), format.render(report)?.as_bytes())?;
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

/// The exit code of a run without `--gate`: whether its verdicts were reached, and
/// its claims decided.
#[must_use]
pub fn verdict_code(report: &Report) -> u8 {
    let open = |row: &RateRow| row.claim.is_some_and(|claim| claim.state == ClaimState::Open);
    if report.verdicts.iter().any(VerdictRow::is_open) || report.rates.iter().any(open) {
        exit_code::INCONCLUSIVE
    } else {
        exit_code::OK
    }
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
