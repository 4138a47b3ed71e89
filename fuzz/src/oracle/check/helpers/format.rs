// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel makes of text: formats (`bpf_bprintf_prepare()` of kernel/bpf/helpers.c),
//! numbers (`__bpf_strtoull()` there), and what comes first of two.

use std::fmt;

use crate::op::value::Dice;

/// An argument of a format: a number, or the place of a text among [`texts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    Word(u64),
    Text(usize),
}

/// A format, its arguments, and what they are printed as; none if the kernel refuses it.
#[derive(Debug)]
pub(super) struct Format {
    pub(super) text: Vec<u8>,
    pub(super) arguments: Vec<Argument>,
    pub(super) right: Option<String>,
}

/// An address of IPv6, whose first four bytes are one of IPv4, too.
const ADDRESS: [u8; 16] = [127, 0, 10, 1, 0, 0, 0xab, 0xcd, 0, 1, 2, 3, 0xff, 0xfe, 0, 9];
const TEXTS: [&str; 4] = ["", "b", "perf events", "a line that is longer than what else there is"];

/// What texts are printed from.
pub(super) fn texts() -> Vec<u8> {
    let texts = TEXTS.iter().flat_map(|text| text.bytes().chain([0]));
    ADDRESS.into_iter().chain(texts).collect()
}

/// Where one of the texts begins.
fn place(nth: usize) -> usize {
    ADDRESS.len() + TEXTS.iter().take(nth).map(|text| text.len() + 1).sum::<usize>()
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {:x?}", String::from_utf8_lossy(&self.text), self.arguments)
    }
}

/// What is printed in a width, and how it is put there.
fn padded(text: &str, flag: &str, width: usize) -> String {
    match flag {
        "-" => format!("{text:<width$}"),
        "0" => {
            let (sign, digits) = match text.strip_prefix('-') {
                Some(digits) => ("-", digits),
                None => ("", text),
            };
            format!("{sign}{digits:0>width$}", width = width.saturating_sub(sign.len()))
        }
        "+" | " " if !text.starts_with('-') => format!("{:>width$}", format!("{flag}{text}")),
        _ => format!("{text:>width$}"),
    }
}

impl Format {
    /// Whether an address is printed.
    pub(super) fn has_address(&self) -> bool {
        self.arguments.contains(&Argument::Text(0))
    }

    /// Some format; one in four is refused.
    pub(super) fn any(dice: &mut dyn Dice) -> Self {
        let mut format = Self { text: Vec::new(), arguments: Vec::new(), right: None };
        let mut right = String::new();
        for _ in 0..1 + dice.below(5) {
            right.push_str(&format.piece(dice));
        }
        if dice.below(4) == 0 {
            let wrong: [&[u8]; 9] =
                [b"%q", b"%", b"%5", b"%l", b"%s1", b"%pI5", b"\x01", b"%lls", b"%*d"];
            format.text.extend(wrong[dice.below(9) as usize]);
            format.arguments.push(Argument::Word(1));
        } else if dice.below(8) == 0 {
            // More is asked for than there is.
            format.text.extend(b"%d");
        } else {
            format.right = Some(right);
        }
        format
    }

    /// One more piece; what it is printed as.
    fn piece(&mut self, dice: &mut dyn Dice) -> String {
        match dice.below(8) {
            0 => {
                let word = ["a ", "100 ", "\n", "= "][dice.below(4) as usize];
                self.text.extend(word.bytes());
                word.to_owned()
            }
            1 => {
                self.text.extend(b"%%");
                "%".to_owned()
            }
            2 => {
                let letter = char::from(b' ' + dice.below(90) as u8);
                self.text.extend(b"%c");
                self.arguments.push(Argument::Word(u64::from(letter)));
                letter.to_string()
            }
            3 => {
                let nth = dice.below(4) as usize;
                self.text.extend(b"%s ");
                self.arguments.push(Argument::Text(place(nth)));
                format!("{} ", TEXTS.get(nth).copied().unwrap_or_default())
            }
            4 => self.address(dice),
            _ => self.number(dice),
        }
    }

