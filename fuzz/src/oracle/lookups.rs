// SPDX-License-Identifier: MIT OR Apache-2.0
//! What lookups of forged stacks by build ids answered, in the buffer of
//! `bpf_get_stack()` and under the id of `bpf_get_stackid()`, compared with what
//! the arena is mapped to.

use std::fs;
use std::os::fd::{AsFd, RawFd};
use std::path::Path;

use super::legal::Model;
use crate::elf::{BUILD_ID_LENGTH, Elf};
use crate::engine::scratch::{
    ADDRESSES, ADDRESSES_LENGTH, ADDRESSES_OF, BUFFER, FOREIGN, FOREIGN_DONE, OF_STACK, OF_STACKID,
    PAIRS, STACK_ID, STACK_MAP,
};
use crate::engine::{Executor, Lookup};
use crate::op::MapKind;
use crate::sys::call::{self, Attributes};
use crate::sys::maps::{self, Area};
use crate::sys::trigger;

/// `struct bpf_stack_build_id` (`include/uapi/linux/bpf.h`): status (4 bytes), build
/// id (20), offset or address (8).
const ENTRY: usize = 32;
/// `BPF_STACK_BUILD_ID_VALID` and `BPF_STACK_BUILD_ID_IP`.
const VALID: u32 = 1;
const ADDRESS: u32 = 2;
/// Entries that are looked at: the forged frames, and what may be around them.
const ENTRIES: usize = trigger::FRAMES + 2;
/// Bytes of a value of a stack map by build ids: see [`crate::engine::pool::shape`].
const VALUE: usize = 16 * ENTRY;

const MAP_LOOKUP_ELEM: u32 = 1;
/// Addresses that are looked at: as many frames as a stack map has.
const MOST_ADDRESSES: usize = 16;

type Entry = [u8; ENTRY];

/// What there is to say afterwards whether another thread can have written a stack: how
/// many had begun to, if none was still at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch(Option<u64>);

impl Executor {
    /// Makes everything that stacks are noted in say nothing.
    pub(crate) fn clear_stack(&self) -> Watch {
        // In this order: who begins in between is not done, or is seen to have begun.
        let done = self.counters.load(FOREIGN_DONE);
        let begun = self.counters.load(FOREIGN);
        self.counters.store(STACK_MAP, 0);
        self.counters.store(ADDRESSES_OF, 0);
        for entry in 0..ENTRIES {
            self.counters.store(BUFFER + ENTRY * entry, 0);
        }
        Watch((begun == done).then_some(begun))
    }

    /// Compares the stacks that were written since [`clear_stack`](Self::clear_stack),
    /// if no other thread can have written any meanwhile. One that writes while they are
    /// read would have another worker's mappings taken for wrong answers about ours.
    pub(crate) fn check_stack(&mut self, frames: &[u8], watch: Watch) {
        let pairs = self.counters.load(PAIRS);
        let entries: [Entry; ENTRIES] = std::array::from_fn(|number| self.entry(number));
        let noted = self.noted_stack();
        let of = self.counters.load(ADDRESSES_OF);
        let addresses = self.addresses();
        // A timer's program may have written the one after the other was read.
        let whole = self.counters.load(PAIRS) == pairs;
        if watch.0 != Some(self.counters.load(FOREIGN)) {
            return;
        }
        let of = |which| if whole && of == which { addresses.as_slice() } else { &[] };
        let mut lookup = Lookup::default();
        for (number, entry) in entries.into_iter().enumerate() {
            match status(&entry) {
                VALID => lookup.valid += 1,
                ADDRESS => lookup.address += 1,
                _ => {}
            }
            let about = of(OF_STACK).get(number).copied();
            self.judge(frames, about, &entry, "bpf_get_stack()");
        }
        if lookup != Lookup::default() {
            self.tables.lookup = Some(lookup);
        }
        if let Some(value) = noted {
            let entries = value.chunks_exact(ENTRY).filter_map(|entry| entry.try_into().ok());
            for (number, entry) in entries.enumerate() {
                let about = of(OF_STACKID).get(number).copied();
                self.judge(frames, about, entry, "bpf_get_stackid()");
            }
        }
    }

    /// The addresses of the stack that was asked for in both forms.
    fn addresses(&self) -> Vec<u64> {
        let bytes = usize::try_from(self.counters.load(ADDRESSES_LENGTH).cast_signed());
        let frames = bytes.unwrap_or(0).min(MOST_ADDRESSES * 8) / 8;
        (0..frames).map(|number| self.counters.load(ADDRESSES + 8 * number)).collect()
    }

