// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report in the formats of other people's tools.
//!
//! All of them tell the same list of [`Check`]s, so they cannot disagree about what
//! failed. What is not decided is skipped and never passes; what went wrong on our side
//! is an error of the test and never the candidate's.

pub(super) mod b4;
pub(super) mod github;
pub(super) mod gitlab;
pub(super) mod junit;
pub(super) mod kcidb;
pub(super) mod ktap;
pub(super) mod lkp;
pub(super) mod mail;
pub(crate) mod patchwork;
#[cfg(test)]
mod tests;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Report;
use crate::base::error::{Context, Result};
use crate::base::words::word;
use crate::judge::compare::excuse_words;
use crate::judge::row::{
    CellEnd, CellRow, ClaimReading, ClaimRow, GateState, Place, SplatReading, Verdict, WrongReading,
};
use crate::spec::Role;

/// How one check of a contender ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It is decided, and good.
    Pass,
    /// It is decided, and bad.
    Fail,
    /// It is not decided, or cannot be asked here.
    Skip,
    /// It could not be done, through our fault.
    Error,
    /// It is not done yet.
    Miss,
}

/// What one check asked, and what came of it.
#[derive(Debug)]
pub(super) struct Check<'a> {
    pub(super) place: &'a Place,
    /// What sort of question: `verdict`, `build`, `boot`, `claim`, `splat`, `wrong`, `gate`.
    pub(super) kind: &'static str,
    /// Which one of that sort; one line.
    pub(super) name: String,
    pub(super) state: State,
    /// Why; one line.
    pub(super) message: String,
    /// What was measured, of a claim.
    pub(super) claim: Option<&'a ClaimRow>,
    /// The splat's identity.
    pub(super) fingerprint: Option<&'a str>,
}

impl Check<'_> {
    /// `kind: name`, or the kind alone.
    pub(super) fn title(&self) -> String {
        if self.name.is_empty() {
            self.kind.to_owned()
        } else {
            format!("{}: {}", self.kind, self.name)
        }
    }

    /// The same for the same question of the same candidate in every run.
    pub(super) fn identity(&self) -> String {
        let Place { base, candidate, arch, profile, .. } = self.place;
        let splat = self.fingerprint.unwrap_or_default();
        hash(&[base, candidate, arch, profile, self.kind, &self.name, splat])
    }
}

