// SPDX-License-Identifier: MIT OR Apache-2.0
//! Child processes: every program we run is started, watched and ended here.
//!
//! Each child gets its own process group, so that ending it ends what it
//! started, and a parent-death signal, so that `kill -9` of the runner leaves
//! nothing behind. The kernel sends that signal when the *thread* that forked
//! ends (prctl(2), PR_SET_PDEATHSIG), so all children are forked from one
//! thread that lives as long as the process.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};

use crate::base::error::{Context, Error, Result};

/// How often a waiting runner looks at the clock and at [`Cancel`].
const TICK: Duration = Duration::from_millis(20);
/// Time between the polite signal and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// Bytes of output kept for an error message.
const TAIL: usize = 4096;

/// CPUs of this host, as far as this process may use them.
#[must_use]
pub fn host_cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}

/// Set once by Ctrl-C or SIGTERM; everything that waits looks at it.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A token nobody has pulled.
    #[must_use]
    pub fn new() -> Self {
        Cancel::default()
    }

    /// Asks everything to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether somebody asked.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// [`Error::interrupted`] once somebody asked.
    ///
    /// # Errors
    /// Exactly then.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::interrupted()) } else { Ok(()) }
    }
}

/// A command line with its surroundings.
#[derive(Clone, Debug)]
pub struct Command {
    program: OsString,
    args: Vec<OsString>,
    cwd: Option<PathBuf>,
    env: Vec<(OsString, Option<OsString>)>,
    only_env: Option<Vec<(OsString, OsString)>>,
    log: Option<PathBuf>,
    timeout: Option<Duration>,
    stdin: Option<Vec<u8>>,
}

/// A command that ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output, unless it went to a log.
    pub stdout: Vec<u8>,
    /// The last lines of standard error (of the log, where there is one).
    pub tail: String,
    /// Whether we ended it because its time was up.
    pub timed_out: bool,
}

impl Finished {
    /// Ended by itself with status 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status.success() && !self.timed_out
    }

    /// Standard output as text, without the last line end.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }
}

impl Command {
    /// A command; `program` is looked up in `PATH`.
    pub fn new(program: impl Into<OsString>) -> Self {
        Command {
            program: program.into(),
            args: Vec::new(),
            cwd: None,
            env: Vec::new(),
            only_env: None,
            log: None,
            timeout: None,
            stdin: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<OsString>,
    {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Runs in this directory.
    #[must_use]
    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = Some(dir.into());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), Some(value.into())));
        self
    }

    /// Runs with exactly this environment (plus what [`Command::env`] adds).
    #[must_use]
    pub fn only_env<I, K, V>(mut self, env: I) -> Self
    where
        I: IntoIterator<Item = (K, V)>,
        K: Into<OsString>,
        V: Into<OsString>,
    {
        self.only_env = Some(env.into_iter().map(|(k, v)| (k.into(), v.into())).collect());
        self
    }

    /// Sends standard output and error to this file (created, or emptied).
    #[must_use]
    pub fn log(mut self, path: impl Into<PathBuf>) -> Self {
        self.log = Some(path.into());
        self
    }

    /// Ends the command after this time.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Feeds standard input; otherwise it is `/dev/null`.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Program and arguments.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        std::iter::once(&self.program)
            .chain(&self.args)
            .map(|word| word.to_string_lossy().into_owned())
            .collect()
    }

    /// The command line as one could type it into a shell.
    #[must_use]
    pub fn shell_line(&self) -> String {
        let set = self.env.iter().filter_map(|(name, value)| {
            let value = value.as_ref()?.to_string_lossy();
            Some(format!("{}={}", name.to_string_lossy(), quote(&value)))
        });
        set.chain(self.argv().iter().map(|word| quote(word))).collect::<Vec<_>>().join(" ")
    }

    /// Starts it.
    ///
    /// # Errors
    /// Missing program (as a missing prerequisite), missing directory, no
    /// more processes.
    pub fn start(&self) -> Result<Child> {
        let mut expression = duct::cmd(&self.program, &self.args).unchecked();
        if let Some(dir) = &self.cwd {
            expression = expression.dir(dir);
        }
        // In duct the innermost setting wins, so the last one said goes in first.
        for (name, value) in self.env.iter().rev() {
            expression = match value {
                Some(value) => expression.env(name, value),
                None => expression.env_remove(name),
            };
        }
        if let Some(env) = &self.only_env {
            expression = expression.full_env(env.clone());
        }
        expression = match &self.stdin {
            Some(bytes) => expression.stdin_bytes(bytes.clone()),
            None => expression.stdin_null(),
        };
        expression = match &self.log {
            Some(path) => {
                let file = fs::File::create(path).at_path("create the log", path)?;
                expression.stderr_to_stdout().stdout_file(file)
            }
            None => expression.stdout_capture().stderr_capture(),
        };
        let expression = expression.before_spawn(own_group_and_death_signal);
        let handle = on_spawner(move || expression.start()).map_err(|cause| {
            let program = self.program.to_string_lossy();
            match cause.kind() {
                io::ErrorKind::NotFound => Error::missing(format!("`{program}` was not found"))
                    .hint("run `bakeoff doctor` to see what is missing and why it is needed")
                    .because(cause),
                _ => Error::failure(format!("failed to start `{program}`")).because(cause),
            }
        })?;
        let group = handle.pids().first().and_then(|pid| Pid::from_raw(i32::try_from(*pid).ok()?));
        Ok(Child { handle, group, began: Instant::now(), log: self.log.clone(), ended: false })
    }

    /// Runs it to its end, its timeout, or until `cancel`.
    ///
    /// A status other than 0 is not an error here: what it means is the caller's to say.
    ///
    /// # Errors
    /// As [`Command::start`]; or interrupted.
    pub fn run(&self, cancel: &Cancel) -> Result<Finished> {
        self.run_watched(cancel, &mut |_| {})
    }

    /// As [`Command::run`]; calls `watch` with the elapsed time every now and then.
    ///
    /// # Errors
    /// As [`Command::run`].
    pub fn run_watched(
        &self,
        cancel: &Cancel,
        watch: &mut dyn FnMut(Duration),
    ) -> Result<Finished> {
        let mut child = self.start()?;
        loop {
            if let Some(finished) = child.wait_for(TICK)? {
                return Ok(finished);
            }
            let elapsed = child.began.elapsed();
            watch(elapsed);
            if cancel.is_cancelled() {
                child.end();
                return Err(Error::interrupted());
            }
            if self.timeout.is_some_and(|limit| elapsed >= limit) {
                child.end();
                let mut finished = child.wait_for(GRACE)?.ok_or_else(|| {
                    Error::failure(format!("`{}` does not die", self.program.to_string_lossy()))
                })?;
                finished.timed_out = true;
                return Ok(finished);
            }
        }
    }

    /// Runs it and insists on status 0.
    ///
    /// # Errors
    /// As [`Command::run`]; and any other status, with the last lines it said.
    pub fn check(&self, cancel: &Cancel) -> Result<Finished> {
        let finished = self.run(cancel)?;
        if finished.success() {
            return Ok(finished);
        }
        let how = if finished.timed_out {
            format!("did not end within {:.0?}", self.timeout.unwrap_or_default())
        } else {
            finished.status.to_string()
        };
        let said = finished.tail.trim();
        let said = if said.is_empty() { "(it said nothing)" } else { said };
        Err(Error::failure(format!("`{}` failed ({how}): {said}", self.shell_line())))
    }
}

