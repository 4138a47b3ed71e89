// SPDX-License-Identifier: MIT OR Apache-2.0
//! Claims: the handful of questions that candidates are judged by.
//!
//! A spec that states none gets one for each metric that a probe declares as judged,
//! over all conditions in which it is measured, with the metric's own margin. So a first
//! bake-off settles something too.

use std::time::Duration;

use bakeoff_fuzz::probe::{self, Metric, MetricKind, MetricRole, OwnMetric};
use bakeoff_fuzz::wire::Step;
use serde::{Deserialize, Serialize};

use super::Probe;
use super::plan::{PRODUCTION, selects};
use super::raw::RawClaim;
use crate::base::words::did_you_mean;
use crate::base::yaml::{Path, Wrong};

/// A question that candidates are judged by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Its name, short enough for the head of a column.
    pub name: String,
    /// What it asks, in a reader's words.
    pub question: String,
    /// The metric; every name that it declares, if it ends with `/`.
    pub metric: String,
    /// Losses below it do not count: of a share in points (0.02 is two), of a number as a
    /// part of the reference's (0.05).
    pub margin: f64,
    /// Labels of its conditions.
    pub conditions: Vec<String>,
    /// Nobody stated it: it is the probe's own.
    pub by_default: bool,
}

/// What a written claim means, given what is measured.
pub(super) fn resolve(raw: RawClaim, probes: &[Probe]) -> Result<Claim, Wrong> {
    let RawClaim { claim, question, metric, conditions, margin } = raw;
    let at = |key: &str, why: String| Wrong::value(&Path::top().key(key), why);
    if claim.is_empty() || claim.len() > 24 || claim.contains(char::is_whitespace) {
        let why = format!("`{claim}` is not a name for a claim: one word of at most 24 letters");
        return Err(at("claim", why));
    }
    if question.trim().is_empty() {
        return Err(at("question", format!("the claim `{claim}` asks nothing")));
    }
    let declared = declared(&metric).ok_or_else(|| {
        let known = probe::PROBES.iter().flat_map(|probe| probe.metrics).map(|m| m.name);
        at("metric", format!("no metric `{metric}`; {}", did_you_mean(&metric, known)))
    })?;
    let own = probes.iter().find_map(|p| own_metric(&p.step, &metric));
    let better = own.as_ref().map_or(declared.better, |own| own.better);
    if better == probe::Better::None {
        return Err(at("metric", format!("of `{metric}` neither more nor less is better")));
    }
    let margin = match margin {
        None => own.map_or(declared.margin, |own| own.margin),
        Some(text) => parse_margin(&text, declared.kind).map_err(|why| at("margin", why))?,
    };
    let mut found: Vec<String> = Vec::new();
    for (index, written) in conditions.iter().enumerate() {
        let measured = || probes.iter().filter(|p| measures(p, &metric));
        // A whole label means that condition, a leading part all below it.
        let exact = measured().any(|p| p.label == *written);
        let is = |p: &&Probe| if exact { p.label == *written } else { selects(written, &p.label) };
        let here: Vec<&str> = measured().filter(is).map(|p| p.label.as_str()).collect();
        if here.is_empty() {
            let known = probes.iter().filter(|p| measures(p, &metric)).map(|p| p.label.as_str());
            let why = format!(
                "no probe measures `{metric}` in `{written}`; {}",
                did_you_mean(written, known)
            );
            return Err(Wrong::value(&Path::top().key("conditions").index(index), why));
        }
        for label in here {
            if !found.iter().any(|known| known == label) {
                found.push(label.to_owned());
            }
        }
    }
    if found.is_empty() {
        return Err(at("conditions", format!("the claim `{claim}` has no condition")));
    }
    Ok(Claim { name: claim, question, metric, margin, conditions: found, by_default: false })
}

/// The claims of a spec that states none.
pub(super) fn by_default(probes: &[Probe], profiles: &[String]) -> Vec<Claim> {
    let production = profiles.iter().any(|profile| profile == PRODUCTION);
    let judged = |p: &&Probe| {
        !production || p.profiles.is_empty() || p.profiles.iter().any(|name| name == PRODUCTION)
    };
    let mut claims = Vec::new();
    for row in probe::PROBES {
        for metric in row.metrics.iter().filter(|m| m.role == MetricRole::Claim) {
            let conditions: Vec<String> = probes
                .iter()
                .filter(|p| p.step.probe == row.name)
                .filter(judged)
                .filter(|p| measures(p, metric.name))
                .map(|p| p.label.clone())
                .collect();
            if conditions.is_empty() {
                continue;
            }
            let (_, short) = metric.name.split_once('.').unwrap_or(("", metric.name));
            claims.push(Claim {
                name: short.trim_end_matches('/').to_owned(),
                question: format!("Is anything lost of: {}?", metric.means),
                metric: metric.name.to_owned(),
                margin: metric.margin,
                conditions,
                by_default: true,
            });
        }
    }
    for own in own_metrics(probes).filter(|own| own.better != probe::Better::None) {
        let conditions: Vec<String> = probes
            .iter()
            .filter(judged)
            .filter(|p| own_metric(&p.step, &own.name).is_some())
            .map(|p| p.label.clone())
            .collect();
        let name = own.name.rsplit('/').next().unwrap_or_default().to_owned();
        if conditions.is_empty() || claims.iter().any(|claim| claim.metric == own.name) {
            continue;
        }
        claims.push(Claim {
            question: format!("Is anything lost of: {name}?"),
            name,
            metric: own.name,
            margin: own.margin,
            conditions,
            by_default: true,
        });
    }
    claims
}

