// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files that programs map: small ELF files with known build ids, one whose
//! headers lie, and a text.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Pages of each file.
const PAGES: usize = 16;
const PAGE: usize = 4096;
/// Length of a short build id, as of `ld --build-id=fast`.
pub const SHORT: u32 = 8;

/// The files, open.
#[derive(Clone, Debug)]
pub struct Files {
    /// An ELF file.
    pub a: Arc<OwnedFd>,
    /// Its name.
    pub a_path: CString,
    /// Another, with another build id.
    pub b: Arc<OwnedFd>,
    /// One with a note longer than the file.
    pub bad: Arc<OwnedFd>,
    /// One with a build id of [`SHORT`] bytes.
    pub short: Arc<OwnedFd>,
    /// A text.
    pub text: Arc<OwnedFd>,
    /// An endless source of zeroes.
    pub zero: Arc<OwnedFd>,
    fresh: PathBuf,
}

impl Files {
    /// Writes them to `/tmp` and opens them.
    pub fn make() -> io::Result<Self> {
        let process = std::process::id();
        let make = |name: &str, bytes: &[u8]| -> io::Result<(Arc<OwnedFd>, PathBuf)> {
            let path = PathBuf::from(format!("/tmp/{name}-{process}"));
            fs::write(&path, bytes)?;
            let file = File::options().read(true).write(true).open(&path)?;
            Ok((Arc::new(file.into()), path))
        };
        let (a, path) = make("elf-a", &elf([0xaa; 20], 20))?;
        Ok(Self {
            a,
            a_path: CString::new(path.into_os_string().into_vec())?,
            b: make("elf-b", &elf([0xbb; 20], 20))?.0,
            bad: make("elf-bad", &elf([0xcc; 20], 0x7fff_fff0))?.0,
            // What follows in the file is none of it.
            short: make("elf-short", &elf([0xee; 20], SHORT))?.0,
            text: make("text", &b"no executable\n".repeat(1000))?.0,
            zero: Arc::new(File::open("/dev/zero")?.into()),
            fresh: make("elf-fresh", &elf([0xdd; 20], 20))?.1,
        })
    }

    /// Opens the file that is opened anew each time.
    pub fn open_fresh(&self) -> io::Result<OwnedFd> {
        File::open(&self.fresh).map(OwnedFd::from)
    }
}

/// An ELF file of one note and nothing to run: what the kernel reads of it.
#[must_use]
pub fn elf(build_id: [u8; 20], note_length: u32) -> Vec<u8> {
    const HEADER: usize = 64;
    const SEGMENT: usize = 56;
    let mut file = vec![0; PAGES * PAGE];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(to) = file.get_mut(at..at + bytes.len()) {
            to.copy_from_slice(bytes);
        }
    };
    let machine: u16 = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
    put(0, &[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    put(16, &3_u16.to_le_bytes()); // ET_DYN
    put(18, &machine.to_le_bytes());
    put(20, &1_u32.to_le_bytes());
    put(32, &(HEADER as u64).to_le_bytes()); // e_phoff
    put(52, &64_u16.to_le_bytes());
    put(54, &56_u16.to_le_bytes());
    put(56, &1_u16.to_le_bytes()); // e_phnum
    let note = HEADER + SEGMENT;
    put(HEADER, &4_u32.to_le_bytes()); // PT_NOTE
    put(HEADER + 4, &4_u32.to_le_bytes());
    for field in [8, 16, 24] {
        put(HEADER + field, &(note as u64).to_le_bytes());
    }
    for field in [32, 40] {
        put(HEADER + field, &36_u64.to_le_bytes());
    }
    put(note, &4_u32.to_le_bytes());
    put(note + 4, &note_length.to_le_bytes());
    put(note + 8, &3_u32.to_le_bytes()); // NT_GNU_BUILD_ID
    put(note + 12, b"GNU\0");
    put(note + 16, &build_id);
    file
}

/// The smallest program there is: it ends. Children of fuzz programs execute it.
#[must_use]
pub fn ends() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    let code: &[u8] = if cfg!(target_arch = "x86_64") {
        // xor edi, edi; mov eax, 60; syscall
        &[0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]
    } else {
        // mov x0, #0; mov x8, #93; svc #0
        &[0, 0, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 1, 0, 0, 0xd4]
    };
    let machine: u16 = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
    let begin = 64 + 56;
    let length = (begin + code.len()) as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for half in [2, machine] {
        file.extend(half.to_le_bytes()); // ET_EXEC
    }
    file.extend(1_u32.to_le_bytes());
    for word in [BASE + begin as u64, 64, 0] {
        file.extend(word.to_le_bytes()); // e_entry, e_phoff, e_shoff
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    for half in [1_u32, 5] {
        file.extend(half.to_le_bytes()); // PT_LOAD, to be read and executed
    }
    for word in [0, BASE, BASE, length, length, 4096] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::Elf;

    /// The smallest program runs, and ends well.
    #[test]
    fn the_smallest_program_ends() {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("bakeoff-ends-{}", std::process::id()));
        fs::write(&path, ends()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let status = std::process::Command::new(&path).status();
        fs::remove_file(&path).unwrap();
        assert!(status.unwrap().success());
    }

    /// The project's own reader finds the build id.
    #[test]
    fn build_ids_are_there() {
        assert_eq!(Elf::parse(&elf([0xaa; 20], 20)).unwrap().build_id, [0xaa; 20]);
        assert!(Elf::parse(&elf([0xaa; 20], 0x7fff_fff0)).is_err());
    }
}
