// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every way a guest or QEMU can die, told apart.

mod fake_qemu;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bakeoff_fuzz::wire::Workload;

use super::protocol::tests::{lines, records, workload};
use super::*;
use crate::base::error::Kind;
use crate::machine::accel::Accel;
use crate::run::schedule::{Target, next_boot};
use crate::run::watch::Watch;
use crate::spec::plan::CellId;
use fake_qemu::{SCENES, Scene};

const SOON: Duration = Duration::from_millis(400);
/// Nothing that is tested takes that long, however busy the machine is.
const NEVER: Duration = Duration::from_secs(300);

/// Limits under which only what is tested can run out.
fn patient() -> Limits {
    Limits {
        hello: NEVER,
        silence: NEVER,
        printing: NEVER,
        after_report: NEVER,
        total: NEVER,
        after_panic: NEVER,
        after_shutdown: NEVER,
        console_bytes: 1 << 20,
        records_bytes: 256 << 20,
        expected: NEVER,
    }
}

/// A run with one boot, and what takes QEMU's place.
struct Trial {
    dir: tempfile::TempDir,
    store: Store,
    id: BootId,
    limits: Limits,
    cancel: Cancel,
}

impl Trial {
    fn new() -> Trial {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("run")).unwrap();
        fs::write(dir.path().join("vmlinux"), "kernel").unwrap();
        Trial { store, id: boot_id(), limits: patient(), cancel: Cancel::new(), dir }
    }

    fn play(&self, scene: Scene) -> Result<Run> {
        run_in(self.dir.path(), &self.store, scene, self.limits, &mut NoWatch, &self.cancel)
    }

    /// The same, under a watch that reads what the kernel reports.
    fn watched(&self, scene: Scene) -> Result<Run> {
        let watch = &mut Watch::default();
        run_in(self.dir.path(), &self.store, scene, self.limits, watch, &self.cancel)
    }

    fn file(&self, path: &Path) -> String {
        String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
    }

    /// No child is left, and the boot is complete exactly if it has a result.
    fn check_traces(&self, complete: bool) {
        if let Some(pid) = fake_qemu::pid(self.dir.path()) {
            assert!(!fake_qemu::lives(pid), "QEMU is left");
        }
        assert_eq!(self.store.end_json(&self.id).exists(), complete);
        assert!(!self.store.boot(&self.id).join("initramfs.cpio").exists());
    }
}

fn boot_id() -> BootId {
    let part = str::to_owned;
    let cell = CellId {
        base: part("6.12"),
        candidate: part("landed"),
        arch: part("x86_64"),
        profile: part("lockdep"),
    };
    BootId { cell, name: "0-000".into() }
}

fn run_in(
    dir: &Path,
    store: &Store,
    scene: Scene,
    limits: Limits,
    watch: &mut dyn ConsoleWatch,
    cancel: &Cancel,
) -> Result<Run> {
    let arch = fake_qemu::arch(scene, dir);
    let order = Exercise {
        store,
        id: &boot_id(),
        machine: Machine::new(&arch, Accel::Tcg, 2),
        kernel: &dir.join("vmlinux"),
        binaries: &GuestBinaries::of(b"agent".to_vec(), "test"),
        workload: &workload(),
        limits,
    };
    exercise(&order, watch, &Events::silent(), cancel)
}

/// The result of a scene, under limits that `change` makes short.
fn result(scene: Scene, change: impl Fn(&mut Limits)) -> BootEnd {
    let mut trial = Trial::new();
    change(&mut trial.limits);
    let run = trial.play(scene).unwrap();
    trial.check_traces(true);
    let written: EndJson = store::read_json(&trial.store.end_json(&trial.id)).unwrap();
    assert_eq!(written, run.end);
    run.end.end
}

/// The error of a scene, with all its causes.
fn error(scene: Scene, change: impl Fn(&mut Limits)) -> String {
    let mut trial = Trial::new();
    change(&mut trial.limits);
    let error = trial.play(scene).unwrap_err();
    trial.check_traces(false);
    assert_eq!(error.kind(), Kind::Failure, "{error}");
    assert!(error.message().contains("6.12/landed/x86_64/lockdep 0-000"), "{error}");
    error.chain()
}

