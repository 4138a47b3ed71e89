// SPDX-License-Identifier: MIT OR Apache-2.0
//! What BPF objects tell about themselves (`BPF_OBJ_GET_INFO_BY_FD`, `BPF_TASK_FD_QUERY`):
//! it is what they were made of, complete where there is room for it, and not a byte
//! behind that. And that it is the same object, however it is opened again.

mod again;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::Stage;
use super::maps::Map;
use crate::bpf::insn::Short;
use crate::engine::assemble::nothing;
use crate::engine::events::{PROBED, SET_BPF};
use crate::engine::pool::{BPF_TRACE_UPROBE_MULTI, load};
use crate::op::ProgKind;
use crate::op::value::Dice;
use crate::sys::call::{self, Answer, Attributes};

const RAW_TRACEPOINT_OPEN: u32 = 17;
const TASK_QUERY: u32 = 20;
const LINK_CREATE: u32 = 28;
/// What memory holds that nothing was written to.
pub(super) const CLEAN: u8 = 0xa5;

/// What was told wrongly, if anything.
type Told = Result<(), String>;

pub(super) fn run(stage: &mut Stage<'_>) -> Answer<()> {
    let told = match stage.play.dice.below(8) {
        6 | 7 => return again::again(&mut stage.play),
        0 => map(&mut stage.play.dice)?,
        1 | 2 => program(&mut stage.play.dice)?,
        3 => {
            let (link, told) = raw_tracepoint(&mut stage.play.dice)?;
            stage.executor.reap(link);
            told
        }
        4 => uprobes(stage)?,
        _ => event(stage)?,
    };
    if let Err(what) = told {
        stage.wrong(what);
    }
    Ok(())
}

/// The information of an object: the answer, the length that was told, and the memory of
/// `given` bytes with some behind it. `asked` are words in it, by their places.
pub(super) fn info(
    fd: BorrowedFd<'_>,
    given: usize,
    asked: &[(usize, u64)],
) -> (Answer<()>, usize, Vec<u8>) {
    let mut memory = vec![0; given];
    for (at, word) in asked {
        // All of them as 64 bits: the upper half of a shorter one is zero, or the next one's.
        let bytes = word.to_ne_bytes();
        memory.iter_mut().skip(*at).zip(bytes).for_each(|(to, from)| *to = from);
    }
    memory.resize(given + 64, CLEAN);
    let length = u32::try_from(given).unwrap_or(0);
    let attributes = Attributes::default().fd(0, fd).word(4, length).output(8, &mut memory);
    let (answer, told) = call::bpf_word_after(15, attributes, 16, 4);
    (answer.map(drop), told as usize, memory)
}

pub(super) fn word(memory: &[u8], at: usize) -> u32 {
    let bytes = memory.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    u32::from_ne_bytes(bytes.unwrap_or_default())
}

/// The id of an object, whose place is the same in each kind of information.
pub(super) fn id(fd: BorrowedFd<'_>) -> Answer<u32> {
    let (answer, _, memory) = info(fd, 8, &[]);
    answer?;
    Ok(word(&memory, 4))
}

fn is_clean(memory: &[u8], from: usize) -> bool {
    memory.iter().skip(from).all(|byte| *byte == CLEAN)
}

fn map(dice: &mut dyn Dice) -> Answer<Told> {
    const NO_PREALLOC: u32 = 1;
    let kind = [1, 2, 5, 6, 9, 11][dice.below(6) as usize];
    let array = matches!(kind, 2 | 6);
    let key = if array { 4 } else { 8 + dice.below(9) };
    let value = 8 * (1 + dice.below(4));
    let entries = 1 + dice.below(30);
    let flags = match kind {
        11 => NO_PREALLOC,
        1 | 5 => dice.below(2) * NO_PREALLOC,
        _ => 0,
    };
    // `struct bpf_map_info` has 88 bytes in 6.12.
    let given = [0, 4, 20, 24, 40, 87, 88][dice.below(7) as usize];
    let attributes = Attributes::default()
        .word(0, kind)
        .word(4, key)
        .word(8, value)
        .word(12, entries)
        .word(16, flags)
        .word(28, u32::from_ne_bytes(*b"bake"))
        .word(32, u32::from_ne_bytes(*b"off_"));
    let map = call::bpf_fd(0, attributes, 72)?;
    let (answer, told, memory) = info(map.as_fd(), given, &[]);
    answer?;
    let id = word(&memory, 4);
    let mut right = [kind, id, key, value, entries, flags].map(u32::to_ne_bytes).concat();
    right.extend(*b"bakeoff_\0\0\0\0\0\0\0\0");
    right.truncate(given);
    if told != given || !memory.starts_with(&right) || !is_clean(&memory, given) {
        return Ok(Err(format!(
            "a map of kind {kind} in {given} bytes: {told} are told, {memory:x?}, and it is \
             {right:x?}"
        )));
    }
    if given < 8 {
        return Ok(Ok(()));
    }
    let right = [
        ("map_type", kind.to_string()),
        ("key_size", key.to_string()),
        ("value_size", value.to_string()),
        ("max_entries", entries.to_string()),
        ("map_flags", format!("{flags:#x}")),
        ("map_id", id.to_string()),
        ("frozen", "0".to_owned()),
    ];
    Ok(in_proc("a map", map.as_fd(), &right))
}

