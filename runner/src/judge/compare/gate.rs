// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks the spec's gates of every contender that could be tested.

use std::collections::BTreeSet;

use bakeoff_fuzz::wire::Context;

use super::rate::{condition, shown};
use super::row::{
    CellEnd, CellRow, Change, Effect, Finding, GateRow, GateState, Outcome, Place, PredictionRow,
    RateRow, SplatRow, Verdict,
};
use super::verdict::{all_profiles, same_target};
use super::words::{Round, counted, list, percent};
use super::{Comparison, Subject, end_words};
use crate::judge::stats;
use crate::spec::plan::{Planned, label, selects};
use crate::spec::{Gate, Prediction, Role, word};

pub(super) fn ask(subject: &Subject, found: &Comparison) -> Vec<GateRow> {
    let mut rows = Vec::new();
    for verdict in found.verdicts.iter().filter(|v| v.role == Role::Contender && !v.declared) {
        for gate in &subject.gates {
            let target = Target::new(subject, found, &verdict.place);
            let (state, reason, evidence) = target.ask(gate, verdict.verdict);
            let place = all_profiles(found, &verdict.place, evidence);
            rows.push(GateRow { place, rule: gate.clone(), state, reason });
        }
    }
    rows
}

/// Holds every prediction against what was found.
pub(super) fn predict(subject: &Subject, found: &Comparison) -> Vec<PredictionRow> {
    let mut rows = Vec::new();
    for prediction in &subject.predictions {
        let Prediction { candidate, says, holds_if } = prediction;
        for verdict in found.verdicts.iter().filter(|v| v.place.candidate == *candidate) {
            let target = Target::new(subject, found, &verdict.place);
            let (state, reason, evidence) = target.ask(holds_if, verdict.verdict);
            rows.push(PredictionRow {
                place: all_profiles(found, &verdict.place, evidence),
                says: says.clone(),
                rule: holds_if.clone(),
                outcome: match state {
                    GateState::Met => Outcome::Confirmed,
                    GateState::Failed => Outcome::Refuted,
                    GateState::Undecided => Outcome::Undecided,
                },
                reason,
            });
        }
    }
    rows
}

struct Target<'a> {
    steps: &'a [Planned],
    found: &'a Comparison,
    at: &'a Place,
    cells: Vec<&'a CellRow>,
    splats: Vec<&'a SplatRow>,
}

type Answer = (GateState, String, Vec<String>);

