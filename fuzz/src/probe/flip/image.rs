// SPDX-License-Identifier: MIT OR Apache-2.0
//! The smallest ELF file that the kernel finds a build id in: a header, one
//! segment to load, one note, and a page of code. Nobody ever starts it.

use std::io;

use crate::elf::BUILD_ID_LENGTH;

const MACHINE: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
const HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;
const NOTES_AT: u64 = HEADER + 2 * PROGRAM_HEADER;
const NOTES: u64 = 12 + 4 + BUILD_ID_LENGTH as u64;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const NT_GNU_BUILD_ID: u32 = 3;
const READ_AND_EXECUTE: u32 = 5;

/// A file of whole pages with `code` at the offset `code_at`, a page's.
pub fn write(
    id: &[u8; BUILD_ID_LENGTH],
    code_at: u64,
    code: &[u8],
    page: u64,
) -> io::Result<Vec<u8>> {
    let size = code_at + (code.len() as u64).next_multiple_of(page);
    let mut file = Vec::new();
    // Class, byte order and version; then type (shared object) to version.
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend([3_u16, MACHINE].map(u16::to_le_bytes).as_flattened());
    file.extend(1_u32.to_le_bytes());
    // Entry, program headers, section headers; then flags.
    file.extend([0, HEADER, 0].map(u64::to_le_bytes).as_flattened());
    file.extend(0_u32.to_le_bytes());
    // Sizes and numbers: this header, two program headers, no section.
    file.extend([64_u16, 56, 2, 64, 0, 0].map(u16::to_le_bytes).as_flattened());
    for (kind, at, length) in [(PT_LOAD, 0, size), (PT_NOTE, NOTES_AT, NOTES)] {
        file.extend([kind, READ_AND_EXECUTE].map(u32::to_le_bytes).as_flattened());
        // Offset, address, physical address, size in the file and in memory.
        file.extend([at, at, at, length, length, 4].map(u64::to_le_bytes).as_flattened());
    }
    file.extend([4, BUILD_ID_LENGTH as u32, NT_GNU_BUILD_ID].map(u32::to_le_bytes).as_flattened());
    file.extend(b"GNU\0");
    file.extend(id);
    file.resize(usize::try_from(code_at).map_err(io::Error::other)?, 0);
    file.extend(code);
    file.resize(usize::try_from(size).map_err(io::Error::other)?, 0);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::Elf;

    /// Our own reader, which is stricter than the kernel's, finds the id, and
    /// the code's offset is the linked address.
    #[test]
    fn the_reader_finds_what_was_written() {
        let id = std::array::from_fn(|n| n as u8);
        let file = write(&id, 0x3000, &[0x90; 5], 0x1000).unwrap();
        assert_eq!(file.len(), 0x4000);
        assert_eq!(&file[0x3000..0x3006], &[0x90, 0x90, 0x90, 0x90, 0x90, 0]);
        let elf = Elf::parse(&file).unwrap();
        assert_eq!(elf.build_id, id);
        assert_eq!(elf.file_range(&(0x3000..0x3005), HEADER), Some(0x3000..0x3005));
    }
}
