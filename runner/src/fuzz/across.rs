// SPDX-License-Identifier: MIT OR Apache-2.0
//! One corpus, replayed the same way on two kernels: what differs?
//!
//! A pure function of two replays. Only what is the same in every boot of a
//! kernel is compared; what differs between two boots of the reference is noise
//! and is listed as such. Where the patched functions had no coverage the answer
//! is "not reached", never "the same".

use std::collections::{BTreeMap, BTreeSet};

use bakeoff_fuzz::engine::Lookup;
use serde::{Deserialize, Serialize};

use super::replay::{Replay, Reproduced, Unstable};
use bakeoff_fuzz::stats::clopper_pearson;

/// What a candidate did to a report.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Only the candidate reports it.
    Introduced,
    /// Only the reference reports it.
    Fixed,
    /// Both do.
    Everywhere,
}

/// What a corpus says about a candidate, in a word.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It has a report that the reference does not have.
    Introduces,
    /// It has no new report; calls or lookups answer differently.
    AnswersDiffer,
    /// It reports no more and answers the same.
    NothingDiffers,
    /// No program ran through a function that the candidates patch, or none came
    /// to its end on both: nothing was tested, and nothing passed.
    NotReached,
}

/// A report on either side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportChange {
    /// What the candidate did to it.
    pub change: Change,
    /// Its title.
    pub title: String,
    /// Boots with it and boots, on the reference.
    pub reference: (u64, u64),
    /// The same on the candidate.
    pub candidate: (u64, u64),
}

/// An operation that answers differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrnoChange {
    /// Place of the program in the corpus.
    pub program: u32,
    /// Place of the operation in the program.
    pub op: usize,
    /// Errno on the reference; 0 is success.
    pub reference: i32,
    /// Errno on the candidate.
    pub candidate: i32,
}

/// Lookups of one operation's stack that answer differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupChange {
    /// Place of the program in the corpus.
    pub program: u32,
    /// Place of the operation in the program.
    pub op: u32,
    /// Frames with a build id and with an address only, on the reference.
    pub reference: (u8, u8),
    /// The same on the candidate.
    pub candidate: (u8, u8),
}

/// What a comparison has come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Across {
    /// The reference's cell.
    pub reference: String,
    /// The candidate's cell.
    pub candidate: String,
    /// Reports, by fingerprint.
    pub reports: BTreeMap<String, ReportChange>,
    /// Operations that answer differently, in every boot.
    pub errnos: Vec<ErrnoChange>,
    /// Lookups that answer differently, in every boot.
    pub lookups: Vec<LookupChange>,
    /// Frames that the compared lookups answered with a build id, and all of their
    /// frames, on the reference.
    pub reference_valid: (u64, u64),
    /// The same on the candidate.
    pub candidate_valid: (u64, u64),
    /// Operations left out, with the reason, on either.
    pub unstable: Vec<Unstable>,
    /// Programs that were run on both, in every boot.
    pub compared: usize,
    /// What all this comes to.
    pub outcome: Outcome,
    /// Patched functions that programs reached on the candidate.
    pub reached: Vec<String>,
    /// Patched functions that no program reached on the candidate.
    pub not_reached: Vec<String>,
}

/// What is the same in every boot, by program; what a boot did not come to is
/// left out.
struct Stable {
    /// Errno of each operation; `None` if it differs.
    errnos: Vec<Option<i32>>,
    /// Lookups by operation.
    lookups: BTreeMap<u32, Lookup>,
}

fn stable(replay: &Replay) -> BTreeMap<u32, Stable> {
    let mut boots = replay.boots.iter();
    let Some(first) = boots.next() else { return BTreeMap::new() };
    let mut programs: BTreeMap<u32, Stable> = first
        .replayed
        .iter()
        .map(|(program, replayed)| {
            let errnos = replayed.errnos.iter().copied().map(Some).collect();
            let lookups = replayed.lookups.iter().map(|lookup| (lookup.op, *lookup)).collect();
            (*program, Stable { errnos, lookups })
        })
        .collect();
    for boot in boots {
        programs.retain(|program, Stable { errnos, lookups }| {
            let Some(replayed) = boot.replayed.get(program) else { return false };
            for (known, errno) in errnos.iter_mut().zip(&replayed.errnos) {
                if *known != Some(*errno) {
                    *known = None;
                }
            }
            lookups.retain(|_, lookup| replayed.lookups.contains(lookup));
            true
        });
    }
    for Unstable { program, op, .. } in &replay.unstable {
        if let Some(known) = programs.get_mut(program).and_then(|p| p.errnos.get_mut(*op)) {
            *known = None;
        }
    }
    programs
}

fn compare_lookups(program: u32, theirs: &Stable, ours: &Stable, across: &mut Across) {
    for (op, theirs) in &theirs.lookups {
        let Some(ours) = ours.lookups.get(op) else { continue };
        let count = |lookup: &Lookup, sum: &mut (u64, u64)| {
            sum.0 += u64::from(lookup.valid);
            sum.1 += u64::from(lookup.valid) + u64::from(lookup.address);
        };
        count(theirs, &mut across.reference_valid);
        count(ours, &mut across.candidate_valid);
        let (reference, candidate) = ((theirs.valid, theirs.address), (ours.valid, ours.address));
        if reference != candidate {
            across.lookups.push(LookupChange { program, op: *op, reference, candidate });
        }
    }
}

