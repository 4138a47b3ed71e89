// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each operation's arm: what it calls, and what that makes.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::aside::Task;
use super::events::{self, Open};
use super::pool::{BPF_TRACE_UPROBE_MULTI, Map, OWN_ORDER};
use super::{Beside, Event, Executor, GONE};
use crate::op::value::{EventRef, LinkRef, MapRef, ProgRef, Upto};
use crate::op::{
    Advice, Ask, Backing, Child, How, MapCall, MapFlags, MapKind, Op, Page, Protection, RawTp,
    Where, Whose,
};
use crate::oracle::check;
use crate::sys::call::{self, Answer, Attributes, Part, Region};
use crate::sys::child::{self, Errand};
use crate::sys::trigger::{HARMLESS, Stack};

/// Keeps an answer's place in a table: references count attempts.
fn keep<T>(table: &mut Vec<Option<T>>, made: Answer<T>) -> Answer<()> {
    match made {
        Ok(made) => {
            table.push(Some(made));
            Ok(())
        }
        Err(errno) => {
            table.push(None);
            Err(errno)
        }
    }
}

fn close<T>(table: &mut [Option<T>], index: u8) -> Answer<T> {
    table.get_mut(usize::from(index)).and_then(Option::take).ok_or(GONE)
}

/// Freezes a map, for an odd `how` twice: the second call shows what the first left.
fn freeze(map: BorrowedFd<'_>, how: u8) -> Answer<i64> {
    let freeze = || call::bpf(22, Attributes::default().fd(0, map), 4);
    let first = freeze();
    if how % 2 == 1 {
        let _ = freeze();
    }
    first
}

pub(super) fn protection(word: Protection) -> i32 {
    match word {
        Protection::None => libc::PROT_NONE,
        Protection::Read => libc::PROT_READ,
        Protection::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        Protection::ReadExec => libc::PROT_READ | libc::PROT_EXEC,
    }
}

