//! The lines of one report become a [`Splat`].

mod body;
mod culprit;
mod title;

pub(crate) use body::{Body, has_stack};

use body::take_apart;
use culprit::{blamed, interleaved, lacks_stack, main_frames};
use title::{Fill, bare, class};

use crate::see::observe::blame;
use crate::see::observe::frame::Frame;
use crate::see::observe::line::number;
use crate::see::observe::lockdep::{self, LockdepReport};
use crate::see::observe::stream::Report;
use crate::see::observe::table::{Blame, KindRule};
use crate::see::observe::{Context, Kind, Splat};
use memchr::memmem;
use std::sync::LazyLock;

/// Makes the splat of a finished report.
pub(crate) fn build(mut report: Report) -> Splat {
    let mut splat = read(&report);
    // Moved, not copied. The check is much faster than the replacement, and most logs are plain.
    report.raw.shrink_to_fit();
    splat.raw = String::from_utf8(report.raw)
        .unwrap_or_else(|bytes| String::from_utf8_lossy(bytes.as_bytes()).into_owned());
    splat
}

/// The splat, without the text it was made of.
fn read(report: &Report) -> Splat {
    let row = report.row;
    let body = take_apart(report);
    let head = report.text(report.head);
    let lockdep = lockdep::read(row, &body);
    let access = access(&body);
    let kind = kind(row.kind, report, access, lockdep.as_ref());
    let blamed = blamed(row, report, &body, lockdep.as_ref());

    let needs_frame = row.title.contains("{F}") && row.blame != Blame::IfPrinted;
    let mut corrupted = needs_frame && blamed.is_none();
    let flood = memmem::find(&report.raw, b"printk messages dropped").is_some();
    corrupted |= flood || interleaved(row, &body) || (needs_frame && lacks_stack(row, &body));

    let fill = Fill { report, head, access, body: &body };
    let bare_lockdep = row.kind == KindRule::LockdepBody && kind != Kind::Lockdep;
    let raw_name = blamed.as_ref().map(|frame| frame.name().to_owned());
    let name = raw_name.as_deref().map(blame::title_name);
    let title = if bare_lockdep {
        // The head alone, nothing behind it: there is no more to be said.
        bare(head)
    } else if row.blame == Blame::IfPrinted && name.is_none() {
        fill.title(row.title.trim_end_matches(" in {F}"), None)
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
        raw: String::new(),
    };
    splat.notes =
        crate::see::observe::blind::notes(&splat, row, report.within, report.flooded || flood);
    splat
}

fn kind(
    rule: KindRule,
    report: &Report,
    access: Option<Access>,
    lockdep: Option<&LockdepReport>,
) -> Kind {
    let what = report.captures.get("what", report.text(report.head)).unwrap_or(b"");
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
    who.comm = captures.get("comm", head).map(|comm| String::from_utf8_lossy(comm).into_owned());
    for text in body.texts.iter().take(80) {
        let text = text.trim_ascii();
        // Before 3.9: `Pid: 8003, comm: Xorg Not tainted`.
        if let Some(rest) = text.strip_prefix(b"Pid: ")
            && who.pid.is_none()
        {
            let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            who.pid = number(&rest[..digits]);
            if let Some(name) = rest[digits..].strip_prefix(b", comm: ") {
                let end = memmem::find(name, b" Not tainted")
                    .or_else(|| memmem::find(name, b" Tainted"))
                    .unwrap_or(name.len());
                who.comm = Some(String::from_utf8_lossy(&name[..end]).into_owned());
            }
        }
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
        // `Read of size 4 at addr … by task init/1`, `init/1 is trying to acquire lock:`,
        // `init/1 [HC0[0]:SC0[0]:HE1:SE1] is trying to acquire:`.
        if who.pid.is_none() && names_task(text) {
            let named = memmem::find(text, b" by task ").map(|at| &text[at + 9..]).or_else(|| {
                [&b" [HC"[..], b" is trying to ", b" is leaving the kernel", b" is freeing memory"]
                    .iter()
                    .find_map(|word| memmem::find(text, word))
                    .map(|at| &text[..at])
            });
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

/// Might this line name a task as `init/1`? Frames have a slash too (`f+0x1/0x20`): cheap, because
/// most lines are frames.
fn names_task(text: &[u8]) -> bool {
    memchr::memchr_iter(b'/', text).any(|slash| {
        text.get(slash + 1).is_some_and(u8::is_ascii_digit) && text.get(slash + 2) != Some(&b'x')
    })
}

fn source(report: &Report, head: &[u8], body: &Body<'_>) -> Option<String> {
    let captures = &report.captures;
    if let (Some(file), Some(line)) = (captures.get("file", head), captures.get("line", head)) {
        let file = String::from_utf8_lossy(file);
        let file = crate::see::observe::frame::relative(&file);
        return Some(format!("{file}:{}", String::from_utf8_lossy(line)));
    }
    // `net/ipv6/route.c:1550 suspicious rcu_dereference_check() usage!`
    body.texts.iter().skip(1).take(8).find_map(|text| {
        lockdep::USAGE.find(text)?;
        let word = text.trim_ascii().split(|b| *b == b' ').next()?;
        let source = crate::see::observe::frame::source(word)?;
        Some(format!("{}:{}", source.file, source.line))
    })
}

/// What the CPU was doing, from lockdep's own marks or from the stack.
fn context(body: &Body<'_>, frames: &[Frame]) -> Option<Context> {
    static MARK: LazyLock<memmem::Finder> = LazyLock::new(|| memmem::Finder::new("[HC"));
    for text in body.texts.iter().take(60) {
        // `init/1 [HC0[0]:SC1[1]:HE1:SE0] takes:`
        if let Some(at) = MARK.find(text)
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
        let text = text.trim_ascii_start();
        if text.first() != Some(&b'<') {
            continue;
        }
        if text.starts_with(b"<NMI>") {
            return Some(Context::Nmi);
        }
        if text.starts_with(b"<IRQ>") || text.starts_with(b"<SOFTIRQ>") {
            let softirq = frames
                .iter()
                .take_while(|frame| !blame::is_interrupt_entry(&frame.function))
                .any(|frame| {
                    matches!(frame.name(), "__do_softirq" | "handle_softirqs" | "do_softirq")
                });
            return Some(if softirq { Context::Softirq } else { Context::Hardirq });
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
    } else if entered(&["gic_handle_irq", "el1_irq", "el1h_64_irq", "handle_irq_event"]) {
        Some(Context::Hardirq)
    } else {
        Some(Context::Process)
    }
}
