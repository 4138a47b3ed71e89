// SPDX-License-Identifier: MIT OR Apache-2.0
//! A series of a Patchwork server, by its REST interface.
//!
//! `/api/series/ID/` names the mails; each is fetched as it came
//! (`/patch/ID/mbox/`). Patchwork adds trailers of replies to what it serves,
//! below the commit message; the diffs stay as they are.

use reqwest::Url;
use serde::Deserialize;

use super::archive::decoded;
use super::{Found, Means, Order};
use crate::base::error::{Error, Result};
use crate::series::fetch::{self, Answer};
use crate::series::mail;
use crate::series::rest::{self, Listed};

/// A patch says which series it belongs to.
#[derive(Deserialize)]
struct OfPatch {
    #[serde(default)]
    series: Vec<SeriesId>,
}

#[derive(Deserialize)]
struct SeriesId {
    id: u64,
}

/// More requests than this are not made for one series.
const MOST_PATCHES: usize = 500;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Series(u64),
    Patch(String),
}

pub(super) fn claims(source: &str) -> bool {
    parts(source, fetch::PATCHWORK).is_some()
}

fn parts(source: &str, server: &str) -> Option<(Url, Asked)> {
    if let Some(id) = source.strip_prefix("patchwork:") {
        return Some((fetch::url(server).ok()?, Asked::Series(id.parse().ok()?)));
    }
    let mut url = fetch::url(source).ok()?;
    let in_query =
        url.query_pairs().find(|(name, _)| name == "series").and_then(|(_, id)| id.parse().ok());
    let names: Vec<String> =
        url.path_segments()?.filter(|name| !name.is_empty()).map(decoded).collect();
    let after = |name: &str| {
        let at = names.iter().rposition(|n| n == name)?;
        names.get(at + 1).map(|value| (at, value.clone()))
    };
    let project = names.iter().position(|name| name == "project");
    let (root, asked) = if let (Some(id), Some(at)) = (in_query, project) {
        (at, Asked::Series(id))
    } else if let Some((at, id)) = after("series") {
        (at, Asked::Series(id.parse().ok()?))
    } else if let (Some(at), Some((_, id))) = (project, after("patch")) {
        (at, Asked::Patch(id))
    } else {
        return None;
    };
    // A server may live below a path; `api/1.3/` is ours to add.
    let mut root: Vec<&str> = names[..root].iter().map(String::as_str).collect();
    if let Some(api) = root.iter().position(|name| *name == "api") {
        root.truncate(api);
    }
    url.set_query(None);
    url.set_fragment(None);
    url.set_path("");
    Some((fetch::below(&url, &root), asked))
}

pub(super) fn read(source: &str, means: &Means<'_>) -> Result<Found> {
    let Some((server, asked)) = parts(source, &means.net.patchwork) else {
        return Err(Error::bad_input(format!("{source} names no series of a Patchwork server"))
            .hint("write patchwork:ID, and the server with --patchwork URL"));
    };
    let id = match asked {
        Asked::Series(id) => id,
        Asked::Patch(message_id) => {
            let mut url = fetch::below(&server, &["api", "patches", ""]);
            url.query_pairs_mut().append_pair("msgid", &message_id);
            let patches: Vec<OfPatch> = json(&url, means)?;
            let series = patches.iter().flat_map(|patch| &patch.series).next();
            let none = || {
                Error::bad_input(format!("{server} knows no series with the mail {message_id}"))
                    .hint("check the address")
            };
            series.ok_or_else(none)?.id
        }
    };
    let url = fetch::below(&server, &["api", "series", &id.to_string(), ""]);
    let listed: Listed = json(&url, means)?;
    if listed.patches.len() > MOST_PATCHES {
        return Err(Error::bad_input(format!("{url} lists more than {MOST_PATCHES} patches"))
            .hint("no series is that long"));
    }
    let mut raw = Vec::new();
    let mut total = 0;
    for item in listed.cover_letter.iter().chain(&listed.patches) {
        let page = ours(&server, &item.mbox)?;
        let Answer::Bytes(bytes) = fetch::get(&page, means.net, means.cancel)? else {
            return Err(Error::failure(format!(
                "{page}, which {url} names, is not there (mail {})",
                item.msgid
            ))
            .hint("try again later"));
        };
        total += bytes.len();
        if total > mail::LARGEST_THREAD {
            return Err(Error::bad_input(format!(
                "{url} has more than {} MB of mails",
                mail::LARGEST_THREAD >> 20
            ))
            .hint("no series is that large"));
        }
        raw.extend(mail::split(&bytes, page.as_str())?);
    }
    Ok(Found { raw, message_id: None, order: Order::Loose, base: None })
}

/// What a server names is fetched from that server: it knows itself by other
/// names, and must not send us elsewhere.
fn ours(server: &Url, named: &str) -> Result<Url> {
    let mut url = server.join(named).map_err(|cause| {
        Error::failure(format!("{server} names {named}, which is not an address")).because(cause)
    })?;
    let place = server.host_str().map(str::to_owned);
    if url.set_scheme(server.scheme()).is_err()
        || url.set_host(place.as_deref()).is_err()
        || url.set_port(server.port()).is_err()
    {
        return Err(Error::failure(format!("{server} names {named}, which is not on it")));
    }
    Ok(url)
}

fn json<T: serde::de::DeserializeOwned>(url: &Url, means: &Means<'_>) -> Result<T> {
    rest::ask(url, means.net, means.cancel)?.ok_or_else(|| {
        Error::bad_input(format!("there is no {url}"))
            .hint("check the series' number, and the server (--patchwork URL)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each address that Patchwork shows names its series.
    #[test]
    fn addresses() {
        for (source, server, asked) in [
            ("patchwork:12", "https://patchwork.kernel.org/", Asked::Series(12)),
            (
                "https://patchwork.kernel.org/project/linux-mm/list/?series=7&state=*",
                "https://patchwork.kernel.org/",
                Asked::Series(7),
            ),
            ("https://p.org/pw/series/7/mbox/", "https://p.org/pw", Asked::Series(7)),
            ("https://p.org/api/1.3/series/7/", "https://p.org/", Asked::Series(7)),
            ("https://p.org/project/x/patch/a@b/", "https://p.org/", Asked::Patch("a@b".into())),
        ] {
            let (base, found) = parts(source, fetch::PATCHWORK).unwrap();
            assert_eq!((base.as_str(), found), (server, asked), "{source}");
        }
        assert!(!claims("https://lore.kernel.org/all/a@b/"));
    }

    /// A server cannot send us to another one.
    #[test]
    fn mails_come_from_the_server_itself() {
        let server = fetch::url("http://127.0.0.1:81/").unwrap();
        let url = ours(&server, "https://elsewhere.org/patch/1/mbox/").unwrap();
        assert_eq!(url.as_str(), "http://127.0.0.1:81/patch/1/mbox/");
    }
}
