// SPDX-License-Identifier: MIT OR Apache-2.0
//! One question, answered with a given error.

use bakeoff_fuzz::stats::Interval;

use super::bounds::{Share, apart, plain};
use super::duty::{At, Corrected, correct};
use super::ratio;
use super::spread::{Cell, Pooled, Side, Variance, blocks, boots_differ, rarer_in, room, shares};
use super::{Better, Condition, Question, Scale, Visit, float, many};

/// What the interval says, given the margin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// All of it lies on the good side of zero.
    Gains,
    /// All of it lies on the bad side of zero; `small`: and within the margin.
    Loses {
        /// Surely less than the margin.
        small: bool,
    },
    /// It reaches zero, and no loss beyond the margin.
    NoWorse,
    /// It reaches a loss beyond the margin, and zero.
    Open,
    /// A condition has no visit of one of the kernels.
    NotReached,
}

/// What the spread was taken between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Visits, as planned.
    Visits,
    /// Boots: they differ by more than their visits explain.
    Boots,
    /// Blocks of calls: no call failed, or none went right, on either side.
    Blocks,
}

/// What would decide an open claim, if the visits went on as they did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToDecide {
    /// Visits of each condition and kernel in all, should the estimate stay where it is.
    pub visits: u32,
    /// The same for the worst estimate there is, half a margin below zero: then the
    /// whole interval is narrower than the margin.
    pub at_worst: u32,
    /// It takes more than the looks that are left allow.
    pub likely_open: bool,
}

/// Samples that were lost, each counted against the claim and then for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Missing {
    /// Part of the candidate's samples that was lost, mean over the conditions.
    pub candidate: f64,
    /// Part of the reference's.
    pub reference: f64,
    /// The lower bound if the candidate's had failed and the reference's gone right;
    /// `None` for a continuous metric, which has no worst value.
    pub low: Option<f64>,
    /// The upper bound in the opposite case.
    pub high: Option<f64>,
    /// The reading of that wider interval.
    pub reading: Option<Reading>,
}

/// How the measured load differed, mean over the conditions that have one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Duty {
    /// The candidate's.
    pub candidate: f64,
    /// The reference's.
    pub reference: f64,
    /// Conditions compared at the reference's duty.
    pub corrected: u32,
    /// Conditions in which duties differ and nothing tells what the candidate would do
    /// at the reference's.
    pub plain: u32,
}

/// What a claim came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    /// Candidate − reference of a share, or candidate ÷ reference.
    pub estimate: Option<f64>,
    /// Lower bound.
    pub low: Option<f64>,
    /// Upper bound.
    pub high: Option<f64>,
    /// The error this interval may make; both sides together.
    pub alpha: f64,
    /// What it says.
    pub reading: Reading,
    /// The candidate's own mean over the conditions.
    pub candidate: Option<f64>,
    /// The reference's.
    pub reference: Option<f64>,
    /// Visits of each condition and kernel; the fewest, where they differ.
    pub visits: u32,
    /// Calls of both kernels.
    pub calls: u64,
    /// What the spread was taken between.
    pub unit: Unit,
    /// Lost samples; `None` if there were none.
    pub missing: Option<Missing>,
    /// The measured load; `None` if none was.
    pub duty: Option<Duty>,
    /// For an open claim.
    pub to_decide: Option<ToDecide>,
    /// Why it is open or not reached, and what the interval rests on, in words; may be
    /// empty.
    pub reason: String,
}

/// One side of a condition.
type Of = fn(&Condition) -> &[Visit];

/// An estimate with its interval, before it is read.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) estimate: f64,
    pub(super) interval: Interval,
    pub(super) candidate: f64,
    pub(super) reference: f64,
    pub(super) unit: Unit,
    pub(super) duty: Option<Duty>,
}

/// Visits of each kernel and condition below which nothing tells how visits differ.
const FEWEST_VISITS: u32 = 2;

/// Visits of a side with a failure (or with a success, if those are fewer) from which on
/// the spread tells how failures clump; with fewer, blocks have to do.
const FEWEST_FAILING: u32 = 5;