/// A good boot keeps every byte, counts what was done, and has no path of this
/// machine in its `end.json`.
#[test]
fn good_boot_is_complete() {
    let trial = Trial::new();
    let run = trial.play(Scene::Good).unwrap();
    trial.check_traces(true);
    assert_eq!(run.end.end, BootEnd::Ran);
    assert_eq!((run.end.asked, run.end.done, run.end.records), (vec![4], vec![0], 7));
    assert!(run.end.hello_seconds.unwrap() <= run.end.seconds);
    assert_eq!(run.hello.unwrap().release, "6.12.0");
    assert_eq!(fs::read(trial.store.records(&trial.id)).unwrap(), lines(&records()));
    let console = trial.file(&trial.store.console(&trial.id));
    assert!(console.ends_with("machine restart\r\n"), "{console}");
    assert_eq!(run.end.console_bytes, console.len() as u64);
    assert!(trial.file(&trial.store.console_times(&trial.id)).starts_with("0 "));
    let end = trial.file(&trial.store.end_json(&trial.id)).replace(trial.id.name.as_str(), "");
    let own = trial.dir.path().join("run");
    assert!(!end.contains(own.to_str().unwrap()), "{end}");
}

/// A panic is the kernel's, with its line, though QEMU ends with status 0; also
/// when it hangs before its restart, or dies over its last words.
#[test]
fn panics_are_results() {
    let line = "Kernel panic - not syncing: Fatal exception in interrupt";
    let panicked = |line: &str| BootEnd::Panicked { line: line.into() };
    assert_eq!(result(Scene::Panic, |_| {}), panicked(line));
    assert_eq!(result(Scene::StuckPanic, |limits| limits.after_panic = SOON), panicked(line));
    let cut = "Kernel panic - not syncing: Fatal exc";
    assert_eq!(result(Scene::CutPanic, |_| {}), panicked(cut));
}

/// What was sent before a panic counts, and the record it died over is no breach.
#[test]
fn records_before_a_panic_are_kept() {
    let trial = Trial::new();
    let run = trial.play(Scene::Panic).unwrap();
    assert_eq!((run.end.records, run.end.done), (3, Vec::new()));
    let kept = trial.file(&trial.store.records(&trial.id));
    assert!(kept.ends_with("{\"record\":\"block\",\"st"), "{kept}");
}

/// A guest that sends no record hangs, silent or chatty.
#[test]
fn without_records_it_is_a_hang() {
    for scene in [Scene::Hang, Scene::Chatter] {
        let end = result(scene, |limits| limits.silence = SOON);
        assert_eq!(end, BootEnd::Hung { silent_seconds: 0, step: None, report: None }, "{scene:?}");
    }
}

/// How a boot hung: in which step, and after which report.
fn hang(trial: &Trial, scene: Scene) -> (Option<u32>, ConsoleReport) {
    let run = trial.watched(scene).unwrap();
    trial.check_traces(true);
    // Hello, begin and block.
    assert!(run.end.records >= 3);
    match run.end.end {
        BootEnd::Hung { step, report: Some(report), .. } => (step, report),
        end => panic!("{scene:?}: {end:?}"),
    }
}

/// A guest whose kernel says that it is stuck, or lost a task, gets the time to print
/// that and a little more, whatever else it prints; what was reported is the evidence,
/// and the blocks it took are kept.
#[test]
fn a_guest_that_reports_a_hang_is_ended_soon() {
    for (scene, title, text) in [
        (Scene::Stuck, "rcu detected stall in", fake_qemu::STALL),
        (Scene::Oops, "NULL pointer dereference", fake_qemu::OOPS),
    ] {
        let mut trial = Trial::new();
        trial.limits.printing = SOON;
        trial.limits.after_report = SOON;
        let (step, report) = hang(&trial, scene);
        assert_eq!(step, Some(4));
        assert!(report.title.contains(title), "{report:?}");
        let console = trial.file(&trial.store.console(&trial.id));
        let offset = usize::try_from(report.console_offset).unwrap();
        assert!(console[offset..].starts_with(&text[..40]), "{console}");
        assert!(trial.file(&trial.store.records(&trial.id)).contains("\"record\":\"block\""));
    }
}

