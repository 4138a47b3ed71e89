//! Heads are matched without regular expressions: a scan for a handful of words finds the few lines
//! worth a look, and their patterns are literals with holes.

use super::{Role, Row, rows};
use crate::see::observe::frame::location;
use aho_corasick::{AhoCorasick, AhoCorasickBuilder, MatchKind};
use memchr::memmem;
use std::ops::Range;
use std::sync::LazyLock;

/// What the holes of a head were filled with.
///
/// `{n}` is a number, `{func}` a symbol with its offset, `{}` anything, any other name is the
/// shortest text up to what follows the hole.
#[derive(Debug, Clone, Default)]
pub struct Captures {
    filled: Vec<(&'static str, Range<usize>)>,
}

impl Captures {
    /// The text of the hole `name` in the line the head was found on.
    pub fn get<'t>(&self, name: &str, line: &'t [u8]) -> Option<&'t [u8]> {
        let (_, range) = self.filled.iter().find(|(n, _)| *n == name)?;
        line.get(range.clone())
    }

    /// The names that were filled, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.filled.iter().map(|(name, _)| *name)
    }
}

/// The words every head begins with. Few and long enough for a vectorized scan (no more than 64, of
/// four bytes at least): that is what makes a log without splats cost next to nothing. A test checks
/// that, and that they cover every row.
const NEEDLES: &[&str] = &[
    "BUG:",
    "BUG ",
    "WARNING:",
    "INFO:",
    "kernel BUG at",
    "Kernel BUG at",
    "Kernel panic - not",
    "UBSAN: ",
    "general protection fault",
    "nable to handle kernel",
    "Unhandled ",
    "Internal error: ",
    "unreferenced object",
    "divide error: ",
    "divide_error: ",
    "invalid opcode: ",
    "stack segment: ",
    "int3: 0000",
    "invalid TSS: ",
    "segment not present: ",
    "coprocessor segment overrun: ",
    "alignment check: 0000 [#",
    "bounds: 0000 [#",
    "overflow: 0000 [#",
    "VFS: ",
    "Booting the kernel",
    "Oops",
    "PANIC",
    "ard LOCKUP",
    "page allocation ",
    "vmalloc error: size ",
    "percpu: allocation failed",
    "CFI failure ",
    "nobody cared (",
    "Insufficient stack space",
    "Kernel stack overflow",
    "do_IRQ: stack overflow: ",
    "Bad Address (null pointer deref",
    "Kernel Fault: Code=",
    "Page fault: ",
    "nable to handle exception at EA",
    "SError Interrupt on CPU",
    "NMI Watchdog detected LOCKUP",
    "Detected non-responsive CSD lock",
    "Division by zero in kernel",
    "bad: scheduling from the idle",
    "ialized object, something is seriously wrong",
    ": Vector: ",
    "pagealloc: ",
    "slab error in ",
    "Slab corruption",
    "bogus return value ",
    "[#1]",
    "VERIFY",
    "Kernel bug ",
    "Reserved instruction in kernel",
    " bus error, epc == ",
    "suspected memory leaks (",
    "Alignment trap: ",
    "unregister_netdevice: waiting",
    "kernel: panicked at",
    "trusty: panic",
    "SYZFA",
];

/// The longest needle, less one: how much of a chunk's end the next one may complete.
pub(crate) const NEEDLE_REACH: usize = 44;

static SCAN: LazyLock<AhoCorasick> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the needles are constants, and tests build them")]
    AhoCorasickBuilder::new()
        .match_kind(MatchKind::LeftmostFirst)
        .build(NEEDLES)
        .expect("needles are few")
});

/// A head of the table, taken apart once: a line is matched against dozens of them.
struct Head {
    row: &'static Row,
    /// The words before its first hole.
    begin: &'static str,
    holes: Vec<Hole>,
    /// Which of [`Heads::words`] it has: without that there is no need to try.
    word: Option<usize>,
}

/// A hole of a head.
struct Hole {
    name: &'static str,
    /// The words behind it, up to the next hole.
    then: &'static str,
    find: memmem::Finder<'static>,
}

