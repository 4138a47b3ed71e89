// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the next boot of a cell has to do, from the boots there are. Pure.
//!
//! A cell has *targets*: how many visits each step is to have. They are spread over
//! [some](Plan::spread) boots, a visit or two of each step per boot, so that no boot decides; those of
//! later looks over [`LATER_SPREAD`] more. A
//! flood, a panic or a hang ends a boot in the midst of a visit, and a lockdep report
//! turns lockdep off, so that the visits after it prove nothing: those are made in
//! another boot. A resumed run asks the same function, so it goes on where the
//! interrupted one was.
//!
//! A step in which a guest hung is tried once more, after all others: if it hangs again,
//! nothing is lost with it. A kernel that only ever hangs is given up.
//!
//! A step that has boots of its own (what it leaves behind would spoil others) comes
//! after all others, alone.

use std::collections::BTreeSet;

use bakeoff_fuzz::wire::StepOutcome;
use sha2::{Digest, Sha256};

use crate::keep::store::BootEnd;
use crate::see::observation::BootObservation;
use crate::spec::plan::{Cell, CellId, Plan, Planned, Purpose};

/// Boots that the visits of each look after the first are spread over: there are some by then,
/// and a boot costs as much as some ten visits.
pub const LATER_SPREAD: u32 = 4;

/// Boots without a Hello after which a cell counts as one that does not boot.
const SILENT_BOOTS: usize = 2;
/// Times a guest may die in a step before the step counts as one that ends it.
const DEATHS: usize = 2;
/// Boots in a row that brought no visit to its end, after which what is left stays
/// undone. A boot that hangs costs a minute.
const IN_VAIN: usize = 6;
/// Boots that a flood of one report ended, after which the kernel is known for it: each
/// costs as long as its console takes, and the next one says the same.
const FLOODS: usize = 4;
/// Times a step is begun, for each visit that it is to make.
const ATTEMPTS: u32 = 2;

/// How many visits a step is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// [`Step::id`](bakeoff_fuzz::wire::Step::id).
    pub step: u32,
    /// Visits in all.
    pub visits: u32,
    /// It gets boots of its own.
    pub own_boot: bool,
    /// Boots that its visits before the first look are spread over.
    pub spread: u32,
    /// It is to be seen whether a report comes again: a flood of it does not end the step.
    pub again: bool,
}

/// What a cell is to have before the claims are read for the first time. What is only shown
/// comes later, if there is time ([`shown`]).
#[must_use]
pub fn first_look(plan: &Plan, cell: &Cell) -> Vec<Target> {
    targets(plan, cell, |planned| planned.purpose != Purpose::Shown)
}

/// What is only shown.
#[must_use]
pub fn shown(plan: &Plan, cell: &Cell) -> Vec<Target> {
    targets(plan, cell, |planned| planned.purpose == Purpose::Shown)
}

fn targets(plan: &Plan, cell: &Cell, wanted: impl Fn(&Planned) -> bool) -> Vec<Target> {
    let target = |planned: &Planned| Target {
        step: planned.step.id,
        visits: planned.visits_of(cell.role),
        own_boot: planned.own_boot,
        spread: plan.spread,
        again: false,
    };
    plan.steps_of(&cell.id).filter(|planned| wanted(planned)).map(target).collect()
}

/// The step of each visit of the next boot; `None` if nothing is left to do.
#[must_use]
pub fn next_boot(targets: &[Target], boots: &[BootObservation]) -> Option<Vec<u32>> {
    if boots.iter().filter(|boot| boot.hello.is_none()).count() >= SILENT_BOOTS
        || boots.iter().rev().take_while(|boot| was_in_vain(boot)).count() >= IN_VAIN
        || boots.iter().filter(|boot| flooded(boot)).count() >= FLOODS
    {
        return None;
    }
    let left: Vec<(&Target, u32)> = targets
        .iter()
        .map(|target| (target, left(target, boots)))
        .filter(|(_, left)| *left > 0)
        .collect();
    let number = u32::try_from(boots.len()).unwrap_or(u32::MAX);
    let make = |(target, left): &(&Target, u32), at_least: u32| {
        let visits = in_boot(target, number).max(at_least).min(*left);
        std::iter::repeat_n(target.step, visits as usize)
    };
    let together: Vec<_> = left.iter().filter(|(target, _)| !target.own_boot).collect();
    if together.is_empty() {
        return left.first().map(|alone| make(alone, 1).collect());
    }
    let visits: Vec<u32> = together.iter().flat_map(|one| make(one, 0)).collect();
    if visits.is_empty() {
        return Some(together.iter().flat_map(|one| make(one, 1)).collect());
    }
    Some(visits)
}

