// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that checks map, lock and move: a *yard* of [`PAGES`] pages at an address that
//! nothing else uses, and a *field* of some tens of TiB behind it, of which hardly a page
//! is ever touched. All calls are held to one of the two, so that nothing of this process
//! can be hurt.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::call::{Answer, answer, descriptor};

/// Pages of the yard.
pub const PAGES: usize = 32;
/// Bytes of a page.
pub const PAGE: usize = 4096;
const YARD: usize = 0x2000_0000_0000;
const FIELD: usize = 0x3000_0000_0000;
/// Bytes of the field: 40 TiB.
pub const FIELD_LENGTH: usize = 40 << 40;

/// A stretch of the yard or of the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    at: usize,
    length: usize,
}

impl Stretch {
    /// `pages` pages of the yard from `page` on, as far as it goes.
    #[must_use]
    pub fn yard(page: usize, pages: usize) -> Self {
        let page = page.min(PAGES - 1);
        Self { at: YARD + page * PAGE, length: pages.clamp(1, PAGES - page) * PAGE }
    }

    /// The first bytes of the field.
    #[must_use]
    pub fn field(length: usize) -> Self {
        Self { at: FIELD, length: length.clamp(PAGE, FIELD_LENGTH) / PAGE * PAGE }
    }

    /// A part of it.
    #[must_use]
    pub fn part(self, from: usize, length: usize) -> Self {
        let from = (from / PAGE * PAGE).min(self.length - PAGE);
        Self { at: self.at + from, length: (length / PAGE * PAGE).clamp(PAGE, self.length - from) }
    }

    /// Its address.
    #[must_use]
    pub fn address(self) -> u64 {
        self.at as u64
    }

    /// Its length in bytes.
    #[must_use]
    pub fn length(self) -> usize {
        self.length
    }

    /// `mmap(2)` with `MAP_FIXED`.
    pub fn map(
        self,
        fd: Option<BorrowedFd<'_>>,
        protection: i32,
        flags: i32,
        first_page: usize,
    ) -> Answer<i64> {
        let flags = flags | libc::MAP_FIXED | if fd.is_some() { 0 } else { libc::MAP_ANONYMOUS };
        let offset = i64::try_from(first_page * PAGE).unwrap_or(0);
        // SAFETY: replaces pages of the yard or the field only, which no Rust object lies in.
        answer(unsafe {
            libc::mmap(
                self.at as *mut _,
                self.length,
                protection,
                flags,
                fd.map_or(-1, |fd| fd.as_raw_fd()),
                offset,
            )
        } as libc::c_long)
    }

    fn call(self, number: libc::c_long, third: u64) -> Answer<i64> {
        // SAFETY: system calls about pages of the yard or the field only.
        answer(unsafe { libc::syscall(number, self.at, self.length, third) })
    }

    /// `munmap(2)`.
    pub fn unmap(self) -> Answer<i64> {
        self.call(libc::SYS_munmap, 0)
    }

    /// `mprotect(2)`.
    pub fn protect(self, protection: i32) -> Answer<i64> {
        self.call(libc::SYS_mprotect, protection.unsigned_abs().into())
    }

    /// `mlock2(2)`.
    pub fn lock(self, flags: u32) -> Answer<i64> {
        self.call(libc::SYS_mlock2, flags.into())
    }

    /// `munlock(2)`.
    pub fn unlock(self) -> Answer<i64> {
        self.call(libc::SYS_munlock, 0)
    }

    /// `madvise(2)`.
    pub fn advise(self, advice: i32) -> Answer<i64> {
        self.call(libc::SYS_madvise, advice.unsigned_abs().into())
    }

    /// `msync(2)`.
    pub fn sync(self, flags: i32) -> Answer<i64> {
        self.call(libc::SYS_msync, flags.unsigned_abs().into())
    }

