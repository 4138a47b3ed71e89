// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opens a log however it was packed: plain, compressed, in UTF-16, or a folder of logs.
//!
//! A log that cannot be read is an error that says so. It must never look like a log without
//! splats.

use crate::base::error::{Context, Error, Result};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::path::{Path, PathBuf};

/// The logs that a path names: itself, or all files of a folder, sorted.
pub(crate) fn expand(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).at_path("read", &folder)? {
            let entry = entry.at_path("read", &folder)?;
            let kind = entry.file_type().at_path("read", &entry.path())?;
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if kind.is_dir() && !hidden {
                folders.push(entry.path());
            } else if kind.is_file() && !hidden {
                files.push(entry.path());
            }
        }
    }
    if files.is_empty() {
        return Err(Error::bad_input(format!("no logs in the folder {}", path.display()))
            .hint("name the logs, or a folder that holds them"));
    }
    files.sort();
    Ok(files)
}

/// Opens the log at `path`.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Read>> {
    let file = File::open(path).map_err(|cause| {
        Error::bad_input(format!("cannot read the log {}", path.display())).because(cause)
    })?;
    unpack(file, &path.display().to_string())
}

/// Undoes what was done to a log called `name`.
pub(crate) fn unpack(log: impl Read + 'static, name: &str) -> Result<Box<dyn Read>> {
    /// How other packers' files begin.
    const FOREIGN: &[(&[u8], &str)] = &[
        (b"BZh", "bzip2"),
        (b"PK\x03\x04", "zip"),
        (b"7z\xBC\xAF\x27\x1C", "7-Zip"),
        (b"\x04\x22\x4D\x18", "lz4"),
        (b"LZIP", "lzip"),
        (b"LPKSHHRH", "systemd's journal (print it with journalctl --file)"),
    ];
    let cannot = |cause| Error::bad_input(format!("cannot read the log {name}")).because(cause);
    let (magic, log) = peek(log).map_err(cannot)?;
    if let Some((_, packer)) = FOREIGN.iter().find(|(begin, _)| magic.starts_with(begin)) {
        return Err(Error::bad_input(format!(
            "cannot read the log {name}: its format is {packer}"
        ))
        .hint("unpack it first; plain, .gz, .xz and .zst are read as they are"));
    }
    let plain: Box<dyn Read> = if magic.starts_with(&[0x1F, 0x8B]) {
        Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(log)))
    } else if magic.starts_with(b"\xFD7zXZ\0") {
        Box::new(lzma_rust2::XzReader::new(BufReader::new(log), true))
    } else if magic.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
        Box::new(Zstandard { input: Some(BufReader::new(log)), frame: None })
    } else {
        Box::new(log)
    };
    let (magic, plain) = peek(plain).map_err(cannot)?;
    Ok(match Utf16::of(&magic) {
        Some(wide) => {
            Box::new(Narrow { wide, from: BufReader::new(plain), out: Vec::new(), at: 0 })
        }
        None => Box::new(plain),
    })
}

/// The first bytes of a log, and the log with them.
type Peeked<R> = ([u8; 16], Chain<Cursor<Vec<u8>>, R>);

/// Looks at the first bytes of a log.
fn peek<R: Read>(mut log: R) -> io::Result<Peeked<R>> {
    let mut magic = [0; 16];
    let mut len = 0;
    while len < magic.len() {
        match log.read(&mut magic[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let head = Cursor::new(magic[..len].to_vec());
    Ok((magic, head.chain(log)))
}

type ZstdFrame<R> = ruzstd::decoding::StreamingDecoder<R, ruzstd::decoding::FrameDecoder>;

/// All frames of a Zstandard file: log rotation appends one after the other.
struct Zstandard<R: BufRead> {
    /// Between two frames.
    input: Option<R>,
    frame: Option<Box<ZstdFrame<R>>>,
}

impl<R: BufRead> Read for Zstandard<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(frame) = &mut self.frame {
                let n = frame.read(buf)?;
                if n > 0 {
                    return Ok(n);
                }
                self.input = self.frame.take().map(|frame| frame.into_inner());
            }
            let Some(mut input) = self.input.take() else { return Ok(0) };
            if input.fill_buf()?.is_empty() {
                return Ok(0);
            }
            let frame =
                ZstdFrame::new(input).map_err(|error| io::Error::other(error.to_string()))?;
            self.frame = Some(Box::new(frame));
        }
    }
}

/// The byte order of a log in UTF-16, as Windows' tools save a serial console.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Utf16 {
    Little,
    Big,
}

impl Utf16 {
    /// By its mark; without one, by the zeros that Latin letters have in it.
    fn of(magic: &[u8; 16]) -> Option<Self> {
        let zeros = |from: usize| magic.iter().skip(from).step_by(2).all(|byte| *byte == 0);
        let text = |from: usize| magic.iter().skip(from).step_by(2).all(|byte| *byte != 0);
        match magic {
            [0xFF, 0xFE, ..] => Some(Utf16::Little),
            [0xFE, 0xFF, ..] => Some(Utf16::Big),
            _ if zeros(1) && text(0) => Some(Utf16::Little),
            _ if zeros(0) && text(1) => Some(Utf16::Big),
            _ => None,
        }
    }
}

