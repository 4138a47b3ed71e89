// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pictures of a run: claims with their margins, value against load and against a
//! parameter, wrong answers next to expected ones, causes, visits in time order.
//!
//! A panel is as wide as a telephone; a screen holds several side by side. Every mark
//! leads to the files that show it.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::super::words::{
    View, difference, interval, mark as reading_mark, number, scaled, scaled_margin, unit_of, value,
};
use super::svg::{Area, Scale, Tell, chart, dots, frame, mark, path, px};
use super::{link, text};
use crate::judge::row::{ClaimRow, Direction, MeasureRow, ValueKind, VisitRow};
use crate::spec::Role;

const WIDTH: f64 = 350.0;
const AREA: Area = Area { left: 46.0, top: 22.0, right: 338.0, bottom: 186.0 };
const HEIGHT: f64 = 222.0;

/// Panels of one kind at most; `report.json` has the rest.
const PANELS: usize = 24;

/// Visits that a line shows at most, evenly taken.
const DOTS: usize = 160;

/// Colours that the style sheet has; after them the forms of marks tell apart.
const COLOURS: usize = 6;

/// Class and form of a candidate.
pub(super) fn look(view: &View<'_>, candidate: &str) -> (String, usize) {
    if candidate == view.reference() {
        return ("ref".into(), 0);
    }
    let others = view.report.run.candidates.iter().filter(|c| c.role != Role::Reference);
    let at = others.map(|c| c.name.as_str()).position(|name| name == candidate).unwrap_or(0);
    (format!("c{}", at % COLOURS), at)
}

/// Names with their colours and forms.
pub(super) fn legend(view: &View<'_>) -> Markup {
    html! { ul.legend {
        @for candidate in &view.report.run.candidates {
            @let (class, form) = look(view, &candidate.name);
            li {
                (chart(14.0, 14.0, "", &mark(form, 7.0, 7.0, &format!("fill {class}"))))
                " " (text(&candidate.name))
            }
        }
    } }
}

fn panel(title: &str, chart: &Markup) -> Markup {
    html! { figure { figcaption { (text(title)) } (chart) } }
}

/// The interval of a claim in a cell of the matrix; all of a column share a scale.
pub(super) fn mini(row: &ClaimRow, column: &[&ClaimRow]) -> Markup {
    if row.estimate.is_none() {
        return html! {};
    }
    let scale = claim_scale(column, 8.0, 88.0);
    let (from, to) = margin_places(row, &scale);
    let says = format!("{} {}", difference(row), interval(row));
    let (_, words) = reading_mark(row.reading);
    let inside = html! {
        rect.margin x=(px(from.min(to))) width=(px((to - from).abs())) y="1" height="14" {}
        line.zero x1=(px(scale.at(0.0))) x2=(px(scale.at(0.0))) y1="0" y2="16" {}
        (drawn(row, &scale, 8.0))
    };
    chart(96.0, 16.0, &format!("{words}: {says}"), &inside)
}

/// Class of a reading.
pub(super) fn class_of(row: &ClaimRow) -> &'static str {
    match reading_mark(row.reading).0 {
        "+" => "good",
        "-" => "bad",
        "?" | "x" => "open",
        _ => "same",
    }
}

/// Zero, the margin and all intervals of a column.
fn claim_scale(rows: &[&ClaimRow], start: f64, end: f64) -> Scale {
    let mut numbers = vec![0.0];
    for row in rows {
        let margin = scaled_margin(row);
        let bounds = [row.low, row.high].into_iter().flatten().map(|d| scaled(row.kind, d));
        numbers.extend([-1.5, 1.5].map(|times| times * margin));
        numbers.extend(bounds.map(|d| d.clamp(-FAR * margin, FAR * margin)));
    }
    Scale::roomy(&numbers, start, end)
}

/// Margins from zero beyond which an interval is an arrow: one candidate that loses
/// everything would squeeze all others into a point.
const FAR: f64 = 5.0;

