// SPDX-License-Identifier: MIT OR Apache-2.0
//! What lockdep could not see: the ways it looked away, one row for each in each
//! cell. A clean console proves something only where there is none.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cell::{self, proves};
use super::row::{Place, small};
use crate::see::observation::{BootObservation, Observation};
use crate::see::observe::Note;

/// A way in which lockdep looks away.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Blind {
    /// `debug_locks` was off at the end of a boot, or during a block, and no report on its console
    /// says why.
    OffInSilence,
    /// A report said that lockdep was off already, and nothing before it says why.
    OffBefore,
    /// A report turned lockdep off; what the boot did afterwards went unchecked.
    OffAfterReport,
    /// `{INITIAL USE} -> {IN-NMI}`: the one check that works in NMI found something.
    NmiUse,
    /// Raised in NMI, where assertions about held locks are silent.
    InNmi,
    /// A report that arose while another one was being printed.
    Secondary,
    /// A report that a flood of messages cut.
    CutByFlood,
}

impl Blind {
    /// Every one, in the order of the report.
    pub const ALL: &[Blind] = &[
        Blind::OffInSilence,
        Blind::OffBefore,
        Blind::OffAfterReport,
        Blind::NmiUse,
        Blind::InNmi,
        Blind::Secondary,
        Blind::CutByFlood,
    ];

    fn of(note: Note) -> Blind {
        match note {
            Note::LockdepOffBefore => Blind::OffBefore,
            Note::LockdepOff => Blind::OffAfterReport,
            Note::NmiUse => Blind::NmiUse,
            Note::InNmi => Blind::InNmi,
            Note::Secondary => Blind::Secondary,
            Note::CutByFlood => Blind::CutByFlood,
        }
    }

    /// Its name for a reader.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Blind::OffInSilence => "off in silence",
            Blind::OffBefore => "off before",
            Blind::OffAfterReport => "off from here",
            Blind::NmiUse => "used in NMI",
            Blind::InNmi => "report in NMI",
            Blind::Secondary => "secondary",
            Blind::CutByFlood => "cut by flood",
        }
    }

    /// What follows from it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Blind::OffInSilence => {
                "debug_locks was off and no report on the console says why: locks went unchecked \
                 from an unknown point on"
            }
            Blind::OffBefore => Note::LockdepOffBefore.words(),
            Blind::OffAfterReport => Note::LockdepOff.words(),
            Blind::NmiUse => {
                "{INITIAL USE} -> {IN-NMI}: the lock is taken in NMI by an acquisition that may \
                 wait, and the NMI may have interrupted the holder"
            }
            Blind::InNmi => Note::InNmi.words(),
            Blind::Secondary => Note::Secondary.words(),
            Blind::CutByFlood => Note::CutByFlood.words(),
        }
    }
}

/// One way in which lockdep looked away in one cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BlindRow {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// The way.
    pub blind: Blind,
    /// Reports it concerns; boots, where there is no report.
    pub count: u64,
    /// Boots it concerns.
    pub boots_seen: u32,
    /// The title of the first report it concerns.
    pub example: Option<String>,
    /// What follows from it.
    pub text: String,
}

/// `debug_locks` went off in a boot, and none of its reports says why.
fn off_in_silence(boot: &BootObservation) -> bool {
    let on_at_first = boot.hello.as_ref().is_some_and(|hello| hello.debug_locks == Some(true));
    let off_at_last = boot.end_record.as_ref().is_some_and(|end| end.debug_locks == Some(false));
    let off = off_at_last || boot.blocks.iter().any(|block| !proves(block));
    let started_off = boot.hello.as_ref().is_some_and(|hello| hello.debug_locks == Some(false));
    let told = boot
        .splats
        .iter()
        .any(|splat| splat.disables_lockdep || splat.notes.contains(&Note::LockdepOff));
    (on_at_first && off || started_off) && !told
}

/// The rows of one cell, in the order of [`Blind::ALL`].
pub(super) fn rows(seen: &Observation) -> Vec<BlindRow> {
    let mut rows = Vec::new();
    for blind in Blind::ALL {
        let mut count = 0;
        let mut boots = BTreeSet::new();
        let mut example = None;
        let mut evidence = Vec::new();
        for boot in &seen.boots {
            let reports = boot.splats.iter().filter(|splat| {
                splat.notes.iter().any(|note| Blind::of(*note) == *blind)
                    || *blind == Blind::Secondary && splat.secondary
                    || *blind == Blind::OffAfterReport && splat.disables_lockdep
            });
            let mut here = 0;
            for splat in reports {
                here += 1;
                example.get_or_insert_with(|| splat.title.clone());
            }
            here += u64::from(*blind == Blind::OffInSilence && off_in_silence(boot));
            if here > 0 {
                count += here;
                boots.insert(&boot.name);
                evidence.extend(cell::console_first(boot));
            }
        }
        if count > 0 {
            rows.push(BlindRow {
                place: Place::new(seen.id(), seen.boots.len(), evidence),
                blind: *blind,
                count,
                boots_seen: small(boots.len()),
                example,
                text: blind.words().trim_end_matches('.').to_owned(),
            });
        }
    }
    rows
}
