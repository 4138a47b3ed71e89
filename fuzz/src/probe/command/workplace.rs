// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a command runs: a place of its own, so that whatever it writes, fills or forks
//! is gone when its visit ends.
//!
//! It gets mounts of its own. `/tmp` is empty and bounded; everything else is read-only,
//! `/proc` and `/sys` included, and `/dev` holds the harmless devices and the disk. A
//! step with `writes: kernel` has the kernel's own files writable. Processes are bounded
//! by `kernel.threads-max`, the only limit that binds root without cgroups. Memory is
//! bounded by being the first choice of the OOM killer.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::symlink;

use crate::failure::Failure;
use crate::sys::process::{self, Device};

/// The folder a command starts in.
pub(super) const DIRECTORY: &str = "/tmp/work";

/// Bytes of a guest's memory that a command's files may take, as a part of it: /tmp, and
/// /dev/shm. What is left has to do for the programs.
const TMP_PART: u64 = 4;
const SHM_PART: u64 = 8;

const THREADS_MAX: &str = "/proc/sys/kernel/threads-max";
const OOM_SCORE: &str = "/proc/self/oom_score_adj";
/// Threads of a kernel that does not tell how many it has.
const USUAL_THREADS: u64 = 200;

/// Devices that a program may expect and cannot do harm with.
const DEVICES: [(&str, Device); 6] = [
    ("/dev/null", Device::Character(1, 3)),
    ("/dev/zero", Device::Character(1, 5)),
    ("/dev/full", Device::Character(1, 7)),
    ("/dev/random", Device::Character(1, 8)),
    ("/dev/urandom", Device::Character(1, 9)),
    ("/dev/tty", Device::Character(5, 0)),
];

/// A place that was made.
#[derive(Debug)]
pub(super) struct Workplace {
    /// Opened while `/proc` was still writable.
    threads_max: File,
    oom_score: File,
    threads_before: String,
}

impl Workplace {
    /// Makes the place for the calling process, which is a visit's in a guest of ours.
    pub(super) fn enter(processes: u32, kernel: bool) -> Result<Workplace, Failure> {
        let failed = |what: &str| {
            let what = format!("preparing a place for the command: {what}");
            move |e: io::Error| Failure::at(&what, &e)
        };
        let write = |path: &str| OpenOptions::new().write(true).open(path).map_err(failed(path));
        let read = |path: &str| fs::read_to_string(path).map_err(failed(path));
        for disk in disks().map_err(failed("looking for disks"))? {
            let path = format!("/dev/{}", disk.name);
            process::empty_disk(&write(&path)?).map_err(failed(&path))?;
        }
        let mut place = Workplace {
            threads_before: read(THREADS_MAX)?,
            threads_max: write(THREADS_MAX)?,
            oom_score: write(OOM_SCORE)?,
        };
        let now = threads(&read("/proc/loadavg")?).unwrap_or(USUAL_THREADS);
        let most = now.saturating_add(u64::from(processes)).to_string();
        overwrite(&mut place.threads_max, &most).map_err(failed(THREADS_MAX))?;
        // Ordinary processes may be many, and it is for us to end them.
        process::run_first().map_err(failed("priority"))?;
        process::no_core_dumps().map_err(failed("core dumps"))?;
        mounts(kernel).map_err(failed("mounts"))?;
        std::env::set_current_dir(DIRECTORY).map_err(failed(DIRECTORY))?;
        Ok(place)
    }

    /// Runs `spawn`, whose children are the OOM killer's first choice while this process
    /// is its last.
    pub(super) fn expendable<T>(
        &mut self,
        spawn: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let failed = |e: io::Error| Failure::at(OOM_SCORE, &e);
        overwrite(&mut self.oom_score, "500").map_err(failed)?;
        let spawned = spawn();
        overwrite(&mut self.oom_score, "-1000").map_err(failed)?;
        spawned
    }
}

impl Drop for Workplace {
    /// Lifts the limit that would outlive this process; all else goes with it.
    fn drop(&mut self) {
        let _ = overwrite(&mut self.threads_max, self.threads_before.trim());
    }
}

fn overwrite(file: &mut File, value: &str) -> io::Result<()> {
    file.rewind()?;
    file.write_all(value.as_bytes())
}

fn mounts(kernel: bool) -> io::Result<()> {
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory = memory_kib(&memory)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/meminfo"))?;
    let disks = disks()?;
    let options = |part: u64| format!("size={}k,nr_inodes=50k,mode=1777", memory / part);
    process::own_mounts()?;
    process::mount_tmpfs("/tmp", &options(TMP_PART))?;
    fs::create_dir(DIRECTORY)?;
    if !kernel {
        process::mount_tmpfs("/dev", "size=64k,mode=755")?;
        for (path, device) in DEVICES {
            process::make_node(path, device)?;
        }
        for disk in disks {
            process::make_node(&format!("/dev/{}", disk.name), disk.device)?;
        }
        symlink("/proc/self/fd", "/dev/fd")?;
        for (number, name) in ["stdin", "stdout", "stderr"].iter().enumerate() {
            symlink(format!("/proc/self/fd/{number}"), format!("/dev/{name}"))?;
        }
    }
    fs::create_dir_all("/dev/shm")?;
    process::mount_tmpfs("/dev/shm", &options(SHM_PART))?;
    process::make_read_only("/")?;
    if !kernel {
        for target in ["/proc", "/sys", "/sys/kernel/debug", "/sys/kernel/tracing", "/dev"] {
            match process::make_read_only(target) {
                // Not a mount of its own: this kernel has no such thing.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                other => other?,
            }
        }
    }
    Ok(())
}

/// A disk of the guest's.
#[derive(Debug, PartialEq, Eq)]
struct Disk {
    name: String,
    device: Device,
}

/// The virtio disks there are; a kernel without the block layer has none.
fn disks() -> io::Result<Vec<Disk>> {
    let Ok(folder) = fs::read_dir("/sys/block") else { return Ok(Vec::new()) };
    let mut disks = Vec::new();
    for entry in folder {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("vd") {
            continue;
        }
        let numbers = fs::read_to_string(entry.path().join("dev"))?;
        if let Some(device) = block_device(&numbers) {
            disks.push(Disk { name, device });
        }
    }
    Ok(disks)
}

/// `254:0`, as sysfs writes it.
fn block_device(numbers: &str) -> Option<Device> {
    let (major, minor) = numbers.trim().split_once(':')?;
    Some(Device::Block(major.parse().ok()?, minor.parse().ok()?))
}

/// Threads there are, from `/proc/loadavg`: `0.20 0.18 0.12 1/80 11206`.
fn threads(load: &str) -> Option<u64> {
    load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

/// All memory, from `/proc/meminfo`.
fn memory_kib(info: &str) -> Option<u64> {
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's own files are read as it writes them.
    #[test]
    fn the_kernels_numbers_are_read() {
        assert_eq!(threads("0.20 0.18 0.12 1/80 11206\n"), Some(80));
        assert_eq!(threads("nonsense"), None);
        assert_eq!(memory_kib("MemTotal:        1000 kB\nMemFree: 5 kB\n"), Some(1000));
        assert_eq!(memory_kib(""), None);
        assert_eq!(block_device("254:16\n"), Some(Device::Block(254, 16)));
        assert_eq!(block_device("254"), None);
    }
}
