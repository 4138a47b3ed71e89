// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;
use crate::base::data::DataDir;
use std::path::Path;

fn spec() -> Spec {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../patches/find-vma");
    Spec::load(&dir, &DataDir::embedded()).unwrap()
}

fn select(candidates: &[&str], probes: &[&str]) -> Selection {
    let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect();
    Selection { candidates: words(candidates), probes: words(probes), ..Selection::default() }
}

/// Candidates stand side by side within an architecture, so that a drift of the
/// machine favours none, and the reference is run twice.
#[test]
fn candidates_are_interleaved_and_the_reference_is_run_twice() {
    let plan = Plan::new(&spec(), &Selection::default(), 1).unwrap();
    let mut groups: Vec<(&str, &str)> =
        plan.cells.iter().map(|c| (c.id.profile.as_str(), c.id.arch.as_str())).collect();
    groups.dedup();
    assert_eq!(
        groups,
        [
            ("lockdep", "x86_64"),
            ("lockdep", "arm64"),
            ("production", "x86_64"),
            ("production", "arm64")
        ]
    );
    for cell in &plan.cells {
        assert_eq!(cell.rounds, if cell.role == Role::Reference { 2 } else { 1 });
    }
}

/// Selecting a contender keeps what it is compared with.
#[test]
fn reference_and_control_are_always_kept() {
    let plan = Plan::new(&spec(), &select(&["peter-removal"], &[]), 1).unwrap();
    let names: Vec<&str> = plan.cells.iter().take(3).map(|c| c.id.candidate.as_str()).collect();
    assert_eq!(names, ["landed", "as-reported", "peter-removal"]);
}

/// A kernel with a planted fault is there for the probe that has to find it,
/// and does nothing else.
#[test]
fn the_planted_fault_is_looked_for_only_where_it_can_be_found() {
    let has = |plan: &Plan| plan.cells.iter().any(|cell| cell.role == Role::Sensitivity);
    let all = Plan::new(&spec(), &Selection::default(), 1).unwrap();
    assert!(has(&all));
    let did: Vec<&str> = all
        .steps
        .iter()
        .filter(|p| p.is_for(Role::Sensitivity, "production"))
        .map(|p| p.step.probe.as_str())
        .collect();
    assert!(!did.is_empty() && did.iter().all(|probe| *probe == "flip"));
    let planted = all.cells.iter().find(|cell| cell.role == Role::Sensitivity).unwrap();
    let whole = all.steps_of(planted).map(|planned| planned.step.blocks);
    let here = all.steps_of_turn(planted, 0);
    assert!(here.iter().zip(whole).all(|(p, whole)| p.step.blocks == whole.div_ceil(4)));
    assert!(!has(&Plan::new(&spec(), &select(&[], &["build_id"]), 1).unwrap()));
    assert!(has(&Plan::new(&spec(), &select(&["lockless-tree"], &["flip"]), 1).unwrap()));
}

/// A step keeps its number when only some are selected, so that runs can be compared.
#[test]
fn steps_keep_their_numbers() {
    let plan = Plan::new(&spec(), &select(&[], &["flip/nmi"]), 1).unwrap();
    let all = Plan::new(&spec(), &Selection::default(), 1).unwrap();
    assert_eq!(plan.steps.len(), 1);
    assert!(all.steps.contains(&plan.steps[0]) && plan.steps[0].step.id > 0);
}

/// A misspelt word names the nearest one.
#[test]
fn misspelt_selections_get_a_suggestion() {
    for selection in [select(&["peter-remove"], &[]), select(&[], &["build_id/hardriq"])] {
        let error = Plan::new(&spec(), &selection, 1).unwrap_err();
        assert!(error.next_step().unwrap().contains("did you mean"), "{error:?}");
    }
}

