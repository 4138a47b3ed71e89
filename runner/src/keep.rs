// SPDX-License-Identifier: MIT OR Apache-2.0
//! What outlives a run or a stage: the cache, the run directory, the frozen spec.

pub mod cache;
pub mod freeze;
pub mod store;
