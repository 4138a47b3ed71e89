// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words of operations: what events count, what maps are, what is mapped.

use super::value::{flags, words};

words! {
    /// What a perf event counts.
    EventKind {
        /// CPU clock, by an hrtimer.
        CpuClock "cpu-clock",
        /// Task clock.
        TaskClock "task-clock",
        /// Page faults.
        PageFaults "page-faults",
        /// Minor ones.
        MinorFaults "minor-faults",
        /// Context switches.
        Switches "context-switches",
        /// Migrations.
        Migrations "cpu-migrations",
        /// Alignment faults.
        Alignment "alignment-faults",
        /// Nothing; BPF writes to it.
        BpfOutput "bpf-output",
        /// Nothing.
        Dummy "dummy",
        /// Cycles, where there is a PMU.
        Cycles "cycles",
        /// A breakpoint on a page of the arena.
        Breakpoint "breakpoint",
        /// A tracepoint: entry to a system call.
        SysEnter "tp-sys-enter",
        /// A tracepoint: a switch, under the run queue's lock.
        SchedSwitch "tp-sched-switch",
        /// A tracepoint: a soft interrupt.
        Softirq "tp-softirq-entry",
        /// A tracepoint: a file's locks are looked at.
        FileLock "tp-file-lock",
        /// A kprobe on `find_vma` or its like.
        Kprobe "kprobe",
        /// A uprobe on the sampled code.
        Uprobe "uprobe",
        /// A uprobe on a file that is mapped, and not run.
        UprobeElf "uprobe-elf",
        /// A kind nobody has.
        Unknown "unknown",
    }
    /// How often an event fires.
    Period {
        /// It only counts.
        Never "never",
        /// Each time.
        Each "1",
        /// Now and then.
        Few "100",
        /// Some microseconds of a clock.
        Short "20000",
        /// A millisecond of a clock.
        Long "1000000",
        /// More than there can be.
        Huge "huge",
    }
    /// Whose events are counted. What is done to the helper's or to another CPU's is done there,
    /// and the thread waits for that CPU. They are as many as the others all the same: that
    /// half of the events are the thread's own had no clear gain (docs/fuzz.md).
    Target {
        /// The thread's own.
        Own "self",
        /// The helper thread's.
        Helper "helper",
        /// Everybody's on CPU 0.
        Cpu0 "cpu0",
        /// Everybody's on CPU 1.
        Cpu1 "cpu1",
        /// The thread's own, on CPU 0 only.
        OwnCpu0 "self-cpu0",
        /// Nobody's.
        Nobody "nobody",
    }
    /// ioctls of perf events.
    EventIoctl {
        /// `ENABLE`
        Enable "enable",
        /// `DISABLE`
        Disable "disable",
        /// `ENABLE` for the group.
        EnableGroup "enable-group",
        /// `DISABLE` for the group.
        DisableGroup "disable-group",
        /// `REFRESH`
        Refresh "refresh",
        /// `RESET`
        Reset "reset",
        /// `PERIOD`
        Period "period",
        /// `PAUSE_OUTPUT`
        Pause "pause",
        /// `PAUSE_OUTPUT`, the other way.
        Resume "resume",
        /// `ID`
        Id "id",
        /// `SET_FILTER`
        Filter "filter",
        /// `QUERY_BPF`
        QueryBpf "query-bpf",
        /// `QUERY_BPF` with room for one.
        QueryOne "query-bpf-one",
        /// `MODIFY_ATTRIBUTES`
        Modify "modify",
        /// None of them.
        Unknown "unknown",
    }
    /// Kinds of BPF maps.
    MapKind {
        /// Stacks as addresses.
        Stacks "stack-trace",
        /// Stacks as build ids.
        BuildIds "stack-trace-build-id",
        /// An array.
        Array "array",
        /// A hash.
        Hash "hash",
        /// A hash per CPU.
        PerCpuHash "percpu-hash",
        /// A hash that forgets.
        LruHash "lru-hash",
        /// A ring buffer.
        Ringbuf "ringbuf",
        /// Storage of a task.
        TaskStorage "task-storage",
        /// Perf events.
        Events "perf-event-array",
        /// Programs.
        Programs "prog-array",
        /// A queue.
        Queue "queue",
        /// A Bloom filter.
        Bloom "bloom-filter",
    }
    /// Kinds of BPF programs.
    ProgKind {
        /// `BPF_PROG_TYPE_PERF_EVENT`
        PerfEvent "perf-event",
        /// `BPF_PROG_TYPE_RAW_TRACEPOINT`
        RawTp "raw-tracepoint",
        /// `BPF_PROG_TYPE_TRACEPOINT`
        Tracepoint "tracepoint",
        /// `BPF_PROG_TYPE_KPROBE`
        Kprobe "kprobe",
        /// The same, and it may sleep: for uprobes only.
        Sleepable "sleepable",
        /// `BPF_PROG_TYPE_KPROBE` for links to several uprobes.
        UprobeMulti "uprobe-multi",
        /// `BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE`
        RawTpWritable "raw-tracepoint-writable",
    }
    /// Places where programs are called from one that is always attached, for
    /// attaching takes as long as RCU does.
    Place {
        /// A file's locks are looked at: a system call, without any lock.
        FileLock "file-lock",
        /// A switch, under the run queue's lock.
        SchedSwitch "sched-switch",
        /// A signal is sent: interrupts are off, and a lock is held.
        Signal "signal",
    }
    /// Whose uprobes a link is to.
    Whose {
        /// Everybody's.
        All "all",
        /// The own process's.
        Own "self",
        /// A process's that there is not.
        Nobody "nobody",
    }
    /// Where in a file the uprobes of a link are.
    Where {
        /// In the sampled code.
        Code "code",
        /// There, and in no code.
        Both "both",
        /// Behind the file's end.
        Beyond "beyond",
    }
    /// Raw tracepoints that can be attached to.
    RawTp {
        /// A system call's entry.
        SysEnter "sys_enter",
        /// A switch.
        SchedSwitch "sched_switch",
        /// A soft interrupt.
        Softirq "softirq_entry",
        /// A file's locks are looked at.
        FileLock "locks_get_lock_context",
        /// A task ends.
        Exit "sched_process_exit",
        /// None.
        Missing "no_such_tracepoint",
    }
    /// What a page of the arena is mapped to.
    Backing {
        /// Nothing but zeroes.
        Anonymous "anonymous",
        /// An ELF file.
        ElfA "elf-a",
        /// Another, with another build id.
        ElfB "elf-b",
        /// One whose headers lie.
        ElfBad "elf-bad",
        /// One with a build id of eight bytes.
        ElfShort "elf-short",
        /// A file that is no ELF.
        Text "text",
        /// An ELF file opened for this mapping and closed at once.
        ElfFresh "elf-fresh",
        /// Shared zeroes.
        Shared "shared",
    }
    /// Protections.
    Protection {
        /// None.
        None "none",
        /// Read.
        Read "r",
        /// Read and write.
        ReadWrite "rw",
        /// Read and execute.
        ReadExec "rx",
    }
    /// Advice.
    Advice {
        /// Forget the pages.
        DontNeed "dontneed",
        /// Bring them in.
        WillNeed "willneed",
        /// They may go.
        Free "free",
        /// They may go first.
        Cold "cold",
        /// Huge pages.
        Huge "hugepage",
        /// Not in children.
        DontFork "dontfork",
        /// Page them out.
        PageOut "pageout",
        /// Fault them in.
        Populate "populate-read",
        /// As they are read by default.
        Normal "normal",
        /// Read in no order.
        Random "random",
        /// Read one after the other.
        Sequential "sequential",
        /// Forget them and what is behind them.
        Remove "remove",
        /// In children again.
        DoFork "dofork",
        /// Not in core dumps.
        DontDump "dontdump",
        /// In core dumps again.
        DoDump "dodump",
        /// Zeroes in children.
        WipeOnFork "wipeonfork",
        /// The same in children again.
        KeepOnFork "keeponfork",
        /// Fault them in to be written to.
        PopulateWrite "populate-write",
        /// Forget them, locked or not.
        DontNeedLocked "dontneed-locked",
    }
    /// What makes events fire.
    How {
        /// A system call.
        Syscall "syscall",
        /// A read from user space.
        Load "load",
        /// A write from user space.
        Store "store",
        /// Some time in user space.
        Spin "spin",
        /// Yielding the CPU.
        Yield "yield",
        /// A short sleep.
        Sleep "sleep",
        /// A read by the kernel.
        Copy "copy",
        /// A signal to the process itself.
        Signal "signal",
    }
    /// What a child does.
    Child {
        /// Ends at once.
        Exit "exit",
        /// Runs a helper.
        Exec "exec",
        /// Maps and unmaps the arena.
        Map "map",
        /// Makes system calls.
        Syscalls "syscalls",
        /// Kills itself.
        Die "die",
    }
    /// What the helper thread does meanwhile.
    Aside {
        /// Maps a file over the page, again and again.
        Map "map",
        /// Protects and unprotects it.
        Protect "protect",
        /// Reads it.
        Load "load",
        /// Makes system calls with it on the stack.
        Syscall "syscall",
        /// Drops its pages.
        Drop "drop",
    }
    /// A question to the kernel about an object.
    Ask {
        /// `BPF_OBJ_GET_INFO_BY_FD`
        Info "info",
        /// `BPF_PROG_QUERY`-like: `BPF_TASK_FD_QUERY`.
        Task "task-fd",
        /// `BPF_PROG_GET_NEXT_ID` and `GET_FD_BY_ID`.
        Next "next-id",
        /// `BPF_PROG_TEST_RUN`
        Run "test-run",
    }
    /// A check: a short play whose every answer is known (see the module `oracle`).
    Check {
        /// What reading events answers.
        Counts "counts",
        /// What their buffers hold.
        Records "records",
        /// What they say of what tasks do.
        Sideband "sideband",
        /// Breakpoints that are hit.
        Breakpoints "breakpoints",
        /// Answers that the interface promises.
        Promises "promises",
        /// What may not be done.
        Access "access",
        /// Perf buffers as mappings, and what tells that there is something to read.
        Wakeups "wakeups",
        /// What the verifier says of registers.
        Bounds "bounds",
        /// What BPF objects tell about themselves.
        Infos "infos",
        /// What BPF iterators go over.
        Iterators "iterators",
        /// What helpers of BPF programs answer.
        Helpers "helpers",
        /// Timers in maps.
        Timers "timers",
        /// Elements of maps.
        Maps "maps",
        /// BPF ring buffers.
        Ring "ring",
        /// Mappings.
        Memory "memory",
        /// Hits of probes.
        Hits "hits",
        /// Tasks with events of their own.
        Lives "lives",
        /// Two threads at the same events.
        Races "races",
        /// Two threads at the same map.
        MapRaces "map-races",
        /// Two threads at the same mappings.
        MemoryRaces "memory-races",
    }
    /// Operations on a map's elements.
    MapCall {
        /// Look up.
        Lookup "lookup" * 2,
        /// Update.
        Update "update" * 2,
        /// Delete.
        Delete "delete" * 2,
        /// The next key.
        Next "next-key" * 2,
        /// Look up and delete.
        Take "lookup-and-delete" * 2,
        /// Several at once.
        Batch "lookup-batch" * 2,
        /// No more changes from user space.
        Freeze "freeze",
    }
}

