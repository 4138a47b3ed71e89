// SPDX-License-Identifier: MIT OR Apache-2.0
//! BPF iterators (`Documentation/bpf/bpf_iterators.rst`): what they go over is complete and
//! comes once, however much is read at a time; what may not be gone over is refused.
//!
//! A program of an iterator runs in read(2), once for each thing, and writes what is read.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::infos::{in_proc, link_with_name, word};
use super::maps::{Map, padded};
use super::{Play, Stage};
use crate::bpf::insn::{Insn, Short};
use crate::bpf::vmlinux::types;
use crate::engine::pool::{bytes_of, load};
use crate::op::ProgKind;
use crate::op::value::Dice;
use crate::sys::call::{self, Answer, Attributes, Part};
use crate::sys::maps;

const PROG_LOAD: u32 = 5;
const LINK_CREATE: u32 = 28;
const LINK_UPDATE: u32 = 29;
const ITER_CREATE: u32 = 33;
const BPF_TRACE_ITER: u32 = 28;
/// Helpers: `bpf_seq_write()`, `bpf_d_path()`.
const SEQ_WRITE: i32 = 127;
const D_PATH: i32 = 147;
/// Bytes of a file's name that are told.
const NAME: usize = 128;
/// More than any iterator here tells.
const MOST: usize = 1 << 20;

/// What an iterator goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Elements of a map.
    Elements,
    Tasks,
    Files,
    Mappings,
    Maps,
    Programs,
    Links,
}

impl Target {
    fn name(self) -> &'static CStr {
        match self {
            Self::Elements => c"bpf_map_elem",
            Self::Tasks => c"task",
            Self::Files => c"task_file",
            Self::Mappings => c"task_vma",
            Self::Maps => c"bpf_map",
            Self::Programs => c"bpf_prog",
            Self::Links => c"bpf_link",
        }
    }

    /// Loads a program that runs for each.
    pub(super) fn load(self, insns: &[Insn], functions: Option<Functions<'_>>) -> Answer<OwnedFd> {
        let name = format!("bpf_iter_{}", self.name().to_string_lossy());
        let number = types().and_then(|types| types.iterator(&name)).ok_or(libc::ENOENT)?;
        let bytes = bytes_of(insns);
        let attributes = Attributes::default()
            .word(0, 26) // BPF_PROG_TYPE_TRACING
            .word(4, u32::try_from(insns.len()).unwrap_or(0))
            .input(8, &bytes)
            .input(16, b"GPL\0")
            .word(68, BPF_TRACE_ITER)
            .word(108, number);
        let attributes = match &functions {
            None => attributes,
            Some((of, list)) => {
                let count = u32::try_from(list.len() / 8).unwrap_or(0);
                attributes.fd(72, *of).word(76, 8).input(80, list).word(88, count)
            }
        };
        call::bpf_fd(PROG_LOAD, attributes, 112)
    }
}

/// Types, and in them those of a program's functions (`struct bpf_func_info`).
pub(super) type Functions<'a> = (BorrowedFd<'a>, &'a [u8]);

/// A link to an iterator over what the words say (`union bpf_iter_link_info`).
pub(super) fn link(program: BorrowedFd<'_>, of: [u32; 4]) -> Answer<OwnedFd> {
    let bytes = of.map(u32::to_ne_bytes).concat();
    let attributes = Attributes::default().fd(0, program).word(8, BPF_TRACE_ITER);
    if of == [0; 4] {
        return call::bpf_fd(LINK_CREATE, attributes, 28);
    }
    call::bpf_fd(LINK_CREATE, attributes.input(16, &bytes).word(24, 16), 28)
}

/// Begins to go over it.
pub(super) fn begin(link: BorrowedFd<'_>) -> Answer<OwnedFd> {
    call::bpf_fd(ITER_CREATE, Attributes::default().fd(0, link), 8)
}