/// Compares a candidate's replay with the reference's.
#[must_use]
pub fn compare(reference: &Replay, candidate: &Replay) -> Across {
    let boots = |replay: &Replay| replay.boots.len() as u64;
    let mut reports = BTreeMap::new();
    let fingerprints: BTreeSet<&String> =
        reference.reproduced.keys().chain(candidate.reproduced.keys()).collect();
    for fingerprint in fingerprints {
        let (ours, theirs) =
            (candidate.reproduced.get(fingerprint), reference.reproduced.get(fingerprint));
        let change = match (ours, theirs) {
            (Some(_), Some(_)) => Change::Everywhere,
            (Some(_), None) => Change::Introduced,
            (None, _) => Change::Fixed,
        };
        let count = |found: Option<&Reproduced>, of: u64| (found.map_or(0, |r| r.boots), of);
        let title = ours.or(theirs).map(|found| found.title.clone()).unwrap_or_default();
        reports.insert(
            fingerprint.clone(),
            ReportChange {
                change,
                title,
                reference: count(theirs, boots(reference)),
                candidate: count(ours, boots(candidate)),
            },
        );
    }
    let mut noise = [reference.unstable.clone(), candidate.unstable.clone()].concat();
    noise.sort();
    noise.dedup();
    let mut across = Across {
        reference: reference.cell.clone(),
        candidate: candidate.cell.clone(),
        reports,
        errnos: Vec::new(),
        lookups: Vec::new(),
        reference_valid: (0, 0),
        candidate_valid: (0, 0),
        unstable: noise,
        compared: 0,
        outcome: Outcome::NotReached,
        reached: candidate.reached.clone(),
        not_reached: candidate.not_reached.clone(),
    };
    let (theirs, ours) = (stable(reference), stable(candidate));
    for (program, theirs) in &theirs {
        let Some(ours) = ours.get(program) else { continue };
        across.compared += 1;
        for (op, (theirs, ours)) in theirs.errnos.iter().zip(&ours.errnos).enumerate() {
            if let (Some(reference), Some(candidate)) = (*theirs, *ours)
                && reference != candidate
            {
                across.errnos.push(ErrnoChange { program: *program, op, reference, candidate });
            }
        }
        compare_lookups(*program, theirs, ours, &mut across);
    }
    across.outcome = across.outcome();
    across
}

impl Across {
    fn outcome(&self) -> Outcome {
        let introduces = self.reports.values().any(|report| report.change == Change::Introduced);
        // A patch of nothing that a kernel has has nothing to be reached.
        let patched = !self.reached.is_empty() || !self.not_reached.is_empty();
        if introduces {
            Outcome::Introduces
        } else if self.compared == 0 || (patched && self.reached.is_empty()) {
            Outcome::NotReached
        } else if self.errnos.is_empty() && self.lookups.is_empty() {
            Outcome::NothingDiffers
        } else {
            Outcome::AnswersDiffer
        }
    }

