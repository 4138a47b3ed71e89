// SPDX-License-Identifier: MIT OR Apache-2.0
//! A patch series, read as mails and applied as strictly as `git am` does.
//!
//! No fuzz, no guessing, first failure ends it: a series that needs more
//! goodwill than that does not apply, and that is a result. Nothing outside the
//! workspace is touched: `git apply` refuses paths that lead out or through
//! links, and what it would accept but we do not want (links, our build folder)
//! is refused before.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::workspace::BUILD;
use crate::base::command::{Cancel, Command, Finished};
use crate::base::error::{Context, Error, Result};
use crate::base::scratch::Scratch;
use crate::keep::cache::sha256;

/// A patch larger than this is none.
const LARGEST: u64 = 64 << 20;
/// Time for one call of git.
const PATIENCE: Duration = Duration::from_secs(120);
/// Lines of a failing hunk that are shown.
const HUNK_LINES: usize = 24;

/// One patch of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Its file's name.
    pub name: String,
    /// The mail's subject without `[PATCH n/m]`.
    pub subject: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// What is to be applied.
    diff: Vec<u8>,
}

impl Patch {
    /// A patch of the project's own.
    pub(crate) fn of_ours(name: String, text: &[u8]) -> Patch {
        Patch { subject: name.clone(), name, sha256: sha256(text), diff: text.to_vec() }
    }
}

/// How applying a series ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// All of it.
    Whole,
    /// It does not apply.
    Rejected {
        /// The first patch that does not, by file name.
        patch: String,
        /// What was said, with the hunk.
        reason: String,
    },
}

/// Reads the mails of a series, in order. A cover letter (`0000-…`) is left out.
///
/// # Errors
/// A file cannot be read, or git is missing. What is *in* the file is judged
/// when it is applied.
pub fn read(files: &[PathBuf], cancel: &Cancel) -> Result<Vec<Patch>> {
    let mut patches = Vec::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("0000-") {
            continue;
        }
        let size = fs::metadata(file).map(|m| m.len());
        if size.is_ok_and(|bytes| bytes > LARGEST) {
            return Err(Error::bad_input(format!("{} is too large for a patch", file.display())));
        }
        let bytes = fs::read(file).map_err(|cause| {
            Error::bad_input(format!("cannot read the patch {}", file.display())).because(cause)
        })?;
        let sha256 = sha256(&bytes);
        for (n, mail) in mails(&bytes).into_iter().enumerate() {
            let name = if n == 0 { name.clone() } else { format!("{name}#{}", n + 1) };
            patches.push(parse(mail, name, sha256.clone(), cancel)?);
        }
    }
    Ok(patches)
}

/// The mails of an mbox; anything else is one.
fn mails(bytes: &[u8]) -> Vec<&[u8]> {
    // `From <40 hex digits> Mon Sep 17 00:00:00 2001`, or what lore and b4 write.
    let begins = |line: &[u8]| {
        line.strip_prefix(b"From ").is_some_and(|rest| {
            rest.starts_with(b"mboxrd@z ")
                || (rest.len() > 40
                    && rest[..40].iter().all(u8::is_ascii_hexdigit)
                    && rest[40] == b' ')
        })
    };
    let mut starts = Vec::new();
    let mut at = 0;
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        if begins(line) {
            starts.push(at);
        }
        at += line.len();
    }
    if starts.first() != Some(&0) {
        return vec![bytes];
    }
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    starts.iter().zip(ends).map(|(&start, end)| &bytes[start..end]).collect()
}

fn parse(mail: &[u8], name: String, sha256: String, cancel: &Cancel) -> Result<Patch> {
    let bare = ["diff ", "--- ", "Index: "].iter().any(|s| mail.starts_with(s.as_bytes()));
    if bare || mail.is_empty() {
        return Ok(Patch { subject: name.clone(), name, sha256, diff: mail.to_vec() });
    }
    // git decodes what mailers do to a patch: quoted-printable, base64, charsets.
    let dir = Scratch::new()?;
    let finished = git(dir.path())
        .args(["mailinfo", "--encoding=UTF-8", "--no-scissors", "message", "diff"])
        .stdin(mail)
        .run(cancel)?;
    if !finished.success() {
        // No mail, then: let `git apply` say what is wrong with it.
        return Ok(Patch { subject: name.clone(), name, sha256, diff: mail.to_vec() });
    }
    let told = finished.text();
    let subject = told.lines().find_map(|line| line.strip_prefix("Subject: ")).map(str::trim);
    let subject = subject.filter(|s| !s.is_empty()).unwrap_or(&name).to_owned();
    let path = dir.path().join("diff");
    let diff = fs::read(&path).at_path("read", &path)?;
    Ok(Patch { name, subject, sha256, diff })
}

