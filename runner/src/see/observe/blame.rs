//! Which function is a report about? Not the one that printed it, nor the one that asserted, locked,
//! copied or allocated on somebody's behalf: the first frame that is nobody's helper.
//!
//! `blame/machinery.tsv` says which functions are helpers: a row for each family of them, with the
//! reason. A row of the table of reports may add its own. [`dispatch`] says where generic code calls
//! into a subsystem: what a CPU was doing when it stalled is chance, what was asked of it is not.

mod dispatch;

use crate::see::observe::frame::{Frame, base_name};
use aho_corasick::Anchored;
use aho_corasick::automaton::Automaton;
use aho_corasick::dfa::DFA;
use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::LazyLock;

/// A family of functions that act on behalf of their callers.
#[derive(Debug)]
pub(crate) struct Family {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its members: `name`, `prefix*`, `*suffix` or `*infix*`.
    pub(crate) functions: Vec<&'static str>,
    /// Functions that match the above but are to be blamed all the same.
    pub(crate) except: Vec<&'static str>,
    /// Why they are passed over.
    #[cfg_attr(not(test), expect(dead_code, reason = "the tests read it"))]
    pub(crate) reason: &'static str,
}

/// The rows of `machinery.tsv`, in its order.
pub(crate) static MACHINERY: LazyLock<Vec<Family>> = LazyLock::new(|| {
    include_str!("blame/machinery.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut fields = line.split('\t');
            Some(Family {
                name: fields.next()?,
                functions: fields.next()?.split(' ').collect(),
                except: fields.next()?.split(' ').filter(|name| *name != "-").collect(),
                reason: fields.next()?,
            })
        })
        .collect()
});

/// Fowler, Noll and Vo's hash. The table is ours, so nobody can choose names that collide in it; for
/// names this short it takes a fraction of the standard library's time.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Patterns compiled for lookup: a stack has dozens of frames, and a log thousands of stacks.
struct Matcher {
    exact: HashSet<&'static str, BuildHasherDefault<Fnv>>,
    /// By their first byte.
    prefixes: Vec<Vec<&'static str>>,
    suffixes: Vec<&'static str>,
    infixes: Option<DFA>,
}

impl Matcher {
    fn new<'a>(patterns: impl Iterator<Item = &'a &'static str>) -> Self {
        let mut matcher = Matcher {
            exact: HashSet::default(),
            prefixes: vec![Vec::new(); 256],
            suffixes: Vec::new(),
            infixes: None,
        };
        let mut infixes = Vec::new();
        for pattern in patterns {
            match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
                (None, None) => {
                    matcher.exact.insert(pattern);
                }
                (None, Some(prefix)) => {
                    let first = prefix.as_bytes().first().copied().unwrap_or_default();
                    matcher.prefixes[usize::from(first)].push(prefix);
                }
                (Some(infix), Some(_)) => infixes.push(infix.trim_end_matches('*')),
                (Some(suffix), None) => matcher.suffixes.push(suffix),
            }
        }
        matcher.infixes = DFA::new(infixes).ok();
        matcher
    }

    fn matches(&self, name: &str) -> bool {
        self.exact.contains(name)
            || name.as_bytes().first().is_some_and(|first| {
                let prefixes = &self.prefixes[usize::from(*first)];
                prefixes.iter().any(|prefix| name.starts_with(prefix))
            })
            || self.suffixes.iter().any(|suffix| name.ends_with(suffix))
            || self.infixes.as_ref().is_some_and(|infixes| has_any(infixes, name))
    }
}

/// Does any of the patterns stand in a name? Names are short: to set a search up takes longer
/// than to go through one.
fn has_any(patterns: &DFA, name: &str) -> bool {
    let Ok(mut state) = patterns.start_state(Anchored::No) else { return false };
    name.bytes().any(|byte| {
        state = patterns.next_state(Anchored::No, state, byte);
        patterns.is_special(state) && patterns.is_match(state)
    })
}

struct Families {
    matched: Matcher,
    excepted: Matcher,
}

impl Families {
    /// All families and functions but those named in `off`.
    fn without(off: &BTreeSet<&str>) -> Self {
        let on = |pattern: &&&'static str| !off.contains(**pattern);
        let families = MACHINERY.iter().filter(|family| !off.contains(family.name));
        Families {
            matched: Matcher::new(families.clone().flat_map(|f| &f.functions).filter(on)),
            excepted: Matcher::new(families.flat_map(|f| &f.except)),
        }
    }

