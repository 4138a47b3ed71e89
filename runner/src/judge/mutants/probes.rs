// SPDX-License-Identifier: MIT OR Apache-2.0
//! Planted bugs and the probes: a bake-off in which each of them is a contender.
//!
//! Found is one that a maintainer would be told of: whose verdict against the
//! reference is *not ok*. Probes are judged by the same rules as in any run.

use std::fs;
use std::path::Path;

use super::Mutant;
use crate::base::error::{Context, Result};
use crate::judge;
use crate::judge::row::Verdict;
use crate::judge::steer::Steer;
use crate::run::{self, Machinery, Request, Tools};
use crate::spec::Role;
use crate::spec::plan::Selection;

/// The profiles that are run: reports and what user space gets.
const PROFILES: [&str; 1] = ["lockdep"];

/// Runs the quick part of a bake-off on a kernel of each mutant, with its folder in
/// `out`. In their order, what was said of each that is worse than the reference.
///
/// # Errors
/// What is ours.
pub(super) fn run(
    spec: &Path,
    arch: &str,
    mutants: &[&Mutant],
    out: &Path,
    machinery: &Machinery,
    tools: &Tools<'_>,
) -> Result<Vec<Option<String>>> {
    let mut add = Vec::new();
    for mutant in mutants {
        let dir = out.join("series").join(&mutant.name);
        fs::create_dir_all(&dir).at_path("create", &dir)?;
        let to = dir.join(format!("0001-{}.patch", mutant.name));
        fs::copy(&mutant.patch, &to).at_path("write", &to)?;
        add.push(dir);
    }
    let request = Request {
        spec: spec.to_owned(),
        selection: Selection {
            archs: vec![arch.to_owned()],
            candidates: mutants.iter().map(|mutant| mutant.name.clone()).collect(),
            profiles: PROFILES.map(str::to_owned).to_vec(),
            quick: true,
            ..Selection::default()
        },
        add,
        out: Some(out.join("run")),
        seed: 1,
        ..Request::default()
    };
    let store = run::begin(&request, machinery, tools)?;
    let steer = Steer { store: &store, data: tools.data, events: tools.events, decide: false };
    run::carry_out(&store, machinery, tools, &steer, &|_| Ok(()))?;
    let report = judge::judge(&store, tools.data)?;
    judge::write(&store, &report)?;
    let said = |mutant: &&Mutant| {
        let row = report.verdicts.iter().find(|row| {
            row.role == Role::Contender
                && row.place.candidate == mutant.name
                && row.verdict == Verdict::NotOk
        })?;
        Some(row.because.first().cloned().unwrap_or_default())
    };
    Ok(mutants.iter().map(said).collect())
}
