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

    /// A 32-bit field as it is.
    #[must_use]
    pub fn word_at(&self, at: usize) -> u32 {
        let word = self.bytes.get(at / 8).copied().unwrap_or(0).to_ne_bytes();
        let mut half = [0; 4];
        half.iter_mut().zip(word.iter().skip(at % 8)).for_each(|(to, from)| *to = *from);
        u32::from_ne_bytes(half)
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
    attributes: Attributes<'_>,
    size: u32,
    at: usize,
) -> (Answer<i64>, u32) {
    let (answered, after) = bpf_after(command, attributes, size);
    (answered, after.word_at(at))
}

/// The same, and the attributes as they are afterwards.
pub fn bpf_after<'a>(
    command: u32,
    mut attributes: Attributes<'a>,
    size: u32,
) -> (Answer<i64>, Attributes<'a>) {
    // SAFETY: `size` bytes are valid for reads and writes; addresses in them are of live
    // borrows.
    let answered = answer(unsafe {
        bpf_raw(
            command.into(),
            attributes.bytes.as_mut_ptr().cast(),
            (size as usize).min(size_of_val(&attributes.bytes)),
        )
    });
    (answered, attributes)
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
    limit(libc::RLIMIT_NOFILE.into(), count)
}

/// The limit of locked memory in bytes, the process's: the old one is the answer.
pub fn limit_locked(bytes: u64) -> Answer<u64> {
    limit(libc::RLIMIT_MEMLOCK.into(), bytes)
}

/// A soft limit, and the hard one where it would be below that.
fn limit(resource: libc::c_long, value: u64) -> Answer<u64> {
    let mut old = [0_u64; 2];
    // SAFETY: two words are valid for writes, and no new limit is given.
    answer(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, 0_u64, old.as_mut_ptr()) })?;
    let new = [value, old[1].max(value)];
    // SAFETY: two words are valid for reads; nothing is written.
    answer(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, new.as_ptr(), 0_u64) })?;
    Ok(old[0])
}

/// `CAP_PERFMON` and `CAP_BPF`, as bits of a set.
pub const PERFMON: u64 = 1 << 38;
/// See [`PERFMON`].
pub const BPF: u64 = 1 << 39;

/// Has a function run while the calling thread has no other capabilities than these
/// (`capset(2)`, version 3): of the effective ones the rest is gone, and comes back.
pub fn with_capabilities<T>(these: u64, call_it: impl FnOnce() -> T) -> Answer<T> {
    const VERSION_3: u32 = 0x2008_0522;
    // Effective, permitted, inheritable; the lower halves and the upper ones.
    let mut sets = [[0_u32; 3]; 2];
    let mut header = [VERSION_3, 0];
    // SAFETY: a header and two sets are valid for reads and writes; 0 is this thread.
    answer(unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) })?;
    let mut set = |sets: &[[u32; 3]; 2]| {
        // SAFETY: as above; the sets are read only.
        answer(unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()) })
    };
    let mut less = sets;
    for ([effective, ..], shift) in less.iter_mut().zip([0, 32]) {
        #[allow(clippy::cast_possible_truncation)] // a half of it
        let these = (these >> shift) as u32;
        *effective &= these;
    }
    set(&less)?;
    let answered = call_it();
    set(&sets)?;
    Ok(answered)
}

/// `poll(2)` of a descriptor that can be read, without waiting: `POLL*` bits.
pub fn poll(fd: BorrowedFd<'_>) -> Answer<i16> {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry is valid for reads and writes.
    answer(libc::c_long::from(unsafe { libc::poll(&raw mut entry, 1, 0) }))?;
    Ok(entry.revents)
}

/// The signal that [`notify`] asks for: of the real-time ones, which queue and say why they
/// come.
const NOTICE: i32 = 44;

/// The set of that signal alone.
fn notice() -> libc::sigset_t {
    // SAFETY: all zeroes is a valid set, of which the signal's bit is written.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&raw mut set, NOTICE);
        set
    }
}

/// Has the calling thread told by a signal, that it has blocked for good, whatever happens to
/// a descriptor (`O_ASYNC`).
pub fn notify(fd: BorrowedFd<'_>) -> Answer<()> {
    const F_SETSIG: i32 = 10;
    const F_SETOWN_EX: i32 = 15;
    const THREAD: i32 = 0;
    let owner = [THREAD, super::thread_id().cast_signed()];
    let set = notice();
    // SAFETY: the set is valid for reads; the old one is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    let fd = fd.as_raw_fd();
    let done = |value: i32| answer(libc::c_long::from(value)).map(drop);
    // SAFETY: `struct f_owner_ex` is two words, valid for reads.
    done(unsafe { libc::fcntl(fd, F_SETOWN_EX, owner.as_ptr()) })?;
    // SAFETY: no memory is passed.
    done(unsafe { libc::fcntl(fd, F_SETSIG, NOTICE) })?;
    // SAFETY: as above.
    done(unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_ASYNC) })
}

