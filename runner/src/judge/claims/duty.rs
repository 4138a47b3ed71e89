// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares at the same duty: a writer that gets the lock faster on one kernel is busy
//! more of the time there, and makes that kernel look worse than it is.
//!
//! Within each kernel the value depends on the duty by a slope; the candidate's mean is
//! moved along it to the duty that the reference had (analysis of covariance). One slope
//! for both kernels, unless they differ: then the candidate's own. Where the visits'
//! duties do not overlap, nothing tells what the candidate would do at the reference's,
//! and the comparison stays plain and says so.

use bakeoff_fuzz::stats::special::student_t;

use super::many;
use super::spread::Cell;

/// Visits of each kernel below which no slope is fitted.
const FEWEST: usize = 6;
/// Slopes that differ with this error are taken for two.
const SLOPES_DIFFER: f64 = 0.05;

/// A visit's value at a duty.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub(super) duty: f64,
    pub(super) weight: f64,
}

/// What came of one condition.
#[derive(Clone, Debug)]
pub(super) enum Corrected {
    /// Nothing was measured, or both kernels had the same.
    Equal,
    /// The candidate moved to the reference's duty; the variance that the slope's own
    /// uncertainty adds.
    Moved { ours: Cell, theirs: Cell, slope_variance: f64 },
    /// Duties differ and no slope can be told.
    Plain,
}

/// Sums of a kernel: deviations of the duty, and of the value along it.
struct Sums {
    duty: f64,
    squares: f64,
    products: f64,
    low: f64,
    high: f64,
}

impl Sums {
    fn new(cell: &Cell, at: &[At]) -> Sums {
        let all: f64 = at.iter().map(|a| a.weight).sum();
        let duty = at.iter().map(|a| a.weight * a.duty).sum::<f64>() / all;
        let squares = at.iter().map(|a| a.weight / all * (a.duty - duty).powi(2)).sum();
        let products = at.iter().zip(&cell.residuals).map(|(a, (_, r))| (a.duty - duty) * r).sum();
        let low = at.iter().map(|a| a.duty).fold(f64::INFINITY, f64::min);
        let high = at.iter().map(|a| a.duty).fold(f64::NEG_INFINITY, f64::max);
        Sums { duty, squares, products, low, high }
    }

    /// The cell with what its duty explains taken out.
    fn without(&self, cell: &Cell, at: &[At], slope: f64) -> Cell {
        let all: f64 = at.iter().map(|a| a.weight).sum();
        let left = at.iter().zip(&cell.residuals).map(|(a, (boot, residual))| {
            (*boot, residual - slope * a.weight / all * (a.duty - self.duty))
        });
        Cell {
            mean: cell.mean,
            residuals: left.collect(),
            freedom: cell.freedom - 0.5,
            corrected: true,
        }
    }
}

/// One condition, both kernels at the reference's duty.
pub(super) fn correct(ours: (&Cell, &[At]), theirs: (&Cell, &[At])) -> Corrected {
    let measured = |(cell, at): (&Cell, &[At])| at.len() == cell.residuals.len();
    if !measured(ours) || !measured(theirs) || ours.1.is_empty() || theirs.1.is_empty() {
        return Corrected::Equal;
    }
    let (a, b) = (Sums::new(ours.0, ours.1), Sums::new(theirs.0, theirs.1));
    let apart = b.duty - a.duty;
    if apart == 0.0 {
        return Corrected::Equal;
    }
    let few = ours.1.len().min(theirs.1.len()) < FEWEST;
    let overlap = b.duty >= a.low && b.duty <= a.high && a.duty >= b.low && a.duty <= b.high;
    if few || !overlap || a.squares <= 0.0 || b.squares <= 0.0 {
        return Corrected::Plain;
    }
    // A slope's variance is the squares of the residuals times those of the duty, over
    // the latter's sum squared: it holds where the spread depends on the duty, too.
    let noise = |cell: &Cell, at: &[At], sums: &Sums, slope: f64| -> f64 {
        let left = sums.without(cell, at, slope);
        let n = many(at);
        let squares = at.iter().zip(&left.residuals);
        let sum: f64 = squares.map(|(a, (_, r))| ((a.duty - sums.duty) * r).powi(2)).sum();
        sum * n / (n - 2.0)
    };
    let own = (a.products / a.squares, b.products / b.squares);
    let own_noise = (
        noise(ours.0, ours.1, &a, own.0) / a.squares.powi(2),
        noise(theirs.0, theirs.1, &b, own.1) / b.squares.powi(2),
    );
    let freedom = (many(ours.1) + many(theirs.1) - 4.0).max(1.0);
    let differ = (own.0 - own.1).abs()
        > student_t(SLOPES_DIFFER, freedom) * (own_noise.0 + own_noise.1).sqrt();
    let common = (a.products + b.products) / (a.squares + b.squares);
    let common_noise = (noise(ours.0, ours.1, &a, common) + noise(theirs.0, theirs.1, &b, common))
        / (a.squares + b.squares).powi(2);
    let (slopes, slope_noise) =
        if differ { (own, own_noise.0) } else { ((common, common), common_noise) };
    let mut moved = a.without(ours.0, ours.1, slopes.0);
    moved.mean = (moved.mean + slopes.0 * apart).clamp(0.0, 1.0);
    let theirs = b.without(theirs.0, theirs.1, slopes.1);
    Corrected::Moved { ours: moved, theirs, slope_variance: apart * apart * slope_noise }
}
