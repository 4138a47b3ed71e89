// SPDX-License-Identifier: MIT OR Apache-2.0
//! From bytes on the records' port to records that keep the rules.
//!
//! The rules are [`bakeoff_fuzz::wire`]'s: one JSON object a line, one Hello
//! first, one End last, blocks only inside their step, in order. The agent is
//! ours, so a line that breaks them is an error of ours, named with its number;
//! it never counts for or against a patch. A last line without its end is no
//! breach: the guest died over it.

use bakeoff_fuzz::wire::{Block, End, Hello, Record, VERSION, Workload};
use serde_json::Value;

use crate::base::error::{Error, Result};
use crate::see::records::LONGEST_LINE;

/// Reads one boot's records.
#[derive(Debug)]
pub struct Protocol {
    boot: String,
    cpus: u32,
    visits: Vec<u32>,
    line: Vec<u8>,
    records: u64,
    state: State,
    misfit: Option<String>,
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A Hello.
    Greeting,
    /// The begin of this visit, or the End.
    Between { next_visit: u32 },
    /// Blocks of this visit, or its end.
    In { visit: u32, step: u32, next_block: u32 },
    /// Nothing.
    Over,
}

impl Protocol {
    /// A stream that has to answer `workload` from a guest of `cpus` CPUs.
    #[must_use]
    pub fn new(workload: &Workload, cpus: u32) -> Protocol {
        Protocol {
            boot: workload.boot.clone(),
            cpus,
            visits: workload.visits.clone(),
            line: Vec::new(),
            records: 0,
            state: State::Greeting,
            misfit: None,
        }
    }

    /// Why this guest is not fit to be measured, though it came up: its CPUs or
    /// its timers are not what was ordered. A busy host can do that to a guest,
    /// so another boot may be luckier.
    #[must_use]
    pub fn misfit(&self) -> Option<&str> {
        self.misfit.as_deref()
    }

