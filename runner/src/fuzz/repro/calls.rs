// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each operation's calls, in C.

use std::fmt::Write as _;

use bakeoff_fuzz::engine::SHORTEST;
use bakeoff_fuzz::engine::assemble::assemble;
use bakeoff_fuzz::engine::pool::OWN_ORDER;
use bakeoff_fuzz::op::value::MapRef;
use bakeoff_fuzz::op::{
    Advice, Aside, Ask, Backing, Child, EventIoctl, How, MapCall, MapFlags, MapKind, Op,
    Protection, RawTp, Target, Where, Whose,
};

use super::attributes::attributes;
use super::{Beside, KnownMap, Writer, create, place};

fn protection(word: Protection) -> &'static str {
    match word {
        Protection::None => "PROT_NONE",
        Protection::Read => "PROT_READ",
        Protection::ReadWrite => "PROT_READ | PROT_WRITE",
        Protection::ReadExec => "PROT_READ | PROT_EXEC",
    }
}

impl Writer {
    /// Writes what an operation does; the allocation that fails is of one operation.
    pub(super) fn op(&mut self, op: &Op, number: usize) {
        let fails = self.fails == number && number > 0;
        match self.beside.take() {
            Some(Beside::Next(skew)) if op.goes_elsewhere() => {
                let here = std::mem::take(&mut self.body);
                self.calls_of(op, number);
                let elsewhere = std::mem::replace(&mut self.body, here);
                let _ = write!(
                    self.functions,
                    "\nstatic void beside_{number}(void)\n{{\n{elsewhere}}}\n"
                );
                self.line(format!("beside(beside_{number}, {skew});"));
                self.beside = Some(Beside::Meet(skew));
            }
            Some(Beside::Meet(skew)) => {
                self.line(format!("meet({skew});"));
                self.calls_of(op, number);
            }
            Some(Beside::Next(_)) | None => self.calls_of(op, number),
        }
        if fails {
            self.line("fail_nth(0);");
        }
    }

