// SPDX-License-Identifier: MIT OR Apache-2.0
//! How fast this host's time-stamp counter runs, for guests that emulate it.
//!
//! QEMU's translator gives an x86_64 guest the host's counter. The guest's
//! kernel calibrates it against the emulated timer chip, and on a busy host
//! that fails: clock and hrtimers then fall back to jiffies, and every rate
//! sampled by a timer is another one than stated (seen in two of three boots
//! beside a compile job). Told the frequency (`tsc_early_khz=`, see
//! `Documentation/admin-guide/kernel-parameters.txt`), it need not calibrate.

use std::time::Duration;

/// Time between the two readings; the error is some microseconds of it.
const WINDOW: Duration = Duration::from_millis(50);

/// The counter's frequency in kHz; `None` where the host has no such counter.
#[must_use]
pub fn khz() -> Option<u64> {
    use std::sync::OnceLock;
    static KHZ: OnceLock<Option<u64>> = OnceLock::new();
    *KHZ.get_or_init(measure)
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn measure() -> Option<u64> {
    // SAFETY: reading the counter has no precondition; Linux leaves it readable.
    let now = || unsafe { core::arch::x86_64::_rdtsc() };
    let once = || {
        let (began, from) = (std::time::Instant::now(), now());
        std::thread::sleep(WINDOW);
        let (to, took) = (now(), began.elapsed());
        u64::try_from(u128::from(to.wrapping_sub(from)) * 1_000_000 / took.as_nanos()).ok()
    };
    // A reading that was preempted between clock and counter is off: take the middle one.
    let mut readings = [once()?, once()?, once()?];
    readings.sort_unstable();
    Some(readings[1])
}

#[cfg(not(target_arch = "x86_64"))]
fn measure() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    /// A counter that is there runs at a rate that CPUs have.
    #[test]
    fn the_counter_runs_at_a_plausible_rate() {
        if let Some(khz) = super::khz() {
            assert!((200_000..20_000_000).contains(&khz), "{khz} kHz");
        }
    }
}
