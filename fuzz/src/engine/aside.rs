// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two threads beside the one that runs the program: a helper that does things
//! meanwhile, and a reaper that closes what waits for RCU.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::beside::{Call, Meeting};
use crate::op::Aside;
use crate::sys;
use crate::sys::call::{Part, affinity};
use crate::sys::kcov::Kcov;
use crate::sys::trigger::Stack;

/// What the helper is to do.
pub(super) enum Task {
    /// Something to the arena.
    Arena {
        /// What.
        what: Aside,
        /// First page.
        page: u8,
        /// How often.
        times: u8,
        /// A file to map.
        file: Arc<OwnedFd>,
    },
    /// One of two operations at the same time.
    Beside {
        /// Where it waits for the other.
        meeting: Meeting,
        /// The call.
        call: Call,
    },
}

/// How long one of its tasks may take.
const LIMIT: Duration = Duration::from_secs(20);

/// The helper thread.
#[derive(Debug)]
pub struct Helper {
    tasks: Sender<Task>,
    given: u64,
    done: Receiver<()>,
    /// Its thread id.
    pub thread: i32,
    /// What it ran through, if the kernel can tell.
    pub coverage: Option<Arc<Kcov>>,
}

impl Helper {
    /// Starts it, on other CPUs than this one if there are any, and before all that runs there:
    /// what it does is to happen now, not when that one has had its turn.
    pub(super) fn start(cpu: u32) -> io::Result<Self> {
        let (tasks, to_do) = channel::<Task>();
        let (ready, told) = channel();
        let (finished, done) = channel();
        std::thread::Builder::new().name("helper".into()).spawn(move || {
            if affinity(!(1 << cpu)).is_err() {
                let _ = affinity(u64::MAX);
            }
            let _ = sys::process::run_first();
            let coverage = Kcov::of_this_thread().ok().map(Arc::new);
            let _ = ready.send((sys::thread_id().cast_signed(), coverage));
            while let Ok(task) = to_do.recv() {
                run(task);
                let _ = finished.send(());
            }
        })?;
        let (thread, coverage) = told.recv().map_err(io::Error::other)?;
        Ok(Self { tasks, given: 0, done, thread, coverage })
    }

    /// Gives it something to do.
    pub(super) fn give(&mut self, task: Task) {
        if self.tasks.send(task).is_ok() {
            self.given += 1;
        }
    }

    /// Waits until it has done everything; false if it takes too long.
    pub fn settle(&mut self) -> bool {
        while self.given > 0 {
            if self.done.recv_timeout(LIMIT).is_err() {
                return false;
            }
            self.given -= 1;
        }
        true
    }
}

fn run(task: Task) {
    let (what, page, times, file) = match task {
        Task::Arena { what, page, times, file } => (what, page, times, file),
        Task::Beside { meeting, call } => {
            meeting.elsewhere();
            return call();
        }
    };
    let part = Part::new(page, 2);
    let stack = Stack::new(&[part.address(), part.address() + 8]);
    for turn in 0..times {
        // Failures are part of it.
        match what {
            Aside::Map => {
                let _ = part.map(Some(file.as_fd()), libc::PROT_READ, false, turn % 4);
            }
            Aside::Protect => {
                let protection = if turn % 2 == 0 { libc::PROT_NONE } else { libc::PROT_READ };
                let _ = part.protect(protection);
            }
            Aside::Load => stack.load(part.address()),
            Aside::Syscall => {
                let _ = stack.file_lock(file.as_fd());
            }
            Aside::Drop => {
                let _ = part.advise(libc::MADV_DONTNEED);
            }
        }
    }
}

/// What the reaper may hold before programs have to wait for it.
const BACKLOG: usize = 64;

/// The reaper thread.
#[derive(Debug)]
pub struct Reaper {
    to_close: Sender<ToClose>,
    held: Arc<AtomicUsize>,
    uprobes_ns: Arc<AtomicU64>,
}

#[derive(Debug)]
struct ToClose {
    fd: OwnedFd,
    is_uprobe: bool,
}

impl Reaper {
    /// Starts it.
    pub fn start() -> io::Result<Self> {
        let (to_close, closing) = channel::<ToClose>();
        let (held, uprobes_ns) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
        let (left, took) = (held.clone(), uprobes_ns.clone());
        std::thread::Builder::new().name("reaper".into()).spawn(move || {
            let _ = affinity(u64::MAX);
            while let Ok(ToClose { fd, is_uprobe }) = closing.recv() {
                let began = sys::monotonic_ns();
                drop(fd);
                if is_uprobe {
                    took.fetch_add(sys::monotonic_ns() - began, Ordering::Relaxed);
                }
                left.fetch_sub(1, Ordering::Release);
            }
        })?;
        Ok(Self { to_close, held, uprobes_ns })
    }

    /// What the closing of uprobes has taken, in nanoseconds.
    #[must_use]
    pub fn uprobes_ns(&self) -> u64 {
        self.uprobes_ns.load(Ordering::Relaxed)
    }

    /// Has a uprobe's event closed, some time.
    pub fn take_uprobe(&self, fd: OwnedFd) {
        self.give(ToClose { fd, is_uprobe: true });
    }

    /// Has any other descriptor closed, some time.
    pub fn take(&self, fd: OwnedFd) {
        self.give(ToClose { fd, is_uprobe: false });
    }

    fn give(&self, what: ToClose) {
        self.held.fetch_add(1, Ordering::AcqRel);
        // A thread that is gone leaves the closing to the drop here.
        let _ = self.to_close.send(what);
        while self.held.load(Ordering::Acquire) > BACKLOG {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Waits until all is closed; false if it takes too long.
    #[must_use]
    pub fn settle(&self) -> bool {
        let start = Instant::now();
        while self.held.load(Ordering::Acquire) > 0 {
            if start.elapsed() > Duration::from_secs(30) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }
}
