// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be typed, and the way from there to the exit code.

pub mod bench;
pub mod commands;
pub mod dry_run;
mod fuzz;
mod series;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::base::words::nearest;
use crate::judge::report::{self, FORMATS, Format};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub use series::{Choice, Ci, Fetch, Series, SeriesCommand, SeriesFormat, Show, Try, Watch};

pub use fuzz::{Distill, Effort, Fuzz, Minimize, Mutants, OnKernel, Replay, Uapi};

/// Settles kernel-patch disputes with evidence.
///
/// Given one base kernel and competing patches for the same problem, bakeoff
/// builds each of them, boots it in QEMU on x86_64 and arm64, drives the code
/// in question, and reports side by side: does it apply, build and boot; which
/// lockdep splats does it add or remove; what changes for user space.
#[derive(Debug, Parser)]
#[command(
    name = "bakeoff",
    version,
    max_term_width = 90,
    after_help = EXIT_CODES,
    after_long_help = AFTER,
    propagate_version = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Options every command takes.
    #[command(flatten)]
    pub global: Global,
}

/// Stands in the short help and in the long one.
macro_rules! exit_codes {
    () => {
        "\
Exit codes:
  0    done; for `run`: every verdict was reached, whoever wins
  1    a failure of ours: disk, network, QEMU, a lost guest
  2    the command line, the spec or a file it names is wrong
  3    something that is needed is not installed (see `bakeoff doctor`)
  4    with --gate: a gate of the spec was not met
  5    a verdict is inconclusive, or a gate could not be decided
  130  interrupted; `bakeoff resume` goes on"
    };
}

const EXIT_CODES: &str = exit_codes!();

const AFTER: &str = concat!(
    exit_codes!(),
    "

Examples:
  bakeoff run patches/find-vma --yes
          the whole bake-off: fetch, build, boot, measure, report
  bakeoff run patches/find-vma --arch x86_64 --candidate peter-removal
          one contender, with reference and control, on one architecture
  bakeoff run patches/find-vma --add ~/my-series --gate
          your series as one more contender; the exit code says whether
          it meets the gates of the spec
  bakeoff run patches/find-vma --budget 10m
          at most ten minutes of measuring; the page says what is open
  bakeoff try 20260101.abc@example.org --tree ~/linux
          a series from the mailing list against its base, without a spec
  bakeoff run patches/find-vma --within 30m
          what decides most in half an hour; says what it leaves out
  bakeoff run patches/find-vma --on slurm --partition kvm
          the same on a cluster, a task for each architecture and profile
  bakeoff run patches/find-vma --dry-run
          what would be done, with the make and QEMU command lines
  bakeoff report runs/find-vma-20211110T184343Z --format markdown
          recompute the report of a run from its records and consoles"
);

/// Options every command takes.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Cache of archives, trees and kernels [default: $XDG_CACHE_HOME/bakeoff]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub cache_dir: Option<PathBuf>,
    /// Where to look for what is not in the cache: a folder, or an http(s) address; a
    /// secret for it is taken from BAKEOFF_CACHE_TOKEN only
    #[arg(long, global = true, value_name = "DIR|URL", help_heading = "Global options")]
    pub cache_remote: Option<String>,
    /// Also put there what is made here
    #[arg(long, global = true, requires = "cache_remote", help_heading = "Global options")]
    pub cache_push: bool,
    /// Read qemu/, kconfigs/ and fuzz/ from this checkout instead of the
    /// copies built into the program
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub data_dir: Option<PathBuf>,
    /// How progress is shown
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t = Progress::Auto,
        value_name = "WHEN",
        help_heading = "Global options"
    )]
    pub progress: Progress,
}

