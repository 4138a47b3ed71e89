// SPDX-License-Identifier: MIT OR Apache-2.0
use serde_json::json;

use super::*;
use crate::judge::compare::testing::{HARDIRQ, PROCESS, Story, clean, prediction};
use crate::judge::compare::{Settings, compare};
use crate::judge::report::tests::{report_of, run_of};
use crate::keep::store::write_json;
use crate::see::observation::Observation;

/// A run directory as a run would have left it.
fn written(all: &[Observation]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for seen in all {
        let id = seen.id();
        let cell = format!("{}/{}/{}/{}", id.base, id.candidate, id.arch, id.profile);
        for boot in &seen.boots {
            let boot_dir = dir.path().join("cells").join(&cell).join("boots").join(&boot.name);
            fs::create_dir_all(&boot_dir).unwrap();
            let mut lines = String::from("{\"record\":\"hello\"}\nnoise\n");
            for block in &boot.blocks {
                let record = bakeoff_fuzz::wire::Record::Block(block.clone());
                lines.push_str(&serde_json::to_string(&record).unwrap());
                lines.push('\n');
            }
            lines.push_str("{\"record\":\"bl");
            fs::write(boot_dir.join("records.jsonl"), lines).unwrap();
            write_json(&boot_dir.join("end.json"), &json!({"asked": boot.asked})).unwrap();
        }
    }
    write_json(&dir.path().join("run.json"), &run_of(all)).unwrap();
    write_json(&dir.path().join("report.json"), &report_of(all)).unwrap();
    dir
}

fn eventful() -> Vec<Observation> {
    let mut all = prediction("x86_64");
    let counts = &mut all[2].boots[0].blocks[3].counts;
    counts.ineligible.insert("EFAULT".into(), 3);
    counts.wrong_context.insert("process".into(), 7);
    counts.top.correct -= 40;
    counts.slot_busy = Some(40);
    counts.missed = 5;
    counts.writer = Some(bakeoff_fuzz::wire::WriterTime {
        held_ns: 700,
        waited_ns: 50,
        window_ns: 1000,
        cycles: 3,
    });
    counts.buckets = Some(bakeoff_fuzz::wire::Buckets { ids: 5, exists: 2, ..Default::default() });
    all[4] = clean("lockless-tree", "x86_64").answers(HARDIRQ, 197).lockdep_off_after(25);
    all
}

/// The recount of an honest report agrees, clusters, lost blocks and noise included.
#[test]
fn an_honest_report_is_confirmed() {
    let all = eventful();
    let dir = written(&all);
    let checked = verify(dir.path()).unwrap();
    assert!(checked.agrees(), "{checked}");
    assert_eq!((checked.boots, checked.rows), (6, 20));
    assert!(checked.numbers > 250, "{checked}");
    // The report the comparison makes is not empty of differences.
    let found = compare(&crate::judge::compare::testing::subject(), &all, &Settings::default());
    assert!(found.rates.iter().any(|row| row.difference.is_some()));
}

/// One call more in one record, and the file it lies in is named.
#[test]
fn a_tampered_record_is_found() {
    let dir = written(&eventful());
    let path = dir.path().join("cells/6.12/peter-removal/x86_64/lockdep/boots/0-000/records.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let (from, to) = (r#""valid":0,"correct":0"#, r#""valid":9,"correct":9"#);
    fs::write(&path, text.replacen(from, to, 1)).unwrap();
    let checked = verify(dir.path()).unwrap();
    assert!(!checked.agrees());
    let all = checked.to_string();
    assert!(all.contains("peter-removal/x86_64/lockdep, step 0, build_id.top_frame: correct is 0"));
    assert!(all.contains("DISAGREES"), "{all}");
    // Not a word about the others.
    assert!(!all.contains("no-check-helper"), "{all}");
}

/// Every number and verdict of a row that is changed in the report is found.
#[test]
fn a_tampered_report_is_found() {
    let dir = written(&eventful());
    let path = dir.path().join("report.json");
    let honest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let row = honest["rates"]
        .as_array()
        .unwrap()
        .iter()
        .position(|row| row["candidate"] == "no-check-helper" && row["step"] == PROCESS)
        .unwrap();
    for (field, value) in [
        ("calls", json!(20_001)),
        ("correct", json!(20_000)),
        ("valid", json!(1)),
        ("low", json!(0.9999)),
        ("high", json!(0.5)),
        ("ineligible", json!(0)),
        ("missed", json!(0)),
        ("slot_busy", Value::Null),
        ("lock_failed", json!(0)),
        ("wrong_context", json!({})),
        ("writer_duty", json!(0.7)),
        (
            "buckets",
            json!({"ids": 6, "fallback_ids": 0, "exists": 2, "fast_calls": 0,
                           "fast_stale": 0}),
        ),
        ("blocks", json!(21)),
        ("boots", json!(2)),
        ("verdict", json!("better")),
        ("difference", json!({"low": -0.001, "high": 0.001, "confidence": 0.99})),
    ] {
        let mut tampered = honest.clone();
        assert_ne!(tampered["rates"][row][field], value, "{field}");
        tampered["rates"][row][field] = value;
        write_json(&path, &tampered).unwrap();
        let checked = verify(dir.path()).unwrap();
        assert!(!checked.agrees(), "{field} may be changed unseen");
    }
    // A row that is left out is missed.
    let mut shorter = honest;
    shorter["rates"].as_array_mut().unwrap().retain(|row| row["step"] != PROCESS);
    write_json(&path, &shorter).unwrap();
    assert!(verify(dir.path()).unwrap().to_string().contains("no row in report.json"));
}

/// What is missing or broken is bad input, named.
#[test]
fn broken_runs_are_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(verify(dir.path()).unwrap_err().message().contains("run.json"));
    fs::write(dir.path().join("run.json"), "{}").unwrap();
    assert!(verify(dir.path()).unwrap_err().message().contains("report.json"));
    fs::write(dir.path().join("report.json"), "{\"rates\": 7").unwrap();
    assert!(verify(dir.path()).unwrap_err().message().contains("broken"));
}
