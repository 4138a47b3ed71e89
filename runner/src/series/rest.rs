// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is used of Patchwork's REST interface.

use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Net;
use super::fetch::{self, Answer};
use crate::base::command::Cancel;
use crate::base::error::{Error, Result};

/// A series, as `/api/series/` and `/api/series/ID/` list it.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    pub(super) id: u64,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) date: String,
    /// Whether none of its mails is missing.
    #[serde(default)]
    pub(super) received_all: bool,
    #[serde(default)]
    pub(super) cover_letter: Option<Item>,
    #[serde(default)]
    pub(super) patches: Vec<Item>,
}

/// A mail of a series.
#[derive(Debug, Deserialize)]
pub(super) struct Item {
    /// Where it can be had.
    #[serde(default)]
    pub(super) mbox: String,
    #[serde(default)]
    pub(super) msgid: String,
}

/// What the interface answers; `None`: there is nothing at this address.
///
/// # Errors
/// The server does not answer, or not as Patchwork does.
pub(super) fn ask<T: DeserializeOwned>(url: &Url, net: &Net, cancel: &Cancel) -> Result<Option<T>> {
    let Answer::Bytes(bytes) = fetch::get(url, net, cancel)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|cause| {
        Error::failure(format!("{url} is not what Patchwork's API answers"))
            .hint("name a Patchwork server with --patchwork URL")
            .because(cause)
    })
}
