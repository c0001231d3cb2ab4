//! What a change costs where there are many routes, beside what the whole costs: each stage from the control plane's encoding to the
//! view that the cores swap to.
//!
//! `cargo run --release -p ringway-bench --example change_figures [routes...]`
//!
//! Of the whole, the least of some rounds, as the thread's own time on the processor; of one change, the clock's. With the allocator of the
//! executables.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

use std::sync::Arc;
use std::time::Instant;

use ringway_engine::view::View;
use ringway_snapshot::frame::{FrameKind, SCHEMA, decode, encode_as};
use ringway_snapshot::parse::parse_object;
use ringway_snapshot::validate::validate;
use ringway_snapshot::{Delta, Entry, Snapshot, Validator};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;
const CHANGES: usize = 50;

/// How the routes are spread.
#[derive(Debug, Clone, Copy)]
enum Spread {
    /// All on one host, each with its own upstream.
    OneHost,
    /// A hundred to a host, each with its own upstream.
    ManyHosts,
    /// All on one host, all by one service to one upstream.
    OneService,
}

fn main() {
    let mut counts: Vec<usize> = std::env::args().skip(1).filter_map(|count| count.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![10_000, 100_000, 1_000_000];
    }
    for count in counts {
        for spread in [Spread::OneHost, Spread::ManyHosts, Spread::OneService] {
            figures(count, spread);
        }
    }
}

fn figures(count: usize, spread: Spread) {
    let mut entries: Vec<Entry> = (0..count).map(|n| route(n, count, spread, 0)).collect();
    entries.push(parse_object("services", "s", &json!({"upstream_id": "u"})).unwrap());
    entries.push(upstream(1));
    let snapshot = Snapshot::new(1, 1, 1, entries);
    let bytes = encode_as(SCHEMA, FrameKind::Disk, &snapshot).unwrap();
    println!("{count} routes, {spread:?}, frame of {} bytes each", bytes.len() / count);
    let encode_ms = least(|| encode_as(SCHEMA, FrameKind::Disk, &snapshot).unwrap());
    let decode_ms = least(|| decode::<Snapshot>(FrameKind::Disk, &bytes).unwrap());
    let check_ms = least(|| snapshot.check_integrity().unwrap());
    let validate_ms = least(|| assert!(validate(&snapshot.entries).is_empty()));
    let compile_ms = least(|| View::compile(&snapshot).unwrap());
    let whole_ms = decode_ms + check_ms + validate_ms + compile_ms;
    println!(
        "  whole:  encode {encode_ms:.1} ms | decode {decode_ms:.1} + check {check_ms:.1} + validate {validate_ms:.1} + compile {compile_ms:.1} = {whole_ms:.1} ms"
    );
    let view = View::compile(&snapshot).unwrap();
    println!("  table:  {} B a route, without targets", view.routes.memory_bytes() / count);
    let changed = |n: usize| route(n * 7919 % count, count, spread, 1);
    changes("route  ", &snapshot, &view, whole_ms, changed);
    changes("upstream", &snapshot, &view, whole_ms, |n| upstream(n + 2));
}

/// One change after the other, each as a control plane sends and a data plane takes it.
fn changes(what: &str, snapshot: &Snapshot, view: &View, whole_ms: f64, changed: impl Fn(usize) -> Entry) {
    let (mut older, mut view) = (snapshot.clone(), view.clone());
    let mut validator = Validator::trusting(&older.entries);
    let mut sums = [Vec::new(), Vec::new()];
    for n in 0..CHANGES {
        let mut target = older.clone();
        let entry = Arc::new(changed(n));
        target.version.digest = target.version.digest.with(entry.digest);
        if let Some(old) = target.entries.put(entry) {
            target.version.digest = target.version.digest.without(old.digest);
        }
        target.version.revision += 1;
        let start = Instant::now();
        let bytes = encode_as(SCHEMA, FrameKind::Disk, &Delta::between(&older, &target)).unwrap();
        sums[0].push(ms(start));
        let start = Instant::now();
        let delta: Delta = decode(FrameKind::Disk, &bytes).unwrap();
        let newer = delta.apply(&older).unwrap();
        validator.change(&older.entries.changes(&newer.entries), &newer.entries);
        assert!(validator.faults().is_empty());
        let next = view.update(&older, &newer, &validator).unwrap();
        sums[1].push(ms(start));
        (older, view) = (newer, next);
    }
    let [encode_ms, apply_ms] = sums.map(|mut all| {
        all.sort_by(f64::total_cmp);
        (all[all.len() / 2], all[all.len() - 1])
    });
    println!(
        "  one {what}: encode {:.3} ms (worst {:.3}) | decode, apply, validate, compile {:.3} ms (worst {:.3}): 1/{:.0} of the whole",
        encode_ms.0,
        encode_ms.1,
        apply_ms.0,
        apply_ms.1,
        whole_ms / apply_ms.0
    );
}

fn route(n: usize, count: usize, spread: Spread, priority: i64) -> Entry {
    let mut spec = json!({
        "name": format!("service {n}"),
        "uri": format!("/api/v1/svc{n}/users/:id"),
        "methods": ["GET", "POST"],
        "priority": priority,
        "labels": {"team": "payments", "env": "production"},
    });
    let own = json!({"nodes": [{"host": "10.0.0.1", "port": 8080, "weight": 1}, {"host": "10.0.0.2", "port": 8080, "weight": 1}]});
    match spread {
        Spread::OneHost => spec["upstream"] = own,
        Spread::ManyHosts => {
            spec["host"] = json!(format!("tenant{}.example.com", n % (count / 100).max(1)));
            spec["upstream"] = own;
        }
        Spread::OneService => spec["service_id"] = json!("s"),
    }
    parse_object("routes", &format!("route-{n:08}"), &spec).unwrap()
}

fn upstream(port: usize) -> Entry {
    let address = format!("10.0.0.1:{}", 1 + port % 60_000);
    parse_object("upstreams", "u", &json!({"nodes": {address: 1}})).unwrap()
}

/// Milliseconds of the fastest of some rounds; what is made is freed outside of them.
fn least<T>(work: impl Fn() -> T) -> f64 {
    let round = || {
        let (start, before) = (Instant::now(), on_cpu_ms());
        let made = work();
        let took = before.zip(on_cpu_ms()).map_or_else(|| ms(start), |(before, after)| after - before);
        drop(made);
        took
    };
    (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min)
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// This thread's time on the processor, where Linux tells it: brought up to date at ticks, it is good for tens of milliseconds.
fn on_cpu_ms() -> Option<f64> {
    let account = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(account.split_whitespace().next()?.parse::<f64>().ok()? / 1e6)
}
