// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bounds of a report, found again another way: densities are integrated by
//! Simpson's rule and quantiles found by halving, where the report's come from
//! continued fractions and Newton's method. Formulas are those that
//! [`bakeoff_fuzz::stats`] and [`bakeoff_fuzz::stop`] name the sources of.

use std::f64::consts::{FRAC_PI_2, PI};

use serde_json::Value;

/// A block of the records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) boot: usize,
    pub(super) proves: bool,
    pub(super) calls: u64,
    pub(super) top: u64,
    pub(super) all: u64,
}

/// The calls of a row.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) calls: u64,
    pub(super) correct: u64,
    /// (calls, correct) of each block that counts.
    parts: Vec<(f64, f64)>,
    /// The same of each boot.
    boots: Vec<(f64, f64)>,
    share: f64,
    /// Correlation of a boot's calls, and the degrees of freedom it is known with.
    pub(super) between: Option<(f64, f64)>,
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

impl Sample {
    pub(super) fn new(blocks: &[Block], top: bool, step: &Value) -> Sample {
        let mut sample = Sample {
            calls: 0,
            correct: 0,
            parts: Vec::new(),
            boots: Vec::new(),
            share: 1.0,
            between: None,
        };
        let mut numbers: Vec<usize> = blocks.iter().map(|block| block.boot).collect();
        numbers.dedup();
        for boot in numbers {
            let of_boot = || blocks.iter().filter(|block| block.boot == boot);
            sample.share *= share(step, of_boot().count() as u64);
            let mut whole = (0.0, 0.0);
            for block in of_boot().filter(|block| block.proves) {
                let correct = if top { block.top } else { block.all };
                sample.calls += block.calls;
                sample.correct += correct;
                sample.parts.push((float(block.calls), float(correct)));
                whole.0 += float(block.calls);
                whole.1 += float(correct);
            }
            sample.boots.push(whole);
        }
        sample
    }

    pub(super) fn blocks(&self) -> u64 {
        self.parts.len() as u64
    }

    fn rate(&self) -> f64 {
        float(self.correct) / float(self.calls)
    }

    /// The two-sided interval; `None` without calls.
    pub(super) fn interval(&self, confidence: f64) -> Option<(f64, f64)> {
        if self.calls == 0 {
            return None;
        }
        let alpha = (1.0 - confidence) * self.share;
        let (calls, rate) = (float(self.calls), self.rate());
        let mut effective = calls;
        let split = self.correct > 0 && self.correct < self.calls;
        let mut widest: Option<(f64, f64)> = None;
        for (parts, fewest) in [(&self.parts, 2), (&self.boots, 6)] {
            let used: Vec<(f64, f64)> = parts.iter().copied().filter(|(n, _)| *n > 0.0).collect();
            if used.len() < fewest || !split {
                continue;
            }
            let count = float(used.len() as u64);
            let squares: f64 = used.iter().map(|(n, k)| (k - rate * n).powi(2)).sum();
            let effect = (count / (count - 1.0) * squares / (calls * rate * (1.0 - rate))).max(1.0);
            let failing = float(used.iter().filter(|(n, k)| k < n).count() as u64);
            let succeeding = float(used.iter().filter(|(_, k)| *k > 0.0).count() as u64);
            let few = failing.min(succeeding).max(4.0).min(count);
            // The more the failures clump, the fewer blocks tell.
            let told_by = count - (count - few) * (effect - 1.0).min(1.0);
            let wide = effect * student(0.05, (told_by - 1.0).max(1.0)).powi(2);
            if widest.is_none_or(|(effect, told_by)| {
                wide > effect * student(0.05, (told_by - 1.0).max(1.0)).powi(2)
            }) {
                widest = Some((effect, told_by));
            }
        }
        if let Some((effect, told_by)) = widest {
            let ratio =
                student(alpha, (calls - 1.0).max(1.0)) / student(alpha, told_by.max(2.0) - 1.0);
            effective = (calls / effect * ratio * ratio).min(calls);
        }
        if let Some((correlation, freedom)) = self.between {
            let squares: f64 = self.boots.iter().map(|(n, _)| n * n).sum();
            let effect = 1.0 + (squares / calls - 1.0).max(0.0) * correlation;
            let ratio = student(alpha, (calls - 1.0).max(1.0)) / student(alpha, freedom);
            effective = effective.min((calls / effect * ratio * ratio).min(calls));
        }
        let (good, bad) = (rate * effective, effective - rate * effective);
        let low = if self.correct == 0 { 0.0 } else { beta_quantile(alpha / 2.0, good, bad + 1.0) };
        let high = if self.correct == self.calls {
            1.0
        } else {
            1.0 - beta_quantile(alpha / 2.0, bad, good + 1.0)
        };
        Some((low, high))
    }
}

