// SPDX-License-Identifier: MIT OR Apache-2.0
//! A world in which a whole bake-off takes seconds: a kernel of four lines that `make`
//! builds, an emulator that plays its guests, and everything between them as it is. The
//! program, its processes, sockets, signals, caches and run directories are the real ones.
//!
//! The emulator is the program that uses this module, run again by a script in QEMU's
//! place: [`play`] reads the boot's orders from the initramfs and answers them as the
//! kernel's own text says.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bakeoff_fuzz::wire::{Block, End, Hello, Record, Share, StepOutcome, VERSION, Workload};

/// Environment of the emulator: where its world is, and its command line.
pub const WORLD: &str = "BAKEOFF_FAKE_WORLD";
pub const ARGV: &str = "BAKEOFF_FAKE_ARGV";

const MAKEFILE: &str = "\
B := $(O)
OBJECTS := $(patsubst %.c,$(B)/%.o,$(wildcard *.c))
allnoconfig:
\t@cp $(B)/$$KCONFIG_ALLCONFIG $(B)/.config
olddefconfig:
\t@true
vmlinux: $(OBJECTS)
\t@echo '  LD      vmlinux'
\t@cat $(OBJECTS) $(B)/.config > $(B)/vmlinux
\t@echo map > $(B)/System.map
$(B)/%.o: %.c
\t@echo '  CC      $*.o'
\t@cp $< $@
";

const SPEC: &str = "\
version: 1
name: fake
title: a kernel of four lines
bases: {base: {directory: ../tree}}
candidates:
  stock: {role: reference, stock: true, title: as it is}
  good: {title: answers as the reference}
  worse: {title: answers half of what is asked}
  splat: {title: warns}
architectures: [x86_64]
profiles: [@PROFILES@]
probes:
  - {probe: build_id, context: process, blocks: 2, calls-per-block: 50, block-ms: 1000, visits: 12}
claims:
  - {claim: right, question: Are ids as often right?, metric: build_id.top_frame, margin: 20 points, conditions: [build_id/process/idle]}
";

/// A world in a folder.
#[derive(Clone, Debug)]
pub struct World {
    pub dir: PathBuf,
}

impl World {
    /// Makes one; `player` is the command that plays a guest.
    pub fn make(dir: &Path, player: &[&str], profiles: &[&str]) -> World {
        let dir = dir.canonicalize().unwrap();
        let world = World { dir };
        let emulator = world.dir.join("qemu");
        let quoted: Vec<String> = player.iter().map(|word| format!("'{word}'")).collect();
        write(
            &emulator,
            &format!(
                "#!/bin/sh\ncase \"$1\" in --version) echo 'QEMU emulator version 7.2 (fake)'; \
                 exit;; esac\nexport {WORLD}='{}' {ARGV}=\"$*\"\nexec {}\n",
                world.dir.display(),
                quoted.join(" ")
            ),
        );
        fs::set_permissions(&emulator, fs::Permissions::from_mode(0o755)).unwrap();
        let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("../qemu/x86_64.yaml");
        let yaml = fs::read_to_string(real)
            .unwrap()
            .replace("program: qemu-system-x86_64", &format!("program: {}", emulator.display()))
            .replace("kconfig: [base.config, x86_64.config]", "kconfig: [base.config]");
        write(&world.dir.join("data/qemu/x86_64.yaml"), &yaml);
        for name in ["base", "lockdep", "production"] {
            let option = name.to_uppercase();
            write(
                &world.dir.join(format!("data/kconfigs/{name}.config")),
                &format!("# for the fake\nCONFIG_{option}=y\n"),
            );
        }
        fs::create_dir_all(world.dir.join("data/fuzz")).unwrap();
        write(&world.dir.join("tree/Makefile"), MAKEFILE);
        write(&world.dir.join("tree/Kconfig"), "");
        for name in ["a", "b", "c"] {
            write(&world.dir.join(format!("tree/{name}.c")), &format!("{name}\n"));
        }
        write(
            &world.dir.join("spec/bakeoff.yaml"),
            &SPEC.replace("@PROFILES@", &profiles.join(", ")),
        );
        for name in ["good", "worse", "splat"] {
            let patch = format!(
                "Subject: [PATCH] {name}\n\n---\n--- a/b.c\n+++ b/b.c\n@@ -1 +1 @@\n-b\n+{name}\n"
            );
            write(&world.dir.join(format!("spec/base/{name}/0001-x.patch")), &patch);
        }
        // An ELF header for x86-64 without segments, and the mark of the sources.
        let mut agent = vec![0; 64];
        agent[..6].copy_from_slice(b"\x7fELF\x02\x01");
        agent[18..20].copy_from_slice(&62_u16.to_le_bytes());
        agent[32..40].copy_from_slice(&64_u64.to_le_bytes());
        agent[54..56].copy_from_slice(&56_u16.to_le_bytes());
        agent.extend_from_slice(bakeoff_fuzz::SOURCE_MARK.as_bytes());
        fs::create_dir_all(world.dir.join("guests/x86_64")).unwrap();
        fs::write(world.dir.join("guests/x86_64/agent"), agent).unwrap();
        fs::create_dir_all(world.dir.join("tmp")).unwrap();
        world
    }

