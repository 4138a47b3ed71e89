// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mappings against a model of them, page by page; and ranges of many TiB, of which no
//! page is ever there, against what the process is said to have locked and mapped.

use std::os::fd::AsFd;

use super::{Play, Stage};
use crate::op::value::Dice;
use crate::sys::call::Answer;
use crate::sys::yard::{PAGE, PAGES, Pipe, Stretch};

const NONE: i32 = libc::PROT_NONE;
const READ: i32 = libc::PROT_READ;
const BOTH: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// What a page is mapped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Private,
    Shared,
    /// A file that was opened for reading only, shared: it may not become writable.
    ReadOnly,
}

/// A page that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Page {
    kind: Kind,
    protection: i32,
    locked: bool,
    /// What its first byte is, if that is known.
    byte: Option<u8>,
    /// Whether it is in memory, if that is known. Of a file's pages, and of shared ones, others
    /// may know more.
    there: Option<bool>,
}

impl Page {
    /// What is newly mapped. What is locked is filled at once, if it can be read.
    fn new(kind: Kind, protection: i32, locked: bool) -> Self {
        let there = (kind == Kind::Private).then_some(locked && protection != NONE);
        let byte = Some(if kind == Kind::ReadOnly { b'r' } else { 0 });
        Self { kind, protection, locked, byte, there }
    }

    /// The same with nothing in it.
    fn emptied(self) -> Self {
        match self.kind {
            Kind::Private => Self { byte: Some(0), there: Some(false), ..self },
            Kind::Shared | Kind::ReadOnly => self,
        }
    }

    /// The same after it was filled.
    fn filled(self) -> Self {
        Self { there: self.there.map(|_| true), ..self }
    }

    fn is_locked(slot: &Option<Self>) -> bool {
        slot.is_some_and(|page| page.locked)
    }

    fn is_private(slot: &Option<Self>) -> bool {
        slot.is_some_and(|page| page.kind == Kind::Private)
    }
}

type Yard = [Option<Page>; PAGES];

pub(super) fn run(stage: &mut Stage<'_>) -> Answer<()> {
    let play = &mut stage.play;
    match play.dice.below(8) {
        0 | 1 => field(play),
        2 => stack(play),
        _ => yard(play),
    }
}

/// A number of `/proc/self/status`, in KiB.
pub(super) fn status(word: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(word))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Pages that are locked, and that are mapped, of the whole process.
fn accounts() -> Option<(u64, u64)> {
    Some((status("VmLck:")?, status("VmSize:")?))
}

fn yard(play: &mut Play) -> Answer<()> {
    let pipe = Pipe::new()?;
    // A file that may not be written to, for a shared mapping of it.
    let path = format!("/tmp/read-only-{}", std::process::id());
    if !std::path::Path::new(&path).exists() {
        let _ = std::fs::write(&path, vec![b'r'; PAGES * PAGE]);
    }
    let file = std::fs::File::open(&path).map_err(|_| libc::ENOENT)?;
    let _ = Stretch::yard(0, PAGES).unmap();
    let Some(before) = accounts() else { return Err(libc::ENOENT) };
    let mut model: Yard = [None; PAGES];
    for _ in 0..8 + play.dice.below(24) {
        step(play, &mut model, &file, &pipe);
    }
    look(play, &model, &pipe);
    let count = |which: fn(&Page) -> bool| {
        model.iter().flatten().filter(|page| which(page)).count() as u64 * (PAGE as u64 / 1024)
    };
    let (locked, mapped) = (count(|page| page.locked), count(|_| true));
    if let Some(after) = accounts() {
        compare(play, "locked", before.0, after.0, locked);
        // Other threads map stacks of their own now and then.
        let now = after.1.wrapping_sub(before.1);
        if now != mapped && accounts().is_some_and(|again| again.1 == after.1) {
            let retry = accounts().map(|again| again.1.wrapping_sub(before.1));
            if retry.is_some_and(|more| more < mapped) {
                play.wrong(format!("{mapped} KiB are mapped, and VmSize grew by {now}"));
            }
        }
    }
    let _ = Stretch::yard(0, PAGES).unmap();
    if let Some(after) = accounts() {
        compare(play, "locked when all is unmapped", before.0, after.0, 0);
    }
    Ok(())
}

