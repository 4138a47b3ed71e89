// SPDX-License-Identifier: MIT OR Apache-2.0
//! One corpus, replayed the same way on two kernels: what differs?
//!
//! A pure function of two replays. Only what is the same in every boot of a
//! kernel is compared; what differs between two boots of the reference is noise
//! and is listed as such. Where the patched functions had no coverage the answer
//! is "not reached", never "the same".

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::replay::{Replay, Reproduced};

/// What a candidate did to a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Only the candidate reports it.
    Introduced,
    /// Only the reference reports it.
    Fixed,
    /// Both do.
    Everywhere,
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
    /// Operations left out because their errno differs from boot to boot of one
    /// kernel, as `program.operation`.
    pub unstable: Vec<String>,
    /// Programs that were run on both, in every boot.
    pub compared: usize,
    /// Patched functions that no program reached on the candidate.
    pub not_reached: Vec<String>,
}

/// Errnos that are the same in every boot, by program; what a boot did not come
/// to is left out.
fn stable(replay: &Replay) -> BTreeMap<u32, Vec<Option<i32>>> {
    let mut programs: BTreeMap<u32, Vec<Option<i32>>> = BTreeMap::new();
    let mut missing = BTreeSet::new();
    for (number, boot) in replay.boots.iter().enumerate() {
        for (program, replayed) in &boot.replayed {
            match programs.get_mut(program) {
                None if number == 0 => {
                    let errnos = replayed.errnos.iter().copied().map(Some).collect();
                    programs.insert(*program, errnos);
                }
                None => {}
                Some(known) => {
                    for (known, errno) in known.iter_mut().zip(&replayed.errnos) {
                        if *known != Some(*errno) {
                            *known = None;
                        }
                    }
                }
            }
        }
        missing.extend(programs.keys().filter(|p| !boot.replayed.contains_key(p)).copied());
    }
    programs.retain(|program, _| !missing.contains(program));
    programs
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
    let (theirs, ours) = (stable(reference), stable(candidate));
    let mut errnos = Vec::new();
    let mut compared = 0;
    for (program, theirs) in &theirs {
        let Some(ours) = ours.get(program) else { continue };
        compared += 1;
        for (op, (theirs, ours)) in theirs.iter().zip(ours).enumerate() {
            if let (Some(reference), Some(candidate)) = (*theirs, *ours)
                && reference != candidate
            {
                errnos.push(ErrnoChange { program: *program, op, reference, candidate });
            }
        }
    }
    let noise: BTreeSet<&String> = reference.unstable.iter().chain(&candidate.unstable).collect();
    Across {
        reference: reference.cell.clone(),
        candidate: candidate.cell.clone(),
        reports,
        errnos,
        unstable: noise.into_iter().cloned().collect(),
        compared,
        not_reached: candidate.not_reached.clone(),
    }
}

impl Across {
    /// The comparison for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!(
            "{} against {}: {} programs compared\n",
            self.candidate, self.reference, self.compared
        );
        for (fingerprint, report) in &self.reports {
            let word = match report.change {
                Change::Introduced => "introduced",
                Change::Fixed => "fixed",
                Change::Everywhere => "everywhere",
            };
            let ((theirs, of_theirs), (ours, of_ours)) = (report.reference, report.candidate);
            out.push_str(&format!(
                "{word}: {fingerprint} {} (in {ours} of {of_ours} boots, reference {theirs} of \
                 {of_theirs})\n",
                report.title
            ));
        }
        for ErrnoChange { program, op, reference, candidate } in &self.errnos {
            out.push_str(&format!(
                "errno: program {program}, operation {op}: {candidate}, reference {reference}\n"
            ));
        }
        if !self.unstable.is_empty() {
            let count = self.unstable.len();
            out.push_str(&format!("{count} operations differ from boot to boot: not compared\n"));
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
    use crate::fuzzing::replay::{Boot, Replayed};

    fn replay(cell: &str, boots: &[&[(u32, &[i32])]], reports: &[&str]) -> Replay {
        let boots: Vec<Boot> = boots
            .iter()
            .map(|programs| Boot {
                end: "Ran".into(),
                reports: BTreeMap::new(),
                replayed: programs
                    .iter()
                    .map(|(index, errnos)| {
                        (*index, Replayed { errnos: errnos.to_vec(), bpf_runs: 0, pcs: 0 })
                    })
                    .collect(),
                debug_locks: None,
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
            not_reached: Vec::new(),
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
    }
}
