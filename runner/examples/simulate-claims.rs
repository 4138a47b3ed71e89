// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prints how often claims hold jointly, blame nobody for nothing and are decided, in
//! simulated bake-offs whose truth is known:
//! `cargo run --release --example simulate-claims [TIMES [ROWS]]`. Of a word of ROWS only the
//! rows with it in their name, and of planted losses as many bake-offs as of the others.
#![allow(clippy::print_stdout, reason = "the tables are the answer")]

use bakeoff::claims::Looks;
use bakeoff::claims::simulate::{Kind, Reader, Tally, World};

/// Candidates, with a claim each.
const CANDIDATES: usize = 6;
/// Five points, or 5 %.
const MARGIN: f64 = 0.05;

fn worlds() -> Vec<(&'static str, Vec<Kind>)> {
    let calls = |right| vec![Kind::Calls { right }];
    let visits = |right, alike| vec![Kind::Visits { right, alike }];
    let modes = |right, rare, part| vec![Kind::Modes { right, rare, part }];
    let duty = |apart| vec![Kind::Duty { duty: 0.5, apart, spread: 0.08, alike: 0.02 }];
    vec![
        ("calls, 50 %", calls(0.5)),
        ("calls, 97 %", calls(0.97)),
        ("calls, 99.9 %", calls(0.999)),
        ("calls, 99.99 %", calls(0.9999)),
        ("calls, 3 %", calls(0.03)),
        ("calls, 0.1 %", calls(0.001)),
        ("visits alike .2, 50 %", visits(0.5, 0.2)),
        ("visits alike .05, 97 %", visits(0.97, 0.05)),
        ("visits alike .2, 97 %", visits(0.97, 0.2)),
        ("visits alike .2, 99.5 %", visits(0.995, 0.2)),
        ("visits alike .2, 99.9 %", visits(0.999, 0.2)),
        ("visits alike .2, 3 %", visits(0.03, 0.2)),
        ("modes 90/40 %, half", modes(0.9, 0.4, 0.5)),
        ("modes 97/50 %, a fifth", modes(0.97, 0.5, 0.2)),
        ("outliers 98/50 %, 1/20", modes(0.98, 0.5, 0.05)),
        ("outliers 99.9/0 %, 1/100", modes(0.999, 0.0, 0.01)),
        ("blocks fail, 1 %", vec![Kind::Blocks { part: 0.01 }]),
        ("blocks fail, 0.1 %", vec![Kind::Blocks { part: 0.001 }]),
        ("boots alike .05, 80 %", vec![Kind::Boots { right: 0.8, boots: 0.05, alike: 0.05 }]),
        ("duty 50 and 50 %", duty(0.0)),
        ("duty 50 and 56 %", duty(0.06)),
        (
            "three kinds in turn",
            vec![
                Kind::Calls { right: 0.9999 },
                Kind::Visits { right: 0.7, alike: 0.2 },
                Kind::Blocks { part: 0.002 },
            ],
        ),
        ("ratio, log sd .1", vec![Kind::Skewed { spread: 0.1 }]),
        ("ratio, log sd .5", vec![Kind::Skewed { spread: 0.5 }]),
        ("ratio, 1/20 threefold", vec![Kind::Tailed { spread: 0.1, part: 0.05, times: 3.0 }]),
        ("ratio, 1/10 zeros", vec![Kind::Zeros { spread: 0.2, part: 0.1 }]),
    ]
}

fn percent(part: f64) -> f64 {
    100.0 * part
}

fn looks() -> Reader {
    Reader::Looks(Looks::planned(CANDIDATES))
}

/// Nothing differs: how often all intervals hold, and what they could be narrower by.
fn same(times: u32, rows: &str) {
    println!("No candidate differs. {times} bake-offs each, {CANDIDATES} claims; in percent.");
    println!("held: all intervals of a bake-off contain the truth; lost: the width they could");
    println!("do without and still hold in 95; false: a gain or loss was read; done: claims");
    println!("decided, with a margin of 5; visits: of each condition and kernel.");
    println!();
    println!("                         con- | 12 visits    | 48 visits    | looks");
    println!(
        "                        ditions  held  lost     held  lost     held  lost false  done visits"
    );
    for (name, kinds) in worlds().into_iter().filter(|(name, _)| name.contains(rows)) {
        for conditions in [1, 5] {
            let losses = vec![0.0; CANDIDATES];
            let world = World { name, kinds: kinds.clone(), conditions, losses, margin: MARGIN };
            let once = |visits| {
                let tally = world.try_out(&Reader::Once(visits), times, 1);
                format!("{:>6.1} {:>5.0}", percent(tally.coverage()), percent(tally.lost()))
            };
            let all = world.try_out(&looks(), times, 2);
            println!(
                "{name:<25} {conditions:>2}   | {} | {} | {:>6.1} {:>5.0} {:>5.1} {:>5.0} {:>5.1}",
                once(12),
                once(48),
                percent(all.coverage()),
                percent(all.lost()),
                percent(all.blame()),
                percent(all.decided()),
                all.visits(),
            );
        }
    }
}

/// Every candidate loses the same: how often that is called, and how often missed.
fn planted(times: u32, rows: &str) {
    println!();
    println!("Every candidate's right answers are thinned, five conditions, looks; in percent.");
    println!("held: as above; called: claims read as a loss; missed: bake-offs in which a loss");
    println!("beyond the margin of 5 points was read \"no worse\"; done: claims decided.");
    println!();
    println!("                          thinned by   held called missed  done visits");
    for (name, kinds) in worlds().into_iter().filter(|(name, _)| name.contains(rows)) {
        for loss in [0.03, 0.055, 0.06, 0.08] {
            let losses = vec![loss; CANDIDATES];
            let world = World { name, kinds: kinds.clone(), conditions: 5, losses, margin: MARGIN };
            let all: Tally = world.try_out(&looks(), times, 3);
            println!(
                "{name:<25} {:>9.1}   {:>6.1} {:>6.1} {:>6.1} {:>5.0} {:>6.1}",
                percent(loss),
                percent(all.coverage()),
                percent(all.called().unwrap_or_default()),
                percent(f64::from(all.missed) / f64::from(all.times.max(1))),
                percent(all.decided()),
                all.visits(),
            );
        }
    }
}

fn main() {
    let times = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000);
    let rows = std::env::args().nth(2).unwrap_or_default();
    same(times, &rows);
    planted(if rows.is_empty() { times.div_ceil(5) } else { times }, &rows);
}
