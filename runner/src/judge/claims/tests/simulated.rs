// SPDX-License-Identifier: MIT OR Apache-2.0
//! Small simulations, the same for the same seed; the large ones are
//! `cargo run --release --example simulate-claims`.

use super::super::simulate::{Kind, Reader, World};
use super::super::*;
use crate::judge::claims::coins::Coins;

fn world(kinds: &[Kind], losses: &[f64], margin: f64) -> World {
    World { name: "", kinds: kinds.to_vec(), conditions: 3, losses: losses.to_vec(), margin }
}

/// Six claims hold jointly in at least 94 % of the bake-offs, for shares near 0, ½ and 1,
/// for clumps, outliers and continuous metrics, read once as well as look by look.
#[test]
fn claims_hold_jointly() {
    let kinds = [
        Kind::Calls { right: 0.03 },
        Kind::Visits { right: 0.5, alike: 0.2 },
        Kind::Visits { right: 0.97, alike: 0.2 },
        Kind::Modes { right: 0.97, rare: 0.5, part: 0.2 },
        Kind::Modes { right: 0.999, rare: 0.0, part: 0.01 },
        Kind::Blocks { part: 0.01 },
        Kind::Skewed { spread: 0.3 },
    ];
    for kind in kinds {
        for reader in [Reader::Once(12), Reader::Looks(Looks::planned(6))] {
            let tally = world(&[kind], &[0.0; 6], 0.05).try_out(&reader, 100, 3);
            assert!(tally.coverage() >= 0.94, "{kind:?} {reader:?}: {tally:?}");
            assert!(tally.blame() <= 0.05, "{kind:?} {reader:?}: {tally:?}");
        }
    }
}

/// A planted loss of 3, 6 or 8 % of the right answers is called each time, and its size
/// lies in the interval.
#[test]
fn a_planted_loss_is_called() {
    let kinds = [Kind::Calls { right: 0.98 }];
    let tally =
        world(&kinds, &[0.03, 0.06, 0.08], 0.02).try_out(&Reader::Looks(Looks::planned(3)), 50, 5);
    assert_eq!(tally.called(), Some(1.0), "{tally:?}");
    assert_eq!(tally.missed, 0, "{tally:?}");
    assert!(tally.coverage() >= 0.94, "{tally:?}");
}

/// A loss of exactly the margin is not read as "no worse" in more than 5 % of the
/// bake-offs.
#[test]
fn a_loss_of_the_margin_is_not_no_worse() {
    let kinds = [Kind::Visits { right: 0.9, alike: 0.05 }];
    let tally =
        world(&kinds, &[0.0334; 4], 0.03).try_out(&Reader::Looks(Looks::planned(4)), 100, 6);
    assert!(tally.missed <= 5, "{tally:?}");
    assert!(tally.decided() > 0.0, "{tally:?}");
}

/// A candidate that fails in whole blocks, as often as the margin, beside a reference
/// without a failure: at most 5 % are read "no worse", although many runs see no failure.
#[test]
fn unseen_blocks_are_not_no_worse() {
    let (mut coins, mut wrong, mut unseen) = (Coins(8), 0, 0);
    for _ in 0..400 {
        let visit = |at: u32, part: f64, coins: &mut Coins| {
            let failed = (0..5).filter(|_| coins.unit() < part).count() as u64;
            Visit {
                blocks: 5,
                failed_blocks: failed,
                ..Visit::share(at % 8, 100 - 20 * failed, 100)
            }
        };
        let ours: Vec<Visit> = (0..12).map(|at| visit(at, 0.04, &mut coins)).collect();
        let theirs: Vec<Visit> = (0..12).map(|at| visit(at, 0.0, &mut coins)).collect();
        unseen += u32::from(ours.iter().all(|v| v.failed_blocks == 0));
        let settled = super::question(0.04, ours, theirs).settle(0.05);
        wrong += u32::from(settled.reading == Reading::NoWorse);
    }
    assert!(unseen >= 20, "{unseen}");
    assert!(wrong <= 20, "{wrong}");
}

/// A background splat that any boot may show blames somebody in no more runs than its error
/// allows, because only fresh boots count.
#[test]
fn a_background_splat_blames_nobody() {
    for rate in [0.02, 0.1, 0.3, 0.6] {
        let mut coins = Coins(9);
        let blamed = (0..2000).filter(|_| {
            let mut fresh = || Seen { times: coins.heads(8, rate), of: 8 };
            let (ours, theirs) = (fresh(), fresh());
            confirm(ours, theirs, 0.01) == Confirmed::Added
        });
        let blamed = blamed.count();
        assert!(blamed <= 20, "{rate}: {blamed}");
    }
}

fn pools(boots: u32, visits: u32, seed: u64) -> Vec<Question> {
    let mut coins = Coins(seed);
    let mut pool = |right: f64| {
        let one = |at: u32, coins: &mut Coins| {
            let rate = coins.beta(right * 10.0, (1.0 - right) * 10.0);
            Visit::share(at % boots, coins.heads(100, rate), 100)
        };
        let reference = (0..visits).map(|at| one(at, &mut coins)).collect();
        super::condition(Vec::new(), reference)
    };
    (0..3)
        .map(|_| Question {
            conditions: vec![pool(0.9), pool(0.99)],
            ..super::question(0.2, Vec::new(), Vec::new())
        })
        .collect()
}

/// The reference dealt against itself is blamed in at most 5 % of the bake-offs, with most
/// claims decided; a copy that is really worse is found out.
#[test]
fn the_reference_against_itself_is_not_blamed() {
    let same = permute(&pools(24, 288, 1), 2, 200, 4).unwrap();
    assert_eq!((same.times, same.claims), (200, 1200));
    assert!(same.blamed <= 10 && same.praised <= 10, "{same:?}");
    assert!(same.decided > 1080, "{same:?}");
    let (low, high) = same.blame().unwrap();
    assert!(low <= 0.05 && high < 0.1, "{same:?}");
}

/// Fewer boots than kernels, no candidate or no question leave nothing to deal.
#[test]
fn nothing_to_deal_is_said() {
    assert_eq!(permute(&pools(2, 48, 1), 2, 10, 4), None);
    assert_eq!(permute(&pools(8, 48, 1), 0, 10, 4), None);
    assert_eq!(permute(&[], 2, 10, 4), None);
}

/// Whatever the visits, an interval of shares holds its estimate, has a width, stays within
/// −1 and 1, and turns round when the kernels change places.
#[test]
fn intervals_are_sound_whatever_the_visits() {
    let mut coins = Coins(10);
    for round in 0..300 {
        let rate = [0.0, 0.001, 0.5, 0.999, 1.0][round % 5];
        let mut side = |count: u32| -> Vec<Visit> {
            let one = |at: u32, coins: &mut Coins| {
                let calls = 1 + (coins.unit() * 100.0) as u64;
                Visit::share(at % 3, coins.heads(calls, rate), calls)
            };
            (0..count).map(|at| one(at, &mut coins)).collect()
        };
        let (ours, theirs) = (side(2 + round as u32 % 7), side(2 + round as u32 % 5));
        let there = super::question(0.1, ours.clone(), theirs.clone()).settle(0.01);
        let back = super::question(0.1, theirs, ours).settle(0.01);
        let (at, low, high) = (there.estimate.unwrap(), there.low.unwrap(), there.high.unwrap());
        assert!(-1.0 <= low && low <= at && at <= high && high <= 1.0, "{there:?}");
        assert!(high - low > 0.0, "{there:?}");
        assert!((low + back.high.unwrap()).abs() < 1e-9, "{there:?} {back:?}");
    }
}
