//! Reports that nothing goes on.

use super::super::{Blame, KindRule, Role, Row};
use crate::see::observe::Kind;

use Blame::{LastFunction, Nobody, Stall, Tick, Trace, Waiter};
use KindRule::Is;
use Role::Opens;

/// How a task waits: whatever the lock, the queue or the grace period is called, and whichever
/// subsystem wrapped it in a name of its own. A wait for RCU and for the network's one lock is kept:
/// all of the kernel hangs there when they do, and that is one bug, not hundreds.
const WAITING: &[&str] = &[
    "*sched*",
    "*_lock*",
    "*_slowlock*",
    "*down*",
    "*rwsem*",
    "*completion*",
    "*kthread*",
    "*wait*",
    "*synchronize*",
    "*context_switch*",
    "*__switch_to*",
    "*cancel_delayed_work*",
    "*rcu_barrier*",
    "*msleep*",
];

/// In order: special before general.
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "soft-lockup",
        heads: &[
            "BUG: soft lockup - CPU#{cpu} stuck for {}! [{comm}:{pid}]",
            "BUG: soft lockup - CPU#{cpu}",
            "BUG: soft lockup",
        ],
        kind: Is(Kind::Hang),
        title: "BUG: soft lockup in {F}",
        class: "stall in {F}",
        blame: Stall,
        also: &[],
        role: Opens,
        reason: "a CPU does not schedule: the watchdog hits the loop anywhere",
    },
    Row {
        name: "hard-lockup",
        heads: &[
            "ard LOCKUP on cpu {cpu}",
            "ard LOCKUP",
            "BUG: NMI Watchdog detected LOCKUP on CPU{cpu}",
            "NMI Watchdog detected LOCKUP",
        ],
        kind: Is(Kind::Hang),
        title: "BUG: hard lockup in {F}",
        class: "stall in {F}",
        blame: Stall,
        also: &[],
        role: Opens,
        reason: "a CPU does not take interrupts: the NMI watchdog hits the loop anywhere",
    },
    Row {
        name: "csd-lock",
        heads: &["Detected non-responsive CSD lock (#{n}) on CPU#{}, waiting {} ns for CPU#{cpu} "],
        kind: Is(Kind::Hang),
        title: "BUG: CSD lock stuck in {F}",
        class: "stall in {F}",
        blame: Stall,
        also: &["*csd_lock*", "*smp_call_function*"],
        role: Opens,
        reason: "a CPU does not answer the call of another one, so it does not take interrupts: its stack is \
                 printed first, that of the caller behind it",
    },
    Row {
        name: "rcu-stall",
        heads: &[
            "INFO: {what} detected stalls on CPUs/tasks",
            "INFO: {what} self-detected stall on CPU",
            "INFO: {what} detected expedited stalls on CPUs/tasks",
            "INFO: {what} detected stall on CPU",
            "INFO: {what} detected stalls on",
            "INFO: {what} detected stalls?",
            "INFO: {what} detected stall, but suppressed",
            "INFO: {what} detected expedited stalls, but suppressed",
        ],
        kind: Is(Kind::Hang),
        title: "INFO: rcu detected stall in {F}",
        class: "stall in {F}",
        blame: Tick,
        also: &["*rcu*", "*apic_timer_interrupt*"],
        role: Opens,
        reason: "a CPU or a preempted reader holds up a grace period: the tick hits it anywhere",
    },
    Row {
        name: "hung-task",
        heads: &["INFO: task {comm}:{pid} blocked{}for more than "],
        kind: Is(Kind::Hang),
        title: "INFO: task hung in {F}",
        class: "hang in {F}",
        blame: Waiter,
        also: WAITING,
        role: Opens,
        reason: "a task waits uninterruptibly: what it waits for is the first frame that is not a \
                 way of waiting",
    },
    Row {
        name: "immortal-task",
        heads: &["INFO: task {comm}:{pid} can't die for more than "],
        kind: Is(Kind::Hang),
        title: "INFO: task can't die in {F}",
        class: "hang in {F}",
        blame: Trace,
        also: &["*schedule*", "*__switch_to*", "*context_switch*"],
        role: Opens,
        reason: "a task that was killed goes on waiting",
    },
    Row {
        name: "workqueue-lockup",
        heads: &["BUG: workqueue lockup"],
        kind: Is(Kind::Hang),
        title: "BUG: workqueue lockup",
        class: "",
        blame: Nobody,
        also: &[],
        role: Opens,
        reason: "a pool makes no progress: the report lists works, none of them the culprit",
    },
    Row {
        name: "workqueue-leak",
        heads: &[
            "BUG: workqueue leaked lock or atomic: {comm}/0x{}/{pid}",
            "BUG: workqueue leaked atomic, lock or RCU: {comm}[{pid}]",
            "BUG: workqueue leaked ",
        ],
        kind: Is(Kind::Other),
        title: "BUG: workqueue leaked lock or atomic in {F}",
        class: "",
        blame: LastFunction,
        also: &[],
        role: Opens,
        reason: "a work returned with a lock or preemption off: the report names it",
    },
];
