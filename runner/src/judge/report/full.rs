// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tables behind the page: every row of the report in words, for each format.

use indexmap::IndexMap;

use super::fuzz;
use super::words::{
    View, against, calls, difference, direction, interval, mark, measured, number, of, value,
    wrong_word,
};
use crate::base::words::word;
use crate::judge::compare::verdict_words;
use crate::judge::compare::words::count;
use crate::judge::row::{CellRow, ClaimRow, GateState, MissingBounds, Place};

/// A table. Without heads, a list.
#[derive(Default)]
pub(super) struct Table {
    pub(super) title: String,
    /// What its columns mean, where that is not plain.
    pub(super) note: String,
    /// Names of the columns; `>` in front: flush right.
    pub(super) heads: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
    /// Files that show each row.
    pub(super) evidence: Vec<Vec<String>>,
}

impl Table {
    fn add(&mut self, place: &Place, row: Vec<String>) {
        self.rows.push(row);
        self.evidence.push(place.evidence.clone());
    }
}

fn table(title: &str, note: &str, heads: &[&'static str]) -> Table {
    let heads = heads.to_vec();
    Table { title: title.into(), note: note.into(), heads, ..Table::default() }
}

/// All of them that have rows.
pub(super) fn tables(view: &View<'_>) -> Vec<Table> {
    let mut all = vec![verdicts(view)];
    all.extend(claims(view));
    all.extend([claim_remarks(view), claim_conditions(view)]);
    all.extend(measures(view));
    all.push(causes(view));
    all.extend(wrong(view));
    all.extend([
        splats(view),
        blind(view),
        cells(view),
        gates(view),
        predictions(view),
        not_tested(view),
    ]);
    all.extend(fuzz::tables(view.report));
    all.retain(|table| !table.rows.is_empty());
    all
}

fn verdicts(view: &View<'_>) -> Table {
    let mut all = table("Verdicts", "", &["candidate", "on", "verdict", "because"]);
    for row in &view.report.verdicts {
        let verdict = if row.declared { "not portable".into() } else { word(row.verdict) };
        let because = row.because.join("; ");
        all.add(
            &row.place,
            vec![row.place.candidate.clone(), view.at(&row.place), verdict, because],
        );
    }
    all
}

/// A table for each claim.
fn claims(view: &View<'_>) -> Vec<Table> {
    let note = format!(
        "Differences from {}; the intervals of all claims hold together with {:.0}%. + gains, \
         = no worse, ~ loses less than the margin, ? not decided, - loses, x not measured.",
        view.reference(),
        100.0 * view.report.run.confidence
    );
    let heads = ["candidate", "on", ">value", "differs", "interval", ">visits"];
    let mut all = Vec::new();
    for info in &view.report.run.claims {
        let title = format!("Claim {}: {} (margin {})", info.name, info.question, info.margin);
        let mut part = table(&title, &note, &heads);
        for row in view.report.claims.iter().filter(|row| row.of() == info.name) {
            let own = row.estimate.is_none() && !view.contends(&row.place);
            part.add(
                &row.place,
                vec![
                    row.place.candidate.clone(),
                    view.at(&row.place),
                    value(row.kind, &row.unit, row.value),
                    format!("{} {}", if own { "" } else { mark(row.reading).0 }, difference(row)),
                    interval(row),
                    row.visits.to_string(),
                ],
            );
        }
        all.push(part);
    }
    all
}

fn claim_remarks(view: &View<'_>) -> Table {
    let mut all = table("Claims: load, lost samples, what is open", "", &[]);
    for row in &view.report.claims {
        let words = aside(row);
        if !words.is_empty() {
            let whose =
                format!("{}, {} on {}", row.claim, row.place.candidate, view.at(&row.place));
            all.add(&row.place, vec![whose, words.join("; ")]);
        }
    }
    all
}

/// Load, missing samples, reason: what stands next to a reading.
fn aside(row: &ClaimRow) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(load) = row.load {
        let [own, theirs] = [load.candidate, load.reference].map(|l| format!("{:.0}%", 100.0 * l));
        words.push(format!("load {own}, reference {theirs}"));
    }
    if let Some(MissingBounds { candidate, reference, low, high }) = row.missing {
        let worst = ClaimRow { low, high, ..row.clone() };
        let worst = interval(&worst);
        let worst = if worst.is_empty() { worst } else { format!(", at worst {worst}") };
        words.push(format!(
            "samples lost {:.1}%, reference {:.1}%{worst}",
            100.0 * candidate,
            100.0 * reference
        ));
    }
    if !row.reason.is_empty() {
        words.push(row.reason.clone());
    }
    words
}

