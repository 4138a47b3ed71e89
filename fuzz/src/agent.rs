// SPDX-License-Identifier: MIT OR Apache-2.0
//! PID 1 of a guest: reads the workload, has each visit made by a process of its
//! own, passes its records on, and ends the machine.
//!
//! A probe that crashes, hangs or talks nonsense costs its visit. A PID 1 that
//! crashes would panic the kernel, and the panic would be blamed on the patch:
//! so nothing dangerous happens in PID 1.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::chance::visit_seed;
use crate::failure::Failure;
use crate::guest::{self, EXIT_NOT_A_GUEST, EXIT_STEP_LOST, EXIT_STEP_REPORTED, Port, say};
use crate::kernel;
use crate::probe;
use crate::sys::{self, Wait};
use crate::wire::{
    Block, End, Output, Record, STEP_SILENCE_MS, Step, StepOutcome, VERSION, Visit, WORKLOAD_PATH,
    Workload,
};

/// First argument of a visit's process; the visit follows as JSON.
const VISIT: &str = "--visit";

/// A workload longer than this is none.
const WORKLOAD_LIMIT: u64 = 4 << 20;
/// A line from a visit's process longer than this is none.
const LINE_LIMIT: usize = 1 << 20;
/// What a visit may take beyond its blocks: loading, attaching, slow machines.
const VISIT_GRACE: Duration = Duration::from_secs(60);

/// The agent, or one visit of it.
#[must_use]
pub fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some(VISIT), Some(visit)) => match guest::check_step() {
            Ok(()) => make_visit(&visit),
            Err(refusal) => refuse(&refusal),
        },
        _ => match guest::check_pid1() {
            Ok(()) => serve(),
            Err(refusal) => refuse(&refusal),
        },
    }
}

fn refuse(refusal: &guest::Refusal) -> ExitCode {
    say(refusal);
    ExitCode::from(EXIT_NOT_A_GUEST)
}

/// PID 1's life. Whatever happens in it, the machine ends in order.
fn serve() -> ExitCode {
    let served = catch_unwind(|| {
        guest::prepare();
        let mut port = Port::open().map_err(|e| Failure::at("opening the records' port", &e))?;
        let workload = read_workload();
        let boot = workload.as_ref().map_or("", |w| w.boot.as_str());
        // Even without a workload: the host sees who does not understand it.
        let hello = kernel::hello(boot).map_err(|e| Failure::at("looking around", &e))?;
        let sent = |e: io::Error| Failure::at("sending a record", &e);
        port.send(&Record::Hello(hello)).map_err(sent)?;
        for visit in visits(workload?)? {
            let (number, step) = (visit.number, visit.step.id);
            let at_ns = sys::monotonic_ns();
            port.send(&Record::VisitBegin { visit: number, step, at_ns }).map_err(sent)?;
            let outcome = supervise(&visit, &mut port).map_err(sent)?;
            let at_ns = sys::monotonic_ns();
            port.send(&Record::VisitEnd { visit: number, step, outcome, at_ns }).map_err(sent)?;
        }
        let end = Record::End(End {
            records: port.records(),
            debug_locks: kernel::debug_locks(),
            tainted: kernel::tainted(),
            at_ns: sys::monotonic_ns(),
        });
        port.send_last(&end).map_err(sent)
    });
    match served {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => say(format_args!("gives up: {failure}")),
        // The panic's own message is on the console already.
        Err(_) => say("gives up: the agent itself panicked"),
    }
    guest::end()
}

fn read_workload() -> Result<Workload, Failure> {
    let mut text = Vec::new();
    File::open(WORKLOAD_PATH)
        .and_then(|file| file.take(WORKLOAD_LIMIT + 1).read_to_end(&mut text))
        .map_err(|e| Failure::at(WORKLOAD_PATH, &e))?;
    parse_workload(&text)
}

fn parse_workload(text: &[u8]) -> Result<Workload, Failure> {
    if text.len() as u64 > WORKLOAD_LIMIT {
        return Err(Failure::new(format!("{WORKLOAD_PATH}: longer than {WORKLOAD_LIMIT} bytes")));
    }
    let workload: Workload =
        serde_json::from_slice(text).map_err(|e| Failure::at(WORKLOAD_PATH, &e))?;
    if workload.wire != VERSION {
        return Err(Failure::new(format!(
            "{WORKLOAD_PATH}: version {}, this guest speaks {VERSION}",
            workload.wire
        )));
    }
    Ok(workload)
}

