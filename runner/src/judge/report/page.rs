// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page: what a maintainer reads of a run, the same in every format.
//!
//! [`Page::new`] writes it from the rows. Where it gets too long for its lines, it is
//! written again with less, in the order of [`SQUEEZES`], and says what it left out.

use std::collections::{BTreeMap, BTreeSet};

use super::matrix::Matrix;
use super::words::{View, add, against, gravity, interval, mark, of, size, unit_of, wrong_count};
use super::{CandidateInfo, Report};
use crate::judge::compare::untested::TOO_FEW_WRONG;
use crate::judge::compare::words::{count, counted, list, plain};
use crate::judge::compare::{excuse_words, verdict_words};
use crate::judge::row::{
    CellEnd, ClaimReading, ClaimRow, ControlSplat, GateState, KOfN, Place, SplatReading, SplatRow,
    Verdict, WrongReading, WrongRow,
};
use crate::spec::Role;

/// What a page can do without.
#[derive(Clone, Copy, Debug)]
pub(super) struct Squeeze {
    /// Items of a list.
    items: usize,
    /// Sentences on a candidate.
    sentences: usize,
    /// Which files a candidate touches, when it was measured, splats that blame nobody.
    asides: bool,
    /// Characters of a claim's question; 0: the questions go.
    question: usize,
    /// Candidates that are ok are named together.
    ok_together: bool,
    /// Columns in which nobody differs are named, not shown.
    fold_columns: bool,
    /// Candidates with nothing to see in the matrix are named, not shown.
    fold_lines: bool,
    /// Candidates that get a word of their own.
    candidates: usize,
    /// Lines of the matrix.
    lines: usize,
    /// Columns of the matrix.
    columns: usize,
}

const ALL: Squeeze = Squeeze {
    items: 5,
    sentences: 6,
    asides: true,
    question: MOST,
    ok_together: false,
    fold_columns: false,
    fold_lines: false,
    candidates: usize::MAX,
    lines: usize::MAX,
    columns: usize::MAX,
};
/// Lists and sentences are short; all claims and candidates are there.
const SHORT: Squeeze = Squeeze { items: 2, sentences: 1, asides: false, ..ALL };
/// What is as it should be is named, not shown.
const FOLDED: Squeeze = Squeeze {
    items: 1,
    question: 46,
    ok_together: true,
    fold_columns: true,
    fold_lines: true,
    ..SHORT
};

/// From everything to what is always there, in the order in which things go.
pub(super) const SQUEEZES: [Squeeze; 12] = [
    ALL,
    Squeeze { items: 3, ..ALL },
    Squeeze { items: 2, ..ALL },
    Squeeze { sentences: 3, ..SHORT },
    Squeeze { sentences: 2, ..SHORT },
    SHORT,
    Squeeze { items: 1, ..SHORT },
    Squeeze { items: 1, ok_together: true, question: 46, ..SHORT },
    FOLDED,
    Squeeze { candidates: 6, question: 0, columns: 8, ..FOLDED },
    Squeeze { candidates: 4, question: 0, columns: 6, lines: 12, ..FOLDED },
    Squeeze { candidates: 2, question: 0, columns: 3, lines: 12, ..FOLDED },
];

/// The longest piece of foreign text on the page.
const MOST: usize = 160;

/// Where all of it can be looked up.
const EVIDENCE: &str = "RUN/report.html, RUN/report.json; bakeoff report RUN --full";

/// Something with a name in front.
pub(super) struct Item {
    pub(super) label: String,
    pub(super) text: String,
}

fn item(label: impl Into<String>, text: impl Into<String>) -> Item {
    Item { label: label.into(), text: text.into() }
}

/// A part of the page.
pub(super) struct Part {
    pub(super) title: &'static str,
    /// What its words mean, next to the title; may be empty.
    pub(super) note: String,
    pub(super) items: Vec<Item>,
}

/// The page.
pub(super) struct Page<'a> {
    /// Why this is not the whole run.
    pub(super) interim: Option<String>,
    pub(super) title: String,
    /// What it was measured on.
    pub(super) head: Vec<String>,
    pub(super) question: Option<String>,
    pub(super) answer: String,
    /// The claims' questions and margins.
    pub(super) asked: Vec<Item>,
    pub(super) matrix: Matrix<'a>,
    pub(super) legend: Vec<String>,
    pub(super) parts: Vec<Part>,
}

