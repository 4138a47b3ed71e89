// SPDX-License-Identifier: MIT OR Apache-2.0
//! Perf events of fuzz programs: from an operation's words to attributes.

use std::ffi::CStr;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use crate::op::{EventFlags, EventIoctl, EventKind, Page, Period, SampleFlags, Target};
use crate::sys::call::{self, Answer, Attributes, Part};
use crate::sys::maps;

const SIZE: u32 = 128;
/// `PERF_EVENT_IOC_QUERY_BPF`
const QUERY_BPF: u32 = 0xc008_240a;
/// `PERF_EVENT_IOC_SET_BPF`
pub const SET_BPF: u32 = 0x4004_2408;

/// Shortest period of a clock in nanoseconds. A sample takes some 50 us of an
/// emulated CPU with the lock validator: with a period like that the guest does
/// nothing else any more.
pub const SHORTEST: u64 = 250_000;

/// Numbers of the tracepoints that programs may use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tracepoints {
    pub(crate) sys_enter: Option<u64>,
    pub(crate) sched_switch: Option<u64>,
    pub(crate) softirq: Option<u64>,
    pub(crate) file_lock: Option<u64>,
}

impl Tracepoints {
    /// As tracefs tells them.
    pub fn read() -> Self {
        Self {
            sys_enter: tracepoint("raw_syscalls/sys_enter"),
            sched_switch: tracepoint("sched/sched_switch"),
            softirq: tracepoint("irq/softirq_entry"),
            file_lock: tracepoint(FILE_LOCK),
        }
    }
}

/// The number of a tracepoint.
fn tracepoint(name: &str) -> Option<u64> {
    ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"].iter().find_map(|top| {
        fs::read_to_string(format!("{top}/events/{name}/id")).ok()?.trim().parse().ok()
    })
}

/// The number of a PMU.
pub fn pmu(name: &str) -> Option<u32> {
    fs::read_to_string(format!("/sys/bus/event_source/devices/{name}/type"))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Where in the file of this program uprobes are: in the loop that triggers turn.
/// 0 if that cannot be told.
#[must_use]
pub fn uprobe_at() -> u64 {
    let address = crate::sys::trigger::spin_address();
    maps::own().iter().find_map(|area| area.file_offset(address)).unwrap_or(0)
}

/// The idle events, of a thread that does nothing: were they of the thread that
/// runs programs, each turning on of its events would turn them on too, and each
/// switch would have to deal with them.
pub fn keepers(program: RawFd) -> std::io::Result<Vec<OwnedFd>> {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("keeper".into()).spawn(move || {
        let _ = tell.send(idle_events(program));
        loop {
            std::thread::park();
        }
    })?;
    told.recv().map_err(std::io::Error::other)
}

fn idle_events(program: RawFd) -> Vec<OwnedFd> {
    let software = [0_u64, 1, 2, 3, 4, 5, 6, 7, 9, 10].map(|config| (1, config));
    let tracepoints = KEPT.into_iter().filter_map(|name| Some((2, tracepoint(name)?)));
    let kprobe = pmu("kprobe").map(|kind| (kind, 0));
    let with_program = tracepoint(FILE_LOCK);
    software
        .into_iter()
        .chain(tracepoints)
        .chain(kprobe)
        .filter_map(|(kind, config)| {
            let mut attributes = Attributes::default()
                .word(0, kind)
                .word(4, SIZE)
                .double(8, config)
                .double(16, 1 << 40)
                .double(40, 1);
            if kind > 2 {
                attributes = attributes.input(56, PROBED.to_bytes_with_nul());
            }
            let event = call::perf_event_open(&attributes, 0, -1, None).ok()?;
            if kind == 2 && Some(config) == with_program {
                let _ = call::ioctl(event.as_fd(), SET_BPF, program.into());
            }
            Some(event)
        })
        .collect()
}

/// The function kprobes are on: on the way of a signal to a process, which programs send
/// themselves. It is in another file than its caller: `group_send_sig_info()` and
/// `do_send_sig_info()`, of which one calls the other, gcc puts into their callers as it
/// likes (the first where there is KASAN, the second where there is not), and no probe is
/// hit then.
pub const PROBED: &std::ffi::CStr = c"pid_task";

/// Tracepoints that have an idle event. The one of a single system call is the
/// second of `sys_enter`, and costs next to nothing there: a program, even one
/// that does nothing, would cost each system call more than its own time.
const KEPT: [&str; 7] = [
    "raw_syscalls/sys_enter",
    "syscalls/sys_enter_getppid",
    "sched/sched_switch",
    "sched/sched_process_exit",
    "irq/softirq_entry",
    FILE_LOCK,
    "signal/signal_generate",
];

const FILE_LOCK: &str = "filelock/locks_get_lock_context";

/// Those of them that nothing else of ours is on.
pub const ALONE: [&std::ffi::CStr; 2] = [c"sched_process_exit", c"softirq_entry"];

/// What is opened.
pub struct Open<'a> {
    pub event: EventKind,
    pub period: Period,
    pub target: Target,
    pub flags: EventFlags,
    pub sample: SampleFlags,
    pub group: Option<BorrowedFd<'a>>,
    pub page: Page,
    pub helper: i32,
    pub kprobes: Option<u32>,
    pub uprobes: Option<u32>,
    pub uprobe_at: u64,
    pub elf: &'a CStr,
    pub tracepoints: Tracepoints,
}

