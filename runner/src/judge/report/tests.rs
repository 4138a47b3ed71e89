// SPDX-License-Identifier: MIT OR Apache-2.0
//! What readers get of a run: of one like the bake-off of find-vma, and of hostile ones.

mod fixture;

use fixture::{Claim, Run, dispute, hostile};

use super::*;
use crate::judge::row::CellEnd;

fn page(report: &Report) -> String {
    let text = text::render(report, false);
    for (number, line) in text.lines().enumerate() {
        assert!(line.len() <= WIDTH, "line {number} has {} columns: {line}", line.len());
        assert!(line.is_ascii() && !line.contains('\u{1b}'), "line {number}: {line}");
        assert_eq!(line.trim_end(), line, "line {number} ends in spaces");
    }
    let lines = text.lines().count();
    assert!(lines <= LINES, "{lines} lines:\n{text}");
    text
}

/// A maintainer gets the question, the answer, the matrix and the way to the rest on one
/// page.
#[test]
fn the_page_of_a_whole_run() {
    insta::assert_snapshot!("text", page(&dispute()));
}

/// The same page for a merge request.
#[test]
fn the_page_as_markdown() {
    insta::assert_snapshot!("markdown", markdown::render(&dispute(), false));
}

/// The tables are behind the page, and within its width.
#[test]
fn the_tables_are_behind_the_page() {
    let full = text::render(&dispute(), true);
    assert!(full.starts_with(&page(&dispute())));
    assert!(full.lines().all(|line| line.len() <= WIDTH && line.is_ascii()), "{full}");
    insta::assert_snapshot!("text-full", full);
    let markdown = markdown::render(&dispute(), true);
    for table in full::tables(&words::View::new(&dispute())) {
        assert!(markdown.contains(&format!("\n## {}\n", table.title)), "{}", table.title);
    }
}

/// A report of a run that goes on says so first.
#[test]
fn an_interim_report_says_so_on_its_first_line() {
    let mut report = dispute();
    report.run.interim = Some("4 of 14 kernels are not done yet".into());
    assert!(page(&report).starts_with("INTERIM: 4 of 14 kernels are not done yet.\n"));
    assert!(markdown::render(&report, false).starts_with("**INTERIM: 4 of 14"));
}

/// Names and titles with markup, escapes and no end stay within the page and harmless.
#[test]
fn foreign_text_is_harmless() {
    let report = hostile();
    insta::assert_snapshot!("text-hostile", page(&report));
    let full = text::render(&report, true);
    assert!(full.lines().all(|line| line.len() <= WIDTH && line.is_ascii()), "{full}");
    let markdown = markdown::render(&report, true);
    assert!(!markdown.contains("<script") && !markdown.contains('\u{1b}'), "{markdown}");
    assert!(!markdown.contains("![x](http"), "{markdown}");
}

/// However many claims and candidates there are, the page keeps its size and says what it
/// left out; losses are never what goes.
#[test]
fn a_page_too_long_says_what_it_left_out() {
    let mut run = Run::new("many", &["x86_64", "arm64"]);
    for claim in 0..12 {
        run = run.claim(Claim::new(&format!("claim-{claim}"), 2.0));
    }
    for candidate in 0..20 {
        run = run.contender(&format!("candidate-{candidate}"));
    }
    let mut report = run.build();
    // All of the first eleven claims are no worse; one of the twelfth loses.
    fixture::reads(&mut report, "candidate-7", "arm64", "claim-11", -0.081, 0.01);
    let text = page(&report);
    insta::assert_snapshot!("text-many", text);
    assert!(text.contains("LEFT OUT"), "{text}");
    assert!(text.contains("candidate-7") && text.contains("- -8.1"), "{text}");
    // And with nothing to fold: every claim of every candidate loses or is open.
    for row in report.claims.iter_mut().filter(|row| row.estimate.is_some()) {
        let open = row.place.arch == "arm64";
        (row.low, row.high) = (Some(-0.09), Some(if open { 0.01 } else { -0.07 }));
        row.reading = if open {
            crate::judge::row::ClaimReading::Open
        } else {
            crate::judge::row::ClaimReading::Loses
        };
    }
    fixture::conclude(&mut report);
    let text = page(&report);
    insta::assert_snapshot!("text-most", text);
    assert!(text.contains("--full"), "{text}");
}

/// One candidate with one claim gets a page too, and no word on controls it has not.
#[test]
fn the_least_run_has_a_page() {
    let report = Run::new("hello", &["x86_64"])
        .claim(Claim::new("round-trip", 5.0).number("us", 12.4))
        .contender("faster")
        .build();
    let text = page(&report);
    assert!(!text.contains("CONTROLS") && !text.contains("splat gone"), "{text}");
    insta::assert_snapshot!("text-least", text);
}

