// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which locks are held while a BPF program runs.
//!
//! Two locks matter: the CPU's run-queue lock, which proves the context, and the
//! process's `mmap_lock`, which explains a fallback. No helper tells either, and
//! where they lie depends on version and configuration. As with the preempt
//! count ([`crate::interrupt`]) nothing is assumed: a place is believed only if
//! it behaves like the lock in situations whose answers are known.
//!
//! | lock | where | proof |
//! |---|---|---|
//! | `rq->__lock` | per-CPU `runqueues`, first word | free in a system call, taken at every `sched_switch` |
//! | `mmap_lock` | in `mm_struct` | free in a system call; where a mapping of ours is given its place (`vm_unmapped_area`), held by a writer, and the next word is that writer's `task_struct` |
//!
//! The `mm_struct` itself is found through the current `task_struct`: `mm` and
//! `active_mm` lie side by side and are equal, and behind them lie the addresses
//! that `/proc/self/stat` shows.

use std::collections::BTreeMap;

use crate::bpf::insn::{Alu, Assembler, Cond, Helper, Insn, Reg, Width};
use crate::failure::Failure;
use crate::interrupt::{Place, Reader, UNREADABLE};
use crate::sys;
use crate::sys::bpf::{InSystemCalls, Program, ProgramKind, SharedArray};
use crate::sys::memory::Page;

/// The symbol that [`run_queue`] looks for.
pub const SYMBOLS: &[&str] = &["runqueues"];

/// `RWSEM_WRITER_LOCKED`, `RWSEM_FLAG_WAITERS`, `RWSEM_FLAG_HANDOFF`: with any of
/// them in the count, a trylock for reading fails.
pub const RWSEM_KEEPS_READERS_OUT: u64 = 7;
/// The first of them.
const RWSEM_WRITER_LOCKED: u64 = 1;

/// Whether a spinlock's word says that it is taken (queued and plain spinlocks:
/// the lowest byte).
#[must_use]
pub fn spinlock_is_taken(word: u64) -> bool {
    word != UNREADABLE && word & 0xff != 0
}

/// Control words of the programs here; what was read follows.
const THREAD: usize = 0;
const ADDRESS: usize = 8;
const SEEN: usize = 16;
const TASK: usize = 24;
const READ: usize = 32;
/// Bytes read at once.
const CHUNK: usize = 1024;

/// Reads kernel memory, as it is at a tracepoint of the calling thread.
struct Peek {
    control: SharedArray,
    program: Program,
}

impl Peek {
    fn new() -> Result<Self, Failure> {
        let size = u32::try_from(READ + CHUNK).map_err(Failure::new)?;
        let control = SharedArray::new(size, 1).map_err(|e| Failure::at("making a BPF map", &e))?;
        control.memory().store(THREAD, u64::from(sys::thread_id()));
        let insns = peek(control.number())?;
        let program = Program::load(ProgramKind::RawTracepoint, &insns)
            .map_err(|e| Failure::at("loading the program that reads kernel memory", &e))?;
        Ok(Self { control, program })
    }

    /// The words from an address on, as far as they can be read and the program
    /// comes by. Address 0: the thread's own `task_struct`.
    fn words(
        &self,
        address: u64,
        bytes: usize,
        mut provoke: impl FnMut() -> Result<(), Failure>,
    ) -> Result<Vec<u64>, Failure> {
        let memory = self.control.memory();
        let mut words = Vec::new();
        for offset in (0..bytes).step_by(CHUNK) {
            memory.store(ADDRESS, address + offset as u64);
            memory.store(SEEN, 0);
            provoke()?;
            if memory.load(SEEN) != 1 {
                break;
            }
            words.extend((0..CHUNK / 8).map(|index| memory.load(READ + index * 8)));
        }
        Ok(words)
    }

    /// Bytes from an address on, in system calls.
    fn in_system_calls(
        &self,
        calls: &mut InSystemCalls<'_>,
        address: u64,
        bytes: usize,
    ) -> Result<Vec<u64>, Failure> {
        self.words(address, bytes, || {
            calls.run().map_err(|e| Failure::at("running a BPF program", &e))
        })
    }

