// SPDX-License-Identifier: MIT OR Apache-2.0
//! When a step has seen enough.
//!
//! A cell in which every call fails needs few calls to say so, one near the
//! middle needs many; but whoever stops when the numbers look good has looked
//! often and erred often. So a step is looked at after fixed parts of its blocks
//! only, and the error an interval may make is *spent* over those looks: by the
//! time of a look at part `t` of the blocks, `t³` of it ([`SPENDING`]).
//!
//! The method is group-sequential (Lan & DeMets, Biometrika 70 (1983) 659) with
//! the power family of spending functions (Kim & DeMets, Biometrika 74 (1987)
//! 149), and the interval shown is the one of the look at which it ended, at the
//! share of the error which that look may spend (*repeated confidence intervals*,
//! Jennison & Turnbull, JRSS B 51 (1989) 305). The shares are added up
//! (Bonferroni's inequality) instead of derived from the joint distribution of
//! the looks: whatever made a step stop, the interval is wrong at most as often
//! as one that was fixed before. The price is small, since the last look keeps
//! 94% of the error, and is paid where it does not hurt: who stops at the second
//! look shows 99.96% confidence.
//!
//! All this holds for intervals that hold by themselves, and those know how
//! failures clump from the failures there are. So a step does not end early while
//! its failures (or successes) lie in a few blocks, and where there is none not
//! before two fifths of its blocks; its interval then rests on the assumption of
//! independent calls, which is stated.
//!
//! Guest and host ask the same pure functions: the guest to stop, the host to
//! recount that it was right to.

use crate::stats::{CONFIDENCE, Cluster, Estimate};
use crate::wire::{Block, Score, Step, Stop};

/// Parts of the planned blocks after which a step is looked at, as
/// (numerator, denominator); the last is all of them.
pub const LOOKS: [(u32, u32); 4] = [(1, 10), (1, 5), (2, 5), (1, 1)];

/// Exponent of the spending function. One would spend evenly and leave little for
/// the last look; three leaves it 94%.
pub const SPENDING: i32 = 3;

/// Blocks below which nothing is decided: fewer cannot show that failures come
/// in clusters.
pub const FEWEST_BLOCKS: u32 = 5;

/// Numbers of blocks after which a step of `planned` blocks is looked at,
/// ascending; the last is `planned`.
pub fn looks(planned: u32) -> impl Iterator<Item = u32> {
    let at = move |(part, whole): (u32, u32)| {
        let blocks = (u64::from(planned) * u64::from(part)).div_ceil(u64::from(whole));
        // Part of a u32.
        u32::try_from(blocks).unwrap_or(planned).max(FEWEST_BLOCKS).min(planned)
    };
    let mut last = 0;
    LOOKS.into_iter().map(at).filter(move |blocks| std::mem::replace(&mut last, *blocks) != *blocks)
}

/// The share of the error that the interval of a step may make which ended after
/// `taken` of its `planned` blocks. One that did not end at a look (the guest
/// died) ended for another reason than its numbers: it has the last look's.
#[must_use]
pub fn share(stop: Stop, planned: u32, taken: u32) -> f64 {
    match stop {
        Stop::Fixed => 1.0,
        Stop::Precise { .. } | Stop::Claim { .. } => {
            let spent =
                |blocks: u32| (f64::from(blocks) / f64::from(planned.max(1))).powi(SPENDING);
            let mut before = 0;
            for look in looks(planned) {
                if look == taken || look == planned {
                    return spent(look) - spent(before);
                }
                before = look;
            }
            1.0
        }
    }
}

/// Whether a block proves anything: lockdep was on throughout, or is not there.
#[must_use]
pub fn proves(block: &Block) -> bool {
    block.debug_locks_before != Some(false) && block.debug_locks_after != Some(false)
}

/// Whether the step has seen enough, given the blocks it took so far.
#[must_use]
pub fn is_enough(step: &Step, taken: &[Block]) -> bool {
    let count = u32::try_from(taken.len()).unwrap_or(u32::MAX);
    if count >= step.blocks {
        return true;
    }
    match step.stop {
        Stop::Fixed => false,
        Stop::Precise { half_width_ppm } => {
            let widest = f64::from(half_width_ppm) / 1e6;
            at_look(step, taken, count, |estimate| {
                // How failures clump is told by those that are there. What did not
                // fail yet may still fail in clumps; a few failures tell little.
                let late = u64::from(count) * 5 >= u64::from(step.blocks) * 2;
                let known =
                    if estimate.independence_assumed { late } else { !estimate.rests_on_few() };
                let interval = estimate.interval(CONFIDENCE);
                known && (interval.high - interval.low) / 2.0 <= widest
            })
        }
        Stop::Claim { at_least_ppb, calls } => {
            let claimed = f64::from(at_least_ppb) / 1e9;
            // The number of calls was fixed before, so reaching it decides nothing.
            let seen: u64 = taken.iter().filter(|b| proves(b)).map(|b| b.counts.calls).sum();
            seen >= calls
                || at_look(step, taken, count, |estimate| {
                    estimate.interval(CONFIDENCE).high < claimed
                })
        }
    }
}

