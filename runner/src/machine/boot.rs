// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a kernel image to a running [`Guest`], the only live handle there is.
//!
//! QEMU gets no disk and no network; all it shares with us are three sockets:
//! the serial console, the records and its control protocol. We listen and QEMU
//! connects, so there is no file to wait for, and once it has connected the
//! sockets' folder is removed: a runner that is killed leaves nothing behind.
//!
//! The command line is made by one pure function, [`command`], which
//! `--dry-run` prints as well.

mod tsc;

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bakeoff_fuzz::wire::RECORDS_PORT;

use crate::base::command::{Cancel, Child, Command, Finished, last_lines};
use crate::base::error::{Context, Error, Result};
use crate::base::scratch::{Scratch, TEMPORARY};
use crate::machine::accel::Accel;
use crate::machine::qmp::{self, Qmp, QmpEvent};
use crate::spec::arch::Arch;
use crate::spec::guest::MachineSpec;

/// Time for QEMU to start and connect; a tenth of a second on an idle host.
const START: Duration = Duration::from_secs(60);
/// Bytes of a Unix socket's path, with the NUL (unix(7)).
const SUN_PATH: usize = 108;

/// The virtual machine, apart from what it boots.
#[derive(Clone, Debug)]
pub struct Machine<'a> {
    /// Its architecture.
    pub arch: &'a Arch,
    /// How it is run.
    pub accel: Accel,
    /// Virtual CPUs.
    pub cpus: u32,
    /// What `{tsc_khz}` stands for in `qemu/<arch>.yaml`: kilohertz of the host's
    /// time-stamp counter, where it has one.
    pub tsc_khz: Option<u64>,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Size of an empty disk in MiB; `None`: there is none.
    pub disk_mib: Option<u32>,
    /// What is added to the kernel's command line.
    pub command_line: String,
}

