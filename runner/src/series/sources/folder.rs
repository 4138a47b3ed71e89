// SPDX-License-Identifier: MIT OR Apache-2.0
//! A folder of patches, as `git format-patch` or `bakeoff series fetch` writes it.

use std::fs;
use std::path::{Path, PathBuf};

use super::mailbox::{as_mail, limited};
use super::{Found, Means, Order};
use crate::base::error::{Context, Error, Result};
use crate::series::mail::{self, LARGEST_THREAD};

pub(super) fn is_folder(source: &str) -> bool {
    Path::new(source).is_dir()
}

pub(super) fn read(source: &str, means: &Means<'_>) -> Result<Found> {
    let dir = Path::new(source);
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(dir).at_path("read", dir)? {
        let path = entry.at_path("read", dir)?.path();
        let kind = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
        if path.is_file() && ["patch", "diff", "mbox", "mbx", "eml"].contains(&kind) {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(Error::bad_input(format!("there are no patches in {source}"))
            .hint("patches end in .patch, .diff, .eml or .mbox"));
    }
    files.sort();
    let mut raw = Vec::new();
    let mut total = 0;
    for file in files {
        means.cancel.check()?;
        let bytes = limited(&file)?;
        total += bytes.len();
        if total > LARGEST_THREAD {
            return Err(Error::bad_input(format!(
                "the patches in {source} have more than {} MB",
                LARGEST_THREAD >> 20
            ))
            .hint("no series is that large"));
        }
        if bytes.starts_with(b"From ") {
            raw.extend(mail::split(&bytes, &file.display().to_string())?);
        } else {
            raw.push(as_mail(&file, bytes)?);
        }
    }
    Ok(Found { raw, message_id: None, order: Order::AsGiven, base: None })
}
