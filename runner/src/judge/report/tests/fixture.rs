// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports made by hand. [`dispute`] has the figures of a whole run, rounded.

use std::collections::BTreeMap;

use crate::judge::report::{CandidateInfo, ClaimInfo, Report, SCHEMA_VERSION};
use crate::judge::row::{
    AxisValue, CellEnd, CellRow, CellSeconds, ClaimReading, ClaimRow, ControlSplat, Direction,
    GateState, KOfN, Load, MeasureRow, NotTested, Place, PredictionRow, SplatReading, SplatRow,
    ToDecide, ValueKind, Verdict, VerdictRow, VisitRow, WrongReading, WrongRow,
};
use crate::keep::store::Environment;
use crate::spec::{Role, Thread};

/// A claim to be.
#[derive(Clone)]
pub(crate) struct Claim {
    name: String,
    question: String,
    margin: f64,
    kind: ValueKind,
    unit: String,
    value: f64,
    conditions: Vec<String>,
}

impl Claim {
    /// Of a share, with its margin in points.
    pub(crate) fn new(name: &str, margin: f64) -> Claim {
        Claim {
            name: name.into(),
            question: format!("Does {name} work as often?"),
            margin: margin / 100.0,
            kind: ValueKind::Share,
            unit: String::new(),
            value: 0.98,
            conditions: vec![format!("system call, {name}")],
        }
    }

    /// Of a number, of which less is better.
    pub(crate) fn number(self, unit: &str, value: f64) -> Claim {
        Claim { kind: ValueKind::Value, unit: unit.into(), value, ..self }
    }

    fn asks(self, question: &str, conditions: &[&str]) -> Claim {
        let conditions = conditions.iter().map(|c| (*c).to_owned()).collect();
        Claim { question: question.into(), conditions, ..self }
    }
}

/// A run to be.
pub(crate) struct Run {
    name: String,
    archs: Vec<String>,
    claims: Vec<Claim>,
    candidates: Vec<(String, Role)>,
}

impl Run {
    pub(crate) fn new(name: &str, archs: &[&str]) -> Run {
        Run {
            name: name.into(),
            archs: archs.iter().map(|arch| (*arch).to_owned()).collect(),
            claims: Vec::new(),
            candidates: vec![("landed".into(), Role::Reference)],
        }
    }

    pub(crate) fn claim(mut self, claim: Claim) -> Run {
        self.claims.push(claim);
        self
    }

    pub(crate) fn contender(self, name: &str) -> Run {
        self.candidate(name, Role::Contender)
    }

    fn candidate(mut self, name: &str, role: Role) -> Run {
        self.candidates.push((name.into(), role));
        self
    }

    /// All of it done, nobody differs, nothing open.
    pub(crate) fn build(self) -> Report {
        let Run { name, archs, claims, candidates } = self;
        let each = |text: &str| archs.iter().map(|a| (a.clone(), text.to_owned())).collect();
        let mut report = Report {
            schema_version: SCHEMA_VERSION,
            tool: "bakeoff 0.1.0".into(),
            run: crate::judge::report::Run {
                bakeoff: name,
                title: "one line on what is disputed".into(),
                thread: None,
                started: "2026-11-26T16:00:00Z".into(),
                interim: None,
                spec_sha256: "0123456789abcdef".into(),
                seed: 1,
                bases: BTreeMap::from([("6.12".into(), "Linux 6.12.117".into())]),
                candidates: candidates
                    .iter()
                    .map(|(name, role)| CandidateInfo {
                        name: name.clone(),
                        role: *role,
                        title: format!("what {name} does"),
                        touches: Vec::new(),
                        lines: [0, 0],
                        series: None,
                    })
                    .collect(),
                architectures: archs.clone(),
                profiles: vec!["lockdep".into(), "production".into()],
                claims: claims
                    .iter()
                    .map(|claim| ClaimInfo {
                        name: claim.name.clone(),
                        question: claim.question.clone(),
                        means: "calls that go right".into(),
                        margin: match claim.kind {
                            ValueKind::Share => format!("{} points", 100.0 * claim.margin),
                            ValueKind::Value => format!("{} %", 100.0 * claim.margin),
                        },
                        by_default: false,
                    })
                    .collect(),
                confidence: 0.95,
                budget_minutes: Some(20.0),
                boot_minutes: 18.6,
                visits: 12_480,
            },
            environment: Environment {
                accel: each("tcg"),
                accel_reason: each("/dev/kvm is missing"),
                qemu: each("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)"),
                compiler: each("gcc (Debian 12.2.0-14+deb12u1) 12.2.0"),
                cpus: 2,
                guest_cpus: 2,
                host_kernel: "6.1.0".into(),
            },
            verdicts: Vec::new(),
            claims: Vec::new(),
            measures: Vec::new(),
            visits: Vec::new(),
            wrong: Vec::new(),
            splats: Vec::new(),
            blind: Vec::new(),
            cells: Vec::new(),
            gates: Vec::new(),
            predictions: Vec::new(),
            not_tested: Vec::new(),
            fuzz: None,
        };
        for arch in &archs {
            for (name, role) in &candidates {
                for profile in ["lockdep", "production"] {
                    report.cells.push(cell(&place(name, arch, profile), *role));
                }
                for claim in claims.iter().filter(|_| *role != Role::Control) {
                    report.claims.push(claim_row(claim, name, arch, *role));
                    measures(&mut report, claim, name, arch);
                }
                report.verdicts.push(VerdictRow {
                    place: place(name, arch, "lockdep+production"),
                    role: *role,
                    verdict: Verdict::Ok,
                    declared: false,
                    because: Vec::new(),
                    control_splat: None,
                });
            }
        }
        conclude(&mut report);
        report
    }
}

