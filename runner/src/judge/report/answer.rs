// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers the question a maintainer asks of every patch: what changes for user
//! space, as far as it was measured. One paragraph a candidate, shared by the
//! formats that people read.

use super::Report;
use crate::judge::compare::words::{Round, count, counted, list, percent, plain, ratio};
use crate::judge::compare::{
    CandidateInfo, CellEnd, Change, Effect, Place, RateRow, SplatRow, Untested, Verdict,
    VerdictRow, condition, means, untested_on,
};
use crate::spec::Role;

/// The longest title that is shown whole.
const TITLE: usize = 120;
/// Conditions that a sentence names; the tables have all.
const MOST_CONDITIONS: usize = 6;
/// The longest finding that is shown whole.
const TEXT: usize = 240;

/// The name a candidate's rows have in this report: `x86_64`, with its base where
/// there are several.
pub(super) fn target(report: &Report, place: &Place) -> String {
    if report.run.bases.len() > 1 {
        format!("{} {}", place.base, place.arch)
    } else {
        place.arch.clone()
    }
}

/// The same with the profile where there are several.
pub(super) fn cell(report: &Report, place: &Place) -> String {
    let several = report
        .cells
        .iter()
        .any(|c| report.cells.first().is_some_and(|first| first.place.profile != c.place.profile));
    if several {
        format!("{} {}", target(report, place), place.profile)
    } else {
        target(report, place)
    }
}

/// `x86_64 and arm64`, `all 4 targets`.
pub(super) fn place_list(report: &Report, places: &[String]) -> String {
    let mut all: Vec<String> = Vec::new();
    report.verdicts.iter().for_each(|row| add(&mut all, target(report, &row.place)));
    if all.iter().all(|at| places.contains(at)) {
        match all.len() {
            // One base: the targets are its architectures.
            2 if report.run.bases.len() < 2 => return "both architectures".into(),
            0..=2 => {}
            many => return format!("all {many} targets"),
        }
    }
    list(places)
}

/// A verdict in a word.
pub(super) fn verdict_word(row: &VerdictRow) -> &'static str {
    match row.verdict {
        _ if row.role == Role::Reference && row.verdict == Verdict::Same => "-",
        _ if row.declared => "not portable",
        Verdict::Better => "better",
        Verdict::Same => "same",
        Verdict::Worse => "worse",
        Verdict::Inconclusive => "inconclusive",
    }
}

/// A verdict in a sentence.
fn verdict_words(report: &Report, row: &VerdictRow) -> String {
    let than = reference(report);
    match row.verdict {
        _ if row.role == Role::Reference && row.verdict == Verdict::Same => "the reference".into(),
        _ if row.declared => "not portable".into(),
        Verdict::Better => format!("better than {than}"),
        Verdict::Same => format!("same as {than}, as far as tested,"),
        Verdict::Worse => format!("worse than {than}"),
        Verdict::Inconclusive => "inconclusive".into(),
    }
}

/// The reference's name.
pub(super) fn reference(report: &Report) -> &str {
    let found = report.run.candidates.iter().find(|c| c.role == Role::Reference);
    found.map_or("the reference", |c| c.name.as_str())
}

/// `worse on x86_64 and arm64; same on riscv`.
pub(super) fn headline(report: &Report, candidate: &CandidateInfo) -> String {
    let mut by_word: Vec<(String, Vec<String>)> = Vec::new();
    for row in report.verdicts.iter().filter(|v| v.place.candidate == candidate.name) {
        let (word, at) = (verdict_words(report, row), target(report, &row.place));
        match by_word.iter_mut().find(|(known, _)| *known == word) {
            Some((_, places)) => places.push(at),
            None => by_word.push((word, vec![at])),
        }
    }
    let parts: Vec<String> = by_word
        .iter()
        .map(|(word, places)| format!("{word} on {}", place_list(report, places)))
        .collect();
    parts.join("; ")
}

