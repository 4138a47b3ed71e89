// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report for a browser: one file that needs no other, no script and no network. It
//! lies in the run, so that its links lead to the evidence.
//!
//! First the page, with an interval in each cell of the matrix; then the pictures; then
//! the tables, folded.

mod charts;
mod svg;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Report;
use super::full::{self, Table};
use super::markdown::capital;
use super::matrix::{Cell, Matrix};
use super::page::{Page, SQUEEZES};
use super::words::{View, interval, mark};
use crate::judge::compare::words::plain;
use crate::judge::row::ClaimRow;

const STYLE: &str = include_str!("html.css");

/// The longest piece of foreign text that is shown.
const MOST: usize = 2_000;

/// Files of one row that are linked; `report.json` has all.
const LINKS: usize = 2;

/// What a mail server and a bug tracker still take.
const BYTES: usize = 1_500_000;

pub(super) fn render(report: &Report) -> String {
    let view = View::new(report);
    let front = front(&view).into_string();
    let mut tables: Vec<String> =
        full::tables(&view).iter().map(|table| folded(table).into_string()).collect();
    // The longest tables go first, until the rest fits.
    let mut size = front.len() + tables.iter().map(String::len).sum::<usize>();
    let mut gone = 0;
    while size > BYTES - RIM {
        let Some(longest) = tables.iter_mut().max_by_key(|table| table.len()) else { break };
        if longest.is_empty() {
            break;
        }
        size -= longest.len();
        longest.clear();
        gone += 1;
    }
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (text(&report.run.bakeoff)) ": " (text(&report.run.title)) }
                style { (PreEscaped(STYLE)) }
            }
            body { main {
                (PreEscaped(front))
                @if !tables.is_empty() { h2 { "Tables" } }
                @if gone > 0 {
                    p.dim { (gone) " tables are left out here; bakeoff report RUN --full has them." }
                }
                @for table in &tables { (PreEscaped(table)) }
            } }
        }
    };
    let mut page = page.into_string();
    page.push('\n');
    page
}

/// Room for what is around front and tables.
const RIM: usize = 20_000;

/// All but the tables.
fn front(view: &View<'_>) -> Markup {
    let [everything, ..] = &SQUEEZES;
    let page = Page::new(view, everything);
    html! {
        @if let Some(interim) = &page.interim { p.interim { strong { (text(interim)) } } }
        h1 { (text(&page.title)) }
        @if let Some(question) = &page.question { blockquote { (text(question)) } }
        p.answer { (text(&page.answer)) }
        p.dim { (text(&page.head.join(" "))) }
        @if !page.matrix.lines.is_empty() { (matrix(&page)) }
        (parts(&page))
        (pictures(view))
    }
}

/// Foreign text without control characters; maud escapes the markup.
fn text(foreign: &str) -> String {
    plain(foreign, MOST)
}

/// A mark that leads to what shows it.
fn link(evidence: &[String], inside: &Markup) -> Markup {
    html! { @match evidence.first() {
        Some(file) => a href=(address(file)) { (inside) },
        None => (inside),
    } }
}

/// A file of the run as an address: relative, without what an address may not have.
fn address(file: &str) -> String {
    let mut out = String::from("./");
    for byte in file.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' | b'+' | b'=' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn matrix(page: &Page<'_>) -> Markup {
    let Matrix { columns, gone, wrong, lines } = &page.matrix;
    let column = |at: usize| -> Vec<&ClaimRow> {
        lines.iter().filter_map(|line| line.cells.get(at)?.row).collect()
    };
    html! {
        @if !page.asked.is_empty() { dl {
            @for item in &page.asked { dt { (text(&item.label)) } dd { (text(&item.text)) } }
        } }
        .wide { table.matrix {
            thead { tr {
                th scope="col" { "candidate" }
                th scope="col" { "on" }
                @if *gone { th scope="col" { "splat gone" } }
                th scope="col" { "new splats" }
                @for name in columns { th scope="col" { (text(name)) } }
                @if *wrong { th scope="col" { "wrong answers" } }
            } }
            tbody { @for (n, line) in lines.iter().enumerate() {
                @let first = n == 0 || lines.get(n - 1).is_none_or(|l| l.candidate != line.candidate);
                tr.first[first] {
                    th scope="row" { @if first { (text(line.candidate)) } }
                    td data-label="on" { (text(&line.target)) }
                    @if let Some(ended) = &line.ended {
                        td.bad colspan=(columns.len() + 1 + usize::from(*gone) + usize::from(*wrong)) { (ended) }
                    } @else {
                        @if *gone { td data-label="splat gone" { (line.gone) } }
                        td.bad[!matches!(line.new.as_str(), "none" | "-")] data-label="new splats" { (line.new) }
                        @for ((at, cell), name) in line.cells.iter().enumerate().zip(columns) {
                            (matrix_cell(cell, name, &column(at)))
                        }
                        @if *wrong { td data-label="wrong answers" { (line.wrong) } }
                    }
                }
            } }
        } }
        @for line in &page.legend { p.dim { (text(line)) } }
        p.dim { "Shaded in each cell: losses within the margin." }
    }
}