pub(crate) fn place(candidate: &str, arch: &str, profile: &str) -> Place {
    Place {
        base: "6.12".into(),
        candidate: candidate.into(),
        arch: arch.into(),
        profile: profile.into(),
        evidence: vec![format!("cells/6.12/{candidate}/{arch}/lockdep/boot-1/console.log")],
    }
}

fn cell(place: &Place, role: Role) -> CellRow {
    CellRow {
        place: place.clone(),
        role,
        end: CellEnd::Ran,
        note: None,
        boots: 8,
        seconds: CellSeconds {
            copy: None,
            make: None,
            cached: Some(212.4),
            hello: Some(6.1),
            boots: 171.0,
        },
        objects: None,
    }
}

fn claim_row(claim: &Claim, candidate: &str, arch: &str, role: Role) -> ClaimRow {
    let reference = role == Role::Reference;
    let same = match claim.kind {
        ValueKind::Share => [0.0, -0.001, 0.001],
        ValueKind::Value => [1.0, 0.99, 1.01],
    };
    let [estimate, low, high] = same.map(|number| (!reference).then_some(number));
    ClaimRow {
        place: place(candidate, arch, "production"),
        claim: claim.name.clone(),
        question: claim.question.clone(),
        metric: "right".into(),
        means: "calls that go right".into(),
        unit: claim.unit.clone(),
        kind: claim.kind,
        better: match claim.kind {
            ValueKind::Share => Direction::Higher,
            ValueKind::Value => Direction::Lower,
        },
        margin: claim.margin,
        conditions: claim.conditions.clone(),
        value: Some(claim.value),
        reference: Some(claim.value),
        estimate,
        low,
        high,
        reading: ClaimReading::NoWorse,
        visits: 24,
        calls: 12_000,
        load: None,
        missing: None,
        to_decide: None,
        reason: String::new(),
    }
}