impl Executor {
    /// Does one operation.
    pub(super) fn op(&mut self, op: &Op) -> Answer<()> {
        match op {
            Op::PerfOpen { .. }
            | Op::PerfIoctl { .. }
            | Op::PerfOutput { .. }
            | Op::PerfBpf { .. }
            | Op::PerfMap { .. }
            | Op::PerfUnmap { .. }
            | Op::PerfRead { .. }
            | Op::PerfConsume { .. }
            | Op::PerfClose { .. }
            | Op::PerfTask { .. } => self.perf(op),
            Op::MapCreate { kind, flags, entries, pooled } => {
                let map = if pooled.0 == 0 {
                    self.pool.create(*kind, *flags, entries.0).map(|fd| Map {
                        fd: fd.into(),
                        kind: *kind,
                        pooled: false,
                    })
                } else {
                    self.pool.map(*kind, *flags, entries.0)
                };
                keep(&mut self.tables.maps, map)
            }
            Op::MapElement { map, call: MapCall::Freeze, how, .. } => {
                let map = self.map(*map)?;
                if map.pooled {
                    // It would stay frozen in the pool: another one is.
                    let own = self.pool.create(map.kind, MapFlags::default(), OWN_ORDER)?;
                    freeze(own.as_fd(), how.0).map(drop)
                } else {
                    freeze(map.fd.as_fd(), how.0).map(drop)
                }
            }
            Op::MapElement { map, call, key, how } => {
                element(self.map(*map)?, self.process.as_deref(), *call, key.0, how.0)
            }
            Op::MapEvent { map, event } => {
                let value = self.event(*event)?.as_raw_fd();
                self.fill(*map, 0, value)
            }
            Op::MapProg { map, prog } => {
                let value = self.prog(*prog)?.as_raw_fd();
                self.fill(*map, 1, value)
            }
            Op::MapMmap { map } => {
                let map = self.map(*map)?;
                let length = if map.kind == crate::op::MapKind::Ringbuf { 4096 } else { 8192 };
                Region::map(map.fd.as_fd(), length, true).map(drop)
            }
            Op::MapClose { map } => close(&mut self.tables.maps, map.0).map(drop),
            Op::MapAsk { map } => ask(self.map(*map)?.fd.as_fd()),
            Op::ProgLoad { kind, flaw, maps, body } => {
                let maps = maps.iter().filter_map(|map| self.map(*map).ok().cloned()).collect();
                let loaded = self.load(*kind, flaw.0, maps, body);
                keep(&mut self.tables.progs, loaded)
            }
            Op::ProgClose { prog } => close(&mut self.tables.progs, prog.0).map(drop),
            Op::ProgAsk { prog, what } => self.ask_program(*prog, *what),
            Op::Arm { place, prog } => {
                self.arm(*place, self.prog(*prog)?)?;
                if !self.tables.armed.contains(place) {
                    self.tables.armed.push(*place);
                }
                Ok(())
            }
            Op::Disarm { place } => {
                self.tables.armed.retain(|armed| armed != place);
                self.disarm(*place).map(drop)
            }
            Op::RawOpen { .. }
            | Op::PerfLink { .. }
            | Op::UprobeLink { .. }
            | Op::LinkUpdate { .. }
            | Op::LinkDetach { .. }
            | Op::LinkClose { .. } => self.links(op),
            Op::Mmap { page, more, what, protection, offset } => {
                let mapped = self.mmap(*page, more.0, *what, *protection, offset.0);
                let arena = &mut self.tables.arena;
                arena.mapped(page.0, more.0 + 1, *what, offset.0, mapped.is_ok());
                mapped
            }
            Op::Munmap { page, more } => {
                let unmapped = Part::new(page.0, more.0 + 1).unmap().map(drop);
                self.tables.arena.unmapped(page.0, more.0 + 1, unmapped.is_ok());
                unmapped
            }
            Op::Mprotect { page, more, protection: word } => {
                Part::new(page.0, more.0 + 1).protect(protection(*word)).map(drop)
            }
            Op::Mremap { page, more, to, then } => {
                let (pages, then) = (more.0 + 1, then.0 + 1);
                let moved = Part::new(page.0, pages).move_to(Part::new(to.0, then)).map(drop);
                self.tables.arena.moved(page.0, pages, to.0, then, moved.is_ok());
                moved
            }
            Op::Madvise { page, more, advice } => {
                Part::new(page.0, more.0 + 1).advise(advice_number(*advice)).map(drop)
            }
            Op::Trigger { how, page, frames, again } => {
                let watch = self.clear_stack();
                let triggered = self.trigger(*how, *page, frames, again.0);
                let frames: Vec<u8> = frames.iter().map(|page| page.0).collect();
                self.check_stack(&frames, watch);
                triggered
            }
            Op::Aside { what, page, again } => {
                self.tables.arena.share(page.0, 2);
                let file = if again.0 % 2 == 0 { &self.files.a } else { &self.files.b };
                self.helper.give(Task::Arena {
                    what: *what,
                    page: page.0,
                    times: again.0 + 1,
                    file: file.clone(),
                });
                Ok(())
            }
            Op::Fork { child } => child::fork(match child {
                Child::Exit => Errand::Nothing,
                Child::Exec => Errand::Exec,
                Child::Map => Errand::Map,
                Child::Syscalls => Errand::Syscalls,
                Child::Die => Errand::Die,
            })
            .map(drop),
            Op::Signal { which } => {
                let signal = HARMLESS.get(usize::from(which.0)).copied().unwrap_or(libc::SIGURG);
                call::signal_self(signal).map(drop)
            }
            Op::FailNth { nth } => {
                self.fail_nth(u32::from(nth.0) + 1);
                Ok(())
            }
            Op::Beside { skew } => {
                self.beside = Some(Beside::Next(skew.0));
                Ok(())
            }
            Op::Delays { seed } => self.delay(u64::from(seed.0) + 1),
            Op::Check { what, seed, more } => {
                if what.judges() {
                    // An answer to memory that was not to be had is none to judge.
                    self.tell_failing(0);
                }
                let (answer, wrong) = check::play(self, *what, seed.0, more.0);
                if let Some(wrong) = wrong {
                    self.tables.wrong.get_or_insert(wrong);
                }
                answer
            }
            Op::Affinity { cpu } => {
                self.tables.moved = true;
                call::affinity(if cpu.0 < 2 { 1 << cpu.0 } else { u64::MAX }).map(drop)
            }
        }
    }

