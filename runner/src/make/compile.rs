// SPDX-License-Identifier: MIT OR Apache-2.0
//! A tree, a series and a configuration become a kernel, or the reason why not.
//!
//! The stock kernel of a base is built in full, once per architecture and
//! profile; its build folder is kept, and every series starts from a copy of it,
//! so that only what the series touches is compiled (seconds instead of minutes
//! where it is no header of everybody's). What does not apply or compile is an
//! outcome; a full disk or a killed compiler is our error.
//!
//! A kernel's key in the cache says everything it depends on: source, series,
//! configuration, variables of make, compiler and linker, and [`RECIPE`].

mod kconfig;
mod make;
pub(crate) mod sandbox;
mod workspace;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use kconfig::{Declared, Wanted};
pub use make::Toolchain;
pub use sandbox::Sandbox;

use self::make::{Made, Make};
pub(crate) use self::make::{first_errors, our_fault};
use self::workspace::{Bin, STOCK_LOG, Workspace, remove_leftovers};
use crate::base::command::Cancel;
use crate::base::data::DataDir;
use crate::base::error::{Context, Error, Result};
use crate::base::event::{Events, Stage, Task};
use crate::keep::cache::{Cache, Kind, hex, sha256_file};
use crate::keep::store::{self, BuildSeconds, KernelJson, KernelOutcome, read_json, write_json};
use crate::make::prereq::BTF;
use crate::make::source::Tree;
use crate::make::source::series::{self, Applied, Patch};
use crate::make::source::workspace::{BUILD, copy_build, link_tree};
use crate::spec::arch::Arch;

/// Raised when the way kernels are made changes: what was cached is then made again.
const RECIPE: u32 = 1;
/// What a build takes at most: its folder, copies of image and symbols.
const BUILD_BYTES: u64 = 2 << 30;
/// Names in a kernel's cache entry.
const IMAGE: &str = "image";
const VMLINUX: &str = "vmlinux";
const CONFIG: &str = "config";
const MAP: &str = "System.map";
const BUILT: &str = "built.json";
/// The tree's folder in a workspace.
const TREE: &str = "linux";
/// Where a cached build folder was made, in its cache entry.
const WORKSPACE: &str = "workspace.json";

/// How kernels are to be built.
#[derive(Clone, Debug)]
pub struct Options {
    /// `make -j`.
    pub jobs: usize,
    /// clang and lld instead of gcc and binutils.
    pub llvm: bool,
    /// Use ccache if it is installed.
    pub ccache: bool,
    /// Build foreign series without a sandbox.
    pub trust: bool,
}

impl Default for Options {
    fn default() -> Self {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        Options { jobs, llvm: false, ccache: true, trust: false }
    }
}

/// The make command line for an architecture, as one would type it in a tree.
///
/// # Errors
/// A compiler is missing.
pub fn make_line(arch: &Arch, cancel: &Cancel) -> Result<String> {
    let Options { jobs, llvm, ccache, .. } = Options::default();
    let toolchain = Toolchain::find(arch, llvm, ccache, cancel)?;
    let make = Make {
        tree: Path::new("."),
        arch,
        toolchain: &toolchain,
        more: &[],
        jobs,
        sandboxed: false,
    };
    Ok(make.line(&arch.kernel.targets))
}

/// One kernel that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The cell's name, for people.
    pub what: &'a str,
    /// The base.
    pub tree: &'a Tree,
    /// The series; empty for the stock kernel.
    pub patches: &'a [PathBuf],
    /// The series came from the command line.
    pub foreign: bool,
    /// For what machine.
    pub arch: &'a Arch,
    /// Name of the last kconfig fragment.
    pub profile: &'a str,
    /// Files whose coverage is wanted beside the folders that the profile names, if it
    /// names any.
    pub traced: &'a [String],
    /// The bake-off's own kconfig fragments, which come last.
    pub fragments: &'a [Fragment],
    /// Where make's words go.
    pub log: &'a Path,
}

/// A kconfig fragment of a bake-off's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// For people: where it lies.
    pub name: String,
    /// Its lines.
    pub text: String,
}

