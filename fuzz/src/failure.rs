// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why something in the guest failed: our error, never the candidate's.

use std::fmt;

/// Why a step failed: our error, never the candidate's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    reason: String,
    unreachable: bool,
}

impl Failure {
    /// A failure in its own words.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), unreachable: false }
    }

    /// Not a failure: this very kernel cannot do what the step asks for.
    pub fn unreachable(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), unreachable: true }
    }

    /// Whether it is a fact about the kernel.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        self.unreachable
    }

    /// A failure of some work: "failed to …: errno".
    pub fn at(work: impl fmt::Display, error: &dyn std::error::Error) -> Self {
        Self { reason: format!("{work}: {error}"), unreachable: false }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Failure {}