    fn calls_of(&mut self, op: &Op, number: usize) {
        match op {
            Op::PerfOpen { .. }
            | Op::PerfIoctl { .. }
            | Op::PerfOutput { .. }
            | Op::PerfBpf { .. }
            | Op::PerfMap { .. }
            | Op::PerfUnmap { .. }
            | Op::PerfRead { .. }
            | Op::PerfConsume { .. }
            | Op::PerfClose { .. }
            | Op::PerfTask { .. } => self.perf(op),
            Op::MapCreate { .. }
            | Op::MapElement { .. }
            | Op::MapEvent { .. }
            | Op::MapProg { .. }
            | Op::MapMmap { .. }
            | Op::MapClose { .. }
            | Op::MapAsk { .. } => self.map(op),
            Op::ProgLoad { kind, flaw, maps, body } => {
                let (insns, kept) =
                    self.insns(maps, |around| assemble(*kind, flaw.0, body, around));
                self.prog_load(*kind, &insns, kept, flaw.0);
            }
            Op::ProgClose { prog } => self.prog_close(prog.0.into()),
            Op::ProgAsk { prog, what } => self.line(match what {
                Ask::Info => format!("info(prog[{}]);", prog.0),
                Ask::Task => format!("task_query(prog[{}]);", prog.0),
                Ask::Next => "next_program();".into(),
                Ask::Run => format!("test_run(prog[{}]);", prog.0),
            }),
            Op::Arm { place: at, prog } => {
                if !self.places.contains(at) {
                    self.places.push(*at);
                }
                self.line(format!("put(places, {}, prog[{}]);", place(*at).0, prog.0));
            }
            Op::Disarm { place: at } => {
                self.line(format!("element(BPF_MAP_DELETE_ELEM, places, {}, 0);", place(*at).0));
            }
            Op::RawOpen { .. }
            | Op::PerfLink { .. }
            | Op::UprobeLink { .. }
            | Op::LinkUpdate { .. }
            | Op::LinkDetach { .. }
            | Op::LinkClose { .. } => self.link(op),
            Op::Mmap { .. }
            | Op::Munmap { .. }
            | Op::Mprotect { .. }
            | Op::Mremap { .. }
            | Op::Madvise { .. } => self.memory(op),
            Op::Trigger { how, page, frames, again } => {
                let how = match how {
                    How::Syscall => "BY_SYSCALL",
                    How::Load => "BY_LOAD",
                    How::Store => "BY_STORE",
                    How::Spin => "BY_SPIN",
                    How::Yield => "BY_YIELD",
                    How::Sleep => "BY_SLEEP",
                    How::Copy => "BY_COPY",
                    How::Signal => "BY_SIGNAL",
                };
                let list: Vec<String> = frames.iter().map(|page| page.0.to_string()).collect();
                let list = if list.is_empty() { "0".to_owned() } else { list.join(", ") };
                let (count, times) = (frames.len(), again.0 + 1);
                self.line(format!(
                    "trigger({how}, {}, (unsigned char[]){{ {list} }}, {count}, {times});",
                    page.0
                ));
                self.line(format!("show_stack(\"{number}\");"));
            }
            Op::Aside { what, page, again } => {
                let what = match what {
                    Aside::Map => "ASIDE_MAP",
                    Aside::Protect => "ASIDE_PROTECT",
                    Aside::Load => "ASIDE_LOAD",
                    Aside::Syscall => "ASIDE_SYSCALL",
                    Aside::Drop => "ASIDE_DROP",
                };
                let file = if again.0 % 2 == 0 { "elf_a" } else { "elf_b" };
                self.line(format!("aside({what}, {}, {}, {file});", page.0, again.0 + 1));
            }
            Op::Fork { child } => self.line(match child {
                Child::Exit => "child(CHILD_EXIT);",
                Child::Exec => "child(CHILD_EXEC);",
                Child::Map => "child(CHILD_MAP);",
                Child::Syscalls => "child(CHILD_SYSCALLS);",
                Child::Die => "child(CHILD_DIE);",
            }),
            Op::Signal { which } => {
                let signal = ["SIGUSR1", "SIGUSR2", "SIGURG"].get(usize::from(which.0));
                let signal = signal.copied().unwrap_or("SIGURG");
                self.line(format!(
                    "syscall(__NR_tgkill, getpid(), syscall(__NR_gettid), {signal});"
                ));
            }
            Op::FailNth { nth } => {
                self.line(format!("fail_nth({});", nth.0 + 1));
                self.fails = number + 1;
            }
            Op::Beside { skew } => self.beside = Some(Beside::Next(skew.0)),
            Op::Delays { seed } => {
                let points = if self.delayed { "0" } else { "POINTS" };
                self.line(format!("delays({points}, {});", u32::from(seed.0) + 1));
                self.delayed = true;
            }
            // Only the guest's fuzzer plays checks: see `CFile::Check`.
            Op::Check { .. } => {}
            Op::Affinity { cpu } => {
                self.moved = true;
                self.line(match cpu.0 {
                    0 => "affinity(1);",
                    1 => "affinity(2);",
                    _ => "affinity(~0UL);",
                });
            }
        }
    }

