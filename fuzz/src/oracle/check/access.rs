// SPDX-License-Identifier: MIT OR Apache-2.0
//! What may not be done: without capabilities, beyond the limit of locked memory, and to
//! BPF maps that are for reading or writing only, or frozen.

use std::os::fd::AsFd;
use std::sync::OnceLock;

use super::Stage;
use super::maps::{Map, possible_cpus};
use super::memory::status;
use crate::engine::assemble::nothing;
use crate::engine::events::PROBED;
use crate::engine::pool::load;
use crate::op::ProgKind;
use crate::op::value::Dice;
use crate::sys::call::{self, Answer, Attributes, Region};
use crate::sys::yard::{PAGE, PAGES, Stretch};

pub(super) fn run(stage: &mut Stage<'_>) -> Answer<()> {
    match stage.play.dice.below(4) {
        0 => perf(stage),
        1 => bpf(stage),
        2 => locked(stage),
        _ => modes(stage),
    }
}

/// `kernel.perf_event_paranoid`.
fn paranoid() -> Option<i32> {
    static IS: OnceLock<Option<i32>> = OnceLock::new();
    *IS.get_or_init(|| {
        std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").ok()?.trim().parse().ok()
    })
}

/// The capabilities that are left, in words.
fn left(capabilities: u64) -> &'static str {
    match capabilities {
        0 => "without capabilities",
        call::PERFMON => "with CAP_PERFMON only",
        call::BPF => "with CAP_BPF only",
        _ => "with CAP_PERFMON and CAP_BPF only",
    }
}

/// perf_event_open(2) without capabilities, or with one of them, by
/// Documentation/admin-guide/perf-security.rst.
fn perf(stage: &mut Stage<'_>) -> Answer<()> {
    const USER_ONLY: u64 = 1 << 5;
    const NO_KERNEL_CHAIN: u64 = 1 << 21;
    const NAMESPACES: u64 = 1 << 28;
    const CALLCHAIN: u64 = 1 << 5;
    const RAW: u64 = 1 << 10;
    const PHYSICAL: u64 = 1 << 19;
    if paranoid() != Some(2) {
        return Err(libc::ENOTSUP);
    }
    let capabilities = [0, call::PERFMON, call::BPF][stage.play.dice.below(3) as usize];
    let of = |kind: u32, config: u64, bits: u64| {
        Attributes::default().word(0, kind).word(4, 136).double(8, config).double(40, bits)
    };
    let dummy = |bits: u64| of(1, 9, bits);
    let path = c"/proc/self/exe".to_bytes_with_nul();
    let refused: &[i32] = &[libc::EACCES, libc::EPERM];
    let monitors = if capabilities == call::PERFMON { &[0][..] } else { refused };
    let chains = dummy(USER_ONLY | NO_KERNEL_CHAIN).double(24, CALLCHAIN);
    let mut calls = vec![
        ("an event of its own", dummy(USER_ONLY), (0, -1), &[0][..]),
        ("call chains of its own", chains, (0, -1), &[0][..]),
        ("an event of the kernel, too", dummy(0), (0, -1), monitors),
        ("an event of a CPU", dummy(USER_ONLY), (-1, 0), monitors),
        ("call chains of the kernel", dummy(USER_ONLY).double(24, CALLCHAIN), (0, -1), monitors),
        ("physical addresses", dummy(USER_ONLY).double(24, PHYSICAL), (0, -1), monitors),
        ("namespaces", dummy(USER_ONLY | NAMESPACES), (0, -1), monitors),
    ];
    if let Some(id) = stage.executor.tracepoints.file_lock {
        let raw = of(2, id, USER_ONLY).double(16, 1).double(24, RAW);
        calls.push(("a tracepoint that is counted", of(2, id, USER_ONLY), (0, -1), &[0][..]));
        calls.push(("a tracepoint's data", raw, (0, -1), monitors));
    }
    if let Some(kprobes) = stage.executor.kprobes {
        let attributes = of(kprobes, 0, USER_ONLY).input(56, PROBED.to_bytes_with_nul());
        calls.push(("a kprobe", attributes, (0, -1), monitors));
    }
    if let Some(uprobes) = stage.executor.uprobes {
        let at = stage.executor.uprobe_at;
        let attributes = of(uprobes, 0, USER_ONLY).input(56, path).double(64, at);
        // Writes to memory of any task's: CAP_SYS_ADMIN, whatever else there is.
        calls.push(("a uprobe", attributes, (0, -1), refused));
    }
    let answers: Vec<_> = call::with_capabilities(capabilities, || {
        let open = |attributes, (thread, cpu)| call::perf_event_open(attributes, thread, cpu, None);
        calls.iter().map(|(_, attributes, whose, _)| open(attributes, *whose)).collect()
    })?;
    for ((what, .., promised), answer) in calls.iter().zip(answers) {
        stage.expect(&format!("{}, {what}", left(capabilities)), promised, &answer);
        if let Ok(event) = answer {
            stage.executor.reap(event);
        }
    }
    Ok(())
}

