// SPDX-License-Identifier: MIT OR Apache-2.0
//! One operation of a fuzz program: a perf, bpf or memory system call, or a
//! trigger that makes events fire.
//!
//! Operations refer to each other's results by number: `event=1` is the second
//! perf event the program opens. Memory is an *arena* of [`ARENA_PAGES`] pages
//! at a fixed address that nothing else uses, so that no operation can hurt the
//! process it runs in; stacks are forged from addresses in it, so that whatever
//! is mapped there is what gets looked up.

pub mod step;
pub mod value;
mod words;

use step::{Body, MaybeFlaw};
use value::{EventRef, LinkRef, MapRef, ProgRef, Upto, Value, operations};
pub use words::*;

/// Pages of the arena.
pub const ARENA_PAGES: u8 = 32;

/// A page of the arena.
pub type Page = Upto<31>;
/// A number of pages, less one.
pub type MorePages = Upto<7>;

operations! {
    /// One operation.
    Op sep ' ' {
        /// `perf_event_open`.
        PerfOpen "perf-open" weight 14 makes events {
            /// What it counts.
            event: EventKind,
            /// How often it fires.
            period: Period,
            /// Whose.
            target: Target,
            /// Attributes.
            flags: EventFlags,
            /// What a sample holds.
            sample: SampleFlags,
            /// The group it joins.
            group: Option<EventRef>,
            /// The page of a breakpoint.
            page: Page,
        }
        /// An ioctl of an event.
        PerfIoctl "perf-ioctl" weight 8 {
            /// The event.
            event: EventRef,
            /// Which.
            call: EventIoctl,
        }
        /// Another event's buffer, or none.
        PerfOutput "perf-output" weight 2 {
            /// The event.
            event: EventRef,
            /// The one with the buffer.
            into: Option<EventRef>,
        }
        /// `PERF_EVENT_IOC_SET_BPF`.
        PerfBpf "perf-bpf" weight 14 {
            /// The event.
            event: EventRef,
            /// The program.
            prog: ProgRef,
        }
        /// Maps an event's ring buffer.
        PerfMap "perf-map" weight 5 {
            /// The event.
            event: EventRef,
            /// Its data pages: 2 to the power of this; 7 is none.
            order: Upto<3>,
            /// Without write access: it overwrites.
            overwrite: Upto<1>,
        }
        /// Unmaps it.
        PerfUnmap "perf-unmap" weight 3 {
            /// The event.
            event: EventRef,
        }
        /// Reads the counter.
        PerfRead "perf-read" weight 4 {
            /// The event.
            event: EventRef,
        }
        /// Consumes the ring buffer.
        PerfConsume "perf-consume" weight 2 {
            /// The event.
            event: EventRef,
        }
        /// Closes an event.
        PerfClose "perf-close" weight 5 {
            /// The event.
            event: EventRef,
        }
        /// Turns all events of the task off (0) or on.
        PerfTask "perf-task" weight 1 {
            /// On.
            on: Upto<1>,
        }
        /// `BPF_MAP_CREATE`; mostly one that is there already.
        MapCreate "map-create" weight 9 makes maps {
            /// Its kind.
            kind: MapKind,
            /// Flags.
            flags: MapFlags,
            /// Entries: 2 to the power of this.
            entries: Upto<8>,
            /// 0: one of its own, that programs have to be loaded for.
            pooled: Upto<15>,
        }
        /// An operation on a map's elements.
        MapElement "map-element" weight 8 {
            /// The map.
            map: MapRef,
            /// Which.
            call: MapCall,
            /// The key.
            key: Upto<7>,
            /// `BPF_ANY` and so on.
            how: Upto<5>,
        }
        /// Puts an event into a map of events.
        MapEvent "map-event" weight 2 {
            /// The map.
            map: MapRef,
            /// The event.
            event: EventRef,
        }
        /// Puts a program into a map of programs.
        MapProg "map-prog" weight 2 {
            /// The map.
            map: MapRef,
            /// The program.
            prog: ProgRef,
        }
        /// Maps a map's values into the process and out again.
        MapMmap "map-mmap" weight 1 {
            /// The map.
            map: MapRef,
        }
        /// Closes a map.
        MapClose "map-close" weight 2 {
            /// The map.
            map: MapRef,
        }
        /// `BPF_PROG_LOAD`.
        ProgLoad "prog-load" weight 12 makes progs {
            /// Its kind.
            kind: ProgKind,
            /// What is wrong with it.
            flaw: MaybeFlaw,
            /// Its maps.
            maps: Vec<MapRef>,
            /// What it does.
            body: Body,
        }
        /// Closes a program.
        ProgClose "prog-close" weight 2 {
            /// The program.
            prog: ProgRef,
        }
        /// Asks the kernel about a program.
        ProgAsk "prog-ask" weight 2 {
            /// The program.
            prog: ProgRef,
            /// What.
            what: Ask,
        }
        /// Asks the kernel about a map.
        MapAsk "map-ask" weight 1 {
            /// The map.
            map: MapRef,
        }
        /// Has a program called at a place until the end.
        Arm "arm" weight 10 {
            /// The place.
            place: Place,
            /// The program.
            prog: ProgRef,
        }
        /// No longer.
        Disarm "disarm" weight 2 {
            /// The place.
            place: Place,
        }
        /// `BPF_RAW_TRACEPOINT_OPEN`.
        RawOpen "raw-open" weight 1 makes links {
            /// The tracepoint.
            at: RawTp,
            /// The program.
            prog: ProgRef,
        }
        /// `BPF_LINK_CREATE` on an event.
        PerfLink "perf-link" weight 3 makes links {
            /// The event.
            event: EventRef,
            /// The program.
            prog: ProgRef,
        }
        /// `BPF_LINK_CREATE` of `BPF_TRACE_UPROBE_MULTI` (6.6).
        UprobeLink "uprobe-link" weight 1 makes links {
            /// Which program.
            prog: ProgRef,
            /// Whose.
            whose: Whose,
            /// Where.
            at: Where,
        }
        /// Another program for a link.
        LinkUpdate "link-update" weight 2 {
            /// The link.
            link: LinkRef,
            /// The program.
            prog: ProgRef,
        }
        /// Detaches a link.
        LinkDetach "link-detach" weight 1 {
            /// The link.
            link: LinkRef,
        }
        /// Closes a link.
        LinkClose "link-close" weight 2 {
            /// The link.
            link: LinkRef,
        }
        /// Maps something into the arena.
        Mmap "mmap" weight 12 {
            /// Where.
            page: Page,
            /// How much, less one.
            more: MorePages,
            /// What.
            what: Backing,
            /// How.
            protection: Protection,
            /// First page of the file.
            offset: Upto<7>,
        }
        /// Unmaps a part of the arena.
        Munmap "munmap" weight 4 {
            /// Where.
            page: Page,
            /// How much, less one.
            more: MorePages,
        }
        /// Changes protections.
        Mprotect "mprotect" weight 5 {
            /// Where.
            page: Page,
            /// How much, less one.
            more: MorePages,
            /// To what.
            protection: Protection,
        }
        /// Moves a mapping within the arena.
        Mremap "mremap" weight 4 {
            /// From where.
            page: Page,
            /// How much, less one.
            more: MorePages,
            /// To where.
            to: Page,
            /// How much then, less one.
            then: MorePages,
        }
        /// Gives advice.
        Madvise "madvise" weight 4 {
            /// Where.
            page: Page,
            /// How much, less one.
            more: MorePages,
            /// What.
            advice: Advice,
        }
        /// Makes events fire, with a stack of arena addresses.
        Trigger "trigger" weight 22 {
            /// How.
            how: How,
            /// Where, for those that touch memory.
            page: Page,
            /// The stack, innermost first.
            frames: Vec<Page>,
            /// How often, less one.
            again: Upto<3>,
        }
        /// Has the helper thread do something meanwhile.
        Aside "aside" weight 3 {
            /// What.
            what: Aside,
            /// Where.
            page: Page,
            /// How often, less one.
            again: Upto<15>,
        }
        /// A child, waited for.
        Fork "fork" weight 1 {
            /// What it does.
            child: Child,
        }
        /// A signal to the process itself.
        Signal "signal" weight 1 {
            /// Which of those that are harmless.
            which: Upto<2>,
        }
        /// Has the n-th allocation of the next operation fail.
        FailNth "fail-nth" weight 3 {
            /// Which, from 0.
            nth: Upto<31>,
        }
        /// Holds CPUs up for some microseconds at points of the code that patches change,
        /// by a seed; until the program ends.
        Delays "delays" weight 3 {
            /// Which points, and how long.
            seed: Upto<255>,
        }
        /// Has the helper do the next operation while the one after it is done here. Both
        /// wait for each other; a lower skew than 128 has the helper begin so many
        /// microseconds later, a higher one the program so many less 128.
        Beside "beside" weight 2 {
            /// Who is how much later.
            skew: Upto<255>,
        }
        /// Plays a check, by a seed of two halves. The first is the *part*: it alone decides
        /// what is chosen first.
        Check "check" weight 3 {
            /// Which.
            what: Check,
            /// The part.
            seed: Upto<255>,
            /// The other half of the seed.
            more: Upto<255>,
        }
        /// Runs on one CPU (0, 1), or on any (2).
        Affinity "affinity" weight 1 {
            /// Which.
            cpu: Upto<2>,
        }
    }
}

