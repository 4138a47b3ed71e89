// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reference against itself: whom does a bake-off blame where there is nobody
//! to blame?
//!
//! A run of N copies of the reference gives N bake-offs. In each of them one copy
//! is the contender and two others are the reference's two rounds, so that no two
//! bake-offs have the same reference; each is judged by itself, corrected for its
//! own comparisons only, as a real one is. Verdicts worse and better are blame: of
//! two equal kernels neither is.

use std::fmt;

use crate::base::data::DataDir;
use crate::base::error::{Error, Result};
use crate::judge::compare::words::{counted, list, plain};
use crate::judge::compare::{Settings, Subject, Verdict, compare};
use crate::keep::freeze;
use crate::keep::store::{RunJson, Store, read_json};
use crate::see::assemble::observe_cell;
use crate::see::observation::Observation;
use crate::spec::Role;

/// One bake-off of the reference against itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bakeoff {
    /// The copy that was the contender.
    pub copy: String,
    /// On which base and architecture.
    pub place: String,
    /// What came of it.
    pub verdict: Verdict,
    /// Why.
    pub reasons: Vec<String>,
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calibration {
    /// In the order of the plan.
    pub bakeoffs: Vec<Bakeoff>,
    /// Where the evidence lies.
    pub run: String,
}

impl Calibration {
    fn count(&self, verdict: Verdict) -> usize {
        self.bakeoffs.iter().filter(|one| one.verdict == verdict).count()
    }

    /// Bake-offs in which the copy was called worse or better than itself.
    #[must_use]
    pub fn blamed(&self) -> usize {
        self.count(Verdict::Worse) + self.count(Verdict::Better)
    }
}

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} of the reference against itself: {} blamed ({} worse, {} better), {} same, \
             {} inconclusive",
            counted(self.bakeoffs.len() as u64, "bake-off"),
            self.blamed(),
            self.count(Verdict::Worse),
            self.count(Verdict::Better),
            self.count(Verdict::Same),
            self.count(Verdict::Inconclusive),
        )?;
        for one in self.bakeoffs.iter().filter(|one| one.verdict != Verdict::Same) {
            let verdict = crate::spec::word(one.verdict);
            writeln!(f, "  {} on {}: {verdict}", one.copy, one.place)?;
            for reason in one.reasons.iter().take(4) {
                writeln!(f, "    {}", plain(reason, 240))?;
            }
        }
        writeln!(f, "evidence: {}", self.run)
    }
}

/// Judges every bake-off there is in a run of copies.
///
/// # Errors
/// The run is not one of copies, or is broken.
pub fn judge(store: &Store, data: &DataDir) -> Result<Calibration> {
    let run: RunJson = read_json(&store.run_json())?;
    if run.against_itself.is_none() {
        return Err(Error::bad_input(format!(
            "{} does not set the reference against itself",
            store.root().display()
        ))
        .hint("`bakeoff calibrate SPEC` makes such a run"));
    }
    let spec = freeze::thaw(store, &run, data)?;
    let subject = Subject::new(&spec, &run.plan);
    let all: Vec<Observation> =
        run.plan.cells.iter().map(|cell| observe_cell(store, cell)).collect();
    let run = store.root().display().to_string();
    Ok(Calibration { bakeoffs: bakeoffs(&subject, &all), run })
}