/// `perf_event_open` of a program's event.
pub fn open(what: &Open<'_>) -> Answer<OwnedFd> {
    let Open { event, period, target, flags, sample, group, page, helper, .. } = what;
    let uprobe_at = &what.uprobe_at;
    let (kind, config) = number(what)?;
    let is_clock = matches!(event, EventKind::CpuClock | EventKind::TaskClock);
    let mut every: u64 = match period {
        Period::Never => 0,
        Period::Huge => 1 << 62,
        other => other.word().parse().unwrap_or(0),
    };
    if is_clock && every > 0 {
        every = every.max(SHORTEST);
    }
    let mut flags = *flags;
    // As a frequency the numbers would mean something else.
    if flags.freq {
        every = every.min(4000);
    }
    // Cycles come by the hundred million.
    if *event == EventKind::Cycles && every > 0 && !flags.freq {
        every = every.max(100_000);
    }
    if every == 0 {
        flags.freq = false;
    }
    let mut attributes = Attributes::default()
        .word(0, kind)
        .word(4, SIZE)
        .double(8, config)
        .double(16, every)
        .double(24, sample_bits(*sample))
        .double(32, if flags.inherit { 0 } else { 0b1111 })
        .double(40, flag_bits(flags))
        .word(48, 1);
    if sample.regs {
        attributes = attributes.double(80, 0xff);
    }
    if sample.stack {
        attributes = attributes.word(88, 512);
    }
    let path = c"/proc/self/exe";
    match event {
        EventKind::Breakpoint => {
            attributes = attributes
                .word(52, 3) // HW_BREAKPOINT_RW
                .double(56, Part::new(page.0, 1).address())
                .double(64, 4);
        }
        EventKind::Kprobe => attributes = attributes.input(56, PROBED.to_bytes_with_nul()),
        EventKind::Uprobe => {
            attributes = attributes.input(56, path.to_bytes_with_nul()).double(64, *uprobe_at);
        }
        EventKind::UprobeElf => {
            let at = uprobe_in_elf(page.0);
            attributes = attributes.input(56, what.elf.to_bytes_with_nul()).double(64, at);
        }
        _ => {}
    }
    let (thread, cpu) = match target {
        Target::Own => (0, -1),
        Target::Helper => (*helper, -1),
        Target::Cpu0 => (-1, 0),
        Target::Cpu1 => (-1, 1),
        Target::OwnCpu0 => (0, 0),
        Target::Nobody => (-1, -1),
    };
    call::perf_event_open(&attributes, thread, cpu, *group)
}

