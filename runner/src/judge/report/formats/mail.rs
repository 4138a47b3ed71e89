// SPDX-License-Identifier: MIT OR Apache-2.0
//! A reply to the series, ready for `git send-email`. Nothing here sends it.
//!
//! A header is one line made of what is known to be harmless: whatever comes from a
//! thread or a spec cannot add another one. No line offers a Tested-by: a machine that
//! did not find anything has not tested everything.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::{Check, State, broken_base, checks, is_contender, is_printable, line, lkp};
use crate::judge::report::{CHOSEN, CandidateInfo, Report, WIDTH, text};
use crate::judge::row::{Place, SplatReading, SplatRow, Verdict};
use crate::spec::Role;

/// Lines of the body before the evidence.
const HEAD: usize = 60;
/// Contenders that are named.
const CONTENDERS: usize = 4;
/// Lines on how the base was chosen.
const BASE_LINES: usize = 4;
/// Letters of somebody else's text before the evidence.
const LONGEST_LINE: usize = 150;
/// Reasons why something was not tested.
const NOT_TESTED: usize = 4;
/// Lines of one report of a kernel.
const EVIDENCE: usize = 60;
/// Splats that are shown in full.
const SHOWN: usize = 3;
/// Lines of a program.
const PROGRAM: usize = 200;
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
    text.push_str(&header(&format!("Subject: {re}{}", encoded(bare))));
    text.push_str(
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n\
         Content-Transfer-Encoding: 8bit\n",
    );
    text
}

/// A header, folded at blanks where it is too wide (RFC 5322, 2.2.3). Encoded words are
/// folded already.
fn header(text: &str) -> String {
    if text.contains('\n') {
        return format!("{text}\n");
    }
    let mut folded = String::new();
    let mut width = 0;
    for word in text.split(' ') {
        let letters = word.chars().count();
        if width > 0 && width + 1 + letters > WIDTH {
            folded.push('\n');
            width = 0;
        }
        if !folded.is_empty() {
            folded.push(' ');
            width += 1;
        }
        folded.push_str(word);
        width += letters;
    }
    folded + "\n"
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

/// What the body tells of.
struct Told<'a> {
    report: &'a Report,
    confirmed: Vec<&'a SplatRow>,
    bad: bool,
    open: bool,
    /// The base itself could not be tested.
    no_base: bool,
}

impl<'a> Told<'a> {
    fn of(report: &'a Report) -> Told<'a> {
        let confirmed: Vec<&SplatRow> = report
            .splats
            .iter()
            .filter(|row| {
                row.reading == SplatReading::Introduced
                    && is_contender(report, &row.place.candidate)
            })
            .collect();
        let contenders = || report.verdicts.iter().filter(|row| row.role == Role::Contender);
        let blamed = |check: &Check<'_>| check.kind == "verdict" && check.state == State::Fail;
        let bad = checks(report).iter().any(blamed) || !confirmed.is_empty();
        let no_base = broken_base(report).is_some();
        let open = contenders().any(|row| row.verdict == Verdict::Open && !row.declared)
            || no_base
            || report.run.interim.is_some();
        Told { report, confirmed, bad, open, no_base }
    }

    fn contenders(&self) -> impl Iterator<Item = &'a CandidateInfo> {
        self.report.run.candidates.iter().filter(|c| c.role == Role::Contender)
    }

    fn opening(&self) -> String {
        let what = match self.contenders().count() {
            1 => "this series was compared with its base".to_owned(),
            many => format!("{many} series were compared with their base"),
        };
        let came = match (self.bad, self.open) {
            (true, _) => "Something got worse.",
            (false, true) if self.no_base => {
                "The base itself does not build or boot here, so nothing is known of the \
                 series."
            }
            (false, true) => "Nothing was found so far, but not everything is decided.",
            (false, false) => {
                "Nothing was found. That is no proof that nothing is there: what was tested is \
                 below."
            }
        };
        let interim = match &self.report.run.interim {
            Some(why) => format!(" The run is not complete: {why}."),
            None => String::new(),
        };
        format!("{what}. {came}{interim}")
    }

