//! What operators ordered for nodes, for the time being: an order ends when the configuration says something else of its node, that is
//! another weight, or no such node any more.

use super::memory::KnownOrder;
use super::{Address, Cluster, NodeStanding, Order, Standings};

type HashMap<K, V> = hashbrown::HashMap<K, V, foldhash::fast::FixedState>;

/// See the module.
#[derive(Debug, Default)]
pub struct Orders {
    clusters: HashMap<Box<str>, HashMap<Address, Ordered>>,
}

/// One node's orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ordered {
    /// Whether it gets requests.
    pub order: Order,
    /// Its weight in place of the configured one.
    pub weight: Option<u32>,
    /// The weight that the configuration had then.
    configured: u32,
}

impl Orders {
    /// Orders something for a node of a cluster. `false`: there is no such node.
    pub fn set(&mut self, cluster: &Cluster, address: &Address, change: impl FnOnce(&mut Ordered)) -> bool {
        let Some(endpoint) = cluster.endpoints.iter().find(|endpoint| endpoint.address == *address) else {
            return false;
        };
        let nodes = self.clusters.entry(cluster.key.clone()).or_default();
        let none = Ordered { order: Order::Ready, weight: None, configured: endpoint.weight };
        let ordered = nodes.entry(address.clone()).or_insert(none);
        change(ordered);
        if *ordered == none {
            nodes.remove(address);
        }
        self.clusters.retain(|_, nodes| !nodes.is_empty());
        true
    }

    /// What is ordered for a node.
    pub fn of(&self, key: &str, address: &Address) -> Option<Ordered> {
        self.clusters.get(key)?.get(address).copied()
    }

    pub(super) fn remember(&self) -> Vec<KnownOrder> {
        let known = |key: &str, address: &Address, ordered: &Ordered| KnownOrder {
            key: key.to_owned(),
            address: address.clone(),
            order: ordered.order,
            weight: ordered.weight,
            configured: ordered.configured,
        };
        let of_cluster = self.clusters.iter().flat_map(|(key, nodes)| {
            nodes.iter().map(|(address, ordered)| known(key, address, ordered)).collect::<Vec<_>>()
        });
        of_cluster.collect()
    }

    pub(super) fn recall(&mut self, known: KnownOrder) {
        let KnownOrder { key, address, order, weight, configured } = known;
        let nodes = self.clusters.entry(key.into()).or_default();
        nodes.insert(address, Ordered { order, weight, configured });
    }

    /// Ends what the configuration has overtaken. Tells whether anything was.
    pub fn follow<'c>(&mut self, cluster_of: impl Fn(&str) -> Option<&'c Cluster>) -> bool {
        let count = |orders: &Orders| orders.clusters.values().map(HashMap::len).sum::<usize>();
        let before = count(self);
        self.clusters.retain(|key, nodes| {
            let cluster = cluster_of(key);
            nodes.retain(|address, ordered| {
                cluster.is_some_and(|cluster| {
                    let mut endpoints = cluster.endpoints.iter();
                    endpoints.any(|e| e.address == *address && e.weight == ordered.configured)
                })
            });
            !nodes.is_empty()
        });
        count(self) != before
    }

    /// Adds them to what else is known of nodes.
    pub fn apply(&self, standings: &mut Standings) {
        for (key, nodes) in &self.clusters {
            let standing = standings.entry(key.clone()).or_default();
            let standing = std::sync::Arc::make_mut(standing);
            for (address, ordered) in nodes {
                let healthy = standing.of(address).healthy;
                let (order, weight) = (ordered.order, ordered.weight);
                standing.nodes.insert(address.clone(), NodeStanding { order, weight, healthy });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(weight: u32) -> Cluster {
        let json = format!(r#"{{"nodes": {{"10.0.0.1:80": {weight}, "10.0.0.2:80": 1}}}}"#);
        Cluster::compile("upstreams/1".into(), &serde_json::from_str(&json).unwrap()).unwrap()
    }

    #[test]
    fn an_order_lasts_until_the_configuration_says_otherwise() {
        let address: &Address = &"10.0.0.1:80".parse().unwrap();
        let mut orders = Orders::default();
        let drain = |ordered: &mut Ordered| ordered.order = Order::Drain;
        assert!(!orders.set(&cluster(1), &"10.0.0.3:80".parse().unwrap(), drain));
        assert!(orders.set(&cluster(1), address, drain));
        assert!(orders.set(&cluster(1), address, |ordered| ordered.weight = Some(7)));
        let same = cluster(1);
        assert!(!orders.follow(|_| Some(&same)));
        let mut standings = Standings::default();
        orders.apply(&mut standings);
        let standing = standings["upstreams/1"].of(address);
        assert_eq!((standing.order, standing.weight, standing.healthy), (Order::Drain, Some(7), true));
        let other = cluster(2);
        assert!(orders.follow(|_| Some(&other)));
        assert_eq!(orders.of("upstreams/1", address), None);
        assert!(orders.set(&other, address, drain));
        assert!(orders.set(&other, address, |ordered| ordered.order = Order::Ready));
        assert!(orders.clusters.is_empty());
    }
}
