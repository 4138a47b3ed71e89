// SPDX-License-Identifier: MIT OR Apache-2.0
//! The interface as the base's own headers have it, and which operation produces each of
//! its values, or why none does.
//!
//! Names are read from `include/uapi` by the shape of their lines: members of enums,
//! macros with certain beginnings, fields of bits, helpers. The table (`fuzz/uapi/`)
//! explains them; a row whose name ends with `*` explains only names that were known when
//! it was written, which a list holds: what a newer base adds is not explained by chance.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::base::error::{Context, Result};

const TABLE: &str = include_str!("../../../fuzz/uapi/table.tsv");
const KNOWN: &str = include_str!("../../../fuzz/uapi/6.12.list");

/// What the table says of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// An operation produces it.
    Made,
    /// An operation could, and none does.
    Gap,
    /// The kernel says it; nobody asks for it.
    Answer,
    /// Nothing in a guest of ours can.
    NotHere,
}

impl Verdict {
    fn parse(word: &str) -> Option<Verdict> {
        Some(match word {
            "made" => Verdict::Made,
            "gap" => Verdict::Gap,
            "answer" => Verdict::Answer,
            "not-here" => Verdict::NotHere,
            _ => return None,
        })
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
struct Row {
    name: &'static str,
    verdict: Verdict,
    why: &'static str,
}

fn rows() -> Vec<Row> {
    let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let mut fields = line.split('\t');
            let (name, verdict, why) = (fields.next()?, fields.next()?, fields.next()?);
            Some(Row { name, verdict: Verdict::parse(verdict)?, why })
        })
        .collect()
}

fn known() -> BTreeSet<&'static str> {
    KNOWN.lines().filter(|line| !line.starts_with('#')).collect()
}

/// The interface of a base, explained.
#[derive(Debug, Default)]
pub struct Explained {
    /// For each group of names how many there are of each verdict.
    pub groups: BTreeMap<String, BTreeMap<Verdict, usize>>,
    /// What an operation could produce and none does, and why.
    pub gaps: Vec<(String, &'static str)>,
    /// What the table says nothing of.
    pub unexplained: Vec<String>,
}

/// Explains names, each `group/name`.
#[must_use]
pub fn explain(names: &[String]) -> Explained {
    let (rows, known) = (rows(), known());
    let mut explained = Explained::default();
    for name in names {
        let fits = |row: &&Row| match row.name.strip_suffix('*') {
            Some(begin) => name.starts_with(begin) && known.contains(name.as_str()),
            None => row.name == name,
        };
        let group = name.split_once('/').map_or("", |(group, _)| group).to_owned();
        match rows.iter().find(fits) {
            Some(Row { verdict, why, .. }) => {
                *explained.groups.entry(group).or_default().entry(*verdict).or_default() += 1;
                if *verdict == Verdict::Gap {
                    explained.gaps.push((name.clone(), why));
                }
            }
            None => explained.unexplained.push(name.clone()),
        }
    }
    explained
}

impl Explained {
    /// The table of it, for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out =
            format!("{:<28} {:>6} {:>6} {:>6} {:>6}\n", "", "made", "gap", "answer", "not-here");
        let mut sums = [0; 4];
        for (group, counts) in &self.groups {
            let verdicts = [Verdict::Made, Verdict::Gap, Verdict::Answer, Verdict::NotHere];
            let of = verdicts.map(|verdict| counts.get(&verdict).copied().unwrap_or(0));
            sums.iter_mut().zip(of).for_each(|(sum, count)| *sum += count);
            out.push_str(&line(group, of));
        }
        out.push_str(&line("all", sums));
        out
    }
}

fn line(name: &str, [made, gap, answer, not_here]: [usize; 4]) -> String {
    format!("{name:<28} {made:>6} {gap:>6} {answer:>6} {not_here:>6}\n")
}

