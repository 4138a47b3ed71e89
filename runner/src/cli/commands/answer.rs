// SPDX-License-Identifier: MIT OR Apache-2.0
//! `report`: a run's report in a format; for b4 that of a mail's series, for Patchwork
//! also posted.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use super::work::{calibrated, code};
use super::{data, print, series as sources};
use crate::base::command::Cancel;
use crate::base::data::DataDir;
use crate::base::error::{Context, Error, Result, exit_code};
use crate::cli;
use crate::judge;
use crate::judge::report::formats::patchwork::patch_checks;
use crate::judge::report::{CandidateInfo, FORMATS, How, Pick, Report};
use crate::keep::store::{RunJson, Store, read_json};
use crate::series::checks::{Check, Patchwork};
use crate::series::{LONGEST_MAIL, message_id_of};
use crate::spec::Role;

/// The format that takes a mail on standard input.
const B4: &str = "b4-check";
/// The format that can be posted.
const PATCHWORK: &str = "patchwork";
/// Where the right to post is.
const TOKEN: &str = "BAKEOFF_PATCHWORK_TOKEN";
/// How deep below a folder of runs one may lie: `watch` has DIR/<series>/run.
const DEEPEST: usize = 2;

pub fn report(args: &cli::Report, global: &cli::Global) -> Result<u8> {
    let data = data(global)?;
    if args.send && args.format.name != PATCHWORK {
        return Err(Error::bad_input(format!(
            "--send cannot send the format {}",
            args.format.name
        ))
        .hint("give --format patchwork; git send-email sends the format mail"));
    }
    if args.format.name == B4
        && let Some(mail) = mail()?
    {
        return b4(args, &mail, &data);
    }
    let store = Store::open(&args.run)?;
    let run: RunJson = read_json(&store.run_json())?;
    // Many bake-offs have no page: who wants their rows asks for them.
    if run.against_itself.is_some() && args.format.name == FORMATS[0].name && !args.full {
        return calibrated(&store, &data);
    }
    let report = judge::judge(&store, &data)?;
    let picked = args.pick.of(&report)?;
    if args.send {
        return send(args, &picked);
    }
    let how = How { full: args.full, run: Some(store.root()) };
    print(&args.format.render(&picked, &how)?)?;
    Ok(code(&report, args.gate))
}

/// The mail on standard input; `None` if there is nothing.
fn mail() -> Result<Option<Vec<u8>>> {
    if io::stdin().is_terminal() {
        return Ok(None);
    }
    let mut mail = Vec::new();
    let limit = LONGEST_MAIL as u64;
    let read = io::stdin().lock().take(limit + 1).read_to_end(&mut mail);
    read.context(|| "read the mail on standard input".into())?;
    if mail.len() as u64 > limit {
        return Err(Error::bad_input(format!(
            "the mail on standard input has more than {} MB",
            limit >> 20
        )));
    }
    Ok((!mail.trim_ascii().is_empty()).then_some(mail))
}

/// The checks of the series that a mail belongs to. A mail of no series that was tried
/// has none, which b4 shows as nothing.
fn b4(args: &cli::Report, mail: &[u8], data: &DataDir) -> Result<u8> {
    let id = message_id_of(mail).ok_or_else(|| {
        Error::bad_input("the mail on standard input has no Message-ID")
            .hint("b4 gives a check command one; nothing on standard input shows the whole run")
    })?;
    let mut found: Option<(String, Report, PathBuf)> = None;
    for root in runs(&args.run)? {
        let store = Store::open(&root)?;
        // Of other runs in the folder one may be broken: it is not asked for.
        let Ok(report) = judge::judge(&store, data) else { continue };
        let newer = found.as_ref().is_none_or(|(started, ..)| *started < report.run.started);
        if newer && contenders(&report, &id).next().is_some() {
            found = Some((report.run.started.clone(), report, root));
        }
    }
    let Some((_, report, root)) = found else { return print("[]\n") };
    let mut candidates: Vec<String> = contenders(&report, &id).map(|c| c.name.clone()).collect();
    candidates.extend(args.pick.candidates.iter().cloned());
    let how = How { full: args.full, run: Some(&root) };
    let pick = Pick { candidates, ..args.pick.clone() };
    print(&args.format.render(&pick.of(&report)?, &how)?)?;
    Ok(code(&report, args.gate))
}

/// The contenders that a mail belongs to: those whose series it is part of, or all of a
/// bake-off that came from it.
fn contenders<'a>(report: &'a Report, id: &str) -> impl Iterator<Item = &'a CandidateInfo> {
    let thread = report.run.thread.as_ref().is_some_and(|thread| thread.message_id == id);
    let is_its = move |c: &&CandidateInfo, id: &str| match &c.series {
        Some(series) => series.has(id),
        None => thread,
    };
    let id = id.to_owned();
    report
        .run
        .candidates
        .iter()
        .filter(|c| c.role == Role::Contender)
        .filter(move |c| is_its(c, &id))
}

/// A run, or the runs below a folder.
fn runs(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![(dir.to_owned(), 0)];
    while let Some((dir, depth)) = open.pop() {
        if dir.join("run.json").is_file() {
            found.push(dir);
            continue;
        }
        if depth == DEEPEST {
            continue;
        }
        for entry in fs::read_dir(&dir).at_path("read", &dir)? {
            let path = entry.at_path("read", &dir)?.path();
            if path.is_dir() {
                open.push((path, depth + 1));
            }
        }
    }
    if found.is_empty() {
        return Err(Error::bad_input(format!("there is no run in {}", dir.display()))
            .hint("give a run directory, or a folder of runs, such as runs"));
    }
    found.sort();
    Ok(found)
}

/// Posts the checks to Patchwork.
fn send(args: &cli::Report, report: &Report) -> Result<u8> {
    let checks = patch_checks(report);
    if checks.iter().all(|check| check.message_id.is_none()) {
        return Err(Error::bad_input(format!(
            "no contender of {} came as mails, so there is no patch to post to",
            args.run.display()
        ))
        .hint("series come as mails from a message id, an archive, Patchwork or an mbox"));
    }
    let token = std::env::var(TOKEN).ok().filter(|token| !token.trim().is_empty());
    let token = token.ok_or_else(|| {
        Error::bad_input(format!("there is no token: ${TOKEN} is not set"))
            .hint("Patchwork's user page has it; without --send the checks are only shown")
    })?;
    let timeout = 60;
    let net = sources::net(&[], args.patchwork.clone(), timeout);
    let (patchwork, cancel) = (Patchwork::new(&net, &token)?, Cancel::new());
    // Every patch is looked up before the first check is posted.
    let mut numbers: BTreeMap<&str, u64> = BTreeMap::new();
    for id in checks.iter().filter_map(|check| check.message_id.as_deref()) {
        if !numbers.contains_key(id) {
            numbers.insert(id, patchwork.patch(id, &cancel)?);
        }
    }
    for check in &checks {
        let number = check.message_id.as_deref().and_then(|id| numbers.get(id));
        let Some(number) = number else {
            print(&format!("not posted, it did not come as mails: {}\n", check.context))?;
            continue;
        };
        patchwork.post(
            *number,
            &Check {
                state: check.state,
                context: &check.context,
                description: &check.description,
                target_url: args.link.as_deref(),
            },
        )?;
        print(&format!("posted to patch {number}: {} {}\n", check.context, check.state))?;
    }
    Ok(exit_code::OK)
}