/// Interval and estimate of a claim, or an arrow where they lie outside.
fn drawn(row: &ClaimRow, scale: &Scale, y: f64) -> Markup {
    let (Some(low), Some(high), Some(estimate)) = (row.low, row.high, row.estimate) else {
        return html! {};
    };
    let [low, high, estimate] = [low, high, estimate].map(|d| scaled(row.kind, d));
    let class = class_of(row);
    let (a, b) = (scale.at(low), scale.at(high));
    let tip =
        if scale.holds(estimate) { None } else { Some(if estimate < 0.0 { -1.0 } else { 1.0 }) };
    html! {
        @if b - a > 0.3 {
            line class={ "range " (class) } x1=(px(a)) x2=(px(b)) y1=(px(y)) y2=(px(y)) {}
        }
        @match tip {
            None => circle class={ "fill " (class) } cx=(px(scale.at(estimate))) cy=(px(y)) r="3.5" {},
            Some(way) => {
                @let x = scale.at(estimate);
                @let points = [(x - 3.0 * way, y - 5.0), (x + 6.0 * way, y), (x - 3.0 * way, y + 5.0)];
                path class={ "arrow " (class) } d={ (path(&points)) "Z" } {}
            },
        }
    }
}

/// Where losses are that nobody minds.
fn margin_places(row: &ClaimRow, scale: &Scale) -> (f64, f64) {
    let margin = scaled_margin(row);
    let side = match row.better {
        Direction::Lower => margin,
        Direction::Higher | Direction::None => -margin,
    };
    (scale.at(0.0), scale.at(side))
}

/// A forest of each claim: one line per candidate and architecture, the margin shaded.
pub(super) fn forests(view: &View<'_>) -> Vec<Markup> {
    let mut all = Vec::new();
    for info in view.report.run.claims.iter().take(PANELS) {
        let rows: Vec<&ClaimRow> = view
            .report
            .claims
            .iter()
            .filter(|row| row.of() == info.name && row.estimate.is_some())
            .filter(|row| view.contends(&row.place))
            .collect();
        let Some(first) = rows.first() else { continue };
        let left = 166.0;
        let height = 24.0 + 17.0 * many(rows.len());
        let scale = claim_scale(&rows, left + 6.0, 332.0);
        let (from, to) = margin_places(first, &scale);
        let inside = html! {
            rect.margin x=(px(from.min(to))) width=(px((to - from).abs())) y="4" height=(px(height - 10.0)) {}
            @for tick in scale.ticks(4) {
                line.grid x1=(px(scale.at(tick))) x2=(px(scale.at(tick))) y1="4" y2=(px(height - 6.0)) {}
                text.tick.mid x=(px(scale.at(tick))) y=(px(height + 9.0)) { (number(tick)) }
            }
            line.zero x1=(px(scale.at(0.0))) x2=(px(scale.at(0.0))) y1="4" y2=(px(height - 6.0)) {}
            @for (n, row) in rows.iter().enumerate() {
                @let y = 18.0 + 17.0 * many(n);
                @let label = format!("{} {}", row.place.candidate, view.at(&row.place));
                text.tick.end x=(px(left - 6.0)) y=(px(y + 4.0)) { (short(&label, 24)) }
                (link(&row.place.evidence, &html! { g {
                    title { (text(&format!("{label}: {} {}, {}", difference(row), interval(row), reading_mark(row.reading).1))) }
                    (drawn(row, &scale, y))
                } }))
            }
            text.tick.mid x=(px((left + 338.0) / 2.0)) y=(px(height + 24.0)) { (unit_of(first.kind)) " against " (short(view.reference(), 24)) }
        };
        let says = format!("{}: intervals of each candidate, the margin shaded", info.name);
        let title = format!("{}: {} (margin {})", info.name, info.question, info.margin);
        all.push(panel(&title, &chart(WIDTH, height + 30.0, &text(&says), &inside)));
    }
    all
}

fn many(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// A label that fits its place.
fn short(label: &str, most: usize) -> String {
    crate::judge::compare::words::plain(label, most)
}

/// A claim, base and architecture, its measures and its visits.
type OfClaim<'a> = (&'a str, (&'a str, &'a str), Vec<&'a MeasureRow>, Vec<&'a VisitRow>);

