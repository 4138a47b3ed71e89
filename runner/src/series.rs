// SPDX-License-Identifier: MIT OR Apache-2.0
//! A patch series as it comes from where kernel developers keep theirs.
//!
//! A source gives mails; the mails of a thread are sorted into versions; one
//! version becomes a [`Series`]: patches in order, what is missing, and the
//! base it was made for with how that was found. Nothing here builds or
//! applies anything to a kernel. Everything that comes in is somebody else's:
//! it has limits, and what is wrong with it is named.

mod base;
pub(crate) mod checks;
mod diff;
mod fetch;
mod flowed;
mod mail;
mod mailinfo;
mod recent;
mod rest;
mod sources;
mod subject;
mod thread;
mod trailers;
mod write;

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::Serialize;

use crate::base::command::Cancel;
use crate::base::error::{Error, Result};

pub(crate) use base::Base;
pub(crate) use base::How;
pub(crate) use fetch::Net;
pub(crate) use recent::{Recent, folder_name, recent};
#[cfg(test)]
pub(crate) use sources::written as written_sources;
pub(crate) use trailers::Trailer;
pub(crate) use write::{Described, DescribedPatch, described_in, write, write_all};

use mail::Mail;
use thread::{Thread, Version};

/// What is wanted of a source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// The mail that is meant, where a source holds several series.
    pub(crate) message_id: Option<String>,
    /// Which versions.
    pub(crate) versions: Versions,
    /// Add the trailers that replies give.
    pub(crate) trailers: bool,
    /// Kernel sources that may be the base: git repositories or folders.
    pub(crate) trees: Vec<std::path::PathBuf>,
}

/// Which versions of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Versions {
    /// The one that was sent last.
    #[default]
    Newest,
    /// This one.
    One(u32),
    /// Each.
    All,
}

/// Name and address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Author {
    pub(crate) name: String,
    pub(crate) email: String,
}

/// One patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Patch {
    /// From 1.
    pub(crate) number: usize,
    /// Without brackets.
    pub(crate) subject: String,
    pub(crate) author: Author,
    pub(crate) date: String,
    pub(crate) message_id: String,
    /// The commit message below the subject.
    pub(crate) message: Vec<u8>,
    /// From `---` on.
    pub(crate) diff: Vec<u8>,
    /// Taken over from this older version, which a partial reroll left as it was.
    pub(crate) from_version: Option<u32>,
}

/// The mail before the patches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cover {
    pub(crate) subject: String,
    pub(crate) message_id: String,
    pub(crate) text: String,
}

/// One version of a patch series.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// What was asked for, as it was written.
    pub(crate) source: String,
    pub(crate) version: u32,
    /// All versions the source holds.
    pub(crate) versions: Vec<u32>,
    /// Of the cover letter, else of the first patch.
    pub(crate) subject: String,
    /// Of the same mail, as it was written: `[PATCH bpf-next v2 0/3] …`.
    pub(crate) subject_line: String,
    /// Who sent it.
    pub(crate) author: Author,
    pub(crate) date: String,
    pub(crate) message_id: String,
    /// Whom that mail went to: addresses, with names where they are plain ASCII.
    pub(crate) to: Vec<String>,
    pub(crate) cc: Vec<String>,
    /// How many patches there should be.
    pub(crate) expected: usize,
    pub(crate) cover: Option<Cover>,
    pub(crate) patches: Vec<Patch>,
    /// `5/13`.
    pub(crate) missing: Vec<String>,
    /// What replies gave; in the patches only if that was wanted.
    pub(crate) trailers: Vec<Trailer>,
    pub(crate) base: Base,
    /// The files it touches, sorted.
    pub(crate) paths: Vec<String>,
    /// What a reader should know.
    pub(crate) notes: Vec<String>,
}

impl Series {
    /// Nothing is missing.
    ///
    /// # Errors
    /// Names the patches that are.
    pub(crate) fn require_whole(&self) -> Result<()> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let (noun, verb) =
            if self.missing.len() == 1 { ("patch", "is") } else { ("patches", "are") };
        Err(Error::bad_input(format!(
            "{noun} {} of v{} of \u{201c}{}\u{201d} {verb} missing in {}",
            self.missing.join(", "),
            self.version,
            self.subject,
            self.source
        ))
        .hint("the mail may be late, or in another archive: try another --server, or give an mbox"))
    }
}

impl Series {
    /// Its mails were sent: commits and bare diffs get message ids that no archive knows.
    pub(crate) fn is_mail(&self) -> bool {
        self.message_id.contains('@') && !self.message_id.ends_with(".invalid")
    }

    /// What `series.json` says.
    pub(crate) fn json(&self) -> serde_json::Value {
        write::described(self)
    }

