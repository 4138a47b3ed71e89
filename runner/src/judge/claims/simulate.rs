// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the readings promise, tried out: simulated bake-offs whose truth is known,
//! looked at and stopped as a run is.
//!
//! Several candidates share one reference, as in a bake-off. Each claim has conditions
//! that go as one of the [`Kind`]s says, the kinds taking turns. A candidate's loss is
//! planted by thinning: of its right answers a part is turned into failures.

use super::{
    BLOCK_CALLS, Better, Condition, Looks, Question, Reading, Scale, Settled, Visit, float,
};
use crate::judge::claims::coins::Coins;

/// How the visits of a condition go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Each call on its own.
    Calls {
        /// Share of right answers.
        right: f64,
    },
    /// The visit has a rate of its own, drawn from a beta distribution.
    Visits {
        /// Share of right answers.
        right: f64,
        /// How alike two calls of one visit are.
        alike: f64,
    },
    /// Most visits go one way, some another: a timer locked in phase.
    Modes {
        /// Share of right answers of most visits.
        right: f64,
        /// Of the others.
        rare: f64,
        /// Part of the visits that are the others.
        part: f64,
    },
    /// Whole blocks of calls fail, all else goes right.
    Blocks {
        /// Part of the blocks.
        part: f64,
    },
    /// Boots differ, and their visits within them.
    Boots {
        /// Share of right answers.
        right: f64,
        /// How alike two visits of one boot are.
        boots: f64,
        /// How alike two calls of one visit are.
        alike: f64,
    },
    /// A writer takes its duty of the calls, and takes more of the candidates': at the
    /// same duty all kernels are alike.
    Duty {
        /// The reference's mean duty.
        duty: f64,
        /// By how much more the candidates'.
        apart: f64,
        /// Standard deviation of the duty among visits.
        spread: f64,
        /// How alike two calls of one visit are.
        alike: f64,
    },
    /// A continuous metric: the logarithms of visits are normal.
    Skewed {
        /// Their standard deviation.
        spread: f64,
    },
    /// The same with outliers.
    Tailed {
        /// Standard deviation of the logarithms.
        spread: f64,
        /// Part of the visits that are outliers.
        part: f64,
        /// How many times as much they measure.
        times: f64,
    },
    /// The same with visits that measure nothing.
    Zeros {
        /// Standard deviation of the logarithms of the others.
        spread: f64,
        /// Part of the visits that measure nothing.
        part: f64,
    },
}

impl Kind {
    /// Counts right answers.
    #[must_use]
    pub fn counts(self) -> bool {
        match self {
            Kind::Calls { .. }
            | Kind::Visits { .. }
            | Kind::Modes { .. }
            | Kind::Blocks { .. }
            | Kind::Boots { .. }
            | Kind::Duty { .. } => true,
            Kind::Skewed { .. } | Kind::Tailed { .. } | Kind::Zeros { .. } => false,
        }
    }

    /// The true share of right answers; 1 of what is not counted.
    fn truth(self) -> f64 {
        match self {
            Kind::Calls { right } | Kind::Visits { right, .. } | Kind::Boots { right, .. } => right,
            Kind::Modes { right, rare, part } => (1.0 - part) * right + part * rare,
            Kind::Blocks { part } => 1.0 - part,
            Kind::Duty { duty, .. } => 1.0 - duty,
            Kind::Skewed { .. } | Kind::Tailed { .. } | Kind::Zeros { .. } => 1.0,
        }
    }
}

/// A bake-off whose truth is known.
#[derive(Clone, Debug)]
pub struct World {
    /// In a few words.
    pub name: &'static str,
    /// How conditions go, taking turns.
    pub kinds: Vec<Kind>,
    /// Conditions of each claim.
    pub conditions: usize,
    /// Candidates, with one claim each. The loss of each: a part of its right answers,
    /// or of a continuous metric.
    pub losses: Vec<f64>,
    /// The margin of all claims.
    pub margin: f64,
}

/// Calls of a visit.
const CALLS: u64 = 100;
/// Boots of each kernel, taking turns.
const BOOTS: u32 = 8;

impl World {
    /// The true difference or ratio of a candidate with that loss.
    #[must_use]
    pub fn truth(&self, loss: f64) -> f64 {
        let kinds = self.kinds.iter().cycle().take(self.conditions);
        let right = kinds.map(|k| k.truth()).sum::<f64>() / float(self.conditions as u64);
        match self.scale() {
            Scale::Share => -loss * right,
            Scale::Ratio => 1.0 - loss,
        }
    }

    fn scale(&self) -> Scale {
        if self.kinds.iter().all(|k| k.counts()) { Scale::Share } else { Scale::Ratio }
    }

