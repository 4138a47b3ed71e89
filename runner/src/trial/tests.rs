// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::series::{Net, Wanted};
use crate::spec::{Role, When};

const PATCH: &str = "From mboxrd@z Thu Jan  1 00:00:00 1970\n\
From: Ann Author <ann@example.org>\nTo: Linux MM <linux-mm@example.org>, bob@example.org\n\
Cc: \"Doe, Jane\" <jane@example.org>\nDate: Thu, 1 Jan 2026 00:00:00 +0000\n\
Subject: [PATCH v3] PATHS: \"quoted\" {and: braces}\nMessage-ID: <p3@example.org>\n\nWhy.\n\
Signed-off-by: Ann Author <ann@example.org>\n---\n";

/// A series of one patch that touches these files.
fn series(paths: &[&str]) -> Vec<Series> {
    let mut mbox = PATCH.replace("PATHS", paths[0]);
    for path in paths {
        mbox.push_str(&format!(
            "diff --git a/{path} b/{path}\nindex 1111111..2222222 100644\n--- a/{path}\n\
             +++ b/{path}\n@@ -1 +1 @@\n-a\n+b\n"
        ));
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.mbox");
    std::fs::write(&file, mbox).unwrap();
    let (wanted, net) = (Wanted::default(), Net::default());
    series::read(file.to_str().unwrap(), &wanted, &net, &Cancel::new()).unwrap()
}

fn trial(paths: &[&str]) -> (Trial, Spec) {
    let data = DataDir::embedded();
    let wish = Wish { base: None, budget: Duration::from_secs(1200) };
    let trial = Trial::new(series(paths), &wish, &data, &Cancel::new()).unwrap();
    let spec = Spec::load(&trial.folder(), &data).unwrap();
    (trial, spec)
}

/// A series becomes a bake-off with its base as the reference, itself as a foreign
/// contender, every architecture, twenty minutes, and the thread that it was sent to.
#[test]
fn a_series_is_a_bake_off() {
    let (trial, spec) = trial(&["mm/mmap.c"]);
    assert_eq!(spec.reference().unwrap().name, STOCK);
    let series = spec.candidates.iter().find(|c| c.role == Role::Contender).unwrap();
    assert!(series.foreign && !series.added);
    assert_eq!([&series.name], [&trial.contenders()[0]]);
    let mut archs = spec.architectures.clone();
    archs.sort();
    assert_eq!(archs, Arch::names(&DataDir::embedded()).unwrap());
    assert_eq!(spec.budget, Some(Duration::from_secs(1200)));
    let thread = spec.thread.unwrap();
    assert_eq!(thread.message_id, "p3@example.org");
    assert_eq!(thread.subject, "[PATCH v3] mm/mmap.c: \"quoted\" {and: braces}");
    assert_eq!(thread.to, ["ann@example.org"]);
    assert_eq!(
        thread.cc,
        ["Linux MM <linux-mm@example.org>", "bob@example.org", "jane@example.org"]
    );
    assert!(spec.claims.iter().all(|claim| claim.by_default) && !spec.claims.is_empty());
    assert_eq!(spec.fuzz.unwrap().when, When::Asked);
}

/// What nothing drives is said to be untested, and gets no tests that have nothing to do
/// with it.
#[test]
fn what_nothing_drives_is_untested() {
    let (trial, spec) = trial(&["drivers/gpu/drm/drm_file.c"]);
    let said = spec.candidates.iter().find_map(|c| c.untested.as_deref()).unwrap();
    assert!(said.contains("drivers/gpu/drm/drm_file.c"), "{said}");
    assert!(trial.describe().contains("untested   drivers/gpu"), "{}", trial.describe());
    assert_eq!((spec.probes.len(), spec.pack.is_empty()), (1, true));
    assert!(spec.fuzz.is_none());
}

/// Each row of the table makes a bake-off that loads, and the plan names its reason.
#[test]
fn every_row_loads() {
    for row in &table().unwrap().rows {
        for pattern in &row.paths {
            let path = pattern.replace('*', "x86");
            let path = if path.ends_with(".c") || path.ends_with(".h") {
                path
            } else {
                format!("{path}x.c")
            };
            let (trial, spec) = trial(&[&path]);
            let text = trial.describe();
            assert!(text.contains(&row.why), "{path}: {text}");
            for name in row.kselftests.keys() {
                assert!(spec.pack.kselftest.iter().any(|n| n == name), "{path}: {name}");
                let label = format!("command/kselftest-{name}");
                assert!(spec.probes.iter().any(|probe| probe.label == label), "{path}: {label}");
            }
            assert!(!text.contains("untested"), "{path}: {text}");
        }
    }
}

/// The base is Debian's where nobody knows better, the plan says why, and the series
/// carries that into the report.
#[test]
fn the_base_and_why() {
    let (trial, _) = trial(&["kernel/fork.c"]);
    assert!(trial.base.ours);
    assert!(trial.describe().contains("no base is stated"), "{}", trial.describe());
    let described = series::described_in(&trial.patches_of(&trial.contenders()[0])).unwrap();
    assert!(described.base.describe().contains("base of the run: no base is stated"));
}

/// A series is tried once.
#[test]
fn the_same_series_twice() {
    let all = [series(&["mm/mmap.c"]), series(&["mm/mmap.c"])].concat();
    let wish = Wish { base: None, budget: Duration::from_secs(60) };
    let error = Trial::new(all, &wish, &DataDir::embedded(), &Cancel::new()).unwrap_err();
    assert!(error.message().contains("two sources are v3 of"), "{error}");
}
