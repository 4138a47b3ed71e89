// SPDX-License-Identifier: MIT OR Apache-2.0
//! A QEMU that fails on demand.
//!
//! A script takes QEMU's place and runs this test binary again, which connects
//! to the sockets on its command line and plays a [`Scene`]. So every way of
//! dying can be had in milliseconds, and the sockets, the processes and the
//! signals are real.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bakeoff_fuzz::wire::{Block, End, Record, StepOutcome};

use super::super::protocol::tests::{lines, records};
use crate::base::command::{quote, write_script};
use crate::base::data::DataDir;
use crate::spec::arch::Arch;

/// Environment: the scene to play, where its traces go, and the command line.
const DIR: &str = "BAKEOFF_TEST_DIR";
const SCENE: &str = "BAKEOFF_TEST_SCENE";
const ARGV: &str = "BAKEOFF_TEST_ARGV";
/// This module's player, as the test runner names it.
const PLAYER: &str = "run::exercise::tests::fake_qemu::player";

/// One way a guest or QEMU can behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// A good boot.
    Good,
    /// A panic, and the restart it ends with.
    Panic,
    /// A panic that hangs before its restart.
    StuckPanic,
    /// A panic whose line is cut off by the end.
    CutPanic,
    /// Hello, and nothing more.
    Hang,
    /// Nothing at all.
    Silence,
    /// A console, but no Hello.
    NoHello,
    /// A restart after the Hello.
    EarlyRestart,
    /// A restart without a word.
    TripleFault,
    /// The agent gave up and ended the guest.
    AgentGivesUp,
    /// QEMU refuses its arguments.
    BadArguments,
    /// QEMU is killed.
    Killed,
    /// The same, but a good one when it is booted again.
    KilledOnce,
    /// QEMU gets a SIGTERM, and tells so.
    Terminated,
    /// QEMU aborts.
    Aborts,
    /// QEMU stops the guest after an error of its own.
    Stopped,
    /// One report without end.
    Flood,
    /// The console never falls silent, and no record comes.
    Chatter,
    /// Blocks without end.
    Busy,
    /// A step that begins, takes a block, and then only prints that it is stuck.
    Stuck,
    /// The same, and the agent gives up the step.
    StuckStepFails,
    /// The agent gives up the step, and only then the kernel says that it is stuck.
    StepFailsThenStuck,
    /// The kernel says that it is stuck, and then goes on well.
    Recovers,
    /// An oops in a step, and nothing more.
    Oops,
    /// An oops that ends a step, and nothing else.
    OopsInStep,
    /// Records that are none.
    Garbage,
    /// One record without end.
    LongLine,
    /// A guest binary of other sources.
    OtherSources,
    /// A guest without high-resolution timers.
    Unfit,
    /// The same, but a good one when it is booted again.
    UnfitOnce,
    /// A good boot's End, and then QEMU does not exit.
    DoesNotExit,
    /// The emulator runs into a breakpoint that is gone: in the first boot before
    /// anything is done, in the next one after that.
    StaleBreakpoint,
}

use Scene::{
    Aborts, AgentGivesUp, BadArguments, Busy, Chatter, CutPanic, DoesNotExit, EarlyRestart, Flood,
    Garbage, Good, Hang, Killed, KilledOnce, LongLine, NoHello, Oops, OopsInStep, OtherSources,
    Panic, Recovers, Silence, StaleBreakpoint, StepFailsThenStuck, Stopped, Stuck, StuckPanic,
    StuckStepFails, Terminated, TripleFault, Unfit, UnfitOnce,
};

/// Every scene; a scene that is not played by a test is a hole.
pub const SCENES: &[Scene] = &[
    Good,
    Panic,
    StuckPanic,
    CutPanic,
    Hang,
    Silence,
    NoHello,
    EarlyRestart,
    TripleFault,
    AgentGivesUp,
    BadArguments,
    Killed,
    KilledOnce,
    Terminated,
    Aborts,
    Stopped,
    Flood,
    Chatter,
    Busy,
    Stuck,
    StuckStepFails,
    StepFailsThenStuck,
    Recovers,
    Oops,
    OopsInStep,
    Garbage,
    LongLine,
    OtherSources,
    DoesNotExit,
    Unfit,
    UnfitOnce,
    StaleBreakpoint,
];