    /// One kernel: its visits of every condition. The reference has no loss of its own.
    fn kernel(&self, visits: u32, loss: Option<f64>, coins: &mut Coins) -> Vec<Vec<Visit>> {
        let kinds: Vec<Kind> = self.kinds.iter().copied().cycle().take(self.conditions).collect();
        // What is said of a boot holds in all its conditions.
        let boots: Vec<f64> = (0..BOOTS).map(|_| coins.unit()).collect();
        let one = |kind: Kind, coins: &mut Coins| -> Vec<Visit> {
            let boot = |at: u32| (at % BOOTS, boots.get((at % BOOTS) as usize).copied());
            let visit = |at: u32| {
                let (number, luck) = boot(at);
                sample(kind, loss, number, luck.unwrap_or(0.5), coins)
            };
            (0..visits).map(visit).collect()
        };
        kinds.into_iter().map(|kind| one(kind, coins)).collect()
    }

    /// The claims of one bake-off with so many visits.
    #[must_use]
    pub fn bake_off(&self, visits: u32, coins: &mut Coins) -> Vec<Question> {
        let reference = self.kernel(visits, None, coins);
        let all: Vec<_> =
            self.losses.iter().map(|l| self.kernel(visits, Some(*l), coins)).collect();
        let question = |at: usize, ours: &Vec<Vec<Visit>>| Question {
            scale: self.scale(),
            better: Better::Higher,
            margin: self.margin,
            conditions: (ours.iter().zip(&reference).enumerate())
                .map(|(number, (candidate, reference))| Condition {
                    name: number.to_string(),
                    candidate: candidate.clone(),
                    reference: reference.clone(),
                    others: (all.iter().enumerate().filter(|(other, _)| *other != at))
                        .filter_map(|(_, other)| other.get(number).cloned())
                        .collect(),
                })
                .collect(),
        };
        all.iter().enumerate().map(|(at, ours)| question(at, ours)).collect()
    }
}

fn sample(kind: Kind, loss: Option<f64>, boot: u32, luck: f64, coins: &mut Coins) -> Visit {
    let (candidate, loss) = (loss.is_some(), loss.unwrap_or(0.0));
    let mut measured = None;
    let beta = |right: f64, alike: f64, coins: &mut Coins| {
        if alike <= 0.0 || right <= 0.0 || right >= 1.0 {
            return right;
        }
        let both = (1.0 - alike) / alike;
        coins.beta(right * both, (1.0 - right) * both)
    };
    let rate = match kind {
        Kind::Calls { right } => right,
        Kind::Visits { right, alike } => beta(right, alike, coins),
        Kind::Modes { right, rare, part } => {
            if coins.unit() < part {
                rare
            } else {
                right
            }
        }
        Kind::Blocks { .. } => 1.0,
        Kind::Duty { duty, apart, spread, alike } => {
            let mean = if candidate { duty + apart } else { duty };
            let duty = (mean + spread * coins.normal()).clamp(0.01, 0.99);
            measured = Some(duty);
            beta(1.0 - duty, alike, coins)
        }
        Kind::Boots { right, boots, alike } => {
            // Two modes of boots, equally frequent, with that correlation.
            let apart = (boots * right * (1.0 - right)).sqrt();
            let here = if luck < 0.5 { right - apart } else { right + apart };
            beta(here, alike, coins)
        }
        Kind::Skewed { spread } | Kind::Tailed { spread, .. } | Kind::Zeros { spread, .. } => {
            let times = match kind {
                Kind::Tailed { part, times, .. } if coins.unit() < part => times,
                Kind::Zeros { part, .. } if coins.unit() < part => 0.0,
                _ => 1.0,
            };
            let value = 100.0 * (1.0 - loss) * times * (spread * coins.normal()).exp();
            return Visit::mean(boot, value, CALLS);
        }
    };
    let (mut right, mut failed_blocks) = (0, 0);
    let blocks = CALLS / BLOCK_CALLS;
    for _ in 0..blocks {
        let whole = matches!(kind, Kind::Blocks { part } if coins.unit() < part);
        let here = if whole { 0 } else { coins.heads(BLOCK_CALLS, rate) };
        let here = here - coins.heads(here, loss);
        right += here;
        failed_blocks += u64::from(here < BLOCK_CALLS);
    }
    Visit { blocks, failed_blocks, duty: measured, ..Visit::share(boot, right, CALLS) }
}

