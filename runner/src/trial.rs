// SPDX-License-Identifier: MIT OR Apache-2.0
//! A series against its base, without a spec that anybody wrote.
//!
//! What a series touches decides what is run ([`mod@table`]), and what is known of its base
//! decides on which kernel ([`base`]). Both end in a bake-off's folder like any other:
//! the stock tree is the reference, each series a contender that is built in the sandbox,
//! and whoever has the run has the spec that repeats it.

mod base;
mod table;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::command::Cancel;
use crate::base::data::DataDir;
use crate::base::error::{Context, Error, Result};
use crate::judge::report::CHOSEN;
use crate::series::{self, Series};
use crate::spec::arch::Arch;
use crate::spec::{BaseSource, FILE_NAME, Spec};

pub(crate) use base::Chosen;
use table::{Row, table};

/// The reference's name.
const STOCK: &str = "stock";
/// Seconds of fuzzing, where the table names the fuzzer and it is asked for.
const FUZZ_SECONDS: u32 = 300;
/// Seconds that one folder of kselftests may take.
const KSELFTEST_SECONDS: u32 = 180;

/// What is wanted of a trial.
#[derive(Clone, Debug)]
pub(crate) struct Wish<'a> {
    /// `--base`.
    pub(crate) base: Option<&'a str>,
    /// Time for measuring.
    pub(crate) budget: Duration,
}

/// A bake-off that was made for series.
#[derive(Debug)]
pub(crate) struct Trial {
    /// The folder, with everything; it lives as long as this.
    dir: tempfile::TempDir,
    /// The bake-off's name.
    name: String,
    /// On which kernel.
    pub(crate) base: Chosen,
    /// What is run, and why.
    drives: Drives,
    /// The series, as contenders are named.
    contenders: Vec<String>,
}

impl Trial {
    /// Makes the bake-off.
    ///
    /// # Errors
    /// A patch is missing, two series are the same, `--base` names nothing, a full disk.
    pub(crate) fn new(
        mut all: Vec<Series>,
        wish: &Wish<'_>,
        data: &DataDir,
        cancel: &Cancel,
    ) -> Result<Trial> {
        let base = base::choose(wish.base, &all, data, cancel)?;
        let mut contenders: Vec<String> = Vec::new();
        for series in &mut all {
            series.require_whole()?;
            let name = series.name();
            if contenders.contains(&name) {
                return Err(Error::bad_input(format!(
                    "two sources are v{} of \u{201c}{}\u{201d}",
                    series.version, series.subject
                ))
                .hint("give each series once; --versions adds all versions of one"));
            }
            series.base.reasons.push(format!("{CHOSEN}{}", base.why));
            contenders.push(name);
        }
        let Some(name) = contenders.first().cloned() else {
            return Err(Error::bad_input("there is no series").hint("give at least one SOURCE"));
        };
        let drives = Drives::of(all.iter().flat_map(|series| &series.paths))?;
        let dir = tempfile::tempdir().context(|| "make a temporary folder".into())?;
        let trial = Trial { dir, name, base, drives, contenders };
        for (series, name) in all.iter().zip(&trial.contenders) {
            series::write(series, &trial.patches_of(name))?;
        }
        let yaml = trial.folder().join(FILE_NAME);
        // This host's own first: its answer comes soonest.
        let archs = Arch::names(data)?;
        let archs: Vec<Arch> =
            archs.iter().map(|name| Arch::load(data, name)).collect::<Result<_>>()?;
        let (native, others): (Vec<Arch>, Vec<Arch>) = archs.into_iter().partition(Arch::is_native);
        let archs: Vec<String> = native.into_iter().chain(others).map(|arch| arch.name).collect();
        let text = trial.spec(&all, wish, &archs);
        fs::write(&yaml, text).at_path("write", &yaml)?;
        // What is written here is read back by the rules of every other spec.
        Spec::load(&trial.folder(), data)
            .map_err(|error| Error::failure("the bake-off made for the series").because(error))?;
        Ok(trial)
    }