/// The claims' conditions with a value, per claim and target.
fn of_claims<'a>(view: &View<'a>) -> Vec<OfClaim<'a>> {
    let mut all = Vec::new();
    for info in &view.report.run.claims {
        let rows = view.report.claims.iter().filter(|row| row.of() == info.name);
        let Some(claim) = rows.clone().next() else { continue };
        for at in &view.targets {
            let measures: Vec<&MeasureRow> = view
                .report
                .measures
                .iter()
                .filter(|m| m.metric == claim.metric && claim.conditions.contains(&m.condition))
                .filter(|m| (m.place.base.as_str(), m.place.arch.as_str()) == *at)
                .filter(|m| m.place.profile == claim.place.profile)
                .collect();
            let visits: Vec<&VisitRow> = view
                .report
                .visits
                .iter()
                .filter(|v| (v.base.as_str(), v.arch.as_str()) == *at && v.metric == claim.metric)
                .filter(|v| measures.iter().any(|m| m.label == v.label))
                .collect();
            if !measures.is_empty() {
                all.push((info.name.as_str(), *at, measures, visits));
            }
        }
    }
    all
}

/// Values from 0 to 1 as per cent, others as they are.
fn tell(kind: ValueKind) -> impl Fn(f64) -> String {
    move |v| match kind {
        ValueKind::Share => format!("{}%", number(100.0 * v)),
        ValueKind::Value => number(v),
    }
}

fn taken<T: Copy>(all: &[T]) -> Vec<T> {
    let step = all.len().div_ceil(DOTS).max(1);
    all.iter().copied().step_by(step).collect()
}

/// Names of those who have something, in the order of the spec.
fn candidates<'a>(view: &View<'a>, has: impl Fn(&str) -> bool) -> Vec<&'a str> {
    let names = view.report.run.candidates.iter().map(|c| c.name.as_str());
    names.filter(|name| has(name)).collect()
}

/// Value against measured load: a line per candidate through its conditions, visits as
/// dots, and where it is a share what the load leaves, dashed.
pub(super) fn loads(view: &View<'_>) -> Vec<Markup> {
    let mut all = Vec::new();
    for (claim, at, measures, visits) in of_claims(view).into_iter().take(PANELS) {
        let loaded: Vec<&VisitRow> = visits.into_iter().filter(|v| v.load.is_some()).collect();
        let Some(kind) = measures.first().map(|m| m.kind).filter(|_| !loaded.is_empty()) else {
            continue;
        };
        let x = Scale::linear(&[0.0, 1.0], AREA.left, AREA.right);
        let y = match kind {
            ValueKind::Share => Scale::linear(&[0.0, 1.0], AREA.bottom, AREA.top),
            ValueKind::Value => {
                let values: Vec<f64> = loaded.iter().map(|v| v.value).chain([0.0]).collect();
                Scale::linear(&values, AREA.bottom, AREA.top)
            }
        };
        let names = candidates(view, |name| loaded.iter().any(|v| v.candidate == name));
        let inside = html! {
            (frame(AREA, (&x, "measured load"), (&y, "value"), &Tell { x: &tell(ValueKind::Share), y: &tell(kind) }))
            @if kind == ValueKind::Share {
                path.rest d=(path(&[(x.at(0.0), y.at(1.0)), (x.at(1.0), y.at(0.0))])) {
                    title { "1 - load" }
                }
            }
            @for name in &names {
                @let (class, form) = look(view, name);
                @let own: Vec<&VisitRow> = loaded.iter().copied().filter(|v| v.candidate == *name).collect();
                @let points: Vec<(f64, f64)> = taken(&own).iter().map(|v| (x.at(v.load.unwrap_or(0.0)), y.at(v.value))).collect();
                path class={ "dots " (class) } d=(dots(&points)) {}
                @let means = means_by_label(&own);
                @let line: Vec<(f64, f64)> = means.iter().map(|(_, load, v)| (x.at(*load), y.at(*v))).collect();
                path class={ "line " (class) } d=(path(&line)) {}
                @for ((label, load, v), (px, py)) in means.iter().zip(&line) {
                    @let row = measures.iter().find(|m| m.label == *label && m.place.candidate == *name);
                    (link(row.map(|m| m.place.evidence.as_slice()).unwrap_or_default(), &html! { g {
                        title { (text(&format!("{name}: {} at load {:.0}%", tell(kind)(*v), 100.0 * load))) }
                        (mark(form, *px, *py, &format!("fill {class}")))
                    } }))
                }
            }
        };
        let title = format!("{claim}, {}", view.target(at.0, at.1));
        let says = format!("{title}: value against measured load");
        all.push(panel(&title, &chart(WIDTH, HEIGHT, &text(&says), &inside)));
    }
    all
}

