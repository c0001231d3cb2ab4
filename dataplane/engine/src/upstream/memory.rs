//! What a process knows of nodes, in a form that its successor can take over: health, operators' orders, addresses of names.
//!
//! Times travel as lengths, because two processes have no clock in common. Whatever the successor's configuration does not have is
//! left out when it is taken over, never an error.

use std::net::IpAddr;

use super::health::{Health, Sickness};
use super::tally::{FailureKind, Rows};
use super::{Address, Names, Order, Orders, Watch};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Nodes whose health is not that of a new one.
    pub healths: Vec<KnownHealth>,
    /// What operators ordered.
    pub orders: Vec<KnownOrder>,
    /// The last good answers.
    pub names: Vec<(String, Vec<IpAddr>)>,
}

/// One node's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownHealth {
    /// The upstream's key.
    pub key: String,
    /// The node.
    pub address: Address,
    /// What there was too much of, and whether in requests.
    pub sick: Option<(FailureKind, bool)>,
    /// In a row.
    pub successes: u32,
    /// In a row.
    pub failures: Rows,
    /// For how long it has been so.
    pub for_ms: u64,
}

/// One node's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownOrder {
    /// The upstream's key.
    pub key: String,
    /// The node.
    pub address: Address,
    /// Whether it gets requests.
    pub order: Order,
    /// Its weight in place of the configured one.
    pub weight: Option<u32>,
    /// The weight that the configuration had then.
    pub configured: u32,
}

impl KnownHealth {
    pub(super) fn new(key: &str, address: Address, health: &Health, for_ms: u64) -> KnownHealth {
        KnownHealth {
            key: key.to_owned(),
            address,
            sick: health.sickness().map(|sickness| (sickness.kind, sickness.in_requests)),
            successes: health.successes(),
            failures: health.failures(),
            for_ms,
        }
    }

    pub(super) fn health(&self) -> Health {
        let sickness = self.sick.map(|(kind, in_requests)| Sickness { kind, in_requests });
        Health::restored(sickness, self.successes, self.failures)
    }
}

impl Memory {
    /// What is known now.
    pub fn of(watch: &Watch, orders: &Orders, names: &Names, now_ms: u64) -> Memory {
        Memory { healths: watch.remember(now_ms), orders: orders.remember(), names: names.remember() }
    }

    /// Takes it over, in place of what is known of the same nodes and names.
    pub fn restore(self, watch: &mut Watch, orders: &mut Orders, names: &mut Names, now_ms: u64) {
        self.healths.into_iter().for_each(|known| watch.recall(&known, now_ms));
        self.orders.into_iter().for_each(|known| orders.recall(known));
        self.names.into_iter().for_each(|(name, addresses)| names.recall(&name, addresses, now_ms));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::upstream::{Cluster, Finding, ProbeFault};

    fn cluster() -> Arc<Cluster> {
        let json =
            r#"{"nodes": {"10.0.0.1:80": 1, "10.0.0.2:80": 1, "a.test:80": 1}, "checks": {"active": {}}}"#;
        Arc::new(Cluster::compile("upstreams/1".into(), &serde_json::from_str(json).unwrap()).unwrap())
    }

    #[test]
    fn a_successor_knows_what_its_predecessor_knew() {
        let (cluster, mut watch, mut orders, mut names) =
            (cluster(), Watch::new(1), Orders::default(), Names::default());
        let sick: Address = "10.0.0.2:80".parse().unwrap();
        watch.follow([&cluster].into_iter(), 0);
        let mut now_ms = 0;
        while watch.report(&cluster.key, &sick, now_ms).unwrap().health.is_healthy() {
            now_ms += 500;
            while let Some(probe) = watch.probe(now_ms) {
                let failed = Finding::Failed(ProbeFault::Connect);
                let finding = if probe.address == sick { failed } else { Finding::Status(200) };
                watch.found(&probe, finding, now_ms);
            }
        }
        orders.set(&cluster, &"10.0.0.1:80".parse().unwrap(), |ordered| ordered.order = Order::Drain);
        names.follow(["a.test", "b.test"].into_iter());
        names.due(now_ms);
        names.answered("a.test", Some(vec!["10.0.0.9".parse().unwrap()]), now_ms);
        let memory = Memory::of(&watch, &orders, &names, now_ms + 7_000);
        assert_eq!((memory.healths.len(), memory.orders.len(), memory.names.len()), (1, 1, 1));
        // The successor may follow its configuration before or after.
        for early in [false, true] {
            let (mut watch, mut orders, mut names) = (Watch::new(2), Orders::default(), Names::default());
            if early {
                watch.follow([&cluster].into_iter(), 50);
                names.follow(["a.test"].into_iter());
            }
            memory.clone().restore(&mut watch, &mut orders, &mut names, 100);
            watch.follow([&cluster].into_iter(), 100);
            names.follow(["a.test"].into_iter());
            assert!(watch.take_changed());
            let report = watch.report(&cluster.key, &sick, 100).unwrap();
            assert!(!report.health.is_healthy(), "{early}");
            assert_eq!(report.for_ms, 100, "longer than the process lives is as long as it lives");
            let well = watch.report(&cluster.key, &"10.0.0.1:80".parse().unwrap(), 100).unwrap();
            assert!(well.health.is_healthy());
            assert!(!orders.follow(|_| Some(&cluster)));
            assert_eq!(names.addresses("a.test").len(), 1);
            assert!(!names.is_pending("a.test"));
            assert_eq!(Memory::of(&watch, &orders, &names, 100).orders, memory.orders);
        }
    }
}
