// SPDX-License-Identifier: MIT OR Apache-2.0
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;
use crate::judge::compare::testing::{HARDIRQ, Story, clean, prediction, subject, with};
use crate::judge::compare::{Settings, compare};
use crate::keep::store::{BootEnd, KernelOutcome};
use crate::see::observation::Observation;
use crate::see::observe::Note;
use crate::spec::plan::Plan;
use crate::spec::{BaseSource, Candidate};

fn spec() -> Spec {
    let subject = subject();
    Spec {
        file: "patches/find-vma/bakeoff.yaml".into(),
        dir: "patches/find-vma".into(),
        name: "find-vma".into(),
        title: "Build ids in BPF stacks without a lockdep splat in find_vma()".into(),
        thread: Some(Thread {
            message_id: "20210908184342.r3bwp7v24a6tnslg@revolver".into(),
            subject: "Re: [PATCH mm/bpf v2] mm: bpf: add find_vma_no_check()".into(),
            question: Some(
                "Please describe the expected userspace-visible change from Peter's patch in \
                 full detail? (Andrew Morton)"
                    .into(),
            ),
            to: Vec::new(),
            cc: Vec::new(),
        }),
        bases: Vec::new(),
        candidates: subject
            .candidates
            .iter()
            .map(|c| Candidate {
                name: c.name.clone(),
                role: c.role,
                title: c.title.clone(),
                untested: c.untested.clone(),
                tested_by: c.tested_by.clone(),
                on: BTreeMap::new(),
                foreign: false,
            })
            .collect(),
        architectures: Vec::new(),
        profiles: Vec::new(),
        on_request: Vec::new(),
        probes: Vec::new(),
        gates: subject.gates,
        predictions: subject.predictions,
        known_splats: subject.known,
        fuzz: None,
    }
}

pub(crate) fn run_of(all: &[Observation]) -> RunJson {
    let names = ["x86_64", "arm64"].map(str::to_owned);
    let each = |text: &str| names.iter().map(|n| (n.clone(), text.to_owned())).collect();
    let base = BaseSource::Debian {
        package: "linux-source-6.12".into(),
        version: "6.12.117-1~deb12u1".into(),
        sha256: "e8".into(),
    };
    RunJson {
        store_version: 1,
        tool: "bakeoff 0.1.0".into(),
        bakeoff: "find-vma".into(),
        spec_sha256: "0123456789abcdef".into(),
        spec_path: "patches/find-vma".into(),
        added: vec![],
        against_itself: None,
        started: "2026-11-22T16:00:00Z".into(),
        bases: BTreeMap::from([("6.12".to_owned(), base)]),
        plan: Plan {
            seed: 42,
            cells: all.iter().map(|seen| seen.cell.clone()).collect(),
            steps: subject().steps,
            claim: None,
        },
        environment: Environment {
            accel: each("tcg"),
            accel_reason: each("/dev/kvm is missing"),
            qemu: each("QEMU emulator version 7.2.22"),
            compiler: each("gcc (Debian 12.2.0-14+deb12u1) 12.2.0"),
            cpus: 2,
            guest_cpus: 2,
            host_kernel: "6.1.0".into(),
        },
        fuzz: None,
    }
}

pub(crate) fn report_of(all: &[Observation]) -> Report {
    let comparison = compare(&subject(), all, &Settings::default());
    Report::new(&run_of(all), &spec(), comparison)
}

fn both_architectures() -> Report {
    report_of(&[prediction("x86_64"), prediction("arm64")].concat())
}

/// A run in which nearly everything went wrong, in a different way each.
fn misfortunes() -> Report {
    let mut interrupted = clean("lockless-tree", "arm64");
    interrupted.kernel = None;
    interrupted.boots.clear();
    let mut lost = with(
        clean("no-check-helper", "x86_64")
            .splats("BUG: sleeping function called from invalid context in mmap_lock", 2)
            .lockdep_off_after(22),
    );
    lost.retain(|seen| seen.id().candidate != "lockless-tree");
    lost.push(
        clean("lockless-tree", "x86_64")
            .dies(BootEnd::Panicked { line: "Fatal exception in interrupt".into() }, HARDIRQ)
            .splats("KASAN: slab-use-after-free Read in mas_walk", 1),
    );
    let mut arm = prediction("arm64");
    arm.truncate(2);
    arm.push(
        clean("no-check-helper", "arm64").builds(KernelOutcome::DidNotBuild {
            reason: "kernel/bpf/stackmap.c:170:9: error: implicit declaration of function \
                 'find_vma_no_check' [-Werror=implicit-function-declaration]"
                .into(),
        }),
    );
    arm.push(clean("peter-removal", "arm64").dies(BootEnd::Hung { silent_seconds: 60 }, HARDIRQ));
    arm.push(interrupted);
    report_of(&[lost, arm].concat())
}

