// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `fuzz:` section: a campaign on the reference, and its corpus replayed on
//! everybody.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Candidate, Role};
use crate::base::error::{Context, Result};
use crate::base::words::did_you_mean;
use crate::base::yaml::{Path as Way, Wrong};

/// When a run fuzzes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// In every run without `--quick`.
    #[default]
    Always,
    /// Only with `run --fuzz`.
    Asked,
}

/// Fuzzing: a campaign on the reference, then its corpus replayed on every candidate.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "Fuzz")]
pub struct RawFuzz {
    /// Seconds of fuzzing, without the boots. 0: only the corpus is replayed.
    pub seconds: u32,
    /// Boots in which each kernel replays the corpus.
    #[serde(default = "two")]
    pub boots: u32,
    /// The most programs that are replayed.
    #[serde(default = "some")]
    pub programs: usize,
    /// The profile of the kernels that are fuzzed.
    #[serde(default = "kcov")]
    pub profile: String,
    /// Candidates that replay the corpus. Without it: all.
    #[serde(default)]
    pub candidates: Vec<String>,
    /// Architectures to fuzz on. Without it: all of the bake-off's.
    #[serde(default)]
    pub architectures: Vec<String>,
    /// A folder of programs to begin with, relative to the spec.
    #[serde(default)]
    pub corpus: Option<PathBuf>,
    /// When it is done.
    #[serde(default)]
    pub when: When,
}

fn two() -> u32 {
    2
}

fn some() -> usize {
    150
}

fn kcov() -> String {
    "kcov".into()
}

/// The section as it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fuzz {
    /// Seconds of fuzzing on the reference, boots not counted.
    pub seconds: u32,
    /// Boots in which each kernel replays the corpus.
    pub boots: u32,
    /// Programs that are replayed at most.
    pub programs: usize,
    /// The profile of the kernels.
    pub profile: String,
    /// Candidates that replay the corpus, the reference first.
    pub candidates: Vec<String>,
    /// Architectures.
    pub architectures: Vec<String>,
    /// The folder of the programs to begin with, relative to the spec.
    pub corpus: Option<PathBuf>,
    /// Its files, in the order of their names.
    pub programs_given: Vec<PathBuf>,
    /// When it is carried out.
    pub when: When,
}

/// What the rest of the spec has.
pub(super) struct Around<'a> {
    pub dir: &'a Path,
    pub candidates: &'a [Candidate],
    pub architectures: &'a [String],
    pub profiles: &'a [String],
}

/// What the section means.
pub(super) fn resolve(raw: RawFuzz, around: &Around<'_>) -> Result<Fuzz, Wrong> {
    let RawFuzz { seconds, boots, programs, profile, candidates, architectures, corpus, when } =
        raw;
    let Around { dir, candidates: known, architectures: archs, profiles } = around;
    let key = |key: &str| Way::top().key(key);
    let wrong = |at: &str, why: String| Err(Wrong::value(&key(at), why));
    if seconds > 86_400 {
        return wrong("seconds", "fuzz: more than a day of seconds".into());
    }
    if !(1..=100).contains(&boots) {
        return wrong("boots", "fuzz: `boots` is between 1 and 100".into());
    }
    if !(1..=10_000).contains(&programs) {
        return wrong("programs", "fuzz: `programs` is between 1 and 10000".into());
    }
    let check = |at: Way, what: &str, word: &String, valid: &[String]| {
        let valid: Vec<&str> = valid.iter().map(String::as_str).collect();
        if valid.contains(&word.as_str()) {
            return Ok(());
        }
        let near = did_you_mean(word, valid.iter().copied());
        Err(Wrong::value(&at, format!("fuzz: there is no {what} `{word}`; {near}")))
    };
    check(key("profile"), "profile", &profile, profiles)?;
    for (index, arch) in architectures.iter().enumerate() {
        let at = key("architectures").index(index);
        check(at, "architecture of the bake-off", arch, archs)?;
    }
    let names: Vec<String> = known.iter().map(|candidate| candidate.name.clone()).collect();
    for (index, candidate) in candidates.iter().enumerate() {
        check(key("candidates").index(index), "candidate", candidate, &names)?;
    }
    let takes_part = |candidate: &&Candidate| {
        let named = candidates.is_empty() || candidates.contains(&candidate.name);
        candidate.role == Role::Reference || named
    };
    let mut taken: Vec<&Candidate> = known.iter().filter(takes_part).collect();
    taken.sort_by_key(|candidate| candidate.role != Role::Reference);
    if corpus.as_ref().is_some_and(|path| path.is_absolute() || path.starts_with("..")) {
        return wrong("corpus", "fuzz: the corpus is not a folder below the spec's own".into());
    }
    let programs_given = match &corpus {
        None => Vec::new(),
        Some(corpus) => programs_in(&dir.join(corpus))
            .map_err(|error| Wrong::value(&key("corpus"), format!("fuzz: {}", error.chain())))?,
    };
    if seconds == 0 && programs_given.is_empty() {
        return wrong("seconds", "fuzz: no seconds and no corpus is nothing to do".into());
    }
    Ok(Fuzz {
        seconds,
        boots,
        programs,
        profile,
        candidates: taken.into_iter().map(|candidate| candidate.name.clone()).collect(),
        architectures: if architectures.is_empty() { archs.to_vec() } else { architectures },
        corpus,
        programs_given,
        when,
    })
}

fn programs_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).at_path("read the folder", dir)? {
        let entry = entry.at_path("read the folder", dir)?;
        if entry.file_type().at_path("read the folder", dir)?.is_file() {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}
