//! Snapshots on the wire: a frame of 100,000 routes out and in, as the local socket and the disk carry it.
//!
//! `cargo bench -p ringway-bench --bench snapshot`

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringway_bench::snapshot;
use ringway_snapshot::frame::{FrameKind, decode, encode};
use ringway_snapshot::{Snapshot, validate::validate};

fn frame(c: &mut Criterion) {
    let snapshot = snapshot(100_000);
    let Ok(bytes) = encode(FrameKind::Disk, &snapshot) else {
        unreachable!("the snapshot is within the limits")
    };
    let mut group = c.benchmark_group("frame of 100,000 routes");
    group.sample_size(20).throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("encode", |b| b.iter(|| encode(FrameKind::Disk, black_box(&snapshot))));
    group.bench_function("decode", |b| {
        b.iter_with_large_drop(|| decode::<Snapshot>(FrameKind::Disk, black_box(&bytes)));
    });
    group.bench_function("check integrity", |b| b.iter(|| black_box(&snapshot).check_integrity()));
    group.bench_function("validate", |b| b.iter(|| validate(black_box(&snapshot.entries)).len()));
    group.finish();
}

criterion_group!(benches, frame);
criterion_main!(benches);
