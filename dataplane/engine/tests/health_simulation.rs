//! Health over time: backends that flap, hang and answer nonsense, lists of nodes that change, a clock that is made up, and beside the
//! watch a model that remembers everything and counts anew each time.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringway_engine::upstream::{
    Address, Cluster, FailureKind, Finding, Lack, Probe, ProbeFault, Stage, Tally, Watch,
};
use ringway_snapshot::upstream::{Checks, Passive};

const SEEDS: u64 = 300;
const STEPS: u32 = 600;

/// What one node was seen to do, in order.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Seen {
    Success { in_requests: bool },
    Failure { kind: FailureKind, in_requests: bool },
}

/// A node's history since its health last changed, and its health.
#[derive(Debug, Clone)]
struct Shadow {
    healthy: bool,
    history: Vec<Seen>,
}

impl Shadow {
    fn see(&mut self, seen: Seen, checks: &Checks) {
        self.history.push(seen);
        let limit = |seen: Seen| {
            let passive = checks.passive.as_ref();
            let unhealthy = |passive: &Passive| passive.unhealthy.clone();
            let active = &checks.active;
            match seen {
                Seen::Success { in_requests: false } => active.healthy.successes,
                Seen::Success { in_requests: true } => passive.unwrap().healthy.successes,
                Seen::Failure { kind, in_requests: false } => match kind {
                    FailureKind::Http => active.unhealthy.http_failures,
                    FailureKind::Tcp => active.unhealthy.tcp_failures,
                    FailureKind::Timeout => active.unhealthy.timeouts,
                },
                Seen::Failure { kind, in_requests: true } => match kind {
                    FailureKind::Http => unhealthy(passive.unwrap()).http_failures,
                    FailureKind::Tcp => unhealthy(passive.unwrap()).tcp_failures,
                    FailureKind::Timeout => unhealthy(passive.unwrap()).timeouts,
                },
            }
        };
        let newest_first = self.history.iter().rev();
        let count = match seen {
            Seen::Success { .. } => {
                newest_first.take_while(|seen| matches!(seen, Seen::Success { .. })).count()
            }
            Seen::Failure { kind, .. } => newest_first
                .take_while(|seen| matches!(seen, Seen::Failure { .. }))
                .filter(|seen| matches!(seen, Seen::Failure { kind: other, .. } if *other == kind))
                .count(),
        };
        let turns = matches!(seen, Seen::Success { .. }) != self.healthy;
        if turns && limit(seen) > 0 && count >= limit(seen) as usize {
            self.healthy = !self.healthy;
            self.history.clear();
        }
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// How a backend behaves at present.
#[derive(Debug, Clone, Copy)]
enum Backend {
    Up,
    Refusing,
    Hanging,
    Failing(u16),
    /// It is well, but the gateway has nothing to ask it with.
    OutOfReach,
}

impl Backend {
    fn finding(self) -> Finding {
        match self {
            Backend::Up => Finding::Status(200),
            Backend::Refusing => Finding::Failed(ProbeFault::Connect),
            Backend::Hanging => Finding::TimedOut(Stage::Answer),
            Backend::Failing(status) => Finding::Status(status),
            Backend::OutOfReach => Finding::Unmade(Lack::Descriptor),
        }
    }
}

struct World {
    random: Random,
    now_ms: u64,
    watch: Watch,
    clusters: Vec<Arc<Cluster>>,
    backends: BTreeMap<u16, Backend>,
    shadows: BTreeMap<(String, Address), Shadow>,
    /// When it ends, and its number.
    under_way: Vec<(u64, u64, Probe)>,
    /// The number of each node's probe that is under way and still counts.
    awaited: BTreeMap<(String, Address), u64>,
    numbers: u64,
    /// When each node was last probed or came.
    probed_ms: BTreeMap<(String, Address), u64>,
}

fn cluster(name: u64, ports: &BTreeSet<u16>, passive: bool, path: u64) -> Arc<Cluster> {
    let nodes: Vec<String> = ports.iter().map(|port| format!(r#""10.0.0.1:{port}": 1"#)).collect();
    let passive =
        if passive { r#", "passive": {"unhealthy": {"http_failures": 3, "timeouts": 0}}"# } else { "" };
    let json = format!(
        r#"{{"nodes": {{{}}}, "checks": {{"active": {{"http_path": "/{path}", "concurrency": 3,
            "healthy": {{"interval": 3}}, "unhealthy": {{"interval": 1}}}}{passive}}}}}"#,
        nodes.join(",")
    );
    Arc::new(Cluster::compile(format!("upstreams/{name}"), &serde_json::from_str(&json).unwrap()).unwrap())
}