impl Check {
    /// Whether it knows what calls have to answer; if not, the kernel's own checks judge.
    #[must_use]
    pub fn judges(self) -> bool {
        !matches!(self, Self::Lives | Self::Races | Self::MapRaces | Self::MemoryRaces)
    }

    /// Whether it takes chance to find something: a model has seen all after some hundred
    /// plays, a race, or what one BPF program shows, may come in one of a thousand.
    #[must_use]
    pub fn is_by_chance(self) -> bool {
        self == Self::Bounds || !self.judges()
    }

    /// Its place in [`Check::ALL`].
    #[must_use]
    pub fn nth(self) -> usize {
        Self::ALL.iter().position(|check| *check == self).unwrap_or(0)
    }

    /// A check of something alike that does not take as long; `None` if none is needed. To
    /// start a process takes as long as ten programs, and a race its milliseconds.
    fn quicker(self) -> Option<Self> {
        match self {
            Self::Counts | Self::Lives | Self::Races => Some(Self::Records),
            Self::MapRaces => Some(Self::Maps),
            Self::MemoryRaces => Some(Self::Memory),
            Self::Records
            | Self::Sideband
            | Self::Breakpoints
            | Self::Promises
            | Self::Access
            | Self::Wakeups
            | Self::Bounds
            | Self::Infos
            | Self::Iterators
            | Self::Helpers
            | Self::Timers
            | Self::Maps
            | Self::Ring
            | Self::Memory
            | Self::Hits => None,
        }
    }
}

