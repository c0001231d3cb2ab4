//! Configurations on their way to the cores: a frame of 100,000 routes out and in, as the local socket and the disk carry it; one change
//! of such a configuration, stage by stage; and what a core does when it takes a new one.
//!
//! `cargo bench -p ringway-bench --bench snapshot`

use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam::atomic::AtomicCell;
use ringway_bench::{changed_entry, snapshot};
use ringway_engine::view::View;
use ringway_snapshot::frame::{FrameKind, SCHEMA, decode, encode, encode_as};
use ringway_snapshot::{Delta, Snapshot, Validator, validate::validate};

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

/// The same configuration with one route that leads elsewhere, a revision later.
fn with_one_change(older: &Snapshot) -> Snapshot {
    let mut newer = older.clone();
    let entry = Arc::new(changed_entry(older.entries.len() / 2));
    newer.version.digest = newer.version.digest.with(entry.digest);
    if let Some(old) = newer.entries.put(entry) {
        newer.version.digest = newer.version.digest.without(old.digest);
    }
    newer.version.revision += 1;
    newer
}

fn change(c: &mut Criterion) {
    let older = snapshot(100_000);
    let newer = with_one_change(&older);
    let delta = Delta::between(&older, &newer);
    let Ok(bytes) = encode_as(SCHEMA, FrameKind::Disk, &delta) else {
        unreachable!("the delta is within the limits")
    };
    let Ok(view) = View::compile(&older) else { unreachable!("the snapshot is valid") };
    let mut validator = Validator::trusting(&older.entries);
    let mut group = c.benchmark_group("one route in 100,000 changed");
    group.throughput(Throughput::Elements(1));
    group.bench_function("find the difference and encode it", |b| {
        b.iter(|| encode_as(SCHEMA, FrameKind::Disk, &Delta::between(black_box(&older), &newer)));
    });
    group.bench_function("decode", |b| b.iter(|| decode::<Delta>(FrameKind::Disk, black_box(&bytes))));
    group.bench_function("apply", |b| {
        b.iter_batched(|| (), |()| black_box(&delta).apply(&older), BatchSize::PerIteration);
    });
    group.bench_function("validate, there and back", |b| {
        b.iter(|| {
            for (from, to) in [(&older, &newer), (&newer, &older)] {
                validator.change(&from.entries.changes(&to.entries), &to.entries);
                assert!(validator.faults().is_empty());
            }
        });
    });
    validator.change(&older.entries.changes(&newer.entries), &newer.entries);
    group.bench_function("compile", |b| {
        b.iter_batched(|| (), |()| view.update(&older, &newer, &validator), BatchSize::PerIteration);
    });
    group.finish();
}

/// A core's part: it takes the latest view from its mailbox, puts it in place of its own, and lets the old one go, which somebody else
/// frees.
fn swap(c: &mut Criterion) {
    let views = [1, 2].map(|revision| {
        let mut view = View::default();
        view.version.revision = revision;
        Arc::new(view)
    });
    let mailbox = AtomicCell::new(None);
    let mut own = Rc::new(Arc::clone(&views[0]));
    let mut group = c.benchmark_group("swap");
    group.throughput(Throughput::Elements(1));
    group.bench_function("hand over, take, replace", |b| {
        let mut turn = 0;
        b.iter(|| {
            turn = 1 - turn;
            mailbox.store(Some(Arc::clone(&views[turn])));
            if let Some(view) = mailbox.take() {
                own = Rc::new(view);
            }
            own.version.revision
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = ringway_bench::quick!();
    targets = frame, change, swap
}
criterion_main!(benches);
