//! `WARN()`, and what is worded like one.

use super::super::{Blame, KindRule, Role, Row};
use crate::see::observe::Kind;

use Blame::{Head, Nobody, Trace};
use KindRule::Is;
use Role::Opens;

/// The heads of a WARN in these files, in all the wordings that `kernel/panic.c` had: with CPU and
/// task since 3.11, with the place first since 6.19, and without a function from kernels that have
/// no symbols.
macro_rules! warns_in {
    ($($file:literal),+) => {
        &[$(
            concat!("WARNING: CPU: {cpu} PID: {pid} at {}", $file, ":{line} {func}"),
            concat!("WARNING: CPU: {cpu} PID: {pid} at {}", $file, ":{line}"),
            concat!("WARNING: at {}", $file, ":{line} {func}"),
            concat!("WARNING: at {}", $file, ":{line}"),
            concat!("WARNING: {}", $file, ":{line} at {func}, CPU#{cpu}: {comm}/{n}"),
            concat!("WARNING: {}", $file, ":{line} at {}, CPU#{cpu}: {comm}/{n}"),
        )+]
    };
}

/// The same, of functions with these names.
macro_rules! warns_of {
    ($($file:literal $function:literal),+) => {
        &[$(
            concat!("WARNING: CPU: {cpu} PID: {pid} at {}", $file, ":{line} ", $function, "{}"),
            concat!("WARNING: at {}", $file, ":{line} ", $function, "{}"),
            concat!("WARNING: {}", $file, ":{line} at ", $function, "{}, CPU#{cpu}: {comm}/{n}"),
        )+]
    };
}

/// The object is its owner's, who starts, stops and frees it.
const OBJECT_USERS: &[&str] = &[
    "*debug_*",
    "*rcu*",
    "*hrtimer_*",
    "*timer_*",
    "*work_*",
    "*percpu_*",
    "*vunmap*",
    "*vfree*",
    "*__free_*",
    "*kobject_*",
];
/// The calls of the DMA API, and the checks they make if it is debugged.
const DMA_CALLS: &[&str] = &[
    "*debug_dma*",
    "*dma_alloc*",
    "*dma_free*",
    "*dma_map*",
    "*dma_sync*",
    "*dma_unmap*",
    "*dmam_*",
    "active_cacheline_*",
    "add_dma_entry*",
    "check_for_*",
    "check_sg_segment*",
    "check_sync*",
    "check_unmap*",
    "dma_entry_*",
];
/// The lock of a socket is every protocol's.
const SOCKET_LOCK: &[&str] = &["*lock_sock*", "*release_sock*"];

/// In order: special before general.
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "refcount",
        heads: warns_in!("lib/refcount.c", "include/linux/refcount.h"),
        kind: Is(Kind::RefcountWarning),
        title: "WARNING: refcount bug in {F}",
        class: "",
        blame: Head,
        also: &["*refcount*", "*kobject_*"],
        role: Opens,
        reason: "the count saturated; its owner is the first frame below the refcount helpers",
    },
    Row {
        name: "odebug",
        heads: warns_in!("lib/debugobjects.c"),
        kind: Is(Kind::Warning),
        title: "WARNING: ODEBUG bug in {F}",
        class: "",
        blame: Head,
        also: OBJECT_USERS,
        role: Opens,
        reason: "an active timer or work was freed or initialised again by its owner",
    },
    Row {
        name: "kobject",
        heads: warns_in!("lib/kobject.c"),
        kind: Is(Kind::Warning),
        title: "WARNING: kobject bug in {F}",
        class: "",
        blame: Head,
        also: &["*kobject_*"],
        role: Opens,
        reason: "a kobject was added or released twice by its owner",
    },
    Row {
        name: "kobject-state",
        heads: &["ialized object, something is seriously wrong"],
        kind: Is(Kind::Warning),
        title: "WARNING: kobject bug in {F}",
        class: "",
        blame: Trace,
        also: &["*kobject_*"],
        role: Opens,
        reason: "the checks of lib/kobject.c that print a stack themselves: initialised twice, or added without",
    },
    Row {
        name: "proc-registration",
        heads: warns_in!("fs/proc/generic.c"),
        kind: Is(Kind::Warning),
        title: "WARNING: proc registration bug in {F}",
        class: "",
        blame: Head,
        also: &["*proc_*"],
        role: Opens,
        reason: "a name in /proc was registered twice, or removed without being there",
    },
    Row {
        name: "usercopy-warning",
        heads: warns_in!("mm/usercopy.c"),
        kind: Is(Kind::Warning),
        title: "WARNING: bad usercopy in {F}",
        class: "",
        blame: Head,
        also: &["*usercopy*", "*__check*"],
        role: Opens,
        reason: "hardened usercopy only warned (4.16 to 5.x): the copier is to blame, as with the BUG",
    },
    Row {
        name: "vmalloc-zero",
        heads: warns_of!("mm/vmalloc.c" "__vmalloc_node_range"),
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
        heads: warns_of!(
            "mm/slab_common.c" "kmalloc_",
            "mm/util.c" "kvmalloc_",
            "mm/util.c" "__kvmalloc_",
            "mm/slub.c" "__kvmalloc_"
        ),
        kind: Is(Kind::Warning),
        title: "WARNING: kmalloc bug in {F}",
        class: "",
        blame: Trace,
        also: &["*kmalloc*", "*krealloc*", "*slab*", "*kmem*"],
        role: Opens,
        reason: "a size no allocator can serve, taken from somewhere without a check",
    },
    Row {
        name: "dma-api",
        heads: warns_in!("kernel/dma/debug.c", "lib/dma-debug.c"),
        kind: Is(Kind::Warning),
        title: "WARNING in {F}",
        class: "WARNING: DMA-API bug in {F}",
        blame: Head,
        also: DMA_CALLS,
        role: Opens,
        reason: "DMA_API_DEBUG keeps books for the drivers: who maps, unmaps or synchronises is the \
                 first frame outside of it",
    },
    Row {
        name: "locking-bug",
        heads: warns_in!("kernel/locking/lockdep.c", "kernel/lockdep.c"),
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
        heads: warns_of!("drivers/usb/core/urb.c" "usb_submit_urb+"),
        kind: Is(Kind::Warning),
        title: "WARNING in {F}/usb_submit_urb",
        class: "",
        blame: Head,
        also: &[
            "*usb_submit_urb*",
            "*usb_start_wait_urb*",
            "*usb_bulk_msg*",
            "*usb_interrupt_msg*",
        ],
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
            "WARNING: at {func}, CPU#{cpu}: {comm}/{n}",
            "WARNING: at {file}:{line} {func}",
            "WARNING: at {file}:{line}",
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
        name: "cfi",
        heads: &["CFI failure at {func} (target: {}", "CFI failure (target: {}", "CFI failure "],
        kind: Is(Kind::Warning),
        title: "CFI failure in {F}",
        class: "",
        blame: Head,
        also: &["*cfi_check*", "*cfi_slowpath*", "*cfi_failure*"],
        role: Opens,
        reason: "a pointer was called whose type is not that of the function: the caller is in the head or in the stack",
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
