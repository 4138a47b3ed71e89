// SPDX-License-Identifier: MIT OR Apache-2.0
//! Probes drive one piece of kernel code in one context and count what it
//! answers. A probe is a file in `probe/` and its row in [`PROBES`].
//!
//! A probe never judges: it counts, and says from inside which context it was
//! in. Comparing candidates is the host's business.

use std::fmt;

use crate::wire::{Block, Context, Step, Stress};

pub mod build_id;
pub mod flip;

/// A probe, as the plan and the report name it.
#[derive(Debug)]
pub struct Probe {
    /// The word that stands in specs and records.
    pub name: &'static str,
    /// What it answers.
    pub doc: &'static str,
    /// Names of the rates it yields.
    pub metrics: &'static [&'static str],
    /// The contexts it knows.
    pub contexts: &'static [Reach],
    /// What else may go on meanwhile.
    pub stresses: &'static [Stress],
    /// Says why a step makes no sense, though each of its words is known.
    pub refuse: fn(&Step) -> Result<(), Failure>,
    /// Takes the step's blocks and hands each one out as soon as it is complete.
    pub run: fn(&Step, &mut Emit<'_>) -> Result<(), Failure>,
}

/// Takes a finished block and says whether another one is wanted.
pub type Emit<'a> = dyn FnMut(Block) -> Result<Next, Failure> + 'a;

/// What a probe does after a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Takes the next one, if the step has one.
    Another,
    /// Ends the step: what was asked is known.
    Enough,
}

/// How a context is reached, or why it is not.
#[derive(Debug)]
pub struct Reach {
    /// The context.
    pub context: Context,
    /// What takes the samples.
    pub trigger: &'static str,
    /// The shortest period it takes, in microseconds; `None` where each event
    /// is sampled and a period is merely possible.
    pub shortest_period_us: Option<u32>,
    /// Why x86_64 cannot reach it.
    pub not_on_x86_64: Option<&'static str>,
    /// Why arm64 cannot reach it.
    pub not_on_arm64: Option<&'static str>,
}

impl Reach {
    /// Why this guest cannot reach the context.
    #[must_use]
    pub fn unreachable_here(&self) -> Option<&'static str> {
        if cfg!(target_arch = "aarch64") { self.not_on_arm64 } else { self.not_on_x86_64 }
    }
}

/// Every probe there is.
pub const PROBES: &[Probe] = &[build_id::PROBE, flip::PROBE];

/// The row of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Probe> {
    PROBES.iter().find(|probe| probe.name == name)
}

/// Why a step failed: our error, never the candidate's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    reason: String,
    unreachable: bool,
}

