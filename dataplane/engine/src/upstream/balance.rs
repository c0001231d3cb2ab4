//! Smooth weighted round robin: of nodes with weights 5, 1, 1 the first never comes five times in a row.
//!
//! One state for each core and cluster. It survives a new version of the cluster: nodes are carried over by address, so a
//! change of one node does not restart the cycle. The offset differs for each core, so that cores do not march in step.
//!
//! Invariants: a node of weight 0 or an excluded node is never picked; over one full cycle without exclusions each
//! node is picked exactly as often as its weight (divided by the weights' common divisor) says.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Cluster;

/// The state of one cluster on one core.
#[derive(Debug)]
pub struct RoundRobin {
    cluster: Arc<Cluster>,
    /// Beside each endpoint its current weight.
    current: Vec<i64>,
}

impl RoundRobin {
    /// A new state; `skips` picks are made at once, so that cores differ.
    pub fn new(cluster: Arc<Cluster>, skips: usize) -> RoundRobin {
        let mut state = RoundRobin { current: vec![0; cluster.endpoints.len()], cluster };
        for _ in 0..skips.checked_rem(state.cluster.usable()).unwrap_or(0) {
            state.pick(&[]);
        }
        state
    }

    /// Follows the cluster of another version; the same one costs nothing.
    pub fn follow(&mut self, cluster: &Arc<Cluster>) {
        if Arc::ptr_eq(&self.cluster, cluster) {
            return;
        }
        if self.cluster.endpoints != cluster.endpoints {
            let old = std::mem::take(&mut self.current);
            let weight_of = |address: SocketAddr| {
                let index = self.cluster.endpoints.iter().position(|endpoint| endpoint.address == address)?;
                old.get(index).copied()
            };
            self.current =
                cluster.endpoints.iter().map(|endpoint| weight_of(endpoint.address).unwrap_or(0)).collect();
        }
        self.cluster = Arc::clone(cluster);
    }

    /// The next node's index, none of `excluded`; `None` when no other may be picked.
    pub fn pick(&mut self, excluded: &[usize]) -> Option<usize> {
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        for (index, (endpoint, current)) in self.cluster.endpoints.iter().zip(&mut self.current).enumerate() {
            if endpoint.weight == 0 || excluded.contains(&index) {
                continue;
            }
            let weight = i64::from(endpoint.weight);
            total += weight;
            *current += weight;
            if best.is_none_or(|(_, highest)| *current > highest) {
                best = Some((index, *current));
            }
        }
        let (index, _) = best?;
        if let Some(current) = self.current.get_mut(index) {
            *current -= total;
        }
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(weights: &[u32]) -> Arc<Cluster> {
        let nodes: Vec<String> = weights
            .iter()
            .enumerate()
            .map(|(n, w)| format!(r#"{{"host":"127.0.0.1","port":{},"weight":{w}}}"#, n + 1))
            .collect();
        let json = format!(r#"{{"nodes": [{}]}}"#, nodes.join(","));
        Arc::new(Cluster::compile("upstreams/1".into(), &serde_json::from_str(&json).unwrap()).unwrap())
    }

    #[test]
    fn small_weights_are_smooth() {
        let mut state = RoundRobin::new(cluster(&[5, 1, 1]), 0);
        let picks: Vec<_> = (0..7).map(|_| state.pick(&[]).unwrap()).collect();
        assert_eq!(picks, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn zero_and_excluded_nodes_are_never_picked() {
        let mut state = RoundRobin::new(cluster(&[1, 0, 3]), 0);
        assert!((0..20).all(|_| state.pick(&[2]) == Some(0)));
        assert_eq!(state.pick(&[0, 2]), None);
        assert_eq!(RoundRobin::new(cluster(&[0, 0]), 1).pick(&[]), None);
        assert_eq!(RoundRobin::new(cluster(&[]), 1).pick(&[]), None);
    }

    #[test]
    fn cores_start_at_different_nodes() {
        let same = cluster(&[1, 1, 1]);
        let first: Vec<_> = (0..3).map(|core| RoundRobin::new(Arc::clone(&same), core).pick(&[])).collect();
        assert_eq!(first, [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn a_new_version_keeps_the_cycle_of_nodes_that_stay() {
        let mut state = RoundRobin::new(cluster(&[1, 1, 1]), 0);
        assert_eq!(state.pick(&[]), Some(0));
        state.follow(&cluster(&[1, 1]));
        // A restart of the cycle would pick the first node again.
        assert_eq!(state.pick(&[]), Some(1));
        let firsts = (0..20).filter(|_| state.pick(&[]) == Some(0)).count();
        assert!((9..=11).contains(&firsts), "{firsts} of 20");
    }

    #[test]
    fn over_a_cycle_each_node_gets_its_weight() {
        use proptest::prelude::*;
        proptest!(|(weights in proptest::collection::vec(0u32..9, 1..8), skips in 0usize..5)| {
            let mut state = RoundRobin::new(cluster(&weights), skips);
            let total: u32 = weights.iter().sum();
            let mut counts = vec![0u32; weights.len()];
            for _ in 0..total {
                let index = state.pick(&[]);
                prop_assert!(index.is_some());
                counts[index.unwrap_or(0)] += 1;
            }
            prop_assert_eq!(counts, weights);
        });
    }
}
