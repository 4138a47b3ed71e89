// SPDX-License-Identifier: MIT OR Apache-2.0
//! A run keeps its spec as it was: what a report says can be checked years later.
//!
//! `RUN/spec/` holds `bakeoff.yaml` and the patches of every base, `RUN/added/`
//! the series of `--add`. The plan's patches are paths in there. Their hash
//! stands in `run.json`; `resume` compares it with the frozen files (did
//! somebody edit the run?) and with the spec where it came from (did it
//! change meanwhile?), and refuses to mix two specs in one run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::base::data::DataDir;
use crate::base::error::{Context, Error, Result};
use crate::keep::cache::hex;
use crate::keep::store::{RunJson, Store, write_whole};
use crate::spec::guest::Pack;
use crate::spec::{FILE_NAME, Series, Spec};

/// Name in the run → contents.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// What `bakeoff series fetch` writes beside the patches.
pub const DESCRIBED: &str = "series.json";
/// The folder of `--add`ed series in a run.
const ADDED: &str = "added";

/// Copies spec and patches into the run and gives their hash.
///
/// # Errors
/// A file cannot be read or written.
pub fn freeze(spec: &Spec, store: &Store) -> Result<String> {
    let files = files_of(spec)?;
    for (name, bytes) in &files {
        write_whole(&store.root().join(name), bytes)?;
    }
    Ok(hash(&files))
}

/// Where the run keeps the series of `--add DIR`.
#[must_use]
pub fn frozen_series(store: &Store, dir: &Path) -> Option<PathBuf> {
    let name = dir.canonicalize().ok()?.file_name()?.to_owned();
    Some(store.root().join(ADDED).join(name))
}

/// The frozen spec of a run, with its added series.
///
/// # Errors
/// It is gone, or is not what the run began with.
pub fn thaw(store: &Store, run: &RunJson, data: &DataDir) -> Result<Spec> {
    // An entry of `known_splats:` that expired since then held for this run.
    let began = run.started.get(..10).and_then(|day| day.parse().ok());
    let began = began.unwrap_or(jiff::civil::Date::MIN);
    let mut spec = Spec::load_as_of(&store.spec_dir(), data, began)?;
    let added = store.root().join(ADDED);
    if added.is_dir() {
        let entries = fs::read_dir(&added).at_path("read", &added)?;
        let mut dirs = entries
            .map(|entry| entry.map(|e| e.path()))
            .collect::<Result<Vec<PathBuf>, _>>()
            .at_path("read", &added)?;
        dirs.sort();
        for dir in dirs {
            spec.add_series(&dir)?;
        }
    }
    if hash(&files_of(&spec)?) != run.spec_sha256 {
        return Err(Error::bad_input(format!(
            "the spec in {} is not the one this run began with",
            store.spec_dir().display()
        ))
        .hint("start a new run; this one cannot be trusted any more"));
    }
    run.against_itself.iter().for_each(|copies| spec.against_itself(*copies));
    Ok(spec)
}

/// Refuses to go on where the spec changed at the place it came from. A spec
/// that is not there any more is no obstacle: the run has its own copy.
///
/// # Errors
/// It changed.
pub fn check_unchanged(run: &RunJson, data: &DataDir) -> Result<()> {
    let (path, added) = (&run.spec_path, &run.added);
    if !path.exists() || added.iter().any(|dir| !dir.exists()) {
        return Ok(());
    }
    let mut now = Spec::load(path, data)?;
    for dir in added {
        now.add_series(dir)?;
    }
    if hash(&files_of(&now)?) == run.spec_sha256 {
        return Ok(());
    }
    Err(Error::bad_input(format!("{} changed since this run began", path.display())).hint(
        "a run has one spec: start a new one with `bakeoff run` (unchanged kernels come from \
         the cache), or put the spec back",
    ))
}

fn files_of(spec: &Spec) -> Result<Files> {
    let mut files = Files::new();
    let yaml = spec.file.clone();
    files.insert(Path::new("spec").join(FILE_NAME), fs::read(&yaml).at_path("read", &yaml)?);
    for candidate in &spec.candidates {
        for (base, series) in &candidate.on {
            let Series::Patches(patches) = series else { continue };
            let folder = if candidate.added {
                Path::new(ADDED).join(&candidate.name)
            } else {
                Path::new("spec").join(base).join(&candidate.name)
            };
            for patch in patches {
                let name = patch.file_name().unwrap_or_default();
                files.insert(folder.join(name), fs::read(patch).at_path("read", patch)?);
            }
            // What is known of the series: version, base, message ids.
            if let Some(described) = patches.first().map(|patch| patch.with_file_name(DESCRIBED))
                && described.is_file()
            {
                let bytes = fs::read(&described).at_path("read", &described)?;
                files.insert(folder.join(DESCRIBED), bytes);
            }
        }
    }
    let Pack { files: packed, rootfs, build: _, kselftest: _, busybox: _ } = &spec.pack;
    for path in packed.iter().chain(rootfs).chain(spec.machine.fragments()) {
        add_all(&spec.dir, path, &mut files)?;
    }
    if let Some(fuzz) = &spec.fuzz
        && let Some(corpus) = &fuzz.corpus
    {
        for program in &fuzz.programs_given {
            let name = Path::new("spec").join(corpus).join(program.file_name().unwrap_or_default());
            files.insert(name, fs::read(program).at_path("read", program)?);
        }
    }
    Ok(files)
}

