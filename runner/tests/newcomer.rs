// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way of a newcomer: `new`, `check`, `schema --spec`.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bakeoff::exit_code;

fn bakeoff(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bakeoff"))
        .args(args)
        .args(["--cache-dir", "cache"])
        .current_dir(dir)
        .output()
        .unwrap()
}

fn code(output: &Output) -> u8 {
    u8::try_from(output.status.code().unwrap()).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn write(dir: &Path, file: &str, text: &str) {
    let path = dir.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A new bake-off passes its check; what cannot be looked up without a download is said
/// to be unchecked. A second one of the same name is refused, and the first one stays.
#[test]
fn a_new_bakeoff_passes_its_check() {
    let dir = tempfile::tempdir().unwrap();
    let made = bakeoff(dir.path(), &["new", "mine"]);
    assert_eq!(code(&made), exit_code::OK, "{}", text(&made.stderr));
    assert!(text(&made.stdout).contains("bakeoff check patches/mine"));
    let checked = bakeoff(dir.path(), &["check", "patches/mine"]);
    assert_eq!(code(&checked), exit_code::OK, "{}", text(&checked.stderr));
    let says = text(&checked.stdout);
    for part in ["ok         spec", "mine: 2 candidates", "unchecked  6.12", "expected "] {
        assert!(says.contains(part), "{part} is missing:\n{says}");
    }
    // Its name is enough, unless something here has that name.
    let by_name = bakeoff(dir.path(), &["check", "mine"]);
    assert_eq!((code(&by_name), text(&by_name.stdout)), (exit_code::OK, says));
    fs::write(dir.path().join("mine"), "").unwrap();
    assert_eq!(code(&bakeoff(dir.path(), &["check", "mine"])), exit_code::BAD_INPUT);
    let again = bakeoff(dir.path(), &["new", "mine"]);
    assert_eq!(code(&again), exit_code::BAD_INPUT);
    assert!(text(&again.stderr).contains("exists already"));
}

/// The schema that `new` writes is the one that `schema --spec` prints.
#[test]
fn the_schema_is_written_next_to_the_spec() {
    let dir = tempfile::tempdir().unwrap();
    bakeoff(dir.path(), &["new", "mine", "--dir", "."]);
    let written = fs::read_to_string(dir.path().join("mine/bakeoff.schema.json")).unwrap();
    let printed = text(&bakeoff(dir.path(), &["schema", "--spec"]).stdout);
    assert_eq!(written, printed);
    let schema: serde_json::Value = serde_json::from_str(&printed).unwrap();
    for key in ["bases", "candidates", "probes", "claims", "pack", "machine"] {
        assert!(schema["properties"].get(key).is_some(), "{key}");
    }
}

/// All options that the project's fragments set, as a kernel would declare them.
fn kconfig() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kconfigs");
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        for line in fs::read_to_string(path).unwrap().lines() {
            if let Some((option, _)) = line.split_once('=') {
                text.push_str(&format!("config {}\n", option.trim_start_matches("CONFIG_")));
            }
        }
    }
    text
}

/// A patch that does not apply and an option that does not exist are found before anything
/// is built, each with its place; what is fine is said to be.
#[test]
fn a_check_finds_what_would_fail_after_minutes() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "linux/Makefile", "");
    write(dir, "linux/Kconfig", &kconfig());
    write(dir, "linux/mm/a.c", "one\ntwo\nthree\n");
    let patch = |old: &str| {
        format!("--- a/mm/a.c\n+++ b/mm/a.c\n@@ -1,3 +1,3 @@\n one\n-{old}\n+2\n three\n")
    };
    write(dir, "base/good/0001-x.patch", &patch("two"));
    write(dir, "base/bad/0001-x.patch", &patch("twenty"));
    write(dir, "own.config", "CONFIG_NO_SUCH_THING=y\n");
    let spec = "\
version: 1
name: fake
title: a tree of three lines
bases: {base: {directory: linux}}
candidates:
  stock: {role: reference, stock: true, title: as it is}
  good: {title: applies}
  bad: {title: does not apply}
architectures: [x86_64]
profiles: [lockdep]
probes: [{probe: build_id, context: process}]
";
    write(dir, "bakeoff.yaml", &format!("{spec}machine: {{kconfig: {{lockdep: own.config}}}}\n"));
    let checked = bakeoff(dir, &["check", "."]);
    let says = text(&checked.stdout);
    assert_eq!(code(&checked), exit_code::BAD_INPUT, "{says}");
    for part in [
        "ok         base/good                the patch applies\n",
        "WRONG      base/bad                 0001-x.patch does not apply",
        "WRONG      base/x86_64/lockdep      no option of this kernel: \
         CONFIG_NO_SUCH_THING (own.config:1)\n",
    ] {
        assert!(says.contains(part), "{part:?} is missing:\n{says}");
    }
    assert!(text(&checked.stderr).contains("2 of what was checked"), "{}", text(&checked.stderr));
    assert_eq!(fs::read_to_string(dir.join("linux/mm/a.c")).unwrap(), "one\ntwo\nthree\n");

    fs::remove_dir_all(dir.join("base/bad")).unwrap();
    write(dir, "bakeoff.yaml", &spec.replace("  bad: {title: does not apply}\n", ""));
    let checked = bakeoff(dir, &["check", "."]);
    assert_eq!(code(&checked), exit_code::OK, "{}", text(&checked.stdout));
}

/// A spec that is wrong is told with file, line and column.
#[test]
fn a_check_points_at_the_key() {
    let dir = tempfile::tempdir().unwrap();
    bakeoff(dir.path(), &["new", "mine", "--dir", "."]);
    let file = dir.path().join("mine/bakeoff.yaml");
    let spec = fs::read_to_string(&file).unwrap().replace("    quick: true", "    quikc: true");
    fs::write(&file, &spec).unwrap();
    let line = spec.lines().position(|line| line == "    quikc: true").unwrap() + 1;
    let checked = bakeoff(dir.path(), &["check", "mine"]);
    assert_eq!(code(&checked), exit_code::BAD_INPUT);
    let says = text(&checked.stderr);
    assert!(says.contains(&format!("mine/bakeoff.yaml:{line}:5: ")), "{says}");
    assert!(says.contains("did you mean `quick`?"), "{says}");
}
