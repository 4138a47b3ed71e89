// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one door to make.
//!
//! Every call of make goes through [`Make::run`]: the same clean environment, the
//! same fixed dates and names, the same variables, and the sandbox where there
//! has to be one. What it is called with is also what a kernel is known by.

use std::fs;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::kconfig::is_folder;
use super::sandbox;
use crate::base::command::{Cancel, Command, Finished, find_program};
use crate::base::error::{Context, Error, Result};
use crate::base::event::Task;
use crate::make::source::workspace::BUILD;
use crate::spec::arch::Arch;

/// Time for one call of make; a Makefile that loops must end some day.
const PATIENCE: Duration = Duration::from_secs(3 * 60 * 60);

/// The programs that make a kernel, and which they are exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// `CROSS_COMPILE=`.
    cross: String,
    /// `LLVM=1`.
    llvm: bool,
    /// The C compiler goes through ccache.
    ccache: bool,
    /// First lines of what compiler and linker say of themselves.
    pub compiler: String,
    /// The linker's.
    pub linker: String,
}

impl Toolchain {
    /// Looks for the compiler for `arch`, and asks it and the linker who they are.
    ///
    /// # Errors
    /// One is missing.
    pub fn find(arch: &Arch, llvm: bool, ccache: bool, cancel: &Cancel) -> Result<Toolchain> {
        let cross = arch.cross_compile().to_owned();
        let (compiler, linker) = if llvm {
            ("clang".to_owned(), "ld.lld".to_owned())
        } else {
            (format!("{cross}gcc"), format!("{cross}ld"))
        };
        let ask = |program: &str| -> Result<String> {
            if find_program(program).is_none() {
                return Err(Error::missing(format!(
                    "`{program}` is needed to build kernels for {}",
                    arch.name
                ))
                .hint("run `bakeoff doctor` to see what is missing and how to install it"));
            }
            let said = Command::new(program).arg("--version").env("LC_ALL", "C").check(cancel)?;
            Ok(said.text().lines().next().unwrap_or_default().to_owned())
        };
        Ok(Toolchain {
            compiler: ask(&compiler)?,
            linker: ask(&linker)?,
            cross,
            llvm,
            ccache: ccache && find_program("ccache").is_some(),
        })
    }

    /// What a kernel is known by: through ccache or not, it is the same kernel,
    /// and installing ccache must not make all of them again.
    pub(super) fn identity(&self, arch: &Arch) -> Vec<String> {
        Toolchain { ccache: true, ..self.clone() }.variables(arch)
    }

    /// The variables make is called with, in order.
    pub(super) fn variables(&self, arch: &Arch) -> Vec<String> {
        let mut variables = vec![format!("O={BUILD}"), format!("ARCH={}", arch.kernel.arch)];
        if self.llvm {
            variables.push("LLVM=1".into());
        } else {
            variables.push(format!("CROSS_COMPILE={}", self.cross));
        }
        if self.ccache {
            let compiler = if self.llvm { "clang".into() } else { format!("{}gcc", self.cross) };
            variables.push(format!("CC=ccache {compiler}"));
        }
        variables
    }
}

/// What `kconfigs/kcov.patch` has instrumented files begin with.
const KCOV_INLINE: &str = "include/linux/kcov_inline.h";

/// The variable that has coverage compiled into these folders, and into these files
/// outside of them, only: what `CONFIG_KCOV_INSTRUMENT_ALL` would pass to all of the
/// kernel, for Kbuild expands it for each object (`scripts/Makefile.lib`; Makefiles that
/// say `KCOV_INSTRUMENT := n` still have their way). The help of that option is for
/// selecting, too, where not the whole kernel is of interest. A header that our patch of
/// KCOV brings, if it does, goes before each such file. `None`: no folders, all of it.
pub(super) fn instrumented(folders: &[String], files: &[String]) -> Option<String> {
    if folders.is_empty() {
        return None;
    }
    let inside = |file: &&String| {
        folders.iter().any(|f| file.strip_prefix(f.as_str()).is_some_and(|f| f.starts_with('/')))
    };
    let mut patterns: Vec<String> = folders.iter().map(|folder| format!("{folder}/%")).collect();
    let others = files.iter().filter(|file| !inside(file) && is_folder(file));
    patterns.extend(others.filter_map(|file| file.strip_suffix(".c")).map(str::to_owned));
    patterns.sort();
    patterns.dedup();
    let patterns = patterns.join(" ");
    Some(format!(
        "CFLAGS_KCOV=$(if $(filter {patterns},$(basename $@)),-fsanitize-coverage=trace-pc \
         $(addprefix -include ,$(wildcard $(srctree)/{KCOV_INLINE})))"
    ))
}

