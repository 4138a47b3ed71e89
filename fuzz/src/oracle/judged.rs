// SPDX-License-Identifier: MIT OR Apache-2.0
//! What programs do beside their steps, for the executor to judge their answers: whose
//! stack it was, its addresses beside its build ids, whether a mapping holds the address.

use crate::bpf::insn::FUNCTION;
use crate::engine::assemble::{Code, offset};
use crate::engine::scratch::{
    ADDRESSES, ADDRESSES_OF, ADDRESSES_ROOM, EXCESS, FOREIGN, FOREIGN_DONE, NO_BUCKET, OF_STACK,
    OF_STACKID, PAIRS, STACK_ID, WRONG_VMA,
};
use crate::op::step::{Size, Step};
use crate::sys::call::ARENA;

/// Where on a program's stack it is noted whether it runs in another thread.
const IS_FOREIGN: i16 = -88;
/// Where on a program's stack the address lies that a mapping is looked for at.
const SOUGHT: i16 = -96;
/// Where on a program's stack [`PAIRS`] lies as it was, and the length of the addresses.
const PAIR: i16 = -104;
const LENGTH: i16 = -112;

/// Whether a step writes a stack to where the executor looks for one.
pub(crate) fn asks(step: &Step) -> bool {
    matches!(step, Step::GetStack { .. } | Step::GetStackid { .. } | Step::GetTaskStack { .. })
}

/// Which of a stack's forms a step writes, if its frames can be compared with their
/// addresses, and the frames it leaves out.
fn paired(step: &Step) -> Option<(u64, u8)> {
    match step {
        Step::GetStack { flags, skip, size: Size::Some }
            if flags.user && flags.build_id && !flags.unknown =>
        {
            Some((OF_STACK, skip.0))
        }
        Step::GetStackid { flags, .. } if flags.user && !flags.fast && !flags.unknown => {
            Some((OF_STACKID, 0))
        }
        _ => None,
    }
}