impl Question {
    /// What the visits show, wrong in at most `alpha` of the cases.
    #[must_use]
    pub fn settle(&self, alpha: f64) -> Settled {
        let fewest = self.visits();
        let all = self.conditions.iter().flat_map(|c| c.candidate.iter().chain(&c.reference));
        let nothing = Settled {
            estimate: None,
            low: None,
            high: None,
            alpha,
            reading: Reading::Open,
            candidate: None,
            reference: None,
            visits: fewest,
            calls: all.map(|v| v.calls).fold(0, u64::saturating_add),
            unit: Unit::Visits,
            missing: self.missing_parts(),
            duty: None,
            to_decide: None,
            reason: String::new(),
        };
        if fewest < FEWEST_VISITS {
            return self.too_few(nothing);
        }
        let found = match self.scale {
            Scale::Share => Ok(self.settle_share(alpha)),
            Scale::Ratio => ratio::settle(self, alpha),
        };
        match found {
            Err(reason) => Settled { reason, ..nothing },
            Ok(found) => self.read(found, nothing),
        }
    }

    /// Visits of each condition and kernel; the fewest, where they differ.
    #[must_use]
    pub fn visits(&self) -> u32 {
        let count = |of: &[Visit]| of.iter().filter(|v| v.calls > 0).count();
        let both = |c: &Condition| count(&c.candidate).min(count(&c.reference));
        let fewest = self.conditions.iter().map(both).min().unwrap_or(0);
        u32::try_from(fewest).unwrap_or(u32::MAX)
    }

    fn too_few(&self, nothing: Settled) -> Settled {
        let counted = |of: &[Visit]| of.iter().any(|v| v.calls > 0);
        let unseen = |c: &&Condition| !counted(&c.candidate) || !counted(&c.reference);
        let names: Vec<&str> =
            self.conditions.iter().filter(unseen).map(|c| c.name.as_str()).collect();
        if self.conditions.is_empty() {
            return Settled {
                reading: Reading::NotReached,
                reason: "the claim has no condition".into(),
                ..nothing
            };
        }
        if let Some(first) = names.first() {
            let more = match names.len() {
                1 => String::new(),
                n => format!(" and {} more", n - 1),
            };
            return Settled {
                reading: Reading::NotReached,
                reason: format!("not run on both kernels: {first}{more}"),
                ..nothing
            };
        }
        Settled {
            reason: "one visit cannot tell how much visits differ: run at least two".into(),
            ..nothing
        }
    }

    fn read(&self, found: Found, nothing: Settled) -> Settled {
        let Found { estimate, interval, candidate, reference, unit, duty } = found;
        let good = self.benefit(interval);
        let reading = self.reading(good);
        let missing = nothing.missing.map(|part| self.worst_case(part, interval));
        let mut said = Vec::new();
        if unit == Unit::Boots {
            said.push("boots differ by more than their visits explain".to_owned());
        }
        if let Some(Duty { plain, .. }) = duty
            && plain > 0
        {
            said.push(format!("the load differs and cannot be corrected in {plain} conditions"));
        }
        if reading == Reading::Open && self.margin <= 0.0 {
            said.push("a margin of zero can show no gain or loss, never \"no worse\"".to_owned());
        }
        let mut settled = Settled {
            estimate: Some(estimate),
            low: Some(interval.low),
            high: Some(interval.high),
            reading,
            candidate: Some(candidate),
            reference: Some(reference),
            unit,
            missing,
            duty,
            reason: said.join("; "),
            ..nothing
        };
        if self.at_worst(candidate) && self.at_worst(reference) {
            settled.reading = Reading::NotReached;
            settled.reason = "the reference always fails it, too: nothing can be lost".into();
            return settled;
        }
        settled.to_decide = self.to_decide(&settled, 1.0);
        settled
    }

    /// A share that cannot be worse.
    fn at_worst(&self, share: f64) -> bool {
        let worst = match self.better {
            Better::Higher => 0.0,
            Better::Lower => 1.0,
        };
        self.scale == Scale::Share && share == worst
    }