impl Failure {
    /// A failure in its own words.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), unreachable: false }
    }

    /// Not a failure: this very kernel cannot do what the step asks for.
    pub fn unreachable(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), unreachable: true }
    }

    /// Whether it is a fact about the kernel.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        self.unreachable
    }

    /// A failure of some work: "failed to …: errno".
    pub fn at(work: impl fmt::Display, error: &dyn std::error::Error) -> Self {
        Self { reason: format!("{work}: {error}"), unreachable: false }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Failure {}

/// What is to be done about a step.
#[derive(Debug)]
pub enum Order {
    /// Run it.
    Run(&'static Probe),
    /// This guest cannot reach the context: a fact for the report.
    Unreachable(&'static str),
}

/// A word as it stands in specs and records.
fn word(of: impl serde::Serialize) -> String {
    match serde_json::to_value(of) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}

/// Decides what a step asks for, without doing any of it.
pub fn order(step: &Step) -> Result<Order, Failure> {
    let (probe, reach) = check(step)?;
    if let Some(reason) = reach.unreachable_here() {
        return Ok(Order::Unreachable(reason));
    }
    Ok(Order::Run(probe))
}

/// Whether a step makes sense on any architecture; the host asks before it
/// sends one.
pub fn check(step: &Step) -> Result<(&'static Probe, &'static Reach), Failure> {
    let probe = find(&step.probe).ok_or_else(|| {
        Failure::new(format!(
            "no probe {:?}; there are: {}",
            step.probe,
            list(PROBES.iter().map(|probe| probe.name.to_owned()))
        ))
    })?;
    let reach = probe.contexts.iter().find(|reach| reach.context == step.context);
    let reach = reach.ok_or_else(|| {
        Failure::new(format!(
            "probe {} knows no context {}; it knows: {}",
            probe.name,
            word(step.context),
            list(probe.contexts.iter().map(|reach| word(reach.context)))
        ))
    })?;
    if !probe.stresses.contains(&step.stress) {
        return Err(Failure::new(format!(
            "probe {} knows no stress {}; it knows: {}",
            probe.name,
            word(step.stress),
            list(probe.stresses.iter().map(|stress| word(*stress)))
        )));
    }
    match (reach.shortest_period_us, step.period_us) {
        (Some(shortest), None) => {
            return Err(Failure::new(format!(
                "context {} needs a period, {shortest} µs or more",
                word(step.context)
            )));
        }
        (Some(shortest), Some(period)) if period < shortest => {
            return Err(Failure::new(format!("period_us is {period}, less than {shortest}")));
        }
        _ => {}
    }
    for (what, value, most) in [
        ("blocks", Some(step.blocks), 1_000_000),
        ("calls_per_block", Some(step.calls_per_block), 1_000_000),
        ("block_ms", Some(step.block_ms), 3_600_000),
        ("period_us", step.period_us, 10_000_000),
    ] {
        if value.is_some_and(|value| value == 0 || value > most) {
            let value = value.unwrap_or_default();
            return Err(Failure::new(format!("{what} is {value}, not between 1 and {most}")));
        }
    }
    (probe.refuse)(step)?;
    Ok((probe, reach))
}

fn list(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Interface, Stack, Stop};

    fn step() -> Step {
        Step {
            id: 1,
            probe: "build_id".to_owned(),
            context: Context::Process,
            stress: Stress::Idle,
            period_us: None,
            blocks: 1,
            calls_per_block: 1,
            block_ms: 1,
            interface: Interface::default(),
            stack: Stack::default(),
            writer_duty: None,
            stop: Stop::default(),
        }
    }

    /// Names are unique, and every context says how it is reached or why not.
    #[test]
    fn every_row_is_complete() {
        for (index, probe) in PROBES.iter().enumerate() {
            assert!(PROBES[..index].iter().all(|other| other.name != probe.name));
            assert!(!probe.doc.is_empty() && !probe.metrics.is_empty());
            for (index, reach) in probe.contexts.iter().enumerate() {
                assert!(probe.contexts[..index].iter().all(|other| other.context != reach.context));
                assert!(!reach.trigger.is_empty());
            }
        }
    }

    /// A good step is run.
    #[test]
    fn a_known_probe_is_run() {
        assert!(matches!(order(&step()), Ok(Order::Run(probe)) if probe.name == "build_id"));
    }

    /// What the guest does not know fails by name, with the words it knows.
    #[test]
    fn unknown_words_are_named() {
        let mut bad = step();
        bad.probe = "build-id".to_owned();
        let reason = order(&bad).unwrap_err().to_string();
        assert!(reason.contains("\"build-id\"") && reason.contains("build_id"));
        let mut bad = step();
        bad.stress = Stress::Flip;
        assert!(order(&bad).unwrap_err().to_string().contains("flip"));
        let mut bad = step();
        bad.period_us = Some(0);
        assert_eq!(
            order(&bad).unwrap_err().to_string(),
            "period_us is 0, not between 1 and 10000000"
        );
        let mut bad = step();
        bad.calls_per_block = 0;
        assert_eq!(
            order(&bad).unwrap_err().to_string(),
            "calls_per_block is 0, not between 1 and 1000000"
        );
    }
}
