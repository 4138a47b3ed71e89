// SPDX-License-Identifier: MIT OR Apache-2.0
//! `perf_event_open(2)`: sampling events without a ring buffer, read by the
//! BPF program attached to them. No buffer, no wake-up that would disturb.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use super::{c_string, check};

/// `struct perf_event_attr` as of `PERF_ATTR_SIZE_VER5`, known to every kernel
/// since 4.1; `sample_max_stack` since 4.8.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
    config2: u64,
    branch_sample_type: u64,
    sample_regs_user: u64,
    sample_stack_user: u32,
    clockid: i32,
    sample_regs_intr: u64,
    aux_watermark: u32,
    sample_max_stack: u16,
    reserved: u16,
}

const PERF_TYPE_HARDWARE: u32 = 0;
const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_COUNT_HW_CPU_CYCLES: u64 = 0;
const PERF_COUNT_SW_CPU_CLOCK: u64 = 0;
const PERF_COUNT_SW_PAGE_FAULTS: u64 = 2;
const PERF_COUNT_SW_PAGE_FAULTS_MIN: u64 = 5;
/// Where the kernel says which type of event user probes are.
const UPROBE_TYPE: &str = "/sys/bus/event_source/devices/uprobe/type";
const FLAG_DISABLED: u64 = 1;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
const PERF_EVENT_IOC_ENABLE: u64 = 0x2400;
const PERF_EVENT_IOC_DISABLE: u64 = 0x2401;
const PERF_EVENT_IOC_SET_BPF: u64 = 0x4004_2408;

/// The system call, for this module and for the programs of the fuzzer. `flags` are
/// `PERF_FLAG_*`; descriptors are always closed on exec.
///
/// # Safety
/// `attributes` state their size, and so many bytes are valid for reads; so is what
/// addresses in them point to.
pub(super) unsafe fn perf_event_open_raw(
    attributes: *const libc::c_void,
    thread: libc::pid_t,
    cpu: libc::c_int,
    group: libc::c_int,
    flags: libc::c_ulong,
) -> libc::c_long {
    let flags = flags | PERF_FLAG_FD_CLOEXEC;
    // SAFETY: as the caller promises.
    unsafe { libc::syscall(libc::SYS_perf_event_open, attributes, thread, cpu, group, flags) }
}

/// One perf event, closed when dropped.
#[derive(Debug)]
pub struct Event {
    file: File,
}

impl Event {
    /// The CPU clock of one thread, as an hrtimer that fires every `period_ns`
    /// of its run time. Off until enabled, as all of these are; `precise_ip` is
    /// 0 (with more, `bpf_get_stack` wants a whole call chain: EPROTO).
    pub fn cpu_clock(thread: u32, period_ns: u64) -> io::Result<Self> {
        Self::software(thread, PERF_COUNT_SW_CPU_CLOCK, period_ns)
    }

    /// Every page fault of one thread, told before the kernel takes a lock.
    pub fn page_faults(thread: u32) -> io::Result<Self> {
        Self::software(thread, PERF_COUNT_SW_PAGE_FAULTS, 1)
    }

    /// Every page fault of one thread that needed no device, told at the end of
    /// `handle_mm_fault()`, where the lock is still held.
    pub fn page_faults_served(thread: u32) -> io::Result<Self> {
        Self::software(thread, PERF_COUNT_SW_PAGE_FAULTS_MIN, 1)
    }

    /// The CPU's cycles in one thread, of the PMU: an interrupt every `period` of
    /// them. `None`: only count.
    pub fn cycles(thread: u32, period: Option<u64>) -> io::Result<Self> {
        Self::open(
            thread,
            Attributes {
                kind: PERF_TYPE_HARDWARE,
                config: PERF_COUNT_HW_CPU_CYCLES,
                sample_period: period.unwrap_or(0),
                ..Attributes::default()
            },
        )
    }

    /// One thread's passing of an instruction of a file, by its offset.
    pub fn user_probe(thread: u32, path: &str, offset: u64) -> io::Result<Self> {
        let kind = std::fs::read_to_string(UPROBE_TYPE)?;
        let kind = kind.trim_end().parse().map_err(io::Error::other)?;
        let path = c_string(path)?;
        Self::open(
            thread,
            Attributes {
                kind,
                sample_period: 1,
                config1: path.as_ptr() as u64,
                config2: offset,
                ..Attributes::default()
            },
        )
    }

    fn software(thread: u32, config: u64, period: u64) -> io::Result<Self> {
        Self::open(
            thread,
            Attributes {
                kind: PERF_TYPE_SOFTWARE,
                config,
                sample_period: period,
                ..Attributes::default()
            },
        )
    }

    fn open(thread: u32, attributes: Attributes) -> io::Result<Self> {
        let attributes = Attributes {
            size: u32::try_from(size_of::<Attributes>()).unwrap_or(0),
            flags: FLAG_DISABLED,
            ..attributes
        };
        // SAFETY: the attributes are valid for reads and state their own size; a
        // path in them is a live string of the caller's.
        let fd = check(unsafe {
            perf_event_open_raw((&raw const attributes).cast(), thread.cast_signed(), -1, -1, 0)
        })?;
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the kernel has just handed this descriptor to us alone.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { file: fd.into() })
    }

    fn ioctl(&self, request: u64, argument: i32) -> io::Result<()> {
        // SAFETY: the three requests used here take an integer, no memory. The
        // request's type differs between C libraries, its 32 bits do not.
        check(libc::c_long::from(unsafe {
            libc::ioctl(self.file.as_raw_fd(), request as _, argument)
        }))?;
        Ok(())
    }

    /// Runs `program` at each overflow.
    pub fn attach(&self, program: impl AsFd) -> io::Result<()> {
        self.ioctl(PERF_EVENT_IOC_SET_BPF, program.as_fd().as_raw_fd())
    }

    /// Starts counting.
    pub fn enable(&self) -> io::Result<()> {
        self.ioctl(PERF_EVENT_IOC_ENABLE, 0)
    }

    /// Stops counting; when it returns, no handler runs any more.
    pub fn disable(&self) -> io::Result<()> {
        self.ioctl(PERF_EVENT_IOC_DISABLE, 0)
    }

    /// What was counted since the event was opened (CPU clock: nanoseconds).
    pub fn count(&self) -> io::Result<u64> {
        let mut count = [0; 8];
        (&self.file).read_exact(&mut count)?;
        Ok(u64::from_ne_bytes(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel reads the attributes by offset: 112 bytes, the period at 16.
    #[test]
    fn attributes_have_the_kernels_layout() {
        assert_eq!(size_of::<Attributes>(), 112);
        assert_eq!(std::mem::offset_of!(Attributes, sample_period), 16);
        assert_eq!(std::mem::offset_of!(Attributes, flags), 40);
        assert_eq!(std::mem::offset_of!(Attributes, sample_max_stack), 108);
    }
}
