// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report for a terminal: one line per claim.

use super::Report;

pub(super) fn render(report: &Report) -> String {
    let mut text = String::new();
    for row in &report.claims {
        text.push_str(&format!(
            "{:<18} {:<7} {:<12} {:<12} {:?} ref {:?} d {:?} [{:?}, {:?}] v{} c{} load {:?} {:?} {}\n",
            row.place.candidate, row.place.arch, row.claim, crate::spec::word(row.reading),
            row.value, row.reference, row.estimate, row.low, row.high, row.visits, row.calls, row.load, row.to_decide, row.reason
        ));
    }
    for row in &report.wrong {
        text.push_str(&format!(
            "wrong {:<18} {:<7} {:<30} {} of {} exp {:?} {}\n",
            row.place.candidate,
            row.place.arch,
            row.label,
            row.wrong,
            row.answers,
            row.expected,
            crate::spec::word(row.reading)
        ));
    }
    for row in &report.splats {
        text.push_str(&format!(
            "splat {:<18} {:<7} {:<10} {:<50} {} {}/{} ref {}/{} {}\n",
            row.place.candidate,
            row.place.arch,
            row.place.profile,
            row.title,
            crate::spec::word(row.reading),
            row.seen.k,
            row.seen.n,
            row.reference.k,
            row.reference.n,
            row.reason
        ));
    }
    for row in &report.verdicts {
        text.push_str(&format!(
            "verdict {:<18} {:<7} {} {:?}\n",
            row.place.candidate,
            row.place.arch,
            crate::spec::word(row.verdict),
            row.because
        ));
    }
    text
}
