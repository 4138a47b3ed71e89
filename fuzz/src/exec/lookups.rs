// SPDX-License-Identifier: MIT OR Apache-2.0
//! What lookups of forged stacks by build ids answered, in the buffer of
//! `bpf_get_stack()` and under the id of `bpf_get_stackid()`, compared with what
//! the arena is mapped to.

use std::os::fd::{AsFd, RawFd};

use super::assemble::{BUFFER, FOREIGN, FOREIGN_DONE, STACK_ID, STACK_MAP};
use super::legal::Model;
use super::{Executor, Lookup, trigger};
use crate::op::MapKind;
use crate::sys::call::{self, Attributes};

/// `struct bpf_stack_build_id` (`include/uapi/linux/bpf.h`): status (4 bytes), build
/// id (20), offset or address (8).
const ENTRY: usize = 32;
/// `BPF_STACK_BUILD_ID_VALID` and `BPF_STACK_BUILD_ID_IP`.
const VALID: u32 = 1;
const ADDRESS: u32 = 2;
/// Entries that are looked at: the forged frames, and what may be around them.
const ENTRIES: usize = trigger::FRAMES + 2;
/// Bytes of a value of a stack map by build ids: see [`super::pool::shape`].
const VALUE: usize = 16 * ENTRY;

const MAP_LOOKUP_ELEM: u32 = 1;

type Entry = [u8; ENTRY];

/// What there is to say afterwards whether another thread can have written a stack: how
/// many had begun to, if none was still at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch(Option<u64>);

impl Executor {
    /// Makes everything that stacks are noted in say nothing.
    pub(super) fn clear_stack(&self) -> Watch {
        // In this order: who begins in between is not done, or is seen to have begun.
        let done = self.counters.load(FOREIGN_DONE);
        let begun = self.counters.load(FOREIGN);
        self.counters.store(STACK_MAP, 0);
        for entry in 0..ENTRIES {
            self.counters.store(BUFFER + ENTRY * entry, 0);
        }
        Watch((begun == done).then_some(begun))
    }

    /// Compares the stacks that were written since [`clear_stack`](Self::clear_stack),
    /// if no other thread can have written any meanwhile. One that writes while they are
    /// read would have another worker's mappings taken for wrong answers about ours.
    pub(super) fn check_stack(&mut self, frames: &[u8], watch: Watch) {
        let entries: [Entry; ENTRIES] = std::array::from_fn(|number| self.entry(number));
        let noted = self.noted_stack();
        if watch.0 != Some(self.counters.load(FOREIGN)) {
            return;
        }
        let mut lookup = Lookup::default();
        for entry in entries {
            match status(&entry) {
                VALID => lookup.valid += 1,
                ADDRESS => lookup.address += 1,
                _ => {}
            }
            self.judge(frames, &entry, "bpf_get_stack()");
        }
        if lookup != Lookup::default() {
            self.tables.lookup = Some(lookup);
        }
        if let Some(value) = noted {
            for entry in value.chunks_exact(ENTRY).filter_map(|entry| entry.try_into().ok()) {
                self.judge(frames, entry, "bpf_get_stackid()");
            }
        }
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

    /// Notes an entry that cannot be right.
    fn judge(&mut self, frames: &[u8], entry: &Entry, asked: &str) {
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
        if status == ADDRESS {
            if Model::is_legal_address(frames, offset) == Some(false) {
                let what = format!("{asked}: address {offset:#x}, which is no frame's");
                self.tables.wrong.get_or_insert(what);
            }
        } else if self.tables.arena.is_legal(frames, id, offset) == Some(false) {
            let ends = if id[0] == id[19] { "" } else { " and another end" };
            let what = format!("{asked}: build id {:02x}…{ends}, offset {offset:#x}", id[0]);
            self.tables.wrong.get_or_insert(what);
        }
    }
}

fn status(entry: &Entry) -> u32 {
    u32::from_ne_bytes([entry[0], entry[1], entry[2], entry[3]])
}