/// The visits that a workload asks for, each with its seed.
fn visits(workload: Workload) -> Result<Vec<Visit>, Failure> {
    let Workload { wire: _, boot: _, seed, steps, visits } = workload;
    let mut by_id: BTreeMap<u32, Step> = BTreeMap::new();
    for step in steps {
        let id = step.id;
        if by_id.insert(id, step).is_some() {
            return Err(Failure::new(format!("{WORKLOAD_PATH}: two steps have the id {id}")));
        }
    }
    let visit = |(number, id): (usize, &u32)| {
        let step = by_id.get(id).cloned().ok_or_else(|| {
            Failure::new(format!(
                "{WORKLOAD_PATH}: visit {number} is to a step {id}, which is not there"
            ))
        })?;
        let number = u32::try_from(number).map_err(Failure::new)?;
        Ok(Visit { number, seed: visit_seed(seed, number), step })
    };
    visits.iter().enumerate().map(visit).collect()
}

/// Has one visit made by a process of its own, and passes its blocks on. An
/// error is the port's; the visit's troubles are an outcome.
fn supervise(visit: &Visit, port: &mut Port) -> io::Result<StepOutcome> {
    let outcome = match start(visit) {
        Ok(mut child) => {
            let heard = listen(visit, &mut child, |record| port.send(&record));
            let ended = finish(&mut child);
            match heard? {
                Heard::Outcome(outcome) => outcome,
                Heard::Silence => {
                    failed(format_args!("the visit's process {ended} without a result"))
                }
                Heard::Nonsense(what) => failed(format_args!("the visit's process said {what}")),
                Heard::Late => failed("the visit's process took too long and was killed"),
            }
        }
        Err(error) => failed(format_args!("starting the visit's process: {error}")),
    };
    sys::kill_all_others();
    Ok(outcome)
}

fn failed(reason: impl std::fmt::Display) -> StepOutcome {
    StepOutcome::Failed { reason: reason.to_string() }
}

fn start(visit: &Visit) -> io::Result<Child> {
    Command::new("/proc/self/exe")
        .arg(VISIT)
        .arg(serde_json::to_string(visit).map_err(io::Error::other)?)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
}

/// What came from a visit's process.
#[derive(Debug, PartialEq)]
enum Heard {
    /// Its result.
    Outcome(StepOutcome),
    /// The end, without a result.
    Silence,
    /// Something that is no record of this visit.
    Nonsense(String),
    /// Nothing more within the limit.
    Late,
}

/// Passes on a visit's blocks and output until its result, its end, or its limit.
fn listen(
    visit: &Visit,
    child: &mut Child,
    mut pass: impl FnMut(Record) -> io::Result<()>,
) -> io::Result<Heard> {
    let Some(mut pipe) = child.stdout.take() else {
        return Ok(Heard::Silence);
    };
    let step = &visit.step;
    let blocks = Duration::from_millis(u64::from(step.block_ms)).saturating_mul(step.blocks);
    let deadline = Instant::now().checked_add(blocks.saturating_mul(4).saturating_add(VISIT_GRACE));
    // The host would take a longer silence for a guest that hangs.
    let silence = u64::from(step.block_ms) + u64::from(STEP_SILENCE_MS);
    let silence = Duration::from_millis(silence);
    let mut heard = Instant::now();
    let mut passed = 0;
    let mut buffer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let late = deadline.is_some_and(|deadline| Instant::now() > deadline);
        if late || heard.elapsed() > silence {
            return Ok(Heard::Late);
        }
        if !sys::wait(pipe.as_fd(), Wait::Readable, Duration::from_secs(1))? {
            continue;
        }
        let read = pipe.read(&mut chunk)?;
        if read == 0 {
            return Ok(Heard::Silence);
        }
        heard = Instant::now();
        buffer.extend_from_slice(&chunk[..read]);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            match understand(visit, passed, &line) {
                Ok(Said::Block(block)) => {
                    pass(Record::Block(*block))?;
                    passed += 1;
                }
                Ok(Said::Output(output)) => pass(Record::Output(output))?,
                Ok(Said::Outcome(outcome)) => return Ok(Heard::Outcome(outcome)),
                Err(what) => return Ok(Heard::Nonsense(what)),
            }
        }
        if buffer.len() > LINE_LIMIT {
            return Ok(Heard::Nonsense("a line without an end".to_owned()));
        }
    }
}

/// One line of a visit's process.
#[derive(Debug, PartialEq)]
enum Said {
    Block(Box<Block>),
    Output(Output),
    Outcome(StepOutcome),
}