    /// `mremap(2)` to another stretch.
    pub fn move_to(self, to: Self, flags: i32) -> Answer<i64> {
        // SAFETY: both are stretches of the yard or of the field only.
        answer(unsafe {
            libc::mremap(
                self.at as *mut _,
                self.length,
                to.length,
                libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | flags,
                to.at as *mut libc::c_void,
            )
        } as libc::c_long)
    }

    /// `mremap(2)` in place to another length.
    pub fn resize(self, length: usize) -> Answer<i64> {
        // SAFETY: without MREMAP_MAYMOVE the mapping stays where it is, and callers grow
        // it within the yard only.
        answer(unsafe { libc::mremap(self.at as *mut _, self.length, length, 0) } as libc::c_long)
    }

    /// `mincore(2)`: whether each page is in memory.
    pub fn in_core(self) -> Answer<Vec<u8>> {
        let mut pages = vec![0_u8; self.length / PAGE];
        // SAFETY: a byte for each page is valid for writes.
        answer(unsafe {
            libc::syscall(libc::SYS_mincore, self.at, self.length, pages.as_mut_ptr())
        })?;
        Ok(pages)
    }

    /// The first byte, by way of a pipe: an address that cannot be read is an errno.
    pub fn peek(self, pipe: &Pipe) -> Answer<u8> {
        let mut byte = 0_u8;
        // SAFETY: the kernel reads one byte of the yard, or refuses.
        answer(unsafe { libc::write(pipe.write.as_raw_fd(), self.at as *const _, 1) } as _)?;
        // SAFETY: one byte is valid for writes.
        answer(unsafe { libc::read(pipe.read.as_raw_fd(), (&raw mut byte).cast(), 1) } as _)?;
        Ok(byte)
    }

    /// Writes the first byte, the same way.
    pub fn poke(self, pipe: &Pipe, byte: u8) -> Answer<()> {
        // SAFETY: one byte is valid for reads.
        answer(unsafe { libc::write(pipe.write.as_raw_fd(), (&raw const byte).cast(), 1) } as _)?;
        // SAFETY: the kernel writes one byte of the yard, or refuses.
        let written =
            answer(unsafe { libc::read(pipe.read.as_raw_fd(), self.at as *mut _, 1) } as _);
        if written.is_err() {
            let mut rest = 0_u8;
            // SAFETY: takes the byte that stayed in the pipe; one byte is valid for writes.
            let _ = answer(
                unsafe { libc::read(pipe.read.as_raw_fd(), (&raw mut rest).cast(), 1) } as _
            );
        }
        written.map(drop)
    }
}

/// A pipe.
#[derive(Debug)]
pub struct Pipe {
    /// What is read from.
    pub read: OwnedFd,
    /// What is written to.
    pub write: OwnedFd,
}

impl Pipe {
    /// A new one, that never waits.
    pub fn new() -> Answer<Self> {
        let mut pair = [0_i32; 2];
        // SAFETY: two descriptors' room is valid for writes.
        answer(libc::c_long::from(unsafe {
            libc::pipe2(pair.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK)
        }))?;
        let [read, write] = pair;
        Ok(Self { read: descriptor(read.into())?, write: descriptor(write.into())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page of the yard is read and written by way of a pipe, and one that is not
    /// mapped is an errno.
    #[test]
    fn pages_are_asked_by_pipe() {
        let pipe = Pipe::new().unwrap();
        let page = Stretch::yard(3, 1);
        assert_eq!(page.peek(&pipe), Err(libc::EFAULT));
        page.map(None, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE, 0).unwrap();
        page.poke(&pipe, 7).unwrap();
        assert_eq!(page.peek(&pipe), Ok(7));
        page.protect(libc::PROT_READ).unwrap();
        assert_eq!(page.poke(&pipe, 8), Err(libc::EFAULT));
        assert_eq!(page.peek(&pipe), Ok(7));
        page.unmap().unwrap();
        assert_eq!(Stretch::yard(31, 9).length(), PAGE);
        assert_eq!(Stretch::field(1 << 41).part(1 << 40, usize::MAX).length(), 1 << 40);
    }
}
