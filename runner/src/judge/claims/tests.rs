// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

/// Visits of `calls` calls each, with so many right ones.
fn visits(right: &[u64], calls: u64) -> Vec<Visit> {
    let boots = (0..).map(|at| at % 8);
    right.iter().zip(boots).map(|(right, boot)| Visit::share(boot, *right, calls)).collect()
}

fn question(margin: f64, candidate: Vec<Visit>, reference: Vec<Visit>) -> Question {
    let condition =
        Condition { name: "beside a writer".into(), candidate, reference, others: Vec::new() };
    Question { scale: Scale::Share, better: Better::Higher, margin, conditions: vec![condition] }
}

/// Twelve visits without a failure on either side rest on their 60 blocks of 20 calls: the
/// bound is 1 − α^(1/60), not zero and not that of 1,200 calls.
#[test]
fn no_failure_rests_on_blocks() {
    let all = visits(&[100; 12], 100);
    let settled = question(0.1, all.clone(), all).settle(0.05);
    let bound = 1.0 - 0.025f64.powf(1.0 / 60.0);
    assert!((settled.high.unwrap() - bound).abs() < 1e-9, "{settled:?}");
    assert!((settled.low.unwrap() + bound).abs() < 1e-9, "{settled:?}");
    assert_eq!(settled.unit, Unit::Blocks);
    assert_eq!(settled.reading, Reading::NoWorse);
}