/// What the process has locked, against what it should have.
fn compare(play: &mut Play, what: &str, before: u64, after: u64, right: u64) {
    let now = after.wrapping_sub(before);
    if now != right {
        play.wrong(format!("{right} KiB are {what}, and VmLck grew by {}", now.cast_signed()));
    }
}

fn range(play: &mut Play) -> (usize, usize) {
    let page = play.dice.below(PAGES as u32) as usize;
    let pages = 1 + play.dice.below(8) as usize;
    (page, pages.min(PAGES - page))
}

fn step(play: &mut Play, model: &mut Yard, file: &std::fs::File, pipe: &Pipe) {
    let (page, pages) = range(play);
    let stretch = Stretch::yard(page, pages);
    match play.dice.below(24) {
        0..=3 => {
            let kind = [Kind::Private, Kind::Private, Kind::Shared, Kind::ReadOnly]
                [play.dice.below(4) as usize];
            let protection = match kind {
                Kind::ReadOnly => READ,
                Kind::Private | Kind::Shared => {
                    [BOTH, BOTH, READ, NONE][play.dice.below(4) as usize]
                }
            };
            let locked = play.dice.below(6) == 0;
            let flags = match kind {
                Kind::Private => libc::MAP_PRIVATE,
                Kind::Shared | Kind::ReadOnly => libc::MAP_SHARED,
            } | if locked { libc::MAP_LOCKED } else { 0 };
            let fd = (kind == Kind::ReadOnly).then(|| file.as_fd());
            let answer = stretch.map(fd, protection, flags, 0);
            promised(play, "mmap", page, pages, &answer.map(drop), Ok(()));
            if answer.is_ok() {
                set(model, page, pages, |_| Some(Page::new(kind, protection, locked)));
            }
        }
        4 => {
            let answer = stretch.unmap().map(drop);
            promised(play, "munmap", page, pages, &answer, Ok(()));
            if answer.is_ok() {
                set(model, page, pages, |_| None);
            }
        }
        5..=7 => {
            let protection = [BOTH, READ, NONE, BOTH][play.dice.below(4) as usize];
            let answer = stretch.protect(protection).map(drop);
            // The first page that cannot be: what comes before it is done.
            let refusal = |page: &Option<Page>| match page {
                None => Some(libc::ENOMEM),
                Some(page) if page.kind == Kind::ReadOnly && protection == BOTH => {
                    Some(libc::EACCES)
                }
                Some(_) => None,
            };
            let slots = model.get(page..page + pages).unwrap_or_default();
            let first = slots.iter().position(|slot| refusal(slot).is_some());
            let right = first.and_then(|at| refusal(slots.get(at)?)).map_or(Ok(()), Err);
            promised(play, "mprotect", page, pages, &answer, right);
            let done = match (&answer, first) {
                (Ok(()), _) => pages,
                (Err(_), Some(first)) => first,
                (Err(_), None) => 0,
            };
            set(model, page, done, |old| {
                // What is locked may be filled when it is to be written to.
                old.map(|old| Page { protection, there: old.there.filter(|_| !old.locked), ..old })
            });
        }
        8 | 9 => {
            // MLOCK_ONFAULT, or not: then a page that cannot be read is an error.
            let on_fault = play.dice.below(2);
            let answer = stretch.lock(on_fault).map(drop);
            let slots = model.get(page..page + pages).unwrap_or_default();
            let hole = slots.iter().position(Option::is_none);
            let unreadable = slots.iter().flatten().any(|page| page.protection == NONE);
            let right = if hole.is_some() || (on_fault == 0 && unreadable) {
                Err(libc::ENOMEM)
            } else {
                Ok(())
            };
            promised(play, "mlock2", page, pages, &answer, right);
            let filled = answer.is_ok() && on_fault == 0;
            set(model, page, hole.unwrap_or(pages), |old| {
                let old = old.map(|old| Page { locked: true, ..old });
                match on_fault {
                    // Filled up to what cannot be.
                    0 if !filled => old.map(|old| Page { there: None, ..old }),
                    0 => old.map(Page::filled),
                    _ => old,
                }
            });
        }
        10 => {
            let answer = stretch.unlock().map(drop);
            let slots = model.get(page..page + pages).unwrap_or_default();
            let hole = slots.iter().position(Option::is_none);
            let right = if hole.is_some() { Err(libc::ENOMEM) } else { Ok(()) };
            promised(play, "munlock", page, pages, &answer, right);
            set(model, page, hole.unwrap_or(pages), |old| {
                old.map(|old| Page { locked: false, ..old })
            });
        }
        11 => {
            // Private pages that are not locked are zero again.
            let slots = model.get(page..page + pages).unwrap_or_default();
            let locked = slots.iter().flatten().any(|page| page.locked);
            let hole = slots.iter().any(Option::is_none);
            let answer = stretch.advise(libc::MADV_DONTNEED).map(drop);
            let right = match (locked, hole) {
                (true, true) => return forget(model, page, pages),
                (true, false) => Err(libc::EINVAL),
                (false, true) => Err(libc::ENOMEM),
                (false, false) => Ok(()),
            };
            promised(play, "madvise(MADV_DONTNEED)", page, pages, &answer, right);
            if locked {
                return forget(model, page, pages);
            }
            set(model, page, pages, |old| old.map(Page::emptied));
        }
        12 => resident(play, model, page, pages),
        13 => moved(play, model, page, pages),
        14 | 15 => refused(play, model, file, page, pages),
        16 => grown(play, model, page),
        17 | 18 => advised(play, model, page, pages),
        19 => synced(play, model, page, pages),
        _ => poke(play, model, page, pipe),
    }
}

