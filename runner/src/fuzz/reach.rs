// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which operations run through which files of the kernel: from what a patch changes to
//! what a campaign begins with and does more often.
//!
//! The table is measured: `fuzz/uapi/reach.tsv` is what `bakeoff replay --operations` says of
//! a campaign's corpus, and a test with a real kernel holds it against another campaign on the
//! other architecture.

use std::collections::{BTreeMap, BTreeSet};

use bakeoff_fuzz::op::Op;
use bakeoff_fuzz::program::text;

use super::coverage::Map;

const TABLE: &str = include_str!("../../../fuzz/uapi/reach.tsv");

/// An operation reaches a file if it runs through this share of the addresses there that the
/// one which runs through most does: what interrupts a call is in its trace, too.
const SHARE: f64 = 0.2;
/// Addresses of a file without which it has no row.
const FEWEST: u64 = 20;

/// Distinct addresses of each file that each operation ran through.
pub type Reach = BTreeMap<String, BTreeMap<String, u64>>;

/// The rows of a table: files of some size, and the operations that reach each.
fn rows_of(reach: &Reach) -> BTreeMap<String, Vec<String>> {
    let row = |(file, by_op): (&String, &BTreeMap<String, u64>)| {
        // Those of all operations together are not known; the most of one are near enough.
        let most = by_op.values().copied().max()?;
        let reaches = |count: u64| count as f64 >= SHARE * most as f64;
        let words = by_op.iter().filter(|(_, count)| reaches(**count));
        (most >= FEWEST).then(|| (file.clone(), words.map(|(word, _)| word.clone()).collect()))
    };
    reach.iter().filter_map(row).collect()
}

/// The table of what was measured on a kernel.
#[must_use]
pub fn table(reach: &Reach, cell: &str) -> String {
    let mut text = format!(
        "# Files of the kernel, and the operations that run through much of each, by\n\
         # bakeoff replay --operations on {cell}.\n"
    );
    for (file, words) in rows_of(reach) {
        text.push_str(&format!("{file}\t{}\n", words.join(" ")));
    }
    text
}

/// The operations that reach one of these files, by the table.
#[must_use]
pub fn operations(files: &[String]) -> Vec<String> {
    let wanted = rows().filter(|(file, _)| files.iter().any(|wanted| wanted == file));
    let words: BTreeSet<&str> = wanted.flat_map(|(_, words)| words).collect();
    words.into_iter().map(str::to_owned).collect()
}

/// Files, and the operations that reach each.
fn rows() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (file, words) = line.split_once('\t')?;
        Some((file, words.split(' ').collect()))
    })
}

/// Addresses by the operations that ran through them.
#[derive(Debug, Default)]
pub struct Traced(BTreeMap<String, BTreeSet<u64>>);

impl Traced {
    /// Adds what a program did, given by operation.
    pub fn add(&mut self, program: &str, pcs: &[Vec<u64>]) {
        // As the guest reads it: what it leaves out was not run.
        let Ok(program) = text::read(program.as_bytes()) else { return };
        for (word, pcs) in program.ops.iter().map(Op::word).zip(pcs) {
            // A check has rows of its own ([`bakeoff_fuzz::oracle::ORACLES`]).
            if word != "check" {
                self.0.entry(word.to_owned()).or_default().extend(pcs);
            }
        }
    }

    /// By file.
    #[must_use]
    pub fn by_file(&self, map: &Map) -> Reach {
        let all: BTreeSet<u64> = self.0.values().flatten().copied().collect();
        let units: BTreeMap<u64, String> =
            all.into_iter().filter_map(|pc| Some((pc, map.place(pc).unit?))).collect();
        let mut reach = Reach::new();
        for (word, pcs) in &self.0 {
            for unit in pcs.iter().filter_map(|pc| units.get(pc)) {
                *reach.entry(unit.clone()).or_default().entry(word.clone()).or_default() += 1;
            }
        }
        reach
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row is of a file and of operations there are, once.
    #[test]
    fn rows_are_of_operations() {
        let mut files = BTreeSet::new();
        for (file, words) in rows() {
            assert!(files.insert(file), "{file} twice");
            assert!(std::path::Path::new(file).extension().is_some_and(|e| e == "c"), "{file}");
            for word in &words {
                assert!(Op::number(word).is_some(), "{file}: {word}");
            }
        }
        assert!(files.len() > 40, "{}", files.len());
    }

    /// Who runs through little of a file does not reach it, and small files have no row.
    #[test]
    fn rows_are_of_who_runs_through_much() {
        let of = |counts: &[(&str, u64)]| -> BTreeMap<String, u64> {
            counts.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect()
        };
        let reach = Reach::from([
            ("mm/mremap.c".to_owned(), of(&[("mremap", 100), ("mmap", 20), ("munmap", 19)])),
            ("mm/small.c".to_owned(), of(&[("mmap", 19)])),
        ]);
        let rows = rows_of(&reach);
        assert_eq!(
            rows,
            BTreeMap::from([("mm/mremap.c".into(), vec!["mmap".into(), "mremap".into()])])
        );
    }

    /// A patch of a file has what reaches it done more often, and nothing else.
    #[test]
    fn files_lead_to_operations() {
        let of = |file: &str| operations(&[file.to_owned()]);
        assert!(of("mm/mremap.c").contains(&"mremap".to_owned()));
        assert!(!of("mm/mremap.c").contains(&"prog-load".to_owned()));
        assert!(of("kernel/bpf/stackmap.c").contains(&"trigger".to_owned()));
        assert!(of("drivers/net/dummy.c").is_empty());
    }

    /// What a program did is counted for its operations; what its release did for none.
    #[test]
    fn operations_have_their_addresses() {
        let program = "bakeoff program 1\nlimits ops=20 slow=1\nmunmap page=1 more=0\n\
                       check what=ring seed=0 more=0\nmunmap page=2 more=0\n";
        let mut traced = Traced::default();
        traced.add(program, &[vec![1, 2], vec![3], vec![2, 4], vec![5]]);
        assert_eq!(traced.0, BTreeMap::from([("munmap".to_owned(), [1, 2, 4].into())]));
    }
}
