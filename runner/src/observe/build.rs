//! The lines of one report become a [`Splat`].

use crate::observe::blame;
use crate::observe::frame::{Frame, Stack, callee, may_be_frame, parse_frame};
use crate::observe::line::number;
use crate::observe::lockdep::{self, LockdepReport};
use crate::observe::stream::Report;
use crate::observe::table::{Blame, KindRule, Role, Row};
use crate::observe::{Context, Kind, Splat};
use memchr::memmem;

/// A report taken apart into stacks and what stands between them.
pub(crate) struct Body<'t> {
    /// The text of every line from the head on.
    pub(crate) texts: Vec<&'t [u8]>,
    pub(crate) stacks: Vec<Placed>,
    /// The instruction pointer, where the report names it outside of a stack.
    pub(crate) ip: Option<Frame>,
    ip_named: bool,
}

/// A stack, and the line that introduced it.
pub(crate) struct Placed {
    pub(crate) stack: Stack,
    /// The index in [`Body::texts`] of the line in `stack.label`.
    label_at: usize,
    /// The instruction pointer printed before it.
    at: Option<Frame>,
    /// It is the stack of a thread that only reports, or of a bystander.
    bystander: bool,
}

impl Body<'_> {
    /// The stack that the line `index` introduces.
    pub(crate) fn stack_at(&self, index: usize) -> Option<&Stack> {
        self.stacks
            .iter()
            .find(|placed| placed.label_at == index)
            .map(|placed| &placed.stack)
    }

    fn labelled(&self, test: impl Fn(&str) -> bool) -> Option<&Stack> {
        self.stacks
            .iter()
            .find(|placed| test(&placed.stack.label))
            .map(|placed| &placed.stack)
    }

    /// The stack of the event itself.
    fn main(&self) -> Option<&Stack> {
        self.stacks
            .iter()
            .find(|placed| !placed.bystander && is_trace(&placed.stack.label))
            .or_else(|| {
                self.stacks
                    .iter()
                    .find(|placed| !placed.bystander && placed.stack.label.is_empty())
            })
            .map(|placed| &placed.stack)
    }
}

fn is_trace(label: &str) -> bool {
    ["Call Trace", "Call trace", "Backtrace", "backtrace"]
        .iter()
        .any(|word| label.starts_with(word))
}

/// Does a line introduce a stack?
fn introduces(text: &[u8]) -> bool {
    const WORDS: &[&[u8]] = &[
        b"Call Trace",
        b"Call trace",
        b"Backtrace",
        b"backtrace",
        b"stack backtrace",
        b"-> #",
        b"Allocated by",
        b"Freed by",
        b"Last potentially",
        b"Second to last",
        b"Uninit was",
        b"Local variable",
        b"NMI backtrace",
        b"INFO: task",
        b"allocated by",
        b"freed by",
        b"Stack trace",
        b"RCU grace-period kthread",
        b"Preemption disabled at",
        b"last enqueue",
    ];
    let text = text.trim_ascii();
    let text = text.strip_prefix(b"rcu: ").unwrap_or(text);
    let text = text.strip_prefix(b"\t").unwrap_or(text);
    WORDS.iter().any(|word| text.starts_with(word))
        || text.ends_with(b" at:")
        || (text.ends_with(b":")
            && (memmem::find(text, b" by ").is_some() || memmem::find(text, b"-irq-").is_some()))
}

