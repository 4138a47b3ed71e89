// SPDX-License-Identifier: MIT OR Apache-2.0
//! A kernel's configuration is three fragments on top of nothing; each line is a
//! promise that is checked.
//!
//! The fragments are given to `make allnoconfig` as `KCONFIG_ALLCONFIG`. Kconfig
//! drops what it cannot honour without a word: an unmet dependency, a name that
//! is gone. A probe that then cannot reach its context would look like a result,
//! so a dropped option is an error that names option, file and line.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::base::command::Cancel;
use crate::base::data::DataDir;
use crate::base::error::{Context, Error, Result};
use crate::make::source::series::Patch;

/// A comment that begins so names an option that the fragment takes over from one
/// before it; of two values Kconfig takes the last.
const OVERRIDES: &str = "# overrides ";

/// A comment that begins so names the folders of the kernel whose coverage is wanted;
/// without one it is all of it.
const INSTRUMENTS: &str = "# instruments ";

/// A comment that begins so names a patch of `kconfigs/` that every kernel of the profile
/// gets, whatever its series.
const PATCH: &str = "# patch ";

/// One line of a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    /// `CONFIG_X`.
    pub option: String,
    /// Its value; `None` for `# CONFIG_X is not set`.
    pub value: Option<String>,
    /// Where: `kconfigs/base.config:12`.
    pub place: String,
}

/// What a configuration is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The fragments, one after the other.
    pub text: String,
    /// Their lines.
    pub requested: Vec<Requested>,
    /// Folders that are compiled for coverage, where it is not the whole kernel.
    pub instruments: Vec<String>,
    /// Patches that all kernels of the profile get, alike.
    pub patches: Vec<Patch>,
}

impl Wanted {
    /// Reads the fragments `names` of `kconfigs/`.
    ///
    /// # Errors
    /// No such fragment, a line that is none, an option in two places.
    pub fn read(data: &DataDir, names: &[String]) -> Result<Wanted> {
        let mut wanted = Wanted::default();
        for name in names {
            let file = format!("kconfigs/{name}");
            let text = data.read_text(&file)?.ok_or_else(|| {
                Error::bad_input(format!("there is no kconfig fragment {}", data.describe(&file)))
                    .hint("`bakeoff list` shows the profiles there are")
            })?;
            wanted.add(&file, &text, data)?;
        }
        Ok(wanted)
    }

    /// Adds a fragment, which is called `file` in errors; patches that it names are of
    /// the project's `kconfigs/`.
    ///
    /// # Errors
    /// As [`Wanted::read`].
    pub(super) fn add(&mut self, file: &str, text: &str, data: &DataDir) -> Result<()> {
        for (n, line) in text.lines().enumerate() {
            let place = format!("{file}:{}", n + 1);
            if let Some(option) = line.trim().strip_prefix(OVERRIDES) {
                let before = self.requested.len();
                self.requested.retain(|requested| requested.option != option.trim());
                if self.requested.len() == before {
                    return Err(Error::bad_input(format!(
                        "{place}: nothing set `{option}` before"
                    )));
                }
                continue;
            }
            if let Some(folders) = line.trim().strip_prefix(INSTRUMENTS) {
                for folder in folders.split_whitespace() {
                    if !is_folder(folder) {
                        return Err(Error::bad_input(format!(
                            "{place}: `{}` is not a folder of a kernel",
                            folder.escape_debug()
                        ))
                        .hint("write it as in `kernel/bpf`"));
                    }
                    self.instruments.push(folder.to_owned());
                }
                continue;
            }
            if let Some(name) = line.trim().strip_prefix(PATCH) {
                let file = format!("kconfigs/{}", name.trim());
                let text = data.read(&file)?.ok_or_else(|| {
                    Error::bad_input(format!("{place}: there is no {}", data.describe(&file)))
                        .hint("a patch that a fragment names lies beside it")
                })?;
                self.patches.push(Patch::of_ours(file, &text));
                continue;
            }
            let Some((option, value)) = parse_line(line).map_err(|why| {
                Error::bad_input(format!("{place}: {why}: `{}`", line.escape_debug()))
                    .hint("a line is CONFIG_X=value, `# CONFIG_X is not set` or a comment")
            })?
            else {
                continue;
            };
            if let Some(first) = self.requested.iter().find(|r| r.option == option) {
                return Err(Error::bad_input(format!(
                    "{place}: {option} is set already in {}",
                    first.place
                ))
                .hint("let one fragment decide"));
            }
            self.requested.push(Requested { option, value, place });
        }
        self.text.push_str(text);
        if !text.ends_with('\n') {
            self.text.push('\n');
        }
        Ok(())
    }

