//! What a lockdep report tells, taken apart: which lock classes, in which contexts they were used,
//! in which order they were taken and where.

use crate::see::observe::build::Body;
use crate::see::observe::frame::{Frame, parse_frame};
use crate::see::observe::table::Row;
use memchr::memmem;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// A lockdep report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LockdepReport {
    /// Which rule was broken.
    pub kind: LockKind,
    /// What lockdep said besides: the usage that changed, or the RCU rule and where.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// Every lock class that is named, in order of appearance.
    pub classes: Vec<LockClass>,
    /// The lock that is being taken, released or freed, and where.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub acquiring: Option<LockUse>,
    /// The held lock it conflicts with, and where that was taken.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub holding: Option<LockUse>,
    /// The dependencies that exist already, in the order they are printed: newest first.
    pub chain: Vec<ChainLink>,
    /// Every lock the task holds, outermost first.
    pub held: Vec<HeldLock>,
    /// When interrupts were last switched on and off.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub irq: Option<IrqStamps>,
}

/// Which rule of lockdep was broken.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum LockKind {
    /// Two orders of the same locks.
    Circular,
    /// A class is taken while one of the same class is held.
    Recursive,
    /// A lock that interrupts take depends on one that is held with interrupts on.
    IrqInversion,
    /// A class is taken both in an interrupt and with that interrupt enabled.
    InconsistentState,
    /// A lock that may sleep is taken where sleeping is forbidden.
    WaitContext,
    /// A lock is released that is not held.
    UnlockBalance,
    /// Memory is freed with a held lock in it.
    HeldLockFreed,
    /// A task exits, freezes or returns to user space with a lock.
    StillHeld,
    /// RCU's rules were broken.
    SuspiciousRcu,
    /// A nested acquisition without the outer lock.
    InvalidNesting,
    /// A lock that was never initialised.
    NonStaticKey,
    /// A table of lockdep is full.
    TableOverflow,
    /// A spinlock's or rwlock's own checks.
    LockCorrupted,
    /// An assertion of lockdep about itself.
    Internal,
}

/// A set of locks that lockdep treats as one.
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Default,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
pub struct LockClass {
    /// Its name as printed, subclass included (`&rq->__lock`, `&sb->s_type->i_mutex_key#11`).
    pub name: String,
    /// The usage bits: hardirq, hardirq read, softirq, softirq read; `.` never, `-` in it, `+` with
    /// it enabled, `?` both.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub usage: String,
    /// The wait types, outer and inner (`{3:3}`), if printed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wait: Option<(u8, u8)>,
}

/// A lock of a class, and where it is or was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LockUse {
    /// Its class.
    pub class: LockClass,
    /// Where.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<Frame>,
}

/// One dependency: this class was taken while the next one in the chain was held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ChainLink {
    /// Its number in the chain; `#0` is the lock that is being taken now.
    pub index: u32,
    /// The class that was taken.
    pub class: LockClass,
    /// The frame to blame for the dependency.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<Frame>,
    /// The stack that took it.
    pub frames: Vec<Frame>,
}

/// A lock that the task holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HeldLock {
    /// Its place among the held locks; 0 was taken first.
    pub index: u32,
    /// Its class.
    pub class: LockClass,
    /// Where it was taken.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<Frame>,
}

/// When interrupts were last switched on and off, counted in events.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct IrqStamps {
    /// The number of events so far.
    pub events: u64,
    /// When hardirqs were last enabled.
    pub hardirqs_enabled: Option<IrqStamp>,
    /// When hardirqs were last disabled.
    pub hardirqs_disabled: Option<IrqStamp>,
    /// When softirqs were last enabled.
    pub softirqs_enabled: Option<IrqStamp>,
    /// When softirqs were last disabled.
    pub softirqs_disabled: Option<IrqStamp>,
}

/// One such event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct IrqStamp {
    /// Its number.
    pub event: u64,
    /// Where.
    pub at: Option<Frame>,
}

/// `…(name){usage}-{o:i}, at: frame`, wherever it stands in the line.
pub(crate) fn lock_use(text: &[u8]) -> Option<LockUse> {
    let brace = memmem::find(text, b"){")?;
    let mut open = memchr::memchr(b'(', &text[..brace])?;
    // The address of the lock, where the kernel hides it in brackets: `(____ptrval____) (&a->b){`.
    for hidden in [&b"(____ptrval____) ("[..], b"(ptrval) ("] {
        if text[open..].starts_with(hidden) {
            open += hidden.len() - 1;
        }
    }
    let name = String::from_utf8_lossy(&text[open + 1..brace]).into_owned();
    let rest = &text[brace + 2..];
    let close = memchr::memchr(b'}', rest)?;
    let usage = &rest[..close];
    if close == 0
        || close > 12
        || !usage.iter().all(|b| matches!(b, b'.' | b'+' | b'-' | b'?' | b'='))
    {
        return None;
    }
    let mut rest = &rest[close + 1..];
    let mut wait = None;
    if let [b'-', b'{', outer @ b'0'..=b'9', b':', inner @ b'0'..=b'9', b'}', ..] = rest {
        wait = Some((outer - b'0', inner - b'0'));
        rest = &rest[6..];
    }
    let at = memmem::find(rest, b"at: ").and_then(|at| parse_frame(&rest[at + 4..]));
    Some(LockUse {
        class: LockClass { name, usage: String::from_utf8_lossy(usage).into_owned(), wait },
        at,
    })
}

