//! Choosing a node: every balancer, with few nodes and many, and when a fifth of them is out.
//!
//! `cargo bench -p ringway-bench --bench upstream`

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringway_engine::upstream::{Address, Ask, Cluster, NodeStanding, Outcome, Roster, Standing};

fn cluster(kind: &str, nodes: u32) -> Arc<Cluster> {
    let nodes: Vec<String> = (0..nodes)
        .map(|node| format!(r#""10.0.{}.{}:80": {}"#, node / 250, node % 250, 1 + node % 3))
        .collect();
    let json = format!(r#"{{"type": "{kind}", "key": "remote_addr", "nodes": {{{}}}}}"#, nodes.join(","));
    let upstream = serde_json::from_str(&json).unwrap_or_default();
    Arc::new(Cluster::compile("upstreams/1".into(), &upstream).unwrap_or_else(|error| panic!("{error:?}")))
}

fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick and finish");
    group.throughput(Throughput::Elements(1));
    for kind in ["roundrobin", "chash", "least_conn", "ewma"] {
        for nodes in [3, 16, 100, 4_000] {
            for out in [false, true] {
                let cluster = cluster(kind, nodes);
                let sick = NodeStanding { healthy: false, ..NodeStanding::default() };
                let endpoints = cluster.endpoints.iter().step_by(5);
                let nodes_out: Vec<(Address, NodeStanding)> =
                    endpoints.filter(|_| out).map(|endpoint| (endpoint.address.clone(), sick)).collect();
                let standing = Standing { nodes: nodes_out.into_iter().collect(), ..Standing::default() };
                let mut roster = Roster::new(cluster, Some(Arc::new(standing)), 1, 0);
                let name = if out { format!("{kind}, a fifth out") } else { kind.to_owned() };
                group.bench_function(BenchmarkId::new(name, nodes), |b| {
                    let mut hash = 0u64;
                    b.iter(|| {
                        hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
                        let picked = roster.pick(&Ask { hash, excluded: &[], now_ms: 5 });
                        if let Some(ticket) = black_box(picked) {
                            roster.finish(ticket, Outcome::Answered { status: 200, latency_us: 900 }, 5);
                        }
                    });
                });
            }
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = ringway_bench::quick!();
    targets = pick
}
criterion_main!(benches);
