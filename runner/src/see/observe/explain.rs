//! A splat in words, for a reader who does not speak lockdep: which locks, in which order, in which
//! contexts, and what was expected of whom.

use crate::see::observe::blame;
use crate::see::observe::frame::Frame;
use crate::see::observe::{
    Context, HeldLock, Kind, LockClass, LockKind, LockUse, LockdepReport, Splat,
};
use std::fmt::Write;

/// Tells what a splat says.
pub fn explain(splat: &Splat) -> String {
    let mut text = splat.title.clone();
    text.push('\n');
    let mut say = |paragraph: String| {
        if !paragraph.is_empty() {
            text.push('\n');
            text.push_str(&paragraph);
            text.push('\n');
        }
    };
    say(what(splat));
    match &splat.lockdep {
        Some(report) => {
            say(locks(report, splat));
            say(held(&report.held));
            say(usages(report));
        }
        None => say(assertion(splat)),
    }
    say(stack(splat));
    for note in &splat.notes {
        say(note.words().to_owned());
    }
    if splat.corrupted {
        say("The report is cut or mixed with others: functions and locks named here may be wrong."
            .to_owned());
    }
    if splat.panicked {
        say("The kernel went on to panic.".to_owned());
    }
    // The title stays whole: it is what people search for.
    let (title, rest) = text.split_once('\n').unwrap_or((&text, ""));
    format!("{title}\n{}", folded(rest))
}

/// The widest line of prose, in characters.
const WIDTH: usize = 100;

/// Breaks long lines at blanks; what belongs to an item of a list is indented further than it.
fn folded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    for line in text.lines() {
        let indent = line.len() - line.trim_start_matches(' ').len();
        out.push_str(&line[..indent]);
        let hang = if indent > 0 { indent + 3 } else { 0 };
        let mut used = indent;
        for (index, word) in line[indent..].split(' ').enumerate() {
            let width = word.chars().count();
            if index > 0 && used + 1 + width > WIDTH {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', hang));
                used = hang;
            } else if index > 0 {
                out.push(' ');
                used += 1;
            }
            out.push_str(word);
            used += width;
        }
        out.push('\n');
    }
    out
}

/// What kind of report it is, and who ran where.
fn what(splat: &Splat) -> String {
    let mut text = kind(splat.kind).to_owned();
    if let Some(source) = &splat.source {
        let _ = write!(text, " It was raised at {source}.");
    }
    let context = splat.context.map(|context| match context {
        Context::Process => "in process context",
        Context::Softirq => "in a softirq",
        Context::Hardirq => "in a hardware interrupt",
        Context::Nmi => "in an NMI",
    });
    let task = match (&splat.comm, splat.pid) {
        (Some(comm), Some(pid)) => Some(format!("task {comm} ({pid})")),
        (Some(comm), None) => Some(format!("task {comm}")),
        (None, Some(pid)) => Some(format!("task {pid}")),
        (None, None) => None,
    };
    let cpu = splat.cpu.map(|cpu| format!("CPU {cpu}"));
    let who = match (cpu, task) {
        (Some(cpu), Some(task)) => format!("{cpu} ran {task}"),
        (Some(cpu), None) => format!("It was {cpu}"),
        (None, Some(task)) => format!("It was {task}"),
        (None, None) => String::new(),
    };
    match (who.is_empty(), context) {
        (true, None) => {}
        (true, Some(context)) => {
            let _ = write!(text, " It happened {context}.");
        }
        (false, None) => {
            let _ = write!(text, " {who}.");
        }
        (false, Some(context)) => {
            let _ = write!(text, " {who}, {context}.");
        }
    }
    text
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Lockdep => "The lock validator, or a lock's own checks, found a rule broken.",
        Kind::AtomicSleep => {
            "Something that may sleep was called where sleeping is forbidden: under a spinlock, in \
             an interrupt, or with preemption off."
        }
        Kind::Hang => "Something made no progress for too long; where it was seen is chance.",
        Kind::Warning => "A condition that should never hold did (WARN); the kernel went on.",
        Kind::Bug => "A condition that must never hold did (BUG); the task was killed.",
        Kind::RefcountWarning => {
            "A reference count went where it must not: the object may be used after it is freed, \
             or never be freed."
        }
        Kind::DenialOfService => "The kernel could not go on, or had to kill the task.",
        Kind::MemorySafetyBug => "Memory was accessed that is not there, or was overwritten.",
        Kind::MemorySafetyWarning => "A check found memory overwritten.",
        Kind::MemorySafetyUbsan => "An array was accessed beyond its bounds.",
        Kind::NullPointer => "A null pointer was followed.",
        Kind::Leak => "Memory was allocated that nothing points to any more.",
        Kind::Ubsan => "An operation has no defined result in C.",
        Kind::KasanRead => "KASAN: memory was read that does not belong to the object.",
        Kind::KasanWrite => "KASAN: memory was written that does not belong to the object.",
        Kind::KasanUseAfterFreeRead => "KASAN: memory was read after it was freed.",
        Kind::KasanUseAfterFreeWrite => "KASAN: memory was written after it was freed.",
        Kind::KasanNullRead => "KASAN: a null pointer was read.",
        Kind::KasanNullWrite => "KASAN: a null pointer was written.",
        Kind::KasanInvalidFree => "KASAN: memory was freed twice, or was never allocated.",
        Kind::KasanUnknown => "KASAN: memory was used in a way it must not.",
        Kind::KfenceRead => "KFENCE: memory was read that does not belong to the object.",
        Kind::KfenceWrite => "KFENCE: memory was written that does not belong to the object.",
        Kind::KfenceUseAfterFreeRead => "KFENCE: memory was read after it was freed.",
        Kind::KfenceUseAfterFreeWrite => "KFENCE: memory was written after it was freed.",
        Kind::KfenceMemoryCorruption => "KFENCE: the bytes around an object were overwritten.",
        Kind::KfenceInvalidFree => "KFENCE: memory was freed twice, or was never allocated.",
        Kind::KfenceUnknown => "KFENCE: memory was used in a way it must not.",
        Kind::KmsanUninitValue => "KMSAN: a decision was taken on bytes that nobody wrote.",
        Kind::KmsanInfoLeak => "KMSAN: bytes that nobody wrote left the kernel.",
        Kind::KmsanUseAfterFreeRead => "KMSAN: memory was read after it was freed.",
        Kind::KmsanUnknown => "KMSAN: bytes were used in a way they must not.",
        Kind::KcsanDataRace => "KCSAN: two accesses to the same bytes, in no order.",
        Kind::KcsanAssert => "KCSAN: an access that was to be exclusive was not.",
        Kind::KcsanUnknown => "KCSAN: accesses in no order.",
        Kind::UnexpectedReboot => {
            "The kernel started anew, and the one before it announced neither a restart nor a panic: \
             it was reset, for example by a triple fault."
        }
        Kind::HarnessFailure => {
            "The program that drove the kernel gave up; the run proves nothing."
        }
        Kind::Other => "The kernel complained.",
    }
}

