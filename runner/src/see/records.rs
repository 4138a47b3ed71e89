// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads `records.jsonl` back, whatever a dying guest left of it.
//!
//! A guest that panics stops in the middle of a line: a last line without its
//! line end is what one expects then. Any other line that is not a record is a
//! problem of ours, named with its number; what stands around it is still used.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use bakeoff_fuzz::wire::{self, Block, End, Hello, Output, Record, StepOutcome};

use crate::base::error::{Context, Result};

/// The longest line that can be a record; a block's is below 1 KiB.
pub const LONGEST_LINE: usize = 1 << 20;

/// The records of one boot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    /// The first record.
    pub hello: Option<Hello>,
    /// The visits, in order.
    pub visits: Vec<VisitRecord>,
    /// The last record.
    pub end: Option<End>,
    /// Lines that are no records, or stand where they must not.
    pub problems: Vec<String>,
}

/// One visit, as far as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct VisitRecord {
    /// Its place in the workload.
    pub number: u32,
    /// What it did.
    pub step: u32,
    /// Guest monotonic clock when it began, nanoseconds since boot.
    pub begin_ns: u64,
    /// The same when it ended; `None` if the guest did not live to tell.
    pub end_ns: Option<u64>,
    /// How it ended; `None` if the guest did not live to tell.
    pub outcome: Option<StepOutcome>,
    /// Its blocks, in order.
    pub blocks: Vec<Block>,
    /// What a command said.
    pub output: Option<Output>,
}

impl VisitRecord {
    /// The blocks that prove something.
    pub fn proven(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter().filter(|block| block.proves())
    }

    /// Whether it did what it was to do, and proves something by it: not one that ran with
    /// lockdep off from its beginning on.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.outcome == Some(StepOutcome::Done)
            && (self.blocks.is_empty() || self.proven().next().is_some())
    }
}

/// Reads the records of a boot; a missing file is one without records.
///
/// # Errors
/// The file is there and cannot be read.
pub fn read(path: &Path) -> Result<Records> {
    let mut records = Records::default();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(records),
        Err(e) => return Err(e).at_path("open", path),
    };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let n = reader
            .by_ref()
            .take(LONGEST_LINE as u64)
            .read_until(b'\n', &mut line)
            .at_path("read", path)?;
        if n == 0 {
            break;
        }
        if line.last() != Some(&b'\n') {
            if n < LONGEST_LINE {
                break; // The guest died while it wrote this line.
            }
            records.problems.push(format!("line {number} is longer than {LONGEST_LINE} bytes"));
            break;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice(&line) {
            Ok(record) => {
                // Without a Hello nothing after it can be understood.
                let first = records.hello.is_none();
                if let Err(problem) = records.take(record) {
                    records.problems.push(format!("line {number}: {problem}"));
                    if first {
                        break;
                    }
                }
            }
            Err(cause) => records.problems.push(format!("line {number} is not a record: {cause}")),
        }
        if records.problems.len() >= 20 {
            records.problems.push("more problems follow; reading was given up".into());
            break;
        }
    }
    Ok(records)
}

impl Records {
    fn take(&mut self, record: Record) -> Result<(), String> {
        if self.end.is_some() {
            return Err("a record after the End".into());
        }
        if self.hello.is_none() && !matches!(record, Record::Hello(_)) {
            return Err("a record before the Hello".into());
        }
        match record {
            Record::Hello(hello) => {
                if self.hello.is_some() {
                    return Err("a second Hello".into());
                }
                if hello.wire != wire::VERSION {
                    return Err(format!(
                        "wire version {}, this program reads {}: report it with the bakeoff that \
                         wrote it",
                        hello.wire,
                        wire::VERSION
                    ));
                }
                self.hello = Some(hello);
            }
            Record::VisitBegin { visit, step, at_ns } => {
                if self.visits.iter().any(|known| known.number == visit) {
                    return Err(format!("visit {visit} is begun again"));
                }
                self.visits.push(VisitRecord {
                    number: visit,
                    step,
                    begin_ns: at_ns,
                    end_ns: None,
                    outcome: None,
                    blocks: Vec::new(),
                    output: None,
                });
            }
            Record::Block(block) => {
                let open = self.open(block.visit, block.step)?;
                for (name, share) in &block.shares {
                    if share.right > share.of {
                        return Err(format!("block {}: {name} is right too often", block.block));
                    }
                }
                for (name, value) in &block.values {
                    if !(value.mean.is_finite() && value.m2 >= 0.0) {
                        return Err(format!("block {}: {name} is not a number", block.block));
                    }
                }
                open.blocks.push(block);
            }
            Record::Output(output) => {
                let open = self.open(output.visit, output.step)?;
                open.output = Some(output);
            }
            Record::VisitEnd { visit, step, outcome, at_ns } => {
                let open = self.open(visit, step)?;
                open.end_ns = Some(at_ns);
                open.outcome = Some(outcome);
            }
            Record::End(end) => self.end = Some(end),
        }
        Ok(())
    }

