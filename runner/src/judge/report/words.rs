// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words and numbers of a row: what a reader sees of a claim, a splat, a wrong answer.
//!
//! Every sentence is made from a row alone. What is measured, and what it is called, is
//! the spec's and the probe's business.

use super::Report;
use crate::judge::compare::words::{Round, count, list, percent};
use crate::judge::row::{
    ClaimReading, ClaimRow, Direction, KOfN, MeasureRow, Place, SplatRow, ValueKind, VerdictRow,
    WrongReading, WrongRow,
};
use crate::spec::Role;

/// A reading as one character and in words.
pub(super) fn mark(reading: ClaimReading) -> (&'static str, &'static str) {
    match reading {
        ClaimReading::Gains => ("+", "gains"),
        ClaimReading::Loses => ("-", "loses"),
        ClaimReading::LosesLittle => ("~", "loses less than its margin"),
        ClaimReading::NoWorse => ("=", "no loss beyond its margin"),
        ClaimReading::Open => ("?", "not decided"),
        ClaimReading::NotReached => ("x", "not measured"),
    }
}

/// Every reading, the gravest first.
pub(super) const READINGS: [ClaimReading; 6] = [
    ClaimReading::Loses,
    ClaimReading::Open,
    ClaimReading::NotReached,
    ClaimReading::LosesLittle,
    ClaimReading::NoWorse,
    ClaimReading::Gains,
];

/// How grave a reading is; the gravest has 0.
pub(super) fn gravity(reading: ClaimReading) -> usize {
    READINGS.iter().position(|known| *known == reading).unwrap_or(READINGS.len())
}

/// A difference in the unit that a reader thinks in: points of a share, per cent of a
/// number's reference.
pub(super) fn scaled(kind: ValueKind, difference: f64) -> f64 {
    match kind {
        ValueKind::Share => 100.0 * difference,
        ValueKind::Value => 100.0 * (difference - 1.0),
    }
}

/// A margin in the same unit.
pub(super) fn scaled_margin(row: &ClaimRow) -> f64 {
    100.0 * row.margin
}

/// `+2.4`, `0.0`, `-67.0`.
pub(super) fn signed(number: f64) -> String {
    let text = format!("{number:+.1}");
    if matches!(text.as_str(), "+0.0" | "-0.0") { "0.0".into() } else { text }
}

/// `+2.4`, of a number `+2.4%`.
pub(super) fn difference(row: &ClaimRow) -> String {
    let unit = match row.kind {
        ValueKind::Share => "",
        ValueKind::Value => "%",
    };
    row.estimate.map_or_else(String::new, |d| signed(scaled(row.kind, d)) + unit)
}

/// `[-7.9, +2.2]`, rounded outwards: an interval that leaves zero out does so in print.
pub(super) fn interval(row: &ClaimRow) -> String {
    let (Some(low), Some(high)) = (row.low, row.high) else { return String::new() };
    let (low, high) = (scaled(row.kind, low), scaled(row.kind, high));
    // As many places as keep the sign and the first digit.
    let smallest = low.abs().min(high.abs());
    let tenth = if smallest > 0.0 && smallest < 0.1 { 100.0 } else { 10.0 };
    let places = if tenth > 10.0 { 2 } else { 1 };
    let low = (low * tenth + 1e-9).floor() / tenth;
    let high = (high * tenth - 1e-9).ceil() / tenth;
    let zero = |text: String| match text.trim_start_matches(['+', '-']) {
        "0.0" | "0.00" => "0".to_owned(),
        _ => text,
    };
    format!("[{}, {}]", zero(format!("{low:+.places$}")), zero(format!("{high:+.places$}")))
}

/// `29 to 37 points`: how much claims gain or lose, over all their intervals.
pub(super) fn size(rows: &[&ClaimRow]) -> String {
    let share = rows.iter().all(|row| row.kind == ValueKind::Share);
    let unit = if share { " points" } else { "%" };
    let (mut from, mut to) = (f64::INFINITY, 0.0_f64);
    for row in rows {
        for bound in [row.low.or(row.estimate), row.high.or(row.estimate)].into_iter().flatten() {
            let bound = scaled(row.kind, bound).abs();
            (from, to) = (from.min(bound), to.max(bound));
        }
    }
    let number = |value: f64| {
        let text = if value >= 10.0 { format!("{value:.0}") } else { format!("{value:.1}") };
        text.trim_end_matches(".0").to_owned()
    };
    let (from, to) = (number(from), number(to));
    if from == to { format!("{to}{unit}") } else { format!("{from} to {to}{unit}") }
}

