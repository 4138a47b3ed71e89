// SPDX-License-Identifier: MIT OR Apache-2.0
//! A series as a folder: `NNNN-*.patch`, which `git am` takes, and `series.json`.
//!
//! It is written next to its place and renamed, so that whoever sees the folder
//! sees all of it.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::{Author, Base, Patch, Series};
use crate::base::error::{Context, Error, Result};
use crate::keep::freeze::DESCRIBED as SERIES;

/// Letters of a subject in a file name, as in git.
const SLUG: usize = 52;

/// What is read back of `series.json`: enough to say what was tested.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Described {
    /// As it was asked for.
    pub(crate) source: String,
    pub(crate) version: u32,
    pub(crate) subject: String,
    /// Of the cover letter, else of the first patch.
    pub(crate) message_id: String,
    pub(crate) patches: Vec<DescribedPatch>,
    pub(crate) base: Base,
}

/// A patch of [`Described`].
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct DescribedPatch {
    pub(crate) subject: String,
    pub(crate) message_id: String,
}

/// Reads the `series.json` of a folder; `None` if there is none, or another program's.
pub(crate) fn described_in(dir: &Path) -> Option<Described> {
    serde_json::from_slice(&fs::read(dir.join(SERIES)).ok()?).ok()
}

/// Writes a series into a folder that is not there yet, or is empty.
///
/// # Errors
/// The folder holds something, or cannot be written.
pub(crate) fn write(series: &Series, out: &Path) -> Result<()> {
    whole(out, |aside| fill(series, aside))
}

/// Writes several versions: a folder `vN` for each.
///
/// # Errors
/// As [`write()`].
pub(crate) fn write_all(all: &[Series], out: &Path) -> Result<()> {
    whole(out, |aside| {
        for series in all {
            let dir = aside.join(format!("v{}", series.version));
            fs::create_dir(&dir).at_path("create", &dir)?;
            fill(series, &dir)?;
        }
        Ok(())
    })
}

/// Fills a folder aside, then puts it into its place.
fn whole(out: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let empty = fs::read_dir(out).map(|mut entries| entries.next().is_none());
    if out.exists() && !empty.unwrap_or(false) {
        return Err(Error::bad_input(format!("{} already exists", out.display()))
            .hint("give --out a folder that is new or empty"));
    }
    let above = match out.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    fs::create_dir_all(above).at_path("create", above)?;
    let aside =
        tempfile::Builder::new().prefix(".series-").tempdir_in(above).at_path("write in", above)?;
    fill(aside.path())?;
    // What tempfile makes is private; this is a result.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(aside.path(), mode).at_path("write", aside.path())?;
    fs::rename(aside.path(), out).at_path("write", out)?;
    let _gone = aside.keep();
    Ok(())
}

fn fill(series: &Series, dir: &Path) -> Result<()> {
    let digits = series.expected.to_string().len();
    for patch in &series.patches {
        let path = dir.join(file_name(patch));
        fs::write(&path, file(series, patch, digits)).at_path("write", &path)?;
    }
    if let Some(cover) = &series.cover {
        let path = dir.join("0000-cover-letter.txt");
        let text = format!("Subject: {}\n\n{}", cover.subject, cover.text);
        fs::write(&path, text).at_path("write", &path)?;
    }
    let path = dir.join(SERIES);
    let text = serde_json::to_string_pretty(&described(series))
        .context(|| format!("write {}", path.display()))?;
    fs::write(&path, text + "\n").at_path("write", &path)
}

/// `series.json`.
pub(super) fn described(series: &Series) -> serde_json::Value {
    let patches: Vec<serde_json::Value> = series
        .patches
        .iter()
        .map(|patch| {
            json!({
                "number": patch.number,
                "file": file_name(patch),
                "subject": patch.subject,
                "author": patch.author,
                "date": patch.date,
                "message_id": patch.message_id,
                "from_version": patch.from_version,
            })
        })
        .collect();
    json!({
        "source": series.source,
        "version": series.version,
        "versions": series.versions,
        "subject": series.subject,
        "author": series.author,
        "date": series.date,
        "message_id": series.message_id,
        "to": series.to,
        "cc": series.cc,
        "expected": series.expected,
        "cover": series.cover.as_ref().map(|cover| json!({
            "subject": cover.subject,
            "message_id": cover.message_id,
        })),
        "patches": patches,
        "missing": series.missing,
        "trailers": series.trailers,
        "base": series.base,
        "paths": series.paths,
        "notes": series.notes,
    })
}

/// `0002-mm-look-up-the-vma.patch`; only letters, digits, `.`, `_` and `-`.
fn file_name(patch: &Patch) -> String {
    let mut slug = String::new();
    for letter in patch.subject.chars() {
        if letter.is_ascii_alphanumeric() || letter == '_' || letter == '.' {
            if !(letter == '.' && slug.ends_with('.')) {
                slug.push(letter);
            }
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() >= SLUG {
            break;
        }
    }
    let slug = slug.trim_matches(['-', '.']);
    let slug = if slug.is_empty() { "patch" } else { slug };
    format!("{:04}-{slug}.patch", patch.number)
}

/// One patch as a mail.
fn file(series: &Series, patch: &Patch, digits: usize) -> Vec<u8> {
    let version = if series.version == 1 { String::new() } else { format!(" v{}", series.version) };
    let place = if series.expected == 1 {
        String::new()
    } else {
        format!(" {:0digits$}/{}", patch.number, series.expected)
    };
    let Author { name, email } = &patch.author;
    let mut text = format!(
        "From: {}\nDate: {}\nSubject: [PATCH{version}{place}] {}\nMessage-ID: <{}>\n\
         MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n\
         Content-Transfer-Encoding: 8bit\n\n",
        address(name, email),
        clean(&patch.date),
        clean(&patch.subject),
        clean(&patch.message_id),
    )
    .into_bytes();
    text.extend_from_slice(&patch.message);
    if !patch.message.is_empty() && !patch.message.ends_with(b"\n") {
        text.push(b'\n');
    }
    text.extend_from_slice(&patch.diff);
    if !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    text
}

fn address(name: &str, email: &str) -> String {
    let name = clean(name);
    let plain = name.chars().all(|c| c.is_alphanumeric() || " -_'".contains(c));
    let name = if plain { name } else { format!("\"{}\"", name.replace(['"', '\\'], "")) };
    format!("{name} <{}>", clean(email))
}

/// One line, whatever it was.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