impl Head {
    fn new(row: &'static Row, head: &'static str) -> Self {
        let mut pieces = head.split('{');
        let begin = pieces.next().unwrap_or_default();
        let holes = pieces
            .map(|piece| {
                let (name, then) = piece.split_once('}').unwrap_or((piece, ""));
                Hole { name, then, find: memmem::Finder::new(then) }
            })
            .collect();
        Head { row, begin, holes, word: None }
    }

    /// Do its first words stand there? The last byte tells most heads of a needle apart.
    fn may_stand_at(&self, text: &[u8], at: usize) -> bool {
        let begin = self.begin.as_bytes();
        text.get(at + begin.len() - 1) == begin.last() && text[at..].starts_with(begin)
    }
}

/// The heads that begin with the same needle, in the order of the table.
#[derive(Default)]
struct Heads {
    heads: Vec<Head>,
    /// The longest words behind a hole, each once. Dozens of heads begin alike (`WARNING: CPU: `) and
    /// differ in the file they name: one look for that file spares the attempts.
    words: Vec<(&'static str, memmem::Finder<'static>)>,
}

/// No more of [`Heads::words`] than there are bits to remember what was found.
const MAX_WORDS: usize = 64;

impl Heads {
    fn push(&mut self, mut head: Head) {
        let longest = head.holes.iter().map(|hole| hole.then).max_by_key(|then| then.len());
        if let Some(longest) = longest.filter(|then| then.len() > 4) {
            let known = self.words.iter().position(|(word, _)| *word == longest);
            head.word = known.or_else(|| {
                let room = self.words.len() < MAX_WORDS;
                room.then(|| {
                    self.words.push((longest, memmem::Finder::new(longest)));
                    self.words.len() - 1
                })
            });
        }
        self.heads.push(head);
    }
}

/// For each needle, the heads that begin with it.
static BY_NEEDLE: LazyLock<Vec<Heads>> = LazyLock::new(|| {
    NEEDLES
        .iter()
        .map(|needle| {
            let mut heads = Heads::default();
            for row in rows() {
                for head in row.heads {
                    if needle_of(head) == Some(needle) {
                        heads.push(Head::new(row, head));
                    }
                }
            }
            heads
        })
        .collect()
});

/// Which of [`Heads::words`] stand in a text, looked for when they are first asked for.
#[derive(Default)]
struct Present {
    asked: u64,
    found: u64,
}

impl Present {
    fn has(&mut self, word: usize, heads: &Heads, text: &[u8]) -> bool {
        let bit = 1 << word;
        if self.asked & bit == 0 {
            self.asked |= bit;
            if heads.words[word].1.find(text).is_some() {
                self.found |= bit;
            }
        }
        self.found & bit != 0
    }
}

fn needle_of(head: &str) -> Option<&'static &'static str> {
    NEEDLES.iter().find(|needle| head.starts_with(**needle))
}

/// Where the next word stands that a head may begin with.
pub(crate) fn next_candidate(bytes: &[u8]) -> Option<usize> {
    SCAN.find(bytes).map(|found| found.start())
}

/// A head that was found in a message's text.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its row.
    pub row: &'static Row,
    /// What filled its holes.
    pub captures: Captures,
    /// Where in the text it begins.
    pub at: usize,
}

/// The first head in a message's text.
pub fn find_head(text: &[u8]) -> Option<Found> {
    let mut from = 0;
    let mut oops = None;
    // A message with very many candidates is noise: looking at the first few keeps it linear.
    for _ in 0..8 {
        let Some(found) = SCAN.find(&text[from..]) else {
            break;
        };
        let at = from + found.start();
        let heads = BY_NEEDLE.get(found.pattern().as_usize())?;
        let mut present = Present::default();
        for head in &heads.heads {
            let row = head.row;
            if !head.may_stand_at(text, at)
                || head.word.is_some_and(|word| !present.has(word, heads, &text[at..]))
                || row.role.only_at_start() && !opens_message(&text[..at])
                || row.role == Role::NeedsStack && is_detail(&text[at..])
                || is_of_a_program(&text[at..])
                || text.ends_with(b"messages suppressed")
                || row.name == "die" && (oops.is_some() || !dies(text, at))
                || row.name == "slab" && !names_a_cache(&text[at..])
                || row.name.starts_with("cut-") && !text.ends_with(b":")
            {
                continue;
            }
            let mut captures = Captures::default();
            if fill(&head.holes, text, at + head.begin.len(), &mut captures) {
                // `Oops: general protection fault`: what follows says more.
                if row.name == "oops" {
                    oops = Some(Found { row, captures, at });
                    break;
                }
                if row.name == "die" {
                    let (from, to) = what_died(&text[..at]);
                    captures.filled.push(("what", from..to));
                    return Some(Found { row, captures, at: from });
                }
                // `Unable` and `unable` are one word, and so are `Hard` and `hard`.
                let cut = head.begin.starts_with("nable") || head.begin.starts_with("ard LOCKUP");
                let at = if cut { at.saturating_sub(1) } else { at };
                return Some(Found { row, captures, at });
            }
        }
        from = at + 1;
    }
    oops
}

