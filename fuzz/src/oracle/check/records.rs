// SPDX-License-Identifier: MIT OR Apache-2.0
//! What perf buffers hold: events of the own thread with any sample format, each with a
//! buffer or together in one, and records that are read back word by word.

use std::os::fd::{AsFd, OwnedFd};

use super::Stage;
use super::buffer::{PAGE, drain};
use crate::engine::events::SET_OUTPUT;
use crate::op::value::Dice;
use crate::sys::call::{self, Answer, Attributes, Region};
use crate::sys::trigger::Stack;

/// Number of lost records.
const RECORD_LOST: u16 = 2;
const RECORD_SAMPLE: u16 = 9;

/// Bits of `sample_type`, in the order in which the kernel writes them.
mod bit {
    pub const IP: u64 = 1;
    pub const TID: u64 = 1 << 1;
    pub const TIME: u64 = 1 << 2;
    pub const ADDR: u64 = 1 << 3;
    pub const READ: u64 = 1 << 4;
    pub const CALLCHAIN: u64 = 1 << 5;
    pub const ID: u64 = 1 << 6;
    pub const CPU: u64 = 1 << 7;
    pub const PERIOD: u64 = 1 << 8;
    pub const STREAM_ID: u64 = 1 << 9;
    pub const RAW: u64 = 1 << 10;
    pub const REGS_USER: u64 = 1 << 12;
    pub const STACK_USER: u64 = 1 << 13;
    pub const WEIGHT: u64 = 1 << 14;
    pub const DATA_SRC: u64 = 1 << 15;
    pub const IDENTIFIER: u64 = 1 << 16;
    pub const TRANSACTION: u64 = 1 << 17;
    pub const REGS_INTR: u64 = 1 << 18;
    pub const PHYS_ADDR: u64 = 1 << 19;
    pub const DATA_PAGE_SIZE: u64 = 1 << 22;
    pub const CODE_PAGE_SIZE: u64 = 1 << 23;
}

const SAMPLES: [u64; 21] = [
    bit::IP,
    bit::TID,
    bit::TIME,
    bit::ADDR,
    bit::READ,
    bit::CALLCHAIN,
    bit::ID,
    bit::CPU,
    bit::PERIOD,
    bit::STREAM_ID,
    bit::RAW,
    bit::REGS_USER,
    bit::STACK_USER,
    bit::WEIGHT,
    bit::DATA_SRC,
    bit::IDENTIFIER,
    bit::TRANSACTION,
    bit::REGS_INTR,
    bit::PHYS_ADDR,
    bit::DATA_PAGE_SIZE,
    bit::CODE_PAGE_SIZE,
];

/// Registers that are asked for.
const REGISTERS: u64 = 0xff;
/// Bytes of the user's stack that are asked for.
const STACK: u32 = 256;

#[derive(Debug)]
struct Event {
    fd: OwnedFd,
    id: u64,
    sample: u64,
    read_format: u64,
    all: bool,
    /// The tracepoint's number, if it is one.
    tracepoint: Option<u64>,
    /// Whose buffer it writes to: its own place, or another's.
    into: usize,
    buffer: Option<Region>,
    overwrite: bool,
    samples: u64,
    /// It fires once for each trigger.
    exact: bool,
}

