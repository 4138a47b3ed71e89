//! A line of a stack, in the notations of the architectures, becomes a [`Frame`].

use crate::see::observe::line::{alphanumeric_or, number};
use memchr::memmem;
use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};
use std::borrow::Cow;
use std::sync::LazyLock;

/// One call on a stack.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Frame {
    /// The function as printed, compiler suffixes included; Rust names are demangled.
    pub function: SmolStr,
    /// Bytes from the start of the function.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offset: Option<u64>,
    /// The size of the function: with its name it identifies the symbol under KASLR.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub size: Option<u64>,
    /// The module it lives in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub module: Option<SmolStr>,
    /// Where in the source it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<Source>,
    /// The compiler inlined it into the next frame.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub inlined: bool,
    /// The unwinder found it on the stack but cannot tell whether it is a caller (`? f`).
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub unreliable: bool,
}

impl Frame {
    /// The function's own name, without what the compiler appended to it.
    pub fn name(&self) -> &str {
        base_name(&self.function)
    }
}

/// A place in the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Source {
    /// The file, relative to the kernel tree where that can be told.
    pub file: String,
    /// The line in it.
    pub line: u32,
}

/// Frames in a row, and the line that introduced them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Stack {
    /// `Call Trace:`, `Freed by task 12:`, `-> #1 (&a){+.+.}-{3:3}:` …
    pub label: String,
    /// The calls, innermost first.
    pub frames: Vec<Frame>,
}

/// Strips what compilers append to a function they changed: `.isra.0`, `.constprop.1`, `.cold`,
/// `.part.3`, `.llvm.1234`.
#[inline]
pub fn base_name(function: &str) -> &str {
    // Most names have neither.
    if memchr::memchr2(b'.', b':', function.as_bytes()).is_none() {
        return function;
    }
    if function.starts_with('<') || function.contains("::") {
        return function;
    }
    match function.find('.') {
        Some(at) if at > 0 => &function[..at],
        _ => function,
    }
}

/// Which bytes symbols are made of.
const IN_SYMBOLS: [bool; 256] = alphanumeric_or(b"_.$@");

fn symbol_len(text: &[u8]) -> usize {
    text.iter().take_while(|b| IN_SYMBOLS[usize::from(**b)]).count()
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    let skip = text.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    &text[skip..]
}

/// Skips `[<ffffffff81000000>]`, `[c000000000001000]`, `[<...>]`, `(` and the interrupt marks.
fn skip_address(text: &[u8]) -> &[u8] {
    let mut rest = skip_blanks(text);
    loop {
        if !matches!(rest.first(), Some(b'(' | b'[' | b'<' | b'{')) {
            return rest;
        }
        let inner = rest
            .strip_prefix(b"([<")
            .or_else(|| rest.strip_prefix(b"[<"))
            .or_else(|| rest.strip_prefix(b"<"))
            .or_else(|| rest.strip_prefix(b"["))
            .or_else(|| rest.strip_prefix(b"(["))
            .or_else(|| rest.strip_prefix(b"{<"));
        let Some(inner) = inner else { return rest };
        let Some(close) = inner.iter().take(24).position(|b| matches!(b, b'>' | b']')) else {
            return rest;
        };
        // Hashed pointers are printed before there is entropy as `(ptrval)`, `(____ptrval____)`.
        let address = inner[..close].iter().all(u8::is_ascii_hexdigit) && close >= 6
            || inner[..close].ends_with(b"ptrval)")
            || inner[..close].ends_with(b"ptrval____)");
        let mark = matches!(
            &inner[..close],
            b"IRQ" | b"/IRQ" | b"NMI" | b"/NMI" | b"TASK" | b"/TASK" | b"SOFTIRQ" | b"/SOFTIRQ"
        );
        if !address && !mark {
            return rest;
        }
        let mut skip = close + 1;
        while matches!(inner.get(skip), Some(b'>' | b']' | b')' | b'}')) {
            skip += 1;
        }
        rest = skip_blanks(&inner[skip..]);
    }
}

