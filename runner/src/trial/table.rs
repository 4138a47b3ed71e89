// SPDX-License-Identifier: MIT OR Apache-2.0
//! What drives the code that a series touches: one table from paths to probes,
//! kselftests and the fuzzer.
//!
//! A row says which files it is about and why what it names reaches them. What no row
//! is about is built and booted, and the report says that nothing drives it. kselftests
//! are in here only if those of 6.12 build static for each architecture, run in a guest
//! that has nothing but busybox, and are over within seconds. That is why some are not:
//! `clone3`, `seccomp`, `mqueue` and half of `timers` want libraries, `rseq` and `x86` are
//! not linked statically, and `ptrace/vmaccess` waits half a minute for a deadlock.

/// A row of the table.
#[derive(Debug)]
pub(super) struct Row {
    /// Beginnings of paths; `*` stands for one folder.
    pub(super) paths: &'static [&'static str],
    /// Why this reaches them, for people.
    pub(super) why: &'static str,
    /// Measurements, as a bake-off writes them.
    pub(super) probes: &'static [&'static str],
    /// Folders of tools/testing/selftests, and the tests of them that are run; none named:
    /// all.
    pub(super) kselftests: &'static [(&'static str, &'static str)],
    /// The fuzzer is about this code.
    pub(super) fuzz: bool,
}

/// System calls, mappings, page faults and a BPF program: what every kernel has to do.
const PROCESS: &str = "{probe: build_id, context: process, quick: true}";
const UPROBE: &str = "{probe: build_id, context: process, interface: get-stack-uprobe}";
const STACK_ID: &str = "{probe: build_id, context: process, interface: get-stackid}";
const WRITERS: &str = "{probe: build_id, context: process, stress: mmap-writers, \
                       writer-duty: 25, period-us: 500, quick: true}";
const CROWD: &str = "{probe: build_id, context: process, stress: oversubscribed, period-us: 500}";
const SOFTIRQ: &str = "{probe: build_id, context: softirq}";
const HARDIRQ: &str = "{probe: build_id, context: hardirq, period-us: 1000, quick: true}";
const NMI: &str = "{probe: build_id, context: nmi, period-us: 4000, blocks: 3}";
const FAULT: &str = "{probe: build_id, context: page-fault}";
const FAULT_LOCKED: &str = "{probe: build_id, context: page-fault-locked}";
/// A report printed under the run queue's lock can raise others: boots of its own.
const RQ_LOCK: &str = "{probe: build_id, context: rq-lock, profiles: [lockdep], own-boot: true}";
const FLIP: &str = "{probe: flip, context: process}";

const PTRACE: (&str, &str) = ("ptrace", "get_set_sud get_syscall_info peeksiginfo");
const SIGALTSTACK: (&str, &str) = ("sigaltstack", "");

/// What every series gets.
pub(super) const ALWAYS: Row = Row {
    paths: &[""],
    why: "every kernel is booted and does system calls, mappings and a BPF program",
    probes: &[PROCESS],
    kselftests: &[],
    fuzz: false,
};

