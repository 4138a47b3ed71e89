// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be typed about fuzz programs.

use std::path::PathBuf;

use clap::Args;

use super::{Machinery, SplatFormat, bake_off};

/// Seconds: a number, or one with its unit.
fn seconds(text: &str) -> Result<u32, String> {
    let seconds = match text.parse::<i64>() {
        Ok(seconds) => seconds,
        Err(_) => text
            .parse::<jiff::SignedDuration>()
            .map_err(|_| format!("{text:?} is not a time: write 60, 90s, 2m or 1h"))?
            .as_secs(),
    };
    match u32::try_from(seconds) {
        Ok(seconds @ 1..=MOST_SECONDS) => Ok(seconds),
        _ => Err(format!("{text} is not between 1s and {MOST_SECONDS}s")),
    }
}

/// A week.
const MOST_SECONDS: u32 = 7 * 24 * 3600;

/// `bakeoff fuzz`
#[derive(Args, Clone, Debug)]
pub struct Fuzz {
    /// Folder of a bake-off, its bakeoff.yaml, or its name below patches/
    #[arg(value_parser = bake_off)]
    pub spec: PathBuf,
    /// How long to fuzz, boots not counted: 60, 90s, 2m, 1h
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = seconds)]
    pub time: u32,
    /// Programs to start from; new ones are added [default: OUT/corpus]
    #[arg(long, value_name = "DIR")]
    pub corpus: Option<PathBuf>,
    /// Programs to start from, in a folder that is only read [default: the bake-off's corpus/]
    #[arg(long, value_name = "DIR", conflicts_with = "empty")]
    pub seeds: Option<PathBuf>,
    /// Start without the bake-off's corpus/
    #[arg(long)]
    pub empty: bool,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u32,
    /// End at the first finding
    #[arg(long)]
    pub until_finding: bool,
    /// How many findings to reproduce, minimize and write as a C program, the first
    /// ones; the others are kept as they came
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub pursue: usize,
    /// Another candidate on which the findings' programs are tried (repeatable)
    #[arg(long, value_name = "NAME")]
    pub also: Vec<String>,
    /// How much is done about a finding.
    #[command(flatten)]
    pub effort: Effort,
    /// The kernel.
    #[command(flatten)]
    pub on: OnKernel,
    /// Format of the summary
    #[arg(long, value_enum, default_value_t = SplatFormat::Text)]
    pub format: SplatFormat,
}

/// How much is done about a finding.
#[derive(Args, Clone, Copy, Debug)]
pub struct Effort {
    /// Boots in which a finding has to show again
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub again: u32,
    /// Most boots spent on minimizing a program
    #[arg(long, value_name = "N", default_value_t = 24)]
    pub trials: u32,
    /// Times each program is run in a boot
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub repeat: usize,
}

/// Which kernel fuzz programs are run on.
#[derive(Args, Clone, Debug)]
pub struct OnKernel {
    /// The candidate
    #[arg(long, value_name = "NAME")]
    pub candidate: String,
    /// Architecture
    #[arg(long, value_name = "ARCH")]
    pub arch: String,
    /// Profile of the kernel
    #[arg(long, value_name = "NAME", default_value = "kcov")]
    pub profile: String,
    /// Where consoles, corpus and findings go [default: runs/<command>-<time>]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// A patch on top of the candidate's (repeatable)
    #[arg(long, value_name = "PATCH")]
    pub patch: Vec<PathBuf>,
    /// Machinery.
    #[command(flatten)]
    pub machinery: Machinery,
}

/// `bakeoff uapi`
#[derive(Args, Clone, Debug)]
pub struct Uapi {
    /// Folder of a bake-off, its bakeoff.yaml, or its name below patches/
    #[arg(value_parser = bake_off)]
    pub spec: PathBuf,
    /// A base of it [default: the first]
    #[arg(long, value_name = "NAME")]
    pub base: Option<String>,
    /// Print the names and nothing else
    #[arg(long, conflicts_with = "gaps")]
    pub names: bool,
    /// Also print what an operation could produce and none does
    #[arg(long)]
    pub gaps: bool,
}