/// Measures and visits of a claim's conditions: as many as a chart needs.
fn measures(report: &mut Report, claim: &Claim, candidate: &str, arch: &str) {
    for (step, words) in (1..).zip(&claim.conditions) {
        let number = |after: &str| -> Option<f64> {
            let rest = words.split(after).nth(1)?;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        };
        let busy = number("writer ");
        let mut axes = Vec::new();
        if let Some(period) = number("every ") {
            axes.push(AxisValue {
                name: "period".into(),
                unit: "us".into(),
                value: period,
                measured: None,
                rest: words.split(" every").next().unwrap_or_default().into(),
            });
        }
        if let Some(busy) = busy {
            axes.push(AxisValue {
                name: "writer".into(),
                unit: "%".into(),
                value: busy,
                measured: Some(busy + 2.0),
                rest: "system call, writer".into(),
            });
        }
        let label = format!("probe/{}/{step}", claim.name);
        let causes = BTreeMap::from([("the lock was taken".to_owned(), 31), ("no slot".into(), 7)]);
        report.measures.push(MeasureRow {
            place: place(candidate, arch, "production"),
            step,
            probe: "probe".into(),
            label: label.clone(),
            condition: words.clone(),
            axes,
            metric: "right".into(),
            means: "calls that go right".into(),
            unit: claim.unit.clone(),
            kind: claim.kind,
            better: Direction::Higher,
            calls: 2_400,
            right: (claim.kind == ValueKind::Share).then_some(2_362),
            estimate: Some(claim.value),
            low: Some(short(claim.value - 0.01)),
            high: Some(short((claim.value + 0.01).min(1.0_f64.max(claim.value)))),
            visits: 24,
            boots: 8,
            excluded: BTreeMap::new(),
            causes,
            reason: String::new(),
        });
        for order in 0..12_u32 {
            let wave = f64::from(order % 5) / 100.0;
            report.visits.push(VisitRow {
                base: "6.12".into(),
                candidate: candidate.into(),
                arch: arch.into(),
                profile: "production".into(),
                metric: "right".into(),
                label: label.clone(),
                boot: format!("boot-{}", order / 3 + 1),
                order: order * 7 + step,
                value: short(claim.value - wave * claim.value / 2.0),
                calls: 100,
                load: busy.map(|busy| short((busy / 100.0 + wave).min(1.0))),
            });
        }
    }
}

/// Gives a claim an estimate, with an interval of that half width, and reads it.
pub(crate) fn reads(
    report: &mut Report,
    candidate: &str,
    arch: &str,
    claim: &str,
    estimate: f64,
    half: f64,
) {
    let mut rows = report.claims.iter_mut();
    let row = rows
        .find(|r| r.place.candidate == candidate && r.place.arch == arch && r.claim == claim)
        .unwrap();
    let (low, high) = (short(estimate - half), short(estimate + half));
    row.estimate = Some(estimate);
    (row.low, row.high) = (Some(low), Some(high));
    let before = row.reference.unwrap_or_default();
    row.value = Some(short((before + estimate).clamp(0.0, 1.0)));
    row.reading = match () {
        () if low > 0.0 => ClaimReading::Gains,
        () if high < 0.0 && low > -row.margin => ClaimReading::LosesLittle,
        () if high < 0.0 => ClaimReading::Loses,
        () if low > -row.margin => ClaimReading::NoWorse,
        () => ClaimReading::Open,
    };
    if row.reading == ClaimReading::Open {
        row.to_decide = Some(ToDecide { visits: 24, minutes: 1.6, on_the_margin: false });
        row.reason = "the interval reaches over the margin".into();
    }
    let labels: Vec<(String, f64)> =
        row.conditions.iter().map(|c| (c.clone(), row.value.unwrap_or_default())).collect();
    let mut changed = Vec::new();
    for (condition, value) in labels {
        for measure in report.measures.iter_mut().filter(|m| {
            m.place.candidate == candidate && m.place.arch == arch && m.condition == condition
        }) {
            measure.estimate = Some(value);
            measure.right = Some((value * 2_400.0).round() as u64);
            measure.low = Some(short((value - 0.01).max(0.0)));
            measure.high = Some(short((value + 0.01).min(1.0)));
            changed.push((measure.label.clone(), value));
        }
    }
    for visit in report.visits.iter_mut().filter(|v| v.candidate == candidate && v.arch == arch) {
        if let Some((_, value)) = changed.iter().find(|(label, _)| *label == visit.label) {
            visit.value = short((value - f64::from(visit.order % 5) / 200.0).clamp(0.0, 1.0));
        }
    }
    conclude(report);
}

/// As many places as rows have.
fn short(number: f64) -> f64 {
    (number * 1e9).round() / 1e9
}

/// Kernels of a candidate ended so.
pub(crate) fn ends(report: &mut Report, candidate: &str, end: CellEnd) {
    for cell in report.cells.iter_mut().filter(|cell| cell.place.candidate == candidate) {
        cell.end = end;
        cell.note = Some("mm/mmap.c:12: error: what is this".into());
    }
    if !matches!(end, CellEnd::Panicked | CellEnd::Hung) {
        report.claims.retain(|row| row.place.candidate != candidate);
    }
    for row in report.verdicts.iter_mut().filter(|row| row.place.candidate == candidate) {
        row.declared = end == CellEnd::NotPortable;
    }
    conclude(report);
}

