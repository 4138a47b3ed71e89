// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs as text: a first line with the version, one with the limits, then
//! an operation a line. Empty lines and lines beginning with `#` are comments.
//!
//! ```text
//! bakeoff program 1
//! limits ops=20 slow=1
//! prog-load kind=perf-event flaw=none maps=- body=get-stack:flags@user+build-id:skip@0:size@256
//! ```
//!
//! What is read is fixed up, so a hand-written program runs, and one that was
//! written by [`write()`] comes back as it was.

use std::fmt;

use super::{Limits, Program};
use crate::op::Op;
use crate::op::value::Value;

/// Version of the text form; a change of meaning raises it.
pub const VERSION: u32 = 1;
/// A longer text is no program.
pub const LONGEST: usize = 1 << 16;

const HEAD: &str = "bakeoff program ";

/// Why a text is no program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextError {
    /// Longer than [`LONGEST`].
    TooLong,
    /// Not UTF-8.
    NotText,
    /// It does not begin like one.
    NotAProgram,
    /// Of a version this program does not read.
    Version(String),
    /// A line that says nothing known.
    Line {
        /// Its number, from 1.
        number: usize,
        /// Its beginning.
        text: String,
    },
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "longer than {LONGEST} bytes"),
            Self::NotText => write!(f, "not UTF-8"),
            Self::NotAProgram => write!(f, "no fuzz program: the first line is not `{HEAD}…`"),
            Self::Version(version) => {
                write!(f, "a fuzz program of version {version}; this bakeoff reads {VERSION}")
            }
            Self::Line { number, text } => write!(f, "line {number}: no operation: {text:?}"),
        }
    }
}

impl std::error::Error for TextError {}

/// The text of a program.
#[must_use]
pub fn write(program: &Program) -> String {
    let Program { limits: Limits { ops, slow }, ops: list } = program;
    let mut out = format!("{HEAD}{VERSION}\nlimits ops={ops} slow={slow}\n");
    for op in list {
        op.write(&mut out);
        out.push('\n');
    }
    out
}

/// Reads a program from bytes that may be anything.
///
/// # Errors
/// What is wrong with them.
pub fn read(bytes: &[u8]) -> Result<Program, TextError> {
    if bytes.len() > LONGEST {
        return Err(TextError::TooLong);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| TextError::NotText)?;
    let mut lines = text.lines().enumerate();
    let first = lines.next().map_or("", |(_, line)| line);
    let version = first.strip_prefix(HEAD).ok_or(TextError::NotAProgram)?;
    if version.trim_end().parse() != Ok(VERSION) {
        return Err(TextError::Version(version.chars().take(20).collect()));
    }
    let mut program = Program::default();
    for (index, line) in lines {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = || TextError::Line { number: index + 1, text: line.chars().take(60).collect() };
        if let Some(limits) = line.strip_prefix("limits ") {
            program.limits = read_limits(limits).ok_or_else(wrong)?;
        } else {
            program.ops.push(Op::parse(line).ok_or_else(wrong)?);
        }
    }
    program.fixup();
    Ok(program)
}

fn read_limits(text: &str) -> Option<Limits> {
    let (ops, slow) = text.strip_prefix("ops=")?.split_once(" slow=")?;
    Some(Limits { ops: ops.parse().ok()?, slow: slow.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::value::{Dice, Seeded};

    /// What was written is read back as it was.
    #[test]
    fn round_trip() {
        for seed in 0..2000 {
            let program = Program::roll(&mut Seeded(seed));
            let text = write(&program);
            assert_eq!(read(text.as_bytes()).as_ref(), Ok(&program), "{text}");
        }
    }

    /// A text that people read.
    #[test]
    fn readable() {
        let text = "bakeoff program 1\n\
            limits ops=20 slow=1\n\
            map-create kind=stack-trace-build-id flags=- entries=4 pooled=1\n\
            prog-load kind=perf-event flaw=none maps=0 \
            body=get-stack:flags@user+build-id:skip@0:size@256;when:test@negative:steps@1;comm\n\
            mmap page=3 more=1 what=elf-a protection=rx offset=2\n\
            trigger how=syscall page=0 frames=3,4 again=0\n";
        assert_eq!(write(&read(text.as_bytes()).unwrap()), text);
        let commented = text.replace("mmap", "\n# maps the file\nmmap");
        assert_eq!(read(commented.as_bytes()), read(text.as_bytes()));
    }

    /// Newer versions, noise and half programs are refused with the reason, and
    /// nothing is guessed.
    #[test]
    fn refused() {
        let reason = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
        assert!(reason(b"").contains("first line"));
        assert!(reason(b"\xff\xfe").contains("UTF-8"));
        assert!(reason(b"bakeoff program 2\n").contains("version 2"));
        assert!(reason(b"bakeoff program x\n").contains("version x"));
        assert!(reason(&[b'a'; LONGEST + 1]).contains("longer"));
        for line in [
            "munmap",
            "munmap page=1",
            "munmap more=1 page=1",
            "munmap page=1 more=1 more=1",
            "munmap page=999 more=1",
            "format c",
            "limits",
            "limits ops=1",
            "perf-ioctl event=0 call=enable ",
        ] {
            let text = format!("{HEAD}{VERSION}\n{line}\n");
            let read = read(text.as_bytes());
            // A trailing space is forgiven; the rest is named with its line.
            if line.ends_with(' ') {
                assert!(read.is_ok(), "{line}");
            } else {
                assert!(read.unwrap_err().to_string().contains("line 2"), "{line}");
            }
        }
    }

    /// Whatever a hostile file holds, reading ends, and what is accepted
    /// round-trips.
    #[test]
    fn noise_never_harms() {
        let mut dice = Seeded(7);
        for seed in 0..2000 {
            let mut bytes = write(&Program::roll(&mut Seeded(seed))).into_bytes();
            for _ in 0..=dice.below(3) {
                let at = dice.below(u32::try_from(bytes.len()).unwrap()) as usize;
                bytes[at] = u8::try_from(dice.below(256)).unwrap();
            }
            if let Ok(program) = read(&bytes) {
                assert_eq!(read(write(&program).as_bytes()), Ok(program));
            }
        }
    }
}
