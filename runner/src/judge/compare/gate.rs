// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks the rows what a gate insists on, and whether a prediction came true.

use std::collections::BTreeSet;

use bakeoff_fuzz::stats::upper_bound;

use super::words::{Round, counted, percent};
use super::{Comparison, Subject};
use crate::base::words::word;
use crate::judge::row::{
    CellEnd, GateRow, GateState, MeasureRow, Place, PredictionRow, SplatReading, ValueKind,
    Verdict, VerdictRow, WrongReading,
};
use crate::spec::plan::selects;
use crate::spec::{Gate, Role};

/// The spec's gates, asked of every contender that could exist.
pub(super) fn ask(subject: &Subject<'_>, found: &Comparison) -> Vec<GateRow> {
    let mut rows = Vec::new();
    for verdict in found.verdicts.iter().filter(|v| v.role == Role::Contender && !v.declared) {
        for gate in subject.gates {
            let (state, reason) = answer(gate, verdict, found);
            rows.push(GateRow {
                place: verdict.place.clone(),
                name: gate.name(),
                gate: gate.clone(),
                state,
                reason,
            });
        }
    }
    rows
}

/// The spec's predictions, on each base and architecture.
pub(super) fn predict(subject: &Subject<'_>, found: &Comparison) -> Vec<PredictionRow> {
    let mut rows = Vec::new();
    for prediction in subject.predictions {
        let about = found.verdicts.iter().filter(|v| v.place.candidate == prediction.candidate);
        for verdict in about {
            let (state, reason) = if verdict.declared {
                (GateState::Undecided, "not portable to this base".to_owned())
            } else {
                answer(&prediction.holds_if, verdict, found)
            };
            rows.push(PredictionRow {
                place: verdict.place.clone(),
                says: prediction.says.clone(),
                amended: prediction.amended.clone(),
                state,
                reason,
            });
        }
    }
    rows
}

type Answer = (GateState, String);

