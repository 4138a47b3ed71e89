// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the running kernel says of itself. Absent is not failed: a kernel
//! without lockdep answers `None`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::time::Duration;

use crate::wire::{Hello, VERSION};
use crate::{SOURCE_HASH, sys};

/// Resolution beyond which timers keep no period worth stating: jiffies.
pub const COARSEST_TIMER_NS: u64 = 1000;

/// Lockdep's `debug_locks`: false once lockdep has turned itself off.
#[must_use]
pub fn debug_locks() -> Option<bool> {
    parse_debug_locks(&fs::read_to_string("/proc/lockdep_stats").ok()?)
}

fn parse_debug_locks(stats: &str) -> Option<bool> {
    let value = stats.lines().find_map(|line| line.trim().strip_prefix("debug_locks:"))?;
    match value.trim() {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// `/proc/sys/kernel/tainted`; 0 where it cannot be read.
#[must_use]
pub fn tainted() -> u64 {
    read_line("/proc/sys/kernel/tainted").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The first line of a small file, without its end.
fn read_line(path: &str) -> io::Result<String> {
    fs::read_to_string(path)
        .map(|text| text.lines().next().unwrap_or_default().trim().to_owned())
        .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
}

/// Numbers of the CPUs online, in order.
pub fn cpus_online() -> io::Result<Vec<u32>> {
    let list = read_line("/sys/devices/system/cpu/online")?;
    parse_cpu_list(&list)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("CPU list {list:?}")))
}

fn parse_cpu_list(list: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(from.parse().ok()?..=to.parse::<u32>().ok()?);
    }
    Some(cpus)
}

/// Addresses of kernel symbols, as far as `/proc/kallsyms` shows them.
pub fn symbols(wanted: &[&str]) -> io::Result<BTreeMap<String, u64>> {
    let file = BufReader::with_capacity(1 << 16, File::open("/proc/kallsyms")?);
    find_symbols(file, wanted)
}

fn find_symbols(mut lines: impl BufRead, wanted: &[&str]) -> io::Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    let mut line = String::new();
    while found.len() < wanted.len() {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            break;
        }
        let mut words = line.split_ascii_whitespace();
        let (Some(address), Some(_), Some(name)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        // Address 0 is what an unprivileged reader is shown.
        if wanted.contains(&name)
            && let Ok(address) = u64::from_str_radix(address, 16)
            && address != 0
        {
            found.entry(name.to_owned()).or_insert(address);
        }
    }
    Ok(found)
}

/// Waits for the kernel to switch to high-resolution timers: it does so at a
/// tick some time after the clock source is settled, which a fast boot outruns.
/// A boot that never does says so in its Hello.
fn settle_timers() {
    let limit = sys::monotonic_ns() + 500_000_000;
    while sys::monotonic_resolution_ns().is_ok_and(|ns| ns > COARSEST_TIMER_NS)
        && sys::monotonic_ns() < limit
    {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Shortest of twenty absolute sleeps of 100 us: what the timers are really like.
fn measured_100us() -> u64 {
    (0..20)
        .map(|_| {
            let start = sys::monotonic_ns();
            sys::sleep_until(start + 100_000);
            sys::monotonic_ns() - start
        })
        .min()
        .unwrap_or(0)
}

/// Measures everything the host wants to know before it believes a number.
pub fn hello(boot: &str) -> io::Result<Hello> {
    let (release, machine) = sys::uname()?;
    settle_timers();
    Ok(Hello {
        wire: VERSION,
        source_hash: SOURCE_HASH.to_owned(),
        boot: boot.to_owned(),
        release,
        machine,
        cmdline: read_line("/proc/cmdline")?,
        cpus_online: u32::try_from(cpus_online()?.len()).map_err(io::Error::other)?,
        clocksource: read_line("/sys/devices/system/clocksource/clocksource0/current_clocksource")?,
        timer_resolution_ns: sys::monotonic_resolution_ns()?,
        timer_100us_measured_ns: measured_100us(),
        debug_locks: debug_locks(),
        tainted: tainted(),
        page_size: sys::page_size(),
        at_ns: sys::monotonic_ns(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `debug_locks` is one line among many; without it there is no answer.
    #[test]
    fn lockdep_stats() {
        let stats = " lock-classes:                         1234 [max: 8192]\n \
                     max locking depth:                      14\n \
                     debug_locks:                             1\n\n \
                     zapped classes:                          0\n";
        assert_eq!(parse_debug_locks(stats), Some(true));
        assert_eq!(parse_debug_locks(&stats.replace("  1\n\n", "  0\n\n")), Some(false));
        assert_eq!(parse_debug_locks(""), None);
        assert_eq!(parse_debug_locks(" debug_locks:   \n"), None);
        assert_eq!(parse_debug_locks(" debug_locks:  2\n"), None);
    }

    /// Symbols are matched whole; hidden (zero) addresses are no answer.
    #[test]
    fn kallsyms() {
        let text = "0000000000023480 A pcpu_hot\n\
                    ffffffff82a00000 D __per_cpu_offset_not\n\
                    ffffffff82a00040 D __per_cpu_offset\n\
                    0000000000000000 d mmap_unlock_work\n\
                    broken\n\
                    ffffffffc0000000 t other\t[module]\n";
        let found =
            find_symbols(text.as_bytes(), &["pcpu_hot", "__per_cpu_offset", "mmap_unlock_work"])
                .unwrap();
        assert_eq!(found.get("pcpu_hot"), Some(&0x23480));
        assert_eq!(found.get("__per_cpu_offset"), Some(&0xffff_ffff_82a0_0040));
        assert_eq!(found.get("mmap_unlock_work"), None);
    }

    /// CPU lists come as ranges and single numbers.
    #[test]
    fn cpu_lists() {
        assert_eq!(parse_cpu_list("0-1"), Some(vec![0, 1]));
        assert_eq!(parse_cpu_list("0,2-3"), Some(vec![0, 2, 3]));
        assert_eq!(parse_cpu_list(""), None);
        assert_eq!(parse_cpu_list("x"), None);
    }
}