/// The frame on this line, if a frame is all there is on it.
pub fn parse_frame(text: &[u8]) -> Option<Frame> {
    let mut rest = skip_address(text);
    let mut unreliable = false;
    if let Some(after) = rest.strip_prefix(b"? ") {
        unreliable = true;
        rest = skip_address(after);
    }
    // `[<a>] (f+0x1/0x2) from [<b>] (g+0x1/0x2)`, `f from g+0x1/0x2`: the 32-bit Arm unwinder names
    // callee and caller.
    let caller = || from_frame(&text[from_at(text)? + 6..]);
    if rest.first() == Some(&b'(') {
        if let Some(frame) = caller() {
            return Some(frame);
        }
        rest = &rest[1..];
    }
    let Some(mut frame) = symbol(rest).or_else(|| decoded(rest)) else { return caller() };
    frame.unreliable |= unreliable;
    Some(frame)
}

/// The innermost function of a 32-bit Arm stack, which only the first line names: each line is
/// `callee from caller`, and its frame is the caller's.
pub fn callee(text: &[u8]) -> Option<Frame> {
    let at = from_at(text)?;
    from_frame(&text[at + 6..])?;
    let rest = skip_address(text);
    let rest = rest.strip_prefix(b"(").unwrap_or(rest);
    let (frame, _) = location(rest)?;
    Some(frame)
}

/// Where ` from ` stands.
fn from_at(text: &[u8]) -> Option<usize> {
    static FROM: LazyLock<memmem::Finder> = LazyLock::new(|| memmem::Finder::new(" from "));
    FROM.find(text)
}

fn from_frame(rest: &[u8]) -> Option<Frame> {
    let rest = skip_address(rest);
    let rest = rest.strip_prefix(b"(").unwrap_or(rest);
    let frame = symbol(rest)?;
    frame.offset.is_some().then_some(frame)
}

/// `sym+0x1/0x2 [module] file:line`, or `sym file:line [inline]`; nothing else may follow but the
/// unwinder's remarks.
fn symbol(text: &[u8]) -> Option<Frame> {
    let (mut frame, mut rest) = location(text)?;
    let exact = frame.offset.is_some();
    rest = rest.strip_prefix(b")").unwrap_or(rest);
    loop {
        rest = skip_blanks(rest);
        if rest.is_empty() {
            break;
        }
        let end = rest.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        match word {
            b"[inline]" => frame.inlined = true,
            b"(unreliable)" => frame.unreliable = true,
            [b'(', ..] | [_, .., b')'] => {}
            [b'[', name @ .., b']'] => {
                if frame.module.is_none() {
                    frame.module = Some(lossy(name).into());
                }
            }
            // `[module 0123…abcd]`: the build id stands inside the brackets.
            [b'[', name @ ..] if exact => {
                if frame.module.is_none() {
                    frame.module = Some(lossy(name).into());
                }
            }
            [hex @ .., b']'] if exact && hex.iter().all(u8::is_ascii_hexdigit) => {}
            _ => match source(word) {
                Some(found) => frame.source = Some(found),
                None if exact => break,
                None => return None,
            },
        }
        rest = after;
    }
    (exact || (frame.inlined && frame.source.is_some())).then_some(frame)
}

/// `sym (file:line file:line) module`: what `scripts/decode_stacktrace.sh` makes of a frame. The
/// first place is the innermost of what was inlined.
fn decoded(text: &[u8]) -> Option<Frame> {
    let (mut frame, rest) = location(text)?;
    let rest = rest.strip_prefix(b" (")?;
    let close = memchr::memchr(b')', rest)?;
    let first = rest[..close].split(|b| *b == b' ').next()?;
    frame.source = Some(source(first)?);
    let module = rest[close + 1..].trim_ascii();
    // `(file.c:12 (discriminator 3))`
    let module = module.strip_prefix(b")").unwrap_or(module).trim_ascii();
    if !module.is_empty() {
        if module.contains(&b' ') {
            return None;
        }
        frame.module = Some(lossy(module).into());
    }
    Some(frame)
}

