// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an ELF file says of itself: its build id, and where its code lies in
//! the file. The expectation that the kernel's answers are held against, so it
//! is read from the file alone, never from the kernel's view of the mapping.

use std::fmt;
use std::ops::Range;

/// Length of a SHA-1 build id, the only one the kernel hands out in full.
pub const BUILD_ID_LENGTH: usize = 20;

/// Older kernels look for the build id's note in the first page only.
const FIRST_PAGE: u64 = 4096;

/// Why a file cannot serve as the sampled one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfError {
    /// Not a 64-bit little-endian ELF file, or cut off.
    Malformed(&'static str),
    /// No GNU build id of 20 bytes in the first page.
    NoBuildId,
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "not a usable ELF file: {what}"),
            Self::NoBuildId => {
                write!(f, "no SHA-1 build id in the first page; link with -Wl,--build-id=sha1")
            }
        }
    }
}

impl std::error::Error for ElfError {}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    offset: u64,
    address: u64,
    size: u64,
}

/// An executable: its build id and its loaded segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    /// `NT_GNU_BUILD_ID`.
    pub build_id: [u8; BUILD_ID_LENGTH],
    headers_at: u64,
    segments: Vec<Segment>,
}

impl Elf {
    /// Reads headers and notes.
    pub fn parse(file: &[u8]) -> Result<Self, ElfError> {
        if file.get(..6) != Some(b"\x7fELF\x02\x01") {
            return Err(ElfError::Malformed("no 64-bit little-endian ELF header"));
        }
        let headers_at = u64_at(file, 32)?;
        let size = u64::from(u16_at(file, 54)?);
        let count = u64::from(u16_at(file, 56)?);
        let mut segments = Vec::new();
        let mut build_id = None;
        for index in 0..count {
            let at = headers_at
                .checked_add(index * size)
                .filter(|at| *at < file.len() as u64)
                .and_then(|at| usize::try_from(at).ok())
                .ok_or(ElfError::Malformed("program headers beyond the end"))?;
            let segment = Segment {
                offset: u64_at(file, at + 8)?,
                address: u64_at(file, at + 16)?,
                size: u64_at(file, at + 32)?,
            };
            if segment.offset.checked_add(segment.size).is_none()
                || segment.address.checked_add(segment.size).is_none()
            {
                return Err(ElfError::Malformed("a segment that wraps around"));
            }
            match u32_at(file, at)? {
                1 => segments.push(segment),
                4 if build_id.is_none() => build_id = note(file, &segment)?,
                _ => {}
            }
        }
        Ok(Self { build_id: build_id.ok_or(ElfError::NoBuildId)?, headers_at, segments })
    }

    /// Address a file offset was linked to.
    fn address_of(&self, offset: u64) -> Option<u64> {
        self.segments
            .iter()
            .find(|s| offset >= s.offset && offset - s.offset < s.size)
            .map(|s| s.address + (offset - s.offset))
    }

    /// File offset of a range of run-time addresses, where the program headers
    /// were found at `headers` (`AT_PHDR`). `None` outside the file's segments.
    #[must_use]
    pub fn file_range(&self, addresses: &Range<u64>, headers: u64) -> Option<Range<u64>> {
        let bias = headers.wrapping_sub(self.address_of(self.headers_at)?);
        let start = addresses.start.wrapping_sub(bias);
        let length = addresses.end.checked_sub(addresses.start)?;
        let segment = self.segments.iter().find(|s| {
            start >= s.address
                && start - s.address < s.size
                && length <= s.size - (start - s.address)
        })?;
        let offset = segment.offset + (start - segment.address);
        Some(offset..offset + length)
    }
}

/// The build id among a segment's notes, if it lies in the first page.
fn note(file: &[u8], segment: &Segment) -> Result<Option<[u8; BUILD_ID_LENGTH]>, ElfError> {
    let mut at = segment.offset;
    let end = segment.offset + segment.size;
    while at.checked_add(12).is_some_and(|head| head <= end) {
        let head = usize::try_from(at).map_err(|_| ElfError::Malformed("offset too large"))?;
        let name_size = u64::from(u32_at(file, head)?);
        let desc_size = u64::from(u32_at(file, head + 4)?);
        let kind = u32_at(file, head + 8)?;
        let name_at = at + 12;
        let desc_at = name_at + name_size.next_multiple_of(4);
        let next = desc_at + desc_size.next_multiple_of(4);
        let name = slice(file, name_at, name_size)?;
        if kind == 3
            && name == b"GNU\0"
            && desc_size == BUILD_ID_LENGTH as u64
            && next <= FIRST_PAGE
        {
            return Ok(slice(file, desc_at, desc_size)?.try_into().ok());
        }
        at = next;
    }
    Ok(None)
}