    /// The bake-off's folder.
    pub fn spec(&self) -> String {
        self.dir.join("spec").display().to_string()
    }

    /// A path in the world.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// `bakeoff` with these words in this world; `cache` is the folder of its cache.
    pub fn bakeoff(&self, program: &Path, cache: &str, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(words)
            .args(["--data-dir", &self.path("data"), "--cache-dir", &self.path(cache)])
            .args(["--progress", "lines"])
            .current_dir(&self.dir)
            .stdin(std::process::Stdio::null())
            .env("TMPDIR", self.dir.join("tmp"))
            .env("BAKEOFF_SECRET_FOR_A_TEST", "hunter2");
        command
    }

    /// What commands that boot are told beside that.
    pub fn machinery(&self) -> [String; 4] {
        ["--accel".into(), "tcg".into(), "--guest-dir".into(), self.path("guests")]
    }
}

pub fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Plays a guest, if this process is to; the caller's business otherwise.
pub fn play_if_asked() {
    if let (Ok(argv), Ok(world)) = (std::env::var(ARGV), std::env::var(WORLD)) {
        play(&argv, Path::new(&world));
    }
}

/// The three sockets of a guest.
struct Guest {
    console: UnixStream,
    records: UnixStream,
    qmp: UnixStream,
    sent: u64,
}

fn after<'a>(argv: &'a str, option: &str) -> &'a str {
    let (_, rest) = argv.split_once(option).unwrap_or_else(|| panic!("no {option} in {argv}"));
    rest.split_whitespace().next().unwrap()
}

impl Guest {
    fn connect(argv: &str) -> Guest {
        let connect = |id: &str| {
            let path = after(argv, &format!("socket,id={id},path="));
            // Whoever started us may be gone by now.
            UnixStream::connect(path).unwrap_or_else(|_| std::process::exit(1))
        };
        let (console, records, qmp) = (connect("console"), connect("records"), connect("qmp"));
        let mut answers = qmp.try_clone().unwrap();
        let _ = writeln!(answers, "{{\"QMP\": {{\"version\": {{}}, \"capabilities\": []}}}}");
        let (go, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let commands = BufReader::new(answers.try_clone().unwrap());
            for command in commands.lines().map_while(Result::ok) {
                let Ok(command) = serde_json::from_str::<serde_json::Value>(&command) else {
                    break;
                };
                let answer =
                    serde_json::json!({"return": {"status": "running"}, "id": command["id"]});
                let _ = writeln!(answers, "{answer}");
                if command["execute"] == "cont" {
                    let _ = go.send(());
                }
            }
            // The runner is gone: so is the guest, as QEMU would be by its death signal.
            std::process::exit(1);
        });
        if wait.recv_timeout(Duration::from_secs(60)).is_err() {
            std::process::exit(1);
        }
        Guest { console, records, qmp, sent: 0 }
    }

    fn say(&mut self, text: &[u8]) {
        if self.console.write_all(text).is_err() {
            std::process::exit(0);
        }
    }

    fn raw(&mut self, bytes: &[u8]) {
        if self.records.write_all(bytes).is_err() {
            std::process::exit(0);
        }
    }

    fn send(&mut self, record: &Record) {
        let mut line = serde_json::to_vec(record).unwrap();
        line.push(b'\n');
        self.raw(&line);
        self.sent += 1;
    }

    fn shutdown(&mut self) -> ! {
        let event = r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}"#;
        let _ = writeln!(self.qmp, "{event}");
        std::process::exit(0)
    }
}

const SPLAT: &str = "[    2.000000] ------------[ cut here ]------------\r\n\
[    2.000001] WARNING: CPU: 1 PID: 77 at mm/b.c:1 planted_check+0x11/0x20\r\n\
[    2.000002] CPU: 1 UID: 0 PID: 77 Comm: agent Not tainted 6.12.0 #1\r\n\
[    2.000003] RIP: 0010:planted_check+0x11/0x20\r\n\
[    2.000004] Call Trace:\r\n\
[    2.000005]  <TASK>\r\n\
[    2.000006]  look_at_stack+0x1/0x2\r\n\
[    2.000007]  __x64_sys_bpf+0x1/0x2\r\n\
[    2.000008]  do_syscall_64+0x1/0x2\r\n\
[    2.000009]  </TASK>\r\n\
[    2.000010] ---[ end trace 0000000000000000 ]---\r\n";