fn poke(play: &mut Play, model: &mut Yard, page: usize, pipe: &Pipe) {
    let byte = 1 + play.dice.below(250) as u8;
    let answer = Stretch::yard(page, 1).poke(pipe, byte);
    let writable = model
        .get(page)
        .copied()
        .flatten()
        .is_some_and(|page| page.protection == BOTH && page.kind != Kind::ReadOnly);
    let right = if writable { Ok(()) } else { Err(libc::EFAULT) };
    promised(play, "a write", page, 1, &answer, right);
    if answer.is_ok() {
        set(model, page, 1, |old| old.map(|old| Page { byte: Some(byte), ..old.filled() }));
    }
}

/// Which pages are in memory.
fn resident(play: &mut Play, model: &Yard, page: usize, pages: usize) {
    let slots = model.get(page..page + pages).unwrap_or_default();
    let answer = Stretch::yard(page, pages).in_core();
    let right = if slots.iter().all(Option::is_some) { Ok(()) } else { Err(libc::ENOMEM) };
    promised(play, "mincore", page, pages, &answer.as_ref().map(|_| ()).map_err(|e| *e), right);
    for (at, (slot, told)) in slots.iter().zip(answer.unwrap_or_default()).enumerate() {
        let right = slot.and_then(|slot| slot.there);
        if right.is_some_and(|right| right != (told & 1 == 1)) {
            play.wrong(format!("page {} is {slot:?}, and mincore answers {told}", page + at));
        }
    }
}

