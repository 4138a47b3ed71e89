//! `WARN()`, and what is worded like one.

use super::super::{Blame, KindRule, Role, Row};
use crate::see::observe::Kind;

use Blame::{CallerAndEntry, Head, Nobody, Trace};
use KindRule::Is;
use Role::Opens;

/// The object is its owner's, who handed it to RCU to be freed.
const CALL_RCU: &[&str] = &["call_rcu*", "__call_rcu*", "kvfree_call_rcu*", "kfree_call_rcu*"];
/// The lock of a socket is every protocol's.
const SOCKET_LOCK: &[&str] = &["lock_sock*", "__lock_sock*", "release_sock*"];

/// In order: special before general.
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "refcount",
        heads: &[
            "WARNING: CPU: {cpu} PID: {pid} at lib/refcount.c:{line} {func}",
            "WARNING: CPU: {cpu} PID: {pid} at ./include/linux/refcount.h:{line} {func}",
            "WARNING: lib/refcount.c:{line} at {func}, CPU#{cpu}: {comm}/{n}",
            "WARNING: lib/refcount.c:{line} at {}, CPU#{cpu}: {comm}/{n}",
        ],
        kind: Is(Kind::RefcountWarning),
        title: "WARNING: refcount bug in {F}",
        class: "",
        blame: Head,
        also: &[],
        role: Opens,
        reason: "the count saturated; its owner is the first frame below the refcount helpers",
    },
    Row {
        name: "odebug",
        heads: &[
            "WARNING: CPU: {cpu} PID: {pid} at lib/debugobjects.c:{line} {func}",
            "WARNING: lib/debugobjects.c:{line} at {func}, CPU#{cpu}: {comm}/{n}",
            "WARNING: lib/debugobjects.c:{line} at {}, CPU#{cpu}: {comm}/{n}",
        ],
        kind: Is(Kind::Warning),
        title: "WARNING: ODEBUG bug in {F}",
        class: "",
        blame: Head,
        also: CALL_RCU,
        role: Opens,
        reason: "an active timer or work was freed or initialised again by its owner",
    },
    Row {
        name: "kobject",
        heads: &[
            "WARNING: CPU: {cpu} PID: {pid} at lib/kobject.c:{line} {func}",
            "WARNING: lib/kobject.c:{line} at {func}, CPU#{cpu}: {comm}/{n}",
            "WARNING: lib/kobject.c:{line} at {}, CPU#{cpu}: {comm}/{n}",
        ],
        kind: Is(Kind::Warning),
        title: "WARNING: kobject bug in {F}",
        class: "",
        blame: Head,
        also: &[],
        role: Opens,
        reason: "a kobject was added or released twice by its owner",
    },
    Row {
        name: "proc-registration",
        heads: &[
            "WARNING: CPU: {cpu} PID: {pid} at fs/proc/generic.c:{line} {func}",
            "WARNING: fs/proc/generic.c:{line} at {func}, CPU#{cpu}: {comm}/{n}",
            "WARNING: fs/proc/generic.c:{line} at {}, CPU#{cpu}: {comm}/{n}",
        ],
        kind: Is(Kind::Warning),
        title: "WARNING: proc registration bug in {F}",
        class: "",
        blame: Head,
        also: &[],
        role: Opens,
        reason: "a name in /proc was registered twice, or removed without being there",
    },
    Row {
        name: "usercopy-warning",
        heads: &[
            "WARNING: CPU: {cpu} PID: {pid} at mm/usercopy.c:{line} {func}",
            "WARNING: mm/usercopy.c:{line} at {func}, CPU#{cpu}: {comm}/{n}",
        ],
        kind: Is(Kind::Warning),
        title: "WARNING: bad usercopy in {F}",
        class: "",
        blame: Head,
        also: &[],
        role: Opens,
        reason: "hardened usercopy only warned (4.16 to 5.x): the copier is to blame, as with the BUG",
    },
    Row {
        name: "vmalloc-zero",
        heads: &[
            "WARNING: CPU: {cpu} PID: {pid} at mm/vmalloc.c:{line} __vmalloc_node_range{}",
            "WARNING: mm/vmalloc.c:{line} at __vmalloc_node_range{}, CPU#{cpu}: {comm}/{n}",
        ],
        kind: Is(Kind::Warning),
        title: "WARNING: zero-size vmalloc in {F}",
        class: "",
        blame: Trace,
        also: &[],
        role: Opens,
        reason: "that function warns about one thing only, a size of zero, which its caller computed",
    },
    Row {
        name: "kmalloc",
        heads: &[
            "WARNING: CPU: {cpu} PID: {pid} at mm/slab_common.c:{line} kmalloc_{}",
            "WARNING: CPU: {cpu} PID: {pid} at mm/util.c:{line} kvmalloc_{}",
            "WARNING: CPU: {cpu} PID: {pid} at mm/util.c:{line} __kvmalloc_{}",
            "WARNING: CPU: {cpu} PID: {pid} at mm/slub.c:{line} __kvmalloc_{}",
            "WARNING: mm/slub.c:{line} at __kvmalloc_{}, CPU#{cpu}: {comm}/{n}",
        ],
        kind: Is(Kind::Warning),
        title: "WARNING: kmalloc bug in {F}",
        class: "",
        blame: Trace,
        also: &[],
        role: Opens,
        reason: "a size no allocator can serve, taken from somewhere without a check",
    },
    Row {
        name: "locking-bug",
        heads: &[
            "WARNING: CPU: {cpu} PID: {pid} at kernel/locking/lockdep.c:{line} {func}",
            "WARNING: CPU: {cpu} PID: {pid} at kernel/lockdep.c:{line} {func}",
            "WARNING: kernel/locking/lockdep.c:{line} at {func}, CPU#{cpu}: {comm}/{n}",
            "WARNING: kernel/locking/lockdep.c:{line} at {}, CPU#{cpu}: {comm}/{n}",
        ],
        kind: Is(Kind::Lockdep),
        title: "WARNING: locking bug in {F}",
        class: "",
        blame: Head,
        also: SOCKET_LOCK,
        role: Opens,
        reason: "lockdep's own consistency checks: the lock of the caller is not what it seems",
    },
    Row {
        name: "usb-submit",
        heads: &[
            "WARNING: CPU: {cpu} PID: {pid} at drivers/usb/core/urb.c:{line} usb_submit_urb+{}",
            "WARNING: drivers/usb/core/urb.c:{line} at usb_submit_urb+{}, CPU#{cpu}: {comm}/{n}",
        ],
        kind: Is(Kind::Warning),
        title: "WARNING in {F}/usb_submit_urb",
        class: "",
        blame: CallerAndEntry,
        also: &[],
        role: Opens,
        reason: "every USB driver submits through one function with many checks: the driver's own \
                 function tells the bugs apart",
    },
    Row {
        name: "warn",
        heads: &[
            "WARNING: CPU: {cpu} PID: {pid} at {file}:{line} {func}",
            "WARNING: CPU: {cpu} PID: {pid} at {file}:{line}",
            "WARNING: {file}:{line} at {func}, CPU#{cpu}: {comm}/{n}",
            "WARNING: {file}:{line} at {}, CPU#{cpu}: {comm}/{n}",
            "WARNING: {file}:{line} at {func}",
            "WARNING: at {file}:{line} {func}",
            "WARNING: CPU: {cpu} PID: {pid} at {func}",
        ],
        kind: Is(Kind::Warning),
        title: "WARNING in {F}",
        class: "",
        blame: Head,
        also: &[],
        role: Opens,
        reason: "WARN_ON() failed in this function, or in an assertion helper of its caller",
    },
    Row {
        name: "stack-regs",
        heads: &["WARNING: kernel stack regs at {} in {comm}:{pid} has bad {what} value"],
        kind: Is(Kind::Other),
        title: "WARNING: kernel stack regs has bad {what} value",
        class: "",
        blame: Nobody,
        also: &[],
        role: Opens,
        reason: "the unwinder met a frame pointer that is none: some assembly code clobbers it",
    },
    Row {
        name: "stack-pointer",
        heads: &["WARNING: kernel stack frame pointer at {} in {comm}:{pid} has bad value"],
        kind: Is(Kind::Other),
        title: "WARNING: kernel stack frame pointer has bad value",
        class: "",
        blame: Nobody,
        also: &[],
        role: Opens,
        reason: "as above, found in the frame rather than in the registers",
    },
    Row {
        name: "stack-regs-old",
        heads: &["WARNING: kernel stack regs "],
        kind: Is(Kind::Other),
        title: "WARNING: kernel stack regs has bad value",
        class: "",
        blame: Nobody,
        also: &[],
        role: Opens,
        reason: "as above, when the message is cut before it names the register",
    },
];
