// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;
use crate::base::data::DataDir;
use crate::words;
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
/// machine favours none, and all profiles of one architecture come before the next one.
#[test]
fn candidates_are_interleaved_and_architectures_are_not() {
    let plan = Plan::new(&spec(), &Selection::default(), 1).unwrap();
    let mut groups: Vec<(&str, &str)> =
        plan.cells.iter().map(|c| (c.id.arch.as_str(), c.id.profile.as_str())).collect();
    groups.dedup();
    assert_eq!(
        groups,
        [
            ("x86_64", "lockdep"),
            ("x86_64", "production"),
            ("arm64", "lockdep"),
            ("arm64", "production")
        ]
    );
    let sizes: Vec<usize> = plan.groups().iter().map(Vec::len).collect();
    assert_eq!(sizes, [spec().candidates.len(); 4]);
}

/// Selecting a contender keeps what it is compared with.
#[test]
fn reference_and_control_are_always_kept() {
    let plan = Plan::new(&spec(), &select(&["peter-removal"], &[]), 1).unwrap();
    let names: Vec<&str> = plan.cells.iter().take(3).map(|c| c.id.candidate.as_str()).collect();
    assert_eq!(names, ["landed", "as-reported", "peter-removal"]);
}

/// The negative control is never left out: without it no zero counts.
#[test]
fn the_negative_control_is_always_kept() {
    let negative = |plan: &Plan| plan.cells.iter().any(|c| c.role == Role::NegativeControl);
    assert!(negative(&Plan::new(&spec(), &Selection::default(), 1).unwrap()));
    assert!(negative(&Plan::new(&spec(), &select(&["lockless-tree"], &["flip"]), 1).unwrap()));
    let last = Plan::new(&spec(), &Selection::default(), 1).unwrap();
    let roles: Vec<Role> = last.groups()[0].iter().map(|cell| cell.role).collect();
    assert_eq!(roles.first(), Some(&Role::Reference));
    assert_eq!(roles.last(), Some(&Role::NegativeControl));
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
    for selection in [select(&["peter-remove"], &[]), select(&[], &[words::SLIP])] {
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

/// A plan is read back as it was written, and one of another version is refused.
#[test]
fn plans_are_read_back() {
    let plan = Plan::new(&spec(), &Selection::default(), 1).unwrap();
    let mut value = serde_json::to_value(&plan).unwrap();
    assert_eq!(serde_json::from_value::<Plan>(value.clone()).unwrap(), plan);
    value["steps"][0]["boots"] = serde_json::json!(2);
    assert!(serde_json::from_value::<Plan>(value).is_err());
}

/// Every parameter that tells two steps apart stands in their names, and names are
/// selected by their leading parts.
#[test]
fn labels_are_unambiguous() {
    let spec = spec();
    let mut seen = std::collections::BTreeSet::new();
    for probe in &spec.probes {
        let params = serde_json::to_string(&probe.step.params).unwrap();
        let profiles = probe.profiles.join("+");
        assert!(seen.insert((probe.label.clone(), profiles)), "{} {params}", probe.label);
    }
    assert!(seen.iter().any(|(label, _)| label == words::OTHER_WAY));
    assert!(selects(words::WHOLE, words::IDLE));
    assert!(!selects(words::PART, words::IDLE));
}

/// Conditions of claims get the visits of the first look, others a few, and what the spec
/// says goes before both.
#[test]
fn visits_are_those_of_the_first_look() {
    let plan = Plan::new(&spec(), &Selection::default(), 1).unwrap();
    let production =
        |label: &str| plan.steps.iter().find(|p| p.label == label && p.is_for(PRODUCTION)).unwrap();
    assert_eq!(production(words::IDLE).visits, FIRST_LOOK);
    assert_eq!(production(words::SHOWN).visits, SHOWN_VISITS);
    assert_eq!(production("flip/softirq/flip").visits, 2);
}

/// What a claim, a gate or a prediction is about is measured first, and so is what somebody
/// asks for by name, and probes that claim nothing. Debug kernels are there
/// for their reports: all that is done on them is judged.
#[test]
fn what_nothing_is_judged_by_comes_last() {
    let purpose = |probes: &[&str], label: &str| {
        let plan = Plan::new(&spec(), &select(&[], probes), 1).unwrap();
        let mut here = plan.steps.iter().filter(|p| p.is_for(PRODUCTION));
        here.find(|planned| planned.label == label).unwrap().purpose
    };
    assert_eq!(purpose(&[], words::IDLE), Purpose::Claim);
    assert_eq!(purpose(&[], words::SHOWN), Purpose::Other, "a prediction names it");
    assert_eq!(purpose(&[], "flip/softirq/flip"), Purpose::Other);
    assert_eq!(purpose(&[], words::FOR_SHOW), Purpose::Shown);
    assert_eq!(purpose(&[words::FOR_SHOW], words::FOR_SHOW), Purpose::Other, "asked for");
    let plan = Plan::new(&spec(), &Selection::default(), 1).unwrap();
    let lockdep = plan.steps.iter().filter(|planned| planned.is_for("lockdep"));
    assert!(lockdep.clone().count() > 0);
    assert!(lockdep.clone().all(|planned| planned.purpose == Purpose::Other));
}

/// No claim is asked of the controls: they take a few visits of what claims are about, and
/// as many as others of all else, such as the wrong answers that a zero is held against.
#[test]
fn controls_take_a_few_visits_of_claims() {
    let plan = Plan::new(&spec(), &Selection::default(), 1).unwrap();
    let visits = |label: &str, role| {
        let mut here = plan.steps.iter().filter(|p| p.is_for(PRODUCTION));
        here.find(|planned| planned.label == label).unwrap().visits_of(role)
    };
    assert_eq!(visits(words::IDLE, Role::Contender), FIRST_LOOK);
    assert_eq!(visits(words::IDLE, Role::Reference), FIRST_LOOK);
    assert_eq!(visits(words::IDLE, Role::Control), SHOWN_VISITS);
    assert_eq!(visits(words::IDLE, Role::NegativeControl), SHOWN_VISITS);
    let mut flip = plan.steps.iter().find(|p| p.label == "flip/softirq/flip").unwrap().clone();
    flip.visits = 20;
    assert_eq!(flip.visits_of(Role::NegativeControl), 20);
    assert_eq!(visits(words::FOR_SHOW, Role::Control), 0);
    assert_ne!(visits(words::FOR_SHOW, Role::Contender), 0);
}

/// Claims are judged on the production kernels where their conditions are measured there;
/// one whose conditions, or whose kernels, are not in this run is not in its plan.
#[test]
fn claims_are_judged_where_nothing_distorts_them() {
    let names = |plan: &Plan| -> Vec<String> {
        plan.claims.iter().map(|c| format!("{} {}", c.claim.name, c.profile)).collect()
    };
    let all = Plan::new(&spec(), &Selection::default(), 1).unwrap();
    assert_eq!(names(&all), ["quiet production", "fast production", "writers production"]);
    let claim = &all.claims[0];
    assert_eq!(claim.steps.len(), 6);
    assert!(claim.steps.iter().all(|id| all.step(*id).unwrap().is_for(PRODUCTION)));
    let lockdep = Selection { profiles: vec!["lockdep".into()], ..Selection::default() };
    let lockdep = Plan::new(&spec(), &lockdep, 1).unwrap();
    assert_eq!(names(&lockdep), [""; 0], "debug kernels would answer another question");
    let nmi = Plan::new(&spec(), &select(&[], &[words::FAST]), 1).unwrap();
    assert_eq!(names(&nmi), ["fast production"]);
}

/// A spec without claims is judged by what its probes declare, and each of these says
/// that nobody stated it.
#[test]
fn claims_by_default_are_the_probes() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/spec/valid/smallest.yaml");
    let spec = Spec::load(&file, &DataDir::embedded()).unwrap();
    let plan = Plan::new(&spec, &Selection::default(), 1).unwrap();
    let [claim] = plan.claims.as_slice() else { panic!("{:?}", plan.claims) };
    assert!(claim.claim.by_default && claim.claim.margin > 0.0);
    assert_eq!((claim.claim.name.as_str(), claim.profile.as_str()), ("top_frame", "lockdep"));
    assert_eq!(plan.steps[0].visits, FIRST_LOOK);
}

/// The budget is the spec's, which has one of its own for `--quick`, unless the command line
/// has another. A quick run has fewer boots.
#[test]
fn a_budget_is_given_or_the_spec_s() {
    let spec = spec();
    let plan = |budget: Option<u64>, quick| {
        let budget = budget.map(Duration::from_secs);
        let selection = Selection { budget, quick, ..Selection::default() };
        let plan = Plan::new(&spec, &selection, 1).unwrap();
        (plan.budget_seconds, plan.spread)
    };
    let seconds = |budget: Option<Duration>| budget.map(|budget| budget.as_secs());
    assert_ne!(spec.budget, spec.quick_budget);
    assert_eq!(plan(None, false), (seconds(spec.budget), SPREAD));
    assert_eq!(plan(None, true), (seconds(spec.quick_budget), QUICK_SPREAD));
    assert_eq!(plan(Some(60), true), (Some(60), QUICK_SPREAD));
}

/// A step is done in the profiles it names; where none of them is selected, not
/// at all.
#[test]
fn steps_are_done_in_their_profiles() {
    let mut spec = spec();
    spec.profiles = vec!["lockdep".into(), PRODUCTION.into()];
    spec.probes.iter_mut().for_each(|probe| probe.profiles.clear());
    spec.probes[0].profiles = vec![PRODUCTION.into()];
    let count =
        |plan: &Plan, profile: &str| plan.steps.iter().filter(|p| p.is_for(profile)).count();
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
    let labels: Vec<&str> = plan.steps.iter().map(|planned| planned.label.as_str()).collect();
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
