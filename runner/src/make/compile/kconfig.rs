// SPDX-License-Identifier: MIT OR Apache-2.0
//! A kernel's configuration is three fragments on top of nothing; each line is a
//! promise that is checked.
//!
//! The fragments are given to `make allnoconfig` as `KCONFIG_ALLCONFIG`. Kconfig
//! drops what it cannot honour without a word: an unmet dependency, a name that
//! is gone. A probe that then cannot reach its context would look like a result,
//! so a dropped option is an error that names option, file and line.

use std::collections::BTreeMap;

use crate::base::data::DataDir;
use crate::base::error::{Error, Result};

/// A comment that begins so names an option that the fragment takes over from one
/// before it; of two values Kconfig takes the last.
const OVERRIDES: &str = "# overrides ";

/// A comment that begins so names the folders of the kernel whose coverage is wanted;
/// without one it is all of it.
const INSTRUMENTS: &str = "# instruments ";

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
            wanted.add(&file, &text)?;
        }
        Ok(wanted)
    }

    /// Adds a fragment, which is called `file` in errors.
    ///
    /// # Errors
    /// As [`Wanted::read`].
    pub(super) fn add(&mut self, file: &str, text: &str) -> Result<()> {
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
                            "{place}: `{}` is no folder of a kernel",
                            folder.escape_debug()
                        ))
                        .hint("write it as in `kernel/bpf`"));
                    }
                    self.instruments.push(folder.to_owned());
                }
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
    let Some((option, value)) = line.split_once('=') else { return Err("this is no option") };
    if !good(option) {
        return Err("this is no option's name");
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

    fn wanted(text: &str) -> Result<Wanted> {
        let mut wanted = Wanted::default();
        wanted.add("kconfigs/t.config", text)?;
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
        wanted.add("p.config", "# overrides CONFIG_A\n# CONFIG_A is not set\n").unwrap();
        assert_eq!(wanted.dropped("CONFIG_B=y\n"), Vec::<String>::new());
        assert_eq!(
            wanted.dropped("CONFIG_A=y\nCONFIG_B=y\n"),
            ["CONFIG_A (p.config:2) is to be not set, but is y"]
        );
        assert!(wanted.add("p.config", "# overrides CONFIG_C\n").is_err());
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
            for profile in ["lockdep", "production", "kcov", "kasan", "kasan-rcu"] {
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
