// SPDX-License-Identifier: MIT OR Apache-2.0
//! What has to be installed, why, and how it gets there.
//!
//! `doctor` shows the table, `setup` installs what is missing from it, `run`
//! does the same first. Nothing is installed without a yes, and without the
//! means to install (no terminal to ask at, no root, no sudo) the exact
//! commands are printed instead.

use std::path::Path;

use crate::base::command::{Cancel, Command, find_program, quote};
use crate::base::data::DataDir;
use crate::base::error::{Context, Error, Result};
use crate::base::event::Events;
use crate::spec::arch::Arch;

/// How one finds out whether something is there.
#[derive(Clone, Debug)]
enum Check {
    /// A program in `PATH`.
    Program(String),
    /// A file.
    File(String),
    /// Guest binaries that came with the program, or Rust's standard library for a target.
    Guests {
        /// The architecture.
        arch: String,
        /// The target.
        target: String,
    },
}

/// How something gets there.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Remedy {
    /// A package of Debian.
    Package(String),
    /// Rust's standard library for a target.
    RustStd(String),
}

/// Who needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Every bake-off.
    Run,
    /// The project's own tests.
    Tests,
    /// Nobody, but it makes things faster.
    Useful,
}

/// One thing that has to be installed.
#[derive(Clone, Debug)]
pub struct Prerequisite {
    /// Its name in the table.
    pub name: String,
    /// What it is needed for.
    pub why: String,
    /// Who needs it.
    pub need: Need,
    /// The line of a profile's fragment without which it is merely useful.
    option: Option<&'static str>,
    check: Check,
    remedy: Remedy,
}

/// Kernels that tell their types.
pub(crate) const BTF: &str = "CONFIG_DEBUG_INFO_BTF=y";
/// Kernels that are fuzzed.
const KCOV: &str = "CONFIG_KCOV=y";

impl Prerequisite {
    /// The same, to be installed even if it is merely useful.
    #[must_use]
    pub fn wanted(self) -> Prerequisite {
        let need = if self.need == Need::Useful { Need::Run } else { self.need };
        Prerequisite { need, ..self }
    }
}

/// A prerequisite and whether it is there.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The prerequisite.
    pub what: Prerequisite,
    /// Where it was found.
    pub found: Option<String>,
}

impl Checked {
    /// Whether it has to be installed before work can begin.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.found.is_none() && self.what.need != Need::Useful
    }

    /// How it gets there, for a table.
    #[must_use]
    pub fn remedy(&self) -> String {
        match &self.what.remedy {
            Remedy::Package(package) => format!("Debian package {package}"),
            Remedy::RustStd(target) => format!("rustup target add {target}"),
        }
    }
}

/// The same, those that these profiles take with need [`Need::Run`].
///
/// # Errors
/// A fragment that cannot be read.
pub fn for_profiles(
    all: Vec<Prerequisite>,
    data: &DataDir,
    profiles: &[String],
) -> Result<Vec<Prerequisite>> {
    let mut fragments = String::new();
    for profile in profiles {
        let fragment = data.read_text(&format!("kconfigs/{profile}.config"))?;
        fragments.push_str(&fragment.unwrap_or_default());
        fragments.push('\n');
    }
    let has = |option: &str| fragments.lines().any(|line| line.trim() == option);
    let wanted = |what: Prerequisite| match what.option {
        Some(option) if has(option) => what.wanted(),
        _ => what,
    };
    Ok(all.into_iter().map(wanted).collect())
}