/// Adds a file of the bake-off's, or a folder with all that is in it.
fn add_all(dir: &Path, path: &Path, files: &mut Files) -> Result<()> {
    let from = dir.join(path);
    if !from.is_dir() {
        files.insert(Path::new("spec").join(path), fs::read(&from).at_path("read", &from)?);
        return Ok(());
    }
    for entry in fs::read_dir(&from).at_path("read", &from)? {
        let entry = entry.at_path("read", &from)?;
        add_all(dir, &path.join(entry.file_name()), files)?;
    }
    Ok(())
}

fn hash(files: &Files) -> String {
    let mut hash = Sha256::new();
    for (name, bytes) in files {
        hash.update(name.to_string_lossy().as_bytes());
        hash.update([0]);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keep::store::{Environment, VERSION};
    use crate::spec::plan::{Plan, Selection};

    fn copy_of_the_first_case(to: &Path) -> PathBuf {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../patches/find-vma");
        let dir = to.join("find-vma");
        let spec = Spec::load(&from, &DataDir::embedded()).unwrap();
        for (name, bytes) in files_of(&spec).unwrap() {
            write_whole(&dir.join(name.strip_prefix("spec").unwrap()), &bytes).unwrap();
        }
        dir
    }

    fn frozen(dir: &Path) -> (PathBuf, Store, RunJson) {
        let data = DataDir::embedded();
        let path = copy_of_the_first_case(dir);
        let spec = Spec::load(&path, &data).unwrap();
        let store = Store::create(&dir.join("run")).unwrap();
        let run = RunJson {
            store_version: VERSION,
            tool: String::new(),
            bakeoff: spec.name.clone(),
            spec_sha256: freeze(&spec, &store).unwrap(),
            spec_path: path.clone(),
            against_itself: None,
            added: vec![],
            started: String::new(),
            bases: BTreeMap::new(),
            plan: Plan::new(&spec, &Selection::default(), 1).unwrap(),
            environment: Environment::default(),
            fuzz: None,
            shard: None,
            left_out: vec![],
            pack: Default::default(),
            machine: Default::default(),
        };
        (path, store, run)
    }

    /// A run thaws to what it froze, wherever the original has gone.
    #[test]
    fn a_run_keeps_its_spec() {
        let dir = tempfile::tempdir().unwrap();
        let (path, store, run) = frozen(dir.path());
        check_unchanged(&run, &DataDir::embedded()).unwrap();
        fs::remove_dir_all(path).unwrap();
        check_unchanged(&run, &DataDir::embedded()).unwrap();
        assert_eq!(thaw(&store, &run, &DataDir::embedded()).unwrap().name, "find-vma");
    }

    /// A patch that changed where it came from refuses the resume; one that was edited
    /// inside the run refuses the run.
    #[test]
    fn two_specs_are_not_mixed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, store, run) = frozen(dir.path());
        let patch = |root: &Path| {
            let folder = root.join("6.12/peter-removal");
            fs::read_dir(folder).unwrap().next().unwrap().unwrap().path()
        };
        fs::write(patch(&path), "changed").unwrap();
        let error = check_unchanged(&run, &DataDir::embedded()).unwrap_err();
        assert!(error.message().contains("changed since this run began"), "{error}");
        thaw(&store, &run, &DataDir::embedded()).unwrap();
        fs::write(patch(&store.spec_dir()), "changed").unwrap();
        let error = thaw(&store, &run, &DataDir::embedded()).unwrap_err();
        assert!(error.message().contains("not the one this run began with"), "{error}");
    }

    /// A run of copies of the reference is thawed with its copies.
    #[test]
    fn copies_of_the_reference_thaw() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::embedded();
        let path = copy_of_the_first_case(dir.path());
        let spec = Spec::load(&path, &data).unwrap();
        let (_, _, run) = frozen(&dir.path().join("other"));
        let store = Store::create(&dir.path().join("run")).unwrap();
        let spec_sha256 = freeze(&spec, &store).unwrap();
        let run = RunJson { spec_sha256, spec_path: path, against_itself: Some(3), ..run };
        assert_eq!(thaw(&store, &run, &data).unwrap().candidates.len(), 4);
        check_unchanged(&run, &data).unwrap();
    }
}
