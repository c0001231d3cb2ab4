//! Fewest open requests for the node's weight. Equals take turns by weight, so that an idle cluster is spread as round robin
//! would, instead of hitting one node.

use super::heap::Heap;
use super::round_robin::TURN;

/// The order of nodes by their load.
#[derive(Debug)]
pub(super) struct LeastConn {
    /// By load for the weight, then by whose turn it is.
    heap: Heap<(u64, u128)>,
    nodes: Vec<Load>,
    now: u128,
}

#[derive(Debug, Clone, Copy, Default)]
struct Load {
    weight: u32,
    open: u32,
    due: u128,
}

impl LeastConn {
    pub(super) fn new(nodes: usize) -> LeastConn {
        LeastConn { heap: Heap::new(nodes), nodes: vec![Load::default(); nodes], now: 0 }
    }

    pub(super) fn set(&mut self, node: u32, weight: u32) {
        let Some(load) = self.nodes.get_mut(node as usize) else { return };
        load.weight = weight;
        load.due = load.due.max(self.now);
        self.place(node);
    }

    /// So many requests are open at the node.
    pub(super) fn load(&mut self, node: u32, open: u32) {
        if let Some(load) = self.nodes.get_mut(node as usize) {
            load.open = open;
            self.place(node);
        }
    }

    pub(super) fn pick(&mut self, skip: impl Fn(u32) -> bool) -> Option<u32> {
        let ((_, due), node) = self.heap.first(skip)?;
        self.now = self.now.max(due);
        if let Some(load) = self.nodes.get_mut(node as usize) {
            // Turns that it let pass under load are not made up for.
            load.due = self.now.saturating_add(TURN / u128::from(load.weight.max(1)));
            self.place(node);
        }
        Some(node)
    }

    fn place(&mut self, node: u32) {
        let Some(load) = self.nodes.get(node as usize) else { return };
        match u64::from(load.open).checked_shl(32).and_then(|open| open.checked_div(u64::from(load.weight))) {
            None => self.heap.remove(node),
            Some(burden) => self.heap.put(node, (burden, load.due)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_loaded_for_its_weight_is_picked_and_equals_take_turns() {
        let mut order = LeastConn::new(2);
        order.set(0, 3);
        order.set(1, 2);
        let mut open = [0u32; 2];
        for _ in 0..50 {
            let node = order.pick(|_| false).unwrap();
            open[node as usize] += 1;
            order.load(node, open[node as usize]);
        }
        assert_eq!(open, [30, 20]);
        order.load(1, 0);
        assert_eq!(order.pick(|_| false), Some(1));
        let mut order = LeastConn::new(3);
        (0..3).for_each(|node| order.set(node, 1));
        let picks: Vec<_> = (0..6).map(|_| order.pick(|_| false).unwrap()).collect();
        assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
    }
}
