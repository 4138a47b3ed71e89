// SPDX-License-Identifier: MIT OR Apache-2.0
//! Probes that are hit a known number of times by the own thread: by events, by links of
//! BPF programs, and by what tracefs makes.

use std::ffi::CStr;
use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use super::{SHORT_ROUNDS, Stage};
use crate::engine::events::PROBED;
use crate::engine::pool::BPF_TRACE_UPROBE_MULTI;
use crate::engine::scratch::RUNS;
use crate::op::ProgKind;
use crate::op::step::{Body, Flaw};
use crate::op::value::Dice;
use crate::sys::call::{self, Answer, Attributes};
use crate::sys::trigger::Stack;

const TRACING: &str = "/sys/kernel/tracing";
const LINK_CREATE: u32 = 28;

pub(super) fn run(stage: &mut Stage<'_>) -> Answer<()> {
    match stage.play.dice.below(6) {
        0 | 1 => events(stage),
        2 | 3 => link(stage),
        4 => in_tracefs(stage, false),
        _ => in_tracefs(stage, true),
    }
}

/// What is probed: a tracepoint that nothing else of this thread hits.
pub(super) const FILE_LOCK: u32 = 0;

/// Hits, by what is probed.
pub(super) fn hit(stage: &Stage<'_>, what: u32, times: u32) -> Answer<()> {
    let stack = Stack::new(&[0x1000]);
    for _ in 0..times {
        match what {
            FILE_LOCK => drop(stack.file_lock(stage.executor.files.text.as_fd())?),
            1 => drop(stack.signal()?),
            _ => stack.spin(1),
        }
    }
    Ok(())
}

fn events(stage: &mut Stage<'_>) -> Answer<()> {
    let what = stage.play.dice.below(3);
    let path = c"/proc/self/exe";
    let attributes = Attributes::default().word(4, 136);
    let attributes = match what {
        0 => attributes
            .word(0, 2)
            .double(8, stage.executor.tracepoints.file_lock.ok_or(libc::ENOENT)?),
        1 => attributes
            .word(0, stage.executor.kprobes.ok_or(libc::ENOENT)?)
            .input(56, PROBED.to_bytes_with_nul()),
        _ => attributes
            .word(0, stage.executor.uprobes.ok_or(libc::ENOENT)?)
            .input(56, path.to_bytes_with_nul())
            .double(64, stage.executor.uprobe_at),
    };
    let mut events = Vec::new();
    for _ in 0..=stage.play.dice.below(2) {
        let sampled = u64::from(stage.play.dice.below(2));
        // Bit 1 inherits: a hit of the parent's counts all the same.
        let flags = u64::from(stage.play.dice.below(3) == 0) << 1;
        let attributes = attributes.clone().double(16, sampled).double(40, flags);
        events.push(call::perf_event_open(&attributes, 0, -1, None)?);
    }
    let rounds = 1 + stage.play.dice.below(3);
    let mut counts = vec![0; events.len()];
    // Rounds in a row that counted too little.
    let mut short = 0;
    let mut round = 0;
    while round < rounds || (1..SHORT_ROUNDS).contains(&short) {
        let times = 1 + stage.play.dice.below(60);
        hit(stage, what, times)?;
        let mut missed = None;
        for (event, before) in events.iter().zip(&mut counts) {
            let mut memory = [0_u64; 4];
            call::read_words(event.as_fd(), &mut memory)?;
            let counted = memory[0].wrapping_sub(std::mem::replace(before, memory[0]));
            let name = ["tracepoint", "kprobe", "uprobe"][what as usize];
            let said = format!("a {name} was hit {times} times and counted {counted}");
            // Other calls than ours come by the kprobe.
            if counted > times.into() && what != 1 {
                stage.wrong(said);
            } else if counted < times.into() {
                missed = Some(said);
            }
        }
        short = if missed.is_some() { short + 1 } else { 0 };
        if let Some(said) = missed.filter(|_| short == SHORT_ROUNDS) {
            stage.wrong(format!("{said}, the last of {short} rounds that were short"));
        }
        round += 1;
    }
    close(stage, events);
    Ok(())
}