/// `bakeoff distill`
#[derive(Args, Clone, Debug)]
pub struct Distill {
    /// Folder of a bake-off, its bakeoff.yaml, or its name below patches/
    #[arg(value_parser = bake_off)]
    pub spec: PathBuf,
    /// Programs, or folders of them
    #[arg(required = true, value_name = "PROGRAM")]
    pub programs: Vec<PathBuf>,
    /// Where the chosen programs go
    #[arg(long, value_name = "DIR")]
    pub into: PathBuf,
    /// Choose so many at most
    #[arg(long, value_name = "N")]
    pub most: Option<usize>,
    /// The kernel.
    #[command(flatten)]
    pub on: OnKernel,
}

/// `bakeoff replay`
#[derive(Args, Clone, Debug)]
pub struct Replay {
    /// Folder of a bake-off, its bakeoff.yaml, or its name below patches/
    #[arg(value_parser = bake_off)]
    pub spec: PathBuf,
    /// Programs, or folders of them; run in this order
    #[arg(required = true, value_name = "PROGRAM")]
    pub programs: Vec<PathBuf>,
    /// Boots
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub boots: u32,
    /// Times the list is run in each boot
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub repeat: usize,
    /// Replay on this candidate too, and say what differs from it
    #[arg(long, value_name = "NAME")]
    pub against: Option<String>,
    /// Print the files of the kernel, one per line, with the operations that run through much of each
    #[arg(long, conflicts_with_all = ["against", "format"])]
    pub operations: bool,
    /// The kernel.
    #[command(flatten)]
    pub on: OnKernel,
    /// Format
    #[arg(long, value_enum, default_value_t = SplatFormat::Text)]
    pub format: SplatFormat,
}

/// `bakeoff minimize`
#[derive(Args, Clone, Debug)]
pub struct Minimize {
    /// Folder of a bake-off, its bakeoff.yaml, or its name below patches/
    #[arg(value_parser = bake_off)]
    pub spec: PathBuf,
    /// The program
    pub program: PathBuf,
    /// Fingerprint of the report that has to stay [default: the first it causes]
    #[arg(long, value_name = "FINGERPRINT")]
    pub fingerprint: Option<String>,
    /// How much is done.
    #[command(flatten)]
    pub effort: Effort,
    /// The kernel.
    #[command(flatten)]
    pub on: OnKernel,
}

/// `bakeoff mutants`
#[derive(Args, Clone, Debug)]
pub struct Mutants {
    /// Folder of a bake-off, its bakeoff.yaml, or its name below patches/
    #[arg(value_parser = bake_off)]
    pub spec: PathBuf,
    /// Folder of planted bugs, a patch each
    #[arg(long, value_name = "DIR", default_value = "fuzz/mutants")]
    pub mutants: PathBuf,
    /// Only this one (repeatable)
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// How long to fuzz each: 60, 90s, 2m, 1h
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = seconds)]
    pub time: u32,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u32,
    /// Also run the quick part of the bake-off on each, with the profile lockdep, as its
    /// contenders against the reference
    #[arg(long)]
    pub probes: bool,
    /// The kernel; its profile is each mutant's own.
    #[command(flatten)]
    pub on: OnKernel,
    /// Format
    #[arg(long, value_enum, default_value_t = SplatFormat::Text)]
    pub format: SplatFormat,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times are seconds, with or without a unit; what is no time says how to write one.
    #[test]
    fn times_take_units() {
        assert_eq!(seconds("60"), Ok(60));
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("2m"), Ok(120));
        assert_eq!(seconds("1h"), Ok(3600));
        for wrong in ["", "0", "-3", "0s", "2 parsecs", "99999999h", "1e9"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
        assert!(seconds("soon").unwrap_err().contains("90s"));
    }
}
