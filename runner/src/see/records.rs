// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads `records.jsonl` back, whatever a dying guest left of it.
//!
//! A guest that panics stops in the middle of a line: a last line without its
//! line end is what one expects then. Any other line that is not a record is a
//! problem of ours, named with its number; what stands around it is still used.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use bakeoff_fuzz::wire::{self, Block, End, Flip, Hello, Record, StepOutcome};

use crate::base::error::{Context, Result};

/// The longest line that can be a record; a block's is below 1 KiB.
pub const LONGEST_LINE: usize = 1 << 20;

/// The records of one boot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    /// The first record.
    pub hello: Option<Hello>,
    /// Steps that were begun, in order.
    pub begun: Vec<u32>,
    /// Blocks, in order.
    pub blocks: Vec<Block>,
    /// How each step ended.
    pub steps: BTreeMap<u32, StepOutcome>,
    /// The last record.
    pub end: Option<End>,
    /// Lines that are no records, or stand where they must not.
    pub problems: Vec<String>,
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
            Err(cause) => records.problems.push(format!("line {number} is no record: {cause}")),
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
                if !(wire::OLDEST_READ..=wire::VERSION).contains(&hello.wire) {
                    let (old, new) = (wire::OLDEST_READ, wire::VERSION);
                    return Err(format!("wire version {}, not {old} to {new}", hello.wire));
                }
                self.hello = Some(hello);
            }
            Record::StepBegin { step, .. } => self.begun.push(step),
            Record::Block(block) => {
                if !self.begun.contains(&block.step) {
                    return Err(format!("a block of step {}, which was not begun", block.step));
                }
                let counts = &block.counts;
                for score in [counts.top, counts.all] {
                    if score.correct > score.valid || score.valid > counts.calls {
                        return Err(format!("block {} counts more than it has", block.block));
                    }
                }
                let more = |flip: &Flip| {
                    flip.checked() > counts.frames || flip.illegal_calls > counts.calls
                };
                if counts.flip.as_deref().is_some_and(more) {
                    return Err(format!("block {} checks more than it has", block.block));
                }
                self.blocks.push(block);
            }
            Record::StepEnd { step, outcome, .. } => {
                if !self.begun.contains(&step) {
                    return Err(format!("step {step} ends and was not begun"));
                }
                self.steps.insert(step, outcome);
            }
            Record::End(end) => self.end = Some(end),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const HELLO: &str = r#"{"record":"hello","wire":2,"source_hash":"x","boot":"0-000","release":"6.12","machine":"x86_64","cmdline":"","cpus_online":2,"clocksource":"tsc","timer_resolution_ns":1,"timer_100us_measured_ns":150000,"debug_locks":true,"tainted":0,"page_size":4096,"at_ns":1}"#;

    fn read_text(text: &str) -> Records {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records.jsonl");
        fs::write(&path, text).unwrap();
        read(&path).unwrap()
    }

    /// A guest that dies in the middle of a line loses that line and nothing else.
    #[test]
    fn a_cut_last_line_is_no_problem() {
        let text =
            format!("{HELLO}\n{{\"record\":\"step-begin\",\"step\":0,\"at_ns\":5}}\n{{\"rec");
        let records = read_text(&text);
        assert_eq!((records.begun, records.problems), (vec![0], vec![]));
    }

    /// Noise is named with its line; the records around it count.
    #[test]
    fn noise_is_named_and_survived() {
        let text = format!(
            "{HELLO}\n\u{fffd}garbage\n{{\"record\":\"step-begin\",\"step\":3,\"at_ns\":5}}\n"
        );
        let records = read_text(&text);
        assert_eq!(records.begun, [3]);
        assert!(records.problems[0].starts_with("line 2 is no record"), "{:?}", records.problems);
    }

    /// A second Hello, records before it or after the End, blocks of nothing: problems, not data.
    #[test]
    fn records_out_of_place_are_problems() {
        let begin = r#"{"record":"step-begin","step":0,"at_ns":5}"#;
        let end = r#"{"record":"end","records":1,"debug_locks":null,"tainted":0,"at_ns":9}"#;
        assert!(read_text(&format!("{begin}\n")).problems[0].contains("before the Hello"));
        assert!(read_text(&format!("{HELLO}\n{HELLO}\n")).problems[0].contains("second Hello"));
        let late = read_text(&format!("{HELLO}\n{end}\n{begin}\n"));
        assert!(late.problems[0].contains("after the End") && late.begun.is_empty());
        let other = HELLO.replace("\"wire\":2", "\"wire\":9");
        assert!(read_text(&format!("{other}\n")).problems[0].contains("wire version 9"));
    }

    /// A guest that checks more frames than it has is not believed.
    #[test]
    fn counts_that_do_not_add_up_are_problems() {
        let block = |legal: u64| {
            let counts = wire::Counts {
                calls: 2,
                frames: 8,
                flip: Some(Box::new(Flip { flips: 1, legal, ..Flip::default() })),
                ..wire::Counts::default()
            };
            serde_json::to_string(&Record::Block(Block {
                step: 0,
                block: 0,
                at_ns: 1,
                window_ns: 1,
                debug_locks_before: None,
                debug_locks_after: None,
                counts,
            }))
            .unwrap()
        };
        let begin = r#"{"record":"step-begin","step":0,"at_ns":5}"#;
        let read = |legal| read_text(&format!("{HELLO}\n{begin}\n{}\n", block(legal)));
        assert_eq!((read(8).blocks.len(), read(8).problems.len()), (1, 0));
        assert!(read(9).problems[0].contains("checks more"), "{:?}", read(9).problems);
    }

    /// A line without an end does not fill the memory.
    #[test]
    fn endless_lines_are_given_up() {
        let records = read_text(&format!("{HELLO}\n{}", "x".repeat(3 << 20)));
        assert!(records.problems[0].contains("longer than"), "{:?}", records.problems);
    }
}
