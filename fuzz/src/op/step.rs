// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a generated BPF program does: steps that are valid by construction,
//! and a flaw that makes the verifier's day, now and then.

use super::value::{Dice, Made, Upto, Value, flags, operations, words};

words! {
    /// Sizes of the buffer a stack is written to, in bytes.
    Size {
        /// No room at all.
        Nothing "0",
        /// One frame with a build id.
        One "32",
        /// Eight of them.
        Some "256",
        /// All that fit on a stack trace.
        Many "4096",
        /// Not a multiple of an entry.
        Odd "100",
        /// One frame with a build id, and nothing behind it: what is written there shows.
        Edge "edge",
    }
    /// What a memory-reading helper reads.
    Address {
        /// A page of the arena.
        Arena "arena",
        /// Address 0.
        Null "null",
        /// The kernel's own.
        Kernel "kernel",
        /// The context.
        Context "context",
    }
    /// A condition on the last result.
    Test {
        /// It is 0.
        Zero "zero",
        /// It is not.
        NotZero "not-zero",
        /// It is an error.
        Negative "negative",
    }
    /// A helper that only answers a number.
    Plain {
        /// `bpf_ktime_get_ns`
        Time "time",
        /// `bpf_get_smp_processor_id`
        Cpu "cpu",
        /// `bpf_get_current_pid_tgid`
        Pid "pid",
        /// `bpf_get_current_uid_gid`
        Uid "uid",
        /// `bpf_get_prandom_u32`
        Random "random",
        /// `bpf_get_numa_node_id`
        Node "node",
        /// `bpf_get_current_task`
        Task "task",
        /// `bpf_jiffies64`
        Jiffies "jiffies",
        /// `bpf_get_attach_cookie`
        Cookie "cookie",
    }
}

flags! {
    /// Flags of the stack helpers.
    StackFlags {
        /// Of user space.
        user "user",
        /// As build ids.
        build_id "build-id",
        /// By instruction pointers alone.
        fast "fast",
        /// Take the bucket of another stack.
        reuse "reuse",
        /// One nobody has defined.
        unknown "unknown",
    }
}

operations! {
    /// One step of a BPF program. Each leaves its result in the same register.
    Step sep ':' {
        /// `bpf_get_stack` into the scratch map.
        GetStack "get-stack" weight 12 {
            /// Flags.
            flags: StackFlags,
            /// Frames to leave out.
            skip: Upto<3>,
            /// Room for the answer.
            size: Size,
        }
        /// `bpf_get_stackid`.
        GetStackid "get-stackid" weight 10 {
            /// Which of the program's maps.
            map: Upto<2>,
            /// Flags.
            flags: StackFlags,
        }
        /// `bpf_get_task_stack` of the current task.
        GetTaskStack "get-task-stack" weight 2 {
            /// Flags.
            flags: StackFlags,
            /// Room for the answer.
            size: Size,
        }
        /// `bpf_find_vma` of the current task.
        FindVma "find-vma" weight 4 {
            /// A page of the arena.
            page: Upto<31>,
        }
        /// `bpf_task_storage_get` (0), or make (1), or `_delete` (2), of the current task.
        TaskStorage "task-storage" weight 3 {
            /// Which of the program's maps.
            map: Upto<2>,
            /// Which.
            how: Upto<2>,
        }
        /// `bpf_map_lookup_elem`, and a change of the value found.
        Lookup "lookup" weight 6 {
            /// Which of the program's maps.
            map: Upto<2>,
            /// The key.
            key: Upto<7>,
        }
        /// `bpf_map_update_elem`.
        Update "update" weight 6 {
            /// Which of the program's maps.
            map: Upto<2>,
            /// The key.
            key: Upto<7>,
            /// `BPF_ANY` and so on; 3 is none of them.
            how: Upto<3>,
        }
        /// `bpf_map_delete_elem`.
        Delete "delete" weight 4 {
            /// Which of the program's maps.
            map: Upto<2>,
            /// The key.
            key: Upto<7>,
        }
        /// `bpf_ringbuf_output`.
        Ringbuf "ringbuf" weight 5 {
            /// Which of the program's maps.
            map: Upto<2>,
            /// 8-byte words.
            words: Upto<32>,
        }
        /// `bpf_ringbuf_reserve`, then submit or discard.
        Reserve "reserve" weight 4 {
            /// Which of the program's maps.
            map: Upto<2>,
            /// 0 discards.
            submit: Upto<1>,
        }
        /// `bpf_probe_read_user` (0) or `_kernel` (1), or the string ones (2, 3).
        Read "read" weight 4 {
            /// Which.
            how: Upto<3>,
            /// What.
            from: Address,
        }
        /// A helper that only answers a number.
        Plain "plain" weight 3 {
            /// Which.
            helper: Plain,
        }
        /// `bpf_get_current_comm`.
        Comm "comm" weight 1 {}
        /// `bpf_perf_event_output` to a map of events.
        Output "output" weight 3 {
            /// Which of the program's maps.
            map: Upto<2>,
            /// 8-byte words.
            words: Upto<8>,
        }
        /// `bpf_perf_event_read_value` of a map of events.
        ReadValue "read-value" weight 2 {
            /// Which of the program's maps.
            map: Upto<2>,
        }
        /// `bpf_perf_prog_read_value` of the event that ran it.
        OwnValue "own-value" weight 2 {}
        /// `bpf_tail_call`.
        TailCall "tail-call" weight 2 {
            /// Which of the program's maps.
            map: Upto<2>,
        }
        /// `bpf_send_signal`.
        Signal "signal" weight 1 {}
        /// The next step, several times.
        Loop "loop" weight 3 {
            /// How often.
            times: Upto<15>,
        }
        /// The next steps only under a condition.
        When "when" weight 4 {
            /// On the last result.
            test: Test,
            /// How many steps.
            steps: Upto<3>,
        }
    }
}

