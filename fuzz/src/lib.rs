// SPDX-License-Identifier: MIT OR Apache-2.0
//! What runs inside the guest, and the words it speaks with the host.

pub mod wire;

/// Hash of this package's sources, set by `build.rs`: host and guest compare it.
pub const SOURCE_HASH: &str = env!("BAKEOFF_FUZZ_SOURCE_HASH");
