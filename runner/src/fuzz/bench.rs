// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is fuzzed: a kernel of a spec's candidate, and the fuzzer's binary.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::coverage::Sites;
use crate::base::error::{Context, Error, Result};
use crate::keep::store::KernelOutcome;
use crate::machine::accel::{self, Accel};
use crate::machine::boot::Machine;
use crate::make::compile::{self, Compiler, Kernel};
use crate::make::guest::{GuestBinaries, Origins, Which};
use crate::make::source::{self, Fetch};
use crate::run::{GUEST_CPUS, Machinery, Tools};
use crate::spec::arch::Arch;
use crate::spec::plan::CellId;
use crate::spec::{BaseSource, Series, Spec};

/// Which kernel.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The spec, as it was given.
    pub spec: PathBuf,
    /// Its base; the first one if `None`.
    pub base: Option<String>,
    /// The candidate.
    pub candidate: String,
    /// The architecture.
    pub arch: String,
    /// The profile, `kcov` or `kasan`.
    pub profile: String,
    /// Patches on top of the candidate's, such as a planted bug.
    pub extra: Vec<PathBuf>,
}

/// A kernel and a guest binary, ready to be booted.
#[derive(Debug)]
pub struct Bench {
    /// The cell's name.
    pub cell: CellId,
    /// The kernel.
    pub kernel: Kernel,
    /// The fuzzer.
    pub binaries: GuestBinaries,
    /// The architecture.
    pub arch: Arch,
    /// How it is run.
    pub accel: Accel,
    /// Functions that the spec's candidates change, by the names in their
    /// patches' hunks; with extra patches only what those change.
    pub patched: Vec<String>,
    /// The C files with these functions, as the kernel's tree names them.
    pub patched_files: Vec<String>,
    /// The C files that this kernel's own patches change.
    pub own_files: Vec<String>,
    /// Functions in which programs may have a CPU held up: those of `patched`, unless this
    /// is a reference that is held against another kernel.
    pub held_up: Vec<String>,
    sites: OnceLock<Sites>,
}

impl Bench {
    /// Builds what is not in the cache yet.
    ///
    /// # Errors
    /// Words the spec does not have; a kernel that does not build; whatever is
    /// ours.
    pub fn prepare(
        subject: &Subject,
        machinery: &Machinery,
        log: &Path,
        tools: &Tools<'_>,
    ) -> Result<Bench> {
        let spec = Spec::load(&subject.spec, tools.data)?;
        Bench::of(&spec, None, subject, machinery, log, tools)?.map_err(|outcome| {
            let Subject { candidate, arch, profile, .. } = subject;
            let what = format!("{candidate} for {arch} with profile {profile}");
            Error::bad_input(format!("{what} has no kernel: {}", why(&outcome)))
        })
    }

