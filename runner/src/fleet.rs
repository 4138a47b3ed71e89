// SPDX-License-Identifier: MIT OR Apache-2.0
//! One run on several machines.
//!
//! A *shard* is what is compared with each other: one base, architecture and profile with
//! reference, control and all contenders. It is never split, for machines are never
//! compared. A shard's run directory has the whole plan and does its own part of it, so
//! that what is left to be decided is decided as in the whole run; [`merge`] is the
//! union of what shards measured. [`slurm`] has a cluster do them.

pub mod merge;
pub mod shard;
pub mod slurm;
