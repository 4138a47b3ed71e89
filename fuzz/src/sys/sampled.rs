// SPDX-License-Identifier: MIT OR Apache-2.0
//! The code that is sampled: four functions in assembly, so that each frame's
//! legal addresses are known to the byte.
//!
//! `base` calls `outer` calls `middle` calls a leaf; the frame pointer is zero
//! in `base`, so every complete walk has exactly [`DEPTH`] frames: an address
//! in the leaf, then the three return addresses. Compiled code would do, but
//! then the legal addresses would have to be taken from debug information,
//! by a second implementation of what is being tested.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Frames of a complete walk.
pub const DEPTH: usize = 4;

/// What the sampled thread and the one that watches it share.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Work {
    /// Not 0: return.
    stop: AtomicU64,
    /// Not 0: make system calls ([`Leaf::SystemCalls`] only).
    go: AtomicU64,
    /// System calls made.
    calls: AtomicU64,
    /// Ticks from one system call to the next, at least.
    pace: AtomicU64,
    /// 1 while at work.
    busy: AtomicU64,
}

const STOP: usize = std::mem::offset_of!(Work, stop);
const GO: usize = std::mem::offset_of!(Work, go);
const CALLS: usize = std::mem::offset_of!(Work, calls);
const PACE: usize = std::mem::offset_of!(Work, pace);
const BUSY: usize = std::mem::offset_of!(Work, busy);

impl Work {
    /// Work whose system calls are `pace` ticks apart (0: as fast as they go).
    #[must_use]
    pub fn new(pace: u64) -> Self {
        Self { pace: AtomicU64::new(pace), ..Self::default() }
    }

    /// Makes the leaf return.
    pub fn stop(&self) {
        self.stop.store(1, Ordering::Release);
    }

    /// Lets the leaf make system calls, or not.
    pub fn go(&self, go: bool) {
        self.go.store(u64::from(go), Ordering::Release);
    }

    /// Whether the leaf is at work (spinning, or making system calls).
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire) != 0
    }

    /// System calls made so far; exact while not busy.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Acquire)
    }
}

/// The innermost function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    /// Makes raw `getppid` calls while [`Work::go`] is set.
    SystemCalls,
    /// Counts in a register; no system call, no vdso.
    Spin,
}

unsafe extern "C" {
    fn bakeoff_base(work: *const Work, leaf: *const u8);
    static bakeoff_in_base: u8;
    static bakeoff_in_outer: u8;
    static bakeoff_in_middle: u8;
    static bakeoff_system_calls: u8;
    static bakeoff_in_system_calls: u8;
    static bakeoff_spin: u8;
    static bakeoff_spin_from: u8;
    static bakeoff_spin_to: u8;
    static bakeoff_sampled_end: u8;
}

/// Runs the chain of functions in the calling thread until [`Work::stop`].
pub fn run(work: &Work, leaf: Leaf) {
    // SAFETY: the assembly below keeps the C calling convention, touches only
    // its own stack and the words of `work`, and those are atomics.
    unsafe { bakeoff_base(std::ptr::from_ref(work), entry(leaf)) };
}

/// Where a leaf begins.
pub(super) fn entry(leaf: Leaf) -> *const u8 {
    match leaf {
        Leaf::SystemCalls => &raw const bakeoff_system_calls,
        Leaf::Spin => &raw const bakeoff_spin,
    }
}

/// The machine code of all functions here, [`run`]'s first one first. It does
/// not depend on where it lies: a copy does the same at any address.
#[must_use]
pub fn code() -> &'static [u8] {
    let start = bakeoff_base as *const u8;
    let length = (&raw const bakeoff_sampled_end as usize) - start as usize;
    // SAFETY: from the first label of the section below to its last one; code
    // is never written to.
    unsafe { std::slice::from_raw_parts(start, length) }
}

/// Where each frame's address may lie, innermost first.
#[must_use]
pub fn legal(leaf: Leaf) -> [Range<u64>; DEPTH] {
    let one = |label: *const u8| (label as u64)..(label as u64 + 1);
    [
        match leaf {
            // After the system call instruction: nowhere else is it seen.
            Leaf::SystemCalls => one(&raw const bakeoff_in_system_calls),
            Leaf::Spin => {
                (&raw const bakeoff_spin_from as u64)..(&raw const bakeoff_spin_to as u64)
            }
        },
        one(&raw const bakeoff_in_middle),
        one(&raw const bakeoff_in_outer),
        one(&raw const bakeoff_in_base),
    ]
}

