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
//! | … of boots that differ | intra-boot correlation over all rates of one kind, [`Between`] | Donner & Koval, Biometrics 36 (1980) 19; Satterthwaite, Biometrics Bulletin 2 (1946) 110 |
//! | difference of two rates | square-and-add over the two intervals, [`difference`] | Newcombe, Statistics in Medicine 17 (1998) 873; Zou & Donner, ibid. 27 (2008) 1693 |
//! | same, better, worse | is the interval of the difference inside, above or below a margin, [`judge`] | Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15 (1987) 657 |
//! | many comparisons | better and worse: Bonferroni, [`corrected`]; same in all: no correction | Dunn, JASA 56 (1961) 52; Berger, Technometrics 24 (1982) 295 |
//! | stopping early | error spent over looks, [`bakeoff_fuzz::stop`] | Lan & DeMets, Biometrika 70 (1983) 659; Kim & DeMets, ibid. 74 (1987) 149; Jennison & Turnbull, JRSS B 51 (1989) 305 |
//! | is all this true | simulation, [`coverage`] | `cargo run --release --example coverage` |
//! | calls for a claim | exact lower bound solved for n, [`calls_for_claim`] | as the first row |
//!
//! With no failure (or nothing but failures) blocks cannot disagree and the
//! design effect is 1: the interval then *assumes* independent calls, and says so
//! in [`Estimate::independence_assumed`]. Where all failures lie in a few blocks
//! ([`FEW_BLOCKS`]) the widening rests on those few: by simulation, of 100 such
//! intervals only 61 to 94 contain the truth if failures clump hard (0.999, 100
//! blocks, intra-block correlation 0.2: 61; 0.99, 20 blocks: 83), and the report
//! says so. Beside other rates of their kind ([`Between`]) they contain it: what two
//! boots of many rates differ by holds their clumps, too. Where failures are few and independent, or a step ended at an early
//! look, more than 97 do: counts are whole numbers, and early looks spend little.

pub mod coverage;
#[cfg(test)]
mod tests;

use bakeoff_fuzz::stats::special::bisect;
pub use bakeoff_fuzz::stats::{
    Between, CONFIDENCE, Cluster, Estimate, FEW_BLOCKS, Interval, clopper_pearson, float,
    lower_bound,
};

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
    let ours = (ours.rate(), ours.interval_of_more(factor, confidence));
    square_and_add(ours, (theirs.rate(), theirs.interval_of_more(factor, confidence)))
}

/// The interval of `ours - theirs`, from rates that are independent and their intervals.
#[must_use]
pub fn square_and_add((a, ia): (f64, Interval), (b, ib): (f64, Interval)) -> Interval {
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

/// How sure an answer has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sure {
    /// Confidence of one interval.
    pub alone: f64,
    /// The same, corrected for the number of comparisons.
    pub of_many: f64,
}

/// Judges the difference of two rates by two intervals of it.
///
/// Higher and lower are blame, and one of many comparisons must not find some by
/// chance: they rest on the interval `of_many`. "Same" is shown, not assumed, and
/// rests on the one that stands `alone`: whoever is the same in all conditions had to
/// be in each, so that more comparisons make that harder and not easier (an
/// intersection-union test). Each answer is wrong with at most half the error of its
/// interval's confidence.
#[must_use]
pub fn judge(of_many: Interval, alone: Interval, margin: f64) -> Judgement {
    if of_many.high < -margin {
        Judgement::Lower
    } else if of_many.low > margin {
        Judgement::Higher
    } else if alone.low >= -margin && alone.high <= margin {
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
    sure: Sure,
) -> Option<u64> {
    let decided = |factor: f64| {
        let of = |confidence| difference_of_more(ours, theirs, factor, confidence);
        judge(of(sure.of_many), of(sure.alone), margin) != Judgement::Open
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
