// SPDX-License-Identifier: MIT OR Apache-2.0
//! Puts the claims of the spec to the visits: the numbers are [`claims`]' business, this
//! brings together what belongs together.

use std::collections::{BTreeMap, BTreeSet};

use bakeoff_fuzz::probe::{Better, Metric, MetricKind, OwnMetric};

use super::measure::{self, points, rounded};
use super::{Peers, groups};
use crate::judge::claims::{self, Condition, Looks, Question, Reading, Scale, Settled, Standing};
use crate::judge::row::{ClaimReading, ClaimRow, Load, MissingBounds, Place, ToDecide, VisitRow};
use crate::run::expect;
use crate::run::schedule::LATER_SPREAD;
use crate::see::observation::Observation;
use crate::spec::plan::{Plan, Planned, PlannedClaim};
use crate::spec::{Role, declared, own_metric};

/// The looks that the claims of a run are settled at. The claims of all contenders on all
/// architectures hold together; one on a family of metrics is as many as were measured.
pub(crate) fn looks(plan: &Plan, observations: &[Observation]) -> Looks {
    let claims = groups(observations).into_iter().map(|group| {
        let contenders = group.iter().filter(|seen| seen.cell.role == Role::Contender).count();
        let asked = claims_of(&group, plan).map(|claim| asked(claim, plan, &group).len().max(1));
        contenders * asked.sum::<usize>()
    });
    Looks::extendable(claims.sum())
}

/// The same before anything was measured: each claim counts once.
fn looks_ahead(plan: &Plan) -> Looks {
    let claims = plan.groups().into_iter().map(|group| {
        let contenders = group.iter().filter(|cell| cell.role == Role::Contender).count();
        let here = |claim: &&PlannedClaim| {
            group.first().is_some_and(|cell| cell.id.profile == claim.profile)
        };
        contenders * plan.claims.iter().filter(here).count()
    });
    Looks::extendable(claims.sum())
}

/// The smallest loss that a claim about a share can rule out within the planned looks;
/// `None` for one about a number, whose spread nobody knows beforehand.
pub(crate) fn smallest_loss(plan: &Plan, claim: &PlannedClaim) -> Option<f64> {
    declared(&claim.claim.metric).filter(|metric| metric.kind == MetricKind::Share)?;
    let steps = || claim.steps.iter().filter_map(|id| plan.step(*id));
    let fewest = steps().map(|planned| measure::blocks_of(&planned.step)).min()?;
    Some(looks_ahead(plan).smallest(fewest, steps().count()))
}

/// A claim and one metric of it, on the steps of the plan.
pub(crate) struct Asked<'a> {
    pub(crate) claim: &'a PlannedClaim,
    pub(crate) steps: Vec<&'a Planned>,
    pub(crate) metric: String,
    pub(crate) declared: &'static Metric,
}

/// What a claim asks: one metric, or each one of its family that anybody measured.
fn asked<'a>(claim: &'a PlannedClaim, plan: &'a Plan, group: &[&Observation]) -> Vec<Asked<'a>> {
    let steps: Vec<&Planned> = claim.steps.iter().filter_map(|id| plan.step(*id)).collect();
    let Some(declared) = declared(&claim.claim.metric) else { return Vec::new() };
    let asked = |(metric, steps)| Asked { claim, steps, metric, declared };
    if !claim.claim.metric.ends_with('/') {
        return vec![asked((claim.claim.metric.clone(), steps))];
    }
    // A test of a family is asked of the steps that have it, and not of other commands.
    let mut having: BTreeMap<String, Vec<&Planned>> = BTreeMap::new();
    for planned in steps {
        let names = group.iter().flat_map(|seen| measure::names(seen, planned));
        let own = names.map(|(name, _)| name).filter(|name| name.starts_with(&claim.claim.metric));
        for name in own.collect::<BTreeSet<String>>() {
            having.entry(name).or_default().push(planned);
        }
    }
    having.into_iter().map(asked).collect()
}

impl Asked<'_> {
    /// The metric, if it is the spec's own.
    fn own(&self) -> Option<OwnMetric> {
        self.steps.iter().find_map(|planned| own_metric(&planned.step, &self.metric))
    }

    /// Whether there is anything to compare: a member of a family that neither kernel has is
    /// a third one's, such as a test whose name tells how it failed.
    fn concerns(&self, kernels: [&Observation; 2]) -> bool {
        let measured = |seen: &&Observation| {
            self.steps.iter().any(|planned| !points(seen, planned, &self.metric).is_empty())
        };
        self.metric == self.claim.claim.metric || kernels.iter().any(measured)
    }

    fn better(&self) -> Better {
        self.own().map_or(self.declared.better, |own| own.better)
    }

    /// The numbers, for one candidate of a group.
    fn question(
        &self,
        seen: &Observation,
        reference: &Observation,
        group: &[&Observation],
    ) -> Question {
        let visits = |of: &Observation, planned: &Planned| {
            points(of, planned, &self.metric).into_iter().map(|point| point.visit).collect()
        };
        let conditions = self
            .steps
            .iter()
            .map(|planned| Condition {
                name: measure::words(planned),
                candidate: visits(seen, planned),
                reference: visits(reference, planned),
                others: group
                    .iter()
                    .filter(|other| other.id() != seen.id() && other.id() != reference.id())
                    .map(|other| visits(other, planned))
                    .collect(),
            })
            .collect();
        Question {
            scale: match self.declared.kind {
                MetricKind::Share => Scale::Share,
                MetricKind::Value => Scale::Ratio,
            },
            better: match self.better() {
                Better::Lower => claims::Better::Lower,
                Better::Higher | Better::None => claims::Better::Higher,
            },
            margin: self.claim.claim.margin,
            conditions,
        }
    }
}