/// An x86_64 whose QEMU plays `scene` and writes its process id to `DIR/pid`.
pub fn arch(scene: Scene, dir: &Path) -> Arch {
    let mut arch = Arch::load(&DataDir::embedded(), "x86_64").unwrap();
    let this = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\necho $$ > {}\necho boot >> {}\nexport {SCENE}={scene:?} {DIR}={} {ARGV}=\"$*\"\n\
         exec {} --exact {PLAYER} --nocapture --test-threads=1\n",
        quote(dir.join("pid").to_str().unwrap()),
        quote(dir.join("boots").to_str().unwrap()),
        quote(dir.to_str().unwrap()),
        quote(this.to_str().unwrap()),
    );
    let program = dir.join("qemu");
    write_script(&program, &script).unwrap();
    arch.qemu.program = program.to_str().unwrap().to_owned();
    arch
}

/// The process id of the fake, once it runs.
pub fn pid(dir: &Path) -> Option<i32> {
    std::fs::read_to_string(dir.join("pid")).ok()?.trim().parse().ok()
}

/// How often it was started.
pub fn boots(dir: &Path) -> usize {
    std::fs::read_to_string(dir.join("boots")).unwrap_or_default().lines().count()
}

/// Whether a process is there and not merely waiting to be reaped.
pub fn lives(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.contains(") Z ") && !stat.contains(") X "))
}

/// Plays, if this process was started by the script; otherwise there is
/// nothing to test.
#[test]
fn player() {
    let Ok(name) = std::env::var(SCENE) else { return };
    let scene = SCENES.iter().find(|scene| format!("{scene:?}") == name).unwrap();
    let argv = std::env::var(ARGV).unwrap();
    play(*scene, &argv, &std::env::var(DIR).unwrap());
}

/// What the three sockets are to a guest.
struct Stage {
    console: UnixStream,
    records: UnixStream,
    qmp: UnixStream,
}

impl Stage {
    fn connect(argv: &str, status: &'static str) -> Stage {
        let connect = |id: &str| {
            let (_, path) = argv.split_once(&format!("socket,id={id},path=")).unwrap();
            let path = path.split_whitespace().next().unwrap();
            UnixStream::connect(path.replace(",,", ",")).unwrap()
        };
        let (console, records, qmp) = (connect("console"), connect("records"), connect("qmp"));
        let mut answers = qmp.try_clone().unwrap();
        writeln!(answers, "{{\"QMP\": {{\"version\": {{}}, \"capabilities\": []}}}}").unwrap();
        let (go, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let commands = BufReader::new(answers.try_clone().unwrap());
            for command in commands.lines().map_while(Result::ok) {
                let command: serde_json::Value = serde_json::from_str(&command).unwrap();
                let answer = serde_json::json!({
                    "return": {"status": status},
                    "id": command["id"],
                });
                if writeln!(answers, "{answer}").is_ok() && command["execute"] == "cont" {
                    go.send(()).unwrap();
                }
            }
        });
        wait.recv().unwrap();
        Stage { console, records, qmp }
    }

    /// Writes; whoever listens may have had enough.
    fn say(&mut self, text: &str) {
        if self.console.write_all(text.as_bytes()).is_err() {
            std::process::exit(0);
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        if self.records.write_all(bytes).is_err() {
            std::process::exit(0);
        }
    }

    /// As QEMU does: the event, and the exit.
    fn shutdown(&mut self, guest: bool, reason: &str) -> ! {
        let data = serde_json::json!({"guest": guest, "reason": reason});
        let event = serde_json::json!({"event": "SHUTDOWN", "data": data});
        writeln!(self.qmp, "{event}").unwrap();
        std::process::exit(0)
    }
}

