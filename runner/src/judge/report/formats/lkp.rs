// SPDX-License-Identifier: MIT OR Apache-2.0
//! The comparison block that readers of the 0-day robot's mails know, with an interval
//! in place of the standard deviation.

use super::{is_contender, line};
use crate::judge::report::Report;
use crate::judge::row::ValueKind;
use crate::spec::Role;

pub(in super::super) fn render(report: &Report) -> String {
    let of = |role| report.run.candidates.iter().find(move |c| c.role == role);
    let reference = of(Role::Reference).map_or("reference", |c| c.name.as_str());
    let rule = "=".repeat(super::super::WIDTH);
    let mut text = String::new();
    for verdict in report.verdicts.iter().filter(|row| row.role == Role::Contender) {
        let place = &verdict.place;
        text.push_str(&format!(
            "{rule}\nbase/arch:\n  {}/{}\ncommit:\n  {}\n  {}\n\n",
            line(&place.base),
            line(&place.arch),
            line(reference),
            line(&place.candidate)
        ));
        text.push_str("   reference      change [interval]         candidate\n");
        text.push_str("------------ ---------------------------- ------------\n");
        let claims = report.claims.iter().filter(|row| row.place.same_target(place));
        for row in claims.filter(|row| is_contender(report, &row.place.candidate)) {
            let number = |value: Option<f64>| match value {
                Some(value) if row.kind == ValueKind::Share => format!("{:.2}%", value * 100.0),
                Some(value) => format!("{value:.4}"),
                None => "-".to_owned(),
            };
            let change = |value: f64| match row.kind {
                // Of a share in points, of a number in percent of the reference.
                ValueKind::Share => value * 100.0,
                ValueKind::Value => (value - 1.0) * 100.0,
            };
            let unit = if row.kind == ValueKind::Share { "pt" } else { "%" };
            let words = match (row.estimate, row.low, row.high) {
                (Some(estimate), Some(low), Some(high)) => format!(
                    "{:+.2}{unit} [{:+.2}, {:+.2}]",
                    change(estimate),
                    change(low),
                    change(high)
                ),
                (Some(estimate), _, _) => format!("{:+.2}{unit} [not known]", change(estimate)),
                _ => "not measured".to_owned(),
            };
            text.push_str(&format!(
                "{:>12} {words:^28} {:>12}  {}\n",
                number(row.reference),
                number(row.value),
                line(&row.claim)
            ));
        }
        // Like lkp, nothing about what neither of the two shows.
        let shown = |row: &&crate::judge::row::SplatRow| row.seen.k + row.reference.k > 0;
        let splats: Vec<_> =
            report.splats.iter().filter(|row| row.place.same_target(place)).filter(shown).collect();
        if !splats.is_empty() {
            text.push_str("\n   fail:runs        %reproduction          fail:runs\n");
            text.push_str("------------ ---------------------------- ------------\n");
        }
        for row in splats {
            let share = |seen: crate::judge::row::KOfN| match seen.n {
                0 => 0.0,
                n => seen.k as f64 / n as f64 * 100.0,
            };
            let rate = match (row.seen.n, row.reference.n) {
                (0, _) | (_, 0) => "not known".to_owned(),
                _ => format!("{:+.0}%", share(row.seen) - share(row.reference)),
            };
            text.push_str(&format!(
                "{:>12} {rate:^28} {:>12}  dmesg.{}\n",
                runs(row.reference),
                runs(row.seen),
                super::slug(&row.title).replace('-', "_")
            ));
        }
        text.push('\n');
    }
    text
}

/// `fail:runs`, and like lkp nothing in place of a zero.
pub(super) fn runs(seen: crate::judge::row::KOfN) -> String {
    match seen.k {
        0 => format!(":{}", seen.n),
        k => format!("{k}:{}", seen.n),
    }
}