    /// An entry of the buffer.
    fn entry(&self, number: usize) -> Entry {
        let mut entry = [0; ENTRY];
        for (word, bytes) in entry.chunks_exact_mut(8).enumerate() {
            let value = self.counters.load(BUFFER + ENTRY * number + 8 * word);
            bytes.copy_from_slice(&value.to_ne_bytes());
        }
        entry
    }

    /// What is in the map of build ids under the id that was answered last.
    fn noted_stack(&self) -> Option<[u8; VALUE]> {
        let fd = RawFd::try_from(self.counters.load(STACK_MAP)).ok().filter(|fd| *fd != 0)?;
        let map = self.pool.stack_map(fd).map(|(map, _)| map);
        let map = map.filter(|map| map.kind == MapKind::BuildIds)?;
        let id = u32::try_from(self.counters.load(STACK_ID)).ok()?.to_ne_bytes();
        let mut value = [0; VALUE];
        let attributes = Attributes::default().fd(0, map.fd.as_fd()).input(8, &id);
        call::bpf(MAP_LOOKUP_ELEM, attributes.output(16, &mut value), 32).ok()?;
        Some(value)
    }

    /// Notes an entry that cannot be right. Where the address that it is about is known
    /// nothing has to be guessed from its low bits.
    fn judge(&mut self, frames: &[u8], about: Option<u64>, entry: &Entry, asked: &str) {
        let status = status(entry);
        if status != VALID && status != ADDRESS {
            return;
        }
        let (Some(id), Some(offset)) = (
            entry.get(4..24).and_then(|id| <[u8; 20]>::try_from(id).ok()),
            entry.get(24..).and_then(|offset| offset.try_into().ok()).map(u64::from_ne_bytes),
        ) else {
            return;
        };
        let arena = &self.tables.arena;
        if status == ADDRESS {
            let legal = match about {
                Some(address) => Some(offset == address),
                None => Model::is_legal_address(frames, offset),
            };
            if legal == Some(false) {
                let what = format!("{asked}: address {offset:#x}, which is not a frame's");
                self.tables.wrong.get_or_insert(what);
            }
            return;
        }
        let legal = match about {
            Some(address) => match self.code.iter().find_map(|part| part.answer(address)) {
                Some(answer) => Some(answer == (id, offset)),
                None => arena.is_legal_of(address, id, offset),
            },
            None => arena.is_legal(frames, id, offset),
        };
        if legal == Some(false) {
            let of = about.map_or(String::new(), |address| format!(" of {address:#x}"));
            let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
            let what = format!("{asked}: build id {id}, offset {offset:#x}{of}");
            self.tables.wrong.get_or_insert(what);
        }
    }
}

/// A part of this program's own file that is mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Code {
    area: Area,
    build_id: [u8; BUILD_ID_LENGTH],
}

impl Code {
    /// The parts of the running program; none if it has no build id.
    pub(crate) fn of_this_program() -> Vec<Self> {
        let parts = || {
            let file = fs::read("/proc/self/exe").ok()?;
            let path = fs::read_link("/proc/self/exe").ok()?;
            let build_id = Elf::parse(&file).ok()?.build_id;
            let mut areas = maps::own();
            areas.retain(|area| Path::new(&area.path) == path);
            Some(areas.into_iter().map(|area| Self { area, build_id }).collect())
        };
        parts().unwrap_or_default()
    }

    /// The build id and the offset of an address, if it is in this part.
    fn answer(&self, address: u64) -> Option<([u8; BUILD_ID_LENGTH], u64)> {
        Some((self.build_id, self.area.file_offset(address)?))
    }
}

fn status(entry: &Entry) -> u32 {
    u32::from_ne_bytes([entry[0], entry[1], entry[2], entry[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This very program is found in its own maps, and only areas of its file count.
    #[test]
    fn own_code_is_found() {
        let parts = Code::of_this_program();
        let address = own_code_is_found as fn() as usize as u64;
        let part = parts.iter().find(|part| part.answer(address).is_some()).unwrap();
        let (id, offset) = part.answer(address).unwrap();
        assert_eq!(id, part.build_id);
        assert_eq!(offset % 4096, address % 4096);
        let path = &part.area.path;
        assert!(parts.iter().all(|other| other.area.path == *path));
        let on_stack = std::ptr::from_ref(&address) as u64;
        assert!(parts.iter().all(|part| part.answer(on_stack).is_none()));
    }
}