/// All rows; a file may be in several.
pub(super) const ROWS: &[Row] = &[
    Row {
        paths: &[
            "mm/",
            "include/linux/mm",
            "include/linux/vm",
            "include/linux/rmap",
            "include/linux/maple_tree.h",
            "lib/maple_tree.c",
            "arch/*/mm/",
        ],
        why: "page faults, and lookups while another thread maps, unmaps and replaces memory",
        probes: &[WRITERS, FAULT, FAULT_LOCKED, FLIP],
        kselftests: &[("mm", "map_fixed_noreplace mremap_test"), ("mincore", "")],
        fuzz: true,
    },
    Row {
        paths: &[
            "kernel/bpf/",
            "include/linux/bpf",
            "include/linux/filter.h",
            "include/uapi/linux/bpf.h",
            "lib/buildid.c",
            "include/linux/buildid.h",
            "arch/*/net/",
        ],
        why: "BPF programs in every context that walk stacks and look up build ids",
        probes: &[SOFTIRQ, HARDIRQ, NMI, UPROBE, STACK_ID, FLIP],
        kselftests: &[],
        fuzz: true,
    },
    Row {
        paths: &[
            "kernel/events/",
            "include/linux/perf",
            "include/uapi/linux/perf_event.h",
            "arch/*/events/",
            "drivers/perf/",
        ],
        why: "perf events that sample by timer, NMI, page fault and breakpoint",
        probes: &[HARDIRQ, NMI, FAULT, UPROBE],
        kselftests: &[("perf_events", "")],
        fuzz: true,
    },
    Row {
        paths: &[
            "kernel/trace/",
            "kernel/kprobes.c",
            "include/linux/kprobes.h",
            "include/linux/uprobes.h",
            "include/linux/trace",
            "include/linux/ftrace.h",
        ],
        why: "programs on kprobes, uprobes and tracepoints",
        probes: &[SOFTIRQ, UPROBE, RQ_LOCK],
        kselftests: &[],
        fuzz: true,
    },
    Row {
        paths: &[
            "kernel/locking/",
            "kernel/sched/",
            "kernel/rcu/",
            "kernel/softirq.c",
            "kernel/irq_work.c",
            "include/linux/lockdep",
            "include/linux/mutex",
            "include/linux/rwsem",
            "include/linux/rcu",
            "include/linux/sched",
            "include/linux/spinlock",
        ],
        why: "mmap_lock held and waited for, more threads than CPUs, and work under the run \
              queue's lock, with lockdep looking",
        probes: &[WRITERS, CROWD, HARDIRQ, RQ_LOCK],
        kselftests: &[("membarrier", "")],
        fuzz: false,
    },
    Row {
        paths: &["kernel/futex/", "include/linux/futex.h", "include/uapi/linux/futex.h"],
        why: "the kernel's own tests of futexes",
        probes: &[],
        kselftests: &[(
            "futex",
            "functional/futex_wait_wouldblock functional/futex_wait_timeout \
             functional/futex_requeue_pi_mismatched_ops",
        )],
        fuzz: false,
    },
    Row {
        paths: &[
            "kernel/signal.c",
            "kernel/fork.c",
            "kernel/exit.c",
            "kernel/ptrace.c",
            "kernel/pid",
            "fs/pidfs.c",
            "include/linux/signal",
            "include/linux/ptrace.h",
            "arch/*/kernel/signal",
            "arch/*/kernel/ptrace",
        ],
        why: "the kernel's own tests of ptrace, pidfds and alternate signal stacks",
        probes: &[],
        kselftests: &[
            PTRACE,
            SIGALTSTACK,
            ("pidfd", "pidfd_open_test pidfd_poll_test pidfd_wait pidfd_getfd_test"),
        ],
        fuzz: false,
    },
    Row {
        paths: &["fs/proc/", "include/linux/proc_fs.h"],
        why: "the kernel's own tests of /proc, maps while they change among them",
        probes: &[WRITERS],
        kselftests: &[("proc", "")],
        fuzz: false,
    },
    Row {
        paths: &["fs/", "include/linux/fs", "include/linux/namei.h", "include/linux/dcache.h"],
        why: "files that are run, mapped and replaced, and the kernel's own tests of file locks",
        probes: &[FLIP],
        kselftests: &[("filelock", "")],
        fuzz: false,
    },
    Row {
        paths: &[
            "kernel/time/",
            "include/linux/hrtimer",
            "include/linux/timer",
            "drivers/clocksource/",
        ],
        why: "timers that fire every millisecond and sample what they interrupt, and sleeps on \
              every clock",
        probes: &[HARDIRQ, SOFTIRQ],
        kselftests: &[("timers", "nanosleep")],
        fuzz: false,
    },
    Row {
        paths: &["arch/*/entry/", "arch/*/kernel/", "arch/*/include/", "kernel/entry/"],
        why: "entries from user space by system call, page fault, interrupt and NMI",
        probes: &[FAULT, HARDIRQ, NMI],
        kselftests: &[PTRACE, SIGALTSTACK, ("syscall_user_dispatch", "")],
        fuzz: false,
    },
];

/// Whether a path begins as the pattern says.
pub(super) fn begins(pattern: &str, path: &str) -> bool {
    match pattern.split_once("*/") {
        None => path.starts_with(pattern),
        Some((before, after)) => path
            .strip_prefix(before)
            .and_then(|rest| rest.split_once('/'))
            .is_some_and(|(folder, rest)| !folder.is_empty() && begins(after, rest)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Rows that share a folder of kselftests run the same tests of it: its command is one
    /// condition.
    #[test]
    fn folders_are_run_one_way() {
        let mut known: BTreeMap<&str, &str> = BTreeMap::new();
        for (folder, tests) in ROWS.iter().flat_map(|row| row.kselftests) {
            assert_eq!(known.entry(folder).or_insert(tests), tests, "{folder}");
        }
        assert!(known.len() > 5);
    }

    /// A star is one folder; other patterns are beginnings.
    #[test]
    fn patterns() {
        for (pattern, path, is) in [
            ("mm/", "mm/mmap.c", true),
            ("mm/", "arch/x86/mm/fault.c", false),
            ("arch/*/mm/", "arch/x86/mm/fault.c", true),
            ("arch/*/mm/", "arch/mm/fault.c", false),
            ("include/linux/mm", "include/linux/mmap_lock.h", true),
            ("", "anything", true),
        ] {
            assert_eq!(begins(pattern, path), is, "{pattern} {path}");
        }
    }
}
