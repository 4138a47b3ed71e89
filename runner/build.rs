// SPDX-License-Identifier: MIT OR Apache-2.0
//! Embeds the files the program needs at run time, so that an installed binary
//! works alone: architectures, kconfig fragments, and the sources of the guest
//! binaries with the lock file and the manifests they are resolved with.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

fn main() -> io::Result<()> {
    let var = |name| std::env::var(name).map_err(io::Error::other);
    let root = PathBuf::from(var("CARGO_MANIFEST_DIR")?).join("..").canonicalize()?;
    let mut files = Vec::new();
    for top in ["qemu", "kconfigs", "fuzz", "Cargo.toml", "Cargo.lock", "runner/Cargo.toml"] {
        println!("cargo::rerun-if-changed=../{top}");
        collect(&root.join(top), &mut files)?;
    }
    files.sort();
    let mut code = String::from("pub static FILES: &[(&str, &[u8])] = &[\n");
    for file in files {
        let name = file.strip_prefix(&root).map_err(io::Error::other)?;
        writeln!(code, "    ({:?}, include_bytes!({:?})),", name, file)
            .map_err(io::Error::other)?;
    }
    code.push_str("];\n");
    fs::write(PathBuf::from(var("OUT_DIR")?).join("embedded.rs"), code)
}

fn collect(at: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    let name = at.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with('.') || ["target", "corpus", "artifacts"].contains(&&*name) {
        return Ok(());
    }
    if at.is_dir() {
        for entry in fs::read_dir(at)? {
            collect(&entry?.path(), into)?;
        }
    } else {
        into.push(at.to_owned());
    }
    Ok(())
}
