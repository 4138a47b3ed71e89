// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much visits differ, and so how well their mean is known.
//!
//! A side is one kernel over all conditions of a claim. Its mean is the unweighted
//! mean over the conditions; each visit contributes a residual, and the variance of
//! the mean is the sum of their squares. The same residuals summed by boot tell
//! whether boots differ by more than their visits explain.

use std::collections::BTreeMap;

use bakeoff_fuzz::stats::special::beta_reg;

use super::{BLOCK_CALLS, Condition, Visit, float, many};

/// One visit as it enters a mean: its boot, its weight, its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) boot: u32,
    pub(super) weight: f64,
    pub(super) value: f64,
}

/// One kernel in one condition.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) mean: f64,
    /// Boot and residual of each visit, as its part in the error of the mean.
    pub(super) residuals: Vec<(u32, f64)>,
    /// Degrees of freedom of the residuals.
    pub(super) freedom: f64,
    /// Where what the load explains is taken out: what it leaves on both kernels together.
    /// The raw spread of all kernels says nothing of that.
    pub(super) corrected: Option<Pooled>,
}

impl Cell {
    /// `None` without a visit that counts.
    pub(super) fn new(points: &[Point]) -> Option<Cell> {
        let all: f64 = points.iter().map(|p| p.weight).sum();
        if points.is_empty() || all <= 0.0 {
            return None;
        }
        let mean = points.iter().map(|p| p.weight * p.value).sum::<f64>() / all;
        let residuals = points.iter().map(|p| (p.boot, p.weight / all * (p.value - mean)));
        let residuals = residuals.collect();
        Some(Cell { mean, residuals, freedom: many(points) - 1.0, corrected: None })
    }

    /// The variance of the mean.
    pub(super) fn variance(&self) -> f64 {
        if self.freedom <= 0.0 {
            return 0.0;
        }
        let squares: f64 = self.residuals.iter().map(|(_, r)| r * r).sum();
        squares * many(&self.residuals) / self.freedom
    }
}

/// Shares as points: a visit of more calls knows its share better.
pub(super) fn shares(visits: &[Visit]) -> Vec<Point> {
    let used = visits.iter().filter(|v| v.calls > 0);
    used.map(|v| Point { boot: v.boot, weight: float(v.calls), value: v.value }).collect()
}

/// A variance with the degrees of freedom it was estimated with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Variance {
    pub(super) value: f64,
    pub(super) freedom: f64,
}

impl Variance {
    /// The variance of a sum of independent parts (Satterthwaite).
    pub(super) fn sum(parts: impl IntoIterator<Item = Variance>) -> Variance {
        let (mut value, mut squares, mut most) = (0.0, 0.0, 0.0f64);
        for part in parts {
            value += part.value;
            most += part.freedom;
            if part.freedom > 0.0 {
                squares += part.value * part.value / part.freedom;
            }
        }
        let freedom = if squares > 0.0 { value * value / squares } else { most };
        Variance { value, freedom: freedom.max(1.0) }
    }
}

/// One kernel over all conditions of a claim.
#[derive(Clone, Debug)]
pub(super) struct Side {
    /// The unweighted mean over the conditions.
    pub(super) mean: f64,
    pub(super) cells: Vec<Cell>,
    /// What a correction for unequal duty adds to the variance of the mean.
    pub(super) extra: f64,
}

impl Side {
    pub(super) fn new(cells: Vec<Cell>) -> Side {
        let mean = cells.iter().map(|c| c.mean).sum::<f64>() / many(&cells).max(1.0);
        Side { mean, cells, extra: 0.0 }
    }

    /// With the visit as the unit.
    pub(super) fn among_visits(&self) -> Variance {
        let squared = many(&self.cells).powi(2).max(1.0);
        let part = |c: &Cell| Variance { value: c.variance() / squared, freedom: c.freedom };
        let mut sum = Variance::sum(self.cells.iter().map(part));
        sum.value += self.extra;
        sum
    }

    /// With the boot as the unit: what all its visits, of all conditions, were off
    /// together. `None` with fewer than [`FEWEST_BOOTS`].
    pub(super) fn among_boots(&self) -> Option<Variance> {
        let mut boots: BTreeMap<u32, f64> = BTreeMap::new();
        for (boot, residual) in self.cells.iter().flat_map(|c| &c.residuals) {
            *boots.entry(*boot).or_default() += residual / many(&self.cells);
        }
        let count = float(boots.len() as u64);
        if boots.len() < FEWEST_BOOTS {
            return None;
        }
        let squares: f64 = boots.values().map(|sum| sum * sum).sum();
        let value = squares * count / (count - 1.0) + self.extra;
        Some(Variance { value, freedom: count - 1.0 })
    }
}