impl<'a> Page<'a> {
    pub(super) fn new(view: &View<'a>, squeeze: &Squeeze) -> Page<'a> {
        let report = view.report;
        let mut matrix = Matrix::new(view);
        let readings = matrix.readings();
        let left_out = shrink(&mut matrix, squeeze);
        let part = |title, items| Part { title, note: String::new(), items };
        let mut parts = vec![
            part("SERIES", series(report, squeeze)),
            part("READING IT", reading(view, squeeze)),
            wrong(view, squeeze),
            part("SPLATS", splats(view, squeeze)),
            part("CONTROLS", controls(view)),
            part("GATES", gates(report)),
            part("PREDICTIONS", predictions(report, squeeze)),
            part("NOT ANSWERED", not_answered(view, squeeze)),
            part("TO DECIDE", to_decide(view, squeeze)),
            part("LEFT OUT", left_out),
            part("EVIDENCE", vec![item("", EVIDENCE)]),
        ];
        parts.retain(|part| !part.items.is_empty());
        Page {
            interim: report
                .run
                .interim
                .as_ref()
                .map(|why| format!("INTERIM: {}.", plain(why, MOST))),
            title: format!(
                "{}: {}",
                plain(&report.run.bakeoff, MOST),
                plain(&report.run.title, MOST)
            ),
            head: head(report, squeeze),
            question: report.run.thread.as_ref().map(|thread| {
                let asked = thread.question.as_ref();
                asked.map_or_else(|| format!("\"{}\"", thread.subject), Clone::clone)
            }),
            answer: answer(view),
            asked: if squeeze.question > 0 { asked(report, squeeze) } else { Vec::new() },
            legend: legend(view, &matrix, &readings),
            matrix,
            parts,
        }
    }
}

/// Takes out of the matrix what the page has no room for, and names it.
fn shrink(matrix: &mut Matrix<'_>, squeeze: &Squeeze) -> Vec<Item> {
    let mut told = Vec::new();
    let mut names = |what: &str, names: Vec<String>| {
        if !names.is_empty() {
            told.push(item("", format!("{what}: {}.", shorten(&names, 8))));
        }
    };
    if squeeze.fold_columns && matrix.columns.len() > 3 {
        let quiet = matrix.quiet_columns();
        let quiet = if quiet.len() == matrix.columns.len() { BTreeSet::new() } else { quiet };
        let columns = quiet.iter().filter_map(|at| matrix.columns.get(*at));
        names("Claims that nobody loses", columns.map(|c| plain(c, 40)).collect());
        matrix.without_columns(&quiet);
    }
    let over: BTreeSet<usize> = (squeeze.columns..matrix.columns.len()).collect();
    let columns = over.iter().filter_map(|at| matrix.columns.get(*at));
    names("Claims", columns.map(|c| plain(c, 40)).collect());
    matrix.without_columns(&over);
    if squeeze.fold_lines {
        let told: BTreeSet<&str> = matrix
            .lines
            .iter()
            .filter(|line| !matrix.is_quiet(line))
            .map(|line| line.candidate)
            .collect();
        let mut quiet = Vec::new();
        for line in matrix.lines.iter().filter(|line| !told.contains(line.candidate)) {
            add(&mut quiet, plain(line.candidate, 40));
        }
        names("No worse in anything, no splat", quiet);
        matrix.lines.retain(|line| told.contains(line.candidate));
    }
    if matrix.lines.len() > squeeze.lines {
        let over = matrix.lines.split_off(squeeze.lines);
        let mut left = Vec::new();
        over.iter().for_each(|line| add(&mut left, plain(line.candidate, 40)));
        names("Lines of the matrix", left);
    }
    told
}

/// `a, b, c and 12 more`.
fn shorten(names: &[String], most: usize) -> String {
    let more = names.len().saturating_sub(most);
    if more == 0 {
        return list(names);
    }
    let shown: Vec<&str> = names.iter().take(most).map(String::as_str).collect();
    format!("{} and {more} more", shown.join(", "))
}

/// `gcc 12.2.0` of `gcc (Debian 12.2.0-14) 12.2.0`: first word and last number.
fn program(line: &str) -> String {
    let name = line.split_whitespace().next().unwrap_or_default();
    let outside = line.split(['(', ')']).step_by(2).collect::<Vec<_>>().join(" ");
    let version =
        outside.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    plain(&format!("{name} {}", version.unwrap_or_default()), 40).trim_end().to_owned()
}

/// What all architectures share is said once.
fn shared(map: &BTreeMap<String, String>, tell: impl Fn(&str) -> String) -> String {
    let mut by_value: Vec<(String, Vec<String>)> = Vec::new();
    for (arch, text) in map {
        let text = tell(text);
        match by_value.iter_mut().find(|(known, _)| *known == text) {
            Some((_, archs)) => archs.push(arch.clone()),
            None => by_value.push((text, vec![arch.clone()])),
        }
    }
    let one = by_value.len() == 1;
    let tell = |(text, archs): &(String, Vec<String>)| {
        if one { text.clone() } else { format!("{text} ({})", list(archs)) }
    };
    by_value.iter().map(tell).collect::<Vec<_>>().join(", ")
}

fn head(report: &Report, squeeze: &Squeeze) -> Vec<String> {
    let run = &report.run;
    let environment = &report.environment;
    let bases: Vec<String> = run.bases.values().map(|base| plain(base, 80)).collect();
    let mut first = vec![list(&bases), list(&run.architectures)];
    let accel = |text: &str| text.to_uppercase();
    let machine =
        format!("{} {}", shared(&environment.qemu, program), shared(&environment.accel, accel));
    first.push(machine.trim().to_owned());
    first.push(shared(&environment.compiler, program));
    first.push(format!("seed {}", run.seed));
    first.retain(|part| !part.is_empty());
    let begun = run.started.split('T').next().unwrap_or_default();
    let visits = counted(run.visits, "visit");
    let mut all = vec![format!("{}.", first.join("; "))];
    if squeeze.asides {
        let begun = plain(begun, 40);
        all.push(format!("{begun}: {visits} in {:.0} minutes of boots.", run.boot_minutes));
    }
    if environment.accel.values().any(|accel| accel == "tcg") {
        all.push("Emulated: this compares patches; the numbers are not a real machine's.".into());
    }
    all
}

fn asked(report: &Report, squeeze: &Squeeze) -> Vec<Item> {
    let told = report.run.claims.iter().map(|claim| {
        let default = if claim.by_default { ", by default" } else { "" };
        let question = plain(&claim.question, squeeze.question);
        let margin = &claim.margin;
        item(plain(&claim.name, 40), format!("{question} Margin {margin}{default}."))
    });
    told.collect()
}

fn legend(view: &View<'_>, matrix: &Matrix<'_>, readings: &[ClaimReading]) -> Vec<String> {
    let mut all = Vec::new();
    if !readings.is_empty() {
        let marks: Vec<String> = readings
            .iter()
            .rev()
            .map(|reading| {
                let (mark, words) = mark(*reading);
                format!("{mark} {words}")
            })
            .collect();
        all.push(format!("{}.", marks.join(", ")));
        let mut units: Vec<&str> = Vec::new();
        for row in view.report.claims.iter() {
            let unit = unit_of(row.kind);
            if !units.contains(&unit) {
                units.push(unit);
            }
        }
        all.push(format!(
            "Numbers are {} against {}; all marks hold together with {:.0}%.",
            units.join(" or "),
            plain(view.reference(), 40),
            100.0 * view.report.run.confidence
        ));
    }
    let mut marks = matrix.lines.iter().flat_map(|line| [&line.new, &line.wrong]);
    if marks.clone().any(|mark| mark.ends_with('?') && mark != "0?") {
        all.push("N?: seen in one boot, not confirmed.".into());
    }
    if marks.any(|mark| mark == "0?") {
        all.push("0?: none, but hardly any were expected.".into());
    }
    all
}

/// A candidate's fate, over all its targets.
struct Fate<'a> {
    name: &'a str,
    verdict: Verdict,
    /// What decides it, in words, the gravest first.
    because: Vec<String>,
    gains: Vec<String>,
}