/// make in a workspace.
#[derive(Debug)]
pub(super) struct Make<'a> {
    pub tree: &'a Path,
    pub arch: &'a Arch,
    pub toolchain: &'a Toolchain,
    /// Variables beside the toolchain's.
    pub more: &'a [String],
    pub jobs: usize,
    pub sandboxed: bool,
}

/// How make ended.
#[derive(Debug)]
pub(super) struct Made {
    pub finished: Finished,
    /// Objects it compiled.
    pub objects: u64,
}

impl Make<'_> {
    /// The command line as one would type it in the tree.
    pub fn line(&self, targets: &[String]) -> String {
        let variables = self.toolchain.variables(self.arch);
        let words = ["make".to_owned()].into_iter().chain(variables);
        let words = words.chain(self.more.to_vec()).chain(targets.to_vec());
        words.map(|word| crate::base::command::quote(&word)).collect::<Vec<_>>().join(" ")
    }

    /// Runs make; what it says goes to `log`. A failure is the caller's to judge.
    pub fn run(
        &self,
        targets: &[String],
        more_env: &[(&str, &str)],
        log: &Path,
        task: &Task,
        cancel: &Cancel,
    ) -> Result<Made> {
        let build = self.tree.join(BUILD);
        let tmp = build.join(".tmp-bakeoff");
        fs::create_dir_all(&tmp).at_path("create", &tmp)?;
        let mut argv = vec!["make".to_owned(), format!("-j{}", self.jobs)];
        argv.extend(self.toolchain.variables(self.arch));
        argv.extend(self.more.iter().cloned());
        argv.extend(targets.iter().cloned());
        if self.sandboxed {
            argv = sandbox::wrap(&build, self.tree, argv);
        } else {
            argv = sandbox::leash(argv, cancel);
        }
        let mut argv = argv.into_iter();
        let more = more_env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let command = Command::new(argv.next().unwrap_or_default())
            .args(argv)
            .cwd(self.tree)
            .only_env(self.environment(&tmp).into_iter().chain(more))
            .log(log)
            .timeout(PATIENCE);
        let mut lines = Lines::of(log);
        let finished = command.run_watched(cancel, &mut |_| {
            if lines.read_on() {
                task.progress(lines.objects, None, "objects");
            }
        })?;
        lines.read_on();
        let _ = fs::remove_dir_all(&tmp);
        Ok(Made { finished, objects: lines.objects })
    }

    /// Nobody's `CFLAGS`, dates or names get into a kernel.
    fn environment(&self, tmp: &Path) -> Vec<(String, String)> {
        let of = |name: &str| std::env::var(name).ok();
        let mut environment = vec![
            ("PATH".to_owned(), of("PATH").unwrap_or_default()),
            ("HOME".into(), of("HOME").unwrap_or_else(|| "/nonexistent".into())),
            ("LC_ALL".into(), "C".into()),
            ("TMPDIR".into(), tmp.display().to_string()),
            ("KBUILD_BUILD_TIMESTAMP".into(), "Thu Jan  1 00:00:00 UTC 1970".into()),
            ("KBUILD_BUILD_VERSION".into(), "1".into()),
            ("KBUILD_BUILD_USER".into(), "bakeoff".into()),
            ("KBUILD_BUILD_HOST".into(), "bakeoff".into()),
            // Set and empty: no `+` for a checkout that is not at a tag.
            ("LOCALVERSION".into(), String::new()),
            // Where a workspace lies does not make another object.
            ("CCACHE_NOHASHDIR".into(), "1".into()),
        ];
        if self.sandboxed {
            // The cache is shared with series that are trusted.
            environment.push(("CCACHE_DISABLE".into(), "1".into()));
        }
        for name in ["CCACHE_DIR", "CCACHE_CONFIGPATH", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"] {
            environment.extend(of(name).map(|value| (name.to_owned(), value)));
        }
        environment
    }
}

/// Counts objects in a log that is being written.
struct Lines {
    path: PathBuf,
    at: u64,
    objects: u64,
}

impl Lines {
    fn of(path: &Path) -> Self {
        Lines { path: path.to_owned(), at: 0, objects: 0 }
    }

