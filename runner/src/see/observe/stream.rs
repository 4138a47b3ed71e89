//! One pass over the console, in bounded memory: a vectorized scan skips what cannot open a report;
//! from a head on, lines are kept until the report ends.
//!
//! A report ends when the next one of the same thread or CPU begins, when enough lines went by that
//! belong to no report, when it grows beyond all reason, or with the log. What the kernel did about
//! it (`Kernel panic - not syncing`) still belongs to it.

mod report;

pub(crate) use report::Report;

use report::{
    Belongs, LOOK_BACK, MAX_RAW, PATIENCE_AFTER_END, belonging, joins, look_back, says_more,
};

use crate::see::observe::blind::says_off;
use crate::see::observe::build::{build, has_stack};
use crate::see::observe::frame::parse_frame;
use crate::see::observe::line::{Message, Shape, decode, is_field, is_record, messages};
use crate::see::observe::table::{
    Found, NEEDLE_REACH, Role, find_head, next_candidate, opens_message,
};
use crate::see::observe::{Kind, Note, Splat};
use memchr::{memchr, memmem, memrchr};
use std::collections::VecDeque;

/// How much is taken in at a time; results do not depend on it.
const BLOCK: usize = 128 * 1024;
/// A longer line is cut: no message of the kernel is (`LOG_LINE_MAX` is about 1 KiB).
const MAX_LINE: usize = 8 * 1024;
/// How far behind a report the kernel may tell that it panics because of it: other tasks' reports
/// and the locks they hold may be printed in between.
const PANIC_REACH: u64 = 64 * 1024;
/// The same, if the panic does not say that it is about hangs.
const NEAR: u64 = 4 * 1024;
/// Reports of different threads that may be printed at the same time.
const MAX_OPEN: usize = 16;
/// How many heads are remembered: a journal and a dmesg of it may both be in a log.
const MAX_HEADS: usize = 256;

/// All splats of a log that is in memory.
pub fn parse(log: &[u8]) -> Vec<Splat> {
    let mut parser = Parser::new();
    let mut splats = parser.push(log);
    splats.extend(parser.finish());
    splats
}

/// Reads a console as it arrives.
#[derive(Debug, Default)]
pub struct Parser {
    /// Bytes not dropped yet: some that were read, for looking back, and what is still to be read.
    buf: Vec<u8>,
    /// Where on the console `buf` begins.
    base: u64,
    /// Everything before this index of `buf` was read.
    pos: usize,
    /// The next candidate for a head at or after `pos`, if it was looked for: absolute.
    candidate: Option<u64>,
    /// Up to where on the console candidates were looked for.
    scanned: u64,
    open: Vec<Report>,
    /// Where the first time stamp of a kernel ends: it ran from there on.
    first_stamp: Stamp,
    /// A report has said that lockdep is off from there on.
    lockdep_off: bool,
    /// The log is a journal's, with a line for each field of a record.
    journal: bool,
    /// Time and words of the heads seen last, hashed: the same again is the same event, printed by
    /// another tool.
    heads: VecDeque<u64>,
    /// A line whose text a tool had changed, as the kernel printed it.
    decoded: Vec<u8>,
    /// Finished, but an earlier one is still open, or a panic may still turn out to be its end.
    ready: Vec<Splat>,
}