/// Mappings that are refused, and what is there stays as it is; or that are not.
fn refused(play: &mut Play, model: &mut Yard, file: &std::fs::File, page: usize, pages: usize) {
    let stretch = Stretch::yard(page, pages);
    let free = model.iter().skip(page).take(pages).all(Option::is_none);
    let file = Some(file.as_fd());
    let validate = libc::MAP_SHARED_VALIDATE;
    let (what, answer, right, kind) = match play.dice.below(8) {
        0..=3 => {
            let flags = libc::MAP_PRIVATE | libc::MAP_FIXED_NOREPLACE;
            let right = if free { Ok(()) } else { Err(libc::EEXIST) };
            let answer = stretch.map(None, BOTH, flags, 0);
            ("mmap that replaces nothing", answer, right, Kind::Private)
        }
        4 => {
            let answer = stretch.map(None, READ, validate, 0);
            ("mmap of nothing, validated", answer, Err(libc::EINVAL), Kind::Shared)
        }
        5 => {
            const UNKNOWN: i32 = 0x40_0000;
            let answer = stretch.map(file, READ, validate | UNKNOWN, 0);
            ("mmap with an unknown flag, validated", answer, Err(libc::EOPNOTSUPP), Kind::ReadOnly)
        }
        6 => {
            let answer = stretch.map(file, BOTH, libc::MAP_SHARED, 0);
            let what = "mmap to write to what may only be read";
            (what, answer, Err(libc::EACCES), Kind::ReadOnly)
        }
        _ => {
            let answer = stretch.map(file, READ, validate, 0);
            ("mmap, validated", answer, Ok(()), Kind::ReadOnly)
        }
    };
    promised(play, what, page, pages, &answer.map(drop), right);
    if answer.is_ok() {
        let protection = if kind == Kind::Private { BOTH } else { READ };
        set(model, page, pages, |_| Some(Page::new(kind, protection, false)));
    }
}

/// A mapping's last page grows, if there is room behind it.
fn grown(play: &mut Play, model: &mut Yard, page: usize) {
    let more = 1 + play.dice.below(3) as usize;
    let old = match model.get(page).copied().flatten() {
        // Behind a shared object's end there is nothing to be read.
        Some(old) if old.kind != Kind::Private => return,
        old => old,
    };
    let behind = model.get(page + 1..page + 1 + more);
    let right = match (old, behind) {
        // Not beyond the yard.
        (_, None) => return,
        (None, _) => Err(libc::EFAULT),
        (Some(_), Some(behind)) if behind.iter().all(Option::is_none) => Ok(()),
        (Some(_), Some(_)) => Err(libc::ENOMEM),
    };
    let answer = Stretch::yard(page, 1).resize((1 + more) * PAGE).map(drop);
    promised(play, "mremap to more, from the first", page, 1 + more, &answer, right);
    if let (Ok(()), Some(old)) = (answer, old) {
        let new = Page::new(Kind::Private, old.protection, old.locked);
        // Whether it was to be filled when it is touched only is not known.
        let there = new.there.filter(|_| !old.locked);
        set(model, page + 1, more, |_| Some(Page { there, ..new }));
    }
}

/// What may be advised of which pages. A mapping that it may not be advised of ends it; a hole
/// is passed over, and told in the end.
fn advised(play: &mut Play, model: &mut Yard, page: usize, pages: usize) {
    let stretch = Stretch::yard(page, pages);
    let slots: Vec<Option<Page>> = model.get(page..page + pages).unwrap_or_default().to_vec();
    let hole = slots.iter().any(Option::is_none);
    let choice = play.dice.below(8);
    if matches!(choice, 4 | 5) {
        return populated(play, model, page, pages, choice == 4);
    }
    let (advice, bad): (i32, fn(&Option<Page>) -> bool) = match choice {
        0 | 1 => (libc::MADV_DONTNEED_LOCKED, |_| false),
        2 => (libc::MADV_COLD, Page::is_locked),
        3 => (libc::MADV_FREE, |slot| {
            slot.is_some() && (Page::is_locked(slot) || !Page::is_private(slot))
        }),
        6 => (libc::MADV_WIPEONFORK, |slot| slot.is_some() && !Page::is_private(slot)),
        _ => (99, |_| true),
    };
    let first = slots.iter().position(bad);
    let answer = stretch.advise(advice).map(drop);
    let right = match (first, hole) {
        (Some(_), _) => Err(libc::EINVAL),
        (None, true) => Err(libc::ENOMEM),
        (None, false) => Ok(()),
    };
    promised(play, &format!("madvise({advice})"), page, pages, &answer, right);
    let done = first.unwrap_or(pages);
    match advice {
        libc::MADV_DONTNEED_LOCKED => {
            set(model, page, done, |old| old.map(Page::emptied));
        }
        libc::MADV_FREE => set(model, page, done, |old| {
            // It may be gone, and it may still be there.
            old.map(|old| Page { byte: old.byte.filter(|byte| *byte == 0), there: None, ..old })
        }),
        _ => {}
    }
}

