// SPDX-License-Identifier: MIT OR Apache-2.0
//! BPF maps against a model of them, by the calls that user space has.

mod program;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use program::{Call, Caller};

use super::{Play, Stage};
use crate::op::value::Dice;
use crate::sys::call::{self, Answer, Attributes};

const CREATE: u32 = 0;
const LOOKUP: u32 = 1;
const UPDATE: u32 = 2;
const DELETE: u32 = 3;
const NEXT: u32 = 4;
const TAKE: u32 = 21;
const LOOKUP_BATCH: u32 = 24;
const TAKE_BATCH: u32 = 25;
const UPDATE_BATCH: u32 = 26;
const DELETE_BATCH: u32 = 27;

const ANY: u64 = 0;
const NO_EXIST: u64 = 1;
const EXIST: u64 = 2;
const NO_PREALLOC: u32 = 1;
/// `BPF_F_RDONLY_PROG`
pub(super) const READ_ONLY: u32 = 1 << 7;

/// Has user space write to a map no more.
pub(super) fn freeze(map: &Map) -> Answer<()> {
    call::bpf(22, Attributes::default().fd(0, map.fd.as_fd()), 4).map(drop)
}

/// Bytes of a value on one CPU.
const VALUE: usize = 8;
/// Room for values of a batch, on as many CPUs as a guest has.
const ROOM: usize = 64 << 10;

/// A map of the kernel's.
pub(super) struct Map {
    pub(super) fd: OwnedFd,
    /// Bytes of a key, and of a value as it is read and written.
    key: usize,
    value: usize,
    entries: u32,
}

impl Map {
    pub(super) fn create(
        kind: u32,
        key: usize,
        value: usize,
        entries: u32,
        flags: u32,
    ) -> Answer<Self> {
        let attributes = Attributes::default()
            .word(0, kind)
            .word(4, u32::try_from(key).unwrap_or(0))
            .word(8, u32::try_from(value).unwrap_or(0))
            .word(12, entries)
            .word(16, flags);
        let fd = call::bpf_fd(CREATE, attributes, 72)?;
        // Per-CPU kinds have a value for each.
        let value = if matches!(kind, 5 | 6 | 10) {
            value.div_ceil(8) * 8 * possible_cpus()
        } else {
            value
        };
        Ok(Self { fd, key, value, entries })
    }

