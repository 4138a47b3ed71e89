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
use super::spread::{Cell, Pooled, room};

/// Visits of each kernel below which no slope is fitted.
const FEWEST: usize = 6;
/// Slopes that differ with this error are taken for two.
/// No more: to take two slopes for one by chance costs little, one for two costs the width
/// of a slope that half of the visits tell.
const SLOPES_DIFFER: f64 = 0.001;

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

    /// The variance of a slope: that of the visits it leaves over the squares of the duty.
    fn noise(&self, (cell, at): (&Cell, &[At]), slope: f64) -> f64 {
        let left = self.without(cell, at, slope);
        let (n, left) = (many(at), left.residuals);
        // Residuals are parts of a mean of n visits; two degrees of freedom went.
        let squares: f64 = left.iter().map(|(_, r)| r * r).sum();
        squares * n / (n - 2.0) / self.squares
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
            corrected: None,
        }
    }
}

/// Whether no visit differs from the others.
fn is_still(cell: &Cell) -> bool {
    cell.residuals.iter().all(|(_, residual)| *residual == 0.0)
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
    // Some visits of each at a duty of the other's. Asking more, such as the mean, would leave
    // the largest differences uncorrected: by simulation 76 % joint coverage instead of 95.
    let overlap = a.low <= b.high && b.low <= a.high;
    if few || !overlap || a.squares <= 0.0 || b.squares <= 0.0 {
        return Corrected::Plain;
    }
    let own = (a.products / a.squares, b.products / b.squares);
    let own_noise = (a.noise(ours, own.0), b.noise(theirs, own.1));
    let freedom = (many(ours.1) + many(theirs.1) - 4.0).max(1.0);
    let beyond_noise = (own.0 - own.1).abs()
        > student_t(SLOPES_DIFFER, freedom) * (own_noise.0 + own_noise.1).sqrt();
    // What is right in every visit, or in none, does not depend on the load. Moved by the
    // other's slope, a share of 0 would have the spread of one that does.
    let differ = beyond_noise || is_still(ours.0) || is_still(theirs.0);
    let common = (a.products + b.products) / (a.squares + b.squares);
    let weights = (a.squares.powi(2), b.squares.powi(2));
    let common_noise = (weights.0 * a.noise(ours, common) + weights.1 * b.noise(theirs, common))
        / (a.squares + b.squares).powi(2);
    let (slopes, slope_noise) =
        if differ { (own, own_noise.0) } else { ((common, common), common_noise) };
    let mut moved = a.without(ours.0, ours.1, slopes.0);
    let mut theirs = b.without(theirs.0, theirs.1, slopes.1);
    // What the load leaves, both kernels together: the spread of each is at least that.
    let parts = [(&moved, ours.0.mean), (&theirs, theirs.mean)];
    let squares: f64 =
        parts.iter().map(|(c, _)| c.freedom * c.variance() * many(&c.residuals)).sum();
    let expected: f64 = parts.iter().map(|(c, mean)| c.freedom * room(*mean)).sum();
    let freedom = moved.freedom + theirs.freedom;
    let left = Pooled::of(squares, expected, freedom);
    (moved.corrected, theirs.corrected) = (Some(left), Some(left));
    moved.mean = (moved.mean + slopes.0 * apart).clamp(0.0, 1.0);
    Corrected::Moved { ours: moved, theirs, slope_variance: apart * apart * slope_noise }
}
