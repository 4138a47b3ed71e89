// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a program prints, of any length, in bounded memory: its lines one by one for
//! those who read them, and its beginning and end as evidence.

use std::collections::VecDeque;

/// Bytes kept of the beginning and of the end.
const KEPT: usize = 32 << 10;
/// Bytes of a line that are read; what is behind them is not looked at.
const LONGEST_LINE: usize = 4 << 10;

/// Beginning and end of all that was printed.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    cut: u64,
}

impl Evidence {
    pub(super) fn add(&mut self, mut bytes: &[u8]) {
        let room = KEPT.saturating_sub(self.head.len()).min(bytes.len());
        let (head, rest) = bytes.split_at(room);
        self.head.extend_from_slice(head);
        bytes = rest;
        if let Some(skip) = bytes.len().checked_sub(KEPT).filter(|skip| *skip > 0) {
            self.cut += (skip + self.tail.len()) as u64;
            self.tail.clear();
            bytes = &bytes[skip..];
        }
        let over = (self.tail.len() + bytes.len()).saturating_sub(KEPT);
        self.cut += over as u64;
        self.tail.drain(..over);
        self.tail.extend(bytes);
    }

    /// The text, and how many bytes of its middle are left out.
    pub(super) fn finish(mut self) -> (String, u64) {
        let mut text = std::mem::take(&mut self.head);
        if self.cut > 0 {
            let mark = format!("\n[... {} bytes left out ...]\n", self.cut);
            text.extend_from_slice(mark.as_bytes());
        }
        text.extend(self.tail);
        (String::from_utf8_lossy(&text).into_owned(), self.cut)
    }
}

/// One stream, cut into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Hands out each line that these bytes complete.
    pub(super) fn add(&mut self, bytes: &[u8], mut line: impl FnMut(&str)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            let room = LONGEST_LINE.saturating_sub(self.partial.len()).min(text.len());
            self.partial.extend_from_slice(&text[..room]);
            if ended {
                self.end(&mut line);
            }
        }
    }

    /// Hands out what is left without an end.
    pub(super) fn finish(mut self, mut line: impl FnMut(&str)) {
        if !self.partial.is_empty() {
            self.end(&mut line);
        }
    }

    fn end(&mut self, line: &mut impl FnMut(&str)) {
        let text = String::from_utf8_lossy(&self.partial);
        line(text.trim_end_matches('\r'));
        drop(text);
        self.partial.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What fits is kept as it is; of more, both ends and the number of bytes between.
    #[test]
    fn both_ends_are_kept() {
        let mut few = Evidence::default();
        few.add(b"one\n");
        few.add(b"two\n");
        assert_eq!(few.finish(), ("one\ntwo\n".to_owned(), 0));
        for chunk in [1000, 100_000, 7_000_000] {
            let all: Vec<u8> = (0..7_000_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
            let mut evidence = Evidence::default();
            all.chunks(chunk).for_each(|part| evidence.add(part));
            let (text, cut) = evidence.finish();
            assert_eq!(cut, 7_000_000 - 2 * KEPT as u64);
            let (head, tail) =
                text.split_once(&format!("\n[... {cut} bytes left out ...]\n")).unwrap();
            assert_eq!(head.as_bytes(), &all[..KEPT]);
            assert_eq!(tail.as_bytes(), &all[7_000_000 - KEPT..]);
        }
    }

    /// Lines come out whole however they arrive; a long one is cut, not dropped, and
    /// bytes that are no text do no harm.
    #[test]
    fn lines_come_out_whole() {
        let mut got = Vec::new();
        let mut lines = Lines::default();
        for part in ["ok", " 1 a\nok 2", " b\r\n\nla", "st"] {
            lines.add(part.as_bytes(), |line| got.push(line.to_owned()));
        }
        lines.add(&[0xff, b'\n'], |line| got.push(line.to_owned()));
        lines.add(&vec![b'x'; 1 << 20], |line| got.push(line.to_owned()));
        lines.finish(|line| got.push(line.to_owned()));
        assert_eq!(got[..4], ["ok 1 a", "ok 2 b", "", "last\u{fffd}"]);
        assert_eq!(got[4].len(), LONGEST_LINE);
    }
}