/// Fills pages, as if they were read or written to, up to the first that cannot be.
fn populated(play: &mut Play, model: &mut Yard, page: usize, pages: usize, write: bool) {
    let refusal = |slot: &Option<Page>| match slot {
        None => Some(libc::ENOMEM),
        Some(page) if page.protection == NONE => Some(libc::EINVAL),
        Some(page) if write && page.protection != BOTH => Some(libc::EINVAL),
        Some(_) => None,
    };
    let slots = model.get(page..page + pages).unwrap_or_default();
    let first = slots.iter().position(|slot| refusal(slot).is_some());
    let right = first.and_then(|at| refusal(slots.get(at)?)).map_or(Ok(()), Err);
    let advice = if write { libc::MADV_POPULATE_WRITE } else { libc::MADV_POPULATE_READ };
    let answer = Stretch::yard(page, pages).advise(advice).map(drop);
    promised(play, &format!("madvise({advice})"), page, pages, &answer, right);
    let done = if answer == right { first.unwrap_or(pages) } else { 0 };
    set(model, page, done, |old| old.map(Page::filled));
}

/// What msync(2) refuses.
fn synced(play: &mut Play, model: &Yard, page: usize, pages: usize) {
    const UNKNOWN: i32 = 8;
    let slots = model.get(page..page + pages).unwrap_or_default();
    let hole = slots.iter().any(Option::is_none);
    let flags = [
        libc::MS_ASYNC,
        libc::MS_SYNC,
        libc::MS_INVALIDATE,
        libc::MS_ASYNC | libc::MS_SYNC,
        libc::MS_SYNC | UNKNOWN,
    ][play.dice.below(5) as usize];
    let locked = flags == libc::MS_INVALIDATE && slots.iter().any(Page::is_locked);
    let right = match flags {
        libc::MS_ASYNC | libc::MS_SYNC | libc::MS_INVALIDATE if locked => Err(libc::EBUSY),
        libc::MS_ASYNC | libc::MS_SYNC | libc::MS_INVALIDATE if hole => Err(libc::ENOMEM),
        libc::MS_ASYNC | libc::MS_SYNC | libc::MS_INVALIDATE => Ok(()),
        _ => Err(libc::EINVAL),
    };
    let answer = Stretch::yard(page, pages).sync(flags).map(drop);
    promised(play, &format!("msync({flags:#x})"), page, pages, &answer, right);
}

/// Moves pages of one mapping somewhere else, with or without a hole left behind.
fn moved(play: &mut Play, model: &mut Yard, page: usize, pages: usize) {
    let to = play.dice.below((PAGES - pages + 1) as u32) as usize;
    let apart = to + pages <= page || page + pages <= to;
    let slots: Vec<Option<Page>> = model.get(page..page + pages).unwrap_or_default().to_vec();
    // Where mappings begin and end is not in the model: one page is of one mapping.
    let (pages, slots) =
        if apart { (1, slots.get(..1).unwrap_or_default().to_vec()) } else { (pages, slots) };
    // Of shared memory both places would be the same page from then on.
    let shared = slots.iter().flatten().any(|page| page.kind == Kind::Shared);
    let keep = play.dice.below(4) == 0 && !shared;
    let flags = if keep { libc::MREMAP_DONTUNMAP } else { 0 };
    let answer = Stretch::yard(page, pages).move_to(Stretch::yard(to, pages), flags).map(drop);
    let right = match slots.first().copied().flatten() {
        // Which of two errors comes first is not promised.
        None if !apart => answer,
        None => Err(libc::EFAULT),
        Some(_) if !apart => Err(libc::EINVAL),
        Some(_) => Ok(()),
    };
    promised(play, "mremap", page, pages, &answer, right);
    match (&answer, slots.first().copied().flatten()) {
        (Ok(()), Some(old)) => {
            set(model, to, 1, |_| Some(old));
            set(model, page, 1, |_| {
                // What stays is empty, and no longer locked.
                keep.then_some(Page { locked: false, ..old.emptied() })
            });
        }
        // Whether the place was cleared before it failed is not known.
        (Err(_), _) if apart => forget_mapping(model, to, pages),
        _ => {}
    }
}