/// How progress is shown on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// Bars on a terminal, lines elsewhere.
    Auto,
    /// Bars.
    Bars,
    /// A line when something begins or ends.
    Lines,
    /// Nothing but warnings and errors.
    None,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Install what is missing
    Setup(Setup),
    /// Check every prerequisite: found, missing, and what it is needed for
    ///
    /// Also says whether KVM works: not whether /dev/kvm can be opened, but
    /// whether a tiny guest ran under it within seconds.
    Doctor(Doctor),
    /// Create a small bake-off that runs as it is, to start from
    ///
    /// Makes patches/NAME with a bakeoff.yaml, a workload in C and one example
    /// patch. Each is there to be replaced by your own, one after the other.
    New(New),
    /// Say whether a bake-off would run, without running it
    ///
    /// Reads the spec, tries the patches on the base's tree, looks up the kconfig
    /// options in it, and says how long a run is expected to take. Nothing is
    /// fetched: a base that is not in the cache yet is named as not checked.
    Check(Check),
    /// Do a bake-off: build, boot, measure, compare, report
    #[command(disable_version_flag = true)]
    Run(Run),
    /// Try a series against its base, without a spec
    ///
    /// Makes a bake-off of the series and its base: what the series touches decides what
    /// is run. Then it is a run like any other, with its spec in RUN/spec.
    #[command(disable_version_flag = true, after_help = series::SOURCES_HELP)]
    Try(Try),
    /// Try a series in a pipeline: no questions, results in every format
    ///
    /// Gates decide the exit code: 0 if nothing got worse and everything was decided, 4 if
    /// something got worse, 5 if nothing did but not everything was decided, 1 to 3 if it
    /// could not be done.
    #[command(disable_version_flag = true, after_help = series::SOURCES_HELP)]
    Ci(Ci),
    /// Try the new series of a list or of a Patchwork project, once
    ///
    /// Made to be called by a timer. Answers go into folders; nothing is sent.
    Watch(Watch),
    /// Continue an interrupted run
    ///
    /// What is complete is not done again. A spec that was changed since is refused:
    /// start a new run for it.
    Resume(Resume),
    /// List the shards of a bake-off, or do one of them
    ///
    /// A shard is the part of a run whose results are compared with each other: one base,
    /// architecture and profile, with reference, control and all contenders. Each shard
    /// runs on one machine: by hand, in a CI's matrix or by `bakeoff run --on slurm`.
    /// `bakeoff merge` puts them together. An interrupted shard continues where it was,
    /// if --out names its run directory. All shards of a run take the same --seed.
    Shard(Shard),
    /// Merge the run directories of shards into one run, and report it
    Merge(Merge),
    /// Recompute a run's report from its records and consoles
    Report(Report),
    /// Fuzz a candidate's kernel with perf and BPF programs
    ///
    /// The fuzzer runs inside the guest. When the guest dies it is booted again, with the
    /// corpus so far. Each finding is kept in a folder of its own; the last line on
    /// standard output is a summary.
    Fuzz(Fuzz),
    /// Pick the fewest fuzz programs with the coverage of all
    ///
    /// Runs each program once, in order, and records its coverage. Then picks programs
    /// until all that was covered in the instrumented folders is: always the one that
    /// adds most.
    Distill(Distill),
    /// List the perf, BPF and mmap interface, with the operation that produces each value
    ///
    /// The values are read from the base's own UAPI headers. A value that the table does not
    /// explain is an error.
    Uapi(Uapi),
    /// Run fuzz programs again, in fresh boots
    Replay(Replay),
    /// Minimize a fuzz program, keeping the report it causes
    Minimize(Minimize),
    /// Plant bugs in a kernel and see whether fuzzing finds them
    Mutants(Mutants),
    /// Recount a run's report from the raw records, by an independent path
    ///
    /// Reads run.json, records.jsonl and report.json as plain JSON and recounts what the
    /// report says. Each disagreement is named with its file, and the exit code is 1.
    Verify(Verify),
    /// Compare the reference with itself: is any copy blamed?
    ///
    /// Measures many copies of the reference's kernel, and judges each as a contender
    /// against another copy. Whoever is blamed is blamed wrongly.
    Calibrate(Calibrate),
    /// Read kernel logs: every splat, with its title, locks and call chains
    ///
    /// Reads any console, not only those of bakeoff's guests, in constant
    /// memory. A log without a splat is an empty list and no error.
    Splats(Splats),
    /// Explain a splat of a run: which locks, in which order and context
    Explain(Explain),
    /// Show or fetch a patch series: from a mailing list, Patchwork, git, files
    Series(Series),
    /// Show specs, candidates, probes and runs
    List(List),
    /// Show the cache, empty it, export or import a part of it
    Cache(CacheArgs),
    /// Print the JSON Schema of report.json, or of bakeoff.yaml
    Schema(Schema),
    /// Measure what bakeoff itself costs, next to make and the guests
    Bench(Bench),
    /// Write the man pages into a folder
    Manual(Folder),
    /// Build the guest binaries of every architecture into a folder
    ///
    /// For packages, and for --guest-dir on hosts without Rust: DIR/<arch>/agent and
    /// DIR/<arch>/fuzzer. Without them bakeoff builds what it needs, once.
    Guests(Folder),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

