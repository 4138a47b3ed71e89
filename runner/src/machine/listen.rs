// SPDX-License-Identifier: MIT OR Apache-2.0
//! Listens to everything that comes out of a guest.
//!
//! A thread a socket reads as fast as QEMU writes, so that a guest waits for us
//! only if we are hopelessly behind; and what is held meanwhile is bounded.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use crate::base::error::{Context, Result};
use crate::machine::boot::Outlets;
use crate::machine::qmp::QmpEvent;

/// How often the guest is looked after when nothing comes from it.
pub(crate) const TICK: Duration = Duration::from_millis(20);
/// Bytes read at once, and how many such reads may wait: 32 MiB.
const CHUNK: usize = 1 << 16;
const WAITING: usize = 512;

/// What came out of a guest.
pub(crate) enum Happening {
    /// The console said something.
    Console { bytes: Vec<u8>, at: Instant },
    /// Records, or parts of some.
    Records { bytes: Vec<u8>, at: Instant },
}

/// All that comes out of a guest.
pub(crate) struct Listener {
    happenings: Receiver<Happening>,
    events: Receiver<QmpEvent>,
    over: bool,
}

impl Listener {
    pub(crate) fn start(outlets: Outlets, events: Receiver<QmpEvent>) -> Result<Listener> {
        let (send, happenings) = sync_channel(WAITING);
        let Outlets { console, records } = outlets;
        read("console", console, send.clone(), |bytes, at| Happening::Console { bytes, at })?;
        read("records", records, send, |bytes, at| Happening::Records { bytes, at })?;
        Ok(Listener { happenings, events, over: false })
    }

    /// The next that comes within a tick.
    pub(crate) fn next(&mut self) -> Option<Happening> {
        if self.over {
            std::thread::sleep(TICK);
            return None;
        }
        match self.happenings.recv_timeout(TICK) {
            Ok(happening) => Some(happening),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                self.over = true;
                None
            }
        }
    }

    /// Both sockets are closed, and all they brought was taken.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// QEMU's events so far.
    pub(crate) fn events(&mut self) -> Vec<QmpEvent> {
        self.events.try_iter().collect()
    }

    /// QEMU's events until it closes the control connection.
    pub(crate) fn last_events(&mut self, limit: Duration) -> Vec<QmpEvent> {
        let until = Instant::now() + limit;
        let mut events = Vec::new();
        loop {
            match self.events.try_recv() {
                Ok(event) => events.push(event),
                Err(TryRecvError::Disconnected) => return events,
                Err(TryRecvError::Empty) if Instant::now() >= until => return events,
                Err(TryRecvError::Empty) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }
}

fn read(
    name: &str,
    mut from: UnixStream,
    to: SyncSender<Happening>,
    make: impl Fn(Vec<u8>, Instant) -> Happening + Send + 'static,
) -> Result<()> {
    let listen = move || {
        let mut buffer = vec![0; CHUNK];
        loop {
            match from.read(&mut buffer) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default().to_vec();
                    if to.send(make(bytes, Instant::now())).is_err() {
                        return;
                    }
                }
            }
        }
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(listen)
        .map(drop)
        .context(|| "start a thread".into())
}

/// The console's lines, as far as the end of a boot depends on them.
#[derive(Debug, Default)]
pub(crate) struct Console {
    line: String,
    last: String,
    lines: u64,
    /// Bytes so far, and where the line that is being read begins.
    bytes: u64,
    line_at: u64,
    panic: Option<String>,
    gave_up: Option<String>,
    breakpoint: Breakpoint,
    /// Where the line before this one begins.
    before_at: u64,
    /// Where the kernel began to say that NMIs are nested too deep.
    nested_at: Option<u64>,
}

/// What is known of a breakpoint trap that no handler of the kernel's wanted.
#[derive(Debug, Default)]
enum Breakpoint {
    /// There was none, or it was a real one.
    #[default]
    None,
    /// Reported, from this byte of the console on; the instruction bytes follow.
    Reported(u64),
    /// The trap came from where there is no breakpoint but this byte; reported from
    /// there on.
    Stale(String, u64),
}