/// A run in which nothing ran says just that.
#[test]
fn nothing_ran() {
    let mut report = dispute();
    for cell in &mut report.cells {
        cell.end = CellEnd::Waiting;
    }
    report.run.interim = Some("14 of 14 kernels are not done yet".into());
    fixture::forget(&mut report);
    let text = page(&report);
    assert!(text.contains("A: Nothing ran yet."), "{text}");
    report.cells.clear();
    report.verdicts.clear();
    assert!(page(&report).contains("A: Nothing ran."));
}

/// Each way in which a kernel can end badly is in the matrix and in the words.
#[test]
fn kernels_that_end_badly() {
    let mut run = Run::new("misfortunes", &["x86_64"]).claim(Claim::new("quiet", 0.5));
    let ends = [
        ("apply", CellEnd::DidNotApply),
        ("build", CellEnd::DidNotBuild),
        ("boot", CellEnd::DidNotBoot),
        ("panic", CellEnd::Panicked),
        ("hang", CellEnd::Hung),
        ("port", CellEnd::NotPortable),
        ("ours", CellEnd::Error),
    ];
    for (name, _) in ends {
        run = run.contender(name);
    }
    let mut report = run.build();
    for (name, end) in ends {
        fixture::ends(&mut report, name, end);
    }
    let text = page(&report);
    for (_, end) in ends {
        let words = crate::judge::compare::verdict_words(end);
        assert!(text.to_lowercase().contains(words), "{end:?}\n{text}");
    }
    insta::assert_snapshot!("text-misfortunes", text);
}

/// A pick shows its claim, condition or candidate, keeps the reference, and names what
/// there is where it asks for something else.
#[test]
fn a_part_of_a_report() {
    let report = dispute();
    let claim = Pick { claims: vec!["writers".into()], ..Pick::default() };
    let picked = claim.of(&report).unwrap();
    assert!(picked.claims.iter().all(|row| row.claim == "writers") && !picked.claims.is_empty());
    assert_eq!(picked.run.claims.len(), 1);
    let candidate = Pick { candidates: vec!["lockless-tree".into()], ..Pick::default() };
    let text = page(&candidate.of(&report).unwrap());
    assert!(text.contains("landed") && !text.contains("peter-removal"), "{text}");
    let condition = Pick { conditions: vec!["writer 25% busy".into()], ..Pick::default() };
    let picked = condition.of(&report).unwrap();
    assert!(!picked.measures.is_empty() && picked.measures.len() < report.measures.len());
    for pick in [
        Pick { claims: vec!["nothing".into()], ..Pick::default() },
        Pick { candidates: vec!["nobody".into()], ..Pick::default() },
        Pick { conditions: vec!["never".into()], ..Pick::default() },
    ] {
        let error = pick.of(&report).unwrap_err();
        assert!(error.to_string().contains('`'), "{error}");
    }
}

/// Output depends on the input alone.
#[test]
fn the_same_report_gives_the_same_text() {
    for format in FORMATS {
        let full = How { full: true, run: None };
        let (one, two) = (format.render(&dispute(), &full), format.render(&dispute(), &full));
        assert_eq!(one.unwrap(), two.unwrap(), "{}", format.name);
    }
}

/// Nothing of a report is lost when a program reads it.
#[test]
fn json_reads_back() {
    let report = dispute();
    let text = json::render(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}

/// Elements that have no end tag.
const VOID: [&str; 4] = ["meta", "br", "hr", "img"];

/// Tags of a page in order, checked for balance: (name, attributes).
fn tags(page: &str) -> Vec<(String, String)> {
    let mut open: Vec<String> = Vec::new();
    let mut all = Vec::new();
    let body = page.split("<style>").enumerate().map(|(n, part)| {
        if n == 0 { part } else { part.split_once("</style>").map_or("", |(_, rest)| rest) }
    });
    for part in body {
        for tag in part.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').unwrap_or_else(|| panic!("`<{tag}` has no end"));
            if let Some(name) = tag.strip_prefix('/') {
                if name != "style" {
                    assert_eq!(open.pop().as_deref(), Some(name), "ends what is not open");
                }
            } else if !tag.starts_with('!') {
                let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
                assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "`{name}` is no name");
                assert_eq!(attributes.matches('"').count() % 2, 0, "quotes of `{tag}`");
                all.push((name.to_owned(), attributes.to_owned()));
                if !VOID.contains(&name) && name != "style" {
                    open.push(name.to_owned());
                }
            }
        }
    }
    assert!(open.is_empty(), "not ended: {open:?}");
    all
}

/// Values of an attribute.
fn attribute<'a>(tags: &'a [(String, String)], name: &'a str) -> impl Iterator<Item = &'a str> {
    let begin = format!("{name}=\"");
    tags.iter().filter_map(move |(_, attributes)| {
        let at = attributes.find(&begin)?;
        attributes.get(at + begin.len()..)?.split('"').next()
    })
}

