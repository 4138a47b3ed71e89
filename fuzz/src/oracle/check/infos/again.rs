// SPDX-License-Identifier: MIT OR Apache-2.0
//! BPF objects that are opened again: by their id, and by the path that they are pinned to
//! (kernel/bpf/inode.c); and that are gone when nobody has them any more.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::super::Play;
use super::super::iterators::{self, Target};
use super::super::maps::Map;
use super::{id, info, word};
use crate::engine::assemble::nothing;
use crate::engine::pool::load;
use crate::op::ProgKind;
use crate::op::value::Dice;
use crate::sys::call::{self, Answer, Attributes};

const UPDATE: u32 = 2;
const LOOKUP: u32 = 1;
const PIN: u32 = 6;
const GET: u32 = 7;
const BIND: u32 = 35;
/// `BPF_F_RDONLY`, `BPF_F_WRONLY`, and what is no flag.
const READ_ONLY: u32 = 1 << 3;
const WRITE_ONLY: u32 = 1 << 4;
const UNKNOWN: u32 = 1 << 20;
/// Where guests have the BPF file system.
const PINS: &str = "/sys/fs/bpf";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Program,
    Map,
    Link,
}

impl Kind {
    fn make(self) -> Answer<OwnedFd> {
        match self {
            Self::Program => load(ProgKind::RawTp, &nothing(0), None),
            Self::Map => Map::create(2, 4, 8, 1, 0).map(|map| map.fd),
            Self::Link => {
                let insns = iterators::end(crate::bpf::insn::Short::default(), &[]);
                let program = Target::Maps.load(&insns, None)?;
                iterators::link(program.as_fd(), [0; 4])
            }
        }
    }

    /// The commands for the next id, and for a descriptor by an id.
    fn commands(self) -> (u32, u32) {
        match self {
            Self::Program => (11, 13),
            Self::Map => (12, 14),
            Self::Link => (31, 30),
        }
    }

    fn by_id(self, id: u32, flags: u32) -> Answer<OwnedFd> {
        call::bpf_fd(self.commands().1, Attributes::default().word(0, id).word(8, flags), 12)
    }
}

/// An object's name in the BPF file system, which goes when this is dropped.
struct Pinned(CString);

impl Pinned {
    fn path(name: &str) -> Answer<Self> {
        let path = format!("{PINS}/{name}-{}", crate::sys::thread_id());
        let pinned = Self(CString::new(path).map_err(|_| libc::EINVAL)?);
        pinned.remove();
        Ok(pinned)
    }

    fn remove(&self) {
        let _ = std::fs::remove_file(self.0.to_string_lossy().as_ref());
    }

    fn pin(&self, object: BorrowedFd<'_>) -> Answer<()> {
        let attributes = Attributes::default().input(0, self.0.as_bytes_with_nul());
        call::bpf(PIN, attributes.fd(8, object), 16).map(drop)
    }

    fn get(&self, flags: u32) -> Answer<OwnedFd> {
        let attributes = Attributes::default().input(0, self.0.as_bytes_with_nul());
        call::bpf_fd(GET, attributes.word(12, flags), 16)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.remove();
    }
}

pub(super) fn again(play: &mut Play) -> Answer<()> {
    let kind = [Kind::Program, Kind::Map, Kind::Link][play.dice.below(3) as usize];
    let object = kind.make()?;
    let number = id(object.as_fd())?;
    let next = call::bpf_next_id(kind.commands().0, number - 1);
    if next != Ok(number) {
        play.wrong(format!(
            "{kind:?} {number} is not the next one behind {}: {next:?}",
            number - 1
        ));
    }
    play.expect("an object that is not there", &[libc::ENOENT], &kind.by_id(u32::MAX - 1, 0));
    play.expect("an object by a wrong flag", &[libc::EINVAL], &kind.by_id(number, UNKNOWN));
    same(play, kind, number, "by its id", &kind.by_id(number, 0));
    if kind == Kind::Map {
        modes(play, |flags| kind.by_id(number, flags));
    }
    if kind == Kind::Program {
        bound(play, object.as_fd())?;
    }
    let pinned = pinned(play, kind, object.as_fd(), number)?;
    drop(object);
    if let Some(pinned) = pinned {
        same(play, kind, number, "by its id, pinned", &kind.by_id(number, 0));
        same(play, kind, number, "by its path, alone", &pinned.get(0));
    }
    // A child that was just forked may have copies of descriptors.
    let mut left = 50;
    while kind.by_id(number, 0).is_ok() && left > 0 {
        std::thread::sleep(Duration::from_millis(2));
        left -= 1;
    }
    if left == 0 {
        play.wrong(format!("{kind:?} {number} is there when nobody has it any more"));
    }
    Ok(())
}

