// SPDX-License-Identifier: MIT OR Apache-2.0
//! System calls of fuzz programs: any argument may be wrong, the answer is an
//! errno, and nothing of this process can be hurt.
//!
//! Attributes are bytes with fields at the kernel's offsets; memory the kernel
//! writes to is borrowed for as long as the attributes live. Mappings are made
//! within the arena only.

use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use super::bpf::bpf_raw;
use super::perf::perf_event_open_raw;
use crate::op::ARENA_PAGES;

/// Where the arena begins: far from what the kernel picks by itself.
pub const ARENA: u64 = 0x1000_0000_0000;

/// A system call's answer, or its errno.
pub type Answer<T> = Result<T, i32>;

static CALLS: AtomicU64 = AtomicU64::new(0);

/// System calls made through this module and its neighbours, by all threads.
#[must_use]
pub fn count() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

pub(super) fn counted() {
    CALLS.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn answer(value: libc::c_long) -> Answer<i64> {
    counted();
    if value == -1 {
        Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    } else {
        Ok(value)
    }
}

pub(super) fn descriptor(value: i64) -> Answer<OwnedFd> {
    let fd = i32::try_from(value).map_err(|_| libc::EBADF)?;
    // SAFETY: the kernel has just handed this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attributes of a system call: bytes, with fields at offsets.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    bytes: [u64; 20],
    memory: PhantomData<&'a mut [u8]>,
}

impl Default for Attributes<'_> {
    fn default() -> Self {
        Self { bytes: [0; 20], memory: PhantomData }
    }
}

impl<'a> Attributes<'a> {
    fn put(&mut self, at: usize, value: &[u8]) {
        let (word, shift) = (at / 8, at % 8);
        if let Some(slot) = self.bytes.get_mut(word) {
            let mut bytes = slot.to_ne_bytes();
            for (to, from) in bytes.iter_mut().skip(shift).zip(value) {
                *to = *from;
            }
            *slot = u64::from_ne_bytes(bytes);
        }
    }

    /// A 32-bit field.
    #[must_use]
    pub fn word(mut self, at: usize, value: u32) -> Self {
        self.put(at, &value.to_ne_bytes());
        self
    }

    /// A 64-bit field that is no address the kernel writes to.
    #[must_use]
    pub fn double(mut self, at: usize, value: u64) -> Self {
        self.put(at, &value.to_ne_bytes());
        self
    }

    /// A descriptor.
    #[must_use]
    pub fn fd(self, at: usize, fd: BorrowedFd<'_>) -> Self {
        self.word(at, fd.as_raw_fd().cast_unsigned())
    }

    /// Memory the kernel reads.
    #[must_use]
    pub fn input(self, at: usize, memory: &'a [u8]) -> Self {
        self.double(at, memory.as_ptr() as u64)
    }

    /// Memory the kernel writes.
    #[must_use]
    pub fn output(self, at: usize, memory: &'a mut [u8]) -> Self {
        self.double(at, memory.as_mut_ptr() as u64)
    }
}

/// `bpf(2)` with the first `size` bytes of the attributes.
pub fn bpf(command: u32, attributes: Attributes<'_>, size: u32) -> Answer<i64> {
    bpf_word_after(command, attributes, size, 0).0
}

/// The same, and the word that is in the attributes at an offset afterwards.
pub fn bpf_word_after(
    command: u32,
    mut attributes: Attributes<'_>,
    size: u32,
    at: usize,
) -> (Answer<i64>, u32) {
    // SAFETY: `size` bytes are valid for reads and writes; addresses in them are of live
    // borrows.
    let answered = answer(unsafe {
        bpf_raw(
            command.into(),
            attributes.bytes.as_mut_ptr().cast(),
            (size as usize).min(size_of_val(&attributes.bytes)),
        )
    });
    let word = attributes.bytes.get(at / 8).copied().unwrap_or(0).to_ne_bytes();
    let mut half = [0; 4];
    half.iter_mut().zip(word.iter().skip(at % 8)).for_each(|(to, from)| *to = *from);
    (answered, u32::from_ne_bytes(half))
}

