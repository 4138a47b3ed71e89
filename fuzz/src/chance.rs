// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is random in a visit, all of it from the visit's seed.
//!
//! Regular sampling next to a regular disturbance locks in phase: every sample of a
//! visit then meets the same moment of the other's cycle, visits differ by far more
//! than their calls do, and no number of calls helps. So nothing that a probe does
//! on its own account is regular.

use crate::op::value::{Dice, Seeded};

/// A source of random numbers.
#[derive(Clone, Debug)]
pub struct Chance(Seeded);

/// Seed of a visit: visits of one boot have nothing in common, nor has the same visit
/// of two boots.
#[must_use]
pub fn visit_seed(boot: u64, number: u32) -> u64 {
    // Two rounds: numbers that follow each other must not give streams that do.
    let start = Chance::new(boot).word();
    Chance::new(start ^ u64::from(number).wrapping_mul(0xd6e8_feb8_6659_fd93)).word()
}

impl Chance {
    /// The source of that seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Seeded(seed))
    }

    /// Any number.
    fn word(&mut self) -> u64 {
        let mut half = || u64::from(self.0.below(u32::MAX));
        half() << 32 | half()
    }

    /// Another source, for somebody who draws at times of their own.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self::new(self.word())
    }

    /// Between 0 and 1, neither of them.
    fn part(&mut self) -> f64 {
        (f64::from(self.0.below(u32::MAX)) + 0.5) / f64::from(u32::MAX)
    }

    /// Anything below `end`; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        let part = self.part();
        times(end, part).min(end.saturating_sub(1))
    }

    /// Anything within this part of a number around it (0.25: a quarter less to a
    /// quarter more).
    pub fn around(&mut self, middle: u64, part: f64) -> u64 {
        let factor = 1.0 + part * (2.0 * self.part() - 1.0);
        times(middle, factor)
    }

    /// A pause of that mean of somebody who has no rhythm: how long it has lasted tells
    /// nothing of how long it will (exponential distribution).
    pub fn pause(&mut self, mean: u64) -> u64 {
        let factor = -self.part().ln();
        times(mean, factor)
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times to wait: the last bits do not matter, factors are positive, `as` saturates"
)]
fn times(number: u64, factor: f64) -> u64 {
    (number as f64 * factor) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The same boot and number give the same seed; any other gives another one.
    #[test]
    fn visits_have_seeds_of_their_own() {
        let boots = [0, 1, 2, u64::MAX];
        let seeds: BTreeSet<u64> =
            boots.iter().flat_map(|boot| (0..500).map(|n| visit_seed(*boot, n))).collect();
        assert_eq!(seeds.len(), boots.len() * 500);
        assert_eq!(visit_seed(7, 3), visit_seed(7, 3));
    }

    /// Numbers of neighbouring visits are not near each other: first draws spread.
    #[test]
    fn neighbouring_visits_draw_differently() {
        let mut quarters = [0; 4];
        for number in 0..4000 {
            let draw = Chance::new(visit_seed(1, number)).below(4);
            quarters[usize::try_from(draw).unwrap()] += 1;
        }
        assert!(quarters.iter().all(|count| (900..1100).contains(count)), "{quarters:?}");
    }

    /// Pauses have the mean that was asked for, and as large a standard deviation.
    #[test]
    fn pauses_are_exponential() {
        let mut chance = Chance::new(11);
        let drawn: Vec<f64> = (0..20_000).map(|_| chance.pause(1_000_000) as f64).collect();
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        let variance = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / drawn.len() as f64;
        assert!((mean / 1e6 - 1.0).abs() < 0.03, "{mean}");
        assert!((variance.sqrt() / 1e6 - 1.0).abs() < 0.05, "{variance}");
        assert_eq!(chance.pause(0), 0);
        // A mean that is as good as for ever does not come back as a short pause.
        assert!(chance.pause(u64::MAX) > 1 << 40);
    }

    /// What is drawn around a number stays within the part and has it as its mean.
    #[test]
    fn around_means_around() {
        let mut chance = Chance::new(5);
        let drawn: Vec<u64> = (0..10_000).map(|_| chance.around(1000, 0.25)).collect();
        assert!(drawn.iter().all(|n| (750..=1250).contains(n)));
        assert!(drawn.iter().min().is_some_and(|n| *n < 760));
        assert!(drawn.iter().max().is_some_and(|n| *n > 1240));
        let mean = drawn.iter().sum::<u64>() / 10_000;
        assert!((990..=1010).contains(&mean), "{mean}");
    }

    /// Numbers below an end are below it, and there is one below nothing.
    #[test]
    fn below_is_below() {
        let mut chance = Chance::new(5);
        assert!((0..1000).all(|_| chance.below(3) < 3));
        assert_eq!((chance.below(1), chance.below(0)), (0, 0));
    }

    /// A source that was split off goes its own way.
    #[test]
    fn splits_are_independent() {
        let mut chance = Chance::new(5);
        let mut split = chance.split();
        assert_ne!(split.below(u64::MAX), chance.below(u64::MAX));
    }
}