/// A value with its unit: `97.6%`, `12.3 us`.
pub(super) fn value(kind: ValueKind, unit: &str, value: Option<f64>) -> String {
    let Some(value) = value else { return String::new() };
    match kind {
        ValueKind::Share => {
            let fine = value > 0.0 && !(0.001..=0.999).contains(&value) && value < 1.0;
            if fine {
                percent(value, Round::Nearest) + "%"
            } else {
                format!("{:.1}%", 100.0 * value).replace("100.0%", "100%").replace("0.0%", "0%")
            }
        }
        ValueKind::Value => {
            let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
            format!("{}{unit}", number(value))
        }
    }
}

/// Three digits or more of a number.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if (1000.0..1e15).contains(&size) {
        let sign = if value < 0.0 { "-" } else { "" };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1000 and 1e15"
        )]
        let whole = size.round() as u64;
        return format!("{sign}{}", count(whole));
    }
    let places = match size {
        _ if size >= 100.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 1.0 || size == 0.0 => 2,
        _ => return trim(format!("{value:.4}")),
    };
    trim(format!("{value:.places$}"))
}

fn trim(text: String) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// What a claim's numbers are measured in, for the legend.
pub(super) fn unit_of(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::Share => "points",
        ValueKind::Value => "per cent",
    }
}

/// `4 of 8 boots against 0 of 16`.
pub(super) fn against(row: &SplatRow) -> String {
    let SplatRow { seen, reference, p, .. } = row;
    let p = p.map_or_else(String::new, |p| format!(", p = {}", probability(p)));
    format!("{} boots against {} of the reference{p}", of(*seen), of(*reference))
}

fn probability(p: f64) -> String {
    if p < 0.0001 { format!("{p:.0e}") } else { trim(format!("{p:.4}")) }
}

/// `4 of 8`.
pub(super) fn of(times: KOfN) -> String {
    format!("{} of {}", count(times.k), count(times.n))
}

/// The calls of a measure: `18,432 of 18,840`, or `200`.
pub(super) fn calls(row: &MeasureRow) -> String {
    match row.right {
        Some(right) => format!("{} of {}", count(right), count(row.calls)),
        None => count(row.calls),
    }
}

/// `97.8% [96.9, 98.6]`.
pub(super) fn measured(row: &MeasureRow) -> String {
    let Some(estimate) = row.estimate else { return row.reason.clone() };
    let text = value(row.kind, &row.unit, Some(estimate));
    let (Some(low), Some(high)) = (row.low, row.high) else { return text };
    match row.kind {
        ValueKind::Share => {
            format!("{text} [{}, {}]", percent(low, Round::Down), percent(high, Round::Up))
        }
        ValueKind::Value => format!("{text} [{}, {}]", number(low), number(high)),
    }
}

/// What a count of wrong answers is worth, in words.
pub(super) fn wrong_word(reading: WrongReading) -> &'static str {
    match reading {
        WrongReading::Wrong => "wrong",
        WrongReading::Present => "the reference gives them, too",
        WrongReading::SeenOnce => "not confirmed",
        WrongReading::None => "none",
        WrongReading::NotShown => "shows nothing: too few are expected",
        WrongReading::NotReached => "no answers",
    }
}

/// `0 wrong of 184,768; 45 expected`.
pub(super) fn wrong_count(wrong: u64, answers: u64, expected: Option<f64>) -> String {
    let expected = expected.map_or_else(String::new, |e| {
        format!("; {} expected", number(if e >= 10.0 { e.round() } else { e }))
    });
    format!("{} wrong of {}{expected}", count(wrong), count(answers))
}

/// The way a value should go.
pub(super) fn direction(better: Direction) -> &'static str {
    match better {
        Direction::Higher => "more is better",
        Direction::Lower => "less is better",
        Direction::None => "",
    }
}