impl Parser {
    /// A parser at the start of a console.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes more of the console in; answers with the splats that are complete now, in order.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Splat> {
        let mut splats = Vec::new();
        for block in bytes.chunks(BLOCK) {
            self.first_stamp.look(block);
            if !self.skim(block) {
                self.buf.extend_from_slice(block);
                self.read(false);
                self.compact();
            }
            if !self.ready.is_empty() {
                splats.extend(self.release());
            }
        }
        splats
    }

    /// Ends the console: what was begun is taken as it is.
    pub fn finish(mut self) -> Vec<Splat> {
        self.read(true);
        for report in std::mem::take(&mut self.open) {
            self.close(report);
        }
        self.release_all()
    }

    /// Ends the reports that were begun, because the console has been quiet for a while; reading
    /// may go on.
    pub fn flush(&mut self) -> Vec<Splat> {
        for report in std::mem::take(&mut self.open) {
            self.close(report);
        }
        self.release_all()
    }

    /// How many bytes of the console are held: bounded, whatever was pushed.
    pub fn held(&self) -> usize {
        self.buf.capacity()
            + self.open.iter().map(|report| report.raw.capacity()).sum::<usize>()
            + self.ready.iter().map(|splat| splat.raw.capacity()).sum::<usize>()
    }

    fn release(&mut self) -> Vec<Splat> {
        let first_open = self.open.iter().map(|r| r.start).min().unwrap_or(u64::MAX);
        let read = self.base + self.pos as u64;
        self.ready.sort_by_key(|splat| splat.start);
        let count = self
            .ready
            .iter()
            .take_while(|splat| splat.start < first_open && splat.end + PANIC_REACH < read)
            .count();
        self.ready.drain(..count).collect()
    }

    /// All that is finished, in order.
    fn release_all(&mut self) -> Vec<Splat> {
        self.ready.sort_by_key(|splat| splat.start);
        std::mem::take(&mut self.ready)
    }

    /// A panic at `at`: which of the finished reports did it end?
    fn panicked(&mut self, at: u64, text: &[u8]) {
        let hang = [&b"hung_task"[..], b"softlockup", b"RCU Stall", b"hard LOCKUP", b"Hard LOCKUP"]
            .iter()
            .any(|word| memmem::find(text, word).is_some());
        for splat in &mut self.ready {
            let reach = if hang && splat.kind == Kind::Hang { PANIC_REACH } else { NEAR };
            splat.panicked |= at <= splat.end + reach;
        }
    }

    /// Passes over a block in which no report begins, without taking it in: almost all blocks.
    fn skim(&mut self, block: &[u8]) -> bool {
        let read = self.base + self.pos as u64;
        // A candidate that is known may lie in a line that is not complete yet.
        if !self.open.is_empty() || self.candidate.is_some() {
            return false;
        }
        let inside = next_candidate(block);
        // A needle may begin in what was taken in and end here.
        let mut seam = [0; 2 * NEEDLE_REACH];
        let before = self.buf.len().min(NEEDLE_REACH);
        let behind = block.len().min(NEEDLE_REACH);
        seam[..before].copy_from_slice(&self.buf[self.buf.len() - before..]);
        seam[before..before + behind].copy_from_slice(&block[..behind]);
        if next_candidate(&seam[..before + behind]).is_some_and(|at| at < before) {
            return false;
        }
        if let Some(at) = inside {
            // Found once is enough.
            self.candidate = Some(self.base + (self.buf.len() + at) as u64);
            self.scanned = self.base + (self.buf.len() + at) as u64;
            return false;
        }
        let begin = self.base + self.buf.len() as u64;
        let end = begin + block.len() as u64;
        let line = match memrchr(b'\n', block) {
            Some(feed) => begin + feed as u64 + 1,
            None => read.max(end.saturating_sub(MAX_LINE as u64)),
        };
        let keep = line.saturating_sub(LOOK_BACK as u64);
        if keep >= begin {
            self.buf.clear();
            self.buf.extend_from_slice(&block[(keep - begin) as usize..]);
            self.base = keep;
        } else {
            self.buf.extend_from_slice(block);
        }
        self.pos = (line - self.base) as usize;
        self.candidate = None;
        self.scanned = end;
        self.compact();
        true
    }

    fn compact(&mut self) {
        let drop = self.pos.saturating_sub(LOOK_BACK);
        if drop >= BLOCK / 2 {
            self.buf.drain(..drop);
            self.base += drop as u64;
            self.pos -= drop;
        }
    }

    /// The index of the next candidate at or after `from`.
    fn next_candidate(&mut self, from: usize) -> Option<usize> {
        let here = self.base + from as u64;
        if let Some(candidate) = self.candidate
            && candidate >= here
        {
            return Some((candidate - self.base) as usize);
        }
        if self.candidate.is_none() && self.scanned == self.base + self.buf.len() as u64 {
            return None;
        }
        // A needle may begin in what was scanned and end in what was not there yet.
        let reach = NEEDLE_REACH as u64;
        let seen = self.scanned.saturating_sub(reach).max(here);
        let start = (seen - self.base) as usize;
        let found = next_candidate(self.buf.get(start..)?).map(|at| start + at);
        self.scanned = self.base + self.buf.len() as u64;
        self.candidate = found.map(|at| self.base + at as u64);
        if found.is_some() {
            self.scanned = self.candidate.unwrap_or(self.scanned);
        }
        found
    }

    fn read(&mut self, eof: bool) {
        loop {
            if self.open.is_empty() {
                let Some(at) = self.next_candidate(self.pos) else {
                    // Up to here nothing begins; but a line may be cut at the end of the block.
                    let rest = &self.buf[self.pos..];
                    if let Some(feed) = memrchr(b'\n', rest) {
                        self.pos += feed + 1;
                    } else if rest.len() > 2 * MAX_LINE {
                        self.pos = self.buf.len() - MAX_LINE;
                    }
                    return;
                };
                let floor = self.pos.max(at.saturating_sub(LOOK_BACK));
                let start = memrchr(b'\n', &self.buf[floor..at]).map_or(floor, |nl| floor + nl + 1);
                self.pos = start;
            }
            let Some(end) = self.line_end(eof) else {
                return;
            };
            self.line(self.pos, end);
            self.pos = end;
            if end < self.buf.len() && self.buf[end] == b'\n' {
                self.pos += 1;
            }
            if eof && self.pos >= self.buf.len() {
                return;
            }
        }
    }

    /// Where the line at `pos` ends, if that can be told.
    fn line_end(&self, eof: bool) -> Option<usize> {
        let rest = &self.buf[self.pos..];
        let window = &rest[..rest.len().min(MAX_LINE)];
        match memchr(b'\n', window) {
            Some(feed) => Some(self.pos + feed),
            None if rest.len() >= MAX_LINE => Some(self.pos + MAX_LINE),
            None if eof && !rest.is_empty() => Some(self.buf.len()),
            None => None,
        }
    }

    /// Reads the line in `start..end`.
    fn line(&mut self, start: usize, end: usize) {
        let worth = self.next_candidate(start).is_some_and(|at| at < end);
        if !worth && self.open.is_empty() {
            return;
        }
        // Taken out while its messages are handed around, which need the rest of the parser.
        let buf = std::mem::take(&mut self.buf);
        let line = &buf[start..end];
        self.journal |= is_record(line);
        // Records are parted by empty lines.
        if !(self.journal && (is_field(line) || line.trim_ascii().is_empty())) {
            let mut decoded = std::mem::take(&mut self.decoded);
            if decode(line, &mut decoded) {
                let whole = (self.base + start as u64, self.base + end as u64);
                for piece in decoded.split(|b| *b == b'\n') {
                    messages(piece, |m| self.hear(&buf, start, piece, m, Some(whole), worth));
                }
            } else {
                messages(line, |m| self.hear(&buf, start, line, m, None, worth));
            }
            self.decoded = decoded;
        }
        self.buf = buf;
        if self.open.iter().any(Report::over) {
            for report in std::mem::take(&mut self.open) {
                if report.over() {
                    self.close(report);
                } else {
                    self.open.push(report);
                }
            }
        }
    }

    /// One message of a line. `whole` is where the line lies on the console, if the message is not
    /// printed there as it is read.
    fn hear(
        &mut self,
        buf: &[u8],
        line_start: usize,
        line: &[u8],
        m: Message,
        whole: Option<(u64, u64)>,
        worth: bool,
    ) {
        if m.program {
            for report in &mut self.open {
                report.age += 1;
                report.foreign += u32::from(report.origin.is_none() || report.ended);
            }
            return;
        }
        let at = self.base + line_start as u64;
        let (at, until) = whole.unwrap_or((at + m.start as u64, at + m.end as u64));
        let heard = Heard { message: &line[m.start..m.end], text: m.text - m.start, at, until, m };
        match worth.then(|| find_head(heard.words())).flatten() {
            Some(found) => {
                // Heads that join a report, or end none, are no reason to keep it open for ever.
                self.open.iter_mut().for_each(|report| report.age += 1);
                self.head(buf, line_start, &heard, found);
            }
            None => self.message(&heard),
        }
    }

    /// A message that opens no report.
    fn message(&mut self, heard: &Heard<'_>) {
        let words = heard.words();
        let origin = heard.m.origin;
        if words.starts_with(b"** replaying previous printk message **") {
            // The message before was cut, and comes again.
            for report in &mut self.open {
                report.again |= report.lines.len() == report.head + 1;
            }
        }
        // An untagged message belongs to the latest report only.
        let mut taken = false;
        for report in self.open.iter_mut().rev() {
            report.age += 1;
            if words.starts_with(b"NMI backtrace for cpu") && origin.is_some() {
                report.also = origin;
            }
            if taken || !report.takes(origin) {
                report.foreign += u32::from(report.origin.is_none() || report.ended);
                continue;
            }
            taken = true;
            if report.raw.len() + heard.message.len() > MAX_RAW {
                report.flooded = true;
                continue;
            }
            report.add(heard.message, heard.text);
            match belonging(report.bare(words)) {
                Belongs::Frame => {
                    // Not the instruction pointer, which is printed before the stack.
                    report.stack = report.stack || parse_frame(report.bare(words)).is_some();
                    report.keep(heard.until);
                }
                Belongs::Yes => report.keep(heard.until),
                Belongs::Last => {
                    report.keep(heard.until);
                    report.ended = true;
                }
                Belongs::No => report.foreign += 1,
            }
        }
    }

    /// A message with a head in it.
    fn head(&mut self, buf: &[u8], line_start: usize, heard: &Heard<'_>, found: Found) {
        let row = found.row;
        let origin = heard.m.origin;
        let words = heard.words();
        let joins =
            self.open.iter().rposition(|report| report.takes(origin) && joins(report, row, words));
        if let Some(index) = joins {
            if row.role == Role::Panic {
                for report in &mut self.open {
                    report.panicked |= report.foreign < PATIENCE_AFTER_END;
                }
                self.open[index].panicked = true;
                self.panicked(heard.at, words);
            }
            let report = &mut self.open[index];
            report.ended |= row.role == Role::Panic;
            if report.raw.len() + heard.message.len() <= MAX_RAW {
                report.add(heard.message, heard.text);
                report.keep(heard.until);
                if says_more(report.row, row) {
                    report.head = report.lines.len() - 1;
                    report.row = row;
                    report.captures = found.captures;
                    report.found = found.at;
                }
            }
            return;
        }
        if row.name == "reboot" && !self.unexpected(buf, line_start, heard.at, heard.text) {
            return;
        }
        if row.role == Role::NeedsStack && self.open.iter().any(|r| r.takes(origin) && !r.ended) {
            // Too weak a sign to end a report that is being printed.
            self.message(heard);
            return;
        }
        if self.is_wall_copy(buf, line_start, heard.at, row.name) {
            return;
        }
        if row.name == "memory-leak" {
            // What was counted is now shown.
            self.ready.retain(|splat| splat.row != "kmemleak-count" || is_far(splat, heard.at));
        }
        let again = self.heard_before(heard, found.at);
        if row.role == Role::Panic && !again {
            self.panicked(heard.at, words);
        }
        let mut within = false;
        let mut index = 0;
        let one_line = row.role == Role::OneLine;
        while !one_line && index < self.open.len() {
            if self.open[index].takes(origin) || self.open.len() >= MAX_OPEN {
                let report = self.open.remove(index);
                // Not even its own stack was out: something in the printing went wrong.
                within |= report.takes(origin) && !report.stack && !report.ended;
                self.close(report);
            } else {
                index += 1;
            }
        }
        let mut report = Report {
            row,
            captures: found.captures,
            found: found.at,
            again,
            kernel: heard.m.kernel,
            guess: guess(&words[..found.at]),
            seconds: stamp_before(&heard.message[..heard.text]).and_then(seconds),
            start: heard.at,
            end: heard.at,
            origin,
            raw: Vec::with_capacity(8192),
            lines: Vec::with_capacity(128),
            head: 0,
            panicked: row.role == Role::Panic,
            within,
            flooded: false,
            stack: false,
            ended: false,
            foreign: 0,
            age: 0,
            also: None,
            kept: (0, 0),
        };
        look_back(buf, line_start, self.base, &mut report);
        report.head = report.lines.len();
        report.add(heard.message, heard.text);
        report.keep(heard.until);
        if one_line {
            self.close(report);
        } else {
            self.open.push(report);
        }
    }

    /// Was this very message printed before, at the same time? A log may hold a journal and a dmesg
    /// of one boot.
    fn heard_before(&mut self, heard: &Heard<'_>, found: usize) -> bool {
        let Some(stamp) = stamp_before(&heard.message[..heard.text]) else { return false };
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in stamp.iter().chain(&heard.words()[found..]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if self.heads.contains(&hash) {
            return true;
        }
        if self.heads.len() == MAX_HEADS {
            self.heads.pop_front();
        }
        self.heads.push_back(hash);
        false
    }

    /// syslogd writes what is urgent to every terminal, under a line that says so.
    fn is_wall_copy(&self, buf: &[u8], line_start: usize, at: u64, row: &str) -> bool {
        let before = &buf[line_start.saturating_sub(160)..line_start];
        let before = before.trim_ascii_end();
        let line = memrchr(b'\n', before).map_or(before, |feed| &before[feed + 1..]);
        memmem::find(line, b"Message from syslogd@").is_some()
            && (self.open.iter().any(|report| report.row.name == row)
                || self.ready.iter().any(|splat| splat.row == row && !is_far(splat, at)))
    }

    /// A boot: did a kernel run before it that did not announce its end?
    fn unexpected(&self, buf: &[u8], line_start: usize, at: u64, text: usize) -> bool {
        let ran = self.first_stamp.found.is_some_and(|stamp| stamp < at);
        let before = &buf[line_start.saturating_sub(LOOK_BACK)..line_start];
        let announced =
            [&b"reboot: "[..], b"Rebooting in ", b"Kernel panic - not syncing", b"kexec"]
                .iter()
                .any(|word| memmem::find(before, word).is_some());
        // The decompressor's own words have no time stamp.
        ran && !announced && text == 0
    }

    fn close(&mut self, mut report: Report) {
        let (lines, raw) = report.kept;
        report.lines.truncate(lines);
        report.raw.truncate(raw);
        if report.again || report.is_prose() {
            return;
        }
        report.learn();
        if report.row.role == Role::NeedsStack && !has_stack(&report) && !report.is_kernels() {
            return;
        }
        let mut splat = build(report);
        if !self.lockdep_off && says_off(&splat) {
            splat.notes.push(Note::LockdepOffBefore);
            splat.notes.sort_unstable();
        }
        self.lockdep_off |= splat.notes.contains(&Note::LockdepOff);
        self.ready.push(splat);
    }
}

