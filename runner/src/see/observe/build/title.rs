//! A report's title: the row's words, filled with what was captured and who is blamed.

use super::Access;
use super::body::Body;
use super::culprit::parse_name;
use crate::see::observe::Kind;
use crate::see::observe::frame::parse_frame;
use crate::see::observe::stream::Report;

/// The words of a head without its prefix and brackets, as a title.
pub(crate) fn bare(head: &[u8]) -> String {
    let text = String::from_utf8_lossy(head);
    let text = text.trim();
    let text = text.strip_prefix("[ ").unwrap_or(text);
    let text = text.strip_suffix(" ]").unwrap_or(text);
    text.trim_end_matches(['.', '!']).to_owned()
}

pub(crate) fn class(kind: Kind, class: &'static str) -> &'static str {
    match kind {
        Kind::KasanInvalidFree | Kind::KfenceInvalidFree => "invalid-free in {F}",
        Kind::KfenceMemoryCorruption | Kind::Ubsan => "",
        _ => class,
    }
}

/// Fills the holes of a title.
pub(crate) struct Fill<'r> {
    pub(crate) report: &'r Report,
    pub(crate) head: &'r [u8],
    pub(crate) access: Option<Access>,
    pub(crate) body: &'r Body<'r>,
}

/// Replaces what differs from boot to boot.
pub(crate) fn generic(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        if let Some(hex) = rest.strip_prefix("0x") {
            let len = hex.bytes().take_while(u8::is_ascii_hexdigit).count();
            out.push_str(if len > 4 { "ADDR" } else { "NUM" });
            at += 2 + len;
            continue;
        }
        let len = rest.bytes().take_while(u8::is_ascii_digit).count();
        if len > 0 {
            out.push_str("NUM");
            at += len;
            continue;
        }
        let Some(next) = rest.chars().next() else {
            break;
        };
        out.push(next);
        at += next.len_utf8();
    }
    out.trim().to_owned()
}

impl Fill<'_> {
    pub(crate) fn title(&self, format: &str, function: Option<&str>) -> String {
        let mut title = String::with_capacity(format.len() + 32);
        let mut rest = format;
        while let Some(open) = rest.find('{') {
            title.push_str(&rest[..open]);
            let Some(close) = rest[open..].find('}') else {
                break;
            };
            let hole = &rest[open + 1..open + close];
            rest = &rest[open + close + 1..];
            match hole {
                "F" => title.push_str(function.unwrap_or("corrupted")),
                "access" => match self.access {
                    Some(Access::Read) => title.push_str(" Read"),
                    Some(Access::Write) => title.push_str(" Write"),
                    None => {}
                },
                "text" => title.push_str(&self.text()),
                "func" | "func2" => {
                    if let Some(text) = self.report.captures.get(hole, self.head) {
                        let name = parse_frame(text)
                            .map(|frame| frame.name().to_owned())
                            .or_else(|| parse_name(text))
                            .unwrap_or_default();
                        title.push_str(&name);
                    }
                }
                _ => match self.report.captures.get(hole, self.head) {
                    Some(text) => {
                        let text = String::from_utf8_lossy(text);
                        title.push_str(match text.trim() {
                            "double-free or invalid-free" | "double-free" | "invalid-free" => {
                                "invalid-free"
                            }
                            text => text,
                        });
                    }
                    None => {
                        title.push('{');
                        title.push_str(hole);
                        title.push('}');
                    }
                },
            }
        }
        title.push_str(rest);
        title
    }

    /// The report's own words: of the head, or of the line behind it. Numbers and addresses differ
    /// from boot to boot, so they have no place in a title.
    fn text(&self) -> String {
        let text = match self.report.captures.get("text", self.head) {
            Some(_) if self.report.row.name == "harness" => self.head,
            Some(text) => text,
            None => self
                .body
                .texts
                .iter()
                .skip(1)
                .find(|text| !text.trim_ascii().is_empty())
                .copied()
                .unwrap_or(b""),
        };
        generic(&String::from_utf8_lossy(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_hold_no_numbers_of_one_boot() {
        assert_eq!(
            generic("executor 12 failed 3 times at 0xffff888012345678"),
            "executor NUM failed NUM times at ADDR"
        );
    }
}
