// SPDX-License-Identifier: MIT OR Apache-2.0
pub mod buckets;
pub mod judged;
pub mod legal;
pub mod lookups;