    /// The interval with up for better, additive: a ratio's logarithm.
    fn benefit(&self, on: Interval) -> Interval {
        let on = match self.scale {
            Scale::Share => on,
            Scale::Ratio => Interval { low: ln(on.low), high: ln(on.high) },
        };
        match self.better {
            Better::Higher => on,
            Better::Lower => Interval { low: -on.high, high: -on.low },
        }
    }

    /// The margin on the scale of [`Question::benefit`].
    fn allowed(&self) -> f64 {
        match (self.scale, self.better) {
            (Scale::Share, _) => self.margin.max(0.0),
            (Scale::Ratio, Better::Higher) => -(-self.margin.clamp(0.0, 1.0)).ln_1p(),
            (Scale::Ratio, Better::Lower) => self.margin.max(0.0).ln_1p(),
        }
    }

    fn reading(&self, good: Interval) -> Reading {
        let allowed = self.allowed();
        if good.low > 0.0 {
            Reading::Gains
        } else if good.high < 0.0 {
            Reading::Loses { small: good.low > -allowed }
        } else if good.low > -allowed {
            Reading::NoWorse
        } else {
            Reading::Open
        }
    }

    fn settle_share(&self, alpha: f64) -> Found {
        let sides = self.sides();
        let (ours, theirs) = (&sides.candidate, &sides.reference);
        let by_boot = boots_differ(&self.all_kernels([ours, theirs]));
        let pooled: Vec<Pooled> = self.conditions.iter().map(Pooled::new).collect();
        let spread = |side: &Side| {
            let own = match side.among_boots() {
                Some(boots) if by_boot => boots,
                Some(_) | None => side.among_visits(),
            };
            let shared = side.among_kernels(&pooled);
            if shared.value > own.value { shared } else { own }
        };
        let [of_ours, of_theirs] = [spread(ours), spread(theirs)];
        let freedom = Variance::sum([of_ours, of_theirs]).freedom;
        let one = |side: &Side, spread: Variance, of: Of| {
            let known = self.known(side, &pooled, of);
            Share { variance: spread.value.max(known.variance), ..known }.interval(alpha, freedom)
        };
        let interval = apart(
            (ours.mean, one(ours, of_ours, |c| &c.candidate)),
            (theirs.mean, one(theirs, of_theirs, |c| &c.reference)),
        );
        let interval = Interval { low: interval.low.max(-1.0), high: interval.high.min(1.0) };
        let constant = of_ours.value <= 0.0 && of_theirs.value <= 0.0;
        Found {
            estimate: (ours.mean - theirs.mean).clamp(-1.0, 1.0),
            interval,
            candidate: sides.measured,
            reference: theirs.mean,
            unit: match (constant, by_boot) {
                (true, _) => Unit::Blocks,
                (false, true) => Unit::Boots,
                (false, false) => Unit::Visits,
            },
            duty: sides.duty,
        }
    }

    /// Both sides, and all others as far as they were in every condition.
    fn all_kernels(&self, sides: [&Side; 2]) -> Vec<Side> {
        let most = self.conditions.iter().map(|c| c.others.len()).min().unwrap_or(0);
        let other = |at: usize| {
            let cells =
                self.conditions.iter().filter_map(|c| Cell::new(&shares(c.others.get(at)?)));
            Side::new(cells.collect())
        };
        sides.into_iter().cloned().chain((0..most).map(other)).collect()
    }

    /// What calls and blocks say of a side, however its visits differ.
    fn known(&self, side: &Side, pooled: &[Pooled], of: Of) -> Share {
        let conditions = many(&self.conditions);
        let cells = self.conditions.iter().zip(&side.cells);
        let least = cells.map(|(c, cell)| {
            let calls: u64 = of(c).iter().map(|v| v.calls).sum();
            room(cell.mean) / float(calls.max(1))
        });
        let failing = |of: Of| -> u32 { self.conditions.iter().map(|c| rarer_in(of(c))).sum() };
        let known = failing(of) >= FEWEST_FAILING;
        // Were all failures in the condition that was asked least, the mean would show
        // them least: it bounds the others.
        let units = self.conditions.iter().zip(pooled).map(|(c, pooled)| {
            let used = of(c).iter().filter(|v| v.calls > 0);
            let (visits, blocks) = used.fold((0, 0), |(n, all), v| (n + 1, all + blocks(v)));
            let among = pooled.units(visits);
            if known && among.is_finite() { among } else { float(blocks).min(among) }
        });
        Share {
            mean: side.mean,
            variance: least.sum::<f64>() / conditions.powi(2),
            blocks: units.fold(f64::INFINITY, f64::min) * conditions,
        }
    }

