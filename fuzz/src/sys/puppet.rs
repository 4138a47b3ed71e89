// SPDX-License-Identifier: MIT OR Apache-2.0
//! A process that does what it is told: what events of another task are opened on, what
//! forks, executes and exits while they count.
//!
//! A puppet is this very program with [`WORD`] as its argument. It reads two words from
//! its standard input, does what they say, and answers one word. What it is told to do is
//! made of system calls and page faults whose number is known.

use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::call::{Attributes, perf_event_open_with};

/// The argument of a process that is a puppet.
pub const WORD: &str = "--puppet";
/// Where the fuzzer's program lies.
const SELF: &std::ffi::CStr = c"/proc/self/exe";

/// What a puppet can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// So many system calls.
    Calls(u32),
    /// So many first writes to fresh pages.
    Faults(u32),
    /// A child that stays.
    Fork,
    /// The youngest child ends.
    Kill,
    /// A child that makes so many calls and faults, and ends.
    Errand(u32),
    /// A thread that makes so many calls, and ends.
    Thread(u32),
    /// To become this program anew.
    Exec,
    /// To open an event on itself: see [`own_event`].
    Open(u32),
    /// A child that cannot be made: it fails late, when its events are there already.
    FailFork(u32),
    /// To sleep for a moment, so often.
    Sleep(u32),
}

impl Task {
    /// A word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Calls(_) => "calls",
            Self::Faults(_) => "faults",
            Self::Fork => "fork",
            Self::Kill => "kill a child",
            Self::Errand(_) => "a child's errand",
            Self::Thread(_) => "thread",
            Self::Exec => "exec",
            Self::Open(_) => "own event",
            Self::FailFork(_) => "fork in vain",
            Self::Sleep(_) => "sleep",
        }
    }

    fn words(self) -> [u32; 2] {
        match self {
            Self::Calls(n) => [1, n],
            Self::Faults(n) => [2, n],
            Self::Fork => [3, 0],
            Self::Kill => [4, 0],
            Self::Errand(n) => [5, n],
            Self::Thread(n) => [6, n],
            Self::Exec => [7, 0],
            Self::Open(n) => [8, n],
            Self::FailFork(n) => [9, n],
            Self::Sleep(n) => [10, n],
        }
    }
}

/// A puppet and its strings.
#[derive(Debug)]
pub struct Puppet {
    child: Child,
    tell: ChildStdin,
    told: ChildStdout,
}

impl Puppet {
    /// Starts one and waits until it listens.
    pub fn start() -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg(WORD)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let tell = child.stdin.take().ok_or_else(gone)?;
        let told = child.stdout.take().ok_or_else(gone)?;
        let mut puppet = Self { child, tell, told };
        puppet.answer()?;
        Ok(puppet)
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Tells it to do something, and waits for its answer.
    pub fn tell(&mut self, task: Task) -> io::Result<u32> {
        let [what, n] = task.words();
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&what.to_ne_bytes());
        bytes[4..].copy_from_slice(&n.to_ne_bytes());
        self.tell.write_all(&bytes)?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.told.read_exact(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    /// Has it end, and waits for that: in order, or killed.
    pub fn end(self, kill: bool) {
        let Self { mut child, tell, told } = self;
        if kill {
            let _ = child.kill();
        }
        drop(tell);
        drop(told);
        let _ = child.wait();
    }
}

/// A puppet's life.
pub fn live() -> ! {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    // SAFETY: no memory is passed.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let _ = super::trigger::catch_signals();
    let mut children = Vec::new();
    let mut last = 0_u32;
    loop {
        if output.write_all(&last.to_ne_bytes()).and_then(|()| output.flush()).is_err() {
            break;
        }
        let mut bytes = [0; 8];
        if input.read_exact(&mut bytes).is_err() {
            break;
        }
        let word = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&bytes[at..at + 4]);
            u32::from_ne_bytes(word)
        };
        last = obey(word(0), word(4), &mut children);
    }
    for child in children {
        end_child(child);
    }
    super::child::end(0)
}

fn end_child(child: i32) {
    // SAFETY: no memory is passed but a null status; the child is ours and not waited for.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
}

fn calls(n: u32) {
    for _ in 0..n {
        super::getppid();
    }
}