/// Applies a series to the workspace `tree`.
///
/// # Errors
/// Ours: git is missing, full disk, interrupted. A series that does not apply is
/// [`Applied::Rejected`].
pub fn apply(tree: &Path, patches: &[Patch], cancel: &Cancel) -> Result<Applied> {
    for patch in patches {
        let reject = |reason: String| Applied::Rejected { patch: patch.name.clone(), reason };
        if let Some(reason) = unwanted(tree, patch, cancel)? {
            return Ok(reject(reason));
        }
        let finished = git(tree)
            .args(["apply", "-p1", "--whitespace=nowarn", "-"])
            .stdin(patch.diff.clone())
            .timeout(PATIENCE)
            .run(cancel)?;
        if finished.success() {
            continue;
        }
        let said = said(&finished);
        if ["No space left", "Read-only file system", "Permission denied"]
            .iter()
            .any(|ours| said.contains(ours))
        {
            return Err(Error::failure(format!("failed to apply {}: {said}", patch.name)));
        }
        let hunk = failing_hunk(&said, &patch.diff);
        return Ok(reject(match hunk {
            Some(hunk) => format!("{said}\n{hunk}"),
            None => said,
        }));
    }
    Ok(Applied::Whole)
}

/// Whether a series would apply to a tree, which stays as it is.
///
/// # Errors
/// As [`apply`].
pub fn would_apply(tree: &Path, patches: &[Patch], cancel: &Cancel) -> Result<Applied> {
    // The files that the series names are all that applying it can look at.
    let aside = Scratch::new()?;
    let mut taken = BTreeSet::new();
    for patch in patches {
        if let Some(reason) = unwanted(tree, patch, cancel)? {
            return Ok(Applied::Rejected { patch: patch.name.clone(), reason });
        }
        let paths = git(tree)
            .args(["apply", "--numstat", "-z", "-p1", "-"])
            .stdin(patch.diff.clone())
            .run(cancel)?;
        for path in numstat_paths(&paths.stdout) {
            // What an earlier patch deleted is not there again.
            if taken.insert(path.clone()) {
                bring(tree, aside.path(), &path)?;
            }
        }
        // One at a time: the next one may take a file from where this one puts it.
        match apply(aside.path(), std::slice::from_ref(patch), cancel)? {
            Applied::Whole => {}
            rejected @ Applied::Rejected { .. } => return Ok(rejected),
        }
    }
    Ok(Applied::Whole)
}

/// Copies a file of a tree to the same place below `aside`, if it is there. A link on the
/// way stays a link, since nothing is applied behind one.
fn bring(tree: &Path, aside: &Path, path: &str) -> Result<()> {
    let mut inside = PathBuf::new();
    for part in path.split('/') {
        inside.push(part);
        let (from, to) = (tree.join(&inside), aside.join(&inside));
        let Ok(metadata) = fs::symlink_metadata(&from) else { return Ok(()) };
        if metadata.is_symlink() {
            if fs::symlink_metadata(&to).is_err() {
                let leads = fs::read_link(&from).at_path("read", &from)?;
                std::os::unix::fs::symlink(leads, &to).at_path("link", &to)?;
            }
            return Ok(());
        }
        if metadata.is_dir() {
            fs::create_dir_all(&to).at_path("create", &to)?;
        } else if metadata.is_file() {
            fs::copy(&from, &to).at_path("copy to", &to)?;
        }
    }
    Ok(())
}

/// What `git apply` would take but we do not.
fn unwanted(tree: &Path, patch: &Patch, cancel: &Cancel) -> Result<Option<String>> {
    if !has_diff(&patch.diff) {
        return Ok(Some("it holds no diff".into()));
    }
    let ask = |option: &str| {
        git(tree)
            .args(["apply", option, "-z", "-p1", "-"])
            .stdin(patch.diff.clone())
            .timeout(PATIENCE)
            .run(cancel)
    };
    let paths = ask("--numstat")?;
    if !paths.success() {
        return Ok(Some(said(&paths)));
    }
    for path in numstat_paths(&paths.stdout) {
        let first = path.split('/').next().unwrap_or_default();
        if path.starts_with('/') || path.split('/').any(|part| part == "..") {
            return Ok(Some(format!("it leads out of the tree: `{path}`")));
        }
        if first == BUILD {
            return Ok(Some(format!("`{path}` lies in the build folder, which is not source")));
        }
    }
    let summary = ask("--summary")?;
    for line in String::from_utf8_lossy(&summary.stdout).lines() {
        let special = ["120000", "160000"].iter().any(|mode| {
            line.contains(&format!("mode {mode} ")) || line.contains(&format!("=> {mode}"))
        });
        if special && !line.trim_start().starts_with("delete") {
            return Ok(Some(format!("it makes a link, which is not applied: {}", line.trim())));
        }
    }
    Ok(None)
}