    fn matches(&self, name: &str) -> bool {
        self.matched.matches(name) && !self.excepted.matches(name)
    }
}

static FAMILIES: LazyLock<Families> = LazyLock::new(|| Families::without(&BTreeSet::new()));
static DISPATCHERS: LazyLock<Matcher> =
    LazyLock::new(|| Matcher::new(dispatch::DISPATCHERS.iter()));
static INTERRUPT_ENTRIES: LazyLock<Matcher> =
    LazyLock::new(|| Matcher::new(dispatch::INTERRUPT_ENTRIES.iter()));

/// Judging again without a part of the rules: what carries over to logs nobody has seen, and what
/// was fitted to single ones? `examples/score-splats.rs` asks.
pub mod audit {
    use super::{Families, MACHINERY};
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    thread_local! {
        static WITHOUT: RefCell<Option<Families>> = const { RefCell::new(None) };
    }

    /// The names of all families of helpers.
    pub fn families() -> Vec<&'static str> {
        MACHINERY.iter().map(|family| family.name).collect()
    }

    /// The names and patterns of all functions of these families.
    pub fn functions() -> Vec<&'static str> {
        MACHINERY.iter().flat_map(|family| family.functions.iter().copied()).collect()
    }

    /// Runs `work` on this thread with these families and functions switched off.
    pub fn without<T>(off: &BTreeSet<&str>, work: impl FnOnce() -> T) -> T {
        WITHOUT.set(Some(Families::without(off)));
        let result = work();
        WITHOUT.set(None);
        result
    }

    pub(super) fn matches(name: &str) -> Option<bool> {
        WITHOUT.with_borrow(|families| families.as_ref().map(|families| families.matches(name)))
    }
}

static REPORTING: LazyLock<Families> = LazyLock::new(|| {
    let acts = |family: &&Family| !matches!(family.name, "report printing" | "trap entry");
    Families::without(&MACHINERY.iter().filter(acts).map(|family| family.name).collect())
});

/// Does this function only turn an event into a report? It says nothing of the event.
pub(crate) fn is_reporting(function: &str) -> bool {
    REPORTING.matches(base_name(function))
}

/// Does this function act on behalf of its caller?
pub fn is_machinery(function: &str) -> bool {
    let name = base_name(function);
    // Clang's and the tracer's stubs in front of a function are named after it.
    let name = name.strip_prefix("__pfx_").or_else(|| name.strip_prefix("__cfi_")).unwrap_or(name);
    audit::matches(name).unwrap_or_else(|| FAMILIES.matches(name))
        || is_bpf_program(name)
        || is_rust_panic(function)
}

/// `bpf_prog_6deef7357e7b4530_f`: a program that was loaded from user space. It is part of the
/// stimulus, and its tag differs with every compiler.
fn is_bpf_program(name: &str) -> bool {
    name.strip_prefix("bpf_prog_").is_some_and(|rest| {
        rest.len() >= 16 && rest.as_bytes()[..16].iter().all(u8::is_ascii_hexdigit)
    })
}

/// A panic is raised for the Rust code that overflowed or unwrapped.
fn is_rust_panic(function: &str) -> bool {
    ["__rustc::", "core::panicking::", "core::option::", "core::result::", "rust_begin_unwind"]
        .iter()
        .any(|prefix| function.starts_with(prefix))
        || memchr::memchr(b'B', function.as_bytes()).is_some()
            && function.contains("rust_helper_BUG")
}

/// Is this where an interrupt enters the kernel? What stands above it on the stack is the
/// interrupt's, what stands below was interrupted.
pub fn is_interrupt_entry(function: &str) -> bool {
    INTERRUPT_ENTRIES.matches(base_name(function))
}

/// May this frame be blamed, passing over `also`?
fn blamable(frame: &Frame, also: &[&str]) -> bool {
    !is_machinery(&frame.function) && !matches_any(also, frame.name())
}

/// The first frame to blame, passing over `also`. Frames the unwinder is not sure of count only if
/// there are no others.
pub fn first<'a>(
    frames: impl Iterator<Item = &'a Frame> + Clone,
    also: &[&str],
) -> Option<&'a Frame> {
    let mut sure = frames.clone().filter(|frame| !frame.unreliable && !frame.inlined);
    if sure.clone().next().is_some() {
        return sure.find(|frame| blamable(frame, also));
    }
    frames.clone().find(|frame| blamable(frame, also))
}

