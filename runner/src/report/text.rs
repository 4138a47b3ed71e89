// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report for a terminal or a mail.

use super::answer::{cell, headline, reference, sentences, target, verdict_word};
use super::wrap::{table, wrap};
use super::{Report, WIDTH};
use crate::compare::words::{count, counted};
use crate::compare::{
    CellRow, Change, GateState, Place, RateRow, SplatRow, Verdict, condition, end_words, shown,
};
use crate::spec::{Role, word};

/// Rows of a table that has no natural end; the rest is in `report.json`.
const MOST_ROWS: usize = 60;

pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    head(&mut out, report);
    verdicts(&mut out, report);
    answers(&mut out, report);
    availability(&mut out, report);
    not_counted(&mut out, report);
    splats(&mut out, report);
    cells(&mut out, report);
    gates(&mut out, report);
    not_tested(&mut out, report);
    evidence(&mut out, report);
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(&wrap(text, WIDTH, "", "    "));
}

fn title(out: &mut String, text: &str) {
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
    for (arch, accel) in &report.environment.accel {
        let qemu = report.environment.qemu.get(arch).map_or("QEMU", String::as_str);
        let compiler = report.environment.compiler.get(arch).map_or("", String::as_str);
        line(out, &format!("{arch}: {accel}, {qemu}, {compiler}"));
    }
}

fn verdicts(out: &mut String, report: &Report) {
    title(out, &format!("VERDICT, against {}", reference(report)));
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
        let untested = report.run.candidates.iter().any(|c| c.name == name && c.untested.is_some());
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

/// Rows that stand under one heading.
fn heading(report: &Report, row: &RateRow) -> String {
    format!("{}, {}", condition(row), cell(report, &row.place))
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
        let numbers = |metric: &str| -> Vec<(&str, u64, u64, Verdict)> {
            rows.iter()
                .filter(|row| row.metric == metric)
                .map(|row| (row.place.candidate.as_str(), row.calls, row.correct, row.verdict))
                .collect()
        };
        let mut shown_metrics: Vec<(Vec<&str>, Vec<(&str, u64, u64, Verdict)>)> = Vec::new();
        for metric in metrics {
            let these = numbers(metric);
            match shown_metrics.iter_mut().find(|(_, known)| *known == these) {
                Some((names, _)) => names.push(metric),
                None => shown_metrics.push((vec![metric], these)),
            }
        }
        for (names, _) in shown_metrics {
            line(out, &format!("{at}: {}", names.join(" and ")));
            let of = rows.iter().filter(|row| names.first() == Some(&row.metric.as_str()));
            let table_rows: Vec<Vec<String>> = of.map(|row| rate_row(row)).collect();
            out.push_str(&table(&["", "", ""], &table_rows, "  ", WIDTH).trim_start_matches('\n'));
        }
    }
    out.push('\n');
    let margin = "Differences are judged by their own interval, corrected for the number of \
                  comparisons; see report.json.";
    line(out, margin);
    if report.rates.iter().any(|row| row.independence_assumed && row.calls > 0) {
        line(out, "Where no call failed, or all did, intervals assume independent calls.");
    }
    if report.environment.accel.values().any(|accel| accel == "tcg") {
        let text = "Measured in QEMU without KVM: the numbers compare candidates, they are not \
                    those of a fleet.";
        line(out, text);
    }
}

fn rate_row(row: &RateRow) -> Vec<String> {
    let name = row.place.candidate.clone();
    if row.calls == 0 {
        return vec![name, "0 calls".into(), row.reason.clone()];
    }
    let last = match row.verdict {
        _ if row.reason.starts_with("the reference") => row.reason.clone(),
        Verdict::Better => "better".into(),
        Verdict::Same => "same".into(),
        Verdict::Worse => "worse".into(),
        Verdict::Inconclusive => row.reason.clone(),
    };
    vec![name, shown(row), last]
}

fn not_counted(out: &mut String, report: &Report) {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut told: Vec<(Place, u32)> = Vec::new();
    for row in &report.rates {
        let key = (Place { evidence: Vec::new(), boots: 0, ..row.place.clone() }, row.step);
        let astray: u64 = row.wrong_context.values().sum();
        let slot = row.slot_busy.unwrap_or(0) + row.lock_failed.unwrap_or(0);
        let any = row.ineligible + row.missed + row.errors + astray + slot > 0
            || row.blocks_without_lockdep > 0;
        if !any || told.contains(&key) {
            continue;
        }
        told.push(key);
        let told_apart = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), count);
        rows.push(vec![
            row.place.candidate.clone(),
            heading(report, row),
            count(row.ineligible),
            count(row.missed),
            count(row.errors + astray),
            told_apart(row.slot_busy),
            told_apart(row.lock_failed),
            row.blocks_without_lockdep.to_string(),
        ]);
    }
    if rows.is_empty() {
        return;
    }
    title(out, "BESIDE THE CALLS: not counted, and why calls fell back (- = cannot be told)");
    let heads = ["", "", ">inel", ">miss", ">err", ">slot", ">lock", "off"];
    out.push_str(&table(&heads, &rows, "  ", WIDTH));
    line(
        out,
        "  inel: no user stack; miss: event without a run; err: not scored, or from another \
         context; slot: unlock work busy; lock: trylock failed; off: blocks with lockdep off",
    );
}