fn claim_conditions(view: &View<'_>) -> Table {
    let mut all = table("Conditions of the claims", "", &[]);
    let mut told = Vec::new();
    for row in &view.report.claims {
        if !told.contains(&(&row.claim, &row.metric)) {
            told.push((&row.claim, &row.metric));
            let way = direction(row.better);
            let way = if way.is_empty() { String::new() } else { format!(" ({way})") };
            let text = format!("{}{way}: {}", row.means, row.conditions.join("; "));
            all.rows.push(vec![row.claim.clone(), text]);
            all.evidence.push(Vec::new());
        }
    }
    all
}

/// A table for each metric under each condition.
fn measures(view: &View<'_>) -> Vec<Table> {
    let note = "Shown, not judged; each interval is of its row alone, at 95%.";
    let heads = ["candidate", "on", ">calls", ">visits", "measured"];
    let mut all: IndexMap<(&str, &str), Table> = IndexMap::new();
    for row in &view.report.measures {
        let part = all
            .entry((&row.condition, &row.means))
            .or_insert_with(|| table(&format!("{}: {}", row.condition, row.means), note, &heads));
        part.add(
            &row.place,
            vec![
                row.place.candidate.clone(),
                view.cell(&row.place),
                calls(row),
                format!("{} in {} boots", row.visits, row.boots),
                measured(row),
            ],
        );
    }
    all.into_values().collect()
}

fn causes(view: &View<'_>) -> Table {
    let note = "Calls that failed by cause, and calls that do not count.";
    let mut all = table("Why calls fail", note, &[]);
    for row in &view.report.measures {
        let causes = row.causes.iter().map(|(why, n)| format!("{why} {}", count(*n)));
        let out = row.excluded.iter().map(|(why, n)| format!("not counted: {why} {}", count(*n)));
        let words: Vec<String> = causes.chain(out).collect();
        if !words.is_empty() {
            let Place { candidate, .. } = &row.place;
            let at = view.cell(&row.place);
            let whose = format!("{}, {}, {candidate} on {at}", row.condition, row.means);
            all.add(&row.place, vec![whose, words.join(", ")]);
        }
    }
    all
}

/// A table for each condition.
fn wrong(view: &View<'_>) -> Vec<Table> {
    let note =
        "Expected: at the negative control's rate. Fewer than three, and zero shows nothing.";
    let heads = ["candidate", "on", ">wrong", ">of", ">expected", "reading"];
    let mut all: IndexMap<(&str, &str), Table> = IndexMap::new();
    for row in &view.report.wrong {
        let causes = row.causes.iter().map(|(why, n)| format!("; {why} {}", count(*n)));
        let seen = match (row.wrong > 0, row.p) {
            (false, _) => String::new(),
            (true, None) => format!(", in {} boots", of(row.seen)),
            (true, Some(p)) => {
                let (ours, theirs) = (of(row.seen), of(row.reference));
                format!(", in {ours} boots, of the reference {theirs}, p = {p:.2}")
            }
        };
        let part = all.entry((&row.condition, &row.means)).or_insert_with(|| {
            table(&format!("Never wrong: {}, {}", row.condition, row.means), note, &heads)
        });
        part.add(
            &row.place,
            vec![
                row.place.candidate.clone(),
                view.cell(&row.place),
                count(row.wrong),
                count(row.answers),
                row.expected.map_or_else(|| "-".into(), number),
                format!("{}{seen}{}", wrong_word(row.reading), causes.collect::<String>()),
            ],
        );
    }
    all.into_values().collect()
}