/// A kernel in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its key.
    pub key: String,
    /// What QEMU boots.
    pub image: PathBuf,
    /// With symbols and what debug info the profile has.
    pub vmlinux: PathBuf,
    /// The whole configuration.
    pub config: PathBuf,
    /// `System.map`.
    pub map: PathBuf,
}

impl Kernel {
    /// Whether it tells its types to BPF programs (`CONFIG_DEBUG_INFO_BTF`).
    ///
    /// # Errors
    /// Its configuration cannot be read.
    pub fn has_btf(&self) -> Result<bool> {
        let config = fs::read_to_string(&self.config).at_path("read", &self.config)?;
        Ok(config.lines().any(|line| line == BTF))
    }
}

/// What is in the cache for a kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The kernel.
    pub kernel: bool,
    /// The build folder of its base, from which it would be built.
    pub base: bool,
}

/// How building a cell ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Build {
    /// For the run's `kernel.json`.
    pub json: KernelJson,
    /// There is one only if it was built.
    pub kernel: Option<Kernel>,
}

/// `built.json`: how a cached kernel came to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BuiltJson {
    recipe: u32,
    base: String,
    patches: Vec<String>,
    compiler: String,
    linker: String,
    make: String,
    sandbox: String,
    objects: u64,
    seconds: BuildSeconds,
    image_sha256: String,
}

/// `workspace.json`: the paths that a cached build folder has inside.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkspaceJson {
    tree: PathBuf,
}

/// Builds kernels.
#[derive(Debug)]
pub struct Compiler<'a> {
    cache: &'a Cache,
    data: &'a DataDir,
    events: &'a Events,
    cancel: &'a Cancel,
    options: Options,
    sandbox: Sandbox,
    bin: Bin,
    /// Entries whose contents were compared.
    verified: Mutex<BTreeSet<(Kind, String)>>,
}

impl<'a> Compiler<'a> {
    /// A compiler; tries the sandbox.
    ///
    /// # Errors
    /// No folder to work in, interrupted.
    pub fn new(
        cache: &'a Cache,
        data: &'a DataDir,
        options: Options,
        events: &'a Events,
        cancel: &'a Cancel,
    ) -> Result<Self> {
        let sandbox = Sandbox::probe(&cache.work_dir()?, cancel)?;
        remove_leftovers(cache)?;
        let (bin, verified) = (Bin::default(), Mutex::default());
        Ok(Compiler { cache, data, events, cancel, options, sandbox, bin, verified })
    }

    /// Whether there is such a kernel in the cache; it is verified when used.
    ///
    /// # Errors
    /// A missing compiler, a patch or a fragment that cannot be read.
    pub fn is_cached(&self, request: &Request<'_>) -> Result<bool> {
        self.with_job(request, |job| Ok(self.cache.has(Kind::Kernel, &job.key())))
    }

    /// What is in the cache for such a kernel, whole or not.
    ///
    /// # Errors
    /// As [`Compiler::is_cached`].
    pub fn known(&self, request: &Request<'_>) -> Result<Known> {
        self.with_job(request, |job| {
            let stock = job.stock(request).key();
            Ok(Known {
                kernel: self.cache.has(Kind::Kernel, &job.key()),
                base: self.cache.has(Kind::Build, &stock),
            })
        })
    }

    /// Builds a kernel, or takes it from the cache.
    ///
    /// # Errors
    /// Ours: a dropped kconfig option of the stock kernel, a missing compiler, a
    /// full disk, a killed make, a foreign series without a sandbox, interrupted.
    pub fn build(&self, request: &Request<'_>) -> Result<Build> {
        self.with_job(request, |job| job.run())
    }

    /// An entry to build from: its contents are compared, once in a run.
    fn verified(&self, kind: Kind, key: &str) -> Result<Option<PathBuf>> {
        let name = (kind, key.to_owned());
        let known = || self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if known().contains(&name) {
            return self.cache.get(kind, key);
        }
        // From the remote cache, if it is there only: it was verified on its way.
        let entry = match self.cache.get(kind, key)? {
            Some(_) => self.cache.get_verified(kind, key)?,
            None => None,
        };
        if entry.is_some() {
            known().insert(name);
        }
        Ok(entry)
    }

