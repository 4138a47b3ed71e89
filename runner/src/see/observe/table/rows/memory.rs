//! Reports about memory: the sanitizers, and the checks of allocators and page tables.

use super::super::{Blame, KindRule, Role, Row};
use crate::see::observe::Kind;

use Blame::{FirstStack, Head, HeadFirst, HeadOnly, IfPrinted, Nobody, Trace};
use KindRule::Is;
use Role::{AtStart, OneLine, Opens};

/// A constructor allocates for its caller, and only the caller can forget the object.
const ALLOCATES: &[&str] = &[
    "*kmemleak*",
    "*mmap*",
    "*kmem*",
    "*slab*",
    "*alloc*",
    "*create_object*",
    "*idr_get*",
    "*list_lru_init*",
    "*pcpu_create*",
];
/// How memory is given back: the object is its owner's.
const FREES: &[&str] = &["*slab_*", "*kfree*", "*vunmap*", "*vfree*"];
/// Who takes a page for somebody else, and how it is given back.
const PAGE_HELPERS: &[&str] = &[
    "*free_page*",
    "*put_page*",
    "*get_page*",
    "*update_page*",
    "*release_page*",
    "*free_unref*",
    "folio*",
    "_folio*",
    "__folio*",
    "*truncate_inode_pages*",
    "*page_frag_free*",
    "*alloc*",
    "*vmap*",
    "*page_owner*",
];
/// Code that uses a value on behalf of whoever passed it: messages are sent, data is encrypted.
const CONSUMERS: &[&str] = &[
    "*alloc_skb*",
    "*netlink_ack*",
    "*netlink_rcv_skb*",
    "*_encrypt",
    "crypto_*",
    "cipher_*",
    "drbg_*",
    "rng_*",
];
/// What stands between whoever asks for memory and the page allocator.
const ASKS_FOR_PAGES: &[&str] =
    &["*alloc*", "*get_free_page*", "*new_slab*", "*cache_grow*", "*skb_page_frag*"];
/// A transfer is its driver's.
const TRANSFERS: &[&str] = &[
    "*alloc_skb*",
    "*usb_submit_urb*",
    "*usb_start_wait_urb*",
    "*usb_bulk_msg*",
    "*usb_interrupt_msg*",
];
/// How a bad tag becomes a report: on arm64 the CPU checks, and traps.
const TAG_FAULT: &[&str] = &["*kernel_fault*", "*tag_check*", "*mem_abort*", "el1_*", "el1h_*"];

