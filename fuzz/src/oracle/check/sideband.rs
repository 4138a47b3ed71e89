// SPDX-License-Identifier: MIT OR Apache-2.0
//! What perf buffers say of what a task does (side-band records): its names, its mappings,
//! its children, and the BPF programs that it loads; each once, with what it was, and only
//! where the event asks for it.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use super::Play;
use super::Stage;
use super::buffer::{PAGE, Record, drain, text};
use super::infos;
use crate::engine::assemble::nothing;
use crate::engine::pool::load;
use crate::op::ProgKind;
use crate::op::value::Dice;
use crate::sys::call::{self, Answer, Attributes, Region};
use crate::sys::child::{Errand, fork};
use crate::sys::process;
use crate::sys::yard::{PAGES, Stretch};

/// `PERF_RECORD_*`.
const MMAP: u16 = 1;
const COMM: u16 = 3;
const FORK: u16 = 7;
const MMAP2: u16 = 10;
const KSYMBOL: u16 = 17;
const BPF_EVENT: u16 = 18;
/// Bits of the attributes.
const DISABLED: u64 = 1;
const ASK_MMAP: u64 = 1 << 8;
const ASK_COMM: u64 = 1 << 9;
const ASK_TASK: u64 = 1 << 13;
const ASK_MMAP_DATA: u64 = 1 << 17;
const SAMPLE_ID_ALL: u64 = 1 << 18;
const ASK_MMAP2: u64 = 1 << 23;
const ASK_KSYMBOL: u64 = 1 << 29;
const ASK_BPF: u64 = 1 << 30;
const ASKED: [u64; 8] =
    [ASK_MMAP, ASK_COMM, ASK_TASK, ASK_MMAP_DATA, SAMPLE_ID_ALL, ASK_MMAP2, ASK_KSYMBOL, ASK_BPF];
/// `PERF_RECORD_MISC_MMAP_DATA`
const MISC_DATA: u64 = 1 << 13;
const READ: i32 = libc::PROT_READ;
const EXECUTABLE: i32 = libc::PROT_READ | libc::PROT_EXEC;

/// An event of the own thread, and where it tells.
struct Event {
    fd: OwnedFd,
    buffer: Region,
    asked: u64,
    on: bool,
}

impl Event {
    fn open(play: &mut Play) -> Answer<Self> {
        let mut asked = 0;
        for bit in ASKED {
            asked |= if play.dice.below(3) > 0 { bit } else { 0 };
        }
        // Which record a mapping has, and not whether it has one.
        if asked & ASK_MMAP == 0 {
            asked &= !ASK_MMAP2;
        }
        let on = play.dice.below(4) > 0;
        let attributes = Attributes::default()
            .word(0, 1)
            .word(4, 136)
            .double(8, 9) // PERF_COUNT_SW_DUMMY
            .double(24, 2) // TID
            .double(40, asked | if on { 0 } else { DISABLED });
        let fd = call::perf_event_open(&attributes, 0, -1, None)?;
        let buffer = Region::map(fd.as_fd(), 17 * PAGE, true)?;
        Ok(Self { fd, buffer, asked, on })
    }

    fn asks(&self, bit: u64) -> bool {
        self.on && self.asked & bit != 0
    }

    /// What a mapping's record is, if there is one.
    fn of_mapping(&self, executable: bool) -> Option<u16> {
        let two = self.asks(ASK_MMAP2);
        let wanted = self.asks(if executable { ASK_MMAP } else { ASK_MMAP_DATA });
        wanted.then_some(if two { MMAP2 } else { MMAP })
    }
}

/// What a task did.
#[derive(Clone, Debug)]
enum Deed {
    Named([u8; 16]),
    Mapped {
        at: u64,
        length: u64,
        offset: u64,
        protection: i32,
        shared: bool,
        file: Option<File>,
    },
    Forked {
        thread: bool,
    },
    Loaded(Program),
    /// A program is gone.
    Gone(Program),
    Nothing,
}

/// A BPF program.
#[derive(Clone, Debug)]
struct Program {
    id: u32,
    /// What it is called by its tag.
    name: String,
}

