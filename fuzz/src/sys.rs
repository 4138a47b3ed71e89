// SPDX-License-Identifier: MIT OR Apache-2.0
//! System calls: the only `unsafe` of this package.
//!
//! Everything above speaks in file descriptors that close themselves, byte
//! offsets and `io::Result`.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

pub mod bpf;
pub mod call;
pub mod child;
pub mod kcov;
pub mod maps;
pub mod memory;
pub mod perf;
pub mod process;
pub mod puppet;
pub mod sampled;
pub mod trigger;
pub mod window;
pub mod yard;

/// The kernel's answer as a `Result`: -1 is `errno`.
fn check(answer: libc::c_long) -> io::Result<libc::c_long> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

fn c_string(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Mounts a file system that needs no device and no options.
pub fn mount(kind: &str, target: &str) -> io::Result<()> {
    let (kind, target) = (c_string(kind)?, c_string(target)?);
    // SAFETY: three NUL-terminated strings that outlive the call; no data.
    check(libc::c_long::from(unsafe {
        libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, std::ptr::null())
    }))?;
    Ok(())
}

/// How a machine is left.
#[derive(Clone, Copy, Debug)]
pub enum Leave {
    /// Restart; QEMU runs with `-no-reboot`.
    Restart,
    /// Power off.
    PowerOff,
}

/// Leaves the machine. Returns only where the kernel refused.
pub fn leave(how: Leave) -> io::Error {
    let command = match how {
        Leave::Restart => libc::RB_AUTOBOOT,
        Leave::PowerOff => libc::RB_POWER_OFF,
    };
    // SAFETY: no memory is passed; the callers are PID 1 of a guest of ours.
    unsafe { libc::reboot(command) };
    io::Error::last_os_error()
}

/// Ties the calling thread to one CPU.
pub fn pin(cpu: u32) -> io::Result<()> {
    pin_to(&[cpu])
}

/// Ties the calling thread to some CPUs.
pub fn pin_to(cpus: &[u32]) -> io::Result<()> {
    // SAFETY: `cpu_set_t` is a plain bit set: all zeroes is the empty one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus {
        let index = *cpu as usize;
        if index >= libc::CPU_SETSIZE as usize {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        // SAFETY: the index was checked against the set's size.
        unsafe { libc::CPU_SET(index, &mut set) };
    }
    // SAFETY: the set is initialized and its true size is passed.
    check(libc::c_long::from(unsafe {
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    }))?;
    Ok(())
}

/// Gives the calling thread the lowest priority among ordinary ones.
pub fn be_nice() -> io::Result<()> {
    // SAFETY: no memory is passed; 0 is the calling thread.
    check(libc::c_long::from(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) }))?;
    Ok(())
}

/// Faults in and locks all memory of the process, present and future.
pub fn lock_memory() -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(libc::c_long::from(unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) }))?;
    Ok(())
}

/// Locks the memory there is, but no longer what is mapped from now on: a
/// thread that maps and unmaps is not to fault pages in by it.
pub fn lock_no_more_memory() -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(libc::c_long::from(unsafe { libc::mlockall(libc::MCL_CURRENT) }))?;
    Ok(())
}

/// Takes `length` bytes of a file away from `offset` on; its size stays.
pub fn punch_hole(fd: RawFd, offset: u64, length: u64) -> io::Result<()> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let (offset, length) = (off(offset)?, off(length)?);
    // SAFETY: no memory is passed.
    check(libc::c_long::from(unsafe { libc::fallocate(fd, mode, offset, length) }))?;
    Ok(())
}

fn off(value: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(value).map_err(io::Error::other)
}

/// Gives the CPU to whoever else wants it.
pub fn yield_now() {
    // SAFETY: no memory is passed; the call cannot fail.
    unsafe { libc::sched_yield() };
}

/// Waits until every CPU has passed a quiescent state, where the kernel has
/// `membarrier(2)`.
pub fn wait_for_grace_period() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_long = 1;
    // SAFETY: no memory is passed; a refusal changes nothing.
    unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
}

/// The calling thread's id, as BPF programs see it.
#[must_use]
pub fn thread_id() -> u32 {
    // SAFETY: no memory is passed; the call cannot fail.
    unsafe { libc::gettid() }.cast_unsigned()
}

/// One `getppid(2)`, past any cache: the process probe's event.
pub fn getppid() {
    // SAFETY: no memory is passed; the call cannot fail.
    unsafe { libc::syscall(libc::SYS_getppid) };
}

fn timespec_ns(time: &libc::timespec) -> u64 {
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// CLOCK_MONOTONIC in nanoseconds: what `bpf_ktime_get_ns` answers.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    timespec_ns(&time)
}

