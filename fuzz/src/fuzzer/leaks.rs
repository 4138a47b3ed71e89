// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is still held when everything was released.
//!
//! Between programs a worker holds its pool and what it was set up with, no more.
//! So descriptors, pinned memory, and BPF objects that nobody has a descriptor of
//! must not become more. Those are exact, and the program that is to blame can be
//! found by running halves of the last ones again. The slab is not: it is only
//! suspected when it grows and grows.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::sys::call;

/// What a BPF object is: its command to go through the ids, and its word in
/// `fdinfo`.
const KINDS: [(u32, &str); 3] = [(11, "prog_id"), (12, "map_id"), (31, "link_id")];

/// A BPF object: its word, and its id.
pub type Object = (&'static str, u32);

/// Objects are freed some time after their last reference is gone. A look goes through
/// all descriptors of all processes, which takes longer than the wait where both
/// workers' pools are full.
const LOOKS: u32 = 6;
const BETWEEN: Duration = Duration::from_millis(400);
/// How often, and after which time, memory is looked at that may still be freed.
const MEMORY_LOOKS: u32 = 20;
const BETWEEN_MEMORY: Duration = Duration::from_millis(300);

/// What can be counted exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Descriptors of this process, the pool's not counted.
    pub files: usize,
    /// Memory that ring buffers pin, in KiB.
    pub pinned_kib: u64,
    /// BPF objects that no process has a descriptor of.
    pub orphans: BTreeSet<Object>,
}

impl Held {
    /// Counts; `pooled` descriptors are the pool's.
    #[must_use]
    pub fn now(pooled: usize) -> Self {
        let files = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            files: files.saturating_sub(pooled),
            pinned_kib: ["VmLck:", "VmPin:"].iter().map(|word| kib(&status, word)).sum(),
            orphans: lasting_orphans(),
        }
    }

    /// What is more than it was `before`, in words.
    #[must_use]
    pub fn more_than(&self, before: &Self) -> Option<&'static str> {
        if self.orphans.difference(&before.orphans).next().is_some() {
            Some(ORPHAN)
        } else if self.files > before.files {
            Some("descriptors")
        } else if self.pinned_kib > before.pinned_kib {
            Some("pinned memory")
        } else {
            None
        }
    }
}

/// The number behind a word of `/proc/self/status` or `/proc/meminfo`.
fn kib(text: &str, word: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(word)?.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}

/// Unreclaimable slab, in KiB.
#[must_use]
pub fn slab_kib() -> u64 {
    kib(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "SUnreclaim:")
}

/// Memory that the kernel keeps for itself, in KiB: all that is not free, less what
/// user space has and what can be taken back. Slab, vmalloc and per-CPU memory are in
/// it, and what is in no line of its own, as larger pieces of kmalloc(). Free pages that
/// CPUs keep at hand are none of it: the kernel takes megabytes of them back when a CPU
/// has nothing to do, which would hide a leak of less.
#[must_use]
pub fn memory_kib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let zones = fs::read_to_string("/proc/zoneinfo").unwrap_or_default();
    let at_hand = at_hand(&zones) * crate::sys::page_size() / 1024;
    let others = ["MemFree:", "Buffers:", "Cached:", "AnonPages:", "SReclaimable:", "PageTables:"];
    let others: u64 = others.iter().map(|word| kib(&text, word)).sum();
    kib(&text, "MemTotal:").saturating_sub(others + at_hand)
}

/// Free pages that CPUs keep at hand, by `/proc/zoneinfo`.
fn at_hand(zones: &str) -> u64 {
    let counts = zones.lines().filter_map(|line| line.trim().strip_prefix("count:"));
    counts.filter_map(|count| count.trim().parse::<u64>().ok()).sum()
}

/// Has slab caches give back what they keep of freed objects: pages that are empty, and
/// what KASAN holds back to see it used after it was freed (`kasan_cache_shrink()`).
fn shrink() {
    for cache in fs::read_dir("/sys/kernel/slab").into_iter().flatten().flatten() {
        let _ = fs::write(cache.path().join("shrink"), "1");
    }
}

