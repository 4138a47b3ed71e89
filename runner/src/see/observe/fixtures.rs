// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every fixture is read as its header says, and every row of the table has one.
//!
//! A fixture is a console log of our own with the expectation on top, up to the first empty line.
//! `BLESS=1 cargo test -p bakeoff fixtures` rewrites the expectations (not `ROW` and `FROM`); read
//! the diff before believing it.

use crate::see::observe::table::rows;
use crate::see::observe::{Splat, fingerprint, parse, signature};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

struct Fixture {
    path: PathBuf,
    header: String,
    log: Vec<u8>,
}

impl Fixture {
    fn field(&self, key: &str) -> Option<&str> {
        self.header.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
    }
}

fn fixtures() -> Vec<Fixture> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/splats");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let file = std::fs::read(&path).unwrap();
            let end = file
                .windows(2)
                .position(|pair| pair == b"\n\n")
                .unwrap_or_else(|| panic!("{}: no empty line", path.display()));
            Fixture {
                header: String::from_utf8(file[..end + 1].to_vec()).unwrap(),
                log: file[end + 2..].to_vec(),
                path,
            }
        })
        .collect()
}

/// What a log is expected to yield, as its header has it.
fn header(fixture: &Fixture, splats: &[Splat]) -> String {
    let mut text = String::new();
    for key in ["ROW", "FROM"] {
        let value = fixture.field(key);
        let value = value.unwrap_or_else(|| panic!("{}: no {key}", fixture.path.display()));
        let _ = writeln!(text, "{key}: {value}");
    }
    for (index, splat) in splats.iter().enumerate() {
        if index > 0 {
            let _ = writeln!(text, "AND: {}", splat.row);
        }
        let _ = writeln!(text, "TITLE: {}", splat.title);
        for alt in &splat.alt_titles {
            let _ = writeln!(text, "ALT: {alt}");
        }
        let _ = writeln!(text, "TYPE: {}", splat.kind.label());
        if let Some(source) = &splat.source {
            let _ = writeln!(text, "SOURCE: {source}");
        }
        if let Some(cpu) = splat.cpu {
            let _ = writeln!(text, "CPU: {cpu}");
        }
        if let (Some(comm), Some(pid)) = (&splat.comm, splat.pid) {
            let _ = writeln!(text, "TASK: {comm}/{pid}");
        }
        if let Some(context) = splat.context {
            let _ = writeln!(text, "CONTEXT: {context:?}");
        }
        if splat.corrupted {
            let _ = writeln!(text, "CORRUPTED: Y");
        }
        if splat.panicked {
            let _ = writeln!(text, "PANICKED: Y");
        }
        for note in &splat.notes {
            let _ = writeln!(text, "NOTE: {note:?}");
        }
        if let Some(report) = &splat.lockdep {
            let _ = writeln!(text, "LOCKDEP: {:?}", report.kind);
            for link in &report.chain {
                let at = link.at.as_ref().map_or("?", |at| at.name());
                let _ = writeln!(text, "CHAIN: #{} {} in {at}", link.index, link.class.name);
            }
            for held in &report.held {
                let at = held.at.as_ref().map_or("?", |at| at.name());
                let _ = writeln!(text, "HELD: #{} {} in {at}", held.index, held.class.name);
            }
        }
        let _ = writeln!(text, "FINGERPRINT: {}", fingerprint(splat));
    }
    text
}

/// Every fixture is read as its header says.
#[test]
fn fixtures_are_read_as_their_headers_say() {
    let bless = std::env::var_os("BLESS").is_some();
    for fixture in fixtures() {
        let splats = parse(&fixture.log);
        let found = header(&fixture, &splats);
        let row = splats.first().map_or("none", |splat| splat.row.as_str());
        assert_eq!(fixture.field("ROW"), Some(row), "{}", fixture.path.display());
        if bless {
            let mut file = found.clone().into_bytes();
            file.push(b'\n');
            file.extend_from_slice(&fixture.log);
            // Renamed, not written over: the other tests are reading.
            let new = fixture.path.with_extension("new");
            std::fs::write(&new, file).unwrap();
            std::fs::rename(&new, &fixture.path).unwrap();
        } else {
            assert_eq!(fixture.header, found, "{}", fixture.path.display());
        }
    }
}

