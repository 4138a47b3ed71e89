// SPDX-License-Identifier: MIT OR Apache-2.0
//! Charts as inline SVG: scales, ticks, frames and marks.
//!
//! Numbers become places here and nowhere else. Colours are classes that the style sheet
//! knows in light and dark, so that a chart needs no script and prints as it looks.

use maud::{Markup, PreEscaped, html};

/// Where a chart's drawing area lies in its viewBox.
#[derive(Clone, Copy)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

/// Numbers to places along one axis.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    from: f64,
    to: f64,
    log: bool,
    start: f64,
    end: f64,
}

impl Scale {
    /// From the least to the greatest of the numbers, between two places.
    pub(super) fn linear(numbers: &[f64], start: f64, end: f64) -> Scale {
        let (mut from, mut to) = extent(numbers);
        if to - from < 1e-12 {
            (from, to) = (from - 0.5, to + 0.5);
        }
        Scale { from, to, log: false, start, end }
    }

    /// The same with a little air at both ends.
    pub(super) fn roomy(numbers: &[f64], start: f64, end: f64) -> Scale {
        let Scale { from, to, .. } = Scale::linear(numbers, start, end);
        let air = 0.04 * (to - from);
        Scale { from: from - air, to: to + air, log: false, start, end }
    }

    /// Logarithmic; numbers that are not above zero count for nothing.
    pub(super) fn log(numbers: &[f64], start: f64, end: f64) -> Scale {
        let above: Vec<f64> = numbers.iter().copied().filter(|n| *n > 0.0).collect();
        let (from, to) = extent(&above);
        let (from, to) = if from > 0.0 { (from / 1.15, to * 1.15) } else { (0.1, 1.0) };
        Scale { from, to, log: true, start, end }
    }

    /// The place of a number; what lies outside stops at the edge.
    pub(super) fn at(&self, number: f64) -> f64 {
        let part = if self.log {
            let number = number.max(self.from);
            (number / self.from).ln() / (self.to / self.from).ln()
        } else {
            (number - self.from) / (self.to - self.from)
        };
        self.start + part.clamp(0.0, 1.0) * (self.end - self.start)
    }

    /// Whether a number lies on the scale.
    pub(super) fn holds(&self, number: f64) -> bool {
        number >= self.from && number <= self.to
    }

    /// Round numbers on the scale, about as many as asked for.
    pub(super) fn ticks(&self, about: u32) -> Vec<f64> {
        if self.log {
            return self.decades();
        }
        let rough = (self.to - self.from) / f64::from(about.max(1));
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|m| m * power)
            .find(|step| *step >= rough * 0.999)
            .unwrap_or(power);
        let mut ticks = Vec::new();
        let mut at = (self.from / step - 1e-9).ceil() * step;
        while at <= self.to + step * 1e-9 && ticks.len() < 40 {
            ticks.push(if at.abs() < step * 1e-6 { 0.0 } else { at });
            at += step;
        }
        ticks
    }

    fn decades(&self) -> Vec<f64> {
        let mut ticks = Vec::new();
        for decade in -12..=15 {
            for step in [1.0, 2.0, 5.0] {
                let tick = step * 10f64.powi(decade);
                if tick >= self.from && tick <= self.to {
                    ticks.push(tick);
                }
            }
        }
        // Over many decades their beginnings are enough.
        if ticks.len() > 7 {
            ticks.retain(|tick| (tick.log10() - tick.log10().round()).abs() < 1e-9);
        }
        ticks
    }
}

fn extent(numbers: &[f64]) -> (f64, f64) {
    let finite = numbers.iter().copied().filter(|n| n.is_finite());
    let (from, to) =
        finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), n| (a.min(n), b.max(n)));
    if from > to { (0.0, 1.0) } else { (from, to) }
}