/// Reads all that is told, some bytes at a time; between, something may happen.
pub(super) fn read(
    iterator: BorrowedFd<'_>,
    at_once: usize,
    mut between: impl FnMut(),
) -> Answer<Vec<u8>> {
    let mut all = Vec::new();
    let mut bytes = vec![0; at_once];
    while all.len() < MOST {
        let read = usize::try_from(call::read(iterator, &mut bytes)?).unwrap_or(0);
        if read == 0 {
            return Ok(all);
        }
        all.extend(bytes.iter().take(read));
        between();
    }
    Err(libc::E2BIG)
}

/// The beginning of a program: the file that is read in R7, and a thing (of the context's
/// words) in R8, if there is one; the jump is to the end.
pub(super) fn thing(code: &mut Short, at: i16) -> usize {
    code.mov(6, 1);
    code.push(0x79, 1, 6, 0, 0); // struct bpf_iter_meta
    code.push(0x79, 7, 1, 0, 0); // struct seq_file
    code.push(0x79, 8, 6, at, 0);
    code.jump_if(0x15, 8, 0)
}

/// Writes bytes behind R2.
fn write(code: &mut Short, count: usize) {
    code.mov(1, 7);
    code.mov_imm(3, i32::try_from(count).unwrap_or(0));
    code.call(SEQ_WRITE);
}

/// The end of a program, where jumps come to.
pub(super) fn end(mut code: Short, jumps: &[usize]) -> Vec<Insn> {
    jumps.iter().for_each(|jump| code.land(*jump));
    code.mov_imm(0, 0);
    code.push(0x95, 0, 0, 0, 0);
    code.insns
}

fn word_64(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes.try_into().unwrap_or_default())
}

/// What was told, if it was all that it should.
type Told = Result<(), String>;

pub(super) fn run(stage: &mut Stage<'_>) -> Answer<()> {
    any(&mut stage.play)
}

fn any(play: &mut Play) -> Answer<()> {
    let told = match play.dice.below(8) {
        0 | 1 => elements(&mut play.dice),
        2 => tasks(&mut play.dice),
        3 => files(&mut play.dice),
        4 => mappings(&mut play.dice),
        5 => objects(&mut play.dice),
        _ => return refusals(play),
    }?;
    if let Err(what) = told {
        play.wrong(what);
    }
    Ok(())
}

/// How much is read at once: all, or less than is told of one thing.
fn at_once(dice: &mut dyn Dice) -> usize {
    [1 << 14, 4096, 64, 7, 24][dice.below(5) as usize]
}

/// The same where much is told.
fn much_at_once(dice: &mut dyn Dice) -> usize {
    [1 << 14, 4096, 1000][dice.below(3) as usize]
}

/// A program that tells an element's key and its value, to whose first eight bytes it adds.
fn element(key: usize, value: usize, more: i32) -> Vec<Insn> {
    let mut code = Short::default();
    let none = thing(&mut code, 16);
    code.push(0x79, 9, 6, 24, 0);
    let nothing = code.jump_if(0x15, 9, 0);
    if more > 0 {
        code.push(0x79, 1, 9, 0, 0);
        code.add_imm(1, more);
        code.push(0x7b, 9, 1, 0, 0);
    }
    code.mov(2, 8);
    write(&mut code, key);
    code.mov(2, 9);
    write(&mut code, value);
    end(code, &[none, nothing])
}

