// SPDX-License-Identifier: MIT OR Apache-2.0
//! One run on several machines, and caches that travel: with real processes, a real Slurm
//! where there is one, and guests that are played ([`support`]).
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/world.rs"]
mod world;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bakeoff::exit_code;
use serde_json::Value;
use world::World;

const PROGRAM: &str = env!("CARGO_BIN_EXE_bakeoff");

/// Plays a guest, if this process was started by a world; otherwise there is nothing to do.
#[test]
fn player() {
    world::play_if_asked();
}

fn world(dir: &Path) -> World {
    let this = std::env::current_exe().unwrap();
    let player = [this.to_str().unwrap(), "--exact", "player", "--nocapture", "--test-threads=1"];
    World::make(dir, &player, &["lockdep", "production"])
}

/// A folder with a short name: paths of sockets are short.
fn short() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("bo").tempdir_in("/tmp").unwrap()
}

impl World {
    fn run(&self, words: &[&str]) -> Output {
        self.bakeoff(Path::new(PROGRAM), "cache", words).output().unwrap()
    }

    fn boots(&self, words: &[&str]) -> Output {
        let machinery = self.machinery();
        let machinery: Vec<&str> = machinery.iter().map(String::as_str).collect();
        self.run(&[words, &machinery].concat())
    }
}

fn code(output: &Output) -> u8 {
    u8::try_from(output.status.code().unwrap()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A run's report without what is different from one run to the next by itself: when it
/// was, how long it took.
fn settled(run: &Path) -> Value {
    fn without_time(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.retain(|key, _| {
                    !["seconds", "minutes", "started"].iter().any(|part| key.contains(part))
                });
                map.values_mut().for_each(without_time);
            }
            Value::Array(all) => all.iter_mut().for_each(without_time),
            _ => {}
        }
    }
    let mut report: Value =
        serde_json::from_slice(&fs::read(run.join("report.json")).unwrap()).unwrap();
    without_time(&mut report);
    report
}

/// The first place where two values differ.
fn difference(a: &Value, b: &Value, at: &str) -> Option<String> {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let keys: std::collections::BTreeSet<&String> = x.keys().chain(y.keys()).collect();
            keys.into_iter().find_map(|key| {
                let none = &Value::Null;
                let (x, y) = (x.get(key).unwrap_or(none), y.get(key).unwrap_or(none));
                difference(x, y, &format!("{at}/{key}"))
            })
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            let pairs = x.iter().zip(y).enumerate();
            pairs.into_iter().find_map(|(n, (x, y))| difference(x, y, &format!("{at}/{n}")))
        }
        _ => (a != b).then(|| format!("{at}: {a} != {b}")),
    }
}

fn assert_same(one: &Path, other: &Path) {
    let (a, b) = (settled(one), settled(other));
    assert_eq!(difference(&a, &b, ""), None);
    assert!(a["verdicts"].as_array().is_some_and(|rows| !rows.is_empty()), "{a}");
}

fn files_below(dir: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_below(&path, all) } else { all.push(path) }
    }
}