fn answer(gate: &Gate, at: &VerdictRow, found: &Comparison) -> Answer {
    match gate {
        Gate::NoNewSplats => no_splats(&[SplatReading::Introduced], &at.place, found),
        Gate::ControlSplatRemoved => match at.control_splat {
            Some(crate::judge::row::ControlSplat::Gone) => (GateState::Passed, "gone".into()),
            Some(crate::judge::row::ControlSplat::Present) => {
                (GateState::Failed, "still there".into())
            }
            Some(crate::judge::row::ControlSplat::Unclear) => {
                (GateState::Undecided, "cannot tell whether it is gone".into())
            }
            None => (GateState::Undecided, "there is no control with a splat".into()),
        },
        Gate::AtLeast { metric, condition, value } => {
            each(measures(found, &at.place, metric, condition.as_deref()), |low, high| {
                if low >= *value {
                    GateState::Passed
                } else if high < *value {
                    GateState::Failed
                } else {
                    GateState::Undecided
                }
            })
        }
        Gate::AtMost { metric, condition, value } => {
            each(measures(found, &at.place, metric, condition.as_deref()), |low, high| {
                if high <= *value {
                    GateState::Passed
                } else if low > *value {
                    GateState::Failed
                } else {
                    GateState::Undecided
                }
            })
        }
        Gate::Never { metric, condition, value } => {
            never(&measures(found, &at.place, metric, condition.as_deref()), *value)
        }
        Gate::Falls { metric, condition, from } => falls(found, &at.place, metric, condition, from),
        Gate::ClaimIs { claim, is } => {
            let rows = found
                .claims
                .iter()
                .filter(|row| row.place.same_target(&at.place) && selects(claim, &row.claim));
            gravest(rows.map(|row| {
                let state = if is.contains(&row.reading) {
                    GateState::Passed
                } else if matches!(
                    row.reading,
                    crate::judge::row::ClaimReading::Open
                        | crate::judge::row::ClaimReading::NotReached
                ) {
                    GateState::Undecided
                } else {
                    GateState::Failed
                };
                (state, format!("{} reads {}", row.claim, word(row.reading)))
            }))
        }
        Gate::SplatIs { title, is } => {
            let rows = found
                .splats
                .iter()
                .filter(|row| row.place.same_target(&at.place) && row.title == *title);
            let mut readings: Vec<SplatReading> = rows.map(|row| row.reading).collect();
            // Garbled copies and rare ones say nothing where others are plain.
            let plain: Vec<SplatReading> =
                readings.iter().copied().filter(|r| *r != SplatReading::Unclear).collect();
            if !plain.is_empty() {
                readings = plain;
            }
            if readings.is_empty() {
                return (GateState::Undecided, format!("no `{title}` was seen or looked for"));
            }
            let words: BTreeSet<String> = readings.iter().map(word).collect();
            let words = words.into_iter().collect::<Vec<_>>().join(", ");
            if readings.iter().any(|reading| is.contains(reading)) {
                (GateState::Passed, words)
            } else if readings.contains(&SplatReading::Unclear) {
                (GateState::Undecided, words)
            } else {
                (GateState::Failed, words)
            }
        }
        Gate::NoSplats { reading } => no_splats(reading, &at.place, found),
        Gate::WrongIs { metric, is } => {
            let rows: Vec<_> = found
                .wrong
                .iter()
                .filter(|row| row.place.same_target(&at.place) && row.metric == *metric)
                .collect();
            let order = [
                WrongReading::Wrong,
                WrongReading::SeenOnce,
                WrongReading::Present,
                WrongReading::None,
                WrongReading::NotShown,
                WrongReading::NotReached,
            ];
            let gravest = order.into_iter().find(|o| rows.iter().any(|row| row.reading == *o));
            let wrong: u64 = rows.iter().map(|row| row.wrong).sum();
            let answers: u64 = rows.iter().map(|row| row.answers).sum();
            match gravest {
                None | Some(WrongReading::NotReached) => {
                    (GateState::Undecided, "nothing was answered".into())
                }
                Some(reading) => {
                    let said = format!("{wrong} wrong of {}", counted(answers, "answer"));
                    let state = if is.contains(&reading) {
                        GateState::Passed
                    } else if matches!(reading, WrongReading::Wrong | WrongReading::None) {
                        GateState::Failed
                    } else {
                        GateState::Undecided
                    };
                    (state, said)
                }
            }
        }
        Gate::VerdictIs { is } => {
            let said = at.because.first().cloned().unwrap_or_else(|| word(at.verdict));
            if is.contains(&at.verdict) {
                (GateState::Passed, said)
            } else if at.verdict == Verdict::Open {
                (GateState::Undecided, said)
            } else {
                (GateState::Failed, said)
            }
        }
    }
}

/// The gravest of several answers, with its reason.
fn gravest(answers: impl Iterator<Item = Answer>) -> Answer {
    let rank = |state: GateState| match state {
        GateState::Failed => 0,
        GateState::Undecided => 1,
        GateState::Passed => 2,
    };
    answers
        .min_by_key(|(state, _)| rank(*state))
        .unwrap_or((GateState::Undecided, "it was not measured".into()))
}

fn no_splats(reading: &[SplatReading], at: &Place, found: &Comparison) -> Answer {
    let here = || found.splats.iter().filter(|row| row.place.same_target(at));
    if let Some(row) = here().find(|row| row.count > 0 && reading.contains(&row.reading)) {
        let KOfNWords(words) = KOfNWords::of(row.seen.k, row.seen.n);
        return (GateState::Failed, format!("{} in {words}", row.title));
    }
    let unclear = here().find(|row| row.count > 0 && row.reading == SplatReading::Unclear);
    if let Some(row) = unclear {
        return (GateState::Undecided, format!("{}: {}", row.title, row.reason));
    }
    let mut cells = found.cells.iter().filter(|cell| cell.place.same_target(at)).peekable();
    if cells.peek().is_none() || cells.all(|cell| cell.end != CellEnd::Ran) {
        return (GateState::Undecided, "it did not run".into());
    }
    let boots: u32 =
        found.cells.iter().filter(|cell| cell.place.same_target(at)).map(|c| c.boots).sum();
    (GateState::Passed, format!("none in {}", counted(boots.into(), "boot")))
}