    fn with_key<'a>(&self, key: &'a [u8]) -> Attributes<'a> {
        let attributes = Attributes::default().fd(0, self.fd.as_fd());
        if self.key == 0 { attributes } else { attributes.input(8, key) }
    }

    pub(super) fn lookup(&self, command: u32, key: &[u8]) -> Answer<Vec<u8>> {
        let mut value = vec![0; self.value.max(8)];
        let fd = self.fd.as_fd();
        let attributes = Attributes::default().fd(0, fd);
        let attributes = if self.key == 0 { attributes } else { attributes.input(8, key) };
        call::bpf(command, attributes.output(16, &mut value), 32)?;
        value.truncate(self.value);
        Ok(value)
    }

    pub(super) fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Answer<()> {
        let attributes = self.with_key(key).input(16, value).double(24, flags);
        call::bpf(UPDATE, attributes, 32).map(drop)
    }

    pub(super) fn delete(&self, key: &[u8]) -> Answer<()> {
        call::bpf(DELETE, self.with_key(key), 32).map(drop)
    }

    pub(super) fn next(&self, key: Option<&[u8]>) -> Answer<Vec<u8>> {
        let mut next = vec![0; self.key];
        let attributes = Attributes::default().fd(0, self.fd.as_fd());
        let attributes = match key {
            Some(key) => attributes.input(8, key),
            None => attributes,
        };
        call::bpf(NEXT, attributes.output(16, &mut next), 32)?;
        Ok(next)
    }

    /// Bytes of a value as it is read and written.
    pub(super) fn value(&self) -> usize {
        self.value
    }

    /// A value of nothing but this word.
    pub(super) fn filled(&self, word: u64) -> Vec<u8> {
        word.to_ne_bytes().into_iter().cycle().take(self.value).collect()
    }

    /// All keys, one after the other; an error if there are more than there can be.
    pub(super) fn keys(&self) -> Result<Vec<Vec<u8>>, String> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        loop {
            match self.next(keys.last().map(Vec::as_slice)) {
                Ok(next) => keys.push(next),
                Err(libc::ENOENT) => return Ok(keys),
                // What a map that is walked may say where there is little memory.
                Err(errno) => return Err(format!("the next key: errno {errno}")),
            }
            if keys.len() > self.entries as usize + 1 {
                return Err(format!(
                    "a walk over the keys of {} entries comes to {}",
                    self.entries,
                    keys.len()
                ));
            }
        }
    }

    /// All elements in batches of `count`, or more where a bucket asks for that.
    fn batches(&self, command: u32, mut count: u32) -> Answer<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut found = Vec::new();
        let mut position = [0_u8; 64];
        let mut first = true;
        for _ in 0..4 * self.entries + 8 {
            let (mut next, mut keys, mut values) = ([0_u8; 64], vec![0; ROOM], vec![0; ROOM]);
            let room = u32::try_from(ROOM / self.value.max(self.key).max(1)).unwrap_or(1);
            count = count.min(room);
            let attributes = Attributes::default()
                .output(8, &mut next)
                .output(16, &mut keys)
                .output(24, &mut values)
                .word(32, count)
                .fd(36, self.fd.as_fd());
            let attributes = if first { attributes } else { attributes.input(0, &position) };
            let (answer, done) = call::bpf_word_after(command, attributes, 56, 32);
            match answer {
                Err(libc::ENOSPC) => {
                    if count >= room {
                        return Err(libc::ENOSPC);
                    }
                    count *= 2;
                    continue;
                }
                Ok(_) | Err(libc::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
            let done = done as usize;
            for nth in 0..done.min(count as usize) {
                let part = |all: &[u8], size: usize| {
                    all.get(nth * size..(nth + 1) * size).unwrap_or_default().to_vec()
                };
                found.push((part(&keys, self.key), part(&values, self.value)));
            }
            if answer.is_err() {
                return Ok(found);
            }
            (position, first) = (next, false);
        }
        Err(libc::ELOOP)
    }
}

/// CPUs that there may be.
pub(super) fn possible_cpus() -> usize {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last = text.trim().rsplit(['-', ',']).next().and_then(|cpu| cpu.parse::<usize>().ok());
    last.map_or(1, |last| last + 1)
}

pub(super) fn run(stage: &mut Stage<'_>) -> Answer<()> {
    any(&mut stage.play)
}

fn any(play: &mut Play) -> Answer<()> {
    match play.dice.below(8) {
        0..=2 => table(play),
        3 | 4 => prefixes(play),
        5 => queue(play),
        6 => bloom(play),
        _ => maps_in_map(play),
    }
}

pub(super) fn padded(key: u32, size: usize) -> Vec<u8> {
    let mut bytes = key.to_ne_bytes().to_vec();
    bytes.resize(size, 0);
    bytes
}

fn wrong_answer<T: std::fmt::Debug + PartialEq>(
    play: &mut Play,
    what: &str,
    answer: &Answer<T>,
    right: &Answer<T>,
) {
    // No memory, or a walk that another one disturbs, is no answer about the map.
    if matches!(answer, Err(libc::ENOMEM | libc::EBUSY | libc::EAGAIN | libc::EINTR)) {
        return;
    }
    if answer != right {
        play.wrong(format!("{what}: {answer:?} and not {right:?}"));
    }
}

