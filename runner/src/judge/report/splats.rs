// SPDX-License-Identifier: MIT OR Apache-2.0
//! The text's part about splats: what each candidate did to them, what the spec knows of, what
//! changed into what, and where lockdep looked away.

use super::answer::cell;
use super::text::{MOST_ROWS, line, title};
use super::wrap::{table, wrap};
use super::{Report, WIDTH};
use crate::judge::compare::words::{count, plain};
use crate::judge::compare::{Change, SplatRow};
use crate::see::observe::diff::Edit;
use crate::spec::{KnownSplat, word};

pub(super) fn splats(out: &mut String, report: &Report) {
    title(out, "SPLATS");
    if report.splats.is_empty() {
        let text = if report.cells.iter().any(|cell| cell.place.boots > 0) {
            "  none in any boot"
        } else {
            "  no boot was made"
        };
        line(out, text);
        return;
    }
    // One line for a title; its call chains are apart in report.json.
    let mut rows: Vec<(&SplatRow, u64, usize)> = Vec::new();
    // Of what never ran, the cells tell.
    for splat in report.splats.iter().filter(|s| s.place.boots > 0) {
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
                format!("{}/{}", splat.boots_seen, splat.place.boots),
                format!("{}{chains}", plain(&splat.title, 200)),
            ]
        })
        .collect();
    out.push_str(&table(
        &["candidate", "on", "change", ">times", ">boots", "title"],
        &cells,
        "  ",
        WIDTH,
    ));
    if rows.len() > MOST_ROWS {
        line(out, &format!("  and {} more in report.json", rows.len() - MOST_ROWS));
    }
    known(out, report);
    changed(out, report);
}

/// Splats that the spec knows of, each entry once.
fn known(out: &mut String, report: &Report) {
    let mut told: Vec<&str> = Vec::new();
    for known in report.splats.iter().filter_map(|splat| splat.known.as_ref()) {
        if told.contains(&known.pattern.as_str()) {
            continue;
        }
        told.push(&known.pattern);
        let KnownSplat { pattern, reason, link, expires } = known;
        let text = format!(
            "known, and nobody's fault until {}: {}: {}, {}",
            plain(expires, 10),
            plain(pattern, 200),
            plain(reason, 400),
            plain(link, 400)
        );
        out.push_str(&wrap(&text, WIDTH, "  ", "    "));
    }
}

/// What a changed splat was before, line by line.
fn changed(out: &mut String, report: &Report) {
    let rows = report.splats.iter().filter(|splat| splat.change == Change::Changed);
    for splat in rows.take(MOST_ROWS) {
        let before = splat.beside.as_ref().map_or("?", |before| before.candidate.as_str());
        let text = format!(
            "{} on {}: {}, - in {before}, + here:",
            splat.place.candidate,
            cell(report, &splat.place),
            plain(&splat.title, 200)
        );
        out.push('\n');
        out.push_str(&wrap(&text, WIDTH, "  ", "    "));
        for edit in &splat.edits {
            let (sign, words) = match edit {
                Edit::Same(words) => (' ', words),
                Edit::Removed(words) => ('-', words),
                Edit::Added(words) => ('+', words),
            };
            let words = plain(words, 200);
            out.push_str(&wrap(&words, WIDTH, &format!("    {sign} "), "        "));
        }
    }
}

/// Where lockdep looked away, per cell.
pub(super) fn blind(out: &mut String, report: &Report) {
    if report.blind.is_empty() {
        return;
    }
    title(out, "WHAT LOCKDEP COULD NOT SEE");
    let rows: Vec<Vec<String>> = report
        .blind
        .iter()
        .take(MOST_ROWS)
        .map(|row| {
            vec![
                row.place.candidate.clone(),
                cell(report, &row.place),
                row.blind.name().to_owned(),
                count(row.count),
                format!("{}/{}", row.boots_seen, row.place.boots),
                row.example.as_deref().map_or_else(|| "-".to_owned(), |title| plain(title, 200)),
            ]
        })
        .collect();
    let heads = ["candidate", "on", "what", ">times", ">boots", "first"];
    out.push_str(&table(&heads, &rows, "  ", WIDTH));
    if report.blind.len() > MOST_ROWS {
        line(out, &format!("  and {} more in report.json", report.blind.len() - MOST_ROWS));
    }
    let mut told: Vec<&str> = Vec::new();
    for row in &report.blind {
        let name = row.blind.name();
        if !told.contains(&name) {
            told.push(name);
            out.push_str(&wrap(&format!("{name}: {}", row.text), WIDTH, "  ", "    "));
        }
    }
}

fn change_words(splat: &SplatRow) -> String {
    match splat.change {
        Change::Control if splat.count > 0 => "control's".into(),
        Change::Control
        | Change::Added
        | Change::Removed
        | Change::Same
        | Change::Changed
        | Change::Known
        | Change::Flaky
        | Change::Secondary
        | Change::Unclear => word(splat.change),
    }
}
