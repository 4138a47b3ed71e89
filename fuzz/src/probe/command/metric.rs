// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines `metric NAME VALUE UNIT`: numbers that a workload measures itself.
//!
//! The spec declares each metric with its unit and direction, so a line that names
//! another metric or another unit is a mistake and not a number. Inside TAP such a line
//! may stand behind `# `, as a diagnostic line; there, one that names no declared metric
//! is just a sentence.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::failure::Failure;
use crate::probe::{Better, OwnMetric};
use crate::wire::Summary;

/// The first part of the metrics' names.
const PREFIX: &str = "command.metric/";
/// Metrics that a step may declare.
const MOST: usize = 100;
/// Characters of a faulty line that are quoted.
const QUOTED: usize = 120;

/// A metric as the spec declares it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Declared {
    /// The word in the line.
    pub name: String,
    /// Its unit, as it stands in the line: `ns`, `MB/s`.
    pub unit: String,
    /// Which way is good.
    pub better: Way,
    /// Differences below this part of the reference do not matter.
    #[serde(default = "five_percent")]
    pub margin: f64,
}

fn five_percent() -> f64 {
    0.05
}

/// [`Better`], as it is spelt in a spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Way {
    Higher,
    Lower,
    None,
}

/// Refuses declarations that no line could meet.
pub(super) fn check(declared: &[Declared]) -> Result<(), Failure> {
    if declared.len() > MOST {
        let why = format!("`metrics` declares more than {MOST}");
        return Err(Failure::new(why).about("metrics"));
    }
    for (index, metric) in declared.iter().enumerate() {
        let Declared { name, unit, better: _, margin } = metric;
        let no = |key: &str, why: String| {
            Err(Failure::new(why).about(format!("metrics[{index}].{key}")))
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if name.is_empty() || name.len() > 60 || !name.chars().all(plain) {
            let letters = "letters, digits, `_`, `.` and `-`";
            return no("name", format!("the metric's name {name:?} is not made of {letters}"));
        }
        if unit.is_empty() || unit.len() > 20 || unit.contains(char::is_whitespace) {
            return no("unit", format!("the metric `{name}` needs a unit of one word"));
        }
        if !(*margin > 0.0 && *margin < 10.0) {
            let why = format!(
                "the margin of the metric `{name}` is {margin}: give a part of the reference, \
                 such as 0.05"
            );
            return no("margin", why);
        }
        if declared[..index].iter().any(|other| other.name == *name) {
            return no("name", format!("the metric `{name}` is declared twice"));
        }
    }
    Ok(())
}

/// As the host is told.
pub(super) fn own(declared: &[Declared]) -> Vec<OwnMetric> {
    let own = |metric: &Declared| OwnMetric {
        name: full_name(&metric.name),
        unit: metric.unit.clone(),
        better: match metric.better {
            Way::Higher => Better::Higher,
            Way::Lower => Better::Lower,
            Way::None => Better::None,
        },
        margin: metric.margin,
    };
    declared.iter().map(own).collect()
}

fn full_name(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// Reads the metric lines of one run.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    declared: &'a [Declared],
    values: BTreeMap<String, Summary>,
    /// The first line that made no sense.
    nonsense: Option<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(declared: &'a [Declared]) -> Self {
        Reader { declared, values: BTreeMap::new(), nonsense: None }
    }

    /// One line, without its end.
    pub(super) fn line(&mut self, line: &str) {
        let bare = line.trim_start();
        let quoted = bare.starts_with("# ");
        let mut words = bare.trim_start_matches("# ").split_whitespace();
        if words.next() != Some("metric") {
            return;
        }
        let words: Vec<&str> = words.collect();
        let name = words.first().copied().unwrap_or_default();
        let declared = self.declared.iter().find(|metric| metric.name == name);
        if quoted && declared.is_none() {
            return;
        }
        match value(&words, declared) {
            Ok((name, value)) => {
                self.values.entry(name).or_default().add(&Summary::of(value));
            }
            Err(why) => {
                let line: String = line.trim().chars().take(QUOTED).collect();
                self.nonsense.get_or_insert_with(|| format!("{line:?}: {why}"));
            }
        }
    }

    /// The values by their whole names, and the declared metrics that have none.
    ///
    /// # Errors
    /// A line that made no sense.
    pub(super) fn finish(self) -> Result<(BTreeMap<String, Summary>, Vec<&'a str>), Failure> {
        if let Some(nonsense) = self.nonsense {
            return Err(Failure::new(format!("the command printed a metric line {nonsense}")));
        }
        let names = self.declared.iter().map(|metric| metric.name.as_str());
        let without = names.filter(|name| !self.values.contains_key(&full_name(name))).collect();
        Ok((self.values, without))
    }
}

fn value(words: &[&str], declared: Option<&Declared>) -> Result<(String, f64), String> {
    let [name, number, unit] = words else {
        return Err("it has to read `metric NAME VALUE UNIT`".to_owned());
    };
    let declared =
        declared.ok_or_else(|| format!("the spec declares no metric `{name}` (`metrics:`)"))?;
    if *unit != declared.unit {
        return Err(format!("the spec declares `{name}` in {}", declared.unit));
    }
    match number.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok((full_name(name), value)),
        _ => Err(format!("{number:?} is not a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared() -> Vec<Declared> {
        let metric = |name: &str, unit: &str| Declared {
            name: name.to_owned(),
            unit: unit.to_owned(),
            better: Way::Lower,
            margin: 0.05,
        };
        vec![metric("latency", "ns"), metric("rate", "MB/s")]
    }

    fn read(lines: &[&str]) -> Result<(BTreeMap<String, Summary>, Vec<String>), String> {
        let declared = declared();
        let mut reader = Reader::new(&declared);
        lines.iter().for_each(|line| reader.line(line));
        let (values, without) = reader.finish().map_err(|failure| failure.to_string())?;
        Ok((values, without.into_iter().map(str::to_owned).collect()))
    }

    /// Several lines of one metric are summed up, what has no line is named, and
    /// diagnostic lines of TAP may carry them.
    #[test]
    fn values_are_summed_up() {
        let lines = ["metric latency 10 ns", "other words", "  # metric latency 2e1 ns"];
        let (values, without) = read(&lines).unwrap();
        let latency = values["command.metric/latency"];
        assert_eq!((latency.n, latency.mean, latency.min, latency.max), (2, 15.0, 10.0, 20.0));
        assert_eq!(without, ["rate"]);
    }

    /// A sentence about metrics in a diagnostic line is no mistake.
    #[test]
    fn sentences_are_no_metrics() {
        let (values, _) = read(&["# metric units are used here", "metrics follow"]).unwrap();
        assert!(values.is_empty());
    }

    /// Each line of nonsense is quoted, with what is wrong with it.
    #[test]
    fn nonsense_is_quoted() {
        for (line, why) in [
            ("metric", "it has to read"),
            ("metric latency", "it has to read"),
            ("metric latency 5", "it has to read"),
            ("metric latency 5 ns more", "it has to read"),
            ("metric latency five ns", "\"five\" is not a number"),
            ("metric latency NaN ns", "\"NaN\" is not a number"),
            ("metric latency inf ns", "\"inf\" is not a number"),
            ("metric latency 5 us", "the spec declares `latency` in ns"),
            ("metric speed 5 ns", "the spec declares no metric `speed`"),
            ("# metric rate x MB/s", "\"x\" is not a number"),
        ] {
            let error = read(&["metric latency 1 ns", line, "metric also wrong"]).unwrap_err();
            assert!(error.contains(&format!("{line:?}")) && error.contains(why), "{error}");
        }
    }

    /// What no line could meet is refused before anything runs.
    #[test]
    fn bad_declarations_are_refused() {
        let refused = |change: fn(&mut Declared)| {
            let mut metrics = declared();
            change(&mut metrics[1]);
            check(&metrics).unwrap_err().to_string()
        };
        assert!(check(&declared()).is_ok());
        assert!(refused(|metric| metric.name = "two words".into()).contains("two words"));
        assert!(refused(|metric| metric.name = "latency".into()).contains("declared twice"));
        assert!(refused(|metric| metric.unit = String::new()).contains("unit"));
        assert!(refused(|metric| metric.margin = f64::NAN).contains("margin"));
        assert!(refused(|metric| metric.margin = 0.0).contains("margin"));
    }
}
