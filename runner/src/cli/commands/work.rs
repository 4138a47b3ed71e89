// SPDX-License-Identifier: MIT OR Apache-2.0
//! `run`, `resume`, `verify` and `bench`: the commands that deal with runs.

use std::time::Duration;

use crate::base::data::DataDir;
use crate::base::error::{Result, exit_code};
use crate::base::event::Stage;
use crate::cli::{bench, dry_run};
use crate::fleet::slurm;
use crate::fuzz::stage;
use crate::judge;
use crate::judge::report::{Format, How, Report};
use crate::judge::steer::Steer;
use crate::keep::store::{RunJson, Store, read_json};
use crate::machine::accel::Accel;
use crate::make::prereq;
use crate::run::{self, Machinery, Request, Tools, within};
use crate::spec::arch::Arch;
use crate::spec::plan::fuzz::FuzzPlan;
use crate::spec::plan::{CellId, Plan, Selection};

use crate::cli;
use crate::cli::commands::{Desk, ask, fleet, print};

impl Desk {
    pub(super) fn tools(&self) -> Tools<'_> {
        Tools { data: &self.data, cache: &self.cache, events: &self.events, cancel: &self.cancel }
    }
}

pub(super) fn selection(typed: &cli::Selection) -> Selection {
    let cli::Selection { arch, candidate, profile, probe, quick } = typed.clone();
    Selection {
        archs: arch,
        candidates: candidate,
        profiles: profile,
        probes: probe,
        quick,
        budget: None,
    }
}

pub(super) fn machinery(typed: &cli::Machinery) -> Machinery {
    let cli::Machinery { accel, guest_dir, trust, base_latest, yes: _ } = typed.clone();
    let accel = accel.map(|accel| match accel {
        cli::Accel::Kvm => Accel::Kvm,
        cli::Accel::Tcg => Accel::Tcg,
    });
    Machinery { accel, guest_dir, trust, base_latest, without_ccache: false }
}

/// Makes sure that nothing is missing for these architectures and profiles.
pub(super) fn ensure(archs: &[String], profiles: &[String], yes: bool, desk: &Desk) -> Result<()> {
    let archs: Vec<Arch> =
        archs.iter().map(|name| Arch::load(&desk.data, name)).collect::<Result<_>>()?;
    let all = prereq::prerequisites(&archs, false);
    let all = prereq::for_profiles(all, &desk.data, profiles)?;
    prereq::ensure(all, yes, &mut ask, &desk.events, &desk.cancel)
}

pub(super) fn ensure_for(
    plan: &Plan,
    fuzz: Option<&FuzzPlan>,
    machinery: &cli::Machinery,
    desk: &Desk,
) -> Result<()> {
    let fuzzed = fuzz.iter().flat_map(|fuzz| &fuzz.cells).map(|cell| &cell.id);
    let cells: Vec<&CellId> = plan.cells.iter().map(|cell| &cell.id).chain(fuzzed).collect();
    let all = |of: fn(&CellId) -> &String| -> Vec<String> {
        let mut all: Vec<String> = cells.iter().map(|id| of(id).clone()).collect();
        all.sort();
        all.dedup();
        all
    };
    ensure(&all(|id| &id.arch), &all(|id| &id.profile), machinery.yes, desk)
}

/// A run as it was typed, of no spec yet.
pub(super) fn request(typed: &cli::Begin, budget: Option<Duration>) -> Request {
    Request {
        selection: Selection { budget, ..selection(&typed.selection) },
        out: typed.out.clone(),
        seed: typed.seed,
        ..Request::default()
    }
}

