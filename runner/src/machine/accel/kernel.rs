// SPDX-License-Identifier: MIT OR Apache-2.0
//! The second proof: a kernel, all the way to a program of user space.
//!
//! What the test guest does, KVM may do well and yet stop in the middle of a kernel
//! ("internal error", a hang). Counted as a boot, that would be said of a candidate. So
//! before the first boot under KVM the very kernel of that boot has to come up
//! with orders that say nothing, and our program in it has to say that it has none.

use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::base::command::Cancel;
use crate::base::error::Result;
use crate::base::scratch::Scratch;
use crate::machine::boot::{Guest, Machine};
use crate::machine::listen::{Console, Happening, Listener};
use crate::make::guest::GuestBinaries;

/// A kernel needs about a second of it.
const LIMIT: Duration = Duration::from_secs(15);

/// Boots the kernel; the inner error is what went wrong.
pub(super) fn runs(
    machine: &Machine<'_>,
    kernel: &Path,
    binaries: &GuestBinaries,
    cancel: &Cancel,
) -> Result<std::result::Result<(), String>> {
    let dir = Scratch::new()?;
    let initramfs = dir.path().join("initramfs.cpio");
    binaries.write_with("bakeoff/none", b"", &initramfs)?;
    let (tell, told) = channel();
    let started = Guest::start(machine, kernel, &initramfs, cancel, move |event| {
        // Nobody listens any more once it has said enough.
        let _ = tell.send(event);
    });
    let (mut guest, outlets) = match started {
        Ok(started) => started,
        Err(error) => {
            cancel.check()?;
            return Ok(Err(error.to_string()));
        }
    };
    let mut listener = Listener::start(outlets, told)?;
    let mut console = Console::default();
    let until = Instant::now() + LIMIT;
    while console.agent_gave_up().is_none() && Instant::now() < until && !listener.is_over() {
        cancel.check()?;
        if let Some(Happening::Console { bytes, .. }) = listener.next() {
            console.push(&bytes);
        }
    }
    if console.agent_gave_up().is_some() {
        return Ok(Ok(()));
    }
    let status = guest.qmp.query_status().unwrap_or_else(|_| "gone".to_owned());
    guest.end();
    let last = match console.last_line() {
        "" => "said nothing".to_owned(),
        last => format!("said last: {last}"),
    };
    Ok(Err(format!("{} s after power-on QEMU's state is {status}, it {last}", LIMIT.as_secs())))
}