    /// The same while the thread is at `tracepoint`.
    fn at(
        &self,
        tracepoint: &str,
        provoke: impl Fn(),
        address: u64,
        bytes: usize,
    ) -> Result<Vec<u64>, Failure> {
        let link = self.program.attach_raw_tracepoint(tracepoint).map_err(|e| {
            Failure::at(format!("attaching to the raw tracepoint {tracepoint}"), &e)
        })?;
        let words = self.words(address, bytes, || {
            provoke();
            Ok(())
        });
        drop(link);
        words
    }

    fn task(&self) -> u64 {
        self.control.memory().load(TASK)
    }
}

/// Above every offset, below every kernel address.
const LARGEST_OFFSET: i32 = 1 << 20;

/// A program that copies a chunk once. A small address is an offset in the
/// current `task_struct`.
fn peek(control: i32) -> Result<Vec<Insn>, Failure> {
    let mut asm = Assembler::new();
    let read = i32::try_from(READ).map_err(Failure::new)?;
    let chunk = i32::try_from(CHUNK).map_err(Failure::new)?;
    asm.load_map_value(Reg::R7, control)
        .load(Width::Double, Reg::R1, Reg::R7, SEEN as i16)
        .jump_if(Cond::NotEqual, Reg::R1, 0, "out")
        .call(Helper::GetCurrentPidTgid)
        .truncate(Reg::R0)
        .load(Width::Double, Reg::R1, Reg::R7, THREAD as i16)
        .jump_if(Cond::NotEqual, Reg::R0, Reg::R1, "out")
        .call(Helper::GetCurrentTask)
        .store(Width::Double, Reg::R7, TASK as i16, Reg::R0)
        .load(Width::Double, Reg::R3, Reg::R7, ADDRESS as i16)
        .jump_if(Cond::AtLeast, Reg::R3, LARGEST_OFFSET, "absolute")
        .alu(Alu::Add, Reg::R3, Reg::R0)
        .label("absolute")
        .address(Reg::R1, Reg::R7, read)
        .mov(Reg::R2, chunk)
        .call(Helper::ProbeReadKernel)
        .mov(Reg::R1, 1)
        .jump_if(Cond::Equal, Reg::R0, 0, "read")
        .mov(Reg::R1, 2)
        .label("read")
        .store(Width::Double, Reg::R7, SEEN as i16, Reg::R1)
        .label("out")
        .exit();
    asm.finish().map_err(Failure::new)
}

/// Where kernel addresses begin, on both architectures.
const KERNEL_FROM: u64 = 0xffff_0000_0000_0000;
/// As far into a `task_struct` as `mm` may lie.
const TASK_BYTES: usize = 8 << 10;
/// As far into an `mm_struct` as is looked.
const MM_BYTES: usize = 2 << 10;

/// The address and the words of this process's `mm_struct`.
fn mm_struct(peek: &Peek) -> Result<(u64, Vec<u64>), Failure> {
    let mut calls = peek.program.in_system_calls();
    let task = peek.in_system_calls(&mut calls, 0, TASK_BYTES)?;
    let stat = std::fs::read_to_string("/proc/self/stat")
        .map_err(|e| Failure::at("reading /proc/self/stat", &e))?;
    let layout = addresses(&stat)
        .ok_or_else(|| Failure::new("/proc/self/stat does not show the process's addresses"))?;
    for mm in twins(&task, peek.task()) {
        let words = peek.in_system_calls(&mut calls, mm, MM_BYTES)?;
        if words.windows(layout.len()).any(|window| window == layout) {
            return Ok((mm, words));
        }
    }
    Err(Failure::new("no mm_struct was found in task_struct"))
}