fn fates<'a>(view: &View<'a>) -> Vec<Fate<'a>> {
    let fate = |name: &'a str| {
        let rows = || view.report.verdicts.iter().filter(move |row| row.place.candidate == name);
        let any = |verdict| rows().any(|row| row.verdict == verdict);
        let verdict = if any(Verdict::NotOk) {
            Verdict::NotOk
        } else if any(Verdict::Open) || rows().next().is_none() {
            Verdict::Open
        } else {
            Verdict::Ok
        };
        let because = match verdict {
            Verdict::NotOk => [ends(view, name), losses(view, name), bad(view, name)].concat(),
            Verdict::Open => open(view, name),
            Verdict::Ok => Vec::new(),
        };
        let gains = by_claim(view, name, ClaimReading::Gains);
        Fate { name, verdict, because, gains: gains.into_iter().map(|(claim, _)| claim).collect() }
    };
    view.of_role(Role::Contender).map(fate).collect()
}

/// The answer in one sentence.
fn answer(view: &View<'_>) -> String {
    let fates = fates(view);
    if fates.is_empty() {
        return "No contender: nothing was compared.".into();
    }
    if view.report.cells.is_empty() {
        return "Nothing ran.".into();
    }
    if view.report.cells.iter().all(|cell| cell.end == CellEnd::Waiting) {
        return "Nothing ran yet.".into();
    }
    let of = |verdict| fates.iter().filter(move |fate| fate.verdict == verdict);
    // Few are named with what decides; many are counted and named.
    let many = fates.len() > 5;
    let mut parts = Vec::new();
    for (verdict, says) in [
        (Verdict::Ok, "is ok: no loss, no new splat, no wrong answer"),
        (Verdict::NotOk, ""),
        (Verdict::Open, "is open"),
    ] {
        let names: Vec<String> = of(verdict).map(|fate| plain(fate.name, 40)).collect();
        if names.is_empty() {
            continue;
        }
        let are = if names.len() > 1 { "are" } else { "is" };
        if many {
            let word = match verdict {
                Verdict::Ok => "ok",
                Verdict::NotOk => "not ok",
                Verdict::Open => "open",
            };
            let names = shorten(&names, 4);
            let number = of(verdict).count();
            parts.push(format!("{number} of {} {are} {word} ({names})", fates.len()));
            continue;
        }
        if verdict == Verdict::Ok {
            let mut gains: Vec<String> = Vec::new();
            for fate in of(verdict) {
                for claim in &fate.gains {
                    add(&mut gains, claim.clone());
                }
            }
            let with = if names.len() == 1 && !gains.is_empty() {
                format!(", and gains {}", list(&gains))
            } else {
                String::new()
            };
            parts.push(format!("{} {}{with}", list(&names), says.replacen("is", are, 1)));
            continue;
        }
        for fate in of(verdict) {
            let because = fate.because.first().cloned().unwrap_or_else(|| "is open".into());
            let more = fate.because.len().saturating_sub(1);
            let more = match fate.because.get(1) {
                Some(second) if more == 1 => format!(" and {second}"),
                Some(_) => format!(" (and {more} more)"),
                None => String::new(),
            };
            parts.push(format!("{} {because}{more}", plain(fate.name, 40)));
        }
    }
    format!("{}.", parts.join("; "))
}

/// Ends of cells that are a candidate's own, by words.
fn ends(view: &View<'_>, name: &str) -> Vec<String> {
    let mut by_words: Vec<(String, Vec<String>, Option<&str>)> = Vec::new();
    for cell in view.report.cells.iter().filter(|cell| cell.place.candidate == name) {
        let ours = matches!(cell.end, CellEnd::Waiting | CellEnd::Error);
        let excused = cell.excused_by(&view.report.cells).is_some();
        if ours || excused || matches!(cell.end, CellEnd::Ran | CellEnd::NotPortable) {
            continue;
        }
        let words = verdict_words(cell.end).to_owned();
        match by_words.iter_mut().find(|(known, ..)| *known == words) {
            Some((_, at, _)) => add(at, view.at(&cell.place)),
            None => by_words.push((words, vec![view.at(&cell.place)], cell.note.as_deref())),
        }
    }
    let note = |note: &str| format!(": {}", plain(note, 100));
    let told = by_words.iter().map(|(words, at, why)| {
        format!("{words}{}{}", view.on(at), why.map(note).unwrap_or_default())
    });
    told.collect()
}

/// Whether a kernel is not done yet.
fn waits(view: &View<'_>, place: &Place) -> bool {
    let mut cells = view.report.cells.iter();
    cells.any(|cell| cell.end == CellEnd::Waiting && cell.place.same_cell(place))
}

/// Whether all kernels of a candidate on one architecture are waited for.
fn nothing_is_done(view: &View<'_>, place: &Place) -> bool {
    let here = |at: &Place| {
        (&at.base, &at.candidate, &at.arch) == (&place.base, &place.candidate, &place.arch)
    };
    let mut cells = view.report.cells.iter().filter(|cell| here(&cell.place));
    cells.all(|cell| cell.end == CellEnd::Waiting)
}