fn take_apart(report: &Report) -> Body<'_> {
    let mut body = Body {
        texts: Vec::with_capacity(report.lines.len() - report.head.min(report.lines.len())),
        stacks: Vec::new(),
        ip: None,
        ip_named: false,
    };
    let mut label = (String::new(), 0);
    let mut fresh = true;
    let mut bystander = false;
    let mut last_ip = None;
    for line in report.head..report.lines.len() {
        let text = report.text(line);
        let index = body.texts.len();
        body.texts.push(text);
        if index == 0 || text.is_empty() {
            continue;
        }
        if let Some(frame) = frame_of(text) {
            let callee = if fresh { callee(text) } else { None };
            if fresh {
                body.stacks.push(Placed {
                    stack: Stack {
                        label: std::mem::take(&mut label.0),
                        frames: Vec::with_capacity(16),
                    },
                    label_at: label.1,
                    at: last_ip.take(),
                    bystander,
                });
                fresh = false;
                bystander = false;
            }
            if let Some(placed) = body.stacks.last_mut() {
                placed.stack.frames.extend(callee);
                placed.stack.frames.push(frame);
            }
            continue;
        }
        if let Some(frame) = interrupted(text)
            && (fresh || body.stacks.is_empty())
        {
            last_ip = Some(frame);
        }
        instruction_pointer(text, &mut body);
        if !fresh
            && let Some(frame) = interrupted(text)
            && let Some(placed) = body.stacks.last_mut()
        {
            placed.stack.frames.push(frame);
        }
        if introduces(text) {
            let trimmed = text.trim_ascii();
            if memmem::find(trimmed, b"grace-period kthread").is_some() {
                bystander = true;
            } else if trimmed.starts_with(b"NMI backtrace") || trimmed.starts_with(b"INFO: task") {
                bystander = false;
            }
            label = (String::from_utf8_lossy(trimmed).into_owned(), index);
            fresh = true;
        }
    }
    body
}

/// A frame; lines that only mention one (`RIP: 0010:f+0x1/0x2`) are none.
fn frame_of(text: &[u8]) -> Option<Frame> {
    if !may_be_frame(text) {
        return None;
    }
    parse_frame(text)
}

/// The function that an interrupt or exception hit, whose registers stand inside of the stack.
fn interrupted(text: &[u8]) -> Option<Frame> {
    let rest = text.trim_ascii().strip_prefix(b"RIP: 0010:")?;
    parse_frame(rest).filter(|frame| frame.offset.is_some() || frame.source.is_some())
}

/// `RIP: 0010:f+0x1/0x2`, `IP: [<…>] f+…`, `PC is at f+…`, `pc : f+…`, `epc : f+…`, `NIP [..] f+…`.
fn instruction_pointer(text: &[u8], body: &mut Body<'_>) {
    if body.ip_named {
        return;
    }
    let text = text.trim_ascii();
    let rest = if let Some(rest) = text.strip_prefix(b"RIP: ") {
        let rest = match rest.first() {
            Some(b'0'..=b'9') => match memchr::memchr(b':', rest) {
                // User space: the fault's registers come first, so this is the entry's.
                Some(4) if &rest[..4] == b"0033" => return,
                Some(colon) => &rest[colon + 1..],
                None => rest,
            },
            _ => rest,
        };
        // `RIP: 0010:[<…>]  [<…>] f+0x1/0x2`
        rest
    } else if let Some(rest) = text.strip_prefix(b"EIP: ") {
        match memmem::find(rest, b" ") {
            Some(blank) if rest[..blank].contains(&b':') => &rest[blank..],
            _ => rest,
        }
    } else if let Some(rest) = text
        .strip_prefix(b"PC is at ")
        .or_else(|| text.strip_prefix(b"pc : "))
        .or_else(|| text.strip_prefix(b"epc : "))
        .or_else(|| text.strip_prefix(b"IP: "))
        .or_else(|| text.strip_prefix(b"NIP "))
    {
        rest
    } else {
        return;
    };
    body.ip_named = true;
    body.ip = parse_frame(rest).filter(|frame| frame.offset.is_some() || frame.source.is_some());
}

/// Was a stack printed with this report?
pub(crate) fn has_stack(report: &Report) -> bool {
    (report.head + 1..report.lines.len()).any(|line| frame_of(report.text(line)).is_some())
}

