// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who carries out a plan: what is built and booted next, and until when.
//!
//! [`kernels`] has the builds, [`boots`] the boots.

mod boots;
mod kernels;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::mpsc;
use std::time::Duration;

use crate::base::command::host_cpus;
use crate::base::error::{Context, Result};
use crate::base::event::Event;
use crate::keep::store::{BootId, KernelOutcome, RunJson, Store, read_json};
use crate::machine::accel::Accel;
use crate::make::compile::{self, Compiler, Kernel};
use crate::make::guest::{GuestBinaries, Origins};
use crate::make::source::Tree;
use crate::make::workload::Packed;
use crate::run::schedule::{Steering, Target, first_look, next_boot, shown};
use crate::run::{Machinery, Tools, archs, expect};
use crate::see::assemble;
use crate::see::observation::BootObservation;
use crate::spec::Role;
use crate::spec::arch::Arch;
use crate::spec::plan::{Cell, CellId, Purpose};

/// Does everything of the plan that is not done yet, `then` what follows the boots, while
/// the run still is ours alone.
///
/// # Errors
/// Ours: a full disk, a missing tool, a lost guest, Ctrl-C. What was measured
/// stays, and calling this again goes on.
pub fn carry_out(
    store: &Store,
    machinery: &Machinery,
    tools: &Tools<'_>,
    steering: &dyn Steering,
    then: &dyn Fn(&RunJson) -> Result<()>,
) -> Result<()> {
    let _lock = store.lock()?;
    let run: RunJson = read_json(&store.run_json())?;
    tools.events.add(Box::new(crate::base::progress::Log::append(&store.log())?));
    store.remove_scraps()?;
    tools.cache.remove_half_made();
    crate::base::scratch::sweep_temporary();
    for cell in run.own_cells() {
        for (id, why) in assemble::damaged_boots(store, &cell.id)? {
            tools.events.warning(format!(
                "{cell} {}: {why}; it is done again",
                id.name,
                cell = cell.id
            ));
            let dir = store.boot(&id);
            fs::remove_dir_all(&dir).at_path("remove the damaged boot", &dir)?;
        }
    }
    let archs = archs(run.own_cells(), tools.data)?;
    // A guest that is not needed after all does not end the run: who waits for it does.
    std::thread::scope(|scope| {
        let (give, coming) = mpsc::channel();
        let (go, may_go) = mpsc::channel();
        // In the order in which the plan boots them.
        let mut order: Vec<&Arch> = Vec::new();
        for arch in run.own_cells().filter_map(|cell| archs.get(&cell.id.arch)) {
            if !order.iter().any(|known| known.name == arch.name) {
                order.push(arch);
            }
        }
        scope.spawn(move || {
            // A run that ends before it has its sources, or boots nothing, needs no guests.
            if may_go.recv().is_ok() {
                prepare_guests(order.into_iter(), machinery, tools, &give);
            }
        });
        go_on(store, machinery, tools, &run, &archs, (coming, go), steering)
    })?;
    then(&run)
}

/// The guest binaries of one architecture, or why there are none.
type Prepared = (String, Result<GuestBinaries>);

/// Finds or builds the guest binaries, beside the first make, which leaves a CPU idle
/// now and then; unpacking the source before it uses them all.
fn prepare_guests<'a>(
    archs: impl Iterator<Item = &'a Arch>,
    machinery: &Machinery,
    tools: &Tools<'_>,
    give: &mpsc::Sender<Prepared>,
) {
    let Tools { data, cache, events, cancel } = tools;
    let origins = Origins { guest_dir: machinery.guest_dir.as_deref(), data, cache };
    for arch in archs {
        let binaries = GuestBinaries::obtain(arch, &origins, events, cancel);
        // Nobody waits any more if the run has ended for another reason.
        if give.send((arch.name.clone(), binaries)).is_err() {
            return;
        }
    }
}