    fn perf(&mut self, op: &Op) -> Answer<()> {
        match op {
            Op::PerfOpen { event, period, target, flags, sample, group, page } => {
                let opened = events::open(&Open {
                    event: *event,
                    period: *period,
                    target: *target,
                    flags: *flags,
                    sample: *sample,
                    group: group.and_then(|group| self.event(group).ok()),
                    page: *page,
                    helper: self.helper.thread,
                    kprobes: self.kprobes,
                    uprobes: self.uprobes,
                    uprobe_at: self.uprobe_at,
                    elf: &self.files.a_path,
                    tracepoints: self.tracepoints,
                });
                let made = opened.map(|fd| Event { fd, kind: *event, buffer: None });
                keep(&mut self.tables.events, made)
            }
            Op::PerfIoctl { event, call } => events::ioctl(self.event(*event)?, *call).map(drop),
            Op::PerfOutput { event, into } => {
                let into = match into {
                    Some(into) => self.event(*into)?.as_raw_fd(),
                    None => -1,
                };
                call::ioctl(self.event(*event)?, events::SET_OUTPUT, into.into()).map(drop)
            }
            Op::PerfBpf { event, prog } => {
                let prog = self.prog(*prog)?.as_raw_fd();
                call::ioctl(self.event(*event)?, events::SET_BPF, prog.into()).map(drop)
            }
            Op::PerfMap { event, order, overwrite } => {
                let length = 4096 * (1 + (1 << order.0));
                let buffer = Region::map(self.event(*event)?, length, overwrite.0 == 0)?;
                if let Some(event) = self.event_mut(*event) {
                    event.buffer = Some(buffer);
                }
                Ok(())
            }
            Op::PerfUnmap { event } => {
                let event = self.event_mut(*event).ok_or(GONE)?;
                event.buffer.take().map(drop).ok_or(GONE)
            }
            Op::PerfConsume { event } => {
                let event = self.event_mut(*event).ok_or(GONE)?;
                event.buffer.as_ref().map(Region::consume_if_writable).ok_or(GONE)
            }
            Op::PerfRead { event } => call::read(self.event(*event)?, &mut [0; 256]).map(drop),
            Op::PerfClose { event } => {
                let event = close(&mut self.tables.events, event.0)?;
                self.close_event(event);
                Ok(())
            }
            Op::PerfTask { on } => {
                self.tables.events_off |= on.0 == 0;
                call::task_events(on.0 == 1).map(drop)
            }
            _ => Err(GONE),
        }
    }

    fn event_mut(&mut self, event: EventRef) -> Option<&mut Event> {
        self.tables.events.get_mut(usize::from(event.0)).and_then(Option::as_mut)
    }

    fn put(&self, map: MapRef, key: u32, value: i32) -> Answer<()> {
        let map = self.map(map)?;
        // Only maps of descriptors read a number; 64 bytes are enough for all.
        let (key, mut bytes) = (u64::from(key).to_ne_bytes(), [0; 512]);
        bytes[..4].copy_from_slice(&value.to_ne_bytes());
        let attributes = Attributes::default().fd(0, map.fd.as_fd()).input(8, &key);
        call::bpf(2, attributes.input(16, &bytes), 32).map(drop)
    }

    /// Puts something that is referred to into a map, and notes that.
    fn fill(&mut self, map: MapRef, key: u32, value: i32) -> Answer<()> {
        self.put(map, key, value)?;
        let map = self.map(map)?.clone();
        self.tables.filled.push((map, key));
        Ok(())
    }

    fn ask_program(&self, prog: ProgRef, what: Ask) -> Answer<()> {
        let fd = self.prog(prog)?;
        match what {
            Ask::Info => ask(fd),
            Ask::Task => {
                let mut name = [0; 64];
                let attributes = Attributes::default()
                    .word(0, std::process::id())
                    .fd(4, fd)
                    .word(12, 64)
                    .output(16, &mut name);
                call::bpf(20, attributes, 48).map(drop)
            }
            Ask::Next => {
                call::bpf(11, Attributes::default(), 12)?;
                call::bpf_fd(13, Attributes::default().word(0, 1), 12).map(drop)
            }
            Ask::Run => call::bpf(10, Attributes::default().fd(0, fd), 80).map(drop),
        }
    }

