// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mails: an mbox is cut into them, and each is read far enough to tell a patch
//! from a cover letter and from a reply.
//!
//! The MIME work is `mailparse`'s. What stands here is what kernel mail adds:
//! which part is the patch, what mailers do to it (line ends, format=flowed,
//! charsets), and limits, since anybody can send anything to a list.

use std::collections::HashMap;
use std::sync::LazyLock;

use mailparse::{MailHeaderMap, ParsedMail};
use regex::Regex;

use super::flowed;
use super::subject::Subject;
use crate::base::error::{Error, Result};

/// A larger mail is refused. The largest patches of the kernel have 10 MB.
pub(crate) const LARGEST_MAIL: usize = 32 << 20;
/// A larger thread is refused.
pub(crate) const LARGEST_THREAD: usize = 256 << 20;
/// More mails are no thread.
const MOST_MAILS: usize = 20_000;
/// Deeper nested parts are not looked at.
const DEEPEST: usize = 16;

/// Git's own test: something that looks like `From x Mon Sep 17 00:00:00 2001`.
static FROM_LINE: LazyLock<regex::bytes::Regex> =
    LazyLock::new(|| built_bytes(r"^From \S+.*\d\d:\d\d:\d\d.*\d{4}"));
static DIFF: LazyLock<regex::bytes::Regex> = LazyLock::new(|| {
    built_bytes(r"(?mi)^(?:---.*\n\+\+\+|GIT binary patch|diff --git \w/\S+ \w/\S+)")
});
static DIFFSTAT: LazyLock<regex::bytes::Regex> =
    LazyLock::new(|| built_bytes(r"(?mi)^\s*\d+ file.*\d+ (?:insertion|deletion)"));
static ID: LazyLock<Regex> = LazyLock::new(|| built("<([^>]+)>"));

/// A pattern of this program; all of them are built in the tests.
pub(super) fn built(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap_or_else(|cause| unreachable!("{pattern}: {cause}"))
}

/// The same for bytes.
pub(super) fn built_bytes(pattern: &str) -> regex::bytes::Regex {
    regex::bytes::Regex::new(pattern).unwrap_or_else(|cause| unreachable!("{pattern}: {cause}"))
}

/// One mail.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    /// Without angle brackets.
    pub(crate) message_id: String,
    pub(crate) in_reply_to: Option<String>,
    /// `In-Reply-To:` and `References:`, as for threading.
    pub(crate) references: Vec<String>,
    pub(crate) subject: Subject,
    pub(crate) from_name: String,
    pub(crate) from_email: String,
    /// Addresses of `To:` and `Cc:`, with names where they are plain ASCII.
    pub(crate) to: Vec<String>,
    pub(crate) cc: Vec<String>,
    /// As written.
    pub(crate) date: String,
    /// Seconds since 1970.
    pub(crate) at: i64,
    /// The text, or the part that is the patch; UTF-8 wherever it can be.
    pub(crate) body: Vec<u8>,
    pub(crate) has_diff: bool,
    pub(crate) has_diffstat: bool,
    /// A header carries a line break inside an encoded word: which one.
    pub(crate) injects: Option<&'static str>,
    /// It is the last one of a file that may have been cut off.
    pub(crate) last: bool,
    list_id: String,
}

