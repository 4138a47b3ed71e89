// SPDX-License-Identifier: MIT OR Apache-2.0
//! Settles kernel-patch disputes with evidence.
//!
//! Two ideas carry the program:
//!
//! 1. Every stage is a function from one saved product to the next:
//!    `Spec → Plan → Source → Kernel → Guest → Run → Observation → Comparison →
//!    Report`. A run directory (`keep::store`) holds them as files, so any stage can
//!    be repeated, resumed or inspected alone, and everything after the boot is
//!    testable without a VM.
//! 2. A candidate's failure is data; ours is an `Error`. What was not
//!    exercised is *inconclusive*, never *passed*.
//!
//! The rooms, in reading order; none imports from a later one:
//!
//! | room | what it does |
//! |---|---|
//! | `base` | errors, child processes, events and their display, embedded data |
//! | `spec` | YAML → `Spec` → `Plan`: cells in order, steps, seeds; architectures |
//! | `keep` | the only modules that know paths: cache, run directory, frozen spec |
//! | `series` | a mail thread, a folder, commits → a patch series and its base |
//! | `make` | base → tree → kernel; sources → guest binaries → initramfs |
//! | `machine` | kernel + initramfs → a running QEMU, its monitor, KVM or TCG |
//! | `see` | console → splats; records and console → observations |
//! | `run` | carries out a plan: schedule, boots, limits |
//! | `fuzz` | boots guests that fuzz themselves; findings, replay, reproducers |
//! | `judge` | observations → comparison → report; what doubts it: verify, calibrate, mutants |
//! | `fleet` | one run on several machines: shards, merging, Slurm |
//! | `trial` | a series → a bake-off that nobody had to write |
//! | `cli` | what was typed, what is printed |

mod base;
pub mod cli;
mod fleet;
mod fuzz;
mod judge;
mod keep;
mod machine;
mod make;
mod run;
mod see;
mod series;
mod spec;
mod trial;

/// The rooms, in the order of the table above.
#[cfg(test)]
mod rooms {
    use std::fs;
    use std::path::{Path, PathBuf};

    const ROOMS: [&str; 13] = [
        "base", "spec", "keep", "series", "make", "machine", "see", "run", "fuzz", "judge",
        "fleet", "trial", "cli",
    ];

    fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, into);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                into.push(path);
            }
        }
    }

    /// Rooms that a text names by `crate::room`.
    fn named(text: &str) -> impl Iterator<Item = &'static str> + '_ {
        ROOMS.into_iter().filter(move |room| {
            text.match_indices("crate::").any(|(at, path)| {
                let rest = text.get(at + path.len()..).unwrap_or_default();
                rest.strip_prefix(room).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
            })
        })
    }

    #[test]
    fn no_room_imports_from_a_later_one() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        sources(&root, &mut files);
        let place = |room: &str| ROOMS.iter().position(|known| *known == room);
        let mut wrong = Vec::new();
        let mut seen = 0;
        for file in files {
            let inside = file.strip_prefix(&root).unwrap();
            let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
            let Some(own) = place(first.trim_end_matches(".rs")) else { continue };
            seen += 1;
            let text = fs::read_to_string(&file).unwrap();
            let later = named(&text).filter(|room| place(room) > Some(own));
            wrong.extend(later.map(|room| format!("{} imports {room}", inside.display())));
        }
        assert!(seen > 100, "{seen} files");
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn names_are_found_whole() {
        let found: Vec<_> = named("use crate::spec::Spec; crate::keeper::x; crate::run;").collect();
        assert_eq!(found, ["spec", "run"]);
    }
}

/// Words of the bake-offs that tests speak of; the rooms know none of them.
#[cfg(test)]
#[path = "../tests/fixtures/judge/words.rs"]
mod words;

pub use base::error::exit_code;
pub use judge::claims;
pub use see::observe;
