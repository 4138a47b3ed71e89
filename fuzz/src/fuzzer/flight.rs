// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program in flight, in memory shared with the host: an `ivshmem-plain`
//! device's BAR, which needs no driver and outlives the guest.
//!
//! Each worker has a slot of [`SLOT`] bytes: a sequence number (odd while the
//! slot is written), the text's length, a checksum, and the text in aligned
//! 8-byte words.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use crate::sys::memory::Mapping;

/// Bytes of a slot.
pub const SLOT: usize = 64 << 10;
/// Slots.
pub const SLOTS: usize = 16;
/// Bytes of the whole memory.
pub const LENGTH: usize = SLOT * SLOTS;

const SEQUENCE: usize = 0;
const BYTES: usize = 8;
const CHECKSUM: usize = 16;
const TEXT: usize = 64;

const DEVICES: &str = "/sys/bus/pci/devices";

/// FNV-1a: tells a whole text from a torn one.
fn checksum(text: &[u8]) -> u64 {
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A worker's slot.
#[derive(Debug)]
pub struct Slot {
    memory: Mapping,
    base: usize,
    sequence: u64,
}

impl Slot {
    /// Finds the device and maps the slot; `None` where there is no device.
    pub fn open(worker: u32) -> io::Result<Option<Self>> {
        let Some(device) = find()? else { return Ok(None) };
        fs::write(device.join("enable"), "1")?;
        let names = ["resource2_wc", "resource2"];
        let Some(path) = names.iter().map(|name| device.join(name)).find(|path| path.exists())
        else {
            return Ok(None);
        };
        let file = File::options().read(true).write(true).open(path)?;
        let memory = Mapping::of(&file, LENGTH)?;
        Ok(Some(Self { memory, base: SLOT * (worker as usize % SLOTS), sequence: 0 }))
    }

    /// Puts a program's text in; one too long is cut, and then has no checksum.
    pub fn put(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let kept = bytes.get(..SLOT - TEXT).unwrap_or(bytes);
        self.sequence += 1;
        self.memory.store(self.base + SEQUENCE, self.sequence * 2 - 1);
        for (index, chunk) in kept.chunks(8).enumerate() {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.memory.store(self.base + TEXT + 8 * index, u64::from_le_bytes(word));
        }
        self.memory.store(self.base + BYTES, kept.len() as u64);
        self.memory.store(self.base + CHECKSUM, checksum(bytes));
        self.memory.store(self.base + SEQUENCE, self.sequence * 2);
    }
}

fn find() -> io::Result<Option<PathBuf>> {
    for device in fs::read_dir(DEVICES)? {
        let path = device?.path();
        let is = |name: &str, value: &str| {
            fs::read_to_string(path.join(name)).is_ok_and(|text| text.trim() == value)
        };
        if is("vendor", "0x1af4") && is("device", "0x1110") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The text in a worker's slot of the shared memory, as the host reads it;
/// `None` if there is none, or it is torn.
#[must_use]
pub fn read(memory: &[u8], worker: u32) -> Option<String> {
    let base = SLOT * (worker as usize % SLOTS);
    let slot = memory.get(base..base + SLOT)?;
    let word = |at: usize| Some(u64::from_le_bytes(slot.get(at..at + 8)?.try_into().ok()?));
    let sequence = word(SEQUENCE)?;
    let length = usize::try_from(word(BYTES)?).ok()?;
    let text = slot.get(TEXT..TEXT.checked_add(length)?)?;
    if sequence == 0 || sequence % 2 == 1 || checksum(text) != word(CHECKSUM)? {
        return None;
    }
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(text: &str, sequence: u64) -> Vec<u8> {
        let mut memory = vec![0; LENGTH];
        let base = SLOT;
        memory[base..base + 8].copy_from_slice(&sequence.to_le_bytes());
        memory[base + 8..base + 16].copy_from_slice(&(text.len() as u64).to_le_bytes());
        let sum = checksum(text.as_bytes());
        memory[base + 16..base + 24].copy_from_slice(&sum.to_le_bytes());
        memory[base + TEXT..base + TEXT + text.len()].copy_from_slice(text.as_bytes());
        memory
    }

    /// A whole text is read; a torn one, one that is being written, and noise
    /// are not.
    #[test]
    fn only_whole_texts_are_read() {
        let whole = memory("bakeoff program 1\n", 2);
        assert_eq!(read(&whole, 1).as_deref(), Some("bakeoff program 1\n"));
        assert_eq!(read(&whole, 0), None);
        assert_eq!(read(&memory("x", 3), 1), None);
        let mut torn = whole.clone();
        torn[SLOT + TEXT] ^= 1;
        assert_eq!(read(&torn, 1), None);
        assert_eq!(read(&vec![0xff; LENGTH], 1), None);
        assert_eq!(read(&[], 1), None);
    }
}
