// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arenas: a map that is memory of the process, whole and at one place
//! (`kernel/bpf/arena.c`).

use std::os::fd::{AsFd, OwnedFd};

use super::{Play, wrong_answer};
use crate::op::value::Dice;
use crate::sys::call::{self, Answer, Attributes, Region};

const MMAPABLE: u32 = 1 << 10;
const SEGV_ON_FAULT: u32 = 1 << 17;
const NO_USER_CONV: u32 = 1 << 18;
const PAGE: usize = 4096;

/// What an arena is asked to be.
struct Asked {
    key: u32,
    pages: u32,
    flags: u32,
    /// The address that it is to be at, if not 0.
    at: u64,
}

fn create(asked: &Asked) -> Answer<OwnedFd> {
    let attributes = Attributes::default()
        .word(0, 33)
        .word(4, asked.key)
        .word(12, asked.pages)
        .word(16, asked.flags)
        .double(64, asked.at);
    call::bpf_fd(super::CREATE, attributes, 72)
}

pub(super) fn arena(play: &mut Play) -> Answer<()> {
    let pages = 1 + play.dice.below(6);
    let flags = MMAPABLE | (NO_USER_CONV * play.dice.below(2));
    let good = Asked { key: 0, pages, flags, at: 0 };
    if play.dice.below(3) == 0 {
        return refusals(play, good);
    }
    let map = create(&good)?;
    let length = pages as usize * PAGE;
    let region = Region::map(map.as_fd(), length, true)?;
    let mut model = vec![0; pages as usize];
    for turn in 0..6 + u64::from(play.dice.below(12)) {
        let page = play.dice.below(pages) as usize;
        let several = pages > 1;
        let is = |play: &mut Play, what: &str, answer: Answer<()>, right: Answer<()>| {
            wrong_answer(play, &format!("an arena of {pages} pages: {what}"), &answer, &right);
        };
        match play.dice.below(8) {
            0..=2 => {
                region.store(page * PAGE, turn);
                model[page] = turn;
            }
            3 => {
                let again = Region::map(map.as_fd(), length, true).map(drop);
                is(play, "mapped again elsewhere", again, Err(libc::EINVAL));
            }
            4 if several => {
                let part = region.unmap_part(page * PAGE, PAGE);
                is(play, "a page is unmapped", part, Err(libc::EINVAL));
            }
            5 if several => {
                let part = region.protect_part(page * PAGE, PAGE);
                is(play, "a page is protected", part, Err(libc::EINVAL));
            }
            6 => {
                let longer = region.resize(length + PAGE);
                is(play, "made longer", longer, Err(libc::EFAULT));
            }
            _ => {
                let key = [0; 8];
                let attributes = Attributes::default().fd(0, map.as_fd());
                let update = attributes.clone().input(16, &key);
                let updated = call::bpf(super::UPDATE, update, 32).map(drop);
                is(play, "an element is updated", updated, Err(libc::EOPNOTSUPP));
                let deleted = call::bpf(super::DELETE, attributes, 32).map(drop);
                is(play, "an element is deleted", deleted, Err(libc::EOPNOTSUPP));
            }
        }
        for (page, right) in model.iter().enumerate() {
            let holds = region.load(page * PAGE);
            if holds != *right {
                play.wrong(format!("page {page} of an arena holds {holds} and not {right}"));
            }
        }
    }
    Ok(())
}

/// What no arena can be.
fn refusals(play: &mut Play, good: Asked) -> Answer<()> {
    let (asked, right) = match play.dice.below(7) {
        0 => (Asked { key: 4, ..good }, libc::EINVAL),
        1 => (Asked { pages: 0, ..good }, libc::EINVAL),
        2 => (Asked { flags: SEGV_ON_FAULT, ..good }, libc::EINVAL),
        3 => (Asked { flags: MMAPABLE | 1, ..good }, libc::EINVAL),
        4 => (Asked { at: 8, ..good }, libc::EINVAL),
        5 => (Asked { pages: (1 << 20) + 1, ..good }, libc::E2BIG),
        _ => (Asked { pages: 2, at: (1 << 40) - PAGE as u64, ..good }, libc::ERANGE),
    };
    let Asked { key, pages, flags, at } = asked;
    let what =
        format!("an arena of {pages} pages, keys of {key} bytes, flags {flags:#x}, at {at:#x}");
    wrong_answer(play, &what, &create(&asked).map(drop), &Err(right));
    Ok(())
}
