// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls whose answer the interface promises, whatever else is the case.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use super::Stage;
use crate::engine::assemble::nothing;
use crate::engine::events::SET_OUTPUT;
use crate::engine::pool::{BPF_TRACE_UPROBE_MULTI, load};
use crate::op::ProgKind;
use crate::op::step::{Body, Flaw};
use crate::op::value::Dice;
use crate::sys::call::{self, Answer, Attributes};

pub(super) fn run(stage: &mut Stage<'_>) -> Answer<()> {
    match stage.play.dice.below(8) {
        0 => perf_attributes(stage),
        1 => bpf_attributes(stage),
        2 | 3 => kernel_addresses(stage),
        4 | 5 => full_table(stage),
        6 => outputs(stage),
        _ => ioctls(stage),
    }
}

fn dummy() -> Attributes<'static> {
    Attributes::default().word(0, 1).word(4, 136).double(8, 9)
}

fn perf_attributes(stage: &mut Stage<'_>) -> Answer<()> {
    let past = 1_u64 << (25 + stage.play.dice.below(30));
    let (what, attributes, thread, cpu, flags, promised): (_, _, _, _, _, &[i32]) =
        match stage.play.dice.below(12) {
            0 => ("an unknown sample type", dummy().double(24, past), 0, -1, 0, &[libc::EINVAL]),
            1 => ("an unknown read format", dummy().double(32, past), 0, -1, 0, &[libc::EINVAL]),
            2 => {
                ("an unknown attribute bit", dummy().double(40, 1 << 63), 0, -1, 0, &[libc::EINVAL])
            }
            3 => ("an unknown flag", dummy(), 0, -1, 1 << 20, &[libc::EINVAL]),
            4 => ("nobody on no CPU", dummy(), -1, -1, 0, &[libc::EINVAL]),
            5 => ("a CPU that is not there", dummy(), 0, 4000, 0, &[libc::EINVAL, libc::ENODEV]),
            6 => ("a process that is not there", dummy(), 0x3fff_ffff, -1, 0, &[libc::ESRCH]),
            7 => ("a period of 2^63", dummy().double(16, 1 << 63), 0, -1, 0, &[libc::EINVAL]),
            8 => ("attributes of 8 bytes", dummy().word(4, 8), 0, -1, 0, &[libc::E2BIG]),
            9 => ("attributes of 8192 bytes", dummy().word(4, 8192), 0, -1, 0, &[libc::E2BIG]),
            10 => (
                "sigtrap without remove_on_exec",
                dummy().double(40, 1 << 37),
                0,
                -1,
                0,
                &[libc::EINVAL],
            ),
            _ => (
                "remove_on_exec and enable_on_exec",
                dummy().double(40, 1 << 36 | 1 << 12),
                0,
                -1,
                0,
                &[libc::EINVAL],
            ),
        };
    let opened = call::perf_event_open_with(&attributes, thread, cpu, None, flags);
    stage.expect(&format!("perf_event_open of {what}"), promised, &opened);
    Ok(())
}

fn bpf_attributes(stage: &mut Stage<'_>) -> Answer<()> {
    let create = |kind, key, value, entries, flags| {
        let attributes = Attributes::default()
            .word(0, kind)
            .word(4, key)
            .word(8, value)
            .word(12, entries)
            .word(16, flags);
        call::bpf_fd(0, attributes, 72).map(drop)
    };
    let (what, answer, promised): (_, Answer<()>, &[i32]) = match stage.play.dice.below(10) {
        0 => (
            "an unknown command",
            call::bpf(200, Attributes::default(), 72).map(drop),
            &[libc::EINVAL],
        ),
        1 => ("an array with a long key", create(2, 8, 8, 4, 0), &[libc::EINVAL]),
        2 => ("an array of no entries", create(2, 4, 8, 0, 0), &[libc::EINVAL]),
        3 => ("a hash without keys", create(1, 0, 8, 4, 0), &[libc::EINVAL]),
        4 => ("a map of an unknown kind", create(200, 4, 4, 4, 0), &[libc::EINVAL]),
        5 => ("an unknown flag of maps", create(1, 4, 4, 4, 1 << 30), &[libc::EINVAL]),
        6 => ("a ring buffer of no page", create(27, 0, 0, 100, 0), &[libc::EINVAL]),
        7 => ("an LPM trie with preallocation", create(11, 8, 8, 4, 0), &[libc::EINVAL]),
        8 => ("a stack map with an odd value", create(7, 4, 12, 4, 0), &[libc::EINVAL]),
        _ => (
            "bytes behind the attributes",
            // The last word is beyond what the command knows.
            call::bpf(22, Attributes::default().word(0, 0).word(64, 1), 72).map(drop),
            &[libc::EINVAL],
        ),
    };
    stage.expect(&format!("bpf(2) of {what}"), promised, &answer);
    Ok(())
}

