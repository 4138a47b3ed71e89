// SPDX-License-Identifier: MIT OR Apache-2.0
//! A cache somewhere else: a folder, or a server that speaks HTTP.
//!
//! What is not in the cache here is looked for there, as
//! `<remote>/v1/<kind>/<key>.tar.zst`, a [bundle] of one entry, and is verified before it
//! gets its name here. Only with `--cache-push` is anything written there, and nothing
//! that is there is replaced. A remote that fails costs time, never a run: it is
//! said once, and the rest is made here.
//!
//! Source packages are not taken from a remote: their hash is in the spec, and whoever
//! has them can be asked.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::blocking::{Body, Client};
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};

use crate::base::command::Cancel;
use crate::base::error::{Context, Error, Kind as ErrorKind, Result};
use crate::base::event::{Events, Stage};
use crate::keep::bundle::{self, Name, Wanted};
use crate::keep::cache::{Cache, Kind};

/// The only place a secret may come from: sent as `Authorization: Bearer`.
pub const TOKEN: &str = "BAKEOFF_CACHE_TOKEN";
/// The layout of a remote.
const LAYOUT: &str = "v1";
/// Silence after which a server counts as one that does not answer.
const SILENCE: Duration = Duration::from_secs(30);
/// Time for sending one entry; a build folder has 200 MB.
const SENDING: Duration = Duration::from_secs(15 * 60);
const REDIRECTS: usize = 5;

/// A cache somewhere else.
pub struct Remote {
    /// As it was written.
    name: String,
    place: Place,
    push: bool,
    silence: Duration,
    events: Events,
    cancel: Cancel,
    /// It failed, and is not asked again.
    gone: AtomicBool,
    /// What it does not have.
    missing: Mutex<HashSet<Name>>,
}

enum Place {
    Folder(PathBuf),
    Server { base: Url, client: Client, token: Option<String> },
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the token.
        f.debug_struct("Remote").field("name", &self.name).field("push", &self.push).finish()
    }
}

/// Why an entry was not to be had.
enum Missed {
    /// There is none.
    NotThere,
    /// There is something, and it is no good.
    Bad(Error),
    /// The remote itself fails: why, in a few words.
    Gone(String),
}

impl Remote {
    /// A folder, or the address of a server.
    ///
    /// # Errors
    /// No such folder; an address with a password in it, or with a token that would be
    /// sent in the clear; neither a folder nor an address.
    pub fn open(written: &str, push: bool, events: &Events, cancel: &Cancel) -> Result<Remote> {
        // An empty one is none: CI sets variables that way.
        let token = std::env::var(TOKEN).ok().filter(|token| !token.is_empty());
        Remote::with(written, push, token, SILENCE, events, cancel)
    }

    fn with(
        written: &str,
        push: bool,
        token: Option<String>,
        silence: Duration,
        events: &Events,
        cancel: &Cancel,
    ) -> Result<Remote> {
        let place = match written.split_once("://") {
            Some(("http" | "https", _)) => server(written, token)?,
            Some(("file", path)) => folder(Path::new(path), push)?,
            Some((scheme, _)) => {
                return Err(Error::bad_input(format!(
                    "--cache-remote: bakeoff does not speak {scheme}"
                ))
                .hint("give a folder, or an address that begins with https:// or http://"));
            }
            None => folder(Path::new(written), push)?,
        };
        Ok(Remote {
            name: written.to_owned(),
            place,
            push,
            silence,
            events: events.clone(),
            cancel: cancel.clone(),
            gone: AtomicBool::new(false),
            missing: Mutex::default(),
        })
    }

    /// Whether this kind is exchanged.
    fn deals_in(kind: Kind) -> bool {
        kind != Kind::Archive
    }

    /// Brings an entry into `cache`, if the remote has it.
    ///
    /// # Errors
    /// A full disk here, interrupted. Whatever is wrong with the remote is a warning.
    pub(super) fn fetch(&self, cache: &Cache, kind: Kind, key: &str) -> Result<bool> {
        let name = Name { kind, key: key.to_owned() };
        let missing = || self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.gone.load(Ordering::Relaxed) || !Self::deals_in(kind) || missing().contains(&name) {
            return Ok(false);
        }
        let began = Instant::now();
        match self.take(cache, &name) {
            Ok(bytes) => {
                let mib = bytes as f64 / f64::from(1 << 20);
                let took = crate::base::progress::seconds(began.elapsed());
                self.events.note(format!(
                    "{:<7} {name}: from the remote cache, {mib:.1} MiB  {took}",
                    Stage::Fetch
                ));
                return Ok(true);
            }
            Err(Missed::NotThere) => {}
            Err(Missed::Bad(error)) if error.kind() == ErrorKind::Interrupted => return Err(error),
            Err(Missed::Bad(error)) => {
                self.events.warning(format!("{}: not used, and made here instead", error.chain()))
            }
            Err(Missed::Gone(why)) => self.give_up(&why),
        }
        missing().insert(name);
        Ok(false)
    }

