// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be typed about patch series.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Begin, Machinery, Selection, bake_off, formats};
use crate::judge::report::{FORMATS, Format};

/// Stands below the help of what takes a SOURCE.
pub const SOURCES_HELP: &str = "\
A SOURCE is one of
  FILE                    an mbox (also gzipped), one mail or one diff
  MAILDIR                 a maildir
  DIR                     a folder of patches, in order of their names
  patchwork:ID            a series of a Patchwork server, or its address
  [REPO#]A..B             commits of a git repository
  [REPO#]refs/pull/N/head a pull request; REPO is a folder or an address
  b4/NAME                 a branch that b4 prep made; or [REPO#]b4:BRANCH
  https://HOST/LIST/ID/   a thread of a public-inbox archive
  MESSAGE-ID              a thread, asked for at the archives of --server

Proxies are taken from http_proxy, https_proxy and no_proxy.";

/// `bakeoff series`
#[derive(Args, Clone, Debug)]
pub struct Series {
    /// What to do
    #[command(subcommand)]
    pub command: SeriesCommand,
}

/// The commands about series.
#[derive(Clone, Debug, Subcommand)]
pub enum SeriesCommand {
    /// Show a series: version, patches, what is missing, its base
    #[command(disable_version_flag = true, after_help = SOURCES_HELP)]
    Show(Show),
    /// Write a series into a folder: NNNN-*.patch and series.json
    ///
    /// A series with missing patches is written as far as it is there; then the
    /// exit code is 2 and the error names the patches.
    #[command(disable_version_flag = true, after_help = SOURCES_HELP)]
    Fetch(Fetch),
}

/// `bakeoff series show`
#[derive(Args, Clone, Debug)]
pub struct Show {
    /// Where the series is
    pub source: String,
    /// Format
    #[arg(long, value_enum, default_value_t = SeriesFormat::Text)]
    pub format: SeriesFormat,
    /// Which part of it. Last: its heading holds for what follows.
    #[command(flatten)]
    pub choice: Choice,
}

/// `bakeoff series fetch`
#[derive(Args, Clone, Debug)]
pub struct Fetch {
    /// Where the series is
    pub source: String,
    /// Folder to write; with --versions it gets a folder vN for each
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Which part of it. Last: its heading holds for what follows.
    #[command(flatten)]
    pub choice: Choice,
}

/// `bakeoff try`
#[derive(Args, Clone, Debug)]
pub struct Try {
    /// Where the series is; several are compared with one base
    #[arg(required = true, value_name = "SOURCE")]
    pub sources: Vec<String>,
    /// The kernel it is tried on: REPO#REVISION, a folder with a kernel tree, or a
    /// bake-off whose base it is (SPEC or SPEC#BASE) [default: what the series says, if
    /// a --tree has it, else a kernel of Debian's]
    #[arg(long, value_name = "BASE")]
    pub base: Option<String>,
    /// Time that measuring may take; builds are not counted
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration,
          default_value = "20m")]
    pub budget: std::time::Duration,
    /// Which part, where and how.
    #[command(flatten)]
    pub begin: Begin,
    /// Fuzz the base's kernel too, if the series touches what the fuzzer is about, and
    /// replay what it found on the series
    #[arg(long)]
    pub fuzz: bool,
    /// Let gates decide the exit code: no new splat, and nothing that is not ok
    #[arg(long)]
    pub gate: bool,
    /// Show what would be done and why, with the make and QEMU command lines, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Format of the report on standard output
    #[arg(long, value_parser = formats(), default_value = FORMATS[0].name)]
    pub format: &'static Format,
    /// Which part of it. Last: its heading holds for what follows.
    #[command(flatten)]
    pub choice: Choice,
}

/// `bakeoff ci`
#[derive(Args, Clone, Debug)]
pub struct Ci {
    /// Where the series is; several are compared with one base
    #[arg(required = true, value_name = "SOURCE")]
    pub sources: Vec<String>,
    /// Folder for the report in every format, and for the run (below run/)
    #[arg(long, value_name = "DIR", default_value = "bakeoff-ci")]
    pub out: PathBuf,
    /// The kernel it is tried on, as `bakeoff try` takes it
    #[arg(long, value_name = "BASE", conflicts_with = "spec")]
    pub base: Option<String>,
    /// Add the series to this bake-off instead; its gates decide
    #[arg(long, value_name = "SPEC", value_parser = bake_off)]
    pub spec: Option<PathBuf>,
    /// Time that measuring may take; builds are not counted [default: 20m, or the spec's]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub budget: Option<std::time::Duration>,
    /// Selection.
    #[command(flatten)]
    pub selection: Selection,
    /// Root seed; every boot's own seed is derived from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Show what would be done and why, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Machinery.
    #[command(flatten)]
    pub machinery: Machinery,
    /// Which part of it. Last: its heading holds for what follows.
    #[command(flatten)]
    pub choice: Choice,
}

/// `bakeoff watch`
#[derive(Args, Clone, Debug)]
pub struct Watch {
    /// What to look at: an archive's list (https://lore.kernel.org/LIST/) or
    /// patchwork:PROJECT
    pub place: String,
    /// Folder with a folder for each series that was tried; those are not tried again
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Series that one call tries at most
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    pub most: u32,
    /// Series that were sent longer ago are left alone
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration,
          default_value = "2d")]
    pub since: std::time::Duration,
    /// Only series that touch a path that begins so (repeatable)
    #[arg(long, value_name = "PATH")]
    pub touches: Vec<String>,
    /// The kernel they are tried on, as `bakeoff try` takes it
    #[arg(long, value_name = "BASE")]
    pub base: Option<String>,
    /// Look for bases in this git repository or kernel source (repeatable)
    #[arg(long, value_name = "DIR")]
    pub tree: Vec<PathBuf>,
    /// Patchwork server for patchwork:PROJECT
    /// [default: $BAKEOFF_PATCHWORK, else https://patchwork.kernel.org]
    #[arg(long, value_name = "URL")]
    pub patchwork: Option<String>,
    /// Seconds one answer of a server may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
    /// Time that measuring one series may take
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration,
          default_value = "20m")]
    pub budget: std::time::Duration,
    /// Only this architecture (repeatable)
    #[arg(long, value_name = "ARCH")]
    pub arch: Vec<String>,
    /// Only say which series would be tried
    #[arg(long)]
    pub dry_run: bool,
    /// Machinery.
    #[command(flatten)]
    pub machinery: Machinery,
}