/// What came of many bake-offs.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Bake-offs.
    pub times: u32,
    /// Those in which every interval contained its truth.
    pub jointly: u32,
    /// Those in which a claim was read as a loss, or a gain, that there is not.
    pub blamed: u32,
    /// Those in which a claim was read "no worse" that loses more than the margin.
    pub missed: u32,
    /// Claims of all bake-offs.
    pub claims: u32,
    /// Claims that were decided.
    pub decided: u32,
    /// Claims with a planted loss.
    pub planted: u32,
    /// Those read as a loss.
    pub called: u32,
    /// Visits of each condition and kernel, of all claims.
    pub visits: u64,
    /// Widths of all intervals, added up.
    width: f64,
    /// For each bake-off, by how much its intervals could be scaled and all still hold.
    scaled: Vec<f64>,
}

impl Tally {
    /// Part of the bake-offs in which all intervals held.
    #[must_use]
    pub fn coverage(&self) -> f64 {
        part(self.jointly, self.times)
    }

    /// Part of the bake-offs in which somebody was blamed, or praised, for nothing.
    #[must_use]
    pub fn blame(&self) -> f64 {
        part(self.blamed, self.times)
    }

    /// Part of the claims that were decided.
    #[must_use]
    pub fn decided(&self) -> f64 {
        part(self.decided, self.claims)
    }

    /// Part of the planted losses that were called; `None` if none was planted.
    #[must_use]
    pub fn called(&self) -> Option<f64> {
        (self.planted > 0).then(|| part(self.called, self.planted))
    }

    /// Visits on average.
    #[must_use]
    pub fn visits(&self) -> f64 {
        float(self.visits) / f64::from(self.claims.max(1))
    }

    /// Mean width of an interval.
    #[must_use]
    pub fn width(&self) -> f64 {
        self.width / f64::from(self.claims.max(1))
    }

    /// Part of their width that the intervals could do without and still hold jointly in
    /// 95 % of the bake-offs.
    #[must_use]
    pub fn lost(&self) -> f64 {
        let mut sorted = self.scaled.clone();
        sorted.sort_by(f64::total_cmp);
        let at = sorted.len() * 95 / 100;
        1.0 - sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(1.0)
    }
}

fn part(some: u32, all: u32) -> f64 {
    f64::from(some) / f64::from(all.max(1))
}

/// How a simulated bake-off is looked at.
#[derive(Clone, Debug)]
pub enum Reader {
    /// Once, after so many visits.
    Once(u32),
    /// Look by look, until decided.
    Looks(Looks),
}

impl World {
    /// So many bake-offs, read.
    #[must_use]
    pub fn try_out(&self, reader: &Reader, times: u32, seed: u64) -> Tally {
        let mut coins = Coins(seed);
        let mut tally = Tally { times, ..Tally::default() };
        let claims = float(self.losses.len().max(1) as u64);
        for _ in 0..times {
            let most = match reader {
                Reader::Once(visits) => *visits,
                Reader::Looks(looks) => looks.last_planned(),
            };
            let questions = self.bake_off(most, &mut coins);
            let read = |question: &Question| match reader {
                Reader::Once(_) => question.settle(0.05 / claims),
                Reader::Looks(looks) => looks.settle(question).settled,
            };
            let settled: Vec<Settled> = questions.iter().map(read).collect();
            self.count(&settled, &mut tally);
        }
        tally
    }

    fn count(&self, settled: &[Settled], tally: &mut Tally) {
        let (mut held, mut blamed, mut missed, mut scaled) = (true, false, false, 0.0f64);
        for (one, loss) in settled.iter().zip(&self.losses) {
            let truth = self.truth(*loss);
            let zero = match self.scale() {
                Scale::Share => 0.0,
                Scale::Ratio => 1.0,
            };
            let margin = zero - truth > self.margin;
            let (Some(at), Some(low), Some(high)) = (one.estimate, one.low, one.high) else {
                tally.claims += 1;
                continue;
            };
            held &= low <= truth && truth <= high;
            let off =
                if truth < at { (at - truth) / (at - low) } else { (truth - at) / (high - at) };
            scaled = scaled.max(if off.is_finite() { off } else { 0.0 });
            blamed |= matches!(one.reading, Reading::Loses { .. }) && truth >= zero;
            blamed |= one.reading == Reading::Gains && truth <= zero;
            missed |= one.reading == Reading::NoWorse && margin;
            tally.claims += 1;
            tally.decided += u32::from(one.reading != Reading::Open);
            tally.planted += u32::from(*loss > 0.0);
            tally.called += u32::from(*loss > 0.0 && matches!(one.reading, Reading::Loses { .. }));
            tally.visits += u64::from(one.visits);
            tally.width += high - low;
        }
        tally.jointly += u32::from(held);
        tally.blamed += u32::from(blamed);
        tally.missed += u32::from(missed);
        tally.scaled.push(scaled);
    }
}