/// Seeds differ between boots and cells, and follow from the root seed alone.
#[test]
fn seeds_are_reproducible_and_different() {
    let plan = Plan::new(&spec(), &Selection::default(), 1).unwrap();
    let (one, two) = (&plan.cells[0].id, &plan.cells[1].id);
    assert_eq!(boot_seed(1, one, "0-000"), boot_seed(1, one, "0-000"));
    assert_ne!(boot_seed(1, one, "0-000"), boot_seed(1, two, "0-000"));
    assert_ne!(boot_seed(1, one, "0-000"), boot_seed(1, one, "0-001"));
    assert_ne!(boot_seed(1, one, "0-000"), boot_seed(2, one, "0-000"));
}

fn probe(like: &Probe, change: impl Fn(&mut Probe)) -> Probe {
    let mut probe = like.clone();
    change(&mut probe);
    probe
}

/// `--quick` keeps what is marked; a spec without marks says so.
#[test]
fn quick_is_a_selection() {
    let mut spec = spec();
    spec.probes.iter_mut().for_each(|probe| probe.quick = false);
    let quick = Selection { quick: true, ..Selection::default() };
    let error = Plan::new(&spec, &quick, 1).unwrap_err();
    assert!(error.message().contains("quick: true"), "{error}");
    spec.probes[1].quick = true;
    let plan = Plan::new(&spec, &quick, 1).unwrap();
    assert_eq!(plan.steps.len(), 1);
    assert_eq!(plan.steps[0].step.id, 1);
}

/// Runs that were planned before steps had profiles are still read.
#[test]
fn older_plans_are_read() {
    let plan = Plan::new(&spec(), &Selection::default(), 1).unwrap();
    let planned = plan.steps[0].clone();
    let read = |value: serde_json::Value| serde_json::from_value::<Planned>(value);
    let bare = serde_json::to_value(&planned.step).unwrap();
    assert_eq!(read(bare).unwrap(), Planned::from(planned.step.clone()));
    let all = Planned { profiles: vec!["lockdep".into()], own_boot: true, boots: 2, ..planned };
    let mut value = serde_json::to_value(&all).unwrap();
    assert_eq!(read(value.clone()).unwrap(), all);
    value.as_object_mut().unwrap().remove("boots");
    assert_eq!(read(value).unwrap(), Planned { boots: 1, ..all });
    assert!(read(serde_json::json!({"step": 1})).is_err());
}

/// Every field that tells two steps apart stands in their names.
#[test]
fn labels_are_unambiguous() {
    let like = spec().probes[0].clone();
    let all = [
        like.clone(),
        probe(&like, |p| p.period_us = Some(100)),
        probe(&like, |p| p.stress = wire::Stress::MmapWriters),
        probe(&like, |p| p.writer_duty = Some(25)),
        probe(&like, |p| p.interface = Interface::GetStackid),
        probe(&like, |p| p.stack = Stack::Deep),
    ];
    let labels: std::collections::BTreeSet<String> = all.iter().map(Probe::label).collect();
    assert_eq!(labels.len(), all.len(), "{labels:?}");
    assert!(labels.contains("build_id/process/idle/get-stackid"), "{labels:?}");
    assert!(selects("build_id/process", "build_id/process/idle"));
    assert!(!selects("build_id/proc", "build_id/process/idle"));
}

/// A claim sizes the steps for its boots, on the production kernel if there is
/// one, and everybody has as many boots.
#[test]
fn a_claim_plans_its_calls() {
    let mut spec = spec();
    spec.profiles = vec!["lockdep".into(), PRODUCTION.into()];
    let claim = Selection { claim: Some(99.999), ..Selection::default() };
    let plan = Plan::new(&spec, &claim, 1).unwrap();
    let planned = plan.claim.unwrap();
    assert_eq!((planned.calls, planned.boots), (299_572, 3));
    assert!(plan.cells.iter().all(|c| c.rounds == 3 && c.id.profile == PRODUCTION));
    for Planned { step, .. } in &plan.steps {
        let room = u64::from(step.blocks) * u64::from(step.calls_per_block) * 3;
        assert!((299_572..400_000).contains(&room), "{room}");
        let Stop::Claim { at_least_ppb, calls } = step.stop else { panic!("{step:?}") };
        assert!(at_least_ppb == 999_990_000 && calls * 3 >= 299_572);
    }
    for wrong in [100.0, 0.99, -1.0, f64::NAN, 99.999_999_9] {
        assert!(Claim::new(wrong).is_err(), "{wrong}");
    }
}

