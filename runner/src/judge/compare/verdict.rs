// SPDX-License-Identifier: MIT OR Apache-2.0
//! Folds findings into one verdict per base, candidate and architecture.
//!
//! One thing that is worse makes it worse. Else one thing that had to be known
//! and is not makes it inconclusive. Else one thing that is better makes it
//! better. Else it is the same *as far as tested*.

use super::rate::condition;
use super::row::{CellEnd, Change, Effect, Finding, Place, RateRow, Verdict, VerdictRow};
use super::words::list;
use super::{Comparison, Subject, flip, means};
use crate::spec::Role;

pub(super) fn fold(subject: &Subject, found: &Comparison) -> Vec<VerdictRow> {
    let mut rows: Vec<VerdictRow> = Vec::new();
    for cell in &found.cells {
        let at = &cell.place;
        let known = |row: &VerdictRow| same_target(&row.place, at);
        if !rows.iter().any(known) {
            rows.push(one(subject, found, at, cell.role));
        }
    }
    rows
}

/// The same base, candidate and architecture.
pub(super) fn same_target(a: &Place, b: &Place) -> bool {
    a.base == b.base && a.candidate == b.candidate && a.arch == b.arch
}

/// A place that speaks of all profiles of a target.
pub(super) fn all_profiles(found: &Comparison, at: &Place, evidence: Vec<String>) -> Place {
    let cells: Vec<_> = found.cells.iter().filter(|c| same_target(&c.place, at)).collect();
    let profiles: Vec<&str> = cells.iter().map(|c| c.place.profile.as_str()).collect();
    let mut place = Place { profile: profiles.join("+"), evidence, ..at.clone() };
    place.boots = cells.iter().map(|c| c.place.boots).sum();
    let mut seen = std::collections::BTreeSet::new();
    place.evidence.retain(|file| seen.insert(file.clone()));
    place
}

fn one(subject: &Subject, found: &Comparison, at: &Place, role: Role) -> VerdictRow {
    let findings: Vec<&Finding> =
        found.findings.iter().filter(|f| same_target(&f.place, at)).collect();
    let has = |effect| findings.iter().any(|f| f.effect == effect);
    let (verdict, decisive) = if has(Effect::Worse) {
        (Verdict::Worse, Effect::Worse)
    } else if has(Effect::Inconclusive) {
        (Verdict::Inconclusive, Effect::Inconclusive)
    } else if has(Effect::Better) {
        (Verdict::Better, Effect::Better)
    } else if has(Effect::Same) {
        (Verdict::Same, Effect::Same)
    } else {
        (Verdict::Inconclusive, Effect::Inconclusive)
    };
    let cells: Vec<_> = found.cells.iter().filter(|c| same_target(&c.place, at)).collect();
    let declared = cells.iter().all(|cell| cell.end == CellEnd::NotPortable);

    let mut reasons = Vec::new();
    for effect in [Effect::Worse, Effect::Inconclusive, Effect::Better] {
        let with = findings.iter().filter(|f| f.effect == effect);
        reasons.extend(with.map(|f| in_profile(&cells_profiles(&cells), f)));
    }
    reasons.extend(same(found, &findings, at, role, subject));
    if removed(found, at) && verdict != Verdict::Worse {
        reasons.push(
            "a report that does not come cannot tell a fix from a check that was silenced".into(),
        );
    }
    let info = subject.candidates.iter().find(|c| c.name == at.candidate);
    let untested = info.filter(|c| !declared && !flip::has_tested(c, &found.findings, at));
    if let Some(untested) = untested.and_then(|c| c.untested.as_ref()) {
        reasons.push(format!("not tested: {untested}"));
    }
    for note in findings.iter().filter(|f| f.effect == Effect::Note && f.oracle != "availability") {
        reasons.push(format!("note: {}", in_profile(&cells_profiles(&cells), note)));
    }
    let mut once = std::collections::BTreeSet::new();
    reasons.retain(|reason| once.insert(reason.clone()));
    let evidence = findings
        .iter()
        .filter(|f| f.effect == decisive)
        .flat_map(|f| f.place.evidence.iter().cloned())
        .collect();
    let place = all_profiles(found, at, evidence);
    VerdictRow { place, role, verdict, declared, reasons }
}

fn cells_profiles<'a>(cells: &[&'a super::CellRow]) -> Vec<&'a str> {
    cells.iter().map(|c| c.place.profile.as_str()).collect()
}

/// The finding's text, with its profile where there are several.
fn in_profile(profiles: &[&str], finding: &Finding) -> String {
    if profiles.len() > 1 {
        format!("{}: {}", finding.place.profile, finding.text)
    } else {
        finding.text.clone()
    }
}

fn removed(found: &Comparison, at: &Place) -> bool {
    found.splats.iter().any(|s| same_target(&s.place, at) && s.change == Change::Removed)
}

/// What is the same, in as few words as that deserves.
fn same(
    found: &Comparison,
    findings: &[&Finding],
    at: &Place,
    role: Role,
    subject: &Subject,
) -> Vec<String> {
    let mut reasons = Vec::new();
    for finding in findings.iter().filter(|f| f.effect == Effect::Same) {
        if finding.oracle != "availability" {
            reasons.push(finding.text.clone());
        }
    }
    let rows: Vec<&RateRow> = found
        .rates
        .iter()
        .filter(|r| same_target(&r.place, at) && r.verdict == Verdict::Same && r.calls > 0)
        .collect();
    if role == Role::Reference || rows.is_empty() {
        return reasons;
    }
    let mut metrics: Vec<&str> = Vec::new();
    for row in &rows {
        if !metrics.contains(&row.metric.as_str()) {
            metrics.push(&row.metric);
        }
    }
    for metric in metrics {
        let of: Vec<String> = rows
            .iter()
            .filter(|row| row.metric == metric)
            .map(|row| format!("{} {}", condition(row), super::shown(row)))
            .collect();
        let means = means(metric);
        reasons.push(format!("{means} as in {}: {}", subject.reference(), list(&of)));
    }
    reasons
}
