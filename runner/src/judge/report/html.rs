// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report for a browser: one file that needs no other, no script and no
//! network. It lies in the run, so that its links lead to the evidence.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::answer::{cell, headline, reference, sentences, target, verdict_word};
use super::text::{how_judged, untested_line};
use super::{Report, fuzz};
use crate::judge::compare::words::{count, plain, ratio};
use crate::judge::compare::{
    Outcome, Place, RateRow, SplatRow, Verdict, VerdictRow, claim_words, condition, end_words,
    shown,
};
use crate::see::observe::diff::Edit;
use crate::spec::word;

const STYLE: &str = include_str!("html.css");

/// The longest piece of foreign text that is shown.
const MOST: usize = 2_000;

/// Files of one row that are linked; the rest is in `report.json`.
const LINKS: usize = 6;

pub(super) fn render(report: &Report) -> String {
    let run = &report.run;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (text(&run.bakeoff)) ": " (text(&run.title)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (head(report))
                (verdicts(report))
                (answers(report))
                (availability(report))
                (splats(report))
                (blind(report))
                (fuzz::in_html(report))
                (cells(report))
                (gates(report))
                (predictions(report))
                (reasons(report))
                (not_tested(report))
            }
        }
    };
    let mut page = page.into_string();
    page.push('\n');
    page
}

/// Foreign text without control characters; maud escapes the markup.
fn text(foreign: &str) -> String {
    plain(foreign, MOST)
}

fn head(report: &Report) -> Markup {
    let run = &report.run;
    html! {
        h1 { (text(&run.bakeoff)) ": " (text(&run.title)) }
        p.dim {
            (text(&report.tool)) ", " (text(&run.started)) ", seed " (run.seed)
            ", spec " code { (run.spec_sha256.chars().take(12).collect::<String>()) }
            @for (name, source) in &run.bases {
                br; "base " (text(name)) ": " (text(source))
            }
            @for (arch, accel) in &report.environment.accel {
                br; (arch) ": " (text(accel))
                @for of in [&report.environment.qemu, &report.environment.compiler] {
                    @if let Some(said) = of.get(arch) { ", " (text(said)) }
                }
            }
        }
    }
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Better => "better",
        Verdict::Same => "same",
        Verdict::Worse => "worse",
        Verdict::Inconclusive => "inconclusive",
    }
}

/// A rate that is not judged says nothing about its candidate.
fn rate_class(row: &RateRow) -> &'static str {
    if row.judged { class(row.verdict) } else { "same" }
}

fn verdicts(report: &Report) -> Markup {
    let mut targets: Vec<String> = Vec::new();
    for row in &report.verdicts {
        let at = target(report, &row.place);
        if !targets.contains(&at) {
            targets.push(at);
        }
    }
    let find = |name: &str, at: &str| -> Option<&VerdictRow> {
        let is = |v: &&VerdictRow| v.place.candidate == name && target(report, &v.place) == at;
        report.verdicts.iter().find(is)
    };
    html! {
        h2 { "Verdict, against " (reference(report)) }
        .wide { table {
            tr { th { "candidate" } th { "role" } @for at in &targets { th { (at) } } th { "what it is" } }
            @for candidate in &report.run.candidates {
                tr {
                    td { a href={ "#" (candidate.name) } { (text(&candidate.name)) } }
                    td { (word(candidate.role)) }
                    @for at in &targets {
                        @match find(&candidate.name, at) {
                            Some(row) => td class=(class(row.verdict)) { (verdict_word(row)) },
                            None => td { "-" },
                        }
                    }
                    td.dim { (text(&candidate.title)) }
                }
            }
        } }
    }
}