    /// What is to be set and is no option of a tree, in the words of a person.
    #[must_use]
    pub fn unknown_to(&self, tree: &Declared) -> Vec<String> {
        self.requested
            .iter()
            // What is to be off may be gone: it is off then.
            .filter(|requested| requested.value.is_some())
            .filter(|requested| {
                let name = requested.option.strip_prefix("CONFIG_").unwrap_or(&requested.option);
                !tree.0.contains(name)
            })
            .map(|requested| format!("{} ({})", requested.option, requested.place))
            .collect()
    }

    /// How many options it sets or clears.
    #[must_use]
    pub fn options(&self) -> usize {
        self.requested.len()
    }

    /// What was requested and is something else in `config`, one line each.
    #[must_use]
    pub fn dropped(&self, config: &str) -> Vec<String> {
        let mut is: BTreeMap<String, String> = BTreeMap::new();
        for line in config.lines() {
            if let Ok(Some((option, Some(value)))) = parse_line(line) {
                is.insert(option, value);
            }
        }
        let differs = |r: &&Requested| is.get(&r.option) != r.value.as_ref();
        self.requested
            .iter()
            .filter(differs)
            .map(|r| {
                let not_set = "not set".to_owned();
                let wanted = r.value.as_ref().unwrap_or(&not_set);
                let got = is.get(&r.option).unwrap_or(&not_set);
                format!("{} ({}) is to be {wanted}, but is {got}", r.option, r.place)
            })
            .collect()
    }
}

/// The options that the Kconfig files of a tree declare for an architecture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared(BTreeSet<String>);

impl Declared {
    /// Reads the Kconfig files of a tree, other architectures' left out. `arch` is make's
    /// `ARCH`.
    ///
    /// # Errors
    /// The tree cannot be read, interrupted.
    pub fn read(tree: &Path, arch: &str, cancel: &Cancel) -> Result<Declared> {
        // As the kernel's top Makefile has it.
        let arch = if matches!(arch, "x86_64" | "i386") { "x86" } else { arch };
        let mut declared = Declared::default();
        declared.add(
            tree,
            &|path| {
                let mut parts = path.strip_prefix(tree).unwrap_or(path).iter();
                parts.next().is_some_and(|part| part == "arch")
                    && parts.next().is_some_and(|a| a != arch && a != "Kconfig")
            },
            cancel,
        )?;
        Ok(declared)
    }

    fn add(&mut self, dir: &Path, skip: &dyn Fn(&Path) -> bool, cancel: &Cancel) -> Result<()> {
        cancel.check()?;
        for entry in fs::read_dir(dir).at_path("read the folder", dir)? {
            let entry = entry.at_path("read the folder", dir)?;
            let path = entry.path();
            let kind = entry.file_type().at_path("read", &path)?;
            if kind.is_dir() && !skip(&path) {
                self.add(&path, skip, cancel)?;
            } else if kind.is_file() && entry.file_name().as_encoded_bytes().starts_with(b"Kconfig")
            {
                let text = fs::read(&path).at_path("read", &path)?;
                self.0.extend(String::from_utf8_lossy(&text).lines().filter_map(option_of));
            }
        }
        Ok(())
    }
}

