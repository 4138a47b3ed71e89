// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs in a folder, one a file, named by what they say.
//!
//! A folder may hold anything: what is no program is left out with a warning
//! that names it. What is kept is kept as soon as it is known, so that a campaign
//! that is interrupted has lost nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bakeoff_fuzz::program::text::{self, TextError};
use sha2::{Digest, Sha256};

use crate::base::error::{Context, Result};
use crate::keep::cache::hex;
use crate::keep::store::write_whole;

/// Programs of a folder, in the order of their names; what is none is named to
/// `warn`.
///
/// # Errors
/// The folder cannot be read.
pub fn read(dir: &Path, mut warn: impl FnMut(String)) -> Result<Vec<String>> {
    let mut programs = Vec::new();
    for entry in fs::read_dir(dir).at_path("read the folder", dir)? {
        programs.push(entry.at_path("read the folder", dir)?.path());
    }
    programs.sort();
    let read = programs.iter().filter_map(|path| match read_one(path) {
        Ok(program) => Some(program),
        Err(why) => {
            // As a literal: a name may hold anything, escape sequences included.
            warn(format!("{path:?} is skipped: {why}"));
            None
        }
    });
    Ok(read.collect())
}

/// A file's program, as we would write it; in words, why it has none.
fn read_one(path: &Path) -> std::result::Result<String, String> {
    let kind = fs::symlink_metadata(path).map_err(|e| e.to_string())?;
    // A pipe or a device would keep us waiting; a link may lead to one.
    if !kind.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if kind.len() > text::LONGEST as u64 {
        return Err(TextError::TooLong.to_string());
    }
    let bytes = fs::read(path).map_err(|e: io::Error| e.to_string())?;
    text::read(&bytes).map(|program| text::write(&program)).map_err(|why| why.to_string())
}

/// What a campaign knows of programs.
#[derive(Debug)]
pub struct Corpus {
    dir: PathBuf,
    programs: Vec<String>,
    /// Programs that were in flight when a guest died: they are not begun with
    /// again, or every boot would end as that one.
    deadly: BTreeSet<String>,
}

impl Corpus {
    /// A corpus that begins with programs, and keeps new ones in `dir`.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(dir: PathBuf, programs: Vec<String>) -> Result<Corpus> {
        fs::create_dir_all(&dir).at_path("create", &dir)?;
        Ok(Corpus { dir, programs, deadly: BTreeSet::new() })
    }

    /// What the next boot begins with.
    #[must_use]
    pub fn programs(&self) -> Vec<String> {
        self.programs.iter().filter(|program| !self.deadly.contains(*program)).cloned().collect()
    }

    /// Programs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.programs.len()
    }

    /// Takes in a new program.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, program: String) -> Result<()> {
        write_whole(&self.dir.join(name(&program)), program.as_bytes())?;
        self.programs.push(program);
        Ok(())
    }

    /// Has the next boots not begin with these.
    pub fn leave_out(&mut self, programs: &[String]) {
        self.deadly.extend(programs.iter().cloned());
    }
}

/// The name of a program's file.
#[must_use]
pub fn name(program: &str) -> String {
    let digest = hex(&Sha256::digest(program.as_bytes()));
    format!("{}.txt", digest.get(..16).unwrap_or(&digest))
}

/// Which sets together cover what all of them do, `most` at most: each time the
/// one that adds most, of equals the cheapest, of those the first (greedy: at most
/// ln n times as many as needed, Chvátal 1979). Sets are sorted, without repeats.
#[must_use]
pub fn cover(sets: &[Vec<u64>], cost: &[usize], most: usize) -> Vec<usize> {
    let mut covered: BTreeSet<u64> = BTreeSet::new();
    // What a set adds only shrinks: an old count is an upper bound of the new one.
    let mut bounds: Vec<(usize, std::cmp::Reverse<usize>, std::cmp::Reverse<usize>)> = Vec::new();
    for (index, set) in sets.iter().enumerate() {
        let cost = cost.get(index).copied().unwrap_or(0);
        bounds.push((set.len(), std::cmp::Reverse(cost), std::cmp::Reverse(index)));
    }
    let mut heap: std::collections::BinaryHeap<_> = bounds.into();
    let mut chosen = Vec::new();
    while let Some((bound, cost, index)) = heap.pop() {
        if chosen.len() >= most || bound == 0 {
            break;
        }
        let Some(set) = sets.get(index.0) else { continue };
        let adds = set.iter().filter(|pc| !covered.contains(pc)).count();
        if adds < bound {
            heap.push((adds, cost, index));
            continue;
        }
        covered.extend(set);
        chosen.push(index.0);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sets that are chosen cover everything, the greatest come first, and a
    /// set that adds nothing does not come.
    #[test]
    fn covers_are_whole_and_greedy() {
        let sets = [vec![1, 2], vec![1, 2, 3, 4], vec![5], vec![], vec![4, 5, 6], vec![5, 6]];
        assert_eq!(cover(&sets, &[1; 6], 9), [1, 4]);
        assert_eq!(cover(&sets, &[1, 1, 1, 1, 9, 1], 9), [1, 5]);
        assert_eq!(cover(&sets, &[1; 6], 1), [1]);
        assert!(cover(&[], &[], 9).is_empty());
    }

    /// Of a folder full of other things the programs come out, in order; what was
    /// left out is named, and nothing waits for a pipe.
    #[test]
    fn what_is_no_program_is_skipped_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let program = "bakeoff program 1\nlimits ops=20 slow=1\nmunmap page=1 more=0\n";
        fs::write(at("b.txt"), program).unwrap();
        fs::write(at("a.txt"), program.replace("page=1", "page=2")).unwrap();
        fs::write(at("newer.txt"), program.replace("program 1", "program 99")).unwrap();
        fs::write(at("noise"), [0xff; 100]).unwrap();
        fs::write(at("long"), vec![b'#'; text::LONGEST + 1]).unwrap();
        fs::write(at("es\u{1b}[2Jcape"), "\u{1b}[2J").unwrap();
        fs::create_dir(at("folder")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("link")).unwrap();
        let pipe = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(pipe.success());
        let mut said = String::new();
        let programs = read(dir.path(), |warning| said.push_str(&warning)).unwrap();
        assert_eq!(programs.len(), 2);
        assert!(programs[0].contains("page=2") && programs[1].contains("page=1"));
        for name in ["newer.txt", "noise", "long", "cape", "folder", "link", "pipe"] {
            assert!(said.contains(name), "{name} in {said}");
        }
        assert!(said.contains("version 99") && !said.contains('\u{1b}'));
    }

    /// Programs that were in flight when a guest died are kept, and not begun with.
    #[test]
    fn deadly_programs_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut corpus = Corpus::new(dir.path().join("corpus"), vec!["a".into()]).unwrap();
        corpus.add("b".into()).unwrap();
        corpus.leave_out(&["a".into()]);
        assert_eq!(corpus.programs(), ["b"]);
        assert_eq!(corpus.len(), 2);
        assert_eq!(fs::read_to_string(dir.path().join("corpus").join(name("b"))).unwrap(), "b");
    }
}