    fn with_job<T>(
        &self,
        request: &Request<'_>,
        act: impl FnOnce(&Job<'_>) -> Result<T>,
    ) -> Result<T> {
        let toolchain =
            Toolchain::find(request.arch, self.options.llvm, self.options.ccache, self.cancel)?;
        let wanted = wanted(self.data, request.arch, request.profile, request.fragments)?;
        let patches = series::read(request.patches, self.cancel)?;
        let (toolchain, wanted, patches) = (&toolchain, &wanted, &patches);
        act(&Job { compiler: self, request, toolchain, wanted, patches })
    }
}

/// The configuration of a kernel: the project's fragments, then the bake-off's own.
///
/// # Errors
/// A fragment that is missing, or has a line that is none.
pub fn wanted(
    data: &DataDir,
    arch: &Arch,
    profile: &str,
    fragments: &[Fragment],
) -> Result<Wanted> {
    let mut names = arch.kernel.kconfig.clone();
    names.push(format!("{profile}.config"));
    let mut wanted = Wanted::read(data, &names)?;
    for Fragment { name, text } in fragments {
        wanted.add(name, text, data)?;
    }
    Ok(wanted)
}

/// One kernel and everything it is made from.
struct Job<'a> {
    compiler: &'a Compiler<'a>,
    request: &'a Request<'a>,
    toolchain: &'a Toolchain,
    wanted: &'a Wanted,
    patches: &'a [Patch],
}

/// How compiling ended, before it is written down.
enum Outcome {
    Built { make: String, objects: u64 },
    DidNotApply { patch: String, reason: String },
    DidNotBuild { reason: String },
}

