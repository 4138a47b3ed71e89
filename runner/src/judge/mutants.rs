// SPDX-License-Identifier: MIT OR Apache-2.0
//! Is the net tight? Bugs are planted, one a kernel, and fuzzing has to find
//! them in a fixed time; the kernel without any must raise nothing.

mod probes;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::base::error::{Context, Error, Result};
use crate::fuzz::across::{Across, Change, compare};
use crate::fuzz::bench::{self, Bench, Subject};
use crate::fuzz::campaign::{Campaign, fuzz, read_programs};
use crate::fuzz::finding::Finding;
use crate::fuzz::replay::{Replay, replay};
use crate::fuzz::reproduce::{self, Confirmed, Effort, Reading};
use crate::fuzz::summary::Summary;
use crate::run::{Machinery, Tools};
use crate::spec::Spec;

/// A planted bug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// Name of its file, without the ending.
    pub name: String,
    /// The patch.
    pub patch: PathBuf,
    /// What kind of bug it is; `-` where its patch does not say.
    pub class: String,
    /// How it shows where it is reached: `lockdep`, `kasan`, `build-id` and so on; `-`
    /// where its patch does not say.
    pub shows_as: String,
    /// The kernel it needs, where its patch says only that: `kasan` or `lockdep`.
    pub config: Option<String>,
}

/// What a patch does not say.
const UNSAID: &str = "-";

impl Mutant {
    /// Whether it counts: one that cannot be detected here does not.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.shows_as != "undetectable"
    }

    /// Which profiles can show it, in the order in which they are tried until one
    /// does.
    #[must_use]
    pub fn profiles(&self) -> &'static [&'static str] {
        match self.shows_as.as_str() {
            "kasan" => &["kasan"],
            UNSAID => match self.config.as_deref() {
                Some("kasan") => &["kasan"],
                Some("lockdep") => &["kcov"],
                _ => &["kcov", "kasan"],
            },
            _ => &["kcov"],
        }
    }

    fn read(path: &Path) -> Result<Mutant> {
        let text = fs::read_to_string(path).at_path("read", path)?;
        let line = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key))
                .map_or_else(|| UNSAID.to_owned(), |value| value.trim().to_owned())
        };
        let shows_as = line("Mutant-shows-as:");
        if !CLASSES.iter().any(|(_, words)| words.contains(&shows_as.as_str())) {
            let words: Vec<&str> = CLASSES.iter().flat_map(|(_, words)| *words).copied().collect();
            let at = path.display();
            return Err(Error::bad_input(format!("{at}: unknown `Mutant-shows-as: {shows_as}`"))
                .hint(format!("one of {}; or leave the line out", words.join(", "))));
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let config = Some(line("Config:")).filter(|word| word != UNSAID);
        let class = line("Mutant-class:");
        Ok(Mutant { name, class, shows_as, config, patch: path.to_owned() })
    }
}

/// The mutants of a folder, by name.
///
/// # Errors
/// The folder or a patch cannot be read; it says that it shows as something that
/// nobody knows.
pub fn read(dir: &Path) -> Result<Vec<Mutant>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).at_path("read the folder", dir)? {
        let path = entry.at_path("read the folder", dir)?.path();
        if path.extension().is_some_and(|ending| ending == "patch") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| Mutant::read(path)).collect()
}

/// How a planted bug was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// A report while fuzzing, a wrong answer, or a guest that died.
    Report,
    /// Something that was not released while fuzzing.
    Leak,
    /// The stock kernel's corpus answers differently on it.
    Replay,
}

/// What became of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its name; `stock` is the kernel without a planted bug.
    pub name: String,
    /// What kind of bug it is.
    pub class: String,
    /// How it should show.
    pub shows_as: String,
    /// Whether it counts.
    pub counts: bool,
    /// What was found, came again in fresh boots, and is not the stock kernel's.
    pub found: Vec<String>,
    /// How often.
    #[serde(default)]
    pub confirmed: Option<Confirmed>,
    /// What was seen once and does not count: it did not come again, or the stock kernel
    /// shows it with the same programs.
    #[serde(default)]
    pub unconfirmed: Vec<String>,
    /// How much else was seen and not tried again: one that counts is enough.
    #[serde(default)]
    pub untried: usize,
    /// How.
    pub by: Option<By>,
    /// Seconds until the boot with the finding ended; `None`: nothing was found.
    pub seconds: Option<f64>,
    /// Programs run.
    pub execs: u64,
    /// Patched functions of the mutant that were reached, and all of them.
    pub reached: (usize, usize),
    /// Why it was not tried.
    pub not_tried: Option<String>,
    /// What the probes of the bake-off said; `None` where they were not asked, or
    /// did not call it worse.
    pub probes: Option<String>,
}