fn at(frame: Option<&Frame>) -> String {
    match frame {
        Some(frame) => match &frame.source {
            Some(source) => format!("{} ({}:{})", frame.function, source.file, source.line),
            None => frame.function.to_string(),
        },
        None => "an unknown function".to_owned(),
    }
}

fn name(class: &LockClass) -> String {
    format!("`{}`", class.name)
}

fn taken(used: &LockUse) -> String {
    format!("{} in {}", name(&used.class), at(used.at.as_ref()))
}

/// The rule that was broken, told with the locks of this report.
fn locks(report: &LockdepReport, splat: &Splat) -> String {
    let acquiring = report.acquiring.as_ref();
    let holding = report.holding.as_ref();
    let message = report.message.as_deref().unwrap_or_default();
    match report.kind {
        LockKind::Circular => circular(report),
        LockKind::Recursive => match (acquiring, holding) {
            (Some(taking), Some(held)) => format!(
                "It takes {} while it holds a lock of the same class, taken {}. If both are the \
                 same lock it waits for itself; if they are two, another task may take them the \
                 other way round.",
                taken(taking),
                at(held.at.as_ref())
            ),
            _ => "It takes a lock while it holds one of the same class.".to_owned(),
        },
        LockKind::IrqInversion => {
            let mut text = String::from(
                "A lock that an interrupt takes depends on one that is held with that interrupt \
                 enabled: the interrupt may hit the holder of the second and wait for the first \
                 for ever.",
            );
            if let (Some(taking), Some(held)) = (acquiring, holding) {
                let _ = write!(
                    text,
                    " The dependency: {}, while {} is held.",
                    taken(taking),
                    taken(held)
                );
            }
            text
        }
        LockKind::InconsistentState => {
            let mut text = match acquiring {
                Some(taking) => format!(
                    "The lock is {}, taken in {}.",
                    name(&taking.class),
                    at(taking.at.as_ref())
                ),
                None => String::new(),
            };
            if let Some((was, is)) = message.trim_start_matches("inconsistent ").split_once(" -> ")
            {
                let _ = write!(
                    text,
                    " It was used before {}; now it is used {}. An interrupt that hits the first \
                     use deadlocks with it.",
                    state(was),
                    state(is.trim_end_matches(" usage."))
                );
            }
            text.trim().to_owned()
        }
        LockKind::WaitContext => format!(
            "{} is a lock that may sleep (on PREEMPT_RT, or always), taken where sleeping is \
             forbidden: under a raw spinlock, or in a hard interrupt.",
            acquiring.map_or("It".to_owned(), taken)
        ),
        LockKind::UnlockBalance => format!(
            "{} is released without being held: twice, by another task, or after lockdep was told \
             that it was released already.",
            acquiring.map_or("A lock".to_owned(), taken)
        ),
        LockKind::HeldLockFreed => format!(
            "Memory is freed, or a lock in it initialised anew, while {} is held.",
            acquiring.map_or("a lock in it".to_owned(), taken)
        ),
        LockKind::StillHeld => {
            "The task leaves with a lock: whoever took it forgot to release it on some path."
                .to_owned()
        }
        LockKind::SuspiciousRcu => format!(
            "{}A pointer that RCU protects was used without rcu_read_lock() or the lock that stands \
             for it, or something slept inside such a section.",
            sentence(message)
        ),
        LockKind::InvalidNesting => {
            "A lock is taken as nested under an outer one, and the outer one is not held."
                .to_owned()
        }
        LockKind::NonStaticKey => {
            "A lock is used that was never initialised, or whose memory was cleared since."
                .to_owned()
        }
        LockKind::TableOverflow => format!(
            "A table of lockdep is full ({}): nobody's bug, but from here on locks go unchecked. \
             Build with more room (LOCKDEP_BITS, LOCKDEP_CHAINS_BITS, LOCKDEP_STACK_TRACE_BITS).",
            splat.title.trim_start_matches("BUG: ")
        ),
        LockKind::LockCorrupted => {
            "A spinlock is not what it should be: overwritten, freed, taken twice by one CPU, or \
             held for ever."
                .to_owned()
        }
        LockKind::Internal => {
            "Lockdep's own tables contradict each other: usually the lock was overwritten, freed \
             or initialised twice."
                .to_owned()
        }
    }
}

