// SPDX-License-Identifier: MIT OR Apache-2.0
//! What runs inside the guest, and the words it speaks with the host.
//!
//! A guest of bakeoff's has one program, the [`agent`], as PID 1. It reads one
//! workload, makes each visit to a [`probe`] in a process of its own, and sends
//! records in the words of [`wire`]. The host shares those words and the table
//! of probes, nothing else.
//!
//! | module | |
//! |---|---|
//! | [`wire`] | guest → host records, host → guest workload |
//! | [`agent`] | PID 1 and the processes of its visits |
//! | [`guest`] | is this a guest of ours; its set-up, port and end |
//! | [`probe`] | the table of probes, one file a probe |
//! | [`chance`] | what is random in a visit |
//! | [`interrupt`], [`held`], [`landmarks`] | which level a BPF program ran at, and under which locks, proven |
//! | [`kernel`], [`elf`] | what kernel and executable say of themselves |
//! | [`object`] | shared objects of our own |
//! | [`bpf`] | an assembler for BPF programs |
//! | [`program`], [`op`] | fuzz programs: what one is, how it changes, its text |
//! | [`fuzzer`] | PID 1 of a guest that is fuzzed, its workers, their records |
//! | [`engine`] | runs fuzz programs |
//! | [`oracle`] | what a kernel may answer, a row each: what it judges and what it cannot |
//! | [`stats`] | intervals for rates |
//! | [`sys`] | system calls and sampled code: the only `unsafe` |
//!
//! Guest binaries refuse to run anywhere else: exit code
//! [`guest::EXIT_NOT_A_GUEST`].

pub mod agent;
pub mod bpf;
pub mod chance;
pub mod elf;
pub mod engine;
pub mod failure;
pub mod fuzzer;
pub mod guest;
pub mod held;
pub mod interrupt;
pub mod kernel;
pub mod landmarks;
pub mod object;
pub mod op;
pub mod oracle;
pub mod probe;
pub mod program;
pub mod stats;
pub mod sys;
pub mod wire;

/// Hash of this package's sources, set by `build.rs`: host and guest compare it.
pub const SOURCE_HASH: &str = env!("BAKEOFF_FUZZ_SOURCE_HASH");

/// The hash as it stands in every binary built from these sources, where the
/// host finds it without running the binary.
#[used]
pub static SOURCE_MARK: &str =
    concat!("bakeoff-fuzz-source:", env!("BAKEOFF_FUZZ_SOURCE_HASH"), ";");
