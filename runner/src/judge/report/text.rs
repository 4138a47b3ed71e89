// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report for a terminal or a mail.

use std::collections::BTreeMap;

use bakeoff_fuzz::wire::Stress;

use super::answer::{cell, headline, place_list, reference, sentences, target, verdict_word};
use super::splats::{blind, splats};
use super::wrap::{table, wrap};
use super::{Report, WIDTH, fuzz, sweep};
use crate::judge::compare::words::{count, list, plain, points};
use crate::judge::compare::{
    CandidateInfo, CellEnd, CellRow, Change, GateState, Outcome, RateRow, Verdict, claim_words,
    condition, end_words, has_tested, shown,
};
use crate::judge::stats::FEW_BLOCKS;
use crate::spec::{Role, word};

/// Rows of a table that has no natural end; the rest is in `report.json`.
pub(super) const MOST_ROWS: usize = 60;

pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    head(&mut out, report);
    verdicts(&mut out, report);
    answers(&mut out, report);
    claims(&mut out, report);
    sweeps(&mut out, report);
    availability(&mut out, report);
    not_counted(&mut out, report);
    buckets(&mut out, report);
    splats(&mut out, report);
    blind(&mut out, report);
    fuzz::in_text(&mut out, report);
    cells(&mut out, report);
    gates(&mut out, report);
    predictions(&mut out, report);
    not_tested(&mut out, report);
    evidence(&mut out, report);
    out
}

pub(super) fn line(out: &mut String, text: &str) {
    let indent = " ".repeat(text.len() - text.trim_start().len());
    out.push_str(&wrap(text, WIDTH, &indent, &format!("{indent}  ")));
}

pub(super) fn title(out: &mut String, text: &str) {
    out.push('\n');
    line(out, text);
    out.push('\n');
}

fn head(out: &mut String, report: &Report) {
    let run = &report.run;
    line(out, &format!("{}: {}", run.bakeoff, run.title));
    let spec: String = run.spec_sha256.chars().take(12).collect();
    line(out, &format!("{}, {}, spec {spec}, seed {}", report.tool, run.started, run.seed));
    for (name, source) in &run.bases {
        line(out, &format!("base {name}: {source}"));
    }
    // Architectures that share a machine share a line.
    let mut machines: Vec<(String, Vec<String>)> = Vec::new();
    for (arch, accel) in &report.environment.accel {
        let word = |of: &BTreeMap<String, String>| of.get(arch).cloned().unwrap_or_default();
        let parts =
            [accel.clone(), word(&report.environment.qemu), word(&report.environment.compiler)];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let machine = parts.join(", ");
        match machines.iter_mut().find(|(known, _)| *known == machine) {
            Some((_, archs)) => archs.push(arch.clone()),
            None => machines.push((machine, vec![arch.clone()])),
        }
    }
    for (machine, archs) in machines {
        line(out, &format!("{}: {machine}", list(&archs)));
    }
}

fn verdicts(out: &mut String, report: &Report) {
    title(out, &format!("VERDICT, against {}", reference(report)));
    if report.verdicts.is_empty() {
        line(out, "  none: nothing was run");
        return;
    }
    let mut targets: Vec<String> = Vec::new();
    for row in &report.verdicts {
        let at = target(report, &row.place);
        if !targets.contains(&at) {
            targets.push(at);
        }
    }
    let mut starred = false;
    let mut word_of = |name: &str, at: &str| {
        let row = report
            .verdicts
            .iter()
            .find(|v| v.place.candidate == name && target(report, &v.place) == at);
        let Some(row) = row else { return "-".to_owned() };
        let open = |c: &CandidateInfo| {
            c.untested.is_some() && !has_tested(c, &report.findings, &row.place)
        };
        let untested = report.run.candidates.iter().any(|c| c.name == name && open(c));
        let star = untested && matches!(row.verdict, Verdict::Same | Verdict::Better);
        starred |= star;
        format!("{}{}", verdict_word(row), if star { " *" } else { "" })
    };
    let names = report.run.candidates.iter().map(|c| (c.name.as_str(), c.role));
    // As columns where they fit, else as rows.
    let text = if targets.len() <= 3 {
        let heads: Vec<&str> =
            ["candidate", "role"].into_iter().chain(targets.iter().map(String::as_str)).collect();
        let rows: Vec<Vec<String>> = names
            .map(|(name, role)| {
                let mut row = vec![name.to_owned(), word(role)];
                row.extend(targets.iter().map(|at| word_of(name, at)));
                row
            })
            .collect();
        table(&heads, &rows, "  ", WIDTH)
    } else {
        let rows: Vec<Vec<String>> = names
            .flat_map(|(name, role)| targets.iter().map(move |at| (name, role, at)))
            .map(|(name, role, at)| {
                vec![name.to_owned(), word(role), at.clone(), word_of(name, at)]
            })
            .collect();
        table(&["candidate", "role", "target", "verdict"], &rows, "  ", WIDTH)
    };
    out.push_str(&text);
    if starred {
        line(out, "  * as far as tested; see below what was not");
    }
}

