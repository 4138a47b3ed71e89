//! Scores the splat parser on a folder of console logs with known answers.
//!
//! `cargo run --release --example score-splats -- DIR [--detected PCT] [--kind PCT] [--lockdep PCT]
//! [--title PCT] [--posts PCT] [--half even|odd] [--folds N] [--verbose]`
//!
//! Two formats are known by what lies in the folder:
//!
//! - a `MANIFEST.tsv`: logs as people post them. Its columns name the file, the titles and the kind
//!   that are expected (separated by `;`, `none` for no splat); `expected.json` has the titles of
//!   some files as a list. A log is read right if all of its splats are, and there are no others.
//! - else each file begins with its answer: header lines `KEY: value` up to the first empty line,
//!   then the log. A file without a `TITLE` must yield no splat.
//!
//! `--folds N` cross-validates: each fold of the logs is read with those rules switched off that no
//! log outside of the fold needs; once with the families of `machinery.tsv` as the rules, and once
//! with each of their names and patterns. What carries over to logs nobody has seen is those
//! figures, not the fitted one. Below a mark, or if a family is needed by one log only, the exit
//! code is 1; 2 if the folder cannot be read.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use bakeoff::observe::blame::audit;
use bakeoff::observe::{Kind, Splat, parse};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// What a file expects.
#[derive(Default)]
struct Expected {
    title: String,
    alt_titles: Vec<String>,
    kind: Option<String>,
    corrupted: bool,
    panicked: bool,
}

struct Options {
    dir: PathBuf,
    detected: f64,
    kind: f64,
    lockdep: f64,
    title: f64,
    posts: f64,
    folds: Option<usize>,
    half: Option<usize>,
    verbose: bool,
}

#[derive(Default)]
struct Mark {
    hits: usize,
    of: usize,
}

impl Mark {
    fn count(&mut self, hit: bool) {
        self.of += 1;
        self.hits += usize::from(hit);
    }

    fn percent(&self) -> f64 {
        if self.of == 0 {
            return 100.0;
        }
        100.0 * self.hits as f64 / self.of as f64
    }
}

fn main() -> ExitCode {
    let score = |options: Options| {
        if options.dir.join("MANIFEST.tsv").is_file() {
            return posts(&options);
        }
        let passed = score(&options)?;
        let Some(folds) = options.folds else { return Ok(passed) };
        let logs = titled(&options)?;
        let right = |index: usize| {
            let (expected, log): &(Expected, Vec<u8>) = &logs[index];
            parse(log).first().is_some_and(|splat| splat.title == expected.title)
        };
        Ok(honest("title", logs.len(), folds, true, right) && passed)
    };
    match options().and_then(score) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        dir: PathBuf::new(),
        detected: 99.5,
        kind: 99.0,
        lockdep: 95.0,
        title: 92.0,
        posts: 90.0,
        folds: None,
        half: None,
        verbose: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut percent = || -> Result<f64, String> {
            let value = args.next().ok_or(format!("{arg} needs a value"))?;
            value.parse().map_err(|e| format!("{arg} {value}: {e}"))
        };
        match arg.as_str() {
            "--detected" => options.detected = percent()?,
            "--kind" => options.kind = percent()?,
            "--lockdep" => options.lockdep = percent()?,
            "--title" => options.title = percent()?,
            "--posts" => options.posts = percent()?,
            "--folds" => {
                let value = args.next().ok_or("--folds needs a number")?;
                let folds = value.parse().map_err(|e| format!("--folds {value}: {e}"))?;
                if folds < 2 {
                    return Err("--folds takes a number from 2 on".to_owned());
                }
                options.folds = Some(folds);
            }
            "--half" => {
                options.half = match args.next().as_deref() {
                    Some("even") => Some(0),
                    Some("odd") => Some(1),
                    other => return Err(format!("--half is even or odd, not {other:?}")),
                }
            }
            "--verbose" => options.verbose = true,
            dir if !dir.starts_with('-') => options.dir = PathBuf::from(dir),
            other => return Err(format!("unknown option {other}")),
        }
    }
    if options.dir.as_os_str().is_empty() {
        return Err("which folder? Try: score-splats DIR".to_owned());
    }
    Ok(options)
}