/// bpf(2) without capabilities, or with some.
fn bpf(stage: &mut Stage<'_>) -> Answer<()> {
    type Call = Box<dyn Fn() -> Answer<()>>;
    let id =
        |command| move || call::bpf_fd(command, Attributes::default().word(0, 1), 12).map(drop);
    let map = |kind, key, flags| move || Map::create(kind, key, 8, 4, flags).map(drop);
    let program = |kind| move || load(kind, &nothing(0), None).map(drop);
    let next = |command: u32| move || call::bpf_next_id(command, 0).map(drop);
    let task = || {
        let attributes = Attributes::default().word(0, std::process::id());
        call::bpf(20, attributes, 48).map(drop)
    };
    let both = call::BPF | call::PERFMON;
    let capabilities = [0, call::PERFMON, call::BPF, both][stage.play.dice.below(4) as usize];
    // What it takes; CAP_SYS_ADMIN is never there.
    const ADMIN: u64 = 1 << 21;
    let calls: Vec<(&str, u64, Call)> = vec![
        ("the next program", ADMIN, Box::new(next(11))),
        ("the next map", ADMIN, Box::new(next(12))),
        ("a program by its id", ADMIN, Box::new(id(13))),
        ("a map by its id", ADMIN, Box::new(id(14))),
        ("types by their id", ADMIN, Box::new(id(19))),
        ("a link by its id", ADMIN, Box::new(id(30))),
        ("what an event of a task runs", ADMIN, Box::new(task)),
        ("run times", ADMIN, Box::new(|| call::bpf_fd(32, Attributes::default(), 4).map(drop))),
        ("a stack map", call::BPF, Box::new(map(7, 4, 0))),
        ("an LPM trie", call::BPF, Box::new(map(11, 8, 1))),
        ("an LRU map", call::BPF, Box::new(map(9, 4, 0))),
        ("a program on a kprobe", both, Box::new(program(ProgKind::Kprobe))),
        ("a program on a raw tracepoint", both, Box::new(program(ProgKind::RawTp))),
    ];
    let answers: Vec<Answer<()>> =
        call::with_capabilities(capabilities, || calls.iter().map(|(.., call)| call()).collect())?;
    for ((what, takes, _), answer) in calls.iter().zip(answers) {
        let right = if takes & !capabilities == 0 { 0 } else { libc::EPERM };
        stage.expect(&format!("{}, {what}", left(capabilities)), &[right], &answer);
    }
    Ok(())
}

/// Locked memory up to the limit and no further, `mlock(2)`; and a perf buffer beyond it.
fn locked(stage: &mut Stage<'_>) -> Answer<()> {
    let before = status("VmLck:").ok_or(libc::ENOENT)? / 4;
    let room = u64::from(stage.play.dice.below(12));
    let page = PAGE as u64;
    let old = call::limit_locked((before + room) * page)?;
    let played = call::with_capabilities(0, || lock(stage, before, room));
    let buffer = (before + room < 512 && paranoid().is_some_and(|level| level > -1))
        .then(|| buffer_beyond(stage));
    call::limit_locked(old)?;
    let _ = Stretch::yard(0, PAGES).unmap();
    buffer.transpose()?;
    played?
}