fn faults(n: u32) {
    let length = n.clamp(1, 4096) as usize * 4096;
    // SAFETY: the kernel picks the address; what is written to is what was just mapped.
    unsafe {
        let at = libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if at == libc::MAP_FAILED {
            return;
        }
        for page in (0..length).step_by(4096) {
            at.cast::<u8>().add(page).write_volatile(1);
        }
        libc::munmap(at, length);
    }
}

fn obey(what: u32, n: u32, children: &mut Vec<i32>) -> u32 {
    match what {
        1 => calls(n),
        2 => faults(n),
        3 => {
            // SAFETY: the puppet has one thread; the child makes system calls only.
            let child = unsafe { libc::fork() };
            if child == 0 {
                loop {
                    // SAFETY: no memory is passed.
                    unsafe {
                        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                        libc::pause()
                    };
                }
            }
            if child < 0 {
                return 1;
            }
            children.push(child);
        }
        4 => {
            if let Some(child) = children.pop() {
                end_child(child);
            }
        }
        5 => {
            // SAFETY: as above.
            let child = unsafe { libc::fork() };
            if child == 0 {
                calls(n);
                faults(n);
                super::child::end(0);
            }
            if child < 0 {
                return 1;
            }
            // SAFETY: no status is asked for.
            unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        }
        6 => {
            if let Ok(thread) = std::thread::Builder::new().spawn(move || calls(n)) {
                let _ = thread.join();
            }
        }
        7 => {
            let arguments = [SELF.as_ptr(), c"--puppet".as_ptr(), std::ptr::null()];
            let environment = [std::ptr::null()];
            // SAFETY: lists that end with null, of strings that end with zero.
            unsafe { libc::execve(SELF.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
            return 1;
        }
        8 => return own_event(n),
        9 => {
            for turn in 0..n {
                fork_in_vain(turn % 2 == 0);
            }
        }
        10 => {
            for _ in 0..n {
                std::thread::sleep(std::time::Duration::from_micros(50));
            }
        }
        _ => return 2,
    }
    0
}

/// `clone3(2)` of a child whose number is taken: the call fails when all of the child's
/// state, its inherited events among it, was made already. With `shared`, memory and files
/// are not copied, which leaves little but the events to be made and unmade.
pub fn fork_in_vain(shared: bool) {
    const SHARED: libc::c_int =
        libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND;
    let own = i32::try_from(std::process::id()).unwrap_or(1);
    let mut arguments = [0_u64; 11];
    arguments[0] = if shared { SHARED.unsigned_abs().into() } else { 0 };
    arguments[4] = libc::SIGCHLD.unsigned_abs().into();
    arguments[8] = (&raw const own) as u64;
    arguments[9] = 1;
    // SAFETY: `struct clone_args` of 88 bytes; the number in `set_tid` is this process's,
    // which exists and whose PID namespace is that of its children, so there is no child. One
    // with memory of its own would end at once.
    unsafe {
        let child = libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments));
        if child == 0 {
            libc::_exit(0);
        }
        if child > 0 {
            libc::waitpid(i32::try_from(child).unwrap_or(-1), std::ptr::null_mut(), 0);
        }
    }
}

/// Opens an event on the puppet itself which stays until its end. The bits of `n` say
/// which: 0 to 3 `sigtrap`, `remove_on_exec`, `inherit`, `enable_on_exec`; 4 and 5 what
/// it counts; 6 and 7 the period; the rest is the tracepoint's number.
fn own_event(n: u32) -> u32 {
    let bit = |at: u32| u64::from(n >> at & 1);
    let (kind, config) = match n >> 4 & 3 {
        0 | 1 => (2, u64::from(n >> 8)),
        2 => (1, 2),
        _ => (1, 3),
    };
    let period = [1, 1, 3, 100][(n >> 6 & 3) as usize];
    // inherit_thread goes with what is synchronous.
    let inherit = bit(2);
    let flags = bit(0) << 37
        | bit(1) << 36
        | inherit << 1
        | (bit(0) & inherit) << 35
        | bit(3) << 12
        | bit(3);
    let attributes = Attributes::default()
        .word(0, kind)
        .word(4, 136)
        .double(8, config)
        .double(16, period)
        .double(40, flags)
        .double(120, 7);
    match perf_event_open_with(&attributes, 0, -1, None, 0) {
        // It is the puppet's until that ends.
        Ok(fd) => {
            std::mem::forget(fd);
            0
        }
        Err(errno) => errno.unsigned_abs(),
    }
}