    /// A name for a candidate: `mm-look-up-the-vma-v2`.
    pub(crate) fn name(&self) -> String {
        let mut name = String::new();
        for letter in self.subject.chars() {
            if letter.is_ascii_alphanumeric() {
                name.push(letter.to_ascii_lowercase());
            } else if !name.is_empty() && !name.ends_with('-') {
                name.push('-');
            }
            if name.len() >= LONGEST_NAME {
                break;
            }
        }
        let name = name.trim_matches('-');
        let name = if name.is_empty() { "series" } else { name };
        format!("{name}-v{}", self.version)
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", printable(&self.subject))?;
        let Author { name, email } = &self.author;
        writeln!(f, "  from:       {} <{}>, {}", printable(name), printable(email), self.date)?;
        writeln!(f, "  message id: {}", printable(&self.message_id))?;
        let others: Vec<String> = self.versions.iter().map(|n| format!("v{n}")).collect();
        writeln!(f, "  version:    v{} (there: {})", self.version, others.join(", "))?;
        writeln!(f, "  patches:    {} of {}", self.patches.len(), self.expected)?;
        for patch in &self.patches {
            writeln!(f, "    {}/{} {}", patch.number, self.expected, printable(&patch.subject))?;
        }
        for missing in &self.missing {
            writeln!(f, "    {missing} MISSING")?;
        }
        writeln!(f, "  base:       {}", self.base.describe().replace('\n', "\n              "))?;
        for trailer in &self.trailers {
            writeln!(f, "  replies:    {}", printable(&trailer.line()))?;
        }
        for path in &self.paths {
            writeln!(f, "  touches:    {}", printable(path))?;
        }
        for note in &self.notes {
            writeln!(f, "  note:       {}", printable(note))?;
        }
        Ok(())
    }
}

/// What a mail says must not move the cursor of a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Letters of a candidate's name, without its version.
const LONGEST_NAME: usize = 40;

/// The message id of a mail; `None` if it has none.
pub(crate) fn message_id_of(mail: &[u8]) -> Option<String> {
    let ids = mail::parse(&[mail.to_vec()], false);
    ids.into_iter().next().map(|mail| mail.message_id)
}

/// A mail that is longer is no patch.
pub(crate) const LONGEST_MAIL: usize = mail::LARGEST_MAIL;

/// Reads the series a source holds: one for each version that is wanted.
///
/// # Errors
/// The source is not there or not readable, holds no patches or several series,
/// or breaks a limit. A missing patch is not an error here: see
/// [`Series::require_whole`].
pub(crate) fn read(
    source: &str,
    wanted: &Wanted,
    net: &Net,
    cancel: &Cancel,
) -> Result<Vec<Series>> {
    let means = sources::Means { net, cancel };
    let found = sources::find(source, &means)?;
    let mut series = from_mails(source, found, wanted)?;
    for series in &mut series {
        cancel.check()?;
        base::find(series, &wanted.trees, cancel)?;
    }
    Ok(series)
}

fn from_mails(source: &str, found: sources::Found, wanted: &Wanted) -> Result<Vec<Series>> {
    let sources::Found { raw, message_id, order, base } = found;
    let mut mails = mail::parse(&raw, order.names_mails());
    drop(raw);
    if mails.is_empty() {
        return Err(Error::bad_input(format!("{source} holds no mails"))
            .hint("give an mbox, a maildir, patches or a message id"));
    }
    if order == sources::Order::AsGiven {
        number_in_order(&mut mails);
    }
    let asked = wanted.message_id.clone().or(message_id);
    if let Some(id) = &asked {
        if !mails.iter().any(|mail| mail.message_id == *id) {
            return Err(Error::bad_input(format!("{source} holds no mail with the id {id}"))
                .hint("look for it in the mail's `Message-ID:` header"));
        }
        mails = thread::strict(mails, id);
        mails = without_others(mails, id);
    } else {
        refuse_interleaved(source, &mails)?;
    }
    let thread = Thread::new(mails);
    let numbers = thread.numbers();
    let Some(newest) = thread.newest() else {
        return Err(Error::bad_input(format!("there is no patch in {source}"))
            .hint("name a mail of the thread that has the patches"));
    };
    let chosen = match wanted.versions {
        Versions::Newest => vec![newest],
        Versions::One(number) => vec![number],
        Versions::All => numbers.clone(),
    };
    let mut all = Vec::new();
    for number in chosen {
        let version = thread.version(number).ok_or_else(|| {
            let have: Vec<String> = numbers.iter().map(|n| format!("v{n}")).collect();
            Error::bad_input(format!("{source} has no v{number} of the series"))
                .hint(format!("it has {}", have.join(", ")))
        })?;
        let mut series = from_version(source, &thread, &version, wanted.trailers)?;
        series.versions.clone_from(&numbers);
        if let Some(base) = &base {
            series.base = base.clone();
        }
        all.push(series);
    }
    Ok(all)
}

