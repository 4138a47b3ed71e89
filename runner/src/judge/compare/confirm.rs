// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nobody is blamed for what was seen once, be it a report of the kernel or a wrong answer:
//! the boot that raised the suspicion does not count, fresh boots of candidate *and*
//! reference do, with Fisher's exact test.

use std::collections::BTreeSet;

use super::{Peers, Subject, splat, wrong};
use crate::judge::claims::{Confirmed, Seen, confirm, fisher};
use crate::judge::row::KOfN;
use crate::see::observation::Observation;

/// What one accusation may err.
pub(super) const ALPHA: f64 = 0.05;

/// What fresh boots of both kernels say.
pub(super) struct Asked {
    /// Whose it is.
    pub(super) confirmed: Confirmed,
    /// In words, with the boots that would tell, if these do not.
    pub(super) said: String,
    /// How probable a difference like this is, were both kernels the same.
    pub(super) p: f64,
}

/// Asks fresh boots; `show` are the words for what they do.
pub(super) fn ask(fresh: Seen, theirs: Seen, show: &str) -> Asked {
    let said = format!(
        "{} of {} fresh boots{show}, {} of {} of the reference",
        fresh.times, fresh.of, theirs.times, theirs.of
    );
    let confirmed = confirm(fresh, theirs, ALPHA);
    let said = match confirmed {
        Confirmed::Open { boots: Some(boots) } => format!("{said}; {boots} of each would tell"),
        Confirmed::Open { boots: None }
        | Confirmed::Added
        | Confirmed::Both
        | Confirmed::SeenOnce => said,
    };
    Asked { confirmed, said, p: fisher(fresh, theirs).more }
}

pub(super) fn k_of_n(times: Seen) -> KOfN {
    KOfN { k: times.times, n: times.of }
}

/// Something seen that wants fresh boots.
pub(crate) struct ToConfirm {
    /// The steps that provoke it.
    pub(crate) steps: BTreeSet<u32>,
    /// What it is.
    pub(crate) title: String,
    /// The candidate is to boot once more.
    pub(crate) more_here: bool,
    /// The reference is.
    pub(crate) more_there: bool,
}

/// What fresh boots of a cell and its reference would decide: what was seen, not confirmed,
/// and may still be.
pub(crate) fn to_confirm(
    ours: &Observation,
    peers: &Peers<'_>,
    subject: &Subject<'_>,
) -> Vec<ToConfirm> {
    let mut all = splat::to_confirm(ours, peers, subject.known);
    all.extend(wrong::to_confirm(ours, peers, subject.plan));
    all
}
