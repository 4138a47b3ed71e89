// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory shared with BPF programs: the mapped value of an array map.
//!
//! Both sides touch it in aligned 8-byte words; nobody holds a reference into
//! it, so nothing can dangle or be invented by the compiler.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// A shared mapping of a file descriptor, unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    at: NonNull<libc::c_void>,
    length: usize,
}

// SAFETY: the mapping belongs to the process and is accessed by atomics only.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `length` bytes behind `fd`.
    pub fn of(fd: impl AsFd, length: usize) -> io::Result<Self> {
        // SAFETY: the kernel picks the address, so no mapping of ours is replaced.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_fd().as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(at)
            .map(|at| Self { at, length })
            .ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
    }

    /// The word at a byte offset; `None` outside the mapping or unaligned.
    fn word(&self, offset: usize) -> Option<&AtomicU64> {
        let end = offset.checked_add(size_of::<u64>())?;
        if end > self.length || !offset.is_multiple_of(align_of::<u64>()) {
            return None;
        }
        // SAFETY: inside the mapping and aligned (mmap answers whole pages);
        // the reference lives no longer than the mapping.
        Some(unsafe { self.at.cast::<AtomicU64>().byte_add(offset).as_ref() })
    }

    /// All words of the mapping.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: `length` bytes are mapped and aligned; the reference lives no
        // longer than the mapping, and access is by atomics only.
        unsafe {
            std::slice::from_raw_parts(self.at.cast().as_ptr(), self.length / size_of::<u64>())
        }
    }

    /// Reads a word; what lies outside reads as 0.
    #[must_use]
    pub fn load(&self, offset: usize) -> u64 {
        self.word(offset).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Writes a word; outside the mapping nothing is written.
    pub fn store(&self, offset: usize, value: u64) {
        if let Some(word) = self.word(offset) {
            word.store(value, Ordering::Release);
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `of` mapped; no reference outlives `self`.
        unsafe { libc::munmap(self.at.as_ptr(), self.length) };
    }
}
