// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mappings against a model of them, page by page; and ranges of many TiB, of which no
//! page is ever there, against what the process is said to have locked and mapped.

use std::os::fd::AsFd;

use super::Stage;
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
}

type Yard = [Option<Page>; PAGES];

pub(super) fn run(stage: &mut Stage<'_>) -> Answer<()> {
    if stage.play.dice.below(4) == 0 { field(stage) } else { yard(stage) }
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

fn yard(stage: &mut Stage<'_>) -> Answer<()> {
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
    for _ in 0..8 + stage.play.dice.below(24) {
        step(stage, &mut model, &file, &pipe);
    }
    look(stage, &model, &pipe);
    let count = |which: fn(&Page) -> bool| {
        model.iter().flatten().filter(|page| which(page)).count() as u64 * (PAGE as u64 / 1024)
    };
    let (locked, mapped) = (count(|page| page.locked), count(|_| true));
    if let Some(after) = accounts() {
        compare(stage, "locked", before.0, after.0, locked);
        // Other threads map stacks of their own now and then.
        let now = after.1.wrapping_sub(before.1);
        if now != mapped && accounts().is_some_and(|again| again.1 == after.1) {
            let retry = accounts().map(|again| again.1.wrapping_sub(before.1));
            if retry.is_some_and(|more| more < mapped) {
                stage.wrong(format!("{mapped} KiB are mapped, and VmSize grew by {now}"));
            }
        }
    }
    let _ = Stretch::yard(0, PAGES).unmap();
    if let Some(after) = accounts() {
        compare(stage, "locked when all is unmapped", before.0, after.0, 0);
    }
    Ok(())
}

/// What the process has locked, against what it should have.
fn compare(stage: &mut Stage<'_>, what: &str, before: u64, after: u64, right: u64) {
    let now = after.wrapping_sub(before);
    if now != right {
        stage.wrong(format!("{right} KiB are {what}, and VmLck grew by {}", now.cast_signed()));
    }
}

fn range(stage: &mut Stage<'_>) -> (usize, usize) {
    let page = stage.play.dice.below(PAGES as u32) as usize;
    let pages = 1 + stage.play.dice.below(8) as usize;
    (page, pages.min(PAGES - page))
}

fn step(stage: &mut Stage<'_>, model: &mut Yard, file: &std::fs::File, pipe: &Pipe) {
    let (page, pages) = range(stage);
    let stretch = Stretch::yard(page, pages);
    let what = stage.play.dice.below(16);
    match what {
        0..=3 => {
            let kind = [Kind::Private, Kind::Private, Kind::Shared, Kind::ReadOnly]
                [stage.play.dice.below(4) as usize];
            let protection = match kind {
                Kind::ReadOnly => READ,
                Kind::Private | Kind::Shared => {
                    [BOTH, BOTH, READ, NONE][stage.play.dice.below(4) as usize]
                }
            };
            let locked = stage.play.dice.below(6) == 0;
            let flags = match kind {
                Kind::Private => libc::MAP_PRIVATE,
                Kind::Shared | Kind::ReadOnly => libc::MAP_SHARED,
            } | if locked { libc::MAP_LOCKED } else { 0 };
            let fd = (kind == Kind::ReadOnly).then(|| file.as_fd());
            let answer = stretch.map(fd, protection, flags, 0);
            promised(stage, "mmap", page, pages, &answer.map(drop), Ok(()));
            if answer.is_ok() {
                let byte = Some(if kind == Kind::ReadOnly { b'r' } else { 0 });
                set(model, page, pages, |_| Some(Page { kind, protection, locked, byte }));
            }
        }
        4 => {
            let answer = stretch.unmap().map(drop);
            promised(stage, "munmap", page, pages, &answer, Ok(()));
            if answer.is_ok() {
                set(model, page, pages, |_| None);
            }
        }
        5..=7 => {
            let protection = [BOTH, READ, NONE, BOTH][stage.play.dice.below(4) as usize];
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
            promised(stage, "mprotect", page, pages, &answer, right);
            let done = match (&answer, first) {
                (Ok(()), _) => pages,
                (Err(_), Some(first)) => first,
                (Err(_), None) => 0,
            };
            set(model, page, done, |old| old.map(|old| Page { protection, ..old }));
        }
        8 | 9 => {
            // MLOCK_ONFAULT, or not: then a page that cannot be read is an error.
            let on_fault = stage.play.dice.below(2);
            let answer = stretch.lock(on_fault).map(drop);
            let slots = model.get(page..page + pages).unwrap_or_default();
            let hole = slots.iter().position(Option::is_none);
            let unreadable = slots.iter().flatten().any(|page| page.protection == NONE);
            let right = if hole.is_some() || (on_fault == 0 && unreadable) {
                Err(libc::ENOMEM)
            } else {
                Ok(())
            };
            promised(stage, "mlock2", page, pages, &answer, right);
            set(model, page, hole.unwrap_or(pages), |old| {
                old.map(|old| Page { locked: true, ..old })
            });
        }
        10 => {
            let answer = stretch.unlock().map(drop);
            let slots = model.get(page..page + pages).unwrap_or_default();
            let hole = slots.iter().position(Option::is_none);
            let right = if hole.is_some() { Err(libc::ENOMEM) } else { Ok(()) };
            promised(stage, "munlock", page, pages, &answer, right);
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
            promised(stage, "madvise(MADV_DONTNEED)", page, pages, &answer, right);
            if locked {
                return forget(model, page, pages);
            }
            set(model, page, pages, |old| {
                old.map(|old| match old.kind {
                    Kind::Private => Page { byte: Some(0), ..old },
                    Kind::Shared | Kind::ReadOnly => old,
                })
            });
        }
        12 => {
            let slots = model.get(page..page + pages).unwrap_or_default();
            let right = if slots.iter().all(Option::is_some) { Ok(()) } else { Err(libc::ENOMEM) };
            let answer = if stage.play.dice.below(2) == 0 {
                stretch.in_core().map(drop)
            } else {
                stretch.sync(libc::MS_ASYNC).map(drop)
            };
            promised(stage, "mincore or msync", page, pages, &answer, right);
        }
        13 => moved(stage, model, page, pages),
        _ => poke(stage, model, page, pipe),
    }
}

fn poke(stage: &mut Stage<'_>, model: &mut Yard, page: usize, pipe: &Pipe) {
    let byte = 1 + stage.play.dice.below(250) as u8;
    let answer = Stretch::yard(page, 1).poke(pipe, byte);
    let writable = model
        .get(page)
        .copied()
        .flatten()
        .is_some_and(|page| page.protection == BOTH && page.kind != Kind::ReadOnly);
    let right = if writable { Ok(()) } else { Err(libc::EFAULT) };
    promised(stage, "a write", page, 1, &answer, right);
    if answer.is_ok() {
        set(model, page, 1, |old| old.map(|old| Page { byte: Some(byte), ..old }));
    }
}

/// Moves pages of one mapping somewhere else, with or without a hole left behind.
fn moved(stage: &mut Stage<'_>, model: &mut Yard, page: usize, pages: usize) {
    let to = stage.play.dice.below((PAGES - pages + 1) as u32) as usize;
    let apart = to + pages <= page || page + pages <= to;
    let slots: Vec<Option<Page>> = model.get(page..page + pages).unwrap_or_default().to_vec();
    // Where mappings begin and end is not in the model: one page is of one mapping.
    let (pages, slots) =
        if apart { (1, slots.get(..1).unwrap_or_default().to_vec()) } else { (pages, slots) };
    let keep = stage.play.dice.below(4) == 0;
    let flags = if keep { libc::MREMAP_DONTUNMAP } else { 0 };
    let answer = Stretch::yard(page, pages).move_to(Stretch::yard(to, pages), flags).map(drop);
    let right = match slots.first().copied().flatten() {
        // Which of two errors comes first is not promised.
        None if !apart => answer,
        None => Err(libc::EFAULT),
        Some(_) if !apart => Err(libc::EINVAL),
        Some(_) => Ok(()),
    };
    promised(stage, "mremap", page, pages, &answer, right);
    match (&answer, slots.first().copied().flatten()) {
        (Ok(()), Some(old)) => {
            set(model, to, 1, |_| Some(old));
            set(model, page, 1, |_| {
                // What stays is empty, and no longer locked.
                keep.then_some(Page {
                    locked: false,
                    byte: (old.kind == Kind::Private).then_some(0).or(old.byte),
                    ..old
                })
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
            Kind::Private => Page { byte: None, ..old },
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
    stage: &mut Stage<'_>,
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
        stage.wrong(format!("{call} of pages {page}+{pages}: {answer:?} and not {right:?}"));
    }
}

/// What each page holds, and whether it can be read.
fn look(stage: &mut Stage<'_>, model: &Yard, pipe: &Pipe) {
    for (at, page) in model.iter().enumerate() {
        let answer = Stretch::yard(at, 1).peek(pipe);
        match (page, &answer) {
            (Some(page), Ok(byte)) if page.protection & READ != 0 => {
                if page.byte.is_some_and(|right| right != *byte) {
                    let right = page.byte.unwrap_or(0);
                    stage.wrong(format!("page {at} ({page:?}) holds {byte} and not {right}"));
                }
            }
            (Some(page), Err(_)) if page.protection & READ == 0 => {}
            (None, Err(_)) => {}
            _ => stage.wrong(format!("page {at} is {page:?}, and reading it answers {answer:?}")),
        }
    }
}

/// A mapping of many TiB.
fn field(stage: &mut Stage<'_>) -> Answer<()> {
    let sizes: [usize; 8] =
        [1 << 30, 1 << 36, 1 << 40, 4 << 40, 8 << 40, 16 << 40, 24 << 40, 32 << 40];
    let size = sizes[stage.play.dice.below(8) as usize];
    let all = Stretch::field(size);
    let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    let Some(before) = accounts() else { return Err(libc::ENOENT) };
    all.map(None, NONE, flags, 0)?;
    let kib = |length: usize| length as u64 / 1024;
    let mapped = accounts().map(|now| now.1.wrapping_sub(before.1));
    // Other threads' stacks come and go by less than this.
    const OTHERS: u64 = 1 << 20;
    if mapped.is_some_and(|grew| grew.wrapping_add(OTHERS / 2).wrapping_sub(kib(size)) > OTHERS) {
        stage.wrong(format!("{} KiB were mapped, and VmSize grew by {mapped:?}", kib(size)));
    }
    let mut locked = 0_usize;
    if all.lock(1).is_ok() {
        locked = size;
        locks(stage, before.0, locked);
    }
    // A part of it is let go.
    if locked > 0 {
        let part = all.part(0, size / [2, 4, 8][stage.play.dice.below(3) as usize]);
        let answer = match stage.play.dice.below(3) {
            0 => part.unlock(),
            1 => part.unmap(),
            _ => part.map(None, NONE, flags, 0),
        };
        if answer.is_ok() {
            locked -= part.length();
            locks(stage, before.0, locked);
        }
    }
    if stage.play.dice.below(2) == 0 {
        let _ = all.protect(READ);
    }
    let _ = all.unmap();
    locks(stage, before.0, 0);
    Ok(())
}

fn locks(stage: &mut Stage<'_>, before: u64, locked: usize) {
    if let Some(now) = status("VmLck:") {
        compare(stage, "locked", before, now, locked as u64 / 1024);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps that fail halfway change what comes before, and no more.
    #[test]
    fn pages_are_set_in_their_range() {
        let page = Page { kind: Kind::Private, protection: BOTH, locked: true, byte: Some(3) };
        let mut model: Yard = [None; PAGES];
        set(&mut model, 30, 9, |_| Some(page));
        assert_eq!(model.iter().flatten().count(), 2);
        forget(&mut model, 31, 1);
        assert_eq!((model[30], model[31].unwrap().byte), (Some(page), None));
    }
}