fn answers(out: &mut String, report: &Report) {
    title(out, "WHAT CHANGES FOR USER SPACE, as far as measured");
    if let Some(question) = report.run.thread.as_ref().and_then(|t| t.question.as_ref()) {
        out.push_str(&wrap(question, WIDTH, "> ", "> "));
        out.push('\n');
    }
    for candidate in &report.run.candidates {
        let head = format!("{}: {}", candidate.name, headline(report, candidate));
        out.push_str(&wrap(&head, WIDTH, "  ", "      "));
        let text = sentences(report, candidate).join(" ");
        out.push_str(&wrap(&text, WIDTH, "      ", "      "));
    }
}

/// What came of a claim, for each rate.
fn claims(out: &mut String, report: &Report) {
    // Who, where, under which condition, what came of it, for which metrics.
    let mut told: Vec<([String; 4], Vec<&str>)> = Vec::new();
    for row in &report.rates {
        let Some(claim) = &row.claim else { continue };
        let key = [
            row.place.candidate.clone(),
            cell(report, &row.place),
            condition(row),
            claim_words(claim),
        ];
        match told.iter_mut().find(|(known, _)| *known == key) {
            Some((_, metrics)) => metrics.push(&row.metric),
            None => told.push((key, vec![&row.metric])),
        }
    }
    let rows: Vec<Vec<String>> = told
        .into_iter()
        .map(|([who, at, condition, what], metrics)| {
            vec![who, at, format!("{condition}, {}: {what}", list(&metrics))]
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    title(out, "CLAIM");
    out.push_str(&table(&["candidate", "on", "claim"], &rows, "  ", WIDTH));
    line(out, "Each at 95% confidence by itself. It speaks of this guest, not of a fleet.");
}

/// Rates along an axis, in percent.
fn sweeps(out: &mut String, report: &Report) {
    let all = sweep::render(report);
    if all.is_empty() {
        return;
    }
    title(out, "SWEEPS: right answers of eligible calls in percent");
    for (heading, table) in all {
        line(out, &heading);
        out.push_str(&table);
        out.push('\n');
    }
    line(out, "+ better, - worse, ? inconclusive against the reference; at: the duty measured.");
}

/// Rows that stand under one heading.
fn heading(report: &Report, row: &RateRow) -> String {
    let kind = match (row.judged, row.stress) {
        (true, _) => "",
        (false, Stress::Flip) => " (not held equal, not judged)",
        (false, Stress::Idle | Stress::MmapWriters | Stress::Oversubscribed | Stress::PageOut) => {
            " (a debug kernel, not judged)"
        }
    };
    format!("{}, {}{kind}", condition(row), cell(report, &row.place))
}

fn availability(out: &mut String, report: &Report) {
    if report.rates.is_empty() {
        return;
    }
    title(out, "AVAILABILITY: right answers of eligible calls, 95% interval");
    let mut headings: Vec<String> = Vec::new();
    for row in &report.rates {
        let heading = heading(report, row);
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    for at in headings {
        let rows: Vec<&RateRow> =
            report.rates.iter().filter(|row| heading(report, row) == at).collect();
        let mut metrics: Vec<&str> = Vec::new();
        for row in &rows {
            if !metrics.contains(&row.metric.as_str()) {
                metrics.push(&row.metric);
            }
        }
        // Metrics with the same numbers share a table.
        let mut tables: Vec<(Vec<&str>, Vec<&RateRow>)> = Vec::new();
        for metric in metrics {
            let these: Vec<&RateRow> =
                rows.iter().filter(|row| row.metric == metric).copied().collect();
            match tables.iter_mut().find(|(_, known)| same_numbers(known, &these)) {
                Some((names, _)) => names.push(metric),
                None => tables.push((vec![metric], these)),
            }
        }
        for (names, rows) in tables {
            line(out, &format!("{at}: {}", names.join(" and ")));
            let rows: Vec<Vec<String>> = rows.iter().map(|row| rate_row(report, row)).collect();
            out.push_str(&table(&["", "", ""], &rows, "  ", WIDTH));
            out.push('\n');
        }
    }
    line(out, &how_judged(report));
    if report.rates.iter().any(|row| row.independence_assumed && row.calls > 0) {
        line(out, "Where no call failed, or all did, intervals assume independent calls.");
    }
    if report.rates.iter().any(|row| {
        let few = row.rarer_in.is_some_and(|blocks| (blocks as usize) < FEW_BLOCKS);
        // What other rates of the kind tell of boots holds for the clumps in them, too.
        few && !row.independence_assumed && row.boot_effect.is_none() && row.calls > 0
    }) {
        let text = format!(
            "Where fewer than {FEW_BLOCKS} blocks hold all failures, how failures clump is \
             hardly known, and intervals may be too narrow."
        );
        line(out, &text);
    }
    if report.rates.iter().any(|row| row.error_share.is_some_and(|share| share < 1.0)) {
        let text = "Sampling stopped when a rate was known well enough; its interval spends \
                    only the share of the error that its looks left (Lan & DeMets 1983).";
        line(out, text);
    }
    if report.environment.accel.values().any(|accel| accel == "tcg") {
        let text = "Measured in QEMU without KVM: the numbers compare candidates, they are not \
                    those of a fleet.";
        line(out, text);
    }
}

fn same_numbers(a: &[&RateRow], b: &[&RateRow]) -> bool {
    let numbers =
        |row: &RateRow| (row.place.candidate.clone(), row.calls, row.correct, row.verdict);
    a.iter().map(|row| numbers(row)).eq(b.iter().map(|row| numbers(row)))
}

/// What the words for rates rest on.
pub(super) fn how_judged(report: &Report) -> String {
    let mut text = format!(
        "Same: the 95% interval of the difference lies within {}",
        points(report.settings.margin)
    );
    let judged = report.rates.iter().filter(|row| row.judged);
    let mut own: Vec<String> = judged
        .filter(|row| row.margin > 0.0 && row.margin != report.settings.margin)
        .map(|row| format!("{} under {}", points(row.margin), word(row.stress)))
        .collect();
    own.sort();
    own.dedup();
    if !own.is_empty() {
        text.push_str(&format!(" ({})", list(&own)));
    }
    text.push_str(
        ". Better, worse: the interval corrected for the number of comparisons lies beyond.",
    );
    if report.rates.iter().any(|row| row.boot_effect.is_some_and(|effect| effect > 1.0)) {
        text.push_str(
            " Intervals take into account how much boots of one kernel differ, as all rates of \
             one context, stress and interface tell together.",
        );
    }
    text
}

fn rate_row(report: &Report, row: &RateRow) -> Vec<String> {
    let name = row.place.candidate.clone();
    if row.calls == 0 {
        let own = |c: &&CellRow| {
            (&c.place.base, &c.place.candidate, &c.place.arch, &c.place.profile)
                == (&row.place.base, &row.place.candidate, &row.place.arch, &row.place.profile)
        };
        let end = report.cells.iter().find(own).map_or(CellEnd::Error, |c| c.end);
        // Why it did not run stands once, among the cells.
        let why = match end {
            CellEnd::Ran => plain(&row.reason, 160),
            end => end_words(end).to_owned(),
        };
        return vec![name, "-".into(), format!("0 calls: {why}")];
    }
    let own = row.place.candidate == reference(report);
    let verdict = match (own, row.judged) {
        (true, _) => "reference".to_owned(),
        (false, true) => word(row.verdict),
        (false, false) => "-".to_owned(),
    };
    let more = match (row.verdict, row.needs, row.noise) {
        _ if !row.judged => String::new(),
        (Verdict::Inconclusive, Some(calls), _) => {
            format!(", needs about {} more calls", count(calls))
        }
        // What the reference has stands in the same table.
        (Verdict::Inconclusive, None, _) => format!(", {}", plain(&row.reason, 160)),
        (_, _, Some(noise)) if own => format!(", its rounds differ by up to {}", points(noise)),
        (Verdict::Better | Verdict::Same | Verdict::Worse, ..) => String::new(),
    };
    vec![name, verdict, format!("{}{more}", shown(row))]
}

/// What stands beside the calls: rows of zeros only are left out.
fn not_counted(out: &mut String, report: &Report) {
    let mut groups: Vec<(String, Vec<Vec<String>>)> = Vec::new();
    let mut told: Vec<(String, &str)> = Vec::new();
    for row in &report.rates {
        let astray: u64 = row.wrong_context.values().sum();
        let fell_back = row.slot_busy.unwrap_or(0) + row.lock_failed.unwrap_or(0);
        let any = row.ineligible + row.missed + row.errors + astray + fell_back > 0
            || row.blocks_without_lockdep > 0;
        // The rows of one step count the same events.
        let key = (heading(report, row), row.place.candidate.as_str());
        if !any || told.contains(&key) {
            continue;
        }
        told.push(key);
        let told_apart = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), count);
        let cells = vec![
            row.place.candidate.clone(),
            count(row.ineligible),
            count(row.missed),
            count(row.errors.saturating_add(astray)),
            row.blocks_without_lockdep.to_string(),
            told_apart(row.slot_busy),
            told_apart(row.lock_failed),
        ];
        let at = heading(report, row);
        match groups.iter_mut().find(|(known, _)| *known == at) {
            Some((_, rows)) => rows.push(cells),
            None => groups.push((at, vec![cells])),
        }
    }
    if groups.is_empty() {
        return;
    }
    title(out, "BESIDE THE CALLS: what was not counted, and why calls fell back");
    for (at, rows) in groups {
        let heads = ["", ">no-stack", ">missed", ">errors", ">blocks-off", ">busy", "lock"];
        line(out, &at);
        out.push_str(&table(&heads, &rows, "  ", WIDTH));
    }
    let text = "no-stack: no user stack; missed: an event without a run; errors: not scored, or \
                from another context; blocks-off: blocks with lockdep off; busy, lock: calls \
                that fell back because the unlock work was busy, or the lock not to be had \
                (-: cannot be told).";
    out.push('\n');
    line(out, text);
}

/// What users of `bpf_get_stackid` see.
fn buckets(out: &mut String, report: &Report) {
    let mut groups: Vec<(String, Vec<Vec<String>>)> = Vec::new();
    for row in &report.rates {
        let Some(seen) = &row.buckets else { continue };
        let (at, who) = (heading(report, row), row.place.candidate.clone());
        let group = match groups.iter().position(|(known, _)| *known == at) {
            Some(group) => group,
            None => {
                groups.push((at, Vec::new()));
                groups.len() - 1
            }
        };
        let Some((_, rows)) = groups.get_mut(group) else { continue };
        // The rows of one step count the same ids.
        if rows.iter().any(|row| row.first() == Some(&who)) {
            continue;
        }
        let numbers =
            [seen.ids, seen.fallback_ids, seen.exists, seen.fast_calls, seen.fast_stale].map(count);
        rows.push(std::iter::once(who).chain(numbers).collect());
    }
    if groups.is_empty() {
        return;
    }
    title(out, "BUCKETS of bpf_get_stackid");
    for (at, rows) in groups {
        line(out, &at);
        let heads = ["", ">ids", ">split", ">EEXIST", ">fast", ">stale"];
        out.push_str(&table(&heads, &rows, "  ", WIDTH));
    }
    let text = "ids: given to calls; split: of these, with a fallback in the stack, beside the \
                id of the same stack without one; EEXIST: calls refused for that; fast: calls \
                with BPF_F_FAST_STACK_CMP; stale: of these, given an earlier call's fallback.";
    out.push('\n');
    line(out, text);
}

/// What a kernel took to build, in brackets if that was another time.
pub(super) fn build_seconds(row: &CellRow) -> String {
    match (row.seconds.copy, row.seconds.make, row.seconds.cached) {
        (None, None, None) => "-".to_owned(),
        (None, None, Some(cached)) => format!("({cached:.1})"),
        (copy, make, _) => format!("{:.1}", copy.unwrap_or(0.0) + make.unwrap_or(0.0)),
    }
}

fn cells(out: &mut String, report: &Report) {
    title(out, "CELLS: seconds to build, to boot, and of all boots");
    let seconds = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |s| format!("{s:.1}"));
    let rows: Vec<Vec<String>> = report
        .cells
        .iter()
        .map(|row| {
            vec![
                row.place.candidate.clone(),
                cell(report, &row.place),
                build_seconds(row),
                seconds(row.seconds.hello),
                format!("{:.1}", row.seconds.boots),
                row.place.boots.to_string(),
                match &row.note {
                    Some(note) => format!("{}: {}", end_words(row.end), plain(note, 120)),
                    None => end_words(row.end).to_owned(),
                },
            ]
        })
        .collect();
    let heads = ["candidate", "on", ">build", ">boot", ">all", ">boots", "end"];
    out.push_str(&table(&heads, &rows, "  ", WIDTH));
    if report.cells.iter().any(|row| row.seconds.make.is_none() && row.place.boots > 0) {
        line(out, "  (..) = the kernel came from the cache; so long it took when it was made");
    }
}

