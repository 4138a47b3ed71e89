// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is done about a finding without being asked: it is brought about again
//! in fresh boots, made smaller, written as C, and tried on other kernels.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use bakeoff_fuzz::op::Op;
use bakeoff_fuzz::program::{Program, text};

use super::bench::Bench;
use super::finding::{self, CFile, Finding, LEAK, WRONG};
use super::native;
use super::replay::{self, Addresses, Boot, Reproduced};
use super::repro::{About, c_file};
use super::session::{End, Session, Until};
use serde::{Deserialize, Serialize};

use super::smaller::{Minimized, Trials, shrink};
use crate::base::error::{Context, Error, Result};
use crate::base::event::Stage;
use crate::run::Tools;
use bakeoff_fuzz::stats::clopper_pearson;

/// Boots of a finding's C file.
const C_BOOTS: u64 = 2;
/// Processes that run a C file: a guest's CPUs.
const C_PROCESSES: u32 = 2;
/// How often each of them runs the program.
const C_TIMES: u32 = 200;

/// What is wanted if any report is: no fingerprint.
const ANY: &str = "any";

/// How much is done about one finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Fresh boots that are to bring it about again.
    pub boots: u32,
    /// Boots for making its program smaller.
    pub trials: u32,
    /// How often a program is run in a boot.
    pub repeat: usize,
}

impl Default for Effort {
    fn default() -> Self {
        Effort { boots: 3, trials: 24, repeat: 20 }
    }
}

/// What fresh boots say of a finding: on the kernel it was found on, and on the reference
/// with the same programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// Boots with it, and boots.
    pub again: (u64, u64),
    /// The same of the reference; `None`: it was found on the reference.
    pub reference: Option<(u64, u64)>,
    /// Its programs did not bring it about, but fuzzing anew did.
    pub by_fuzzing: bool,
}

/// What a finding says of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reading {
    /// It comes again, and never on the reference.
    Introduced,
    /// It comes on the reference, too.
    Present,
    /// It did not come again.
    Undecided,
}

impl Reading {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Introduced => "introduced",
            Self::Present => "present",
            Self::Undecided => "undecided",
        }
    }
}

impl Confirmed {
    /// What that says.
    #[must_use]
    pub fn reading(&self) -> Reading {
        match (self.again, self.reference) {
            (_, Some((1.., _))) => Reading::Present,
            ((0, _), _) => Reading::Undecided,
            ((1.., _), Some((0, 1..))) => Reading::Introduced,
            ((1.., _), None) => Reading::Present,
            // A reference that was not tried says nothing for it.
            ((1.., _), Some((0, 0))) => Reading::Undecided,
        }
    }

    /// The numbers, in words.
    #[must_use]
    pub fn text(&self) -> String {
        let (again, of) = self.again;
        let how = if self.by_fuzzing { " of fuzzing anew" } else { "" };
        let mut text = format!("again in {again} of {of} boots{how}");
        if let Some((boots, of)) = self.reference {
            text.push_str(&format!(", on the reference in {boots} of {of}"));
        }
        text
    }
}

/// Programs of a finding's boot, run again.
struct Again<'a> {
    /// The finding's fingerprint.
    wanted: &'a str,
    /// Reports that say nothing: the reference has them anyway.
    background: &'a BTreeSet<String>,
    effort: Effort,
    root: &'a Path,
    tools: &'a Tools<'a>,
}

impl Again<'_> {
    /// Boots in which the programs bring about something that `counts`, and what that was,
    /// by fingerprint.
    fn boots(
        &self,
        bench: &Bench,
        programs: &[String],
        counts: impl Fn(&str) -> bool,
    ) -> Result<((u64, u64), BTreeSet<String>)> {
        let mut seen = BTreeSet::new();
        let list: Vec<String> = programs
            .iter()
            .flat_map(|program| vec![program.clone(); self.effort.repeat.max(1)])
            .collect();
        let (mut came, mut of, mut lost) = (0, 0, 0);
        while !list.is_empty() && of < u64::from(self.effort.boots) && lost < LOST {
            let dir = self.root.join("boots").join(format!("again-{}-{of}", self.wanted));
            let until =
                if self.background.is_empty() { Until::Report } else { Until::Wanted(self.wanted) };
            let asked =
                replay::once(bench, &list, until, &dir, self.tools, &mut Addresses::default());
            if dir.is_dir() {
                fs::remove_dir_all(&dir).at_path("remove", &dir)?;
            }
            let (boot, session) = asked?;
            if matches!(session.end, End::Emulator(_)) {
                lost += 1;
                continue;
            }
            of += 1;
            let of_interest: Vec<&String> =
                boot.reports.keys().filter(|report| counts(report)).collect();
            came += u64::from(!of_interest.is_empty());
            seen.extend(of_interest.into_iter().cloned());
        }
        Ok(((came, of), seen))
    }
}

