// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debian's static busybox for the guest's architecture, pinned by version and hash.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Desk, link};
use crate::base::error::{Context, Error, Result};
use crate::make::source;
use crate::spec::arch::Arch;

/// Of Debian 12; the file's name leaves the epoch out.
const VERSION: &str = "1.35.0-4+deb12u1+b1";
const POOL: &str = "https://deb.debian.org/debian/pool/main/b/busybox";

/// `qemu/<name>.yaml` → Debian's word and the package's SHA-256.
const PACKAGES: [(&str, &str, &str); 2] = [
    ("x86_64", "amd64", "3d3fdbe91d4660c873e14b092c213fe81c1da6362daa236eb25d0171eb108744"),
    ("arm64", "arm64", "732c9135564fc71337e0e05fb4da4d11e6c28c1834bce3e405e575afef2a52f5"),
];

fn package(arch: &Arch) -> Result<(&'static str, &'static str)> {
    let row = PACKAGES.iter().find(|(name, ..)| *name == arch.name);
    row.map(|(_, debian, sha256)| (*debian, *sha256)).ok_or_else(|| {
        Error::bad_input(format!("no busybox is known for {}", arch.name))
            .hint("give a `rootfs:` with a shell instead of `busybox: true`")
    })
}

/// What the package is known by.
pub(super) fn identity(arch: &Arch) -> Result<&'static str> {
    Ok(package(arch)?.1)
}

/// Puts busybox and a link for each of its applets into the guest's /bin.
pub(super) fn install(root: &Path, arch: &Arch, desk: &Desk<'_>) -> Result<()> {
    let (debian, sha256) = package(arch)?;
    let file = format!("busybox-static_{VERSION}_{debian}.deb");
    let program = source::file_of_package(
        &source::PackageFile {
            package: "busybox-static",
            version: VERSION,
            sha256,
            url: &format!("{POOL}/{}", file.replace('+', "%2b")),
            path: "bin/busybox",
        },
        desk.cache,
        desk.events,
        desk.cancel,
    )?;
    let applets = applets(&program).ok_or_else(|| {
        Error::failure(format!("{file} holds no list of applets where it was expected"))
    })?;
    let bin = root.join("bin");
    fs::create_dir_all(&bin).at_path("create", &bin)?;
    let busybox = bin.join("busybox");
    fs::write(&busybox, &program).at_path("write", &busybox)?;
    fs::set_permissions(&busybox, fs::Permissions::from_mode(0o755)).at_path("write", &busybox)?;
    applets.iter().try_for_each(|applet| link("busybox", &bin.join(applet)))
}

/// The names in a busybox binary: `[`, `[[` and so on, each with a NUL, in order. The
/// program cannot be asked where it is for another architecture.
fn applets(program: &[u8]) -> Option<Vec<String>> {
    const FIRST: &[u8] = b"\0[\0[[\0";
    let start = program.windows(FIRST.len()).position(|window| window == FIRST)? + 1;
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || b"[_-.".contains(byte);
    let names: Vec<String> = program[start..]
        .split(|byte| *byte == 0)
        .take_while(|name| !name.is_empty() && name.len() < 32 && name.iter().all(good))
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    // A shell is what it is there for.
    names.iter().any(|name| name == "sh").then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::data::DataDir;

    /// The applets' names are found where they are, and a program without them has none.
    #[test]
    fn applets_are_found() {
        let program = b"\x7fELF..\0[\0[[\0ar\0sh\0xz\0\0more";
        assert_eq!(applets(program).unwrap(), ["[", "[[", "ar", "sh", "xz"]);
        assert_eq!(applets(b"\0[\0[[\0ar\0\0"), None);
        assert_eq!(applets(b"nothing"), None);
    }

    /// There is a package for every architecture that guests have.
    #[test]
    fn every_architecture_has_one() {
        let data = DataDir::embedded();
        for name in Arch::names(&data).unwrap() {
            let arch = Arch::load(&data, &name).unwrap();
            assert_eq!(identity(&arch).unwrap().len(), 64, "{name}");
        }
    }
}
