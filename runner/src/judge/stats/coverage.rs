// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the intervals promise, tried out: simulated cells whose true rate is
//! known, sampled as a guest samples them, the stopping rule included.
//!
//! Failures come independently, or in blocks whose own rate is drawn from a beta
//! distribution (beta-binomial blocks): `icc` is then how alike two calls of one
//! block are (intra-class correlation, the beta's `1 / (a + b + 1)`).
//!
//! Exact intervals err less often than they may where few failures are expected:
//! counts are whole numbers (Clopper and Pearson's price; a mid-P interval would
//! pay with coverage below the nominal one, which is no bargain for a verdict).

use std::f64::consts::TAU;

use bakeoff_fuzz::stop;
use bakeoff_fuzz::wire::{Block, Context, Counts, Interface, Score, Stack, Step, Stop, Stress};

use super::{Between, CONFIDENCE, Cluster, Estimate};

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
    fn normal(&mut self) -> f64 {
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

/// A cell whose truth is known.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its true rate.
    pub rate: f64,
    /// How alike two calls of one block are: 0 is independent.
    pub icc: f64,
    /// Blocks planned.
    pub blocks: u32,
    /// Calls of a block.
    pub calls: u32,
    /// The stopping rule.
    pub stop: Stop,
    /// Other rates of its kind, each in two boots as this one: what they tell together of
    /// how boots differ widens its interval, as in a report.
    pub beside: u32,
}

/// How often the interval held what it promises.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Experiments.
    pub times: u32,
    /// The interval contained the truth.
    pub covered: u32,
    /// Nothing disagreed, so independence was assumed (and stated).
    pub assumed: u32,
    /// Something did, in fewer than ten blocks (which is stated too).
    pub few: u32,
    /// Blocks taken, of all experiments.
    pub blocks: u64,
}

impl Tally {
    /// Part of the experiments in which the interval contained the truth.
    #[must_use]
    pub fn coverage(&self) -> f64 {
        f64::from(self.covered) / f64::from(self.times.max(1))
    }

    /// Part of the experiments in which independence was assumed.
    #[must_use]
    pub fn assumed(&self) -> f64 {
        f64::from(self.assumed) / f64::from(self.times.max(1))
    }

    /// Part of the experiments in which few blocks held all failures.
    #[must_use]
    pub fn few(&self) -> f64 {
        f64::from(self.few) / f64::from(self.times.max(1))
    }

    /// Blocks taken on average.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for a table")]
    pub fn mean_blocks(&self) -> f64 {
        self.blocks as f64 / f64::from(self.times.max(1))
    }
}

impl Scenario {
    fn step(&self) -> Step {
        Step {
            id: 0,
            probe: "build_id".into(),
            context: Context::Process,
            stress: Stress::Idle,
            period_us: None,
            blocks: self.blocks,
            calls_per_block: self.calls,
            block_ms: 1,
            interface: Interface::default(),
            stack: Stack::default(),
            writer_duty: None,
            stop: self.stop,
        }
    }

    /// One cell, sampled until its rule ends it, and the same calls in two boots.
    fn sample(&self, step: &Step, coins: &mut Coins) -> (Estimate, Vec<Cluster>) {
        let calls = u64::from(self.calls);
        let mut taken: Vec<Block> = Vec::new();
        loop {
            let rate = if self.icc > 0.0 {
                let both = (1.0 - self.icc) / self.icc;
                coins.beta(self.rate * both, (1.0 - self.rate) * both)
            } else {
                self.rate
            };
            let right = coins.heads(calls, rate);
            let score = Score { valid: right, correct: right };
            taken.push(Block {
                step: 0,
                block: 0,
                at_ns: 0,
                window_ns: 0,
                debug_locks_before: None,
                debug_locks_after: None,
                counts: Counts { calls, top: score, all: score, ..Counts::default() },
            });
            if stop::is_enough(step, &taken) {
                break;
            }
        }
        let blocks: Vec<Cluster> = taken
            .iter()
            .map(|b| Cluster { trials: b.counts.calls, successes: b.counts.top.correct })
            .collect();
        let number = u32::try_from(blocks.len()).unwrap_or(u32::MAX);
        let share = stop::share(self.stop, self.blocks, number);
        // There are calls in every block.
        let nothing = Estimate {
            trials: 1,
            successes: 0,
            design_effect: 1.0,
            clusters: 0,
            told_by: 0.0,
            rarer_in: 0,
            independence_assumed: true,
            calls_of_a_boot: 0.0,
            between: None,
            error_share: 1.0,
        };
        let sum = |blocks: &[Cluster]| Cluster {
            trials: blocks.iter().map(|b| b.trials).sum(),
            successes: blocks.iter().map(|b| b.successes).sum(),
        };
        let (first, second) = blocks.split_at(blocks.len() / 2);
        let boots = vec![sum(first), sum(second)];
        (Estimate::new(&blocks, &boots).unwrap_or(nothing).spending(share), boots)
    }

    /// One cell among others of its kind.
    fn sample_among(&self, step: &Step, coins: &mut Coins) -> Estimate {
        let (estimate, boots) = self.sample(step, coins);
        if self.beside == 0 {
            return estimate;
        }
        let others = (0..self.beside).map(|_| self.sample(step, coins).1);
        let all: Vec<Vec<Cluster>> = std::iter::once(boots).chain(others).collect();
        estimate.among_boots(Between::pooled(&all))
    }

    /// So many experiments.
    #[must_use]
    pub fn try_out(&self, times: u32, seed: u64) -> Tally {
        let (step, mut coins) = (self.step(), Coins(seed));
        let mut tally = Tally { times, ..Tally::default() };
        for _ in 0..times {
            let estimate = self.sample_among(&step, &mut coins);
            let interval = estimate.interval(CONFIDENCE);
            let covered = u32::from(interval.low <= self.rate && self.rate <= interval.high);
            let assumed = estimate.independence_assumed && estimate.between.is_none();
            let assumed = u32::from(assumed);
            tally.covered += covered;
            tally.assumed += assumed;
            tally.few += u32::from(estimate.between.is_none() && estimate.rests_on_few());
            tally.blocks += estimate.trials / u64::from(self.calls.max(1));
        }
        tally
    }
}