/// Blocks are spread over boots, the sums stay, and a step that needs one boot is
/// not in the others.
#[test]
fn blocks_are_spread_over_boots() {
    let mut spec = spec();
    spec.probes.truncate(2);
    spec.probes[0].blocks = 5;
    spec.probes[0].boots = 2;
    spec.probes[1].boots = 1;
    let plan = Plan::new(&spec, &Selection::default(), 1).unwrap();
    assert_eq!((plan.steps[0].step.blocks, plan.steps[0].boots), (3, 2));
    let cell = plan.cells.iter().find(|cell| cell.role == Role::Reference).unwrap();
    assert_eq!((cell.rounds, cell.boots, cell.turns(1)), (2, 2, 2..4));
    let steps: Vec<usize> = (0..4).map(|turn| plan.steps_of_turn(cell, turn).len()).collect();
    assert_eq!(steps, [2, 1, 2, 1]);
    assert_eq!((0..4).map(|turn| cell.round_of(turn)).collect::<Vec<_>>(), [0, 0, 1, 1]);
}

/// A step is done in the profiles it names; where none of them is selected, not
/// at all.
#[test]
fn steps_are_done_in_their_profiles() {
    let mut spec = spec();
    spec.profiles = vec!["lockdep".into(), PRODUCTION.into()];
    spec.probes.iter_mut().for_each(|probe| probe.profiles.clear());
    spec.probes[0].profiles = vec![PRODUCTION.into()];
    let count = |plan: &Plan, profile: &str| {
        plan.steps.iter().filter(|p| p.is_for(Role::Contender, profile)).count()
    };
    let plan = Plan::new(&spec, &Selection::default(), 1).unwrap();
    let all = spec.probes.len();
    assert_eq!((count(&plan, PRODUCTION), count(&plan, "lockdep")), (all, all - 1));
    let lockdep = Selection { profiles: vec!["lockdep".into()], ..Selection::default() };
    assert_eq!(Plan::new(&spec, &lockdep, 1).unwrap().steps.len(), all - 1);
}

/// A profile on request is done when it is asked for, and with nothing else's steps.
#[test]
fn some_profiles_wait_to_be_asked_for() {
    let spec = spec();
    let btf = Selection { profiles: vec!["btf".into()], ..Selection::default() };
    let plan = Plan::new(&spec, &btf, 1).unwrap();
    assert!(plan.cells.iter().all(|cell| cell.id.profile == "btf"));
    let labels: Vec<String> = plan.steps.iter().map(|planned| label(&planned.step)).collect();
    assert!(labels.iter().any(|label| label.ends_with("get-task-stack")), "{labels:?}");
    let plan = Plan::new(&spec, &Selection::default(), 1).unwrap();
    assert!(plan.cells.iter().all(|cell| cell.id.profile != "btf"));
}

/// Copies of the reference are contenders with the reference's own patches.
#[test]
fn the_reference_can_compete_with_itself() {
    let mut spec = spec();
    spec.against_itself(3);
    let plan = Plan::new(&spec, &Selection::default(), 1).unwrap();
    let names: Vec<&str> = plan.cells.iter().take(4).map(|c| c.id.candidate.as_str()).collect();
    assert_eq!(names, ["landed", "landed-again-1", "landed-again-2", "landed-again-3"]);
    assert!(plan.cells.iter().all(|cell| cell.patches.is_empty()));
}
