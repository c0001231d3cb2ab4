//! What became of each node lately: a bounded record of the changes of its state, for operators.
//!
//! Kept by the upstream's key and the node's address. A node's oldest changes make room for its newest, and the node that has been quiet
//! longest makes room for another one: nothing here grows without an end.

use std::collections::VecDeque;
use std::sync::Arc;

/// Changes of one node.
const CHANGES_MAX: usize = 64;
/// Nodes with changes.
const NODES_MAX: usize = 4_096;

use super::Address;

type HashMap<K, V> = hashbrown::HashMap<K, V, foldhash::fast::FixedState>;

/// See the module.
#[derive(Debug, Default)]
pub struct History {
    nodes: HashMap<(Arc<str>, Address), Changes>,
}

/// One node's changes, the oldest first.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Those that are kept.
    pub kept: VecDeque<Change>,
    /// How many older ones made room.
    pub dropped: u64,
}

/// A change of a node's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When, on the clock of whoever notes it.
    pub at_ms: u64,
    /// To what.
    pub to: &'static str,
    /// Why.
    pub why: String,
}

impl History {
    /// Notes a change.
    pub fn note(&mut self, key: &str, address: &Address, change: Change) {
        let node = (Arc::from(key), address.clone());
        if self.nodes.len() >= NODES_MAX && !self.nodes.contains_key(&node) {
            let last = |changes: &Changes| changes.kept.back().map(|change| change.at_ms);
            let quiet = self.nodes.iter().min_by_key(|(_, changes)| last(changes));
            if let Some(quiet) = quiet.map(|(node, _)| node.clone()) {
                self.nodes.remove(&quiet);
            }
        }
        let changes = self.nodes.entry(node).or_default();
        if changes.kept.len() >= CHANGES_MAX {
            changes.kept.pop_front();
            changes.dropped = changes.dropped.saturating_add(1);
        }
        changes.kept.push_back(change);
    }

    /// What is known of a node.
    pub fn of(&self, key: &str, address: &Address) -> Option<&Changes> {
        self.nodes.get(&(Arc::from(key), address.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn change(at_ms: u64) -> Change {
        Change { at_ms, to: "unhealthy", why: String::new() }
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut history = History::default();
        let address: Address = "10.0.0.1:80".parse().unwrap();
        (0..100).for_each(|at_ms| history.note("u", &address, change(at_ms)));
        let changes = history.of("u", &address).unwrap();
        assert_eq!((changes.kept.len(), changes.dropped), (CHANGES_MAX, 36));
        assert_eq!(changes.kept.front().unwrap().at_ms, 36);
        for port in 1..=u16::try_from(NODES_MAX).unwrap() {
            history.note(
                "u",
                &SocketAddr::new([10, 0, 0, 2].into(), port).into(),
                change(u64::from(port) + 100),
            );
        }
        assert_eq!((history.nodes.len(), history.of("u", &address).is_none()), (NODES_MAX, true));
        assert!(history.of("other", &address).is_none());
    }
}
