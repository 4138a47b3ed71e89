// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf(2)`: maps, programs, raw tracepoints. No libbpf: programs come from
//! [`crate::bpf`], attributes are the few fields each command reads.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::memory::Mapping;
use super::{c_string, check};
use crate::bpf::insn::Insn;

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_F_MMAPABLE: u32 = 1 << 10;

/// One command. The attributes end with the last field the command reads; the
/// kernel takes the rest as zero.
fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: `attributes` is valid for reads of the size passed, and the
    // pointers inside it are made by this module from live borrows.
    check(unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>())
    })
}

fn descriptor(answer: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(answer).map_err(io::Error::other)?;
    // SAFETY: the kernel has just handed this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
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
        #[repr(C)]
        struct Attributes {
            kind: u32,
            key_size: u32,
            value_size: u32,
            max_entries: u32,
            map_flags: u32,
        }
        let fd = descriptor(bpf(
            BPF_MAP_CREATE,
            &Attributes {
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

/// What a program may be attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramKind {
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
                prog_flags: 0,
            },
        )?)?;
        Ok(Self { fd })
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
