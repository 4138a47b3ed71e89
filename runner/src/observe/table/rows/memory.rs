//! Reports about memory: the sanitizers, and the checks of allocators and page tables.

use super::super::{Blame, KindRule, Role, Row};
use crate::observe::Kind;

use Blame::{FirstStack, Head, HeadFirst, HeadOnly, Nobody, Trace};
use KindRule::Is;
use Role::{AtStart, OneLine, Opens};

/// A constructor allocates for its caller, and only the caller can forget the object.
const ALLOCATES: &[&str] = &["*alloc*"];

/// In order: special before general.
pub(super) const ROWS: &[Row] = &[
    // ---- sanitizers ----
    Row {
        name: "kasan",
        heads: &["BUG: KASAN: {what} in {func}", "BUG: KASAN: {what} on {}"],
        kind: KindRule::Kasan,
        title: "KASAN: {what}{access} in {F}",
        class: "bad-access in {F}",
        blame: Head,
        also: &[],
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
        name: "kmsan",
        heads: &["BUG: KMSAN: {what} in {func}"],
        kind: KindRule::Kmsan,
        title: "KMSAN: {what} in {F}",
        class: "bad-access in {F}",
        blame: HeadFirst,
        also: &[],
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
        also: &[],
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
        also: &[],
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
        heads: &[
            "BUG: Bad page state in process {comm}  pfn:{}",
            "BUG: Bad page state",
        ],
        kind: Is(Kind::Other),
        title: "BUG: Bad page state in {F}",
        class: "",
        blame: FirstStack,
        also: &[],
        role: Opens,
        reason: "a page is freed with flags that say it is in use; if its owner is tracked, that \
                 stack comes first",
    },
    Row {
        name: "bad-page-map",
        heads: &[
            "BUG: Bad page map in process {comm}  pte:{}",
            "BUG: Bad page map",
        ],
        kind: Is(Kind::Other),
        title: "BUG: Bad page map in {F}",
        class: "",
        blame: Trace,
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
        heads: &["BUG: non-zero pgtables_bytes on freeing mm"],
        kind: Is(Kind::Other),
        title: "BUG: non-zero pgtables_bytes on freeing mm",
        class: "",
        blame: Nobody,
        also: &[],
        role: OneLine,
        reason: "an address space dies with page tables unaccounted for; no stack is printed",
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