/// How much boots differ, from all samples of one kind: (correlation, degrees of freedom).
pub(super) fn between(samples: &[Sample]) -> Option<(f64, f64)> {
    let mut tells: Vec<(f64, f64, f64)> = Vec::new();
    for sample in samples.iter().filter(|s| s.correct > 0 && s.correct < s.calls) {
        let boots: Vec<(f64, f64)> = sample.boots.iter().copied().filter(|b| b.0 > 0.0).collect();
        if boots.len() < 2 {
            continue;
        }
        let (calls, rate) = (float(sample.calls), sample.rate());
        let df = float(boots.len() as u64 - 1);
        let squares: f64 = boots.iter().map(|(n, k)| (k - rate * n).powi(2)).sum();
        let effect = (df + 1.0) / df * squares / (calls * rate * (1.0 - rate));
        let of_a_boot = boots.iter().map(|(n, _)| n * n).sum::<f64>() / calls;
        tells.push((df, effect, (of_a_boot - 1.0).max(0.0)));
    }
    let sum = |of: &dyn Fn(&(f64, f64, f64)) -> f64| tells.iter().map(of).sum::<f64>();
    let freedom = sum(&|(df, _, _)| *df);
    let all = sum(&|(df, effect, _)| df * effect);
    let squares = sum(&|(df, effect, _)| df * effect * effect);
    let room = sum(&|(df, _, more)| df * more);
    if freedom < 4.0 || room <= 0.0 || squares <= 0.0 {
        return None;
    }
    let correlation = (sum(&|(df, effect, _)| df * (effect - 1.0)) / room).clamp(0.0, 1.0);
    Some((correlation, (3.0 * all * all / squares).max(2.0).min(freedom)))
}

/// The interval of `ours - theirs`.
pub(super) fn difference(ours: &Sample, theirs: &Sample, confidence: f64) -> Option<(f64, f64)> {
    let (ours_low, ours_high) = ours.interval(confidence)?;
    let (theirs_low, theirs_high) = theirs.interval(confidence)?;
    let (a, b) = (ours.rate(), theirs.rate());
    let low = a - b - ((a - ours_low).powi(2) + (theirs_high - b).powi(2)).sqrt();
    let high = a - b + ((ours_high - a).powi(2) + (b - theirs_low).powi(2)).sqrt();
    Some((low.max(-1.0), high.min(1.0)))
}

/// What of the error a step may spend that ended after so many blocks.
fn share(step: &Value, taken: u64) -> f64 {
    let planned = step["blocks"].as_u64().unwrap_or(1).max(1);
    if step["stop"]["rule"].as_str().is_none_or(|rule| rule == "fixed") {
        return 1.0;
    }
    let part = |blocks: u64| (float(blocks) / float(planned)).powi(3);
    let mut before = 0;
    for tenths in [1, 2, 4, 10] {
        let look = (planned * tenths).div_ceil(10).max(5).min(planned);
        if look == before {
            continue;
        }
        if look == taken || look == planned {
            return part(look) - part(before);
        }
        before = look;
    }
    1.0
}

/// ln Γ(x) by Lanczos' approximation (g = 7; SIAM J. Numer. Anal. B 1 (1964) 86).
fn ln_gamma(x: f64) -> f64 {
    const C: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        return (PI / (PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let t = x + 7.5;
    let series: f64 =
        C.iter().zip(0u32..).map(|(c, i)| if i == 0 { *c } else { c / (x + f64::from(i)) }).sum();
    0.5 * (2.0 * PI).ln() + (x + 0.5) * t.ln() - t + series.ln()
}

/// Simpson's rule with 1,000 pieces: a twenty-fifth of a standard deviation each.
fn simpson(from: f64, to: f64, f: impl Fn(f64) -> f64) -> f64 {
    const PIECES: u32 = 1_000;
    if to <= from {
        return 0.0;
    }
    let width = (to - from) / f64::from(PIECES);
    let inner: f64 = (1..PIECES)
        .map(|i| (if i % 2 == 1 { 4.0 } else { 2.0 }) * f(from + width * f64::from(i)))
        .sum();
    width / 3.0 * (f(from) + inner + f(to))
}

/// The x with I_x(a, b) = p, for b of 1 or more. The density's pole at 0, where a
/// is below 1, goes with `x = u^(1/a)`; else `x = sin²θ` makes it smooth.
fn beta_quantile(p: f64, a: f64, b: f64) -> f64 {
    if a < 1.0 {
        let norm = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) - a.ln()).exp();
        let density = |u: f64| norm * (1.0 - u.powf(1.0 / a)).max(0.0).powf(b - 1.0);
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..40 {
            let half = 0.5 * (low + high);
            if simpson(0.0, half, density) < p {
                low = half;
            } else {
                high = half;
            }
        }
        return (0.5f64 * (low + high)).powf(1.0 / a);
    }
    let norm = ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + 2f64.ln();
    let density = |angle: f64| {
        let (sine, cosine) = (angle.sin(), angle.cos());
        let power = |base: f64, exponent: f64| {
            if exponent == 0.0 { 0.0 } else { exponent * base.max(1e-300).ln() }
        };
        (norm + power(sine, 2.0 * a - 1.0) + power(cosine, 2.0 * b - 1.0)).exp()
    };
    // The mass lies within some standard deviations of the mean, which in θ is
    // about 1 / (2 sqrt(a + b)) wide.
    let middle = (a / (a + b)).sqrt().asin();
    let reach = 20.0 / (2.0 * (a + b).sqrt());
    let start = (middle - reach).max(0.0);
    let (mut low, mut high) = (start, (middle + reach).min(FRAC_PI_2));
    for _ in 0..40 {
        let half = 0.5 * (low + high);
        if simpson(start, half, density) < p {
            low = half;
        } else {
            high = half;
        }
    }
    (0.5 * (low + high)).sin().powi(2)
}

