//! Consistent hashing: the node that a key belongs to, or the next one in the key's own order where that is not usable.
//!
//! With a bound (`ringway.hash-balance`) a node that has more than so many times its share of the open requests is passed over, so that
//! one hot key cannot bury a node.

use std::sync::Arc;

use super::ring::Ring;

/// Looks for a usable node in the key's own order, before the nodes are walked.
const ATTEMPTS_MAX: u64 = 32;

/// Usable nodes on a ring.
#[derive(Debug)]
pub(super) struct Chash {
    ring: Arc<Ring>,
    /// Weight and open requests.
    nodes: Vec<(u32, u32)>,
    weight_total: u64,
    open_total: u64,
    bound: Option<f64>,
}

impl Chash {
    pub(super) fn new(ring: Arc<Ring>, nodes: usize, bound: Option<f64>) -> Chash {
        Chash { ring, nodes: vec![(0, 0); nodes], weight_total: 0, open_total: 0, bound }
    }

    pub(super) fn set(&mut self, node: u32, weight: u32) {
        if let Some((known, open)) = self.nodes.get_mut(node as usize) {
            let (before, after) = (*known, weight);
            self.weight_total = self.weight_total.saturating_sub(before.into()).saturating_add(after.into());
            if (before > 0) != (after > 0) {
                let open = u64::from(*open);
                self.open_total = if after > 0 {
                    self.open_total.saturating_add(open)
                } else {
                    self.open_total.saturating_sub(open)
                };
            }
            *known = weight;
        }
    }

    pub(super) fn load(&mut self, node: u32, now_open: u32) {
        if let Some((weight, open)) = self.nodes.get_mut(node as usize) {
            if *weight > 0 {
                self.open_total =
                    self.open_total.saturating_sub((*open).into()).saturating_add(now_open.into());
            }
            *open = now_open;
        }
    }

    pub(super) fn pick(&self, key: u64, skip: impl Fn(u32) -> bool) -> Option<u32> {
        if self.weight_total == 0 {
            return None;
        }
        let usable = |node: &u32| {
            self.nodes.get(*node as usize).is_some_and(|(weight, _)| *weight > 0) && !skip(*node)
        };
        let mut over = None;
        for node in (0..ATTEMPTS_MAX).filter_map(|attempt| self.ring.owner(key, attempt)).filter(usable) {
            if self.has_room(node) {
                return Some(node);
            }
            over = over.or(Some(node));
        }
        let start = usize::try_from(key % self.nodes.len().max(1) as u64).unwrap_or(0);
        let around = (0..self.nodes.len()).map(|step| (start + step) % self.nodes.len());
        let mut rest = around.filter_map(|node| u32::try_from(node).ok()).filter(usable);
        match over {
            Some(over) => rest.find(|node| self.has_room(*node)).or(Some(over)),
            None => rest.next(),
        }
    }

    fn has_room(&self, node: u32) -> bool {
        let (Some(bound), Some((weight, open))) = (self.bound, self.nodes.get(node as usize)) else {
            return true;
        };
        #[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
        let share = (self.open_total as f64 + 1.0) * f64::from(*weight) / self.weight_total.max(1) as f64;
        f64::from(*open) < (bound * share).ceil()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::round_robin::mix;
    use super::*;

    fn of(weights: &[u32], bound: Option<f64>) -> Chash {
        let nodes: Vec<_> = (1u16..)
            .zip(weights)
            .map(|(port, w)| (SocketAddr::new([10, 0, 0, 1].into(), port).into(), *w))
            .collect();
        let mut chash = Chash::new(Arc::new(Ring::build(&nodes)), nodes.len(), bound);
        for (node, weight) in (0..).zip(weights) {
            chash.set(node, *weight);
        }
        chash
    }

    #[test]
    fn a_node_that_is_down_moves_its_own_keys_evenly_and_no_others() {
        let mut chash = of(&[1; 10], None);
        let before: Vec<_> = (0..20_000).map(|key| chash.pick(mix(key), |_| false)).collect();
        chash.set(3, 0);
        let mut taken = [0u32; 10];
        for (key, before) in (0..).zip(&before) {
            let after = chash.pick(mix(key), |_| false);
            if *before == Some(3) {
                taken[after.unwrap() as usize] += 1;
            } else {
                assert_eq!(after, *before);
            }
        }
        assert_eq!(taken[3], 0);
        assert!(
            taken.iter().enumerate().all(|(node, count)| node == 3 || (120..350).contains(count)),
            "{taken:?}"
        );
        assert!((0..500).all(|key| chash.pick(mix(key), |node| node != 7) == Some(7)));
        assert_eq!(chash.pick(1, |_| true), None);
    }

    #[test]
    fn with_a_bound_one_hot_key_does_not_bury_a_node() {
        let (mut free, mut bound) = (of(&[1; 4], None), of(&[1; 4], Some(1.25)));
        for (chash, most) in [(&mut free, 100..=100), (&mut bound, 25..=32)] {
            let mut open = [0u32; 4];
            for _ in 0..100 {
                let node = chash.pick(42, |_| false).unwrap();
                open[node as usize] += 1;
                chash.load(node, open[node as usize]);
            }
            assert!(most.contains(open.iter().max().unwrap()), "{open:?}");
        }
    }
}
