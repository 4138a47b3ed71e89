// SPDX-License-Identifier: MIT OR Apache-2.0
//! From addresses to the kernel's functions, files and lines, through vmlinux.
//!
//! An address as KCOV gives it is a return address: the instruction before it
//! is the one that ran. It is counted for the file that was compiled (a header's
//! inline function counts for each file that includes it), and for every
//! function inlined at that place.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use gimli::{EndianArcSlice, RunTimeEndian};
use object::{Object, ObjectSection, ObjectSymbol};

use crate::base::error::{Context, Error, Result};

type Reader = EndianArcSlice<RunTimeEndian>;

/// Folders whose coverage is told apart: what the subject is made of.
pub const FOLDERS: [&str; 4] = ["kernel/bpf", "kernel/events", "kernel/trace", "mm"];

/// Where an address is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file that was compiled, as in the tree.
    pub unit: Option<String>,
    /// The functions at that place, the innermost first.
    pub functions: Vec<String>,
    /// `file:line` of the innermost one.
    pub line: Option<String>,
}

/// A vmlinux, ready to look addresses up in.
pub struct Map {
    dwarf: addr2line::Context<Reader>,
    symbols: BTreeMap<u64, String>,
    names: BTreeSet<String>,
}

impl std::fmt::Debug for Map {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Map").field("symbols", &self.symbols.len()).finish_non_exhaustive()
    }
}

impl Map {
    /// Reads the vmlinux at `path`.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn open(path: &Path) -> Result<Map> {
        let bytes = std::fs::read(path).at_path("read", path)?;
        let wrong = |cause: Box<dyn std::error::Error + Send + Sync>| {
            Error::failure(format!("{} is not a vmlinux", path.display())).because(cause)
        };
        let file = object::File::parse(&*bytes).map_err(|e| wrong(e.into()))?;
        let endian =
            if file.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
        let load = |id: gimli::SectionId| -> std::result::Result<Reader, object::Error> {
            let data = match file.section_by_name(id.name()) {
                Some(section) => section.uncompressed_data()?,
                None => Cow::Borrowed(&[][..]),
            };
            Ok(Reader::new(Arc::from(&*data), endian))
        };
        let dwarf = gimli::Dwarf::load(load).map_err(|e| wrong(e.into()))?;
        let dwarf = addr2line::Context::from_dwarf(dwarf).map_err(|e| wrong(e.into()))?;
        let mut symbols = BTreeMap::new();
        let mut names = BTreeSet::new();
        for symbol in file.symbols() {
            if symbol.kind() == object::SymbolKind::Text
                && let Ok(name) = symbol.name()
            {
                symbols.insert(symbol.address(), name.to_owned());
                names.insert(name.to_owned());
            }
        }
        Ok(Map { dwarf, symbols, names })
    }

    /// Whether the kernel has a function of this name, inlined or not.
    #[must_use]
    pub fn has_symbol(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Where the code before a return address is.
    #[must_use]
    pub fn place(&self, return_address: u64) -> Place {
        let at = return_address.wrapping_sub(1);
        let mut place = Place::default();
        if let Ok(mut frames) = self.dwarf.find_frames(at).skip_all_loads() {
            while let Ok(Some(frame)) = frames.next() {
                if let Some(name) =
                    frame.function.and_then(|f| Some(f.raw_name().ok()?.into_owned()))
                {
                    place.functions.push(name);
                }
                if place.line.is_none()
                    && let Some(location) = frame.location
                    && let (Some(file), Some(line)) = (location.file, location.line)
                {
                    place.line = Some(format!("{}:{line}", tidy(file)));
                }
            }
        }
        if let Some(unit) = self.dwarf.find_dwarf_and_unit(at).skip_all_loads()
            && let Some(name) = &unit.name
        {
            place.unit = Some(tidy(&String::from_utf8_lossy(name.bytes())).to_owned());
        }
        if let Some((_, name)) = self.symbols.range(..=at).next_back()
            && !place.functions.contains(name)
        {
            place.functions.push(name.clone());
        }
        place
    }
}

/// A path within the tree: builds are done in a folder of the tree, so names
/// begin with the way out of it, or with where the tree was.
fn tidy(path: &str) -> &str {
    let path = path.trim_start_matches("../").trim_start_matches("./");
    ["/build/../", "/linux/"]
        .iter()
        .fold(path, |path, part| path.rsplit_once(part).map_or(path, |(_, rest)| rest))
}

/// What a set of addresses covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Covered {
    /// Distinct addresses.
    pub pcs: u64,
    /// The same, of the files below each of [`FOLDERS`].
    pub by_folder: BTreeMap<String, u64>,
    /// The same, for each function.
    pub by_function: BTreeMap<String, u64>,
    /// The same, for each compiled file.
    pub by_file: BTreeMap<String, u64>,
}

/// Counts addresses by where they are.
pub fn count(map: &Map, pcs: impl Iterator<Item = u64>) -> Covered {
    let mut covered = Covered::default();
    for folder in FOLDERS {
        covered.by_folder.insert(folder.to_owned(), 0);
    }
    for pc in pcs {
        covered.pcs += 1;
        let Place { unit, functions, line: _ } = map.place(pc);
        for function in functions {
            *covered.by_function.entry(function).or_default() += 1;
        }
        let Some(unit) = unit else { continue };
        for folder in FOLDERS {
            if unit.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')) {
                *covered.by_folder.entry(folder.to_owned()).or_default() += 1;
            }
        }
        *covered.by_file.entry(unit).or_default() += 1;
    }
    covered
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However the compiler was called, a name is one within the tree.
    #[test]
    fn names_are_within_the_tree() {
        for path in
            ["../mm/mmap.c", "mm/mmap.c", "/tmp/x/linux/mm/mmap.c", "/x/linux/build/../mm/mmap.c"]
        {
            assert_eq!(tidy(path), "mm/mmap.c", "{path}");
        }
    }
}
