// SPDX-License-Identifier: MIT OR Apache-2.0
//! What runs inside the guest, and the words it speaks with the host.

pub mod wire;

/// Hash of this package's sources, set by `build.rs`: host and guest compare it.
pub const SOURCE_HASH: &str = env!("BAKEOFF_FUZZ_SOURCE_HASH");

/// The hash as it stands in every binary built from these sources, where the
/// host finds it without running the binary.
#[used]
pub static SOURCE_MARK: &str =
    concat!("bakeoff-fuzz-source:", env!("BAKEOFF_FUZZ_SOURCE_HASH"), ";");