    fn perf(&mut self, op: &Op) {
        match op {
            Op::PerfOpen { event, period, target, flags, sample, group, page } => {
                let number = self.events;
                self.events += 1;
                let fields = attributes(*event, *period, *flags, *sample, page.0);
                let (thread, cpu) = match target {
                    Target::Own => ("0", -1),
                    Target::Helper => ("helper_tid", -1),
                    Target::Cpu0 => ("-1", 0),
                    Target::Cpu1 => ("-1", 1),
                    Target::OwnCpu0 => ("0", 0),
                    Target::Nobody => ("-1", -1),
                };
                let group = group.map_or("-1".into(), |group| format!("event[{}]", group.0));
                self.line("{");
                self.line(format!("\tstruct perf_event_attr attr = {{ {fields} }};"));
                self.line(format!(
                    "\tevent[{number}] = event_open(&attr, {thread}, {cpu}, {group});"
                ));
                self.line("}");
            }
            Op::PerfIoctl { event, call } => {
                let fd = format!("event[{}]", event.0);
                self.line(match call {
                    EventIoctl::Enable => format!("ioctl({fd}, PERF_EVENT_IOC_ENABLE, 0);"),
                    EventIoctl::Disable => format!("ioctl({fd}, PERF_EVENT_IOC_DISABLE, 0);"),
                    EventIoctl::EnableGroup => format!("ioctl({fd}, PERF_EVENT_IOC_ENABLE, 1);"),
                    EventIoctl::DisableGroup => format!("ioctl({fd}, PERF_EVENT_IOC_DISABLE, 1);"),
                    EventIoctl::Refresh => format!("ioctl({fd}, PERF_EVENT_IOC_REFRESH, 2);"),
                    EventIoctl::Reset => format!("ioctl({fd}, PERF_EVENT_IOC_RESET, 0);"),
                    EventIoctl::Pause => format!("ioctl({fd}, PERF_EVENT_IOC_PAUSE_OUTPUT, 1);"),
                    EventIoctl::Resume => format!("ioctl({fd}, PERF_EVENT_IOC_PAUSE_OUTPUT, 0);"),
                    EventIoctl::Unknown => format!("ioctl({fd}, 0x24ff, 0);"),
                    EventIoctl::Period => format!(
                        "ioctl({fd}, PERF_EVENT_IOC_PERIOD, (uint64_t[]){{ {} }});",
                        2 * SHORTEST
                    ),
                    EventIoctl::Id => {
                        format!("ioctl({fd}, PERF_EVENT_IOC_ID, (uint64_t[]){{ 0 }});")
                    }
                    EventIoctl::Filter => {
                        format!("ioctl({fd}, PERF_EVENT_IOC_SET_FILTER, \"common_pid > 1\");")
                    }
                    EventIoctl::QueryBpf => {
                        format!("ioctl({fd}, PERF_EVENT_IOC_QUERY_BPF, (uint32_t[32]){{ 16 }});")
                    }
                    EventIoctl::QueryOne => {
                        format!("ioctl({fd}, PERF_EVENT_IOC_QUERY_BPF, (uint32_t[32]){{ 1 }});")
                    }
                    EventIoctl::Modify => format!(
                        "ioctl({fd}, PERF_EVENT_IOC_MODIFY_ATTRIBUTES,\n\t      &(struct \
                         perf_event_attr){{ .type = PERF_TYPE_BREAKPOINT, .size = 128 }});"
                    ),
                });
            }
            Op::PerfOutput { event, into } => {
                let into = into.map_or("-1".into(), |into| format!("event[{}]", into.0));
                self.line(format!("ioctl(event[{}], PERF_EVENT_IOC_SET_OUTPUT, {into});", event.0));
            }
            Op::PerfBpf { event, prog } => self.line(format!(
                "ioctl(event[{}], PERF_EVENT_IOC_SET_BPF, prog[{}]);",
                event.0, prog.0
            )),
            Op::PerfMap { event, order, overwrite } => {
                let (event, pages) = (event.0, 1 + (1 << order.0));
                let writable = u8::from(overwrite.0 == 0);
                self.line(format!(
                    "region_map(&buffer[{event}], event[{event}], {pages} * PAGE, {writable});"
                ));
            }
            Op::PerfUnmap { event } => self.line(format!("region_unmap(&buffer[{}]);", event.0)),
            Op::PerfConsume { event } => {
                self.line(format!("region_consume(&buffer[{}]);", event.0));
            }
            Op::PerfRead { event } => {
                self.line(format!("if (read(event[{}], (char[256]){{ 0 }}, 256)) {{}}", event.0))
            }
            Op::PerfClose { event } => self.event_close(event.0.into()),
            Op::PerfTask { on } => {
                self.events_off |= on.0 == 0;
                self.line(if on.0 == 1 {
                    "prctl(PR_TASK_PERF_EVENTS_ENABLE, 0, 0, 0, 0);"
                } else {
                    "prctl(PR_TASK_PERF_EVENTS_DISABLE, 0, 0, 0, 0);"
                });
            }
            _ => {}
        }
    }

    pub(super) fn event_close(&mut self, event: usize) {
        self.line(format!("region_unmap(&buffer[{event}]);"));
        self.line(format!("shut(&event[{event}]);"));
    }

