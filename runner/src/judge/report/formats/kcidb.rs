// SPDX-License-Identifier: MIT OR Apache-2.0
//! KCIDB v5.3, the common database of kernel test results.
//!
//! The origin is `bakeoff`; whoever submits to the shared database has an origin of
//! their own there, and replaces it.

use serde_json::{Value, json};

use super::{State, cell_of, checks, hash, line, pretty, slug, stages};
use crate::base::error::Result;
use crate::base::words::word;
use crate::judge::report::Report;
use crate::judge::row::{Place, SplatReading};

const ORIGIN: &str = "bakeoff";

/// A version of the issue objects; their meaning has not changed yet.
const ISSUE_VERSION: u32 = 1;

fn status(state: State) -> &'static str {
    match state {
        State::Pass => "PASS",
        State::Fail => "FAIL",
        State::Skip => "SKIP",
        State::Error => "ERROR",
        State::Miss => "MISS",
    }
}

pub(in super::super) fn render(report: &Report) -> Result<String> {
    // Two runs of one spec are two builds and two tests.
    let run = hash(&[&report.run.spec_sha256, &report.run.started]);
    let checkout = |place: &Place| {
        format!("{ORIGIN}:{}", hash(&[&run, "checkout", &place.base, &place.candidate]))
    };
    let build = |place: &Place| {
        let Place { base, candidate, arch, profile, .. } = place;
        format!("{ORIGIN}:{}", hash(&[&run, "build", base, candidate, arch, profile]))
    };
    let mut checkouts: Vec<Value> = Vec::new();
    let mut builds: Vec<Value> = Vec::new();
    for cell in &report.cells {
        let place = &cell.place;
        let id = checkout(place);
        if !checkouts.iter().any(|known| known["id"] == id.as_str()) {
            let base = report.run.bases.get(&place.base).cloned().unwrap_or_default();
            let mut one = json!({
                "id": id,
                "origin": ORIGIN,
                "tree_name": line(&place.base),
                "comment": line(&format!("{} on {base}", place.candidate)),
                "start_time": report.run.started,
                "misc": { "role": cell.role },
            });
            let candidate = report.run.candidates.iter().find(|c| c.name == place.candidate);
            let series = candidate.and_then(|c| c.series.as_ref()).filter(|s| s.is_mail());
            if let Some(series) = series {
                one["message_id"] = json!(line(&series.message_id));
                one["comment"] =
                    json!(line(&format!("v{} of {} on {base}", series.version, series.subject)));
                one["misc"]["base"] = json!(series.base);
            }
            checkouts.push(one);
        }
        let [built, _] = stages(cell.end);
        let mut one = json!({
            "id": build(place),
            "checkout_id": id,
            "origin": ORIGIN,
            "architecture": place.arch.to_ascii_lowercase().replace('-', "_"),
            "config_name": line(&place.profile),
            "comment": line(&format!("{} {}", word(cell.end), cell.note.as_deref().unwrap_or(""))),
            "status": status(built),
        });
        if let Some(compiler) = report.environment.compiler.get(&place.arch) {
            one["compiler"] = json!(line(compiler));
        }
        if let Some(seconds) = cell.seconds.make {
            one["duration"] = json!(seconds);
        }
        builds.push(one);
    }
    let mut tests: Vec<Value> = Vec::new();
    let mut issues: Vec<Value> = Vec::new();
    let mut incidents: Vec<Value> = Vec::new();
    // A build has its status already.
    for check in checks(report).iter().filter(|check| check.kind != "build") {
        let Some(cell) = cell_of(report, check.place) else { continue };
        let id = format!("{ORIGIN}:{}", hash(&[&run, "test", &check.identity()]));
        let path = ["bakeoff", check.kind, &check.name].map(slug);
        let path: Vec<&str> = path.iter().map(String::as_str).filter(|p| !p.is_empty()).collect();
        let mut test = json!({
            "id": id,
            "build_id": build(&cell.place),
            "origin": ORIGIN,
            "path": path.join("."),
            "comment": line(&format!("{} {}", check.title(), check.message)),
            "status": status(check.state),
            "start_time": report.run.started,
            "environment": { "comment": format!("QEMU, {}", line(&check.place.arch)) },
            "misc": { "evidence": check.place.evidence, "profile": check.place.profile },
        });
        if let Some(claim) = check.claim {
            test["misc"]["claim"] = json!({
                "reading": claim.reading, "reference": claim.reference,
                "estimate": claim.estimate, "low": claim.low, "high": claim.high,
                "confidence": report.run.confidence,
            });
            // A number is for tests that came to an end.
            if let (Some(value), State::Pass | State::Fail) = (claim.value, check.state) {
                test["number"] = json!({ "value": value });
                if !claim.unit.is_empty() {
                    test["number"]["unit"] = json!(line(&claim.unit));
                }
            }
        }
        tests.push(test);
        let Some(print) = check.fingerprint.filter(|_| check.state == State::Fail) else {
            continue;
        };
        let issue = format!("{ORIGIN}:{}", line(print));
        if !issues.iter().any(|known| known["id"] == issue.as_str()) {
            issues.push(json!({
                "id": issue,
                "version": ISSUE_VERSION,
                "origin": ORIGIN,
                "report_subject": check.name,
                "culprit": { "code": true, "tool": false, "harness": false },
                "comment": signature(report, print),
            }));
        }
        incidents.push(json!({
            "id": format!("{ORIGIN}:{}", hash(&[&id, &issue])),
            "origin": ORIGIN,
            "issue_id": issue,
            "issue_version": ISSUE_VERSION,
            "test_id": id,
            "present": true,
            "comment": check.message,
        }));
    }
    let all = json!({
        "version": { "major": 5, "minor": 3 },
        "checkouts": checkouts,
        "builds": builds,
        "tests": tests,
        "issues": issues,
        "incidents": incidents,
    });
    pretty(&all, "KCIDB JSON")
}

fn signature(report: &Report, fingerprint: &str) -> String {
    let row = report
        .splats
        .iter()
        .find(|row| row.fingerprint == fingerprint && row.reading == SplatReading::Introduced);
    row.map(|row| line(&row.signature.join("; "))).unwrap_or_default()
}