    /// The same for a spec that was read already; `source` is where its base comes
    /// from, if that is not what the spec says. The inner error is a result: a kernel that
    /// cannot be had, which is the patch's doing.
    ///
    /// # Errors
    /// As [`Bench::prepare`].
    pub fn of(
        spec: &Spec,
        source: Option<&BaseSource>,
        subject: &Subject,
        machinery: &Machinery,
        log: &Path,
        tools: &Tools<'_>,
    ) -> Result<Result<Bench, KernelOutcome>> {
        let base = match &subject.base {
            None => spec.bases.first(),
            Some(name) => spec.bases.iter().find(|base| base.name == *name),
        };
        let base = base.ok_or_else(|| {
            Error::bad_input(format!(
                "the spec has no base `{}`",
                subject.base.clone().unwrap_or_default()
            ))
        })?;
        let candidate = spec
            .candidates
            .iter()
            .find(|candidate| candidate.name == subject.candidate)
            .ok_or_else(|| {
                let names: Vec<&str> = spec.candidates.iter().map(|c| c.name.as_str()).collect();
                Error::bad_input(format!("the spec has no candidate `{}`", subject.candidate))
                    .hint(format!("it has {}", names.join(", ")))
            })?;
        let mut patches = match candidate.on.get(&base.name) {
            Some(Series::Patches(patches)) => patches.clone(),
            Some(Series::Stock) | None => Vec::new(),
            Some(Series::NotPortable(why)) => {
                return Ok(Err(KernelOutcome::NotPortable { reason: why.clone() }));
            }
        };
        patches.extend(subject.extra.iter().cloned());
        let mut own_files = Vec::new();
        for patch in &patches {
            own_files.extend(files_of(&fs::read_to_string(patch).at_path("read", patch)?));
        }
        let cell = CellId {
            base: base.name.clone(),
            candidate: candidate.name.clone(),
            arch: subject.arch.clone(),
            profile: subject.profile.clone(),
        };
        let arch = Arch::load(tools.data, &subject.arch)?;
        let fetch = Fetch { latest: machinery.base_latest, ..Fetch::default() };
        let tree = source::obtain(
            source.unwrap_or(&base.source),
            &fetch,
            tools.cache,
            tools.events,
            tools.cancel,
        )?;
        let options = compile::Options { trust: machinery.trust, ..compile::Options::default() };
        let compiler = Compiler::new(tools.cache, tools.data, options, tools.events, tools.cancel)?;
        let what = cell.to_string();
        let request = compile::Request {
            what: &what,
            tree: &tree,
            patches: &patches,
            foreign: candidate.foreign,
            arch: &arch,
            profile: &subject.profile,
            traced: &files_of_all(spec, &base.name, &subject.extra)?,
            fragments: &[],
            log,
        };
        let build = compiler.build(&request)?;
        let Some(kernel) = build.kernel else { return Ok(Err(build.json.outcome)) };
        let origins = Origins {
            guest_dir: machinery.guest_dir.as_deref(),
            data: tools.data,
            cache: tools.cache,
        };
        let binaries = GuestBinaries::obtain_which(
            Which::Fuzzer,
            &arch,
            &origins,
            tools.events,
            tools.cancel,
        )?;
        let accel = accel::confirm(
            &arch,
            GUEST_CPUS,
            machinery.accel,
            &kernel.image,
            &binaries,
            tools.cancel,
        )?
        .accel;
        let mut patches: Vec<&PathBuf> = subject.extra.iter().collect();
        if patches.is_empty() {
            patches.extend(all_patches(spec, &base.name));
        }
        let (mut patched, mut patched_files) = (Vec::new(), Vec::new());
        for patch in patches {
            let text = fs::read_to_string(patch).at_path("read", patch)?;
            patched.extend(functions_of(&text, &tree.dir));
            patched_files.extend(files_of(&text));
        }
        for list in [&mut patched, &mut patched_files, &mut own_files] {
            list.sort();
            list.dedup();
        }
        Ok(Ok(Bench {
            cell,
            kernel,
            binaries,
            arch,
            accel,
            held_up: patched.clone(),
            patched,
            patched_files,
            own_files,
            sites: OnceLock::new(),
        }))
    }

    /// The points of the kernel's code at which programs may have a CPU held up.
    ///
    /// # Errors
    /// The kernel's vmlinux cannot be read.
    pub fn points(&self) -> Result<Vec<u64>> {
        Ok(self.sites()?.map(|sites| sites.of(&self.held_up)).unwrap_or_default())
    }

    /// What weighs more: the basic blocks of what the patches change and of what that calls.
    ///
    /// # Errors
    /// The kernel's vmlinux cannot be read.
    pub fn heavy(&self) -> Result<Vec<u64>> {
        Ok(self.sites()?.map(|sites| sites.with_called(&self.held_up)).unwrap_or_default())
    }

    /// The sites of this kernel, if its patches change a function.
    fn sites(&self) -> Result<Option<&Sites>> {
        if self.held_up.is_empty() {
            return Ok(None);
        }
        let sites = match self.sites.get() {
            Some(sites) => sites,
            None => {
                let sites = Sites::open(&self.kernel.vmlinux)?;
                self.sites.get_or_init(|| sites)
            }
        };
        Ok(Some(sites))
    }

