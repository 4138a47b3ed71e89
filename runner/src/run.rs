// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pipeline: carries out a plan, stage by stage, into a run directory.
//!
//! Each stage looks first whether its product is there, so going on with an
//! interrupted run is the same code as beginning one.

pub mod exercise;
pub mod expect;
pub mod schedule;
pub mod watch;
pub mod within;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use bakeoff_fuzz::wire::{self, Workload};

use self::exercise::{Exercise, Limits};
use crate::base::command::{Cancel, Command, host_cpus};
use crate::base::data::DataDir;
use crate::base::error::{Context, Error, Result};
use crate::base::event::{Event, Events};
use crate::keep::cache::Cache;
use crate::keep::freeze;
use crate::keep::store::{
    BootId, BuildSeconds, Environment, KernelJson, KernelOutcome, RunJson, Shard, Store, VERSION,
    read_json, write_json,
};
use crate::machine::accel::{self, Accel};
use crate::machine::boot::Machine;
use crate::make::compile::{self, Build, Compiler, Kernel};
use crate::make::guest::{GuestBinaries, Origins};
use crate::make::source::{self, Fetch, Tree};
use crate::make::workload::{self, Packed};
use crate::run::schedule::{
    Steering, Target, cut_steps, first_look, hangs, next_boot, shown, shuffled,
};
use crate::run::watch::Watch;
use crate::run::within::Fit;
use crate::see::assemble;
use crate::see::observation::BootObservation;
use crate::spec::Spec;
use crate::spec::arch::Arch;
use crate::spec::guest::MachineSpec;
use crate::spec::plan::fuzz::FuzzPlan;
use crate::spec::plan::{Cell, CellId, Plan, Purpose, Selection, boot_seed};

/// CPUs of a guest: the sampled thread's and everybody else's.
pub const GUEST_CPUS: u32 = 2;

/// What every stage works with.
#[derive(Clone, Debug)]
pub struct Tools<'a> {
    /// Architectures, fragments, guest sources.
    pub data: &'a DataDir,
    /// What was made before.
    pub cache: &'a Cache,
    /// Whom to tell.
    pub events: &'a Events,
    /// Whether to stop.
    pub cancel: &'a Cancel,
}

/// How things are run; none of it changes what is measured.
#[derive(Clone, Debug, Default)]
pub struct Machinery {
    /// `--accel`.
    pub accel: Option<Accel>,
    /// `--guest-dir`.
    pub guest_dir: Option<PathBuf>,
    /// `--trust`.
    pub trust: bool,
    /// `--base-latest`.
    pub base_latest: bool,
    /// Compile everything, whatever ccache knows: for measuring.
    pub without_ccache: bool,
}

/// What is asked of a new run.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The spec, as it was given.
    pub spec: PathBuf,
    /// Which part of it.
    pub selection: Selection,
    /// `--add`.
    pub add: Vec<PathBuf>,
    /// The reference against so many copies of itself, for `calibrate`.
    pub against_itself: Option<u32>,
    /// `--out`.
    pub out: Option<PathBuf>,
    /// `--seed`.
    pub seed: u64,
    /// `--fuzz`.
    pub fuzz: bool,
    /// The part of the plan that fits into `--within`.
    pub fit: Option<Fit>,
    /// Only this shard of it is done here.
    pub shard: Option<Shard>,
    /// Nothing of it is done here: other machines do the shards.
    pub elsewhere: bool,
}

impl Request {
    /// The spec with the added series, as the run keeps it.
    fn written(&self, data: &DataDir) -> Result<Spec> {
        let mut spec = Spec::load(&self.spec, data)?;
        for dir in &self.add {
            spec.add_series(dir)?;
        }
        Ok(spec)
    }

