// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which reports a candidate's kernel makes that the reference's does not, and which of
//! the control's are gone.
//!
//! Nobody is blamed for what was seen once: the boot that raised the suspicion does not
//! count, fresh boots of candidate *and* reference do, with Fisher's exact test. An absence
//! counts only where what provokes the report really ran, with lockdep on, on as many
//! calls as it takes.

use std::collections::{BTreeMap, BTreeSet};

use super::Peers;
use super::cell::{calls_of, console_first, exercise};
use super::confirm::{ALPHA, Asked, ToConfirm, ask, k_of_n};
use super::words::{count, counted, ratio};
use crate::judge::claims::{Confirmed, Seen as Times, fisher};
use crate::judge::row::{KOfN, Place, SplatReading, SplatRow};
use crate::see::observation::{BootObservation, Observation};
use crate::spec::{KnownSplat, Role};

/// Calls, as a multiple of those one report takes in the cell that has it, without a
/// report: the chance of missing it is then e^-3, 5 %.
const EXPECTED: f64 = 3.0;
/// Of a report seen once or twice nobody knows how many calls it takes; nearly as many as
/// there were must do (the limit of time cuts blocks at random).
const NEARLY: f64 = 0.9;
/// Boots of one kernel, at most, to confirm what was seen.
const MOST_BOOTS: u64 = 8;

/// Reports that say nothing about a patch by themselves.
struct Apart {
    kinds: &'static [&'static str],
    title: &'static str,
    reason: &'static str,
}

const APART: &[Apart] = &[
    // Lockdep gives up: our configuration was too small.
    Apart {
        kinds: &["lockdep-overflow"],
        title: "too low!",
        reason: "lockdep's tables overflowed, which is our configuration",
    },
    Apart {
        kinds: &["SYZ_FAILURE", "harness"],
        title: "SYZFAIL",
        reason: "the guest's own program failed",
    },
];

fn apart(splat: &Splat) -> Option<&'static str> {
    let row = APART
        .iter()
        .find(|row| row.kinds.contains(&splat.kind.as_str()) || splat.title.contains(row.title))?;
    Some(row.reason)
}

/// The fingerprint of rows that hold garbled reports.
const CORRUPTED: &str = "corrupted";

/// One report of one cell.
#[derive(Clone, Debug)]
struct Splat {
    kind: String,
    title: String,
    count: u64,
    /// Names of the boots that show it, in order.
    boots: Vec<String>,
    all_secondary: bool,
    disables_lockdep: bool,
    signature: Vec<String>,
    first_offset: u64,
    evidence: Vec<String>,
}

type Splats = BTreeMap<String, Splat>;

fn collect(seen: &Observation) -> Splats {
    let mut splats = Splats::new();
    for boot in &seen.boots {
        for splat in &boot.splats {
            let key = if splat.corrupted { CORRUPTED } else { &splat.fingerprint };
            let entry = splats.entry(key.to_owned()).or_insert_with(|| Splat {
                kind: splat.kind.clone(),
                title: splat.title.clone(),
                count: 0,
                boots: Vec::new(),
                all_secondary: true,
                disables_lockdep: false,
                signature: splat.signature.clone(),
                first_offset: splat.offset,
                evidence: Vec::new(),
            });
            entry.count += 1;
            entry.all_secondary &= splat.secondary;
            entry.disables_lockdep |= splat.disables_lockdep;
            if !entry.boots.contains(&boot.name) {
                entry.boots.push(boot.name.clone());
                entry.evidence.extend(console_first(boot));
            }
        }
    }
    splats
}

/// The steps in whose visits a cell showed a report: what provokes it. Of a boot with the
/// report all steps that it had begun.
pub(crate) fn provoking(seen: &Observation, fingerprint: &str) -> BTreeSet<u32> {
    seen.boots
        .iter()
        .filter(|boot| boot.splats.iter().any(|splat| splat.fingerprint == fingerprint))
        .flat_map(|boot| boot.visits.iter().map(|visit| visit.step))
        .collect()
}

