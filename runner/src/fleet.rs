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

use crate::base::command::Cancel;
use crate::base::error::Result;
use crate::keep::store::Store;
use crate::make::source::workspace::copy_tree;

/// Copies the frozen spec of a run and what was added to it: who edits a spec must not
/// change another run's.
fn copy_spec(from: &Store, to: &Store, cancel: &Cancel) -> Result<()> {
    for dir in [from.spec_dir(), from.added_dir()] {
        if dir.is_dir() {
            copy_tree(&dir, &to.root().join(from.relative(&dir)), &|_| false, cancel)?;
        }
    }
    Ok(())
}