impl Row {
    /// By fuzzing or by the probes.
    #[must_use]
    pub fn is_found(&self) -> bool {
        !self.found.is_empty() || self.probes.is_some()
    }

    fn new(name: String, class: &str, shows_as: &str, counts: bool) -> Row {
        Row {
            name,
            class: class.into(),
            shows_as: shows_as.into(),
            counts,
            found: Vec::new(),
            confirmed: None,
            unconfirmed: Vec::new(),
            untried: 0,
            by: None,
            seconds: None,
            execs: 0,
            reached: (0, 0),
            not_tried: None,
            probes: None,
        }
    }
}

/// How the rows of one class came out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// What is in it, in words.
    pub what: String,
    /// Planted bugs.
    pub planted: usize,
    /// Of these, those that were tried.
    pub tried: usize,
    /// Of these, those that fuzzing found.
    pub found: usize,
    /// Of these, those that fuzzing or the probes found.
    pub in_all: usize,
}

/// The classes, and the words of how the bugs in them show.
const CLASSES: [(&str, &[&str]); 5] = [
    ("detectable when reached", &["lockdep", "build-id", "errno", "leak"]),
    ("with KASAN only", &["kasan"]),
    ("conditional", &["conditional"]),
    ("their patch does not say", &[UNSAID]),
    ("undetectable here (not counted)", &["undetectable"]),
];

/// The classes, as the folder's README has them, with their counts; those that
/// are not counted come last.
#[must_use]
pub fn classes(rows: &[Row]) -> Vec<Class> {
    CLASSES
        .into_iter()
        .map(|(what, words)| {
            let mut class = Class { what: what.to_owned(), ..Class::default() };
            for row in rows.iter().filter(|row| words.contains(&row.shows_as.as_str())) {
                class.planted += 1;
                class.tried += usize::from(row.not_tried.is_none());
                class.found += usize::from(!row.found.is_empty());
                class.in_all += usize::from(row.is_found());
            }
            class
        })
        .collect()
}

/// What the stock kernel is like: what a mutant must go beyond.
#[derive(Debug, Default)]
struct Stock {
    bench: Option<Bench>,
    reports: BTreeSet<String>,
    leaks: BTreeSet<String>,
    corpus: Vec<String>,
    replayed: Option<Replay>,
}

/// Programs of the stock kernel's corpus that are replayed on mutants.
const REPLAYED: usize = 150;
/// Boots of that replay on the stock kernel, and on a mutant that answers differently.
const REPLAYS: u32 = 4;
/// Boots of a mutant to begin with.
const FIRST_REPLAYS: u32 = 2;

/// Fuzzes the stock kernel and each mutant for the same time; where that finds
/// nothing, the stock kernel's corpus is replayed on both and compared.
///
/// Each row is told as soon as it is known.
///
/// # Errors
/// What is ours. A mutant that does not build or boot is a row.
pub fn run(
    subject: &Subject,
    mutants: &[Mutant],
    campaign: &Campaign,
    machinery: &Machinery,
    tools: &Tools<'_>,
    mut tell: impl FnMut(&Row) -> Result<()>,
) -> Result<Vec<Row>> {
    // Read once: what is changed in it meanwhile is for the next time.
    let lab = Lab { spec: &Spec::load(&subject.spec, tools.data)?, machinery, tools };
    let mut rows = Vec::new();
    let mut stocks: BTreeMap<&str, Stock> = BTreeMap::new();
    for mutant in mutants {
        let mut row =
            Row::new(mutant.name.clone(), &mutant.class, &mutant.shows_as, mutant.counts());
        for profile in mutant.profiles().iter().copied() {
            if !stocks.contains_key(profile) {
                let subject = Subject { profile: profile.into(), ..subject.clone() };
                let (row, stock) = lab.stock(&subject, campaign)?;
                tell(&row)?;
                rows.push(row);
                stocks.insert(profile, stock);
            }
            let stock = stocks.entry(profile).or_default();
            let subject = Subject {
                profile: profile.into(),
                extra: vec![mutant.patch.clone()],
                ..subject.clone()
            };
            let campaign = Campaign {
                out: campaign.out.join(format!("{}-{profile}", mutant.name)),
                until_finding: true,
                ..campaign.clone()
            };
            lab.one(&subject, &campaign, stock, &mut row)?;
            if row.is_found() || row.not_tried.is_some() {
                break;
            }
        }
        tell(&row)?;
        rows.push(row);
    }
    Ok(rows)
}

