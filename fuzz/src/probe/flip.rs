// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether build ids and offsets belong together while a mapping changes its
//! file under the sampled thread.
//!
//! Another thread can always flip between the capture of an address and its
//! lookup, so "the file that was executed" is not the criterion: the pair has
//! to be one of the *legal* ones, of either file. The two files are shown from
//! different pages, so that a pair mixed of both is none of them.
//!
//! Merely alternating two open files would clear even a lookup without any
//! validation: a mapping's file never changes, and what describes the mapping is
//! not reused while somebody may look. Three things make such a lookup wrong,
//! and all are done, as fast as they go: each flip opens the file, maps it over
//! the other one and closes it, so that the kernel's `struct file`s are
//! recycled; decoys are opened in between, which the recycled ones then
//! describe; and the head of the mapping is split off and merged again, for
//! which the kernel stores start and offset one after the other.
//!
//! No illegal pair proves nothing by itself: the host believes it only next to a
//! kernel with a planted fault, in which the same probe did find some.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use serde::Deserialize;

use score::Pairs;

use super::build_id::{Asked, CONTEXT, Context, EXCLUDED, Judge, PERIOD_US, Rig, Sample, word};
use super::{Better, Condition, Emit, Metric, MetricKind, MetricRole, Note, Probe, Size};
use crate::failure::Failure;
use crate::sys;
use crate::sys::sampled::{self, DEPTH, Spot};
use crate::sys::window::{CODE_PAGE, PAGES, Window};
use crate::wire::{Block, Params, Record, Visit};

mod image;
mod score;

/// This probe's row.
pub const PROBE: Probe = Probe {
    name: "flip",
    doc: "whether build ids and offsets belong together while a mapping changes its file",
    params: &[CONTEXT, PERIOD_US],
    metrics: &[
        Metric {
            name: LEGAL,
            means: "answers whose build id and offset belong together",
            unit: "frames with a build id",
            kind: MetricKind::Share,
            better: Better::Higher,
            margin: 0.0,
            role: MetricRole::NeverWrong,
        },
        Metric {
            name: ANSWERED,
            means: "frames with a build id",
            unit: "frames",
            kind: MetricKind::Share,
            better: Better::Higher,
            margin: 0.02,
            role: MetricRole::Shown,
        },
    ],
    excluded: EXCLUDED,
    notes: &[
        note(FLIPS, "times the mapping was replaced by one of the other file", None),
        note(SPLITS_NOTE, "times its head was split off or merged again", None),
        note(IP, "frames without a build id: the address", Some(ANSWERED)),
        note(MIXED, "frames with the id of one file and an offset of the other", Some(LEGAL)),
        note(DECOY, "frames with the id of a file that was opened, never mapped", Some(LEGAL)),
        note(UNKNOWN_ID, "frames with an id that no file has", Some(LEGAL)),
        note(OUT_OF_RANGE, "frames with an offset that neither file has", Some(LEGAL)),
        note(ILLEGAL_CALLS, "calls with a frame whose id and offset do not belong together", None),
    ],
    condition,
    // Wrong answers are rare: a hundred calls would hardly show one.
    size: Size { blocks: 5, calls_per_block: 100, block_ms: 4000 },
    run,
};

/// Frames with an id and an offset that belong together, to whichever file. Of those
/// with an id; each frame is looked up on its own, so that is the unit. Nobody can ask
/// for more while files change.
const LEGAL: &str = "flip.legal";
/// Frames with an id, of all.
const ANSWERED: &str = "flip.answered";

const FLIPS: &str = "flips";
const SPLITS_NOTE: &str = "splits";
const IP: &str = "ip";
const MIXED: &str = "mixed";
const DECOY: &str = "decoy";
const UNKNOWN_ID: &str = "unknown_id";
const OUT_OF_RANGE: &str = "out_of_range";
const ILLEGAL_CALLS: &str = "illegal_calls";

const fn note(name: &'static str, means: &'static str, explains: Option<&'static str>) -> Note {
    Note { name, means, explains }
}

/// What it can be told.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Told {
    context: Context,
    period_us: Option<u32>,
}

impl Told {
    fn read(params: &Params) -> Result<Asked, Failure> {
        let Self { context, period_us } = super::read(params)?;
        Asked::at(context, period_us)
    }
}

fn condition(params: &Params) -> Result<Condition, Failure> {
    let asked = Told::read(params)?;
    let words = |asked: &Asked| format!("{}, mapping changes its file", asked.event());
    let period = asked.period_us.map(|period| format!("/{period}us"));
    Ok(Condition {
        label: format!("{}/flip{}", word(asked.context), period.unwrap_or_default()),
        words: words(&asked),
        axes: asked.period_axis(words).into_iter().collect(),
        host: asked.host(),
        ..Condition::default()
    })
}