/// Is `at` too far behind a splat to have to do with it? It may have been handed out already, or not:
/// that depends on the pieces the console arrives in.
fn is_far(splat: &Splat, at: u64) -> bool {
    splat.end + PANIC_REACH < at
}

/// A message, and where it lies on the console.
struct Heard<'l> {
    /// With its prefixes.
    message: &'l [u8],
    /// Where its text begins in `message`.
    text: usize,
    at: u64,
    until: u64,
    m: Message,
}

impl Heard<'_> {
    fn words(&self) -> &[u8] {
        &self.message[self.text..]
    }
}

/// The shape of what stands before a head, unless the kernel itself wrote it.
fn guess(before: &[u8]) -> Option<Shape> {
    let shape = Shape::of(before);
    (!opens_message(before) && shape.is_marked()).then_some(shape)
}

/// The whole seconds of a time stamp.
fn seconds(stamp: &[u8]) -> Option<u64> {
    let whole = stamp.split(|b| *b == b'.').next()?;
    std::str::from_utf8(whole).ok()?.parse().ok()
}

/// The kernel's time stamp in a prefix, as digits.
fn stamp_before(prefix: &[u8]) -> Option<&[u8]> {
    let open = memrchr(b'[', &prefix[..memrchr(b'.', prefix)?])?;
    let close = open + memchr(b']', &prefix[open..])?;
    let stamp = prefix[open + 1..close].trim_ascii();
    stamp.iter().all(|b| b.is_ascii_digit() || *b == b'.').then_some(stamp)
}

