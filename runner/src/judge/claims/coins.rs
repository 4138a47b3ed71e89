// SPDX-License-Identifier: MIT OR Apache-2.0
//! Chance for simulations: the same for the same seed.

use std::f64::consts::TAU;

/// Throws coins, the same ones for the same seed (splitmix64; Steele, Lea & Flood,
/// OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Coins(pub u64);

impl Coins {
    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let unit = (z >> 11) as f64 / (1u64 << 53) as f64;
        unit
    }

    /// Heads in so many throws, by the throws between two of the rarer side
    /// (geometric waiting times).
    pub fn heads(&mut self, trials: u64, p: f64) -> u64 {
        if p > 0.5 {
            return trials - self.heads(trials, 1.0 - p);
        }
        if p <= 0.0 {
            return 0;
        }
        let (mut heads, mut at) = (0, 0.0);
        loop {
            at += ((-self.unit()).ln_1p() / (-p).ln_1p()).floor() + 1.0;
            #[expect(clippy::cast_precision_loss, reason = "a simulated block is small")]
            if at > trials as f64 {
                return heads;
            }
            heads += 1;
        }
    }

    /// A normal deviate (Box & Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (-self.unit()).ln_1p()).sqrt();
        radius * (TAU * self.unit()).cos()
    }

    /// A gamma deviate (Marsaglia & Tsang, ACM TOMS 26 (2000) 363).
    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let smaller = (1.0 - self.unit()).powf(1.0 / shape);
            return self.gamma(shape + 1.0) * smaller;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            let u = 1.0 - self.unit();
            if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// A beta deviate; `1 / (a + b + 1)` is the correlation of calls that share it.
    pub fn beta(&mut self, a: f64, b: f64) -> f64 {
        let (x, y) = (self.gamma(a), self.gamma(b));
        // Both may underflow where a and b are tiny: then one of the ends it is.
        if x + y > 0.0 { x / (x + y) } else { f64::from(u8::from(self.unit() < a / (a + b))) }
    }
}
