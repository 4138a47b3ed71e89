// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes events fire with a forged user stack: the frame pointer is set to a
//! chain whose return addresses are anything we like, then comes one system
//! call, one access to memory, or some turns of a loop. Whoever walks the stack
//! then finds exactly those addresses.
//!
//! An access that faults is skipped by the signal handler, which knows the two
//! instructions that may.

use std::cell::UnsafeCell;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use super::call::{Answer, counted};

/// Frames of a forged stack at most.
pub const FRAMES: usize = 8;

/// A forged stack.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct Stack {
    /// Next frame pointer and return address, as both architectures have it.
    frames: UnsafeCell<[[u64; 2]; FRAMES]>,
}

impl Stack {
    /// A stack of these return addresses, innermost first.
    #[must_use]
    pub fn new(addresses: &[u64]) -> Box<Self> {
        let stack = Box::new(Self { frames: UnsafeCell::new([[0; 2]; FRAMES]) });
        let count = addresses.len().min(FRAMES);
        let base = stack.frames.get() as u64;
        // SAFETY: nobody else knows the new box yet.
        let frames = unsafe { &mut *stack.frames.get() };
        for (index, (frame, address)) in frames.iter_mut().zip(addresses).enumerate() {
            let next = if index + 1 < count { base + 16 * (index as u64 + 1) } else { 0 };
            *frame = [next, *address];
        }
        stack
    }

    fn pointer(&self) -> *const u8 {
        self.frames.get().cast_const().cast()
    }

    /// One system call without memory.
    pub fn getppid(&self) -> Answer<i64> {
        self.call(libc::SYS_getppid, 0, 0)
    }

    /// Unlocks a file that is not locked: looks at its locks.
    pub fn file_lock(&self, file: BorrowedFd<'_>) -> Answer<i64> {
        let file = u64::try_from(file.as_raw_fd()).unwrap_or(u64::MAX);
        self.call(libc::SYS_flock, file, libc::LOCK_UN.unsigned_abs().into())
    }

    /// A harmless signal to this process.
    pub fn signal(&self) -> Answer<i64> {
        let signal = libc::SIGURG.unsigned_abs().into();
        self.call(libc::SYS_kill, std::process::id().into(), signal)
    }

    /// Lets others run.
    pub fn sched_yield(&self) -> Answer<i64> {
        self.call(libc::SYS_sched_yield, 0, 0)
    }

    /// Sleeps for a moment.
    pub fn sleep(&self) -> Answer<i64> {
        let time = libc::timespec { tv_sec: 0, tv_nsec: 20_000 };
        self.call(libc::SYS_nanosleep, (&raw const time) as u64, 0)
    }

    fn call(&self, number: libc::c_long, first: u64, second: u64) -> Answer<i64> {
        counted();
        // SAFETY: the calls above read no other memory than `time`, which
        // outlives the call; the assembly restores the frame pointer.
        let answer = unsafe { bakeoff_fz_syscall(self.pointer(), number, first, second) };
        if (-4095..0).contains(&answer) {
            Err(i32::try_from(-answer).unwrap_or(0))
        } else {
            Ok(answer)
        }
    }

    /// Reads a byte at any address; a fault is skipped.
    pub fn load(&self, address: u64) {
        // SAFETY: the value is dropped; a fault ends in `recover`.
        unsafe { bakeoff_fz_load(self.pointer(), address) };
    }

    /// Writes 0 to a byte of the arena; a fault is skipped.
    pub fn store(&self, part: super::call::Part) {
        // SAFETY: no Rust object lies in the arena; a fault ends in `recover`.
        unsafe { bakeoff_fz_store(self.pointer(), part.address()) };
    }

    /// Some turns of an empty loop.
    pub fn spin(&self, turns: u64) {
        // SAFETY: touches registers only.
        unsafe { bakeoff_fz_spin(self.pointer(), turns.max(1)) };
    }
}

