// SPDX-License-Identifier: MIT OR Apache-2.0
//! KTAP, the kernel's own test format: `kunit.py parse` reads it.

use super::{Check, State, checks};
use crate::judge::report::Report;

pub(in super::super) fn render(report: &Report) -> String {
    let mut groups: Vec<(String, Vec<Check<'_>>)> = Vec::new();
    for check in checks(report) {
        let place = check.place;
        let name = plain(&format!("{} {} on {}", place.candidate, place.arch, place.base));
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, all)) => all.push(check),
            None => groups.push((name, vec![check])),
        }
    }
    let mut text = format!("KTAP version 1\n1..{}\n", groups.len());
    for (at, (name, all)) in groups.iter().enumerate() {
        text.push_str(&format!(
            "    KTAP version 1\n    # Subtest: {name}\n    1..{}\n",
            all.len()
        ));
        for (at, check) in all.iter().enumerate() {
            let title = plain(&format!("{} {}", check.place.profile, check.title()));
            let message = plain(&check.message);
            if check.state == State::Fail {
                text.push_str(&format!("    # {message}\n"));
            }
            let (word, after) = match check.state {
                State::Pass => ("ok", String::new()),
                State::Fail => ("not ok", String::new()),
                State::Skip => ("ok", format!(" # SKIP {message}")),
                State::Error => ("ok", format!(" # SKIP not the candidate's fault: {message}")),
                State::Miss => ("ok", format!(" # SKIP not done yet: {message}")),
            };
            text.push_str(&format!("    {word} {} {title}{after}\n", at + 1));
        }
        let number = at + 1;
        let has = |state| all.iter().any(|check| check.state == state);
        if has(State::Fail) {
            text.push_str(&format!("not ok {number} {name}\n"));
        } else if all.iter().all(|check| check.state == State::Pass) {
            text.push_str(&format!("ok {number} {name}\n"));
        } else {
            text.push_str(&format!("ok {number} {name} # SKIP not everything is decided\n"));
        }
    }
    text
}

/// `#` begins a directive, so no name has one.
fn plain(text: &str) -> String {
    super::line(&text.replace('#', "no."))
}
