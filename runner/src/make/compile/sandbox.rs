// SPDX-License-Identifier: MIT OR Apache-2.0
//! Building somebody's patch runs their Makefiles, so a foreign series is built
//! in a sandbox.
//!
//! It is made of util-linux alone (`unshare`, `mount`, `setpriv`), so that it
//! needs neither root nor an installation: new user, mount, pid, net and ipc
//! namespaces; everything read-only except the build folder, the hard-linked
//! sources included; no network, devices, sockets or host processes to talk to;
//! no capabilities. What stays possible is to *read* what the user may read, and
//! to compute. Some hosts forbid user namespaces, so it is tried before it is
//! relied upon.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use crate::base::command::{Cancel, Command, find_program};
use crate::base::error::{Context, Error, Result};

const SCRIPT: &str = include_str!("sandbox.sh");

/// `argv` on a leash: a pid namespace whose init dies with the runner, so that
/// make's children and theirs die with it too. The parent-death signal alone
/// reaches make, not the makes that it started. `argv` as it is where the host
/// has no such namespaces for us.
pub(crate) fn leash(argv: Vec<String>, cancel: &Cancel) -> Vec<String> {
    static WORKS: OnceLock<bool> = OnceLock::new();
    let mut words = vec!["unshare", "--pid", "--fork", "--kill-child=KILL"];
    if !rustix::process::geteuid().is_root() {
        words.extend(["--user", "--map-current-user"]);
    }
    words.push("--");
    let try_it = || {
        let tried = Command::new(words[0]).args(&words[1..]).arg("true").run(cancel);
        tried.is_ok_and(|finished| finished.success())
    };
    if !*WORKS.get_or_init(try_it) {
        return argv;
    }
    words.into_iter().map(str::to_owned).chain(argv).collect()
}

/// Whether foreign series can be built safely here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// Tried: it holds.
    Works,
    /// It does not, and why.
    Unavailable(String),
}

/// `argv` that runs `argv` in the sandbox; only `build` is writable.
pub(crate) fn wrap(build: &Path, argv: Vec<String>) -> Vec<String> {
    let mut wrapped: Vec<String> = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "--propagation=private",
        "--pid",
        "--fork",
        "--kill-child=KILL",
        "--net",
        "--ipc",
        "--uts",
        "--",
        "sh",
        "-c",
        SCRIPT,
        "sandbox",
    ]
    .map(str::to_owned)
    .into();
    wrapped.push(build.display().to_string());
    wrapped.extend(argv);
    wrapped
}

impl Sandbox {
    /// Tries it: inside it must be possible to write to the build folder, and
    /// impossible to write beside it or to see another network than an empty one.
    /// `scratch` is a folder on the file system that kernels are built on.
    ///
    /// # Errors
    /// Ours only: no temporary folder, interrupted. A sandbox that does not work
    /// is [`Sandbox::Unavailable`].
    pub fn probe(scratch: &Path, cancel: &Cancel) -> Result<Sandbox> {
        for program in ["unshare", "mount", "setpriv"] {
            if find_program(program).is_none() {
                return Ok(Sandbox::Unavailable(format!("`{program}` was not found")));
            }
        }
        let dir = tempfile::tempdir_in(scratch).at_path("write in", scratch)?;
        let root = dir.path().canonicalize().at_path("find", dir.path())?;
        let build = root.join("build");
        fs::create_dir(&build).at_path("create", &build)?;
        // Lines of /proc/net/dev: two of heading, then one per interface.
        let try_it = "touch \"$1/build/inside\" && ! touch \"$1/beside\" 2>/dev/null \
                      && ! grep -qvE '^(Inter|.face)|^ *lo:' /proc/net/dev 2>/dev/null \
                      && echo sandboxed";
        let argv = ["sh", "-c", try_it, "try", &root.display().to_string()].map(str::to_owned);
        let mut argv = wrap(&build, argv.into()).into_iter();
        let finished = Command::new(argv.next().unwrap_or_default())
            .args(argv)
            .timeout(Duration::from_secs(20))
            .run(cancel)?;
        let held = finished.success()
            && finished.text() == "sandboxed"
            && build.join("inside").exists()
            && !root.join("beside").exists();
        if held {
            return Ok(Sandbox::Works);
        }
        let said = finished.tail.lines().last().unwrap_or("it does not hold").trim().to_owned();
        Ok(Sandbox::Unavailable(said))
    }