/// An agent that gives up its step after the kernel reported a stall says that the guest
/// hangs, and nobody waits any longer; it is the candidate's, not an error of ours.
#[test]
fn a_step_given_up_after_a_stall_is_a_hang() {
    for scene in [Scene::StuckStepFails, Scene::StepFailsThenStuck] {
        let mut trial = Trial::new();
        // A busy kernel may report it after the agent does; nobody else ends the other.
        trial.limits.after_report = if scene == Scene::StepFailsThenStuck { SOON } else { NEVER };
        let (step, report) = hang(&trial, scene);
        assert_eq!(step, Some(4));
        assert!(report.title.contains("stall"), "{report:?}");
        let (boot, problems) = crate::see::assemble::observe_boot(&trial.store, &trial.id).unwrap();
        assert_eq!(problems, [""; 0]);
        assert_eq!((boot.died_in(), boot.visits.len(), boot.blocks().count()), (Some(4), 1, 1));
    }
}

/// A guest that goes on sending records after a report is not given up: a stall may
/// pass, and a task that oopsed takes only its own step with it.
#[test]
fn records_after_a_report_are_progress() {
    let mut trial = Trial::new();
    trial.limits.after_report = SOON * 6;
    let run = trial.watched(Scene::Recovers).unwrap();
    assert_eq!((run.end.end, run.end.done), (BootEnd::Ran, vec![0]));
    let trial = Trial::new();
    assert_eq!(trial.watched(Scene::OopsInStep).unwrap().end.end, BootEnd::Ran);
}

/// A step that hangs is tried once more in a fresh boot, and then left.
#[test]
fn a_step_that_hangs_twice_is_left() {
    let mut trial = Trial::new();
    trial.limits.printing = SOON;
    trial.limits.after_report = SOON;
    let targets = [Target { step: 4, visits: 1, own_boot: false, spread: 8, again: false }];
    let mut boots = Vec::new();
    while let Some(asked) = next_boot(&targets, &boots) {
        assert_eq!(asked, [4]);
        trial.id.name = format!("0-{:03}", boots.len());
        let arch = fake_qemu::arch(Scene::Stuck, trial.dir.path());
        let order = Exercise {
            store: &trial.store,
            id: &trial.id,
            machine: Machine::new(&arch, Accel::Tcg, 2),
            kernel: &trial.dir.path().join("vmlinux"),
            binaries: &GuestBinaries::of(b"agent".to_vec(), "test"),
            workload: &Workload { boot: trial.id.name.clone(), ..workload() },
            limits: trial.limits,
        };
        exercise(&order, &mut Watch::default(), &Events::silent(), &trial.cancel).unwrap();
        boots.push(crate::see::assemble::observe_boot(&trial.store, &trial.id).unwrap().0);
    }
    assert_eq!(boots.len(), 2);
    for boot in &boots {
        assert!(matches!(boot.end, BootEnd::Hung { step: Some(4), .. }), "{:?}", boot.end);
        assert_eq!(boot.blocks().count(), 1, "what was taken stays");
    }
}

/// Without a Hello it did not boot, and the reason says what was seen.
#[test]
fn no_hello_is_did_not_boot() {
    let reason = |scene| match result(scene, |limits| limits.hello = SOON * 4) {
        BootEnd::DidNotBoot { reason } => reason,
        end => panic!("{scene:?}: {end:?}"),
    };
    assert_eq!(reason(Scene::Silence), "no Hello within 1 s; the console was silent");
    let seen = reason(Scene::NoHello);
    assert!(seen.ends_with("the console's last line: [    1.000000] Run /init"), "{seen}");
}

