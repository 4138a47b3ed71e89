// SPDX-License-Identifier: MIT OR Apache-2.0
//! A mail's text becomes a commit message and a patch, as `git mailinfo
//! --scissors` cuts it.
//!
//! It is done here because a process per mail would take longer than all the
//! rest; a test holds it against git's own.

use super::mail::{Mail, author, squeezed};

/// A mail, cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) date: String,
    /// Without brackets.
    pub(crate) subject: String,
    /// The commit message below the subject.
    pub(crate) message: Vec<u8>,
    /// From `---` or the first line of the diff to the end.
    pub(crate) patch: Vec<u8>,
}

/// Cuts a mail. What stands in its text (`From:`, `Subject:`, `Date:`) is
/// stronger than its headers.
pub(crate) fn cut(mail: &Mail) -> Cut {
    let lines: Vec<&[u8]> = mail.body.split_inclusive(|&byte| byte == b'\n').collect();
    let end = lines.iter().position(|line| begins_patch(line)).unwrap_or(lines.len());
    // What stands above scissors was for the readers of the list.
    let begin = lines[..end].iter().rposition(|line| is_scissors(line)).map_or(0, |at| at + 1);
    let mut cut = Cut {
        name: mail.from_name.clone(),
        email: mail.from_email.clone(),
        date: mail.date.clone(),
        subject: mail.subject.text.clone(),
        message: Vec::new(),
        patch: lines[end..].concat(),
    };
    let mut rest = begin;
    while rest < end && is_blank(lines[rest]) {
        rest += 1;
    }
    let first = rest;
    while rest < end {
        let mut header = String::from_utf8_lossy(lines[rest]).trim_end().to_owned();
        let Some((name, _)) = header.split_once(':') else { break };
        let name = name.to_lowercase();
        if !["from", "subject", "date"].contains(&name.as_str()) {
            break;
        }
        rest += 1;
        while rest < end && lines[rest].starts_with(b" ") && !is_blank(lines[rest]) {
            header.push(' ');
            header.push_str(String::from_utf8_lossy(lines[rest]).trim());
            rest += 1;
        }
        let value = squeezed(header.split_once(':').map_or("", |(_, value)| value));
        match name.as_str() {
            "from" => (cut.name, cut.email) = author(&value),
            "date" => cut.date = value,
            _ => cut.subject = super::subject::Subject::parse(&value).text,
        }
    }
    if rest > first {
        while rest < end && is_blank(lines[rest]) {
            rest += 1;
        }
    }
    cut.message = lines[rest..end].concat();
    cut
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// git's `patchbreak()`.
fn begins_patch(line: &[u8]) -> bool {
    if line.starts_with(b"diff -") || line.starts_with(b"Index: ") {
        return true;
    }
    let Some(rest) = line.strip_prefix(b"---") else { return false };
    let named = rest.len() > 1 && rest[0] == b' ' && !rest[1].is_ascii_whitespace();
    named || is_blank(rest)
}

/// git's `is_scissors_line()`: `-- >8 --` and relatives. The marks take more
/// than a third of what is seen, and more than half of them is no gap.
fn is_scissors(line: &[u8]) -> bool {
    let (mut scissors, mut gap, mut perforation) = (0, 0, 0);
    let (mut first, mut last) = (None, 0);
    let mut inside = false;
    let mut at = 0;
    while at < line.len() {
        let byte = line[at];
        if byte.is_ascii_whitespace() {
            if inside {
                perforation += 1;
                gap += 1;
            }
            at += 1;
            continue;
        }
        last = at;
        first.get_or_insert(at);
        if byte == b'-' {
            inside = true;
            perforation += 1;
        } else if [b">8", b"8<", b">%", b"%<"].iter().any(|mark| line[at..].starts_with(*mark)) {
            inside = true;
            perforation += 2;
            scissors += 2;
            at += 1;
        } else {
            inside = false;
        }
        at += 1;
    }
    let Some(first) = first else { return false };
    let visible = last - first + 1;
    scissors > 0 && visible >= 8 && visible < perforation * 3 && gap * 2 < perforation
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::base::command::{Cancel, Command};
    use crate::series::mail;

    /// Each fixture's patches are cut as `git mailinfo --scissors` cuts them.
    #[test]
    fn cut_as_git_cuts() {
        let threads = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/threads");
        let mut compared = 0;
        for entry in std::fs::read_dir(threads).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|end| end != "mbox") {
                continue;
            }
            let raw = mail::split(&std::fs::read(&path).unwrap(), "fixture").unwrap();
            for bytes in raw {
                let Some(mail) = mail::parse(&[bytes], true).pop() else { continue };
                if !mail.has_diff {
                    continue;
                }
                let dir = tempfile::tempdir().unwrap();
                let mut text = format!("From: A <a@b>\nSubject: {}\n", mail.subject.text);
                text.push_str("Content-Type: text/plain; charset=UTF-8\n");
                text.push_str("Content-Transfer-Encoding: 8bit\n\n");
                let mut text = text.into_bytes();
                text.extend_from_slice(&mail.body);
                let told = Command::new("git")
                    .cwd(dir.path())
                    .args(["mailinfo", "--encoding=UTF-8", "--scissors", "m", "p"])
                    .stdin(text)
                    .run(&Cancel::new())
                    .unwrap();
                let cut = cut(&mail);
                let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
                let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
                assert_eq!(lossy(&cut.message), lossy(&read("m")), "{}", path.display());
                assert_eq!(lossy(&cut.patch), lossy(&read("p")), "{}", path.display());
                let subject = format!("Subject: {}", cut.subject);
                assert!(told.text().lines().any(|line| line == subject), "{subject}");
                compared += 1;
            }
        }
        assert!(compared > 12, "{compared}");
    }

    /// Scissors are told from other lines of dashes.
    #[test]
    fn scissors() {
        for line in ["-- >8 --\n", "--- 8< ---\n", "- - - %< - cut here - >% - - -\n"] {
            assert!(is_scissors(line.as_bytes()), "{line}");
        }
        for line in ["--------\n", "a >8 b\n", ">8\n", "-- \n"] {
            assert!(!is_scissors(line.as_bytes()), "{line}");
        }
    }
}