/// What `/proc/self/fdinfo` says of an object: lines of a name and a value.
pub(super) fn in_proc(what: &str, fd: BorrowedFd<'_>, right: &[(&str, String)]) -> Told {
    let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    let Ok(text) = std::fs::read_to_string(path) else { return Ok(()) };
    for (name, right) in right {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        if line.map(str::trim) != Some(right) {
            return Err(format!("{what}, by fdinfo: {name} is {line:?} and not {right:?}"));
        }
    }
    Ok(())
}

fn program(dice: &mut dyn Dice) -> Answer<Told> {
    let maps = (0..dice.below(4)).map(|_| Map::create(2, 4, 8, 1, 0));
    let maps = maps.collect::<Answer<Vec<Map>>>()?;
    let mut code = Short::default();
    for map in &maps {
        code.load_wide(1, 1, map.fd.as_raw_fd(), 0);
        // Again: it is one all the same.
        if dice.below(3) == 0 {
            code.load_wide(1, 1, map.fd.as_raw_fd(), 0);
        }
    }
    code.mov_imm(0, 0);
    code.push(0x95, 0, 0, 0, 0);
    let program = load(ProgKind::RawTp, &code.insns, None)?;
    let room = dice.below(6);
    let code_room = [0_u32, 8, 24, 512][dice.below(4) as usize];
    let mut ids = vec![CLEAN; 32];
    let mut insns = vec![CLEAN; 1024];
    let asked = [
        (20, u64::from(code_room)),
        (32, insns.as_mut_ptr() as u64),
        (52, u64::from(room)),
        (56, ids.as_mut_ptr() as u64),
    ];
    // `struct bpf_prog_info` has 232 bytes in 6.12.
    let (answer, told, memory) = info(program.as_fd(), 232, &asked);
    answer?;
    let right: Vec<u8> = maps
        .iter()
        .take(room as usize)
        .map(|map| id(map.fd.as_fd()).map(u32::to_ne_bytes))
        .collect::<Answer<Vec<_>>>()?
        .concat();
    let head = (word(&memory, 0), word(&memory, 52), word(&memory, 84) & 1, told);
    let right_head = (17, u32::try_from(maps.len()).unwrap_or(0), 1, 232);
    if head != right_head {
        return Ok(Err(format!(
            "a program: {head:?} and not {right_head:?} (kind, maps, GPL, length)"
        )));
    }
    if !ids.starts_with(&right) || !is_clean(&ids, right.len()) {
        return Ok(Err(format!("a program's maps, room for {room}: {ids:x?} and not {right:x?}")));
    }
    let length = word(&memory, 20) as usize;
    if length != 8 * code.insns.len() || !is_clean(&insns, length.min(code_room as usize)) {
        return Ok(Err(format!(
            "a program of {} bytes, room for {code_room}: {length}, or more were written",
            8 * code.insns.len()
        )));
    }
    if !is_clean(&memory, 232) {
        return Ok(Err("a program: more was written than there is room for".to_owned()));
    }
    Ok(Ok(()))
}

/// What a link tells that has a name, in a buffer with room for all of it, or for its beginning
/// only, which is an error. The memory of the information, if all is told.
pub(super) fn link_with_name(
    dice: &mut dyn Dice,
    what: &str,
    link: BorrowedFd<'_>,
    name: &[u8],
) -> Result<Option<Vec<u8>>, String> {
    let room = room(dice, name);
    let mut buffer = vec![CLEAN; 64];
    let at = if room == 0 { 0 } else { buffer.as_mut_ptr() as u64 };
    let (answer, _, memory) = info(link, 64, &[(16, at), (24, room as u64)]);
    named(what, name, room, &answer, &buffer)?;
    Ok(answer.is_ok().then_some(memory))
}