/// A restart that nobody announced is an early exit, with what was last seen.
#[test]
fn unannounced_restart_is_an_early_exit() {
    let reason = |scene| match result(scene, |_| {}) {
        BootEnd::EarlyExit { reason } => reason,
        end => panic!("{scene:?}: {end:?}"),
    };
    let reset = reason(Scene::EarlyRestart);
    assert!(reset.starts_with("guest-reset without an End record"), "{reset}");
    let triple_fault = reason(Scene::TripleFault);
    assert_eq!(triple_fault, "guest-reset before its Hello; last on the console: nothing");
}

/// A watch that has seen enough ends the boot with the report's count; one that
/// sees nothing is backed by the limit of bytes.
#[test]
fn floods_end_the_boot() {
    struct Count(u64);
    impl ConsoleWatch for Count {
        fn begin(&mut self) {
            self.0 = 0;
        }
        fn push(&mut self, bytes: &[u8]) {
            self.0 += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        fn pause(&mut self) {}
        fn troubles(&mut self) -> Vec<Trouble> {
            Vec::new()
        }
        fn flood(&self) -> Option<Flood> {
            let title = "WARNING in rwsem_assert_held".into();
            (self.0 > 100).then_some(Flood { title, count: self.0 })
        }
    }
    let trial = Trial::new();
    let (dir, cancel) = (trial.dir.path(), &trial.cancel);
    let run = run_in(dir, &trial.store, Scene::Flood, trial.limits, &mut Count(0), cancel).unwrap();
    trial.check_traces(true);
    let BootEnd::Flood { title, count } = run.end.end else { panic!("{:?}", run.end) };
    assert!(title == "WARNING in rwsem_assert_held" && count > 100);
    let BootEnd::Flood { title, .. } = result(Scene::Flood, |_| {}) else { panic!() };
    assert_eq!(title, "more than 1 MiB on the console");
}

/// A guest that still sends records when its time is up is out of time, not hung.
#[test]
fn busy_guest_is_out_of_time() {
    let end = result(Scene::Busy, |limits| limits.total = SOON * 3);
    assert_eq!(end, BootEnd::OutOfTime { limit_seconds: 1 });
}

/// A QEMU that told the guest's end but does not exit is ended; the boot counts.
#[test]
fn qemu_that_stays_is_ended() {
    assert_eq!(result(Scene::DoesNotExit, |limits| limits.after_shutdown = SOON), BootEnd::Ran);
}

/// A QEMU that is killed costs its boot, which is done again, and nobody else notices.
#[test]
fn a_killed_qemu_costs_only_its_boot() {
    let trial = Trial::new();
    let run = trial.play(Scene::KilledOnce).unwrap();
    trial.check_traces(true);
    assert_eq!((run.end.end, run.end.done, run.end.records), (BootEnd::Ran, vec![0], 7));
    assert_eq!(fake_qemu::boots(trial.dir.path()), 2);
    // Three more times, and then it is an error that names the boot.
    let trial = Trial::new();
    let error = trial.play(Scene::Killed).unwrap_err();
    trial.check_traces(false);
    assert_eq!(fake_qemu::boots(trial.dir.path()), 4);
    assert!(error.message().contains("6.12/landed/x86_64/lockdep 0-000"), "{error}");
    assert!(error.next_step().is_some_and(|hint| hint.contains("tried 4 times")), "{error:?}");
}

/// QEMU's own failures are errors with its words, and complete no boot.
#[test]
fn failures_of_qemu_are_errors() {
    let nothing = |_: &mut Limits| {};
    let why = error(Scene::BadArguments, nothing);
    assert!(why.contains("did not start (exit status: 1)"), "{why}");
    assert!(why.contains("'nonsense' is not a valid device"), "{why}");
    let why = error(Scene::Killed, nothing);
    assert!(why.contains("QEMU died under the guest (signal: 9 (SIGKILL))"), "{why}");
    let why = error(Scene::Aborts, nothing);
    assert!(why.contains("SIGABRT") && why.contains("Assertion failed"), "{why}");
    let why = error(Scene::Terminated, nothing);
    assert!(why.contains("ended from outside the guest (host-signal)"), "{why}");
    let why = error(Scene::Stopped, |limits| limits.silence = SOON);
    assert!(why.contains("QEMU has stopped the guest (internal-error)"), "{why}");
}

/// Records that break the rules, and a guest that does not fit, are errors that
/// name the line; what came is in the file.
#[test]
fn broken_records_are_errors() {
    let trial = Trial::new();
    let why = trial.play(Scene::Garbage).unwrap_err().chain();
    trial.check_traces(false);
    assert!(why.contains("line 2 of the guest's records: it is not JSON"), "{why}");
    assert!(fs::read(trial.store.records(&trial.id)).unwrap().ends_with(b"\xff\xfe{]\n"));
    let why = error(Scene::LongLine, |_| {});
    assert!(why.contains("line 2 of the guest's records: it has more than"), "{why}");
    let why = error(Scene::OtherSources, |_| {});
    assert!(why.contains("built from other sources (0123456789abcdef)"), "{why}");
    let why = error(Scene::AgentGivesUp, |_| {});
    assert!(why.contains("gave up: opening the records' port: timed out"), "{why}");
}

/// A guest that a busy host left without its timers is booted again; only
/// if none comes up well it is an error.
#[test]
fn unfit_guests_are_booted_again() {
    let trial = Trial::new();
    assert_eq!(trial.play(Scene::UnfitOnce).unwrap().end.end, BootEnd::Ran);
    trial.check_traces(true);
    assert_eq!(fake_qemu::boots(trial.dir.path()), 2);
    let why = error(Scene::Unfit, |_| {});
    assert!(
        why.contains("no high-resolution timers") && why.ends_with(&format!("in {TRIES} boots")),
        "{why}"
    );
}

/// What a guest had finished when its emulator failed it is kept, with the place on the
/// console where that begins; one that had finished nothing is booted again.
#[test]
fn finished_steps_of_a_lost_boot_are_kept() {
    let trial = Trial::new();
    let run = trial.play(Scene::StaleBreakpoint).unwrap();
    trial.check_traces(true);
    assert_eq!(fake_qemu::boots(trial.dir.path()), 2);
    let BootEnd::Lost { reason, console_offset } = &run.end.end else { panic!("{:?}", run.end) };
    assert!(reason.contains("no longer in memory (there is 0f instead)"), "{reason}");
    assert_eq!(run.end.done, [0]);
    let console = trial.file(&trial.store.console(&trial.id));
    let offset = usize::try_from(*console_offset).unwrap();
    assert!(console[offset..].starts_with("[    2.0] Oops: int3"), "{console}");
}

/// A missing QEMU is a missing prerequisite.
#[test]
fn missing_qemu_is_a_missing_prerequisite() {
    let trial = Trial::new();
    let mut arch = fake_qemu::arch(Scene::Good, trial.dir.path());
    arch.qemu.program = "qemu-system-nowhere".into();
    let order = Exercise {
        store: &trial.store,
        id: &trial.id,
        machine: Machine::new(&arch, Accel::Tcg, 2),
        kernel: &trial.dir.path().join("vmlinux"),
        binaries: &GuestBinaries::of(b"agent".to_vec(), "test"),
        workload: &workload(),
        limits: patient(),
    };
    let error = exercise(&order, &mut NoWatch, &Events::silent(), &trial.cancel).unwrap_err();
    assert_eq!(error.kind(), Kind::MissingPrerequisite);
    assert!(error.chain().contains("qemu-system-nowhere"), "{}", error.chain());
    trial.check_traces(false);
}

/// Ctrl-C ends QEMU at once and completes nothing; the boot can be done again.
#[test]
fn interrupted_boot_can_be_done_again() {
    let trial = Trial::new();
    let cancel = trial.cancel.clone();
    let (dir, store) = (trial.dir.path().to_owned(), trial.store.clone());
    let boot = std::thread::spawn(move || {
        run_in(&dir, &store, Scene::Hang, patient(), &mut NoWatch, &cancel)
    });
    wait_until(|| fs::read(trial.store.records(&trial.id)).is_ok_and(|bytes| !bytes.is_empty()));
    trial.cancel.cancel();
    assert_eq!(boot.join().unwrap().unwrap_err().kind(), Kind::Interrupted);
    trial.check_traces(false);
    let again = Trial { cancel: Cancel::new(), ..trial };
    assert_eq!(again.play(Scene::Good).unwrap().end.end, BootEnd::Ran);
    let complete = again.play(Scene::Good).unwrap_err();
    assert!(complete.chain().contains("complete already"), "a result is never replaced");
}

/// A guest that is dropped is gone, with everything QEMU started.
#[test]
fn dropped_guest_leaves_no_child() {
    let dir = tempfile::tempdir().unwrap();
    let arch = fake_qemu::arch(Scene::Hang, dir.path());
    let (kernel, initramfs) = (dir.path().join("kernel"), dir.path().join("initramfs"));
    fs::write(&kernel, "").unwrap();
    let machine = Machine::new(&arch, Accel::Tcg, 2);
    let started = Guest::start(&machine, &kernel, &initramfs, &Cancel::new(), |_| {});
    let (guest, _outlets) = started.unwrap();
    assert_eq!(guest.qmp.query_status().unwrap(), "running");
    let pid = fake_qemu::pid(dir.path()).unwrap();
    assert!(fake_qemu::lives(pid));
    drop(guest);
    assert!(!fake_qemu::lives(pid));
}

/// `kill -9` of the runner leaves no QEMU, and what it left of the boot is
/// replaced by the next run.
#[test]
fn killed_runner_leaves_no_qemu() {
    let trial = Trial::new();
    let mut runner = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "run::exercise::tests::runner_to_kill", "--test-threads=1"])
        .env(RUNNER, trial.dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_until(|| fs::read(trial.store.records(&trial.id)).is_ok_and(|bytes| !bytes.is_empty()));
    let qemu = fake_qemu::pid(trial.dir.path()).unwrap();
    assert!(fake_qemu::lives(qemu));
    runner.kill().unwrap();
    runner.wait().unwrap();
    wait_until(|| !fake_qemu::lives(qemu));
    assert!(!trial.store.end_json(&trial.id).exists());
    assert_eq!(trial.play(Scene::Good).unwrap().end.end, BootEnd::Ran);
    trial.check_traces(true);
}

