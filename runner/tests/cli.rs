// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line as a user meets it: answers on standard output, complaints
//! on standard error, exit codes as documented.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bakeoff::exit_code;

fn bakeoff(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bakeoff")).args(args).current_dir(checkout()).output().unwrap()
}

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn code(output: &Output) -> u8 {
    u8::try_from(output.status.code().unwrap()).unwrap()
}

/// Every command has help that fits a terminal and says what it is for.
#[test]
fn every_command_has_help() {
    let top = stdout(&bakeoff(&["--help"]));
    assert!(top.contains("Exit codes:") && top.contains("Examples:"), "{top}");
    for command in [
        "setup",
        "doctor",
        "new",
        "check",
        "splats",
        "explain",
        "run",
        "resume",
        "report",
        "verify",
        "calibrate",
        "list",
        "cache",
        "shard",
        "merge",
        "schema",
        "bench",
        "completions",
    ] {
        assert!(top.contains(&format!("\n  {command} ")), "{command} is not in --help");
        let help = bakeoff(&[command, "--help"]);
        assert_eq!(code(&help), exit_code::OK);
        assert!(stdout(&help).contains("Usage: bakeoff"), "{command}");
    }
}

/// A budget that is no time, a run that is none and a spec without quick probes are bad
/// input, each with a way on.
#[test]
fn what_cannot_be_measured_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().to_str().unwrap();
    let spec = "runner/tests/fixtures/spec/valid/smallest.yaml";
    for (args, answer) in [
        (&["run", spec, "--budget", "20", "--dry-run"][..], "time unit"),
        (&["run", spec, "--quick", "--dry-run"], "quick: true"),
        (&["verify", empty], "run.json"),
    ] {
        let output = bakeoff(args);
        assert_eq!(code(&output), exit_code::BAD_INPUT, "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(answer), "{args:?}: {}", stderr(&output));
    }
}

