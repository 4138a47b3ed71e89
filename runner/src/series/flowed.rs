// SPDX-License-Identifier: MIT OR Apache-2.0
//! format=flowed (RFC 3676) undone, as far as it was done.
//!
//! A mailer that says `format=flowed` has put a blank before lines that begin
//! with one, and may have broken long lines after a blank. Whether it did the
//! second to a patch, only the patch can tell: the right reading is the one in
//! which every hunk has as many lines as its header says.

use super::diff;

/// The text before its mailer made it flow.
pub(super) fn undone(text: &[u8], delsp: bool) -> Vec<u8> {
    let unstuffed = unstuffed(text);
    let joined = joined(text, delsp);
    for reading in [&unstuffed, &text.to_vec(), &joined] {
        if diff::has_hunks(reading) && diff::is_whole(reading) {
            return reading.clone();
        }
    }
    text.to_vec()
}

fn unstuffed(text: &[u8]) -> Vec<u8> {
    text.split_inclusive(|&byte| byte == b'\n')
        .flat_map(|line| line.strip_prefix(b" ").unwrap_or(line).iter().copied())
        .collect()
}

fn joined(text: &[u8], delsp: bool) -> Vec<u8> {
    let mut whole = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        let line = line.strip_prefix(b" ").unwrap_or(line);
        let bare = line.strip_suffix(b"\n").unwrap_or(line);
        // A signature's mark ends in a blank and does not flow.
        if bare.ends_with(b" ") && bare != b"-- " {
            whole.extend_from_slice(if delsp { &bare[..bare.len() - 1] } else { bare });
        } else {
            whole.extend_from_slice(line);
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "Text.\n---\ndiff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n one \
                         and more\n-two\n+three\n \tfour\n-- \n2.1\n";

    /// A patch whose long lines were broken is whole again.
    #[test]
    fn a_broken_line_is_joined() {
        let sent = "Text.\n---\ndiff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n  one \n\
                    and more\n-two\n+three\n  \tfour\n-- \n2.1\n";
        assert_eq!(String::from_utf8(undone(sent.as_bytes(), false)).unwrap(), PATCH);
    }

    /// Where a mailer only says that it flows and did nothing, nothing is undone.
    #[test]
    fn what_does_not_flow_stays() {
        assert_eq!(undone(PATCH.as_bytes(), false), PATCH.as_bytes());
    }

    /// Blanks put before context lines go, and a blank at a line's end stays.
    #[test]
    fn stuffing_goes() {
        let sent = PATCH.replace("\n one", "\n  one").replace("\n \t", "\n  \t");
        assert_eq!(undone(sent.as_bytes(), false), PATCH.as_bytes());
    }
}
