// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzing in the formats that people read: the campaign, its corpus on every
//! kernel, and how much of what is patched it reached.

use super::Report;
use super::full::Table;
use crate::fuzz::rows::{CampaignRow, FuzzReport, ReplayRow};
use crate::judge::compare::words::{count, plain};

/// The longest piece of foreign text that is shown.
const MOST: usize = 300;

/// What the campaign was, in a sentence.
fn campaign(row: &CampaignRow) -> String {
    let CampaignRow { base, candidate, arch, profile, execs, seconds, .. } = row;
    if let Some(reason) = &row.reason {
        return format!("{base}/{candidate}/{arch}/{profile}: not fuzzed: {}", plain(reason, MOST));
    }
    let folders: Vec<String> =
        row.pcs_by_dir.iter().map(|(name, pcs)| format!("{name} {}", count(*pcs))).collect();
    let tried: Vec<String> = row
        .tried
        .iter()
        .map(|tried| {
            let (here, there) = (tried.candidate, tried.reference);
            format!(
                "{}: {} (again in {} of {} boots, on the reference in {} of {})",
                tried.reading,
                plain(&tried.title, MOST),
                here.boots,
                here.of,
                there.boots,
                there.of
            )
        })
        .collect();
    let reports = match row.reports.len() {
        _ if !tried.is_empty() => tried.join("; "),
        0 => "no report".to_owned(),
        _ => {
            let titles: Vec<String> = row.reports.values().map(|t| plain(t, MOST)).collect();
            format!("it reported {}", titles.join("; "))
        }
    };
    format!(
        "{base}/{candidate}/{arch}/{profile}: {} programs in {seconds:.0} s and {} boots, a BPF \
         program ran in {:.0}%; {} addresses ({}); {reports}",
        count(*execs),
        row.boots,
        100.0 * row.bpf_run_share,
        count(row.pcs),
        folders.join(", ")
    )
}

fn on(report: &Report, row: &ReplayRow) -> String {
    if report.run.bases.len() > 1 { format!("{} {}", row.base, row.arch) } else { row.arch.clone() }
}

const HEADS: [&str; 7] = ["candidate", "on", ">boots", ">programs", ">hit", ">ids", "outcome"];

fn cells(report: &Report, row: &ReplayRow) -> Vec<String> {
    let (reached, patched) = row.reached();
    let frames = row.frames;
    let compared =
        if row.boots > 0 { format!("{}/{}", row.compared, row.programs) } else { "-".into() };
    vec![
        row.candidate.clone(),
        on(report, row),
        row.boots.to_string(),
        compared,
        if row.boots > 0 { format!("{reached}/{patched}") } else { "-".into() },
        if frames.all > 0 { format!("{}/{}", frames.valid, frames.all) } else { "-".into() },
        row.words().to_owned(),
    ]
}

/// Patched files and functions with what the reference's kernel reached of them.
fn coverage(fuzz: &FuzzReport) -> Vec<String> {
    let row = fuzz.replays.iter().find(|row| row.role == crate::spec::Role::Reference);
    let Some(row) = row.filter(|row| row.boots > 0) else { return Vec::new() };
    let pairs = |map: &std::collections::BTreeMap<String, u64>| -> String {
        let pairs: Vec<String> = map.iter().map(|(name, pcs)| format!("{name} {pcs}")).collect();
        pairs.join(", ")
    };
    vec![
        format!("patched functions on {} ({}): {}", row.candidate, row.arch, pairs(&row.functions)),
        format!("files with them: {}", pairs(&row.files)),
    ]
}

const NOTE: &str = "Hit: patched functions that a program ran through, of those this kernel has; \
                    ids: frames with a build id in the lookups that both kernels answer the same \
                    each time. \"Not reached\" is not a pass. No verdict rests on fuzzing.";