fn score(options: &Options) -> Result<bool, String> {
    let files = files(&options.dir)?;
    let mut detected = Mark::default();
    let mut false_splats = 0;
    let mut kind = Mark::default();
    let mut title = Mark::default();
    let mut by_alt = Mark::default();
    let mut corrupted_title = Mark::default();
    let mut locking = Mark::default();
    let mut corrupted = Mark::default();
    let mut panicked = Mark::default();
    let mut logs = Vec::new();
    for (index, path) in files.iter().enumerate() {
        // By number, not by place: a file that is added or missing moves no other to another half.
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let number = stem.parse::<usize>().map_or(index, |number| number / 2);
        if options.half.is_some_and(|half| number % 2 != half) {
            continue;
        }
        let file = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let (expected, log) = take_apart(&file);
        let splats = parse(log);
        logs.push(log.to_vec());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let say = |what: &str, expected: &str, found: &str| {
            if options.verbose {
                println!(
                    "{name:>4} {what:9} expected {expected:?}\n               found    {found:?}"
                );
            }
        };
        let first: Option<&Splat> = splats.first();
        let found = first.map_or("", |splat| splat.title.as_str());
        if expected.title.is_empty() {
            detected.count(first.is_none());
            if first.is_some() {
                false_splats += 1;
                say("false", "", found);
            }
            continue;
        }
        detected.count(first.is_some());
        if first.is_none() {
            say("missed", &expected.title, "");
        }
        let found_kind = first.map_or(Kind::Other, |splat| splat.kind);
        if let Some(expected_kind) = &expected.kind {
            let hit = first.is_some() && found_kind.label() == expected_kind;
            kind.count(hit);
            if !hit {
                say(
                    "kind",
                    &format!("{expected_kind} {}", expected.title),
                    &format!("{} {found}", found_kind.label()),
                );
            }
        } else if first.is_some() && found_kind != Kind::Other && options.verbose {
            println!(
                "{name:>4} no kind   expected {:?}\n               found    {:?}",
                expected.title,
                found_kind.label()
            );
        }
        let exact = found == expected.title;
        let known = exact
            || first.is_some_and(|splat| {
                expected.alt_titles.iter().any(|alt| alt == found)
                    || splat.alt_titles.contains(&expected.title)
            });
        if expected.corrupted {
            corrupted_title.count(exact);
            if !exact {
                say("(title)", &expected.title, found);
            }
        } else {
            title.count(exact);
            by_alt.count(known);
            if matches!(expected.kind.as_deref(), Some("LOCKDEP" | "ATOMIC_SLEEP")) {
                locking.count(exact);
            }
            if !exact {
                say("title", &expected.title, found);
            }
        }
        if let Some(splat) = first {
            corrupted.count(splat.corrupted == expected.corrupted);
            panicked.count(splat.panicked == expected.panicked);
            if options.verbose && splat.corrupted != expected.corrupted {
                println!("{name:>4} corrupted expected {} {found}", expected.corrupted);
            }
            if options.verbose && splat.panicked != expected.panicked {
                println!("{name:>4} panicked  expected {} {found}", expected.panicked);
            }
        }
    }
    let mut passed = true;
    let mut line = |what: &str, mark: &Mark, needed: Option<f64>| {
        let verdict = match needed {
            Some(needed) if mark.percent() < needed => {
                passed = false;
                format!("  below {needed}%")
            }
            Some(needed) => format!("  (mark {needed}%)"),
            None => String::new(),
        };
        println!("{what:34} {:4}/{:<4} {:6.2}%{verdict}", mark.hits, mark.of, mark.percent());
    };
    line("detected", &detected, Some(options.detected));
    line("kind", &kind, Some(options.kind));
    line("title, LOCKDEP and ATOMIC_SLEEP", &locking, Some(options.lockdep));
    line("title, not corrupted", &title, Some(options.title));
    line("title or an alternative", &by_alt, None);
    line("title, corrupted", &corrupted_title, None);
    line("corrupted", &corrupted, None);
    line("panicked", &panicked, None);
    println!("{:34} {false_splats:4}       (mark 0)", "false splats");
    println!("{:34} {}", "speed", speed(&logs));
    Ok(passed && false_splats == 0)
}

/// How fast these logs are read, one after the other. The mark is about CPU time: on a machine that is
/// busy, the clock on the wall measures the others. What it cannot take out is what they do to the
/// caches and to the core's other thread.
fn speed(logs: &[Vec<u8>]) -> String {
    let bytes = logs.iter().map(Vec::len).sum::<usize>() as f64;
    let (started, spent) = (Instant::now(), cpu_seconds());
    let mut passes = 0;
    let (mut wall, mut cpu) = (0.0, None);
    // The kernel accounts in ticks: a second is hundreds of them.
    while passes < 1000 && cpu.unwrap_or(wall) < 1.0 {
        for log in logs {
            std::hint::black_box(parse(log));
        }
        passes += 1;
        wall = started.elapsed().as_secs_f64();
        cpu = spent.and_then(|spent| Some(cpu_seconds()? - spent));
    }
    let rate = |seconds: f64| bytes * f64::from(passes) / 1e6 / seconds;
    let by_wall = format!("{:.1} MB/s of wall time, {passes} passes", rate(wall));
    match cpu {
        Some(cpu) => format!("{:7.1} MB/s of CPU time ({by_wall})", rate(cpu)),
        None => format!("{:7.1} MB/s of wall time ({passes} passes)", rate(wall)),
    }
}