/// As if nothing had been measured.
pub(crate) fn forget(report: &mut Report) {
    report.claims.clear();
    report.measures.clear();
    report.visits.clear();
    report.wrong.clear();
    report.splats.clear();
    report.predictions.clear();
    for row in &mut report.verdicts {
        row.verdict = Verdict::Open;
        row.control_splat = None;
    }
}

/// Verdicts anew.
pub(crate) fn conclude(report: &mut Report) {
    for row in &mut report.verdicts {
        let ends = || report.cells.iter().filter(|cell| cell.place.same_target(&row.place));
        let claims = || report.claims.iter().filter(|claim| claim.place.same_target(&row.place));
        let died = ends().any(|cell| {
            !matches!(
                cell.end,
                CellEnd::Ran | CellEnd::NotPortable | CellEnd::Error | CellEnd::Waiting
            )
        });
        let new = report.splats.iter().any(|splat| {
            splat.place.same_target(&row.place) && splat.reading == SplatReading::Introduced
        });
        let wrong = report.wrong.iter().any(|wrong| {
            wrong.place.same_target(&row.place) && wrong.reading == WrongReading::Wrong
        });
        let lost = claims().any(|claim| claim.reading == ClaimReading::Loses);
        let open = claims().any(|claim| claim.reading == ClaimReading::Open);
        row.verdict = if died || new || wrong || lost {
            Verdict::NotOk
        } else if open || ends().any(|cell| cell.end != CellEnd::Ran) {
            Verdict::Open
        } else {
            Verdict::Ok
        };
        row.because = claims()
            .map(|c| format!("{}: {}", c.claim, crate::base::words::word(c.reading)))
            .collect();
    }
}

const EVERY: [&str; 3] =
    ["system call, on an event", "timer interrupt every 1000 us", "timer interrupt every 10000 us"];
const FAST: [&str; 2] = ["timer interrupt every 100 us", "timer interrupt every 500 us"];
const WRITERS: [&str; 3] = [
    "system call, writer 10% busy",
    "system call, writer 25% busy",
    "system call, writer 50% busy",
];

