// SPDX-License-Identifier: MIT OR Apache-2.0
//! One function for each command: from what was typed to what the library does,
//! and back to what is printed. Standard output carries the answer, standard
//! error everything else.

mod answer;
mod cache;
mod check;
mod fleet;
mod fuzz;
mod list;
mod new;
mod package;
mod series;
mod splats;
mod trial;
mod watch;
mod work;

use std::io::{self, BufRead, IsTerminal, Write};

use crate::base::command::Cancel;
use crate::base::data::DataDir;
use crate::base::error::{Context, Error, Result, exit_code};
use crate::base::event::{Events, Sink};
use crate::base::progress::{Bars, Lines};
use crate::judge;
use crate::keep::cache::Cache;
use crate::keep::remote::Remote;
use crate::make::compile::Sandbox;
use crate::make::prereq;
use crate::spec;
use crate::spec::arch::Arch;
use clap::CommandFactory;

use crate::cli::{Cli, Command, Doctor, Global, Progress, Setup};

/// What every command works with.
pub struct Desk {
    /// Architectures, fragments, sources.
    pub data: DataDir,
    /// Archives, trees, kernels.
    pub cache: Cache,
    /// What goes on.
    pub events: Events,
    /// Ctrl-C.
    pub cancel: Cancel,
    /// The global options, as a command on another machine gets them.
    pub global: Vec<String>,
}

/// Does what was typed; the exit code of a command that did not fail.
pub fn call(cli: Cli) -> Result<u8> {
    let Cli { command, global } = cli;
    match command {
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "bakeoff", &mut text);
            print(&String::from_utf8_lossy(&text))
        }
        Command::Manual(args) => package::manual(&args),
        Command::Guests(args) => package::guests(&args, &desk(&global)?),
        Command::Schema(args) if args.markdown => print(&spec::reference::text(&data(&global)?)?),
        Command::Schema(args) if args.spec => print(&spec::schema::text(&data(&global)?)?),
        Command::Schema(_) => print(&judge::schema_text()?),
        Command::New(args) => new::new(&args, &data(&global)?),
        Command::Check(args) => check::check(&args, &desk(&global)?),
        Command::Splats(args) => splats::splats(&args),
        Command::Explain(args) => splats::explain_splat(&args),
        Command::List(list) => list::list(&list, &global),
        Command::Series(args) => series::series(&args, &desk(&global)?),
        Command::Report(report) => answer::report(&report, &global),
        Command::Cache(args) => cache::cache(&args, &desk(&global)?),
        Command::Setup(args) => setup(&args, &desk(&global)?),
        Command::Doctor(args) => doctor(&args, &desk(&global)?),
        Command::Run(args) => work::run(&args, &desk(&global)?),
        Command::Shard(args) => fleet::shard(&args, &desk(&global)?),
        Command::Merge(args) => fleet::merge(&args, &desk(&global)?),
        Command::Try(args) => trial::run(&args, &desk(&global)?),
        Command::Ci(args) => trial::ci(&args, &desk(&global)?),
        Command::Watch(args) => watch::watch(&args, &desk(&global)?),
        Command::Resume(args) => work::resume(&args, &desk(&global)?),
        Command::Fuzz(args) => fuzz::fuzz(&args, &desk(&global)?),
        Command::Distill(args) => fuzz::distill(&args, &desk(&global)?),
        Command::Uapi(args) => fuzz::uapi(&args, &desk(&global)?),
        Command::Replay(args) => fuzz::replay(&args, &desk(&global)?),
        Command::Minimize(args) => fuzz::minimize(&args, &desk(&global)?),
        Command::Mutants(args) => fuzz::mutants(&args, &desk(&global)?),
        Command::Verify(args) => work::verify(&args),
        Command::Calibrate(args) => work::calibrate(&args, &desk(&global)?),
        Command::Bench(args) => work::bench(&args, &desk(&global)?),
    }
}

/// Prints an error with its causes and the next step.
pub fn complain(error: &Error) {
    let mut text = format!("error: {}\n", error.chain());
    if let Some(hint) = error.next_step() {
        text.push_str(&format!("  next: {}\n", hint.replace('\n', "\n        ")));
    }
    // Nothing is left to be done about a standard error that is gone.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Prints an answer; a reader that went away (`| head`) is no error.
pub fn print(text: &str) -> Result<u8> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(e).context(|| "write to standard output".into())
        }
        _ => Ok(exit_code::OK),
    }
}

/// The data folder: as typed, or embedded.
///
/// # Errors
/// The folder is none of ours.
pub fn data(global: &Global) -> Result<DataDir> {
    global.data_dir.as_ref().map_or_else(|| Ok(DataDir::embedded()), DataDir::at)
}