fn elements(dice: &mut dyn Dice) -> Answer<Told> {
    // A map's elements, against what it says of them itself.
    let kind = [1, 1, 5, 2, 6, 9, 10][dice.below(7) as usize];
    let (array, per_cpu) = (matches!(kind, 2 | 6), matches!(kind, 5 | 6 | 10));
    let key = if array { 4 } else { [4, 8, 12][dice.below(3) as usize] };
    let entries = 1 + dice.below(60);
    let flags = if matches!(kind, 1 | 5) { dice.below(2) } else { 0 };
    let map = Map::create(kind, key, 16, entries, flags)?;
    let bytes = |number: u32| padded(number, key);
    for _ in 0..dice.below(entries + 5) {
        let (number, fill) = (dice.below(entries), dice.below(1 << 20));
        let value = map.filled(u64::from(fill));
        match map.update(&bytes(number), &value, 0) {
            Ok(()) | Err(libc::E2BIG | libc::ENOMEM | libc::EBUSY) => {}
            Err(errno) => return Err(errno),
        }
        if !array && dice.below(6) == 0 {
            let _ = map.delete(&bytes(dice.below(entries)));
        }
    }
    let before = all(&map)?;
    let more = if dice.below(2) == 0 { 1 << 24 } else { 0 };
    let size = map.value();
    let program = Target::Elements.load(&element(key, size, more), None)?;
    let over = link(program.as_fd(), [map.fd.as_raw_fd().cast_unsigned(), 0, 0, 0])?;
    if let Err(what) = link_told(dice, over.as_fd(), Target::Elements, Some(map.fd.as_fd())) {
        return Ok(Err(what));
    }
    let iterator = begin(over.as_fd())?;
    // The iterator keeps what it needs.
    let (mut over, mut program) = (Some(over), Some(program));
    if dice.below(2) == 0 {
        (over, program) = (None, None);
    }
    let disturbed = !array && dice.below(4) == 0;
    let chunk = at_once(dice);
    let told = read(iterator.as_fd(), chunk, || {
        if disturbed {
            let _ = map.delete(&bytes(dice.below(entries)));
        }
    })?;
    drop((over, program));
    let name = format!("elements of a map of kind {kind}, flags {flags}, {chunk} bytes at once");
    let step = key + size;
    if !told.len().is_multiple_of(step) {
        return Ok(Err(format!("{name}: {} bytes of {step} each", told.len())));
    }
    let told: Vec<(&[u8], &[u8])> = told.chunks(step).map(|one| one.split_at(key)).collect();
    let right = |value: &Vec<u8>| {
        let mut value = value.clone();
        if let Some(first) = value.first_chunk_mut::<8>() {
            *first = (u64::from_ne_bytes(*first) + u64::from(more.cast_unsigned())).to_ne_bytes();
        }
        value
    };
    for (key, value) in &told {
        match before.get(*key).map(right) {
            Some(right) if right == *value => {}
            other => return Ok(Err(format!("{name}: {key:x?} is {value:x?} and not {other:x?}"))),
        }
    }
    let keys: BTreeMap<&[u8], &[u8]> = told.iter().copied().collect();
    if keys.len() != told.len() || !disturbed && keys.len() != before.len() {
        return Ok(Err(format!(
            "{name}: {} are told, {} of them different, and there are {}",
            told.len(),
            keys.len(),
            before.len()
        )));
    }
    // What a program adds is added to the element, and to a copy where there is one a CPU.
    if !disturbed {
        for (key, value) in all(&map)? {
            let was = before.get(&key);
            let right = if per_cpu { was.cloned() } else { was.map(right) };
            if right.as_ref() != Some(&value) {
                return Ok(Err(format!("{name}: then {key:x?} is {value:x?} and not {right:x?}")));
            }
        }
    }
    Ok(Ok(()))
}

/// All elements of a map, as lookups have them.
fn all(map: &Map) -> Answer<BTreeMap<Vec<u8>, Vec<u8>>> {
    let keys = map.keys().map_err(|_| libc::EIO)?;
    keys.into_iter().map(|key| map.lookup(1, &key).map(|value| (key, value))).collect()
}

/// What a link to an iterator tells about itself.
fn link_told(
    dice: &mut dyn Dice,
    link: BorrowedFd<'_>,
    target: Target,
    map: Option<BorrowedFd<'_>>,
) -> Told {
    const WHAT: &str = "a link to an iterator";
    let name = target.name().to_bytes();
    let Some(memory) = link_with_name(dice, WHAT, link, name)? else { return Ok(()) };
    let id = map.and_then(|map| super::infos::id(map).ok()).unwrap_or(0);
    let head = (word(&memory, 0), word(&memory, 24) as usize, word(&memory, 28));
    let right = (4, name.len() + 1, id);
    if head != right {
        return Err(format!("{WHAT}: {head:?} and not {right:?} (kind, length, map)"));
    }
    let name = String::from_utf8_lossy(name).into_owned();
    let lines = [("link_type", "iter".to_owned()), ("target_name", name)];
    in_proc(WHAT, link, &lines)
}