/// The yard, page by page: what is locked is as much as there is room for.
fn lock(stage: &mut Stage<'_>, before: u64, room: u64) -> Answer<()> {
    const BOTH: i32 = libc::PROT_READ | libc::PROT_WRITE;
    Stretch::yard(0, PAGES).map(None, BOTH, libc::MAP_PRIVATE, 0)?;
    let mut locked = [false; PAGES];
    for _ in 0..4 + stage.play.dice.below(12) {
        let dice = &mut stage.play.dice;
        let at = dice.below(32) as usize;
        let pages = (1 + dice.below(8) as usize).min(PAGES - at);
        let stretch = Stretch::yard(at, pages);
        let range = at..at + pages;
        let all = locked.iter().filter(|page| **page).count() as u64;
        let there = locked.get(range.clone()).unwrap_or_default();
        let there = there.iter().filter(|page| **page).count() as u64;
        let more = pages as u64;
        let none = before + room == 0;
        let (what, answer, right, then) = match dice.below(4) {
            0 | 1 => {
                let on_fault = dice.below(2);
                let right = match all + more - there > room {
                    _ if none => Err(libc::EPERM),
                    true => Err(libc::ENOMEM),
                    false => Ok(()),
                };
                ("mlock2", stretch.lock(on_fault), right, true)
            }
            2 => ("munlock", stretch.unlock(), Ok(()), false),
            _ => {
                let flags = libc::MAP_PRIVATE | libc::MAP_LOCKED;
                let right = match all + more > room {
                    _ if none => Err(libc::EPERM),
                    true => Err(libc::EAGAIN),
                    false => Ok(()),
                };
                ("mmap with MAP_LOCKED", stretch.map(None, BOTH, flags, 0), right, true)
            }
        };
        if answer.is_ok() {
            locked.get_mut(range).unwrap_or_default().fill(then);
        }
        let answer = answer.map(drop);
        if answer != right {
            stage.wrong(format!(
                "{what} of {pages} pages, {there} of them locked, {all} locked in all and room for \
                 {room}: {answer:?} and not {right:?}"
            ));
            return Ok(());
        }
    }
    let all = locked.iter().filter(|page| **page).count() as u64;
    let now = status("VmLck:").map(|kib| kib / 4);
    if now != Some(before + all) {
        stage.wrong(format!("{all} pages were locked: VmLck is {now:?} pages and was {before}"));
    }
    Ok(())
}

/// A perf buffer that takes more than what each user may have and this process may lock.
fn buffer_beyond(stage: &mut Stage<'_>) -> Answer<()> {
    // perf_event_mlock_kb for each CPU, and 4 MiB more.
    let free = std::fs::read_to_string("/proc/sys/kernel/perf_event_mlock_kb").ok();
    let free: usize = free.and_then(|kib| kib.trim().parse().ok()).unwrap_or(516);
    let pages = (free / 4 * possible_cpus() + 1024).next_power_of_two();
    let attributes = Attributes::default().word(0, 1).word(4, 136).double(8, 9).double(40, 1 << 5);
    let answer = call::with_capabilities(0, || {
        let event = call::perf_event_open(&attributes, 0, -1, None)?;
        Region::map(event.as_fd(), (1 + pages) * PAGE, true).map(drop)
    })?;
    stage.expect("a perf buffer beyond the limit", &[libc::EPERM], &answer);
    Ok(())
}

