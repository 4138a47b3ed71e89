// SPDX-License-Identifier: MIT OR Apache-2.0
//! Is the net tight? Bugs are planted, one a kernel, and fuzzing has to find
//! them in a fixed time; the kernel without any must raise nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::bench::{Bench, Subject};
use super::campaign::{Campaign, fuzz};
use crate::error::{Context, Error, Result};
use crate::run::{Machinery, Tools};

/// A planted bug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// Name of its file, without the ending.
    pub name: String,
    /// The patch.
    pub patch: PathBuf,
    /// What kind of bug it is.
    pub class: String,
    /// How it shows where it is reached: `lockdep`, `kasan`, `build-id` and so on.
    pub shows_as: String,
}

impl Mutant {
    /// Whether it counts: one that cannot be detected here does not.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.shows_as != "undetectable"
    }

    /// Which profile can show it.
    #[must_use]
    pub fn profile(&self) -> &'static str {
        if self.shows_as == "kasan" { "kasan" } else { "kcov" }
    }

    fn read(path: &Path) -> Result<Mutant> {
        let text = fs::read_to_string(path).at_path("read", path)?;
        let line = |key: &str| {
            text.lines().find_map(|line| line.strip_prefix(key)).map(|v| v.trim().to_owned())
        };
        let missing =
            |key: &str| Error::bad_input(format!("{} has no line `{key}`", path.display()));
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Mutant {
            name,
            class: line("Mutant-class:").ok_or_else(|| missing("Mutant-class:"))?,
            shows_as: line("Mutant-shows-as:").ok_or_else(|| missing("Mutant-shows-as:"))?,
            patch: path.to_owned(),
        })
    }
}

/// The mutants of a folder, by name.
///
/// # Errors
/// The folder or a patch cannot be read; a patch does not say what it plants.
pub fn read(dir: &Path) -> Result<Vec<Mutant>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).at_path("read the folder", dir)? {
        let path = entry.at_path("read the folder", dir)?.path();
        if path.extension().is_some_and(|ending| ending == "patch") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| Mutant::read(path)).collect()
}

/// What became of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its name; `stock` is the kernel without a planted bug.
    pub name: String,
    /// What kind of bug it is.
    pub class: String,
    /// How it should show.
    pub shows_as: String,
    /// Whether it counts.
    pub counts: bool,
    /// Titles of what was found and is not the stock kernel's.
    pub found: Vec<String>,
    /// Seconds until the boot with the finding ended; `None`: nothing was found.
    pub seconds: Option<f64>,
    /// Programs run.
    pub execs: u64,
    /// Why it was not tried.
    pub not_tried: Option<String>,
}

/// Fuzzes the stock kernel and each mutant for the same time.
///
/// # Errors
/// What is ours. A mutant that does not build is a row.
pub fn run(
    subject: &Subject,
    mutants: &[Mutant],
    campaign: &Campaign,
    machinery: &Machinery,
    tools: &Tools<'_>,
    mut tell: impl FnMut(&Row),
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let profiles: BTreeSet<&str> = mutants.iter().map(Mutant::profile).collect();
    let mut known = BTreeSet::new();
    for profile in profiles {
        let mut row = Row {
            name: format!("stock/{profile}"),
            class: "no planted bug".into(),
            shows_as: "nothing".into(),
            counts: false,
            found: Vec::new(),
            seconds: None,
            execs: 0,
            not_tried: None,
        };
        let subject = Subject { profile: profile.into(), ..subject.clone() };
        let campaign = Campaign {
            out: campaign.out.join(format!("stock-{profile}")),
            until_finding: false,
            ..campaign.clone()
        };
        one(&subject, &campaign, machinery, tools, &BTreeSet::new(), &mut row, &mut known)?;
        tell(&row);
        rows.push(row);
    }
    for mutant in mutants {
        let mut row = Row {
            name: mutant.name.clone(),
            class: mutant.class.clone(),
            shows_as: mutant.shows_as.clone(),
            counts: mutant.counts(),
            found: Vec::new(),
            seconds: None,
            execs: 0,
            not_tried: None,
        };
        let subject = Subject {
            profile: mutant.profile().into(),
            extra: vec![mutant.patch.clone()],
            ..subject.clone()
        };
        let campaign = Campaign {
            out: campaign.out.join(&mutant.name),
            until_finding: true,
            ..campaign.clone()
        };
        let mut new = BTreeSet::new();
        one(&subject, &campaign, machinery, tools, &known, &mut row, &mut new)?;
        tell(&row);
        rows.push(row);
    }
    Ok(rows)
}

/// Fuzzes one kernel; what it reports beyond `known` goes into `row` and `new`.
fn one(
    subject: &Subject,
    campaign: &Campaign,
    machinery: &Machinery,
    tools: &Tools<'_>,
    known: &BTreeSet<String>,
    row: &mut Row,
    new: &mut BTreeSet<String>,
) -> Result<()> {
    fs::create_dir_all(&campaign.out).at_path("create", &campaign.out)?;
    let bench = match Bench::prepare(subject, machinery, &campaign.out.join("build.log"), tools) {
        Ok(bench) => bench,
        Err(error) if error.kind() == crate::error::Kind::BadInput => {
            row.not_tried = Some(error.chain());
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let summary = fuzz(&bench, campaign, tools)?;
    row.execs = summary.execs;
    for finding in summary.findings.iter().filter(|f| !known.contains(&f.fingerprint)) {
        new.insert(finding.fingerprint.clone());
        row.found.push(finding.title.clone());
        let first = row.seconds.map_or(finding.after_seconds, |s| s.min(finding.after_seconds));
        row.seconds = Some(first);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every planted bug says what it is and how it shows, in a word that the
    /// table of the folder's README has.
    #[test]
    fn planted_bugs_say_what_they_are() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/mutants");
        let mutants = read(&dir).unwrap();
        assert!(mutants.len() >= 15, "{}", mutants.len());
        let table = fs::read_to_string(dir.join("README.md")).unwrap();
        for mutant in &mutants {
            assert!(table.contains(&format!("| `{}` |", mutant.shows_as)), "{mutant:?}");
            assert!(!mutant.class.is_empty());
        }
        assert!(mutants.iter().filter(|m| m.counts()).count() >= 15);
    }
}