/// One inversion swapped for another, one that is known, and lockdep looking away.
fn splat_stories() -> Report {
    let circle = |candidate: &str, last: &str| {
        clean(candidate, "x86_64").splats("possible deadlock in f", 1).last_splat(|splat| {
            splat.kind = "LOCKDEP".into();
            splat.fingerprint = format!("a-b-{last}");
            splat.signature =
                ["circular", "&a->lock in f", "b_mutex in g", last].map(String::from).to_vec();
            splat.notes = vec![Note::LockdepOff];
            splat.disables_lockdep = true;
        })
    };
    let known = clean("peter-removal", "x86_64")
        .splats("WARNING: kmalloc bug in lab_alloc", 2)
        .last_splat(|splat| splat.notes = vec![Note::NmiUse, Note::InNmi]);
    report_of(&[
        clean("landed", "x86_64"),
        circle("as-reported", "c_sem in h"),
        circle("no-check-helper", "d_sem in h"),
        known,
    ])
}

/// Everything that comes from elsewhere tries to break out.
fn hostile() -> Report {
    let title =
        format!("WARNING in \u{1b}[2Jfind_vma\n| x | `y` <script> @all {}", "z".repeat(400));
    let mut all = with(clean("no-check-helper", "x86_64").splats(&title, 3));
    for seen in &mut all {
        if seen.id().candidate == "peter-removal" {
            *seen = seen.clone().builds(KernelOutcome::DidNotApply {
                patch: "0001-\u{202e}gpj.patch".into(),
                reason: format!("hunk #1\r\n{}", "long ".repeat(200)),
            });
        }
    }
    let mut report = report_of(&all);
    report.run.title = "title\nVERDICT: all good".into();
    report.run.candidates[4].untested = Some("a\tb\u{0}c".into());
    report
}

/// More of everything: two bases, two profiles, long names, five nines.
fn matrix() -> Report {
    let mut all = Vec::new();
    for base in ["6.12", "7.2"] {
        for arch in ["x86_64", "arm64"] {
            for profile in ["lockdep", "production"] {
                for mut seen in prediction(arch) {
                    seen.cell.id.base = base.into();
                    seen.cell.id.profile = profile.into();
                    if seen.id().candidate == "lockless-tree" {
                        seen.cell.id.candidate = "v7-lockless-lookup-in-the-maple-tree".into();
                    }
                    for boot in &mut seen.boots {
                        if profile == "production" {
                            boot.splats.clear();
                            boot.hello.as_mut().unwrap().debug_locks = None;
                        }
                        for (n, block) in boot.blocks.iter_mut().enumerate() {
                            if profile == "production" {
                                block.debug_locks_before = None;
                                block.debug_locks_after = None;
                            }
                            for score in [&mut block.counts.top, &mut block.counts.all] {
                                score.valid *= 15;
                                score.correct *= 15;
                                score.correct -= u64::from(n == 3).min(score.correct);
                                score.valid = score.correct;
                            }
                            block.counts.calls *= 15;
                            block.counts.slot_busy = Some(u64::from(n == 3));
                        }
                    }
                    all.push(seen);
                }
            }
        }
    }
    let mut report = report_of(&all);
    report.run.bases.insert("7.2".into(), "git linux at v7.2".into());
    report.run.candidates.push(CandidateInfo {
        name: "v7-lockless-lookup-in-the-maple-tree".into(),
        role: crate::spec::Role::Contender,
        title: "lockless".into(),
        untested: None,
        tested_by: None,
    });
    report
}