    /// The bake-off's folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join(&self.name)
    }

    /// The contenders' names.
    pub(crate) fn contenders(&self) -> &[String] {
        &self.contenders
    }

    /// The folder with the patches of a contender.
    pub(crate) fn patches_of(&self, contender: &str) -> PathBuf {
        self.folder().join(&self.base.name).join(contender)
    }

    /// What is tried on what, by what, and why.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("base       {}: {}\n", self.base.source, self.base.why);
        for name in &self.contenders {
            let _ = writeln!(text, "series     {name}");
        }
        text.push_str(&self.drives.describe());
        text
    }

    /// `bakeoff.yaml`.
    fn spec(&self, all: &[Series], wish: &Wish<'_>, archs: &[String]) -> String {
        let title = match all {
            [one] => format!("{} (v{})", one.subject, one.version),
            _ => format!("{} series, each against their base", all.len()),
        };
        let mut yaml = format!(
            "# Made by `bakeoff try`. {}: {}.\nversion: 1\nname: {}\ntitle: {}\n",
            comment(&self.base.source.to_string()),
            comment(&self.base.why),
            self.name,
            quoted(&title)
        );
        if let Some(first) = all.first().filter(|series| series.is_mail()) {
            yaml.push_str(&thread(first));
        }
        let _ =
            write!(yaml, "bases:\n  {}:\n    {}\n", quoted(&self.base.name), source(&self.base));
        let _ = write!(
            yaml,
            "candidates:\n  {STOCK}:\n    role: reference\n    stock: true\n    \
             title: the base as it is\n"
        );
        for (series, name) in all.iter().zip(&self.contenders) {
            let title = format!("v{} of {}", series.version, series.subject);
            let _ = write!(yaml, "  {name}:\n    foreign: true\n    title: {}\n", quoted(&title));
            let undriven: Vec<&str> = series
                .paths
                .iter()
                .filter(|path| self.drives.undriven.contains(path))
                .map(String::as_str)
                .collect();
            if !undriven.is_empty() {
                let what = format!("what nothing here drives: {}", listed(&undriven));
                let _ = writeln!(yaml, "    untested: {}", quoted(&what));
            }
        }
        let _ = write!(
            yaml,
            "architectures: [{}]\nprofiles: [lockdep, production]\nbudget: {} s\n",
            archs.join(", "),
            wish.budget.as_secs().max(1)
        );
        let tests = self.drives.kselftests();
        if !tests.is_empty() {
            let folders: Vec<&str> = tests.iter().map(|(folder, _)| folder.as_str()).collect();
            let _ = writeln!(yaml, "pack:\n  busybox: true\n  kselftest: [{}]", folders.join(", "));
        }
        yaml.push_str("probes:\n");
        let mut given: Vec<&str> = Vec::new();
        for Touched { row, paths } in &self.drives.rows {
            let probes = row.probes.iter().map(String::as_str);
            let fresh: Vec<&str> = probes.filter(|probe| !given.contains(probe)).collect();
            given.extend(&fresh);
            if !fresh.is_empty() {
                let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
                let _ = writeln!(yaml, "  # {}: {}", comment(&listed(&paths)), row.why);
            }
            for probe in fresh {
                let _ = writeln!(yaml, "  - {probe}");
            }
        }
        for (folder, named) in tests {
            let run = format!("kselftest-{folder} {named}");
            let _ = writeln!(
                yaml,
                "  - {{probe: command, name: kselftest-{folder}, run: {}, read: ktap, \
                 time-limit: {KSELFTEST_SECONDS}, quick: true}}",
                run.trim_end()
            );
        }
        yaml.push_str("gates:\n  - {gate: no-new-splats}\n  - {gate: verdict-is, is: [ok]}\n");
        if self.drives.fuzz() {
            let _ = writeln!(yaml, "fuzz: {{seconds: {FUZZ_SECONDS}, when: asked}}");
        }
        yaml
    }
}

/// The thread of a series, so that the reply goes where the series went.
fn thread(series: &Series) -> String {
    let list = |all: &[String]| all.iter().map(|one| quoted(one)).collect::<Vec<_>>().join(", ");
    let from = series.author.email.clone();
    let cc: Vec<String> =
        series.to.iter().chain(&series.cc).filter(|one| !one.contains(&from)).cloned().collect();
    format!(
        "thread:\n  message-id: {}\n  subject: {}\n  to: [{}]\n  cc: [{}]\n",
        quoted(&series.message_id),
        quoted(&series.subject_line),
        list(&[from]),
        list(&cc)
    )
}

