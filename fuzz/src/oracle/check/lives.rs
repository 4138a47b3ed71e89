// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tasks with events of their own, which fork in vain, execute, and exit with all that is
//! pending. The events outlive a task, or a task its events.

use std::os::fd::{AsFd, OwnedFd};

use super::Stage;
use crate::op::value::Dice;
use crate::sys::call::{self, Answer, Attributes};
use crate::sys::puppet::{Puppet, Task};

pub(super) fn run(stage: &mut Stage<'_>) -> Answer<()> {
    let failed = |error: std::io::Error| error.raw_os_error().unwrap_or(libc::ECHILD);
    let mut puppet = Puppet::start().map_err(failed)?;
    let mut events: Vec<OwnedFd> = Vec::new();
    let tracepoints = stage.executor.tracepoints;
    let ids = [tracepoints.sys_enter, tracepoints.sched_switch, tracepoints.file_lock];
    for _ in 0..3 + stage.play.dice.below(9) {
        let n = 1 + stage.play.dice.below(6);
        let told = match stage.play.dice.below(16) {
            0..=3 => {
                // What fires on the way out, mostly.
                let which = if stage.play.dice.below(2) == 0 {
                    0
                } else {
                    stage.play.dice.below(3) as usize
                };
                let id = ids.get(which).copied().flatten().unwrap_or(1);
                let bits =
                    stage.play.dice.below(256) | if stage.play.dice.below(2) == 0 { 3 } else { 0 };
                let kind = if stage.play.dice.below(2) == 0 { bits & !0xf0 } else { bits };
                puppet.tell(Task::Open(u32::try_from(id).unwrap_or(0) << 8 | kind & 0xff))
            }
            4..=6 => {
                open(stage, &puppet, &mut events);
                continue;
            }
            7 | 8 => {
                if !events.is_empty() {
                    let count = u32::try_from(events.len()).unwrap_or(1);
                    let at = stage.play.dice.below(count) as usize;
                    drop(events.remove(at));
                }
                continue;
            }
            9 | 10 => puppet.tell(Task::Exec),
            11 => puppet.tell(Task::Fork),
            12 => puppet.tell(Task::FailFork(n)),
            13 => puppet.tell(Task::Errand(n)),
            14 => puppet.tell(Task::Sleep(n)),
            _ => puppet.tell(Task::Thread(n)),
        };
        // It may be gone.
        if told.is_err() {
            break;
        }
    }
    let first = stage.play.dice.below(2) == 0;
    if first {
        puppet.end(stage.play.dice.below(4) == 0);
        drop(events);
    } else {
        drop(events);
        puppet.end(stage.play.dice.below(4) == 0);
    }
    Ok(())
}

/// Opens an event on the puppet, mostly in a group with the one before.
fn open(stage: &mut Stage<'_>, puppet: &Puppet, events: &mut Vec<OwnedFd>) {
    let dice = &mut stage.play.dice;
    let remove = u64::from(dice.below(2) == 0);
    let flags = u64::from(dice.below(4) == 0)
        | u64::from(dice.below(3) == 0) << 1
        | u64::from(remove == 0 && dice.below(4) == 0) << 12
        | remove << 36
        | (remove & u64::from(dice.below(4) == 0)) << 37;
    let config = [1, 2, 3, 5, 9][dice.below(5) as usize];
    let period = [0, 1, 100][dice.below(3) as usize];
    let attributes = Attributes::default()
        .word(0, 1)
        .word(4, 136)
        .double(8, config)
        .double(16, period)
        .double(32, u64::from(dice.below(32)))
        .double(40, flags);
    let group = if dice.below(3) > 0 { events.first() } else { None };
    let group = group.map(AsFd::as_fd);
    events.extend(call::perf_event_open(&attributes, puppet.process(), -1, group).ok());
}
