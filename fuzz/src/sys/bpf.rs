// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf(2)`: maps, programs, raw tracepoints. No libbpf: programs come from
//! [`crate::bpf`], attributes are the few fields each command reads.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::memory::Mapping;
use super::{c_string, check};
use crate::bpf::insn::Insn;

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_STACK_TRACE: u32 = 7;
const BPF_F_STACK_BUILD_ID: u32 = 1 << 5;
const BPF_F_MMAPABLE: u32 = 1 << 10;
const BPF_F_SLEEPABLE: u32 = 1 << 4;

/// The system call, for this module and for the programs of the fuzzer.
///
/// # Safety
/// `size` bytes at `attributes` are valid for reads, and for writes if the command
/// answers there; so is what addresses in them point to.
pub(super) unsafe fn bpf_raw(
    command: libc::c_long,
    attributes: *const libc::c_void,
    size: usize,
) -> libc::c_long {
    // SAFETY: as the caller promises.
    unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) }
}

/// One command. The attributes end with the last field the command reads; the
/// kernel takes the rest as zero.
fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: `attributes` is valid for reads of the size passed, and the
    // pointers inside it are made by this module from live borrows.
    check(unsafe { bpf_raw(command, std::ptr::from_ref(attributes).cast(), size_of::<T>()) })
}