/// An address of the kernel's code.
fn kernel_address() -> Option<u64> {
    static AT: OnceLock<Option<u64>> = OnceLock::new();
    *AT.get_or_init(|| {
        let symbols = std::fs::read_to_string("/proc/kallsyms").ok()?;
        let line = symbols.lines().find(|line| line.ends_with(" _text"))?;
        u64::from_str_radix(line.split(' ').next()?, 16).ok().filter(|at| *at != 0)
    })
}

/// Where user space says that its memory is, and it is the kernel's.
fn kernel_addresses(stage: &mut Stage<'_>) -> Answer<()> {
    let Some(at) = kernel_address() else { return Err(libc::ENOENT) };
    let at = at + 8 * u64::from(stage.play.dice.below(64));
    let efault: &[i32] = &[libc::EFAULT];
    let (what, answer, promised): (String, Answer<()>, &[i32]) = match stage.play.dice.below(8) {
        0..=3 => {
            let program = stage.executor.load(
                ProgKind::UprobeMulti,
                Flaw::Sound,
                Vec::new(),
                &Body::default(),
            )?;
            let places = 1 + stage.play.dice.below(3);
            let offsets: Vec<u8> =
                (1..=places).flat_map(|nth| (64 * u64::from(nth)).to_ne_bytes()).collect();
            let attributes = Attributes::default()
                .fd(0, program.as_fd())
                .word(8, BPF_TRACE_UPROBE_MULTI)
                .input(16, c"/proc/self/exe".to_bytes_with_nul())
                .input(24, &offsets)
                .word(48, places)
                .word(56, std::process::id());
            // Path, offsets, reference counters, cookies.
            let which = stage.play.dice.below(4) as usize;
            let field = [16, 24, 32, 40][which];
            let name = ["path", "offsets", "reference counters", "cookies"][which];
            let made = call::bpf_fd(28, attributes.double(field, at), 64);
            (format!("a uprobe link with {name} in the kernel"), made.map(drop), efault)
        }
        4 => {
            let answer = call::bpf_fd(
                5,
                Attributes::default().word(0, 2).word(4, 2).double(8, at).input(16, b"GPL\0"),
                72,
            );
            ("a program in the kernel".to_owned(), answer.map(drop), efault)
        }
        5 => {
            let map = stage.executor.pool.map(
                crate::op::MapKind::Hash,
                crate::op::MapFlags::default(),
                4,
            )?;
            let value = [0; 64];
            let attributes = Attributes::default().fd(0, map.fd.as_fd());
            let attributes = if stage.play.dice.below(2) == 0 {
                attributes.double(8, at).input(16, &value)
            } else {
                attributes.input(8, &value).double(16, at)
            };
            ("an element in the kernel".to_owned(), call::bpf(2, attributes, 32).map(drop), efault)
        }
        6 => {
            let fd = call::perf_event_open(&dummy(), 0, -1, None)?;
            let answer = call::ioctl(fd.as_fd(), super::IOC_ID, at.cast_signed());
            ("an event's id to the kernel".to_owned(), answer.map(drop), efault)
        }
        _ => {
            let attributes = Attributes::default().double(0, at).word(16, 64);
            ("types in the kernel".to_owned(), call::bpf_fd(18, attributes, 32).map(drop), efault)
        }
    };
    stage.expect(&what, promised, &answer);
    Ok(())
}

/// Has a call find the table of descriptors full.
pub(super) fn without_descriptors<T>(call_it: impl FnOnce() -> Answer<T>) -> Answer<T> {
    // The lowest that is free would be the next one.
    let next = std::fs::File::open("/dev/null").map_err(|_| libc::EMFILE)?;
    let lowest = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&next)).unwrap_or(0);
    drop(next);
    let old = call::limit_descriptors(lowest)?;
    let answer = call_it();
    let _ = call::limit_descriptors(old);
    answer
}

