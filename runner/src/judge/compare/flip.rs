// SPDX-License-Identifier: MIT OR Apache-2.0
//! The oracle of the probe `flip`: do build ids and offsets belong together while
//! mappings change their files?
//!
//! One pair that does not is a wrong answer that nobody can tell from a right
//! one. None is worth nothing by itself: perhaps nothing was ever about to go
//! wrong. So a clean count is believed only where a kernel with a planted fault
//! (role `sensitivity`), of the same run, architecture and profile, did show such
//! pairs to the same step. Where it did not, or there is none, the answer is
//! *inconclusive*.

use bakeoff_fuzz::wire::{Flip, Step, Stress};

use super::oracle::{Pair, Said};
use super::row::{Effect, Finding, Place, VerdictRow};
use super::verdict::same_target;
use super::words::{count, counted, list};
use super::{CandidateInfo, label};
use crate::see::observation::Observation;
use crate::spec::Role;

/// The oracle's name, and the probe's.
pub(super) const NAME: &str = "flip";

/// What all boots of a cell showed to one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shown {
    flip: Flip,
    calls: u64,
    /// Blocks were taken.
    ran: bool,
    /// Calls and flips of all blocks but each boot's last, and what those blocks
    /// took from start to start, scoring included.
    paced: Paced,
    evidence: Vec<String>,
}

/// How fast it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Paced {
    calls: u64,
    flips: u64,
    ns: u64,
}

impl Paced {
    /// `; 21,000 samples and 9,000 flips a second`, if it can be told.
    fn shown(self) -> String {
        let a_second = |n: u64| u128::from(n) * 1_000_000_000 / u128::from(self.ns.max(1));
        let a_second = |n: u64| count(u64::try_from(a_second(n)).unwrap_or(u64::MAX));
        if self.ns == 0 {
            return String::new();
        }
        format!("; {} samples and {} flips a second", a_second(self.calls), a_second(self.flips))
    }
}

impl Shown {
    /// Counted in all blocks: a wrong pair is one with lockdep on or off.
    fn by(seen: &Observation, step: &Step) -> Shown {
        let mut all = Shown::default();
        for boot in &seen.boots {
            let mut here = false;
            let mut before: Option<(u64, u64, u64)> = None;
            for block in boot.blocks.iter().filter(|b| b.step == step.id) {
                let Some(flip) = &block.counts.flip else { continue };
                here = true;
                all.calls = all.calls.saturating_add(block.counts.calls);
                add(&mut all.flip, flip);
                if let Some((at, calls, flips)) = before {
                    all.paced.ns += block.at_ns.saturating_sub(at);
                    all.paced.calls += calls;
                    all.paced.flips += flips;
                }
                before = Some((block.at_ns, block.counts.calls, flip.flips));
            }
            if here {
                all.ran = true;
                all.evidence.extend(boot.evidence.iter().cloned());
            }
        }
        all
    }

    /// Frames with an answer, right or wrong.
    fn answered(&self) -> u64 {
        self.flip.legal.saturating_add(self.flip.illegal())
    }

    /// `12 of 3,400 answers (9 decoy, 3 off) = 1 in 283`.
    fn wrong(&self) -> String {
        let Flip { mixed, decoy, unknown_id, out_of_range, .. } = self.flip;
        let kinds: Vec<String> = [
            (mixed, "of both files"),
            (decoy, "of a file never mapped"),
            (unknown_id, "of no file"),
            (out_of_range, "with an offset that is nowhere"),
        ]
        .iter()
        .filter(|(times, _)| *times > 0)
        .map(|(times, what)| format!("{} {what}", count(*times)))
        .collect();
        let illegal = self.flip.illegal();
        format!(
            "{} of {} (1 in {}): {}",
            count(illegal),
            counted(self.answered(), "answer"),
            count(self.answered() / illegal.max(1)),
            list(&kinds)
        )
    }
}

/// Destructured, so that a new count cannot be forgotten here.
fn add(sum: &mut Flip, part: &Flip) {
    let Flip { flips, splits, legal, ip, mixed, decoy, unknown_id, out_of_range, illegal_calls } =
        part;
    for (sum, part) in [
        (&mut sum.flips, flips),
        (&mut sum.splits, splits),
        (&mut sum.legal, legal),
        (&mut sum.ip, ip),
        (&mut sum.mixed, mixed),
        (&mut sum.decoy, decoy),
        (&mut sum.unknown_id, unknown_id),
        (&mut sum.out_of_range, out_of_range),
        (&mut sum.illegal_calls, illegal_calls),
    ] {
        *sum = sum.saturating_add(*part);
    }
}

