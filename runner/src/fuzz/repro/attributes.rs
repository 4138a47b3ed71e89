// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attributes of perf events, by the names kernel developers know them by.

use bakeoff_fuzz::engine::{PROBED, SHORTEST, attribute_bits, uprobe_in_elf};
use bakeoff_fuzz::op::{EventFlags, EventKind, Period, SampleFlags};

/// A perf event's attributes, as initializers; as the executor makes them.
pub(super) fn attributes(
    event: EventKind,
    period: Period,
    mut flags: EventFlags,
    sample: SampleFlags,
    page: u8,
) -> String {
    let is_clock = matches!(event, EventKind::CpuClock | EventKind::TaskClock);
    let mut every: u64 = match period {
        Period::Never => 0,
        Period::Huge => 1 << 62,
        Period::Each | Period::Few | Period::Short | Period::Long => {
            period.word().parse().unwrap_or(0)
        }
    };
    if is_clock && every > 0 {
        every = every.max(SHORTEST);
    }
    if flags.freq {
        every = every.min(4000);
    }
    if event == EventKind::Cycles && every > 0 && !flags.freq {
        every = every.max(100_000);
    }
    if every == 0 {
        flags.freq = false;
    }
    let software =
        |config: &str| format!(".type = PERF_TYPE_SOFTWARE, .config = PERF_COUNT_SW_{config}");
    let tracepoint =
        |name: &str| format!(".type = PERF_TYPE_TRACEPOINT, .config = tracepoint(\"{name}\")");
    let mut fields = vec![match event {
        EventKind::CpuClock => software("CPU_CLOCK"),
        EventKind::TaskClock => software("TASK_CLOCK"),
        EventKind::PageFaults => software("PAGE_FAULTS"),
        EventKind::Switches => software("CONTEXT_SWITCHES"),
        EventKind::Migrations => software("CPU_MIGRATIONS"),
        EventKind::MinorFaults => software("PAGE_FAULTS_MIN"),
        EventKind::Alignment => software("ALIGNMENT_FAULTS"),
        EventKind::Dummy => software("DUMMY"),
        EventKind::BpfOutput => software("BPF_OUTPUT"),
        EventKind::Cycles => {
            ".type = PERF_TYPE_HARDWARE, .config = PERF_COUNT_HW_CPU_CYCLES".into()
        }
        EventKind::Breakpoint => format!(
            ".type = PERF_TYPE_BREAKPOINT, .bp_type = 3, .bp_addr = (uintptr_t)at({page}), .bp_len = 4"
        ),
        EventKind::SysEnter => tracepoint("raw_syscalls/sys_enter"),
        EventKind::SchedSwitch => tracepoint("sched/sched_switch"),
        EventKind::Softirq => tracepoint("irq/softirq_entry"),
        EventKind::FileLock => tracepoint("filelock/locks_get_lock_context"),
        EventKind::Kprobe => format!(
            ".type = pmu(\"kprobe\"), .kprobe_func = (uintptr_t)\"{}\"",
            PROBED.to_string_lossy()
        ),
        EventKind::Uprobe => ".type = pmu(\"uprobe\"), .uprobe_path = \
                              (uintptr_t)\"/proc/self/exe\", .probe_offset = uprobe_at()"
            .into(),
        EventKind::UprobeElf => format!(
            ".type = pmu(\"uprobe\"), .uprobe_path = (uintptr_t)a_path, .probe_offset = {}",
            uprobe_in_elf(page)
        ),
        EventKind::Unknown => ".type = 77, .config = 7".into(),
    }];
    if every > 0 {
        let field = if flags.freq { "sample_freq" } else { "sample_period" };
        fields.push(format!(".{field} = {every}"));
    }
    fields.extend(sample_fields(sample));
    if !flags.inherit {
        fields.push(".read_format = 15".into());
    }
    let bits = attribute_bits(flags).into_iter();
    fields.extend(bits.filter(|(set, ..)| *set).map(|(_, bit, _)| format!(".{bit} = 1")));
    fields.join(",\n\t\t\t")
}

fn sample_fields(sample: SampleFlags) -> Vec<String> {
    let SampleFlags { ip, tid, time, addr, read, callchain, regs, stack, cpu, period, raw } =
        sample;
    let bits: Vec<String> = [
        (ip, "IP"),
        (tid, "TID"),
        (time, "TIME"),
        (addr, "ADDR"),
        (read, "READ"),
        (callchain, "CALLCHAIN"),
        (cpu, "CPU"),
        (period, "PERIOD"),
        (raw, "RAW"),
        (regs, "REGS_USER"),
        (stack, "STACK_USER"),
    ]
    .into_iter()
    .filter(|(set, _)| *set)
    .map(|(_, bit)| format!("PERF_SAMPLE_{bit}"))
    .collect();
    let mut fields = Vec::new();
    if !bits.is_empty() {
        fields.push(format!(".sample_type = {}", bits.join(" | ")));
    }
    if regs {
        fields.push(".sample_regs_user = 0xff".into());
    }
    if stack {
        fields.push(".sample_stack_user = 512".into());
    }
    fields
}
