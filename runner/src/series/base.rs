// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commit a series was made for, and how it was found.
//!
//! The author's word (`base-commit:`) comes first, then patches it says it needs
//! (`prerequisite-patch-id:`), then the blobs its `index` lines name, looked up
//! in the trees that were given, then whether it applies to one of them. What
//! does not match is kept, since a wrong base makes every later verdict wrong.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::mail::built;
use super::{Series, diff};
use crate::base::command::{Cancel, Command};
use crate::base::error::{Context, Error, Result};
use crate::base::scratch::Scratch;

/// How a base was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum How {
    /// It was not.
    #[default]
    Unknown,
    /// The author wrote `base-commit:`.
    BaseCommit,
    /// It is the commit that has the patches of `prerequisite-patch-id:`.
    Prerequisites,
    /// A tree has the files as the patches expect them.
    Blobs,
    /// The series applies to a tree.
    Applies,
    /// The series is commits, and this is their parent.
    Parent,
}

impl How {
    /// For people.
    pub(crate) fn words(self) -> &'static str {
        match self {
            How::Unknown => "not found",
            How::BaseCommit => "named by the author in base-commit:",
            How::Prerequisites => "the commit with the patches of prerequisite-patch-id:",
            How::Blobs => "found by the blobs in the index lines",
            How::Applies => "found by applying the series",
            How::Parent => "the parent of the series' first commit",
        }
    }
}

/// A file that the base does not have as the series expects it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mismatch {
    pub(crate) path: String,
    /// The blob the patch was made for.
    pub(crate) expected: String,
    /// The one that is there; `None` if there is no such file.
    pub(crate) found: Option<String>,
}

/// The base of a series.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Base {
    pub(crate) how: How,
    /// A commit, where there is one.
    pub(crate) commit: Option<String>,
    /// The tree it was found in.
    pub(crate) tree: Option<PathBuf>,
    /// What `git describe` calls it.
    pub(crate) name: Option<String>,
    /// Files whose blob was looked up, and those that are as expected.
    pub(crate) checked: usize,
    pub(crate) matched: usize,
    pub(crate) mismatches: Vec<Mismatch>,
    /// `prerequisite-patch-id:` lines.
    pub(crate) prerequisites: Vec<String>,
    /// Those that no tree has.
    pub(crate) prerequisites_missing: Vec<String>,
    /// The author's word, also where it was not followed.
    pub(crate) stated: Option<String>,
    pub(crate) change_id: Option<String>,
    /// How it was decided, step by step.
    pub(crate) reasons: Vec<String>,
}

static BASE: LazyLock<Regex> = LazyLock::new(|| built(r"(?im)^base-commit: .*?([\da-f]{7,64})\b"));
static PREREQUISITE: LazyLock<Regex> =
    LazyLock::new(|| built(r"(?im)^prerequisite-patch-id:\s+([\da-f]{7,64})\b"));
static CHANGE: LazyLock<Regex> = LazyLock::new(|| built(r"(?im)^change-id:\s+(\S+)"));

impl Base {
    /// What the mails of a series say of its base.
    pub(super) fn stated(texts: &[String]) -> Base {
        let first = |pattern: &Regex| {
            texts.iter().find_map(|text| Some(pattern.captures(text)?[1].to_owned()))
        };
        let mut prerequisites: Vec<String> = Vec::new();
        for text in texts {
            for found in PREREQUISITE.captures_iter(text) {
                if !prerequisites.contains(&found[1].to_owned()) {
                    prerequisites.push(found[1].to_owned());
                }
            }
        }
        let stated = first(&BASE);
        Base {
            how: if stated.is_some() { How::BaseCommit } else { How::Unknown },
            commit: stated.clone(),
            stated,
            change_id: first(&CHANGE),
            prerequisites_missing: prerequisites.clone(),
            prerequisites,
            ..Base::default()
        }
    }

    /// For people, some lines.
    pub(crate) fn describe(&self) -> String {
        let place = match (&self.commit, &self.tree) {
            (Some(commit), _) => commit.clone(),
            (None, Some(tree)) => tree.display().to_string(),
            (None, None) => String::new(),
        };
        let name = self.name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
        let mut text = if place.is_empty() {
            self.how.words().to_owned()
        } else {
            format!("{place}{name}: {}", self.how.words())
        };
        for reason in &self.reasons {
            let _ = write!(text, "\n{reason}");
        }
        for Mismatch { path, expected, found } in &self.mismatches {
            let found = found.as_deref().unwrap_or("no such file");
            let _ = write!(text, "\ndoes not match: {path}: expected {expected}, found {found}");
        }
        for id in &self.prerequisites_missing {
            let _ = write!(text, "\nprerequisite not found: {id}");
        }
        text
    }
}

