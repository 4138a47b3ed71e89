// SPDX-License-Identifier: MIT OR Apache-2.0
use serde_json::{Value, json};

use crate::judge::report::{FORMATS, How, Report, format};

fn place(candidate: &str, profile: &str) -> Value {
    json!({
        "base": "6.12", "candidate": candidate, "arch": "x86_64", "profile": profile,
        "evidence": [format!("cells/6.12/{candidate}/x86_64/lockdep/boots/0-001/console.log")],
    })
}

fn row(candidate: &str, profile: &str, rest: Value) -> Value {
    let mut row = place(candidate, profile);
    if let (Value::Object(row), Value::Object(rest)) = (&mut row, rest) {
        row.extend(rest);
    }
    row
}

fn cell(candidate: &str, role: &str, end: &str) -> Value {
    row(
        candidate,
        "lockdep",
        json!({
            "role": role, "end": end, "note": null, "boots": 10, "objects": 12,
            "seconds": {"copy": 1.0, "make": 60.5, "cached": null, "hello": 3.5, "boots": 120.0},
        }),
    )
}

fn claim(candidate: &str, name: &str, reading: &str, low: f64, high: f64) -> Value {
    row(
        candidate,
        "lockdep",
        json!({
            "claim": name, "question": "Is the lookup as quick?", "metric": "lookup.cost",
            "means": "time of a lookup", "unit": "ns", "kind": "value", "better": "lower",
            "margin": 0.05, "conditions": ["idle"], "value": 110.0, "reference": 100.0,
            "estimate": 1.1, "low": low, "high": high, "reading": reading, "visits": 20,
            "calls": 4000, "load": null, "missing": null, "to_decide": null, "reason": "",
        }),
    )
}

fn splat(candidate: &str, reading: &str, title: &str) -> Value {
    row(
        candidate,
        "lockdep",
        json!({
            "kind": "warning", "title": title, "fingerprint": "00aa11bb22cc33dd",
            "reading": reading, "seen": {"k": 4, "n": 10}, "reference": {"k": 0, "n": 10},
            "p": 0.04, "count": 9, "first_offset": 0, "disables_lockdep": false,
            "reason": "came again in fresh boots", "signature": ["warning", "lab_find", "lab_walk"],
        }),
    )
}

fn verdict(candidate: &str, verdict: &str, because: &str) -> Value {
    row(
        candidate,
        "lockdep",
        json!({
            "role": "contender", "verdict": verdict, "declared": false, "because": [because],
            "control_splat": null,
        }),
    )
}

/// A contender that fails, one that passes, one that is open, one that we lost.
fn report(rest: Value) -> Report {
    let info = |name: &str, role: &str| {
        json!({
            "name": name, "role": role, "title": format!("what {name} does"),
            "touches": ["mm/lab.c"], "lines": [10, 2],
        })
    };
    let mut report = json!({
        "schema_version": 2,
        "tool": "bakeoff 0.1.0",
        "run": {
            "bakeoff": "lab", "title": "A quicker lookup in lab_find()",
            "thread": {
                "message-id": "20260101.lab@example.org", "subject": "[PATCH v2 0/2] lab: quicker",
                "to": ["list@example.org"], "cc": ["Dev Eloper <dev@example.org>"],
            },
            "started": "2026-01-02T03:04:05Z", "interim": null, "spec_sha256": "ab".repeat(32),
            "seed": 7, "bases": {"6.12": "Debian linux-source-6.12"},
            "candidates": [info("stock", "reference"), info("bad", "contender"),
                           info("good", "contender"), info("unsure", "contender"),
                           info("lost", "contender")],
            "architectures": ["x86_64"], "profiles": ["lockdep"], "claims": [],
            "confidence": 0.95, "budget_minutes": 20.0, "boot_minutes": 8.0, "visits": 100,
        },
        "environment": {
            "accel": {}, "accel_reason": {}, "qemu": {}, "compiler": {"x86_64": "gcc 12"},
            "cpus": 2, "guest_cpus": 2, "host_kernel": "6.1.0",
        },
        "verdicts": [verdict("bad", "not-ok", "a new splat"), verdict("good", "ok", "no worse"),
                     verdict("unsure", "open", "a claim is open"),
                     verdict("lost", "open", "the guest was lost")],
        "claims": [claim("bad", "quick", "loses", 1.06, 1.14),
                   claim("good", "quick", "no-worse", 0.97, 1.03),
                   claim("unsure", "quick", "open", 0.9, 1.2)],
        "measures": [], "visits": [], "wrong": [],
        "splats": [splat("bad", "introduced", "WARNING in lab_find"),
                   splat("unsure", "seen-once", "WARNING in lab_walk")],
        "blind": [],
        "cells": [cell("stock", "reference", "ran"), cell("bad", "contender", "ran"),
                  cell("good", "contender", "ran"), cell("unsure", "contender", "ran"),
                  cell("lost", "contender", "error")],
        "gates": [], "predictions": [],
        "not_tested": [{"what": "arm64", "reason": "not asked for", "base": null,
                        "candidate": null, "arch": null, "profile": null}],
    });
    if let (Value::Object(report), Value::Object(rest)) = (&mut report, rest) {
        report.extend(rest);
    }
    serde_json::from_value(report).unwrap()
}