/// What a mapping's record says of a file.
#[derive(Clone, Debug)]
struct File {
    path: String,
    device: [u64; 2],
    inode: u64,
}

pub(super) fn run(stage: &mut Stage<'_>) -> Answer<()> {
    let count = 1 + stage.play.dice.below(2);
    tell(&mut stage.play, count)
}

/// Has so many events tell what is done.
fn tell(play: &mut Play, count: u32) -> Answer<()> {
    let mut events = Vec::new();
    for _ in 0..count {
        events.push(Event::open(play)?);
    }
    let before = process::name();
    let answer = act(play, &mut events);
    process::set_name(&before);
    let _ = Stretch::yard(0, PAGES).unmap();
    answer
}

fn act(play: &mut Play, events: &mut [Event]) -> Answer<()> {
    let path = "/proc/self/exe";
    let file = std::fs::File::open(path).map_err(|_| libc::ENOENT)?;
    let about = file.metadata().map_err(|_| libc::ENOENT)?;
    let name = std::fs::read_link(path).map_err(|_| libc::ENOENT)?;
    let device = [libc::major(about.dev()), libc::minor(about.dev())].map(u64::from);
    let whole = File { path: name.to_string_lossy().into_owned(), device, inode: about.ino() };
    let _ = Stretch::yard(0, PAGES).unmap();
    for _ in 0..4 + play.dice.below(10) {
        let mut loaded = None;
        let deed = match play.dice.below(8) {
            0 => {
                let mut name = [0; 16];
                for byte in name.iter_mut().take(play.dice.below(16) as usize) {
                    *byte = b'a' + play.dice.below(26) as u8;
                }
                process::set_name(&name);
                Deed::Named(name)
            }
            1..=3 => mapped(play, &file, &whole)?,
            4 => {
                let page = play.dice.below(PAGES as u32) as usize;
                let _ = Stretch::yard(page, 1 + play.dice.below(8) as usize).unmap();
                Deed::Nothing
            }
            5 => {
                let thread = play.dice.below(2) == 0;
                if thread {
                    let idle = std::thread::Builder::new().spawn(|| ());
                    let _ = idle.map_err(|_| libc::EAGAIN)?.join();
                } else {
                    fork(Errand::Nothing)?;
                }
                Deed::Forked { thread }
            }
            6 => {
                // Nobody else's, by its number.
                let number = play.dice.below(1 << 20).cast_signed();
                let program = load(ProgKind::RawTp, &nothing(number), None)?;
                let (answer, _, memory) = infos::info(program.as_fd(), 16, &[]);
                answer?;
                let tag = memory.get(8..16).unwrap_or_default();
                let tag: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
                loaded = Some(program);
                Deed::Loaded(Program {
                    id: infos::word(&memory, 4),
                    name: format!("bpf_prog_{tag}"),
                })
            }
            _ => {
                let at = play.dice.below(2) as usize;
                if let Some(event) = events.get_mut(at) {
                    let call = if event.on { super::IOC_DISABLE } else { super::IOC_ENABLE };
                    call::ioctl(event.fd.as_fd(), call, 0)?;
                    event.on = !event.on;
                }
                Deed::Nothing
            }
        };
        told(play, events, &deed);
        if let (Some(loaded), Deed::Loaded(program)) = (loaded, deed) {
            drop(loaded);
            told(play, events, &Deed::Gone(program));
        }
    }
    Ok(())
}

/// Reads what was told of what was done.
fn told(play: &mut Play, events: &[Event], deed: &Deed) {
    for event in events {
        let (records, told) = drain(&event.buffer);
        if let Err(why) = told.and_then(|()| judge(event, deed, &records)) {
            play.wrong(why);
        }
    }
}