fn go_on(
    store: &Store,
    machinery: &Machinery,
    tools: &Tools<'_>,
    run: &RunJson,
    archs: &BTreeMap<String, Arch>,
    (coming, go): (mpsc::Receiver<Prepared>, mpsc::Sender<()>),
    steering: &dyn Steering,
) -> Result<()> {
    let mut crew = Crew {
        store,
        machinery,
        tools,
        archs,
        run,
        trees: BTreeMap::new(),
        guests: BTreeMap::new(),
        coming,
        go: Some(go),
        compiler: Compiler::new(
            tools.cache,
            tools.data,
            compile::Options {
                trust: machinery.trust,
                ccache: !machinery.without_ccache,
                ..compile::Options::default()
            },
            tools.events,
            tools.cancel,
        )?,
        kernels: BTreeMap::new(),
        packed: BTreeMap::new(),
        accels: BTreeMap::new(),
        boots: BTreeMap::new(),
    };
    // They are made when they are needed; sooner, where that is known now.
    let left = crew.expected()?;
    let expected = Some(left.builds + left.boots);
    let total = run.own_cells().count();
    let mut done = 0;
    tools.events.send(&Event::RunStarted { cells: total, expected });
    if !left.boots.is_zero() {
        crew.want_guests();
    }
    let own = |group: &Vec<&Cell>| group.first().is_some_and(|cell| run.does(&cell.id));
    let groups: Vec<Vec<&Cell>> = run.plan.groups().into_iter().filter(own).collect();
    let budget = run.plan.budget_seconds.filter(|_| steering.keeps_to_budget());
    let ends = match budget {
        Some(budget) => {
            let expected = groups.iter().map(|group| expect::first_look(&run.plan, group));
            shares(budget as f64, &expected.map(|time| time.as_secs_f64()).collect::<Vec<_>>())
        }
        None => Vec::new(),
    };
    for (at, group) in groups.into_iter().enumerate() {
        let group = crew.quickest_first(group)?;
        for (built, cell) in group.iter().enumerate() {
            crew.kernel_json(cell)?;
            let (ready, rest) = group.split_at(built + 1);
            if at == 0 && crew.is_time_for_a_first_boot(ready, rest)? {
                for cell in ready {
                    crew.one_boot(cell, &first_look(&run.plan, cell))?;
                }
                steering.interim()?;
            }
        }
        let targets = group.iter().map(|cell| (*cell, first_look(&run.plan, cell)));
        crew.interleaved(targets.collect(), ends.get(at).copied())?;
        done += group.len();
        tools.events.send(&Event::CellDone { done, total });
        if done < total {
            steering.interim()?;
        }
    }
    let mut last = None;
    while let Some(mut wanted) = steering.next()? {
        wanted.targets.retain(|(id, _)| run.does(id));
        if wanted.targets.is_empty() {
            break;
        }
        // Whoever asks for the same again did not get it, and will not.
        if last.as_ref() == Some(&wanted) {
            break;
        }
        tools.events.send(&Event::Note(wanted.why.clone()));
        let cell = |id: &CellId| run.plan.cells.iter().find(|cell| cell.id == *id);
        let targets = wanted.targets.iter();
        let end = budget.filter(|_| wanted.in_budget).map(|budget| budget as f64);
        crew.interleaved(
            targets.filter_map(|(id, targets)| Some((cell(id)?, targets.clone()))).collect(),
            end,
        )?;
        last = Some(wanted);
    }
    tools.events.send(&Event::RunFinished);
    Ok(())
}

/// Everything a run in progress holds.
struct Crew<'a> {
    store: &'a Store,
    machinery: &'a Machinery,
    tools: &'a Tools<'a>,
    run: &'a RunJson,
    archs: &'a BTreeMap<String, Arch>,
    trees: BTreeMap<String, Tree>,
    guests: BTreeMap<String, GuestBinaries>,
    coming: mpsc::Receiver<Prepared>,
    /// Has them made; gone once that was said.
    go: Option<mpsc::Sender<()>>,
    compiler: Compiler<'a>,
    kernels: BTreeMap<CellId, Kernel>,
    /// Workloads by base and architecture.
    packed: BTreeMap<(String, String), Packed>,
    /// Accelerators that are decided.
    accels: BTreeMap<String, Accel>,
    /// What each cell's boots showed: read once.
    boots: BTreeMap<CellId, Vec<BootObservation>>,
}

