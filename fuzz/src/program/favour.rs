// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is in more programs than chance would have it: what reaches that which a patch changes.
//!
//! Which checks and operations are about a file is known before ([`crate::oracle::ORACLES`],
//! `fuzz/uapi/reach.tsv`). Which *part* of a check runs through the functions that a patch
//! changes shows while it is played.

use rustc_hash::FxHashMap;

use crate::op::value::{Dice, Upto, Value};
use crate::op::{Check, Op};

/// Parts that are kept of a basic block.
const MOST_PARTS: usize = 256;

/// Of how many checks that are played for a patch's sake one is of any part.
const ANY_PART: u32 = 4;

/// What is in more programs than chance would have it.
#[derive(Clone, Debug, Default)]
pub struct Favour {
    /// Checks.
    pub checks: Vec<Check>,
    /// Operations, by their numbers in [`Op::TABLE`].
    pub ops: Vec<usize>,
    /// Where the blocks of what is patched are in `reached`.
    blocks: FxHashMap<u64, usize>,
    /// The lowest and the highest of these blocks.
    around: (u64, u64),
    /// Of each block the parts that ran through it.
    reached: Vec<Vec<(Check, u8)>>,
    /// Which checks ran through any.
    reaching: [bool; Check::ALL.len()],
}

impl Favour {
    /// By their words; unknown ones say nothing.
    #[must_use]
    pub fn of(checks: &[String], ops: &[String]) -> Self {
        Self {
            checks: checks.iter().filter_map(|word| Check::parse(word)).collect(),
            ops: ops.iter().filter_map(|word| Op::number(word)).collect(),
            ..Self::default()
        }
    }

    /// Has those parts of checks played more that run through these basic blocks, by what KCOV
    /// says of them.
    #[must_use]
    pub fn through(mut self, blocks: &[u64]) -> Self {
        self.blocks = blocks.iter().copied().zip(0..).collect();
        self.reached = vec![Vec::new(); blocks.len()];
        let bound = |bound: Option<&u64>| bound.copied().unwrap_or(0);
        self.around = (bound(blocks.iter().min()), bound(blocks.iter().max()));
        self
    }

    /// Whether it matters what parts of checks run through.
    #[must_use]
    pub fn looks(&self) -> bool {
        !self.blocks.is_empty()
    }

    /// Notes what a part of a check ran through.
    pub fn note(&mut self, what: Check, part: u8, ran: impl Iterator<Item = u64>) {
        for block in ran.filter(|block| (self.around.0..=self.around.1).contains(block)) {
            let Some(parts) = self.blocks.get(&block).and_then(|at| self.reached.get_mut(*at))
            else {
                continue;
            };
            // What runs through it often in one play is the last one.
            if parts.len() < MOST_PARTS && !parts.iter().rev().any(|known| *known == (what, part)) {
                parts.push((what, part));
                if let Some(reaching) = self.reaching.get_mut(what.nth()) {
                    *reaching = true;
                }
            }
        }
    }

    /// Whether a check ran through any of the blocks.
    #[must_use]
    pub fn reaches(&self, what: Check) -> bool {
        self.reaching.get(what.nth()).copied().unwrap_or(false)
    }

    /// A check to play: mostly a part that ran through a block that chance chooses, so that
    /// what few parts reach is played as often as what all of them do.
    pub fn check(&self, dice: &mut dyn Dice) -> Option<Op> {
        let any = one_of(dice, &self.checks)?;
        let known = if dice.below(ANY_PART) > 0 { self.part(dice) } else { None };
        let (what, part) = known.unwrap_or_else(|| (any, Upto::<255>::roll(dice).0));
        Some(Op::Check { what, seed: Upto(part), more: Upto::roll(dice) })
    }