/// Takes a line for what it has to be: the next block of this visit, of which `passed`
/// were passed on, some output, or its end.
fn understand(visit: &Visit, passed: u32, line: &[u8]) -> Result<Said, String> {
    let record: Record = serde_json::from_slice(line).map_err(|error| {
        let start: String = String::from_utf8_lossy(line).chars().take(80).collect();
        format!("{:?}: {error}", start.trim_end())
    })?;
    let own = |number: u32, step: u32| number == visit.number && step == visit.step.id;
    match record {
        Record::Block(block) if own(block.visit, block.step) => {
            if block.block != passed || block.block >= visit.step.blocks {
                return Err(format!(
                    "block {} where block {passed} of {} was due",
                    block.block, visit.step.blocks
                ));
            }
            Ok(Said::Block(Box::new(block)))
        }
        Record::Output(output) if own(output.visit, output.step) => Ok(Said::Output(output)),
        Record::VisitEnd { visit, step, outcome, .. } if own(visit, step) => {
            Ok(Said::Outcome(outcome))
        }
        Record::Block(_)
        | Record::Output(_)
        | Record::VisitEnd { .. }
        | Record::Hello(_)
        | Record::VisitBegin { .. }
        | Record::End(_) => Err("a record that is not this visit's to send".to_owned()),
    }
}

/// Sees a visit's process off: it has a moment to end by itself, then it is
/// killed; one that cannot even be killed is left to its fate.
fn finish(child: &mut Child) -> String {
    let start = Instant::now();
    let mut killed = false;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                return match (status.signal(), status.code()) {
                    (Some(signal), _) if killed => format!("was killed (signal {signal})"),
                    (Some(signal), _) => format!("died of signal {signal}"),
                    (None, Some(code)) => format!("ended with exit code {code}"),
                    (None, None) => "ended".to_owned(),
                };
            }
            Ok(None) => {}
            Err(error) => return format!("cannot be waited for ({error})"),
        }
        if start.elapsed() > Duration::from_secs(12) {
            return "cannot be killed".to_owned();
        }
        if start.elapsed() > Duration::from_secs(2) && !killed {
            killed = true;
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A visit's process: runs the probe and says its records on standard output.
fn make_visit(text: &str) -> ExitCode {
    let Ok(visit) = serde_json::from_str::<Visit>(text) else {
        say("the visit given is not one");
        return ExitCode::from(EXIT_STEP_LOST);
    };
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let (probe, _) = probe::check(&visit.step)?;
        (probe.run)(&visit, &mut |record| {
            if let Record::Block(block) = &record {
                probe.check(block)?;
            }
            tell(&record)
        })
    }));
    let outcome = match ran {
        Ok(Ok(())) => StepOutcome::Done,
        Ok(Err(failure)) if failure.is_unreachable() => {
            StepOutcome::Unreachable { reason: failure.to_string() }
        }
        Ok(Err(failure)) => failed(failure),
        Err(panic) => failed(format_args!("the probe panicked: {}", message(&panic))),
    };
    let (step, at_ns) = (visit.step.id, sys::monotonic_ns());
    match tell(&Record::VisitEnd { visit: visit.number, step, outcome, at_ns }) {
        Ok(()) => ExitCode::from(EXIT_STEP_REPORTED),
        Err(failure) => {
            say(failure);
            ExitCode::from(EXIT_STEP_LOST)
        }
    }
}

fn tell(record: &Record) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(record).map_err(Failure::new)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).map_err(|e| Failure::at("sending a record", &e))
}