impl World {
    fn new(seed: u64) -> World {
        World {
            random: Random(seed),
            now_ms: 0,
            watch: Watch::new(seed),
            clusters: Vec::new(),
            backends: BTreeMap::new(),
            shadows: BTreeMap::new(),
            under_way: Vec::new(),
            awaited: BTreeMap::new(),
            numbers: 0,
            probed_ms: BTreeMap::new(),
        }
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0 => self.reconfigure(),
            1..=3 => {
                let port = u16::try_from(1 + self.random.below(8)).unwrap();
                let statuses = [500, 503, 404, 418];
                let backend = match self.random.below(7) {
                    0 => Backend::Refusing,
                    1 => Backend::Hanging,
                    2 => Backend::Failing(statuses[usize::try_from(self.random.below(4)).unwrap()]),
                    3 => Backend::OutOfReach,
                    _ => Backend::Up,
                };
                self.backends.insert(port, backend);
            }
            4..=7 => self.requests(),
            _ => {
                self.now_ms += self.random.below(400);
                self.probes();
            }
        }
        self.compare();
    }

    /// Other nodes, other checks, upstreams that go and come back.
    fn reconfigure(&mut self) {
        let mut clusters = Vec::new();
        for name in 0..3 {
            if self.random.below(4) > 0 {
                let ports = (1..=8u16).filter(|_| self.random.below(3) > 0).collect();
                clusters.push(cluster(name, &ports, name == 1, self.random.below(2)));
            }
        }
        self.clusters = clusters;
        self.watch.follow(self.clusters.iter(), self.now_ms);
        let mut present = BTreeSet::new();
        for cluster in &self.clusters {
            for endpoint in &cluster.endpoints {
                let node = (cluster.key.to_string(), endpoint.address.clone());
                self.shadows.entry(node.clone()).or_insert(Shadow { healthy: true, history: Vec::new() });
                present.insert(node);
            }
        }
        self.probed_ms.retain(|node, _| present.contains(node));
        self.awaited.retain(|node, _| present.contains(node));
        for node in present {
            self.probed_ms.entry(node).or_insert(self.now_ms);
        }
    }

    fn probes(&mut self) {
        let now_ms = self.now_ms;
        let (ended, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.under_way).into_iter().partition(|(until_ms, ..)| *until_ms <= now_ms);
        self.under_way = left;
        for (_, number, probe) in ended {
            let finding = self
                .backends
                .get(&probe.address.tcp().unwrap().port())
                .copied()
                .unwrap_or(Backend::Up)
                .finding();
            let node = (probe.key.to_string(), probe.address.clone());
            // The watch drops what was begun before a node went, also when the node is back.
            let counts = self.awaited.get(&node) == Some(&number);
            self.watch.found(&probe, finding, now_ms);
            if counts {
                self.awaited.remove(&node);
                self.probed_ms.insert(node.clone(), now_ms);
                let checks = self.checks_of(&node.0).unwrap();
                let active = &checks.active;
                let seen = match finding {
                    Finding::Status(status) if active.healthy.http_statuses.contains(&status) => {
                        Some(Seen::Success { in_requests: false })
                    }
                    Finding::Status(status) if active.unhealthy.http_statuses.contains(&status) => {
                        Some(Seen::Failure { kind: FailureKind::Http, in_requests: false })
                    }
                    Finding::Status(_) => None,
                    Finding::Connected => Some(Seen::Success { in_requests: false }),
                    Finding::Unmade(_) => None,
                    Finding::Failed(_) => Some(Seen::Failure { kind: FailureKind::Tcp, in_requests: false }),
                    Finding::TimedOut(_) => {
                        Some(Seen::Failure { kind: FailureKind::Timeout, in_requests: false })
                    }
                };
                if let Some(seen) = seen {
                    self.shadows.get_mut(&node).unwrap().see(seen, &checks);
                }
            }
        }
        while let Some(probe) = self.watch.probe(now_ms) {
            let node = (probe.key.to_string(), probe.address.clone());
            let last = self.probed_ms.insert(node.clone(), u64::MAX);
            assert!(last.is_some(), "{node:?} is probed although it is gone");
            assert_ne!(last, Some(u64::MAX), "{node:?} is probed twice at once");
            self.numbers += 1;
            self.awaited.insert(node, self.numbers);
            self.under_way.push((now_ms + self.random.below(1_000), self.numbers, probe));
        }
        for cluster in &self.clusters {
            let of_it =
                self.probed_ms.iter().filter(|((key, _), at)| **key == *cluster.key && **at == u64::MAX);
            assert!(of_it.count() <= 3, "more probes of one upstream at once than it wants");
        }
        for (node, at) in &self.probed_ms {
            // Its interval, a tenth of jitter, and turns that other nodes of the same upstream took.
            assert!(*at == u64::MAX || now_ms - at < 3_300 + 8 * 1_500, "{node:?} is forgotten since {at}");
        }
    }

    fn requests(&mut self) {
        let Some(cluster) = self.clusters.iter().find(|cluster| &*cluster.key == "upstreams/1") else {
            return;
        };
        let (cluster, checks) = (Arc::clone(cluster), cluster.checks.clone().unwrap());
        for endpoint in &cluster.endpoints {
            let mut tally = Tally::default();
            let backend =
                self.backends.get(&endpoint.address.tcp().unwrap().port()).copied().unwrap_or(Backend::Up);
            let shadow = self.shadows.get_mut(&(cluster.key.to_string(), endpoint.address.clone())).unwrap();
            for _ in 0..self.random.below(4) {
                let kind = match backend {
                    Backend::Up => {
                        tally.success();
                        shadow.see(Seen::Success { in_requests: true }, &checks);
                        continue;
                    }
                    Backend::Refusing => FailureKind::Tcp,
                    Backend::Hanging => FailureKind::Timeout,
                    Backend::Failing(500 | 503) => FailureKind::Http,
                    Backend::Failing(_) | Backend::OutOfReach => continue,
                };
                tally.failure(kind);
                shadow.see(Seen::Failure { kind, in_requests: true }, &checks);
            }
            self.watch.tallied(&cluster.key, &endpoint.address, &tally, self.now_ms);
        }
    }

    fn checks_of(&self, key: &str) -> Option<Arc<Checks>> {
        self.clusters.iter().find(|cluster| &*cluster.key == key)?.checks.clone()
    }

    fn compare(&self) {
        let sick: BTreeSet<(String, Address)> = self
            .watch
            .sick()
            .flat_map(|(key, standing)| {
                standing.nodes.into_keys().map(move |address| (key.to_owned(), address))
            })
            .collect();
        let expected = self
            .shadows
            .iter()
            .filter(|(node, shadow)| !shadow.healthy && self.probed_ms.contains_key(*node));
        assert_eq!(sick, expected.map(|(node, _)| node.clone()).collect());
    }
}

