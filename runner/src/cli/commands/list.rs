// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bakeoff list`: what there is to run, and what was run.

use std::path::{Path, PathBuf};

use crate::base::error::Result;
use crate::base::words::word;
use crate::keep::store::{RunJson, Store, read_json};
use crate::spec::{FILE_NAME, Series, Spec, folders_with};

use crate::cli::commands::{data, print};
use crate::cli::{Global, List, Listed};

pub fn list(args: &List, global: &Global) -> Result<u8> {
    let text = match args.what {
        None => [
            ("specs", specs(&dir(args, "patches"), global)?),
            ("probes", probes()),
            ("runs", runs(&dir(args, "runs"))),
        ]
        .map(|(title, text)| format!("{title}:\n{text}"))
        .concat(),
        Some(Listed::Specs) => specs(&dir(args, "patches"), global)?,
        Some(Listed::Candidates) => candidates(&dir(args, "patches"), global)?,
        Some(Listed::Probes) => probes(),
        Some(Listed::Runs) => runs(&dir(args, "runs")),
    };
    print(&text)
}

fn dir(args: &List, default: &str) -> PathBuf {
    args.dir.clone().unwrap_or_else(|| default.into())
}

fn none_in(dir: &Path, what: &str) -> String {
    format!("  no {what} in {}\n", dir.display())
}

fn specs(dir: &Path, global: &Global) -> Result<String> {
    let data = data(global)?;
    let mut text = String::new();
    for folder in folders_with(dir, FILE_NAME) {
        match Spec::load(&folder, &data) {
            Ok(spec) => text.push_str(&format!("  {:<28} {}\n", folder.display(), spec.title)),
            Err(error) => text.push_str(&format!("  {:<28} broken: {error}\n", folder.display())),
        }
    }
    Ok(if text.is_empty() { none_in(dir, "bake-off") } else { text })
}

fn candidates(dir: &Path, global: &Global) -> Result<String> {
    let data = data(global)?;
    let mut text = String::new();
    for folder in folders_with(dir, FILE_NAME) {
        let spec = Spec::load(&folder, &data)?;
        for candidate in &spec.candidates {
            let role = word(candidate.role);
            text.push_str(&format!("  {:<18} {role:<16} {}\n", candidate.name, candidate.title));
            for (base, series) in &candidate.on {
                let what = match series {
                    Series::Stock => "the stock tree".to_owned(),
                    Series::NotPortable(reason) => format!("not portable: {reason}"),
                    Series::Patches(patches) => {
                        let names = patches.iter().filter_map(|patch| patch.file_name());
                        names.map(|n| n.to_string_lossy()).collect::<Vec<_>>().join(", ")
                    }
                };
                text.push_str(&format!("  {:<18} on {base}: {what}\n", ""));
            }
        }
    }
    Ok(if text.is_empty() { none_in(dir, "bake-off") } else { text })
}

fn probes() -> String {
    let mut text = String::new();
    for probe in crate::spec::plan::PROBES {
        text.push_str(&format!("  {:<12} {}\n", probe.name, probe.doc));
        for param in probe.params {
            text.push_str(&format!("    {:<24} {}: {}\n", param.name, param.means, param.takes));
        }
        for metric in probe.metrics {
            text.push_str(&format!("    {:<24} {}\n", metric.name, metric.means));
        }
    }
    text
}

fn runs(dir: &Path) -> String {
    let mut text = String::new();
    for folder in folders_with(dir, "run.json") {
        let state = Store::open(&folder).and_then(|store| {
            let run: RunJson = read_json(&store.run_json())?;
            Ok((store.derived("report.json").is_file(), run))
        });
        text.push_str(&match state {
            Ok((complete, run)) => format!(
                "  {:<40} {} {}, {} cells{}\n",
                folder.display(),
                run.bakeoff,
                run.started,
                run.plan.cells.len(),
                if complete { "" } else { ", not complete: `bakeoff resume` goes on" }
            ),
            Err(error) => format!("  {:<40} broken: {error}\n", folder.display()),
        });
    }
    if text.is_empty() { none_in(dir, "run") } else { text }
}