fn desk(global: &Global) -> Result<Desk> {
    let sink: Box<dyn Sink> = match global.progress {
        Progress::Bars => Box::new(Bars::new()),
        Progress::Auto if io::stderr().is_terminal() => Box::new(Bars::new()),
        Progress::Auto | Progress::Lines => Box::new(Lines::new(io::stderr())),
        Progress::None => Box::new(Lines::warnings(io::stderr())),
    };
    let cancel = Cancel::new();
    let pulled = cancel.clone();
    ctrlc::set_handler(move || {
        // The first asks; the second does not wait for the answer.
        if pulled.is_cancelled() {
            std::process::exit(i32::from(exit_code::INTERRUPTED));
        }
        pulled.cancel();
        let _ = io::stderr().write_all(b"\ninterrupted; cleaning up (once more to stop at once)\n");
    })
    .context(|| "listen to signals".into())?;
    let events = Events::new(vec![sink]);
    let mut cache = Cache::open(global.cache_dir.as_deref())?;
    if let Some(remote) = &global.cache_remote {
        cache = cache.with_remote(Remote::open(remote, global.cache_push, &events, &cancel)?);
    }
    Ok(Desk { data: data(global)?, cache, events, cancel, global: words(global) })
}

/// The global options as words, paths made absolute.
fn words(global: &Global) -> Vec<String> {
    let Global { cache_dir, cache_remote, cache_push, data_dir, progress: _ } = global;
    let absolute = |path: &std::path::Path| {
        std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
    };
    let mut words = Vec::new();
    for (option, path) in [("--cache-dir", cache_dir), ("--data-dir", data_dir)] {
        words.extend(path.iter().flat_map(|path| [option.to_owned(), absolute(path)]));
    }
    if let Some(remote) = cache_remote {
        let is_address = remote.contains("://");
        let remote =
            if is_address { remote.clone() } else { absolute(std::path::Path::new(remote)) };
        words.extend(["--cache-remote".to_owned(), remote]);
    }
    words.extend(cache_push.then(|| "--cache-push".to_owned()));
    words
}

/// Every architecture there is a file for.
fn all_archs(data: &DataDir) -> Result<Vec<Arch>> {
    Arch::names(data)?.iter().map(|name| Arch::load(data, name)).collect()
}

/// Asks on a terminal; elsewhere the answer is no.
pub fn ask(question: &str) -> bool {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return false;
    }
    let mut err = io::stderr();
    let _ = write!(err, "{question}\nDo that now? [y/N] ");
    let _ = err.flush();
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).is_ok()
        && matches!(answer.trim(), "y" | "Y" | "yes" | "Yes")
}

fn setup(args: &Setup, desk: &Desk) -> Result<u8> {
    let all = prereq::prerequisites(&all_archs(&desk.data)?, args.tests);
    // What is merely useful is installed here, where one asked for it; a run
    // does without.
    let all = all.into_iter().map(prereq::Prerequisite::wanted).collect();
    prereq::ensure(all, args.yes, &mut ask, &desk.events, &desk.cancel)?;
    print("everything that is needed is installed\n")
}

fn doctor(args: &Doctor, desk: &Desk) -> Result<u8> {
    let archs = all_archs(&desk.data)?;
    let checked = prereq::check(prereq::prerequisites(&archs, args.tests), &desk.cancel);
    let mut text = String::new();
    for checked in &checked {
        let (state, place) = match &checked.found {
            Some(place) => ("found", place.clone()),
            None if checked.is_missing() => ("MISSING", checked.remedy()),
            None => ("absent", format!("{} (useful, not needed)", checked.remedy())),
        };
        text.push_str(&format!("{state:<8} {:<34} {}\n", checked.what.name, checked.what.why));
        text.push_str(&format!("{:<8} {place}\n", ""));
    }
    for arch in &archs {
        let line = match crate::machine::accel::choose(arch, None, &desk.cancel) {
            Ok(choice) => format!("{}: {}", choice.accel.word(), choice.reason),
            Err(error) => error.chain(),
        };
        text.push_str(&format!("{:<8} {:<10} {line}\n", "accel", arch.name));
    }
    let sandbox = match Sandbox::probe(&desk.cache.work_dir()?, &desk.cancel)? {
        Sandbox::Works => "works: foreign series are built in it".to_owned(),
        Sandbox::Unavailable(why) => format!("none ({why}): foreign series need --trust"),
    };
    text.push_str(&format!("{:<8} {sandbox}\n", "sandbox"));
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    text.push_str(&format!(
        "{:<8} {} has {:.1} GiB free\n",
        "disk",
        desk.cache.root().display(),
        gib(desk.cache.free_bytes()?)
    ));
    print(&text)?;
    let missing = checked.iter().filter(|c| c.is_missing()).count();
    if missing == 0 {
        return Ok(exit_code::OK);
    }
    Err(Error::missing(format!("{missing} of {} prerequisites are missing", checked.len()))
        .hint("run `bakeoff setup`"))
}