/// A `bpf(2)` that answers a descriptor.
pub fn bpf_fd(command: u32, attributes: Attributes<'_>, size: u32) -> Answer<OwnedFd> {
    bpf(command, attributes, size).and_then(descriptor)
}

/// The BPF object with the next greater id, of the kind the command is about.
pub fn bpf_next_id(command: u32, after: u32) -> Answer<u32> {
    let mut attributes = [after, 0, 0];
    // SAFETY: 12 bytes are valid for reads and writes.
    answer(unsafe {
        bpf_raw(command.into(), attributes.as_mut_ptr().cast(), size_of_val(&attributes))
    })?;
    Ok(attributes[1])
}

/// `perf_event_open(2)`, with a descriptor that is closed on exec.
pub fn perf_event_open(
    attributes: &Attributes<'_>,
    thread: i32,
    cpu: i32,
    group: Option<BorrowedFd<'_>>,
) -> Answer<OwnedFd> {
    perf_event_open_with(attributes, thread, cpu, group, 0)
}

/// `perf_event_open(2)` with `PERF_FLAG_*` besides the one for exec.
pub fn perf_event_open_with(
    attributes: &Attributes<'_>,
    thread: i32,
    cpu: i32,
    group: Option<BorrowedFd<'_>>,
    flags: u32,
) -> Answer<OwnedFd> {
    // SAFETY: the attributes state their size, 136 bytes at most, which are valid.
    answer(unsafe {
        perf_event_open_raw(
            attributes.bytes.as_ptr().cast(),
            thread,
            cpu,
            group.map_or(-1, |fd| fd.as_raw_fd()),
            flags.into(),
        )
    })
    .and_then(descriptor)
}

/// An `ioctl(2)` whose argument is a number.
pub fn ioctl(fd: BorrowedFd<'_>, request: u32, argument: i64) -> Answer<i64> {
    // SAFETY: callers pass requests that take a number, or are unknown.
    answer(libc::c_long::from(unsafe {
        libc::ioctl(fd.as_raw_fd(), libc::c_ulong::from(request) as _, argument)
    }))
}

/// An `ioctl(2)` that reads or writes memory; `memory` must be large enough for
/// the request, which the table in [`crate::engine`] sees to: 128 bytes are for
/// all of perf's.
pub fn ioctl_memory(fd: BorrowedFd<'_>, request: u32, memory: &mut [u64; 16]) -> Answer<i64> {
    // SAFETY: no request of perf's takes more than 128 bytes.
    answer(libc::c_long::from(unsafe {
        libc::ioctl(fd.as_raw_fd(), libc::c_ulong::from(request) as _, memory.as_mut_ptr())
    }))
}

/// `read(2)`.
pub fn read(fd: BorrowedFd<'_>, memory: &mut [u8]) -> Answer<i64> {
    // SAFETY: valid for writes of its length.
    answer(unsafe { libc::read(fd.as_raw_fd(), memory.as_mut_ptr().cast(), memory.len()) } as _)
}

/// `read(2)` of whole words; how many bytes were answered.
pub fn read_words(fd: BorrowedFd<'_>, memory: &mut [u64]) -> Answer<usize> {
    let length = size_of_val(memory);
    // SAFETY: valid for writes of its length, and any bytes are words.
    let read =
        answer(unsafe { libc::read(fd.as_raw_fd(), memory.as_mut_ptr().cast(), length) } as _)?;
    Ok(usize::try_from(read).unwrap_or(0))
}

/// The limit of open descriptors, this thread's process's: the old one is the answer.
pub fn limit_descriptors(count: u64) -> Answer<u64> {
    let mut old = [0_u64; 2];
    // SAFETY: two words are valid for writes, and no new limit is given.
    answer(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, 0_u64, old.as_mut_ptr())
    })?;
    let new = [count, old[1].max(count)];
    // SAFETY: two words are valid for reads; nothing is written.
    answer(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, new.as_ptr(), 0_u64)
    })?;
    Ok(old[0])
}