/// Whether claims are settled for a cell: contenders, and the negative control for show.
fn is_asked(role: Role) -> bool {
    match role {
        Role::Contender | Role::NegativeControl | Role::Reference => true,
        Role::Control => false,
    }
}

/// The claims' rows of one group.
pub(super) fn rows(
    group: &[&Observation],
    peers: &Peers<'_>,
    plan: &Plan,
    looks: Looks,
) -> Vec<ClaimRow> {
    let Some(reference) = peers.reference else { return Vec::new() };
    let mut rows = Vec::new();
    for claim in claims_of(group, plan) {
        for asked in asked(claim, plan, group) {
            let is_asked = |seen: &&&Observation| {
                is_asked(seen.cell.role) && asked.concerns([seen, reference])
            };
            for seen in group.iter().filter(is_asked) {
                let question = asked.question(seen, reference, group);
                let Standing { settled, .. } = looks.settle(&question);
                let settled =
                    if seen.cell.role == Role::Reference { of_itself(settled) } else { settled };
                rows.push(row(seen, &asked, settled));
            }
        }
    }
    rows
}

/// What the reference's own row says: its value. It does not differ from itself, and nothing
/// is left to decide.
fn of_itself(settled: Settled) -> Settled {
    let Settled { reading, reason, .. } = &settled;
    let (reading, reason) = match reading {
        Reading::NotReached => (Reading::NotReached, reason.clone()),
        Reading::Gains | Reading::Loses { .. } | Reading::NoWorse | Reading::Open => {
            (Reading::NoWorse, String::new())
        }
    };
    let (estimate, low, high, to_decide) = (None, None, None, None);
    Settled { estimate, low, high, to_decide, reading, reason, ..settled }
}

/// The claims that are judged on a group's kernels.
fn claims_of<'a>(
    group: &'a [&Observation],
    plan: &'a Plan,
) -> impl Iterator<Item = &'a PlannedClaim> {
    let profile = group.first().map(|seen| seen.id().profile.as_str());
    plan.claims.iter().filter(move |claim| Some(claim.profile.as_str()) == profile)
}

/// What an open claim still wants of a candidate and the reference, at which look.
pub(crate) struct Open<'a> {
    /// Whose claim it is.
    pub(crate) seen: &'a Observation,
    /// The reference it is compared with.
    pub(crate) reference: &'a Observation,
    /// Steps that need more visits.
    pub(crate) steps: Vec<u32>,
    /// Visits each is to have.
    pub(crate) visits: u32,
    /// It would take more than the planned looks.
    pub(crate) beyond: bool,
}

/// The claims of a run of copies, with the visits of all copies as the reference's: what is
/// dealt anew. Boots of different copies have different numbers.
pub(crate) fn pools(plan: &Plan, all: &[Observation]) -> Vec<Question> {
    let mut pools = Vec::new();
    for group in groups(all) {
        for claim in claims_of(&group, plan) {
            for asked in asked(claim, plan, &group) {
                let Some(first) = group.first() else { continue };
                let mut pool = asked.question(first, first, &group);
                for (condition, planned) in pool.conditions.iter_mut().zip(&asked.steps) {
                    condition.candidate.clear();
                    condition.others.clear();
                    condition.reference.clear();
                    for (copy, seen) in (0..).zip(&group) {
                        let visits = points(seen, planned, &asked.metric).into_iter();
                        condition.reference.extend(visits.map(|point| {
                            let boot = copy * BOOTS_OF_A_COPY + point.visit.boot;
                            claims::Visit { boot, ..point.visit }
                        }));
                    }
                }
                pools.push(pool);
            }
        }
    }
    pools
}

/// No copy has as many boots.
const BOOTS_OF_A_COPY: u32 = 10_000;

/// The open claims of the contenders of a group.
pub(crate) fn open<'a>(
    group: &[&'a Observation],
    peers: &Peers<'a>,
    plan: &Plan,
    looks: Looks,
) -> Vec<Open<'a>> {
    let Some(reference) = peers.reference else { return Vec::new() };
    let mut all = Vec::new();
    for claim in claims_of(group, plan) {
        for asked in asked(claim, plan, group) {
            let contends = |seen: &&&Observation| {
                seen.cell.role == Role::Contender && asked.concerns([seen, reference])
            };
            for seen in group.iter().filter(contends) {
                let standing = looks.settle(&asked.question(seen, reference, group));
                if let Some(next) = standing.next {
                    all.push(Open {
                        seen,
                        reference,
                        steps: asked.steps.iter().map(|planned| planned.step.id).collect(),
                        visits: next.visits,
                        beyond: next.visits > looks.last_planned(),
                    });
                }
            }
        }
    }
    all
}