/// Claims of a candidate that read so, each with its rows.
fn by_claim<'a>(
    view: &View<'a>,
    name: &str,
    reading: ClaimReading,
) -> Vec<(String, Vec<&'a ClaimRow>)> {
    let mut all: Vec<(&str, Vec<&ClaimRow>)> = Vec::new();
    let own = || view.report.claims.iter().filter(|row| row.place.candidate == name);
    for row in own().filter(|row| row.reading == reading) {
        match all.iter_mut().find(|(known, _)| *known == row.of()) {
            Some((_, rows)) => rows.push(row),
            None => all.push((row.of(), vec![row])),
        }
    }
    let named = |(claim, rows): (&str, Vec<&'a ClaimRow>)| {
        let members: BTreeSet<&str> = rows.iter().map(|row| row.claim.as_str()).collect();
        let of: BTreeSet<&str> =
            own().filter(|row| row.of() == claim).map(|row| row.claim.as_str()).collect();
        let name = match members.iter().next() {
            Some(member) if members.len() == 1 => member_words(member),
            _ => format!("{} ({} of {})", plain(claim, 40), members.len(), of.len()),
        };
        (name, rows)
    };
    all.into_iter().map(named).collect()
}

/// The name of a claim. What tells the members of a family apart is at the end of theirs.
fn member_words(claim: &str) -> String {
    const TAIL: usize = 32;
    let Some((family, member)) = claim.split_once('/') else { return plain(claim, 40) };
    let length = member.chars().count();
    if length <= TAIL {
        return plain(claim, 80);
    }
    let tail: String = member.chars().skip(length - TAIL).collect();
    format!("{}/...{}", plain(family, 40), plain(tail.trim_start(), TAIL))
}

/// Each claim with how much, and where, if that is not everywhere. Of many claims the
/// names, and how much over all of them.
fn sized(view: &View<'_>, claims: &[(String, Vec<&ClaimRow>)]) -> String {
    const NAMED: usize = 3;
    if claims.len() > NAMED {
        let names: Vec<String> = claims.iter().map(|(claim, _)| claim.clone()).collect();
        let rows: Vec<&ClaimRow> = claims.iter().flat_map(|(_, rows)| rows.clone()).collect();
        return format!("{} by {}{}", shorten(&names, NAMED), size(&rows), where_from(view, &rows));
    }
    let one = |(claim, rows): &(String, Vec<&ClaimRow>)| {
        format!("{claim} by {}{}", size(rows), where_from(view, rows))
    };
    list(&claims.iter().map(one).collect::<Vec<_>>())
}

fn where_from(view: &View<'_>, rows: &[&ClaimRow]) -> String {
    let mut at = Vec::new();
    rows.iter().for_each(|row| add(&mut at, view.at(&row.place)));
    view.on(&at)
}

fn losses(view: &View<'_>, name: &str) -> Vec<String> {
    let lost = by_claim(view, name, ClaimReading::Loses);
    if lost.is_empty() {
        return Vec::new();
    }
    let claims: Vec<String> = lost.iter().map(|(claim, _)| claim.clone()).collect();
    let rows: Vec<&ClaimRow> = lost.into_iter().flat_map(|(_, rows)| rows).collect();
    let on = where_from(view, &rows);
    vec![format!("loses {}{on} ({})", shorten(&claims, 4), size(&rows))]
}

/// New splats, the control's splat, wrong answers.
fn bad(view: &View<'_>, name: &str) -> Vec<String> {
    let mut new = Vec::new();
    let mut still = Vec::new();
    for row in view.report.splats.iter().filter(|row| row.place.candidate == name) {
        match row.reading {
            SplatReading::Introduced => add(&mut new, plain(&row.title, 80)),
            SplatReading::Control => add(&mut still, view.at(&row.place)),
            SplatReading::SeenOnce
            | SplatReading::Exposed
            | SplatReading::Fixed
            | SplatReading::Present
            | SplatReading::Background
            | SplatReading::Unclear => {}
        }
    }
    let mut wrong_at = Vec::new();
    let mut wrong = 0;
    for row in view.report.wrong.iter().filter(|row| row.place.candidate == name) {
        if row.reading == WrongReading::Wrong {
            wrong += row.wrong;
            add(&mut wrong_at, view.at(&row.place));
        }
    }
    let mut all = Vec::new();
    if !still.is_empty() {
        all.push(format!("still has the control's splat{}", view.on(&still)));
    }
    if !new.is_empty() {
        all.push(format!("brings {}", shorten(&new, 2)));
    }
    if wrong > 0 {
        all.push(format!("gives {} wrong answers{}", count(wrong), view.on(&wrong_at)));
    }
    all
}

/// What is not known of a candidate.
fn open(view: &View<'_>, name: &str) -> Vec<String> {
    let mut all = Vec::new();
    let cells = view.report.cells.iter().filter(|cell| cell.place.candidate == name);
    let mut words: Vec<(String, Vec<String>)> = Vec::new();
    for cell in cells {
        let excuse = cell.excused_by(&view.report.cells);
        let word = match (cell.end, excuse) {
            (CellEnd::Error | CellEnd::Waiting | CellEnd::NotPortable, _) => {
                format!("is {}", verdict_words(cell.end))
            }
            (_, Some(reference)) => plain(&excuse_words(cell, reference), 80),
            (_, None) => continue,
        };
        match words.iter_mut().find(|(known, _)| *known == word) {
            Some((_, at)) => add(at, view.at(&cell.place)),
            None => words.push((word, vec![view.at(&cell.place)])),
        }
    }
    all.extend(words.iter().map(|(word, at)| format!("{word}{}", view.on(at))));
    for (reading, word) in [
        (ClaimReading::Open, "is not decided in"),
        (ClaimReading::NotReached, "is not measured in"),
    ] {
        // Claims that are open in the same places share a sentence.
        let mut alike: Vec<(Vec<String>, Vec<String>)> = Vec::new();
        for (claim, rows) in by_claim(view, name, reading) {
            let mut at = Vec::new();
            // Of what is not done yet that has been said.
            let rows = rows.iter().filter(|row| !waits(view, &row.place));
            rows.for_each(|row| add(&mut at, view.at(&row.place)));
            if at.is_empty() {
                continue;
            }
            match alike.iter_mut().find(|(_, known)| *known == at) {
                Some((claims, _)) => claims.push(claim),
                None => alike.push((vec![claim], at)),
            }
        }
        let said = |(claims, at): &(Vec<String>, Vec<String>)| {
            format!("{word} {}{}", shorten(claims, 4), view.on(at))
        };
        all.extend(alike.iter().map(said));
    }
    if view.report.run.claims.is_empty() && view.report.claims.is_empty() {
        all.push("was not judged: this run asks no claims".to_owned());
    }
    let unclear = view.report.verdicts.iter().filter(|row| row.place.candidate == name);
    let at: Vec<String> = unclear
        .filter(|row| row.control_splat == Some(ControlSplat::Unclear))
        // Of what is not done yet that has been said.
        .filter(|row| !nothing_is_done(view, &row.place))
        .map(|row| view.at(&row.place))
        .collect();
    if !at.is_empty() {
        all.push(format!("may or may not have the control's splat{}", view.on(&at)));
    }
    all
}

