// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much boots of one kernel differ, from all rates of one kind.
//!
//! Under stress two boots of the same kernel differ by more than the blocks of
//! either do: how the host schedules the guest's CPUs stays as it is for a while.
//! An interval that does not know that would blame a candidate for its host. What
//! is of one kind: rates of one metric, in one context, under one stress, asked by
//! one interface, on one base, architecture and profile. The conditions and the
//! candidates among them (periods, duties, stacks) have their own rates, and share
//! how much boots differ ([`Between`]).

use std::collections::BTreeMap;

use crate::spec::{Role, word};

use crate::judge::stats::{Between, Cluster};

use super::rate::Rate;
use super::row::RateRow;

/// What a rate's kind is.
fn kind(row: &RateRow) -> [String; 4] {
    [row.metric.clone(), word(row.context), word(row.stress), word(row.interface)]
}

/// Widens the intervals of all rates of each group by how much boots differ.
pub(super) fn widen(groups: &mut [Vec<(Role, Vec<Rate>)>]) {
    for group in groups {
        let mut kinds: BTreeMap<[String; 4], Vec<Vec<Cluster>>> = BTreeMap::new();
        for rate in group.iter().flat_map(|(_, rates)| rates) {
            kinds.entry(kind(&rate.row)).or_default().push(rate.boots.clone());
        }
        let known: BTreeMap<[String; 4], Option<Between>> =
            kinds.into_iter().map(|(kind, boots)| (kind, Between::pooled(&boots))).collect();
        for rate in group.iter_mut().flat_map(|(_, rates)| rates) {
            rate.among_boots(known.get(&kind(&rate.row)).copied().flatten());
        }
    }
}
