// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf_get_stackid`: the answer is an id, and what the id stands for lies in a
//! map. Both are read when the round is over, as a user of the map would.
//!
//! The kernel finds the bucket by a hash of the raw addresses and compares the
//! build ids afterwards. So a stack whose lookup fell back does not get a bucket
//! of its own: it is refused with `EEXIST` if the bucket is there already, and
//! otherwise *is* the bucket, and every good lookup after it is refused. With
//! `BPF_F_FAST_STACK_CMP` nothing is looked up once the bucket is there: whatever
//! the first call found is every later call's answer.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::metrics::{STACKID_EXISTS, STACKID_FALLBACK_IDS, STACKID_IDS, STACKID_STALE};
use super::score::{self, Answer, Frame};
use crate::failure::Failure;
use crate::sys::bpf::StackMap;
use crate::wire::Block;

/// Distinct stacks there is room for: one a place in a leaf's loop, many times.
const ENTRIES: u32 = 1024;

/// What became of the stacks of a block in a stack-trace map with build ids.
///
/// Of the calls, every second one goes to a map of its own with
/// `BPF_F_FAST_STACK_CMP`; only the others are the block's calls. The maps are
/// empty when a block begins. A call with an id is scored by what stands under
/// that id after the round, which is what its user reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buckets {
    /// Distinct ids that calls without the flag were given. The kernel hashes raw
    /// addresses, so one stack has one id per address of its innermost frame.
    ids: u64,
    /// Of these, how many stand for a stack with a fallback in it.
    fallback_ids: u64,
    /// Calls without the flag that were given an id.
    given: u64,
    /// Calls without the flag that were refused with `EEXIST`: the same addresses
    /// were there with other build ids.
    exists: u64,
    /// Calls with the flag that were given an id.
    fast_calls: u64,
    /// Of these, how many were given, without a lookup, an id whose stack has a
    /// fallback in it: an earlier call's bad luck.
    fast_stale: u64,
}

impl Buckets {
    /// Adds it to a block.
    pub fn tell(&self, block: &mut Block) {
        block.share(STACKID_EXISTS, self.given + self.exists, self.exists);
        block.share(STACKID_STALE, self.fast_calls, self.fast_stale);
        block.note(STACKID_IDS, self.ids);
        block.note(STACKID_FALLBACK_IDS, self.fallback_ids);
    }
}

/// What a map has under each id that was answered.
type Stacks = BTreeMap<u32, Option<Vec<Frame>>>;

/// The two maps, and what was answered in this block.
#[derive(Debug)]
pub struct Maps {
    /// For every even slot: no flag.
    plain: StackMap,
    /// For every odd slot: `BPF_F_FAST_STACK_CMP`.
    fast: StackMap,
    answered: Answered,
}

/// The answers of a block, by map.
#[derive(Debug, Default)]
struct Answered {
    plain: BTreeMap<u32, u64>,
    fast: BTreeMap<u32, u64>,
    exists: u64,
}

impl Maps {
    /// Makes the maps.
    pub fn new(depth: usize) -> Result<Self, Failure> {
        let map = || {
            StackMap::new(depth, ENTRIES).map_err(|e| Failure::at("making a stack-trace map", &e))
        };
        Ok(Self { plain: map()?, fast: map()?, answered: Answered::default() })
    }

    /// Their descriptors' numbers, in the order of the slots.
    pub fn numbers(&self) -> [i32; 2] {
        [self.plain.number(), self.fast.number()]
    }

    /// Takes the answers of a round, in the order of the slots. Gives those that
    /// are calls: what is under their ids now.
    pub fn take(&mut self, answers: &[i64]) -> Result<Vec<(usize, Answer)>, Failure> {
        let mut plain = Stacks::new();
        let mut calls = Vec::new();
        for (index, answer) in answers.iter().enumerate() {
            let id = u32::try_from(*answer).ok();
            if index % 2 == 1 {
                if let Some(id) = id {
                    *self.answered.fast.entry(id).or_default() += 1;
                }
                continue;
            }
            if let Some(id) = id {
                *self.answered.plain.entry(id).or_default() += 1;
                if let Entry::Vacant(unread) = plain.entry(id) {
                    unread.insert(read(&self.plain, id)?);
                }
            }
            let answer = Answer::of_id(*answer, |id| plain.get(&id).cloned().flatten());
            self.answered.exists += u64::from(answer == Answer::Exists);
            calls.push((index, answer));
        }
        Ok(calls)
    }

