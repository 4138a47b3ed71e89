// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shared objects of our own: the smallest ELF files that a loader's mapping and
//! the kernel's build id parser take for real.
//!
//! A guest has one static program. Stacks through several files, and a file that
//! can lose a page, need more: so the sampled code is written into objects, each
//! with a build id of its own, and mapped from there. As with today's linkers,
//! headers and note have a page to themselves and the code is mapped alone, at a
//! file offset that is not 0.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::elf::BUILD_ID_LENGTH;
use crate::sys;
use crate::sys::memory::Code;

/// Where the code begins in the file.
pub const CODE_AT: u64 = PAGE as u64;

/// The largest page that headers and code are kept apart by.
const PAGE: usize = 4096;

/// Sizes of the ELF header and of a program header.
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

/// Where the note begins: behind three program headers.
const NOTE_AT: usize = HEADER + 3 * PROGRAM_HEADER;
/// Head, `GNU\0`, the id.
const NOTE_SIZE: usize = 12 + 4 + BUILD_ID_LENGTH;

/// `EM_X86_64` and `EM_AARCH64`.
const MACHINE: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };

/// The bytes of an object: headers, build id, code.
#[must_use]
pub fn file(code: &[u8], build_id: &[u8; BUILD_ID_LENGTH]) -> Vec<u8> {
    let size = code.len().next_multiple_of(PAGE);
    let mut file = Vec::with_capacity(PAGE + size);
    // 64-bit, little-endian, version 1; ET_DYN.
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend(3_u16.to_le_bytes());
    file.extend(MACHINE.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    // Entry, program headers, section headers; flags.
    for word in [0, HEADER as u64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 3, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    let mut program_header = |kind: u32, flags: u32, at: u64, size: u64, align: u64| {
        file.extend(kind.to_le_bytes());
        file.extend(flags.to_le_bytes());
        for word in [at, at, at, size, size, align] {
            file.extend(word.to_le_bytes());
        }
    };
    program_header(1, 4, 0, (NOTE_AT + NOTE_SIZE) as u64, PAGE as u64);
    program_header(1, 5, CODE_AT, code.len() as u64, PAGE as u64);
    program_header(4, 4, NOTE_AT as u64, NOTE_SIZE as u64, 4);
    for word in [4_u32, 20, 3] {
        file.extend(word.to_le_bytes());
    }
    file.extend(b"GNU\0");
    file.extend(build_id);
    file.resize(PAGE, 0);
    file.extend(code);
    file.resize(PAGE + size, 0);
    file
}

/// An object whose code is mapped.
#[derive(Debug)]
pub struct Object {
    /// Its build id, distinct from every other's.
    pub build_id: [u8; BUILD_ID_LENGTH],
    code: Code,
    file: File,
    path: PathBuf,
}

impl Object {
    /// Writes the `number`th object into a folder on tmpfs and maps its code.
    pub fn load(folder: &str, number: u8, code: &[u8]) -> io::Result<Self> {
        let mut build_id = [0xb0; BUILD_ID_LENGTH];
        build_id[BUILD_ID_LENGTH - 1] = number;
        static LOADED: AtomicU32 = AtomicU32::new(0);
        let unique = (std::process::id(), LOADED.fetch_add(1, Ordering::Relaxed));
        let path = PathBuf::from(format!("{folder}/bakeoff-{}-{}.so", unique.0, unique.1));
        let bytes = self::file(code, &build_id);
        fs::write(&path, &bytes)?;
        let file = File::options().read(true).write(true).open(&path)?;
        let code = Code::map(&file, CODE_AT, bytes.len() - PAGE)?;
        Ok(Self { build_id, code, file, path })
    }

    /// Where the code lies.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.code.address()
    }

    /// The file's name.
    #[must_use]
    pub fn path(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// Takes the page with headers and note away, for good: what a page that was
    /// reclaimed is for a moment. (tmpfs without swap reclaims none.)
    pub fn drop_headers(&self) -> io::Result<()> {
        sys::punch_hole(self.file.as_raw_fd(), 0, CODE_AT)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // One that stays lies in the guest's memory and goes with it.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::Elf;

    /// What is written is read back by the parser that the executable is read
    /// with: the same id, and the code where it was put.
    #[test]
    fn an_object_parses() {
        let id = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let file = file(&[0xcc; 100], &id);
        assert_eq!(file.len(), 2 * PAGE);
        let elf = Elf::parse(&file).unwrap();
        assert_eq!(elf.build_id, id);
        let base = 0x7f00_0000_0000;
        let range = elf.file_range(&(base + 4096 + 5..base + 4096 + 9), base + 64).unwrap();
        assert_eq!(range, 4096 + 5..4096 + 9);
        assert_eq!(&file[4096..4096 + 100], &[0xcc; 100]);
    }

    /// A program that is not ours takes the object for one as well.
    #[test]
    fn readelf_agrees() {
        let path = std::env::temp_dir().join(format!("bakeoff-object-{}", std::process::id()));
        fs::write(&path, file(crate::sys::sampled::code(), &[0xab; BUILD_ID_LENGTH])).unwrap();
        let output = std::process::Command::new("readelf").arg("-hln").arg(&path).output();
        fs::remove_file(&path).unwrap();
        // Part of binutils, which every linker here comes with.
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        assert!(text.contains(&format!("Build ID: {}", "ab".repeat(20))), "{text}");
        assert!(text.contains("DYN (Shared object file)") && !text.contains("Warning"), "{text}");
    }

    /// Without its headers an object has no build id any more, and its code is
    /// still there.
    #[test]
    fn headers_can_be_dropped() {
        // /dev/shm is a tmpfs.
        let object = Object::load("/dev/shm", 200, &[0x55; 64]).unwrap();
        object.drop_headers().unwrap();
        let file = fs::read(&object.path).unwrap();
        assert!(Elf::parse(&file).is_err());
        assert_eq!(&file[PAGE..PAGE + 64], &[0x55; 64]);
    }
}
