//! One physical line of a console may hold several messages, each behind prefixes that say when it
//! was printed and by whom. This module takes them apart.
//!
//! Logs are posted as the tools print them, and tools are stacked: a serial server's time before a
//! journal's before the kernel's own. So a prefix is a run of *units* in any order and number, each
//! recognised by its shape alone: quotes, levels, clocks and dates in brackets or bare, a host and
//! `kernel:`, the printing thread or CPU, what vendors add. [`decode`] first undoes what a tool did
//! to the text itself: JSON, rsyslog's `#012`, colours.
//!
//! A kernel time stamp in the *middle* of a line starts another message there: user space and kernel
//! share the console, and a message that was cut by another goes on behind it. A shape that no unit
//! knows is learned from the report's own lines, see [`Shape`].

use memchr::{memchr, memchr2, memchr3, memmem};

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
    /// The prefix says that the kernel printed it.
    pub kernel: bool,
    /// The prefix says that a program printed it: it is no report, whatever it says.
    pub program: bool,
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
                kernel: head.kernel,
                program: head.program,
            });
        }
        let Some(next) = next else { return };
        start = next;
        head = prefix(line, next, end);
    }
}

#[derive(Default)]
struct Head {
    origin: Option<Origin>,
    text: usize,
    kernel: bool,
    program: bool,
    /// Something said when: what follows may say who.
    timed: bool,
    /// Only quotes so far.
    quoted: bool,
    /// A level was the last unit.
    level: bool,
    /// Who speaks was looked for here already.
    asked: bool,
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
    let mut head = Head { text: at, quoted: at == 0, ..Head::default() };
    // A line made of units only is noise: a limit keeps it cheap.
    for _ in 0..24 {
        let len = unit(&line[head.text..end], &mut head);
        if len == 0 {
            break;
        }
        head.text += len;
    }
    head
}

/// The length of the unit that `rest` begins with, or 0.
fn unit(rest: &[u8], head: &mut Head) -> usize {
    let Some(&first) = rest.first() else { return 0 };
    let quoted = std::mem::take(&mut head.quoted);
    let level = std::mem::take(&mut head.level);
    let asked = std::mem::take(&mut head.asked);
    match first {
        b'\r' | 0 => {
            head.quoted = quoted;
            1
        }
        0xEF if rest.starts_with(b"\xEF\xBB\xBF") => 3,
        b' ' | b'\t' => {
            // Blanks belong to the prefix if more of it follows; else they are the text's, for
            // stacks are indented.
            let blanks = rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
            let mut probe = Head { timed: head.timed, quoted, ..Head::default() };
            let follows = match rest.get(blanks) {
                Some(b'>') => quoted && quote(&rest[blanks..]) > 0,
                Some(_) => unit(&rest[blanks..], &mut probe) > 0,
                None => false,
            };
            head.quoted = quoted;
            if follows { blanks } else { 0 }
        }
        b'>' | b'|' if quoted => {
            head.quoted = true;
            quote(rest)
        }
        b'<' => {
            let len = self::level(rest);
            head.level = len > 0;
            head.kernel |= len > 0;
            len
        }
        b'(' if head.timed => vendor(rest),
        b'-' if head.timed && rest.get(1) == Some(&b'(') => match vendor(&rest[1..]) {
            0 => 0,
            len => len + 1,
        },
        b'[' => bracket(rest, head),
        b'1' if level
            && rest.get(1) == Some(&b' ')
            && rest.get(2).is_some_and(u8::is_ascii_digit) =>
        {
            // RFC 5424: the version.
            2
        }
        b'0'..=b'9' => digits_unit(rest, head),
        b'V' | b'D' | b'I' | b'W' | b'E' | b'F' if rest.get(1) == Some(&b'/') => {
            logcat_tag(rest, head)
        }
        // Samsung: `I[0:    kworker/0:1: 2880] `.
        b'A'..=b'Z' if head.timed && rest.get(1) == Some(&b'[') => match vendor(&rest[1..]) {
            0 => 0,
            len => len + 1,
        },
        b'M' if rest.starts_with(b"MESSAGE=") => 8,
        b'A'..=b'Z' | b'a'..=b'z' if is_text(rest) => 0,
        b'A'..=b'Z' | b'a'..=b'z' | 0x80.. => words_unit(rest, head, asked),
        _ => 0,
    }
}

/// `> `, `>> `, `| `.
fn quote(rest: &[u8]) -> usize {
    let marks = rest.iter().take_while(|b| **b == rest[0]).count();
    match (rest[0], rest.get(marks)) {
        (_, None | Some(b' ')) => marks + usize::from(rest.len() > marks),
        // `>[  1.0] x`; but `>ffff888012345678: fb` is a line of KASAN's.
        (b'>', Some(b'[' | b'<')) => marks,
        _ => 0,
    }
}