/// The paragraph, sentence by sentence.
pub(super) fn sentences(report: &Report, candidate: &CandidateInfo) -> Vec<String> {
    let mut all = Vec::new();
    if candidate.role != Role::Reference {
        all.extend(moved(report, candidate));
        all.extend(unmoved(report, candidate));
    }
    all.extend(splats(report, candidate));
    all.extend(other(report, candidate));
    if let Some(untested) = &candidate.untested {
        match untested_on(candidate, &report.findings, &report.verdicts) {
            Untested::Everywhere => all.push(format!("Not tested: {untested}.")),
            Untested::On(places) if places.is_empty() => {}
            Untested::On(places) => {
                let places: Vec<String> = places.iter().map(|at| target(report, at)).collect();
                let places = place_list(report, &places);
                all.push(format!("Not tested on {places}: {untested}."));
            }
        }
    }
    if candidate.role == Role::Reference {
        let agree = all.is_empty() && report.cells.iter().any(|c| c.role == Role::Reference);
        let agree = if agree { " Its rounds agree with each other." } else { "" };
        all.insert(0, format!("What the others are compared with.{agree}"));
    } else if all.is_empty() {
        all.push("Nothing was measured.".into());
    }
    all
}

fn rates<'a>(
    report: &'a Report,
    candidate: &'a CandidateInfo,
) -> impl Iterator<Item = &'a RateRow> {
    // Debug options distort rates: where a production kernel was measured, it speaks.
    let own =
        move |row: &&RateRow| row.place.candidate == candidate.name && row.calls > 0 && row.judged;
    report.rates.iter().filter(own)
}

/// A rate that rose or fell under one condition.
struct Move {
    verb: &'static str,
    condition: String,
    metrics: Vec<String>,
    /// From, to, on which targets, by how many of how many calls.
    seen: Vec<(String, String, Vec<String>, Vec<String>)>,
}

/// What rose or fell: one sentence for the metrics that did so alike, one part of it
/// for each condition, and targets with the same change named together.
fn moved(report: &Report, candidate: &CandidateInfo) -> Vec<String> {
    let mut moves: Vec<Move> = Vec::new();
    for row in rates(report, candidate) {
        let verb = match row.verdict {
            Verdict::Worse => "falls",
            Verdict::Better => "rises",
            Verdict::Same | Verdict::Inconclusive => continue,
        };
        let percent_of =
            |row: &RateRow| percent(ratio(row.correct, row.calls), Round::Nearest) + "%";
        let from = report.rates.iter().find(|r| {
            r.place.candidate == reference(report)
                && (&r.place.base, &r.place.arch, &r.place.profile)
                    == (&row.place.base, &row.place.arch, &row.place.profile)
                && (r.step, &r.metric) == (row.step, &row.metric)
        });
        let from = from.map(percent_of).unwrap_or_default();
        let (to, place) = (percent_of(row), target(report, &row.place));
        let calls = format!("{}/{}", count(row.correct), count(row.calls));
        let metric = means(&row.metric).to_owned();
        let condition = condition(row);
        let like = |m: &&mut Move| {
            m.verb == verb && m.condition == condition && m.metrics == [metric.clone()]
        };
        let known = match moves.iter_mut().find(like) {
            Some(known) => known,
            None => {
                let metrics = vec![metric.clone()];
                moves.push(Move { verb, condition, metrics, seen: Vec::new() });
                let Some(new) = moves.last_mut() else { continue };
                new
            }
        };
        match known.seen.iter_mut().find(|(f, t, ..)| *f == from && *t == to) {
            Some((_, _, places, seen)) => {
                add(places, place);
                add(seen, calls);
            }
            None => known.seen.push((from, to, vec![place], vec![calls])),
        }
    }
    // Metrics that moved alike share a sentence.
    let mut merged: Vec<Move> = Vec::new();
    for one in moves {
        let like = |m: &&mut Move| {
            m.verb == one.verb && m.condition == one.condition && m.seen == one.seen
        };
        match merged.iter_mut().find(like) {
            Some(known) => {
                one.metrics.into_iter().for_each(|metric| add(&mut known.metrics, metric))
            }
            None => merged.push(one),
        }
    }
    let mut sentences: Vec<(String, Vec<String>)> = Vec::new();
    for Move { verb, condition, metrics, seen } in merged {
        let shares = metrics.join(", and of those that get ");
        let comma = if metrics.len() > 1 { "," } else { "" };
        let front = format!("The share of calls that get {shares}{comma} {verb}");
        let parts: Vec<String> = seen
            .iter()
            .map(|(from, to, places, calls)| {
                let from = if from.is_empty() { String::new() } else { format!("from {from} ") };
                let places = place_list(report, places);
                format!("{from}to {to} on {places} ({})", calls.join(", "))
            })
            .collect();
        let part = format!("in {condition} {}", list(&parts));
        match sentences.iter_mut().find(|(known, _)| *known == front) {
            Some((_, parts)) => parts.push(part),
            None => sentences.push((front, vec![part])),
        }
    }
    let tell = |(front, parts): (String, Vec<String>)| {
        let more = parts.len().saturating_sub(MOST_CONDITIONS);
        let told: Vec<String> = parts.into_iter().take(MOST_CONDITIONS).collect();
        let more = if more > 0 {
            format!("; and in {} more, see below", counted(more as u64, "condition"))
        } else {
            String::new()
        };
        format!("{front} {}{more}.", told.join("; "))
    };
    sentences.into_iter().map(tell).collect()
}

