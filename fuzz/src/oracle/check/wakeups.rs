// SPDX-License-Identifier: MIT OR Apache-2.0
//! Perf buffers as mappings, and what tells that there is something to read: poll(2),
//! signals, the end of a task, and an event's limit (`PERF_EVENT_IOC_REFRESH`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::hits::{FILE_LOCK, hit};
use super::{IOC_DISABLE, Stage};
use crate::op::value::Dice;
use crate::sys::call::{self, Answer, Attributes, Region};
use crate::sys::puppet::Puppet;

const PAGE: usize = 4096;
/// `PERF_EVENT_IOC_REFRESH`
const REFRESH: u32 = 0x2402;
/// Where in a buffer's first page `data_offset` and `data_size` are.
const DATA_OFFSET: usize = 1040;
const DATA_SIZE: usize = 1048;
/// `POLL_IN` and `POLL_HUP` of `siginfo_t`.
const IN: i32 = 1;
const HUP: i32 = 6;

pub(super) fn run(stage: &mut Stage<'_>) -> Answer<()> {
    match stage.play.dice.below(4) {
        0 => parts(stage),
        1 => polls(stage),
        2 => ends(stage),
        _ => limit(stage),
    }
}

/// What may be done to a buffer's mapping: nothing that leaves a part of it.
fn parts(stage: &mut Stage<'_>) -> Answer<()> {
    let dice = &mut stage.play.dice;
    let (thread, cpu) = [(0, -1), (0, 0), (-1, 0), (-1, 1)][dice.below(4) as usize];
    let pages = 1_usize << dice.below(5);
    let length = (1 + pages) * PAGE;
    let writable = dice.below(3) > 0;
    let config = [0, 1, 2, 9][dice.below(4) as usize];
    let attributes = Attributes::default()
        .word(0, 1)
        .word(4, 136)
        .double(8, config)
        .double(16, 1 << 40)
        .double(40, u64::from(dice.below(2)));
    let turns = 2 + dice.below(5);
    let event = call::perf_event_open(&attributes, thread, cpu, None)?;
    let fd = event.as_fd();
    let pinned = super::memory::status("VmPin:");
    let buffer = Region::map(fd, length, writable)?;
    let mut others = Vec::new();
    for _ in 0..turns {
        let page = stage.play.dice.below(u32::try_from(pages).unwrap_or(1)) as usize;
        match stage.play.dice.below(8) {
            0 => {
                let again = Region::map(fd, length, stage.play.dice.below(2) == 0);
                stage.expect("the buffer mapped again", &[0], &again);
                others.extend(again);
            }
            1 => {
                let more = Region::map(fd, length + pages * PAGE, true);
                stage.expect("the buffer mapped with twice the pages", &[libc::EINVAL], &more);
            }
            2 => {
                let odd = Region::map(fd, 4 * PAGE, true);
                stage.expect("three pages of a buffer", &[libc::EINVAL], &odd);
            }
            3 => {
                let aux = Region::map_at(fd, length, pages * PAGE, true);
                stage.expect("an AUX area that is not there", &[libc::EINVAL], &aux);
            }
            4 => {
                let first = if stage.play.dice.below(2) == 0 { 0 } else { (page + 1) * PAGE };
                let answer = buffer.unmap_part(first, PAGE);
                stage.expect("one page of a buffer unmapped", &[libc::EINVAL], &answer);
            }
            5 => {
                let answer = buffer.resize(PAGE);
                stage.expect("a buffer made shorter", &[libc::EINVAL], &answer);
            }
            6 => {
                let answer = buffer.resize(2 * length);
                stage.expect("a buffer made longer", &[libc::EFAULT], &answer);
            }
            _ => {
                let answer = buffer.protect_part((page + 1) * PAGE, PAGE);
                let right = if writable { libc::EINVAL } else { 0 };
                stage.expect("one page of a buffer protected", &[right], &answer);
            }
        }
    }
    let told = (buffer.load(DATA_OFFSET), buffer.load(DATA_SIZE));
    let right = (PAGE as u64, (pages * PAGE) as u64);
    if told != right {
        stage.wrong(format!("a buffer's data are at {told:?} (offset, size) and not {right:?}"));
    }
    // The event may be gone before its buffer, and the other way round.
    if stage.play.dice.below(2) == 0 {
        drop(event);
    }
    drop((others, buffer));
    let after = super::memory::status("VmPin:");
    if pinned != after {
        stage.wrong(format!("a buffer that is gone: VmPin is {after:?} KiB and was {pinned:?}"));
    }
    Ok(())
}

