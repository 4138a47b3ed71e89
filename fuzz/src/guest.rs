// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest the agent lives in: is it one of ours, what it needs, how it ends.
//!
//! The agent loads BPF programs, changes sysctls and restarts the machine. So
//! it does nothing anywhere but in a guest made for it: its kernel command
//! line says `bakeoff.guest=1`, it is PID 1 (or PID 1's child), and there is a
//! virtio-serial port named [`RECORDS_PORT`].

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::sys::{self, Leave, Wait};
use crate::wire::RECORDS_PORT;

/// The word on the kernel command line of a guest of ours.
pub const TOKEN: &str = "bakeoff.guest=1";

/// Exit code of a guest binary that was started anywhere else.
pub const EXIT_NOT_A_GUEST: u8 = 86;

/// Exit code of a step's process that has reported its result.
pub const EXIT_STEP_REPORTED: u8 = 0;

/// Exit code of a step's process that could not report its result.
pub const EXIT_STEP_LOST: u8 = 87;

const CMDLINE: &str = "/proc/cmdline";
const PORTS: &str = "/sys/class/virtio-ports";

/// How long the port may take to appear: the driver probes in the background.
const PORT_LIMIT: Duration = Duration::from_secs(20);
/// How long the host may leave records unread.
const WRITE_LIMIT: Duration = Duration::from_secs(60);

/// Why this is not a guest of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody's process.
    NotPid1,
    /// A step's process, but not started by the agent.
    NotPid1sChild,
    /// Some other machine's or container's PID 1.
    NoToken,
    /// No port to send records to.
    NoPort,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this program runs inside bakeoff's guests only: ")?;
        match self {
            Self::NotPid1 => write!(f, "it is not PID 1"),
            Self::NotPid1sChild => write!(f, "it was not started by PID 1"),
            Self::NoToken => write!(f, "the kernel command line has no {TOKEN}"),
            Self::NoPort => write!(f, "there is no virtio-serial port named {RECORDS_PORT}"),
        }
    }
}

/// Says something on the console, in a form the host can find again.
pub fn say(message: impl fmt::Display) {
    // A console that is gone cannot be told so.
    let _ = writeln!(io::stderr(), "bakeoff-agent: {message}");
}

fn has_token(cmdline: &str) -> bool {
    cmdline.split_ascii_whitespace().any(|word| word == TOKEN)
}

/// Refuses unless this is PID 1 of a guest of ours. Mounts nothing elsewhere:
/// only a PID 1 that finds no `/proc` at all (a kernel has just started it)
/// mounts that one, to read the command line.
pub fn check_pid1() -> Result<(), Refusal> {
    if std::process::id() != 1 {
        return Err(Refusal::NotPid1);
    }
    if !Path::new(CMDLINE).exists() {
        let _ = fs::create_dir_all("/proc");
        let _ = sys::mount("proc", "/proc");
    }
    check_token()
}

/// Refuses unless PID 1 of a guest of ours has started this process.
pub fn check_step() -> Result<(), Refusal> {
    if std::os::unix::process::parent_id() != 1 {
        return Err(Refusal::NotPid1sChild);
    }
    check_token()?;
    find_port(Path::new(PORTS)).map(|_| ()).ok_or(Refusal::NoPort)
}

/// Whether this process may be a puppet of a worker's: in a guest of ours, whoever its
/// parent is.
pub fn check_puppet() -> Result<(), Refusal> {
    check_token()?;
    find_port(Path::new(PORTS)).map(|_| ()).ok_or(Refusal::NoPort)
}

fn check_token() -> Result<(), Refusal> {
    let cmdline = fs::read_to_string(CMDLINE).unwrap_or_default();
    if has_token(&cmdline) { Ok(()) } else { Err(Refusal::NoToken) }
}

/// Mounts what probes need and lifts the limits that would distort them. What
/// a kernel lacks (debugfs, say) is left out.
pub fn prepare() {
    for (kind, target) in [
        ("devtmpfs", "/dev"),
        ("sysfs", "/sys"),
        ("debugfs", "/sys/kernel/debug"),
        ("tracefs", "/sys/kernel/tracing"),
        ("tmpfs", "/tmp"),
    ] {
        let _ = fs::create_dir_all(target);
        let _ = sys::mount(kind, target);
    }
    // Without /dev/console in the initramfs PID 1 starts with nothing open.
    if let Ok(console) = OpenOptions::new().read(true).write(true).open("/dev/console")
        && sys::adopt_as_standard(&console).is_err()
    {
        say("the console could not be made the standard output");
    }
    for (sysctl, value) in [
        // The rate first: with no time limit the kernel refuses to change it.
        ("kernel/perf_event_max_sample_rate", "1000000"),
        ("kernel/perf_cpu_time_max_percent", "0"),
        ("kernel/perf_event_paranoid", "-1"),
        ("kernel/kptr_restrict", "0"),
    ] {
        if let Err(error) = fs::write(format!("/proc/sys/{sysctl}"), value) {
            say(format_args!("{sysctl} = {value}: {error}"));
        }
    }
}

