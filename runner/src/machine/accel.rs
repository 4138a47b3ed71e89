// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether KVM really works here.
//!
//! That `/dev/kvm` opens and creates a virtual machine proves nothing: on some
//! hosts (nested ones above all) the first guest then hangs or QEMU aborts; on
//! others real mode runs, because it is emulated, and a kernel does not. So
//! a small guest, made here, has to do what a kernel does first (paging, an
//! exception, timer interrupts, a loop at the CPU's speed) within seconds, on
//! the very machine and CPU model the boots will use ([`choose`]). Once there is a
//! kernel, that has to run, too ([`confirm`]). Otherwise the guests are emulated
//! (TCG), with the reason in words.

mod kernel;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::base::command::{Cancel, Command, last_lines};
use crate::base::error::{Context, Error, Result};
use crate::base::scratch::Scratch;
use crate::machine::boot::Machine;
use crate::make::guest::GuestBinaries;
use crate::spec::arch::Arch;

/// Time for the test guest; it needs a fifth of a second.
const LIMIT: Duration = Duration::from_secs(5);

/// How guests are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// The host's virtualization.
    Kvm,
    /// Emulation.
    Tcg,
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl Accel {
    /// As in `qemu/<arch>.yaml` and in reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Accel::Kvm => "kvm",
            Accel::Tcg => "tcg",
        }
    }
}

/// An accelerator and why it is that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Which.
    pub accel: Accel,
    /// Why, for doctor and report.
    pub reason: String,
}

/// What was found out of an architecture.
#[derive(Clone, Debug)]
struct Found {
    choice: Choice,
    /// No kernel has to prove it any more.
    confirmed: bool,
}

/// What was found out, for the life of the process.
static FOUND: Mutex<BTreeMap<String, Found>> = Mutex::new(BTreeMap::new());

/// The accelerator for guests of `arch`; `wanted` is `--accel`.
///
/// # Errors
/// `--accel kvm` for a foreign architecture; interrupted.
pub fn choose(arch: &Arch, wanted: Option<Accel>, cancel: &Cancel) -> Result<Choice> {
    match wanted {
        Some(Accel::Kvm) if !arch.is_native() => {
            return Err(Error::bad_input(format!(
                "--accel kvm: this host cannot run {} guests on its own CPU",
                arch.name
            ))
            .hint("leave out --accel: each architecture then gets what works"));
        }
        Some(accel) => return Ok(Choice { accel, reason: "asked for with --accel".into() }),
        None => {}
    }
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = found.get(&arch.name) {
        return Ok(found.choice.clone());
    }
    let choice = match prove(arch, cancel)? {
        Ok(()) => Choice { accel: Accel::Kvm, reason: "a test guest ran under KVM".into() },
        Err(reason) => Choice { accel: Accel::Tcg, reason },
    };
    let confirmed = choice.accel == Accel::Tcg;
    found.insert(arch.name.clone(), Found { choice: choice.clone(), confirmed });
    Ok(choice)
}

/// The same before a kernel is booted: if KVM was found and not asked for, the kernel
/// has to reach user space under it first, once in the life of the process.
///
/// # Errors
/// As [`choose`]; a full disk.
pub fn confirm(
    arch: &Arch,
    cpus: u32,
    wanted: Option<Accel>,
    kernel: &Path,
    binaries: &GuestBinaries,
    cancel: &Cancel,
) -> Result<Choice> {
    let choice = choose(arch, wanted, cancel)?;
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(found) = found.get_mut(&arch.name).filter(|_| wanted.is_none()) else {
        return Ok(choice);
    };
    if !found.confirmed {
        let machine = Machine::new(arch, found.choice.accel, cpus);
        found.choice = match kernel::runs(&machine, kernel, binaries, cancel)? {
            Ok(()) => Choice { accel: Accel::Kvm, reason: "a kernel ran under KVM".into() },
            Err(why) => Choice {
                accel: Accel::Tcg,
                reason: format!("a kernel did not run under KVM: {why}"),
            },
        };
        found.confirmed = true;
    }
    Ok(found.choice.clone())
}

/// Runs the test guest; the inner error is why KVM is of no use.
fn prove(arch: &Arch, cancel: &Cancel) -> Result<std::result::Result<(), String>> {
    if !arch.is_native() {
        return Ok(Err(format!("{} is not this host's architecture", arch.name)));
    }
    let Some(test) = TEST_GUESTS.iter().find(|test| test.host == std::env::consts::ARCH) else {
        return Ok(Err(format!("no test guest for {} hosts", std::env::consts::ARCH)));
    };
    if !arch.qemu.cpu.contains_key(Accel::Kvm.word()) {
        return Ok(Err(format!("no CPU model for KVM in qemu/{}.yaml", arch.name)));
    }
    let device = Path::new("/dev/kvm");
    match fs::OpenOptions::new().read(true).write(true).open(device) {
        Ok(_) => test.run(arch, Accel::Kvm, cancel),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Err("there is no /dev/kvm".into())),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            Ok(Err("no permission for /dev/kvm (is the user in the group kvm?)".into()))
        }
        Err(e) => Ok(Err(format!("/dev/kvm does not open: {e}"))),
    }
}

