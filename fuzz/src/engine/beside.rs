// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two operations at the same time: the helper does one while the thread that runs the
//! program does the next.
//!
//! Both wait for each other, and then one of them for some more microseconds, as the program
//! says: so each point of the one meets each point of the other in some program, and a
//! program that was kept does the same again. The helper does it on another CPU.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{Executor, events, run};
use crate::op::{MapCall, Op};
use crate::sys;
use crate::sys::call::{self, Answer, Attributes, Part};

/// How long one waits for the other: a CPU that is busy with another worker takes a while.
const PATIENCE: Duration = Duration::from_millis(1);
/// From here on of [`Op::Beside`]'s skew the helper is the first.
const HELPER_FIRST: u8 = 128;

/// What the helper is to call.
pub(super) type Call = Box<dyn FnOnce() + Send>;

/// Where two threads wait for each other.
#[derive(Clone, Debug)]
pub(super) struct Meeting {
    arrived: Arc<AtomicU32>,
    skew: u8,
}

impl Meeting {
    pub(super) fn new(skew: u8) -> Self {
        Self { arrived: Arc::default(), skew }
    }

    /// The helper's side.
    pub(super) fn elsewhere(&self) {
        self.meet();
        wait(self.late().0);
    }

    /// The program's side: whether they met.
    pub(super) fn here(&self) -> bool {
        let met = self.meet();
        wait(self.late().1);
        met
    }

    /// How much later the helper is, and how much the program.
    fn late(&self) -> (Duration, Duration) {
        let micros = |n: u8| Duration::from_micros(n.into());
        match self.skew.checked_sub(HELPER_FIRST) {
            None => (micros(self.skew), Duration::ZERO),
            Some(late) => (Duration::ZERO, micros(late)),
        }
    }

    /// Who comes when the other one has given up waits for nobody.
    fn meet(&self) -> bool {
        self.arrived.fetch_add(1, Ordering::AcqRel);
        until(PATIENCE, || self.arrived.load(Ordering::Acquire) >= 2)
    }
}

/// Failures are part of it, and nobody waits for the answer.
fn ignore<T>(_: Answer<T>) {}

fn wait(time: Duration) {
    let _ = until(time, || false);
}

/// Goes round until something is so, or the time is over.
fn until(time: Duration, mut so: impl FnMut() -> bool) -> bool {
    let began = sys::monotonic_ns();
    while !so() {
        if u128::from(sys::monotonic_ns() - began) >= time.as_nanos() {
            return false;
        }
        std::hint::spin_loop();
    }
    true
}

