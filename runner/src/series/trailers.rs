// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trailers: `Reviewed-by:` and its like, in patches and in replies to them.
//!
//! A reply's trailer counts where its address or name is the sender's; another
//! one is named, not taken. These are b4's rules.

use std::sync::LazyLock;

use regex::Regex;
use serde::Serialize;

use super::mail::{Mail, author, built};

/// One trailer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Trailer {
    /// `Reviewed-by`.
    pub(crate) name: String,
    /// `A B <a@b>`.
    pub(crate) value: String,
    /// Message id of the reply it came with; `None` if it is the patch's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
}

impl Trailer {
    pub(crate) fn line(&self) -> String {
        format!("{}: {}", self.name, self.value)
    }

    pub(crate) fn same(&self, other: &Trailer) -> bool {
        self.name.eq_ignore_ascii_case(&other.name)
            && match (self.person(), other.person()) {
                (Some(ours), Some(theirs)) => ours.eq_ignore_ascii_case(&theirs),
                _ => self.value == other.value,
            }
    }

    /// The address in it.
    fn person(&self) -> Option<String> {
        let (_, email) = author(&self.value);
        (email.contains('@') && !email.contains(' ')).then_some(email)
    }
}

static LINE: LazyLock<Regex> = LazyLock::new(|| built(r"^\s*(\w\S+):\s+(\S.*)"));
static PERSON: LazyLock<Regex> = LazyLock::new(|| built(r"\S+@\S+\.\S+"));
static LINK: LazyLock<Regex> = LazyLock::new(|| built(r"https?://"));
static HASH: LazyLock<Regex> = LazyLock::new(|| built(r"^[0-9a-f]{6,}"));
static COMMENT: LazyLock<Regex> = LazyLock::new(|| built(r"^(.*\S+)(\s+#[^#]+)$"));
/// A long name, its address on the next line.
static WRAPPED: LazyLock<Regex> = LazyLock::new(|| built(r"(?m)^(\S+:\s+[^<\n]+)\n(<[^>\n]+>)$"));
static WRAPPED_FIXES: LazyLock<Regex> =
    LazyLock::new(|| built(r"(?m)^(\S+:\s+[\da-f]+\s+\([^)\n]+)\n([^\n]+\))"));

/// Look like trailers and never are.
const NEVER: [&str; 5] = ["phone", "mail", "email", "e-mail", "prerequisite-message-id"];
const LINKS: [&str; 3] = ["link", "buglink", "closes"];
/// Need no address.
const IMPERSONAL: [&str; 7] =
    ["link", "buglink", "closes", "fixes", "obsoleted-by", "change-id", "base-commit"];
/// Belong to the mail or the patch, not to the review.
const NOT_A_REVIEW: [&str; 11] = [
    "from",
    "author",
    "cc",
    "to",
    "date",
    "subject",
    "subscribe",
    "unsubscribe",
    "base-commit",
    "change-id",
    "message-id",
];

/// The trailers in a text; of a reply by stricter rules.
pub(crate) fn find(text: &str, reply: bool) -> Vec<Trailer> {
    let text = text.split("\n-- \n").next().unwrap_or_default();
    let text = WRAPPED_FIXES.replace_all(text, "$1 $2");
    let text = WRAPPED.replace_all(&text, "$1 $2");
    text.lines().filter_map(|line| one(line, reply)).collect()
}

fn one(line: &str, reply: bool) -> Option<Trailer> {
    let found = LINE.captures(line)?;
    let (name, value) = (&found[1], found[2].trim_end());
    let lower = name.to_lowercase();
    if NEVER.contains(&lower.as_str()) {
        return None;
    }
    if reply {
        let impersonal = IMPERSONAL.contains(&lower.as_str());
        let link = LINK.is_match(value) && !LINKS.contains(&lower.as_str());
        if !name.is_ascii() || !(impersonal || PERSON.is_match(value)) || link {
            return None;
        }
    }
    if lower == "fixes" && !HASH.is_match(value) {
        return None;
    }
    let value = COMMENT.captures(value).map_or(value.to_owned(), |found| found[1].to_owned());
    Some(Trailer { name: name.to_owned(), value, from: None })
}

/// What a reply gives: the trailers that count, and those whose address and
/// name are somebody else's.
pub(crate) fn of_reply(mail: &Mail) -> (Vec<Trailer>, Vec<Trailer>) {
    find(&mail.text(), true)
        .into_iter()
        .filter(|trailer| !NOT_A_REVIEW.contains(&trailer.name.to_lowercase().as_str()))
        .map(|trailer| Trailer { from: Some(mail.message_id.clone()), ..trailer })
        .partition(|trailer| {
            let Some(email) = trailer.person() else { return true };
            let (name, _) = author(&trailer.value);
            email.eq_ignore_ascii_case(&mail.from_email)
                || name.eq_ignore_ascii_case(&mail.from_name)
        })
}

/// The trailers a commit message ends with.
pub(crate) fn of_message(message: &str) -> Vec<Trailer> {
    let last = message.trim_end().rsplit("\n\n").next().unwrap_or_default();
    find(last, false)
}

/// A commit message with these trailers added to its own.
pub(crate) fn added(message: &[u8], new: &[Trailer]) -> Vec<u8> {
    let own = of_message(&String::from_utf8_lossy(message));
    let mut fresh: Vec<&Trailer> = Vec::new();
    for trailer in new {
        let known = own.iter().chain(fresh.iter().copied()).any(|known| known.same(trailer));
        if !known {
            fresh.push(trailer);
        }
    }
    if fresh.is_empty() {
        return message.to_vec();
    }
    let mut text = message.trim_ascii_end().to_vec();
    text.extend_from_slice(if own.is_empty() && !text.is_empty() { b"\n\n" } else { b"\n" });
    for trailer in fresh {
        text.extend_from_slice(trailer.line().as_bytes());
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wrapped, commented and quoted lines are told apart.
    #[test]
    fn trailers_of_a_reply() {
        let text = "> Acked-by: Q <q@x.org>\nLooks good.\n\nReviewed-by: Long Name\n\
                    <l@x.org>\nTested-by: T <t@x.org> # arm64\nNote: nothing here\n\
                    Email: a@b.org\n-- \nAcked-by: Sig <s@x.org>\n";
        let lines: Vec<String> = find(text, true).iter().map(Trailer::line).collect();
        assert_eq!(lines, ["Reviewed-by: Long Name <l@x.org>", "Tested-by: T <t@x.org>"]);
    }

    /// New trailers follow the ones there are, each once.
    #[test]
    fn trailers_are_added_once() {
        let new = find("Acked-by: A <a@x.org>\nacked-by: A B <A@x.org>\n", true);
        let with = added(b"Text.\n\nSigned-off-by: S <s@x.org>\n", &new);
        assert_eq!(with, b"Text.\n\nSigned-off-by: S <s@x.org>\nAcked-by: A <a@x.org>\n");
        assert_eq!(added(&with, &new), with);
        assert_eq!(added(b"Text.\n", &new), b"Text.\n\nAcked-by: A <a@x.org>\n");
    }
}
