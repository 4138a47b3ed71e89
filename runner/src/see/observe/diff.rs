//! What did a patch do to the splats? Two sets of boots are compared by fingerprint: what is gone
//! was removed, what is new was added; a new one that resembles a gone one is that one, changed.
//!
//! Not every difference is the patch's doing. What the control shows only in some of its boots is
//! *flaky*: its absence elsewhere blames and credits nobody. What was raised while another report
//! was being printed is *secondary*.

use crate::see::observe::fingerprint::signature;
use crate::see::observe::{Note, Splat, fingerprint};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The splats of some boots of one kernel, counted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Tally {
    /// How many boots were read.
    pub boots: usize,
    /// What they showed, in the order it was first seen.
    pub seen: Vec<Seen>,
}

/// One splat, however often it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Seen {
    /// Its identity.
    pub fingerprint: String,
    /// How often it was printed.
    pub count: usize,
    /// How many boots showed it.
    pub boots: usize,
    /// The first one that was not corrupted, else the first.
    pub splat: Splat,
}

/// Counts the splats of some boots.
pub fn tally<'s>(boots: impl IntoIterator<Item = &'s [Splat]>) -> Tally {
    let mut tally = Tally::default();
    let mut index: BTreeMap<String, usize> = BTreeMap::new();
    for boot in boots {
        tally.boots += 1;
        let mut in_this_boot = vec![false; tally.seen.len()];
        for splat in boot {
            let fingerprint = fingerprint(splat);
            let at = *index.entry(fingerprint.clone()).or_insert_with(|| {
                tally.seen.push(Seen { fingerprint, count: 0, boots: 0, splat: splat.clone() });
                in_this_boot.push(false);
                tally.seen.len() - 1
            });
            let seen = &mut tally.seen[at];
            seen.count += 1;
            seen.boots += usize::from(!in_this_boot[at]);
            in_this_boot[at] = true;
            let better = |splat: &Splat| {
                (
                    splat.corrupted,
                    splat.notes.contains(&Note::CutByFlood),
                    splat.notes.contains(&Note::Secondary),
                )
            };
            if better(splat) < better(&seen.splat) {
                seen.splat = splat.clone();
            }
        }
    }
    tally
}

/// What became of a splat.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Every boot of the first set showed it, none of the second.
    Removed,
    /// The second set shows it, the first does not.
    Added,
    /// Gone, but another one much like it has come.
    Changed,
    /// Both show it.
    Same,
    /// Only some boots of the first set showed it, and none of the second: no evidence.
    Flaky,
    /// Only one set shows it, but it was raised while another report was being printed.
    Secondary,
}

/// One splat in the comparison of two sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Difference {
    /// What became of it.
    pub change: Change,
    /// What the first set showed.
    pub before: Option<Seen>,
    /// What the second set showed.
    pub after: Option<Seen>,
    /// For a changed one: how its identity differs, line by line.
    pub edits: Vec<Edit>,
}

/// One line of the comparison of two chains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Edit {
    /// In both.
    Same(String),
    /// Only before.
    Removed(String),
    /// Only after.
    Added(String),
}

/// Compares two sets: removed, added and changed ones first, each group in the order of the console.
pub fn diff(before: &Tally, after: &Tally) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut gone: Vec<&Seen> = Vec::new();
    for seen in &before.seen {
        match after.seen.iter().find(|other| other.fingerprint == seen.fingerprint) {
            Some(other) => found.push(Difference {
                change: Change::Same,
                before: Some(seen.clone()),
                after: Some(other.clone()),
                edits: Vec::new(),
            }),
            None => gone.push(seen),
        }
    }
    let mut come: Vec<&Seen> = after
        .seen
        .iter()
        .filter(|seen| before.seen.iter().all(|other| other.fingerprint != seen.fingerprint))
        .collect();

    let one_sided = |change: Change, seen: &Seen| {
        let secondary = seen.splat.notes.contains(&Note::Secondary);
        if secondary { Change::Secondary } else { change }
    };
    // What only some boots showed may have stayed away by chance, so it is nobody's predecessor.
    let (flaky, mut gone): (Vec<&Seen>, Vec<&Seen>) =
        gone.into_iter().partition(|seen| seen.boots < before.boots);
    for seen in flaky {
        found.push(Difference {
            change: one_sided(Change::Flaky, seen),
            before: Some(seen.clone()),
            after: None,
            edits: Vec::new(),
        });
    }
    let signatures = |all: &[&Seen]| -> Vec<Vec<String>> {
        all.iter().map(|seen| signature(&seen.splat)).collect()
    };
    let (was, is) = (signatures(&gone), signatures(&come));
    let pairs = pair(&was, &is, |from, to| {
        let (before, after) = (&gone[from].splat, &come[to].splat);
        before.kind == after.kind && before.corrupted == after.corrupted
    });
    for &(from, to) in &pairs {
        found.push(Difference {
            change: Change::Changed,
            edits: edits(&was[from], &is[to]),
            before: Some(gone[from].clone()),
            after: Some(come[to].clone()),
        });
    }
    let mut at = 0..gone.len();
    gone.retain(|_| at.next().is_none_or(|at| pairs.iter().all(|(from, _)| *from != at)));
    let mut at = 0..come.len();
    come.retain(|_| at.next().is_none_or(|at| pairs.iter().all(|(_, to)| *to != at)));
    found.extend(gone.into_iter().map(|seen| Difference {
        change: one_sided(Change::Removed, seen),
        before: Some(seen.clone()),
        after: None,
        edits: Vec::new(),
    }));
    found.extend(come.into_iter().map(|seen| Difference {
        change: one_sided(Change::Added, seen),
        before: None,
        after: Some(seen.clone()),
        edits: Vec::new(),
    }));
    found.sort_by_key(|difference| difference.change);
    found
}

