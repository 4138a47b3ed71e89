// SPDX-License-Identifier: MIT OR Apache-2.0
//! The data the program comes with: `qemu/`, `kconfigs/` and the guest's sources.
//!
//! They are built into the program, so an installed binary works alone.
//! `--data-dir` names a checkout to read them from instead; a file that is
//! missing there is missing, never silently taken from the program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::error::{Context, Error, Result};

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
}

/// Where the data is read from.
#[derive(Clone, Debug, Default)]
pub struct DataDir {
    dir: Option<PathBuf>,
}

impl DataDir {
    /// The data built into the program.
    #[must_use]
    pub fn embedded() -> Self {
        DataDir::default()
    }

    /// The data in a directory laid out like the project's checkout.
    ///
    /// # Errors
    /// The directory has no `qemu/` or no `kconfigs/`.
    pub fn at(dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        for needed in ["qemu", "kconfigs", "fuzz"] {
            if !dir.join(needed).is_dir() {
                return Err(Error::bad_input(format!("{} has no `{needed}/`", dir.display()))
                    .hint("--data-dir takes a checkout of bakeoff"));
            }
        }
        Ok(DataDir { dir: Some(dir) })
    }

    /// How to name a file of this data to a person.
    #[must_use]
    pub fn describe(&self, file: &str) -> String {
        match &self.dir {
            Some(dir) => dir.join(file).display().to_string(),
            None => format!("{file} (built in)"),
        }
    }

    /// A file's bytes; `None` if there is no such file.
    ///
    /// # Errors
    /// The file is there but cannot be read.
    pub fn read(&self, file: &str) -> Result<Option<Vec<u8>>> {
        match &self.dir {
            None => Ok(embedded::FILES
                .iter()
                .find(|(name, _)| *name == file)
                .map(|(_, bytes)| bytes.to_vec())),
            Some(dir) => {
                let path = dir.join(file);
                match fs::read(&path) {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(e) => Err(e).at_path("read", &path),
                }
            }
        }
    }

    /// A file's text; `None` if there is no such file.
    ///
    /// # Errors
    /// As [`DataDir::read`]; or it is not UTF-8.
    pub fn read_text(&self, file: &str) -> Result<Option<String>> {
        let Some(bytes) = self.read(file)? else { return Ok(None) };
        String::from_utf8(bytes).map(Some).map_err(|e| {
            Error::bad_input(format!("{} is not UTF-8", self.describe(file))).because(e)
        })
    }

    /// Names of what lies directly in a folder, sorted.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self, folder: &str) -> Result<Vec<String>> {
        let mut names = BTreeSet::new();
        match &self.dir {
            None => {
                let prefix = format!("{folder}/");
                for (name, _) in embedded::FILES {
                    if let Some(rest) = name.strip_prefix(&prefix) {
                        names.extend(rest.split('/').next().map(str::to_owned));
                    }
                }
            }
            Some(dir) => {
                let path = dir.join(folder);
                for entry in fs::read_dir(&path).at_path("read the folder", &path)? {
                    let entry = entry.at_path("read the folder", &path)?;
                    names.insert(entry.file_name().to_string_lossy().into_owned());
                }
            }
        }
        Ok(names.into_iter().collect())
    }

    /// The files the guest binaries are built from, sorted by name: the sources
    /// of `fuzz/`, and of the runner only its manifest, since the lock file was
    /// resolved with it and cargo's `--locked` insists on that.
    ///
    /// # Errors
    /// The data is not a checkout, or cannot be read.
    pub fn guest_sources(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut sources = BTreeMap::new();
        match &self.dir {
            None => {
                let wanted = |name: &str| {
                    (name.starts_with("fuzz/") && !name.starts_with(NO_SOURCES))
                        || MANIFESTS.contains(&name)
                };
                let files = embedded::FILES.iter().filter(|(name, _)| wanted(name));
                sources.extend(files.map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())));
            }
            Some(dir) => {
                collect(dir, Path::new("fuzz"), &mut sources)?;
                for name in MANIFESTS {
                    let Some(bytes) = self.read(name)? else {
                        return Err(Error::bad_input(format!("{} has no {name}", dir.display()))
                            .hint("--data-dir takes a checkout of bakeoff"));
                    };
                    sources.insert(name.to_owned(), bytes);
                }
            }
        }
        Ok(sources)
    }
}

/// Planted bugs: patches of the kernel, not sources of a guest binary.
const NO_SOURCES: &str = "fuzz/mutants";

/// What cargo reads beside the sources of `fuzz/`.
const MANIFESTS: [&str; 3] = ["Cargo.toml", "Cargo.lock", "runner/Cargo.toml"];

/// Reads all files below `root/at`, except those that are nobody's source: the
/// same rule as in `build.rs`, so that a checkout and the program agree.
fn collect(root: &Path, at: &Path, into: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    let path = root.join(at);
    let name = at.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with('.')
        || ["target", "corpus", "artifacts"].contains(&&*name)
        || at == Path::new(NO_SOURCES)
    {
        return Ok(());
    }
    if path.is_dir() {
        for entry in fs::read_dir(&path).at_path("read the folder", &path)? {
            let entry = entry.at_path("read the folder", &path)?;
            collect(root, &at.join(entry.file_name()), into)?;
        }
    } else {
        into.insert(at.display().to_string(), fs::read(&path).at_path("read", &path)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An installed binary carries what it needs to build its guest binaries.
    #[test]
    fn guest_sources_and_lock_file_are_embedded() {
        let data = DataDir::embedded();
        for file in ["Cargo.lock", "Cargo.toml", "runner/Cargo.toml", "fuzz/src/wire.rs"] {
            assert!(data.read(file).unwrap().is_some(), "{file} is not embedded");
        }
    }

    /// A checkout given as data directory counts with its new files, not only
    /// with those the program was built from, and without what cargo left there.
    #[test]
    fn sources_of_a_data_dir_are_its_own() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("qemu/x.yaml", ""),
            ("kconfigs/x.config", ""),
            ("Cargo.toml", "[workspace]"),
            ("Cargo.lock", ""),
            ("runner/Cargo.toml", ""),
            ("runner/src/lib.rs", "not wanted"),
            ("fuzz/src/brand_new.rs", "// new"),
            ("fuzz/target/debug/x", "not wanted"),
            ("fuzz/src/.lib.rs.swp", "not wanted"),
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let sources = DataDir::at(dir.path()).unwrap().guest_sources().unwrap();
        let names: Vec<&str> = sources.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["Cargo.lock", "Cargo.toml", "fuzz/src/brand_new.rs", "runner/Cargo.toml"]
        );
    }

    /// A data directory that is none is refused with what is missing.
    #[test]
    fn wrong_data_dir_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = DataDir::at(dir.path()).unwrap_err();
        assert!(error.message().contains("qemu"), "{error}");
    }
}