    /// The plan for a spec, or the part of it that is wanted.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn plan(&self, spec: &Spec) -> Result<Plan> {
        let mut plan = Plan::new(spec, &self.selection, self.seed)?;
        if self.against_itself.is_some() {
            // The spec's is for one bake-off, and this is many.
            plan.budget_seconds = self.selection.budget.map(|budget| budget.as_secs());
            // What is only shown blames nobody.
            plan.steps.retain(|planned| planned.purpose != Purpose::Shown);
        }
        if let Some(fit) = &self.fit {
            plan.cells.retain(|cell| fit.cells.contains(&cell.id));
            plan.budget_seconds = Some(fit.budget_seconds);
        }
        Ok(plan)
    }

    /// The spec with the added series, or with copies of the reference in place of
    /// its candidates.
    ///
    /// # Errors
    /// As [`Spec::load`] and [`Spec::add_series`].
    pub fn spec(&self, data: &DataDir) -> Result<Spec> {
        Ok(self.copied(self.written(data)?))
    }

    fn copied(&self, mut spec: Spec) -> Spec {
        self.against_itself.iter().for_each(|copies| spec.against_itself(*copies));
        spec
    }
}

/// Begins a run: its folder, its frozen spec, its `run.json`.
///
/// # Errors
/// A bad spec or selection; the folder is taken; a tool is missing.
pub fn begin(request: &Request, machinery: &Machinery, tools: &Tools<'_>) -> Result<Store> {
    let written = request.written(tools.data)?;
    let given = request.copied(written.clone());
    // A wrong word is found before anything is written.
    request.plan(&given)?;
    FuzzPlan::new(&given, &request.selection, request.fuzz, request.seed)?;
    let now = jiff::Timestamp::now();
    let root = request.out.clone().unwrap_or_else(|| {
        Path::new("runs").join(format!("{}-{}", given.name, now.strftime("%Y%m%dT%H%M%SZ")))
    });
    let store = Store::create(&root)?;
    let spec_sha256 = freeze::freeze(&written, &store)?;
    let frozen = Request {
        spec: store.spec_dir(),
        add: request.add.iter().filter_map(|dir| freeze::frozen_series(&store, dir)).collect(),
        ..request.clone()
    };
    let spec = frozen.spec(tools.data)?;
    let mut plan = request.plan(&spec)?;
    for patch in plan.cells.iter_mut().flat_map(|cell| &mut cell.patches) {
        *patch = PathBuf::from(store.relative(patch));
    }
    let split = request.shard.is_some() || request.elsewhere;
    let fuzz = match request.against_itself {
        _ if split => None,
        None => FuzzPlan::new(&spec, &request.selection, request.fuzz, request.seed)?,
        Some(_) => None,
    };
    // From the spec as it was given: a relative folder means one beside that.
    let bases = given.bases.into_iter().map(|base| (base.name, base.source.absolute())).collect();
    let run = RunJson {
        store_version: VERSION,
        tool: crate::keep::tool(),
        bakeoff: spec.name,
        spec_sha256,
        spec_path: request.spec.clone(),
        added: request.add.clone(),
        against_itself: request.against_itself,
        started: now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        bases,
        environment: match request.elsewhere {
            true => Environment::default(),
            false => {
                let here = |cell: &&Cell| request.shard.as_ref().is_none_or(|s| s.has(&cell.id));
                environment(plan.cells.iter().filter(here), &spec.machine, machinery, tools)?
            }
        },
        shard: request.shard.clone(),
        left_out: request.fit.iter().flat_map(|fit| fit.left_out.clone()).collect(),
        pack: spec.pack,
        machine: spec.machine,
        fuzz,
        plan,
    };
    write_json(&store.run_json(), &run)?;
    Ok(store)
}

/// The `run.json` of a run that is gone on with here. One whose shards were to be done
/// elsewhere learns of this machine what it does not know yet.
///
/// # Errors
/// QEMU or a compiler is missing.
pub fn here(store: &Store, machinery: &Machinery, tools: &Tools<'_>) -> Result<RunJson> {
    let mut run: RunJson = read_json(&store.run_json())?;
    let known = |cell: &&Cell| run.environment.accel.contains_key(&cell.id.arch);
    if run.own_cells().all(|cell| known(&cell)) {
        return Ok(run);
    }
    let unknown = run.own_cells().filter(|cell| !known(cell));
    let new = environment(unknown, &run.machine, machinery, tools)?;
    let Environment { accel, accel_reason, qemu, compiler, cpus, guest_cpus, host_kernel } = new;
    let all = &mut run.environment;
    all.accel.extend(accel);
    all.accel_reason.extend(accel_reason);
    all.qemu.extend(qemu);
    all.compiler.extend(compiler);
    all.cpus = all.cpus.max(cpus);
    all.guest_cpus = guest_cpus;
    if all.host_kernel.is_empty() {
        all.host_kernel = host_kernel;
    }
    write_json(&store.run_json(), &run)?;
    Ok(run)
}