/// Why the calling thread was notified, the first first: `POLL_*` of `siginfo_t`. All that is
/// there, and no waiting.
#[must_use]
pub fn notices() -> Vec<i32> {
    let mut codes = Vec::new();
    let set = notice();
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        // SAFETY: all zeroes is valid for what the kernel writes over.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: set and time are valid for reads, the rest for writes.
        let taken = unsafe { libc::sigtimedwait(&raw const set, &raw mut info, &raw const now) };
        if answer(libc::c_long::from(taken)).is_err() {
            return codes;
        }
        codes.push(info.si_code);
    }
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

    /// Unmaps a part of it, where the kernel lets that happen.
    pub fn unmap_part(&self, from: usize, length: usize) -> Answer<()> {
        let (from, length) = self.part(from, length);
        // SAFETY: pages of this mapping, which nothing refers to.
        answer(libc::c_long::from(unsafe { libc::munmap(from as *mut _, length) }))?;
        Self::fill(from, length);
        Ok(())
    }

    /// Has a part of it be for reading only.
    pub fn protect_part(&self, from: usize, length: usize) -> Answer<()> {
        let (from, length) = self.part(from, length);
        // SAFETY: pages of this mapping; whoever wrote to them would fault, and nobody does.
        answer(libc::c_long::from(unsafe {
            libc::mprotect(from as *mut _, length, libc::PROT_READ)
        }))
        .map(drop)
    }

    /// Has it be for writing, too, where the kernel lets that happen.
    pub fn make_writable(&self) -> Answer<()> {
        let both = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: pages of this mapping.
        answer(libc::c_long::from(unsafe { libc::mprotect(self.at as *mut _, self.length, both) }))
            .map(drop)
    }

    /// Makes it shorter or longer where it is (`mremap(2)`), and as it was again.
    pub fn resize(&self, length: usize) -> Answer<()> {
        // SAFETY: it stays where it is, and nothing refers to what it loses.
        answer(unsafe { libc::mremap(self.at as *mut _, self.length, length, 0) } as libc::c_long)?;
        if length < self.length {
            Self::fill(self.at + length, self.length - length);
            return Ok(());
        }
        // SAFETY: what it got is of nobody else.
        let back = unsafe { libc::mremap(self.at as *mut _, length, self.length, 0) };
        answer(back as libc::c_long).map(drop)
    }

    /// Pages of it: an address and a length.
    fn part(&self, from: usize, length: usize) -> (usize, usize) {
        let from = from.min(self.length);
        (self.at + from, length.min(self.length - from))
    }

    /// Has a hole in it belong to nobody else: all of it is unmapped in the end.
    fn fill(at: usize, length: usize) {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        counted();
        // SAFETY: only where nothing is mapped.
        unsafe { libc::mmap(at as *mut _, length, libc::PROT_READ, flags, -1, 0) };
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

    /// Where it ends.
    #[must_use]
    pub fn end(self) -> u64 {
        (self.at + self.length) as u64
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

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::yard::Pipe;

    /// A descriptor that can be read says so, to poll(2) and by a signal that says why.
    #[test]
    fn what_can_be_read_is_told() {
        let pipe = Pipe::new().unwrap();
        notify(pipe.read.as_fd()).unwrap();
        assert_eq!((poll(pipe.read.as_fd()), notices()), (Ok(0), Vec::new()));
        for _ in 0..2 {
            // SAFETY: one byte is valid for reads.
            unsafe { libc::write(pipe.write.as_raw_fd(), b"x".as_ptr().cast(), 1) };
        }
        assert_eq!(poll(pipe.read.as_fd()), Ok(libc::POLLIN));
        const POLL_IN: i32 = 1;
        assert_eq!((notices(), notices()), (vec![POLL_IN, POLL_IN], Vec::new()));
    }

    /// Capabilities are gone for as long as the function runs, and limits are given back.
    #[test]
    fn what_is_taken_comes_back() {
        let effective = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        let before = effective();
        assert_eq!(with_capabilities(0, effective), Ok(0));
        assert_eq!(with_capabilities(BPF | 1, effective), Ok(before & (BPF | 1)));
        assert_eq!(effective(), before);
        let old = limit_locked(8192).unwrap();
        assert_eq!(limit_locked(old), Ok(8192));
        assert_eq!(limit_locked(old), Ok(old));
    }

    /// Parts of a mapping are unmapped and protected, and what is lost is nobody else's.
    #[test]
    fn regions_have_parts() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let mapped = |at: u64| {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            maps.lines().find_map(|line| {
                let (range, rest) = line.split_once(' ')?;
                let (from, to) = range.split_once('-')?;
                let hex = |text| u64::from_str_radix(text, 16).ok();
                let is_file = !rest.trim_end().ends_with(" 0");
                (hex(from)? <= at && at < hex(to)?).then_some(is_file)
            })
        };
        let region = Region::map(file.as_fd(), 4 * 4096, false).unwrap();
        let at = |page: u64| region.at as u64 + page * 4096;
        let pages = || [0, 1, 2, 3].map(|page| mapped(at(page)));
        assert_eq!(pages(), [Some(true); 4]);
        assert_eq!(region.unmap_part(4096, 4096), Ok(()));
        assert_eq!(pages(), [Some(true), Some(false), Some(true), Some(true)]);
        assert_eq!(region.protect_part(8192, 4096), Ok(()));
        // Of two mappings, so that it cannot be done.
        assert_eq!(region.resize(8 * 4096), Err(libc::EFAULT));
        assert_eq!(region.part(3 * 4096, 9 * 4096), (region.at + 3 * 4096, 4096));
        let other = Region::map(file.as_fd(), 2 * 4096, false).unwrap();
        assert_eq!(other.resize(4096), Ok(()));
        assert_eq!(mapped(other.at as u64 + 4096), Some(false));
    }
}
