// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a bake-off wants of its guests beyond what every guest has: files to run, and
//! another machine. Paths are relative to the spec.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::words::did_you_mean;
use crate::base::yaml::{Path as Way, Wrong};

/// What goes into the guest for commands to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Pack {
    /// Files and folders of the bake-off's; they lie in /workload in the guest.
    pub files: Vec<PathBuf>,
    /// A shell command that builds what has to be built, in a folder with a copy of the
    /// files and with `$CC` and `$ARCH` set. What it makes lies in /workload, too.
    pub build: Option<String>,
    /// Folders of the base's tools/testing/selftests; each gets a command
    /// `kselftest-NAME`, which prints KTAP.
    pub kselftest: Vec<String>,
    /// Debian's static busybox, for scripts.
    pub busybox: bool,
    /// A folder or a tar file that is unpacked as the guest's root.
    pub rootfs: Option<PathBuf>,
}

impl Pack {
    /// Whether there is nothing to pack.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Pack::default()
    }

    /// What is wrong with it, as far as the bake-off's folder tells.
    ///
    /// # Errors
    /// Exactly that.
    pub(super) fn check(&self, dir: &Path) -> Result<(), Wrong> {
        let key = |key: &str| Way::top().key(key);
        for (index, path) in self.files.iter().enumerate() {
            check_path(dir, path, &key("files").index(index))?;
        }
        if let Some(path) = &self.rootfs {
            check_path(dir, path, &key("rootfs"))?;
        }
        if self.build.as_ref().is_some_and(|line| line.trim().is_empty()) {
            return Err(Wrong::value(&key("build"), "`build` is empty"));
        }
        for (index, name) in self.kselftest.iter().enumerate() {
            let good = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
            if name.is_empty()
                || !name.split('/').all(|part| !part.is_empty() && part.chars().all(good))
            {
                let why = format!("`{name}` is not a folder of tools/testing/selftests");
                return Err(Wrong::value(&key("kselftest").index(index), why));
            }
        }
        if !self.kselftest.is_empty() && !self.busybox && self.rootfs.is_none() {
            let why = "kselftests need a shell: give `busybox: true`";
            return Err(Wrong::key(&key("kselftest"), why));
        }
        Ok(())
    }
}

/// What the virtual machine is like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
#[schemars(rename = "Machine")]
pub struct MachineSpec {
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory; left out: the architecture's.
    pub memory_mib: Option<u32>,
    /// Size of an empty disk, /dev/vda; left out: none.
    pub disk_mib: Option<u32>,
    /// Words that are added to the kernel's command line.
    pub command_line: String,
    /// Kconfig fragments: for `all` kernels, or for those of an architecture or profile.
    pub kconfig: BTreeMap<String, Fragments>,
}

impl Default for MachineSpec {
    fn default() -> Self {
        MachineSpec {
            // One for the sampled thread, one for everybody else.
            cpus: 2,
            memory_mib: None,
            disk_mib: None,
            command_line: String::new(),
            kconfig: BTreeMap::new(),
        }
    }
}

/// One fragment or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Fragments {
    /// One.
    One(PathBuf),
    /// Several, in this order.
    Many(Vec<PathBuf>),
}

impl Fragments {
    /// All of them.
    pub fn list(&self) -> &[PathBuf] {
        match self {
            Fragments::One(one) => std::slice::from_ref(one),
            Fragments::Many(many) => many,
        }
    }
}

/// The key of fragments for all kernels.
const ALL: &str = "all";

impl MachineSpec {
    /// All fragments, as they are written.
    pub fn fragments(&self) -> impl Iterator<Item = &PathBuf> {
        self.kconfig.values().flat_map(Fragments::list)
    }

    /// The fragments of one kernel, the general before the particular.
    pub fn fragments_of(&self, arch: &str, profile: &str) -> impl Iterator<Item = &PathBuf> {
        let of = |key: &str| self.kconfig.get(key).map(Fragments::list).unwrap_or_default();
        [of(ALL), of(arch), of(profile)].into_iter().flatten()
    }