/// Periods and duties varied, a claim, steps that stopped early, a cached kernel.
fn swept() -> Report {
    use bakeoff_fuzz::wire::{Stop, Stress};
    let mut subject = subject();
    subject.claim = Some(crate::spec::plan::Claim::new(99.9).unwrap());
    let like = subject.steps[1].clone();
    subject.steps.clear();
    let mut all: Vec<Observation> = ["landed", "as-reported", "peter-removal", "lockless-tree"]
        .map(|c| clean(c, "x86_64"))
        .into();
    let blocks: Vec<_> =
        all[0].boots[0].blocks.iter().filter(|b| b.step == HARDIRQ).cloned().collect();
    all.iter_mut().flat_map(|seen| &mut seen.boots).for_each(|boot| {
        boot.blocks.clear();
        boot.asked.clear();
        boot.begun.clear();
        boot.steps.clear();
    });
    let conditions = [(100, None), (500, None), (4000, None), (1000, Some(10)), (1000, Some(50))];
    for (id, (period, duty)) in (0u32..).zip(conditions) {
        let mut planned = like.clone();
        planned.step.id = id;
        planned.step.period_us = Some(period);
        planned.step.writer_duty = duty;
        planned.step.stop = Stop::Precise { half_width_ppm: 20_000 };
        if duty.is_some() {
            planned.step.stress = Stress::MmapWriters;
        }
        subject.steps.push(planned);
        for seen in &mut all {
            if let Some(kernel) = &mut seen.kernel {
                kernel.seconds.cached = Some(13.75);
                if let KernelOutcome::Built { from_cache, .. } = &mut kernel.outcome {
                    *from_cache = true;
                }
            }
            let of_candidate = match seen.id().candidate.as_str() {
                "peter-removal" => 0,
                "lockless-tree" => 200,
                _ => 200 - u64::from(2000 / period) - u64::from(duty.unwrap_or(0)),
            };
            for boot in &mut seen.boots {
                boot.asked.push(id);
                boot.begun.push(id);
                boot.steps.insert(id, bakeoff_fuzz::wire::StepOutcome::Done);
                boot.blocks.extend(blocks.iter().cloned().map(|mut block| {
                    block.step = id;
                    let right = of_candidate.saturating_sub(u64::from(block.block % 3));
                    block.counts.top.correct = right;
                    block.counts.top.valid = right;
                    block.counts.all = block.counts.top;
                    block.counts.writer = duty.map(|asked| bakeoff_fuzz::wire::WriterTime {
                        held_ns: u64::from(asked) * 9,
                        waited_ns: u64::from(asked) * 2,
                        window_ns: 1000,
                        cycles: 1,
                    });
                    block.counts.buckets = duty.map(|_| bakeoff_fuzz::wire::Buckets {
                        ids: 4,
                        fallback_ids: 2,
                        exists: 200 - right,
                        fast_calls: 200,
                        fast_stale: 7,
                    });
                    block
                }));
            }
        }
    }
    let comparison = compare(&subject, &all, &Settings::default());
    Report::new(&run_of(&all), &spec(), comparison)
}

/// A run that fuzzed as well.
fn fuzzed() -> Report {
    let all = [clean("landed", "x86_64"), clean("as-reported", "x86_64")];
    Report { fuzz: Some(super::fuzz::tests::fuzzed()), ..report_of(&all) }
}

fn text_of(report: &Report) -> String {
    format("text").unwrap().render(report).unwrap()
}

fn all_reports() -> Vec<(&'static str, Report)> {
    vec![
        ("predicted", both_architectures()),
        ("misfortunes", misfortunes()),
        ("hostile", hostile()),
        ("splats", splat_stories()),
        ("matrix", matrix()),
        ("swept", swept()),
        ("empty", report_of(&[])),
        ("fuzzed", fuzzed()),
    ]
}

/// The reports as people read them. `INSTA_UPDATE=always cargo test` regenerates.
#[test]
fn reports_read_like_this() {
    for (name, report) in all_reports() {
        insta::assert_snapshot!(format!("text-{name}"), text_of(&report));
    }
    for (name, report) in [
        ("predicted", both_architectures()),
        ("hostile", hostile()),
        ("splats", splat_stories()),
        ("fuzzed", fuzzed()),
    ] {
        let text = format("markdown").unwrap().render(&report).unwrap();
        insta::assert_snapshot!(format!("markdown-{name}"), text);
    }
}