/// `pidfd_open(2)` of this process.
pub fn this_process() -> Answer<OwnedFd> {
    // SAFETY: no memory is passed.
    answer(unsafe { libc::syscall(libc::SYS_pidfd_open, std::process::id(), 0) })
        .and_then(descriptor)
}

/// Turns all events of the calling task on or off.
pub fn task_events(on: bool) -> Answer<i64> {
    let what =
        if on { libc::PR_TASK_PERF_EVENTS_ENABLE } else { libc::PR_TASK_PERF_EVENTS_DISABLE };
    // SAFETY: no memory is passed.
    answer(libc::c_long::from(unsafe { libc::prctl(what, 0, 0, 0, 0) }))
}

/// Has the thread run on the CPUs of a bit mask.
pub fn affinity(mask: u64) -> Answer<i64> {
    // SAFETY: 8 bytes are valid for reads.
    answer(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, 8, &raw const mask) })
}

/// Lets the process have this many descriptors open.
pub fn allow_descriptors(count: u64) -> Answer<i64> {
    let limit = [count, count];
    // SAFETY: two words are valid for reads; nothing is written.
    answer(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, limit.as_ptr(), 0_u64)
    })
}

/// A signal to the calling thread; [`super::trigger::catch_signals`] takes it.
pub fn signal_self(signal: i32) -> Answer<i64> {
    // SAFETY: no memory is passed.
    answer(unsafe {
        libc::syscall(libc::SYS_tgkill, std::process::id(), super::thread_id(), signal)
    })
}

/// A mapping somewhere, of a perf event's or a map's memory, unmapped when
/// dropped.
#[derive(Debug)]
pub struct Region {
    at: usize,
    length: usize,
    writable: bool,
}

impl Region {
    /// Maps the first `length` bytes.
    pub fn map(fd: BorrowedFd<'_>, length: usize, writable: bool) -> Answer<Self> {
        Self::map_at(fd, 0, length, writable)
    }

    /// Maps `length` bytes from a page on.
    pub fn map_at(
        fd: BorrowedFd<'_>,
        offset: usize,
        length: usize,
        writable: bool,
    ) -> Answer<Self> {
        let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        // SAFETY: the kernel picks the address, so nothing of ours is replaced.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                i64::try_from(offset).unwrap_or(0),
            )
        };
        answer(at as libc::c_long).map(|_| Self { at: at as usize, length, writable })
    }

    /// A word of it; 0 outside.
    #[must_use]
    pub fn load(&self, at: usize) -> u64 {
        if !at.is_multiple_of(8) || at + 8 > self.length {
            return 0;
        }
        // SAFETY: inside the mapping and aligned; the kernel shares the word.
        unsafe { &*((self.at + at) as *const AtomicU64) }.load(Ordering::Acquire)
    }

    /// Writes a word of it, if it may be written to.
    pub fn store(&self, at: usize, value: u64) {
        if self.writable && at.is_multiple_of(8) && at + 8 <= self.length {
            // SAFETY: inside the mapping, aligned and writable; the kernel shares the word.
            unsafe { &*((self.at + at) as *const AtomicU64) }.store(value, Ordering::Release);
        }
    }

    /// Its length in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Says in a perf buffer's first page that all was read (`data_tail`), if the
    /// buffer was mapped for that.
    pub fn consume_if_writable(&self) {
        const HEAD: usize = 1024;
        const TAIL: usize = 1032;
        if self.length < 4096 || !self.writable {
            return;
        }
        // SAFETY: inside the mapping and aligned; the kernel shares both words.
        let word = |at: usize| unsafe { &*((self.at + at) as *const AtomicU64) };
        word(TAIL).store(word(HEAD).load(Ordering::Acquire), Ordering::Release);
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        counted();
        // SAFETY: unmaps what `map` mapped; no reference outlives `self`.
        unsafe { libc::munmap(self.at as *mut _, self.length) };
    }
}

