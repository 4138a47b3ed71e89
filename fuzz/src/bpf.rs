// SPDX-License-Identifier: MIT OR Apache-2.0
//! BPF programs, written instruction by instruction.
//!
//! A guest has neither clang nor libbpf, and the programs are a few dozen
//! instructions: an assembler with labels, and six types, are all they need.

pub mod btf;
pub mod insn;
pub mod vmlinux;
