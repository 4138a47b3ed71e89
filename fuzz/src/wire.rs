// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words guest and host exchange, and nothing else.
//!
//! The host puts one [`Workload`] into the initramfs. The agent answers with a
//! stream of [`Record`]s, one JSON object per line, on the virtio-serial port
//! [`RECORDS_PORT`]: exactly one [`Hello`] first, exactly one [`End`] last.
//! A boot without an `End` did not end well, whatever QEMU's exit code says.
//!
//! The words know no probe. What a probe takes is a map of parameters that its own
//! table checks; what it counts are shares, values and notes under names that it
//! declares ([`probe`](crate::probe)).
//!
//! The unit of statistics is the *visit*: a step is begun, takes about a hundred calls
//! or runs a command once, and ends. Visits of all steps come in random order.
//!
//! Both sides check [`VERSION`] and [`Hello::source_hash`]: a guest binary that
//! does not fit the host is the host's error and never counts for or against
//! a patch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Version of everything in this module; a change of meaning raises it.
pub const VERSION: u32 = 3;

/// Name of the virtio-serial port that carries the records.
pub const RECORDS_PORT: &str = "bakeoff.records";

/// Where the agent finds its [`Workload`] inside the initramfs.
pub const WORKLOAD_PATH: &str = "/bakeoff/workload.json";

/// Milliseconds beyond its [`Step::block_ms`] after which the agent gives up a
/// visit that sends nothing. The host waits longer, so that a probe that hangs is
/// a failed visit and only a guest that hangs is a hung one.
pub const STEP_SILENCE_MS: u32 = 30_000;

/// Parameters of a step, as its probe's own table knows them.
pub type Params = BTreeMap<String, serde_json::Value>;

/// What one boot is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// [`VERSION`] of the host.
    pub wire: u32,
    /// The boot's name in the run directory; comes back in [`Hello::boot`].
    pub boot: String,
    /// Seed of everything random in this boot.
    pub seed: u64,
    /// What there is to do.
    pub steps: Vec<Step>,
    /// [`Step::id`] of each visit, in the order in which they are made. The place in
    /// this list is the visit's number.
    pub visits: Vec<u32>,
}

/// One probe under one condition; each visit does all of it once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Number within the plan (not the boot).
    pub id: u32,
    /// Name of a row of the guest's `PROBES` table.
    pub probe: String,
    /// Its parameters.
    pub params: Params,
    /// Blocks of a visit. A block is the unit that is kept or dropped as a whole.
    pub blocks: u32,
    /// Eligible calls after which a block is complete.
    pub calls_per_block: u32,
    /// Milliseconds after which a block ends with what it has.
    pub block_ms: u32,
}

/// One visit, as the process that makes it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Visit {
    /// Its place in [`Workload::visits`].
    pub number: u32,
    /// Seed of everything random in it.
    pub seed: u64,
    /// What it does.
    pub step: Step,
}

/// One line from the guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Record {
    /// First: what the guest is really like.
    Hello(Hello),
    /// A visit begins; its splats on the console come after this moment.
    VisitBegin {
        /// Its number.
        visit: u32,
        /// [`Step::id`].
        step: u32,
        /// Guest monotonic clock, nanoseconds since boot.
        at_ns: u64,
    },
    /// One block of samples.
    Block(Block),
    /// What a program of the bake-off's said during the visit: evidence for people.
    Output(Output),
    /// A visit ends.
    VisitEnd {
        /// Its number.
        visit: u32,
        /// [`Step::id`].
        step: u32,
        /// How.
        outcome: StepOutcome,
        /// Guest monotonic clock, nanoseconds since boot.
        at_ns: u64,
    },
    /// Last: the workload is done.
    End(End),
}

/// What the guest is really like, read from inside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of the guest.
    pub wire: u32,
    /// [`SOURCE_HASH`](crate::SOURCE_HASH) of the guest binary.
    pub source_hash: String,
    /// [`Workload::boot`].
    pub boot: String,
    /// `uname -r`.
    pub release: String,
    /// `uname -m`.
    pub machine: String,
    /// The kernel's own command line.
    pub cmdline: String,
    /// CPUs online.
    pub cpus_online: u32,
    /// Clock source in use (`tsc`, `arch_sys_counter`, `jiffies` …).
    pub clocksource: String,
    /// Resolution of CLOCK_MONOTONIC in nanoseconds: 1 with high-resolution timers.
    pub timer_resolution_ns: u64,
    /// Shortest expiry seen of a 100 us absolute sleep, in nanoseconds.
    pub timer_100us_measured_ns: u64,
    /// Lockdep's `debug_locks`; `None` on a kernel without lockdep.
    pub debug_locks: Option<bool>,
    /// `/proc/sys/kernel/tainted`.
    pub tainted: u64,
    /// Size of a page in bytes.
    pub page_size: u64,
    /// Nanoseconds since boot when the agent was ready.
    pub at_ns: u64,
}

