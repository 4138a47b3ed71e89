// SPDX-License-Identifier: MIT OR Apache-2.0
//! KCOV: the kernel code that a thread's system calls ran through.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use super::check;
use super::memory::Mapping;

const DEVICE: &str = "/sys/kernel/debug/kcov";
const INIT_TRACE: libc::c_ulong = 0x8008_6301;
const ENABLE: libc::c_ulong = 0x6364;
const TRACE_PC: libc::c_ulong = 0;
/// Addresses there is room for; what comes later is lost.
const ROOM: usize = 1 << 18;

/// The trace of one thread.
#[derive(Debug)]
pub struct Kcov {
    memory: Mapping,
    // Closing it ends the trace.
    _file: File,
}

impl Kcov {
    /// Traces the calling thread, from now on.
    pub fn of_this_thread() -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(DEVICE)?;
        let ioctl = |request: libc::c_ulong, argument: libc::c_ulong| {
            // SAFETY: both requests take a number, no memory.
            let answer = unsafe { libc::ioctl(file.as_raw_fd(), request as _, argument) };
            check(libc::c_long::from(answer))
        };
        ioctl(INIT_TRACE, ROOM as libc::c_ulong)?;
        let memory = Mapping::of(&file, ROOM * size_of::<u64>())?;
        ioctl(ENABLE, TRACE_PC)?;
        Ok(Self { memory, _file: file })
    }

    /// Forgets what was traced.
    pub fn reset(&self) {
        self.memory.store(0, 0);
    }

    /// The addresses traced since the last reset, in order, repeats included.
    #[must_use]
    pub fn traced(&self) -> &[AtomicU64] {
        let words = self.memory.words();
        let count = words.first().map_or(0, |count| count.load(Ordering::Acquire));
        let end = usize::try_from(count).unwrap_or(usize::MAX).saturating_add(1);
        words.get(1..end.min(words.len())).unwrap_or_default()
    }
}