    fn address(&mut self, dice: &mut dyn Dice) -> String {
        self.arguments.push(Argument::Text(0));
        let (four, groups) = (ADDRESS.iter().take(4), ADDRESS.chunks(2));
        let (format, printed) = match dice.below(4) {
            0 => ("%pI4 ", four.map(u8::to_string).collect::<Vec<_>>().join(".")),
            1 => ("%pi4 ", four.map(|byte| format!("{byte:03}")).collect::<Vec<_>>().join(".")),
            nth => {
                let groups: Vec<String> = groups
                    .map(|two| two.iter().map(|byte| format!("{byte:02x}")).collect())
                    .collect();
                if nth == 2 { ("%pI6 ", groups.join(":")) } else { ("%pi6 ", groups.concat()) }
            }
        };
        self.text.extend(format.bytes());
        printed + " "
    }

    fn number(&mut self, dice: &mut dyn Dice) -> String {
        let word = match dice.below(4) {
            0 => u64::from(dice.below(100)),
            1 => u64::MAX - u64::from(dice.below(100)),
            2 => 1 << dice.below(64),
            _ => u64::from(dice.below(u32::MAX)) << 32 | u64::from(dice.below(u32::MAX)),
        };
        self.arguments.push(Argument::Word(word));
        let size = ["", "l", "ll"][dice.below(3) as usize];
        let letter = ['d', 'i', 'u', 'x', 'X'][dice.below(5) as usize];
        let signed = matches!(letter, 'd' | 'i');
        let flag = ["", "0", "-", "+", " "][dice.below(if signed { 5 } else { 3 }) as usize];
        let width = if dice.below(2) == 0 { 0 } else { 1 + dice.below(24) as usize };
        let shown = if width == 0 { String::new() } else { width.to_string() };
        self.text.extend(format!("%{flag}{shown}{size}{letter}").bytes());
        #[allow(clippy::cast_possible_truncation)] // half of it is what is printed
        let low = word as u32;
        let text = match (letter, size) {
            ('d' | 'i', "") => low.cast_signed().to_string(),
            ('d' | 'i', _) => word.cast_signed().to_string(),
            ('u', "") => low.to_string(),
            ('u', _) => word.to_string(),
            ('x', "") => format!("{low:x}"),
            ('x', _) => format!("{word:x}"),
            (_, "") => format!("{low:X}"),
            _ => format!("{word:X}"),
        };
        padded(&text, flag, width)
    }
}

/// What `bpf_strtol()`, or `bpf_strtoul()`, makes of a text: how much of it is read, and the
/// number; or the errno.
pub(super) fn number(text: &[u8], flags: u64, signed: bool) -> Result<(usize, u64), i32> {
    if !matches!(flags, 0 | 8 | 10 | 16) {
        return Err(libc::EINVAL);
    }
    let spaces = text.iter().take_while(|byte| b" \t\n\x0b\x0c\r".contains(byte)).count();
    let rest = text.get(spaces..).unwrap_or_default();
    let (negative, digits) = match rest.split_first() {
        Some((b'-', digits)) => (true, digits),
        _ => (false, rest),
    };
    let digit =
        |byte: Option<&u8>, base: u32| byte.and_then(|byte| char::from(*byte).to_digit(base));
    let prefixed = digits.first() == Some(&b'0') && digits.get(1).is_some_and(|x| x | 0x20 == b'x');
    let base = match flags {
        0 if prefixed && digit(digits.get(2), 16).is_some() => 16,
        0 if digits.first() == Some(&b'0') => 8,
        0 | 10 => 10,
        16 => 16,
        _ => 8,
    };
    let prefix = if base == 16 && prefixed { 2 } else { 0 };
    let read: Vec<u32> =
        digits.iter().skip(prefix).map_while(|byte| digit(Some(byte), base)).collect();
    let value = read.iter().try_fold(0_u64, |value, digit| {
        value.checked_mul(base.into())?.checked_add(u64::from(*digit))
    });
    let value = value.ok_or(libc::ERANGE)?;
    if read.is_empty() {
        return Err(libc::EINVAL);
    }
    let length = spaces + usize::from(negative) + prefix + read.len();
    match (signed, negative) {
        (false, true) => Err(libc::EINVAL),
        (false, false) => Ok((length, value)),
        (true, true) if value > 1 << 63 => Err(libc::ERANGE),
        (true, true) => Ok((length, value.wrapping_neg())),
        (true, false) if value >= 1 << 63 => Err(libc::ERANGE),
        (true, false) => Ok((length, value)),
    }
}

