// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looks: when a claim is read, and how much of the error each reading may spend.
//!
//! A claim that is decided early costs no further visits, but every look is another
//! chance to be wrong. So the looks split the error between them, and the interval that
//! is printed is the one of the look it stopped at: over all looks and claims together
//! the intervals are wrong in at most 5 % of the runs (Bonferroni's inequality; Lan &
//! DeMets, Biometrika 70 (1983) 659 call it error spending).

use bakeoff_fuzz::stats::exact;
use bakeoff_fuzz::stats::special::student_t;

use super::{Condition, Question, Reading, Settled, ToDecide, Visit, float};

/// When claims are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Looks {
    /// Claims of the run, on all architectures.
    pub claims: usize,
    /// After how many visits of each condition and kernel, and the error of that look
    /// for all claims together.
    plan: [(u32, f64); 3],
    /// What is left for looks that were not planned: each takes half of what is there.
    reserve: f64,
}

/// One reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Counted from 1.
    pub number: u32,
    /// Visits of each condition and kernel that it reads.
    pub visits: u32,
    /// The error of one claim's interval.
    pub alpha: f64,
}

/// Where a claim stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// What it came to at the look it stopped at, or at the last one so far.
    pub settled: Settled,
    /// That look.
    pub look: Look,
    /// The look that the next visits are for; `None` if the claim is decided, or the
    /// error is spent.
    pub next: Option<Look>,
}

/// The first three looks.
const PLAN: [(u32, f64); 3] = [(12, 0.01), (24, 0.015), (48, 0.025)];

impl Looks {
    /// After 12, 24 and 48 visits, with 1, 1.5 and 2.5 % of error.
    #[must_use]
    pub fn planned(claims: usize) -> Looks {
        Looks { claims, plan: PLAN, reserve: 0.0 }
    }

    /// The same, keeping half of the last look's error for further looks: what is still
    /// open can be taken up again, at every doubling of the visits.
    #[must_use]
    pub fn extendable(claims: usize) -> Looks {
        let [first, second, (visits, alpha)] = PLAN;
        let half = alpha / 2.0;
        Looks { claims, plan: [first, second, (visits, half)], reserve: half }
    }

    fn first(&self) -> Look {
        let [(visits, alpha), ..] = self.plan;
        Look { number: 1, visits, alpha: alpha / float(self.claims.max(1) as u64) }
    }

    /// The look with that number, counted from 1; `None` where no error is left for it.
    #[must_use]
    pub fn look(&self, number: u32) -> Option<Look> {
        let [first, second, last] = self.plan;
        let (visits, alpha) = match number {
            0 => return None,
            1 => first,
            2 => second,
            3 => last,
            later => {
                let beyond = later - 3;
                let doubled = 1u32.checked_shl(beyond).and_then(|times| last.0.checked_mul(times));
                (doubled?, self.reserve * 0.5f64.powi(i32::try_from(beyond).ok()?))
            }
        };
        let alpha = alpha / float(self.claims.max(1) as u64);
        (alpha > 0.0).then_some(Look { number, visits, alpha })
    }

    /// Reads a claim's visits, in the order they were made, look by look, and stops where
    /// it is decided. Each look sees the first visits of every condition, as many as it
    /// is for; the last one takes what there is.
    #[must_use]
    pub fn settle(&self, question: &Question) -> Standing {
        let there = question.visits();
        let mut look = self.first();
        loop {
            let next = self.look(look.number + 1);
            let settled = first_visits(question, look.visits).settle(look.alpha);
            let open = settled.reading == Reading::Open;
            if let Some(next) = next
                && open
                && there > look.visits
            {
                look = next;
                continue;
            }
            let waiting = there < look.visits && settled.reading != Reading::NotReached;
            let next = if waiting { Some(look) } else { next }.filter(|_| open);
            return Standing { settled: self.needs(question, settled, look, next), look, next };
        }
    }

    /// Visits of the last look that is planned.
    #[must_use]
    pub fn last_planned(&self) -> u32 {
        let [.., (visits, _)] = self.plan;
        visits
    }

    /// The smallest loss of a share that the planned looks can rule out, in so many conditions
    /// of so many blocks a visit: what is left when not one call fails.
    #[must_use]
    pub fn smallest(&self, blocks: u64, conditions: usize) -> f64 {
        let last = u32::try_from(self.plan.len()).ok().and_then(|number| self.look(number));
        let all = float(blocks) * f64::from(self.last_planned()) * float(conditions as u64);
        last.map_or(1.0, |look| 1.0 - exact(all, all, look.alpha / 2.0).low)
    }

    /// What an open claim needs, given the error of the look that would decide it.
    fn needs(&self, question: &Question, is: Settled, at: Look, next: Option<Look>) -> Settled {
        let wider = next.map_or(1.0, |next| wider(next.alpha, at.alpha));
        let last = self.last_planned();
        let to_decide = question
            .to_decide(&is, wider)
            .map(|need| ToDecide { likely_open: next.is_none() || need.visits > last, ..need });
        Settled { to_decide, ..is }
    }
}

/// How much wider an interval with error `next` is than one with `now`.
fn wider(next: f64, now: f64) -> f64 {
    student_t(next, 1e6) / student_t(now, 1e6)
}

/// The question with the first visits of each condition and kernel.
fn first_visits(question: &Question, visits: u32) -> Question {
    let most = usize::try_from(visits).unwrap_or(usize::MAX);
    let first = |of: &[Visit]| of.iter().take(most).copied().collect::<Vec<_>>();
    let conditions = question.conditions.iter().map(|c| Condition {
        name: c.name.clone(),
        candidate: first(&c.candidate),
        reference: first(&c.reference),
        others: c.others.iter().map(|o| first(o)).collect(),
    });
    Question { conditions: conditions.collect(), ..*question }
}