/// Runs the probes of the bake-off on kernels with the mutants, and adds what they
/// said to the rows.
///
/// # Errors
/// What is ours.
pub fn run_probes(
    subject: &Subject,
    mutants: &[Mutant],
    out: &Path,
    machinery: &Machinery,
    tools: &Tools<'_>,
    rows: &mut [Row],
) -> Result<()> {
    let tried = |mutant: &&Mutant| {
        rows.iter().any(|row| row.name == mutant.name && row.not_tried.is_none())
    };
    let tried: Vec<&Mutant> = mutants.iter().filter(tried).collect();
    if tried.is_empty() {
        return Ok(());
    }
    let out = out.join("probes");
    let said = probes::run(&subject.spec, &subject.arch, &tried, &out, machinery, tools)?;
    for (mutant, said) in tried.into_iter().zip(said) {
        for row in rows.iter_mut().filter(|row| row.name == mutant.name) {
            row.probes.clone_from(&said);
        }
    }
    Ok(())
}

/// What all kernels are fuzzed with.
struct Lab<'a> {
    spec: &'a Spec,
    machinery: &'a Machinery,
    tools: &'a Tools<'a>,
}

impl Lab<'_> {
    /// The kernel of a subject; `None`, and why in the row, if there is none.
    fn prepare(&self, subject: &Subject, out: &Path, row: &mut Row) -> Result<Option<Bench>> {
        fs::create_dir_all(out).at_path("create", out)?;
        let log = out.join("build.log");
        match Bench::of(self.spec, None, subject, self.machinery, &log, self.tools)? {
            Ok(bench) => Ok(Some(bench)),
            Err(outcome) => {
                row.not_tried = Some(bench::why(&outcome));
                Ok(None)
            }
        }
    }

    fn stock(&self, subject: &Subject, campaign: &Campaign) -> Result<(Row, Stock)> {
        let name = format!("stock/{}", subject.profile);
        let mut row = Row::new(name, "no planted bug", "nothing", false);
        let out = campaign.out.join(format!("stock-{}", subject.profile));
        let campaign = Campaign { out: out.clone(), until_finding: false, ..campaign.clone() };
        let mut stock = Stock::default();
        let Some(bench) = self.prepare(subject, &out, &mut row)? else {
            return Ok((row, stock));
        };
        let summary = fuzz(&bench, &campaign, self.tools)?;
        row.execs = summary.execs;
        for finding in &summary.findings {
            stock.reports.insert(finding.fingerprint.clone());
            row.found.push(finding.title.clone());
            row.by = Some(By::Report);
        }
        stock.leaks = summary.leaks.keys().map(|leak| kind_of(leak)).collect();
        row.found.extend(summary.leaks.keys().cloned());
        let corpus = campaign.corpus.unwrap_or_else(|| out.join("corpus"));
        stock.corpus = read_programs(&corpus, self.tools)?;
        stock.corpus.truncate(REPLAYED);
        if !stock.corpus.is_empty() {
            stock.replayed = Some(replay(&bench, &stock.corpus, REPLAYS, &out, self.tools)?);
        }
        stock.bench = Some(bench);
        Ok((row, stock))
    }

    /// Fuzzes one kernel; what it does beyond what the stock kernel does goes into
    /// the row.
    fn one(
        &self,
        subject: &Subject,
        campaign: &Campaign,
        stock: &mut Stock,
        row: &mut Row,
    ) -> Result<()> {
        let Some(bench) = self.prepare(subject, &campaign.out, row)? else {
            return Ok(());
        };
        // The same programs are held up in the same functions.
        if let Some(reference) = &mut stock.bench {
            reference.held_up.clone_from(&bench.held_up);
        }
        let began = Instant::now();
        // What was found by chance is no reason to stop: the rest of the time is used.
        let mut left = f64::from(campaign.seconds);
        let (mut last, mut spent) = (None, 0.0);
        for part in 0_u32.. {
            let campaign = Campaign {
                seconds: left.ceil() as u32,
                seed: campaign.seed.wrapping_add(part.wrapping_mul(7919)),
                out: campaign.out.join(format!("part-{part}")),
                ..campaign.clone()
            };
            let summary = fuzz(&bench, &campaign, self.tools)?;
            row.execs += summary.execs;
            if let Some(said) = &summary.did_not_boot {
                row.not_tried = Some(format!("it does not boot; it last said: {said}"));
                return Ok(());
            }
            let patched = &summary.patched_functions_reached;
            row.reached = (patched.values().flatten().count(), patched.len());
            self.take(&bench, stock, &campaign, &summary, row)?;
            if row.by.is_some() {
                row.seconds = row.seconds.map(|seconds| seconds + spent);
                return Ok(());
            }
            spent += summary.seconds;
            left -= summary.seconds.max(1.0);
            let found = !summary.findings.is_empty();
            last = Some(summary);
            if !found || left < ENOUGH {
                break;
            }
        }
        let Some(summary) = last else { return Ok(()) };
        for leak in summary.leaks.keys().filter(|leak| !stock.leaks.contains(&kind_of(leak))) {
            row.by = Some(By::Leak);
            row.found.push(leak.clone());
        }
        if let Some(reference) = stock.replayed.as_ref().filter(|_| row.by.is_none()) {
            let again = |boots, name| {
                let out = campaign.out.join(name);
                fs::create_dir_all(&out).at_path("create", &out)?;
                let replayed = replay(&bench, &stock.corpus, boots, &out, self.tools)?;
                Ok::<Across, Error>(compare(reference, &replayed))
            };
            let mut across = again(FIRST_REPLAYS, "replay")?;
            if !(across.errnos.is_empty() && across.lookups.is_empty()) {
                // Among thousands of answers some differ by chance in two boots, and those
                // are others the next time.
                let second = again(REPLAYS, "replay-again")?;
                across.errnos.retain(|change| second.errnos.contains(change));
                across.lookups.retain(|change| second.lookups.contains(change));
            }
            row.found = differences(&across, stock);
            row.by = (!row.found.is_empty()).then_some(By::Replay);
        }
        row.seconds = row.by.map(|_| began.elapsed().as_secs_f64());
        Ok(())
    }
}