/// Might this line hold a frame? Cheap, because most lines of a report are registers and dumps.
#[inline]
pub(crate) fn may_be_frame(text: &[u8]) -> bool {
    const SOURCES: [&[u8]; 4] = [b".c", b".h", b".S", b".rs"];
    let told = memchr::memchr2_iter(b'+', b':', text).any(|at| match text[at] {
        b'+' => text[at..].starts_with(b"+0x"),
        // `(file.c:12`
        _ => {
            text.get(at + 1).is_some_and(u8::is_ascii_digit)
                && SOURCES.iter().any(|ending| text[..at].ends_with(ending))
                && text[..at].contains(&b'(')
        }
    });
    told || text.trim_ascii_end().ends_with(b"[inline]")
}

/// `sym+0x1/0x2` at the start of `text`; the offset and the size may be missing.
pub fn location(text: &[u8]) -> Option<(Frame, &[u8])> {
    // Before 2.6.28 the module stood before the symbol: `:radeon:f+0x1/0x2`.
    let mut module = None;
    let mut text = text;
    if let Some(rest) = text.strip_prefix(b":") {
        let len = symbol_len(rest);
        if len > 0 && rest.get(len) == Some(&b':') {
            module = Some(lossy(&rest[..len]).into());
            text = &rest[len + 1..];
        }
    }
    // The first ABI of 64-bit PowerPC has a dot before the name of the code.
    if text.first() == Some(&b'.')
        && text.get(1).is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_')
    {
        text = &text[1..];
    }
    let len = symbol_len(text);
    // A bare address is no symbol.
    if len == 0
        || text[0].is_ascii_digit()
        || (len >= 8 && text[..len].iter().all(u8::is_ascii_hexdigit))
    {
        return None;
    }
    let name = std::str::from_utf8(&text[..len]).ok()?;
    let mut frame = Frame { function: demangled(name), module, ..Frame::default() };
    let mut rest = &text[len..];
    if let Some(after) = rest.strip_prefix(b"+0x") {
        let (offset, after) = hex(after)?;
        frame.offset = Some(offset);
        rest = after;
        if let Some(after) = rest.strip_prefix(b"/0x") {
            let (size, after) = hex(after)?;
            frame.size = Some(size);
            rest = after;
        }
    }
    Some((frame, rest))
}