/// Boots that the emulator may lose before the rest has to be enough.
const LOST: u32 = 3;

/// Runs the programs of a finding in fresh boots, here and on the reference. Only what
/// comes again and is not the reference's counts for or against a patch.
///
/// # Errors
/// What is ours.
pub fn confirm(
    bench: &Bench,
    reference: Option<&Bench>,
    finding: &Finding,
    background: &BTreeSet<String>,
    effort: Effort,
    root: &Path,
    tools: &Tools<'_>,
) -> Result<Confirmed> {
    let wanted = finding.fingerprint.as_str();
    let task = tools.events.start(Stage::Boot, format!("{} confirm {wanted}", bench.cell), None);
    let again = Again { wanted, background, effort, root, tools };
    // A bug may show in more than one way.
    let (here, seen) = again.boots(bench, &finding.suspects, |report| {
        report == wanted || !background.contains(report)
    })?;
    let mut said = String::new();
    let there = match reference {
        // What does not come again here says nothing there.
        Some(_) if here.0 == 0 => Some((0, 0)),
        Some(reference) => {
            // There it has to be the same, but a report of the kernel's may have another
            // name: whichever comes counts.
            let is_splat = |report: &str| !report.starts_with(WRONG) && report != LEAK.0;
            let splats = seen.iter().any(|report| is_splat(report));
            let (there, what) = again.boots(reference, &finding.suspects, |report| {
                seen.contains(report) || splats && is_splat(report) && !background.contains(report)
            })?;
            if !what.is_empty() {
                said = format!(": {}", what.into_iter().collect::<Vec<_>>().join(", "));
            }
            Some(there)
        }
        None => None,
    };
    let confirmed = Confirmed { again: here, reference: there, by_fuzzing: false };
    task.finish(confirmed.text() + &said);
    Ok(confirmed)
}

/// Boots that ask which program causes one report.
struct Asking<'a> {
    bench: &'a Bench,
    wanted: &'a str,
    repeat: usize,
    dir: &'a Path,
    tools: &'a Tools<'a>,
    boots: u32,
}

impl Asking<'_> {
    /// Runs the programs, each `repeat` times.
    fn boot(&mut self, programs: &[String]) -> Result<(Boot, Session)> {
        let repeat = self.repeat.max(1);
        let list: Vec<String> =
            programs.iter().flat_map(|program| vec![program.clone(); repeat]).collect();
        let dir = self.dir.join("boots").join(format!("{}-{:03}", self.wanted, self.boots));
        self.boots += 1;
        let until = match self.wanted {
            ANY => Until::Report,
            wanted => Until::Wanted(wanted),
        };
        let asked =
            replay::once(self.bench, &list, until, &dir, self.tools, &mut Addresses::default());
        // Dozens of consoles of the same report are of no use to anybody.
        if dir.is_dir() {
            fs::remove_dir_all(&dir).at_path("remove", &dir)?;
        }
        asked
    }
}

impl Trials for Asking<'_> {
    fn first_of(&mut self, programs: &[String]) -> Result<Option<usize>> {
        let (boot, session) = self.boot(programs)?;
        if !boot.reports.contains_key(self.wanted) {
            return Ok(None);
        }
        if let Some(wrong) = boot.wrong_by.get(self.wanted) {
            return Ok(programs.iter().position(|program| program == wrong));
        }
        let found =
            finding::reports(&session).into_iter().find(|found| found.fingerprint == self.wanted);
        let suspects = found.map_or(Vec::new(), |found| finding::suspects(&session, found.at));
        let place = |suspect: &String| programs.iter().position(|program| program == suspect);
        // What a dead guest's memory does not tell, the last answer does.
        let repeat = u32::try_from(self.repeat.max(1)).unwrap_or(u32::MAX);
        let last = || boot.replayed.keys().next_back().map_or(0, |index| (index + 1) / repeat);
        let found = suspects.iter().find_map(place);
        Ok(Some(found.unwrap_or_else(|| last() as usize).min(programs.len().saturating_sub(1))))
    }
}

/// Makes a program smaller. `fingerprint` names the report that has to stay; the
/// first it causes if `None`.
///
/// # Errors
/// What is ours; the program does not cause that report.
pub fn minimize(
    bench: &Bench,
    program: &Program,
    fingerprint: Option<&str>,
    effort: Effort,
    out: &Path,
    tools: &Tools<'_>,
) -> Result<Minimized> {
    let mut asking = Asking {
        bench,
        wanted: fingerprint.unwrap_or(ANY),
        repeat: effort.repeat,
        dir: out,
        tools,
        boots: 0,
    };
    let (first, _) = asking.boot(&[text::write(program)])?;
    let wanted = match fingerprint {
        Some(wanted) => first.reports.contains_key(wanted).then(|| wanted.to_owned()),
        None => first.reports.keys().next().cloned(),
    };
    let Some(wanted) = wanted else {
        return Err(Error::bad_input("the program does not cause that report on this kernel")
            .hint("give --repeat a larger number, if it comes now and then only"));
    };
    smaller(bench, program, &wanted, effort, out, tools)
}