/// Student's t that |T| exceeds with probability `alpha`: with `t = sqrt(df) tan θ`
/// the density is a power of a cosine.
fn student(alpha: f64, df: f64) -> f64 {
    let norm = ln_gamma((df + 1.0) / 2.0) - ln_gamma(df / 2.0) - 0.5 * PI.ln();
    let density = |angle: f64| {
        let cosine = angle.cos().max(1e-300);
        if df == 1.0 { norm.exp() } else { (norm + (df - 1.0) * cosine.ln()).exp() }
    };
    let end = (40.0 / df.sqrt()).min(FRAC_PI_2);
    let (mut low, mut high) = (0.0, end);
    for _ in 0..40 {
        let half = 0.5 * (low + high);
        if 2.0 * simpson(half, end, density) > alpha {
            low = half;
        } else {
            high = half;
        }
    }
    df.sqrt() * (0.5 * (low + high)).tan()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::stats::{Cluster, Estimate};

    /// Two ways to the same bounds: few and many calls, clustered or not, at the ends
    /// and in the middle, at the confidence of one row and of forty.
    #[test]
    fn both_ways_lead_to_the_same_bounds() {
        let cases: [&[(u64, u64)]; 9] = [
            &[(20, 7)],
            &[(1000, 1000); 20],
            &[(1000, 0); 20],
            &[(200, 200), (200, 199), (200, 200), (200, 200)],
            &[(200, 200), (200, 120), (200, 200), (200, 190), (200, 200)],
            &[(100, 90), (100, 50), (100, 70), (100, 10)],
            &[(1000, 999), (1000, 0), (1000, 1000)],
            &[(15_000, 15_000), (15_000, 14_999), (15_000, 14_998)],
            &[(100, 3), (0, 0), (50, 0), (70, 1)],
        ];
        for case in cases {
            let clusters: Vec<Cluster> = case
                .iter()
                .map(|(trials, successes)| Cluster { trials: *trials, successes: *successes })
                .collect();
            let blocks: Vec<Block> = case
                .iter()
                .map(|(calls, right)| Block {
                    boot: 1,
                    proves: true,
                    calls: *calls,
                    top: *right,
                    all: 0,
                })
                .collect();
            let estimate = Estimate::new(&clusters, &[]).unwrap();
            let sample = Sample::new(&blocks, true, &Value::Null);
            for confidence in [0.95, 0.9987] {
                let theirs = estimate.interval(confidence);
                let (low, high) = sample.interval(confidence).unwrap();
                let off = (low - theirs.low).abs().max((high - theirs.high).abs());
                assert!(off < 1e-6, "{case:?} {confidence}: {low} {high}, not {theirs:?}");
            }
        }
    }

    /// The shares of the looks are those of the rule.
    #[test]
    fn both_ways_spend_the_same_error() {
        use bakeoff_fuzz::stop;
        use bakeoff_fuzz::wire::Stop;
        let rule = Stop::Precise { half_width_ppm: 1 };
        for planned in [1, 3, 5, 20, 37, 100] {
            let step = serde_json::json!({"blocks": planned, "stop": rule});
            for taken in 1..=planned {
                let ours = share(&step, u64::from(taken));
                let theirs = stop::share(rule, planned, taken);
                assert!((ours - theirs).abs() < 1e-12, "{taken} of {planned}");
            }
        }
    }
}
