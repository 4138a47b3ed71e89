//! A report while it is being read: which lines belong to it, and when it is over.

use crate::see::observe::frame::may_be_frame;
use crate::see::observe::line::{Origin, Shape, decode, messages};
use crate::see::observe::table::{Blame, Captures, Role, Row, find_head, opens_message};
use memchr::{memmem, memrchr};
use std::sync::LazyLock;

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
    /// Where in the text of the head its pattern was found.
    pub(crate) found: usize,
    /// The same was printed before: it is read, and forgotten.
    pub(crate) again: bool,
    /// The prefix of the head says that the kernel printed it.
    pub(crate) kernel: bool,
    /// The shape of the words before the head, which may be a prefix that nobody knows.
    pub(crate) guess: Option<Shape>,
    /// When it was printed, by the kernel's own time stamp.
    pub(crate) seconds: Option<u64>,
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
    #[inline]
    pub(crate) fn text(&self, line: usize) -> &[u8] {
        match self.lines.get(line) {
            Some(line) => &self.raw[line.text as usize..line.end as usize],
            None => b"",
        }
    }

    #[inline]
    pub(crate) fn add(&mut self, message: &[u8], text: usize) {
        let at = self.raw.len();
        self.raw.extend_from_slice(message);
        self.lines.push(Line { text: (at + text) as u32, end: self.raw.len() as u32 });
        self.raw.push(b'\n');
    }

    #[inline]
    pub(crate) fn keep(&mut self, end: u64) {
        self.end = end;
        self.foreign = 0;
        self.kept = (self.lines.len(), self.raw.len());
    }

    /// May a message of this origin be part of it?
    #[inline]
    pub(crate) fn takes(&self, origin: Option<Origin>) -> bool {
        match (self.origin, origin) {
            (None, _) | (_, None) => true,
            (mine, theirs) => mine == theirs || (self.also.is_some() && self.also == theirs),
        }
    }

    /// What stands before the words that opened it.
    fn before(&self) -> &[u8] {
        let text = self.text(self.head);
        &text[..self.found.min(text.len())]
    }

    /// The words of a message, without what is guessed to be its prefix.
    pub(crate) fn bare<'w>(&self, words: &'w [u8]) -> &'w [u8] {
        let len = self.guess.as_ref().and_then(|shape| shape.len_in(words));
        &words[len.unwrap_or(0)..]
    }

    /// Somebody writes *about* a report: words stand before it, and nothing of one behind it.
    pub(crate) fn is_prose(&self) -> bool {
        let before = self.before();
        let tag = opens_message(before)
            // `CPU 0 Unable to handle …`, `swapper/0: page allocation failure`
            || before.starts_with(b"CPU ")
            || matches!(
                self.row.name,
                "page-allocation" | "page-allocation-stall" | "vmalloc-error" | "kobject-state"
            )
            || self.kernel;
        // Only a stack makes a number in brackets that of an oops.
        let tag = tag && self.row.name != "die";
        // Drivers say it too: `Oops: Flop reset data was not initialized, skipping`.
        let tag = tag && (self.row.name != "oops" || self.is_numbered());
        !tag && !(self.head + 1..self.lines.len()).any(|line| is_body(self.text(line)))
    }

    /// Does an oops have its number, the signal or the error code?
    fn is_numbered(&self) -> bool {
        let text = self.text(self.head);
        let words = &text[self.found.min(text.len())..];
        // `Oops: 0000`, `Oops 0002`, `Oops#: 0001`
        let code = words.iter().skip("Oops".len()).find(|b| !matches!(b, b'#' | b':' | b' '));
        memmem::find(words, b"[#").is_some()
            || memmem::find(words, b"sig: ").is_some()
            || code.is_some_and(u8::is_ascii_digit)
    }

    /// The kernel calls it a bug, and it was the kernel: that needs no stack. What it calls a warning
    /// or information must not be one of its remarks about the machine, which it makes while it
    /// boots.
    pub(crate) fn is_kernels(&self) -> bool {
        const BOOT: u64 = 10;
        match self.row.name {
            "other-bug" => self.kernel,
            "other-warning" | "other-info" => self.seconds.is_some_and(|seconds| seconds >= BOOT),
            _ => false,
        }
    }

    /// Takes off what stands before each line, if no unit of [`crate::see::observe::line`] knows it:
    /// the words before the head are a prefix if the lines around it have one of the same shape.
    pub(crate) fn learn(&mut self) {
        const LEAK: &[u8] = b"kmemleak: ";
        let before = self.before();
        if before.is_empty() {
            return;
        }
        let lengths: Vec<Option<usize>> = if before.trim_ascii().is_empty() {
            // Indented as a whole.
            let most = before.len();
            let blanks = |text: &[u8]| {
                text.iter().take(most).take_while(|b| matches!(b, b' ' | b'\t')).count()
            };
            (0..self.lines.len()).map(|line| Some(blanks(self.text(line)))).collect()
        } else if before.trim_ascii_start() == LEAK {
            // The kernel's log has the tag before each line of a leak, debugfs has none.
            let tagged = |line| self.text(line).starts_with(before).then_some(before.len());
            (0..self.lines.len()).map(tagged).collect()
        } else if opens_message(before) {
            return;
        } else {
            // The kernel's own tag may stand between the prefix and the head.
            let ends = (1..=before.len()).rev().filter(|end| before[end - 1] == b' ');
            let learned = ends.take(8).find_map(|end| {
                let shape = Shape::of(&before[..end]);
                if !shape.is_marked() {
                    return None;
                }
                let lengths: Vec<_> =
                    (0..self.lines.len()).map(|line| shape.len_in(self.text(line))).collect();
                let alike = lengths.iter().flatten().count();
                // The head itself has it by definition; a few others may by chance.
                (alike >= 3 && alike * 2 >= lengths.len()).then_some(lengths)
            });
            let Some(lengths) = learned else { return };
            lengths
        };
        for (line, len) in self.lines.iter_mut().zip(lengths) {
            line.text = line.end.min(line.text + len.unwrap_or(0) as u32);
        }
        match find_head(self.text(self.head)) {
            Some(found) => {
                self.row = found.row;
                self.captures = found.captures;
                self.found = found.at;
            }
            // It was indented further than its own pattern allows: read it as it was.
            None => self.found = 0,
        }
    }

    #[inline]
    pub(crate) fn over(&self) -> bool {
        let patience = if self.ended { PATIENCE_AFTER_END } else { PATIENCE };
        self.foreign > patience || self.age > MAX_AGE || self.flooded
    }
}