    fn give_up(&self, why: &str) {
        if !self.gone.swap(true, Ordering::Relaxed) {
            self.events.warning(format!(
                "the remote cache {} {why}: going on without it; check --cache-remote",
                self.name
            ));
        }
    }

    fn take(&self, cache: &Cache, name: &Name) -> Result<u64, Missed> {
        let what = format!("{name} of the remote cache");
        let stalled = Arc::new(AtomicBool::new(false));
        let input: Box<dyn Read> = match &self.place {
            Place::Folder(dir) => match fs::File::open(file_in(dir, name)) {
                Ok(file) => Box::new(file),
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Missed::NotThere),
                Err(e) => return Err(Missed::Gone(format!("cannot be read ({e})"))),
            },
            Place::Server { base, client, token } => {
                let mut request = client.get(below(base, name));
                if let Some(token) = token {
                    request = request.bearer_auth(token);
                }
                Box::new(Stream::begin(request, self.silence, &stalled, &self.cancel)?)
            }
        };
        let read = bundle::read(cache, input, &what, Wanted::One(name), &self.cancel);
        read.map(|imported| imported.bytes).map_err(|error| {
            // Each entry would cost as much time again.
            if stalled.load(Ordering::Relaxed) {
                return Missed::Gone(silent(self.silence));
            }
            Missed::Bad(error)
        })
    }

    /// Offers an entry that was made here, if the remote is to have such.
    pub(super) fn offer(&self, cache: &Cache, kind: Kind, key: &str) {
        if !self.push || self.gone.load(Ordering::Relaxed) || !Self::deals_in(kind) {
            return;
        }
        let name = Name { kind, key: key.to_owned() };
        if let Err(error) = self.give(cache, &name) {
            self.give_up(&format!("does not take {name} ({})", error.chain()));
        }
    }

    fn give(&self, cache: &Cache, name: &Name) -> Result<()> {
        let names = std::slice::from_ref(name);
        match &self.place {
            Place::Folder(dir) => {
                let path = file_in(dir, name);
                if path.exists() {
                    return Ok(());
                }
                let parent = path.parent().unwrap_or(dir);
                fs::create_dir_all(parent).at_path("create", parent)?;
                let mut aside =
                    tempfile::NamedTempFile::new_in(parent).at_path("write in", parent)?;
                bundle::write(cache, names, aside.as_file_mut(), &self.cancel, &mut |_| {})?;
                let everyone =
                    <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
                aside.as_file().set_permissions(everyone).at_path("write", &path)?;
                aside.persist(&path).map_err(|e| e.error).at_path("write", &path)?;
                Ok(())
            }
            Place::Server { base, client, token } => {
                let url = below(base, name);
                let with = |request: reqwest::blocking::RequestBuilder| match token {
                    Some(token) => request.bearer_auth(token),
                    None => request,
                };
                let fails = |cause: reqwest::Error| {
                    Error::failure("no answer").because(cause.without_url())
                };
                let there =
                    with(client.head(url.clone()).timeout(SILENCE)).send().map_err(fails)?;
                if there.status().is_success() {
                    return Ok(());
                }
                let work = cache.work_dir()?;
                let mut file = tempfile::tempfile_in(&work).at_path("write in", &work)?;
                bundle::write(cache, names, &mut file, &self.cancel, &mut |_| {})?;
                let bytes = file.metadata().at_path("read", &work)?.len();
                io::Seek::rewind(&mut file).at_path("read", &work)?;
                let put = with(client.put(url)).timeout(SENDING).body(Body::sized(file, bytes));
                let status = put.send().map_err(fails)?.status();
                if status.is_success() {
                    return Ok(());
                }
                Err(Error::failure(answered(status)))
            }
        }
    }
}

fn folder(path: &Path, push: bool) -> Result<Place> {
    if push {
        fs::create_dir_all(path).at_path("create the remote cache", path)?;
    }
    if path.is_dir() {
        return Ok(Place::Folder(path.to_owned()));
    }
    Err(Error::bad_input(format!("--cache-remote: there is no folder {}", path.display()))
        .hint("create it, or give the address of a server, which begins with https://"))
}

