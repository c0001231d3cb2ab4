//! Smooth weighted round robin: of nodes with weights 5, 1, 1 the first never comes five times in a row.
//!
//! Few nodes: the well-known count of current weights, which spreads a node's picks as evenly as can be. Many nodes: each has a
//! virtual time at which its next turn is due, one step of 1/weight after the last, and the earliest is picked: the same shares, within one
//! pick of exact for every node, in O(log n). Cores begin at different places, so that they do not march in step.
//!
//! Invariant: a node whose weight is 0 and one that is skipped is never picked.

use super::heap::Heap;

/// Up to so many nodes are counted one by one, which is faster than any structure.
const COUNTED_MAX: usize = 16;

/// A whole turn of a node of weight 1, in virtual time.
pub(super) const TURN: u128 = 1 << 64;

/// The order of turns.
#[derive(Debug)]
pub(super) enum RoundRobin {
    Counted(Counted),
    Timed(Timed),
}

/// Where a node stands in the order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Turn {
    credit: i64,
    behind: Option<u128>,
}

/// See the module: few nodes.
#[derive(Debug)]
pub(super) struct Counted {
    /// Weight and current weight.
    nodes: Vec<(u32, i64)>,
}

/// See the module: many nodes.
#[derive(Debug)]
pub(super) struct Timed {
    heap: Heap<u128>,
    weights: Vec<u32>,
    now: u128,
    seed: u64,
}

impl RoundRobin {
    /// For so many nodes, all without weight at first. `seed` tells cores apart.
    pub(super) fn new(nodes: usize, seed: u64) -> RoundRobin {
        if nodes <= COUNTED_MAX {
            RoundRobin::Counted(Counted { nodes: vec![(0, 0); nodes] })
        } else {
            RoundRobin::Timed(Timed { heap: Heap::new(nodes), weights: vec![0; nodes], now: 0, seed })
        }
    }

    /// Gives a node a weight; at 0 it gets no turn.
    pub(super) fn set(&mut self, node: u32, weight: u32) {
        match self {
            RoundRobin::Counted(counted) => {
                if let Some((known, credit)) = counted.nodes.get_mut(node as usize) {
                    *known = weight;
                    // What it was owed is forgotten, so that a node that comes back is not flooded.
                    *credit = if weight == 0 { 0 } else { *credit };
                }
            }
            RoundRobin::Timed(timed) => timed.set(node, weight),
        }
    }

    /// The next node.
    pub(super) fn pick(&mut self, skip: impl Fn(u32) -> bool) -> Option<u32> {
        match self {
            RoundRobin::Counted(counted) => counted.pick(skip),
            RoundRobin::Timed(timed) => timed.pick(skip),
        }
    }

    pub(super) fn turn(&self, node: u32) -> Turn {
        match self {
            RoundRobin::Counted(counted) => {
                let credit = counted.nodes.get(node as usize).map_or(0, |(_, credit)| *credit);
                Turn { credit, behind: None }
            }
            RoundRobin::Timed(timed) => {
                let behind = timed.heap.key(node).map(|due| due.saturating_sub(timed.now));
                Turn { credit: 0, behind }
            }
        }
    }

    /// Puts a node where it stood in another order.
    pub(super) fn resume(&mut self, node: u32, turn: Turn) {
        match self {
            RoundRobin::Counted(counted) => {
                if let Some((weight, credit)) = counted.nodes.get_mut(node as usize)
                    && *weight > 0
                {
                    *credit = turn.credit;
                }
            }
            RoundRobin::Timed(timed) => {
                if let Some(behind) = turn.behind
                    && timed.heap.key(node).is_some()
                {
                    timed.heap.put(node, timed.now.saturating_add(behind));
                }
            }
        }
    }
}

impl Counted {
    fn pick(&mut self, skip: impl Fn(u32) -> bool) -> Option<u32> {
        let mut total = 0;
        let mut best: Option<(u32, i64)> = None;
        for (node, (weight, credit)) in (0..).zip(&mut self.nodes) {
            if *weight == 0 || skip(node) {
                continue;
            }
            let weight = i64::from(*weight);
            total += weight;
            *credit = credit.saturating_add(weight);
            if best.is_none_or(|(_, highest)| *credit > highest) {
                best = Some((node, *credit));
            }
        }
        let (node, _) = best?;
        if let Some((_, credit)) = self.nodes.get_mut(node as usize) {
            *credit = credit.saturating_sub(total);
        }
        Some(node)
    }
}

impl Timed {
    fn set(&mut self, node: u32, weight: u32) {
        let Some(known) = self.weights.get_mut(node as usize) else { return };
        if *known == weight {
            return;
        }
        *known = weight;
        if weight == 0 {
            return self.heap.remove(node);
        }
        // Somewhere in its first turn: nodes of equal weight do not come in the same order on every core.
        let part = mix(self.seed ^ u64::from(node)) | 1;
        self.heap.put(node, self.now.saturating_add(u128::from(part) / u128::from(weight)));
    }

    fn pick(&mut self, skip: impl Fn(u32) -> bool) -> Option<u32> {
        let (due, node) = self.heap.first(skip)?;
        let weight = self.weights.get(node as usize).copied().unwrap_or(1).max(1);
        self.now = self.now.max(due);
        self.heap.put(node, due.saturating_add(TURN / u128::from(weight)));
        Some(node)
    }
}

/// Spreads a number's bits over all of it (the finaliser of SplitMix64).
pub(super) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(weights: &[u32]) -> RoundRobin {
        let mut order = RoundRobin::new(weights.len(), 7);
        for (node, weight) in (0..).zip(weights) {
            order.set(node, *weight);
        }
        order
    }

    #[test]
    fn small_weights_are_smooth() {
        let mut order = of(&[5, 1, 1]);
        let picks: Vec<_> = (0..7).map(|_| order.pick(|_| false).unwrap()).collect();
        assert_eq!(picks, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn nodes_without_weight_and_skipped_ones_are_never_picked() {
        let mut order = of(&[1, 0, 3]);
        assert!((0..20).all(|_| order.pick(|node| node == 2) == Some(0)));
        assert_eq!(order.pick(|node| node != 1), None);
        assert_eq!(of(&[0; 40]).pick(|_| false), None);
        assert_eq!(of(&[]).pick(|_| false), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn over_a_cycle_each_of_few_nodes_gets_its_weight(weights in proptest::collection::vec(0u32..9, 1..COUNTED_MAX)) {
            let mut order = of(&weights);
            let mut counts = vec![0u32; weights.len()];
            for _ in 0..weights.iter().sum::<u32>() {
                counts[order.pick(|_| false).unwrap() as usize] += 1;
            }
            prop_assert_eq!(counts, weights);
        }

        #[test]
        fn at_any_time_each_of_many_nodes_is_within_one_pick_of_its_share_of_time(
            weights in proptest::collection::vec(0u32..1000, 17..80),
        ) {
            let mut order = of(&weights);
            let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            prop_assume!(total > 0);
            let mut counts = vec![0u64; weights.len()];
            let picks = 20_000;
            for _ in 0..picks {
                counts[order.pick(|_| false).unwrap() as usize] += 1;
            }
            let RoundRobin::Timed(timed) = &order else { panic!("few nodes") };
            for (weight, count) in weights.iter().zip(&counts) {
                let turns = timed.now as f64 / TURN as f64 * f64::from(*weight);
                prop_assert!((*count as f64 - turns).abs() <= 1.001, "{} of {}", count, turns);
                let share = *count as f64 / f64::from(picks) - f64::from(*weight) / total as f64;
                prop_assert!(share.abs() < 0.01);
            }
        }
    }
}