fn splats(view: &View<'_>) -> Table {
    let heads = ["candidate", "on", "reading", ">times", "splat"];
    let mut all = table("Splats", "", &heads);
    for row in &view.report.splats {
        let off = if row.disables_lockdep { " Turns lockdep off." } else { "" };
        let first = row.place.evidence.first();
        let offset = match (first, row.first_offset) {
            (Some(file), Some(offset)) => format!(" First at byte {offset} of {file}."),
            _ => String::new(),
        };
        all.add(
            &row.place,
            vec![
                row.place.candidate.clone(),
                view.cell(&row.place),
                word(row.reading),
                count(row.count),
                format!("{} in {}: {}.{off}{offset}", row.title, against(row), row.reason),
            ],
        );
    }
    all
}

fn blind(view: &View<'_>) -> Table {
    let note = "Where lockdep did not look: what a clean console does not prove.";
    let mut all = table("Blind", note, &["candidate", "on", ">count", "what follows"]);
    for row in &view.report.blind {
        let example = row.example.as_ref().map_or_else(String::new, |e| format!(" ({e})"));
        all.add(
            &row.place,
            vec![
                row.place.candidate.clone(),
                view.cell(&row.place),
                count(row.count),
                format!("{}{example}", row.text),
            ],
        );
    }
    all
}

fn cells(view: &View<'_>) -> Table {
    let heads = ["candidate", "on", "ended", ">boots", ">hello s", ">all s", "kernel"];
    let mut all = table("Cells", "", &heads);
    for row in &view.report.cells {
        let CellRow { place, role: _, end, note, boots, seconds, objects } = row;
        let made = match (seconds.make, seconds.cached) {
            (Some(make), _) => {
                let objects =
                    objects.map_or_else(String::new, |n| format!(", {} objects", count(n)));
                format!("made in {make:.0} s{objects}")
            }
            (None, Some(cached)) => format!("cached, {cached:.0} s when made"),
            (None, None) => "-".into(),
        };
        let note = note.as_ref().map_or_else(String::new, |note| format!(": {note}"));
        all.add(
            place,
            vec![
                place.candidate.clone(),
                view.cell(place),
                verdict_words(*end).to_owned(),
                boots.to_string(),
                seconds.hello.map_or_else(|| "-".into(), |s| format!("{s:.1}")),
                format!("{:.0}", seconds.boots),
                format!("{made}{note}"),
            ],
        );
    }
    all
}

fn gates(view: &View<'_>) -> Table {
    let mut all = table("Gates", "", &["candidate", "on", "state", "gate"]);
    for row in &view.report.gates {
        let text = format!("{}: {}", row.name, row.reason);
        all.add(
            &row.place,
            vec![row.place.candidate.clone(), view.at(&row.place), word(row.state), text],
        );
    }
    all
}

fn predictions(view: &View<'_>) -> Table {
    let mut all = table("Predictions", "", &["on", "state", "prediction"]);
    for row in &view.report.predictions {
        let state = match row.state {
            GateState::Passed => "confirmed",
            GateState::Failed => "refuted",
            GateState::Undecided => "undecided",
        };
        let amended =
            row.amended.as_ref().map_or_else(String::new, |why| format!(" [amended: {why}]"));
        let text = format!("{}{amended} -- {}", row.says, row.reason);
        all.add(&row.place, vec![view.at(&row.place), state.into(), text]);
    }
    all
}

fn not_tested(view: &View<'_>) -> Table {
    let mut all = table("Not tested", "", &[]);
    for row in &view.report.not_tested {
        let places = [&row.base, &row.candidate, &row.arch, &row.profile];
        let at: Vec<&str> = places.into_iter().flatten().map(String::as_str).collect();
        let at = if at.is_empty() { String::new() } else { format!(" ({})", at.join(" ")) };
        all.rows.push(vec![format!("{}{at}", row.what), row.reason.clone()]);
        all.evidence.push(Vec::new());
    }
    all
}
