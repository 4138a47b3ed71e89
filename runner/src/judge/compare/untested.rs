// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was not tested, so that nobody concludes it from a clean table.

use std::collections::{BTreeMap, BTreeSet};

use bakeoff_fuzz::probe::command;

use super::verdict::end_words;
use super::words::counted;
use super::{Comparison, Subject};
use crate::judge::row::{CellEnd, CellRow, MeasureRow, NotTested, WrongReading};
use crate::spec::plan::{CellId, Planned, Purpose};

/// Why no wrong answer says nothing.
pub(crate) const TOO_FEW_WRONG: &str = "the negative control shows too few wrong answers there";

pub(super) fn list_all(subject: &Subject<'_>, found: &Comparison) -> Vec<NotTested> {
    let mut all = Vec::new();
    for candidate in &subject.candidates {
        let Some(untested) = &candidate.untested else { continue };
        // A probe tests it after all, on the architectures where its zero counts.
        let row = |reason: String| NotTested {
            candidate: Some(candidate.name.clone()),
            ..general(untested, reason)
        };
        let Some(probe) = &candidate.tested_by else {
            all.push(row("no probe of this bake-off tests it".into()));
            continue;
        };
        let mut archs: BTreeSet<(&str, &str)> = BTreeSet::new();
        for cell in found.cells.iter().filter(|c| c.place.candidate == candidate.name) {
            archs.insert((&cell.place.base, &cell.place.arch));
        }
        for (base, arch) in archs {
            let tested = found.wrong.iter().any(|row| {
                row.place.candidate == candidate.name
                    && row.place.base == base
                    && row.place.arch == arch
                    && row.label.starts_with(probe.as_str())
                    && matches!(row.reading, WrongReading::None | WrongReading::Wrong)
            });
            if !tested {
                all.push(NotTested {
                    base: Some(base.to_owned()),
                    arch: Some(arch.to_owned()),
                    ..row(format!("the probe {probe} did not reach it"))
                });
            }
        }
    }
    for cell in found.cells.iter().filter(|cell| cell.end != CellEnd::Ran) {
        let what = match cell.end {
            CellEnd::Panicked | CellEnd::Hung => "what comes after it died",
            CellEnd::Ran
            | CellEnd::DidNotApply
            | CellEnd::DidNotBuild
            | CellEnd::DidNotBoot
            | CellEnd::NotPortable
            | CellEnd::Error
            | CellEnd::Waiting => "everything",
        };
        let note = cell.note.as_ref().map_or_else(String::new, |note| format!(": {note}"));
        all.push(NotTested {
            base: Some(cell.place.base.clone()),
            candidate: Some(cell.place.candidate.clone()),
            arch: Some(cell.place.arch.clone()),
            profile: Some(cell.place.profile.clone()),
            ..general(what, format!("{}{note}", end_words(cell.end)))
        });
    }
    let mut told = BTreeSet::new();
    for row in found.measures.iter().filter(|row| row.calls == 0) {
        let ran = found
            .cells
            .iter()
            .any(|cell| cell.end == CellEnd::Ran && cell.place.same_cell(&row.place));
        let place = &row.place;
        let key = (&place.base, &place.candidate, &place.arch, &place.profile, row.step);
        if ran && told.insert(key) {
            all.push(NotTested {
                base: Some(row.place.base.clone()),
                candidate: Some(row.place.candidate.clone()),
                arch: Some(row.place.arch.clone()),
                profile: Some(row.place.profile.clone()),
                ..general(&row.condition, row.reason.clone())
            });
        }
    }
    all.extend(not_shown(subject, found));
    all.extend(skipped(found));
    for claim in subject.not_asked() {
        let reason = "this run has none of its conditions, or not their profile";
        all.push(general(&format!("the claim `{claim}`"), reason.into()));
    }
    let mut zeros = BTreeSet::new();
    for row in found.wrong.iter().filter(|row| row.reading == WrongReading::NotShown) {
        if zeros.insert((&row.place.base, &row.place.arch, &row.condition, &row.means)) {
            all.push(NotTested {
                base: Some(row.place.base.clone()),
                arch: Some(row.place.arch.clone()),
                ..general(&format!("{}: {}", row.means, row.condition), TOO_FEW_WRONG.into())
            });
        }
    }
    if !found.measures.is_empty() && !found.cells.iter().any(|c| c.place.profile == "production") {
        all.push(general(
            "anything on a kernel without debug options",
            "no cell has the profile `production`".into(),
        ));
    }
    all
}