fn rendered(name: &str, report: &Report) -> String {
    format(name).unwrap().render(report, &How::default()).unwrap()
}

/// Each format for another tool looks as it did when its reader last read it.
#[test]
fn golden_files() {
    let report = report(json!({}));
    for name in [
        "junit",
        "ktap",
        "kcidb",
        "github",
        "github-annotations",
        "gitlab",
        "patchwork",
        "b4-check",
        "lkp",
        "mail",
    ] {
        insta::assert_snapshot!(name, rendered(name, &report));
    }
}

/// One series of mails that splats on its own.
fn of_a_series(rest: Value) -> Report {
    let mut report = report(json!({
        "verdicts": [verdict("bad", "not-ok", "a new splat")],
        "claims": [claim("bad", "quick", "loses", 1.06, 1.14)],
        "splats": [splat("bad", "introduced", "WARNING in lab_find")],
        "cells": [cell("stock", "reference", "ran"), cell("bad", "contender", "ran")],
    }));
    report.run.candidates.retain(|c| ["stock", "bad"].contains(&c.name.as_str()));
    report.run.candidates[1].series = serde_json::from_value(json!({
        "source": "20260101.lab-0@example.org", "version": 2,
        "subject": "lab: a quicker lookup, by way of a table that is made when it is needed",
        "message_id": "20260101.lab-0@example.org",
        "patches": [
            {"subject": "lab: make a table", "message_id": "20260101.lab-1@example.org"},
            {"subject": "lab: use it", "message_id": "20260101.lab-2@example.org"},
        ],
        "base": [
            "0123456789abcdef0123456789abcdef01234567 (v6.12): named by the author in base-commit:",
            "2 of 2 files are as expected",
            "base of the run: named by the author in base-commit:",
        ],
    }))
    .unwrap();
    let mut value = serde_json::to_value(report).unwrap();
    if let (Value::Object(value), Value::Object(rest)) = (&mut value, rest) {
        value.extend(rest);
    }
    serde_json::from_value(value).unwrap()
}

/// The reply to a series says its version, its base and how that was chosen, and one
/// command that does it again; its check belongs to its last patch.
#[test]
fn golden_files_of_a_series() {
    let report = of_a_series(json!({}));
    insta::assert_snapshot!("series-mail", rendered("mail", &report));
    insta::assert_snapshot!("series-patchwork", rendered("patchwork", &report));
    let clean = of_a_series(json!({
        "verdicts": [verdict("bad", "ok", "no worse")], "splats": [], "claims": [],
    }));
    insta::assert_snapshot!("series-mail-of-nothing", rendered("mail", &clean));
    let kcidb: Value = serde_json::from_str(&rendered("kcidb", &report)).unwrap();
    assert_eq!(kcidb["checkouts"][1]["message_id"], "20260101.lab-0@example.org");
}