/// The counter that [`Work`]'s pace is measured in.
#[cfg(target_arch = "x86_64")]
#[must_use]
pub fn ticks() -> u64 {
    // SAFETY: reads the time stamp counter, which every x86_64 has.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The counter that [`Work`]'s pace is measured in.
#[cfg(target_arch = "aarch64")]
#[must_use]
pub fn ticks() -> u64 {
    let ticks;
    // SAFETY: reads the virtual counter, which Linux leaves open to user space.
    unsafe {
        core::arch::asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack));
    }
    ticks
}

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .text.bakeoff_sampled,\"ax\",@progbits",
    ".balign 64",
    ".globl bakeoff_base, bakeoff_in_base, bakeoff_in_outer, bakeoff_in_middle",
    ".globl bakeoff_system_calls, bakeoff_in_system_calls",
    ".globl bakeoff_spin, bakeoff_spin_from, bakeoff_spin_to",
    ".hidden bakeoff_base, bakeoff_in_base, bakeoff_in_outer, bakeoff_in_middle",
    ".hidden bakeoff_system_calls, bakeoff_in_system_calls",
    ".hidden bakeoff_spin, bakeoff_spin_from, bakeoff_spin_to",
    ".globl bakeoff_sampled_end",
    ".hidden bakeoff_sampled_end",
    // rdi: the work; rsi: the leaf.
    "bakeoff_base:",
    "    push rbp",
    "    push rbx",
    "    push r12",
    "    xor ebp, ebp",
    "    call bakeoff_outer",
    "bakeoff_in_base:",
    "    pop r12",
    "    pop rbx",
    "    pop rbp",
    "    ret",
    "bakeoff_outer:",
    "    push rbp",
    "    mov rbp, rsp",
    "    call bakeoff_middle",
    "bakeoff_in_outer:",
    "    pop rbp",
    "    ret",
    "bakeoff_middle:",
    "    push rbp",
    "    mov rbp, rsp",
    "    call rsi",
    "bakeoff_in_middle:",
    "    pop rbp",
    "    ret",
    "bakeoff_system_calls:",
    "    push rbp",
    "    mov rbp, rsp",
    "2:  mov qword ptr [rdi + {BUSY}], 0",
    "3:  cmp qword ptr [rdi + {STOP}], 0",
    "    jne 6f",
    "    pause",
    "    cmp qword ptr [rdi + {GO}], 0",
    "    je 3b",
    "    mov qword ptr [rdi + {BUSY}], 1",
    "4:  rdtsc",
    "    shl rdx, 32",
    "    or rax, rdx",
    "    mov r12, rax",
    "    mov eax, {GETPPID}",
    "    syscall",
    "bakeoff_in_system_calls:",
    "    inc qword ptr [rdi + {CALLS}]",
    "5:  cmp qword ptr [rdi + {GO}], 0",
    "    je 2b",
    "    cmp qword ptr [rdi + {PACE}], 0",
    "    je 4b",
    "    rdtsc",
    "    shl rdx, 32",
    "    or rax, rdx",
    "    sub rax, r12",
    "    cmp rax, qword ptr [rdi + {PACE}]",
    "    jb 5b",
    "    jmp 4b",
    "6:  pop rbp",
    "    ret",
    "bakeoff_spin:",
    "    push rbp",
    "    mov rbp, rsp",
    "    xor ebx, ebx",
    "    mov qword ptr [rdi + {BUSY}], 1",
    "bakeoff_spin_from:",
    "7:  inc rbx",
    "    cmp qword ptr [rdi + {STOP}], 0",
    "    je 7b",
    "bakeoff_spin_to:",
    "    pop rbp",
    "    ret",
    "bakeoff_sampled_end:",
    ".popsection",
    STOP = const STOP,
    GO = const GO,
    CALLS = const CALLS,
    PACE = const PACE,
    BUSY = const BUSY,
    GETPPID = const libc::SYS_getppid,
);

