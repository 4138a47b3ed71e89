// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reference against itself: whom does a bake-off blame where there is nobody to
//! blame?
//!
//! A run of 2 N copies of the reference gives N independent bake-offs: the first two copies
//! are the reference and the contender of the first one, the next two of the second. Each
//! is judged by itself, as a real one is. Then all boots are dealt anew, many times, to a
//! reference and as many contenders as the bake-off has. Of two equal kernels none loses
//! and none gains.

use std::fmt;

use crate::base::data::DataDir;
use crate::base::error::{Error, Result};
use crate::judge::claims::{Permuted, clopper_pearson};
use crate::judge::compare::words::{counted, list, plain};
use crate::judge::compare::{Subject, compare, pools};
use crate::judge::row::{ClaimReading, Verdict};
use crate::keep::freeze;
use crate::keep::store::{RunJson, Store, read_json};
use crate::see::assemble::observe_cell;
use crate::see::observation::Observation;
use crate::spec::Role;

/// Times the boots are dealt anew.
const DEALS: u64 = 500;
/// Contenders of a dealt bake-off.
const RIVALS: usize = 4;

/// One bake-off of the reference against itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bakeoff {
    /// The copy that was the contender.
    pub copy: String,
    /// On which base and architecture.
    pub place: String,
    /// Claims, and those that were decided.
    pub claims: usize,
    /// Claims that were decided.
    pub decided: usize,
    /// What was read as a gain or a loss, and what else spoke against the copy.
    pub blamed: Vec<String>,
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calibration {
    /// In the order of the plan.
    pub bakeoffs: Vec<Bakeoff>,
    /// The same boots, dealt anew.
    pub dealt: Option<Permuted>,
    /// Where the evidence lies.
    pub run: String,
}

impl Calibration {
    /// Bake-offs in which the copy was told from itself.
    #[must_use]
    pub fn blamed(&self) -> usize {
        self.bakeoffs.iter().filter(|one| !one.blamed.is_empty()).count()
    }
}

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.bakeoffs.len() as u64;
        let blamed = self.blamed() as u64;
        let bounds = clopper_pearson(blamed, all, crate::spec::CONFIDENCE);
        let bounds = bounds.map_or_else(String::new, |bounds| {
            format!(" [{:.1} %, {:.1} %]", bounds.low * 100.0, bounds.high * 100.0)
        });
        let sum = |of: fn(&Bakeoff) -> usize| self.bakeoffs.iter().map(of).sum::<usize>();
        writeln!(
            f,
            "{} of the reference against itself: {blamed} blamed{bounds}; {} of {} claims decided",
            counted(all, "bake-off"),
            sum(|one| one.decided),
            sum(|one| one.claims),
        )?;
        for one in self.bakeoffs.iter().filter(|one| !one.blamed.is_empty()) {
            writeln!(f, "  {} on {}: {}", one.copy, one.place, plain(&list(&one.blamed), 240))?;
        }
        if let Some(dealt) = &self.dealt {
            let Permuted { times, blamed, praised, claims, decided } = dealt;
            writeln!(
                f,
                "the same boots dealt anew, {times} times: a loss read in {blamed}, a gain in \
                 {praised}; {decided} of {claims} claims decided"
            )?;
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
    let asked = pools(subject.plan, &all);
    let dealt = crate::judge::claims::permute(&asked, RIVALS, DEALS, run.plan.seed);
    let run = store.root().display().to_string();
    Ok(Calibration { bakeoffs: bakeoffs(&subject, &all), dealt, run })
}

/// Two copies on one base and architecture, as reference and contender.
pub(crate) struct Pair<'a> {
    /// On which base and architecture.
    place: String,
    /// The copy that is the contender.
    copy: &'a str,
    /// Both, with those roles.
    pub(crate) seen: Vec<Observation>,
}

/// The bake-offs in a run of copies: each two copies are one.
pub(crate) fn pairs(all: &[Observation]) -> Vec<Pair<'_>> {
    let mut places: indexmap::IndexMap<(&str, &str), Vec<&Observation>> = indexmap::IndexMap::new();
    for seen in all {
        let id = seen.id();
        places.entry((&id.base, &id.arch)).or_default().push(seen);
    }
    let mut pairs = Vec::new();
    for ((base, arch), here) in places {
        let mut names: Vec<&str> = Vec::new();
        for seen in &here {
            if !names.contains(&seen.id().candidate.as_str()) {
                names.push(&seen.id().candidate);
            }
        }
        for pair in names.chunks_exact(2) {
            let [reference, copy] = pair else { continue };
            let with = |name: &str, role: Role| {
                let own = here.iter().filter(move |seen| seen.id().candidate == name);
                own.map(move |seen| {
                    let mut seen = (*seen).clone();
                    seen.cell.role = role;
                    seen
                })
                .collect::<Vec<_>>()
            };
            let seen = [with(reference, Role::Reference), with(copy, Role::Contender)].concat();
            pairs.push(Pair { place: format!("{base}/{arch}"), copy, seen });
        }
    }
    pairs
}

