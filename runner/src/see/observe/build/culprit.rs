//! Whose fault is it? Each row of the table says which frames are asked, in which order.

use super::body::Body;
use crate::see::observe::blame;
use crate::see::observe::frame::{Frame, parse_frame};
use crate::see::observe::lockdep::LockdepReport;
use crate::see::observe::stream::Report;
use crate::see::observe::table::{Blame, Role, Row};
use memchr::memmem;

/// A stack that belongs to the report is missing: the log is cut.
pub(crate) fn lacks_stack(row: &Row, body: &Body<'_>) -> bool {
    let expected = match row.blame {
        Blame::Nobody
        | Blame::HeadOnly
        | Blame::HeldLock
        | Blame::LastFunction
        | Blame::IfPrinted => false,
        // The first line names the function; the stack is a courtesy.
        Blame::Head if row.role == Role::Panic => false,
        Blame::Trace
        | Blame::Fault
        | Blame::Head
        | Blame::HeadFirst
        | Blame::LockSites
        | Blame::IrqSafeSite
        | Blame::Stall
        | Blame::Tick
        | Blame::Waiter
        | Blame::FirstStack => true,
    };
    expected && !body.stacks.iter().any(|placed| !placed.stack.frames.is_empty())
}

/// Another stack is printed into this one, and nothing tells their lines apart: fault injection
/// dumps the stack of every allocation it fails, at any time.
pub(crate) fn interleaved(row: &Row, body: &Body<'_>) -> bool {
    row.blame != Blame::Nobody
        && body.texts.iter().any(|text| text.starts_with(b"FAULT_INJECTION: forcing a failure"))
}

pub(crate) fn head_frame(report: &Report) -> Option<Frame> {
    let head = report.text(report.head);
    let text = report.captures.get("func", head)?;
    parse_frame(text).or_else(|| {
        let name = std::str::from_utf8(text).ok()?;
        Some(Frame { function: name.into(), ..Frame::default() })
    })
}

pub(crate) fn main_frames(rule: Blame, body: &Body<'_>) -> Vec<Frame> {
    let mut frames = match rule {
        Blame::FirstStack | Blame::HeadFirst => body.stacks.first().map(|placed| &placed.stack),
        _ => body.main(),
    }
    .map(|stack| stack.frames.clone())
    .unwrap_or_default();
    // x86 prints where it happened with the registers, and only the callers as the stack.
    if matches!(rule, Blame::Fault | Blame::Head)
        && let Some(ip) = &body.ip
        && !frames.iter().any(|frame| frame.function == ip.function)
    {
        frames.insert(0, ip.clone());
    }
    frames
}

pub(crate) fn blamed(
    row: &Row,
    report: &Report,
    body: &Body<'_>,
    lockdep: Option<&LockdepReport>,
) -> Option<Frame> {
    let also = row.also;
    let trace: &[Frame] = body.main().map_or(&[], |stack| &stack.frames);
    let found = match row.blame {
        Blame::Nobody => None,
        Blame::Trace | Blame::IfPrinted => blame::first(trace.iter(), also).cloned(),
        Blame::Waiter => blame::waiter(trace, also),
        Blame::Fault => {
            let all: Vec<&Frame> = body.ip.iter().chain(trace).collect();
            blame::first(all.iter().copied(), also).cloned()
        }
        Blame::Head => {
            let head = head_frame(report);
            // Some heads name a line only; the registers know the function.
            let ip = body.ip.iter().filter(|_| head.is_none());
            let all: Vec<&Frame> = head.iter().chain(ip).chain(trace).collect();
            blame::first(all.iter().copied(), also).cloned()
        }
        Blame::HeadFirst => {
            let head = head_frame(report);
            let first = body.stacks.first().map_or(trace, |placed| &placed.stack.frames);
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
            let at = body.ip.iter().filter(|_| row.role != Role::Panic);
            blame::dispatched(at.chain(trace), also).cloned()
        }
        Blame::Tick => {
            let stacks = body.stacks.iter().filter(|placed| !placed.bystander);
            let mut stalled = stacks.filter_map(|placed| {
                let below = blame::below_the_tick(&placed.stack.frames)?;
                // What was printed before the entry is where the CPU was hit.
                blame::dispatched(placed.at.iter().chain(below), also)
            });
            stalled.next().cloned()
        }
        Blame::LastFunction => {
            let name = body.texts.iter().find_map(|text| {
                // Since 6.8: `preempt=0x00000000 lock=0->1 RCU=0->0 workfn=f`.
                [&b"last function: "[..], b"workfn="].iter().find_map(|word| {
                    let at = memmem::find(text, word)?;
                    parse_name(&text[at + word.len()..])
                })
            })?;
            Some(Frame { function: name.into(), ..Frame::default() })
        }
        Blame::FirstStack => {
            let stack = body.stacks.first()?;
            blame::first(stack.stack.frames.iter(), also).cloned()
        }
    };
    // A stack of nothing but helpers is cut: what is nearest to whoever is to blame is better than
    // nothing, but for stalls and hangs, whose helpers say nothing at all.
    let cut = match row.blame {
        Blame::Trace | Blame::IfPrinted | Blame::Fault | Blame::Head | Blame::HeadFirst => true,
        Blame::Nobody
        | Blame::HeadOnly
        | Blame::LockSites
        | Blame::HeldLock
        | Blame::IrqSafeSite
        | Blame::Stall
        | Blame::Tick
        | Blame::Waiter
        | Blame::LastFunction
        | Blame::FirstStack => false,
    };
    found.or_else(|| {
        let mut sure = trace.iter().filter(|frame| !frame.unreliable && !frame.inlined);
        let outermost = sure.next_back().or(body.ip.as_ref());
        outermost.filter(|frame| cut && !blame::is_reporting(&frame.function)).cloned()
    })
}

pub(crate) fn parse_name(text: &[u8]) -> Option<String> {
    let text = text.trim_ascii();
    let len =
        text.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.')).count();
    (len > 0).then(|| String::from_utf8_lossy(&text[..len]).into_owned())
}
