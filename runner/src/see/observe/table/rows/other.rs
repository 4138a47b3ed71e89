//! Reports of single subsystems, of what runs beside the kernel, and whatever else calls itself a bug.

use super::super::{Blame, KindRule, Role, Row};
use crate::see::observe::Kind;

use Blame::Nobody;
use KindRule::Is;
use Role::{NeedsStack, OneLine, Opens};

/// In order: special before general.
pub(super) const ROWS: &[Row] = &[
    // ---- file systems, network ----
    Row {
        name: "dentry-in-use",
        heads: &["BUG: Dentry {} still in use ({n}) [{what}]", "BUG: Dentry {} still in use"],
        kind: Is(Kind::Other),
        title: "BUG: Dentry still in use in unmount",
        class: "BUG: Dentry still in use [{what}]",
        blame: Nobody,
        also: &[],
        role: Opens,
        reason: "a reference to a directory entry outlived its file system: the stack shows who \
                 unmounts, not who leaks",
    },
    Row {
        name: "busy-inodes",
        heads: &["VFS: Busy inodes after unmount"],
        kind: Is(Kind::DenialOfService),
        title: "VFS: Busy inodes after unmount (use-after-free)",
        class: "",
        blame: Nobody,
        also: &[],
        role: OneLine,
        reason: "inodes outlive their superblock: whatever touches them next touches freed memory",
    },
    Row {
        name: "file-closed-twice",
        heads: &["VFS: Close: file count is 0"],
        kind: Is(Kind::DenialOfService),
        title: "VFS: Close: file count is zero (use-after-free)",
        class: "",
        blame: Nobody,
        also: &[],
        role: OneLine,
        reason: "a file is closed that nobody holds: its memory is free already",
    },
    Row {
        name: "netdevice-leak",
        heads: &["unregister_netdevice: waiting for {} to become free"],
        kind: Is(Kind::Other),
        title: "unregister_netdevice: waiting for DEV to become free",
        class: "",
        blame: Nobody,
        also: &[],
        role: OneLine,
        reason: "somebody holds a reference to a device that is going away, for good",
    },
    // ---- not the kernel ----
    Row {
        name: "trusty",
        heads: &["trusty: panic (caller {}): {}ASSERT FAILED at ({}): {text}", "trusty: panic"],
        kind: Is(Kind::DenialOfService),
        title: "trusty: ASSERT FAILED: {text}",
        class: "",
        blame: Nobody,
        also: &[],
        role: Opens,
        reason: "the secure world of Arm devices prints its failed assertions on the same console, \
                 and takes the kernel with it",
    },
    Row {
        name: "harness",
        heads: &["SYZFAIL: {text}", "SYZFATAL: {text}"],
        kind: Is(Kind::HarnessFailure),
        title: "{text}",
        class: "",
        blame: Nobody,
        also: &[],
        role: OneLine,
        reason: "the program that drove the kernel gave up: the run proves nothing",
    },
    Row {
        name: "reboot",
        heads: &["Booting the kernel"],
        kind: Is(Kind::UnexpectedReboot),
        title: "unexpected kernel reboot",
        class: "",
        blame: Nobody,
        also: &[],
        role: OneLine,
        reason: "the decompressor speaks on a console on which a kernel ran already, and that one \
                 announced neither a restart nor a panic: it was reset",
    },
    // ---- anything else that calls itself a bug ----
    Row {
        name: "other-bug",
        heads: &["BUG: {text}"],
        kind: Is(Kind::Other),
        title: "BUG: {text}",
        class: "",
        blame: Nobody,
        also: &[],
        role: NeedsStack,
        reason: "new kernels have new reports: better an unknown one than none",
    },
    Row {
        name: "other-warning",
        heads: &["WARNING: {text}"],
        kind: Is(Kind::Warning),
        title: "WARNING: {text}",
        class: "",
        blame: Nobody,
        also: &[],
        role: NeedsStack,
        reason: "drivers and daemons say WARNING about all and sundry: only a stack makes it a \
                 report",
    },
    Row {
        name: "other-info",
        heads: &["INFO: {text}"],
        kind: Is(Kind::Other),
        title: "INFO: {text}",
        class: "",
        blame: Nobody,
        also: &[],
        role: NeedsStack,
        reason: "the kernel words some reports as information; most lines that say INFO are just that, so only a stack makes one a report",
    },
];
