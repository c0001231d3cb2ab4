//! The routing table's figures at a glance: time to compile, bytes per route, time and steps of a lookup.
//!
//! `cargo run --release -p ringway-bench --example route_figures [routes...]`
//!
//! Requests visit the routes at random, so that memory and not only the processor is measured. Times are the thread's own on the processor;
//! of a lookup the least of some rounds, taken in short stretches, so that what else runs on the machine counts little. Bytes are those
//! that compiling asked the allocator for and did not give back, with the rules' own (ids, methods, priorities); the allocator rounds each
//! block up, by a tenth at most.
#![forbid(unsafe_code)]

use std::time::Instant;

use cap::Cap;
use ringway_bench::{Kind, Request, requests, rules};
use ringway_engine::route::{Captures, Table};

#[global_allocator]
static ALLOCATOR: Cap<mimalloc::MiMalloc> = Cap::new(mimalloc::MiMalloc, usize::MAX);

const REQUESTS: usize = 1 << 18;
const STRETCH: usize = 1 << 12;
const ROUNDS: usize = 12;

fn main() {
    println!(
        "{:>9} {:>9}  {:<8} {:>10} {:>9} {:>9} {:>7} {:>9}",
        "routes", "hosts", "kind", "compile ms", "B a route", "lookup ns", "steps", "memory ns"
    );
    let mut counts: Vec<usize> = std::env::args().skip(1).filter_map(|count| count.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![1_000, 100_000, 1_000_000];
    }
    for count in counts {
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
    let compile = || {
        let rules = rules(kind, count, hosts);
        let start = Clock::start();
        let table = Table::compile(rules);
        (start.ns() / 1e6, table)
    };
    let before = ALLOCATOR.allocated();
    let (_, table) = compile();
    let bytes = ALLOCATOR.allocated().saturating_sub(before) / count;
    let compile_ms = (0..3).map(|_| compile().0).fold(f64::INFINITY, f64::min);
    let requests = requests(kind, count, hosts, REQUESTS);
    let (lookup_ns, steps) = lookups(&table, &requests);
    let kind = format!("{kind:?}");
    let memory_ns = memory_ns(bytes * count);
    println!(
        "{count:>9} {hosts:>9}  {kind:<8} {compile_ms:>10.1} {bytes:>9} {lookup_ns:>9.0} {steps:>7.1} {memory_ns:>9.0}"
    );
}

/// What one read of memory that no cache foresees takes now, over as much memory as the table has: the yardstick of a lookup.
fn memory_ns(bytes: usize) -> f64 {
    const LINE: usize = 16;
    let lines = bytes.div_ceil(LINE * 4).next_power_of_two();
    // A full cycle over all lines: the steps of a linear congruential generator.
    let mut chain = vec![0_u32; lines * LINE];
    for line in 0..lines {
        chain[line * LINE] = ((line * 1_664_525 + 1_013_904_223) & (lines - 1)) as u32;
    }
    let mut at = 0;
    let mut least = f64::INFINITY;
    for _ in 0..ROUNDS * 8 {
        let start = Clock::start();
        for _ in 0..STRETCH {
            at = chain[at * LINE] as usize;
        }
        least = least.min(start.ns() / STRETCH as f64);
    }
    assert!(at < lines);
    least
}

/// Nanoseconds and steps of a lookup.
fn lookups<T>(table: &Table<T>, requests: &[Request]) -> (f64, f64) {
    let mut captures = Captures::new();
    let mut steps = 0;
    for request in requests {
        assert!(table.find(&request.query(), &mut captures).is_some());
        steps += captures.steps();
    }
    let mut least = vec![f64::INFINITY; requests.len().div_ceil(STRETCH)];
    for _ in 0..ROUNDS {
        for (stretch, least) in requests.chunks(STRETCH).zip(&mut least) {
            let start = Clock::start();
            let found =
                stretch.iter().filter(|request| table.find(&request.query(), &mut captures).is_some());
            assert_eq!(found.count(), stretch.len());
            *least = least.min(start.ns());
        }
    }
    let count = requests.len() as f64;
    (least.iter().sum::<f64>() / count, steps as f64 / count)
}

/// Time of this thread on the processor where Linux tells it, else time.
struct Clock {
    on_cpu_ns: Option<f64>,
    start: Instant,
}

impl Clock {
    fn start() -> Clock {
        Clock { on_cpu_ns: on_cpu_ns(), start: Instant::now() }
    }

    fn ns(&self) -> f64 {
        let wall_ns = self.start.elapsed().as_nanos() as f64;
        match (self.on_cpu_ns, on_cpu_ns()) {
            // The account is brought up to date at ticks; short stretches go by the clock.
            (Some(before), Some(after)) if wall_ns > 20e6 => after - before,
            _ => wall_ns,
        }
    }
}

fn on_cpu_ns() -> Option<f64> {
    let account = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    account.split_whitespace().next()?.parse().ok()
}
