// SPDX-License-Identifier: MIT OR Apache-2.0
//! Observations for tests, told as stories: a clean cell first, then what
//! happened to it.

use std::collections::BTreeMap;

use bakeoff_fuzz::wire::{
    Block, Context, Counts, End, Hello, Interface, Score, Stack, Step, StepOutcome, Stop, Stress,
};

use super::{CandidateInfo, Effect, Subject};
use crate::keep::store::{BootEnd, BuildSeconds, KernelJson, KernelOutcome};
use crate::see::observation::{BootObservation, Observation, SeenSplat};
use crate::spec::plan::{Cell, CellId, Planned};
use crate::spec::{Gate, KnownSplat, Prediction, Role};

pub(crate) const PROCESS: u32 = 0;
pub(crate) const HARDIRQ: u32 = 1;

fn step(id: u32, context: Context, period_us: Option<u32>, blocks: u32, calls: u32) -> Step {
    Step {
        id,
        probe: "build_id".into(),
        context,
        stress: Stress::Idle,
        period_us,
        blocks,
        calls_per_block: calls,
        block_ms: 4000,
        interface: Interface::default(),
        stack: Stack::default(),
        writer_duty: None,
        stop: Stop::default(),
    }
}

pub(crate) fn steps() -> Vec<Step> {
    vec![
        step(PROCESS, Context::Process, None, 20, 1000),
        step(HARDIRQ, Context::Hardirq, Some(4000), 10, 200),
    ]
}

fn role(candidate: &str) -> Role {
    match candidate {
        "landed" => Role::Reference,
        "as-reported" => Role::Control,
        _ => Role::Contender,
    }
}

/// The bake-off find-vma, as its spec describes it.
pub(crate) fn subject() -> Subject {
    let candidate = |name: &str, title: &str, untested: Option<&str>| CandidateInfo {
        name: name.into(),
        role: role(name),
        title: title.into(),
        untested: untested.map(str::to_owned),
        tested_by: None,
    };
    Subject {
        steps: steps().into_iter().map(Planned::from).collect(),
        claim: None,
        candidates: vec![
            candidate("landed", "ordinary owner trylock, released for lockdep late", None),
            candidate("as-reported", "mmap_read_trylock_non_owner() under the assertion", None),
            candidate("no-check-helper", "find_vma_no_check(), without the assertion", None),
            candidate("peter-removal", "no lookup at all, every entry becomes an IP", None),
            candidate(
                "lockless-tree",
                "lockless lookup in the maple tree",
                Some("correctness under churn (a mapping that changes its file meanwhile)"),
            ),
        ],
        gates: vec![
            Gate::NoAddedSplats,
            Gate::ControlSplatRemoved,
            Gate::RateAtLeast {
                metric: "build_id.top_frame".into(),
                context: Some(Context::Process),
                probe: None,
                rate: 0.999,
            },
            Gate::NotWorse,
        ],
        predictions: predictions(),
        known: vec![KnownSplat {
            pattern: "WARNING: kmalloc bug in lab_*".into(),
            reason: "the lab driver takes a size from user space".into(),
            link: "https://lore.kernel.org/r/lab".into(),
            expires: "2999-12-31".into(),
        }],
    }
}

/// One that holds, one that does not, one that nobody tested.
fn predictions() -> Vec<Prediction> {
    let about = |candidate: &str, says: &str, holds_if| Prediction {
        candidate: candidate.into(),
        says: says.into(),
        holds_if,
    };
    let at_most = |rate| Gate::RateAtMost {
        metric: "build_id.top_frame".into(),
        context: None,
        probe: None,
        rate,
    };
    vec![
        about("peter-removal", "answers nothing", at_most(0.01)),
        about("landed", "answers nothing", at_most(0.01)),
        about(
            "lockless-tree",
            "gives legal pairs",
            Gate::FindingIs { oracle: "flip".into(), is: vec![Effect::Same] },
        ),
    ]
}

