// SPDX-License-Identifier: MIT OR Apache-2.0
//! kselftests of the base, static, with the runner's output.
//!
//! The kernel's own runner needs rsync, perl, `stdbuf` and more in the guest. So the folder
//! is built by its own Makefile, and a script of ours runs its tests one after the other
//! and prints what `kselftest/runner.sh` would: the test's own lines behind `# `, and a
//! result line from its exit status.
//!
//! Of a folder, tests that do not compile are left out, and the others are run: in 6.12
//! `mm/khugepaged.c` lacks a macro, and a dozen folders want libraries that not every host
//! has. What was left out is skipped by the script, with the error, for each kernel alike.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::result::Result as Outcome;

use bakeoff_fuzz::probe::command::ktap::NOT_BUILT;

use super::Desk;
use crate::base::command::{Command, find_program, quote};
use crate::base::error::{Context, Error, Result};
use crate::base::scratch::Scratch;
use crate::make::compile::{first_errors, our_fault, sandbox};
use crate::make::source::Tree;
use crate::make::source::workspace::{copy_tree, link_tree};
use crate::spec::arch::Arch;

/// Where tests lie in the workload.
const FOLDER: &str = "kselftest";
/// Characters of the reason why a test does not build.
const LONGEST_REASON: usize = 200;

/// What Makefiles call for copies on a host without rsync: its options only keep modes and
/// follow links.
const RSYNC: &str = "#!/bin/sh
# Copies as `rsync -a --copy-unsafe-links SOURCE... FOLDER` does.
for word do
    shift
    case $word in -*) ;; *) set -- \"$@\" \"$word\" ;; esac
done
exec cp -aL -- \"$@\"
";

/// Builds the tests of a folder into the workload. The inner error is why they do not
/// build here, which is a result.
pub(super) fn build(
    name: &str,
    workload: &Path,
    arch: &Arch,
    tree: &Tree,
    desk: &Desk<'_>,
) -> Result<Outcome<(), String>> {
    let folder = Path::new("tools/testing/selftests").join(name);
    if !tree.dir.join(&folder).join("Makefile").is_file() {
        return Err(Error::bad_input(format!("{} has no kselftest `{name}`", tree.label))
            .hint("`kselftest:` names folders of tools/testing/selftests"));
    }
    let dir = Scratch::new_in(&desk.cache.work_dir()?, "kselftest-")?;
    let work = dir.path().canonicalize().at_path("find", dir.path())?;
    let linux = work.join("linux");
    link_tree(&tree.dir, &linux, desk.cancel)?;
    // Some Makefiles write beside their sources, which are hard links to the cache's.
    let tests = linux.join("tools/testing/selftests");
    fs::remove_dir_all(&tests).at_path("remove", &tests)?;
    let from = tree.dir.join("tools/testing/selftests");
    copy_tree(&from, &tests, &|_| false, desk.cancel)?;
    let make = Make { work: &work, linux: &linux, arch, desk };
    make.prepare()?;
    let headers = work.join("headers");
    let install = |path: &Path| format!("INSTALL_HDR_PATH={}", path.display());
    let build = work.join("build");
    let o = format!("O={}", build.display());
    let (_, kernel_arch) = make.variables();
    if let Err(said) =
        make.run(&linux, &[o, kernel_arch, install(&headers), "headers_install".into()])?
    {
        return Ok(Err(format!("headers_install: {}", in_short(&said))));
    }
    let out = workload.join(FOLDER).join(name);
    fs::create_dir_all(&out).at_path("create", &out)?;
    let out = out.canonicalize().at_path("find", &out)?;
    let objects = work.join("objects");
    fs::create_dir_all(&objects).at_path("create", &objects)?;
    let (cross, kernel_arch) = make.variables();
    let words = |targets: &[&str]| {
        let mut words = vec![
            cross.clone(),
            kernel_arch.clone(),
            format!("OUTPUT={}", objects.display()),
            format!("KHDR_INCLUDES=-isystem {}/include", headers.display()),
            "USERLDFLAGS=-static".to_owned(),
            format!("INSTALL_PATH={}", out.display()),
            format!("COLLECTION={name}"),
        ];
        words.extend(targets.iter().map(|word| (*word).to_owned()));
        words
    };
    let here = linux.join(&folder);
    let (all, said) = match make.run(&here, &words(&["-k", "-Otarget", "all"]))? {
        Ok(said) => (true, said),
        Err(said) => (false, said),
    };
    let failed = failed_targets(&said, &objects);
    // What installs passes over what is not there.
    let install: &[&str] = if all && failed.is_empty() { &["install"] } else { &["-i", "install"] };
    if let Err(said) = make.run(&here, &words(install))? {
        return Ok(Err(in_short(&said)));
    }
    let listed = make.ask(&here, &words(&["-s", "emit_tests"]))?;
    let tests: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'))
        .collect();
    if tests.is_empty() {
        return Ok(Err("its Makefile names no tests".to_owned()));
    }
    let unbuilt = unbuilt(&tests, failed, &said, &|test| out.join(test).is_file());
    if tests.iter().all(|test| unbuilt.contains_key(*test)) {
        return Ok(Err(in_short(&said)));
    }
    for (test, why) in &unbuilt {
        let what = format!("kselftest {name} {test} does not build for {}", arch.name);
        desk.events.warning(format!("{what}, and is not run: {why}"));
    }
    let script = workload.join(format!("kselftest-{}", name.replace('/', "-")));
    fs::write(&script, runner(name, &tests, &unbuilt)).at_path("write", &script)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).at_path("write", &script)?;
    Ok(Ok(()))
}

