// SPDX-License-Identifier: MIT OR Apache-2.0
//! The series that were sent lately: to a list of a public-inbox archive, by its Atom
//! feed, or to a project of a Patchwork server, by its REST interface.

use std::collections::BTreeSet;

use jiff::Timestamp;
use quick_xml::events::Event;
use reqwest::Url;

use super::fetch::{self, Answer};
use super::rest::{self, Listed};
use super::subject::Subject;
use super::{Net, mail};
use crate::base::command::Cancel;
use crate::base::error::{Error, Result};

/// Pages of a feed that are asked for.
const MOST_PAGES: usize = 40;
/// Letters of a folder's name.
const LONGEST_NAME: usize = 120;

/// What was sent lately.
#[derive(Debug)]
pub(crate) struct Recent {
    /// The archive, where it is one: message ids are asked for there first.
    pub(crate) archive: Option<String>,
    /// The series, the oldest first.
    pub(crate) found: Vec<Sent>,
}

/// A mail that begins a series, or a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// A SOURCE.
    pub(crate) source: String,
    /// A name for a folder, of the message id.
    pub(crate) name: String,
    /// Its subject, on one line.
    pub(crate) subject: String,
    /// When it was sent.
    at: Timestamp,
}

/// A name for a folder that stands for a message id.
pub(crate) fn folder_name(message_id: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._@-+=".contains(c) { c } else { '_' };
    let name: String = message_id.chars().map(plain).take(LONGEST_NAME).collect();
    // Neither hidden nor an option.
    match name.trim_start_matches(['.', '-']) {
        "" => "_".to_owned(),
        name => name.to_owned(),
    }
}

/// What was sent to `place` after `after`: `patchwork:PROJECT`, or an archive's address.
///
/// # Errors
/// The place is none, or its server does not answer as such a server does.
pub(crate) fn recent(place: &str, after: Timestamp, net: &Net, cancel: &Cancel) -> Result<Recent> {
    let mut recent = match place.strip_prefix("patchwork:") {
        Some(project) => {
            Recent { archive: None, found: of_patchwork(project, after, net, cancel)? }
        }
        None => {
            let list = fetch::url(place).map_err(|error| {
                error.hint(
                    "name a list of an archive (https://lore.kernel.org/LIST/) or \
                            patchwork:PROJECT",
                )
            })?;
            let found = of_archive(&list, after, net, cancel)?;
            Recent { archive: Some(list.as_str().trim_end_matches('/').to_owned()), found }
        }
    };
    recent.found.sort_by(|a, b| a.at.cmp(&b.at).then_with(|| a.name.cmp(&b.name)));
    Ok(recent)
}

/// An entry of a feed.
#[derive(Clone, Debug, Default)]
struct Entry {
    title: String,
    updated: String,
    link: String,
    parent: Option<String>,
}

fn of_archive(list: &Url, after: Timestamp, net: &Net, cancel: &Cancel) -> Result<Vec<Sent>> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut page = fetch::below(list, &["new.atom"]);
    for _ in 0..MOST_PAGES {
        cancel.check()?;
        let Answer::Bytes(bytes) = fetch::get_document(&page, net, cancel)? else {
            return Err(Error::bad_input(format!("there is no {page}"))
                .hint("name a list of a public-inbox archive: https://lore.kernel.org/LIST/"));
        };
        let fresh: Vec<Entry> = feed(&bytes, &page)?
            .into_iter()
            .filter(|entry| seen.insert(entry.link.clone()))
            .collect();
        let oldest = fresh.iter().filter_map(Entry::at).min();
        entries.extend(fresh);
        // The next page is what came before.
        match oldest {
            Some(oldest) if oldest > after => {
                let before = oldest.strftime("%Y%m%d%H%M%S").to_string();
                page.set_query(Some(&format!("t={before}")));
            }
            _ => break,
        }
    }
    let covers: BTreeSet<String> =
        entries.iter().filter(|entry| entry.begins(0)).map(|entry| entry.link.clone()).collect();
    let found = entries.iter().filter_map(|entry| {
        let at = entry.at().filter(|at| *at > after)?;
        let under_cover = entry.parent.as_ref().is_some_and(|parent| covers.contains(parent));
        if !(entry.begins(0) || entry.begins(1) && !under_cover) {
            return None;
        }
        Some(Sent {
            source: entry.link.clone(),
            name: folder_name(&entry.message_id()?),
            subject: mail::squeezed(&entry.title),
            at,
        })
    });
    Ok(found.collect())
}

