// SPDX-License-Identifier: MIT OR Apache-2.0
//! A thread of a public-inbox archive: `<archive>/<message id>/t.mbox.gz`.

use reqwest::Url;

use super::{Found, Means, Order};
use crate::base::error::{Error, Result};
use crate::series::fetch::{self, Answer};
use crate::series::mail;

/// What public-inbox puts behind a message id.
const VIEWS: [&str; 9] = ["t.mbox.gz", "t.atom", "t", "T", "raw", "u", "mbox.gz", "#t", "s"];

pub(super) fn is_message_id(source: &str) -> bool {
    let id = bare(source);
    id.split_once('@').is_some_and(|(left, right)| !left.is_empty() && !right.is_empty())
        && !id.contains(char::is_whitespace)
        && !id.contains("://")
}

pub(super) fn is_url(source: &str) -> bool {
    source.starts_with("https://") || source.starts_with("http://")
}

/// `<id>`, `id:ID`, `mid:ID` → `ID`.
fn bare(source: &str) -> &str {
    let id = source.trim();
    let id = id.strip_prefix("id:").or_else(|| id.strip_prefix("mid:")).unwrap_or(id);
    id.trim_start_matches('<').trim_end_matches('>')
}

pub(super) fn read_message_id(source: &str, means: &Means<'_>) -> Result<Found> {
    let id = bare(source);
    let mut asked = Vec::new();
    for archive in &means.net.archives {
        let base = fetch::url(archive)?;
        match thread(&base, id, means)? {
            Some(found) => return Ok(found),
            None => asked.push(archive.as_str()),
        }
    }
    Err(not_there(id, &asked.join(", ")))
}

pub(super) fn read_url(source: &str, means: &Means<'_>) -> Result<Found> {
    let (base, id) = parts(source)?;
    thread(&base, &id, means)?.ok_or_else(|| not_there(&id, base.as_str()))
}

fn not_there(id: &str, archives: &str) -> Error {
    Error::bad_input(format!("there is no mail {id} in {archives}"))
        .hint("check the message id, or name the archive that has it with --server URL")
}

fn thread(base: &Url, id: &str, means: &Means<'_>) -> Result<Option<Found>> {
    let url = fetch::below(base, &[id, "t.mbox.gz"]);
    let Answer::Bytes(bytes) = fetch::get(&url, means.net, means.cancel)? else {
        return Ok(None);
    };
    if !bytes.starts_with(b"From ") {
        return Err(Error::failure(format!("{url} is not an mbox"))
            .hint("name the address of a public-inbox archive"));
    }
    let raw = mail::split(&bytes, url.as_str())?;
    Ok(Some(Found { raw, message_id: Some(id.to_owned()), order: Order::Thread, base: None }))
}

/// `https://lore.kernel.org/all/<id>/T/#t` → archive and message id.
fn parts(source: &str) -> Result<(Url, String)> {
    let mut url = fetch::url(source)?;
    url.set_fragment(None);
    url.set_query(None);
    let mut names: Vec<String> = url
        .path_segments()
        .into_iter()
        .flatten()
        .filter(|name| !name.is_empty())
        .map(decoded)
        .collect();
    while names.len() > 1 && names.last().is_some_and(|name| VIEWS.contains(&name.as_str())) {
        names.pop();
    }
    // `/r/<id>` is lore's short form; a slash of an id may be there unencoded.
    let at = names.iter().position(|name| name.contains('@'));
    let first = match at {
        Some(at) if names[..at].len() > 1 && names[0] != "r" => 1,
        Some(at) => at,
        None => {
            return Err(Error::bad_input(format!("there is no message id in {source}"))
                .hint("give the address of a mail: https://lore.kernel.org/all/MESSAGE-ID/"));
        }
    };
    let last = at.unwrap_or(first);
    let id = names[first..=last].join("/");
    let lists: Vec<&str> = names[..first].iter().map(String::as_str).collect();
    url.set_path("");
    Ok((fetch::below(&url, &lists), id))
}

/// `%2F` → `/`.
pub(in crate::series) fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                plain.push(byte);
                at += 3;
            }
            _ => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Archive and message id are found in every address a reader copies.
    #[test]
    fn addresses() {
        for (url, archive, id) in [
            ("https://lore.kernel.org/all/a-1@x.org/", "https://lore.kernel.org/all", "a-1@x.org"),
            ("https://x.org/lkml/a@x/T/#t", "https://x.org/lkml", "a@x"),
            ("https://x.org/lkml/a@x/t.mbox.gz", "https://x.org/lkml", "a@x"),
            ("https://x.org/lkml/a%2Fb@x/raw", "https://x.org/lkml", "a/b@x"),
            ("https://x.org/lkml/a/b@x/", "https://x.org/lkml", "a/b@x"),
            ("http://127.0.0.1:8080/l/a%40x", "http://127.0.0.1:8080/l", "a@x"),
            ("https://lore.kernel.org/r/a@x", "https://lore.kernel.org/r", "a@x"),
        ] {
            let (base, found) = parts(url).unwrap();
            assert_eq!((base.as_str(), found.as_str()), (archive, id), "{url}");
        }
        assert!(parts("https://lore.kernel.org/all/").is_err());
    }

    /// A message id stays one part of the path.
    #[test]
    fn slashes_are_encoded() {
        let url = fetch::below(&fetch::url("https://x.org/l/").unwrap(), &["a/../b@x", "t"]);
        assert_eq!(url.as_str(), "https://x.org/l/a%2F..%2Fb@x/t");
    }

    /// A message id is told from files and addresses, in each of its spellings.
    #[test]
    fn message_ids() {
        for id in ["a@b", "<a@b>", "id:a@b", "mid:a/c@b"] {
            assert!(is_message_id(id), "{id}");
        }
        for other in ["@b", "a@", "a b@c", "https://x/a@b", "file"] {
            assert!(!is_message_id(other), "{other}");
        }
    }
}