/// This host's number among those that share a run.
const HOST: u32 = 0;

/// Boots of a cell that no budget takes away: one boot tells nothing about the next.
const LEAST_BOOTS: usize = 2;

/// When the first look at each group of cells has to be over, in seconds of boots since the
/// run began, given how long each is expected to take. A budget that suffices is anybody's
/// whose turn it is, as long as it leaves what those after it need; one that does not is
/// shared out.
fn shares(budget: f64, expected: &[f64]) -> Vec<f64> {
    let all: f64 = expected.iter().sum();
    let mut before = 0.0;
    let end = |of: &f64| {
        before += of;
        let share = if all > 0.0 { budget * before / all } else { budget };
        share.max(budget - (all - before))
    };
    expected.iter().map(end).collect()
}

/// Building that a first page would have to wait for, at least, for some kernels to be booted
/// before the others are built.
const WORTH_A_FIRST_BOOT: Duration = Duration::from_secs(30);

/// How long what is left to do is expected to take.
#[derive(Clone, Copy, Debug, Default)]
struct Left {
    builds: Duration,
    /// Zero if no boot is left.
    boots: Duration,
}

/// Whether kernels of these roles can show that a control's splat is gone, and could not
/// before the last one was built.
fn show_something(roles: &[Role]) -> bool {
    let Some((Role::Contender, before)) = roles.split_last() else { return false };
    before.contains(&Role::Control) && !before.contains(&Role::Contender)
}