/// In order: special before general.
pub(super) const ROWS: &[Row] = &[
    // ---- sanitizers ----
    Row {
        name: "kasan-free",
        heads: &[
            "BUG: KASAN: double-free or invalid-free in {func}",
            "BUG: KASAN: double-free in {func}",
            "BUG: KASAN: invalid-free in {func}",
        ],
        kind: Is(Kind::KasanInvalidFree),
        title: "KASAN: invalid-free in {F}",
        class: "invalid-free in {F}",
        blame: Head,
        also: FREES,
        role: Opens,
        reason: "memory is freed twice, or was never allocated: whoever called the allocator did it",
    },
    Row {
        name: "kasan",
        heads: &["BUG: KASAN: {what} in {func}", "BUG: KASAN: {what} on {}", "BUG: KASAN: {what}"],
        kind: KindRule::Kasan,
        title: "KASAN: {what}{access} in {F}",
        class: "bad-access in {F}",
        blame: Head,
        also: TAG_FAULT,
        role: Opens,
        reason: "the head names the function that touched the memory; a string or list helper \
                 did so for its caller, who stands in the stack",
    },
    Row {
        name: "kfence",
        heads: &["BUG: KFENCE: {what} in {func}", "BUG: KFENCE: {what}"],
        kind: KindRule::Kfence,
        title: "KFENCE: {what} in {F}",
        class: "bad-access in {F}",
        blame: HeadFirst,
        also: &[],
        role: Opens,
        reason: "as with KASAN; the direction is part of KFENCE's own wording",
    },
    Row {
        name: "kmsan-usb",
        heads: &["BUG: KMSAN: kernel-usb-infoleak in {func}"],
        kind: Is(Kind::KmsanInfoLeak),
        title: "KMSAN: kernel-usb-infoleak in {F}",
        class: "",
        blame: HeadFirst,
        also: TRANSFERS,
        role: Opens,
        reason: "uninitialised memory is sent to a device: the driver that submits the transfer",
    },
    Row {
        name: "kmsan",
        heads: &["BUG: KMSAN: {what} in {func}", "BUG: KMSAN: {what}"],
        kind: KindRule::Kmsan,
        title: "KMSAN: {what} in {F}",
        class: "bad-access in {F}",
        blame: HeadFirst,
        also: CONSUMERS,
        role: Opens,
        reason: "KMSAN checks where a value is used: copies out of the kernel and checksums use it \
                 on behalf of their callers",
    },
    Row {
        name: "kcsan-pair",
        heads: &["BUG: KCSAN: {what} in {func} / {func2}"],
        kind: KindRule::Kcsan,
        title: "KCSAN: {what} in {func} / {func2}",
        class: "",
        blame: HeadOnly,
        also: &[],
        role: Opens,
        reason: "a race has two sides, and the head names both in a stable order",
    },
    Row {
        name: "kcsan",
        heads: &["BUG: KCSAN: {what} in {func}"],
        kind: KindRule::Kcsan,
        title: "KCSAN: {what} in {func}",
        class: "",
        blame: HeadOnly,
        also: &[],
        role: Opens,
        reason: "only one side was seen (race at unknown origin, or an assertion)",
    },
    Row {
        name: "ubsan-old",
        heads: &["UBSAN: Undefined behaviour in {file}:{line}"],
        kind: Is(Kind::Ubsan),
        title: "UBSAN: undefined-behaviour in {F}",
        class: "",
        blame: Trace,
        also: &["*ubsan*", "*overflow*"],
        role: Opens,
        reason: "kernels before 5.9 do not say which rule was broken",
    },
    Row {
        name: "ubsan",
        heads: &["UBSAN: {what} in {file}:{line}"],
        kind: KindRule::Ubsan,
        title: "UBSAN: {what} in {F}",
        class: "bad-access in {F}",
        blame: Trace,
        also: &["*ubsan*", "*overflow*"],
        role: Opens,
        reason: "the head names a source line only; the function is the first below the handlers",
    },
    // ---- memory management ----
    Row {
        name: "memory-leak",
        heads: &["BUG: memory leak", "unreferenced object 0x{}"],
        kind: Is(Kind::Leak),
        title: "memory leak in {F}",
        class: "",
        blame: FirstStack,
        also: ALLOCATES,
        role: Opens,
        reason: "kmemleak prints who allocated the object nobody points to",
    },
    Row {
        name: "bad-page-state",
        heads: &["BUG: Bad page state in process {comm}  pfn:{}", "BUG: Bad page state"],
        kind: Is(Kind::Other),
        title: "BUG: Bad page state in {F}",
        class: "",
        blame: FirstStack,
        also: PAGE_HELPERS,
        role: Opens,
        reason: "a page is freed with flags that say it is in use; if its owner is tracked, that \
                 stack comes first",
    },
    Row {
        name: "bad-page-cache",
        heads: &["BUG: Bad page cache in process {comm}  pfn:{}", "BUG: Bad page cache"],
        kind: Is(Kind::Other),
        title: "BUG: Bad page cache in {F}",
        class: "",
        blame: FirstStack,
        also: PAGE_HELPERS,
        role: Opens,
        reason: "a page leaves the page cache while it is still mapped: as with its state, its owner is asked first",
    },
    Row {
        name: "bad-page-map",
        heads: &["BUG: Bad page map in process {comm}  pte:{}", "BUG: Bad page map"],
        kind: Is(Kind::Other),
        title: "BUG: Bad page map",
        class: "",
        blame: Nobody,
        also: &[],
        role: Opens,
        reason: "a page table entry points to a page that knows nothing of it",
    },
    Row {
        name: "bad-rss",
        heads: &["BUG: Bad rss-counter state"],
        kind: Is(Kind::Other),
        title: "BUG: Bad rss-counter state",
        class: "",
        blame: Nobody,
        also: &[],
        role: OneLine,
        reason: "an address space dies with pages unaccounted for; no stack is printed",
    },
    Row {
        name: "pgtables-bytes",
        heads: &["BUG: non-zero {what} on freeing mm"],
        kind: Is(Kind::Other),
        title: "BUG: non-zero {what} on freeing mm",
        class: "",
        blame: Nobody,
        also: &[],
        role: OneLine,
        reason: "an address space dies with page tables unaccounted for (nr_ptes, nr_pmds before 4.16); no \
                 stack is printed",
    },
    Row {
        name: "kmemleak-count",
        heads: &["suspected memory leaks ("],
        kind: Is(Kind::Leak),
        title: "kmemleak: new suspected memory leaks",
        class: "",
        blame: Nobody,
        also: &[],
        role: OneLine,
        reason: "kmemleak found objects nobody points to; who allocated them stands in debugfs",
    },
    Row {
        name: "page-allocation",
        heads: &[
            "page allocation failure: order:{n}, mode:",
            "page allocation failure. order:{n}, mode:",
            "page allocation failure",
        ],
        kind: Is(Kind::Other),
        title: "page allocation failure in {F}",
        class: "",
        blame: IfPrinted,
        also: ASKS_FOR_PAGES,
        role: Opens,
        reason: "nobody could free enough memory in time; who asked, and for how much, is what can be changed",
    },
    Row {
        name: "slab-history",
        heads: &["INFO: Freed in {func} age={n} cpu={n} pid={n}"],
        kind: Is(Kind::Other),
        title: "INFO: Freed in {func} age=NUM cpu=NUM pid=NUM",
        class: "",
        blame: HeadOnly,
        also: &[],
        role: AtStart,
        reason: "all that is left of a slab report whose head was lost in a flood",
    },
    Row {
        name: "slab-history-alloc",
        heads: &["INFO: Allocated in {func} age={n} cpu={n} pid={n}"],
        kind: Is(Kind::Other),
        title: "INFO: Allocated in {func} age=NUM cpu=NUM pid=NUM",
        class: "",
        blame: HeadOnly,
        also: &[],
        role: AtStart,
        reason: "all that is left of a slab report whose head was lost in a flood",
    },
    Row {
        name: "slab",
        heads: &[
            "BUG {cache} (Not tainted): {what}",
            "BUG {cache} (Tainted: {}): {what}",
            "BUG {cache}: {what}",
        ],
        kind: Is(Kind::DenialOfService),
        title: "BUG: {what}",
        class: "",
        blame: Nobody,
        also: &[],
        role: AtStart,
        reason: "SLUB's consistency checks; the object's history follows, the culprit is long gone",
    },
];