/// Maps that user space may only read, or only write, and maps that are frozen.
fn modes(stage: &mut Stage<'_>) -> Answer<()> {
    const READ_ONLY: u32 = 1 << 3;
    const WRITE_ONLY: u32 = 1 << 4;
    const NOT_WRITTEN_BY_PROGRAMS: u32 = 1 << 7;
    const MAPPABLE: u32 = 1 << 10;
    let mode = [0, 0, 0, READ_ONLY, WRITE_ONLY][stage.play.dice.below(5) as usize];
    // A hash, an array, and one that can be mapped.
    let which = stage.play.dice.below(3);
    let by_programs = which > 0 && stage.play.dice.below(3) == 0;
    let flags = mode
        | if which == 2 { MAPPABLE } else { 0 }
        | if by_programs { NOT_WRITTEN_BY_PROGRAMS } else { 0 };
    let kind = if which == 0 { 1 } else { 2 };
    let map = Map::create(kind, 4, 8, 4, flags)?;
    let name = format!("a map of kind {kind}, flags {flags:#x}");
    let (reads, mut writes) = (mode != WRITE_ONLY, mode != READ_ONLY);
    let mut frozen = false;
    let mut value = 0;
    let (mut view, mut written): (Option<Region>, bool) = (None, false);
    for step in 1..=6 + u64::from(stage.play.dice.below(10)) {
        let zero = [0; 4];
        let frozen_name = if frozen { format!("{name}, frozen") } else { name.clone() };
        let found = match written || kind == 2 {
            _ if !reads => libc::EPERM,
            true => 0,
            false => libc::ENOENT,
        };
        match stage.play.dice.below(8) {
            0 | 1 => {
                let answer = map.update(&zero, &step.to_ne_bytes(), 0);
                let right = if writes { 0 } else { libc::EPERM };
                stage.expect(&format!("{frozen_name}: update"), &[right], &answer);
                if answer.is_ok() {
                    (value, written) = (step, true);
                }
            }
            2 | 3 => {
                let answer = map.lookup(1, &zero);
                stage.expect(&format!("{frozen_name}: lookup"), &[found], &answer);
                let read = answer.ok().and_then(|bytes| bytes.try_into().ok());
                if let Some(read) = read.map(u64::from_ne_bytes).filter(|read| *read != value) {
                    stage.wrong(format!("{frozen_name}: {read} is found and {value} was put"));
                }
            }
            4 => {
                let answer = map.next(None);
                stage.expect(&format!("{frozen_name}: the next key"), &[found], &answer);
            }
            5 => {
                let answer = map.delete(&zero);
                let right = match (writes, kind) {
                    (false, _) => libc::EPERM,
                    (true, 2) => libc::EINVAL,
                    (true, _) if written => 0,
                    (true, _) => libc::ENOENT,
                };
                stage.expect(&format!("{frozen_name}: deletion"), &[right], &answer);
                written &= answer.is_err();
            }
            6 if which == 2 => {
                let for_writing = stage.play.dice.below(2) == 0;
                let answer = Region::map(map.fd.as_fd(), PAGE, for_writing);
                let right: &[i32] = match for_writing {
                    true if frozen && mode == 0 => &[libc::EPERM],
                    true if frozen => &[libc::EACCES, libc::EPERM, libc::EINVAL],
                    // The descriptor's own mode is asked as well, and what may not be written
                    // to by it is not taken for shared.
                    _ if mode != 0 => &[0, libc::EACCES, libc::EPERM, libc::EINVAL],
                    true if by_programs => &[libc::EACCES],
                    _ => &[0],
                };
                let what = if for_writing { "mapped for writing" } else { "mapped" };
                stage.expect(&format!("{frozen_name}: {what}"), right, &answer);
                if let Ok(region) = answer {
                    if for_writing {
                        region.store(0, step);
                        value = step;
                    } else if region.load(0) != value {
                        let read = region.load(0);
                        stage.wrong(format!("{frozen_name}: {read} is mapped and {value} was put"));
                    }
                    if !for_writing {
                        let answer = region.make_writable();
                        let what = format!("{frozen_name}: mapped, and then for writing");
                        stage.expect(&what, &[libc::EACCES], &answer);
                    }
                    view = for_writing.then_some(region);
                }
            }
            _ => {
                let answer = call::bpf(22, Attributes::default().fd(0, map.fd.as_fd()), 4);
                let right: &[i32] = match view {
                    _ if !writes => &[libc::EPERM, libc::EBUSY],
                    Some(_) => &[libc::EBUSY],
                    None => &[0],
                };
                let what = if view.is_some() { ", mapped for writing" } else { "" };
                stage.expect(&format!("{frozen_name}{what}: freeze"), right, &answer);
                if answer.is_ok() {
                    (frozen, writes) = (true, false);
                }
            }
        }
        if stage.play.dice.below(3) == 0 {
            view = None;
        }
    }
    Ok(())
}
