// SPDX-License-Identifier: MIT OR Apache-2.0
//! A reply to the series, ready for `git send-email`. Nothing here sends it.
//!
//! A header is one line made of what is known to be harmless: whatever comes from a
//! thread or a spec cannot add another one. No line offers a Tested-by: a machine that
//! did not find anything has not tested everything.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use super::{is_contender, is_printable, line, lkp};
use crate::judge::report::{Report, WIDTH, text};
use crate::judge::row::{SplatReading, SplatRow, Verdict};
use crate::spec::Role;

/// Lines of the body before the evidence.
const HEAD: usize = 60;
/// Of which the page may take these.
const PAGE: usize = 28;
/// Lines of one report of a kernel.
const EVIDENCE: usize = 60;
/// Splats that are shown in full.
const SHOWN: usize = 3;
/// What one console is read for.
const LONGEST_READ: u64 = 16 << 10;

/// The mail; `run` is the run's folder, where the consoles are.
pub(in super::super) fn render(report: &Report, run: Option<&Path>) -> String {
    let mut mail = headers(report);
    mail.push('\n');
    let body = body(report, run);
    for text in body {
        mail.push_str(&text);
        mail.push('\n');
    }
    mail
}

fn headers(report: &Report) -> String {
    let mut text = String::new();
    let thread = report.run.thread.as_ref();
    if let Some(thread) = thread {
        for (name, all) in [("To", &thread.to), ("Cc", &thread.cc)] {
            let all: Vec<&str> = all.iter().map(String::as_str).filter(|a| is_address(a)).collect();
            if !all.is_empty() {
                text.push_str(&format!("{name}: {}\n", all.join(",\n ")));
            }
        }
        if is_id(&thread.message_id) {
            let id = &thread.message_id;
            text.push_str(&format!("In-Reply-To: <{id}>\nReferences: <{id}>\n"));
        }
    }
    let subject = thread.map_or(report.run.title.as_str(), |thread| thread.subject.as_str());
    let subject = line(subject);
    let bare = subject.trim_start_matches(|c: char| c.is_whitespace());
    let bare = match bare.get(..3) {
        Some(re) if re.eq_ignore_ascii_case("re:") => bare[3..].trim_start(),
        _ => bare,
    };
    let re = if thread.is_some() { "Re: " } else { "" };
    text.push_str(&format!("Subject: {re}{}\n", encoded(bare)));
    text.push_str(
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n\
         Content-Transfer-Encoding: 8bit\n",
    );
    text
}

/// A name and an address, or an address, on one line of plain ASCII.
fn is_address(text: &str) -> bool {
    let inner = text.trim();
    inner.is_ascii()
        && inner == text
        && inner.chars().all(|c| is_printable(c) && c != ',' && c != ';')
        && inner.matches('@').count() == 1
        && inner.split('@').all(|part| !part.is_empty())
}

fn is_id(text: &str) -> bool {
    text.contains('@') && text.chars().all(|c| c.is_ascii_graphic() && c != '<' && c != '>')
}

/// A header's text: as it is if it is ASCII, else in encoded words (RFC 2047).
fn encoded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    for c in text.chars() {
        let mut bytes = [0; 4];
        let one: String = if c.is_ascii_alphanumeric() {
            c.to_string()
        } else {
            c.encode_utf8(&mut bytes).bytes().map(|byte| format!("={byte:02X}")).collect()
        };
        // An encoded word has at most 75 columns with its frame.
        if word.len() + one.len() > 60 {
            words.push(std::mem::take(&mut word));
        }
        word.push_str(&one);
    }
    words.push(word);
    let framed: Vec<String> = words.iter().map(|word| format!("=?UTF-8?q?{word}?=")).collect();
    framed.join("\n ")
}