/// Room for a name: none, too little, just enough, more.
fn room(dice: &mut dyn Dice, name: &[u8]) -> usize {
    let long = name.len();
    [0, 1, 5, long, long + 1, long + 9][dice.below(6) as usize]
}

/// A name in a buffer with room for `room` bytes: all of it, or its beginning and an error.
fn named(what: &str, name: &[u8], room: usize, answer: &Answer<()>, buffer: &[u8]) -> Told {
    let (right, bytes) = match room {
        0 => (Ok(()), Vec::new()),
        _ if room > name.len() => (Ok(()), [name, &[0]].concat()),
        _ => (Err(libc::ENOSPC), [name.get(..room - 1).unwrap_or_default(), &[0]].concat()),
    };
    if *answer != right || !buffer.starts_with(&bytes) || !is_clean(buffer, bytes.len()) {
        return Err(format!(
            "{what}, room for {room} bytes: {answer:?} and not {right:?}, {:?}",
            String::from_utf8_lossy(buffer)
        ));
    }
    Ok(())
}

fn raw_tracepoint(dice: &mut dyn Dice) -> Answer<(OwnedFd, Told)> {
    const WHAT: &str = "a link to a raw tracepoint";
    let names: [&[u8]; 2] = [b"sched_process_exit", b"softirq_entry"];
    let name = names[dice.below(2) as usize];
    let program = load(ProgKind::RawTp, &nothing(0), None)?;
    let zero_ended = [name, &[0]].concat();
    let attributes = Attributes::default().input(0, &zero_ended).fd(8, program.as_fd());
    let link = call::bpf_fd(RAW_TRACEPOINT_OPEN, attributes, 16)?;
    let right = (1, id(program.as_fd())?, name.len() + 1);
    let told = link_with_name(dice, WHAT, link.as_fd(), name).and_then(|memory| {
        let Some(memory) = memory else { return Ok(()) };
        let head = (word(&memory, 0), word(&memory, 8), word(&memory, 24) as usize);
        if head == right {
            return Ok(());
        }
        Err(format!("{WHAT}: {head:?} and not {right:?} (kind, program, length)"))
    });
    let lines = [
        ("link_type", "raw_tracepoint".to_owned()),
        ("link_id", id(link.as_fd())?.to_string()),
        ("prog_id", right.1.to_string()),
        ("tp_name", String::from_utf8_lossy(name).into_owned()),
    ];
    let told = told.and_then(|()| in_proc(WHAT, link.as_fd(), &lines));
    Ok((link, told))
}

/// A link to several places of a file.
fn uprobes(stage: &mut Stage<'_>) -> Answer<Told> {
    let count = 1 + stage.play.dice.below(4);
    let offsets: Vec<u64> = (1..=u64::from(count)).map(|nth| 64 * nth).collect();
    let cookies: Vec<u64> = offsets.iter().map(|offset| offset << 20 | 7).collect();
    let bytes = |words: &[u64]| words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let (offset_bytes, cookie_bytes): (Vec<u8>, Vec<u8>) = (bytes(&offsets), bytes(&cookies));
    let program = load(ProgKind::UprobeMulti, &nothing(0), None)?;
    let own = if stage.play.dice.below(2) == 0 { std::process::id() } else { 0 };
    let attributes = Attributes::default()
        .fd(0, program.as_fd())
        .word(8, BPF_TRACE_UPROBE_MULTI)
        .input(16, c"/proc/self/exe".to_bytes_with_nul())
        .input(24, &offset_bytes)
        .input(40, &cookie_bytes)
        .word(48, count)
        .word(56, own);
    let link = call::bpf_fd(LINK_CREATE, attributes, 64)?;
    let room = stage.play.dice.below(count + 3);
    let (mut told_offsets, mut told_cookies) = (vec![CLEAN; 96], vec![CLEAN; 96]);
    let mut path = vec![CLEAN; 256];
    let asked = [
        (16, path.as_mut_ptr() as u64),
        (24, told_offsets.as_mut_ptr() as u64),
        (40, told_cookies.as_mut_ptr() as u64),
        (48, 128 | u64::from(room) << 32),
    ];
    let (answer, _, memory) = info(link.as_fd(), 64, &asked);
    let lines =
        [("link_id", id(link.as_fd())?.to_string()), ("prog_id", id(program.as_fd())?.to_string())];
    let listed = in_proc("a link to several places", link.as_fd(), &lines);
    stage.executor.reap(link);
    let right = match room {
        0 => Err(libc::EINVAL),
        _ if room < count => Err(libc::ENOSPC),
        _ => Ok(()),
    };
    let entries = 8 * room.min(count) as usize;
    let complete = told_offsets.starts_with(offset_bytes.get(..entries).unwrap_or_default())
        && told_cookies.starts_with(cookie_bytes.get(..entries).unwrap_or_default())
        && is_clean(&told_offsets, entries)
        && is_clean(&told_cookies, entries);
    if answer != right || !complete {
        return Ok(Err(format!(
            "a link to {count} places, room for {room}: {answer:?} and not {right:?}, offsets \
             {told_offsets:x?}, cookies {told_cookies:x?}"
        )));
    }
    let Ok(file) = std::fs::read_link("/proc/self/exe") else { return Ok(listed) };
    let file = file.as_os_str().as_encoded_bytes();
    let head = (word(&memory, 48) as usize, word(&memory, 52), word(&memory, 60));
    let right = (file.len() + 1, count, own);
    let named = path.starts_with(file) && is_clean(&path, 128);
    if answer.is_ok() && (head != right || !named) {
        return Ok(Err(format!(
            "a link to {count} places: {head:?} and not {right:?} (length of its path, places, \
             process)"
        )));
    }
    Ok(listed)
}