fn slice(file: &[u8], at: u64, size: u64) -> Result<&[u8], ElfError> {
    let from = usize::try_from(at).ok();
    let to = at.checked_add(size).and_then(|end| usize::try_from(end).ok());
    from.zip(to).and_then(|(from, to)| file.get(from..to)).ok_or(ElfError::Malformed("cut off"))
}

fn array<const N: usize>(file: &[u8], at: usize) -> Result<[u8; N], ElfError> {
    at.checked_add(N)
        .and_then(|end| file.get(at..end))
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(ElfError::Malformed("cut off"))
}

fn u16_at(file: &[u8], at: usize) -> Result<u16, ElfError> {
    array(file, at).map(u16::from_le_bytes)
}

fn u32_at(file: &[u8], at: usize) -> Result<u32, ElfError> {
    array(file, at).map(u32::from_le_bytes)
}

fn u64_at(file: &[u8], at: usize) -> Result<u64, ElfError> {
    array(file, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with one loaded segment (file 0x0…0x2000 at 0x40_0000) and a note
    /// segment at `note_at` that holds an ABI tag, then the build id.
    fn sample(note_at: usize) -> Vec<u8> {
        let mut file = vec![0; 0x2000];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[32..40].copy_from_slice(&64_u64.to_le_bytes());
        file[54..56].copy_from_slice(&56_u16.to_le_bytes());
        file[56..58].copy_from_slice(&2_u16.to_le_bytes());
        let mut header = |at: usize, kind: u32, offset: u64, address: u64, size: u64| {
            file[at..at + 4].copy_from_slice(&kind.to_le_bytes());
            file[at + 8..at + 16].copy_from_slice(&offset.to_le_bytes());
            file[at + 16..at + 24].copy_from_slice(&address.to_le_bytes());
            file[at + 32..at + 40].copy_from_slice(&size.to_le_bytes());
        };
        header(64, 1, 0, 0x40_0000, 0x2000);
        header(120, 4, note_at as u64, 0x40_0000 + note_at as u64, 68);
        let mut notes = Vec::new();
        for (kind, desc) in [(1_u32, vec![7_u8; 16]), (3, (0..20).collect())] {
            notes.extend(4_u32.to_le_bytes());
            notes.extend(u32::try_from(desc.len()).unwrap().to_le_bytes());
            notes.extend(kind.to_le_bytes());
            notes.extend(b"GNU\0");
            notes.extend(desc);
        }
        file[note_at..note_at + notes.len()].copy_from_slice(&notes);
        file
    }

    /// The build id is the GNU note of kind 3, also behind another note.
    #[test]
    fn finds_the_build_id() {
        let elf = Elf::parse(&sample(0x200)).unwrap();
        assert_eq!(elf.build_id.to_vec(), (0..20).collect::<Vec<u8>>());
    }

    /// A note outside the first page is as good as none: older kernels do not see it.
    #[test]
    fn a_build_id_beyond_the_first_page_does_not_count() {
        assert_eq!(Elf::parse(&sample(0x1800)), Err(ElfError::NoBuildId));
    }

    /// Addresses map to file offsets through the program headers, at any load address.
    #[test]
    fn addresses_become_file_offsets() {
        let elf = Elf::parse(&sample(0x200)).unwrap();
        let bias = 0x7f00_0000_0000;
        let headers = bias + 0x40_0000 + 64;
        let at = |start: u64, end: u64| elf.file_range(&(bias + start..bias + end), headers);
        assert_eq!(at(0x40_1234, 0x40_1240), Some(0x1234..0x1240));
        assert_eq!(at(0x40_1fff, 0x40_2000), Some(0x1fff..0x2000));
        assert_eq!(at(0x40_1fff, 0x40_2001), None);
        assert_eq!(at(0x3f_ffff, 0x40_0000), None);
    }

    /// No prefix of a file, and no broken size in it, makes the parser panic.
    #[test]
    fn broken_files_are_refused() {
        let whole = sample(0x200);
        for end in (0..0x260).chain([0x1000]) {
            let _ = Elf::parse(&whole[..end]);
        }
        for at in 0..0x260 {
            let mut file = whole.clone();
            file[at..at + 8].fill(0xff);
            let _ = Elf::parse(&file);
        }
        assert!(Elf::parse(b"").is_err());
        assert!(Elf::parse(b"#!/bin/sh\n").is_err());
    }

    /// This very test program is a usable file and knows where its code lies.
    #[test]
    fn reads_itself() {
        let file = std::fs::read("/proc/self/exe").unwrap();
        let elf = Elf::parse(&file).unwrap();
        let at = crate::sys::sampled::code_at();
        let code = at..at + crate::sys::sampled::code().len() as u64;
        let found = elf.file_range(&code, crate::sys::program_headers_at()).unwrap();
        let found = usize::try_from(found.start).unwrap()..usize::try_from(found.end).unwrap();
        assert_eq!(&file[found], crate::sys::sampled::code());
    }
}