impl Code<'_> {
    /// An event may fire in any thread, and its stack is then another's: notes on the
    /// program's stack, 1 or 0, whether this is another thread.
    pub(crate) fn look_for_foreign(&mut self) {
        let Some(thread) = self.around.thread() else { return };
        self.call(14); // get_current_pid_tgid
        self.mov_imm(2, 1);
        let foreign = self.jump_if(0x56, 0, thread.cast_signed()); // if w0 != thread
        self.mov_imm(2, 0);
        self.land(foreign);
        self.push(0x7b, 10, 2, IS_FOREIGN, 0);
    }

    /// Counts a stack that is written, if this is another thread, without a branch.
    fn count_foreign(&mut self, at: usize) {
        if self.around.thread().is_none() {
            return;
        }
        self.scratch(1, offset(at));
        self.push(0x79, 2, 10, IS_FOREIGN, 0);
        self.push(0xdb, 1, 2, 0, 0); // lock *(u64 *)(r1) += r2
    }

    /// Notes what `bpf_get_stackid()` answered about the map, in R0, which stays.
    pub(crate) fn note_stackid(&mut self, map: i32, whole: bool) {
        let other = self.jump_if(0x55, 0, -libc::ENOMEM); // if r0 != -ENOMEM
        self.scratch(1, offset(NO_BUCKET));
        self.mov_imm(2, map);
        self.push(0x7b, 1, 2, 0, 0); // *(u64 *)(r1) = r2
        self.land(other);
        if whole {
            let failed = self.jump_if(0xc5, 0, 0); // if r0 s< 0
            self.scratch(1, offset(STACK_ID));
            self.push(0x7b, 1, 0, 0, 0); // *(u64 *)(r1) = r0
            self.mov_imm(2, map);
            self.push(0x7b, 1, 2, 8, 0); // *(u64 *)(r1 + 8) = r2
            self.land(failed);
        }
    }

    /// Notes how many bytes of the stack that a helper wrote, by its answer in R0, which
    /// stays, there was no room for.
    pub(crate) fn note_excess(&mut self, room: i32) {
        self.mov(1, 0);
        self.add_imm(1, -room);
        // By way of memory: the verifier knows what the answer can be, and leaves out what
        // is only for others.
        self.scratch(2, offset(EXCESS));
        self.push(0x7b, 2, 1, 0, 0); // *(u64 *)r2 = r1
        self.push(0x79, 1, 2, 0, 0);
        let fits = self.jump_if(0xd5, 1, 0); // if r1 s<= 0
        self.push(0x7b, 2, 1, 8, 0); // TOO_LONG
        self.land(fits);
    }

    /// Asks for the addresses of the stack that is asked for next in another form.
    fn ask_addresses(&mut self, skip: u8) {
        self.scratch(1, offset(PAIRS));
        self.mov_imm(2, 1);
        self.push(0xdb, 1, 2, 0, 1); // r2 = fetch and add
        self.push(0x7b, 10, 2, PAIR, 0);
        self.mov(1, 6);
        self.scratch(2, offset(ADDRESSES));
        self.mov_imm(3, ADDRESSES_ROOM);
        self.mov_imm(4, 1 << 8 | i32::from(skip));
        self.call(67);
        self.push(0x7b, 10, 0, LENGTH, 0);
    }

    /// Notes what the addresses are of, if the step (its result is in R7) wrote a stack,
    /// and if no program came in between: one that an interrupt runs in the middle of
    /// this one writes to the same places.
    fn note_addresses(&mut self, of: u64) {
        self.scratch(1, offset(PAIRS));
        self.push(0x79, 2, 1, 0, 0);
        self.push(0x79, 3, 10, PAIR, 0);
        self.add_imm(3, 1);
        self.push(0x79, 5, 10, LENGTH, 0);
        self.mov_imm(4, 0);
        let another = self.push(0x5d, 2, 3, 0, 0); // if r2 != r3
        let failed = self.jump_if(0xc5, 7, 0); // if r7 s< 0
        self.mov_imm(4, i32::try_from(of).unwrap_or(0));
        self.land(another);
        self.land(failed);
        self.scratch(1, offset(ADDRESSES_OF));
        self.push(0x7b, 1, 4, 0, 0);
        self.push(0x7b, 1, 5, 8, 0); // ADDRESSES_LENGTH
    }

    /// A step, and around one that writes a stack what it is compared with.
    pub(crate) fn compared(&mut self, step: &Step) {
        if !asks(step) {
            return self.step(step);
        }
        self.count_foreign(FOREIGN);
        match paired(step).filter(|_| self.around.thread().is_some()) {
            Some((of, skip)) => {
                self.ask_addresses(skip);
                self.step(step);
                self.note_addresses(of);
            }
            None => {
                self.step(step);
                self.forget_addresses();
            }
        }
        self.count_foreign(FOREIGN_DONE);
    }

    /// What was written is where a stack was whose addresses are noted: by a program
    /// before, by one that interrupted this one, or soon by one that this one interrupted.
    fn forget_addresses(&mut self) {
        if self.around.thread().is_some() {
            self.scratch(1, offset(PAIRS));
            self.mov_imm(2, 1);
            self.push(0xdb, 1, 2, 0, 0); // lock *(u64 *)(r1) += r2
            self.scratch(1, offset(ADDRESSES_OF));
            self.push(0x7a, 1, 0, 0, 0); // *(u64 *)r1 = 0
        }
    }

    /// Looks for the mapping of a page, with [`found`](Self::found).
    pub(crate) fn find_vma(&mut self, page: u8) {
        let address = ARENA + 4096 * u64::from(page);
        self.call(158); // get_current_task_btf
        self.mov(1, 0);
        let (low, high) = (address & 0xffff_ffff, address >> 32);
        self.load_wide(2, 0, i32::try_from(low).unwrap_or(0), i32::try_from(high).unwrap_or(0));
        self.push(0x7b, 10, 2, SOUGHT, 0);
        self.callbacks.push(self.insns.len());
        self.load_wide(3, FUNCTION, 0, 0);
        self.stack(4, SOUGHT.into());
        self.mov_imm(5, 0);
        self.call(180);
    }

    /// The function that `bpf_find_vma()` calls, with the mapping in R2 and the address
    /// behind R3: counts a mapping that does not hold the address. A mapping's first
    /// words are its begin and its end (`struct vm_area_struct`).
    pub(crate) fn found(&mut self) {
        let begin = self.insns.len();
        for at in std::mem::take(&mut self.callbacks) {
            let distance = i32::try_from(begin - at - 1).unwrap_or(0);
            if let Some(insn) = self.insns.get_mut(at) {
                insn.immediate = distance;
            }
        }
        self.push(0x79, 4, 3, 0, 0); // r4 = *(u64 *)r3
        self.push(0x79, 5, 2, 0, 0);
        self.push(0x79, 1, 2, 8, 0);
        let before = self.push(0x2d, 5, 4, 0, 0); // if begin > address
        let inside = self.push(0x2d, 1, 4, 0, 0); // if end > address
        self.land(before);
        self.scratch(1, offset(WRONG_VMA));
        self.mov_imm(2, 1);
        self.push(0xdb, 1, 2, 0, 0); // lock *(u64 *)(r1) += r2
        self.land(inside);
        self.mov_imm(0, 0);
        self.push(0x95, 0, 0, 0, 0);
    }
}
