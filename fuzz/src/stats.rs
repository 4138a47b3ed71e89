// SPDX-License-Identifier: MIT OR Apache-2.0
//! Intervals for rates: what the host needs to say what was found.
//!
//! The unit is the call, but failures come in clusters (a writer holds the lock
//! for a while, the unlock work stays busy), so a rate is estimated from *blocks*
//! and *boots* of calls and its interval widened by what they disagree.
//!
//! | question | method | source |
//! |---|---|---|
//! | interval of one rate | exact binomial, [`clopper_pearson`] | Clopper & Pearson, Biometrika 26 (1934) 404 |
//! | … with clustered calls | the exact interval at the effective sample size, [`Estimate`] | Korn & Graubard, Survey Methodology 24 (1998) 193; design effect: Kish, *Survey Sampling* (1965) |
//! | … of boots that differ | intra-boot correlation over all rates of one kind, [`Between`] | Donner & Koval, Biometrics 36 (1980) 19 (analysis of variance); degrees of freedom: Satterthwaite, Biometrics Bulletin 2 (1946) 110 |
//!
//! With no failure (or nothing but failures) blocks cannot disagree and the
//! design effect is 1: the interval then *assumes* independent calls, and says so
//! in [`Estimate::independence_assumed`].

pub mod special;

use special::{beta_inverse, student_t};

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

/// Calls that belong together: a block, or a boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Calls.
    pub trials: u64,
    /// Those that went right.
    pub successes: u64,
}

/// How much boots of one kernel differ, as many boots tell together.
///
/// Two or three boots of one condition tell next to nothing of how boots differ, and
/// an interval from the blocks of each speaks of those boots only. But the boots of
/// all candidates in all conditions of one kind are many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Between {
    /// Correlation of two calls of one boot: 0 if boots differ by chance only.
    pub correlation: f64,
    /// Degrees of freedom that it was estimated with.
    pub freedom: f64,
}

/// Degrees of freedom below which nothing is said of how boots differ.
const LEAST_FREEDOM: f64 = 4.0;
/// What is left of them at least, however much rates differ in how their boots do.
const FEWEST_FREEDOM: f64 = 2.0;

impl Between {
    /// From the boots of several rates, each rate's apart. A rate without failures, or
    /// without successes, or with one boot, tells nothing. `None`: all together tell
    /// too little.
    ///
    /// Of each rate the variance between its boots, over that of independent calls, is
    /// one more than the correlation times the calls of a boot less one; those ratios
    /// are pooled by their degrees of freedom. Where they differ by more than chance
    /// has them, the degrees of freedom of their sum are fewer (Satterthwaite).
    #[must_use]
    pub fn pooled(rates: &[Vec<Cluster>]) -> Option<Between> {
        let (mut excess, mut room, mut all, mut squares, mut freedom) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for boots in rates {
            let used: Vec<Cluster> = boots.iter().copied().filter(|c| c.trials > 0).collect();
            let trials: u64 = used.iter().map(|c| c.trials).sum();
            let successes: u64 = used.iter().map(|c| c.successes).sum();
            if used.len() < 2 || successes == 0 || successes == trials {
                continue;
            }
            let effect = design_effect(&used, float(trials), float(successes));
            let df = float(used.len() as u64 - 1);
            excess += df * (effect - 1.0);
            room += df * (calls_of_a_boot(&used) - 1.0).max(0.0);
            all += df * effect;
            squares += df * effect * effect;
            freedom += df;
        }
        if freedom < LEAST_FREEDOM || room <= 0.0 || squares <= 0.0 {
            return None;
        }
        // A ratio with one degree of freedom has three times its mean squared as the
        // mean of its square, by chance alone.
        let freedom = (3.0 * all * all / squares).clamp(FEWEST_FREEDOM, freedom);
        let correlation = (excess / room).clamp(0.0, 1.0);
        Some(Between { correlation, freedom })
    }
}

/// Calls that a call's boot has on average: boots of unequal size weigh by their size.
fn calls_of_a_boot(boots: &[Cluster]) -> f64 {
    let all: u64 = boots.iter().map(|c| c.trials).sum();
    let squares: f64 = boots.iter().map(|c| float(c.trials).powi(2)).sum();
    squares / float(all.max(1))
}