/// Every row of the table has a fixture.
#[test]
fn every_row_has_a_fixture() {
    let have: BTreeSet<String> =
        fixtures().iter().filter_map(|fixture| Some(fixture.field("ROW")?.to_owned())).collect();
    let missing: Vec<&str> =
        rows().map(|row| row.name).filter(|name| !have.contains(*name)).collect();
    assert!(missing.is_empty(), "no fixture for {missing:?}");
}

/// `table/sources.tsv`: for each row, where the kernel prints its words.
struct Printed {
    row: &'static str,
    file: &'static str,
    words: &'static str,
    kernels: &'static str,
}

fn sources() -> Vec<Printed> {
    include_str!("table/sources.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [row, file, words, kernels] = fields[..] else { panic!("four fields: {line}") };
            Printed { row, file, words, kernels }
        })
        .collect()
}

/// Every row says where in the kernel its words are printed, and nothing else does.
#[test]
fn every_row_names_its_source() {
    let sources = sources();
    let named: BTreeSet<&str> = sources.iter().map(|source| source.row).collect();
    let known: BTreeSet<&str> = rows().map(|row| row.name).collect();
    assert_eq!(named, known);
    assert!(sources.is_sorted_by_key(|source| source.row));
    for source in sources {
        let elsewhere = source.words == "-";
        assert_eq!(elsewhere, source.kernels == "-", "{}", source.row);
        assert!(elsewhere || source.file.contains('/'), "{}", source.row);
    }
}

/// The reference of the rows: words, file and kernel, fixture.
fn reference() -> String {
    let mut text = String::from(
        // REUSE-IgnoreStart
        "<!-- SPDX-License-Identifier: MIT OR Apache-2.0 -->\n\
         <!-- Generated: `BAKEOFF_WRITE_DOCS=1 cargo test -p bakeoff kernel_reports` writes it anew. -->\n\
         # Kernel reports that are read\n\n\
         Each kind of report is a row of `runner/src/see/observe/table/rows`, with the reason for it. \
         This table says where the kernel prints its words, in which kernels that was read (Debian's \
         6.1.192, 6.12.117 and 7.2.13), and which fixtures of `runner/tests/fixtures/splats` have \
         it. Boots of ours provoked those that say so; the others were written after the kernel's \
         source. What is in no kernel of today is kept for old logs.\n\n\
         | row | title | printed by | words | kernels | fixtures |\n\
         |---|---|---|---|---|---|\n",
        // REUSE-IgnoreEnd
    );
    let fixtures = fixtures();
    let cell = |text: &str| text.replace('|', "\\|");
    for source in sources() {
        let Some(row) = rows().find(|row| row.name == source.row) else { continue };
        let have: Vec<String> = fixtures
            .iter()
            .filter(|fixture| fixture.field("ROW") == Some(source.row))
            .map(|fixture| {
                let stem = fixture.path.file_stem().unwrap_or_default().to_string_lossy();
                // `6.12.117 of ours (arm64), provoked by …`
                let boot = fixture
                    .field("FROM")
                    .is_some_and(|from| from.starts_with(|first: char| first.is_ascii_digit()));
                if boot { format!("{stem} (boot)") } else { stem.into_owned() }
            })
            .collect();
        let words = match source.words {
            "-" => "-".to_owned(),
            words => format!("`{}`", cell(words)),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {words} | {} | {} |",
            source.row,
            cell(row.title),
            source.file,
            source.kernels,
            have.join(", ")
        );
    }
    text.push_str(READING);
    text
}

