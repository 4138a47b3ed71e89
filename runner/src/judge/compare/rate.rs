// SPDX-License-Identifier: MIT OR Apache-2.0
//! How often each metric was right, and whether that differs from the reference.

use std::collections::BTreeMap;

use bakeoff_fuzz::stop;
use bakeoff_fuzz::wire::{Block, Buckets, Counts, Score, Step, Stress, WriterTime};

use super::cell::{self, exercise, proves};
use super::row::{
    Bounds, CellEnd, CellRow, ClaimRow, ClaimState, Effect, Place, RateRow, Verdict, small,
};
use super::words::{Round, count, counted, percent, rate, ratio};
use super::{Settings, between, words};
use crate::judge::stats::{self, Between, Cluster, Estimate, Judgement, Sure};
use crate::see::observation::{BootObservation, Observation};
use crate::spec::Role;
use crate::spec::plan::{self, Claim, PRODUCTION};

/// A number that a probe's blocks answer.
#[derive(Debug)]
pub struct Metric {
    /// Its name in specs and reports.
    pub name: &'static str,
    /// The probe.
    pub probe: &'static str,
    /// What the calls counted as correct got, in the words of a reader.
    pub means: &'static str,
    score: fn(&Counts) -> Score,
}

/// Every metric there is.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "build_id.top_frame",
        probe: "build_id",
        means: "the right build id for the innermost frame",
        score: |counts| counts.top,
    },
    Metric {
        name: "build_id.all_frames",
        probe: "build_id",
        means: "the right build ids for all frames",
        score: |counts| counts.all,
    },
    Metric {
        name: "flip.top_frame",
        probe: "flip",
        means: "an id and offset that belong together for the innermost frame",
        score: |counts| counts.top,
    },
];

/// A row on its way, with the numbers a comparison needs.
pub(super) struct Rate {
    pub(super) row: RateRow,
    pub(super) estimate: Option<Estimate>,
    pub(super) rounds: Vec<Estimate>,
    /// The calls of each boot.
    pub(super) boots: Vec<Cluster>,
}

impl Rate {
    /// Takes into account how much boots differ.
    pub(super) fn among_boots(&mut self, between: Option<Between>) {
        self.estimate = self.estimate.map(|estimate| estimate.among_boots(between));
        for round in &mut self.rounds {
            *round = round.among_boots(between);
        }
        self.show_interval();
    }

    fn show_interval(&mut self) {
        let Some(estimate) = &self.estimate else { return };
        let row = &mut self.row;
        let interval = estimate.interval(stats::CONFIDENCE);
        row.low = Some(words::round_down(interval.low));
        row.high = Some(words::round_up(interval.high));
        row.design_effect = Some(words::round_up(estimate.design_effect));
        row.boot_effect = estimate.boot_effect().map(words::round_up);
        row.independence_assumed = estimate.independence_assumed && estimate.between.is_none();
        row.error_share = Some(words::round_up(estimate.error_share));
        row.rarer_in = Some(small(estimate.rarer_in));
    }
}

/// The rows of one cell, not yet compared.
pub(super) fn measure(
    seen: &Observation,
    cell: &CellRow,
    steps: &[Step],
    claim: Option<Claim>,
) -> Vec<Rate> {
    let mut rates = Vec::new();
    for step in steps {
        for metric in METRICS.iter().filter(|m| m.probe == step.probe) {
            let mut rate = measure_one(seen, cell, step, metric);
            rate.row.claim =
                claim.and_then(|claim| rate.estimate.map(|seen| test_claim(claim, &seen)));
            rates.push(rate);
        }
    }
    rates
}