/// The same; if all of them are machinery, the outermost, which is nearest to whoever is to blame.
pub fn first_or_last<'a>(
    frames: impl DoubleEndedIterator<Item = &'a Frame> + Clone,
) -> Option<&'a Frame> {
    first(frames.clone(), &[]).or_else(|| frames.rev().find(|frame| !frame.unreliable))
}

/// Who waits, in a task that hangs.
///
/// All of the kernel waits for the network's one lock and for the end of a grace period when those
/// hang. Whoever is caught there is a victim, so all of them are one bug. Any other wait is named
/// after the first frame that is not a way of waiting.
pub fn waiter(frames: &[Frame], ways: &[&str]) -> Option<Frame> {
    let sure = || frames.iter().filter(|frame| !frame.unreliable && blamable(frame, &[]));
    let bottleneck = sure().find_map(|frame| {
        let name = frame.name();
        let grace = ["synchronize_rcu", "synchronize_srcu", "synchronize_net", "synchronize_sched"];
        if grace.iter().any(|family| name.contains(family)) {
            return Some(Frame { function: "synchronize_rcu".into(), ..frame.clone() });
        }
        name.contains("rtnl_lock").then(|| frame.clone())
    });
    bottleneck.or_else(|| sure().find(|frame| !matches_any(ways, frame.name())).cloned())
}

/// For short lists of patterns.
pub(crate) fn matches_any(patterns: &[&str], name: &str) -> bool {
    patterns.iter().any(|pattern| match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (None, None) => name == *pattern,
        (None, Some(prefix)) => name.starts_with(prefix),
        (Some(suffix), None) => name.ends_with(suffix),
        (Some(infix), Some(_)) => name.contains(infix.trim_end_matches('*')),
    })
}

/// The frame that identifies a stall or an endless recursion: the one that generic code called.
pub fn dispatched<'f>(frames: impl Iterator<Item = &'f Frame>, also: &[&str]) -> Option<&'f Frame> {
    let mut called: Option<&Frame> = None;
    for frame in frames {
        if frame.unreliable || frame.inlined || !blamable(frame, also) {
            continue;
        }
        let name = title_name(&frame.function);
        if name == "smp_call_function" {
            return Some(frame);
        }
        if DISPATCHERS.matches(&name) {
            return Some(called.unwrap_or(frame));
        }
        called = Some(frame);
    }
    None
}

/// What ran when the tick came that noticed a stall: the frames below the interrupt's entry.
pub fn below_the_tick(frames: &[Frame]) -> Option<&[Frame]> {
    let entry = frames
        .iter()
        .position(|frame| !frame.unreliable && matches_any(dispatch::TICK_ENTRIES, frame.name()))?;
    frames.get(entry + 1..)
}