/// Mean load and value of each condition, by load.
fn means_by_label<'a>(visits: &[&'a VisitRow]) -> Vec<(&'a str, f64, f64)> {
    let mut sums: BTreeMap<&str, (f64, f64, f64)> = BTreeMap::new();
    for visit in visits {
        let sum = sums.entry(&visit.label).or_default();
        *sum = (sum.0 + visit.load.unwrap_or(0.0), sum.1 + visit.value, sum.2 + 1.0);
    }
    let mut means: Vec<(&str, f64, f64)> =
        sums.into_iter().map(|(label, (l, v, n))| (label, l / n, v / n)).collect();
    means.sort_by(|a, b| a.1.total_cmp(&b.1));
    means
}

/// Loss of a share, or a number, against each numeric parameter, both logarithmic.
pub(super) fn parameters(view: &View<'_>) -> Vec<Markup> {
    type Key<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str, &'a str);
    let claims = || view.report.claims.iter();
    // Kernels that claims are not judged on would stand in the same line.
    let is_claimed = |measure: &MeasureRow| {
        claims()
            .any(|row| row.metric == measure.metric && row.place.profile == measure.place.profile)
    };
    let mut groups: indexmap::IndexMap<Key<'_>, Vec<(f64, &MeasureRow)>> =
        indexmap::IndexMap::new();
    for row in &view.report.measures {
        if claims().next().is_some() && !is_claimed(row) {
            continue;
        }
        for axis in row.axes.iter().filter(|axis| axis.measured.is_none() && axis.value > 0.0) {
            let place = &row.place;
            let key = (
                axis.name.as_str(),
                axis.unit.as_str(),
                axis.rest.as_str(),
                row.metric.as_str(),
                place.base.as_str(),
                place.arch.as_str(),
            );
            if row.estimate.is_some() {
                groups.entry(key).or_default().push((axis.value, row));
            }
        }
    }
    let mut all = Vec::new();
    for ((name, unit, rest, _, base, arch), rows) in groups {
        let mut values: Vec<f64> = rows.iter().map(|(at, _)| *at).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let Some(kind) = rows.first().map(|(_, row)| row.kind).filter(|_| values.len() > 1) else {
            continue;
        };
        if all.len() >= PANELS {
            break;
        }
        let loss = |row: &MeasureRow| match kind {
            ValueKind::Share => 1.0 - row.estimate.unwrap_or(1.0),
            ValueKind::Value => row.estimate.unwrap_or(0.0),
        };
        let mut losses: Vec<f64> =
            rows.iter().map(|(_, row)| loss(row)).filter(|l| *l > 1e-9).collect();
        // No loss at all has no logarithm: it lies on the floor, one step below the least.
        let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
        let floor = if least.is_finite() { least / 3.0 } else { 0.001 };
        losses.push(floor);
        losses.push(floor * 20.0);
        let x = Scale::log(&values, AREA.left, AREA.right);
        let y = Scale::log(&losses, AREA.bottom, AREA.top);
        let names = candidates(view, |name| rows.iter().any(|(_, r)| r.place.candidate == name));
        let what = if kind == ValueKind::Share { "lost (on the floor: none)" } else { "value" };
        let unit = if unit.is_empty() { name.to_owned() } else { format!("{name}, {unit}") };
        let inside = html! {
            (frame(AREA, (&x, &unit), (&y, what), &Tell { x: &number, y: &tell(kind) }))
            @for name in &names {
                @let (class, form) = look(view, name);
                @let points = by_parameter(&rows, name);
                @let line: Vec<(f64, f64)> = points.iter().map(|(at, row)| (x.at(*at), y.at(loss(row)))).collect();
                path class={ "line " (class) } d=(path(&line)) {}
                @for ((at, row), (px, py)) in points.iter().zip(&line) {
                    (link(&row.place.evidence, &html! { g {
                        title { (text(&format!("{name}: {} at {} {unit}", value(row.kind, &row.unit, row.estimate), number(*at)))) }
                        (mark(form, *px, *py, &format!("fill {class}")))
                    } }))
                }
            }
        };
        let title = format!("{rest}, {}", view.target(base, arch));
        let says = format!("{title}: against {unit}");
        all.push(panel(&title, &chart(WIDTH, HEIGHT, &text(&says), &inside)));
    }
    all
}