/// Five candidates, two architectures, three claims.
pub(crate) fn dispute() -> Report {
    let mut report =
        Run::new("find-vma", &["x86_64", "arm64"])
            .claim(Claim::new("quiet", 0.5).asks(
                "Do users who sample on events or every 1 ms or slower keep their right ids?",
                &EVERY,
            ))
            .claim(
                Claim::new("fast", 2.0)
                    .asks("Do users who sample every 100 to 500 us keep their right ids?", &FAST),
            )
            .claim(Claim::new("writers", 5.0).asks(
                "Do users keep their right ids while another thread maps and unmaps?",
                &WRITERS,
            ))
            .candidate("as-reported", Role::Control)
            .contender("no-check-helper")
            .contender("peter-removal")
            .contender("lockless-tree")
            .contender("lockless-spec-mm")
            .candidate("lockless-naive", Role::NegativeControl)
            .build();
    report.run.title = "build ids in BPF stacks without the lockdep splat in old_lookup()".into();
    report.run.thread = Some(Thread {
        message_id: "20210908184342.r3bwp7v24a6tnslg@revolver".into(),
        subject: "Re: [PATCH mm/bpf v2] mm: bpf: add old_lookup_no_check()".into(),
        question: Some(
            "\"Please describe the expected userspace-visible change from Peter's patch in full \
             detail\" (Andrew Morton, 8 Sep 2021)"
                .into(),
        ),
        to: Vec::new(),
        cc: Vec::new(),
    });
    let own = [("x86_64", [0.9998, 0.976, 0.67]), ("arm64", [1.0, 0.994, 0.829])];
    for (arch, values) in own {
        for (claim, value) in ["quiet", "fast", "writers"].iter().zip(values) {
            let named = report.claims.iter_mut();
            for row in named.filter(|r| r.place.arch == arch && r.claim == *claim) {
                (row.value, row.reference) = (Some(value), Some(value));
                if *claim == "writers" {
                    row.load = Some(Load { candidate: 0.51, reference: 0.57 });
                }
            }
            let about = |m: &MeasureRow| m.place.arch == arch && m.label.contains(*claim);
            for measure in report.measures.iter_mut().filter(|m| about(m)) {
                measure.estimate = Some(value);
                measure.low = Some(short(value - 0.01));
                measure.high = Some(short(f64::min(value + 0.01, 1.0)));
            }
            let about = |v: &VisitRow| v.arch == arch && v.label.contains(*claim);
            for visit in report.visits.iter_mut().filter(|v| about(v)) {
                let wave = f64::from(visit.order % 7) / 150.0;
                visit.value = short((value - wave * visit.load.unwrap_or(0.05)).clamp(0.0, 1.0));
            }
        }
    }
    for (candidate, arch, all) in [
        ("no-check-helper", "x86_64", [(0.0, 0.001), (0.0, 0.004), (0.044, 0.06)]),
        ("no-check-helper", "arm64", [(0.0, 0.001), (-0.001, 0.003), (-0.0285, 0.0505)]),
        ("peter-removal", "x86_64", [(-0.9998, 0.0001), (-0.976, 0.002), (-0.67, 0.03)]),
        ("peter-removal", "arm64", [(-1.0, 0.0), (-0.994, 0.002), (-0.829, 0.02)]),
        ("lockless-tree", "x86_64", [(0.0, 0.001), (0.024, 0.004), (0.33, 0.04)]),
        ("lockless-tree", "arm64", [(0.0, 0.001), (0.006, 0.002), (0.171, 0.035)]),
        ("lockless-spec-mm", "x86_64", [(0.0, 0.001), (0.024, 0.004), (-0.076, 0.04)]),
        ("lockless-spec-mm", "arm64", [(0.0, 0.001), (0.006, 0.002), (-0.0345, 0.0515)]),
    ] {
        for (claim, (estimate, half)) in ["quiet", "fast", "writers"].iter().zip(all) {
            reads(&mut report, candidate, arch, claim, estimate, half);
        }
    }
    for (name, touches, lines) in [
        ("no-check-helper", vec!["include/linux/mm.h", "kernel/bpf/syscall.c"], [21, 9]),
        ("peter-removal", vec!["kernel/bpf/syscall.c"], [4, 31]),
        (
            "lockless-tree",
            vec!["include/linux/mm.h", "fs/file_table.c", "lib/buildid.c", "kernel/bpf/syscall.c"],
            [202, 17],
        ),
        ("lockless-spec-mm", vec!["fs/file_table.c", "lib/buildid.c"], [231, 20]),
    ] {
        let info = report.run.candidates.iter_mut().find(|c| c.name == name).unwrap();
        info.touches = touches.into_iter().map(str::to_owned).collect();
        info.lines = lines;
    }
    evidence_of(&mut report);
    for row in report.verdicts.iter_mut().filter(|row| row.role == Role::Contender) {
        row.control_splat = Some(ControlSplat::Gone);
    }
    conclude(&mut report);
    report
}

/// Splats, wrong answers, predictions and gaps.
fn evidence_of(report: &mut Report) {
    for (arch, count, wrong) in [("x86_64", 3_536, 195), ("arm64", 3_582, 586)] {
        report.splats.push(splat("as-reported", arch, SplatReading::Control, [8, 8], count));
        for name in ["no-check-helper", "peter-removal", "lockless-tree", "lockless-spec-mm"] {
            let mut row = splat(name, arch, SplatReading::Fixed, [0, 8], 0);
            row.reason = "not seen in 10,300 calls in 8 boots".into();
            report.splats.push(row);
        }
        let shown = [("lockless-tree", 79.4), ("lockless-spec-mm", 48.2), ("landed", 60.0)];
        let shown = shown.map(|(name, expected)| (name, 184_768, 0, Some(expected)));
        let all = shown.into_iter().chain([("lockless-naive", 800_000, wrong, None)]);
        for (name, answers, wrong, expected) in all {
            let mut row = wrong_row(name, arch, "system call", answers, wrong);
            row.expected = expected.map(|e| short(if arch == "arm64" { e * 3.0 } else { e }));
            report.wrong.push(row);
        }
        for condition in ["timer interrupt", "NMI"] {
            let mut row = wrong_row("lockless-tree", arch, condition, 40_000, 0);
            (row.reading, row.expected) = (WrongReading::NotShown, Some(0.4));
            report.wrong.push(row);
        }
    }
    let mut once = splat("lockless-tree", "arm64", SplatReading::SeenOnce, [1, 8], 1);
    once.title = "WARNING in free_pgtables".into();
    once.fingerprint = "77aa".into();
    (once.reference, once.p) = (KOfN { k: 0, n: 8 }, Some(0.5));
    report.splats.push(once);
    let mut noise = splat("peter-removal", "x86_64", SplatReading::Present, [2, 8], 2);
    noise.title = "INFO: rcu_preempt detected stalls".into();
    report.splats.push(noise);
    for (says, state) in [
        ("peter-removal loses every id.", GateState::Passed),
        ("lockless-spec-mm gains next to writers.", GateState::Failed),
    ] {
        report.predictions.push(PredictionRow {
            place: place("", "x86_64", ""),
            says: says.into(),
            amended: None,
            state,
            reason: "as the claims read".into(),
        });
    }
    for (what, reason) in [
        ("what it costs", "no probe of this bake-off tests it"),
        ("ordering on real arm64", "no probe of this bake-off tests it"),
        ("PREEMPT_RT", "no profile has it"),
    ] {
        report.not_tested.push(NotTested {
            what: what.into(),
            reason: reason.into(),
            base: None,
            candidate: None,
            arch: None,
            profile: None,
        });
    }
}