/// Closes what may wait for RCU where nobody waits for it, or at once.
fn close(stage: &mut Stage<'_>, fds: Vec<OwnedFd>) {
    for fd in fds {
        stage.executor.reap(fd);
    }
}

/// A link to several places of one file, one of which is hit.
fn link(stage: &mut Stage<'_>) -> Answer<()> {
    let program =
        stage.executor.load(ProgKind::UprobeMulti, Flaw::Sound, Vec::new(), &Body::default())?;
    let places = 1 + stage.play.dice.below(4);
    let mut offsets: Vec<u64> = (1..places).map(|nth| 64 * u64::from(nth)).collect();
    // The place that is hit is one of them, once.
    let at = stage.play.dice.below(places) as usize;
    offsets.insert(at.min(offsets.len()), stage.executor.uprobe_at);
    let bytes: Vec<u8> = offsets.iter().flat_map(|at| at.to_ne_bytes()).collect();
    let cookies = bytes.clone();
    let with_cookies = stage.play.dice.below(2) == 0;
    let attributes = Attributes::default()
        .fd(0, program.as_fd())
        .word(8, BPF_TRACE_UPROBE_MULTI)
        .input(16, c"/proc/self/exe".to_bytes_with_nul())
        .input(24, &bytes)
        .word(48, places)
        .word(56, std::process::id());
    let attributes = if with_cookies { attributes.input(40, &cookies) } else { attributes };
    // Now and then without a descriptor left for it.
    let full = stage.play.dice.below(3) == 0;
    let made = if full {
        super::promises::without_descriptors(|| call::bpf_fd(LINK_CREATE, attributes, 64))
    } else {
        call::bpf_fd(LINK_CREATE, attributes, 64)
    };
    let before = stage.executor.counters.load(RUNS);
    let times = 1 + stage.play.dice.below(40);
    hit(stage, 2, times)?;
    let runs = stage.executor.counters.load(RUNS).wrapping_sub(before);
    match made {
        Ok(link) => {
            // Programs of events and dispatchers count, too.
            if runs < u64::from(times) {
                stage.wrong(format!("a uprobe link was hit {times} times and ran {runs} times"));
            }
            if stage.play.dice.below(2) == 0 {
                drop(link);
            } else {
                stage.executor.reap(link);
            }
        }
        Err(libc::EMFILE) if full => {
            // What was not made is not there: whoever probes the same place finds out.
            events_again(stage)?;
        }
        Err(errno) => return Err(errno),
    }
    Ok(())
}

/// A probe where a link failed.
fn events_again(stage: &mut Stage<'_>) -> Answer<()> {
    let attributes = Attributes::default()
        .word(0, stage.executor.uprobes.ok_or(libc::ENOENT)?)
        .word(4, 136)
        .input(56, c"/proc/self/exe".to_bytes_with_nul())
        .double(64, stage.executor.uprobe_at);
    let event = call::perf_event_open(&attributes, 0, -1, None)?;
    hit(stage, 2, 3)?;
    drop(event);
    hit(stage, 2, 1)
}

/// A probe event of tracefs, hit, and counted in its profile.
fn in_tracefs(stage: &mut Stage<'_>, user: bool) -> Answer<()> {
    let errno = |error: std::io::Error| error.raw_os_error().unwrap_or(libc::EIO);
    let (file, profile) = if user {
        ("uprobe_events", "uprobe_profile")
    } else {
        ("kprobe_events", "kprobe_profile")
    };
    let name = format!("p{}", std::process::id());
    let returns = stage.play.dice.below(4) == 0;
    let head = if returns && !user { "r" } else { "p" };
    let path = fs::read_link("/proc/self/exe").map_err(errno)?;
    let arguments = arguments(&mut stage.play.dice, user);
    let place = if user {
        format!("{}:{:#x}", path.display(), stage.executor.uprobe_at)
    } else {
        PROBED.to_string_lossy().into_owned()
    };
    let write = |to: &str, text: &str| {
        let mut file = fs::File::options().append(true).open(format!("{TRACING}/{to}"))?;
        file.write_all(text.as_bytes())
    };
    write(file, &format!("{head}:bakeoff/{name} {place}{arguments}\n")).map_err(errno)?;
    let enable = format!("events/bakeoff/{name}/enable");
    let played = (|| -> Answer<()> {
        let on = fs::write(format!("{TRACING}/{enable}"), "1");
        on.map_err(errno)?;
        let times = 1 + stage.play.dice.below(30);
        hit(stage, if user { 2 } else { 1 }, times)?;
        let text = fs::read_to_string(format!("{TRACING}/{profile}")).map_err(errno)?;
        let hits = hits_of(&text, &name);
        // Others come by, too.
        if hits.is_some_and(|hits| hits < u64::from(times)) {
            let line = text.lines().find(|line| line.contains(&name)).unwrap_or("nothing");
            stage.wrong(format!(
                "a probe of {file} ({head}{arguments}) was hit {times} times and its profile says \
                 {line:?}"
            ));
        }
        Ok(())
    })();
    let _ = fs::write(format!("{TRACING}/{enable}"), "0");
    let _ = write(file, &format!("-:bakeoff/{name}\n"));
    played
}

