// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be typed about patch series.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Stands below the help of what takes a SOURCE.
pub const SOURCES_HELP: &str = "\
A SOURCE is one of
  FILE                    an mbox (also gzipped), one mail or one diff
  MAILDIR                 a maildir
  DIR                     a folder of patches, in the order of their names
  patchwork:ID            a series of a Patchwork server, or its web address
  [REPO#]A..B             commits of a git repository
  [REPO#]refs/pull/N/head a pull request; REPO is a folder or an address
  b4/NAME                 a branch that b4 prep made ([REPO#]b4:BRANCH for others)
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
    /// Which part of it.
    #[command(flatten)]
    pub choice: Choice,
    /// Format
    #[arg(long, value_enum, default_value_t = SeriesFormat::Text)]
    pub format: SeriesFormat,
}

/// `bakeoff series fetch`
#[derive(Args, Clone, Debug)]
pub struct Fetch {
    /// Where the series is
    pub source: String,
    /// Which part of it.
    #[command(flatten)]
    pub choice: Choice,
    /// Folder to write; with --versions it gets a folder vN for each
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
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
