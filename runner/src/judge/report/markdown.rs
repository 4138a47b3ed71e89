// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page for a merge request, and the tables behind it.

use super::Report;
use super::full::{self, Table};
use super::matrix::{Cell, Matrix};
use super::page::{Item, Page};
use super::text::fitted;
use super::words::View;
use crate::judge::compare::words::plain;

/// The longest piece of foreign text that is shown.
const MOST: usize = 2_000;

pub(super) fn render(report: &Report, full: bool) -> String {
    let view = View::new(report);
    let (page, _) = fitted(&view);
    let mut out = page_text(&page);
    if full {
        for table in full::tables(&view) {
            section(&mut out, &table);
        }
    }
    out
}

fn page_text(page: &Page<'_>) -> String {
    let mut out = String::new();
    if let Some(interim) = &page.interim {
        out.push_str(&format!("**{}**\n\n", escape(interim)));
    }
    out.push_str(&format!("# {}\n\n", escape(&page.title)));
    if let Some(question) = &page.question {
        out.push_str(&format!("> {}\n\n", escape(question)));
    }
    out.push_str(&format!("**{}**\n\n", escape(&page.answer)));
    items(&mut out, &page.asked);
    if !page.matrix.lines.is_empty() {
        matrix(&mut out, &page.matrix);
        for line in &page.legend {
            out.push_str(&format!("{}  \n", escape(line)));
        }
        out.push('\n');
    }
    for part in &page.parts {
        let note = &part.note;
        let note = if note.is_empty() { String::new() } else { format!(" ({})", escape(note)) };
        out.push_str(&format!("**{}**{note}\n\n", capital(part.title)));
        items(&mut out, &part.items);
    }
    out.push_str(&format!("{}\n", escape(&page.head.join(" "))));
    out
}

/// `Reading it` of `READING IT`.
pub(super) fn capital(title: &str) -> String {
    let mut lower = title.to_lowercase();
    if let Some(first) = lower.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    lower
}

fn items(out: &mut String, items: &[Item]) {
    for Item { label, text } in items {
        let label =
            if label.is_empty() { String::new() } else { format!("**{}**: ", escape(label)) };
        out.push_str(&format!("- {label}{}\n", escape(text)));
    }
    if !items.is_empty() {
        out.push('\n');
    }
}

fn matrix(out: &mut String, matrix: &Matrix<'_>) {
    let mut heads = vec!["candidate".to_owned(), "on".to_owned()];
    if matrix.gone {
        heads.push("splat gone".into());
    }
    heads.push("new splats".into());
    heads.extend(matrix.columns.iter().map(|name| escape(name)));
    if matrix.wrong {
        heads.push("wrong answers".into());
    }
    let mut rows = Vec::new();
    let mut last = "";
    for line in &matrix.lines {
        let name = if line.candidate == last { String::new() } else { escape(line.candidate) };
        last = line.candidate;
        let mut row = vec![name, escape(&line.target)];
        if let Some(ended) = &line.ended {
            row.push(format!("*{}*", escape(ended)));
            row.resize(heads.len(), String::new());
            rows.push(row);
            continue;
        }
        if matrix.gone {
            row.push(line.gone.to_owned());
        }
        row.push(line.new.clone());
        row.extend(line.cells.iter().map(|cell| {
            let Cell { mark, .. } = cell;
            let text = escape(&cell.words());
            if matches!(*mark, "-" | "+" | "?") { format!("**{text}**") } else { text }
        }));
        if matrix.wrong {
            row.push(line.wrong.clone());
        }
        rows.push(row);
    }
    rows_of(out, &heads, &rows);
}

fn rows_of(out: &mut String, heads: &[String], rows: &[Vec<String>]) {
    out.push_str(&format!("| {} |\n", heads.join(" | ")));
    let rule: Vec<&str> = heads.iter().map(|_| "---").collect();
    out.push_str(&format!("| {} |\n", rule.join(" | ")));
    for row in rows {
        out.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    out.push('\n');
}

fn section(out: &mut String, table: &Table) {
    out.push_str(&format!("\n## {}\n\n", escape(&table.title)));
    if !table.note.is_empty() {
        out.push_str(&format!("{}\n\n", escape(&table.note)));
    }
    if table.heads.is_empty() {
        for row in &table.rows {
            out.push_str(&format!("- {}\n", escape(&row.join(": "))));
        }
        return;
    }
    let heads: Vec<String> =
        table.heads.iter().map(|head| head.trim_start_matches('>').to_owned()).collect();
    let rows: Vec<Vec<String>> =
        table.rows.iter().map(|row| row.iter().map(|cell| escape(cell)).collect()).collect();
    rows_of(out, &heads, &rows);
}

/// Foreign text that cannot become markup, on one line.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in plain(text, MOST).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' | '@' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    // A line that begins like a list.
    if out.starts_with(['+', '-', '=']) { format!("\\{out}") } else { out }
}
