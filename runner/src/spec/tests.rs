// SPDX-License-Identifier: MIT OR Apache-2.0

use std::path::PathBuf;

use super::*;
use crate::base::error::Kind;

fn fixtures(kind: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/spec").join(kind);
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// Every spec in `valid/` loads.
#[test]
fn valid_specs_load() {
    for file in fixtures("valid") {
        if let Err(error) = Spec::load(&file, &DataDir::embedded()) {
            panic!("{}: {}", file.display(), error.chain());
        }
    }
}

/// Every spec in `invalid/` is refused as bad input, and the error has the line and the
/// column that `# at:` names, and says what the `# expect:` lines say.
#[test]
fn invalid_specs_are_refused_with_place_and_advice() {
    let mut failures = Vec::new();
    for file in fixtures("invalid") {
        let text = fs::read_to_string(&file).unwrap();
        let error = match Spec::load(&file, &DataDir::embedded()) {
            Ok(_) => panic!("{} was accepted", file.display()),
            Err(error) => error,
        };
        assert_eq!(error.kind(), Kind::BadInput, "{}", file.display());
        let head = |key: &str| -> Vec<String> {
            text.lines().filter_map(|line| Some(line.strip_prefix(key)?.to_owned())).collect()
        };
        let [at] = &head("# at: ")[..] else { panic!("{} has no place", file.display()) };
        let expected = head("# expect: ");
        assert!(!expected.is_empty(), "{} expects nothing", file.display());
        let said = error.chain();
        if !said.starts_with(&format!("{}:{at}: ", file.display())) {
            failures.push(format!("not at {at}: {said}"));
        }
        for expected in expected.iter().filter(|expected| !said.contains(*expected)) {
            failures.push(format!("{expected:?} not in {said:?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The bake-off this project began with is a valid spec.
#[test]
fn the_first_case_loads() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../patches/find-vma");
    let spec = Spec::load(&dir, &DataDir::embedded()).unwrap();
    assert_eq!(spec.reference().unwrap().name, "landed");
    let with_patches = |c: &&Candidate| matches!(c.on["6.12"], Series::Patches(_));
    assert_eq!(spec.candidates.iter().filter(with_patches).count(), 6);
}

/// Every bake-off of this project loads, so that no rename leaves one behind.
#[test]
fn all_bake_offs_load() {
    let patches = Path::new(env!("CARGO_MANIFEST_DIR")).join("../patches");
    let folders = fs::read_dir(patches).unwrap().map(|entry| entry.unwrap().path());
    let mut loaded = 0;
    for folder in folders.filter(|folder| folder.join(FILE_NAME).is_file()) {
        if let Err(error) = Spec::load(&folder, &DataDir::embedded()) {
            panic!("{}: {}", folder.display(), error.chain());
        }
        loaded += 1;
    }
    assert!(loaded >= 2);
}

/// A missing spec says what to give instead.
#[test]
fn a_missing_spec_has_a_hint() {
    let error = Spec::load(Path::new("no/such/folder"), &DataDir::embedded()).unwrap_err();
    assert!(error.next_step().unwrap().contains("bakeoff.yaml"));
}

/// A misspelt bake-off gets the nearest one that lies beside it.
#[test]
fn a_misspelt_bake_off_has_a_near_one() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../patches");
    let next = |name: &str| {
        let error = Spec::load(&dir.join(name), &DataDir::embedded()).unwrap_err();
        error.next_step().unwrap().to_owned()
    };
    assert_eq!(next("find-vm"), format!("did you mean {}?", dir.join("find-vma").display()));
    assert!(next("zzz").contains("such as patches/find-vma"));
}

/// A series from the command line is a contender on every base, and foreign.
#[test]
fn added_series_are_foreign() {
    let dir = tempfile::tempdir().unwrap();
    let series = dir.path().join("my-series");
    fs::create_dir(&series).unwrap();
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/spec/valid/smallest.yaml");
    let mut spec = Spec::load(&file, &DataDir::embedded()).unwrap();
    assert!(spec.add_series(&series).unwrap_err().message().contains("no patches"));
    fs::write(series.join("0001-x.patch"), "").unwrap();
    spec.add_series(&series).unwrap();
    let added = spec.candidates.last().unwrap();
    assert!(added.foreign && added.role == Role::Contender);
    assert!(spec.add_series(&series).unwrap_err().message().contains("already"));
}