/// Where in a mapped file a uprobe is: in one of the pages that programs map first.
#[must_use]
pub fn uprobe_in_elf(page: u8) -> u64 {
    4096 * u64::from(page % 8) + 256
}

/// Type and config.
fn number(what: &Open<'_>) -> Answer<(u32, u64)> {
    let tracepoint = |id: Option<u64>| id.map(|id| (2, id)).ok_or(libc::ENOENT);
    let Tracepoints { sys_enter, sched_switch, softirq, file_lock } = what.tracepoints;
    Ok(match what.event {
        EventKind::CpuClock => (1, 0),
        EventKind::TaskClock => (1, 1),
        EventKind::PageFaults => (1, 2),
        EventKind::Switches => (1, 3),
        EventKind::Migrations => (1, 4),
        EventKind::MinorFaults => (1, 5),
        EventKind::Alignment => (1, 7),
        EventKind::Dummy => (1, 9),
        EventKind::BpfOutput => (1, 10),
        EventKind::Cycles => (0, 0),
        EventKind::Breakpoint => (5, 0),
        EventKind::SysEnter => tracepoint(sys_enter)?,
        EventKind::SchedSwitch => tracepoint(sched_switch)?,
        EventKind::Softirq => tracepoint(softirq)?,
        EventKind::FileLock => tracepoint(file_lock)?,
        EventKind::Kprobe => (what.kprobes.ok_or(libc::ENOENT)?, 0),
        EventKind::Uprobe | EventKind::UprobeElf => (what.uprobes.ok_or(libc::ENOENT)?, 0),
        EventKind::Unknown => (77, 7),
    })
}

fn sample_bits(sample: SampleFlags) -> u64 {
    let SampleFlags { ip, tid, time, addr, read, callchain, regs, stack, cpu, period, raw } =
        sample;
    [
        (ip, 0),
        (tid, 1),
        (time, 2),
        (addr, 3),
        (read, 4),
        (callchain, 5),
        (cpu, 7),
        (period, 8),
        (raw, 10),
        (regs, 12),
        (stack, 13),
    ]
    .into_iter()
    .fold(0, |bits, (set, bit)| bits | u64::from(set) << bit)
}