/// How the kernels were read, and what was left out.
const READING: &str = r#"
## How the kernels were read

The three source trees were searched for every format string that looks like a report, in three ways; the lists of one kernel were then compared with those of the next. Unpack `linux-source-6.1`, `linux-source-6.12` or `linux-source-7.2`, and in the tree:

```
# 1. what calls itself a bug
grep -rnE --include='*.[chS]' '"[^"]*(BUG|WARNING|INFO|PANIC|UBSAN|Oops)[: ][^"]*"' \
    arch block drivers fs include init io_uring ipc kernel lib mm net security virt
# 2. what shows a stack without WARN()
grep -rnE -B8 --include='*.[ch]' \
    '\b(dump_stack(_lvl)?|show_stack(_regs)?|show_regs|dump_backtrace|trigger_(all|single)_cpu_backtrace|sched_show_task|dump_cpu_task) *\(' \
    arch block drivers/base fs include init io_uring ipc kernel lib mm net security virt | grep '"'
# 3. what is printed as an emergency or an alert, and what kills
grep -rnE -A1 --include='*.[chS]' \
    '(pr_emerg|pr_alert|KERN_EMERG|KERN_ALERT|\bpanic\(|\bdie(_if_kernel)?\()' \
    arch block fs include init io_uring ipc kernel lib mm net security virt | grep '"'
```

What 7.2 words otherwise than 6.12: a WARN names its place first (`WARNING: FILE:LINE at F, CPU#N: COMM/PID`), a hung task may wait `in I/O wait` and its blocker is shown behind it, the NMI watchdog says which CPU noticed, kmemleak names the kind of object, a bad page map the level of the table; the page allocator reports stalls.

## What is deliberately no report

The kernel's own words for things that went wrong without a bug of the kernel, or that it deals with. Taken for a report, each would hide the real one that often follows:

| words | why not |
|---|---|
| `unchecked MSR access error:`, `sysfs: cannot create duplicate filename`, `hw csum failure`, `schedule_timeout: wrong timeout value`, `genirq: Flags mismatch irq`, `iounmap: bad address` | a driver's mistake that the kernel refuses and survives; the stack is a courtesy |
| `NETDEV WATCHDOG: … timed out` without WARN | a driver's message about its device; kernels that WARN are read |
| `invoked oom-killer`, `Out of memory: Killed process` | policy; a panic because of it is read |
| `mce: [Hardware Error]`, `EDAC`, `AER:`, `{1}[Hardware Error]`, `Memory failure:`, `Uhhuh. NMI received`, PowerPC's EEH | the hardware's errors; the panic or oops they end in is read |
| `EXT4-fs error`, `XFS (…): Corruption detected`, `BTRFS error`, `UBIFS error`, `GFS2: fatal:` and their kin | damage on a disk, and a file system that stops because of it; BUG() and WARN() of file systems are read |
| `traps: prog[12] general protection fault`, `prog[12]: segfault at`, `unhandled page fault` of a task | a program's fault |
| `INFO: NMI handler took too long`, `workqueue: … hogged CPU`, `perf: interrupt took too long`, `sched: CPU 1 need_resched set`, `clocksource: … unstable`, `INFO: The task … has been waiting for writeback` | advice about speed |
| `INFO: task … is blocked on a mutex likely owned by task …` | the second half of a hung task's report, whose first half is read |
| `FAULT_INJECTION: forcing a failure`, `GUP no longer grows the stack`, `FAULT_FLAG_ALLOW_RETRY missing` | asked for, or about the caller in user space |
| `BUG at %s:%d` of the maple tree and of XArray, the torture tests, the self tests of lockdep, ftrace and NMI | tests that only test kernels have |
| lines that begin with `WARNING:` or `INFO:` in a driver's remark | `runner/src/see/observe/benign.txt` lists them |
"#;

