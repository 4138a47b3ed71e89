// SPDX-License-Identifier: MIT OR Apache-2.0
//! What outlives a program because making it anew would take as long as the
//! program itself: maps that many programs use, and loaded BPF programs, keyed
//! by their instructions.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::assemble::{Surroundings, second_function};
use crate::bpf::btf;
use crate::bpf::insn::Insn;
use crate::op::{MapFlags, MapKind, ProgKind};
use crate::sys::call::{self, Answer, Attributes};

const MAP_CREATE: u32 = 0;
const PROG_LOAD: u32 = 5;
const BPF_F_SLEEPABLE: u32 = 1 << 4;
/// As what a program is attached to uprobes by a link.
pub const BPF_TRACE_UPROBE_MULTI: u32 = 48;

/// Programs kept loaded: those of a corpus of some hundred programs, and the last
/// changes of them.
const PROGRAMS: usize = 1000;
/// Maps kept between programs.
const MAPS: usize = 600;
/// Entries, as a power of two, of a map that one call needs for itself.
pub const OWN_ORDER: u8 = 2;
/// Descriptors of a process that has both, and what programs make.
pub const DESCRIPTORS: u64 = 4096;

/// A map and its kind.
#[derive(Clone, Debug)]
pub struct Map {
    /// The descriptor.
    pub fd: Arc<OwnedFd>,
    /// Its kind.
    pub kind: MapKind,
    /// Whether it stays after the program.
    pub pooled: bool,
}

/// Bytes of a key, of a value, and `BPF_MAP_TYPE_*`.
#[must_use]
pub fn shape(kind: MapKind) -> (u32, u32, u32) {
    match kind {
        MapKind::Stacks => (7, 4, 16 * 8),
        MapKind::BuildIds => (7, 4, 16 * 32),
        MapKind::Array => (2, 4, 64),
        MapKind::Hash => (1, 8, 64),
        MapKind::PerCpuHash => (5, 8, 64),
        MapKind::LruHash => (9, 8, 64),
        MapKind::Ringbuf => (27, 0, 0),
        MapKind::TaskStorage => (29, 4, 64),
        MapKind::Events => (4, 4, 4),
        MapKind::Programs => (3, 4, 4),
        MapKind::Queue => (22, 0, 64),
        MapKind::Bloom => (30, 0, 64),
    }
}

/// `BPF_BTF_LOAD`: what maps and programs say they are of. Nothing, on a kernel that
/// tells no types, where nobody can ask for them.
#[must_use]
pub fn types() -> Option<OwnedFd> {
    if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
        return None;
    }
    let types = btf::types();
    let length = u32::try_from(types.len()).unwrap_or(0);
    call::bpf_fd(btf::LOAD, Attributes::default().input(0, &types).word(16, length), 32).ok()
}

/// `BPF_MAP_CREATE`.
pub fn create(
    kind: MapKind,
    flags: MapFlags,
    order: u8,
    types: Option<BorrowedFd<'_>>,
) -> Answer<OwnedFd> {
    let (number, key, value) = shape(kind);
    let entries = match kind {
        MapKind::Ringbuf => 4096_u32 << (order % 4),
        MapKind::TaskStorage => 0,
        _ => 1_u32 << order.min(10),
    };
    let MapFlags { no_prealloc, mmapable, rdonly, zero_seed } = flags;
    let mut bits = u32::from(no_prealloc)
        | u32::from(rdonly) << 3
        | u32::from(zero_seed) << 6
        | u32::from(mmapable) << 10;
    bits |= match kind {
        MapKind::BuildIds => 1 << 5, // BPF_F_STACK_BUILD_ID
        MapKind::TaskStorage => 1,
        _ => 0,
    };
    let attributes = Attributes::default()
        .word(0, number)
        .word(4, key)
        .word(8, value)
        .word(12, entries)
        .word(16, bits);
    let attributes = match types {
        Some(types) if kind == MapKind::TaskStorage => {
            attributes.fd(48, types).word(52, btf::KEY).word(56, btf::VALUE)
        }
        _ => attributes,
    };
    call::bpf_fd(MAP_CREATE, attributes, 72)
}