/// Whose tasks, files or mappings: this thread's, or all of this process, by its number or a
/// descriptor.
fn whose(dice: &mut dyn Dice, process: BorrowedFd<'_>) -> [u32; 4] {
    match dice.below(3) {
        0 => [crate::sys::thread_id(), 0, 0, 0],
        1 => [0, std::process::id(), 0, 0],
        _ => [0, 0, process.as_raw_fd().cast_unsigned(), 0],
    }
}

/// Goes over something of this process.
fn go_over(dice: &mut dyn Dice, target: Target, insns: &[Insn], of: [u32; 4]) -> Answer<Vec<u8>> {
    let program = target.load(insns, None)?;
    let over = link(program.as_fd(), of)?;
    let iterator = begin(over.as_fd())?;
    read(iterator.as_fd(), much_at_once(dice), || {})
}

fn threads() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let mut threads: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    threads.sort_unstable();
    threads
}

fn tasks(dice: &mut dyn Dice) -> Answer<Told> {
    let number =
        types().and_then(|types| types.member("task_struct", "pid")).ok_or(libc::ENOENT)?;
    let process = call::this_process()?;
    let whose = whose(dice, process.as_fd());
    let mut code = Short::default();
    let none = thing(&mut code, 8);
    code.push(0x61, 1, 8, number, 0);
    code.push(0x7b, 10, 1, -8, 0);
    code.stack(2, -8);
    write(&mut code, 8);
    let before = threads();
    let told = go_over(dice, Target::Tasks, &end(code, &[none]), whose)?;
    let mut told: Vec<u32> =
        told.chunks(8).filter_map(|one| u32::try_from(word_64(one)).ok()).collect();
    told.sort_unstable();
    let right = if whose[0] > 0 { vec![whose[0]] } else { before.clone() };
    if told != right && before == threads() {
        return Ok(Err(format!("tasks of {whose:?}: {told:?} and not {right:?}")));
    }
    Ok(Ok(()))
}

fn files(dice: &mut dyn Dice) -> Answer<Told> {
    let types = types().ok_or(libc::ENOENT)?;
    let path = types.member("file", "f_path").ok_or(libc::ENOENT)?;
    let process = call::this_process()?;
    let whose = whose(dice, process.as_fd());
    let named = dice.below(2) == 0;
    let mut code = Short::default();
    let none = thing(&mut code, 24);
    code.push(0x61, 1, 6, 16, 0);
    code.push(0x7b, 10, 1, -8, 0);
    code.stack(2, -8);
    write(&mut code, 8);
    if named {
        code.push(0x7a, 10, 0, -(NAME as i16) - 8, 0);
        code.mov(1, 8);
        code.add_imm(1, path.into());
        code.stack(2, -(NAME as i32) - 8);
        code.mov_imm(3, NAME as i32);
        code.call(D_PATH);
        code.stack(2, -(NAME as i32) - 8);
        write(&mut code, NAME);
    }
    let insns = end(code, &[none]);
    // Other threads open and close what they like; these are nobody else's.
    let own: Vec<OwnedFd> = (0..1 + dice.below(8))
        .map(|_| process.try_clone().map_err(|error| error.raw_os_error().unwrap_or(0)))
        .chain([std::fs::File::open("/proc/self/exe").map(OwnedFd::from).map_err(|_| libc::ENOENT)])
        .collect::<Answer<_>>()?;
    let told = go_over(dice, Target::Files, &insns, whose)?;
    let step = if named { 8 + NAME } else { 8 };
    if !told.len().is_multiple_of(step) {
        return Ok(Err(format!("files of {whose:?}: {} bytes of {step} each", told.len())));
    }
    let numbers: Vec<u64> = told.chunks(step).filter_map(|one| one.get(..8)).map(word_64).collect();
    for file in &own {
        let number = u64::from(file.as_raw_fd().unsigned_abs());
        let times = numbers.iter().filter(|told| **told == number).count();
        if times != 1 {
            return Ok(Err(format!("files of {whose:?}: {number} is told {times} times")));
        }
    }
    if !numbers.is_sorted() {
        return Ok(Err(format!("files of {whose:?} are told in the order {numbers:?}")));
    }
    if let (true, Some(file), Ok(name)) = (named, own.last(), std::fs::read_link("/proc/self/exe"))
    {
        let number = u64::from(file.as_raw_fd().unsigned_abs());
        let bytes = name.as_os_str().as_encoded_bytes();
        let line = told.chunks(step).find(|one| one.get(..8).map(word_64) == Some(number));
        let line = line.and_then(|line| line.get(8..)).unwrap_or_default();
        if bytes.len() < NAME && !line.starts_with(&[bytes, &[0]].concat()) {
            let line = String::from_utf8_lossy(line);
            return Ok(Err(format!("the name of {number} is {line:?} and not {name:?}")));
        }
    }
    Ok(Ok(()))
}

