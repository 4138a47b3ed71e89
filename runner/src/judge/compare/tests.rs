// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is concluded from what was seen, as stories.

mod claims;
mod gates;
mod splats;
pub(crate) mod story;
mod verdicts;
mod wrong;