pub(crate) fn hello() -> Hello {
    Hello {
        wire: 1,
        source_hash: "0".into(),
        boot: "0-000".into(),
        release: "6.12.117".into(),
        machine: "x86_64".into(),
        cmdline: "ignore_loglevel".into(),
        cpus_online: 2,
        clocksource: "tsc".into(),
        timer_resolution_ns: 1,
        timer_100us_measured_ns: 150_000,
        debug_locks: Some(true),
        tainted: 0,
        page_size: 4096,
        at_ns: 1_000_000_000,
    }
}

fn blocks(step: &Step) -> Vec<Block> {
    let calls = u64::from(step.calls_per_block);
    let right = Score { valid: calls, correct: calls };
    let block = |block| Block {
        step: step.id,
        block,
        at_ns: 0,
        window_ns: 1_000_000_000,
        debug_locks_before: Some(true),
        debug_locks_after: Some(true),
        counts: Counts { calls, top: right, all: right, frames: 5 * calls, ..Counts::default() },
    };
    (0..step.blocks).map(block).collect()
}

fn boot(cell: &CellId, name: &str, round: u32) -> BootObservation {
    let dir = format!(
        "cells/{}/{}/{}/{}/boots/{name}",
        cell.base, cell.candidate, cell.arch, cell.profile
    );
    BootObservation {
        name: name.into(),
        round,
        end: BootEnd::Ran,
        seconds: 30.5,
        hello_seconds: Some(1.4),
        hello: Some(hello()),
        asked: steps().iter().map(|s| s.id).collect(),
        begun: steps().iter().map(|s| s.id).collect(),
        steps: steps().iter().map(|s| (s.id, StepOutcome::Done)).collect(),
        blocks: steps().iter().flat_map(blocks).collect(),
        end_record: Some(End { records: 34, debug_locks: Some(true), tainted: 0, at_ns: 1 }),
        splats: Vec::new(),
        evidence: ["console.log", "records.jsonl", "end.json"]
            .iter()
            .map(|file| format!("{dir}/{file}"))
            .collect(),
    }
}

/// A cell in which everything went well: built, booted, all steps done, every
/// call answered rightly. The reference has two rounds.
pub(crate) fn clean(candidate: &str, arch: &str) -> Observation {
    let role = role(candidate);
    let id = CellId {
        base: "6.12".into(),
        candidate: candidate.into(),
        arch: arch.into(),
        profile: "lockdep".into(),
    };
    let rounds = if role == Role::Reference { 2 } else { 1 };
    let boots = (0..rounds).map(|round| boot(&id, &format!("0-00{round}"), round)).collect();
    Observation {
        evidence: vec![format!("cells/6.12/{candidate}/{arch}/lockdep/kernel.json")],
        cell: Cell {
            id,
            role,
            foreign: false,
            patches: Vec::new(),
            not_portable: None,
            rounds,
            boots: 1,
        },
        kernel: Some(KernelJson {
            store_version: 1,
            outcome: KernelOutcome::Built {
                key: "k".into(),
                image_sha256: "0".into(),
                from_cache: false,
                objects: Some(12),
                sandbox: "none: trusted".into(),
                make: "make".into(),
            },
            patches: Vec::new(),
            seconds: BuildSeconds { copy: 2.5, make: 11.25, cached: None },
        }),
        boots,
        errors: Vec::new(),
    }
}

/// What may happen to a clean cell.
pub(crate) trait Story: Sized {
    /// A splat, so many times in each boot.
    fn splats(self, title: &str, times: u32) -> Self;
    /// The last splat of each boot is changed.
    fn last_splat(self, change: impl Fn(&mut SeenSplat)) -> Self;
    /// So many calls of each block of a step are answered.
    fn answers(self, step: u32, per_block: u64) -> Self;
    /// Every boot ended like this, in the step, without an End record.
    fn dies(self, end: BootEnd, in_step: u32) -> Self;
    /// Its kernel came out like this, and no boot was made.
    fn builds(self, outcome: KernelOutcome) -> Self;
    /// From this block of each boot on, lockdep was off.
    fn lockdep_off_after(self, blocks: usize) -> Self;
    /// A step ended like this and took no block.
    fn step_ends(self, step: u32, outcome: StepOutcome) -> Self;
    /// Only boots that are kept.
    fn boots(self, keep: impl Fn(&BootObservation) -> bool) -> Self;
    /// Another profile.
    fn profile(self, name: &str) -> Self;
}

