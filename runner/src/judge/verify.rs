// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recounts a report from the raw records, by a path of its own.
//!
//! What a report says went through parsers, tables and rows. This module reads
//! `run.json`, `report.json` and every `records.jsonl` as plain JSON and counts with
//! loops; it shares no code with the comparison. Slow and simple on purpose: two programs
//! that agree are rarely wrong in the same way.
//!
//! Recounted are, of every row of `measures[]` and `wrong[]`, calls, right ones, visits and
//! boots; of every row of `claims[]` the values of candidate and reference, the estimate
//! where no load is corrected for, and whether reading and bounds agree; of every verdict
//! whether it follows from the rows. Splats, whose count needs the parser of consoles, and
//! the words of the report are not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::base::error::{Context, Error, Result};

/// Numbers are written with nine decimals.
const TOLERANCE: f64 = 2e-8;

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
    /// What differs.
    pub disagreements: Vec<String>,
}

impl Checked {
    /// The recount and the report say the same.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.disagreements.is_empty()
    }

    fn same(&mut self, at: &str, name: &str, said: &Value, found: f64) {
        self.numbers += 1;
        let close = said.as_f64().is_some_and(|said| (said - found).abs() <= TOLERANCE);
        if !close {
            self.disagreements
                .push(format!("{at}: {name} is {said} in report.json, recounted {found}"));
        }
    }

    fn holds(&mut self, at: &str, what: &str, true_so: bool) {
        self.numbers += 1;
        if !true_so {
            self.disagreements.push(format!("{at}: {what}"));
        }
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "recounted {} numbers of {} rows from {} blocks in {} boots",
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

/// A metric of one step of one cell.
type Key = (String, u64, String);

/// What the records say of it.
#[derive(Default)]
struct Counted {
    /// Of visits that count: calls, right ones, sum of value × calls.
    calls: u64,
    right: u64,
    weighted: f64,
    /// Right ones and calls of each visit of a share, with its boot.
    each: Vec<(String, u64, u64)>,
    /// The mean of each visit, of a number.
    means: Vec<f64>,
    visits: u64,
    boots: BTreeSet<String>,
    /// Of all blocks, for answers that must never be wrong.
    all: u64,
    all_right: u64,
}

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
        count_cell(run, &cell_name(&cell["id"]), &mut counted, &mut checked)?;
    }
    measures(&report, &counted, &mut checked);
    wrong(&plan, &report, &counted, &mut checked);
    claims(&plan, &report, &counted, &mut checked);
    verdicts(&report, &mut checked);
    Ok(checked)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn cell_name(id: &Value) -> String {
    ["base", "candidate", "arch", "profile"].map(|key| text(&id[key])).join("/")
}

