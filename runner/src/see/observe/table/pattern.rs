//! Heads are matched without regular expressions: a scan for a handful of words finds the few lines
//! worth a look, and their patterns are literals with holes.

use super::{Role, Row, rows};
use crate::see::observe::frame::location;
use aho_corasick::{AhoCorasick, AhoCorasickBuilder, MatchKind};
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

/// The words every head begins with. Few and long enough for a vectorized scan: that is what makes
/// a log without splats cost next to nothing. A test checks that they cover every row.
const NEEDLES: &[&str] = &[
    "BUG: ",
    "BUG ",
    "WARNING: ",
    "INFO: ",
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
    "VFS: Close: file count is 0",
    "Booting the kernel",
    "Oops",
    "PANIC: ",
    "hard LOCKUP",
    "Alignment trap: ",
    "VFS: Busy inodes",
    "unregister_netdevice: waiting",
    "kernel: panicked at",
    "trusty: panic",
    "SYZFA",
];

/// The longest needle, less one: how much of a chunk's end the next one may complete.
pub(crate) const NEEDLE_REACH: usize = 32;

static SCAN: LazyLock<AhoCorasick> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the needles are constants, and tests build them")]
    AhoCorasickBuilder::new()
        .match_kind(MatchKind::LeftmostFirst)
        .build(NEEDLES)
        .expect("needles are few")
});

/// For each needle, the heads that begin with it, in the order of the table.
static BY_NEEDLE: LazyLock<Vec<Vec<(&'static Row, &'static str)>>> = LazyLock::new(|| {
    NEEDLES
        .iter()
        .map(|needle| {
            let mut heads = Vec::new();
            for row in rows() {
                for head in row.heads {
                    if needle_of(head) == Some(needle) {
                        heads.push((row, *head));
                    }
                }
            }
            heads
        })
        .collect()
});

fn needle_of(head: &str) -> Option<&'static &'static str> {
    NEEDLES.iter().find(|needle| head.starts_with(**needle))
}

/// Where the next word stands that a head may begin with.
pub(crate) fn next_candidate(bytes: &[u8]) -> Option<usize> {
    SCAN.find(bytes).map(|found| found.start())
}

/// The first head in a message's text.
pub fn find_head(text: &[u8]) -> Option<(&'static Row, Captures)> {
    let mut from = 0;
    let mut oops = None;
    // A message with very many candidates is noise: looking at the first few keeps it linear.
    for _ in 0..8 {
        let Some(found) = SCAN.find(&text[from..]) else {
            break;
        };
        let at = from + found.start();
        let heads = BY_NEEDLE.get(found.pattern().as_usize())?;
        for (row, head) in heads {
            if row.role.only_at_start() && !opens_message(&text[..at])
                || row.role == Role::NeedsStack && is_detail(&text[at..])
            {
                continue;
            }
            let mut captures = Captures::default();
            if fill(head, text, at, &mut captures) {
                // `Oops: general protection fault`: what follows says more.
                if row.name == "oops" {
                    oops = Some((*row, captures));
                    break;
                }
                return Some((row, captures));
            }
        }
        from = at + 1;
    }
    oops
}

/// Lines that begin like a report of an unknown kind, but are part of another one or no report.
const DETAILS: &[(&[u8], &str)] = &[
    (b"INFO: lockdep is turned off", "a remark within reports"),
    (b"INFO: NMI handler ", "an NMI took long: common in guests, whatever the kernel does"),
    (b"INFO: Stall ended before", "the stall it speaks of is over"),
    (b"INFO: Slab 0x", "a detail of SLUB's reports"),
    (b"INFO: Object 0x", "a detail of SLUB's reports"),
    (b"INFO: recovery required", "a file system's journal is replayed"),
    (b"WARNING: can't access registers at", "the unwinder is stuck in assembly code"),
    (b"WARNING: stack recursion", "the unwinder is stuck within a report"),
];

fn is_detail(text: &[u8]) -> bool {
    DETAILS.iter().any(|(words, _)| text.starts_with(words))
}

