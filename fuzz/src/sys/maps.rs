// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this process has mapped, by `/proc/self/maps` (proc(5)).

use std::fs;
use std::ops::Range;

/// A line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// Where it is.
    pub addresses: Range<u64>,
    offset: u64,
    /// The file, or what stands in its place; empty where nothing does.
    pub path: String,
}

impl Area {
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let offset = hex(words.nth(1)?)?;
        let path = words.nth(2).unwrap_or_default().to_owned();
        Some(Self { addresses: hex(start)?..hex(end)?, offset, path })
    }

    /// Where in the file an address is, if it is in this area.
    #[must_use]
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        self.addresses.contains(&address).then(|| address - self.addresses.start + self.offset)
    }
}

/// All areas of this process; none where they cannot be read.
#[must_use]
pub fn own() -> Vec<Area> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().filter_map(Area::read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses of an area are offsets of its file; an area may have none.
    #[test]
    fn lines_are_read() {
        let area = Area::read("400000-402000 r-xp 00001000 00:01 7    /init").unwrap();
        assert_eq!((area.path.as_str(), area.file_offset(0x40_1234)), ("/init", Some(0x2234)));
        assert_eq!(area.file_offset(0x40_2000), None);
        let stack = Area::read("7ffd000-7ffe000 rw-p 00000000 00:00 0").unwrap();
        assert_eq!(stack.path, "");
    }
}
