// SPDX-License-Identifier: MIT OR Apache-2.0
//! What everything stands on: errors, child processes, events and their display, embedded
//! data, paths of others, YAML with places, near words.

pub mod command;
pub mod data;
pub mod error;
pub mod event;
pub mod path;
pub mod progress;
pub mod scratch;
pub mod verdict;
pub mod words;
pub mod yaml;
