// SPDX-License-Identifier: MIT OR Apache-2.0
//! GitHub Actions: the page of a job (`$GITHUB_STEP_SUMMARY`), and workflow commands that
//! become annotations when they are printed.

use super::{Check, State, checks};
use crate::judge::report::Report;

/// As many annotations of a kind as GitHub shows for a step.
const SHOWN: usize = 10;

pub(in super::super) fn summary(report: &Report) -> String {
    let all = checks(report);
    let mut text = format!("## bakeoff: {}\n\n", cell(&report.run.title));
    if let Some(interim) = &report.run.interim {
        text.push_str(&format!("Not complete: {}\n\n", cell(interim)));
    }
    text.push_str("| | contender | base | arch | profile | check | why |\n");
    text.push_str("|---|---|---|---|---|---|---|\n");
    let rank = |check: &&Check<'_>| match check.state {
        State::Fail => 0,
        State::Error => 1,
        State::Skip | State::Miss => 2,
        State::Pass => 3,
    };
    let mut sorted: Vec<&Check<'_>> = all.iter().collect();
    sorted.sort_by_key(rank);
    for check in sorted {
        let place = check.place;
        let columns =
            [&place.candidate, &place.base, &place.arch, &place.profile].map(|text| cell(text));
        text.push_str(&format!(
            "| {} | {} | {} | {} |\n",
            word(check.state),
            columns.join(" | "),
            cell(&check.title()),
            cell(&check.message)
        ));
    }
    text
}

fn word(state: State) -> &'static str {
    match state {
        State::Pass => "pass",
        State::Fail => "**FAIL**",
        State::Skip => "not decided",
        State::Error => "our error",
        State::Miss => "not done",
    }
}

/// Text that neither ends a cell of a table, nor is markup, nor calls anybody.
fn cell(text: &str) -> String {
    let mut out = String::new();
    for c in super::line(text).chars() {
        match c {
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '~' | '!' | '#' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '@' => out.push_str("&#64;"),
            c => out.push(c),
        }
    }
    out
}

pub(in super::super) fn annotations(report: &Report) -> String {
    let all = checks(report);
    let mut text = String::new();
    for (kind, states) in [
        ("error", &[State::Fail][..]),
        ("warning", &[State::Error, State::Miss][..]),
        ("notice", &[State::Skip][..]),
    ] {
        for check in all.iter().filter(|check| states.contains(&check.state)).take(SHOWN) {
            let title =
                format!("{} {}: {}", check.place.candidate, check.place.arch, check.title());
            text.push_str(&format!(
                "::{kind} title={}::{}\n",
                property(&super::line(&title)),
                data(&check.message)
            ));
        }
    }
    text
}

/// As the toolkit of Actions escapes them.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