/// A sentence: capital, full stop.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    let rest = chars.as_str().trim_end_matches('.');
    first.map_or_else(String::new, |first| format!("{first}{rest}."))
}

/// At most three lines on each candidate, those that read the same together.
fn reading(view: &View<'_>, squeeze: &Squeeze) -> Vec<Item> {
    let mut told: Vec<(Vec<String>, String)> = Vec::new();
    let mut left: Vec<String> = Vec::new();
    let mut fine: Vec<String> = Vec::new();
    let mut fates = fates(view);
    if squeeze.candidates < fates.len() {
        // Losses first, where not all have room.
        fates.sort_by_key(|fate| match fate.verdict {
            Verdict::NotOk => 0,
            Verdict::Open => 1,
            Verdict::Ok => 2,
        });
    }
    for fate in fates {
        let name = plain(fate.name, 40);
        if squeeze.ok_together && fate.verdict == Verdict::Ok && fate.gains.is_empty() {
            fine.push(name);
            continue;
        }
        let text = sentences(view, fate.name, squeeze).join(" ");
        let full = told.len() >= squeeze.candidates;
        match told.iter_mut().find(|(_, known)| *known == text) {
            Some((names, _)) => names.push(name),
            None if full => left.push(name),
            None => told.push((vec![name], text)),
        }
    }
    let mut all: Vec<Item> =
        told.into_iter().map(|(names, text)| item(shorten(&names, 3), text)).collect();
    if !fine.is_empty() {
        all.push(item(shorten(&fine, 4), "No loss, no new splat, no wrong answer."));
    }
    if !left.is_empty() {
        all.push(item("and", format!("{}: no room here, see --full.", shorten(&left, 6))));
    }
    all
}

fn sentences(view: &View<'_>, name: &str, squeeze: &Squeeze) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    all.extend(ends(view, name).iter().map(|text| sentence(text)));
    let of = |reading| by_claim(view, name, reading);
    let (lost, gained) = (of(ClaimReading::Loses), of(ClaimReading::Gains));
    let (little, same) = (of(ClaimReading::LosesLittle), of(ClaimReading::NoWorse));
    if !lost.is_empty() {
        all.push(sentence(&format!("loses {}", sized(view, &lost))));
    }
    all.extend(bad(view, name).iter().map(|text| sentence(text)));
    if !gained.is_empty() {
        all.push(sentence(&format!("gains {}", sized(view, &gained))));
    }
    all.extend(open(view, name).iter().map(|text| sentence(text)));
    if !little.is_empty() {
        all.push(sentence(&format!("loses less than the margin: {}", sized(view, &little))));
    }
    if !same.is_empty() {
        let claims: Vec<String> = same
            .iter()
            .map(|(claim, rows)| {
                let mut at = Vec::new();
                rows.iter().for_each(|row| add(&mut at, view.at(&row.place)));
                format!("{claim}{}", view.on(&at))
            })
            .collect();
        let everything = lost.is_empty() && gained.is_empty() && little.is_empty();
        let asked = view.report.run.claims.len();
        let whole =
            same.len() == asked && same.iter().all(|(_, rows)| rows.len() >= view.targets.len());
        if everything && whole && asked > 1 {
            all.push("No worse in anything asked.".into());
        } else {
            all.push(sentence(&format!("no worse in {}", shorten(&claims, 4))));
        }
    }
    if all.is_empty() {
        all.push("Nothing was measured.".into());
    }
    all.truncate(squeeze.sentences);
    let info = view.report.run.candidates.iter().find(|c| c.name == name);
    if let Some(info) = info.filter(|info| squeeze.asides && !info.touches.is_empty()) {
        let files: Vec<String> = info
            .touches
            .iter()
            .map(|file| plain(file.rsplit('/').next().unwrap_or(file), 40))
            .collect();
        let [added, removed] = info.lines;
        all.push(format!("Touches {}: +{added} -{removed} lines.", shorten(&files, 3)));
    }
    all
}

/// Lists longer than there is room for end with what is missing.
fn at_most(mut items: Vec<Item>, most: usize, what: &str) -> Vec<Item> {
    let more = items.len().saturating_sub(most);
    if more > 1 || (more == 1 && most > 0 && items.len() > most + 1) {
        items.truncate(most);
        items.push(item("", format!("and {}: see --full.", counted(more as u64, what))));
    }
    items
}