/// What the machine is on which these cells are done.
///
/// # Errors
/// QEMU or a compiler is missing.
pub fn environment<'a>(
    cells: impl Iterator<Item = &'a Cell>,
    machine: &MachineSpec,
    machinery: &Machinery,
    tools: &Tools<'_>,
) -> Result<Environment> {
    let mut environment = Environment {
        cpus: host_cpus(),
        guest_cpus: machine.cpus,
        host_kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        ..Environment::default()
    };
    for arch in archs(cells, tools.data)?.values() {
        let name = || arch.name.clone();
        let choice = accel::choose(arch, machinery.accel, tools.cancel)?;
        environment.accel.insert(name(), choice.accel.word().to_owned());
        environment.accel_reason.insert(name(), choice.reason);
        let version = |program: &str| -> Result<String> {
            let said = Command::new(program).arg("--version").check(tools.cancel)?.text();
            Ok(said.lines().next().unwrap_or_default().to_owned())
        };
        environment.qemu.insert(name(), version(&arch.qemu.program)?);
        environment.compiler.insert(name(), version(&format!("{}gcc", arch.cross_compile()))?);
    }
    Ok(environment)
}

fn archs<'a>(
    cells: impl Iterator<Item = &'a Cell>,
    data: &DataDir,
) -> Result<BTreeMap<String, Arch>> {
    let mut archs = BTreeMap::new();
    for cell in cells {
        let name = &cell.id.arch;
        if !archs.contains_key(name) {
            archs.insert(name.clone(), Arch::load(data, name)?);
        }
    }
    Ok(archs)
}

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
        let all = archs.values();
        scope.spawn(move || {
            // A run that ends before it has its sources, or boots nothing, needs no guests.
            if may_go.recv().is_ok() {
                prepare_guests(all, machinery, tools, &give);
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
        for cell in &group {
            crew.kernel_json(cell)?;
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

/// What each cell of a plan is expected to take here, and what comes before all of them.
/// Nothing is fetched for it: a base that is not in the cache has no kernels there.
///
/// # Errors
/// A patch or a fragment that cannot be read; a missing compiler.
pub fn costs(
    spec: &Spec,
    plan: &Plan,
    machinery: &Machinery,
    tools: &Tools<'_>,
) -> Result<(Vec<within::Cost>, Duration)> {
    let Tools { cache, data, events, cancel } = *tools;
    let options = compile::Options { trust: machinery.trust, ..compile::Options::default() };
    let compiler = Compiler::new(cache, data, options, events, cancel)?;
    let archs = archs(plan.cells.iter(), data)?;
    let mut trees = BTreeMap::new();
    let mut first = Duration::ZERO;
    for base in &spec.bases {
        let tree = source::tree_at_hand(&base.source, cache, cancel)?;
        if tree.is_none() {
            first += expect::UNPACKING;
        }
        trees.insert(base.name.as_str(), tree);
    }
    let mut bases_built = std::collections::BTreeSet::new();
    let mut costs = Vec::new();
    for cell in &plan.cells {
        if cell.not_portable.is_some() {
            costs.push(within::Cost::default());
            continue;
        }
        let group = (&cell.id.base, &cell.id.arch, &cell.id.profile);
        let mut known = compile::Known::default();
        if let (Some(Some(tree)), Some(arch)) =
            (trees.get(cell.id.base.as_str()), archs.get(&cell.id.arch))
        {
            let (machine, profile) = (&spec.machine, &cell.id.profile);
            let fragments = machine_fragments(machine, &cell.id.arch, profile, &spec.dir, data)?;
            known = compiler.known(&compile::Request {
                what: "",
                tree,
                patches: &cell.patches,
                foreign: cell.foreign,
                arch,
                profile,
                traced: &[],
                fragments: &fragments,
                log: Path::new(""),
            })?;
        }
        let stock = cell.patches.is_empty();
        let mut build = Duration::ZERO;
        if !known.kernel {
            // A contender starts from its base's build folder, whoever needs it first.
            if !known.base && !bases_built.contains(&group) {
                build += expect::build(host_cpus(), false);
            }
            if !stock {
                build += expect::build(host_cpus(), expect::is_small(&cell.patches)?);
            }
            bases_built.insert(group);
        }
        let boots = expect::boots(plan, &first_look(plan, cell), &[]);
        costs.push(within::Cost { build, boots });
    }
    Ok((costs, first))
}

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

/// How long what is left to do is expected to take.
#[derive(Clone, Copy, Debug, Default)]
struct Left {
    builds: Duration,
    /// Zero if no boot is left.
    boots: Duration,
}

impl Crew<'_> {
    /// How long what is left is expected to take.
    fn expected(&mut self) -> Result<Left> {
        let mut total = Left::default();
        for cell in self.run.own_cells() {
            if cell.not_portable.is_some() {
                continue;
            }
            if !self.store.kernel_json(&cell.id).is_file() && !self.is_cached(cell)? {
                total.builds += expect::build(host_cpus(), expect::is_small(&self.patches(cell))?);
            }
            let plan = &self.run.plan;
            for targets in [first_look(plan, cell), shown(plan, cell)] {
                total.boots += expect::boots(plan, &targets, self.boots_of(&cell.id)?);
            }
        }
        Ok(total)
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

impl Crew<'_> {
    /// How the cell's build ended; builds it if that is not known yet.
    fn kernel_json(&mut self, cell: &Cell) -> Result<KernelJson> {
        let path = self.store.kernel_json(&cell.id);
        if path.is_file() {
            return read_json(&path);
        }
        let json = match &cell.not_portable {
            Some(reason) => KernelJson {
                store_version: VERSION,
                outcome: KernelOutcome::NotPortable { reason: reason.clone() },
                patches: Vec::new(),
                seconds: BuildSeconds::default(),
            },
            None => self.build(cell)?.json,
        };
        write_json(&path, &json)?;
        Ok(json)
    }

    /// The kernel of a cell whose build ended well before. It is in the cache, or made
    /// again, and then it must be the same one.
    fn kernel(&mut self, cell: &Cell, known: &KernelJson) -> Result<Kernel> {
        if let Some(kernel) = self.kernels.get(&cell.id) {
            return Ok(kernel.clone());
        }
        let image_of = |json: &KernelJson| match &json.outcome {
            KernelOutcome::Built { image_sha256, .. } => Some(image_sha256.clone()),
            _ => None,
        };
        let build = self.build(cell)?;
        if image_of(&build.json) != image_of(known) {
            return Err(Error::failure(format!(
                "{} was built again and is another kernel than the one this run began with",
                cell.id
            ))
            .hint("compiler or tools changed: start a new run"));
        }
        self.kernels
            .get(&cell.id)
            .cloned()
            .ok_or_else(|| Error::failure(format!("{} has no kernel", cell.id)))
    }

    fn build(&mut self, cell: &Cell) -> Result<Build> {
        self.tools.cancel.check()?;
        let dir = self.store.cell(&cell.id);
        fs::create_dir_all(&dir).at_path("create", &dir)?;
        let build = self.with_request(cell, |compiler, request| compiler.build(request))?;
        if let Some(kernel) = &build.kernel {
            self.kernels.insert(cell.id.clone(), kernel.clone());
        }
        Ok(build)
    }

    fn is_cached(&mut self, cell: &Cell) -> Result<bool> {
        self.with_request(cell, |compiler, request| compiler.is_cached(request))
    }

    /// Asks the compiler for something about a cell's kernel.
    fn with_request<T>(
        &mut self,
        cell: &Cell,
        ask: impl FnOnce(&Compiler<'_>, &compile::Request<'_>) -> Result<T>,
    ) -> Result<T> {
        let tree = self.tree(&cell.id.base)?;
        let request = compile::Request {
            what: &cell.id.to_string(),
            tree: &tree,
            patches: &self.patches(cell),
            foreign: cell.foreign,
            arch: self.arch(&cell.id.arch)?,
            profile: &cell.id.profile,
            traced: &[],
            fragments: &self.fragments(cell)?,
            log: &self.store.build_log(&cell.id),
        };
        ask(&self.compiler, &request)
    }

    /// The kconfig fragments that the bake-off itself has for a cell.
    fn fragments(&self, cell: &Cell) -> Result<Vec<compile::Fragment>> {
        let machine = &self.run.machine;
        let (arch, profile) = (&cell.id.arch, &cell.id.profile);
        machine_fragments(machine, arch, profile, &self.store.spec_dir(), self.tools.data)
    }

    /// The cell's series, in the run.
    fn patches(&self, cell: &Cell) -> Vec<PathBuf> {
        cell.patches.iter().map(|patch| self.store.root().join(patch)).collect()
    }

    fn tree(&mut self, base: &str) -> Result<Tree> {
        if let Some(tree) = self.trees.get(base) {
            return Ok(tree.clone());
        }
        let source = self.run.bases.get(base).ok_or_else(|| {
            Error::bad_input(format!("{} has no base `{base}`", self.store.run_json().display()))
        })?;
        let fetch = Fetch { latest: self.machinery.base_latest, ..Fetch::default() };
        let Tools { cache, events, cancel, .. } = self.tools;
        let tree = source::obtain(source, &fetch, cache, events, cancel)?;
        self.trees.insert(base.to_owned(), tree.clone());
        Ok(tree)
    }

    fn arch(&self, name: &str) -> Result<&'_ Arch> {
        self.archs
            .get(name)
            .ok_or_else(|| Error::bad_input(format!("the plan has no architecture `{name}`")))
    }
}

/// The fragments of a bake-off whose files lie in `dir` for one kernel, and what its
/// machine needs.
///
/// # Errors
/// One cannot be read.
pub fn machine_fragments(
    machine: &MachineSpec,
    arch: &str,
    profile: &str,
    dir: &Path,
    data: &DataDir,
) -> Result<Vec<compile::Fragment>> {
    const DISK: &str = "kconfigs/disk.config";
    let mut fragments = Vec::new();
    if machine.disk_mib.is_some() {
        let text = data.read_text(DISK)?.ok_or_else(|| {
            Error::failure(format!("there is no kconfig fragment {}", data.describe(DISK)))
        })?;
        fragments.push(compile::Fragment { name: DISK.to_owned(), text });
    }
    for path in machine.fragments_of(arch, profile) {
        let file = dir.join(path);
        let text = fs::read_to_string(&file).at_path("read", &file)?;
        fragments.push(compile::Fragment { name: path.display().to_string(), text });
    }
    Ok(fragments)
}

/// This host's number among those that share a run.
const HOST: u32 = 0;

impl Crew<'_> {
    /// One boot.
    fn boot(&mut self, cell: &Cell, id: &BootId, visits: Vec<u32>) -> Result<()> {
        let known = self.kernel_json(cell)?;
        let kernel = self.kernel(cell, &known)?;
        let made = self.boots_of(&cell.id)?;
        let last = cut_steps(made);
        let hangs = hangs(made);
        self.guest_binaries(&cell.id.arch)?;
        let accel = self.accel(&cell.id.arch, &kernel.image)?;
        let packed = self.packed(cell)?;
        let binaries = &self.binaries(&cell.id.arch)?.clone().with(packed);
        let arch = self.arch(&cell.id.arch)?;
        let Tools { events, cancel, .. } = self.tools;
        let seed = boot_seed(self.run.plan.seed, &cell.id, &id.name);
        let all = self.run.plan.steps_of(&cell.id).map(|planned| &planned.step);
        let workload = Workload {
            wire: wire::VERSION,
            boot: id.name.clone(),
            seed,
            steps: all.filter(|step| visits.contains(&step.id)).cloned().collect(),
            visits: shuffled(visits, &last, seed),
        };
        let expected = expect::boot(&self.run.plan, &workload.visits);
        let limits = Limits::new(accel, &workload, expected).after_hangs(hangs);
        let exercise = Exercise {
            store: self.store,
            id,
            machine: Machine::of_spec(arch, accel, &self.run.machine),
            kernel: &kernel.image,
            binaries,
            workload: &workload,
            limits,
        };
        exercise::exercise(&exercise, &mut Watch::default(), events, cancel).map(|_| ())
    }

    /// What commands need in the guests of a cell.
    fn packed(&mut self, cell: &Cell) -> Result<Packed> {
        let key = (cell.id.base.clone(), cell.id.arch.clone());
        if let Some(packed) = self.packed.get(&key) {
            return Ok(packed.clone());
        }
        let tree = self.tree(&cell.id.base)?;
        let Tools { cache, events, cancel, .. } = self.tools;
        let desk = workload::Desk { cache, events, cancel };
        let arch = self.arch(&cell.id.arch)?;
        let dir = self.store.spec_dir();
        let packed = workload::obtain(&self.run.pack, &dir, arch, &tree, &desk)?;
        self.packed.insert(key, packed.clone());
        Ok(packed)
    }

    /// What the run began with; a run that has boots does not change horses.
    fn accel(&mut self, arch: &str, kernel: &Path) -> Result<Accel> {
        if let Some(accel) = self.accels.get(arch) {
            return Ok(*accel);
        }
        let known = self.run.environment.accel.get(arch).map(String::as_str);
        let began = if known == Some(Accel::Kvm.word()) { Accel::Kvm } else { Accel::Tcg };
        let accel = match began {
            Accel::Tcg => began,
            Accel::Kvm => {
                let binaries = self.binaries(arch)?;
                let wanted = self.machinery.accel;
                let cancel = self.tools.cancel;
                let now = self.arch(arch).and_then(|arch| {
                    accel::confirm(arch, self.run.machine.cpus, wanted, kernel, binaries, cancel)
                })?;
                if now.accel == Accel::Tcg {
                    self.emulate(arch, &now.reason)?;
                }
                now.accel
            }
        };
        self.accels.insert(arch.to_owned(), accel);
        Ok(accel)
    }

    /// Notes that KVM is of no use after all.
    fn emulate(&self, arch: &str, reason: &str) -> Result<()> {
        for cell in self.run.own_cells().filter(|cell| cell.id.arch == arch) {
            if !self.store.boots(&cell.id)?.is_empty() {
                return Err(Error::failure(format!(
                    "this run began with KVM for {arch}: {reason}"
                ))
                .hint("resume it where KVM works, or start a new run"));
            }
        }
        self.tools.events.warning(format!("{arch} guests are emulated: {reason}"));
        // Others may have been changed before.
        let mut run: RunJson = read_json(&self.store.run_json())?;
        run.environment.accel.insert(arch.to_owned(), Accel::Tcg.word().to_owned());
        run.environment.accel_reason.insert(arch.to_owned(), reason.to_owned());
        write_json(&self.store.run_json(), &run)
    }

    fn binaries(&self, arch: &str) -> Result<&GuestBinaries> {
        let binaries = self.guests.get(arch);
        binaries.ok_or_else(|| Error::failure(format!("no guest binaries for {arch}")))
    }

    /// Has the guest binaries made, if nobody has said so before.
    fn want_guests(&mut self) {
        if let Some(go) = self.go.take() {
            // The thread that waits for it outlives this run.
            let _ = go.send(());
        }
    }

    /// Waits for the guest binaries of an architecture.
    fn guest_binaries(&mut self, arch: &str) -> Result<()> {
        self.want_guests();
        while !self.guests.contains_key(arch) {
            let (name, binaries) = self
                .coming
                .recv()
                .map_err(|_| Error::failure(format!("there are no guest binaries for {arch}")))?;
            self.guests.insert(name, binaries?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Purpose, Request, shares};
    use crate::base::data::DataDir;

    /// A calibration has no use for what blames nobody, nor for the budget of one bake-off.
    #[test]
    fn copies_do_only_what_can_blame_them() {
        let spec = Path::new(env!("CARGO_MANIFEST_DIR")).join("../patches/find-vma");
        let purposes = |against_itself| {
            let request = Request { spec: spec.clone(), against_itself, ..Request::default() };
            let plan = request.plan(&request.spec(&DataDir::embedded()).unwrap()).unwrap();
            let has = |purpose| plan.steps.iter().any(|planned| planned.purpose == purpose);
            let all = [Purpose::Claim, Purpose::Other, Purpose::Shown].map(has);
            (all, plan.budget_seconds.is_some())
        };
        assert_eq!(purposes(None), ([true; 3], true));
        assert_eq!(purposes(Some(3)), ([true, true, false], false));
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
