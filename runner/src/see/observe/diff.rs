//! Which report of one kernel is which of another's, and what changed between them?
//!
//! Two reports are compared by their signatures, see [`signature`](crate::see::observe::signature).
//! What is in both is the same; a new one that resembles a gone one is that one, changed. How often
//! each was seen, and whose doing it is, is for the comparison of runs to say.

use serde::{Deserialize, Serialize};

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
    use crate::see::observe::{parse, signature};

    fn warn(function: &str, callers: &[&str]) -> Vec<String> {
        let mut log = format!(
            "[    1.000000] WARNING: CPU: 0 PID: 1 at fs/x.c:28 {function}+0x1/0x20\n\
             [    1.000000] Call Trace:\n[    1.000000]  {function}+0x1/0x20\n"
        );
        for caller in callers {
            log += &format!("[    1.000000]  {caller}+0x1/0x20\n");
        }
        signature(&parse(log.as_bytes())[0])
    }

    /// The same function warns, called from elsewhere: the old bug in new clothes.
    #[test]
    fn a_look_alike_is_paired() {
        let (f, g, x) = (warn("f", &["g"]), warn("f", &["h"]), warn("x", &["y"]));
        assert_eq!(pair(&[f.clone(), x.clone()], &[x, g.clone()], |_, _| true), [(1, 0), (0, 1)]);
        let edits = edits(&f, &g);
        assert!(edits.contains(&Edit::Removed("g".to_owned())));
        assert!(edits.contains(&Edit::Added("h".to_owned())));
        assert!(edits.contains(&Edit::Same("f".to_owned())));
    }

    /// Two bugs of one kind that share no frame are two bugs.
    #[test]
    fn strangers_are_not_paired() {
        assert_eq!(pair(&[warn("f", &["g"])], &[warn("x", &["y"])], |_, _| true), []);
    }

    /// A pair that the caller forbids is none.
    #[test]
    fn a_pair_may_be_forbidden() {
        let f = warn("f", &["g"]);
        assert_eq!(pair(std::slice::from_ref(&f), std::slice::from_ref(&f), |_, _| false), []);
    }

    /// A signature differs from itself in nothing.
    #[test]
    fn nothing_is_edited_between_equals() {
        let f = warn("f", &["g"]);
        assert!(edits(&f, &f).iter().all(|edit| matches!(edit, Edit::Same(_))));
    }
}
