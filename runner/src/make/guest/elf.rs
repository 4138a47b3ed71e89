// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a binary can run in a guest at all. A kernel that cannot start its
//! first program panics, and that must not be held against a patch.

use crate::spec::arch::Arch;

/// Segment type of the path of a dynamic linker.
const PT_INTERP: u32 = 3;

/// Insists on a static 64-bit ELF file for the architecture; else says what it
/// does or is instead.
pub(super) fn check(binary: &[u8], arch: &Arch) -> Result<(), String> {
    let machine = match arch.guest.rust_target.split('-').next() {
        Some("x86_64") => Some(62),
        Some("aarch64") => Some(183),
        // A new architecture is a file in qemu/, and no change here.
        _ => None,
    };
    let header = Header::read(binary).ok_or("is not a 64-bit little-endian ELF file")?;
    if machine.is_some_and(|machine| machine != header.machine) {
        return Err(format!("is for ELF machine {}, not for {}", header.machine, arch.name));
    }
    let segments = header.segment_types(binary).ok_or("is cut off")?;
    if segments.contains(&PT_INTERP) {
        return Err("is linked dynamically, and a guest has no libraries".into());
    }
    Ok(())
}

struct Header {
    machine: u16,
    segments_at: u64,
    segment_size: u16,
    segments: u16,
}

impl Header {
    fn read(binary: &[u8]) -> Option<Header> {
        // Magic, 64 bits, little-endian.
        if binary.get(..6)? != b"\x7fELF\x02\x01" {
            return None;
        }
        Some(Header {
            machine: u16::from_le_bytes(bytes(binary, 18)?),
            segments_at: u64::from_le_bytes(bytes(binary, 32)?),
            segment_size: u16::from_le_bytes(bytes(binary, 54)?),
            segments: u16::from_le_bytes(bytes(binary, 56)?),
        })
    }

    fn segment_types(&self, binary: &[u8]) -> Option<Vec<u32>> {
        let at = |n: u16| {
            let offset = u64::from(n) * u64::from(self.segment_size);
            usize::try_from(self.segments_at.checked_add(offset)?).ok()
        };
        (0..self.segments).map(|n| Some(u32::from_le_bytes(bytes(binary, at(n)?)?))).collect()
    }
}

fn bytes<const N: usize>(binary: &[u8], at: usize) -> Option<[u8; N]> {
    binary.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::data::DataDir;

    /// A file with these segments and nothing in them.
    pub(in crate::make::guest) fn binary(machine: u16, segments: &[u32]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        file[32..40].copy_from_slice(&64_u64.to_le_bytes());
        file[54..56].copy_from_slice(&56_u16.to_le_bytes());
        file[56..58].copy_from_slice(&u16::try_from(segments.len()).unwrap().to_le_bytes());
        for segment in segments {
            file.extend_from_slice(&segment.to_le_bytes());
            file.extend_from_slice(&[0; 52]);
        }
        file
    }

    /// Only a static binary for the right machine passes; damage is no panic.
    #[test]
    fn only_static_binaries_of_the_architecture_pass() {
        let arch = Arch::load(&DataDir::embedded(), "arm64").unwrap();
        assert_eq!(check(&binary(183, &[1, 1, 7]), &arch), Ok(()));
        let why = |binary: &[u8]| check(binary, &arch).unwrap_err();
        assert!(why(&binary(62, &[1])).contains("ELF machine 62, not for arm64"));
        assert!(why(&binary(183, &[1, PT_INTERP])).contains("linked dynamically"));
        assert!(why(b"#!/bin/sh").contains("is not a 64-bit"));
        let whole = binary(183, &[1, 1]);
        for length in 0..whole.len() - 52 {
            assert!(check(&whole[..length], &arch).is_err(), "{length}");
        }
    }
}