impl<'a> Target<'a> {
    fn new(subject: &'a Subject, found: &'a Comparison, at: &'a Place) -> Target<'a> {
        Target {
            steps: &subject.steps,
            found,
            at,
            cells: found.cells.iter().filter(|c| same_target(&c.place, at)).collect(),
            splats: found.splats.iter().filter(|s| same_target(&s.place, at)).collect(),
        }
    }

    fn ask(&self, gate: &Gate, verdict: Verdict) -> Answer {
        match gate {
            Gate::NoAddedSplats => self.no_added_splats(),
            Gate::ControlSplatRemoved => self.control_splat_removed(),
            Gate::RateAtLeast { metric, context, probe, rate } => {
                self.rate_at_least(&self.rates(metric, *context, probe.as_deref()), *rate)
            }
            Gate::RateAtMost { metric, context, probe, rate } => {
                self.rate_at_most(&self.rates(metric, *context, probe.as_deref()), *rate)
            }
            Gate::RateNever { metric, context, probe, rate } => {
                self.rate_never(&self.rates(metric, *context, probe.as_deref()), *rate)
            }
            Gate::RateFalls { metric, probe, from } => {
                let of = |label: &String| self.labelled(metric, label);
                match (of(probe), of(from)) {
                    (Some(row), Some(from)) => self.rate_falls(row, from),
                    _ => self.nothing(),
                }
            }
            Gate::RateIs { metric, context, probe, is } => {
                self.rate_is(&self.rates(metric, *context, probe.as_deref()), is)
            }
            Gate::SplatIs { title, is } => self.splat_is(title, is),
            Gate::NoSplats { change } => self.no_splats(change),
            Gate::FindingIs { oracle, is } => self.finding_is(oracle, is),
            Gate::VerdictIs { is } => {
                let state = match verdict {
                    Verdict::Inconclusive if !is.contains(&verdict) => GateState::Undecided,
                    verdict if is.contains(&verdict) => GateState::Met,
                    Verdict::Better | Verdict::Same | Verdict::Worse | Verdict::Inconclusive => {
                        GateState::Failed
                    }
                };
                (state, format!("the verdict is {}", word(verdict)), self.evidence())
            }
            Gate::NotWorse => {
                let (state, word) = match verdict {
                    Verdict::Better => (GateState::Met, "better"),
                    Verdict::Same => (GateState::Met, "same"),
                    Verdict::Worse => (GateState::Failed, "worse"),
                    Verdict::Inconclusive => (GateState::Undecided, "inconclusive"),
                };
                (state, format!("the verdict is {word}"), self.evidence())
            }
        }
    }

    fn finding_is(&self, oracle: &str, is: &[Effect]) -> Answer {
        let here = |f: &&Finding| same_target(&f.place, self.at) && f.oracle == oracle;
        // Effects are declared in the order of their gravity.
        let gravest = self.found.findings.iter().filter(here).min_by_key(|f| f.effect);
        let Some(finding) = gravest else {
            let reason = format!("the oracle {oracle} found nothing to speak of");
            return (GateState::Undecided, reason, self.evidence());
        };
        let state = match finding.effect {
            effect if is.contains(&effect) => GateState::Met,
            Effect::Inconclusive => GateState::Undecided,
            Effect::Worse | Effect::Better | Effect::Same | Effect::Note => GateState::Failed,
        };
        (state, finding.text.clone(), finding.place.evidence.clone())
    }

    fn evidence(&self) -> Vec<String> {
        self.cells.iter().flat_map(|cell| cell.place.evidence.iter().cloned()).collect()
    }

    /// Why a cell without an orderly end decides a gate, if it does.
    fn stopped(&self) -> Option<Answer> {
        let cell = self.cells.iter().find(|cell| cell.end != CellEnd::Ran)?;
        let state = match cell.end {
            CellEnd::Ran | CellEnd::NotPortable | CellEnd::Error => GateState::Undecided,
            CellEnd::DidNotApply
            | CellEnd::DidNotBuild
            | CellEnd::DidNotBoot
            | CellEnd::Panicked
            | CellEnd::Hung => GateState::Failed,
        };
        // A failure that the reference shares is nobody's.
        let state = match self.found.verdicts.iter().find(|v| same_target(&v.place, self.at)) {
            Some(row) if row.verdict != Verdict::Worse => GateState::Undecided,
            Some(_) | None => state,
        };
        let reason = match &cell.note {
            Some(note) => format!("{}: {note}", end_words(cell.end)),
            None => end_words(cell.end).to_owned(),
        };
        Some((state, reason, cell.place.evidence.clone()))
    }

    fn no_added_splats(&self) -> Answer {
        let with = |wanted: &[Change]| -> Vec<&SplatRow> {
            let counted = self.splats.iter().filter(|s| s.count > 0);
            counted.filter(|s| wanted.contains(&s.change)).copied().collect()
        };
        let more = with(&[Change::Added, Change::Changed, Change::Control]);
        if !more.is_empty() {
            return (GateState::Failed, titles(&more), evidence_of(&more));
        }
        if let Some(answer) = self.stopped() {
            return answer;
        }
        let unclear = with(&[Change::Unclear]);
        if !unclear.is_empty() {
            return (GateState::Undecided, titles(&unclear), evidence_of(&unclear));
        }
        if let Some(undone) = self.undone() {
            return (GateState::Undecided, undone, self.evidence());
        }
        (GateState::Met, "none that the reference does not have".into(), self.evidence())
    }

    /// Work that was planned and proves nothing here.
    fn undone(&self) -> Option<String> {
        let finding = self.found.findings.iter().find(|f| {
            same_target(&f.place, self.at)
                && f.oracle == "exercise"
                && f.effect == super::Effect::Inconclusive
        })?;
        Some(finding.text.clone())
    }

    fn control_splat_removed(&self) -> Answer {
        let still: Vec<&SplatRow> = self
            .splats
            .iter()
            .filter(|s| matches!(s.change, Change::Control | Change::Changed) && s.count > 0)
            .copied()
            .collect();
        if !still.is_empty() {
            return (GateState::Failed, titles(&still), evidence_of(&still));
        }
        if let Some((state, reason, evidence)) = self.stopped() {
            // What died did not keep the splat; it did not show either that it is gone.
            let state = match state {
                GateState::Failed if self.cells.iter().all(|cell| cell.place.boots == 0) => state,
                GateState::Met | GateState::Failed | GateState::Undecided => GateState::Undecided,
            };
            return (state, reason, evidence);
        }
        let absent: Vec<&SplatRow> = self.splats.iter().filter(|s| s.count == 0).copied().collect();
        if let Some(row) = absent.iter().find(|s| s.change != Change::Removed) {
            let reason = format!("{}: {}", row.title, row.reason);
            return (GateState::Undecided, reason, row.place.evidence.clone());
        }
        match absent.first() {
            Some(row) => {
                let reason = format!("{} is gone: {}", titles(&absent), row.reason);
                (GateState::Met, reason, evidence_of(&absent))
            }
            None => {
                let reason = "the control showed no splat to be removed".to_owned();
                (GateState::Undecided, reason, self.evidence())
            }
        }
    }

    /// The rows of a metric that are judged, of the context and the probes named. What no
    /// kernel of this target reaches, the reference's included, decides nothing beside
    /// what was measured.
    fn rates(
        &self,
        metric: &str,
        context: Option<Context>,
        probe: Option<&str>,
    ) -> Vec<&'a RateRow> {
        let rows: Vec<&RateRow> = self
            .judged(metric)
            .filter(|row| context.is_none_or(|context| row.context == context))
            .filter(|row| probe.is_none_or(|probe| selects(probe, &self.label(row))))
            .collect();
        if rows.iter().all(|row| self.is_out_of_reach(row)) {
            return rows;
        }
        rows.into_iter().filter(|row| !self.is_out_of_reach(row)).collect()
    }