fn body(report: &Report, run: Option<&Path>) -> Vec<String> {
    let confirmed: Vec<&SplatRow> = report
        .splats
        .iter()
        .filter(|row| {
            row.reading == SplatReading::Introduced && is_contender(report, &row.place.candidate)
        })
        .collect();
    let contenders = || report.verdicts.iter().filter(|row| row.role == Role::Contender);
    let bad = contenders().any(|row| row.verdict == Verdict::NotOk) || !confirmed.is_empty();
    let open = contenders().any(|row| row.verdict == Verdict::Open && !row.declared);
    let mut out: Vec<String> = vec!["Hi,".into(), String::new()];
    fold(&mut out, opening(bad, open), "");
    out.push(String::new());
    for c in report.run.candidates.iter().filter(|c| c.role == Role::Contender).take(4) {
        fold(&mut out, &format!("tested:    {}: {}", c.name, c.title), "           ");
    }
    for (name, from) in report.run.bases.iter().take(3) {
        fold(&mut out, &format!("base:      {name}, {from}"), "           ");
    }
    let machines = format!(
        "where:     QEMU on {}, kernels {}",
        report.run.architectures.join(" and "),
        report.run.profiles.join(" and ")
    );
    fold(&mut out, &machines, "           ");
    if bad || open {
        out.push(String::new());
        let page = text::render(report, false);
        let mut folded = Vec::new();
        for text in page.lines() {
            fold_kept(&mut folded, text);
        }
        if folded.len() > PAGE {
            folded.truncate(PAGE - 1);
            folded.push("[shortened; report.txt of the run has all of it]".into());
        }
        out.extend(folded);
    }
    if !confirmed.is_empty() {
        out.push(String::new());
        out.push("fail:runs of the reference, fail:runs with the series".into());
        for row in confirmed.iter().take(SHOWN) {
            let words = format!(
                "{:>10} {:>10}  {} ({})",
                lkp::runs(row.reference),
                lkp::runs(row.seen),
                row.title,
                row.place.arch
            );
            // The columns are kept where they fit.
            if words.chars().count() <= WIDTH {
                fold_kept(&mut out, &words);
            } else {
                fold(&mut out, &words, "                       ");
            }
        }
    }
    out.push(String::new());
    out.push("To reproduce, with the spec and the patches of the run:".into());
    out.push(format!("  bakeoff run RUN/spec --seed {}", report.run.seed));
    if out.len() > HEAD - 14 {
        out.truncate(HEAD - 15);
        out.push("[shortened; report.txt of the run has all of it]".into());
    }
    let mut rest = Vec::new();
    if !report.not_tested.is_empty() {
        rest.push("Not tested:".to_owned());
        for row in report.not_tested.iter().take(3) {
            fold(&mut rest, &format!("- {}: {}", row.what, row.reason), "  ");
        }
        if rest.len() > 9 {
            rest.truncate(9);
        }
        if report.not_tested.len() > 3 {
            rest.push(format!("- and {} more, see the report", report.not_tested.len() - 3));
        }
        out.push(String::new());
        out.extend(rest);
    }
    for row in confirmed.iter().take(SHOWN) {
        out.push(String::new());
        fold(&mut out, &format!("{} ({}):", row.title, row.place.arch), "  ");
        let shown = run.and_then(|run| console(run, row));
        let shown = shown.unwrap_or_else(|| row.signature.clone());
        // A kernel's own lines are quoted as they are, but for their length.
        let mut lines = Vec::new();
        for text in shown {
            fold_kept(&mut lines, &text);
        }
        lines.truncate(EVIDENCE);
        out.extend(lines);
    }
    if !confirmed.is_empty() {
        out.push(String::new());
        out.push("If a patch of its own fixes this, please add:".into());
        out.push("  Reported-by: (the sender of this mail)".into());
        out.push("  Closes: (the link to this mail in the archive)".into());
    }
    out.push(String::new());
    out.push("-- ".into());
    fold(&mut out, &format!("Written by {}, a program. A person sent it.", report.tool), "");
    out
}

fn opening(bad: bool, open: bool) -> &'static str {
    match (bad, open) {
        (true, _) => "this series was compared with its base, and something got worse:",
        (false, true) => {
            "this series was compared with its base. Nothing was found so far; not \
             everything is decided:"
        }
        (false, false) => {
            "this series was compared with its base, and nothing was found. That is no \
             proof that nothing is there."
        }
    }
}

/// What the console says from the first report on; nothing if it cannot be read.
fn console(run: &Path, row: &SplatRow) -> Option<Vec<String>> {
    let offset = row.first_offset?;
    let name = row.place.evidence.iter().find(|name| name.ends_with("console.log"))?;
    let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    let mut file = File::open(run.join(name)).ok().filter(|_| inside)?;
    file.seek(SeekFrom::Start(offset)).ok()?;
    let mut bytes = Vec::new();
    file.take(LONGEST_READ).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<String> = Vec::new();
    for one in text.lines().take(EVIDENCE) {
        lines.push(one.chars().map(|c| if is_printable(c) { c } else { ' ' }).collect());
        if one.contains("---[ end trace") {
            break;
        }
    }
    (!lines.is_empty()).then_some(lines)
}

/// Breaks at blanks, at the widest; what follows is indented.
fn fold(out: &mut Vec<String>, text: &str, indent: &str) {
    let mut current = String::new();
    let text = line(text);
    for (at, word) in text.split(' ').enumerate() {
        let wide = current.chars().count() + 1 + word.chars().count() > WIDTH;
        if at > 0 && wide {
            out.push(std::mem::take(&mut current));
            current.push_str(indent);
        } else if at > 0 {
            current.push(' ');
        }
        current.push_str(word);
    }
    for part in pieces(&current) {
        out.push(part);
    }
}

/// Keeps blanks as they are, breaks only what is too wide.
fn fold_kept(out: &mut Vec<String>, text: &str) {
    let text: String = text.chars().map(|c| if is_printable(c) { c } else { ' ' }).collect();
    out.extend(pieces(text.trim_end()));
}

fn pieces(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    if letters.is_empty() {
        return vec![String::new()];
    }
    letters.chunks(WIDTH).map(|part| part.iter().collect()).collect()
}