/// Messages that begin like a report and are none, a line for each.
static DETAILS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    include_str!("../benign.txt").lines().filter(|line| !line.starts_with("# ")).collect()
});

fn is_detail(text: &[u8]) -> bool {
    // Some of them name a program first.
    const WITHIN: &[&[u8]] = &[
        b"uses wireless extensions",
        b"uses deprecated v2 cap",
        b"took too long",
        // Who blocks a hung task: its own report says that it hangs.
        b"likely owned by task",
        b"likely last held by task",
        b"but the owner is not found",
        b"but the last holder is not found",
    ];
    DETAILS.iter().any(|words| text.starts_with(words.as_bytes())) || {
        let lower = text.to_ascii_lowercase();
        WITHIN.iter().any(|words| memmem::find(&lower, words).is_some())
    }
}

/// A program's fault, which the kernel reports in one line, in the words of its own:
/// `traps: prog[12] general protection fault ip:…`, `Alignment trap: prog (12) PC=…`.
fn is_of_a_program(text: &[u8]) -> bool {
    text.starts_with(b"general protection fault ip:")
        || text.starts_with(b"Alignment trap: ") && memmem::find(text, b") PC=").is_some()
        || text.starts_with(b"general protection fault") && memmem::find(text, b" sp:").is_some()
}

/// Is this the number of an oops, as `die()` prints it behind its reason? It stands at the end of the
/// message, or before the words that say how the kernel is configured.
fn dies(text: &[u8], at: usize) -> bool {
    const BEHIND: &[&[u8]] = &[
        b"PREEMPT",
        b"SMP",
        b"ARM",
        b"THUMB",
        b"NUMA",
        b"DEBUG_PAGEALLOC",
        b"KASAN",
        b"NOPTI",
        b"PTI",
    ];
    let reason = text[reason_of(&text[..at])..at].trim_ascii();
    let behind = &text[at + "[#1]".len()..];
    let behind = behind.strip_prefix(b":").unwrap_or(behind).trim_ascii();
    (4..96).contains(&reason.len())
        && reason.first().is_some_and(u8::is_ascii_alphabetic)
        && (behind.is_empty() || BEHIND.iter().any(|word| behind.starts_with(word)))
}

/// Where the reason of an oops begins: behind whatever an unknown tool put before it, as no reason
/// has such marks.
fn reason_of(text: &[u8]) -> usize {
    let mark = |b: &u8| matches!(b, b'|' | b'>' | b']' | b'#' | b';' | b'"');
    let from = text.iter().rposition(mark).map_or(0, |at| at + 1);
    from + text[from..].iter().take_while(|b| **b == b' ').count()
}

/// What happened, in the words before the number of an oops: without the task that SPARC and Alpha
/// name first, and without the code of the trap behind it.
fn what_died(text: &[u8]) -> (usize, usize) {
    let start = reason_of(text);
    let from = memmem::find(&text[start..], b"): ")
        .map(|at| start + at)
        .filter(|at| {
            text[start..*at].iter().rposition(|b| *b == b'(').is_some_and(|open| {
                let open = start + open;
                open + 1 < *at && text[open + 1..*at].iter().all(u8::is_ascii_digit)
            })
        })
        .map_or(start, |at| at + 3);
    let mut to = from + text[from..].trim_ascii_end().len();
    // `: 0005 ilc:2`, `: sig: 9`, `: 003e`
    if let Some(colon) = memmem::find(&text[from..to], b": ").map(|at| from + at)
        && (text[colon + 2..to].starts_with(b"sig: ")
            || text[colon + 2..to].iter().take(4).all(u8::is_ascii_hexdigit))
    {
        to = colon;
    }
    (from, to)
}

