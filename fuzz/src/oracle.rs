// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a kernel may answer: a table of oracles, each of which says what it judges and
//! what it cannot.
//!
//! Some judge what any program did (a stack's build ids, what is left when all was
//! released). The others are *checks*: an operation of a program that makes a short play
//! of its own, by a seed, and knows what each call in it has to answer. A check that
//! finds nothing wrong still is a program that runs through code, and so is kept or
//! dropped by coverage as any other.
//!
//! A row must never be wrong about a kernel without a bug: what cannot be known is not
//! judged.

pub mod buckets;
pub mod check;
pub mod judged;
pub mod legal;
pub mod lookups;

use crate::op::Check;

/// An oracle.
#[derive(Clone, Copy, Debug)]
pub struct Oracle {
    /// Its name, in findings.
    pub name: &'static str,
    /// The check that plays, if it is one.
    pub check: Option<Check>,
    /// What it judges.
    pub judges: &'static str,
    /// What it cannot judge.
    pub cannot: &'static str,
    /// Files of the kernel that it is about: a patch of one of these has it run more.
    pub files: &'static [&'static str],
}

/// The name of an oracle in what it says is wrong: `name: what`.
#[must_use]
pub fn name_of(wrong: &str) -> &str {
    let name = wrong.split_once(": ").map_or(wrong, |(name, _)| name);
    ORACLES.iter().map(|row| row.name).find(|row| *row == name).unwrap_or(STACKS)
}

/// The name of the oracle of stack lookups.
pub const STACKS: &str = "stack-lookup";