impl LockKind {
    /// The kind that a row of the table stands for.
    fn of(row: &Row) -> Option<LockKind> {
        Some(match row.name {
            "lockdep-circular" => LockKind::Circular,
            "lockdep-recursive" => LockKind::Recursive,
            "lockdep-inversion" | "lockdep-irq-order" => LockKind::IrqInversion,
            "lockdep-inconsistent" => LockKind::InconsistentState,
            "lockdep-wait-context" => LockKind::WaitContext,
            "lockdep-unlock-warning" | "lockdep-unlock-bug" => LockKind::UnlockBalance,
            "lockdep-freed-warning" | "lockdep-freed-bug" => LockKind::HeldLockFreed,
            "lockdep-held-exit-warning"
            | "lockdep-held-exit-bug"
            | "lockdep-user-warning"
            | "lockdep-user-bug"
            | "workqueue-leak" => LockKind::StillHeld,
            "suspicious-rcu-warning" | "suspicious-rcu-info" => LockKind::SuspiciousRcu,
            "lockdep-nested" => LockKind::InvalidNesting,
            "non-static-key" => LockKind::NonStaticKey,
            "lockdep-overflow" => LockKind::TableOverflow,
            "spinlock" | "rwlock" => LockKind::LockCorrupted,
            "locking-bug" | "lockdep-contention" | "lockdep-broken" => LockKind::Internal,
            _ => return None,
        })
    }
}

/// What RCU's reports of wrong use end with.
pub(super) static USAGE: LazyLock<memmem::Finder> =
    LazyLock::new(|| memmem::Finder::new(" usage!"));

/// Reads the report behind `row`; `None` if it is not one of lockdep's and names no locks.
pub(crate) fn read(row: &Row, body: &Body<'_>) -> Option<LockdepReport> {
    static RULE: LazyLock<memmem::Finder> =
        LazyLock::new(|| memmem::Finder::new("suspicious rcu_"));
    let kind = LockKind::of(row)?;
    let mut report = LockdepReport {
        kind,
        message: None,
        classes: Vec::new(),
        acquiring: None,
        holding: None,
        chain: Vec::new(),
        held: Vec::new(),
        irq: None,
    };
    // What the next lock that is printed will be.
    let mut expect = Expect::Nothing;
    for (index, text) in body.texts.iter().enumerate() {
        let text = text.trim_ascii();
        let previous = expect;
        expect = match text {
            t if ends(t, b"is trying to acquire lock:")
                || ends(t, b"is trying to acquire:")
                || ends(t, b"is trying to lock:")
                || ends(t, b"just changed the state of lock:")
                || ends(t, b" takes:") =>
            {
                Expect::Acquiring
            }
            t if ends(t, b"but task is already holding lock:")
                || ends(t, b"already holding:")
                || starts(t, b"but this lock took another")
                || starts(t, b"but this lock was taken by another") =>
            {
                Expect::Holding
            }
            _ => Expect::Nothing,
        };
        if starts(text, b"inconsistent {")
            || RULE.find(text).is_some()
            || USAGE.find(text).is_some()
            || (kind == LockKind::SuspiciousRcu
                && index == 4
                && memmem::find(text, b"RCU").is_some())
            || starts(text, b"inconsistent {INITIAL USE}")
        {
            report.message.get_or_insert_with(|| String::from_utf8_lossy(text).into_owned());
        }
        if let Some(rest) = text.strip_prefix(b"-> #")
            && let Some((number, rest)) = leading(rest)
        {
            if let Some(found) = lock_use(rest) {
                report.note(&found.class);
                let frames =
                    body.stack_at(index).map(|stack| stack.frames.clone()).unwrap_or_default();
                report.chain.push(ChainLink {
                    index: number as u32,
                    at: crate::see::observe::blame::first_or_last(frames.iter()).cloned(),
                    class: found.class,
                    frames,
                });
            }
            continue;
        }
        if let Some(rest) = text.strip_prefix(b"#")
            && let Some((number, rest)) = leading(rest)
        {
            // Only the task's own locks: hung-task reports go on to list everybody's.
            let first_list = report.held.last().is_none_or(|last| number > u64::from(last.index));
            if first_list && let Some(found) = lock_use(rest) {
                report.note(&found.class);
                report.held.push(HeldLock {
                    index: number as u32,
                    class: found.class,
                    at: found.at,
                });
            }
            continue;
        }
        stamps(text, &mut report.irq);
        if memchr::memchr(b'{', text).is_none() {
            // `… is trying to release lock (x) at:`, and the frame behind it.
            if kind == LockKind::UnlockBalance
                && let Some(at) = memmem::find(text, b"trying to release lock (")
            {
                let rest = &text[at + 24..];
                let close = memmem::find(rest, b") at:").unwrap_or(rest.len());
                let class = LockClass {
                    name: String::from_utf8_lossy(&rest[..close]).into_owned(),
                    ..LockClass::default()
                };
                report.note(&class);
                report.acquiring = Some(LockUse {
                    class,
                    at: body.texts.get(index + 1).and_then(|t| parse_frame(t)),
                });
            }
            if previous != Expect::Nothing && !text.is_empty() && expect == Expect::Nothing {
                // A stranger's message in between.
                expect = previous;
            }
            continue;
        }
        let Some(found) = lock_use(text) else {
            continue;
        };
        report.note(&found.class);
        match previous {
            Expect::Acquiring if report.acquiring.is_none() => report.acquiring = Some(found),
            Expect::Holding if report.holding.is_none() => report.holding = Some(found),
            _ if kind == LockKind::HeldLockFreed && report.acquiring.is_none() => {
                report.acquiring = Some(found);
            }
            Expect::Acquiring | Expect::Holding | Expect::Nothing => {}
        }
    }
    Some(report)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Nothing,
    Acquiring,
    Holding,
}

