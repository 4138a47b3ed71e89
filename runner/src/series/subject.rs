// SPDX-License-Identifier: MIT OR Apache-2.0
//! A subject says which patch of which version a mail is.
//!
//! `[PATCH RFC v3 2/7] mm: x` is patch 2 of 7 of version 3. What is not said is
//! inferred (version 1, patch 1 of 1), and it matters later which was which.
//! The rules are those of b4, because maintainers take series with it.

use std::sync::LazyLock;

use regex::Regex;

use super::mail::{built, squeezed};

/// What a subject says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    /// Without brackets.
    pub(crate) text: String,
    /// As it was written, on one line.
    pub(crate) written: String,
    pub(crate) reply: bool,
    pub(crate) resend: bool,
    pub(crate) patch: bool,
    pub(crate) rfc: bool,
    pub(crate) version: u32,
    pub(crate) counter: usize,
    pub(crate) expected: usize,
    pub(crate) version_inferred: bool,
    pub(crate) counters_inferred: bool,
}

static REPLY: LazyLock<Regex> = LazyLock::new(|| built(r"(?i)^(Re|Aw|Fwd):"));
/// `Sv: [PATCH]`; a subsystem (`mm: x`) is not followed by a bracket.
static FOREIGN_REPLY: LazyLock<Regex> = LazyLock::new(|| built(r"^\w{2,3}:\s*\["));
static NESTED_OPEN: LazyLock<Regex> = LazyLock::new(|| built(r"\[([^\]]*)\[([^\[\]]*)\]"));
static NESTED_CLOSE: LazyLock<Regex> = LazyLock::new(|| built(r"\[([^\]]*)\]([^\[\]]*)\]"));
static BRACKET: LazyLock<Regex> = LazyLock::new(|| built(r"^\[([^\]]*)\]"));
static BRACKET_AND_SPACE: LazyLock<Regex> = LazyLock::new(|| built(r"^\s*\[[^\]]*\]\s*"));
/// `[PATCHv3]`.
static GLUED: LazyLock<Regex> = LazyLock::new(|| built(r"(?i)(patch)(v\d+)"));
static COUNTERS: LazyLock<Regex> = LazyLock::new(|| built(r"^(\d{1,4})/(\d{1,4})$"));
static VERSION: LazyLock<Regex> = LazyLock::new(|| built(r"(?i)^v(\d{1,6})$"));

impl Subject {
    /// Reads a decoded subject.
    pub(crate) fn parse(written: &str) -> Subject {
        let mut rest = squeezed(written);
        let mut subject = Subject {
            text: String::new(),
            written: rest.clone(),
            reply: false,
            resend: false,
            patch: false,
            rfc: false,
            version: 1,
            counter: 1,
            expected: 1,
            version_inferred: true,
            counters_inferred: true,
        };
        if REPLY.is_match(&rest) || FOREIGN_REPLY.is_match(&rest) {
            rest = FOREIGN_REPLY.replace(&rest, "[").into_owned();
            subject.reply = true;
        }
        loop {
            let flat = NESTED_OPEN.replace_all(&rest, "[$1$2]");
            let flat = NESTED_CLOSE.replace_all(&flat, "[$1$2]").into_owned();
            if flat == rest {
                break;
            }
            rest = flat;
        }
        while let Some(found) = BRACKET.captures(&rest) {
            let inside = GLUED.replace_all(found[1].trim(), "$1 $2").into_owned();
            for word in inside.split_whitespace() {
                subject.take(word.trim_matches([',', ';']));
            }
            rest = BRACKET_AND_SPACE.replace(&rest, "").into_owned();
        }
        // `[PATCH 6/5]` happens.
        subject.expected = subject.expected.max(subject.counter);
        subject.text = rest;
        subject
    }

    fn take(&mut self, word: &str) {
        let lower = word.to_lowercase();
        if let Some(found) = COUNTERS.captures(word) {
            self.counter = found[1].parse().unwrap_or(1);
            self.expected = found[2].parse().unwrap_or(1);
            self.counters_inferred = false;
        } else if let Some(found) = VERSION.captures(word) {
            self.version = found[1].parse().unwrap_or(1);
            self.version_inferred = false;
        } else if lower.starts_with("rfc") {
            self.rfc = true;
        } else if lower.starts_with("resend") {
            self.resend = true;
        } else if lower.starts_with("patch") {
            self.patch = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Versions and counters are read however they are spelled.
    #[test]
    fn subjects() {
        for (written, version, counter, expected, text) in [
            ("[PATCH] mm: x", 1, 1, 1, "mm: x"),
            ("[PATCH v3 02/11] mm: x", 3, 2, 11, "mm: x"),
            ("[PATCHv4 1/2] x", 4, 1, 2, "x"),
            ("[RFC PATCH net-next V2, 0/3] x", 2, 0, 3, "x"),
            ("[net-next] [PATCH v2 1/1] x [y]", 2, 1, 1, "x [y]"),
            ("[[PATCH v2] 3/4] x", 2, 3, 4, "x"),
            ("[PATCH 6/5] late", 1, 6, 6, "late"),
            ("mm: no bracket", 1, 1, 1, "mm: no bracket"),
        ] {
            let read = Subject::parse(written);
            assert_eq!(
                (read.version, read.counter, read.expected, read.text.as_str()),
                (version, counter, expected, text),
                "{written}"
            );
            assert!(!read.reply, "{written}");
        }
    }

    /// Replies are told from subsystems.
    #[test]
    fn replies() {
        for reply in ["Re: [PATCH] x", "AW: x", "Fwd: [PATCH v2 1/2] x", "Sv: [PATCH] x"] {
            assert!(Subject::parse(reply).reply, "{reply}");
        }
        for other in ["mm: x", "[PATCH] Re: x", "net: [x]y z"] {
            assert_eq!(Subject::parse(other).reply, other.starts_with("net"), "{other}");
        }
    }
}
