// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a campaign has come to, in numbers.

use std::collections::BTreeMap;

use bakeoff_fuzz::engine::Times;
use serde::{Deserialize, Serialize};

use super::finding::Finding;

/// The line of JSON that `bakeoff fuzz` ends with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Base, candidate, architecture and profile.
    pub cell: String,
    /// Boots.
    pub boots: u32,
    /// Seconds in which programs were run.
    pub seconds: f64,
    /// Programs run, by all workers.
    pub execs: u64,
    /// The same, a second.
    pub execs_per_s: f64,
    /// System calls of programs, a second.
    pub calls_per_s: f64,
    /// Programs a second after the first ten seconds of each boot; 0 if no boot
    /// took longer.
    pub steady_execs_per_s: f64,
    /// The same of system calls.
    pub steady_calls_per_s: f64,
    /// System calls a program.
    pub calls_per_exec: f64,
    /// Share of the programs in which a BPF program ran.
    pub bpf_run_share: f64,
    /// BPF programs loaded a second; others were in the pool already.
    pub loads_per_s: f64,
    /// Distinct addresses.
    pub pcs: u64,
    /// The same, by folder.
    pub pcs_by_dir: BTreeMap<String, u64>,
    /// Distinct addresses in those folders together, by second after power-on.
    pub pcs_at: BTreeMap<u32, u64>,
    /// Programs in the corpus.
    pub corpus: usize,
    /// What was found.
    pub findings: Vec<Finding>,
    /// Patched functions of this kernel, and the second after power-on at which
    /// the first of their addresses was seen; `null`: not reached.
    pub patched_functions_reached: BTreeMap<String, Option<f64>>,
    /// Workers that ended before their time, and why.
    pub lost: BTreeMap<String, u64>,
    /// Leaks, by what grew.
    pub leaks: BTreeMap<String, u64>,
    /// Seconds from power-on to Hello, first boot.
    pub hello_seconds: Option<f64>,
    /// What the guest said last, if no boot brought it up: a result.
    #[serde(default)]
    pub did_not_boot: Option<String>,
    /// Whether what interrupts a program shows in the coverage.
    #[serde(default)]
    pub interrupts: bool,
    /// Points of the kernel's code, in the functions that patches change, at which programs
    /// can have a CPU held up; 0: it cannot be.
    #[serde(default)]
    pub points: usize,
    /// New ways through what patches change and what that calls, by each worker: which basic
    /// block came before, and how often it ran.
    #[serde(default)]
    pub ways: u64,
    /// Where the time went, of workers that came to their end: by operation; in
    /// parentheses what is none.
    pub times: BTreeMap<String, Times>,
}

impl Summary {
    /// The summary for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!(
            "{}: {} programs in {:.0} s and {} boots ({:.0} a second, {:.0} calls a second)\n\
             a BPF program ran in {:.0}% of them; {:.0} were loaded a second\n\
             {} addresses",
            self.cell,
            self.execs,
            self.seconds,
            self.boots,
            self.execs_per_s,
            self.calls_per_s,
            100.0 * self.bpf_run_share,
            self.loads_per_s,
            self.pcs,
        );
        for (folder, count) in &self.pcs_by_dir {
            out.push_str(&format!(", {folder} {count}"));
        }
        out.push_str(&format!("; corpus {}\n", self.corpus));
        out.push_str(if self.interrupts {
            "coverage includes interrupts taken while a program runs; kernel threads and other \
             tasks' interrupts are not covered\n"
        } else {
            "coverage does not include interrupts or kernel threads\n"
        });
        out.push_str(&match self.points {
            0 => "no delays: no points in patched functions\n".to_owned(),
            points => format!("delays at {points} points in patched functions\n"),
        });
        if self.ways > 0 {
            out.push_str(&format!(
                "{} ways through patched functions and what they call\n",
                self.ways
            ));
        }
        for (function, reached) in &self.patched_functions_reached {
            out.push_str(&match reached {
                Some(seconds) => format!("  reached after {seconds:.1} s: {function}\n"),
                None => format!("  not reached: {function}\n"),
            });
        }
        for (why, count) in self.lost.iter().chain(&self.leaks) {
            out.push_str(&format!("  {count} times: {why}\n"));
        }
        if self.findings.is_empty() {
            out.push_str("no findings\n");
        }
        for finding in &self.findings {
            out.push_str(&finding.text());
        }
        out
    }
}