fn server(written: &str, token: Option<String>) -> Result<Place> {
    let base = Url::parse(written).map_err(|cause| {
        Error::bad_input("--cache-remote: this is not an address").because(cause)
    })?;
    if !base.username().is_empty() || base.password().is_some() {
        return Err(Error::bad_input("--cache-remote: the address has a name or a password in it")
            .hint(format!("put the secret into {TOKEN}; command lines are seen by everybody")));
    }
    let here = matches!(base.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    if token.is_some() && base.scheme() != "https" && !here {
        return Err(Error::bad_input(format!(
            "--cache-remote: {TOKEN} would be sent over plain http"
        ))
        .hint("give an https address, or unset the variable"));
    }
    // ring rather than the default aws-lc, which takes longer to compile than all of
    // bakeoff. An error says that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = Client::builder()
        .user_agent(concat!("bakeoff/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .timeout(None)
        .redirect(Policy::custom(|attempt| {
            let secure = attempt.previous().last().is_some_and(|last| last.scheme() == "https");
            if attempt.previous().len() > REDIRECTS {
                attempt.error("it redirects in circles")
            } else if secure && attempt.url().scheme() != "https" {
                attempt.error("it redirects from https to something else")
            } else {
                attempt.follow()
            }
        }));
    if here {
        client = client.no_proxy();
    }
    let client = client.build().context(|| "set up the remote cache".into())?;
    Ok(Place::Server { base, client, token })
}

fn file_in(dir: &Path, name: &Name) -> PathBuf {
    dir.join(LAYOUT).join(name.kind.name()).join(format!("{}.tar.zst", name.key))
}

fn below(base: &Url, name: &Name) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        let file = format!("{}.tar.zst", name.key);
        path.pop_if_empty().extend([LAYOUT, name.kind.name(), &file]);
    }
    url
}

fn answered(status: StatusCode) -> String {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            format!("answers {status}; the secret for it belongs into {TOKEN}")
        }
        _ => format!("answers {status}"),
    }
}

/// What a server sends, read by a thread of its own: a server that stalls holds the
/// thread, not the run.
struct Stream {
    pieces: Receiver<Piece>,
    rest: io::Cursor<Vec<u8>>,
    silence: Duration,
    stalled: Arc<AtomicBool>,
    cancel: Cancel,
    over: bool,
}

fn silent(time: Duration) -> String {
    format!("sends nothing for {time:.0?}")
}

enum Piece {
    Answer { status: StatusCode, web_page: bool },
    Bytes(Vec<u8>),
    End,
    Failed(String),
}

impl Stream {
    fn begin(
        request: reqwest::blocking::RequestBuilder,
        silence: Duration,
        stalled: &Arc<AtomicBool>,
        cancel: &Cancel,
    ) -> Result<Stream, Missed> {
        let (send, pieces) = mpsc::sync_channel(4);
        std::thread::spawn(move || {
            // Nobody listens any more once the run has given up: then this ends, too.
            let tell = |piece| send.send(piece).is_ok();
            let mut response = match request.send() {
                Ok(response) => response,
                Err(cause) => {
                    let why = Error::failure("does not answer").because(cause.without_url());
                    tell(Piece::Failed(why.chain()));
                    return;
                }
            };
            let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            let web_page = kind.is_some_and(|kind| kind.starts_with("text/html"));
            let mut go_on = tell(Piece::Answer { status: response.status(), web_page });
            while go_on {
                let mut part = vec![0; 1 << 16];
                go_on = match response.read(&mut part) {
                    Ok(0) => {
                        tell(Piece::End);
                        false
                    }
                    Ok(n) => {
                        part.truncate(n);
                        tell(Piece::Bytes(part))
                    }
                    Err(e) => {
                        tell(Piece::Failed(format!("broke off ({e})")));
                        false
                    }
                };
            }
        });
        let rest = io::Cursor::new(Vec::new());
        let (stalled, cancel) = (stalled.clone(), cancel.clone());
        let mut stream = Stream { pieces, rest, silence, stalled, cancel, over: false };
        match stream.next() {
            Ok(Piece::Answer { status: StatusCode::NOT_FOUND | StatusCode::GONE, .. }) => {
                Err(Missed::NotThere)
            }
            Ok(Piece::Answer { web_page: true, .. }) => {
                Err(Missed::Gone("answers with a web page, not with an archive".into()))
            }
            Ok(Piece::Answer { status, .. }) if status.is_success() => Ok(stream),
            Ok(Piece::Answer { status, .. }) => Err(Missed::Gone(answered(status))),
            Ok(Piece::Failed(why)) => Err(Missed::Gone(why)),
            Ok(Piece::Bytes(_) | Piece::End) => Err(Missed::Gone("does not answer".into())),
            Err(e) => match stream.cancel.check() {
                Err(interrupted) => Err(Missed::Bad(interrupted)),
                Ok(()) => Err(Missed::Gone(e.to_string())),
            },
        }
    }

    fn next(&mut self) -> io::Result<Piece> {
        let until = Instant::now() + self.silence;
        loop {
            if self.cancel.is_cancelled() {
                return Err(io::Error::other("interrupted"));
            }
            match self.pieces.recv_timeout(Duration::from_millis(100)) {
                Ok(piece) => return Ok(piece),
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
                Err(RecvTimeoutError::Timeout) => {
                    self.stalled.store(true, Ordering::Relaxed);
                    return Err(io::Error::new(io::ErrorKind::TimedOut, silent(self.silence)));
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(Piece::End),
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.rest.read(buffer)?;
            if n > 0 || self.over {
                return Ok(n);
            }
            match self.next()? {
                Piece::Bytes(bytes) => self.rest = io::Cursor::new(bytes),
                Piece::End | Piece::Answer { .. } => self.over = true,
                Piece::Failed(why) => return Err(io::Error::other(why)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