/// What a long string of a probe's is read from.
static LONG: &CStr = {
    const BYTES: [u8; 1501] = {
        let mut bytes = [b'x'; 1501];
        bytes[1500] = 0;
        bytes
    };
    match CStr::from_bytes_with_nul(&BYTES) {
        Ok(long) => long,
        Err(_) => c"x",
    }
};

/// Bytes that a probe notes at most. A uprobe that notes more than a page has the kernel warn
/// (`prepare_uprobe_buffer()` of 6.12.117), and strings from the stack may be longer than
/// they are taken for here.
const NOTED: usize = 2800;

/// What a probe notes when it is hit (Documentation/trace/kprobetrace.rst and
/// uprobetracer.rst): often nothing, now and then as much as there is room for.
fn arguments(dice: &mut dyn Dice, user: bool) -> String {
    const TYPES: [(&str, usize); 10] = [
        ("u8", 1),
        ("s16", 2),
        ("x32", 4),
        ("u64", 8),
        ("char", 1),
        ("x8[4]", 4),
        ("u64[16]", 128),
        ("x16[64]", 128),
        ("b5@3/32", 4),
        ("s32[2]", 8),
    ];
    let count = match dice.below(8) {
        0 | 1 => 0,
        2..=5 => 1 + dice.below(4),
        6 => 5 + dice.below(12),
        _ => 40 + dice.below(60),
    };
    let register = if cfg!(target_arch = "x86_64") { "%di" } else { "%x0" };
    let long = LONG.as_ptr().addr();
    let (mut written, mut size) = (String::new(), 0);
    for nth in 0..count {
        let (kind, bytes) = TYPES[dice.below(10) as usize];
        let offset = 8 * dice.below(32);
        let (argument, bytes) = match dice.below(9) {
            0 => ("$comm".to_owned(), 24),
            1 => ("$comm:string".to_owned(), 24),
            2 => ("$stack".to_owned(), 8),
            3 => (format!("$stack{}", dice.below(20)), 8),
            4 => (format!("{register}:{}", kind.split('[').next().unwrap_or(kind)), 8),
            5 => (format!("\\{offset}"), 8),
            6 if user => (format!("@{long:#x}:string"), 1505),
            6 => (format!("+u0(\\{long}):ustring"), 1505),
            7 => (format!("+{offset}(%sp):string"), 64),
            _ => (format!("+{offset}(%sp):{kind}"), bytes),
        };
        if size + bytes > NOTED {
            continue;
        }
        size += bytes;
        written.push_str(&format!(" a{nth}={argument}"));
    }
    written
}

/// The hits of a probe in a profile of tracefs: behind its name, whatever stands before.
fn hits_of(profile: &str, name: &str) -> Option<u64> {
    profile.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != name);
        words.next()?;
        words.next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A probe's hits stand behind its name, with or without a file before it.
    #[test]
    fn hits_are_behind_the_name() {
        let text = "  /bin/fuzzer p7                12        0\n  p8    3   1\n";
        assert_eq!(hits_of(text, "p7"), Some(12));
        assert_eq!(hits_of(text, "p8"), Some(3));
        assert_eq!(hits_of(text, "p9"), None);
    }
}