pub(super) fn judge(pair: &Pair<'_>) -> Vec<Said> {
    let steps = pair.subject.steps_of(pair.role(), pair.ours.id());
    let flips = steps.iter().filter(|step| step.stress == Stress::Flip);
    flips.filter_map(|step| one(pair, step)).collect()
}

fn one(pair: &Pair<'_>, step: &Step) -> Option<Said> {
    let ours = Shown::by(pair.ours, step);
    let at = label(step);
    // What did not run is said elsewhere.
    if !ours.ran {
        return None;
    }
    let (effect, text) = if ours.flip.flips == 0 {
        (Effect::Inconclusive, format!("{at}: the mapping never changed its file: our error"))
    } else if pair.role() == Role::Sensitivity {
        sensitivity(&at, &ours)
    } else if ours.flip.illegal() > 0 {
        illegal(pair, &at, &ours)
    } else if ours.answered() == 0 {
        let calls = counted(ours.calls, "call");
        (Effect::Note, format!("{at}: no answer in {calls}, so none that could be wrong"))
    } else {
        clean(pair, &at, step, &ours)
    };
    Some(Said { effect, text, evidence: Some(ours.evidence) })
}

/// The planted fault is found, or the test is blind here.
fn sensitivity(at: &str, ours: &Shown) -> (Effect, String) {
    if ours.flip.illegal() > 0 {
        let text = format!(
            "{at}: the planted fault is found, ids and offsets do not belong together in {}{}",
            ours.wrong(),
            ours.paced.shown()
        );
        (Effect::Worse, text)
    } else {
        let text = format!(
            "{at}: the planted fault is not found in {}: the test is blind here",
            counted(ours.answered(), "answer")
        );
        (Effect::Inconclusive, text)
    }
}

fn illegal(pair: &Pair<'_>, at: &str, ours: &Shown) -> (Effect, String) {
    let text = format!(
        "{at}: build ids and offsets that do not belong together in {}, while the file changed \
         {} times{}",
        ours.wrong(),
        count(ours.flip.flips),
        ours.paced.shown()
    );
    match pair.role() {
        // Nothing to judge by: the base has it, or the probe is wrong.
        Role::Reference => (Effect::Inconclusive, text),
        Role::Control | Role::Contender | Role::Sensitivity => (Effect::Worse, text),
    }
}

fn clean(pair: &Pair<'_>, at: &str, step: &Step, ours: &Shown) -> (Effect, String) {
    let answers = counted(ours.answered(), "answer");
    let blind = match pair.sensitivity {
        None => Some("no kernel with a planted fault was run beside it".to_owned()),
        Some(planted) => {
            let theirs = Shown::by(planted, step);
            let name = &planted.id().candidate;
            match (theirs.flip.illegal(), theirs.ran) {
                (0, true) => Some(format!("{name}, with its planted fault, shows none either")),
                (0, false) => Some(format!("{name}, with its planted fault, was not tested so")),
                (_, _) => None,
            }
        }
    };
    let effect = match (&blind, pair.role()) {
        (_, Role::Reference) => Effect::Note,
        (None, Role::Control | Role::Contender | Role::Sensitivity) => Effect::Same,
        (Some(_), Role::Control | Role::Contender | Role::Sensitivity) => Effect::Inconclusive,
    };
    let text = match blind {
        Some(why) => format!(
            "{at}: no build id and offset that do not belong together in {answers}, which counts \
             for nothing: {why}"
        ),
        None => {
            let planted = pair.sensitivity.map(|planted| Shown::by(planted, step));
            let planted = planted.unwrap_or_default();
            // Exactly: below 2.996 / n with 95% confidence, were they independent.
            format!(
                "{at}: build ids and offsets belong together in all {answers} (wrong in fewer \
                 than 1 in {}, 95%), while the file changed {} times{}; with a planted fault \
                 the same test finds 1 in {}",
                count((ours.answered() / 3).max(1)),
                count(ours.flip.flips),
                ours.paced.shown(),
                count(planted.answered() / planted.flip.illegal().max(1)),
            )
        }
    };
    (effect, text)
}

/// Whether what a candidate declares untested was tested after all on this base
/// and architecture: the oracle of the probe it names came to a result.
pub(crate) fn has_tested(candidate: &CandidateInfo, findings: &[Finding], at: &Place) -> bool {
    candidate.tested_by.as_ref().is_some_and(|probe| {
        findings.iter().any(|f| {
            f.oracle == *probe
                && f.place.candidate == candidate.name
                && same_target(&f.place, at)
                && matches!(f.effect, Effect::Same | Effect::Worse)
        })
    })
}

