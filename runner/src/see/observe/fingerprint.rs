//! Is it the same bug? Kind, lock classes and call chain say so; a title does not: two lock
//! inversions that are found in one function share it.
//!
//! What differs from boot to boot, from compiler to compiler or between architectures has no part
//! in the identity: addresses, offsets, tasks, CPUs, compiler suffixes, the entry code, the numbers
//! lockdep gives to namesakes, and which side of a circle ran into it.

use crate::see::observe::blame;
use crate::see::observe::frame::Frame;
use crate::see::observe::{Kind, LockKind, LockdepReport, Splat};

/// How many own frames tell two bugs of one kind apart. Deeper ones say how the code was reached,
/// and a helper more or less in between, inlined or not, would change the identity.
const DEPTH: usize = 2;

/// The identity of a splat, as 16 hexadecimal digits.
pub fn fingerprint(splat: &Splat) -> String {
    // FNV-1a, 64 bits: stable across versions of Rust, which `DefaultHasher` is not.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for word in signature(splat) {
        for byte in word.bytes().chain([b'\n']) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

/// What the identity is made of, in words, one a line.
pub fn signature(splat: &Splat) -> Vec<String> {
    let mut words = vec![family(&splat.row).to_owned()];
    match &splat.lockdep {
        Some(report) if !report.classes.is_empty() => locks(report, splat, &mut words),
        _ => match &splat.function {
            // Where in its loop a CPU was hit, or who called the one that waits, is chance.
            Some(function) if splat.kind == Kind::Hang => words.push(function.clone()),
            Some(function) => {
                words.push(function.clone());
                own_frames(&splat.frames, function, &mut words);
            }
            None => words.push(splat.title.clone()),
        },
    }
    words
}

fn locks(report: &LockdepReport, splat: &Splat, words: &mut Vec<String>) {
    if report.kind == LockKind::Circular && !report.chain.is_empty() {
        let mut edges: Vec<String> = report
            .chain
            .iter()
            .map(|link| {
                let at = link.at.as_ref();
                let name = at.map(|frame| blame::title_name(&frame.function));
                format!("{} in {}", class_name(&link.class.name), name.as_deref().unwrap_or("?"))
            })
            .collect();
        // A circle has no beginning: whoever comes last reports it, and that is chance.
        let first =
            edges.iter().enumerate().min_by_key(|(_, edge)| edge.as_str()).map_or(0, |(at, _)| at);
        edges.rotate_left(first);
        words.append(&mut edges);
        return;
    }
    let mut sides = [("taken", &report.acquiring), ("held", &report.holding)]
        .into_iter()
        .filter_map(|(how, used)| Some((how, used.as_ref()?)))
        .peekable();
    if sides.peek().is_none() {
        for held in &report.held {
            words.push(format!("held {}", class_name(&held.class.name)));
        }
    }
    for (how, used) in sides {
        let class = class_name(&used.class.name);
        match used.at.as_ref().filter(|at| !blame::is_machinery(&at.function)) {
            Some(at) => words.push(format!("{how} {class} in {}", blame::title_name(&at.function))),
            None => words.push(format!("{how} {class}")),
        }
    }
    if let Some(function) = &splat.function {
        words.push(function.clone());
    }
}

/// Wordings of one kind of report count as one.
fn family(row: &str) -> &str {
    for ending in ["-warning", "-bug", "-info", "-old"] {
        if let Some(stem) = row.strip_suffix(ending) {
            return stem;
        }
    }
    row
}

/// The innermost frames below `function` that are nobody's helper and no entry.
fn own_frames(frames: &[Frame], function: &str, words: &mut Vec<String>) {
    let mut own: Vec<String> = frames
        .iter()
        .filter(|frame| !frame.unreliable && !frame.inlined)
        .filter(|frame| !blame::is_machinery(&frame.function))
        .map(|frame| blame::title_name(&frame.function))
        .collect();
    own.dedup();
    // Above the blamed function stand only those who act on its behalf. If it was inlined, or is
    // named by the registers alone, all of the stack is below it.
    let below = own.iter().position(|name| name == function).map_or(0, |at| at + 1);
    words.extend(own.drain(below..).take(DEPTH - 1));
}

/// The name of a class without the number that lockdep appends to namesakes in the order they turn
/// up, which differs from boot to boot.
fn class_name(name: &str) -> String {
    match name.rfind('#') {
        Some(at) => {
            let rest = &name[at + 1..];
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            format!("{}{}", &name[..at], &rest[digits..])
        }
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::see::observe::parse;

    fn print(log: &str) -> String {
        fingerprint(&parse(log.as_bytes())[0])
    }

    fn warn(head: &str, frames: &[&str]) -> String {
        let mut log = format!("[    1.000000] {head}\n[    1.000000] Call Trace:\n");
        for frame in frames {
            log += &format!("[    1.000000]  {frame}\n");
        }
        log
    }

    /// Nothing of what differs between two boots of one bug is part of its identity.
    #[test]
    fn the_same_bug_is_the_same() {
        let x86 = print(&warn(
            "WARNING: CPU: 0 PID: 1 at fs/x.c:28 f+0x1/0x20",
            &[
                "__warn+0x1/0x2",
                "f+0x1/0x20",
                "g+0x5/0x90",
                "__x64_sys_read+0x1/0x2",
                "do_syscall_64+0x1/0x2",
            ],
        ));
        let arm64 = print(&warn(
            "WARNING: CPU: 3 PID: 77 at fs/x.c:29 f+0x44/0x120 [mod]",
            &[
                "f+0x44/0x120 [mod]",
                "? h+0x1/0x2",
                "g.isra.0+0x15/0x80",
                "__arm64_sys_read+0x1/0x2",
                "invoke_syscall+0x1/0x2",
            ],
        ));
        let new_words = print(&warn(
            "WARNING: fs/x.c:29 at f+0x44/0x120, CPU#1: init/1",
            &["f.cold+0x44/0x120", "g.constprop.1+0x15/0x80", "__arm64_sys_read+0x1/0x2"],
        ));
        assert_eq!(x86, arm64);
        assert_eq!(x86, new_words);
    }

    /// One title, two bugs: the caller tells them apart.
    #[test]
    fn two_bugs_with_one_title_differ() {
        let one =
            warn("WARNING: CPU: 0 PID: 1 at fs/x.c:28 f+0x1/0x20", &["f+0x1/0x20", "g+0x5/0x90"]);
        let two =
            warn("WARNING: CPU: 0 PID: 1 at fs/x.c:28 f+0x1/0x20", &["f+0x1/0x20", "h+0x5/0x90"]);
        assert_eq!(parse(one.as_bytes())[0].title, parse(two.as_bytes())[0].title);
        assert_ne!(print(&one), print(&two));
    }

    fn circle(first: (&str, &str), second: (&str, &str)) -> String {
        format!(
            "WARNING: possible circular locking dependency detected\n\
             a/1 is trying to acquire lock:\nffff ({0}){{+.+.}}-{{3:3}}, at: {1}+0x1/0x2\n\
             but task is already holding lock:\nffff ({2}){{+.+.}}-{{3:3}}, at: {1}+0x1/0x2\n\
             the existing dependency chain (in reverse order) is:\n\
             -> #1 ({2}){{+.+.}}-{{3:3}}:\n       lock_acquire+0x1/0x2\n       {3}+0x1/0x2\n\
             -> #0 ({0}){{+.+.}}-{{3:3}}:\n       __lock_acquire+0x1/0x2\n       {1}+0x1/0x2\n\
             stack backtrace:\nCall Trace:\n {1}+0x1/0x2\n",
            first.0, first.1, second.0, second.1
        )
    }

    /// Which side of a circle runs into it is chance; which locks it is made of is not.
    #[test]
    fn a_circle_has_no_beginning() {
        let one = print(&circle(("&a", "f"), ("&b", "g")));
        let other_side = print(&circle(("&b", "g"), ("&a", "f")));
        let renumbered = print(&circle(("&a#3", "f"), ("&b", "g")));
        let other_lock = print(&circle(("&a", "f"), ("&c", "g")));
        assert_eq!(one, other_side);
        assert_eq!(one, renumbered);
        assert_ne!(one, other_lock);
    }
}