/// `docs/kernel-reports.md` is what the table, its sources and the fixtures say.
#[test]
fn kernel_reports_are_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kernel-reports.md");
    let text = reference();
    if std::env::var_os("BAKEOFF_WRITE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == text,
        "docs/kernel-reports.md is out of date: \
         `BAKEOFF_WRITE_DOCS=1 cargo test -p bakeoff kernel_reports` writes it anew"
    );
}

fn splat(name: &str) -> Splat {
    let fixture = fixtures()
        .into_iter()
        .find(|fixture| fixture.path.file_stem().is_some_and(|stem| stem == name))
        .unwrap_or_else(|| panic!("no fixture {name}"));
    parse(&fixture.log).remove(0)
}

/// Two boots, two architectures, two wordings: one bug.
#[test]
fn the_same_bug_has_one_fingerprint() {
    for same in [
        &["circular-arm64", "circular-again-arm64", "circular-x86", "circular-old"][..],
        &["circular3-arm64", "circular3-x86"],
        &["inconsistent-arm64", "inconsistent-x86"],
        &["irq-order-arm64", "irq-order-x86"],
        &["locking-bug-arm64", "locking-bug-x86"],
        &["secondary-arm64", "secondary-x86"],
        &["rcu-arm64", "rcu-old"],
        &["held-user-arm64", "held-user-old"],
    ] {
        let first = splat(same[0]);
        for other in &same[1..] {
            let other = splat(other);
            assert_eq!(signature(&other), signature(&first), "{same:?}");
            assert_eq!(fingerprint(&other), fingerprint(&first));
        }
    }
}

/// One function closes two circles over different locks: two bugs with one title, and a patch that
/// turns one into the other has changed something.
#[test]
fn two_bugs_with_one_title_have_two_fingerprints() {
    let one = splat("circular-one-title-1");
    let two = splat("circular-one-title-2");
    assert_eq!(one.title, two.title);
    assert_ne!(fingerprint(&one), fingerprint(&two));
}

/// A log may end anywhere: never a panic, never a splat that lies outside of it.
#[test]
fn fixtures_may_be_cut_anywhere() {
    for fixture in fixtures() {
        for cut in (0..fixture.log.len()).step_by(499) {
            for splat in parse(&fixture.log[..cut]) {
                assert!(splat.start <= splat.end && splat.end <= cut as u64);
            }
        }
    }
}

