// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stack maps that have lost buckets.
//!
//! A stack map has as many buckets as entries, taken from a list of free ones and
//! put back when an entry is replaced or deleted (`kernel/bpf/stackmap.c`). A
//! bucket that is not put back shows nowhere: its memory is the map's. In the end
//! `bpf_get_stackid()` answers `-ENOMEM`, as it does for a map that is merely full.
//! So a map of which that was said is emptied and has to take some stacks.

use std::os::fd::AsFd;

use crate::engine::Executor;
use crate::engine::pool::Map;
use crate::engine::scratch::NO_BUCKET;
use crate::op::step::{Body, Flaw, StackFlags, Step};
use crate::op::value::Upto;
use crate::op::{How, Place, ProgKind};
use crate::sys::call::{self, Attributes};

/// What is told of an emptied map that has too few buckets.
pub const LOST_BUCKETS: &str = "buckets of a stack map: it was emptied, and too few are free";

/// How often it has to have none: what a program that has ended set off may still
/// be under way.
const ASKED: usize = 3;

/// Stacks that an emptied map has to take. More than one: a bucket that is lost at
/// each collision is never the last, and the fewer are left the fewer collide.
const STACKS: u8 = 8;
/// Buckets of a map that is asked: those for the stacks, and as many for others.
const ENOUGH: u32 = 2 * STACKS as u32;

const MAP_DELETE_ELEM: u32 = 3;

impl Executor {
    /// Whether the map in which a program found no free bucket since the last call
    /// has too few when it is empty, either.
    pub(crate) fn lost_buckets(&mut self) -> bool {
        let noted = self.counters.load(NO_BUCKET);
        if noted == 0 {
            return false;
        }
        self.counters.store(NO_BUCKET, 0);
        let noted = i32::try_from(noted).ok().and_then(|fd| self.pool.stack_map(fd));
        let Some((map, buckets)) = noted.filter(|(_, buckets)| *buckets >= ENOUGH) else {
            return false;
        };
        (0..ASKED).all(|nth| {
            // The first answer is often that there is room again; then nothing is to be waited for.
            (nth == 0 || self.settle()) && self.is_without_buckets(&map, buckets) == Some(true)
        })
    }

    /// Whether an emptied map has too few buckets for [`STACKS`]; `None` if it cannot be emptied or asked.
    fn is_without_buckets(&mut self, map: &Map, buckets: u32) -> Option<bool> {
        for id in 0..buckets {
            let id = id.to_ne_bytes();
            let attributes = Attributes::default().fd(0, map.fd.as_fd());
            match call::bpf(MAP_DELETE_ELEM, attributes.input(8, &id), 32) {
                Ok(_) | Err(libc::ENOENT) => {}
                // Frozen.
                Err(_) => return None,
            }
        }
        let flags = StackFlags { user: true, ..StackFlags::default() };
        let body = Body(vec![Step::GetStackid { map: Upto(0), flags }]);
        let maps = vec![map.clone()];
        let program = self.load(ProgKind::RawTp, Flaw::Sound, maps, &body).ok()?;
        // As programs do it: BPF_PROG_TEST_RUN is there with CONFIG_NET only.
        self.arm(Place::FileLock, program.as_fd()).ok()?;
        let ran = (0..STACKS)
            .try_for_each(|nth| self.trigger(How::Syscall, Upto(0), &[Upto(nth), Upto(nth)], 0));
        let _ = self.disarm(Place::FileLock);
        let without = self.counters.load(NO_BUCKET) != 0;
        self.counters.store(NO_BUCKET, 0);
        ran.ok().map(|()| without)
    }
}
