// SPDX-License-Identifier: MIT OR Apache-2.0
//! Splats that everybody knows of: shown with their reason, and nobody's fault.
//!
//! An entry ends: on the day it expires the spec is refused until somebody looks
//! at it again. A list that only grows hides new bugs behind old excuses.

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An entry of `known_splats:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnownSplat {
    /// The whole title, in which `*` stands for anything.
    pub pattern: String,
    /// Why it blames nobody.
    pub reason: String,
    /// Where it is discussed or fixed: a URL.
    pub link: String,
    /// The last day the entry holds, `YYYY-MM-DD`.
    pub expires: String,
}

impl KnownSplat {
    /// Whether it speaks of a splat of this title.
    #[must_use]
    pub fn matches(&self, title: &str) -> bool {
        glob(&self.pattern, title)
    }

    /// What is wrong with it on `today`: the key whose value is meant, and why.
    pub(super) fn complaint(&self, today: Date) -> Option<(&'static str, String)> {
        let KnownSplat { pattern, reason, link, expires } = self;
        if pattern.chars().filter(|c| c.is_alphanumeric()).count() < 4 {
            return Some(("pattern", format!("the pattern `{pattern}` matches almost everything")));
        }
        if reason.trim().is_empty() {
            return Some(("reason", "a known splat needs a reason".into()));
        }
        let url = ["https://", "http://"].iter().find_map(|scheme| link.strip_prefix(scheme));
        if !url.is_some_and(|rest| rest.contains('.') && !rest.contains(char::is_whitespace)) {
            return Some(("link", format!("the link `{link}` is not a URL")));
        }
        match expires.parse::<Date>() {
            Err(_) => Some(("expires", format!("`{expires}` is not a date: write YYYY-MM-DD"))),
            Ok(date) if date < today => Some((
                "expires",
                format!(
                    "the known splat `{pattern}` expired on {date}: remove it, or look at {link} \
                     and set a new date"
                ),
            )),
            Ok(_) => None,
        }
    }
}

/// Whole-text match; `*` takes as little as the rest allows.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A star is anything; all else is meant as written.
    #[test]
    fn patterns_match_whole_titles() {
        for (pattern, title, hit) in [
            ("WARNING in f", "WARNING in f", true),
            ("WARNING in f", "WARNING in ff", false),
            ("WARNING in f*", "WARNING in ff", true),
            ("* in f", "possible deadlock in f", true),
            ("possible * in *_lock", "possible deadlock in a_lock", true),
            ("possible * in *_lock", "possible deadlock in a_lock_b", false),
            ("KASAN: * in *", "KASAN: use-after-free Read", false),
            ("aa*aa", "aaa", false),
            ("WARNING in .", "WARNING in f", false),
        ] {
            assert_eq!(glob(pattern, title), hit, "{pattern} {title}");
        }
    }

    /// The last day still counts, the next one does not.
    #[test]
    fn an_entry_holds_through_its_last_day() {
        let entry = KnownSplat {
            pattern: "WARNING in f".into(),
            reason: "fixed upstream".into(),
            link: "https://lore.kernel.org/r/x".into(),
            expires: "2026-03-01".into(),
        };
        assert_eq!(entry.complaint(jiff::civil::date(2026, 3, 1)), None);
        let (at, why) = entry.complaint(jiff::civil::date(2026, 3, 2)).unwrap();
        assert_eq!(at, "expires");
        assert!(why.contains("expired on 2026-03-01"), "{why}");
    }
}
