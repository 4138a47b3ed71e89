// SPDX-License-Identifier: MIT OR Apache-2.0
//! A part of a report: some claims, conditions or candidates.
//!
//! The rest of the rows goes; reference and controls stay, because the others are
//! compared with them.

use super::Report;
use crate::base::error::{Error, Result};
use crate::spec::Role;

/// What to show of a report; nothing said: everything.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Pick {
    /// Show this claim only; may be given again
    #[arg(long = "claim", value_name = "NAME")]
    pub claims: Vec<String>,
    /// Show conditions only whose label or words contain this; may be given again
    #[arg(long = "condition", value_name = "TEXT")]
    pub conditions: Vec<String>,
    /// Show this candidate only, next to reference and controls; may be given again
    #[arg(long = "candidate", value_name = "NAME")]
    pub candidates: Vec<String>,
}

impl Pick {
    /// What is picked of a report.
    ///
    /// # Errors
    /// The report has nothing of that name.
    pub fn of(&self, report: &Report) -> Result<Report> {
        let Pick { claims, conditions, candidates } = self;
        let mut picked = report.clone();
        let known = report.run.claims.iter().map(|c| c.name.clone());
        check("claim", claims, &known.collect::<Vec<_>>())?;
        let known = report.run.candidates.iter().map(|c| c.name.clone());
        check("candidate", candidates, &known.collect::<Vec<_>>())?;
        if !claims.is_empty() {
            picked.run.claims.retain(|claim| claims.contains(&claim.name));
            picked
                .claims
                .retain(|row| claims.iter().any(|claim| *claim == row.claim || claim == row.of()));
            // What no picked claim is about.
            let metrics: Vec<&str> = picked.claims.iter().map(|r| r.metric.as_str()).collect();
            let about: Vec<&str> =
                picked.claims.iter().flat_map(|r| &r.conditions).map(String::as_str).collect();
            picked.measures.retain(|row| {
                metrics.contains(&row.metric.as_str()) && about.contains(&row.condition.as_str())
            });
            let labels: Vec<&str> = picked.measures.iter().map(|r| r.label.as_str()).collect();
            picked.visits.retain(|row| labels.contains(&row.label.as_str()));
        }
        if !conditions.is_empty() {
            let wanted = |texts: [&str; 2]| {
                conditions.iter().any(|part| texts.iter().any(|text| text.contains(part.as_str())))
            };
            picked.measures.retain(|row| wanted([&row.label, &row.condition]));
            picked.wrong.retain(|row| wanted([&row.label, &row.condition]));
            let labels: Vec<&str> = picked.measures.iter().map(|r| r.label.as_str()).collect();
            picked.visits.retain(|row| labels.contains(&row.label.as_str()));
            if picked.measures.is_empty() && picked.wrong.is_empty() {
                let first = report.measures.iter().map(|row| row.condition.clone()).next();
                let hint = first.map_or_else(
                    || "the run has measured nothing yet".to_owned(),
                    |first| format!("`bakeoff report RUN --full` lists them, such as `{first}`"),
                );
                let asked = conditions.join("`, `");
                return Err(Error::bad_input(format!("no condition contains `{asked}`")).hint(hint));
            }
        }
        if !candidates.is_empty() {
            let kept: Vec<String> = report
                .run
                .candidates
                .iter()
                .filter(|c| c.role != Role::Contender || candidates.contains(&c.name))
                .map(|c| c.name.clone())
                .collect();
            let keeps = |name: &str| kept.iter().any(|known| known == name);
            picked.run.candidates.retain(|c| keeps(&c.name));
            picked.verdicts.retain(|row| keeps(&row.place.candidate));
            picked.claims.retain(|row| keeps(&row.place.candidate));
            picked.measures.retain(|row| keeps(&row.place.candidate));
            picked.visits.retain(|row| keeps(&row.candidate));
            picked.wrong.retain(|row| keeps(&row.place.candidate));
            picked.splats.retain(|row| keeps(&row.place.candidate));
            picked.blind.retain(|row| keeps(&row.place.candidate));
            picked.cells.retain(|row| keeps(&row.place.candidate));
            picked.gates.retain(|row| keeps(&row.place.candidate));
            picked.not_tested.retain(|row| row.candidate.as_deref().is_none_or(keeps));
        }
        Ok(picked)
    }
}

fn check(what: &str, asked: &[String], known: &[String]) -> Result<()> {
    match asked.iter().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(name) => Err(Error::bad_input(format!("the run has no {what} `{name}`"))
            .hint(format!("it has {}", known.join(", ")))),
    }
}
