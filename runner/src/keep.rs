// SPDX-License-Identifier: MIT OR Apache-2.0
//! What outlives a run or a stage: the cache, the run directory, the frozen spec.

pub mod bundle;
pub mod cache;
pub mod freeze;
pub mod remote;
pub mod store;

/// This program and its version, as it stands in what is kept.
#[must_use]
pub fn tool() -> String {
    format!("bakeoff {}", env!("CARGO_PKG_VERSION"))
}
