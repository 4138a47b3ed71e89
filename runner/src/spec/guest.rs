// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a bake-off wants of its guests beyond what every guest has: files to run, and
//! another machine. Paths are relative to the spec.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    pub fn check(&self, dir: &Path) -> Result<(), String> {
        for path in self.files.iter().chain(&self.rootfs) {
            check_path(dir, path)?;
        }
        if self.build.as_ref().is_some_and(|line| line.trim().is_empty()) {
            return Err("`build` is empty".into());
        }
        for name in &self.kselftest {
            let good = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
            if name.is_empty()
                || !name.split('/').all(|part| !part.is_empty() && part.chars().all(good))
            {
                return Err(format!("`{name}` is not a folder of tools/testing/selftests"));
            }
        }
        if !self.kselftest.is_empty() && !self.busybox && self.rootfs.is_none() {
            return Err("kselftests need a shell: give `busybox: true`".into());
        }
        Ok(())
    }
}

/// What the virtual machine is like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
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
    pub fn check(&self, dir: &Path, words: &[String]) -> Result<(), String> {
        for (what, value, least, most) in [
            ("cpus", Some(self.cpus), 1, 64),
            ("memory-mib", self.memory_mib, 128, 64 << 10),
            ("disk-mib", self.disk_mib, 1, 64 << 10),
        ] {
            if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
                return Err(format!("`{what}` is {value}, not between {least} and {most}"));
            }
        }
        if self.command_line.chars().any(char::is_control) {
            return Err("`command-line` is not one line of text".into());
        }
        for key in self.kconfig.keys() {
            if key != ALL && !words.contains(key) {
                let known = words.iter().map(String::as_str).chain([ALL]);
                let near = crate::base::words::did_you_mean(key, known);
                return Err(format!("`kconfig` has `{key}`, no architecture or profile; {near}"));
            }
        }
        self.fragments().try_for_each(|path| check_path(dir, path))
    }
}

/// A path that stays in the bake-off's folder and is there.
fn check_path(dir: &Path, path: &Path) -> Result<(), String> {
    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !inside || path.as_os_str().is_empty() {
        return Err(format!("`{}` is not a path inside the bake-off's folder", path.display()));
    }
    if !dir.join(path).exists() {
        return Err(format!("there is no `{}` in {}", path.display(), dir.display()));
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
        let refused = |yaml| machine(yaml).check(dir.path(), &words).unwrap_err();
        assert_eq!(machine("kconfig: {arm64: a}").check(dir.path(), &words), Ok(()));
        assert!(refused("cpus: 0").contains("`cpus` is 0"));
        assert!(refused("memory-mib: 1").contains("between 128 and"));
        assert!(refused("kconfig: {arm46: a}").contains("did you mean `arm64`?"));
        assert!(refused("kconfig: {all: ../a}").contains("inside the bake-off's folder"));
        assert!(refused("kconfig: {all: b}").contains("there is no `b`"));
        let pack = |yaml: &str| {
            let pack: Pack = serde_yaml::from_str(yaml).unwrap();
            pack.check(dir.path()).unwrap_err()
        };
        assert!(pack("files: [/etc/passwd]").contains("inside the bake-off's folder"));
        assert!(pack("kselftest: [../futex]").contains("tools/testing/selftests"));
        assert!(pack("kselftest: [futex]").contains("busybox: true"));
        assert!(pack("build: ' '").contains("`build` is empty"));
    }
}
