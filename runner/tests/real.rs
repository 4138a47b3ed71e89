// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real bake-offs: kernels from source, QEMU, `bpf(2)`, on both architectures.
//!
//! They share bakeoff's cache with everybody else on the machine (its entries
//! are verified when used), and run one after the other: a guest beside a
//! compile job measures the compile job.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bakeoff::exit_code;
use serde_json::Value;

mod inbox;
use inbox::Inbox;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bakeoff"));
    command.args(args).current_dir(checkout()).stdin(Stdio::null());
    command
}

fn bakeoff(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

fn code(output: &Output) -> u8 {
    u8::try_from(output.status.code().unwrap()).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn report(run: &Path) -> Value {
    serde_json::from_slice(&fs::read(run.join("report.json")).unwrap()).unwrap()
}

/// Rows of a list of the report that have these members.
fn rows<'a>(report: &'a Value, list: &str, with: &[(&str, &str)]) -> Vec<&'a Value> {
    let fits = |row: &&Value| with.iter().all(|(key, value)| row[*key] == *value);
    report[list].as_array().unwrap().iter().filter(fits).collect()
}

fn verdict<'a>(report: &'a Value, candidate: &str, arch: &str) -> &'a str {
    let rows = rows(report, "verdicts", &[("candidate", candidate), ("arch", arch)]);
    assert_eq!(rows.len(), 1, "{candidate} on {arch}");
    rows[0]["verdict"].as_str().unwrap()
}

fn end<'a>(report: &'a Value, candidate: &str, arch: &str) -> &'a str {
    let rows = rows(report, "cells", &[("candidate", candidate), ("arch", arch)]);
    assert_eq!(rows.len(), 1, "{candidate} on {arch}");
    rows[0]["end"].as_str().unwrap()
}

/// Every file that a row of the report rests on is in the run.
fn assert_evidence_is_there(run: &Path, report: &Value) {
    let mut seen = 0;
    for list in ["cells", "splats", "claims", "measures", "wrong", "verdicts"] {
        for row in report[list].as_array().unwrap() {
            for path in row["evidence"].as_array().unwrap() {
                let path = path.as_str().unwrap();
                // `file:offset` points into a console.
                let file = path.split(':').next().unwrap();
                assert!(run.join(file).is_file(), "{list}: {path} is not in the run");
                seen += 1;
            }
        }
    }
    assert!(seen > 0);
}

/// A thread of an archive becomes a reply in one command: the patch of 2021 that splats
/// is fetched from public-inbox, tried on its own, and answered with the splat, how often
/// it came, and where the reply belongs. The run repeats and verifies like any other.
#[test]
fn a_thread_becomes_a_reply() {
    let _alone = alone();
    let folder = checkout().join("patches/find-vma/6.12/as-reported");
    let patch = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let patch = fs::read_to_string(patch).unwrap();
    let body = patch.split_once("\n\n").unwrap().1;
    let mail = format!(
        "From mboxrd@z Thu Jan  1 00:00:00 1970\nFrom: Ann Author <ann@example.org>\n\
         To: l@example.org\nDate: Thu, 9 Sep 2021 00:00:00 +0000\n\
         Subject: [PATCH bpf v2] bpf: release mmap_lock for lockdep right after the trylock\n\
         Message-ID: <splat@x.example>\n\n{body}"
    );
    // Installed by `bakeoff setup --tests`, as the other tests' tools are.
    let inbox = Inbox::new(&mail).expect("public-inbox is not installed");
    let out = inbox.home.path().join("results");
    let output = bakeoff(&[
        "ci",
        "splat@x.example",
        "--server",
        &inbox.address,
        "--arch",
        "x86_64",
        "--profile",
        "lockdep",
        "--quick",
        "--budget",
        "5m",
        "--out",
        out.to_str().unwrap(),
    ]);
    assert_eq!(code(&output), exit_code::GATE_FAILED, "{}", said(&output));
    let run = out.join("run");
    let report = report(&run);
    let splats = rows(&report, "splats", &[("reading", "introduced")]);
    assert!(splats.iter().any(|row| row["title"] == "WARNING in find_vma"), "{splats:?}");
    let mail = fs::read_to_string(out.join("reply.eml")).unwrap();
    for part in [
        "To: ann@example.org\n",
        "In-Reply-To: <splat@x.example>\n",
        "Subject: Re: [PATCH bpf v2] bpf: release mmap_lock",
        "Something got worse.",
        "WARNING in find_vma",
        "WARNING: CPU:",
        "bakeoff try splat@x.example",
        "Closes:",
    ] {
        assert!(mail.contains(part), "{part}: {mail}");
    }
    assert!(mail.lines().all(|line| line.chars().count() <= 75), "{mail}");
    let output = bakeoff(&["verify", run.to_str().unwrap()]);
    assert_eq!(code(&output), exit_code::OK, "{}", said(&output));
}