/// A small guest that ends by itself.
struct TestGuest {
    /// [`std::env::consts::ARCH`] of the hosts it is for.
    host: &'static str,
    /// Makes the image.
    image: fn() -> Vec<u8>,
    /// QEMU's option that takes it.
    loaded_by: &'static str,
    /// What else it needs.
    devices: &'static [&'static str],
    /// The status QEMU ends with if every instruction ran.
    status: i32,
}

const TEST_GUESTS: &[TestGuest] = &[
    #[cfg(target_arch = "x86_64")]
    TestGuest {
        host: "x86_64",
        image: x86_64_image,
        loaded_by: "-bios",
        devices: &["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"],
        // The device ends QEMU with (value << 1) | 1.
        status: (0x2a << 1) | 1,
    },
    TestGuest {
        host: "aarch64",
        image: aarch64_image,
        loaded_by: "-kernel",
        devices: &[],
        status: 0,
    },
];

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(include_str!("accel/test_guest_x86_64.s"), options(att_syntax));

/// A 64 KiB ROM with the code of `test_guest_x86_64.s`. KVM without the CPU's own
/// virtualization emulates what comes before long mode, so a guest has to get there.
#[cfg(target_arch = "x86_64")]
fn x86_64_image() -> Vec<u8> {
    const CODE: usize = 0xf000;
    const RESET: usize = 0xfff0;
    unsafe extern "C" {
        static bakeoff_test_guest_begin: u8;
        static bakeoff_test_guest_end: u8;
    }
    let (begin, end) = (&raw const bakeoff_test_guest_begin, &raw const bakeoff_test_guest_end);
    // SAFETY: both symbols bound one piece of read-only data, the assembled code.
    let code = unsafe { std::slice::from_raw_parts(begin, end.offset_from_unsigned(begin)) };
    let mut rom = vec![0xf4; 0x1_0000]; // hlt
    rom[CODE..CODE + code.len()].copy_from_slice(code);
    // ljmp 0xf000:CODE
    rom[RESET..RESET + 5].copy_from_slice(&[0xea, 0x00, 0xf0, 0x00, 0xf0]);
    rom
}

/// PSCI SYSTEM_OFF by hypervisor call, as the machine `virt` offers it.
fn aarch64_image() -> Vec<u8> {
    let code: [u32; 4] = [
        0xd2b0_8000, // movz x0, #0x8400, lsl #16
        0xf280_0100, // movk x0, #8
        0xd400_0002, // hvc  #0
        0x1400_0000, // b    .
    ];
    code.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl TestGuest {
    fn run(
        &self,
        arch: &Arch,
        accel: Accel,
        cancel: &Cancel,
    ) -> Result<std::result::Result<(), String>> {
        let dir = Scratch::new()?;
        let image = dir.path().join("test-guest");
        fs::write(&image, (self.image)()).at_path("write", &image)?;
        let cpu = arch.qemu.cpu.get(accel.word()).map_or("max", String::as_str);
        let finished = Command::new(&arch.qemu.program)
            .args(["-accel", accel.word(), "-machine", &arch.qemu.machine, "-cpu", cpu])
            .args(["-m", "64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(self.devices)
            .arg(self.loaded_by)
            .arg(&image)
            // A QEMU that aborts may leave a core file where it stands.
            .cwd(dir.path())
            .timeout(LIMIT)
            .run(cancel)?;
        if finished.timed_out {
            return Ok(Err(format!("a test guest under {accel} hung ({} s)", LIMIT.as_secs())));
        }
        if finished.status.code() == Some(self.status) {
            return Ok(Ok(()));
        }
        let said = last_lines(&finished.tail, 1);
        Ok(Err(format!("a test guest under {accel} did not run: {}, {said}", finished.status)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::data::DataDir;

    fn arch(name: &str) -> Arch {
        Arch::load(&DataDir::embedded(), name).unwrap()
    }

    /// The test guests are right: under emulation they end as they should. So
    /// where one does not end under KVM, KVM is to blame.
    #[test]
    fn test_guests_run_under_emulation() {
        for test in TEST_GUESTS {
            let name = if test.host == "aarch64" { "arm64" } else { test.host };
            assert_eq!(
                test.run(&arch(name), Accel::Tcg, &Cancel::new()).unwrap(),
                Ok(()),
                "{name}"
            );
        }
    }

    /// A QEMU that hangs or aborts under KVM means TCG, with the reason.
    #[test]
    fn unproven_kvm_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("qemu");
        let script = "#!/bin/sh\necho 'failed to set MSR' >&2\nkill -ABRT $$\n";
        crate::base::command::write_script(&program, script).unwrap();
        let mut arch = arch("x86_64");
        arch.qemu.program = program.to_str().unwrap().to_owned();
        let reason = TEST_GUESTS[0].run(&arch, Accel::Kvm, &Cancel::new()).unwrap().unwrap_err();
        assert!(reason.contains("failed to set MSR"), "{reason}");
    }

    /// A foreign architecture is never run under KVM, not even when asked.
    #[test]
    fn foreign_architecture_is_emulated() {
        let foreign = arch(if cfg!(target_arch = "x86_64") { "arm64" } else { "x86_64" });
        let choice = choose(&foreign, None, &Cancel::new()).unwrap();
        assert_eq!(choice.accel, Accel::Tcg);
        assert!(choice.reason.contains("not this host's architecture"));
        let error = choose(&foreign, Some(Accel::Kvm), &Cancel::new()).unwrap_err();
        assert_eq!(error.kind(), crate::base::error::Kind::BadInput);
    }
}
