//! The lines of a report, taken apart into stacks and what stands between them.

use crate::see::observe::frame::{Frame, Stack, callee, may_be_frame, parse_frame};
use crate::see::observe::stream::Report;
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
    pub(crate) at: Option<Frame>,
    /// It is the stack of a thread that only reports, or of a bystander.
    pub(crate) bystander: bool,
}

pub(crate) fn is_trace(label: &str) -> bool {
    ["Call Trace", "Call trace", "Backtrace", "backtrace"]
        .iter()
        .any(|word| label.starts_with(word))
}

/// Does a line introduce a stack?
pub(crate) fn introduces(text: &[u8]) -> bool {
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

pub(crate) fn take_apart(report: &Report) -> Body<'_> {
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
pub(crate) fn frame_of(text: &[u8]) -> Option<Frame> {
    if !may_be_frame(text) {
        return None;
    }
    parse_frame(text)
}

/// The function that an interrupt or exception hit, whose registers stand inside of the stack.
pub(crate) fn interrupted(text: &[u8]) -> Option<Frame> {
    let rest = text.trim_ascii().strip_prefix(b"RIP: 0010:")?;
    parse_frame(rest).filter(|frame| frame.offset.is_some() || frame.source.is_some())
}

/// `RIP: 0010:f+0x1/0x2`, `IP: [<…>] f+…`, `PC is at f+…`, `pc : f+…`, `epc : f+…`, `NIP [..] f+…`.
pub(crate) fn instruction_pointer(text: &[u8], body: &mut Body<'_>) {
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
        .or_else(|| text.strip_prefix(b"epc   : "))
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

impl Body<'_> {
    /// The stack that the line `index` introduces.
    pub(crate) fn stack_at(&self, index: usize) -> Option<&Stack> {
        self.stacks.iter().find(|placed| placed.label_at == index).map(|placed| &placed.stack)
    }

    pub(crate) fn labelled(&self, test: impl Fn(&str) -> bool) -> Option<&Stack> {
        self.stacks.iter().find(|placed| test(&placed.stack.label)).map(|placed| &placed.stack)
    }

    /// The stack of the event itself.
    pub(crate) fn main(&self) -> Option<&Stack> {
        self.stacks
            .iter()
            .find(|placed| !placed.bystander && is_trace(&placed.stack.label))
            .or_else(|| {
                self.stacks.iter().find(|placed| !placed.bystander && placed.stack.label.is_empty())
            })
            .map(|placed| &placed.stack)
    }
}