    /// How a series is to be built: `Some(true)` in the sandbox. A foreign one
    /// without a sandbox is refused unless it is trusted.
    ///
    /// # Errors
    /// Exactly then, with the remedies.
    pub(super) fn decide(&self, foreign: bool, trust: bool) -> Result<(bool, String)> {
        match self {
            _ if !foreign => Ok((false, "not needed: the series belongs to the bake-off".into())),
            _ if trust => Ok((false, "none: --trust was given".into())),
            Sandbox::Works => Ok((true, "sandboxed".into())),
            Sandbox::Unavailable(why) => Err(Error::missing(format!(
                "a foreign series runs its own Makefiles, and there is no sandbox here ({why})"
            ))
            .hint(
                "allow unprivileged user namespaces (kernel.unprivileged_userns_clone, \
                 kernel.apparmor_restrict_unprivileged_userns), or give --trust after reading \
                 the series",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(build: &Path, script: &str) -> crate::base::command::Finished {
        let argv = ["sh", "-c", script].map(str::to_owned);
        let mut argv = wrap(build, argv.into()).into_iter();
        Command::new(argv.next().unwrap()).args(argv).run(&Cancel::new()).unwrap()
    }

    /// Where the sandbox works, a Makefile can write to its build folder and
    /// nowhere else, sees no host process, no disk and no network, and cannot
    /// take the walls down.
    #[test]
    fn it_holds_where_it_works() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let Sandbox::Works = Sandbox::probe(&root, &Cancel::new()).unwrap() else { return };
        let build = root.join("build");
        fs::create_dir(&build).unwrap();
        fs::write(root.join("source.c"), "original").unwrap();
        let beside = root.display();
        for attempt in [
            format!("echo x > {beside}/source.c"),
            format!("rm {beside}/source.c"),
            format!("ln {beside}/source.c {beside}/build/s && echo x > {beside}/build/s"),
            "echo x > /etc/bakeoff-was-here".into(),
            "echo h > /proc/sysrq-trigger".into(),
            "mount -o remount,rw /".into(),
            format!("mount -o remount,bind,rw {beside}"),
            "unshare -Um mount -o remount,bind,rw /".into(),
            "umount /dev".into(),
            "ls /dev/vda /dev/sda /dev/nvme0n1 /dev/mem 2>/dev/null | grep -q .".into(),
            format!("kill -0 {}", std::process::id()),
            "exec 3<>/dev/tcp/127.0.0.1/22".into(),
        ] {
            let finished = run(&build, &attempt);
            assert!(!finished.success(), "{attempt}");
        }
        assert_eq!(fs::read_to_string(root.join("source.c")).unwrap(), "original");
        let fine = run(
            &build,
            &format!("echo x > {beside}/build/o; echo y > /dev/null; cat {beside}/source.c"),
        );
        assert!(fine.success(), "{}", fine.tail);
        assert_eq!(fine.text(), "original");
        assert!(build.join("o").exists() && !build.join(".sandbox-dev").exists());
    }

    /// Without a sandbox a foreign series is refused with the remedies; our own is not.
    #[test]
    fn no_sandbox_no_foreign_series() {
        let none = Sandbox::Unavailable("operation not permitted".into());
        let error = none.decide(true, false).unwrap_err();
        assert_eq!(error.kind(), crate::base::error::Kind::MissingPrerequisite);
        assert!(error.next_step().unwrap().contains("--trust"));
        assert!(!none.decide(true, true).unwrap().0);
        assert!(!none.decide(false, false).unwrap().0);
        assert!(Sandbox::Works.decide(true, false).unwrap().0);
    }
}