impl Op {
    /// Whether it takes milliseconds rather than microseconds, most of them
    /// waiting for RCU or for a child: a program may have few of these.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        match self {
            Self::RawOpen { .. }
            | Self::UprobeLink { .. }
            | Self::Fork { .. }
            | Self::Check { .. }
            | Self::ProgAsk { .. } => true,
            Self::PerfOpen { event, .. } => event.is_slow(),
            Self::MapCreate { pooled, .. } => pooled.0 == 0,
            _ => false,
        }
    }

    /// The word of the argument that decides what the operation costs; none
    /// where all cost about the same.
    #[must_use]
    pub fn detail(&self) -> &'static str {
        match self {
            Self::PerfOpen { event, .. } => event.word(),
            Self::Trigger { how, .. } => how.word(),
            Self::Aside { what, .. } => what.word(),
            Self::Fork { child } => child.word(),
            Self::Check { what, .. } => what.word(),
            Self::MapCreate { pooled, .. } if pooled.0 == 0 => "own",
            Self::MapElement { call, .. } => call.word(),
            Self::Mmap { what, .. } => what.word(),
            _ => "",
        }
    }

    /// One of the operations, by its weight; slow ones are rarer than that says,
    /// for one of them takes as long as a program of others.
    pub fn any(dice: &mut dyn value::Dice) -> Self {
        let mut op = Self::roll(dice);
        if op.is_slow() && dice.below(3) > 0 {
            return Self::roll(dice);
        }
        op.hasten_mostly(dice);
        op
    }

    /// The number of the operation with this word, in [`Self::TABLE`].
    #[must_use]
    pub fn number(word: &str) -> Option<usize> {
        Self::TABLE.iter().position(|row| row.0 == word)
    }

    /// One of these operations, by their numbers.
    pub fn one_of(numbers: &[usize], dice: &mut dyn value::Dice) -> Option<Self> {
        let chosen = dice.below(u32::try_from(numbers.len()).ok().filter(|n| *n > 0)?);
        let number = numbers.get(chosen as usize)?;
        let mut op = Self::roll_nth(*number, dice);
        op.hasten_mostly(dice);
        Some(op)
    }

    /// Leaves one of many operations that wait as it is.
    fn hasten_mostly(&mut self, dice: &mut dyn value::Dice) {
        if self.rarity().is_some_and(|rarity| dice.below(rarity) > 0) {
            self.hasten();
        }
    }

    /// Of how many such operations one is left, because each takes as long as several
    /// programs, or the processor does nothing meanwhile.
    fn rarity(&self) -> Option<u32> {
        match self {
            Self::PerfOpen { event, .. } if event.is_uprobe() => Some(4),
            Self::Fork { child: Child::Map } | Self::Trigger { how: How::Sleep, .. } => Some(8),
            Self::Check { what, .. } => what.quicker().map(|_| 4),
            _ => None,
        }
    }

    /// Whether it is one of those.
    pub fn waits(&self) -> bool {
        self.rarity().is_some()
    }

    /// Whether it makes other operations wait.
    pub(crate) fn holds_up(&self) -> bool {
        matches!(self, Self::Beside { .. } | Self::Delays { .. })
    }

    /// Has such an operation do something alike that does not take as long.
    pub fn hasten(&mut self) {
        match self {
            Self::PerfOpen { event, .. } if event.is_uprobe() => *event = EventKind::MinorFaults,
            Self::Fork { child } if *child == Child::Map => *child = Child::Exit,
            Self::Check { what, .. } => *what = what.quicker().unwrap_or(*what),
            Self::Trigger { how, .. } if *how == How::Sleep => *how = How::Syscall,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::value::{Seeded, Value};
    use super::*;

    /// What waits has something that does not, of the same operation; each check that only
    /// the kernel judges is one that waits.
    #[test]
    fn what_waits_can_be_hastened() {
        let mut dice = Seeded(1);
        let mut waited = 0;
        for _ in 0..20_000 {
            let mut op = Op::roll(&mut dice);
            if op.waits() {
                waited += 1;
                let word = op.word();
                op.hasten();
                assert!(!op.waits() && op.word() == word, "{op:?}");
            }
        }
        assert!(waited > 100, "{waited}");
        for check in Check::ALL.iter().filter(|check| !check.judges()) {
            assert!(Op::Check { what: *check, seed: Upto(0), more: Upto(0) }.waits(), "{check:?}");
        }
    }

    /// One of given operations is one of them, and seldom what waits.
    #[test]
    fn one_of_some_is_one_of_them() {
        let mut dice = Seeded(3);
        assert_eq!(Op::one_of(&[], &mut dice), None);
        let numbers = ["fork", "munmap"].map(|word| Op::number(word).unwrap());
        let mut waiting = 0;
        for _ in 0..4000 {
            let op = Op::one_of(&numbers, &mut dice).unwrap();
            assert!(matches!(op, Op::Fork { .. } | Op::Munmap { .. }), "{op:?}");
            waiting += u32::from(op.waits());
        }
        // A fifth of the children copy memory, of which one in eight is left.
        assert!((20..120).contains(&waiting), "{waiting} of 4000");
    }
}