fn measure_one(seen: &Observation, cell: &CellRow, step: &Step, metric: &Metric) -> Rate {
    let score = |block: &Block| {
        let Score { valid, correct } = (metric.score)(&block.counts);
        // A guest that counts more right answers than calls is not believed.
        let calls = block.counts.calls;
        (calls, valid.min(calls), correct.min(valid).min(calls))
    };
    let of_step = |boot: &BootObservation| -> Vec<Block> {
        boot.blocks.iter().filter(|b| b.step == step.id).cloned().collect()
    };
    let mut row = empty(seen, step, metric);
    let (mut blocks, mut boots, mut by_round) =
        (Vec::new(), Vec::new(), BTreeMap::<u32, OneRound>::new());
    let mut share = 1.0;
    // Nanoseconds held or awaited, of nanoseconds watched.
    let mut writer: Option<(u64, u64)> = None;
    let mut evidence = Vec::new();
    for boot in &seen.boots {
        let taken = of_step(boot);
        if taken.is_empty() && !boot.asked.contains(&step.id) {
            continue;
        }
        row.place.boots = row.place.boots.saturating_add(1);
        evidence.extend(boot.evidence.iter().cloned());
        let mut whole = Cluster::default();
        // Boots looked at their numbers apart: what each may spend multiplies, so
        // that over all ways they may have ended the whole error is spent once.
        let spent = stop::share(step.stop, step.blocks, small(taken.len()));
        share *= spent;
        let round = by_round.entry(boot.round).or_default();
        round.share *= spent;
        for block in &taken {
            if !proves(block) {
                row.blocks_without_lockdep += 1;
                continue;
            }
            let (calls, valid, correct) = score(block);
            add(&mut row, &block.counts);
            if let Some(WriterTime { held_ns, waited_ns, window_ns, cycles: _ }) =
                &block.counts.writer
            {
                let (busy, all) = writer.unwrap_or_default();
                let busy = busy.saturating_add(*held_ns).saturating_add(*waited_ns);
                writer = Some((busy, all.saturating_add(*window_ns)));
            }
            row.blocks += 1;
            row.valid += valid;
            row.correct += correct;
            let cluster = Cluster { trials: calls, successes: correct };
            whole.trials += calls;
            whole.successes += correct;
            blocks.push(cluster);
            round.blocks.push(cluster);
        }
        round.boots.push(whole);
        boots.push(whole);
    }
    if evidence.is_empty() {
        evidence = cell::evidence(seen);
    }
    row.place.evidence = evidence;
    row.writer_duty =
        writer.filter(|(_, all)| *all > 0).map(|(busy, all)| words::round_up(ratio(busy, all)));
    let estimate = Estimate::new(&blocks, &boots).map(|estimate| estimate.spending(share));
    if estimate.is_none() {
        row.out_of_reach = exercise(seen, step.id).unreachable.is_some();
        row.reason = why_none(seen, cell, step, &row);
    }
    let rounds = by_round.values().filter_map(OneRound::estimate).collect();
    let mut rate = Rate { row, estimate, rounds, boots };
    rate.show_interval();
    rate
}

/// What one round of a cell gave for one metric.
#[derive(Debug)]
struct OneRound {
    blocks: Vec<Cluster>,
    boots: Vec<Cluster>,
    share: f64,
}

impl Default for OneRound {
    fn default() -> Self {
        OneRound { blocks: Vec::new(), boots: Vec::new(), share: 1.0 }
    }
}

impl OneRound {
    fn estimate(&self) -> Option<Estimate> {
        Some(Estimate::new(&self.blocks, &self.boots)?.spending(self.share))
    }
}

fn empty(seen: &Observation, step: &Step, metric: &Metric) -> RateRow {
    RateRow {
        place: Place::new(seen.id(), 0, Vec::new()),
        step: step.id,
        metric: metric.name.to_owned(),
        context: step.context,
        stress: step.stress,
        period_us: step.period_us,
        interface: step.interface,
        stack: step.stack,
        writer_duty_asked: step.writer_duty,
        writer_duty: None,
        calls: 0,
        ineligible: 0,
        ineligible_by: BTreeMap::new(),
        missed: 0,
        errors: 0,
        wrong_context: BTreeMap::new(),
        out_of_reach: false,
        slot_busy: None,
        lock_failed: None,
        buckets: None,
        valid: 0,
        correct: 0,
        low: None,
        high: None,
        confidence: stats::CONFIDENCE,
        error_share: None,
        blocks: 0,
        blocks_without_lockdep: 0,
        design_effect: None,
        boot_effect: None,
        rarer_in: None,
        independence_assumed: false,
        claim: None,
        judged: true,
        difference: None,
        alone: None,
        margin: 0.0,
        noise: None,
        needs: None,
        verdict: Verdict::Inconclusive,
        reason: String::new(),
    }
}