/// A format of `bakeoff series show`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SeriesFormat {
    /// In words.
    Text,
    /// What `series fetch` writes as series.json; with --versions an array.
    Json,
}

/// Which series of a source, which version, and from where.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Series")]
pub struct Choice {
    /// The mail that is meant, where the source holds several series
    #[arg(long, value_name = "ID")]
    pub message_id: Option<String>,
    /// This version [default: the newest]
    #[arg(long, value_name = "N", conflicts_with = "versions")]
    pub version: Option<u32>,
    /// Every version the source holds
    #[arg(long)]
    pub versions: bool,
    /// Add the trailers that replies give
    #[arg(long)]
    pub trailers: bool,
    /// Look for the base in this git repository or kernel source (repeatable)
    #[arg(long, value_name = "DIR")]
    pub tree: Vec<PathBuf>,
    /// public-inbox archive for message ids (repeatable)
    /// [default: $BAKEOFF_ARCHIVE, else https://lore.kernel.org/all]
    #[arg(long, value_name = "URL")]
    pub server: Vec<String>,
    /// Patchwork server for patchwork:ID
    /// [default: $BAKEOFF_PATCHWORK, else https://patchwork.kernel.org]
    #[arg(long, value_name = "URL")]
    pub patchwork: Option<String>,
    /// Seconds one answer of a server may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
}
