// SPDX-License-Identifier: MIT OR Apache-2.0
//! Continuous metrics: the candidate over the reference.
//!
//! Where every visit is above zero, logarithms: times and rates are skewed, their
//! logarithms hardly, and their difference is the ratio of the geometric means. Where a
//! visit measured zero or less there is no logarithm: then the ratio of the plain means
//! in each condition, with Fieller's interval, and the squares of the distances to the
//! bounds of all conditions add up (Zou & Donner 2008).

use bakeoff_fuzz::stats::Interval;
use bakeoff_fuzz::stats::special::student_t;

use super::settle::{Found, Unit, welch};
use super::spread::{Cell, Point, Side, Variance};
use super::{Condition, Question, Visit, many};

/// The ratio, or why there is none.
pub(super) fn settle(question: &Question, alpha: f64) -> Result<Found, String> {
    let all = || question.conditions.iter().flat_map(|c| c.candidate.iter().chain(&c.reference));
    if let Some(odd) = all().find(|v| v.calls > 0 && !v.value.is_finite()) {
        return Err(format!("a visit measured {}, which is not a number to compare", odd.value));
    }
    let positive = all().filter(|v| v.calls > 0).all(|v| v.value > 0.0);
    if positive { Ok(by_logarithm(question, alpha)) } else { fieller(question, alpha) }
}

/// Each visit counts the same: what varies is visits, not calls.
fn points(visits: &[Visit], of: fn(f64) -> f64) -> Vec<Point> {
    let used = visits.iter().filter(|v| v.calls > 0);
    used.map(|v| Point { boot: v.boot, weight: 1.0, value: of(v.value) }).collect()
}

fn by_logarithm(question: &Question, alpha: f64) -> Found {
    let side = |of: fn(&Condition) -> &[Visit]| {
        let cells = question.conditions.iter().filter_map(|c| Cell::new(&points(of(c), f64::ln)));
        Side::new(cells.collect())
    };
    let (ours, theirs) = (side(|c| &c.candidate), side(|c| &c.reference));
    let (interval, unit) = welch(&ours, &theirs, alpha);
    Found {
        estimate: (ours.mean - theirs.mean).exp(),
        interval: Interval { low: interval.low.exp(), high: interval.high.exp() },
        candidate: ours.mean.exp(),
        reference: theirs.mean.exp(),
        unit,
        duty: None,
    }
}

fn fieller(question: &Question, alpha: f64) -> Result<Found, String> {
    let (mut sum, mut below, mut above) = (0.0, 0.0, 0.0);
    let (mut ours_sum, mut theirs_sum) = (0.0, 0.0);
    for condition in &question.conditions {
        let cells = (
            Cell::new(&points(&condition.candidate, |x| x)),
            Cell::new(&points(&condition.reference, |x| x)),
        );
        let (Some(ours), Some(theirs)) = cells else { continue };
        let none = || {
            format!(
                "the reference measured about zero in {}: there is no ratio to it",
                condition.name
            )
        };
        let (ratio, interval) = one(&ours, &theirs, alpha).ok_or_else(none)?;
        sum += ratio;
        below += (ratio - interval.low).powi(2);
        above += (interval.high - ratio).powi(2);
        ours_sum += ours.mean;
        theirs_sum += theirs.mean;
    }
    let conditions = many(&question.conditions);
    let estimate = sum / conditions;
    Ok(Found {
        estimate,
        interval: Interval {
            low: estimate - below.sqrt() / conditions,
            high: estimate + above.sqrt() / conditions,
        },
        candidate: ours_sum / conditions,
        reference: theirs_sum / conditions,
        unit: Unit::Visits,
        duty: None,
    })
}

/// Fieller's interval of one ratio; `None` where the reference's mean cannot be told
/// from zero, or is below it.
fn one(ours: &Cell, theirs: &Cell, alpha: f64) -> Option<(f64, Interval)> {
    let part = |cell: &Cell| Variance { value: cell.variance(), freedom: cell.freedom };
    let (a, b) = (part(ours), part(theirs));
    let (x, y) = (ours.mean, theirs.mean);
    if y <= 0.0 {
        return None;
    }
    let ratio = x / y;
    let scaled = Variance { value: ratio * ratio * b.value, ..b };
    let freedom = Variance::sum([a, scaled]).freedom;
    let t = student_t(alpha, freedom);
    let g = t * t * b.value / (y * y);
    if g >= 1.0 {
        return None;
    }
    let root = (a.value * (1.0 - g) + ratio * ratio * b.value).max(0.0).sqrt();
    let half = t / y * root / (1.0 - g);
    let middle = ratio / (1.0 - g);
    Some((ratio, Interval { low: middle - half, high: middle + half }))
}