/// The names of a tree's interface, each `group/name`, in the order of its headers.
///
/// # Errors
/// A header cannot be read.
pub fn names(tree: &Path) -> Result<Vec<String>> {
    let read = |name: &str| -> Result<String> {
        let path = tree.join("include/uapi").join(name);
        Ok(without_comments(&fs::read_to_string(&path).at_path("read", &path)?))
    };
    let mut names = Vec::new();
    let perf = read("linux/perf_event.h")?;
    for (_, members) in enums(&perf) {
        names.extend(words_of(members, "PERF_").map(|name| format!("perf/{name}")));
    }
    const PERF: [&str; 6] = [
        "PERF_EVENT_IOC_",
        "PERF_FLAG_",
        "PERF_MEM_",
        "PERF_BR",
        "PERF_AUX_FLAG_",
        "PERF_RECORD_MISC_",
    ];
    names.extend(macros(&perf, &PERF).map(|name| format!("perf/{name}")));
    let bits = perf.split_once("struct perf_event_attr {").map_or("", |(_, rest)| rest);
    let bits = bits.split("\n};").next().unwrap_or_default();
    names.extend(fields_of_bits(bits).map(|name| format!("perf_event_attr/{name}")));
    let bpf = read("linux/bpf.h")?;
    for (group, members) in enums(&bpf) {
        let group = if group.is_empty() { "bpf_flags" } else { group };
        names.extend(words_of(members, "BPF_").map(|name| format!("{group}/{name}")));
    }
    names.extend(helpers(&bpf).map(|name| format!("helper/{name}")));
    const MEMORY: [&str; 8] =
        ["MAP_", "PROT_", "MREMAP_", "MADV_", "MCL_", "MLOCK_", "MS_", "PKEY_"];
    for header in ["asm-generic/mman-common.h", "asm-generic/mman.h", "linux/mman.h"] {
        let group = header.rsplit('/').next().unwrap_or(header);
        let text = read(header)?;
        names.extend(macros(&text, &MEMORY).map(|name| format!("{group}/{name}")));
    }
    let text = read("linux/prctl.h")?;
    names.extend(macros(&text, &["PR_"]).map(|name| format!("prctl.h/{name}")));
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    Ok(names)
}

fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("/*") {
        out.push_str(before);
        rest = after.split_once("*/").map_or("", |(_, rest)| rest);
    }
    out + rest
}

/// The enums of a header: name (nothing, if it has none) and members.
fn enums(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split("enum ").skip(1).filter_map(|part| {
        let (name, rest) = part.split_once('{')?;
        let name = name.trim();
        let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_');
        is_name.then(|| (name, rest.split('}').next().unwrap_or_default()))
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn first_word(text: &str) -> &str {
    text.split(|c| !is_word(c)).next().unwrap_or_default()
}

/// Words at the beginnings of lines.
fn words_of<'a>(text: &'a str, begin: &'static str) -> impl Iterator<Item = &'a str> {
    let words = text.lines().map(|line| first_word(line.trim_start()));
    words.filter(move |word| word.starts_with(begin))
}

fn macros<'a>(text: &'a str, begins: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let words = text.lines().filter_map(|line| {
        Some(first_word(line.strip_prefix('#')?.trim_start().strip_prefix("define")?.trim_start()))
    });
    words.filter(|word| begins.iter().any(|begin| word.starts_with(begin)))
}

/// Names before a colon and a number.
fn fields_of_bits(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ';']).filter_map(|field| {
        let (name, width) = field.split_once(':')?;
        let width = width.trim();
        let is_width = !width.is_empty() && width.chars().all(|c| c.is_ascii_digit());
        is_width.then(|| name.trim().rsplit(|c| !is_word(c)).next().unwrap_or_default())
    })
}