/// The steps of a program, written with `;` between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Body(pub Vec<Step>);

/// Steps of a program at most.
pub const STEPS: usize = 12;

impl Value for Body {
    fn roll(dice: &mut dyn Dice) -> Self {
        Self((0..=dice.below(3)).map(|_| Step::roll(dice)).collect())
    }

    fn write(&self, out: &mut String) {
        if self.0.is_empty() {
            out.push('-');
        }
        for (index, step) in self.0.iter().enumerate() {
            if index > 0 {
                out.push(';');
            }
            // Its own separator stands inside a field of the operation.
            let start = out.len();
            step.write(out);
            let written = out.split_off(start).replace('=', "@");
            out.push_str(&written);
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if text == "-" {
            return Some(Self::default());
        }
        text.split(';')
            .map(|step| Step::parse(&step.replace('@', "=")))
            .collect::<Option<_>>()
            .map(Self)
    }

    fn fix(&mut self, made: &Made) -> bool {
        let Self(steps) = self;
        steps.retain_mut(|step| step.fix(made));
        steps.truncate(STEPS);
        true
    }

    fn tweak(&mut self, dice: &mut dyn Dice) {
        let at = dice.below(u32::try_from(self.0.len()).unwrap_or(0)) as usize;
        match dice.below(4) {
            0 => self.0.insert(at, Step::roll(dice)),
            1 if !self.0.is_empty() => drop(self.0.remove(at)),
            _ => match self.0.get_mut(at) {
                Some(step) => step.tweak(dice),
                None => self.0.push(Step::roll(dice)),
            },
        }
    }
}

words! {
    /// What is wrong with a BPF program.
    Flaw {
        /// Nothing: the verifier should take it.
        Sound "none",
        /// A register is read that was never written.
        Unset "unset-register",
        /// A looked-up value is used without asking whether there is one.
        Unchecked "unchecked-null",
        /// The stack is read below its end.
        Stack "stack-overrun",
        /// More room is claimed than there is.
        Room "too-much-room",
        /// A map of the wrong kind.
        WrongMap "wrong-map",
        /// A jump out of the program.
        Jump "wild-jump",
        /// No exit at the end.
        Endless "no-exit",
        /// A reservation that is kept.
        Kept "kept-reservation",
        /// A pointer is added to a pointer.
        Pointers "pointer-sum",
        /// A loop without an end.
        Forever "endless-loop",
    }
}

/// A flaw, one time in twelve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaybeFlaw(pub Flaw);

impl Value for MaybeFlaw {
    fn roll(dice: &mut dyn Dice) -> Self {
        Self(if dice.below(12) == 0 { Flaw::roll(dice) } else { Flaw::Sound })
    }

    fn write(&self, out: &mut String) {
        self.0.write(out);
    }

    fn parse(text: &str) -> Option<Self> {
        Flaw::parse(text).map(Self)
    }

    fn fix(&mut self, made: &Made) -> bool {
        self.0.fix(made)
    }
}