/// `bakeoff setup`
#[derive(Args, Clone, Debug)]
pub struct Setup {
    /// Also what only the tests need
    #[arg(long)]
    pub tests: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// `bakeoff doctor`
#[derive(Args, Clone, Debug)]
pub struct Doctor {
    /// Also what only the tests need
    #[arg(long)]
    pub tests: bool,
}

/// `bakeoff new`
#[derive(Args, Clone, Debug)]
pub struct New {
    /// Name of the bake-off and of its folder
    pub name: String,
    /// Folder to put it in
    #[arg(long, value_name = "DIR", default_value = "patches")]
    pub dir: PathBuf,
}

/// `bakeoff check`
#[derive(Args, Clone, Debug)]
pub struct Check {
    /// Folder of a bake-off, its bakeoff.yaml, or its name below patches/
    #[arg(value_parser = bake_off)]
    pub spec: PathBuf,
}

/// `bakeoff schema`
#[derive(Args, Clone, Debug)]
pub struct Schema {
    /// The one of bakeoff.yaml, for editors
    #[arg(long)]
    pub spec: bool,
    /// The same for people: every key of bakeoff.yaml explained (docs/spec.md)
    #[arg(long, requires = "spec")]
    pub markdown: bool,
}

/// Which part of the spec is wanted.
#[derive(Args, Clone, Debug, Default)]
pub struct Selection {
    /// Only this architecture (repeatable)
    #[arg(long, value_name = "ARCH")]
    pub arch: Vec<String>,
    /// Only this contender, with reference and control (repeatable)
    #[arg(long, value_name = "NAME")]
    pub candidate: Vec<String>,
    /// Only this profile (repeatable)
    #[arg(long, value_name = "NAME")]
    pub profile: Vec<String>,
    /// Only conditions whose label begins so, as in `command/futex` (repeatable)
    #[arg(long, value_name = "PROBE")]
    pub probe: Vec<String>,
    /// Only the probes that the spec marks as quick
    #[arg(long)]
    pub quick: bool,
}

/// How things are run.
#[derive(Args, Clone, Debug)]
pub struct Machinery {
    /// Accelerator; by default KVM where a guest proves that it works, else TCG
    #[arg(long, value_enum, value_name = "ACCEL")]
    pub accel: Option<Accel>,
    /// Use the guest binaries in DIR/<arch>, as `bakeoff guests` builds them
    #[arg(long, value_name = "DIR")]
    pub guest_dir: Option<PathBuf>,
    /// Build foreign series without a sandbox: their Makefiles run as you
    #[arg(long)]
    pub trust: bool,
    /// If the pinned version of a base is gone, take the newest one; the
    /// report says so
    #[arg(long)]
    pub base_latest: bool,
    /// Install what is missing without asking
    #[arg(long)]
    pub yes: bool,
}

/// An accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Accel {
    /// Hardware virtualization.
    Kvm,
    /// QEMU's own translator.
    Tcg,
}

/// What begins a run: which part of the spec, where it lies, how it is done.
#[derive(Args, Clone, Debug)]
pub struct Begin {
    /// Selection.
    #[command(flatten)]
    pub selection: Selection,
    /// Run directory [default: runs/<bake-off>-<time>]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Root seed; every boot's own seed is derived from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Machinery.
    #[command(flatten)]
    pub machinery: Machinery,
}

