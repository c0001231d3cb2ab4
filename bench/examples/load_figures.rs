//! What a whole configuration costs, stage by stage: from its bytes to the view that the cores swap to.
//!
//! `cargo run --release -p ringway-bench --example load_figures [routes...]`
//!
//! Times are the thread's own on the processor, least and median of some rounds, with the allocator of the executables; memory is what the
//! process has more after a stage than before.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

use std::hint::black_box;

use ringway_bench::snapshot;
use ringway_engine::view::View;
use ringway_snapshot::frame::{FrameKind, decode, encode};
use ringway_snapshot::validate::validate;
use ringway_snapshot::{Snapshot, Validator};
use rustix::time::{ClockId, clock_gettime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 9;

fn main() {
    let mut counts: Vec<usize> = std::env::args().skip(1).filter_map(|count| count.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![100_000, 1_000_000];
    }
    for count in counts {
        figures(count);
    }
}

fn figures(count: usize) {
    let bytes = encode(FrameKind::Disk, &snapshot(count)).unwrap();
    println!("{count} routes, {} B each in a frame; milliseconds, least (median)", bytes.len() / count);
    let empty = resident_bytes();
    let snapshot: Snapshot = decode(FrameKind::Disk, &bytes).unwrap();
    let decoded = resident_bytes();
    let view = View::compile(&snapshot).unwrap();
    let compiled = resident_bytes();
    println!(
        "  memory: objects {} B, view {} B a route, of which the table {} B",
        decoded.saturating_sub(empty) / count,
        compiled.saturating_sub(decoded) / count,
        view.routes.memory_bytes() / count,
    );
    drop(view);
    stage("encode", || encode(FrameKind::Disk, &snapshot).unwrap());
    stage("decode", || decode::<Snapshot>(FrameKind::Disk, &bytes).unwrap());
    stage("check", || snapshot.check_integrity().unwrap());
    stage("validate", || assert!(validate(&snapshot.entries).is_empty()));
    stage("trusting", || Validator::trusting(&snapshot.entries));
    stage("compile", || View::compile(&snapshot).unwrap());
}

/// What is made is freed outside of what is measured.
fn stage<T>(name: &str, work: impl Fn() -> T) {
    let mut all: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = on_cpu_ms();
            let made = black_box(work());
            let took = on_cpu_ms() - start;
            drop(made);
            took
        })
        .collect();
    all.sort_by(f64::total_cmp);
    println!("  {name:<9} {:>8.1} ({:.1})", all[0], all[all.len() / 2]);
}

/// This thread's time on the processor.
fn on_cpu_ms() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
}

/// What the process has in memory.
fn resident_bytes() -> usize {
    let account = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = account.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * rustix::param::page_size()
}
