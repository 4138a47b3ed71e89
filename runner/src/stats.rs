// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers in, numbers out: intervals for rates, and how many calls a claim takes.
//!
//! The unit is the call, but failures come in clusters (a writer holds the lock
//! for a while, the unlock work stays busy), so a rate is estimated from *blocks*
//! and *boots* of calls and its interval widened by what they disagree.
//!
//! | question | method | source |
//! |---|---|---|
//! | interval of one rate | exact binomial, [`clopper_pearson`] | Clopper & Pearson, Biometrika 26 (1934) 404 |
//! | … with clustered calls | the exact interval at the effective sample size, [`Estimate`] | Korn & Graubard, Survey Methodology 24 (1998) 193; design effect: Kish, *Survey Sampling* (1965) |
//! | difference of two rates | square-and-add over the two intervals, [`difference`] | Newcombe, Statistics in Medicine 17 (1998) 873; Zou & Donner, ibid. 27 (2008) 1693 |
//! | same, better, worse | is the interval of the difference inside, above or below a margin, [`judge`] | Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15 (1987) 657 |
//! | many comparisons | Bonferroni, [`corrected`] | Dunn, JASA 56 (1961) 52 |
//! | calls for a claim | exact lower bound solved for n, [`calls_for_claim`] | as the first row |
//!
//! With no failure (or nothing but failures) blocks cannot disagree and the
//! design effect is 1: the interval then *assumes* independent calls, and says so
//! in [`Estimate::independence_assumed`].

mod special;
#[cfg(test)]
mod tests;

use special::{beta_inverse, bisect, student_t};

/// The confidence of every interval that is shown.
pub const CONFIDENCE: f64 = 0.95;

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

fn valid(successes: u64, trials: u64) -> Option<()> {
    (trials > 0 && successes <= trials).then_some(())
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

/// Clopper and Pearson's bounds with `tail` of the error on each side. Counts may
/// be fractions, as effective sample sizes are.
fn exact(successes: f64, trials: f64, tail: f64) -> Interval {
    let failures = (trials - successes).max(0.0);
    let low = if successes <= 0.0 { 0.0 } else { beta_inverse(tail, successes, failures + 1.0) };
    let high =
        if failures <= 0.0 { 1.0 } else { 1.0 - beta_inverse(tail, failures, successes + 1.0) };
    Interval { low, high }
}

/// Calls a one-sided claim "at least `rate`" takes when `failures` of them fail.
///
/// 99.999% at 95% takes 299,572 calls without a failure. `None` if no number of
/// calls can show it (`rate` 1, or no confidence asked).
#[must_use]
pub fn calls_for_claim(rate: f64, failures: u64, confidence: f64) -> Option<u64> {
    if !(0.0..1.0).contains(&rate) || !(0.0..1.0).contains(&confidence) || confidence == 0.0 {
        return None;
    }
    let shows = |calls: u64| {
        calls > failures
            && lower_bound(calls - failures, calls, confidence).is_some_and(|low| low >= rate)
    };
    let mut high = failures.checked_add(1)?;
    while !shows(high) {
        high = high.checked_mul(2).filter(|n| *n < 1 << 50)?;
    }
    let mut low = high / 2;
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if shows(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(high)
}

/// The one-sided upper bound of a Poisson mean of which `events` were seen: 3.00,
/// 4.74, 6.30, 7.75 for 0, 1, 2, 3 events at 95% (Garwood, Biometrika 28 (1936)
/// 437). Divided by the calls it is the bound of a small failure rate.
#[must_use]
pub fn poisson_upper(events: u32, confidence: f64) -> f64 {
    let tail = 1.0 - confidence;
    let at_most = |mean: f64| {
        let mut term = (-mean).exp();
        let mut sum = term;
        for k in 1..=events {
            term *= mean / f64::from(k);
            sum += term;
        }
        sum
    };
    let seen = f64::from(events);
    bisect(0.0, seen + 20.0 * (seen + 10.0).sqrt(), 60, |mean| at_most(mean) <= tail)
}

/// Calls that belong together: a block, or a boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Calls.
    pub trials: u64,
    /// Those that went right.
    pub successes: u64,
}

/// Boots below this number cannot tell how much boots disagree; blocks must do.
const FEWEST_BOOTS: usize = 6;

/// A rate with all that its interval rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Calls.
    pub trials: u64,
    /// Those that went right.
    pub successes: u64,
    /// How many times the variance of independent calls was seen between
    /// clusters; never below 1, so clusters that agree by chance gain nothing.
    pub design_effect: f64,
    /// Clusters the design effect was taken from.
    pub clusters: usize,
    /// The clusters could not disagree (no failure, no success) or there are too
    /// few: the interval assumes that calls are independent.
    pub independence_assumed: bool,
}

impl Estimate {
    /// The rate of calls given in blocks, and the same calls again in boots;
    /// `None` without calls.
    ///
    /// Each level has its own design effect and the larger one counts. Boots are
    /// asked only when there are at least six: the interval otherwise speaks of
    /// the boots that were made.
    #[must_use]
    pub fn new(blocks: &[Cluster], boots: &[Cluster]) -> Option<Estimate> {
        let trials: u64 = blocks.iter().map(|c| c.trials).sum();
        let successes: u64 = blocks.iter().map(|c| c.successes).sum();
        valid(successes, trials)?;
        let mut estimate = Estimate {
            trials,
            successes,
            design_effect: 1.0,
            clusters: blocks.iter().filter(|c| c.trials > 0).count(),
            independence_assumed: true,
        };
        let levels = [(blocks, 2), (boots, FEWEST_BOOTS)];
        for (clusters, fewest) in levels {
            let count = clusters.iter().filter(|c| c.trials > 0).count();
            if count < fewest || successes == 0 || successes == trials {
                continue;
            }
            let effect = design_effect(clusters, float(trials), float(successes)).max(1.0);
            if estimate.independence_assumed
                || shrink(effect, count) < shrink(estimate.design_effect, estimate.clusters)
            {
                estimate.design_effect = effect;
                estimate.clusters = count;
            }
            estimate.independence_assumed = false;
        }
        Some(estimate)
    }