fn gates(out: &mut String, report: &Report) {
    if report.gates.is_empty() {
        return;
    }
    let met = report.gates.iter().filter(|gate| gate.state == GateState::Met).count();
    title(out, &format!("GATES: {met} of {} met", report.gates.len()));
    // Gates that fail for one reason share a line, and so do architectures.
    let mut open: Vec<(String, String, Vec<String>, Vec<String>)> = Vec::new();
    for gate in report.gates.iter().filter(|gate| gate.state != GateState::Met) {
        let (who, at) = (gate.place.candidate.clone(), target(report, &gate.place));
        let why = format!("{}: {}", word(gate.state), plain(&gate.reason, 160));
        let known = open
            .iter_mut()
            .find(|(w, y, places, _)| *w == who && *y == why && *places == [at.clone()]);
        match known {
            Some((.., gates)) => gates.push(gate.rule.name()),
            None => open.push((who, why, vec![at], vec![gate.rule.name()])),
        }
    }
    let mut lines: Vec<(String, String, Vec<String>, Vec<String>)> = Vec::new();
    for (who, why, places, gates) in open {
        match lines.iter_mut().find(|(w, y, _, g)| *w == who && *y == why && *g == gates) {
            Some((_, _, known, _)) => known.extend(places),
            None => lines.push((who, why, places, gates)),
        }
    }
    for (who, why, places, gates) in lines {
        let text = format!("{who} on {}: {} {why}", place_list(report, &places), list(&gates));
        out.push_str(&wrap(&text, WIDTH, "  - ", "    "));
    }
}