impl Lab<'_> {
    /// Takes in what a part of a campaign found, as far as it comes again: by its
    /// programs, or else by fuzzing anew, which is how a race shows.
    fn take(
        &self,
        bench: &Bench,
        stock: &Stock,
        campaign: &Campaign,
        summary: &Summary,
        row: &mut Row,
    ) -> Result<()> {
        let new = |finding: &&Finding| !stock.reports.contains(&finding.fingerprint);
        let Some(stock_bench) = &stock.bench else { return Ok(()) };
        for finding in summary.findings.iter().filter(new) {
            if row.by.is_some() {
                row.untried += 1;
                continue;
            }
            let (effort, tools) = (Effort::default(), self.tools);
            let background = &stock.reports;
            let root = campaign.out.as_path();
            let reference = Some(stock_bench);
            let mut confirmed =
                reproduce::confirm(bench, reference, finding, background, effort, root, tools)?;
            if confirmed.reading() == Reading::Undecided {
                confirmed = self.anew(bench, stock_bench, campaign, finding, background)?;
            }
            if confirmed.reading() != Reading::Introduced {
                row.unconfirmed.push(format!("{}: {}", finding.title, confirmed.text()));
                continue;
            }
            row.by = Some(By::Report);
            row.found.push(finding.title.clone());
            row.confirmed = Some(confirmed);
            row.seconds = Some(finding.after_seconds);
        }
        Ok(())
    }

    /// Fuzzes anew from the corpus so far, in fresh boots, and the stock kernel the same
    /// way: boots in which something comes that stock's longer campaign did not show.
    fn anew(
        &self,
        bench: &Bench,
        reference: &Bench,
        campaign: &Campaign,
        finding: &Finding,
        background: &BTreeSet<String>,
    ) -> Result<Confirmed> {
        let seconds = (2.0 * finding.after_seconds).clamp(20.0, f64::from(MOST_ANEW)) as u32;
        let new = |found: &&Finding| {
            // A wrong answer of another oracle is another thing.
            let alike = found.fingerprint == finding.fingerprint
                || found.is_splat() && finding.is_splat() && !found.secondary;
            alike && !background.contains(&found.fingerprint)
        };
        let boots = |bench: &Bench, name: &str| -> Result<(u64, u64)> {
            let mut came = 0;
            for turn in 0..ANEW {
                let anew = Campaign {
                    seconds,
                    seed: campaign.seed.wrapping_add(1 + turn),
                    corpus: None,
                    seeds: Some(campaign.out.join("corpus")),
                    until_finding: true,
                    out: campaign.out.join(format!("{name}-{turn}")),
                };
                let summary = fuzz(bench, &anew, self.tools)?;
                came += u64::from(summary.findings.iter().any(|found| new(&found)));
            }
            Ok((came, ANEW.into()))
        };
        let again = boots(bench, "anew")?;
        let there = if again.0 > 0 { boots(reference, "anew-stock")? } else { (0, 0) };
        Ok(Confirmed { again, reference: Some(there), by_fuzzing: true })
    }
}

