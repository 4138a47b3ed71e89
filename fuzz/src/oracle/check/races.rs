// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two threads that make calls on the same things at the same time, over and over. What
//! comes of it is the kernel's to report.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::Stage;
use crate::engine::events::SET_OUTPUT;
use crate::engine::pool::Map;
use crate::op::step::{Body, Flaw, Step};
use crate::op::value::{Dice, Seeded, Upto, Value};
use crate::op::{MapFlags, MapKind, ProgKind};
use crate::sys::call::{self, Answer, Attributes, Region};
use crate::sys::puppet::fork_in_vain;
use crate::sys::yard::{PAGES, Stretch};

/// What two threads do; each side is called again and again.
pub(super) type Side = Box<dyn FnMut(&mut Seeded) + Send>;

/// Nanoseconds that a race takes.
const TAKES: u64 = 12_000_000;

fn software(config: u64) -> Attributes<'static> {
    Attributes::default().word(0, 1).word(4, 136).double(8, config)
}

/// Turns of the first side between which CPUs are held up by another seed.
const SEEDED: u32 = 16;

/// Two threads at perf events.
pub(super) fn events(stage: &mut Stage<'_>) -> Answer<()> {
    let (one, other): (Side, Side) = match stage.play.dice.below(6) {
        0 | 1 => {
            let cpu = stage.play.dice.below(2).cast_signed();
            (opens(cpu), opens(cpu))
        }
        2 | 3 => {
            let forks = Arc::new(AtomicU32::new(0));
            let own = forks.clone();
            let forking = Box::new(move |dice: &mut Seeded| {
                own.store(crate::sys::thread_id(), Ordering::Relaxed);
                fork_in_vain(dice.below(8) > 0);
            });
            (inherited(forks), forking)
        }
        4 => group()?,
        _ => buffer()?,
    };
    race(stage, one, other)
}

/// Two threads at a BPF map.
pub(super) fn maps(stage: &mut Stage<'_>) -> Answer<()> {
    if stage.play.dice.below(5) == 0 {
        return super::timers::two(stage);
    }
    let kinds = [MapKind::Hash, MapKind::LruHash, MapKind::PerCpuHash, MapKind::Queue];
    let kind = kinds[stage.play.dice.below(4) as usize];
    let flags = MapFlags {
        no_prealloc: kind == MapKind::Hash && stage.play.dice.below(2) == 0,
        ..MapFlags::default()
    };
    // One bucket, of which an element is not taken from a list with a lock of its own: with
    // more of either a program inside could take locks in the wrong order, and lockdep says
    // so on a kernel without a bug. Seldom, for to attach it patches code that both CPUs run
    // through all the time, and the emulator may keep a breakpoint of that.
    let inside = kind == MapKind::Hash && flags.no_prealloc && stage.play.dice.below(4) == 0;
    let order = if inside { 0 } else { u8::try_from(stage.play.dice.below(5)).unwrap_or(0) };
    let fd = Arc::new(stage.executor.pool.create(kind, flags, order)?);
    let map = Map { fd: fd.clone(), kind, pooled: false };
    let link = if inside { at_locks(stage, map).ok() } else { None };
    let answer = race(stage, elements(fd.clone()), elements(fd));
    stage.executor.detach(link);
    answer
}

/// Has a program change the map whenever a lock is about to be let go, those of the map among
/// them: the kernel has to notice that this CPU is at work there already. Without the lock
/// validator there are no such tracepoints, but one where a CPU begins to wait for a lock.
///
/// In this process only: of two workers with a map each, either would take its map's lock
/// while it holds the other's, which is a deadlock on any kernel.
fn at_locks(stage: &mut Stage<'_>, map: Map) -> Answer<OwnedFd> {
    let mut steps = Vec::new();
    for _ in 0..=stage.play.dice.below(3) {
        let key = Upto::roll(&mut stage.play.dice);
        steps.push(match stage.play.dice.below(3) {
            0 => Step::Delete { map: Upto(0), key },
            _ => Step::Update { map: Upto(0), key, how: Upto(0) },
        });
    }
    let program = stage.executor.load(ProgKind::RawTp, Flaw::Sound, vec![map], &Body(steps))?;
    let at = |place| stage.executor.attach(place, program.as_fd());
    at(c"lock_release").or_else(|_| at(c"contention_begin"))
}

/// Two threads at the same mappings.
pub(super) fn memory(stage: &mut Stage<'_>) -> Answer<()> {
    let (one, other) = mappings(stage);
    let answer = race(stage, one, other);
    // Whatever is locked there by now.
    let _ = Stretch::yard(0, PAGES).unmap();
    answer
}

/// Runs both sides for a while, the second in a thread of its own.
pub(super) fn race(stage: &mut Stage<'_>, mut one: Side, mut other: Side) -> Answer<()> {
    let end = Arc::new(AtomicBool::new(false));
    let ended = end.clone();
    let mut theirs = Seeded(u64::from(stage.play.dice.below(u32::MAX)));
    let mut ours = Seeded(u64::from(stage.play.dice.below(u32::MAX)));
    let thread = std::thread::Builder::new().name("racer".into()).spawn(move || {
        let _ = call::affinity(u64::MAX);
        while !ended.load(Ordering::Relaxed) {
            other(&mut theirs);
        }
    });
    let Ok(thread) = thread else { return Err(libc::EAGAIN) };
    let until = crate::sys::monotonic_ns() + TAKES;
    let mut turns = 0_u32;
    while crate::sys::monotonic_ns() < until {
        if turns.is_multiple_of(SEEDED) {
            // Where the kernel can be held up; the same points for a while.
            let _ = stage.executor.delay(1 + u64::from(ours.below(255)));
        }
        turns = turns.wrapping_add(1);
        one(&mut ours);
    }
    end.store(true, Ordering::Relaxed);
    thread.join().map_err(|_| libc::EDEADLK)
}

