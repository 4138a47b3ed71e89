// SPDX-License-Identifier: MIT OR Apache-2.0
//! Probes drive one piece of kernel code under one condition and count what it
//! answers. A probe is a file in `probe/` and its row in [`PROBES`].
//!
//! The row declares everything that others need to know: which parameters there are
//! and what they mean as a condition, which metrics come out, in a reader's words and
//! with their unit and direction, why calls are left out, and which counts explain a
//! metric. Plan, estimates, gates, report and `verify` work from the declaration; none
//! of them knows a probe by name.
//!
//! A probe never judges: it counts. Comparing candidates is the host's business.

use crate::failure::Failure;
use crate::wire::{Block, Params, Record, Step, Visit};

pub mod build_id;
pub mod command;
pub mod flip;

/// Every probe there is.
pub const PROBES: &[Probe] = &[build_id::PROBE, flip::PROBE, command::PROBE];

/// A probe, as the plan and the report know it.
#[derive(Debug)]
pub struct Probe {
    /// The word that stands in specs and records.
    pub name: &'static str,
    /// What it answers.
    pub doc: &'static str,
    /// What it can be told.
    pub params: &'static [Param],
    /// What it measures.
    pub metrics: &'static [Metric],
    /// Why a call or an event may not count.
    pub excluded: &'static [Reason],
    /// Counts that explain the metrics.
    pub notes: &'static [Note],
    /// From parameters to the condition that they describe; refuses those that make no
    /// sense.
    pub condition: fn(&Params) -> Result<Condition, Failure>,
    /// What a visit takes if the spec does not say.
    pub size: Size,
    /// Makes one visit: takes the step's blocks and hands each one out as soon as it is
    /// complete.
    pub run: fn(&Visit, &mut Emit<'_>) -> Result<(), Failure>,
}

impl Probe {
    /// The declaration of a metric; one whose name ends with `/` declares all that begin
    /// with it.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<&'static Metric> {
        self.metrics.iter().find(|metric| metric.declares(name))
    }

    /// Whether everything in a block is declared, a share as a share and a number as a
    /// number: nobody else would know what to make of it.
    ///
    /// # Errors
    /// A name that is not.
    pub fn check(&self, block: &Block) -> Result<(), Failure> {
        let metric = |name: &String, kind| self.metric(name).is_some_and(|m| m.kind == kind);
        let reason = |name: &str| {
            self.excluded.iter().any(|reason| match reason.name.ends_with('/') {
                true => name.starts_with(reason.name),
                false => reason.name == name,
            })
        };
        let note = |name: &str| self.notes.iter().any(|note| note.name == name);
        let (shares, values) = (MetricKind::Share, MetricKind::Value);
        let undeclared = [
            ("share", block.shares.keys().find(|name| !metric(name, shares))),
            ("value", block.values.keys().find(|name| !metric(name, values))),
            ("reason", block.excluded.keys().find(|name| !reason(name))),
            ("note", block.notes.keys().find(|name| !note(name))),
        ];
        match undeclared.into_iter().find_map(|(kind, name)| name.map(|name| (kind, name))) {
            None => Ok(()),
            Some((kind, name)) => Err(Failure::new(format!(
                "probe {} counted a {kind} {name:?} that it does not declare",
                self.name
            ))),
        }
    }
}

/// Takes a finished block, or another record that is a visit's to send
/// ([`Record::Output`]).
pub type Emit<'a> = dyn FnMut(Record) -> Result<(), Failure> + 'a;

/// What a visit takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Blocks.
    pub blocks: u32,
    /// Calls in a block.
    pub calls_per_block: u32,
    /// Milliseconds after which a block ends with what it has.
    pub block_ms: u32,
}

/// A parameter.
#[derive(Debug)]
pub struct Param {
    /// The key in the spec and in [`Step::params`].
    pub name: &'static str,
    /// What it sets, with its unit and its default.
    pub means: &'static str,
    /// The words or numbers it takes, for people.
    pub takes: &'static str,
    /// The spec may give a list: one condition for each value.
    pub sweeps: bool,
}