    fn links(&mut self, op: &Op) -> Answer<()> {
        match op {
            Op::RawOpen { at, prog } => {
                let name = match at {
                    RawTp::SysEnter => c"sys_enter",
                    RawTp::SchedSwitch => c"sched_switch",
                    RawTp::Softirq => c"softirq_entry",
                    RawTp::FileLock => c"locks_get_lock_context",
                    RawTp::Exit => c"sched_process_exit",
                    RawTp::Missing => c"no_such_tracepoint",
                };
                let made = self.prog(*prog).and_then(|prog| {
                    let attributes = Attributes::default().input(0, name.to_bytes_with_nul());
                    call::bpf_fd(17, attributes.fd(8, prog), 16)
                });
                keep(&mut self.tables.links, made)
            }
            Op::PerfLink { event, prog } => {
                let made = self.perf_link(*event, *prog);
                keep(&mut self.tables.links, made)
            }
            Op::UprobeLink { prog, whose, at } => {
                let made = self.uprobe_link(*prog, *whose, *at);
                keep(&mut self.tables.links, made)
            }
            Op::LinkUpdate { link, prog } => {
                let attributes =
                    Attributes::default().fd(0, self.link(*link)?).fd(4, self.prog(*prog)?);
                call::bpf(29, attributes, 16).map(drop)
            }
            Op::LinkDetach { link } => {
                call::bpf(34, Attributes::default().fd(0, self.link(*link)?), 4).map(drop)
            }
            Op::LinkClose { link: LinkRef(link) } => {
                let link = close(&mut self.tables.links, *link)?;
                self.reaper.take(link);
                Ok(())
            }
            _ => Err(GONE),
        }
    }

    fn perf_link(&self, event: EventRef, prog: ProgRef) -> Answer<OwnedFd> {
        const BPF_PERF_EVENT: u32 = 41;
        let attributes = Attributes::default()
            .fd(0, self.prog(prog)?)
            .fd(4, self.event(event)?)
            .word(8, BPF_PERF_EVENT)
            .double(16, 7);
        call::bpf_fd(28, attributes, 48)
    }

    fn uprobe_link(&self, prog: ProgRef, whose: Whose, at: Where) -> Answer<OwnedFd> {
        let offsets = match at {
            Where::Code => vec![self.uprobe_at],
            Where::Both => vec![self.uprobe_at, 64],
            Where::Beyond => vec![1 << 40],
        };
        let bytes: Vec<u8> = offsets.iter().flat_map(|at| at.to_ne_bytes()).collect();
        let attributes = Attributes::default()
            .fd(0, self.prog(prog)?)
            .word(8, BPF_TRACE_UPROBE_MULTI)
            .input(16, c"/proc/self/exe".to_bytes_with_nul())
            .input(24, &bytes)
            .word(48, u32::try_from(offsets.len()).unwrap_or(0))
            .word(
                56,
                match whose {
                    Whose::All => 0,
                    Whose::Own => std::process::id(),
                    Whose::Nobody => 0x7fff_fff0,
                },
            );
        call::bpf_fd(28, attributes, 64)
    }

    fn mmap(
        &self,
        page: Page,
        more: u8,
        what: Backing,
        word: Protection,
        offset: u8,
    ) -> Answer<()> {
        let part = Part::new(page.0, more + 1);
        let fresh;
        let (fd, shared): (Option<BorrowedFd<'_>>, bool) = match what {
            Backing::Anonymous => (None, false),
            Backing::Shared => (None, true),
            Backing::ElfA => (Some(self.files.a.as_fd()), false),
            Backing::ElfB => (Some(self.files.b.as_fd()), false),
            Backing::ElfBad => (Some(self.files.bad.as_fd()), false),
            Backing::ElfShort => (Some(self.files.short.as_fd()), false),
            Backing::Text => (Some(self.files.text.as_fd()), true),
            Backing::ElfFresh => {
                fresh = self.files.open_fresh().map_err(|e| e.raw_os_error().unwrap_or(GONE))?;
                (Some(fresh.as_fd()), false)
            }
        };
        let protection = match (what, word) {
            // The files must stay as they are for the next program.
            (Backing::Text, _) => libc::PROT_READ,
            (_, word) => protection(word),
        };
        part.map(fd, protection, shared, offset).map(drop)
    }

