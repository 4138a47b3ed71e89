// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `read(2)` of perf events has to say: a model of groups, inheritance, exec, exit
//! and ioctls, held against events on a puppet whose system calls and faults are known.

use std::os::fd::{AsFd, OwnedFd};

use super::{SHORT_ROUNDS, Stage};
use crate::op::value::Dice;
use crate::sys::call::{self, Answer, Attributes};
use crate::sys::puppet::{Puppet, Task};

/// Bits of `read_format`.
const ENABLED: u64 = 1;
const RUNNING: u64 = 2;
const ID: u64 = 4;
const GROUP: u64 = 8;
const LOST: u64 = 16;

/// What a group's `read(2)` may be, in bytes: more members are refused.
const MOST_BYTES: u64 = 16 << 10;
/// Words that are read: more than a kernel that does not refuse in time can write.
const ROOM: usize = 12 << 10;
/// What a puppet does besides what it is told, in calls and faults.
const SLACK: u64 = 400;

impl Member {
    /// What it is when it leaves its group: a group's times are its leader's, and now they
    /// are its own.
    fn alone(mut self, murky: bool) -> Group {
        if let Some([_, enabled, running]) = &mut self.last {
            (*enabled, *running) = (0, 0);
        }
        Group { members: vec![self], murky, ..Group::default() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Calls,
    Faults,
    Other,
}

#[derive(Debug)]
struct Member {
    fd: OwnedFd,
    id: u64,
    format: u64,
    what: What,
    enabled: bool,
    removed: bool,
    remove_on_exec: bool,
    enable_on_exec: bool,
    /// The last count and times that were read.
    last: Option<[u64; 3]>,
}

/// A group: its first member is the leader.
#[derive(Debug, Default)]
struct Group {
    members: Vec<Member>,
    /// A member joined while a child with a copy of the group lived.
    grown: bool,
    /// It changed in another way meanwhile: what its copies look like is not known.
    murky: bool,
    /// Which copies there are.
    copies: u32,
}

/// What the puppet did since counts were read.
struct Done {
    /// The counts, by id.
    before: Vec<(u64, u64)>,
    what: What,
    n: u32,
    /// Whether its events see it: what a child does only those that are inherited.
    counted: bool,
    /// Whether too few are wrong; if not, it is to be done again.
    judged: bool,
}

/// Steps in words; one that is done again and again is told once.
fn told(steps: &[&str]) -> String {
    let runs = steps.chunk_by(|a, b| a == b).map(|run| match run {
        [step] => (*step).to_owned(),
        _ => format!("{} {} times", run.first().unwrap_or(&""), run.len()),
    });
    runs.collect::<Vec<_>>().join(", ")
}

/// Words of a read.
fn words(format: u64, members: u64) -> u64 {
    let times = u64::from(format & ENABLED != 0) + u64::from(format & RUNNING != 0);
    let each = 1 + u64::from(format & ID != 0) + u64::from(format & LOST != 0);
    if format & GROUP == 0 { times + each } else { 1 + times + each * members }
}

struct Play<'a, 'b> {
    stage: &'a mut Stage<'b>,
    puppet: Puppet,
    groups: Vec<Group>,
    inherit: bool,
    children: u32,
    /// There was a child: the kernel may have swapped its events with the puppet's, which
    /// shows nowhere but in what an exec removes.
    forked: bool,
    exited: bool,
    /// What was done so far, in a word each: part of what a wrong answer says.
    steps: Vec<&'static str>,
}

pub(super) fn run(stage: &mut Stage<'_>) -> Answer<()> {
    let puppet = Puppet::start().map_err(|error| error.raw_os_error().unwrap_or(libc::ECHILD))?;
    let inherit = stage.play.dice.below(2) == 1;
    let many = stage.play.dice.below(10) == 0;
    let mut play = Play {
        stage,
        puppet,
        groups: Vec::new(),
        inherit,
        children: 0,
        forked: false,
        exited: false,
        steps: Vec::new(),
    };
    let answer = if many { play.crowd() } else { play.act() };
    let Play { stage, puppet, mut groups, .. } = play;
    // Leaders first, or last, or after the puppet.
    match stage.play.dice.below(3) {
        0 => drop(groups),
        1 => {
            for group in &mut groups {
                while group.members.pop().is_some() {}
            }
        }
        _ => {
            puppet.end(stage.play.dice.below(2) == 0);
            return answer;
        }
    }
    puppet.end(stage.play.dice.below(2) == 0);
    answer
}

/// Descriptors that a crowd of events needs.
const CROWD_DESCRIPTORS: u64 = 16_384;

impl Play<'_, '_> {
    fn below(&mut self, n: u32) -> u32 {
        self.stage.play.dice.below(n)
    }

    /// Whether the puppet did it.
    fn tell(&mut self, task: Task) -> bool {
        self.forked |=
            matches!(task, Task::Fork | Task::Errand(_) | Task::Thread(_) | Task::FailFork(_));
        self.steps.push(task.word());
        let done = matches!(self.puppet.tell(task), Ok(0));
        if !done {
            self.steps.push("in vain");
        }
        done
    }

    fn wrong(&mut self, what: &str) {
        self.stage.wrong(format!("{what}; after {}", told(&self.steps)));
    }

    fn format(&mut self) -> u64 {
        let any = u64::from(self.below(32));
        if self.below(2) == 0 { any | GROUP } else { any }
    }

    /// Opens an event on the puppet; it joins a group if one is given.
    fn open(&mut self, leader: Option<usize>, format: u64) -> Answer<Member> {
        let (what, kind, config) = match self.below(5) {
            0 | 1 => match self.stage.sys_enter() {
                Some(id) => (What::Calls, 2, id),
                None => (What::Other, 1, 9),
            },
            2 => (What::Faults, 1, 2),
            3 => (What::Faults, 1, 5),
            _ => (What::Other, 1, [1, 3, 4, 9][self.below(4) as usize]),
        };
        let disabled = self.below(4) == 0;
        // The kernel refuses both.
        let (remove_on_exec, enable_on_exec) = match self.below(4) {
            0 => (true, false),
            1 if disabled => (false, true),
            _ => (false, false),
        };
        let flags = u64::from(disabled)
            | u64::from(self.inherit) << 1
            | u64::from(enable_on_exec) << 12
            | u64::from(remove_on_exec) << 36;
        let attributes = Attributes::default()
            .word(0, kind)
            .word(4, 136)
            .double(8, config)
            .double(32, format)
            .double(40, flags);
        let group = leader.and_then(|group| self.groups.get(group)?.members.first());
        let group = group.map(|leader| leader.fd.as_fd());
        let fd = call::perf_event_open(&attributes, self.puppet.process(), -1, group)?;
        let mut id = [0; 16];
        call::ioctl_memory(fd.as_fd(), super::IOC_ID, &mut id)?;
        Ok(Member {
            fd,
            id: id[0],
            format,
            what,
            enabled: !disabled,
            removed: false,
            remove_on_exec,
            enable_on_exec,
            last: None,
        })
    }

    fn join(&mut self, group: usize, format: u64) -> Answer<()> {
        // A leader that an exec removed is in no child.
        if self.groups.get(group).is_some_and(|group| group.members.iter().any(|m| m.removed)) {
            return Err(libc::EINVAL);
        }
        let member = self.open(Some(group), format)?;
        let children = self.children;
        if let Some(group) = self.groups.get_mut(group) {
            group.members.push(member);
            group.grown |= group.copies > 0 && children > 0;
            self.steps.push("join");
        }
        Ok(())
    }

    fn begin(&mut self) -> Answer<()> {
        let format = self.format();
        let leader = self.open(None, format)?;
        self.groups.push(Group { members: vec![leader], ..Group::default() });
        self.steps.push("open");
        Ok(())
    }

    /// More members than a `read(2)` may tell of.
    fn crowd(&mut self) -> Answer<()> {
        let old = call::limit_descriptors(CROWD_DESCRIPTORS)?;
        let answer = self.fill();
        // Closed here, for what follows has the old limit.
        self.groups.clear();
        let _ = call::limit_descriptors(old);
        answer
    }

    fn fill(&mut self) -> Answer<()> {
        let wanted = [150, 800, 2900, 2900][self.below(4) as usize];
        let wide = GROUP | ID | LOST | u64::from(self.below(4));
        // Who is wide decides where the kernel has to notice.
        let (leader, others) = match self.below(3) {
            0 => (wide, 0),
            1 => (0, wide),
            _ => (wide, wide),
        };
        let leader = self.open(None, leader)?;
        self.groups.push(Group { members: vec![leader], ..Group::default() });
        for _ in 0..wanted {
            // One that is wide among others that are not.
            let format = if others != 0 && self.below(64) == 0 { others } else { 0 };
            match self.join(0, format) {
                Ok(()) => {}
                Err(libc::E2BIG | libc::EINVAL | libc::EMFILE | libc::ENOSPC) => break,
                Err(errno) => return Err(errno),
            }
            let members = self.groups.first().map_or(&[][..], |group| &group.members);
            let count = members.len() as u64;
            let most = members.iter().map(|member| words(member.format, count) * 8).max();
            if most.is_some_and(|bytes| bytes > MOST_BYTES) {
                self.wrong(&format!(
                    "a group of {count} events was let grow to {} bytes of read(2)",
                    most.unwrap_or(0)
                ));
                // To see what reading it does needs more of them, so the rest is opened.
            }
        }
        self.read_all(None);
        Ok(())
    }

    fn act(&mut self) -> Answer<()> {
        for _ in 0..=self.below(2) {
            self.begin()?;
            let group = self.groups.len() - 1;
            for _ in 0..self.below(4) {
                let format = self.format();
                // What cannot be together is refused.
                let _ = self.join(group, format);
            }
        }
        self.read_all(None);
        for _ in 0..4 + self.below(8) {
            self.step();
        }
        if self.below(2) == 0 {
            // The final counts stay to be read.
            let new = Puppet::start().map_err(|_| libc::ECHILD)?;
            std::mem::replace(&mut self.puppet, new).end(false);
            self.exited = true;
            self.steps.push("exit");
            self.children = 0;
            for group in &mut self.groups {
                group.murky = true;
                group.grown = false;
            }
            self.read_all(None);
        }
        Ok(())
    }

    fn step(&mut self) {
        let n = 450 + self.below(300);
        match self.below(16) {
            0..=2 => self.work(Task::Calls(n), What::Calls, n, true),
            3 => self.work(Task::Faults(n), What::Faults, n, true),
            4 => {
                let what = if self.below(2) == 0 { What::Calls } else { What::Faults };
                self.work(Task::Errand(n), what, n, self.inherit);
            }
            5 => self.work(Task::Thread(n), What::Calls, n, self.inherit),
            6 | 7 => {
                if self.tell(Task::Fork) {
                    self.children += 1;
                    for group in &mut self.groups {
                        group.copies = self.children;
                    }
                }
            }
            8 => {
                if self.children > 0 && self.tell(Task::Kill) {
                    self.children -= 1;
                    for group in &mut self.groups {
                        if self.children == 0 {
                            (group.copies, group.grown, group.murky) = (0, false, false);
                        } else if group.grown {
                            // It may have been the one whose copy is smaller.
                            (group.grown, group.murky) = (false, true);
                        }
                    }
                }
            }
            9 => self.exec(),
            10 => drop(self.tell(Task::FailFork(1 + n % 4))),
            11 | 12 => {
                if !self.groups.is_empty() {
                    let group = self.below(u32::try_from(self.groups.len()).unwrap_or(1)) as usize;
                    let format = self.format();
                    let _ = self.join(group, format);
                }
            }
            13 => self.close(),
            14 => self.switch(),
            _ => drop(self.begin()),
        }
        self.read_all(None);
    }

    /// Has the puppet do something, and compares what its events say.
    fn work(&mut self, task: Task, what: What, n: u32, counted: bool) {
        for round in 1..=SHORT_ROUNDS {
            let before = self.counts();
            if self.exited || !self.tell(task) {
                return;
            }
            let judged = round == SHORT_ROUNDS || what != What::Calls;
            if !self.read_all(Some(Done { before, what, n, counted, judged })) {
                return;
            }
        }
    }

    /// Each event's count, by id.
    fn counts(&self) -> Vec<(u64, u64)> {
        let members = self.groups.iter().flat_map(|group| &group.members);
        members.filter_map(|member| Some((member.id, member.last?[0]))).collect()
    }

    fn exec(&mut self) {
        if self.inherit && self.forked || !self.tell(Task::Exec) {
            return;
        }
        for group in &mut self.groups {
            for member in &mut group.members {
                member.removed |= member.remove_on_exec;
                member.enabled |= member.enable_on_exec;
                // Once, says the kernel.
                member.enable_on_exec = false;
            }
            // The copies of living children stay as they were.
            if group.members.iter().any(|member| member.removed) {
                group.murky = true;
            }
        }
        self.split_removed();
    }

    /// Events that are removed leave their group; without its leader each is alone.
    fn split_removed(&mut self) {
        let mut alone = Vec::new();
        for group in &mut self.groups {
            let leader_removed = group.members.first().is_some_and(|member| member.removed);
            let members = std::mem::take(&mut group.members);
            let several = members.len() > 1;
            for member in members {
                if several && (member.removed || leader_removed) {
                    alone.push(member.alone(true));
                } else {
                    group.members.push(member);
                }
            }
        }
        self.groups.extend(alone);
        self.groups.retain(|group| !group.members.is_empty());
    }

    fn close(&mut self) {
        if self.groups.is_empty() {
            return;
        }
        let at = self.below(u32::try_from(self.groups.len()).unwrap_or(1)) as usize;
        let Some(members) = self.groups.get(at).map(|group| group.members.len()) else { return };
        let which = self.below(u32::try_from(members).unwrap_or(1)) as usize;
        let Some(group) = self.groups.get_mut(at) else { return };
        if group.copies > 0 {
            (group.murky, group.grown) = (true, false);
        }
        drop(group.members.remove(which));
        self.steps.push(if which == 0 { "close a leader" } else { "close a member" });
        if which == 0 {
            let murky = group.murky;
            let rest = std::mem::take(&mut group.members);
            self.groups.remove(at);
            self.groups.extend(rest.into_iter().map(|member| member.alone(murky)));
        }
    }

    /// Turns a member on or off.
    fn switch(&mut self) {
        let on = self.below(2) == 1;
        let at = self.below(u32::try_from(self.groups.len()).unwrap_or(1)) as usize;
        let Some(group) = self.groups.get_mut(at) else { return };
        let which =
            self.stage.play.dice.below(u32::try_from(group.members.len()).unwrap_or(1)) as usize;
        if let Some(member) = group.members.get_mut(which).filter(|member| !member.removed) {
            let request = if on { super::IOC_ENABLE } else { super::IOC_DISABLE };
            if call::ioctl(member.fd.as_fd(), request, 0).is_ok() {
                member.enabled = on;
                self.steps.push(if on { "enable" } else { "disable" });
            }
        }
    }

    /// Reads all events, and judges what they say; `done` is what the puppet did since
    /// the counts that come with it. Whether that is to be done again.
    fn read_all(&mut self, done: Option<Done>) -> bool {
        let mut again = false;
        let mut memory = vec![0_u64; ROOM];
        for at in 0..self.groups.len() {
            let Some(group) = self.groups.get(at) else { continue };
            let count = group.members.len();
            let leads = group.members.first().is_some_and(|leader| leader.enabled);
            // Of a crowd a few are enough.
            for which in 0..count.min(6) {
                let Some(member) = self.groups.get(at).and_then(|g| g.members.get(which)) else {
                    continue;
                };
                let read = call::read_words(member.fd.as_fd(), &mut memory);
                let said = self.judge(at, which, read, &memory);
                let Some([now, enabled, running]) = said else {
                    // What it counts meanwhile is not known.
                    if let Some(member) =
                        self.groups.get_mut(at).and_then(|g| g.members.get_mut(which))
                    {
                        member.last = None;
                    }
                    continue;
                };
                let Some(member) = self.groups.get_mut(at).and_then(|g| g.members.get_mut(which))
                else {
                    continue;
                };
                let before = member.last.replace([now, enabled, running]);
                let mut wrong = None;
                if let Some([last, was_enabled, was_running]) = before {
                    if now < last {
                        wrong = Some(format!("a count went from {last} back to {now}"));
                    }
                    if enabled < was_enabled || running < was_running {
                        wrong = Some(format!(
                            "a time went back: enabled {was_enabled} to {enabled} ns, running \
                             {was_running} to {running} ns (format {:#x}, {count} members, inherit \
                             {}, {} children, exited {})",
                            member.format, self.inherit, self.children, self.exited
                        ));
                    }
                }
                let known = |counts: &[(u64, u64)]| {
                    counts.iter().find(|(id, _)| *id == member.id).map(|(_, count)| *count)
                };
                let times = member.format & (ENABLED | RUNNING);
                if times == ENABLED | RUNNING && running > enabled {
                    wrong = Some(format!("{running} ns running of {enabled} ns enabled"));
                }
                if let Some(Done { before: counts, what, n, counted, judged }) = &done
                    && let Some(last) = known(counts)
                    && member.what == *what
                {
                    let n = u64::from(*n);
                    let on = member.enabled && leads && !member.removed;
                    let grew = now.wrapping_sub(last);
                    let (least, most) = match (on, counted) {
                        (true, true) => (n, n + SLACK),
                        (true, false) => (0, SLACK),
                        // Who is off at the moment, or in a group whose leader is.
                        (false, _) => (0, 0),
                    };
                    if grew < least && !judged {
                        again = true;
                    } else if grew < least || grew > most {
                        wrong = Some(format!(
                            "{what:?} grew by {grew} and not by {least} to {most} \
                             (on {on}, inherit {})",
                            self.inherit
                        ));
                    }
                }
                if let Some(wrong) = wrong {
                    self.wrong(&wrong);
                }
            }
        }
        again
    }

    /// What an event said of itself: count and times.
    fn judge(
        &mut self,
        at: usize,
        which: usize,
        read: Answer<usize>,
        memory: &[u64],
    ) -> Option<[u64; 3]> {
        let group = self.groups.get(at)?;
        let member = group.members.get(which)?;
        let count = group.members.len() as u64;
        let format = member.format;
        let expected = words(format, count) * 8;
        let copied = format & GROUP != 0 && self.inherit;
        let bytes = match read {
            Ok(bytes) => bytes as u64,
            Err(libc::ECHILD) if copied && (group.grown || group.murky || self.children > 0) => {
                return None;
            }
            Err(errno) => {
                self.wrong(&format!(
                    "read of an event (format {format:#x}, {count} members): errno {errno}"
                ));
                return None;
            }
        };
        if copied && group.grown && !group.murky && !self.exited {
            self.wrong(&format!(
                "read of a group of {count} whose copy in a child has fewer members: {bytes} \
                 bytes and not ECHILD"
            ));
            return None;
        }
        if bytes != expected {
            self.wrong(&format!(
                "read of an event (format {format:#x}, {count} members): {bytes} bytes and not \
                 {expected}"
            ));
            return None;
        }
        let word = |at: u64| usize::try_from(at).ok().and_then(|at| memory.get(at)).copied();
        let mut next = 0;
        let mut take = || {
            next += 1;
            word(next - 1)
        };
        let grouped = format & GROUP != 0;
        let mut value = if grouped { None } else { take() };
        if grouped && take() != Some(count) {
            let said = word(0).unwrap_or(0);
            self.wrong(&format!("a group of {count} says that it is {said}"));
            return None;
        }
        let enabled = if format & ENABLED != 0 { take()? } else { 0 };
        let running = if format & RUNNING != 0 { take()? } else { 0 };
        let mut ids = Vec::new();
        if grouped {
            // Leader first, then in the order in which they joined.
            for nth in 0..count {
                let said = take();
                if nth == which as u64 {
                    value = said;
                }
                if format & ID != 0 {
                    ids.push(take()?);
                }
                if format & LOST != 0 {
                    take();
                }
            }
        } else if format & ID != 0 {
            ids.push(take()?);
        }
        if !ids.is_empty() {
            let right: Vec<u64> = if grouped {
                group.members.iter().map(|member| member.id).collect()
            } else {
                vec![member.id]
            };
            if right != ids && count < 64 {
                self.wrong(&format!("a group of {right:?} says that it is {ids:?}"));
                return None;
            }
        }
        Some([value?, enabled, running])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crowd of events is told in a line, too.
    #[test]
    fn steps_are_told_once() {
        assert_eq!(told(&["open", "join", "join", "fork"]), "open, join 2 times, fork");
        assert_eq!(told(&[]), "");
    }

    /// How many words a read is: `struct read_format` in perf_event.h.
    #[test]
    fn reads_have_their_words() {
        assert_eq!(words(0, 1), 1);
        assert_eq!(words(ENABLED | RUNNING | ID | LOST, 1), 5);
        assert_eq!(words(GROUP | ENABLED | ID, 4), 2 + 2 * 4);
    }
}