/// What parameters come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Condition {
    /// Names it within its probe: `hardirq/idle/500us`. Selections match leading parts.
    pub label: String,
    /// In a reader's words: `timer interrupt, every 500 us`.
    pub words: String,
    /// The numbers among its parameters, for charts and tables.
    pub axes: Vec<Axis>,
    /// What the host has to do meanwhile.
    pub host: Option<HostTask>,
    /// Metrics of the probe's that do not come out with these parameters.
    pub without: Vec<&'static str>,
    /// Metrics that the parameters declare, in place of a [`Metric`] whose name ends
    /// with `/`.
    pub metrics: Vec<OwnMetric>,
    /// Milliseconds that a block needs, where the parameters say so: it goes before
    /// [`Size::block_ms`].
    pub block_ms: Option<u32>,
}

/// A metric that a spec declares, not the probe.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnMetric {
    /// Its whole name in records, `command.metric/latency`.
    pub name: String,
    /// In what it is told: `ns`.
    pub unit: String,
    /// Which way is good; `None`: it is shown, and nobody is judged by it.
    pub better: Better,
    /// Differences below it do not matter, as a part of the reference.
    pub margin: f64,
}

/// A numeric parameter of a condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// Its name, in words: `period`.
    pub name: &'static str,
    /// Its unit: `us`, `%`.
    pub unit: &'static str,
    /// Its value.
    pub value: f64,
    /// The words of the condition without it; conditions that share them are one line of
    /// a chart.
    pub rest: String,
    /// The metric that tells what it really was, where that is measured.
    pub measured_by: Option<&'static str>,
}

/// What the host does while a visit lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostTask {
    /// Injects an NMI every so many microseconds, where the architecture's NMIs come from
    /// the host.
    InjectNmi {
        /// Microseconds between two.
        period_us: u32,
    },
}

/// What is measured.
#[derive(Debug, PartialEq)]
pub struct Metric {
    /// Its name in records, with the probe's first: `build_id.top_frame`. One that ends
    /// with `/` declares all names that begin with it (`command.test/`).
    pub name: &'static str,
    /// In a reader's words: `right build ids, innermost frame`.
    pub means: &'static str,
    /// What it counts or in what it is told: `calls`, `ns`.
    pub unit: &'static str,
    /// A share or a number.
    pub kind: MetricKind,
    /// Which way is good.
    pub better: Better,
    /// Differences below it do not matter to anybody, unless the spec says otherwise: of
    /// a share in points (0.02 is two), of a number as a part of the reference (0.05).
    pub margin: f64,
    /// What is made of it.
    pub role: MetricRole,
}

impl Metric {
    /// Whether this declares a name.
    #[must_use]
    pub fn declares(&self, name: &str) -> bool {
        if self.name.ends_with('/') { name.starts_with(self.name) } else { self.name == name }
    }
}

/// A share or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Right ones out of all: in [`Block::shares`].
    Share,
    /// In [`Block::values`].
    Value,
}

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
    /// Neither.
    None,
}

/// What is made of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricRole {
    /// Candidates are judged by it: a spec without claims gets one for it.
    Claim,
    /// It is shown.
    Shown,
    /// Whatever of it is not right is a wrong answer: a finding by itself. A zero counts
    /// only where a negative control would have shown some.
    NeverWrong,
    /// It says what a condition really was; metrics are compared at the same one.
    Condition,
}

/// Why a call or an event does not count.
#[derive(Debug)]
pub struct Reason {
    /// Its name in [`Block::excluded`]; one that ends with `/` declares all that begin with
    /// it (`errno/`).
    pub name: &'static str,
    /// In words.
    pub means: &'static str,
    /// It would have counted, had it been seen: bounds take it as right once and as wrong
    /// once.
    pub missing: bool,
}

/// A count that explains a metric.
#[derive(Debug)]
pub struct Note {
    /// Its name in [`Block::notes`].
    pub name: &'static str,
    /// In words.
    pub means: &'static str,
    /// The metric whose failures it explains; `None`: it just tells something.
    pub explains: Option<&'static str>,
}

/// The row of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Probe> {
    PROBES.iter().find(|probe| probe.name == name)
}