/// Instructions as the kernel takes them.
pub fn bytes_of(insns: &[Insn]) -> Vec<u8> {
    insns
        .iter()
        .flat_map(|insn| {
            let Insn { code, registers, offset, immediate } = insn;
            let mut out = [0; 8];
            out[0] = *code;
            out[1] = *registers;
            out[2..4].copy_from_slice(&offset.to_ne_bytes());
            out[4..].copy_from_slice(&immediate.to_ne_bytes());
            out
        })
        .collect()
}

/// `BPF_PROG_LOAD`, without a log, which would take as long again.
pub fn load(kind: ProgKind, insns: &[Insn], types: Option<BorrowedFd<'_>>) -> Answer<OwnedFd> {
    let number = match kind {
        ProgKind::Kprobe | ProgKind::Sleepable | ProgKind::UprobeMulti => 2,
        ProgKind::Tracepoint => 5,
        ProgKind::PerfEvent => 7,
        ProgKind::RawTp => 17,
        ProgKind::RawTpWritable => 24,
    };
    let bytes = bytes_of(insns);
    let attributes = Attributes::default()
        .word(0, number)
        .word(4, u32::try_from(insns.len()).unwrap_or(0))
        .input(8, &bytes)
        .input(16, b"GPL\0")
        .word(44, if kind == ProgKind::Sleepable { BPF_F_SLEEPABLE } else { 0 })
        .word(68, if kind == ProgKind::UprobeMulti { BPF_TRACE_UPROBE_MULTI } else { 0 });
    let functions = second_function(insns).map(btf::functions);
    match (types, &functions) {
        (Some(types), Some(functions)) => {
            let attributes = attributes.fd(72, types).word(76, 8).input(80, functions).word(88, 2);
            call::bpf_fd(PROG_LOAD, attributes, 96)
        }
        _ => call::bpf_fd(PROG_LOAD, attributes, 72),
    }
}

/// What became of instructions, and when that was asked last. The verifier refuses
/// what it has refused before.
#[derive(Debug)]
struct Loaded {
    answer: Answer<Arc<OwnedFd>>,
    used: u64,
}

/// Maps and programs that stay.
#[derive(Debug, Default)]
pub struct Pool {
    maps: FxHashMap<(MapKind, MapFlags, u8), Arc<OwnedFd>>,
    programs: FxHashMap<(ProgKind, Vec<Insn>), Loaded>,
    /// What they say they are of.
    types: Option<OwnedFd>,
    clock: u64,
    /// Programs that were loaded, and that were there already.
    pub loads: (u64, u64),
}

impl Pool {
    /// An empty pool of maps and programs of these types.
    #[must_use]
    pub fn of(types: Option<OwnedFd>) -> Self {
        Self { types, ..Self::default() }
    }

    /// Whether this kernel tells its types, without which some helpers do not exist.
    #[must_use]
    pub fn has_types(&self) -> bool {
        self.types.is_some()
    }

    /// A map that is made anew, and does not stay.
    pub fn create(&self, kind: MapKind, flags: MapFlags, order: u8) -> Answer<OwnedFd> {
        create(kind, flags, order, self.types.as_ref().map(AsFd::as_fd))
    }

    /// A program that is loaded anew, and does not stay.
    fn load(&self, kind: ProgKind, insns: &[Insn]) -> Answer<Arc<OwnedFd>> {
        load(kind, insns, self.types.as_ref().map(AsFd::as_fd)).map(Arc::new)
    }

    /// A map of this shape, made at most once.
    pub fn map(&mut self, kind: MapKind, flags: MapFlags, order: u8) -> Answer<Map> {
        let key = (kind, flags, order);
        let fd = match self.maps.get(&key) {
            Some(fd) => fd.clone(),
            None => {
                let fd = Arc::new(self.create(kind, flags, order)?);
                self.maps.insert(key, fd.clone());
                fd
            }
        };
        Ok(Map { fd, kind, pooled: true })
    }

