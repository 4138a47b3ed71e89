// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report for a terminal or a mail: one page of at most [`LINES`] lines, and behind
//! it, if asked for, the tables.

use super::full::{self, Table};
use super::matrix::Matrix;
use super::page::{Item, Page, SQUEEZES};
use super::words::View;
use super::wrap::{table, wrap};
use super::{LINES, Report, WIDTH};
use crate::judge::compare::words::plain;

pub(super) fn render(report: &Report, full: bool) -> String {
    let view = View::new(report);
    let (_, mut text) = fitted(&view);
    if full {
        for part in full::tables(&view) {
            section(&mut text, &part);
        }
    }
    text
}

/// The page as it fits, in pieces and as text.
pub(super) fn fitted<'a>(view: &View<'a>) -> (Page<'a>, String) {
    let [first, rest @ ..] = &SQUEEZES;
    let mut page = Page::new(view, first);
    let mut text = page_text(&page);
    for squeeze in rest {
        if text.lines().count() <= LINES {
            break;
        }
        page = Page::new(view, squeeze);
        text = page_text(&page);
    }
    (page, cut(text))
}

/// The last resort: the end of the page says where the rest is, so the middle goes.
fn cut(text: String) -> String {
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() <= LINES {
        return text;
    }
    const END: usize = 3;
    let begin = LINES - END - 1;
    let gone = lines.len() - LINES + 1;
    let mut all: Vec<String> = lines.iter().take(begin).map(|line| (*line).to_owned()).collect();
    all.push(format!("... {gone} lines left out, see --full ..."));
    all.extend(lines.iter().skip(lines.len() - END).map(|line| (*line).to_owned()));
    all.join("\n") + "\n"
}

fn page_text(page: &Page<'_>) -> String {
    let mut out = String::new();
    if let Some(interim) = &page.interim {
        out.push_str(&wrap(interim, WIDTH, "", ""));
    }
    out.push_str(&wrap(&page.title, WIDTH, "", "  "));
    out.push_str(&wrap(&page.head.join(" "), WIDTH, "", ""));
    out.push('\n');
    if let Some(question) = &page.question {
        out.push_str(&wrap(question, WIDTH, "Q: ", "   "));
    }
    out.push_str(&wrap(&page.answer, WIDTH, "A: ", "   "));
    out.push('\n');
    items(&mut out, &page.asked, "");
    if !page.matrix.lines.is_empty() {
        out.push_str(&matrix(&page.matrix));
        for line in &page.legend {
            out.push_str(&wrap(line, WIDTH, "  ", "  "));
        }
    }
    out.push('\n');
    for part in &page.parts {
        match part.items.as_slice() {
            // One thing to say stands behind its title.
            [one] if one.label.is_empty() => {
                out.push_str(&wrap(&one.text, WIDTH, &format!("{}  ", part.title), "  "));
            }
            all => {
                let note = &part.note;
                let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
                out.push_str(&wrap(&format!("{}{note}", part.title), WIDTH, "", "  "));
                items(&mut out, all, "  ");
            }
        }
    }
    out
}

/// Items with their labels in a column, as far as labels are short.
fn items(out: &mut String, items: &[Item], indent: &str) {
    const WIDEST: usize = 18;
    let labels = items.iter().map(|item| item.label.len()).filter(|len| *len <= WIDEST);
    let column = labels.max().unwrap_or(0);
    for Item { label, text } in items {
        if label.is_empty() {
            out.push_str(&wrap(text, WIDTH, indent, &format!("{indent}  ")));
        } else if label.len() <= WIDEST {
            let first = format!("{indent}{label:column$}  ");
            let rest = " ".repeat(first.len());
            out.push_str(&wrap(text, WIDTH, &first, &rest));
        } else {
            let text = format!("{label}: {text}");
            out.push_str(&wrap(&text, WIDTH, indent, &format!("{indent}  ")));
        }
    }
}