/// Counts the records of all boots of a cell that are complete.
fn count_cell(
    run: &Path,
    cell: &str,
    counted: &mut BTreeMap<Key, Counted>,
    checked: &mut Checked,
) -> Result<()> {
    let boots = run.join("cells").join(cell).join("boots");
    if !boots.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(&boots).at_path("read", &boots)? {
        let dir = entry.at_path("read", &boots)?.path();
        let Ok(end) = fs::read(dir.join("end.json")) else { continue };
        let Ok(end) = serde_json::from_slice::<Value>(&end) else { continue };
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let records = fs::read_to_string(dir.join("records.jsonl")).unwrap_or_default();
        checked.boots += 1;
        // A boot that its emulator lost counts as far as it says itself.
        let lost = text(&end["end"]["end"]) == "lost";
        let kept = |visit: &Value| !lost || list(&end["done"]).contains(visit);
        let mut open: Vec<Value> = Vec::new();
        let mut lines: Vec<Value> =
            records.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        lines.truncate(last_that_counts(&lines, &end["end"]));
        for record in lines {
            match record["record"].as_str() {
                Some("visit-begin") => open.clear(),
                Some("block") if kept(&record["visit"]) => {
                    checked.blocks += 1;
                    for (metric, share) in record["shares"].as_object().into_iter().flatten() {
                        let key = (cell.to_owned(), number(&record["step"]), metric.clone());
                        let of = counted.entry(key).or_default();
                        of.all += number(&share["of"]);
                        of.all_right += number(&share["right"]);
                    }
                    open.push(record);
                }
                Some("visit-end") if kept(&record["visit"]) => {
                    if record["outcome"]["outcome"] == "done" {
                        count_visit(cell, &name, &open, counted);
                    }
                    open.clear();
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// How many records of a boot count: where the guest hung in a visit, those up to its end.
/// What the agent did when it had given that visit up was done on a stuck kernel.
fn last_that_counts(records: &[Value], end: &Value) -> usize {
    let Some(step) = end["step"].as_u64().filter(|_| end["end"] == "hung") else {
        return records.len();
    };
    let begins = |at: &usize| records[*at]["record"] == "visit-begin";
    let begun: Vec<usize> = (0..records.len()).filter(begins).collect();
    for (nth, at) in begun.iter().enumerate().rev() {
        let next = begun.get(nth + 1).copied().unwrap_or(records.len());
        let done = records[*at..next].iter().any(|record| record["outcome"]["outcome"] == "done");
        if number(&records[*at]["step"]) == step && !done {
            return next;
        }
    }
    records.len()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// Counts the blocks of a visit that came to its end.
fn count_visit(cell: &str, boot: &str, blocks: &[Value], counted: &mut BTreeMap<Key, Counted>) {
    // What ran with lockdep off proves nothing.
    let proves = |block: &&Value| {
        block["debug_locks_before"] != Value::Bool(false)
            && block["debug_locks_after"] != Value::Bool(false)
    };
    let mut shares: BTreeMap<(u64, String), (u64, u64)> = BTreeMap::new();
    let mut values: BTreeMap<(u64, String), (u64, f64)> = BTreeMap::new();
    for block in blocks.iter().filter(proves) {
        let step = number(&block["step"]);
        for (metric, share) in block["shares"].as_object().into_iter().flatten() {
            let sum = shares.entry((step, metric.clone())).or_default();
            sum.0 += number(&share["of"]);
            sum.1 += number(&share["right"]);
        }
        for (metric, value) in block["values"].as_object().into_iter().flatten() {
            let sum = values.entry((step, metric.clone())).or_default();
            let n = number(&value["n"]);
            sum.0 += n;
            sum.1 += value["mean"].as_f64().unwrap_or_default() * n as f64;
        }
    }
    for ((step, metric), (of, right)) in shares.into_iter().filter(|(_, (of, _))| *of > 0) {
        let all = counted.entry((cell.to_owned(), step, metric)).or_default();
        all.calls += of;
        all.right += right;
        all.weighted += right as f64;
        all.each.push((boot.to_owned(), right, of));
        all.visits += 1;
        all.boots.insert(boot.to_owned());
    }
    for ((step, metric), (n, sum)) in values.into_iter().filter(|(_, (n, _))| *n > 0) {
        let all = counted.entry((cell.to_owned(), step, metric)).or_default();
        all.calls += n;
        all.weighted += sum;
        all.means.push(sum / n as f64);
        all.visits += 1;
        all.boots.insert(boot.to_owned());
    }
}

fn measures(report: &Value, counted: &BTreeMap<Key, Counted>, checked: &mut Checked) {
    let nothing = Counted::default();
    let mut told = BTreeSet::new();
    for row in list(&report["measures"]) {
        checked.rows += 1;
        let key = (cell_name(row), number(&row["step"]), text(&row["metric"]));
        let at = format!("{} {} {}", key.0, text(&row["label"]), key.2);
        let found = counted.get(&key).unwrap_or(&nothing);
        checked.same(&at, "calls", &row["calls"], found.calls as f64);
        checked.same(&at, "visits", &row["visits"], found.visits as f64);
        checked.same(&at, "boots", &row["boots"], found.boots.len() as f64);
        if row["kind"] == "share" {
            checked.same(&at, "right", &row["right"], found.right as f64);
        }
        if let Some(mean) = own_value(found) {
            checked.same(&at, "estimate", &row["estimate"], mean);
        }
        told.insert(key);
    }
    // A metric that was counted and is not shown would be one that was dropped.
    let shown: BTreeSet<_> = list(&report["wrong"]).iter().map(|r| text(&r["metric"])).collect();
    for (key, found) in counted.iter().filter(|(key, _)| !shown.contains(&key.2)) {
        if found.visits > 0 && !told.contains(key) {
            checked.disagreements.push(format!("{} step {} {}: no row", key.0, key.1, key.2));
        }
    }
}

/// A share over all calls, a number over all visits.
fn own_value(found: &Counted) -> Option<f64> {
    if !found.means.is_empty() {
        return Some(found.means.iter().sum::<f64>() / found.means.len() as f64);
    }
    (found.calls > 0).then(|| found.right as f64 / found.calls as f64)
}

/// Numbers of the steps, by label and profile.
fn steps(plan: &Value, label: &str, profile: &str) -> Vec<u64> {
    let is = |step: &&Value| {
        let profiles = list(&step["profiles"]);
        text(&step["label"]) == label
            && (profiles.is_empty() || profiles.iter().any(|p| text(p) == profile))
    };
    list(&plan["plan"]["steps"]).iter().filter(is).map(|s| number(&s["step"]["id"])).collect()
}

fn wrong(plan: &Value, report: &Value, counted: &BTreeMap<Key, Counted>, checked: &mut Checked) {
    for row in list(&report["wrong"]) {
        checked.rows += 1;
        let (cell, metric) = (cell_name(row), text(&row["metric"]));
        let at = format!("{cell} {} {metric}", text(&row["label"]));
        let (mut answers, mut right) = (0, 0);
        for step in steps(plan, &text(&row["label"]), &text(&row["profile"])) {
            if let Some(found) = counted.get(&(cell.clone(), step, metric.clone())) {
                answers += found.all;
                right += found.all_right;
            }
        }
        checked.same(&at, "answers", &row["answers"], answers as f64);
        checked.same(&at, "wrong", &row["wrong"], (answers - right) as f64);
    }
}

fn claims(plan: &Value, report: &Value, counted: &BTreeMap<Key, Counted>, checked: &mut Checked) {
    let planned = list(&plan["plan"]["claims"]);
    let reference = list(&plan["plan"]["cells"])
        .iter()
        .find(|cell| cell["role"] == "reference")
        .map(|cell| text(&cell["id"]["candidate"]))
        .unwrap_or_default();
    for row in list(&report["claims"]) {
        checked.rows += 1;
        let at = format!("{} claim {}", cell_name(row), text(&row["claim"]));
        let name = text(&row["claim"]);
        let name = name.split('/').next().unwrap_or_default();
        let Some(claim) = planned.iter().find(|claim| claim["claim"]["name"] == name) else {
            checked.disagreements.push(format!("{at}: the plan has no such claim"));
            continue;
        };
        let metric = text(&row["metric"]);
        let look = look_of(number(&row["visits"]));
        let mean = |candidate: &str| -> Option<f64> {
            let cell =
                [&text(&row["base"]), candidate, &text(&row["arch"]), &text(&row["profile"])]
                    .join("/");
            let values: Option<Vec<f64>> = list(&claim["steps"])
                .iter()
                .map(|step| {
                    let key = (cell.clone(), number(step), metric.clone());
                    counted.get(&key).and_then(|found| first_visits(found, look))
                })
                .collect();
            let values = values?;
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let whose = text(&row["candidate"]);
        if row["kind"] == "share"
            && !row["value"].is_null()
            && let (Some(ours), Some(theirs)) = (mean(&whose), mean(&reference))
        {
            checked.same(&at, "value", &row["value"], ours);
            checked.same(&at, "reference", &row["reference"], theirs);
            // What is compared at another load than was measured is not the plain difference.
            if row["load"].is_null() && !row["estimate"].is_null() {
                checked.same(&at, "estimate", &row["estimate"], ours - theirs);
            }
        }
        bounds(row, &at, checked);
    }
}

/// Visits of the look that so many were read at: 12, and then twice as many each time.
fn look_of(visits: u64) -> u64 {
    let mut look = 12;
    while look < visits {
        look *= 2;
    }
    look
}

/// A share over the first visits, in the order in which they were made.
fn first_visits(found: &Counted, visits: u64) -> Option<f64> {
    let mut each: Vec<&(String, u64, u64)> = found.each.iter().collect();
    each.sort_by(|a, b| a.0.cmp(&b.0));
    let (mut right, mut all) = (0, 0);
    for (_, one, of) in each.into_iter().take(usize::try_from(visits).unwrap_or(usize::MAX)) {
        right += one;
        all += of;
    }
    (all > 0).then(|| right as f64 / all as f64)
}

/// Whether a reading follows from its bounds and margin.
fn bounds(row: &Value, at: &str, checked: &mut Checked) {
    let (Some(low), Some(high), Some(estimate), Some(margin)) = (
        row["low"].as_f64(),
        row["high"].as_f64(),
        row["estimate"].as_f64(),
        row["margin"].as_f64(),
    ) else {
        return;
    };
    checked.holds(at, "the estimate lies outside its bounds", low <= estimate && estimate <= high);
    let share = row["kind"] == "share";
    let neutral = if share { 0.0 } else { 1.0 };
    let higher = row["better"] == "higher";
    let (worst, best) = if higher { (low, high) } else { (high, low) };
    let better = |a: f64, than: f64| if higher { a > than } else { a < than };
    let limit = match (share, higher) {
        (true, true) => -margin,
        (true, false) => margin,
        (false, true) => 1.0 - margin,
        (false, false) => 1.0 + margin,
    };
    let found = if better(worst, neutral) {
        "gains"
    } else if better(neutral, best) {
        if better(worst, limit) { "loses-little" } else { "loses" }
    } else if better(worst, limit) {
        "no-worse"
    } else {
        "open"
    };
    let said = text(&row["reading"]);
    checked.holds(at, &format!("reads {said}, its bounds say {found}"), said == found);
}

/// Whether a verdict that says ok has nothing against it.
fn verdicts(report: &Value, checked: &mut Checked) {
    for verdict in list(&report["verdicts"]) {
        checked.rows += 1;
        let same = |row: &&Value| {
            ["base", "candidate", "arch"].iter().all(|key| row[*key] == verdict[*key])
        };
        let at = format!("{} verdict", cell_name(verdict));
        let bad = list(&report["claims"]).iter().filter(same).any(|r| r["reading"] == "loses")
            || list(&report["splats"]).iter().filter(same).any(|r| r["reading"] == "introduced")
            || list(&report["wrong"]).iter().filter(same).any(|r| r["reading"] == "wrong");
        let said = text(&verdict["verdict"]);
        checked.holds(
            &at,
            "something speaks against it, and it is not `not-ok`",
            !bad || said == "not-ok",
        );
        let open = list(&report["claims"])
            .iter()
            .filter(same)
            .any(|r| r["reading"] == "open" || r["reading"] == "not-reached");
        checked.holds(&at, "a claim is open, and it is `ok`", !open || said != "ok");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A run with one cell, one boot and one visit, and a report on it.
    fn run(calls: u64, right: u64, extra: &str) -> Checked {
        let dir = tempfile::tempdir().unwrap();
        let id = json!({"base": "b", "candidate": "c", "arch": "a", "profile": "p"});
        let boot = dir.path().join("cells/b/c/a/p/boots/0-000");
        fs::create_dir_all(&boot).unwrap();
        let plan = json!({"plan": {"cells": [{"id": id, "role": "contender"}],
            "steps": [{"label": "x/y", "profiles": [], "step": {"id": 3}}], "claims": []}});
        fs::write(dir.path().join("run.json"), plan.to_string()).unwrap();
        let row = json!({"base": "b", "candidate": "c", "arch": "a", "profile": "p", "step": 3,
            "label": "x/y", "metric": "x.m", "kind": "share", "calls": calls, "right": right,
            "visits": 1, "boots": 1, "estimate": 0.75});
        let report = json!({"measures": [row], "claims": [], "wrong": [], "verdicts": []});
        fs::write(dir.path().join("report.json"), report.to_string()).unwrap();
        fs::write(boot.join("end.json"), r#"{"end": {"end": "ran"}, "done": [0]}"#).unwrap();
        let records = [
            r#"{"record":"visit-begin","visit":0,"step":3}"#,
            r#"{"record":"block","visit":0,"step":3,"shares":{"x.m":{"of":4,"right":3}}}"#,
            r#"{"record":"block","visit":0,"step":3,"debug_locks_before":false,"shares":{"x.m":{"of":4,"right":0}}}"#,
            extra,
            r#"{"record":"visit-end","visit":0,"step":3,"outcome":{"outcome":"done"}}"#,
        ];
        fs::write(boot.join("records.jsonl"), records.join("\n")).unwrap();
        verify(dir.path()).unwrap()
    }

    /// What the records say is recounted; blocks without lockdep do not count; a number that
    /// was changed is named.
    #[test]
    fn changed_numbers_are_named() {
        let good = run(4, 3, "");
        assert!(good.agrees(), "{good}");
        assert_eq!((good.boots, good.blocks, good.rows), (1, 2, 1));
        let bad = run(5, 3, "");
        assert_eq!(bad.disagreements.len(), 1, "{bad}");
        assert!(bad.disagreements[0].contains("calls is 5 in report.json, recounted 4"));
        assert!(!run(4, 4, "").agrees());
        let hidden = r#"{"record":"block","visit":0,"step":3,"shares":{"x.n":{"of":1,"right":1}}}"#;
        assert!(run(4, 3, hidden).disagreements[0].contains("x.n: no row"));
    }

    /// What came after the visit in which the guest hung does not count, nor does what the
    /// same visit had not finished; its answers still can be wrong.
    #[test]
    fn nothing_after_a_hang_counts() {
        let records: Vec<Value> = [
            r#"{"record":"visit-begin","visit":0,"step":3}"#,
            r#"{"record":"visit-end","visit":0,"step":3,"outcome":{"outcome":"done"}}"#,
            r#"{"record":"visit-begin","visit":1,"step":3}"#,
            r#"{"record":"block","visit":1,"step":3}"#,
            r#"{"record":"visit-end","visit":1,"step":3,"outcome":{"outcome":"died"}}"#,
            r#"{"record":"visit-begin","visit":2,"step":4}"#,
            r#"{"record":"visit-end","visit":2,"step":4,"outcome":{"outcome":"done"}}"#,
        ]
        .map(|line| serde_json::from_str(line).unwrap())
        .into();
        let hung = |step: Value| json!({"end": "hung", "step": step});
        assert_eq!(last_that_counts(&records, &hung(json!(3))), 5);
        assert_eq!(last_that_counts(&records, &hung(json!(4))), 7);
        assert_eq!(last_that_counts(&records, &hung(Value::Null)), 7);
        assert_eq!(last_that_counts(&records, &json!({"end": "ran", "step": 3})), 7);
    }

    /// A reading that its bounds do not bear out is found, whichever way is good.
    #[test]
    fn readings_follow_from_bounds() {
        let check = |reading: &str, better: &str, kind: &str, low: f64, high: f64| {
            let mut checked = Checked::default();
            let row = json!({"reading": reading, "better": better, "kind": kind, "low": low,
                "high": high, "estimate": (low + high) / 2.0, "margin": 0.02});
            bounds(&row, "x", &mut checked);
            checked.agrees()
        };
        assert!(check("gains", "higher", "share", 0.01, 0.03));
        assert!(!check("no-worse", "higher", "share", 0.01, 0.03));
        assert!(check("no-worse", "higher", "share", -0.01, 0.03));
        assert!(check("loses", "higher", "share", -0.03, -0.01));
        assert!(check("loses-little", "higher", "share", -0.015, -0.01));
        assert!(check("open", "higher", "share", -0.03, 0.01));
        assert!(check("gains", "lower", "value", 0.9, 0.95));
        assert!(check("no-worse", "lower", "value", 0.99, 1.01));
        assert!(check("open", "lower", "value", 0.99, 1.03));
        assert!(check("loses", "lower", "value", 1.01, 1.03));
    }

    use bakeoff_fuzz::wire::{End, Record};

    use crate::base::data::DataDir;
    use crate::judge::compare::tests::story::{
        BUSY, CLAIM, DUTY, HALF, IDLE, LEGAL, PAIRS, Story, TOP,
    };
    use crate::judge::judge;
    use crate::keep::freeze;
    use crate::keep::store::{
        BootId, EndJson, Environment, RunJson, Store, VERSION, write_json, write_whole,
    };
    use crate::see::observation::Observation;

    /// Writes a story down as the run that it would have come from.
    fn written(story: &Story) -> Store {
        let store = Store::create(&story.dir.path().join("run")).unwrap();
        let run = RunJson {
            store_version: VERSION,
            tool: String::new(),
            bakeoff: story.spec.name.clone(),
            spec_sha256: freeze::freeze(&story.spec, &store).unwrap(),
            spec_path: story.spec.file.clone(),
            against_itself: None,
            added: vec![],
            started: String::new(),
            bases: BTreeMap::new(),
            plan: story.plan.clone(),
            environment: Environment::default(),
            fuzz: None,
            shard: None,
            left_out: vec![],
            pack: story.spec.pack.clone(),
            machine: story.spec.machine.clone(),
        };
        write_json(&store.run_json(), &run).unwrap();
        story.seen.iter().for_each(|seen| write_cell(&store, seen));
        store
    }

    fn write_cell(store: &Store, seen: &Observation) {
        write_json(&store.kernel_json(seen.id()), seen.kernel.as_ref().unwrap()).unwrap();
        for boot in &seen.boots {
            let id = BootId { cell: seen.id().clone(), name: boot.name.clone() };
            let mut records = vec![Record::Hello(boot.hello.clone().unwrap())];
            for v in &boot.visits {
                let (visit, step) = (v.number, v.step);
                records.push(Record::VisitBegin { visit, step, at_ns: v.begin_ns });
                records.extend(v.blocks.iter().cloned().map(Record::Block));
                if let Some(outcome) = v.outcome.clone() {
                    records.push(Record::VisitEnd { visit, step, outcome, at_ns: v.begin_ns });
                }
            }
            records.push(Record::End(End {
                records: records.len() as u64,
                debug_locks: None,
                tainted: 0,
                at_ns: 9,
            }));
            let lines = records.iter().map(|r| serde_json::to_string(r).unwrap() + "\n");
            write_whole(&store.records(&id), lines.collect::<String>().as_bytes()).unwrap();
            write_whole(&store.console(&id), b"").unwrap();
            let end = EndJson {
                store_version: VERSION,
                end: boot.end.clone(),
                asked: boot.visits.iter().map(|visit| visit.step).collect(),
                done: boot.visits.iter().map(|v| v.number).collect(),
                hello_seconds: boot.hello_seconds,
                seconds: boot.seconds,
                argv: vec![],
                console_bytes: 0,
                records: records.len() as u64,
                injected: vec![],
            };
            write_json(&store.end_json(&id), &end).unwrap();
        }
    }

    /// A report made from a run says what the observations said, the recount agrees with
    /// it, and a number of any table that is changed by hand is found.
    #[test]
    fn a_report_is_recounted() {
        let mut story = Story::of(&CLAIM.replace("5 points", "0.5 points"));
        story.right("mine", PAIRS, LEGAL, &[99]);
        story.value("mine", BUSY, DUTY, &[0.2, 0.4]);
        let store = written(&story);
        let report = judge(&store, &DataDir::embedded()).unwrap();
        let told = story.compare();
        let values = |rows: &[crate::judge::row::ClaimRow]| {
            rows.iter().map(|r| (r.value, r.estimate, r.low, r.reading)).collect::<Vec<_>>()
        };
        assert_eq!(values(&report.claims), values(&told.claims));
        let path = store.derived("report.json");
        write_json(&path, &report).unwrap();
        let good = verify(store.root()).unwrap();
        assert!(good.agrees(), "{good}");
        assert_eq!(good.boots, 4 * 12);
        let whole: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let row_of = |table: &str, is: &dyn Fn(&Value) -> bool| {
            list(&whole[table])
                .iter()
                .position(|row| row["candidate"] == "mine" && is(row))
                .unwrap()
        };
        for (table, key, to) in [
            ("measures", "calls", json!(7)),
            ("measures", "estimate", json!(0.123)),
            ("wrong", "wrong", json!(0)),
            ("claims", "value", json!(0.9)),
            ("claims", "reading", json!("gains")),
            ("verdicts", "verdict", json!("ok")),
        ] {
            let mut changed = whole.clone();
            let at = row_of(table, &|row| table != "measures" || row["calls"] != 0);
            let at = if table == "wrong" { row_of(table, &|r| r["metric"] == LEGAL) } else { at };
            changed[table][at][key] = to;
            write_json(&path, &changed).unwrap();
            assert!(!verify(store.root()).unwrap().agrees(), "{table} {key}");
        }
    }

    /// A claim that was decided at its first look is recounted from the visits of that look,
    /// in the order of the boots, whatever came after.
    #[test]
    fn decided_claims_are_recounted_from_their_look() {
        let mut story = Story::of(&CLAIM.replace("5 points", "10 points"));
        for seen in &mut story.seen {
            let later = seen.boots.clone().into_iter().map(|mut boot| {
                boot.name = format!("1-{}", boot.name);
                boot
            });
            seen.boots.extend(later.collect::<Vec<_>>());
        }
        let right: Vec<u64> = HALF.iter().copied().chain([90; HALF.len()]).collect();
        story.right("mine", IDLE, TOP, &right);
        let store = written(&story);
        let report = judge(&store, &DataDir::embedded()).unwrap();
        let path = store.derived("report.json");
        write_json(&path, &report).unwrap();
        let good = verify(store.root()).unwrap();
        assert!(good.agrees(), "{good}");
        let whole: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let claims = list(&whole["claims"]);
        let mine = claims.iter().position(|row| row["candidate"] == "mine").unwrap();
        let is = |key: &str| claims[mine][key].as_f64().unwrap();
        assert_eq!(
            (is("value"), is("visits"), &claims[mine]["reading"]),
            (0.5, 12.0, &json!("no-worse"))
        );
        for key in ["value", "reference", "estimate"] {
            let mut changed = whole.clone();
            changed["claims"][mine][key] = json!(is(key) + 0.001);
            write_json(&path, &changed).unwrap();
            assert!(!verify(store.root()).unwrap().agrees(), "{key}");
        }
    }

    #[test]
    fn looks_double() {
        assert_eq!([1, 12, 13, 24, 25, 49].map(look_of), [12, 12, 24, 24, 48, 96]);
    }
}
