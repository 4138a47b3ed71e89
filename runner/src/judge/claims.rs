// SPDX-License-Identifier: MIT OR Apache-2.0
//! Settles claims: a handful of questions that somebody asked, each with a margin in
//! the reader's terms, answered by the difference between two kernels.
//!
//! Everything here is a pure function of numbers. A [`Question`] holds the visits of
//! both kernels, condition by condition; [`Question::settle`] returns what they show
//! with a given error, and [`Looks`] says how much error a look may spend.
//!
//! The unit is the *visit*: one begin and end of a condition, about a hundred calls.
//! Calls within a visit are alike (a timer locks in phase with a writer), so they are
//! never counted as independent. A second level is the boot: where boots differ by
//! more than their visits explain, the boot is the unit ([`Unit::Boots`]).
//!
//! | question | method | source |
//! |---|---|---|
//! | difference over the conditions | unweighted mean of the differences of each | Neyman, JRSS 97 (1934) 558 (strata) |
//! | spread of a condition | between its visits, weighted by their calls | Cochran, *Sampling Techniques* (1977) 6.3 |
//! | degrees of freedom | of a sum of estimated variances | Satterthwaite, Biometrics Bulletin 2 (1946) 110; Welch, Biometrika 34 (1947) 28 |
//! | interval of one share | exact at the effective sample size | Korn & Graubard, Survey Methodology 24 (1998) 193 |
//! | interval of the difference | squares of the distances to both sides' bounds add up | Newcombe, Statistics in Medicine 17 (1998) 873; Zou & Donner, ibid. 27 (2008) 1693 |
//! | no failure at all | blocks of at most [`BLOCK_CALLS`] calls: 1 − α^(1/B) | Clopper & Pearson, Biometrika 26 (1934) 404 |
//! | ratio of means | difference of logarithms; with zeros, Fieller's interval | Fieller, JRSS B 16 (1954) 175 |
//! | unequal duty | analysis of covariance | Fisher, *Statistical Methods for Research Workers* (1932); Cochran, Biometrics 13 (1957) 261 |
//! | many claims | Bonferroni's inequality | Dunn, JASA 56 (1961) 52 |
//! | several looks | the error is split between the looks | Lan & DeMets, Biometrika 70 (1983) 659 |
//! | lost samples | worst case of each | Horowitz & Manski, JASA 95 (2000) 77 |
//! | k of n against k of n | exact test | Fisher, JRSS 98 (1935) 39 |
//!
//! Away from 0 and 1 the interval of a difference of shares is Welch's
//! D ± t·√V̂: the exact intervals of both sides then are t times their standard
//! error. Near the ends they are lopsided, and never of width zero.
//!
//! Bonferroni's inequality rather than Šidák's, which needs one common distribution
//! of all intervals and gains 2 % of the error at twelve claims.

mod alone;
mod bounds;
mod coins;
mod duty;
mod exact;
mod looks;
mod permute;
mod ratio;
mod settle;
pub mod simulate;
mod spread;
#[cfg(test)]
mod tests;

pub use alone::alone;
pub use exact::{Confirmed, Fisher, Seen, Zero, clopper_pearson, confirm, fisher, zero_means};
pub use looks::{Look, Looks, Standing};
pub use permute::{Permuted, permute};
pub use settle::{Duty, Missing, Reading, Settled, ToDecide, Unit};

/// Calls of a block at most: the unit where nothing failed, because whole blocks of
/// calls do fail together.
pub const BLOCK_CALLS: u64 = 20;

/// What one visit of one condition found, on one kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Visit {
    /// The boot it was made in; numbers are the kernel's own.
    pub boot: u32,
    /// Calls that count. A visit without any is left out.
    pub calls: u64,
    /// The share of right answers, 0 to 1, or the mean of a continuous metric.
    pub value: f64,
    /// Calls that went right; of no meaning for a continuous metric.
    pub right: u64,
    /// Samples asked for and lost: how they would have gone is not known.
    pub missing: u64,
    /// The load measured during the visit, such as a writer's duty, if there is one.
    pub duty: Option<f64>,
    /// Blocks of at most [`BLOCK_CALLS`] calls; 0 if not counted, then derived from
    /// the calls.
    pub blocks: u64,
    /// Those in which a call failed.
    pub failed_blocks: u64,
}

impl Visit {
    /// A visit of a metric that counts right answers.
    #[must_use]
    pub fn share(boot: u32, right: u64, calls: u64) -> Visit {
        let value = if calls == 0 { 0.0 } else { float(right) / float(calls) };
        Visit { boot, calls, value, right, ..Visit::default() }
    }

    /// A visit of a metric that measures something.
    #[must_use]
    pub fn mean(boot: u32, value: f64, calls: u64) -> Visit {
        Visit { boot, calls, value, ..Visit::default() }
    }
}

/// The visits of one condition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Condition {
    /// In the reader's words.
    pub name: String,
    /// The candidate's visits.
    pub candidate: Vec<Visit>,
    /// The reference's visits.
    pub reference: Vec<Visit>,
    /// Those of the other kernels of the run, each kernel's apart. They tell how much
    /// visits differ, never what is compared. May be empty.
    pub others: Vec<Vec<Visit>>,
}

/// How a difference is expressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Candidate minus reference, of shares: 0.02 is two points.
    Share,
    /// Candidate over reference, of a continuous metric: 1.02 is 2 % more.
    Ratio,
}

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// A claim's numbers: what is asked, and all that was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// How the difference is expressed.
    pub scale: Scale,
    /// Which way is good.
    pub better: Better,
    /// What does not count: 0.02 is two points of a share, or 2 % of the reference.
    pub margin: f64,
    /// All that the claim declares, measured or not.
    pub conditions: Vec<Condition>,
}

/// A count as a number to calculate with.
fn float(count: u64) -> f64 {
    bakeoff_fuzz::stats::float(count)
}

/// How many there are, as a number to calculate with.
fn many<T>(of: &[T]) -> f64 {
    float(of.len() as u64)
}
