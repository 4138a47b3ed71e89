// SPDX-License-Identifier: MIT OR Apache-2.0
//! Settles kernel-patch disputes with evidence.
//!
//! Two ideas carry the program:
//!
//! 1. Every stage is a function from one saved product to the next:
//!    `Spec → Plan → Source → Kernel → Guest → Run → Observation → Comparison →
//!    Report`. A run directory ([`store`]) holds them as files, so any stage can
//!    be repeated, resumed or inspected alone, and everything after the boot is
//!    testable without a VM.
//! 2. A candidate's failure is data; ours is an [`error::Error`]. What was not
//!    exercised is *inconclusive*, never *passed*.
//!
//! | stage | from → to | module |
//! |---|---|---|
//! | read | YAML → `Spec` | [`spec`], [`arch`], [`data`] |
//! | plan | `Spec` → `Plan`: cells in order, steps, seeds | [`plan`], [`dry_run`], [`expect`] |
//! | source | base → tree; series → applied | [`source`] |
//! | build | tree + fragments → kernel | [`compile`], the one door to make |
//! | guest | sources → static binaries → initramfs | [`guest`] |
//! | boot | kernel + initramfs → a running guest | [`boot`], [`accel`], [`qmp`] |
//! | exercise | guest + workload → console, records, end | [`exercise`], [`watch`] |
//! | observe | console → splats; run directory → observations | [`observe`], [`records`], [`assemble`], [`observation`] |
//! | compare | observations → rates, splats, findings, verdicts | [`compare`], [`stats`] |
//! | report | comparison → text, JSON, markdown, HTML | [`report`], [`judge`] |
//!
//! [`run`] carries out a plan and [`schedule`] says what the next boot has to do;
//! [`store`] and [`cache`] are the only modules that know paths; [`freeze`] keeps
//! the spec as it was; [`command`] starts and ends every child process; [`event`]
//! and [`progress`] tell what goes on; [`prereq`] knows what has to be installed.
//!
//! Two modules doubt the others: [`verify`] recounts a report by another path, and
//! [`calibrate`] sets the reference against itself. [`mod@bench`] measures what all
//! this costs. [`fuzzing`] boots guests that fuzz themselves.

pub mod accel;
pub mod arch;
pub mod assemble;
pub mod bench;
pub mod boot;
pub mod cache;
pub mod calibrate;
pub mod command;
pub mod compare;
pub mod compile;
pub mod data;
pub mod dry_run;
pub mod error;
pub mod event;
pub mod exercise;
pub mod expect;
pub mod freeze;
pub mod fuzzing;
pub mod guest;
pub mod judge;
pub mod observation;
pub mod observe;
pub mod plan;
pub mod prereq;
pub mod progress;
pub mod qmp;
pub mod records;
pub mod report;
pub mod run;
pub mod schedule;
pub mod source;
pub mod spec;
pub mod stats;
pub mod store;
pub mod verify;
pub mod watch;