fn message(panic: &Box<dyn std::any::Any + Send>) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Params;

    fn step(id: u32) -> Step {
        Step {
            id,
            probe: "build_id".to_owned(),
            params: Params::from([("context".to_owned(), "process".into())]),
            blocks: 2,
            calls_per_block: 1,
            block_ms: 1,
        }
    }

    /// A visit's process, of visit 3 to step 7, that runs a shell command instead; gives
    /// also the numbers of the blocks that were passed on.
    fn heard(script: &str) -> (Heard, String, Vec<u32>) {
        let visit = Visit { number: 3, seed: 1, step: step(7) };
        let mut child =
            Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut passed = Vec::new();
        let heard = listen(&visit, &mut child, |record| {
            match record {
                Record::Block(block) => passed.push(block.block),
                // A number that no block has.
                Record::Output(_) => passed.push(u32::MAX),
                other => panic!("passed on {other:?}"),
            }
            Ok(())
        });
        (heard.unwrap(), finish(&mut child), passed)
    }

    /// A command that says these records.
    fn says(records: &[Record]) -> String {
        let say = |record| format!("echo '{}'", serde_json::to_string(record).unwrap());
        records.iter().map(say).collect::<Vec<_>>().join("; ")
    }

    fn block(step: u32, visit: u32, block: u32) -> Record {
        Record::Block(Block { step, visit, block, ..Block::default() })
    }

    fn output(step: u32, visit: u32) -> Record {
        Record::Output(Output { step, visit, ..Output::default() })
    }

    fn end(step: u32, visit: u32) -> Record {
        Record::VisitEnd { visit, step, outcome: StepOutcome::Done, at_ns: 1 }
    }

    /// Blocks and result of a visit are passed on, and its process is seen off.
    #[test]
    fn a_result_is_heard() {
        let records = [block(7, 3, 0), output(7, 3), block(7, 3, 1), end(7, 3)];
        let (heard, ended, passed) = heard(&says(&records));
        assert_eq!(heard, Heard::Outcome(StepOutcome::Done));
        assert_eq!(ended, "ended with exit code 0");
        assert_eq!(passed, [0, u32::MAX, 1]);
    }

    /// Records of another visit or step, and blocks out of turn, are not passed on.
    #[test]
    fn foreign_records_are_not_passed_on() {
        for foreign in
            [block(8, 3, 0), block(7, 4, 0), output(8, 3), output(7, 4), end(8, 3), end(7, 4)]
        {
            let (heard, _, passed) = heard(&says(&[foreign]));
            assert!(matches!(heard, Heard::Nonsense(what) if what.contains("not this visit's")));
            assert!(passed.is_empty());
        }
        for (blocks, due) in [
            (vec![block(7, 3, 1)], "block 1 where block 0 of 2 was due"),
            (vec![block(7, 3, 0), block(7, 3, 0)], "block 0 where block 1 of 2 was due"),
            (
                vec![block(7, 3, 0), block(7, 3, 1), block(7, 3, 2)],
                "block 2 where block 2 of 2 was due",
            ),
        ] {
            let (heard, _, passed) = heard(&says(&blocks));
            assert_eq!(heard, Heard::Nonsense(due.to_owned()));
            assert_eq!(passed.len(), blocks.len() - 1);
        }
    }

    /// A crash of the probe is named by its signal.
    #[test]
    fn a_crash_costs_the_visit_only() {
        let (heard, ended, _) = heard("kill -SEGV $$");
        assert_eq!(heard, Heard::Silence);
        assert_eq!(ended, "died of signal 11");
    }

    /// What is no record is quoted and not passed on.
    #[test]
    fn nonsense_is_quoted() {
        let (said, _, _) = heard("echo hello");
        assert!(matches!(said, Heard::Nonsense(what) if what.contains("hello")));
        let (said, _, _) = heard("head -c 2000000 /dev/zero");
        assert_eq!(said, Heard::Nonsense("a line without an end".to_owned()));
    }

    /// Broken, foreign and hostile workloads are refused by name.
    #[test]
    fn bad_workloads_are_refused() {
        let reason = |text: &str| parse_workload(text.as_bytes()).unwrap_err().to_string();
        let empty = |wire: u32, more: &str| {
            format!(r#"{{"wire":{wire},"boot":"b","seed":0,"steps":[],"visits":[]{more}}}"#)
        };
        assert!(reason("").contains(WORKLOAD_PATH));
        assert!(reason("{\"wire\":3}").contains("missing field"));
        assert!(reason(&empty(99, "")).contains("version 99"));
        assert!(reason(&empty(VERSION, r#","more":1"#)).contains("unknown field"));
        assert!(reason(&"[".repeat(100_000)).contains(WORKLOAD_PATH));
        assert!(reason(&" ".repeat(5 << 20)).contains("longer than"));
        assert!(reason("\u{0}\u{1}").contains(WORKLOAD_PATH));
        assert!(parse_workload(empty(VERSION, "").as_bytes()).unwrap().visits.is_empty());
    }

    fn workload(steps: &[u32], visits: &[u32]) -> Workload {
        Workload {
            wire: VERSION,
            boot: "b".to_owned(),
            seed: 11,
            steps: steps.iter().map(|id| step(*id)).collect(),
            visits: visits.to_vec(),
        }
    }

    /// Visits are made in the order of the list, each with its number and a seed of its
    /// own, also where they are to the same step.
    #[test]
    fn visits_follow_the_list() {
        let made = visits(workload(&[4, 9], &[9, 4, 9])).unwrap();
        let order: Vec<_> = made.iter().map(|visit| (visit.number, visit.step.id)).collect();
        assert_eq!(order, [(0, 9), (1, 4), (2, 9)]);
        assert_ne!(made[0].seed, made[2].seed);
        let again = visits(workload(&[4, 9], &[9, 4, 9])).unwrap();
        assert_eq!(made, again);
        assert_eq!(visits(workload(&[4], &[])).unwrap(), []);
    }

    /// A visit to a step that is not there, or that is there twice, is refused before any
    /// visit is made.
    #[test]
    fn visits_need_their_step() {
        let reason = |steps, list| visits(workload(steps, list)).unwrap_err().to_string();
        assert!(reason(&[4], &[4, 5]).contains("visit 1 is to a step 5"));
        assert!(reason(&[4, 4], &[4]).contains("two steps have the id 4"));
    }
}
