// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which splats a candidate adds, keeps or removes.
//!
//! *Added* is judged against the reference, *removed* against the control, and
//! an absence counts only where the exercise that provokes the splat really ran,
//! with lockdep on, on as many calls as it takes.

use std::collections::{BTreeMap, BTreeSet};

use bakeoff_fuzz::wire::{Step, StepOutcome};

use super::cell::{console_first, died_in, exercise, proves};
use super::label;
use super::row::{Beside, Change, Place, SplatRow, small};
use super::words::{count, counted, ratio};
use crate::see::observation::{BootObservation, Observation};
use crate::see::observe::diff::{Edit, edits, pair};
use crate::spec::{KnownSplat, Role};

/// Calls, as a multiple of those one splat takes in the cell that has it, without
/// a splat: the chance of missing it is then e^-3, 5%.
const EXPECTED: f64 = 3.0;
/// Of a splat seen once or twice nobody knows how many calls it takes; nearly as
/// many as there were must do (the limit of time cuts blocks at random).
const NEARLY: f64 = 0.9;

/// Reports that say little about a patch by themselves.
struct Apart {
    kinds: &'static [&'static str],
    title: &'static str,
    /// Boots in which it must have come to count as added; `None`: it never counts.
    boots: Option<usize>,
    reason: &'static str,
}

const APART: &[Apart] = &[
    // An emulated CPU stalls when the host has other work to do.
    Apart {
        kinds: &["HANG", "rcu-stall", "soft-lockup", "hung-task", "workqueue-lockup"],
        title: "rcu detected stall",
        boots: Some(2),
        reason: "a stall in one boot may be the host's; two boots must show it",
    },
    // Lockdep gives up: our configuration was too small.
    Apart {
        kinds: &["lockdep-overflow"],
        title: "too low!",
        boots: None,
        reason: "lockdep's tables overflowed, which is our configuration",
    },
    Apart {
        kinds: &["SYZ_FAILURE", "harness"],
        title: "SYZFAIL",
        boots: None,
        reason: "the guest's own program failed",
    },
];

/// Why a splat does not count as added, if it does not.
fn apart(seen: &Seen) -> Option<&'static str> {
    let row = APART
        .iter()
        .find(|row| row.kinds.contains(&seen.kind.as_str()) || seen.title.contains(row.title))?;
    let enough = row.boots.is_some_and(|boots| seen.boots.len() >= boots);
    (!enough).then_some(row.reason)
}

/// The fingerprint of rows that hold garbled reports.
pub(super) const CORRUPTED: &str = "corrupted";

/// One splat of one cell.
#[derive(Clone, Debug)]
struct Seen {
    kind: String,
    title: String,
    count: u64,
    boots: BTreeSet<String>,
    rounds: BTreeSet<u32>,
    all_secondary: bool,
    disables_lockdep: bool,
    signature: Vec<String>,
    first_offset: u64,
    evidence: Vec<String>,
}

type Splats = BTreeMap<String, Seen>;

fn collect(seen: &Observation) -> Splats {
    let mut splats = Splats::new();
    for boot in &seen.boots {
        for splat in &boot.splats {
            let key = if splat.corrupted { CORRUPTED } else { &splat.fingerprint };
            let entry = splats.entry(key.to_owned()).or_insert_with(|| Seen {
                kind: splat.kind.clone(),
                title: splat.title.clone(),
                count: 0,
                boots: BTreeSet::new(),
                rounds: BTreeSet::new(),
                all_secondary: true,
                disables_lockdep: false,
                signature: splat.signature.clone(),
                first_offset: splat.offset,
                evidence: Vec::new(),
            });
            entry.count += 1;
            entry.all_secondary &= splat.secondary;
            entry.disables_lockdep |= splat.disables_lockdep;
            entry.rounds.insert(boot.round);
            if entry.boots.insert(boot.name.clone()) {
                entry.evidence.extend(console_first(boot));
            }
        }
    }
    splats
}

/// The cells of one base × architecture × profile that a cell is judged by.
pub(super) struct Peers<'a> {
    pub(super) reference: Option<&'a Observation>,
    pub(super) control: Option<&'a Observation>,
    pub(super) steps: &'a [Step],
    pub(super) known: &'a [KnownSplat],
}

impl Peers<'_> {
    fn known(&self, seen: &Seen) -> Option<&KnownSplat> {
        self.known.iter().find(|known| known.matches(&seen.title))
    }
}

/// What a splat is, why, and what it was judged by.
struct Judged {
    change: Change,
    reason: String,
    beside: Option<Beside>,
    edits: Vec<Edit>,
}

fn judged((change, reason): (Change, String)) -> Judged {
    Judged { change, reason, beside: None, edits: Vec::new() }
}