/// A coordinate with as many digits as a screen shows.
pub(super) fn px(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

/// The frame of a chart: grid, ticks and the names of both axes.
pub(super) fn frame(area: Area, x: (&Scale, &str), y: (&Scale, &str), tell: &Tell<'_>) -> Markup {
    let Area { left, top, right, bottom } = area;
    html! {
        @for tick in y.0.ticks(4) {
            line.grid x1=(px(left)) x2=(px(right)) y1=(px(y.0.at(tick))) y2=(px(y.0.at(tick))) {}
            text.tick.end x=(px(left - 5.0)) y=(px(y.0.at(tick) + 4.0)) { ((tell.y)(tick)) }
        }
        @for tick in x.0.ticks(4) {
            line.grid x1=(px(x.0.at(tick))) x2=(px(x.0.at(tick))) y1=(px(top)) y2=(px(bottom)) {}
            text.tick.mid x=(px(x.0.at(tick))) y=(px(bottom + 15.0)) { ((tell.x)(tick)) }
        }
        text.tick.mid x=(px((left + right) / 2.0)) y=(px(bottom + 31.0)) { (x.1) }
        text.tick x="2" y=(px(top - 8.0)) { (y.1) }
    }
}

/// How ticks are written.
pub(super) struct Tell<'a> {
    pub(super) x: &'a dyn Fn(f64) -> String,
    pub(super) y: &'a dyn Fn(f64) -> String,
}

/// A line through points.
pub(super) fn path(points: &[(f64, f64)]) -> String {
    let mut text = String::new();
    for (n, (x, y)) in points.iter().enumerate() {
        text.push(if n == 0 { 'M' } else { 'L' });
        text.push_str(&format!("{} {}", px(*x), px(*y)));
    }
    text
}

/// Points as the round ends of lines without length: small, however many there are.
pub(super) fn dots(points: &[(f64, f64)]) -> String {
    points.iter().map(|(x, y)| format!("M{} {}h0", px(*x), px(*y))).collect()
}

/// A mark whose form tells candidates apart where colours do not.
pub(super) fn mark(form: usize, x: f64, y: f64, class: &str) -> Markup {
    let (r, s) = (4.0, 3.6);
    let shape = |points: &[(f64, f64)]| {
        let moved: Vec<(f64, f64)> = points.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
        path(&moved) + "Z"
    };
    html! { @match form % 4 {
        0 => circle class=(class) cx=(px(x)) cy=(px(y)) r=(px(r)) {},
        1 => path class=(class) d=(shape(&[(-s, -s), (s, -s), (s, s), (-s, s)])) {},
        2 => path class=(class) d=(shape(&[(0.0, -r - 1.0), (r + 1.0, r), (-r - 1.0, r)])) {},
        _ => path class=(class) d=(shape(&[(0.0, -r - 1.5), (r + 1.5, 0.0), (0.0, r + 1.5), (-r - 1.5, 0.0)])) {},
    } }
}

/// The chart itself, with what it shows in words for who cannot see it.
pub(super) fn chart(width: f64, height: f64, says: &str, inside: &Markup) -> Markup {
    // Nothing to say: the words stand beside it.
    let (role, hidden) = match says {
        "" => (None, Some("true")),
        _ => (Some("img"), None),
    };
    let label = role.map(|_| says);
    html! {
        svg viewBox=(format!("0 0 {} {}", px(width), px(height))) width=(px(width))
            height=(px(height)) role=[role] aria-label=[label] aria-hidden=[hidden] {
                (PreEscaped(&inside.0))
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number lies where its part of the scale says, and never outside.
    #[test]
    fn numbers_keep_their_place() {
        let linear = Scale::linear(&[0.0, 10.0], 100.0, 200.0);
        assert_eq!(linear.at(5.0), 150.0);
        assert_eq!(linear.at(-3.0), 100.0);
        assert_eq!(linear.at(1e9), 200.0);
        let log = Scale::log(&[1.0, 100.0, 0.0], 0.0, 100.0);
        assert!((log.at(10.0) - 50.0).abs() < 1e-9);
        assert_eq!(log.at(0.0), 0.0);
        assert!(Scale::linear(&[], 0.0, 1.0).at(0.3).is_finite());
        assert!(Scale::linear(&[7.0, 7.0], 0.0, 1.0).at(7.0).is_finite());
    }

    /// Ticks are round, on the scale, and not too many.
    #[test]
    fn ticks_are_round() {
        let scale = Scale::linear(&[-7.9, 2.2], 0.0, 1.0);
        assert_eq!(scale.ticks(4), [-5.0, 0.0]);
        assert_eq!(Scale::linear(&[0.0, 1.0], 0.0, 1.0).ticks(4), [0.0, 0.5, 1.0]);
        assert_eq!(Scale::log(&[100.0, 10_000.0], 0.0, 1.0).ticks(4).first(), Some(&100.0));
        for top in [1e-9, 0.3, 4.0, 77.0, 1e12] {
            let ticks = Scale::linear(&[0.0, top], 0.0, 1.0).ticks(4);
            assert!((2..=6).contains(&ticks.len()), "{top}: {ticks:?}");
        }
    }
}