fn own_metrics(probes: &[Probe]) -> impl Iterator<Item = OwnMetric> {
    let conditions = probes.iter().filter_map(|p| probe::check(&p.step).ok());
    conditions.flat_map(|(_, condition)| condition.metrics)
}

/// A metric that the step's own parameters declare.
pub fn own_metric(step: &Step, metric: &str) -> Option<OwnMetric> {
    let (_, condition) = probe::check(step).ok()?;
    condition.metrics.into_iter().find(|own| own.name == metric)
}

fn measures(probe: &Probe, metric: &str) -> bool {
    probe::check(&probe.step).is_ok_and(|(row, condition)| {
        let declared = row.metric(metric);
        declared.is_some_and(|metric| !condition.without.contains(&metric.name))
    })
}

/// The declaration of a metric.
pub fn declared(metric: &str) -> Option<&'static Metric> {
    probe::PROBES.iter().find_map(|row| row.metric(metric))
}

/// `2 points` (of a share), `5 %` (of a number).
fn parse_margin(text: &str, kind: MetricKind) -> Result<f64, String> {
    let (unit, wanted) = match kind {
        MetricKind::Share => (["points", "point"], "a share has a margin in points, as `2 points`"),
        MetricKind::Value => {
            (["%", "percent"], "a number has a margin in percent of the reference, as `5 %`")
        }
    };
    let number = unit.iter().find_map(|unit| text.trim().strip_suffix(unit));
    let number: f64 = number
        .and_then(|n| n.trim().parse().ok())
        .ok_or_else(|| format!("`{text}` is not a margin: {wanted}"))?;
    if number > 0.0 && number < 100.0 {
        return Ok(number / 100.0);
    }
    Err(format!("a margin of {number} settles nothing: give one above 0 and below 100"))
}

/// A margin as people write it.
#[must_use]
pub fn margin_words(margin: f64, kind: MetricKind) -> String {
    let number = (margin * 1e4).round() / 100.0;
    match kind {
        MetricKind::Share if (number - 1.0).abs() < 1e-9 => "1 point".into(),
        MetricKind::Share => format!("{number} points"),
        MetricKind::Value => format!("{number} %"),
    }
}

/// `20 min`, `90s`, `1h 30min`.
pub(super) fn parse_budget(text: &str) -> Result<Duration, String> {
    let joined: String = text.split_whitespace().collect();
    let budget = humantime::parse_duration(&joined)
        .map_err(|why| format!("`{text}` is not a time ({why}): write it as `20 min`"))?;
    if budget < Duration::from_secs(60) {
        return Err(format!("a budget of {text} is too short for one boot of each kernel"));
    }
    Ok(budget)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Margins have the unit of their metric, and nothing else passes for one.
    #[test]
    fn margins_have_their_unit() {
        assert_eq!(parse_margin("2 points", MetricKind::Share), Ok(0.02));
        assert_eq!(parse_margin("0.5points", MetricKind::Share), Ok(0.005));
        assert_eq!(parse_margin("5 %", MetricKind::Value), Ok(0.05));
        for bad in ["2", "2 %", "-1 points", "0 points", "points", "100 points", "nan points"] {
            assert!(parse_margin(bad, MetricKind::Share).is_err(), "{bad}");
        }
        assert!(parse_margin("2 points", MetricKind::Value).is_err());
        assert_eq!(margin_words(0.005, MetricKind::Share), "0.5 points");
        assert_eq!(margin_words(0.01, MetricKind::Share), "1 point");
        assert_eq!(margin_words(0.05, MetricKind::Value), "5 %");
    }

    /// A budget is a time with a unit, long enough for something to be done in it.
    #[test]
    fn budgets_are_times() {
        assert_eq!(parse_budget("20 min"), Ok(Duration::from_secs(1200)));
        assert_eq!(parse_budget("1h 30min"), Ok(Duration::from_secs(5400)));
        for bad in ["20", "min", "", "30s"] {
            assert!(parse_budget(bad).is_err(), "{bad}");
        }
    }
}
