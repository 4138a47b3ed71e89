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
//! | `judge` | observations → comparison → report; and what doubts them: verify, calibrate |
//! | `fuzz` | boots guests that fuzz themselves; findings, replay, reproducers |
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

/// Words of the bake-offs that tests speak of; the rooms know none of them.
#[cfg(test)]
#[path = "../tests/fixtures/judge/words.rs"]
mod words;

pub use base::error::exit_code;
pub use judge::claims;
pub use see::observe;