fn bracket(rest: &[u8], head: &mut Head) -> usize {
    if let Some(len) = stamp(rest) {
        head.kernel = true;
        head.timed = true;
        let len = len + blank(&rest[len..]);
        return len + who(&rest[len..], head);
    }
    if let Some((origin, len)) = caller(rest) {
        head.origin = Some(origin);
        return len;
    }
    if let Some(len) = clock_in_brackets(rest) {
        head.timed = true;
        // dmesg writes a weekday or a month, build servers write ISO 8601.
        head.kernel |=
            rest[1..4].iter().filter(|b| b.is_ascii_alphabetic() || **b >= 0x80).count() > 1;
        let len = len + blank(&rest[len..]);
        return len + who(&rest[len..], head);
    }
    if head.timed { vendor(rest) } else { 0 }
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
    // `dmesg -d`: the time since the last message.
    if rest[at..].starts_with(b" <") {
        let close = memchr(b'>', &rest[at..rest.len().min(at + 24)])?;
        at += close + 1;
    }
    // Some serial servers write a blank.
    at += usize::from(rest[at..].starts_with(b" ]"));
    (rest.get(at) == Some(&b']')).then_some(at + 1)
}

/// A date or a time in brackets, in any language: `[Thu Feb 10 12:59:06 2022]`, `[Feb16 17:33]`,
/// `[  +0.000047]`, `[<    0.000010>]`, `[2022-02-10T12:59:06.123Z]`.
fn clock_in_brackets(rest: &[u8]) -> Option<usize> {
    let close = memchr(b']', &rest[..rest.len().min(64)])?;
    let inner = &rest[1..close];
    let allowed = inner.iter().all(|b| {
        b.is_ascii_alphanumeric()
            || matches!(
                b,
                b' ' | b'.' | b':' | b',' | b'+' | b'-' | b'/' | b'<' | b'>' | b'_' | 0x80..
            )
    });
    if !allowed {
        return None;
    }
    let trimmed = inner.trim_ascii();
    let trimmed = trimmed.strip_prefix(b"<").map_or(trimmed, |t| t.trim_ascii_start());
    let delta = trimmed.strip_prefix(b"+").unwrap_or(trimmed);
    let fraction = delta.iter().position(|b| *b == b'.').is_some_and(|dot| {
        dot > 0
            && delta[..dot].iter().all(u8::is_ascii_digit)
            && digits(&delta[dot + 1..]) == 6
            && matches!(delta.get(dot + 7), None | Some(b'>'))
            && delta.len() <= dot + 8
    });
    // Two digits, a colon and two digits, at the beginning of a word or of ISO 8601's time.
    let clock = inner.windows(5).enumerate().any(|(at, w)| {
        w[2] == b':'
            && [0, 1, 3, 4].iter().all(|i| w[*i].is_ascii_digit())
            && (at == 0 || matches!(inner[at - 1], b' ' | b'T' | b'_'))
            && !inner.get(at + 5).is_some_and(u8::is_ascii_digit)
    });
    // Some phones: `[20220210_12:59:06.123456]@0 `, with the CPU.
    let cpu = match rest[close + 1..].strip_prefix(b"@") {
        Some(behind) if digits(behind) > 0 => 1 + digits(behind),
        _ => 0,
    };
    (fraction || clock).then_some(close + 1 + cpu)
}