/// What may stand before a head that opens a message: the tag of the part of the kernel that always
/// prints it, or lockdep's bracket.
fn opens_message(before: &[u8]) -> bool {
    matches!(before.trim_ascii(), b"" | b"[" | b"rcu:" | b"watchdog:" | b"NMI watchdog:")
}

/// Fills the holes of `pattern` with the text at `at`. Holes for anything are tried shortest first:
/// `{comm}:{pid}` finds the last colon of `kworker/0:1:764`.
fn fill(pattern: &'static str, text: &[u8], at: usize, captures: &mut Captures) -> bool {
    let Some(open) = pattern.find('{') else {
        return text[at..].starts_with(pattern.as_bytes());
    };
    let (literal, hole) = pattern.split_at(open);
    if !text[at..].starts_with(literal.as_bytes()) {
        return false;
    }
    let at = at + literal.len();
    let Some(close) = hole.find('}') else {
        return false;
    };
    let name = &hole[1..close];
    let rest = &hole[close + 1..];
    let filled = captures.filled.len();
    let mut take = |len: usize| {
        captures.filled.truncate(filled);
        if !name.is_empty() {
            captures.filled.push((name, at..at + len));
        }
        fill(rest, text, at + len, captures)
    };
    match name {
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
        _ => {
            let literal = match rest.find('{') {
                Some(open) => &rest[..open],
                None => rest,
            };
            if literal.is_empty() {
                return take(text.len() - at);
            }
            // Few tries: a line made to match again and again is noise.
            memchr::memmem::find_iter(&text[at..], literal.as_bytes()).take(4).any(&mut take)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_head_begins_with_a_needle() {
        for row in rows() {
            for head in row.heads {
                assert!(needle_of(head).is_some(), "{}: {head}", row.name);
            }
        }
        assert!(NEEDLES.iter().all(|n| n.len() <= NEEDLE_REACH));
    }

    #[test]
    fn names_are_unique_and_reasons_given() {
        let mut names = HashSet::new();
        for row in rows() {
            assert!(names.insert(row.name), "{} stands twice", row.name);
            assert!(row.reason.len() > 20, "{}: why?", row.name);
        }
    }

    #[test]
    fn titles_name_only_what_is_captured() {
        for row in rows() {
            for hole in row.title.split('{').skip(1) {
                let name = hole.split('}').next().unwrap();
                assert!(
                    ["F", "access", "text"].contains(&name)
                        || row.heads.iter().any(|h| h.contains(&format!("{{{name}}}"))),
                    "{}: {name}",
                    row.name
                );
            }
        }
    }

    fn head(text: &str) -> Option<&'static str> {
        find_head(text.as_bytes()).map(|(row, _)| row.name)
    }

    #[test]
    fn the_special_row_wins() {
        assert_eq!(
            head("WARNING: CPU: 0 PID: 1 at lib/refcount.c:28 refcount_warn_saturate+0x1/0x2"),
            Some("refcount")
        );
        assert_eq!(head("WARNING: CPU: 0 PID: 1 at fs/x.c:28 f+0x1/0x2"), Some("warn"));
        assert_eq!(head("WARNING: fs/x.c:28 at f+0x1/0x2, CPU#0: a b/1"), Some("warn"));
    }

    #[test]
    fn what_is_no_report_is_none() {
        for text in [
            "INFO: lockdep is turned off.",
            "EXT4-fs (vda): INFO: recovery required on readonly filesystem",
            "INFO: NMI handler (lab_nmi_handler) took too long to run: 1.043 msecs",
            "x86/cpu: SRSO: WARNING: See https://kernel.org/",
            "LOG_DEBUG: pc 00",
        ] {
            assert_eq!(head(text), None, "{text}");
        }
    }

    #[test]
    fn roles_say_where_they_may_stand() {
        assert!(Role::AtStart.only_at_start());
        assert!(!Role::Panic.only_at_start());
    }
}
