// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernels of a run: built, found in the cache, or said why there is none.

use std::fs;
use std::path::PathBuf;

use crate::base::error::{Context, Error, Result};
use crate::keep::store::{BuildSeconds, KernelJson, KernelOutcome, VERSION, read_json, write_json};
use crate::make::compile::{self, Build, Compiler, Kernel};
use crate::make::source::{self, Fetch, Tree};
use crate::run::crew::Crew;
use crate::run::{Tools, machine_fragments};
use crate::spec::arch::Arch;
use crate::spec::plan::Cell;

impl Crew<'_> {
    /// How the cell's build ended; builds it if that is not known yet.
    pub(super) fn kernel_json(&mut self, cell: &Cell) -> Result<KernelJson> {
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
    pub(super) fn kernel(&mut self, cell: &Cell, known: &KernelJson) -> Result<Kernel> {
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

    pub(super) fn is_cached(&mut self, cell: &Cell) -> Result<bool> {
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
    pub(super) fn patches(&self, cell: &Cell) -> Vec<PathBuf> {
        cell.patches.iter().map(|patch| self.store.root().join(patch)).collect()
    }

    pub(super) fn tree(&mut self, base: &str) -> Result<Tree> {
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

    pub(super) fn arch(&self, name: &str) -> Result<&'_ Arch> {
        self.archs
            .get(name)
            .ok_or_else(|| Error::bad_input(format!("the plan has no architecture `{name}`")))
    }
}