fn splats(out: &mut String, report: &Report) {
    title(out, "SPLATS");
    if report.splats.is_empty() {
        line(out, "  none in any boot");
        return;
    }
    // One line for a title; its call chains are apart in report.json.
    let mut rows: Vec<(&SplatRow, u64, usize)> = Vec::new();
    for splat in &report.splats {
        let like = |other: &SplatRow| {
            (&other.title, other.change) == (&splat.title, splat.change)
                && other.place.candidate == splat.place.candidate
                && cell(report, &other.place) == cell(report, &splat.place)
        };
        match rows.iter_mut().find(|(known, ..)| like(known)) {
            Some((_, times, chains)) => {
                *times += splat.count;
                *chains += 1;
            }
            None => rows.push((splat, splat.count, 1)),
        }
    }
    let cells: Vec<Vec<String>> = rows
        .iter()
        .take(MOST_ROWS)
        .map(|(splat, times, chains)| {
            let chains =
                if *chains > 1 { format!(" ({chains} call chains)") } else { String::new() };
            vec![
                splat.place.candidate.clone(),
                cell(report, &splat.place),
                change_words(splat),
                count(*times),
                format!("{}{chains}", crate::compare::words::plain(&splat.title, 200)),
            ]
        })
        .collect();
    out.push_str(&table(&["candidate", "on", "change", ">times", "title"], &cells, "  ", WIDTH));
    if rows.len() > MOST_ROWS {
        line(out, &format!("  and {} more in report.json", rows.len() - MOST_ROWS));
    }
}

fn change_words(splat: &SplatRow) -> String {
    match splat.change {
        Change::Control if splat.count > 0 => "control's".into(),
        Change::Control
        | Change::Added
        | Change::Removed
        | Change::Same
        | Change::Flaky
        | Change::Secondary
        | Change::Unclear => word(splat.change),
    }
}

fn cells(out: &mut String, report: &Report) {
    title(out, "CELLS: seconds to build, to boot, and of all boots");
    let seconds = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |s| format!("{s:.1}"));
    let build = |row: &CellRow| match (row.seconds.copy, row.seconds.make) {
        (None, None) => None,
        (copy, make) => Some(copy.unwrap_or(0.0) + make.unwrap_or(0.0)),
    };
    let rows: Vec<Vec<String>> = report
        .cells
        .iter()
        .map(|row| {
            vec![
                row.place.candidate.clone(),
                cell(report, &row.place),
                seconds(build(row)),
                seconds(row.seconds.hello),
                format!("{:.1}", row.seconds.boots),
                row.place.boots.to_string(),
                match &row.note {
                    Some(note) => format!(
                        "{}: {}",
                        end_words(row.end),
                        crate::compare::words::plain(note, 300)
                    ),
                    None => end_words(row.end).to_owned(),
                },
            ]
        })
        .collect();
    let heads = ["candidate", "on", ">build", ">boot", ">all", ">boots", "end"];
    out.push_str(&table(&heads, &rows, "  ", WIDTH));
    if report.cells.iter().any(|row| row.seconds.make.is_none() && row.place.boots > 0) {
        line(out, "  - = the kernel came from the cache");
    }
}

fn gates(out: &mut String, report: &Report) {
    if report.gates.is_empty() {
        return;
    }
    let met = report.gates.iter().filter(|gate| gate.state == GateState::Met).count();
    title(out, &format!("GATES: {met} of {} met", report.gates.len()));
    let open = report.gates.iter().filter(|gate| gate.state != GateState::Met);
    let rows: Vec<Vec<String>> = open
        .map(|gate| {
            vec![
                gate.place.candidate.clone(),
                target(report, &gate.place),
                gate_name(&gate.rule),
                format!("{}: {}", word(gate.state), gate.reason),
            ]
        })
        .collect();
    if !rows.is_empty() {
        out.push_str(&table(&["candidate", "on", "gate", "state"], &rows, "  ", WIDTH));
    }
}

/// A gate as a person names it.
pub(super) fn gate_name(gate: &crate::spec::Gate) -> String {
    use crate::spec::Gate;
    match gate {
        Gate::NoAddedSplats => "no-added-splats".into(),
        Gate::ControlSplatRemoved => "control-splat-removed".into(),
        Gate::RateAtLeast { context, .. } => format!("rate-at-least {}", word(*context)),
        Gate::NotWorse => "not-worse".into(),
    }
}

/// `lockless-tree on arm64: what: why`.
pub(super) fn untested_line(row: &crate::compare::NotTested) -> String {
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
        let text = crate::compare::words::plain(&untested_line(row), 400);
        out.push_str(&wrap(&text, WIDTH, "  - ", "    "));
    }
    if report.not_tested.is_empty() {
        line(out, "  nothing that this bake-off knows of");
    }
}

fn evidence(out: &mut String, report: &Report) {
    title(out, "EVIDENCE, in the directory of the run");
    line(out, "  cells/BASE/CANDIDATE/ARCH/PROFILE/boots/*/{console.log, records.jsonl}");
    line(out, "  report.json names the files behind every row.");
    let firsts = report.splats.iter().filter(|s| {
        matches!(s.change, Change::Control | Change::Added | Change::Unclear) && s.count > 0
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
        let text = crate::compare::words::plain(&splat.title, 200);
        let at = counted(offset, "byte").replace(" bytes", "").replace(" byte", "");
        out.push_str(&wrap(&format!("{text}, first at byte {at} of"), WIDTH, "  ", "  "));
        out.push_str(&wrap(file, WIDTH, "    ", "    "));
    }
    let lost = report.verdicts.iter().filter(|v| v.verdict == Verdict::Inconclusive);
    let lost = lost.filter(|v| v.role != Role::Reference && !v.declared).count();
    if lost > 0 {
        line(out, "  `bakeoff resume` on the run does what is missing.");
    }
}
