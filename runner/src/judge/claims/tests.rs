// SPDX-License-Identifier: MIT OR Apache-2.0
mod simulated;

use super::*;

/// Visits of `calls` calls each, with so many right ones, in eight boots.
fn visits(right: &[u64], calls: u64) -> Vec<Visit> {
    let boots = (0..8).cycle();
    right.iter().zip(boots).map(|(right, boot)| Visit::share(boot, *right, calls)).collect()
}

fn condition(candidate: Vec<Visit>, reference: Vec<Visit>) -> Condition {
    Condition { name: "beside a writer".into(), candidate, reference, others: Vec::new() }
}

fn question(margin: f64, candidate: Vec<Visit>, reference: Vec<Visit>) -> Question {
    Question {
        scale: Scale::Share,
        better: Better::Higher,
        margin,
        conditions: vec![condition(candidate, reference)],
    }
}

/// Visits that measured these.
fn measured(values: &[f64]) -> Vec<Visit> {
    let boots = (0..8).cycle();
    values.iter().zip(boots).map(|(value, boot)| Visit::mean(boot, *value, 100)).collect()
}

fn ratio(better: Better, candidate: &[f64], reference: &[f64]) -> Question {
    Question {
        scale: Scale::Ratio,
        better,
        ..question(0.05, measured(candidate), measured(reference))
    }
}

fn near(is: f64, should: f64, by: f64) -> bool {
    (is - should).abs() <= by
}

/// Twelve visits around 50 %, by ±3.
const HALF: [u64; 12] = [47, 53, 50, 49, 51, 48, 52, 50, 47, 53, 50, 50];

fn shifted(by: i64) -> Vec<u64> {
    HALF.iter().map(|right| right.checked_add_signed(by).unwrap()).collect()
}

/// Twelve visits without a failure on either side rest on their 60 blocks of 20 calls: the
/// bound is 1 − α^(1/60), not zero and not that of 1,200 calls.
#[test]
fn no_failure_rests_on_blocks() {
    let all = visits(&[100; 12], 100);
    let settled = question(0.1, all.clone(), all).settle(0.05);
    let bound = 1.0 - 0.025f64.powf(1.0 / 60.0);
    assert!(near(settled.high.unwrap(), bound, 1e-9), "{settled:?}");
    assert!(near(settled.low.unwrap(), -bound, 1e-9), "{settled:?}");
    assert_eq!((settled.unit, settled.reading), (Unit::Blocks, Reading::NoWorse));
}

/// Nothing but failures on both sides is bounded the same way.
#[test]
fn no_success_rests_on_blocks() {
    let none = visits(&[0; 12], 100);
    let settled = question(0.1, none.clone(), none).settle(0.05);
    let bound = 1.0 - 0.025f64.powf(1.0 / 60.0);
    assert!(near(settled.high.unwrap(), bound, 1e-9) && near(settled.low.unwrap(), -bound, 1e-9));
}

/// Blocks that were counted are taken as counted: twelve visits of one block each are
/// twelve units, not sixty.
#[test]
fn counted_blocks_count() {
    let all: Vec<Visit> =
        visits(&[100; 12], 100).into_iter().map(|v| Visit { blocks: 1, ..v }).collect();
    let settled = question(0.1, all.clone(), all).settle(0.05);
    assert!(near(settled.high.unwrap(), 1.0 - 0.025f64.powf(1.0 / 12.0), 1e-9), "{settled:?}");
}

/// No failure on one side only: its bound is that of its blocks, and the other side's
/// spread is added to it, so the interval is wider than that of either alone.
#[test]
fn no_failure_on_one_side_still_has_a_width() {
    let clean = visits(&[100; 12], 100);
    let failing = visits(&[97, 99, 98, 100, 97, 99, 98, 96, 99, 98, 97, 99], 100);
    let settled = question(0.1, clean.clone(), failing.clone()).settle(0.05);
    let blocks = 1.0 - 0.025f64.powf(1.0 / 60.0);
    let below = settled.estimate.unwrap() - settled.low.unwrap();
    assert!(below > blocks, "{settled:?}");
    let turned = question(0.1, failing, clean).settle(0.05);
    assert!(near(turned.high.unwrap(), -settled.low.unwrap(), 1e-12), "{turned:?}");
}

