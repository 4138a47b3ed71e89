// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hashes this package's sources, so that a guest binary of other sources than
//! the host's is refused at its Hello instead of being misread.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> std::io::Result<()> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").map_err(std::io::Error::other)?);
    let mut files = BTreeMap::new();
    for top in ["src", "fuzz_targets", "Cargo.toml", "build.rs"] {
        collect(&root, &root.join(top), &mut files)?;
        println!("cargo::rerun-if-changed={top}");
    }
    // FNV-1a: a fingerprint against mix-ups, not against an attacker.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for (name, bytes) in &files {
        for byte in name.bytes().chain([0]).chain(bytes.iter().copied()).chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    println!("cargo::rustc-env=BAKEOFF_FUZZ_SOURCE_HASH={hash:016x}");
    // The agent is what gets sampled: the kernel hands out its build id, and
    // linkers' other kinds are shorter than the 20 bytes it has room for.
    println!("cargo::rustc-link-arg-bins=-Wl,--build-id=sha1");
    Ok(())
}

fn collect(root: &Path, at: &Path, into: &mut BTreeMap<String, Vec<u8>>) -> std::io::Result<()> {
    if at.is_dir() {
        for entry in fs::read_dir(at)? {
            collect(root, &entry?.path(), into)?;
        }
    } else {
        let name = at.strip_prefix(root).unwrap_or(at).to_string_lossy().into_owned();
        into.insert(name, fs::read(at)?);
    }
    Ok(())
}
