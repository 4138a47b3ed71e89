// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long things are expected to take. Guides a person, decides nothing.
//!
//! The constants were measured on a 2-core machine without KVM; builds scale
//! with the cores there are. A rerun knows better: kernels in the cache cost
//! nothing.

use std::path::PathBuf;
use std::time::Duration;

use bakeoff_fuzz::wire::Step;

use crate::base::error::{Context, Result};
use crate::run::schedule::{self, Target, next_boot};
use crate::see::observation::BootObservation;
use crate::spec::plan::{Cell, Plan};

/// CPU seconds of a cold kernel build (741 objects with lockdep, x86_64).
const FULL_BUILD_CPU_S: f64 = 400.0;
/// CPU seconds of a build after a change to one .c file, copying included.
const SMALL_BUILD_CPU_S: f64 = 30.0;
/// Fetching and unpacking a kernel source of Debian's, with a CPU or two.
pub const UNPACKING: Duration = Duration::from_secs(25);
/// Power-on to Hello under TCG.
const BOOT_S: f64 = 2.5;
/// A boot without its visits.
pub const BOOT_SECONDS: f64 = BOOT_S + END_S;
/// Starting and ending a visit.
const VISIT_S: f64 = 0.15;
/// Calls per second where nothing else sets the pace, under TCG. It matters to steps of
/// thousands of calls; some were seen to make twice as many.
const CALLS_PER_SECOND: f64 = 50_000.0;
/// A boot's own start and end.
const END_S: f64 = 0.7;

/// A kernel build; `small` when only a .c file or two are touched.
#[must_use]
pub fn build(cpus: u32, small: bool) -> Duration {
    let cpu_seconds = if small { SMALL_BUILD_CPU_S } else { FULL_BUILD_CPU_S };
    Duration::from_secs_f64(cpu_seconds / f64::from(cpus.max(1)))
}

/// The boots of these cells before the claims are read for the first time.
#[must_use]
pub fn first_look(plan: &Plan, cells: &[&Cell]) -> Duration {
    let portable = cells.iter().filter(|cell| cell.not_portable.is_none());
    portable.map(|cell| boots(plan, &schedule::first_look(plan, cell), &[])).sum()
}

/// All boots that are left until the targets are met, if all goes well.
#[must_use]
pub fn boots(plan: &Plan, targets: &[Target], made: &[BootObservation]) -> Duration {
    let mut boots = made.to_vec();
    let mut total = Duration::ZERO;
    while let Some(visits) = next_boot(targets, &boots) {
        total += boot(plan, &visits);
        boots.push(BootObservation::as_hoped(&visits));
        if boots.len() > made.len() + MOST_BOOTS {
            break;
        }
    }
    total
}

/// Boots that are counted in advance; a plan that needs more takes long, whatever the sum.
const MOST_BOOTS: usize = 500;

/// A boot that makes these visits.
#[must_use]
pub fn boot(plan: &Plan, visits: &[u32]) -> Duration {
    let seconds: f64 = visits.iter().filter_map(|id| plan.step(*id)).map(|p| visit(&p.step)).sum();
    Duration::from_secs_f64(BOOT_S + END_S + seconds)
}

/// Seconds that a visit takes.
#[must_use]
pub fn visit(step: &Step) -> f64 {
    let condition = bakeoff_fuzz::probe::check(step).map(|(_, condition)| condition);
    let period = condition.ok().and_then(|condition| {
        let axis = condition.axes.into_iter().find(|axis| axis.unit == "us");
        axis.map(|axis| axis.value / 1e6)
    });
    let calls = f64::from(step.calls_per_block);
    let block = calls * period.unwrap_or(1.0 / CALLS_PER_SECOND);
    VISIT_S + f64::from(step.blocks) * block.min(f64::from(step.block_ms) / 1e3)
}

/// Whether little is rebuilt for a series of these files: it changes nothing but
/// .c files. The stock tree is a full build.
///
/// # Errors
/// A patch cannot be read.
pub fn is_small(patches: &[PathBuf]) -> Result<bool> {
    for path in patches {
        let bytes = std::fs::read(path).at_path("read", path)?;
        if !changes_only_c_files(&String::from_utf8_lossy(&bytes)) {
            return Ok(false);
        }
    }
    Ok(!patches.is_empty())
}

/// Whether a series changes nothing but .c files, and adds what it likes: then little is
/// rebuilt. A header that half the kernel includes makes it nearly a full build.
fn changes_only_c_files(patch: &str) -> bool {
    let mut added = false;
    patch.lines().all(|line| {
        if let Some(before) = line.strip_prefix("--- ") {
            added = before.split_whitespace().next() == Some("/dev/null");
        }
        let Some(path) = line.strip_prefix("+++ ") else { return true };
        added || path.split_whitespace().next().is_some_and(|path| path.ends_with(".c"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header that a series changes makes it a large build; one that it adds does not.
    #[test]
    fn changed_headers_make_large_builds() {
        let diff = |from: &str, file: &str| format!("--- {from}\n+++ b/{file}\n@@ -1 +1 @@\n");
        let c = diff("a/kernel/bpf/syscall.c", "kernel/bpf/syscall.c");
        assert!(changes_only_c_files(&diff("a/a.c", "a.c")));
        assert!(!changes_only_c_files(&(c.clone() + &diff("a/mm.h", "mm.h"))));
        assert!(changes_only_c_files(&(c.clone() + &diff("/dev/null", "include/new.h") + &c)));
    }
}