/// Narrows a request to what fits into a time; what is left out is said.
fn fit(
    request: &mut Request,
    within: Duration,
    machinery: &Machinery,
    desk: &Desk,
) -> Result<String> {
    let spec = request.spec(&desk.data)?;
    let plan = request.plan(&spec)?;
    let (costs, first) = run::costs(&spec, &plan, machinery, &desk.tools())?;
    let fit = within::choose(&plan, &costs, first, within)?;
    // What is not measured at all is not asked either.
    for profile in plan.cells.iter().map(|cell| &cell.id.profile) {
        let taken = fit.cells.iter().any(|id| id.profile == *profile);
        let known = &mut request.selection.profiles;
        if taken && !known.contains(profile) {
            known.push(profile.clone());
        }
    }
    request.selection.profiles.retain(|p| fit.cells.iter().any(|id| id.profile == *p));
    let words = fit.words(within);
    request.fit = Some(fit);
    Ok(words)
}

pub fn run(args: &cli::Run, desk: &Desk) -> Result<u8> {
    let mut request = Request {
        spec: args.spec.clone(),
        add: args.add.clone(),
        fuzz: args.fuzz,
        elsewhere: args.cluster.on.is_some(),
        ..request(&args.begin, args.budget)
    };
    // Kept until the run has its own copies.
    let fetched = super::series::contenders(&args.series, &args.choice, desk)?;
    request.add.extend(fetched.iter().flat_map(|(_, dirs)| dirs.iter().cloned()));
    let machinery = machinery(&args.begin.machinery);
    let fits = match args.within {
        Some(within) => Some(fit(&mut request, within, &machinery, desk)?),
        None => None,
    };
    let spec = request.spec(&desk.data)?;
    let plan = request.plan(&spec)?;
    // Fuzzing takes its own time, which --within has not counted.
    let fuzz = match args.within {
        Some(_) if !args.fuzz => None,
        _ => FuzzPlan::new(&spec, &request.selection, request.fuzz, request.seed)?,
    };
    if args.dry_run {
        let mut text = dry_run::describe(&spec, &plan, fuzz.as_ref(), &machinery, &desk.tools())?;
        text.extend(fits.iter().map(|fits| format!("{fits}\n")));
        return print(&text);
    }
    fits.iter().for_each(|fits| desk.events.note(fits.as_str()));
    if args.cluster.on.is_some() {
        return fleet::run(&request, args, &machinery, desk);
    }
    ensure_for(&plan, fuzz.as_ref(), &args.begin.machinery, desk)?;
    let store = run::begin(&request, &machinery, &desk.tools())?;
    let code = finish(&store, &machinery, false, args.gate, args.format, desk)?;
    // Said at the end, too: who reads the page has to know what it is not about.
    fits.iter().for_each(|fits| desk.events.note(fits.as_str()));
    Ok(code)
}

pub fn calibrate(args: &cli::Calibrate, desk: &Desk) -> Result<u8> {
    let request = Request {
        spec: args.spec.clone(),
        // A reference and a contender for each bake-off; the reference is there already.
        against_itself: Some(args.times.saturating_mul(2).saturating_sub(1)),
        ..request(&args.begin, None)
    };
    let machinery = machinery(&args.begin.machinery);
    let spec = request.spec(&desk.data)?;
    let plan = request.plan(&spec)?;
    if args.dry_run {
        return print(&dry_run::describe(&spec, &plan, None, &machinery, &desk.tools())?);
    }
    ensure_for(&plan, None, &args.begin.machinery, desk)?;
    let store = run::begin(&request, &machinery, &desk.tools())?;
    carry_out(&store, &machinery, false, desk)?;
    calibrated(&store, &desk.data)
}

/// How often the reference was blamed for being itself; a run of `calibrate`
/// that is resumed or reported answers the same.
pub(super) fn calibrated(store: &Store, data: &DataDir) -> Result<u8> {
    let calibration = crate::judge::calibrate::judge(store, data)?;
    print(&calibration.to_string())?;
    Ok(if calibration.blamed() == 0 { exit_code::OK } else { exit_code::GATE_FAILED })
}

