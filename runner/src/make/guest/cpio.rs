// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes an initramfs: the "newc" form of cpio, which the kernel unpacks at
//! boot (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! An entry is a header of 13 hexadecimal numbers, the name with its NUL and
//! the content, the last two each padded to four bytes; an entry called
//! `TRAILER!!!` ends the archive. We write it ourselves so that the same input
//! gives the same bytes (no time stamps, no owners) and a device node needs no
//! root.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// File type and permissions, as in `st_mode`.
const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const LINK: u32 = 0o120_777;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive in the making.
pub struct Archive<W: Write> {
    out: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    /// Begins an archive on `out`.
    pub fn new(out: W) -> Self {
        Archive { out, inode: 0 }
    }

    /// Adds a directory; its parents have to be there already.
    pub fn directory(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, DIRECTORY, (0, 0), &[])
    }

    /// Adds a program.
    pub fn executable(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.entry(name, EXECUTABLE, (0, 0), content)
    }

    /// Adds a file.
    pub fn file(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.entry(name, FILE, (0, 0), content)
    }

    /// Adds a character device.
    pub fn character_device(&mut self, name: &str, major: u32, minor: u32) -> io::Result<()> {
        self.entry(name, CHARACTER_DEVICE, (major, minor), &[])
    }

    /// Adds all that lies below a folder of the host: files with their modes, links, and
    /// folders, in the order of their names.
    pub fn folder(&mut self, folder: &Path) -> io::Result<()> {
        self.below(folder, "")
    }

    fn below(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name().into_string().map_err(|name| {
                io::Error::other(format!("the name {} is no UTF-8", name.display()))
            })?;
            let name = format!("{prefix}{name}");
            let (path, metadata) = (entry.path(), entry.metadata()?);
            let permissions = metadata.permissions().mode() & 0o7777;
            if metadata.is_dir() {
                self.entry(&name, DIRECTORY & !0o7777 | permissions, (0, 0), &[])?;
                self.below(&path, &format!("{name}/"))?;
            } else if metadata.is_symlink() {
                let target = fs::read_link(&path)?;
                self.entry(&name, LINK, (0, 0), target.as_os_str().as_encoded_bytes())?;
            } else {
                self.entry(&name, FILE & !0o7777 | permissions, (0, 0), &fs::read(&path)?)?;
            }
        }
        Ok(())
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(
        &mut self,
        name: &str,
        mode: u32,
        (major, minor): (u32, u32),
        content: &[u8],
    ) -> io::Result<()> {
        let size = u32::try_from(content.len())
            .map_err(|_| io::Error::other(format!("{name} has more than 4 GiB")))?;
        let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        let links = if mode == DIRECTORY { 2 } else { 1 };
        let header = [
            self.inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size,
            0, // the checksum belongs to another form
        ];
        self.inode += 1;
        self.out.write_all(b"070701")?;
        for number in header {
            write!(self.out, "{number:08x}")?;
        }
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(6 + 13 * 8 + name.len() + 1)?;
        self.out.write_all(content)?;
        self.pad(content.len())
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.out.write_all(&[0; 3][..written.wrapping_neg() % 4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, mode, device number, content.
    type Entry = (String, u32, (u32, u32), Vec<u8>);

    /// Reads an archive back by the format's own rules.
    fn read(archive: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut at = 0;
        loop {
            assert_eq!(at % 4, 0, "entries are aligned");
            assert_eq!(&archive[at..at + 6], b"070701");
            let field = |n: usize| {
                let from = at + 6 + 8 * n;
                u32::from_str_radix(std::str::from_utf8(&archive[from..from + 8]).unwrap(), 16)
                    .unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = &archive[at + 110..at + 110 + name_size];
            assert_eq!(name.last(), Some(&0));
            let name = String::from_utf8(name[..name_size - 1].to_vec()).unwrap();
            let content = (at + 110 + name_size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                return entries;
            }
            let bytes = archive[content..content + size].to_vec();
            entries.push((name, mode, (field(9), field(10)), bytes));
            at = (content + size).next_multiple_of(4);
        }
    }

    /// A folder goes in with its modes and links, parents before what is in them.
    #[test]
    fn folders_go_in_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("bin")).unwrap();
        fs::write(path("bin/tool"), "x").unwrap();
        fs::set_permissions(path("bin/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::set_permissions(path("bin"), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("tool", path("bin/other")).unwrap();
        let mut archive = Archive::new(Vec::new());
        archive.folder(dir.path()).unwrap();
        let entries = read(&archive.finish().unwrap());
        assert_eq!(
            entries,
            [
                ("bin".into(), DIRECTORY, (0, 0), vec![]),
                ("bin/other".into(), LINK, (0, 0), b"tool".to_vec()),
                ("bin/tool".into(), 0o104_755, (0, 0), b"x".to_vec()),
            ]
        );
    }

    /// What was put in comes out again, whatever the lengths leave to pad.
    #[test]
    fn entries_come_out_as_they_went_in() {
        for length in 0..9 {
            let content = vec![b'x'; length];
            let mut archive = Archive::new(Vec::new());
            archive.directory("dev").unwrap();
            archive.character_device("dev/console", 5, 1).unwrap();
            archive.executable(&"n".repeat(length + 1), &content).unwrap();
            archive.file("f", b"text").unwrap();
            let entries = read(&archive.finish().unwrap());
            assert_eq!(entries[0], ("dev".into(), DIRECTORY, (0, 0), vec![]));
            assert_eq!(entries[1], ("dev/console".into(), CHARACTER_DEVICE, (5, 1), vec![]));
            assert_eq!(entries[2], ("n".repeat(length + 1), EXECUTABLE, (0, 0), content));
            assert_eq!(entries[3], ("f".into(), FILE, (0, 0), b"text".to_vec()));
        }
    }
}
