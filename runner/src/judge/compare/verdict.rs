// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads one verdict per base, candidate and architecture off the rows.
//!
//! One loss, confirmed splat, wrong answer or dead kernel makes it *not ok*. Else one thing
//! that had to be known and is not leaves it *open*. Else it is *ok*: every claim is no
//! worse or gains.

use super::words::counted;
use super::{Comparison, Subject};
use crate::judge::row::{
    CellEnd, CellRow, ClaimReading, ControlSplat, Place, SplatReading, Verdict, VerdictRow,
    WrongReading,
};
use crate::spec::Role;

pub(super) fn fold(subject: &Subject<'_>, found: &Comparison) -> Vec<VerdictRow> {
    let mut rows: Vec<VerdictRow> = Vec::new();
    for cell in &found.cells {
        if !rows.iter().any(|row| row.place.same_target(&cell.place)) {
            rows.push(one(subject, found, &cell.place, cell.role));
        }
    }
    rows
}

/// What speaks against a candidate, and what is not known of it.
#[derive(Default)]
struct Because {
    bad: Vec<String>,
    open: Vec<String>,
    good: Vec<String>,
}

fn one(subject: &Subject<'_>, found: &Comparison, at: &Place, role: Role) -> VerdictRow {
    let cells: Vec<_> = found.cells.iter().filter(|c| c.place.same_target(at)).collect();
    let declared = cells.iter().all(|cell| cell.end == CellEnd::NotPortable);
    let mut because = Because::default();
    for cell in &cells {
        let note = cell.note.as_ref().map_or_else(String::new, |note| format!(": {note}"));
        let profile = &cell.place.profile;
        if let Some(reference) = cell.excused_by(&found.cells) {
            let theirs = match &reference.note {
                Some(other) if cell.note.as_ref() != Some(other) => {
                    format!("; {}: {other}", reference.place.candidate)
                }
                _ => String::new(),
            };
            let said = excuse_words(cell, reference);
            because.open.push(format!("{profile} {said}{note}{theirs}"));
            continue;
        }
        let said = format!("{profile} {}{note}", end_words(cell.end));
        match cell.end {
            CellEnd::Ran | CellEnd::NotPortable => {}
            CellEnd::DidNotApply
            | CellEnd::DidNotBuild
            | CellEnd::DidNotBoot
            | CellEnd::Panicked
            | CellEnd::Hung => because.bad.push(said),
            CellEnd::Error | CellEnd::Waiting => because.open.push(said),
        }
    }
    for row in found.claims.iter().filter(|row| row.place.same_target(at)) {
        let claim = &row.claim;
        match row.reading {
            ClaimReading::Loses => because.bad.push(format!("{claim}: loses")),
            // Surely less than anybody minds.
            ClaimReading::LosesLittle => {
                because.good.push(format!("{claim}: loses less than the margin"));
            }
            ClaimReading::Gains => because.good.push(format!("{claim}: gains")),
            ClaimReading::NoWorse => because.good.push(format!("{claim}: no worse")),
            ClaimReading::Open => because.open.push(format!("{claim}: not decided")),
            ClaimReading::NotReached => because.open.push(format!("{claim}: {}", row.reason)),
        }
    }
    if role == Role::Contender {
        let not_asked = subject.not_asked();
        because.open.extend(not_asked.map(|claim| format!("{claim}: not asked in this run")));
    }
    for row in found.splats.iter().filter(|row| row.place.same_target(at)) {
        let (k, n) = (row.seen.k, row.seen.n);
        let said = format!("{} ({k} of {n} boots)", row.title);
        match row.reading {
            SplatReading::Introduced => because.bad.push(format!("new: {said}")),
            SplatReading::Control if role == Role::Control => {
                because.bad.push(format!("has the bug: {said}"));
            }
            SplatReading::Control => {
                because.bad.push(format!("the control's splat is still there: {said}"));
            }
            SplatReading::Unclear if row.count > 0 => {
                because.open.push(format!("{}: {}", row.title, row.reason));
            }
            SplatReading::SeenOnce
            | SplatReading::Exposed
            | SplatReading::Fixed
            | SplatReading::Present
            | SplatReading::Background
            | SplatReading::Unclear => {}
        }
    }
    for row in found.wrong.iter().filter(|row| row.place.same_target(at)) {
        let said = format!("{}: {}", counted(row.wrong, "wrong answer"), row.condition);
        match row.reading {
            WrongReading::Wrong => because.bad.push(said),
            WrongReading::SeenOnce => because.open.push(format!("{said}, not confirmed")),
            WrongReading::Present
            | WrongReading::None
            | WrongReading::NotShown
            | WrongReading::NotReached => {}
        }
    }
    let control_splat = control_splat(found, at, role);
    match control_splat {
        Some(ControlSplat::Gone) => because.good.push("the control's splat is gone".into()),
        Some(ControlSplat::Unclear) => {
            because.open.push("whether the control's splat is gone".into());
        }
        Some(ControlSplat::Present) | None => {}
    }
    let verdict = if !because.bad.is_empty() {
        Verdict::NotOk
    } else if !because.open.is_empty() || declared {
        Verdict::Open
    } else {
        Verdict::Ok
    };
    let Because { bad, open, good } = because;
    let mut evidence: Vec<String> = match verdict {
        Verdict::NotOk => cells.iter().flat_map(|c| c.place.evidence.iter().cloned()).collect(),
        Verdict::Ok | Verdict::Open => Vec::new(),
    };
    evidence.truncate(EVIDENCE);
    let profiles: Vec<&str> = cells.iter().map(|c| c.place.profile.as_str()).collect();
    let place = Place { profile: profiles.join("+"), evidence, ..at.clone() };
    VerdictRow {
        place,
        role,
        verdict,
        declared,
        because: [bad, open, good].concat(),
        control_splat,
    }
}