    fn judged(&self, metric: &str) -> impl Iterator<Item = &'a RateRow> {
        let rows = self.found.rates.iter();
        rows.filter(move |row| {
            same_target(&row.place, self.at) && row.metric == metric && row.judged
        })
    }

    fn label(&self, row: &RateRow) -> String {
        let step = self.steps.iter().find(|planned| planned.step.id == row.step);
        step.map(|planned| label(&planned.step)).unwrap_or_default()
    }

    /// The one row with this label.
    fn labelled(&self, metric: &str, label: &str) -> Option<&'a RateRow> {
        self.judged(metric).find(|row| self.label(row) == label)
    }

    fn is_out_of_reach(&self, row: &RateRow) -> bool {
        let out = |row: &RateRow| row.out_of_reach;
        let Place { base, arch, profile, .. } = &row.place;
        let same = |other: &&RateRow| {
            let place = &other.place;
            other.step == row.step
                && other.metric == row.metric
                && (&place.base, &place.arch, &place.profile) == (base, arch, profile)
        };
        out(row) && self.found.rates.iter().filter(same).all(out)
    }

    /// A gate on rates of which none was measured.
    fn nothing(&self) -> Answer {
        (GateState::Undecided, "no such rate was measured".into(), self.evidence())
    }

    /// A row without calls: why.
    fn none_of(&self, row: &RateRow) -> Answer {
        self.stopped().unwrap_or_else(|| {
            (GateState::Undecided, row.reason.clone(), row.place.evidence.clone())
        })
    }

    fn rate_at_most(&self, rows: &[&RateRow], most: f64) -> Answer {
        let text = |row: &RateRow| format!("{} {}", condition(row), shown(row));
        let words = format!("{}%", percent(most, Round::Nearest));
        if let Some(row) = rows.iter().find(|row| row.low.is_some_and(|low| low > most)) {
            let reason = format!("above {words}: {}", text(row));
            return (GateState::Failed, reason, row.place.evidence.clone());
        }
        let Some(first) = rows.first() else { return self.nothing() };
        match rows.iter().find(|row| row.high.is_none_or(|high| high > most)) {
            Some(row) if row.calls == 0 => self.none_of(row),
            Some(row) => {
                let reason = format!("{}: needs more calls", text(row));
                (GateState::Undecided, reason, row.place.evidence.clone())
            }
            None => {
                let all: Vec<String> = rows.iter().map(|row| text(row)).collect();
                let reason = format!("at most {words}: {}", list(&all));
                (GateState::Met, reason, first.place.evidence.clone())
            }
        }
    }

    /// Whether no call was right, and how much the calls of all rows together say. A
    /// row counts for as many independent calls as its bounds take it for.
    fn rate_never(&self, rows: &[&RateRow], most: f64) -> Answer {
        if let Some(row) = rows.iter().find(|row| row.correct > 0) {
            let reason = format!("{} {}", condition(row), shown(row));
            return (GateState::Failed, reason, row.place.evidence.clone());
        }
        if rows.is_empty() {
            return self.nothing();
        }
        if let Some(row) = rows.iter().find(|row| row.calls == 0) {
            return self.none_of(row);
        }
        let independent = |row: &&RateRow| {
            let effects = [row.design_effect, row.boot_effect].into_iter().flatten();
            stats::float(row.calls) / effects.fold(1.0, f64::max)
        };
        let together: f64 = rows.iter().map(independent).sum();
        let text = format!(
            "none of {} in {}, which count as {together:.0} independent ones",
            counted(rows.iter().map(|row| row.calls).sum(), "call"),
            counted(rows.len() as u64, "condition"),
        );
        let words = format!("{}%", percent(most, Round::Nearest));
        let evidence = rows.iter().flat_map(|row| row.place.evidence.iter().cloned());
        let evidence = evidence.collect::<BTreeSet<_>>().into_iter().collect();
        // Where sampling could have stopped earlier, looking has spent part of the error.
        let share = rows.iter().filter_map(|row| row.error_share).fold(1.0, f64::min);
        let confidence = 1.0 - (1.0 - stats::CONFIDENCE) * share;
        // As few right answers as failures where the claim is the other way round.
        match stats::calls_for_claim(1.0 - most, 0, confidence) {
            Some(needed) if together >= stats::float(needed) => {
                (GateState::Met, format!("at most {words}: {text}"), evidence)
            }
            _ => (GateState::Undecided, format!("{text}: needs more calls"), evidence),
        }
    }

    /// Whether a rate is lower here than there.
    fn rate_falls(&self, row: &RateRow, from: &RateRow) -> Answer {
        let known = |row: &RateRow| {
            let (low, high) = (row.low?, row.high?);
            #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
            let rate = row.correct as f64 / row.calls as f64;
            Some((rate, stats::Interval { low, high }))
        };
        let (Some(ours), Some(theirs)) = (known(row), known(from)) else {
            return self.none_of(if row.calls == 0 { row } else { from });
        };
        let fall = stats::square_and_add(ours, theirs);
        let points = |share: f64| format!("{:.2}", 100.0 * share);
        let text = format!(
            "{} {}, {} {}: by {} points [{}, {}]",
            condition(row),
            shown(row),
            condition(from),
            shown(from),
            points(ours.0 - theirs.0),
            points(fall.low),
            points(fall.high)
        );
        let (state, text) = if fall.high < 0.0 {
            (GateState::Met, text)
        } else if fall.low > -row.margin {
            (GateState::Failed, format!("no fall: {text}"))
        } else {
            (GateState::Undecided, format!("{text}: needs more calls"))
        };
        (state, text, row.place.evidence.iter().chain(&from.place.evidence).cloned().collect())
    }

    fn rate_is(&self, rows: &[&RateRow], wanted: &[Verdict]) -> Answer {
        let text = |row: &RateRow| format!("{} is {}", condition(row), word(row.verdict));
        let Some(first) = rows.first() else { return self.nothing() };
        let other = |row: &&&RateRow| !wanted.contains(&row.verdict);
        let decided = rows.iter().filter(other).find(|row| row.verdict != Verdict::Inconclusive);
        if let Some(row) = decided {
            return (GateState::Failed, text(row), row.place.evidence.clone());
        }
        match rows.iter().find(other) {
            Some(row) if row.calls == 0 => self.none_of(row),
            Some(row) => (
                GateState::Undecided,
                format!("{}: {}", text(row), row.reason),
                row.place.evidence.clone(),
            ),
            None => {
                let all: Vec<String> = rows.iter().map(|row| text(row)).collect();
                (GateState::Met, list(&all), first.place.evidence.clone())
            }
        }
    }

    /// What a splat is here; one that nobody has cannot be anything.
    fn splat_is(&self, title: &str, wanted: &[Change]) -> Answer {
        let mut rows: Vec<&SplatRow> =
            self.splats.iter().filter(|splat| splat.title == title).copied().collect();
        // What was raised by printing another, or is cut, says nothing beside a whole one.
        let whole = |row: &&SplatRow| row.change != Change::Secondary;
        if rows.iter().any(whole) {
            rows.retain(whole);
        }
        let is = |row: &SplatRow| format!("{title} is {}: {}", word(row.change), row.reason);
        let decided =
            |row: &&&SplatRow| !wanted.contains(&row.change) && row.change != Change::Unclear;
        if let Some(row) = rows.iter().find(decided) {
            return (GateState::Failed, is(row), row.place.evidence.clone());
        }
        if let Some(answer) = self.stopped() {
            return answer;
        }
        match rows.iter().find(|row| !wanted.contains(&row.change)).or(rows.first()) {
            Some(row) if wanted.contains(&row.change) => {
                (GateState::Met, is(row), evidence_of(&rows))
            }
            Some(row) => (GateState::Undecided, is(row), row.place.evidence.clone()),
            None => {
                let reason = format!("{title} was seen neither here nor in the control");
                (GateState::Undecided, reason, self.evidence())
            }
        }
    }

    fn no_splats(&self, unwanted: &[Change]) -> Answer {
        let found: Vec<&SplatRow> =
            self.splats.iter().filter(|s| unwanted.contains(&s.change)).copied().collect();
        if !found.is_empty() {
            return (GateState::Failed, titles(&found), evidence_of(&found));
        }
        if let Some(answer) = self.stopped() {
            return answer;
        }
        match self.undone() {
            Some(undone) => (GateState::Undecided, undone, self.evidence()),
            None => (GateState::Met, "none".into(), self.evidence()),
        }
    }

    fn rate_at_least(&self, rows: &[&RateRow], least: f64) -> Answer {
        let text = |row: &RateRow| format!("{} {}", condition(row), shown(row));
        let least_words = format!("{}%", percent(least, Round::Nearest));
        let below = rows.iter().find(|row| row.high.is_some_and(|high| high < least));
        if let Some(row) = below {
            let reason = format!("below {least_words}: {}", text(row));
            return (GateState::Failed, reason, row.place.evidence.clone());
        }
        let Some(first) = rows.first() else { return self.nothing() };
        let open = rows.iter().find(|row| row.low.is_none_or(|low| low < least));
        let Some(row) = open else {
            let all: Vec<String> = rows.iter().map(|row| text(row)).collect();
            let reason = format!("at least {least_words}: {}", list(&all));
            return (GateState::Met, reason, first.place.evidence.clone());
        };
        if row.calls == 0 {
            return self.none_of(row);
        }
        // The bounds shown are two-sided; so many calls make the lower one pass.
        let one_sided = 1.0 - (1.0 - row.confidence) / 2.0;
        let failures = row.calls - row.correct;
        let needs = match stats::calls_for_claim(least, failures, one_sided) {
            Some(calls) if calls > row.calls => {
                format!("needs about {} more without a failure", counted(calls - row.calls, "call"))
            }
            Some(_) => "its failures come in clusters; needs more blocks".to_owned(),
            None => format!("no number of calls shows {least_words}"),
        };
        (GateState::Undecided, format!("{}: {needs}", text(row)), row.place.evidence.clone())
    }
}

/// `A (3 times) and B (once)`.
fn titles(splats: &[&SplatRow]) -> String {
    let mut all: Vec<String> = Vec::new();
    for splat in splats {
        let text = match splat.count {
            0 => splat.title.clone(),
            times => format!("{} ({})", splat.title, counted(times, "time")),
        };
        if !all.contains(&text) {
            all.push(text);
        }
    }
    list(&all)
}

fn evidence_of(splats: &[&SplatRow]) -> Vec<String> {
    splats.iter().flat_map(|splat| splat.place.evidence.iter().cloned()).collect()
}