fn smaller(
    bench: &Bench,
    program: &Program,
    wanted: &str,
    effort: Effort,
    out: &Path,
    tools: &Tools<'_>,
) -> Result<Minimized> {
    let task = tools.events.start(Stage::Boot, format!("{} minimize {wanted}", bench.cell), None);
    let mut asking = Asking { bench, wanted, repeat: effort.repeat, dir: out, tools, boots: 0 };
    let (small, boots, smallest) = shrink(program, &mut asking, effort.trials)?;
    task.finish(format!("{} of {} operations", small.ops.len(), program.ops.len()));
    Ok(Minimized {
        ops: (small.ops.len(), program.ops.len()),
        program: text::write(&small),
        boots,
        smallest,
        fingerprint: wanted.to_owned(),
    })
}

/// Does all that is done about a finding, and writes it into its folder.
///
/// # Errors
/// What is ours.
pub fn pursue(
    bench: &Bench,
    others: &[Bench],
    finding: &mut Finding,
    effort: Effort,
    root: &Path,
    tools: &Tools<'_>,
) -> Result<()> {
    let dir = root.join(&finding.folder);
    fs::create_dir_all(&dir).at_path("create", &dir)?;
    let wanted = finding.fingerprint.clone();
    let task = tools.events.start(Stage::Boot, format!("{} reproduce {wanted}", bench.cell), None);
    let mut asking =
        Asking { bench, wanted: &wanted, repeat: effort.repeat, dir: root, tools, boots: 0 };
    let culprit = culprit(&mut asking, &finding.suspects)?;
    let Some(culprit) = culprit else {
        let suspects = finding.suspects.clone();
        // Nothing to run: a boot would say nothing.
        let boots = if suspects.is_empty() { 0 } else { effort.boots };
        let again = together(&mut asking, &finding.title, &suspects, boots)?;
        if again.boots > 0 {
            finding.suspects = fewer(&mut asking, suspects, effort.trials / 2)?;
            finding.together = Some(finding.suspects.len() as u64);
        }
        finding.reproduced = Some(again);
        task.finish(format!("not by any of its programs alone; {}", finding.how_often()));
        return finding.write(root);
    };
    finding.reproduced = Some(again(&mut asking, &finding.title, &culprit, effort.boots)?);
    task.finish(finding.how_often());
    let program = read(&culprit)?;
    let small = smaller(bench, &program, &wanted, effort, root, tools)?;
    finding.ops = Some(small.ops);
    finding.suspects.retain(|suspect| *suspect != culprit && *suspect != small.program);
    finding.suspects.insert(0, small.program.clone());
    if small.program != culprit {
        finding.suspects.insert(1, culprit);
    }
    finding.hits.insert(bench.cell.to_string(), again_counts(finding));
    for other in others {
        let mut asking = Asking {
            bench: other,
            wanted: &wanted,
            repeat: effort.repeat,
            dir: root,
            tools,
            boots: 0,
        };
        let again = again(&mut asking, &finding.title, &small.program, effort.boots)?;
        finding.hits.insert(other.cell.to_string(), (again.boots, again.of));
    }
    as_c(bench, finding, &read(&small.program)?, &dir, tools)?;
    finding.write(root)
}

fn again_counts(finding: &Finding) -> (u64, u64) {
    finding.reproduced.as_ref().map_or((0, 0), |again| (again.boots, again.of))
}

fn read(written: &str) -> Result<Program> {
    text::read(written.as_bytes()).context(|| "read a program of our own".into())
}

/// The first of the suspects that causes the report alone.
fn culprit(asking: &mut Asking<'_>, suspects: &[String]) -> Result<Option<String>> {
    if suspects.is_empty() {
        return Ok(None);
    }
    if let Some(first) = asking.first_of(suspects)?
        && let Some(suspect) = suspects.get(first)
        && asking.first_of(std::slice::from_ref(suspect))?.is_some()
    {
        return Ok(Some(suspect.clone()));
    }
    for suspect in suspects.iter().take(4) {
        if asking.first_of(std::slice::from_ref(suspect))?.is_some() {
            return Ok(Some(suspect.clone()));
        }
    }
    Ok(None)
}

fn again(asking: &mut Asking<'_>, title: &str, program: &str, boots: u32) -> Result<Reproduced> {
    together(asking, title, &[program.to_owned()], boots)
}

