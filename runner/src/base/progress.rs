// SPDX-License-Identifier: MIT OR Apache-2.0
//! Consumers of the event stream: bars for a terminal, lines elsewhere, a log.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::base::error::{Context, Result};
use crate::base::event::{Event, Sink};

/// Progress bars on standard error.
#[derive(Debug)]
pub struct Bars {
    multi: MultiProgress,
    total: Option<ProgressBar>,
    tasks: HashMap<u64, ProgressBar>,
}

impl Default for Bars {
    fn default() -> Self {
        Bars::new()
    }
}

impl Bars {
    /// Bars that draw on standard error.
    #[must_use]
    pub fn new() -> Self {
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8));
        Bars { multi, total: None, tasks: HashMap::new() }
    }

    fn say(&self, line: &str) {
        // Fails only when standard error is gone, and then nobody reads it.
        let _ = self.multi.println(line);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl Sink for Bars {
    fn event(&mut self, event: &Event) {
        match event {
            Event::RunStarted { cells, expected } => {
                let bar = self.multi.add(ProgressBar::new(*cells as u64));
                bar.set_style(style("{prefix:<7} [{bar:25}] {pos}/{len} cells  {elapsed} {msg}"));
                bar.set_prefix("run");
                bar.set_message(of_about(*expected));
                bar.enable_steady_tick(Duration::from_secs(1));
                self.total = Some(bar);
            }
            Event::Started { task, stage, what, expected } => {
                let bar = ProgressBar::new_spinner();
                let bar = match &self.total {
                    Some(total) => self.multi.insert_before(total, bar),
                    None => self.multi.add(bar),
                };
                bar.set_style(style("{prefix:<7} {wide_msg}  {elapsed}"));
                bar.set_prefix(stage.to_string());
                bar.set_message(format!("{what} {}", of_about(*expected)));
                bar.enable_steady_tick(Duration::from_secs(1));
                self.tasks.insert(*task, bar);
            }
            Event::Progress { task, done, total, unit } => {
                if let Some(bar) = self.tasks.get(task) {
                    match total {
                        Some(total) => {
                            bar.set_length(*total);
                            bar.set_style(match *unit {
                                "B" => style(
                                    "{prefix:<7} {wide_msg}  [{bar:20}] {bytes}/{total_bytes} {elapsed}",
                                ),
                                _ => style(&format!(
                                    "{{prefix:<7}} {{wide_msg}}  [{{bar:20}}] {{pos}}/{{len}} {unit} {{elapsed}}"
                                )),
                            });
                        }
                        None => bar.set_style(style(&format!(
                            "{{prefix:<7}} {{wide_msg}}  {{pos}} {unit} {{elapsed}}"
                        ))),
                    }
                    bar.set_position(*done);
                }
            }
            Event::Finished { task, stage, what, result, took } => {
                if let Some(bar) = self.tasks.remove(task) {
                    bar.finish_and_clear();
                    self.multi.remove(&bar);
                }
                self.say(&format!("{stage:<7} {what}: {result}  {}", seconds(*took)));
            }
            Event::Note(text) => self.say(text),
            Event::Warning(text) => self.say(&format!("warning: {text}")),
            Event::CellDone { done, .. } => {
                if let Some(bar) = &self.total {
                    bar.set_position(*done as u64);
                }
            }
            Event::RunFinished => {
                if let Some(bar) = self.total.take() {
                    bar.finish_and_clear();
                }
            }
        }
    }
}

/// One line when something begins or ends; for CI logs and pipes.
#[derive(Debug)]
pub struct Lines<W> {
    out: W,
    only_warnings: bool,
}

impl<W: Write> Lines<W> {
    /// Lines to `out`.
    pub fn new(out: W) -> Self {
        Lines { out, only_warnings: false }
    }

    /// Nothing but warnings to `out`.
    pub fn warnings(out: W) -> Self {
        Lines { out, only_warnings: true }
    }
}

impl<W: Write + Send> Sink for Lines<W> {
    fn event(&mut self, event: &Event) {
        let line = match event {
            Event::Warning(text) => Some(format!("warning: {text}")),
            _ if self.only_warnings => None,
            other => line(other),
        };
        if let Some(line) = line {
            // A closed standard error is nobody's problem.
            let _ = writeln!(self.out, "{line}");
        }
    }
}

/// The log of a run: every event but the ticks, with the time since it began.
#[derive(Debug)]
pub struct Log {
    file: File,
    began: Instant,
}

impl Log {
    /// Appends to `path`.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn append(path: &Path) -> Result<Log> {
        let file = File::options().create(true).append(true).open(path);
        Ok(Log { file: file.at_path("open the log", path)?, began: Instant::now() })
    }
}