/// Whether a boot did enough of what provokes a report to have shown it.
fn could_show(boot: &BootObservation, steps: &BTreeSet<u32>) -> bool {
    boot.hello.is_some()
        && (steps.is_empty()
            || boot.visits.iter().any(|visit| steps.contains(&visit.step) && visit.counts()))
}

/// In how many boots a cell shows a report, of how many that could have; with `after_first`
/// without the one that showed it first.
fn times(seen: &Observation, boots: &[String], steps: &BTreeSet<u32>, after_first: bool) -> Times {
    let first = boots.first();
    let mut found = Times::default();
    for boot in &seen.boots {
        let shows = boots.contains(&boot.name);
        if (after_first && first == Some(&boot.name)) || !(shows || could_show(boot, steps)) {
            continue;
        }
        found.of += 1;
        found.times += u64::from(shows);
    }
    found
}

/// The rows of one cell.
pub(super) fn rows(ours: &Observation, peers: &Peers<'_>, known: &[KnownSplat]) -> Vec<SplatRow> {
    let splats = collect(ours);
    let reference = peers.reference.map(collect).unwrap_or_default();
    let control = match (ours.cell.role, peers.control) {
        (Role::Contender | Role::NegativeControl, Some(control)) => collect(control),
        (Role::Contender | Role::NegativeControl | Role::Control | Role::Reference, _) => {
            Splats::new()
        }
    };
    let judge = Judge { ours, peers, known, reference: &reference, control: &control };
    let mut rows: Vec<SplatRow> =
        splats.iter().map(|(key, splat)| judge.row(key, splat, &splats)).collect();
    for (fingerprint, splat) in &control {
        let told = splats.contains_key(fingerprint) || reference.contains_key(fingerprint);
        if !told && fingerprint != CORRUPTED && !splat.all_secondary && !judge.is_known(splat) {
            rows.extend(judge.absent(fingerprint, splat, &splats));
        }
    }
    rows
}

struct Judge<'a> {
    ours: &'a Observation,
    peers: &'a Peers<'a>,
    known: &'a [KnownSplat],
    reference: &'a Splats,
    control: &'a Splats,
}

