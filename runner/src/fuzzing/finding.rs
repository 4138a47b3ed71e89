// SPDX-License-Identifier: MIT OR Apache-2.0
//! What fuzzing finds: reports of the kernel, one for each fingerprint, with
//! the programs that were in flight.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::session::{End, Session};
use crate::error::{Context, Result};
use crate::observe::fingerprint;
use crate::store::write_json;

/// Fingerprint and title of a stack lookup's wrong answer.
pub const WRONG: (&str, &str) = ("wrong-build-id", "a stack lookup answered a wrong build id");

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
    /// Seconds after the first power-on of the campaign at which that boot ended.
    pub after_seconds: f64,
    /// Folder of the finding, within the campaign's.
    pub folder: PathBuf,
    /// Boots in which it came again, of those that tried; `None`: not tried.
    pub reproduced: Option<(u32, u32)>,
    /// Programs in flight when it came, most likely first.
    #[serde(skip)]
    pub suspects: Vec<String>,
    /// The report as it was printed.
    #[serde(skip)]
    pub raw: String,
}

/// Findings of a campaign, by fingerprint.
#[derive(Debug, Default)]
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
        for (fingerprint, title, at, raw) in reports(session) {
            let finding = self.found.entry(fingerprint.clone()).or_insert_with(|| {
                new.push(fingerprint.clone());
                Finding {
                    folder: Path::new("findings").join(&fingerprint),
                    fingerprint,
                    title,
                    count: 0,
                    boot,
                    after_seconds,
                    reproduced: None,
                    suspects: suspects(session, at),
                    raw,
                }
            });
            finding.count += 1;
        }
        new
    }

    /// Takes in a wrong answer of a stack lookup; true if it is the first.
    pub fn take_wrong(&mut self, what: &str, program: &str, boot: u32, after: f64) -> bool {
        let (fingerprint, title) = WRONG;
        let finding = self.found.entry(fingerprint.into()).or_insert_with(|| Finding {
            fingerprint: fingerprint.into(),
            title: title.into(),
            count: 0,
            boot,
            after_seconds: after,
            folder: Path::new("findings").join(fingerprint),
            reproduced: None,
            suspects: Vec::new(),
            raw: String::new(),
        });
        finding.count += 1;
        if finding.suspects.len() < KEPT {
            finding.suspects.push(program.to_owned());
            finding.raw.push_str(&format!("{what}\n"));
        }
        finding.count == 1
    }

    /// Writes a finding's folder.
    ///
    /// # Errors
    /// A full disk.
    pub fn write(&self, root: &Path, fingerprint: &str, console: &Path) -> Result<()> {
        let Some(finding) = self.found.get(fingerprint) else { return Ok(()) };
        let dir = root.join(&finding.folder);
        fs::create_dir_all(&dir).at_path("create", &dir)?;
        let put = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).at_path("write", &path)
        };
        put("splat.txt", &finding.raw)?;
        for (index, program) in finding.suspects.iter().enumerate() {
            let name =
                if index == 0 { "program.txt".into() } else { format!("suspect-{index}.txt") };
            put(&name, program)?;
        }
        let to = dir.join("console.log");
        fs::copy(console, &to).at_path("copy to", &to)?;
        write_json(&dir.join("finding.json"), finding)
    }
}

/// Fingerprint, title, where on the console, and text of all that a boot
/// reported. A guest that ended without a report is one of its own.
pub fn reports(session: &Session) -> Vec<(String, String, u64, String)> {
    let mut reports: Vec<_> = session
        .splats
        .iter()
        .map(|splat| (fingerprint(splat), splat.title.clone(), splat.start, splat.raw.clone()))
        .collect();
    if reports.is_empty() {
        let silent = match &session.end {
            End::Hung => Some(("hung-without-a-report", "the guest hung without a report")),
            End::Gone => Some(("gone-without-a-report", "the guest went away without a report")),
            End::Panicked(_) => Some(("panic-without-a-report", "the guest panicked")),
            End::Ran | End::LockdepOff | End::Reported | End::Flood | End::NoHello(_) => None,
        };
        if let Some((fingerprint, title)) = silent {
            reports.push((fingerprint.into(), title.into(), u64::MAX, title.into()));
        }
    }
    reports
}

/// The programs that were in flight when the console had come to a place.
fn suspects(session: &Session, at: u64) -> Vec<String> {
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