/// Asks of both scores' rates, if this is the time for a look.
fn at_look(step: &Step, taken: &[Block], count: u32, ask: impl Fn(&Estimate) -> bool) -> bool {
    if !looks(step.blocks).any(|look| look == count) {
        return false;
    }
    let share = share(step.stop, step.blocks, count);
    let scores: [fn(&Block) -> Score; 2] = [|block| block.counts.top, |block| block.counts.all];
    scores.iter().all(|score| {
        let clusters: Vec<Cluster> = taken
            .iter()
            .filter(|block| proves(block))
            .map(|block| {
                let trials = block.counts.calls;
                Cluster { trials, successes: score(block).correct.min(trials) }
            })
            .collect();
        Estimate::new(&clusters, &[]).is_some_and(|estimate| ask(&estimate.spending(share)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Context, Counts, Interface, Stack, Stress};

    fn step(blocks: u32, stop: Stop) -> Step {
        Step {
            id: 0,
            probe: "build_id".to_owned(),
            context: Context::Process,
            stress: Stress::Idle,
            period_us: None,
            blocks,
            calls_per_block: 100,
            block_ms: 1000,
            interface: Interface::default(),
            stack: Stack::default(),
            writer_duty: None,
            stop,
        }
    }

    fn blocks(correct: &[u64]) -> Vec<Block> {
        let block = |correct: &u64| Block {
            step: 0,
            block: 0,
            at_ns: 0,
            window_ns: 0,
            debug_locks_before: None,
            debug_locks_after: None,
            counts: Counts {
                calls: 100,
                top: Score { valid: *correct, correct: *correct },
                all: Score { valid: *correct, correct: *correct },
                ..Counts::default()
            },
        };
        correct.iter().map(block).collect()
    }

    /// After how many blocks of the same kind the rule ends the step.
    fn ends(step: &Step, correct: impl Fn(usize) -> u64) -> usize {
        let all: Vec<u64> = (0..step.blocks as usize).map(correct).collect();
        let all = blocks(&all);
        (1..=all.len()).find(|n| is_enough(step, &all[..*n])).unwrap()
    }

    /// Looks come after a tenth, a fifth, two fifths and all of the blocks, never
    /// before five, and what they may spend adds up to the whole error.
    #[test]
    fn the_error_is_spent_once() {
        assert_eq!(looks(100).collect::<Vec<_>>(), [10, 20, 40, 100]);
        assert_eq!(looks(20).collect::<Vec<_>>(), [5, 8, 20]);
        assert_eq!(looks(3).collect::<Vec<_>>(), [3]);
        assert_eq!(looks(1).collect::<Vec<_>>(), [1]);
        let stop = Stop::Precise { half_width_ppm: 1 };
        for planned in [1, 3, 7, 20, 100, 1_000_000, u32::MAX] {
            let sum: f64 = looks(planned).map(|look| share(stop, planned, look)).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{planned}: {sum}");
        }
        assert!((share(stop, 100, 100) - 0.936).abs() < 1e-12);
        assert_eq!(share(stop, 100, 33), share(stop, 100, 100), "died between two looks");
        assert!((share(Stop::Fixed, 100, 10) - 1.0).abs() < f64::EPSILON);
    }

    /// All or nothing is known after two fifths of the blocks; a middling rate takes
    /// them all, and so do a few failures; without a rule every step does.
    #[test]
    fn extreme_rates_need_few_calls() {
        let precise = step(100, Stop::Precise { half_width_ppm: 10_000 });
        assert_eq!(ends(&precise, |_| 0), 40);
        assert_eq!(ends(&precise, |n| if n == 3 { 99 } else { 100 }), 100);
        assert_eq!(ends(&precise, |_| 100), 40);
        assert_eq!(ends(&precise, |n| 40 + (n as u64 * 7) % 20), 100);
        assert_eq!(ends(&step(100, Stop::Fixed), |_| 0), 100);
    }

    /// Blocks that disagree go on where blocks that agree stop.
    #[test]
    fn clusters_delay_the_stop() {
        let precise = step(100, Stop::Precise { half_width_ppm: 20_000 });
        let spread = ends(&precise, |n| 98 + (n as u64 % 2));
        let lumped = ends(&precise, |n| if n % 5 == 0 { 90 } else { 100 });
        assert!(spread < lumped, "{spread} {lumped}");
    }

    /// A claim ends at its number of calls whatever was seen, earlier only when it
    /// is refuted beyond doubt.
    #[test]
    fn a_claim_goes_on_until_its_number_of_calls() {
        let claim = step(100, Stop::Claim { at_least_ppb: 999_000_000, calls: 2995 });
        assert_eq!(ends(&claim, |_| 100), 30);
        assert_eq!(ends(&claim, |n| if n == 3 { 99 } else { 100 }), 30);
        assert_eq!(ends(&claim, |_| 0), 10);
    }

    /// What ran with lockdep off counts for nothing, nor do blocks without calls.
    #[test]
    fn blocks_that_prove_nothing_are_not_counted() {
        let precise = step(100, Stop::Precise { half_width_ppm: 10_000 });
        let mut off = blocks(&[100; 10]);
        off.iter_mut().for_each(|block| block.debug_locks_after = Some(false));
        assert!(!is_enough(&precise, &off));
        let mut empty = blocks(&[0; 10]);
        empty.iter_mut().for_each(|block| block.counts.calls = 0);
        assert!(!is_enough(&precise, &empty));
    }
}