/// One candidate's rows in the order of the parameter.
fn by_parameter<'a>(rows: &[(f64, &'a MeasureRow)], name: &str) -> Vec<(f64, &'a MeasureRow)> {
    let mut own: Vec<(f64, &MeasureRow)> =
        rows.iter().copied().filter(|(_, row)| row.place.candidate == name).collect();
    own.sort_by(|a, b| a.0.total_cmp(&b.0));
    own
}

/// Visits in time order: does anything drift?
pub(super) fn drifts(view: &View<'_>) -> Vec<Markup> {
    let mut all = Vec::new();
    for (claim, at, measures, visits) in of_claims(view).into_iter().take(PANELS) {
        let Some(kind) = measures.first().map(|m| m.kind).filter(|_| visits.len() > 1) else {
            continue;
        };
        let orders: Vec<f64> = visits.iter().map(|v| f64::from(v.order)).collect();
        let values: Vec<f64> = visits.iter().map(|v| v.value).collect();
        let x = Scale::linear(&orders, AREA.left, AREA.right);
        let y = Scale::roomy(&values, AREA.bottom, AREA.top);
        let names = candidates(view, |name| visits.iter().any(|v| v.candidate == name));
        let inside = html! {
            (frame(AREA, (&x, "visit, in time order"), (&y, "value"), &Tell { x: &number, y: &tell(kind) }))
            @for name in &names {
                @let (class, _) = look(view, name);
                @let own: Vec<&VisitRow> = visits.iter().copied().filter(|v| v.candidate == *name).collect();
                @let points: Vec<(f64, f64)> = taken(&own).iter().map(|v| (x.at(f64::from(v.order)), y.at(v.value))).collect();
                @let files = measures.iter().find(|m| m.place.candidate == *name);
                (link(files.map(|m| m.place.evidence.as_slice()).unwrap_or_default(), &html! {
                    path class={ "dots " (class) } d=(dots(&points)) { title { (text(name)) } }
                }))
            }
        };
        let title = format!("{claim}, {}", view.target(at.0, at.1));
        let says = format!("{title}: visits in time order");
        all.push(panel(&title, &chart(WIDTH, HEIGHT, &text(&says), &inside)));
    }
    all
}

/// A bar of a chart of bars: what it is, its pieces (class, length, title), evidence.
struct Bar<'a> {
    label: String,
    pieces: Vec<(String, f64, String)>,
    evidence: &'a [String],
}

