// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzing, as far as it happens on the host: boots guests that fuzz
//! themselves, keeps what they find, and goes on when one dies.
//!
//! - [`mod@bench`]: a spec, a candidate and an architecture become a kernel and a
//!   guest binary, ready to be booted.
//! - [`session`]: one boot, listened to until it ends; how it ended, what was on
//!   its console, and which program was in flight.
//! - [`campaign`]: boots until the time is up; corpus and coverage go from one
//!   boot to the next.
//! - [`corpus`]: programs in a folder.
//! - [`coverage`]: addresses become functions and files of the kernel.
//! - [`distill`]: the fewest programs that cover what all do.
//! - [`finding`]: splats with the programs that may have caused them, kept in a
//!   folder each.
//! - [`reach`]: which operations run through which files of the kernel.
//! - [`replay`]: programs run again, in order, in fresh boots.
//! - [`smaller`]: programs made smaller.
//! - [`repro`]: a program as one C file; [`native`]: that file in a guest.
//! - [`reproduce`]: all that is done about a finding.
//! - [`across`]: one corpus on two kernels, and what differs.
//! - [`summary`]: what a campaign has come to, in numbers.
//! - [`uapi`]: the interface by the base's headers, and which operation produces what.

pub mod across;
pub mod bench;
pub mod campaign;
pub mod corpus;
pub mod coverage;
pub mod distill;
pub mod finding;
pub mod native;
pub mod reach;
pub mod replay;
pub mod repro;
pub mod reproduce;
pub mod rows;
pub mod session;
pub mod smaller;
pub mod stage;
pub mod summary;
pub mod uapi;

pub use campaign::{Campaign, fuzz};