/// Shards done one by one and merged are the run that one machine would have made; shards
/// that do not fit together are refused.
#[test]
fn shards_make_the_whole() {
    let dir = short();
    let world = world(dir.path());
    let spec = world.spec();
    // All kernels are in the cache: what a run that builds keeps beside is not compared.
    world.boots(&["run", &spec, "--out", "first"]);
    let whole = world.boots(&["run", &spec, "--out", "whole"]);
    assert!([exit_code::OK, exit_code::INCONCLUSIVE].contains(&code(&whole)), "{}", stderr(&whole));
    let list = stdout(&world.run(&["shard", &spec]));
    assert!(list.starts_with("  0  base/x86_64/lockdep"), "{list}");
    assert_eq!(list.lines().count(), 2, "{list}");
    for (shard, out) in [("0", "s0"), ("base/x86_64/production", "s1")] {
        let done = world.boots(&["shard", &spec, shard, "--out", out]);
        assert_eq!(code(&done), exit_code::OK, "{}", stderr(&done));
    }
    // Once more: everything is there, nothing is done again.
    let again = world.boots(&["shard", &spec, "0", "--out", "s0"]);
    assert_eq!(code(&again), exit_code::OK);
    assert!(!stderr(&again).contains("boot "), "{}", stderr(&again));
    let merged = world.run(&["merge", "s0", "s1", "--out", "merged"]);
    assert_eq!(code(&merged), code(&whole), "{}", stderr(&merged));
    assert_same(&world.dir.join("whole"), &world.dir.join("merged"));
    let verified = world.run(&["verify", "merged"]);
    assert_eq!(code(&verified), exit_code::OK, "{}", stdout(&verified));
    // A merged run is a run: nothing is left to be done.
    let resumed = world.boots(&["resume", "merged"]);
    assert!(!stderr(&resumed).contains("boot "), "{}", stderr(&resumed));

    // What does not fit together.
    let other = world.boots(&["shard", &spec, "1", "--out", "seed2", "--seed", "2"]);
    assert_eq!(code(&other), exit_code::OK, "{}", stderr(&other));
    let part = world.boots(&["shard", &spec, "1", "--out", "part", "--candidate", "good"]);
    assert_eq!(code(&part), exit_code::OK, "{}", stderr(&part));
    let yaml = world.dir.join("spec/bakeoff.yaml");
    let text = fs::read_to_string(&yaml).unwrap();
    fs::write(&yaml, text.replace("of four lines", "of five lines")).unwrap();
    let changed = world.boots(&["shard", &spec, "1", "--out", "changed"]);
    assert_eq!(code(&changed), exit_code::OK, "{}", stderr(&changed));
    for (runs, part) in [
        (&["s0", "seed2"][..], "have different seeds, 1 and 2"),
        (&["s0", "changed"], "are runs of different specs"),
        (&["s0", "part"], "have different plans"),
        (&["s0", "merged"], "both measured base/"),
        (&["s0", "nowhere"], "no run.json"),
    ] {
        let refused = world.run(&[&["merge"], runs, &["--out", "refused"]].concat());
        assert_eq!(code(&refused), exit_code::BAD_INPUT, "{part}");
        let says = stderr(&refused);
        assert!(says.contains(part) && says.lines().count() == 2, "{part}: {says}");
        assert!(!world.dir.join("refused").exists(), "{part}");
    }
    let none = world.run(&["shard", &spec, "9"]);
    assert!(stderr(&none).contains("there is no shard `9`"), "{}", stderr(&none));
    let taken = world.boots(&["shard", &spec, "1", "--out", "s0"]);
    assert!(stderr(&taken).contains("is shard base/x86_64/lockdep"), "{}", stderr(&taken));
}