fn descriptor(answer: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(answer).map_err(io::Error::other)?;
    // SAFETY: the kernel has just handed this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What [`BPF_MAP_CREATE`] reads.
#[repr(C)]
struct MapAttributes {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// What the commands on a map's elements read.
#[repr(C)]
struct ElementAttributes {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// An array map whose values are mapped into this process.
#[derive(Debug)]
pub struct SharedArray {
    fd: OwnedFd,
    memory: Mapping,
}

impl SharedArray {
    /// Makes `entries` values of `value_size` bytes (a multiple of 8) each.
    pub fn new(value_size: u32, entries: u32) -> io::Result<Self> {
        let fd = descriptor(bpf(
            BPF_MAP_CREATE,
            &MapAttributes {
                kind: BPF_MAP_TYPE_ARRAY,
                key_size: 4,
                value_size,
                max_entries: entries,
                map_flags: BPF_F_MMAPABLE,
            },
        )?)?;
        let length = value_size as usize * entries as usize;
        let memory = Mapping::of(&fd, length)?;
        Ok(Self { fd, memory })
    }

    /// The values, one after the other.
    #[must_use]
    pub fn memory(&self) -> &Mapping {
        &self.memory
    }

    /// The descriptor's number, for the program's instructions.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

/// A stack-trace map whose stacks are build ids and offsets.
#[derive(Debug)]
pub struct StackMap {
    fd: OwnedFd,
    depth: usize,
}

/// Size of a `struct bpf_stack_build_id`.
const FRAME: usize = 32;

impl StackMap {
    /// Makes room for `entries` stacks of `depth` frames.
    pub fn new(depth: usize, entries: u32) -> io::Result<Self> {
        let fd = descriptor(bpf(
            BPF_MAP_CREATE,
            &MapAttributes {
                kind: BPF_MAP_TYPE_STACK_TRACE,
                key_size: 4,
                value_size: u32::try_from(depth * FRAME).map_err(io::Error::other)?,
                max_entries: entries,
                map_flags: BPF_F_STACK_BUILD_ID,
            },
        )?)?;
        Ok(Self { fd, depth })
    }

    /// The words of a stack, four a frame; behind its frames all is zero.
    /// `None`: there is no such stack.
    pub fn stack(&self, id: u32) -> io::Result<Option<Vec<u64>>> {
        let mut words = vec![0_u64; self.depth * FRAME / size_of::<u64>()];
        let value = words.as_mut_ptr() as u64;
        absent_is_none(bpf(BPF_MAP_LOOKUP_ELEM, &self.element(&id, value)))
            .map(|found| found.map(|_| words))
    }

    /// Forgets a stack.
    pub fn forget(&self, id: u32) -> io::Result<()> {
        absent_is_none(bpf(BPF_MAP_DELETE_ELEM, &self.element(&id, 0))).map(drop)
    }

    fn element(&self, id: &u32, value: u64) -> ElementAttributes {
        ElementAttributes {
            map_fd: self.fd.as_raw_fd().cast_unsigned(),
            padding: 0,
            key: std::ptr::from_ref(id) as u64,
            value,
            flags: 0,
        }
    }

    /// The descriptor's number, for the program's instructions.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

fn absent_is_none(answer: io::Result<libc::c_long>) -> io::Result<Option<libc::c_long>> {
    match answer {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        answer => answer.map(Some),
    }
}

/// What a program may be attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramKind {
    /// `BPF_PROG_TYPE_KPROBE`, for a user probe.
    UserProbe,
    /// The same, and it may sleep.
    SleepableUserProbe,
    /// `BPF_PROG_TYPE_PERF_EVENT`
    PerfEvent,
    /// `BPF_PROG_TYPE_RAW_TRACEPOINT`
    RawTracepoint,
}

/// A loaded program, unloaded when the last descriptor to it closes.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
}

/// Runs of a program on the calling thread's CPU, one after the other: by
/// `BPF_PROG_TEST_RUN`, and where the kernel has none at `sys_enter`. To attach there
/// patches kernel text and waits for RCU, ten milliseconds under emulation: it is done
/// once, and until this is dropped any system call of anybody runs the program.
#[derive(Debug)]
pub struct InSystemCalls<'a> {
    program: &'a Program,
    attached: Option<OwnedFd>,
}

impl InSystemCalls<'_> {
    /// Runs the program once more, at least.
    ///
    /// # Errors
    /// The kernel neither runs it nor lets it be attached.
    pub fn run(&mut self) -> io::Result<()> {
        if self.attached.is_none() {
            if self.program.test_run().is_ok() {
                return Ok(());
            }
            self.attached = Some(self.program.attach_raw_tracepoint("sys_enter")?);
        }
        super::getppid();
        Ok(())
    }
}

impl Program {
    /// Verifies and loads. A refusal is asked for a second time with the
    /// verifier's log, which then stands in the error.
    pub fn load(kind: ProgramKind, insns: &[Insn]) -> io::Result<Self> {
        Self::try_load(kind, insns, &mut []).or_else(|error| {
            let mut log = vec![0; 64 << 10];
            match Self::try_load(kind, insns, &mut log) {
                Ok(program) => Ok(program),
                Err(_) => {
                    let log: Vec<u8> = log.into_iter().take_while(|byte| *byte != 0).collect();
                    let log = String::from_utf8_lossy(&log);
                    let tail: Vec<&str> = log.trim_end().lines().rev().take(6).collect();
                    let tail: Vec<&str> = tail.into_iter().rev().collect();
                    Err(io::Error::new(
                        error.kind(),
                        format!("{error}; the verifier says: {}", tail.join(" | ")),
                    ))
                }
            }
        })
    }

    fn try_load(kind: ProgramKind, insns: &[Insn], log: &mut [u8]) -> io::Result<Self> {
        #[repr(C)]
        struct Attributes {
            kind: u32,
            insn_cnt: u32,
            insns: u64,
            license: u64,
            log_level: u32,
            log_size: u32,
            log_buf: u64,
            kern_version: u32,
            prog_flags: u32,
        }
        let license = c"GPL";
        let fd = descriptor(bpf(
            BPF_PROG_LOAD,
            &Attributes {
                kind: match kind {
                    ProgramKind::UserProbe | ProgramKind::SleepableUserProbe => 2,
                    ProgramKind::PerfEvent => 7,
                    ProgramKind::RawTracepoint => 17,
                },
                insn_cnt: u32::try_from(insns.len()).map_err(io::Error::other)?,
                insns: insns.as_ptr() as u64,
                license: license.as_ptr() as u64,
                log_level: u32::from(!log.is_empty()),
                log_size: u32::try_from(log.len()).map_err(io::Error::other)?,
                log_buf: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
                kern_version: 0,
                prog_flags: match kind {
                    ProgramKind::SleepableUserProbe => BPF_F_SLEEPABLE,
                    ProgramKind::UserProbe
                    | ProgramKind::PerfEvent
                    | ProgramKind::RawTracepoint => 0,
                },
            },
        )?)?;
        Ok(Self { fd })
    }

    /// Runs that were skipped because the program ran already on that CPU.
    pub fn recursion_misses(&self) -> io::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.fd.as_raw_fd()))?;
        Ok(recursion_misses(&text))
    }

    /// Runs of a raw tracepoint's program in system calls of the calling thread.
    #[must_use]
    pub fn in_system_calls(&self) -> InSystemCalls<'_> {
        InSystemCalls { program: self, attached: None }
    }

    /// Runs the program once by `BPF_PROG_TEST_RUN` (5.10; only with `CONFIG_NET`).
    fn test_run(&self) -> io::Result<()> {
        #[repr(C)]
        #[derive(Default)]
        struct Attributes {
            prog_fd: u32,
            answer: u32,
            data_sizes: [u32; 2],
            data: [u64; 2],
            repeat: u32,
            duration: u32,
            context_sizes: [u32; 2],
            context: [u64; 2],
            flags: u32,
            cpu: u32,
        }
        let prog_fd = self.fd.as_raw_fd().cast_unsigned();
        bpf(BPF_PROG_TEST_RUN, &Attributes { prog_fd, ..Attributes::default() }).map(drop)
    }

    /// Runs the program at a raw tracepoint until the answer is dropped.
    pub fn attach_raw_tracepoint(&self, name: &str) -> io::Result<OwnedFd> {
        #[repr(C)]
        struct Attributes {
            name: u64,
            prog_fd: u32,
            padding: u32,
        }
        let name = c_string(name)?;
        descriptor(bpf(
            BPF_RAW_TRACEPOINT_OPEN,
            &Attributes {
                name: name.as_ptr() as u64,
                prog_fd: self.fd.as_raw_fd().cast_unsigned(),
                padding: 0,
            },
        )?)
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// From a program's fdinfo; kernels before 5.12 do not count them.
fn recursion_misses(fdinfo: &str) -> u64 {
    let line = fdinfo.lines().find_map(|line| line.strip_prefix("recursion_misses:"));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line is one among many; older kernels have none.
    #[test]
    fn skipped_runs_are_read_from_fdinfo() {
        let text =
            "pos:\t0\nprog_type:\t17\nrun_cnt:\t0\nrecursion_misses:\t17\nverified_insns:\t9\n";
        assert_eq!(recursion_misses(text), 17);
        assert_eq!(recursion_misses("prog_type:\t17\n"), 0);
    }

    /// Absent is not failed.
    #[test]
    fn a_stack_that_is_not_there_is_no_error() {
        let errno = |errno| absent_is_none(Err(io::Error::from_raw_os_error(errno)));
        assert!(matches!(errno(libc::ENOENT), Ok(None)));
        assert!(errno(libc::EPERM).is_err());
        assert!(matches!(absent_is_none(Ok(0)), Ok(Some(0))));
    }
}
