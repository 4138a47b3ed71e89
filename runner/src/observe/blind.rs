//! What lockdep could not see.

use serde::{Deserialize, Serialize};

/// A caveat of a splat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Note {
    /// It was raised while another report was being printed: printing takes locks of its own. A
    /// result, but no second bug of whoever caused the first.
    Secondary,
    /// A flood of messages cut it: frames and locks are missing.
    CutByFlood,
    /// Lockdep saw a blocking acquisition in NMI (`{INITIAL USE} -> {IN-NMI}`): the one check that
    /// still works there.
    NmiUse,
    /// Lockdep has switched itself off with this report: what the boot did afterwards proves
    /// nothing.
    LockdepOff,
    /// Lockdep was off when this was printed, and no report on the console says why.
    LockdepOffBefore,
    /// Raised in NMI, where lockdep is switched off: other locking bugs there do not show.
    InNmi,
}

use crate::observe::{Context, LockKind, Splat};

/// What must be kept in mind about this splat.
pub(crate) fn notes(splat: &Splat, within: bool, flooded: bool) -> Vec<Note> {
    let mut notes = Vec::new();
    if within {
        notes.push(Note::Secondary);
    }
    if flooded {
        notes.push(Note::CutByFlood);
    }
    if let Some(report) = &splat.lockdep {
        if report
            .message
            .as_deref()
            .is_some_and(|m| m.contains("{INITIAL USE} -> {IN-NMI}"))
        {
            notes.push(Note::NmiUse);
        }
        if !matches!(
            report.kind,
            LockKind::SuspiciousRcu | LockKind::Internal | LockKind::LockCorrupted
        ) {
            notes.push(Note::LockdepOff);
        }
    }
    if splat.context == Some(Context::Nmi) {
        notes.push(Note::InNmi);
    }
    notes
}
