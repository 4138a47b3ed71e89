// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where things lie in the running kernel, found once in a boot.
//!
//! Finding them takes about a third of a second under emulation, most of it for
//! tracepoints that are switched on and off; every step would find the same. So
//! the first step of a boot leaves what it found to the others, in the guest's
//! own memory file system. What lies elsewhere for each process is not in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::interrupt::{self, Count};
use crate::{held, kernel};

/// Where a boot keeps them.
const FILE: &str = "/tmp/landmarks.json";

/// What the programs that look into the kernel need to know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landmarks {
    /// Addresses of kernel symbols, those asked for that there are.
    pub symbols: BTreeMap<String, u64>,
    /// The preempt count.
    pub count: Count,
    /// Offset of `mmap_lock`'s count in an `mm_struct`; in words, why not.
    pub mmap_lock: Result<u64, String>,
}

impl Landmarks {
    /// What an earlier step of this boot found, or what is found now. `symbols` are
    /// always the same ones. The calling thread is pinned to `cpu`.
    ///
    /// # Errors
    /// The kernel does not show its symbols, or none behaves like the preempt count.
    pub fn find(symbols: &[&str], cpu: u32) -> Result<Landmarks, Failure> {
        if let Some(known) = left_in(Path::new(FILE)) {
            return Ok(known);
        }
        let symbols =
            kernel::symbols(symbols).map_err(|e| Failure::at("reading /proc/kallsyms", &e))?;
        let count = interrupt::locate(&symbols, cpu)?;
        let mmap_lock = held::mmap_lock_in_mm().map_err(|why| why.to_string());
        let found = Landmarks { symbols, count, mmap_lock };
        leave_in(Path::new(FILE), &found);
        Ok(found)
    }
}

/// A file that is not there, or not whole, is none.
fn left_in(file: &Path) -> Option<Landmarks> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

/// Where it cannot be left, the next step finds it again.
fn leave_in(file: &Path, found: &Landmarks) {
    if let Ok(text) = serde_json::to_vec(found) {
        let _ = fs::write(file, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interrupt::{Layout, Place};

    /// What one step leaves is what the next one finds; half of it is nothing.
    #[test]
    fn they_are_left_and_found() {
        let file = std::env::temp_dir().join(format!("landmarks-{}", std::process::id()));
        assert_eq!(left_in(&file), None);
        let found = Landmarks {
            symbols: BTreeMap::from([("runqueues".to_owned(), 0xffff_8000_0000_1000)]),
            count: Count { place: Place::PerCpu(0x2a00), layout: Layout::Classic },
            mmap_lock: Err("2 places behave like it".to_owned()),
        };
        leave_in(&file, &found);
        assert_eq!(left_in(&file), Some(found));
        fs::write(&file, "{\"symbols\":{").unwrap();
        assert_eq!(left_in(&file), None);
        fs::remove_file(&file).unwrap();
    }
}