/// Columns of the matrix in print: name, cells, flush left.
fn columns(matrix: &Matrix<'_>) -> (Vec<Vec<String>>, Vec<Vec<String>>) {
    let head = |first: &str, second: &str| vec![first.to_owned(), second.to_owned()];
    let mut front = Vec::new();
    if matrix.gone {
        let mut column = head("splat", "gone");
        column.extend(matrix.lines.iter().map(|line| line.gone.to_owned()));
        front.push(column);
    }
    let mut column = head("new", "splats");
    column.extend(matrix.lines.iter().map(|line| line.new.clone()));
    front.push(column);
    let claims =
        matrix.columns.iter().enumerate().map(|(at, name)| {
            let mut column = head("", &plain(name, CLAIM));
            column.extend(matrix.lines.iter().map(|line| {
                line.cells.get(at).map(super::matrix::Cell::words).unwrap_or_default()
            }));
            column
        });
    (front, claims.collect())
}

/// The widest name of a claim and of a candidate.
const CLAIM: usize = 12;
const CANDIDATE: usize = 22;

fn matrix(matrix: &Matrix<'_>) -> String {
    let (front, claims) = columns(matrix);
    let mut names = vec![String::new(), String::new()];
    let mut last = "";
    for line in &matrix.lines {
        names.push(if line.candidate == last {
            String::new()
        } else {
            plain(line.candidate, CANDIDATE)
        });
        last = line.candidate;
    }
    let mut targets = vec![String::new(), String::new()];
    targets.extend(matrix.lines.iter().map(|line| plain(&line.target, 16)));
    let wrong = matrix.wrong.then(|| {
        let mut column = vec![String::new(), "wrong".to_owned()];
        column.extend(matrix.lines.iter().map(|line| line.wrong.clone()));
        column
    });
    let widest = |column: &[String]| column.iter().map(String::len).max().unwrap_or(0);
    let all = [&names, &targets].into_iter().chain(&front).chain(&claims).chain(&wrong);
    let tight = all.map(|column| widest(column) + 2).sum::<usize>() > WIDTH + 2;
    let gap = if tight { 1 } else { 2 };
    let width = |column: &[String]| widest(column) + gap;
    let left = [names, targets];
    let fixed: usize = left.iter().map(|column| width(column)).sum();
    // As many claims next to each other as the line holds; the rest below.
    let mut blocks: Vec<Vec<Vec<String>>> = Vec::new();
    let mut block = front;
    let mut used: usize = fixed + block.iter().map(|column| width(column)).sum::<usize>();
    for column in claims.into_iter().chain(wrong) {
        if used + width(&column) - gap > WIDTH && !block.is_empty() {
            blocks.push(std::mem::take(&mut block));
            used = fixed;
        }
        used += width(&column);
        block.push(column);
    }
    blocks.push(block);
    let mut out = String::new();
    for (number, block) in blocks.iter().enumerate() {
        for at in 0..matrix.lines.len() + 2 {
            let heading = at < 2;
            if at == 0 && block.iter().all(|column| column.first().is_none_or(String::is_empty)) {
                continue;
            }
            let ended = at.checked_sub(2).and_then(|n| matrix.lines.get(n)?.ended.as_deref());
            let mut line = String::new();
            let cell = |column: &[String]| {
                let text = column.get(at).cloned().unwrap_or_default();
                format!("{text:0$}", width(column))
            };
            left.iter().for_each(|column| line.push_str(&cell(column)));
            match ended {
                Some(_) if number > 0 => continue,
                Some(ended) if !heading => line.push_str(ended),
                Some(_) | None => block.iter().for_each(|column| line.push_str(&cell(column))),
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
    out
}

/// A table of the appendix.
fn section(out: &mut String, part: &Table) {
    out.push('\n');
    out.push_str(&wrap(&part.title, WIDTH, "== ", "   "));
    if !part.note.is_empty() {
        out.push_str(&wrap(&part.note, WIDTH, "  ", "  "));
    }
    if part.heads.is_empty() {
        for row in &part.rows {
            out.push_str(&wrap(&row.join(": "), WIDTH, "  - ", "    "));
        }
    } else {
        out.push_str(&table(&part.heads, &part.rows, "  ", WIDTH));
    }
}
