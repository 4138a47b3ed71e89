// SPDX-License-Identifier: MIT OR Apache-2.0
//! What fuzzing finds: reports of the kernel, one for each fingerprint, with
//! the programs that were in flight.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bakeoff_fuzz::oracle;
use serde::{Deserialize, Serialize};

use super::replay::Reproduced;
use super::session::{End, Session};
use crate::base::error::{Context, Result};
use crate::keep::store::write_json;
use crate::see::observe::{Note, fingerprint};

/// Fingerprint and title of an answer that an oracle calls wrong: the oracle, and the first
/// words of what it says, up to what is different each time.
#[must_use]
pub fn wrong(what: &str) -> (String, String) {
    let oracle = oracle::name_of(what);
    let rest = what.strip_prefix(oracle).unwrap_or(what);
    let words = rest
        .split(|c: char| c.is_ascii_digit() || "([{\"`".contains(c))
        .next()
        .unwrap_or_default()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .take(WORDS)
        .fold(String::new(), |words, word| words + "-" + &word.to_ascii_lowercase());
    (format!("{WRONG}{oracle}{words}"), format!("a wrong answer, by the oracle `{oracle}`"))
}

/// Words of a wrong answer that make its fingerprint.
const WORDS: usize = 8;

/// What fingerprints of wrong answers begin with.
pub const WRONG: &str = "wrong-";

/// Fingerprint and title of something that was not released.
pub const LEAK: (&str, &str) = ("not-released", "something is not released");

/// Programs kept with a finding.
const KEPT: usize = 16;

/// One finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Identity of the report.
    pub fingerprint: String,
    /// Its title.
    pub title: String,
    /// How often it came.
    pub count: u64,
    /// Number of the boot in which it came first.
    pub boot: u32,
    /// Where on that boot's console it began, in bytes.
    pub at: u64,
    /// Seconds after the first power-on of the campaign at which that boot ended.
    pub after_seconds: f64,
    /// Folder of the finding, within the campaign's.
    pub folder: PathBuf,
    /// How often it came again in fresh boots; `None`: not tried.
    pub reproduced: Option<Reproduced>,
    /// Its programs bring it about only together, one after the other: how many of
    /// them it takes, as far as that was tried.
    #[serde(default)]
    pub together: Option<u64>,
    /// Operations of its program, and of the one that was made smaller.
    pub ops: Option<(usize, usize)>,
    /// Whether its C file shows the report; `None`: there is none.
    pub c_file: Option<CFile>,
    /// Kernels on which its program was tried: boots with the report, and boots.
    pub hits: BTreeMap<String, (u64, u64)>,
    /// The printing of another report raised it: a consequence, no bug of its own.
    pub secondary: bool,
    /// Programs in flight when it came, most likely first.
    #[serde(skip)]
    pub suspects: Vec<String>,
    /// The report as it was printed.
    #[serde(skip)]
    pub raw: String,
}

/// What became of a finding's C file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CFile {
    /// There is no compiler for its architecture.
    NoCompiler,
    /// What was found is no report of the kernel's: it was not run.
    NoReport,
    /// It plays a check, which only the fuzzer itself can.
    Check,
    /// It was run as the only program of a guest.
    Ran {
        /// Boots with the report.
        shown: u64,
        /// Boots.
        of: u64,
        /// Other reports, by fingerprint, and boots with them.
        others: BTreeMap<String, u64>,
    },
}

/// Findings of a campaign, by fingerprint.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    found: BTreeMap<String, Finding>,
}