fn predictions(out: &mut String, report: &Report) {
    if report.predictions.is_empty() {
        return;
    }
    let held = report.predictions.iter().filter(|p| p.outcome == Outcome::Confirmed).count();
    title(out, &format!("PREDICTIONS: {held} of {} confirmed", report.predictions.len()));
    for row in report.predictions.iter().filter(|p| p.outcome != Outcome::Confirmed) {
        let text = format!(
            "{} on {}: \"{}\": {}: {}",
            row.place.candidate,
            target(report, &row.place),
            plain(&row.says, 120),
            word(row.outcome),
            plain(&row.reason, 160)
        );
        out.push_str(&wrap(&text, WIDTH, "  - ", "    "));
    }
}

/// `lockless-tree on arm64: what: why`.
pub(super) fn untested_line(row: &crate::judge::compare::NotTested) -> String {
    let place: Vec<&str> =
        [&row.base, &row.arch, &row.profile].iter().filter_map(|name| name.as_deref()).collect();
    let who = match (&row.candidate, place.as_slice()) {
        (Some(candidate), []) => format!("{candidate}: "),
        (Some(candidate), place) => format!("{candidate} on {}: ", place.join(" ")),
        (None, []) => String::new(),
        (None, place) => format!("{}: ", place.join(" ")),
    };
    format!("{who}{}: {}", row.what, row.reason)
}