/// Ends the machine in order. Nothing comes after it.
pub fn end() -> ! {
    // x86_64 guests have no ACPI to power off with; QEMU runs with -no-reboot.
    let how = if cfg!(target_arch = "x86_64") { Leave::Restart } else { Leave::PowerOff };
    let error = sys::leave(how);
    say(format_args!("{how:?} refused: {error}"));
    let error = sys::leave(Leave::Restart);
    say(format_args!("restart refused: {error}"));
    // A PID 1 that ends panics the kernel: loud, and better than hanging.
    std::process::exit(i32::from(EXIT_STEP_LOST))
}

/// The device of the port that bears [`RECORDS_PORT`]'s name.
fn find_port(ports: &Path) -> Option<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(ports)
        .ok()?
        .flatten()
        .filter(|port| {
            fs::read_to_string(port.path().join("name"))
                .is_ok_and(|name| name.trim_end() == RECORDS_PORT)
        })
        .map(|port| Path::new("/dev").join(port.file_name()))
        .collect();
    found.sort();
    found.into_iter().next()
}

/// The port to the host: one JSON object per line.
#[derive(Debug)]
pub struct Port {
    file: File,
    records: u64,
}

impl Port {
    /// Waits for the port and opens it.
    pub fn open() -> io::Result<Self> {
        let start = Instant::now();
        loop {
            if let Some(path) = find_port(Path::new(PORTS)) {
                let opened =
                    OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
                match opened {
                    Ok(file) => return Ok(Self { file, records: 0 }),
                    // devtmpfs may lag behind sysfs.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            if start.elapsed() > PORT_LIMIT {
                return Err(io::Error::new(io::ErrorKind::NotFound, Refusal::NoPort.to_string()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Records sent so far.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Sends one record. A host that does not read for a minute is an error:
    /// better a boot without an end than one that hangs.
    pub fn send(&mut self, record: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(record).map_err(io::Error::other)?;
        line.push(b'\n');
        self.send_line(&line)
    }

    /// Sends a record that is written already, with the newline at its end.
    pub fn send_line(&mut self, line: &[u8]) -> io::Result<()> {
        let mut rest = line;
        while !rest.is_empty() {
            if !sys::wait(self.file.as_fd(), Wait::Writable, WRITE_LIMIT)? {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the host does not read the records",
                ));
            }
            match self.file.write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.records += 1;
        Ok(())
    }

    /// Sends the last record, and returns only when the host has it: a write
    /// that may not wait is still on its way when the machine ends.
    pub fn send_last(mut self, record: &impl Serialize) -> io::Result<()> {
        sys::set_nonblocking(&self.file, false)?;
        self.send(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The token is a word of its own.
    #[test]
    fn the_token_is_a_whole_word() {
        assert!(has_token("console=ttyS0 bakeoff.guest=1 quiet\n"));
        assert!(!has_token("console=ttyS0 bakeoff.guest=10"));
        assert!(!has_token("xbakeoff.guest=1"));
        assert!(!has_token(""));
    }

    /// This test is not PID 1, nor a child of a guest's PID 1.
    #[test]
    fn a_test_is_not_a_guest() {
        assert!(check_pid1().is_err());
        assert!(check_step().is_err());
    }

    /// The port is found by its name, whatever its number.
    #[test]
    fn the_port_is_found_by_name() {
        let top = std::env::temp_dir().join(format!("bakeoff-ports-{}", std::process::id()));
        for (port, name) in [("vport1p1", "other\n"), ("vport2p3", "bakeoff.records\n")] {
            fs::create_dir_all(top.join(port)).unwrap();
            fs::write(top.join(port).join("name"), name).unwrap();
        }
        assert_eq!(find_port(&top), Some(PathBuf::from("/dev/vport2p3")));
        fs::remove_dir_all(top.join("vport2p3")).unwrap();
        assert_eq!(find_port(&top), None);
        fs::remove_dir_all(&top).unwrap();
        assert_eq!(find_port(&top), None);
    }
}