/// What came of a claim. It holds only at the number of calls that was fixed
/// before, so its bound has the whole error; it may be refuted earlier, and that
/// bound has what the look may spend.
fn test_claim(claim: Claim, seen: &Estimate) -> ClaimRow {
    let both_sides = 1.0 - 2.0 * (1.0 - stats::CONFIDENCE);
    let low = seen.spending(1.0).interval(both_sides).low;
    let high = seen.interval(both_sides).high;
    let at_least = claim.rate();
    let state = if low >= at_least {
        ClaimState::Holds
    } else if high < at_least {
        ClaimState::Refuted
    } else {
        ClaimState::Open
    };
    let needs = || {
        let failures = seen.trials - seen.successes;
        let all = stats::calls_for_claim(at_least, failures, stats::CONFIDENCE)?;
        Some(all.saturating_sub(seen.trials).max(1))
    };
    ClaimRow {
        at_least,
        state,
        low: words::round_down(low),
        high: words::round_up(high),
        needs: (state == ClaimState::Open).then(needs).flatten(),
    }
}

/// `99.999% holds: at least 99.9991% with 95% confidence`.
pub(crate) fn claim_words(claim: &ClaimRow) -> String {
    let ClaimRow { at_least, state, low, high, needs } = claim;
    let claimed = percent(*at_least, Round::Nearest);
    match state {
        ClaimState::Holds => {
            let low = percent(*low, Round::Down);
            format!("{claimed}% holds: at least {low}% with 95% confidence")
        }
        ClaimState::Refuted => {
            let high = percent(*high, Round::Up);
            format!("{claimed}% is refuted: at most {high}% with 95% confidence")
        }
        ClaimState::Open => {
            let needs = needs.map_or_else(
                || "no number of calls would show it".to_owned(),
                |calls| format!("needs {} more without a failure", counted(calls, "call")),
            );
            format!("{claimed}% inconclusive: {needs}")
        }
    }
}

/// Destructured, so that a new count cannot be forgotten here.
fn add(row: &mut RateRow, counts: &Counts) {
    let Counts {
        calls,
        ineligible,
        missed,
        errors,
        wrong_context,
        slot_busy,
        lock_failed,
        top: _,
        all: _,
        frames: _,
        // For the oracle of its own.
        flip: _,
        // Added up apart: a duty is a quotient.
        writer: _,
        buckets,
    } = counts;
    if let Some(Buckets { ids, fallback_ids, exists, fast_calls, fast_stale }) = buckets {
        let sum = row.buckets.get_or_insert_default();
        for (sum, part) in [
            (&mut sum.ids, ids),
            (&mut sum.fallback_ids, fallback_ids),
            (&mut sum.exists, exists),
            (&mut sum.fast_calls, fast_calls),
            (&mut sum.fast_stale, fast_stale),
        ] {
            *sum = sum.saturating_add(*part);
        }
    }
    row.calls = row.calls.saturating_add(*calls);
    row.missed = row.missed.saturating_add(*missed);
    row.errors = row.errors.saturating_add(*errors);
    for (errno, times) in ineligible {
        row.ineligible = row.ineligible.saturating_add(*times);
        *row.ineligible_by.entry(errno.clone()).or_default() += times;
    }
    for (context, times) in wrong_context {
        *row.wrong_context.entry(context.clone()).or_default() += times;
    }
    for (sum, part) in [(&mut row.slot_busy, slot_busy), (&mut row.lock_failed, lock_failed)] {
        if let Some(part) = part {
            *sum = Some(sum.unwrap_or_default().saturating_add(*part));
        }
    }
}

/// Why there is no number.
fn why_none(seen: &Observation, cell: &CellRow, step: &Step, row: &RateRow) -> String {
    if seen.boots.is_empty() {
        let end = super::end_words(cell.end);
        return match &cell.note {
            Some(note) => format!("{end}: {note}"),
            None => end.into(),
        };
    }
    let did = exercise(seen, step.id);
    if let Some(reason) = did.unreachable {
        return format!("cannot be reached: {reason}");
    }
    if let Some(reason) = did.failed {
        return format!("our error: {reason}");
    }
    if row.blocks_without_lockdep > 0 {
        let blocks = counted(row.blocks_without_lockdep.into(), "block");
        return format!("{blocks} ran, all with lockdep off: they prove nothing");
    }
    if !row.wrong_context.is_empty() {
        let found: Vec<&String> = row.wrong_context.keys().collect();
        return format!("all calls came from another context: {}", words::list(&found));
    }
    if row.ineligible > 0 {
        return format!(
            "no eligible call: {} without a user stack",
            counted(row.ineligible, "call")
        );
    }
    if cell.end != CellEnd::Ran {
        return format!("{} before it came to this", super::end_words(cell.end));
    }
    "no block of it was taken".into()
}

