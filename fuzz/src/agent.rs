// SPDX-License-Identifier: MIT OR Apache-2.0
//! PID 1 of a guest: reads the workload, has each step run in a process of its
//! own, passes its records on, and ends the machine.
//!
//! A probe that crashes, hangs or talks nonsense costs its step. A PID 1 that
//! crashes would panic the kernel, and the panic would be blamed on the patch:
//! so nothing dangerous happens in PID 1.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::guest::{self, EXIT_NOT_A_GUEST, EXIT_STEP_LOST, EXIT_STEP_REPORTED, Port, say};
use crate::kernel;
use crate::probe::{self, Failure, Next, Order};
use crate::stop;
use crate::sys::{self, Wait};
use crate::wire::{
    Block, End, Record, STEP_SILENCE_MS, Step, StepOutcome, VERSION, WORKLOAD_PATH, Workload,
};

/// First argument of a step's process; the step follows as JSON.
const STEP: &str = "--step";

/// A workload longer than this is none.
const WORKLOAD_LIMIT: u64 = 4 << 20;
/// A line from a step's process longer than this is none.
const LINE_LIMIT: usize = 1 << 20;
/// What a step may take beyond its blocks: loading, attaching, slow machines.
const STEP_GRACE: Duration = Duration::from_secs(60);

/// The agent, or one step of it.
#[must_use]
pub fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some(STEP), Some(step)) => match guest::check_step() {
            Ok(()) => run_step(&step),
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
        for step in workload?.steps {
            let begin = Record::StepBegin { step: step.id, at_ns: sys::monotonic_ns() };
            port.send(&begin).map_err(sent)?;
            let outcome = supervise(&step, &mut port).map_err(sent)?;
            let end = Record::StepEnd { step: step.id, outcome, at_ns: sys::monotonic_ns() };
            port.send(&end).map_err(sent)?;
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

/// Has one step run in a process of its own, and passes its blocks on. An
/// error is the port's; the step's troubles are an outcome.
fn supervise(step: &Step, port: &mut Port) -> io::Result<StepOutcome> {
    let outcome = match start(step) {
        Ok(mut child) => {
            let heard = listen(step, &mut child, |block| port.send(&Record::Block(block)));
            let ended = finish(&mut child);
            match heard? {
                Heard::Outcome(outcome) => outcome,
                Heard::Silence => {
                    failed(format_args!("the step's process {ended} without a result"))
                }
                Heard::Nonsense(what) => failed(format_args!("the step's process said {what}")),
                Heard::Late => failed("the step's process took too long and was killed"),
            }
        }
        Err(error) => failed(format_args!("starting the step's process: {error}")),
    };
    sys::kill_all_others();
    Ok(outcome)
}

fn failed(reason: impl std::fmt::Display) -> StepOutcome {
    StepOutcome::Failed { reason: reason.to_string() }
}

fn start(step: &Step) -> io::Result<Child> {
    Command::new("/proc/self/exe")
        .arg(STEP)
        .arg(serde_json::to_string(step).map_err(io::Error::other)?)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
}

/// What came from a step's process.
#[derive(Debug, PartialEq)]
enum Heard {
    /// Its result.
    Outcome(StepOutcome),
    /// The end, without a result.
    Silence,
    /// Something that is no record of this step.
    Nonsense(String),
    /// Nothing more within the limit.
    Late,
}

/// Passes on a step's blocks until its result, its end, or its limit.
fn listen(
    step: &Step,
    child: &mut Child,
    mut pass: impl FnMut(Block) -> io::Result<()>,
) -> io::Result<Heard> {
    let Some(mut pipe) = child.stdout.take() else {
        return Ok(Heard::Silence);
    };
    let blocks = Duration::from_millis(u64::from(step.block_ms)).saturating_mul(step.blocks);
    let deadline = Instant::now().checked_add(blocks.saturating_mul(4).saturating_add(STEP_GRACE));
    // The host would take a longer silence for a guest that hangs.
    let silence = u64::from(step.block_ms) + u64::from(STEP_SILENCE_MS);
    let silence = Duration::from_millis(silence);
    let mut heard = Instant::now();
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
            match understand(step, &line) {
                Ok(Said::Block(block)) => pass(*block)?,
                Ok(Said::Outcome(outcome)) => return Ok(Heard::Outcome(outcome)),
                Err(what) => return Ok(Heard::Nonsense(what)),
            }
        }
        if buffer.len() > LINE_LIMIT {
            return Ok(Heard::Nonsense("a line without an end".to_owned()));
        }
    }
}

/// One line of a step's process.
#[derive(Debug, PartialEq)]
enum Said {
    Block(Box<Block>),
    Outcome(StepOutcome),
}