/// Whether a step makes sense; the host asks before it sends one.
///
/// # Errors
/// An unknown probe, parameters that it refuses, a size that is none.
pub fn check(step: &Step) -> Result<(&'static Probe, Condition), Failure> {
    let probe = find(&step.probe).ok_or_else(|| {
        let known: Vec<_> = PROBES.iter().map(|probe| probe.name).collect();
        Failure::new(format!("no probe {:?}; there are: {}", step.probe, known.join(", ")))
    })?;
    for (what, value, most) in [
        ("blocks", step.blocks, 1_000_000),
        ("calls-per-block", step.calls_per_block, 1_000_000),
        ("block-ms", step.block_ms, 3_600_000),
    ] {
        if value == 0 || value > most {
            let why = format!("{what} is {value}, not between 1 and {most}");
            return Err(Failure::new(why).about(what));
        }
    }
    Ok((probe, (probe.condition)(&step.params)?))
}

/// Reads parameters as a probe's own type, whose fields are its table.
///
/// # Errors
/// A parameter that it does not have, or a value that it does not take.
pub(crate) fn read<T: serde::de::DeserializeOwned>(params: &Params) -> Result<T, Failure> {
    let object = params.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    serde_path_to_error::deserialize(serde_json::Value::Object(object)).map_err(|error| {
        let about = error.path().to_string();
        let failure = Failure::new(error.into_inner());
        // A dot is the whole, where what is missing would be.
        if about == "." { failure } else { failure.about(about) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names are unique, and whatever is shown to people has words.
    #[test]
    fn every_row_is_complete() {
        for (index, probe) in PROBES.iter().enumerate() {
            assert!(PROBES[..index].iter().all(|other| other.name != probe.name));
            assert!(!probe.doc.is_empty() && !probe.metrics.is_empty());
            for metric in probe.metrics {
                assert!(metric.name.starts_with(&format!("{}.", probe.name)), "{}", metric.name);
                assert!(!metric.means.is_empty() && !metric.unit.is_empty(), "{}", metric.name);
                let judged = metric.role == MetricRole::Claim;
                assert!(!judged || metric.margin > 0.0, "{}: a claim without margin", metric.name);
                assert!(!judged || metric.better != Better::None, "{}", metric.name);
            }
            for param in probe.params {
                assert!(!param.means.is_empty() && !param.takes.is_empty(), "{}", param.name);
            }
            for note in probe.notes {
                assert!(note.explains.is_none_or(|name| probe.metric(name).is_some()));
            }
        }
    }

    /// A block may hold what its probe declares and nothing else.
    #[test]
    fn blocks_hold_what_is_declared() {
        let probe = find("build_id").unwrap();
        let block = |fill: fn(&mut Block)| {
            let mut block = Block::default();
            fill(&mut block);
            probe.check(&block).map_err(|why| why.to_string())
        };
        let good = block(|block| {
            block.share("build_id.top_frame", 2, 1);
            block.value("build_id.call_ns", 5.0);
            block.exclude("errno/EFAULT", 1);
            block.exclude("missed", 1);
            block.note("slot_busy", 0);
        });
        assert_eq!(good, Ok(()));
        for (fill, named) in [
            ((|block| block.share("build_id.call_ns", 1, 1)) as fn(&mut Block), "call_ns"),
            (|block| block.value("build_id.top_frame", 1.0), "top_frame"),
            (|block| block.exclude("missed/EFAULT", 1), "missed/EFAULT"),
            (|block| block.note("flips", 1), "flips"),
        ] {
            assert!(block(fill).unwrap_err().contains(named), "{named}");
        }
    }

    /// What the guest does not know fails by name, with the words it knows.
    #[test]
    fn unknown_words_are_named() {
        let step = |probe: &str, blocks| Step {
            id: 1,
            probe: probe.to_owned(),
            params: Params::from([("context".to_owned(), "process".into())]),
            blocks,
            calls_per_block: 1,
            block_ms: 1,
        };
        let reason = check(&step("build-id", 1)).unwrap_err().to_string();
        assert!(reason.contains("\"build-id\"") && reason.contains("build_id"), "{reason}");
        let reason = check(&step("build_id", 0)).unwrap_err().to_string();
        assert_eq!(reason, "blocks is 0, not between 1 and 1000000");
        let mut unknown = step("build_id", 1);
        unknown.params.insert("perod-us".to_owned(), 5.into());
        let reason = check(&unknown).unwrap_err().to_string();
        assert!(reason.contains("perod-us"), "{reason}");
        assert_eq!(check(&step("build_id", 1)).unwrap().1.label, "process/idle");
    }
}