impl Crew<'_> {
    /// How long what is left is expected to take.
    fn expected(&mut self) -> Result<Left> {
        let mut total = Left::default();
        for cell in self.run.own_cells() {
            if cell.not_portable.is_some() {
                continue;
            }
            total.builds += self.expected_build(cell)?;
            let plan = &self.run.plan;
            for targets in [first_look(plan, cell), shown(plan, cell)] {
                total.boots += expect::boots(plan, &targets, self.boots_of(&cell.id)?);
            }
        }
        Ok(total)
    }

    /// The cells of a group in the order in which they are built: in that of the plan, but of
    /// the contenders those first for which little is rebuilt.
    fn quickest_first<'a>(&self, mut group: Vec<&'a Cell>) -> Result<Vec<&'a Cell>> {
        let mut slow = BTreeSet::new();
        for cell in &group {
            if cell.role == Role::Contender && !expect::is_small(&self.patches(cell))? {
                slow.insert(cell.id.clone());
            }
        }
        let negative = |cell: &Cell| cell.role == Role::NegativeControl;
        group.sort_by_key(|cell| (negative(cell), slow.contains(&cell.id)));
        Ok(group)
    }

    /// Whether the kernels of a group that are built already are to be booted once before the
    /// rest is built: as soon as they can show the control's splat, and that a contender does
    /// not have it, if whoever waits for a first page would wait much longer otherwise. Not
    /// where claims are about what is measured: there all kernels take turns from the first
    /// boot on.
    fn is_time_for_a_first_boot(&mut self, ready: &[&Cell], rest: &[&Cell]) -> Result<bool> {
        let Some(first) = ready.first() else { return Ok(false) };
        let roles: Vec<Role> = ready.iter().map(|cell| cell.role).collect();
        let claimed =
            self.run.plan.steps_of(&first.id).any(|planned| planned.purpose == Purpose::Claim);
        if claimed || !show_something(&roles) {
            return Ok(false);
        }
        for cell in ready {
            if !self.boots_of(&cell.id)?.is_empty() {
                return Ok(false);
            }
        }
        let mut builds = Duration::ZERO;
        for cell in rest {
            builds += self.expected_build(cell)?;
        }
        Ok(builds >= WORTH_A_FIRST_BOOT)
    }

    /// How long the kernel of a cell is expected to take to be built, if it has to be.
    fn expected_build(&mut self, cell: &Cell) -> Result<Duration> {
        let there = cell.not_portable.is_some()
            || self.store.kernel_json(&cell.id).is_file()
            || self.is_cached(cell)?;
        Ok(if there {
            Duration::ZERO
        } else {
            expect::build(host_cpus(), expect::is_small(&self.patches(cell))?)
        })
    }

    /// The complete boots of a cell.
    fn boots_of(&mut self, cell: &CellId) -> Result<&[BootObservation]> {
        if !self.boots.contains_key(cell) {
            let mut boots = Vec::new();
            for id in self.store.boots(cell)? {
                boots.push(assemble::observe_boot(self.store, &id)?.0);
            }
            self.boots.insert(cell.clone(), boots);
        }
        Ok(self.boots.get(cell).map(Vec::as_slice).unwrap_or_default())
    }

    /// Boots the cells in turn until all have what they are to have, or all boots of the run
    /// have taken `end` seconds: so a drift of the machine favours none of them, and none has
    /// more than others when time is over.
    fn interleaved(
        &mut self,
        mut cells: Vec<(&Cell, Vec<Target>)>,
        end: Option<f64>,
    ) -> Result<()> {
        while !cells.is_empty() {
            if end.is_some_and(|end| self.spent() >= end) {
                let mut boots = Vec::new();
                for (cell, _) in &cells {
                    boots.push(self.boots_of(&cell.id)?.len());
                }
                if boots.iter().all(|boots| *boots >= LEAST_BOOTS) {
                    return Ok(());
                }
            }
            let mut going = Vec::new();
            for (cell, targets) in cells {
                if self.one_boot(cell, &targets)? {
                    going.push((cell, targets));
                }
            }
            cells = going;
        }
        Ok(())
    }

    /// Seconds that the boots of this run have taken.
    fn spent(&self) -> f64 {
        self.boots.values().flatten().map(|boot| boot.seconds).sum()
    }

    /// The first boot of a cell that is not complete.
    fn next_id(&self, cell: &CellId) -> Result<BootId> {
        let made = self.store.boots(cell)?;
        let name = |number: usize| format!("{HOST}-{number:03}");
        let free = (0..=made.len()).map(name).find(|name| made.iter().all(|id| id.name != *name));
        Ok(BootId { cell: cell.clone(), name: free.unwrap_or_else(|| name(made.len())) })
    }

    /// Boots the cell once, if it has something left to do.
    fn one_boot(&mut self, cell: &Cell, targets: &[Target]) -> Result<bool> {
        let kernel = self.kernel_json(cell)?;
        let KernelOutcome::Built { .. } = &kernel.outcome else { return Ok(false) };
        self.tools.cancel.check()?;
        let Some(visits) = next_boot(targets, self.boots_of(&cell.id)?) else { return Ok(false) };
        let id = self.next_id(&cell.id)?;
        self.boot(cell, &id, visits)?;
        let (seen, _) = assemble::observe_boot(self.store, &id)?;
        self.boots.entry(cell.id.clone()).or_default().push(seen);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::{Role, shares, show_something};

    /// A first page needs the control and a contender, and comes once.
    #[test]
    fn a_first_page_needs_control_and_contender() {
        let [r, k, c] = [Role::Reference, Role::Control, Role::Contender];
        assert!(show_something(&[r, k, c]));
        for too_soon_or_late in
            [&[][..], &[r], &[r, k], &[r, c], &[r, k, c, c], &[r, k, c, Role::NegativeControl]]
        {
            assert!(!show_something(too_soon_or_late), "{too_soon_or_late:?}");
        }
    }

    /// Time that is enough belongs to whose turn it is, but for what the others need.
    #[test]
    fn a_budget_that_suffices_is_anybodys() {
        assert_eq!(shares(100.0, &[10.0, 20.0, 30.0]), [50.0, 70.0, 100.0]);
    }

    /// Time that is not enough is shared out by what each would take.
    #[test]
    fn a_budget_that_is_short_is_shared_out() {
        assert_eq!(shares(30.0, &[10.0, 20.0, 30.0]), [5.0, 15.0, 30.0]);
        assert_eq!(shares(30.0, &[0.0, 0.0]), [30.0, 30.0]);
    }
}
