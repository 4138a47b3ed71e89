// SPDX-License-Identifier: MIT OR Apache-2.0
//! What went wrong on *our* side, and what to do about it.
//!
//! A candidate that does not apply, build or boot is a result and never comes
//! through here. An [`Error`] is ours or the user's: it names the thing, the
//! place and the next step, and [`Kind`] alone decides the exit code.

use std::error::Error as StdError;
use std::fmt;
use std::path::Path;

/// The documented exit codes of `bakeoff`.
pub mod exit_code {
    /// The command did what it was asked; for `run`: every verdict was reached,
    /// whoever wins.
    pub const OK: u8 = 0;
    /// Our failure: full disk, QEMU or the network failed, a guest was lost.
    pub const FAILURE: u8 = 1;
    /// The command line, the spec or a file it names is wrong.
    pub const BAD_INPUT: u8 = 2;
    /// A program or package that is needed is not installed.
    pub const MISSING_PREREQUISITE: u8 = 3;
    /// `--gate`: a gate of the spec was not met.
    pub const GATE_FAILED: u8 = 4;
    /// At least one verdict is inconclusive (with `--gate`: a gate could not
    /// be decided).
    pub const INCONCLUSIVE: u8 = 5;
    /// Interrupted by SIGINT or SIGTERM; `resume` goes on.
    pub const INTERRUPTED: u8 = 130;
}

/// Whose mistake it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The command line, a spec, patch, config, record or cache entry is bad.
    BadInput,
    /// Something that must be installed is not.
    MissingPrerequisite,
    /// Ours: disk, network, QEMU, a bug.
    Failure,
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

impl Kind {
    /// The exit code of this kind of error.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::BadInput => exit_code::BAD_INPUT,
            Kind::MissingPrerequisite => exit_code::MISSING_PREREQUISITE,
            Kind::Failure => exit_code::FAILURE,
            Kind::Interrupted => exit_code::INTERRUPTED,
        }
    }
}

/// An error with its kind, its causes and the next step.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync + 'static>>,
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A new error; `message` is lower case, without a full stop, and names the thing.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), hint: None, source: None }
    }

    /// The user's input is wrong.
    pub fn bad_input(message: impl Into<String>) -> Self {
        Error::new(Kind::BadInput, message)
    }

    /// Something on our side failed.
    pub fn failure(message: impl Into<String>) -> Self {
        Error::new(Kind::Failure, message)
    }

    /// Something has to be installed first.
    pub fn missing(message: impl Into<String>) -> Self {
        Error::new(Kind::MissingPrerequisite, message)
    }

    /// Somebody asked us to stop.
    #[must_use]
    pub fn interrupted() -> Self {
        Error::new(Kind::Interrupted, "interrupted")
    }

    /// Adds the next step, for example "run `bakeoff doctor`".
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts a place in front of the message: `bakeoff.yaml:3:5: …`.
    #[must_use]
    pub fn prefixed(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync + 'static>>) -> Self {
        self.source = Some(cause.into());
        self
    }

    /// Whose mistake it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The next step, if one is known: this error's, else the nearest cause's.
    #[must_use]
    pub fn next_step(&self) -> Option<&str> {
        if let Some(hint) = &self.hint {
            return Some(hint);
        }
        let cause = self.source.as_deref()?.downcast_ref::<Error>()?;
        cause.next_step()
    }

    /// The message without causes.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The message with all causes, one line: `a: b: c`.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut next = self.source();
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}

/// Turns any error into ours, with what was being done.
pub trait Context<T> {
    /// "failed to …", as our failure; an [`Error`] inside keeps its kind.
    fn context(self, doing: impl FnOnce() -> String) -> Result<T>;
    /// The same for something that was done to `path`.
    fn at_path(self, doing: &str, path: &Path) -> Result<T>;
}

impl<T, E> Context<T> for std::result::Result<T, E>
where
    E: StdError + Send + Sync + 'static,
{
    fn context(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| {
            let cause: Box<dyn StdError + Send + Sync> = Box::new(cause);
            let kind = cause.downcast_ref::<Error>().map_or(Kind::Failure, Error::kind);
            Error::new(kind, format!("failed to {}", doing())).because(cause)
        })
    }

    fn at_path(self, doing: &str, path: &Path) -> Result<T> {
        self.context(|| format!("{doing} {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wrapping an error keeps its kind (and so the exit code) and its hint.
    #[test]
    fn context_keeps_kind_and_hint() {
        let inner: Result<()> = Err(Error::missing("no qemu").hint("run `bakeoff setup`"));
        let outer = inner.context(|| "boot x86_64".into()).unwrap_err();
        assert_eq!(outer.kind(), Kind::MissingPrerequisite);
        assert_eq!(outer.next_step(), Some("run `bakeoff setup`"));
        assert_eq!(outer.chain(), "failed to boot x86_64: no qemu");
    }
}