/// A wrong word is answered with the right one, and with the code for bad input.
#[test]
fn wrong_words_are_answered_with_the_right_ones() {
    for (args, answer) in [
        (&["resum", "patches/find-vma"][..], "'resume'"),
        (&["rnu", "patches/find-vma"], "'run'"),
        (&["run", "patches/find-vmas"], "did you mean patches/find-vma?"),
        (&["run", "find-vmas"], "did you mean patches/find-vma?"),
        (&["run", "nothing/like/it"], "bakeoff.yaml"),
        (&["run", "patches/find-vma", "--arch", "x86-64", "--dry-run"], "did you mean `x86_64`?"),
        (&["run", "patches/find-vma", "--candidate", "peter", "--dry-run"], "peter-removal"),
        (&["run", "patches/find-vma", "--probe", "build-id", "--dry-run"], "build_id"),
        (&["report", "nowhere"], "`bakeoff list`"),
        (&["resume", "nowhere"], "no run.json"),
        (&["list", "--data-dir", "/", "specs"], "--data-dir takes a checkout"),
        (&["run", "patches/find-vma", "--add", "nowhere", "--dry-run"], "no folder nowhere"),
        (
            &["replay", "patches/find-vma", "--candidate", "landed", "--arch", "x86_64", "nowhere"],
            "OUT/corpus",
        ),
    ] {
        let output = bakeoff(args);
        assert_eq!(code(&output), exit_code::BAD_INPUT, "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(answer), "{args:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

/// `list` finds the first case, its candidates with roles, and the probes' contexts.
#[test]
fn list_shows_what_there_is() {
    assert!(stdout(&bakeoff(&["list", "specs"])).contains("patches/find-vma"));
    let candidates = stdout(&bakeoff(&["list", "candidates"]));
    for part in ["landed             reference", "as-reported        control", "the stock tree"] {
        assert!(candidates.contains(part), "{candidates}");
    }
    assert!(stdout(&bakeoff(&["list", "probes"])).contains("process, softirq, hardirq"));
}

/// The dry run prints the order of the cells and commands without a path of this
/// machine, and writes nothing.
#[test]
fn dry_run_prints_commands_and_touches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let args =
        ["run", "patches/find-vma", "--dry-run", "--accel", "tcg", "--out", out.to_str().unwrap()];
    let output = bakeoff(&args);
    assert_eq!(code(&output), exit_code::OK, "{}", stderr(&output));
    let text = stdout(&output);
    for part in [
        "qemu-system-x86_64 -accel tcg",
        "qemu-system-aarch64 -accel tcg",
        "make O=build ARCH=arm64",
        "6.12/peter-removal/arm64/lockdep",
        "expected: about",
    ] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    assert!(!text.contains(checkout().to_str().unwrap()), "{text}");
    assert!(!out.exists());
}

/// The schema is JSON, and describes the members other programs read.
#[test]
fn schema_describes_the_report() {
    let schema: serde_json::Value = serde_json::from_slice(&bakeoff(&["schema"]).stdout).unwrap();
    for member in [
        "schema_version",
        "verdicts",
        "claims",
        "measures",
        "splats",
        "wrong",
        "cells",
        "environment",
    ] {
        assert!(schema["properties"].get(member).is_some(), "{member}");
    }
}

/// `splats` reads any log: JSON with the members other programs read, an empty list and
/// no error where there is nothing, and standard input as well.
#[test]
fn splats_are_read_from_any_log() {
    let fixture = "runner/tests/fixtures/splats/circular-x86.txt";
    let json = |args: &[&str]| -> serde_json::Value {
        let output = bakeoff(args);
        assert_eq!(code(&output), exit_code::OK, "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let splats = json(&["splats", "--format", "json", fixture]);
    let first = &splats.as_array().unwrap()[0];
    for member in ["title", "alt_titles", "kind", "function", "corrupted", "frames", "start", "end"]
    {
        assert!(first.get(member).is_some(), "{member}");
    }
    assert!(first["title"].as_str().unwrap().starts_with("possible deadlock in"), "{first}");
    assert_eq!(json(&["splats", "--format", "json", "README.md"]), serde_json::json!([]));
    assert!(stdout(&bakeoff(&["splats", fixture])).contains("possible deadlock in"));
    let missing = bakeoff(&["splats", "nowhere.log"]);
    assert_eq!(code(&missing), exit_code::BAD_INPUT, "{}", stderr(&missing));
}

/// A log that cannot be read is said, and keeps nobody from reading the others; a folder is all of
/// its logs.
#[test]
fn a_log_that_cannot_be_read_is_said() {
    let fixture = "runner/tests/fixtures/splats/circular-x86.txt";
    let one = bakeoff(&["splats", "nowhere.log", fixture]);
    assert_eq!(code(&one), exit_code::BAD_INPUT);
    assert!(stdout(&one).contains("possible deadlock in"));
    assert!(stderr(&one).contains("nowhere.log"), "{}", stderr(&one));
    let none = bakeoff(&["splats", "nowhere.log"]);
    assert!(!stdout(&none).contains("no splat"));
    let folder = bakeoff(&["splats", "runner/tests/fixtures/splats"]);
    assert_eq!(code(&folder), exit_code::OK, "{}", stderr(&folder));
    assert!(stdout(&folder).contains("general protection fault in"));
}

/// Symbols that cannot be the kernel's are refused.
#[test]
fn a_vmlinux_must_be_a_kernel() {
    let program = env!("CARGO_BIN_EXE_bakeoff");
    let fixture = "runner/tests/fixtures/splats/circular-x86.txt";
    let other = bakeoff(&["splats", "--vmlinux", program, fixture]);
    assert_eq!(code(&other), exit_code::BAD_INPUT);
    assert!(stderr(&other).contains("no kernel"), "{}", stderr(&other));
}

/// Completions exist for the usual shells and know the commands.
#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&bakeoff(&["completions", shell])).contains("resume"), "{shell}");
    }
}

/// A reader that goes away early (`| head`) is no error.
#[test]
fn closed_pipes_are_no_error() {
    let line = format!(
        "{} completions zsh | head -1 >/dev/null; echo ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_bakeoff")
    );
    let output = Command::new("bash").args(["-c", &line]).output().unwrap();
    assert_eq!(stdout(&output).trim(), "0", "{}", stderr(&output));
}

/// `doctor` says for each prerequisite whether it is there and why it is needed, and
/// whether KVM works here, whatever /dev/kvm looks like.
#[test]
fn doctor_tells_what_is_there() {
    let output = bakeoff(&["doctor", "--tests"]);
    let text = stdout(&output);
    for part in ["flex", "qemu-system-aarch64", "Rust std", "accel", "sandbox", "disk"] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    assert_eq!(code(&output), exit_code::OK, "{text}{}", stderr(&output));
}

/// Without a terminal and without --yes nothing is installed: the exact command is
/// printed, with a code of its own.
#[test]
fn nothing_is_installed_unasked() {
    let output = Command::new(env!("CARGO_BIN_EXE_bakeoff"))
        .args(["setup"])
        .current_dir(checkout())
        .env("PATH", "/nonexistent")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert_eq!(code(&output), exit_code::MISSING_PREREQUISITE, "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("apt-get install -y"), "{said}");
    assert!(said.contains("bison") && said.contains("kconfig's"), "{said}");
}