/// Hashes and arrays.
fn table(play: &mut Play) -> Answer<()> {
    let kind = [1, 1, 5, 2, 6, 1][play.dice.below(6) as usize];
    let array = matches!(kind, 2 | 6);
    let per_cpu = matches!(kind, 5 | 6);
    let key = if array { 4 } else { [4, 8, 16, 33][play.dice.below(4) as usize] };
    let entries = 1_u32 << play.dice.below(6);
    let flags = if array { 0 } else { play.dice.below(2) * NO_PREALLOC };
    let map = Map::create(kind, key, VALUE, entries, flags)?;
    let name = format!("a map of kind {kind} with {entries} entries, flags {flags:#x}");
    let caller = match play.dice.below(2) {
        0 => Caller::of(&map, &[Call::Lookup, Call::Update, Call::Delete]).ok(),
        _ => None,
    };
    let mut model: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    if array {
        model.extend((0..entries).map(|key| (key, vec![0; map.value])));
    }
    for counter in 1..=12 + u64::from(play.dice.below(40)) {
        let number = play.dice.below(entries + entries / 2 + 2);
        let bytes = padded(number, key);
        let there = model.contains_key(&number);
        let full = model.len() >= entries as usize;
        // Each CPU has a value of its own.
        let value: Vec<u8> = (0..map.value / VALUE)
            .flat_map(|cpu| (counter << 8 | cpu as u64).to_ne_bytes())
            .collect();
        let caller = caller.as_ref().filter(|_| play.dice.below(2) == 0);
        let by = if caller.is_some() { "a program's " } else { "" };
        // What a program sees: the value of its own CPU.
        let own = |cpu: usize| if per_cpu { cpu * VALUE..(cpu + 1) * VALUE } else { 0..VALUE };
        match play.dice.below(10) {
            0..=3 => {
                let how = [ANY, ANY, NO_EXIST, EXIST][play.dice.below(4) as usize];
                let (answer, value) = match caller {
                    None => (map.update(&bytes, &value, how), value),
                    Some(caller) => {
                        let done = caller.call(Call::Update, &bytes, &value, how)?;
                        // The other CPUs' values stay, or are zero in what is new.
                        let new = || vec![0; map.value];
                        let mut all = model.get(&number).cloned().unwrap_or_else(new);
                        if let (Some(to), Some(from)) =
                            (all.get_mut(own(done.cpu)), value.get(..VALUE))
                        {
                            to.copy_from_slice(from);
                        }
                        (done.answer, all)
                    }
                };
                let right = match (there, how) {
                    _ if array && number >= entries => Err(libc::E2BIG),
                    (true, NO_EXIST) => Err(libc::EEXIST),
                    (false, EXIST) => Err(libc::ENOENT),
                    (false, _) if full => Err(libc::E2BIG),
                    _ => Ok(()),
                };
                wrong_answer(
                    play,
                    &format!("{name}: {by}update ({how}) of {number}"),
                    &answer,
                    &right,
                );
                if answer.is_ok() {
                    model.insert(number, value);
                }
            }
            4 | 5 => {
                let right = model.get(&number).ok_or(libc::ENOENT);
                let (answer, right) = match caller {
                    None => (map.lookup(LOOKUP, &bytes), right.cloned()),
                    Some(caller) => {
                        let done = caller.call(Call::Lookup, &bytes, &[], 0)?;
                        let part =
                            |all: &Vec<u8>| all.get(own(done.cpu)).unwrap_or_default().to_vec();
                        (done.answer.map(|()| done.found.to_vec()), right.map(part))
                    }
                };
                wrong_answer(play, &format!("{name}: {by}lookup of {number}"), &answer, &right);
            }
            6 => {
                let answer = match caller {
                    None => map.delete(&bytes),
                    Some(caller) => caller.call(Call::Delete, &bytes, &[], 0)?.answer,
                };
                let right = match there {
                    _ if array => Err(libc::EINVAL),
                    true => Ok(()),
                    false => Err(libc::ENOENT),
                };
                wrong_answer(play, &format!("{name}: {by}deletion of {number}"), &answer, &right);
                if answer.is_ok() {
                    model.remove(&number);
                }
            }
            7 if !array => {
                let answer = map.lookup(TAKE, &bytes);
                let right = model.get(&number).cloned().ok_or(libc::ENOENT);
                wrong_answer(
                    play,
                    &format!("{name}: lookup and deletion of {number}"),
                    &answer,
                    &right,
                );
                if answer.is_ok() {
                    model.remove(&number);
                }
            }
            8 => walk(play, &map, &name, &model),
            _ => batch(play, &map, &name, &mut model, array, per_cpu),
        }
    }
    walk(play, &map, &name, &model);
    // What nobody asked for meanwhile shows now.
    for (number, value) in &model {
        let answer = map.lookup(LOOKUP, &padded(*number, key));
        let right = Ok(value.clone());
        wrong_answer(play, &format!("{name}: in the end a lookup of {number}"), &answer, &right);
    }
    Ok(())
}

