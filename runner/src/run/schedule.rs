// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the next boot of a cell has to do, from the boots there are. Pure.
//!
//! One boot does all steps, unless it cannot: a flood, a panic or a hang ends
//! it in the midst of a step, and a lockdep report turns lockdep off, so that
//! the steps after it prove nothing. Those get a fresh boot. A resumed run asks
//! the same function, so it goes on where the interrupted one was.
//!
//! A step that has boots of its own (what it leaves behind would spoil others)
//! comes after all others, alone.

use bakeoff_fuzz::wire::StepOutcome;

use crate::see::observation::BootObservation;
use crate::spec::plan::Planned;

/// Boots without a Hello after which a cell counts as one that does not boot.
const SILENT_BOOTS: usize = 2;
/// Times a step is begun before it is left at what it gave.
const ATTEMPTS: usize = 2;

/// The steps of the next boot, in order; `None` if nothing is left to do.
#[must_use]
pub fn next_boot(steps: &[Planned], boots: &[BootObservation]) -> Option<Vec<u32>> {
    if boots.iter().filter(|boot| boot.hello.is_none()).count() >= SILENT_BOOTS {
        return None;
    }
    let left: Vec<&Planned> =
        steps.iter().filter(|planned| !is_settled(planned.step.id, boots)).collect();
    let together: Vec<u32> =
        left.iter().filter(|planned| !planned.own_boot).map(|planned| planned.step.id).collect();
    if together.is_empty() {
        return left.first().map(|planned| vec![planned.step.id]);
    }
    Some(together)
}

fn is_settled(step: u32, boots: &[BootObservation]) -> bool {
    let began: Vec<&BootObservation> =
        boots.iter().filter(|boot| boot.begun.contains(&step)).collect();
    began.len() >= ATTEMPTS || began.iter().any(|boot| settles(step, boot))
}

/// Whether this boot, in which the step was begun, says all it can about it.
fn settles(step: u32, boot: &BootObservation) -> bool {
    match boot.steps.get(&step) {
        // The boot died of it: that is the answer.
        None => true,
        Some(StepOutcome::Unreachable { .. }) => true,
        // Ours: once more, in a fresh boot.
        Some(StepOutcome::Failed { .. }) => false,
        Some(StepOutcome::Done) => {
            let blocks: Vec<_> = boot.blocks.iter().filter(|b| b.step == step).collect();
            blocks.is_empty() || blocks.iter().any(|b| b.debug_locks_before != Some(false))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keep::store::BootEnd;
    use bakeoff_fuzz::wire::{Block, Counts, Hello, Step};

    fn boot(end: BootEnd) -> BootObservation {
        BootObservation {
            name: "0-000".into(),
            round: 0,
            end,
            seconds: 1.0,
            hello_seconds: None,
            hello: None,
            asked: vec![],
            begun: vec![],
            steps: Default::default(),
            blocks: vec![],
            end_record: None,
            splats: vec![],
            evidence: vec![],
        }
    }

    fn booted(end: BootEnd, begun: &[u32], done: &[u32]) -> BootObservation {
        let hello = Hello {
            wire: 1,
            source_hash: String::new(),
            boot: "0-000".into(),
            release: String::new(),
            machine: String::new(),
            cmdline: String::new(),
            cpus_online: 2,
            clocksource: "tsc".into(),
            timer_resolution_ns: 1,
            timer_100us_measured_ns: 1,
            debug_locks: Some(true),
            tainted: 0,
            page_size: 4096,
            at_ns: 0,
        };
        BootObservation {
            hello: Some(hello),
            begun: begun.to_vec(),
            steps: done.iter().map(|s| (*s, StepOutcome::Done)).collect(),
            ..boot(end)
        }
    }

    fn steps(ids: &[u32]) -> Vec<Planned> {
        let like = crate::judge::compare::testing::steps().remove(0);
        ids.iter().map(|id| Planned::from(Step { id: *id, ..like.clone() })).collect()
    }

    fn block(step: u32, before: bool) -> Block {
        Block {
            step,
            block: 0,
            at_ns: 0,
            window_ns: 0,
            debug_locks_before: Some(before),
            debug_locks_after: Some(false),
            counts: Counts::default(),
        }
    }

    /// A boot that did everything leaves nothing to do.
    #[test]
    fn one_good_boot_is_enough() {
        assert_eq!(next_boot(&steps(&[0, 1]), &[]), Some(vec![0, 1]));
        assert_eq!(next_boot(&steps(&[0, 1]), &[booted(BootEnd::Ran, &[0, 1], &[0, 1])]), None);
    }

    /// The step a boot died of is not repeated; the steps after it get a fresh boot.
    #[test]
    fn steps_after_a_flood_get_a_fresh_boot() {
        let flood = BootEnd::Flood { title: "WARNING".into(), count: 1000 };
        let boots = [booted(flood, &[0], &[])];
        assert_eq!(next_boot(&steps(&[0, 1]), &boots), Some(vec![1]));
    }

    /// A step that ran entirely with lockdep off proves nothing and is run again, once.
    #[test]
    fn steps_with_lockdep_off_are_run_again() {
        let mut first = booted(BootEnd::Ran, &[0, 1], &[0, 1]);
        first.blocks = vec![block(0, true), block(1, false)];
        let mut second = booted(BootEnd::Ran, &[1], &[1]);
        second.blocks = vec![block(1, false)];
        assert_eq!(next_boot(&steps(&[0, 1]), std::slice::from_ref(&first)), Some(vec![1]));
        assert_eq!(next_boot(&steps(&[0, 1]), &[first, second]), None);
    }

    /// A kernel that does not boot is tried twice, so that one lost guest blames nobody.
    #[test]
    fn a_kernel_that_does_not_boot_is_tried_twice() {
        let dead = boot(BootEnd::DidNotBoot { reason: "silence".into() });
        assert_eq!(next_boot(&steps(&[0]), std::slice::from_ref(&dead)), Some(vec![0]));
        assert_eq!(next_boot(&steps(&[0]), &[dead.clone(), dead]), None);
    }

    /// A step with a boot of its own comes last, alone, and so does every other such.
    #[test]
    fn some_steps_have_boots_of_their_own() {
        let mut steps = steps(&[0, 1, 2, 3]);
        steps[1].own_boot = true;
        steps[2].own_boot = true;
        let mut boots = Vec::new();
        let mut asked = Vec::new();
        while let Some(next) = next_boot(&steps, &boots) {
            boots.push(booted(BootEnd::Ran, &next, &next));
            asked.push(next);
        }
        assert_eq!(asked, [vec![0, 3], vec![1], vec![2]]);
        // One that failed is tried once more, alone again.
        let mut failed = booted(BootEnd::Ran, &[1], &[]);
        failed.steps.insert(1, StepOutcome::Failed { reason: "EINVAL".into() });
        let boots = [booted(BootEnd::Ran, &[0, 3], &[0, 3]), failed];
        assert_eq!(next_boot(&steps, &boots), Some(vec![1]));
    }
}