unsafe extern "C" {
    fn bakeoff_fz_syscall(frame: *const u8, number: i64, first: u64, second: u64) -> i64;
    fn bakeoff_fz_load(frame: *const u8, address: u64);
    fn bakeoff_fz_store(frame: *const u8, address: u64);
    fn bakeoff_fz_spin(frame: *const u8, turns: u64);
    static bakeoff_fz_spin_at: u8;
    static bakeoff_fz_load_at: u8;
    static bakeoff_fz_load_done: u8;
    static bakeoff_fz_store_at: u8;
    static bakeoff_fz_store_done: u8;
}

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".globl bakeoff_fz_syscall, bakeoff_fz_load, bakeoff_fz_store, bakeoff_fz_spin",
    ".globl bakeoff_fz_spin_at",
    ".globl bakeoff_fz_load_at, bakeoff_fz_load_done, bakeoff_fz_store_at, bakeoff_fz_store_done",
    "bakeoff_fz_syscall:",
    "push rbp",
    "mov rbp, rdi",
    "mov rax, rsi",
    "mov rdi, rdx",
    "mov rsi, rcx",
    "syscall",
    "pop rbp",
    "ret",
    "bakeoff_fz_load:",
    "push rbp",
    "mov rbp, rdi",
    "bakeoff_fz_load_at:",
    "mov al, byte ptr [rsi]",
    "bakeoff_fz_load_done:",
    "pop rbp",
    "ret",
    "bakeoff_fz_store:",
    "push rbp",
    "mov rbp, rdi",
    "bakeoff_fz_store_at:",
    "mov byte ptr [rsi], 0",
    "bakeoff_fz_store_done:",
    "pop rbp",
    "ret",
    "bakeoff_fz_spin:",
    "push rbp",
    "mov rbp, rdi",
    "bakeoff_fz_spin_at:",
    "nop",
    "2:",
    "dec rsi",
    "jnz 2b",
    "pop rbp",
    "ret",
);

#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    ".globl bakeoff_fz_syscall, bakeoff_fz_load, bakeoff_fz_store, bakeoff_fz_spin",
    ".globl bakeoff_fz_spin_at",
    ".globl bakeoff_fz_load_at, bakeoff_fz_load_done, bakeoff_fz_store_at, bakeoff_fz_store_done",
    "bakeoff_fz_syscall:",
    "stp x29, x30, [sp, #-16]!",
    "mov x29, x0",
    "mov x8, x1",
    "mov x0, x2",
    "mov x1, x3",
    "svc #0",
    "ldp x29, x30, [sp], #16",
    "ret",
    "bakeoff_fz_load:",
    "stp x29, x30, [sp, #-16]!",
    "mov x29, x0",
    "bakeoff_fz_load_at:",
    "ldrb w2, [x1]",
    "bakeoff_fz_load_done:",
    "ldp x29, x30, [sp], #16",
    "ret",
    "bakeoff_fz_store:",
    "stp x29, x30, [sp, #-16]!",
    "mov x29, x0",
    "bakeoff_fz_store_at:",
    "strb wzr, [x1]",
    "bakeoff_fz_store_done:",
    "ldp x29, x30, [sp], #16",
    "ret",
    "bakeoff_fz_spin:",
    "stp x29, x30, [sp, #-16]!",
    "mov x29, x0",
    "bakeoff_fz_spin_at:",
    "nop",
    "2:",
    "subs x1, x1, #1",
    "b.ne 2b",
    "ldp x29, x30, [sp], #16",
    "ret",
);

/// Where [`Stack::spin`] comes by once, with the forged stack in place.
#[must_use]
pub fn spin_address() -> u64 {
    (&raw const bakeoff_fz_spin_at) as u64
}

/// The program counter of an interrupted thread.
fn program_counter(context: &mut libc::ucontext_t) -> &mut u64 {
    #[cfg(target_arch = "x86_64")]
    {
        let word = &mut context.uc_mcontext.gregs[libc::REG_RIP as usize];
        // SAFETY: the same eight bytes, seen as an address.
        unsafe { &mut *std::ptr::from_mut(word).cast::<u64>() }
    }
    #[cfg(target_arch = "aarch64")]
    {
        &mut context.uc_mcontext.pc
    }
}