/// Where all failures lie in fewer blocks than these, the interval is to be read with
/// that in mind: its coverage was seen to fall to 61% where failures clump hard.
pub const FEW_BLOCKS: usize = 10;

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
    /// How many clusters tell how much clusters disagree: all of them where calls
    /// are independent; where failures come in clumps, those that hold a failure
    /// (or a success, if those are fewer). Between the two where it is not clear.
    pub told_by: f64,
    /// Blocks that hold a failure, or a success if those are fewer. Below
    /// [`FEW_BLOCKS`] how failures clump is hardly known.
    pub rarer_in: usize,
    /// The clusters could not disagree (no failure, no success) or there are too
    /// few: the interval assumes that calls are independent.
    pub independence_assumed: bool,
    /// The part of the error its intervals may make: less than 1 where the
    /// sampling could have stopped earlier.
    pub error_share: f64,
    /// Calls of a boot, for [`Between`].
    pub calls_of_a_boot: f64,
    /// How much boots differ, where that is known.
    pub between: Option<Between>,
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
            told_by: 0.0,
            rarer_in: rarer_in(blocks),
            independence_assumed: true,
            error_share: 1.0,
            calls_of_a_boot: calls_of_a_boot(boots),
            between: None,
        };
        let levels = [(blocks, 2), (boots, FEWEST_BOOTS)];
        for (clusters, fewest) in levels {
            let count = clusters.iter().filter(|c| c.trials > 0).count();
            if count < fewest || successes == 0 || successes == trials {
                continue;
            }
            let effect = design_effect(clusters, float(trials), float(successes)).max(1.0);
            let told_by = told_by(clusters, effect);
            if estimate.independence_assumed
                || shrink(effect, told_by) < shrink(estimate.design_effect, estimate.told_by)
            {
                estimate.design_effect = effect;
                estimate.clusters = count;
                estimate.told_by = told_by;
            }
            estimate.independence_assumed = false;
        }
        Some(estimate)
    }

    /// The same, knowing how much boots differ.
    #[must_use]
    pub fn among_boots(self, between: Option<Between>) -> Estimate {
        Estimate { between, ..self }
    }

    /// How many times the variance of independent calls boots make of it.
    #[must_use]
    pub fn boot_effect(&self) -> Option<f64> {
        let of = |b: Between| 1.0 + (self.calls_of_a_boot - 1.0).max(0.0) * b.correlation;
        self.between.map(of)
    }

    /// The same with so much of the error to spend.
    #[must_use]
    pub fn spending(self, share: f64) -> Estimate {
        Estimate { error_share: share, ..self }
    }

    /// Failures (or successes) lie in so few blocks that how they clump is hardly
    /// known.
    #[must_use]
    pub fn rests_on_few(&self) -> bool {
        !self.independence_assumed && self.rarer_in < FEW_BLOCKS
    }

    /// Correct calls per call.
    #[must_use]
    pub fn rate(&self) -> f64 {
        float(self.successes) / float(self.trials)
    }

    /// The two-sided interval, wrong at most in `1 - confidence` of the cases
    /// whatever ended the sampling.
    #[must_use]
    pub fn interval(&self, confidence: f64) -> Interval {
        self.interval_of_more(1.0, confidence)
    }

    /// The interval there would be with `factor` times the calls and clusters,
    /// if they went as these did.
    #[must_use]
    pub fn interval_of_more(&self, factor: f64, confidence: f64) -> Interval {
        let alpha = (1.0 - confidence) * self.error_share;
        let trials = float(self.trials) * factor;
        let mut effective = trials;
        // Few clusters know their variance badly: Korn and Graubard take that into
        // account by the ratio of the two t quantiles.
        let widened = |effect: f64, freedom: f64| {
            let ratio = student_t(alpha, (trials - 1.0).max(1.0)) / student_t(alpha, freedom);
            (trials / effect * ratio * ratio).min(trials)
        };
        if !self.independence_assumed {
            let told_by = (self.told_by * factor).max(2.0);
            effective = widened(self.design_effect, told_by - 1.0);
        }
        if let (Some(between), Some(effect)) = (self.between, self.boot_effect()) {
            effective = effective.min(widened(effect, between.freedom));
        }
        exact(self.rate() * effective, effective, alpha / 2.0)
    }
}

/// Clusters that tell the variance, see [`Estimate::told_by`]. Where nine clusters
/// of ten hold no failure the tenth alone tells how they clump, and degrees of
/// freedom counted over all of them promise more than is known (the simulation in
/// the host's `stats::coverage` shows it: 89% instead of 95). Not below four: one
/// clump would make any interval useless. A design effect of 2 is taken for
/// clumps; below it, chance makes independent failures look like some.
#[expect(clippy::cast_precision_loss, reason = "there are not that many blocks")]
fn told_by(clusters: &[Cluster], effect: f64) -> f64 {
    let all = clusters.iter().filter(|c| c.trials > 0).count();
    let few = rarer_in(clusters).max(4).min(all) as f64;
    let clumped = (effect - 1.0).clamp(0.0, 1.0);
    all as f64 + clumped * (few - all as f64)
}

/// Clusters that hold a failure, or a success if those are fewer.
fn rarer_in(clusters: &[Cluster]) -> usize {
    let with = |has: fn(&Cluster) -> bool| clusters.iter().filter(|c| has(c)).count();
    with(|c| c.successes < c.trials).min(with(|c| c.successes > 0))
}

/// Which of two levels widens more: the factor on the sample size at 95%.
fn shrink(effect: f64, told_by: f64) -> f64 {
    let df = (told_by - 1.0).max(1.0);
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
