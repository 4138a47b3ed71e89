// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bakeoff check`: whether a bake-off would run, without building or booting anything.
//!
//! What a run would find out after minutes of building is looked up here: that words are
//! known, patches apply, options exist. What cannot be known without fetching a base is
//! said to be unchecked, never to be fine.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bakeoff_fuzz::probe::MetricKind;

use crate::base::error::{Error, Result, exit_code};
use crate::base::progress::rough;
use crate::cli::Check;
use crate::cli::commands::{Desk, print};
use crate::cli::dry_run;
use crate::judge::compare::smallest_loss;
use crate::judge::compare::words::counted;
use crate::make::compile::{self, Declared};
use crate::make::source::{self, series};
use crate::run::{self, expect};
use crate::spec::arch::Arch;
use crate::spec::plan::{Plan, Selection};
use crate::spec::{Base, Series, Spec, margin_words};

pub fn check(args: &Check, desk: &Desk) -> Result<u8> {
    let spec = Spec::load(&args.spec, &desk.data)?;
    let checked = Checked::of(&spec, desk)?;
    print(&checked.to_string())?;
    match checked.wrong {
        0 => Ok(exit_code::OK),
        wrong => Err(Error::bad_input(format!(
            "{} would not run whole: {wrong} of what was \
                                               checked is wrong",
            args.spec.display()
        ))
        .hint(
            "what is marked WRONG says what; a candidate that does not apply is reported \
                   as such by a run, and the others are compared",
        )),
    }
}

/// What was found, a line for each.
#[derive(Debug, Default)]
struct Checked {
    lines: Vec<String>,
    wrong: usize,
}

impl std::fmt::Display for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl Checked {
    fn of(spec: &Spec, desk: &Desk) -> Result<Checked> {
        let mut checked = Checked::default();
        checked.ok(
            "spec",
            &format!(
                "{}: {}, {}, {}; every name in it is known",
                spec.name,
                counted(spec.candidates.len() as u64, "candidate"),
                counted(spec.probes.len() as u64, "condition"),
                counted(spec.claims.len() as u64, "claim")
            ),
        );
        for base in &spec.bases {
            checked.base(spec, base, desk)?;
        }
        let plan = Plan::new(spec, &Selection::default(), 1)?;
        checked.margins(&plan);
        checked.time(&plan)?;
        Ok(checked)
    }

    fn ok(&mut self, what: &str, says: &str) {
        self.lines.push(format!("ok         {what:<24} {says}"));
    }

    fn wrong(&mut self, what: &str, says: &str) {
        self.wrong += 1;
        let mut lines = says.lines();
        let first = lines.next().unwrap_or_default();
        self.lines.push(format!("WRONG      {what:<24} {first}"));
        self.lines.extend(lines.map(|line| format!("{:<36}{line}", "")));
    }

    fn doubtful(&mut self, what: &str, says: &str) {
        self.lines.push(format!("doubtful   {what:<24} {says}"));
    }

    fn unchecked(&mut self, what: &str, why: &str) {
        self.lines.push(format!("unchecked  {what:<24} {why}"));
    }

    fn base(&mut self, spec: &Spec, base: &Base, desk: &Desk) -> Result<()> {
        let tree = match source::at_hand(&base.source, &desk.cache, &desk.cancel) {
            Ok(Some(tree)) => tree,
            Ok(None) => {
                self.unchecked(&base.name, &format!(
                    "{} is not in the cache, so patches and kconfig options were not tried on it; \
                     a run fetches it", base.source
                ));
                return Ok(());
            }
            Err(error) => {
                self.wrong(&base.name, &error.chain());
                return Ok(());
            }
        };
        self.patches(spec, base, &tree, desk)?;
        self.options(spec, base, &tree, desk)
    }