/// The destination of a move that failed may be unmapped: asks.
fn forget_mapping(model: &mut Yard, page: usize, pages: usize) {
    for at in page..page + pages {
        let there = Stretch::yard(at, 1).in_core().is_ok();
        if !there {
            set(model, at, 1, |_| None);
        }
    }
}

/// What pages hold is no longer known.
fn forget(model: &mut Yard, page: usize, pages: usize) {
    set(model, page, pages, |old| {
        old.map(|old| match old.kind {
            Kind::Private => Page { byte: None, there: None, ..old },
            Kind::Shared | Kind::ReadOnly => old,
        })
    });
}

fn set(model: &mut Yard, page: usize, pages: usize, what: impl Fn(Option<Page>) -> Option<Page>) {
    for slot in model.iter_mut().skip(page).take(pages) {
        *slot = what(*slot);
    }
}

fn promised(
    play: &mut Play,
    call: &str,
    page: usize,
    pages: usize,
    answer: &Answer<()>,
    right: Answer<()>,
) {
    // Memory that runs out is no answer about the range.
    if matches!(answer, Err(libc::EAGAIN | libc::EINTR)) {
        return;
    }
    if *answer != right {
        play.wrong(format!("{call} of pages {page}+{pages}: {answer:?} and not {right:?}"));
    }
}

/// What each page holds, and whether it can be read.
fn look(play: &mut Play, model: &Yard, pipe: &Pipe) {
    for (at, page) in model.iter().enumerate() {
        let answer = Stretch::yard(at, 1).peek(pipe);
        match (page, &answer) {
            (Some(page), Ok(byte)) if page.protection & READ != 0 => {
                if page.byte.is_some_and(|right| right != *byte) {
                    let right = page.byte.unwrap_or(0);
                    play.wrong(format!("page {at} ({page:?}) holds {byte} and not {right}"));
                }
            }
            (Some(page), Err(_)) if page.protection & READ == 0 => {}
            (None, Err(_)) => {}
            _ => play.wrong(format!("page {at} is {page:?}, and reading it answers {answer:?}")),
        }
    }
}

/// A mapping that grows down when what is below it is touched, unless another one is near
/// (Documentation/admin-guide/kernel-parameters.txt, stack_guard_gap).
fn stack(play: &mut Play) -> Answer<()> {
    const GUARD: usize = 256;
    const TOP: usize = 2048;
    let pipe = Pipe::new()?;
    let all = Stretch::field((TOP + 8) * PAGE);
    let pages = |from: usize, count: usize| all.part(from * PAGE, count * PAGE);
    all.unmap()?;
    let Some(before) = status("VmLck:") else { return Err(libc::ENOENT) };
    let locked = play.dice.below(2) == 0;
    let flags = libc::MAP_PRIVATE | libc::MAP_GROWSDOWN | if locked { libc::MAP_LOCKED } else { 0 };
    pages(TOP, 4).map(None, BOTH, flags, 0)?;
    let mut bottom = TOP;
    // What is below, of which the last page is this one, and whether it can be touched.
    let blocker = (play.dice.below(2) == 0).then(|| {
        let last = TOP - 1 - GUARD - play.dice.below(200) as usize;
        (last, play.dice.below(3) > 0)
    });
    if let Some((last, accessible)) = blocker {
        let protection = if accessible { READ } else { NONE };
        pages(last, 1).map(None, protection, libc::MAP_PRIVATE, 0)?;
    }
    for _ in 0..2 + play.dice.below(5) {
        let page = bottom - 1 - (play.dice.below(100) as usize).min(bottom - 1 - TOP / 2);
        let room = match blocker {
            Some((last, _)) if page <= last => continue,
            Some((last, true)) => page - last > GUARD,
            _ => true,
        };
        let answer = if play.dice.below(2) == 0 {
            pages(page, 1).poke(&pipe, 7)
        } else {
            pages(page, 1).peek(&pipe).map(drop)
        };
        let right = if room { Ok(()) } else { Err(libc::EFAULT) };
        let what = format!("{} pages below what grows down, {blocker:?} below", TOP - page);
        promised(play, &what, page, 1, &answer, right);
        if answer.is_ok() {
            bottom = page;
        }
        let there = pages(bottom, 1).in_core().is_ok();
        let below = blocker.is_none_or(|(last, _)| last + 1 < bottom)
            && pages(bottom - 1, 1).in_core().is_ok();
        if !there || below {
            play.wrong(format!("what grows down does not begin {} pages down", TOP - bottom));
        }
        locks(play, before, if locked { (TOP + 4 - bottom) * PAGE } else { 0 });
    }
    let _ = all.unmap();
    locks(play, before, 0);
    Ok(())
}