/// Visits of a step that is to have so many in all, in the boot of that number: those
/// before a look are spread over boots.
fn in_boot(target: &Target, number: u32) -> u32 {
    let Target { visits, spread, .. } = *target;
    // Every look after the first doubles the visits.
    let later = visits > crate::spec::plan::FIRST_LOOK;
    let (before_look, boots) =
        if later { (visits / 2, LATER_SPREAD) } else { (visits, spread.max(1)) };
    let by = |boot: u32| (u64::from(boot) * u64::from(before_look)).div_ceil(u64::from(boots));
    let at = number % boots;
    u32::try_from(by(at + 1) - by(at)).unwrap_or(u32::MAX)
}

/// Whether one report over and over ended this boot.
fn flooded(boot: &BootObservation) -> bool {
    matches!(boot.end, BootEnd::Flood { .. })
}

/// Whether this boot came up and brought no visit to its end.
fn was_in_vain(boot: &BootObservation) -> bool {
    boot.hello.is_some()
        && !flooded(boot)
        && boot.visits.iter().all(|visit| visit.outcome.is_none())
}

/// Visits of a step that gave an answer, be it a flood of reports.
#[must_use]
pub fn answers(step: u32, boots: &[BootObservation]) -> u32 {
    let of = |boot: &BootObservation| {
        let visits = boot.visits.iter().filter(|visit| visit.step == step);
        let flood = flooded(boot);
        visits.filter(|visit| visit.counts() || flood && visit.outcome.is_none()).count()
    };
    u32::try_from(boots.iter().map(of).sum::<usize>()).unwrap_or(u32::MAX)
}

/// Steps in which a guest of this kernel died: they are tried again after all others.
#[must_use]
pub fn cut_steps(boots: &[BootObservation]) -> BTreeSet<u32> {
    let died = boots.iter().filter(|boot| !flooded(boot));
    died.filter_map(BootObservation::died_in).collect()
}

/// Boots of this kernel that hung after it had reported something.
#[must_use]
pub fn hangs(boots: &[BootObservation]) -> usize {
    let hung = |end: &BootEnd| matches!(end, BootEnd::Hung { report: Some(_), .. });
    boots.iter().filter(|boot| hung(&boot.end)).count()
}

/// Visits of a step that are still to be made.
fn left(target: &Target, boots: &[BootObservation]) -> u32 {
    let mut counted = 0;
    let mut begun = 0;
    let mut deaths = 0;
    for boot in boots {
        for visit in boot.visits.iter().filter(|visit| visit.step == target.step) {
            begun += 1;
            match &visit.outcome {
                Some(StepOutcome::Unreachable { .. }) => return 0,
                Some(StepOutcome::Done | StepOutcome::Failed { .. }) => {
                    counted += u32::from(visit.counts());
                }
                // A flood of reports is an answer, and the next visit gives the same: which is
                // of use only where that is what somebody wants to know.
                None if flooded(boot) && target.again => counted += 1,
                None if flooded(boot) => return 0,
                None => deaths += 1,
            }
        }
    }
    let attempts = target.visits.saturating_mul(ATTEMPTS);
    if deaths >= DEATHS || begun >= attempts.max(ATTEMPTS) {
        return 0;
    }
    target.visits.saturating_sub(counted)
}

/// The visits in the order in which they are made: random, by the boot's own seed, so that
/// no condition always comes after the same one. Those of `last` come after all others.
#[must_use]
pub fn shuffled(mut visits: Vec<u32>, last: &BTreeSet<u32>, seed: u64) -> Vec<u32> {
    let key = |place: usize, step: u32| {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update((place as u64).to_le_bytes());
        hash.update(step.to_le_bytes());
        hash.finalize()
    };
    let keyed =
        visits.drain(..).enumerate().map(|(at, step)| (last.contains(&step), key(at, step), step));
    let mut keyed: Vec<_> = keyed.collect();
    keyed.sort();
    keyed.into_iter().map(|(_, _, step)| step).collect()
}

/// More that is to be done for a run, beyond its plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// Cells and what their steps are to have.
    pub targets: Vec<(CellId, Vec<Target>)>,
    /// What it is for, in words, for the progress display.
    pub why: String,
    /// It ends when the budget is spent.
    pub in_budget: bool,
}

/// Decides from what a run has what it should do next. The run knows how to boot, not what
/// is still open.
pub trait Steering {
    /// What is to be done now; `None` if everything is settled, or can only be left open.
    ///
    /// # Errors
    /// The run cannot be read.
    fn next(&self) -> crate::base::error::Result<Option<Wanted>>;