impl Story for Observation {
    fn splats(mut self, title: &str, times: u32) -> Self {
        for boot in &mut self.boots {
            for n in 0..times {
                boot.splats.push(SeenSplat {
                    kind: "warning".into(),
                    title: title.into(),
                    fingerprint: format!("fp-{}", title.replace(' ', "-")),
                    secondary: false,
                    corrupted: false,
                    offset: 4096 + u64::from(n),
                    disables_lockdep: false,
                    signature: vec!["warning".into(), title.into()],
                    notes: Vec::new(),
                });
            }
        }
        self
    }

    fn last_splat(mut self, change: impl Fn(&mut SeenSplat)) -> Self {
        self.boots.iter_mut().filter_map(|boot| boot.splats.last_mut()).for_each(change);
        self
    }

    fn answers(mut self, step: u32, per_block: u64) -> Self {
        let blocks = self.boots.iter_mut().flat_map(|boot| &mut boot.blocks);
        for block in blocks.filter(|b| b.step == step) {
            let score = Score { valid: per_block, correct: per_block };
            block.counts.top = score;
            block.counts.all = score;
        }
        self
    }

    fn dies(mut self, end: BootEnd, in_step: u32) -> Self {
        for boot in &mut self.boots {
            boot.end = end.clone();
            boot.end_record = None;
            boot.begun.retain(|step| *step <= in_step);
            boot.steps.retain(|step, _| *step < in_step);
            boot.blocks.retain(|block| block.step < in_step);
            if matches!(end, BootEnd::DidNotBoot { .. }) {
                boot.hello = None;
                boot.hello_seconds = None;
                boot.begun.clear();
                boot.steps = BTreeMap::new();
                boot.blocks.clear();
            }
        }
        self
    }

    fn builds(mut self, outcome: KernelOutcome) -> Self {
        if let Some(kernel) = &mut self.kernel {
            kernel.outcome = outcome;
        }
        self.boots.clear();
        self
    }

    fn lockdep_off_after(mut self, blocks: usize) -> Self {
        for boot in &mut self.boots {
            for (at, block) in boot.blocks.iter_mut().enumerate() {
                block.debug_locks_before = Some(at <= blocks);
                block.debug_locks_after = Some(at < blocks);
            }
        }
        self
    }

    fn step_ends(mut self, step: u32, outcome: StepOutcome) -> Self {
        for boot in &mut self.boots {
            boot.steps.insert(step, outcome.clone());
            boot.blocks.retain(|block| block.step != step);
        }
        self
    }

    fn boots(mut self, keep: impl Fn(&BootObservation) -> bool) -> Self {
        self.boots.retain(keep);
        self
    }

    fn profile(mut self, name: &str) -> Self {
        self.cell.id.profile = name.into();
        self
    }
}

pub(crate) use crate::judge::stats::coverage::Coins;

pub(crate) const BUG: &str = "WARNING in find_vma";

/// The control as it is: it splats from the first lookups on.
pub(crate) fn control(arch: &str) -> Observation {
    clean("as-reported", arch).splats(BUG, 312)
}

/// The bake-off as KERNEL's facts predict it, on one architecture.
pub(crate) fn prediction(arch: &str) -> Vec<Observation> {
    vec![
        clean("landed", arch),
        control(arch),
        clean("no-check-helper", arch),
        clean("peter-removal", arch).answers(PROCESS, 0).answers(HARDIRQ, 0),
        clean("lockless-tree", arch),
    ]
}

/// The same with one candidate's cell replaced.
pub(crate) fn with(ours: Observation) -> Vec<Observation> {
    let mut all = prediction(&ours.cell.id.arch.clone());
    all.retain(|seen| seen.id() != ours.id());
    all.push(ours);
    all
}