/// What a kernel prints whose CPU does not come back.
pub const STALL: &str = "[   23.0] rcu: INFO: rcu_sched self-detected stall on CPU\r\n\
    [   23.0] rcu: \t1-....: (5250 ticks this GP) idle=1b2c/1/0x4000 softirq=33/33 fqs=2624\r\n\
    [   23.0] CPU: 1 UID: 0 PID: 77 Comm: agent Not tainted 6.12.0 #1\r\n\
    [   23.0] RIP: 0010:spin_for_ever+0x5/0x10\r\n\
    [   23.0] Call Trace:\r\n\
    [   23.0]  <TASK>\r\n\
    [   23.0]  do_syscall_64+0x1/0x2\r\n\
    [   23.0]  </TASK>\r\n";
/// What a kernel prints when it ends a task.
pub const OOPS: &str = "[    9.0] BUG: kernel NULL pointer dereference, address: 0000000008\r\n\
    [    9.0] Oops: Oops: 0000 [#1] PREEMPT SMP\r\n\
    [    9.0] CPU: 1 UID: 0 PID: 77 Comm: agent Not tainted 6.12.0 #1\r\n\
    [    9.0] RIP: 0010:vma_lookup+0x5/0x10\r\n\
    [    9.0] Call Trace:\r\n\
    [    9.0]  <TASK>\r\n\
    [    9.0]  look_at_stack+0x1/0x2\r\n\
    [    9.0]  __x64_sys_bpf+0x1/0x2\r\n\
    [    9.0]  do_syscall_64+0x1/0x2\r\n\
    [    9.0]  </TASK>\r\n\
    [    9.0] ---[ end trace 0000000000000000 ]---\r\n";

/// The end of the visit of [`records`], as failed.
fn failed() -> Record {
    let reason = "the step's process took too long and was killed".into();
    Record::VisitEnd { visit: 0, step: 4, outcome: StepOutcome::Failed { reason }, at_ns: 5 }
}

fn forever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn signal_myself(signal: &str) -> ! {
    let pid = std::process::id().to_string();
    std::process::Command::new("kill").args([signal, &pid]).status().unwrap();
    forever()
}