impl Findings {
    /// All of them, in the order of their fingerprints.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.found.values()
    }

    /// Takes in a boot; answers with the fingerprints that are new.
    pub fn take(&mut self, session: &Session, boot: u32, after_seconds: f64) -> Vec<String> {
        let mut new = Vec::new();
        for report in reports(session) {
            let Report { fingerprint, title, at, raw, secondary } = report;
            let finding = self.found.entry(fingerprint.clone()).or_insert_with(|| {
                new.push(fingerprint.clone());
                Finding {
                    folder: Path::new("findings").join(&fingerprint),
                    fingerprint,
                    title,
                    count: 0,
                    boot,
                    at,
                    after_seconds,
                    reproduced: None,
                    together: None,
                    ops: None,
                    c_file: None,
                    hits: BTreeMap::new(),
                    secondary,
                    suspects: suspects(session, at),
                    raw: raw.clone(),
                }
            });
            // Two CPUs may print at once; one report that stands alone is enough.
            if finding.secondary && !secondary {
                finding.secondary = false;
                (finding.boot, finding.at, finding.raw) = (boot, at, raw);
                finding.suspects = suspects(session, at);
            }
            finding.count += 1;
        }
        new
    }

    /// Takes in a wrong answer; its fingerprint, if it is the first of its kind.
    pub fn take_wrong(
        &mut self,
        what: &str,
        program: &str,
        boot: u32,
        after: f64,
    ) -> Option<String> {
        let (fingerprint, title) = wrong(what);
        let finding = self.found.entry(fingerprint.clone()).or_insert_with(|| Finding {
            fingerprint: fingerprint.clone(),
            title: format!("{title}: {what}"),
            count: 0,
            boot,
            at: 0,
            after_seconds: after,
            folder: Path::new("findings").join(&fingerprint),
            reproduced: None,
            together: None,
            ops: None,
            c_file: None,
            hits: BTreeMap::new(),
            secondary: false,
            suspects: Vec::new(),
            raw: String::new(),
        });
        finding.count += 1;
        if finding.suspects.len() < KEPT {
            finding.suspects.push(program.to_owned());
            finding.raw.push_str(&format!("{what}\n"));
        }
        (finding.count == 1).then_some(fingerprint)
    }

    /// Writes a finding's folder, with the console it came on.
    ///
    /// # Errors
    /// A full disk.
    pub fn write(&self, root: &Path, fingerprint: &str, console: &Path) -> Result<()> {
        let Some(finding) = self.found.get(fingerprint) else { return Ok(()) };
        finding.write(root)?;
        let to = root.join(&finding.folder).join("console.log");
        fs::copy(console, &to).at_path("copy to", &to).map(drop)
    }
}

impl Finding {
    /// Writes its folder: the report, its programs, and what is known of it.
    ///
    /// # Errors
    /// A full disk.
    pub fn write(&self, root: &Path) -> Result<()> {
        let dir = root.join(&self.folder);
        fs::create_dir_all(&dir).at_path("create", &dir)?;
        let put = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).at_path("write", &path)
        };
        put("splat.txt", &self.raw)?;
        for (index, program) in self.suspects.iter().enumerate() {
            let name =
                if index == 0 { "program.txt".into() } else { format!("suspect-{index}.txt") };
            put(&name, program)?;
        }
        write_json(&dir.join("finding.json"), self)
    }

    /// The finding for people.
    #[must_use]
    pub fn text(&self) -> String {
        let Finding { fingerprint, title, count, folder, together, ops, c_file, hits, .. } = self;
        let mut out = format!("{fingerprint} {title}\n  {count} times; {}", self.how_often());
        if let Some(together) = together {
            out.push_str(&format!(", by {together} programs one after the other"));
        }
        if let Some((small, large)) = ops {
            out.push_str(&format!("; {small} of {large} operations"));
        }
        out.push_str(&match c_file {
            None => String::new(),
            Some(CFile::NoCompiler) => "\n  repro.c was not run: no compiler".into(),
            Some(CFile::NoReport) => "\n  repro.c was not run: it shows no report".into(),
            Some(CFile::Check) => {
                "\n  no repro.c: only the fuzzer can play a check (`bakeoff replay`)".into()
            }
            Some(CFile::Ran { shown, of, others: _ }) => {
                format!("\n  repro.c shows it in {shown} of {of} boots")
            }
        });
        for (cell, (boots, of)) in hits {
            out.push_str(&format!("\n  {cell}: in {boots} of {of} boots"));
        }
        if self.secondary {
            out.push_str("\n  raised by the printing of another report");
        }
        out.push_str(&format!("\n  {}\n", folder.display()));
        out
    }

    /// Whether the kernel reported it itself.
    #[must_use]
    pub fn is_splat(&self) -> bool {
        !self.raw.is_empty() && self.fingerprint.chars().all(|c| c.is_ascii_hexdigit())
    }

    /// How often it came again, in words.
    #[must_use]
    pub fn how_often(&self) -> String {
        match &self.reproduced {
            None => "not tried again".into(),
            Some(Reproduced { boots, of, interval, .. }) => {
                let (low, high) = interval.unwrap_or((0.0, 1.0));
                format!("again in {boots} of {of} boots ({low:.2} to {high:.2})")
            }
        }
    }
}

