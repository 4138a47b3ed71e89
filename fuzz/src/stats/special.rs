// SPDX-License-Identifier: MIT OR Apache-2.0
//! The incomplete beta function, its inverse, and what follows from it.
//!
//! Exact intervals and Student's t are both quantiles of a beta distribution, so
//! this one function carries the statistics. The crates on offer stop the
//! continued fraction after a fixed 140 terms; it needs about √max(a, b) of them
//! near the mean, so at the 300,000 calls that "five nines" takes they answer
//! wrongly and say nothing. Here the sum goes on until it has converged.
//!
//! Source: Abramowitz & Stegun 1964, 6.1.41 (Stirling's series) and 26.5.8 (the
//! continued fraction), evaluated by Lentz's method (1976).

use std::f64::consts::PI;

/// ln Γ(x) for x > 0, by Stirling's series; small arguments are shifted up first.
#[must_use]
pub fn ln_gamma(x: f64) -> f64 {
    let mut x = x;
    let mut shift = 0.0;
    while x < 15.0 {
        shift -= x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / x;
    let square = inverse * inverse;
    let series = inverse
        * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square * (1.0 / 1680.0))));
    shift + (x - 0.5) * x.ln() - x + 0.5 * (2.0 * PI).ln() + series
}

/// The regularized incomplete beta function I_x(a, b), for a, b > 0.
#[must_use]
pub fn beta_reg(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = (a * x.ln() + b * (-x).ln_1p() + ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b)).exp();
    // The fraction converges fast on this side of the mean only.
    if x < (a + 1.0) / (a + b + 2.0) {
        front * fraction(x, a, b) / a
    } else {
        1.0 - front * fraction(1.0 - x, b, a) / b
    }
}

/// The continued fraction of I_x(a, b), by Lentz's method.
fn fraction(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    // √max(a, b) terms are needed; this is far beyond it for any count that fits a run.
    const TERMS: u32 = 1_000_000;
    let nonzero = |v: f64| if v.abs() < TINY { TINY } else { v };
    let mut c = 1.0;
    let mut d = 1.0 / nonzero(1.0 - (a + b) * x / (a + 1.0));
    let mut value = d;
    for term in 1..TERMS {
        let m = f64::from(term);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / nonzero(1.0 + even * d);
        c = nonzero(1.0 + even / c);
        value *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / nonzero(1.0 + odd * d);
        c = nonzero(1.0 + odd / c);
        let step = d * c;
        value *= step;
        if (step - 1.0).abs() < 1e-15 {
            break;
        }
    }
    value
}

/// The x with I_x(a, b) = p: Newton's method, kept inside a bracket by bisection,
/// so that it is fast and cannot go astray.
#[must_use]
pub fn beta_inverse(p: f64, a: f64, b: f64) -> f64 {
    let log_beta = ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b);
    let density = |x: f64| ((a - 1.0) * x.ln() + (b - 1.0) * (-x).ln_1p() - log_beta).exp();
    let (mut low, mut high) = (0.0, 1.0);
    let mut x = a / (a + b);
    for _ in 0..200 {
        let miss = beta_reg(x, a, b) - p;
        if miss >= 0.0 {
            high = x;
        } else {
            low = x;
        }
        let step = x - miss / density(x);
        let next = if step > low && step < high { step } else { 0.5 * (low + high) };
        if (next - x).abs() <= 1e-15 * x.min(1.0 - x) || high - low <= f64::MIN_POSITIVE {
            return next;
        }
        x = next;
    }
    x
}

/// Student's t that |T| exceeds with probability `alpha`, for `df` degrees of freedom.
#[must_use]
pub fn student_t(alpha: f64, df: f64) -> f64 {
    let x = beta_inverse(alpha, df / 2.0, 0.5);
    if x <= 0.0 { f64::INFINITY } else { (df * (1.0 - x) / x).sqrt() }
}

/// Where `above` turns true between `low` (false) and `high` (true), after so many
/// halvings; 60 exhaust a double.
#[must_use]
pub fn bisect(low: f64, high: f64, halvings: u32, above: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (low, high);
    for _ in 0..halvings {
        let middle = 0.5 * (low + high);
        if above(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    0.5 * (low + high)
}
