// SPDX-License-Identifier: MIT OR Apache-2.0
//! An architecture is one file, `qemu/<arch>.yaml`, and nothing else.
//!
//! It says how its kernel is made, how the guest binaries are linked and how
//! QEMU boots it. `--data-dir` replaces the files built into the program.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::base::data::DataDir;
use crate::base::error::{Error, Result};
use crate::base::yaml::Document;

/// What `qemu/<arch>.yaml` says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arch {
    /// Its name, as in the file's name and in every report.
    pub name: String,
    /// How its kernel is made.
    pub kernel: KernelMake,
    /// How the guest binaries are made.
    pub guest: GuestMake,
    /// How QEMU boots it.
    pub qemu: Qemu,
}

/// How a kernel of this architecture is made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelMake {
    /// `make ARCH=`.
    pub arch: String,
    /// `make CROSS_COMPILE=` on a host of the same architecture.
    pub cross_compile: String,
    /// `make CROSS_COMPILE=` on any other host.
    pub cross_compile_elsewhere: String,
    /// `make` targets.
    pub targets: Vec<String>,
    /// The bootable image, relative to the build folder.
    pub image: PathBuf,
    /// Fragments in `kconfigs/`, in order; the profile's comes last.
    pub kconfig: Vec<String>,
}

/// How guest binaries of this architecture are made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestMake {
    /// Rust target triple.
    pub rust_target: String,
    /// Linker on a host of the same architecture.
    pub linker: String,
    /// Linker on any other host.
    pub linker_elsewhere: String,
}

/// How QEMU boots this architecture.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qemu {
    /// `qemu-system-…`.
    pub program: String,
    /// Debian's package of that program.
    pub package: String,
    /// `-machine`, without `accel`.
    pub machine: String,
    /// `-cpu` for each accelerator.
    pub cpu: BTreeMap<String, String>,
    /// `-smp`; `{cpus}` is replaced by the number of CPUs.
    pub smp: String,
    /// `-m`, MiB.
    pub memory_mib: u32,
    /// The serial console's device name in the guest.
    pub console: String,
    /// More for the kernel's command line; `{tsc_khz}` is replaced by the rate of
    /// the host's time-stamp counter, or its word left out.
    pub append: String,
    /// How the guest ends itself: read, so that a wrong word is refused; the agent knows by
    /// itself what its machine can do.
    #[expect(dead_code, reason = "checked when it is read")]
    pub ends_by: EndsBy,
    /// How an NMI gets into the guest.
    pub nmi: NmiMethod,
}

/// How a guest ends itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndsBy {
    /// It restarts, and QEMU's `-no-reboot` turns that into an exit.
    Restart,
    /// It powers off.
    PowerOff,
}

/// How an NMI gets into the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NmiMethod {
    /// QMP `inject-nmi`.
    Qmp,
    /// The PMU's overflow interrupt, a pseudo-NMI.
    Pmu,
}

impl Arch {
    /// Reads `qemu/<name>.yaml`.
    ///
    /// # Errors
    /// An architecture without a file (the error lists those that have one),
    /// or a file that says something else than it should.
    pub fn load(data: &DataDir, name: &str) -> Result<Arch> {
        let file = format!("qemu/{name}.yaml");
        let Some(text) = data.read_text(&file)? else {
            let known = Arch::names(data)?;
            return Err(Error::bad_input(format!("there is no architecture `{name}`"))
                .hint(crate::base::words::did_you_mean(name, known.iter().map(String::as_str))));
        };
        let (arch, _) = Document::read::<Arch>(&text, &data.describe(&file))?;
        if arch.name != name {
            return Err(Error::bad_input(format!(
                "{} calls itself `{}`",
                data.describe(&file),
                arch.name
            ))
            .hint("make `name:` and the file's name agree"));
        }
        Ok(arch)
    }

    /// All architectures there is a file for, sorted.
    ///
    /// # Errors
    /// The data directory cannot be read.
    pub fn names(data: &DataDir) -> Result<Vec<String>> {
        let files = data.list("qemu")?;
        Ok(files.iter().filter_map(|f| f.strip_suffix(".yaml").map(str::to_owned)).collect())
    }

    /// Whether the host is of this architecture.
    #[must_use]
    pub fn is_native(&self) -> bool {
        self.guest.rust_target.starts_with(&format!("{}-", std::env::consts::ARCH))
    }

    /// `make CROSS_COMPILE=` on this host.
    #[must_use]
    pub fn cross_compile(&self) -> &str {
        if self.is_native() {
            &self.kernel.cross_compile
        } else {
            &self.kernel.cross_compile_elsewhere
        }
    }

    /// The linker for guest binaries on this host.
    #[must_use]
    pub fn linker(&self) -> &str {
        if self.is_native() { &self.guest.linker } else { &self.guest.linker_elsewhere }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every file in `qemu/` is a complete architecture.
    #[test]
    fn every_file_loads() {
        let data = DataDir::embedded();
        let names = Arch::names(&data).unwrap();
        assert!(names.contains(&"x86_64".to_owned()) && names.contains(&"arm64".to_owned()));
        for name in names {
            let arch = Arch::load(&data, &name).unwrap();
            assert!(arch.qemu.cpu.contains_key("tcg"), "{name} needs a CPU for TCG");
        }
    }

    /// A misspelt architecture names the nearest real one.
    #[test]
    fn misspelt_architecture_gets_a_suggestion() {
        let error = Arch::load(&DataDir::embedded(), "x86-64").unwrap_err();
        assert!(error.next_step().unwrap().contains("`x86_64`"), "{error:?}");
    }
}