pub fn verify(args: &cli::Verify) -> Result<u8> {
    let checked = crate::judge::verify::verify(&args.run)?;
    print(&checked.to_string())?;
    Ok(if checked.agrees() { exit_code::OK } else { exit_code::FAILURE })
}

pub fn resume(args: &cli::Resume, desk: &Desk) -> Result<u8> {
    let store = Store::open(&args.run)?;
    let run: RunJson = read_json(&store.run_json())?;
    crate::keep::freeze::check_unchanged(&run, &desk.data)?;
    if args.cluster.on.is_some() {
        return fleet::resume(&store, args, desk);
    }
    {
        let _lock = store.lock()?;
        slurm::take_in(&store)?;
    }
    // It knows now on what its shards ran.
    let run = run::here(&store, &machinery(&args.machinery), &desk.tools())?;
    ensure_for(&run.plan, run.fuzz.as_ref(), &args.machinery, desk)?;
    let machinery = machinery(&args.machinery);
    if run.against_itself.is_some() {
        carry_out(&store, &machinery, false, desk)?;
        return calibrated(&store, &desk.data);
    }
    finish(&store, &machinery, args.decide, args.gate, args.format, desk)
}

/// Carries out what is left of a run; a failure says how to go on.
pub(super) fn carry_out(
    store: &Store,
    machinery: &Machinery,
    decide: bool,
    desk: &Desk,
) -> Result<()> {
    desk.events.note(format!("run directory: {}", store.root().display()));
    let resume = format!("`bakeoff resume {}` goes on", store.root().display());
    let steer = Steer { store, data: &desk.data, events: &desk.events, decide };
    let tools = desk.tools();
    let fuzz = |run: &RunJson| stage::carry_out(store, run, machinery, &tools);
    run::carry_out(store, machinery, &tools, &steer, &fuzz).map_err(|error| {
        match error.next_step() {
            Some(step) => {
                let step = format!("{step}; then {resume}");
                error.hint(step)
            }
            None => error.hint(resume),
        }
    })
}

/// Carries out what is left of a run, judges it, prints the report.
fn finish(
    store: &Store,
    machinery: &Machinery,
    decide: bool,
    gate: bool,
    format: &Format,
    desk: &Desk,
) -> Result<u8> {
    carry_out(store, machinery, decide, desk)?;
    conclude(store, gate, format, desk)
}

/// Judges a run and prints its report.
pub(super) fn conclude(store: &Store, gate: bool, format: &Format, desk: &Desk) -> Result<u8> {
    answer(&judged(store, desk)?, store, gate, format)
}

/// Judges a run and writes its reports.
pub(super) fn judged(store: &Store, desk: &Desk) -> Result<Report> {
    let task = desk.events.start(Stage::Judge, "the run", None);
    let report = judge::judge(store, &desk.data)?;
    judge::write(store, &report)?;
    task.finish(format!("{} verdicts", report.verdicts.len()));
    Ok(report)
}

/// Prints a report.
pub(super) fn answer(report: &Report, store: &Store, gate: bool, format: &Format) -> Result<u8> {
    print(&format.render(report, &How { full: false, run: Some(store.root()) })?)?;
    Ok(code(report, gate))
}

/// The exit code: the gates', or the verdicts' of the whole run, whatever was picked.
pub(super) fn code(report: &Report, gate: bool) -> u8 {
    if gate { judge::gate_code(report) } else { judge::verdict_code(report) }
}

pub fn bench(args: &cli::Bench, desk: &Desk) -> Result<u8> {
    let Some(spec) = args.spec.clone() else { return print(&bench::of(&args.of)?) };
    let request =
        Request { spec, selection: selection(&args.selection), seed: 1, ..Request::default() };
    let spec = request.spec(&desk.data)?;
    let plan = Plan::new(&spec, &request.selection, request.seed)?;
    ensure_for(&plan, None, &args.machinery, desk)?;
    print(&bench::measure(&request, &machinery(&args.machinery), &desk.tools())?)
}
