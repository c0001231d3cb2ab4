//! What a chain of plugins costs a request: none, five, twenty, and how an answer is changed.
//!
//! `cargo bench -p ringway-bench --bench plugin`. Plugins without any effect on most requests are the usual case: most in these chains look and go on.

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringway_engine::facts::{Facts, Known};
use ringway_engine::http1::{HeadLimits, RequestHead};
use ringway_engine::plugin::{Asked, Chain, Chains, Chance, Course, Step, Verdict};
use ringway_snapshot::Plugin;
use serde_json::{Value, json};

const REQUEST: &[u8] = b"GET /shop/cart?user=7&v=1 HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";

/// Five kinds that are found together: restrict, name, split, rewrite, answer.
fn plugins() -> [(&'static str, Value); 5] {
    [
        ("ip-restriction", json!({"blacklist": ["192.168.0.0/16", "fe80::/10"]})),
        ("request-id", json!({})),
        (
            "traffic-split",
            json!({"rules": [{"match": [{"vars": [["arg_v", "==", "2"]]}], "weighted_upstreams": [{"weight": 1}]}]}),
        ),
        ("proxy-rewrite", json!({"headers": {"set": {"X-Client": "$remote_addr"}}})),
        ("response-rewrite", json!({"headers": {"set": {"X-Served-By": "ringway"}}})),
    ]
}

fn chain(length: usize) -> Option<Chain> {
    let steps = plugins().into_iter().cycle().take(length).enumerate().filter_map(|(index, (name, conf))| {
        let plugin = Plugin::read(name, &conf).ok()??;
        Some(Arc::new(Step::new(&format!("routes/{index}"), plugin, [].into())))
    });
    Chain::new(steps.collect())
}

fn chains(criterion: &mut Criterion) {
    let mut head = RequestHead::new();
    let parsed = head.parse(REQUEST, &HeadLimits::default());
    assert!(parsed.is_ok(), "{parsed:?}");
    let facts = Facts {
        head: &head,
        bytes: REQUEST,
        edits: None,
        content: Known::Nothing,
        path: b"/shop/cart",
        parameters: None,
        route: None,
        caller: None,
        client_ip: b"10.0.0.1",
        client_port: 5000,
        server_ip: IpAddr::from([10, 0, 0, 9]),
        server_port: 80,
        hostname: b"n1",
        status: Some(200),
        upstream_status: Some(200),
    };
    let (mut course, mut chance) = (Course::default(), Chance::new(1));
    let mut group = criterion.benchmark_group("plugin chain");
    group.throughput(Throughput::Elements(1));
    for length in [0, 5, 20] {
        let chain = chain(length);
        let chains = Chains { route: chain.as_ref(), ..Chains::default() };
        group.bench_function(BenchmarkId::new("request", length), |bencher| {
            bencher.iter(|| {
                if chains.is_empty() {
                    return black_box(false);
                }
                course.clear();
                let mut asked =
                    Asked { facts: &facts, course: &mut course, chance: &mut chance, callers: None };
                black_box(chains.request(&mut asked) == Verdict::Answer)
            });
        });
        group.bench_function(BenchmarkId::new("answer", length), |bencher| {
            bencher.iter(|| {
                chains.have_answer_phase(&course).then(|| black_box(chains.answer(&facts, &course)))
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = ringway_bench::quick!();
    targets = chains
}
criterion_main!(benches);