/// Finds the first `[    1.234567]` of a console, however the bytes arrive.
#[derive(Debug, Default)]
struct Stamp {
    found: Option<u64>,
    at: u64,
    /// How much of a stamp has been seen.
    seen: Seen,
}

#[derive(Debug, Default, Clone, Copy)]
enum Seen {
    #[default]
    Nothing,
    Bracket,
    Seconds,
    Fraction(u8),
}

impl Stamp {
    fn look(&mut self, bytes: &[u8]) {
        if self.found.is_some() {
            return;
        }
        let mut index = 0;
        while index < bytes.len() {
            if matches!(self.seen, Seen::Nothing) {
                let Some(open) = memchr(b'[', &bytes[index..]) else { break };
                index += open;
            }
            self.seen = match (self.seen, bytes[index]) {
                (_, b'[') => Seen::Bracket,
                (Seen::Bracket, b' ') => Seen::Bracket,
                (Seen::Bracket | Seen::Seconds, b'0'..=b'9') => Seen::Seconds,
                (Seen::Seconds, b'.') => Seen::Fraction(0),
                (Seen::Fraction(digits), b'0'..=b'9') if digits < 6 => Seen::Fraction(digits + 1),
                (Seen::Fraction(6), b']') => {
                    self.found = Some(self.at + index as u64 + 1);
                    return;
                }
                _ => Seen::Nothing,
            };
            index += 1;
        }
        self.at += bytes.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::report::MAX_AGE;
    use super::*;

    const WARN: &str = "[    1.000000] quiet\n\
        [    1.000000] ------------[ cut here ]------------\n\
        [    1.000001] WARNING: CPU: 0 PID: 1 at fs/x.c:28 f+0x1/0x20\n\
        [    1.000001] Modules linked in:\n\
        [    1.000001] CPU: 0 PID: 1 Comm: init Not tainted 6.12.0 #1\n\
        [    1.000001] RIP: 0010:f+0x1/0x20\n\
        [    1.000001] Call Trace:\n\
        [    1.000001]  <TASK>\n\
        [    1.000001]  g+0x1/0x20\n\
        [    1.000001]  do_syscall_64+0x1/0x20\n\
        [    1.000001]  </TASK>\n\
        [    1.000001] ---[ end trace 0000000000000000 ]---\n\
        [    2.000000] quiet again\n";

    /// The size of the pieces a console arrives in changes nothing.
    #[test]
    fn pieces_make_no_difference() {
        let log: String = (1..=5).map(|n| WARN.replace("[    1.", &format!("[    {n}."))).collect();
        let whole = parse(log.as_bytes());
        assert_eq!(whole.len(), 5);
        for size in [1, 2, 7, 31, 100, 1000] {
            let mut parser = Parser::new();
            let mut splats = Vec::new();
            for piece in log.as_bytes().chunks(size) {
                splats.extend(parser.push(piece));
            }
            splats.extend(parser.finish());
            assert_eq!(splats, whole, "pieces of {size}");
        }
    }

    /// The offsets are those of the console, and the introduction belongs to the report.
    #[test]
    fn offsets_are_the_consoles() {
        let splats = parse(WARN.as_bytes());
        let text = &WARN[splats[0].start as usize..splats[0].end as usize];
        assert!(text.starts_with("[    1.000000] ------------[ cut"));
        assert!(text.ends_with("end trace 0000000000000000 ]---"));
    }

    /// A live console is never held back for long.
    #[test]
    fn memory_is_bounded() {
        let mut parser = Parser::new();
        let mut count = 0;
        let flood = "[    1.000001]  f+0x1/0x2\n".repeat(1000);
        parser.push(WARN.as_bytes());
        for _ in 0..200 {
            count += parser.push(flood.as_bytes()).len();
            assert!(parser.held() < 2 << 20, "{}", parser.held());
        }
        assert!(count > 0);
    }

    /// What is held does not grow with the log: neither with the number of its reports nor with heads
    /// that end no report.
    #[test]
    fn memory_does_not_grow_with_the_log() {
        let peak = |log: &dyn Fn(usize) -> String, times: usize| {
            let mut parser = Parser::new();
            let (mut held, mut count) = (0, 0);
            for time in 0..times {
                count += parser.push(log(time).as_bytes()).len();
                held = held.max(parser.held());
            }
            (held, count)
        };
        let reports = |time: usize| WARN.replace("[    1.0", &format!("[{time:>5}.0"));
        let leaks = |time: usize| match time {
            0 => "[    1.000000][    T1] BUG: Bad page state in process a  pfn:00001\n".to_owned(),
            _ => format!("[{time:>5}.000000][    T2] BUG: Bad rss-counter state mm:{time} val:1\n"),
        };
        for log in [&reports as &dyn Fn(usize) -> String, &leaks] {
            let (short, few) = peak(log, MAX_AGE as usize + 500);
            let (long, many) = peak(log, 2 * MAX_AGE as usize + 1_000);
            assert!(many > few + MAX_AGE as usize, "{few} and {many}");
            assert!(long <= short, "{short} bytes are held, then {long}");
        }
    }

    /// A line that is not complete when the console falls silent is read when the rest comes.
    #[test]
    fn a_flush_forgets_no_line() {
        let mut parser = Parser::new();
        let panic = "Kernel panic - not syncing: a reason that is longer than any of the needles";
        let mut splats = parser.push(format!("[    1.000000] {panic} one\n").as_bytes());
        splats.extend(parser.push(format!("[    2.000000] {panic}").as_bytes()));
        splats.extend(parser.flush());
        splats.extend(parser.push(b" two\n"));
        splats.extend(parser.finish());
        let titles: Vec<&str> = splats.iter().map(|splat| splat.title.as_str()).collect();
        assert_eq!(titles.len(), 2, "{titles:?}");
        assert!(titles[1].ends_with("needles two"), "{titles:?}");
    }

    /// A line of many megabytes is neither kept nor read twice.
    #[test]
    fn a_long_line_is_cut() {
        let mut log = vec![b'x'; 10 << 20];
        log.extend_from_slice(b"\n");
        log.extend_from_slice(WARN.as_bytes());
        let mut parser = Parser::new();
        let mut splats = parser.push(&log);
        assert!(parser.held() < 2 << 20);
        splats.extend(parser.finish());
        assert_eq!(splats.len(), 1);
        assert_eq!(splats[0].start as usize, (10 << 20) + 1 + 21);
    }

    /// A dmesg behind a journal of the same boot shows the same events once more.
    #[test]
    fn a_reprint_is_no_second_event() {
        assert_eq!(parse(WARN.repeat(3).as_bytes()).len(), 1);
        let journal = WARN.replace("[    1", "Feb 10 12:59:06 host kernel: [    1");
        assert_eq!(parse(format!("{journal}{WARN}").as_bytes()).len(), 1);
    }

    /// What syslogd writes to every terminal is a copy.
    #[test]
    fn a_wall_copy_is_no_second_event() {
        let copy = "\nMessage from syslogd@host at Feb 10 12:59:06 ...\n \
            kernel:[    1.000001] WARNING: CPU: 0 PID: 1 at fs/x.c:28 f+0x1/0x20\n";
        assert_eq!(parse(format!("{WARN}{copy}").as_bytes()).len(), 1);
    }

    /// What was handed out already is forgotten, and so is what could have been.
    #[test]
    fn what_is_far_behind_is_forgotten_in_pieces_or_not() {
        let quiet = "[    5.000000] quiet\n".repeat(8_000);
        let copy = "\nMessage from syslogd@host at Feb 10 12:59:06 ...\n \
            kernel:[    9.000001] WARNING: CPU: 0 PID: 1 at fs/x.c:28 f+0x1/0x20\n";
        let log = format!("{WARN}{quiet}{copy}");
        let whole = parse(log.as_bytes());
        assert_eq!(whole.len(), 2, "so far behind it is no copy of the first");
        let mut parser = Parser::new();
        let pieces = log.as_bytes().chunks(1000).flat_map(|piece| parser.push(piece));
        let mut splats: Vec<Splat> = pieces.collect();
        splats.extend(parser.finish());
        assert_eq!(splats, whole);
    }

    /// A driver that says Oops has none; the kernel numbers its own.
    #[test]
    fn an_oops_has_a_number() {
        let count = |line: &str| parse(format!("[   42.000000] {line}\n").as_bytes()).len();
        assert_eq!(count("floppy0: Oops: Flop reset data was not initialized, skipping"), 0);
        assert_eq!(count("Oops: 0002 [#1] PREEMPT SMP"), 1);
        assert_eq!(count("Oops: Kernel access of bad area, sig: 11 [#1]"), 1);
        assert_eq!(count("Oops: 0002"), 1);
        assert_eq!(count("Oops[#1]:"), 1);
    }

    /// Half a report at the end of the log is a report.
    #[test]
    fn half_a_report_is_one() {
        for cut in (60..WARN.len()).step_by(13) {
            let splats = parse(&WARN.as_bytes()[..cut]);
            assert!(splats.len() <= 1);
        }
    }
}
