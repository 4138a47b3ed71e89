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
        Map::read(path, false).map(|(map, _)| map)
    }

    /// The same, and if they are wanted all calls of functions by their names.
    fn read(path: &Path, with_calls: bool) -> Result<(Map, Vec<Call>)> {
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
        let calls = if with_calls { calls(&file, &symbols) } else { Vec::new() };
        Ok((Map { dwarf, symbols, names }, calls))
    }

    /// Whether the kernel has a function of this name, inlined or not.
    #[must_use]
    pub fn has_symbol(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// The name of the function in which the code before a return address is.
    fn symbol(&self, return_address: u64) -> Option<&String> {
        self.symbols.range(..return_address).next_back().map(|(_, name)| name)
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
        if let Some(name) = self.symbol(return_address)
            && !place.functions.contains(name)
        {
            place.functions.push(name.clone());
        }
        place
    }
}

/// A call in a kernel's code.
#[derive(Clone, Copy, Debug)]
struct Call {
    /// The address of the instruction behind it.
    returns_to: u64,
    /// The address of the function that is called.
    to: u64,
}

/// Where each function calls KCOV, which is at the beginning of each of its basic blocks, and
/// what else it calls.
#[derive(Clone, Debug, Default)]
pub struct Sites {
    of: BTreeMap<String, Vec<u64>>,
    calls: BTreeMap<String, BTreeSet<String>>,
}

/// Points that a kernel takes at most: `KCOV_DELAY_POINTS` of `kconfigs/kcov.patch`.
const MOST_POINTS: usize = 1024;

/// Sites that weigh more, at most.
const MOST_HEAVY: usize = 4096;

impl Sites {
    /// The calls in each function of [`FOLDERS`] of a vmlinux, inlined or not.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn open(vmlinux: &Path) -> Result<Sites> {
        let (map, calls) = Map::read(vmlinux, true)?;
        let mut sites = Sites::default();
        let (kcov, others): (Vec<Call>, Vec<Call>) = calls
            .into_iter()
            .partition(|call| map.symbols.get(&call.to).is_some_and(|name| name == KCOV));
        let mut instrumented: BTreeSet<&String> = BTreeSet::new();
        for Call { returns_to, .. } in kcov {
            let Place { unit, functions, line: _ } = map.place(returns_to);
            if unit.is_some_and(|unit| FOLDERS.iter().any(|folder| unit.starts_with(folder))) {
                instrumented.extend(map.symbol(returns_to));
                for function in functions {
                    sites.of.entry(function).or_default().push(returns_to);
                }
            }
        }
        for Call { returns_to, to } in others {
            // Only functions that have sites themselves: the line tables are slow to ask.
            let Some(function) = map.symbols.get(&to) else { continue };
            let wanted = sites.of.contains_key(function)
                && map.symbol(returns_to).is_some_and(|symbol| instrumented.contains(symbol));
            if wanted {
                for caller in map.place(returns_to).functions {
                    sites.calls.entry(caller).or_default().insert(function.clone());
                }
            }
        }
        Ok(sites)
    }

    /// The sites in some functions, in ascending order. Of more than a kernel takes every
    /// second, third and so on.
    #[must_use]
    pub fn of(&self, functions: &[String]) -> Vec<u64> {
        self.some_of(functions.iter(), MOST_POINTS)
    }

    /// The sites in some functions and in those that they call, in ascending order.
    #[must_use]
    pub fn with_called(&self, functions: &[String]) -> Vec<u64> {
        let called = functions.iter().filter_map(|name| self.calls.get(name)).flatten();
        self.some_of(functions.iter().chain(called), MOST_HEAVY)
    }

    fn some_of<'a>(&self, functions: impl Iterator<Item = &'a String>, most: usize) -> Vec<u64> {
        let all: BTreeSet<u64> =
            functions.filter_map(|name| self.of.get(name)).flatten().copied().collect();
        let step = all.len().div_ceil(most).max(1);
        all.into_iter().step_by(step).collect()
    }
}

/// The function that the compiler calls at the beginning of each basic block.
const KCOV: &str = "__sanitizer_cov_trace_pc";

/// All calls of functions by their names, from the code itself.
fn calls(file: &object::File<'_>, symbols: &BTreeMap<u64, String>) -> Vec<Call> {
    let arm = file.architecture() == object::Architecture::Aarch64;
    let mut calls = Vec::new();
    let mut add = |returns_to: u64, to: u64| {
        if symbols.contains_key(&to) {
            calls.push(Call { returns_to, to });
        }
    };
    let code = file.sections().filter(|section| section.kind() == object::SectionKind::Text);
    for section in code {
        let Ok(bytes) = section.data() else { continue };
        let at = section.address();
        if arm {
            // bl: 100101 and a distance in words.
            for (nth, word) in (0_u64..).zip(bytes.chunks_exact(4)) {
                let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
                let from = at + 4 * nth;
                let words = i64::from((word << 6).cast_signed() >> 6);
                if word >> 26 == 0b10_0101 {
                    add(from + 4, from.wrapping_add_signed(4 * words));
                }
            }
            continue;
        }
        // call: e8 and a distance from behind it.
        for (nth, five) in (0_u64..).zip(bytes.windows(5)) {
            let after = at + nth + 5;
            let distance = i32::from_le_bytes([five[1], five[2], five[3], five[4]]);
            if five[0] == 0xe8 {
                add(after, after.wrapping_add_signed(distance.into()));
            }
        }
    }
    calls
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

    /// Sites are in order, each once, and no more than a kernel takes.
    #[test]
    fn sites_are_in_order_and_not_too_many() {
        let sites = Sites {
            of: BTreeMap::from([
                ("a".to_owned(), vec![9, 3]),
                ("b".to_owned(), vec![5, 3]),
                ("c".to_owned(), (0..3000).collect()),
            ]),
            calls: BTreeMap::from([("a".to_owned(), BTreeSet::from(["b".to_owned()]))]),
        };
        let of =
            |names: &[&str]| sites.of(&names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["a", "b", "gone"]), [3, 5, 9]);
        let many = of(&["c"]);
        assert_eq!((many.len(), many[1]), (1000, 3));
        assert!(of(&[]).is_empty());
        assert_eq!(sites.of(&["a".to_owned()]), [3, 9]);
        assert_eq!(sites.with_called(&["a".to_owned()]), [3, 5, 9], "and what a calls");
    }

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
