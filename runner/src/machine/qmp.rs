// SPDX-License-Identifier: MIT OR Apache-2.0
//! The little of QMP, QEMU's control protocol, that a boot needs.
//!
//! QEMU connects to a socket we listen on, greets, and after
//! `qmp_capabilities` answers one JSON line per command. Between the answers it
//! tells events. How a guest went away is only known from them: a restart, a
//! triple fault and a panic all end QEMU with status 0.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::base::error::{Context, Error, Result};

/// QEMU's main loop answers at once, unless it is stopped or starved.
const ANSWER: Duration = Duration::from_secs(20);
/// No message of QEMU's is near that long.
const LONGEST_LINE: u64 = 1 << 20;

/// What QEMU tells without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QmpEvent {
    /// The guest is gone and QEMU is about to exit.
    Shutdown {
        /// The guest did it, not somebody on the host.
        guest: bool,
        /// `guest-shutdown`, `guest-reset`, `host-signal`, `host-qmp-quit` …
        reason: String,
    },
    /// The guest was reset.
    Reset {
        /// The guest did it.
        guest: bool,
    },
    /// The guest told its panic to a paravirtual device.
    GuestPanicked,
    /// QEMU stopped the virtual CPUs, for example after an internal error.
    Stop,
    /// Any other event, by its name.
    Other(String),
}

/// A connection after the handshake; clones share it, one command at a time.
#[derive(Clone, Debug)]
pub struct Qmp {
    wire: Arc<Mutex<Wire>>,
}

/// What a command needs for itself.
#[derive(Debug)]
struct Wire {
    stream: UnixStream,
    answers: Receiver<Answer>,
    next_id: u64,
}

/// A command's number, and what came of it.
type Answer = (u64, std::result::Result<Value, String>);

/// One line from QEMU.
#[derive(Debug, Deserialize)]
struct Message {
    event: Option<String>,
    #[serde(default)]
    data: Value,
    #[serde(rename = "return")]
    answer: Option<Value>,
    error: Option<ErrorAnswer>,
    id: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct ErrorAnswer {
    desc: String,
}

impl Qmp {
    /// Does the handshake; from then on every event goes to `tell`, from a
    /// thread that ends with the connection.
    ///
    /// # Errors
    /// What answers is not QEMU, or does not answer.
    pub fn connect(stream: UnixStream, tell: impl FnMut(QmpEvent) + Send + 'static) -> Result<Qmp> {
        let doing = || "talk to QEMU's control socket".to_owned();
        stream.set_read_timeout(Some(ANSWER)).context(doing)?;
        stream.set_write_timeout(Some(ANSWER)).context(doing)?;
        let mut lines = BufReader::new(stream.try_clone().context(doing)?);
        let greeting = read_line(&mut lines).context(doing)?.unwrap_or_default();
        let greeting: Value = serde_json::from_slice(&greeting).unwrap_or_default();
        if greeting.get("QMP").is_none() {
            return Err(Error::failure("what connected to the control socket is not QEMU"));
        }
        let (send, answers) = channel();
        // The thread waits for as long as the guest lives.
        stream.set_read_timeout(None).context(doing)?;
        std::thread::Builder::new()
            .name("qmp".into())
            .spawn(move || listen(lines, &send, tell))
            .context(|| "start a thread".into())?;
        let wire = Wire { stream, answers, next_id: 0 };
        let qmp = Qmp { wire: Arc::new(Mutex::new(wire)) };
        qmp.execute("qmp_capabilities")?;
        Ok(qmp)
    }

    /// Lets the CPUs run.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn cont(&self) -> Result<()> {
        self.execute("cont").map(drop)
    }

    /// What the machine does: `running`, `paused`, `shutdown`, `internal-error` …
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn query_status(&self) -> Result<String> {
        let answer = self.execute("query-status")?;
        let status = answer.get("status").and_then(Value::as_str);
        Ok(status.unwrap_or("unknown").to_owned())
    }

    /// Sends an NMI to the guest.
    ///
    /// # Errors
    /// This machine has no NMI, or QEMU does not answer.
    pub fn inject_nmi(&self) -> Result<()> {
        self.execute("inject-nmi").map(drop)
    }

    fn execute(&self, command: &str) -> Result<Value> {
        // Nothing panics while it is held; a half-read answer has a number.
        self.wire.lock().unwrap_or_else(PoisonError::into_inner).execute(command)
    }
}

impl Wire {
    fn execute(&mut self, command: &str) -> Result<Value> {
        self.next_id += 1;
        let id = self.next_id;
        let mut line = json!({"execute": command, "id": id}).to_string();
        line.push('\n');
        self.stream.write_all(line.as_bytes()).context(|| format!("send `{command}` to QEMU"))?;
        // An answer nobody waited for any longer is not this command's.
        let answer = loop {
            match self.answers.recv_timeout(ANSWER) {
                Ok((number, _)) if number != id => {}
                other => break other,
            }
        };
        match answer {
            Ok((_, Ok(answer))) => Ok(answer),
            Ok((_, Err(why))) => Err(Error::failure(format!("QEMU refuses `{command}`: {why}"))),
            Err(RecvTimeoutError::Timeout) => {
                Err(Error::failure(format!("QEMU does not answer `{command}`")))
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(Error::failure(format!("QEMU is gone and did not answer `{command}`")))
            }
        }
    }
}