fn matrix_cell(cell: &Cell<'_>, claim: &str, column: &[&ClaimRow]) -> Markup {
    let claim = text(claim);
    let Some(row) = cell.row.filter(|_| !cell.mark.is_empty()) else {
        return html! { td.value data-label=(claim) { (text(&cell.words())) } };
    };
    let words = format!("{}: {} {}", mark(row.reading).1, cell.text, interval(row));
    let inside = html! {
        span.words title=(words) { (text(&cell.words())) }
        (charts::mini(row, column))
    };
    html! {
        td class={ "claim " (charts::class_of(row)) } data-label=(claim) {
            (link(&row.place.evidence, &inside))
        }
    }
}

fn parts(page: &Page<'_>) -> Markup {
    html! { @for part in &page.parts {
        h2 { (capital(part.title)) }
        @if !part.note.is_empty() { p.dim { (text(&part.note)) } }
        dl { @for item in &part.items {
            @if item.label.is_empty() {
                dd.alone { (text(&item.text)) }
            } @else {
                dt { (text(&item.label)) }
                dd { (text(&item.text)) }
            }
        } }
    } }
}

fn pictures(view: &View<'_>) -> Markup {
    let (cause_names, causes) = charts::causes(view);
    let legend = charts::legend(view);
    let none = html! {};
    let shown = [
        (
            "Claims",
            "Each interval of all that hold together; shaded: losses within the margin.",
            &none,
            charts::forests(view),
        ),
        (
            "Value against load",
            "One line a candidate; dots are visits; dashed: what the load leaves.",
            &legend,
            charts::loads(view),
        ),
        (
            "Against a parameter",
            "Of a share what is lost; both axes logarithmic.",
            &legend,
            charts::parameters(view),
        ),
        (
            "Wrong answers",
            "Outlined: as many as the negative control's rate would give.",
            &none,
            charts::wrongs(view),
        ),
        (
            "Why calls fail",
            "Part of all calls of a claim, by cause.",
            &charts::cause_legend(&cause_names),
            causes,
        ),
        ("Visits in time order", "Does anything drift?", &legend, charts::drifts(view)),
    ];
    html! { @for (title, note, legend, panels) in shown {
        @if !panels.is_empty() {
            h2 { (title) }
            p.dim { (note) }
            (legend)
            .panels { @for panel in panels { (panel) } }
        }
    } }
}

/// A table, folded.
fn folded(table: &Table) -> Markup {
    html! { details {
        summary { (text(&table.title)) " (" (table.rows.len()) ")" }
        @if !table.note.is_empty() { p.dim { (text(&table.note)) } }
        .wide { table {
            @if !table.heads.is_empty() { thead { tr {
                @for head in &table.heads { th scope="col" { (head.trim_start_matches('>')) } }
                th scope="col" { "evidence" }
            } } }
            tbody { @for (n, row) in table.rows.iter().enumerate() { tr {
                @for (at, cell) in row.iter().enumerate() {
                    @let right = table.heads.get(at).is_some_and(|head| head.starts_with('>'));
                    td.number[right] { (text(cell)) }
                }
                td { (files(table.evidence.get(n).map(Vec::as_slice).unwrap_or_default())) }
            } } }
        } }
    } }
}

fn files(evidence: &[String]) -> Markup {
    html! { @for (n, file) in evidence.iter().take(LINKS).enumerate() {
        @if n > 0 { " " }
        a href=(address(file)) title=(text(file)) { (text(file.rsplit('/').next().unwrap_or(file))) }
    }
    @if evidence.len() > LINKS { " +" (evidence.len() - LINKS) } }
}
