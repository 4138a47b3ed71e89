// SPDX-License-Identifier: MIT OR Apache-2.0
use super::super::workspace::link_tree;
use super::*;

struct Bench {
    dir: tempfile::TempDir,
    base: PathBuf,
    tree: PathBuf,
}

/// A base `base/mm/a.c` with twenty lines, and a hard-linked copy `tree` of it.
fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let (base, tree) = (dir.path().join("base"), dir.path().join("tree"));
    fs::create_dir_all(base.join("mm")).unwrap();
    let text: String = (1..=20).map(|n| format!("line {n}\n")).collect();
    fs::write(base.join("mm/a.c"), text).unwrap();
    link_tree(&base, &tree, &Cancel::new()).unwrap();
    Bench { dir, base, tree }
}

impl Bench {
    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Applies a series; that it was foretold is a part of every test.
    fn apply(&self, files: &[PathBuf]) -> Applied {
        let patches = read(files, &Cancel::new()).unwrap();
        let foretold = would_apply(&self.tree, &patches, &Cancel::new()).unwrap();
        let applied = apply(&self.tree, &patches, &Cancel::new()).unwrap();
        assert_eq!(foretold, applied);
        applied
    }

    fn rejected(&self, text: impl AsRef<[u8]>) -> String {
        match self.apply(&[self.file("0001-x.patch", text)]) {
            Applied::Rejected { patch, reason } => {
                assert_eq!(patch, "0001-x.patch");
                reason
            }
            Applied::Whole => panic!("it applied"),
        }
    }

    fn a(&self) -> String {
        fs::read_to_string(self.tree.join("mm/a.c")).unwrap()
    }
}

const HUNK: &str = "--- a/mm/a.c\n+++ b/mm/a.c\n@@ -2,5 +2,5 @@\n line 2\n line 3\n-line 4\n+line four\n line 5\n line 6\n";

fn mail(subject: &str, diff: &str) -> String {
    format!(
        "From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\n\
         From: A <a@example.org>\nDate: Fri, 20 Nov 2026 09:00:00 +0000\n\
         Subject: [PATCH 1/2] {subject}\n\nWhy.\n---\n mm/a.c | 2 +-\n\n\
         diff --git a/mm/a.c b/mm/a.c\n{diff}-- \n2.39\n\n"
    )
}

/// Applying a series to the copy leaves the base as it was: git replaces files,
/// it does not write into them.
#[test]
fn the_base_is_not_changed_through_hard_links() {
    let bench = bench();
    let patch = bench.file("0001-x.patch", mail("four, in words", HUNK));
    assert_eq!(bench.apply(&[patch]), Applied::Whole);
    assert!(bench.a().contains("line four\n"));
    assert!(!fs::read_to_string(bench.base.join("mm/a.c")).unwrap().contains("four"));
}

/// The subject is the mail's, without the bracket and however it was encoded.
#[test]
fn subjects_are_decoded() {
    let bench = bench();
    let files = [
        bench.file("0000-cover-letter.patch", "Subject: [PATCH 0/2] cover\n\nHello.\n"),
        bench.file("0001-x.patch", mail("mm: =?UTF-8?q?caf=C3=A9?=", HUNK)),
        bench.file("0002-bare.patch", HUNK),
    ];
    let series = read(&files, &Cancel::new()).unwrap();
    let subjects: Vec<_> = series.iter().map(|p| p.subject.as_str()).collect();
    assert_eq!(subjects, ["mm: café", "0002-bare.patch"]);
}

/// An mbox of two mails is two patches, applied in order.
#[test]
fn an_mbox_is_a_series() {
    let bench = bench();
    let second = HUNK.replace("-line 4\n+line four", "-line four\n+line IV");
    let mbox = bench.file("series.mbx", mail("one", HUNK) + &mail("two", &second));
    let series = read(std::slice::from_ref(&mbox), &Cancel::new()).unwrap();
    assert_eq!(series.len(), 2);
    assert_eq!(series[1].name, "series.mbx#2");
    assert_eq!(bench.apply(&[mbox]), Applied::Whole);
    assert!(bench.a().contains("line IV\n"));
}

/// Context that differs in one word does not apply: no fuzz. The hunk is shown.
#[test]
fn no_fuzz() {
    let bench = bench();
    let reason = bench.rejected(mail("x", &HUNK.replace(" line 6\n", " line six\n")));
    assert!(reason.contains("patch failed: mm/a.c:2"), "{reason}");
    assert!(reason.contains("@@ -2,5 +2,5 @@\n line 2"), "{reason}");
    assert!(!bench.a().contains("four"));
}

/// The second patch fails: it is named, not the first.
#[test]
fn the_failing_patch_is_named() {
    let bench = bench();
    let files = [bench.file("0001-a.patch", HUNK), bench.file("0002-b.patch", HUNK)];
    let Applied::Rejected { patch, .. } = bench.apply(&files) else { panic!("it applied twice") };
    assert_eq!(patch, "0002-b.patch");
}