/// Adds what is not there yet.
fn add(words: &mut Vec<String>, word: String) {
    if !words.contains(&word) {
        words.push(word);
    }
}

/// What stayed, and what cannot be told.
fn unmoved(report: &Report, candidate: &CandidateInfo) -> Vec<String> {
    let mut all = Vec::new();
    let open = open_rates(report, candidate);
    let is_open = |row: &&RateRow| open.iter().any(|(open, _)| *open == condition(row));
    let same: Vec<&RateRow> =
        rates(report, candidate).filter(|r| r.verdict == Verdict::Same && !is_open(r)).collect();
    let distinct = |words: Vec<String>| {
        let mut once: Vec<String> = Vec::new();
        words.into_iter().for_each(|word| add(&mut once, word));
        once
    };
    if let Some(first) = same.first() {
        let conditions = distinct(same.iter().map(|row| condition(row)).collect());
        let places = distinct(same.iter().map(|row| target(report, &row.place)).collect());
        let calls: u64 = same.iter().filter(|r| r.metric == first.metric).map(|r| r.calls).sum();
        let moved =
            rates(report, candidate).any(|r| matches!(r.verdict, Verdict::Better | Verdict::Worse));
        let what = if moved { "No change seen in" } else { "User space sees no change in" };
        all.push(format!(
            "{what} {} on {} ({} calls).",
            list(&conditions),
            place_list(report, &places),
            count(calls)
        ));
    }
    let more = open.len().saturating_sub(MOST_CONDITIONS);
    let mut open: Vec<String> = open
        .into_iter()
        .take(MOST_CONDITIONS)
        .map(|(condition, rows)| {
            let mut lacks: Vec<(String, Vec<String>)> = Vec::new();
            for (place, row) in rows {
                let why = match row.needs {
                    Some(calls) => format!("needs about {} more calls", count(calls)),
                    None => plain(&row.reason, TITLE),
                };
                match lacks.iter_mut().find(|(known, _)| *known == why) {
                    Some((_, places)) => add(places, place),
                    None => lacks.push((why, vec![place])),
                }
            }
            let told: Vec<String> = lacks
                .iter()
                .map(|(why, places)| format!("on {} ({why})", place_list(report, places)))
                .collect();
            format!("{condition} {}", list(&told))
        })
        .collect();
    if more > 0 {
        open.push(format!("{} more, see below", counted(more as u64, "condition")));
    }
    if !open.is_empty() {
        all.push(format!("Cannot tell for {}.", list(&open)));
    }
    all
}