/// The mappings of the arena.
fn arena() -> Vec<Range<u64>> {
    maps::own().into_iter().map(|area| area.addresses).filter(is_arena).collect()
}

fn is_arena(addresses: &Range<u64>) -> bool {
    let arena = Part::all();
    arena.address() <= addresses.start && addresses.end <= arena.end()
}

fn mappings(dice: &mut dyn Dice) -> Answer<Told> {
    let types = types().ok_or(libc::ENOENT)?;
    let members = ["vm_start", "vm_end"].map(|name| types.member("vm_area_struct", name));
    let [Some(from), Some(to)] = members else { return Err(libc::ENOENT) };
    // Neighbours that are not one mapping.
    for _ in 0..dice.below(12) {
        let pages = 1 + dice.below(3) as u8;
        let part = Part::new(dice.below(32) as u8, pages);
        let protection = [libc::PROT_NONE, libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE];
        part.map(None, protection[dice.below(3) as usize], dice.below(2) == 0, 0)?;
    }
    let mut code = Short::default();
    let none = thing(&mut code, 16);
    for (at, member) in [(-16, from), (-8, to)] {
        code.push(0x79, 1, 8, member, 0);
        code.push(0x7b, 10, 1, at, 0);
    }
    code.stack(2, -16);
    write(&mut code, 16);
    let process = call::this_process()?;
    let whose = whose(dice, process.as_fd());
    let before = arena();
    let told = go_over(dice, Target::Mappings, &end(code, &[none]), whose)?;
    // Elsewhere other threads may change what is there while it is gone over.
    let told: Vec<Range<u64>> = told
        .chunks(16)
        .map(|one| one.split_at(one.len() / 2))
        .map(|(from, to)| word_64(from)..word_64(to))
        .filter(is_arena)
        .collect();
    if told != before && before == arena() {
        return Ok(Err(format!("mappings of {whose:x?}: {told:x?} and not {before:x?}")));
    }
    Ok(Ok(()))
}

/// A program that tells the number of each map, program or link.
fn numbers(target: Target) -> Answer<Vec<Insn>> {
    let types = types().ok_or(libc::ENOENT)?;
    let member = |of, name| types.member(of, name).ok_or(libc::ENOENT);
    let mut code = Short::default();
    let none = thing(&mut code, 8);
    let number = match target {
        Target::Maps => member("bpf_map", "id")?,
        Target::Links => member("bpf_link", "id")?,
        _ => {
            code.push(0x79, 8, 8, member("bpf_prog", "aux")?, 0);
            member("bpf_prog_aux", "id")?
        }
    };
    code.push(0x61, 1, 8, number, 0);
    code.push(0x7b, 10, 1, -8, 0);
    code.stack(2, -8);
    write(&mut code, 8);
    Ok(end(code, &[none]))
}

fn objects(dice: &mut dyn Dice) -> Answer<Told> {
    let target = [Target::Maps, Target::Programs, Target::Links][dice.below(3) as usize];
    let insns = numbers(target)?;
    let map = Map::create(2, 4, 8, 1, 0)?;
    let program = target.load(&insns, None)?;
    let over = link(program.as_fd(), [0; 4])?;
    if let Err(what) = link_told(dice, over.as_fd(), target, None) {
        return Ok(Err(what));
    }
    let own = match target {
        Target::Maps => map.fd.as_fd(),
        Target::Links => over.as_fd(),
        _ => program.as_fd(),
    };
    let own = u64::from(super::infos::id(own)?);
    let iterator = begin(over.as_fd())?;
    let told = read(iterator.as_fd(), much_at_once(dice), || {})?;
    let told: Vec<u64> = told.chunks(8).map(word_64).collect();
    let times = told.iter().filter(|number| **number == own).count();
    if times != 1 || !told.is_sorted_by(|before, after| before < after) {
        return Ok(Err(format!("{target:?}: {told:?}, and {own} is told {times} times")));
    }
    Ok(Ok(()))
}

