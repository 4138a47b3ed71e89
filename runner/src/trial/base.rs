// SPDX-License-Identifier: MIT OR Apache-2.0
//! On which kernel a series is tried.
//!
//! What was asked for comes first, then what the series says and the trees that were
//! given confirm, and last a kernel of Debian's that everybody can get. The report says
//! which it was and why: a verdict on another base than the author's is worth less.

use std::path::Path;

use crate::base::command::Cancel;
use crate::base::data::DataDir;
use crate::base::error::{Error, Result};
use crate::make::source;
use crate::series::Series;
use crate::spec::{self, BaseSource, Spec};

/// The kernel for series whose base is not at hand: its name, package, version and hash.
pub(super) const DEBIAN: [&str; 4] = [
    "6.12",
    "linux-source-6.12",
    "6.12.117-1~deb12u1",
    "e849faf31ca3555757f3a8877cb01af92122f744f75d1f3102734651c4e14703",
];

/// The base of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// A name for a folder.
    pub(crate) name: String,
    /// Where it comes from, with absolute paths.
    pub(crate) source: BaseSource,
    /// Why this one, in words.
    pub(crate) why: String,
    /// Nobody named it: that a series does not apply to it is not the series' fault.
    pub(crate) ours: bool,
}

/// What `--base` takes.
pub(crate) const FORMS: &str =
    "--base takes REPO#REVISION, a folder with a kernel tree, or a bake-off (SPEC or SPEC#BASE)";

/// The base for these series.
///
/// # Errors
/// `--base` names nothing that is there.
pub(super) fn choose(
    asked: Option<&str>,
    all: &[Series],
    data: &DataDir,
    cancel: &Cancel,
) -> Result<Chosen> {
    if let Some(asked) = asked {
        return named(asked, data, cancel);
    }
    for series in all {
        let base = &series.base;
        let Some(tree) = &base.tree else { continue };
        let (how, words) = (base.how, base.how.words());
        let chosen = |name: &str, source: BaseSource| Chosen {
            name: tame(name),
            source,
            why: words.to_owned(),
            ours: false,
        };
        // A repository that a pull request was fetched into is gone by now.
        if !tree.is_dir() || how == crate::series::How::Unknown {
            continue;
        }
        return Ok(match &base.commit {
            Some(commit) => {
                let short = commit.get(..12).unwrap_or(commit);
                let name = base.name.as_deref().unwrap_or(short);
                let repository = tree.clone();
                let revision = commit.clone();
                chosen(name, BaseSource::Git { repository, revision }.absolute())
            }
            None => {
                let name = tree.file_name().unwrap_or_default().to_string_lossy();
                chosen(&name, BaseSource::Directory(tree.clone()).absolute())
            }
        });
    }
    let stated = all.iter().find_map(|series| series.base.stated.as_deref());
    let why = match stated {
        Some(commit) => format!(
            "the author's base-commit {} is in no tree that was given (--tree DIR)",
            commit.get(..12).unwrap_or(commit)
        ),
        None => "no base is stated, and none was given (--base, --tree)".to_owned(),
    };
    let [name, package, version, sha256] = DEBIAN.map(str::to_owned);
    Ok(Chosen { name, source: BaseSource::Debian { package, version, sha256 }, why, ours: true })
}

/// What was asked for.
fn named(asked: &str, data: &DataDir, cancel: &Cancel) -> Result<Chosen> {
    let why = "asked for with --base".to_owned();
    let (place, part) = match asked.split_once('#') {
        Some((place, part)) => (place, Some(part)),
        None => (asked, None),
    };
    let dir = Path::new(place);
    let is_spec = dir.join(spec::FILE_NAME).is_file()
        || dir.file_name().is_some_and(|name| name == spec::FILE_NAME);
    if is_spec {
        let spec = Spec::load(dir, data)?;
        let names: Vec<&str> = spec.bases.iter().map(|base| base.name.as_str()).collect();
        let found = match part {
            Some(part) => spec.bases.iter().find(|base| base.name == part),
            None => spec.bases.first(),
        };
        let base = found.cloned().ok_or_else(|| {
            Error::bad_input(format!("{place} has no base `{}`", part.unwrap_or_default()))
                .hint(format!("it has {}", names.join(", ")))
        })?;
        return Ok(Chosen { name: base.name, source: base.source.absolute(), why, ours: false });
    }
    if !dir.is_dir() {
        return Err(Error::bad_input(format!("{asked} is not a base: there is no folder {place}"))
            .hint(FORMS));
    }
    match part {
        Some(revision) => {
            // Pinned: a branch that moves on is another base.
            let commit = source::commit(dir, revision, cancel)?;
            let repository = dir.to_owned();
            let source = BaseSource::Git { repository, revision: commit }.absolute();
            Ok(Chosen { name: tame(revision), source, why, ours: false })
        }
        None => {
            source::check_is_kernel(dir, asked).map_err(|error| error.hint(FORMS))?;
            let absolute = BaseSource::Directory(dir.to_owned()).absolute();
            let name = dir.canonicalize().unwrap_or_default();
            let name = name.file_name().unwrap_or_default().to_string_lossy();
            Ok(Chosen { name: tame(&name), source: absolute, why, ours: false })
        }
    }
}

/// A name that a folder and a column can have.
fn tame(name: &str) -> String {
    let mut tame: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(40)
        .collect();
    if tame.is_empty() {
        tame.push_str("base");
    }
    tame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel that is taken where none is named is the one `bakeoff new` begins with.
    #[test]
    fn the_default_is_that_of_a_new_bake_off() {
        let scaffold = include_str!("../cli/scaffold/bakeoff.yaml");
        for word in DEBIAN {
            assert!(scaffold.contains(word), "{word}");
        }
    }

    /// Whatever a tag or a folder is called, the base has a name that a spec takes.
    #[test]
    fn names_are_tame() {
        for (name, tamed) in
            [("v6.12-rc1", "v6.12-rc1"), ("refs/heads/x y", "refs-heads-x-y"), ("../..", "base")]
        {
            assert_eq!(tame(name), tamed);
            assert!(spec::check_name(tamed).is_ok());
        }
    }

    /// What is no base says which forms there are.
    #[test]
    fn what_is_no_base() {
        let (data, cancel) = (DataDir::embedded(), Cancel::new());
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().display().to_string();
        for (asked, says) in [
            ("no-such-folder", "there is no folder no-such-folder"),
            (empty.as_str(), "is not a kernel source tree"),
            ("../patches/hello#5.10", "has no base `5.10`"),
        ] {
            let error = named(asked, &data, &cancel).unwrap_err();
            assert!(error.message().contains(says), "{}", error.message());
            assert!(error.next_step().is_some(), "{asked}");
        }
        assert_eq!(named("../patches/hello", &data, &cancel).unwrap().name, "6.12");
    }
}