extern "C" fn recover(signal: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid context, and nobody else has it.
    let at = program_counter(unsafe { &mut *context.cast::<libc::ucontext_t>() });
    let pairs = [
        (&raw const bakeoff_fz_load_at, &raw const bakeoff_fz_load_done),
        (&raw const bakeoff_fz_store_at, &raw const bakeoff_fz_store_done),
    ];
    for (may_fault, done) in pairs {
        if *at == may_fault as u64 {
            *at = done as u64;
            return;
        }
    }
    // A fault of our own: die of it, at the same instruction.
    // SAFETY: restores the default action of a signal.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Signals that a program may get; see [`catch`].
const CATCHES: u32 = 128;
static CAUGHT: AtomicU32 = AtomicU32::new(0);

/// Adds what a program may get besides a fault.
fn add_caught(set: &mut libc::sigset_t) {
    for signal in HARMLESS.into_iter().chain([libc::SIGTRAP, libc::SIGIO]) {
        // SAFETY: a valid set of which the signal's bit is written, in the first word.
        unsafe { libc::sigaddset(set, signal) };
    }
}

/// Ignores a signal, up to a point: an event with `sigtrap`, or a BPF program that
/// sends signals, may sample system calls, and so the one the handler returns with,
/// for ever. So after some signals the thread goes on with them blocked.
extern "C" fn catch(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    if CAUGHT.fetch_add(1, Ordering::Relaxed) >= CATCHES {
        // SAFETY: the kernel passes a valid context, and nobody else has it.
        let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
        // The kernel's set is one word, libc's are sixteen: no assignment.
        add_caught(&mut context.uc_sigmask);
    }
}

/// Ends what a storm of signals left behind: the next program may get some again.
/// True if there was one.
pub fn allow_signals() -> bool {
    let stormy = CAUGHT.swap(0, Ordering::Relaxed) > CATCHES;
    if stormy {
        // SAFETY: all zeroes is a valid, empty set.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        add_caught(&mut set);
        // SAFETY: the set is valid for reads; no old one is asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) };
    }
    stormy
}

/// Signals a program may send itself.
pub const HARMLESS: [i32; 3] = [libc::SIGUSR1, libc::SIGUSR2, libc::SIGURG];

/// What an access that faults is answered with.
const FAULTS: [i32; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// Has faults of the two accesses skipped, and harmless signals caught by a
/// handler (a signal that is delivered runs more of the kernel than one that is
/// dropped).
pub fn catch_signals() -> std::io::Result<()> {
    type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);
    let set = |signal: i32, handler: Handler, blocked: &[i32]| {
        // SAFETY: all zeroes is a valid, empty action.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        for signal in blocked {
            // SAFETY: a valid set, of which the signal's bit is written.
            unsafe { libc::sigaddset(&raw mut action.sa_mask, *signal) };
        }
        // SAFETY: the handlers touch nothing but the context they are given.
        super::check(libc::c_long::from(unsafe {
            libc::sigaction(signal, &raw const action, std::ptr::null_mut())
        }))
        .map(drop)
    };
    for signal in FAULTS {
        set(signal, recover, &[])?;
    }
    // An event with `sigtrap` may count the very fault: both signals are there then, and the
    // event's is delivered first. Its handler has to be done before the fault's is called, which
    // would find itself called at the beginning of that one and not at the access.
    for signal in HARMLESS.into_iter().chain([libc::SIGTRAP, libc::SIGIO]) {
        set(signal, catch, &FAULTS)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stack helpers come back with what they promise, and accesses to
    /// nowhere are skipped.
    #[test]
    fn triggers_return() {
        catch_signals().unwrap();
        let stack = Stack::new(&[1, 2, 3]);
        assert_eq!(stack.getppid(), Ok(i64::from(std::os::unix::process::parent_id())));
        stack.load(0);
        stack.load(0xffff_8000_0000_0000);
        stack.store(super::super::call::Part::new(3, 1));
        stack.spin(1000);
        assert_eq!(stack.sleep(), Ok(0));
    }

    /// A fault waits until the handler of another signal is done: its own has to see the access.
    #[test]
    fn a_fault_is_not_delivered_into_another_handler() {
        catch_signals().unwrap();
        for signal in HARMLESS.into_iter().chain([libc::SIGTRAP, libc::SIGIO]) {
            // SAFETY: all zeroes is a valid action, which is valid for writes.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            // SAFETY: as above; no action is set.
            let answer = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
            // SAFETY: the set is valid for reads.
            let waits = |fault| unsafe { libc::sigismember(&raw const action.sa_mask, fault) } == 1;
            assert_eq!((answer, FAULTS.map(waits)), (0, [true; 2]), "{signal}");
        }
    }

    /// Signals without end end, and the next program gets some again.
    #[test]
    fn a_storm_of_signals_is_sat_out() {
        catch_signals().unwrap();
        let raise = |signal| {
            let before = CAUGHT.load(Ordering::Relaxed);
            // SAFETY: a signal to this thread, whose handler touches only its context.
            unsafe { libc::raise(signal) };
            CAUGHT.load(Ordering::Relaxed) - before
        };
        assert_eq!((0..1000).map(|_| raise(libc::SIGTRAP)).sum::<u32>(), CATCHES + 1);
        assert_eq!(raise(libc::SIGUSR1), 0);
        assert!(allow_signals());
        // Those that were pending, and a new one.
        assert_eq!((CAUGHT.load(Ordering::Relaxed), raise(libc::SIGTRAP)), (2, 1));
        assert!(!allow_signals());
    }

    /// The chain ends where the addresses end.
    #[test]
    fn frames_are_chained() {
        let stack = Stack::new(&[7, 8]);
        // SAFETY: nobody else has the stack.
        let frames = unsafe { &*stack.frames.get() };
        let base = stack.pointer() as u64;
        assert_eq!(frames[0], [base + 16, 7]);
        assert_eq!(frames[1], [0, 8]);
        assert_eq!(Stack::new(&[0; 20]).pointer() as u64 % 16, 0);
    }
}