    /// Good records so far.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Takes more bytes; gives the records that are whole now.
    ///
    /// # Errors
    /// A line that is no record, or one that may not come here, with its number.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            self.collect(line)?;
            let line = std::mem::take(&mut self.line);
            let record = self.read(&line).map_err(|why| self.breach(why))?;
            self.records += 1;
            records.push(record);
        }
        self.collect(bytes)?;
        Ok(records)
    }

    fn collect(&mut self, bytes: &[u8]) -> Result<()> {
        if self.line.len() + bytes.len() > LONGEST_LINE {
            return Err(self.breach(format!("it has more than {LONGEST_LINE} bytes")));
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn breach(&self, why: String) -> Error {
        Error::failure(format!("line {} of the guest's records: {why}", self.records + 1))
            .hint("the boot's records.jsonl has the line; the boot is lost, nothing else is")
    }

    fn read(&mut self, line: &[u8]) -> Result<Record, String> {
        let record = parse(line)?;
        self.state = self.follow(&record)?;
        if let Record::Hello(hello) = &record {
            self.misfit = self.unfit(hello);
        }
        Ok(record)
    }

    /// The state after this record, if it may come now.
    fn follow(&self, record: &Record) -> Result<State, String> {
        match (self.state, record) {
            (State::Greeting, Record::Hello(hello)) => {
                self.check_hello(hello)?;
                Ok(State::Between { next_visit: 0 })
            }
            (State::Greeting, _) => Err("it comes before the Hello".into()),
            (State::Over, _) => Err("it comes after the End".into()),
            (_, Record::Hello(_)) => Err("it is a second Hello".into()),
            (State::Between { next_visit }, Record::VisitBegin { visit, step, .. }) => {
                let asked = self.visits.get(next_visit as usize);
                if *visit != next_visit || asked != Some(step) {
                    return Err(format!(
                        "visit {visit} of step {step} was not asked for here: visit {next_visit} \
                         is of step {asked:?}"
                    ));
                }
                Ok(State::In { visit: *visit, step: *step, next_block: 0 })
            }
            (State::In { visit, step, next_block }, Record::Block(block)) => {
                let Block { visit: its_visit, step: its_step, block: number, .. } = block;
                if (*its_visit, *its_step, *number) != (visit, step, next_block) {
                    return Err(format!(
                        "block {number} of visit {its_visit}, step {its_step}, instead of block \
                         {next_block} of visit {visit}, step {step}"
                    ));
                }
                Ok(State::In { visit, step, next_block: next_block.saturating_add(1) })
            }
            (State::In { visit, step, .. }, Record::Output(output)) => {
                if (output.visit, output.step) != (visit, step) {
                    return Err(format!(
                        "output of visit {}, step {}, within visit {visit}, step {step}",
                        output.visit, output.step
                    ));
                }
                Ok(self.state)
            }
            (State::In { visit: open, step: of, .. }, Record::VisitEnd { visit, step, .. })
                if (*visit, *step) == (open, of) =>
            {
                Ok(State::Between { next_visit: open.saturating_add(1) })
            }
            (State::Between { .. }, Record::End(End { records, .. })) => {
                if *records != self.records {
                    return Err(format!(
                        "the guest sent {records} records before its End, {} arrived",
                        self.records
                    ));
                }
                Ok(State::Over)
            }
            (
                State::Between { .. },
                Record::Block(_) | Record::Output(_) | Record::VisitEnd { .. },
            ) => Err("it belongs to no open visit".into()),
            (
                State::In { visit, .. },
                Record::VisitBegin { .. } | Record::VisitEnd { .. } | Record::End(_),
            ) => Err(format!("visit {visit} has not ended")),
        }
    }

    /// Whether this guest is the one that was ordered.
    fn check_hello(&self, hello: &Hello) -> Result<(), String> {
        let Hello { source_hash, boot, .. } = hello;
        if source_hash != bakeoff_fuzz::SOURCE_HASH {
            return Err(format!(
                "the guest's agent was built from other sources ({source_hash}) than this program \
                 ({})",
                bakeoff_fuzz::SOURCE_HASH
            ));
        }
        if *boot != self.boot {
            return Err(format!("the guest calls its boot `{boot}`, this is `{}`", self.boot));
        }
        Ok(())
    }

    /// Whether it is fit to be measured.
    fn unfit(&self, hello: &Hello) -> Option<String> {
        let Hello { cpus_online, timer_resolution_ns, clocksource, .. } = hello;
        if *cpus_online != self.cpus {
            return Some(format!("{cpus_online} of the guest's {} CPUs came up", self.cpus));
        }
        // hrtimers tell a resolution of one nanosecond, the tick tells its own.
        (*timer_resolution_ns != 1).then(|| {
            format!(
                "the guest has no high-resolution timers (resolution {timer_resolution_ns} ns, \
                 clock {clocksource}), so no sampling period would be kept"
            )
        })
    }
}

/// One line as a record; a guest of another version is told as such.
fn parse(line: &[u8]) -> Result<Record, String> {
    let value: Value = serde_json::from_slice(line).map_err(|e| format!("it is not JSON: {e}"))?;
    let wire = value.get("wire").and_then(Value::as_u64);
    if let Some(wire) = wire.filter(|wire| *wire != u64::from(VERSION)) {
        return Err(format!("the guest speaks version {wire}, this program version {VERSION}"));
    }
    serde_json::from_value(value).map_err(|e| format!("it is not a record: {e}"))
}

#[cfg(test)]
pub(super) mod tests {
    use bakeoff_fuzz::wire::{Step, StepOutcome};

    use super::*;

    /// One step of three blocks.
    pub(in crate::run::exercise) fn workload() -> Workload {
        let step = Step {
            id: 4,
            probe: "flip".into(),
            params: [("context".to_owned(), "process".into())].into(),
            blocks: 3,
            calls_per_block: 10,
            block_ms: 100,
        };
        Workload {
            wire: VERSION,
            boot: "0-000".into(),
            seed: 1,
            steps: vec![step],
            visits: vec![4],
        }
    }

    /// What a good guest of two CPUs answers to it.
    pub(in crate::run::exercise) fn records() -> Vec<Record> {
        let hello = Hello {
            wire: VERSION,
            source_hash: bakeoff_fuzz::SOURCE_HASH.into(),
            boot: "0-000".into(),
            release: "6.12.0".into(),
            machine: "x86_64".into(),
            cmdline: "bakeoff.guest=1".into(),
            cpus_online: 2,
            clocksource: "tsc".into(),
            timer_resolution_ns: 1,
            timer_100us_measured_ns: 100_500,
            debug_locks: Some(true),
            tainted: 0,
            page_size: 4096,
            at_ns: 1,
        };
        let block = |block| {
            Record::Block(Block {
                step: 4,
                block,
                at_ns: 3,
                window_ns: 4,
                debug_locks_before: Some(true),
                debug_locks_after: Some(true),
                ..Block::default()
            })
        };
        vec![
            Record::Hello(hello),
            Record::VisitBegin { visit: 0, step: 4, at_ns: 2 },
            block(0),
            block(1),
            block(2),
            Record::VisitEnd { visit: 0, step: 4, outcome: StepOutcome::Done, at_ns: 5 },
            Record::End(End { records: 6, debug_locks: Some(true), tainted: 0, at_ns: 6 }),
        ]
    }

    /// Records as they come over the port.
    pub(in crate::run::exercise) fn lines(records: &[Record]) -> Vec<u8> {
        let mut lines = Vec::new();
        for record in records {
            serde_json::to_writer(&mut lines, record).unwrap();
            lines.push(b'\n');
        }
        lines
    }

    fn read(bytes: &[u8]) -> Result<Vec<Record>> {
        Protocol::new(&workload(), 2).push(bytes)
    }

    fn why(records: &[Record]) -> String {
        read(&lines(records)).unwrap_err().message().to_owned()
    }

    fn with_hello(change: impl Fn(&mut Hello)) -> Vec<Record> {
        let mut records = records();
        if let Some(Record::Hello(hello)) = records.first_mut() {
            change(hello);
        }
        records
    }

    /// Good records come out as they went in, however the bytes are cut, and a
    /// last line that was cut off is no breach.
    #[test]
    fn good_records_in_any_pieces() {
        let bytes = lines(&records());
        for size in [1, 7, 100, 10_000] {
            let mut protocol = Protocol::new(&workload(), 2);
            let mut read = Vec::new();
            bytes.chunks(size).for_each(|piece| read.extend(protocol.push(piece).unwrap()));
            assert_eq!(read, records());
            assert_eq!(protocol.records(), 7);
        }
        assert_eq!(read(&bytes[..bytes.len() - 9]).unwrap().len(), 6);
    }

    /// A guest that does not fit is refused at its Hello, with the reason.
    #[test]
    fn misfits_are_refused_at_the_hello() {
        let old = with_hello(|hello| hello.wire = VERSION + 1);
        let told = format!("speaks version {}, this program version {VERSION}", VERSION + 1);
        assert!(why(&old).contains(&told));
        let other = with_hello(|hello| hello.source_hash = "0".into());
        assert!(why(&other).contains("built from other sources"));
        let boot = with_hello(|hello| hello.boot = "0-001".into());
        assert!(why(&boot).contains("calls its boot `0-001`"));
    }

    /// A guest without all its CPUs or timers keeps the rules, but is unfit.
    #[test]
    fn lame_guests_are_unfit() {
        let misfit = |records: &[Record]| {
            let mut protocol = Protocol::new(&workload(), 2);
            protocol.push(&lines(records)).unwrap();
            protocol.misfit().map(str::to_owned)
        };
        assert_eq!(misfit(&records()), None);
        let cpus = misfit(&with_hello(|hello| hello.cpus_online = 1)).unwrap();
        assert!(cpus.contains("1 of the guest's 2 CPUs"));
        let ticks = misfit(&with_hello(|hello| hello.timer_resolution_ns = 4_000_000)).unwrap();
        assert!(ticks.contains("no high-resolution timers"));
    }

    /// A version that has other fields is told as another version all the same.
    #[test]
    fn strange_hello_of_another_version_is_named() {
        let error = read(b"{\"record\":\"hello\",\"wire\":9,\"new\":true}\n").unwrap_err();
        assert!(error.message().contains("version 9"), "{error}");
    }

    /// Records that may not come here are refused with their line.
    #[test]
    fn order_is_kept() {
        let all = records();
        assert!(why(&all[1..]).starts_with("line 1 of the guest's records: it comes before"));
        let twice = [&all[..1], &all[..1]].concat();
        assert!(why(&twice).contains("line 2 of the guest's records: it is a second Hello"));
        let after = [&all[..], &all[1..2]].concat();
        assert!(why(&after).contains("line 8 of the guest's records: it comes after the End"));
        let lost = [&all[..3], &all[4..]].concat();
        assert!(why(&lost).contains("block 2 of visit 0, step 4, instead of block 1"));
        let open = [&all[..5], &all[6..]].concat();
        assert!(why(&open).contains("visit 0 has not ended"));
        let fewer = [&all[..1], &all[6..]].concat();
        assert!(why(&fewer).contains("sent 6 records before its End, 1 arrived"));
        let stranger = [&all[..1], &[Record::VisitBegin { visit: 0, step: 9, at_ns: 0 }]].concat();
        assert!(why(&stranger).contains("visit 0 of step 9 was not asked for here"));
        let early = [&all[..1], &all[2..]].concat();
        assert!(why(&early).contains("belongs to no open visit"));
    }

    /// Noise, deep nesting, half records and endless lines are errors, not panics.
    #[test]
    fn hostile_lines_are_errors() {
        let deep = [vec![b'['; 100_000], b"\n".to_vec()].concat();
        let cases: [&[u8]; 6] = [
            b"\n",
            b"\xff\xfe\n",
            b"{\"record\":\"hello\"}\n",
            b"{\"record\":\"nonsense\"}\n",
            b"null\n",
            &deep,
        ];
        for bytes in cases {
            assert!(read(bytes).unwrap_err().message().starts_with("line 1 "));
        }
        let mut protocol = Protocol::new(&workload(), 2);
        let chunk = vec![b'x'; 1 << 16];
        let error = (0..1600).find_map(|_| protocol.push(&chunk).err()).unwrap();
        assert!(error.message().contains("more than 1048576 bytes"), "{error}");
        assert!(protocol.line.len() <= LONGEST_LINE);
    }
}