/// Helpers, as `FN(name, number, …)` lists them.
fn helpers(text: &str) -> impl Iterator<Item = &str> {
    text.split("FN(").skip(1).filter_map(|part| {
        let name = first_word(part);
        let rest = part.get(name.len()..)?.strip_prefix(',')?.trim_start();
        rest.starts_with(|c: char| c.is_ascii_digit()).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakeoff_fuzz::op::Op;
    use bakeoff_fuzz::oracle::ORACLES;

    /// Everything that the base of the list has is explained, every row of the table is
    /// about something, and every reason is given.
    #[test]
    fn the_list_is_explained() {
        let names: Vec<String> = known().into_iter().map(str::to_owned).collect();
        assert!(names.len() > 1000);
        assert_eq!(explain(&names).unexplained, Vec::<String>::new());
        let rows = rows();
        let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        assert_eq!(lines.count(), rows.len());
        for (at, row) in rows.iter().enumerate() {
            let fits = |row: &Row, name: &str| match row.name.strip_suffix('*') {
                Some(begin) => name.starts_with(begin),
                None => row.name == name,
            };
            let first = |name: &String| rows.iter().position(|row| fits(row, name)) == Some(at);
            assert!(names.iter().any(first), "{} explains nothing", row.name);
            assert!(!row.why.is_empty(), "{}", row.name);
        }
    }

    /// What a newer base adds is not explained by a row that is about many.
    #[test]
    fn what_is_new_is_not_explained() {
        let names = ["bpf_map_type/BPF_MAP_TYPE_NEWER", "helper/newer", "bpf_cmd/BPF_MAP_FREEZE"];
        let explained = explain(&names.map(str::to_owned));
        assert_eq!(explained.unexplained, names[..2]);
    }

    /// What an operation is said to produce names an operation that there is, and a check
    /// that has a row.
    #[test]
    fn operations_exist() {
        for row in rows().iter().filter(|row| row.verdict == Verdict::Made) {
            let mut words = row.why.split([' ', ':']);
            let op = words.next().unwrap();
            assert!(Op::number(op).is_some(), "{}: {op}", row.name);
            if op == "check" {
                let what = words.next().unwrap().strip_prefix("what=").unwrap();
                assert!(ORACLES.iter().any(|oracle| oracle.name == what), "{}", row.name);
            }
        }
    }

    /// Headers are read by the shape of their lines.
    #[test]
    fn headers_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join("include/uapi").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put(
            "linux/perf_event.h",
            "enum perf_type_id {\n\tPERF_TYPE_ONE = 0, /* PERF_TYPE_NO */\n\tPERF_TYPE_TWO,\n};\n\
             struct perf_event_attr {\n\t__u64\t\tdisabled :  1, /* off: 2 */\n\t\t\tinherit : 1;\n\
             \tunion { __u32 a; };\n};\n#define PERF_EVENT_IOC_ENABLE\t_IO ('$', 0)\n",
        );
        put(
            "linux/bpf.h",
            "enum bpf_cmd {\n\tBPF_ONE,\n};\nenum {\n\tBPF_F_X = 1,\n};\n\
             #define ___BPF_FUNC_MAPPER(FN, ctx...)\t\\\n\tFN(unspec, 0, ##ctx)\t\\\n\tFN(two, 2, ##ctx)\n",
        );
        put("asm-generic/mman-common.h", "#define PROT_READ\t0x1\n# define OTHER 1\n");
        put("asm-generic/mman.h", "#define MAP_LOCKED 0x2000\n");
        put("linux/mman.h", "#define MREMAP_FIXED 2\n");
        put("linux/prctl.h", "#define PR_X 1\n# define PR_Y 2\n");
        assert_eq!(
            names(dir.path()).unwrap(),
            [
                "perf/PERF_TYPE_ONE",
                "perf/PERF_TYPE_TWO",
                "perf/PERF_EVENT_IOC_ENABLE",
                "perf_event_attr/disabled",
                "perf_event_attr/inherit",
                "bpf_cmd/BPF_ONE",
                "bpf_flags/BPF_F_X",
                "helper/unspec",
                "helper/two",
                "mman-common.h/PROT_READ",
                "mman.h/MAP_LOCKED",
                "mman.h/MREMAP_FIXED",
                "prctl.h/PR_X",
                "prctl.h/PR_Y",
            ]
        );
        assert!(names(Path::new("/nowhere")).is_err());
    }
}