/// Calls that make a descriptor and have no room for one leave nothing behind.
fn full_table(stage: &mut Stage<'_>) -> Answer<()> {
    let which = stage.play.dice.below(8);
    let program = match which {
        0 | 1 => Some(load(ProgKind::RawTp, &nothing(0), None)?),
        2 => Some(load(ProgKind::PerfEvent, &nothing(0), None)?),
        3 => Some(load(ProgKind::UprobeMulti, &nothing(0), None)?),
        _ => None,
    };
    let event = match which {
        2 => Some(call::perf_event_open(&dummy().double(8, 2), 0, -1, None)?),
        _ => None,
    };
    let offsets: Vec<u8> = [64_u64, 128].iter().flat_map(|at| at.to_ne_bytes()).collect();
    let name = ["locks_get_lock_context", "sched_process_exit"][stage.play.dice.below(2) as usize];
    let name = [name.as_bytes(), &[0]].concat();
    let insns = [0xb7_u8, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let attributes = Attributes::default();
    let what = match which {
        0 | 1 => "a raw tracepoint",
        2 => "a link to an event",
        3 => "a uprobe link",
        4 => "an event",
        5 => "a map",
        6 => "a program",
        _ => "types",
    };
    let types = crate::bpf::btf::types();
    let answer: Answer<OwnedFd> = without_descriptors(|| match (which, &program, &event) {
        (0 | 1, Some(program), _) => {
            call::bpf_fd(17, attributes.input(0, &name).fd(8, program.as_fd()), 16)
        }
        (2, Some(program), Some(event)) => {
            let attributes = attributes.fd(0, program.as_fd()).fd(4, event.as_fd()).word(8, 41);
            call::bpf_fd(28, attributes, 48)
        }
        (3, Some(program), _) => {
            let attributes = attributes
                .fd(0, program.as_fd())
                .word(8, BPF_TRACE_UPROBE_MULTI)
                .input(16, c"/proc/self/exe".to_bytes_with_nul())
                .input(24, &offsets)
                .word(48, 2);
            call::bpf_fd(28, attributes, 64)
        }
        (4, ..) => call::perf_event_open(&dummy(), 0, -1, None),
        (5, ..) => call::bpf_fd(0, attributes.word(0, 1).word(4, 4).word(8, 8).word(12, 4), 72),
        (6, ..) => {
            let attributes = attributes.word(0, 17).word(4, 2).input(8, &insns);
            call::bpf_fd(5, attributes.input(16, b"GPL\0"), 72)
        }
        _ => {
            let length = u32::try_from(types.len()).unwrap_or(0);
            call::bpf_fd(18, attributes.input(0, &types).word(16, length), 32)
        }
    });
    // Another thread may have closed something meanwhile.
    stage.expect(&format!("{what} without a descriptor left"), &[0, libc::EMFILE], &answer);
    drop((answer, event));
    if let Some(program) = program {
        stage.executor.reap(program);
    }
    Ok(())
}

/// Which buffers an event may write to.
fn outputs(stage: &mut Stage<'_>) -> Answer<()> {
    use std::os::fd::AsRawFd;
    let targets = [(0, -1), (0, 0), (-1, 0), (-1, 1)];
    let first = targets[stage.play.dice.below(4) as usize];
    let second = targets[stage.play.dice.below(4) as usize];
    let open = |(thread, cpu): (i32, i32)| {
        call::perf_event_open(&dummy().double(16, 1), thread, cpu, None)
    };
    let (a, b) = (open(first)?, open(second)?);
    let buffer = call::Region::map(a.as_fd(), 4096 * 2, true)?;
    // The same CPU; where that is any, the same task.
    let fits = first.1 == second.1 && (first.1 != -1 || first.0 == second.0);
    let answer = call::ioctl(b.as_fd(), SET_OUTPUT, a.as_raw_fd().into());
    let what = format!("output of {second:?} (task, CPU) to the buffer of {first:?}");
    let promised: &[i32] = if fits { &[0] } else { &[libc::EINVAL] };
    stage.expect(&what, promised, &answer);
    let itself = call::ioctl(a.as_fd(), SET_OUTPUT, a.as_raw_fd().into());
    stage.expect("output of an event to its own buffer", &[libc::EINVAL], &itself);
    if answer.is_ok() {
        let mapped = call::Region::map(b.as_fd(), 4096 * 2, true);
        // It has the other's buffer, and may map that.
        stage.expect("a mapping of the other's buffer", &[0, libc::EINVAL], &mapped);
        let back = call::ioctl(b.as_fd(), SET_OUTPUT, -1);
        stage.expect("output to nowhere", &[0, libc::EINVAL], &back);
    }
    drop(buffer);
    Ok(())
}

fn ioctls(stage: &mut Stage<'_>) -> Answer<()> {
    let fd = call::perf_event_open(&dummy().double(16, 1), 0, -1, None)?;
    let (what, answer, promised): (_, Answer<i64>, &[i32]) = match stage.play.dice.below(5) {
        0 => ("an unknown ioctl", call::ioctl(fd.as_fd(), 0x24fe, 0), &[libc::ENOTTY]),
        1 => {
            let mut zero = [0; 16];
            let answer = call::ioctl_memory(fd.as_fd(), 0x4008_2404, &mut zero);
            ("a period of 0", answer, &[libc::EINVAL])
        }
        2 => {
            let mut much = [u64::MAX; 16];
            let answer = call::ioctl_memory(fd.as_fd(), 0x4008_2404, &mut much);
            ("a period of 2^64", answer, &[libc::EINVAL])
        }
        3 => ("a program that is none", call::ioctl(fd.as_fd(), 0x4004_2408, 0), &[libc::EINVAL]),
        _ => ("output to a file", call::ioctl(fd.as_fd(), 0x2405, 0), &[libc::EINVAL, libc::EBADF]),
    };
    stage.expect(&format!("ioctl: {what}"), promised, &answer);
    Ok(())
}