/// Fewer boots cannot tell how boots differ.
const FEWEST_BOOTS: usize = 4;
/// Chance alone makes boots differ so that they become the unit in one of a hundred
/// claims, which widens an interval for nothing.
const BOOTS_DIFFER: f64 = 0.01;

/// Whether boots differ by more than their visits explain: the F test of the variance
/// that boots show over that of visits, all kernels together (Fisher 1925). Each kernel
/// counts by its own ratio, so that none drowns the others.
pub(super) fn boots_differ(kernels: &[Side]) -> bool {
    let (mut above, mut d1, mut d2) = (0.0, 0.0, 0.0);
    for kernel in kernels {
        let visits = kernel.among_visits();
        let Some(boots) = kernel.among_boots().filter(|_| visits.value > 0.0) else { continue };
        above += boots.freedom * boots.value / visits.value;
        d1 += boots.freedom;
        d2 += visits.freedom;
    }
    d1 > 0.0 && above > d1 && f_tail(above / d1, d1, d2) < BOOTS_DIFFER
}

/// The probability that an F of `d1` and `d2` degrees of freedom is larger.
pub(super) fn f_tail(f: f64, d1: f64, d2: f64) -> f64 {
    beta_reg(d2 / (d2 + d1 * f), d2 / 2.0, d1 / 2.0)
}

/// Blocks of a visit, derived from its calls where they were not counted.
pub(super) fn blocks(visit: &Visit) -> u64 {
    if visit.blocks > 0 { visit.blocks } else { visit.calls.div_ceil(BLOCK_CALLS) }
}

/// How much the visits of one condition differ, whatever the kernel: the variance of a
/// visit's share over p(1 − p), all kernels of the run together. Independent calls have
/// one over the calls of a visit; visits that fail or work as a whole have one.
///
/// A kernel that saw few failures cannot tell how failures clump; all together can.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pooled {
    dispersion: f64,
    freedom: f64,
}

impl Pooled {
    pub(super) fn new(condition: &Condition) -> Pooled {
        let Condition { name: _, candidate, reference, others } = condition;
        let (mut squares, mut expected, mut freedom) = (0.0, 0.0, 0.0);
        for visits in [candidate, reference].into_iter().chain(others) {
            let Some(cell) = Cell::new(&shares(visits)).filter(|c| c.freedom > 0.0) else {
                continue;
            };
            if room(cell.mean) > 0.0 {
                squares += cell.freedom * cell.variance() * (cell.freedom + 1.0);
                expected += cell.freedom * room(cell.mean);
                freedom += cell.freedom;
            }
        }
        Pooled::of(squares, expected, freedom)
    }

    /// From the squares of the residuals, weighted by degrees of freedom, and what p(1 − p)
    /// of the kernels comes to by the same weights.
    pub(super) fn of(squares: f64, expected: f64, freedom: f64) -> Pooled {
        let dispersion = if expected > 0.0 { squares / expected } else { 0.0 };
        Pooled { dispersion, freedom }
    }

    /// How many independent units so many visits are worth.
    pub(super) fn units(self, visits: u64) -> f64 {
        if self.dispersion > 0.0 { float(visits) / self.dispersion } else { f64::INFINITY }
    }
}

impl Side {
    /// With the spread that all kernels of the run show together.
    pub(super) fn among_kernels(&self, pooled: &[Pooled]) -> Variance {
        let squared = many(&self.cells).powi(2).max(1.0);
        let part = |(cell, pooled): (&Cell, &Pooled)| {
            let pooled = cell.corrected.unwrap_or(*pooled);
            let value = pooled.dispersion * room(cell.mean) / many(&cell.residuals);
            Variance { value: value / squared, freedom: pooled.freedom }
        };
        let mut sum = Variance::sum(self.cells.iter().zip(pooled).map(part));
        sum.value += self.extra;
        sum
    }
}

/// p(1 − p): what a single call varies by.
pub(super) fn room(share: f64) -> f64 {
    let share = share.clamp(0.0, 1.0);
    share * (1.0 - share)
}

/// Visits that hold a failure, or a success if those are fewer.
pub(super) fn rarer_in(visits: &[Visit]) -> u32 {
    let used = || visits.iter().filter(|v| v.calls > 0);
    let (failed, worked) = (used().filter(|v| v.value < 1.0), used().filter(|v| v.value > 0.0));
    u32::try_from(failed.count().min(worked.count())).unwrap_or(u32::MAX)
}