/// A single failure does not make anybody surer than none in as many blocks.
#[test]
fn one_failure_is_no_surer_than_none() {
    let mut right = [100; 12];
    right[5] = 99;
    let none = question(0.1, visits(&[100; 12], 100), visits(&[100; 12], 100)).settle(0.05);
    let one = question(0.1, visits(&right, 100), visits(&[100; 12], 100)).settle(0.05);
    assert!(one.low.unwrap() <= none.low.unwrap(), "{one:?} {none:?}");
}

/// Away from 0 and 1 the interval is Welch's D ± t·√V̂.
#[test]
fn the_middle_is_welchs_interval() {
    let (ours, theirs) = (visits(&shifted(4), 1000), visits(&shifted(0), 1000));
    // Per mille rates of 1,000 calls would be below the variance of independent calls:
    // spread them as visits do.
    let spread = |all: Vec<Visit>, to: f64| -> Vec<Visit> {
        let wide = |v: Visit| Visit { value: to + (v.value * 1000.0 - 50.0) / 50.0, ..v };
        all.into_iter().map(wide).collect()
    };
    let settled = question(0.1, spread(ours, 0.5), spread(theirs, 0.5)).settle(0.05);
    let deviations: f64 = HALF.iter().map(|r| ((*r as f64 - 50.0) / 50.0).powi(2)).sum();
    let variance = deviations / 11.0 / 12.0;
    let half = bakeoff_fuzz::stats::special::student_t(0.05, 22.0) * (2.0 * variance).sqrt();
    let (low, high) = (settled.low.unwrap(), settled.high.unwrap());
    assert!(near((high - low) / 2.0, half, 0.05 * half), "{settled:?}, half {half}");
    assert!(near(settled.estimate.unwrap(), 0.08, 1e-9), "{settled:?}");
}

/// Few visits know their spread badly: the same spread gives a wider interval with three
/// visits than the normal distribution has, by the ratio of the quantiles.
#[test]
fn few_visits_are_widened_by_t() {
    let values = [(400, 600), (500, 500), (600, 400)];
    let ours: Vec<u64> = values.iter().map(|v| v.0).collect();
    let theirs: Vec<u64> = values.iter().map(|v| v.1).collect();
    let few = question(0.1, visits(&ours, 1000), visits(&theirs, 1000)).settle(0.05);
    let variance = 2.0 * 0.01 / 3.0;
    let normal = 1.96 * f64::sqrt(variance);
    assert!(few.high.unwrap() > 1.25 * normal, "{few:?}, normal {normal}");
}

/// Calls of a visit are alike: visits that go one way or the other have the width of
/// twelve units, ten times that of 1,200 calls.
#[test]
fn visits_are_the_unit() {
    let right = [95, 40, 95, 40, 95, 40, 95, 40, 95, 40, 95, 40];
    let settled = question(0.02, visits(&right, 100), visits(&right, 100)).settle(0.05);
    let calls = 2.0 * 1.96 * (2.0 * 0.675 * 0.325 / 1200.0f64).sqrt();
    let width = settled.high.unwrap() - settled.low.unwrap();
    assert!(width > 4.0 * calls, "{width} against {calls}");
    assert_eq!(settled.reading, Reading::Open);
}

/// Readings: all above zero gains; all below loses, "small" while within the margin; no
/// loss beyond the margin is no worse; everything else is open.
#[test]
fn readings_follow_the_interval() {
    let at = |by: i64, margin: f64| {
        question(margin, visits(&shifted(by), 100), visits(&shifted(0), 100)).settle(0.05)
    };
    assert_eq!(at(20, 0.05).reading, Reading::Gains);
    assert_eq!(at(-20, 0.05).reading, Reading::Loses { small: false });
    assert_eq!(at(-20, 0.5).reading, Reading::Loses { small: true });
    assert_eq!(at(0, 0.1).reading, Reading::NoWorse);
    assert_eq!(at(0, 0.01).reading, Reading::Open);
}