/// `3 of 4 boots`.
struct KOfNWords(String);

impl KOfNWords {
    fn of(k: u64, n: u64) -> KOfNWords {
        KOfNWords(format!("{k} of {}", counted(n, "boot")))
    }
}

/// Measures that a gate speaks of: of the kernels that claims are judged on, where there
/// are such.
fn measures<'a>(
    found: &'a Comparison,
    at: &Place,
    metric: &str,
    condition: Option<&str>,
) -> Vec<&'a MeasureRow> {
    let here = || {
        found.measures.iter().filter(|row| {
            row.place.same_target(at)
                && selects(metric.trim_end_matches('/'), &row.metric)
                && condition.is_none_or(|written| selects(written, &row.label))
        })
    };
    let production = crate::spec::plan::PRODUCTION;
    let best: Vec<_> = here().filter(|row| row.place.profile == production).collect();
    if best.is_empty() { here().collect() } else { best }
}

fn shown(row: &MeasureRow, value: f64) -> String {
    match row.kind {
        ValueKind::Share => format!("{} %", percent(value, Round::Nearest)),
        ValueKind::Value => format!("{value:.4} {}", row.unit),
    }
}

fn each(rows: Vec<&MeasureRow>, ask: impl Fn(f64, f64) -> GateState) -> Answer {
    gravest(rows.into_iter().map(|row| match (row.estimate, row.low, row.high) {
        (Some(estimate), Some(low), Some(high)) => {
            let said = format!(
                "{} in {} [{}, {}]",
                shown(row, estimate),
                row.condition,
                shown(row, low),
                shown(row, high)
            );
            (ask(low, high), said)
        }
        _ => (GateState::Undecided, format!("{}: {}", row.condition, row.reason)),
    }))
}

/// One right call refutes; none in all blocks together bounds the share.
fn never(rows: &[&MeasureRow], at_most: f64) -> Answer {
    if let Some(row) = rows.iter().find(|row| row.right.is_some_and(|right| right > 0)) {
        let right = counted(row.right.unwrap_or_default(), "call");
        return (GateState::Failed, format!("{right} right in {}", row.condition));
    }
    let calls: u64 = rows.iter().map(|row| row.calls).sum();
    let blocks = calls / crate::judge::claims::BLOCK_CALLS;
    let said = format!("0 of {}", counted(calls, "call"));
    match upper_bound(0, blocks, crate::spec::CONFIDENCE) {
        Some(high) if high <= at_most => (GateState::Passed, said),
        _ => (GateState::Undecided, format!("{said}: too few")),
    }
}

fn falls(found: &Comparison, at: &Place, metric: &str, condition: &str, from: &str) -> Answer {
    let one = |label: &str| {
        measures(found, at, metric, Some(label)).into_iter().find(|row| row.label == label)
    };
    let (Some(low), Some(high)) = (one(condition), one(from)) else {
        return (GateState::Undecided, "it was not measured".into());
    };
    match (low.estimate, low.low, low.high, high.estimate, high.low, high.high) {
        (Some(a), Some(a_low), Some(a_high), Some(b), Some(b_low), Some(b_high)) => {
            let said = format!("{} against {}", shown(low, a), shown(high, b));
            let state = if a_high < b_low {
                GateState::Passed
            } else if a_low > b_high || (a >= b) {
                GateState::Failed
            } else {
                GateState::Undecided
            };
            (state, said)
        }
        _ => (GateState::Undecided, "it was not measured".into()),
    }
}
