// SPDX-License-Identifier: MIT OR Apache-2.0
//! Paths that somebody else wrote.

use std::path::{Component, Path};

/// Whether a relative link at `at` ends inside the tree that `at` is a path in.
#[must_use]
pub fn stays_inside(at: &Path, target: &Path) -> bool {
    let mut depth = at.components().count().saturating_sub(1);
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}