/// Where less is better the same numbers read the other way round.
#[test]
fn lower_can_be_better() {
    let asked = question(0.05, visits(&shifted(20), 100), visits(&shifted(0), 100));
    let asked = Question { better: Better::Lower, ..asked };
    assert_eq!(asked.settle(0.05).reading, Reading::Loses { small: false });
}

/// The margin is the user's: however much the reference's own visits differ, "no worse"
/// is only read where the interval excludes a loss of the margin.
#[test]
fn no_noise_widens_the_margin() {
    let noisy = visits(&[100, 0, 100, 0, 100, 0, 100, 0, 100, 0, 100, 0], 100);
    let low = visits(&[5, 0, 9, 0, 7, 0, 8, 0, 6, 0, 5, 0], 100);
    for (ours, theirs) in [(low, noisy.clone()), (noisy.clone(), noisy)] {
        let settled = question(0.05, ours, theirs).settle(0.05);
        let no_worse = settled.reading == Reading::NoWorse;
        assert_eq!(no_worse, settled.low.unwrap() > -0.05 && settled.low.unwrap() <= 0.0);
        assert!(!no_worse, "{settled:?}");
    }
}

/// "No worse" is corrected for the number of claims, as gains and losses are: what one
/// claim alone shows may be open among twelve.
#[test]
fn no_worse_is_corrected_too() {
    let asked = question(0.045, visits(&shifted(0), 100), visits(&shifted(0), 100));
    assert_eq!(Looks::planned(1).settle(&asked).settled.alpha, 0.01);
    let width = |claims| {
        let settled = Looks::planned(claims).settle(&asked).settled;
        settled.high.unwrap() - settled.low.unwrap()
    };
    assert!(width(12) > 1.2 * width(1));
    let margin = (width(1) + width(12)) / 4.0;
    let asked = Question { margin, ..asked };
    assert_eq!(Looks::planned(1).settle(&asked).settled.reading, Reading::NoWorse);
    assert_eq!(Looks::planned(12).settle(&asked).settled.reading, Reading::Open);
}

/// Where boots differ by more than their visits explain the interval rests on boots, and
/// that before the claim is read: what visits alone would call a gain stays open.
#[test]
fn boots_that_differ_are_the_unit() {
    let by_boot = |levels: [u64; 8]| -> Vec<Visit> {
        let visit = |at: u64| {
            let boot = at % 8;
            Visit::share(boot as u32, levels[boot as usize] + at / 8 % 3, 100)
        };
        (0..48).map(visit).collect()
    };
    let ours = by_boot([60, 20, 70, 30, 65, 25, 80, 66]);
    let theirs = by_boot([40, 55, 20, 60, 25, 45, 50, 30]);
    let settled = question(0.05, ours.clone(), theirs.clone()).settle(0.05);
    assert_eq!((settled.unit, settled.reading), (Unit::Boots, Reading::Open), "{settled:?}");
    assert!(settled.reason.contains("boots differ"), "{settled:?}");
    // The same numbers, each visit in a boot of its own.
    let apart = |of: Vec<Visit>| -> Vec<Visit> {
        of.into_iter().enumerate().map(|(boot, v)| Visit { boot: boot as u32, ..v }).collect()
    };
    let visits = question(0.05, apart(ours), apart(theirs)).settle(0.05);
    assert_eq!((visits.unit, visits.reading), (Unit::Visits, Reading::Gains), "{visits:?}");
}

/// A kernel that saw no failure takes how failures clump from the others: visits that fail
/// as a whole on a third kernel widen the bound of those without a failure.
#[test]
fn other_kernels_tell_how_failures_clump() {
    let clean = visits(&[100; 12], 100);
    let alone = question(0.1, clean.clone(), clean).settle(0.05);
    let mut asked = question(0.1, visits(&[100; 12], 100), visits(&[100; 12], 100));
    asked.conditions[0].others =
        vec![visits(&[100, 0, 100, 100, 100, 100, 100, 0, 100, 100, 100, 100], 100)];
    let among = asked.settle(0.05);
    assert!(among.high.unwrap() > 2.0 * alone.high.unwrap(), "{among:?} {alone:?}");
    assert_eq!(among.estimate, alone.estimate);
}

