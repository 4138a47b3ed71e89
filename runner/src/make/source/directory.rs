// SPDX-License-Identifier: MIT OR Apache-2.0
//! A base that is a directory: what lies there now, copied.
//!
//! Its key is a hash over all names and contents, so that an edit makes it
//! another base and nothing stale is built. Its own git data and our build
//! folder are left out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::workspace::{BUILD, copy_tree};
use super::{Desk, Tree, check_is_kernel};
use crate::base::command::Cancel;
use crate::base::error::{Context, Error, Result};
use crate::keep::cache::{hex, sha256_file};

pub(super) fn obtain(desk: &Desk<'_>, dir: &Path) -> Result<Tree> {
    let label = format!("directory {}", dir.display());
    if !dir.is_dir() {
        return Err(Error::bad_input(format!("there is no directory {}", dir.display()))
            .hint("a base's `directory:` is relative to the folder of its bakeoff.yaml"));
    }
    check_is_kernel(dir, &label)?;
    let key = key(dir, desk.cancel)?;
    desk.tree(&key, label, |into, _task| {
        copy_tree(dir, into, &left_out, desk.cancel)?;
        Ok(())
    })
}

/// The key of a directory as it is now.
pub(super) fn key(dir: &Path, cancel: &Cancel) -> Result<String> {
    Ok(format!("dir-{}", hash_of(dir, cancel)?))
}

/// What at the top of a directory does not belong to the source.
fn left_out(relative: &Path) -> bool {
    relative == Path::new(".git") || relative == Path::new(BUILD)
}

/// One hash over every name, mode and content.
fn hash_of(dir: &Path, cancel: &Cancel) -> Result<String> {
    use sha2::Digest;
    let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
    gather(dir, Path::new(""), &mut files, cancel)?;
    let mut hash = sha2::Sha256::new();
    for (name, says) in &files {
        hash.update(name.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update(says);
        hash.update([0]);
    }
    Ok(hex(&hash.finalize()))
}

fn gather(
    dir: &Path,
    relative: &Path,
    files: &mut BTreeMap<PathBuf, String>,
    cancel: &Cancel,
) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    cancel.check()?;
    for entry in fs::read_dir(dir).at_path("read", dir)? {
        let entry = entry.at_path("read", dir)?;
        let (path, name) = (entry.path(), relative.join(entry.file_name()));
        if left_out(&name) {
            continue;
        }
        let kind = entry.file_type().at_path("read", &path)?;
        let says = if kind.is_dir() {
            gather(&path, &name, files, cancel)?;
            continue;
        } else if kind.is_symlink() {
            format!("link {}", fs::read_link(&path).at_path("read", &path)?.display())
        } else if kind.is_file() {
            let executable =
                entry.metadata().at_path("read", &path)?.permissions().mode() & 0o100 != 0;
            format!("{executable} {}", sha256_file(&path)?)
        } else {
            continue;
        };
        files.insert(name, says);
    }
    Ok(())
}
