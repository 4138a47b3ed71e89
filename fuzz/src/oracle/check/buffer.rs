// SPDX-License-Identifier: MIT OR Apache-2.0
//! A perf buffer, read record by record (`struct perf_event_mmap_page` and `enum
//! perf_event_type` of include/uapi/linux/perf_event.h).

use crate::sys::call::Region;

/// The first page describes the buffer.
pub(super) use crate::sys::yard::PAGE;

/// Where in it `data_head` and `data_tail` are.
const HEAD: usize = 1024;
const TAIL: usize = 1032;

/// The last of `PERF_RECORD_*` that this program knows.
const LAST_TYPE: u16 = 21;

/// A record: its words, the header among them.
pub(super) struct Record(pub(super) Vec<u64>);

impl Record {
    pub(super) fn kind(&self) -> u16 {
        self.0.first().map_or(0, |header| (*header & 0xffff) as u16)
    }

    pub(super) fn word(&self, at: usize) -> Option<u64> {
        self.0.get(at).copied()
    }

    pub(super) fn text(&self, from: usize) -> Vec<u8> {
        text(&self.0, from)
    }
}

/// The text that begins with a word and ends before a zero.
pub(super) fn text(words: &[u64], from: usize) -> Vec<u8> {
    let bytes = words.iter().skip(from).flat_map(|word| word.to_ne_bytes());
    bytes.take_while(|byte| *byte != 0).collect()
}

/// Takes all that a buffer holds. What is not well-formed ends it, and is told.
pub(super) fn drain(buffer: &Region) -> (Vec<Record>, Result<(), String>) {
    let length = buffer.length() - PAGE;
    let (head, tail) = (buffer.load(HEAD), buffer.load(TAIL));
    let held = head.wrapping_sub(tail);
    if held > length as u64 {
        return (Vec::new(), Err(format!("a buffer of {length} bytes holds {held}")));
    }
    let at = |from: u64| buffer.load(PAGE + (from as usize & (length - 1)));
    let words: Vec<u64> = (tail..head).step_by(8).map(at).collect();
    buffer.store(TAIL, head);
    split(&words)
}

/// Words as records.
fn split(words: &[u64]) -> (Vec<Record>, Result<(), String>) {
    let mut records = Vec::new();
    let mut rest = words;
    while let Some(header) = rest.first() {
        let (kind, size) = (*header as u32, (*header >> 48) as usize);
        if size < 8 || size % 8 != 0 || size / 8 > rest.len() {
            let left = rest.len() * 8;
            let why = format!(
                "a record of type {kind} says that it is {size} bytes, of {left} that are left"
            );
            return (records, Err(why));
        }
        let (record, after) = rest.split_at(size / 8);
        rest = after;
        if kind == 0 || kind > LAST_TYPE.into() {
            return (records, Err(format!("a record of type {kind}")));
        }
        records.push(Record(record.to_vec()));
    }
    (records, Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records follow one another; one that cannot be ends it.
    #[test]
    fn words_are_records() {
        let header = |kind: u64, words: u64| ((words * 8) << 48) | kind;
        let of = |words: &[u64]| {
            let (records, told) = split(words);
            let kinds: Vec<(u16, usize)> =
                records.iter().map(|record| (record.kind(), record.0.len())).collect();
            (kinds, told.err().unwrap_or_default())
        };
        let two = [header(3, 2), 7, header(9, 3), 8, 9];
        assert_eq!(of(&two), (vec![(3, 2), (9, 3)], String::new()));
        let (kinds, why) = of(&two[..4]);
        assert_eq!(kinds, [(3, 2)]);
        assert!(why.contains("24 bytes, of 16"), "{why}");
        assert!(of(&[header(22, 1)]).1.contains("type 22"));
        assert!(of(&[header(0, 1)]).1.contains("type 0"));
        assert!(of(&[header(3, 0)]).1.contains("0 bytes, of 8"));
        assert_eq!(of(&[]), (vec![], String::new()));
    }
}