/// The estimate is the unweighted mean over the conditions, however many visits each had.
#[test]
fn conditions_count_the_same() {
    let mut asked = question(0.1, visits(&[90; 4], 100), visits(&[80; 4], 100));
    asked.conditions.push(condition(visits(&[50; 40], 100), visits(&[60; 40], 100)));
    let settled = asked.settle(0.05);
    assert!(near(settled.estimate.unwrap(), 0.0, 1e-12), "{settled:?}");
    assert!(near(settled.candidate.unwrap(), 0.7, 1e-12), "{settled:?}");
}

/// A visit that was cut short counts for its calls, and one without calls not at all.
#[test]
fn short_visits_count_for_less() {
    let mut ours = visits(&[50; 12], 100);
    ours.push(Visit::share(3, 0, 1));
    ours.push(Visit::share(4, 0, 0));
    let settled = question(0.1, ours, visits(&[50; 12], 100)).settle(0.05);
    assert!(near(settled.estimate.unwrap(), -0.5 / 1201.0, 1e-9), "{settled:?}");
    assert_eq!((settled.visits, settled.calls), (12, 2401));
}

/// A condition that one kernel never ran leaves the claim not reached, and is named.
#[test]
fn a_condition_never_run_is_named() {
    let mut asked = question(0.1, visits(&HALF, 100), visits(&HALF, 100));
    asked.conditions.push(Condition { name: "NMI, idle".into(), ..Condition::default() });
    let settled = asked.settle(0.05);
    assert_eq!((settled.reading, settled.estimate), (Reading::NotReached, None));
    assert!(settled.reason.contains("NMI, idle"), "{}", settled.reason);
    let none = Question { conditions: Vec::new(), ..asked };
    assert_eq!(none.settle(0.05).reading, Reading::NotReached);
}

/// One visit of each kernel cannot tell how visits differ: open, with the reason.
#[test]
fn one_visit_settles_nothing() {
    let settled = question(0.1, visits(&[100], 100), visits(&[0], 100)).settle(0.05);
    assert_eq!((settled.reading, settled.low), (Reading::Open, None));
    assert!(settled.reason.contains("at least two"), "{}", settled.reason);
}

/// A margin of zero can show a gain or a loss, never "no worse", and says so.
#[test]
fn a_margin_of_zero_is_said() {
    let settled = question(0.0, visits(&HALF, 100), visits(&HALF, 100)).settle(0.05);
    assert_eq!(settled.reading, Reading::Open);
    assert!(settled.reason.contains("margin of zero"), "{}", settled.reason);
    let gains = question(0.0, visits(&shifted(30), 100), visits(&HALF, 100)).settle(0.05);
    assert_eq!(gains.reading, Reading::Gains);
}

/// Lost samples are bounded in the worst case: the candidate's all wrong and the
/// reference's all right, and the other way round.
#[test]
fn lost_samples_are_bounded() {
    let lost = |of: Vec<Visit>, missing: u64| -> Vec<Visit> {
        of.into_iter().map(|v| Visit { missing, ..v }).collect()
    };
    let ours = lost(visits(&[80; 12], 80), 20);
    let theirs = lost(visits(&[90; 12], 90), 10);
    let settled = question(0.2, ours, theirs).settle(0.05);
    let missing = settled.missing.unwrap();
    assert!(near(missing.candidate, 0.2, 1e-12) && near(missing.reference, 0.1, 1e-12));
    assert!(near(settled.low.unwrap() - missing.low.unwrap(), 0.2, 1e-12), "{settled:?}");
    assert!(near(missing.high.unwrap() - settled.high.unwrap(), 0.1, 1e-12), "{settled:?}");
    assert_eq!((settled.reading, missing.reading), (Reading::NoWorse, Some(Reading::Open)));
    let none = question(0.2, visits(&HALF, 100), visits(&HALF, 100)).settle(0.05);
    assert_eq!(none.missing, None);
}