    /// The comparison for people.
    #[must_use]
    pub fn text(&self) -> String {
        let word = match self.outcome {
            Outcome::Introduces => "it has a report that the reference has not",
            Outcome::AnswersDiffer => "no new report; answers differ",
            Outcome::NothingDiffers => "nothing differs",
            Outcome::NotReached => "not reached: nothing was tested",
        };
        let mut out = format!(
            "{} against {}\n{} programs compared: {word}\n",
            self.candidate, self.reference, self.compared
        );
        for (fingerprint, report) in &self.reports {
            let word = match report.change {
                Change::Introduced => "introduced",
                Change::Fixed => "fixed",
                Change::Everywhere => "everywhere",
            };
            let counted = |(boots, of): (u64, u64)| {
                let (low, high) = clopper_pearson(boots, of, 0.95)
                    .map_or((0.0, 1.0), |interval| (interval.low, interval.high));
                format!("{boots} of {of} boots ({low:.2} to {high:.2})")
            };
            out.push_str(&format!(
                "{word}: {fingerprint} {}\n  in {}, reference {}\n",
                report.title,
                counted(report.candidate),
                counted(report.reference)
            ));
        }
        let ((theirs, of_theirs), (ours, of_ours)) = (self.reference_valid, self.candidate_valid);
        if of_theirs > 0 {
            out.push_str(&format!(
                "build ids: {ours} of {of_ours} frames, reference {theirs} of {of_theirs}; \
                 {} lookups differ\n",
                self.lookups.len()
            ));
        }
        for ErrnoChange { program, op, reference, candidate } in &self.errnos {
            out.push_str(&format!(
                "errno: program {program}, operation {op}: {candidate}, reference {reference}\n"
            ));
        }
        for Unstable { program, op, answers, why } in &self.unstable {
            let answers: Vec<String> = answers.iter().map(i32::to_string).collect();
            out.push_str(&format!(
                "not compared: program {program}, operation {op} (errno {}): {why}\n",
                answers.join(", ")
            ));
        }
        for function in &self.not_reached {
            out.push_str(&format!("not reached: {function}\n"));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::replay::{Boot, Replayed};

    fn replayed(errnos: &[i32]) -> Replayed {
        Replayed { errnos: errnos.to_vec(), bpf_runs: 0, pcs: 0, lookups: Vec::new() }
    }

    fn replay(cell: &str, boots: &[&[(u32, &[i32])]], reports: &[&str]) -> Replay {
        let boots: Vec<Boot> = boots
            .iter()
            .map(|programs| Boot {
                end: "Ran".into(),
                replayed: programs
                    .iter()
                    .map(|(index, errnos)| (*index, replayed(errnos)))
                    .collect(),
                ..Boot::default()
            })
            .collect();
        let of = boots.len() as u64;
        let reproduced = reports
            .iter()
            .map(|f| {
                let again = Reproduced { title: "t".into(), boots: 1, of, interval: None };
                ((*f).to_owned(), again)
            })
            .collect();
        Replay {
            cell: cell.into(),
            boots,
            reproduced,
            unstable: Vec::new(),
            reached: vec!["old_lookup".into()],
            not_reached: Vec::new(),
            functions: BTreeMap::new(),
            files: BTreeMap::new(),
            operations: BTreeMap::new(),
        }
    }

    /// Only answers that are the same in every boot of both kernels count, and a
    /// program that one of them did not come to is not compared.
    #[test]
    fn noise_is_no_difference() {
        let reference = replay("r", &[&[(0, &[0, 0, 22]), (1, &[0])], &[(0, &[0, 11, 22])]], &[]);
        let candidate = replay("c", &[&[(0, &[0, 0, 0])], &[(0, &[0, 0, 0])]], &[]);
        let across = compare(&reference, &candidate);
        assert_eq!(across.compared, 1);
        assert_eq!(across.errnos, [ErrnoChange { program: 0, op: 2, reference: 22, candidate: 0 }]);
    }

    /// A report is introduced, fixed, or everywhere.
    #[test]
    fn reports_are_told_apart() {
        let reference = replay("r", &[&[]], &["old", "both"]);
        let candidate = replay("c", &[&[]], &["new", "both"]);
        let across = compare(&reference, &candidate);
        let change = |f: &str| across.reports[f].change;
        assert_eq!(
            (change("old"), change("new"), change("both")),
            (Change::Fixed, Change::Introduced, Change::Everywhere)
        );
        assert_eq!(across.reports["new"].reference, (0, 1));
    }

    /// The same kernel against itself: nothing.
    #[test]
    fn the_same_is_the_same() {
        let one = replay("r", &[&[(0, &[0, 1])]], &[]);
        let across = compare(&one, &one);
        assert!(across.errnos.is_empty() && across.reports.is_empty());
        assert_eq!(across.outcome, Outcome::NothingDiffers);
    }

    /// Without coverage of what is patched the answer is neither yes nor no.
    #[test]
    fn not_reached_is_not_passed() {
        let one = replay("r", &[&[(0, &[0, 1])]], &[]);
        let mut other = one.clone();
        other.not_reached = std::mem::take(&mut other.reached);
        let across = compare(&one, &other);
        assert_eq!(across.outcome, Outcome::NotReached);
        assert!(across.text().contains("not reached: old_lookup"), "{}", across.text());
        let nothing = replay("c", &[&[]], &[]);
        assert_eq!(compare(&one, &nothing).outcome, Outcome::NotReached);
        // A report is one, reached or not.
        let reports = Replay { reproduced: replay("c", &[&[]], &["x"]).reproduced, ..other };
        assert_eq!(compare(&one, &reports).outcome, Outcome::Introduces);
    }

    /// Lookups are compared frame by frame, where each kernel is sure of itself.
    #[test]
    fn lookups_are_compared() {
        let with = |answers: &[(u8, u8)]| {
            let mut replay = replay("r", &[&[(0, &[0])], &[(0, &[0])]], &[]);
            for (boot, (valid, address)) in replay.boots.iter_mut().zip(answers) {
                let lookup = Lookup { op: 0, valid: *valid, address: *address };
                boot.replayed.get_mut(&0).unwrap().lookups.push(lookup);
            }
            replay
        };
        let across = compare(&with(&[(2, 1), (2, 1)]), &with(&[(0, 3), (0, 3)]));
        assert_eq!((across.reference_valid, across.candidate_valid), ((2, 3), (0, 3)));
        assert_eq!((across.lookups.len(), across.outcome), (1, Outcome::AnswersDiffer));
        let across = compare(&with(&[(2, 1), (2, 1)]), &with(&[(0, 3), (2, 1)]));
        assert_eq!((across.lookups.len(), across.reference_valid), (0, (0, 0)));
    }
}