fn answers(report: &Report) -> Markup {
    html! {
        h2 { "What changes for user space, as far as measured" }
        @if let Some(thread) = &report.run.thread {
            @if let Some(question) = &thread.question { blockquote { (text(question)) } }
        }
        @for candidate in &report.run.candidates {
            h3 id=(candidate.name) { (text(&candidate.name)) ": " (text(&headline(report, candidate))) }
            p { @for said in sentences(report, candidate) { (text(&said)) " " } }
        }
    }
}

/// Rows of one cell group and condition, with one plot a row.
fn availability(report: &Report) -> Markup {
    let heading =
        |row: &RateRow| format!("{}, {}: {}", cell(report, &row.place), condition(row), row.metric);
    let mut headings: Vec<String> = Vec::new();
    for row in &report.rates {
        let heading = heading(row);
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    html! {
        @if !headings.is_empty() {
            h2 { "Availability: right answers of eligible calls, 95% interval" }
        }
        @for at in &headings {
            h3 { (at) }
            .wide { table {
                @for row in report.rates.iter().filter(|row| heading(row) == *at) {
                    tr {
                        td { (text(&row.place.candidate)) }
                        td class=(rate_class(row)) { (interval(row)) }
                        td.number { @if row.calls > 0 { (shown(row)) } @else { "0 calls" } }
                        td class=(rate_class(row)) {
                            @if row.place.candidate == reference(report) || !row.judged { "-" }
                            @else { (word(row.verdict)) }
                        }
                        td.dim {
                            (text(&row.reason)) " "
                            @if let Some(claim) = &row.claim { (claim_words(claim)) ". " }
                            (evidence(&row.place))
                        }
                    }
                }
            } }
        }
        @if !headings.is_empty() {
            p.dim {
                (how_judged(report)) " The axis goes from 0 to 100%."
            }
        }
    }
}

/// A rate and its bounds on an axis from 0 to 1.
fn interval(row: &RateRow) -> Markup {
    let at = |rate: f64| format!("{:.2}", 4.0 + 232.0 * rate.clamp(0.0, 1.0));
    let (Some(low), Some(high)) = (row.low, row.high) else { return html! {} };
    html! {
        svg.interval viewBox="0 0 240 16" role="img" aria-label=(shown(row)) {
            @for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
                line.axis x1=(at(tick)) x2=(at(tick)) y1="4" y2="12" {}
            }
            line.axis x1=(at(0.0)) x2=(at(1.0)) y1="8" y2="8" {}
            line.range x1=(at(low)) x2=(at(high)) y1="8" y2="8" {}
            circle.point cx=(at(ratio(row.correct, row.calls))) cy="8" r="3.5" {}
        }
    }
}

/// Links into the run.
fn evidence(place: &Place) -> Markup {
    html! {
        @if !place.evidence.is_empty() {
            details {
                summary { "evidence" }
                @for file in place.evidence.iter().take(LINKS) {
                    a href=(file) { code { (text(file)) } } br;
                }
                @if place.evidence.len() > LINKS { (place.evidence.len() - LINKS) " more in report.json" }
            }
        }
    }
}

fn splats(report: &Report) -> Markup {
    html! {
        h2 { "Splats" }
        @if report.splats.is_empty() { p { "None on any console." } }
        @else { .wide { table {
            tr { th { "candidate" } th { "on" } th { "change" } th { "times" } th { "boots" } th { "title" } th { "why" } }
            @for row in &report.splats {
                tr {
                    td { (text(&row.place.candidate)) }
                    td { (cell(report, &row.place)) }
                    td { (word(row.change)) }
                    td.number { (count(row.count)) }
                    td.number { (row.boots_seen) "/" (row.place.boots) }
                    td { code { (text(&row.title)) } br; span.dim { (text(&row.fingerprint)) } (edits(row)) }
                    td.dim { (text(&row.reason)) " " (evidence(&row.place)) }
                }
            }
        } } }
    }
}