/// Visits at these duties that get what the writer leaves.
fn at_duties(from: u64, to: u64) -> Vec<Visit> {
    let duties = (0..24).map(|at| from + (to - from) * (at * 7 % 24) / 23);
    let noise = [3i64, -3, 1, -1, 2, -2, 0, 0];
    let visit = |(at, duty): (usize, u64)| Visit {
        duty: Some(duty as f64 / 1000.0),
        ..Visit::share(
            at as u32 % 8,
            (1000 - duty).checked_add_signed(5 * noise[at % 8]).unwrap(),
            1000,
        )
    };
    duties.enumerate().map(visit).collect()
}

/// Kernels that lose what the writer takes, and only that, are compared at the same duty:
/// what looks like a loss of eleven points is none.
#[test]
fn duty_is_compared_at_the_duty_measured() {
    let (ours, theirs) = (at_duties(520, 780), at_duties(410, 670));
    let blind = |of: &[Visit]| of.iter().map(|v| Visit { duty: None, ..*v }).collect::<Vec<_>>();
    let plain = question(0.05, blind(&ours), blind(&theirs)).settle(0.05);
    assert_eq!(plain.reading, Reading::Loses { small: false }, "{plain:?}");
    assert!(near(plain.estimate.unwrap(), -0.11, 0.01), "{plain:?}");
    let settled = question(0.05, ours, theirs).settle(0.05);
    assert_eq!(settled.reading, Reading::NoWorse, "{settled:?}");
    assert!(near(settled.estimate.unwrap(), 0.0, 0.01), "{settled:?}");
    let duty = settled.duty.unwrap();
    assert_eq!((duty.corrected, duty.plain), (1, 0));
    assert!(near(duty.candidate - duty.reference, 0.11, 0.01), "{duty:?}");
    // What was measured is still told as measured.
    assert!(near(settled.candidate.unwrap(), plain.candidate.unwrap(), 1e-12));
}

/// Duties that do not overlap tell nothing of each other: the comparison stays plain, and
/// says so.
#[test]
fn duty_out_of_reach_is_not_corrected() {
    let settled = question(0.05, at_duties(700, 800), at_duties(300, 400)).settle(0.05);
    let duty = settled.duty.unwrap();
    assert_eq!((duty.corrected, duty.plain), (0, 1));
    assert!(settled.reason.contains("load differs"), "{}", settled.reason);
    assert!(near(settled.estimate.unwrap(), -0.4, 0.01), "{settled:?}");
}

/// A kernel that never gets an answer has no slope, and lends none: the candidate's own is
/// taken where the two differ.
#[test]
fn slopes_that_differ_are_not_shared() {
    let dead: Vec<Visit> = at_duties(520, 780)
        .into_iter()
        .enumerate()
        .map(|(at, v)| Visit { value: 0.05 + 0.001 * (at % 3) as f64, ..v })
        .collect();
    let settled = question(0.05, dead, at_duties(410, 670)).settle(0.05);
    assert_eq!(settled.duty.unwrap().corrected, 1);
    assert!(near(settled.estimate.unwrap(), 0.051 - 0.46, 0.01), "{settled:?}");
}

/// What never answers right, or always does, does not depend on the load and is not moved by
/// the reference's slope, however noisy that is: its interval is no wider than without duties.
#[test]
fn what_does_not_vary_has_no_slope() {
    let noisy = |(at, v): (usize, Visit)| {
        let right = if at % 2 == 0 { v.right + 300 } else { v.right - 300 };
        Visit { duty: v.duty, ..Visit::share(v.boot, right, v.calls) }
    };
    let theirs: Vec<Visit> = at_duties(350, 650).into_iter().enumerate().map(noisy).collect();
    let blind = |of: &[Visit]| of.iter().map(|v| Visit { duty: None, ..*v }).collect::<Vec<_>>();
    for (right, from) in [(0, 360), (1000, 340)] {
        let still = |v: Visit| Visit { duty: v.duty, ..Visit::share(v.boot, right, v.calls) };
        let ours: Vec<Visit> = at_duties(from, from + 300).into_iter().map(still).collect();
        let plain = question(0.05, blind(&ours), blind(&theirs)).settle(0.001);
        let settled = question(0.05, ours, theirs.clone()).settle(0.001);
        let bounds = |s: &Settled| (s.low.unwrap(), s.high.unwrap());
        let ((low, high), (least, most)) = (bounds(&settled), bounds(&plain));
        assert_eq!(settled.duty.unwrap().corrected, 1);
        assert!(low >= least - 1e-3 && high <= most + 1e-3, "{settled:?}\n{plain:?}");
    }
}

