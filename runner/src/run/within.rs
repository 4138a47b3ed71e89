// SPDX-License-Identifier: MIT OR Apache-2.0
//! What of a plan fits into a time. Pure.
//!
//! What decides most comes first: reference and control, then the contenders by how
//! little has to be built for them, then the negative control; one architecture in all of
//! its profiles before the next. A contender is taken in all profiles that are taken, or
//! not at all: half a verdict is none. The times are expectations
//! ([`expect`](super::expect)); what they leave over goes to claims that stay open.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::base::error::{Error, Result};
use crate::base::progress::rough;
use crate::spec::Role;
use crate::spec::plan::{Cell, CellId, Plan};

/// What a cell is expected to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Building it; zero if it is in the cache.
    pub build: Duration,
    /// Its planned boots.
    pub boots: Duration,
}

impl Cost {
    fn all(self) -> Duration {
        self.build + self.boots
    }
}

/// The part of a plan that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Its cells.
    pub cells: BTreeSet<CellId>,
    /// What does not fit, what decides most first.
    pub left_out: Vec<CellId>,
    /// What it is expected to take.
    pub expected: Duration,
    /// Time that measuring may take, seconds.
    pub budget_seconds: u64,
}

/// Chooses; `first` is what comes before the first build, such as unpacking the base.
/// `costs` are those of the plan's cells, in its order.
///
/// # Errors
/// Not even reference, control and one contender fit, with what they take.
pub fn choose(plan: &Plan, costs: &[Cost], first: Duration, within: Duration) -> Result<Fit> {
    let mut fit =
        Fit { cells: BTreeSet::new(), left_out: Vec::new(), expected: first, budget_seconds: 0 };
    let mut built = first;
    let mut needed: Option<Duration> = None;
    for place in places(plan, costs) {
        let before = fit.cells.len();
        let profiles = place.profiles();
        for many in (1..=profiles.len()).rev() {
            let (Some(taken), Some(beyond)) = (profiles.get(..many), profiles.get(many..)) else {
                continue;
            };
            let order = place.in_order(taken);
            let least: Duration = order.iter().take(2).map(|unit| unit.all()).sum();
            if fit.cells.is_empty() {
                let all = first + least;
                needed = Some(needed.map_or(all, |known| known.min(all)));
            }
            if fit.expected + least > within {
                continue;
            }
            for unit in order {
                if fit.expected + unit.all() > within {
                    fit.left_out.extend(unit.cells.iter().map(|(cell, _)| cell.id.clone()));
                    continue;
                }
                fit.expected += unit.all();
                built += unit.cells.iter().map(|(_, cost)| cost.build).sum::<Duration>();
                fit.cells.extend(unit.cells.iter().map(|(cell, _)| cell.id.clone()));
            }
            for unit in place.in_order(beyond) {
                fit.left_out.extend(unit.cells.iter().map(|(cell, _)| cell.id.clone()));
            }
            break;
        }
        if fit.cells.len() == before {
            for unit in place.in_order(&profiles) {
                fit.left_out.extend(unit.cells.iter().map(|(cell, _)| cell.id.clone()));
            }
        }
    }
    if fit.cells.is_empty() {
        let needed = needed.unwrap_or_default();
        // Whole minutes: nobody types seconds here.
        let minutes = needed.as_secs().div_ceil(60).max(1);
        return Err(Error::bad_input(format!(
            "within {} nothing can be decided: reference, control and the quickest contender \
             take about {}",
            rough(within),
            rough(needed)
        ))
        .hint(format!("give --within {minutes}m; --quick and --probe make less of it")));
    }
    let left = within.saturating_sub(built).as_secs();
    fit.budget_seconds = plan.budget_seconds.map_or(left, |most| most.min(left));
    Ok(fit)
}

impl Fit {
    /// In words: what fits, and what is left out in the order in which it would come.
    #[must_use]
    pub fn words(&self, within: Duration) -> String {
        let mut text = format!(
            "within {}: {} of {} kernels, about {}",
            rough(within),
            self.cells.len(),
            self.cells.len() + self.left_out.len(),
            rough(self.expected)
        );
        if !self.left_out.is_empty() {
            text.push_str("\nleft out, in the order in which it would come:");
        }
        for id in &self.left_out {
            text.push_str(&format!("\n  {id}"));
        }
        text
    }
}

/// The cells of one base and architecture.
struct Place<'a> {
    cells: Vec<(&'a Cell, Cost)>,
}

/// Cells that are taken together.
struct Unit<'a> {
    cells: Vec<(&'a Cell, Cost)>,
}

impl Unit<'_> {
    fn all(&self) -> Duration {
        self.cells.iter().map(|(_, cost)| cost.all()).sum()
    }

    fn build(&self) -> Duration {
        self.cells.iter().map(|(_, cost)| cost.build).sum()
    }
}

fn places<'a>(plan: &'a Plan, costs: &[Cost]) -> Vec<Place<'a>> {
    let mut places: indexmap::IndexMap<(&str, &str), Place<'a>> = indexmap::IndexMap::new();
    for (cell, cost) in plan.cells.iter().zip(costs) {
        let place = places.entry((&cell.id.base, &cell.id.arch));
        place.or_insert_with(|| Place { cells: Vec::new() }).cells.push((cell, *cost));
    }
    places.into_values().collect()
}