/// Whatever a run tells, the evidence begins after at most 60 lines, and the command that
/// does it again is among them.
#[test]
fn the_head_of_a_mail_is_short() {
    let not_tested: Vec<Value> = (0..40)
        .map(|n| {
            json!({"what": format!("{n} {}", "many words ".repeat(30)), "reason": "why ".repeat(90),
                   "base": null, "candidate": null, "arch": null, "profile": null})
        })
        .collect();
    let mut report = of_a_series(json!({ "not_tested": not_tested }));
    report.run.title = "long ".repeat(200);
    report.splats = (0..9)
        .map(|n| {
            let mut row = report.splats[0].clone();
            row.title = format!("WARNING in {n} {}", "x".repeat(200));
            row
        })
        .collect();
    let mail = rendered("mail", &report);
    let (_, body) = mail.split_once("\n\n").unwrap();
    let is_first = |line: &str| line.starts_with("WARNING in 0");
    let before = body.lines().position(is_first).unwrap();
    assert!(before <= 60, "{before} lines: {mail}");
    let again = body.lines().position(|line| line.starts_with("  bakeoff try ")).unwrap();
    assert!(again < before, "{mail}");
    assert!(mail.lines().all(|line| line.chars().count() <= 75), "{mail}");
    assert_eq!(mail.matches("[shortened").count(), 1, "{mail}");
}

/// A finding of the fuzzer with the same report brings its program along, if it fits.
#[test]
fn a_program_is_quoted() {
    let report = of_a_series(json!({}));
    let run = tempfile::tempdir().unwrap();
    let folder = run.path().join("fuzz/6.12/bad/findings/00aa11bb22cc33dd");
    std::fs::create_dir_all(&folder).unwrap();
    let how = How { full: false, run: Some(run.path()) };
    let mail = |text: &str| {
        std::fs::write(folder.join("repro.c"), text).unwrap();
        format("mail").unwrap().render(&report, &how).unwrap()
    };
    assert!(mail("int main(void)\n{\n}\n").contains("A program that provokes it:\n\nint main"));
    assert!(!mail(&format!("// {}\n", "x".repeat(80))).contains("provokes"));
    assert!(!mail(&"x\n".repeat(300)).contains("provokes"));
}

/// The schema of Jenkins has no number of all skipped cases; the suites keep theirs.
#[test]
fn junit_has_what_jenkins_takes() {
    let xml = rendered("junit", &report(json!({})));
    let tag = xml.lines().find(|line| line.starts_with("<testsuites ")).unwrap();
    assert!(!tag.contains("skipped=") && tag.contains("errors="), "{tag}");
    assert!(xml.lines().any(|line| line.contains("<testsuite ") && line.contains("skipped=\"3\"")));
}

/// What is not decided passes in no format, and what we lost is not the candidate's fault.
#[test]
fn open_never_passes() {
    let report = report(json!({}));
    let value: Value = serde_json::from_str(&rendered("b4-check", &report)).unwrap();
    let states: Vec<&str> =
        value.as_array().unwrap().iter().map(|one| one["status"].as_str().unwrap()).collect();
    assert_eq!(states, ["fail", "pass", "warn", "warn"]);
    let value: Value = serde_json::from_str(&rendered("patchwork", &report)).unwrap();
    let states: Vec<&str> =
        value.as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["fail", "success", "warning", "warning"]);
    let value: Value = serde_json::from_str(&rendered("kcidb", &report)).unwrap();
    let builds = value["builds"].as_array().unwrap();
    assert_eq!(builds.last().unwrap()["status"], "ERROR");
    let ktap = rendered("ktap", &report);
    assert!(ktap.contains("not ok 1 bad x86_64"), "{ktap}");
    assert!(ktap.contains("ok 2 good x86_64 on 6.12\n"), "{ktap}");
    assert!(ktap.contains("ok 3 unsure x86_64 on 6.12 # SKIP"), "{ktap}");
    assert!(ktap.contains("ok 4 lost x86_64 on 6.12 # SKIP"), "{ktap}");
}