/// Wrong answers of candidates, next to those that the negative control's rate would give.
fn wrong(view: &View<'_>, squeeze: &Squeeze) -> Part {
    let negative = view.of_role(Role::NegativeControl).next().unwrap_or("the negative control");
    let negative = plain(negative, 40);
    let mut told: Vec<(Vec<String>, String)> = Vec::new();
    let readings =
        [WrongReading::Wrong, WrongReading::SeenOnce, WrongReading::Present, WrongReading::None];
    for reading in readings {
        for name in view.of_role(Role::Contender).chain(view.of_role(Role::Reference)) {
            let rows = view.report.wrong.iter().filter(|row| row.place.candidate == name);
            let rows: Vec<&WrongRow> = rows.filter(|row| row.reading == reading).collect();
            // That the reference is right goes without saying.
            if rows.is_empty() || view.reference() == name && reading == WrongReading::None {
                continue;
            }
            let text = format!("{}.", counts(view, &rows, reading));
            match told.iter_mut().find(|(_, known)| *known == text) {
                Some((names, _)) => names.push(plain(name, 40)),
                None => told.push((vec![plain(name, 40)], text)),
            }
        }
    }
    let expects = told.iter().any(|(_, text)| text.contains("expected"));
    let all = told.into_iter().map(|(names, text)| item(shorten(&names, 3), text)).collect();
    let mut items = at_most(all, squeeze.items.max(2), "candidate");
    let not_shown = || {
        let contending = view.report.wrong.iter().filter(|row| view.contends(&row.place));
        contending.filter(|row| row.reading == WrongReading::NotShown)
    };
    let counts_somewhere = |metric: &str| {
        let mut of_metric = view.report.wrong.iter().filter(|row| row.metric == metric);
        of_metric
            .any(|row| !matches!(row.reading, WrongReading::NotShown | WrongReading::NotReached))
    };
    let (mut hidden, mut nowhere) = (Vec::new(), BTreeMap::<String, BTreeSet<&str>>::new());
    for row in not_shown() {
        if !counts_somewhere(&row.metric) {
            nowhere.entry(plain(&row.means, 40)).or_default().insert(&row.condition);
            continue;
        }
        let mut at = Vec::new();
        let alike = not_shown().filter(|other| other.condition == row.condition);
        alike.for_each(|other| add(&mut at, view.at(&other.place)));
        add(&mut hidden, format!("{}{}", plain(&row.condition, 80), view.on(&at)));
    }
    for (means, conditions) in nowhere {
        let where_asked = match conditions.len() {
            1 => "in its only condition".to_owned(),
            many => format!("in all {}", counted(many as u64, "condition")),
        };
        hidden.insert(0, format!("{means} ({where_asked})"));
    }
    if !hidden.is_empty() {
        let hidden = shorten(&hidden, squeeze.items);
        items.push(item("not shown:", format!("{hidden}: too few expected.")));
    }
    let note = if expects { format!("expected: at the rate of {negative}") } else { String::new() };
    Part { title: "WRONG ANSWERS", note, items }
}

/// Counts of one candidate that read the same, over all its targets.
fn counts(view: &View<'_>, rows: &[&WrongRow], reading: WrongReading) -> String {
    let wrong = rows.iter().map(|row| row.wrong).sum();
    let answers = rows.iter().map(|row| row.answers).sum();
    let expected: Option<f64> = rows.iter().map(|row| row.expected).sum();
    let mut at = Vec::new();
    rows.iter().for_each(|row| add(&mut at, view.at(&row.place)));
    let mut text = wrong_count(wrong, answers, expected) + &view.on(&at);
    if reading != WrongReading::None {
        let mut conditions = Vec::new();
        rows.iter().for_each(|row| add(&mut conditions, plain(&row.condition, 80)));
        text.push_str(&format!(" ({})", shorten(&conditions, 2)));
    }
    // Boots of several conditions do not add up: the one that says most speaks for all.
    let gravest = rows.iter().max_by_key(|row| row.seen.k).filter(|row| row.seen.k > 0);
    if let Some(row) = gravest {
        text.push_str(&format!(", in {} boots", of(row.seen)));
        if view.contends(&row.place) {
            let theirs = of(row.reference);
            text.push_str(&format!("; {} {theirs}", plain(view.reference(), 40)));
        }
    }
    match reading {
        WrongReading::SeenOnce => text.push_str("; not confirmed"),
        WrongReading::Present => text.push_str("; not this patch's"),
        WrongReading::Wrong
        | WrongReading::None
        | WrongReading::NotShown
        | WrongReading::NotReached => {}
    }
    text
}

/// Splats of contenders; what is the same of many is said once.
fn splats(view: &View<'_>, squeeze: &Squeeze) -> Vec<Item> {
    // What is said, and of which candidates where.
    let mut told: Vec<(String, Vec<&SplatRow>)> = Vec::new();
    let mut quiet: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut rows: Vec<&SplatRow> =
        view.report.splats.iter().filter(|row| view.contends(&row.place)).collect();
    rows.retain(|row| !waits(view, &row.place));
    rows.sort_by_key(|row| row.reading);
    for row in &rows {
        let title = plain(&row.title, 100);
        let text = match row.reading {
            SplatReading::Introduced => format!("new: {title}, {}", against(row)),
            SplatReading::SeenOnce => format!("{title}, {}: blames nobody yet", against(row)),
            SplatReading::Exposed => {
                format!("{title}, {}: more often than the reference", against(row))
            }
            SplatReading::Control => format!("the control's: {title}, {}", against(row)),
            SplatReading::Fixed => {
                let alike = rows
                    .iter()
                    .filter(|r| r.reading == SplatReading::Fixed && r.title == row.title);
                let least = alike.map(|row| row.reason.as_str()).min_by_key(|r| first_number(r));
                let least = plain(least.unwrap_or_default(), 80);
                format!("{title} {least}; whether fixed, the diff tells")
            }
            SplatReading::Unclear => format!("{title}: {}", plain(&row.reason, MOST)),
            SplatReading::Present => {
                quiet.entry("also in the reference").or_default().insert(&row.title);
                continue;
            }
            SplatReading::Background => {
                quiet.entry("known, or raised by another").or_default().insert(&row.title);
                continue;
            }
        };
        match told.iter_mut().find(|(known, _)| *known == text) {
            Some((_, rows)) => rows.push(row),
            None => told.push((text, vec![row])),
        }
    }
    let all = told.into_iter().map(|(text, rows)| item(whose(view, &rows), format!("{text}.")));
    let mut all = at_most(all.collect(), squeeze.items, "splat");
    for (why, titles) in quiet.into_iter().filter(|_| squeeze.asides) {
        let titles: Vec<String> = titles.into_iter().map(|title| plain(title, 80)).collect();
        all.push(item(why, format!("{}.", shorten(&titles, squeeze.items.min(2)))));
    }
    all
}