/// A running child; dropping it ends it and everything in its group.
#[derive(Debug)]
pub struct Child {
    handle: duct::Handle,
    group: Option<Pid>,
    began: Instant,
    log: Option<PathBuf>,
    ended: bool,
}

impl Child {
    /// Waits up to `time` for its end.
    ///
    /// # Errors
    /// Failures of waitpid(2).
    pub fn wait_for(&mut self, time: Duration) -> Result<Option<Finished>> {
        let waited = self.handle.wait_timeout(time);
        let Some(output) = waited.context(|| "wait for a child".into())? else {
            return Ok(None);
        };
        let output = output.clone();
        self.ended = true;
        let tail = match &self.log {
            Some(path) => tail_of(path),
            None => last_bytes(&output.stderr),
        };
        Ok(Some(Finished { status: output.status, stdout: output.stdout, tail, timed_out: false }))
    }

    /// Ends the whole group: SIGTERM, a grace period, SIGKILL.
    pub fn end(&mut self) {
        if self.ended {
            return;
        }
        self.signal(Signal::TERM);
        if !matches!(self.handle.wait_timeout(GRACE), Ok(Some(_))) {
            self.signal(Signal::KILL);
        }
        // Stragglers of the group that ignored SIGTERM while the leader obeyed it.
        self.signal(Signal::KILL);
    }

    /// Ends the whole group at once.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // The group may be gone already, which is what we want.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended {
            self.kill();
            let _ = self.handle.wait_timeout(GRACE);
        }
    }
}

/// Whether `program` is in `PATH` (or is a path to an executable).
#[must_use]
pub fn find_program(program: &str) -> Option<PathBuf> {
    let executable = |path: &Path| {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| executable(path));
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join(program))
        .find(|path| executable(path))
}

/// Writes an executable script, for tests. A child writes it: a child forked by
/// another thread while *we* hold the file open for writing would make starting
/// it fail (ETXTBSY).
#[cfg(test)]
pub(crate) fn write_script(path: &Path, text: &str) -> Result<()> {
    let write = "cat >\"$0\" && chmod 755 \"$0\"";
    let write = Command::new("sh").args(["-c", write]).arg(path).stdin(text);
    write.check(&Cancel::new()).map(drop)
}