/// How x86 reports such a trap.
const INT3: &str = "int3: 0000 [#";
/// What it says when its handler runs into it again and again (`irqentry_nmi_enter()`).
const NESTED: &str = "kernel BUG at kernel/entry/common.c:";
/// A trap in a call trace: its registers and the instruction bytes follow.
const INT3_TRACED: &str = "asm_exc_int3+";
/// The instruction.
const INT3_BYTE: &str = "cc";

/// Bytes of a line that are looked at.
const LINE: usize = 1000;
/// How the kernel begins a panic.
const PANIC: &str = "Kernel panic - not syncing";
/// How the agent begins its last words, before it ends the guest early.
const GAVE_UP: [&str; 2] = [
    "bakeoff-agent: gives up: ",
    "bakeoff-agent: this program runs inside bakeoff's guests only: ",
];

impl Console {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE.saturating_sub(self.line.len());
            let text = String::from_utf8_lossy(part);
            self.line.extend(text.chars().filter(|c| !c.is_control()).take(room));
            self.bytes += part.len() as u64;
            if part.ends_with(b"\n") {
                self.end_of_line();
                self.before_at = self.line_at;
                self.line_at = self.bytes;
            }
        }
    }

    /// Nothing more comes: whoever panicked may not have lived to end the line.
    pub(crate) fn finish(&mut self) {
        if !self.line.is_empty() {
            self.end_of_line();
        }
    }

    fn end_of_line(&mut self) {
        self.lines += 1;
        let line = std::mem::take(&mut self.line);
        if self.panic.is_none()
            && let Some(at) = line.find(PANIC)
        {
            self.panic = line.get(at..).map(|text| text.trim_end().to_owned());
        }
        for words in GAVE_UP {
            if let Some((_, why)) = line.split_once(words) {
                self.gave_up = Some(why.trim_end().to_owned());
            }
        }
        self.look_for_stale_breakpoint(&line);
        if !line.trim().is_empty() {
            self.last = line.trim().to_owned();
        }
    }

    /// A kernel that patches its text puts breakpoints into it for a moment. TCG's
    /// translated code can still run into one after it was taken away, and the kernel,
    /// which knows of none there, dies. The report betrays it: the byte just before
    /// the saved instruction pointer, as it is in memory, is not the breakpoint's. Where
    /// the trap's own handler comes there (it lets go of locks), it traps until NMIs are
    /// nested too deep.
    fn look_for_stale_breakpoint(&mut self, line: &str) {
        if line.contains(NESTED) {
            // The line before it is where that report begins.
            self.nested_at.get_or_insert(self.before_at);
        }
        match (&self.breakpoint, self.nested_at) {
            (Breakpoint::None, Some(at)) if line.contains(INT3_TRACED) => {
                self.breakpoint = Breakpoint::Reported(at);
            }
            (Breakpoint::None, _) if line.contains(INT3) => {
                self.breakpoint = Breakpoint::Reported(self.line_at);
            }
            (Breakpoint::Reported(at), _) => {
                let Some((_, code)) = line.split_once("Code: ") else { return };
                let mut before = None;
                for byte in code.split_whitespace() {
                    if byte.starts_with('<') {
                        break;
                    }
                    before = Some(byte);
                }
                self.breakpoint = match before {
                    None | Some(INT3_BYTE) => Breakpoint::None,
                    Some(byte) => Breakpoint::Stale(byte.to_owned(), *at),
                };
            }
            (Breakpoint::None | Breakpoint::Stale(..), _) => {}
        }
    }

    /// Why this guest's emulator cannot be believed, if that has shown, and the byte of
    /// the console where it begins to.
    pub(crate) fn stale_breakpoint(&self) -> Option<(String, u64)> {
        match &self.breakpoint {
            Breakpoint::Stale(byte, at) => Some((
                format!(
                    "TCG ran into a breakpoint that was no longer in memory (there is {byte} \
                     instead)"
                ),
                *at,
            )),
            Breakpoint::None | Breakpoint::Reported(_) => None,
        }
    }

    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    pub(crate) fn panic_line(&self) -> Option<&str> {
        self.panic.as_deref()
    }

    pub(crate) fn agent_gave_up(&self) -> Option<&str> {
        self.gave_up.as_deref()
    }

    /// The last line that says something, whole or not.
    pub(crate) fn last_line(&self) -> &str {
        let unfinished = self.line.trim();
        if unfinished.is_empty() { &self.last } else { unfinished }
    }
}