/// What is mailed to a list is plain ASCII in at most 75 columns.
#[test]
fn text_fits_a_mail() {
    for (name, report) in all_reports() {
        for line in text_of(&report).lines() {
            assert!(line.len() <= WIDTH, "{name}: {} columns: {line}", line.len());
            assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)), "{name}: {line:?}");
            assert_eq!(line.trim_end(), line, "{name}: blanks at the end");
        }
    }
}

/// A hostile title makes no line, table row, tag or mention of its own.
#[test]
fn foreign_text_cannot_break_out() {
    let report = hostile();
    let text = text_of(&report);
    assert!(!text.lines().any(|line| line.starts_with("VERDICT: all good")), "{text}");
    let markdown = format("markdown").unwrap().render(&report).unwrap();
    assert!(!markdown.contains("\u{1b}") && !markdown.contains("<script>\n"), "{markdown}");
    for line in markdown.lines().filter(|line| line.starts_with("| ")) {
        let bars = line.replace("\\|", "").matches('|').count();
        assert!([5, 6, 7, 8, 9].contains(&bars), "{bars}: {line}");
    }
}

/// A hostile title is text in the page too: no tag, no link that leaves the run.
#[test]
fn pages_hold_no_foreign_markup() {
    let page = format("html").unwrap().render(&hostile()).unwrap();
    assert!(!page.contains("<script") && !page.contains('\u{1b}'), "{page}");
    for link in page.split("href=\"").skip(1) {
        let to = link.split('"').next().unwrap();
        assert!(
            ["cells/", "#", "report.json"].iter().any(|start| to.starts_with(start)),
            "a link to {to}"
        );
    }
}

/// The verdict stands first, and Andrew Morton's question has its answer.
#[test]
fn the_verdict_comes_first() {
    let text = text_of(&both_architectures());
    let verdict = text.find("VERDICT").unwrap();
    let answer = text.find("peter-removal: worse than landed on both architectures").unwrap();
    let table = text.find("AVAILABILITY").unwrap();
    assert!(verdict < answer && answer < table, "{text}");
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        flat.contains("falls in process/idle from 100% to 0% on both architectures (0/20,000); in"),
        "{flat}"
    );
    assert!(flat.contains("20,000/20,000 = 100% [99.98, 100]"), "{flat}");
}

/// The same report gives the same bytes, and JSON gives the same report.
#[test]
fn formats_are_deterministic_and_json_is_whole() {
    for (_, report) in all_reports() {
        for format in FORMATS {
            assert_eq!(format.render(&report).unwrap(), format.render(&report.clone()).unwrap());
        }
        let text = format("json").unwrap().render(&report).unwrap();
        assert!(serde_json::from_str::<Report>(&text).unwrap() == report, "not the same report");
    }
}

/// Every format renders every report, and has a snapshot or a schema.
#[test]
fn every_format_is_covered() {
    let names: BTreeSet<&str> = FORMATS.iter().map(|format| format.name).collect();
    assert_eq!(names, BTreeSet::from(["html", "json", "markdown", "text"]));
    for (_, report) in all_reports() {
        for format in FORMATS {
            assert!(format.render(&report).unwrap().ends_with('\n'), "{}", format.name);
        }
    }
}

/// Every report is what the schema says, and a damaged one is not.
#[test]
fn reports_fit_their_schema() {
    let schema = serde_json::to_value(schema()).unwrap();
    for (name, report) in all_reports() {
        let value = serde_json::to_value(&report).unwrap();
        fits(&value, &schema, &schema, "").unwrap_or_else(|why| panic!("{name}: {why}"));
    }
    let good = serde_json::to_value(both_architectures()).unwrap();
    for (path, bad) in [
        ("/rates/0/verdict", Value::from("perfect")),
        ("/rates/0/calls", Value::from("many")),
        ("/cells/0/end", Value::Null),
        ("/splats/0/place", Value::from(1)),
    ] {
        let mut damaged = good.clone();
        match damaged.pointer_mut(path) {
            Some(place) => *place = bad,
            None => drop(damaged["splats"][0].as_object_mut().unwrap().remove("base")),
        }
        assert!(fits(&damaged, &schema, &schema, "").is_err(), "{path}");
    }
}