impl Mail {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Runs of white space become one blank.
pub(crate) fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The mails of an mbox, each as it was sent; anything else is one mail.
pub(crate) fn split(mbox: &[u8], name: &str) -> Result<Vec<Vec<u8>>> {
    if mbox.len() > LARGEST_THREAD {
        return Err(too_large(name, "thread", LARGEST_THREAD));
    }
    let mut mails: Vec<Vec<u8>> = Vec::new();
    let mut current: Option<Vec<u8>> = None;
    let mut in_header = true;
    for line in mbox.split_inclusive(|&byte| byte == b'\n') {
        if line.starts_with(b"From ") && FROM_LINE.is_match(line) {
            mails.extend(current.take().filter(|mail| !mail.is_empty()));
            current = Some(Vec::new());
            in_header = true;
            if mails.len() >= MOST_MAILS {
                return Err(Error::bad_input(format!("{name} has more than {MOST_MAILS} mails"))
                    .hint("extract the thread you mean, or name its message id"));
            }
            continue;
        }
        let mail = current.get_or_insert_default();
        if line == b"\n" || line == b"\r\n" {
            in_header = false;
        }
        // mboxrd quotes `From ` in a text with one more `>`.
        let quoted = line.iter().take_while(|&&byte| byte == b'>').count();
        let unquote = !in_header && quoted > 0 && line[quoted..].starts_with(b"From ");
        mail.extend_from_slice(if unquote { &line[1..] } else { line });
        if mail.len() > LARGEST_MAIL {
            return Err(too_large(name, "mail", LARGEST_MAIL));
        }
    }
    mails.extend(current.filter(|mail| !mail.is_empty()));
    Ok(mails)
}

fn too_large(name: &str, what: &str, limit: usize) -> Error {
    Error::bad_input(format!("{name} holds a {what} of more than {} MB", limit >> 20))
        .hint("no patch series is that large; take the large mail out of it")
}

/// Reads mails in order; of several with one message id the copy of the list
/// that changes mails least is kept. A mail without a message id gets one from
/// its place if `name_them` is set, else it is dropped, as b4 does.
pub(crate) fn parse(raw: &[Vec<u8>], name_them: bool) -> Vec<Mail> {
    let mut mails: Vec<Mail> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (n, bytes) in raw.iter().enumerate() {
        let Some(mut mail) = read(bytes, name_them.then_some(n)) else { continue };
        mail.last = n + 1 == raw.len();
        match places.get(&mail.message_id) {
            Some(&place) => {
                if preference(&mail.list_id) < preference(&mails[place].list_id) {
                    mails[place] = mail;
                }
            }
            None => {
                places.insert(mail.message_id.clone(), mails.len());
                mails.push(mail);
            }
        }
    }
    mails
}

/// Lists that leave mails alone come first.
fn preference(list_id: &str) -> usize {
    [".feeds.kernel.org", ".linux.dev", ".kernel.org"]
        .iter()
        .position(|end| list_id.ends_with(end))
        .unwrap_or(3)
}

fn read(bytes: &[u8], place: Option<usize>) -> Option<Mail> {
    let unix = unix_lines(bytes);
    let parsed = mailparse::parse_mail(&unix).ok()?;
    let headers = &parsed.headers;
    // Message ids are not encoded: they are taken as they are written.
    let raw = |name: &str| -> String {
        headers
            .get_first_header(name)
            .map(|header| String::from_utf8_lossy(header.get_value_raw()).into_owned())
            .unwrap_or_default()
    };
    let decoded = |name: &str| headers.get_first_value(name).unwrap_or_default();
    let ids = |text: &str| -> Vec<String> {
        ID.captures_iter(text).map(|found| found[1].to_owned()).collect()
    };
    let message_id = ids(&raw("Message-ID")).into_iter().next();
    let message_id = match (message_id, place) {
        (Some(id), _) => id,
        (None, Some(place)) => format!("mail-{}@no-message-id.invalid", place + 1),
        (None, None) => return None,
    };
    let in_reply_to = ids(&raw("In-Reply-To")).into_iter().next();
    let mut references: Vec<String> = Vec::new();
    for name in ["In-Reply-To", "References"] {
        for header in headers.get_all_headers(name) {
            references.extend(ids(&String::from_utf8_lossy(header.get_value_raw())));
        }
    }
    references.retain(|id| *id != message_id);
    let written = decoded("Subject");
    let from = decoded("From");
    let injects = [("Subject", &written), ("From", &from)]
        .into_iter()
        .find(|(_, value)| value.contains(['\n', '\r', '\0']))
        .map(|(name, _)| name)
        .or_else(|| message_id.contains(char::is_control).then_some("Message-ID"));
    let (from_name, from_email) = author(&from);
    let date = squeezed(&decoded("Date"));
    // A mail without a date is taken as the newest.
    let at = mailparse::dateparse(&date).unwrap_or(i64::MAX);
    let body = text_of(&parsed);
    let list_id = ids(&raw("List-Id")).into_iter().next().unwrap_or_default();
    Some(Mail {
        message_id,
        in_reply_to,
        references,
        subject: Subject::parse(&written),
        from_name,
        from_email,
        to: addresses(headers.get_all_headers("To")),
        cc: addresses(headers.get_all_headers("Cc")),
        date,
        at,
        has_diff: DIFF.is_match(&body),
        has_diffstat: DIFFSTAT.is_match(&body),
        body,
        injects,
        last: false,
        list_id,
    })
}

/// More recipients are not kept: a reply to hundreds is refused by every list.
const MOST_RECIPIENTS: usize = 100;

/// The addresses of these headers. What is no address is left out.
fn addresses(headers: Vec<&mailparse::MailHeader<'_>>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for header in headers {
        let Ok(list) = mailparse::addrparse_header(header) else { continue };
        let singles = list.iter().flat_map(|addr| match addr {
            mailparse::MailAddr::Single(one) => std::slice::from_ref(one),
            mailparse::MailAddr::Group(group) => group.addrs.as_slice(),
        });
        for one in singles {
            let name = one.display_name.as_deref().unwrap_or_default();
            let plain = |c: char| c.is_ascii_alphanumeric() || " -_'".contains(c);
            let written = match name {
                name if !name.trim().is_empty() && name.chars().all(plain) => {
                    format!("{} <{}>", name.trim(), one.addr)
                }
                _ => one.addr.clone(),
            };
            if all.len() < MOST_RECIPIENTS && !all.contains(&written) {
                all.push(written);
            }
        }
    }
    all
}