    /// A part of a check that ran through a block: first the block, then the check, of which
    /// one may have many parts that do and another few. Where threads race each other, what
    /// they run through is seen in part only, so these are among them in any case.
    fn part(&self, dice: &mut dyn Dice) -> Option<(Check, u8)> {
        let reached: Vec<_> = self.reached.iter().filter(|parts| !parts.is_empty()).collect();
        let parts = one_of(dice, &reached)?;
        let has = |what: &Check| {
            let races = !what.judges() && self.checks.contains(what);
            races || parts.iter().any(|(check, _)| check == what)
        };
        let checks: Vec<Check> = Check::ALL.iter().copied().filter(has).collect();
        let what = one_of(dice, &checks)?;
        let parts: Vec<_> = parts.iter().copied().filter(|(check, _)| *check == what).collect();
        Some(one_of(dice, &parts).unwrap_or_else(|| (what, Upto::<255>::roll(dice).0)))
    }
}

/// One of them by chance.
fn one_of<T: Copy>(dice: &mut dyn Dice, all: &[T]) -> Option<T> {
    all.get(dice.below(u32::try_from(all.len()).unwrap_or(u32::MAX)) as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::value::Seeded;

    /// What one part in many runs through is played as often as what all of them do; and
    /// what runs elsewhere changes nothing.
    #[test]
    fn parts_that_reach_a_rare_block_are_played_more() {
        let favour = Favour::of(&["ring".into(), "maps".into()], &[]);
        let mut favour = favour.through(&[0x100, 0x200]);
        assert!(favour.looks() && !Favour::of(&["ring".into()], &[]).looks());
        let count = |favour: &Favour| {
            let mut dice = Seeded(3);
            let all: Vec<Op> = (0..4000).filter_map(|_| favour.check(&mut dice)).collect();
            assert_eq!(all.len(), 4000);
            let is = |op: &&Op| matches!(op, Op::Check { what: Check::Maps, seed: Upto(9), .. });
            all.iter().filter(is).count()
        };
        let plain = count(&favour);
        favour.note(Check::Maps, 9, [0x90, 0x180, 0x280].into_iter());
        assert_eq!(count(&favour), plain);
        assert!(!favour.reaches(Check::Maps));
        for part in 0..40 {
            favour.note(Check::Ring, part, [0x90, 0x100, 0x100, 0x180].into_iter());
        }
        favour.note(Check::Maps, 9, [0x100, 0x200].into_iter());
        assert!(favour.reaches(Check::Maps) && favour.reaches(Check::Ring));
        assert!(!favour.reaches(Check::Counts));
        let rare = count(&favour);
        // Three of four: one of two blocks, and one of the other one's two checks.
        assert!((2100..2400).contains(&rare), "{plain} {rare}");
        assert!(Favour::default().check(&mut Seeded(0)).is_none());
    }

    /// Races are played whether or not what they run through was seen.
    #[test]
    fn races_are_played_in_any_case() {
        let mut favour = Favour::of(&["ring".into(), "races".into()], &[]).through(&[7]);
        favour.note(Check::Ring, 3, [7].into_iter());
        let mut dice = Seeded(5);
        let is = |op: &Op| matches!(op, Op::Check { what: Check::Races, .. });
        let races = (0..1000).filter(|_| favour.check(&mut dice).is_some_and(|op| is(&op)));
        assert!((400..600).contains(&races.count()));
    }

    /// No list grows without an end, nor holds anything twice.
    #[test]
    fn a_block_keeps_so_many_parts() {
        let mut favour = Favour::of(&["ring".into()], &[]).through(&[7]);
        for part in 0..=255 {
            for what in [Check::Ring, Check::Maps, Check::Ring] {
                favour.note(what, part, [7, 7].into_iter());
            }
        }
        let parts = &favour.reached[0];
        assert_eq!(parts.len(), MOST_PARTS);
        let mut once = parts.clone();
        once.sort_by_key(|(what, part)| (what.nth(), *part));
        once.dedup();
        assert_eq!(once.len(), MOST_PARTS);
    }
}
