//! What reports look like: one row a kind of report, the reason in the row.
//!
//! A row names the words a report opens with, what it is titled, and from which stack its frame to
//! blame is taken. Rows are tried in order, so the special ones stand before the general ones.

mod pattern;
mod rows;

pub use pattern::{Captures, Found, find_head};
pub(crate) use pattern::{NEEDLE_REACH, next_candidate, opens_message};
pub use rows::{SPLATS, rows};

use crate::see::observe::Kind;

/// One kind of report.
#[derive(Debug)]
pub struct Row {
    /// Its name, unique; the fixture has it too.
    pub name: &'static str,
    /// The words it opens with, in all the wordings that kernels used. `{x}` captures, see
    /// [`Captures`].
    pub heads: &'static [&'static str],
    /// What it is.
    pub kind: KindRule,
    /// Its title. `{F}` is the frame to blame, other names are captures of the head.
    pub title: &'static str,
    /// A title for the whole class of reports (`hang in {F}`), or empty.
    pub class: &'static str,
    /// Where the frame to blame is found.
    pub blame: Blame,
    /// Functions to pass over in this kind of report only, as in
    /// `blame/machinery.tsv`.
    pub also: &'static [&'static str],
    /// How it begins, and how it relates to a report that is being printed already.
    pub role: Role,
    /// Why it has a row, and why its frame is taken from there.
    pub reason: &'static str,
}

/// How the kind follows from a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KindRule {
    /// Always this one.
    Is(Kind),
    /// From KASAN's wording and the direction of the access.
    Kasan,
    /// From KFENCE's wording.
    Kfence,
    /// From KMSAN's wording.
    Kmsan,
    /// From KCSAN's wording.
    Kcsan,
    /// From UBSAN's wording: out of bounds is a memory bug, the rest is not.
    Ubsan,
    /// [`Kind::Lockdep`] if the report's body is there, else the bare WARNING it is.
    LockdepBody,
}

/// Where the frame to blame is found. Everywhere frames of `blame/machinery.tsv`
/// and unreliable ones are passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The title has no frame.
    Nobody,
    /// The event's own stack.
    Trace,
    /// The same; without a stack the first line is a report as well.
    IfPrinted,
    /// The instruction pointer, then the event's stack.
    Fault,
    /// The function in the head, then the event's stack.
    Head,
    /// The function in the head, then the first stack, which stands right behind it.
    HeadFirst,
    /// Only the function in the head, even if it is machinery.
    HeadOnly,
    /// Where the lock is being taken, where the one it conflicts with was taken, then the stack.
    LockSites,
    /// The first lock the report names as held.
    HeldLock,
    /// Where the lock became irq-safe: the safe side is the one that is in danger.
    IrqSafeSite,
    /// The frame that dispatches to the looping code, not the place where the watchdog hit.
    Stall,
    /// The same, below the interrupt of the tick that noticed.
    Tick,
    /// The stack of the task that does not run; who waits, not how.
    Waiter,
    /// The work function named by `last function:`.
    LastFunction,
    /// The first stack of all: who allocated the object.
    FirstStack,
}

/// How a report begins, and how it relates to one that is being printed already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Always a report of its own.
    Opens,
    /// The exception behind a report whose first line was printed before it (`kernel BUG at` →
    /// `invalid opcode`); a report of its own if there is none.
    Exception,
    /// What became of the kernel after a report; a report of its own if there is none.
    Panic,
    /// Too unspecific to stand alone: a report only if a stack follows, and only at the start of
    /// a message.
    NeedsStack,
    /// All of it stands on one line, so it ends no report that is being printed; only at the start
    /// of a message.
    OneLine,
    /// Specific words that user space or a driver may also print: only at the start of a message.
    AtStart,
}

impl Role {
    pub(crate) fn only_at_start(self) -> bool {
        match self {
            Role::Opens | Role::Exception | Role::Panic => false,
            Role::NeedsStack | Role::AtStart | Role::OneLine => true,
        }
    }
}