/// -1, 0 or 1, as the first text comes before, is the same as, or comes after the second one.
pub(super) fn compared(left: &[u8], right: &[u8], length: usize) -> i32 {
    for (left, right) in left.iter().zip(right).take(length) {
        match left.cmp(right) {
            std::cmp::Ordering::Less => return -1,
            std::cmp::Ordering::Greater => return 1,
            std::cmp::Ordering::Equal if *left == 0 => return 0,
            std::cmp::Ordering::Equal => {}
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts are read as the kernel does: spaces, a sign, a prefix, digits, and no more.
    #[test]
    fn texts_are_numbers() {
        let value = |number: i64| number.cast_unsigned();
        for (text, flags, right) in [
            ("12", 0, Ok((2, 12))),
            (" \t-12z", 0, Ok((5, value(-12)))),
            ("012", 0, Ok((3, 10))),
            ("08", 0, Ok((1, 0))),
            ("0x1fg", 0, Ok((4, 31))),
            ("0x", 0, Ok((1, 0))),
            ("0xz", 16, Err(libc::EINVAL)),
            ("0x1f", 10, Ok((1, 0))),
            ("1f", 16, Ok((2, 31))),
            ("-9223372036854775808", 10, Ok((20, 1 << 63))),
            ("-9223372036854775809", 10, Err(libc::ERANGE)),
            ("9223372036854775808", 10, Err(libc::ERANGE)),
            ("99999999999999999999", 10, Err(libc::ERANGE)),
            ("z", 0, Err(libc::EINVAL)),
            ("-", 0, Err(libc::EINVAL)),
            ("1", 3, Err(libc::EINVAL)),
        ] {
            assert_eq!(number(text.as_bytes(), flags, true), right, "{text}");
        }
        assert_eq!(number(b"-1", 0, false), Err(libc::EINVAL));
        assert_eq!(number(b"18446744073709551615", 0, false), Ok((20, u64::MAX)));
    }

    #[test]
    fn numbers_have_a_width() {
        for (text, flag, width, right) in [
            ("-5", "0", 4, "-005"),
            ("5", "0", 4, "0005"),
            ("5", "-", 3, "5  "),
            ("5", "+", 4, "  +5"),
            ("5", " ", 0, " 5"),
            ("-5", "+", 4, "  -5"),
            ("12345", "", 3, "12345"),
        ] {
            assert_eq!(padded(text, flag, width), right, "{text} {flag} {width}");
        }
    }

    /// No further than the end of either, or the length.
    #[test]
    fn texts_are_compared() {
        assert_eq!(compared(b"ab\0x", b"ab\0", 4), 0);
        assert_eq!(compared(b"ab\0x", b"ac\0", 1), 0);
        assert_eq!(compared(b"ab\0x", b"ac\0", 2), -1);
        assert_eq!(compared(b"b\0", b"ac\0", 8), 1);
        assert_eq!(compared(b"\0", b"a\0", 8), -1);
    }

    /// Where a text begins it is.
    #[test]
    fn texts_are_where_they_should() {
        let texts = texts();
        for (nth, text) in TEXTS.iter().enumerate() {
            let at = texts.get(place(nth)..).unwrap();
            assert!(at.starts_with(text.as_bytes()) && at.get(text.len()) == Some(&0), "{nth}");
        }
        assert!(texts.len() < 128);
    }
}