flags! {
    /// Bits of a perf event's attributes.
    EventFlags {
        /// Off until it is enabled.
        disabled "disabled",
        /// Children have it too.
        inherit "inherit",
        /// Always on the CPU.
        pinned "pinned",
        /// Alone on the PMU.
        exclusive "exclusive",
        /// Not in the kernel.
        exclude_kernel "exclude-kernel",
        /// Not in user space.
        exclude_user "exclude-user",
        /// Records of mappings.
        mmap "mmap",
        /// With build ids.
        build_id "build-id",
        /// Records of names.
        comm "comm",
        /// Records of tasks.
        task "task",
        /// The period is a frequency.
        freq "freq",
        /// Ids in all records.
        sample_id_all "sample-id-all",
        /// On from exec on.
        enable_on_exec "enable-on-exec",
        /// Removed on exec.
        remove_on_exec "remove-on-exec",
        /// A signal at each sample.
        sigtrap "sigtrap",
        /// Records of BPF programs.
        bpf_event "bpf-event",
        /// Written from the end.
        write_backward "write-backward",
        /// Records of switches.
        context_switch "context-switch",
        /// Counters of children are read apart.
        inherit_stat "inherit-stat",
        /// Not in a hypervisor.
        exclude_hv "exclude-hv" / 4,
        /// Not in the idle task.
        exclude_idle "exclude-idle" / 4,
        /// Woken up by bytes, not by events.
        watermark "watermark" / 4,
        /// Records of data's mappings, too.
        mmap_data "mmap-data" / 4,
        /// Call chains without the kernel's side.
        exclude_callchain_kernel "exclude-callchain-kernel" / 4,
        /// Call chains without the user's side.
        exclude_callchain_user "exclude-callchain-user" / 4,
        /// Names that come by exec are told.
        comm_exec "comm-exec" / 4,
        /// Another clock, CLOCK_REALTIME.
        use_clockid "use-clockid" / 4,
        /// Records of symbols.
        ksymbol "ksymbol" / 4,
        /// Records of code that changes.
        text_poke "text-poke" / 4,
    }
    /// What a sample holds.
    SampleFlags {
        /// The address.
        ip "ip",
        /// The thread.
        tid "tid",
        /// The time.
        time "time",
        /// The address of memory.
        addr "addr",
        /// All counters of the group.
        read "read",
        /// Both stacks.
        callchain "callchain",
        /// Registers of user space.
        regs "regs-user",
        /// A copy of the user's stack.
        stack "stack-user",
        /// The CPU.
        cpu "cpu",
        /// The period.
        period "period",
        /// The tracepoint's data.
        raw "raw",
    }
    /// Flags of a map.
    MapFlags {
        /// Not allocated beforehand.
        no_prealloc "no-prealloc",
        /// Mappable.
        mmapable "mmapable",
        /// Only programs write.
        rdonly "rdonly",
        /// Zero seed.
        zero_seed "zero-seed",
    }
}

impl EventKind {
    /// Whether it is a probe in user space: to take one away waits for a grace period of RCU
    /// Tasks Trace while nobody else opens a probe or a tracepoint (`event_mutex`).
    #[must_use]
    pub fn is_uprobe(self) -> bool {
        matches!(self, Self::Uprobe | Self::UprobeElf)
    }

    /// Whether opening and closing one waits for RCU, or patches the kernel.
    #[must_use]
    pub fn is_slow(self) -> bool {
        match self {
            Self::SysEnter
            | Self::SchedSwitch
            | Self::Softirq
            | Self::FileLock
            | Self::Kprobe
            | Self::Uprobe
            | Self::UprobeElf
            | Self::Breakpoint => true,
            Self::CpuClock
            | Self::TaskClock
            | Self::PageFaults
            | Self::MinorFaults
            | Self::Switches
            | Self::Migrations
            | Self::Alignment
            | Self::BpfOutput
            | Self::Dummy
            | Self::Cycles
            | Self::Unknown => false,
        }
    }
}