fn bakeoffs(subject: &Subject, all: &[Observation]) -> Vec<Bakeoff> {
    let mut places: Vec<(&str, &str)> = Vec::new();
    for seen in all {
        let at = (seen.id().base.as_str(), seen.id().arch.as_str());
        if !places.contains(&at) {
            places.push(at);
        }
    }
    let mut bakeoffs = Vec::new();
    for (base, arch) in places {
        let here: Vec<&Observation> =
            all.iter().filter(|o| o.id().base == base && o.id().arch == arch).collect();
        let of = |name: &str| -> Vec<&Observation> {
            here.iter().filter(|o| o.id().candidate == name).copied().collect()
        };
        let Some(reference) = here.iter().find(|o| o.cell.role == Role::Reference) else {
            continue;
        };
        let names: Vec<&str> = subject
            .candidates
            .iter()
            .filter(|c| c.role == Role::Contender)
            .map(|c| c.name.as_str())
            .collect();
        for (at, copy) in names.iter().enumerate() {
            let other = |step: usize| names.get((at + step) % names.len()).copied();
            let (Some(first), Some(second)) = (other(1), other(2)) else { continue };
            let mut cells: Vec<Observation> = of(copy).into_iter().cloned().collect();
            for (one, two) in of(first).into_iter().zip(of(second)) {
                cells.push(as_reference(reference, one, two));
            }
            let found = compare(subject, &cells, &Settings::default());
            let row = found.verdicts.into_iter().find(|v| v.place.candidate == *copy);
            bakeoffs.extend(row.map(|row| Bakeoff {
                copy: (*copy).to_owned(),
                place: list(&[format!("{base}/{arch}")]),
                verdict: row.verdict,
                reasons: row.reasons,
            }));
        }
    }
    bakeoffs
}

/// A reference whose two rounds are two copies.
fn as_reference(reference: &Observation, one: &Observation, two: &Observation) -> Observation {
    let mut seen = one.clone();
    seen.cell = reference.cell.clone();
    seen.cell.id.profile.clone_from(&one.cell.id.profile);
    seen.boots = one.boots.clone();
    seen.boots.extend(two.boots.iter().cloned().map(|mut boot| {
        boot.round = 1;
        boot
    }));
    seen.errors.extend(two.errors.iter().cloned());
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::compare::CandidateInfo;
    use crate::judge::compare::testing::{Coins, PROCESS, Story, clean, subject};

    fn copies(times: usize) -> (Subject, Vec<Observation>) {
        let mut subject = subject();
        subject.candidates.truncate(1);
        let mut all = vec![clean("landed", "x86_64")];
        for n in 1..=times {
            let name = format!("landed-again-{n}");
            let like = subject.candidates[0].clone();
            subject.candidates.push(CandidateInfo {
                name: name.clone(),
                role: Role::Contender,
                ..like
            });
            all.push(clean(&name, "x86_64"));
        }
        (subject, all)
    }

    /// Twenty copies that vary as boots do give twenty bake-offs, and none is blamed.
    #[test]
    fn twenty_copies_blame_nobody() {
        let (subject, mut all) = copies(20);
        let mut coins = Coins(20);
        for seen in &mut all {
            for block in seen.boots.iter_mut().flat_map(|boot| &mut boot.blocks) {
                let right = coins.heads(block.counts.calls, 0.998);
                block.counts.top.correct = right;
                block.counts.top.valid = right;
                block.counts.all = block.counts.top;
            }
        }
        let bakeoffs = bakeoffs(&subject, &all);
        assert_eq!(bakeoffs.len(), 20);
        let run = "runs/x".to_owned();
        let calibration = Calibration { bakeoffs, run };
        assert_eq!(calibration.blamed(), 0, "{calibration}");
        assert!(calibration.to_string().starts_with("20 bake-offs"), "{calibration}");
    }

    /// A copy that is none is blamed, and so are nobody else but those it is the
    /// reference of.
    #[test]
    fn an_odd_copy_is_found() {
        let (subject, mut all) = copies(6);
        all[3] = all[3].clone().answers(PROCESS, 700);
        let bakeoffs = bakeoffs(&subject, &all);
        let odd = bakeoffs.iter().find(|one| one.copy == "landed-again-3").unwrap();
        assert_eq!(odd.verdict, Verdict::Worse, "{odd:?}");
        let same = bakeoffs.iter().find(|one| one.copy == "landed-again-5").unwrap();
        assert_eq!(same.verdict, Verdict::Same, "{same:?}");
    }
}
