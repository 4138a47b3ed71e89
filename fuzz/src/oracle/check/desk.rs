// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that user space runs when it likes, and a value that they work on: they are an
//! iterator's over the one element of an array (the guests' kernels have no network and so
//! no `BPF_PROG_TEST_RUN`).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::iterators::{Target, begin, link, read, thing};
use super::maps::Map;
use crate::bpf::btf;
use crate::bpf::insn::{Insn, Short};
use crate::engine::pool;
use crate::sys::call::Answer;

/// A value that a program works on, and that it runs once for.
pub(super) struct Desk {
    pub(super) map: Map,
}

impl Desk {
    pub(super) fn new(size: usize) -> Answer<Self> {
        Map::create(2, 4, size, 1, 0).map(|map| Self { map })
    }

    /// The beginning of a program, which runs for the element only.
    pub(super) fn code() -> (Short, usize) {
        let mut code = Short::default();
        let none = thing(&mut code, 16);
        (code, none)
    }

    /// A place of the value, in a register.
    pub(super) fn at(&self, code: &mut Short, register: u8, at: usize) {
        let at = i32::try_from(at).unwrap_or(0);
        code.load_wide(register, 2, self.map.fd.as_raw_fd(), at);
    }

    /// Begins with a value.
    pub(super) fn put(&self, value: &[u8]) -> Answer<()> {
        self.map.update(&[0; 4], value, 0)
    }

    pub(super) fn value(&self) -> Answer<Vec<u8>> {
        self.map.lookup(1, &[0; 4])
    }

    /// A word of it.
    pub(super) fn word(&self, at: usize) -> Answer<u64> {
        let value = self.value()?;
        let bytes = value.get(at..at + 8).and_then(|word| word.try_into().ok());
        Ok(u64::from_ne_bytes(bytes.unwrap_or_default()))
    }

    /// Loads a program, for [`run`](Self::run).
    pub(super) fn load(&self, insns: &[Insn]) -> Answer<OwnedFd> {
        self.link(Target::Elements.load(insns, None)?)
    }

    /// The same of a program with a second function, which a helper calls: the first one's
    /// instruction at `named` is where it is handed over.
    pub(super) fn load_with(
        &self,
        mut insns: Vec<Insn>,
        named: usize,
        second: Vec<Insn>,
    ) -> Answer<OwnedFd> {
        let begin = insns.len();
        if let Some(insn) = insns.get_mut(named) {
            insn.immediate = i32::try_from(begin - named - 1).unwrap_or(0);
        }
        insns.extend(second);
        let types = pool::types().ok_or(libc::ENOENT)?;
        let functions = btf::functions(begin);
        self.link(Target::Elements.load(&insns, Some((types.as_fd(), &functions)))?)
    }

    fn link(&self, program: OwnedFd) -> Answer<OwnedFd> {
        link(program.as_fd(), [self.map.fd.as_raw_fd().cast_unsigned(), 0, 0, 0])
    }

    /// Runs a program once: what it told.
    pub(super) fn run(link: BorrowedFd<'_>) -> Answer<Vec<u8>> {
        read(begin(link)?.as_fd(), 4096, || {})
    }
}
