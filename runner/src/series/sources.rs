// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where series come from: one row for each kind of source, one file for each row.
//!
//! A source is told by how it is written; rows are asked in order, and what
//! exists as a file wins over what merely looks like an address.

mod archive;
mod b4;
mod folder;
pub(super) mod git;
mod mailbox;
mod patchwork;

pub(super) use archive::decoded;

use super::Net;
use super::base::Base;
use crate::base::command::Cancel;
use crate::base::error::{Error, Result};

/// How sources are written, one by one.
#[cfg(test)]
pub(crate) fn written() -> impl Iterator<Item = &'static str> {
    SOURCES.iter().flat_map(|row| row.written.split(", "))
}

/// A kind of source.
pub(super) struct Source {
    /// How it is written; `--help` says it too.
    written: &'static str,
    /// What it is.
    about: &'static str,
    /// Whether this is one.
    claims: fn(&str) -> bool,
    /// Its mails.
    read: fn(&str, &Means<'_>) -> Result<Found>,
}

/// All of them.
pub(super) const SOURCES: &[Source] = &[
    Source {
        written: "FILE",
        about: "an mbox (also gzipped), one mail or one diff",
        claims: mailbox::is_file,
        read: mailbox::read_file,
    },
    Source {
        written: "MAILDIR",
        about: "a maildir",
        claims: mailbox::is_maildir,
        read: mailbox::read_maildir,
    },
    Source {
        written: "DIR",
        about: "a folder of patches, in order of their names",
        claims: folder::is_folder,
        read: folder::read,
    },
    Source {
        written: "patchwork:ID, https://HOST/project/P/list/?series=ID",
        about: "a series of a Patchwork server",
        claims: patchwork::claims,
        read: patchwork::read,
    },
    Source {
        written: "[REPO#]A..B, [REPO#]refs/pull/N/head",
        about: "commits of a git repository; REPO is a folder or an address",
        claims: git::claims,
        read: git::read,
    },
    Source {
        written: "b4/NAME, [REPO#]b4:BRANCH",
        about: "a branch that b4 prep made",
        claims: b4::claims,
        read: b4::read,
    },
    Source {
        written: "https://HOST/LIST/MESSAGE-ID/",
        about: "a thread of a public-inbox archive",
        claims: archive::is_url,
        read: archive::read_url,
    },
    Source {
        written: "MESSAGE-ID",
        about: "a thread, asked for at the archives of --server",
        claims: archive::is_message_id,
        read: archive::read_message_id,
    },
];

/// What reading works with.
pub(super) struct Means<'a> {
    pub(super) net: &'a Net,
    pub(super) cancel: &'a Cancel,
}

/// How mails without numbers are to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// As a thread.
    Thread,
    /// As a thread of mails that may have no message id.
    Loose,
    /// In the order they are given.
    AsGiven,
}

impl Order {
    pub(super) fn names_mails(self) -> bool {
        self != Order::Thread
    }
}

/// What a source gave.
pub(super) struct Found {
    pub(super) raw: Vec<Vec<u8>>,
    /// The mail that was asked for.
    pub(super) message_id: Option<String>,
    pub(super) order: Order,
    /// Known without looking for it.
    pub(super) base: Option<Base>,
}

pub(super) fn find(source: &str, means: &Means<'_>) -> Result<Found> {
    match SOURCES.iter().find(|row| (row.claims)(source)) {
        Some(row) => (row.read)(source, means),
        None => {
            let kinds: Vec<String> =
                SOURCES.iter().map(|row| format!("{}: {}", row.written, row.about)).collect();
            Err(Error::bad_input(format!("{source} is not a series: no such file or folder"))
                .hint(format!("a series is one of\n{}", kinds.join("\n"))))
        }
    }
}
