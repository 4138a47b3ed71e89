// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs made smaller, while the report they cause stays.
//!
//! A boot costs seconds and a program milliseconds, so each boot tries many
//! smaller programs, the smallest first, and ends with the first report: the
//! program in flight is then the one to look at. It counts only if it causes the
//! report again, alone, in a fresh boot. This is delta debugging (Zeller and
//! Hildebrandt, 2002) with many questions asked at once; for the same reason
//! arguments can be tried one by one.

use std::collections::BTreeSet;

use bakeoff_fuzz::program::{Program, text};
use serde::{Deserialize, Serialize};

use crate::base::error::Result;

/// What minimizing has come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Minimized {
    /// The smaller program.
    pub program: String,
    /// Its operations, and those of the one it came from.
    pub ops: (usize, usize),
    /// Boots it took.
    pub boots: u32,
    /// Whether nothing smaller is left to try; else the boots were used up.
    pub smallest: bool,
    /// The report that stayed.
    pub fingerprint: String,
}

/// A machine that runs programs in order until the report comes.
pub trait Trials {
    /// Which of these programs was in flight when the report came; `None`: no
    /// report.
    ///
    /// # Errors
    /// What is ours.
    fn first_of(&mut self, programs: &[String]) -> Result<Option<usize>>;
}

/// Makes a program smaller with at most so many boots. The smaller program, the
/// boots it took, and whether nothing smaller is left to try.
///
/// # Errors
/// What is ours.
pub fn shrink(
    program: &Program,
    trials: &mut dyn Trials,
    most: u32,
) -> Result<(Program, u32, bool)> {
    let mut best = program.clone();
    let mut boots = 0;
    // What did not cause the report alone; to ask again would take for ever.
    let mut refuted: BTreeSet<String> = BTreeSet::new();
    loop {
        let list: Vec<(String, Program)> = smaller(&best)
            .into_iter()
            .map(|program| (text::write(&program), program))
            .filter(|(written, _)| !refuted.contains(written))
            .collect();
        if list.is_empty() {
            return Ok((best, boots, true));
        }
        if boots + 2 > most {
            return Ok((best, boots, false));
        }
        let texts: Vec<String> = list.iter().map(|(written, _)| written.clone()).collect();
        boots += 1;
        let Some(found) = trials.first_of(&texts)? else {
            return Ok((best, boots, true));
        };
        let Some((written, candidate)) = list.into_iter().nth(found) else {
            return Ok((best, boots, true));
        };
        boots += 1;
        if trials.first_of(std::slice::from_ref(&written))?.is_some() {
            best = candidate;
        } else {
            refuted.insert(written);
        }
    }
}

/// Programs smaller than this one, the smallest first, all of them runnable.
fn smaller(program: &Program) -> Vec<Program> {
    let mut found: Vec<Program> = Vec::new();
    let own = size(program);
    let mut add = |mut candidate: Program| {
        candidate.fixup();
        if size(&candidate) < own && !found.contains(&candidate) {
            found.push(candidate);
        }
    };
    let count = program.ops.len();
    let mut piece = count.div_ceil(2);
    while piece > 0 {
        for at in (0..count).step_by(piece) {
            let mut candidate = program.clone();
            candidate.ops.drain(at..(at + piece).min(count));
            add(candidate);
        }
        piece = if piece == 1 { 0 } else { piece.div_ceil(2) };
    }
    for candidate in simpler(program) {
        add(candidate);
    }
    found.sort_by_cached_key(size);
    found
}

/// Operations, then the length of what is written; a 0 is smaller than a 7.
fn size(program: &Program) -> (usize, usize, String) {
    let written = text::write(program);
    (program.ops.len(), written.len(), written)
}

/// The same operations with one argument simpler, whatever the arguments are: as
/// far as its written form can be made shorter and still be read.
fn simpler(program: &Program) -> Vec<Program> {
    let written = text::write(program);
    let lines: Vec<&str> = written.lines().collect();
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate().skip(2) {
        for shorter in shorter_lines(line) {
            let mut changed = lines.clone();
            changed[number] = &shorter;
            if let Ok(program) = text::read((changed.join("\n") + "\n").as_bytes()) {
                found.push(program);
            }
        }
    }
    found
}

fn shorter_lines(line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let Some((key, value)) = word.split_once('=') else { continue };
        let mut values: Vec<String> = ["-", "0", "1", "none"].map(str::to_owned).into();
        for separator in ['+', ';', ','] {
            let parts: Vec<&str> = value.split(separator).collect();
            if parts.len() > 1 {
                values.extend((0..parts.len()).map(|left_out| {
                    let mut rest = parts.clone();
                    rest.remove(left_out);
                    rest.join(&separator.to_string())
                }));
            }
        }
        for value in values {
            let word = format!("{key}={value}");
            let mut changed = words.clone();
            changed[at] = &word;
            let changed = changed.join(" ");
            if changed.len() <= line.len() && changed != line {
                found.push(changed);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakeoff_fuzz::op::Op;
    use bakeoff_fuzz::op::value::Seeded;

    struct Asked<F: Fn(&Program) -> bool>(F, u32);

    impl<F: Fn(&Program) -> bool> Trials for Asked<F> {
        fn first_of(&mut self, programs: &[String]) -> Result<Option<usize>> {
            self.1 += 1;
            let read = |text: &String| text::read(text.as_bytes()).unwrap();
            Ok(programs.iter().position(|text| (self.0)(&read(text))))
        }
    }

    /// Only the operations that matter are left, with their arguments as simple
    /// as they get, in few boots; and what is left runs.
    #[test]
    fn shrinking_keeps_what_matters() {
        let mut tried = 0;
        for seed in 0..50 {
            let program = Program::roll(&mut Seeded(seed));
            let matters = |p: &Program| {
                p.ops.iter().any(|op| matches!(op, Op::Trigger { frames, .. } if frames.len() == 2))
            };
            if !matters(&program) {
                continue;
            }
            tried += 1;
            let mut trials = Asked(matters, 0);
            let (small, boots, smallest) = shrink(&program, &mut trials, 60).unwrap();
            assert_eq!(boots, trials.1);
            assert!(smallest && small.ops.len() == 1, "{boots} boots: {small:?}");
            assert!(boots < 50, "{boots}");
            let mut fixed = small.clone();
            fixed.fixup();
            assert_eq!(fixed, small);
            let written = text::write(&small);
            assert!(written.contains("page=0 frames=") && written.contains("again=0"), "{written}");
        }
        assert!(tried > 5, "{tried}");
    }

    /// The boots are a limit, and what there is by then is kept.
    #[test]
    fn boots_are_a_limit() {
        let program = Program::roll(&mut Seeded(3));
        let mut trials = Asked(|_: &Program| true, 0);
        let (small, boots, smallest) = shrink(&program, &mut trials, 3).unwrap();
        assert!(boots <= 3 && !smallest && small.ops.len() < program.ops.len());
    }

    /// A program that caused the report only after others did does not count.
    #[test]
    fn what_fails_alone_is_not_taken() {
        struct OnlyInCompany;
        impl Trials for OnlyInCompany {
            fn first_of(&mut self, programs: &[String]) -> Result<Option<usize>> {
                Ok((programs.len() > 1).then_some(1))
            }
        }
        let program = Program::roll(&mut Seeded(5));
        let (small, ..) = shrink(&program, &mut OnlyInCompany, 20).unwrap();
        assert_eq!(small, program);
    }
}