/// The first `sym+0x1/0x2` anywhere in `text`.
pub(crate) fn symbol_in(text: &[u8]) -> Option<Frame> {
    memmem::find_iter(text, b"+0x").take(4).find_map(|plus| {
        let start = text[..plus]
            .iter()
            .rposition(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$')))
            .map_or(0, |at| at + 1);
        let (frame, _) = location(&text[start..])?;
        frame.size.is_some().then_some(frame)
    })
}

fn demangled(name: &str) -> SmolStr {
    if !(name.starts_with("_R") || name.starts_with("_ZN")) {
        return name.into();
    }
    match rustc_demangle::try_demangle(name) {
        Ok(name) => format_smolstr!("{name:#}"),
        Err(_) => name.into(),
    }
}

fn hex(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    let mut len = 0;
    while let Some(digit) = text.get(len).and_then(|byte| nibble(*byte)) {
        if len == 16 {
            return None;
        }
        value = (value << 4) | digit;
        len += 1;
    }
    (len > 0).then(|| (value, &text[len..]))
}

fn nibble(byte: u8) -> Option<u64> {
    match byte {
        b'0'..=b'9' => Some(u64::from(byte - b'0')),
        b'a'..=b'f' => Some(u64::from(byte - b'a') + 10),
        b'A'..=b'F' => Some(u64::from(byte - b'A') + 10),
        _ => None,
    }
}

/// `file.c:12`, `file.h:12:3`.
pub fn source(word: &[u8]) -> Option<Source> {
    let dot = memchr::memchr(b'.', word)?;
    let colon = dot + memchr::memchr(b':', &word[dot..])?;
    let digits = word[colon + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
    let line = number(&word[colon + 1..colon + 1 + digits])?;
    let file = lossy(&word[..colon]);
    Some(Source { file: relative(&file).to_owned(), line })
}

/// A path as the kernel tree knows it: without `./`, `../` and the builder's directory.
pub fn relative(path: &str) -> &str {
    const TOP: &[&str] = &[
        "arch", "block", "certs", "crypto", "drivers", "fs", "include", "init", "io_uring", "ipc",
        "kernel", "lib", "mm", "net", "rust", "samples", "security", "sound", "tools", "usr",
        "virt",
    ];
    if !path.starts_with('/') && !path.starts_with('.') {
        return path;
    }
    let mut at = 0;
    for part in path.split('/') {
        if TOP.contains(&part) {
            return &path[at..];
        }
        at += part.len() + 1;
    }
    path
}

fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(line: &str) -> Option<SmolStr> {
        parse_frame(line.as_bytes()).map(|f| f.function)
    }

    /// Every architecture's notation is read.
    #[test]
    fn frames_of_every_architecture_are_read() {
        for line in [
            " f+0x1/0x2",
            " [<ffffffff81000000>] f+0x1/0x2",
            " <IRQ>  [<ffffffff81000000>] f+0x1/0x2",
            "[<80100000>] (g) from [<80200000>] (f+0x1/0x2)",
            " g from f+0x1/0x2",
            "[c000000012340000] [c000000000120000] f+0x1/0x2 (unreliable)",
            " f+0x1/0x2 [kvm]",
            " f+0x1/0x2 [kvm 0123456789abcdef]",
            " f+0x1/0x2 (P)",
            " f+0x1/0x2 lib/f.c:12",
            " f lib/f.c:12 [inline]",
            "([<0000000000120000>] f+0x1/0x2)",
            "f (lib/f.c:12)",
            " ? f (lib/f.c:12 lib/g.c:3) kvm",
            "f (lib/f.c:12 (discriminator 3))",
            "[<(ptrval)>] f+0x1/0x2",
            "[c000000010f93150] [c000000008028668] .f+0x128/0x170",
            " [<f88dec25>] :radeon:f+0x90/0x302",
        ] {
            assert_eq!(function(line).as_deref(), Some("f"), "{line:?}");
        }
    }

    /// A line that only mentions a function is no frame.
    #[test]
    fn what_is_no_frame_is_none() {
        for line in [
            "",
            "Call Trace:",
            "RIP: 0010:f+0x1/0x2",
            "RAX: 0000000000000000 RBX: ffff888000000000",
            "lab: 1: transaction failed",
            "f lib/f.c:12",
        ] {
            assert_eq!(function(line), None, "{line:?}");
        }
    }

    /// What the unwinder is not sure of is remembered.
    #[test]
    fn a_question_mark_is_remembered() {
        assert!(parse_frame(b" ? f+0x1/0x2").is_some_and(|f| f.unreliable));
        assert!(parse_frame(b" [<ffffffff81000000>] ? f+0x1/0x2").is_some_and(|f| f.unreliable));
    }

    /// What the compiler appended is no part of the name.
    #[test]
    fn compiler_suffixes_are_not_the_name() {
        for name in ["f", "f.isra.0", "f.constprop.1.cold", "f.llvm.123"] {
            assert_eq!(base_name(name), "f");
        }
        assert_eq!(base_name("<a::B>::c"), "<a::B>::c");
    }

    /// Paths are those of the kernel's tree.
    #[test]
    fn paths_are_relative_to_the_tree() {
        for path in ["fs/x.c", "./fs/x.c", "../fs/x.c", "/home/me/linux/fs/x.c"] {
            assert_eq!(relative(path), "fs/x.c");
        }
    }
}