pub(super) fn run(stage: &mut Stage<'_>) -> Answer<()> {
    let mut events = Vec::new();
    let count = 1 + stage.play.dice.below(4);
    let tracepoint = stage.executor.tracepoints.file_lock;
    // Together they need an identifier to be told apart.
    let together = stage.play.dice.below(3) == 0;
    let kind = stage.play.dice.below(4);
    // Software events that are no tracepoints hand one prepared sample from event to event
    // (do_perf_sw_event(), 6.12.117): with other sample types the second one's is wrong.
    let software = kind == 3 || tracepoint.is_none();
    let count = if software { 1 } else { count };
    let overwrite = !together && stage.play.dice.below(6) == 0;
    for nth in 0..count {
        let (kind, config) = match (kind, tracepoint) {
            (0..=2, Some(id)) => (2, id),
            _ => (1, 2),
        };
        let opened = open(stage, kind, config, together, overwrite, nth as usize, &events);
        match opened {
            Ok(event) => events.push(event),
            Err(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSPC | libc::EACCES) => {}
            Err(errno) => return Err(errno),
        }
    }
    map(stage, &mut events, together)?;
    let again = 1 + stage.play.dice.below(3);
    let mut triggers = 0;
    for _ in 0..again {
        let times = 1 + stage.play.dice.below(40);
        let stack = Stack::new(&[0x1000, 0x2000, 0x3000]);
        for _ in 0..times {
            if stack.file_lock(stage.executor.files.text.as_fd()).is_ok() {
                triggers += 1;
            }
        }
        if !overwrite {
            consume(stage, &mut events);
        }
    }
    judge(stage, &events, triggers);
    // Who goes first matters to those that share a buffer.
    while !events.is_empty() {
        let at = stage.play.dice.below(u32::try_from(events.len()).unwrap_or(1)) as usize;
        drop(events.swap_remove(at));
    }
    Ok(())
}

fn open(
    stage: &mut Stage<'_>,
    kind: u32,
    config: u64,
    together: bool,
    overwrite: bool,
    nth: usize,
    before: &[Event],
) -> Answer<Event> {
    let mut sample = 0;
    let dense = stage.play.dice.below(3);
    for bit in SAMPLES {
        if stage.play.dice.below(if dense == 0 { 2 } else { 5 }) == 0 {
            sample |= bit;
        }
    }
    if together {
        sample |= bit::IDENTIFIER;
    }
    let all = stage.play.dice.below(2) == 1;
    let read_format = u64::from(stage.play.dice.below(32)) & 0x17;
    let flags = u64::from(all) << 18
        | u64::from(stage.play.dice.below(3) == 0) << 8
        | u64::from(stage.play.dice.below(3) == 0) << 13
        | u64::from(stage.play.dice.below(4) == 0) << 26
        | u64::from(overwrite) << 27;
    let attributes = Attributes::default()
        .word(0, kind)
        .word(4, 136)
        .double(8, config)
        .double(16, 1)
        .double(24, sample)
        .double(32, read_format)
        .double(40, flags)
        .word(48, stage.play.dice.below(3))
        .double(80, if sample & bit::REGS_USER != 0 { REGISTERS } else { 0 })
        .word(88, if sample & bit::STACK_USER != 0 { STACK } else { 0 })
        .double(96, if sample & bit::REGS_INTR != 0 { REGISTERS } else { 0 });
    let first = before.first().filter(|_| together);
    // By a flag of the call, or by an ioctl: PERF_FLAG_FD_NO_GROUP and _FD_OUTPUT.
    let by_flag = first.filter(|first| first.buffer.is_some() && stage.play.dice.below(2) == 0);
    let fd = match by_flag {
        Some(first) => {
            let group = Some(first.fd.as_fd());
            match call::perf_event_open_with(&attributes, 0, -1, group, 3) {
                // Whether it is the event that is refused, an open without the flag tells.
                Err(libc::EINVAL) => {
                    call::perf_event_open(&attributes, 0, -1, None)?;
                    stage.wrong(format!(
                        "an event of the same task is not let write to another's buffer (sample \
                         type {sample:#x})"
                    ));
                    return Err(libc::EINVAL);
                }
                other => other?,
            }
        }
        None => call::perf_event_open(&attributes, 0, -1, None)?,
    };
    let mut id = [0; 16];
    call::ioctl_memory(fd.as_fd(), super::IOC_ID, &mut id)?;
    let mut event = Event {
        fd,
        id: id[0],
        sample,
        read_format,
        all,
        tracepoint: (kind == 2).then_some(config),
        into: if first.is_some() { 0 } else { nth.min(before.len()) },
        buffer: None,
        overwrite,
        samples: 0,
        exact: kind == 2,
    };
    if before.is_empty() && together {
        event.buffer = Some(buffer(stage, &event)?);
    } else if let (Some(first), None) = (first, by_flag) {
        use std::os::fd::AsRawFd;
        let into = i64::from(first.fd.as_raw_fd());
        if let Err(errno) = call::ioctl(event.fd.as_fd(), SET_OUTPUT, into) {
            stage.wrong(format!(
                "an event of the same task and CPU is not let write to another's buffer: errno \
                 {errno}"
            ));
        }
    }
    Ok(event)
}

