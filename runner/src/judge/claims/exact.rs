// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exact statements about few events: a splat in some boots, no wrong answer in many.

pub use bakeoff_fuzz::stats::clopper_pearson;
use bakeoff_fuzz::stats::special::ln_gamma;

use super::float;

/// `k` of `n`: boots with the splat, answers that were wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Times it was seen.
    pub times: u64,
    /// Times it could have been.
    pub of: u64,
}

/// Fisher's exact test of two counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fisher {
    /// How probable so many or more on the first side are, were both the same.
    pub more: f64,
    /// How probable so few or fewer are.
    pub fewer: f64,
    /// How probable a table as improbable as this one, or more so, is.
    pub two_sided: f64,
}

/// The exact test of the first side against the second. Counts beyond their number are
/// taken for all.
#[must_use]
pub fn fisher(first: Seen, second: Seen) -> Fisher {
    let (n, m) = (first.of, second.of);
    let k = first.times.min(n);
    let all = k + second.times.min(m);
    let choose = |n: u64, k: u64| {
        ln_gamma(float(n) + 1.0) - ln_gamma(float(k) + 1.0) - ln_gamma(float(n - k) + 1.0)
    };
    let total = choose(n + m, all);
    let probability = |i: u64| (choose(n, i) + choose(m, all - i) - total).exp();
    let here = probability(k);
    let (mut more, mut fewer, mut two_sided) = (0.0, 0.0, 0.0);
    for i in all.saturating_sub(m)..=all.min(n) {
        let p = probability(i);
        if i >= k {
            more += p;
        }
        if i <= k {
            fewer += p;
        }
        // Tables of the same probability differ by rounding.
        if p <= here * (1.0 + 1e-7) {
            two_sided += p;
        }
    }
    Fisher { more: more.min(1.0), fewer: fewer.min(1.0), two_sided: two_sided.min(1.0) }
}

/// What fresh boots say about something that was seen once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// Not seen again: nobody is blamed for it.
    SeenOnce,
    /// The candidate shows it, and the reference does not as often.
    Added,
    /// The reference shows it, too: it is not the candidate's.
    Both,
    /// Seen again, in too few boots to tell.
    Open {
        /// Fresh boots of each kernel that would tell, if the candidate went on as it did
        /// and the reference stayed clean; `None` if no number below 1,000 would.
        boots: Option<u64>,
    },
}

/// Judges fresh boots of both kernels, never the boot that raised the suspicion: it was
/// chosen because it showed the thing. `alpha` is what one such question may err.
#[must_use]
pub fn confirm(candidate: Seen, reference: Seen, alpha: f64) -> Confirmed {
    if candidate.times == 0 {
        return if reference.times > 0 { Confirmed::Both } else { Confirmed::SeenOnce };
    }
    if fisher(candidate, reference).more <= alpha {
        return Confirmed::Added;
    }
    if reference.times > 0 {
        return Confirmed::Both;
    }
    Confirmed::Open { boots: fewest_boots(candidate, alpha) }
}

/// Fresh boots of each kernel after which as many of the candidate's as `seen` says,
/// against none, lie within `alpha`.
fn fewest_boots(seen: Seen, alpha: f64) -> Option<u64> {
    let of = seen.of.max(1);
    (1..1000).find(|boots| {
        let times = boots * seen.times.min(of) / of;
        let all = Seen { times, of: *boots };
        times > 0 && fisher(all, Seen { times: 0, of: *boots }).more <= alpha
    })
}

/// What it is worth that a check found nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Zero {
    /// How many the check would have shown, had there been something to find.
    pub expected: f64,
    /// How probable nothing would have been then.
    pub chance: f64,
    /// Nothing counts: it would have been improbable (at most 5 %, three expected).
    pub counts: bool,
}

/// Nothing counts only where, by chance, it would be seen in at most this part.
const CHANCE: f64 = 0.05;

/// A check that found nothing in `tries`, given that the same check finds a planted or
/// known fault as often as `known` says.
///
/// With a well-known rate that asks for an expectation of three (e⁻³ = 5 %); a rate that
/// rests on few finds asks for more, by Fisher's exact test: 0 of `tries` against `known`.
#[must_use]
pub fn zero_means(known: Seen, tries: u64) -> Zero {
    if known.of == 0 || known.times == 0 {
        return Zero { expected: 0.0, chance: 1.0, counts: false };
    }
    let expected = float(known.times) / float(known.of) * float(tries);
    let chance = fisher(Seen { times: 0, of: tries }, known).fewer;
    Zero { expected, chance, counts: chance <= CHANCE && expected >= LEAST_EXPECTED }
}

/// e⁻³ is just below 5 %.
const LEAST_EXPECTED: f64 = 3.0;
