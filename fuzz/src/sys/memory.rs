// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mappings of our own: words shared with BPF programs, code of an object, and
//! a page to fault on.
//!
//! A BPF program's words are touched by both sides in aligned 8-byte accesses;
//! nobody holds a reference into them, so nothing can dangle or be invented by
//! the compiler.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Maps memory where the kernel likes.
fn map(
    length: usize,
    protection: i32,
    flags: i32,
    fd: i32,
    offset: u64,
) -> io::Result<NonNull<libc::c_void>> {
    let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
    // SAFETY: the kernel picks the address, so no mapping of ours is replaced.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, fd, offset) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(at).ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
}

/// Code of a file, mapped as a loader would, unmapped when dropped.
#[derive(Debug)]
pub struct Code {
    at: NonNull<libc::c_void>,
    length: usize,
}

impl Code {
    /// Maps `length` bytes of `file` from `offset` on, to be read and executed.
    pub fn map(file: impl AsFd, offset: u64, length: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_EXEC;
        let fd = file.as_fd().as_raw_fd();
        Ok(Self { at: map(length, protection, libc::MAP_PRIVATE, fd, offset)?, length })
    }

    /// Where it lies.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.at.as_ptr() as u64
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `map` mapped; whoever runs it is to have
        // returned (`sampled::run` says so).
        unsafe { libc::munmap(self.at.as_ptr(), self.length) };
    }
}

/// One private page of nobody else's, unmapped when dropped.
#[derive(Debug)]
pub struct Page {
    at: NonNull<libc::c_void>,
    length: usize,
}

impl Page {
    /// A page that can be dropped and touched: not locked, whatever the process
    /// locks otherwise.
    pub fn new() -> io::Result<Self> {
        let length = usize::try_from(super::page_size()).map_err(io::Error::other)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let at = map(length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)?;
        Ok(Self { at, length })
    }

    /// Takes the right to write to it away.
    pub fn protect(&mut self) -> io::Result<()> {
        // SAFETY: exactly what `new` mapped, and nobody holds a reference to it.
        super::check(libc::c_long::from(unsafe {
            libc::mprotect(self.at.as_ptr(), self.length, libc::PROT_READ)
        }))?;
        Ok(())
    }

    /// Undoes what locking all memory did to it: only then can it be dropped.
    pub fn unlock(&self) -> io::Result<()> {
        // SAFETY: exactly what `new` mapped; no memory is read or written.
        super::check(libc::c_long::from(unsafe { libc::munlock(self.at.as_ptr(), self.length) }))?;
        Ok(())
    }

    /// Where it lies.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.at.as_ptr() as u64
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.length as u64
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `new` mapped; nobody else has its address
        // once the thread that touches it has ended.
        unsafe { libc::munmap(self.at.as_ptr(), self.length) };
    }
}

/// An `mprotect(2)` of no page, refused before the kernel asks for a lock: what
/// such a system call costs by itself.
pub fn refused_protect() {
    // SAFETY: an address inside a page is refused, whatever is there.
    unsafe { libc::mprotect(std::ptr::without_provenance_mut(1), 1, libc::PROT_NONE) };
}

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
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let fd = fd.as_fd().as_raw_fd();
        Ok(Self { at: map(length, protection, libc::MAP_SHARED, fd, 0)?, length })
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
