//! Which function is a report about? Not the one that printed it, nor the one that asserted, locked,
//! copied or allocated on somebody's behalf: the first frame that is nobody's helper.
//!
//! [`MACHINERY`] says which functions are helpers, by the part of the kernel they belong to, each
//! with the reason. [`DISPATCHERS`] says where a generic entry calls into a subsystem: what a CPU
//! was doing when it stalled is chance, what was asked of it is not.

mod dispatch;
mod machinery;

pub use dispatch::DISPATCHERS;
pub use machinery::MACHINERY;

use crate::see::observe::frame::{Frame, base_name};
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

/// A part of the kernel whose functions act on behalf of their callers.
#[derive(Debug)]
pub struct Area {
    /// Its name.
    pub name: &'static str,
    /// Functions: `name`, `prefix*`, `*infix*` or `*suffix`.
    pub functions: &'static [&'static str],
    /// Functions that match the above but are to be blamed all the same.
    pub except: &'static [&'static str],
    /// Why they are passed over.
    pub reason: &'static str,
}

/// Patterns compiled for lookup: a stack has dozens of frames, and a log thousands of stacks.
struct Matcher {
    exact: HashSet<&'static str>,
    prefixes: HashMap<&'static str, ()>,
    prefix_lengths: Vec<usize>,
    infixes: Vec<&'static str>,
    suffixes: Vec<&'static str>,
}

impl Matcher {
    fn new<'a>(patterns: impl Iterator<Item = &'a &'static str>) -> Self {
        let mut matcher = Matcher {
            exact: HashSet::new(),
            prefixes: HashMap::new(),
            prefix_lengths: Vec::new(),
            infixes: Vec::new(),
            suffixes: Vec::new(),
        };
        for pattern in patterns {
            match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
                (None, None) => {
                    matcher.exact.insert(pattern);
                }
                (None, Some(prefix)) => {
                    matcher.prefixes.insert(prefix, ());
                    matcher.prefix_lengths.push(prefix.len());
                }
                (Some(infix), Some(_)) => {
                    matcher.infixes.push(infix.strip_suffix('*').unwrap_or(infix));
                }
                (Some(suffix), None) => matcher.suffixes.push(suffix),
            }
        }
        matcher.prefix_lengths.sort_unstable();
        matcher.prefix_lengths.dedup();
        matcher
    }

    fn matches(&self, name: &str) -> bool {
        self.exact.contains(name)
            || self.prefix_lengths.iter().take_while(|len| **len <= name.len()).any(|len| {
                name.get(..*len).is_some_and(|prefix| self.prefixes.contains_key(prefix))
            })
            || self.infixes.iter().any(|infix| name.contains(infix))
            || self.suffixes.iter().any(|suffix| name.ends_with(suffix))
    }
}

struct Areas {
    matched: Matcher,
    excepted: Matcher,
}

impl Areas {
    fn new(areas: &'static [Area]) -> Self {
        Areas {
            matched: Matcher::new(areas.iter().flat_map(|area| area.functions)),
            excepted: Matcher::new(areas.iter().flat_map(|area| area.except)),
        }
    }

    fn matches(&self, name: &str) -> bool {
        self.matched.matches(name) && !self.excepted.matches(name)
    }
}

static MACHINERY_AREAS: LazyLock<Areas> = LazyLock::new(|| Areas::new(MACHINERY));
static DISPATCHER_AREAS: LazyLock<Areas> = LazyLock::new(|| Areas::new(DISPATCHERS));
static FAULT_AREAS: LazyLock<Areas> = LazyLock::new(|| Areas::new(dispatch::FAULTS));
static INTERRUPT_ENTRIES: LazyLock<Matcher> =
    LazyLock::new(|| Matcher::new(dispatch::INTERRUPT_ENTRIES.iter()));
static WATCHDOG: LazyLock<Matcher> = LazyLock::new(|| Matcher::new(dispatch::WATCHDOG.iter()));