/// One block of samples: kept or dropped as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// [`Step::id`].
    pub step: u32,
    /// The visit's number within the boot.
    pub visit: u32,
    /// Number within the visit, from 0.
    pub block: u32,
    /// Guest monotonic clock at the start, nanoseconds since boot.
    pub at_ns: u64,
    /// Length of the sampled window in nanoseconds.
    pub window_ns: u64,
    /// `debug_locks` before the block; `None` on a kernel without lockdep.
    pub debug_locks_before: Option<bool>,
    /// `debug_locks` after the block.
    pub debug_locks_after: Option<bool>,
    /// Calls that count: what the shares are about.
    pub calls: u64,
    /// Calls or events that do not count, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub excluded: BTreeMap<String, u64>,
    /// Metrics that are shares, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shares: BTreeMap<String, Share>,
    /// Metrics that are numbers, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, Summary>,
    /// Counts that explain the metrics, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, u64>,
}

impl Block {
    /// Whether the block proves anything: lockdep was on throughout, or is not there.
    #[must_use]
    pub fn proves(&self) -> bool {
        self.debug_locks_before != Some(false) && self.debug_locks_after != Some(false)
    }

    /// Adds what does not count for this reason.
    pub fn exclude(&mut self, reason: impl Into<String>, times: u64) {
        if times > 0 {
            let count = self.excluded.entry(reason.into()).or_default();
            *count = count.saturating_add(times);
        }
    }

    /// Adds to a metric that is a share.
    pub fn share(&mut self, metric: &str, of: u64, right: u64) {
        self.shares.entry(metric.to_owned()).or_default().add(Share { of, right });
    }

    /// Adds one measurement to a metric that is a number.
    pub fn value(&mut self, metric: &str, value: f64) {
        self.values.entry(metric.to_owned()).or_default().add(&Summary::of(value));
    }

    /// Adds to a count that explains. A zero is told, too: it was looked at.
    pub fn note(&mut self, name: &str, times: u64) {
        let count = self.notes.entry(name.to_owned()).or_default();
        *count = count.saturating_add(times);
    }
}

/// What a program of the bake-off's said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// [`Step::id`].
    pub step: u32,
    /// The visit's number within the boot.
    pub visit: u32,
    /// How the program ended: `exit status 1`, `killed by signal 11 (SIGSEGV)`.
    pub end: String,
    /// Its standard output and error as they came. Of a long one the beginning and the
    /// end, with a line between them that says how much is left out.
    pub text: String,
    /// Bytes left out of the middle.
    pub cut_bytes: u64,
}

/// So many right out of so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// All.
    pub of: u64,
    /// The right ones.
    pub right: u64,
}

impl Share {
    /// Adds another one.
    pub fn add(&mut self, other: Share) {
        self.of = self.of.saturating_add(other.of);
        self.right = self.right.saturating_add(other.right);
    }
}

/// What is kept of a number that was measured several times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// How often.
    pub n: u64,
    /// The mean.
    pub mean: f64,
    /// The sum of squared distances from the mean.
    pub m2: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// Of one measurement.
    #[must_use]
    pub fn of(value: f64) -> Summary {
        Summary { n: 1, mean: value, m2: 0.0, min: value, max: value }
    }

    /// Adds another summary (Chan, Golub, LeVeque: Updating Formulae and a Pairwise
    /// Algorithm for Computing Sample Variances, 1979).
    pub fn add(&mut self, other: &Summary) {
        if other.n == 0 {
            return;
        }
        if self.n == 0 {
            *self = *other;
            return;
        }
        let (a, b) = (self.n as f64, other.n as f64);
        let apart = other.mean - self.mean;
        self.mean += apart * b / (a + b);
        self.m2 += other.m2 + apart * apart * a * b / (a + b);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.n += other.n;
    }
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum StepOutcome {
    /// All its blocks were taken.
    Done,
    /// This guest cannot reach the context: a fact for the report.
    Unreachable {
        /// Why.
        reason: String,
    },
    /// The probe itself failed: our error.
    Failed {
        /// What failed, with the errno.
        reason: String,
    },
}

/// The last record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Records sent before this one.
    pub records: u64,
    /// `debug_locks` at the end.
    pub debug_locks: Option<bool>,
    /// `/proc/sys/kernel/tainted` at the end.
    pub tainted: u64,
    /// Guest monotonic clock, nanoseconds since boot.
    pub at_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Summaries of parts, added, are the summary of the whole.
    #[test]
    fn summaries_add_up() {
        let all = [3.0, 5.0, 4.0, 10.0, -2.0];
        let sum = |part: &[f64]| {
            let mut sum = Summary::default();
            part.iter().for_each(|value| sum.add(&Summary::of(*value)));
            sum
        };
        let mut halves = sum(&all[..2]);
        halves.add(&sum(&all[2..]));
        halves.add(&Summary::default());
        let mean = all.iter().sum::<f64>() / 5.0;
        let m2: f64 = all.iter().map(|x| (x - mean) * (x - mean)).sum();
        assert_eq!(halves.n, 5);
        assert!((halves.mean - mean).abs() < 1e-12 && (halves.m2 - m2).abs() < 1e-9, "{halves:?}");
        assert_eq!((halves.min, halves.max), (-2.0, 10.0));
    }
}