/// Rows whose first line is printed before the exception that ends the task.
const BEFORE_EXCEPTION: &[&str] = &[
    "kernel-bug",
    "corrupted-list",
    "usercopy",
    "rust-panic",
    "null-pointer",
    "page-fault",
    "user-access",
    "stack-guard",
    "unhandled-fault",
    "alignment-trap",
    "double-fault",
    "stack-overflow",
    "cfi",
    "serror",
];

/// What the kernel prints last when a report has killed it.
const CONSEQUENCES: &[&[u8]] = &[
    b"Fatal exception",
    b"panic_on_",
    b"hung_task",
    b"softlockup",
    b"RCU Stall",
    b"LOCKUP",
    b"Oops",
    b"kernel stack overflow",
    b"Attempted to kill",
    b"corrupted stack end",
    b"Aiee, killing interrupt handler",
    b"set ...",
    b"SError",
    b"Corrupt kernel stack",
    b"bad mode",
    b"Unhandled exception",
];

/// Does this head continue that report?
pub(crate) fn joins(report: &Report, row: &Row, words: &[u8]) -> bool {
    let first = |line: usize| report.lines.len() - report.head == line;
    match row.role {
        // A panic long after a report that was whole is another event, unless it says why it came.
        Role::Panic => {
            !report.ended
                || report.foreign == 0
                || CONSEQUENCES.iter().any(|why| memmem::find(words, why).is_some())
        }
        Role::Exception => {
            // The exception is the second half of a report whose first line was printed before it.
            !report.stack
                && (BEFORE_EXCEPTION.contains(&report.row.name)
                    // What was not said with the number stands before or behind it.
                    || report.row.role == Role::Exception
                        && matches!(row.name, "oops" | "die" | "xmon" | "xmon-access")
                    || report.row.name == "oops")
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
                        // What WARN() says stands before its line, on old kernels behind it.
                        | ("kobject-state", "warn" | "kobject")
                        | ("warn" | "kobject", "kobject-state")
                        | ("stack-overflow", "stack-overflow")
                        | ("cfi", "warn" | "cfi")
                        // One CPU sees that another is stuck, which prints its own stack.
                        | ("hard-lockup", "hard-lockup")
                )
                // Some architectures number the oops before they say what it is.
                || !report.stack && report.row.name == "oops" && BEFORE_EXCEPTION.contains(&row.name)
                // A check of the code that prints a stall, before the stall's own stack is out.
                || !report.stack && report.row.blame == Blame::Tick && row.name == "warn"
                // A symbolized log repeats the head for each function that was inlined; a mail
                // breaks it into two lines.
                || report.row.name == row.name
                    && (first(1) && report.text(report.head).ends_with(b"[inline]")
                        || first(2) && report.text(report.head + 1).ends_with(b"[inline]"))
                || report.row.name == "memory-leak" && row.name == "memory-leak" && first(1)
                || report.row.name == "trusty"
        }
        // The history of an object belongs to the report about it.
        Role::AtStart => {
            (report.row.name, row.name) == ("zfs-verify", "zfs-panic")
                || matches!(
                    report.row.name,
                    "slab" | "kasan" | "slab-history" | "slab-history-alloc" | "kasan-free"
                ) && row.name.starts_with("slab")
                    && !report.ended
        }
        Role::NeedsStack | Role::OneLine => false,
    }
}