/// Does this function act on behalf of its caller?
pub fn is_machinery(function: &str) -> bool {
    let name = base_name(function);
    // Clang's and the tracer's stubs in front of a function are named after it.
    let name = name.strip_prefix("__pfx_").or_else(|| name.strip_prefix("__cfi_")).unwrap_or(name);
    MACHINERY_AREAS.matches(name) || is_bpf_program(name)
}

/// `bpf_prog_6deef7357e7b4530_f`: a program that was loaded from user space. It is part of the
/// stimulus, and its tag differs with every compiler.
fn is_bpf_program(name: &str) -> bool {
    name.strip_prefix("bpf_prog_").is_some_and(|rest| {
        rest.len() >= 16 && rest.as_bytes()[..16].iter().all(u8::is_ascii_hexdigit)
    })
}

/// Does this function hand over to a subsystem by a pointer?
pub fn is_dispatcher(function: &str) -> bool {
    DISPATCHER_AREAS.matches(base_name(function))
}

/// Is this where an interrupt enters the kernel? What stands above it on the stack is the
/// interrupt's, what stands below was interrupted.
pub fn is_interrupt_entry(function: &str) -> bool {
    INTERRUPT_ENTRIES.matches(base_name(function))
}

/// The first frame to blame, passing over `also`; if all are machinery, the outermost, which is
/// nearest to whoever is to blame.
pub fn first<'a>(
    frames: impl Iterator<Item = &'a Frame> + Clone,
    also: &[&str],
) -> Option<&'a Frame> {
    let reliable = frames.filter(|frame| !frame.unreliable);
    reliable
        .clone()
        .find(|frame| !is_machinery(&frame.function) && !matches_any(also, frame.name()))
        .or_else(|| reliable.last())
}

/// What all of the kernel waits for when it hangs: the network's one lock, and the end of a grace
/// period. Whoever is caught there is a victim, so all of them are one bug.
pub fn bottleneck(frames: &[Frame]) -> Option<Frame> {
    frames.iter().filter(|frame| !frame.unreliable).find_map(|frame| {
        let name = frame.name();
        let grace = ["synchronize_rcu", "synchronize_srcu", "synchronize_net", "synchronize_sched"];
        if grace.iter().any(|family| name.starts_with(family)) {
            return Some(Frame { function: "synchronize_rcu".to_owned(), ..frame.clone() });
        }
        name.starts_with("rtnl_lock").then(|| frame.clone())
    })
}

/// For short lists of patterns.
fn matches_any(patterns: &[&str], name: &str) -> bool {
    patterns.iter().any(|pattern| match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (None, None) => name == *pattern,
        (None, Some(prefix)) => name.starts_with(prefix),
        (Some(suffix), None) => name.ends_with(suffix),
        (Some(infix), Some(_)) => name.contains(infix.trim_end_matches('*')),
    })
}

/// The frame that identifies a stall or an endless recursion: the one a dispatcher called.
///
/// `at` is where the CPU was, if its registers were printed before the stack.
pub fn dispatched<'f>(at: Option<&'f Frame>, frames: &'f [Frame]) -> Option<&'f Frame> {
    let reliable: Vec<&Frame> = frames.iter().filter(|frame| !frame.unreliable).collect();
    let printed = watchdog_frames(&reliable);
    let at = if printed == 0 { at } else { None };
    let mut stalled: Vec<&Frame> =
        at.into_iter().chain(reliable[printed..].iter().copied()).collect();
    if stalled.is_empty() {
        stalled = reliable;
    }
    for dispatchers in [&DISPATCHER_AREAS, &FAULT_AREAS] {
        let mut previous: Option<&Frame> = None;
        for &frame in &stalled {
            if base_name(&frame.function).starts_with("smp_call_function") {
                return Some(frame);
            }
            if dispatchers.matches(base_name(&frame.function))
                && let Some(found) = previous
            {
                return Some(found);
            }
            previous = Some(frame);
        }
    }
    stalled.iter().find(|frame| !is_machinery(&frame.function)).or(stalled.first()).copied()
}

