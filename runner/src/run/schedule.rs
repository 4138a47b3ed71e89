// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the next boot of a cell has to do, from the boots there are. Pure.
//!
//! One boot does all steps, unless it cannot: a flood, a panic or a hang ends
//! it in the midst of a step, and a lockdep report turns lockdep off, so that
//! the steps after it prove nothing. Those get a fresh boot. A resumed run asks
//! the same function, so it goes on where the interrupted one was.
//!
//! A step in which a guest hung is tried once more, after all others: if it hangs
//! again, nothing is lost with it. A kernel that only ever hangs is given up.
//!
//! A step that has boots of its own (what it leaves behind would spoil others)
//! comes after all others, alone.

use bakeoff_fuzz::wire::StepOutcome;

use crate::keep::store::BootEnd;
use crate::see::observation::BootObservation;
use crate::spec::plan::Planned;

/// Boots without a Hello after which a cell counts as one that does not boot.
const SILENT_BOOTS: usize = 2;
/// Times a step is begun before it is left at what it gave.
const ATTEMPTS: usize = 2;
/// Boots in a row that brought no step to its end, after which the steps that are
/// left stay undone. A boot that hangs costs a minute.
const IN_VAIN: usize = 6;

/// The steps of the next boot, in order; `None` if nothing is left to do.
#[must_use]
pub fn next_boot(steps: &[Planned], boots: &[BootObservation]) -> Option<Vec<u32>> {
    if boots.iter().filter(|boot| boot.hello.is_none()).count() >= SILENT_BOOTS
        || boots.iter().rev().take_while(|boot| was_in_vain(boot)).count() >= IN_VAIN
    {
        return None;
    }
    let mut left: Vec<&Planned> =
        steps.iter().filter(|planned| !is_settled(id(planned), boots)).collect();
    left.sort_by_key(|planned| boots.iter().any(|boot| was_cut(id(planned), boot)));
    let together: Vec<u32> =
        left.iter().filter(|planned| !planned.own_boot).map(|planned| id(planned)).collect();
    if together.is_empty() {
        return left.first().map(|planned| vec![id(planned)]);
    }
    Some(together)
}

fn id(planned: &Planned) -> u32 {
    planned.step.id
}

/// Whether this boot came up and said nothing about any step.
fn was_in_vain(boot: &BootObservation) -> bool {
    let hung = matches!(boot.end, BootEnd::Hung { .. });
    boot.hello.is_some() && boot.steps.is_empty() && (hung || boot.begun.is_empty())
}

fn is_settled(step: u32, boots: &[BootObservation]) -> bool {
    let began: Vec<&BootObservation> =
        boots.iter().filter(|boot| boot.begun.contains(&step)).collect();
    began.len() >= ATTEMPTS || began.iter().any(|boot| settles(step, boot))
}

/// Whether the boot was ended in this step because it took too long.
fn was_cut(step: u32, boot: &BootObservation) -> bool {
    let cut = matches!(boot.end, BootEnd::Hung { .. } | BootEnd::OutOfTime { .. });
    cut && boot.begun.contains(&step) && !boot.steps.contains_key(&step)
}

/// Whether this boot, in which the step was begun, says all it can about it.
fn settles(step: u32, boot: &BootObservation) -> bool {
    match boot.steps.get(&step) {
        // A busy host can make one guest hang; not two in the same step.
        None if was_cut(step, boot) => false,
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

    fn hung(step: Option<u32>) -> BootEnd {
        BootEnd::Hung { silent_seconds: 60, step, report: None }
    }

    /// A step in which the guest hung is tried again, after the others; when it hangs
    /// again, it is left, and nothing else was lost with it.
    #[test]
    fn a_step_that_hangs_is_tried_twice() {
        let steps = steps(&[0, 1, 2, 3]);
        let first = booted(hung(Some(1)), &[0, 1], &[0]);
        let again = next_boot(&steps, std::slice::from_ref(&first));
        assert_eq!(again, Some(vec![2, 3, 1]));
        let second = booted(hung(Some(1)), &[2, 3, 1], &[2, 3]);
        assert_eq!(next_boot(&steps, &[first.clone(), second]), None);
        let well = booted(BootEnd::Ran, &[2, 3, 1], &[2, 3, 1]);
        assert_eq!(next_boot(&steps, &[first, well]), None);
    }

    /// Several steps that hang cost a boot each, and one more to be sure of each.
    #[test]
    fn every_other_step_is_done_although_some_hang() {
        let steps = steps(&[0, 1, 2, 3, 4, 5]);
        let (mut boots, mut done) = (Vec::new(), Vec::new());
        while let Some(asked) = next_boot(&steps, &boots) {
            let at = asked.iter().position(|step| [1, 4].contains(step));
            let good = &asked[..at.unwrap_or(asked.len())];
            done.extend_from_slice(good);
            let end = at.map_or(BootEnd::Ran, |at| hung(Some(asked[at])));
            let begun = &asked[..at.map_or(asked.len(), |at| at + 1)];
            boots.push(booted(end, begun, good));
            assert!(boots.len() < 10, "it never ends");
        }
        assert_eq!(done, [0, 2, 3, 5]);
        assert_eq!(boots.len(), 4);
    }

    /// A step that was cut because the boot's time was up is tried again.
    #[test]
    fn a_step_that_was_cut_is_tried_again() {
        let cut = booted(BootEnd::OutOfTime { limit_seconds: 9 }, &[0], &[]);
        assert_eq!(next_boot(&steps(&[0, 1]), &[cut]), Some(vec![1, 0]));
    }

    /// A kernel that hangs in whatever it is asked to do, or before it does anything, is
    /// given up, however long the list of steps.
    #[test]
    fn a_kernel_that_only_hangs_is_given_up() {
        let ids: Vec<u32> = (0..60).collect();
        for begins in [true, false] {
            let mut boots = Vec::new();
            while let Some(asked) = next_boot(&steps(&ids), &boots) {
                let begun = if begins { &asked[..1] } else { &[] };
                boots.push(booted(hung(begun.first().copied()), begun, &[]));
                assert!(boots.len() <= IN_VAIN, "it never ends");
            }
            assert_eq!(boots.len(), IN_VAIN);
        }
        // One that panics before its first step is, too.
        let panics = booted(BootEnd::Panicked { line: "Oops".into() }, &[], &[]);
        assert_eq!(next_boot(&steps(&ids), &vec![panics; IN_VAIN]), None);
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
