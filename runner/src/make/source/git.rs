// SPDX-License-Identifier: MIT OR Apache-2.0
//! A base that is a revision of a local git repository.
//!
//! The commit it names today is what counts, so a branch that moves on is
//! another base. `git archive` takes the commit, not the working tree: changes
//! that were not committed cannot slip in.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{Desk, Tree, Watched, untar};
use crate::base::command::{Cancel, Command};
use crate::base::error::{Context, Error, Result};
use crate::base::scratch::Scratch;

/// The commit that a revision names today.
pub(super) fn commit(repository: &Path, revision: &str, cancel: &Cancel) -> Result<String> {
    if revision.starts_with('-') {
        return Err(Error::bad_input(format!("`{revision}` is not a git revision")));
    }
    let asked = git(repository, &["rev-parse", "--verify", "--end-of-options"])
        .arg(format!("{revision}^{{commit}}"))
        .timeout(Duration::from_secs(60))
        .run(cancel)?;
    if !asked.success() {
        return Err(Error::bad_input(format!(
            "{} has no revision `{revision}`: {}",
            repository.display(),
            asked.tail.trim()
        ))
        .hint("`git log` in that repository shows what there is; a shallow clone has little"));
    }
    Ok(asked.text())
}

/// A commit's key in the cache.
pub(super) fn key(commit: &str) -> String {
    format!("git-{commit}")
}

fn git(repository: &Path, args: &[&str]) -> Command {
    Command::new("git").arg("-C").arg(repository).args(args).env("LC_ALL", "C")
}

pub(super) fn obtain(desk: &Desk<'_>, repository: &Path, revision: &str) -> Result<Tree> {
    let commit = commit(repository, revision, desk.cancel)?;
    let label = format!("git {} at {revision} ({})", repository.display(), short(&commit));
    desk.tree(&key(&commit), label.clone(), |into, task| {
        let work = desk.cache.work_dir()?;
        let aside = Scratch::new_in(&work, "git-")?;
        let tar = aside.path().join("tree.tar");
        git(repository, &["archive", "--format=tar", "-o"])
            .arg(&tar)
            .arg(&commit)
            .check(desk.cancel)?;
        let file = fs::File::open(&tar).at_path("open", &tar)?;
        let total = file.metadata().ok().map(|m| m.len());
        let stream = std::io::BufReader::new(Watched::new(file, task, total, desk.cancel));
        untar(stream, 0, into, &label, desk.cancel)?;
        Ok(())
    })
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}
