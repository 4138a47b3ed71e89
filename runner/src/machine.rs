// SPDX-License-Identifier: MIT OR Apache-2.0
//! The virtual machine: accelerator, QEMU and its monitor.

pub mod accel;
pub mod boot;
pub mod listen;
pub mod qmp;