fn buffer(stage: &mut Stage<'_>, event: &Event) -> Answer<Region> {
    let pages = 1_usize << stage.play.dice.below(4);
    Region::map(event.fd.as_fd(), (1 + pages) * PAGE, !event.overwrite)
}

fn map(stage: &mut Stage<'_>, events: &mut [Event], together: bool) -> Answer<()> {
    for event in events {
        if event.buffer.is_none() && !together {
            let buffer = buffer(stage, event)?;
            event.buffer = Some(buffer);
        }
    }
    Ok(())
}

/// Reads all that the buffers hold.
fn consume(stage: &mut Stage<'_>, events: &mut [Event]) {
    for at in 0..events.len() {
        let Some(buffer) = events.get(at).and_then(|event| event.buffer.as_ref()) else { continue };
        let (records, told) = drain(buffer);
        for record in records {
            if let Err(why) = record_of(events, at, record.kind(), &record.0) {
                stage.wrong(why);
            }
        }
        if let Err(why) = told {
            stage.wrong(why);
        }
    }
}

/// Takes in a record of the buffer of an event.
fn record_of(events: &mut [Event], at: usize, kind: u16, record: &[u64]) -> Result<(), String> {
    let shared = events.iter().filter(|event| event.into == at).count() > 1;
    let by_id = |events: &[Event], id: u64| {
        events.iter().position(|event| event.id == id && event.into == at)
    };
    if kind == RECORD_SAMPLE {
        let event = if shared {
            let id = *record.get(1).unwrap_or(&0);
            by_id(events, id).ok_or_else(|| {
                let ids: Vec<u64> = events.iter().map(|event| event.id).collect();
                format!("a sample of an event {id} in a buffer of {ids:?}")
            })?
        } else {
            at
        };
        let event = events.get_mut(event).ok_or("no such event")?;
        event.samples += 1;
        return sample(event, record);
    }
    let Some(event) = events.get_mut(at) else { return Ok(()) };
    // Records of one event's in a shared buffer end with that one's id.
    if shared {
        return Ok(());
    }
    let trailer = if event.all {
        let sizes = [bit::TID, bit::TIME, bit::ID, bit::STREAM_ID, bit::CPU, bit::IDENTIFIER];
        sizes.iter().filter(|bit| event.sample & **bit != 0).count()
    } else {
        0
    };
    // What the kernel writes of these has one length.
    let body = match kind {
        RECORD_LOST => Some(2),
        4 | 7 => Some(3), // EXIT, FORK
        5 | 6 => Some(3), // THROTTLE, UNTHROTTLE
        13 => Some(1),    // LOST_SAMPLES
        14 => Some(0),    // SWITCH
        15 => Some(1),    // SWITCH_CPU_WIDE
        _ => None,
    };
    if let Some(body) = body
        && record.len() != 1 + body + trailer
    {
        return Err(format!(
            "a record of type {kind} has {} words and not {}",
            record.len(),
            1 + body + trailer
        ));
    }
    if event.all && event.sample & bit::IDENTIFIER != 0 && record.last() != Some(&event.id) {
        return Err(format!(
            "a record of type {kind} ends with {:?} and not with the event's id {}",
            record.last(),
            event.id
        ));
    }
    Ok(())
}