/// How many of the innermost frames belong to the interrupt that noticed the stall, if it printed
/// its own stack: up to where it entered the kernel.
fn watchdog_frames(frames: &[&Frame]) -> usize {
    /// An entry has a few frames of its own.
    const ENTRY: usize = 4;
    let Some(first) = frames.iter().position(|frame| is_interrupt_entry(&frame.function)) else {
        return 0;
    };
    let prints = frames[..first].iter().any(|frame| WATCHDOG.matches(frame.name()));
    if !prints {
        return 0;
    }
    let mut end = first + 1;
    let mut at = end;
    while at < frames.len() && at < end + ENTRY {
        if is_interrupt_entry(&frames[at].function) {
            end = at + 1;
        } else if !is_machinery(&frames[at].function) {
            break;
        }
        at += 1;
    }
    end
}

/// The name a function goes by in titles: system calls have many entries, and some operations come
/// in variants that are one thing to whoever waits for them.
pub fn title_name(function: &str) -> String {
    let name = base_name(function);
    for family in ["smp_call_function", "synchronize_rcu"] {
        if name.starts_with(family) {
            return family.to_owned();
        }
    }
    if name == "synchronize_sched" {
        // Merged into synchronize_rcu() in 4.20.
        return "synchronize_rcu".to_owned();
    }
    // The architecture's wrapper of the table: sys_x. The body behind it: x.
    for wrapper in
        ["__x64_", "__ia32_", "__arm64_", "__riscv_", "__s390x_", "__s390_", "__powerpc_"]
    {
        if let Some(rest) = name.strip_prefix(wrapper)
            && (rest.starts_with("sys_") || rest.starts_with("compat_sys_"))
        {
            return rest.to_owned();
        }
    }
    for body in [
        "__se_compat_sys_",
        "__do_compat_sys_",
        "__se_sys_",
        "__do_sys_",
        "compat_SYSC_",
        "compat_SyS_",
        "SYSC_",
        "SyS_",
    ] {
        if let Some(rest) = name.strip_prefix(body) {
            return rest.to_owned();
        }
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
                function: (*name).trim_start_matches("? ").to_owned(),
                unreliable: name.starts_with("? "),
                ..Frame::default()
            })
            .collect()
    }

    #[test]
    fn helpers_are_passed_over() {
        let stack = frames(&[
            "dump_stack_lvl",
            "__warn",
            "rwsem_assert_held",
            "? something",
            "find_vma",
            "stack_map_get_build_id_offset",
        ]);
        assert_eq!(first(stack.iter(), &[]).unwrap().function, "find_vma");
    }

    #[test]
    fn a_stall_is_the_handlers() {
        let stack = frames(&[
            "dump_stack",
            "sysvec_apic_timer_interrupt",
            "asm_sysvec_apic_timer_interrupt",
            "inner_loop",
            "my_ioctl",
            "vfs_ioctl",
            "do_syscall_64",
        ]);
        assert_eq!(dispatched(None, &stack).unwrap().function, "my_ioctl");
    }

    #[test]
    fn entries_of_system_calls_have_one_name() {
        assert_eq!(title_name("__x64_sys_futex"), "sys_futex");
        assert_eq!(title_name("__do_sys_futex.isra.0"), "futex");
        assert_eq!(title_name("synchronize_rcu_expedited"), "synchronize_rcu");
    }

    #[test]
    fn every_area_says_why() {
        for area in MACHINERY.iter().chain(DISPATCHERS) {
            assert!(area.reason.len() > 20, "{}", area.name);
            assert!(!area.functions.is_empty(), "{}", area.name);
            for pattern in area.functions.iter().chain(area.except) {
                let inner = pattern.trim_start_matches('*').trim_end_matches('*');
                assert!(!inner.is_empty() && !inner.contains('*'), "{pattern}");
            }
        }
    }
}
