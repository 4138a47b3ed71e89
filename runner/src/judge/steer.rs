// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decides from what a run has what it should do next: confirm what was seen once, then
//! give more visits to claims that are open, look by look, then to what is only shown, while
//! there is time.
//!
//! A run that is decided stops by itself; one that cannot be decided within its looks or
//! its budget says what is open and what it would take.

use std::collections::BTreeMap;

use crate::base::data::DataDir;
use crate::base::error::Result;
use crate::base::event::Events;
use crate::base::progress::INTERIM;
use crate::judge::calibrate;
use crate::judge::compare::{Open, Peers, Subject, groups, looks, open_claims, to_confirm};
use crate::judge::report::FORMATS;
use crate::keep::freeze;
use crate::keep::store::{RunJson, Store, read_json};
use crate::run::schedule::{Steering, Target, Wanted, answers, next_boot, shown};
use crate::see::assemble::observe_cell;
use crate::see::observation::Observation;
use crate::spec::Role;
use crate::spec::plan::{CellId, Plan};

/// How a run is steered.
#[derive(Debug)]
pub struct Steer<'a> {
    /// The run.
    pub store: &'a Store,
    /// Where specs find their architectures and fragments.
    pub data: &'a DataDir,
    /// Who is told.
    pub events: &'a Events,
    /// Go on with what is open beyond the planned looks and the budget.
    pub decide: bool,
}

impl Steering for Steer<'_> {
    fn next(&self) -> Result<Option<Wanted>> {
        let run: RunJson = read_json(&self.store.run_json())?;
        let spec = freeze::thaw(self.store, &run, self.data)?;
        let seen: Vec<Observation> =
            run.plan.cells.iter().map(|cell| observe_cell(self.store, cell)).collect();
        let subject = Subject::new(&spec, &run.plan);
        Ok(match run.against_itself {
            None => wanted(&subject, &seen, self.decide),
            Some(_) => wanted_by_pairs(&subject, &seen, self.decide),
        })
    }

    fn keeps_to_budget(&self) -> bool {
        !self.decide
    }

    fn interim(&self) -> Result<()> {
        let report = super::judge(self.store, self.data)?;
        super::write(self.store, &report)?;
        let open = super::open_words(&report);
        let page = self.store.derived(FORMATS[0].file);
        self.events.note(format!("{INTERIM}{} ({open})", page.display()));
        Ok(())
    }
}

/// What is to be done next, if anything.
fn wanted(subject: &Subject<'_>, seen: &[Observation], decide: bool) -> Option<Wanted> {
    let mut more = More { plan: subject.plan, targets: BTreeMap::new() };
    let mut titles: Vec<String> = Vec::new();
    let mut open = 0;
    for group in groups(seen) {
        let peers = Peers::of(&group);
        let judged = |role| matches!(role, Role::Contender | Role::NegativeControl);
        for ours in group.iter().filter(|seen| judged(seen.cell.role)) {
            for seen in to_confirm(ours, &peers, subject) {
                if seen.more_here {
                    more.once(ours, seen.steps.iter().copied());
                }
                if let Some(reference) = peers.reference.filter(|_| seen.more_there) {
                    more.once(reference, seen.steps.iter().copied());
                }
                if !titles.contains(&seen.title) {
                    titles.push(seen.title);
                }
            }
        }
    }
    let spent: f64 = seen.iter().flat_map(|seen| &seen.boots).map(|boot| boot.seconds).sum();
    let time_left = subject.plan.budget_seconds.is_none_or(|most| spent < most as f64);
    let go_on = titles.is_empty() && (time_left || decide);
    if go_on {
        let looks = looks(subject.plan, seen);
        for group in groups(seen) {
            for claim in open_claims(&group, &Peers::of(&group), subject.plan, looks) {
                if (claim.beyond && !decide) || !more.can_have(&claim) {
                    continue;
                }
                open += 1;
                for step in &claim.steps {
                    more.up_to(claim.seen.id(), *step, claim.visits);
                    more.up_to(claim.reference.id(), *step, claim.visits);
                }
            }
        }
        if open == 0 {
            more.shown(seen);
        }
    }
    let why = match (titles.as_slice(), open) {
        ([], 0) if more.targets.is_empty() => return None,
        ([], 0) => "conditions that are only shown".to_owned(),
        ([], 1) => "one claim is open: more visits".to_owned(),
        ([], _) => format!("{open} claims are open: more visits"),
        ([one], _) => format!("fresh boots, to confirm: {one}"),
        ([first, others @ ..], _) => {
            format!("fresh boots, to confirm: {first} and {} more", others.len())
        }
    };
    let targets = more.targets.into_iter().map(|(id, of)| (id, of.into_values().collect()));
    Some(Wanted { targets: targets.collect(), why, in_budget: go_on && !decide })
}