fn number_of(key: &[u8]) -> u32 {
    let mut bytes = [0; 4];
    bytes.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    u32::from_ne_bytes(bytes)
}

/// Each key once.
fn walk(play: &mut Play, map: &Map, name: &str, model: &BTreeMap<u32, Vec<u8>>) {
    match map.keys() {
        Err(why) => play.wrong(format!("{name}: {why}")),
        Ok(keys) => {
            let mut keys: Vec<u32> = keys.iter().map(|key| number_of(key)).collect();
            keys.sort_unstable();
            if !keys.iter().eq(model.keys()) {
                let right: Vec<&u32> = model.keys().collect();
                play.wrong(format!("{name}: its keys are {keys:?} and not {right:?}"));
            }
        }
    }
}

fn batch(
    play: &mut Play,
    map: &Map,
    name: &str,
    model: &mut BTreeMap<u32, Vec<u8>>,
    array: bool,
    per_cpu: bool,
) {
    let count = 1 + play.dice.below(map.entries + 2);
    match play.dice.below(4) {
        0 | 1 => {
            let take = !array && play.dice.below(3) == 0;
            let command = if take { TAKE_BATCH } else { LOOKUP_BATCH };
            match map.batches(command, count) {
                Err(libc::ENOMEM | libc::EBUSY | libc::EAGAIN | libc::EINTR | libc::ENOSPC) => {
                    if take {
                        // Some may be gone.
                        model.clear();
                        if let Ok(keys) = map.keys() {
                            for key in keys {
                                if let Ok(value) = map.lookup(LOOKUP, &key) {
                                    model.insert(number_of(&key), value);
                                }
                            }
                        }
                    }
                }
                Err(errno) => play.wrong(format!("{name}: batches of {count}: errno {errno}")),
                Ok(found) => {
                    let several = found.len();
                    let found: BTreeMap<u32, Vec<u8>> =
                        found.into_iter().map(|(key, value)| (number_of(&key), value)).collect();
                    if found != *model || several != model.len() {
                        play.wrong(format!(
                            "{name}: batches of {count} come to {several} elements and not {}",
                            model.len()
                        ));
                    }
                    if take {
                        model.clear();
                    }
                }
            }
        }
        2 if !per_cpu => {
            let first = play.dice.below(map.entries);
            let count = count.min(map.entries - first);
            let keys: Vec<u8> =
                (first..first + count).flat_map(|key| padded(key, map.key)).collect();
            let values: Vec<u8> =
                (0..count).flat_map(|nth| (u64::from(nth) | 1 << 40).to_ne_bytes()).collect();
            let attributes = Attributes::default()
                .input(16, &keys)
                .input(24, &values)
                .word(32, count)
                .fd(36, map.fd.as_fd());
            let (answer, done) = call::bpf_word_after(UPDATE_BATCH, attributes, 56, 32);
            let fits = (first..first + count).filter(|key| !model.contains_key(key)).count()
                + model.len()
                <= map.entries as usize;
            if fits && (answer.is_err() || done != count) {
                let harmless = matches!(answer, Err(libc::ENOMEM | libc::EBUSY | libc::EAGAIN));
                if !harmless {
                    play.wrong(format!(
                        "{name}: update of {count} in a batch: {answer:?}, {done} done"
                    ));
                }
            }
            for nth in 0..done.min(count) {
                let value = (u64::from(nth) | 1 << 40).to_ne_bytes().to_vec();
                model.insert(first + nth, value);
            }
        }
        _ if !array => {
            let keys: Vec<u32> = model.keys().copied().take(count as usize).collect();
            if keys.is_empty() {
                return;
            }
            let bytes: Vec<u8> = keys.iter().flat_map(|key| padded(*key, map.key)).collect();
            let count = u32::try_from(keys.len()).unwrap_or(0);
            let attributes =
                Attributes::default().input(16, &bytes).word(32, count).fd(36, map.fd.as_fd());
            let (answer, done) = call::bpf_word_after(DELETE_BATCH, attributes, 56, 32);
            if answer.is_ok() && done != count {
                play.wrong(format!("{name}: deletion of {count} in a batch: {done} done"));
            }
            for key in keys.iter().take(done as usize) {
                model.remove(key);
            }
        }
        _ => {}
    }
}