/// The first case's core on both architectures: the control splats in find_vma and the
/// others do not; without the lookup no call gets a build id, with it nearly all do.
#[test]
fn the_first_case_shows_on_both_architectures() {
    let _alone = alone();
    let run = Path::new(env!("CARGO_TARGET_TMPDIR")).join("find-vma");
    let _ = fs::remove_dir_all(&run);
    let output = bakeoff(&[
        "run",
        "patches/find-vma",
        "--candidate",
        "peter-removal",
        "--profile",
        "lockdep",
        "--quick",
        "--out",
        run.to_str().unwrap(),
    ]);
    // Without kernels of the profile `production` no claim is asked.
    assert_eq!(code(&output), exit_code::INCONCLUSIVE, "{}", said(&output));
    let report = report(&run);
    for arch in ["x86_64", "arm64"] {
        for candidate in ["landed", "as-reported", "peter-removal"] {
            assert_eq!(end(&report, candidate, arch), "ran", "{candidate} on {arch}");
        }
        let splats = rows(&report, "splats", &[("candidate", "as-reported"), ("arch", arch)]);
        let in_find_vma = |row: &&&Value| {
            row["reading"] == "control" && row["title"].as_str().unwrap().contains("find_vma")
        };
        assert!(splats.iter().any(|row| in_find_vma(&row)), "{arch}: {splats:?}");
        let of =
            |candidate: &str| rows(&report, "splats", &[("candidate", candidate), ("arch", arch)]);
        assert!(of("landed").is_empty(), "{arch}: {:?}", of("landed"));
        let peter = of("peter-removal");
        assert!(peter.iter().any(|row| row["reading"] == "fixed"), "{arch}: {peter:?}");
        let bad = |row: &&Value| row["reading"] == "introduced" || row["reading"] == "control";
        assert!(!peter.iter().any(bad), "{arch}: {peter:?}");
        for label in ["process/idle", "hardirq/idle/4000us", "nmi/idle/4000us"] {
            let label = format!("build_id/{label}");
            let rate = |candidate: &str| {
                let with = [
                    ("candidate", candidate),
                    ("arch", arch),
                    ("label", &label),
                    ("metric", "build_id.all_frames"),
                ];
                let rows = rows(&report, "measures", &with);
                assert_eq!(rows.len(), 1, "{candidate} {arch} {label}");
                let number = |name: &str| rows[0][name].as_f64().unwrap();
                (number("calls"), number("right"), number("low"), number("high"))
            };
            let (calls, right, low, high) = rate("landed");
            assert!(calls >= 100.0 && right / calls > 0.9, "{arch} {label}: {right}/{calls}");
            assert!(low <= right / calls && right / calls <= high);
            let (calls, right, _, high) = rate("peter-removal");
            assert!(calls >= 100.0 && right == 0.0 && high < 0.6, "{arch} {label}: {high}");
        }
        // Claims are about kernels without debug options: none is asked, nobody is ok.
        assert!(rows(&report, "claims", &[("arch", arch)]).is_empty());
        assert_eq!(verdict(&report, "peter-removal", arch), "open", "{arch}");
        assert_eq!(verdict(&report, "as-reported", arch), "not-ok", "{arch}");
    }
    assert_evidence_is_there(&run, &report);

    // `report` recounts all of it from records and consoles, to the letter.
    let json = bakeoff(&["report", run.to_str().unwrap(), "--format", "json"]);
    assert_eq!(json.stdout, fs::read(run.join("report.json")).unwrap());
    let text = fs::read_to_string(run.join("report.txt")).unwrap();
    assert_eq!(output.stdout, text.as_bytes());
    for line in text.lines() {
        assert!(line.chars().count() <= 75, "{line}");
    }
    // And so does a count by other means.
    let verified = bakeoff(&["verify", run.to_str().unwrap()]);
    assert_eq!(code(&verified), exit_code::OK, "{}", said(&verified));
    // Nothing of this machine's paths gets into what is shown to others.
    for file in ["report.txt", "report.md", "report.json"] {
        let text = fs::read_to_string(run.join(file)).unwrap();
        assert!(!text.contains(checkout().to_str().unwrap()), "{file}");
    }
}