    /// What was tested, on what, and how the base was chosen.
    fn tested(&self, out: &mut Vec<String>) {
        for c in self.contenders().take(CONTENDERS) {
            let words = match &c.series {
                Some(series) => format!("v{} of {}", series.version, series.subject),
                None => format!("{}: {}", c.name, c.title),
            };
            labelled(out, "tested:", &cut(&words, LONGEST_LINE));
        }
        for (name, from) in self.report.run.bases.iter().take(3) {
            labelled(out, "base:", &cut(&format!("{name}, {from}"), LONGEST_LINE));
        }
        // One's own base is worth knowing; those of many are in the report.
        if let [Some(series)] = self.contenders().map(|c| &c.series).collect::<Vec<_>>()[..] {
            let unknown = ["not found", "no tree was given"];
            let found = series
                .base
                .iter()
                .filter(|line| !line.starts_with(CHOSEN))
                .filter(|line| !unknown.iter().any(|word| line.starts_with(word)));
            // Where the base's own line says so already, once is enough.
            let said = |why: &str| {
                let mut others = series.base.iter().filter(|line| !line.starts_with(CHOSEN));
                others.any(|line| line.ends_with(why))
            };
            if let Some(why) = series.chosen().filter(|why| !said(why)) {
                labelled(out, "", &cut(&format!("({why})"), LONGEST_LINE));
            }
            for line in found.take(BASE_LINES) {
                labelled(out, "", &cut(line, LONGEST_LINE));
            }
        }
        let machines = format!(
            "QEMU on {}, kernels {}",
            self.report.run.architectures.join(" and "),
            self.report.run.profiles.join(" and ")
        );
        labelled(out, "where:", &machines);
    }

    /// How often each splat came, as lkp prints it.
    fn counts(&self, out: &mut Vec<String>) {
        if self.confirmed.is_empty() {
            return;
        }
        out.push(String::new());
        out.push(" fail:runs  fail:runs".into());
        out.push("      base     series".into());
        for row in self.confirmed.iter().take(SHOWN) {
            let counts = format!("{:>10} {:>10}", lkp::runs(row.reference), lkp::runs(row.seen));
            let words = format!("{} ({})", line(&row.title), row.place.arch);
            let mut folded = Vec::new();
            fold_to(&mut folded, &cut(&words, LONGEST_LINE), "", WIDTH - counts.len() - 2);
            for (at, part) in folded.into_iter().enumerate() {
                let before = if at == 0 { counts.as_str() } else { "" };
                out.push(format!("{before:<21}  {part}"));
            }
        }
        let more = self.confirmed.len().saturating_sub(SHOWN);
        if more > 0 {
            out.push(format!("{:21}  and {more} more, see the report", ""));
        }
    }

    /// One command that does it again.
    fn again(&self, out: &mut Vec<String>) {
        out.push(String::new());
        let seed = self.report.run.seed;
        let series = self.contenders().map(|c| c.series.as_ref()).collect::<Vec<_>>();
        match series[..] {
            [Some(series)] if series.is_mail() && is_id(&series.message_id) => {
                out.push("To reproduce (--base names the base, if it is not found):".into());
                out.push(format!("  bakeoff try {} --seed {seed}", series.message_id));
            }
            _ => {
                out.push("To reproduce, with the spec and the patches of the run:".into());
                out.push(format!("  bakeoff run RUN/spec --seed {seed}"));
            }
        }
    }

