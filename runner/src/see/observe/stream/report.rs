//! A report while it is being read: which lines belong to it, and when it is over.

use crate::see::observe::frame::may_be_frame;
use crate::see::observe::line::{Origin, messages};
use crate::see::observe::table::{Captures, Role, Row};
use memchr::{memmem, memrchr};

/// How far back the lines that introduce a head may stand.
pub(crate) const LOOK_BACK: usize = 2 * 1024;
/// A report that is larger is a flood: the rest is dropped.
pub(crate) const MAX_RAW: usize = 256 * 1024;
/// Lines of other origin or content after which a report is over.
pub(crate) const PATIENCE: u32 = 80;
/// The same, once the report said that it ends.
pub(crate) const PATIENCE_AFTER_END: u32 = 24;
/// Lines of any sort after which an unfinished report is over: bounds what a live console holds.
pub(crate) const MAX_AGE: u32 = 4000;

/// A report that is being read.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) row: &'static Row,
    pub(crate) captures: Captures,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) origin: Option<Origin>,
    /// Its lines as printed, each with its line feed.
    pub(crate) raw: Vec<u8>,
    /// Where in `raw` the texts of the messages lie.
    pub(crate) lines: Vec<Line>,
    /// Which of `lines` is the head.
    pub(crate) head: usize,
    pub(crate) panicked: bool,
    /// It was opened while the one before it, by the same thread or CPU, was not finished.
    pub(crate) within: bool,
    /// It outgrew [`MAX_RAW`].
    pub(crate) flooded: bool,
    /// A frame was printed.
    pub(crate) stack: bool,
    /// It said that it ends.
    pub(crate) ended: bool,
    /// Lines since the last that belongs to it.
    pub(crate) foreign: u32,
    pub(crate) age: u32,
    /// A second origin that may add to it: the CPU that was asked for its stack.
    pub(crate) also: Option<Origin>,
    /// `lines` and `raw` up to the last line that belongs.
    pub(crate) kept: (usize, usize),
}

/// The text of a message in [`Report::raw`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    pub(crate) text: u32,
    pub(crate) end: u32,
}

impl Report {
    pub(crate) fn text(&self, line: usize) -> &[u8] {
        match self.lines.get(line) {
            Some(line) => &self.raw[line.text as usize..line.end as usize],
            None => b"",
        }
    }

    pub(crate) fn add(&mut self, message: &[u8], text: usize) {
        let at = self.raw.len();
        self.raw.extend_from_slice(message);
        self.lines.push(Line { text: (at + text) as u32, end: self.raw.len() as u32 });
        self.raw.push(b'\n');
    }

    pub(crate) fn keep(&mut self, end: u64) {
        self.end = end;
        self.foreign = 0;
        self.kept = (self.lines.len(), self.raw.len());
    }

    /// May a message of this origin be part of it?
    pub(crate) fn takes(&self, origin: Option<Origin>) -> bool {
        match (self.origin, origin) {
            (None, _) | (_, None) => true,
            (mine, theirs) => mine == theirs || (self.also.is_some() && self.also == theirs),
        }
    }

    pub(crate) fn over(&self) -> bool {
        let patience = if self.ended { PATIENCE_AFTER_END } else { PATIENCE };
        self.foreign > patience || self.age > MAX_AGE || self.flooded
    }
}

/// Does this head continue that report?
pub(crate) fn joins(report: &Report, row: &Row) -> bool {
    match row.role {
        Role::Panic => true,
        Role::Exception => {
            // The exception is the second half of a report whose first line was printed before it.
            !report.stack
                && report.row.role == Role::Opens
                && matches!(
                    report.row.name,
                    "kernel-bug"
                        | "corrupted-list"
                        | "usercopy"
                        | "rust-panic"
                        | "null-pointer"
                        | "page-fault"
                        | "stack-guard"
                        | "unhandled-fault"
                        | "alignment-trap"
                        | "double-fault"
                )
                || !report.stack && report.row.role == Role::Exception && row.name == "oops"
        }
        Role::Opens => {
            // `kernel BUG at` behind a Rust panic, the object behind `BUG: memory leak`.
            !report.stack
                && matches!(
                    (report.row.name, row.name),
                    ("rust-panic", "kernel-bug")
                        | ("unhandled-fault", "page-fault")
                        | ("alignment-trap", "unhandled-fault")
                        | ("dentry-in-use", "warn")
                )
                // A symbolized log repeats the head for each function that was inlined.
                || report.row.name == row.name
                    && report.lines.len() - report.head == 1
                    && report.text(report.head).ends_with(b"[inline]")
                || report.row.name == "memory-leak"
                    && row.name == "memory-leak"
                    && report.lines.len() - report.head == 1
                || report.row.name == "trusty"
        }
        Role::NeedsStack | Role::AtStart | Role::OneLine => false,
    }
}