/// A run that was interrupted goes on elsewhere with what `cache export` took along, and
/// makes nothing again; nothing of the environment or of where it lay gets into a report.
#[test]
fn a_run_moves_to_another_machine() {
    let dir = short();
    let world = world(dir.path());
    let whole = world.boots(&["run", &world.spec(), "--out", "whole"]);
    assert!(code(&whole) == exit_code::OK || code(&whole) == exit_code::INCONCLUSIVE);
    let exported = world.run(&["cache", "export", "kernels.tar.zst", "--run", "whole"]);
    assert_eq!(code(&exported), exit_code::OK, "{}", stderr(&exported));
    assert_eq!(stdout(&exported).matches("\nkernel/").count(), 8, "{}", stdout(&exported));
    // The other machine has an empty cache, and half of the boots.
    for cell in ["good", "worse"] {
        let boots = world.dir.join(format!("whole/cells/base/{cell}/x86_64/production/boots"));
        fs::remove_dir_all(boots).unwrap();
    }
    fs::rename(world.dir.join("whole"), world.dir.join("moved")).unwrap();
    let words = ["cache", "import", "kernels.tar.zst"];
    let elsewhere =
        |words: &[&str]| world.bakeoff(Path::new(PROGRAM), "cache2", words).output().unwrap();
    let imported = elsewhere(&words);
    assert_eq!(code(&imported), exit_code::OK, "{}", stderr(&imported));
    assert!(stdout(&imported).contains("9 entries new"), "{}", stdout(&imported));
    let again = elsewhere(&words);
    assert!(
        stdout(&again).contains("0 entries new, 0.0 MiB; 9 there already"),
        "{}",
        stdout(&again)
    );
    let machinery = world.machinery();
    let machinery: Vec<&str> = machinery.iter().map(String::as_str).collect();
    let resumed = elsewhere(&[&["resume", "moved"][..], &machinery].concat());
    assert_eq!(code(&resumed), code(&whole), "{}", stderr(&resumed));
    let said = stderr(&resumed);
    assert!(said.contains("in the cache") && !said.contains("built"), "{said}");
    for file in ["report.json", "report.txt", "report.html", "run.json"] {
        let text = fs::read_to_string(world.dir.join("moved").join(file)).unwrap();
        assert!(!text.contains("hunter2"), "{file}");
        // The base's folder and the emulator are named; nothing else of where things lie.
        let own = dir.path().to_str().unwrap();
        let paths: Vec<&str> =
            text.split(['"', ' ', ';', '<', '>']).filter(|w| w.contains(own)).collect();
        let known = ["/tree", "/qemu", "/spec"];
        let strange = paths.iter().find(|path| !known.iter().any(|end| path.ends_with(end)));
        assert!(file == "run.json" || strange.is_none(), "{file}: {strange:?}");
    }
    let mut files = Vec::new();
    files_below(&world.dir.join("moved"), &mut files);
    for file in files {
        let text = fs::read(&file).unwrap();
        assert!(!text.windows(7).any(|window| window == b"hunter2"), "{}", file.display());
    }

    // Files that are no archive.
    fs::write(world.dir.join("page"), "<!doctype html><title>Sign in</title>").unwrap();
    for (file, part) in [("page", "is a web page"), ("spec/bakeoff.yaml", "is not a cache archive")]
    {
        let refused = elsewhere(&["cache", "import", file]);
        assert_eq!(code(&refused), exit_code::BAD_INPUT);
        assert!(stderr(&refused).contains(part), "{}", stderr(&refused));
    }
    let refused = elsewhere(&["cache", "export", "x.tar.zst", "kernels"]);
    assert!(stderr(&refused).contains("did you mean `kernel`?"), "{}", stderr(&refused));
    assert!(!world.dir.join("x.tar.zst").exists());
}

/// A second machine with the same remote cache builds nothing.
#[test]
fn a_remote_cache_saves_the_building() {
    let dir = short();
    let world = world(dir.path());
    let remote = world.path("remote");
    let (spec, machinery) = (world.spec(), world.machinery());
    let machinery: Vec<&str> = machinery.iter().map(String::as_str).collect();
    let on = |cache: &str, out: &str, push: &[&str]| {
        let words = ["run", &spec, "--out", out, "--cache-remote", &remote];
        let words = [&words[..], push, &machinery].concat();
        world.bakeoff(Path::new(PROGRAM), cache, &words).output().unwrap()
    };
    let first = on("cache1", "one", &["--cache-push"]);
    assert!(stderr(&first).contains("built, 3 objects"), "{}", stderr(&first));
    let second = on("cache2", "two", &[]);
    let said = stderr(&second);
    assert!(said.contains("from the remote cache") && !said.contains("objects"), "{said}");
    let verdicts = |run: &str| -> Vec<(Value, Value)> {
        let report = settled(&world.dir.join(run));
        let rows = report["verdicts"].as_array().unwrap().clone();
        rows.into_iter().map(|row| (row["candidate"].clone(), row["verdict"].clone())).collect()
    };
    assert_eq!(verdicts("one"), verdicts("two"));
    assert_eq!(verdicts("one").len(), 4);
    let gone = world.run(&["list", "specs", "--cache-remote", "/no/such"]);
    assert_eq!(code(&gone), exit_code::OK, "what needs no cache does not ask for it");
    let gone = world.boots(&["run", &spec, "--out", "three", "--cache-remote", "/no/such"]);
    assert_eq!(code(&gone), exit_code::BAD_INPUT);
    assert!(stderr(&gone).contains("there is no folder /no/such"), "{}", stderr(&gone));
}

