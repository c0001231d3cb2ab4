//! Configurations and requests that the benchmarks share: made by counting, so that every run measures the same.
//!
//! A third of the routes are exact paths, a third have parameters, a third are prefixes; each service has its own literal part,
//! as services behind a gateway do. Requests visit the routes in an order that caches cannot guess.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ringway_engine::route::{MethodSet, Query, Rule};
use ringway_snapshot::parse::parse_object;
use ringway_snapshot::{Entry, Snapshot};
use serde_json::json;

/// How long criterion measures: as long as tells a change of some percent, so that all benches end within minutes.
#[macro_export]
macro_rules! quick {
    () => {
        criterion::Criterion::default()
            .warm_up_time(std::time::Duration::from_millis(300))
            .measurement_time(std::time::Duration::from_secs(1))
            .nresamples(10_000)
            .without_plots()
    };
}

/// What the benchmarks' rules give back.
pub type Payload = Arc<str>;

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its host.
    pub host: String,
    /// Its path.
    pub path: String,
}

impl Request {
    /// The request as a table is asked.
    pub fn query(&self) -> Query<'_> {
        let remote = IpAddr::from([127, 0, 0, 1]);
        Query { method: b"GET", host: self.host.as_bytes(), path: self.path.as_bytes(), remote, facts: None }
    }
}

/// Which patterns to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Thirds of each of the others.
    Mixed,
    /// `/api/v1/svc7/items/list`
    Exact,
    /// `/api/v1/svc7/users/:id/posts/:post`
    Param,
    /// `/static/svc7/*` and `/static/svc7/app-*`
    Prefix,
}

/// `count` rules, spread over `hosts` hosts; 0: none has a host.
pub fn rules(kind: Kind, count: usize, hosts: usize) -> Vec<Rule<Payload>> {
    let payload: Payload = "target".into();
    (0..count).map(|n| rule(kind, n, hosts, &payload)).collect()
}

/// The `n`-th of these rules.
pub fn rule(kind: Kind, n: usize, hosts: usize, payload: &Payload) -> Rule<Payload> {
    let uri = match place(kind, n) {
        (Kind::Param, 0) => format!("/api/v1/svc{n}/users/:id"),
        (Kind::Param, _) => format!("/api/v1/svc{n}/users/:id/posts/:post"),
        (Kind::Prefix, 0) => format!("/static/svc{n}/*"),
        (Kind::Prefix, _) => format!("/static/svc{n}/app-*"),
        (_, 0) => format!("/api/v1/svc{n}/items/list"),
        (_, _) => format!("/health/svc{n}"),
    };
    Rule {
        id: format!("route-{n:08}").into(),
        hosts: host(n, hosts).into_iter().map(String::into_boxed_str).collect(),
        uris: vec![uri.into()],
        methods: MethodSet::ALL,
        remotes: Vec::new(),
        vars: None,
        priority: 0,
        payload: Arc::clone(payload),
    }
}

/// `requests` requests, each for one of those rules.
pub fn requests(kind: Kind, count: usize, hosts: usize, requests: usize) -> Vec<Request> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let n = (state % count as u64) as usize;
        let path = match place(kind, n) {
            (Kind::Param, 0) => format!("/api/v1/svc{n}/users/{}", state >> 40),
            (Kind::Param, _) => format!("/api/v1/svc{n}/users/{}/posts/{}", state >> 40, state >> 50),
            (Kind::Prefix, 0) => format!("/static/svc{n}/css/main.css"),
            (Kind::Prefix, _) => format!("/static/svc{n}/app-{}.js", state >> 40),
            (_, 0) => format!("/api/v1/svc{n}/items/list"),
            (_, _) => format!("/health/svc{n}"),
        };
        Request { host: host(n, hosts).unwrap_or_else(|| "example.com".to_owned()), path }
    };
    std::iter::repeat_with(next).take(requests).collect()
}

/// A snapshot of `count` routes of some 300 bytes of JSON each.
pub fn snapshot(count: usize) -> Snapshot {
    snapshot_to(count, SocketAddr::from(([10, 0, 0, 1], 8080)))
}

/// The same, where all routes lead to this node.
pub fn snapshot_to(count: usize, node: SocketAddr) -> Snapshot {
    Snapshot::new(1, 1, 1, (0..count).map(|n| entry(n, node)).collect())
}

/// The `n`-th of these routes, leading elsewhere.
pub fn changed_entry(n: usize) -> Entry {
    entry(n, SocketAddr::from(([10, 0, 0, 9], 8080)))
}

fn entry(n: usize, node: SocketAddr) -> Entry {
    let spec = json!({
        "name": format!("service {n}"),
        "uri": format!("/api/v1/svc{n}/users/:id"),
        "host": format!("tenant{}.example.com", n % 1_000),
        "methods": ["GET", "POST"],
        "labels": {"team": "payments", "env": "production"},
        "upstream": {
            "type": "roundrobin",
            "nodes": [{"host": node.ip().to_string(), "port": node.port(), "weight": 1}, {"host": "10.0.0.2", "port": 8080, "weight": 0}],
        },
    });
    match parse_object("routes", &format!("route-{n:08}"), &spec) {
        Ok(entry) => entry,
        Err(fault) => unreachable!("{fault}"),
    }
}

fn place(kind: Kind, n: usize) -> (Kind, usize) {
    match kind {
        Kind::Mixed => ([Kind::Exact, Kind::Param, Kind::Prefix][n % 3], n / 3 % 2),
        kind => (kind, n % 2),
    }
}

fn host(n: usize, hosts: usize) -> Option<String> {
    (hosts > 0).then(|| format!("tenant{}.example.com", n % hosts))
}