impl Judge<'_> {
    fn is_known(&self, splat: &Splat) -> bool {
        self.known.iter().any(|known| known.matches(&splat.title))
    }

    /// What a report of this cell is.
    fn row(&self, fingerprint: &str, splat: &Splat, all: &Splats) -> SplatRow {
        let steps = provoking(self.ours, fingerprint);
        let seen = times(self.ours, &splat.boots, &steps, false);
        let theirs = self.reference.get(fingerprint);
        let reference = self.peers.reference.map_or(Times::default(), |reference| {
            let boots = theirs.map(|splat| splat.boots.as_slice()).unwrap_or_default();
            times(reference, boots, &steps, false)
        });
        let (reading, reason, p) = self.read(fingerprint, splat, all, &steps, (seen, reference));
        SplatRow {
            place: Place::new(self.ours.id(), splat.evidence.clone()),
            kind: splat.kind.clone(),
            title: splat.title.clone(),
            fingerprint: fingerprint.to_owned(),
            reading,
            seen: k_of_n(seen),
            reference: k_of_n(reference),
            p: p.map(super::measure::rounded),
            count: splat.count,
            first_offset: Some(splat.first_offset),
            disables_lockdep: splat.disables_lockdep,
            reason,
            signature: splat.signature.clone(),
        }
    }

    fn read(
        &self,
        fingerprint: &str,
        splat: &Splat,
        all: &Splats,
        steps: &BTreeSet<u32>,
        (seen, reference): (Times, Times),
    ) -> (SplatReading, String, Option<f64>) {
        if let Some(known) = self.known.iter().find(|known| known.matches(&splat.title)) {
            let KnownSplat { reason, link, expires, pattern: _ } = known;
            let reason = format!("known: {reason}, {link} (until {expires})");
            return (SplatReading::Background, reason, None);
        }
        if fingerprint == CORRUPTED {
            return garbled(splat, all, self.reference);
        }
        if let Some(reason) = apart(splat) {
            return (SplatReading::Background, reason.to_owned(), None);
        }
        if self.ours.cell.role == Role::Reference {
            return (SplatReading::Present, "the reference's own".to_owned(), None);
        }
        if reference.times > 0 {
            let test = fisher(seen, reference);
            if test.more <= ALPHA {
                let reason = "the reference has it too, but less often".to_owned();
                return (SplatReading::Exposed, reason, Some(test.more));
            }
            return (SplatReading::Present, "the reference has it too".to_owned(), Some(test.more));
        }
        if splat.all_secondary {
            let reason = "raised while another report was being printed".to_owned();
            return (SplatReading::Background, reason, None);
        }
        if self.ours.cell.role == Role::Control {
            let reason = "the control has it, the reference does not".to_owned();
            return (SplatReading::Control, reason, None);
        }
        if self.control.get(fingerprint).is_some_and(|control| !control.all_secondary) {
            return (SplatReading::Control, "the control's, and still here".to_owned(), None);
        }
        self.candidates_own(splat, steps)
    }

    /// A report that neither the reference nor the control has.
    fn candidates_own(
        &self,
        splat: &Splat,
        steps: &BTreeSet<u32>,
    ) -> (SplatReading, String, Option<f64>) {
        let Some(peer) = self.peers.reference else {
            return (SplatReading::Unclear, "there is no reference to judge it by".into(), None);
        };
        let locks = |o: &Observation| {
            o.boots.iter().filter_map(|b| b.hello.as_ref()).any(|h| h.debug_locks.is_some())
        };
        if locks(self.ours) && !locks(peer) {
            return (SplatReading::Unclear, "the reference ran without lockdep".into(), None);
        }
        let fresh = times(self.ours, &splat.boots, steps, true);
        let theirs = times(peer, &[], steps, false);
        let Asked { confirmed, said, p } = ask(fresh, theirs, " show it");
        let reading = match confirmed {
            Confirmed::Added => SplatReading::Introduced,
            Confirmed::Both => SplatReading::Present,
            Confirmed::SeenOnce | Confirmed::Open { .. } => SplatReading::SeenOnce,
        };
        (reading, said, Some(p))
    }

    /// A report of the control's that this cell does not have.
    fn absent(&self, fingerprint: &str, splat: &Splat, all: &Splats) -> Option<SplatRow> {
        let control = self.peers.control?;
        let steps = provoking(control, fingerprint);
        let seen = times(control, &splat.boots, &steps, false);
        // The same title by another chain may be the same bug.
        let alike = all
            .iter()
            .any(|(key, other)| other.title == splat.title && !self.reference.contains_key(key));
        let ours = times(self.ours, &[], &steps, false);
        // A control that shows it now and then: its absence may be chance.
        let by_chance = seen.times < seen.of && fisher(seen, ours).more > ALPHA;
        let (reading, reason) = if by_chance {
            let why = format!("the control itself shows it in {} of {}", seen.times, seen.of);
            (SplatReading::Unclear, format!("{why} boots: its absence proves nothing"))
        } else {
            match would_show(control, splat, &steps, self.ours) {
                Ok(_) if alike => {
                    let reason = "another report of the same title came here";
                    (SplatReading::Unclear, reason.to_owned())
                }
                Ok(calls) => (SplatReading::Fixed, format!("not seen in {calls}")),
                Err(why) => {
                    (SplatReading::Unclear, format!("cannot tell whether it is gone: {why}"))
                }
            }
        };
        let evidence = self.ours.boots.iter().flat_map(console_first).collect();
        Some(SplatRow {
            place: Place::new(self.ours.id(), evidence),
            kind: splat.kind.clone(),
            title: splat.title.clone(),
            fingerprint: fingerprint.to_owned(),
            reading,
            seen: k_of_n(ours),
            reference: self
                .peers
                .reference
                .map_or(KOfN::default(), |peer| k_of_n(times(peer, &[], &steps, false))),
            p: None,
            count: 0,
            first_offset: None,
            disables_lockdep: false,
            reason,
            signature: splat.signature.clone(),
        })
    }
}

