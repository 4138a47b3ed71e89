// SPDX-License-Identifier: MIT OR Apache-2.0
//! The checks of a Patchwork patch, as its REST API takes them: one for each contender,
//! base and architecture. Writing them down sends nothing.

use serde_json::{Value, json};

use super::{State, checks, line, pretty, slug};
use crate::base::error::Result;
use crate::judge::report::Report;

/// The longest description that Patchwork's pages show on one line.
const LONGEST: usize = 250;

pub(in super::super) fn render(report: &Report) -> Result<String> {
    let mut all: Vec<Value> = Vec::new();
    for check in checks(report).iter().filter(|check| check.kind == "verdict") {
        let place = check.place;
        let state = match check.state {
            State::Pass => "success",
            State::Fail => "fail",
            State::Skip | State::Error => "warning",
            State::Miss => "pending",
        };
        let why = match check.state {
            State::Pass => "nothing found",
            State::Fail => "",
            State::Skip | State::Error | State::Miss => "not decided",
        };
        let words = line(&format!("{why} {}", check.message));
        all.push(json!({
            "state": state,
            "context": slug(&format!("bakeoff-{}-{}-{}", place.candidate, place.base, place.arch)),
            "description": words.chars().take(LONGEST).collect::<String>(),
        }));
    }
    pretty(&all, "Patchwork checks")
}