/// Bits of `struct perf_event_attr`: whether each is set, its name, and its place in the word
/// at byte 40.
#[must_use]
pub fn attribute_bits(flags: EventFlags) -> [(bool, &'static str, u32); 30] {
    let EventFlags {
        disabled,
        inherit,
        pinned,
        exclusive,
        exclude_kernel,
        exclude_user,
        mmap,
        build_id,
        comm,
        task,
        freq,
        sample_id_all,
        enable_on_exec,
        remove_on_exec,
        sigtrap,
        bpf_event,
        write_backward,
        context_switch,
        inherit_stat,
        exclude_hv,
        exclude_idle,
        watermark,
        mmap_data,
        exclude_callchain_kernel,
        exclude_callchain_user,
        comm_exec,
        use_clockid,
        ksymbol,
        text_poke,
    } = flags;
    [
        (disabled, "disabled", 0),
        (inherit, "inherit", 1),
        (pinned, "pinned", 2),
        (exclusive, "exclusive", 3),
        (exclude_kernel, "exclude_kernel", 5),
        (exclude_user, "exclude_user", 4),
        (mmap, "mmap", 8),
        (mmap, "mmap2", 23),
        (build_id, "build_id", 34),
        (comm, "comm", 9),
        (task, "task", 13),
        (freq, "freq", 10),
        (sample_id_all, "sample_id_all", 18),
        (enable_on_exec, "enable_on_exec", 12),
        (remove_on_exec, "remove_on_exec", 36),
        (sigtrap, "sigtrap", 37),
        (bpf_event, "bpf_event", 30),
        (write_backward, "write_backward", 27),
        (context_switch, "context_switch", 26),
        (inherit_stat, "inherit_stat", 11),
        (exclude_hv, "exclude_hv", 6),
        (exclude_idle, "exclude_idle", 7),
        (watermark, "watermark", 14),
        (mmap_data, "mmap_data", 17),
        (exclude_callchain_kernel, "exclude_callchain_kernel", 21),
        (exclude_callchain_user, "exclude_callchain_user", 22),
        (comm_exec, "comm_exec", 24),
        (use_clockid, "use_clockid", 25),
        (ksymbol, "ksymbol", 29),
        (text_poke, "text_poke", 33),
    ]
}

fn flag_bits(flags: EventFlags) -> u64 {
    let bits = attribute_bits(flags).into_iter();
    bits.fold(0, |bits, (set, _, bit)| bits | u64::from(set) << bit)
}

/// `PERF_EVENT_IOC_SET_OUTPUT`.
pub(crate) const SET_OUTPUT: u32 = 0x2405;

/// An ioctl of an event.
pub fn ioctl(fd: BorrowedFd<'_>, which: EventIoctl) -> Answer<i64> {
    let mut memory = [0_u64; 16];
    match which {
        EventIoctl::Enable => call::ioctl(fd, 0x2400, 0),
        EventIoctl::Disable => call::ioctl(fd, 0x2401, 0),
        EventIoctl::EnableGroup => call::ioctl(fd, 0x2400, 1),
        EventIoctl::DisableGroup => call::ioctl(fd, 0x2401, 1),
        EventIoctl::Refresh => call::ioctl(fd, 0x2402, 2),
        EventIoctl::Reset => call::ioctl(fd, 0x2403, 0),
        EventIoctl::Pause => call::ioctl(fd, 0x4004_2409, 1),
        EventIoctl::Resume => call::ioctl(fd, 0x4004_2409, 0),
        EventIoctl::Unknown => call::ioctl(fd, 0x24ff, 0),
        EventIoctl::Period => {
            memory[0] = SHORTEST * 2;
            call::ioctl_memory(fd, 0x4008_2404, &mut memory)
        }
        EventIoctl::Id => call::ioctl_memory(fd, 0x8008_2407, &mut memory),
        EventIoctl::Filter => {
            // A filter of tracepoints: the length of a string, in 128 bytes.
            memory[0] = u64::from_ne_bytes(*b"common_p");
            memory[1] = u64::from_ne_bytes(*b"id > 1\0\0");
            call::ioctl_memory(fd, 0x4008_2406, &mut memory)
        }
        EventIoctl::QueryBpf => {
            memory[0] = 16; // ids there is room for
            call::ioctl_memory(fd, QUERY_BPF, &mut memory)
        }
        EventIoctl::QueryOne => {
            memory[0] = 1;
            call::ioctl_memory(fd, QUERY_BPF, &mut memory)
        }
        EventIoctl::Modify => {
            memory[0] = u64::from(SIZE) << 32 | 5;
            call::ioctl_memory(fd, 0x4008_240b, &mut memory)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::value::{Seeded, Value};

    /// Every flag has a bit of its own (`mmap` two).
    #[test]
    fn bits_are_distinct() {
        let all = EventFlags::parse(
            "disabled+inherit+pinned+exclusive+exclude-kernel+exclude-user+mmap+build-id+comm+task\
             +freq+sample-id-all+enable-on-exec+remove-on-exec+sigtrap+bpf-event+write-backward\
             +context-switch+inherit-stat+exclude-hv+exclude-idle+watermark+mmap-data\
             +exclude-callchain-kernel+exclude-callchain-user+comm-exec+use-clockid+ksymbol\
             +text-poke",
        )
        .unwrap();
        assert_eq!(flag_bits(all).count_ones(), 30);
        let mut seen = 0;
        let mut dice = Seeded(3);
        for _ in 0..200 {
            seen |= sample_bits(SampleFlags::roll(&mut dice));
        }
        assert_eq!(seen.count_ones(), 11);
    }
}