fn play(scene: Scene, argv: &str, dir: &str) -> ! {
    if scene == BadArguments {
        eprintln!("qemu-system-x86_64: -device nonsense: 'nonsense' is not a valid device");
        std::process::exit(1);
    }
    let status = if scene == Stopped { "internal-error" } else { "running" };
    let mut stage = Stage::connect(argv, status);
    if !matches!(scene, Silence | TripleFault) {
        stage.say("[    0.000000] Linux version 6.12.117\r\n[    1.000000] Run /init\r\n");
    }
    let good = records();
    let hello = lines(&good[..1]);
    match scene {
        BadArguments => unreachable!(),
        Good | DoesNotExit => {
            stage.send(&lines(&good));
            stage.say("[    2.000000] reboot: machine restart\r\n");
            if scene == DoesNotExit {
                let event = r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "x"}}"#;
                writeln!(stage.qmp, "{event}").unwrap();
                forever();
            }
            stage.shutdown(true, "guest-reset")
        }
        Panic | StuckPanic => {
            stage.send(&lines(&good[..3]));
            // The guest dies over a record.
            stage.send(b"{\"record\":\"block\",\"st");
            stage.say("[    2.0] BUG: unable to handle page fault\r\n");
            stage.say("[    2.1] Kernel panic - not syncing: Fatal exception in interrupt\r\n");
            if scene == StuckPanic {
                forever();
            }
            stage.shutdown(true, "guest-reset")
        }
        CutPanic => {
            stage.say("[    2.1] Kernel panic - not syncing: Fatal exc");
            stage.shutdown(true, "guest-reset")
        }
        Hang | Stopped => {
            stage.send(&hello);
            forever()
        }
        Silence | NoHello => forever(),
        EarlyRestart => {
            stage.send(&hello);
            stage.shutdown(true, "guest-reset")
        }
        TripleFault => stage.shutdown(true, "guest-reset"),
        AgentGivesUp => {
            stage.say("bakeoff-agent: gives up: opening the records' port: timed out\r\n");
            stage.shutdown(true, "guest-reset")
        }
        KilledOnce if boots(Path::new(dir)) > 1 => {
            stage.send(&lines(&good));
            stage.shutdown(true, "guest-reset")
        }
        Killed | KilledOnce => {
            stage.send(&hello);
            signal_myself("-KILL")
        }
        Aborts => {
            stage.send(&hello);
            eprintln!("qemu-system-x86_64: kvm.c:3183: Assertion failed");
            signal_myself("-ABRT")
        }
        Terminated => {
            stage.send(&hello);
            stage.shutdown(false, "host-signal")
        }
        Flood => {
            stage.send(&hello);
            loop {
                stage.say("[    2.0] WARNING: CPU: 1 PID: 1 at include/linux/rwsem.h:195\r\n");
            }
        }
        Chatter => {
            stage.send(&hello);
            loop {
                stage.say("[    2.0] still here\r\n");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Busy => {
            stage.send(&lines(&good[..2]));
            let Some(Record::Block(first)) = good.get(2) else { unreachable!() };
            for block in 0.. {
                stage.send(&lines(&[Record::Block(Block { block, ..first.clone() })]));
                std::thread::sleep(Duration::from_millis(20));
            }
            forever()
        }
        Stuck | StuckStepFails => {
            let mut good = good;
            if let Some(Record::Hello(hello)) = good.first_mut() {
                hello.boot = format!("0-{:03}", boots(Path::new(dir)) - 1);
            }
            stage.send(&lines(&good[..3]));
            std::thread::sleep(Duration::from_millis(200));
            stage.say(STALL);
            if scene == StuckStepFails {
                // The agent gives up long after the report.
                std::thread::sleep(Duration::from_secs(3));
                stage.send(&lines(&[failed()]));
                forever();
            }
            loop {
                stage.say("[   24.0] still here\r\n");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        StepFailsThenStuck => {
            stage.send(&lines(&good[..3]));
            stage.send(&lines(&[failed()]));
            std::thread::sleep(Duration::from_millis(200));
            stage.say(STALL);
            forever()
        }
        Recovers => {
            stage.send(&lines(&good[..3]));
            stage.say(STALL);
            std::thread::sleep(Duration::from_secs(2));
            stage.send(&lines(&good[3..4]));
            std::thread::sleep(Duration::from_secs(3));
            stage.send(&lines(&good[4..]));
            stage.shutdown(true, "guest-reset")
        }
        Oops => {
            stage.send(&lines(&good[..3]));
            std::thread::sleep(Duration::from_millis(200));
            stage.say(OOPS);
            forever()
        }
        OopsInStep => {
            stage.send(&lines(&good[..3]));
            stage.say(OOPS);
            std::thread::sleep(Duration::from_secs(2));
            let end = End { records: 4, debug_locks: Some(true), tainted: 0, at_ns: 6 };
            stage.send(&lines(&[failed(), Record::End(end)]));
            stage.shutdown(true, "guest-reset")
        }
        Garbage => {
            stage.send(&hello);
            stage.send(b"\xff\xfe{]\n");
            forever()
        }
        LongLine => {
            stage.send(&hello);
            let chunk = vec![b'x'; 1 << 20];
            (0..100).for_each(|_| stage.send(&chunk));
            forever()
        }
        StaleBreakpoint => {
            let done = if boots(Path::new(dir)) == 1 { 3 } else { 6 };
            stage.send(&lines(&good[..done]));
            // The records' socket is another than the console's.
            std::thread::sleep(Duration::from_millis(200));
            stage.say(
                "[    2.0] Oops: int3: 0000 [#1] SMP\r\n[    2.1] Code: 1f 44 00 00 0f <1f> 44\r\n",
            );
            forever()
        }
        OtherSources | Unfit | UnfitOnce => {
            let mut records = good;
            if let Some(Record::Hello(hello)) = records.first_mut() {
                if scene == OtherSources {
                    hello.source_hash = "0123456789abcdef".into();
                } else if scene == Unfit || boots(Path::new(dir)) == 1 {
                    hello.timer_resolution_ns = 4_000_000;
                }
            }
            stage.send(&lines(&records));
            stage.shutdown(true, "guest-reset")
        }
    }
}
