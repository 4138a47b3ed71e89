// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this probe counts, in a reader's words. A name stands here and where it is
//! counted, nowhere else.

use crate::probe::{Better, Metric, MetricKind, MetricRole, Note, Reason};

/// Calls whose innermost frame has the right build id and offset.
pub const TOP_FRAME: &str = "build_id.top_frame";
/// Calls all of whose frames have them.
pub const ALL_FRAMES: &str = "build_id.all_frames";
/// Frames with a build id that is the right one.
pub const ANSWERED_RIGHT: &str = "build_id.answered_right";
/// The part of the time in which the writer holds `mmap_lock` or waits for it.
pub const WRITER_DUTY: &str = "build_id.writer_duty";
/// How long the helper takes.
pub const CALL_NS: &str = "build_id.call_ns";
/// Calls that a stack map refuses.
pub const STACKID_EXISTS: &str = "build_id.stackid_exists";
/// Calls that a stack map answers with an earlier call's bad luck.
pub const STACKID_STALE: &str = "build_id.stackid_stale";

/// See [`STACKID_EXISTS`] and its kin.
pub const METRICS: &[Metric] = &[
    Metric {
        name: TOP_FRAME,
        means: "right build ids, innermost frame",
        unit: "calls",
        kind: MetricKind::Share,
        better: Better::Higher,
        margin: 0.02,
        role: MetricRole::Claim,
    },
    Metric {
        name: ALL_FRAMES,
        means: "right build ids, all frames",
        unit: "calls",
        kind: MetricKind::Share,
        better: Better::Higher,
        margin: 0.02,
        role: MetricRole::Shown,
    },
    Metric {
        name: ANSWERED_RIGHT,
        means: "answers that are right",
        unit: "frames with a build id",
        kind: MetricKind::Share,
        better: Better::Higher,
        margin: 0.0,
        role: MetricRole::NeverWrong,
    },
    Metric {
        name: WRITER_DUTY,
        means: "time in which the writer holds mmap_lock or waits for it",
        unit: "part of the time",
        kind: MetricKind::Value,
        better: Better::None,
        margin: 0.0,
        role: MetricRole::Condition,
    },
    Metric {
        name: CALL_NS,
        means: "duration of the helper call",
        unit: "ns",
        kind: MetricKind::Value,
        better: Better::Lower,
        margin: 0.05,
        role: MetricRole::Shown,
    },
    Metric {
        name: STACKID_EXISTS,
        means: "calls that the stack map refused with EEXIST",
        unit: "calls",
        kind: MetricKind::Share,
        better: Better::Lower,
        margin: 0.02,
        role: MetricRole::Shown,
    },
    Metric {
        name: STACKID_STALE,
        means: "calls with BPF_F_FAST_STACK_CMP that got an earlier call's fallback",
        unit: "calls with the flag",
        kind: MetricKind::Share,
        better: Better::Lower,
        margin: 0.02,
        role: MetricRole::Shown,
    },
];

/// The call was refused with this errno: there was no user stack to tell.
pub const ERRNO: &str = "errno/";
/// The sample came from this context and not from the one asked for.
pub const CONTEXT: &str = "context/";
/// Events without a run of the program.
pub const MISSED: &str = "missed";
/// Samples that are our own fault.
pub const ERRORS: &str = "errors";

/// Why a call does not count.
pub const EXCLUDED: &[Reason] = &[
    Reason {
        name: ERRNO,
        means: "the helper found no user stack and said so with this errno (0: an empty one)",
        missing: false,
    },
    Reason {
        name: CONTEXT,
        means: "the sample came from this context, not the one asked for",
        missing: false,
    },
    Reason { name: MISSED, means: "the kernel did not run the program", missing: true },
    Reason {
        name: ERRORS,
        means: "the program found no room for the sample, or the answer made no sense",
        missing: true,
    },
];

/// Calls that fell back as a whole while this CPU's deferred unlock was pending.
pub const SLOT_BUSY: &str = "slot_busy";
/// Calls that fell back as a whole while `mmap_lock` was taken for writing.
pub const LOCK_FAILED: &str = "lock_failed";
/// Calls with an answer for the innermost frame, right or not.
pub const TOP_ANSWERED: &str = "top_answered";
/// Calls with an answer for each frame, right or not.
pub const ALL_ANSWERED: &str = "all_answered";
/// Frames of all calls.
pub const FRAMES: &str = "frames";
/// Nanoseconds in which the writer held the lock.
pub const WRITER_HELD_NS: &str = "writer_held_ns";
/// Nanoseconds in which the writer waited for it.
pub const WRITER_WAITED_NS: &str = "writer_waited_ns";
/// Times it mapped, protected and unmapped a page.
pub const WRITER_CYCLES: &str = "writer_cycles";
/// Distinct ids.
pub const STACKID_IDS: &str = "stackid_ids";
/// Ids of a stack with a fallback in it.
pub const STACKID_FALLBACK_IDS: &str = "stackid_fallback_ids";

/// What explains the metrics.
///
/// *slot_busy*, *lock_failed*: read by the program just before the call, the lock's count
/// just after it as well. A writer that came and went between the two readings is not
/// seen; a candidate that falls back for another reason while a writer is there is
/// counted all the same. Where the flags do not matter (interrupts on) or cannot be
/// read the note is missing. What is in neither of the two has another cause.
pub const NOTES: &[Note] = &[
    Note {
        name: SLOT_BUSY,
        means: "fell back while an earlier unlock of mmap_lock was pending on the CPU",
        explains: Some(TOP_FRAME),
    },
    Note {
        name: LOCK_FAILED,
        means: "fell back while somebody held mmap_lock for writing or waited for it",
        explains: Some(TOP_FRAME),
    },
    Note {
        name: TOP_ANSWERED,
        means: "calls with a build id for the innermost frame, right or not",
        explains: None,
    },
    Note {
        name: ALL_ANSWERED,
        means: "calls with a build id for every frame, right or not",
        explains: None,
    },
    Note { name: FRAMES, means: "frames of all calls", explains: None },
    Note {
        name: WRITER_HELD_NS,
        means: "nanoseconds in which the writer held mmap_lock",
        explains: None,
    },
    Note {
        name: WRITER_WAITED_NS,
        means: "nanoseconds in which the writer waited for mmap_lock",
        explains: None,
    },
    Note {
        name: WRITER_CYCLES,
        means: "times the writer mapped, protected and unmapped a page",
        explains: None,
    },
    Note { name: STACKID_IDS, means: "distinct ids that the stack map gave", explains: None },
    Note {
        name: STACKID_FALLBACK_IDS,
        means: "of these, ids of a stack in which a frame has no build id",
        explains: None,
    },
];