/// What make said, on one line.
fn in_short(said: &str) -> String {
    first_errors(said).replace('\n', "; ")
}

/// What make could not make below a folder, and the first error of each. The output of each
/// target stands together (`-Otarget`).
fn failed_targets(said: &str, objects: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut since = Vec::new();
    for line in said.lines() {
        since.push(line);
        let Some((_, behind)) = line.split_once("*** [") else { continue };
        let target = behind.split(']').next().unwrap_or_default();
        let path = target.rsplit(' ').next().unwrap_or_default();
        if let Ok(below) = Path::new(path).strip_prefix(objects) {
            let error = since.iter().find(|line| line.contains("error: ") || line.contains("ld: "));
            let why = error.unwrap_or(&line).trim();
            all.entry(below.display().to_string()).or_insert_with(|| why.to_owned());
        }
        since.clear();
    }
    all
}

/// The tests without a program, and why there is none.
fn unbuilt(
    tests: &[&str],
    failed: BTreeMap<String, String>,
    said: &str,
    is_there: &dyn Fn(&str) -> bool,
) -> BTreeMap<String, String> {
    let mut all = failed;
    for test in tests.iter().filter(|test| !is_there(test)) {
        all.entry((*test).to_owned()).or_insert_with(|| in_short(said));
    }
    for why in all.values_mut() {
        // One line of KTAP, in which `#` begins a directive.
        *why = why.chars().filter(|c| !c.is_control() && *c != '#').take(LONGEST_REASON).collect();
    }
    all
}

/// The script that runs the tests of a folder.
fn runner(name: &str, tests: &[&str], unbuilt: &BTreeMap<String, String>) -> String {
    let tests = tests.iter().map(|test| quote(test)).collect::<Vec<_>>().join(" ");
    let mut no_program = String::new();
    for (test, why) in unbuilt {
        no_program += &format!("    {}) why={} ;;\n", quote(test), quote(why));
    }
    format!(
        "#!/bin/sh
# As tools/testing/selftests/kselftest/runner.sh prints it. Tests may write beside
# themselves, so they run in a copy.
cp -a /workload/{FOLDER}/{name} tests && cd tests || exit 1
# All of them, or those that were named.
[ $# -gt 0 ] || set -- {tests}
# Why there is no program of a test, if there is none.
no_program() {{
    why=
    case $1 in
{no_program}    *) return 1 ;;
    esac
}}
for test; do
    no_program \"$test\" || [ -x \"./$test\" ] ||
        {{ echo \"kselftest {name} has no test $test\" >&2; exit 127; }}
done
echo 'TAP version 13'
echo \"1..$#\"
number=0
# As of one that skips, until a test has run.
result=4
for test; do
    number=$((number + 1))
    label=\"selftests: {name}: $test\"
    if no_program \"$test\"; then
        echo \"ok $number $label # SKIP {NOT_BUILT}: $why\"
        continue
    fi
    echo \"# $label\"
    {{ ./\"$test\" 2>&1; echo $? > ../status; }} | sed 's/^/# /'
    read -r status < ../status
    case $status in
    4) echo \"ok $number $label # SKIP\"; continue ;;
    0) echo \"ok $number $label\" ;;
    2) echo \"ok $number $label # XFAIL\" ;;
    *) echo \"not ok $number $label # exit=$status\"; result=1 ;;
    esac
    [ $result = 1 ] || result=0
done
exit $result
"
    )
}