/// Does a head that continues a report say better what it is?
pub(crate) fn says_more(report: &Row, row: &Row) -> bool {
    report.name == "oops" && row.name != "oops" && row.role != Role::Panic
        || (report.name, row.name) == ("zfs-verify", "zfs-panic")
}

/// What only a report has: its registers, its stack, who ran.
fn is_body(text: &[u8]) -> bool {
    const WORDS: &[&[u8]] = &[
        b"CPU:",
        b"Call Trace",
        b"Call trace",
        b"Backtrace",
        b"stack backtrace",
        b"Hardware name",
        b"Modules linked in",
        b"Pid:",
        b"Process ",
        b"RIP",
        b"EIP",
        b"PC is at",
        b"pc :",
        b"epc",
        b"NIP",
        b"Krnl PSW",
        b"Oops",
        b"Internal error",
        b"invalid opcode",
        b"---[ end trace",
        b"PGD",
        b"#PF",
        b"IP:",
        b"other info that",
        b"Read of size",
        b"Write of size",
        b"Kernel panic",
        b"Mem abort info",
    ];
    let text = text.trim_ascii_start();
    WORDS.iter().any(|word| word.first() == text.first() && text.starts_with(word))
        || may_be_frame(text) && SIZE.find(text).is_some()
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
        // What stands before the end of another report is that one's.
        if memmem::find(line, b"---[ end trace").is_some() {
            break;
        }
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
    let mut decoded = Vec::new();
    for &(start, end) in starts[..count].iter().rev() {
        let mut take = |line: &[u8], exact: bool| {
            messages(line, |m| {
                if !m.program && report.takes(m.origin) {
                    if report.lines.is_empty() {
                        report.start = base + (start + if exact { m.start } else { 0 }) as u64;
                    }
                    report.add(&line[m.start..m.end], m.text - m.start);
                }
            });
        };
        if decode(&buf[start..end], &mut decoded) {
            decoded.split(|b| *b == b'\n').for_each(|piece| take(piece, false));
        } else {
            take(&buf[start..end], true);
        }
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
                || LOCK.find(text).is_some()
                || says_taint(text)
                || is_furniture(first, text)
        }
        _ => is_furniture(first, text),
    };
    if known { Belongs::Yes } else { Belongs::No }
}

/// What stands before the size of a function.
static SIZE: LazyLock<memmem::Finder> = LazyLock::new(|| memmem::Finder::new("/0x"));
static LOCK: LazyLock<memmem::Finder> = LazyLock::new(|| memmem::Finder::new(" lock"));

/// `Not tainted`, `Tainted: G`.
fn says_taint(text: &[u8]) -> bool {
    const WORD: &str = "ainted";
    static TAINT: LazyLock<memmem::Finder> = LazyLock::new(|| memmem::Finder::new(WORD));
    TAINT
        .find_iter(text)
        .any(|at| text[..at].ends_with(b"t") || text.get(at + WORD.len()) == Some(&b':'))
}

/// [`FURNITURE`] by the first byte: most lines are asked.
static FURNITURE_BY_BYTE: LazyLock<Vec<Vec<&[u8]>>> = LazyLock::new(|| {
    (0..=u8::MAX)
        .map(|byte| FURNITURE.iter().copied().filter(|word| word.first() == Some(&byte)).collect())
        .collect()
});