/// An event of the own thread that samples a tracepoint each time, and is off.
fn sampled(stage: &Stage<'_>, wakeup: u32) -> Answer<OwnedFd> {
    let tracepoint = stage.executor.tracepoints.file_lock.ok_or(libc::ENOENT)?;
    let attributes = Attributes::default()
        .word(0, 2)
        .word(4, 136)
        .double(8, tracepoint)
        .double(16, 1)
        .double(24, 3) // IP, TID
        .double(40, 1) // disabled
        .word(48, wakeup);
    call::perf_event_open(&attributes, 0, -1, None)
}

fn count(event: BorrowedFd<'_>) -> Answer<u64> {
    let mut memory = [0_u64; 2];
    call::read_words(event, &mut memory)?;
    Ok(memory[0])
}

/// poll(2) says that there is something once as many samples were taken as were asked for.
fn polls(stage: &mut Stage<'_>) -> Answer<()> {
    let every = 1 + stage.play.dice.below(6);
    let event = sampled(stage, every)?;
    let fd = event.as_fd();
    if call::poll(fd)? & libc::POLLHUP == 0 {
        stage.wrong("an event without a buffer: poll(2) does not say POLLHUP".to_owned());
    }
    let buffer = Region::map(fd, 9 * PAGE, true)?;
    call::ioctl(fd, super::IOC_ENABLE, 0)?;
    let mut read = 0;
    // Samples since the last wake-up.
    let mut left = 0;
    for _ in 0..2 + stage.play.dice.below(5) {
        let times = stage.play.dice.below(2 * every);
        hit(stage, FILE_LOCK, times)?;
        let now = count(fd)?;
        left += now.wrapping_sub(read);
        read = now;
        let polled = call::poll(fd)? & (libc::POLLIN | libc::POLLHUP | libc::POLLERR);
        let right = if left >= every.into() { libc::POLLIN } else { 0 };
        if polled != right {
            stage.wrong(format!(
                "{left} samples, a wake-up each {every}: poll(2) says {polled:#x} and not \
                 {right:#x}"
            ));
        }
        left %= u64::from(every);
        if call::poll(fd)? != 0 {
            stage.wrong("nothing new since poll(2): it says that there is".to_owned());
        }
        buffer.consume_if_writable();
    }
    Ok(())
}

/// When its task is gone, poll(2) says so.
fn ends(stage: &mut Stage<'_>) -> Answer<()> {
    let failed = |error: std::io::Error| error.raw_os_error().unwrap_or(libc::ECHILD);
    let puppet = Puppet::start().map_err(failed)?;
    let flags = u64::from(stage.play.dice.below(2));
    let attributes =
        Attributes::default().word(0, 1).word(4, 136).double(8, 9).double(16, 1).double(40, flags);
    let event = call::perf_event_open(&attributes, puppet.process(), -1, None)?;
    let buffer = Region::map(event.as_fd(), 2 * PAGE, true)?;
    let before = call::poll(event.as_fd())?;
    puppet.end(stage.play.dice.below(2) == 0);
    let after = call::poll(event.as_fd())?;
    if before & libc::POLLHUP != 0 || after & libc::POLLHUP == 0 {
        stage.wrong(format!(
            "poll(2) of an event of a task: {before:#x}, and {after:#x} when it is gone"
        ));
    }
    drop(buffer);
    Ok(())
}

/// An event that is let overflow a number of times, tells each time and stops with the last.
fn limit(stage: &mut Stage<'_>) -> Answer<()> {
    let event = sampled(stage, 1)?;
    let fd = event.as_fd();
    let buffer =
        if stage.play.dice.below(2) == 0 { Some(Region::map(fd, 9 * PAGE, true)?) } else { None };
    call::notify(fd)?;
    // Those of events that are gone.
    let _ = call::notices();
    let mut before = 0;
    for _ in 0..1 + stage.play.dice.below(3) {
        let most = 1 + stage.play.dice.below(5);
        call::ioctl(fd, REFRESH, most.into())?;
        // A hit may be passed over, see `SHORT_ROUNDS`.
        hit(stage, FILE_LOCK, most + 8)?;
        let counted = count(fd)?.wrapping_sub(before);
        if counted < most.into() {
            break;
        }
        if counted > most.into() {
            stage.wrong(format!("an event that is let overflow {most} times counted {counted}"));
        }
        before += counted;
        let notices = call::notices();
        let told = notices.split_last().is_some_and(|(last, others)| {
            *last == HUP && others.iter().all(|code| *code == IN) && others.len() < most as usize
        });
        if !told {
            stage.wrong(format!(
                "an event stopped after {most} overflows and told of {notices:?} (1: POLL_IN, 6: \
                 POLL_HUP)"
            ));
        }
    }
    let _ = call::ioctl(fd, IOC_DISABLE, 0);
    drop(buffer);
    Ok(())
}