    /// Whether measuring ends when the plan's budget is spent.
    fn keeps_to_budget(&self) -> bool {
        true
    }

    /// All that a part of the plan can tell is there: shows what is known so far.
    ///
    /// # Errors
    /// The run cannot be read or written.
    fn interim(&self) -> crate::base::error::Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keep::store::ConsoleReport;
    use crate::see::observation::testing::{boot, visit};
    use crate::spec::plan::SPREAD;

    fn targets(steps: &[(u32, u32)]) -> Vec<Target> {
        steps
            .iter()
            .map(|(step, visits)| Target {
                step: *step,
                visits: *visits,
                own_boot: false,
                spread: SPREAD,
                again: false,
            })
            .collect()
    }

    fn done(steps: &[u32]) -> BootObservation {
        let visits = steps.iter().map(|step| visit(*step, Some(StepOutcome::Done))).collect();
        boot(BootEnd::Ran, visits)
    }

    /// All boots that targets lead to, if all goes well.
    fn all_boots(targets: &[Target]) -> Vec<Vec<u32>> {
        let mut boots = Vec::new();
        let mut asked = Vec::new();
        while let Some(next) = next_boot(targets, &boots) {
            boots.push(done(&next));
            asked.push(next);
            assert!(asked.len() < 100);
        }
        asked
    }

    /// A quick run has fewer boots, each with more visits.
    #[test]
    fn fewer_boots_have_more_visits_each() {
        let mut quick = targets(&[(0, 12)]);
        quick[0].spread = 4;
        assert_eq!(all_boots(&quick), vec![vec![0; 3]; 4]);
    }