/// One bake-off for each pair of copies.
fn bakeoffs(subject: &Subject<'_>, all: &[Observation]) -> Vec<Bakeoff> {
    let judged = |Pair { place, copy, seen }: Pair<'_>| {
        let found = compare(subject, &seen);
        let rows = || found.claims.iter().filter(|row| row.place.candidate == copy);
        let decided = |reading: ClaimReading| {
            !matches!(reading, ClaimReading::Open | ClaimReading::NotReached)
        };
        let mut blamed: Vec<String> = rows()
            .filter(|row| {
                matches!(
                    row.reading,
                    ClaimReading::Gains | ClaimReading::Loses | ClaimReading::LosesLittle
                )
            })
            .map(|row| format!("{} {}", row.claim, crate::base::words::word(row.reading)))
            .collect();
        let verdict = found.verdicts.iter().find(|row| row.place.candidate == copy);
        if let Some(verdict) = verdict.filter(|row| row.verdict == Verdict::NotOk)
            && blamed.is_empty()
        {
            blamed.extend(verdict.because.first().cloned());
        }
        Bakeoff {
            copy: copy.to_owned(),
            place,
            claims: rows().count(),
            decided: rows().filter(|row| decided(row.reading)).count(),
            blamed,
        }
    };
    pairs(all).into_iter().map(judged).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::claims::permute;
    use crate::judge::compare::tests::story::{BOOTS, CLAIM, IDLE, Story, TOP, half};

    fn copies() -> Story {
        let Story { mut spec, dir, .. } = Story::of(&CLAIM.replace("5 points", "10 points"));
        spec.against_itself(3);
        Story::with(spec, dir)
    }

    /// Each two copies are a bake-off of their own, and equal ones blame nobody and decide
    /// everything.
    #[test]
    fn copies_are_judged_in_pairs() {
        let story = copies();
        let found = bakeoffs(&story.subject(), &story.seen);
        let names: Vec<&str> = found.iter().map(|one| one.copy.as_str()).collect();
        assert_eq!(names, ["landed-again-1", "landed-again-3"]);
        assert!(found.iter().all(|one| one.blamed.is_empty() && one.claims == 1));
        assert_eq!(found.iter().map(|one| one.decided).sum::<usize>(), 2);
    }

    /// A copy that is told from the other one is blamed, whichever way, and a report that
    /// only it has blames it as well.
    #[test]
    fn a_copy_that_differs_is_blamed() {
        let mut story = copies();
        story.right("landed-again-3", IDLE, TOP, &half(20));
        story.splat("landed-again-1", "WARNING in x", BOOTS);
        let found = bakeoffs(&story.subject(), &story.seen);
        assert_eq!(found[1].blamed, ["idle gains"]);
        assert!(found[0].blamed[0].contains("WARNING in x"), "{found:?}");
        let all = Calibration { bakeoffs: found, dealt: None, run: "RUN".into() };
        assert_eq!(all.blamed(), 2);
        assert!(all.to_string().starts_with("2 bake-offs of the reference against itself: 2"));
    }

    /// All boots of all copies are dealt anew as one pool in which no two boots of different
    /// copies are the same, and equal kernels are hardly ever told apart.
    #[test]
    fn boots_are_dealt_anew() {
        let story = copies();
        let pools = pools(&story.plan, &story.seen);
        assert_eq!(pools.len(), 1);
        let visits = &pools[0].conditions[0].reference;
        let boots: std::collections::BTreeSet<u32> = visits.iter().map(|v| v.boot).collect();
        assert_eq!((visits.len(), boots.len()), (4 * BOOTS, 4 * BOOTS));
        let dealt = permute(&pools, 3, 40, 1).unwrap();
        assert_eq!(dealt.times, 40);
        assert!(dealt.blamed + dealt.praised <= 4, "{dealt:?}");
    }
}
