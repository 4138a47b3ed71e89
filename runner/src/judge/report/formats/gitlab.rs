// SPDX-License-Identifier: MIT OR Apache-2.0
//! GitLab's code quality report: what failed, and what is not decided.

use serde_json::{Value, json};

use super::{State, checks, line, pretty};
use crate::base::error::Result;
use crate::judge::report::Report;

pub(in super::super) fn render(report: &Report) -> Result<String> {
    let mut all: Vec<Value> = Vec::new();
    for check in checks(report) {
        let severity = match check.state {
            State::Pass => continue,
            State::Fail => "critical",
            State::Skip | State::Error | State::Miss => "info",
        };
        let place = check.place;
        // A finding lies in a file; a whole kernel's lies in the first that was changed.
        let candidate = report.run.candidates.iter().find(|c| c.name == place.candidate);
        let path = candidate.and_then(|c| c.touches.first()).map_or("Makefile", String::as_str);
        let what = format!(
            "{} on {} {} {}: {}: {}",
            place.candidate,
            place.base,
            place.arch,
            place.profile,
            check.title(),
            check.message
        );
        all.push(json!({
            "description": line(&what),
            "check_name": format!("bakeoff-{}", check.kind),
            "fingerprint": check.identity(),
            "severity": severity,
            "location": { "path": path, "lines": { "begin": 1 } },
        }));
    }
    pretty(&all, "GitLab code quality JSON")
}