/// `bakeoff run`
#[derive(Args, Clone, Debug)]
pub struct Run {
    /// Folder of a bake-off, its bakeoff.yaml, or its name below patches/
    #[arg(value_parser = bake_off)]
    pub spec: PathBuf,
    /// Which part, where and how.
    #[command(flatten)]
    pub begin: Begin,
    /// Add a folder of patches as one more contender (repeatable)
    #[arg(long, value_name = "DIR")]
    pub add: Vec<PathBuf>,
    /// Time that measuring may take, as `20m`, in place of the spec's; claims that are
    /// open by then stay so, and the page says what they would take
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub budget: Option<std::time::Duration>,
    /// Add a patch series as one more contender (repeatable): a message id, an
    /// mbox, commits … (see `bakeoff series show --help`)
    #[arg(long, value_name = "SOURCE")]
    pub series: Vec<String>,
    /// Carry out the spec's `fuzz:` section, also where it is only done if asked
    /// for, or with --quick
    #[arg(long)]
    pub fuzz: bool,
    /// Let the spec's gates decide the exit code
    #[arg(long)]
    pub gate: bool,
    /// Time for all of it, as `30m`: takes what decides most and fits, and says what it
    /// leaves out
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub within: Option<std::time::Duration>,
    /// Where it is done.
    #[command(flatten)]
    pub cluster: Cluster,
    /// Show what would be done, with the make and QEMU command lines, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Format of the report on standard output
    #[arg(long, value_parser = formats(), default_value = FORMATS[0].name)]
    pub format: &'static Format,
    /// Which version of the series, and from where. Last: its heading holds for what
    /// follows.
    #[command(flatten)]
    pub choice: Choice,
}

/// Other machines.
#[derive(Args, Clone, Debug, Default)]
pub struct Cluster {
    /// Have a cluster do it: a job array, one task for each shard (see `bakeoff shard
    /// --help`); the run directory has to be at the same place on all nodes
    #[arg(long, value_enum, value_name = "ENGINE")]
    pub on: Option<Engine>,
    /// Slurm's partition [default: Slurm's own]
    #[arg(long, value_name = "NAME", requires = "on")]
    pub partition: Option<String>,
    /// One more argument of sbatch, as `--sbatch=--time=2:00:00` (repeatable)
    #[arg(long, value_name = "ARG", requires = "on", allow_hyphen_values = true)]
    pub sbatch: Vec<String>,
}

/// What does a run's shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// Slurm, through sbatch and squeue.
    Slurm,
}

/// `bakeoff shard`
#[derive(Args, Clone, Debug)]
pub struct Shard {
    /// Folder of a bake-off, its bakeoff.yaml, or its name below patches/;
    /// or a run directory whose plan is meant
    #[arg(value_parser = bake_off)]
    pub spec: PathBuf,
    /// The shard to do: its number or its name, as 6.12/x86_64/lockdep; without it they
    /// are listed
    pub shard: Option<String>,
    /// Which part, where and how.
    #[command(flatten)]
    pub begin: Begin,
    /// Add a folder of patches as one more contender (repeatable)
    #[arg(long, value_name = "DIR")]
    pub add: Vec<PathBuf>,
    /// Time that measuring may take on each shard, in place of the spec's
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub budget: Option<std::time::Duration>,
}

/// `bakeoff merge`
#[derive(Args, Clone, Debug)]
pub struct Merge {
    /// Run directories of shards
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Run directory of the whole
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Let the spec's gates decide the exit code
    #[arg(long)]
    pub gate: bool,
    /// Format of the report on standard output
    #[arg(long, value_parser = formats(), default_value = FORMATS[0].name)]
    pub format: &'static Format,
}

/// `bakeoff resume`
#[derive(Args, Clone, Debug)]
pub struct Resume {
    /// Run directory
    pub run: PathBuf,
    /// Go on with the claims that are open, beyond the planned looks and the budget
    #[arg(long)]
    pub decide: bool,
    /// Let the spec's gates decide the exit code
    #[arg(long)]
    pub gate: bool,
    /// Where it is done.
    #[command(flatten)]
    pub cluster: Cluster,
    /// Machinery.
    #[command(flatten)]
    pub machinery: Machinery,
    /// Format of the report on standard output
    #[arg(long, value_parser = formats(), default_value = FORMATS[0].name)]
    pub format: &'static Format,
}