pub(crate) fn splat(
    candidate: &str,
    arch: &str,
    reading: SplatReading,
    [k, n]: [u64; 2],
    count: u64,
) -> SplatRow {
    SplatRow {
        place: place(candidate, arch, "lockdep"),
        kind: "warning".into(),
        title: "WARNING in old_lookup".into(),
        fingerprint: "b184b0acb237824e".into(),
        reading,
        seen: KOfN { k, n },
        reference: KOfN { k: 0, n: 8 },
        p: None,
        count,
        first_offset: (count > 0).then_some(40_312),
        disables_lockdep: false,
        reason: String::new(),
        signature: vec!["old_lookup".into(), "answer_the_stack".into()],
    }
}

pub(crate) fn wrong_row(
    candidate: &str,
    arch: &str,
    condition: &str,
    answers: u64,
    wrong: u64,
) -> WrongRow {
    WrongRow {
        place: place(candidate, arch, "production"),
        metric: "flip".into(),
        means: "ids of another file".into(),
        label: format!("flip/{condition}"),
        condition: format!("{condition}, files remapped"),
        answers,
        wrong,
        seen: KOfN { k: if wrong > 0 { 8 } else { 0 }, n: 8 },
        reference: KOfN { k: 0, n: 8 },
        p: None,
        expected: None,
        causes: BTreeMap::new(),
        reason: String::new(),
        reading: if wrong > 0 { WrongReading::Wrong } else { WrongReading::None },
    }
}

/// Escapes, markup, names without end, in every place that holds foreign text.
pub(crate) fn hostile() -> Report {
    let evil = "<script>alert(1)</script> \u{1b}[31m ![x](http://x/) `c` | *b* \u{202e}é\n# h";
    let long = "candidate-with-a-name-that-goes-on-and-on-and-on-and-on-and-on-and-on-and-on";
    let mut report = Run::new("evil", &["x86_64", "arm64"])
        .claim(Claim::new("<b>claim</b>|x", 2.0).asks(evil, &[evil]))
        .claim(Claim::new("a-claim-with-a-name-that-goes-on-and-on", 2.0))
        .contender("<script>")
        .contender(long)
        .candidate("as-reported", Role::Control)
        .candidate("`naive`", Role::NegativeControl)
        .build();
    report.run.title = format!("{evil} {}", "x".repeat(300));
    report.run.thread = Some(Thread {
        message_id: "a@b".into(),
        subject: evil.into(),
        question: None,
        to: Vec::new(),
        cc: Vec::new(),
    });
    report.run.bases.insert("6.12".into(), evil.into());
    let mut new = splat(long, "x86_64", SplatReading::Introduced, [4, 8], 9);
    (new.title, new.reason, new.p) = (evil.into(), evil.into(), Some(0.038));
    report.splats.push(new);
    let mut unclear = splat("<script>", "arm64", SplatReading::Unclear, [0, 0], 0);
    unclear.reason = evil.into();
    report.splats.push(unclear);
    let mut wrong = wrong_row("<script>", "arm64", evil, 1_000, 3);
    wrong.causes.insert(evil.into(), 3);
    report.wrong.push(wrong);
    report.not_tested.push(NotTested {
        what: evil.into(),
        reason: evil.into(),
        base: None,
        candidate: Some("<script>".into()),
        arch: None,
        profile: None,
    });
    report.fuzz = Some(crate::judge::report::fuzz::tests::fuzzed());
    conclude(&mut report);
    report
}