/// Everything that bake-offs on these architectures need; with `tests`, also
/// what only the project's tests need.
#[must_use]
pub fn prerequisites(archs: &[Arch], tests: bool) -> Vec<Prerequisite> {
    let program = |name: &str, package: &str, need, why: &str| Prerequisite {
        name: name.into(),
        why: why.into(),
        need,
        option: None,
        check: Check::Program(name.into()),
        remedy: Remedy::Package(package.into()),
    };
    let file = |name: &str, path: &str, package: &str, why: &str| Prerequisite {
        name: name.into(),
        why: why.into(),
        need: Need::Run,
        option: None,
        check: Check::File(path.into()),
        remedy: Remedy::Package(package.into()),
    };
    let mut all = vec![
        program("gcc", "build-essential", Need::Run, "compiles the kernel's host programs"),
        program("make", "build-essential", Need::Run, "builds kernels"),
        program("flex", "flex", Need::Run, "kconfig's and the device-tree compiler's lexers"),
        program("bison", "bison", Need::Run, "kconfig's and the device-tree compiler's parsers"),
        program("bc", "bc", Need::Run, "the kernel's time constants"),
        program("git", "git", Need::Run, "applies patches; bases from git repositories"),
        file("libelf", "/usr/include/libelf.h", "libelf-dev", "objtool, for x86_64 kernels"),
        Prerequisite {
            option: Some(BTF),
            ..program("pahole", "pahole", Need::Useful, "kernels that tell types: btf, kcov, kasan")
        },
        program("ccache", "ccache", Need::Useful, "compiles what did not change only once"),
    ];
    for arch in archs {
        let qemu = &arch.qemu;
        let why = format!("boots {} guests", arch.name);
        all.push(program(&qemu.program, &qemu.package, Need::Run, &why));
        let fuzzer = |compiler: &str, package: &str| Prerequisite {
            option: Some(KCOV),
            ..program(
                compiler,
                package,
                Need::Useful,
                &format!("libFuzzer for {} guests", arch.name),
            )
        };
        if arch.is_native() {
            all.push(fuzzer("g++", "build-essential"));
        } else {
            let prefix = arch.cross_compile();
            let gnu = prefix.trim_end_matches('-');
            let suffix = gnu.replace('_', "-");
            all.push(fuzzer(&format!("{prefix}g++"), &format!("g++-{suffix}")));
            let package = format!("gcc-{suffix}");
            let why = format!("compiles {} kernels, links {0} guest binaries", arch.name);
            all.push(program(&format!("{prefix}gcc"), &package, Need::Run, &why));
            let libc = format!("/usr/{gnu}/lib/libc.a");
            let debian = if arch.name == "x86_64" { "amd64" } else { &arch.name };
            let why = format!("static {} guest binaries", arch.name);
            all.push(file(&libc, &libc, &format!("libc6-dev-{debian}-cross"), &why));
        }
        let target = &arch.guest.rust_target;
        all.push(Prerequisite {
            name: format!("Rust std {target}"),
            why: format!("compiles {} guest binaries", arch.name),
            need: Need::Run,
            option: None,
            check: Check::Guests { arch: arch.name.clone(), target: target.clone() },
            remedy: Remedy::RustStd(target.clone()),
        });
    }
    if tests {
        all.push(program("patch", "patch", Need::Tests, "compares how patches apply"));
        all.push(program(
            "public-inbox-httpd",
            "public-inbox",
            Need::Tests,
            "serves mail threads to the tests",
        ));
        all.push(program("sbatch", "slurm-wlm", Need::Tests, "does shards on a real Slurm"));
        all.push(program("munge", "munge", Need::Tests, "lets Slurm's daemons know each other"));
        all.push(program("cpio", "cpio", Need::Tests, "reads the initramfs that we write"));
        all.push(program("musl-gcc", "musl-tools", Need::Tests, "links a release's program"));
        all.push(program("lintian", "lintian", Need::Tests, "reads a release's package"));
        all.push(program("mmdebstrap", "mmdebstrap", Need::Tests, "a Debian to install it on"));
        all.push(program("mandoc", "mandoc", Need::Tests, "reads the man pages"));
        all.push(program(
            "python3",
            "python3",
            Need::Tests,
            "reads our report.json with a reader that is not ours",
        ));
    }
    all
}

/// Looks for each of them.
#[must_use]
pub fn check(all: Vec<Prerequisite>, cancel: &Cancel) -> Vec<Checked> {
    let look = |check: &Check| match check {
        Check::Program(name) => find_program(name).map(|path| path.display().to_string()),
        Check::File(path) => Path::new(path).exists().then(|| path.clone()),
        Check::Guests { arch, target } => {
            if let Some(shipped) = crate::make::guest::shipped(arch) {
                return Some(format!("not needed: {}", shipped.display()));
            }
            let rustc = crate::make::guest::find_std(target, cancel).ok().flatten();
            rustc.map(|path| path.display().to_string())
        }
    };
    all.into_iter().map(|what| Checked { found: look(&what.check), what }).collect()
}

