// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs one program to its end or to its time limit, and hands on what it prints.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::sys::process::{kill_everyone_else, kill_group, pidfd, wait_for_any};
use crate::sys::set_nonblocking;

/// Bytes read in one go.
const CHUNK: usize = 64 << 10;
/// What is still read once the program is over: its pipes hold 64 KiB each. A process
/// that it left behind may print without end.
const REMAINDER: usize = 1 << 20;
/// How long a killed process may take to be gone.
const DYING: Duration = Duration::from_secs(10);

/// What to run.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub directory: &'a Path,
    pub environment: BTreeMap<&'static str, String>,
    pub limit: Duration,
    /// Kill every process there is but this one, not only the program's group: right
    /// in a guest, where all others are the program's.
    pub alone: bool,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By itself.
    Exited(i32),
    /// By a signal that is not ours.
    Killed(i32),
    /// It was over its time limit.
    TimedOut(Duration),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exited(status) => write!(f, "exit status {status}"),
            End::Killed(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "killed by signal {signal} ({name})"),
                None => write!(f, "killed by signal {signal}"),
            },
            End::TimedOut(limit) => {
                write!(f, "killed at its time limit of {} s", limit.as_secs_f64())
            }
        }
    }
}

/// Which of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Output,
    Error,
}

/// Starts the program; a script with its interpreter where the kernel takes no scripts
/// (`CONFIG_BINFMT_SCRIPT`).
pub(super) fn start(job: &Job<'_>) -> Result<Child, Failure> {
    let failed = |program: &Path| {
        let what = format!("starting {}", program.display());
        move |e: io::Error| Failure::at(what, &e)
    };
    let plain = spawn(job, &job.program, &[]);
    let Err(error) = plain else { return plain.map_err(failed(&job.program)) };
    let script = (error.raw_os_error() == Some(libc::ENOEXEC))
        .then(|| File::open(&job.program).ok().and_then(|file| interpreter(file).ok().flatten()));
    match script.flatten() {
        Some((interpreter, mut words)) => {
            words.push(job.program.display().to_string());
            spawn(job, &interpreter, &words).map_err(failed(&interpreter))
        }
        None => Err(failed(&job.program)(error)),
    }
}

