//! One physical line of a console may hold several messages, each behind prefixes that say when it
//! was printed and by whom. This module takes them apart.
//!
//! Known prefixes, in any order and number: the level (`<4>`, `<4,12,…>`), the kernel's time stamp
//! (`[  12.345678]`), the printing thread or CPU (`[ T31]`, `[ C1]`), a syslog or journal head
//! (`Sep 23 02:31:17 host kernel: `), a host's date, time or seconds. A kernel time stamp in the
//! *middle* of a line starts another message there: user space and kernel share the console, and a
//! message that was cut by another goes on behind it.

use memchr::{memchr, memmem};

/// Who printed a message, as `CONFIG_PRINTK_CALLER` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A thread, by its id.
    Thread(u32),
    /// A CPU, in interrupt context.
    Cpu(u32),
}

/// One message: where its text lies in the physical line, and who printed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Who printed it; `None` if the console does not tell.
    pub origin: Option<Origin>,
    /// Offset of the first byte of the message, prefixes included.
    pub start: usize,
    /// Offset of the first byte of its text.
    pub text: usize,
    /// Offset just past its last byte.
    pub end: usize,
}

/// Takes a physical line (without its line feed) apart into messages, in order.
pub fn messages(line: &[u8], mut each: impl FnMut(Message)) {
    let end = trimmed_end(line);
    let mut start = 0;
    let mut head = prefix(line, 0, end);
    loop {
        let next = next_stamp(line, head.text, end);
        let stop = next.unwrap_or(end);
        // What stands before a kernel stamp on the same line is worth a message only if it says
        // something: a bare syslog head is not.
        let bare = next.is_some() && line[head.text..stop].trim_ascii().is_empty();
        if !bare {
            each(Message {
                origin: head.origin,
                start,
                text: head.text,
                end: trimmed_end(&line[..stop]).max(head.text),
            });
        }
        let Some(next) = next else { return };
        start = next;
        head = prefix(line, next, end);
    }
}

struct Head {
    origin: Option<Origin>,
    text: usize,
}

fn trimmed_end(line: &[u8]) -> usize {
    let mut end = line.len();
    while end > 0 && matches!(line[end - 1], b'\r' | b'\n' | b' ' | b'\t' | 0) {
        end -= 1;
    }
    end
}

/// Skips every prefix from `at` on.
fn prefix(line: &[u8], at: usize, end: usize) -> Head {
    let mut head = Head { origin: None, text: at };
    loop {
        let rest = &line[head.text..end];
        let Some(&first) = rest.first() else {
            return head;
        };
        let skip = match first {
            b'\r' | 0 => 1,
            b'<' => level(rest),
            b'[' => match caller(rest) {
                Some((origin, len)) => {
                    head.origin = Some(origin);
                    len
                }
                None => stamp(rest).map_or(0, |len| len + blank(&rest[len..])),
            },
            b'0'..=b'9' => host_time(rest),
            b'A'..=b'Z' | 0x80.. => syslog(rest),
            _ => 0,
        };
        if skip == 0 {
            return head;
        }
        head.text += skip;
    }
}

/// One blank belongs to the prefix, further ones to the text: stacks are indented.
fn blank(rest: &[u8]) -> usize {
    usize::from(rest.first() == Some(&b' ') && rest.get(1) != Some(&b'['))
        + usize::from(rest.starts_with(b" [") && caller(&rest[1..]).is_some())
}

/// `<4>`, `<13>`, `<4,1234,56789,->`.
fn level(rest: &[u8]) -> usize {
    let window = &rest[..rest.len().min(40)];
    match memchr(b'>', window) {
        Some(close)
            if close > 1
                && window[1].is_ascii_digit()
                && window[1..close]
                    .iter()
                    .all(|b| b.is_ascii_digit() || matches!(b, b',' | b'-' | b';')) =>
        {
            close + 1
        }
        _ => 0,
    }
}