/// Longest prefixes.
fn prefixes(play: &mut Play) -> Answer<()> {
    let bytes = [1, 2, 4, 8, 16][play.dice.below(5) as usize];
    let most = 8 * bytes as u32;
    let map = Map::create(11, 4 + bytes, VALUE, 512, NO_PREALLOC)?;
    let name = format!("an LPM trie of {most} bits");
    let mut model: BTreeMap<(u32, Vec<u8>), u64> = BTreeMap::new();
    let key_of = |length: u32, data: &[u8]| [&length.to_ne_bytes()[..], data].concat();
    let masked = |length: u32, data: &[u8]| -> Vec<u8> {
        let bits = (0_u32..).step_by(8).zip(data);
        bits.map(|(at, byte)| match length.saturating_sub(at).min(8) {
            0 => 0,
            kept => byte & (0xff_u16 << (8 - kept)) as u8,
        })
        .collect()
    };
    // All prefixes of one address, or whatever comes.
    let chain = play.dice.below(2) == 0;
    let address: Vec<u8> = (0..bytes).map(|_| play.dice.below(256) as u8).collect();
    if chain {
        let mut lengths: Vec<u32> = (0..=most).collect();
        if play.dice.below(2) == 0 {
            lengths.reverse();
        }
        for length in lengths {
            let data = masked(length, &address);
            let value = u64::from(length) + 1;
            let answer = map.update(&key_of(length, &data), &value.to_ne_bytes(), ANY);
            wrong_answer(play, &format!("{name}: a prefix of {length}"), &answer, &Ok(()));
            if answer.is_ok() {
                model.insert((length, data), value);
            }
        }
    }
    for turn in 0..10 + u64::from(play.dice.below(30)) {
        let length = play.dice.below(most + 1);
        // Near the address, so that prefixes nest.
        let mut data = address.clone();
        if play.dice.below(2) == 0 {
            let bit = play.dice.below(most);
            if let Some(byte) = data.get_mut(bit as usize / 8) {
                *byte ^= 1 << (7 - bit % 8);
            }
        }
        let data = masked(length, &data);
        let key = key_of(length, &data);
        let exact = (length, data.clone());
        let there = model.contains_key(&exact);
        match play.dice.below(6) {
            0 | 1 => {
                let how = [ANY, NO_EXIST, EXIST][play.dice.below(3) as usize];
                let value = 1000 + turn;
                let answer = map.update(&key, &value.to_ne_bytes(), how);
                let right = match (there, how) {
                    (true, NO_EXIST) => Err(libc::EEXIST),
                    (false, EXIST) => Err(libc::ENOENT),
                    _ => Ok(()),
                };
                wrong_answer(play, &format!("{name}: update ({how}) of {length}"), &answer, &right);
                if answer.is_ok() {
                    model.insert(exact, value);
                }
            }
            2 | 3 => {
                let answer = map.lookup(LOOKUP, &key);
                let right = model
                    .iter()
                    .filter(|((of, prefix), _)| *of <= length && masked(*of, &data) == *prefix)
                    .max_by_key(|((of, _), _)| *of)
                    .map(|(_, value)| value.to_ne_bytes().to_vec())
                    .ok_or(libc::ENOENT);
                wrong_answer(play, &format!("{name}: lookup of {length}"), &answer, &right);
            }
            4 => {
                let answer = map.delete(&key);
                let right = if there { Ok(()) } else { Err(libc::ENOENT) };
                wrong_answer(play, &format!("{name}: deletion of {length}"), &answer, &right);
                if answer.is_ok() {
                    model.remove(&exact);
                }
            }
            // From wherever: the walk goes on from there.
            _ => drop(map.next(Some(&key))),
        }
    }
    match map.keys() {
        Err(why) => play.wrong(format!("{name}: {why}")),
        Ok(keys) => {
            let count = keys.len();
            let found: BTreeSet<Vec<u8>> = keys.into_iter().collect();
            let right: BTreeSet<Vec<u8>> =
                model.keys().map(|(length, data)| key_of(*length, data)).collect();
            if found != right || count != right.len() {
                play.wrong(format!("{name}: a walk comes to {count} keys and not {}", right.len()));
            }
        }
    }
    Ok(())
}