/// A way to pass a log on: what becomes of one message with this time and text.
type Form = (&'static str, fn(&str, &str) -> String);

fn json(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\t', "\\t")
}

/// The forms in which people post what a kernel printed.
const FORMS: &[Form] = &[
    ("console", |time, text| format!("[{time:>12}] {text}\n")),
    ("console, callers", |time, text| format!("[{time:>12}][   T42] {text}\n")),
    ("a serial server's blank", |time, text| format!("[{time:>12} ] {text}\n")),
    ("dmesg -t", |_, text| format!("{text}\n")),
    ("dmesg -T, German", |_, text| format!("[Do Mär 10 12:59:06 2022] {text}\n")),
    ("dmesg -T, Chinese", |_, text| format!("[四 2月 10 12:59:06 2022] {text}\n")),
    ("dmesg -T, Russian", |_, text| format!("[Чт фев 10 12:59:06 2022] {text}\n")),
    ("dmesg -x -T", |_, text| format!("kern  :warn  : [Thu Feb 10 12:59:06 2022] {text}\n")),
    ("dmesg --json", |time, text| {
        format!(
            "         {{\n            \"pri\": 4,\n            \"time\": {time:>12},\n            \
             \"msg\": \"{}\"\n         }},\n",
            json(text)
        )
    }),
    ("console, CRLF", |time, text| format!("[{time:>12}] {text}\r\n")),
    ("serial with levels", |time, text| format!("<4>[{time:>12}] {text}\n")),
    ("dmesg -T", |_, text| format!("[Thu Feb 10 12:59:06 2022] {text}\n")),
    ("dmesg -T, French", |_, text| format!("[jeu. févr. 10 12:59:06 2022] {text}\n")),
    ("dmesg -H", |_, text| format!("[  +0.000047] {text}\n")),
    ("dmesg -H, first of a minute", |_, text| format!("[Feb16 17:33] {text}\n")),
    ("dmesg -d", |time, text| format!("[{time:>12} <    0.000010>] {text}\n")),
    ("dmesg -td", |_, text| format!("[<    0.000010>] {text}\n")),
    ("dmesg -x", |time, text| format!("kern  :warn  : [{time:>12}] {text}\n")),
    ("dmesg -x -t", |_, text| format!("kern  :warn  : {text}\n")),
    ("dmesg --time-format iso", |_, text| format!("2022-02-10T12:59:06,123456+00:00 {text}\n")),
    ("journal, short", |_, text| format!("Feb 10 12:59:06 host kernel: {text}\n")),
    ("journal, another language", |_, text| format!("июл 27 14:08:03 host kernel: {text}\n")),
    ("journal, German", |_, text| format!("Mär 10 12:59:06 host kernel: {text}\n")),
    ("journal, French", |_, text| format!("févr. 10 12:59:06 host kernel: {text}\n")),
    ("journal, Spanish", |_, text| format!("feb 10 12:59:06 host kernel: {text}\n")),
    ("journal, Japanese", |_, text| format!(" 2月 10 12:59:06 host kernel: {text}\n")),
    ("journal, Korean", |_, text| format!(" 2월 10 12:59:06 host kernel: {text}\n")),
    ("journal, short-iso-precise", |_, text| {
        format!("2022-02-10T12:59:06.123456+01:00 host kernel: {text}\n")
    }),
    ("journal, short-precise", |_, text| format!("Feb 10 12:59:06.123456 host kernel: {text}\n")),
    ("journal, short-iso", |_, text| format!("2022-02-10T12:59:06+0100 host kernel: {text}\n")),
    ("journal, short-full", |_, text| format!("Thu 2022-02-10 12:59:06 CET host kernel: {text}\n")),
    ("journal, short-unix", |_, text| format!("1644497946.123456 host kernel: {text}\n")),
    ("journal, short-monotonic", |time, text| format!("[{time:>12}] host kernel: {text}\n")),
    ("journal, no host", |time, text| format!("[{time:>12}] kernel: {text}\n")),
    ("journal, json", |_, text| {
        format!("{{\"_TRANSPORT\":\"kernel\",\"PRIORITY\":\"4\",\"MESSAGE\":\"{}\"}}\n", json(text))
    }),
    ("journal, json-pretty", |_, text| {
        format!(
            "{{\n\t\"_TRANSPORT\" : \"kernel\",\n\t\"MESSAGE\" : \"{}\",\n\t\"PRIORITY\" : \"4\"\n}}\n",
            json(text)
        )
    }),
    ("journal, export", |_, text| {
        format!(
            "__REALTIME_TIMESTAMP=1644497946123456\nPRIORITY=4\n_TRANSPORT=kernel\nMESSAGE={text}\n\n"
        )
    }),
    ("syslog with the kernel's time", |time, text| {
        format!("Feb 10 12:59:06 host kernel: [{time:>12}] {text}\n")
    }),
    ("rsyslog's control characters", |_, text| {
        format!("2016-03-26T20:52:22.526543+00:00 host kernel: {}\n", text.replace('\t', "#011"))
    }),
    ("busybox", |_, text| format!("Feb 10 12:59:06 OpenWrt kern.warn kernel: {text}\n")),
    ("RFC 5424", |_, text| {
        format!("<4>1 2022-02-10T12:59:06.123456+00:00 host kernel - - - {text}\n")
    }),
    ("/dev/kmsg", |_, text| format!("4,1234,13977807,-;{text}\n")),
    ("netconsole", |_, text| format!("4,1234,13977807,-,caller=T1;{text}\n")),
    ("RFC 3164 with its priority", |time, text| {
        format!("<4>Feb 10 12:59:06 host kernel: [{time:>12}] {text}\n")
    }),
    ("a mail's quote, narrow", |time, text| format!(">[{time:>12}] {text}\n")),
    ("a quote of a quote of a quote", |_, text| format!(">>> {text}\n")),
    ("a bar", |time, text| format!("| [{time:>12}] {text}\n")),
    ("a mail's quote", |_, text| format!("> {text}\n")),
    ("a quote of a quote, timed", |time, text| format!("> > [{time:>12}] {text}\n")),
    ("indented", |_, text| format!("    {text}\n")),
    ("colours", |time, text| format!("\u{1b}[32m[{time:>12}] \u{1b}[0m\u{1b}[1m{text}\u{1b}[0m\n")),
    ("MediaTek", |time, text| format!("<4>[{time:>12}] (0)[2880:sync svc 43]{text}\n")),
    ("MediaTek, dash", |time, text| format!("<4>[{time:>12}]-(0)[2880:sync svc 43]{text}\n")),
    ("Samsung with the level", |time, text| {
        format!("<4>[{time:>12}] I[0:    kworker/0:1: 2880] {text}\n")
    }),
    ("Huawei", |time, text| format!("[{time:>12}][pid:2880,cpu1,init]{text}\n")),
    ("Oppo", |time, text| format!("[{time:>12}] [20220210_12:59:06.123456]@3 {text}\n")),
    ("logcat -v time", |_, text| format!("02-10 12:59:06.123 W/kernel  (    0): {text}\n")),
    ("logcat -v brief", |_, text| format!("W/kernel  (    0): {text}\n")),
    ("logcat -v year", |_, text| {
        format!("2022-02-10 12:59:06.123     0     0 W kernel  : {text}\n")
    }),
    ("Samsung", |time, text| format!("<4>[{time:>12}]  [0:    kworker/0:1: 2880] {text}\n")),
    ("logcat", |_, text| format!("02-10 12:59:06.123     0     0 W kernel  : {text}\n")),
    ("Jenkins", |time, text| format!("[2022-02-10T12:59:06.123Z] [{time:>12}] {text}\n")),
    ("Jenkins, Timestamper", |time, text| format!("12:59:06  [{time:>12}] {text}\n")),
    ("GitHub", |time, text| format!("2022-02-10T12:59:06.1234567Z [{time:>12}] {text}\n")),
    ("GitHub, no other time", |_, text| format!("2022-02-10T12:59:06.1234567Z {text}\n")),
    ("GitLab", |time, text| format!("2022-02-10T12:59:06.123456Z 01O [{time:>12}] {text}\n")),
    ("GitLab, no other time", |_, text| format!("2022-02-10T12:59:06.123456Z 01O {text}\n")),
    ("KernelCI", |time, text| format!("12:59:06.123456  <4>[{time:>12}] {text}\n")),
    ("a container", |time, text| {
        format!("2022-02-10T12:59:06.123456789Z stdout F [{time:>12}] {text}\n")
    }),
    ("a test lab", |time, text| {
        format!(
            "- {{\"dt\": \"2022-02-10\", \"lvl\": \"target\", \"msg\": \"[{time:>12}] {}\"}}\n",
            json(text)
        )
    }),
    ("a tool nobody knows", |_, text| format!("node-7 | run#12 | {text}\n")),
];

/// The forms that keep a message of several lines in one.
const WHOLE: &[Form] = &[
    ("RFC 5424, #012", |_, text| {
        format!(
            "<4>1 2022-02-10T12:59:06.123456+00:00 host kernel - - - {}\n",
            text.replace('\n', "#012").replace('\t', "#011")
        )
    }),
    ("syslog, #012", |time, text| {
        let text = text.replace('\n', "#012").replace('\t', "#011");
        format!("Feb 10 12:59:06 host kernel: [{time:>12}] {text}\n")
    }),
    ("/dev/kmsg, \\x0a", |_, text| {
        let text = text.replace('\\', "\\x5c").replace('\n', "\\x0a").replace('\t', "\\x09");
        format!("4,1234,13977807,-;{text}\n")
    }),
    ("journal, json, \\n", |_, text| {
        format!(
            "{{\"_TRANSPORT\":\"kernel\",\"MESSAGE\":\"{}\"}}\n",
            json(text).replace('\n', "\\n")
        )
    }),
];

/// The messages as the kernel hands them to loggers: one that begins with a line feed is one.
fn whole(printed: &[(String, String)]) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut open = false;
    for (time, text) in printed {
        match all.last_mut() {
            Some((_, last)) if open => {
                last.push('\n');
                last.push_str(text);
            }
            _ => all.push((time.clone(), text.clone())),
        }
        open = text.is_empty();
    }
    all
}