/// make for kselftests, which are part of the base and as trusted as it.
struct Make<'a> {
    work: &'a Path,
    linux: &'a Path,
    arch: &'a Arch,
    desk: &'a Desk<'a>,
}

impl Make<'_> {
    fn variables(&self) -> (String, String) {
        let cross = format!("CROSS_COMPILE={}", self.arch.cross_compile());
        (cross, format!("ARCH={}", self.arch.kernel.arch))
    }

    /// The folders and stand-ins that it needs.
    fn prepare(&self) -> Result<()> {
        let bin = self.work.join("bin");
        for dir in [&bin, &self.work.join("tmp"), &self.work.join("build")] {
            fs::create_dir_all(dir).at_path("create", dir)?;
        }
        if find_program("rsync").is_none() {
            let rsync = bin.join("rsync");
            fs::write(&rsync, RSYNC).at_path("write", &rsync)?;
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&rsync, mode).at_path("write", &rsync)?;
        }
        Ok(())
    }

    fn command(&self, dir: &Path, words: &[String]) -> Command {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let mut argv = vec!["make".to_owned(), format!("-j{jobs}"), "-C".into()];
        argv.push(dir.display().to_string());
        argv.extend(words.iter().cloned());
        let mut argv = sandbox::leash(argv, self.desk.cancel).into_iter();
        let path = std::env::var("PATH").unwrap_or_default();
        Command::new(argv.next().unwrap_or_default())
            .args(argv)
            .cwd(self.linux)
            .only_env([
                ("PATH".to_owned(), format!("{}:{path}", self.work.join("bin").display())),
                ("HOME".to_owned(), self.work.display().to_string()),
                ("LC_ALL".to_owned(), "C".to_owned()),
                ("TMPDIR".to_owned(), self.work.join("tmp").display().to_string()),
            ])
            .log(self.work.join("make.log"))
            .timeout(std::time::Duration::from_secs(30 * 60))
    }

    /// Runs make; what it says is the inner error if it fails.
    fn run(&self, dir: &Path, words: &[String]) -> Result<Outcome<String, String>> {
        let finished = self.command(dir, words).run(self.desk.cancel)?;
        let log = self.work.join("make.log");
        let said = String::from_utf8_lossy(&fs::read(&log).at_path("read", &log)?).into_owned();
        let failed = !finished.success() || said.contains("] Error ");
        match our_fault(&finished, &said).filter(|_| failed) {
            Some(why) => Err(Error::failure(format!("building kselftests failed: {why}"))
                .hint("free memory or disk space (`bakeoff cache`)")),
            None if finished.success() => Ok(Ok(said)),
            None => Ok(Err(said)),
        }
    }

    /// Runs make for what it prints.
    fn ask(&self, dir: &Path, words: &[String]) -> Result<String> {
        self.run(dir, words)?.map_err(|said| Error::failure(in_short(&said)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The script prints what the kernel's own runner does.
    #[test]
    fn the_script_prints_ktap() {
        let dir = tempfile::tempdir().unwrap();
        let tests = dir.path().join("tests");
        fs::create_dir(&tests).unwrap();
        for (name, body) in [
            ("good", "echo TAP version 13; echo 1..1; echo ok 1 a"),
            ("bad", "exit 1"),
            ("no", "exit 4"),
        ] {
            let test = tests.join(name);
            fs::write(&test, format!("#!/bin/sh\n{body}\n")).unwrap();
            fs::set_permissions(&test, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let why = "lost.c:7:24: error: \u{2018}KSFT_SKIP\u{2019} isn't there".to_owned();
        let unbuilt = BTreeMap::from([("lost".to_owned(), why)]);
        let script = runner("futex", &["good", "bad", "no"], &unbuilt);
        let script = script.replace("cp -a /workload/kselftest/futex tests &&", "");
        let run = |named: &[&str]| {
            let mut sh = std::process::Command::new("sh");
            sh.args(["-c", &script, "kselftest-futex"]).args(named).current_dir(dir.path());
            let ran = sh.output().unwrap();
            (String::from_utf8(ran.stdout).unwrap(), ran.status.code())
        };
        let (said, status) = run(&[]);
        assert_eq!(
            said,
            "TAP version 13\n1..3\n# selftests: futex: good\n# TAP version 13\n# 1..1\n# ok 1 a\n\
             ok 1 selftests: futex: good\n# selftests: futex: bad\n\
             not ok 2 selftests: futex: bad # exit=1\n# selftests: futex: no\n\
             ok 3 selftests: futex: no # SKIP\n"
        );
        assert_eq!(status, Some(1));
        let (said, status) = run(&["no"]);
        assert_eq!(
            said,
            "TAP version 13\n1..1\n# selftests: futex: no\nok 1 selftests: futex: no # SKIP\n"
        );
        // Nothing ran: that is no pass.
        assert_eq!(status, Some(4));
        assert_eq!(run(&["good", "no"]).1, Some(0));
        // A test that does not build is skipped with its error, and the others run.
        let (said, status) = run(&["lost", "good"]);
        assert!(
            said.starts_with(
                "TAP version 13\n1..2\nok 1 selftests: futex: lost # SKIP does not build: \
                 lost.c:7:24: error: \u{2018}KSFT_SKIP\u{2019} isn't there\n# selftests: futex: good\n"
            ),
            "{said}"
        );
        assert!(said.ends_with("\nok 2 selftests: futex: good\n"), "{said}");
        assert_eq!(
            (status, run(&["lost"]).1, run(&["lost", "bad"]).1),
            (Some(0), Some(4), Some(1))
        );
        // A test that is not there is no test that fails.
        assert_eq!(run(&["good", "goood"]), (String::new(), Some(127)));
    }

    /// The stand-in for rsync copies what Makefiles have it copy.
    #[test]
    fn the_stand_in_copies() {
        let dir = tempfile::tempdir().unwrap();
        let rsync = dir.path().join("rsync");
        fs::write(&rsync, RSYNC).unwrap();
        fs::write(dir.path().join("a b"), "1").unwrap();
        fs::create_dir(dir.path().join("to")).unwrap();
        let ran = std::process::Command::new("sh")
            .arg(&rsync)
            .args(["-a", "--copy-unsafe-links", "a b", "to/"])
            .current_dir(dir.path())
            .status()
            .unwrap();
        assert!(ran.success() && dir.path().join("to/a b").is_file());
    }

    /// Each target that make gave up is named, with its own first error; and a test whose
    /// program was never tried counts as well.
    #[test]
    fn what_does_not_build_is_named() {
        let said = "\
  CC       khugepaged
khugepaged.c: In function 'main':
khugepaged.c:1195:24: error: 'KSFT_SKIP' undeclared (first use in this function)
khugepaged.c:1195:24: note: each undeclared identifier # is reported only once
make: *** [../lib.mk:222: /o/objects/khugepaged] Error 1
  CC       cow
  CC       wait
/usr/bin/ld: cannot find -lnuma: No such file or directory
collect2: error: ld returned 1 exit status
make[1]: *** [../../lib.mk:222: /o/objects/functional/wait] Error 1
make: *** [Makefile:9: all] Error 2
make: Target 'all' not remade because of errors.
";
        let failed = failed_targets(said, Path::new("/o/objects"));
        let names: Vec<&str> = failed.keys().map(String::as_str).collect();
        assert_eq!(names, ["functional/wait", "khugepaged"]);
        assert_eq!(
            failed["functional/wait"],
            "/usr/bin/ld: cannot find -lnuma: No such file or directory"
        );
        let all = unbuilt(&["run.sh", "never"], failed, said, &|test| test == "run.sh");
        let names: Vec<&str> = all.keys().map(String::as_str).collect();
        assert_eq!(names, ["functional/wait", "khugepaged", "never"]);
        assert!(all["khugepaged"].starts_with("khugepaged.c:1195:24: error: 'KSFT_SKIP'"));
        assert!(all.values().all(|why| !why.contains('#') && !why.contains('\n')), "{all:?}");
    }
}