/// Makes the splat of a finished report.
pub(crate) fn build(report: &Report) -> Splat {
    let row = report.row;
    let body = take_apart(report);
    let head = report.text(report.head);
    let lockdep = lockdep::read(row, &body);
    let access = access(&body);
    let kind = kind(row.kind, report, access, lockdep.as_ref());
    let blamed = blamed(row, report, &body, lockdep.as_ref());

    let needs_frame = row.title.contains("{F}");
    let mut corrupted = needs_frame && blamed.is_none();
    let flood = body
        .texts
        .iter()
        .any(|text| memmem::find(text, b"printk messages dropped").is_some());
    corrupted |= flood || interleaved(row, &body) || (needs_frame && lacks_stack(row, &body));

    let fill = Fill {
        report,
        head,
        access,
        body: &body,
    };
    let bare_lockdep = row.kind == KindRule::LockdepBody && kind != Kind::Lockdep;
    let raw_name = blamed.as_ref().map(|frame| frame.name().to_owned());
    let name = raw_name.as_deref().map(blame::title_name);
    let title = if bare_lockdep {
        // The head alone, nothing behind it: there is no more to be said.
        bare(head)
    } else {
        fill.title(row.title, name.as_deref())
    };
    let mut alt_titles = Vec::new();
    if name != raw_name && needs_frame {
        alt_titles.push(fill.title(row.title, raw_name.as_deref()));
    }
    if !row.class.is_empty() && !bare_lockdep {
        let class = class(kind, row.class);
        alt_titles.push(fill.title(class, name.as_deref()));
        if name != raw_name {
            alt_titles.push(fill.title(class, raw_name.as_deref()));
        }
    }
    alt_titles.retain(|alt| *alt != title && !alt.contains('{'));

    let who = who(report, &body, head);
    let frames = main_frames(row.blame, &body);
    let source = source(report, head, &body);
    let context = context(&body, &frames);
    let mut splat = Splat {
        title,
        alt_titles,
        kind,
        row: row.name.to_owned(),
        function: name,
        source,
        cpu: who.cpu,
        comm: who.comm,
        pid: who.pid,
        context,
        corrupted,
        panicked: report.panicked,
        notes: Vec::new(),
        start: report.start,
        end: report.end,
        frames,
        stacks: body.stacks.into_iter().map(|placed| placed.stack).collect(),
        lockdep,
        raw: String::from_utf8_lossy(&report.raw).into_owned(),
    };
    splat.notes = crate::observe::blind::notes(&splat, row, report.within, report.flooded || flood);
    splat
}

/// A stack that belongs to the report is missing: the log is cut.
fn lacks_stack(row: &Row, body: &Body<'_>) -> bool {
    let expected = match row.blame {
        Blame::Nobody | Blame::HeadOnly | Blame::HeldLock | Blame::LastFunction => false,
        // The first line names the function; the stack is a courtesy.
        Blame::Head if row.role == Role::Panic => false,
        Blame::Trace
        | Blame::Fault
        | Blame::Head
        | Blame::HeadFirst
        | Blame::LockSites
        | Blame::IrqSafeSite
        | Blame::Stall
        | Blame::Waiter
        | Blame::FirstStack
        | Blame::CallerAndEntry => true,
    };
    expected
        && !body
            .stacks
            .iter()
            .any(|placed| placed.stack.frames.iter().any(|frame| !frame.unreliable))
}

/// Another stack is printed into this one, and nothing tells their lines apart: fault injection
/// dumps the stack of every allocation it fails, at any time.
fn interleaved(row: &Row, body: &Body<'_>) -> bool {
    row.blame != Blame::Nobody
        && body
            .texts
            .iter()
            .any(|text| text.starts_with(b"FAULT_INJECTION: forcing a failure"))
}

/// The words of a head without its prefix and brackets, as a title.
fn bare(head: &[u8]) -> String {
    let text = String::from_utf8_lossy(head);
    let text = text.trim();
    let text = text.strip_prefix("[ ").unwrap_or(text);
    let text = text.strip_suffix(" ]").unwrap_or(text);
    text.trim_end_matches(['.', '!']).to_owned()
}