    fn map(&mut self, op: &Op) {
        match op {
            Op::MapCreate { kind, flags, entries, pooled } => {
                let number = self.maps.len();
                let pooled = pooled.0 != 0;
                self.maps.push(KnownMap { kind: *kind, pooled });
                let make = create(*kind, *flags, entries.0);
                let made = if pooled { self.keep(format!("map_{number}"), &make) } else { make };
                self.line(format!("map[{number}] = {made};"));
            }
            Op::MapElement { map, call, key, how } => {
                let command = match call {
                    MapCall::Lookup => "BPF_MAP_LOOKUP_ELEM",
                    MapCall::Update => "BPF_MAP_UPDATE_ELEM",
                    MapCall::Delete => "BPF_MAP_DELETE_ELEM",
                    MapCall::Next => "BPF_MAP_GET_NEXT_KEY",
                    MapCall::Take => "BPF_MAP_LOOKUP_AND_DELETE_ELEM",
                    MapCall::Batch => "BPF_MAP_LOOKUP_BATCH",
                    MapCall::Freeze => return self.freeze(*map, how.0),
                };
                let known = self.maps.get(usize::from(map.0));
                let key = match known {
                    Some(map) if map.kind == MapKind::TaskStorage && key.0 < 4 => {
                        "this_process()".into()
                    }
                    _ => key.0.to_string(),
                };
                self.line(format!("element({command}, map[{}], {key}, {});", map.0, how.0));
            }
            Op::MapEvent { map, event } => {
                self.filled.push((map.0, 0));
                self.line(format!("put(map[{}], 0, event[{}]);", map.0, event.0));
            }
            Op::MapProg { map, prog } => {
                self.filled.push((map.0, 1));
                self.line(format!("put(map[{}], 1, prog[{}]);", map.0, prog.0));
            }
            Op::MapMmap { map } => {
                let known = self.maps.get(usize::from(map.0));
                let ring = known.is_some_and(|map| map.kind == MapKind::Ringbuf);
                let length = if ring { 4096 } else { 8192 };
                self.line("{");
                self.line("\tstruct region region = { 0 };");
                self.line(format!("\tregion_map(&region, map[{}], {length}, 1);", map.0));
                self.line("\tregion_unmap(&region);");
                self.line("}");
            }
            Op::MapClose { map } => self.map_close(map.0.into()),
            Op::MapAsk { map } => self.line(format!("info(map[{}]);", map.0)),
            _ => {}
        }
    }

    /// A pooled map would stay frozen: another one is.
    fn freeze(&mut self, map: MapRef, how: u8) {
        let times = 1 + how % 2;
        match self.maps.get(usize::from(map.0)) {
            Some(KnownMap { kind, pooled: true }) => {
                let own = create(*kind, MapFlags::default(), OWN_ORDER);
                self.line(format!("freeze_new({own}, {times});"));
            }
            _ => {
                for _ in 0..times {
                    self.line(format!("element(BPF_MAP_FREEZE, map[{}], 0, 0);", map.0));
                }
            }
        }
    }

    pub(super) fn map_close(&mut self, map: usize) {
        let pooled = self.maps.get(map).is_some_and(|map| map.pooled);
        self.line(if pooled { format!("map[{map}] = -1;") } else { format!("shut(&map[{map}]);") });
    }

    fn link(&mut self, op: &Op) {
        match op {
            Op::RawOpen { at, prog } => {
                let name = match at {
                    RawTp::SysEnter => "sys_enter",
                    RawTp::SchedSwitch => "sched_switch",
                    RawTp::Softirq => "softirq_entry",
                    RawTp::FileLock => "locks_get_lock_context",
                    RawTp::Exit => "sched_process_exit",
                    RawTp::Missing => "no_such_tracepoint",
                };
                let number = self.links;
                self.links += 1;
                self.line(format!("link_[{number}] = raw_open(\"{name}\", prog[{}]);", prog.0));
            }
            Op::PerfLink { event, prog } => {
                let number = self.links;
                self.links += 1;
                let (event, prog) = (event.0, prog.0);
                self.line(format!("link_[{number}] = perf_link(event[{event}], prog[{prog}]);"));
            }
            Op::UprobeLink { prog, whose, at } => {
                let number = self.links;
                self.links += 1;
                let whose = match whose {
                    Whose::All => "0",
                    Whose::Own => "getpid()",
                    Whose::Nobody => "0x7ffffff0",
                };
                let (offsets, count) = match at {
                    Where::Code => ("uprobe_at()", 1),
                    Where::Both => ("uprobe_at(), 64", 2),
                    Where::Beyond => ("1UL << 40", 1),
                };
                self.line(format!(
                    "link_[{number}] = uprobe_link(prog[{}], {whose}, (uint64_t[]){{ {offsets} }}, \
                     {count});",
                    prog.0
                ));
            }
            Op::LinkUpdate { link, prog } => {
                self.line(format!("link_update(link_[{}], prog[{}]);", link.0, prog.0));
            }
            Op::LinkDetach { link } => self.line(format!("link_detach(link_[{}]);", link.0)),
            Op::LinkClose { link } => self.line(format!("shut(&link_[{}]);", link.0)),
            _ => {}
        }
    }

