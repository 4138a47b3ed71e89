// SPDX-License-Identifier: MIT OR Apache-2.0
//! `series show`, `series fetch`, and the series that `run --series` adds.

use std::path::PathBuf;
use std::time::Duration;

use crate::base::error::{Context, Error, Result};
use crate::base::event::Stage;
use crate::cli;
use crate::cli::commands::{Desk, print};
use crate::cli::{SeriesCommand, SeriesFormat};
use crate::series::{self, Net, Series, Versions, Wanted};

pub(super) fn series(args: &cli::Series, desk: &Desk) -> Result<u8> {
    match &args.command {
        SeriesCommand::Show(args) => show(args, desk),
        SeriesCommand::Fetch(args) => fetch(args, desk),
    }
}

pub(super) fn read(source: &str, choice: &cli::Choice, desk: &Desk) -> Result<Vec<Series>> {
    let cli::Choice { message_id, version, versions, trailers, tree, server, patchwork, timeout } =
        choice.clone();
    let versions = match (version, versions) {
        (Some(number), _) => Versions::One(number),
        (None, true) => Versions::All,
        (None, false) => Versions::Newest,
    };
    let id = |id: String| id.trim_start_matches('<').trim_end_matches('>').to_owned();
    let wanted = Wanted { message_id: message_id.map(id), versions, trailers, trees: tree };
    let net = net(&server, patchwork, timeout);
    series::read(source, &wanted, &net, &desk.cancel)
}

/// The servers of the options, else of the environment, else the kernel's.
pub(super) fn net(server: &[String], patchwork: Option<String>, timeout: u64) -> Net {
    let mut net = Net { timeout: Duration::from_secs(timeout), ..Net::default() };
    let named = std::env::var("BAKEOFF_ARCHIVE").unwrap_or_default();
    let archives: Vec<String> = if server.is_empty() {
        named.split_whitespace().map(str::to_owned).collect()
    } else {
        server.to_vec()
    };
    if !archives.is_empty() {
        net.archives = archives;
    }
    if let Some(url) = patchwork.or_else(|| std::env::var("BAKEOFF_PATCHWORK").ok()) {
        net.patchwork = url;
    }
    net
}

fn show(args: &cli::Show, desk: &Desk) -> Result<u8> {
    let all = read(&args.source, &args.choice, desk)?;
    let text = match args.format {
        SeriesFormat::Text => all.iter().map(Series::to_string).collect::<Vec<_>>().join("\n"),
        SeriesFormat::Json => {
            let mut values: Vec<serde_json::Value> = all.iter().map(Series::json).collect();
            let value = match (args.choice.versions, values.len()) {
                (false, 1) => values.remove(0),
                _ => serde_json::Value::Array(values),
            };
            let text = serde_json::to_string_pretty(&value);
            text.context(|| "write the series as JSON".into())? + "\n"
        }
    };
    let code = print(&text)?;
    all.iter().try_for_each(Series::require_whole)?;
    Ok(code)
}

fn fetch(args: &cli::Fetch, desk: &Desk) -> Result<u8> {
    let all = read(&args.source, &args.choice, desk)?;
    let mut text = String::new();
    if args.choice.versions {
        series::write_all(&all, &args.out)?;
    } else {
        for series in &all {
            series::write(series, &args.out)?;
        }
    }
    for series in &all {
        text.push_str(&format!(
            "v{}: {} of {} patches written to {}\n",
            series.version,
            series.patches.len(),
            series.expected,
            args.out.display()
        ));
    }
    let code = print(&text)?;
    all.iter().try_for_each(Series::require_whole)?;
    Ok(code)
}

/// The folders of `--series`, each named as its contender will be. They live as
/// long as the first value, which is until the run has its own copies.
pub(super) fn contenders(
    sources: &[String],
    choice: &cli::Choice,
    desk: &Desk,
) -> Result<Option<(tempfile::TempDir, Vec<PathBuf>)>> {
    if sources.is_empty() {
        return Ok(None);
    }
    let aside = tempfile::tempdir().context(|| "make a temporary folder".into())?;
    let mut dirs: Vec<PathBuf> = Vec::new();
    for source in sources {
        for series in read(source, choice, desk)? {
            series.require_whole()?;
            let dir = aside.path().join(series.name());
            if dirs.contains(&dir) {
                return Err(Error::bad_input(format!(
                    "two --series are v{} of \u{201c}{}\u{201d}",
                    series.version, series.subject
                ))
                .hint("give each series once; --versions adds all versions of one"));
            }
            series::write(&series, &dir)?;
            let task = desk.events.start(Stage::Fetch, series.name(), None);
            task.finish(format!(
                "v{} of \u{201c}{}\u{201d}, {} of {} patches; base: {}",
                series.version,
                series.subject,
                series.patches.len(),
                series.expected,
                series.base.describe().replace('\n', "; ")
            ));
            dirs.push(dir);
        }
    }
    Ok(Some((aside, dirs)))
}
