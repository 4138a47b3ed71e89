//! Every fixture is read as its header says, and every row of the table has one.
//!
//! A fixture is a console log of our own with the expectation on top, up to the first empty line.
//! `BLESS=1 cargo test -p bakeoff fixtures` rewrites the expectations (not `ROW` and `FROM`); read
//! the diff before believing it.

use crate::see::observe::diff::{Change, diff, tally};
use crate::see::observe::table::rows;
use crate::see::observe::{Splat, fingerprint, parse, signature};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

struct Fixture {
    path: PathBuf,
    header: String,
    log: Vec<u8>,
}

impl Fixture {
    fn field(&self, key: &str) -> Option<&str> {
        self.header.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
    }
}

fn fixtures() -> Vec<Fixture> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/splats");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let file = std::fs::read(&path).unwrap();
            let end = file
                .windows(2)
                .position(|pair| pair == b"\n\n")
                .unwrap_or_else(|| panic!("{}: no empty line", path.display()));
            Fixture {
                header: String::from_utf8(file[..end + 1].to_vec()).unwrap(),
                log: file[end + 2..].to_vec(),
                path,
            }
        })
        .collect()
}

/// What a log is expected to yield, as its header has it.
fn header(fixture: &Fixture, splats: &[Splat]) -> String {
    let mut text = String::new();
    for key in ["ROW", "FROM"] {
        let value = fixture.field(key);
        let value = value.unwrap_or_else(|| panic!("{}: no {key}", fixture.path.display()));
        let _ = writeln!(text, "{key}: {value}");
    }
    for (index, splat) in splats.iter().enumerate() {
        if index > 0 {
            let _ = writeln!(text, "AND: {}", splat.row);
        }
        let _ = writeln!(text, "TITLE: {}", splat.title);
        for alt in &splat.alt_titles {
            let _ = writeln!(text, "ALT: {alt}");
        }
        let _ = writeln!(text, "TYPE: {}", splat.kind.label());
        if let Some(source) = &splat.source {
            let _ = writeln!(text, "SOURCE: {source}");
        }
        if let Some(cpu) = splat.cpu {
            let _ = writeln!(text, "CPU: {cpu}");
        }
        if let (Some(comm), Some(pid)) = (&splat.comm, splat.pid) {
            let _ = writeln!(text, "TASK: {comm}/{pid}");
        }
        if let Some(context) = splat.context {
            let _ = writeln!(text, "CONTEXT: {context:?}");
        }
        if splat.corrupted {
            let _ = writeln!(text, "CORRUPTED: Y");
        }
        if splat.panicked {
            let _ = writeln!(text, "PANICKED: Y");
        }
        for note in &splat.notes {
            let _ = writeln!(text, "NOTE: {note:?}");
        }
        if let Some(report) = &splat.lockdep {
            let _ = writeln!(text, "LOCKDEP: {:?}", report.kind);
            for link in &report.chain {
                let at = link.at.as_ref().map_or("?", |at| at.name());
                let _ = writeln!(text, "CHAIN: #{} {} in {at}", link.index, link.class.name);
            }
            for held in &report.held {
                let at = held.at.as_ref().map_or("?", |at| at.name());
                let _ = writeln!(text, "HELD: #{} {} in {at}", held.index, held.class.name);
            }
        }
        let _ = writeln!(text, "FINGERPRINT: {}", fingerprint(splat));
    }
    text
}

#[test]
fn fixtures_are_read_as_their_headers_say() {
    let bless = std::env::var_os("BLESS").is_some();
    for fixture in fixtures() {
        let splats = parse(&fixture.log);
        let found = header(&fixture, &splats);
        let row = splats.first().map_or("none", |splat| splat.row.as_str());
        assert_eq!(fixture.field("ROW"), Some(row), "{}", fixture.path.display());
        if bless {
            let mut file = found.clone().into_bytes();
            file.push(b'\n');
            file.extend_from_slice(&fixture.log);
            // Renamed, not written over: the other tests are reading.
            let new = fixture.path.with_extension("new");
            std::fs::write(&new, file).unwrap();
            std::fs::rename(&new, &fixture.path).unwrap();
        } else {
            assert_eq!(fixture.header, found, "{}", fixture.path.display());
        }
    }
}

#[test]
fn every_row_has_a_fixture() {
    let have: BTreeSet<String> =
        fixtures().iter().filter_map(|fixture| Some(fixture.field("ROW")?.to_owned())).collect();
    let missing: Vec<&str> =
        rows().map(|row| row.name).filter(|name| !have.contains(*name)).collect();
    assert!(missing.is_empty(), "no fixture for {missing:?}");
}

fn splat(name: &str) -> Splat {
    let fixture = fixtures()
        .into_iter()
        .find(|fixture| fixture.path.file_stem().is_some_and(|stem| stem == name))
        .unwrap_or_else(|| panic!("no fixture {name}"));
    parse(&fixture.log).remove(0)
}

/// Two boots, two architectures, two wordings: one bug.
#[test]
fn the_same_bug_has_one_fingerprint() {
    for same in [
        &["circular-arm64", "circular-again-arm64", "circular-x86", "circular-old"][..],
        &["circular3-arm64", "circular3-x86"],
        &["inconsistent-arm64", "inconsistent-x86"],
        &["irq-order-arm64", "irq-order-x86"],
        &["locking-bug-arm64", "locking-bug-x86"],
        &["secondary-arm64", "secondary-x86"],
        &["rcu-arm64", "rcu-old"],
        &["held-user-arm64", "held-user-old"],
    ] {
        let first = splat(same[0]);
        for other in &same[1..] {
            let other = splat(other);
            assert_eq!(signature(&other), signature(&first), "{same:?}");
            assert_eq!(fingerprint(&other), fingerprint(&first));
        }
    }
}

/// One function closes two circles over different locks: two bugs with one title, and a patch that
/// turns one into the other has changed something.
#[test]
fn two_bugs_with_one_title_have_two_fingerprints() {
    let one = splat("circular-one-title-1");
    let two = splat("circular-one-title-2");
    assert_eq!(one.title, two.title);
    assert_ne!(fingerprint(&one), fingerprint(&two));
    let found = diff(&tally([&[one][..]]), &tally([&[two][..]]));
    assert!(found.iter().all(|difference| difference.change != Change::Same));
}

/// A log may end anywhere: never a panic, never a splat that lies outside of it.
#[test]
fn fixtures_may_be_cut_anywhere() {
    for fixture in fixtures() {
        for cut in (0..fixture.log.len()).step_by(499) {
            for splat in parse(&fixture.log[..cut]) {
                assert!(splat.start <= splat.end && splat.end <= cut as u64);
            }
        }
    }
}
