// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prints how often the 95% intervals contain the truth, for rates, clusterings
//! and stopping rules: `cargo run --release --example coverage [TIMES]`.
#![allow(clippy::print_stdout, reason = "the table is the answer")]

use bakeoff::coverage::Scenario;
use bakeoff_fuzz::wire::Stop;

/// Other rates of a kind: the dispute's sweep of NMIs has five periods of seven candidates.
const BESIDE: u32 = 34;

fn main() {
    let times = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(10_000);
    println!("{times} experiments each; 100 calls a block; coverage in percent");
    println!("few: part in which fewer than 10 blocks hold all failures; none: part without any");
    println!("(the report states both; where they are not rare, coverage rests on an assumption)");
    println!(
        "{:>8} {:>6} {:>7} {:>11} {:>9} {:>7} {:>9} {:>12}",
        "rate", "icc", "planned", "half-width", "coverage", "few", "none", "blocks taken"
    );
    for rate in [0.5, 0.9, 0.97, 0.99, 0.995, 0.999, 0.9999] {
        for icc in [0.0, 0.01, 0.05, 0.2] {
            for (blocks, width) in [(20, None), (100, None), (100, Some(0.02)), (100, Some(0.01))] {
                let stop = match width {
                    None => Stop::Fixed,
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                    Some(width) => Stop::Precise { half_width_ppm: (width * 1e6) as u32 },
                };
                let tally =
                    Scenario { rate, icc, blocks, calls: 100, stop, beside: 0 }.try_out(times, 1);
                println!(
                    "{:>8} {:>6} {:>7} {:>11} {:>9.2} {:>7.2} {:>9.2} {:>12.1}",
                    rate,
                    icc,
                    blocks,
                    width.map_or_else(|| "fixed".to_owned(), |w| w.to_string()),
                    100.0 * tally.coverage(),
                    100.0 * tally.few(),
                    100.0 * tally.assumed(),
                    tally.mean_blocks(),
                );
            }
        }
    }
    println!();
    println!("the same beside {BESIDE} rates of their kind, {} experiments each", times / 10);
    println!(
        "{:>8} {:>6} {:>7} {:>9} {:>16} {:>9}",
        "rate", "icc", "planned", "coverage", "coverage, alone", "unknown"
    );
    for rate in [0.97, 0.99, 0.995, 0.999] {
        for icc in [0.01, 0.05, 0.2] {
            for blocks in [20, 40, 100] {
                let alone =
                    Scenario { rate, icc, blocks, calls: 100, stop: Stop::Fixed, beside: 0 };
                let among = Scenario { beside: BESIDE, ..alone }.try_out(times / 10, 2);
                println!(
                    "{:>8} {:>6} {:>7} {:>9.2} {:>16.2} {:>9.2}",
                    rate,
                    icc,
                    blocks,
                    100.0 * among.coverage(),
                    100.0 * alone.try_out(times, 1).coverage(),
                    100.0 * (among.few() + among.assumed()),
                );
            }
        }
    }
}
