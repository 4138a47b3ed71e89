// SPDX-License-Identifier: MIT OR Apache-2.0
//! One stream of events, told once; bars, plain lines and the log consume it.
//!
//! Stages never print. They tell an [`Events`] what begins, how far it is and
//! how it ended, and every [`Sink`] shows that in its own way.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A step of the pipeline, as the user sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Getting a base's archive.
    Fetch,
    /// Unpacking it.
    Unpack,
    /// Compiling the guest binaries.
    GuestBinaries,
    /// Copying the tree and applying a series.
    Apply,
    /// Compiling a kernel.
    Build,
    /// Booting a guest and driving it.
    Boot,
    /// Reading consoles and records, comparing, writing the report.
    Judge,
    /// A part of a run on another machine.
    Shard,
    /// Moving entries of the cache from or to a file.
    Cache,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Stage::Fetch => "fetch",
            Stage::Unpack => "unpack",
            Stage::GuestBinaries => "guest",
            Stage::Apply => "apply",
            Stage::Build => "build",
            Stage::Boot => "boot",
            Stage::Judge => "judge",
            Stage::Shard => "shard",
            Stage::Cache => "cache",
        })
    }
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The whole run begins.
    RunStarted {
        /// Cells to go through.
        cells: usize,
        /// Expected time, where one is known.
        expected: Option<Duration>,
    },
    /// A task begins.
    Started {
        /// Number of the task, unique in the run.
        task: u64,
        /// Which stage.
        stage: Stage,
        /// What it works on: a cell, a base.
        what: String,
        /// Expected time, where one is known.
        expected: Option<Duration>,
    },
    /// How far a task is.
    Progress {
        /// Number of the task.
        task: u64,
        /// Done so far.
        done: u64,
        /// Of how many, where that is known.
        total: Option<u64>,
        /// In what unit: `B`, `objects`, `blocks`.
        unit: &'static str,
    },
    /// A task ended.
    Finished {
        /// Number of the task.
        task: u64,
        /// Which stage.
        stage: Stage,
        /// What it worked on.
        what: String,
        /// How it ended, in a few words.
        result: String,
        /// How long it took.
        took: Duration,
    },
    /// Something worth a line of its own.
    Note(String),
    /// Something the reader should not miss.
    Warning(String),
    /// Where the time of the run stands: cells done.
    CellDone {
        /// Cells finished so far.
        done: usize,
        /// Of how many.
        total: usize,
    },
    /// The whole run ended.
    RunFinished,
}

/// Shows or keeps events.
pub trait Sink: Send {
    /// Takes one event; must not fail and must not block for long.
    fn event(&mut self, event: &Event);
}

/// The stream; cheap to clone, usable from every thread.
#[derive(Clone, Default)]
pub struct Events {
    sinks: Arc<Mutex<Vec<Box<dyn Sink>>>>,
    next: Arc<AtomicU64>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

impl Events {
    /// A stream that feeds `sinks`.
    #[must_use]
    pub fn new(sinks: Vec<Box<dyn Sink>>) -> Self {
        Events { sinks: Arc::new(Mutex::new(sinks)), next: Arc::default() }
    }

    /// A stream nobody listens to.
    #[must_use]
    pub fn silent() -> Self {
        Events::default()
    }

    /// Adds a listener, for example the log once the run directory exists.
    pub fn add(&self, sink: Box<dyn Sink>) {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner).push(sink);
    }

    /// Tells everybody.
    pub fn send(&self, event: &Event) {
        for sink in self.sinks.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            sink.event(event);
        }
    }

    /// Tells a note.
    pub fn note(&self, text: impl Into<String>) {
        self.send(&Event::Note(text.into()));
    }

    /// Tells a warning.
    pub fn warning(&self, text: impl Into<String>) {
        self.send(&Event::Warning(text.into()));
    }

    /// Begins a task. Dropping it without [`Task::finish`] tells that it was given up.
    #[must_use]
    pub fn start(&self, stage: Stage, what: impl Into<String>, expected: Option<Duration>) -> Task {
        let task = self.next.fetch_add(1, Ordering::Relaxed);
        let what = what.into();
        self.send(&Event::Started { task, stage, what: what.clone(), expected });
        Task { events: self.clone(), task, stage, what, began: Instant::now(), ended: false }
    }
}

/// A task in progress.
#[derive(Debug)]
pub struct Task {
    events: Events,
    task: u64,
    stage: Stage,
    what: String,
    began: Instant,
    ended: bool,
}

impl Task {
    /// Tells how far it is.
    pub fn progress(&self, done: u64, total: Option<u64>, unit: &'static str) {
        self.events.send(&Event::Progress { task: self.task, done, total, unit });
    }

    /// Ends it with a few words, and gives the time it took.
    pub fn finish(mut self, result: impl Into<String>) -> Duration {
        self.end(result.into())
    }

    fn end(&mut self, result: String) -> Duration {
        self.ended = true;
        let took = self.began.elapsed();
        self.events.send(&Event::Finished {
            task: self.task,
            stage: self.stage,
            what: self.what.clone(),
            result,
            took,
        });
        took
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.ended {
            self.end("given up".into());
        }
    }
}