/// What fits into a time is done, the rest is named, and the run is whole for what it is
/// about; too little time is refused with what it takes.
#[test]
fn within_a_time() {
    let dir = short();
    let world = world(dir.path());
    let spec = world.spec();
    // Expected times depend on the CPUs there are: one of them, here.
    let machinery = world.machinery();
    let machinery: Vec<&str> = machinery.iter().map(String::as_str).collect();
    let on_one_cpu = |words: &[&str]| {
        let words = [&["-c", "0", PROGRAM][..], words, &machinery].concat();
        world.bakeoff(Path::new("taskset"), "cache", &words).output().unwrap()
    };
    let little = on_one_cpu(&["run", &spec, "--within", "20s", "--out", "little"]);
    assert_eq!(code(&little), exit_code::BAD_INPUT);
    assert!(stderr(&little).contains("nothing can be decided"), "{}", stderr(&little));
    assert!(!world.dir.join("little").exists());
    let part = on_one_cpu(&["run", &spec, "--within", "12m", "--out", "part"]);
    let said = stderr(&part);
    assert!([exit_code::OK, exit_code::INCONCLUSIVE].contains(&code(&part)), "{said}");
    assert!(said.contains("within 12 min: 4 of 8 kernels"), "{said}");
    assert!(said.contains("left out, in the order in which it would come:"), "{said}");
    assert!(said.contains("base/good/x86_64/production"), "{said}");
    let run: Value =
        serde_json::from_slice(&fs::read(world.dir.join("part/run.json")).unwrap()).unwrap();
    assert!(!run["left_out"].as_array().unwrap().is_empty());
    // The page does not pass over it.
    let page = stdout(&part).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.contains("left out, for --within gave no time for it"), "{page}");
    // With all kernels in the cache everything fits.
    world.boots(&["run", &spec, "--out", "whole"]);
    let dry = on_one_cpu(&["run", &spec, "--within", "12m", "--dry-run"]);
    assert!(stdout(&dry).contains("within 12 min: 8 of 8 kernels"), "{}", stdout(&dry));
}

/// A Slurm that is not there is one line.
#[test]
fn no_slurm_is_one_line() {
    let dir = short();
    let world = world(dir.path());
    let machinery = world.machinery();
    let mut words = vec!["run", "spec", "--out", "run", "--on", "slurm"];
    words.extend(machinery.iter().map(String::as_str));
    let output = world
        .bakeoff(Path::new(PROGRAM), "cache", &words)
        .env("PATH", without_slurm(&world))
        .output()
        .unwrap();
    assert_eq!(code(&output), exit_code::MISSING_PREREQUISITE, "{}", stderr(&output));
    assert!(stderr(&output).contains("there is no Slurm here: no `sbatch`"), "{}", stderr(&output));
    assert_eq!(stderr(&output).lines().count(), 2, "{}", stderr(&output));
    assert!(!world.dir.join("run").exists());
}

/// A `PATH` with everything but Slurm.
fn without_slurm(world: &World) -> PathBuf {
    let bin = world.dir.join("bin");
    fs::create_dir_all(&bin).unwrap();
    for dir in ["/usr/bin", "/bin"] {
        let Ok(entries) = fs::read_dir(dir) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let slurm = ["sbatch", "squeue", "sinfo", "scancel"];
            if !slurm.iter().any(|one| *one == name) {
                let _ = std::os::unix::fs::symlink(entry.path(), bin.join(name));
            }
        }
    }
    bin
}