#[cfg(test)]
mod tests {
    /// A breakpoint trap is the emulator's fault where the memory shows none, and
    /// the kernel's where it does.
    #[test]
    fn stale_breakpoints_are_told_from_real_ones() {
        let console = |code: &str| {
            let mut console = Console::default();
            let text = format!(
                "[   11.598240] Oops: int3: 0000 [#1] SMP\n\
                 [   11.598890] RIP: 0010:__schedule+0x271/0x8a0\n\
                 [   11.599000] Code: {code} 44 00 00\n"
            );
            console.push(b"[   11.0] fine\n");
            console.push(text.as_bytes());
            console
        };
        let stale = console("a6 02 00 00 0f 1f 44 00 00 0f <1f>");
        let (why, from) = stale.stale_breakpoint().unwrap();
        assert!(why.contains("there is 0f") && from == 15, "{why} {from}");
        assert_eq!(console("a6 02 00 00 0f 1f 44 00 00 cc <1f>").stale_breakpoint(), None);
        assert_eq!(console("<1f>").stale_breakpoint(), None);
    }

    /// The same where the trap's handler runs into it again; a breakpoint in the trace of
    /// another report is nothing of that kind.
    #[test]
    fn a_breakpoint_in_its_own_handler_is_stale() {
        let console = |bug: &str, code: &str| {
            let mut console = Console::default();
            let text = format!(
                "[    4.0] fine\n[    4.490164] ------------[ cut here ]------------\n\
                 [    4.490270] kernel BUG at {bug}!\n\
                 [    4.490400] ------------[ cut here ]------------\n\
                 [    4.490500] kernel BUG at {bug}!\n\
                 [    4.493806] Code: b8 01 00 cc <0f> 0b\n\
                 [    4.493976]  asm_exc_int3+0x35/0x40\n\
                 [    4.493982] RIP: 0010:lock_release+0x202/0x240\n\
                 [    4.493992] Code: {code} 52 ff ff\n"
            );
            console.push(text.as_bytes());
            console.stale_breakpoint()
        };
        let nested = "kernel/entry/common.c:378";
        let (why, from) = console(nested, "48 89 de e8 <0a>").unwrap();
        assert!(why.contains("there is e8") && from == 15, "{why} {from}");
        assert_eq!(console(nested, "48 89 de cc <0a>"), None);
        assert_eq!(console("mm/mmap.c:378", "48 89 de e8 <0a>"), None);
    }

    use super::*;

    /// However the bytes are cut, the panic's line is found, and it is the first.
    #[test]
    fn panic_is_found_in_any_pieces() {
        let text = "[    1.0] Booting\r\n[    2.0] Kernel panic - not syncing: Oops\r\n\
                    [    2.1] ---[ end Kernel panic - not syncing: Oops ]---\r\n[  3";
        for size in 1..text.len() {
            let mut console = Console::default();
            text.as_bytes().chunks(size).for_each(|piece| console.push(piece));
            assert_eq!(console.panic_line(), Some("Kernel panic - not syncing: Oops"));
            assert_eq!(console.last_line(), "[  3");
            assert_eq!(console.lines(), 3);
        }
    }

    /// Binary noise without a line end takes no memory to speak of.
    #[test]
    fn endless_lines_are_bounded() {
        let mut console = Console::default();
        for _ in 0..1000 {
            console.push(&[0xfe; 1 << 12]);
        }
        assert!(console.line.len() <= 4 * LINE);
    }

    /// What the agent says before it ends the guest early is told apart from
    /// what it merely says.
    #[test]
    fn last_words_of_the_agent() {
        let mut console = Console::default();
        console.push(b"bakeoff-agent: kernel/perf_event_paranoid = -1: no such file\n");
        assert_eq!(console.agent_gave_up(), None);
        console.push(b"bakeoff-agent: gives up: opening the records' port: timed out\n");
        assert_eq!(console.agent_gave_up(), Some("opening the records' port: timed out"));
    }
}
