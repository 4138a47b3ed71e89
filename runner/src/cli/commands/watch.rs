// SPDX-License-Identifier: MIT OR Apache-2.0
//! `watch`: the new series of a list or of a Patchwork project, one call after the other.
//!
//! The folder is the memory: a series whose folder has a `status.txt` was tried, and one
//! that makes bakeoff fail is not tried for ever. What was interrupted goes on.

use std::fs;
use std::path::Path;

use super::trial::{Job, RUN};
use super::{Desk, print, series as sources};
use crate::base::error::{Context, Kind as ErrorKind, Result, exit_code};
use crate::cli;
use crate::keep::store::{Store, write_whole};
use crate::run::Request;
use crate::series::{self, Recent, Series, Wanted, folder_name};
use crate::spec::plan::Selection;

/// How a series ended.
const STATUS: &str = "status.txt";

pub fn watch(args: &cli::Watch, desk: &Desk) -> Result<u8> {
    let mut net = sources::net(&[], args.patchwork.clone(), args.timeout);
    let after = jiff::Timestamp::now()
        .checked_sub(jiff::SignedDuration::try_from(args.since).unwrap_or_default())
        .unwrap_or(jiff::Timestamp::MIN);
    let Recent { archive, found } = series::recent(&args.place, after, &net, &desk.cancel)?;
    net.archives = archive.into_iter().chain(net.archives).collect();
    let wanted = Wanted { trees: args.tree.clone(), ..Wanted::default() };
    let mut passing = Passing { args, desk, text: String::new(), worst: exit_code::OK };
    let mut tried = 0;
    for sent in found {
        if tried >= args.most {
            break;
        }
        desk.cancel.check()?;
        let place = args.out.join(&sent.name);
        if place.join(STATUS).is_file() {
            continue;
        }
        // What was interrupted goes on.
        if place.join(RUN).join("run.json").is_file() && !args.dry_run {
            tried += 1;
            let store = Store::open(&place.join(RUN))?;
            passing.note(&place, &sent.subject, |job| job.go_on(&store, desk))?;
            continue;
        }
        // A thread that is no series, or not whole yet, is left for the next time.
        let read = series::read(&sent.source, &wanted, &net, &desk.cancel);
        let whole = read.and_then(|all| {
            all.iter().try_for_each(Series::require_whole)?;
            Ok(all)
        });
        let all = match whole {
            Ok(all) => all,
            Err(error) if error.kind() == ErrorKind::BadInput => {
                desk.events.warning(format!("{}: {}", sent.subject, error.chain()));
                continue;
            }
            Err(error) => return Err(error),
        };
        let touches = |series: &Series| {
            args.touches.is_empty()
                || series.paths.iter().any(|path| args.touches.iter().any(|t| path.starts_with(t)))
        };
        // The newest version of a thread may be another mail's.
        let Some(head) = all.first().filter(|series| touches(series)) else { continue };
        let place = args.out.join(folder_name(&head.message_id));
        if place.join(STATUS).is_file() {
            continue;
        }
        tried += 1;
        if args.dry_run {
            let name = folder_name(&head.message_id);
            passing.text.push_str(&format!("{name}  {}\n", sent.subject));
            continue;
        }
        passing.note(&place, &sent.subject, |job| {
            job.of_series(all, args.base.as_deref(), false, desk)
        })?;
    }
    if tried == 0 {
        passing.text.push_str(&format!("nothing new in {}\n", args.place));
    }
    print(&passing.text)?;
    Ok(passing.worst)
}

/// One call.
struct Passing<'a> {
    args: &'a cli::Watch,
    desk: &'a Desk,
    text: String,
    /// The exit code so far: one series that cannot be tried does not stop the others.
    worst: u8,
}

impl Passing<'_> {
    /// Does a job in its folder and notes there how it ended.
    fn note(
        &mut self,
        place: &Path,
        subject: &str,
        work: impl FnOnce(Job) -> Result<u8>,
    ) -> Result<()> {
        fs::create_dir_all(place).at_path("create", place)?;
        let job = Job {
            out: place.to_owned(),
            request: Request {
                selection: Selection {
                    archs: self.args.arch.clone(),
                    budget: Some(self.args.budget),
                    ..Selection::default()
                },
                out: Some(place.join(RUN)),
                seed: 1,
                ..Request::default()
            },
            machinery: self.args.machinery.clone(),
            say: false,
        };
        let said = match work(job) {
            Ok(code) => format!("exit code {code}\n"),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                self.worst = exit_code::FAILURE;
                self.desk.events.warning(format!("{subject}: {}", error.chain()));
                format!("exit code {}\n{}\n", error.kind().exit_code(), error.chain())
            }
        };
        write_whole(&place.join(STATUS), said.as_bytes())?;
        self.text.push_str(&format!("{}\n", place.display()));
        Ok(())
    }
}