#[path = "support/slurm.rs"]
mod slurm;

/// Two shards on two nodes of a real Slurm are the run that one machine makes, also when one
/// node dies under its shard: what it had measured is not measured again.
#[test]
fn a_cluster_does_the_shards() {
    let dir = short();
    let world = world(dir.path());
    let cluster = slurm::Cluster::start(&world.dir.join("slurm"))
        .expect("Slurm is not installed: run `bakeoff setup --tests`");
    let (spec, machinery) = (world.spec(), world.machinery());
    let machinery: Vec<&str> = machinery.iter().map(String::as_str).collect();
    world.boots(&["run", &spec, "--out", "first"]);
    let whole = world.boots(&["run", &spec, "--out", "whole"]);
    let conf = cluster.conf();
    let on = |words: &[&str]| -> Command {
        let mut command = world.bakeoff(Path::new(PROGRAM), "cache", &[words, &machinery].concat());
        command.env("SLURM_CONF", &conf);
        command
    };
    let refused = on(&["run", &spec, "--out", "no", "--on", "slurm", "--partition", "gpu"]);
    let refused = { refused }.output().unwrap();
    assert_eq!(code(&refused), exit_code::BAD_INPUT, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("Slurm has no partition `gpu`"), "{}", stderr(&refused));
    assert!(!world.dir.join("no").exists());

    // Guests take their time, so that a node can die in the middle.
    fs::write(world.dir.join("slow"), "300").unwrap();
    let log = fs::File::create(world.dir.join("log")).unwrap();
    let mut run = on(&["run", &spec, "--out", "run", "--on", "slurm", "--partition", "all"])
        .stderr(log)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let first = world.dir.join("run/shards/0");
    let boots = || {
        let mut files = Vec::new();
        if first.join("cells").is_dir() {
            files_below(&first.join("cells"), &mut files);
        }
        files.retain(|file| file.ends_with("end.json"));
        files
    };
    let until = std::time::Instant::now() + std::time::Duration::from_secs(120);
    while boots().len() < 3 && std::time::Instant::now() < until {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let made = boots();
    assert!(made.len() >= 3, "{}", fs::read_to_string(world.dir.join("log")).unwrap());
    let when = |file: &PathBuf| fs::metadata(file).unwrap().modified().unwrap();
    let before: Vec<_> = made.iter().map(when).collect();
    cluster.kill_the_node_of(&world.dir.join("run/slurm/job.json"), 0);
    fs::write(world.dir.join("slow"), "1").unwrap();
    let status = loop {
        if let Some(status) = run.try_wait().unwrap() {
            break status;
        }
        cluster.hurry(&world.dir.join("run/slurm/job.json"), 0);
        std::thread::sleep(std::time::Duration::from_secs(3));
    };
    let said = fs::read_to_string(world.dir.join("log")).unwrap();
    assert_eq!(status.code(), whole.status.code(), "{said}");
    // Slurm says that the node is gone, or it only forgets the task.
    let again = ["it will go on from there", "it is submitted again"];
    assert!(again.iter().any(|words| said.contains(words)), "{said}");
    assert!(said.contains("boot    base/stock/x86_64/lockdep 0-000: ran"), "{said}");
    let after: Vec<_> = made.iter().map(when).collect();
    assert_eq!(before, after, "what was measured was measured again");
    assert_same(&world.dir.join("whole"), &world.dir.join("run"));
    drop(cluster);
    let gone = { on(&["resume", "run", "--on", "slurm"]) }.output().unwrap();
    assert_eq!(code(&gone), exit_code::FAILURE);
    assert!(stderr(&gone).contains("Slurm does not answer"), "{}", stderr(&gone));
    assert_eq!(stderr(&gone).lines().count(), 2, "{}", stderr(&gone));
}
