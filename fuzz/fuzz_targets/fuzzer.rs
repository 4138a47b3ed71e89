// SPDX-License-Identifier: MIT OR Apache-2.0
//! libFuzzer's side of the fuzzer: hands its inputs to a worker, changes them
//! on operations, and shows it the kernel's coverage as extra counters. All
//! else is in [`bakeoff_fuzz::fuzzer`].

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use bakeoff_fuzz::fuzzer::worker::Worker;
use bakeoff_fuzz::op::value::Seeded;
use bakeoff_fuzz::program::{Program, text};

// Linked for its archive: libFuzzer itself.
use libfuzzer_sys as _;
use rustc_hash::FxHashMap;

mod shim;

/// Counters that libFuzzer looks at after each run, all of them.
const COUNTERS: usize = 1 << 13;
/// What a counter can say: each of these is a feature of its own to libFuzzer
/// (`CounterToFeature` in FuzzerTracePC.h).
const LEVELS: [u8; 8] = [1, 2, 3, 4, 8, 16, 32, 128];

/// Programs that are known by their text at most.
const MOST_KNOWN: usize = 4096;

#[unsafe(link_section = "__libfuzzer_extra_counters")]
static EXTRA: [AtomicU8; COUNTERS] = [const { AtomicU8::new(0) }; COUNTERS];
/// How many features there were.
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static WORKER: RefCell<Option<Worker>> = const { RefCell::new(None) };
    /// The last program made, beside its text: it is mostly run next.
    static LAST: RefCell<(Vec<u8>, Program)> = RefCell::default();
    /// Programs that were read, by their text: those of the corpus are changed again and
    /// again, and to read one takes longer than to change it.
    static KNOWN: RefCell<FxHashMap<Vec<u8>, Program>> = RefCell::default();
}

unsafe extern "C" {
    fn LLVMFuzzerRunDriver(
        count: *mut c_int,
        arguments: *mut *mut *mut c_char,
        run: extern "C" fn(*const u8, usize) -> c_int,
    ) -> c_int;
}

fn main() -> ExitCode {
    bakeoff_fuzz::fuzzer::main(fuzz)
}

fn fuzz(worker: Worker, seed: u32) -> ExitCode {
    WORKER.with_borrow_mut(|place| *place = Some(worker));
    let seed = format!("-seed={}", seed.max(1));
    let words = [
        "fuzzer",
        "-timeout=0",
        "-rss_limit_mb=0",
        "-max_len=16384",
        "-len_control=0",
        "-reload=10",
        // Both go through all features of each run, which takes longer than the
        // run where an emulator does it.
        "-entropic=0",
        "-reduce_inputs=0",
        "-verbosity=0",
        "-print_final_stats=0",
        "-detect_leaks=0",
        "-handle_segv=0",
        "-handle_bus=0",
        "-handle_usr1=0",
        "-handle_usr2=0",
        "-handle_xfsz=0",
        &seed,
        "/tmp/corpus",
    ];
    let words: Vec<CString> = words.iter().filter_map(|word| CString::new(*word).ok()).collect();
    let mut pointers: Vec<*mut c_char> =
        words.iter().map(|word| word.as_ptr().cast_mut()).chain([std::ptr::null_mut()]).collect();
    let mut count = c_int::try_from(words.len()).unwrap_or(0);
    let mut arguments = pointers.as_mut_ptr();
    // SAFETY: the words outlive the call, as does the list, which ends with null.
    let answer = unsafe { LLVMFuzzerRunDriver(&raw mut count, &raw mut arguments, run) };
    bakeoff_fuzz::guest::say(format_args!("libFuzzer came back with {answer}"));
    ExitCode::from(bakeoff_fuzz::guest::EXIT_STEP_LOST)
}

/// Runs one input. -1 keeps it out of the corpus.
extern "C" fn run(data: *const u8, size: usize) -> c_int {
    // SAFETY: libFuzzer passes a valid input.
    let data = unsafe { std::slice::from_raw_parts(data, size) };
    one(data)
}