/// The page of a browser is whole: every element ends, it needs no script and no other
/// file, every link leads to a file that the report names as evidence, no place in a
/// chart is without a number, and it stays within its size.
#[test]
fn html_is_whole_and_needs_nothing_else() {
    for report in [dispute(), hostile()] {
        let page = html::render(&report);
        assert!(page.starts_with("<!DOCTYPE html>") && page.len() < 1_500_000, "{}", page.len());
        let tags = tags(&page);
        for outside in ["script", "link", "img", "iframe", "object"] {
            assert!(!tags.iter().any(|(name, _)| name == outside), "{outside}");
        }
        assert!(!page.contains("NaN") && !page.contains("inf\""), "a place without a number");
        let text = serde_json::to_string(&report).unwrap();
        let mut links = 0;
        for href in attribute(&tags, "href") {
            let file = href.strip_prefix("./").unwrap_or_else(|| panic!("{href} leads away"));
            let file = file.replace("%3C", "<").replace("%3E", ">").replace("%60", "`");
            assert!(text.contains(&format!("\"{file}\"")), "{href} is no evidence");
            links += 1;
        }
        assert!(links > 20, "{links}");
        assert!(!page.contains('\u{1b}') && !page.contains('\u{202e}'));
    }
}

/// Each kind of picture is there where there is something to show, and only there.
#[test]
fn html_has_its_pictures() {
    let page = html::render(&dispute());
    for title in [
        "Claims",
        "Value against load",
        "Against a parameter",
        "Wrong answers",
        "Why calls fail",
        "Visits in time order",
    ] {
        assert!(page.contains(&format!("<h2>{title}</h2>")), "{title}");
    }
    let mut least = dispute();
    fixture::forget(&mut least);
    let page = html::render(&least);
    assert!(!page.contains("<h2>Value against load</h2>") && !page.contains("<figure"), "{page}");
}

/// A run with many conditions leaves its longest tables out before it gets too long, and
/// says so.
#[test]
fn html_stays_within_its_size() {
    let mut report = dispute();
    let rows = report.measures.clone();
    for round in 0..60 {
        for mut row in rows.clone() {
            row.condition = format!("{} {round}", row.condition);
            report.measures.push(row);
        }
    }
    let page = html::render(&report);
    assert!(page.len() <= 1_500_000, "{}", page.len());
    assert!(page.contains("tables are left out here"));
}

/// Colours of the style sheet under one scheme: name to red, green, blue.
fn colours(scheme: &str) -> std::collections::BTreeMap<String, [f64; 3]> {
    let names = scheme.split("--").skip(1).filter_map(|part| part.split_once(": #"));
    let channel = |hex: &str, at: usize| {
        let value = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
        if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    names.map(|(name, hex)| (name.into(), [0, 2, 4].map(|at| channel(hex, at)))).collect()
}

/// All that is written or drawn in colour has a contrast of 4.5 on its paper, in light and
/// in dark.
#[test]
fn colours_can_be_read() {
    let sheet = include_str!("html.css");
    let schemes: Vec<&str> = sheet.split(":root {").skip(1).take(2).collect();
    assert_eq!(schemes.len(), 2);
    for scheme in schemes {
        let colours = colours(scheme.split('}').next().unwrap());
        let light = |name: &str| {
            let [r, g, b] = colours[name];
            0.2126 * r + 0.7152 * g + 0.0722 * b
        };
        let contrast = |one: &str, other: &str| {
            let (a, b) = (light(one), light(other));
            (a.max(b) + 0.05) / (a.min(b) + 0.05)
        };
        assert!(colours.len() > 15, "{colours:?}");
        for name in colours.keys() {
            if !matches!(name.as_str(), "paper" | "soft" | "line" | "shade") {
                let found = contrast(name, "paper");
                assert!(found >= 4.5, "{name} on paper: {found:.2} in {scheme}");
            }
        }
    }
}

/// The pictures of a whole run as a browser gets them; `BAKEOFF_SHOW_HTML` names a folder
/// that they are written to, to be looked at.
#[test]
fn html_of_a_whole_run() {
    let page = html::render(&dispute());
    if let Some(dir) = std::env::var_os("BAKEOFF_SHOW_HTML") {
        let dir = std::path::PathBuf::from(dir);
        std::fs::write(dir.join("report.html"), &page).unwrap();
        std::fs::write(dir.join("hostile.html"), html::render(&hostile())).unwrap();
    }
    let from = page.find("<table class=\"matrix\"").unwrap();
    let to = page[from..].find("</table>").unwrap();
    let matrix = page[from..from + to].replace("<tr", "\n<tr").replace("<td", "\n  <td");
    insta::assert_snapshot!("html-matrix", matrix);
}

/// A run whose kernels no claim is about says that nobody was judged, not that nothing was
/// measured.
#[test]
fn a_run_without_claims_judges_nobody() {
    let mut report = dispute();
    assert!(!page(&report).contains("asks no claims"));
    report.run.claims.clear();
    report.claims.clear();
    let text = page(&report).replace('\n', " ");
    assert!(text.contains("not judged: this run asks no claims"), "{text}");
    assert!(!text.contains("Nothing was measured"), "{text}");
}
