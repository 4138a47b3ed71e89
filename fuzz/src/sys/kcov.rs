// SPDX-License-Identifier: MIT OR Apache-2.0
//! KCOV: the kernel code that a thread's system calls ran through; and what a patch of
//! ours adds to it (`kconfigs/kcov.patch`): interrupts, and delays at chosen points.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use super::check;
use super::memory::Mapping;

const DEVICE: &str = "/sys/kernel/debug/kcov";
/// Whether what interrupts a traced thread is traced, too.
const INTERRUPTS: &str = "/sys/kernel/debug/kcov_interrupts";
/// Where a CPU may be held up, as hexadecimal numbers in ascending order.
const DELAY_POINTS: &str = "/sys/kernel/debug/kcov_delay_points";
/// At which of them it is; 0: at none.
const DELAY_SEED: &str = "/sys/kernel/debug/kcov_delay_seed";
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

    /// How many addresses were traced since the last reset.
    #[must_use]
    pub fn count(&self) -> usize {
        let count = self.memory.words().first().map_or(0, |count| count.load(Ordering::Acquire));
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// The addresses traced since the last reset, in order, repeats included.
    #[must_use]
    pub fn traced(&self) -> &[AtomicU64] {
        let words = self.memory.words();
        let end = self.count().saturating_add(1);
        words.get(1..end.min(words.len())).unwrap_or_default()
    }
}

/// Has what interrupts a traced thread traced, too. Whether this kernel can.
///
/// # Errors
/// It can, and does not.
pub fn trace_interrupts() -> io::Result<bool> {
    if !fs::exists(INTERRUPTS)? {
        return Ok(false);
    }
    fs::write(INTERRUPTS, "Y")?;
    Ok(true)
}

/// Tells the kernel at which points of its code a CPU may be held up. Whether it can.
///
/// # Errors
/// It can, and does not like the points: there are too many, or they are in no order.
pub fn delay_at(points: &[u64]) -> io::Result<bool> {
    if points.is_empty() || !fs::exists(DELAY_POINTS)? {
        return Ok(false);
    }
    let text: Vec<String> = points.iter().map(|point| format!("{point:x}")).collect();
    // The kernel takes them from one write.
    OpenOptions::new().write(true).open(DELAY_POINTS)?.write_all(text.join(" ").as_bytes())?;
    Ok(true)
}

/// What says by which seed points are chosen.
#[derive(Debug)]
pub struct Delays(File);

impl Delays {
    /// `None` where the kernel has none.
    #[must_use]
    pub fn open() -> Option<Self> {
        OpenOptions::new().write(true).open(DELAY_SEED).ok().map(Self)
    }

    /// Holds CPUs up by this seed, in all of the guest; 0: no more.
    ///
    /// # Errors
    /// The kernel's.
    pub fn seed(&self, seed: u64) -> io::Result<()> {
        (&self.0).write_all(seed.to_string().as_bytes())
    }
}