/// Quotes a word for a POSIX shell.
#[must_use]
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The last lines of a file, for an error message; empty if it cannot be read.
#[must_use]
pub fn tail_of(path: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> io::Result<Vec<u8>> {
        let mut file = fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL as u64)))?;
        let mut bytes = Vec::new();
        file.take(TAIL as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map(|bytes| last_bytes(&bytes)).unwrap_or_default()
}

/// The last `count` lines of a text, for an error message.
#[must_use]
pub fn last_lines(text: &str, count: usize) -> &str {
    let text = text.trim_end();
    match text.rmatch_indices('\n').nth(count.saturating_sub(1)) {
        Some((at, _)) => &text[at + 1..],
        None => text,
    }
}

fn last_bytes(bytes: &[u8]) -> String {
    let from = bytes.len().saturating_sub(TAIL);
    String::from_utf8_lossy(&bytes[from..]).into_owned()
}

// The closure runs between fork and exec, where only async-signal-safe calls
// are allowed.
#[allow(unsafe_code)]
fn own_group_and_death_signal(command: &mut std::process::Command) -> io::Result<()> {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
    // SAFETY: prctl(2) is a plain system call: it allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(|| {
            set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)
        });
    }
    Ok(())
}

type Job = Box<dyn FnOnce() + Send>;

/// Runs `spawn` on the one thread that forks children.
fn on_spawner<T: Send + 'static>(
    spawn: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    static SPAWNER: OnceLock<Option<Sender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, inbox) = channel::<Job>();
        std::thread::Builder::new()
            .name("spawner".into())
            .spawn(move || inbox.into_iter().for_each(|job| job()))
            .ok()
            .map(|_| jobs)
    });
    let gone = || io::Error::other("the thread that starts children is gone");
    let (answer, wait) = channel();
    let job: Job = Box::new(move || {
        let _ = answer.send(spawn());
    });
    spawner.as_ref().ok_or_else(gone)?.send(job).map_err(|_| gone())?;
    wait.recv().map_err(|_| gone())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A status other than 0 is the caller's to judge, and what was said is kept.
    #[test]
    fn failing_commands_keep_their_last_words() {
        let sh = Command::new("sh").args(["-c", "echo out; echo why >&2; exit 3"]);
        let finished = sh.run(&Cancel::new()).unwrap();
        assert_eq!(finished.status.code(), Some(3));
        assert_eq!(finished.text(), "out");
        assert_eq!(finished.tail.trim(), "why");
        let error = sh.check(&Cancel::new()).unwrap_err();
        assert!(error.message().contains("exit status: 3"), "{error}");
        assert!(error.message().ends_with("why"), "{error}");
    }

    /// A missing program is a missing prerequisite with a next step, not a failure.
    #[test]
    fn missing_program_has_a_hint() {
        let error = Command::new("no-such-program-here").run(&Cancel::new()).unwrap_err();
        assert_eq!(error.kind(), crate::base::error::Kind::MissingPrerequisite);
        assert!(error.next_step().is_some());
    }

    /// A timeout ends grandchildren too: the whole group goes.
    #[test]
    fn timeout_ends_the_group() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", pid_file.display());
        let sh = Command::new("sh").args(["-c", &script]).timeout(Duration::from_millis(300));
        let finished = sh.run(&Cancel::new()).unwrap();
        assert!(finished.timed_out);
        let pid: i32 = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
        let gone = || rustix::process::test_kill_process(Pid::from_raw(pid).unwrap()).is_err();
        let deadline = Instant::now() + Duration::from_secs(20);
        // A zombie waiting for init to reap it still answers the null signal.
        let zombie = || {
            fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
        };
        while !gone() && !zombie() {
            assert!(Instant::now() < deadline, "grandchild {pid} survived");
            std::thread::sleep(TICK);
        }
    }

    /// Cancelling ends a running command and says so.
    #[test]
    fn cancel_interrupts() {
        let cancel = Cancel::new();
        let other = cancel.clone();
        let thread = std::thread::spawn(move || Command::new("sleep").arg("1000").run(&other));
        std::thread::sleep(Duration::from_millis(100));
        cancel.cancel();
        let error = thread.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), crate::base::error::Kind::Interrupted);
    }

    /// `only_env` takes everything else away, and `env` adds to it; the last
    /// value of a variable counts.
    #[test]
    fn environment_is_what_was_said() {
        let sh = Command::new("sh")
            .args(["-c", "echo $A-$B-$HOME"])
            .only_env([("PATH", std::env::var_os("PATH").unwrap())])
            .env("A", "1")
            .env("B", "2")
            .env("A", "3");
        assert_eq!(sh.check(&Cancel::new()).unwrap().text(), "3-2-");
    }

    /// The printed command line can be pasted into a shell.
    #[test]
    fn shell_lines_are_quoted() {
        let line = Command::new("make").arg("A=b c").arg("it's").env("X", "1 2").shell_line();
        assert_eq!(line, r"X='1 2' make 'A=b c' 'it'\''s'");
    }
}