fn row(seen: &Observation, asked: &Asked<'_>, settled: Settled) -> ClaimRow {
    let Settled {
        estimate,
        low,
        high,
        alpha: _,
        reading,
        candidate,
        reference,
        visits,
        calls: _,
        unit: _,
        missing,
        duty,
        to_decide,
        reason,
    } = settled;
    let claim = &asked.claim.claim;
    let calls = asked
        .steps
        .iter()
        .flat_map(|planned| points(seen, planned, &asked.metric))
        .map(|point| point.visit.calls)
        .sum();
    let mut evidence: Vec<String> =
        asked.steps.iter().flat_map(|planned| measure::evidence(seen, planned.step.id)).collect();
    evidence.sort();
    evidence.dedup();
    let own = asked.metric.strip_prefix(claim.metric.as_str()).filter(|own| !own.is_empty());
    ClaimRow {
        place: Place::new(seen.id(), evidence),
        claim: own.map_or_else(|| claim.name.clone(), |own| format!("{}/{own}", claim.name)),
        question: claim.question.clone(),
        metric: asked.metric.clone(),
        means: measure::means(&asked.metric, asked.declared),
        unit: asked.own().map_or(asked.declared.unit.to_owned(), |own| own.unit),
        kind: measure::kind(asked.declared),
        better: measure::direction_of(asked.better()),
        margin: claim.margin,
        conditions: asked.steps.iter().map(|planned| measure::words(planned)).collect(),
        value: candidate.map(rounded),
        reference: reference.map(rounded),
        estimate: estimate.map(rounded),
        low: low.map(rounded),
        high: high.map(rounded),
        reading: match reading {
            Reading::Gains => ClaimReading::Gains,
            Reading::Loses { small: false } => ClaimReading::Loses,
            Reading::Loses { small: true } => ClaimReading::LosesLittle,
            Reading::NoWorse => ClaimReading::NoWorse,
            Reading::Open => ClaimReading::Open,
            Reading::NotReached => ClaimReading::NotReached,
        },
        visits,
        calls,
        load: duty.map(|duty| Load {
            candidate: rounded(duty.candidate),
            reference: rounded(duty.reference),
        }),
        missing: missing.map(|lost| MissingBounds {
            candidate: rounded(lost.candidate),
            reference: rounded(lost.reference),
            low: lost.low.map(rounded),
            high: lost.high.map(rounded),
        }),
        to_decide: to_decide.map(|need| {
            let more = need.visits.saturating_sub(visits);
            ToDecide {
                visits: more,
                minutes: (minutes(asked, more) * 10.0).ceil() / 10.0,
                on_the_margin: need.likely_open,
            }
        }),
        reason,
    }
}

/// Minutes that so many more visits of a claim take, on both kernels, boots included.
fn minutes(asked: &Asked<'_>, visits: u32) -> f64 {
    let one: f64 = asked.steps.iter().map(|planned| expect::visit(&planned.step)).sum();
    let boots = f64::from(visits.min(LATER_SPREAD)) * expect::BOOT_SECONDS;
    2.0 * (one * f64::from(visits) + boots) / 60.0
}

/// The visits of a group's claims, in the order of time, for the charts.
pub(super) fn visits(group: &[&Observation], plan: &Plan) -> Vec<VisitRow> {
    let mut rows: Vec<((usize, u64), VisitRow)> = Vec::new();
    let mut done = std::collections::BTreeSet::new();
    for claim in claims_of(group, plan) {
        for asked in asked(claim, plan, group) {
            for planned in &asked.steps {
                if !done.insert((planned.step.id, asked.metric.clone())) {
                    continue;
                }
                for seen in group {
                    for point in points(seen, planned, &asked.metric) {
                        let id = seen.id();
                        let at = (point.visit.boot as usize, point.begin_ns);
                        rows.push((
                            at,
                            VisitRow {
                                base: id.base.clone(),
                                candidate: id.candidate.clone(),
                                arch: id.arch.clone(),
                                profile: id.profile.clone(),
                                metric: asked.metric.clone(),
                                label: planned.label.clone(),
                                boot: point.boot.clone(),
                                order: 0,
                                value: rounded(point.visit.value),
                                calls: point.visit.calls,
                                load: point.visit.duty.map(rounded),
                            },
                        ));
                    }
                }
            }
        }
    }
    // Boots of all kernels are interleaved: boot by boot, and in a boot by its clock.
    rows.sort_by_key(|(at, _)| *at);
    rows.into_iter().zip(0..).map(|((_, row), order)| VisitRow { order, ..row }).collect()
}