/// A bake-off as it is typed: a path, or the name of a folder below patches/, where
/// `bakeoff new` puts them.
fn bake_off(typed: &str) -> Result<PathBuf, Infallible> {
    let (path, below) = (PathBuf::from(typed), Path::new("patches").join(typed));
    let named = !typed.contains('/') && !path.exists() && below.is_dir();
    Ok(if named { below } else { path })
}

/// The rows of [`FORMATS`], as words of the command line.
fn formats() -> impl TypedValueParser<Value = &'static Format> {
    let values = FORMATS.iter().map(|format| PossibleValue::new(format.name).help(format.about));
    PossibleValuesParser::new(values)
        .try_map(|name| report::format(&name).ok_or_else(|| format!("no format {name}")))
}

/// `bakeoff report`
#[derive(Args, Clone, Debug)]
pub struct Report {
    /// Run directory; for `--format b4-check` with a mail on standard input also a folder
    /// of runs, of which the one with the mail's series is taken
    pub run: PathBuf,
    /// Format
    #[arg(long, value_parser = formats(), default_value = FORMATS[0].name)]
    pub format: &'static Format,
    /// Add the tables: claims with intervals, measures, splats, cells, …
    #[arg(long)]
    pub full: bool,
    /// What to show of it.
    #[command(flatten)]
    pub pick: report::Pick,
    /// Let the spec's gates decide the exit code
    #[arg(long)]
    pub gate: bool,
    /// Post the checks of `--format patchwork`, with the token in
    /// $BAKEOFF_PATCHWORK_TOKEN; without it they are shown, and nothing is sent
    #[arg(long, help_heading = "Patchwork")]
    pub send: bool,
    /// Patchwork server to post to
    /// [default: $BAKEOFF_PATCHWORK, else https://patchwork.kernel.org]
    #[arg(long, value_name = "URL", help_heading = "Patchwork", requires = "send")]
    pub patchwork: Option<String>,
    /// Where the whole report can be read: becomes the checks' link
    #[arg(long, value_name = "URL", help_heading = "Patchwork", requires = "send")]
    pub link: Option<String>,
}

/// `bakeoff splats`
#[derive(Args, Clone, Debug)]
pub struct Splats {
    /// Kernel logs or folders of them, plain, .gz, .xz, .zst or UTF-16; `-` is standard input
    #[arg(required = true, value_name = "LOG")]
    pub logs: Vec<PathBuf>,
    /// Format
    #[arg(long, value_enum, default_value_t = SplatFormat::Text)]
    pub format: SplatFormat,
    /// The kernel's vmlinux: adds file, line and inlined callers to each frame
    #[arg(long, value_name = "FILE")]
    pub vmlinux: Option<PathBuf>,
}

/// A format of splats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SplatFormat {
    /// In words.
    Text,
    /// An array of objects.
    Json,
}

/// `bakeoff explain`
#[derive(Args, Clone, Debug)]
pub struct Explain {
    /// Run directory
    pub run: PathBuf,
    /// The splat: the beginning of its fingerprint, or a part of its title
    pub splat: String,
}

/// `bakeoff list`
#[derive(Args, Clone, Debug)]
pub struct List {
    /// What to show
    #[arg(value_enum)]
    pub what: Option<Listed>,
    /// Where to look: a bake-off's folder, or a folder of such, or of runs
    pub dir: Option<PathBuf>,
}

/// What `bakeoff list` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Listed {
    /// Bake-offs below patches/
    Specs,
    /// Candidates of a bake-off, with their patches
    Candidates,
    /// Probes and the contexts they can sample
    Probes,
    /// Runs below runs/
    Runs,
}

/// `bakeoff cache`
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct CacheArgs {
    /// Remove everything in it
    #[arg(long)]
    pub clean: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<CacheCommand>,
}

/// `bakeoff cache …`
#[derive(Clone, Debug, Subcommand)]
pub enum CacheCommand {
    /// Show each entry with its size
    List,
    /// Write entries into one archive (.tar.zst)
    ///
    /// Without --run and WHAT: kernels, trees and guest binaries. Archives of Debian's
    /// sources and the build folders of bases are taken only if they are named.
    Export(CacheExport),
    /// Take the entries of archives into the cache
    ///
    /// Each file is verified by its hash. An entry that is there and whole stays as it is.
    /// Whoever wrote the archive decides what your kernels are: take none from strangers.
    Import(CacheImport),
}