fn class(kind: Kind, class: &'static str) -> &'static str {
    match kind {
        Kind::KasanInvalidFree | Kind::KfenceInvalidFree => "invalid-free in {F}",
        Kind::KfenceMemoryCorruption | Kind::Ubsan => "",
        _ => class,
    }
}

fn kind(
    rule: KindRule,
    report: &Report,
    access: Option<Access>,
    lockdep: Option<&LockdepReport>,
) -> Kind {
    let what = report
        .captures
        .get("what", report.text(report.head))
        .unwrap_or(b"");
    let has = |word: &str| memmem::find(what, word.as_bytes()).is_some();
    let write = access == Some(Access::Write);
    match rule {
        KindRule::Is(kind) => kind,
        KindRule::Kasan if has("free") && !has("use-after-free") => Kind::KasanInvalidFree,
        KindRule::Kasan if has("use-after-free") => {
            if write {
                Kind::KasanUseAfterFreeWrite
            } else {
                Kind::KasanUseAfterFreeRead
            }
        }
        KindRule::Kasan if has("null-ptr-deref") => {
            if write {
                Kind::KasanNullWrite
            } else {
                Kind::KasanNullRead
            }
        }
        KindRule::Kasan => {
            if write {
                Kind::KasanWrite
            } else {
                Kind::KasanRead
            }
        }
        KindRule::Kfence if has("memory corruption") => Kind::KfenceMemoryCorruption,
        KindRule::Kfence if has("invalid free") => Kind::KfenceInvalidFree,
        KindRule::Kfence if has("use-after-free write") => Kind::KfenceUseAfterFreeWrite,
        KindRule::Kfence if has("use-after-free") => Kind::KfenceUseAfterFreeRead,
        KindRule::Kfence if has("write") => Kind::KfenceWrite,
        KindRule::Kfence if has("read") => Kind::KfenceRead,
        KindRule::Kfence => Kind::KfenceUnknown,
        KindRule::Kmsan if has("infoleak") || has("info-leak") => Kind::KmsanInfoLeak,
        KindRule::Kmsan if has("uninit-value") => Kind::KmsanUninitValue,
        KindRule::Kmsan if has("use-after-free") => Kind::KmsanUseAfterFreeRead,
        KindRule::Kmsan => Kind::KmsanUnknown,
        KindRule::Kcsan if has("data-race") => Kind::KcsanDataRace,
        KindRule::Kcsan if has("assert") => Kind::KcsanAssert,
        KindRule::Kcsan => Kind::KcsanUnknown,
        KindRule::Ubsan if has("out-of-bounds") && !has("shift") => Kind::MemorySafetyUbsan,
        KindRule::Ubsan => Kind::Ubsan,
        KindRule::LockdepBody => {
            let told = lockdep.is_some_and(|l| !l.classes.is_empty() || l.message.is_some())
                || has_stack(report);
            if told { Kind::Lockdep } else { Kind::Warning }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// KASAN's second line: `Read of size 4 at addr …`.
fn access(body: &Body<'_>) -> Option<Access> {
    body.texts.iter().skip(1).take(12).find_map(|text| {
        let text = text.trim_ascii();
        if text.starts_with(b"Read of size") || text.starts_with(b"Read at addr") {
            Some(Access::Read)
        } else if text.starts_with(b"Write of size") || text.starts_with(b"Write at addr") {
            Some(Access::Write)
        } else {
            None
        }
    })
}

fn head_frame(report: &Report) -> Option<Frame> {
    let head = report.text(report.head);
    let text = report.captures.get("func", head)?;
    parse_frame(text).or_else(|| {
        let name = std::str::from_utf8(text).ok()?;
        Some(Frame {
            function: name.to_owned(),
            ..Frame::default()
        })
    })
}

fn main_frames(rule: Blame, body: &Body<'_>) -> Vec<Frame> {
    match rule {
        Blame::FirstStack | Blame::HeadFirst => body.stacks.first().map(|placed| &placed.stack),
        _ => body.main(),
    }
    .map(|stack| stack.frames.clone())
    .unwrap_or_default()
}

fn blamed(
    row: &Row,
    report: &Report,
    body: &Body<'_>,
    lockdep: Option<&LockdepReport>,
) -> Option<Frame> {
    let also = row.also;
    let trace: &[Frame] = body.main().map_or(&[], |stack| &stack.frames);
    match row.blame {
        Blame::Nobody => None,
        Blame::Trace | Blame::Waiter => blame::first(trace.iter(), also).cloned(),
        Blame::Fault => {
            let all: Vec<&Frame> = body.ip.iter().chain(trace).collect();
            blame::first(all.iter().copied(), also).cloned()
        }
        Blame::Head => {
            let head = head_frame(report);
            let all: Vec<&Frame> = head.iter().chain(trace).collect();
            blame::first(all.iter().copied(), also).cloned()
        }
        Blame::HeadFirst => {
            let head = head_frame(report);
            let first = body
                .stacks
                .first()
                .map_or(trace, |placed| &placed.stack.frames);
            let all: Vec<&Frame> = head.iter().chain(first).collect();
            blame::first(all.iter().copied(), also).cloned()
        }
        Blame::HeadOnly => head_frame(report),
        Blame::LockSites => {
            let lockdep = lockdep?;
            let sites = [&lockdep.acquiring, &lockdep.holding];
            let sites = sites.iter().filter_map(|used| used.as_ref()?.at.as_ref());
            let all: Vec<&Frame> = sites.chain(trace).collect();
            blame::first(all.iter().copied(), also).cloned()
        }
        Blame::HeldLock => {
            let lockdep = lockdep?;
            let sites = lockdep.held.iter().filter_map(|held| held.at.as_ref());
            let all: Vec<&Frame> = sites.chain(trace).collect();
            blame::first(all.iter().copied(), also).cloned()
        }
        Blame::IrqSafeSite => {
            let safe = body
                .labelled(|label| label.contains("-irq-safe at:") || label.contains("-safe at:"));
            let frames = safe.map_or(trace, |stack| &stack.frames);
            blame::first(frames.iter(), also).cloned()
        }
        Blame::Stall => {
            let mut stalled = body
                .stacks
                .iter()
                .filter(|placed| !placed.bystander && is_trace(&placed.stack.label))
                .filter_map(|placed| blame::dispatched(placed.at.as_ref(), &placed.stack.frames));
            stalled
                .clone()
                .find(|frame| !blame::is_machinery(&frame.function))
                .or_else(|| stalled.next())
                .or_else(|| blame::dispatched(None, trace))
                .or(body.ip.as_ref())
                .cloned()
        }
        Blame::LastFunction => {
            let name = body.texts.iter().find_map(|text| {
                let at = memmem::find(text, b"last function: ")?;
                parse_name(&text[at + 15..])
            })?;
            Some(Frame {
                function: name,
                ..Frame::default()
            })
        }
        Blame::FirstStack => {
            let stack = body.stacks.first()?;
            blame::first(stack.stack.frames.iter(), also).cloned()
        }
        Blame::CallerAndEntry => {
            let mut callers = trace.iter().filter(|frame| {
                !frame.unreliable
                    && !blame::is_machinery(&frame.function)
                    && frame.name() != "usb_submit_urb"
            });
            callers.next().cloned()
        }
    }
}

fn parse_name(text: &[u8]) -> Option<String> {
    let text = text.trim_ascii();
    let len = text
        .iter()
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'))
        .count();
    (len > 0).then(|| String::from_utf8_lossy(&text[..len]).into_owned())
}

/// Fills the holes of a title.
struct Fill<'r> {
    report: &'r Report,
    head: &'r [u8],
    access: Option<Access>,
    body: &'r Body<'r>,
}

impl Fill<'_> {
    fn title(&self, format: &str, function: Option<&str>) -> String {
        let mut title = String::with_capacity(format.len() + 32);
        let mut rest = format;
        while let Some(open) = rest.find('{') {
            title.push_str(&rest[..open]);
            let Some(close) = rest[open..].find('}') else {
                break;
            };
            let hole = &rest[open + 1..open + close];
            rest = &rest[open + close + 1..];
            match hole {
                "F" => title.push_str(function.unwrap_or("corrupted")),
                "access" => match self.access {
                    Some(Access::Read) => title.push_str(" Read"),
                    Some(Access::Write) => title.push_str(" Write"),
                    None => {}
                },
                "text" => title.push_str(&self.text()),
                "func" | "func2" => {
                    if let Some(text) = self.report.captures.get(hole, self.head) {
                        let name = parse_frame(text)
                            .map(|frame| frame.name().to_owned())
                            .or_else(|| parse_name(text))
                            .unwrap_or_default();
                        title.push_str(&name);
                    }
                }
                _ => match self.report.captures.get(hole, self.head) {
                    Some(text) => {
                        let text = String::from_utf8_lossy(text);
                        title.push_str(match text.trim() {
                            "double-free or invalid-free" | "double-free" | "invalid-free" => {
                                "invalid-free"
                            }
                            text => text,
                        });
                    }
                    None => {
                        title.push('{');
                        title.push_str(hole);
                        title.push('}');
                    }
                },
            }
        }
        title.push_str(rest);
        title
    }

    /// The report's own words: of the head, or of the line behind it. Numbers and addresses differ
    /// from boot to boot, so they have no place in a title.
    fn text(&self) -> String {
        let text = match self.report.captures.get("text", self.head) {
            Some(_) if self.report.row.name == "harness" => self.head,
            Some(text) => text,
            None => self
                .body
                .texts
                .iter()
                .skip(1)
                .find(|text| !text.trim_ascii().is_empty())
                .copied()
                .unwrap_or(b""),
        };
        generic(&String::from_utf8_lossy(text))
    }
}

/// Replaces what differs from boot to boot.
fn generic(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        if let Some(hex) = rest.strip_prefix("0x") {
            let len = hex.bytes().take_while(u8::is_ascii_hexdigit).count();
            out.push_str(if len > 4 { "ADDR" } else { "NUM" });
            at += 2 + len;
            continue;
        }
        let len = rest.bytes().take_while(u8::is_ascii_digit).count();
        if len > 0 {
            out.push_str("NUM");
            at += len;
            continue;
        }
        let Some(next) = rest.chars().next() else {
            break;
        };
        out.push(next);
        at += next.len_utf8();
    }
    out.trim().to_owned()
}

#[derive(Default)]
struct Who {
    cpu: Option<u32>,
    pid: Option<u32>,
    comm: Option<String>,
}

/// Who ran: from the head, else from the line `CPU: 0 PID: 1 Comm: init …`.
fn who(report: &Report, body: &Body<'_>, head: &[u8]) -> Who {
    let mut who = Who::default();
    let captures = &report.captures;
    who.cpu = captures.get("cpu", head).and_then(number);
    who.pid = captures.get("pid", head).and_then(number);
    who.comm = captures
        .get("comm", head)
        .map(|comm| String::from_utf8_lossy(comm).into_owned());
    for text in body.texts.iter().take(80) {
        let text = text.trim_ascii();
        if let Some(rest) = text.strip_prefix(b"CPU: ") {
            let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            who.cpu = who.cpu.or_else(|| number(&rest[..digits]));
            if let Some(at) = memmem::find(rest, b"PID: ") {
                let rest = &rest[at + 5..];
                let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
                who.pid = who.pid.or_else(|| number(&rest[..digits]));
            }
            if who.comm.is_none()
                && let Some(at) = memmem::find(rest, b"Comm: ")
            {
                let rest = &rest[at + 6..];
                let end = [&b" Not tainted"[..], b" Tainted", b" Kdump"]
                    .iter()
                    .filter_map(|word| memmem::find(rest, word))
                    .min()
                    .unwrap_or(rest.len());
                who.comm = Some(String::from_utf8_lossy(&rest[..end]).into_owned());
            }
            if who.pid.is_some() {
                break;
            }
        }
        // `Read of size 4 at addr … by task init/1`, `init/1 is trying to acquire lock:`.
        if who.pid.is_none() {
            let named = memmem::find(text, b" by task ")
                .map(|at| &text[at + 9..])
                .or_else(|| memmem::find(text, b" is trying to ").map(|at| &text[..at]));
            if let Some(named) = named
                && let Some(slash) = memchr::memrchr(b'/', named)
                && let Some(pid) = number(named[slash + 1..].trim_ascii())
            {
                who.pid = Some(pid);
                who.comm = Some(String::from_utf8_lossy(&named[..slash]).into_owned());
            }
        }
    }
    who
}

fn source(report: &Report, head: &[u8], body: &Body<'_>) -> Option<String> {
    let captures = &report.captures;
    if let (Some(file), Some(line)) = (captures.get("file", head), captures.get("line", head)) {
        let file = String::from_utf8_lossy(file);
        let file = crate::observe::frame::relative(&file);
        return Some(format!("{file}:{}", String::from_utf8_lossy(line)));
    }
    // `net/ipv6/route.c:1550 suspicious rcu_dereference_check() usage!`
    body.texts.iter().skip(1).take(8).find_map(|text| {
        memmem::find(text, b" usage!")?;
        let word = text.trim_ascii().split(|b| *b == b' ').next()?;
        let source = crate::observe::frame::source(word)?;
        Some(format!("{}:{}", source.file, source.line))
    })
}

/// What the CPU was doing, from lockdep's own marks or from the stack.
fn context(body: &Body<'_>, frames: &[Frame]) -> Option<Context> {
    for text in body.texts.iter().take(60) {
        // `init/1 [HC0[0]:SC1[1]:HE1:SE0] takes:`
        if let Some(at) = memmem::find(text, b"[HC")
            && let Some(soft) = memmem::find(&text[at..], b"]:SC")
        {
            let hard = text.get(at + 3)? != &b'0';
            let soft = text.get(at + soft + 4)? != &b'0';
            return Some(if hard {
                Context::Hardirq
            } else if soft {
                Context::Softirq
            } else {
                Context::Process
            });
        }
    }
    for text in &body.texts {
        let text = text.trim_ascii();
        if text.starts_with(b"<NMI>") {
            return Some(Context::Nmi);
        }
        if text.starts_with(b"<IRQ>") || text.starts_with(b"<SOFTIRQ>") {
            let softirq = frames
                .iter()
                .take_while(|frame| !blame::is_interrupt_entry(&frame.function))
                .any(|frame| {
                    matches!(
                        frame.name(),
                        "__do_softirq" | "handle_softirqs" | "do_softirq"
                    )
                });
            return Some(if softirq {
                Context::Softirq
            } else {
                Context::Hardirq
            });
        }
        if text.starts_with(b"<TASK>") {
            return Some(Context::Process);
        }
    }
    let entered = |names: &[&str]| frames.iter().any(|frame| names.contains(&frame.name()));
    if frames.is_empty() {
        None
    } else if entered(&["__do_softirq", "handle_softirqs", "run_ksoftirqd"]) {
        Some(Context::Softirq)
    } else if entered(&[
        "gic_handle_irq",
        "el1_irq",
        "el1h_64_irq",
        "handle_irq_event",
    ]) {
        Some(Context::Hardirq)
    } else {
        Some(Context::Process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_hold_no_numbers_of_one_boot() {
        assert_eq!(
            generic("executor 12 failed 3 times at 0xffff888012345678"),
            "executor NUM failed NUM times at ADDR"
        );
    }
}