    pub(crate) fn trigger(&self, how: How, page: Page, frames: &[Page], again: u8) -> Answer<()> {
        let addresses: Vec<u64> = frames
            .iter()
            .map(|Upto(page)| Part::new(*page, 1).address() + 16 + u64::from(*page))
            .collect();
        let stack = Stack::new(&addresses);
        let part = Part::new(page.0, 1);
        let mut last = Ok(());
        for _ in 0..=again {
            last = match how {
                How::Syscall => stack.file_lock(self.files.text.as_fd()).map(drop),
                How::Signal => stack.signal().map(drop),
                How::Load => {
                    stack.load(part.address());
                    Ok(())
                }
                How::Store => {
                    stack.store(part);
                    Ok(())
                }
                How::Spin => {
                    stack.spin(20_000);
                    Ok(())
                }
                How::Yield => stack.sched_yield().map(drop),
                How::Sleep => stack.sleep().map(drop),
                How::Copy => part.copy_from(self.files.zero.as_fd()).map(drop),
            };
        }
        last
    }
}

/// A call about an element of a map, but for [`MapCall::Freeze`].
pub(super) fn element(
    map: &Map,
    process: Option<&OwnedFd>,
    which: MapCall,
    key: u8,
    how: u8,
) -> Answer<()> {
    let fd = map.fd.as_fd();
    // Keys of a task's storage are processes: this one, or none.
    let process = process.filter(|_| map.kind == MapKind::TaskStorage && key < 4);
    let key = process.map_or(u64::from(key), |process| process.as_raw_fd() as u64);
    let key = key.to_ne_bytes();
    let mut out = [0; 4096];
    let attributes = Attributes::default().fd(0, fd);
    let asked = match which {
        MapCall::Lookup => call::bpf(1, attributes.input(8, &key).output(16, &mut out), 32),
        MapCall::Update => {
            call::bpf(2, attributes.input(8, &key).input(16, &out).double(24, u64::from(how)), 32)
        }
        MapCall::Delete => call::bpf(3, attributes.input(8, &key), 32),
        MapCall::Next => call::bpf(4, attributes.input(8, &key).output(16, &mut out), 32),
        MapCall::Take => call::bpf(21, attributes.input(8, &key).output(16, &mut out), 32),
        MapCall::Freeze => return Err(GONE),
        MapCall::Batch => {
            let (mut position, mut keys) = ([0; 16], [0; 64]);
            let attributes = Attributes::default()
                .output(8, &mut position)
                .output(16, &mut keys)
                .output(24, &mut out)
                .word(32, 4)
                .fd(36, fd);
            call::bpf(24, attributes, 56)
        }
    };
    asked.map(drop)
}

fn ask(fd: BorrowedFd<'_>) -> Answer<()> {
    let mut info = [0; 256];
    let attributes = Attributes::default().fd(0, fd).word(4, 256).output(8, &mut info);
    call::bpf(15, attributes, 16).map(drop)
}

pub(super) fn advice_number(advice: Advice) -> i32 {
    match advice {
        Advice::DontNeed => libc::MADV_DONTNEED,
        Advice::WillNeed => libc::MADV_WILLNEED,
        Advice::Free => libc::MADV_FREE,
        Advice::Cold => libc::MADV_COLD,
        Advice::Huge => libc::MADV_HUGEPAGE,
        Advice::DontFork => libc::MADV_DONTFORK,
        Advice::PageOut => libc::MADV_PAGEOUT,
        Advice::Populate => libc::MADV_POPULATE_READ,
        Advice::Normal => libc::MADV_NORMAL,
        Advice::Random => libc::MADV_RANDOM,
        Advice::Sequential => libc::MADV_SEQUENTIAL,
        Advice::Remove => libc::MADV_REMOVE,
        Advice::DoFork => libc::MADV_DOFORK,
        Advice::DontDump => libc::MADV_DONTDUMP,
        Advice::DoDump => libc::MADV_DODUMP,
        Advice::WipeOnFork => libc::MADV_WIPEONFORK,
        Advice::KeepOnFork => libc::MADV_KEEPONFORK,
        Advice::PopulateWrite => libc::MADV_POPULATE_WRITE,
        Advice::DontNeedLocked => 24, // MADV_DONTNEED_LOCKED
    }
}