/// What the kernel printed, each message with its time, if the console has no more than that: then
/// it can be rendered in any form.
fn printed(log: &[u8]) -> Option<Vec<(String, String)>> {
    let text = std::str::from_utf8(log).ok()?;
    text.lines()
        .map(|line| {
            let line = line.trim_end_matches('\r');
            let (stamp, rest) = line.strip_prefix('[')?.split_once(']')?;
            let stamp = stamp.trim();
            let timed = stamp.len() > 7 && stamp.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            // A log with callers or interleaved lines says more than other forms can carry.
            let text = match rest {
                "" => "",
                rest => rest.strip_prefix(' ')?,
            };
            (timed && !text.contains("] [")).then(|| (stamp.to_owned(), text.to_owned()))
        })
        .collect()
}

/// However a log is passed on, it says the same: title, kind, who and where, the chain of locks and
/// the fingerprint.
#[test]
fn every_form_is_read_the_same() {
    let gist = |log: &[u8]| -> Vec<_> {
        let splats = parse(log).into_iter();
        splats
            .map(|splat| {
                let chain = splat.lockdep.as_ref().map(|report| report.chain.clone());
                let fingerprint = fingerprint(&splat);
                (
                    splat.title,
                    splat.kind,
                    splat.function,
                    splat.comm,
                    splat.frames,
                    chain,
                    fingerprint,
                )
            })
            .collect()
    };
    let mut rendered = 0;
    let mut wrong = Vec::new();
    for fixture in fixtures() {
        let Some(printed) = printed(&fixture.log) else { continue };
        let expected = gist(&fixture.log);
        // Without a time of the kernel's own, a lone line proves nothing, and boots are not told
        // apart.
        let lone = parse(&fixture.log).iter().any(|splat| {
            splat.row == "reboot" || splat.row.starts_with("other") && splat.frames.is_empty()
        });
        let weak = parse(&fixture.log)
            .iter()
            .any(|splat| rows().any(|row| row.name == splat.row && row.role.only_at_start()));
        if expected.is_empty() || lone {
            continue;
        }
        rendered += 1;
        for (name, form) in FORMS {
            // A shape can be learned only from several lines, once a head was found behind it.
            if *name == "a tool nobody knows" && (printed.len() < 8 || weak) {
                continue;
            }
            let log: String = printed.iter().map(|(time, text)| form(time, text)).collect();
            if gist(log.as_bytes()) != expected {
                wrong.push(format!("{}: {name}", fixture.path.display()));
            }
        }
        for (name, form) in WHOLE {
            let log: String = whole(&printed).iter().map(|(time, text)| form(time, text)).collect();
            if gist(log.as_bytes()) != expected {
                wrong.push(format!("{}: {name}", fixture.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "not read as on the console:\n{}", wrong.join("\n"));
    assert!(rendered > 40, "only {rendered} fixtures can be rendered");
}