fn bars(title: &str, bars: &[Bar<'_>], axis: &str, tell: &dyn Fn(f64) -> String) -> Markup {
    let left = 150.0;
    let height = 12.0 + 19.0 * many(bars.len());
    let most =
        bars.iter().map(|bar| bar.pieces.iter().map(|p| p.1).sum::<f64>()).fold(0.0, f64::max);
    let scale = Scale::linear(&[0.0, if most > 0.0 { most } else { 1.0 }], left, 330.0);
    let inside = html! {
        @for tick in scale.ticks(3) {
            line.grid x1=(px(scale.at(tick))) x2=(px(scale.at(tick))) y1="4" y2=(px(height)) {}
            text.tick.mid x=(px(scale.at(tick))) y=(px(height + 14.0)) { (tell(tick)) }
        }
        @for (n, bar) in bars.iter().enumerate() {
            @let y = 8.0 + 19.0 * many(n);
            text.tick.end x=(px(left - 6.0)) y=(px(y + 10.0)) { (short(&bar.label, 24)) }
            (link(bar.evidence, &html! { g {
                @for (at, (class, length, says)) in bar.pieces.iter().enumerate() {
                    @let from: f64 = bar.pieces.iter().take(at).map(|p| p.1).sum();
                    @let (a, b) = (scale.at(from), scale.at(from + length));
                    rect class={ "bar " (class) } x=(px(a)) width=(px((b - a).max(if *length > 0.0 { 1.5 } else { 0.0 }))) y=(px(y)) height="13" {
                        title { (text(says)) }
                    }
                }
            } }))
        }
        text.tick.mid x=(px((left + 330.0) / 2.0)) y=(px(height + 29.0)) { (axis) }
    };
    panel(title, &chart(WIDTH, height + 34.0, &text(title), &inside))
}

/// Wrong answers next to those that the negative control's rate would give.
pub(super) fn wrongs(view: &View<'_>) -> Vec<Markup> {
    let mut all = Vec::new();
    for at in &view.targets {
        let mut rows = Vec::new();
        for candidate in &view.report.run.candidates {
            let own = view.wrong(&candidate.name, *at);
            let Some(first) = own.iter().find(|row| row.answers > 0) else { continue };
            let wrong: u64 = own.iter().map(|row| row.wrong).sum();
            let answers: u64 = own.iter().map(|row| row.answers).sum();
            let expected: f64 = own.iter().filter_map(|row| row.expected).sum();
            let per = |n: f64| 1e6 * n / crate::judge::compare::words::ratio(answers, 1);
            let wrong = crate::judge::compare::words::ratio(wrong, 1);
            let says = |what: &str, n: f64| {
                format!(
                    "{}: {} {what} of {}",
                    candidate.name,
                    number(n.round()),
                    number(crate::judge::compare::words::ratio(answers, 1))
                )
            };
            rows.push(Bar {
                label: candidate.name.clone(),
                pieces: vec![("bad".into(), per(wrong), says("wrong", wrong))],
                evidence: &first.place.evidence,
            });
            if expected > 0.0 {
                rows.push(Bar {
                    label: "expected".into(),
                    pieces: vec![("hollow".into(), per(expected), says("expected", expected))],
                    evidence: &first.place.evidence,
                });
            }
        }
        if !rows.is_empty() {
            let title = format!("wrong answers, {}", view.target(at.0, at.1));
            all.push(bars(&title, &rows, "of a million answers", &number));
        }
    }
    all
}

/// Why calls fail: the part of all calls, by cause.
pub(super) fn causes(view: &View<'_>) -> (Vec<String>, Vec<Markup>) {
    let mut names: Vec<String> = Vec::new();
    let mut all = Vec::new();
    for (claim, at, measures, _) in of_claims(view).into_iter().take(PANELS) {
        let mut rows = Vec::new();
        for candidate in &view.report.run.candidates {
            let own = || measures.iter().filter(|m| m.place.candidate == candidate.name);
            let calls: u64 = own().map(|m| m.calls).sum();
            let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
            for (cause, count) in own().flat_map(|m| &m.causes) {
                *sums.entry(cause).or_default() += count;
            }
            let Some(first) = own().next().filter(|_| calls > 0 && !sums.is_empty()) else {
                continue;
            };
            let mut pieces = Vec::new();
            for (cause, count) in sums {
                super::super::words::add(&mut names, cause.to_owned());
                let form = names.iter().position(|name| name == cause).unwrap_or(0);
                let part = crate::judge::compare::words::ratio(count, calls);
                let says = format!("{}: {cause} {:.2}%", candidate.name, 100.0 * part);
                pieces.push((format!("c{}", form % COLOURS), part, says));
            }
            rows.push(Bar {
                label: candidate.name.clone(),
                pieces,
                evidence: &first.place.evidence,
            });
        }
        if !rows.is_empty() {
            let title = format!("{claim}, {}", view.target(at.0, at.1));
            all.push(bars(&title, &rows, "of all calls", &tell(ValueKind::Share)));
        }
    }
    (names, all)
}

/// Causes with their colours.
pub(super) fn cause_legend(names: &[String]) -> Markup {
    html! { ul.legend {
        @for (at, name) in names.iter().enumerate() {
            @let inside = html! { rect class={ "bar c" (at % COLOURS) } x="1" y="1" width="12" height="12" {} };
            li { (chart(14.0, 14.0, "", &inside)) " " (text(name)) }
        }
    } }
}