impl Entry {
    fn at(&self) -> Option<Timestamp> {
        self.updated.trim().parse().ok()
    }

    /// Whether it is patch or cover letter `number` of a series.
    fn begins(&self, number: usize) -> bool {
        let subject = Subject::parse(&self.title);
        subject.patch && !subject.reply && subject.counter == number
    }

    fn message_id(&self) -> Option<String> {
        let url = fetch::url(&self.link).ok()?;
        let last = url.path_segments()?.rfind(|part| !part.is_empty())?;
        Some(super::sources::decoded(last)).filter(|id| id.contains('@'))
    }
}

/// The entries of an Atom feed as public-inbox writes it.
fn feed(bytes: &[u8], url: &Url) -> Result<Vec<Entry>> {
    let broken = |why: String| {
        Error::failure(format!("{url} is not a feed of a public-inbox archive: {why}"))
            .hint("name a list of such an archive: https://lore.kernel.org/LIST/")
    };
    let text = String::from_utf8_lossy(bytes);
    let mut reader = quick_xml::Reader::from_str(&text);
    let mut entries: Vec<Entry> = Vec::new();
    let mut entry: Option<Entry> = None;
    let mut path: Vec<String> = Vec::new();
    let mut is_feed = false;
    loop {
        match reader.read_event().map_err(|cause| broken(cause.to_string()))? {
            Event::Start(tag) => {
                let name = String::from_utf8_lossy(tag.name().as_ref()).into_owned();
                is_feed |= path.is_empty() && name == "feed";
                if name == "entry" {
                    entry = Some(Entry::default());
                }
                if let Some(entry) = &mut entry {
                    entry.link(&tag);
                }
                path.push(name);
            }
            Event::Empty(tag) => {
                if let Some(entry) = &mut entry {
                    entry.link(&tag);
                }
            }
            Event::End(_) => {
                let ended = path.pop();
                if ended.as_deref() == Some("entry") {
                    entries.extend(entry.take());
                }
            }
            Event::Text(text) => {
                if let Some(entry) = &mut entry {
                    entry.text(path.last(), &text.decode().unwrap_or_default());
                }
            }
            Event::GeneralRef(reference) => {
                if let Some(entry) = &mut entry {
                    let name = reference.decode().unwrap_or_default().into_owned();
                    let of_name = quick_xml::escape::resolve_predefined_entity(&name);
                    let letter = reference.resolve_char_ref().ok().flatten();
                    let text = of_name.map(str::to_owned).or(letter.map(String::from));
                    entry.text(path.last(), &text.unwrap_or_default());
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    if !is_feed || !path.is_empty() {
        return Err(broken("it does not begin or end as one".to_owned()));
    }
    // Titles are HTML inside of XML.
    for entry in &mut entries {
        if let Ok(plain) = quick_xml::escape::unescape(&entry.title) {
            entry.title = plain.into_owned();
        }
    }
    Ok(entries)
}

impl Entry {
    fn link(&mut self, tag: &quick_xml::events::BytesStart<'_>) {
        let href = || {
            let found = tag.try_get_attribute("href").ok().flatten()?;
            found
                .normalized_value(quick_xml::XmlVersion::Explicit1_0)
                .ok()
                .map(std::borrow::Cow::into_owned)
        };
        match tag.name().as_ref() {
            b"link" => self.link = href().unwrap_or_default(),
            b"thr:in-reply-to" => self.parent = href(),
            _ => {}
        }
    }

    fn text(&mut self, tag: Option<&String>, text: &str) {
        match tag.map(String::as_str) {
            Some("title") => self.title.push_str(text),
            Some("updated") => self.updated.push_str(text),
            _ => {}
        }
    }
}

fn of_patchwork(project: &str, after: Timestamp, net: &Net, cancel: &Cancel) -> Result<Vec<Sent>> {
    let server = fetch::url(&net.patchwork)?;
    let mut url = fetch::below(&server, &["api", "series", ""]);
    url.query_pairs_mut()
        .append_pair("project", project)
        .append_pair("since", &after.strftime("%Y-%m-%dT%H:%M:%S").to_string())
        .append_pair("order", "-date")
        .append_pair("per_page", "250");
    let Some(listed) = rest::ask::<Vec<Listed>>(&url, net, cancel)? else {
        return Err(Error::bad_input(format!("{server} has no project {project}"))
            .hint("the project's name is in its address: /project/NAME/list/"));
    };
    let mut found = Vec::new();
    for series in listed.into_iter().filter(|series| series.received_all) {
        let Some(head) = series.cover_letter.as_ref().or(series.patches.first()) else { continue };
        // Patchwork's dates have no zone: they are UTC.
        let date = format!("{}Z", series.date.trim_end_matches('Z'));
        let Ok(at) = date.parse::<Timestamp>() else { continue };
        let id = head.msgid.trim_start_matches('<').trim_end_matches('>');
        found.push(Sent {
            source: fetch::below(&server, &["series", &series.id.to_string(), ""]).to_string(),
            name: folder_name(id),
            subject: mail::squeezed(series.name.as_deref().unwrap_or(id)),
            at,
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEED: &str = r#"<?xml version="1.0" encoding="us-ascii"?>
<feed xmlns="http://www.w3.org/2005/Atom" xmlns:thr="http://purl.org/syndication/thread/1.0">
<title>l</title><entry><author><name>A</name><email>a@x</email></author>
<title type="html">[PATCH 1/2] mm: a &amp;lt; b</title><updated>2026-01-01T00:00:02Z</updated>
<link href="http://h/l/1%2F2@x/"/><id>u</id>
<thr:in-reply-to ref="u" href="http://h/l/0@x/"/><content type="xhtml"><div><a
href="x">t</a></div></content></entry><entry><title type="html">[PATCH 0/2] mm: all</title>
<updated>2026-01-01T00:00:01Z</updated><link href="http://h/l/0@x/"/></entry><entry><title
type="html">Re: [PATCH 0/2] mm: all</title><updated>2026-01-01T00:00:03Z</updated><link
href="http://h/l/r@x/"/></entry><entry><title type="html">hello</title><updated
>2026-01-01T00:00:04Z</updated><link href="http://h/l/h@x/"/></entry></feed>"#;

    /// Of a feed, the mails that begin a series are found, with dates and parents.
    #[test]
    fn a_feed() {
        let entries = feed(FEED.as_bytes(), &fetch::url("http://h/l/new.atom").unwrap()).unwrap();
        assert_eq!(entries.len(), 4);
        assert_eq!(entries[0].title, "[PATCH 1/2] mm: a < b");
        assert_eq!(entries[0].message_id().unwrap(), "1/2@x");
        assert_eq!(entries[0].parent.as_deref(), Some("http://h/l/0@x/"));
        assert!(entries[1].begins(0) && !entries[2].begins(0) && !entries[3].begins(1));
        assert_eq!(entries[1].at().unwrap().to_string(), "2026-01-01T00:00:01Z");
    }

    /// What is no feed, or only half of one, is an error that names the address.
    #[test]
    fn no_feed() {
        let url = fetch::url("http://h/l/new.atom").unwrap();
        for text in ["<html><p>robots?</html>", &FEED[..600], "", "<feed></entry>"] {
            let error = feed(text.as_bytes(), &url).unwrap_err();
            assert!(error.message().contains("is not a feed"), "{error}");
        }
    }

    /// A message id leads into no other folder.
    #[test]
    fn folder_names() {
        for (id, name) in [
            ("a-1@x.org", "a-1@x.org"),
            ("../../etc@x", "_.._etc@x"),
            ("..", "_"),
            ("a/b@c", "a_b@c"),
        ] {
            assert_eq!(folder_name(id), name);
        }
    }
}
