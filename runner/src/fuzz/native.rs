// SPDX-License-Identifier: MIT OR Apache-2.0
//! A C file of a finding, compiled and run as the only program of a guest: does
//! it show the report without us?

use std::fs;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::bench::Bench;
use crate::base::command::{Cancel, Command, find_program, last_lines};
use crate::base::error::{Context, Error, Result};
use crate::machine::accel::Accel;
use crate::machine::boot::Guest;
use crate::machine::listen::{Happening, Listener};
use crate::make::guest::GuestBinaries;
use crate::see::observe::{Parser, Splat, fingerprint};
use crate::spec::arch::Arch;

/// What a report may still say, once it has begun.
const AFTER_REPORT: Duration = Duration::from_secs(3);

/// How long a guest may take in all: a boot, and some hundred runs.
fn limit(accel: Accel) -> Duration {
    match accel {
        Accel::Kvm => Duration::from_secs(30),
        Accel::Tcg => Duration::from_secs(90),
    }
}

/// Compiles a C file as its head says; `None` if there is no compiler for the
/// architecture.
///
/// # Errors
/// It does not compile, or a warning comes: our bug.
pub fn compile(file: &Path, arch: &Arch, cancel: &Cancel) -> Result<Option<Vec<u8>>> {
    let compiler = arch.linker();
    if find_program(compiler).is_none() {
        return Ok(None);
    }
    let program = file.with_extension("static");
    let finished = Command::new(compiler)
        .args(["-static", "-Wall", "-Werror", "-o"])
        .arg(&program)
        .arg(file)
        .run(cancel)?;
    if !finished.success() {
        return Err(Error::failure(format!(
            "{} does not compile: {}",
            file.display(),
            last_lines(&finished.tail, 5)
        )));
    }
    let bytes = fs::read(&program).at_path("read", &program)?;
    fs::remove_file(&program).at_path("remove", &program)?;
    Ok(Some(bytes))
}

/// Boots with a program as `init` until it reports something or ends. Its
/// reports, by fingerprint.
///
/// # Errors
/// What is ours.
pub fn run(
    bench: &Bench,
    program: Vec<u8>,
    console: &Path,
    cancel: &Cancel,
) -> Result<Vec<String>> {
    let initramfs = console.with_extension("cpio");
    GuestBinaries::of(program, "compiled C").write_with("bakeoff/none", b"", &initramfs)?;
    let (tell, told) = channel();
    let (mut guest, outlets) =
        Guest::start(&bench.machine(), &bench.kernel.image, &initramfs, cancel, move |event| {
            // Nobody listens any more once the boot was given up.
            let _ = tell.send(event);
        })?;
    let mut listener = Listener::start(outlets, told)?;
    let (mut parser, mut splats): (Parser, Vec<Splat>) = (Parser::new(), Vec::new());
    let (mut log, began) = (Vec::new(), Instant::now());
    let mut reported: Option<Instant> = None;
    while began.elapsed() < limit(bench.accel)
        && reported.is_none_or(|at| at.elapsed() < AFTER_REPORT)
        && !listener.is_over()
    {
        cancel.check()?;
        let Some(Happening::Console { bytes, .. }) = listener.next() else { continue };
        splats.extend(parser.push(&bytes));
        if reported.is_none() && String::from_utf8_lossy(&bytes).contains("[ cut here ]") {
            reported = Some(Instant::now());
        }
        if !splats.is_empty() {
            reported.get_or_insert_with(Instant::now);
        }
        log.extend(bytes);
    }
    guest.end();
    splats.extend(parser.finish());
    fs::write(console, &log).at_path("write", console)?;
    fs::remove_file(&initramfs).at_path("remove", &initramfs)?;
    let mut found: Vec<String> = splats.iter().map(fingerprint).collect();
    found.sort();
    found.dedup();
    Ok(found)
}
