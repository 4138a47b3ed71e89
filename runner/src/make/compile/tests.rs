// SPDX-License-Identifier: MIT OR Apache-2.0
//! A Makefile of a few lines stands for the kernel: configured, built in `O=`,
//! one object per C file, and incremental.

use super::*;
use crate::base::error::Kind as ErrorKind;

const MAKEFILE: &str = "\
B := $(O)
OBJECTS := $(patsubst %.c,$(B)/%.o,$(wildcard *.c))
allnoconfig:
\t@test -n \"$(ARCH)\" && cp $(B)/$$KCONFIG_ALLCONFIG $(B)/.config
olddefconfig:
\t@grep -v DROPPED $(B)/.config > $(B)/.config.new && mv $(B)/.config.new $(B)/.config
vmlinux: $(OBJECTS)
\t@echo '  LD      vmlinux'
\t@cat $(OBJECTS) > $(B)/vmlinux
\t@echo \"$$KBUILD_BUILD_USER $$KBUILD_BUILD_TIMESTAMP\" >> $(B)/vmlinux
\t@echo map > $(B)/System.map
$(B)/%.o: %.c
\t@echo '  CC      $*.o'
\t@sh ./cc.sh $< $@
";

const CC: &str = "\
if grep -q BREAK $1; then echo \"$1:1: error: broken\"; exit 1; fi
if grep -q DISK $1; then echo \"fatal error: No space left on device\"; exit 1; fi
cp $1 $2
";

struct Bench {
    dir: tempfile::TempDir,
    cache: Cache,
    data: DataDir,
    arch: Arch,
    tree: Tree,
}

fn bench() -> Bench {
    bench_with("CONFIG_A=y\n")
}

fn bench_with(fragment: &str) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(Some(&dir.path().join("cache"))).unwrap();
    let at = dir.path().join("data");
    for folder in ["qemu", "kconfigs", "fuzz"] {
        fs::create_dir_all(at.join(folder)).unwrap();
    }
    fs::write(at.join("kconfigs/base.config"), fragment).unwrap();
    fs::write(at.join("kconfigs/plain.config"), "CONFIG_B=y\n").unwrap();
    let mut arch = Arch::load(&DataDir::embedded(), "x86_64").unwrap();
    arch.kernel.kconfig = vec!["base.config".into()];
    arch.kernel.cross_compile = String::new();
    arch.kernel.cross_compile_elsewhere = String::new();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("Makefile"), MAKEFILE).unwrap();
    fs::write(tree.join("cc.sh"), CC).unwrap();
    for name in ["a", "b", "c"] {
        fs::write(tree.join(format!("{name}.c")), format!("{name}\n")).unwrap();
    }
    let tree = Tree { key: "t".into(), dir: tree, label: "fake".into(), substituted: false };
    Bench { data: DataDir::at(at).unwrap(), dir, cache, arch, tree }
}

impl Bench {
    fn build_as(&self, patches: &[PathBuf], foreign: bool, trust: bool) -> Result<Build> {
        let (events, cancel) = (Events::silent(), Cancel::new());
        let options = Options { ccache: false, trust, ..Options::default() };
        let compiler = Compiler::new(&self.cache, &self.data, options, &events, &cancel)?;
        let log = self.log();
        compiler.build(&Request {
            what: "t/x/x86_64/plain",
            tree: &self.tree,
            patches,
            foreign,
            arch: &self.arch,
            profile: "plain",
            traced: &[],
            fragments: &[],
            log: &log,
        })
    }

    fn build(&self, patches: &[PathBuf]) -> Result<Build> {
        self.build_as(patches, false, false)
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("build.log")
    }

    /// A patch that replaces the one line of `file`.
    fn patch(&self, file: &str, old: &str, new: &str) -> PathBuf {
        let text = format!("--- a/{file}\n+++ b/{file}\n@@ -1 +1 @@\n-{old}\n+{new}\n");
        let path = self.dir.path().join("0001-x.patch");
        fs::write(&path, text).unwrap();
        path
    }

