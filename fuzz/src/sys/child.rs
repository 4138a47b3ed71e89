// SPDX-License-Identifier: MIT OR Apache-2.0
//! Children of fuzz programs: forked, given one thing to do, waited for.

use std::ffi::CStr;
use std::time::{Duration, Instant};

use super::call::{Answer, Part, answer};

/// What a child does before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Nothing.
    Nothing,
    /// Runs the file at [`ENDS`], which ends at once.
    Exec,
    /// Maps and unmaps its copy of the arena.
    Map,
    /// Makes system calls.
    Syscalls,
    /// Kills itself.
    Die,
}

impl Errand {
    /// Whether the child needs memory of its own. The others share their
    /// parent's, as after `vfork(2)`: to copy the page tables, and then each page
    /// that the parent writes to, takes a hundred times as long as all else.
    fn copies(self) -> bool {
        match self {
            Self::Map => true,
            Self::Nothing | Self::Exec | Self::Syscalls | Self::Die => false,
        }
    }
}

/// Where the program is that children execute.
pub const ENDS: &CStr = c"/tmp/ends";

/// How long a child may take before it is killed.
const LIMIT: Duration = Duration::from_secs(2);

/// Bytes of a child's stack, where it shares its parent's memory.
const STACK: usize = 16 << 10;

/// Forks, has the child do its errand, and waits for its end. 0, or the signal
/// it died of.
pub fn fork(errand: Errand) -> Answer<i64> {
    let child = if errand.copies() { copy(errand)? } else { share(errand)? };
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

/// A child with a copy of this process's memory.
fn copy(errand: Errand) -> Answer<i64> {
    // SAFETY: the child makes system calls only, takes no lock and allocates
    // nothing, so it may come from a process with threads.
    let child = unsafe { libc::fork() };
    if child == 0 {
        run(errand);
    }
    answer(libc::c_long::from(child))
}

/// A child with this process's memory and a stack of its own; we stand still
/// until it ends or executes something else.
fn share(errand: Errand) -> Answer<i64> {
    extern "C" fn begin(errand: *mut libc::c_void) -> i32 {
        // SAFETY: `share` passes its own argument, and waits.
        run(unsafe { *errand.cast_const().cast::<Errand>() })
    }
    let mut stack = vec![0_u128; STACK / size_of::<u128>()];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack and the errand live until the child is done with them, as
    // CLONE_VFORK keeps us here. The child makes system calls only; it leaves
    // nothing of this process's memory changed but the arena, and `errno`.
    answer(libc::c_long::from(unsafe {
        libc::clone(
            begin,
            stack.as_mut_ptr_range().end.cast(),
            flags,
            (&raw const errand).cast_mut().cast(),
        )
    }))
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
                let arguments = [ENDS.as_ptr(), std::ptr::null()];
                libc::execve(ENDS.as_ptr(), arguments.as_ptr(), [std::ptr::null()].as_ptr());
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A child ends as it is told to, whether or not it has memory of its own.
    #[test]
    fn children_end() {
        assert_eq!(fork(Errand::Nothing), Ok(0));
        assert_eq!(fork(Errand::Syscalls), Ok(0));
        assert_eq!(fork(Errand::Map), Ok(0));
        assert_eq!(fork(Errand::Die), Ok(i64::from(libc::SIGKILL)));
    }
}