impl<'a> Machine<'a> {
    /// A machine on this host.
    #[must_use]
    pub fn new(arch: &'a Arch, accel: Accel, cpus: u32) -> Machine<'a> {
        let wanted = arch.qemu.append.contains(TSC_KHZ);
        Machine {
            arch,
            accel,
            cpus,
            tsc_khz: if wanted { tsc::khz() } else { None },
            memory_mib: arch.qemu.memory_mib,
            disk_mib: None,
            command_line: String::new(),
        }
    }

    /// A machine as a bake-off wants it.
    #[must_use]
    pub fn of_spec(arch: &'a Arch, accel: Accel, spec: &MachineSpec) -> Machine<'a> {
        let MachineSpec { cpus, memory_mib, disk_mib, command_line, kconfig: _ } = spec;
        let usual = Machine::new(arch, accel, *cpus);
        Machine {
            memory_mib: memory_mib.unwrap_or(usual.memory_mib),
            disk_mib: *disk_mib,
            command_line: command_line.clone(),
            ..usual
        }
    }
}

const TSC_KHZ: &str = "{tsc_khz}";

/// The files and sockets on QEMU's command line.
#[derive(Clone, Debug)]
pub struct Files {
    /// The kernel's image.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// The folder of the sockets.
    pub sockets: PathBuf,
    /// A file that becomes memory shared with the guest, and its length in bytes
    /// (a power of two).
    pub shared: Option<(PathBuf, usize)>,
    /// The disk, for a machine that has one.
    pub disk: PathBuf,
}

impl Files {
    /// Names to read instead of paths, for `--dry-run` and for what is kept in
    /// a run: no path of this machine.
    #[must_use]
    pub fn placeholders(arch: &Arch) -> Files {
        let image = arch.kernel.image.file_name().unwrap_or_default();
        Files {
            kernel: PathBuf::from(image),
            initramfs: PathBuf::from("initramfs.cpio"),
            sockets: PathBuf::from("."),
            shared: None,
            disk: PathBuf::from("disk.img"),
        }
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.sockets.join(name)
    }
}

const CONSOLE: &str = "console";
const RECORDS: &str = "records";
const CONTROL: &str = "qmp";

/// QEMU's command line.
#[must_use]
pub fn command(machine: &Machine<'_>, files: &Files) -> Command {
    Command::new(&machine.arch.qemu.program)
        .args(machine_args(machine))
        .args(nothing_else_args())
        .args(kernel_args(machine, files))
        .args(console_args(files))
        .args(records_args(files))
        .args(control_args(files))
        .args(shared_args(files))
        .args(disk_args(machine, files))
}

/// Board, CPUs, memory and how instructions are run.
fn machine_args(machine: &Machine<'_>) -> Vec<String> {
    let Machine { arch, accel, cpus, memory_mib, .. } = machine;
    let accelerator = match accel {
        Accel::Kvm => "kvm",
        // A thread per virtual CPU; QEMU falls back to one by itself in places.
        Accel::Tcg => "tcg,thread=multi",
    };
    let cpu = arch.qemu.cpu.get(accel.word()).map_or("max", String::as_str);
    let smp = arch.qemu.smp.replace("{cpus}", &cpus.to_string());
    let memory = memory_mib.to_string();
    words(&[
        "-accel",
        accelerator,
        "-machine",
        &arch.qemu.machine,
        "-cpu",
        cpu,
        "-smp",
        &smp,
        "-m",
        &memory,
    ])
}

/// QEMU's own seccomp filter: once it runs, it starts no program, changes no user and no
/// priority, and has no obsolete system call. What a guest makes of a hole in QEMU is
/// then a process that can compute, and can use the files and sockets it has open.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// No default device, no file of the host's configuration, no window; a restart
/// of the guest ends QEMU. The CPUs wait (`-S`) until we listen: QEMU tells its
/// events to nobody before the handshake, and a guest that dies in its first
/// millisecond would go unheard.
fn nothing_else_args() -> Vec<String> {
    words(&[
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-S",
        "-nic",
        "none",
        "-sandbox",
        SANDBOX,
    ])
}

/// The kernel, its initramfs and its command line.
fn kernel_args(machine: &Machine<'_>, files: &Files) -> Vec<String> {
    let (kernel, initramfs) = (files.kernel.display(), files.initramfs.display());
    words(&[
        "-kernel",
        &kernel.to_string(),
        "-initrd",
        &initramfs.to_string(),
        "-append",
        &kernel_command_line(machine),
    ])
}

/// The kernel's own command line.
fn kernel_command_line(machine: &Machine<'_>) -> String {
    let Machine { arch, tsc_khz, command_line, .. } = machine;
    // A word whose value is not known is left out: the kernel then does without.
    let append = arch.qemu.append.split_whitespace().filter_map(|word| match tsc_khz {
        Some(khz) => Some(word.replace(TSC_KHZ, &khz.to_string())),
        None if word.contains(TSC_KHZ) => None,
        None => Some(word.to_owned()),
    });
    let ours = [
        &format!("console={}", arch.qemu.console),
        // A WARN is level 4: any lower console level would hide splats.
        "ignore_loglevel",
        // A panic restarts at once, which ends QEMU. Nothing turns a WARN or an
        // oops into a panic: what comes after it is a result too.
        "panic=-1",
        // The agent refuses to run anywhere else.
        "bakeoff.guest=1",
    ];
    let theirs = command_line.split_whitespace().map(str::to_owned);
    let words = ours.into_iter().map(str::to_owned).chain(append).chain(theirs);
    words.collect::<Vec<_>>().join(" ")
}

/// The serial port the kernel log comes from.
fn console_args(files: &Files) -> Vec<String> {
    let chardev = socket_chardev(CONSOLE, files);
    words(&["-chardev", &chardev, "-serial", "chardev:console"])
}

/// The named virtio port the records come from.
fn records_args(files: &Files) -> Vec<String> {
    let chardev = socket_chardev(RECORDS, files);
    let port = format!("virtserialport,chardev={RECORDS},name={RECORDS_PORT}");
    words(&["-device", "virtio-serial-pci", "-chardev", &chardev, "-device", &port])
}

/// QEMU's control protocol.
fn control_args(files: &Files) -> Vec<String> {
    let chardev = socket_chardev(CONTROL, files);
    words(&["-chardev", &chardev, "-mon", &format!("chardev={CONTROL},mode=control")])
}

/// Memory shared with the guest: it outlives the guest.
fn shared_args(files: &Files) -> Vec<String> {
    let Some((path, length)) = &files.shared else { return Vec::new() };
    let path = path.display().to_string().replace(',', ",,");
    let backend = format!("memory-backend-file,id=shared,share=on,mem-path={path},size={length}");
    words(&["-object", &backend, "-device", "ivshmem-plain,memdev=shared"])
}

/// The empty disk. Nothing of it has to survive, so the host need not write it out; a
/// host without space fails the guest's write and does not stop the guest.
fn disk_args(machine: &Machine<'_>, files: &Files) -> Vec<String> {
    if machine.disk_mib.is_none() {
        return Vec::new();
    }
    let path = files.disk.display().to_string().replace(',', ",,");
    let drive = format!(
        "file={path},format=raw,if=none,id=disk,cache=unsafe,discard=unmap,detect-zeroes=unmap"
    );
    let device = "virtio-blk-pci,drive=disk,werror=report,rerror=report";
    words(&["-drive", &drive, "-device", device])
}

/// A disk's file, which is gone again once QEMU has it open.
fn make_disk(mib: u32, path: &Path) -> Result<tempfile::TempPath> {
    let file = std::fs::File::create(path).at_path("create", path)?;
    // Sparse: what the guest does not write takes no space.
    file.set_len(u64::from(mib) << 20).at_path("create", path)?;
    tempfile::TempPath::try_from_path(path).at_path("create", path)
}

/// A connection to a socket we listen on.
fn socket_chardev(id: &str, files: &Files) -> String {
    // In QEMU's option syntax a comma inside a value is doubled.
    let path = files.socket(id).display().to_string().replace(',', ",,");
    format!("socket,id={id},path={path}")
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A running virtual machine. Dropping it ends QEMU and everything it started.
#[derive(Debug)]
pub struct Guest {
    child: Child,
    /// Before `child` in nobody's way: the control connection.
    pub qmp: Qmp,
    /// When QEMU was started.
    pub power_on: Instant,
}

/// What comes out of a guest, besides QEMU's own events.
#[derive(Debug)]
pub struct Outlets {
    /// The serial console, raw.
    pub console: UnixStream,
    /// The records, raw.
    pub records: UnixStream,
}

impl Guest {
    /// Starts QEMU; `tell` gets its events from another thread.
    ///
    /// # Errors
    /// QEMU is missing, refuses its arguments, or does not come up. Never
    /// anything the guest does.
    pub fn start(
        machine: &Machine<'_>,
        kernel: &Path,
        initramfs: &Path,
        cancel: &Cancel,
        tell: impl FnMut(QmpEvent) + Send + 'static,
    ) -> Result<(Guest, Outlets)> {
        Self::start_sharing(machine, kernel, initramfs, None, cancel, tell)
    }

    /// The same, with a file as memory shared with the guest.
    ///
    /// # Errors
    /// As [`Guest::start`].
    pub fn start_sharing(
        machine: &Machine<'_>,
        kernel: &Path,
        initramfs: &Path,
        shared: Option<(PathBuf, usize)>,
        cancel: &Cancel,
        tell: impl FnMut(QmpEvent) + Send + 'static,
    ) -> Result<(Guest, Outlets)> {
        if !kernel.is_file() {
            return Err(Error::failure(format!("there is no kernel {}", kernel.display())));
        }
        let sockets = short_temporary_dir()?;
        let files = Files {
            kernel: kernel.to_owned(),
            initramfs: initramfs.to_owned(),
            sockets: sockets.path().to_owned(),
            shared,
            disk: initramfs.with_extension("disk"),
        };
        // Dropped at the end of this function, when QEMU has opened it or has failed.
        let _disk = machine.disk_mib.map(|mib| make_disk(mib, &files.disk)).transpose()?;
        let listen = |name| {
            let path = files.socket(name);
            UnixListener::bind(&path).at_path("listen on", &path)
        };
        let (console, records, control) = (listen(CONSOLE)?, listen(RECORDS)?, listen(CONTROL)?);
        let power_on = Instant::now();
        let mut child = command(machine, &files).start()?;
        let mut alive = || {
            cancel.check()?;
            match child.wait_for(Duration::ZERO)? {
                None => Ok(()),
                Some(finished) => Err(start_failure(&machine.arch.qemu.program, &finished)),
            }
        };
        let mut patience = START;
        let console = qmp::accept(&console, &mut patience, &mut alive)?;
        let records = qmp::accept(&records, &mut patience, &mut alive)?;
        let control = qmp::accept(&control, &mut patience, &mut alive)?;
        let begin = |control| {
            let qmp = Qmp::connect(control, tell)?;
            qmp.cont()?;
            Ok(qmp)
        };
        let qmp = match begin(control) {
            Ok(qmp) => qmp,
            // If it died over its arguments, its own words say more.
            Err(error) => {
                std::thread::sleep(Duration::from_millis(100));
                alive()?;
                return Err(error);
            }
        };
        Ok((Guest { child, qmp, power_on }, Outlets { console, records }))
    }

    /// How QEMU ended, if it did within this time.
    ///
    /// # Errors
    /// Failures of waitpid(2).
    pub fn wait_for(&mut self, time: Duration) -> Result<Option<Finished>> {
        self.child.wait_for(time)
    }

    /// Ends QEMU, the guest's wishes notwithstanding.
    pub fn end(&mut self) {
        // Nothing of the guest is worth a polite shutdown.
        self.child.kill();
    }
}

fn start_failure(program: &str, finished: &Finished) -> Error {
    let said = last_lines(&finished.tail, 5);
    let said = if said.is_empty() { "it said nothing" } else { said };
    Error::failure(format!("`{program}` did not start ({}): {said}", finished.status))
        .hint("run `bakeoff doctor`; `--dry-run` prints the command line")
}

/// A private temporary folder whose sockets' paths fit into `sun_path`.
fn short_temporary_dir() -> Result<Scratch> {
    let room = |dir: &Path| dir.as_os_str().len() + "/bakeoff-XXXXXX/console".len() < SUN_PATH;
    let base =
        Some(std::env::temp_dir()).filter(|dir| room(dir)).unwrap_or_else(|| PathBuf::from("/tmp"));
    Scratch::new_in(&base, TEMPORARY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::data::DataDir;

    fn argv(name: &str, accel: Accel, cpus: u32) -> String {
        let arch = Arch::load(&DataDir::embedded(), name).unwrap();
        let machine = Machine { tsc_khz: Some(2_600_000), ..Machine::new(&arch, accel, cpus) };
        command(&machine, &Files::placeholders(&arch)).shell_line()
    }

    /// The whole command line, as `--dry-run` shows it.
    #[test]
    fn command_line_of_x86_64() {
        assert_eq!(
            argv("x86_64", Accel::Tcg, 2),
            "qemu-system-x86_64 -accel tcg,thread=multi -machine pc -cpu max \
             -smp 2,sockets=2,cores=1,threads=1 -m 1024 \
             -nodefaults -no-user-config -display none -no-reboot -S \
             -nic none -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny \
             -kernel vmlinux -initrd initramfs.cpio -append 'console=ttyS0 ignore_loglevel \
             panic=-1 bakeoff.guest=1 tsc=reliable tsc_early_khz=2600000 no_timer_check' \
             -chardev socket,id=console,path=./console -serial chardev:console \
             -device virtio-serial-pci -chardev socket,id=records,path=./records \
             -device virtserialport,chardev=records,name=bakeoff.records \
             -chardev socket,id=qmp,path=./qmp -mon chardev=qmp,mode=control"
        );
    }

    /// Debian's QEMU of both architectures starts under its own seccomp filter, runs a
    /// guest, and has really been put under it: /proc says so of each of its threads.
    #[test]
    fn qemu_starts_in_its_sandbox() {
        for name in ["x86_64", "arm64"] {
            let arch = Arch::load(&DataDir::embedded(), name).unwrap();
            if crate::base::command::find_program(&arch.qemu.program).is_none() {
                continue;
            }
            let machine = Machine::new(&arch, Accel::Tcg, 2);
            let mut qemu = std::process::Command::new(&arch.qemu.program)
                .args(machine_args(&machine))
                .args(nothing_else_args())
                .spawn()
                .unwrap();
            // It waits for `cont` with its CPUs' threads there, the filter in place.
            let filtered = || {
                let tasks = std::fs::read_dir(format!("/proc/{}/task", qemu.id())).unwrap();
                let status = tasks.map(|task| task.unwrap().path().join("status"));
                status
                    .filter_map(|path| std::fs::read_to_string(path).ok())
                    .map(|status| status.contains("Seccomp:\t2"))
                    .collect::<Vec<bool>>()
            };
            let until = Instant::now() + Duration::from_secs(60);
            let mut threads = filtered();
            while (threads.len() < 3 || threads.contains(&false)) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(50));
                threads = filtered();
            }
            let ended = qemu.try_wait().unwrap();
            qemu.kill().unwrap();
            qemu.wait().unwrap();
            assert_eq!(ended, None, "{name}");
            assert!(threads.len() >= 3 && !threads.contains(&false), "{name}: {threads:?}");
        }
    }

    /// KVM takes the host's CPU; arm64 has its own board and console.
    #[test]
    fn accelerator_and_architecture_decide() {
        let line = argv("arm64", Accel::Kvm, 4);
        for part in ["-accel kvm ", "virt,gic-version=3 -cpu host -smp 4 ", "console=ttyAMA0 "] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }

    /// A bake-off's own machine has what it asks for, and nothing else is different.
    #[test]
    fn a_machine_of_its_own() {
        let arch = Arch::load(&DataDir::embedded(), "arm64").unwrap();
        let spec = MachineSpec {
            cpus: 4,
            memory_mib: Some(512),
            disk_mib: Some(64),
            command_line: "mitigations=off  hugepages=8".into(),
            ..MachineSpec::default()
        };
        let line = |spec: &MachineSpec| {
            let machine = Machine::of_spec(&arch, Accel::Tcg, spec);
            command(&machine, &Files::placeholders(&arch)).shell_line()
        };
        let own = line(&spec);
        for part in
            ["-smp 4 -m 512 ", " mitigations=off hugepages=8'", "file=disk.img,", "werror=report"]
        {
            assert!(own.contains(part), "{part} in {own}");
        }
        assert_eq!(line(&MachineSpec::default()), argv("arm64", Accel::Tcg, 2));
    }

    /// The disk's file is as long as asked for, takes no space, and goes with its handle.
    #[test]
    fn disks_are_empty_and_go() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let disk = make_disk(64, &path).unwrap();
        let data = std::fs::metadata(&path).unwrap();
        assert_eq!((data.len(), data.blocks()), (64 << 20, 0));
        drop(disk);
        assert!(!path.exists());
    }

    /// On a host without that counter the guest is not told a rate.
    #[test]
    fn unknown_values_are_left_out() {
        let arch = Arch::load(&DataDir::embedded(), "x86_64").unwrap();
        let machine = Machine { tsc_khz: None, ..Machine::new(&arch, Accel::Tcg, 1) };
        let line = kernel_command_line(&machine);
        assert!(line.ends_with("bakeoff.guest=1 tsc=reliable no_timer_check"), "{line}");
    }

    /// A comma in a path does not become an option of QEMU's.
    #[test]
    fn commas_in_paths_are_doubled() {
        let files = Files {
            kernel: "k".into(),
            initramfs: "i".into(),
            sockets: "/tmp/a,server=on".into(),
            shared: None,
            disk: "d".into(),
        };
        assert_eq!(
            socket_chardev(CONSOLE, &files),
            "socket,id=console,path=/tmp/a,,server=on/console"
        );
    }
}