fn is_furniture(first: u8, text: &[u8]) -> bool {
    FURNITURE_BY_BYTE
        .get(usize::from(first))
        .is_some_and(|words| words.iter().any(|word| text.starts_with(word)))
}

/// How lines of reports begin that are not frames.
const FURNITURE: &[&[u8]] = &[
    b"$ ",
    b"$1",
    b"$2",
    b"AS:",
    b"Allocated by",
    b"BADV",
    b"Backtrace",
    b"BadVA",
    b"Bytes ",
    b"CPU ",
    b"CPU:",
    b"CR2:",
    b"CRMD",
    b"CS:",
    b"Call Trace",
    b"Call trace",
    b"Cause :",
    b"Chain exists",
    b"Code:",
    b"Control:",
    b"DR0:",
    b"DR3:",
    b"DS:",
    b"Data abort",
    b"Dumping",
    b"EAX:",
    b"ECFG",
    b"EFLAGS",
    b"EIP is at",
    b"EIP:",
    b"ERA:",
    b"ESI:",
    b"ESP:",
    b"ESR",
    b"ESTAT",
    b"EUEN",
    b"Exception stack",
    b"FAR",
    b"FS:",
    b"Failing address",
    b"Fault in ",
    b"Flags:",
    b"Freed by",
    b"GPR",
    b"GR0",
    b"Hardware name",
    b"Hi ",
    b"I7:",
    b"IAOQ",
    b"IASQ",
    b"INFO: lockdep is",
    b"IP:",
    b"IRQ",
    b"KASAN:",
    b"Kernel ",
    b"Krnl ",
    b"LR ",
    b"Last Breaking",
    b"Last potentially",
    b"Lo ",
    b"Local variable",
    b"MSR",
    b"Mem abort",
    b"Mem-Info",
    b"Memory access",
    b"Memory state",
    b"Modules linked",
    b"NIP",
    b"NMI backtrace",
    b"Node ",
    b"ORIG_RAX",
    b"Object ",
    b"Oops",
    b"Overflow stack",
    b"P4D",
    b"PC is at",
    b"PGD",
    b"PKRU:",
    b"PREEMPT",
    b"PRID",
    b"PRMD",
    b"Padding",
    b"Pid:",
    b"Pointer tag",
    b"Possible",
    b"PrId",
    b"Preemption disabled",
    b"Process ",
    b"R10:",
    b"R13:",
    b"R:0 T:",
    b"RAX:",
    b"RBP:",
    b"RCU nest",
    b"RCU used",
    b"RDX:",
    b"REGS",
    b"RIP:",
    b"RPC:",
    b"RSP:",
    b"Read ",
    b"Redzone",
    b"Reported by",
    b"SELinux",
    b"SMP",
    b"Second to last",
    b"Sending NMI",
    b"Showing",
    b"Stack:",
    b"Status:",
    b"TPC:",
    b"TSTATE",
    b"Tainted",
    b"Task stack",
    b"The buggy",
    b"UID:",
    b"Uninit was",
    b"Workqueue",
    b"Write ",
    b"a0",
    b"a4",
    b"active_anon",
    b"and this task",
    b"backtrace",
    b"but ",
    b"caller is",
    b"context-",
    b"epc",
    b"flags:",
    b"g0",
    b"gp ",
    b"hardirqs",
    b"i0",
    b"in_atomic",
    b"inconsistent {",
    b"irq event",
    b"l0",
    b"last function",
    b"lr :",
    b"no locks",
    b"note:",
    b"o0",
    b"other info",
    b"page:",
    b"pc :",
    b"pgd",
    b"preempt_count",
    b"psr",
    b"pstate",
    b"r1",
    b"r3",
    b"r7",
    b"ra ",
    b"ra:",
    b"race at",
    b"raw:",
    b"rcu:",
    b"rcu_scheduler",
    b"read to",
    b"s0",
    b"s5",
    b"softirqs",
    b"sp :",
    b"stack backtrace",
    b"status:",
    b"t0",
    b"t8",
    b"task:",
    b"the dependencies",
    b"the existing",
    b"the shortest",
    b"unreferenced object",
    b"value changed",
    b"which ",
    b"write to",
    b"x",
];