/// What is refused, and how.
fn refusals(play: &mut Play) -> Answer<()> {
    let value = [8, 16][play.dice.below(2) as usize];
    let map = Map::create(1, 8, value, 4, 0)?;
    let of = [map.fd.as_raw_fd().cast_unsigned(), 0, 0, 0];
    let good = Target::Elements.load(&element(8, value, 0), None)?;
    for _ in 0..3 {
        refusal(play, &map, &good, of)?;
    }
    Ok(())
}

/// One of them: of a map with keys of eight bytes, a program that goes over its elements, and
/// what a link over them is given.
fn refusal(play: &mut Play, map: &Map, good: &OwnedFd, of: [u32; 4]) -> Answer<()> {
    let value = map.value();
    let plain = || Attributes::default().fd(0, good.as_fd()).word(8, BPF_TRACE_ITER);
    let words =
        |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
    match play.dice.below(9) {
        0 => play.expect("elements of no map", &[libc::EBADF], &link(good.as_fd(), [0; 4])),
        1 => {
            let kind = [22, 23, 27][play.dice.below(3) as usize];
            let other = match kind {
                27 => Map::create(kind, 0, 0, 4096, 0)?,
                _ => Map::create(kind, 0, value, 4, 0)?,
            };
            let of = [other.fd.as_raw_fd().cast_unsigned(), 0, 0, 0];
            let what = format!("elements of a map of kind {kind}");
            play.expect(&what, &[libc::EINVAL], &link(good.as_fd(), of));
        }
        2 => {
            let more = 1 + play.dice.below(8) as usize;
            for (key, value) in [(8 + more, value), (8, value + more)] {
                let beyond = Target::Elements.load(&element(key, value, 0), None)?;
                let what =
                    format!("{key} and {value} bytes of an element of 8 and {}", map.value());
                play.expect(&what, &[libc::EACCES], &link(beyond.as_fd(), of));
            }
        }
        3 => {
            let mut code = Short::default();
            let none = thing(&mut code, 16);
            code.push(0x7a, 8, 0, 0, 1);
            let answer = Target::Elements.load(&end(code, &[none]), None);
            play.expect("a key that is written to", &[libc::EACCES], &answer);
        }
        4 => {
            let program = Target::Maps.load(&numbers(Target::Maps)?, None)?;
            let tasks = Target::Files.load(&end(Short::default(), &[]), None)?;
            let own = std::process::id();
            let two = [[own, own, 0, 0], [own, 0, 1, 0], [0, own, 1, 0]];
            let two = two[play.dice.below(3) as usize];
            play.expect("tasks by two numbers", &[libc::EINVAL], &link(tasks.as_fd(), two));
            let none = [0, 0, program.as_raw_fd().cast_unsigned(), 0];
            let answer = link(tasks.as_fd(), none);
            play.expect("tasks by what is no process", &[libc::EBADF], &answer);
        }
        5 => {
            let over = link(good.as_fd(), of)?;
            let flag = Attributes::default().fd(0, over.as_fd()).word(4, 1);
            let iterator = call::bpf_fd(ITER_CREATE, flag, 8);
            play.expect("an iterator with a flag", &[libc::EINVAL], &iterator);
            let created = call::bpf_fd(LINK_CREATE, plain().word(12, 1), 28);
            play.expect("a link to an iterator with a flag", &[libc::EINVAL], &created);
        }
        6 => {
            let other = load(ProgKind::RawTp, &crate::engine::assemble::nothing(0), None)?;
            play.expect("an iterator of a map", &[libc::EINVAL], &begin(map.fd.as_fd()));
            play.expect("an iterator of a program", &[libc::EINVAL], &begin(other.as_fd()));
            play.expect("a link of another kind", &[libc::EINVAL], &link(other.as_fd(), of));
        }
        7 => {
            let (tail, short) = (words(&[of[0], 0, 0, 0, 1]), words(&of));
            let more = call::bpf_fd(LINK_CREATE, plain().input(16, &tail).word(24, 20), 28);
            play.expect("more about an iterator than is known", &[libc::E2BIG], &more);
            let none = call::bpf_fd(LINK_CREATE, plain().input(16, &short), 28);
            play.expect("about an iterator in no bytes", &[libc::EINVAL], &none);
            let nowhere = call::bpf_fd(LINK_CREATE, plain().word(24, 16), 28);
            play.expect("about an iterator nowhere", &[libc::EINVAL], &nowhere);
        }
        _ => {
            if let Err(what) = updates(map, good, of)? {
                play.wrong(what);
            }
        }
    }
    Ok(())
}