/// A part of the arena: always within it.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    at: usize,
    length: usize,
}

impl Part {
    /// `pages` pages from `page` on, as far as the arena goes.
    #[must_use]
    pub fn new(page: u8, pages: u8) -> Self {
        let size = usize::try_from(super::page_size()).unwrap_or(4096);
        let page = page % ARENA_PAGES;
        let pages = pages.clamp(1, ARENA_PAGES - page);
        Self {
            at: usize::try_from(ARENA).unwrap_or(0) + usize::from(page) * size,
            length: usize::from(pages) * size,
        }
    }

    /// All of it.
    #[must_use]
    pub fn all() -> Self {
        Self::new(0, ARENA_PAGES)
    }

    /// Maps a page near the arena, for good. Without anything else in these two megabytes
    /// the kernel frees their page tables with the last page of the arena, once a program,
    /// and to free page tables it flushes all of the CPU's translations
    /// (`tlb_flush_mmu()`: the range to flush is then all that they cover). An emulator
    /// begins at nothing then, too.
    pub fn map_neighbour() -> Answer<()> {
        let size = usize::try_from(super::page_size()).unwrap_or(4096);
        let at = usize::try_from(ARENA).unwrap_or(0) + 2 * usize::from(ARENA_PAGES) * size;
        Self { at, length: size }.map(None, libc::PROT_NONE, false, 0).map(drop)
    }

    /// Its address.
    #[must_use]
    pub fn address(self) -> u64 {
        self.at as u64
    }

    /// Maps a file, or zeroes, over it.
    pub fn map(
        self,
        fd: Option<BorrowedFd<'_>>,
        protection: i32,
        shared: bool,
        first_page: u8,
    ) -> Answer<i64> {
        let kind = if shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
        let anonymous = if fd.is_some() { 0 } else { libc::MAP_ANONYMOUS };
        let offset = i64::from(first_page) * i64::try_from(super::page_size()).unwrap_or(4096);
        // SAFETY: replaces only pages of the arena, which no Rust object lies in.
        answer(unsafe {
            libc::mmap(
                self.at as *mut _,
                self.length,
                protection,
                kind | anonymous | libc::MAP_FIXED,
                fd.map_or(-1, |fd| fd.as_raw_fd()),
                offset,
            )
        } as libc::c_long)
    }

    /// Unmaps it.
    pub fn unmap(self) -> Answer<i64> {
        // SAFETY: pages of the arena only.
        answer(libc::c_long::from(unsafe { libc::munmap(self.at as *mut _, self.length) }))
    }

    /// Changes its protection.
    pub fn protect(self, protection: i32) -> Answer<i64> {
        // SAFETY: pages of the arena only.
        answer(libc::c_long::from(unsafe {
            libc::mprotect(self.at as *mut _, self.length, protection)
        }))
    }

    /// Moves it to another part of the arena.
    pub fn move_to(self, to: Self) -> Answer<i64> {
        // SAFETY: both are pages of the arena only.
        answer(unsafe {
            libc::mremap(
                self.at as *mut _,
                self.length,
                to.length,
                libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
                to.at as *mut libc::c_void,
            )
        } as libc::c_long)
    }

    /// Gives advice about it.
    pub fn advise(self, advice: i32) -> Answer<i64> {
        // SAFETY: pages of the arena only; what is forgotten is nobody's.
        answer(libc::c_long::from(unsafe { libc::madvise(self.at as *mut _, self.length, advice) }))
    }

    /// Has the kernel write to its first bytes.
    pub fn copy_from(self, fd: BorrowedFd<'_>) -> Answer<i64> {
        // SAFETY: bytes of the arena only.
        answer(unsafe { libc::read(fd.as_raw_fd(), self.at as *mut _, 8) } as _)
    }
}
