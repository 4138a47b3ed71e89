// SPDX-License-Identifier: MIT OR Apache-2.0
use std::os::unix::fs::symlink;

use super::*;
use crate::base::command::Command;

struct Bench {
    dir: tempfile::TempDir,
    cache: Cache,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(Some(&dir.path().join("cache"))).unwrap();
    Bench { dir, cache }
}

impl Bench {
    fn obtain(&self, source: &BaseSource, fetch: &Fetch) -> Result<Tree> {
        obtain(source, fetch, &self.cache, &Events::silent(), &Cancel::new())
    }

    fn kernel_dir(&self) -> PathBuf {
        let dir = self.dir.path().join("kernel");
        fs::create_dir_all(dir.join("scripts")).unwrap();
        fs::write(dir.join("Makefile"), "VERSION = 6\n").unwrap();
        fs::write(dir.join("Kconfig"), "\n").unwrap();
        let script = dir.join("scripts/x.sh");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        fs::set_permissions(script, mode).unwrap();
        symlink("scripts/x.sh", dir.join("link")).unwrap();
        dir
    }

    /// A `.deb` such as Debian's, with a few files instead of 90,000.
    fn deb(&self, mirror: &Path) -> (String, String) {
        self.kernel_dir();
        let script = "set -e
            mkdir -p w/usr/src
            mv kernel linux-source-6.12
            tar --mtime=@1000000 -cJf w/usr/src/linux-source-6.12.tar.xz linux-source-6.12
            tar -cJf data.tar.xz -C w ./usr
            echo 2.0 > debian-binary; tar -cJf control.tar.xz debian-binary
            ar rc p.deb debian-binary control.tar.xz data.tar.xz";
        Command::new("sh").args(["-c", script]).cwd(self.dir.path()).check(&Cancel::new()).unwrap();
        fs::create_dir_all(mirror).unwrap();
        let name = "linux-source-6.12_6.12.1-1_all.deb";
        fs::copy(self.dir.path().join("p.deb"), mirror.join(name)).unwrap();
        let sha256 = crate::keep::cache::sha256_file(&mirror.join(name)).unwrap();
        (sha256, name.to_owned())
    }
}

fn debian(sha256: &str) -> BaseSource {
    BaseSource::Debian {
        package: "linux-source-6.12".into(),
        version: "6.12.1-1".into(),
        sha256: sha256.to_owned(),
    }
}

/// A package becomes a tree with modes, links and times; the second time the
/// cache has it, even if the place is gone.
#[test]
fn a_package_is_unpacked_once() {
    let bench = bench();
    let mirror = bench.dir.path().join("mirror");
    let (sha256, name) = bench.deb(&mirror);
    let fetch = Fetch { mirrors: vec![mirror.display().to_string()], offline: true, latest: false };
    let tree = bench.obtain(&debian(&sha256), &fetch).unwrap();
    assert_eq!(tree.label, "Debian linux-source-6.12 6.12.1-1");
    assert_eq!(fs::read_to_string(tree.dir.join("Makefile")).unwrap(), "VERSION = 6\n");
    let metadata = fs::metadata(tree.dir.join("link")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mtime(&metadata), 1_000_000);
    assert!(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o100 != 0);
    fs::remove_file(mirror.join(name)).unwrap();
    assert_eq!(bench.obtain(&debian(&sha256), &fetch).unwrap(), tree);
}

/// Another package under the same name is not used, and nothing of it stays.
#[test]
fn the_hash_decides() {
    let bench = bench();
    let mirror = bench.dir.path().join("mirror");
    bench.deb(&mirror);
    let fetch = Fetch { mirrors: vec![mirror.display().to_string()], offline: true, latest: false };
    let error = bench.obtain(&debian(&"0".repeat(64)), &fetch).unwrap_err();
    assert!(error.message().contains("not 0000"), "{error}");
    assert_eq!(bench.cache.usage().unwrap()["archive"].entries, 0);
}