/// The tables of the appendix.
pub(super) fn tables(report: &Report) -> Vec<Table> {
    let Some(fuzz) = &report.fuzz else { return Vec::new() };
    let campaigns: Vec<String> = fuzz.campaigns.iter().map(campaign).collect();
    let mut remarks: Vec<Vec<String>> = Vec::new();
    for row in &fuzz.replays {
        for remark in row.remarks() {
            let who = format!("{} on {}", row.candidate, on(report, row));
            remarks.push(vec![who, plain(&remark, 600)]);
        }
    }
    remarks.extend(coverage(fuzz).into_iter().map(|text| vec![text]));
    let evidence = |row: &ReplayRow| row.evidence.clone();
    vec![
        Table {
            title: "Fuzzing: one corpus on every kernel".into(),
            note: format!("{}. {NOTE}", campaigns.join("; ")),
            heads: HEADS.to_vec(),
            rows: fuzz.replays.iter().map(|row| cells(report, row)).collect(),
            evidence: fuzz.replays.iter().map(evidence).collect(),
        },
        Table { title: "Fuzzing: remarks".into(), rows: remarks, ..Table::default() },
    ]
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use crate::fuzz::across::{Change, Outcome};
    use crate::fuzz::rows::{Answer, CampaignRow, FuzzReport, Noise, Rate, ReplayRow, ReportRow};
    use crate::spec::Role;

    fn row(candidate: &str, role: Role, outcome: Outcome) -> ReplayRow {
        let functions = [("old_lookup", 4), ("answer_the_stack", 31)];
        ReplayRow {
            base: "6.12".into(),
            candidate: candidate.into(),
            arch: "x86_64".into(),
            profile: "kcov".into(),
            role,
            boots: 2,
            evidence: vec![format!("cells/6.12/{candidate}/x86_64/kcov/fuzz.json")],
            outcome,
            reason: None,
            programs: 150,
            compared: 149,
            ends: vec!["Ran".into(); 2],
            ended_by: Vec::new(),
            reports: Vec::new(),
            errnos: 0,
            errno_changes: Vec::new(),
            lookups: 0,
            frames: (77, 210).into(),
            reference_frames: (77, 210).into(),
            unstable: 0,
            not_compared: Vec::new(),
            functions: functions.map(|(name, pcs)| (name.to_owned(), pcs)).into(),
            files: BTreeMap::from([("kernel/bpf/syscall.c".to_owned(), 180)]),
        }
    }

    /// A campaign, and each outcome a replay can have.
    pub(in crate::judge::report) fn fuzzed() -> FuzzReport {
        let campaign = CampaignRow {
            base: "6.12".into(),
            candidate: "landed".into(),
            arch: "x86_64".into(),
            profile: "kcov".into(),
            boots: 1,
            evidence: vec!["fuzz/6.12/summary.json".into()],
            seconds: 60.2,
            execs: 24_317,
            execs_per_s: 404.0,
            calls_per_s: 8120.5,
            bpf_run_share: 0.31,
            pcs: 14_813,
            pcs_by_dir: BTreeMap::from([("kernel/bpf".into(), 2926), ("mm".into(), 3587)]),
            reports: BTreeMap::new(),
            tried: Vec::new(),
            reason: None,
        };
        let mut reported = row("as-reported", Role::Control, Outcome::Introduces);
        reported.reports.push(ReportRow {
            fingerprint: "b184b0acb237824e".into(),
            title: "WARNING in old_lookup".into(),
            change: Change::Introduced,
            candidate: Rate { boots: 2, of: 2, low: 0.158, high: 1.0 },
            reference: Rate { boots: 0, of: 2, low: 0.0, high: 0.842 },
        });
        let mut removal = row("peter-removal", Role::Contender, Outcome::AnswersDiffer);
        removal.frames = (0, 210).into();
        removal.lookups = 41;
        removal.errnos = 2;
        removal.errno_changes.push(Answer { program: 7, op: 3, reference: 17, candidate: 0 });
        removal.unstable = 1;
        removal.not_compared.push(Noise {
            program: 24,
            op: 11,
            answers: vec![0, 110],
            why: "it took longer than the executor waits".into(),
        });
        let mut naive = row("lockless-naive", Role::Contender, Outcome::NotReached);
        naive.functions.values_mut().for_each(|pcs| *pcs = 0);
        let mut missing = row("lockless-tree", Role::Contender, Outcome::NotReached);
        missing.boots = 0;
        missing.functions.clear();
        missing.frames = (0, 0).into();
        missing.reason = Some("no kernel: mm/mmap.c:12: error \u{1b}[2J: <b>`x`</b>".into());
        FuzzReport {
            campaigns: vec![campaign],
            replays: vec![
                row("landed", Role::Reference, Outcome::NothingDiffers),
                reported,
                removal,
                row("no-check-helper", Role::Contender, Outcome::NothingDiffers),
                naive,
                missing,
            ],
        }
    }
}
