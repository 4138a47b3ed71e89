// SPDX-License-Identifier: MIT OR Apache-2.0
//! From what was seen of a boot to how it ended; pure.
//!
//! A restart, a triple fault and a panic all look the same to whoever waits for
//! QEMU: status 0. So three witnesses are heard: the records (was there an
//! End?), QEMU's SHUTDOWN event (did the guest go by itself?) and the console
//! (was there a panic?).

use std::process::ExitStatus;
use std::time::Duration;

use super::Flood;
use crate::base::command::last_lines;
use crate::base::error::{Error, Result};
use crate::keep::store::BootEnd;

/// QEMU's SHUTDOWN event.
#[derive(Clone, Debug)]
pub(super) struct Shutdown {
    /// The guest did it.
    pub guest: bool,
    /// QEMU's word for how.
    pub reason: String,
}

/// Why nobody listens any longer.
#[derive(Debug)]
pub(super) enum Stop {
    /// QEMU ended by itself.
    Gone { status: ExitStatus, said: String },
    /// It told a shutdown, but does not end.
    DoesNotExit,
    /// The panic's restart did not come.
    Panicked,
    /// Its Hello, or its emulator, says that it cannot be measured.
    Unfit,
    /// No Hello in time.
    NoHello { limit: Duration },
    /// No record and nothing on the console.
    Silent { silence: Duration },
    /// One report over and over.
    Flood(Flood),
    /// Still busy when its time was up.
    OutOfTime { limit: Duration },
}

impl Stop {
    /// It is the guest's silence that is held against it, so QEMU must be well.
    pub(super) fn blames_silence(&self) -> bool {
        match self {
            Stop::NoHello { .. } | Stop::Silent { .. } | Stop::OutOfTime { .. } => true,
            Stop::Gone { .. }
            | Stop::DoesNotExit
            | Stop::Panicked
            | Stop::Unfit
            | Stop::Flood(_) => false,
        }
    }
}

/// What was seen of a boot.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub stop: Stop,
    /// A valid Hello came.
    pub hello: bool,
    /// A valid End came.
    pub ended: bool,
    pub shutdown: Option<Shutdown>,
    /// The panic, from "Kernel panic" on.
    pub panic_line: Option<&'a str>,
    /// Why the agent ended the guest before its time.
    pub gave_up: Option<&'a str>,
    /// The console's last line.
    pub last_line: &'a str,
}

/// How the boot ended, as a result of the kernel's.
///
/// # Errors
/// It ended by our doing or by somebody's on the host.
pub(super) fn judge(seen: &Seen<'_>) -> Result<BootEnd> {
    let Seen { stop, hello, ended, shutdown, panic_line, gave_up, last_line } = seen;
    if let Some(why) = gave_up {
        return Err(Error::failure(format!("the agent inside the guest gave up: {why}")));
    }
    if let Some(line) = panic_line {
        if let Some(code) = init_exit_code(line) {
            return Err(Error::failure(format!(
                "the agent inside the guest ended by itself (exit code {code})"
            ))
            .hint("its last words are in the boot's console.log"));
        }
        return Ok(BootEnd::Panicked { line: (*line).to_owned() });
    }
    match stop {
        Stop::Gone { .. } | Stop::DoesNotExit | Stop::Panicked | Stop::Unfit => {}
        Stop::NoHello { limit } => {
            let last = match *last_line {
                "" => "the console was silent".to_owned(),
                line => format!("the console's last line: {line}"),
            };
            let reason = format!("no Hello within {} s; {last}", limit.as_secs());
            return Ok(BootEnd::DidNotBoot { reason });
        }
        Stop::Silent { silence } => {
            return Ok(BootEnd::Hung { silent_seconds: silence.as_secs() });
        }
        Stop::Flood(Flood { title, count }) => {
            return Ok(BootEnd::Flood { title: title.clone(), count: *count });
        }
        Stop::OutOfTime { limit } => {
            return Ok(BootEnd::OutOfTime { limit_seconds: limit.as_secs() });
        }
    }
    match shutdown {
        Some(Shutdown { guest: true, .. }) if *ended => Ok(BootEnd::Ran),
        Some(Shutdown { guest: true, reason }) => {
            let when = if *hello { "without an End record" } else { "before its Hello" };
            let last = if last_line.is_empty() { "nothing" } else { last_line };
            Ok(BootEnd::EarlyExit {
                reason: format!("{reason} {when}; last on the console: {last}"),
            })
        }
        Some(Shutdown { guest: false, reason }) => {
            Err(Error::failure(format!("QEMU was ended from outside the guest ({reason})")))
        }
        None => {
            let (status, said) = match stop {
                Stop::Gone { status, said } => (status.to_string(), last_lines(said, 5)),
                _ => ("still running".to_owned(), ""),
            };
            let said = if said.is_empty() { "it said nothing" } else { said };
            Err(Error::failure(format!("QEMU died under the guest ({status}): {said}")))
        }
    }
}

/// The exit code of a PID 1 that ended by itself; `None` if a signal, and so
/// perhaps the kernel, ended it, or if the panic is about something else.
fn init_exit_code(panic_line: &str) -> Option<u32> {
    let (_, code) = panic_line.split_once("Attempted to kill init! exitcode=0x")?;
    let digits = code.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(code.len());
    let code = u32::from_str_radix(&code[..digits], 16).ok()?;
    (code & 0x7f == 0).then_some((code >> 8) & 0xff)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn gone() -> Seen<'static> {
        Seen {
            stop: Stop::Gone { status: ExitStatus::from_raw(0), said: String::new() },
            hello: true,
            ended: true,
            shutdown: Some(Shutdown { guest: true, reason: "guest-reset".into() }),
            panic_line: None,
            gave_up: None,
            last_line: "",
        }
    }

    /// Ended well means an End record *and* a guest that went by itself.
    #[test]
    fn ended_well_takes_both_witnesses() {
        assert_eq!(judge(&gone()).unwrap(), BootEnd::Ran);
        let end = judge(&Seen { ended: false, ..gone() }).unwrap();
        assert!(matches!(end, BootEnd::EarlyExit { .. }), "{end:?}");
        assert!(judge(&Seen { shutdown: None, ..gone() }).is_err());
    }

    /// A panic looks like a restart from outside, and counts even after the End.
    #[test]
    fn panic_outweighs_a_restart() {
        let line = "Kernel panic - not syncing: Fatal exception";
        let end = judge(&Seen { panic_line: Some(line), ..gone() }).unwrap();
        assert_eq!(end, BootEnd::Panicked { line: line.into() });
    }

    /// An agent that exits makes the kernel panic, but that is ours; one that was
    /// killed by a signal may be the kernel's doing.
    #[test]
    fn agent_that_exits_is_our_error() {
        let panic = |code| format!("Kernel panic - not syncing: Attempted to kill init! {code}");
        let line = panic("exitcode=0x00006500 ]---");
        let error = judge(&Seen { panic_line: Some(&line), ..gone() }).unwrap_err();
        assert!(error.message().contains("exit code 101"), "{error}");
        let line = panic("exitcode=0x0000000b");
        assert!(judge(&Seen { panic_line: Some(&line), ..gone() }).is_ok());
    }

    /// SIGTERM from somebody on the host is told by QEMU and is not the guest's.
    #[test]
    fn ended_from_outside_is_our_error() {
        let shutdown = Some(Shutdown { guest: false, reason: "host-signal".into() });
        let error = judge(&Seen { shutdown, ..gone() }).unwrap_err();
        assert!(error.message().contains("host-signal"), "{error}");
    }
}