#[test]
fn health_is_what_a_model_that_remembers_everything_says() {
    let seeds = match std::env::var("RINGWAY_SEED") {
        Ok(seed) => seed.parse().unwrap()..=seed.parse().unwrap(),
        Err(_) => 1..=SEEDS,
    };
    let mut changes = 0;
    for seed in seeds {
        let world = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.reconfigure();
            (0..STEPS).for_each(|_| world.step());
            world.shadows.values().filter(|shadow| !shadow.healthy).count()
        });
        changes += world.unwrap_or_else(|_| panic!("replay with RINGWAY_SEED={seed}"));
    }
    assert!(changes > 0, "nothing was ever sick");
}

#[test]
fn another_list_of_nodes_or_a_new_upstream_of_the_same_name_does_not_heal() {
    let mut watch = Watch::new(1);
    let both = cluster(0, &BTreeSet::from([1, 2]), false, 0);
    let (one, other) =
        (cluster(0, &BTreeSet::from([1]), false, 0), cluster(0, &BTreeSet::from([1, 3]), false, 1));
    watch.follow([&both].into_iter(), 0);
    let mut now_ms = 0;
    while watch.sick().next().is_none() {
        now_ms += 100;
        while let Some(probe) = watch.probe(now_ms) {
            let finding = if probe.address.tcp().unwrap().port() == 1 {
                Finding::Failed(ProbeFault::Connect)
            } else {
                Finding::Status(200)
            };
            watch.found(&probe, finding, now_ms);
        }
        assert!(now_ms < 60_000);
    }
    for clusters in [vec![&one], vec![&other], vec![], vec![&both]] {
        let any = !clusters.is_empty();
        watch.follow(clusters.into_iter(), now_ms);
        assert_eq!(watch.sick().next().is_some(), any);
        assert_eq!(watch.watched() == 0, !any);
        assert!(any || watch.probe(now_ms + 60_000).is_none(), "a node that is gone is probed");
    }
    watch.follow([].into_iter(), now_ms);
    watch.follow([].into_iter(), now_ms + 600_000);
    watch.follow([&both].into_iter(), now_ms + 600_000);
    assert!(watch.sick().next().is_none(), "what was long ago is forgotten");
}