    /// The stack map with this descriptor, and how many buckets it has, if it is one
    /// that stays and that is written to.
    #[must_use]
    pub fn stack_map(&self, fd: RawFd) -> Option<(Map, u32)> {
        let mut maps = self.maps.iter();
        let (&(kind, flags, order), fd) = maps.find(|(_, map)| map.as_raw_fd() == fd)?;
        let stacks = matches!(kind, MapKind::Stacks | MapKind::BuildIds) && !flags.rdonly;
        stacks.then(|| (Map { fd: fd.clone(), kind, pooled: true }, 1 << order.min(10)))
    }

    /// A loaded program. It is kept only if all its maps are: the number of a
    /// closed descriptor is another map's next time.
    pub fn program(
        &mut self,
        kind: ProgKind,
        insns: Vec<Insn>,
        keep: bool,
    ) -> Answer<Arc<OwnedFd>> {
        if !keep {
            self.loads.0 += 1;
            return self.load(kind, &insns);
        }
        self.clock += 1;
        let key = (kind, insns);
        if let Some(loaded) = self.programs.get_mut(&key) {
            loaded.used = self.clock;
            self.loads.1 += 1;
            return loaded.answer.clone();
        }
        self.loads.0 += 1;
        let answer = self.load(kind, &key.1);
        // Anything else may pass: no memory, a signal.
        if let Ok(_) | Err(libc::EINVAL | libc::EACCES | libc::EPERM) = answer {
            if self.programs.len() >= PROGRAMS {
                self.forget();
            }
            self.programs.insert(key, Loaded { answer: answer.clone(), used: self.clock });
        }
        answer
    }

    /// Empties a pool of too many maps, programs included: theirs are the maps'
    /// numbers. Only between programs, which refer to both.
    pub fn trim(&mut self) {
        if self.maps.len() > MAPS {
            self.empty();
        }
    }

    /// Empties it. Only between programs.
    pub fn empty(&mut self) {
        self.programs.clear();
        self.maps.clear();
    }

    /// Descriptors it holds.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        self.maps.len() + self.programs.values().filter(|loaded| loaded.answer.is_ok()).count()
    }

    /// Drops the quarter of the programs that was used longest ago.
    fn forget(&mut self) {
        let mut uses: Vec<u64> = self.programs.values().map(|loaded| loaded.used).collect();
        uses.sort_unstable();
        let limit = uses.get(uses.len() / 4).copied().unwrap_or(0);
        self.programs.retain(|_, loaded| loaded.used > limit);
    }
}

/// The maps a program is assembled with.
#[derive(Debug)]
pub struct Around<'a> {
    /// What it was given.
    pub maps: Vec<Map>,
    /// Where others come from.
    pub pool: &'a mut Pool,
    /// The scratch map.
    pub scratch: i32,
    /// Whether all maps used so far stay.
    pub pooled: bool,
}

impl Surroundings for Around<'_> {
    fn map(&mut self, index: u8, kinds: &[MapKind]) -> i32 {
        let given = self.maps.get(usize::from(index) % self.maps.len().max(1));
        if let Some(map) = given.filter(|map| kinds.contains(&map.kind)) {
            self.pooled &= map.pooled;
            return map.fd.as_fd().as_raw_fd();
        }
        let Some(kind) = kinds.first() else { return -1 };
        match self.pool.map(*kind, MapFlags::default(), 4) {
            Ok(map) => map.fd.as_fd().as_raw_fd(),
            Err(_) => -1,
        }
    }

    fn scratch(&self) -> i32 {
        self.scratch
    }

    fn has_btf(&self) -> bool {
        self.pool.has_types()
    }

    fn thread(&self) -> Option<u32> {
        // Programs run in a worker's first thread.
        Some(std::process::id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pool never holds more than a process may have open.
    #[test]
    fn pools_are_bounded() {
        let mut pool = Pool::default();
        let file = || Arc::new(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
        let mut most = 0;
        for order in 0..=255 {
            for kind in [MapKind::Hash, MapKind::Array, MapKind::LruHash] {
                pool.maps.insert((kind, MapFlags::default(), order), file());
                pool.trim();
                most = most.max(pool.descriptors());
            }
        }
        assert_eq!(most, MAPS);
        assert!((MAPS + PROGRAMS) as u64 * 2 < DESCRIPTORS);
    }
}
