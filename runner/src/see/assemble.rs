// SPDX-License-Identifier: MIT OR Apache-2.0
//! Run directory → observations: everything a report says is recounted from here.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use bakeoff_fuzz::wire::StepOutcome;

use crate::base::error::{Context, Result};
use crate::keep::store::{BootEnd, BootId, EndJson, KernelJson, Store, read_json};
use crate::see::observation::{BootObservation, Observation, SeenSplat};
use crate::see::observe::{Note, Parser, Splat};
use crate::see::records;
use crate::spec::plan::{Cell, CellId};

/// What a cell showed, from its files. A file that cannot be read is an error
/// of the observation, not of the call: the rest of the run still counts.
#[must_use]
pub fn observe_cell(store: &Store, cell: &Cell) -> Observation {
    let mut errors = Vec::new();
    let mut note = |error: crate::base::error::Error| errors.push(error.chain());
    let path = store.kernel_json(&cell.id);
    let kernel = path.is_file().then(|| read_json::<KernelJson>(&path)).transpose().unwrap_or_else(
        |error| {
            note(error);
            None
        },
    );
    let ids = store.boots(&cell.id).unwrap_or_else(|error| {
        note(error);
        Vec::new()
    });
    let mut boots = Vec::new();
    for id in ids {
        match observe_boot(store, &id) {
            Ok((boot, problems)) => {
                let named = problems
                    .iter()
                    .map(|p| format!("{}: {p}", store.relative(&store.records(&id))));
                errors.extend(named);
                boots.push(boot);
            }
            Err(error) => errors.push(error.chain()),
        }
    }
    let evidence = [path, store.build_log(&cell.id)]
        .iter()
        .filter(|path| path.is_file())
        .map(|path| store.relative(path))
        .collect();
    Observation { cell: cell.clone(), kernel, evidence, boots, errors }
}

/// What one boot showed, and what was wrong with its records.
///
/// # Errors
/// A file is missing or broken.
pub fn observe_boot(store: &Store, id: &BootId) -> Result<(BootObservation, Vec<String>)> {
    let end: EndJson = read_json(&store.end_json(id))?;
    let records::Records { hello, mut visits, end: end_record, problems } =
        records::read(&store.records(id))?;
    let mut splats: Vec<SeenSplat> = splats(&store.console(id))?.iter().map(seen).collect();
    if let BootEnd::Lost { console_offset, .. } = &end.end {
        // Only what was finished before counts.
        splats.retain(|splat| splat.offset < *console_offset);
        visits.retain(|visit| end.done.contains(&visit.number));
    }
    if let BootEnd::Hung { step: Some(hung), .. } = &end.end {
        let stuck = |visit: &records::VisitRecord| {
            visit.step == *hung && visit.outcome != Some(StepOutcome::Done)
        };
        if let Some(at) = visits.iter().rposition(stuck) {
            // What the agent said once it had given up that visit is about a stuck kernel.
            visits.truncate(at + 1);
            if let Some(last) = visits.last_mut() {
                last.outcome = None;
                last.end_ns = None;
            }
        }
    }
    let evidence = [store.console(id), store.records(id), store.end_json(id)]
        .iter()
        .map(|path| store.relative(path))
        .collect();
    let boot = BootObservation {
        name: id.name.clone(),
        end: end.end,
        seconds: end.seconds,
        hello_seconds: end.hello_seconds,
        hello,
        visits,
        end_record,
        splats,
        evidence,
    };
    Ok((boot, problems))
}

/// Boots whose files have less than their `end.json` says: a disk that lost something, or
/// somebody who cut them. What is wrong with each.
///
/// # Errors
/// A folder cannot be read.
pub fn damaged_boots(store: &Store, cell: &CellId) -> Result<Vec<(BootId, String)>> {
    let mut damaged = Vec::new();
    for id in store.boots(cell)? {
        let why = || -> Result<Option<String>> {
            let end: EndJson = read_json(&store.end_json(&id))?;
            let console = store.console(&id);
            let bytes = std::fs::metadata(&console).at_path("read", &console)?.len();
            if bytes < end.console_bytes {
                let all = end.console_bytes;
                return Ok(Some(format!("console.log has {bytes} of {all} bytes")));
            }
            let records = store.records(&id);
            let text = std::fs::read(&records).at_path("read", &records)?;
            let lines = memchr::memchr_iter(b'\n', &text).count() as u64;
            let all = end.records;
            Ok((lines < all).then(|| format!("records.jsonl has {lines} of {all} records")))
        };
        match why() {
            Ok(None) => {}
            Ok(Some(why)) => damaged.push((id, why)),
            Err(error) => damaged.push((id, error.chain())),
        }
    }
    Ok(damaged)
}

/// The splats of a console log, in order, read in constant memory.
///
/// # Errors
/// The file cannot be read.
pub fn splats(path: &Path) -> Result<Vec<Splat>> {
    let mut file = File::open(path).at_path("open", path)?;
    let mut parser = Parser::new();
    let mut all = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = file.read(&mut buffer).at_path("read", path)?;
        if n == 0 {
            break;
        }
        all.extend(parser.push(&buffer[..n]));
    }
    all.extend(parser.finish());
    Ok(all)
}

fn seen(splat: &Splat) -> SeenSplat {
    SeenSplat {
        kind: splat.kind.label().to_owned(),
        title: splat.title.clone(),
        fingerprint: crate::see::observe::fingerprint(splat),
        secondary: splat.notes.contains(&Note::Secondary),
        corrupted: splat.corrupted,
        offset: splat.start,
        disables_lockdep: splat.notes.contains(&Note::LockdepOff),
        signature: crate::see::observe::signature(splat),
        notes: splat.notes.clone(),
    }
}