    /// What is wrong with it; `words` are the architectures and profiles there are.
    ///
    /// # Errors
    /// Exactly that.
    pub(super) fn check(&self, dir: &Path, words: &[String]) -> Result<(), Wrong> {
        let key = |key: &str| Way::top().key(key);
        for (what, value, least, most) in [
            ("cpus", Some(self.cpus), 1, 64),
            ("memory-mib", self.memory_mib, 128, 64 << 10),
            ("disk-mib", self.disk_mib, 1, 64 << 10),
        ] {
            if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
                let why = format!("`{what}` is {value}, not between {least} and {most}");
                return Err(Wrong::value(&key(what), why));
            }
        }
        if self.command_line.chars().any(char::is_control) {
            let why = "`command-line` is not one line of text";
            return Err(Wrong::value(&key("command-line"), why));
        }
        for (name, fragments) in &self.kconfig {
            let at = key("kconfig").key(name);
            if name != ALL && !words.contains(name) {
                let known = words.iter().map(String::as_str).chain([ALL]);
                let near = did_you_mean(name, known);
                let why = format!("`kconfig` has `{name}`, no architecture or profile; {near}");
                return Err(Wrong::key(&at, why));
            }
            match fragments {
                Fragments::One(path) => check_path(dir, path, &at)?,
                Fragments::Many(paths) => {
                    for (index, path) in paths.iter().enumerate() {
                        check_path(dir, path, &at.index(index))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// A path that stays in the bake-off's folder and is there.
fn check_path(dir: &Path, path: &Path, at: &Way) -> Result<(), Wrong> {
    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !inside || path.as_os_str().is_empty() {
        let why = format!("`{}` is not a path inside the bake-off's folder", path.display());
        return Err(Wrong::value(at, why));
    }
    if !dir.join(path).exists() {
        let why = format!("there is no `{}` in {}", path.display(), dir.display());
        return Err(Wrong::value(at, why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(yaml: &str) -> MachineSpec {
        serde_yaml::from_str(yaml).unwrap()
    }

    /// The general fragment comes before the architecture's and the profile's.
    #[test]
    fn fragments_are_in_order() {
        let machine = machine("kconfig: {lockdep: [c, d], all: a, arm64: b, x86_64: other}");
        let of: Vec<_> = machine.fragments_of("arm64", "lockdep").collect();
        assert_eq!(of, ["a", "b", "c", "d"].map(Path::new));
    }

    /// What no machine could be, and what lies elsewhere, is refused by name.
    #[test]
    fn bad_wishes_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "").unwrap();
        let words = ["arm64".to_owned(), "lockdep".to_owned()];
        let refused = |yaml| {
            let wrong = machine(yaml).check(dir.path(), &words).unwrap_err();
            (wrong.path().to_string(), wrong.message().to_owned())
        };
        let pack = |yaml: &str| {
            let pack: Pack = serde_yaml::from_str(yaml).unwrap();
            let wrong = pack.check(dir.path()).unwrap_err();
            (wrong.path().to_string(), wrong.message().to_owned())
        };
        assert!(machine("kconfig: {arm64: a}").check(dir.path(), &words).is_ok());
        for ((at, why), meant, says) in [
            (refused("cpus: 0"), "cpus", "`cpus` is 0"),
            (refused("memory-mib: 1"), "memory-mib", "between 128 and"),
            (refused("kconfig: {arm46: a}"), "kconfig.arm46", "did you mean `arm64`?"),
            (refused("kconfig: {all: ../a}"), "kconfig.all", "inside the bake-off's folder"),
            (refused("kconfig: {all: [a, b]}"), "kconfig.all[1]", "there is no `b`"),
            (pack("files: [a, /etc/passwd]"), "files[1]", "inside the bake-off's folder"),
            (pack("kselftest: [../futex]"), "kselftest[0]", "tools/testing/selftests"),
            (pack("kselftest: [futex]"), "kselftest", "busybox: true"),
            (pack("build: ' '"), "build", "`build` is empty"),
        ] {
            assert_eq!(at, meant);
            assert!(why.contains(says), "{why}");
        }
    }
}
