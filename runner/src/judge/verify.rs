// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recounts a report from the raw records, by a path of its own.
//!
//! What a report says went through parsers, tables and oracles. This module reads
//! `run.json`, `report.json` and every `records.jsonl` as plain JSON and counts
//! with loops; it shares no code with the comparison, and checks bounds by
//! integrating densities ([`check`]) instead of inverting them. Slow and simple
//! on purpose: two programs that agree are rarely wrong in the same way.
//!
//! Recounted are, of every row of `rates[]`: all counts, both bounds, the bounds of
//! the difference to the reference, the correction for the number of comparisons,
//! and whether the verdict follows from them. Splats, whose count needs the parser
//! of consoles, and the words of the report are not.

mod check;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::base::error::{Context, Error, Result};
use check::{Block, Sample};

/// Bounds are written with nine decimals, and integrated to about eight.
const TOLERANCE: f64 = 2e-6;

/// What a recount found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Boots whose records were read.
    pub boots: u64,
    /// Blocks in them.
    pub blocks: u64,
    /// Rows of the report.
    pub rows: u64,
    /// Numbers compared.
    pub numbers: u64,
    /// What differs, each with its file.
    pub disagreements: Vec<String>,
}

impl Checked {
    /// The recount and the report say the same.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.disagreements.is_empty()
    }

    /// Compares two values of a row.
    fn same(&mut self, at: &str, name: &str, said: &Value, found: &Value) {
        self.numbers += 1;
        let close = match (said.as_f64(), found.as_f64()) {
            (Some(a), Some(b)) if !said.is_u64() || !found.is_u64() => (a - b).abs() <= TOLERANCE,
            _ => said == found,
        };
        if !close {
            self.disagreements
                .push(format!("{at}: {name} is {said} in report.json, recounted {found}"));
        }
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "recounted {} numbers of {} rates from {} blocks in {} boots",
            self.numbers, self.rows, self.blocks, self.boots
        )?;
        for line in self.disagreements.iter().take(100) {
            writeln!(f, "  {}", crate::judge::compare::words::plain(line, 400))?;
        }
        match self.disagreements.len() {
            0 => writeln!(f, "the report agrees with the records"),
            many => writeln!(f, "DISAGREES in {many} places"),
        }
    }
}

/// What the records say of one step in one cell.
#[derive(Default)]
struct Counted {
    boots: u64,
    blocks: Vec<Block>,
    without_lockdep: u64,
    sums: BTreeMap<&'static str, u64>,
    wrong_context: u64,
    /// Nanoseconds a writer held or awaited the lock, of those watched.
    writer: (u64, u64),
}

type Key = (String, u64);

/// What is counted of stacks in a map.
const BUCKETS: [&str; 5] = ["ids", "fallback_ids", "exists", "fast_calls", "fast_stale"];

