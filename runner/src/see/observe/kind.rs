//! What kinds of report there are. The set is closed: a consumer can match on it.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// The kind of a report. Serialized by its [`label`](Kind::label), the names the public
        /// crash collections use.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[derive(schemars::JsonSchema)]
        pub enum Kind {
            $($(#[$doc])* #[serde(rename = $label)] $name,)*
        }

        impl Kind {
            /// Every kind, in the order of their declaration.
            pub const ALL: &[Kind] = &[$(Kind::$name,)*];

            /// The name of the kind in reports; [`Kind::Other`] has the empty one.
            pub fn label(self) -> &'static str {
                match self {
                    $(Kind::$name => $label,)*
                }
            }
        }
    };
}

kinds! {
    /// A lock rule was broken, or a helper that needs one was called without it.
    Lockdep = "LOCKDEP",
    /// Something that may sleep was called where sleeping is forbidden.
    AtomicSleep = "ATOMIC_SLEEP",
    /// No progress: a hung task, a stalled CPU, a lockup.
    Hang = "HANG",
    /// A failed `WARN_ON()`: the kernel goes on.
    Warning = "WARNING",
    /// A failed `BUG_ON()`: the task is killed.
    Bug = "BUG",
    /// A reference count was misused.
    RefcountWarning = "REFCOUNT_WARNING",
    /// The kernel killed itself or a task without naming a memory bug.
    DenialOfService = "DoS",
    /// An access to an address that is not mapped, or a list that was overwritten.
    MemorySafetyBug = "MEMORY_SAFETY_BUG",
    /// A WARN that stands for memory corruption.
    MemorySafetyWarning = "MEMORY_SAFETY_WARNING",
    /// UBSAN found an access out of bounds.
    MemorySafetyUbsan = "MEMORY_SAFETY_UBSAN",
    /// A null pointer was followed.
    NullPointer = "NULL-POINTER-DEREFERENCE",
    /// Memory nothing points to any more.
    Leak = "LEAK",
    /// Undefined behaviour in C that is not an access.
    Ubsan = "UBSAN",
    /// KASAN: a bad read.
    KasanRead = "KASAN-READ",
    /// KASAN: a bad write.
    KasanWrite = "KASAN-WRITE",
    /// KASAN: a read of freed memory.
    KasanUseAfterFreeRead = "KASAN-USE-AFTER-FREE-READ",
    /// KASAN: a write to freed memory.
    KasanUseAfterFreeWrite = "KASAN-USE-AFTER-FREE-WRITE",
    /// KASAN: a null pointer was read.
    KasanNullRead = "KASAN-NULL-POINTER-DEREFERENCE-READ",
    /// KASAN: a null pointer was written.
    KasanNullWrite = "KASAN-NULL-POINTER-DEREFERENCE-WRITE",
    /// KASAN: something was freed twice, or was never allocated.
    KasanInvalidFree = "KASAN-INVALID-FREE",
    /// KASAN, of a sort this program does not know.
    KasanUnknown = "KASAN-UNKNOWN",
    /// KFENCE: a bad read.
    KfenceRead = "KFENCE-READ",
    /// KFENCE: a bad write.
    KfenceWrite = "KFENCE-WRITE",
    /// KFENCE: a read of freed memory.
    KfenceUseAfterFreeRead = "KFENCE-USE-AFTER-FREE-READ",
    /// KFENCE: a write to freed memory.
    KfenceUseAfterFreeWrite = "KFENCE-USE-AFTER-FREE-WRITE",
    /// KFENCE: the bytes around an object were overwritten.
    KfenceMemoryCorruption = "KFENCE-MEMORY-CORRUPTION",
    /// KFENCE: something was freed twice, or was never allocated.
    KfenceInvalidFree = "KFENCE-INVALID-FREE",
    /// KFENCE, of a sort this program does not know.
    KfenceUnknown = "KFENCE-UNKNOWN",
    /// KMSAN: a decision was taken on bytes nobody wrote.
    KmsanUninitValue = "KMSAN-UNINIT-VALUE",
    /// KMSAN: bytes nobody wrote left the kernel.
    KmsanInfoLeak = "KMSAN-INFO-LEAK",
    /// KMSAN: a read of freed memory.
    KmsanUseAfterFreeRead = "KMSAN-USE-AFTER-FREE-READ",
    /// KMSAN, of a sort this program does not know.
    KmsanUnknown = "KMSAN-UNKNOWN",
    /// KCSAN: two unordered accesses to the same bytes.
    KcsanDataRace = "KCSAN-DATARACE",
    /// KCSAN: an exclusive access was not.
    KcsanAssert = "KCSAN-ASSERT",
    /// KCSAN, of a sort this program does not know.
    KcsanUnknown = "KCSAN-UNKNOWN",
    /// Not the kernel: the fuzzer that drove it gave up. Recognised, so that it is not mistaken
    /// for a clean run.
    HarnessFailure = "SYZ_FAILURE",
    /// The kernel started anew without saying why.
    UnexpectedReboot = "REBOOT",
    /// A report that fits none of the above.
    Other = "",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self.label() {
            "" => "other",
            label => label,
        })
    }
}
