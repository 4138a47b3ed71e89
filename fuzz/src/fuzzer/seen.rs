// SPDX-License-Identifier: MIT OR Apache-2.0
//! What programs of a worker ran through before: what makes a program worth keeping.
//!
//! An address counts once. In the basic blocks that weigh more (those of functions that the
//! patches change, and of what these call) it also counts which of these blocks ran before
//! it, and how often it ran in one program, by powers of two: so more programs are kept that
//! go different ways through them, and what is kept is what is changed next. These are the
//! features of AFL and of libFuzzer, which elsewhere cost more than they find: every program
//! is another one to go through all of them.

use std::sync::atomic::{AtomicU64, Ordering};

use rustc_hash::{FxHashMap, FxHashSet};

/// Bits of the index into [`Seen`].
const SEEN_BITS: u32 = 18;

/// Runs of a heavy block in one program that are told apart at most: who goes on and on is no
/// news, and only takes its time.
const MOST_RUNS: u32 = 128;

/// Pairs of heavy blocks that count at most.
const MOST_PAIRS: usize = 1 << 14;

/// The kernel addresses seen, as a hash set without deletion. It is asked tens
/// of thousands of times a program, so the question has to cost a few
/// instructions: no growth, no bounds to check, and of an address the lower half,
/// which no two addresses of a kernel's text share.
#[derive(Debug)]
pub(super) struct Seen {
    slots: Box<[u32; 1 << SEEN_BITS]>,
    used: usize,
    /// Blocks that weigh more. They are in no slot, so that each of their runs is noticed.
    heavy: FxHashMap<u32, Heavy>,
    /// Which of them ran one after the other.
    pairs: FxHashSet<(u32, u32)>,
    /// The last one of the running program.
    last: u32,
    /// Those that the running program ran through.
    touched: Vec<u32>,
}

/// What is known of a block that weighs more.
#[derive(Clone, Copy, Debug, Default)]
struct Heavy {
    /// Whether any program ran through it.
    seen: bool,
    /// How often the running program did.
    runs: u32,
    /// The powers of two of that in all programs.
    powers: u32,
}

impl Seen {
    /// Further addresses count as seen: four times what was ever reached.
    const ROOM: usize = (1 << SEEN_BITS) / 4 * 3;

    pub(super) fn new(heavy: &[u64]) -> Self {
        let slots = vec![0; 1 << SEEN_BITS].into_boxed_slice();
        // Its length is what the array's type says.
        let slots = slots.try_into().unwrap_or_else(|_| Box::new([0; 1 << SEEN_BITS]));
        let heavy = heavy.iter().map(|&pc| (low(pc), Heavy::default())).collect();
        Self { slots, used: 0, heavy, pairs: FxHashSet::default(), last: 0, touched: Vec::new() }
    }

    /// Adds the addresses of a trace; each new one is handed out. The answer is how many pairs
    /// of heavy blocks were new.
    pub(super) fn add_all(&mut self, trace: &[AtomicU64], mut new: impl FnMut(u64)) -> usize {
        let pairs = self.pairs.len();
        self.last = 0;
        for word in trace {
            let pc = word.load(Ordering::Relaxed);
            let low = low(pc);
            if self.slots[Self::index(low)] != low && self.add(low) {
                new(pc);
            }
        }
        self.pairs.len() - pairs
    }

    /// Ends a program: how many heavy blocks ran as often as they did in no program before,
    /// by powers of two.
    pub(super) fn end(&mut self) -> usize {
        let mut new = 0;
        for low in self.touched.drain(..) {
            let Some(heavy) = self.heavy.get_mut(&low) else { continue };
            let power = 1 << std::mem::take(&mut heavy.runs).min(MOST_RUNS).ilog2();
            // Once is no news: the address is.
            new += usize::from(power > 1 && heavy.powers & power == 0);
            heavy.powers |= power;
        }
        new
    }

    fn index(low: u32) -> usize {
        (low.wrapping_mul(0x9e37_79b1) >> (u32::BITS - SEEN_BITS)) as usize
    }

    /// Adds the lower half of an address; true if it is new.
    #[inline(never)]
    fn add(&mut self, low: u32) -> bool {
        if let Some(heavy) = self.heavy.get_mut(&low) {
            if heavy.runs == 0 {
                self.touched.push(low);
            }
            heavy.runs = heavy.runs.saturating_add(1);
            let last = std::mem::replace(&mut self.last, low);
            if last != 0 && self.pairs.len() < MOST_PAIRS {
                self.pairs.insert((last, low));
            }
            return !std::mem::replace(&mut heavy.seen, true);
        }
        let mut at = Self::index(low);
        loop {
            match self.slots.get(at).copied() {
                Some(found) if found == low => return false,
                Some(0) => break,
                _ => at = (at + 1) % (1 << SEEN_BITS),
            }
        }
        if low == 0 || self.used >= Self::ROOM {
            return false;
        }
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = low;
        }
        self.used += 1;
        true
    }
}

#[allow(clippy::cast_possible_truncation)] // the lower half, see `Seen`
fn low(pc: u64) -> u32 {
    pc as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(pcs: impl IntoIterator<Item = u64>) -> Vec<AtomicU64> {
        pcs.into_iter().map(AtomicU64::new).collect()
    }

    /// Each address is new once, however many there are.
    #[test]
    fn addresses_are_new_once() {
        let mut seen = Seen::new(&[]);
        let trace = trace((1..100_000).flat_map(|n| [n, n]).map(|n| 0xffff_ffff_8100_0000 + n * 5));
        let mut new = 0;
        seen.add_all(&trace, |_| new += 1);
        assert_eq!(new, trace.len() / 2);
        seen.add_all(&trace, |_| new += 1);
        assert_eq!(new, trace.len() / 2);
    }

    /// A table that is full ends the search, too.
    #[test]
    fn a_full_table_takes_no_more() {
        let mut seen = Seen::new(&[]);
        let mut new = 0;
        seen.add_all(&trace(1..1 << SEEN_BITS), |_| new += 1);
        assert_eq!(new, Seen::ROOM);
    }

    /// Of heavy blocks it also counts what ran before, and how often; of others it does not.
    #[test]
    fn ways_through_heavy_blocks_are_new() {
        let [a, b, light] = [0x8100_0005, 0x8100_000a, 0x8100_000f];
        let mut seen = Seen::new(&[a, b]);
        let mut one = |pcs: &[u64]| {
            let mut new = Vec::new();
            let pairs = seen.add_all(&trace(pcs.iter().copied()), |pc| new.push(pc));
            (new, pairs, seen.end())
        };
        assert_eq!(one(&[a, light, b]), (vec![a, light, b], 1, 0));
        assert_eq!(one(&[a, light, light, b]), (vec![], 0, 0), "nothing new");
        assert_eq!(one(&[b, light, a]), (vec![], 1, 0), "in the other order");
        assert_eq!(one(&[a, a]), (vec![], 1, 1), "twice: a pair, and a power of two");
        assert_eq!(one(&[a, a, a]), (vec![], 0, 0), "three times is the same power");
        assert_eq!(one(&[a, a, a, a]), (vec![], 0, 1));
        assert_eq!(one(&[light; 9]), (vec![], 0, 0));
        assert_eq!(one(&[b; 130]), (vec![], 1, 1));
        assert_eq!(one(&[b; 600]), (vec![], 0, 0), "very often is very often");
    }
}