/// The names that others build on.
#[test]
fn rows_have_the_documented_fields() {
    let value = serde_json::to_value(both_architectures()).unwrap();
    let everywhere = ["base", "candidate", "arch", "profile", "boots", "evidence"];
    let own: [(&str, &[&str]); 6] = [
        ("cells", &["end", "seconds"]),
        ("splats", &["kind", "title", "fingerprint", "count", "change"]),
        (
            "rates",
            &[
                "metric",
                "context",
                "stress",
                "period_us",
                "writer_duty",
                "calls",
                "ineligible",
                "missed",
                "errors",
                "slot_busy",
                "lock_failed",
                "valid",
                "correct",
                "low",
                "high",
                "verdict",
                "reason",
            ],
        ),
        ("findings", &["oracle", "effect", "text"]),
        ("verdicts", &["verdict", "reasons"]),
        ("gates", &["rule", "state", "reason"]),
    ];
    for (list, fields) in own {
        let row = value[list][0].as_object().unwrap();
        for field in everywhere.iter().chain(fields) {
            assert!(row.contains_key(*field), "{list} has no {field}");
        }
    }
    for key in ["schema_version", "tool", "run", "environment", "not_tested"] {
        assert!(value.get(key).is_some(), "{key}");
    }
}

/// As much of JSON Schema as our types make use of; a keyword it does not know
/// fails, so a new one cannot pass unseen.
fn fits(value: &Value, schema: &Value, root: &Value, at: &str) -> Result<(), String> {
    let Some(rules) = schema.as_object() else {
        return if schema == &Value::Bool(true) {
            Ok(())
        } else {
            Err(format!("{at}: not allowed"))
        };
    };
    let fail = |why: String| Err(format!("{at}: {why}"));
    for (keyword, rule) in rules {
        match keyword.as_str() {
            "$ref" => {
                let path = rule.as_str().unwrap().trim_start_matches('#');
                fits(value, root.pointer(path).unwrap(), root, at)?;
            }
            "type" => {
                let words: Vec<&str> = match rule {
                    Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
                    one => one.as_str().into_iter().collect(),
                };
                let is = |word: &str| match word {
                    "null" => value.is_null(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_u64() || value.is_i64(),
                    "number" => value.is_number(),
                    "string" => value.is_string(),
                    "array" => value.is_array(),
                    "object" => value.is_object(),
                    other => panic!("unknown type {other}"),
                };
                if !words.iter().any(|word| is(word)) {
                    return fail(format!("{value} is no {words:?}"));
                }
            }
            "properties" => {
                for (name, rule) in rule.as_object().unwrap() {
                    if let Some(inner) = value.get(name) {
                        fits(inner, rule, root, &format!("{at}/{name}"))?;
                    }
                }
            }
            "required" => {
                for name in rule.as_array().unwrap() {
                    if value.get(name.as_str().unwrap()).is_none() {
                        return fail(format!("{name} is missing"));
                    }
                }
            }
            "additionalProperties" => {
                let known = rules.get("properties").and_then(Value::as_object);
                for (name, inner) in value.as_object().into_iter().flatten() {
                    if known.is_none_or(|known| !known.contains_key(name)) {
                        fits(inner, rule, root, &format!("{at}/{name}"))?;
                    }
                }
            }
            "items" => {
                for (n, inner) in value.as_array().into_iter().flatten().enumerate() {
                    fits(inner, rule, root, &format!("{at}/{n}"))?;
                }
            }
            "enum" if !rule.as_array().unwrap().contains(value) => {
                return fail(format!("{value} is none of {rule}"));
            }
            "const" if rule != value => return fail(format!("{value} is not {rule}")),
            "oneOf" | "anyOf" => {
                let rules = rule.as_array().unwrap();
                let fitting = rules.iter().filter(|r| fits(value, r, root, at).is_ok()).count();
                if fitting == 0 || (keyword == "oneOf" && fitting > 1) {
                    return fail(format!("{value} fits {fitting} of {rule}"));
                }
            }
            "minimum" if value.as_f64().is_some_and(|v| v < rule.as_f64().unwrap()) => {
                return fail(format!("{value} is below {rule}"));
            }
            "enum" | "const" | "minimum" | "maximum" | "$schema" | "$defs" | "title"
            | "description" | "format" | "default" => {}
            other => panic!("the schema uses `{other}`, which this test does not know"),
        }
    }
    Ok(())
}