/// Files that a verdict names at most: the rows it rests on name all of theirs.
const EVIDENCE: usize = 12;

/// What became of the control's splats; the least good of them counts.
fn control_splat(found: &Comparison, at: &Place, role: Role) -> Option<ControlSplat> {
    if matches!(role, Role::Control | Role::Reference) {
        return None;
    }
    let controls = found.cells.iter().filter(|c| c.role == Role::Control);
    let mut control = controls.filter(|c| c.place.base == at.base && c.place.arch == at.arch);
    let splats = |place: &Place| {
        found.splats.iter().filter(|row| row.place.same_cell(place)).collect::<Vec<_>>()
    };
    let has_bug = control
        .any(|cell| splats(&cell.place).iter().any(|row| row.reading == SplatReading::Control));
    if !has_bug {
        return None;
    }
    let ours = found.splats.iter().filter(|row| row.place.same_target(at));
    let mut worst = None;
    for row in ours {
        let here = match row.reading {
            SplatReading::Control => ControlSplat::Present,
            SplatReading::Unclear if row.count == 0 => ControlSplat::Unclear,
            SplatReading::Fixed => ControlSplat::Gone,
            _ => continue,
        };
        worst = match (worst, here) {
            (Some(ControlSplat::Present), _) | (_, ControlSplat::Present) => {
                Some(ControlSplat::Present)
            }
            // One of its reports that surely is gone says more than a rare one that may be.
            (Some(ControlSplat::Gone), _) | (_, ControlSplat::Gone) => Some(ControlSplat::Gone),
            (_, here) => Some(here),
        };
    }
    Some(worst.unwrap_or(ControlSplat::Unclear))
}

/// The end of a cell whose reference gets no further, in words.
pub(crate) fn excuse_words(cell: &CellRow, reference: &CellRow) -> String {
    let (own, name) = (end_words(cell.end), &reference.place.candidate);
    if cell.end == reference.end {
        format!("{own}, like the reference {name}")
    } else {
        format!("{own} where the reference {name} {}", end_words(reference.end))
    }
}

/// A cell's end in words.
pub(crate) fn end_words(end: CellEnd) -> &'static str {
    match end {
        CellEnd::Ran => "ran",
        CellEnd::DidNotApply => "does not apply",
        CellEnd::DidNotBuild => "does not build",
        CellEnd::DidNotBoot => "does not boot",
        CellEnd::Panicked => "panicked",
        CellEnd::Hung => "hung",
        CellEnd::NotPortable => "not portable",
        CellEnd::Error => "not tested",
        CellEnd::Waiting => "not done yet",
    }
}