    fn memory(&mut self, op: &Op) {
        match op {
            Op::Mmap { page, more, what, protection: word, offset } => {
                let (page, count, first) = (page.0, more.0 + 1, offset.0);
                let word = protection(*word);
                let mut file = |fd: &str, word: &str, flags: &str| {
                    self.line(format!(
                        "map_file({page}, {count}, {fd}, {word}, {flags}, {first});"
                    ));
                };
                match what {
                    Backing::Anonymous => file("-1", word, "MAP_PRIVATE"),
                    Backing::Shared => file("-1", word, "MAP_SHARED"),
                    Backing::ElfA => file("elf_a", word, "MAP_PRIVATE"),
                    Backing::ElfB => file("elf_b", word, "MAP_PRIVATE"),
                    Backing::ElfBad => file("elf_bad", word, "MAP_PRIVATE"),
                    Backing::ElfShort => file("elf_short", word, "MAP_PRIVATE"),
                    Backing::Text => file("text_file", "PROT_READ", "MAP_SHARED"),
                    Backing::ElfFresh => {
                        self.line(format!("map_fresh({page}, {count}, {word}, {first});"));
                    }
                }
            }
            Op::Munmap { page, more } => {
                self.line(format!("munmap(at({0}), pages({0}, {1}));", page.0, more.0 + 1));
            }
            Op::Mprotect { page, more, protection: word } => self.line(format!(
                "mprotect(at({0}), pages({0}, {1}), {2});",
                page.0,
                more.0 + 1,
                protection(*word)
            )),
            Op::Mremap { page, more, to, then } => self.line(format!(
                "if (mremap(at({0}), pages({0}, {1}), pages({2}, {3}), MREMAP_MAYMOVE | \
                 MREMAP_FIXED, at({2}))) {{}}",
                page.0,
                more.0 + 1,
                to.0,
                then.0 + 1
            )),
            Op::Madvise { page, more, advice } => {
                let advice = match advice {
                    Advice::DontNeed => "MADV_DONTNEED",
                    Advice::WillNeed => "MADV_WILLNEED",
                    Advice::Free => "MADV_FREE",
                    Advice::Cold => "MADV_COLD",
                    Advice::Huge => "MADV_HUGEPAGE",
                    Advice::DontFork => "MADV_DONTFORK",
                    Advice::PageOut => "MADV_PAGEOUT",
                    Advice::Populate => "MADV_POPULATE_READ",
                    Advice::Normal => "MADV_NORMAL",
                    Advice::Random => "MADV_RANDOM",
                    Advice::Sequential => "MADV_SEQUENTIAL",
                    Advice::Remove => "MADV_REMOVE",
                    Advice::DoFork => "MADV_DOFORK",
                    Advice::DontDump => "MADV_DONTDUMP",
                    Advice::DoDump => "MADV_DODUMP",
                    Advice::WipeOnFork => "MADV_WIPEONFORK",
                    Advice::KeepOnFork => "MADV_KEEPONFORK",
                    Advice::PopulateWrite => "MADV_POPULATE_WRITE",
                    Advice::DontNeedLocked => "MADV_DONTNEED_LOCKED",
                };
                self.line(format!(
                    "madvise(at({0}), pages({0}, {1}), {advice});",
                    page.0,
                    more.0 + 1
                ));
            }
            _ => {}
        }
    }
}