fn one(data: &[u8]) -> c_int {
    let Ok(program) = read(data) else { return -1 };
    let Ok(written) = std::str::from_utf8(data) else { return -1 };
    let ran = WORKER.with_borrow_mut(|worker| {
        let worker = worker.as_mut()?;
        // A counter for each feature, as long as there are any: only a new one
        // tells libFuzzer anything, and it goes through all it is shown.
        let ran = worker.run(&program, written, || {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            let level = LEVELS[next / COUNTERS % LEVELS.len()];
            EXTRA[next % COUNTERS].store(level, Ordering::Relaxed);
        });
        let ended = worker.is_done() || ran.is_err();
        if ended {
            let told = ran.is_ok() && worker.finish().is_ok();
            let code = if told {
                bakeoff_fuzz::guest::EXIT_STEP_REPORTED
            } else {
                bakeoff_fuzz::guest::EXIT_STEP_LOST
            };
            // Past libFuzzer's own exit handler, which would call it a crash.
            bakeoff_fuzz::sys::child::end(code);
        }
        Some(())
    });
    if ran.is_some() { 0 } else { -1 }
}

/// Changes an input: reads the program, changes it, writes it.
#[unsafe(no_mangle)]
extern "C" fn LLVMFuzzerCustomMutator(data: *mut u8, size: usize, room: usize, seed: u32) -> usize {
    // SAFETY: libFuzzer passes a buffer of `room` bytes, `size` of them written.
    let buffer = unsafe { std::slice::from_raw_parts_mut(data, room) };
    let began = bakeoff_fuzz::sys::monotonic_ns();
    let mut dice = Seeded(seed.into());
    let mut program = match read(buffer.get(..size).unwrap_or_default()) {
        Ok(mut program) if !program.ops.is_empty() => {
            WORKER.with_borrow(|worker| match worker {
                Some(worker) => program.mutate_for(&mut dice, worker.favour()),
                None => program.mutate(&mut dice),
            });
            program
        }
        _ => Program::roll(&mut dice),
    };
    leave_out(&mut program);
    let written = put(program, buffer).unwrap_or(size);
    WORKER.with_borrow_mut(|worker| {
        if let Some(worker) = worker {
            worker.spent_mutating(bakeoff_fuzz::sys::monotonic_ns() - began);
        }
    });
    written
}

/// The beginning of one input and the end of another.
#[unsafe(no_mangle)]
extern "C" fn LLVMFuzzerCustomCrossOver(
    first: *const u8,
    first_size: usize,
    second: *const u8,
    second_size: usize,
    out: *mut u8,
    room: usize,
    seed: u32,
) -> usize {
    // SAFETY: libFuzzer passes two valid inputs and a buffer apart from both.
    let (first, second, out) = unsafe {
        (
            std::slice::from_raw_parts(first, first_size),
            std::slice::from_raw_parts(second, second_size),
            std::slice::from_raw_parts_mut(out, room),
        )
    };
    let (Ok(mut program), Ok(other)) = (read(first), read(second)) else { return 0 };
    program.splice(&other, &mut Seeded(seed.into()));
    leave_out(&mut program);
    put(program, out).unwrap_or(0)
}

/// Slow operations that had their share of the time are in no program that is made now.
fn leave_out(program: &mut Program) {
    let allowed = WORKER.with_borrow(|worker| worker.as_ref().map(Worker::allowed));
    if let Some(allowed) = allowed {
        program.leave_out(allowed);
    }
}

/// Reads a program, which mostly is the last one made, or one of the corpus.
fn read(data: &[u8]) -> Result<Program, text::TextError> {
    let last = LAST.with_borrow(|(bytes, program)| {
        (!data.is_empty() && bytes == data).then(|| program.clone())
    });
    if let Some(last) = last {
        return Ok(last);
    }
    KNOWN.with_borrow_mut(|known| {
        if let Some(program) = known.get(data) {
            return Ok(program.clone());
        }
        let program = text::read(data)?;
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(data.to_vec(), program.clone());
        Ok(program)
    })
}

/// Writes a program into a buffer, and remembers it.
fn put(program: Program, buffer: &mut [u8]) -> Option<usize> {
    let written = text::write(&program).into_bytes();
    buffer.get_mut(..written.len())?.copy_from_slice(&written);
    let length = written.len();
    LAST.with_borrow_mut(|last| *last = (written, program));
    Some(length)
}

/// What libfuzzer-sys's own entry calls; it is not used.
#[unsafe(no_mangle)]
#[allow(improper_ctypes_definitions)] // that is how libfuzzer-sys declares it
extern "C" fn rust_fuzzer_test_input(data: &[u8]) -> i32 {
    one(data)
}
