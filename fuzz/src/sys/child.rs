// SPDX-License-Identifier: MIT OR Apache-2.0
//! Children of fuzz programs: forked, given one thing to do, waited for.

use std::ffi::CStr;
use std::time::{Duration, Instant};

use super::call::{Answer, Part, answer, counted};

/// What a child does before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Nothing.
    Nothing,
    /// Runs this program with [`ENDS`] as its argument.
    Exec,
    /// Maps and unmaps its copy of the arena.
    Map,
    /// Makes system calls.
    Syscalls,
    /// Kills itself.
    Die,
}

/// The argument with which this program ends at once.
pub const ENDS: &CStr = c"--end";

/// How long a child may take before it is killed.
const LIMIT: Duration = Duration::from_secs(2);

/// Forks, has the child do its errand, and waits for its end. 0, or the signal
/// it died of.
pub fn fork(errand: Errand) -> Answer<i64> {
    counted();
    // SAFETY: the child makes system calls only, takes no lock and allocates
    // nothing, so it may come from a process with threads.
    let child = unsafe { libc::fork() };
    if child == 0 {
        run(errand);
    }
    let child = answer(libc::c_long::from(child))?;
    let child = libc::pid_t::try_from(child).map_err(|_| libc::ESRCH)?;
    let start = Instant::now();
    let mut killed = false;
    loop {
        let mut status = 0;
        // SAFETY: `status` is valid for writes.
        let ended = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) };
        if ended == child {
            return Ok(i64::from(if libc::WIFSIGNALED(status) {
                libc::WTERMSIG(status)
            } else {
                0
            }));
        }
        if ended < 0 {
            return answer(-1);
        }
        if start.elapsed() > LIMIT {
            if killed {
                return Err(libc::ETIMEDOUT);
            }
            killed = true;
            // SAFETY: no memory is passed; the child was not waited for yet.
            unsafe { libc::kill(child, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Ends this process at once, without exit handlers.
pub fn end(code: u8) -> ! {
    // SAFETY: no memory is passed.
    unsafe { libc::_exit(code.into()) }
}

fn run(errand: Errand) -> ! {
    // SAFETY: system calls without memory, or with static memory.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        match errand {
            Errand::Nothing => {}
            Errand::Exec => {
                let path = c"/proc/self/exe".as_ptr();
                let arguments = [path, ENDS.as_ptr(), std::ptr::null()];
                libc::execve(path, arguments.as_ptr(), [std::ptr::null()].as_ptr());
            }
            Errand::Map => {
                for page in 0..4 {
                    let _ = Part::new(page * 4, 3).map(None, libc::PROT_READ, false, 0);
                    let _ = Part::new(page * 4 + 1, 1).unmap();
                }
            }
            Errand::Syscalls => {
                for _ in 0..8 {
                    libc::syscall(libc::SYS_getppid);
                }
            }
            Errand::Die => {
                libc::kill(libc::getpid(), libc::SIGKILL);
            }
        }
        libc::_exit(0)
    }
}