/// Maps something that is no neighbour of another mapping.
fn mapped(play: &mut Play, file: &std::fs::File, about: &File) -> Answer<Deed> {
    let pages = 1 + play.dice.below(3);
    let page = 4 * play.dice.below(8);
    let stretch = Stretch::yard(page as usize, pages as usize);
    // What was there may have reached further.
    let _ = Stretch::yard(page as usize, 4).unmap();
    let protection = [READ, EXECUTABLE][play.dice.below(2) as usize];
    let of_file = play.dice.below(2) == 0;
    let shared = of_file && play.dice.below(2) == 0;
    let first = if of_file { play.dice.below(3) } else { 0 };
    let flags = if shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
    stretch.map(of_file.then(|| file.as_fd()), protection, flags, first as usize)?;
    let at = stretch.address();
    Ok(Deed::Mapped {
        at,
        length: stretch.length() as u64,
        // Of what is of no file it is where it is.
        offset: if of_file { u64::from(first) * PAGE as u64 } else { at },
        protection,
        shared,
        file: of_file.then(|| about.clone()),
    })
}

/// Whether what an event was told is what was done.
fn judge(event: &Event, deed: &Deed, records: &[Record]) -> Result<(), String> {
    let yard = Stretch::yard(0, PAGES);
    let within = |at: u64| (yard.address()..yard.address() + yard.length() as u64).contains(&at);
    // Allocations map what they like, and other programs may be let go by what interrupts us.
    let program = match deed {
        Deed::Loaded(program) | Deed::Gone(program) => Some(program),
        _ => None,
    };
    let relevant = |record: &&Record| match record.kind() {
        MMAP | MMAP2 => record.word(2).is_some_and(within),
        COMM | FORK => true,
        KSYMBOL => program.is_some_and(|program| record.text(3) == program.name.as_bytes()),
        BPF_EVENT => program.is_some_and(|program| {
            record.word(1).is_some_and(|word| word >> 32 == u64::from(program.id))
        }),
        _ => false,
    };
    let records: Vec<&Record> = records.iter().filter(relevant).collect();
    let kinds: Vec<u16> = records.iter().map(|record| record.kind()).collect();
    let right: Vec<u16> = match deed {
        Deed::Named(_) if event.asks(ASK_COMM) => vec![COMM],
        Deed::Mapped { protection, .. } => {
            event.of_mapping(protection & libc::PROT_EXEC != 0).into_iter().collect()
        }
        // Of tasks it is told where anything about them is asked for.
        Deed::Forked { .. } if event.asks(TASKS) => vec![FORK],
        Deed::Loaded(_) | Deed::Gone(_) => [(ASK_KSYMBOL, KSYMBOL), (ASK_BPF, BPF_EVENT)]
            .iter()
            .filter(|(bit, _)| event.asks(*bit))
            .map(|(_, kind)| *kind)
            .collect(),
        _ => Vec::new(),
    };
    if kinds != right {
        return Err(format!(
            "{deed:x?}, where {:#x} is asked for: records of types {kinds:?} and not {right:?}",
            event.asked
        ));
    }
    let trailer = usize::from(event.asked & SAMPLE_ID_ALL != 0);
    for record in records {
        let end = record.0.len() - trailer.min(record.0.len());
        let (body, tail) = record.0.split_at(end);
        let own = own();
        let told = if tail.iter().all(|word| *word == own) {
            fields(deed, record.kind(), body)
        } else {
            Err(format!("it ends with {tail:x?} and not with {own:x}"))
        };
        told.map_err(|why| format!("{deed:x?}: a record of type {}: {why}", record.kind()))?;
    }
    Ok(())
}

/// What `perf_event_task_match()` looks for.
const TASKS: u64 = ASK_COMM | ASK_MMAP | ASK_MMAP_DATA | ASK_TASK;

/// The own process and thread, as records have them.
fn own() -> u64 {
    u64::from(std::process::id()) | u64::from(crate::sys::thread_id()) << 32
}

