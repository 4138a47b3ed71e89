// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words in which a run concludes. Specs ask for them, reports state them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a splat is, seen from the reference and the control.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum SplatReading {
    /// It comes again in fresh boots of the candidate, and not in those of the reference.
    Introduced,
    /// The candidate shows it and the reference does not, but not often enough to blame
    /// anybody.
    SeenOnce,
    /// The reference has it too, less often: the patch may only have uncovered it.
    Exposed,
    /// The control has it; here what provokes it ran with lockdep on, and it did not come.
    Fixed,
    /// The control's: in the control it is the bug, in a contender it is still there.
    Control,
    /// The reference has it as well.
    Present,
    /// The spec knows of it, or it was raised by the printing of another report: it blames
    /// nobody.
    Background,
    /// Cannot be told: the report is garbled, or what would show it did not run (with
    /// lockdep on) where it should have.
    Unclear,
}

/// What a claim came to.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ClaimReading {
    /// All of the interval lies on the good side of the reference.
    Gains,
    /// All of it lies on the bad side.
    Loses,
    /// All of it lies on the bad side, and within the margin.
    LosesLittle,
    /// No loss beyond the margin.
    NoWorse,
    /// Not decided.
    Open,
    /// Never measured on both kernels.
    NotReached,
}

/// What a zero count of wrong answers is worth.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum WrongReading {
    /// Wrong answers, confirmed in fresh boots of candidate and reference.
    Wrong,
    /// Wrong answers that the reference gives, too.
    Present,
    /// Wrong answers, not confirmed: nobody is blamed for them yet.
    SeenOnce,
    /// None, where the negative control would have shown at least three.
    None,
    /// None, but the negative control would hardly have shown any either.
    NotShown,
    /// Never exercised.
    NotReached,
}

/// What is concluded of a candidate on one architecture.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every claim is no worse or gains, no confirmed new splat, no wrong answer, and it
    /// could be tested.
    Ok,
    /// A loss, a new splat, a wrong answer, a kernel that does not build, boot or live.
    NotOk,
    /// Something that had to be known is not.
    Open,
}