    /// A patch that puts a line before the others of cc.sh.
    fn patch_cc(&self, line: &str) -> PathBuf {
        let context: String = CC.lines().take(3).map(|l| format!(" {l}\n")).collect();
        let text = format!("--- a/cc.sh\n+++ b/cc.sh\n@@ -1,3 +1,4 @@\n+{line}\n{context}");
        let path = self.dir.path().join("0001-cc.patch");
        fs::write(&path, text).unwrap();
        path
    }

    fn nothing_left(&self) {
        let left: Vec<_> = fs::read_dir(self.cache.work_dir().unwrap()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn objects(build: &Build) -> Option<u64> {
    match &build.json.outcome {
        KernelOutcome::Built { objects, .. } => *objects,
        other => panic!("{other:?}"),
    }
}

/// A series compiles only what it touches, starting from the base's build
/// folder, and leaves base and cached build as they were.
#[test]
fn a_series_compiles_only_what_it_touches() {
    let bench = bench();
    let stock = bench.build(&[]).unwrap();
    assert_eq!(objects(&stock), Some(3));
    let patched = bench.build(&[bench.patch("b.c", "b", "B")]).unwrap();
    assert_eq!(objects(&patched), Some(1));
    let image = |build: &Build| fs::read_to_string(&build.kernel.as_ref().unwrap().image).unwrap();
    assert!(image(&stock).starts_with("a\nb\nc\n"), "{}", image(&stock));
    assert!(image(&patched).starts_with("a\nB\nc\n"), "{}", image(&patched));
    assert!(image(&stock).contains("bakeoff Thu Jan  1"));
    assert_eq!(fs::read_to_string(bench.tree.dir.join("b.c")).unwrap(), "b\n");
    let log = fs::read_to_string(bench.log()).unwrap();
    assert!(log.contains("$ make O=build ARCH=x86 CROSS_COMPILE= vmlinux"), "{log}");
    bench.nothing_left();
}

/// The base is built on the way if nobody asked for it before; the second time
/// everything comes from the cache, and no make runs.
#[test]
fn the_second_time_is_from_the_cache() {
    let bench = bench();
    let patch = [bench.patch("b.c", "b", "B")];
    let first = bench.build(&patch).unwrap();
    assert_eq!(objects(&first), Some(1));
    let again = bench.build(&patch).unwrap();
    assert!(matches!(again.json.outcome, KernelOutcome::Built { from_cache: true, .. }));
    assert_eq!(again.kernel, first.kernel);
    let stock = bench.build(&[]).unwrap();
    assert!(matches!(stock.json.outcome, KernelOutcome::Built { from_cache: true, .. }));
    bench.nothing_left();
}

/// If only the build folder was lost, it is made again, and the series is still
/// incremental.
#[test]
fn a_lost_build_folder_is_made_again() {
    let bench = bench();
    bench.build(&[]).unwrap();
    fs::remove_dir_all(bench.cache.root().join("build")).unwrap();
    let patched = bench.build(&[bench.patch("b.c", "b", "B")]).unwrap();
    assert_eq!(objects(&patched), Some(1));
}

/// A series that does not compile is a result with the compiler's words; so is
/// one that does not apply. Nothing of either stays.
#[test]
fn a_series_that_fails_is_a_result() {
    let bench = bench();
    let broken = bench.build(&[bench.patch("b.c", "b", "BREAK")]).unwrap();
    assert_eq!(broken.kernel, None);
    let KernelOutcome::DidNotBuild { reason } = &broken.json.outcome else { panic!() };
    assert!(reason.starts_with("b.c:1: error: broken"), "{reason}");
    let unfit = bench.build(&[bench.patch("b.c", "not b", "B")]).unwrap();
    let KernelOutcome::DidNotApply { patch, reason } = &unfit.json.outcome else { panic!() };
    assert_eq!(patch, "0001-x.patch");
    assert!(reason.contains("-not b"), "{reason}");
    bench.nothing_left();
}

/// A full disk is never held against a series.
#[test]
fn a_full_disk_is_our_error() {
    let bench = bench();
    let error = bench.build(&[bench.patch("b.c", "b", "DISK")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failure);
    assert!(error.message().contains("No space left"), "{error}");
}

/// An option that Kconfig dropped is an error that names option, file and line.
#[test]
fn a_dropped_option_is_an_error() {
    let bench = bench_with("CONFIG_A=y\n# why\nCONFIG_DROPPED=y\n");
    let error = bench.build(&[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadInput);
    assert!(error.message().contains("CONFIG_DROPPED (kconfigs/base.config:3)"), "{error}");
    bench.nothing_left();
}

/// Whatever goes into a kernel makes it another one.
#[test]
fn the_key_knows_configuration_and_tree() {
    let key = |bench: &Bench| match bench.build(&[]).unwrap().json.outcome {
        KernelOutcome::Built { key, .. } => key,
        other => panic!("{other:?}"),
    };
    let first = bench();
    let first_key = key(&first);
    assert_ne!(key(&bench_with("CONFIG_A=y\nCONFIG_C=y\n")), first_key);
    let mut other = bench();
    other.tree.key = "u".into();
    assert_ne!(key(&other), first_key);
    assert_eq!(key(&bench()), first_key, "and nothing else does: not where it was built");
}

/// A foreign series cannot change the sources it shares with the base, nor
/// anything else, while it is built; its kernel is as any other.
#[test]
fn a_foreign_series_is_built_in_the_sandbox() {
    let bench = bench();
    let victim = bench.dir.path().join("victim");
    fs::write(&victim, "safe").unwrap();
    let evil = format!("echo evil > a.c; echo evil > {}; sed -i s/c/evil/ c.c", victim.display());
    // All objects depend on cc.sh by nothing that make sees: touch one.
    let patches = [bench.patch_cc(&evil), bench.patch("b.c", "b", "B")];
    let log = bench.log();
    match bench.build_as(&patches, true, false) {
        Ok(build) => {
            let KernelOutcome::Built { sandbox, .. } = &build.json.outcome else {
                panic!("{:?}\n{}", build.json.outcome, fs::read_to_string(log).unwrap())
            };
            assert_eq!(sandbox, "sandboxed");
            let said = fs::read_to_string(log).unwrap();
            assert!(said.contains("Read-only file system"), "{said}");
        }
        Err(error) => assert!(error.next_step().unwrap().contains("--trust"), "{error}"),
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "safe");
    assert_eq!(fs::read_to_string(bench.tree.dir.join("a.c")).unwrap(), "a\n");
    assert_eq!(fs::read_to_string(bench.tree.dir.join("c.c")).unwrap(), "c\n");
}

/// What a Makefile leaves in the place of a product is taken only if it is a
/// file of the build folder: a link to something of the user's is not.
#[test]
fn links_are_no_products() {
    let bench = bench();
    let secret = bench.dir.path().join("secret");
    fs::write(&secret, "key").unwrap();
    let build = bench.tree.dir.join(BUILD);
    fs::create_dir_all(&build).unwrap();
    std::os::unix::fs::symlink(&secret, build.join("vmlinux")).unwrap();
    assert_eq!(product_of(&bench.tree.dir, Path::new("vmlinux")), None);
    fs::write(build.join("image"), "x").unwrap();
    assert!(product_of(&bench.tree.dir, Path::new("image")).is_some());
    assert_eq!(product_of(&bench.tree.dir, Path::new("../Makefile")), None);
}

/// A compiler that is not there is a missing prerequisite, named.
#[test]
fn a_missing_compiler_is_named() {
    let mut bench = bench();
    bench.arch.kernel.cross_compile = "no-such-".into();
    bench.arch.kernel.cross_compile_elsewhere = "no-such-".into();
    let error = bench.build(&[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MissingPrerequisite);
    assert!(error.message().contains("no-such-gcc"), "{error}");
}

/// What a crash left of a workspace that was being removed goes away with the next run,
/// though the tree is gone already; what is not a workspace stays.
#[test]
fn what_was_half_removed_is_removed() {
    let bench = bench();
    let work = bench.cache.work_dir().unwrap();
    let left = work.join("0123.gone");
    fs::create_dir_all(left.join("linux-half")).unwrap();
    fs::write(left.join("make.log"), "  CC      kernel/panic.o\n").unwrap();
    let other = work.join("notes");
    fs::create_dir(&other).unwrap();
    workspace::remove_leftovers(&bench.cache).unwrap();
    assert!(!left.exists());
    assert!(other.is_dir());
}
