// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bake-off made up for tests, told as a story: first everything goes well, then what
//! happened to whom.

use std::fs;

use bakeoff_fuzz::wire::{Block, Share, Step, StepOutcome, Summary};

use crate::base::data::DataDir;
use crate::judge::compare::{Comparison, Subject, compare};
use crate::judge::row::{ClaimRow, MeasureRow, SplatRow, VerdictRow, WrongRow};
use crate::keep::store::{BootEnd, BuildSeconds, KernelJson, KernelOutcome, VERSION};
use crate::see::observation::{BootObservation, Observation, SeenSplat, testing};
use crate::see::records::VisitRecord;
use crate::spec::plan::{Plan, Selection};
use crate::spec::{FILE_NAME, Spec};

/// Boots of each kernel; each makes one visit of each step.
pub(crate) const BOOTS: usize = 12;
/// Calls of a visit, in blocks of twenty.
pub(crate) const CALLS: u64 = 100;

/// Right ones of 100 in twelve visits: half of them, more or less.
pub(crate) const HALF: [u64; BOOTS] = [47, 53, 50, 49, 51, 48, 52, 50, 47, 53, 50, 50];

/// The same, shifted.
pub(crate) fn half(by: i64) -> Vec<u64> {
    HALF.iter().map(|right| right.checked_add_signed(by).unwrap()).collect()
}

use crate::words::HEAD;
pub(crate) use crate::words::{
    BUSY, BUSY_SLOT, CALL_NS, CLAIM, DUTY, IDLE, LEGAL, PAIRS, TIME_CLAIM, TOP,
};

pub(crate) struct Story {
    pub(crate) spec: Spec,
    pub(crate) plan: Plan,
    pub(crate) seen: Vec<Observation>,
    /// The folder of the spec, as long as the story lasts.
    pub(crate) dir: tempfile::TempDir,
}

impl Story {
    /// All kernels of it were built, and did all there was to do; half of the ids are right
    /// on each of them, and no pair is illegal. `rest` is the rest of the spec.
    pub(crate) fn of(rest: &str) -> Story {
        Story::of_spec(&format!("{HEAD}{rest}"))
    }

    /// The same, with probes of its own: `rest` begins with them.
    pub(crate) fn of_probes(rest: &str) -> Story {
        let (head, _) = HEAD.split_once("probes:").unwrap();
        Story::of_spec(&format!("{head}{rest}"))
    }