    /// Ends a block: what became of it, and the maps are empty again.
    pub fn settle(&mut self) -> Result<Buckets, Failure> {
        let answered = std::mem::take(&mut self.answered);
        let read_all = |map: &StackMap, ids: &BTreeMap<u32, u64>| -> Result<Stacks, Failure> {
            let mut stacks = Stacks::new();
            for id in ids.keys() {
                stacks.insert(*id, read(map, *id)?);
                map.forget(*id).map_err(|e| Failure::at("emptying a stack-trace map", &e))?;
            }
            Ok(stacks)
        };
        let plain = read_all(&self.plain, &answered.plain)?;
        let fast = read_all(&self.fast, &answered.fast)?;
        Ok(count(&answered, &plain, &fast))
    }
}

fn read(map: &StackMap, id: u32) -> Result<Option<Vec<Frame>>, Failure> {
    let words = map.stack(id).map_err(|e| Failure::at("reading a stack-trace map", &e))?;
    Ok(words.map(|words| score::frames(&words)))
}

fn count(answered: &Answered, plain: &Stacks, fast: &Stacks) -> Buckets {
    let fell_back = |stacks: &Stacks, id: &u32| {
        stacks.get(id).is_some_and(|stack| stack.as_deref().is_some_and(score::has_fallback))
    };
    // The call that made the bucket did its own lookup; those after it did not.
    let stale = answered.fast.iter().filter(|(id, _)| fell_back(fast, id));
    Buckets {
        ids: answered.plain.len() as u64,
        fallback_ids: answered.plain.keys().filter(|id| fell_back(plain, id)).count() as u64,
        given: answered.plain.values().sum(),
        exists: answered.exists,
        fast_calls: answered.fast.values().sum(),
        fast_stale: stale.map(|(_, calls)| calls.saturating_sub(1)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::score::tests::{fallen_back, right};
    use super::*;
    use crate::wire::Share;

    /// A bucket that begins with a fallback makes every later fast answer stale;
    /// a good one none.
    #[test]
    fn stale_answers_come_after_the_first() {
        let answered = Answered {
            plain: BTreeMap::from([(1, 10), (2, 1), (3, 5)]),
            fast: BTreeMap::from([(1, 100), (2, 40), (9, 3)]),
            exists: 4,
        };
        let good = Some(right().to_vec());
        let bad = Some(fallen_back().to_vec());
        let mut partly = right();
        partly[3] = fallen_back()[3];
        let plain = Stacks::from([(1, good.clone()), (2, bad.clone()), (3, None)]);
        let fast = Stacks::from([(1, good), (2, bad), (9, Some(partly.to_vec()))]);
        assert_eq!(
            count(&answered, &plain, &fast),
            Buckets {
                ids: 3,
                fallback_ids: 1,
                given: 16,
                exists: 4,
                fast_calls: 143,
                fast_stale: 39 + 2
            }
        );
        assert_eq!(count(&Answered::default(), &plain, &fast), Buckets::default());
    }

    /// What became of the stacks is told as two shares, of the calls of either map, and
    /// as counts of ids.
    #[test]
    fn buckets_are_told() {
        let buckets = Buckets {
            ids: 3,
            fallback_ids: 1,
            given: 16,
            exists: 4,
            fast_calls: 143,
            fast_stale: 41,
        };
        let mut block = Block::default();
        buckets.tell(&mut block);
        assert_eq!(crate::probe::build_id::PROBE.check(&block), Ok(()));
        assert_eq!(block.shares[STACKID_EXISTS], Share { of: 20, right: 4 });
        assert_eq!(block.shares[STACKID_STALE], Share { of: 143, right: 41 });
        assert_eq!((block.notes[STACKID_IDS], block.notes[STACKID_FALLBACK_IDS]), (3, 1));
    }
}