/// A ratio is that of the geometric means, its bounds multiply alike both ways, and
/// swapping the kernels inverts it.
#[test]
fn ratios_are_symmetric() {
    let (ours, theirs) = ([12.0, 11.0, 13.0, 12.5, 11.5, 12.0], [10.0, 9.5, 10.5, 10.2, 9.8, 10.0]);
    let there = ratio(Better::Higher, &ours, &theirs).settle(0.05);
    let back = ratio(Better::Higher, &theirs, &ours).settle(0.05);
    assert!(near(there.estimate.unwrap() * back.estimate.unwrap(), 1.0, 1e-12), "{there:?}");
    assert!(near(there.low.unwrap() * back.high.unwrap(), 1.0, 1e-9), "{there:?} {back:?}");
    assert_eq!((there.reading, back.reading), (Reading::Gains, Reading::Loses { small: false }));
    let lower = ratio(Better::Lower, &ours, &theirs).settle(0.05);
    assert_eq!(lower.reading, Reading::Loses { small: false });
}

/// The margin of a ratio is a part of the reference: 4 % less is within 5 %, both where
/// more and where less is better.
#[test]
fn a_ratios_margin_is_relative() {
    let theirs = [100.0, 100.2, 99.8, 100.1, 99.9, 100.0];
    let less: Vec<f64> = theirs.iter().map(|v| 0.96 * v).collect();
    let more: Vec<f64> = theirs.iter().map(|v| 1.04 * v).collect();
    let small = Reading::Loses { small: true };
    assert_eq!(ratio(Better::Higher, &less, &theirs).settle(0.05).reading, small);
    assert_eq!(ratio(Better::Lower, &more, &theirs).settle(0.05).reading, small);
    let far: Vec<f64> = theirs.iter().map(|v| 0.94 * v).collect();
    let large = Reading::Loses { small: false };
    assert_eq!(ratio(Better::Higher, &far, &theirs).settle(0.05).reading, large);
}

/// A zero among the visits has no logarithm: the ratio of the plain means, by Fieller's
/// interval, worked out by hand.
#[test]
fn zeros_take_fiellers_interval() {
    let (ours, theirs) = ([0.0, 12.0, 11.0, 13.0], [10.0, 9.0, 11.0, 10.0]);
    let settled = ratio(Better::Higher, &ours, &theirs).settle(0.05);
    assert!(near(settled.estimate.unwrap(), 0.9, 1e-12), "{settled:?}");
    // Means 9 and 10, variances of the means 110/12 and 1/6; df 3.09 of their sum.
    let (a, b): (f64, f64) = (110.0 / 12.0, 1.0 / 6.0);
    let sum = a + 0.81 * b;
    let df = sum * sum / (a * a / 3.0 + (0.81 * b).powi(2) / 3.0);
    let t = bakeoff_fuzz::stats::special::student_t(0.05, df);
    // The roots of (9 − r·10)² = t²(a + r²b).
    let (qa, qb, qc) = (100.0 - t * t * b, -180.0, 81.0 - t * t * a);
    let root = (qb * qb - 4.0 * qa * qc).sqrt();
    assert!(near(settled.low.unwrap(), (-qb - root) / (2.0 * qa), 1e-9), "{settled:?}");
    assert!(near(settled.high.unwrap(), (-qb + root) / (2.0 * qa), 1e-9), "{settled:?}");
}

