// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plain text in columns.

use crate::judge::compare::words::plain;

/// Wraps text to `width` columns: `first` before the first line, `rest` before
/// the others. What does not fit on a line of its own is broken.
pub(super) fn wrap(text: &str, width: usize, first: &str, rest: &str) -> String {
    let text = plain(text, usize::MAX);
    let mut out = String::new();
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split_whitespace() {
        let mut word = word;
        loop {
            let gap = usize::from(!empty);
            if line.len() + gap + word.len() <= width {
                if !empty {
                    line.push(' ');
                }
                line.push_str(word);
                empty = false;
                break;
            }
            let room = width.saturating_sub(rest.len()).max(1);
            let left = width.saturating_sub(line.len() + gap);
            // Too long for any line, and most of this one is free.
            if empty || (word.len() > room && 2 * left > room) {
                // ASCII only, so every byte is a place to break.
                let left = left.max(usize::from(empty));
                let (head, tail) = word.split_at(break_at(word, left.min(word.len())));
                if !head.is_empty() {
                    if !empty {
                        line.push(' ');
                    }
                    line.push_str(head);
                }
                word = tail;
            }
            out.push_str(line.trim_end());
            out.push('\n');
            line = rest.to_owned();
            empty = true;
            if word.is_empty() {
                break;
            }
        }
    }
    if !empty {
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Where to break a word that is too long: after a separator in the second half of
/// what fits, else where it must be.
fn break_at(word: &str, most: usize) -> usize {
    let fits = word.get(..most).unwrap_or_default();
    match fits.rfind(['/', ':', ',', ';', '-']) {
        Some(at) if at + 1 > most / 2 => at + 1,
        Some(_) | None => most,
    }
}

/// A table: columns as wide as their cells, `indent` in front, the last column
/// wrapped, none beyond `width`. A column of which the name begins with `>` is
/// flush right. Where the last column would have no room, the first is cut, and
/// only then others. Columns without any name have no heading line.
pub(super) fn table(heads: &[&str], rows: &[Vec<String>], indent: &str, width: usize) -> String {
    // The last column gets this much, as long as the first keeps that much …
    const LAST: usize = 34;
    const FIRST: usize = 16;
    // … and this much, whatever that takes.
    const LEAST: usize = 16;
    let Some(last) = heads.len().checked_sub(1) else { return String::new() };
    let clean: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| plain(cell, usize::MAX)).collect()).collect();
    let right: Vec<bool> = heads.iter().map(|head| head.starts_with('>')).collect();
    let names: Vec<String> = heads.iter().map(|head| head.trim_start_matches('>').into()).collect();
    let cell = |row: &[String], at: usize| row.get(at).cloned().unwrap_or_default();
    let mut widths: Vec<usize> = (0..heads.len())
        .map(|at| {
            let longest = clean.iter().map(|row| cell(row, at).len()).max().unwrap_or(0);
            longest.max(names.get(at).map_or(0, String::len))
        })
        .collect();
    let gaps = indent.len() + 2 * last;
    let longest = widths.get(last).copied().unwrap_or(0);
    let short = |widths: &[usize], wanted: usize| {
        gaps + widths.iter().take(last).sum::<usize>() + longest.min(wanted) > width
    };
    while last > 0 && short(&widths, LAST) {
        match widths.first_mut() {
            Some(first) if *first > FIRST => *first -= 1,
            Some(_) | None => break,
        }
    }
    while short(&widths, LEAST) {
        match widths.iter_mut().take(last).max_by_key(|w| **w) {
            Some(widest) if *widest > 4 => *widest -= 1,
            Some(_) | None => break,
        }
    }
    let front: usize = gaps + widths.iter().take(last).sum::<usize>();
    let mut out = String::new();
    let nameless = names.iter().all(String::is_empty);
    for row in std::iter::once(&names).filter(|_| !nameless).chain(&clean) {
        let mut line = indent.to_owned();
        for at in 0..last {
            let room = widths.get(at).copied().unwrap_or(0);
            let text = plain(&cell(row, at), room);
            let fill = " ".repeat(room.saturating_sub(text.len()));
            if right.get(at).copied().unwrap_or(false) {
                line.push_str(&fill);
                line.push_str(&text);
            } else {
                line.push_str(&text);
                line.push_str(&fill);
            }
            line.push_str("  ");
        }
        let text = cell(row, last);
        if text.is_empty() {
            out.push_str(line.trim_end());
            out.push('\n');
        } else {
            out.push_str(&wrap(&text, width, &line, &" ".repeat(front)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No line is longer than asked, and no word is lost.
    #[test]
    fn lines_keep_their_width() {
        let text = format!("one two {} three", "x".repeat(100));
        let wrapped = wrap(&text, 30, "- ", "  ");
        assert!(wrapped.lines().all(|line| line.len() <= 30), "{wrapped}");
        let back: String = wrapped.lines().map(|l| l.trim_start_matches("- ").trim()).collect();
        assert_eq!(back.matches('x').count(), 100);
        assert!(wrapped.ends_with("three\n"));
        assert_eq!(wrap("", 30, "- ", "  "), "");
    }

    /// A table with hostile cells keeps its width and its lines.
    #[test]
    fn tables_keep_their_width() {
        let long = "candidate-with-a-name-that-goes-on-and-on-and-on-and-on-and-on".to_owned();
        let rows = vec![
            vec![long.clone(), "1".into(), "a\nb ".repeat(40)],
            vec!["b".into(), "20,000".into(), String::new()],
        ];
        let text = table(&["name", ">calls", "what"], &rows, "  ", 60);
        assert!(text.lines().all(|line| line.len() <= 60), "{text}");
        assert!(text.contains("20,000"));
        assert!(text.contains("...       1  a b"), "{text}");
    }
}