fn not_tested(out: &mut String, report: &Report) {
    title(out, "NOT TESTED");
    for row in &report.not_tested {
        let text = plain(&untested_line(row), 240);
        out.push_str(&wrap(&text, WIDTH, "  - ", "    "));
    }
    if report.not_tested.is_empty() {
        line(out, "  nothing that this bake-off knows of");
    }
}

fn evidence(out: &mut String, report: &Report) {
    title(out, "EVIDENCE, in the directory of the run");
    line(out, "  cells/BASE/CANDIDATE/ARCH/PROFILE/boots/*/{console.log, records.jsonl}");
    if report.fuzz.is_some() {
        line(out, "  fuzz/BASE/, cells/BASE/CANDIDATE/ARCH/PROFILE/fuzz/");
    }
    line(out, "  report.json names the files behind every row.");
    let firsts = report.splats.iter().filter(|s| {
        matches!(s.change, Change::Control | Change::Added | Change::Changed | Change::Unclear)
            && s.count > 0
    });
    let mut told: Vec<(&str, &str)> = Vec::new();
    for splat in firsts {
        let (Some(file), Some(offset)) = (splat.place.evidence.first(), splat.first_offset) else {
            continue;
        };
        if told.contains(&(splat.title.as_str(), file.as_str())) || told.len() >= MOST_ROWS {
            continue;
        }
        told.push((&splat.title, file));
        let text = plain(&splat.title, 200);
        let at = format!("{text}, first at byte {} of", count(offset));
        out.push_str(&wrap(&at, WIDTH, "  ", "  "));
        out.push_str(&wrap(file, WIDTH, "    ", "    "));
    }
    let lost = report.verdicts.iter().filter(|v| v.verdict == Verdict::Inconclusive);
    let lost = lost.filter(|v| v.role != Role::Reference && !v.declared).count();
    if lost > 0 {
        line(out, "  `bakeoff resume` on the run does what is missing.");
    }
}
