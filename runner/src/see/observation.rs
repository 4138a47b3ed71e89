// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a cell's boots showed, free of paths and clocks: the oracles' input.
//!
//! An [`Observation`] is recomputed from the run directory at any time; the
//! comparison sees nothing else.

use bakeoff_fuzz::wire::{Block, End, Hello, StepOutcome};
use serde::{Deserialize, Serialize};

use crate::keep::store::{BootEnd, KernelJson};
use crate::see::observe::Note;
use crate::see::records::VisitRecord;
use crate::spec::plan::{Cell, CellId};

/// Everything known of one cell.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The planned cell.
    pub cell: Cell,
    /// How its build ended; `None` if it was never tried (interrupted).
    pub kernel: Option<KernelJson>,
    /// Paths, relative to the run: what shows how the build ended.
    pub evidence: Vec<String>,
    /// Its complete boots, in order.
    pub boots: Vec<BootObservation>,
    /// Files of this cell that could not be read: our errors, which make
    /// verdicts inconclusive and never count for or against the candidate.
    pub errors: Vec<String>,
}

impl Observation {
    /// The cell's name.
    #[must_use]
    pub fn id(&self) -> &CellId {
        &self.cell.id
    }
}

/// Everything known of one boot.
#[derive(Clone, Debug)]
pub struct BootObservation {
    /// `<shard>-<nnn>`.
    pub name: String,
    /// How it ended.
    pub end: BootEnd,
    /// Power-on to the end, seconds.
    pub seconds: f64,
    /// Power-on to Hello, seconds.
    pub hello_seconds: Option<f64>,
    /// What the guest said it is.
    pub hello: Option<Hello>,
    /// The visits that were begun, in order.
    pub visits: Vec<VisitRecord>,
    /// The End record.
    pub end_record: Option<End>,
    /// The splats on the console, in order.
    pub splats: Vec<SeenSplat>,
    /// Paths, relative to the run: console, records, end.
    pub evidence: Vec<String>,
}

impl BootObservation {
    /// Its blocks, in order.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.visits.iter().flat_map(|visit| &visit.blocks)
    }

    /// A boot in which all of it goes well, for plans.
    #[must_use]
    pub fn as_hoped(visits: &[u32]) -> BootObservation {
        let visit = |(step, number): (&u32, u32)| VisitRecord {
            number,
            step: *step,
            begin_ns: 0,
            end_ns: Some(0),
            outcome: Some(StepOutcome::Done),
            blocks: Vec::new(),
            output: None,
        };
        BootObservation {
            name: String::new(),
            end: BootEnd::Ran,
            seconds: 0.0,
            hello_seconds: None,
            hello: None,
            visits: visits.iter().zip(0..).map(visit).collect(),
            end_record: None,
            splats: Vec::new(),
            evidence: Vec::new(),
        }
    }

    /// The step that was under way when the guest ended: what it died of.
    #[must_use]
    pub fn died_in(&self) -> Option<u32> {
        self.visits.last().filter(|visit| visit.outcome.is_none()).map(|visit| visit.step)
    }
}

/// A splat as the comparison needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenSplat {
    /// Kind, from the closed set of the parser (`warning`, `lockdep-circular` …).
    pub kind: String,
    /// Title in the usual convention: `WARNING in old_lookup`.
    pub title: String,
    /// Stable identity: kind, lock classes, call chain.
    pub fingerprint: String,
    /// Raised while another report was being printed, by what that printing did.
    pub secondary: bool,
    /// Interleaved or cut: title and fingerprint are not to be trusted.
    pub corrupted: bool,
    /// Byte offset on the console.
    pub offset: u64,
    /// The report turned lockdep off.
    pub disables_lockdep: bool,
    /// What the identity is made of, in words, one a line.
    pub signature: Vec<String>,
    /// What must be kept in mind when judging by it.
    pub notes: Vec<Note>,
}

/// Observations made up for tests.
#[cfg(test)]
pub(crate) mod testing {
    use bakeoff_fuzz::wire::{Hello, StepOutcome, VERSION};

    use super::{BootEnd, BootObservation, VisitRecord};

    /// A guest with lockdep on.
    pub(crate) fn hello() -> Hello {
        Hello {
            wire: VERSION,
            source_hash: String::new(),
            boot: "0-000".into(),
            release: "6.12.117".into(),
            machine: "x86_64".into(),
            cmdline: String::new(),
            cpus_online: 2,
            clocksource: "tsc".into(),
            timer_resolution_ns: 1,
            timer_100us_measured_ns: 150_000,
            debug_locks: Some(true),
            tainted: 0,
            page_size: 4096,
            at_ns: 1,
        }
    }

    /// A visit without blocks.
    pub(crate) fn visit(step: u32, outcome: Option<StepOutcome>) -> VisitRecord {
        let end_ns = outcome.as_ref().map(|_| 2);
        VisitRecord { number: 0, step, begin_ns: 1, end_ns, outcome, blocks: vec![], output: None }
    }

    /// A boot that came up and made these visits.
    pub(crate) fn boot(end: BootEnd, visits: Vec<VisitRecord>) -> BootObservation {
        let numbered = visits.into_iter().zip(0..).map(|(v, number)| VisitRecord { number, ..v });
        let visits: Vec<VisitRecord> = numbered.collect();
        BootObservation {
            name: "0-000".into(),
            end,
            seconds: 1.0,
            hello_seconds: Some(0.5),
            hello: Some(hello()),
            visits,
            end_record: None,
            splats: vec![],
            evidence: vec![],
        }
    }
}