/// Where the files lie: a tmpfs, see [`crate::guest::prepare`].
const FOLDER: &str = "/tmp/bakeoff-flip";
/// The window's first page in the two files. Far enough apart that no offset of
/// one is an offset of the other, also if it is off by the window's length.
const FIRST_PAGES: [u64; 2] = [1, 1 + 4 * PAGES];
/// Files that are opened and never mapped.
const DECOYS: u8 = 4;
/// Splits and merges for each flip, by each of the two ways.
const SPLITS: u64 = 2;

/// A file that is shown in the window.
struct Shown {
    path: PathBuf,
    first_page: u64,
}

/// The files, on disk.
struct Files {
    shown: [Shown; 2],
    decoys: Vec<PathBuf>,
    pairs: Pairs,
}

impl Files {
    /// Writes them, for a thread that is seen at `spot` of its leaf.
    fn write(folder: &Path, spot: Spot) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let page = sys::page_size();
        let walk = [spot, Spot::Middle, Spot::Outer, Spot::Base];
        let frames = walk.map(|spot| sampled::legal(spot).unwrap_or_default());
        let code_at = FIRST_PAGES.map(|first| (first + CODE_PAGE) * page);
        let ids = [[0xaa; 20], [0xbb; 20]];
        let names = ["a", "b"].map(|name| folder.join(name));
        for (at, (id, name)) in code_at.into_iter().zip(ids.iter().zip(&names)) {
            std::fs::write(name, image::write(id, at, sampled::code(), page)?)?;
        }
        let mut decoys = Vec::new();
        let mut decoy_ids = Vec::new();
        for number in 0..DECOYS {
            let id = [0xd0 | number; 20];
            let path = folder.join(format!("decoy{number}"));
            std::fs::write(&path, image::write(&id, page, &[], page)?)?;
            decoys.push(path);
            decoy_ids.push(id);
        }
        let [a, b] = names;
        Ok(Self {
            shown: [
                Shown { path: a, first_page: FIRST_PAGES[0] },
                Shown { path: b, first_page: FIRST_PAGES[1] },
            ],
            decoys,
            pairs: Pairs { ids, code_at, frames, decoys: decoy_ids },
        })
    }
}

/// Changes the window's file until told to stop, and counts how often.
#[derive(Default)]
struct Flipper {
    stop: AtomicBool,
    flips: AtomicU64,
    splits: AtomicU64,
}

impl Flipper {
    fn flip(&self, window: &Window, files: &Files) -> io::Result<()> {
        let mut decoys = files.decoys.iter().cycle();
        for Shown { path, first_page } in files.shown.iter().cycle() {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let file = File::open(path)?;
            window.show(&file, *first_page)?;
            self.flips.fetch_add(1, Ordering::Relaxed);
            // The other file has just been freed: this one takes its place.
            let decoy = decoys.next().map(File::open).transpose()?;
            for _ in 0..SPLITS {
                window.protect_head()?;
                window.renew_head(&file, *first_page)?;
            }
            self.splits.fetch_add(2 * SPLITS, Ordering::Relaxed);
            drop(file);
            drop(decoy);
        }
        Ok(())
    }
}

