// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why something in the guest failed: our error, never the candidate's.

use std::fmt;

/// Why a step failed: our error, never the candidate's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    reason: String,
    unreachable: bool,
    about: Option<String>,
}

impl Failure {
    /// A failure in its own words.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), unreachable: false, about: None }
    }

    /// Not a failure: this very kernel cannot do what the step asks for.
    pub fn unreachable(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), unreachable: true, about: None }
    }

    /// Whether it is a fact about the kernel.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        self.unreachable
    }

    /// A failure of some work: "failed to …: errno".
    pub fn at(work: impl fmt::Display, error: &dyn std::error::Error) -> Self {
        Self { reason: format!("{work}: {error}"), unreachable: false, about: None }
    }

    /// The parameter of the step that it is about, or a part of one (`metrics[1].unit`): the
    /// host points at it in the spec.
    #[must_use]
    pub fn about(mut self, parameter: impl Into<String>) -> Self {
        self.about = Some(parameter.into());
        self
    }

    /// The parameter that it is about, if it is about one.
    #[must_use]
    pub fn parameter(&self) -> Option<&str> {
        self.about.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Failure {}