/// The name a function goes by in titles: a system call has many entries, one for each table and
/// each layer, and is one thing to whoever made it.
pub fn title_name(function: &str) -> String {
    let mut name = base_name(function);
    if name.starts_with("smp_call_function") {
        return "smp_call_function".to_owned();
    }
    for layer in [
        "SYSC_",
        "SyS_",
        "sys_",
        "__x64_",
        "__ia32_",
        "__arm64_",
        "__riscv_",
        "__s390x_",
        "__s390_",
        "__powerpc_",
        "____sys_",
        "___sys_",
        "__sys_",
        "__se_sys_",
        "__se_",
        "__do_sys_",
        "compat_SYSC_",
        "compat_SyS_",
        "ksys_",
    ] {
        name = name.strip_prefix(layer).unwrap_or(name);
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(names: &[&str]) -> Vec<Frame> {
        names
            .iter()
            .map(|name| Frame {
                function: (*name).trim_start_matches("? ").into(),
                unreliable: name.starts_with("? "),
                ..Frame::default()
            })
            .collect()
    }

    /// The frame to blame is the first that is nobody's helper.
    #[test]
    fn helpers_are_passed_over() {
        let stack = frames(&[
            "dump_stack_lvl",
            "__warn",
            "lockdep_assert_held",
            "? something",
            "find_vma",
            "stack_map_get_build_id_offset",
        ]);
        assert_eq!(first(stack.iter(), &[]).unwrap().function, "find_vma");
    }

    /// A function that really faulted is blamed, even if it is generic.
    #[test]
    fn who_faulted_is_blamed() {
        for name in ["__schedule", "gic_handle_irq", "kset_find_obj", "prep_new_page"] {
            assert!(!is_machinery(name), "{name}");
        }
    }

    /// A stack that the unwinder guessed from end to end is better than none.
    #[test]
    fn a_guessed_stack_counts_if_it_is_all_there_is() {
        let stack = frames(&["? dump_stack", "? f"]);
        assert_eq!(first(stack.iter(), &[]).unwrap().function, "f");
    }

    /// A stall is named after what generic code called, below the tick.
    #[test]
    fn a_stall_is_the_handlers() {
        let stack = frames(&[
            "dump_stack",
            "sysvec_apic_timer_interrupt",
            "inner_loop",
            "my_ioctl",
            "vfs_ioctl",
            "do_syscall_64",
        ]);
        let below = below_the_tick(&stack).unwrap();
        assert_eq!(dispatched(below.iter(), &[]).unwrap().function, "my_ioctl");
    }

    /// A task that hangs is named after who waits, not how; the shared bottlenecks have one name.
    #[test]
    fn a_hang_is_the_waiters() {
        let stack = frames(&["__schedule", "schedule", "io_wait_event", "my_flush", "kthread"]);
        assert_eq!(waiter(&stack, &["*sched*", "*wait*"]).unwrap().function, "my_flush");
        let stack = frames(&["schedule", "synchronize_rcu_expedited", "my_flush"]);
        assert_eq!(waiter(&stack, &["*sched*"]).unwrap().function, "synchronize_rcu");
    }

    /// The entries and layers of a system call have one name.
    #[test]
    fn entries_of_system_calls_have_one_name() {
        for name in ["__do_sys_futex.isra.0", "ksys_futex", "__se_sys_futex", "SyS_futex"] {
            assert_eq!(title_name(name), "futex");
        }
        assert_eq!(title_name("__x64_sys_futex"), "sys_futex");
    }

    /// The file of helpers is sorted, every family says why, and every pattern can match.
    #[test]
    fn every_family_says_why() {
        let mut last = "";
        for family in MACHINERY.iter() {
            assert!(family.name > last, "{} stands in the wrong place", family.name);
            last = family.name;
            assert!(family.reason.len() > 20, "{}: why?", family.name);
            assert!(family.functions.is_sorted(), "{}", family.name);
            for pattern in family.functions.iter().chain(&family.except) {
                let inner = pattern.trim_start_matches('*').trim_end_matches('*');
                assert!(!inner.is_empty() && !inner.contains('*'), "{pattern}");
            }
        }
        assert!(MACHINERY.len() > 15);
    }

    /// Every architecture's traps, and every checker's and allocator's own functions, are passed
    /// over; what they are called for is not.
    #[test]
    fn helpers_of_every_architecture_are_known() {
        for name in [
            // Traps: x86, arm64 old and new, 32-bit Arm, MIPS, LoongArch, RISC-V, s390, PowerPC.
            "exc_invalid_op",
            "asm_exc_page_fault",
            "el1_sync",
            "el1h_64_sync_handler",
            "do_undefinstr",
            "__irq_svc",
            "do_trap_or_bp",
            "handle_bp_int",
            "do_trap_break",
            "handle_exception",
            "__do_pgm_check",
            "program_check_exception",
            // Copies, in C and in assembly.
            "__pi_memcpy_generic",
            "__memset",
            "__arch_copy_to_user",
            "arm_copy_from_user",
            "_copy_from_iter",
            // Checkers.
            "__tsan_read8",
            "__kasan_check_read",
            "debug_object_activate",
            "lockdep_assert_rq_held",
            "__might_resched",
            "__ubsan_handle_shift_out_of_bounds",
        ] {
            assert!(is_machinery(name), "{name}");
        }
        for name in ["vfs_write", "ext4_iget", "usb_disconnect", "device_links_unbind_consumers"] {
            assert!(!is_machinery(name), "{name}");
        }
    }

    /// No pattern is another one's special case: it would never decide anything.
    #[test]
    fn no_pattern_is_contained_in_another() {
        let all: Vec<&str> =
            MACHINERY.iter().flat_map(|family| family.functions.iter().copied()).collect();
        for pattern in &all {
            let inner = pattern.trim_start_matches('*').trim_end_matches('*');
            for other in all.iter().filter(|other| *other != pattern) {
                if let Some(infix) = other.strip_prefix('*').and_then(|o| o.strip_suffix('*')) {
                    assert!(!inner.contains(infix), "{pattern} is covered by {other}");
                }
            }
        }
    }
}
