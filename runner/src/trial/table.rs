// SPDX-License-Identifier: MIT OR Apache-2.0
//! What drives the code that a series touches: `runner/try.yaml`, one table from paths to
//! probes, kselftests and the fuzzer.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::base::error::{Error, Result};

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    /// What every series gets.
    pub(super) always: Row,
    /// All rows; a file may be in several.
    pub(super) rows: Vec<Row>,
}

/// A row of the table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    /// Beginnings of paths; `*` stands for one folder.
    #[serde(default)]
    pub(super) paths: Vec<String>,
    /// Why this reaches them, for people.
    pub(super) why: String,
    /// Measurements, as a bake-off writes them.
    #[serde(default)]
    pub(super) probes: Vec<String>,
    /// Folders of tools/testing/selftests, and the tests of them that are run; none named:
    /// all.
    #[serde(default)]
    pub(super) kselftests: BTreeMap<String, String>,
    /// The fuzzer is about this code.
    #[serde(default)]
    pub(super) fuzz: bool,
}

/// As the file has it: rows name their measurements.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    probes: BTreeMap<String, String>,
    always: Row,
    rows: Vec<Row>,
}

/// The table that is built in.
///
/// # Errors
/// It is wrong, which a test would have found.
pub(super) fn table() -> Result<&'static Table> {
    static TABLE: LazyLock<std::result::Result<Table, String>> =
        LazyLock::new(|| read(include_str!("../../try.yaml")));
    TABLE.as_ref().map_err(|why| Error::failure(format!("try.yaml (built in): {why}")))
}

fn read(text: &str) -> std::result::Result<Table, String> {
    let Written { probes, mut always, mut rows } =
        serde_yaml::from_str(text).map_err(|why| why.to_string())?;
    for name in rows.iter_mut().chain([&mut always]).flat_map(|row| &mut row.probes) {
        let known = probes.get(name).ok_or_else(|| format!("no probe is called `{name}`"))?;
        name.clone_from(known);
    }
    Ok(Table { always, rows })
}

/// Whether a path begins as the pattern says.
pub(super) fn begins(pattern: &str, path: &str) -> bool {
    match pattern.split_once("*/") {
        None => path.starts_with(pattern),
        Some((before, after)) => path
            .strip_prefix(before)
            .and_then(|rest| rest.split_once('/'))
            .is_some_and(|(folder, rest)| !folder.is_empty() && begins(after, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that share a folder of kselftests run the same tests of it: its command is one
    /// condition.
    #[test]
    fn folders_are_run_one_way() {
        let mut known: BTreeMap<&str, &str> = BTreeMap::new();
        for (folder, tests) in table().unwrap().rows.iter().flat_map(|row| &row.kselftests) {
            assert_eq!(known.entry(folder).or_insert(tests), tests, "{folder}");
        }
        assert!(known.len() > 5);
    }

    /// A row cannot name what is not there, nor have keys that nobody reads.
    #[test]
    fn wrong_tables_are_refused() {
        let row = |row: &str| {
            read(&format!("probes: {{a: '{{probe: b}}'}}\nalways: {{why: x}}\nrows:\n  - {row}\n"))
        };
        let good = row("{paths: [mm/], why: y, probes: [a]}").unwrap();
        assert_eq!(good.rows[0].probes, ["{probe: b}"]);
        assert!(row("{why: y, probes: [c]}").unwrap_err().contains("`c`"));
        assert!(row("{why: y, probe: [a]}").unwrap_err().contains("probe"));
    }

    /// A star is one folder; other patterns are beginnings.
    #[test]
    fn patterns() {
        for (pattern, path, is) in [
            ("mm/", "mm/mmap.c", true),
            ("mm/", "arch/x86/mm/fault.c", false),
            ("arch/*/mm/", "arch/x86/mm/fault.c", true),
            ("arch/*/mm/", "arch/mm/fault.c", false),
            ("include/linux/mm", "include/linux/mm_types.h", true),
            ("", "anything", true),
        ] {
            assert_eq!(begins(pattern, path), is, "{pattern} {path}");
        }
    }
}
