// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commits of a git repository: `A..B`, or a ref that a forge keeps for a pull
//! request. They become mails by `git format-patch`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Found, Means, Order};
use crate::base::command::{Command, Finished};
use crate::base::error::{Error, Result};
use crate::base::scratch::Scratch;
use crate::series::base::{Base, How};
use crate::series::mail;

/// Time for git on this host, and over a network.
const PATIENCE: Duration = Duration::from_secs(60);
const FETCHING: Duration = Duration::from_secs(600);
/// More commits are no series.
const MOST_COMMITS: usize = 1000;

/// git in `dir`, with nobody's configuration and no questions.
pub(in crate::series) fn command(dir: &Path) -> Command {
    Command::new("git")
        .cwd(dir)
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_NO_LAZY_FETCH", "1")
        .timeout(PATIENCE)
}

/// `REPO#WHAT` → both; without `#` it is the current folder.
pub(super) fn parts(source: &str) -> (&str, &str) {
    source.rsplit_once('#').unwrap_or((".", source))
}

pub(super) fn claims(source: &str) -> bool {
    let (repo, what) = parts(source);
    let there = is_remote(repo) || Path::new(repo).is_dir();
    there && !what.contains('@') && (what.contains("..") || what.starts_with("refs/"))
}

fn is_remote(repo: &str) -> bool {
    ["https://", "http://", "ssh://", "git://", "file://"].iter().any(|s| repo.starts_with(s))
}

pub(super) fn read(source: &str, means: &Means<'_>) -> Result<Found> {
    let (repo, what) = parts(source);
    if what.starts_with('-') || repo.starts_with('-') {
        return Err(
            Error::bad_input(format!("{source} is not a commit range")).hint("write REPO#A..B")
        );
    }
    if let Some((from, to)) = what.split_once("..") {
        if is_remote(repo) {
            return Err(Error::bad_input(format!("{source}: a range needs a repository on disk"))
                .hint("clone it, or name one ref of it: URL#refs/pull/N/head"));
        }
        let dir = Path::new(repo);
        let to = to.trim_start_matches('.');
        let to = if to.is_empty() { "HEAD" } else { to };
        return commits(source, dir, from, to, means);
    }
    // A ref is compared with the branch the repository stands on.
    let here = Path::new(repo);
    if here.is_dir() && resolve(here, what, means)?.is_some() {
        return commits(source, here, "HEAD", what, means);
    }
    let url = if here.is_dir() { remote_of(here, means)? } else { repo.to_owned() };
    let aside = Scratch::new()?;
    run(aside.path(), &["init", "--quiet", "--bare"], means, source)?;
    let tip = format!("{what}:refs/series/tip");
    let fetched = command(aside.path())
        .args(["fetch", "--quiet", "--no-tags", "--end-of-options", &url, &tip])
        .arg("HEAD:refs/series/base")
        .timeout(FETCHING)
        .run(means.cancel)?;
    if !fetched.success() {
        return Err(Error::failure(format!("cannot fetch {what} from {url}"))
            .hint("check the address, and that the ref is there: git ls-remote URL")
            .because(Error::failure(last_line(&fetched))));
    }
    commits(source, aside.path(), "refs/series/base", "refs/series/tip", means)
}

fn remote_of(dir: &Path, means: &Means<'_>) -> Result<String> {
    let finished = command(dir).args(["remote", "get-url", "origin"]).run(means.cancel)?;
    if finished.success() {
        return Ok(finished.text());
    }
    Err(Error::bad_input(format!("{} has no such ref, and no remote `origin`", dir.display()))
        .hint("write URL#refs/pull/N/head"))
}

fn resolve(dir: &Path, name: &str, means: &Means<'_>) -> Result<Option<String>> {
    let finished = command(dir)
        .args(["rev-parse", "--verify", "--quiet", "--end-of-options"])
        .arg(format!("{name}^{{commit}}"))
        .run(means.cancel)?;
    Ok(finished.success().then(|| finished.text()))
}

/// The commits that `to` has and `from` has not, as mails.
fn commits(source: &str, dir: &Path, from: &str, to: &str, means: &Means<'_>) -> Result<Found> {
    let mut ends = Vec::new();
    for name in [from, to] {
        let commit = resolve(dir, name, means)?.ok_or_else(|| {
            Error::bad_input(format!("{} has no commit {name}", dir.display()))
                .hint("write REPO#A..B with names or hashes that git log knows there")
        })?;
        ends.push(commit);
    }
    let merge = run(dir, &["merge-base", &ends[0], &ends[1]], means, source)?.text();
    let base = merge.lines().next().unwrap_or(&ends[0]).to_owned();
    mails(source, dir, &base, &ends[1], means)
}

/// `base..tip` by `git format-patch`. It would count commits that change nothing
/// and not show them, so the numbers come later.
pub(super) fn mails(
    source: &str,
    dir: &Path,
    base: &str,
    tip: &str,
    means: &Means<'_>,
) -> Result<Found> {
    let range = format!("{base}..{tip}");
    let count = run(dir, &["rev-list", "--count", "--no-merges", &range], means, source)?.text();
    let count: usize = count.parse().unwrap_or_default();
    if count == 0 || count > MOST_COMMITS {
        return Err(Error::bad_input(format!("{source} holds {count} commits"))
            .hint(format!("a series has 1 to {MOST_COMMITS}; the range is A..B, oldest first")));
    }
    let args = [
        "format-patch",
        "--stdout",
        "--no-numbered",
        "--full-index",
        "--no-signature",
        "--no-color",
        "--no-ext-diff",
        "--no-textconv",
        "--src-prefix=a/",
        "--dst-prefix=b/",
        "--subject-prefix=PATCH",
        &range,
    ];
    let shown = run(dir, &args, means, source)?;
    let raw = mail::split(&shown.stdout, source)?;
    let tree = PathBuf::from(dir);
    let parent = Base {
        how: How::Parent,
        commit: Some(base.to_owned()),
        tree: Some(tree),
        ..Base::default()
    };
    Ok(Found { raw, message_id: None, order: Order::AsGiven, base: Some(parent) })
}

pub(super) fn run(dir: &Path, args: &[&str], means: &Means<'_>, source: &str) -> Result<Finished> {
    let finished = command(dir).args(args.iter().copied()).run(means.cancel)?;
    if finished.success() {
        return Ok(finished);
    }
    Err(Error::bad_input(format!("{source}: git {} failed", args[0]))
        .hint(format!("is {} a git repository that holds these commits?", dir.display()))
        .because(Error::failure(last_line(&finished))))
}

fn last_line(finished: &Finished) -> String {
    finished.tail.trim().lines().last().unwrap_or("git said nothing").to_owned()
}
