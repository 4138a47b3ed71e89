// SPDX-License-Identifier: MIT OR Apache-2.0
//! One page from a server that may be anybody's: limits on everything.
//!
//! A server may stall, drip, refuse, send a web page instead of mail, break off,
//! or send a few kilobytes that unpack to gigabytes. Each of these is an error
//! of its own. Proxies are taken from the environment, except for this host.

use std::io::Read;
use std::sync::Once;
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;
use reqwest::blocking::{Client, Response};
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};

use super::mail::LARGEST_THREAD;
use crate::base::command::Cancel;
use crate::base::error::{Context, Error, Result};

/// Bytes that a server may send.
const LARGEST_ANSWER: usize = 64 << 20;
const REDIRECTS: usize = 5;
const CONNECT: Duration = Duration::from_secs(20);

/// Where lore.kernel.org's threads of all lists are.
pub(crate) const ARCHIVE: &str = "https://lore.kernel.org/all";
/// The kernel's Patchwork.
pub(crate) const PATCHWORK: &str = "https://patchwork.kernel.org";

/// Which servers, and how long they may take.
#[derive(Clone, Debug)]
pub(crate) struct Net {
    /// public-inbox archives, asked in this order.
    pub(crate) archives: Vec<String>,
    pub(crate) patchwork: String,
    /// For one answer, from the first byte asked to the last one read.
    pub(crate) timeout: Duration,
}

impl Default for Net {
    fn default() -> Net {
        Net {
            archives: vec![ARCHIVE.into()],
            patchwork: PATCHWORK.into(),
            timeout: Duration::from_secs(60),
        }
    }
}

/// What a server said.
pub(super) enum Answer {
    Bytes(Vec<u8>),
    /// 404 or 410: ask the next one.
    NotThere,
}

/// An address, or why it is none.
pub(super) fn url(written: &str) -> Result<Url> {
    let url = Url::parse(written)
        .map_err(|cause| Error::bad_input(format!("{written} is not an address")).because(cause))?;
    if !["http", "https"].contains(&url.scheme()) || url.host_str().is_none() {
        return Err(Error::bad_input(format!("{written} is not an address of a web server"))
            .hint("addresses begin with https:// or http://"));
    }
    Ok(url)
}

/// `url` with `parts` below its path, each encoded: a message id may hold a slash.
pub(super) fn below(url: &Url, parts: &[&str]) -> Url {
    let mut url = url.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(parts);
    }
    url
}

/// Gets a page, unpacked if it is gzip. A web page is an error.
pub(super) fn get(url: &Url, net: &Net, cancel: &Cancel) -> Result<Answer> {
    let (answer, page) = fetched(url, net, cancel)?;
    if let Answer::Bytes(bytes) = &answer
        && (page || bytes.trim_ascii_start().starts_with(b"<"))
    {
        return Err(Error::failure(format!("{url} is a web page, not mails"))
            .hint("some servers show one to programs; name another archive with --server"));
    }
    Ok(answer)
}

/// Gets a page that may be XML.
pub(super) fn get_document(url: &Url, net: &Net, cancel: &Cancel) -> Result<Answer> {
    Ok(fetched(url, net, cancel)?.0)
}

/// A page, unpacked if it is gzip, and whether the server calls it a web page.
fn fetched(url: &Url, net: &Net, cancel: &Cancel) -> Result<(Answer, bool)> {
    let end = Instant::now() + net.timeout;
    let response = match ask(url, net)? {
        Some(response) => response,
        None => return Ok((Answer::NotThere, false)),
    };
    let page = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.starts_with("text/html"));
    let bytes = limited(response, LARGEST_ANSWER, end, cancel, url)?;
    let bytes = if bytes.starts_with(&[0x1f, 0x8b]) { unpacked(&bytes, url)? } else { bytes };
    Ok((Answer::Bytes(bytes), page))
}