/// What vendors put behind the time: `(0)[2880:sync svc 43]`, `[0:    kworker/0:1: 2880]`,
/// `[pid:12,cpu0,init]`. It may hold a name, so it must be taken for what it is.
fn vendor(rest: &[u8]) -> usize {
    let mut at = 0;
    if rest[0] == b'(' {
        at = 1 + digits(&rest[1..]);
        if at == 1 || rest.get(at) != Some(&b')') || rest.get(at + 1) != Some(&b'[') {
            return 0;
        }
        at += 1;
    }
    let Some(inner) = rest.get(at + 1..rest.len().min(at + 64)) else { return 0 };
    let Some(close) = memchr(b']', inner) else { return 0 };
    let inner = &inner[..close];
    let number = digits(inner);
    let ends_in_number = inner.last().is_some_and(u8::is_ascii_digit);
    let known = inner.starts_with(b"pid:")
        || number > 0
            && inner.get(number) == Some(&b':')
            && inner.get(number + 1).is_some()
            // A device is no vendor's prefix: `[8086:7010]`, `[0000:00:01.1]`.
            && (at > 0 || ends_in_number && memchr(b' ', inner).is_some());
    if !known {
        return 0;
    }
    let end = at + 1 + close + 1;
    end + usize::from(rest.get(end) == Some(&b' '))
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

/// What begins with a digit: `4,1234,13977807,-;` (/dev/kmsg and netconsole), `02-10 12:59:06.123
/// 0 0 W kernel : ` (logcat), dates, times and seconds.
fn digits_unit(rest: &[u8], head: &mut Head) -> usize {
    let kmsg = kmsg(rest);
    if kmsg > 0 {
        head.kernel = true;
        return kmsg;
    }
    let logcat = logcat(rest, head);
    if logcat > 0 {
        return logcat;
    }
    if head.timed {
        let stream = runner_stream(rest);
        if stream > 0 {
            return stream;
        }
        // logcat with the year: its date and time are units of their own.
        let tag = logcat_tag(rest, head);
        if tag > 0 {
            return tag;
        }
    }
    let len = host_time(rest);
    if len > 0 {
        head.timed = true;
        return len + who(&rest[len..], head);
    }
    syslog(rest, head)
}

/// `4,1234,13977807,-;`, with further fields before the semicolon on newer kernels.
fn kmsg(rest: &[u8]) -> usize {
    let window = &rest[..rest.len().min(80)];
    let Some(close) = memchr(b';', window) else { return 0 };
    let mut fields = window[..close].split(|b| *b == b',');
    let numbers = (0..3).all(|_| {
        fields.next().is_some_and(|field| !field.is_empty() && field.iter().all(u8::is_ascii_digit))
    });
    let flag = fields.next().is_some_and(|field| matches!(field, b"-" | b"c" | b"+"));
    if numbers && flag { close + 1 } else { 0 }
}

/// `02-10 12:59:06.123  1234  1234 W kernel  : text`.
fn logcat(rest: &[u8], head: &mut Head) -> usize {
    let date = rest.len() > 18
        && rest[2] == b'-'
        && rest[5] == b' '
        && rest[8] == b':'
        && rest[11] == b':'
        && rest[14] == b'.'
        && [0, 1, 3, 4, 6, 7, 9, 10, 12, 13].iter().all(|at| rest[*at].is_ascii_digit());
    if !date {
        return 0;
    }
    let at = 15 + digits(&rest[15..]);
    match logcat_tag(&rest[at..], head) {
        0 => 0,
        len => at + len,
    }
}

/// What logcat writes behind the time: `  1234  1234 W kernel  : `, ` W/kernel  (    0): `.
fn logcat_tag(rest: &[u8], head: &mut Head) -> usize {
    let mut at = 0;
    let mut numbers = 0;
    for _ in 0..3 {
        let blanks = blanks(&rest[at..]);
        let number = digits(&rest[at + blanks..]);
        if number == 0 {
            break;
        }
        at += blanks + number;
        numbers += 1;
    }
    at += blanks(&rest[at..]);
    if !matches!(rest.get(at), Some(b'V' | b'D' | b'I' | b'W' | b'E' | b'F')) {
        return 0;
    }
    let slash = match rest.get(at + 1) {
        Some(b'/') => true,
        Some(b' ') if numbers > 0 => false,
        _ => return 0,
    };
    at += 2;
    let window = &rest[at..rest.len().min(at + 48)];
    let Some(colon) = memchr(b':', window) else { return 0 };
    let mut tag = window[..colon].trim_ascii();
    if slash {
        // `kernel  (    0)`
        let Some(open) = memchr(b'(', tag).filter(|_| tag.ends_with(b")")) else { return 0 };
        tag = tag[..open].trim_ascii();
    }
    head.timed = true;
    head.kernel |= tag.is_empty() || tag == b"kernel";
    head.program |= !head.kernel;
    at += colon + 1;
    at + usize::from(rest.get(at) == Some(&b' '))
}

/// GitLab's runner, behind its time: `00O `, `01E+`, the number of the stream, which it is, and
/// whether the line goes on.
fn runner_stream(rest: &[u8]) -> usize {
    let stream = rest.len() > 4
        && rest[..2].iter().all(u8::is_ascii_hexdigit)
        && matches!(rest[2], b'O' | b'E')
        && matches!(rest[3], b' ' | b'+');
    if stream { 4 } else { 0 }
}

/// A host's date and time: `2018/01/09 `, `2024-05-01T12:00:00.123Z `, `12:34:56 `,
/// `1700000000.123456 `.
fn host_time(rest: &[u8]) -> usize {
    let len = rest.iter().take(41).position(|b| *b == b' ').unwrap_or(rest.len());
    if !(8..=40).contains(&len) || len == rest.len() {
        return 0;
    }
    let token = &rest[..len];
    let dated = token.len() >= 10
        && token[..4].iter().all(u8::is_ascii_digit)
        && matches!(token[4], b'-' | b'/' | b'.')
        && token[4] == token[7];
    let timed = token[..2].iter().all(u8::is_ascii_digit)
        && token[2] == b':'
        && token[5] == b':'
        && token[3..5].iter().all(u8::is_ascii_digit)
        && token[6..8].iter().all(u8::is_ascii_digit)
        && token[8..].iter().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b',' | b'Z' | b'+'));
    let seconds = memchr(b'.', token).is_some_and(|dot| {
        dot > 0
            && token.len() - dot == 7
            && token[..dot].iter().all(u8::is_ascii_digit)
            && token[dot + 1..].iter().all(u8::is_ascii_digit)
    });
    if dated || timed || seconds { len + 1 } else { 0 }
}