/// `[   12.345678]`: the length, if a kernel time stamp stands here.
fn stamp(rest: &[u8]) -> Option<usize> {
    let mut at = 1;
    while rest.get(at) == Some(&b' ') {
        at += 1;
    }
    let seconds = digits(&rest[at..]);
    at += seconds;
    if seconds == 0 || seconds > 12 || rest.get(at) != Some(&b'.') {
        return None;
    }
    at += 1;
    let fraction = digits(&rest[at..]);
    at += fraction;
    // Six digits; some kernels add the CPU (`[   12.345678,0]`) or a letter (`[   12.345678@1]`).
    if fraction != 6 {
        return None;
    }
    if matches!(rest.get(at), Some(b',' | b'@')) {
        at += 1 + digits(&rest[at + 1..]);
    }
    (rest.get(at) == Some(&b']')).then_some(at + 1)
}

/// `[ T31]`, `[  C1]`, and both in one (`[ T31,C1]`): the origin and the length with its blank.
fn caller(rest: &[u8]) -> Option<(Origin, usize)> {
    let mut at = 1;
    while rest.get(at) == Some(&b' ') {
        at += 1;
    }
    let letter = *rest.get(at)?;
    if letter != b'T' && letter != b'C' {
        return None;
    }
    let len = digits(&rest[at + 1..]);
    if len == 0 || len > 9 {
        return None;
    }
    let number = number(&rest[at + 1..at + 1 + len])?;
    at += 1 + len;
    if matches!(rest.get(at), Some(b',' | b'@')) {
        at += 1;
        while rest.get(at).is_some_and(|b| b.is_ascii_alphanumeric()) {
            at += 1;
        }
    }
    if rest.get(at) != Some(&b']') {
        return None;
    }
    at += 1;
    at += usize::from(rest.get(at) == Some(&b' '));
    let origin = if letter == b'T' { Origin::Thread(number) } else { Origin::Cpu(number) };
    Some((origin, at))
}

/// A host's date and time: `2018/01/09 14:28:48 `, `2024-05-01T12:00:00.123Z `, `12:34:56 `,
/// `1700000000.123456 `, each followed by at most a host name and `kernel: `.
fn host_time(rest: &[u8]) -> usize {
    let len = rest.iter().position(|&b| b == b' ').unwrap_or(rest.len());
    if !(8..=40).contains(&len) || len == rest.len() {
        return 0;
    }
    let token = &rest[..len];
    let dated = token.len() >= 10
        && token[..4].iter().all(u8::is_ascii_digit)
        && matches!(token[4], b'-' | b'/')
        && token[4] == token[7];
    let timed = token.len() >= 8
        && token[..2].iter().all(u8::is_ascii_digit)
        && token[2] == b':'
        && token[5] == b':';
    let seconds = memchr(b'.', token).is_some_and(|dot| {
        dot > 0
            && token.len() - dot == 7
            && token[..dot].iter().all(u8::is_ascii_digit)
            && token[dot + 1..].iter().all(u8::is_ascii_digit)
    });
    if !(dated || timed || seconds) {
        return 0;
    }
    len + 1 + kernel_tag(&rest[len + 1..])
}

/// `Sep 23 02:31:17 host kern.err kernel: `, the month in any language.
fn syslog(rest: &[u8]) -> usize {
    const MONTHS: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let window = &rest[..rest.len().min(24)];
    let Some(colon) = memchr(b':', window) else {
        return 0;
    };
    // `DD HH:MM:SS `
    let Some(day) = colon.checked_sub(5) else {
        return 0;
    };
    let Some(time) = rest.get(day..day + 12) else {
        return 0;
    };
    let clock = time[2] == b' '
        && time[5] == b':'
        && time[8] == b':'
        && time[11] == b' '
        && [1, 3, 4, 6, 7, 9, 10].iter().all(|at| time[*at].is_ascii_digit());
    if !clock {
        return 0;
    }
    let tag = kernel_tag(&rest[day + 12..]);
    let month = rest[..day].trim_ascii();
    let english = month.len() == 3 && MONTHS.chunks_exact(3).any(|known| known == month);
    // Another language's month is believed if the kernel is named behind it.
    if english || tag > 0 { day + 12 + tag } else { 0 }
}