fn forever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Plays one boot. A file `fault` in the world says what goes wrong in it; the first boot
/// that finds it takes it.
pub fn play(argv: &str, world: &Path) -> ! {
    let bytes = fs::read(after(argv, "-initrd ")).unwrap_or_default();
    let image = fs::read_to_string(after(argv, "-kernel ")).unwrap_or_default();
    let start = b"{\n  \"wire\":";
    let at = bytes.windows(start.len()).position(|window| window == start).unwrap();
    let mut json = serde_json::Deserializer::from_slice(&bytes[at..]).into_iter::<Workload>();
    let workload = json.next().unwrap().unwrap();
    let taken = world.join(format!("fault-{}", std::process::id()));
    let fault = match fs::rename(world.join("fault"), &taken) {
        Ok(()) => {
            let fault = fs::read_to_string(&taken).unwrap();
            fs::remove_file(&taken).unwrap();
            fault
        }
        Err(_) => String::new(),
    };
    let slow = fs::read_to_string(world.join("slow")).ok().and_then(|ms| ms.trim().parse().ok());
    let slow = Duration::from_millis(slow.unwrap_or(1));
    let mut guest = Guest::connect(argv);
    let lockdep = image.contains("CONFIG_LOCKDEP=y");
    let debug_locks = lockdep.then_some(true);
    guest.say(
        b"[    0.000000] Linux version 6.12.0\r\n[    1.000000] Run /init as init process\r\n",
    );
    let mut hello = Hello {
        wire: VERSION,
        source_hash: bakeoff_fuzz::SOURCE_HASH.into(),
        boot: workload.boot.clone(),
        release: "6.12.0".into(),
        machine: "x86_64".into(),
        cmdline: "bakeoff.guest=1".into(),
        cpus_online: 2,
        clocksource: "tsc".into(),
        timer_resolution_ns: 1,
        timer_100us_measured_ns: 100_500,
        debug_locks,
        tainted: 0,
        page_size: 4096,
        at_ns: 1,
    };
    match fault.as_str() {
        "silent-then-killed" => signal("-KILL"),
        "lies-about-version" => hello.wire = 99,
        "lies-about-sources" => hello.source_hash = "0123456789abcdef".into(),
        "no-timers" => hello.timer_resolution_ns = 4_000_000,
        "early-restart" => guest.shutdown(),
        _ => {}
    }
    guest.send(&Record::Hello(hello));
    let mut at = 10;
    let mut now = || {
        at += 1_000;
        at
    };
    for (number, step) in workload.visits.iter().enumerate() {
        let visit = u32::try_from(number).unwrap();
        let step = workload.steps.iter().find(|known| known.id == *step).unwrap();
        guest.send(&Record::VisitBegin { visit, step: step.id, at_ns: now() });
        std::thread::sleep(slow);
        match fault.as_str() {
            "killed" => signal("-KILL"),
            "terminated" => signal("-TERM"),
            "aborts" => signal("-ABRT"),
            "stopped" => {
                // As if somebody had pressed Ctrl-Z on it, and then fg.
                let pid = std::process::id();
                let script = format!("kill -STOP {pid}; sleep 1; kill -CONT {pid}");
                let _ = Command::new("sh").args(["-c", &script]).spawn();
                std::thread::sleep(Duration::from_millis(1200));
            }
            "panic" => {
                guest.raw(b"{\"record\":\"block\",\"st");
                guest.say(b"[    2.1] Kernel panic - not syncing: planted by the campaign\r\n");
                guest.shutdown()
            }
            "hang" => forever(),
            "flood" => loop {
                guest.say(b"[    2.0] WARNING: CPU: 1 PID: 1 at include/linux/rwsem.h:195\r\n");
                // The runner has to read all of it, more than once.
                std::thread::sleep(Duration::from_millis(1));
            },
            "garbage" => {
                guest.raw(b"\xff\xfe{]\n");
                forever()
            }
            "long-line" => loop {
                guest.raw(&vec![b'x'; 1 << 20]);
            },
            "noise" => {
                let noise: Vec<u8> = (0..65_536_u32).map(|n| ((n * n) >> 7) as u8).collect();
                guest.say(&noise);
                guest.say(b"\r\n");
            }
            _ => {}
        }
        if number == 0 && image.contains("splat") {
            guest.say(SPLAT.as_bytes());
        }
        for block in 0..step.blocks {
            let of = u64::from(step.calls_per_block);
            let right = if image.contains("worse") { of / 2 } else { of };
            let share = |right| Share { of, right };
            guest.send(&Record::Block(Block {
                step: step.id,
                visit,
                block,
                at_ns: now(),
                window_ns: 500,
                debug_locks_before: debug_locks,
                debug_locks_after: debug_locks,
                calls: of,
                shares: [
                    ("build_id.all_frames".to_owned(), share(right)),
                    ("build_id.answered_right".to_owned(), Share { of: right, right }),
                    ("build_id.top_frame".to_owned(), share(right)),
                ]
                .into(),
                ..Block::default()
            }));
        }
        let outcome = StepOutcome::Done;
        guest.send(&Record::VisitEnd { visit, step: step.id, outcome, at_ns: now() });
    }
    let end = End { records: guest.sent, debug_locks, tainted: 0, at_ns: now() };
    guest.send(&Record::End(end));
    guest.say(b"[    9.000000] reboot: machine restart\r\n");
    guest.shutdown()
}

fn signal(signal: &str) -> ! {
    let pid = std::process::id().to_string();
    let _ = Command::new("kill").args([signal, &pid]).status();
    forever()
}