/// Resolution of CLOCK_MONOTONIC timers in nanoseconds.
pub fn monotonic_resolution_ns() -> io::Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes.
    check(libc::c_long::from(unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC, &raw mut time) }))?;
    Ok(timespec_ns(&time))
}

/// Sleeps until CLOCK_MONOTONIC shows `at_ns`.
pub fn sleep_until(at_ns: u64) {
    let time = libc::timespec {
        tv_sec: (at_ns / 1_000_000_000).cast_signed(),
        tv_nsec: (at_ns % 1_000_000_000).cast_signed(),
    };
    // SAFETY: `time` is valid for reads; no remainder is asked for.
    while unsafe {
        libc::clock_nanosleep(
            libc::CLOCK_MONOTONIC,
            libc::TIMER_ABSTIME,
            &raw const time,
            std::ptr::null_mut(),
        )
    } == libc::EINTR
    {}
}

/// What to wait for on a file descriptor.
#[derive(Clone, Copy, Debug)]
pub enum Wait {
    /// Data, or the other end gone.
    Readable,
    /// Room.
    Writable,
}

/// Waits at most `limit`; answers whether it came.
pub fn wait(fd: BorrowedFd<'_>, what: Wait, limit: Duration) -> io::Result<bool> {
    let mut entry = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: match what {
            Wait::Readable => libc::POLLIN,
            Wait::Writable => libc::POLLOUT,
        },
        revents: 0,
    };
    let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: exactly one entry, valid for reads and writes.
    match check(libc::c_long::from(unsafe { libc::poll(&raw mut entry, 1, limit) })) {
        Ok(ready) => Ok(ready > 0),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes writes to an open file wait (or not).
pub fn set_nonblocking(file: &File, nonblocking: bool) -> io::Result<()> {
    // SAFETY: the descriptor is open; F_GETFL takes no argument.
    let flags = check(libc::c_long::from(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) }))?;
    let flags = i32::try_from(flags).map_err(io::Error::other)?;
    let flags = if nonblocking { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    // SAFETY: the descriptor is open; F_SETFL takes the flags by value.
    check(libc::c_long::from(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags) }))?;
    Ok(())
}

/// Makes `file` the process's standard input, output and error.
pub fn adopt_as_standard(file: &File) -> io::Result<()> {
    for standard in 0..=2 {
        // SAFETY: the descriptor is open; the standard ones are nobody's
        // property at the start of PID 1, which is when this is called.
        check(libc::c_long::from(unsafe { libc::dup2(file.as_raw_fd(), standard) }))?;
    }
    Ok(())
}

/// As PID 1: kills every other process and collects what has ended.
pub fn kill_all_others() {
    // SAFETY: no memory is passed; -1 from PID 1 spares PID 1 and the kernel's.
    unsafe { libc::kill(-1, libc::SIGKILL) };
    reap();
}

/// Collects children that have ended, without waiting for any.
pub fn reap() {
    // SAFETY: no status is asked for.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

/// `uname -r` and `uname -m`.
pub fn uname() -> io::Result<(String, String)> {
    // SAFETY: `utsname` is arrays of bytes: all zeroes are empty strings.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: `names` is valid for writes.
    check(libc::c_long::from(unsafe { libc::uname(&raw mut names) }))?;
    Ok((text(&names.release), text(&names.machine)))
}

fn text(field: &[libc::c_char]) -> String {
    let bytes: Vec<u8> =
        field.iter().take_while(|c| **c != 0).map(|c| u8::from_ne_bytes(c.to_ne_bytes())).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Size of a page in bytes.
#[must_use]
pub fn page_size() -> u64 {
    // SAFETY: no memory is passed.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Run-time address of the executable's program headers.
#[must_use]
pub fn program_headers_at() -> u64 {
    // SAFETY: reads the auxiliary vector; no memory is passed.
    unsafe { libc::getauxval(libc::AT_PHDR) }
}

/// An errno's name, as the records spell it.
#[must_use]
pub fn errno_name(errno: i32) -> String {
    match errno {
        libc::EPERM => "EPERM".to_owned(),
        libc::ENOENT => "ENOENT".to_owned(),
        libc::EINTR => "EINTR".to_owned(),
        libc::EAGAIN => "EAGAIN".to_owned(),
        libc::ENOMEM => "ENOMEM".to_owned(),
        libc::EACCES => "EACCES".to_owned(),
        libc::EFAULT => "EFAULT".to_owned(),
        libc::EBUSY => "EBUSY".to_owned(),
        libc::EEXIST => "EEXIST".to_owned(),
        libc::EINVAL => "EINVAL".to_owned(),
        libc::ENOSPC => "ENOSPC".to_owned(),
        libc::EOPNOTSUPP => "EOPNOTSUPP".to_owned(),
        other => format!("errno {other}"),
    }
}
