// SPDX-License-Identifier: MIT OR Apache-2.0
//! One kernel's own value, with the interval it has by itself: for what is shown and not
//! compared.

use bakeoff_fuzz::stats::special::student_t;
use bakeoff_fuzz::stats::{Interval, exact};

use super::spread::blocks;
use super::{Scale, Visit, float, many};

/// The value of a metric over its visits, and its interval; `None` without a visit, and
/// without an interval below two visits of a number.
///
/// A share has the exact interval at the sample size that the differences between visits
/// leave (Korn & Graubard 1998), and at the number of its blocks where nothing differs. A
/// number has Student's interval of the visits' means.
#[must_use]
pub fn alone(scale: Scale, visits: &[Visit], alpha: f64) -> Option<(f64, Interval)> {
    let used: Vec<&Visit> = visits.iter().filter(|visit| visit.calls > 0).collect();
    match scale {
        Scale::Share => share(&used, alpha),
        Scale::Ratio => mean(&used, alpha),
    }
}

fn share(visits: &[&Visit], alpha: f64) -> Option<(f64, Interval)> {
    let calls: u64 = visits.iter().map(|visit| visit.calls).sum();
    let right: u64 = visits.iter().map(|visit| visit.right).sum();
    if calls == 0 {
        return None;
    }
    let value = float(right) / float(calls);
    let n = many(visits);
    let squares: f64 =
        visits.iter().map(|visit| (float(visit.right) - float(visit.calls) * value).powi(2)).sum();
    let variance = squares / float(calls).powi(2) * n / (n - 1.0).max(1.0);
    let units = float(visits.iter().map(|visit| blocks(visit)).sum());
    let size = if variance > 0.0 {
        // The variance is itself an estimate: t in place of z.
        let known = (student_t(alpha, 1e6) / student_t(alpha, (n - 1.0).max(1.0))).powi(2);
        (known * value * (1.0 - value) / variance).clamp(1.0, float(calls))
    } else {
        units
    };
    Some((value, exact(value * size, size, alpha / 2.0)))
}

fn mean(visits: &[&Visit], alpha: f64) -> Option<(f64, Interval)> {
    let n = many(visits);
    if visits.is_empty() {
        return None;
    }
    let mean = visits.iter().map(|visit| visit.value).sum::<f64>() / n;
    if visits.len() < 2 {
        return Some((mean, Interval { low: f64::NEG_INFINITY, high: f64::INFINITY }));
    }
    let variance = visits.iter().map(|v| (v.value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let half = student_t(alpha, n - 1.0) * (variance / n).sqrt();
    Some((mean, Interval { low: mean - half, high: mean + half }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Visits that agree count call by call, at most; visits that do not widen the interval;
    /// and no share has an interval of width zero.
    #[test]
    fn visits_that_differ_widen_the_interval() {
        let share = |right: &[u64]| {
            let visits: Vec<Visit> = right.iter().map(|r| Visit::share(0, *r, 100)).collect();
            alone(Scale::Share, &visits, 0.05).unwrap()
        };
        let width = |of: (f64, Interval)| of.1.high - of.1.low;
        let (value, _) = share(&[40, 60, 50, 50]);
        assert!((value - 0.5).abs() < 1e-12);
        assert!(width(share(&[10, 90, 50, 50])) > 2.0 * width(share(&[48, 52, 50, 50])));
        let (value, all) = share(&[100; 4]);
        assert!((value - 1.0).abs() < 1e-12 && all.low < 0.9 && all.low > 0.8, "{all:?}");
        assert!(alone(Scale::Share, &[], 0.05).is_none());
    }

    /// The mean of visits has Student's interval; one visit tells nothing about its error.
    #[test]
    fn numbers_have_students_interval() {
        let visits = [1.0, 2.0, 3.0].map(|value| Visit::mean(0, value, 1));
        let (mean, interval) = alone(Scale::Ratio, &visits, 0.05).unwrap();
        assert!((mean - 2.0).abs() < 1e-12);
        // t(0.975, 2) = 4.303, s = 1.
        assert!((interval.high - 2.0 - 4.3027 / 3f64.sqrt()).abs() < 1e-3, "{interval:?}");
        let (_, one) = alone(Scale::Ratio, &visits[..1], 0.05).unwrap();
        assert!(one.low.is_infinite() && one.high.is_infinite());
    }
}