/// Reads a sample word by word.
fn sample(event: &Event, record: &[u64]) -> Result<(), String> {
    let mut at = 1;
    let end = record.len();
    let take = |at: &mut usize, words: usize| -> Option<u64> {
        let first = record.get(*at).copied();
        *at += words;
        (*at <= end).then_some(first.unwrap_or(0))
    };
    let has = |bit: u64| event.sample & bit != 0;
    let whole = (|| -> Option<Result<(), String>> {
        let id = |at: &mut usize, what: &str| -> Option<Result<(), String>> {
            let id = take(at, 1)?;
            Some(if id == event.id {
                Ok(())
            } else {
                Err(format!("the {what} of a sample is {id} and not {}", event.id))
            })
        };
        if has(bit::IDENTIFIER)
            && let Err(why) = id(&mut at, "identifier")?
        {
            return Some(Err(why));
        }
        if has(bit::IP) {
            take(&mut at, 1)?;
        }
        if has(bit::TID) {
            let both = take(&mut at, 1)?;
            let own = u64::from(std::process::id());
            if both & 0xffff_ffff != own {
                return Some(Err(format!("a sample of process {} and not {own}", both as u32)));
            }
        }
        if has(bit::TIME) {
            let time = take(&mut at, 1)?;
            if time == 0 {
                return Some(Err("a sample without its time".to_owned()));
            }
        }
        if has(bit::ADDR) {
            take(&mut at, 1)?;
        }
        if has(bit::ID)
            && let Err(why) = id(&mut at, "id")?
        {
            return Some(Err(why));
        }
        if has(bit::STREAM_ID)
            && let Err(why) = id(&mut at, "stream id")?
        {
            return Some(Err(why));
        }
        if has(bit::CPU) {
            let cpu = take(&mut at, 1)? & 0xffff_ffff;
            if cpu > 64 {
                return Some(Err(format!("a sample of CPU {cpu}")));
            }
        }
        if has(bit::PERIOD) {
            let period = take(&mut at, 1)?;
            if event.exact && period != 1 {
                return Some(Err(format!("a sample of period {period} and not 1")));
            }
        }
        if has(bit::READ) {
            let words = 1 + (event.read_format & 0x17).count_ones() as usize;
            take(&mut at, 1)?;
            let mut left = words - 1;
            for bit in [1, 2] {
                if event.read_format & bit != 0 {
                    take(&mut at, 1)?;
                    left -= 1;
                }
            }
            if event.read_format & 4 != 0 {
                left -= 1;
                if let Err(why) = id(&mut at, "id among the values")? {
                    return Some(Err(why));
                }
            }
            take(&mut at, left)?;
        }
        if has(bit::CALLCHAIN) {
            let frames = take(&mut at, 1)?;
            if frames > 512 {
                return Some(Err(format!("a call chain of {frames}")));
            }
            take(&mut at, frames as usize)?;
        }
        if has(bit::RAW) {
            let first = take(&mut at, 1)?;
            let size = (first & 0xffff_ffff) as usize;
            let number = first >> 32 & 0xffff;
            if let Some(tracepoint) = event.tracepoint
                && number != tracepoint
            {
                return Some(Err(format!(
                    "raw data of event {number} in a sample of tracepoint {tracepoint}"
                )));
            }
            take(&mut at, (size + 4).div_ceil(8) - 1)?;
        }
        if has(bit::REGS_USER) {
            let abi = take(&mut at, 1)?;
            take(&mut at, if abi == 0 { 0 } else { REGISTERS.count_ones() as usize })?;
        }
        if has(bit::STACK_USER) {
            let size = take(&mut at, 1)?;
            if size > u64::from(STACK) {
                return Some(Err(format!("{size} bytes of stack and not {STACK}")));
            }
            if size > 0 {
                take(&mut at, (size / 8) as usize)?;
                let dynamic = take(&mut at, 1)?;
                if dynamic > size {
                    return Some(Err(format!("{dynamic} of {size} bytes of stack were copied")));
                }
            }
        }
        for bit in [bit::WEIGHT, bit::DATA_SRC, bit::TRANSACTION] {
            if has(bit) {
                take(&mut at, 1)?;
            }
        }
        if has(bit::REGS_INTR) {
            let abi = take(&mut at, 1)?;
            take(&mut at, if abi == 0 { 0 } else { REGISTERS.count_ones() as usize })?;
        }
        for bit in [bit::PHYS_ADDR, bit::DATA_PAGE_SIZE, bit::CODE_PAGE_SIZE] {
            if has(bit) {
                take(&mut at, 1)?;
            }
        }
        Some(Ok(()))
    })();
    match whole {
        Some(Ok(())) if at == end => Ok(()),
        Some(Err(why)) => Err(why),
        Some(Ok(())) | None => Err(format!(
            "a sample (type {:#x}, read format {:#x}) has {end} words, of which {at} are its \
             fields",
            event.sample, event.read_format
        )),
    }
}