impl Judged {
    fn beside(mut self, peer: &Observation, fingerprint: &str, seen: &Seen) -> Judged {
        let (_, boots) = shown(peer, seen);
        self.beside = Some(Beside {
            candidate: peer.id().candidate.clone(),
            title: seen.title.clone(),
            fingerprint: fingerprint.to_owned(),
            count: seen.count,
            boots_seen: small(seen.boots.len()),
            boots: small(boots),
        });
        self
    }
}

/// In how many boots a splat came, of how many that did what provokes it with lockdep on, on as
/// many calls as it takes.
fn shown(cell: &Observation, seen: &Seen) -> (usize, usize) {
    let with: Vec<&BootObservation> =
        cell.boots.iter().filter(|boot| seen.boots.contains(&boot.name)).collect();
    let provoking: BTreeSet<u32> = with
        .iter()
        .flat_map(|boot| boot.blocks.iter().map(|block| block.step).chain(died_in(boot)))
        .collect();
    let took: u64 = with.iter().flat_map(|boot| &boot.blocks).map(|b| b.counts.calls).sum();
    let each = ratio(took, small(with.len()).max(1).into()) * NEARLY;
    let needed = (EXPECTED * ratio(took, seen.count.max(1))).min(each);
    let without = cell.boots.iter().filter(|boot| {
        let done = boot.blocks.iter().filter(|b| provoking.contains(&b.step) && proves(b));
        let calls: u64 = done.map(|block| block.counts.calls).sum();
        let did = provoking.is_empty() || boot.begun.iter().any(|step| provoking.contains(step));
        !seen.boots.contains(&boot.name)
            && boot.hello.is_some()
            && did
            && ratio(calls, 1) >= needed
            && (calls > 0 || took == 0)
    });
    (with.len(), with.len() + without.count())
}

/// Why what this cell shows says nothing about a patch, if it showed it by chance.
fn flaky(cell: &Observation, seen: &Seen) -> Option<String> {
    let (with, of) = shown(cell, seen);
    let name = &cell.id().candidate;
    (with < of).then(|| format!("{name} shows it in {with} of {of} boots that should: flaky"))
}

/// The splat rows of one cell.
pub(super) fn rows(ours: &Observation, peers: &Peers<'_>) -> Vec<SplatRow> {
    let splats = collect(ours);
    let reference = peers.reference.map(collect).unwrap_or_default();
    let control = match (ours.cell.role, peers.control) {
        (Role::Contender, Some(control)) => collect(control),
        (Role::Contender, None) | (Role::Control | Role::Reference | Role::Sensitivity, _) => {
            Splats::new()
        }
    };
    let all = Sets { splats: &splats, reference: &reference, control: &control };
    let mut judgements: Vec<(&str, &Seen, Judged)> = splats
        .iter()
        .map(|(key, seen)| (key.as_str(), seen, judge(ours, key, seen, &all, peers)))
        .collect();
    let changed = changes(&mut judgements, &all, peers);
    let mut rows: Vec<SplatRow> = judgements
        .into_iter()
        .map(|(key, seen, judged)| row(ours, key, seen, judged, peers.known(seen)))
        .collect();
    for (fingerprint, seen) in &control {
        let told = splats.contains_key(fingerprint)
            || reference.contains_key(fingerprint)
            || changed.contains(fingerprint);
        if told || !is_controls(fingerprint, &control) || peers.known(seen).is_some() {
            continue;
        }
        let Some(peer) = peers.control else { continue };
        // The same title by another chain, or garbled, may be the same bug.
        let alike = splats
            .iter()
            .any(|(key, other)| other.title == seen.title && !reference.contains_key(key));
        let absence = match (flaky(peer, seen), would_show(peer, seen, ours, peers.steps)) {
            (Some(why), _) => (Change::Flaky, format!("{why}, so its absence proves nothing")),
            (None, Ok(_)) if alike => {
                (Change::Unclear, "another report of the same title came here".to_owned())
            }
            (None, Ok(calls)) => (Change::Removed, format!("none in {calls}")),
            (None, Err(why)) => (Change::Unclear, format!("cannot tell whether it is gone: {why}")),
        };
        let judged = judged(absence).beside(peer, fingerprint, seen);
        let absent =
            Seen { count: 0, boots: BTreeSet::new(), evidence: Vec::new(), ..seen.clone() };
        let mut row = row(ours, fingerprint, &absent, judged, None);
        row.first_offset = None;
        row.place.evidence = ours.boots.iter().flat_map(console_first).collect();
        rows.push(row);
    }
    rows
}

