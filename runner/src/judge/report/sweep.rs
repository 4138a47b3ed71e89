// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rates along an axis: a period or a writer's duty that was varied while all
//! else stayed as it was.

use super::answer::cell;
use super::wrap::table;
use super::{Report, WIDTH};
use crate::judge::compare::words::{Round, percent, ratio};
use crate::judge::compare::{RateRow, Verdict, plain_condition};

/// What was varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axis {
    Period,
    Duty,
}

/// A table: candidates down, the varied condition across.
#[derive(Debug)]
struct Sweep<'a> {
    axis: Axis,
    heading: String,
    rows: Vec<&'a RateRow>,
}

impl Axis {
    /// Where a row stands on it; `None` if it does not.
    fn at(self, row: &RateRow) -> Option<u32> {
        match self {
            Axis::Period => row.period_us,
            Axis::Duty => row.writer_duty_asked.map(u32::from),
        }
    }

    fn word(self, at: u32) -> String {
        match self {
            Axis::Period => format!("{at}us"),
            Axis::Duty => format!("{at}%"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Axis::Period => "period",
            Axis::Duty => "writer's duty, asked",
        }
    }

    /// The row's condition with this axis left out.
    fn rest(self, row: &RateRow) -> String {
        match self {
            Axis::Period => plain_condition(row, true, false),
            Axis::Duty => plain_condition(row, false, true),
        }
    }
}

/// Places on the axis below which there is nothing to see.
const FEWEST: usize = 2;
/// Places on the axis that fit beside each other.
const MOST: usize = 6;

fn sweeps(report: &Report) -> Vec<Sweep<'_>> {
    let mut all: Vec<Sweep<'_>> = Vec::new();
    for axis in [Axis::Period, Axis::Duty] {
        for row in report.rates.iter().filter(|row| row.judged && axis.at(row).is_some()) {
            let place = cell(report, &row.place);
            let heading =
                format!("{}, {place}: {}, by {}", axis.rest(row), row.metric, axis.name());
            match all.iter_mut().find(|sweep| sweep.heading == heading) {
                Some(known) => known.rows.push(row),
                None => all.push(Sweep { axis, heading, rows: vec![row] }),
            }
        }
    }
    all.retain(|sweep| sweep.places().len() >= FEWEST);
    all
}

impl Sweep<'_> {
    fn places(&self) -> Vec<u32> {
        let mut places: Vec<u32> = self.rows.iter().filter_map(|row| self.axis.at(row)).collect();
        places.sort_unstable();
        places.dedup();
        places.truncate(MOST);
        places
    }

    fn render(&self) -> String {
        let places = self.places();
        let mut heads = vec![String::new()];
        heads.extend(places.iter().map(|at| self.axis.word(*at)));
        let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
        let mut names: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !names.contains(&row.place.candidate.as_str()) {
                names.push(&row.place.candidate);
            }
        }
        let at = |name: &str, place: u32| {
            let is =
                |row: &&&RateRow| row.place.candidate == name && self.axis.at(row) == Some(place);
            self.rows.iter().find(is).map_or_else(|| "-".to_owned(), |row| shown(row))
        };
        let mut rows: Vec<Vec<String>> = Vec::new();
        for name in names {
            let mut cells = vec![name.to_owned()];
            cells.extend(places.iter().map(|place| at(name, *place)));
            rows.push(cells);
            let duty = |place: &u32| {
                let is = |row: &&&RateRow| {
                    row.place.candidate == name && self.axis.at(row) == Some(*place)
                };
                let measured = self.rows.iter().find(is).and_then(|row| row.writer_duty);
                measured.map(|duty| format!("at {}%", percent(duty, Round::Nearest)))
            };
            if self.axis == Axis::Duty && places.iter().any(|place| duty(place).is_some()) {
                let mut cells = vec![String::new()];
                cells.extend(places.iter().map(|place| duty(place).unwrap_or_default()));
                rows.push(cells);
            }
        }
        table(&heads, &rows, "  ", WIDTH)
    }
}

/// A rate and what it is against the reference's.
fn shown(row: &RateRow) -> String {
    if row.calls == 0 {
        return "none".into();
    }
    let mark = match row.verdict {
        Verdict::Better => " +",
        Verdict::Same => "",
        Verdict::Worse => " -",
        Verdict::Inconclusive => " ?",
    };
    format!("{}{mark}", percent(ratio(row.correct, row.calls), Round::Nearest))
}

/// All sweeps, each a heading and a table; empty if nothing was varied.
pub(super) fn render(report: &Report) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for sweep in sweeps(report) {
        let text = sweep.render();
        // Both metrics of a probe say the same, as a rule: then one table is enough.
        let known = all.last().is_some_and(|(heading, known)| {
            *known == text && heading.split(": ").next() == sweep.heading.split(": ").next()
        });
        if !known {
            all.push((sweep.heading.clone(), text));
        }
    }
    all
}