/// A record's fields behind its header.
fn fields(deed: &Deed, kind: u16, body: &[u64]) -> Result<(), String> {
    let word = |at: usize| body.get(at).copied().unwrap_or(u64::MAX);
    let text = |from: usize| text(body, from);
    let is = |what: &str, told: u64, right: u64| {
        if told == right { Ok(()) } else { Err(format!("{what} is {told:#x} and not {right:#x}")) }
    };
    let named = |told: Vec<u8>, right: &[u8]| {
        if told == right {
            return Ok(());
        }
        let [told, right] = [told.as_slice(), right].map(String::from_utf8_lossy);
        Err(format!("a name is {told:?} and not {right:?}"))
    };
    match deed {
        Deed::Named(name) => {
            let end = name.iter().position(|byte| *byte == 0).unwrap_or(15).min(15);
            is("the task", word(1), own())?;
            named(text(2), name.get(..end).unwrap_or_default())
        }
        Deed::Mapped { at, length, offset, protection, shared, file } => {
            is("the task", word(1), own())?;
            is("the address", word(2), *at)?;
            is("the length", word(3), *length)?;
            is("the offset", word(4), *offset)?;
            let data = if protection & libc::PROT_EXEC == 0 { MISC_DATA } else { 0 };
            is("the kind of mapping", word(0) >> 32 & MISC_DATA, data)?;
            let path = file.as_ref().map_or("//anon", |file| &file.path).as_bytes();
            if kind == MMAP {
                return named(text(5), path);
            }
            let (device, inode) =
                file.as_ref().map_or(([0; 2], 0), |file| (file.device, file.inode));
            is("the device", word(5), device[0] | device[1] << 32)?;
            is("the inode", word(6), inode)?;
            let flags = if *shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
            let right =
                u64::from(protection.unsigned_abs()) | u64::from(flags.unsigned_abs()) << 32;
            is("protection and flags", word(8), right)?;
            named(text(9), path)
        }
        Deed::Forked { thread } => {
            let [process, task] = [word(1), word(2)].map(|both| (both as u32, both >> 32));
            let own = own();
            is("the parent", process.1 | task.1 << 32, own)?;
            let same = u64::from(process.0 == std::process::id());
            is("whether it is a thread", same, u64::from(*thread))
        }
        Deed::Loaded(_) | Deed::Gone(_) => {
            let gone = matches!(deed, Deed::Gone(_));
            match kind {
                // The kind is BPF, and there is a flag where it is gone.
                KSYMBOL => is("kind and flags", word(2) >> 32, 1 | u64::from(gone) << 16),
                _ => is("type and flags", word(1) & 0xffff_ffff, 1 + u64::from(gone)),
            }
        }
        Deed::Nothing => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::check::plays;

    /// The kernel that this runs on, if it may be asked, is right about each of them.
    #[test]
    fn this_kernel_is_right() {
        for (seed, mut play) in plays("sideband", 0..300_u16) {
            // Of two events the second one's records of BPF programs are too long in 6.18.44,
            // and no longer in 6.12.117.
            match tell(&mut play, 1) {
                Err(libc::EPERM | libc::EACCES | libc::ENOSYS) if seed == 0 => return,
                answer => assert_eq!((answer, play.wrong), (Ok(()), None), "{seed}"),
            }
        }
    }

    /// A record of something else is not what was done.
    #[test]
    fn fields_are_what_was_done() {
        let deed = Deed::Named(*b"abc\0\0\0\0\0\0\0\0\0\0\0\0\0");
        let right = [0, own(), u64::from_ne_bytes(*b"abc\0\0\0\0\0")];
        assert_eq!(fields(&deed, COMM, &right), Ok(()));
        assert!(fields(&deed, COMM, &[0, own() + 1, right[2]]).unwrap_err().contains("the task"));
        let wrong = [0, own(), u64::from_ne_bytes(*b"abd\0\0\0\0\0")];
        assert!(fields(&deed, COMM, &wrong).unwrap_err().contains("\"abd\""));
        let program = Program { id: 9, name: "bpf_prog_0123456789abcdef".to_owned() };
        let (loaded, gone) = (Deed::Loaded(program.clone()), Deed::Gone(program));
        assert_eq!(fields(&loaded, BPF_EVENT, &[0, 9 << 32 | 1]), Ok(()));
        assert!(fields(&loaded, BPF_EVENT, &[0, 9 << 32 | 2]).is_err());
        assert_eq!(fields(&gone, BPF_EVENT, &[0, 9 << 32 | 2]), Ok(()));
        assert_eq!(fields(&gone, KSYMBOL, &[0, 0, 0x1_0001 << 32]), Ok(()));
        assert!(fields(&loaded, KSYMBOL, &[0, 0, 0x1_0001 << 32]).is_err());
    }
}
