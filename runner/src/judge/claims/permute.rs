// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sets the reference against itself on paper: the boots of several copies of the
//! reference are dealt out anew, as if they were a reference and its candidates.
//!
//! Nothing differs between them, so every gain and loss that is read is a false one, and
//! how often that happens is what the error promises. Whole boots are dealt, the same way
//! in all claims: what boots and claims have in common stays in common.

use std::collections::BTreeMap;

use super::{Condition, Looks, Question, Reading, Visit, clopper_pearson};
use crate::judge::claims::coins::Coins;

/// What came of the dealt bake-offs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permuted {
    /// Bake-offs.
    pub times: u64,
    /// Those in which a claim was read as a loss.
    pub blamed: u64,
    /// Those in which one was read as a gain.
    pub praised: u64,
    /// Claims of all bake-offs.
    pub claims: u64,
    /// Claims that were decided.
    pub decided: u64,
}

impl Permuted {
    /// The 95 % interval of the part of bake-offs with a false loss.
    #[must_use]
    pub fn blame(&self) -> Option<(f64, f64)> {
        clopper_pearson(self.blamed, self.times, 0.95).map(|i| (i.low, i.high))
    }
}

/// Deals the boots of each question's reference visits, `times` times, to one reference
/// and `candidates`. The visits stand in the order they were made, and boots of different
/// copies have different numbers. `None` if there are fewer boots than kernels.
#[must_use]
pub fn permute(pools: &[Question], candidates: usize, times: u64, seed: u64) -> Option<Permuted> {
    let visits = || pools.iter().flat_map(|q| &q.conditions).flat_map(|c| &c.reference);
    let mut boots: Vec<u32> = visits().map(|v| v.boot).collect();
    boots.sort_unstable();
    boots.dedup();
    let kernels = candidates + 1;
    if candidates == 0 || pools.is_empty() || boots.len() < kernels {
        return None;
    }
    let looks = Looks::planned(pools.len() * candidates);
    let mut coins = Coins(seed);
    let mut all = Permuted { times, ..Permuted::default() };
    for _ in 0..times {
        shuffle(&mut boots, &mut coins);
        let dealt: BTreeMap<u32, usize> =
            boots.iter().enumerate().map(|(at, boot)| (*boot, at % kernels)).collect();
        let (mut blamed, mut praised) = (false, false);
        for pool in pools {
            for candidate in 1..kernels {
                let reading = looks.settle(&deal(pool, &dealt, candidate, kernels)).settled.reading;
                all.claims += 1;
                match reading {
                    Reading::Open | Reading::NotReached => continue,
                    Reading::NoWorse => {}
                    Reading::Gains => praised = true,
                    Reading::Loses { .. } => blamed = true,
                }
                all.decided += 1;
            }
        }
        all.blamed += u64::from(blamed);
        all.praised += u64::from(praised);
    }
    Some(all)
}

/// A question between two of the kernels that the boots were dealt to.
fn deal(
    pool: &Question,
    dealt: &BTreeMap<u32, usize>,
    candidate: usize,
    kernels: usize,
) -> Question {
    let of = |condition: &Condition, kernel: usize| -> Vec<Visit> {
        let own = |v: &&Visit| dealt.get(&v.boot) == Some(&kernel);
        condition.reference.iter().filter(own).copied().collect()
    };
    let conditions = pool.conditions.iter().map(|condition| Condition {
        name: condition.name.clone(),
        candidate: of(condition, candidate),
        reference: of(condition, 0),
        others: (1..kernels).filter(|k| *k != candidate).map(|k| of(condition, k)).collect(),
    });
    Question { conditions: conditions.collect(), ..*pool }
}

/// Every order is equally probable (Fisher & Yates 1938; Durstenfeld 1964).
fn shuffle(boots: &mut [u32], coins: &mut Coins) {
    for last in (1..boots.len()).rev() {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "below the number of boots"
        )]
        let other = (coins.unit() * (last + 1) as f64) as usize;
        boots.swap(last, other.min(last));
    }
}