/// All of them.
pub const ORACLES: &[Oracle] = &[
    Oracle {
        name: STACKS,
        check: None,
        judges: "frames of bpf_get_stack() and bpf_get_stackid(): build id, offset and \
                 address are those of what the arena is mapped to",
        cannot: "stacks of other threads; pages whose mapping another thread may change; \
                 BPF_F_FAST_STACK_CMP, which may answer an old stack's",
        files: &["kernel/bpf/stackmap.c", "lib/buildid.c", "kernel/events/callchain.c"],
    },
    Oracle {
        name: "stack-room",
        check: None,
        judges: "bpf_get_stack() and bpf_get_task_stack() answer no more bytes than there is \
                 room for",
        cannot: "what is written behind the room without being answered",
        files: &["kernel/bpf/stackmap.c"],
    },
    Oracle {
        name: "find-vma",
        check: None,
        judges: "the mapping that bpf_find_vma() hands out holds the address",
        cannot: "that there is a mapping and none was found",
        files: &["kernel/bpf/task_iter.c"],
    },
    Oracle {
        name: "stack-buckets",
        check: None,
        judges: "a stack map that says it is full takes stacks once it is emptied",
        cannot: "maps of fewer than sixteen entries",
        files: &["kernel/bpf/stackmap.c"],
    },
    Oracle {
        name: "held",
        check: None,
        judges: "descriptors, pinned memory and BPF objects are back to what they were when \
                 all is released; memory does not grow each time the programs run",
        cannot: "perf events, which have no count of their own; fewer than 256 KiB of memory",
        files: &["kernel/bpf", "kernel/events"],
    },
    Oracle {
        name: "counts",
        check: Some(Check::Counts),
        judges: "read(2) of perf events on another task: its length, its members and their \
                 ids, counts within bounds and never less, times, ECHILD where a copy of a \
                 group has another shape; across fork, thread, exec, exit, ioctls",
        cannot: "hardware events; events of a CPU; what a group's copies look like after a \
                 member was closed",
        files: &["kernel/events/core.c", "kernel/fork.c", "fs/exec.c"],
    },
    Oracle {
        name: "records",
        check: Some(Check::Records),
        judges: "each record of a perf buffer has a known type and the length that its event's \
                 attributes give it, a sample's id is of an event that writes there, raw data \
                 is of its tracepoint, and records with those lost are as many as were counted",
        cannot: "what an address or a register in a sample is; the order of records; several \
                 software events at once, whose samples stock 6.12.117 mixes up",
        files: &[
            "kernel/events/core.c",
            "kernel/events/ring_buffer.c",
            "kernel/events/callchain.c",
            "kernel/trace/trace_event_perf.c",
        ],
    },
    Oracle {
        name: "sideband",
        check: Some(Check::Sideband),
        judges: "what perf buffers say of a task's names, mappings, children and BPF programs: \
                 once each, with what it was, only where an event asks for it and is on",
        cannot: "other tasks; executed files; build ids; code of the kernel that changes",
        files: &["kernel/events/core.c", "mm/mmap.c", "mm/mprotect.c", "kernel/bpf/core.c"],
    },
    Oracle {
        name: "breakpoints",
        check: Some(Check::Breakpoints),
        judges: "each access to memory of the own thread that a breakpoint watches counts, once, \
                 also after it was turned off and on or watches something else; as many are to \
                 be had when those before are gone",
        cannot: "breakpoints on code, of CPUs and of other tasks; the kernel's own accesses; \
                 several at once, which QEMU mixes up",
        files: &["kernel/events/hw_breakpoint.c", "kernel/events/core.c"],
    },
    Oracle {
        name: "promises",
        check: Some(Check::Promises),
        judges: "calls whose answer the interface promises: unknown flags, commands and \
                 formats, addresses of the kernel's, full tables of descriptors, redirected \
                 output",
        cannot: "which of two errors comes first where a call has two",
        files: &["kernel/events/core.c", "kernel/bpf", "kernel/trace/bpf_trace.c"],
    },
    Oracle {
        name: "access",
        check: Some(Check::Access),
        judges: "what is refused without capabilities: events of the kernel, of CPUs, of probes, \
                 BPF objects by their ids, kinds of maps and programs; locked memory and perf \
                 buffers beyond the limit; BPF maps that are for reading or writing only, or \
                 frozen",
        cannot: "another perf_event_paranoid than 2; users and name spaces, of which there is \
                 one; BPF tokens",
        files: &[
            "kernel/events/core.c",
            "kernel/trace/trace_event_perf.c",
            "kernel/bpf/syscall.c",
            "mm/mlock.c",
            "mm/mmap.c",
        ],
    },
    Oracle {
        name: "wakeups",
        check: Some(Check::Wakeups),
        judges: "perf buffers as mappings: no part of one is unmapped, moved or protected, and \
                 VmPin is what it was when one is gone; poll(2) by samples taken and when the \
                 task is gone; signals and the end of an event that may overflow n times",
        cannot: "AUX areas, which no PMU of the guest has; how soon it tells; watermarks",
        files: &["kernel/events/core.c", "kernel/events/ring_buffer.c", "mm/vma.c"],
    },
    Oracle {
        name: "bounds",
        check: Some(Check::Bounds),
        judges: "what registers hold when a BPF program runs is what the verifier's log says \
                 that they can: ranges and known bits, of 32 and 64 bits, signed and unsigned, \
                 across arithmetic, jumps, and spills",
        cannot: "pointers, loops and calls; a log written in other words",
        files: &["kernel/bpf/verifier.c", "kernel/bpf/tnum.c", "kernel/bpf/core.c"],
    },
    Oracle {
        name: "infos",
        check: Some(Check::Infos),
        judges: "what BPF objects tell about themselves is what they were made of: maps, \
                 programs and their maps, links to raw tracepoints and to several places of a \
                 file, events with a program, by their descriptor and in /proc; complete \
                 where there is room, with an error where the interface promises one, and \
                 nothing behind the room; the same object by its id and by a path that it is \
                 pinned to, for reading or writing only, and gone with the last of these",
        cannot: "what kernels tell that is longer than in 6.12; the machine's code; run times",
        files: &["kernel/bpf/syscall.c", "kernel/bpf/inode.c", "kernel/trace/bpf_trace.c"],
    },
    Oracle {
        name: "iterators",
        check: Some(Check::Iterators),
        judges: "what BPF iterators go over: elements of maps, tasks, files and mappings of the \
                 own process, BPF objects; complete, once each, the same however much is read \
                 at a time; what may not be gone over or written to",
        cannot: "what other processes have; elements that are deleted meanwhile; programs that \
                 take the place of one and reach beyond an element, which stock 6.12.117 lets be",
        files: &[
            "kernel/bpf/bpf_iter.c",
            "kernel/bpf/map_iter.c",
            "kernel/bpf/task_iter.c",
            "kernel/bpf/prog_iter.c",
            "kernel/bpf/link_iter.c",
            "kernel/bpf/hashtab.c",
            "kernel/bpf/arraymap.c",
            "kernel/bpf/btf.c",
        ],
    },
    Oracle {
        name: "helpers",
        check: Some(Check::Helpers),
        judges: "what helpers of BPF programs answer: bpf_seq_printf() and bpf_snprintf(), \
                 bpf_strtol() and bpf_strtoul(), bpf_strncmp(), dynamic pointers to memory of a \
                 map, as many calls as bpf_for_each_map_elem() and bpf_loop() say, each record of \
                 a ring buffer that user space fills once",
        cannot: "pointers that are printed; text that is no ASCII; dynamic pointers of ring \
                 buffers that programs fill",
        files: &[
            "kernel/bpf/helpers.c",
            "kernel/bpf/ringbuf.c",
            "kernel/bpf/bpf_iter.c",
            "kernel/trace/bpf_trace.c",
        ],
    },
    Oracle {
        name: "timers",
        check: Some(Check::Timers),
        judges: "timers in elements of BPF maps: what their calls answer, that one fires once, \
                 that it is gone with its element",
        cannot: "when one fires; what two threads and their callbacks make of them, which \
                 map-races plays",
        files: &["kernel/bpf/helpers.c", "kernel/bpf/hashtab.c", "kernel/bpf/arraymap.c"],
    },
    Oracle {
        name: "maps",
        check: Some(Check::Maps),
        judges: "elements of BPF maps against a model, by system calls and by a BPF program: \
                 lookups, updates by flag, deletion, the next key and batches complete and \
                 without doubles, longest prefixes, queues; of per-CPU elements the other CPUs' \
                 values, too",
        cannot: "LRU maps, which forget when they like; the order of a hash's keys",
        files: &[
            "kernel/bpf/hashtab.c",
            "kernel/bpf/arraymap.c",
            "kernel/bpf/lpm_trie.c",
            "kernel/bpf/queue_stack_maps.c",
            "kernel/bpf/bloom_filter.c",
            "kernel/bpf/syscall.c",
            "kernel/bpf/map_in_map.c",
            "kernel/bpf/percpu_freelist.c",
            "kernel/bpf/bpf_lru_list.c",
        ],
    },
    Oracle {
        name: "ring",
        check: Some(Check::Ring),
        judges: "a BPF ring buffer whose consumer position user space writes: records that are \
                 reserved at the same time fit into it, and what is read is what was written",
        cannot: "records that are read while user space moves the position at random",
        files: &["kernel/bpf/ringbuf.c"],
    },
    Oracle {
        name: "memory",
        check: Some(Check::Memory),
        judges: "mappings against a model: what can be read, what it holds, which private pages \
                 are in memory, errors of ranges with holes and files that may not be written \
                 to, what mmap, madvise and msync refuse, growth in place, stacks that grow \
                 down, VmLck and VmSize; ranges of many TiB",
        cannot: "huge pages; the moment at which pages are freed; file systems but tmpfs",
        files: &[
            "mm/mmap.c",
            "mm/mlock.c",
            "mm/mprotect.c",
            "mm/mremap.c",
            "mm/madvise.c",
            "mm/msync.c",
            "mm/mincore.c",
            "mm/vma.c",
            "mm/memory.c",
        ],
    },
    Oracle {
        name: "hits",
        check: Some(Check::Hits),
        judges: "each hit of a tracepoint, kprobe, uprobe, uprobe link or tracefs probe by the \
                 own thread is counted, once",
        cannot: "probes in interrupts; how long a hit takes",
        files: &[
            "kernel/events/uprobes.c",
            "kernel/kprobes.c",
            "kernel/trace/trace_uprobe.c",
            "kernel/trace/trace_kprobe.c",
            "kernel/trace/trace_probe.c",
            "kernel/trace/trace_event_perf.c",
            "kernel/trace/bpf_trace.c",
        ],
    },
    Oracle {
        name: "lives",
        check: Some(Check::Lives),
        judges: "nothing by itself: tasks with events of their own, sigtrap and removal on \
                 exec among them, that fork in vain, execute and exit; the kernel's own checks \
                 are the judge",
        cannot: "what the task's events counted",
        files: &["kernel/events/core.c", "kernel/fork.c"],
    },
    Oracle {
        name: "races",
        check: Some(Check::Races),
        judges: "nothing by itself: two threads that make calls on the same events; the \
                 kernel's own checks are the judge",
        cannot: "orders of two calls that did not happen",
        files: &["kernel/events", "kernel/fork.c"],
    },
    Oracle {
        name: "map-races",
        check: Some(Check::MapRaces),
        judges: "the same of two threads that make calls on one BPF map",
        cannot: "orders of two calls that did not happen",
        files: &["kernel/bpf"],
    },
    Oracle {
        name: "memory-races",
        check: Some(Check::MemoryRaces),
        judges: "the same of two threads that change the same mappings",
        cannot: "orders of two calls that did not happen",
        files: &["mm"],
    },
];