/// Conditions of which something cannot be told, each with the targets where that is so
/// and, of the metrics that the same calls answer, the one that lacks most.
fn open_rates<'a>(
    report: &'a Report,
    candidate: &CandidateInfo,
) -> Vec<(String, Vec<(String, &'a RateRow)>)> {
    let open = report.rates.iter().filter(|row| {
        row.place.candidate == candidate.name
            && row.judged
            && row.verdict == Verdict::Inconclusive
            && (row.calls > 0 || only_here(report, row))
    });
    let lack = |row: &RateRow| row.needs.unwrap_or(u64::MAX);
    let mut all: Vec<(String, Vec<(String, &RateRow)>)> = Vec::new();
    for row in open {
        let (condition, place) = (condition(row), target(report, &row.place));
        let at = match all.iter().position(|(known, _)| *known == condition) {
            Some(at) => at,
            None => {
                all.push((condition, Vec::new()));
                all.len() - 1
            }
        };
        let Some((_, rows)) = all.get_mut(at) else { continue };
        match rows.iter_mut().find(|(known, _)| *known == place) {
            Some((_, known)) if lack(row) > lack(known) => *known = row,
            Some(_) => {}
            None => rows.push((place, row)),
        }
    }
    all
}

/// A row without calls of a kernel that ran, where the reference has calls.
fn only_here(report: &Report, row: &RateRow) -> bool {
    let here = |place: &Place| {
        (&place.base, &place.arch, &place.profile)
            == (&row.place.base, &row.place.arch, &row.place.profile)
    };
    let ran = report.cells.iter().any(|cell| {
        here(&cell.place) && cell.place.candidate == row.place.candidate && cell.end == CellEnd::Ran
    });
    let theirs = report.rates.iter().any(|other| {
        here(&other.place)
            && other.place.candidate == reference(report)
            && (other.step, &other.metric) == (row.step, &row.metric)
            && other.calls > 0
    });
    ran && theirs
}

fn splats(report: &Report, candidate: &CandidateInfo) -> Vec<String> {
    let mut all = Vec::new();
    let own = |change: Change| -> Vec<&SplatRow> {
        let rows = report.splats.iter().filter(|s| s.place.candidate == candidate.name);
        rows.filter(|s| s.change == change).collect()
    };
    let told = |rows: &[&SplatRow]| {
        // Title, how often, where.
        let mut seen: Vec<(&str, u64, Vec<String>)> = Vec::new();
        for row in rows {
            let at = target(report, &row.place);
            match seen.iter_mut().find(|(t, n, _)| *t == row.title && *n == row.count) {
                Some((_, _, places)) => add(places, at),
                None => seen.push((&row.title, row.count, vec![at])),
            }
        }
        let mut by_title: Vec<(&str, Vec<String>)> = Vec::new();
        for (title, times, places) in seen {
            let each = if places.len() > 1 { " each" } else { "" };
            let places = place_list(report, &places);
            let text = match times {
                0 => places,
                1 => format!("once{each} on {places}"),
                times => format!("{} times{each} on {places}", count(times)),
            };
            match by_title.iter_mut().find(|(known, _)| *known == title) {
                Some((_, texts)) => texts.push(text),
                None => by_title.push((title, vec![text])),
            }
        }
        let parts: Vec<String> = by_title
            .iter()
            .map(|(title, seen)| format!("{} ({})", plain(title, TITLE), list(seen)))
            .collect();
        list(&parts)
    };
    let verb = match candidate.role {
        Role::Control => "Has the splat of the dispute",
        Role::Reference | Role::Contender | Role::Sensitivity => "Still has the control's splat",
    };
    for (change, text) in [
        (Change::Control, verb),
        (Change::Added, "Adds"),
        (Change::Changed, "Changes a splat into another"),
        (Change::Known, "Shows what is known and nobody's fault"),
        (Change::Removed, "The control's splat is gone, fixed or silenced"),
    ] {
        let rows = own(change);
        if !rows.is_empty() {
            all.push(format!("{text}: {}.", told(&rows)));
        }
    }
    // What never ran has been said to.
    let unclear: Vec<&SplatRow> =
        own(Change::Unclear).into_iter().filter(|row| row.place.boots > 0).collect();
    let (absent, garbled): (Vec<&SplatRow>, Vec<&SplatRow>) =
        unclear.into_iter().partition(|row| row.count == 0);
    if !absent.is_empty() {
        all.push(format!("Cannot tell whether the control's splat is gone: {}.", told(&absent)));
    }
    if !garbled.is_empty() && candidate.role != Role::Control {
        all.push(format!("Cannot tell whose: {}.", told(&garbled)));
    }
    all
}

/// What decided and is neither a rate nor a splat.
fn other(report: &Report, candidate: &CandidateInfo) -> Vec<String> {
    let mut said: Vec<(String, Vec<String>)> = Vec::new();
    for finding in report.findings.iter().filter(|f| f.place.candidate == candidate.name) {
        let decides = matches!(finding.effect, Effect::Worse | Effect::Inconclusive);
        // Rates and splats have sentences of their own.
        let covered =
            matches!(finding.oracle.as_str(), "availability" | "splat-added" | "splat-removed");
        let noise = finding.oracle == "noise";
        if (!decides && !noise) || covered {
            continue;
        }
        let place = target(report, &finding.place);
        match said.iter_mut().find(|(text, _)| *text == finding.text) {
            Some((_, places)) if places.contains(&place) => {}
            Some((_, places)) => places.push(place),
            None => said.push((finding.text.clone(), vec![place])),
        }
    }
    said.into_iter()
        .map(|(text, places)| {
            let text = plain(&text, TEXT);
            format!("On {}: {}.", place_list(report, &places), text.trim_end_matches('.'))
        })
        .collect()
}
