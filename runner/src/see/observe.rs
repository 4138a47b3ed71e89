//! A console is read once, as it arrives, and every kernel report on it becomes a [`Splat`].
//!
//! Reading is split by question, so that each can be checked alone:
//!
//! - [`mod@line`]: what did the kernel print, and which thread or CPU printed it? Consoles mix messages,
//!   and every tool that passes a log on puts its own prefix before them.
//! - [`stream`]: where does a report begin and end? [`Parser`] answers it in one pass, with bounded
//!   memory, so that it can follow a live console.
//! - [`table`]: what kind of report is it? [`table::SPLATS`] has a row for each, with its reason.
//! - [`frame`] and [`blame`]: which function is it about? `machinery.tsv` names those that only
//!   report, assert, lock or allocate on somebody's behalf.
//! - [`lockdep`]: which lock classes, in which order, in which contexts?
//! - [`fingerprint()`]: is it the same bug as that one? A title is not an identity.
//! - [`diff`]: which report of one kernel is which of another's?
//! - [`mod@explain`]: the splat in words; [`blind`]: what lockdep could not have seen.
//! - [`symbolize`]: file, line and inlined callers, if there is a vmlinux.
//!
//! Titles follow the convention that syzbot's mails made common; which waits, dispatchers and
//! reporting functions are not to blame was read in the kernel's sources and, for what the
//! convention has settled, in syzkaller's `pkg/report`. Identity does not rest on them.

pub mod blame;
pub mod blind;
mod build;
pub mod diff;
pub mod explain;
mod fingerprint;
#[cfg(test)]
mod fixtures;
pub mod frame;
pub mod kind;
pub mod line;
pub mod lockdep;
pub mod stream;
pub mod symbolize;
pub mod table;

pub use blind::Note;
pub use explain::explain;
pub use fingerprint::{fingerprint, signature};
pub use frame::{Frame, Source, Stack};
pub use kind::Kind;
pub use lockdep::{
    ChainLink, HeldLock, IrqStamp, IrqStamps, LockClass, LockKind, LockUse, LockdepReport,
};
pub use stream::{Parser, parse};

use serde::{Deserialize, Serialize};

/// One kernel report, as read from a console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Splat {
    /// The report in the words kernel developers search for: `possible deadlock in F`.
    pub title: String,
    /// Other titles the same report is known by, most specific first.
    pub alt_titles: Vec<String>,
    /// What kind of report it is.
    pub kind: Kind,
    /// The name of the row of [`table::SPLATS`] that recognised it.
    pub row: String,
    /// The function to blame, as the title names it; `None` if no frame can be trusted.
    pub function: Option<String>,
    /// Where the report says it was raised (`file:line`), as printed or as symbolized.
    pub source: Option<String>,
    /// The CPU that raised it.
    pub cpu: Option<u32>,
    /// The name of the task that was running.
    pub comm: Option<String>,
    /// The id of the task that was running.
    pub pid: Option<u32>,
    /// What the CPU was doing; `None` if the report does not tell.
    pub context: Option<Context>,
    /// The report is cut or interleaved: `frames` and `function` are not to be trusted.
    pub corrupted: bool,
    /// The kernel went on to panic because of it.
    pub panicked: bool,
    /// What must be kept in mind when judging by it.
    pub notes: Vec<Note>,
    /// Byte offset of its first line on the console.
    pub start: u64,
    /// Byte offset just past its last line.
    pub end: u64,
    /// The stack of the event itself, innermost first.
    pub frames: Vec<Frame>,
    /// Every stack printed with the report, in order, each under the line that introduced it.
    pub stacks: Vec<Stack>,
    /// What lockdep told, if lockdep spoke.
    pub lockdep: Option<LockdepReport>,
    /// The lines of the report as they were printed, other messages left out.
    pub raw: String,
}

impl Splat {
    /// The build id of the kernel, in hexadecimal, if it printed one with the splat: kernels with
    /// `STACKTRACE_BUILD_ID` end the line `CPU: 0 PID: 1 … #1 0123…` with it.
    pub fn build_id(&self) -> Option<&str> {
        self.raw.lines().filter(|line| line.contains("CPU: ") && line.contains(" Comm: ")).find_map(
            |line| {
                line.split_ascii_whitespace()
                    .rev()
                    .take(2)
                    .find(|word| word.len() == 40 && word.bytes().all(|b| b.is_ascii_hexdigit()))
            },
        )
    }
}

/// What a CPU was doing when a report was raised.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Context {
    /// A system call or a kernel thread.
    Process,
    /// A softirq, on the way out of an interrupt or with bottom halves enabled again.
    Softirq,
    /// A hardware interrupt.
    Hardirq,
    /// A non-maskable interrupt: lockdep is switched off in it.
    Nmi,
}