/// A contender that does not build on a base that does not build either fails in no format;
/// on one that builds, it does.
#[test]
fn the_base_excuses() {
    for (base, state) in [("did-not-build", "warning"), ("ran", "fail")] {
        let verdict = match state {
            "fail" => verdict("bad", "not-ok", "lockdep does not build"),
            _ => verdict("bad", "open", "lockdep does not build, like the reference stock"),
        };
        let report = of_a_series(json!({
            "verdicts": [verdict], "claims": [], "splats": [],
            "cells": [cell("stock", "reference", base), cell("bad", "contender", "did-not-build")],
        }));
        let value: Value = serde_json::from_str(&rendered("patchwork", &report)).unwrap();
        assert_eq!(value[0]["state"], state, "{value}");
        let failed = rendered("junit", &report).contains("<failure");
        assert_eq!(failed, state == "fail", "{}", rendered("junit", &report));
        let page = rendered("text", &report);
        let like = "does not build, like the reference stock";
        assert_eq!(page.contains(like), state == "warning", "{page}");
    }
}

/// The mail is narrow, short before its evidence, says how often, and offers no Tested-by.
#[test]
fn mail_is_short_and_narrow() {
    let mail = rendered("mail", &report(json!({})));
    let (headers, body) = mail.split_once("\n\n").unwrap();
    assert!(headers.contains("Subject: Re: [PATCH v2 0/2] lab: quicker\n"), "{headers}");
    assert!(headers.contains("In-Reply-To: <20260101.lab@example.org>\n"), "{headers}");
    assert!(headers.contains("Cc: Dev Eloper <dev@example.org>\n"), "{headers}");
    assert!(mail.lines().all(|line| line.chars().count() <= 75), "{mail}");
    let before = body.lines().position(|line| line == "WARNING in lab_find (x86_64):").unwrap();
    assert!(before <= 60, "{before} lines before the evidence");
    assert!(body.contains(":10       4:10  WARNING in lab_find"), "{body}");
    assert!(body.contains("Not tested:"), "{body}");
    assert!(!mail.contains("Tested-by"), "{mail}");
}

/// A run that found nothing has a short mail that claims nothing.
#[test]
fn mail_of_nothing_is_short() {
    let clean = report(json!({
        "verdicts": [verdict("good", "ok", "no worse")], "splats": [], "claims": [],
    }));
    let mail = rendered("mail", &clean);
    assert!(mail.contains("Nothing was found."), "{mail}");
    assert!(mail.lines().count() < 40 && !mail.contains("Reported-by"), "{mail}");
}

/// No text of a thread or of a kernel adds a header, and none closes an XML element,
/// a table's row or a workflow command.
#[test]
fn nothing_breaks_out() {
    let mut report = report(json!({}));
    let thread = report.run.thread.as_mut().unwrap();
    thread.subject = "x\nBcc: evil@example.org\r\n\r\nbody".into();
    thread.to = vec!["a@example.org\nBcc: evil@example.org".into(), "ok@example.org".into()];
    thread.message_id = "id@example.org>\nBcc: evil@example.org".into();
    report.splats[0].title = "WARNING </testcase> | `x`\n::error::x\n\u{1b}[2J#1 %0A".into();
    let mail = rendered("mail", &report);
    let (headers, _) = mail.split_once("\n\n").unwrap();
    let names: Vec<&str> = headers
        .lines()
        .filter(|line| !line.starts_with(' '))
        .map(|line| line.split_once(':').unwrap().0)
        .collect();
    let want = ["To", "Cc", "Subject", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"];
    assert_eq!(names, want);
    assert!(headers.starts_with("To: ok@example.org\n"), "{headers}");
    let commands = rendered("github-annotations", &report);
    assert!(!commands.lines().any(|line| line.starts_with("::error::x")), "{commands}");
    assert!(!rendered("junit", &report).contains("WARNING </testcase>"));
    for format in FORMATS {
        let text = format.render(&report, &How::default()).unwrap();
        assert!(format.name == "text" || !text.contains('\u{1b}'), "{}", format.name);
    }
}

/// A subject that is not ASCII becomes encoded words that a mail reader reads back.
#[test]
fn subjects_are_encoded() {
    let mut report = report(json!({}));
    let subject = "[PATCH] lab: Größe der Zuordnung, ein Betreff länger als eine Zeile ü";
    report.run.thread.as_mut().unwrap().subject = subject.into();
    let mail = rendered("mail", &report);
    let parsed = mailparse::parse_mail(mail.as_bytes()).unwrap();
    let read = parsed.headers.iter().find(|h| h.get_key() == "Subject").unwrap().get_value();
    assert_eq!(read, format!("Re: {subject}"));
}