/// Samples and those that were lost are as many as the event counted.
fn judge(stage: &mut Stage<'_>, events: &[Event], triggers: u64) {
    for event in events.iter().filter(|event| event.exact) {
        let mut memory = [0_u64; 16];
        let Ok(_) = call::read_words(event.fd.as_fd(), &mut memory) else { continue };
        let count = memory[0];
        // Fewer may be: where any program is attached to the tracepoint, a hit on a CPU whose
        // bpf(2) call was preempted is passed over (`bpf_prog_active`).
        if count > triggers {
            stage.wrong(format!("a tracepoint was hit {triggers} times and counted {count}"));
        }
        // What writes over what is there says nothing of its samples, and who lost one in
        // a buffer of several is not told.
        let alone = events.iter().filter(|other| other.into == event.into).count() == 1;
        if event.buffer.is_none() || event.overwrite || !alone {
            continue;
        }
        if event.samples > count {
            stage.wrong(format!("{} samples of {count} hits", event.samples));
        }
        // Other records may be among those that were lost.
        let lost = memory.get(lost_at(event.read_format)).copied().unwrap_or(0);
        if event.read_format & 16 != 0 && event.samples + lost < count {
            stage.wrong(format!("{} samples and {lost} lost of {count} hits", event.samples));
        }
    }
}

/// Where in a read the number of lost samples is.
fn lost_at(format: u64) -> usize {
    1 + (format & 7).count_ones() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(sample: u64) -> Event {
        Event {
            fd: std::fs::File::open("/dev/null").unwrap().into(),
            id: 7,
            sample,
            read_format: 4,
            all: true,
            tracepoint: Some(77),
            into: 0,
            buffer: None,
            overwrite: false,
            samples: 0,
            exact: true,
        }
    }

    /// A sample is its fields and no more, and its ids are the event's.
    #[test]
    fn samples_are_their_fields() {
        let of = event(bit::ID | bit::READ | bit::CALLCHAIN | bit::RAW);
        // Header, id, value, id, two frames, twelve bytes of raw data.
        let right = [0, 7, 100, 7, 2, 0x10, 0x20, 77 << 32 | 12, 0];
        assert_eq!(sample(&of, &right), Ok(()));
        let mut wrong = right;
        wrong[1] = 6;
        assert!(sample(&of, &wrong).unwrap_err().contains("id of a sample is 6"));
        let mut wrong = right;
        wrong[7] = 78 << 32 | 12;
        assert!(sample(&of, &wrong).unwrap_err().contains("tracepoint 77"));
        assert!(sample(&of, &right[..8]).unwrap_err().contains("8 words"));
        assert!(sample(&of, &[&right[..], &[0]].concat()).unwrap_err().contains("10 words"));
    }

    /// What is no sample has the length of its kind, and ends with the event's id.
    #[test]
    fn other_records_have_their_length() {
        let mut events = [event(bit::TID | bit::IDENTIFIER)];
        assert_eq!(record_of(&mut events, 0, RECORD_LOST, &[0, 7, 3, 1, 7]), Ok(()));
        assert!(record_of(&mut events, 0, RECORD_LOST, &[0, 7, 3, 7]).is_err());
        assert!(record_of(&mut events, 0, RECORD_LOST, &[0, 7, 3, 1, 8]).is_err());
        assert!(record_of(&mut events, 0, 14, &[0, 1, 7]).is_ok());
    }
}