/// A reference that cannot be told from zero has no ratio, and a measurement that is no
/// number is named.
#[test]
fn what_has_no_ratio_says_so() {
    let zero = ratio(Better::Higher, &[1.0, 2.0, 3.0], &[0.0, 0.0, 1.0]).settle(0.05);
    assert_eq!((zero.reading, zero.estimate), (Reading::Open, None));
    assert!(zero.reason.contains("about zero in beside a writer"), "{}", zero.reason);
    let negative = ratio(Better::Higher, &[1.0, 2.0], &[-1.0, -1.1]).settle(0.05);
    assert!(negative.reason.contains("no ratio"), "{}", negative.reason);
    let odd = ratio(Better::Higher, &[1.0, f64::NAN], &[1.0, 1.1]).settle(0.05);
    assert!(odd.reason.contains("NaN"), "{}", odd.reason);
}

/// Looks spend 5 % together, whatever the number of claims, and so do those that can be
/// extended for ever.
#[test]
fn looks_spend_the_error_once() {
    let spent = |looks: Looks| -> f64 {
        let all = (1..=20).map_while(|number| looks.look(number));
        all.map(|look| look.alpha).sum::<f64>() * looks.claims as f64
    };
    assert!(near(spent(Looks::planned(1)), 0.05, 1e-12));
    assert!(near(spent(Looks::planned(12)), 0.05, 1e-12));
    let endless = spent(Looks::extendable(12));
    assert!(endless <= 0.05 && endless > 0.0499, "{endless}");
    assert_eq!(Looks::planned(3).look(4), None);
    assert_eq!(Looks::extendable(3).look(5).map(|look| look.visits), Some(192));
}

fn long(right: &[u64], times: usize) -> Vec<Visit> {
    visits(&right.repeat(times), 100)
}

/// A claim stops at the look that decides it, and later visits do not change what it says.
#[test]
fn a_decided_claim_stops() {
    let early = question(0.1, long(&shifted(0), 1), long(&HALF, 1));
    let mut later = question(0.1, long(&shifted(0), 1), long(&HALF, 4));
    later.conditions[0].candidate.extend(visits(&[0; 36], 100));
    let (early, later) = (Looks::planned(2).settle(&early), Looks::planned(2).settle(&later));
    assert_eq!(early.look.number, 1);
    assert_eq!((early.settled.reading, early.next), (Reading::NoWorse, None));
    assert_eq!(early, later);
}

/// An open claim goes on to the next look, whose interval has that look's error.
#[test]
fn an_open_claim_goes_on() {
    let looks = Looks::planned(2);
    let asked = |times| question(0.02, long(&HALF, times), long(&HALF, times));
    let first = looks.settle(&asked(1));
    assert_eq!((first.look.number, first.next), (1, looks.look(2)));
    let second = looks.settle(&asked(2));
    assert_eq!((second.look.number, second.settled.visits), (2, 24));
    assert!(near(second.settled.alpha, 0.0075, 1e-12));
    let last = looks.settle(&Question { margin: 0.001, ..asked(6) });
    // The error is spent: visits beyond the last look are not read.
    assert_eq!((last.look.number, last.next, last.settled.visits), (3, None, 48));
    let more = Looks::extendable(2).settle(&Question { margin: 0.001, ..asked(6) });
    assert_eq!((more.look.number, more.settled.visits), (4, 72));
}

/// A run that ends between two looks reads what there is with the next look's error.
#[test]
fn a_run_cut_short_is_read_once() {
    let mut asked = question(0.001, long(&HALF, 2), long(&HALF, 2));
    asked.conditions[0].candidate.truncate(18);
    let looks = Looks::planned(1);
    let standing = looks.settle(&asked);
    assert_eq!((standing.look.number, standing.settled.visits), (2, 18));
    assert_eq!(standing.next, looks.look(2));
}

/// What would decide does decide: with as many visits as it names, going on as they did.
#[test]
fn what_would_decide_does() {
    let asked = |times| question(0.03, long(&HALF, times), long(&HALF, times));
    let open = asked(1).settle(0.01);
    let need = open.to_decide.unwrap();
    let times = need.visits.div_ceil(12) as usize;
    assert!((2..10).contains(&times), "{need:?}");
    assert_eq!(asked(times).settle(0.01).reading, Reading::NoWorse);
    assert_eq!(asked(times / 2).settle(0.01).reading, Reading::Open);
}