/// Starts a program with words in front of the job's own.
fn spawn(job: &Job<'_>, program: &Path, words: &[String]) -> io::Result<Child> {
    let mut command = Command::new(program);
    command
        .args(words)
        .args(&job.arguments)
        .env_clear()
        .envs(&job.environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    // With a folder to change to, std does without posix_spawn(3) in a static program, and
    // its other way asks for an AF_UNIX socket, which the guests' kernels do not have.
    if std::env::current_dir().ok().as_deref() != Some(job.directory) {
        command.current_dir(job.directory);
    }
    command.spawn()
}

/// What the first line of a script names: the interpreter, and its one argument. See
/// execve(2).
fn interpreter(script: impl Read) -> io::Result<Option<(PathBuf, Vec<String>)>> {
    let mut head = Vec::new();
    script.take(256).read_to_end(&mut head)?;
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Some(named) = line.strip_prefix(b"#!") else { return Ok(None) };
    let named = String::from_utf8_lossy(named);
    let (program, argument) = match named.trim().split_once([' ', '\t']) {
        Some((program, argument)) => (program, vec![argument.trim().to_owned()]),
        None => (named.trim(), Vec::new()),
    };
    Ok((!program.is_empty()).then(|| (PathBuf::from(program), argument)))
}

/// Sees a program that has just been started to its end. `hear` gets what it prints, piece
/// by piece; the answer is how it ended and how many seconds it took. Afterwards neither it
/// nor its group is left.
pub(super) fn finish(
    job: &Job<'_>,
    mut child: Child,
    mut hear: impl FnMut(Stream, &[u8]),
) -> Result<(End, f64), Failure> {
    let at = |work: &str, error: &io::Error| Failure::at(work, error);
    let start = Instant::now();
    let ended =
        watch(job, &mut child, start, &mut hear).map_err(|e| at("watching the command", &e));
    kill(job, &child);
    let (end, seconds, pipes) = ended?;
    for (stream, pipe) in pipes {
        if let Some(pipe) = pipe {
            drain(stream, pipe, &mut hear).map_err(|e| at("reading the command's output", &e))?;
        }
    }
    Ok((end, seconds))
}

type Pipes = [(Stream, Option<File>); 2];

/// Waits for the end, and reads meanwhile.
fn watch(
    job: &Job<'_>,
    child: &mut Child,
    start: Instant,
    hear: &mut impl FnMut(Stream, &[u8]),
) -> io::Result<(End, f64, Pipes)> {
    let over = pidfd(child.id())?;
    let mut pipes = [
        (Stream::Output, pipe(child.stdout.take().map(OwnedFd::from))?),
        (Stream::Error, pipe(child.stderr.take().map(OwnedFd::from))?),
    ];
    let mut chunk = vec![0; CHUNK];
    loop {
        let Some(rest) = job.limit.checked_sub(start.elapsed()).filter(|rest| !rest.is_zero())
        else {
            kill(job, child);
            // It may have ended by itself in the last moment; late is late.
            wait_dead(child)?;
            return Ok((End::TimedOut(job.limit), start.elapsed().as_secs_f64(), pipes));
        };
        let fds = [
            pipes[0].1.as_ref().map(AsFd::as_fd),
            pipes[1].1.as_ref().map(AsFd::as_fd),
            Some(over.as_fd()),
        ];
        let ready = wait_for_any(fds, rest.min(Duration::from_secs(1)))?;
        if ready[2] {
            let seconds = start.elapsed().as_secs_f64();
            let end = wait_dead(child)?;
            return Ok((how(end), seconds, pipes));
        }
        for (stream, pipe) in
            pipes.iter_mut().zip(ready).filter(|(_, ready)| *ready).map(|(p, _)| p)
        {
            let Some(file) = pipe else { continue };
            match read(file, &mut chunk)? {
                // Closed, though the program goes on.
                Some(0) => *pipe = None,
                Some(length) => hear(*stream, &chunk[..length]),
                None => {}
            }
        }
    }
}

fn pipe(fd: Option<OwnedFd>) -> io::Result<Option<File>> {
    let file = fd.map(File::from);
    if let Some(file) = &file {
        set_nonblocking(file, true)?;
    }
    Ok(file)
}

/// What can be read now; `None` if that is nothing.
fn read(file: &mut File, chunk: &mut [u8]) -> io::Result<Option<usize>> {
    match file.read(chunk) {
        Ok(length) => Ok(Some(length)),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Reads what a program that is over has left in its pipe.
fn drain(stream: Stream, mut pipe: File, hear: &mut impl FnMut(Stream, &[u8])) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut total = 0;
    while total < REMAINDER {
        match read(&mut pipe, &mut chunk)? {
            None | Some(0) => break,
            Some(length) => hear(stream, &chunk[..length]),
        }
        total += CHUNK;
    }
    Ok(())
}

fn kill(job: &Job<'_>, child: &Child) {
    if job.alone {
        kill_everyone_else();
    } else {
        kill_group(child.id());
    }
}

/// The status of a process that is over or about to be.
fn wait_dead(child: &mut Child) -> io::Result<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if start.elapsed() > DYING {
            return Err(io::Error::other("it cannot be killed: it hangs in the kernel"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn how(status: ExitStatus) -> End {
    match (status.signal(), status.code()) {
        (Some(signal), _) => End::Killed(signal),
        (None, code) => End::Exited(code.unwrap_or_default()),
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(script: &str, limit: Duration) -> (String, Vec<u8>, Vec<u8>) {
        let job = Job {
            program: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            directory: Path::new("/"),
            environment: BTreeMap::from([("PATH", "/bin:/usr/bin".to_owned())]),
            limit,
            alone: false,
        };
        let (mut output, mut error) = (Vec::new(), Vec::new());
        let (end, seconds) = finish(&job, start(&job).unwrap(), |stream, bytes| match stream {
            Stream::Output => output.extend_from_slice(bytes),
            Stream::Error => error.extend_from_slice(bytes),
        })
        .unwrap();
        assert!(seconds > 0.0 && seconds < limit.as_secs_f64() + 15.0);
        (end.to_string(), output, error)
    }

    const LONG: Duration = Duration::from_secs(60);

    /// The first line of a script is read as execve(2) does.
    #[test]
    fn interpreters_are_read() {
        let read = |script: &str| {
            let found = interpreter(script.as_bytes()).unwrap();
            found.map(|(program, words)| (program.display().to_string(), words.join("|")))
        };
        let some = |program: &str, words: &str| Some((program.to_owned(), words.to_owned()));
        assert_eq!(read("#!/bin/sh\necho"), some("/bin/sh", ""));
        assert_eq!(read("#! /bin/sh -e -u \necho"), some("/bin/sh", "-e -u"));
        for none in ["", "#!", "#!\n/bin/sh", "echo", "\u{7f}ELF"] {
            assert_eq!(read(none), None, "{none:?}");
        }
    }

    /// Both streams are heard to their last byte, however much it is, and the end is told.
    #[test]
    fn all_is_heard() {
        let (end, output, error) = ran("echo out; echo err >&2; exit 3", LONG);
        assert_eq!(
            (end.as_str(), &output[..], &error[..]),
            ("exit status 3", &b"out\n"[..], &b"err\n"[..])
        );
        let (end, output, _) = ran("head -c 50000000 /dev/zero", LONG);
        assert_eq!((end.as_str(), output.len()), ("exit status 0", 50_000_000));
    }

    /// A program that dies is told by its signal.
    #[test]
    fn signals_have_names() {
        assert_eq!(ran("kill -SEGV $$", LONG).0, "killed by signal 11 (SIGSEGV)");
    }

    /// One that never ends, whether silent or loud, ends at its limit, and so do its
    /// children.
    #[test]
    fn limits_hold() {
        let limit = Duration::from_millis(300);
        for script in ["sleep 1000", "sleep 1000 & sleep 1000", "while :; do echo y; done"] {
            let (end, _, _) = ran(script, limit);
            assert_eq!(end, "killed at its time limit of 0.3 s");
        }
    }

    /// A process left behind does not keep the run from ending, nor live on.
    #[test]
    fn nothing_is_left_behind() {
        let (end, output, _) = ran("sleep 1000 & echo $!", LONG);
        assert_eq!(end, "exit status 0");
        let pid: u32 = String::from_utf8(output).unwrap().trim().parse().unwrap();
        let start = Instant::now();
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // A zombie is whoever's that has to collect it.
            if stat.is_empty() || stat.contains(") Z ") {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{stat}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Closing its output does not end a program.
    #[test]
    fn closed_output_is_no_end() {
        assert_eq!(ran("exec >&- 2>&-; sleep 0.2; exit 5", LONG).0, "exit status 5");
    }
}