/// A mapping of many TiB.
fn field(play: &mut Play) -> Answer<()> {
    let sizes: [usize; 8] =
        [1 << 30, 1 << 36, 1 << 40, 4 << 40, 8 << 40, 16 << 40, 24 << 40, 32 << 40];
    let size = sizes[play.dice.below(8) as usize];
    let all = Stretch::field(size);
    let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    let Some(before) = accounts() else { return Err(libc::ENOENT) };
    all.map(None, NONE, flags, 0)?;
    let kib = |length: usize| length as u64 / 1024;
    let mapped = accounts().map(|now| now.1.wrapping_sub(before.1));
    // Other threads' stacks come and go by less than this.
    const OTHERS: u64 = 1 << 20;
    if mapped.is_some_and(|grew| grew.wrapping_add(OTHERS / 2).wrapping_sub(kib(size)) > OTHERS) {
        play.wrong(format!("{} KiB were mapped, and VmSize grew by {mapped:?}", kib(size)));
    }
    let mut locked = 0_usize;
    if all.lock(1).is_ok() {
        locked = size;
        locks(play, before.0, locked);
    }
    // A part of it is let go.
    if locked > 0 {
        let part = all.part(0, size / [2, 4, 8][play.dice.below(3) as usize]);
        let answer = match play.dice.below(3) {
            0 => part.unlock(),
            1 => part.unmap(),
            _ => part.map(None, NONE, flags, 0),
        };
        if answer.is_ok() {
            locked -= part.length();
            locks(play, before.0, locked);
        }
    }
    if play.dice.below(2) == 0 {
        let _ = all.protect(READ);
    }
    let _ = all.unmap();
    locks(play, before.0, 0);
    Ok(())
}

fn locks(play: &mut Play, before: u64, locked: usize) {
    if let Some(now) = status("VmLck:") {
        compare(play, "locked", before, now, locked as u64 / 1024);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::check::plays;

    /// The kernel that this runs on is right about each of them.
    #[test]
    fn this_kernel_is_right() {
        let both: [fn(&mut Play) -> Answer<()>; 2] = [yard, stack];
        for (seed, mut play) in plays("memory", 0..600_u16) {
            let answer = both[usize::from(seed % 2)](&mut play);
            // Other tests map what they like. And 6.18.44 forgets that pages are locked, and
            // counts others twice, where MREMAP_DONTUNMAP moves a part of a mapping; 6.12.117
            // splits it first.
            let known = |what: &String| what.contains("grew by") || what.contains("msync");
            let wrong = play.wrong.filter(|what| !known(what));
            assert_eq!((answer, wrong), (Ok(()), None), "{seed}");
        }
    }

    /// Steps that fail halfway change what comes before, and no more.
    #[test]
    fn pages_are_set_in_their_range() {
        let page = Page { byte: Some(3), ..Page::new(Kind::Private, BOTH, true) };
        let mut model: Yard = [None; PAGES];
        set(&mut model, 30, 9, |_| Some(page));
        assert_eq!(model.iter().flatten().count(), 2);
        forget(&mut model, 31, 1);
        assert_eq!((model[30], model[31].unwrap().byte), (Some(page), None));
    }
}