/// Conditions that nothing is judged by, and that some kernel did not get to.
fn not_shown(subject: &Subject<'_>, found: &Comparison) -> Option<NotTested> {
    let ran = || found.cells.iter().filter(|cell| cell.end == CellEnd::Ran);
    let role = |cell: &CellRow| {
        let mut candidates = subject.candidates.iter();
        candidates.find(|candidate| candidate.name == cell.place.candidate).map(|found| found.role)
    };
    let missing = |planned: &&Planned| {
        let wanted = |cell: &&CellRow| {
            planned.is_for(&cell.place.profile)
                && role(cell).is_none_or(|role| planned.visits_of(role) > 0)
        };
        ran().filter(wanted).any(|cell| {
            let of_step = |row: &&MeasureRow| row.step == planned.step.id;
            !found.measures.iter().filter(of_step).any(|row| row.place.same_cell(&cell.place))
        })
    };
    let steps = subject.plan.steps.iter().filter(|planned| planned.purpose == Purpose::Shown);
    let left = steps.filter(missing).count() as u64;
    (left > 0).then(|| {
        let what = format!("{} that nothing is judged by", counted(left, "condition"));
        general(&what, "measured last, while the budget lasts; --budget gives more time".into())
    })
}

/// What `--within` gave no time for, what decides most first.
pub(crate) fn left_out(cells: &[CellId]) -> impl Iterator<Item = NotTested> + '_ {
    cells.iter().map(|CellId { base, candidate, arch, profile }| NotTested {
        base: Some(base.clone()),
        arch: Some(arch.clone()),
        ..general(
            &format!("{candidate} on {arch} ({profile})"),
            "left out, for --within gave no time for it".into(),
        )
    })
}

/// Tests that a command did not run: skipped, or without a program.
fn skipped(found: &Comparison) -> Vec<NotTested> {
    const NAMED: usize = 6;
    let kinds = [command::NOT_BUILT, command::SKIPPED];
    let kinds = command::PROBE.excluded.iter().filter(|reason| kinds.contains(&reason.name));
    let kinds: Vec<&str> = kinds.map(|reason| reason.means).collect();
    let of_command = || found.measures.iter().filter(|row| row.probe == command::PROBE.name);
    // The tests of a condition, and who did not run them.
    let mut tests: BTreeMap<_, BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
    for row in of_command() {
        for words in row.excluded.keys() {
            let kind = kinds.iter().find(|means| words.starts_with(**means));
            let Some(means) = kind else { continue };
            let Some(name) = words[means.len()..].trim().strip_prefix('(') else { continue };
            let name = name.strip_suffix(')').unwrap_or(name);
            let place = (row.place.base.as_str(), row.place.arch.as_str());
            let of_kind = tests.entry((place, row.label.as_str(), *means)).or_default();
            of_kind.entry(name).or_default().insert(&row.place.candidate);
        }
    }
    let mut all = Vec::new();
    for (((base, arch), label, means), names) in tests {
        let everybody: BTreeSet<&str> = of_command()
            .filter(|row| row.place.base == base && row.place.arch == arch && row.label == label)
            .map(|row| row.place.candidate.as_str())
            .collect();
        let mut by_who: BTreeMap<BTreeSet<&str>, Vec<&str>> = BTreeMap::new();
        for (name, who) in names {
            by_who.entry(who).or_default().push(name);
        }
        for (who, names) in by_who {
            let more = match names.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let names: Vec<&str> = names.into_iter().take(NAMED).collect();
            let row = NotTested {
                base: Some(base.to_owned()),
                arch: Some(arch.to_owned()),
                ..general(&format!("{label}: {}{more}", names.join(", ")), means.to_owned())
            };
            if who == everybody {
                all.push(row);
                continue;
            }
            let one =
                |name: &&str| NotTested { candidate: Some((*name).to_owned()), ..row.clone() };
            all.extend(who.iter().map(one));
        }
    }
    all
}

fn general(what: &str, reason: String) -> NotTested {
    NotTested {
        what: what.to_owned(),
        reason,
        base: None,
        candidate: None,
        arch: None,
        profile: None,
    }
}
