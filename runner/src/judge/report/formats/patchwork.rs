// SPDX-License-Identifier: MIT OR Apache-2.0
//! The checks of a Patchwork patch, as its REST API takes them: one for each contender,
//! base and architecture. Writing them down sends nothing.

use serde::Serialize;

use super::{State, checks, line, pretty, slug};
use crate::base::error::Result;
use crate::judge::report::Report;

/// The longest description that Patchwork's pages show on one line.
const LONGEST: usize = 200;
/// The longest context that Patchwork takes.
const LONGEST_CONTEXT: usize = 255;

/// A check, as Patchwork takes it, and the mail of the patch it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PatchCheck {
    /// Of the last patch: what was tested is the tree after it. `null`: the contender did
    /// not come as mails, and nobody can say which patch it is.
    pub(crate) message_id: Option<String>,
    /// `success`, `warning`, `fail` or `pending`.
    pub(crate) state: &'static str,
    /// Names the check; a later one of the same name replaces it.
    pub(crate) context: String,
    /// One line.
    pub(crate) description: String,
}

pub(in super::super) fn render(report: &Report) -> Result<String> {
    pretty(&patch_checks(report), "Patchwork checks")
}

/// The checks of a report.
pub(crate) fn patch_checks(report: &Report) -> Vec<PatchCheck> {
    let mut all = Vec::new();
    let checks = checks(report);
    for check in checks.iter().filter(|check| check.kind == "verdict") {
        let place = check.place;
        let (state, why) = match check.state {
            State::Pass => ("success", "nothing found"),
            State::Fail => ("fail", "got worse"),
            State::Skip | State::Error => ("warning", "not decided"),
            State::Miss => ("pending", "not done"),
        };
        let candidate = report.run.candidates.iter().find(|c| c.name == place.candidate);
        let series = candidate.and_then(|c| c.series.as_ref()).filter(|series| series.is_mail());
        let last = series.and_then(|series| series.patches.last());
        // A patch has a context for each base and architecture, whatever the contender is
        // called in this run.
        let context = match last {
            Some(_) => format!("bakeoff-{}-{}", place.base, place.arch),
            None => format!("bakeoff-{}-{}-{}", place.candidate, place.base, place.arch),
        };
        all.push(PatchCheck {
            message_id: last.map(|patch| patch.message_id.clone()),
            state,
            context: slug(&context).chars().take(LONGEST_CONTEXT).collect(),
            description: shortened(&line(&format!("{why}: {}", check.message))),
        });
    }
    all
}

/// At most so long, cut between words.
fn shortened(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    let cut: String = text.chars().take(LONGEST - 4).collect();
    let whole = cut.rsplit_once(' ').map_or(cut.as_str(), |(whole, _)| whole);
    format!("{} ...", whole.trim_end_matches([';', ',', ':']))
}