/// Writes a series of one patch that replaces a line of `kernel/bpf/stackmap.c`.
fn series(dir: &Path, name: &str, old: &str, new: &str) -> String {
    let folder = dir.join(name);
    fs::create_dir_all(&folder).unwrap();
    let stackmap = include_str!("fixtures/series/template.patch");
    let count = (6 + new.lines().count()).to_string();
    let patch = stackmap
        .replace("@COUNT@", &count)
        .replace("@OLD@", old)
        .replace("@NEW@", new)
        .replace("@NAME@", name);
    fs::write(folder.join("0001-x.patch"), patch).unwrap();
    folder.to_str().unwrap().to_owned()
}

/// The line of the template that a series replaces.
const LINE: &str = "\tif (!user || !current || !current->mm)";

/// A series that does not apply, one that does not build and one that panics are results,
/// each with its evidence, and the rest goes on; gates tell CI about them.
#[test]
fn failing_candidates_are_results() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let stale = series(dir.path(), "stale", "\tno such line", LINE);
    let broken = series(dir.path(), "broken", LINE, "\tif (this does not compile)");
    let panics = series(
        dir.path(),
        "panics",
        LINE,
        "\tif (user)\n+\t\tpanic(\"planted\");\n+\tif (!user || !current || !current->mm)",
    );
    let output = bakeoff(&[
        "run",
        "patches/find-vma",
        "--arch",
        "x86_64",
        "--profile",
        "lockdep",
        "--quick",
        "--probe",
        "build_id/process/idle",
        "--add",
        &stale,
        "--add",
        &broken,
        "--add",
        &panics,
        "--candidate",
        "stale",
        "--candidate",
        "broken",
        "--candidate",
        "panics",
        "--gate",
        "--out",
        run.to_str().unwrap(),
    ]);
    let report = report(&run);
    assert_eq!(end(&report, "stale", "x86_64"), "did-not-apply");
    assert_eq!(end(&report, "broken", "x86_64"), "did-not-build");
    assert_eq!(end(&report, "panics", "x86_64"), "panicked");
    assert_eq!(end(&report, "landed", "x86_64"), "ran");
    let text = report["cells"].to_string();
    assert!(text.contains("stackmap.c") && text.contains("planted"), "{text}");
    assert_eq!(verdict(&report, "panics", "x86_64"), "not-ok");
    assert_ne!(code(&output), exit_code::OK, "a gate must not be met: {}", said(&output));
    assert_evidence_is_there(&run, &report);
}

/// A CPU that never comes back from the probed path holds nobody up: the guest is over
/// within two minutes of its last record, the step is tried twice, the other step is
/// done all the same, and the report says so. Both are the candidate's doing.
fn an_endless_loop_holds_no_run(arch: &str) {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    // Not in interrupts, so that one of the two steps can be done.
    let loops = series(
        dir.path(),
        "loops",
        LINE,
        "\tif (user && !in_interrupt())\n+\t\tfor (;;)\n+\t\t\tcpu_relax();\n\
         +\tif (!user || !current || !current->mm)",
    );
    let mut command = command(&["run", "patches/find-vma", "--arch", arch]);
    command.args(["--profile", "lockdep", "--quick", "--candidate", "loops", "--add", &loops]);
    command.args(["--probe", "build_id/process/idle", "--probe", "build_id/hardirq/idle"]);
    let output = command.arg("--out").arg(&run).output().unwrap();
    let finished = SystemTime::now();
    assert_eq!(code(&output), exit_code::OK, "{}", said(&output));
    let boots = run.join(format!("cells/6.12/loops/{arch}/lockdep/boots"));
    let (mut hung, mut last) = (0, SystemTime::UNIX_EPOCH);
    for boot in fs::read_dir(&boots).unwrap().map(|entry| entry.unwrap().path()) {
        let record = modified(&boot.join("records.jsonl"));
        last = last.max(record);
        let end: Value = serde_json::from_slice(&fs::read(boot.join("end.json")).unwrap()).unwrap();
        if end["end"]["end"] != "hung" {
            continue;
        }
        hung += 1;
        let took = modified(&boot.join("end.json")).duration_since(record).unwrap();
        assert!(took < Duration::from_secs(120), "{arch}: {took:?} in {}", boot.display());
        let offset = usize::try_from(end["end"]["report"]["console_offset"].as_u64().unwrap());
        let console = fs::read(boot.join("console.log")).unwrap();
        assert!(offset.unwrap() < console.len());
        let title = end["end"]["report"]["title"].as_str().unwrap();
        assert!(title.contains("stall") || title.contains("lockup"), "{title}");
    }
    assert_eq!(hung, 2, "{arch}: {}", said(&output));
    // The candidate that was added is measured last.
    let took = finished.duration_since(last).unwrap();
    assert!(
        took < Duration::from_secs(120),
        "{arch}: the run ended {took:?} after its last record"
    );

    let report = report(&run);
    assert_eq!(end(&report, "loops", arch), "hung");
    assert_eq!(end(&report, "landed", arch), "ran");
    assert_eq!(verdict(&report, "loops", arch), "not-ok");
    assert!(report["cells"].to_string().contains("hangs here (2 of 2)"), "{}", report["cells"]);
    let with = [
        ("candidate", "loops"),
        ("arch", arch),
        ("label", "build_id/hardirq/idle/4000us"),
        ("metric", "build_id.top_frame"),
    ];
    let done = rows(&report, "measures", &with);
    assert!(!done.is_empty());
    assert!(done.iter().all(|row| row["calls"].as_u64().unwrap() > 0), "{arch}: {done:?}");
    assert_evidence_is_there(&run, &report);
    assert_nothing_left(&[&run]);
}