/// `BUG kmalloc-64 (Not tainted): `, `BUG sas_task: `; not `BUG in my program: `.
fn names_a_cache(text: &[u8]) -> bool {
    let mut words = text.split(|b| *b == b' ').skip(1);
    words.next().is_some_and(|name| {
        name.ends_with(b":") || matches!(words.next(), Some(b"(Not" | b"(Tainted:"))
    })
}

/// What may stand before a head that opens a message: the tag of the part of the kernel that always
/// prints it, or lockdep's bracket.
pub(crate) fn opens_message(before: &[u8]) -> bool {
    const TAGS: &[&[u8]] = &[
        b"",
        b"[",
        b"rcu:",
        b"watchdog:",
        b"NMI watchdog:",
        b"NMI watchdog: Watchdog detected",
        b"Watchdog detected",
        b"kmemleak:",
        b"rust_",
        b"traps:",
        b"smp: csd:",
        // MIPS: which bus.
        b"Data",
        b"Instruction",
    ];
    let before = before.trim_ascii();
    TAGS.contains(&before)
        // `irq 16: nobody cared`
        || before.strip_prefix(b"irq ").is_some_and(|irq| irq.iter().all(|b| b.is_ascii_digit() || *b == b':'))
        || before.strip_prefix(b"kmemleak: ").is_some_and(|count| count.starts_with(b"new") || count.first().is_some_and(u8::is_ascii_digit))
        // `watchdog: CPU 3 Hard LOCKUP`
        || before.starts_with(b"watchdog: CPU")
}