/// Is it the kernel's text for sure? A frame, or a word and a colon, which most lines of a report
/// begin with (`RAX: `), unless it is a facility's or the kernel's own name.
fn is_text(rest: &[u8]) -> bool {
    let len = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
    match rest.get(len) {
        Some(b'+') => rest[len..].starts_with(b"+0x"),
        Some(b':') => {
            let word = &rest[..len];
            word != b"kernel" && !rest[len - 1].is_ascii_digit() && !FACILITIES.contains(&word)
        }
        _ => false,
    }
}

/// What begins with a letter: a date of syslog, the facility and level of `dmesg -x`, a weekday
/// before a date, a container's stream.
fn words_unit(rest: &[u8], head: &mut Head, asked: bool) -> usize {
    let facility = facility(rest, head);
    if facility > 0 {
        return facility;
    }
    if head.timed {
        // Container runtimes: `stdout F `.
        for stream in [&b"stdout "[..], b"stderr "] {
            if rest.starts_with(stream)
                && matches!(rest.get(7), Some(b'F' | b'P'))
                && rest.get(8) == Some(&b' ')
            {
                return 9;
            }
        }
    }
    // `Thu 2022-02-10 12:59:06 CET host kernel: `
    let word = rest.iter().take(16).take_while(|b| b.is_ascii_alphabetic() || **b >= 0x80).count();
    let word = word + usize::from(rest.get(word) == Some(&b'.'));
    if word >= 2 && rest.get(word) == Some(&b' ') && host_time(&rest[word + 1..]) >= 11 {
        let date = &rest[word + 1..];
        if date[..4].iter().all(u8::is_ascii_digit) && !date[..5].contains(&b':') {
            return word + 1;
        }
    }
    if head.timed && !asked {
        let len = who(rest, head);
        if len > 0 {
            return len;
        }
    }
    syslog(rest, head)
}

/// The facilities of syslog.
const FACILITIES: &[&[u8]] = &[
    b"kern",
    b"user",
    b"mail",
    b"daemon",
    b"auth",
    b"syslog",
    b"lpr",
    b"news",
    b"uucp",
    b"cron",
    b"authpriv",
    b"ftp",
    b"local0",
    b"local1",
    b"local2",
    b"local3",
    b"local4",
    b"local5",
    b"local6",
    b"local7",
];

/// `kern  :warn  : `
fn facility(rest: &[u8], head: &mut Head) -> usize {
    // Most lines begin with another letter.
    let begins =
        matches!(rest.first(), Some(b'k' | b'u' | b'm' | b'd' | b'a' | b's' | b'l' | b'n' | b'c'));
    if !begins {
        return 0;
    }
    const LEVELS: &[&[u8]] =
        &[b"emerg", b"alert", b"crit", b"err", b"warn", b"notice", b"info", b"debug"];
    let Some(first) = memchr(b':', &rest[..rest.len().min(12)]) else { return 0 };
    let name = rest[..first].trim_ascii_end();
    if !FACILITIES.contains(&name) {
        return 0;
    }
    let behind = &rest[first + 1..];
    let Some(second) = memchr(b':', &behind[..behind.len().min(12)]) else { return 0 };
    if !LEVELS.contains(&behind[..second].trim_ascii_end()) {
        return 0;
    }
    head.kernel |= name == b"kern";
    head.program |= name != b"kern";
    let len = first + 1 + second + 1;
    len + usize::from(rest.get(len) == Some(&b' '))
}

/// `Sep 23 02:31:17 host kern.err kernel: `, the month in any language, with or without fractions
/// of a second.
fn syslog(rest: &[u8], head: &mut Head) -> usize {
    const MONTHS: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let window = &rest[..rest.len().min(32)];
    let Some(colon) = memchr(b':', window) else {
        return 0;
    };
    // `DD HH:MM:SS`
    let Some(day) = colon.checked_sub(5) else {
        return 0;
    };
    let Some(time) = rest.get(day..day + 11) else {
        return 0;
    };
    let clock = time[2] == b' '
        && time[5] == b':'
        && time[8] == b':'
        && [1, 3, 4, 6, 7, 9, 10].iter().all(|at| time[*at].is_ascii_digit());
    if !clock {
        return 0;
    }
    let mut end = day + 11;
    if matches!(rest.get(end), Some(b'.' | b',')) {
        end += 1 + digits(&rest[end + 1..]);
    }
    if rest.get(end) != Some(&b' ') {
        return 0;
    }
    end += 1;
    // `Feb 10 12:59:06 2022 `, as date(1) and syslogs with a year have it.
    if digits(&rest[end..]) == 4 && rest.get(end + 4) == Some(&b' ') {
        end += 5;
    }
    let mut probe = Head { timed: true, ..Head::default() };
    let tag = who(&rest[end..], &mut probe);
    let month = rest[..day].trim_ascii();
    let name = month.rsplit(|b| *b == b' ').next().unwrap_or(month);
    let english = name.len() == 3 && MONTHS.chunks_exact(3).any(|known| known == name);
    // Another language's month is believed if somebody is named behind it.
    if !english && tag == 0 && !probe.program {
        return 0;
    }
    head.timed = true;
    head.kernel |= probe.kernel;
    head.program |= probe.program;
    end + tag
}

