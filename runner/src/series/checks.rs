// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks for a Patchwork server: `POST /api/patches/ID/checks/`.
//!
//! This is the only place that sends anything to anybody. The token goes to nobody who
//! could be overheard.

use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};

use super::Net;
use super::fetch::{self, Answer};
use crate::base::command::Cancel;
use crate::base::error::{Error, Result};

/// What Patchwork takes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check<'a> {
    pub(crate) state: &'a str,
    pub(crate) context: &'a str,
    pub(crate) description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target_url: Option<&'a str>,
}

/// What is used of a patch of Patchwork's.
#[derive(Deserialize)]
struct Patch {
    id: u64,
}

/// A Patchwork server, and the right to post there.
#[derive(Debug)]
pub(crate) struct Patchwork {
    server: Url,
    token: HeaderValue,
    net: Net,
}

impl Patchwork {
    /// The server of `net`.
    ///
    /// # Errors
    /// The address is none, the token is none, or the way there can be overheard.
    pub(crate) fn new(net: &Net, token: &str) -> Result<Patchwork> {
        let server = fetch::url(&net.patchwork)?;
        if server.scheme() != "https" && !fetch::is_this_host(&server) {
            return Err(Error::bad_input(format!("{server} is asked without encryption"))
                .hint("a token is sent to https:// addresses only"));
        }
        let mut token =
            HeaderValue::from_str(&format!("Token {}", token.trim())).map_err(|_| {
                Error::bad_input("the token has characters that an HTTP header cannot carry")
            })?;
        token.set_sensitive(true);
        Ok(Patchwork { server, token, net: net.clone() })
    }

    /// The number of the patch that a mail is.
    ///
    /// # Errors
    /// The server does not answer, or knows no such patch.
    pub(crate) fn patch(&self, message_id: &str, cancel: &Cancel) -> Result<u64> {
        let mut url = fetch::below(&self.server, &["api", "patches", ""]);
        url.query_pairs_mut().append_pair("msgid", message_id);
        let none = || {
            Error::bad_input(format!(
                "{} has no patch with the message id {message_id}",
                self.server
            ))
            .hint("name the server that tracks its list with --patchwork URL")
        };
        let Answer::Bytes(bytes) = fetch::get(&url, &self.net, cancel)? else { return Err(none()) };
        let all: Vec<Patch> = serde_json::from_slice(&bytes).map_err(|cause| {
            Error::failure(format!("{url} is not what Patchwork's API answers"))
                .hint("name a Patchwork server with --patchwork URL")
                .because(cause)
        })?;
        all.first().map(|patch| patch.id).ok_or_else(none)
    }

    /// Posts a check.
    ///
    /// # Errors
    /// The server does not answer, or does not take it.
    pub(crate) fn post(&self, patch: u64, check: &Check<'_>) -> Result<()> {
        let url = fetch::below(&self.server, &["api", "patches", &patch.to_string(), "checks", ""]);
        let body = serde_json::to_vec(check)
            .map_err(|cause| Error::failure("cannot write the check down").because(cause))?;
        // Wherever a redirect leads, the token is not for there.
        let client = fetch::client(&url, &self.net, 0)?;
        let response = client
            .post(url.clone())
            .header(AUTHORIZATION, self.token.clone())
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .map_err(|cause| fetch::no_answer(&url, &self.net, cause))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let hint = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "the token must be that of a maintainer of the project"
            }
            _ => "nothing else was posted after it",
        };
        let said: String = response.text().unwrap_or_default().chars().take(200).collect();
        let said: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Err(Error::failure(format!("{url} answered {status}: {said}")).hint(hint))
    }
}