/// Where `mmap_lock`'s count lies in every `mm_struct`; in words, why nobody knows.
pub fn mmap_lock_in_mm() -> Result<u64, Failure> {
    let peek = Peek::new()?;
    let (mm, free) = mm_struct(&peek)?;
    // A mapping made under our eyes, and let go again.
    let map = || drop(Page::new());
    let held = peek.at("vm_unmapped_area", map, mm, MM_BYTES)?;
    match write_locked(&free, &held, peek.task()).as_slice() {
        [index] => Ok(8 * *index as u64),
        found => {
            Err(Failure::new(format!("{} places in mm_struct behave like mmap_lock", found.len())))
        }
    }
}

/// The address of this process's `mmap_lock`'s count, from where it lies in an
/// `mm_struct`.
pub fn mmap_lock(in_mm: u64) -> Result<u64, Failure> {
    mm_struct(&Peek::new()?).map(|(mm, _)| mm + in_mm)
}

/// Start and end of code and data, and the heap's start, as `mm_struct` has them
/// in a row: fields 26, 27, 45, 46 and 47 of `/proc/<pid>/stat`.
fn addresses(stat: &str) -> Option<[u64; 5]> {
    // The second field may hold anything, even spaces and brackets.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse().ok();
    let addresses = [field(26)?, field(27)?, field(45)?, field(46)?, field(47)?];
    // Hidden ones are shown as 0 or 1.
    addresses.iter().all(|address| *address > 1).then_some(addresses)
}

/// Kernel addresses that stand twice side by side in a `task_struct` and do not
/// point into it (as an empty list's do).
fn twins(task: &[u64], at: u64) -> Vec<u64> {
    let own = at..at.saturating_add(task.len() as u64 * 8);
    let mut found = Vec::new();
    for pair in task.windows(2) {
        let [first, second] = pair else { continue };
        let kernel = *first >= KERNEL_FROM;
        let aligned = first.is_multiple_of(8);
        if first == second && kernel && aligned && !own.contains(first) && !found.contains(first) {
            found.push(*first);
        }
    }
    found
}

/// Words that nobody has in `free` and a writer, this task, has in `held`.
fn write_locked(free: &[u64], held: &[u64], task: u64) -> Vec<usize> {
    let is = |index: &usize| {
        free.get(*index).is_some_and(|count| count & RWSEM_KEEPS_READERS_OUT == 0)
            && held.get(*index) == Some(&RWSEM_WRITER_LOCKED)
            && held.get(index + 1) == Some(&task)
            && free.get(index + 1) != Some(&task)
    };
    (0..held.len()).filter(is).collect()
}

/// Where this CPU's run-queue lock lies. The calling thread has to be pinned.
pub fn run_queue(symbols: &BTreeMap<String, u64>) -> Result<Place, Failure> {
    let place = symbols.get("runqueues").copied().map(Place::PerCpu).ok_or_else(|| {
        Failure::new(
            "the run-queue lock cannot be located: /proc/kallsyms has no runqueues (build with \
             CONFIG_KALLSYMS_ALL)",
        )
    })?;
    let reader = Reader::new(symbols);
    let wait = || std::thread::sleep(std::time::Duration::from_micros(100));
    let mut free = false;
    for _ in 0..50 {
        // Another CPU may hold our run queue's lock for a moment.
        free |= lock_word(reader, place, |program| program.in_system_calls().run())?
            .is_some_and(|word| word != UNREADABLE && !spinlock_is_taken(word));
        let switching = lock_word(reader, place, |program| {
            let link = program.attach_raw_tracepoint("sched_switch")?;
            wait();
            drop(link);
            Ok(())
        })?;
        if switching.is_some_and(|word| !spinlock_is_taken(word)) {
            return Err(Failure::new(
                "the run-queue lock cannot be located: the first word of runqueues is no taken \
                 lock in a context switch",
            ));
        }
        if free && switching.is_some() {
            return Ok(place);
        }
    }
    Err(Failure::new(
        "the run-queue lock cannot be located: the first word of runqueues never is a free lock \
         in a system call",
    ))
}