impl Executor {
    /// What an operation calls, for another thread to call: of those that
    /// [`Op::goes_elsewhere`], if what they are about is there.
    pub(super) fn elsewhere(&mut self, op: &Op) -> Option<Call> {
        let event = |executor: &Self, event| executor.event(event).ok()?.try_clone_to_owned().ok();
        if !op.goes_elsewhere() {
            return None;
        }
        Some(match op {
            Op::PerfIoctl { event: which, call } => {
                let (fd, call) = (event(self, *which)?, *call);
                Box::new(move || ignore(events::ioctl(fd.as_fd(), call)))
            }
            Op::PerfOutput { event: which, into } => {
                let fd = event(self, *which)?;
                let into = match into {
                    Some(into) => Some(event(self, *into)?),
                    None => None,
                };
                Box::new(move || {
                    let into = into.as_ref().map_or(-1, AsRawFd::as_raw_fd);
                    ignore(call::ioctl(fd.as_fd(), events::SET_OUTPUT, into.into()));
                })
            }
            Op::PerfBpf { event: which, prog } => {
                let fd = event(self, *which)?;
                let prog: Arc<OwnedFd> =
                    self.tables.progs.get(usize::from(prog.0))?.as_ref()?.clone();
                Box::new(move || {
                    ignore(call::ioctl(fd.as_fd(), events::SET_BPF, prog.as_raw_fd().into()));
                })
            }
            Op::PerfRead { event: which } => {
                let fd = event(self, *which)?;
                Box::new(move || ignore(call::read(fd.as_fd(), &mut [0; 256])))
            }
            Op::PerfClose { event } => {
                let event = self.tables.events.get_mut(usize::from(event.0))?.take()?;
                Box::new(move || drop(event))
            }
            Op::MapElement { map, call, key, how } => {
                let (map, process) = (self.map(*map).ok()?.clone(), self.process.clone());
                let (call, key, how) = (*call, key.0, how.0);
                Box::new(move || ignore(run::element(&map, process.as_deref(), call, key, how)))
            }
            Op::LinkDetach { link } => {
                let link = self.tables.links.get(usize::from(link.0))?.as_ref()?;
                let link = link.try_clone().ok()?;
                Box::new(move || {
                    ignore(call::bpf(34, Attributes::default().fd(0, link.as_fd()), 4));
                })
            }
            Op::Munmap { page, more } => {
                let part = self.shared(page.0, more.0 + 1);
                Box::new(move || ignore(part.unmap()))
            }
            Op::Mprotect { page, more, protection } => {
                let part = self.shared(page.0, more.0 + 1);
                let protection = run::protection(*protection);
                Box::new(move || ignore(part.protect(protection)))
            }
            Op::Madvise { page, more, advice } => {
                let part = self.shared(page.0, more.0 + 1);
                let advice = run::advice_number(*advice);
                Box::new(move || ignore(part.advise(advice)))
            }
            _ => return None,
        })
    }

    /// A part of the arena that another thread changes at a time that nobody knows.
    fn shared(&mut self, page: u8, pages: u8) -> Part {
        self.tables.arena.share(page, pages);
        Part::new(page, pages)
    }
}

impl Op {
    /// Whether it is a call or two whose answer nothing that comes later needs, so that
    /// another thread can make it.
    #[must_use]
    pub fn goes_elsewhere(&self) -> bool {
        match self {
            Self::PerfIoctl { .. }
            | Self::PerfOutput { .. }
            | Self::PerfBpf { .. }
            | Self::PerfRead { .. }
            | Self::PerfClose { .. }
            | Self::LinkDetach { .. }
            | Self::Munmap { .. }
            | Self::Mprotect { .. }
            | Self::Madvise { .. } => true,
            // To freeze one of the pool makes another one.
            Self::MapElement { call, .. } => *call != MapCall::Freeze,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    /// One of them is late, and waits that long.
    #[test]
    fn one_is_late() {
        let late = |skew| {
            let (helper, program) = Meeting::new(skew).late();
            (helper.as_micros(), program.as_micros())
        };
        assert_eq!([0, 1, 127].map(late), [(0, 0), (1, 0), (127, 0)]);
        assert_eq!([128, 129, 255].map(late), [(0, 0), (0, 1), (0, 127)]);
        let began = sys::monotonic_ns();
        wait(Duration::from_micros(50));
        assert!(sys::monotonic_ns() - began >= 50_000);
    }

    /// Each waits for the other, and for no longer than its patience.
    #[test]
    fn both_meet() {
        let meeting = Meeting::new(0);
        let at = Arc::new(AtomicU64::new(0));
        let other = {
            let (meeting, at) = (meeting.clone(), at.clone());
            std::thread::spawn(move || {
                at.store(1, Ordering::Release);
                meeting.elsewhere();
            })
        };
        while at.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        assert!(meeting.here());
        other.join().unwrap();
        assert_eq!(meeting.arrived.load(Ordering::Acquire), 2);
        // Nobody comes.
        let alone = Meeting::new(HELPER_FIRST);
        let began = sys::monotonic_ns();
        assert!(!alone.here());
        assert!(u128::from(sys::monotonic_ns() - began) >= PATIENCE.as_nanos());
    }
}
