// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bakeoff new`: a bake-off that runs as it is, to be changed into one's own.
//!
//! The scaffold is files of its own, `cli/scaffold/`, in which `@NAME@` and `@ARCH@`
//! are replaced. The schema is written next to the spec and named in its first line, so that
//! editors complete keys, offline and for this very version of the program.

use std::fs;
use std::path::Path;

use crate::base::data::DataDir;
use crate::base::error::{Context, Error, Result};
use crate::cli::New;
use crate::cli::commands::print;
use crate::spec::arch::Arch;
use crate::spec::{self, FILE_NAME, Spec};

/// The schema's file; the scaffold's first line names it.
const SCHEMA: &str = "bakeoff.schema.json";
/// The scaffold: a file's place in the bake-off, and its text.
const FILES: [(&str, &str); 3] = [
    (FILE_NAME, include_str!("../scaffold/bakeoff.yaml")),
    ("workload.c", include_str!("../scaffold/workload.c")),
    (
        "6.12/example/0001-kernel-sys-answer-getppid-of-init-at-once.patch",
        include_str!("../scaffold/0001-kernel-sys-answer-getppid-of-init-at-once.patch"),
    ),
];

pub fn new(args: &New, data: &DataDir) -> Result<u8> {
    let dir = args.dir.join(&args.name);
    write(&args.name, &dir, data)?;
    let dir = dir.display();
    print(&format!(
        "wrote {dir}: a reference, an example patch and a workload\n\
         \n  bakeoff check {dir}\n          whether it would run, and how long it would take\n\
         \n  bakeoff run {dir} --quick\n          run it\n\
         \nThe comments in {dir}/{FILE_NAME} say what to replace; docs/spec.md has every key.\n"
    ))
}

/// Writes the scaffold into the folder, which must not exist.
fn write(name: &str, dir: &Path, data: &DataDir) -> Result<()> {
    spec::check_name(name)?;
    if dir.exists() {
        return Err(Error::bad_input(format!("{} exists already", dir.display()))
            .hint("give another name, or remove it"));
    }
    let archs = Arch::names(data)?;
    let native = archs.iter().map(|name| Arch::load(data, name)).find_map(|arch| {
        let arch = arch.ok()?;
        arch.is_native().then_some(arch.name)
    });
    let arch = native.or_else(|| archs.first().cloned()).unwrap_or_default();
    let schema = spec::schema::text(data)?;
    let texts = FILES
        .iter()
        .map(|(file, text)| (*file, text.replace("@NAME@", name).replace("@ARCH@", &arch)));
    for (file, text) in texts.chain([(SCHEMA, schema)]) {
        let path = dir.join(file);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).at_path("create", folder)?;
        }
        fs::write(&path, text).at_path("write", &path)?;
    }
    // What is written here is read back by the rules of every other spec.
    Spec::load(dir, data).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Role;

    /// What is written is a spec that loads, with a reference, a contender with a patch, and
    /// a schema that its first line names.
    #[test]
    fn the_scaffold_loads() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("patches/mine");
        let data = DataDir::embedded();
        write("mine", &dir, &data).unwrap();
        let spec = Spec::load(&dir, &data).unwrap();
        assert_eq!(spec.name, "mine");
        assert_eq!(spec.reference().unwrap().name, "stock");
        assert!(spec.candidates.iter().any(|c| c.role == Role::Contender));
        let text = fs::read_to_string(dir.join(FILE_NAME)).unwrap();
        let first = text.lines().next().unwrap();
        assert_eq!(first, format!("# yaml-language-server: $schema={SCHEMA}"));
        let schema = fs::read_to_string(dir.join(SCHEMA)).unwrap();
        assert_eq!(schema, spec::schema::text(&data).unwrap());
    }

    /// A folder that exists stays as it is, and a name must be one.
    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let error = write("mine", dir.path(), &DataDir::embedded()).unwrap_err();
        assert!(error.message().contains("exists already"), "{error}");
        let there = dir.path().join("there");
        for bad in ["", "../mine", "my bake-off", "-x"] {
            assert!(write(bad, &there, &DataDir::embedded()).is_err(), "{bad}");
        }
        assert!(!there.exists());
    }
}
