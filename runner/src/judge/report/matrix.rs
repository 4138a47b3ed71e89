// SPDX-License-Identifier: MIT OR Apache-2.0
//! The matrix of the page: a line per candidate and architecture, a column per claim.

use std::collections::BTreeSet;

use super::words::{View, difference, gravity, mark, value};
use crate::judge::compare::verdict_words;
use crate::judge::compare::words::count;
use crate::judge::row::{
    CellEnd, ClaimReading, ClaimRow, ControlSplat, SplatReading, WrongReading,
};
use crate::spec::Role;

/// The matrix.
pub(super) struct Matrix<'a> {
    /// Names of the claims.
    pub(super) columns: Vec<&'a str>,
    /// Whether there is a control, whose splat can be gone.
    pub(super) gone: bool,
    /// Whether anything counts wrong answers.
    pub(super) wrong: bool,
    pub(super) lines: Vec<Line<'a>>,
}

/// A candidate on a target.
pub(super) struct Line<'a> {
    pub(super) candidate: &'a str,
    pub(super) target: String,
    pub(super) reference: bool,
    /// `yes`, `no`, `?` or `-`.
    pub(super) gone: &'static str,
    /// New splats: `none`, a number, `once`.
    pub(super) new: String,
    /// How its cells ended, if none of them ran.
    pub(super) ended: Option<String>,
    /// One of each column.
    pub(super) cells: Vec<Cell<'a>>,
    pub(super) wrong: String,
}

/// A claim of a line.
pub(super) struct Cell<'a> {
    /// The row it shows: the gravest, where a claim has several.
    pub(super) row: Option<&'a ClaimRow>,
    /// How many others there are.
    pub(super) others: usize,
    /// `=`; empty for the reference.
    pub(super) mark: &'static str,
    /// `+2.4`, or the reference's own value.
    pub(super) text: String,
}

impl Cell<'_> {
    /// `= 0.0`, `97.6%`.
    pub(super) fn words(&self) -> String {
        let more = if self.others > 0 { format!(" (+{})", self.others) } else { String::new() };
        format!("{} {}{more}", self.mark, self.text).trim().to_owned()
    }
}