impl<'a> Place<'a> {
    fn profiles(&self) -> Vec<&'a str> {
        let mut profiles: Vec<&str> = Vec::new();
        for (cell, _) in &self.cells {
            if !profiles.contains(&cell.id.profile.as_str()) {
                profiles.push(&cell.id.profile);
            }
        }
        profiles
    }

    /// Its cells in these profiles, what decides most first: reference and control
    /// together, then each contender.
    fn in_order(&self, profiles: &[&str]) -> Vec<Unit<'a>> {
        let mut judges = Unit { cells: Vec::new() };
        let mut others: indexmap::IndexMap<(bool, &str), Unit<'a>> = indexmap::IndexMap::new();
        let here = self.cells.iter().filter(|(cell, _)| profiles.contains(&&*cell.id.profile));
        for (cell, cost) in here {
            let unit = match cell.role {
                Role::Reference | Role::Control => &mut judges,
                role => others
                    .entry((role != Role::Contender, &cell.id.candidate))
                    .or_insert_with(|| Unit { cells: Vec::new() }),
            };
            unit.cells.push((cell, *cost));
        }
        let mut others: Vec<((bool, &str), Unit<'a>)> = others.into_iter().collect();
        others.sort_by_key(|((last, _), unit)| (*last, unit.build()));
        let all = std::iter::once(judges).chain(others.into_iter().map(|(_, unit)| unit));
        all.filter(|unit| !unit.cells.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(candidate: &str, role: Role, arch: &str, profile: &str) -> Cell {
        let id = CellId {
            base: "6.12".into(),
            candidate: candidate.into(),
            arch: arch.into(),
            profile: profile.into(),
        };
        Cell { id, role, foreign: false, patches: vec![], not_portable: None }
    }

    const MINUTE: Duration = Duration::from_secs(60);

    /// Two architectures, two profiles; `big` takes six minutes to build, everything else
    /// one, and each a minute of boots.
    fn plan() -> (Plan, Vec<Cost>) {
        let mut cells = Vec::new();
        let mut costs = Vec::new();
        for arch in ["x86_64", "arm64"] {
            for profile in ["lockdep", "production"] {
                for (name, role, minutes) in [
                    ("stock", Role::Reference, 1),
                    ("bug", Role::Control, 1),
                    ("big", Role::Contender, 6),
                    ("small", Role::Contender, 1),
                    ("naive", Role::NegativeControl, 1),
                ] {
                    cells.push(cell(name, role, arch, profile));
                    costs.push(Cost { build: MINUTE * minutes, boots: MINUTE });
                }
            }
        }
        let plan = Plan {
            seed: 1,
            cells,
            steps: vec![],
            claims: vec![],
            budget_seconds: Some(600),
            spread: 8,
        };
        (plan, costs)
    }

    fn names(ids: &BTreeSet<CellId>) -> Vec<String> {
        ids.iter().map(|id| format!("{}/{}/{}", id.candidate, id.arch, id.profile)).collect()
    }

    /// With time for everything nothing is left out, and the spec's budget stands.
    #[test]
    fn everything_fits() {
        let (plan, costs) = plan();
        let fit = choose(&plan, &costs, Duration::ZERO, MINUTE * 100).unwrap();
        assert_eq!((fit.cells.len(), fit.left_out.len()), (20, 0));
        assert_eq!((fit.expected, fit.budget_seconds), (MINUTE * 60, 600));
    }

    /// The first architecture in all profiles before the second; the contender that
    /// rebuilds much is left out, and named first of what is.
    #[test]
    fn what_decides_most_comes_first() {
        let (plan, costs) = plan();
        let fit = choose(&plan, &costs, MINUTE, MINUTE * 18).unwrap();
        assert_eq!(
            names(&fit.cells),
            [
                "bug/x86_64/lockdep",
                "bug/x86_64/production",
                "naive/x86_64/lockdep",
                "naive/x86_64/production",
                "small/x86_64/lockdep",
                "small/x86_64/production",
                "stock/x86_64/lockdep",
                "stock/x86_64/production",
            ]
        );
        assert_eq!(fit.left_out[0].to_string(), "6.12/big/x86_64/lockdep");
        assert_eq!(fit.left_out[2].to_string(), "6.12/stock/arm64/lockdep");
        assert_eq!(fit.left_out.len(), 12);
        assert_eq!(fit.expected, MINUTE * 17);
        assert_eq!(fit.budget_seconds, 9 * 60, "what is left after a minute and eight builds");
        let words = fit.words(MINUTE * 18);
        assert!(words.starts_with("within 18 min: 8 of 20 kernels, about 17 min\nleft out"));
    }

    /// Where two profiles are too much, one is better than none.
    #[test]
    fn one_profile_is_better_than_no_contender() {
        let (plan, costs) = plan();
        let fit = choose(&plan, &costs, Duration::ZERO, MINUTE * 7).unwrap();
        assert_eq!(
            names(&fit.cells),
            ["bug/x86_64/lockdep", "small/x86_64/lockdep", "stock/x86_64/lockdep"]
        );
        assert_eq!(fit.left_out.len(), 17);
    }

    /// Too little for one comparison is refused, with what it takes.
    #[test]
    fn too_little_is_refused() {
        let (plan, costs) = plan();
        let error = choose(&plan, &costs, MINUTE, MINUTE * 5).unwrap_err();
        assert!(error.message().contains("take about 7 min"), "{error}");
        assert!(error.next_step().unwrap().contains("--within 7m"));
    }

    /// What is in the cache costs its boots only, and comes first.
    #[test]
    fn cached_kernels_come_first() {
        let (plan, mut costs) = plan();
        for (cell, cost) in plan.cells.iter().zip(&mut costs) {
            if cell.id.candidate == "big" {
                cost.build = Duration::ZERO;
            }
        }
        let fit = choose(&plan, &costs, Duration::ZERO, MINUTE * 10).unwrap();
        assert!(names(&fit.cells).contains(&"big/x86_64/production".to_owned()), "{fit:?}");
    }
}