fn sentence(words: &str) -> String {
    if words.is_empty() {
        String::new()
    } else {
        format!("{}. ", words.trim_end_matches(['.', '!']))
    }
}

/// `{SOFTIRQ-ON-W}` → with softirqs enabled.
fn state(usage: &str) -> String {
    let usage = usage.trim().trim_matches(['{', '}']);
    let read = usage.ends_with("-R");
    let bare = usage.trim_end_matches("-W").trim_end_matches("-R");
    let words = match bare {
        "INITIAL USE" => return "for the first time, outside of an interrupt".to_owned(),
        "IN-NMI" => return "in an NMI".to_owned(),
        "IN-HARDIRQ" => "in a hardware interrupt",
        "IN-SOFTIRQ" => "in a softirq",
        "HARDIRQ-ON" => "with hardware interrupts enabled",
        "SOFTIRQ-ON" => "with softirqs enabled",
        "RECLAIM_FS-ON" => "where memory reclaim may call in",
        "IN-RECLAIM_FS" => "in memory reclaim",
        other => return format!("as {other}"),
    };
    format!("{words}{}", if read { " (as a reader)" } else { "" })
}

fn circular(report: &LockdepReport) -> String {
    let mut text = String::from("The same locks are taken in contradictory orders:\n");
    // The chain is printed newest first; #0 is the lock that is being taken now.
    for (step, link) in report.chain.iter().enumerate() {
        let before = match report.chain.get(step.wrapping_sub(1)) {
            Some(previous) => &previous.class,
            None => match report.chain.last() {
                Some(last) => &last.class,
                None => &link.class,
            },
        };
        let now = if link.index == 0 { ", now" } else { "" };
        let _ = writeln!(
            text,
            "  {}. while holding {}: {} takes {}{now}",
            step + 1,
            name(before),
            at(link.at.as_ref()),
            name(&link.class)
        );
    }
    if report.chain.is_empty()
        && let (Some(taking), Some(held)) = (&report.acquiring, &report.holding)
    {
        let _ = writeln!(text, "  {} while holding {}", taken(taking), taken(held));
    }
    text.push_str(
        "If tasks on several CPUs are each at one of these steps, each waits for the next one, \
         for ever.",
    );
    text
}