/// Judges every row against the reference's: `groups` holds the rows of one
/// base × architecture × profile each, the reference's among them; `name` is the
/// reference's.
///
/// Many comparisons are corrected for by Bonferroni's inequality: every row shows
/// the interval its verdict rests on, and all of them hold at once. (Holm's method
/// would reject a little more, but has no intervals to show.) Rows that are not
/// judged are not among them.
pub(super) fn judge(groups: &mut [Vec<(Role, Vec<Rate>)>], settings: &Settings, name: &str) {
    set_aside(groups);
    between::widen(groups);
    let comparisons: usize = groups.iter().map(|group| comparisons(group)).sum();
    let confidence = stats::corrected(settings.confidence, comparisons);
    for group in groups {
        let reference = group.iter().position(|(role, _)| *role == Role::Reference);
        let theirs: Vec<Reference> = match reference.and_then(|at| group.get(at)) {
            Some((_, rates)) => rates.iter().map(|rate| Reference::new(rate, confidence)).collect(),
            None => Vec::new(),
        };
        for (role, rates) in group {
            for rate in rates {
                let theirs = theirs
                    .iter()
                    .find(|r| r.row.step == rate.row.step && r.row.metric == rate.row.metric);
                if !rate.row.judged {
                    if rate.estimate.is_some() {
                        rate.row.reason = match rate.row.stress {
                            Stress::Flip => NOT_HELD_EQUAL.into(),
                            Stress::Idle
                            | Stress::MmapWriters
                            | Stress::Oversubscribed
                            | Stress::PageOut => {
                                format!("not judged: a debug kernel; {PRODUCTION}'s rates are")
                            }
                        };
                    }
                } else if *role == Role::Reference {
                    judge_reference(rate, theirs);
                } else {
                    let sure = Sure { alone: settings.confidence, of_many: confidence };
                    judge_one(rate, theirs, sure, name);
                }
            }
        }
    }
}

/// How many rates of a group are set against the reference's.
fn comparisons(group: &[(Role, Vec<Rate>)]) -> usize {
    let others = group.iter().filter(|(role, _)| *role != Role::Reference);
    let rates = others.flat_map(|(_, rates)| rates).filter(|rate| rate.row.judged);
    rates.filter(|rate| rate.estimate.is_some()).count()
}

/// Why rates under [`Stress::Flip`] are only shown: how fast mappings change depends
/// on the candidate and on the host. There the pairs count, not how many there are.
const NOT_HELD_EQUAL: &str = "not judged: how often the mapping changes is not held equal";

/// Where a base and architecture have a production kernel, its rates are judged and
/// the others' only shown; rates while mappings change their files are shown only.
fn set_aside(groups: &mut [Vec<(Role, Vec<Rate>)>]) {
    let all = |groups: &[Vec<(Role, Vec<Rate>)>]| -> Vec<Place> {
        let rates = groups.iter().flatten().flat_map(|(_, rates)| rates);
        rates.map(|rate| rate.row.place.clone()).collect()
    };
    let production: Vec<Place> =
        all(groups).into_iter().filter(|place| place.profile == PRODUCTION).collect();
    for (_, rates) in groups.iter_mut().flatten() {
        for rate in rates {
            let at = &rate.row.place;
            let there = production.iter().any(|p| p.base == at.base && p.arch == at.arch);
            let debug = at.profile != PRODUCTION && there;
            rate.row.judged = !debug && rate.row.stress != Stress::Flip;
        }
    }
}

/// The reference's rate, and by how much its own rounds differ.
struct Reference {
    row: RateRow,
    estimate: Option<Estimate>,
    noise: f64,
}

impl Reference {
    fn new(rate: &Rate, confidence: f64) -> Reference {
        let mut noise = 0.0f64;
        for (at, a) in rate.rounds.iter().enumerate() {
            for b in rate.rounds.iter().skip(at + 1) {
                let apart = stats::difference(a, b, confidence);
                if apart.low > 0.0 || apart.high < 0.0 {
                    noise = noise.max(apart.low.abs()).max(apart.high.abs());
                }
            }
        }
        Reference { row: rate.row.clone(), estimate: rate.estimate, noise }
    }