impl<'a> Matrix<'a> {
    pub(super) fn new(view: &View<'a>) -> Matrix<'a> {
        let report = view.report;
        let asked = |role| matches!(role, Role::Contender | Role::Reference);
        let mut lines = Vec::new();
        let mut names: Vec<(&str, bool)> = Vec::new();
        for role in [Role::Reference, Role::Contender] {
            names.extend(view.of_role(role).map(|name| (name, role == Role::Reference)));
        }
        let columns: Vec<&str> = report.run.claims.iter().map(|c| c.name.as_str()).collect();
        for (candidate, reference) in names {
            for at in &view.targets {
                if view.verdict(candidate, *at).is_some() {
                    lines.push(line(view, candidate, reference, *at, &columns));
                }
            }
        }
        Matrix {
            columns,
            gone: view.of_role(Role::Control).next().is_some(),
            wrong: report.wrong.iter().any(|row| {
                report.run.candidates.iter().any(|c| c.name == row.place.candidate && asked(c.role))
            }),
            lines,
        }
    }

    /// The readings that occur, the gravest first.
    pub(super) fn readings(&self) -> Vec<ClaimReading> {
        let own = self.lines.iter().filter(|line| !line.reference).flat_map(|line| &line.cells);
        let mut all: Vec<ClaimReading> = own.filter_map(|c| c.row.map(|r| r.reading)).collect();
        all.sort_by_key(|reading| gravity(*reading));
        all.dedup();
        all
    }

    /// Columns in which every contender is no worse, everywhere.
    pub(super) fn quiet_columns(&self) -> BTreeSet<usize> {
        let quiet = |at: &usize| {
            let own = self.lines.iter().filter(|line| !line.reference && line.ended.is_none());
            let mut cells = own.filter_map(|line| line.cells.get(*at)).peekable();
            cells.peek().is_some() && cells.all(|cell| cell.mark == "=")
        };
        (0..self.columns.len()).filter(quiet).collect()
    }

    /// Nothing in the line needs a reader: it ran, no new splat, no loss, nothing open.
    pub(super) fn is_quiet(&self, line: &Line<'_>) -> bool {
        !line.reference
            && line.ended.is_none()
            && matches!(line.gone, "yes" | "-")
            && line.new == "none"
            && matches!(line.wrong.as_str(), "0" | "0?" | "n/a")
            && line.cells.iter().all(|cell| matches!(cell.mark, "=" | "~"))
    }

    /// Leaves these columns out.
    pub(super) fn without_columns(&mut self, left_out: &BTreeSet<usize>) {
        fn kept<T>(all: Vec<T>, left_out: &BTreeSet<usize>) -> Vec<T> {
            all.into_iter()
                .enumerate()
                .filter(|(n, _)| !left_out.contains(n))
                .map(|p| p.1)
                .collect()
        }
        self.columns = kept(std::mem::take(&mut self.columns), left_out);
        for line in &mut self.lines {
            line.cells = kept(std::mem::take(&mut line.cells), left_out);
        }
    }
}

fn line<'a>(
    view: &View<'a>,
    candidate: &'a str,
    reference: bool,
    at: (&'a str, &'a str),
    columns: &[&'a str],
) -> Line<'a> {
    let verdict = view.verdict(candidate, at);
    let gone = match verdict.and_then(|row| row.control_splat) {
        Some(ControlSplat::Gone) => "yes",
        Some(ControlSplat::Present) => "no",
        Some(ControlSplat::Unclear) => "?",
        None => "-",
    };
    let splats = view.splats(candidate, at);
    let with = |reading| splats.iter().filter(|row| row.reading == reading).count();
    let new = match (with(SplatReading::Introduced), with(SplatReading::SeenOnce)) {
        _ if reference => "-".into(),
        (0, 0) => "none".into(),
        (0, once) => format!("{once}?"),
        (new, _) => new.to_string(),
    };
    let cells =
        view.report.cells.iter().filter(|c| {
            c.place.candidate == candidate && c.place.base == at.0 && c.place.arch == at.1
        });
    let ends: Vec<CellEnd> = cells.map(|cell| cell.end).collect();
    // A kernel that ran and then died has numbers of its own.
    let died = ends.iter().find(|end| matches!(end, CellEnd::Panicked | CellEnd::Hung));
    let new = died.map_or(new, |end| verdict_words(*end).to_owned());
    let ran =
        ends.iter().any(|end| matches!(end, CellEnd::Ran | CellEnd::Panicked | CellEnd::Hung));
    let ended = ends.first().filter(|_| !ran).map(|end| verdict_words(*end).to_owned());
    Line {
        candidate,
        target: view.target(at.0, at.1),
        reference,
        gone,
        new,
        ended,
        cells: columns
            .iter()
            .map(|claim| cell(view.claims(candidate, at, claim), reference))
            .collect(),
        wrong: wrong(view, candidate, at),
    }
}

fn cell<'a>(mut rows: Vec<&'a ClaimRow>, reference: bool) -> Cell<'a> {
    rows.sort_by_key(|row| gravity(row.reading));
    let others = rows.len().saturating_sub(1);
    match rows.first() {
        None => Cell { row: None, others, mark: "", text: "n/a".into() },
        Some(row) if reference => {
            let text = row.value.map_or("n/a".into(), |v| value(row.kind, &row.unit, Some(v)));
            Cell { row: Some(row), others, mark: "", text }
        }
        Some(row) => {
            let (mark, _) = mark(row.reading);
            Cell { row: Some(row), others, mark, text: difference(row) }
        }
    }
}

/// Wrong answers of a line: `0`, `0?` where none would be expected, `n/a` without answers.
fn wrong(view: &View<'_>, candidate: &str, at: (&str, &str)) -> String {
    let rows = view.wrong(candidate, at);
    let sum = rows.iter().map(|row| row.wrong).sum::<u64>();
    let any = |reading| rows.iter().any(|row| row.reading == reading);
    if any(WrongReading::Wrong) {
        count(sum)
    } else if sum > 0 {
        format!("{}?", count(sum))
    } else if any(WrongReading::None) {
        "0".into()
    } else if any(WrongReading::NotShown) {
        "0?".into()
    } else {
        "n/a".into()
    }
}