/// A perf event with a program, by its descriptor.
fn event(stage: &mut Stage<'_>) -> Answer<Told> {
    let probe = stage.play.dice.below(2) == 0;
    let attributes = Attributes::default().word(4, 136);
    let (attributes, kind, name, right): (_, _, &[u8], u32) = if probe {
        let number = stage.executor.kprobes.ok_or(libc::ENOENT)?;
        let attributes = attributes.word(0, number).input(56, PROBED.to_bytes_with_nul());
        (attributes, ProgKind::Kprobe, PROBED.to_bytes(), 2)
    } else {
        let number = stage.executor.tracepoints.file_lock.ok_or(libc::ENOENT)?;
        let attributes = attributes.word(0, 2).double(8, number);
        (attributes, ProgKind::Tracepoint, b"locks_get_lock_context", 1)
    };
    let event = call::perf_event_open(&attributes, 0, -1, None)?;
    let program = load(kind, &nothing(1), None)?;
    call::ioctl(event.as_fd(), SET_BPF, program.as_raw_fd().into())?;
    let room = room(&mut stage.play.dice, name);
    let mut buffer = vec![CLEAN; 64];
    let length = u32::try_from(room).unwrap_or(0);
    let attributes = Attributes::default()
        .word(0, std::process::id())
        .fd(4, event.as_fd())
        .word(12, length)
        .output(16, &mut buffer);
    let (answer, after) = call::bpf_after(TASK_QUERY, attributes, 48);
    let told = (after.word_at(12) as usize, after.word_at(24), after.word_at(28));
    stage.executor.reap(event);
    if let Err(what) = named("an event with a program", name, room, &answer.map(drop), &buffer) {
        return Ok(Err(what));
    }
    let right = (name.len(), id(program.as_fd())?, right);
    if told != right {
        return Ok(Err(format!(
            "an event with a program: {told:?} and not {right:?} (length of the name, program, \
             kind)"
        )));
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::value::Seeded;

    /// The kernel that this runs on, if it may be asked, tells the truth.
    #[test]
    fn this_kernel_tells_what_there_is() {
        for seed in 0..200 {
            let dice = &mut Seeded(seed);
            let told = match seed % 3 {
                0 => map(dice),
                1 => program(dice),
                _ => raw_tracepoint(dice).map(|(_, told)| told),
            };
            match told {
                Err(libc::EPERM | libc::ENOSYS) => return,
                told => assert_eq!(told, Ok(Ok(())), "{seed}"),
            }
        }
    }

    /// A name is there as far as there is room, ends with a zero, and says if it is not all.
    #[test]
    fn names_have_room() {
        let name = b"name".as_slice();
        let buffer = |bytes: &[u8]| [bytes, &[CLEAN; 8]].concat();
        let (fine, short) = (Ok(()), Err(libc::ENOSPC));
        assert!(named("", name, 0, &fine, &buffer(b"")).is_ok());
        assert!(named("", name, 5, &fine, &buffer(b"name\0")).is_ok());
        assert!(named("", name, 4, &short, &buffer(b"nam\0")).is_ok());
        assert!(named("", name, 1, &short, &buffer(b"\0")).is_ok());
        assert!(named("", name, 4, &fine, &buffer(b"nam\0")).is_err());
        assert!(named("", name, 4, &short, &buffer(b"name\0")).is_err());
        assert!(named("", name, 5, &fine, &buffer(b"name")).is_err());
        assert!(named("", name, 0, &fine, &buffer(b"n")).is_err());
    }
}