/// The commands that install what is missing, each as one can type it.
#[must_use]
pub fn install_commands(missing: &[Checked]) -> Vec<Vec<String>> {
    let words = |line: &[&str]| line.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let mut packages: Vec<String> = Vec::new();
    let mut rust = Vec::new();
    let mut debian_std = false;
    let rustup = crate::make::guest::rust_tool("rustup").map(|path| path.display().to_string());
    for checked in missing {
        match (&checked.what.remedy, &rustup) {
            (Remedy::Package(package), _) => packages.push(package.clone()),
            (Remedy::RustStd(target), Some(rustup)) => {
                rust.push(words(&[rustup, "target", "add", target]));
            }
            (Remedy::RustStd(target), None) if target.starts_with("aarch64") => {
                debian_std = true;
                packages.extend(["rustc-web".into(), "libstd-rust-web-dev:arm64".into()]);
            }
            (Remedy::RustStd(_), None) => packages.push("rustc-web".into()),
        }
    }
    packages.sort();
    packages.dedup();
    let mut commands = Vec::new();
    let sudo: &[&str] = if is_root() { &[] } else { &["sudo"] };
    let apt = |rest: &[&str]| words(&[sudo, rest].concat());
    if debian_std {
        commands.push(apt(&["dpkg", "--add-architecture", "arm64"]));
    }
    if !packages.is_empty() {
        commands.push(apt(&["apt-get", "update"]));
        let mut install = apt(&["apt-get", "install", "-y", "--no-install-recommends"]);
        install.extend(packages);
        commands.push(install);
    }
    commands.extend(rust);
    commands
}

