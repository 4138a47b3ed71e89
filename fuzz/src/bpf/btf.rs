// SPDX-License-Identifier: MIT OR Apache-2.0
//! The types that fuzz programs and maps say they are of, in the BPF Type Format
//! (`Documentation/bpf/btf.rst`): enough for storage of tasks, whose maps must tell
//! what their values are, for maps with timers, and for programs with a second function,
//! which must tell where that begins and what it is.

/// `BPF_BTF_LOAD`
pub const LOAD: u32 = 18;

/// The type of a key: a signed number of 32 bits.
pub const KEY: u32 = 1;
/// The type of a value: a structure of 64 bytes.
pub const VALUE: u32 = 3;
/// The type of a program's first function.
pub const MAIN: u32 = 5;
/// The type of a function that a helper calls.
pub const CALLBACK: u32 = 6;

/// The type of a value with a timer behind its first word: 24 bytes.
pub const TIMED: u32 = 10;
/// The type of a word, of two of them, and of a timer.
const WORD: u32 = 7;
const TWO: u32 = 8;
const TIMER: u32 = 9;

/// `BTF_KIND_*`
const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
/// `BTF_FUNC_STATIC`, in the place of a number of members.
const STATIC: u32 = 0;

const STRINGS: &[u8] = b"\0int\0value\0words\0program\0found\0long\0bpf_timer\0timed\0";

/// Where a name begins in [`STRINGS`].
fn name(word: &str) -> u32 {
    let words = STRINGS.split(|byte| *byte == 0);
    let mut at = 0;
    for each in words {
        if each == word.as_bytes() {
            break;
        }
        at += each.len() + 1;
    }
    u32::try_from(at).unwrap_or(0)
}

/// All types, as [`LOAD`] takes them.
#[must_use]
pub fn types() -> Vec<u8> {
    let types: Vec<u32> = [
        [name("int"), INT << 24, 4].as_slice(),
        &[1 << 24 | 32], // signed, 32 bits
        &[0, ARRAY << 24, 0],
        &[KEY, KEY, 16],
        &[name("value"), STRUCT << 24 | 1, 64],
        &[name("words"), 2, 0],
        &[0, FUNC_PROTO << 24, KEY],
        &[name("program"), FUNC << 24 | STATIC, 4],
        &[name("found"), FUNC << 24 | STATIC, 4],
        &[name("long"), INT << 24, 8, 64],
        &[0, ARRAY << 24, 0, WORD, KEY, 2],
        // The kernel knows it by its name and its size.
        &[name("bpf_timer"), STRUCT << 24 | 1, 16, name("words"), TWO, 0],
        &[name("timed"), STRUCT << 24 | 2, 24, name("long"), WORD, 0, name("words"), TIMER, 64],
    ]
    .concat();
    let (length, strings) = (types.len() * 4, STRINGS.len());
    let length = u32::try_from(length).unwrap_or(0);
    let strings = u32::try_from(strings).unwrap_or(0);
    let mut out = Vec::new();
    out.extend(0xeb9f_u16.to_ne_bytes());
    out.extend([1, 0]); // version, flags
    // Length of this header; where types and strings begin behind it, how long they are.
    for word in [24, 0, length, length, strings].into_iter().chain(types) {
        out.extend(u32::to_ne_bytes(word));
    }
    out.extend(STRINGS);
    out
}

/// What the functions of a program are whose second one begins there: of each
/// (`struct bpf_func_info`) where it begins, and its type.
#[must_use]
pub fn functions(second: usize) -> Vec<u8> {
    [0, MAIN, u32::try_from(second).unwrap_or(0), CALLBACK].map(u32::to_ne_bytes).concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header says how long the parts are, and every name begins behind a zero.
    #[test]
    fn the_parts_are_as_long_as_they_say() {
        let types = types();
        let word = |at: usize| u32::from_ne_bytes(types[at..at + 4].try_into().unwrap()) as usize;
        assert_eq!(word(4), 24);
        assert_eq!(word(8) + word(12), word(16));
        assert_eq!(24 + word(16) + word(20), types.len());
        for word in ["int", "value", "words", "program", "found", "long", "bpf_timer", "timed"] {
            let at = name(word) as usize;
            assert_eq!(STRINGS[at - 1], 0);
            assert!(STRINGS[at..].starts_with(word.as_bytes()), "{word}");
        }
    }

    /// Each function is told by its beginning and its type.
    #[test]
    fn functions_are_told_by_their_beginning() {
        let words: Vec<u8> =
            [0, MAIN, 9, CALLBACK].into_iter().flat_map(u32::to_ne_bytes).collect();
        assert_eq!(functions(9), words);
    }
}