/// UTF-16 as UTF-8.
struct Narrow<R> {
    wide: Utf16,
    from: BufReader<R>,
    out: Vec<u8>,
    at: usize,
}

impl<R: Read> Read for Narrow<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.out.len() {
            let mut units = Vec::with_capacity(2048);
            let mut pair = [0; 2];
            while units.len() < 2048 {
                match self.from.read_exact(&mut pair) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                    Err(error) => return Err(error),
                }
                units.push(match self.wide {
                    Utf16::Little => u16::from_le_bytes(pair),
                    Utf16::Big => u16::from_be_bytes(pair),
                });
            }
            // A pair of surrogates may be cut here: two marks for one character that no kernel
            // prints.
            let text: String = char::decode_utf16(units)
                .map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER))
                .filter(|char| *char != '\u{FEFF}')
                .collect();
            self.out = text.into_bytes();
            self.at = 0;
        }
        let n = buf.len().min(self.out.len() - self.at);
        buf[..n].copy_from_slice(&self.out[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const TEXT: &str = "[    1.000000] BUG: x\n[    1.000001] Call Trace:\n";

    fn read(packed: Vec<u8>) -> String {
        let mut text = String::new();
        unpack(Cursor::new(packed), "x").unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn gz(text: &str) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(text.as_bytes()).unwrap();
        packer.finish().unwrap()
    }

    fn zst(text: &str) -> Vec<u8> {
        let level = ruzstd::encoding::CompressionLevel::Uncompressed;
        ruzstd::encoding::compress_to_vec(text.as_bytes(), level)
    }

    fn xz(text: &str) -> Vec<u8> {
        let options = lzma_rust2::XzOptions::default();
        let mut packer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        packer.write_all(text.as_bytes()).unwrap();
        packer.finish().unwrap()
    }

    fn wide(text: &str, mark: bool, order: fn(u16) -> [u8; 2]) -> Vec<u8> {
        let mark = mark.then_some(0xFEFF);
        mark.into_iter().chain(text.encode_utf16()).flat_map(order).collect()
    }

    /// Whatever a log is packed in, its text is read.
    #[test]
    fn every_packing_is_undone() {
        assert_eq!(read(TEXT.into()), TEXT);
        assert_eq!(read(Vec::new()), "");
        assert_eq!(read(gz(TEXT)), TEXT);
        assert_eq!(read(xz(TEXT)), TEXT);
        assert_eq!(read(zst(TEXT)), TEXT);
        for mark in [true, false] {
            assert_eq!(read(wide(TEXT, mark, u16::to_le_bytes)), TEXT);
            assert_eq!(read(wide(TEXT, mark, u16::to_be_bytes)), TEXT);
        }
        let long = TEXT.repeat(2000);
        assert_eq!(read(wide(&long, true, u16::to_le_bytes)), long);
    }

    /// Log rotation appends: all parts are read.
    #[test]
    fn parts_are_read_one_after_the_other() {
        for pack in [gz, xz, zst] {
            assert_eq!(read([pack(TEXT), pack("more\n")].concat()), format!("{TEXT}more\n"));
        }
    }

    /// What cannot be read is said, with the next step.
    #[test]
    fn unknown_packers_are_named() {
        let error = unpack(Cursor::new(b"BZh91AY&SY".to_vec()), "x.bz2").err().unwrap();
        assert!(error.message().contains("x.bz2: its format is bzip2"), "{error:?}");
        assert!(error.next_step().unwrap().contains("unpack"));
    }

    /// A log that is cut in the middle of its compression is an error, not the end of the log.
    #[test]
    fn a_cut_file_is_an_error() {
        for packed in [gz(TEXT), xz(TEXT), zst(TEXT)] {
            let cut = packed[..packed.len() - 9].to_vec();
            // Some formats show it at once, others when the end is reached.
            let log = unpack(Cursor::new(cut), "x");
            assert!(log.is_err() || log.unwrap().read_to_end(&mut Vec::new()).is_err());
        }
    }

    /// A folder is all of its logs, in order; an empty one is an error.
    #[test]
    fn a_folder_is_its_logs() {
        let folder = tempfile::tempdir().unwrap();
        assert!(expand(folder.path()).is_err());
        std::fs::create_dir(folder.path().join("b")).unwrap();
        for name in ["c.log", "b/a.log", ".hidden"] {
            std::fs::write(folder.path().join(name), TEXT).unwrap();
        }
        let names: Vec<_> = expand(folder.path())
            .unwrap()
            .iter()
            .map(|path| path.strip_prefix(folder.path()).unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["b/a.log", "c.log"]);
    }
}