    /// The virtual machine.
    #[must_use]
    pub fn machine(&self) -> Machine<'_> {
        Machine::new(&self.arch, self.accel, GUEST_CPUS)
    }
}

/// Why there is no kernel.
#[must_use]
pub fn why(outcome: &KernelOutcome) -> String {
    match outcome {
        KernelOutcome::DidNotApply { patch, reason } => {
            format!("{patch} does not apply: {reason}")
        }
        KernelOutcome::DidNotBuild { reason } => format!("it does not build: {reason}"),
        KernelOutcome::NotPortable { reason } => format!("it cannot exist here: {reason}"),
        KernelOutcome::Built { .. } => "it was built".to_owned(),
    }
}

/// The functions that a patch of C files changes: those named by its hunks'
/// heads, and those whose first line it touches.
fn functions_of(patch: &str, tree: &Path) -> Vec<String> {
    let mut found = Vec::new();
    // The lines of the file in hand, if it is one of C.
    let mut file: Option<Vec<String>> = None;
    for line in patch.lines() {
        if let Some(name) = line.strip_prefix("+++ ") {
            let name = name.split_whitespace().next().and_then(|name| name.split_once('/'));
            let name = name.map(|(_, name)| name).filter(|name| name.ends_with(".c"));
            file = name.map(|name| {
                let text = fs::read_to_string(tree.join(name)).unwrap_or_default();
                text.lines().map(str::to_owned).collect()
            });
        } else if let Some(file) = &file
            && let Some((places, head)) = line.strip_prefix("@@ ").and_then(|l| l.split_once("@@"))
        {
            found.extend(function_name(head).or_else(|| enclosing(file, places)));
        } else if file.is_some()
            && let Some(text) = line.strip_prefix(['+', '-'])
            && !text.starts_with(char::is_whitespace)
        {
            found.extend(function_name(text));
        }
    }
    found
}

/// Unchanged lines before the first changed one of a hunk.
const CONTEXT: usize = 3;

/// The function in which a hunk changes something, by the file before the change:
/// some tools leave the name out of the hunk's head.
fn enclosing(file: &[String], places: &str) -> Option<String> {
    let first = places.trim().strip_prefix('-')?.split([',', ' ']).next()?;
    let changed = first.parse::<usize>().ok()? - 1 + CONTEXT;
    let before = file.get(..changed.min(file.len()))?;
    before
        .iter()
        .rev()
        .filter(|line| line.starts_with(|c: char| c.is_alphabetic() || c == '_'))
        .find(|line| !line.ends_with(':') && !line.ends_with(';'))
        .and_then(|line| function_name(line))
}

/// The C files that a patch changes.
fn files_of(patch: &str) -> impl Iterator<Item = String> {
    patch.lines().filter_map(|line| {
        let file = line.strip_prefix("+++ ")?.split_whitespace().next()?;
        let (_, name) = file.split_once('/')?;
        name.ends_with(".c").then(|| name.to_owned())
    })
}

/// The patches of all candidates on a base.
fn all_patches<'a>(spec: &'a Spec, base: &'a str) -> impl Iterator<Item = &'a PathBuf> {
    let on = spec.candidates.iter().filter_map(move |candidate| match candidate.on.get(base) {
        Some(Series::Patches(patches)) => Some(patches),
        Some(Series::Stock | Series::NotPortable(_)) | None => None,
    });
    on.flatten()
}

/// The files of all candidates on a base, and of these patches: each kernel is compiled
/// for the coverage of all of them, for coverage is compared.
fn files_of_all(spec: &Spec, base: &str, extra: &[PathBuf]) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for patch in all_patches(spec, base).chain(extra) {
        files.extend(files_of(&fs::read_to_string(patch).at_path("read", patch)?));
    }
    files.sort();
    files.dedup();
    Ok(files)
}

