//! How fast is a console read? Without a splat it should cost next to nothing; the fixtures are the
//! other extreme, a log that is all splats.

#![allow(missing_docs, reason = "criterion's macro writes a public function")]

use bakeoff::observe::{Parser, parse};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::Path;

/// A quiet boot: what kernels and daemons print when nothing is wrong, near misses included.
fn quiet(bytes: usize) -> Vec<u8> {
    const LINES: &[&str] = &[
        "[    0.000000] Linux version 6.12.0 (bakeoff@bakeoff) (gcc 12.2.0) #1 SMP PREEMPT_DYNAMIC",
        "[    0.004321] Command line: console=ttyS0 tsc=reliable ignore_loglevel oops=panic",
        "[    0.010000][    T0] BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable",
        "[    0.812345][    T1] pci 0000:00:01.1: [8086:7010] type 00 class 0x010180 conventional PCI",
        "[    1.100000][    T1] NET: Registered PF_INET protocol family",
        "[    1.234567][    T7] EXT4-fs (vda): mounted filesystem without journal. Quota mode: none.",
        "[    2.000001][  T120] audit: type=1403 audit(1700000000.001:2): lsm=apparmor res=1",
        "[    2.500000][    C1] perf: interrupt took too long (2524 > 2500), lowering kernel rate",
        "INIT: agent 0.1.0, 2 CPUs, clocksource tsc",
        "{\"sample\":17,\"context\":\"hardirq\",\"valid\":true,\"cpu\":1}",
    ];
    let mut log = Vec::with_capacity(bytes + 200);
    for line in LINES.iter().cycle() {
        log.extend_from_slice(line.as_bytes());
        log.extend_from_slice(b"\r\n");
        if log.len() >= bytes {
            return log;
        }
    }
    log
}

/// The logs of our own boots, without their headers.
fn fixtures() -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/splats");
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut logs: Vec<Vec<u8>> = entries
        .filter_map(|entry| std::fs::read(entry.ok()?.path()).ok())
        .filter_map(|file| {
            let end = file.windows(2).position(|pair| pair == b"\n\n")?;
            Some(file[end + 2..].to_vec())
        })
        .collect();
    logs.sort();
    logs
}

fn bench(criterion: &mut Criterion) {
    let quiet = quiet(32 << 20);
    let mut group = criterion.benchmark_group("quiet");
    group.sample_size(20);
    group.throughput(Throughput::Bytes(quiet.len() as u64));
    group.bench_function("at once", |b| b.iter(|| parse(black_box(&quiet))));
    group.bench_function("in pieces of 4 KiB", |b| {
        b.iter(|| {
            let mut parser = Parser::new();
            for piece in black_box(&quiet).chunks(4096) {
                parser.push(piece);
            }
            parser.finish()
        });
    });
    group.finish();

    // Linear: four times the length, four times the time, even if it is one line.
    let mut group = criterion.benchmark_group("one line");
    group.sample_size(10);
    for megabytes in [4, 16] {
        let line = vec![b'x'; megabytes << 20];
        group.throughput(Throughput::Bytes(line.len() as u64));
        group.bench_function(format!("{megabytes} MiB"), |b| b.iter(|| parse(black_box(&line))));
    }
    group.finish();

    let logs = fixtures();
    let bytes: usize = logs.iter().map(Vec::len).sum();
    let mut group = criterion.benchmark_group("splats");
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function("fixtures, one after the other", |b| {
        b.iter(|| logs.iter().map(|log| parse(black_box(log)).len()).sum::<usize>());
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
