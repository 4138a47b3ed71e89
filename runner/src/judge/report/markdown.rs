// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report for a web page or a merge request.

use super::answer::{cell, headline, reference, sentences, target, verdict_word};
use super::text::{build_seconds, how_judged, untested_line};
use super::{Report, fuzz, sweep};
use crate::judge::compare::words::{count, plain};
use crate::judge::compare::{claim_words, condition, end_words, shown};
use crate::see::observe::diff::Edit;
use crate::spec::word;

/// The longest piece of foreign text that is shown.
const MOST: usize = 2_000;

pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    let run = &report.run;
    out.push_str(&format!("# {}: {}\n\n", text(&run.bakeoff), text(&run.title)));
    out.push_str(&format!("{}, {}, seed {}.\n", text(&report.tool), text(&run.started), run.seed));
    for (name, source) in &run.bases {
        out.push_str(&format!("Base {}: {}.\n", text(name), text(source)));
    }

    section(&mut out, &format!("Verdict, against {}", reference(report)));
    let rows = report.verdicts.iter().map(|row| {
        vec![
            text(&row.place.candidate),
            word(row.role),
            text(&target(report, &row.place)),
            format!("**{}**", verdict_word(row)),
        ]
    });
    table(&mut out, &["candidate", "role", "on", "verdict"], rows);

    section(&mut out, "What changes for user space, as far as measured");
    if let Some(question) = run.thread.as_ref().and_then(|t| t.question.as_ref()) {
        out.push_str(&format!("> {}\n\n", text(question)));
    }
    for candidate in &run.candidates {
        let said: Vec<String> = sentences(report, candidate).iter().map(|s| text(s)).collect();
        out.push_str(&format!(
            "- **{}**: {}. {}\n",
            text(&candidate.name),
            text(&headline(report, candidate)),
            said.join(" ")
        ));
    }

    if report.rates.iter().any(|row| row.claim.is_some()) {
        section(&mut out, "Claim");
        let rows = report.rates.iter().filter_map(|row| {
            let claim = row.claim.as_ref()?;
            Some(vec![
                text(&row.place.candidate),
                text(&cell(report, &row.place)),
                text(&condition(row)),
                code(&row.metric),
                text(&claim_words(claim)),
            ])
        });
        table(&mut out, &["candidate", "on", "condition", "metric", "claim"], rows);
    }

    let sweeps = sweep::render(report);
    if !sweeps.is_empty() {
        section(&mut out, "Sweeps: right answers of eligible calls in percent");
        for (heading, table) in sweeps {
            out.push_str(&format!("{}\n\n```text\n{table}```\n\n", text(&heading)));
        }
        out.push_str("+ better, - worse, ? inconclusive against the reference.\n");
    }

    section(&mut out, "Availability: right answers of eligible calls, 95% interval");
    let rows = report.rates.iter().map(|row| {
        vec![
            text(&cell(report, &row.place)),
            text(&condition(row)),
            code(&row.metric),
            text(&row.place.candidate),
            if row.calls > 0 { text(&shown(row)) } else { "0 calls".into() },
            if row.judged { word(row.verdict) } else { "-".into() },
            text(&row.reason),
        ]
    });
    table(&mut out, &["on", "condition", "metric", "candidate", "rate", "verdict", "reason"], rows);
    out.push_str(&format!("\n{}\n", text(&how_judged(report))));

    section(&mut out, "Splats");
    let rows = report.splats.iter().map(|row| {
        vec![
            text(&row.place.candidate),
            text(&cell(report, &row.place)),
            word(row.change),
            count(row.count),
            format!("{}/{}", row.boots_seen, row.place.boots),
            code(&row.title),
            text(&row.reason),
        ]
    });
    table(&mut out, &["candidate", "on", "change", "times", "boots", "title", "reason"], rows);
    for row in report.splats.iter().filter(|row| !row.edits.is_empty()) {
        let before = row.beside.as_ref().map_or("?", |before| before.candidate.as_str());
        let (name, on) = (text(&row.place.candidate), text(&cell(report, &row.place)));
        out.push_str(&format!("\n{name} on {on}, against {}:\n\n```diff\n", text(before)));
        for edit in &row.edits {
            let (sign, words) = match edit {
                Edit::Same(words) => (' ', words),
                Edit::Removed(words) => ('-', words),
                Edit::Added(words) => ('+', words),
            };
            out.push_str(&format!("{sign} {}\n", plain(words, 200).replace('`', "'")));
        }
        out.push_str("```\n");
    }

    if !report.blind.is_empty() {
        section(&mut out, "What lockdep could not see");
        let rows = report.blind.iter().map(|row| {
            vec![
                text(&row.place.candidate),
                text(&cell(report, &row.place)),
                text(row.blind.name()),
                count(row.count),
                format!("{}/{}", row.boots_seen, row.place.boots),
                row.example.as_deref().map_or_else(|| "-".to_owned(), code),
                text(&row.text),
            ]
        });
        let heads = ["candidate", "on", "what", "times", "boots", "first", "so"];
        table(&mut out, &heads, rows);
    }

    if let Some(part) = fuzz::in_markdown(report, &text) {
        section(&mut out, "Fuzzing: one corpus on every kernel");
        out.push_str(&part);
    }

    section(&mut out, "Cells");
    let seconds = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |s| format!("{s:.1}"));
    let rows = report.cells.iter().map(|row| {
        vec![
            text(&row.place.candidate),
            text(&cell(report, &row.place)),
            end_words(row.end).to_owned(),
            build_seconds(row),
            seconds(row.seconds.hello),
            format!("{:.1}", row.seconds.boots),
            row.place.boots.to_string(),
            text(row.note.as_deref().unwrap_or_default()),
        ]
    });
    let heads =
        ["candidate", "on", "end", "build, s", "to boot, s", "all boots, s", "boots", "note"];
    table(&mut out, &heads, rows);

    if !report.gates.is_empty() {
        section(&mut out, "Gates");
        let rows = report.gates.iter().map(|row| {
            vec![
                text(&row.place.candidate),
                text(&target(report, &row.place)),
                text(&row.rule.name()),
                word(row.state),
                text(&row.reason),
            ]
        });
        table(&mut out, &["candidate", "on", "gate", "state", "reason"], rows);
    }

    if !report.predictions.is_empty() {
        section(&mut out, "Predictions");
        let rows = report.predictions.iter().map(|row| {
            vec![
                text(&row.place.candidate),
                text(&target(report, &row.place)),
                text(&row.says),
                format!("**{}**", word(row.outcome)),
                text(&row.reason),
            ]
        });
        table(&mut out, &["candidate", "on", "prediction", "outcome", "evidence"], rows);
    }

    section(&mut out, "Reasons");
    for row in &report.verdicts {
        let (name, on) = (text(&row.place.candidate), text(&target(report, &row.place)));
        out.push_str(&format!("- {name} on {on}: **{}**\n", verdict_word(row)));
        for reason in &row.reasons {
            out.push_str(&format!("  - {}\n", text(reason)));
        }
    }

    section(&mut out, "Not tested");
    for row in &report.not_tested {
        out.push_str(&format!("- {}\n", text(&untested_line(row))));
    }
    out.push_str("\n`report.json` names the files behind every row.\n");
    out
}

fn section(out: &mut String, title: &str) {
    out.push_str(&format!("\n## {}\n\n", text(title)));
}

fn table(out: &mut String, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    out.push_str(&format!("| {} |\n", heads.join(" | ")));
    out.push_str(&format!("|{}\n", "---|".repeat(heads.len())));
    for row in rows {
        out.push_str(&format!("| {} |\n", row.join(" | ")));
    }
}

/// Foreign text that markup cannot escape from.
fn text(foreign: &str) -> String {
    let mut out = String::new();
    for c in plain(foreign, MOST).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '!' | '~' => {
                out.push('\\');
                out.push(c);
            }
            // No mention, no link.
            '@' => out.push_str("&#64;"),
            _ => out.push(c),
        }
    }
    out
}

/// A name in a code span; what would end the span or the cell is replaced.
fn code(foreign: &str) -> String {
    format!("`{}`", plain(foreign, MOST).replace('`', "'").replace('|', "/"))
}
