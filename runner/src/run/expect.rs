// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long things are expected to take. Guides a person, decides nothing.
//!
//! The constants were measured on a 2-core machine without KVM; builds scale
//! with the cores there are. A rerun knows better: kernels in the cache cost
//! nothing.

use std::path::PathBuf;
use std::time::Duration;

use bakeoff_fuzz::wire::{Context as At, Step, Stop};

use crate::base::error::{Context, Result};
use crate::run::schedule::next_boot;
use crate::see::observation::BootObservation;
use crate::spec::plan::Planned;

/// CPU seconds of a cold kernel build (741 objects with lockdep, x86_64).
const FULL_BUILD_CPU_S: f64 = 400.0;
/// CPU seconds of a build after a change to one .c file, copying included.
const SMALL_BUILD_CPU_S: f64 = 30.0;
/// Power-on to Hello under TCG.
const BOOT_S: f64 = 2.5;
/// Part of its blocks that a step takes which may stop when it knows enough: most
/// rates are next to 0 or 100%.
const PRECISE_PART: f64 = 0.4;
/// Starting and ending a step, and a block.
const STEP_S: f64 = 0.5;
const BLOCK_S: f64 = 0.05;

/// A kernel build; `small` when only a .c file or two are touched.
#[must_use]
pub fn build(cpus: u32, small: bool) -> Duration {
    let cpu_seconds = if small { SMALL_BUILD_CPU_S } else { FULL_BUILD_CPU_S };
    Duration::from_secs_f64(cpu_seconds / f64::from(cpus.max(1)))
}

/// Samples per second under TCG where nothing else sets the pace, on the slower
/// architecture.
fn calls_per_second(context: At) -> f64 {
    match context {
        At::Process => 30_000.0,
        // Measured with the triggers of the first case, or near them.
        At::PageFault | At::PageFaultLocked => 5_000.0,
        At::Softirq => 1_000.0,
        At::Hardirq => 3_000.0,
        At::RqLock => 430.0,
        At::Nmi => 350.0,
    }
}

/// All boots that are left of a round: the steps, one boot for those that go
/// together and one for each that goes alone.
#[must_use]
pub fn boots(steps: &[Planned], made: &[BootObservation]) -> Duration {
    let mut steps: Vec<Planned> = steps.to_vec();
    let mut total = Duration::ZERO;
    while let Some(next) = next_boot(&steps, made) {
        total += boot(steps.iter().map(|p| &p.step).filter(|step| next.contains(&step.id)));
        steps.retain(|planned| !next.contains(&planned.step.id));
    }
    total
}

/// A boot that does these steps.
#[must_use]
pub fn boot<'a>(steps: impl IntoIterator<Item = &'a Step>) -> Duration {
    let step = |step: &Step| {
        let calls = f64::from(step.calls_per_block);
        let per_call = match step.period_us {
            Some(period) => f64::from(period) / 1e6,
            None => 1.0 / calls_per_second(step.context),
        };
        let block = (calls * per_call).min(f64::from(step.block_ms) / 1e3) + BLOCK_S;
        let blocks = f64::from(step.blocks);
        let blocks = match step.stop {
            Stop::Fixed => blocks,
            Stop::Precise { .. } => blocks * PRECISE_PART,
            #[expect(clippy::cast_precision_loss, reason = "a guess")]
            Stop::Claim { calls: wanted, .. } => blocks.min(wanted as f64 / calls.max(1.0)),
        };
        STEP_S + blocks * block
    };
    Duration::from_secs_f64(BOOT_S + steps.into_iter().map(step).sum::<f64>())
}

/// Whether little is rebuilt for a series of these files: it touches nothing but
/// .c files. The stock tree is a full build.
///
/// # Errors
/// A patch cannot be read.
pub fn is_small(patches: &[PathBuf]) -> Result<bool> {
    for path in patches {
        let bytes = std::fs::read(path).at_path("read", path)?;
        if !touches_only_c_files(&String::from_utf8_lossy(&bytes)) {
            return Ok(false);
        }
    }
    Ok(!patches.is_empty())
}

/// Whether a series touches nothing but .c files: then little is rebuilt.
/// A header that half the kernel includes makes it nearly a full build.
fn touches_only_c_files(patch: &str) -> bool {
    patch
        .lines()
        .filter_map(|line| line.strip_prefix("+++ "))
        .all(|path| path.split_whitespace().next().is_some_and(|path| path.ends_with(".c")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header in a series makes it a large build.
    #[test]
    fn headers_make_large_builds() {
        let diff = |file: &str| format!("--- a/{file}\n+++ b/{file}\n@@ -1 +1 @@\n");
        assert!(touches_only_c_files(&diff("kernel/bpf/stackmap.c")));
        assert!(!touches_only_c_files(&(diff("a.c") + &diff("include/linux/mm.h"))));
    }
}