/// The base's entry of `bases:`, as a flow mapping.
fn source(base: &Chosen) -> String {
    let path = |path: &Path| quoted(&path.display().to_string());
    match &base.source {
        BaseSource::Debian { package, version, sha256 } => format!(
            "debian: {{package: {}, version: {}, sha256: {}}}",
            quoted(package),
            quoted(version),
            quoted(sha256)
        ),
        BaseSource::Git { repository, revision } => {
            format!("git: {{repository: {}, revision: {}}}", path(repository), quoted(revision))
        }
        BaseSource::Directory(dir) => format!("directory: {}", path(dir)),
    }
}

/// Text as a YAML scalar: a JSON string is one, whatever is in it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Text as a part of a comment.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Paths for one line: the first three, and how many more.
fn listed(paths: &[&str]) -> String {
    let shown = paths.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    match paths.len() {
        0..=3 => shown,
        many => format!("{shown} and {} more", many - 3),
    }
}

/// A row of the table, and the files that it is about.
#[derive(Debug)]
struct Touched {
    row: &'static Row,
    paths: Vec<String>,
}

/// What is run for a series.
#[derive(Debug, Default)]
struct Drives {
    rows: Vec<Touched>,
    /// Files that no row is about.
    undriven: Vec<String>,
}

impl Drives {
    /// What the table says of these files.
    ///
    /// # Errors
    /// As [`table()`].
    fn of<'a>(paths: impl Iterator<Item = &'a String>) -> Result<Drives> {
        let table = table()?;
        let mut all: Vec<String> = paths.cloned().collect();
        all.sort();
        all.dedup();
        let about = |row: &'static Row| Touched {
            row,
            paths: all
                .iter()
                .filter(|path| row.paths.iter().any(|pattern| table::begins(pattern, path)))
                .cloned()
                .collect(),
        };
        let rows: Vec<Touched> =
            table.rows.iter().map(about).filter(|touched| !touched.paths.is_empty()).collect();
        let undriven = all
            .iter()
            .filter(|path| !rows.iter().any(|touched| touched.paths.contains(path)))
            .cloned()
            .collect();
        let always = Touched { row: &table.always, paths: vec!["every series".to_owned()] };
        Ok(Drives { rows: std::iter::once(always).chain(rows).collect(), undriven })
    }

    /// Folders of kselftests, each once.
    fn kselftests(&self) -> Vec<(&'static String, &'static String)> {
        let mut all = Vec::new();
        for tests in self.rows.iter().flat_map(|touched| &touched.row.kselftests) {
            if !all.contains(&tests) {
                all.push(tests);
            }
        }
        all
    }

    fn fuzz(&self) -> bool {
        self.rows.iter().any(|touched| touched.row.fuzz)
    }

    /// A line for each row, with its reason.
    fn describe(&self) -> String {
        let mut text = String::new();
        for Touched { row, paths } in &self.rows {
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            let _ = writeln!(text, "touches    {}\n           by {}", listed(&paths), row.why);
            let mut by: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            for probe in &row.probes {
                by.entry("probes").or_default().push(short(probe));
            }
            for (folder, named) in &row.kselftests {
                let tests = format!("{folder} {named}");
                by.entry("kselftests").or_default().push(tests.trim_end().to_owned());
            }
            for (what, names) in by {
                let _ = writeln!(text, "           {what}: {}", names.join("; "));
            }
            if row.fuzz {
                let _ = writeln!(text, "           fuzzer: with --fuzz");
            }
        }
        if !self.undriven.is_empty() {
            let paths: Vec<&str> = self.undriven.iter().map(String::as_str).collect();
            let _ = writeln!(
                text,
                "untested   {}: built and booted, but nothing here drives it",
                listed(&paths)
            );
        }
        text
    }
}

/// Keys that say how much of a measurement is made, and where.
const AMOUNTS: [&str; 5] = ["quick", "blocks", "calls-per-block", "profiles", "own-boot"];

/// `{probe: NAME, context: nmi, …}` → `NAME nmi …`.
fn short(probe: &str) -> String {
    let inner = probe.trim_matches(['{', '}']);
    let words: Vec<&str> = inner
        .split(", ")
        .filter_map(|pair| pair.split_once(": "))
        .filter(|(key, _)| !AMOUNTS.contains(key))
        .map(|(_, value)| value)
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests;
