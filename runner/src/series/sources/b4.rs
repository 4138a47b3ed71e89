// SPDX-License-Identifier: MIT OR Apache-2.0
//! A branch that `b4 prep` made: its cover letter is a commit without changes
//! that ends in a JSON block, and the series stands above it.

use std::path::Path;

use serde::Deserialize;

use super::git::{mails, parts, run};
use super::{Found, Means};
use crate::base::error::{Error, Result};

/// Begins the block in which b4 keeps what it knows.
const MARK: &str = "--- b4-submit-tracking ---";

#[derive(Deserialize)]
struct Tracking {
    series: Tracked,
}

#[derive(Deserialize)]
struct Tracked {
    #[serde(default = "first")]
    revision: u32,
    #[serde(default, rename = "change-id")]
    change_id: Option<String>,
}

fn first() -> u32 {
    1
}

/// The folder and the branch.
fn named(source: &str) -> Option<(&str, &str)> {
    let (repo, what) = parts(source);
    let branch = match what.strip_prefix("b4:") {
        Some(branch) => branch,
        None if what.starts_with("b4/") => what,
        None => return None,
    };
    (Path::new(repo).is_dir()
        && !branch.is_empty()
        && !branch.contains("..")
        && !branch.starts_with('-'))
    .then_some((repo, branch))
}

pub(super) fn claims(source: &str) -> bool {
    named(source).is_some()
}

pub(super) fn read(source: &str, means: &Means<'_>) -> Result<Found> {
    let Some((repo, branch)) = named(source) else {
        return Err(
            Error::bad_input(format!("{source} is not a b4 branch")).hint("write REPO#b4:BRANCH")
        );
    };
    let dir = Path::new(repo);
    let grep = format!("--grep=^{MARK}$");
    let args = ["log", "-1", "--format=%H%n%P%n%B", &grep, branch, "--"];
    let text = run(dir, &args, means, source)?.text();
    let mut lines = text.splitn(3, '\n');
    let (Some(cover), Some(base), Some(body)) = (lines.next(), lines.next(), lines.next()) else {
        return Err(Error::bad_input(format!("{branch} has no cover letter that b4 prep made"))
            .hint("b4's other ways to keep a cover letter are not read: write REPO#BASE..BRANCH"));
    };
    let (letter, json) = body.split_once(MARK).unwrap_or((body, ""));
    // A line that begins with `#` is for whoever edits it.
    let json: String = json.lines().filter(|line| !line.starts_with('#')).collect();
    let tracking: Tracking = serde_json::from_str(&json).map_err(|cause| {
        Error::bad_input(format!("the cover letter {cover} of {branch} is damaged"))
            .hint("run `b4 prep --edit-cover` in the repository")
            .because(cause)
    })?;
    let mut found = mails(source, dir, cover, branch, means)?;
    let count = found.raw.len();
    let Tracked { revision, change_id } = tracking.series;
    let version = format!("[PATCH v{revision}");
    for mail in &mut found.raw {
        let text = String::from_utf8_lossy(mail);
        if let Some(at) = text.find("\nSubject: [PATCH") {
            let start = at + "\nSubject: ".len();
            let end = start + "[PATCH".len();
            mail.splice(start..end, version.bytes());
        }
    }
    let (subject, letter) = letter.trim().split_once('\n').unwrap_or((letter.trim(), ""));
    // The cover letter is by whoever sends the patches.
    let sender: String = found
        .raw
        .first()
        .map(|mail| String::from_utf8_lossy(mail).into_owned())
        .unwrap_or_default()
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("From: ") || line.starts_with("Date: "))
        .map(|line| format!("{line}\n"))
        .collect();
    let head = format!("{sender}Subject: {version} 0/{count}] {}\n\n{letter}\n", subject.trim());
    found.raw.insert(0, head.into_bytes());
    if let Some(parent) = &mut found.base {
        parent.commit = base.split(' ').next().map(str::to_owned);
        parent.change_id = change_id;
    }
    Ok(found)
}