/// Looks for the base of a series in these trees.
pub(super) fn find(series: &mut Series, trees: &[PathBuf], cancel: &Cancel) -> Result<()> {
    let mut base = std::mem::take(&mut series.base);
    let wanted = blobs(series);
    if base.how == How::Parent {
        series.base = base;
        return Ok(());
    }
    if trees.is_empty() {
        base.reasons.push("no tree was given, so nothing was compared (--tree)".into());
        series.base = base;
        return Ok(());
    }
    let mut best: Option<Match> = None;
    for dir in trees {
        let tree = Tree::open(dir, cancel)?;
        if let Some(stated) = base.stated.clone()
            && tree.git
        {
            match tree.commit(&stated, cancel)? {
                Some(commit) => {
                    let at = tree.after_prerequisites(&commit, &mut base, cancel)?;
                    let found = tree.compare(Some(&at), &wanted, cancel)?;
                    base.how = if at == commit { How::BaseCommit } else { How::Prerequisites };
                    base.reasons.push(format!("{stated} is in {}", dir.display()));
                    settle(&mut base, found, &tree, cancel)?;
                    series.base = base;
                    return Ok(());
                }
                None => base.reasons.push(format!("{stated} is not in {}", dir.display())),
            }
        }
        let found = tree.by_blobs(&wanted, cancel)?;
        let better = best.as_ref().is_none_or(|best| found.matched > best.matched);
        if better {
            best = Some(Match { tree: dir.clone(), ..found });
        }
    }
    let whole = best.as_ref().is_some_and(|b| !wanted.is_empty() && b.mismatches.is_empty());
    if whole && let Some(found) = best {
        base.how = How::Blobs;
        let tree = Tree::open(&found.tree, cancel)?;
        settle(&mut base, found, &tree, cancel)?;
        series.base = base;
        return Ok(());
    }
    // The blobs do not decide: does it apply?
    for dir in trees {
        let tree = Tree::open(dir, cancel)?;
        let head = if tree.git { tree.commit("HEAD", cancel)? } else { None };
        match applies(series, &tree, head.as_deref(), cancel)? {
            None => {
                let found = tree.compare(head.as_deref(), &wanted, cancel)?;
                base.how = How::Applies;
                base.reasons.push(format!("all patches apply to {}", dir.display()));
                settle(&mut base, found, &tree, cancel)?;
                series.base = base;
                return Ok(());
            }
            Some(why) => base.reasons.push(format!("does not apply to {}: {why}", dir.display())),
        }
    }
    if let Some(found) = best {
        base.checked = wanted.len();
        base.matched = found.matched;
        if found.matched > 0 && base.commit.is_none() {
            base.reasons.push(format!(
                "nearest: {}, with {} of {} files as expected",
                found.commit.clone().unwrap_or_else(|| found.tree.display().to_string()),
                found.matched,
                wanted.len()
            ));
        }
        base.mismatches = found.mismatches;
    }
    series.base = base;
    Ok(())
}

fn settle(base: &mut Base, found: Match, tree: &Tree, cancel: &Cancel) -> Result<()> {
    base.checked = found.matched + found.mismatches.len();
    base.matched = found.matched;
    base.mismatches = found.mismatches;
    base.tree = Some(tree.dir.clone());
    base.reasons.push(format!("{} of {} files are as expected", base.matched, base.checked));
    if let Some(commit) = &found.commit {
        base.name = tree.describe(commit, cancel)?;
    }
    base.commit = found.commit;
    Ok(())
}

/// The blob each file must have before the series: of a file that several
/// patches touch the first one's.
fn blobs(series: &Series) -> Vec<(String, String)> {
    let mut seen: HashSet<String> = HashSet::new();
    let mut wanted = Vec::new();
    for patch in &series.patches {
        for file in diff::touched(&patch.diff) {
            let after = file.after.clone();
            if let (Some(path), Some((blob, _))) = (file.before, file.blob)
                && seen.insert(path.clone())
                && blob.bytes().any(|digit| digit != b'0')
            {
                wanted.push((path, blob));
            }
            seen.extend(after);
        }
    }
    wanted
}