fn understand(step: &Step, line: &[u8]) -> Result<Said, String> {
    let record: Record = serde_json::from_slice(line).map_err(|error| {
        let start: String = String::from_utf8_lossy(line).chars().take(80).collect();
        format!("{:?}: {error}", start.trim_end())
    })?;
    match record {
        Record::Block(block) if block.step == step.id => Ok(Said::Block(Box::new(block))),
        Record::StepEnd { step: id, outcome, .. } if id == step.id => Ok(Said::Outcome(outcome)),
        Record::Block(_)
        | Record::StepEnd { .. }
        | Record::Hello(_)
        | Record::StepBegin { .. }
        | Record::End(_) => Err("a record that is not this step's to send".to_owned()),
    }
}

/// Sees a step's process off: it has a moment to end by itself, then it is
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

/// A step's process: runs the probe and says its records on standard output.
fn run_step(text: &str) -> ExitCode {
    let Ok(step) = serde_json::from_str::<Step>(text) else {
        say("the step given is not one");
        return ExitCode::from(EXIT_STEP_LOST);
    };
    let ran = catch_unwind(AssertUnwindSafe(|| match probe::order(&step)? {
        Order::Run(probe) => {
            let mut taken = Vec::new();
            (probe.run)(&step, &mut |block| {
                tell(&Record::Block(block.clone()))?;
                taken.push(block);
                Ok(if stop::is_enough(&step, &taken) { Next::Enough } else { Next::Another })
            })?;
            Ok(StepOutcome::Done)
        }
        Order::Unreachable(reason) => Ok(StepOutcome::Unreachable { reason: reason.to_owned() }),
    }));
    let outcome = match ran {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(failure)) if Failure::is_unreachable(&failure) => {
            StepOutcome::Unreachable { reason: failure.to_string() }
        }
        Ok(Err::<_, Failure>(failure)) => failed(failure),
        Err(panic) => failed(format_args!("the probe panicked: {}", message(&panic))),
    };
    let told = tell(&Record::StepEnd { step: step.id, outcome, at_ns: sys::monotonic_ns() });
    match told {
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
    use crate::wire::{Context, Interface, Stack, Stop, Stress};

    fn step(id: u32) -> Step {
        Step {
            id,
            probe: "build_id".to_owned(),
            context: Context::Process,
            stress: Stress::Idle,
            period_us: None,
            blocks: 1,
            calls_per_block: 1,
            block_ms: 1,
            interface: Interface::default(),
            stack: Stack::default(),
            writer_duty: None,
            stop: Stop::default(),
        }
    }

    /// A step's process that runs a shell command instead.
    fn heard(script: &str) -> (Heard, String) {
        let mut child =
            Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let heard = listen(&step(7), &mut child, |_| Ok(())).unwrap();
        (heard, finish(&mut child))
    }

    /// The result of a step is passed on, and its process is seen off.
    #[test]
    fn a_result_is_heard() {
        let (heard, ended) = heard(
            r#"echo '{"record":"step-end","step":7,"outcome":{"outcome":"done"},"at_ns":1}'"#,
        );
        assert_eq!(heard, Heard::Outcome(StepOutcome::Done));
        assert_eq!(ended, "ended with exit code 0");
    }

    /// A crash of the probe is named by its signal.
    #[test]
    fn a_crash_costs_the_step_only() {
        let (heard, ended) = heard("kill -SEGV $$");
        assert_eq!(heard, Heard::Silence);
        assert_eq!(ended, "died of signal 11");
    }

    /// What is no record, or another's, is quoted and not passed on.
    #[test]
    fn nonsense_is_quoted() {
        let (said, _) = heard("echo hello");
        assert!(matches!(said, Heard::Nonsense(what) if what.contains("hello")));
        let (said, _) = heard(
            r#"echo '{"record":"step-end","step":8,"outcome":{"outcome":"done"},"at_ns":1}'"#,
        );
        assert!(matches!(said, Heard::Nonsense(_)));
        let (said, _) = heard("head -c 2000000 /dev/zero");
        assert_eq!(said, Heard::Nonsense("a line without an end".to_owned()));
    }

    /// Broken, foreign and hostile workloads are refused by name.
    #[test]
    fn bad_workloads_are_refused() {
        let reason = |text: &str| parse_workload(text.as_bytes()).unwrap_err().to_string();
        assert!(reason("").contains(WORKLOAD_PATH));
        assert!(reason("{\"wire\":2}").contains("missing field"));
        assert!(reason(r#"{"wire":99,"boot":"b","seed":0,"steps":[]}"#).contains("version 99"));
        assert!(
            reason(r#"{"wire":2,"boot":"b","seed":0,"steps":[],"more":1}"#)
                .contains("unknown field")
        );
        assert!(reason(&"[".repeat(100_000)).contains(WORKLOAD_PATH));
        assert!(reason(&" ".repeat(5 << 20)).contains("longer than"));
        assert!(reason("\u{0}\u{1}").contains(WORKLOAD_PATH));
    }

    /// The smallest workload there is.
    #[test]
    fn an_empty_workload_is_one() {
        let text = format!(r#"{{"wire":{VERSION},"boot":"b","seed":0,"steps":[]}}"#);
        assert_eq!(parse_workload(text.as_bytes()).unwrap().steps, []);
    }
}