/// `A B <a@b>`, `"B, A" <a@b>`, `a@b (A B)` → name and address.
pub(crate) fn author(written: &str) -> (String, String) {
    let written = squeezed(written);
    let (name, email) = match (written.rfind('<'), written.rfind('>')) {
        (Some(open), Some(close)) if open < close => {
            (written[..open].trim(), written[open + 1..close].trim())
        }
        _ => match written.split_once(" (") {
            Some((email, name)) => (name.trim_end_matches(')'), email),
            None => ("", written.as_str()),
        },
    };
    let name = name.trim_matches('"').replace("\\\"", "\"");
    let name = if name.is_empty() { email.to_owned() } else { name };
    (name, email.to_owned())
}

/// A mail whose every line ends in CR LF went through a mailer that writes them
/// so; in others a CR belongs to the file that is patched.
fn unix_lines(bytes: &[u8]) -> Vec<u8> {
    let mut lines = bytes.split_inclusive(|&byte| byte == b'\n').filter(|l| l.ends_with(b"\n"));
    let all = lines.clone().next().is_some() && lines.all(|line| line.ends_with(b"\r\n"));
    if !all {
        return bytes.to_vec();
    }
    let mut unix = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        match line.strip_suffix(b"\r\n") {
            Some(line) => {
                unix.extend_from_slice(line);
                unix.push(b'\n');
            }
            None => unix.extend_from_slice(line),
        }
    }
    unix
}

/// The first plain part, unless a later one carries a diff: then the last such.
fn text_of(mail: &ParsedMail<'_>) -> Vec<u8> {
    let mut chosen: Option<Vec<u8>> = None;
    walk(mail, 0, &mut chosen);
    chosen.unwrap_or_default()
}

fn walk(part: &ParsedMail<'_>, depth: usize, chosen: &mut Option<Vec<u8>>) {
    if depth > DEEPEST {
        return;
    }
    let kind = part.ctype.mimetype.to_lowercase();
    if kind == "message/rfc822" {
        if let Ok(bytes) = part.get_body_raw()
            && let Ok(inner) = mailparse::parse_mail(&bytes)
        {
            walk(&inner, depth + 1, chosen);
        }
        return;
    }
    if kind.starts_with("multipart/") {
        for sub in &part.subparts {
            walk(sub, depth + 1, chosen);
        }
        return;
    }
    if !(kind.contains("/plain") || kind.contains("/x-patch")) {
        return;
    }
    let text = decoded(part);
    if chosen.is_none() || DIFF.is_match(&text) {
        *chosen = Some(text);
    }
}

fn decoded(part: &ParsedMail<'_>) -> Vec<u8> {
    let mut bytes = part.get_body_raw().unwrap_or_else(|_| undecodable(part));
    // What is UTF-8 stays; so does what its charset cannot explain, since the
    // bytes of a patch are those of a file.
    let charset = part.ctype.charset.to_lowercase();
    let unicode = ["utf-8", "utf8", "us-ascii", "ascii", ""].contains(&charset.as_str());
    if !unicode && let Ok(text) = part.get_body() {
        bytes = text.into_bytes();
    }
    let bytes = unix_lines(&bytes);
    if part.ctype.params.get("format").is_some_and(|f| f.eq_ignore_ascii_case("flowed")) {
        let delsp = part.ctype.params.get("delsp").is_some_and(|d| d.eq_ignore_ascii_case("yes"));
        return flowed::undone(&bytes, delsp);
    }
    bytes
}

/// A transfer encoding with errors in it: what can be read of base64, else the
/// bytes as they came.
fn undecodable(part: &ParsedMail<'_>) -> Vec<u8> {
    match part.get_body_encoded() {
        mailparse::body::Body::Base64(body) | mailparse::body::Body::QuotedPrintable(body) => {
            body.get_raw().to_vec()
        }
        mailparse::body::Body::SevenBit(body) | mailparse::body::Body::EightBit(body) => {
            body.get_raw().to_vec()
        }
        mailparse::body::Body::Binary(body) => body.get_raw().to_vec(),
    }
}