/// Sorts what comes in, until the connection ends.
fn listen(mut lines: impl BufRead, answers: &Sender<Answer>, mut tell: impl FnMut(QmpEvent)) {
    while let Ok(Some(line)) = read_line(&mut lines) {
        let Ok(message) = serde_json::from_slice::<Message>(&line) else { continue };
        let Message { event, data, answer, error, id } = message;
        if let Some(name) = event {
            tell(event_of(name, &data));
        } else if let (Some(error), Some(id)) = (error, id) {
            let _ = answers.send((id, Err(error.desc)));
        } else if let (Some(answer), Some(id)) = (answer, id) {
            let _ = answers.send((id, Ok(answer)));
        }
    }
}

fn event_of(name: String, data: &Value) -> QmpEvent {
    let guest = data.get("guest").and_then(Value::as_bool).unwrap_or(false);
    match name.as_str() {
        "SHUTDOWN" => {
            let reason = data.get("reason").and_then(Value::as_str).unwrap_or("unknown");
            QmpEvent::Shutdown { guest, reason: reason.to_owned() }
        }
        "RESET" => QmpEvent::Reset { guest },
        "GUEST_PANICKED" => QmpEvent::GuestPanicked,
        "STOP" => QmpEvent::Stop,
        _ => QmpEvent::Other(name),
    }
}

/// One line, or `None` at the end.
fn read_line(from: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    from.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    Ok(if line.is_empty() { None } else { Some(line) })
}

/// How long between two looks whether QEMU has connected.
const LOOK: Duration = Duration::from_millis(2);

/// Accepts one connection, unless `gone` says nobody will come. What it waited is taken from
/// `patience`: looks are counted, because the clock jumps for whoever was stopped.
///
/// # Errors
/// The patience is spent, or what `gone` gives.
pub(crate) fn accept(
    listener: &std::os::unix::net::UnixListener,
    patience: &mut Duration,
    gone: &mut dyn FnMut() -> Result<()>,
) -> Result<UnixStream> {
    let doing = || "wait for QEMU to connect".to_owned();
    listener.set_nonblocking(true).context(doing)?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).context(doing)?;
                return Ok(stream);
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                gone()?;
                if patience.is_zero() {
                    return Err(Error::failure("QEMU started but did not connect in time"));
                }
                *patience = patience.saturating_sub(LOOK);
                std::thread::sleep(LOOK);
            }
            Err(e) => return Err(e).context(doing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    /// Who waits for QEMU waits as often as its patience has looks, and takes what comes.
    #[test]
    fn patience_is_spent_by_looking() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let (mut patience, mut looks) = (LOOK * 3, 0);
        let mut count = || {
            looks += 1;
            Ok(())
        };
        let error = accept(&listener, &mut patience, &mut count).unwrap_err();
        assert!(error.message().contains("did not connect"), "{error}");
        assert_eq!((patience, looks), (Duration::ZERO, 4));
        let _qemu = UnixStream::connect(&path).unwrap();
        accept(&listener, &mut patience, &mut || Ok(())).unwrap();
    }

    /// Plays QEMU: sends `script` line by line, one after each line received,
    /// and the first at once.
    fn qemu(script: &'static [&'static str]) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(theirs.try_clone().unwrap());
            let mut theirs = theirs;
            for line in script {
                theirs.write_all(line.as_bytes()).unwrap();
                theirs.write_all(b"\r\n").unwrap();
                if read_line(&mut lines).unwrap().is_none() {
                    break;
                }
            }
        });
        ours
    }

    const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": []}}"#;

    /// Events between an answer and its command are told, in order, and do not
    /// count as answers.
    #[test]
    fn events_and_answers_are_told_apart() {
        let stream = qemu(&[
            GREETING,
            r#"{"return": {}, "id": 1}"#,
            concat!(
                r#"{"event": "RESET", "data": {"guest": true, "reason": "guest-reset"}}"#,
                "\n",
                r#"{"return": {"status": "running", "running": true}, "id": 2}"#,
            ),
            concat!(
                r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#,
                "\n",
                r#"{"error": {"class": "GenericError", "desc": "no NMI here"}, "id": 3}"#,
            ),
        ]);
        let (send, told) = channel();
        let qmp = Qmp::connect(stream, move |event| send.send(event).unwrap()).unwrap();
        assert_eq!(qmp.query_status().unwrap(), "running");
        assert!(qmp.inject_nmi().unwrap_err().message().contains("no NMI here"));
        drop(qmp);
        let told: Vec<_> = told.iter().take(2).collect();
        let reason = "guest-shutdown".to_owned();
        assert_eq!(
            told,
            [QmpEvent::Reset { guest: true }, QmpEvent::Shutdown { guest: true, reason }]
        );
    }

    /// A stranger on the socket is our failure, in words.
    #[test]
    fn stranger_is_refused() {
        let error = Qmp::connect(qemu(&["SSH-2.0-OpenSSH"]), |_| {}).unwrap_err();
        assert!(error.message().contains("not QEMU"), "{error}");
    }

    /// QEMU that dies in the middle is told, not waited for.
    #[test]
    fn lost_connection_is_told_at_once() {
        let stream = qemu(&[GREETING, r#"{"return": {}, "id": 1}"#]);
        let qmp = Qmp::connect(stream, |_| {}).unwrap();
        let before = Instant::now();
        assert!(qmp.query_status().is_err());
        assert!(before.elapsed() < ANSWER / 2);
    }
}
