//! What lockdep could not see. A clean log proves something only where lockdep was looking; each
//! way it may have looked away is recognised here and named.

use crate::see::observe::table::Row;
use crate::see::observe::{Context, LockKind, Splat};
use memchr::memmem;
use serde::{Deserialize, Serialize};

/// What must be kept in mind when judging by a splat.
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
#[serde(rename_all = "kebab-case")]
pub enum Note {
    /// It was raised while another report was being printed, or by the printing itself. A result,
    /// because printing there can deadlock for real, but no second bug of whoever caused the first.
    Secondary,
    /// A flood of messages cut it: frames and locks are missing.
    CutByFlood,
    /// Lockdep saw a blocking acquisition in NMI (`{INITIAL USE} -> {IN-NMI}`), the one check of
    /// its that still works there.
    NmiUse,
    /// With this report lockdep is off: what the boot did afterwards proves nothing.
    LockdepOff,
    /// Lockdep was off when this was printed, and no earlier report on the console says why.
    LockdepOffBefore,
    /// Raised in NMI, where lockdep is switched off: an assertion that a lock is held cannot fire
    /// there, so its silence there proves nothing.
    InNmi,
}

impl Note {
    /// The note as a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Note::Secondary => {
                "It was raised while another report was being printed: a consequence, not a bug of \
                 its own."
            }
            Note::CutByFlood => "A flood of messages cut it: frames and locks may be missing.",
            Note::NmiUse => {
                "The lock is taken in NMI by an acquisition that may wait: the NMI may have \
                 interrupted the holder."
            }
            Note::LockdepOff => {
                "With this report lockdep switched itself off: the rest of the boot proves nothing \
                 about locks."
            }
            Note::LockdepOffBefore => {
                "Lockdep was off already, and nothing on the console says why: locks went unchecked \
                 for an unknown time."
            }
            Note::InNmi => {
                "Raised in NMI, where lockdep does not check: other broken lock rules do not show \
                 there."
            }
        }
    }
}

/// What to note about a splat that has just been built.
pub(crate) fn notes(splat: &Splat, row: &Row, within: bool, flooded: bool) -> Vec<Note> {
    let mut notes = Vec::new();
    if within || is_about_printing(splat) {
        notes.push(Note::Secondary);
    }
    if flooded {
        notes.push(Note::CutByFlood);
    }
    if let Some(report) = &splat.lockdep
        && report
            .message
            .as_deref()
            .is_some_and(|message| message.contains("{INITIAL USE} -> {IN-NMI}"))
    {
        notes.push(Note::NmiUse);
    }
    if switches_off(splat, row) {
        notes.push(Note::LockdepOff);
    }
    if splat.context == Some(Context::Nmi) {
        notes.push(Note::InNmi);
    }
    notes
}

/// Does lockdep give up with this report? Its own reports do, except for RCU's; so does whatever
/// taints the kernel as "lockdep now unreliable": an oops, KASAN, a bad page, a bad slab.
fn switches_off(splat: &Splat, row: &Row) -> bool {
    match &splat.lockdep {
        Some(report) => match report.kind {
            LockKind::SuspiciousRcu => false,
            LockKind::Circular
            | LockKind::Recursive
            | LockKind::IrqInversion
            | LockKind::InconsistentState
            | LockKind::WaitContext
            | LockKind::UnlockBalance
            | LockKind::HeldLockFreed
            | LockKind::InvalidNesting
            | LockKind::NonStaticKey
            | LockKind::TableOverflow
            | LockKind::LockCorrupted
            | LockKind::Internal => row.name != "lockdep-broken",
            // The workqueue's check for leaked locks only prints.
            LockKind::StillHeld => row.name != "workqueue-leak",
        },
        None => matches!(
            row.name,
            "kasan"
                | "kmsan"
                | "slab"
                | "bad-page-state"
                | "bad-page-map"
                | "null-pointer"
                | "page-fault"
                | "general-protection"
                | "divide-error"
                | "stack-segment"
                | "int3"
                | "invalid-opcode"
                | "cpu-trap"
                | "die"
                | "xmon"
                | "xmon-access"
                | "slab-old"
                | "double-fault"
                | "stack-guard"
                | "unhandled-fault"
                | "internal-error"
                | "oops"
                | "kernel-bug"
                | "corrupted-list"
                | "usercopy"
                | "rust-panic"
                | "panic"
                | "panic-tty"
                | "stack-protector"
                | "stack-end"
                | "fatal-exception"
        ),
    }
}

/// A lock inversion with the console's own locks that was found while a WARN was being printed:
/// the report is about printing under a lock, whichever lock that was.
fn is_about_printing(splat: &Splat) -> bool {
    let Some(report) = &splat.lockdep else {
        return false;
    };
    let console = |name: &str| {
        matches!(
            name,
            "console_owner" | "console_lock" | "console_srcu" | "&port_lock_key" | "&port->lock"
        )
    };
    report.classes.iter().any(|class| console(&class.name))
        && splat
            .frames
            .iter()
            .any(|frame| matches!(frame.name(), "__warn" | "__warn_printk" | "report_bug"))
        && splat.frames.iter().any(|frame| {
            matches!(frame.name(), "vprintk_emit" | "console_unlock" | "console_flush_all")
        })
}

/// Does a report say that lockdep was off when it was printed?
pub(crate) fn says_off(splat: &Splat) -> bool {
    let raw = splat.raw.as_bytes();
    memmem::find(raw, b"INFO: lockdep is turned off.").is_some()
        || memmem::find(raw, b"debug_locks = 0").is_some()
}

/// `debug_locks` is 0 at the end of a boot, and none of its splats says why: the console lost the
/// report, or something switched lockdep off in silence. Nothing is proven from an unknown point on.
pub fn off_without_a_report(splats: &[Splat], debug_locks: bool) -> bool {
    !debug_locks && !splats.iter().any(|splat| splat.notes.contains(&Note::LockdepOff))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::see::observe::parse;

    /// A panic explains why lockdep is off; an empty console does not.
    #[test]
    fn lockdep_off_needs_a_reason() {
        let splats = parse(b"Kernel panic - not syncing: x\n");
        assert!(!off_without_a_report(&splats, false));
        assert!(off_without_a_report(&[], false));
        assert!(!off_without_a_report(&[], true));
    }

    /// The same words mean nothing new once a report has said that lockdep gives up.
    #[test]
    fn only_the_unexplained_is_noted() {
        let sleep = "[    2.000000] BUG: sleeping function called from invalid context at a.c:1\n\
            [    2.000000] INFO: lockdep is turned off.\n\
            [    2.000000] Call Trace:\n[    2.000000]  f+0x1/0x2\n[    2.000000] \n";
        let splats = parse(sleep.as_bytes());
        assert_eq!(splats[0].notes, [Note::LockdepOffBefore]);
        let overflow = "[    1.000000] BUG: MAX_LOCKDEP_ENTRIES too low!\n".to_owned() + sleep;
        let splats = parse(overflow.as_bytes());
        assert_eq!(splats[0].notes, [Note::LockdepOff]);
        assert!(!splats[1].notes.contains(&Note::LockdepOffBefore));
    }
}
