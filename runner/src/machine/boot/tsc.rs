// SPDX-License-Identifier: MIT OR Apache-2.0
//! How fast the host's time-stamp counter counts.
//!
//! An x86 guest reads this counter too, emulated or not, and measures it at
//! boot against an emulated timer. On a busy host that measurement fails (two
//! boots of three at a load of four per CPU), and the guest is left with a
//! clock of jiffies and without high-resolution timers. So it is told what the
//! host can measure at leisure.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Long enough that reading the clock (tens of nanoseconds) does not count.
const WINDOW: Duration = Duration::from_millis(50);

/// Kilohertz, measured once; `None` on hosts without that counter, where a
/// guest has to measure whatever QEMU emulates.
pub(super) fn khz() -> Option<u64> {
    static KHZ: OnceLock<Option<u64>> = OnceLock::new();
    *KHZ.get_or_init(measure)
}

fn measure() -> Option<u64> {
    let (from_time, from) = reading()?;
    std::thread::sleep(WINDOW);
    let (to_time, to) = reading()?;
    let elapsed = to_time.saturating_duration_since(from_time).as_nanos();
    let counted = u128::from(to.checked_sub(from)?);
    // A counter that stands still or runs backwards (another socket's) is none.
    u64::try_from(counted.checked_mul(1_000_000)?.checked_div(elapsed)?)
        .ok()
        .filter(|khz| (100_000..100_000_000).contains(khz))
}

/// Clock and counter at the same moment: of a few tries the one that was
/// interrupted least.
fn reading() -> Option<(Instant, u64)> {
    (0..10)
        .filter_map(|_| {
            let before = Instant::now();
            let count = counter()?;
            let width = before.elapsed();
            Some((width, (before + width / 2, count)))
        })
        .min_by_key(|(width, _)| *width)
        .map(|(_, reading)| reading)
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn counter() -> Option<u64> {
    // SAFETY: RDTSC reads a register, touches no memory, and every x86_64 CPU
    // has it.
    Some(unsafe { core::arch::x86_64::_rdtsc() })
}

#[cfg(not(target_arch = "x86_64"))]
fn counter() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two measurements agree: a counter counts at a constant rate.
    #[test]
    fn measurements_agree() {
        if counter().is_none() {
            return;
        }
        let (a, b) = (measure().unwrap(), measure().unwrap());
        assert!(a.abs_diff(b) * 1000 < a, "{a} kHz, {b} kHz");
    }
}