fn has_diff(diff: &[u8]) -> bool {
    diff.split(|&byte| byte == b'\n')
        .any(|line| line.starts_with(b"diff --git ") || line.starts_with(b"--- "))
}

/// `1\t2\tpath\0`, and for a rename `1\t2\t\0old\0new\0`.
fn numstat_paths(stdout: &[u8]) -> Vec<String> {
    stdout
        .split(|&byte| byte == 0)
        .map(|field| String::from_utf8_lossy(field).into_owned())
        .map(|field| match field.splitn(3, '\t').nth(2) {
            Some(path) => path.to_owned(),
            None => field,
        })
        .filter(|path| !path.is_empty())
        .collect()
}

fn said(finished: &Finished) -> String {
    let text = finished.tail.trim();
    if finished.timed_out {
        "git did not come to an end with it".into()
    } else if text.is_empty() {
        finished.status.to_string()
    } else {
        text.to_owned()
    }
}

/// Files that patches touch, and lines that they add and remove: what they cost to read.
/// A patch that cannot be read touches nothing; whoever applies it says why.
#[must_use]
pub fn extent(patches: &[PathBuf]) -> (Vec<String>, [u32; 2]) {
    let mut files: Vec<String> = Vec::new();
    let [mut added, mut removed] = [0, 0];
    for path in patches {
        let Ok(bytes) = std::fs::read(path) else { continue };
        let text = String::from_utf8_lossy(&bytes);
        let mut in_hunk = false;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("+++ ") {
                let name = name.split('\t').next().unwrap_or(name);
                let name = name.strip_prefix("b/").unwrap_or(name).to_owned();
                if name != "/dev/null" && !files.contains(&name) {
                    files.push(name);
                }
            } else if line.starts_with("@@ ") {
                in_hunk = true;
            } else if line.starts_with("diff --git ") || line == "-- " {
                in_hunk = false;
            } else if in_hunk && line.starts_with('+') {
                added += 1;
            } else if in_hunk && line.starts_with('-') && !line.starts_with("--- ") {
                removed += 1;
            }
        }
    }
    (files, [added, removed])
}

/// `error: patch failed: mm/mmap.c:123` → the hunk that begins there.
fn failing_hunk(said: &str, diff: &[u8]) -> Option<String> {
    let place = said.lines().find_map(|line| line.strip_prefix("error: patch failed: "))?;
    let (file, line) = place.rsplit_once(':')?;
    let text = String::from_utf8_lossy(diff);
    let mut lines = text
        .lines()
        .skip_while(|l| !(l.starts_with("--- ") && l.trim_end().ends_with(file)))
        .skip_while(|l| {
            !(l.starts_with(&format!("@@ -{line},")) || l.starts_with(&format!("@@ -{line} ")))
        });
    let mut hunk = vec![lines.next()?];
    hunk.extend(
        lines
            .take_while(|l| {
                l.is_empty() || l.starts_with([' ', '+', '-', '\\']) && !l.starts_with("-- ")
            })
            .take(HUNK_LINES),
    );
    Some(hunk.join("\n"))
}

/// git with nobody's configuration, and blind for repositories around `dir`:
/// inside one it would silently skip what lies outside its own folder.
fn git(dir: &Path) -> Command {
    let above = dir.parent().unwrap_or(dir);
    let above = above.canonicalize().unwrap_or_else(|_| above.to_owned());
    Command::new("git")
        .cwd(dir)
        .only_env([
            ("PATH", std::env::var_os("PATH").unwrap_or_default()),
            ("LC_ALL", "C".into()),
            ("HOME", "/nonexistent".into()),
            ("GIT_CONFIG_NOSYSTEM", "1".into()),
            ("GIT_CONFIG_GLOBAL", "/dev/null".into()),
            ("GIT_ATTR_NOSYSTEM", "1".into()),
            ("GIT_CEILING_DIRECTORIES", above.into_os_string()),
        ])
        .timeout(PATIENCE)
}

#[cfg(test)]
mod tests;