    fn not_tested(&self, out: &mut Vec<String>) {
        let mut rows: Vec<(&str, &str)> = Vec::new();
        for row in &self.report.not_tested {
            let row = (row.what.as_str(), row.reason.as_str());
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
        if rows.is_empty() {
            return;
        }
        out.push(String::new());
        out.push("Not tested:".into());
        let mut lines = Vec::new();
        for (what, reason) in rows.iter().take(NOT_TESTED) {
            let mut folded = Vec::new();
            fold(&mut folded, &format!("- {what}: {reason}"), "  ");
            if folded.len() > 2 {
                folded.truncate(2);
                if let Some(last) = folded.last_mut() {
                    *last = format!("{} ...", cut(last, WIDTH - 4).trim_end());
                }
            }
            lines.extend(folded);
        }
        out.extend(lines);
        if rows.len() > NOT_TESTED {
            out.push(format!("- and {} more, see the report", rows.len() - NOT_TESTED));
        }
    }

    /// The page, as far as it has room.
    fn page(&self, out: &mut Vec<String>, room: usize) {
        if !(self.bad || self.open) || room < 6 {
            return;
        }
        out.push(String::new());
        let mut folded = Vec::new();
        for text in text::render(self.report, false).lines() {
            fold_kept(&mut folded, text);
        }
        if folded.len() + 1 > room {
            folded.truncate(room - 2);
            folded.push("[shortened; report.txt of the run has all of it]".into());
        }
        out.extend(folded);
    }

    /// What the kernel said, and the program that made it say so, where there is one.
    fn evidence(&self, out: &mut Vec<String>, run: Option<&Path>) {
        for row in self.confirmed.iter().take(SHOWN) {
            out.push(String::new());
            fold(out, &format!("{} ({}):", row.title, row.place.arch), "  ");
            let shown = run.and_then(|run| console(run, row));
            let shown = shown.unwrap_or_else(|| row.signature.clone());
            // A kernel's own lines are quoted as they are, but for their length.
            let mut lines = Vec::new();
            for text in shown {
                fold_kept(&mut lines, without_time(&text));
            }
            lines.truncate(EVIDENCE);
            out.extend(lines);
            if let Some(program) = run.and_then(|run| program(run, row)) {
                out.push(String::new());
                out.push("A program that provokes it:".into());
                out.push(String::new());
                out.extend(program);
            }
        }
    }
}

fn body(report: &Report, run: Option<&Path>) -> Vec<String> {
    let told = Told::of(report);
    let mut out: Vec<String> = vec!["Hi,".into(), String::new()];
    fold(&mut out, &told.opening(), "");
    out.push(String::new());
    told.tested(&mut out);
    told.counts(&mut out);
    told.again(&mut out);
    let mut rest = Vec::new();
    told.not_tested(&mut rest);
    let room = HEAD.saturating_sub(out.len() + rest.len() + 1);
    told.page(&mut out, room);
    out.extend(rest);
    told.evidence(&mut out, run);
    if !told.confirmed.is_empty() {
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

/// A line of a console without `[    2.113364] `, which nobody can compare with anything.
fn without_time(line: &str) -> &str {
    let inside = |text: &str| text.trim_start().bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((time, rest)) if !time.trim().is_empty() && inside(time) => rest,
        _ => line,
    }
}

/// Letters of a label, with the blank behind it.
const LABEL: usize = 9;

/// `base:    6.12, …`, what follows below the text.
fn labelled(out: &mut Vec<String>, label: &str, text: &str) {
    let mut folded = Vec::new();
    fold_to(&mut folded, text, "", WIDTH - LABEL);
    for (at, part) in folded.into_iter().enumerate() {
        let label = if at == 0 { label } else { "" };
        out.push(format!("{label:<LABEL$}{part}"));
    }
}

fn cut(text: &str, letters: usize) -> String {
    text.chars().take(letters).collect()
}

/// The C program of a campaign on this candidate that shows this report, if it fits into
/// a mail: one that is folded is none.
fn program(run: &Path, row: &SplatRow) -> Option<Vec<String>> {
    let Place { base, candidate, .. } = &row.place;
    let parts = ["fuzz", base, candidate, "findings", &row.fingerprint, "repro.c"];
    let name: PathBuf = parts.iter().collect();
    let inside = name.components().all(|part| matches!(part, Component::Normal(_)));
    let text = std::fs::read_to_string(run.join(&name)).ok().filter(|_| inside)?;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let fits = lines.len() <= PROGRAM && lines.iter().all(|line| line.chars().count() <= WIDTH);
    fits.then_some(lines)
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
    fold_to(out, text, indent, WIDTH);
}

fn fold_to(out: &mut Vec<String>, text: &str, indent: &str, width: usize) {
    let mut current = String::new();
    let text = line(text);
    for (at, word) in text.split(' ').enumerate() {
        let wide = current.chars().count() + 1 + word.chars().count() > width;
        if at > 0 && wide {
            out.extend(pieces(&std::mem::take(&mut current), width));
            current.push_str(indent);
        } else if at > 0 {
            current.push(' ');
        }
        current.push_str(word);
    }
    for part in pieces(&current, width) {
        out.push(part);
    }
}

/// Keeps blanks as they are, breaks only what is too wide.
fn fold_kept(out: &mut Vec<String>, text: &str) {
    let text: String = text.chars().map(|c| if is_printable(c) { c } else { ' ' }).collect();
    out.extend(pieces(text.trim_end(), WIDTH));
}

fn pieces(text: &str, width: usize) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    if letters.is_empty() {
        return vec![String::new()];
    }
    letters.chunks(width).map(|part| part.iter().collect()).collect()
}
