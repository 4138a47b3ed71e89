// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a cell's boots showed, free of paths and clocks: the oracles' input.
//!
//! An [`Observation`] is recomputed from the run directory at any time; the
//! comparison sees nothing else.

use std::collections::BTreeMap;

use bakeoff_fuzz::wire::{Block, End, Hello, StepOutcome};
use serde::{Deserialize, Serialize};

use crate::keep::store::{BootEnd, KernelJson};
use crate::see::observe::Note;
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
    /// Which round of the cell's steps it belongs to.
    pub round: u32,
    /// How it ended.
    pub end: BootEnd,
    /// Power-on to the end, seconds.
    pub seconds: f64,
    /// Power-on to Hello, seconds.
    pub hello_seconds: Option<f64>,
    /// What the guest said it is.
    pub hello: Option<Hello>,
    /// Steps it was asked to do.
    pub asked: Vec<u32>,
    /// Steps that were begun.
    pub begun: Vec<u32>,
    /// How each step ended.
    pub steps: BTreeMap<u32, StepOutcome>,
    /// The blocks, in the order of the records.
    pub blocks: Vec<Block>,
    /// The End record.
    pub end_record: Option<End>,
    /// The splats on the console, in order.
    pub splats: Vec<SeenSplat>,
    /// Paths, relative to the run: console, records, end.
    pub evidence: Vec<String>,
}

/// A splat as the comparison needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenSplat {
    /// Kind, from the closed set of the parser (`warning`, `lockdep-circular` …).
    pub kind: String,
    /// Title in the usual convention: `WARNING in find_vma`.
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