/// Environment of the runner that [`killed_runner_leaves_no_qemu`] kills: where
/// its run is.
const RUNNER: &str = "BAKEOFF_TEST_RUNNER";

/// That runner; without its environment there is nothing to test.
#[test]
fn runner_to_kill() {
    let Some(dir) = std::env::var_os(RUNNER).map(std::path::PathBuf::from) else { return };
    fs::write(dir.join("run/run.json"), "{}").unwrap();
    let store = Store::open(&dir.join("run")).unwrap();
    let ended = run_in(&dir, &store, Scene::Hang, patient(), &mut NoWatch, &Cancel::new());
    panic!("it should have been killed: {ended:?}");
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let until = Instant::now() + NEVER;
    while !done() {
        assert!(Instant::now() < until, "it never happened");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// No scene is forgotten: each stands in a test of this file.
#[test]
fn every_scene_is_played() {
    let tests = include_str!("tests.rs");
    let forgotten: BTreeSet<String> = SCENES
        .iter()
        .map(|scene| format!("Scene::{scene:?}"))
        .filter(|scene| !tests.contains(scene.as_str()))
        .collect();
    assert!(forgotten.is_empty(), "{forgotten:?}");
}

/// The workload of these tests is what the records answer.
#[test]
fn workload_fits_the_records() {
    let Workload { steps, .. } = workload();
    assert_eq!(steps.iter().map(|step| step.blocks).sum::<u32>(), 3);
}