/// Whether an address is one of this host's.
pub(super) fn is_this_host(url: &Url) -> bool {
    matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

/// A client for one request, which follows so many redirects.
pub(super) fn client(url: &Url, net: &Net, redirects: usize) -> Result<Client> {
    static RING: Once = Once::new();
    RING.call_once(|| {
        // An error says that one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let mut client = Client::builder()
        .user_agent(concat!("bakeoff/", env!("CARGO_PKG_VERSION"), " (kernel patch tester)"))
        .connect_timeout(CONNECT.min(net.timeout))
        .timeout(net.timeout)
        .redirect(Policy::custom(move |attempt| {
            let last = attempt.previous().last();
            let unsafe_now = last.is_some_and(|last| last.scheme() == "https")
                && attempt.url().scheme() != "https";
            if redirects == 0 {
                attempt.stop()
            } else if attempt.previous().len() > redirects {
                attempt.error("it redirects in circles")
            } else if unsafe_now {
                attempt.error("it redirects from https to something else")
            } else {
                attempt.follow()
            }
        }));
    if is_this_host(url) {
        client = client.no_proxy();
    }
    client.build().context(|| "set up the download".into())
}

/// Why a request got no answer.
pub(super) fn no_answer(url: &Url, net: &Net, cause: reqwest::Error) -> Error {
    let what = if cause.is_timeout() {
        format!("{url} did not answer within {} s", net.timeout.as_secs())
    } else {
        format!("{url} does not answer")
    };
    Error::failure(what)
        .hint("try again, name another server with --server, or give an mbox")
        .because(cause.without_url())
}

fn ask(url: &Url, net: &Net) -> Result<Option<Response>> {
    let client = client(url, net, REDIRECTS)?;
    let response = client.get(url.clone()).send().map_err(|cause| no_answer(url, net, cause))?;
    let status = response.status();
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
        // public-inbox asks which of several is meant.
        StatusCode::MULTIPLE_CHOICES => Ok(None),
        _ if status.is_success() => Ok(Some(response)),
        _ => {
            let hint = if status == StatusCode::FORBIDDEN || status == StatusCode::UNAUTHORIZED {
                "this server refuses programs, or you: name another with --server"
            } else {
                "try again later, or name another server with --server"
            };
            Err(Error::failure(format!("{url} answered {status}")).hint(hint))
        }
    }
}

fn limited(
    mut response: Response,
    limit: usize,
    end: Instant,
    cancel: &Cancel,
    url: &Url,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut part = vec![0; 64 << 10];
    loop {
        cancel.check()?;
        if Instant::now() > end {
            return Err(Error::failure(format!("{url} sends too slowly"))
                .hint("give it longer with --timeout"));
        }
        let n = response.read(&mut part).map_err(|cause| {
            Error::failure(format!("{url} broke off after {} bytes", bytes.len()))
                .hint("try again, or name another server with --server")
                .because(cause)
        })?;
        if n == 0 {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&part[..n]);
        if bytes.len() > limit {
            return Err(Error::bad_input(format!("{url} sends more than {} MB", limit >> 20))
                .hint("no thread is that large"));
        }
    }
}

fn unpacked(bytes: &[u8], url: &Url) -> Result<Vec<u8>> {
    super::fetch::gunzip(bytes, url.as_str())
}

/// gzip undone, up to the largest thread.
pub(super) fn gunzip(bytes: &[u8], name: &str) -> Result<Vec<u8>> {
    let limit = LARGEST_THREAD as u64;
    let mut text = Vec::new();
    MultiGzDecoder::new(bytes).take(limit + 1).read_to_end(&mut text).map_err(|cause| {
        Error::failure(format!("{name} is cut off or damaged: its gzip does not end well"))
            .hint("fetch it again")
            .because(cause)
    })?;
    if text.len() as u64 > limit {
        return Err(Error::bad_input(format!(
            "{name} unpacks to more than {} MB",
            LARGEST_THREAD >> 20
        ))
        .hint("no thread is that large"));
    }
    Ok(text)
}
