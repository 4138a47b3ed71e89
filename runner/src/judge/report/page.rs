// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page: what a maintainer reads of a run, the same in every format.
//!
//! [`Page::new`] writes it from the rows. Where it gets too long for its lines, it is
//! written again with less, in the order of [`SQUEEZES`], and says what it left out.

use std::collections::{BTreeMap, BTreeSet};

use super::Report;
use super::matrix::Matrix;
use super::words::{
    View, add, against, gravity, interval, mark, of, size, unit_of, wrong_count,
};
use crate::judge::compare::verdict_words;
use crate::judge::compare::words::{count, counted, list, plain};
use crate::judge::row::{
    CellEnd, ClaimReading, ClaimRow, ControlSplat, GateState, SplatReading, Verdict, WrongReading,
    WrongRow,
};
use crate::spec::Role;

/// What a page can do without, in the order in which it does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Squeeze {
    /// Items of a list.
    items: usize,
    /// Sentences on a candidate.
    sentences: usize,
    /// Candidates that are ok are named together.
    ok_together: bool,
    /// Columns in which nobody differs are named, not shown.
    fold_columns: bool,
    /// Lines of the matrix with nothing to see are named, not shown.
    fold_lines: bool,
    /// Candidates that get a word of their own.
    candidates: usize,
    /// Lines of the matrix.
    lines: usize,
    /// Columns of the matrix.
    columns: usize,
    /// The claims' questions.
    questions: bool,
}

const ALL: Squeeze = Squeeze {
    items: 5,
    sentences: 6,
    ok_together: false,
    fold_columns: false,
    fold_lines: false,
    candidates: usize::MAX,
    lines: usize::MAX,
    columns: usize::MAX,
    questions: true,
};

/// From everything to what is always there.
pub(super) const SQUEEZES: [Squeeze; 9] = [
    ALL,
    Squeeze { items: 3, ..ALL },
    Squeeze { items: 2, sentences: 3, ..ALL },
    Squeeze { items: 2, sentences: 3, ok_together: true, ..ALL },
    Squeeze { items: 1, sentences: 2, ok_together: true, fold_columns: true, ..ALL },
    Squeeze {
        items: 1,
        sentences: 1,
        ok_together: true,
        fold_columns: true,
        fold_lines: true,
        ..ALL
    },
    Squeeze {
        items: 1,
        sentences: 1,
        ok_together: true,
        fold_columns: true,
        fold_lines: true,
        candidates: 6,
        questions: false,
        columns: 8,
        ..ALL
    },
    Squeeze {
        items: 1,
        sentences: 1,
        ok_together: true,
        fold_columns: true,
        fold_lines: true,
        candidates: 4,
        questions: false,
        columns: 6,
        lines: 12,
    },
    Squeeze {
        items: 1,
        sentences: 1,
        ok_together: true,
        fold_columns: true,
        fold_lines: true,
        candidates: 2,
        questions: false,
        columns: 3,
        lines: 12,
    },
];