/// Files of a folder without numbers are numbered as they are sorted.
fn number_in_order(mails: &mut [Mail]) {
    let is_cover = |mail: &Mail| !mail.has_diff;
    if mails.iter().all(|mail| is_cover(mail) || !mail.subject.counters_inferred) {
        return;
    }
    let expected = mails.iter().filter(|mail| !is_cover(mail)).count();
    let version = mails.iter().find(|mail| !is_cover(mail)).map_or(1, |m| m.subject.version);
    let mut next = 0;
    for mail in mails {
        mail.subject.reply = false;
        mail.subject.counters_inferred = false;
        mail.subject.version = version;
        mail.subject.expected = expected;
        if is_cover(mail) {
            mail.subject.counter = 0;
        } else {
            next += 1;
            mail.subject.counter = next;
        }
    }
}

fn is_patch(mail: &Mail) -> bool {
    mail.has_diff && !mail.subject.reply
}

/// The mail that was asked for says whose series is meant, where somebody else
/// sent a numbered series of the same version into the same thread.
fn without_others(mut mails: Vec<Mail>, id: &str) -> Vec<Mail> {
    let Some(mine) = mails.iter().find(|mail| mail.message_id == id) else { return mails };
    if mine.subject.reply || !(mine.has_diff || mine.subject.counter == 0) {
        return mails;
    }
    let sender = mine.from_email.clone();
    let place = |mail: &Mail| (mail.subject.version, mail.subject.counter);
    let ours: HashSet<(u32, usize)> = mails
        .iter()
        .filter(|mail| is_patch(mail) && mail.from_email == sender)
        .map(place)
        .collect();
    let numbered = |mail: &Mail| is_patch(mail) && !mail.subject.counters_inferred;
    let rivals: HashSet<String> = mails
        .iter()
        .filter(|mail| numbered(mail) && mail.from_email != sender && ours.contains(&place(mail)))
        .map(|mail| mail.from_email.clone())
        .collect();
    mails.retain(|mail| {
        mail.subject.reply
            || !rivals.contains(&mail.from_email)
            || !(mail.has_diff || mail.subject.counter == 0)
    });
    mails
}

/// Mails of two series at once, and nothing that says which is meant.
fn refuse_interleaved(source: &str, mails: &[Mail]) -> Result<()> {
    let roots = roots(mails);
    let patches: Vec<usize> = (0..mails.len()).filter(|&n| is_patch(&mails[n])).collect();
    for (n, &a) in patches.iter().enumerate() {
        for &b in &patches[n + 1..] {
            let (one, two) = (&mails[a], &mails[b]);
            let (s, t) = (&one.subject, &two.subject);
            let same_place = s.version == t.version && s.counter == t.counter;
            let same_sender = one.from_email == two.from_email;
            let numbered = !s.counters_inferred && !t.counters_inferred;
            let clash = if roots[a] == roots[b] {
                same_place && numbered && !same_sender && s.text != t.text
            } else if same_sender {
                same_place && s.text != t.text
            } else {
                same_place || s.version != t.version || s.expected != t.expected
            };
            if clash {
                return Err(Error::bad_input(format!(
                    "{source} holds more than one series: \u{201c}{}\u{201d} by {} and \
                     \u{201c}{}\u{201d} by {}",
                    s.text, one.from_email, t.text, two.from_email
                ))
                .hint(format!(
                    "say which one is meant: --message-id {} or --message-id {}",
                    one.message_id, two.message_id
                )));
            }
        }
    }
    Ok(())
}

/// For each mail the mark of its thread.
fn roots(mails: &[Mail]) -> Vec<usize> {
    let mut marks: HashMap<&str, usize> = HashMap::new();
    let mut parents: Vec<usize> = Vec::new();
    fn top(parents: &mut [usize], mut at: usize) -> usize {
        while parents[at] != at {
            parents[at] = parents[parents[at]];
            at = parents[at];
        }
        at
    }
    let mut own = Vec::with_capacity(mails.len());
    for mail in mails {
        let ids = std::iter::once(&mail.message_id).chain(&mail.references);
        let mut first = None;
        for id in ids {
            let mark = *marks.entry(id).or_insert_with(|| {
                parents.push(parents.len());
                parents.len() - 1
            });
            let mark = top(&mut parents, mark);
            match first {
                None => first = Some(mark),
                Some(first) => {
                    let first = top(&mut parents, first);
                    parents[mark] = first;
                }
            }
        }
        own.push(first.unwrap_or_default());
    }
    own.into_iter().map(|mark| top(&mut parents, mark)).collect()
}