/// Recounts the report of a run.
///
/// # Errors
/// A file is missing or no JSON; what merely disagrees is in the answer.
pub fn verify(run: &Path) -> Result<Checked> {
    let read = |name: &str| -> Result<Value> {
        let path = run.join(name);
        let text = fs::read(&path).map_err(|cause| {
            Error::bad_input(format!("cannot read {}", path.display()))
                .hint("`bakeoff report RUN` on a complete run shows what there is")
                .because(cause)
        })?;
        serde_json::from_slice(&text).map_err(|cause| {
            Error::bad_input(format!("{} is broken", path.display())).because(cause)
        })
    };
    let plan = read("run.json")?;
    let report = read("report.json")?;
    let mut checked = Checked::default();
    let mut counted: BTreeMap<Key, Counted> = BTreeMap::new();
    for cell in list(&plan["plan"]["cells"]) {
        let id = &cell["id"];
        count_cell(run, &cell_name(id), &mut counted, &mut checked)?;
    }
    compare_rows(&plan, &report, &counted, &mut checked);
    Ok(checked)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn cell_name(id: &Value) -> String {
    ["base", "candidate", "arch", "profile"].map(|key| text(&id[key])).join("/")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Counts the records of all boots of a cell that are complete.
fn count_cell(
    run: &Path,
    cell: &str,
    counted: &mut BTreeMap<Key, Counted>,
    checked: &mut Checked,
) -> Result<()> {
    let dir = run.join("cells").join(cell).join("boots");
    let Ok(entries) = fs::read_dir(&dir) else { return Ok(()) };
    let mut boots: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    boots.sort();
    for boot in boots.iter().filter(|boot| boot.join("end.json").is_file()) {
        checked.boots += 1;
        let path = boot.join("end.json");
        let end = fs::read(&path).at_path("read", &path)?;
        let end: Value = serde_json::from_slice(&end).unwrap_or_default();
        let records = fs::read(boot.join("records.jsonl")).unwrap_or_default();
        let number = usize::try_from(checked.boots).unwrap_or(usize::MAX);
        // Of a boot that the emulator lost only what was finished counts.
        let lost = end["end"]["end"] == "lost";
        let counts = |step: u64| !lost || list(&end["done"]).iter().any(|done| *done == step);
        let asked = list(&end["asked"]).iter().filter_map(Value::as_u64);
        let mut steps: Vec<u64> = asked.filter(|step| counts(*step)).collect();
        for line in records.split(|byte| *byte == b'\n') {
            let Ok(record) = serde_json::from_slice::<Value>(line) else { continue };
            if record["record"] != "block" {
                continue;
            }
            let step = record["step"].as_u64().unwrap_or(u64::MAX);
            if !counts(step) {
                continue;
            }
            checked.blocks += 1;
            steps.push(step);
            let of_step = counted.entry((cell.to_owned(), step)).or_default();
            count_block(of_step, number, &record);
        }
        steps.sort_unstable();
        steps.dedup();
        for step in steps {
            counted.entry((cell.to_owned(), step)).or_default().boots += 1;
        }
    }
    Ok(())
}

fn count_block(of_step: &mut Counted, boot: usize, record: &Value) {
    let off = |key: &str| record[key] == false;
    let proves = !off("debug_locks_before") && !off("debug_locks_after");
    let counts = &record["counts"];
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let calls = number(&counts["calls"]);
    let right = |score: &str| number(&counts[score]["correct"]).min(calls);
    of_step.blocks.push(Block { boot, proves, calls, top: right("top"), all: right("all") });
    if !proves {
        of_step.without_lockdep += 1;
        return;
    }
    let mut add = |key: &'static str, value: u64| {
        *of_step.sums.entry(key).or_default() += value;
    };
    add("calls", calls);
    add("missed", number(&counts["missed"]));
    add("errors", number(&counts["errors"]));
    for score in ["top", "all"] {
        let key = if score == "top" { "top.valid" } else { "all.valid" };
        add(key, number(&counts[score]["valid"]).min(calls));
    }
    let sum = |map: &Value| map.as_object().map_or(0, |map| map.values().map(number).sum());
    add("ineligible", sum(&counts["ineligible"]));
    for key in ["slot_busy", "lock_failed"] {
        if let Some(value) = counts[key].as_u64() {
            add(key, value);
        }
    }
    of_step.wrong_context += sum(&counts["wrong_context"]);
    let writer = &counts["writer"];
    of_step.writer.0 += number(&writer["held_ns"]) + number(&writer["waited_ns"]);
    of_step.writer.1 += number(&writer["window_ns"]);
    for key in BUCKETS {
        if let Some(value) = counts["buckets"][key].as_u64() {
            *of_step.sums.entry(key).or_default() += value;
        }
    }
}

/// The step of a plan; older runs have it without what surrounds it.
fn bare(planned: &Value) -> &Value {
    planned.get("step").unwrap_or(planned)
}

/// The row counts innermost frames, not all at once.
fn is_top(row: &Value) -> bool {
    row["metric"].as_str().is_some_and(|metric| metric.ends_with(".top_frame"))
}

/// Sets every row of the report beside what was counted.
fn compare_rows(
    plan: &Value,
    report: &Value,
    counted: &BTreeMap<Key, Counted>,
    checked: &mut Checked,
) {
    let rows = list(&report["rates"]);
    let margin = report["settings"]["margin"].as_f64().unwrap_or(f64::NAN);
    let confidence = report["settings"]["confidence"].as_f64().unwrap_or(f64::NAN);
    let reference = list(&plan["plan"]["cells"])
        .iter()
        .find(|cell| cell["role"] == "reference")
        .map(|cell| text(&cell["id"]["candidate"]))
        .unwrap_or_default();
    let place = |row: &Value, candidate: &str| {
        format!(
            "{}/{candidate}/{}/{}",
            text(&row["base"]),
            text(&row["arch"]),
            text(&row["profile"])
        )
    };
    let nothing = Counted::default();
    let alone = |row: &Value, candidate: &str| -> (&Counted, Sample) {
        let step = row["step"].as_u64().unwrap_or(u64::MAX);
        let seen = counted.get(&(place(row, candidate), step)).unwrap_or(&nothing);
        let planned = list(&plan["plan"]["steps"])
            .iter()
            .map(bare)
            .find(|planned| planned["id"] == row["step"])
            .unwrap_or(&Value::Null);
        let top = is_top(row);
        (seen, Sample::new(&seen.blocks, top, planned))
    };
    // Rates of one kind tell together how much boots differ.
    let kind = |row: &Value| {
        let kinds = ["base", "arch", "profile", "metric", "context", "stress", "interface"];
        kinds.map(|key| text(&row[key])).join("/")
    };
    let mut kinds: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    for row in rows {
        let (_, sample) = alone(row, &text(&row["candidate"]));
        kinds.entry(kind(row)).or_default().push(sample);
    }
    let known: BTreeMap<String, Option<(f64, f64)>> =
        kinds.iter().map(|(kind, samples)| (kind.clone(), check::between(samples))).collect();
    let of = |row: &Value, candidate: &str| -> (&Counted, Sample) {
        let (seen, mut sample) = alone(row, candidate);
        sample.between = known.get(&kind(row)).copied().flatten();
        (seen, sample)
    };
    // All comparisons hold at once: the error is divided by their number.
    let compared = rows
        .iter()
        .filter(|row| row["judged"] != false && text(&row["candidate"]) != reference)
        .filter(|row| of(row, &text(&row["candidate"])).1.calls > 0)
        .count();
    #[expect(clippy::cast_precision_loss, reason = "a number of rows")]
    let each = 1.0 - (1.0 - confidence) / compared.max(1) as f64;
    let mut told: Vec<Key> = Vec::new();
    for row in rows {
        checked.rows += 1;
        let candidate = text(&row["candidate"]);
        let cell = place(row, &candidate);
        let step = row["step"].as_u64().unwrap_or(u64::MAX);
        told.push((cell.clone(), step));
        let at = format!("cells/{cell}, step {step}, {}", text(&row["metric"]));
        let (seen, sample) = of(row, &candidate);
        let counts = [
            ("boots", Value::from(seen.boots)),
            ("calls", Value::from(sample.calls)),
            ("correct", Value::from(sample.correct)),
            ("blocks", Value::from(sample.blocks())),
            ("blocks_without_lockdep", Value::from(seen.without_lockdep)),
        ];
        for (name, found) in counts {
            checked.same(&at, name, &row[name], &found);
        }
        let sum = |key: &str| seen.sums.get(key).copied();
        let valid = if is_top(row) { "top.valid" } else { "all.valid" };
        checked.same(&at, "valid", &row["valid"], &Value::from(sum(valid).unwrap_or(0)));
        for key in ["ineligible", "missed", "errors"] {
            checked.same(&at, key, &row[key], &Value::from(sum(key).unwrap_or(0)));
        }
        for key in ["slot_busy", "lock_failed"] {
            checked.same(&at, key, &row[key], &sum(key).map_or(Value::Null, Value::from));
        }
        let astray: u64 = row["wrong_context"]
            .as_object()
            .map_or(0, |map| map.values().filter_map(Value::as_u64).sum());
        checked.same(&at, "wrong_context", &astray.into(), &seen.wrong_context.into());
        for key in BUCKETS {
            let found = sum(key).map_or(Value::Null, Value::from);
            checked.same(&at, &format!("buckets.{key}"), &row["buckets"][key], &found);
        }
        let (busy, watched) = seen.writer;
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a run")]
        let duty = (watched > 0).then(|| busy as f64 / watched as f64);
        let duty = duty.map_or(Value::Null, Value::from);
        checked.same(&at, "writer_duty", &row["writer_duty"], &duty);
        let bounds = sample.interval(0.95);
        let (low, high) = bounds.map_or((Value::Null, Value::Null), |(l, h)| (l.into(), h.into()));
        checked.same(&at, "low", &row["low"], &low);
        checked.same(&at, "high", &row["high"], &high);
        if candidate == reference || row["judged"] == false || row["difference"].is_null() {
            continue;
        }
        let (_, theirs) = of(row, &reference);
        let said = &row["difference"];
        checked.same(&at, "difference.confidence", &said["confidence"], &each.into());
        let Some((low, high)) = check::difference(&sample, &theirs, each) else { continue };
        checked.same(&at, "difference.low", &said["low"], &low.into());
        checked.same(&at, "difference.high", &said["high"], &high.into());
        let said = &row["alone"];
        let Some((alone_low, alone_high)) = check::difference(&sample, &theirs, confidence) else {
            continue;
        };
        checked.same(&at, "alone.low", &said["low"], &alone_low.into());
        checked.same(&at, "alone.high", &said["high"], &alone_high.into());
        let planned = list(&plan["plan"]["steps"]).iter();
        let own = planned
            .filter(|p| bare(p)["id"] == row["step"])
            .find_map(|p| p["margin_ppm"].as_f64().map(|ppm| ppm / 1e6));
        checked.same(&at, "margin", &row["margin"], &own.unwrap_or(margin).into());
        let margin = own.unwrap_or(margin) + row["noise"].as_f64().unwrap_or(0.0);
        // On the very edge the ninth decimal decides; that is nobody's disagreement.
        let edge = [low, high, alone_low, alone_high]
            .iter()
            .any(|x| (x.abs() - margin).abs() <= TOLERANCE);
        let verdict = if high < -margin {
            "worse"
        } else if low > margin {
            "better"
        } else if alone_low >= -margin && alone_high <= margin {
            "same"
        } else {
            "inconclusive"
        };
        if !edge {
            checked.same(&at, "verdict", &row["verdict"], &verdict.into());
        }
    }
    let probes: Vec<&Value> =
        list(&plan["plan"]["steps"]).iter().map(|planned| &bare(planned)["id"]).collect();
    // A kernel with a planted fault has no rates.
    let planted: Vec<String> = list(&plan["plan"]["cells"])
        .iter()
        .filter(|cell| cell["role"] == "sensitivity")
        .map(|cell| cell_name(&cell["id"]))
        .collect();
    let untold = |key: &&Key| !told.contains(key) && !planted.contains(&key.0);
    for key in counted.keys().filter(untold) {
        let planned = probes.iter().any(|id| id.as_u64() == Some(key.1));
        let what = if planned { "no row in report.json" } else { "no step of the plan" };
        checked.disagreements.push(format!("cells/{}, step {}: {what}", key.0, key.1));
    }
}

#[cfg(test)]
mod tests;