    pub(crate) fn of_spec(text: &str) -> Story {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE_NAME), text).unwrap();
        let spec = Spec::load(dir.path(), &DataDir::embedded()).unwrap();
        Story::with(spec, dir)
    }

    pub(crate) fn with(spec: Spec, dir: tempfile::TempDir) -> Story {
        let plan = Plan::new(&spec, &Selection::default(), 1).unwrap();
        let seen = plan
            .cells
            .iter()
            .map(|cell| {
                let steps: Vec<&Step> = plan.steps_of(&cell.id).map(|p| &p.step).collect();
                let lockdep = cell.id.profile == "lockdep";
                Observation {
                    cell: cell.clone(),
                    kernel: Some(built()),
                    evidence: vec![format!("cells/{}/kernel.json", cell.id)],
                    boots: (0..BOOTS).map(|boot| went_well(boot, &steps, lockdep)).collect(),
                    errors: Vec::new(),
                }
            })
            .collect();
        let mut story = Story { spec, plan, seen, dir };
        let names: Vec<String> =
            story.seen.iter().map(|seen| seen.id().candidate.clone()).collect();
        let labels: Vec<String> = story.plan.steps.iter().map(|p| p.label.clone()).collect();
        let told: [(&str, &str, &[u64]); 3] =
            [(IDLE, TOP, &HALF), (BUSY, TOP, &HALF), (PAIRS, LEGAL, &[CALLS; BOOTS])];
        for name in names {
            for (label, metric, right) in told {
                if labels.iter().any(|known| known == label) {
                    story.right(&name, label, metric, right);
                }
            }
        }
        story
    }

    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject::new(&self.spec, &self.plan)
    }

    pub(crate) fn compare(&self) -> Comparison {
        compare(&self.subject(), &self.seen)
    }

    /// The cells of a candidate.
    pub(crate) fn of_mut(&mut self, who: &str) -> impl Iterator<Item = &mut Observation> {
        self.seen.iter_mut().filter(move |seen| seen.cell.id.candidate == who)
    }

    /// The candidate's boots.
    pub(crate) fn boots(&mut self, who: &str) -> Vec<&mut BootObservation> {
        self.of_mut(who).flat_map(|seen| &mut seen.boots).collect()
    }

    pub(crate) fn step(&self, label: &str) -> u32 {
        let mut all = self.plan.steps.iter();
        all.find(|planned| planned.label == label).map(|planned| planned.step.id).unwrap()
    }

    /// The visits of a step, in order.
    pub(crate) fn visits(&mut self, who: &str, label: &str) -> Vec<&mut VisitRecord> {
        let step = self.step(label);
        let boots = self.of_mut(who).flat_map(|seen| &mut seen.boots);
        boots.flat_map(|boot| &mut boot.visits).filter(|visit| visit.step == step).collect()
    }

    /// So many of the 100 calls of each visit were right; failures come one by one.
    pub(crate) fn right(&mut self, who: &str, label: &str, metric: &str, right: &[u64]) {
        for (visit, right) in self.visits(who, label).into_iter().zip(right.iter().cycle()) {
            let failed = CALLS - right;
            let blocks = visit.blocks.len() as u64;
            for (at, block) in (0..).zip(&mut visit.blocks) {
                let here = failed / blocks + u64::from(at < failed % blocks);
                let share = Share { of: block.calls, right: block.calls - here };
                block.shares.insert(metric.to_owned(), share);
            }
        }
    }

    /// A number was measured in each visit.
    pub(crate) fn value(&mut self, who: &str, label: &str, metric: &str, values: &[f64]) {
        for (visit, value) in self.visits(who, label).into_iter().zip(values.iter().cycle()) {
            for block in &mut visit.blocks {
                block.values.insert(metric.to_owned(), Summary::of(*value));
            }
        }
    }

    /// The first boots of a candidate print this report.
    pub(crate) fn splat(&mut self, who: &str, title: &str, boots: usize) {
        for boot in self.boots(who).into_iter().take(boots) {
            boot.splats.push(splat(title));
        }
    }

    pub(crate) fn claim(&self, who: &str, claim: &str) -> ClaimRow {
        let rows = self.compare().claims;
        rows.into_iter().find(|r| r.place.candidate == who && r.claim == claim).unwrap()
    }

    pub(crate) fn measure(&self, who: &str, label: &str, metric: &str) -> MeasureRow {
        let is =
            |r: &MeasureRow| r.place.candidate == who && r.label == label && r.metric == metric;
        self.compare().measures.into_iter().find(is).unwrap()
    }

    pub(crate) fn wrong(&self, who: &str) -> WrongRow {
        let rows = self.compare().wrong;
        rows.into_iter().find(|r| r.place.candidate == who && r.metric == LEGAL).unwrap()
    }

    pub(crate) fn splat_row(&self, who: &str, title: &str) -> Option<SplatRow> {
        let rows = self.compare().splats;
        rows.into_iter().find(|r| r.place.candidate == who && r.title == title)
    }

    pub(crate) fn verdict(&self, who: &str) -> VerdictRow {
        self.compare().verdicts.into_iter().find(|r| r.place.candidate == who).unwrap()
    }
}

pub(crate) fn built() -> KernelJson {
    KernelJson {
        store_version: VERSION,
        outcome: KernelOutcome::Built {
            key: "k".into(),
            image_sha256: "0".into(),
            from_cache: true,
            objects: None,
            sandbox: "no".into(),
            make: "make".into(),
        },
        patches: Vec::new(),
        seconds: BuildSeconds::default(),
    }
}

/// A report, whose title tells it from others.
pub(crate) fn splat(title: &str) -> SeenSplat {
    SeenSplat {
        kind: "warning".into(),
        title: title.into(),
        fingerprint: format!("id of {title}"),
        secondary: false,
        corrupted: false,
        offset: 7,
        disables_lockdep: false,
        signature: vec![title.into()],
        notes: Vec::new(),
    }
}

fn went_well(number: usize, steps: &[&Step], lockdep: bool) -> BootObservation {
    let locks = lockdep.then_some(true);
    let visits = steps.iter().zip(0..).map(|(step, at)| VisitRecord {
        blocks: (0..step.blocks)
            .map(|block| Block {
                step: step.id,
                visit: at,
                block,
                debug_locks_before: locks,
                debug_locks_after: locks,
                calls: CALLS / u64::from(step.blocks),
                ..Block::default()
            })
            .collect(),
        begin_ns: u64::from(at),
        ..testing::visit(step.id, Some(StepOutcome::Done))
    });
    let boot = testing::boot(BootEnd::Ran, visits.collect());
    let hello = boot.hello.map(|hello| bakeoff_fuzz::wire::Hello { debug_locks: locks, ..hello });
    let name = format!("0-{number:03}");
    BootObservation { evidence: vec![format!("{name}/console.log")], name, hello, ..boot }
}