/// The host and `kernel: ` behind a date, if they are there.
fn kernel_tag(rest: &[u8]) -> usize {
    let window = &rest[..rest.len().min(80)];
    match memmem::find(window, b"kernel: ") {
        Some(at) if !window[..at].contains(&b'[') => at + 8,
        _ => 0,
    }
}

/// The next kernel time stamp behind `from`.
fn next_stamp(line: &[u8], from: usize, end: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = memchr(b'[', &line[at..end]) {
        let here = at + found;
        if matches!(line.get(here + 1), Some(b' ' | b'0'..=b'9'))
            && stamp(&line[here..end]).is_some()
        {
            return Some(here);
        }
        at = here + 1;
    }
    None
}

fn digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|b| b.is_ascii_digit()).count()
}

/// A decimal number made of all of `bytes`.
pub(crate) fn number(bytes: &[u8]) -> Option<u32> {
    if bytes.is_empty() || bytes.len() > 10 {
        return None;
    }
    bytes.iter().try_fold(0u32, |n, b| {
        b.is_ascii_digit().then(|| n.checked_mul(10)?.checked_add(u32::from(b - b'0'))).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<(Option<Origin>, &str)> {
        let mut all = Vec::new();
        messages(line.as_bytes(), |m| {
            all.push((m.origin, &line[m.text..m.end]));
        });
        all
    }

    #[test]
    fn prefixes_of_every_sort_are_taken_off() {
        for line in [
            "BUG: x",
            "[    1.234567] BUG: x",
            "<4>[    1.234567] BUG: x",
            "<4,12,345,->BUG: x",
            "Sep 23 02:31:17 host kernel: [    1.234567] BUG: x",
            "Sep 23 02:31:17 host kern.err kernel: BUG: x",
            "июл 27 14:08:03 laptop kernel: BUG: x",
            "2018/01/09 14:28:48 BUG: x",
            "2024-05-01T12:00:00.123456+00:00 host kernel: BUG: x\r",
            "1700000000.123456 [    1.234567] BUG: x",
            "12:34:56 [    1.234567,1] BUG: x",
            "\r\r[    1.234567] BUG: x",
        ] {
            assert_eq!(texts(line), [(None, "BUG: x")], "{line:?}");
        }
    }

    #[test]
    fn the_caller_tells_thread_and_cpu() {
        assert_eq!(texts("[    1.234567][   T31] BUG: x"), [(Some(Origin::Thread(31)), "BUG: x")]);
        assert_eq!(
            texts("[    1.234567][    C1]  do_idle+0x1/0x2"),
            [(Some(Origin::Cpu(1)), " do_idle+0x1/0x2")]
        );
        assert_eq!(texts("[    1.234567] [ T7,C0] x"), [(Some(Origin::Thread(7)), "x")]);
    }

    #[test]
    fn a_stamp_inside_a_line_starts_a_message() {
        assert_eq!(
            texts("login: [   42.000001][   T42] BUG: x[   42.9] y"),
            [(None, "login:"), (Some(Origin::Thread(42)), "BUG: x[   42.9] y")]
        );
        assert_eq!(
            texts("[    1.000000] ffff888000000042[   42.000002] lab: y"),
            [(None, "ffff888000000042"), (None, "lab: y")]
        );
    }

    #[test]
    fn what_looks_like_a_prefix_but_is_text_stays() {
        for line in ["6.12.0+ #1 Not tainted", "2 locks held by x/1:", "[<ffff>] f+0x1/0x2"] {
            assert_eq!(texts(line), [(None, line)]);
        }
    }
}
