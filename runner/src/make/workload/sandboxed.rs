// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a bake-off's build line in a folder of its own, with a compiler for the guest.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::Desk;
use crate::base::command::{Command, last_lines};
use crate::base::error::{Context, Error, Result};
use crate::make::compile::{Sandbox, sandbox};
use crate::spec::arch::Arch;

/// Time for a build line.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Where workloads are built.
#[derive(Debug)]
pub(super) struct Shop<'a> {
    arch: &'a Arch,
    desk: &'a Desk<'a>,
    sandboxed: bool,
}

impl<'a> Shop<'a> {
    pub(super) fn new(arch: &'a Arch, desk: &'a Desk<'a>) -> Result<Shop<'a>> {
        let sandboxed = Sandbox::probe(&desk.cache.work_dir()?, desk.cancel)? == Sandbox::Works;
        Ok(Shop { arch, desk, sandboxed })
    }

    /// Runs the line in `dir`, the only folder that it may write to where the host has a
    /// sandbox for us.
    pub(super) fn build_line(&self, line: &str, dir: &Path) -> Result<()> {
        let dir = dir.canonicalize().at_path("find", dir)?;
        let tmp = dir.join(".tmp-bakeoff");
        fs::create_dir_all(&tmp).at_path("create", &tmp)?;
        // The sandbox mounts the folder anew: who was in it before is in the old one, which
        // is read-only by then.
        let go = "cd \"$1\" && exec sh -e -c \"$2\"";
        let there = dir.display().to_string();
        let argv = ["sh", "-c", go, "sh", &there, line].map(str::to_owned).to_vec();
        let argv = match self.sandboxed {
            true => sandbox::wrap(&dir, &dir, argv),
            false => sandbox::leash(argv, self.desk.cancel),
        };
        let finished = self.command(argv, &dir, &tmp).run(self.desk.cancel)?;
        let _ = fs::remove_dir_all(&tmp);
        if finished.success() {
            return Ok(());
        }
        let said = last_lines(&finished.tail, 8);
        Err(Error::bad_input(format!(
            "the build line of the spec failed for {} ({}): {said}",
            self.arch.name, finished.status
        ))
        .hint("`build:` runs in a copy of `files:` with $CC and $ARCH; try it there by hand"))
    }

    /// A command in an environment that has the guest's compiler and nobody's flags.
    fn command(&self, argv: Vec<String>, dir: &Path, tmp: &Path) -> Command {
        let mut argv = argv.into_iter();
        let of = |name: &str| std::env::var(name).unwrap_or_default();
        Command::new(argv.next().unwrap_or_default())
            .args(argv)
            .cwd(dir)
            .only_env([
                ("PATH".to_owned(), of("PATH")),
                ("HOME".to_owned(), tmp.display().to_string()),
                ("LC_ALL".to_owned(), "C".to_owned()),
                ("TMPDIR".to_owned(), tmp.display().to_string()),
                ("CC".to_owned(), format!("{}gcc", self.arch.cross_compile())),
                ("ARCH".to_owned(), self.arch.kernel.arch.clone()),
                ("CROSS_COMPILE".to_owned(), self.arch.cross_compile().to_owned()),
            ])
            .timeout(PATIENCE)
    }
}