/// Whether what was opened is what was meant.
fn same(play: &mut Play, kind: Kind, number: u32, how: &str, again: &Answer<OwnedFd>) {
    let told = again.as_ref().map_err(|errno| *errno).and_then(|fd| id(fd.as_fd()));
    if told != Ok(number) && !told.is_err_and(super::super::says_nothing) {
        play.wrong(format!("{kind:?} {number} {how}: {told:?}"));
    }
}

/// A map for reading or writing only.
fn modes(play: &mut Play, open: impl Fn(u32) -> Answer<OwnedFd>) {
    let both = open(READ_ONLY | WRITE_ONLY);
    play.expect("a map for reading only and writing only", &[libc::EINVAL], &both);
    for (flags, right) in [(READ_ONLY, [0, libc::EPERM]), (WRITE_ONLY, [libc::EPERM, 0])] {
        let Ok(map) = open(flags) else { continue };
        let (key, value, mut found) = ([0; 4], [7; 8], [0; 8]);
        let on = || Attributes::default().fd(0, map.as_fd()).input(8, &key);
        let read = call::bpf(LOOKUP, on().output(16, &mut found), 32);
        let written = call::bpf(UPDATE, on().input(16, &value), 32);
        play.expect(&format!("a lookup in a map opened with {flags:#x}"), &right[..1], &read);
        play.expect(&format!("an update of a map opened with {flags:#x}"), &right[1..], &written);
    }
}

/// A map that a program has without using it.
fn bound(play: &mut Play, program: BorrowedFd<'_>) -> Answer<()> {
    let map = Map::create(1, 4, 8, 1, 0)?;
    let bind = |flags: u32| {
        let attributes = Attributes::default().fd(0, program).fd(4, map.fd.as_fd());
        call::bpf(BIND, attributes.word(8, flags), 12)
    };
    play.expect("a map bound with a flag", &[libc::EINVAL], &bind(1));
    for _ in 0..=play.dice.below(2) {
        play.expect("a map bound to a program", &[0], &bind(0));
    }
    let number = id(map.fd.as_fd())?;
    // The program keeps it.
    drop(map);
    let mut ids = [0_u8; 16];
    let (answer, _, memory) = info(program, 64, &[(52, 2), (56, ids.as_mut_ptr() as u64)]);
    answer?;
    let told = (word(&memory, 52), word(&ids, 0));
    if told != (1, number) {
        play.wrong(format!("a program that map {number} is bound to has {told:?} (how many, id)"));
    }
    Ok(())
}

/// Pins an object where there is a file system for that, which it keeps if it is handed out.
fn pinned(
    play: &mut Play,
    kind: Kind,
    object: BorrowedFd<'_>,
    number: u32,
) -> Answer<Option<Pinned>> {
    let elsewhere = Pinned(c"/tmp/pinned".to_owned());
    play.expect("an object pinned elsewhere", &[libc::EPERM], &elsewhere.pin(object));
    let pinned = Pinned::path("object")?;
    play.expect("the path of nothing", &[libc::ENOENT], &pinned.get(0));
    // No such file system.
    if matches!(pinned.pin(object), Err(libc::EPERM | libc::ENOENT)) {
        return Ok(None);
    }
    play.expect("an object pinned to a path that is there", &[libc::EEXIST], &pinned.pin(object));
    same(play, kind, number, "by its path", &pinned.get(0));
    if kind == Kind::Map {
        modes(play, |flags| pinned.get(flags));
    }
    if kind == Kind::Link {
        play.expect("a link for reading only", &[libc::EINVAL], &pinned.get(READ_ONLY));
    }
    Ok((play.dice.below(2) == 0).then_some(pinned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::check::plays;

    /// The kernel that this runs on, if it may be asked, is right about each of them.
    #[test]
    fn this_kernel_is_right() {
        // Without links, which not every kernel lets the tests have.
        for (seed, mut play) in plays("infos", (0..120_u16).filter(|seed| seed % 3 != 2)) {
            match again(&mut play) {
                Err(libc::EPERM | libc::ENOSYS) => return,
                answer => assert_eq!((answer, play.wrong), (Ok(()), None), "{seed}"),
            }
        }
    }
}