impl LockdepReport {
    fn note(&mut self, class: &LockClass) {
        match self.classes.iter_mut().find(|known| known.name == class.name) {
            Some(known) => {
                if known.usage.is_empty() {
                    known.usage.clone_from(&class.usage);
                    known.wait = class.wait;
                }
            }
            None => self.classes.push(class.clone()),
        }
    }
}

fn ends(text: &[u8], words: &[u8]) -> bool {
    text.ends_with(words)
}

fn starts(text: &[u8], words: &[u8]) -> bool {
    text.starts_with(words)
}

/// A number at the start of `text`, and what follows it.
fn leading(text: &[u8]) -> Option<(u64, &[u8])> {
    let len = text.iter().take_while(|b| b.is_ascii_digit()).count();
    if len == 0 || len > 18 {
        return None;
    }
    let value = text[..len].iter().fold(0u64, |n, b| n * 10 + u64::from(b - b'0'));
    Some((value, &text[len..]))
}

/// `irq event stamp: N`, `hardirqs last  enabled at (N): [<…>] f+…`.
pub(crate) fn stamps(text: &[u8], stamps: &mut Option<IrqStamps>) {
    if let Some(rest) = text.strip_prefix(b"irq event stamp: ") {
        stamps.get_or_insert_default().events = leading(rest).map_or(0, |(n, _)| n);
        return;
    }
    if !(starts(text, b"hardirqs last ") || starts(text, b"softirqs last ")) {
        return;
    }
    let Some(open) = memchr::memchr(b'(', text) else {
        return;
    };
    let Some((event, rest)) = leading(&text[open + 1..]) else {
        return;
    };
    let at = rest.strip_prefix(b"): ").and_then(parse_frame);
    let stamp = Some(IrqStamp { event, at });
    let stamps = stamps.get_or_insert_default();
    let enabled = memmem::find(&text[..open], b" enabled").is_some();
    match (text[0], enabled) {
        (b'h', true) => stamps.hardirqs_enabled = stamp,
        (b'h', false) => stamps.hardirqs_disabled = stamp,
        (_, true) => stamps.softirqs_enabled = stamp,
        (_, false) => stamps.softirqs_disabled = stamp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_read_in_every_notation() {
        for (line, name, usage, at) in [
            (
                " (&old->lock){+.+...}, at: [<ffffffff81000042>] f+0x42/0x100",
                "&old->lock",
                "+.+...",
                Some("f"),
            ),
            (
                "ffff888000000042 (&new->lock){+.?.}-{2:2}, at: f+0x42/0x100",
                "&new->lock",
                "+.?.",
                Some("f"),
            ),
            (
                ": ffff8 ((wq_completion)events){+.+.}-{0:0}, at: f+0x42/0x100",
                "(wq_completion)events",
                "+.+.",
                Some("f"),
            ),
            (
                " (&(&old->lock)->rlock){....}, at: f+0x42/0x100",
                "&(&old->lock)->rlock",
                "....",
                Some("f"),
            ),
            (" (&ctx->mutex){+.+.}-{3:3}:", "&ctx->mutex", "+.+.", None),
        ] {
            let found = lock_use(line.as_bytes()).unwrap();
            assert_eq!(found.class.name, name);
            assert_eq!(found.class.usage, usage);
            assert_eq!(found.at.map(|f| f.function).as_deref(), at);
        }
    }

    #[test]
    fn no_lock_no_use() {
        assert_eq!(lock_use(b"inconsistent {SOFTIRQ-ON-W} -> {IN-SOFTIRQ-W} usage."), None);
        assert_eq!(lock_use(b"x (y){z}"), None);
    }
}