/// `config X` and `menuconfig X` declare an option.
fn option_of(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let declares = matches!(words.next(), Some("config" | "menuconfig"));
    words.next().filter(|_| declares).map(str::to_owned)
}

/// Whether this may name a folder or file of a kernel's tree, to make and to people: it
/// stands in make's command line.
pub(super) fn is_folder(name: &str) -> bool {
    let part = |part: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        !part.is_empty() && !part.starts_with('.') && part.chars().all(good)
    };
    name.split('/').all(part)
}

/// `CONFIG_X=y` → `(X, Some(y))`, `# CONFIG_X is not set` → `(X, None)`, comment → none.
#[allow(clippy::type_complexity)]
fn parse_line(line: &str) -> Result<Option<(String, Option<String>)>, &'static str> {
    let line = line.trim();
    let good = |option: &str| {
        option.strip_prefix("CONFIG_").is_some_and(|name| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
    };
    if let Some(comment) = line.strip_prefix('#') {
        let unset = comment.trim().strip_suffix(" is not set").map(str::trim);
        return Ok(unset.filter(|option| good(option)).map(|option| (option.to_owned(), None)));
    }
    if line.is_empty() {
        return Ok(None);
    }
    let Some((option, value)) = line.split_once('=') else { return Err("this is not an option") };
    if !good(option) {
        return Err("this is not an option's name");
    }
    if value.is_empty() {
        return Err("the value is missing");
    }
    // `CONFIG_X=n` is how a person writes "not set".
    Ok(Some((option.to_owned(), Some(value.to_owned()).filter(|v| v != "n"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::arch::Arch;

    /// An option counts if the tree declares it for the architecture; one that is to be off
    /// need not exist.
    #[test]
    fn options_are_looked_up_in_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("Kconfig", "config TOP\n\tbool\n"),
            ("mm/Kconfig.debug", "menuconfig DEEP\n\tbool \"config NOT_THIS\"\n"),
            ("arch/Kconfig", "config ANY_ARCH\n"),
            ("arch/x86/Kconfig", "config ON_X86\n"),
            ("arch/arm64/Kconfig", "config ON_ARM\n"),
            ("mm/Makefile", "config NO_KCONFIG_FILE\n"),
        ] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let tree = Declared::read(dir.path(), "x86_64", &Cancel::new()).unwrap();
        let text = "CONFIG_TOP=y\nCONFIG_DEEP=y\nCONFIG_ANY_ARCH=y\nCONFIG_ON_X86=y\n\
                    CONFIG_ON_ARM=y\nCONFIG_NOT_THIS=y\nCONFIG_NO_KCONFIG_FILE=y\n\
                    # CONFIG_GONE is not set\n";
        let unknown = wanted(text).unwrap().unknown_to(&tree);
        let lines = [5, 6, 7].map(|line| format!("kconfigs/t.config:{line})"));
        assert_eq!(unknown.len(), lines.len(), "{unknown:?}");
        for (unknown, line) in unknown.iter().zip(lines) {
            assert!(unknown.ends_with(&line), "{unknown}");
        }
    }

    /// Folders are named by a comment, and nothing else gets into make's command line.
    #[test]
    fn folders_of_interest_are_read() {
        let read = wanted("# instruments kernel/bpf mm\nCONFIG_KCOV=y\n").unwrap();
        assert_eq!(read.instruments, ["kernel/bpf", "mm"]);
        assert_eq!(read.requested.len(), 1);
        for bad in ["../mm", "mm/", "$(shell", "/mm", "mm,$(x)"] {
            let error = wanted(&format!("# instruments {bad}\n")).unwrap_err();
            assert!(error.to_string().contains("t.config:1"), "{bad}: {error}");
        }
    }

    /// A patch of the profile's is read with it; one that is not there is named.
    #[test]
    fn patches_of_a_profile_are_read() {
        let read = wanted("# patch kcov.patch\nCONFIG_KCOV=y\n").unwrap();
        let [patch] = read.patches.as_slice() else { panic!("{:?}", read.patches) };
        assert_eq!(patch.name, "kconfigs/kcov.patch");
        assert_eq!(patch.sha256.len(), 64);
        let error = wanted("\n# patch gone.patch\n").unwrap_err().to_string();
        assert!(error.contains("t.config:2") && error.contains("kconfigs/gone.patch"), "{error}");
    }

    fn wanted(text: &str) -> Result<Wanted> {
        let mut wanted = Wanted::default();
        wanted.add("kconfigs/t.config", text, &DataDir::embedded())?;
        Ok(wanted)
    }

    /// What Kconfig dropped, changed or forced on is named with its line.
    #[test]
    fn broken_promises_are_named() {
        let wanted = wanted(
            "# why\nCONFIG_A=y\nCONFIG_B=17\n# CONFIG_C is not set\n# CONFIG_D is not set\nCONFIG_E=n\n",
        )
        .unwrap();
        let dropped = wanted.dropped("CONFIG_B=12\nCONFIG_C=y\n# CONFIG_D is not set\n");
        assert_eq!(
            dropped,
            [
                "CONFIG_A (kconfigs/t.config:2) is to be y, but is not set",
                "CONFIG_B (kconfigs/t.config:3) is to be 17, but is 12",
                "CONFIG_C (kconfigs/t.config:4) is to be not set, but is y",
            ]
        );
    }

    /// An option can be taken over from an earlier fragment, if that is said.
    #[test]
    fn overriding_is_said() {
        let mut wanted = wanted("CONFIG_A=y\nCONFIG_B=y\n").unwrap();
        let data = DataDir::embedded();
        wanted.add("p.config", "# overrides CONFIG_A\n# CONFIG_A is not set\n", &data).unwrap();
        assert_eq!(wanted.dropped("CONFIG_B=y\n"), Vec::<String>::new());
        assert_eq!(
            wanted.dropped("CONFIG_A=y\nCONFIG_B=y\n"),
            ["CONFIG_A (p.config:2) is to be not set, but is y"]
        );
        assert!(wanted.add("p.config", "# overrides CONFIG_C\n", &data).is_err());
    }

    /// A line that is neither option nor comment is an error at its place.
    #[test]
    fn malformed_fragments_are_refused() {
        for (text, place) in [
            ("CONFIG_A=y\nCONFG_B=y\n", "kconfigs/t.config:2: "),
            ("CONFIG_A\n", "kconfigs/t.config:1: "),
            ("CONFIG_=y\n", "kconfigs/t.config:1: "),
            ("CONFIG_A=\n", "kconfigs/t.config:1: "),
            ("CONFIG_A=y\n# CONFIG_A is not set\n", "kconfigs/t.config:2: CONFIG_A is set already"),
        ] {
            let error = wanted(text).unwrap_err();
            assert!(error.message().starts_with(place), "{error}");
            assert_eq!(error.kind(), crate::base::error::Kind::BadInput);
        }
    }

    /// The fragments of every architecture and profile fit together.
    #[test]
    fn the_fragments_fit_together() {
        let data = DataDir::embedded();
        for arch in Arch::names(&data).unwrap() {
            let arch = Arch::load(&data, &arch).unwrap();
            for profile in ["lockdep", "production", "kcov", "kasan", "kasan-rcu", "kcsan"] {
                let mut names = arch.kernel.kconfig.clone();
                names.push(format!("{profile}.config"));
                let wanted = Wanted::read(&data, &names).unwrap();
                assert!(wanted.requested.len() > 50, "{} {profile}", arch.name);
            }
        }
        let error = Wanted::read(&data, &["nonsense.config".into()]).unwrap_err();
        assert!(error.message().contains("nonsense.config"), "{error}");
    }
}
