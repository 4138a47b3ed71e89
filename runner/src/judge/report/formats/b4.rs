// SPDX-License-Identifier: MIT OR Apache-2.0
//! The array that b4 reads from a check command: `pass`, `warn` or `fail` for each
//! contender, base and architecture, with every check below it.

use serde_json::{Value, json};

use super::{Check, State, checks, line, pretty};
use crate::base::error::Result;
use crate::judge::report::Report;

pub(in super::super) fn render(report: &Report) -> Result<String> {
    let all = checks(report);
    let mut out: Vec<Value> = Vec::new();
    for verdict in all.iter().filter(|check| check.kind == "verdict") {
        let place = verdict.place;
        let below = all
            .iter()
            .filter(|check| check.place.same_target(place) && check.kind != "verdict")
            .map(|check| format!("{} {}: {}", word(check), check.title(), check.message));
        let summary =
            format!("{} on {} {}: {}", place.candidate, place.base, place.arch, verdict.message);
        out.push(json!({
            "tool": "bakeoff",
            "status": word(verdict),
            "summary": line(&summary),
            "details": below.collect::<Vec<_>>().join("\n"),
        }));
    }
    pretty(&out, "an array for b4")
}

/// b4 knows no skip: what is not decided is a warning.
fn word(check: &Check<'_>) -> &'static str {
    match check.state {
        State::Pass => "pass",
        State::Fail => "fail",
        State::Skip | State::Error | State::Miss => "warn",
    }
}