/// The splats of a cell, of its reference, and (a contender's) of its control.
struct Sets<'s> {
    splats: &'s Splats,
    reference: &'s Splats,
    control: &'s Splats,
}

/// What one splat is that this cell showed.
fn judge(
    ours: &Observation,
    fingerprint: &str,
    seen: &Seen,
    all: &Sets<'_>,
    peers: &Peers<'_>,
) -> Judged {
    let Sets { splats, reference, control } = all;
    let theirs = reference.get(fingerprint);
    if let Some(KnownSplat { reason, link, expires, .. }) = peers.known(seen) {
        let reason = format!("known: {reason}, {link} (until {expires})");
        return judged((Change::Known, reason));
    }
    if fingerprint == CORRUPTED {
        return judged(garbled(seen, splats, reference));
    }
    if ours.cell.role == Role::Reference {
        return judged(of_reference(ours, seen));
    }
    if let (Some(theirs), Some(peer)) = (theirs, peers.reference) {
        return judged(of_reference(peer, theirs)).beside(peer, fingerprint, theirs);
    }
    if seen.all_secondary {
        return judged((Change::Secondary, "raised while another report was printed".to_owned()));
    }
    if ours.cell.role == Role::Control {
        return judged(match flaky(ours, seen) {
            Some(why) => (Change::Flaky, why),
            None => (Change::Control, "the control has it, the reference does not".to_owned()),
        });
    }
    if let (Some(theirs), Some(peer)) = (control.get(fingerprint), peers.control)
        && is_controls(fingerprint, control)
    {
        let found = match flaky(peer, theirs) {
            Some(why) => (Change::Flaky, why),
            None => (Change::Control, "the control's, and still here".to_owned()),
        };
        return judged(found).beside(peer, fingerprint, theirs);
    }
    judged(added(ours, seen, peers))
}

/// What was added and is much like what is gone is that one, changed: a patch that swaps one
/// inversion for another has fixed nothing. Answers with the fingerprints that are explained so.
fn changes(
    judgements: &mut [(&str, &Seen, Judged)],
    all: &Sets<'_>,
    peers: &Peers<'_>,
) -> BTreeSet<String> {
    let Sets { splats, reference, control } = *all;
    let mut gone: Vec<(&str, &Seen, &Observation)> = Vec::new();
    for (theirs, peer) in [(control, peers.control), (reference, peers.reference)] {
        let Some(peer) = peer else { continue };
        gone.extend(
            theirs
                .iter()
                .filter(|(key, seen)| {
                    !splats.contains_key(*key)
                        && is_controls(key, theirs)
                        && peers.known(seen).is_none()
                        && flaky(peer, seen).is_none()
                })
                .map(|(key, seen)| (key.as_str(), seen, peer)),
        );
    }
    let come: Vec<usize> =
        (0..judgements.len()).filter(|at| judgements[*at].2.change == Change::Added).collect();
    let was: Vec<Vec<String>> = gone.iter().map(|(_, seen, _)| seen.signature.clone()).collect();
    let is: Vec<Vec<String>> = come.iter().map(|at| judgements[*at].1.signature.clone()).collect();
    let pairs = pair(&was, &is, |from, to| gone[from].1.kind == judgements[come[to]].1.kind);
    let mut explained = BTreeSet::new();
    for (from, to) in pairs {
        let (key, seen, peer) = gone[from];
        let reason =
            format!("{}'s, changed; {}", peer.id().candidate, judgements[come[to]].2.reason);
        let mut found = judged((Change::Changed, reason)).beside(peer, key, seen);
        found.edits = edits(&was[from], &is[to]);
        judgements[come[to]].2 = found;
        explained.insert(key.to_owned());
    }
    explained
}

/// Whether a fingerprint of the control is the bug itself, not its aftermath.
fn is_controls(fingerprint: &str, control: &Splats) -> bool {
    fingerprint != CORRUPTED && control.get(fingerprint).is_some_and(|seen| !seen.all_secondary)
}

fn row(
    ours: &Observation,
    fingerprint: &str,
    seen: &Seen,
    judged: Judged,
    known: Option<&KnownSplat>,
) -> SplatRow {
    let Judged { change, reason, beside, edits } = judged;
    SplatRow {
        place: Place::new(ours.id(), ours.boots.len(), seen.evidence.clone()),
        kind: seen.kind.clone(),
        title: seen.title.clone(),
        fingerprint: fingerprint.to_owned(),
        count: seen.count,
        boots_seen: small(seen.boots.len()),
        first_offset: Some(seen.first_offset),
        disables_lockdep: seen.disables_lockdep,
        change,
        reason,
        beside,
        edits,
        known: known.cloned(),
    }
}

