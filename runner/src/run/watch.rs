// SPDX-License-Identifier: MIT OR Apache-2.0
//! Follows a live console for two things: a report that comes over and over, and one
//! that says the kernel got stuck.
//!
//! A defect on a hot path reports itself with every call. After some hundreds
//! nothing new is learnt, while the console holds the guest up and fills the
//! disk; so the boot is ended and the flood counted. The limit is high enough
//! that at least one block of samples is complete by then, for its rate.
//!
//! A kernel that noticed that it is stuck, or lost a task, may still print for ever. It
//! is given less time to send its next record; which reports are of that sort is
//! [`trouble_of`].

use std::collections::HashMap;

use crate::keep::store::ConsoleReport;
use crate::run::exercise::{ConsoleWatch, Flood, Trouble};
use crate::see::observe::{Kind, Parser, Splat, fingerprint};

/// Reports with one fingerprint after which a boot is ended.
pub const FLOOD: u64 = 300;

/// Counts reports by their fingerprint while the console comes.
#[derive(Debug, Default)]
pub struct Watch {
    parser: Parser,
    counts: HashMap<String, u64>,
    flood: Option<Flood>,
    troubles: Vec<Trouble>,
}

/// What a report says about whether the guest will go on: stuck, a task lost, or
/// nothing.
fn trouble_of(splat: &Splat) -> Option<Trouble> {
    let report = || ConsoleReport { title: splat.title.clone(), console_offset: splat.start };
    match splat.kind {
        // A stall, a lockup, a hung task: the kernel itself says that something stands.
        Kind::Hang => Some(Trouble { report: report(), stuck: true }),
        // An oops ends a task, with whatever locks it holds: the others may go on.
        Kind::NullPointer | Kind::MemorySafetyBug | Kind::Bug | Kind::DenialOfService => {
            Some(Trouble { report: report(), stuck: false })
        }
        // The kernel reports these and goes on.
        Kind::Lockdep
        | Kind::AtomicSleep
        | Kind::Warning
        | Kind::RefcountWarning
        | Kind::MemorySafetyWarning
        | Kind::MemorySafetyUbsan
        | Kind::Leak
        | Kind::Ubsan
        | Kind::KasanRead
        | Kind::KasanWrite
        | Kind::KasanUseAfterFreeRead
        | Kind::KasanUseAfterFreeWrite
        | Kind::KasanNullRead
        | Kind::KasanNullWrite
        | Kind::KasanInvalidFree
        | Kind::KasanUnknown
        | Kind::KfenceRead
        | Kind::KfenceWrite
        | Kind::KfenceUseAfterFreeRead
        | Kind::KfenceUseAfterFreeWrite
        | Kind::KfenceMemoryCorruption
        | Kind::KfenceInvalidFree
        | Kind::KfenceUnknown
        | Kind::KmsanUninitValue
        | Kind::KmsanInfoLeak
        | Kind::KmsanUseAfterFreeRead
        | Kind::KmsanUnknown
        | Kind::KcsanDataRace
        | Kind::KcsanAssert
        | Kind::KcsanUnknown
        | Kind::HarnessFailure
        | Kind::UnexpectedReboot
        | Kind::Other => None,
    }
}

impl Watch {
    fn take(&mut self, splat: &Splat) {
        self.count(splat);
        self.troubles.extend(trouble_of(splat));
    }

    fn count(&mut self, splat: &Splat) {
        let count = self.counts.entry(fingerprint(splat)).or_default();
        *count += 1;
        if *count >= FLOOD {
            self.flood = Some(Flood { title: splat.title.clone(), count: *count });
        }
    }
}

impl ConsoleWatch for Watch {
    fn begin(&mut self) {
        *self = Watch::default();
    }

    fn push(&mut self, bytes: &[u8]) {
        for splat in self.parser.push(bytes) {
            self.take(&splat);
        }
    }

    fn pause(&mut self) {
        for splat in self.parser.flush() {
            self.take(&splat);
        }
    }

    fn troubles(&mut self) -> Vec<Trouble> {
        std::mem::take(&mut self.troubles)
    }

    fn flood(&self) -> Option<Flood> {
        self.flood.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning(pid: u64) -> String {
        format!(
            "[    1.0] ------------[ cut here ]------------\n\
             [    1.0] WARNING: CPU: 1 PID: {pid} at include/linux/rwsem.h:195 old_lookup+0x47/0xa0\n\
             [    1.0] Call Trace:\n\
             [    1.0]  <TASK>\n\
             [    1.0]  its_caller+0x1/0x2\n\
             [    1.0]  __bpf_get_stack+0x1/0x2\n\
             [    1.0]  </TASK>\n\
             [    1.0] ---[ end trace 0000000000000000 ]---\n"
        )
    }

    /// The same report from many tasks is one flood; a handful of it is none.
    #[test]
    fn one_report_over_and_over_is_a_flood() {
        let mut watch = Watch::default();
        for pid in 0..FLOOD / 2 {
            watch.push(warning(pid).as_bytes());
        }
        assert_eq!(watch.flood(), None);
        // The parser waits for what may follow a report before it gives it.
        for pid in 0..FLOOD * 2 {
            watch.push(warning(pid).as_bytes());
        }
        let flood = watch.flood().unwrap();
        assert!(flood.count >= FLOOD && flood.title.contains("old_lookup"), "{flood:?}");
        assert!(watch.troubles().is_empty(), "a warning stops nobody");
    }

    const STALL: &str = "[   23.0] rcu: INFO: rcu_sched self-detected stall on CPU\n\
        [   23.0] rcu: \t1-....: (5250 ticks this GP) idle=1b2c/1/0x4000 softirq=33/33 fqs=2624\n\
        [   23.0] CPU: 1 UID: 0 PID: 77 Comm: agent Not tainted 6.12.0 #1\n\
        [   23.0] RIP: 0010:spin_for_ever+0x5/0x10\n\
        [   23.0] Call Trace:\n\
        [   23.0]  <TASK>\n\
        [   23.0]  do_syscall_64+0x1/0x2\n\
        [   23.0]  </TASK>\n";
    const OOPS: &str = "[    9.0] BUG: kernel NULL pointer dereference, address: 0000000000000008\n\
        [    9.0] Oops: Oops: 0000 [#1] PREEMPT SMP\n\
        [    9.0] RIP: 0010:vma_lookup+0x5/0x10\n\
        [    9.0] Call Trace:\n\
        [    9.0]  <TASK>\n\
        [    9.0]  do_syscall_64+0x1/0x2\n\
        [    9.0]  </TASK>\n\
        [    9.0] ---[ end trace 0000000000000000 ]---\n";

    /// A stall says that the kernel is stuck, an oops that it lost a task; each is told
    /// once, with its headline and its place, as soon as the console pauses.
    #[test]
    fn a_stall_and_an_oops_are_trouble() {
        let before = "[    1.0] Run /init\n";
        for (text, stuck, named) in
            [(STALL, true, "rcu detected stall"), (OOPS, false, "NULL pointer")]
        {
            let mut watch = Watch::default();
            watch.push(before.as_bytes());
            watch.push(text.as_bytes());
            watch.pause();
            let troubles = watch.troubles();
            assert_eq!(troubles.len(), 1, "{troubles:?}");
            assert!(troubles[0].report.title.contains(named), "{troubles:?}");
            assert_eq!(troubles[0].stuck, stuck);
            assert_eq!(troubles[0].report.console_offset, before.len() as u64);
            watch.pause();
            assert!(watch.troubles().is_empty());
        }
    }
}
