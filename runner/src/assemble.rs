// SPDX-License-Identifier: MIT OR Apache-2.0
//! Run directory → observations: everything a report says is recounted from here.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Context, Result};
use crate::observation::{BootObservation, Observation, SeenSplat};
use crate::observe::{Note, Parser, Splat};
use crate::plan::Cell;
use crate::records;
use crate::store::{BootId, EndJson, KernelJson, Store, read_json};

/// What a cell showed, from its files. A file that cannot be read is an error
/// of the observation, not of the call: the rest of the run still counts.
#[must_use]
pub fn observe_cell(store: &Store, cell: &Cell) -> Observation {
    let mut errors = Vec::new();
    let mut note = |error: crate::error::Error| errors.push(error.chain());
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
    let records::Records { hello, begun, blocks, steps, end: end_record, problems } =
        records::read(&store.records(id))?;
    let splats = splats(&store.console(id))?.iter().map(seen).collect();
    let evidence = [store.console(id), store.records(id), store.end_json(id)]
        .iter()
        .map(|path| store.relative(path))
        .collect();
    let boot = BootObservation {
        name: id.name.clone(),
        round: end.round,
        end: end.end,
        seconds: end.seconds,
        hello_seconds: end.hello_seconds,
        hello,
        asked: end.asked,
        begun,
        steps,
        blocks,
        end_record,
        splats,
        evidence,
    };
    Ok((boot, problems))
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
        fingerprint: crate::observe::fingerprint(splat),
        secondary: splat.notes.contains(&Note::Secondary),
        corrupted: splat.corrupted,
        offset: splat.start,
        disables_lockdep: splat.notes.contains(&Note::LockdepOff),
        signature: crate::observe::signature(splat),
        notes: splat.notes.clone(),
    }
}
