// SPDX-License-Identifier: MIT OR Apache-2.0
//! `try` and `ci`: series against their base, without a spec.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use super::work::{self, answer, carry_out, ensure_for, judged, machinery, selection};
use super::{Desk, print, series as sources};
use crate::base::error::{Context, Error, Result};
use crate::base::event::Stage;
use crate::base::words::word;
use crate::cli::{self, dry_run};
use crate::judge;
use crate::judge::report::formats::broken_base;
use crate::judge::report::{self, FORMATS, How, Report};
use crate::judge::row::Place;
use crate::keep::store::{Store, write_whole};
use crate::make::source::{self, Fetch, series as applying};
use crate::run::{self, Request};
use crate::series::Series;
use crate::spec;
use crate::spec::plan::fuzz::FuzzPlan;
use crate::spec::plan::{Plan, Selection};
use crate::trial::{Trial, Wish};

/// The run of a `ci` folder.
pub(super) const RUN: &str = "run";

pub fn run(args: &cli::Try, desk: &Desk) -> Result<u8> {
    let all = read_all(&args.sources, &args.choice, desk)?;
    let wish = Wish { base: args.base.as_deref(), budget: args.budget };
    let trial = Trial::new(all, &wish, &desk.data, &desk.cancel)?;
    let request =
        Request { spec: trial.folder(), fuzz: args.fuzz, ..work::request(&args.begin, None) };
    let typed = &args.begin.machinery;
    if args.dry_run {
        return print(&described(Some(&trial), &request, typed, desk)?);
    }
    let store = begin(Some(&trial), &request, typed, desk)?;
    carry_out(&store, &machinery(typed), false, desk)?;
    let report = judged(&store, desk)?;
    let code = answer(&report, &store, args.gate, args.format)?;
    require_base(&report)?;
    Ok(code)
}

/// Nothing is known of a series whose base does not build or boot.
fn require_base(report: &Report) -> Result<()> {
    let Some(cell) = broken_base(report) else { return Ok(()) };
    let Place { base, arch, profile, .. } = &cell.place;
    let why = cell.note.clone().unwrap_or_else(|| word(cell.end));
    Err(Error::bad_input(format!("the base {base} itself fails as {arch} {profile}: {why}"))
        .hint("name another base with --base, or --arch and --profile that it can do"))
}

/// Every series of these sources.
fn read_all(from: &[String], choice: &cli::Choice, desk: &Desk) -> Result<Vec<Series>> {
    let mut all = Vec::new();
    for source in from {
        let task = desk.events.start(Stage::Fetch, source.clone(), None);
        let found = sources::read(source, choice, desk)?;
        let words: Vec<String> = found
            .iter()
            .map(|series| {
                let (have, all) = (series.patches.len(), series.expected);
                format!(
                    "v{} of \u{201c}{}\u{201d}, {have} of {all} patches",
                    series.version, series.subject
                )
            })
            .collect();
        task.finish(words.join("; "));
        all.extend(found);
    }
    Ok(all)
}

/// What would be done, and why.
fn described(
    trial: Option<&Trial>,
    request: &Request,
    typed: &cli::Machinery,
    desk: &Desk,
) -> Result<String> {
    let spec = request.spec(&desk.data)?;
    let plan = Plan::new(&spec, &request.selection, request.seed)?;
    let fuzz = FuzzPlan::new(&spec, &request.selection, request.fuzz, request.seed)?;
    let why = trial.map(|trial| trial.describe() + "\n").unwrap_or_default();
    let plan = dry_run::describe(&spec, &plan, fuzz.as_ref(), &machinery(typed), &desk.tools())?;
    Ok(why + &plan)
}

/// Begins the run, once everything is there that it needs.
fn begin(
    trial: Option<&Trial>,
    request: &Request,
    typed: &cli::Machinery,
    desk: &Desk,
) -> Result<Store> {
    let spec = request.spec(&desk.data)?;
    let plan = Plan::new(&spec, &request.selection, request.seed)?;
    let fuzz = FuzzPlan::new(&spec, &request.selection, request.fuzz, request.seed)?;
    ensure_for(&plan, fuzz.as_ref(), typed, desk)?;
    if let Some(trial) = trial {
        trial.describe().lines().for_each(|line| desk.events.note(line.to_owned()));
        require_that_it_applies(trial, typed, desk)?;
    }
    run::begin(request, &machinery(typed), &desk.tools())
}