/// Takes in the lines that introduce a head: `cut here`, and what WARN() printed behind it.
pub(crate) fn look_back(buf: &[u8], line_start: usize, base: u64, report: &mut Report) {
    const LINES: usize = 8;
    let mut starts = Vec::with_capacity(LINES);
    let mut end = line_start;
    let floor = line_start.saturating_sub(LOOK_BACK);
    let mut found = None;
    while starts.len() < LINES && end > floor {
        let start = match memrchr(b'\n', &buf[floor..end - 1]) {
            Some(feed) => floor + feed + 1,
            None if base == 0 && floor == 0 => 0,
            None => break,
        };
        starts.push((start, end - 1));
        let line = &buf[start..end - 1];
        if memmem::find(line, b"[ cut here ]").is_some() {
            found = Some(starts.len());
            break;
        }
        if starts.len() == 1 && (memmem::find(line, b"=========").is_some()) {
            found = Some(1);
            break;
        }
        end = start;
    }
    let Some(count) = found else { return };
    for &(start, end) in starts[..count].iter().rev() {
        messages(&buf[start..end], |m| {
            if report.takes(m.origin) {
                if report.lines.is_empty() {
                    report.start = base + (start + m.start) as u64;
                }
                report.add(&buf[start + m.start..start + m.end], m.text - m.start);
            }
        });
    }
}

pub(crate) enum Belongs {
    Frame,
    Yes,
    Last,
    No,
}

/// Is this the sort of line that reports are made of?
pub(crate) fn belonging(text: &[u8]) -> Belongs {
    let Some(&first) = text.first() else {
        return Belongs::Yes;
    };
    if may_be_frame(text) {
        return Belongs::Frame;
    }
    if text.starts_with(b"---[ end trace") || text.starts_with(b"Rebooting in") {
        return Belongs::Last;
    }
    let known = match first {
        b' ' | b'\t' | b'=' | b'>' | b'#' | b'<' | b'{' | b'(' => true,
        b'-' => text.starts_with(b"--") || text.starts_with(b"-> "),
        b'0'..=b'9' | b'a'..=b'f' => {
            text.iter().take(8).all(u8::is_ascii_hexdigit)
                || memmem::find(text, b" lock").is_some()
                || memmem::find(text, b"tainted").is_some()
                || memmem::find(text, b"ainted:").is_some()
                || FURNITURE.iter().any(|word| text.starts_with(word))
        }
        _ => FURNITURE.iter().any(|word| text.starts_with(word)),
    };
    if known { Belongs::Yes } else { Belongs::No }
}

/// How lines of reports begin that are not frames.
const FURNITURE: &[&[u8]] = &[
    b"Call Trace",
    b"Call trace",
    b"CPU:",
    b"CPU ",
    b"Hardware name",
    b"Modules linked",
    b"RIP:",
    b"RSP:",
    b"RAX:",
    b"RDX:",
    b"RBP:",
    b"R10:",
    b"R13:",
    b"FS:",
    b"CS:",
    b"CR2:",
    b"DR0:",
    b"DR3:",
    b"Code:",
    b"PKRU:",
    b"Stack:",
    b"stack backtrace",
    b"task:",
    b"PGD",
    b"P4D",
    b"Oops",
    b"Kernel ",
    b"Dumping",
    b"pstate",
    b"pc :",
    b"lr :",
    b"sp :",
    b"x2",
    b"x1",
    b"x8",
    b"x5",
    b"x",
    b"irq event",
    b"hardirqs",
    b"softirqs",
    b"Workqueue",
    b"Read ",
    b"Write ",
    b"Allocated by",
    b"Freed by",
    b"The buggy",
    b"page:",
    b"raw:",
    b"flags:",
    b"Memory state",
    b"other info",
    b"which ",
    b"but ",
    b"the existing",
    b"Possible",
    b"Chain exists",
    b"the dependencies",
    b"and this task",
    b"the shortest",
    b"INFO: lockdep is",
    b"rcu:",
    b"NMI backtrace",
    b"Sending NMI",
    b"unreferenced object",
    b"backtrace",
    b"SMP",
    b"PREEMPT",
    b"Showing",
    b"Uninit was",
    b"Local variable",
    b"Bytes ",
    b"Memory access",
    b"Reported by",
    b"Last potentially",
    b"Second to last",
    b"context-",
    b"RCU used",
    b"rcu_scheduler",
    b"no locks",
    b"Preemption disabled",
    b"in_atomic",
    b"preempt_count",
    b"RCU nest",
    b"IRQ",
    b"Exception stack",
    b"Process ",
    b"PC is at",
    b"LR is at",
    b"pgd",
    b"Flags:",
    b"Control:",
    b"Mem abort",
    b"Data abort",
    b"Backtrace",
    b"Pointer tag",
    b"KASAN:",
    b"value changed",
    b"read to",
    b"write to",
    b"race at",
    b"Tainted",
    b"note:",
    b"EIP:",
    b"ESP:",
    b"EAX:",
    b"ESI:",
    b"DS:",
    b"NIP",
    b"LR ",
    b"MSR",
    b"GPR",
    b"REGS",
    b"IP:",
    b"inconsistent {",
    b"ORIG_RAX",
    b"Object ",
    b"Redzone",
    b"Padding",
    b"last function",
];