    /// Whether there were new objects. A log that cannot be read shows no progress.
    fn read_on(&mut self) -> bool {
        let before = self.objects;
        let Ok(mut file) = fs::File::open(&self.path) else { return false };
        if file.seek(SeekFrom::Start(self.at)).is_err() {
            return false;
        }
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) && line.ends_with(b"\n") {
            self.at += line.len() as u64;
            self.objects += u64::from(is_object(&line));
            line.clear();
        }
        self.objects > before
    }
}

/// `  CC      mm/mmap.o`, not the host's tools (which have absolute paths or `HOSTCC`).
fn is_object(line: &[u8]) -> bool {
    let name =
        line.strip_prefix(b"  CC ").or_else(|| line.strip_prefix(b"  AS ")).map(<[u8]>::trim_ascii);
    name.is_some_and(|name| !name.starts_with(b"/"))
}

/// Why make failed, if it was for a reason of ours and not the series'.
pub(crate) fn our_fault(finished: &Finished, log: &str) -> Option<String> {
    const OURS: [&str; 7] = [
        "No space left on device",
        "Killed signal terminated program",
        "internal compiler error: Killed",
        "Cannot allocate memory",
        "virtual memory exhausted",
        "Resource temporarily unavailable",
        "Too many open files",
    ];
    if !finished.timed_out && finished.status.code().is_none() {
        return Some(format!("make was ended by a signal ({})", finished.status));
    }
    log.lines().find(|line| OURS.iter().any(|ours| line.contains(ours))).map(str::to_owned)
}

/// The first errors in a log, for a person.
pub(crate) fn first_errors(log: &str) -> String {
    const SIGNS: [&str; 7] = [
        "error:",
        "/ld: ",
        "undefined reference",
        "multiple definition",
        "No rule to make target",
        "*** ",
        "Error ",
    ];
    let mut errors: Vec<&str> = Vec::new();
    for line in log.lines() {
        if SIGNS.iter().any(|sign| line.contains(sign)) && !errors.contains(&line) {
            errors.push(line);
        }
        if errors.len() == 8 {
            break;
        }
    }
    if errors.is_empty() {
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        errors = last.into_iter().rev().collect();
    }
    errors.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Installing ccache does not make another kernel; another compiler does.
    #[test]
    fn ccache_makes_no_other_kernel() {
        let arch = Arch::load(&crate::base::data::DataDir::embedded(), "arm64").unwrap();
        let with = |ccache, llvm| Toolchain {
            cross: "x-".into(),
            llvm,
            ccache,
            compiler: "c".into(),
            linker: "l".into(),
        };
        assert_eq!(with(true, false).identity(&arch), with(false, false).identity(&arch));
        assert_ne!(with(true, false).identity(&arch), with(true, true).identity(&arch));
    }

    /// Objects of the kernel are counted, the host's tools are not.
    #[test]
    fn what_counts_as_an_object() {
        assert!(is_object(b"  CC      mm/mmap.o\n"));
        assert!(is_object(b"  AS      arch/x86/entry/entry_64.o\n"));
        for no in ["  HOSTCC  scripts/x", "  LD      vmlinux", "  CC      /t/tools/objtool/elf.o"] {
            assert!(!is_object(no.as_bytes()), "{no}");
        }
    }

    /// The compiler's words come before make's.
    #[test]
    fn the_first_errors_are_the_telling_ones() {
        let log = "  CC      mm/a.o\n../mm/a.c:3:9: error: 'x' undeclared\nnote\n\
                   make[3]: *** [scripts/Makefile.build:229: mm/a.o] Error 1\n";
        let errors = first_errors(log);
        assert!(errors.starts_with("../mm/a.c:3:9: error: 'x' undeclared\nmake[3]: ***"));
        assert_eq!(first_errors("a\nb\n"), "a\nb");
    }

    /// Folders with all below them, files only where no folder has them, and nothing that
    /// make would expand.
    #[test]
    fn coverage_is_of_folders_and_patched_files() {
        let words = |words: &[&str]| words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>();
        let folders = words(&["mm", "kernel/bpf"]);
        let files = words(&["lib/buildid.c", "mm/vma.c", "include/linux/mm.h", "x/$(y).c"]);
        assert_eq!(
            instrumented(&folders, &files).unwrap(),
            "CFLAGS_KCOV=$(if $(filter kernel/bpf/% lib/buildid mm/%,$(basename $@)),\
             -fsanitize-coverage=trace-pc \
             $(addprefix -include ,$(wildcard $(srctree)/include/linux/kcov_inline.h)))"
        );
        assert_eq!(instrumented(&[], &files), None);
    }
}