/// On a base that nobody named, "does not apply" would say nothing about the series.
fn require_that_it_applies(trial: &Trial, typed: &cli::Machinery, desk: &Desk) -> Result<()> {
    if !trial.base.ours {
        return Ok(());
    }
    let Desk { cache, events, cancel, .. } = desk;
    let fetch = Fetch { latest: typed.base_latest, ..Fetch::default() };
    let tree = source::obtain(&trial.base.source, &fetch, cache, events, cancel)?;
    for contender in trial.contenders() {
        let patches = applying::read(&spec::patches_in(&trial.patches_of(contender))?, cancel)?;
        if let applying::Applied::Rejected { patch, reason } =
            applying::would_apply(&tree.dir, &patches, cancel)?
        {
            return Err(Error::bad_input(format!(
                "{contender} does not apply to {}, and its own base is not known here: {patch}: \
                 {reason}",
                tree.label
            ))
            .hint("name its base with --base, or trees that may have it with --tree"));
        }
    }
    Ok(())
}

pub fn ci(args: &cli::Ci, desk: &Desk) -> Result<u8> {
    let job = Job {
        out: args.out.clone(),
        request: Request {
            selection: Selection { budget: args.budget, ..selection(&args.selection) },
            out: Some(args.out.join(RUN)),
            seed: args.seed,
            ..Request::default()
        },
        machinery: args.machinery.clone(),
        say: true,
    };
    if let Some(spec) = &args.spec {
        // Kept until the run has its own copies.
        let fetched = sources::contenders(&args.sources, &args.choice, desk)?;
        let add = fetched.iter().flat_map(|(_, dirs)| dirs.iter().cloned()).collect();
        let request = Request { spec: spec.clone(), add, ..job.request.clone() };
        return Job { request, ..job }.carry_out(None, args.dry_run, desk);
    }
    let all = read_all(&args.sources, &args.choice, desk)?;
    job.of_series(all, args.base.as_deref(), args.dry_run, desk)
}

/// One job of a pipeline: a run, and its results in every format.
pub(super) struct Job {
    /// The folder of the results; the run lies below it.
    pub(super) out: PathBuf,
    /// Without its spec, where one is made of series.
    pub(super) request: Request,
    pub(super) machinery: cli::Machinery,
    /// Print the page, and tell the pipeline in its own words.
    pub(super) say: bool,
}

/// Time for measuring, where nobody says.
const BUDGET: std::time::Duration = std::time::Duration::from_secs(20 * 60);

impl Job {
    /// Series against their base.
    pub(super) fn of_series(
        self,
        all: Vec<Series>,
        base: Option<&str>,
        dry_run: bool,
        desk: &Desk,
    ) -> Result<u8> {
        let budget = self.request.selection.budget.unwrap_or(BUDGET);
        let trial = Trial::new(all, &Wish { base, budget }, &desk.data, &desk.cancel)?;
        let request = Request { spec: trial.folder(), ..self.request.clone() };
        Job { request, ..self }.carry_out(Some(&trial), dry_run, desk)
    }

    fn carry_out(self, trial: Option<&Trial>, dry_run: bool, desk: &Desk) -> Result<u8> {
        if dry_run {
            return print(&described(trial, &self.request, &self.machinery, desk)?);
        }
        let taken = fs::read_dir(&self.out).is_ok_and(|mut entries| entries.next().is_some());
        if taken {
            return Err(Error::bad_input(format!("{} is not empty", self.out.display()))
                .hint("give --out a new folder; `bakeoff resume` goes on with the run in it"));
        }
        let store = begin(trial, &self.request, &self.machinery, desk)?;
        self.go_on(&store, desk)
    }

    /// Does what is left of the run, and writes the results.
    pub(super) fn go_on(self, store: &Store, desk: &Desk) -> Result<u8> {
        let ended = carry_out(store, &machinery(&self.machinery), false, desk);
        // Also of a run that failed: what is there says what is missing.
        let results = self.results(store, desk);
        ended.and(results)
    }

    /// Writes the results, tells the pipeline in its own words; the exit code is the gates'.
    fn results(&self, store: &Store, desk: &Desk) -> Result<u8> {
        let report = judge::judge(store, &desk.data)?;
        judge::write(store, &report)?;
        let how = How { full: false, run: Some(store.root()) };
        for format in FORMATS {
            let text = format.render(&report, &how)?;
            write_whole(&self.out.join(format.file), text.as_bytes())?;
        }
        if self.say {
            Self::tell(&report, &how)?;
        }
        require_base(&report)?;
        Ok(judge::gate_code(&report))
    }

    /// Prints the page; where GitHub runs this, also what it shows as its own.
    fn tell(report: &Report, how: &How<'_>) -> Result<()> {
        let rendered = |name: &str| match report::format(name) {
            Some(format) => format.render(report, how),
            None => Ok(String::new()),
        };
        print(&rendered("text")?)?;
        if std::env::var_os("GITHUB_ACTIONS").is_some() {
            print(&rendered("github-annotations")?)?;
        }
        if let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").map(PathBuf::from) {
            let summary = rendered("github")?;
            fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)
                .and_then(|mut file| file.write_all(summary.as_bytes()))
                .at_path("write the step summary to", &path)?;
        }
        Ok(())
    }
}