/// Opens and closes events of a CPU.
fn opens(cpu: i32) -> Side {
    Box::new(move |dice| {
        let config = [0, 1, 2, 9][dice.below(4) as usize];
        let _ = call::perf_event_open(&software(config), -1, cpu, None);
    })
}

/// Opens and closes groups of events that children of another thread inherit.
fn inherited(of: Arc<AtomicU32>) -> Side {
    Box::new(move |dice| {
        let attributes = software(9).double(40, 2);
        let thread = of.load(Ordering::Relaxed).cast_signed();
        if thread == 0 {
            return crate::sys::yield_now();
        }
        let mut events: Vec<OwnedFd> = Vec::new();
        // The more there are, the longer a child takes to let go of its copies, which is when
        // closing them gets in its way.
        for _ in 0..[1, 3, 6, 24][dice.below(4) as usize] {
            let group = if dice.below(2) == 0 { events.first() } else { None };
            let group = group.map(AsFd::as_fd);
            events.extend(call::perf_event_open(&attributes, thread, -1, group).ok());
        }
        let delay = dice.below(4) * 200;
        crate::sys::trigger::Stack::new(&[0x1000]).spin(u64::from(delay) + 1);
        drop(events);
    })
}

/// Reads a group while it changes.
fn group() -> Answer<(Side, Side)> {
    let attributes = software(9).double(32, 0xf);
    let leader = Arc::new(call::perf_event_open(&attributes, 0, -1, None)?);
    let read = leader.clone();
    let process = i32::try_from(std::process::id()).unwrap_or(0);
    Ok((
        Box::new(move |dice| {
            let mut events = Vec::new();
            for _ in 0..=dice.below(4) {
                let group = Some(leader.as_fd());
                events.extend(call::perf_event_open(&software(9), process, -1, group).ok());
            }
        }),
        Box::new(move |dice| {
            let mut memory = [0; 64];
            let _ = call::read_words(read.as_fd(), &mut memory);
            let request = [super::IOC_ENABLE, super::IOC_DISABLE][dice.below(2) as usize];
            let _ = call::ioctl(read.as_fd(), request, i64::from(dice.below(2)));
        }),
    ))
}

/// Maps a buffer that another event is told to write to.
fn buffer() -> Answer<(Side, Side)> {
    let open = || call::perf_event_open(&software(2).double(16, 1), 0, -1, None);
    let (a, b) = (Arc::new(open()?), open()?);
    let other = a.clone();
    Ok((
        Box::new(move |dice| {
            let pages = 1 + (1 << dice.below(3));
            let _ = Region::map(a.as_fd(), 4096 * pages, dice.below(2) == 0);
        }),
        Box::new(move |dice| {
            let into = if dice.below(3) == 0 { -1 } else { other.as_raw_fd().into() };
            let _ = call::ioctl(b.as_fd(), SET_OUTPUT, into);
            if dice.below(4) == 0 {
                let _ = Region::map(b.as_fd(), 4096 * 2, true);
            }
        }),
    ))
}

/// Changes elements of one map.
fn elements(map: Arc<OwnedFd>) -> Side {
    Box::new(move |dice| {
        let key = u64::from(dice.below(12)).to_ne_bytes();
        let (mut out, value) = ([0; 512], [7; 512]);
        let attributes = Attributes::default().fd(0, map.as_fd());
        let _ = match dice.below(6) {
            0 | 1 => call::bpf(2, attributes.input(8, &key).input(16, &value), 32),
            2 => call::bpf(3, attributes.input(8, &key), 32),
            3 => call::bpf(1, attributes.input(8, &key).output(16, &mut out), 32),
            4 => call::bpf(4, attributes.input(8, &key).output(16, &mut out), 32),
            _ => call::bpf(21, attributes.input(8, &key).output(16, &mut out), 32),
        };
    })
}

/// Changes mappings of the same pages.
fn mappings(stage: &mut Stage<'_>) -> (Side, Side) {
    let files = [stage.executor.files.a.clone(), stage.executor.files.b.clone()];
    let side = |file: Arc<OwnedFd>| -> Side {
        Box::new(move |dice| {
            let stretch = Stretch::yard(dice.below(8) as usize, 1 + dice.below(6) as usize);
            let _ = match dice.below(8) {
                0 | 1 => stretch.map(Some(file.as_fd()), 5, libc::MAP_PRIVATE, 1),
                2 => stretch.map(None, 3, libc::MAP_PRIVATE, 0),
                3 => stretch.unmap(),
                4 => stretch.protect([0, 1, 5][dice.below(3) as usize]),
                5 => stretch.lock(dice.below(2)),
                6 => stretch.advise(libc::MADV_DONTNEED),
                _ => stretch.unlock(),
            };
        })
    };
    let [a, b] = files;
    (side(a), side(b))
}