/// Which bytes the names of hosts, zones and programs are made of.
const IN_NAMES: [bool; 256] = alphanumeric_or(b".-_/()@");

/// The letters and digits of ASCII, and these, by byte.
pub(super) const fn alphanumeric_or(others: &[u8]) -> [bool; 256] {
    let mut bytes = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        bytes[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        bytes[others[at] as usize] = true;
        at += 1;
    }
    bytes
}

/// Who speaks, behind a time: `host kernel: `, `kernel: `, `CET host kern.err kernel: `, RFC 5424's
/// `host kernel - - - `. A program with its number (`host sshd[12]: `) is remembered as one.
fn who(rest: &[u8], head: &mut Head) -> usize {
    head.asked = true;
    let mut at = 0;
    for _ in 0..4 {
        let len = rest[at..].iter().take(64).take_while(|b| IN_NAMES[usize::from(**b)]).count();
        if len == 0 {
            return 0;
        }
        let word = &rest[at..at + len];
        let after = rest.get(at + len);
        if after == Some(&b':') {
            if word == b"kernel" {
                head.kernel = true;
                let end = at + len + 1;
                return end + usize::from(rest.get(end) == Some(&b' '));
            }
            return 0;
        }
        if after == Some(&b'[') {
            let number = digits(&rest[at + len + 1..]);
            let close = at + len + 1 + number;
            if at > 0 && number > 0 && rest[close..].starts_with(b"]:") {
                head.program = true;
            }
            return 0;
        }
        if word == b"kernel" && rest[at + len..].starts_with(b" - - - ") {
            head.kernel = true;
            return at + len + 7;
        }
        if after != Some(&b' ') {
            return 0;
        }
        at += len + 1;
    }
    0
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

fn blanks(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|b| **b == b' ').count()
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

/// Undoes what a tool did to the text of a line: `out` then holds the messages as the kernel
/// printed them, one on each line. `false` if the line is plain.
pub(crate) fn decode(line: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    let json = json_message(line, out);
    // Almost all lines.
    if !json && memchr3(0x1B, b'#', b'\\', line).is_none() {
        return false;
    }
    let octal =
        |bytes: &[u8]| memchr::memchr_iter(b'#', bytes).any(|at| control(&bytes[at..]).is_some());
    let escaped = if json { &out[..] } else { line };
    let hex = |bytes: &[u8]| {
        memchr::memchr_iter(b'\\', bytes).any(|at| kmsg_escape(&bytes[at..]).is_some())
    };
    let kmsg = !json && hex(line) && is_kmsg(line);
    if memchr(0x1B, escaped).is_none() && !octal(escaped) && !kmsg {
        return json;
    }
    let from = if json { std::mem::take(out) } else { line.to_vec() };
    let mut at = 0;
    while at < from.len() {
        let next = if kmsg {
            memchr3(0x1B, b'#', b'\\', &from[at..])
        } else {
            memchr2(0x1B, b'#', &from[at..])
        };
        match next {
            None => {
                out.extend_from_slice(&from[at..]);
                break;
            }
            Some(next) => {
                out.extend_from_slice(&from[at..at + next]);
                at += next;
                let colour = colour(&from[at..]);
                if colour > 0 {
                    at += colour;
                } else if let Some(byte) = kmsg_escape(&from[at..]).filter(|_| kmsg) {
                    out.push(byte);
                    at += 4;
                } else if let Some(byte) = control(&from[at..]) {
                    at += 4;
                    if byte == 0x1B && from.get(at) == Some(&b'[') {
                        at += sequence(&from[at..]);
                    } else {
                        out.push(byte);
                    }
                } else {
                    out.push(from[at]);
                    at += 1;
                }
            }
        }
    }
    true
}

/// Does /dev/kmsg's own prefix stand before the text of this line?
fn is_kmsg(line: &[u8]) -> bool {
    let Some(close) = memchr(b';', &line[..line.len().min(160)]) else { return false };
    let start = line[..close].iter().rposition(|b| matches!(b, b' ' | b'>')).map_or(0, |at| at + 1);
    kmsg(&line[start..]) > 0
}

/// `\x0a`: how /dev/kmsg and netconsole write what is no plain character, and the backslash.
fn kmsg_escape(rest: &[u8]) -> Option<u8> {
    let [b'\\', b'x', high, low, ..] = rest else { return None };
    let digit = |byte: u8| (byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some((digit(*high)? << 4) | digit(*low)?)
}

/// rsyslog's `#012` for a control character.
fn control(rest: &[u8]) -> Option<u8> {
    let [b'#', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] = rest else { return None };
    let byte = ((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0');
    matches!(byte, 9 | 10 | 13 | 27).then_some(byte)
}

/// The length of a terminal's control sequence.
fn colour(rest: &[u8]) -> usize {
    match rest {
        [0x1B, b'[', ..] => 1 + sequence(&rest[1..]),
        [0x1B, ..] => 1,
        _ => 0,
    }
}

/// `[1;32m` and its kin, without the escape character.
fn sequence(rest: &[u8]) -> usize {
    let parameters = rest[1..].iter().take(16).take_while(|b| matches!(b, 0x20..=0x3F)).count();
    1 + parameters + usize::from(matches!(rest.get(1 + parameters), Some(0x40..=0x7E)))
}

/// The text in a line of JSON: a journal's `"MESSAGE"`, a container's `"log"`, a test lab's `"msg"`.
fn json_message(line: &[u8], out: &mut Vec<u8>) -> bool {
    let trimmed = line.trim_ascii_start();
    let trimmed = trimmed.strip_prefix(b"- ").unwrap_or(trimmed);
    if !matches!(trimmed.first(), Some(b'{' | b'"')) {
        return false;
    }
    for key in [&b"\"MESSAGE\""[..], b"\"log\"", b"\"msg\""] {
        let Some(at) = memmem::find(trimmed, key) else { continue };
        // A pretty printed record has one field on each line.
        if at > 0 && trimmed[0] != b'{' {
            continue;
        }
        let value = trimmed[at + key.len()..].trim_ascii_start();
        let Some(value) = value.strip_prefix(b":").map(<[u8]>::trim_ascii_start) else { continue };
        if from_program(trimmed) {
            return true;
        }
        match value.first() {
            Some(b'"') => unescape(&value[1..], out),
            // Bytes that are not UTF-8.
            Some(b'[') => {
                let close = memchr(b']', value).unwrap_or(value.len());
                out.extend(value[1..close].split(|b| *b == b',').filter_map(|byte| {
                    number(byte.trim_ascii()).and_then(|byte| u8::try_from(byte).ok())
                }));
            }
            _ => {}
        }
        return true;
    }
    false
}

/// A journal's record on one line that a program wrote, not the kernel.
fn from_program(record: &[u8]) -> bool {
    memmem::find(record, b"\"_TRANSPORT\"").is_some_and(|at| {
        let value = &record[at + 12..record.len().min(at + 32)];
        memmem::find(value, b"kernel").is_none()
    })
}

fn unescape(text: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'"' => return,
            b'\\' => {
                let Some(&escaped) = text.get(at) else { return };
                at += 1;
                match escaped {
                    b'n' => out.push(b'\n'),
                    b't' => out.push(b'\t'),
                    b'r' => out.push(b'\r'),
                    b'b' | b'f' => {}
                    b'u' => {
                        let code = text.get(at..at + 4).and_then(|hex| {
                            u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
                        });
                        let Some(code) = code else { return };
                        at += 4;
                        let mut utf8 = [0; 4];
                        if let Some(char) = char::from_u32(code) {
                            out.extend_from_slice(char.encode_utf8(&mut utf8).as_bytes());
                        }
                    }
                    other => out.push(other),
                }
            }
            byte => out.push(byte),
        }
    }
}

/// A field of a journal's record other than the message: `PRIORITY=4`, `"PRIORITY" : "4",`. It is
/// no line of the console.
pub(crate) fn is_field(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    if matches!(line, b"{" | b"}" | b"}," | b"{," | b"},{" | b"]") {
        return true;
    }
    if let Some(rest) = line.strip_prefix(b"\"") {
        // `dmesg --json`
        if [&b"pri\":"[..], b"fac\":", b"time\":", b"caller\":", b"dmesg\":"]
            .iter()
            .any(|key| rest.starts_with(key))
        {
            return true;
        }
        let name = name_len(rest);
        return name > 0
            && rest[name..]
                .strip_prefix(b"\"")
                .is_some_and(|r| r.trim_ascii_start().starts_with(b":"))
            && !rest.starts_with(b"MESSAGE\"");
    }
    let name = name_len(line);
    name > 1 && line.get(name) == Some(&b'=') && &line[..name] != b"MESSAGE"
}

fn name_len(text: &[u8]) -> usize {
    text.iter().take_while(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || **b == b'_').count()
}

/// Is this a line of a journal's record that has a message?
pub(crate) fn is_record(line: &[u8]) -> bool {
    let text = line.trim_ascii_start();
    line.starts_with(b"MESSAGE=")
        || text.starts_with(b"\"MESSAGE\"")
        || text.starts_with(b"\"msg\":")
}

/// The shape of a prefix that no unit knows, learned from the line a report opens with: digits,
/// words and blanks by their kind, all else as it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shape(Vec<u8>);

/// What stands for a run of digits, letters and blanks in a [`Shape`].
const RUNS: [u8; 3] = [b'9', b'a', b' '];

fn run(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(RUNS[0]),
        b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => Some(RUNS[1]),
        b' ' | b'\t' => Some(RUNS[2]),
        _ => None,
    }
}

impl Shape {
    pub(crate) fn of(prefix: &[u8]) -> Self {
        let mut shape: Vec<u8> = Vec::with_capacity(prefix.len());
        for &byte in prefix {
            let kind = run(byte);
            if kind.is_none() || shape.last() != kind.as_ref() {
                shape.push(kind.unwrap_or(byte));
            }
        }
        Shape(shape)
    }

    /// Is it more than words and colons? Registers look like that: `RAX: `.
    pub(crate) fn is_marked(&self) -> bool {
        self.0.iter().any(|kind| !matches!(kind, b'a' | b' ' | b':'))
    }

    /// How long a prefix of this shape is at the start of `text`, if there is one.
    pub(crate) fn len_in(&self, text: &[u8]) -> Option<usize> {
        let mut at = 0;
        for (index, &wanted) in self.0.iter().enumerate() {
            let last = index + 1 == self.0.len();
            if RUNS.contains(&wanted) {
                let mut len =
                    text[at..].iter().take_while(|byte| run(**byte) == Some(wanted)).count();
                if wanted == b' ' && last {
                    // Further blanks are the text's own indentation.
                    len = len.min(1);
                }
                if len == 0 {
                    // An empty line has lost its last blank.
                    return (wanted == b' ' && last && at == text.len()).then_some(at);
                }
                at += len;
            } else {
                if text.get(at) != Some(&wanted) {
                    return None;
                }
                at += 1;
            }
        }
        Some(at)
    }
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

    /// What tools put before the kernel's text is taken off, in any order and number.
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
            "[Thu Feb 10 12:59:06 2022] BUG: x",
            "[jeu. févr. 10 12:59:06 2022] BUG: x",
            "[Feb16 17:33] BUG: x",
            "[  +0.000047] BUG: x",
            "[   13.977807 <    0.000010>] BUG: x",
            "[<    0.000010>] BUG: x",
            "2022-02-10T12:59:06,123456+00:00 BUG: x",
            "kern  :warn  : BUG: x",
            "kern  :warn  : [   13.977807] BUG: x",
            "Feb 10 12:59:06.123456 host kernel: BUG: x",
            "Thu 2022-02-10 12:59:06 CET host kernel: BUG: x",
            "[   13.977807] host kernel: BUG: x",
            "[ 1.980703] kernel: BUG: x",
            "2月 10 12:59:06 host kernel: BUG: x",
            "<4>1 2022-02-10T12:59:06.123456+00:00 host kernel - - - BUG: x",
            "4,1234,13977807,-;BUG: x",
            "4,1234,13977807,-,caller=T1;BUG: x",
            "> BUG: x",
            ">> > [    1.234567] BUG: x",
            "  [    1.234567] BUG: x",
            "<4>[  261.841770] (0)[2880:sync svc 43]BUG: x",
            "<4>[  261.841770]-(0)[2880:sync svc 43]BUG: x",
            "<4>[   13.977807]  [0:    kworker/0:1: 2880] BUG: x",
            "02-10 12:59:06.123     0     0 W kernel  : BUG: x",
            "[2022-02-10T12:59:06.123Z] [    1.234567] BUG: x",
            "2022-02-10T12:59:06.123456789Z stdout F [    1.234567] BUG: x",
            "MESSAGE=BUG: x",
            "[    1.234567 ] BUG: x",
            "<4>Feb 10 12:59:06 host kernel: [    1.234567] BUG: x",
            "<4>[   13.977807] I[0:    kworker/0:1: 2880] BUG: x",
            "[   13.977807][pid:2880,cpu1,init]BUG: x",
            "[20220210_12:59:06.123456]@0 BUG: x",
            "[   13.977807] [20220210_12:59:06.123456]@3 BUG: x",
            "02-10 12:59:06.123 W/kernel  (    0): BUG: x",
            "2022-02-10 12:59:06.123     0     0 W kernel  : BUG: x",
            "W/kernel  (    0): BUG: x",
            "2022-02-10T12:59:06.123456Z 01O [    1.234567] BUG: x",
            "2022-02-10T12:59:06.123456Z 00E BUG: x",
            "2022-02-10T12:59:06.1234567Z [    1.234567] BUG: x",
            "12:59:06.123456  [    1.234567] BUG: x",
            "12:59:06  <4>[    1.234567] BUG: x",
        ] {
            assert_eq!(texts(line), [(None, "BUG: x")], "{line:?}");
        }
    }

    /// Threads and CPUs are told apart.
    #[test]
    fn the_caller_tells_thread_and_cpu() {
        assert_eq!(texts("[    1.234567][   T31] BUG: x"), [(Some(Origin::Thread(31)), "BUG: x")]);
        assert_eq!(
            texts("[    1.234567][    C1]  do_idle+0x1/0x2"),
            [(Some(Origin::Cpu(1)), " do_idle+0x1/0x2")]
        );
        assert_eq!(texts("[    1.234567] [ T7,C0] x"), [(Some(Origin::Thread(7)), "x")]);
    }

    /// A time stamp in the middle of a line begins a message.
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

    /// Text of the kernel that resembles a prefix is left alone.
    #[test]
    fn what_looks_like_a_prefix_but_is_text_stays() {
        for line in [
            "6.12.0+ #1 Not tainted",
            "2 locks held by x/1:",
            "[<ffff>] f+0x1/0x2",
            " [c0100000] f",
            "[8086:7010] type 00",
            ">ffff888012345678: fb",
            "CPU: 0 PID: 1 Comm: x",
        ] {
            assert_eq!(texts(line), [(None, line)]);
        }
    }

    /// What a program wrote is told from what the kernel wrote.
    #[test]
    fn programs_are_told_from_the_kernel() {
        let of = |line: &str| {
            let mut program = None;
            messages(line.as_bytes(), |m| program = Some(m.program));
            program
        };
        assert_eq!(of("Nov 30 15:18:41 host dotnet[4321]: Unhandled exception."), Some(true));
        assert_eq!(of("[    7.833724] host systemd[1]: BUG: x"), Some(true));
        assert_eq!(of("[    7.833724] host kernel: BUG: x"), Some(false));
        assert_eq!(of("2022-02-10T12:59:06+0100 host sshd[12]: BUG: x"), Some(true));
        assert_eq!(of("Nov 30 15:18:41 host kernel: BUG: x"), Some(false));
    }

    fn decoded(line: &str) -> Option<String> {
        let mut out = Vec::new();
        decode(line.as_bytes(), &mut out).then(|| String::from_utf8(out).unwrap())
    }

    /// JSON, rsyslog's control characters and colours are undone.
    #[test]
    fn what_tools_do_to_the_text_is_undone() {
        for (line, text) in [
            ("host kernel: #012but task", "host kernel: \nbut task"),
            ("host kernel: #011x", "host kernel: \tx"),
            ("\u{1b}[32m[    1.000000] \u{1b}[0m\u{1b}[1mBUG: x\u{1b}[0m", "[    1.000000] BUG: x"),
            ("#033[1mBUG: x#033[0m", "BUG: x"),
            (r#"{"_TRANSPORT":"kernel","MESSAGE":"a\"b\nc\t\u003cIRQ>"}"#, "a\"b\nc\t<IRQ>"),
            (r#"        "MESSAGE" : "BUG: x","#, "BUG: x"),
            (r#"{"MESSAGE":[66,85,71,58,32,120],"_TRANSPORT":"kernel"}"#, "BUG: x"),
            (r#"{"MESSAGE":"BUG: x","_TRANSPORT":"stdout"}"#, ""),
            (r#"{"log":"BUG: x\n","stream":"stdout"}"#, "BUG: x\n"),
            (r#"- {"dt": "2022", "lvl": "target", "msg": "BUG: x"}"#, "BUG: x"),
            (r#"            "msg": "BUG: x""#, "BUG: x"),
            (r"4,1234,13977807,-;a\x0abut\x09x\x5cn", "4,1234,13977807,-;a\nbut\tx\\n"),
        ] {
            assert_eq!(decoded(line).as_deref(), Some(text), "{line}");
        }
        for line in ["BUG: x", "#1 SMP", r"Code: \x0a;", "-> #0 (a){+.+.}-{3:3}:", "{inconsistent}"]
        {
            assert_eq!(decoded(line), None, "{line}");
        }
    }

    /// The other fields of a journal's record are no lines of the console.
    #[test]
    fn fields_are_told_from_messages() {
        for line in ["PRIORITY=4", "__REALTIME_TIMESTAMP=1", "\t\"PRIORITY\" : \"4\",", "{", "}"] {
            assert!(is_field(line.as_bytes()), "{line}");
        }
        for line in ["MESSAGE=x", "\"MESSAGE\" : \"x\"", "RAX: 0", "x=1", "Call Trace:"] {
            assert!(!is_field(line.as_bytes()), "{line}");
        }
    }

    /// A shape is found again with other words and numbers, and leaves the text's indentation.
    #[test]
    fn a_shape_is_found_again() {
        let shape = Shape::of(b"web-1  | run 12: ");
        assert_eq!(shape.len_in(b"db-22 | run 7: Call Trace:"), Some(15));
        assert_eq!(shape.len_in(b"db-22 | run 7:  f+0x1/0x2"), Some(15));
        assert_eq!(shape.len_in(b"Call Trace:"), None);
    }
}