/// `bakeoff cache export`
#[derive(Args, Clone, Debug)]
pub struct CacheExport {
    /// The archive to write
    pub file: PathBuf,
    /// Kinds or beginnings of names, as `bakeoff cache list` shows them: `tree`,
    /// `kernel/x86_64-lockdep`
    #[arg(value_name = "WHAT")]
    pub what: Vec<String>,
    /// What this run needs to be resumed: its kernels, trees and guest binaries
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
}

/// `bakeoff cache import`
#[derive(Args, Clone, Debug)]
pub struct CacheImport {
    /// Archives that `bakeoff cache export` wrote; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// A folder to write.
#[derive(Args, Clone, Debug)]
pub struct Folder {
    /// Folder to write; what is in it may be replaced
    pub dir: PathBuf,
}

/// `bakeoff verify`
#[derive(Args, Clone, Debug)]
pub struct Verify {
    /// Run directory
    pub run: PathBuf,
}

/// `bakeoff calibrate`
#[derive(Args, Clone, Debug)]
pub struct Calibrate {
    /// Folder of a bake-off, its bakeoff.yaml, or its name below patches/
    #[arg(value_parser = bake_off)]
    pub spec: PathBuf,
    /// How many bake-offs of the reference against itself
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(3..=1000))]
    pub times: u32,
    /// Which part, where and how.
    #[command(flatten)]
    pub begin: Begin,
    /// Show what would be done, with the make and QEMU command lines, and stop
    #[arg(long)]
    pub dry_run: bool,
}

/// `bakeoff bench`
#[derive(Args, Clone, Debug)]
pub struct Bench {
    /// Folder of a bake-off, its bakeoff.yaml, or its name below patches/
    #[arg(value_parser = bake_off, required_unless_present = "of")]
    pub spec: Option<PathBuf>,
    /// Measure nothing: say where the time of this run went (repeatable)
    #[arg(long, value_name = "RUN", conflicts_with = "spec")]
    pub of: Vec<PathBuf>,
    /// Selection.
    #[command(flatten)]
    pub selection: Selection,
    /// Machinery.
    #[command(flatten)]
    pub machinery: Machinery,
}

/// The command line; if it is wrong, what is wrong with it, and the end. A command that
/// is misspelt so that clap knows none like it gets the suggestion that words of a spec
/// get.
fn parse() -> Cli {
    let mut error = match Cli::try_parse() {
        Ok(cli) => return cli,
        Err(error) => error,
    };
    if let (Some(ContextValue::String(written)), None) =
        (error.get(ContextKind::InvalidSubcommand), error.get(ContextKind::SuggestedSubcommand))
    {
        let command = Cli::command();
        let near = nearest(written, command.get_subcommands().map(clap::Command::get_name));
        if let Some(near) = near {
            let near = ContextValue::Strings(vec![near.to_owned()]);
            error.insert(ContextKind::SuggestedSubcommand, near);
        }
    }
    error.exit()
}

/// Parses the command line, does what it says, prints the error; the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = parse();
    match commands::call(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            commands::complain(&error);
            ExitCode::from(error.kind().exit_code())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// clap's own consistency checks pass.
    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// The help names each kind of source.
    #[test]
    fn the_help_names_each_source() {
        let mut written = crate::series::written_sources().peekable();
        assert!(written.peek().is_some());
        for word in written.filter(|word| !word.starts_with("https://")) {
            assert!(series::SOURCES_HELP.contains(word), "{word}");
        }
    }

    /// The exit codes in `--help` are those of the code.
    #[test]
    fn help_states_the_real_exit_codes() {
        use crate::base::error::exit_code as code;
        for value in [
            code::OK,
            code::FAILURE,
            code::BAD_INPUT,
            code::MISSING_PREREQUISITE,
            code::GATE_FAILED,
            code::INCONCLUSIVE,
            code::INTERRUPTED,
        ] {
            let stands = |text: &str| {
                text.lines().any(|line| line.trim_start().starts_with(&format!("{value} ")))
            };
            assert!(stands(EXIT_CODES) && stands(AFTER), "exit code {value}");
        }
    }
}