impl Sink for Log {
    fn event(&mut self, event: &Event) {
        if let Some(line) = line(event) {
            // A full disk is found by the stages, which must not lose records.
            let _ = writeln!(self.file, "{:>9.3} {line}", self.began.elapsed().as_secs_f64());
        }
    }
}

/// What begins the note that there is a page before the run is over.
pub const INTERIM: &str = "interim page: ";

/// How long a run took, by its log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spent {
    /// Seconds, of all calls that worked on it.
    pub seconds: f64,
    /// Seconds after which there was a page, before the last one.
    pub pages: Vec<f64>,
}

impl Spent {
    /// Reads a log. Each call that works on a run begins anew to count.
    #[must_use]
    pub fn read(log: &str) -> Spent {
        let mut spent = Spent::default();
        let (mut before, mut last) = (0.0, 0.0);
        for line in log.lines() {
            let line = line.trim_start();
            let Some((at, what)) = line.split_once(' ') else { continue };
            let Ok(at) = at.parse::<f64>() else { continue };
            if at < last {
                before += last;
            }
            last = at;
            if what.trim_start().starts_with(INTERIM) {
                spent.pages.push(before + at);
            }
        }
        spent.seconds = before + last;
        spent
    }
}

fn line(event: &Event) -> Option<String> {
    match event {
        Event::RunStarted { cells, expected } => {
            Some(format!("run     {cells} cells{}", with_space(&of_about(*expected))))
        }
        Event::Started { stage, what, expected, .. } => {
            Some(format!("{stage:<7} {what} ...{}", with_space(&of_about(*expected))))
        }
        Event::Finished { stage, what, result, took, .. } => {
            Some(format!("{stage:<7} {what}: {result}  {}", seconds(*took)))
        }
        Event::Note(text) => Some(text.clone()),
        Event::Warning(text) => Some(format!("warning: {text}")),
        Event::CellDone { done, total } => Some(format!("run     {done}/{total} cells")),
        Event::RunFinished => Some("run     over".to_owned()),
        Event::Progress { .. } => None,
    }
}

fn with_space(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" {text}") }
}

fn of_about(expected: Option<Duration>) -> String {
    expected.map_or_else(String::new, |time| format!("(about {})", rough(time)))
}

/// `3.4 s`, `2 min 5 s`: a measured time.
#[must_use]
pub fn seconds(time: Duration) -> String {
    let s = time.as_secs_f64();
    if s < 60.0 { format!("{s:.1} s") } else { rough(time) }
}

/// `40 s`, `3 min 20 s`, `1 h 5 min`: a time nobody needs to the tenth.
#[must_use]
pub fn rough(time: Duration) -> String {
    let s = time.as_secs_f64().round() as u64;
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, 0) => format!("{m} min"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::event::{Events, Stage};

    /// Time is added up over the calls that worked on a run, and what is not of the log's form
    /// (a line that a full disk cut) is passed over.
    #[test]
    fn a_log_tells_how_long_a_run_took() {
        let log = "    0.618 fetch   a ...\n   40.000 interim page: x (open)\n   50.500 boot\n\
                   no time\n    0.100 boot    b\n   10.000 interim page: x\n   20.000 run     over\n   7";
        let spent = Spent { seconds: 70.5, pages: vec![40.0, 60.5] };
        assert_eq!(Spent::read(log), spent);
        assert_eq!(Spent::read(""), Spent::default());
    }

    /// A task shows as one line when it begins and one with its result; one that is
    /// dropped on the way says so, so that no log ends in the air.
    #[test]
    fn lines_tell_begin_and_end() {
        #[derive(Clone, Default)]
        struct Shared(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
        impl Write for Shared {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let out = Shared::default();
        let events = Events::new(vec![Box::new(Lines::new(out.clone()))]);
        events.start(Stage::Build, "a", Some(Duration::from_secs(200))).finish("built");
        drop(events.start(Stage::Boot, "b", None));
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "build   a ... (about 3 min 20 s)");
        assert!(lines[1].starts_with("build   a: built  0."), "{text}");
        assert!(lines[3].starts_with("boot    b: given up"), "{text}");
    }
}