/// Whatever leads out of the tree is refused, and nothing is written there.
#[test]
fn nothing_outside_is_touched() {
    let bench = bench();
    let victim = bench.file("victim", "safe\n");
    for path in ["../victim", "mm/../../victim", victim.to_str().unwrap()] {
        let diff = format!("--- {path}\n+++ {path}\n@@ -1 +1 @@\n-safe\n+lost\n");
        let with_prefix = format!("--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-safe\n+lost\n");
        let as_git = format!("diff --git a/{path} b/{path}\n{with_prefix}");
        for diff in [diff, with_prefix, as_git] {
            let reason = bench.rejected(&diff);
            assert!(!reason.is_empty());
            assert_eq!(fs::read_to_string(&victim).unwrap(), "safe\n", "{diff}");
        }
    }
}

/// A link in the tree is no way out either, and a series may not make one.
#[test]
fn links_are_no_way_out() {
    let bench = bench();
    let outside = bench.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), "safe\n").unwrap();
    std::os::unix::fs::symlink(&outside, bench.tree.join("door")).unwrap();
    bench.rejected("--- a/door/f\n+++ b/door/f\n@@ -1 +1 @@\n-safe\n+lost\n");
    bench.rejected("--- /dev/null\n+++ b/door/new\n@@ -0,0 +1 @@\n+lost\n");
    assert_eq!(fs::read_to_string(outside.join("f")).unwrap(), "safe\n");
    assert!(!outside.join("new").exists());
    let reason = bench.rejected(
        "diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n\
         +/etc/passwd\n\\ No newline at end of file\n",
    );
    assert!(reason.contains("link"), "{reason}");
    assert!(fs::symlink_metadata(bench.tree.join("l")).is_err());
}

/// Our build folder is not the series' to fill.
#[test]
fn the_build_folder_is_refused() {
    let reason = bench().rejected("--- /dev/null\n+++ b/build/Makefile\n@@ -0,0 +1 @@\n+all:\n");
    assert!(reason.contains("build folder"), "{reason}");
}

/// An empty file, a mail without a diff and binary garbage are rejected with a
/// reason, not an error of ours.
#[test]
fn garbage_is_rejected() {
    let bench = bench();
    assert_eq!(bench.rejected(""), "it holds no diff");
    assert_eq!(bench.rejected("Subject: hello\n\nNo patch here.\n"), "it holds no diff");
    let garbage: Vec<u8> =
        (0..5000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    bench.rejected(&garbage);
    bench.rejected([b"--- a/mm/a.c\n".as_slice(), &garbage].concat());
    bench.rejected(&HUNK[..HUNK.len() - 20]);
}

/// A checkout around the cache does not make git skip what is to be applied.
#[test]
fn a_repository_around_is_ignored() {
    let bench = bench();
    let init = Command::new("git").args(["init", "-q"]).cwd(bench.dir.path());
    init.check(&Cancel::new()).unwrap();
    assert_eq!(bench.apply(&[bench.file("0001-x.patch", HUNK)]), Applied::Whole);
    assert!(bench.a().contains("line four\n"));
}

/// A missing file is the user's mistake, named.
#[test]
fn a_missing_patch_is_named() {
    let error = read(&[PathBuf::from("/no/such/0001-x.patch")], &Cancel::new()).unwrap_err();
    assert_eq!(error.kind(), crate::base::error::Kind::BadInput);
    assert!(error.message().contains("/no/such/0001-x.patch"), "{error}");
}

/// Whether a series would apply is told from what its patches make of each other's files,
/// and the tree stays as it is.
#[test]
fn would_apply_follows_the_series() {
    let bench = bench();
    let made = "diff --git a/mm/new.c b/mm/new.c\nnew file mode 100644\n--- /dev/null\n\
                +++ b/mm/new.c\n@@ -0,0 +1 @@\n+one\n";
    let changed = "--- a/mm/new.c\n+++ b/mm/new.c\n@@ -1 +1 @@\n-one\n+two\n";
    let gone = "diff --git a/mm/a.c b/mm/a.c\ndeleted file mode 100644\n--- a/mm/a.c\n\
                +++ /dev/null\n@@ -1,20 +0,0 @@\n";
    let lines: String = (1..=20).map(|n| format!("-line {n}\n")).collect();
    let gone = format!("{gone}{lines}");
    let told = |texts: &[&str]| {
        let files: Vec<PathBuf> = texts
            .iter()
            .enumerate()
            .map(|(number, text)| {
                bench.file(&format!("{number:04}-x.patch", number = number + 1), text)
            })
            .collect();
        let patches = read(&files, &Cancel::new()).unwrap();
        would_apply(&bench.tree, &patches, &Cancel::new()).unwrap()
    };
    assert_eq!(told(&[made, changed]), Applied::Whole);
    assert!(matches!(told(&[changed]), Applied::Rejected { .. }));
    assert!(
        matches!(told(&[&gone, HUNK]), Applied::Rejected { patch, .. } if patch == "0002-x.patch")
    );
    assert!(!bench.tree.join("mm/new.c").exists());
    assert!(bench.a().contains("line 4\n"));
}
