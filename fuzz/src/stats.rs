// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exact intervals for shares, and the special functions that statistics need.
//!
//! Source: Clopper & Pearson, Biometrika 26 (1934) 404.

pub mod special;

use special::beta_inverse;

/// Two bounds, `low <= high`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

/// The exact two-sided interval of a proportion; `None` without trials.
///
/// With no success the lower bound is 0, with no failure the upper one is 1, and
/// the other bound keeps its half of the error: the interval stays two-sided, so
/// rows can be compared. Where only one side is asked for use [`lower_bound`].
#[must_use]
pub fn clopper_pearson(successes: u64, trials: u64, confidence: f64) -> Option<Interval> {
    valid(successes, trials)?;
    let tail = (1.0 - confidence) / 2.0;
    Some(exact(float(successes), float(trials), tail))
}

/// The exact one-sided lower bound: the rate is at least this with `confidence`.
#[must_use]
pub fn lower_bound(successes: u64, trials: u64, confidence: f64) -> Option<f64> {
    valid(successes, trials)?;
    Some(exact(float(successes), float(trials), 1.0 - confidence).low)
}

/// The exact one-sided upper bound: the rate is at most this with `confidence`.
#[must_use]
pub fn upper_bound(successes: u64, trials: u64, confidence: f64) -> Option<f64> {
    valid(successes, trials)?;
    Some(exact(float(successes), float(trials), 1.0 - confidence).high)
}

pub(crate) fn valid(successes: u64, trials: u64) -> Option<()> {
    (trials > 0 && successes <= trials).then_some(())
}

/// A count as a number to reckon with.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub fn float(count: u64) -> f64 {
    count as f64
}

/// Clopper and Pearson's bounds with `tail` of the error on each side. Counts may
/// be fractions, as effective sample sizes are.
#[must_use]
pub fn exact(successes: f64, trials: f64, tail: f64) -> Interval {
    let failures = (trials - successes).max(0.0);
    let low = if successes <= 0.0 { 0.0 } else { beta_inverse(tail, successes, failures + 1.0) };
    let high =
        if failures <= 0.0 { 1.0 } else { 1.0 - beta_inverse(tail, failures, successes + 1.0) };
    Interval { low, high }
}
