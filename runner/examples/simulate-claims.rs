// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prints how often claims hold jointly, blame nobody for nothing and are decided, in
//! simulated bake-offs whose truth is known:
//! `cargo run --release --example simulate-claims [TIMES]`.
#![allow(clippy::print_stdout, reason = "the table is the answer")]

use bakeoff::claims::Looks;
use bakeoff::claims::simulate::{Kind, Reader, World};

fn worlds() -> Vec<World> {
    let shares: Vec<(&'static str, Vec<Kind>)> = vec![
        ("calls, 1/2", vec![Kind::Calls { right: 0.5 }]),
        ("calls, 0.97", vec![Kind::Calls { right: 0.97 }]),
        ("calls, 0.999", vec![Kind::Calls { right: 0.999 }]),
        ("calls, 0.9999", vec![Kind::Calls { right: 0.9999 }]),
        ("calls, 0.001", vec![Kind::Calls { right: 0.001 }]),
        ("calls, 0.03", vec![Kind::Calls { right: 0.03 }]),
        ("visits, 1/2, .2", vec![Kind::Visits { right: 0.5, alike: 0.2 }]),
        ("visits, 0.97, .05", vec![Kind::Visits { right: 0.97, alike: 0.05 }]),
        ("visits, 0.97, .2", vec![Kind::Visits { right: 0.97, alike: 0.2 }]),
        ("visits, 0.995, .2", vec![Kind::Visits { right: 0.995, alike: 0.2 }]),
        ("visits, 0.999, .2", vec![Kind::Visits { right: 0.999, alike: 0.2 }]),
        ("visits, 0.03, .2", vec![Kind::Visits { right: 0.03, alike: 0.2 }]),
        ("two modes, half", vec![Kind::Modes { right: 0.9, rare: 0.4, part: 0.5 }]),
        ("two modes, 20 %", vec![Kind::Modes { right: 0.97, rare: 0.5, part: 0.2 }]),
        ("outliers, 5 %", vec![Kind::Modes { right: 0.98, rare: 0.5, part: 0.05 }]),
        ("outliers, 1 %", vec![Kind::Modes { right: 0.999, rare: 0.0, part: 0.01 }]),
        ("blocks, 1 %", vec![Kind::Blocks { part: 0.01 }]),
        ("blocks, 0.1 %", vec![Kind::Blocks { part: 0.001 }]),
        ("boots, 0.8, .05", vec![Kind::Boots { right: 0.8, boots: 0.05, alike: 0.05 }]),
        (
            "mixed",
            vec![
                Kind::Calls { right: 0.9999 },
                Kind::Visits { right: 0.7, alike: 0.2 },
                Kind::Blocks { part: 0.002 },
            ],
        ),
        ("log, .1", vec![Kind::Skewed { spread: 0.1 }]),
        ("log, .5", vec![Kind::Skewed { spread: 0.5 }]),
        ("log, outliers", vec![Kind::Tailed { spread: 0.1, part: 0.05, times: 3.0 }]),
        ("zeros", vec![Kind::Zeros { spread: 0.2, part: 0.1 }]),
    ];
    let mut all = Vec::new();
    for (name, kinds) in shares {
        for conditions in [1, 5] {
            all.push(World {
                name,
                kinds: kinds.clone(),
                conditions,
                losses: vec![0.0; 6],
                margin: 0.05,
            });
        }
    }
    all
}

fn main() {
    let times = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(2_000);
    let plant: f64 = std::env::args().nth(2).and_then(|n| n.parse().ok()).unwrap_or(0.0);
    let only = std::env::args().nth(3).unwrap_or_default();
    for mut world in worlds() {
        if !world.name.contains(&only) {
            continue;
        }
        world.losses = vec![plant; 6];
        let mut line = format!("{:<20} {:>2}", world.name, world.conditions);
        for reader in [Reader::Once(12), Reader::Once(48), Reader::Looks(Looks::planned(6))] {
            let t = world.try_out(&reader, times, 7);
            line += &format!(
                " | {:>6.2} {:>5.1} {:>6.2} {:>6.1} {:>6.4} {:>5.1} {}",
                100.0 * t.coverage(),
                100.0 * t.lost(),
                100.0 * t.blame(),
                100.0 * t.decided(),
                t.width(),
                t.visits(),
                t.called().map_or(String::new(), |c| format!("{:.1}", 100.0 * c))
            );
        }
        println!("{line}");
    }
}
