// SPDX-License-Identifier: MIT OR Apache-2.0
//! Building somebody's patch runs their Makefiles, so a foreign series is built
//! in a sandbox.
//!
//! It is made of util-linux alone (`unshare`, `mount`, `pivot_root`, `setpriv`), so that
//! it needs neither root nor an installation: new user, mount, pid, net and ipc
//! namespaces; a root file system that has the compiler, the series' own tree and the
//! build folder, and only the last one writable; no home directory, no other runs, no
//! other entries of the cache; no network, devices, sockets or host processes to talk to;
//! no capabilities. What stays possible is to compute. A compiler that lies in a home
//! directory is not seen. Some hosts forbid user namespaces, so it is tried before it is
//! relied upon.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use crate::base::command::{Cancel, Command, find_program};
use crate::base::error::{Context, Error, Result};
use crate::base::scratch::Scratch;

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

/// `argv` that runs `argv` in the sandbox. Of the host it sees the compiler, `tree` and
/// `build`, and only `build`, which may lie in `tree`, is writable.
pub(crate) fn wrap(build: &Path, tree: &Path, argv: Vec<String>) -> Vec<String> {
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
    wrapped.extend([build, tree].map(|path| path.display().to_string()));
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
        for program in ["unshare", "mount", "pivot_root", "setpriv"] {
            if find_program(program).is_none() {
                return Ok(Sandbox::Unavailable(format!("`{program}` was not found")));
            }
        }
        let dir = Scratch::new_in(scratch, "sandbox-")?;
        let root = dir.path().canonicalize().at_path("find", dir.path())?;
        let build = root.join("build");
        fs::create_dir(&build).at_path("create", &build)?;
        // Lines of /proc/net/dev: two of heading, then one per interface.
        let try_it = "touch \"$1/build/inside\" && ! touch \"$1/beside\" 2>/dev/null \
                      && ! grep -qvE '^(Inter|.face)|^ *lo:' /proc/net/dev 2>/dev/null \
                      && echo sandboxed";
        let argv = ["sh", "-c", try_it, "try", &root.display().to_string()].map(str::to_owned);
        let mut argv = wrap(&build, &root, argv.into()).into_iter();
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
        let tree = build.parent().unwrap();
        let mut argv = wrap(build, tree, argv.into()).into_iter();
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
        assert!(build.join("o").exists() && !build.join(".sandbox-root").exists());
    }

    /// What a hostile Makefile would look for is not there: the home directory, other
    /// entries of the cache, other runs, secrets in /etc, sockets, processes, a network.
    #[test]
    fn nothing_else_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let Sandbox::Works = Sandbox::probe(&root, &Cancel::new()).unwrap() else { return };
        // A cache with two workspaces and a kernel, and a run beside it.
        let cache = root.join("cache");
        let build = cache.join("work/mine/linux/build");
        fs::create_dir_all(&build).unwrap();
        fs::write(cache.join("work/mine/linux/Makefile"), "all:").unwrap();
        let other = cache.join("work/other/linux");
        let secrets =
            [other.join("secret"), cache.join("kernel/k/secret"), root.join("run/secret")];
        for secret in &secrets {
            fs::create_dir_all(secret.parent().unwrap()).unwrap();
            fs::write(secret, "secret").unwrap();
        }
        let home = std::env::var("HOME").unwrap_or_else(|_| "/root".into());
        // Somebody else's process, alone and harmless.
        let mut victim = std::process::Command::new("sleep").arg("3600").spawn().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut attempts = vec![
            format!("ls {home}/* {home}/.[a-z]* 2>/dev/null | grep -q ."),
            "ls /home/* /root/* /var/* /srv/* /mnt/* /media/* /run/* 2>/dev/null | grep -q ."
                .into(),
            "cat /etc/shadow /etc/passwd /etc/hostname 2>/dev/null | grep -q .".into(),
            format!("ls {} | grep -v mine", cache.join("work").display()),
            format!("ls {} | grep -v cache", root.display()),
            format!("kill -CONT {}", victim.id()),
            "kill -CONT -1".into(),
            "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -q '[s]leep 3600'".into(),
            "ls /sys/kernel 2>/dev/null | grep -q .".into(),
            "find / -xdev -type s 2>/dev/null | grep -q .".into(),
            format!(
                "python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}), 2)'"
            ),
            "python3 -c 'import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); \
             s.sendto(b\"x\", (\"192.0.2.1\", 53))'"
                .into(),
            "echo x > /usr/bin/bakeoff-was-here".into(),
            "mkdir /new".into(),
            format!("echo x > {}", build.join("../Makefile").display()),
        ];
        attempts.extend(secrets.iter().map(|secret| format!("cat {}", secret.display())));
        for attempt in attempts {
            let finished = run(&build, &attempt);
            assert!(!finished.success(), "{attempt}: {}", finished.text());
        }
        assert!(victim.try_wait().unwrap().is_none(), "it was ended from inside");
        victim.kill().unwrap();
        victim.wait().unwrap();
        // And what a build needs is there.
        let fine = run(&build, "cc --version && make --version && cat ../Makefile && echo > o");
        assert!(fine.success(), "{}", fine.tail);
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