/// Queues and stacks.
fn queue(play: &mut Play) -> Answer<()> {
    let kind = 22 + play.dice.below(2);
    let entries = 1 + play.dice.below(7);
    let map = Map::create(kind, 0, VALUE, entries, 0)?;
    let name = if kind == 22 { "a queue" } else { "a stack" };
    let caller = match play.dice.below(2) {
        0 => Caller::of(&map, &[Call::Push, Call::Pop, Call::Peek]).ok(),
        _ => None,
    };
    let mut model: VecDeque<u64> = VecDeque::new();
    for turn in 0..20 + u64::from(play.dice.below(30)) {
        let next = if kind == 22 { model.front() } else { model.back() };
        let next = next.map(|value| value.to_ne_bytes().to_vec()).ok_or(libc::ENOENT);
        let caller = caller.as_ref().filter(|_| play.dice.below(2) == 0);
        let by = if caller.is_some() { "a program's " } else { "" };
        let taken = |call: Call, command: u32| -> Answer<Answer<Vec<u8>>> {
            match caller {
                None => Ok(map.lookup(command, &[])),
                Some(caller) => {
                    let done = caller.call(call, &[], &[], 0)?;
                    Ok(done.answer.map(|()| done.found.to_vec()))
                }
            }
        };
        match play.dice.below(5) {
            0 | 1 => {
                let how = [ANY, EXIST, NO_EXIST][play.dice.below(3) as usize];
                let full = model.len() == entries as usize;
                let value = turn.to_ne_bytes();
                let answer = match caller {
                    None => map.update(&[], &value, how),
                    Some(caller) => caller.call(Call::Push, &[], &value, how)?.answer,
                };
                let right = match (how, full) {
                    (NO_EXIST, _) => Err(libc::EINVAL),
                    (ANY, true) => Err(libc::E2BIG),
                    _ => Ok(()),
                };
                let what = format!("{name} of {entries}: {by}push ({how})");
                wrong_answer(play, &what, &answer, &right);
                if answer.is_ok() {
                    // The oldest makes room.
                    if full {
                        model.pop_front();
                    }
                    model.push_back(turn);
                }
            }
            2 | 3 => {
                let answer = taken(Call::Pop, TAKE)?;
                wrong_answer(play, &format!("{name} of {entries}: {by}pop"), &answer, &next);
                if answer.is_ok() {
                    if kind == 22 {
                        model.pop_front()
                    } else {
                        model.pop_back()
                    };
                }
            }
            _ => {
                let answer = taken(Call::Peek, LOOKUP)?;
                wrong_answer(play, &format!("{name} of {entries}: {by}peek"), &answer, &next);
            }
        }
    }
    Ok(())
}

/// What is in a Bloom filter is found.
fn bloom(play: &mut Play) -> Answer<()> {
    let size = [4_usize, 8, 13][play.dice.below(3) as usize];
    let map = Map::create(30, 0, size, 1 + play.dice.below(64), 0)?;
    let mut pushed = Vec::new();
    for turn in 0..10 + play.dice.below(20) {
        let value = padded(turn.wrapping_mul(0x9e37_79b1), size);
        match map.update(&[], &value, ANY) {
            Ok(()) => pushed.push(value),
            Err(errno) => play.wrong(format!("a Bloom filter: push: errno {errno}")),
        }
    }
    for mut value in pushed {
        let attributes = Attributes::default().fd(0, map.fd.as_fd()).output(16, &mut value);
        if let Err(errno) = call::bpf(LOOKUP, attributes, 32) {
            play.wrong(format!("a Bloom filter does not find what is in it: errno {errno}"));
        }
    }
    Ok(())
}

