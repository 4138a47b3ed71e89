//! The lines of a report, taken apart into stacks and what stands between them.

use crate::see::observe::frame::{Frame, Stack, callee, may_be_frame, parse_frame, symbol_in};
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
    ["Call Trace", "Call trace", "Backtrace", "backtrace", "stack backtrace"]
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
        b"last enqueue",
    ];
    let text = text.trim_ascii();
    let text = text.strip_prefix(b"rcu: ").unwrap_or(text);
    let text = text.strip_prefix(b"\t").unwrap_or(text);
    WORDS.iter().any(|word| word.first() == text.first() && text.starts_with(word))
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
        if text.trim_ascii_start().starts_with(b"CPU: ") && !is_trace(&label.0) {
            // Who ran: what a line before it introduced is over.
            label = (String::new(), index);
            fresh = true;
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

/// How the architectures name the register that says where it happened, and which they are.
const REGISTERS: &[(&[u8], &str)] = &[
    (b"RIP", "x86-64: `RIP: 0010:f+0x1/0x2`"),
    (b"EIP", "i386: `EIP: f+0x1/0x2`"),
    (b"EIP is at", "i386 before 4.9: `EIP is at f+0x1/0x2`"),
    (b"IP", "x86, after the fault: `IP: [<…>] f+0x1/0x2`"),
    (b"PC is at", "32-bit Arm: `PC is at f+0x1/0x2`"),
    (b"pc is at", "Alpha: `pc is at f+0x1/0x2`"),
    (b"pc", "arm64: `pc : f+0x1/0x2`; xmon: `    pc: c000…: f+0x1/0x2`"),
    (b"PC", "SuperH, Xtensa, OpenRISC: `PC: [<…>] f+0x1/0x2`"),
    (b"epc", "MIPS: `epc   : 80… f+0x1/0x2`; RISC-V: `epc : f+0x1/0x2 ra : …`"),
    (b"EPC", "ARC: `EPC: f+0x1/0x2`"),
    (b"NIP", "PowerPC: `NIP [c00…] .f+0x1/0x2`"),
    (b"Krnl PSW", "s390: `Krnl PSW : 0704… 00… (f+0x1/0x2)`"),
    (b"ERA", "LoongArch: `   ERA: 90… f+0x1/0x2`"),
    (b"era", "LoongArch before 6.0: `era   : 90… f+0x1/0x2`"),
    (b"TPC", "SPARC: `TPC: <f+0x1/0x2>`"),
    (b"IAOQ[0]", "PA-RISC: `IAOQ[0]: f+0x1/0x2`"),
];

/// Where it happened, if this line names the register.
pub(crate) fn instruction_pointer(text: &[u8], body: &mut Body<'_>) {
    if body.ip_named {
        return;
    }
    let text = text.trim_ascii();
    if !matches!(text.first(), Some(b'R' | b'E' | b'I' | b'P' | b'p' | b'e' | b'N' | b'K' | b'T')) {
        return;
    }
    let found = REGISTERS.iter().find_map(|(name, _)| {
        if name.first() != text.first() {
            return None;
        }
        let rest = text.strip_prefix(*name)?;
        let bare = rest.trim_ascii_start();
        match bare.first() {
            Some(b':') => Some((*name, &bare[1..])),
            // `NIP [c000000008068dfc] .f+0x1`, `EIP is at f+0x1`
            Some(b'[') if *name == b"NIP" => Some((*name, bare)),
            Some(_) if name.ends_with(b"is at") && rest.len() > bare.len() => Some((*name, bare)),
            _ => None,
        }
    });
    let Some((name, rest)) = found else { return };
    let rest = rest.trim_ascii_start();
    if name == b"RIP" {
        if rest.starts_with(b"0033:") {
            // User space: the fault's registers come first, so this is the entry's.
            return;
        }
        // It names the place, even if nothing is there: `RIP: 0010:0x0`.
        body.ip_named = true;
    }
    let selector = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let place = match rest.get(selector) {
        Some(b':') if selector == 4 => &rest[5..],
        _ => rest,
    };
    let exact = |frame: &Frame| frame.offset.is_some() || frame.source.is_some();
    let frame = parse_frame(place).filter(exact).or_else(|| symbol_in(place));
    body.ip_named |= frame.is_some();
    body.ip = frame;
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
            .find(|placed| {
                let label = &placed.stack.label;
                !placed.bystander && is_trace(label)
            })
            .or_else(|| {
                self.stacks.iter().find(|placed| !placed.bystander && placed.stack.label.is_empty())
            })
            .map(|placed| &placed.stack)
    }
}
