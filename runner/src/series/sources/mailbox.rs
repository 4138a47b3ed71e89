// SPDX-License-Identifier: MIT OR Apache-2.0
//! An mbox, a maildir, or a file that is one mail or one diff.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Found, Means, Order};
use crate::base::error::{Context, Error, Result};
use crate::series::fetch;
use crate::series::mail::{self, LARGEST_THREAD};

pub(super) fn is_file(source: &str) -> bool {
    Path::new(source).is_file()
}

pub(super) fn is_maildir(source: &str) -> bool {
    ["cur", "new"].iter().any(|sub| Path::new(source).join(sub).is_dir())
}

pub(super) fn read_file(source: &str, _means: &Means<'_>) -> Result<Found> {
    let path = Path::new(source);
    let bytes = limited(path)?;
    let bytes =
        if bytes.starts_with(&[0x1f, 0x8b]) { fetch::gunzip(&bytes, source)? } else { bytes };
    if bytes.starts_with(b"From ") {
        let raw = mail::split(&bytes, source)?;
        return Ok(Found { raw, message_id: None, order: Order::Loose, base: None });
    }
    let raw = vec![as_mail(path, bytes)?];
    Ok(Found { raw, message_id: None, order: Order::AsGiven, base: None })
}

pub(super) fn read_maildir(source: &str, means: &Means<'_>) -> Result<Found> {
    let mut files: Vec<PathBuf> = Vec::new();
    for sub in ["cur", "new"] {
        let dir = Path::new(source).join(sub);
        if !dir.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&dir).at_path("read", &dir)? {
            let entry = entry.at_path("read", &dir)?;
            if entry.file_type().at_path("read", &dir)?.is_file() {
                files.push(entry.path());
            }
        }
    }
    // Names of a maildir begin with the time of delivery.
    files.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    let mut raw = Vec::new();
    let mut total = 0;
    for file in files {
        means.cancel.check()?;
        let bytes = limited(&file)?;
        total += bytes.len();
        if total > LARGEST_THREAD {
            return Err(too_large(source));
        }
        raw.extend(mail::split(&bytes, &file.display().to_string())?);
    }
    Ok(Found { raw, message_id: None, order: Order::Thread, base: None })
}

/// A file that is no larger than a thread may be.
pub(super) fn limited(path: &Path) -> Result<Vec<u8>> {
    let size = fs::metadata(path).at_path("read", path)?.len();
    if size > LARGEST_THREAD as u64 {
        return Err(too_large(&path.display().to_string()));
    }
    fs::read(path).at_path("read", path)
}

fn too_large(name: &str) -> Error {
    Error::bad_input(format!("{name} has more than {} MB", LARGEST_THREAD >> 20))
        .hint("extract the thread you mean")
}

/// A diff without a mail around it gets one with the file's name as subject.
pub(super) fn as_mail(path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>> {
    let name = path.display().to_string();
    if bytes.len() > mail::LARGEST_MAIL {
        return mail::split(&bytes, &name).map(|_| bytes);
    }
    let bare = ["diff ", "--- ", "Index: "].iter().any(|start| bytes.starts_with(start.as_bytes()));
    if !bare {
        return Ok(bytes);
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let subject: String = stem.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut mail = format!("Subject: [PATCH] {subject}\n\n").into_bytes();
    mail.extend_from_slice(&bytes);
    Ok(mail)
}