/// A version that is gone is named, and the next step is `--base-latest`.
#[test]
fn a_version_that_is_gone() {
    let bench = bench();
    let fetch = Fetch { offline: true, ..Fetch::default() };
    let error = bench.obtain(&debian(&"0".repeat(64)), &fetch).unwrap_err();
    assert!(error.message().contains("linux-source-6.12 6.12.1-1"), "{error}");
    assert!(error.next_step().unwrap().contains("--base-latest"), "{error:?}");
}

/// A directory is copied, its build folder and git data are not, and an edit
/// makes it another base.
#[test]
fn a_directory_is_what_lies_there_now() {
    let bench = bench();
    let dir = bench.kernel_dir();
    for left_out in [".git", "build"] {
        fs::create_dir(dir.join(left_out)).unwrap();
        fs::write(dir.join(left_out).join("x"), "x").unwrap();
    }
    let source = BaseSource::Directory(dir.clone());
    let first = bench.obtain(&source, &Fetch::default()).unwrap();
    assert!(first.dir.join("link").is_symlink());
    assert!(!first.dir.join("build").exists() && !first.dir.join(".git").exists());
    assert_eq!(bench.obtain(&source, &Fetch::default()).unwrap(), first);
    fs::write(dir.join("Makefile"), "VERSION = 7\n").unwrap();
    let second = bench.obtain(&source, &Fetch::default()).unwrap();
    assert_ne!(second.key, first.key);
    assert_eq!(fs::read_to_string(first.dir.join("Makefile")).unwrap(), "VERSION = 6\n");
}

/// A folder that is no kernel source, or was built in, is refused with the remedy.
#[test]
fn unusable_directories_are_refused() {
    let bench = bench();
    let empty = bench.dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for (dir, says) in [(empty, "no `Makefile`"), ("/no/such".into(), "no directory")] {
        let error = bench.obtain(&BaseSource::Directory(dir), &Fetch::default()).unwrap_err();
        assert_eq!(error.kind(), crate::base::error::Kind::BadInput);
        assert!(error.message().contains(says), "{error}");
    }
    let built = bench.kernel_dir();
    fs::write(built.join(".config"), "").unwrap();
    let error = bench.obtain(&BaseSource::Directory(built), &Fetch::default()).unwrap_err();
    assert!(error.next_step().unwrap().contains("mrproper"));
}

/// A revision is the commit, not what lies in the working tree.
#[test]
fn a_revision_is_a_commit() {
    let bench = bench();
    let dir = bench.kernel_dir();
    let script = "git init -q . && git add -A && git -c user.name=a -c user.email=a@b \
                  commit -q -m one && git tag v1 && echo dirty > Makefile";
    Command::new("sh").args(["-c", script]).cwd(&dir).check(&Cancel::new()).unwrap();
    let git =
        |revision: &str| BaseSource::Git { repository: dir.clone(), revision: revision.to_owned() };
    let tree = bench.obtain(&git("v1"), &Fetch::default()).unwrap();
    assert!(tree.key.starts_with("git-"));
    assert_eq!(fs::read_to_string(tree.dir.join("Makefile")).unwrap(), "VERSION = 6\n");
    for bad in ["v2", "--output=x"] {
        let error = bench.obtain(&git(bad), &Fetch::default()).unwrap_err();
        assert_eq!(error.kind(), crate::base::error::Kind::BadInput, "{error:?}");
    }
}

/// Names and links that lead out of an archive are seen before anything is written.
#[test]
fn archives_do_not_lead_out() {
    assert_eq!(inside(Path::new("./linux/mm/a.c"), 1), Some("mm/a.c".into()));
    for bad in ["../x", "/etc/passwd", "linux/../../x"] {
        assert_eq!(inside(Path::new(bad), 1), None, "{bad}");
    }
    assert!(stays_inside(Path::new("scripts/dtc/arm"), Path::new("../../arch/arm")));
    assert!(!stays_inside(Path::new("scripts/x"), Path::new("../../etc")));
    assert!(!stays_inside(Path::new("x"), Path::new("/etc")));
}