impl Job<'_> {
    /// A hash over all the kernel depends on.
    fn key(&self) -> String {
        let mut hash = Sha256::new();
        let mut add = |part: &str| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(&RECIPE.to_string());
        add(&self.request.tree.key);
        for patch in self.patches {
            add(&patch.sha256);
        }
        add("config");
        add(&self.wanted.text);
        for patch in &self.wanted.patches {
            add(&patch.sha256);
        }
        add("make");
        for word in self.toolchain.identity(self.request.arch) {
            add(&word);
        }
        for word in self.more() {
            add(&word);
        }
        for target in &self.request.arch.kernel.targets {
            add(target);
        }
        add(&self.request.arch.kernel.image.display().to_string());
        add(&self.toolchain.compiler);
        add(&self.toolchain.linker);
        let name = format!("{}-{}", self.request.arch.name, self.request.profile);
        format!("{name}-{}", hex(&hash.finalize()).get(..24).unwrap_or_default())
    }

    /// Variables of make beside the toolchain's.
    fn more(&self) -> Vec<String> {
        make::instrumented(&self.wanted.instruments, self.request.traced).into_iter().collect()
    }

    /// The same without the series.
    fn stock<'b>(&'b self, request: &'b Request<'b>) -> Job<'b> {
        Job {
            compiler: self.compiler,
            request,
            toolchain: self.toolchain,
            wanted: self.wanted,
            patches: &[],
        }
    }

    fn run(&self) -> Result<Build> {
        let Compiler { cache, events, cancel, options, sandbox, .. } = self.compiler;
        let key = self.key();
        if let Some(entry) = cache.get(Kind::Kernel, &key)? {
            return self.cached(&key, &entry);
        }
        let (sandboxed, how) = sandbox.decide(self.request.foreign, options.trust)?;
        let _lock = cache.lock(Kind::Kernel, &key, cancel)?;
        if let Some(entry) = cache.get(Kind::Kernel, &key)? {
            return self.cached(&key, &entry);
        }
        // Before the clock starts: what a series starts from is not its own time.
        let start = if self.patches.is_empty() { None } else { self.stock_build()? };
        cache.require_free(BUILD_BYTES, "building a kernel")?;
        let task = events.start(Stage::Build, self.request.what, None);
        let workspace = Workspace::new(cache, &key, &self.compiler.bin)?;
        let mut seconds = BuildSeconds::default();
        let outcome =
            self.compile(&workspace.tree, start.as_deref(), sandboxed, &task, &mut seconds)?;
        let titles = self.patches.iter().map(|patch| patch.subject.clone()).collect::<Vec<_>>();
        let json = |outcome| KernelJson {
            store_version: store::VERSION,
            outcome,
            patches: titles.clone(),
            seconds,
        };
        let build = match outcome {
            Outcome::DidNotApply { patch, reason } => {
                task.finish("does not apply");
                Build { json: json(KernelOutcome::DidNotApply { patch, reason }), kernel: None }
            }
            Outcome::DidNotBuild { reason } => {
                task.finish("does not build");
                Build { json: json(KernelOutcome::DidNotBuild { reason }), kernel: None }
            }
            Outcome::Built { make, objects } => {
                let built = BuiltJson {
                    recipe: RECIPE,
                    base: self.request.tree.label.clone(),
                    patches: titles.clone(),
                    compiler: self.toolchain.compiler.clone(),
                    linker: self.toolchain.linker.clone(),
                    make: make.clone(),
                    sandbox: how.clone(),
                    objects,
                    seconds,
                    image_sha256: String::new(),
                };
                let (kernel, image_sha256) = self.keep(&key, &workspace.tree, built)?;
                task.finish(format!("built, {objects} objects"));
                let outcome = KernelOutcome::Built {
                    key,
                    image_sha256,
                    from_cache: false,
                    objects: Some(objects),
                    sandbox: how,
                    make,
                };
                Build { json: json(outcome), kernel: Some(kernel) }
            }
        };
        Ok(build)
    }

    fn cached(&self, key: &str, entry: &Path) -> Result<Build> {
        let built: BuiltJson = read_json(&entry.join(BUILT))?;
        let seconds = BuildSeconds {
            cached: Some(built.seconds.copy + built.seconds.make),
            ..BuildSeconds::default()
        };
        let outcome = KernelOutcome::Built {
            key: key.to_owned(),
            image_sha256: built.image_sha256,
            from_cache: true,
            objects: None,
            sandbox: built.sandbox,
            make: built.make,
        };
        let task = self.compiler.events.start(Stage::Build, self.request.what, None);
        task.finish("in the cache");
        Ok(Build {
            json: KernelJson {
                store_version: store::VERSION,
                outcome,
                patches: self.patches.iter().map(|patch| patch.subject.clone()).collect(),
                seconds,
            },
            kernel: Some(kernel_at(key, entry)),
        })
    }

    /// The stock kernel's build folder; made now if nobody has. `None` if the
    /// stock kernel does not build: then the series starts from nothing.
    fn stock_build(&self) -> Result<Option<PathBuf>> {
        let cache = self.compiler.cache;
        let log = cache.work_dir()?.join(format!("{}{STOCK_LOG}", self.key()));
        let what = format!("{} (its base)", self.request.what);
        let request =
            Request { what: &what, patches: &[], foreign: false, log: &log, ..*self.request };
        let stock = self.stock(&request);
        let key = stock.key();
        if let Some(entry) = self.compiler.verified(Kind::Build, &key)? {
            return Ok(Some(entry));
        }
        // The kernel may be there without its build folder: both are made again.
        let build = stock.run()?;
        let made = matches!(build.json.outcome, KernelOutcome::Built { from_cache: false, .. });
        if !made && build.kernel.is_some() {
            stock.remake(&key)?;
        }
        let _ = fs::remove_file(&log);
        self.compiler.verified(Kind::Build, &key)
    }

    /// Builds a kernel that is in the cache again, for the sake of its build folder.
    fn remake(&self, key: &str) -> Result<()> {
        let Compiler { cache, events, cancel, .. } = self.compiler;
        let _lock = cache.lock(Kind::Kernel, key, cancel)?;
        cache.require_free(BUILD_BYTES, "building a kernel")?;
        let task = events.start(Stage::Build, self.request.what, None);
        let workspace = Workspace::new(cache, key, &self.compiler.bin)?;
        let mut seconds = BuildSeconds::default();
        let outcome = self.compile(&workspace.tree, None, false, &task, &mut seconds)?;
        if matches!(outcome, Outcome::Built { .. }) {
            self.keep_build(key, &workspace.tree)?;
            task.finish("built again for its build folder");
        }
        Ok(())
    }

    fn compile(
        &self,
        tree: &Path,
        start: Option<&Path>,
        sandboxed: bool,
        task: &Task,
        seconds: &mut BuildSeconds,
    ) -> Result<Outcome> {
        let Compiler { cancel, options, .. } = self.compiler;
        let copying = Instant::now();
        let Tree { key, dir, .. } = self.request.tree;
        if dir.starts_with(self.compiler.cache.root())
            && self.compiler.verified(Kind::Tree, key)?.is_none()
        {
            return Err(Error::failure(format!(
                "the tree of {} in the cache was damaged, and is removed",
                self.request.tree.label
            ))
            .hint("it is made again when the run goes on"));
        }
        link_tree(&self.request.tree.dir, tree, cancel)?;
        if let Applied::Rejected { patch, reason } =
            series::apply(tree, &self.wanted.patches, cancel)?
        {
            return Err(Error::bad_input(format!(
                "{}: {patch}, which profile {} has in every kernel, does not apply to {}: {reason}",
                self.request.what, self.request.profile, self.request.tree.label
            ))
            .hint("rewrite the patch for this base, or leave the profile out for it"));
        }
        if let Applied::Rejected { patch, reason } = series::apply(tree, self.patches, cancel)? {
            seconds.copy = copying.elapsed().as_secs_f64();
            return Ok(Outcome::DidNotApply { patch, reason });
        }
        let build = tree.join(BUILD);
        if let Some(start) = start {
            let old: WorkspaceJson = read_json(&start.join(WORKSPACE))?;
            copy_build(&start.join(BUILD), &old.tree, tree, cancel)?;
        } else {
            fs::create_dir_all(&build).at_path("create", &build)?;
        }
        let all = build.join("bakeoff.allconfig");
        fs::write(&all, &self.wanted.text).at_path("write", &all)?;
        seconds.copy = copying.elapsed().as_secs_f64();

        let making = Instant::now();
        let make = Make {
            tree,
            arch: self.request.arch,
            toolchain: self.toolchain,
            more: &self.more(),
            jobs: options.jobs,
            sandboxed,
        };
        let outcome = self.make(&make, task);
        seconds.make = making.elapsed().as_secs_f64();
        outcome
    }

    fn make(&self, make: &Make<'_>, task: &Task) -> Result<Outcome> {
        let cancel = self.compiler.cancel;
        let log = self.request.log;
        // Each call has a log of its own until it is over: the run's log has them all.
        let mut said = String::new();
        let mut run = |targets: &[String], env: &[(&str, &str)]| -> Result<(Made, String)> {
            let one = make.tree.join("..").join("make.log");
            let made = make.run(targets, env, &one, task, cancel)?;
            let text = String::from_utf8_lossy(&fs::read(&one).at_path("read", &one)?).into_owned();
            said.push_str(&format!("$ {}\n{text}", make.line(targets)));
            store::write_whole(log, said.as_bytes())?;
            Ok((made, text))
        };
        let allconfig = [("KCONFIG_ALLCONFIG", "bakeoff.allconfig")];
        for (target, env) in [("allnoconfig", &allconfig[..]), ("olddefconfig", &[])] {
            let (made, text) = run(&[target.to_owned()], env)?;
            if let Some(outcome) = self.failed(&made, &text)? {
                return Ok(outcome);
            }
        }
        let config = make.tree.join(BUILD).join(".config");
        let config = fs::read_to_string(&config).unwrap_or_default();
        let mut dropped = self.wanted.dropped(&config);
        let missing = self.wanted.instruments.iter().filter(|dir| !make.tree.join(dir).is_dir());
        dropped.extend(missing.map(|dir| format!("there is no {dir} to instrument")));
        if !dropped.is_empty() {
            let reason = format!("kconfig did not honour: {}", dropped.join("; "));
            if self.patches.is_empty() {
                return Err(Error::bad_input(format!("{}: {reason}", self.request.what)).hint(
                    "the option was renamed, or lacks a dependency, in this version: change the \
                     fragment",
                ));
            }
            return Ok(Outcome::DidNotBuild { reason });
        }
        let targets = &self.request.arch.kernel.targets;
        let (made, text) = run(targets, &[])?;
        if let Some(outcome) = self.failed(&made, &text)? {
            return Ok(outcome);
        }
        for product in [self.request.arch.kernel.image.as_path(), Path::new(VMLINUX)] {
            if product_of(make.tree, product).is_none() {
                let reason = format!("make ended well, but there is no `{}`", product.display());
                return Ok(Outcome::DidNotBuild { reason });
            }
        }
        Ok(Outcome::Built { make: make.line(targets), objects: made.objects })
    }

    /// What a call of make that failed means.
    fn failed(&self, made: &Made, log: &str) -> Result<Option<Outcome>> {
        if made.finished.success() {
            return Ok(None);
        }
        if let Some(why) = our_fault(&made.finished, log) {
            return Err(Error::failure(format!(
                "building {} failed for want of something of ours: {why}",
                self.request.what
            ))
            .hint("free memory or disk space (`bakeoff cache`), or give fewer --jobs"));
        }
        let reason = if made.finished.timed_out {
            "make did not come to an end".to_owned()
        } else {
            first_errors(log)
        };
        Ok(Some(Outcome::DidNotBuild { reason }))
    }

    /// Puts the products into the cache.
    fn keep(&self, key: &str, tree: &Path, mut built: BuiltJson) -> Result<(Kernel, String)> {
        let cache = self.compiler.cache;
        let mut image_sha256 = String::new();
        let entry = cache.put(Kind::Kernel, key, |aside| {
            let copy = |product: &Path, name: &str| -> Result<()> {
                let Some(from) = product_of(tree, product) else { return Ok(()) };
                let to = aside.join(name);
                fs::copy(&from, &to).at_path("copy to", &to)?;
                Ok(())
            };
            copy(&self.request.arch.kernel.image, IMAGE)?;
            if self.request.arch.kernel.image == Path::new(VMLINUX) {
                let (image, vmlinux) = (aside.join(IMAGE), aside.join(VMLINUX));
                fs::hard_link(&image, &vmlinux).at_path("link", &vmlinux)?;
            } else {
                copy(Path::new(VMLINUX), VMLINUX)?;
            }
            copy(Path::new(".config"), CONFIG)?;
            copy(Path::new(MAP), MAP)?;
            image_sha256 = sha256_file(&aside.join(IMAGE))?;
            built.image_sha256.clone_from(&image_sha256);
            write_json(&aside.join(BUILT), &built)
        })?;
        if self.patches.is_empty() {
            self.keep_build(key, tree)?;
        }
        Ok((kernel_at(key, &entry), image_sha256))
    }

    /// Moves a stock kernel's build folder into the cache.
    fn keep_build(&self, key: &str, tree: &Path) -> Result<()> {
        let build = tree.join(BUILD);
        self.compiler.cache.put(Kind::Build, key, |aside| {
            fs::rename(&build, aside.join(BUILD)).at_path("move", &build)?;
            let workspace = WorkspaceJson { tree: tree.to_owned() };
            write_json(&aside.join(WORKSPACE), &workspace)
        })?;
        Ok(())
    }
}

/// A product of make, if it is a file of the build folder. A foreign Makefile
/// may have left a link to something else of the user's in its place.
fn product_of(tree: &Path, product: &Path) -> Option<PathBuf> {
    let build = tree.join(BUILD).canonicalize().ok()?;
    let path = build.join(product);
    let is_file = fs::symlink_metadata(&path).is_ok_and(|m| m.is_file());
    let real = path.canonicalize().ok()?;
    Some(real).filter(|real| is_file && *real == path)
}

fn kernel_at(key: &str, entry: &Path) -> Kernel {
    Kernel {
        key: key.to_owned(),
        image: entry.join(IMAGE),
        vmlinux: entry.join(VMLINUX),
        config: entry.join(CONFIG),
        map: entry.join(MAP),
    }
}

#[cfg(test)]
mod tests;