    /// Correct calls per call.
    #[must_use]
    pub fn rate(&self) -> f64 {
        float(self.successes) / float(self.trials)
    }

    /// The two-sided interval.
    #[must_use]
    pub fn interval(&self, confidence: f64) -> Interval {
        self.interval_of_more(1.0, confidence)
    }

    /// The interval there would be with `factor` times the calls and clusters,
    /// if they went as these did.
    fn interval_of_more(&self, factor: f64, confidence: f64) -> Interval {
        let alpha = 1.0 - confidence;
        let trials = float(self.trials) * factor;
        let mut effective = trials;
        if !self.independence_assumed {
            #[expect(clippy::cast_precision_loss, reason = "there are not that many blocks")]
            let clusters = self.clusters as f64 * factor;
            // Few clusters know their variance badly: Korn and Graubard take that
            // into account by the ratio of the two t quantiles.
            let ratio =
                student_t(alpha, (trials - 1.0).max(1.0)) / student_t(alpha, clusters - 1.0);
            effective = (trials / self.design_effect * ratio * ratio).min(trials);
        }
        exact(self.rate() * effective, effective, alpha / 2.0)
    }
}

/// Which of two levels widens more: the factor on the sample size at 95%.
fn shrink(effect: f64, clusters: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "there are not that many blocks")]
    let df = (clusters as f64 - 1.0).max(1.0);
    let t = student_t(0.05, df);
    1.0 / (effect * t * t)
}

/// The variance of the rate as the clusters show it, over that of independent
/// calls (Kish's design effect; the ratio estimator's linearized variance, since
/// blocks differ in size).
fn design_effect(clusters: &[Cluster], trials: f64, successes: f64) -> f64 {
    let rate = successes / trials;
    let used: Vec<&Cluster> = clusters.iter().filter(|c| c.trials > 0).collect();
    #[expect(clippy::cast_precision_loss, reason = "there are not that many blocks")]
    let count = used.len() as f64;
    let squares: f64 =
        used.iter().map(|c| (float(c.successes) - rate * float(c.trials)).powi(2)).sum();
    let between = count / (count - 1.0) * squares / (trials * trials);
    between / (rate * (1.0 - rate) / trials)
}

/// The interval of `ours - theirs`, from the intervals of both at `confidence`.
#[must_use]
pub fn difference(ours: &Estimate, theirs: &Estimate, confidence: f64) -> Interval {
    difference_of_more(ours, theirs, 1.0, confidence)
}

fn difference_of_more(
    ours: &Estimate,
    theirs: &Estimate,
    factor: f64,
    confidence: f64,
) -> Interval {
    let (a, b) = (ours.rate(), theirs.rate());
    let ia = ours.interval_of_more(factor, confidence);
    let ib = theirs.interval_of_more(factor, confidence);
    let low = a - b - (a - ia.low).hypot(ib.high - b);
    let high = a - b + (ia.high - a).hypot(b - ib.low);
    Interval { low: low.max(-1.0), high: high.min(1.0) }
}

/// What an interval of a difference says, given the margin below which a
/// difference does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// All of it lies above the margin.
    Higher,
    /// All of it lies within the margin.
    Same,
    /// All of it lies below the margin.
    Lower,
    /// It reaches across: more calls are needed.
    Open,
}

/// Judges a difference. Each of the three answers is wrong with at most half the
/// error of the interval's confidence, so "same" is shown, not assumed.
#[must_use]
pub fn judge(difference: Interval, margin: f64) -> Judgement {
    if difference.high < -margin {
        Judgement::Lower
    } else if difference.low > margin {
        Judgement::Higher
    } else if difference.low >= -margin && difference.high <= margin {
        Judgement::Same
    } else {
        Judgement::Open
    }
}

/// How many calls more `ours` would need (and `theirs` in proportion) for
/// [`judge`] to answer, if they went on as they did; `None` if that would not
/// help: the difference lies on the margin itself.
#[must_use]
pub fn calls_for_judgement(
    ours: &Estimate,
    theirs: &Estimate,
    margin: f64,
    confidence: f64,
) -> Option<u64> {
    let decided = |factor: f64| {
        judge(difference_of_more(ours, theirs, factor, confidence), margin) != Judgement::Open
    };
    let mut high = 1.0;
    while !decided(high) {
        high *= 2.0;
        if high > 65_536.0 {
            return None;
        }
    }
    // A thousandth is more than the guess is worth.
    let factor = bisect(high / 2.0, high, 10, decided);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small, positive")]
    Some(((factor - 1.0) * float(ours.trials)).ceil().max(0.0) as u64)
}

/// The confidence of each of `comparisons` intervals such that all hold at once
/// with `confidence`.
#[must_use]
pub fn corrected(confidence: f64, comparisons: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "there are not that many rows")]
    let family = comparisons.max(1) as f64;
    1.0 - (1.0 - confidence) / family
}