/// The checks that are about a file of the kernel.
pub fn checks_of(file: &str) -> impl Iterator<Item = Check> {
    let is_about = move |about: &str| {
        file == about || file.strip_prefix(about).is_some_and(|rest| rest.starts_with('/'))
    };
    ORACLES
        .iter()
        .filter(move |row| row.files.iter().any(|about| is_about(about)))
        .filter_map(|row| row.check)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each check has a row, each name is one row's, and each row says what it judges and
    /// what it cannot.
    #[test]
    fn each_check_has_a_row() {
        for check in Check::ALL {
            let rows = ORACLES.iter().filter(|row| row.check == Some(*check)).count();
            assert_eq!(rows, 1, "{check:?}");
        }
        for row in ORACLES {
            assert_eq!(ORACLES.iter().filter(|other| other.name == row.name).count(), 1);
            assert!(!row.judges.is_empty() && !row.cannot.is_empty() && !row.files.is_empty());
            assert_eq!(name_of(&format!("{}: something", row.name)), row.name);
            assert!(row.check.is_none_or(|check| check.word() == row.name), "{}", row.name);
        }
    }

    /// A file leads to the checks that are about it or its folder, and to no others.
    #[test]
    fn files_lead_to_checks() {
        let of = |file: &str| checks_of(file).collect::<Vec<_>>();
        let ring = [Check::Promises, Check::Helpers, Check::Ring, Check::MapRaces];
        assert_eq!(of("kernel/bpf/ringbuf.c"), ring);
        assert!(of("mm/mlock.c").contains(&Check::Memory));
        assert!(of("kernel/bpfilter/x.c").is_empty());
    }
}