/// One report of a boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Identity.
    pub fingerprint: String,
    /// Title.
    pub title: String,
    /// Where on the console it began, in bytes.
    pub at: u64,
    /// As it was printed.
    pub raw: String,
    /// It was raised by the printing of another.
    pub secondary: bool,
}

/// All that a boot reported. A guest that ended without a report is one of its
/// own.
#[must_use]
pub fn reports(session: &Session) -> Vec<Report> {
    let mut reports: Vec<Report> = session
        .splats
        .iter()
        .map(|splat| Report {
            fingerprint: fingerprint(splat),
            title: splat.title.clone(),
            at: splat.start,
            raw: splat.raw.clone(),
            secondary: splat.notes.contains(&Note::Secondary),
        })
        .collect();
    if reports.is_empty() {
        let silent = match &session.end {
            End::Hung => Some(("hung-without-a-report", "the guest hung without a report")),
            End::Gone => Some(("gone-without-a-report", "the guest went away without a report")),
            End::Panicked(_) => Some(("panic-without-a-report", "the guest panicked")),
            End::Ran
            | End::LockdepOff
            | End::Reported
            | End::Flood
            | End::Emulator(_)
            | End::NoHello(_) => None,
        };
        if let Some((fingerprint, title)) = silent {
            reports.push(Report {
                fingerprint: fingerprint.into(),
                title: title.into(),
                at: u64::MAX,
                raw: title.into(),
                secondary: false,
            });
        }
    }
    reports
}

/// The programs that were in flight when the console had come to a place.
#[must_use]
pub fn suspects(session: &Session, at: u64) -> Vec<String> {
    let mut programs: Vec<String> = Vec::new();
    let first = session.suspects.partition_point(|s| s.at < at);
    // What was noted at the report's head, then what came after it, then before.
    let (before, after) = session.suspects.split_at(first);
    for noted in after.iter().chain(before.iter().rev()) {
        for program in &noted.programs {
            if programs.len() < KEPT && !programs.contains(program) {
                programs.push(program.clone());
            }
        }
    }
    programs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two answers of one oracle are two findings, and numbers make none of their own.
    #[test]
    fn wrong_answers_have_names() {
        let name = |what: &str| wrong(what).0;
        let (one, other) = ("counts: a time went back: 7 to 3", "counts: a time went back: 9 to 0");
        assert_eq!(name(one), "wrong-counts-a-time-went-back");
        assert_eq!(name(one), name(other));
        assert_ne!(name(one), name("counts: read of a group of 4: 48 bytes"));
        let long = "maps: one two three four five six seven eight nine ten";
        assert_eq!(name(long), "wrong-maps-one-two-three-four-five-six-seven-eight");
        assert_eq!(name("../../etc"), "wrong-stack-lookup-etc");
        assert!(wrong(one).1.contains("`counts`"));
    }
}