/// Who has these rows: `each contender`, `a and b`, `a on arm64`.
fn whose(view: &View<'_>, rows: &[&SplatRow]) -> String {
    let mut by_name: Vec<(String, Vec<String>)> = Vec::new();
    for row in rows {
        let name = plain(&row.place.candidate, 40);
        match by_name.iter_mut().find(|(known, _)| *known == name) {
            Some((_, at)) => add(at, view.at(&row.place)),
            None => by_name.push((name, vec![view.at(&row.place)])),
        }
    }
    let everywhere = by_name.iter().all(|(_, at)| view.everywhere(at));
    let contenders = view.of_role(Role::Contender).count();
    if everywhere && contenders > 1 && by_name.len() == contenders {
        return "each contender".into();
    }
    let names = by_name.iter().map(|(name, at)| format!("{name}{}", view.on(at)));
    shorten(&names.collect::<Vec<_>>(), 3)
}

/// The first number in a text; separators are skipped.
fn first_number(text: &str) -> u64 {
    let digits = text.chars().skip_while(|c| !c.is_ascii_digit());
    let digits = digits.take_while(|c| c.is_ascii_digit() || *c == ',');
    digits.filter(char::is_ascii_digit).collect::<String>().parse().unwrap_or(u64::MAX)
}

/// What control and negative control showed: whether the run can see what it looks for.
fn controls(view: &View<'_>) -> Vec<Item> {
    let mut all = Vec::new();
    let never = |name: &str, at: &[String]| {
        // Of what is not done yet nothing is known.
        let waits = |(base, arch): &(&str, &str)| {
            view.report.cells.iter().any(|cell| {
                let place = &cell.place;
                cell.end == CellEnd::Waiting
                    && (place.candidate.as_str(), place.base.as_str(), place.arch.as_str())
                        == (name, *base, *arch)
            })
        };
        let done = view.targets.iter().filter(|target| !waits(target));
        let all = done.map(|(base, arch)| view.target(base, arch));
        let without: Vec<String> = all.filter(|target| !at.contains(target)).collect();
        if without.is_empty() { String::new() } else { format!("; never on {}", list(&without)) }
    };
    for name in view.of_role(Role::Control) {
        let rows = view.report.splats.iter();
        let own: Vec<&SplatRow> = rows
            .filter(|r| r.place.candidate == name && r.reading == SplatReading::Control)
            .collect();
        let (mut titles, mut at, mut boots, mut times) =
            (Vec::new(), Vec::new(), KOfN::default(), 0);
        for row in &own {
            add(&mut titles, plain(&row.title, 80));
            add(&mut at, view.at(&row.place));
            times += row.count;
        }
        // The boots of one report each: the one that comes most often.
        for target in &view.targets {
            let here = own.iter().filter(|r| view.at(&r.place) == view.target(target.0, target.1));
            let most = here.map(|row| row.seen).max_by_key(|seen| seen.k).unwrap_or_default();
            boots = KOfN { k: boots.k + most.k, n: boots.n + most.n };
        }
        let text = if own.is_empty() {
            "shows no splat of its own: nothing tells whether one is gone.".to_owned()
        } else {
            let (titles, times, never) =
                (shorten(&titles, 2), counted(times, "time"), never(name, &at));
            format!("shows {titles} {times} in {} boots{never}.", of(boots))
        };
        all.push(item(plain(name, 40), text));
    }
    for name in view.of_role(Role::NegativeControl) {
        let rows = view.report.wrong.iter().filter(|row| row.place.candidate == name);
        let (mut at, mut wrong, mut answers) = (Vec::new(), 0, 0);
        for row in rows {
            (wrong, answers) = (wrong + row.wrong, answers + row.answers);
            if row.wrong > 0 {
                add(&mut at, view.at(&row.place));
            }
        }
        let text = if answers == 0 {
            "gave no answers.".to_owned()
        } else {
            format!("{}{}.", wrong_count(wrong, answers, None), never(name, &at))
        };
        all.push(item(plain(name, 40), text));
    }
    all
}

/// How many stand how: `5 confirmed and 1 refuted`.
fn states(states: impl Iterator<Item = GateState> + Clone, words: [&str; 3]) -> String {
    let each = [GateState::Passed, GateState::Undecided, GateState::Failed];
    let told = each.iter().zip(words).filter_map(|(state, word)| {
        let times = states.clone().filter(|known| known == state).count();
        (times > 0).then(|| format!("{times} {word}"))
    });
    list(&told.collect::<Vec<_>>())
}

/// Which version of which series was tested, and how its base was chosen.
fn series(report: &Report, squeeze: &Squeeze) -> Vec<Item> {
    let of = |c: &CandidateInfo| {
        let series = c.series.as_ref()?;
        let subject = plain(&series.subject, MOST);
        let chosen = series
            .chosen()
            .map(|why| format!("; base: {}", plain(why.trim_end_matches(':'), MOST)));
        Some(item(
            c.name.clone(),
            format!("v{} of \"{subject}\"{}.", series.version, chosen.unwrap_or_default()),
        ))
    };
    let all: Vec<Item> = report.run.candidates.iter().filter_map(of).collect();
    at_most(all, squeeze.items, "series")
}

fn gates(report: &Report) -> Vec<Item> {
    if report.gates.is_empty() {
        return Vec::new();
    }
    let all = report.gates.iter().map(|row| row.state);
    vec![item("", format!("{}.", states(all, ["passed", "undecided", "failed"])))]
}

