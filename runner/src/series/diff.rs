// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a diff says of itself: files, blobs before it, whether its hunks are whole.

use std::sync::LazyLock;

use regex::Regex;

use super::mail::built;

static HUNK: LazyLock<Regex> = LazyLock::new(|| built(r"^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@"));
static GIT: LazyLock<Regex> = LazyLock::new(|| built(r"^diff --git (?:a/)?(.+?) (?:b/)?(\S+)$"));
static INDEX: LazyLock<Regex> =
    LazyLock::new(|| built(r"^index ([0-9a-f]{4,64})\.\.([0-9a-f]{4,64})"));

/// What a diff touches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    /// Before and after a rename; `None` is no file.
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
    /// The blob that is expected, abbreviated, and the one it becomes.
    pub(crate) blob: Option<(String, String)>,
}

/// The files of a diff, in order.
pub(crate) fn touched(diff: &[u8]) -> Vec<Touched> {
    let text = String::from_utf8_lossy(diff);
    let mut all: Vec<Touched> = Vec::new();
    let mut git = false;
    let mut left = Left::default();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if left.take(line) {
            continue;
        }
        if let Some(found) = GIT.captures(line) {
            git = true;
            all.push(Touched {
                before: Some(found[1].to_owned()),
                after: Some(found[2].to_owned()),
                blob: None,
            });
        } else if let Some(name) = line.strip_prefix("--- ")
            && lines.peek().is_some_and(|next| next.starts_with("+++ "))
        {
            let after = lines.next().and_then(|next| next.strip_prefix("+++ ")).unwrap_or("");
            if !git {
                all.push(Touched::default());
            }
            if let Some(last) = all.last_mut() {
                last.before = path(name);
                last.after = path(after);
            }
            git = false;
        } else if let (Some(found), Some(last)) = (INDEX.captures(line), all.last_mut()) {
            last.blob = Some((found[1].to_owned(), found[2].to_owned()));
        } else if let Some(last) = all.last_mut() {
            if line.starts_with("new file mode ") {
                last.before = None;
            } else if line.starts_with("deleted file mode ") {
                last.after = None;
            } else if let Some(name) =
                line.strip_prefix("rename from ").or_else(|| line.strip_prefix("copy from "))
            {
                last.before = Some(name.to_owned());
            } else if let Some(name) =
                line.strip_prefix("rename to ").or_else(|| line.strip_prefix("copy to "))
            {
                last.after = Some(name.to_owned());
            }
        }
        left = left.or_begin(line);
    }
    all
}

/// `a/mm/x.c\t2020-…` → `mm/x.c`.
fn path(name: &str) -> Option<String> {
    let name = name.split('\t').next().unwrap_or(name).trim_end();
    if name == "/dev/null" {
        return None;
    }
    let name = name.trim_matches('"');
    let below = if name.starts_with('/') { Some(name) } else { name.split_once('/').map(|p| p.1) };
    Some(below.unwrap_or(name).to_owned())
}

/// Lines of a hunk that are still to come.
#[derive(Clone, Copy, Default)]
struct Left {
    before: usize,
    after: usize,
}

impl Left {
    fn or_begin(self, line: &str) -> Left {
        let Some(found) = HUNK.captures(line).filter(|_| self.before + self.after == 0) else {
            return self;
        };
        let count = |n: usize| found.get(n).map_or(1, |m| m.as_str().parse().unwrap_or(0));
        Left { before: count(1), after: count(2) }
    }

    /// Whether the line is one of the hunk.
    fn take(&mut self, line: &str) -> bool {
        if self.before + self.after == 0 {
            return false;
        }
        match line.as_bytes().first() {
            Some(b'-') => self.before = self.before.saturating_sub(1),
            Some(b'+') => self.after = self.after.saturating_sub(1),
            // Mailers cut the blank of an empty line.
            Some(b' ' | b'\t') | None => {
                self.before = self.before.saturating_sub(1);
                self.after = self.after.saturating_sub(1);
            }
            Some(b'\\') => {}
            _ => {
                *self = Left::default();
                return false;
            }
        }
        true
    }
}

/// Whether there are hunks.
pub(crate) fn has_hunks(text: &[u8]) -> bool {
    String::from_utf8_lossy(text).lines().any(|line| HUNK.is_match(line))
}

/// Whether each hunk has as many lines as its header says.
pub(crate) fn is_whole(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let mut left = Left::default();
    for line in text.lines() {
        let open = left.before + left.after > 0;
        let strict = matches!(line.as_bytes().first(), None | Some(b' ' | b'+' | b'-' | b'\\'));
        if open && !(strict && left.take(line)) {
            return false;
        }
        left = left.or_begin(line);
    }
    left.before + left.after == 0
}

/// Whether the text ends before its last hunk does.
pub(crate) fn ends_within(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let mut left = Left::default();
    for line in text.lines() {
        left.take(line);
        left = left.or_begin(line);
    }
    left.before + left.after > 0
}

/// A path that leaves the tree, if there is one.
pub(crate) fn escape(diff: &[u8]) -> Option<String> {
    touched(diff)
        .into_iter()
        .flat_map(|file| [file.before, file.after])
        .flatten()
        .find(|path| path.starts_with('/') || path.split('/').any(|part| part == ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files, renames, new files and blobs are read from a diff.
    #[test]
    fn files_of_a_diff() {
        let diff = "diff --git a/mm/a.c b/mm/a.c\nindex 1234567..89abcde 100644\n--- a/mm/a.c\n\
                    +++ b/mm/a.c\n@@ -1 +1 @@\n--- a/fake\n+++ b/fake\n\
                    diff --git a/n b/n\nnew file mode 100644\nindex 0000000..1111111\n\
                    --- /dev/null\n+++ b/n\n@@ -0,0 +1 @@\n+x\n\
                    diff --git a/o b/p\nsimilarity index 100%\nrename from o\nrename to p\n";
        let files = touched(diff.as_bytes());
        assert_eq!(files.len(), 3, "{files:?}");
        assert_eq!(files[0].before.as_deref(), Some("mm/a.c"));
        assert_eq!(files[0].blob.as_ref().unwrap().0, "1234567");
        assert_eq!((files[1].before.as_deref(), files[1].after.as_deref()), (None, Some("n")));
        assert_eq!((files[2].before.as_deref(), files[2].after.as_deref()), (Some("o"), Some("p")));
        assert!(is_whole(diff.as_bytes()) && !ends_within(diff.as_bytes()));
    }

    /// A patch that leaves its folder is noticed, with and without git's header.
    #[test]
    fn paths_that_leave() {
        for path in ["../x", "mm/../../x", "/etc/x"] {
            let diff = format!("--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-a\n+b\n");
            let diff = diff.replace("a//", "/").replace("b//", "/");
            assert!(escape(diff.as_bytes()).is_some(), "{path}");
        }
        assert_eq!(escape(b"--- a/mm/x..y\n+++ b/mm/x..y\n@@ -1 +1 @@\n-a\n+b\n"), None);
    }

    /// A diff that was cut off is noticed.
    #[test]
    fn a_cut_diff() {
        assert!(ends_within(b"--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n a\n-b\n"));
    }
}