/// What a changed splat was before: `-` beside, `+` here.
fn edits(row: &SplatRow) -> Markup {
    html! {
        @if !row.edits.is_empty() {
            pre { @for edit in &row.edits {
                @match edit {
                    Edit::Same(words) => { "  " (text(words)) }
                    Edit::Removed(words) => { "- " (text(words)) }
                    Edit::Added(words) => { "+ " (text(words)) }
                }
                "\n"
            } }
        }
    }
}

fn blind(report: &Report) -> Markup {
    html! { @if !report.blind.is_empty() {
        h2 { "What lockdep could not see" }
        .wide { table {
            tr { th { "candidate" } th { "on" } th { "what" } th { "times" } th { "boots" } th { "so" } }
            @for row in &report.blind {
                tr {
                    td { (text(&row.place.candidate)) }
                    td { (cell(report, &row.place)) }
                    td { (row.blind.name()) }
                    td.number { (count(row.count)) }
                    td.number { (row.boots_seen) "/" (row.place.boots) }
                    td.dim { (text(&row.text)) " " (evidence(&row.place)) }
                }
            }
        } }
    } }
}

fn cells(report: &Report) -> Markup {
    let seconds = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |s| format!("{s:.1}"));
    html! {
        h2 { "Cells" }
        .wide { table {
            tr {
                th { "candidate" } th { "on" } th { "end" } th { "make, s" } th { "to boot, s" }
                th { "all boots, s" } th { "boots" } th { "note" }
            }
            @for row in &report.cells {
                tr {
                    td { (text(&row.place.candidate)) }
                    td { (cell(report, &row.place)) }
                    td { (end_words(row.end)) }
                    td.number { (seconds(row.seconds.make)) }
                    td.number { (seconds(row.seconds.hello)) }
                    td.number { (format!("{:.1}", row.seconds.boots)) }
                    td.number { (row.place.boots) }
                    td.dim { (text(row.note.as_deref().unwrap_or_default())) " " (evidence(&row.place)) }
                }
            }
        } }
    }
}

fn gates(report: &Report) -> Markup {
    html! { @if !report.gates.is_empty() {
        h2 { "Gates" }
        .wide { table {
            tr { th { "candidate" } th { "on" } th { "gate" } th { "state" } th { "reason" } }
            @for row in &report.gates {
                tr {
                    td { (text(&row.place.candidate)) }
                    td { (target(report, &row.place)) }
                    td { (row.rule.name()) }
                    td { (word(row.state)) }
                    td.dim { (text(&row.reason)) }
                }
            }
        } }
    } }
}

fn predictions(report: &Report) -> Markup {
    let class = |outcome: Outcome| match outcome {
        Outcome::Confirmed => "same",
        Outcome::Refuted => "worse",
        Outcome::Undecided => "inconclusive",
    };
    html! { @if !report.predictions.is_empty() {
        h2 { "Predictions" }
        .wide { table {
            tr { th { "candidate" } th { "on" } th { "prediction" } th { "outcome" } th { "why" } }
            @for row in &report.predictions {
                tr {
                    td { (text(&row.place.candidate)) }
                    td { (target(report, &row.place)) }
                    td { (text(&row.says)) }
                    td class=(class(row.outcome)) { (word(row.outcome)) }
                    td.dim { (text(&row.reason)) " " (evidence(&row.place)) }
                }
            }
        } }
    } }
}

fn reasons(report: &Report) -> Markup {
    html! {
        h2 { "Reasons" }
        ul { @for row in &report.verdicts {
            li {
                (text(&row.place.candidate)) " on " (target(report, &row.place)) ": "
                span class=(class(row.verdict)) { (verdict_word(row)) }
                ul { @for reason in &row.reasons { li { (text(reason)) } } }
            }
        } }
    }
}

fn not_tested(report: &Report) -> Markup {
    html! {
        h2 { "Not tested" }
        ul { @for row in &report.not_tested { li { (text(&untested_line(row))) } } }
        p.dim { a href="report.json" { "report.json" } " names the files behind every row." }
    }
}