/// How well a place fits.
struct Match {
    tree: PathBuf,
    commit: Option<String>,
    matched: usize,
    mismatches: Vec<Mismatch>,
}

/// A kernel source: a git repository or a folder.
struct Tree {
    dir: PathBuf,
    git: bool,
}

/// Commits looked at for one blob, and for prerequisites.
const COMMITS: usize = 50;
const PREREQUISITE_COMMITS: usize = 1000;

impl Tree {
    fn open(dir: &Path, cancel: &Cancel) -> Result<Tree> {
        if !dir.is_dir() {
            return Err(Error::bad_input(format!("there is no folder {}", dir.display()))
                .hint("--tree takes a git repository or a kernel source"));
        }
        let tree = Tree { dir: dir.to_owned(), git: true };
        let top = tree.ask(&["rev-parse", "--show-prefix"], cancel)?;
        // A folder inside some other repository is a folder.
        Ok(Tree { git: top.is_some_and(|prefix| prefix.is_empty()), ..tree })
    }

    /// What git says; `None` if it says no.
    fn ask(&self, args: &[&str], cancel: &Cancel) -> Result<Option<String>> {
        let finished =
            super::sources::git::command(&self.dir).args(args.iter().copied()).run(cancel)?;
        Ok(finished.success().then(|| finished.text()))
    }

    fn commit(&self, name: &str, cancel: &Cancel) -> Result<Option<String>> {
        let name = format!("{name}^{{commit}}");
        self.ask(&["rev-parse", "--verify", "--quiet", "--end-of-options", &name], cancel)
    }

    fn describe(&self, commit: &str, cancel: &Cancel) -> Result<Option<String>> {
        self.ask(&["describe", "--tags", commit], cancel)
    }

    /// Blobs of these paths at a commit, or in the folder.
    fn blobs_at(
        &self,
        commit: Option<&str>,
        wanted: &[(String, String)],
        cancel: &Cancel,
    ) -> Result<HashMap<String, String>> {
        let mut have = HashMap::new();
        let Some(commit) = commit else {
            let there: Vec<&str> = wanted
                .iter()
                .map(|(path, _)| path.as_str())
                .filter(|path| self.dir.join(path).is_file())
                .collect();
            let finished = super::sources::git::command(&self.dir)
                .args(["hash-object", "--no-filters", "--stdin-paths"])
                .stdin(there.iter().map(|path| format!("{path}\n")).collect::<String>())
                .run(cancel)?;
            let text = finished.text();
            have.extend(
                there.iter().zip(text.lines()).map(|(p, b)| ((*p).to_owned(), b.to_owned())),
            );
            return Ok(have);
        };
        let mut args = vec!["ls-tree", "-r", "-z", "--full-tree", commit, "--"];
        args.extend(wanted.iter().map(|(path, _)| path.as_str()));
        let listed = self.ask(&args, cancel)?.unwrap_or_default();
        for entry in listed.split('\0') {
            if let Some((meta, path)) = entry.split_once('\t')
                && let Some(blob) = meta.split(' ').nth(2)
            {
                have.insert(path.to_owned(), blob.to_owned());
            }
        }
        Ok(have)
    }

    fn compare(
        &self,
        commit: Option<&str>,
        wanted: &[(String, String)],
        cancel: &Cancel,
    ) -> Result<Match> {
        let have = self.blobs_at(commit, wanted, cancel)?;
        let mismatches: Vec<Mismatch> = wanted
            .iter()
            .filter(|(path, blob)| !have.get(path).is_some_and(|have| have.starts_with(blob)))
            .map(|(path, blob)| Mismatch {
                path: path.clone(),
                expected: blob.clone(),
                found: have.get(path).map(|have| have.chars().take(blob.len()).collect()),
            })
            .collect();
        Ok(Match {
            tree: self.dir.clone(),
            commit: commit.map(str::to_owned),
            matched: wanted.len() - mismatches.len(),
            mismatches,
        })
    }

