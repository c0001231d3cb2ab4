//! What a core is told about nodes by others: probes and operators.
//!
//! Immutable and small: only what differs from "ready, healthy, as configured" is in it.

use std::sync::Arc;

use super::{Address, Cluster};

/// What an operator wants of a node, for the time being.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Requests, as configured.
    #[default]
    Ready,
    /// No new requests; those under way end.
    Drain,
    /// None, whatever else is down.
    Down,
}

/// What is known of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeStanding {
    /// By the operator.
    pub order: Order,
    /// By the operator, in place of the configured weight.
    pub weight: Option<u32>,
    /// By the checks.
    pub healthy: bool,
}

impl Default for NodeStanding {
    fn default() -> NodeStanding {
        NodeStanding { order: Order::Ready, weight: None, healthy: true }
    }
}

/// What is known of a cluster's nodes.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// By address.
    pub nodes: HashMap<Address, NodeStanding>,
    /// Where nodes are told by name: the cluster with their addresses.
    pub resolved: Option<Resolved>,
}

/// A cluster, and the same with the addresses that its names have at present.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// As it was compiled.
    pub base: Arc<Cluster>,
    /// With addresses.
    pub cluster: Arc<Cluster>,
    /// Some name has not been looked up yet.
    pub pending: bool,
}

/// What is known of all clusters' nodes, by the clusters' keys.
pub type Standings = HashMap<Box<str>, Arc<Standing>>;

type HashMap<K, V> = hashbrown::HashMap<K, V, foldhash::fast::FixedState>;

impl Standing {
    /// What is known of a node.
    pub fn of(&self, address: &Address) -> NodeStanding {
        self.nodes.get(address).copied().unwrap_or_default()
    }
}