/// How often programs bring the report about, run one after the other.
fn together(
    asking: &mut Asking<'_>,
    title: &str,
    programs: &[String],
    boots: u32,
) -> Result<Reproduced> {
    let mut came = 0;
    for _ in 0..boots {
        came += u64::from(asking.first_of(programs)?.is_some());
    }
    Ok(rate(title, came, boots.into()))
}

/// Fewer programs that still bring the report about together, with at most so many
/// boots: those of ever smaller pieces of the list that can be left out are.
fn fewer(asking: &mut dyn Trials, mut programs: Vec<String>, most: u32) -> Result<Vec<String>> {
    let (mut boots, mut piece) = (0, programs.len().div_ceil(2));
    while piece > 0 && programs.len() > 1 {
        let mut at = 0;
        while at < programs.len() && boots < most {
            let mut rest = programs.clone();
            rest.drain(at..(at + piece).min(programs.len()));
            boots += 1;
            if !rest.is_empty() && asking.first_of(&rest)?.is_some() {
                programs = rest;
            } else {
                at += piece;
            }
        }
        piece = if piece == 1 { 0 } else { piece.div_ceil(2) };
    }
    Ok(programs)
}

fn rate(title: &str, boots: u64, of: u64) -> Reproduced {
    let interval = clopper_pearson(boots, of, crate::spec::CONFIDENCE).map(|i| (i.low, i.high));
    Reproduced { title: title.to_owned(), boots, of, interval }
}

/// Writes the C file, and sees whether it shows the report.
fn as_c(
    bench: &Bench,
    finding: &mut Finding,
    program: &Program,
    dir: &Path,
    tools: &Tools<'_>,
) -> Result<()> {
    if program.ops.iter().any(|op| matches!(op, Op::Check { .. })) {
        finding.c_file = Some(CFile::Check);
        return Ok(());
    }
    let about = About {
        title: finding.title.clone(),
        cell: bench.cell.to_string(),
        times: C_TIMES,
        processes: C_PROCESSES,
        btf: bench.kernel.has_btf()?,
        points: bench.points()?,
    };
    let path: PathBuf = dir.join("repro.c");
    fs::write(&path, c_file(program, &about)).at_path("write", &path)?;
    if !finding.is_splat() {
        finding.c_file = Some(CFile::NoReport);
        return Ok(());
    }
    let Some(binary) = native::compile(&path, &bench.arch, tools.cancel)? else {
        finding.c_file = Some(CFile::NoCompiler);
        return Ok(());
    };
    let task = tools.events.start(Stage::Boot, format!("{} repro.c", bench.cell), None);
    let (mut shown, mut others) = (0, BTreeMap::new());
    for _ in 0..C_BOOTS {
        let console = dir.join("repro-console.log");
        let reports = native::run(bench, binary.clone(), &console, tools.cancel)?;
        shown += u64::from(reports.contains(&finding.fingerprint));
        for other in reports.into_iter().filter(|report| *report != finding.fingerprint) {
            *others.entry(other).or_insert(0) += 1;
        }
    }
    task.finish(format!("the report in {shown} of {C_BOOTS} boots"));
    finding.c_file = Some(CFile::Ran { shown, of: C_BOOTS, others });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report that takes two programs.
    struct Both(u32);

    impl Trials for Both {
        fn first_of(&mut self, programs: &[String]) -> Result<Option<usize>> {
            self.0 += 1;
            let has = |name: &str| programs.iter().any(|program| program == name);
            Ok((has("b") && has("e")).then_some(0))
        }
    }

    /// A finding is a patch's only if it comes again and never on the reference.
    #[test]
    fn readings_need_both_kernels() {
        let reading =
            |again, reference| Confirmed { again, reference, by_fuzzing: false }.reading();
        assert_eq!(reading((2, 3), Some((0, 3))), Reading::Introduced);
        assert_eq!(reading((3, 3), Some((1, 3))), Reading::Present);
        assert_eq!(reading((0, 3), Some((0, 3))), Reading::Undecided);
        assert_eq!(reading((0, 3), None), Reading::Undecided);
        assert_eq!(reading((3, 3), Some((0, 0))), Reading::Undecided);
        assert_eq!(reading((3, 3), None), Reading::Present);
    }

    /// What is not needed is left out, the order stays, and boots are a limit.
    #[test]
    fn programs_that_are_not_needed_are_left_out() {
        let all: Vec<String> = ["a", "b", "c", "d", "e", "f"].map(str::to_owned).into();
        let mut both = Both(0);
        assert_eq!(fewer(&mut both, all.clone(), 30).unwrap(), ["b", "e"]);
        assert!(both.0 < 20, "{}", both.0);
        let mut both = Both(0);
        assert_eq!(fewer(&mut both, all.clone(), 2).unwrap().len(), 6);
        assert_eq!(both.0, 2);
    }
}