fn predictions(report: &Report, squeeze: &Squeeze) -> Vec<Item> {
    if report.predictions.is_empty() {
        return Vec::new();
    }
    let all = report.predictions.iter().map(|row| row.state);
    let mut refuted = Vec::new();
    for row in report.predictions.iter().filter(|row| row.state == GateState::Failed) {
        add(&mut refuted, format!("\"{}\"", plain(row.says.trim_end_matches('.'), 80)));
    }
    let refuted = if refuted.is_empty() {
        String::new()
    } else {
        format!(": {}", shorten(&refuted, squeeze.items.min(2)))
    };
    let amended = report.predictions.iter().filter(|row| row.amended.is_some()).count();
    let amended = if amended > 0 {
        format!(" {amended} amended after results were known.")
    } else {
        String::new()
    };
    let told = states(all, ["confirmed", "undecided", "refuted"]);
    vec![item("", format!("{told}{refuted}.{amended}"))]
}

/// What was not tested, the same reasons together.
fn not_answered(view: &View<'_>, squeeze: &Squeeze) -> Vec<Item> {
    let mut told: Vec<(String, Vec<String>)> = Vec::new();
    let mut hidden = 0;
    let contender = |name: &str| view.of_role(Role::Contender).any(|known| known == name);
    let contenders = view.of_role(Role::Contender).count();
    let rows = || view.report.not_tested.iter().filter(|row| row.reason != TOO_FEW_WRONG);
    for row in rows() {
        // What one candidate lacks is in its own lines; wrong answers have theirs.
        let own = row.candidate.as_ref().is_some_and(|name| !contender(name));
        if own || (row.profile.is_some() && view.report.cells.iter().any(|c| c.end != CellEnd::Ran))
        {
            hidden += 1;
            continue;
        }
        let reason = plain(&row.reason, MOST);
        let mut what = plain(&row.what, MOST);
        if let Some(candidate) = &row.candidate {
            let same = rows().filter(|other| other.what == row.what && other.reason == row.reason);
            let whose: BTreeSet<&String> = same.filter_map(|r| r.candidate.as_ref()).collect();
            if whose.iter().filter(|name| contender(name)).count() < contenders {
                what = format!("{}: {what}", plain(candidate, 40));
            }
        }
        match told.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, whats)) => add(whats, what),
            None => told.push((reason, vec![what])),
        }
    }
    let more = told.len().saturating_sub(squeeze.items);
    let mut parts: Vec<String> = told
        .into_iter()
        .take(squeeze.items)
        .map(|(reason, whats)| format!("{}: {reason}", shorten(&whats, squeeze.items.min(3))))
        .collect();
    if more > 0 {
        parts.push(format!("{} more", counted(more as u64, "reason")));
    }
    if hidden > 0 && squeeze.items > 1 {
        parts.push(format!("{} of single kernels", counted(hidden, "gap")));
    }
    if parts.is_empty() { Vec::new() } else { vec![item("", format!("{}.", parts.join("; ")))] }
}

/// What would decide the open claims, in minutes, with the command.
fn to_decide(view: &View<'_>, squeeze: &Squeeze) -> Vec<Item> {
    let contending = view.report.claims.iter().filter(|row| view.contends(&row.place));
    let mut open: Vec<&ClaimRow> =
        contending.filter(|row| row.reading == ClaimReading::Open).collect();
    open.sort_by_key(|row| gravity(row.reading));
    if open.is_empty() {
        return Vec::new();
    }
    // Claims on the same conditions of a kernel share their visits.
    let mut takes: BTreeMap<_, f64> = BTreeMap::new();
    for row in &open {
        let place = &row.place;
        let at = (&place.base, &place.candidate, &place.arch, &place.profile, &row.conditions);
        let minutes = row.to_decide.map_or(0.0, |needs| needs.minutes);
        let known = takes.entry(at).or_default();
        *known = known.max(minutes);
    }
    let minutes: f64 = takes.values().sum();
    let takes =
        if minutes > 0.0 { format!(", at most {} min", minutes.ceil()) } else { String::new() };
    let number = counted(open.len() as u64, "open claim");
    let mut all = vec![item("", format!("{number}: bakeoff resume RUN --decide{takes}."))];
    // Of a family the member that takes longest speaks for the others.
    let mut alike: Vec<(&ClaimRow, usize)> = Vec::new();
    for row in open {
        let same = |other: &ClaimRow| other.place.same_cell(&row.place) && other.of() == row.of();
        let time = |row: &ClaimRow| row.to_decide.map_or(0, |needs| needs.visits);
        match alike.iter_mut().find(|(known, _)| same(known)) {
            Some((known, others)) => {
                *others += 1;
                if time(row) > time(known) {
                    *known = row;
                }
            }
            None => alike.push((row, 0)),
        }
    }
    let each: Vec<Item> = alike
        .into_iter()
        .map(|(row, others)| {
            let whose = format!("{}, {}", plain(&row.place.candidate, 40), view.at(&row.place));
            let near = match row.to_decide {
                Some(needs) if needs.on_the_margin => format!(
                    "{}, {} min, beyond the planned looks",
                    counted_more(needs.visits),
                    needs.minutes.ceil()
                ),
                Some(needs) => {
                    format!("{}, {} min", counted_more(needs.visits), needs.minutes.ceil())
                }
                None => plain(&row.reason, MOST),
            };
            let interval = interval(row);
            let interval = if interval.is_empty() { String::new() } else { format!(" {interval}") };
            let near = if near.is_empty() { near } else { format!(", {near}") };
            let others = if others > 0 { format!("; {others} more") } else { String::new() };
            item(whose, format!("{}{interval}{near}{others}.", member_words(&row.claim)))
        })
        .collect();
    all.extend(at_most(each, squeeze.items, "claim"));
    all
}

/// `24 more visits`.
fn counted_more(visits: u32) -> String {
    let plural = if visits == 1 { "" } else { "s" };
    format!("{} more visit{plural}", count(u64::from(visits)))
}