/// The same once it no longer shrinks: what RCU and workers free comes some time later.
#[must_use]
pub fn settled_kib() -> u64 {
    shrink();
    let mut kib = memory_kib();
    for _ in 0..MEMORY_LOOKS {
        std::thread::sleep(BETWEEN_MEMORY);
        let now = memory_kib();
        if now >= kib {
            break;
        }
        kib = now;
    }
    kib
}

/// What it is called where such objects are counted.
pub const ORPHAN: &str = "a BPF object that nobody has a descriptor of";

/// Whether any object has no descriptor, and keeps on existing.
#[must_use]
pub fn has_orphans() -> bool {
    !lasting_orphans().is_empty()
}

/// Orphans that stay orphans: another worker's come and go.
fn lasting_orphans() -> BTreeSet<Object> {
    let mut lasting = orphans();
    for _ in 1..LOOKS {
        if lasting.is_empty() {
            break;
        }
        std::thread::sleep(BETWEEN);
        let now = orphans();
        lasting.retain(|object| now.contains(object));
    }
    lasting
}

fn orphans() -> BTreeSet<Object> {
    let mut objects = BTreeSet::new();
    for (command, word) in KINDS {
        let mut id = 0;
        while let Ok(next) = call::bpf_next_id(command, id) {
            objects.insert((word, next));
            id = next;
        }
    }
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let is_process = process.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit());
        if is_process {
            for object in described(&process.path()) {
                objects.remove(&object);
            }
        }
    }
    objects
}

/// The BPF objects that a process has descriptors of.
fn described(process: &Path) -> Vec<Object> {
    let files = fs::read_dir(process.join("fdinfo")).into_iter().flatten().flatten();
    files
        .filter_map(|file| fs::read_to_string(file.path()).ok())
        .flat_map(|info| objects_in(&info))
        .collect()
}

/// The BPF objects that a descriptor's `fdinfo` names.
fn objects_in(info: &str) -> Vec<Object> {
    let object = |line: &str| {
        let (word, id) = line.split_once(':')?;
        let (_, word) = KINDS.iter().find(|kind| kind.1 == word)?;
        Some((*word, id.trim().parse().ok()?))
    };
    info.lines().filter_map(object).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A descriptor of a link names the link and its program.
    #[test]
    fn descriptors_name_objects() {
        let link = "pos:\t0\nflags:\t02000000\nlink_type:\traw_tracepoint\nlink_id:\t7\n\
                    prog_tag:\tda4fc6a3f41761a2\nprog_id:\t55\ntp_name:\tsys_enter\n";
        assert_eq!(objects_in(link), [("link_id", 7), ("prog_id", 55)]);
        assert_eq!(objects_in("pos:\t0\nmap_id:\tx\nmap_type:\t2\n"), []);
    }

    /// Numbers come out of the kernel's lists; what is not there is 0.
    #[test]
    fn numbers_are_found() {
        let text = "VmLck:\t       8 kB\nVmPin:\t     260 kB\n";
        assert_eq!((kib(text, "VmLck:"), kib(text, "VmPin:"), kib(text, "VmX:")), (8, 260, 0));
        assert!(slab_kib() > 0);
    }

    /// More of anything is a leak, less is none.
    #[test]
    fn more_is_a_leak() {
        let held = |files, pinned_kib, orphans: &[u32]| Held {
            files,
            pinned_kib,
            orphans: orphans.iter().map(|id| ("map_id", *id)).collect(),
        };
        let before = held(5, 8, &[3]);
        assert_eq!(before.more_than(&before), None);
        assert_eq!(held(4, 0, &[]).more_than(&before), None);
        assert!(held(6, 8, &[3]).more_than(&before).unwrap().contains("descriptors"));
        assert!(held(5, 9, &[3]).more_than(&before).unwrap().contains("pinned"));
        assert!(held(5, 8, &[4]).more_than(&before).unwrap().contains("BPF"));
    }

    /// Of each CPU in each zone.
    #[test]
    fn pages_at_hand_are_added_up() {
        let zones = "Node 0, zone    DMA32\n  pages free     229\n      count:    5\n  pagesets\n    \
                     cpu: 0\n              count:    62\n              high:     10\n    cpu: 1\n\
                     \x20             count:    3\n";
        assert_eq!(at_hand(zones), 70);
    }
}