/// The CPU time of this thread, if the kernel keeps account of it.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds: f64 = stat.split(' ').next()?.parse().ok()?;
    (nanoseconds > 0.0).then_some(nanoseconds / 1e9)
}

/// The logs of a folder that a title is expected of.
fn titled(options: &Options) -> Result<Vec<(Expected, Vec<u8>)>, String> {
    let mut logs = Vec::new();
    for path in files(&options.dir)? {
        let file = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let (expected, log) = take_apart(&file);
        if !expected.title.is_empty() && !expected.corrupted {
            logs.push((expected, log.to_vec()));
        }
    }
    Ok(logs)
}

/// How many of `count` logs are read right with those of `rules` switched off that no log of another
/// fold needs; and which logs need each rule. `right` reads the log of that number.
fn cross_validate(
    rules: &[&'static str],
    count: usize,
    folds: usize,
    right: impl Fn(usize) -> bool,
) -> (Mark, BTreeMap<&'static str, BTreeSet<usize>>) {
    let fitted: Vec<bool> = (0..count).map(&right).collect();
    // A rule supports the logs that are right with it and wrong without it.
    let mut support: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for rule in rules {
        audit::without(&BTreeSet::from([*rule]), || {
            let lost = (0..count).filter(|index| fitted[*index] && !right(*index));
            support.insert(*rule, lost.collect());
        });
    }
    let mut honest = Mark::default();
    for fold in 0..folds {
        let held = |index: &usize| index % folds == fold;
        let off: BTreeSet<&str> = support
            .iter()
            .filter(|(_, logs)| !logs.is_empty() && logs.iter().all(held))
            .map(|(rule, _)| *rule)
            .collect();
        audit::without(&off, || {
            (0..count).filter(held).for_each(|index| honest.count(right(index)));
        });
    }
    (honest, support)
}

/// Prints the honest figures beside the fitted one. `false` if a family is there for one log only.
fn honest(
    what: &str,
    count: usize,
    folds: usize,
    single_counts: bool,
    right: impl Fn(usize) -> bool,
) -> bool {
    let families = audit::families();
    let (mark, support) = cross_validate(&families, count, folds, &right);
    let print = |by: &str, mark: &Mark, rules: usize| {
        println!(
            "{:34} {:4}/{:<4} {:6.2}%  ({folds} folds; {rules} {by} of helpers)",
            format!("{what}, cross-validated"),
            mark.hits,
            mark.of,
            mark.percent(),
        );
    };
    print("families", &mark, families.len());
    let functions = audit::functions();
    let (by_function, _) = cross_validate(&functions, count, folds, &right);
    print("names and patterns", &by_function, functions.len());
    let mut single = support.iter().filter(|(_, logs)| logs.len() == 1).peekable();
    if !single_counts || single.peek().is_none() {
        return true;
    }
    for (family, logs) in single {
        println!("{:34} {family:?} decides one log only ({logs:?})", "fault");
    }
    false
}

/// What is expected of a posted log.
#[derive(Default)]
struct Post {
    titles: Vec<String>,
    classes: Vec<String>,
    chain: Vec<String>,
    kind: String,
}

/// `T; U; classes A, B; chain #2 C`, `3 x T`, `T x3`, `T (1 splat)`, `none (why)`.
fn post(titles: &str, kind: &str, listed: Option<&Vec<String>>) -> Post {
    let mut post = Post { kind: kind.to_owned(), ..Post::default() };
    for part in titles.split("; ") {
        let part = part.trim();
        if let Some(classes) = part.strip_prefix("classes ") {
            post.classes = classes.split(", ").map(str::to_owned).collect();
        } else if let Some(link) = part.strip_prefix("chain #") {
            post.chain.extend(link.split_once(' ').map(|(_, class)| class.to_owned()));
        } else if !part.starts_with("none") && !part.starts_with("...") && !part.starts_with("2nd")
        {
            let part = match part.find(" (") {
                Some(at) if part.ends_with("splat)") || part.ends_with("cut)") => &part[..at],
                _ => part,
            };
            let counted = part.split_once(" x ").and_then(|(n, t)| Some((n.parse().ok()?, t)));
            let (count, title): (usize, &str) = counted
                .or_else(|| part.rsplit_once(" x").and_then(|(t, n)| Some((n.parse().ok()?, t))))
                .unwrap_or((1, part));
            post.titles.extend(std::iter::repeat_n(title.to_owned(), count));
        }
    }
    if let Some(listed) = listed {
        post.titles.clone_from(listed);
    }
    post
}

/// Is the log read as expected? Answers with the kind and the titles that were found, if not.
fn as_posted(expected: &Post, log: &[u8]) -> Result<(), (String, Vec<String>)> {
    let splats = parse(log);
    let same = |(expected, found): (&String, &Splat)| {
        let found = found.title.as_str();
        expected == found
            || found == format!("{expected} in corrupted")
            || expected.split('/').next_back().is_some_and(|last| last == found)
    };
    let lockdep = splats.first().and_then(|splat| splat.lockdep.as_ref());
    let has = |wanted: &str| {
        lockdep.is_some_and(|report| report.classes.iter().any(|class| class.name == wanted))
    };
    let linked = |wanted: &String| {
        lockdep.is_some_and(|report| report.chain.iter().any(|link| link.class.name == *wanted))
    };
    let label = splats.first().map_or("-", |splat| match splat.kind.label() {
        "" => "Other",
        label => label,
    });
    let right = splats.len() == expected.titles.len()
        && expected.titles.iter().zip(&splats).all(same)
        && label == expected.kind
        && expected.classes.iter().all(|class| has(class))
        && expected.chain.iter().all(linked);
    if right {
        return Ok(());
    }
    Err((label.to_owned(), splats.into_iter().map(|splat| splat.title).collect()))
}

/// Logs as people post them.
fn posts(options: &Options) -> Result<bool, String> {
    let read = |name: &str| {
        let path = options.dir.join(name);
        std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))
    };
    let manifest = String::from_utf8_lossy(&read("MANIFEST.tsv")?).into_owned();
    let listed: BTreeMap<String, Vec<String>> = match read("expected.json") {
        Ok(json) => serde_json::from_slice(&json).map_err(|e| format!("expected.json: {e}"))?,
        Err(_) => BTreeMap::new(),
    };
    let mut right = Mark::default();
    let mut false_alarms = 0;
    let mut logs = Vec::new();
    for line in manifest.lines().skip(1) {
        let mut fields = line.split('\t');
        let (Some(name), Some(titles), Some(kind)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let expected = post(titles, kind, listed.get(name));
        let log = read(name)?;
        let read = as_posted(&expected, &log);
        right.count(read.is_ok());
        if let Err((label, found)) = read {
            false_alarms += usize::from(expected.titles.is_empty() && !found.is_empty());
            if options.verbose {
                println!(
                    "{name}\n    expected {} {:?}\n    found    {label} {found:?}",
                    expected.kind, expected.titles
                );
            }
        }
        logs.push((expected, log));
    }
    let passed = right.percent() >= options.posts && false_alarms == 0;
    println!(
        "{:34} {:4}/{:<4} {:6.2}%  (mark {}%)",
        "posts read right",
        right.hits,
        right.of,
        right.percent(),
        options.posts
    );
    println!("{:34} {false_alarms:4}       (mark 0)", "false alarms");
    if let Some(folds) = options.folds {
        let right = |index: usize| as_posted(&logs[index].0, &logs[index].1).is_ok();
        honest("posts read right", logs.len(), folds, false, right);
    }
    Ok(passed)
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .collect();
    // By number where the names are numbers, so that halves are the same everywhere.
    files.sort_by_key(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (name.parse::<u64>().unwrap_or(u64::MAX), name)
    });
    if files.is_empty() {
        return Err(format!("{}: no logs", dir.display()));
    }
    Ok(files)
}

/// The header, and the log up to a `REPORT:` section.
fn take_apart(file: &[u8]) -> (Expected, &[u8]) {
    let mut expected = Expected::default();
    let mut rest = file;
    loop {
        let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
        let line = String::from_utf8_lossy(&rest[..end]);
        rest = rest.get(end + 1..).unwrap_or_default();
        let line = line.trim();
        if line.is_empty() {
            break;
        }
        let Some((key, value)) = line.split_once(": ") else {
            continue;
        };
        match key {
            "TITLE" => expected.title = value.to_owned(),
            "ALT" => expected.alt_titles.push(value.to_owned()),
            "TYPE" => expected.kind = Some(value.to_owned()),
            "CORRUPTED" => expected.corrupted = value == "Y",
            "PANICKED" => expected.panicked = value == "Y",
            _ => {}
        }
    }
    let log = match rest.windows(9).position(|w| w == b"\nREPORT:\n") {
        Some(end) => &rest[..end],
        None => rest,
    };
    (expected, log)
}