#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    ".pushsection .text.bakeoff_sampled,\"ax\",@progbits",
    ".balign 64",
    ".globl bakeoff_base, bakeoff_in_base, bakeoff_in_outer, bakeoff_in_middle",
    ".globl bakeoff_system_calls, bakeoff_in_system_calls",
    ".globl bakeoff_spin, bakeoff_spin_from, bakeoff_spin_to",
    ".hidden bakeoff_base, bakeoff_in_base, bakeoff_in_outer, bakeoff_in_middle",
    ".hidden bakeoff_system_calls, bakeoff_in_system_calls",
    ".hidden bakeoff_spin, bakeoff_spin_from, bakeoff_spin_to",
    ".globl bakeoff_sampled_end",
    ".hidden bakeoff_sampled_end",
    // x0: the work; x1: the leaf.
    "bakeoff_base:",
    "    stp x29, x30, [sp, #-16]!",
    "    mov x29, xzr",
    "    bl bakeoff_outer",
    "bakeoff_in_base:",
    "    ldp x29, x30, [sp], #16",
    "    ret",
    "bakeoff_outer:",
    "    stp x29, x30, [sp, #-16]!",
    "    mov x29, sp",
    "    bl bakeoff_middle",
    "bakeoff_in_outer:",
    "    ldp x29, x30, [sp], #16",
    "    ret",
    "bakeoff_middle:",
    "    stp x29, x30, [sp, #-16]!",
    "    mov x29, sp",
    "    blr x1",
    "bakeoff_in_middle:",
    "    ldp x29, x30, [sp], #16",
    "    ret",
    "bakeoff_system_calls:",
    "    stp x29, x30, [sp, #-16]!",
    "    mov x29, sp",
    "    add x14, x0, #{GO}",
    "    add x15, x0, #{BUSY}",
    "    mov x13, x0",
    "2:  stlr xzr, [x15]",
    "3:  ldr x9, [x13, #{STOP}]",
    "    cbnz x9, 6f",
    "    yield",
    "    ldar x9, [x14]",
    "    cbz x9, 3b",
    "    mov x9, #1",
    "    stlr x9, [x15]",
    "4:  mrs x12, cntvct_el0",
    "    mov x8, #{GETPPID}",
    "    svc #0",
    "bakeoff_in_system_calls:",
    "    ldr x9, [x13, #{CALLS}]",
    "    add x9, x9, #1",
    "    str x9, [x13, #{CALLS}]",
    "5:  ldar x9, [x14]",
    "    cbz x9, 2b",
    "    ldr x10, [x13, #{PACE}]",
    "    cbz x10, 4b",
    "    mrs x9, cntvct_el0",
    "    sub x9, x9, x12",
    "    cmp x9, x10",
    "    b.lo 5b",
    "    b 4b",
    "6:  ldp x29, x30, [sp], #16",
    "    ret",
    "bakeoff_spin:",
    "    stp x29, x30, [sp, #-16]!",
    "    mov x29, sp",
    "    mov x9, #1",
    "    str x9, [x0, #{BUSY}]",
    "bakeoff_spin_from:",
    "7:  add x9, x9, #1",
    "    ldr x10, [x0, #{STOP}]",
    "    cbz x10, 7b",
    "bakeoff_spin_to:",
    "    ldp x29, x30, [sp], #16",
    "    ret",
    "bakeoff_sampled_end:",
    ".popsection",
    STOP = const STOP,
    GO = const GO,
    CALLS = const CALLS,
    PACE = const PACE,
    BUSY = const BUSY,
    GETPPID = const libc::SYS_getppid,
);

#[cfg(test)]
mod tests {
    use super::*;

    /// The leaf works only while told to, counts every call, and returns.
    #[test]
    fn system_calls_are_counted_exactly() {
        let work = Work::new(0);
        std::thread::scope(|scope| {
            let sampled = scope.spawn(|| run(&work, Leaf::SystemCalls));
            work.go(true);
            while work.calls() < 10 {
                std::hint::spin_loop();
            }
            work.go(false);
            while work.is_busy() {
                std::hint::spin_loop();
            }
            let calls = work.calls();
            std::thread::sleep(std::time::Duration::from_millis(5));
            assert_eq!(work.calls(), calls);
            work.stop();
            assert!(sampled.join().is_ok());
        });
    }

    /// The spinning leaf says that it spins, and returns.
    #[test]
    fn spin_ends_when_told() {
        let work = Work::new(0);
        std::thread::scope(|scope| {
            let sampled = scope.spawn(|| run(&work, Leaf::Spin));
            while !work.is_busy() {
                std::hint::spin_loop();
            }
            work.stop();
            assert!(sampled.join().is_ok());
        });
    }

    /// All of it lies between the first label and the last one, and fits a page.
    #[test]
    fn the_code_is_in_one_piece() {
        let code = code().as_ptr_range();
        assert!(code.end as usize - (code.start as usize) < 4096);
        for range in [Leaf::SystemCalls, Leaf::Spin].map(legal).as_flattened() {
            assert!(range.start >= code.start as u64 && range.end <= code.end as u64);
        }
    }

    /// Four frames, each with a legal place of its own.
    #[test]
    fn frames_do_not_overlap() {
        for leaf in [Leaf::SystemCalls, Leaf::Spin] {
            let mut legal = legal(leaf);
            legal.sort_by_key(|range| range.start);
            assert!(legal.iter().all(|range| !range.is_empty()));
            assert!(legal.windows(2).all(|pair| pair[0].end <= pair[1].start));
        }
    }
}