/// An assertion helper that fired: who was expected to hold what.
fn assertion(splat: &Splat) -> String {
    let helper = splat.frames.iter().find(|frame| {
        let name = frame.name();
        !frame.unreliable
            && (name.ends_with("assert_held")
                || name.contains("assert_held_")
                || name.ends_with("assert_locked")
                || name.ends_with("assert_write_locked"))
    });
    // Inlined helpers leave only the place behind.
    let place = splat.source.as_deref().is_some_and(|source| {
        ["include/linux/rwsem.h", "include/linux/mmap_lock.h", "include/linux/lockdep.h"]
            .iter()
            .any(|header| source.starts_with(header))
    });
    if helper.is_none() && !place {
        return String::new();
    }
    let own: Vec<&Frame> = splat
        .frames
        .iter()
        .filter(|frame| !frame.unreliable && !blame::is_machinery(&frame.function))
        .collect();
    let lock = match (splat.source.as_deref(), helper.map(Frame::name)) {
        (_, Some(name)) if name.starts_with("mmap") => "the mmap_lock",
        (Some(source), _) if source.starts_with("include/linux/mmap_lock.h") => "the mmap_lock",
        (_, Some(name)) if name.starts_with("rwsem") => "a read-write semaphore",
        (Some(source), _) if source.starts_with("include/linux/rwsem.h") => {
            "a read-write semaphore"
        }
        _ => "a lock",
    };
    let mut text = format!("{} expects its caller to hold {lock}", at(own.first().copied()));
    if let Some(helper) = helper {
        let _ = write!(text, " ({} checks it)", helper.function);
    }
    match own.get(1) {
        Some(caller) => {
            let _ = write!(text, "; {} called it without.", at(Some(caller)));
        }
        None => text.push_str("; it was not held."),
    }
    text.push_str(
        " To lockdep a lock counts as held only between the acquisition and the release it was \
         told of: a release announced early looks the same as a lock never taken.",
    );
    text
}

fn held(held: &[HeldLock]) -> String {
    if held.is_empty() {
        return String::new();
    }
    let mut text = String::from("Held at that moment, first taken first:");
    for lock in held {
        let _ = write!(
            text,
            "\n  #{} {} taken in {}",
            lock.index,
            name(&lock.class),
            at(lock.at.as_ref())
        );
    }
    text
}

/// The usage bits in words, for the classes the rule was broken with.
fn usages(report: &LockdepReport) -> String {
    let mut text = String::new();
    for class in report.classes.iter().take(8) {
        let bits: Vec<char> = class.usage.chars().collect();
        // Kernels before 4.16 had two more bits, for memory reclaim; they are not told.
        if !matches!(bits.len(), 4 | 6) {
            continue;
        }
        let contexts = [
            ("hardware interrupts", ""),
            ("hardware interrupts", " (as a reader)"),
            ("softirqs", ""),
            ("softirqs", " (as a reader)"),
        ];
        let words: Vec<String> = bits
            .iter()
            .zip(contexts)
            .filter_map(|(bit, (context, how))| match bit {
                '-' => Some(format!("in {context}{how}")),
                '+' => Some(format!("with {context} enabled{how}")),
                '?' => Some(format!("both in {context} and with them enabled{how}")),
                _ => None,
            })
            .collect();
        if words.is_empty() {
            continue;
        }
        if text.is_empty() {
            text.push_str("How the locks were used so far:");
        }
        let _ = write!(text, "\n  {}: {}", name(class), words.join("; "));
    }
    text
}

/// The own frames, so that a reader need not dig.
fn stack(splat: &Splat) -> String {
    let own: Vec<String> = splat
        .frames
        .iter()
        .filter(|frame| !frame.unreliable && !blame::is_machinery(&frame.function))
        .take(6)
        .map(|frame| at(Some(frame)))
        .collect();
    if own.is_empty() {
        return String::new();
    }
    format!("On the stack, innermost first: {}.", own.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::see::observe::parse;

    /// Prose is never wider than it should be, and nothing is lost.
    #[test]
    fn prose_is_folded() {
        let word = "lock ".repeat(60);
        let text = format!("{}\n\n  1. {}\n", word.trim_end(), word.trim_end());
        let folded = folded(&text);
        assert!(folded.lines().all(|line| line.chars().count() <= WIDTH), "{folded}");
        assert_eq!(folded.split_whitespace().count(), text.split_whitespace().count());
        assert!(folded.contains("\n     lock"));
    }

    /// The assertion of the case study: who expected what, and who did not keep to it.
    #[test]
    fn an_assertion_names_both_sides() {
        let log = "[    1.000000] WARNING: CPU: 1 PID: 1 at include/linux/rwsem.h:195 rwsem_assert_held+0x2c/0x34\n\
            [    1.000000] Call Trace:\n\
            [    1.000000]  rwsem_assert_held+0x2c/0x34\n\
            [    1.000000]  find_vma+0x1/0x20\n\
            [    1.000000]  stack_map_get_build_id_offset+0x1/0x20\n";
        let text = explain(&parse(log.as_bytes())[0]).replace('\n', " ");
        assert!(text.contains(
            "find_vma expects its caller to hold a read-write semaphore (rwsem_assert_held checks it); \
             stack_map_get_build_id_offset called it without."
        ), "{text}");
    }

    #[test]
    fn states_are_told_in_words() {
        assert_eq!(state("{SOFTIRQ-ON-W}"), "with softirqs enabled");
        assert_eq!(state("{IN-HARDIRQ-R}"), "in a hardware interrupt (as a reader)");
        assert_eq!(state("{IN-NMI}"), "in an NMI");
    }
}