/// What the bake-offs of copies want, each by itself.
fn wanted_by_pairs(subject: &Subject<'_>, seen: &[Observation], decide: bool) -> Option<Wanted> {
    let pairs = calibrate::pairs(seen);
    let all: Vec<Wanted> =
        pairs.iter().filter_map(|pair| wanted(subject, &pair.seen, decide)).collect();
    let why = match all.as_slice() {
        [] => return None,
        [one] => one.why.clone(),
        many => format!("{} bake-offs want more visits", many.len()),
    };
    let in_budget = all.iter().all(|one| one.in_budget);
    let targets = all.into_iter().flat_map(|one| one.targets).collect();
    Some(Wanted { targets, why, in_budget })
}

/// Visits that are asked for, by cell and step.
struct More<'a> {
    plan: &'a Plan,
    targets: BTreeMap<CellId, BTreeMap<u32, Target>>,
}

impl More<'_> {
    fn target(&self, step: u32, visits: u32) -> Target {
        let own_boot = self.plan.step(step).is_some_and(|planned| planned.own_boot);
        Target { step, visits, own_boot, spread: self.plan.spread, again: false }
    }

    /// Whether the visits that a claim wants can be had: a kernel that hangs in its conditions,
    /// or cannot reach them, gives no more.
    fn can_have(&self, claim: &Open<'_>) -> bool {
        let targets: Vec<Target> =
            claim.steps.iter().map(|step| self.target(*step, claim.visits)).collect();
        [claim.seen, claim.reference].iter().any(|of| next_boot(&targets, &of.boots).is_some())
    }

    fn up_to(&mut self, cell: &CellId, step: u32, visits: u32) -> &mut Target {
        let target = self.target(step, visits);
        let known = self.targets.entry(cell.clone()).or_default().entry(step).or_insert(target);
        known.visits = known.visits.max(visits);
        known
    }

    /// What is only shown, and not there yet.
    fn shown(&mut self, seen: &[Observation]) {
        for seen in seen {
            let targets = shown(self.plan, &seen.cell);
            if next_boot(&targets, &seen.boots).is_some() {
                for of in targets {
                    self.up_to(seen.id(), of.step, of.visits);
                }
            }
        }
    }

    /// One more visit of each step than gave an answer, for that to come again.
    fn once(&mut self, seen: &Observation, steps: impl Iterator<Item = u32>) {
        for step in steps {
            let visits = answers(step, &seen.boots).saturating_add(1);
            self.up_to(seen.id(), step, visits).again = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::compare::tests::story::{BUSY, CALLS, CLAIM, IDLE, LEGAL, PAIRS, Story, TOP};
    use crate::spec::plan::{Purpose, SHOWN_VISITS};

    const OPEN: &str = "0.5 points";

    fn story(margin: &str) -> Story {
        Story::of(&CLAIM.replace("5 points", margin))
    }

    fn next(story: &Story, decide: bool) -> Option<Wanted> {
        wanted(&story.subject(), &story.seen, decide)
    }

    /// What is decided asks for nothing more, however long it goes on.
    #[test]
    fn nothing_is_left() {
        let story = story("10 points");
        assert!(next(&story, false).is_none() && next(&story, true).is_none());
    }

    /// An open claim gets the visits of its next look, on both kernels, in its conditions.
    #[test]
    fn open_claims_get_the_next_look() {
        let story = story(OPEN);
        let Wanted { targets, why, in_budget } = next(&story, false).unwrap();
        assert!(in_budget);
        assert_eq!(why, "one claim is open: more visits");
        let names: Vec<&str> = targets.iter().map(|(id, _)| id.candidate.as_str()).collect();
        assert_eq!(names, ["landed", "mine"]);
        for (_, steps) in targets {
            let asked: Vec<_> = steps.iter().map(|t| (t.step, t.visits, t.own_boot)).collect();
            assert_eq!(asked, [(story.step(IDLE), 24, false)]);
        }
    }

    /// Looks beyond the planned ones are for `--decide` alone.
    #[test]
    fn looks_end_unless_asked_to_decide() {
        let mut story = story(OPEN);
        for seen in &mut story.seen {
            let made = seen.boots.clone();
            for round in 1..4 {
                seen.boots.extend(made.iter().cloned().map(|mut boot| {
                    boot.name = format!("{round}-{}", boot.name);
                    boot
                }));
            }
        }
        assert!(next(&story, false).is_none());
        assert_eq!(next(&story, true).unwrap().targets[0].1[0].visits, 96);
    }

    /// When the budget is spent claims stay open, unless it is asked to decide.
    #[test]
    fn the_budget_ends_it() {
        let mut story = story(OPEN);
        story.plan.budget_seconds = Some(10_000);
        assert!(next(&story, false).is_some());
        story.plan.budget_seconds = Some(10);
        assert!(next(&story, false).is_none());
        assert!(next(&story, true).is_some());
    }

    /// What was seen once is confirmed before any claim gets more visits, in fresh boots of
    /// the candidate and the reference, also beyond the budget; after some fresh boots
    /// without it, it is left as seen once.
    #[test]
    fn reports_are_confirmed_first() {
        let both = CLAIM.replace("[production]", "[lockdep, production]");
        let mut story = Story::of(&both.replace("5 points", OPEN));
        story.plan.budget_seconds = Some(10);
        story.splat("mine", "WARNING in new_code", 1);
        let boots_of_lockdep = |story: &mut Story, boots: usize| {
            for seen in story.seen.iter_mut().filter(|s| s.cell.id.profile == "lockdep") {
                seen.boots.truncate(boots);
            }
        };
        let mut later = Story::of(&both.replace("5 points", "10 points"));
        later.splat("mine", "WARNING in new_code", 1);
        boots_of_lockdep(&mut later, 6);
        assert!(next(&later, false).is_none(), "five fresh boots did not show it");
        boots_of_lockdep(&mut story, 2);
        let Wanted { targets, why, in_budget } = next(&story, false).unwrap();
        assert!(!in_budget);
        assert_eq!(why, "fresh boots, to confirm: WARNING in new_code");
        let cells: Vec<String> = targets.iter().map(|(id, _)| id.to_string()).collect();
        assert_eq!(cells, ["6.12/landed/x86_64/lockdep", "6.12/mine/x86_64/lockdep"]);
        assert!(targets.iter().all(|(_, steps)| steps.iter().all(|t| t.visits == 3)));
    }

    /// Wrong answers of one boot get fresh ones of both kernels, as reports do; those of the
    /// reference's own, or after many boots without, get none.
    #[test]
    fn wrong_answers_are_confirmed_too() {
        let mut story = story("10 points");
        let boots = |story: &mut Story, boots: usize| {
            story.seen.iter_mut().for_each(|seen| seen.boots.truncate(boots));
        };
        let mut right = [100; 12];
        right[0] = 99;
        story.right("mine", PAIRS, LEGAL, &right);
        assert!(next(&story, false).is_none(), "eleven fresh boots did not show it");
        right[5] = 99;
        story.right("mine", PAIRS, LEGAL, &right);
        let Wanted { targets, why, .. } = next(&story, false).unwrap();
        assert!(why.starts_with("fresh boots, to confirm: wrong answers ("), "{why}");
        let asked = |targets: &[(CellId, Vec<Target>)]| -> Vec<(String, u32, u32)> {
            let each = |(id, of): &(CellId, Vec<Target>)| {
                of.iter().map(|t| (id.candidate.clone(), t.step, t.visits)).collect::<Vec<_>>()
            };
            targets.iter().flat_map(each).collect()
        };
        let flip = story.step(PAIRS);
        assert_eq!(asked(&targets), [("mine".to_owned(), flip, 13)]);
        boots(&mut story, 2);
        story.right("mine", PAIRS, LEGAL, &[99, 100]);
        let Wanted { targets, .. } = next(&story, false).unwrap();
        assert_eq!(asked(&targets), [("landed".to_owned(), flip, 3), ("mine".to_owned(), flip, 3)]);
    }

    /// What is only shown comes when no claim is open, as long as there is time; then nothing
    /// is left.
    #[test]
    fn what_is_only_shown_comes_last() {
        let shown = |story: &mut Story| {
            let step = story.step(BUSY);
            let planned = story.plan.steps.iter_mut().find(|p| p.step.id == step).unwrap();
            (planned.purpose, planned.visits) = (Purpose::Shown, SHOWN_VISITS);
            for boot in story.seen.iter_mut().flat_map(|seen| &mut seen.boots) {
                boot.visits.retain(|visit| visit.step != step);
            }
            step
        };
        let mut open = story(OPEN);
        let step = shown(&mut open);
        let Wanted { targets, why, .. } = next(&open, false).unwrap();
        assert_eq!(why, "one claim is open: more visits");
        assert!(targets.iter().all(|(_, steps)| steps.iter().all(|t| t.step != step)));
        let mut settled = story("10 points");
        shown(&mut settled);
        let Wanted { targets, why, in_budget } = next(&settled, false).unwrap();
        assert_eq!(why, "conditions that are only shown");
        assert!(in_budget);
        let cells: Vec<&CellId> = targets.iter().map(|(id, _)| id).collect();
        let uncontrolled = settled.seen.iter().filter(|seen| !seen.cell.role.is_control());
        assert!(cells.into_iter().eq(uncontrolled.map(|seen| &seen.cell.id)), "{targets:?}");
        let asked = |(_, steps): &(CellId, Vec<Target>)| {
            steps.iter().all(|t| (t.step, t.visits) == (step, SHOWN_VISITS))
        };
        assert!(targets.iter().all(asked));
        settled.plan.budget_seconds = Some(10);
        assert!(next(&settled, false).is_none());
    }

    /// A claim whose visits cannot be had does not keep the run from going on.
    #[test]
    fn visits_that_cannot_be_had_are_not_waited_for() {
        let mut story = story(OPEN);
        let idle = story.step(IDLE);
        for visit in story
            .seen
            .iter_mut()
            .flat_map(|seen| &mut seen.boots)
            .flat_map(|boot| boot.visits.iter_mut().filter(|visit| visit.step == idle).take(1))
        {
            visit.outcome = None;
        }
        assert!(next(&story, false).is_none(), "its guests die there");
    }

    /// Of the reference against itself each two copies are a bake-off that goes on until it is
    /// decided, and asks nothing of the others.
    #[test]
    fn copies_go_on_in_pairs() {
        let Story { mut spec, dir, .. } = story(OPEN);
        spec.against_itself(3);
        let mut story = Story::with(spec, dir);
        let next = |story: &Story| wanted_by_pairs(&story.subject(), &story.seen, false);
        let names = |wanted: &Wanted| -> Vec<String> {
            wanted.targets.iter().map(|(id, _)| id.candidate.clone()).collect()
        };
        let both = next(&story).unwrap();
        assert_eq!(both.why, "2 bake-offs want more visits");
        let all = ["landed", "landed-again-1", "landed-again-2", "landed-again-3"];
        assert_eq!(names(&both), all);
        story.right("landed", IDLE, TOP, &[CALLS]);
        let one = next(&story).unwrap();
        assert_eq!(names(&one), all[2..]);
    }
}