/// The longest piece of foreign text on the page.
const MOST: usize = 160;

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
        let mut parts = vec![
            Part { title: "READING IT", items: reading(view, squeeze) },
            Part { title: "WRONG ANSWERS", items: wrong(view, squeeze) },
            Part { title: "SPLATS", items: splats(view, squeeze) },
            Part { title: "CONTROLS", items: controls(view) },
            Part { title: "GATES AND PREDICTIONS", items: expected(report, squeeze) },
            Part { title: "NOT ANSWERED", items: not_answered(view, squeeze) },
            Part { title: "TO DECIDE", items: to_decide(view, squeeze) },
            Part { title: "LEFT OUT", items: left_out },
            Part {
                title: "EVIDENCE",
                items: vec![item(
                    "",
                    "RUN/report.html (charts, tables, logs), RUN/report.json (each number with \
                     its files); bakeoff report RUN --full has the tables.",
                )],
            },
        ];
        parts.retain(|part| !part.items.is_empty());
        Page {
            interim: report.run.interim.as_ref().map(|why| format!("INTERIM: {}.", plain(why, MOST))),
            title: format!("{}: {}", plain(&report.run.bakeoff, MOST), plain(&report.run.title, MOST)),
            head: head(report),
            question: report.run.thread.as_ref().map(|thread| {
                let asked = thread.question.as_ref();
                asked.map_or_else(|| format!("\"{}\"", thread.subject), Clone::clone)
            }),
            answer: answer(view),
            asked: if squeeze.questions { asked(report) } else { Vec::new() },
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
        let quiet = |line: &super::matrix::Line<'_>| matrix.is_quiet(line);
        let folded: Vec<bool> = matrix.lines.iter().map(quiet).collect();
        let named = matrix.lines.iter().zip(&folded).filter(|(_, folded)| **folded);
        names(
            "Without a loss, a splat or anything open",
            named.map(|(l, _)| format!("{} ({})", plain(l.candidate, 40), l.target)).collect(),
        );
        let mut folded = folded.into_iter();
        matrix.lines.retain(|_| !folded.next().unwrap_or(false));
    }
    if matrix.lines.len() > squeeze.lines {
        let over = matrix.lines.split_off(squeeze.lines);
        names(
            "Lines of the matrix",
            over.iter().map(|l| format!("{} ({})", plain(l.candidate, 40), l.target)).collect(),
        );
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
    let version = outside
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
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

fn head(report: &Report) -> Vec<String> {
    let run = &report.run;
    let environment = &report.environment;
    let bases: Vec<String> = run.bases.values().map(|base| plain(base, 80)).collect();
    let mut first = vec![list(&bases), list(&run.architectures)];
    let accel = |text: &str| text.to_uppercase();
    let machine = format!("{} {}", shared(&environment.qemu, program), shared(&environment.accel, accel));
    first.push(machine.trim().to_owned());
    first.push(shared(&environment.compiler, program));
    first.push(format!("{} a guest", counted(u64::from(environment.guest_cpus), "CPU")));
    first.push(format!("seed {}", run.seed));
    first.retain(|part| !part.is_empty());
    let minutes = format!("{:.0} minutes of boots", run.boot_minutes);
    let mut all = vec![
        format!("{}.", first.join("; ")),
        format!("Begun {}; {minutes}, {}.", plain(&run.started, 40), counted(run.visits, "visit")),
    ];
    if environment.accel.values().any(|accel| accel == "tcg") {
        all.push("Emulated: this compares patches; no number is one of real hardware.".into());
    }
    all
}

fn asked(report: &Report) -> Vec<Item> {
    let told = report.run.claims.iter().map(|claim| {
        let default = if claim.by_default { ", by default" } else { "" };
        let question = plain(&claim.question, MOST);
        item(plain(&claim.name, 40), format!("{question} (margin {}{default})", claim.margin))
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
        all.push(format!("{}.", marks.join("   ")));
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
    let unsure = |l: &super::matrix::Line<'_>| l.new.ends_with('?') || l.wrong.ends_with('?');
    if matrix.lines.iter().any(unsure) {
        all.push("N?: seen once, not confirmed. 0?: none, but hardly any were expected.".into());
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
    if view.report.cells.iter().all(|cell| cell.end == CellEnd::Waiting) {
        return "Nothing ran yet.".into();
    }
    if view.report.verdicts.is_empty() {
        return "Nothing ran.".into();
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
    let mut by_words: Vec<(String, Vec<String>)> = Vec::new();
    for cell in view.report.cells.iter().filter(|cell| cell.place.candidate == name) {
        if matches!(cell.end, CellEnd::Ran | CellEnd::Waiting | CellEnd::Error) {
            continue;
        }
        let words = verdict_words(cell.end).to_owned();
        match by_words.iter_mut().find(|(known, _)| *known == words) {
            Some((_, at)) => add(at, view.at(&cell.place)),
            None => by_words.push((words, vec![view.at(&cell.place)])),
        }
    }
    by_words.iter().map(|(words, at)| format!("{words}{}", view.on(at))).collect()
}

/// Claims of a candidate that read so, each with its rows.
fn by_claim<'a>(
    view: &View<'a>,
    name: &str,
    reading: ClaimReading,
) -> Vec<(String, Vec<&'a ClaimRow>)> {
    let mut all: Vec<(String, Vec<&ClaimRow>)> = Vec::new();
    let rows = view.report.claims.iter();
    for row in rows.filter(|row| row.place.candidate == name && row.reading == reading) {
        let claim = plain(&row.claim, 40);
        match all.iter_mut().find(|(known, _)| *known == claim) {
            Some((_, rows)) => rows.push(row),
            None => all.push((claim, vec![row])),
        }
    }
    all
}

/// Each claim with how much, where; claims that read alike share the place.
fn sized(view: &View<'_>, claims: &[(String, Vec<&ClaimRow>)]) -> String {
    let one = |(claim, rows): &(String, Vec<&ClaimRow>)| {
        let mut sizes: Vec<(String, Vec<String>)> = Vec::new();
        for row in rows {
            let (size, at) = (size(row), view.at(&row.place));
            match sizes.iter_mut().find(|(known, _)| *known == size) {
                Some((_, places)) => add(places, at),
                None => sizes.push((size, vec![at])),
            }
        }
        let told = sizes.iter().map(|(size, at)| format!("{size}{}", view.on(at)));
        format!("{claim} by {}", list(&told.collect::<Vec<_>>()))
    };
    claims.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn losses(view: &View<'_>, name: &str) -> Vec<String> {
    let lost = by_claim(view, name, ClaimReading::Loses);
    if lost.is_empty() {
        return Vec::new();
    }
    let claims: Vec<&str> = lost.iter().map(|(claim, _)| claim.as_str()).collect();
    let mut at = Vec::new();
    for row in lost.iter().flat_map(|(_, rows)| rows) {
        add(&mut at, view.at(&row.place));
    }
    vec![format!("loses {}{}", shorten(&claims.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>(), 5), view.on(&at))]
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
        let word = match cell.end {
            CellEnd::Error | CellEnd::Waiting | CellEnd::NotPortable => {
                format!("is {}", verdict_words(cell.end))
            }
            CellEnd::Ran
            | CellEnd::DidNotApply
            | CellEnd::DidNotBuild
            | CellEnd::DidNotBoot
            | CellEnd::Panicked
            | CellEnd::Hung => continue,
        };
        match words.iter_mut().find(|(known, _)| *known == word) {
            Some((_, at)) => add(at, view.cell(&cell.place)),
            None => words.push((word, vec![view.cell(&cell.place)])),
        }
    }
    all.extend(words.iter().map(|(word, at)| format!("{word} on {}", list(at))));
    for (reading, word) in
        [(ClaimReading::Open, "is not decided in"), (ClaimReading::NotReached, "is not measured in")]
    {
        for (claim, rows) in by_claim(view, name, reading) {
            let mut at = Vec::new();
            rows.iter().for_each(|row| add(&mut at, view.at(&row.place)));
            all.push(format!("{word} {claim}{}", view.on(&at)));
        }
    }
    let unclear = view.report.verdicts.iter().filter(|row| row.place.candidate == name);
    let at: Vec<String> = unclear
        .filter(|row| row.control_splat == Some(ControlSplat::Unclear))
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
        let whole = same.len() == asked
            && same.iter().all(|(_, rows)| rows.len() >= view.targets.len());
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
    if let Some(info) = info.filter(|info| !info.touches.is_empty() && squeeze.sentences > 2) {
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

/// Counts of wrong answers of one candidate on one target that read the same.
struct Counts<'a> {
    rows: Vec<&'a WrongRow>,
    at: String,
}

impl Counts<'_> {
    fn words(&self, by: &str) -> String {
        let wrong = self.rows.iter().map(|row| row.wrong).sum();
        let answers = self.rows.iter().map(|row| row.answers).sum();
        let expected: Option<f64> = self.rows.iter().map(|row| row.expected).sum();
        wrong_count(wrong, answers, expected, by)
    }
}

fn wrong(view: &View<'_>, squeeze: &Squeeze) -> Vec<Item> {
    let negative = view.of_role(Role::NegativeControl).next().unwrap_or("the negative control");
    let negative = plain(negative, 40);
    let mut all = Vec::new();
    for reading in [WrongReading::Wrong, WrongReading::SeenOnce, WrongReading::None] {
        for name in view.of_role(Role::Contender).chain(view.of_role(Role::Reference)) {
            let mut told = Vec::new();
            for at in &view.targets {
                let rows: Vec<&WrongRow> =
                    view.wrong(name, *at).into_iter().filter(|r| r.reading == reading).collect();
                if !rows.is_empty() {
                    told.push(Counts { rows, at: view.target(at.0, at.1) });
                }
            }
            if told.is_empty() {
                continue;
            }
            let mut parts: Vec<String> = Vec::new();
            for counts in &told {
                let mut text = format!("{} on {}", counts.words(&negative), counts.at);
                if reading != WrongReading::None {
                    let mut conditions = Vec::new();
                    counts.rows.iter().for_each(|r| add(&mut conditions, plain(&r.condition, 80)));
                    text.push_str(&format!(" ({})", shorten(&conditions, 2)));
                }
                if reading == WrongReading::SeenOnce {
                    text.push_str(", in one boot only");
                }
                parts.push(text);
            }
            // The rate is said to be whose it is once.
            let by = format!(" at the rate of {negative}");
            let text = parts.join("; ");
            let text = match text.split_once(&by) {
                Some((first, rest)) => format!("{first}{by}{}", rest.replace(&by, "")),
                None => text,
            };
            all.push(item(plain(name, 40), format!("{text}.")));
        }
    }
    let mut all = at_most(all, squeeze.items.max(2), "candidate");
    let mut hidden: Vec<(String, Vec<String>)> = Vec::new();
    for row in &view.report.wrong {
        if row.reading == WrongReading::NotShown && view.contends(&row.place) {
            let at = view.at(&row.place);
            match hidden.iter_mut().find(|(known, _)| *known == at) {
                Some((_, conditions)) => add(conditions, plain(&row.condition, 80)),
                None => hidden.push((at, vec![plain(&row.condition, 80)])),
            }
        }
    }
    for (at, conditions) in hidden.into_iter().take(squeeze.items.max(2)) {
        all.push(item(
            format!("not shown on {at}"),
            format!(
                "{}: {negative} would hardly give a wrong answer either.",
                shorten(&conditions, squeeze.items)
            ),
        ));
    }
    all
}

fn splats(view: &View<'_>, squeeze: &Squeeze) -> Vec<Item> {
    let mut told: Vec<(String, String)> = Vec::new();
    let mut quiet: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let own = view.report.splats.iter().filter(|row| view.contends(&row.place));
    let mut rows: Vec<_> = own.collect();
    rows.sort_by_key(|row| row.reading);
    for row in rows {
        let whose = format!("{} on {}", plain(&row.place.candidate, 40), view.cell(&row.place));
        let title = plain(&row.title, 100);
        let text = match row.reading {
            SplatReading::Introduced => format!("new: {title}, in {}", against(row)),
            SplatReading::SeenOnce => {
                format!("{title}, in {}: not confirmed, blames nobody", against(row))
            }
            SplatReading::Exposed => {
                format!("{title}, in {}: more often than the reference", against(row))
            }
            SplatReading::Control => format!("the control's: {title}, in {}", against(row)),
            SplatReading::Fixed => {
                let reason = plain(&row.reason, 80);
                format!("{title}: {reason}; whether fixed, the diff tells")
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
        told.push((whose, text));
    }
    // What is the same of all is said once.
    let mut merged: Vec<(Vec<String>, String)> = Vec::new();
    for (whose, text) in told {
        match merged.iter_mut().find(|(_, known)| *known == text) {
            Some((names, _)) => add(names, whose),
            None => merged.push((vec![whose], text)),
        }
    }
    let all: Vec<Item> = merged
        .into_iter()
        .map(|(names, text)| item(shorten(&names, 3), format!("{text}.")))
        .collect();
    let mut all = at_most(all, squeeze.items, "splat");
    for (why, titles) in quiet {
        let titles: Vec<String> = titles.into_iter().map(|title| plain(title, 80)).collect();
        all.push(item(why, format!("{}.", shorten(&titles, squeeze.items.min(2)))));
    }
    all
}

/// What control and negative control showed: whether the run can see what it looks for.
fn controls(view: &View<'_>) -> Vec<Item> {
    let mut all = Vec::new();
    for name in view.of_role(Role::Control) {
        let rows = view.report.splats.iter();
        let own: Vec<_> = rows
            .filter(|r| r.place.candidate == name && r.reading == SplatReading::Control)
            .collect();
        let mut parts = Vec::new();
        for at in &view.targets {
            let here = own.iter().filter(|r| r.place.base == at.0 && r.place.arch == at.1);
            let times: u64 = here.clone().map(|row| row.count).sum();
            let boots = here.map(|row| row.seen).max_by_key(|seen| seen.k);
            let target = view.target(at.0, at.1);
            parts.push(match boots {
                Some(seen) => {
                    format!("{} in {} boots on {target}", counted(times, "time"), of(seen))
                }
                None => format!("never on {target}"),
            });
        }
        let mut titles = Vec::new();
        own.iter().for_each(|row| add(&mut titles, plain(&row.title, 80)));
        let text = if own.is_empty() {
            "shows no splat of its own: nothing tells whether one is gone.".to_owned()
        } else {
            format!("shows {}: {}.", shorten(&titles, 2), list(&parts))
        };
        all.push(item(plain(name, 40), text));
    }
    for name in view.of_role(Role::NegativeControl) {
        let mut parts = Vec::new();
        for at in &view.targets {
            let rows = view.wrong(name, *at);
            let (wrong, answers) = rows
                .iter()
                .fold((0, 0), |(wrong, answers), row| (wrong + row.wrong, answers + row.answers));
            if answers > 0 {
                let text = wrong_count(wrong, answers, None, "");
                parts.push(format!("{text} on {}", view.target(at.0, at.1)));
            }
        }
        let text = if parts.is_empty() { "gave no answers".to_owned() } else { list(&parts) };
        all.push(item(plain(name, 40), format!("{text}.")));
    }
    all
}

fn expected(report: &Report, squeeze: &Squeeze) -> Vec<Item> {
    let mut all = Vec::new();
    let states = |states: Vec<GateState>, words: [&str; 3]| {
        let each = [GateState::Passed, GateState::Failed, GateState::Undecided];
        let told = each.iter().zip(words).filter_map(|(state, word)| {
            let times = states.iter().filter(|known| *known == state).count();
            (times > 0).then(|| format!("{times} {word}"))
        });
        list(&told.collect::<Vec<_>>())
    };
    if !report.gates.is_empty() {
        let all_states = report.gates.iter().map(|row| row.state).collect();
        all.push(item(
            "gates",
            format!("{}.", states(all_states, ["passed", "failed", "undecided"])),
        ));
    }
    if !report.predictions.is_empty() {
        let all_states = report.predictions.iter().map(|row| row.state).collect();
        let mut refuted = Vec::new();
        for row in report.predictions.iter().filter(|row| row.state == GateState::Failed) {
            add(&mut refuted, format!("\"{}\"", plain(row.says.trim_end_matches('.'), 80)));
        }
        let refuted = if refuted.is_empty() {
            String::new()
        } else {
            format!(" Refuted: {}.", shorten(&refuted, squeeze.items.min(2)))
        };
        let amended = report.predictions.iter().filter(|row| row.amended.is_some()).count();
        let amended = if amended > 0 {
            format!(" {amended} amended after results were known.")
        } else {
            String::new()
        };
        let told = states(all_states, ["confirmed", "refuted", "undecided"]);
        all.push(item("predictions", format!("{told}.{refuted}{amended}")));
    }
    all
}

/// What was not tested, the same reasons together.
fn not_answered(view: &View<'_>, squeeze: &Squeeze) -> Vec<Item> {
    let mut told: Vec<(String, Vec<String>)> = Vec::new();
    let mut hidden = 0;
    for row in &view.report.not_tested {
        // What one candidate lacks is in its own lines; wrong answers have theirs.
        let own = row.candidate.as_ref().is_some_and(|name| {
            !view.report.run.candidates.iter().any(|c| c.name == *name && c.role == Role::Contender)
        });
        if own || (row.profile.is_some() && view.report.cells.iter().any(|c| c.end != CellEnd::Ran))
        {
            hidden += 1;
            continue;
        }
        let reason = plain(&row.reason, MOST);
        let mut what = plain(&row.what, MOST);
        if let Some(candidate) = &row.candidate {
            what = format!("{}: {what}", plain(candidate, 40));
        }
        match told.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, whats)) => add(whats, what),
            None => told.push((reason, vec![what])),
        }
    }
    let mut all: Vec<Item> = told
        .into_iter()
        .map(|(reason, whats)| item("", format!("{}: {reason}.", shorten(&whats, squeeze.items.min(3)))))
        .collect();
    all = at_most(all, squeeze.items, "reason");
    if hidden > 0 && squeeze.items > 1 {
        all.push(item("", format!("{} of single kernels: see --full.", counted(hidden, "gap"))));
    }
    all
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
    let minutes: f64 = open.iter().filter_map(|row| row.to_decide).map(|d| d.minutes).sum();
    let takes = if minutes > 0.0 {
        format!(", at most {} min", minutes.ceil())
    } else {
        String::new()
    };
    let number = counted(open.len() as u64, "open claim");
    let mut all = vec![item("", format!("{number}: bakeoff resume RUN --decide{takes}."))];
    let each: Vec<Item> = open
        .into_iter()
        .map(|row| {
            let whose = format!("{}, {}", plain(&row.place.candidate, 40), view.at(&row.place));
            let near = match row.to_decide {
                Some(needs) if needs.on_the_margin => {
                    "lies on its margin, more visits hardly help".to_owned()
                }
                Some(needs) => format!(
                    "{} more of each condition, {} min",
                    counted(u64::from(needs.visits), "visit"),
                    needs.minutes.ceil()
                ),
                None => plain(&row.reason, MOST),
            };
            let interval = interval(row);
            let interval = if interval.is_empty() { String::new() } else { format!(" {interval}") };
            let near = if near.is_empty() { near } else { format!(": {near}") };
            item(whose, format!("{}{interval}{near}.", plain(&row.claim, 40)))
        })
        .collect();
    all.extend(at_most(each, squeeze.items, "claim"));
    all
}