/// An estimate on the margin can be decided: it is a loss, and takes the visits that tell
/// it from zero. The worst is half a margin below zero, where the width has to be the
/// margin.
#[test]
fn an_estimate_on_the_margin_needs_no_endless_visits() {
    let asked = |margin| question(margin, visits(&shifted(-2), 100), visits(&HALF, 100));
    let on = asked(0.02).settle(0.001);
    assert_eq!(on.reading, Reading::Open);
    let half = (on.high.unwrap() - on.low.unwrap()) / 2.0;
    let need = on.to_decide.unwrap();
    assert!(near(f64::from(need.visits), 12.0 * (half / 0.02).powi(2), 3.0), "{need:?}");
    assert!(near(f64::from(need.at_worst), 12.0 * (half / 0.01).powi(2), 3.0), "{need:?}");
    let middle = asked(0.04).settle(0.001);
    let need = middle.to_decide.unwrap();
    assert!(near(f64::from(need.visits), f64::from(need.at_worst), 3.0), "{need:?}");
}

/// What takes more visits than the looks allow is said to stay open.
#[test]
fn what_the_looks_cannot_decide_is_said() {
    let settle = |margin| {
        let asked = question(margin, visits(&HALF, 100), visits(&HALF, 100));
        Looks::planned(4).settle(&asked).settled.to_decide.unwrap()
    };
    assert!(settle(0.001).likely_open);
    assert!(!settle(0.04).likely_open);
}

/// Fisher's tea: three of four against one of four, by the published values.
#[test]
fn fishers_test_of_the_tea() {
    let tea = fisher(Seen { times: 3, of: 4 }, Seen { times: 1, of: 4 });
    assert!(near(tea.more, 17.0 / 70.0, 1e-12), "{tea:?}");
    assert!(near(tea.fewer, 69.0 / 70.0, 1e-12), "{tea:?}");
    assert!(near(tea.two_sided, 34.0 / 70.0, 1e-12), "{tea:?}");
    let none = fisher(Seen { times: 0, of: 4 }, Seen { times: 0, of: 9 });
    assert!(near(none.more, 1.0, 1e-12) && near(none.two_sided, 1.0, 1e-12), "{none:?}");
}

/// What was seen once and never again blames nobody; what the reference shows, too, is not
/// the candidate's; five of five against none is added.
#[test]
fn a_splat_is_confirmed_in_fresh_boots() {
    let of = |times, of| Seen { times, of };
    assert_eq!(confirm(of(0, 5), of(0, 5), 0.01), Confirmed::SeenOnce);
    assert_eq!(confirm(of(5, 5), of(0, 5), 0.01), Confirmed::Added);
    assert_eq!(confirm(of(2, 5), of(1, 5), 0.01), Confirmed::Both);
    assert_eq!(confirm(of(0, 5), of(1, 5), 0.01), Confirmed::Both);
    // Four of four against none is 1 in 70.
    assert_eq!(confirm(of(4, 4), of(0, 4), 0.01), Confirmed::Open { boots: Some(5) });
    assert_eq!(confirm(of(8, 8), of(3, 8), 0.03), Confirmed::Added);
}

/// A zero counts where three would be expected, not where a slowed-down kernel showed some:
/// the measured rate times the answers decides.
#[test]
fn a_zero_counts_where_three_are_expected() {
    let known = Seen { times: 200, of: 800_000 };
    let blind = zero_means(known, 8_000);
    assert!(near(blind.expected, 2.0, 1e-9) && !blind.counts, "{blind:?}");
    let seeing = zero_means(known, 16_000);
    assert!(near(seeing.expected, 4.0, 1e-9) && seeing.counts, "{seeing:?}");
    // Three are expected, but the rate rests on one find.
    assert!(!zero_means(Seen { times: 1, of: 1_000 }, 3_000).counts);
    let none = zero_means(Seen { times: 0, of: 800_000 }, 1_000_000);
    assert!(!none.counts && none.expected == 0.0, "{none:?}");
}