/// The first half of a SHA-256 over the parts, in hexadecimal.
pub(super) fn hash(parts: &[&str]) -> String {
    let mut sum = Sha256::new();
    for part in parts {
        sum.update(part.as_bytes());
        sum.update([0]);
    }
    sum.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// One line without control characters, whatever it was.
pub(super) fn line(text: &str) -> String {
    let clean: String = text.chars().map(|c| if is_printable(c) { c } else { ' ' }).collect();
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Neither a control character nor one that turns the direction of writing.
pub(super) fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Only letters that paths and contexts may have everywhere.
pub(super) fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || c == '_' {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}

/// JSON as a file has it.
pub(super) fn pretty<T: Serialize>(value: &T, what: &str) -> Result<String> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").context(|| format!("write the report as {what}"))
}

/// A contender of this report.
pub(super) fn is_contender(report: &Report, candidate: &str) -> bool {
    report.run.candidates.iter().any(|c| c.name == candidate && c.role == Role::Contender)
}

/// Everything that was asked of the contenders.
pub(super) fn checks(report: &Report) -> Vec<Check<'_>> {
    let mut all = Vec::new();
    let check = |place, kind, name: &str, state, message: &str| Check {
        place,
        kind,
        name: line(name),
        state,
        message: line(message),
        claim: None,
        fingerprint: None,
    };
    for row in report.verdicts.iter().filter(|row| row.role == Role::Contender) {
        let state = match row.verdict {
            _ if row.declared => State::Skip,
            Verdict::Ok => State::Pass,
            Verdict::NotOk => State::Fail,
            Verdict::Open => State::Skip,
        };
        all.push(check(&row.place, "verdict", "", state, &row.because.join("; ")));
    }
    for row in report.cells.iter().filter(|row| row.role == Role::Contender) {
        let note = row.note.as_deref().unwrap_or_default();
        // What the base cannot do either is no fault of a contender's: it is not decided.
        let excuse = row.excused_by(&report.cells);
        let [build, boot] = stages(row.end).map(|state| match (state, excuse) {
            (State::Fail, Some(_)) => State::Skip,
            _ => state,
        });
        let words = match excuse {
            Some(reference) => format!("{}: {note}", excuse_words(row, reference)),
            None => format!("{} {note}", word(row.end)),
        };
        all.push(check(&row.place, "build", "", build, &words));
        all.push(check(&row.place, "boot", "", boot, &words));
    }
    for row in report.claims.iter().filter(|row| is_contender(report, &row.place.candidate)) {
        let state = match row.reading {
            ClaimReading::Gains | ClaimReading::NoWorse | ClaimReading::LosesLittle => State::Pass,
            ClaimReading::Loses => State::Fail,
            ClaimReading::Open | ClaimReading::NotReached => State::Skip,
        };
        let words = format!("{}: {}{} {}", word(row.reading), row.question, span(row), row.reason);
        all.push(Check {
            claim: Some(row),
            ..check(&row.place, "claim", &row.claim, state, &words)
        });
    }
    for row in report.wrong.iter().filter(|row| is_contender(report, &row.place.candidate)) {
        let state = match row.reading {
            WrongReading::Wrong => State::Fail,
            WrongReading::None => State::Pass,
            WrongReading::Present
            | WrongReading::SeenOnce
            | WrongReading::NotShown
            | WrongReading::NotReached => State::Skip,
        };
        let words = format!(
            "{} wrong of {} answers, in {} of {} boots",
            row.wrong, row.answers, row.seen.k, row.seen.n
        );
        let name = format!("{} {}", row.metric, row.label);
        all.push(check(&row.place, "wrong", &name, state, &words));
    }
    for row in report.splats.iter().filter(|row| is_contender(report, &row.place.candidate)) {
        let state = match row.reading {
            SplatReading::Introduced => State::Fail,
            SplatReading::Fixed => State::Pass,
            SplatReading::SeenOnce
            | SplatReading::Exposed
            | SplatReading::Control
            | SplatReading::Unclear => State::Skip,
            // Nobody is asked about what was there before.
            SplatReading::Present | SplatReading::Background => continue,
        };
        let words = format!(
            "{} in {} of {} boots, reference {} of {}; {}",
            word(row.reading),
            row.seen.k,
            row.seen.n,
            row.reference.k,
            row.reference.n,
            row.reason
        );
        all.push(Check {
            fingerprint: Some(&row.fingerprint),
            ..check(&row.place, "splat", &row.title, state, &words)
        });
    }
    for row in &report.gates {
        let state = match row.state {
            GateState::Passed => State::Pass,
            GateState::Failed => State::Fail,
            GateState::Undecided => State::Skip,
        };
        all.push(check(&row.place, "gate", &row.name, state, &row.reason));
    }
    all
}

/// A kernel of a reference that does not build or boot, if there is one.
pub(crate) fn broken_base(report: &Report) -> Option<&CellRow> {
    let broken = |cell: &&CellRow| stages(cell.end).contains(&State::Fail);
    report.cells.iter().filter(|cell| cell.role == Role::Reference).find(broken)
}

/// How build and boot of a cell ended.
pub(super) fn stages(end: CellEnd) -> [State; 2] {
    match end {
        CellEnd::Ran => [State::Pass, State::Pass],
        CellEnd::DidNotApply | CellEnd::DidNotBuild => [State::Fail, State::Skip],
        CellEnd::DidNotBoot | CellEnd::Panicked | CellEnd::Hung => [State::Pass, State::Fail],
        CellEnd::NotPortable => [State::Skip, State::Skip],
        CellEnd::Error => [State::Error, State::Error],
        CellEnd::Waiting => [State::Miss, State::Miss],
    }
}

/// The kernel that a place speaks of; of several profiles, the first.
pub(super) fn cell_of<'a>(report: &'a Report, place: &Place) -> Option<&'a CellRow> {
    report.cells.iter().find(|cell| {
        cell.place.same_target(place)
            && (place.profile.is_empty()
                || place.profile.split('+').any(|profile| profile == cell.place.profile))
    })
}

/// The difference and its interval, where there is one.
fn span(row: &ClaimRow) -> String {
    match (row.estimate, row.low, row.high) {
        (Some(estimate), Some(low), Some(high)) => format!(" {estimate:.4} [{low:.4}, {high:.4}]"),
        _ => String::new(),
    }
}