#[cfg(test)]
mod tests {
    use bakeoff_fuzz::wire::{Block, Record};

    use super::*;
    use crate::keep::store::{VERSION, write_json};
    use crate::spec::plan::CellId;

    fn block(visit: u32) -> Record {
        Record::Block(Block { step: visit, visit, ..Block::default() })
    }

    fn begin(visit: u32) -> Record {
        Record::VisitBegin { visit, step: visit, at_ns: 1 }
    }

    fn end(visit: u32, outcome: StepOutcome) -> Record {
        Record::VisitEnd { visit, step: visit, outcome, at_ns: 2 }
    }

    fn end_json(end: BootEnd, records: u64) -> EndJson {
        EndJson {
            store_version: VERSION,
            end,
            asked: vec![0, 1, 2],
            done: vec![0],
            hello_seconds: None,
            seconds: 1.0,
            argv: vec![],
            console_bytes: 1,
            records,
            injected: vec![],
        }
    }

    fn boot_id() -> BootId {
        let part = str::to_owned;
        let cell = CellId {
            base: part("6.12"),
            candidate: part("landed"),
            arch: part("x86_64"),
            profile: part("lockdep"),
        };
        BootId { cell, name: "0-000".into() }
    }

    fn write_records(store: &Store, id: &BootId, records: &[Record]) {
        let lines: Vec<String> =
            records.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
        std::fs::write(store.records(id), lines.join("\n") + "\n").unwrap();
    }

    /// A step in which the guest hung has no end, whatever the agent said about it and
    /// about later ones; its blocks count, theirs do not.
    #[test]
    fn what_came_after_a_hang_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("run")).unwrap();
        let id = boot_id();
        std::fs::create_dir_all(store.boot(&id)).unwrap();
        std::fs::write(store.console(&id), "").unwrap();
        let failed = StepOutcome::Failed { reason: "took too long".into() };
        let records = [
            Record::Hello(crate::see::observation::testing::hello()),
            begin(0),
            block(0),
            end(0, StepOutcome::Done),
            begin(1),
            block(1),
            end(1, failed.clone()),
            begin(2),
            block(2),
        ];
        write_records(&store, &id, &records);
        let hung = |step| BootEnd::Hung { silent_seconds: 50, step, report: None };
        write_json(&store.end_json(&id), &end_json(hung(Some(1)), 9)).unwrap();
        let (boot, problems) = observe_boot(&store, &id).unwrap();
        assert_eq!(problems, [""; 0]);
        let ends: Vec<_> = boot.visits.iter().map(|v| (v.step, v.outcome.clone())).collect();
        assert_eq!(ends, [(0, Some(StepOutcome::Done)), (1, None)]);
        assert_eq!(boot.blocks().map(|block| block.step).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(boot.died_in(), Some(1));
        // What was written before hangs named their step is read as it was.
        write_json(&store.end_json(&id), &end_json(hung(None), 9)).unwrap();
        let (boot, _) = observe_boot(&store, &id).unwrap();
        assert_eq!((boot.visits.len(), boot.visits[1].outcome.as_ref()), (3, Some(&failed)));
    }

    /// Of a boot that its emulator lost, what was finished counts: steps, their blocks,
    /// and what the console said before.
    #[test]
    fn lost_boots_count_as_far_as_they_came() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("run")).unwrap();
        let id = boot_id();
        std::fs::create_dir_all(store.boot(&id)).unwrap();
        let warning = "[    1.5] ------------[ cut here ]------------\n\
                       [    1.5] WARNING: CPU: 0 PID: 1 at mm/mmap.c:1 old_lookup+0x1/0x2\n\
                       [    1.5] Call Trace:\n\
                       [    1.5]  <TASK>\n\
                       [    1.5]  do_mmap+0x1/0x2\n\
                       [    1.5]  </TASK>\n\
                       [    1.5] ---[ end trace 0000000000000000 ]---\n";
        let oops = "[    2.0] Oops: int3: 0000 [#1] SMP\n[    2.1] RIP: 0010:schedule+0x1/0x2\n";
        std::fs::write(store.console(&id), format!("{warning}{oops}")).unwrap();
        let records = [
            Record::Hello(crate::see::observation::testing::hello()),
            begin(0),
            block(0),
            end(0, StepOutcome::Done),
            begin(1),
            block(1),
        ];
        write_records(&store, &id, &records);
        let console_offset = warning.len() as u64;
        let lost = BootEnd::Lost { reason: "TCG".into(), console_offset };
        write_json(&store.end_json(&id), &end_json(lost, 6)).unwrap();
        let (boot, problems) = observe_boot(&store, &id).unwrap();
        assert_eq!(problems, [""; 0]);
        assert_eq!(boot.blocks().map(|b| b.step).collect::<Vec<_>>(), [0]);
        assert_eq!(boot.splats.len(), 1, "{:?}", boot.splats);
        // A kernel that oopses by itself is another matter.
        write_json(&store.end_json(&id), &end_json(BootEnd::Ran, 6)).unwrap();
        let (boot, _) = observe_boot(&store, &id).unwrap();
        assert_eq!((boot.visits.len(), boot.blocks().count(), boot.splats.len()), (2, 2, 2));
    }
}