/// Maps of maps: what is found is the inner map's id.
fn maps_in_map(play: &mut Play) -> Answer<()> {
    let kind = 12 + play.dice.below(2);
    let inner: Vec<Map> = (0..3).map(|_| Map::create(1, 4, VALUE, 4, 0)).collect::<Answer<_>>()?;
    let first = inner.first().ok_or(libc::ENOENT)?;
    let attributes = Attributes::default()
        .word(0, kind)
        .word(4, 4)
        .word(8, 4)
        .word(12, 4)
        .fd(20, first.fd.as_fd());
    let fd = call::bpf_fd(CREATE, attributes, 72)?;
    let map = Map { fd, key: 4, value: 4, entries: 4 };
    let mut model: BTreeMap<u32, u32> = BTreeMap::new();
    let id_of = |map: &Map| -> Answer<u32> {
        let mut info = [0; 256];
        let attributes =
            Attributes::default().fd(0, map.fd.as_fd()).word(4, 256).output(8, &mut info);
        call::bpf(15, attributes, 16)?;
        Ok(number_of(&info[4..8]))
    };
    for _ in 0..10 + play.dice.below(16) {
        let key = play.dice.below(5);
        let name = format!("a map of maps (kind {kind})");
        match play.dice.below(3) {
            0 => {
                let Some(inner) = inner.get(play.dice.below(3) as usize) else { continue };
                let value = inner.fd.as_raw_fd().to_ne_bytes();
                let answer = map.update(&key.to_ne_bytes(), &value, ANY);
                let full = kind == 13 && model.len() == 4 && !model.contains_key(&key);
                let right = if (kind == 12 && key > 3) || full { Err(libc::E2BIG) } else { Ok(()) };
                wrong_answer(play, &format!("{name}: update of {key}"), &answer, &right);
                if answer.is_ok() {
                    model.insert(key, id_of(inner)?);
                }
            }
            1 => {
                let answer = map.lookup(LOOKUP, &key.to_ne_bytes());
                let right = model.get(&key).map(|id| id.to_ne_bytes().to_vec()).ok_or(libc::ENOENT);
                wrong_answer(play, &format!("{name}: lookup of {key}"), &answer, &right);
            }
            _ => {
                let answer = map.delete(&key.to_ne_bytes());
                if answer.is_ok() {
                    model.remove(&key);
                } else if kind == 13 && model.contains_key(&key) {
                    play.wrong(format!("{name}: deletion of {key}: {answer:?}"));
                }
            }
        }
    }
    // The inner ones go first, or last.
    if play.dice.below(2) == 0 {
        drop(inner);
        drop(map);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::check::plays;

    /// The kernel that this runs on, if it may be asked, is right about each of them.
    #[test]
    fn this_kernel_is_right() {
        for (seed, mut play) in plays("maps", 0..400_u16) {
            let answer = any(&mut play);
            if matches!(answer, Err(libc::EPERM | libc::ENOSYS)) {
                return;
            }
            assert_eq!((answer, play.wrong), (Ok(()), None), "{seed}");
        }
    }

    /// Calls of a program answer as those of user space do, and each is the one that is meant.
    #[test]
    fn programs_make_the_calls_they_are_told() {
        let Ok(map) = Map::create(5, 8, VALUE, 1, 0) else { return };
        let all = [Call::Lookup, Call::Update, Call::Delete];
        let Ok(caller) = Caller::of(&map, &all) else { return };
        let (key, value) = ([3; 8], 77_u64.to_ne_bytes());
        let call = |call, flags| caller.call(call, &key, &value, flags).unwrap();
        assert_eq!(call(Call::Lookup, 0).answer, Err(libc::ENOENT));
        assert_eq!(call(Call::Update, EXIST).answer, Err(libc::ENOENT));
        let done = call(Call::Update, NO_EXIST);
        assert_eq!(done.answer, Ok(()));
        let mut right = vec![0; map.value()];
        right[done.cpu * VALUE..][..VALUE].copy_from_slice(&value);
        assert_eq!(map.lookup(LOOKUP, &key), Ok(right));
        let done = call(Call::Delete, 0);
        assert_eq!((done.answer, map.lookup(LOOKUP, &key)), (Ok(()), Err(libc::ENOENT)));
    }
}