/// Makes sure that nothing needed is missing: asks (unless `yes`), installs,
/// and looks again.
///
/// # Errors
/// [`crate::base::error::Kind::MissingPrerequisite`] with the exact commands where
/// they may not or cannot be run.
pub fn ensure(
    all: Vec<Prerequisite>,
    yes: bool,
    ask: &mut dyn FnMut(&str) -> bool,
    events: &Events,
    cancel: &Cancel,
) -> Result<()> {
    let missing: Vec<Checked> =
        check(all.clone(), cancel).into_iter().filter(Checked::is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let commands = install_commands(&missing);
    let as_typed = |words: &[String]| words.iter().map(|w| quote(w)).collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = commands.iter().map(|words| as_typed(words)).collect();
    let mut list = String::from("missing:\n");
    for Checked { what, .. } in &missing {
        list.push_str(&format!("  {:<34} {}\n", what.name, what.why));
    }
    let typed = format!("to install them, run\n  {}", lines.join(" &&\n  "));
    let question = format!("{list}{typed}\n");
    let can = is_root()
        || find_program("sudo").is_some()
        || commands.iter().all(|words| words.first().is_some_and(|w| w != "sudo"));
    if !can {
        return Err(Error::missing(list.trim_end().to_owned())
            .hint(format!("there is neither root nor sudo here; as root, {typed}")));
    }
    if yes {
        events.note(question.trim_end());
    } else if !ask(&question) {
        return Err(Error::missing(list.trim_end().to_owned())
            .hint(format!("{typed}\nor give --yes and it is done for you")));
    }
    for words in &commands {
        cancel.check()?;
        events.note(format!("running {}", as_typed(words)));
        run(words, cancel)?;
    }
    let still: Vec<String> = check(all, cancel)
        .into_iter()
        .filter(Checked::is_missing)
        .map(|checked| checked.what.name)
        .collect();
    if still.is_empty() {
        return Ok(());
    }
    Err(Error::missing(format!("installed, and still missing: {}", still.join(", ")))
        .hint("`bakeoff doctor` shows each with the package it comes from"))
}

fn run(words: &[String], cancel: &Cancel) -> Result<()> {
    let Some((program, args)) = words.split_first() else { return Ok(()) };
    let attempt = || {
        Command::new(program)
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            // Never wait at a prompt nobody sees.
            .env("SUDO_ASKPASS", "/bin/false")
            .check(cancel)
    };
    let done = attempt().map(|_| ());
    let target = words.last().filter(|_| words.iter().any(|w| w == "target"));
    match (done, target) {
        // rustup's server may be out of reach where Debian's archive is not; and it
        // answers "up to date" from its own lists without a look at the files.
        (done, Some(target))
            if target.starts_with("aarch64")
                && (done.is_err() || crate::make::guest::find_std(target, cancel)?.is_none()) =>
        {
            let sudo = if is_root() { "" } else { "sudo " };
            let line = format!(
                "{sudo}dpkg --add-architecture arm64 && {sudo}apt-get update && {sudo}apt-get \
                 install -y --no-install-recommends rustc-web libstd-rust-web-dev:arm64"
            );
            Command::new("sh")
                .args(["-c", &line])
                .env("DEBIAN_FRONTEND", "noninteractive")
                .check(cancel)
                .context(|| format!("install Rust's standard library for {target}"))
                .map(|_| ())
        }
        (done, _) => done,
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::data::DataDir;

    fn archs() -> Vec<Arch> {
        let data = DataDir::embedded();
        Arch::names(&data).unwrap().iter().map(|name| Arch::load(&data, name).unwrap()).collect()
    }

    /// Each architecture brings its own QEMU and, where it is not the host's, its compiler.
    #[test]
    fn architectures_bring_their_tools() {
        let all = prerequisites(&archs(), false);
        for name in ["qemu-system-x86_64", "qemu-system-aarch64"] {
            assert!(all.iter().any(|p| p.name == name), "{name}");
        }
        assert!(all.iter().all(|p| !p.why.is_empty()));
    }

    /// Kernels that are fuzzed take a C++ compiler for each architecture, and only they do.
    #[test]
    fn profiles_bring_their_tools() {
        let needed = |profile: &str| -> Vec<String> {
            let all = prerequisites(&archs(), false);
            let all = for_profiles(all, &DataDir::embedded(), &[profile.to_owned()]).unwrap();
            all.into_iter().filter(|p| p.need == Need::Run).map(|p| p.name).collect()
        };
        let compilers =
            |profile: &str| needed(profile).iter().filter(|name| name.ends_with("g++")).count();
        assert_eq!((compilers("lockdep"), compilers("kcov"), compilers("kasan-rcu")), (0, 2, 2));
        let types = |profile: &str| needed(profile).contains(&"pahole".to_owned());
        assert!(types("btf") && types("kcov") && types("kasan-rcu"));
        assert!(!types("lockdep"));
    }

    /// What is missing becomes one apt-get line, each package once.
    #[test]
    fn missing_packages_are_installed_once() {
        let twice = |name: &str| Checked {
            what: Prerequisite {
                name: name.into(),
                why: "x".into(),
                need: Need::Run,
                option: None,
                check: Check::Program(name.into()),
                remedy: Remedy::Package("build-essential".into()),
            },
            found: None,
        };
        let commands = install_commands(&[twice("gcc"), twice("make")]);
        let install = commands.last().unwrap();
        assert_eq!(install.iter().filter(|w| *w == "build-essential").count(), 1);
        assert!(install.contains(&"install".to_owned()), "{install:?}");
    }

    /// Without a yes nothing is installed, and the error is the exact command.
    #[test]
    fn without_a_yes_the_command_is_printed() {
        let missing = Prerequisite {
            name: "no-such-tool".into(),
            why: "to be missing".into(),
            need: Need::Run,
            option: None,
            check: Check::Program("no-such-tool".into()),
            remedy: Remedy::Package("no-such-package".into()),
        };
        let error = ensure(vec![missing], false, &mut |_| false, &Events::silent(), &Cancel::new())
            .unwrap_err();
        assert_eq!(error.kind(), crate::base::error::Kind::MissingPrerequisite);
        assert!(error.message().contains("to be missing"), "{error}");
        let hint = error.next_step().unwrap();
        assert!(
            hint.contains("apt-get install -y --no-install-recommends no-such-package"),
            "{hint}"
        );
    }
}