    fn patches(&mut self, spec: &Spec, base: &Base, tree: &Path, desk: &Desk) -> Result<()> {
        for candidate in &spec.candidates {
            let Some(Series::Patches(files)) = candidate.on.get(&base.name) else { continue };
            let what = format!("{}/{}", base.name, candidate.name);
            let patches = series::read(files, &desk.cancel)?;
            match series::would_apply(tree, &patches, &desk.cancel)? {
                series::Applied::Whole => self.ok(
                    &what,
                    &match patches.len() {
                        1 => "the patch applies".to_owned(),
                        many => format!("{many} patches apply"),
                    },
                ),
                series::Applied::Rejected { patch, reason } => {
                    self.wrong(&what, &format!("{patch} does not apply: {reason}"));
                }
            }
        }
        Ok(())
    }

    fn options(&mut self, spec: &Spec, base: &Base, tree: &Path, desk: &Desk) -> Result<()> {
        for name in &spec.architectures {
            let arch = Arch::load(&desk.data, name)?;
            let declared = Declared::read(tree, &arch.kernel.arch, &desk.cancel)?;
            for profile in spec.profiles.iter().chain(&spec.on_request) {
                let what = format!("{}/{name}/{profile}", base.name);
                let fragments =
                    run::machine_fragments(&spec.machine, name, profile, &spec.dir, &desk.data)?;
                match compile::wanted(&desk.data, &arch, profile, &fragments) {
                    Err(error) => self.wrong(&what, &error.chain()),
                    Ok(wanted) => match wanted.unknown_to(&declared).as_slice() {
                        [] => self
                            .ok(&what, &format!("all {} kconfig options exist", wanted.options())),
                        unknown => self.wrong(
                            &what,
                            &format!("no option of this kernel: {}", unknown.join(", ")),
                        ),
                    },
                }
            }
        }
        Ok(())
    }

    /// Whether the planned visits can show that nothing is lost beyond a margin.
    fn margins(&mut self, plan: &Plan) {
        for claim in &plan.claims {
            let Some(smallest) = smallest_loss(plan, claim) else { continue };
            let points = |share: f64| margin_words(share, MetricKind::Share);
            let margin = claim.claim.margin;
            let what = format!("claim {}", claim.claim.name);
            if smallest < margin {
                self.ok(
                    &what,
                    &format!(
                        "its margin of {} can be met: with no failure at all, losses above {} are \
                         ruled out",
                        points(margin),
                        points(smallest)
                    ),
                );
            } else {
                self.doubtful(
                    &what,
                    &format!(
                        "its margin of {} is too fine: with no failure at all, the planned visits \
                         rule out losses above {} and no smaller ones; give its conditions more \
                         `blocks`, or the claim a wider margin",
                        points(margin),
                        points(smallest)
                    ),
                );
            }
        }
    }

    fn time(&mut self, plan: &Plan) -> Result<()> {
        let mut archs: BTreeMap<&str, [Duration; 2]> = BTreeMap::new();
        for (cell, [build, boots]) in plan.cells.iter().zip(dry_run::expected(plan)?) {
            let [builds, all] = archs.entry(&cell.id.arch).or_default();
            *builds += build;
            *all += boots;
        }
        let mut total = Duration::ZERO;
        for (arch, [builds, boots]) in &archs {
            total += *builds + *boots;
            self.lines.push(format!(
                "expected   {arch:<24} {} of builds (none for kernels in the cache), {} of boots",
                rough(*builds),
                rough(*boots)
            ));
        }
        self.lines.push(format!("expected   {:<24} about {}", "all", rough(total)));
        let first: Duration =
            plan.groups().iter().map(|group| expect::first_look(plan, group)).sum();
        let budget = plan.budget_seconds.map(Duration::from_secs);
        if let Some(budget) = budget.filter(|budget| *budget < first) {
            self.doubtful(
                "budget",
                &format!(
                    "the first look at the claims takes about {}, and the budget is {}: conditions \
                     get fewer visits, and more claims stay open",
                    rough(first),
                    rough(budget)
                ),
            );
        }
        Ok(())
    }
}