/// The name in a line like `static int name(struct a *b,`, or what a macro makes of one that
/// defines a helper of BPF programs (`BPF_CALL_1(name,`) or a system call (`SYSCALL_DEFINE1(`).
fn function_name(line: &str) -> Option<String> {
    let (before, behind) = line.split_once('(')?;
    let first = behind.split([',', ')']).next().unwrap_or_default().trim();
    let is_macro = |name: &str| {
        let count = before.trim_start().strip_prefix(name);
        count.is_some_and(|count| {
            count.len() == 1 && count.starts_with(|c: char| c.is_ascii_digit())
        })
    };
    if ["BPF_CALL_", "NOTRACE_BPF_CALL_"].into_iter().any(is_macro) {
        return Some(first.to_owned());
    }
    if is_macro("SYSCALL_DEFINE") {
        return Some(format!("__do_sys_{first}"));
    }
    if is_macro("COMPAT_SYSCALL_DEFINE") {
        return Some(format!("__do_compat_sys_{first}"));
    }
    let name = before.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    let is_name = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
    // A type stands before the name of a function; not before a macro's.
    let declared =
        before.trim().len() > name.len() && !before.trim_start().starts_with(['#', '/', '*']);
    (is_name && declared).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a hunk's head names no function, the file does.
    #[test]
    fn functions_come_from_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        let file = "int before(void)\n{\n}\n\nstatic long asked(struct a *a,\n\t\t  int b)\n{\n\
                    \tint c = b;\n\n\told();\nout:\n\treturn c;\n}\n";
        fs::create_dir(dir.path().join("mm")).unwrap();
        fs::write(dir.path().join("mm/mmap.c"), file).unwrap();
        let patch = "--- a/mm/mmap.c\n+++ b/mm/mmap.c\n@@ -7,7 +7,7 @@\n {\n \tint c = b;\n \n\
                     -\told();\n+\tnew();\n out:\n \treturn c;\n }\n";
        assert_eq!(functions_of(patch, dir.path()), ["asked"]);
        assert!(functions_of(patch, Path::new("/nowhere")).is_empty());
    }

    /// Macros that define functions name them first.
    #[test]
    fn functions_may_be_defined_by_macros() {
        let name = |line: &str| function_name(line).unwrap_or_default();
        assert_eq!(
            name("BPF_CALL_1(bpf_timer_cancel, struct bpf_async_kern *, timer)"),
            "bpf_timer_cancel"
        );
        assert_eq!(
            name(" NOTRACE_BPF_CALL_1(bpf_spin_lock, struct bpf_spin_lock *, lock)"),
            "bpf_spin_lock"
        );
        assert_eq!(
            name("SYSCALL_DEFINE3(bpf, int, cmd, union bpf_attr __user *, uattr,"),
            "__do_sys_bpf"
        );
        assert_eq!(name("SYSCALL_DEFINE0(munlockall)"), "__do_sys_munlockall");
        assert_eq!(name("COMPAT_SYSCALL_DEFINE2(a, int, b)"), "__do_compat_sys_a");
        assert_eq!(name("BPF_CALL_ARGS(x)"), "");
        assert_eq!(name("static long mlock_fixup(struct vma_iterator *vmi,"), "mlock_fixup");
        assert_eq!(name("EXPORT_SYMBOL(mlock_fixup)"), "");
    }

    /// Functions come from the heads of hunks in C files, and from definitions
    /// that the patch adds.
    #[test]
    fn functions_come_from_the_hunks() {
        let patch = "\
--- a/kernel/bpf/syscall.c
+++ b/kernel/bpf/syscall.c
@@ -124,7 +124,7 @@ static void answer_the_stack(struct answer *answers,
 \tcontext();
-\told();
+\tnew();
@@ -200,3 +200,8 @@ #define FOO(x)
+static int helper_of(struct mm_struct *mm)
+{
+\tcall_of_it(mm);
+}
--- a/include/linux/mm.h
+++ b/include/linux/mm.h
@@ -1,1 +1,2 @@ static inline void vma_in_a_header(int x)
";
        let nowhere = Path::new("/nowhere");
        let found = functions_of(patch, nowhere);
        assert_eq!(found, ["answer_the_stack", "helper_of"]);
        assert_eq!(files_of(patch).collect::<Vec<_>>(), ["kernel/bpf/syscall.c"]);
    }
}