    /// Both kernels over all conditions, at the duty of the reference.
    fn sides(&self) -> Sides {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let (mut plain_means, mut extra) = (0.0, 0.0);
        let mut duties = Duties::default();
        for condition in &self.conditions {
            let cells = (
                Cell::new(&shares(&condition.candidate)),
                Cell::new(&shares(&condition.reference)),
            );
            let (Some(a), Some(b)) = cells else { continue };
            plain_means += a.mean;
            let at = (at_duty(&condition.candidate), at_duty(&condition.reference));
            duties.add(&at);
            match correct((&a, &at.0), (&b, &at.1)) {
                Corrected::Moved { ours: moved, theirs: left, slope_variance } => {
                    duties.corrected += 1;
                    extra += slope_variance;
                    ours.push(moved);
                    theirs.push(left);
                }
                other @ (Corrected::Plain | Corrected::Equal) => {
                    duties.plain += u32::from(matches!(other, Corrected::Plain));
                    ours.push(a);
                    theirs.push(b);
                }
            }
        }
        let conditions = many(&self.conditions).max(1.0);
        let mut candidate = Side::new(ours);
        candidate.extra = extra / conditions.powi(2);
        Sides {
            candidate,
            reference: Side::new(theirs),
            measured: plain_means / conditions,
            duty: duties.done(),
        }
    }

    /// Parts of the samples that were lost; `None` if none was.
    fn missing_parts(&self) -> Option<Missing> {
        let part = |of: Of| {
            let of_one = |c: &Condition| {
                let lost: u64 = of(c).iter().map(|v| v.missing).sum();
                let there: u64 = of(c).iter().map(|v| v.calls).sum();
                float(lost) / float(lost.saturating_add(there).max(1))
            };
            self.conditions.iter().map(of_one).sum::<f64>() / many(&self.conditions).max(1.0)
        };
        let (candidate, reference) = (part(|c| &c.candidate), part(|c| &c.reference));
        let none = Missing { candidate, reference, low: None, high: None, reading: None };
        (candidate > 0.0 || reference > 0.0).then_some(none)
    }

    /// Every lost sample against the claim, and for it. The interval keeps its width
    /// on each side of the estimate that moves.
    fn worst_case(&self, part: Missing, found: Interval) -> Missing {
        if self.scale == Scale::Ratio {
            return part;
        }
        let conditions = many(&self.conditions).max(1.0);
        let mean = |of: Of, lost_are: f64| {
            let of_one = |c: &Condition| {
                let all: f64 = of(c).iter().map(|v| float(v.calls + v.missing)).sum();
                let went = |v: &Visit| v.value * float(v.calls) + lost_are * float(v.missing);
                of(c).iter().map(went).sum::<f64>() / all.max(1.0)
            };
            self.conditions.iter().map(of_one).sum::<f64>() / conditions
        };
        let seen = |of: Of| {
            let of_one = |c: &Condition| {
                let calls: f64 = of(c).iter().map(|v| float(v.calls)).sum();
                let right: f64 = of(c).iter().map(|v| v.value * float(v.calls)).sum();
                right / calls.max(1.0)
            };
            self.conditions.iter().map(of_one).sum::<f64>() / conditions
        };
        let (ours, theirs): (Of, Of) = (|c| &c.candidate, |c| &c.reference);
        let apart = seen(ours) - seen(theirs);
        let down = mean(ours, 0.0) - mean(theirs, 1.0) - apart;
        let up = mean(ours, 1.0) - mean(theirs, 0.0) - apart;
        let low = (found.low + down.min(0.0)).max(-1.0);
        let high = (found.high + up.max(0.0)).min(1.0);
        let reading = Some(self.reading(self.benefit(Interval { low, high })));
        Missing { low: Some(low), high: Some(high), reading, ..part }
    }