    /// The commit whose files are as expected: the tip, else one of those that
    /// brought in a blob that the tip does not have, or its parent.
    fn by_blobs(&self, wanted: &[(String, String)], cancel: &Cancel) -> Result<Match> {
        if !self.git {
            return self.compare(None, wanted, cancel);
        }
        let head = self.commit("HEAD", cancel)?;
        let mut best = self.compare(head.as_deref(), wanted, cancel)?;
        let open: Vec<(String, String)> =
            best.mismatches.iter().map(|m| (m.path.clone(), m.expected.clone())).collect();
        let most = format!("--max-count={COMMITS}");
        for (path, blob) in open {
            if best.mismatches.is_empty() {
                break;
            }
            // An object that is not here is in no commit.
            if self.ask(&["cat-file", "-e", &blob], cancel)?.is_none() {
                continue;
            }
            let find = format!("--find-object={blob}");
            let args = ["log", "--all", "--format=%H %P", &most, &find, "--", &path];
            for commit in self.ask(&args, cancel)?.unwrap_or_default().split_whitespace() {
                let found = self.compare(Some(commit), wanted, cancel)?;
                if found.matched > best.matched {
                    best = found;
                }
            }
        }
        Ok(best)
    }

    /// The commit after the base that has all patches the author says are needed.
    fn after_prerequisites(&self, at: &str, base: &mut Base, cancel: &Cancel) -> Result<String> {
        if base.prerequisites.is_empty() {
            return Ok(at.to_owned());
        }
        let most = format!("--max-count={PREREQUISITE_COMMITS}");
        let args =
            ["log", "-p", "--all", "--no-merges", "--topo-order", &most, "--format=commit %H"];
        let not = format!("^{at}");
        let log = super::sources::git::command(&self.dir).args(args).arg(not).run(cancel)?;
        let ids = super::sources::git::command(&self.dir)
            .args(["patch-id", "--stable"])
            .stdin(log.stdout)
            .run(cancel)?;
        let mut commits: HashMap<String, String> = HashMap::new();
        let mut newest = None;
        for line in ids.text().lines() {
            if let Some((id, commit)) = line.split_once(' ') {
                if newest.is_none() && base.prerequisites.iter().any(|wanted| wanted == id) {
                    newest = Some(commit.to_owned());
                }
                commits.insert(id.to_owned(), commit.to_owned());
            }
        }
        base.prerequisites_missing.retain(|id| !commits.contains_key(id));
        let have = base.prerequisites.len() - base.prerequisites_missing.len();
        base.reasons.push(format!(
            "{have} of {} prerequisite patches are in {}",
            base.prerequisites.len(),
            self.dir.display()
        ));
        match newest {
            Some(commit) if base.prerequisites_missing.is_empty() => Ok(commit),
            _ => Ok(at.to_owned()),
        }
    }
}

/// Whether all patches apply to the files of a tree; else the first that does
/// not, with why.
fn applies(
    series: &Series,
    tree: &Tree,
    commit: Option<&str>,
    cancel: &Cancel,
) -> Result<Option<String>> {
    let dir = Scratch::new()?;
    for path in &series.paths {
        let bytes = match commit {
            Some(commit) => {
                let name = format!("{commit}:{path}");
                let shown = super::sources::git::command(&tree.dir)
                    .args(["cat-file", "blob", &name])
                    .run(cancel)?;
                shown.success().then_some(shown.stdout)
            }
            None => fs::read(tree.dir.join(path)).ok(),
        };
        let Some(bytes) = bytes else { continue };
        let to = dir.path().join(path);
        if let Some(above) = to.parent() {
            fs::create_dir_all(above).at_path("create", above)?;
        }
        fs::write(&to, bytes).at_path("write", &to)?;
    }
    for patch in &series.patches {
        let finished: crate::base::command::Finished = applying(dir.path())
            .args(["apply", "-p1", "--whitespace=nowarn", "-"])
            .stdin(patch.diff.clone())
            .run(cancel)?;
        if !finished.success() {
            let said = finished.tail.lines().next().unwrap_or("git apply failed").to_owned();
            return Ok(Some(format!("patch {}: {said}", patch.number)));
        }
    }
    Ok(None)
}

/// git apply outside of every repository.
fn applying(dir: &Path) -> Command {
    let above = dir.parent().unwrap_or(dir);
    super::sources::git::command(dir)
        .env("GIT_CEILING_DIRECTORIES", above.as_os_str())
        .timeout(Duration::from_secs(60))
}