    /// The visit that is under way, if it is this one.
    fn open(&mut self, visit: u32, step: u32) -> Result<&mut VisitRecord, String> {
        let open = self.visits.last_mut().filter(|v| v.outcome.is_none());
        open.filter(|v| v.number == visit && v.step == step)
            .ok_or_else(|| format!("visit {visit} of step {step} is not under way"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const HELLO: &str = r#"{"record":"hello","wire":3,"source_hash":"x","boot":"0-000","release":"6.12","machine":"x86_64","cmdline":"","cpus_online":2,"clocksource":"tsc","timer_resolution_ns":1,"timer_100us_measured_ns":150000,"debug_locks":true,"tainted":0,"page_size":4096,"at_ns":1}"#;

    fn read_text(text: &str) -> Records {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records.jsonl");
        fs::write(&path, text).unwrap();
        read(&path).unwrap()
    }

    const BEGIN: &str = r#"{"record":"visit-begin","visit":0,"step":3,"at_ns":5}"#;
    const END: &str =
        r#"{"record":"visit-end","visit":0,"step":3,"outcome":{"outcome":"done"},"at_ns":9}"#;

    /// A guest that dies in the middle of a line loses that line and nothing else.
    #[test]
    fn a_cut_last_line_is_no_problem() {
        let records = read_text(&format!("{HELLO}\n{BEGIN}\n{{\"rec"));
        assert_eq!(records.problems, Vec::<String>::new());
        let [visit] = records.visits.as_slice() else { panic!("{:?}", records.visits) };
        assert_eq!((visit.step, visit.begin_ns, visit.outcome.as_ref()), (3, 5, None));
        assert!(!visit.counts(), "a visit without an end counts for nothing");
    }

    /// Noise is named with its line; the records around it count.
    #[test]
    fn noise_is_named_and_survived() {
        let records = read_text(&format!("{HELLO}\n\u{fffd}garbage\n{BEGIN}\n"));
        assert_eq!(records.visits.len(), 1);
        assert!(
            records.problems[0].starts_with("line 2 is not a record"),
            "{:?}",
            records.problems
        );
    }

    /// A second Hello, records before it or after the End, another wire version, blocks of
    /// nothing, a visit begun twice: problems, not data.
    #[test]
    fn records_out_of_place_are_problems() {
        let end = r#"{"record":"end","records":1,"debug_locks":null,"tainted":0,"at_ns":9}"#;
        assert!(read_text(&format!("{BEGIN}\n")).problems[0].contains("before the Hello"));
        assert!(read_text(&format!("{HELLO}\n{HELLO}\n")).problems[0].contains("second Hello"));
        let late = read_text(&format!("{HELLO}\n{end}\n{BEGIN}\n"));
        assert!(late.problems[0].contains("after the End") && late.visits.is_empty());
        let other = HELLO.replace("\"wire\":3", "\"wire\":9");
        assert!(read_text(&format!("{other}\n")).problems[0].contains("wire version 9"));
        let twice = read_text(&format!("{HELLO}\n{BEGIN}\n{END}\n{BEGIN}\n"));
        assert!(twice.problems[0].contains("begun again"), "{:?}", twice.problems);
        let after = read_text(&format!("{HELLO}\n{BEGIN}\n{END}\n{END}\n"));
        assert!(after.problems[0].contains("not under way"), "{:?}", after.problems);
    }

    /// A block that is right more often than it was asked is not believed.
    #[test]
    fn counts_that_do_not_add_up_are_problems() {
        let block = |right: u64| {
            let share = wire::Share { of: 8, right };
            let shares = [("x.y".to_owned(), share)].into();
            serde_json::to_string(&Record::Block(Block { step: 3, shares, ..Block::default() }))
                .unwrap()
        };
        let read = |right| read_text(&format!("{HELLO}\n{BEGIN}\n{}\n{END}\n", block(right)));
        let good = read(8);
        assert!(good.problems.is_empty() && good.visits[0].counts(), "{good:?}");
        assert!(read(9).problems[0].contains("too often"), "{:?}", read(9).problems);
    }

    /// A visit that ran with lockdep off proves nothing.
    #[test]
    fn a_visit_without_lockdep_does_not_count() {
        let block = Block { step: 3, debug_locks_before: Some(false), ..Block::default() };
        let block = serde_json::to_string(&Record::Block(block)).unwrap();
        let records = read_text(&format!("{HELLO}\n{BEGIN}\n{block}\n{END}\n"));
        assert!(records.problems.is_empty() && !records.visits[0].counts(), "{records:?}");
    }

    /// A line without an end does not fill the memory.
    #[test]
    fn endless_lines_are_given_up() {
        let records = read_text(&format!("{HELLO}\n{}", "x".repeat(3 << 20)));
        assert!(records.problems[0].contains("longer than"), "{:?}", records.problems);
    }
}