/// Fresh boots in which fuzzing is to bring a finding about, and seconds of each at most.
const ANEW: u32 = 2;
const MOST_ANEW: u32 = 60;
/// Seconds of fuzzing that are worth another boot.
const ENOUGH: f64 = 10.0;

/// A leak without its number.
fn kind_of(leak: &str) -> String {
    leak.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// What a replay shows beyond the stock kernel's, in words.
fn differences(across: &Across, stock: &Stock) -> Vec<String> {
    let introduced = across.reports.iter().filter(|(fingerprint, report)| {
        report.change == Change::Introduced && !stock.reports.contains(*fingerprint)
    });
    let mut found: Vec<String> = introduced.map(|(_, report)| report.title.clone()).collect();
    let Across { errnos, lookups, .. } = across;
    if let Some(first) = errnos.first() {
        found.push(format!(
            "{} calls answer differently; the first {} instead of {}",
            errnos.len(),
            first.candidate,
            first.reference
        ));
    }
    if let Some(first) = lookups.first() {
        found.push(format!(
            "{} lookups answer differently; the first has {} build ids instead of {}",
            lookups.len(),
            first.candidate.0,
            first.reference.0
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every planted bug says what it is and how it shows, in a word that the
    /// table of the folder's README has.
    #[test]
    fn planted_bugs_say_what_they_are() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/mutants");
        let mutants = read(&dir).unwrap();
        assert!(mutants.len() >= 15, "{}", mutants.len());
        let table = fs::read_to_string(dir.join("README.md")).unwrap();
        for mutant in &mutants {
            assert!(table.contains(&format!("| `{}` |", mutant.shows_as)), "{mutant:?}");
            assert!(!mutant.class.is_empty());
        }
        assert!(mutants.iter().filter(|m| m.counts()).count() >= 15);
    }

    /// A patch may say nothing of itself, but nothing that nobody knows.
    #[test]
    fn patches_may_say_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one.patch");
        fs::write(&path, "Subject: a bug\n---\n").unwrap();
        let [mutant] = read(dir.path()).unwrap().try_into().unwrap();
        assert_eq!((mutant.class.as_str(), mutant.counts()), (UNSAID, true));
        assert_eq!(mutant.profiles(), ["kcov", "kasan"]);
        for (word, profile) in [("kasan", "kasan"), ("lockdep", "kcov")] {
            fs::write(&path, format!("a bug\nConfig: {word}\n\n--- a/mm/x.c\n")).unwrap();
            let [mutant] = read(dir.path()).unwrap().try_into().unwrap();
            assert_eq!(mutant.profiles(), [profile]);
        }
        fs::write(&path, "Mutant-class: a leak\nMutant-shows-as: memory\n").unwrap();
        let error = read(dir.path()).unwrap_err().chain();
        assert!(error.contains("one.patch") && error.contains("memory"), "{error}");
    }

    /// Every word a patch may use is in a class, and only one.
    #[test]
    fn classes_count_each_row_once() {
        let words = [
            "lockdep",
            "kasan",
            "build-id",
            "errno",
            "leak",
            "conditional",
            UNSAID,
            "undetectable",
        ];
        let mut rows: Vec<Row> = words
            .iter()
            .map(|word| Row::new((*word).into(), "c", word, *word != "undetectable"))
            .collect();
        rows[0].found.push("a report".into());
        rows[2].probes = Some("a splat".into());
        rows[1].not_tried = Some("it does not build".into());
        let classes = classes(&rows);
        assert_eq!(classes.iter().map(|c| c.planted).sum::<usize>(), words.len());
        assert_eq!((classes[0].planted, classes[0].tried, classes[0].found), (4, 4, 1));
        assert_eq!(classes.iter().map(|c| c.in_all).sum::<usize>(), 2);
        assert_eq!((classes[1].planted, classes[1].tried), (1, 0));
    }
}
