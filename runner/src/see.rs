// SPDX-License-Identifier: MIT OR Apache-2.0
//! From what a guest said to observations: records, console, splats.

pub mod assemble;
pub(crate) mod logs;
pub mod observation;
pub mod observe;
pub mod records;