/// The 32 bits at `place` when the calling thread has the program run.
fn lock_word(
    reader: Reader,
    place: Place,
    provoke: impl Fn(&Program) -> std::io::Result<()>,
) -> Result<Option<u64>, Failure> {
    let control = SharedArray::new(64, 1).map_err(|e| Failure::at("making a BPF map", &e))?;
    control.memory().store(THREAD, u64::from(sys::thread_id()));
    let mut asm = Assembler::new();
    asm.load_map_value(Reg::R7, control.number())
        .load(Width::Double, Reg::R1, Reg::R7, SEEN as i16)
        .jump_if(Cond::NotEqual, Reg::R1, 0, "out")
        .call(Helper::GetCurrentPidTgid)
        .truncate(Reg::R0)
        .load(Width::Double, Reg::R1, Reg::R7, THREAD as i16)
        .jump_if(Cond::NotEqual, Reg::R0, Reg::R1, "out");
    reader.emit_base(&mut asm);
    reader.emit_read(&mut asm, place, "word");
    asm.store(Width::Double, Reg::R7, READ as i16, Reg::R1)
        .store(Width::Double, Reg::R7, SEEN as i16, 1)
        .label("out")
        .exit();
    let program = Program::load(ProgramKind::RawTracepoint, &asm.finish().map_err(Failure::new)?)
        .map_err(|e| Failure::at("loading the program that reads a lock", &e))?;
    provoke(&program).map_err(|e| Failure::at("running the program that reads a lock", &e))?;
    Ok((control.memory().load(SEEN) != 0).then(|| control.memory().load(READ)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The command's name may hold brackets and spaces; hidden addresses are none.
    #[test]
    fn addresses_are_read_from_stat() {
        let fields: Vec<String> = (4..=52).map(|number| number.to_string()).collect();
        let stat = format!("7 (a ) b) R {}", fields.join(" "));
        assert_eq!(addresses(&stat), Some([26, 27, 45, 46, 47]));
        assert_eq!(addresses("7 (a) R 1 2"), None);
        assert_eq!(addresses(""), None);
        let own = std::fs::read_to_string("/proc/self/stat").unwrap();
        assert!(addresses(&own).is_some_and(|found| found[0] < found[1]));
    }

    /// Lists that are empty point at themselves; parents and credentials are twins
    /// as well, and are sorted out later.
    #[test]
    fn twins_point_elsewhere() {
        let at = 0xffff_8880_0100_0000;
        let mm = 0xffff_8880_0200_0040;
        let task = [1, 1, at + 24, at + 24, mm, mm, mm, 0x7fff_0000, 0x7fff_0000, mm + 4, mm + 4];
        assert_eq!(twins(&task, at), [mm]);
    }

    /// A lock is what was free and is now held by a writer who is us.
    #[test]
    fn the_lock_behaves_like_one() {
        let task = 0xffff_8880_0100_0000;
        let free = [1, 0, 0, 0x100, task + 1, 0, task];
        let held = [1, 0, 1, task, 1, task, 1];
        // 0: no owner behind it; 2: right; 4: its owner is no task of ours before.
        assert_eq!(write_locked(&free, &held, task), [2]);
        assert_eq!(write_locked(&free, &[], task), [0_usize; 0]);
        assert_eq!(write_locked(&[0, 0], &[1, task], task), [0]);
        assert_eq!(write_locked(&[1, 0], &[1, task], task), [0_usize; 0]);
    }

    /// A byte of the word is the lock; the rest is the queue.
    #[test]
    fn spinlocks() {
        assert!(spinlock_is_taken(1));
        assert!(spinlock_is_taken(0x0004_0101));
        assert!(!spinlock_is_taken(0));
        assert!(!spinlock_is_taken(0x0004_0000));
        assert!(!spinlock_is_taken(UNREADABLE));
    }

    /// The program assembles.
    #[test]
    fn the_peeking_program_assembles() {
        assert!(peek(3).unwrap().len() > 10);
    }
}