/// A report that cannot be read is explained by a readable one of the same title.
fn garbled(seen: &Seen, ours: &Splats, reference: &Splats) -> (Change, String) {
    let readable = |splats: &Splats| {
        splats.iter().any(|(key, other)| key != CORRUPTED && other.title == seen.title)
    };
    let text = "interleaved with other output or cut";
    if readable(ours) || readable(reference) {
        return (Change::Secondary, format!("{text}; the same title was read elsewhere"));
    }
    (Change::Unclear, text.to_owned())
}

/// What the reference's own rounds say of a splat it has.
fn of_reference(reference: &Observation, seen: &Seen) -> (Change, String) {
    let rounds: BTreeSet<u32> = reference.boots.iter().map(|boot| boot.round).collect();
    let times = format!("{} of {} rounds", seen.rounds.len(), rounds.len());
    if seen.rounds.len() < rounds.len() {
        return (Change::Flaky, format!("the reference has it in {times}: noise"));
    }
    (Change::Same, format!("the reference has it in {times}"))
}

fn added(ours: &Observation, seen: &Seen, peers: &Peers<'_>) -> (Change, String) {
    let Some(reference) = peers.reference else {
        return (Change::Unclear, "there is no reference to judge it by".to_owned());
    };
    if let Some(reason) = apart(seen) {
        return (Change::Unclear, reason.to_owned());
    }
    match would_show(ours, seen, reference, peers.steps) {
        Ok(calls) => (Change::Added, format!("the reference has none in {calls}")),
        Err(why) => (Change::Unclear, format!("the reference may have it too: {why}")),
    }
}

/// Whether `there` would have shown a splat that `here` has: it did the same
/// steps, with lockdep on, on enough calls. Says on how many, or why not.
fn would_show(
    here: &Observation,
    seen: &Seen,
    there: &Observation,
    steps: &[Step],
) -> Result<String, String> {
    if there.boots.iter().all(|boot| boot.hello.is_none()) {
        return Err("it never ran there".to_owned());
    }
    let boots = || here.boots.iter().filter(|boot| seen.boots.contains(&boot.name));
    let locks = |o: &Observation| {
        o.boots.iter().filter_map(|b| b.hello.as_ref()).any(|hello| hello.debug_locks.is_some())
    };
    if locks(here) && !locks(there) {
        return Err("the kernel there has no lockdep".to_owned());
    }
    let mut provoking = BTreeSet::new();
    for boot in boots() {
        provoking.extend(boot.blocks.iter().map(|block| block.step));
        let unreachable =
            |step: &u32| matches!(boot.steps.get(step), Some(StepOutcome::Unreachable { .. }));
        provoking.extend(boot.steps.keys().filter(|step| !unreachable(step)));
        // The step it died in took no block, or not all.
        provoking.extend(died_in(boot));
    }
    let mut calls = 0;
    for id in &provoking {
        let name = steps.iter().find(|s| s.id == *id).map_or_else(|| format!("step {id}"), label);
        let did = exercise(there, *id);
        if let Some(reason) = did.failed.filter(|_| !did.done) {
            return Err(format!("{name} failed there: {reason}"));
        }
        if !did.done {
            return Err(format!("{name} was not done there"));
        }
        if did.calls == 0 {
            return Err(format!("{name} made no call there with lockdep on"));
        }
        calls += did.calls;
    }
    let took: u64 = boots().flat_map(|boot| &boot.blocks).map(|block| block.counts.calls).sum();
    let nearly = ratio(took, 1) * NEARLY;
    let needed = (EXPECTED * ratio(took, seen.count)).min(nearly);
    if ratio(calls, 1) < needed {
        let took = counted(took, "call");
        let times = count(seen.count);
        return Err(format!(
            "{} there, but {times} in {took} where it came",
            counted(calls, "call")
        ));
    }
    let with = counted(there.boots.len() as u64, "boot");
    let lockdep = if locks(there) { " with lockdep on" } else { "" };
    Ok(format!("{}{lockdep}, {with}", counted(calls, "call")))
}

/// Blocks that ran with lockdep off, and what turned it off.
pub(super) fn lockdep_lost(seen: &Observation) -> Option<(u64, Option<String>)> {
    let lost = |boot: &&BootObservation| boot.blocks.iter().any(|block| !proves(block));
    let blocks: usize =
        seen.boots.iter().map(|boot| boot.blocks.iter().filter(|b| !proves(b)).count()).sum();
    if blocks == 0 {
        return None;
    }
    let by = seen
        .boots
        .iter()
        .filter(lost)
        .flat_map(|boot| &boot.splats)
        .find(|splat| splat.disables_lockdep)
        .map(|splat| splat.title.clone());
    Some((u64::from(small(blocks)), by))
}
