// SPDX-License-Identifier: MIT OR Apache-2.0
//! From sources to kernels and guest binaries, and what has to be installed for it.

pub mod compile;
pub mod guest;
pub mod prereq;
pub mod source;
pub mod workload;
