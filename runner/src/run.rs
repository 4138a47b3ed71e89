// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pipeline: carries out a plan, stage by stage, into a run directory.
//!
//! Each stage looks first whether its product is there, so going on with an
//! interrupted run is the same code as beginning one.

mod crew;
pub mod exercise;
pub mod expect;
pub mod schedule;
pub mod watch;
pub mod within;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::schedule::first_look;
use self::within::Fit;
use crate::base::command::{Cancel, Command, host_cpus};
use crate::base::data::DataDir;
use crate::base::error::{Context, Error, Result};
use crate::base::event::Events;
use crate::keep::cache::Cache;
use crate::keep::freeze;
use crate::keep::store::{Environment, RunJson, Shard, Store, VERSION, read_json, write_json};
use crate::machine::accel::{self, Accel};
use crate::make::compile::{self, Compiler};
use crate::make::source;
use crate::spec::Spec;
use crate::spec::arch::Arch;
use crate::spec::guest::MachineSpec;
use crate::spec::plan::fuzz::FuzzPlan;
use crate::spec::plan::{Cell, Plan, Purpose, Selection};

pub use crew::carry_out;

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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Purpose, Request};
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
}
