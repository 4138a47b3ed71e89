// SPDX-License-Identifier: MIT OR Apache-2.0
//! `fuzz`, `replay` and `minimize`: what is done with fuzz programs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::base::error::{Context, Error, Result};
use crate::base::words::did_you_mean;
use crate::fuzz::bench::{Bench, Subject};
use crate::fuzz::reproduce::{self, Effort};
use crate::fuzz::{
    self, Campaign, across, campaign, corpus, distill, reach, replay as again, uapi,
};
use crate::judge::mutants;
use crate::keep::store::write_json;
use crate::make::source::{self, Fetch};
use crate::run::Tools;
use crate::spec::{Role, Spec};
use bakeoff_fuzz::program::text;

use crate::cli::commands::work::{ensure, machinery};
use crate::cli::commands::{Desk, print};
use crate::cli::{self, Distill, Fuzz, OnKernel, SplatFormat};

fn folder(out: Option<&PathBuf>, what: &str) -> Result<PathBuf> {
    let out = out.cloned().unwrap_or_else(|| {
        let now = jiff::Timestamp::now();
        Path::new("runs").join(format!("{what}-{}", now.strftime("%Y%m%dT%H%M%SZ")))
    });
    fs::create_dir_all(&out).at_path("create", &out)?;
    Ok(out)
}

fn subject(spec: &Path, on: &OnKernel) -> Subject {
    let OnKernel { candidate, arch, profile, out: _, patch, machinery: _ } = on;
    Subject {
        spec: spec.to_owned(),
        base: None,
        candidate: candidate.clone(),
        arch: arch.clone(),
        profile: profile.clone(),
        extra: patch.clone(),
    }
}

fn bench(spec: &Path, on: &OnKernel, out: &Path, desk: &Desk) -> Result<Bench> {
    ensure(
        std::slice::from_ref(&on.arch),
        std::slice::from_ref(&on.profile),
        on.machinery.yes,
        desk,
    )?;
    let (subject, machinery) = (subject(spec, on), machinery(&on.machinery));
    Bench::prepare(&subject, &machinery, &out.join("build.log"), &desk.tools())
}

pub fn fuzz(args: &Fuzz, desk: &Desk) -> Result<u8> {
    let out = folder(args.on.out.as_ref(), "fuzz")?;
    let bench = bench(&args.spec, &args.on, &out, desk)?;
    desk.events.note(format!("folder: {}", out.display()));
    let campaign = Campaign {
        seconds: args.time,
        seed: args.seed,
        out,
        corpus: args.corpus.clone(),
        seeds: match (&args.seeds, args.empty) {
            (Some(seeds), _) => Some(seeds.clone()),
            (None, true) => None,
            (None, false) => Some(seeds(&args.spec)),
        },
        until_finding: args.until_finding,
    };
    let root = campaign.out.clone();
    let mut summary = fuzz::fuzz(&bench, &campaign, &desk.tools())?;
    let mut others = Vec::new();
    if !summary.findings.is_empty() {
        // What another candidate's kernel shows is a patch's only if the reference does not.
        let spec = Spec::load(&args.spec, desk.tools().data)?;
        let reference = spec.candidates.iter().find(|c| c.role == Role::Reference);
        let reference = reference.map(|candidate| candidate.name.clone());
        let patched = reference.as_ref() != Some(&args.on.candidate) || !args.on.patch.is_empty();
        let also = reference.filter(|name| patched && !args.also.contains(name));
        for name in also.iter().chain(&args.also) {
            let on = OnKernel { candidate: name.clone(), patch: Vec::new(), ..args.on.clone() };
            others.push(self::bench(&args.spec, &on, &root, desk)?);
        }
    }
    summary.findings.sort_by_key(|finding| (finding.secondary, finding.boot, finding.at));
    let first = summary.findings.iter_mut().filter(|finding| !finding.secondary);
    for finding in first.take(args.pursue) {
        reproduce::pursue(&bench, &others, finding, effort(args.effort), &root, &desk.tools())?;
    }
    write_json(&root.join("summary.json"), &summary)?;
    print(&match args.format {
        SplatFormat::Text => summary.text(),
        SplatFormat::Json => json_line(&summary)?,
    })
}

fn effort(typed: cli::Effort) -> Effort {
    let cli::Effort { again, trials, repeat } = typed;
    Effort { boots: again, trials, repeat }
}

/// The programs that come with a bake-off.
fn seeds(spec: &Path) -> PathBuf {
    let folder = if spec.is_dir() { spec } else { spec.parent().unwrap_or(spec) };
    folder.join("corpus")
}

/// The programs of files and folders.
fn programs_of(paths: &[PathBuf], tools: &Tools<'_>) -> Result<Vec<String>> {
    let mut programs = Vec::new();
    for path in paths {
        if path.is_dir() {
            programs.extend(campaign::read_programs(path, tools)?);
        } else if path.exists() {
            programs.push(read(path)?);
        } else {
            return Err(Error::bad_input(format!("no file or folder {}", path.display())).hint(
                "a campaign keeps its programs in OUT/corpus, a finding's are in OUT/findings",
            ));
        }
    }
    Ok(programs)
}