/// Stops the flipper however the visit is left.
struct StopOnDrop<'a>(&'a Flipper);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Makes one visit.
fn run(visit: &Visit, emit: &mut Emit<'_>) -> Result<(), Failure> {
    let mut rig = Rig::new(visit, Told::read(&visit.step.params)?, DEPTH)?;
    let (leaf, spot) = rig.leaf();
    let files = Files::write(Path::new(FOLDER), spot)
        .map_err(|e| Failure::at(format!("writing files to {FOLDER}"), &e))?;
    let window = Window::new().map_err(|e| Failure::at("reserving addresses", &e))?;
    let show = |Shown { path, first_page }: &Shown| window.show(&File::open(path)?, *first_page);
    files.shown.iter().try_for_each(show).map_err(|e| Failure::at("mapping a file", &e))?;

    let eligible = rig.eligible();
    let score = |sample: &Sample, block: &mut Block| {
        if let Some(frames) = eligible.frames(sample, block) {
            files.pairs.score(frames, block);
        }
    };
    let judge = Judge { nothing_yet: Pairs::nothing_yet(), score: &score };
    let flipper = Flipper::default();
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&flipper);
        let (tell, told) = mpsc::channel();
        let (window, files, flipper, own_cpu) = (&window, &files, &flipper, rig.own_cpu);
        scope.spawn(move || {
            // Behind the thread that scores, which has the same CPU.
            let ended = sys::pin(own_cpu)
                .and_then(|()| sys::be_nice())
                .and_then(|()| flipper.flip(window, files));
            // A receiver that is gone has failed already.
            let _ = tell.send(ended);
        });
        let mut before = (0, 0);
        rig.sample(visit, None, |work| window.run(work, leaf), &judge, &mut |mut block| {
            if let Ok(Err(error)) = told.try_recv() {
                return Err(Failure::at("changing the mapping", &error));
            }
            let flips = flipper.flips.load(Ordering::Relaxed);
            let splits = flipper.splits.load(Ordering::Relaxed);
            block.note(FLIPS, flips - before.0);
            block.note(SPLITS_NOTE, splits - before.1);
            before = (flips, splits);
            emit(Record::Block(block))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::Elf;
    use crate::probe::HostTask;
    use crate::sys::sampled::Leaf;
    use serde_json::json;

    fn of(written: serde_json::Value) -> Result<Condition, Failure> {
        condition(&serde_json::from_value(written).unwrap())
    }

    /// Labels are what they always were, the words say the same in English, and the
    /// period is an axis.
    #[test]
    fn conditions_have_labels_and_words() {
        let process = of(json!({"context": "process"})).unwrap();
        assert_eq!(process.label, "process/flip");
        assert_eq!(process.words, "system call, mapping changes its file");
        assert_eq!((process.axes, process.host), (Vec::new(), None));
        let nmi = of(json!({"context": "nmi", "period-us": 2000})).unwrap();
        assert_eq!(nmi.label, "nmi/flip/2000us");
        assert_eq!(nmi.words, "NMI every 2 ms, mapping changes its file");
        assert_eq!((nmi.axes[0].name, nmi.axes[0].value), ("period", 2000.0));
        assert_eq!(nmi.axes[0].rest, "NMI, mapping changes its file");
        assert_eq!(nmi.host, Some(HostTask::InjectNmi { period_us: 2000 }));
        assert_eq!(
            of(json!({"context": "hardirq", "period-us": 500})).unwrap().label,
            "hardirq/flip/500us"
        );
    }

    /// What another probe knows, this one refuses with what it does know; what makes no
    /// sense there makes none here.
    #[test]
    fn other_parameters_are_refused() {
        let reason = |written| of(written).unwrap_err().to_string();
        let unknown = reason(json!({"context": "process", "stack": "deep"}));
        for known in ["stack", "context", "period-us"] {
            assert!(unknown.contains(&format!("`{known}`")), "{unknown}");
        }
        assert!(reason(json!({"context": "hardirq"})).contains("needs a period-us"));
        assert!(reason(json!({"period-us": 500})).contains("context"));
    }

    /// Every context that the table names is taken.
    #[test]
    fn the_table_tells_the_contexts_there_are() {
        for context in CONTEXT.takes.split(", ") {
            let mut written = json!({"context": context});
            if context != "softirq" {
                written["period-us"] = json!(1000);
            }
            of(written).unwrap();
        }
    }

    /// The files are what the kernel takes for ELF files, each with its own id,
    /// with the code where the legal offsets say, and no pair is legal twice.
    #[test]
    fn files_hold_what_is_expected_of_them() {
        let folder = std::env::temp_dir().join(format!("bakeoff-flip-{}", std::process::id()));
        let files = Files::write(&folder, Spot::Loop(Leaf::Spin)).unwrap();
        let mut ids = Vec::new();
        for (at, shown) in files.shown.iter().enumerate() {
            let bytes = std::fs::read(&shown.path).unwrap();
            let elf = Elf::parse(&bytes).unwrap();
            assert_eq!(elf.build_id, files.pairs.ids[at]);
            let code = usize::try_from(files.pairs.code_at[at]).unwrap();
            assert!(bytes[code..].starts_with(sampled::code()));
            ids.push(elf.build_id);
        }
        for decoy in &files.decoys {
            ids.push(Elf::parse(&std::fs::read(decoy).unwrap()).unwrap().build_id);
        }
        std::fs::remove_dir_all(&folder).unwrap();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all);
        let [a, b] = files.pairs.code_at;
        assert!(a.abs_diff(b) > 2 * PAGES * sys::page_size());
    }

    /// The mapping changes, its head is split, and a flipper told to stop does.
    #[test]
    fn a_flipper_counts_what_it_does() {
        let folder = std::env::temp_dir().join(format!("bakeoff-flipper-{}", std::process::id()));
        let files = Files::write(&folder, Spot::Loop(Leaf::Spin)).unwrap();
        let window = Window::new().unwrap();
        let flipper = Flipper::default();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| flipper.flip(&window, &files));
            while flipper.flips.load(Ordering::Relaxed) < 3 && !thread.is_finished() {
                std::thread::yield_now();
            }
            flipper.stop.store(true, Ordering::Relaxed);
            assert!(thread.join().unwrap().is_ok());
        });
        std::fs::remove_dir_all(&folder).unwrap();
        let flips = flipper.flips.into_inner();
        assert!(flips >= 3 && flipper.splits.into_inner() == 2 * SPLITS * flips);
    }
}