/// Which of the signatures that came is which of those that went: the most alike pair first, ties
/// in order, each at most once. `may` forbids pairs.
pub fn pair(
    gone: &[Vec<String>],
    come: &[Vec<String>],
    may: impl Fn(usize, usize) -> bool,
) -> Vec<(usize, usize)> {
    let mut all = Vec::new();
    for (from, a) in gone.iter().enumerate() {
        for (to, b) in come.iter().enumerate() {
            if may(from, to)
                && let Some(alike) = likeness(a, b)
            {
                all.push((alike, from, to));
            }
        }
    }
    all.sort_by_key(|(alike, from, to)| (std::cmp::Reverse(*alike), *from, *to));
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for (_, from, to) in all {
        if pairs.iter().all(|(f, t)| *f != from && *t != to) {
            pairs.push((from, to));
        }
    }
    pairs
}

/// How much of two signatures is the same, in percent; `None` if too little for one bug seen twice.
pub fn likeness(a: &[String], b: &[String]) -> Option<usize> {
    let common = common(a, b).len();
    let alike = 200 * common / (a.len() + b.len()).max(1);
    // The first line is the kind; two reports that share no more than that and a frame by chance
    // are two bugs.
    (alike >= 50 && common >= 2).then_some(alike)
}

/// A longest common subsequence, as pairs of indices.
fn common(a: &[String], b: &[String]) -> Vec<(usize, usize)> {
    let mut table = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            table[i][j] = if a[i] == b[j] {
                table[i + 1][j + 1] + 1
            } else {
                table[i + 1][j].max(table[i][j + 1])
            };
        }
    }
    let mut pairs = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            pairs.push((i, j));
            i += 1;
            j += 1;
        } else if table[i + 1][j] >= table[i][j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

/// What turns `a` into `b`.
pub fn edits(a: &[String], b: &[String]) -> Vec<Edit> {
    let mut edits = Vec::new();
    let (mut i, mut j) = (0, 0);
    for (next_i, next_j) in common(a, b).into_iter().chain([(a.len(), b.len())]) {
        edits.extend(a[i..next_i].iter().cloned().map(Edit::Removed));
        edits.extend(b[j..next_j].iter().cloned().map(Edit::Added));
        if let Some(line) = a.get(next_i) {
            edits.push(Edit::Same(line.clone()));
        }
        (i, j) = (next_i + 1, next_j + 1);
    }
    edits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::see::observe::parse;

    fn warn(function: &str, callers: &[&str]) -> String {
        let mut log = format!(
            "[    1.000000] WARNING: CPU: 0 PID: 1 at fs/x.c:28 {function}+0x1/0x20\n\
             [    1.000000] Call Trace:\n[    1.000000]  {function}+0x1/0x20\n"
        );
        for caller in callers {
            log += &format!("[    1.000000]  {caller}+0x1/0x20\n");
        }
        log + "[    1.000000] ---[ end trace 0000000000000000 ]---\n"
    }

    fn boots(logs: &[String]) -> Tally {
        let splats: Vec<Vec<Splat>> = logs.iter().map(|log| parse(log.as_bytes())).collect();
        tally(splats.iter().map(Vec::as_slice))
    }

    fn changes(before: &[String], after: &[String]) -> Vec<Change> {
        diff(&boots(before), &boots(after)).iter().map(|d| d.change).collect()
    }

    /// Counts are of prints, boots are of boots.
    #[test]
    fn counts_and_boots_are_different_things() {
        let one = warn("f", &["g"]);
        let tally = boots(&[one.repeat(3), one.clone(), String::new()]);
        assert_eq!(tally.boots, 3);
        assert_eq!((tally.seen[0].count, tally.seen[0].boots), (4, 2));
    }

    #[test]
    fn gone_is_removed_and_new_is_added() {
        let (f, x) = ([warn("f", &["g"])], [warn("x", &["y"])]);
        let none = [String::new()];
        assert_eq!(changes(&f, &none), [Change::Removed]);
        assert_eq!(changes(&none, &f), [Change::Added]);
        assert_eq!(changes(&f, &f), [Change::Same]);
        assert_eq!(changes(&f, &x), [Change::Removed, Change::Added]);
    }

    /// What the control shows only in some boots is no evidence.
    #[test]
    fn flaky_blames_nobody() {
        let f = warn("f", &["g"]);
        assert_eq!(changes(&[f, String::new()], &[String::new()]), [Change::Flaky]);
    }

    /// The same function warns, called from elsewhere: the old bug in new clothes.
    #[test]
    fn a_look_alike_is_changed() {
        let (f, g) = (warn("f", &["g"]), warn("f", &["h"]));
        let found = diff(&boots(&[f]), &boots(&[g]));
        assert_eq!(found[0].change, Change::Changed);
        assert!(found[0].edits.contains(&Edit::Removed("g".to_owned())));
        assert!(found[0].edits.contains(&Edit::Added("h".to_owned())));
        assert!(found[0].edits.contains(&Edit::Same("f".to_owned())));
    }
}