/// What rows are called by: candidates and targets of a report.
pub(super) struct View<'a> {
    pub(super) report: &'a Report,
    /// Base and architecture of the rows of the matrix, in the order of the spec.
    pub(super) targets: Vec<(&'a str, &'a str)>,
}

impl<'a> View<'a> {
    pub(super) fn new(report: &'a Report) -> View<'a> {
        let mut targets: Vec<(&str, &str)> = Vec::new();
        let places = report.verdicts.iter().map(|row| &row.place);
        for place in places.chain(report.cells.iter().map(|row| &row.place)) {
            let at = (place.base.as_str(), place.arch.as_str());
            if !targets.contains(&at) {
                targets.push(at);
            }
        }
        View { report, targets }
    }

    /// `x86_64`, with its base where there are several.
    pub(super) fn target(&self, base: &str, arch: &str) -> String {
        let bases = self.targets.iter().map(|(base, _)| base);
        let several = bases.collect::<std::collections::BTreeSet<_>>().len() > 1;
        if several { format!("{base} {arch}") } else { arch.to_owned() }
    }

    /// The target of a row.
    pub(super) fn at(&self, place: &Place) -> String {
        self.target(&place.base, &place.arch)
    }

    /// The same with the profile.
    pub(super) fn cell(&self, place: &Place) -> String {
        let profile = &place.profile;
        if profile.is_empty() { self.at(place) } else { format!("{} {profile}", self.at(place)) }
    }

    /// ` on x86_64 and arm64`; nothing where it is all targets.
    pub(super) fn on(&self, places: &[String]) -> String {
        if self.everywhere(places) { String::new() } else { format!(" on {}", list(places)) }
    }

    /// Whether that is all targets.
    pub(super) fn everywhere(&self, places: &[String]) -> bool {
        self.targets.iter().all(|(base, arch)| places.contains(&self.target(base, arch)))
    }

    /// Candidates of a role, in the order of the spec.
    pub(super) fn of_role(&self, role: Role) -> impl Iterator<Item = &'a str> + use<'a> {
        let all = self.report.run.candidates.iter();
        all.filter(move |c| c.role == role).map(|c| c.name.as_str())
    }

    /// The reference's name.
    pub(super) fn reference(&self) -> &'a str {
        self.of_role(Role::Reference).next().unwrap_or("the reference")
    }

    /// Whether a row is a contender's.
    pub(super) fn contends(&self, place: &Place) -> bool {
        self.of_role(Role::Contender).any(|name| name == place.candidate)
    }

    /// The verdict of a candidate on a target.
    pub(super) fn verdict(&self, candidate: &str, at: (&str, &str)) -> Option<&'a VerdictRow> {
        self.report.verdicts.iter().find(|row| is_at(&row.place, candidate, at))
    }

    /// A candidate's claims of one name on a target; several where the claim asks for
    /// several metrics.
    pub(super) fn claims(
        &self,
        candidate: &str,
        at: (&str, &str),
        claim: &str,
    ) -> Vec<&'a ClaimRow> {
        let rows = self.report.claims.iter();
        rows.filter(|row| row.of() == claim && is_at(&row.place, candidate, at)).collect()
    }

    /// A candidate's counts of wrong answers on a target.
    pub(super) fn wrong(&self, candidate: &str, at: (&str, &str)) -> Vec<&'a WrongRow> {
        let rows = self.report.wrong.iter();
        rows.filter(|row| is_at(&row.place, candidate, at)).collect()
    }

    /// A candidate's splats on a target.
    pub(super) fn splats(&self, candidate: &str, at: (&str, &str)) -> Vec<&'a SplatRow> {
        let rows = self.report.splats.iter();
        rows.filter(|row| is_at(&row.place, candidate, at)).collect()
    }
}

fn is_at(place: &Place, candidate: &str, (base, arch): (&str, &str)) -> bool {
    place.candidate == candidate && place.base == base && place.arch == arch
}

/// Adds what is not there yet.
pub(super) fn add(words: &mut Vec<String>, word: String) {
    if !words.contains(&word) {
        words.push(word);
    }
}