/// A link's program is changed for one of the same iterator only, and the new one runs.
fn updates(map: &Map, good: &OwnedFd, of: [u32; 4]) -> Answer<Told> {
    const REPLACE: u32 = 4;
    map.update(&[1; 8], &vec![7; map.value()], 0)?;
    let over = link(good.as_fd(), of)?;
    let change = |to: BorrowedFd<'_>, from: Option<BorrowedFd<'_>>| {
        let attributes = Attributes::default().fd(0, over.as_fd()).fd(4, to);
        let attributes = match from {
            None => attributes,
            Some(from) => attributes.word(8, REPLACE).fd(12, from),
        };
        call::bpf(LINK_UPDATE, attributes, 16)
    };
    let other = Target::Maps.load(&numbers(Target::Maps)?, None)?;
    let shorter = Target::Elements.load(&element(4, 8, 0), None)?;
    let answers = (
        change(other.as_fd(), None).map(drop),
        change(shorter.as_fd(), Some(other.as_fd())).map(drop),
        change(shorter.as_fd(), Some(good.as_fd())).map(drop),
    );
    let right = (Err(libc::EINVAL), Err(libc::EPERM), Ok(()));
    if answers != right {
        return Ok(Err(format!(
            "another program of a link to an iterator: {answers:?} and not {right:?} (of another \
             iterator, for one that is not there, for the one that is)"
        )));
    }
    let iterator = begin(over.as_fd())?;
    let told = read(iterator.as_fd(), 4096, || {})?;
    if told.len() != 12 {
        return Ok(Err(format!("a link's new program tells {} bytes and not 12", told.len())));
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::check::plays;

    /// The kernel that this runs on, if it may be asked, is right about each of them.
    #[test]
    fn this_kernel_is_right() {
        // Without the arena, whose mappings the fifth of them is about.
        for (seed, mut play) in plays("iterators", (0..400_u16).filter(|seed| seed % 8 != 4)) {
            match any(&mut play) {
                Err(libc::EPERM | libc::ENOSYS | libc::ENOENT) if seed == 0 => return,
                answer => assert_eq!((answer, play.wrong), (Ok(()), None), "{seed}"),
            }
        }
    }

    /// What is wrong with elements is found: the program here tells another number of bytes.
    #[test]
    fn what_is_read_in_parts_is_whole() {
        let Ok(map) = Map::create(2, 4, 8, 3, 0) else { return };
        let Ok(program) = Target::Elements.load(&element(4, 8, 1), None) else { return };
        let of = [map.fd.as_raw_fd().cast_unsigned(), 0, 0, 0];
        let over = link(program.as_fd(), of).unwrap();
        for (turn, at_once) in [1, 5, 4096].into_iter().enumerate() {
            let mut parts = 0;
            let iterator = begin(over.as_fd()).unwrap();
            let told = read(iterator.as_fd(), at_once, || parts += 1).unwrap();
            let right: Vec<u8> = (0..3_u32)
                .flat_map(|key| [key.to_ne_bytes(), (turn as u32 + 1).to_ne_bytes(), [0; 4]])
                .flatten()
                .collect();
            assert_eq!(told, right);
            assert!(parts >= 36 / at_once.min(36));
        }
    }
}