pub fn uapi(args: &cli::Uapi, desk: &Desk) -> Result<u8> {
    let tools = desk.tools();
    let spec = Spec::load(&args.spec, tools.data)?;
    let base = match &args.base {
        None => spec.bases.first(),
        Some(name) => spec.bases.iter().find(|base| base.name == *name),
    };
    let base = base.ok_or_else(|| {
        let names = spec.bases.iter().map(|base| base.name.as_str());
        let name = args.base.clone().unwrap_or_default();
        Error::bad_input(format!("the spec has no base `{name}`")).hint(did_you_mean(&name, names))
    })?;
    let fetch = Fetch::default();
    let tree = source::obtain(&base.source, &fetch, tools.cache, tools.events, tools.cancel)?;
    let names = uapi::names(&tree.dir)?;
    if args.names {
        return print(&(names.join("\n") + "\n"));
    }
    let explained = uapi::explain(&names);
    let mut text = explained.text();
    if args.gaps {
        for (name, why) in &explained.gaps {
            text.push_str(&format!("{name}: {why}\n"));
        }
    }
    let code = print(&text)?;
    let unexplained = explained.unexplained;
    match unexplained.first() {
        None => Ok(code),
        Some(first) => Err(Error::bad_input(format!(
            "the base has {} values that the table does not explain; the first is {first}",
            unexplained.len()
        ))
        .hint("add rows to fuzz/uapi/table.tsv: an operation, or why there is none")),
    }
}

pub fn distill(args: &Distill, desk: &Desk) -> Result<u8> {
    let out = folder(args.on.out.as_ref(), "distill")?;
    let tools = desk.tools();
    let programs = programs_of(&args.programs, &tools)?;
    let bench = bench(&args.spec, &args.on, &out, desk)?;
    let distilled = distill::distill(&bench, &programs, args.most, &out, &tools)?;
    fs::create_dir_all(&args.into).at_path("create", &args.into)?;
    for program in &distilled.programs {
        let path = args.into.join(corpus::name(program));
        fs::write(&path, program).at_path("write", &path)?;
    }
    print(&distilled.text())
}

fn json_line(value: &impl serde::Serialize) -> Result<String> {
    let line = serde_json::to_string(value).context(|| "write the answer".into())?;
    Ok(format!("{line}\n"))
}

pub fn replay(args: &cli::Replay, desk: &Desk) -> Result<u8> {
    let out = folder(args.on.out.as_ref(), "replay")?;
    let tools = desk.tools();
    let programs = vec![programs_of(&args.programs, &tools)?; args.repeat.max(1)].concat();
    let one = |on: &OnKernel, name: &str| {
        let out = out.join(name);
        fs::create_dir_all(&out).at_path("create", &out)?;
        let bench = bench(&args.spec, on, &out, desk)?;
        again::replay(&bench, &programs, args.boots, &out, &tools)
    };
    let replay = one(&args.on, &args.on.candidate)?;
    if let Some(name) = &args.against {
        let on = OnKernel { candidate: name.clone(), patch: Vec::new(), ..args.on.clone() };
        let reference = one(&on, &format!("against-{name}"))?;
        let across = across::compare(&reference, &replay);
        return print(&match args.format {
            SplatFormat::Json => json_line(&across)?,
            SplatFormat::Text => across.text(),
        });
    }
    if args.operations {
        return print(&reach::table(&replay.operations, &replay.cell));
    }
    print(&match args.format {
        SplatFormat::Json => json_line(&replay)?,
        SplatFormat::Text => {
            let mut text = format!("{}: {} boots\n", replay.cell, replay.boots.len());
            for boot in &replay.boots {
                text.push_str(&format!("  {}, {} programs", boot.end, boot.replayed.len()));
                for program in &boot.ended_by {
                    text.push_str(&format!("; program {program} ended a guest"));
                }
                text.push('\n');
            }
            for (fingerprint, again) in &replay.reproduced {
                let (low, high) = again.interval.unwrap_or((0.0, 1.0));
                text.push_str(&format!(
                    "{fingerprint} {}: in {} of {} boots ({low:.2} to {high:.2})\n",
                    again.title, again.boots, again.of
                ));
            }
            if replay.reproduced.is_empty() {
                text.push_str("no report\n");
            }
            text
        }
    })
}

pub fn minimize(args: &cli::Minimize, desk: &Desk) -> Result<u8> {
    let out = folder(args.on.out.as_ref(), "minimize")?;
    let written = read(&args.program)?;
    let program = text::read(written.as_bytes())
        .map_err(|why| Error::bad_input(format!("{}: {why}", args.program.display())))?;
    let bench = bench(&args.spec, &args.on, &out, desk)?;
    let wanted = args.fingerprint.as_deref();
    let effort = effort(args.effort);
    let smaller = reproduce::minimize(&bench, &program, wanted, effort, &out, &desk.tools())?;
    let more = if smaller.smallest { "" } else { "; more boots may make it smaller yet" };
    desk.events.note(format!(
        "{} of {} operations, after {} boots; {} stayed{more}",
        smaller.ops.0, smaller.ops.1, smaller.boots, smaller.fingerprint
    ));
    print(&smaller.program)
}

