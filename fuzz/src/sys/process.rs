// SPDX-License-Identifier: MIT OR Apache-2.0
//! What it takes to run somebody else's program and to be rid of it again.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::{c_string, check};

/// A descriptor that becomes readable when a child ends.
pub fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0) })?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened it for us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits until one of these can be read or is closed at the other end; answers for
/// each whether it is.
pub fn wait_for_any<const N: usize>(
    fds: [Option<BorrowedFd<'_>>; N],
    limit: Duration,
) -> io::Result<[bool; N]> {
    let mut entries = fds.map(|fd| libc::pollfd {
        // poll(2) passes over negative descriptors.
        fd: fd.map_or(-1, |fd| fd.as_raw_fd()),
        events: libc::POLLIN,
        revents: 0,
    });
    // Rounded up: a limit of half a millisecond is no reason to spin.
    let limit = i32::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    let count = libc::nfds_t::try_from(N).map_err(io::Error::other)?;
    // SAFETY: `entries` has `count` elements, valid for reads and writes.
    match check(libc::c_long::from(unsafe { libc::poll(entries.as_mut_ptr(), count, limit) })) {
        Ok(_) => Ok(entries.map(|entry| entry.revents != 0)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok([false; N]),
        Err(error) => Err(error),
    }
}

/// Kills every process but init and this one, in one call, so that none can fork faster;
/// collects none of them.
pub fn kill_everyone_else() {
    // SAFETY: no memory is passed; the callers are in a guest of ours.
    unsafe { libc::kill(-1, libc::SIGKILL) };
}

/// Kills all of a process group; one that is gone already is fine.
pub fn kill_group(leader: u32) {
    if let Ok(group) = libc::pid_t::try_from(leader)
        && group > 1
    {
        // SAFETY: no memory is passed.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
}

/// The name of the calling thread, which ends with a zero.
#[must_use]
pub fn name() -> [u8; 16] {
    let mut name = [0; 16];
    // SAFETY: sixteen bytes are valid for writes, which is what the kernel writes.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name
}

/// Gives the calling thread a name: up to the first zero, and fifteen bytes at most.
pub fn set_name(name: &[u8; 16]) {
    let mut name = *name;
    name[15] = 0;
    // SAFETY: sixteen bytes that end with a zero are valid for reads.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Has the calling thread run before all ordinary ones; children do not inherit it.
pub fn run_first() -> io::Result<()> {
    // The kernel's `struct sched_param`. The system call itself: musl's `sched_setscheduler`
    // answers ENOSYS and does nothing.
    let priority: libc::c_int = 1;
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `priority` is valid for reads; 0 is the calling thread.
    check(unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) })?;
    Ok(())
}

/// No core dumps from here on, in children neither.
pub fn no_core_dumps() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` is valid for reads.
    check(libc::c_long::from(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) }))?;
    Ok(())
}

/// Gives the calling process mounts of its own: what it mounts from now on, nobody else
/// sees, and it goes with the last process that sees it.
pub fn own_mounts() -> io::Result<()> {
    // SAFETY: no memory is passed. The process has one thread, or the kernel refuses.
    check(libc::c_long::from(unsafe { libc::unshare(libc::CLONE_NEWNS) }))?;
    mount_flags("/", libc::MS_REC | libc::MS_PRIVATE)
}

/// Makes a mount read-only for those who see it through the caller's mounts.
pub fn make_read_only(target: &str) -> io::Result<()> {
    mount_flags(target, libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY)
}

fn mount_flags(target: &str, flags: libc::c_ulong) -> io::Result<()> {
    let target = c_string(target)?;
    let none = std::ptr::null();
    // SAFETY: the target is a NUL-terminated string that outlives the call; changing
    // flags takes no source, no type and no data.
    check(libc::c_long::from(unsafe {
        libc::mount(none, target.as_ptr(), none, flags, none.cast())
    }))?;
    Ok(())
}

/// Mounts an empty tmpfs with these options.
pub fn mount_tmpfs(target: &str, options: &str) -> io::Result<()> {
    let (target, options) = (c_string(target)?, c_string(options)?);
    let kind = c"tmpfs".as_ptr();
    // SAFETY: NUL-terminated strings that outlive the call.
    check(libc::c_long::from(unsafe {
        libc::mount(kind, target.as_ptr(), kind, 0, options.as_ptr().cast())
    }))?;
    Ok(())
}

/// What a device node leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// A character device.
    Character(u32, u32),
    /// A block device.
    Block(u32, u32),
}

/// Makes a device node that everybody may read and write.
pub fn make_node(path: &str, device: Device) -> io::Result<()> {
    let path = c_string(path)?;
    let (kind, number) = match device {
        Device::Character(major, minor) => (libc::S_IFCHR, libc::makedev(major, minor)),
        Device::Block(major, minor) => (libc::S_IFBLK, libc::makedev(major, minor)),
    };
    // SAFETY: the path is a NUL-terminated string that outlives the call.
    check(libc::c_long::from(unsafe { libc::mknod(path.as_ptr(), kind | 0o666, number) }))?;
    Ok(())
}

/// Empties a disk: whatever was on it reads as zeroes.
pub fn empty_disk(disk: &File) -> io::Result<()> {
    // include/uapi/linux/fs.h: _IOR(0x12, 114, size_t), _IO(0x12, 127).
    const BLKGETSIZE64: libc::c_ulong = 0x8008_1272;
    const BLKZEROOUT: libc::c_ulong = 0x127f;
    let mut bytes = 0_u64;
    // SAFETY: the answer is one u64, for which `bytes` is valid.
    check(libc::c_long::from(unsafe {
        libc::ioctl(disk.as_raw_fd(), BLKGETSIZE64 as _, &raw mut bytes)
    }))?;
    let range = [0_u64, bytes];
    // SAFETY: the range is two u64, valid for reads.
    check(libc::c_long::from(unsafe {
        libc::ioctl(disk.as_raw_fd(), BLKZEROOUT as _, range.as_ptr())
    }))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    /// A child's end is seen at once, and a pipe that is silent does not pretend.
    #[test]
    fn ends_are_seen() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let end = pidfd(child.id()).unwrap();
        let (silent, _writer) = io::pipe().unwrap();
        let fds = [Some(silent.as_fd()), None, Some(end.as_fd())];
        assert_eq!(wait_for_any(fds, Duration::from_secs(20)).unwrap(), [false, false, true]);
        child.wait().unwrap();
    }

    /// Nothing that could be init's or everybody's group is killed.
    #[test]
    fn only_groups_are_killed() {
        kill_group(0);
        kill_group(1);
        kill_group(u32::MAX);
    }
}