/// The bases and architectures on which what a candidate declares untested
/// remains so: none, some, or all of those it was judged on.
pub(crate) fn untested_on<'a>(
    candidate: &CandidateInfo,
    findings: &[Finding],
    verdicts: &'a [VerdictRow],
) -> Untested<'a> {
    let own = |row: &&VerdictRow| row.place.candidate == candidate.name && !row.declared;
    let all = verdicts.iter().filter(own).count();
    let open: Vec<&Place> = verdicts
        .iter()
        .filter(own)
        .map(|row| &row.place)
        .filter(|at| !has_tested(candidate, findings, at))
        .collect();
    if open.len() == all { Untested::Everywhere } else { Untested::On(open) }
}

/// Where something was not tested.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Untested<'a> {
    /// Wherever there was anything.
    Everywhere,
    /// On these, and tested on the others; perhaps on none.
    On(Vec<&'a Place>),
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::{Story, clean, prediction, subject};
    use super::super::{Comparison, Settings, Subject, compare};
    use super::*;
    use crate::judge::compare::{RateRow, Verdict};
    use bakeoff_fuzz::wire::{Block, Context, Counts, StepOutcome};

    const FLIP: u32 = 7;
    const PLANTED: &str = "lockless-naive-delay";

    fn bake_off() -> Subject {
        let mut subject = subject();
        let step = subject.steps.first().cloned().unwrap().step;
        let step = Step {
            id: FLIP,
            probe: NAME.into(),
            context: Context::Process,
            stress: Stress::Flip,
            blocks: 2,
            ..step
        };
        subject.steps.push(step.into());
        for candidate in &mut subject.candidates {
            candidate.tested_by = candidate.untested.as_ref().map(|_| NAME.to_owned());
        }
        subject.candidates.push(CandidateInfo {
            name: PLANTED.into(),
            role: Role::Sensitivity,
            title: "a planted fault".into(),
            untested: None,
            tested_by: None,
        });
        subject
    }

    /// The cell with two blocks of the flip step, so many decoys in each.
    fn flips(mut seen: Observation, decoy: u64) -> Observation {
        let flip = Flip { flips: 500, legal: 4000 - decoy, decoy, ..Flip::default() };
        for boot in &mut seen.boots {
            boot.asked.push(FLIP);
            boot.begun.push(FLIP);
            boot.steps.insert(FLIP, StepOutcome::Done);
            let like = boot.blocks.first().cloned().unwrap();
            boot.blocks.extend((0..2).map(|block| Block {
                step: FLIP,
                block,
                at_ns: u64::from(block) * 50_000_000,
                counts: Counts { calls: 1000, flip: Some(Box::new(flip)), ..Counts::default() },
                ..like.clone()
            }));
        }
        seen
    }

    fn planted(decoy: u64) -> Observation {
        let mut seen = flips(clean(PLANTED, "x86_64"), decoy);
        seen.cell.role = Role::Sensitivity;
        for boot in &mut seen.boots {
            boot.blocks.retain(|block| block.step == FLIP);
        }
        seen
    }

    fn judged(tree: Observation, beside: Option<Observation>) -> Comparison {
        let mut all: Vec<Observation> = prediction("x86_64");
        all.retain(|seen| seen.id().candidate != "lockless-tree");
        let mut all: Vec<Observation> = all.into_iter().map(|seen| flips(seen, 0)).collect();
        all.push(tree);
        all.extend(beside);
        compare(&bake_off(), &all, &Settings::default())
    }

    /// A story for each oracle's test that none is forgotten.
    pub(in crate::judge::compare) fn story() -> Comparison {
        judged(tree(0), Some(planted(40)))
    }

    fn effect(found: &Comparison, candidate: &str) -> (Effect, String) {
        let own = |f: &&Finding| f.oracle == NAME && f.place.candidate == candidate;
        let finding = found.findings.iter().find(own).unwrap();
        (finding.effect, finding.text.clone())
    }

    fn tree(decoy: u64) -> Observation {
        flips(clean("lockless-tree", "x86_64"), decoy)
    }

    fn reasons(found: &Comparison, candidate: &str) -> (Verdict, String) {
        let row = found.verdicts.iter().find(|v| v.place.candidate == candidate).unwrap();
        (row.verdict, row.reasons.join("\n"))
    }

    /// A clean count beside a planted fault that was found is a result: what the
    /// candidate declared untested has been tested.
    #[test]
    fn clean_counts_where_the_planted_fault_was_found() {
        let found = judged(tree(0), Some(planted(40)));
        let (effect, text) = effect(&found, "lockless-tree");
        assert_eq!(effect, Effect::Same, "{text}");
        assert!(text.contains("all 8,000 answers") && text.contains("1 in 2,666"), "{text}");
        assert!(text.contains("finds 1 in 100"), "{text}");
        // From the start of one block to the start of the next: 1,000 calls in 50 ms.
        assert!(text.contains("20,000 samples and 10,000 flips a second"), "{text}");
        let (_, reasons) = reasons(&found, "lockless-tree");
        assert!(!reasons.contains("not tested:"), "{reasons}");
        assert!(!found.not_tested.iter().any(|n| n.candidate.as_deref() == Some("lockless-tree")));
    }

    /// The same count counts for nothing where the planted fault was not found,
    /// not tested, or not there.
    #[test]
    fn clean_counts_for_nothing_where_the_test_is_blind() {
        let untested = planted(40).boots(|_| false);
        for (beside, why) in [
            (None, "no kernel with a planted fault"),
            (Some(planted(0)), "shows none either"),
            (Some(untested), "was not tested so"),
        ] {
            let found = judged(tree(0), beside);
            let (effect, text) = effect(&found, "lockless-tree");
            assert_eq!(effect, Effect::Inconclusive, "{text}");
            assert!(text.contains(why), "{text}");
            let (verdict, reasons) = reasons(&found, "lockless-tree");
            assert_eq!(verdict, Verdict::Inconclusive);
            assert!(reasons.contains("not tested: correctness"), "{reasons}");
            let row =
                found.not_tested.iter().find(|n| n.candidate.as_deref() == Some("lockless-tree"));
            assert!(row.is_some_and(|row| row.what.contains("correctness")));
        }
    }

    /// One wrong pair is worse, whatever the planted fault does; it says of which
    /// kind.
    #[test]
    fn a_wrong_pair_is_worse() {
        for beside in [None, Some(planted(0)), Some(planted(40))] {
            let found = judged(tree(1), beside);
            let (effect, text) = effect(&found, "lockless-tree");
            assert_eq!(effect, Effect::Worse, "{text}");
            assert!(text.contains("2 of 8,000 answers (1 in 4,000): 2 of a file never"), "{text}");
            assert_eq!(reasons(&found, "lockless-tree").0, Verdict::Worse);
        }
    }

    /// The kernel with the planted fault has a verdict about the test, and no
    /// rate, no splat and no gate.
    #[test]
    fn the_planted_fault_competes_for_nothing() {
        let found = judged(tree(0), Some(planted(40).splats("BUG in x", 1)));
        assert_eq!(effect(&found, PLANTED).0, Effect::Worse);
        assert!(!found.rates.iter().any(|row| row.place.candidate == PLANTED));
        assert!(!found.gates.iter().any(|row| row.place.candidate == PLANTED));
        let other = |f: &&Finding| f.place.candidate == PLANTED && f.effect != Effect::Same;
        assert!(found.findings.iter().filter(other).all(|f| f.oracle == NAME));
        assert_eq!(effect(&judged(tree(0), Some(planted(0))), PLANTED).0, Effect::Inconclusive);
    }

    /// How many pairs there are depends on how fast the mapping changes: that is
    /// shown, and blames nobody.
    #[test]
    fn how_many_answers_there_are_is_not_judged() {
        let found = judged(tree(0), Some(planted(40)));
        let own = |row: &&RateRow| row.place.candidate == "lockless-tree" && row.step == FLIP;
        let row = found.rates.iter().find(own).unwrap();
        assert!(row.calls > 0 && row.correct == 0 && row.reason.contains("not held equal"));
        let flips = |f: &&Finding| f.oracle == "availability" && f.text.contains("process/flip");
        assert!(found.findings.iter().filter(flips).all(|f| f.effect == Effect::Note));
        assert_eq!(reasons(&found, "lockless-tree").0, Verdict::Same);
    }

    /// No answer cannot be wrong, and a mapping that never changed is our error.
    #[test]
    fn nothing_to_check_is_no_result() {
        let change = |mut seen: Observation, to: Flip| {
            let blocks = seen.boots.iter_mut().flat_map(|boot| &mut boot.blocks);
            blocks.filter_map(|b| b.counts.flip.as_deref_mut()).for_each(|flip| *flip = to);
            seen
        };
        let silent = change(tree(0), Flip { flips: 500, ip: 4000, ..Flip::default() });
        let (note, text) = effect(&judged(silent, Some(planted(40))), "lockless-tree");
        assert!(note == Effect::Note && text.contains("no answer in 2,000 calls"), "{text}");
        let still = change(tree(0), Flip { legal: 4000, ..Flip::default() });
        let (ours, text) = effect(&judged(still, Some(planted(40))), "lockless-tree");
        assert!(ours == Effect::Inconclusive && text.contains("never changed"), "{text}");
    }
}