/// See [`an_endless_loop_holds_no_run`].
#[test]
fn an_endless_loop_holds_no_run_on_x86_64() {
    an_endless_loop_holds_no_run("x86_64");
}

/// See [`an_endless_loop_holds_no_run`].
#[test]
fn an_endless_loop_holds_no_run_on_arm64() {
    an_endless_loop_holds_no_run("arm64");
}

/// Programs that misbehave: each is one clear result, and whatever ran after one of them,
/// in the same guests and in random order, is as it would have been without.
#[test]
fn bad_workloads_harm_nobody() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    fs::copy(fixture("bad-workloads/bad.sh"), dir.path().join("bad.sh")).unwrap();
    let debian = fs::read_to_string(checkout().join("patches/find-vma/bakeoff.yaml")).unwrap();
    let from = debian.find("    debian:").unwrap();
    let base = &debian[from..debian[from..].find("\n\n").unwrap() + from];
    let spec = fs::read_to_string(fixture("bad-workloads/bakeoff.yaml")).unwrap();
    let spec = spec.replace("    directory: BASE", base);
    fs::write(dir.path().join("bakeoff.yaml"), spec).unwrap();
    let output = bakeoff(&["run", dir.path().to_str().unwrap(), "--out", run.to_str().unwrap()]);
    assert_eq!(code(&output), exit_code::OK, "{}", said(&output));
    let report = report(&run);
    let share = |name: &str, metric: &str| {
        let label = format!("command/{name}");
        let with = [("candidate", "stock"), ("label", label.as_str()), ("metric", metric)];
        let rows = rows(&report, "measures", &with);
        assert_eq!(rows.len(), 1, "{name} {metric}");
        (rows[0]["right"].as_u64().unwrap(), rows[0]["calls"].as_u64().unwrap())
    };
    assert_eq!(end(&report, "stock", "x86_64"), "ran");
    assert_eq!(share("good", "command.pass"), (12, 12), "{}", said(&output));
    assert_eq!(share("good", "command.complete"), (12, 12));
    for name in ["forks", "never-ends", "signal"] {
        assert_eq!(share(name, "command.pass"), (0, 1), "{name}");
    }
    for name in ["flood", "fills-all"] {
        assert_eq!(share(name, "command.pass"), (1, 1), "{name}");
    }
    // Nonsense is an error of the visit, which quotes it.
    assert_eq!(share("nonsense", "command.pass").1, 0);
    let text = fs::read_to_string(run.join("report.json")).unwrap();
    assert!(text.contains("fast bananas"), "{text}");
    assert_evidence_is_there(&run, &report);
    let verified = bakeoff(&["verify", run.to_str().unwrap()]);
    assert_eq!(code(&verified), exit_code::OK, "{}", said(&verified));
    assert_nothing_left(&[&run]);
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Processes whose command line or working folder mentions `marks`.
fn left_behind(marks: &[&Path]) -> Vec<String> {
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let path = entry.path();
        let words = fs::read(path.join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        let cwd = fs::read_link(path.join("cwd")).unwrap_or_default();
        let about = |mark: &&&Path| words.contains(mark.to_str().unwrap()) || cwd.starts_with(mark);
        if marks.iter().any(|mark| about(&mark)) {
            left.push(format!("{}: {words}", path.display()));
        }
    }
    left
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(900);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn assert_nothing_left(marks: &[&Path]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !left_behind(marks).is_empty() {
        assert!(Instant::now() < deadline, "left behind: {:#?}", left_behind(marks));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn signal(child: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

fn small_run(run: &Path) -> Command {
    let mut command = command(&["run", "patches/find-vma", "--arch", "x86_64"]);
    command.args(["--candidate", "peter-removal", "--profile", "lockdep", "--quick"]);
    command.args(["--probe", "build_id/process/idle", "--out"]).arg(run);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn boot_of(run: &Path, candidate: &str, boot: &str) -> PathBuf {
    run.join(format!("cells/6.12/{candidate}/x86_64/lockdep/boots/{boot}"))
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

/// `kill -9` of the runner during a boot leaves no QEMU, and the run resumes without
/// repeating the boots that were complete; Ctrl-C does the same with its own exit code.
#[test]
fn killed_and_interrupted_runs_resume() {
    let _alone = alone();
    for kill in ["-KILL", "-INT"] {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let mut child = small_run(&run).spawn().unwrap();
        let complete = boot_of(&run, "landed", "0-000").join("end.json");
        let second = boot_of(&run, "as-reported", "0-000").join("console.log");
        wait_for("the second boot", || second.is_file());
        signal(&child, kill);
        let status = child.wait().unwrap();
        if kill == "-INT" {
            assert_eq!(status.code(), Some(i32::from(exit_code::INTERRUPTED)));
        }
        assert_nothing_left(&[&run]);
        assert!(!boot_of(&run, "as-reported", "0-000").join("end.json").exists());
        let before = modified(&complete);
        let kernel = modified(&run.join("cells/6.12/landed/x86_64/lockdep/kernel.json"));

        let output = bakeoff(&["resume", run.to_str().unwrap()]);
        assert_eq!(code(&output), exit_code::INCONCLUSIVE, "{kill}: {}", said(&output));
        assert_eq!(modified(&complete), before, "a complete boot was repeated");
        let path = run.join("cells/6.12/landed/x86_64/lockdep/kernel.json");
        assert_eq!(modified(&path), kernel);
        let report = report(&run);
        for candidate in ["landed", "as-reported", "peter-removal"] {
            assert_eq!(end(&report, candidate, "x86_64"), "ran");
        }
        assert_eq!(verdict(&report, "as-reported", "x86_64"), "not-ok");
        assert_eq!(verdict(&report, "peter-removal", "x86_64"), "open");
        assert_nothing_left(&[&run]);
    }
}

/// `kill -9` of the runner during a build leaves no make, compiler or linker.
#[test]
fn a_killed_build_leaves_nothing_running() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    // The header is included everywhere: this build takes minutes, if it is let.
    let nonce = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    let folder = dir.path().join("slow");
    fs::create_dir(&folder).unwrap();
    let patch = include_str!("fixtures/series/header.patch").replace("@NONCE@", &nonce.to_string());
    fs::write(folder.join("0001-x.patch"), patch).unwrap();
    let mut command = small_run(&run);
    command.args(["--candidate", "slow", "--add"]).arg(&folder);
    let cache =
        PathBuf::from(std::env::var_os("XDG_CACHE_HOME").unwrap_or_else(|| {
            Path::new(&std::env::var_os("HOME").unwrap()).join(".cache").into()
        }));
    let work = cache.join("bakeoff/work");
    let begun = SystemTime::now();
    let mut child = command.spawn().unwrap();
    wait_for("the compiler", || {
        assert!(child.try_wait().unwrap().is_none(), "the run ended without a build");
        // A log that an earlier run left there says nothing of this one.
        let folders = fs::read_dir(&work).into_iter().flatten().flatten();
        let logs = folders.map(|folder| folder.path().join("make.log"));
        let mut new = logs.filter(|log| {
            fs::metadata(log).is_ok_and(|m| m.modified().is_ok_and(|changed| changed > begun))
        });
        new.any(|log| fs::read_to_string(log).is_ok_and(|t| t.contains("  CC      kernel/")))
            && !left_behind(&[&work]).is_empty()
    });
    signal(&child, "-KILL");
    child.wait().unwrap();
    assert_nothing_left(&[&work, &run]);

    // Nor does the next run leave what this one left on the disk.
    let again = dir.path().join("again");
    assert_eq!(small_run(&again).status().unwrap().code(), Some(exit_code::INCONCLUSIVE.into()));
    let trees =
        |dir: &Path| fs::read_dir(dir).unwrap().flatten().any(|d| d.path().join("linux").exists());
    assert!(!trees(&work));
}

/// A full disk ends the run with an error that says so, leaves no child behind, and the
/// run goes on once there is room.
#[test]
fn a_full_disk_is_our_error_and_resumes() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    fs::create_dir(&disk).unwrap();
    // A disk of our own, in namespaces of our own: no privileges needed.
    let script = format!(
        "mount -t tmpfs -o size=2m tmpfs {disk} || exit 99
         {bakeoff} run patches/find-vma --arch x86_64 --candidate peter-removal \\
             --profile lockdep --quick --probe build_id/process/idle --out {disk}/run >/dev/null 2>{dir}/first
         echo $? >{dir}/first.code
         mount -o remount,size=200m {disk} || exit 99
         {bakeoff} resume {disk}/run >/dev/null 2>{dir}/second
         echo $? >{dir}/second.code",
        disk = disk.display(),
        dir = dir.path().display(),
        bakeoff = env!("CARGO_BIN_EXE_bakeoff"),
    );
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .current_dir(checkout())
        .stdin(Stdio::null())
        .status()
        .unwrap();
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(read("first.code").trim(), exit_code::FAILURE.to_string(), "{}", read("first"));
    let first = read("first");
    assert!(first.contains("No space left on device"), "{first}");
    assert!(first.contains("bakeoff resume"), "{first}");
    assert_eq!(
        read("second.code").trim(),
        exit_code::INCONCLUSIVE.to_string(),
        "{}",
        read("second")
    );
    assert_nothing_left(&[&disk]);
}

/// A QEMU under which KVM runs what is small and no kernel, as on hosts that emulate
/// what a CPU would do: the test guest has what it needs, a kernel never begins.
const KVM_WITHOUT_KERNELS: &str = r#"#!/bin/bash
words=() kernel= kvm=
while (($#)); do
    case "$1 $2" in
    "-accel kvm") kvm=1; words+=(-accel tcg); shift ;;
    "-cpu host") words+=(-cpu max); shift ;;
    "-kernel "*) kernel=1; words+=("$1" "$2"); shift ;;
    *) words+=("$1") ;;
    esac
    shift
done
if [ "$kernel$kvm" = 11 ]; then
    kept=()
    for ((i = 0; i < ${#words[@]}; i++)); do
        case "${words[i]}" in -kernel | -initrd | -append) ((i++)) ;; *) kept+=("${words[i]}") ;; esac
    done
    words=("${kept[@]}")
fi
exec "$REAL_QEMU" "${words[@]}"
"#;

/// Where KVM does not take a kernel to user space, guests are emulated, no boot is lost
/// or blamed on anybody, and the report says why.
#[test]
fn kvm_that_runs_no_kernel_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("qemu-system-x86_64");
    fs::write(&program, KVM_WITHOUT_KERNELS).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let real = path.split(':').map(|dir| Path::new(dir).join("qemu-system-x86_64"));
    let real = real.into_iter().find(|path| path.is_file()).expect("QEMU is installed");
    let run = dir.path().join("run");
    let output = small_run(&run)
        .env("PATH", format!("{}:{path}", dir.path().display()))
        .env("REAL_QEMU", real)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    // Without kernels of the profile `production` no claim is asked.
    assert_eq!(code(&output), exit_code::INCONCLUSIVE, "{}", said(&output));
    let report = report(&run);
    assert_eq!(end(&report, "landed", "x86_64"), "ran");
    assert_eq!(report["environment"]["accel"]["x86_64"], "tcg");
    let opens = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    if opens && cfg!(target_arch = "x86_64") {
        let reason = report["environment"]["accel_reason"]["x86_64"].as_str().unwrap();
        assert!(reason.starts_with("a kernel did not run under KVM: 15 s after"), "{reason}");
        assert!(said(&output).contains("warning: x86_64 guests are emulated"), "{}", said(&output));
    }
}

/// What `fuzz` says of a campaign that was carried out.
fn fuzzed(output: &Output) -> Value {
    assert_eq!(code(output), exit_code::OK, "{}", said(output));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

/// Fuzzing the control finds its splat within seconds, keeps what was in flight, and tries
/// it again in boots of its own.
#[test]
fn fuzzing_finds_what_the_control_has() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let output = command(&["fuzz", "patches/find-vma", "--candidate", "as-reported"])
        .args(["--arch", "x86_64", "--time", "20", "--until-finding", "--pursue", "1"])
        .args(["--again", "2", "--trials", "4", "--format", "json", "--out"])
        .arg(dir.path())
        .output()
        .unwrap();
    let summary = fuzzed(&output);
    let findings = summary["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["title"] == "WARNING in find_vma");
    let finding = finding.unwrap_or_else(|| panic!("{summary}\n{}", said(&output)));
    let folder = dir.path().join(finding["folder"].as_str().unwrap());
    for file in ["program.txt", "console.log", "splat.txt"] {
        assert!(folder.join(file).is_file(), "{file} is not in {}", folder.display());
    }
    let program = fs::read_to_string(folder.join("program.txt")).unwrap();
    assert!(program.starts_with("bakeoff program "), "{program}");
    let tried: Vec<&Value> = findings.iter().filter(|f| f["reproduced"].is_object()).collect();
    assert!(tried.iter().any(|finding| finding["reproduced"]["of"] == 2), "{summary}");
}

/// The same engine on the other architecture: the reference has nothing to show in a few
/// seconds, and every patched function that a system call comes to is reached.
#[test]
fn fuzzing_runs_on_arm64() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let output = command(&["fuzz", "patches/find-vma", "--candidate", "landed"])
        .args(["--arch", "arm64", "--time", "20", "--pursue", "0", "--format", "json", "--out"])
        .arg(dir.path())
        .output()
        .unwrap();
    let summary = fuzzed(&output);
    assert!(summary["execs"].as_u64().unwrap() > 100, "{summary}");
    // The corpus has a program whose events count the faults that it makes.
    assert_eq!(summary["lost"], serde_json::json!({}), "{summary}");
    assert!(summary["bpf_run_share"].as_f64().unwrap() > 0.1, "{summary}");
    let reached = &summary["patched_functions_reached"]["stack_map_get_build_id_offset"];
    assert!(reached.is_number(), "{summary}");
    // Two threads did something at the same time, and mostly did meet.
    let meetings = &summary["times"]["(meet)"];
    let of = |what: &str| meetings[what].as_u64().unwrap_or_else(|| panic!("{summary}"));
    assert!(of("count") > 10 && of("failures") * 2 < of("count"), "{meetings}");
    operations_reach_their_files(dir.path());
}

/// What the table says of operations and files, which was measured on x86_64, is so: in what
/// the campaign kept, operations run through the files that they are said to reach.
fn operations_reach_their_files(campaign: &Path) {
    let output = command(&["replay", "patches/find-vma", "--candidate", "landed"])
        .args(["--arch", "arm64", "--boots", "1", "--format", "json", "--out"])
        .args([campaign.join("replay"), campaign.join("corpus")])
        .output()
        .unwrap();
    let replay = fuzzed(&output);
    let reached_by = |file: &str| replay["operations"][file].as_object();
    let files = replay["operations"].as_object().unwrap();
    let done: BTreeSet<&str> = files
        .values()
        .flat_map(|ops| ops.as_object().unwrap().keys().map(String::as_str))
        .collect();
    let table = fs::read_to_string(checkout().join("fuzz/uapi/reach.tsv")).unwrap();
    let (mut pairs, mut wrong) = (0, Vec::new());
    for (file, ops) in table.lines().filter_map(|line| line.split_once('\t')) {
        // A file that this architecture does not have, or nobody came to.
        let Some(reached) = reached_by(file) else { continue };
        for op in ops.split(' ').filter(|op| done.contains(op)) {
            pairs += 1;
            if !reached.contains_key(op) {
                wrong.push(format!("{op} {file}"));
            }
        }
    }
    assert!(pairs > 200, "{pairs} pairs of {} operations", done.len());
    // What BPF programs run through when an event interrupts a call is chance.
    assert!(wrong.len() * 7 < pairs, "{} of {pairs}: {wrong:?}", wrong.len());
}