fn from_version(
    source: &str,
    thread: &Thread,
    version: &Version,
    with_trailers: bool,
) -> Result<Series> {
    let (mut given, refused) = thread.reviews(version);
    let of_cover = given.remove(&0).unwrap_or_default();
    let mut notes = Vec::new();
    let mut patches = Vec::new();
    let mut missing = Vec::new();
    let mut paths = Vec::new();
    let mut trailers: Vec<Trailer> = Vec::new();
    for (number, slot) in version.patches() {
        let Some(at) = slot else {
            missing.push(format!("{number}/{}", version.expected));
            continue;
        };
        let mail = &thread.mails[at];
        check(source, mail, number)?;
        let cut = mailinfo::cut(mail);
        let mut new = given.remove(&number).unwrap_or_default();
        new.extend(of_cover.iter().cloned());
        let message = if with_trailers { trailers::added(&cut.message, &new) } else { cut.message };
        for trailer in new {
            if !trailers.contains(&trailer) {
                trailers.push(trailer);
            }
        }
        let files = diff::touched(&cut.patch);
        paths.extend(files.into_iter().flat_map(|file| [file.before, file.after]).flatten());
        if diff::has_hunks(&cut.patch) && !diff::is_whole(&cut.patch) {
            notes.push(format!(
                "patch {number}/{} is damaged: a hunk has not as many lines as it says",
                version.expected
            ));
        }
        let from_version = version.older.get(&number).copied();
        if let Some(older) = from_version {
            notes.push(format!(
                "patch {number}/{} is the one of v{older}: v{} sent only some patches again",
                version.expected, version.number
            ));
        }
        patches.push(Patch {
            number,
            subject: cut.subject,
            author: Author { name: cut.name, email: cut.email },
            date: cut.date,
            message_id: mail.message_id.clone(),
            message,
            diff: cut.patch,
            from_version,
        });
    }
    for (one, two) in &version.doubles {
        notes.push(format!(
            "two mails are patch {}/{}: {} and {}",
            thread.mails[*one].subject.counter,
            version.expected,
            thread.mails[*one].message_id,
            thread.mails[*two].message_id
        ));
    }
    for trailer in &refused {
        let from = trailer.from.as_deref().unwrap_or_default();
        notes.push(format!("not taken, since {from} is from somebody else: {}", trailer.line()));
    }
    paths.sort();
    paths.dedup();
    let first = version.slots.iter().flatten().next();
    let Some(head) = first.map(|&at| &thread.mails[at]) else {
        return Err(Error::bad_input(format!("there is no patch in {source}")));
    };
    check_headers(head)?;
    let cover = version.slots[0].map(|at| {
        let mail = &thread.mails[at];
        Cover {
            subject: mail.subject.text.clone(),
            message_id: mail.message_id.clone(),
            text: mail.text(),
        }
    });
    // Where a base is stated: in the cover letter, or below the first patch.
    let stated: Vec<String> =
        version.slots.iter().take(2).flatten().map(|&at| thread.mails[at].text()).collect();
    Ok(Series {
        source: source.to_owned(),
        version: version.number,
        versions: Vec::new(),
        subject: head.subject.text.clone(),
        subject_line: head.subject.written.clone(),
        author: Author { name: head.from_name.clone(), email: head.from_email.clone() },
        date: head.date.clone(),
        message_id: head.message_id.clone(),
        to: head.to.clone(),
        cc: head.cc.clone(),
        expected: version.slots.len() - 1,
        cover,
        patches,
        missing,
        trailers,
        base: Base::stated(&stated),
        paths,
        notes,
    })
}

fn check_headers(mail: &Mail) -> Result<()> {
    match mail.injects {
        None => Ok(()),
        Some(header) => Err(Error::bad_input(format!(
            "the {header} of the mail {} hides a line break",
            mail.message_id.escape_debug()
        ))
        .hint("such a header is made to smuggle in others; the series is not read")),
    }
}

/// What a patch must not do.
fn check(source: &str, mail: &Mail, number: usize) -> Result<()> {
    check_headers(mail)?;
    let name = format!("patch {number} of {source} ({})", mail.message_id);
    if let Some(path) = diff::escape(&mail.body) {
        return Err(Error::bad_input(format!("{name} leaves the tree: `{path}`"))
            .hint("paths of a patch lie below the kernel's top folder"));
    }
    if mail.last && diff::ends_within(&mail.body) {
        return Err(Error::bad_input(format!("{name} ends in the middle of a hunk"))
            .hint("the mailbox was cut off: fetch it again"));
    }
    Ok(())
}