    fn noise(&self) -> Option<f64> {
        (self.noise > 0.0).then(|| words::round_up(self.noise))
    }
}

fn judge_reference(rate: &mut Rate, itself: Option<&Reference>) {
    if rate.estimate.is_none() {
        return;
    }
    rate.row.verdict = Verdict::Same;
    rate.row.noise = itself.and_then(Reference::noise);
    rate.row.reason = match rate.row.noise {
        Some(noise) => {
            format!("the reference; its own rounds differ by up to {}", words::points(noise))
        }
        None => "the reference".into(),
    };
}

fn judge_one(rate: &mut Rate, theirs: Option<&Reference>, sure: Sure, reference: &str) {
    let (Some(ours), Some(theirs)) = (rate.estimate, theirs) else {
        return;
    };
    let Some(other) = theirs.estimate else {
        rate.row.reason = format!("{reference} has no number here: {}", theirs.row.reason);
        return;
    };
    let margin = rate.row.margin + theirs.noise;
    let apart = |confidence| stats::difference(&ours, &other, confidence);
    let bounds = |confidence| {
        let apart = apart(confidence);
        let (low, high) = (words::round_down(apart.low), words::round_up(apart.high));
        Some(Bounds { low, high, confidence: words::round_up(confidence) })
    };
    rate.row.difference = bounds(sure.of_many);
    rate.row.alone = bounds(sure.alone);
    let judged = stats::judge(apart(sure.of_many), apart(sure.alone), margin);
    let (verdict, text) = match judged {
        Judgement::Lower => (Verdict::Worse, format!("lower than {reference}'s")),
        Judgement::Higher => (Verdict::Better, format!("higher than {reference}'s")),
        Judgement::Same => {
            (Verdict::Same, format!("within {} of {reference}'s", words::points(margin)))
        }
        Judgement::Open => {
            let needs = stats::calls_for_judgement(&ours, &other, margin, sure);
            rate.row.needs = needs.map(|calls| calls.max(1));
            let needs = match rate.row.needs {
                Some(calls) => format!("needs about {} more calls", count(calls)),
                None => format!("on the margin of {}, needs more boots", words::points(margin)),
            };
            (Verdict::Inconclusive, format!("inconclusive: {needs}; {reference} has"))
        }
    };
    rate.row.verdict = verdict;
    rate.row.noise = theirs.noise();
    rate.row.reason = format!("{text} {}", shown(&theirs.row));
    if let Some(noise) = rate.row.noise {
        let noise = words::points(noise);
        rate.row.reason.push_str(&format!(", whose own rounds differ by up to {noise}"));
    }
}

/// `20,000/20,000 = 100% [99.98, 100]`.
pub(crate) fn shown(row: &RateRow) -> String {
    rate(row.correct, row.calls, row.low, row.high)
}

/// `hardirq/idle/4000us`, from a row.
pub(crate) fn condition(row: &RateRow) -> String {
    let RateRow { context, stress, period_us, writer_duty_asked, interface, stack, .. } = row;
    plan::condition(*context, *stress, *period_us, *writer_duty_asked, *interface, *stack)
}

/// The same without the period or without the writer's duty.
pub(crate) fn plain_condition(row: &RateRow, without_period: bool, without_duty: bool) -> String {
    let RateRow { context, stress, period_us, writer_duty_asked, interface, stack, .. } = row;
    let period = period_us.filter(|_| !without_period);
    let duty = writer_duty_asked.filter(|_| !without_duty);
    plan::condition(*context, *stress, period, duty, *interface, *stack)
}

/// What a row says about its candidate.
pub(super) fn effect(row: &RateRow) -> Effect {
    if !row.judged {
        return Effect::Note;
    }
    match row.verdict {
        Verdict::Better => Effect::Better,
        Verdict::Same => Effect::Same,
        Verdict::Worse => Effect::Worse,
        Verdict::Inconclusive => Effect::Inconclusive,
    }
}

/// The reader's words for a metric.
pub(crate) fn means(metric: &str) -> &str {
    METRICS.iter().find(|m| m.name == metric).map_or(metric, |m| m.means)
}