    /// Twelve visits lie in eight boots, four in four, one in one: no boot decides.
    #[test]
    fn visits_are_spread_over_boots() {
        let boots = all_boots(&targets(&[(0, 12), (1, 4), (2, 1)]));
        assert_eq!(boots.len(), 8);
        let count = |step| -> Vec<usize> {
            boots.iter().map(|b| b.iter().filter(|s| **s == step).count()).collect()
        };
        assert_eq!(count(0), [2, 1, 2, 1, 2, 1, 2, 1]);
        assert_eq!(count(1).iter().sum::<usize>(), 4);
        assert_eq!(count(2), [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(all_boots(&targets(&[(0, 1)])), [[0]]);
        let more = all_boots(&targets(&[(0, 48)]));
        assert_eq!(more.iter().map(Vec::len).sum::<usize>(), 48);
        assert!(more.iter().all(|b| b.len() <= 6), "{more:?}");
        let first: Vec<_> = all_boots(&targets(&[(0, 12)])).iter().map(|b| done(b)).collect();
        assert_eq!(next_boot(&targets(&[(0, 24)]), &first), Some(vec![0; 3]), "four more boots");
    }

    /// The visit a flood ended is an answer; those that it cost are made in a fresh boot.
    #[test]
    fn visits_after_a_flood_get_a_fresh_boot() {
        let flood = BootEnd::Flood { title: "WARNING".into(), count: 300 };
        let boots = [boot(flood, vec![visit(0, None)])];
        assert_eq!(next_boot(&targets(&[(0, 1), (1, 1)]), &boots), Some(vec![1]));
    }

    /// A step that flooded is visited again where it is to be seen whether that comes again.
    #[test]
    fn what_is_to_be_confirmed_is_visited_after_a_flood() {
        let flood = BootEnd::Flood { title: "WARNING".into(), count: 300 };
        let boots = [boot(flood.clone(), vec![visit(0, None)]), boot(flood, vec![visit(0, None)])];
        assert_eq!(answers(0, &boots), 2);
        assert_eq!(answers(1, &boots), 0);
        let mut again = targets(&[(0, 3)]);
        assert_eq!(next_boot(&again, &boots), None);
        again[0].again = true;
        assert_eq!(next_boot(&again, &boots), Some(vec![0]));
        again[0].visits = 2;
        assert_eq!(next_boot(&again, &boots), None);
        assert_eq!(answers(0, &[done(&[0, 0])]), 2);
    }

    /// What counts as a hang behind a report: not silence, and no other end.
    #[test]
    fn hangs_behind_a_report_are_counted() {
        let report = ConsoleReport { title: "Oops".into(), console_offset: 0 };
        let hung = |report| BootEnd::Hung { silent_seconds: 31, step: Some(0), report };
        let ends = [hung(Some(report.clone())), hung(None), BootEnd::Ran, hung(Some(report))];
        let boots: Vec<_> = ends.map(|end| boot(end, Vec::new())).into();
        assert_eq!([0, 1, 3, 4].map(|count| hangs(&boots[..count])), [0, 1, 1, 2]);
    }

    /// A kernel that floods is known for it after four boots.
    #[test]
    fn floods_are_known_after_four_boots() {
        let flood =
            |step| boot(BootEnd::Flood { title: "W".into(), count: 300 }, vec![visit(step, None)]);
        let wanted = targets(&[(0, 2), (1, 2), (2, 2), (3, 2), (4, 2)]);
        let boots: Vec<_> = [0, 1, 2, 3].map(flood).into();
        assert_eq!(next_boot(&wanted, &boots[..3]), Some(vec![3, 4]));
        assert_eq!(next_boot(&wanted, &boots), None);
    }

    /// A step in which guests died twice is left at that; the others go on.
    #[test]
    fn a_step_that_ends_its_guest_twice_is_left() {
        let hung = || boot(BootEnd::Panicked { line: "Kernel panic".into() }, vec![visit(0, None)]);
        let wanted = targets(&[(0, 4), (1, 1)]);
        let once = next_boot(&wanted, &[hung()]).unwrap();
        assert!(once.contains(&0), "{once:?}");
        assert_eq!(next_boot(&wanted, &[hung(), hung()]), Some(vec![1]));
        assert_eq!(next_boot(&wanted, &[hung(), hung(), done(&[1])]), None);
    }

    /// A kernel whose guests only ever die is given up.
    #[test]
    fn a_kernel_that_only_dies_is_given_up() {
        let wanted = targets(&[(0, 4), (1, 4), (2, 4), (3, 4)]);
        let died =
            |step| boot(BootEnd::Panicked { line: "Kernel panic".into() }, vec![visit(step, None)]);
        let boots: Vec<_> = [0, 1, 2, 0, 1, 2].map(died).into();
        assert_eq!(next_boot(&wanted, &boots), None);
        assert!(next_boot(&wanted, &boots[..5]).is_some());
        assert_eq!(cut_steps(&boots), BTreeSet::from([0, 1, 2]));
    }

    /// A visit that ran entirely with lockdep off proves nothing and is made again, once.
    #[test]
    fn visits_with_lockdep_off_are_made_again() {
        let off = || {
            let mut off = visit(0, Some(StepOutcome::Done));
            off.blocks.push(bakeoff_fuzz::wire::Block {
                debug_locks_before: Some(false),
                ..Default::default()
            });
            boot(BootEnd::Ran, vec![off])
        };
        assert_eq!(next_boot(&targets(&[(0, 1)]), &[off()]), Some(vec![0]));
        assert_eq!(next_boot(&targets(&[(0, 1)]), &[off(), off()]), None);
    }

    /// A kernel that does not boot is tried twice, so that one lost guest blames nobody.
    #[test]
    fn a_kernel_that_does_not_boot_is_tried_twice() {
        let dead = || {
            let mut dead = boot(BootEnd::DidNotBoot { reason: "silence".into() }, vec![]);
            dead.hello = None;
            dead
        };
        assert_eq!(next_boot(&targets(&[(0, 1)]), &[dead()]), Some(vec![0]));
        assert_eq!(next_boot(&targets(&[(0, 1)]), &[dead(), dead()]), None);
    }

    /// A step with boots of its own comes last, alone; what cannot be reached is not asked
    /// for again.
    #[test]
    fn some_steps_have_boots_of_their_own() {
        let mut wanted = targets(&[(0, 1), (1, 2), (2, 1)]);
        wanted[1].own_boot = true;
        assert_eq!(all_boots(&wanted), [vec![0, 2], vec![1], vec![1]]);
        let reason = "no PMU".to_owned();
        let away = boot(BootEnd::Ran, vec![visit(1, Some(StepOutcome::Unreachable { reason }))]);
        assert_eq!(next_boot(&wanted[1..2], &[away]), None);
    }

    /// The order is random, the boot's own, and loses no visit.
    #[test]
    fn the_order_is_the_boots_own() {
        let visits: Vec<u32> = (0..20).collect();
        let none = BTreeSet::new();
        let (a, b) = (shuffled(visits.clone(), &none, 1), shuffled(visits.clone(), &none, 2));
        assert_ne!(a, b);
        assert_eq!(a, shuffled(visits.clone(), &none, 1));
        let late = shuffled(visits.clone(), &BTreeSet::from([3, 7]), 1);
        assert!(late[18..].contains(&3) && late[18..].contains(&7), "{late:?}");
        let mut sorted = a;
        sorted.sort_unstable();
        assert_eq!(sorted, visits);
    }
}
