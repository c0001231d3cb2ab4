//! The routing table's figures at a glance: time to compile and to free, bytes per route, time and steps of a lookup.
//!
//! `cargo run --release -p ringway-bench --example route_figures`
#![forbid(unsafe_code)]

use std::time::Instant;

use ringway_bench::{Kind, requests, rules};
use ringway_engine::route::{Captures, Table};

fn main() {
    println!(
        "{:>9} {:>9}  {:<8} {:>10} {:>9} {:>8} {:>9} {:>7}",
        "routes", "hosts", "kind", "compile ms", "B a route", "rss B", "lookup ns", "steps"
    );
    for count in [1_000, 100_000, 1_000_000] {
        for (kind, hosts) in [
            (Kind::Mixed, 0),
            (Kind::Mixed, 1),
            (Kind::Mixed, count / 100),
            (Kind::Mixed, count),
            (Kind::Exact, 0),
            (Kind::Param, 0),
            (Kind::Prefix, 0),
        ] {
            figures(kind, count, hosts);
        }
    }
}

fn figures(kind: Kind, count: usize, hosts: usize) {
    let rules = rules(kind, count, hosts);
    let start = Instant::now();
    let table = Table::compile(rules);
    let compile_ms = start.elapsed().as_secs_f64() * 1e3;
    let bytes = table.memory_bytes() / count;
    let requests = requests(kind, count, hosts, 1 << 18);
    let mut captures = Captures::new();
    let mut steps = 0;
    for request in &requests {
        assert!(table.find(&request.query(), &mut captures).is_some());
        steps += captures.steps();
    }
    let mean_steps = steps as f64 / requests.len() as f64;
    // The least of some rounds: what else runs on the machine only adds.
    let lookup_ns = (0..5)
        .map(|_| {
            let start = Instant::now();
            let found = requests
                .iter()
                .filter(|request| table.find(&request.query(), &mut captures).is_some())
                .count();
            assert_eq!(found, requests.len());
            start.elapsed().as_nanos() as f64 / requests.len() as f64
        })
        .fold(f64::INFINITY, f64::min);
    println!(
        "{count:>9} {hosts:>9}  {:<8} {compile_ms:>10.1} {bytes:>9} {:>8} {lookup_ns:>9.0} {mean_steps:>7.1}",
        format!("{kind:?}"),
        resident_bytes() / count,
    );
}

/// What the process has in memory by Linux's account, requests and all.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok()).unwrap_or(0) * 1024
}