    /// Visits that would decide, where the next interval is `wider` times as wide for
    /// the same visits because it has less error to spend.
    pub(super) fn to_decide(&self, settled: &Settled, wider: f64) -> Option<ToDecide> {
        let (Reading::Open, Some(at), Some(low), Some(high)) =
            (settled.reading, settled.estimate, settled.low, settled.high)
        else {
            return None;
        };
        let point = self.benefit(Interval { low: at, high: at }).low;
        let good = self.benefit(Interval { low, high });
        let allowed = self.allowed();
        let (below, above) = (point - good.low, good.high - point);
        // What blocks bound shrinks with their number, all else with its root.
        let times = |is: f64, should: f64| match settled.unit {
            Unit::Blocks => wider * is / should,
            Unit::Visits | Unit::Boots => (wider * is / should).powi(2),
        };
        let no_worse = (point + allowed > 0.0).then(|| times(below, point + allowed));
        let loses = (point < 0.0).then(|| times(above, -point));
        let least = match (no_worse, loses) {
            (Some(a), Some(b)) => a.min(b),
            (Some(a), None) | (None, Some(a)) => a,
            (None, None) => return None,
        };
        let worst = if allowed > 0.0 { times(below + above, allowed) } else { f64::INFINITY };
        let visits = |times: f64| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
            let visits = (times * f64::from(settled.visits)).ceil().clamp(0.0, 1e9) as u32;
            visits.max(settled.visits.saturating_add(1))
        };
        Some(ToDecide {
            visits: visits(least),
            at_worst: visits(worst.max(least)),
            likely_open: false,
        })
    }
}

struct Sides {
    candidate: Side,
    reference: Side,
    /// The candidate's mean as measured.
    measured: f64,
    duty: Option<Duty>,
}

/// Duties as they are added up.
#[derive(Default)]
struct Duties {
    candidate: f64,
    reference: f64,
    conditions: u32,
    corrected: u32,
    plain: u32,
}

impl Duties {
    fn add(&mut self, (ours, theirs): &(Vec<At>, Vec<At>)) {
        let mean = |at: &[At]| {
            let all: f64 = at.iter().map(|a| a.weight).sum();
            at.iter().map(|a| a.weight * a.duty).sum::<f64>() / all
        };
        if !ours.is_empty() && !theirs.is_empty() {
            self.candidate += mean(ours);
            self.reference += mean(theirs);
            self.conditions += 1;
        }
    }

    fn done(self) -> Option<Duty> {
        let Duties { candidate, reference, conditions, corrected, plain } = self;
        let mean = |sum: f64| sum / f64::from(conditions);
        (conditions > 0).then(|| Duty {
            candidate: mean(candidate),
            reference: mean(reference),
            corrected,
            plain,
        })
    }
}

/// The visits' duties; none unless each visit that counts has one.
fn at_duty(visits: &[Visit]) -> Vec<At> {
    let used = visits.iter().filter(|v| v.calls > 0);
    let at: Option<Vec<At>> = used
        .map(|v| Some(At { duty: v.duty.filter(|d| d.is_finite())?, weight: float(v.calls) }))
        .collect();
    at.unwrap_or_default()
}

/// The logarithm, of what may have reached zero.
fn ln(x: f64) -> f64 {
    if x > 0.0 { x.ln() } else { f64::NEG_INFINITY }
}

/// An interval of logarithms or differences without blocks to lean on.
pub(super) fn welch(ours: &Side, theirs: &Side, alpha: f64) -> (Interval, Unit) {
    let by_boot = boots_differ(&[ours.clone(), theirs.clone()]);
    let variance = |side: &Side| match side.among_boots() {
        Some(boots) if by_boot => boots,
        Some(_) | None => side.among_visits(),
    };
    let sum = Variance::sum([variance(ours), variance(theirs)]);
    let unit = if by_boot { Unit::Boots } else { Unit::Visits };
    (plain(ours.mean - theirs.mean, sum.value, alpha, sum.freedom), unit)
}
