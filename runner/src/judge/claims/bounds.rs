// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a mean and its spread to bounds, and from two sides' bounds to those of their
//! difference.

use bakeoff_fuzz::stats::special::student_t;
use bakeoff_fuzz::stats::{Interval, exact};

/// Degrees of freedom beyond which Student's t is the normal distribution.
const ENDLESS: f64 = 1e6;

/// The share of right answers of one side, ready for its interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) mean: f64,
    /// The variance of the mean, not below that of independent calls.
    pub(super) variance: f64,
    /// Blocks that the whole mean rests on, were nothing to fail.
    pub(super) blocks: f64,
}

impl Share {
    /// The interval that is wrong in `alpha` of the cases, given the degrees of
    /// freedom of the difference it is for.
    ///
    /// Blocks bound it from outside: whoever saw a failure cannot be surer than who saw
    /// none in as many blocks.
    pub(super) fn interval(&self, alpha: f64, freedom: f64) -> Interval {
        let tail = alpha / 2.0;
        let right = self.mean.clamp(0.0, 1.0);
        let none_failed = exact(self.blocks, self.blocks, tail).low;
        let none_worked = exact(0.0, self.blocks, tail).high;
        let room = right * (1.0 - right);
        if room <= 0.0 || self.variance <= 0.0 {
            return Interval {
                low: if right > 0.5 { none_failed } else { 0.0 },
                high: if right > 0.5 { 1.0 } else { none_worked },
            };
        }
        let widened = (student_t(alpha, ENDLESS) / student_t(alpha, freedom)).powi(2);
        let effective = room / self.variance * widened;
        let seen = exact(right * effective, effective, tail);
        Interval { low: seen.low.min(none_failed), high: seen.high.max(none_worked) }
    }
}

/// The interval of candidate − reference, from both with their intervals at the same
/// level: the squares of the distances add up.
pub(super) fn apart(
    (ours, of_ours): (f64, Interval),
    (theirs, of_theirs): (f64, Interval),
) -> Interval {
    let estimate = ours - theirs;
    Interval {
        low: estimate - (ours - of_ours.low).hypot(of_theirs.high - theirs),
        high: estimate + (of_ours.high - ours).hypot(theirs - of_theirs.low),
    }
}

/// Estimate ± t·√V̂.
pub(super) fn plain(estimate: f64, variance: f64, alpha: f64, freedom: f64) -> Interval {
    let half = student_t(alpha, freedom) * variance.sqrt();
    Interval { low: estimate - half, high: estimate + half }
}
