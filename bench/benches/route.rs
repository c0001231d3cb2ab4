//! The routing table: lookups at three sizes, compiling, and changing one host.
//!
//! `cargo bench -p ringway-bench --bench route`

use std::cell::LazyCell;
use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringway_bench::{Kind, requests, rule, rules};
use ringway_engine::route::{Captures, Removal, Table, path};

/// Requests of one measurement; more than any cache holds the routes of.
const REQUESTS: usize = 1 << 17;

fn lookup(c: &mut Criterion) {
    let mut group = c.benchmark_group("lookup");
    group.throughput(Throughput::Elements(1));
    for count in [1_000, 100_000, 1_000_000] {
        for (name, kind, hosts) in [
            ("mixed, no host", Kind::Mixed, 0),
            ("mixed, one host", Kind::Mixed, 1),
            ("mixed, 1 host in 100 routes", Kind::Mixed, count / 100),
            ("mixed, 1 host in 1 route", Kind::Mixed, count),
            ("exact", Kind::Exact, 0),
            ("parameters", Kind::Param, 0),
            ("prefixes", Kind::Prefix, 0),
        ] {
            // Made only for what is run.
            let prepared = LazyCell::new(|| {
                let table = Table::compile(rules(kind, count, hosts));
                let requests = requests(kind, count, hosts, REQUESTS);
                let mut captures = Captures::new();
                assert!(requests.iter().all(|request| table.find(&request.query(), &mut captures).is_some()));
                (table, requests)
            });
            group.bench_function(BenchmarkId::new(name, count), |b| {
                let (table, requests) = &*prepared;
                let mut captures = Captures::new();
                let mut next = requests.iter().cycle();
                b.iter(|| {
                    next.next().and_then(|request| table.find(black_box(&request.query()), &mut captures))
                });
            });
        }
    }
    group.finish();
}

/// A million are left to `route_figures`: with ten samples of each they would take as long as all other benches together.
fn compile(c: &mut Criterion) {
    let count = 100_000;
    let mut group = c.benchmark_group("compile");
    group.sample_size(10).throughput(Throughput::Elements(count as u64));
    for (name, hosts) in [("no host", 0), ("1 host in 100 routes", count / 100), ("1 host in 1 route", count)]
    {
        group.bench_function(BenchmarkId::new(name, count), |b| {
            b.iter_batched(|| rules(Kind::Mixed, count, hosts), Table::compile, BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn update(c: &mut Criterion) {
    let mut group = c.benchmark_group("update of one route");
    group.throughput(Throughput::Elements(1));
    let count = 100_000;
    for (name, hosts) in [("no host", 0), ("1 host in 100 routes", count / 100), ("1 host in 1 route", count)]
    {
        let table = LazyCell::new(|| Table::compile(rules(Kind::Mixed, count, hosts)));
        let changed = rule(Kind::Mixed, count / 2, hosts, &"other".into());
        let removal = Removal::from(&changed);
        group.bench_function(BenchmarkId::new(name, count), |b| {
            let table = &*table;
            b.iter_batched(
                || vec![changed.clone()],
                |added| table.update(std::slice::from_ref(&removal), added),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

fn normalize(c: &mut Criterion) {
    let mut group = c.benchmark_group("normalize");
    let mut scratch = Vec::new();
    for (name, text) in [
        ("normal", "/api/v1/svc123/users/42/posts/7"),
        ("escaped", "/api/v1/svc123/users/a%20b/posts/7"),
        ("dots", "/api/./v1/svc123/users/../posts/7"),
    ] {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                path::normalize(black_box(text.as_bytes()), &mut scratch).map(|normal| normal.path.len())
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = ringway_bench::quick!();
    targets = lookup, compile, update, normalize
}
criterion_main!(benches);
