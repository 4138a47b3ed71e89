// SPDX-License-Identifier: MIT OR Apache-2.0
//! The types that the running kernel tells of itself, in the BPF Type Format
//! (`Documentation/bpf/btf.rst`): what number a function has that programs attach to, and
//! where in a structure a member lies.

use std::collections::BTreeMap;
use std::fs;
use std::sync::OnceLock;

/// Where the kernel has them.
const PATH: &str = "/sys/kernel/btf/vmlinux";

/// `BTF_KIND_*` of what is looked at or has something behind its first twelve bytes.
const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const ENUM64: u32 = 19;

/// The types of a kernel.
#[derive(Debug)]
pub struct Types {
    bytes: Vec<u8>,
    /// Where each type begins, by its number less one.
    types: Vec<usize>,
    /// Where the names begin.
    strings: usize,
    functions: BTreeMap<String, u32>,
    /// Structures that have members, by their name: where they begin.
    structures: BTreeMap<String, usize>,
}

/// Structures of which members are asked for.
const STRUCTURES: [&str; 7] =
    ["task_struct", "vm_area_struct", "file", "bpf_map", "bpf_prog", "bpf_prog_aux", "bpf_link"];

/// The types of the running kernel, read once; none where it has none.
#[must_use]
pub fn types() -> Option<&'static Types> {
    static TYPES: OnceLock<Option<Types>> = OnceLock::new();
    TYPES.get_or_init(|| Types::parse(fs::read(PATH).ok()?)).as_ref()
}

impl Types {
    /// As they are told; of the functions only those of iterators are looked up by name.
    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let mut all = Self {
            bytes,
            types: Vec::new(),
            strings: 0,
            functions: BTreeMap::new(),
            structures: BTreeMap::new(),
        };
        if all.word(0)? & 0xffff != 0xeb9f {
            return None;
        }
        let begin = all.word(4)? as usize;
        all.strings = begin + all.word(16)? as usize;
        let mut at = begin + all.word(8)? as usize;
        let end = at + all.word(12)? as usize;
        while at < end {
            let info = all.word(at + 4)?;
            let (kind, members) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            all.types.push(at);
            if kind == FUNC {
                let name = all.name(all.word(at)?)?;
                if name.starts_with("bpf_iter_") {
                    let name = name.to_owned();
                    all.functions.insert(name, u32::try_from(all.types.len()).ok()?);
                }
            }
            if kind == STRUCT && members > 0 {
                let name = all.name(all.word(at)?)?;
                if STRUCTURES.contains(&name) {
                    let name = name.to_owned();
                    all.structures.insert(name, at);
                }
            }
            at += 12
                + match kind {
                    INT | VAR | DECL_TAG => 4,
                    ARRAY => 12,
                    STRUCT | UNION | DATASEC | ENUM64 => 12 * members,
                    ENUM | FUNC_PROTO => 8 * members,
                    _ => 0,
                };
        }
        Some(all)
    }

    fn word(&self, at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(self.bytes.get(at..at + 4)?.try_into().ok()?))
    }

    fn name(&self, at: u32) -> Option<&str> {
        let name = self.bytes.get(self.strings + at as usize..)?;
        let end = name.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(name.get(..end)?).ok()
    }

    /// The number of the function of an iterator.
    #[must_use]
    pub fn iterator(&self, name: &str) -> Option<u32> {
        self.functions.get(name).copied()
    }

    /// Where in a structure a member begins, in bytes.
    #[must_use]
    pub fn member(&self, structure: &str, member: &str) -> Option<i16> {
        let at = self.structures.get(structure)?;
        i16::try_from(self.member_of(*at, member)? / 8).ok()
    }

    /// The same of a type by its place, in bits, and in what has no name of its own.
    fn member_of(&self, at: usize, member: &str) -> Option<u32> {
        let info = self.word(at + 4)?;
        if !matches!(info >> 24 & 0x1f, STRUCT | UNION) {
            return None;
        }
        let has_bits = info >> 31 == 1;
        (0..(info & 0xffff) as usize).find_map(|nth| {
            let entry = at + 12 + 12 * nth;
            let bits = self.word(entry + 8)?;
            let bits = if has_bits { bits & 0xff_ffff } else { bits };
            match self.name(self.word(entry)?)? {
                "" => {
                    let inner = (self.word(entry + 4)? as usize).checked_sub(1)?;
                    Some(bits + self.member_of(*self.types.get(inner)?, member)?)
                }
                name => (name == member).then_some(bits),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types as a kernel has them: `struct file { int x; union { struct { int y; int z:3; }; }; }`
    /// and two functions, one of which is an iterator's.
    fn told() -> Vec<u8> {
        let strings = b"\0file\0x\0y\0z\0bpf_iter_it\0other\0";
        let name = |word: &str| {
            let at = strings.windows(word.len() + 1).position(|name| {
                name.strip_suffix(&[0]).is_some_and(|name| name == word.as_bytes())
            });
            u32::try_from(at.unwrap()).unwrap()
        };
        let types = [
            vec![0, INT << 24, 4, 32],
            vec![0, 1 << 31 | STRUCT << 24 | 2, 8, name("y"), 1, 0, name("z"), 1, 3 << 24 | 32],
            vec![0, UNION << 24 | 1, 8, 0, 2, 0],
            vec![name("file"), STRUCT << 24 | 2, 12, name("x"), 1, 0, 0, 3, 32],
            vec![0, FUNC_PROTO << 24 | 1, 0, name("x"), 1],
            vec![name("other"), FUNC << 24, 5],
            vec![name("bpf_iter_it"), FUNC << 24, 5],
        ]
        .concat();
        let length = u32::try_from(4 * types.len()).unwrap();
        let head = [0x1_eb9f, 24, 0, length, length, u32::try_from(strings.len()).unwrap()];
        let mut bytes: Vec<u8> = head.into_iter().chain(types).flat_map(u32::to_ne_bytes).collect();
        bytes.extend(strings);
        bytes
    }

    /// Functions are found by their name, members in what has none, too; half of it is no
    /// list of types, and says so.
    #[test]
    fn functions_and_members_are_found() {
        let types = Types::parse(told()).unwrap();
        assert_eq!((types.iterator("bpf_iter_it"), types.iterator("other")), (Some(7), None));
        let members = ["x", "y", "z", "w"].map(|name| types.member("file", name));
        assert_eq!(members, [Some(0), Some(4), Some(8), None]);
        assert_eq!(types.member("other", "x"), None);
        let mut half = told();
        half.truncate(60);
        assert!(Types::parse(half).is_none());
        assert!(Types::parse(vec![0; 100]).is_none());
    }

    /// Those of the kernel that this runs on, if it has any.
    #[test]
    fn this_kernel_tells() {
        if let Some(types) = types() {
            assert!(types.iterator("bpf_iter_task").is_some());
            let [start, end] = ["vm_start", "vm_end"].map(|at| types.member("vm_area_struct", at));
            assert_eq!((start, end), (Some(0), Some(8)));
            assert!(types.member("task_struct", "pid").is_some());
        }
    }
}