pub fn mutants(args: &cli::Mutants, desk: &Desk) -> Result<u8> {
    let out = folder(args.on.out.as_ref(), "mutants")?;
    let mut mutants = mutants::read(&args.mutants)?;
    if let Some(name) = args.only.iter().find(|name| mutants.iter().all(|m| m.name != **name)) {
        let names = mutants.iter().map(|mutant| mutant.name.as_str());
        let at = args.mutants.display();
        return Err(Error::bad_input(format!("no planted bug `{name}` in {at}"))
            .hint(did_you_mean(name, names)));
    }
    mutants.retain(|mutant| args.only.is_empty() || args.only.contains(&mutant.name));
    ensure(
        std::slice::from_ref(&args.on.arch),
        std::slice::from_ref(&args.on.profile),
        args.on.machinery.yes,
        desk,
    )?;
    let campaign = Campaign {
        seconds: args.time,
        seed: args.seed,
        out,
        corpus: None,
        seeds: Some(seeds(&args.spec)),
        until_finding: true,
    };
    let subject = subject(&args.spec, &args.on);
    let machinery = machinery(&args.on.machinery);
    let tools = desk.tools();
    // What took long to find out must not be lost with what comes after it.
    let kept = campaign.out.join("mutants.json");
    let mut so_far = Vec::new();
    let mut rows = mutants::run(&subject, &mutants, &campaign, &machinery, &tools, |row| {
        desk.events.note(line(row));
        so_far.push(row.clone());
        write_json(&kept, &so_far)
    })?;
    if args.probes {
        let out = &campaign.out;
        mutants::run_probes(&subject, &mutants, out, &machinery, &tools, &mut rows)?;
        write_json(&kept, &rows)?;
    }
    print(&match args.format {
        SplatFormat::Json => json_line(&rows)?,
        SplatFormat::Text => {
            let counted: Vec<_> = rows.iter().filter(|row| row.counts).collect();
            let found = counted.iter().filter(|row| !row.found.is_empty()).count();
            let in_all = counted.iter().filter(|row| row.is_found()).count();
            let mut text: String = rows.iter().map(|row| line(row) + "\n").collect();
            for class in mutants::classes(&rows).into_iter().filter(|class| class.planted > 0) {
                let mutants::Class { what, planted, tried, found, in_all } = class;
                text.push_str(&format!("{what}: {found} of {tried} tried, {planted} planted"));
                text.push_str(&if args.probes {
                    format!("; with the probes {in_all}\n")
                } else {
                    "\n".to_owned()
                });
            }
            text.push_str(&format!("{found} of {} counted ones found by fuzzing\n", counted.len()));
            if args.probes {
                let counted = counted.len();
                text.push_str(&format!("{in_all} of {counted} by fuzzing or the probes\n"));
            }
            text
        }
    })
}

/// A mutant's row, for people.
fn line(row: &mutants::Row) -> String {
    let by = match row.by {
        None | Some(mutants::By::Report) => "",
        Some(mutants::By::Leak) => "leak: ",
        Some(mutants::By::Replay) => "by replay: ",
    };
    let (reached, patched) = row.reached;
    let outcome = match (&row.not_tried, row.found.first(), row.seconds) {
        (Some(why), ..) => format!("not tried: {why}"),
        (None, Some(title), Some(seconds)) => {
            let numbers = row.confirmed.map_or(String::new(), |c| format!(" ({})", c.text()));
            let more = match row.untried {
                0 => String::new(),
                more => format!("; {more} more, not tried again"),
            };
            format!("found after {seconds:.0} s: {by}{title}{numbers}{more}")
        }
        (None, Some(title), None) => format!("reports {title}"),
        // The kernel without a planted bug has nothing to reach.
        (None, None, _) if patched == 0 => format!("nothing found in {} programs", row.execs),
        (None, None, _) => format!(
            "nothing found in {} programs; {reached} of {patched} patched functions reached",
            row.execs
        ),
    };
    let probes = match row.probes.as_deref() {
        None => String::new(),
        Some(why) => format!("\n{:<43} probes: {why}", ""),
    };
    let unconfirmed: String =
        row.unconfirmed.iter().map(|what| format!("\n{:<43} not counted: {what}", "")).collect();
    format!("{:<30} {:<12} {outcome}{unconfirmed}{probes}", row.name, row.shows_as)
}

/// A program's text, checked.
fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).at_path("read", path)?;
    text::read(&bytes)
        .map(|program| text::write(&program))
        .map_err(|why| Error::bad_input(format!("{}: {why}", path.display())))
}