/// Fills `holes` with the text from `at` on. Holes for anything are tried shortest first:
/// `{comm}:{pid}` finds the last colon of `kworker/0:1:764`.
fn fill(holes: &[Hole], text: &[u8], at: usize, captures: &mut Captures) -> bool {
    let Some((hole, rest)) = holes.split_first() else {
        return true;
    };
    let filled = captures.filled.len();
    let mut take = |len: usize| {
        captures.filled.truncate(filled);
        if !hole.name.is_empty() {
            captures.filled.push((hole.name, at..at + len));
        }
        text[at + len..].starts_with(hole.then.as_bytes())
            && fill(rest, text, at + len + hole.then.len(), captures)
    };
    match hole.name {
        "n" | "cpu" | "pid" | "line" => {
            let digits = text[at..].iter().take_while(|b| b.is_ascii_digit());
            match digits.count() {
                0 => false,
                len => take(len),
            }
        }
        "func" | "func2" => match location(&text[at..]) {
            Some((_, after)) => take(text.len() - at - after.len()),
            None => false,
        },
        _ if hole.then.is_empty() => take(text.len() - at),
        // Few tries: a line made to match again and again is noise.
        _ => hole.find.find_iter(&text[at..]).take(4).any(&mut take),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// The scan finds every head.
    #[test]
    fn every_head_begins_with_a_needle() {
        for row in rows() {
            for head in row.heads {
                assert!(needle_of(head).is_some(), "{}: {head}", row.name);
            }
        }
        assert!(NEEDLES.iter().all(|n| (4..=NEEDLE_REACH).contains(&n.len())));
        assert!(NEEDLES.len() <= 64);
    }

    /// A row has a name of its own and says why it is there.
    #[test]
    fn names_are_unique_and_reasons_given() {
        let mut names = HashSet::new();
        for row in rows() {
            assert!(names.insert(row.name), "{} stands twice", row.name);
            assert!(row.reason.len() > 20, "{}: why?", row.name);
        }
    }

    /// A title names only what its heads capture.
    #[test]
    fn titles_name_only_what_is_captured() {
        for row in rows() {
            for hole in row.title.split('{').skip(1) {
                let name = hole.split('}').next().unwrap();
                assert!(
                    ["F", "access", "text"].contains(&name)
                        // What stands before the number of an oops.
                        || row.name == "die" && name == "what"
                        || row.heads.iter().any(|h| h.contains(&format!("{{{name}}}"))),
                    "{}: {name}",
                    row.name
                );
            }
        }
    }

    fn head(text: &str) -> Option<&'static str> {
        find_head(text.as_bytes()).map(|found| found.row.name)
    }

    /// Special rows stand before general ones.
    #[test]
    fn the_special_row_wins() {
        assert_eq!(
            head("WARNING: CPU: 0 PID: 1 at lib/refcount.c:28 refcount_warn_saturate+0x1/0x2"),
            Some("refcount")
        );
        assert_eq!(head("WARNING: CPU: 0 PID: 1 at fs/x.c:28 f+0x1/0x2"), Some("warn"));
        assert_eq!(head("WARNING: fs/x.c:28 at f+0x1/0x2, CPU#0: a b/1"), Some("warn"));
    }

    /// Whatever an architecture's `die()` says before the number of the oops is read.
    #[test]
    fn every_die_is_read() {
        for (text, what) in [
            ("addressing exception: 0005 ilc:2 [#1] SMP ", "addressing exception"),
            ("init(1): Kernel illegal instruction [#1]", "Kernel illegal instruction"),
            ("Unhandled kernel unaligned access[#1]:", "Unhandled kernel unaligned access"),
            (
                "Illegal instruction in kernel: sig: 9 [#1] PREEMPT SMP",
                "Illegal instruction in kernel",
            ),
            ("Kernel ale access[#1]:", "Kernel ale access"),
            ("Bad pagetable: 000d [#1] SMP", "Bad pagetable"),
        ] {
            let found = find_head(text.as_bytes()).unwrap();
            assert_eq!(found.row.name, "die", "{text}");
            assert_eq!(found.captures.get("what", text.as_bytes()), Some(what.as_bytes()));
        }
        for (text, row) in [
            ("Oops: 0000 [#1] PREEMPT SMP", "oops"),
            ("Internal error: Oops: 5 [#1] PREEMPT SMP ARM", "internal-error"),
            ("Kernel bug detected[#1]:", "mips-bug"),
            ("Oops#: 0001", "oops"),
        ] {
            assert_eq!(head(text), Some(row), "{text}");
        }
    }

    /// What only resembles a report opens none.
    #[test]
    fn what_is_no_report_is_none() {
        for text in [
            "INFO: lockdep is turned off.",
            "INFO: task a:1 is blocked on a mutex likely owned by task b:2.",
            "INFO: task a:1 <reader> blocked on an rw-semaphore likely owned by task b:2 <writer>",
            "INFO: task a:1 is blocked on a semaphore, but the last holder is not found.",
            "INFO: The task a:1 has been waiting for writeback completion for more than 1200 seconds",
            "rcu: INFO: Expedited stall ended before state dump start",
            "smp: csd: CSD lock (#1) got unstuck on CPU#00, CPU#01 released the lock.",
            "VFS: Mounted root (ext4 filesystem) readonly on device 254:0.",
            "EXT4-fs (vda): INFO: recovery required on readonly filesystem",
            "INFO: NMI handler (lab_nmi_handler) took too long to run: 1.043 msecs",
            "x86/cpu: SRSO: WARNING: See https://kernel.org/",
            "LOG_DEBUG: pc 00",
            "traps: prog[12] general protection fault ip:7f sp:7f error:0 in libc.so[7f]",
            "Alignment trap: prog (12) PC=0x1 Instr=0xe5 Address=0x2 FSR 0x001",
            "BUG in my program: it stops",
            "BUG: Bad page state: 12 messages suppressed",
            "see issue [#12] in the tracker",
            "[#1] fix the parser",
        ] {
            assert_eq!(head(text), None, "{text}");
        }
    }

    /// Roles say where in a message their words may stand.
    #[test]
    fn roles_say_where_they_may_stand() {
        assert!(Role::AtStart.only_at_start());
        assert!(!Role::Panic.only_at_start());
    }
}