fn garbled(splat: &Splat, all: &Splats, reference: &Splats) -> (SplatReading, String, Option<f64>) {
    let times = counted(splat.count, "report");
    let known = all.iter().any(|(key, other)| key != CORRUPTED && other.title == splat.title)
        || reference.contains_key(CORRUPTED);
    if known {
        let reason = format!("{times} garbled; others of their kind are whole");
        return (SplatReading::Background, reason, None);
    }
    (SplatReading::Unclear, format!("{times} garbled: nobody can tell which they are"), None)
}

/// Whether `there` would have shown a report that `here` has: it did the same steps, with
/// lockdep on, on enough calls. Says on how many, or why not.
fn would_show(
    here: &Observation,
    splat: &Splat,
    steps: &BTreeSet<u32>,
    there: &Observation,
) -> Result<String, String> {
    if there.boots.iter().all(|boot| boot.hello.is_none()) {
        return Err("it never ran there".to_owned());
    }
    let locks = |o: &Observation| {
        o.boots.iter().filter_map(|b| b.hello.as_ref()).any(|hello| hello.debug_locks.is_some())
    };
    if locks(here) && !locks(there) {
        return Err("the kernel there has no lockdep".to_owned());
    }
    let with = || here.boots.iter().filter(|boot| splat.boots.contains(&boot.name));
    let took: u64 = with().flat_map(BootObservation::blocks).map(calls_of).sum();
    let mut calls = 0;
    let mut lost = 0;
    for step in steps {
        let did = exercise(there, *step);
        lost += u64::from(!did.done);
        calls += did.calls;
    }
    if calls == 0 {
        return Err("nothing that provokes it ran there with lockdep on".to_owned());
    }
    let nearly = ratio(took, 1) * NEARLY;
    let needed = (EXPECTED * ratio(took, splat.count.max(1))).min(nearly);
    if ratio(calls, 1) < needed {
        return Err(format!(
            "{} there, but {} in {} where it came",
            counted(calls, "call"),
            counted(splat.count, "time"),
            counted(took, "call")
        ));
    }
    let boots = counted(there.boots.len() as u64, "boot");
    let but = if lost > 0 {
        format!(" ({} not done)", counted(lost, "condition"))
    } else {
        String::new()
    };
    Ok(format!("{} in {boots}{but}", count_calls(calls)))
}

fn count_calls(calls: u64) -> String {
    format!("{} calls", count(calls))
}

/// Reports that were seen, not confirmed, and may still be.
pub(super) fn to_confirm(
    ours: &Observation,
    peers: &Peers<'_>,
    known: &[KnownSplat],
) -> Vec<ToConfirm> {
    if peers.reference.is_none() {
        return Vec::new();
    }
    rows(ours, peers, known)
        .into_iter()
        .filter(|row| row.reading == SplatReading::SeenOnce)
        .filter_map(|row| {
            let steps = provoking(ours, &row.fingerprint);
            let (seen, theirs) = (row.seen, row.reference);
            // The first boot does not count, so one more is needed there.
            let gone = seen.k <= 1 && seen.n > FRESH_BOOTS;
            (!gone && (seen.n < MOST_BOOTS || theirs.n < MOST_BOOTS)).then(|| ToConfirm {
                steps,
                title: row.title,
                more_here: seen.n < MOST_BOOTS,
                more_there: theirs.n + 1 < seen.n.max(FRESH_BOOTS),
            })
        })
        .collect()
}

/// Fresh boots that decide whether something seen once comes again.
const FRESH_BOOTS: u64 = 4;
