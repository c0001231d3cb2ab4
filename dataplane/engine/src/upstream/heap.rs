//! A heap of nodes whose keys change: the least first, any one moved or taken out in O(log n).
//!
//! Invariants: a node is in it at most once; nothing is allocated after [`Heap::new`].

use smallvec::SmallVec;

/// Nodes by key, the least first. Equal keys are ordered by node.
#[derive(Debug, Clone)]
pub(super) struct Heap<K> {
    /// Key and node, as a binary heap.
    items: Vec<(K, u32)>,
    /// Beside each node where it stands in `items`.
    places: Vec<Option<u32>>,
}

impl<K: Ord + Copy> Heap<K> {
    /// An empty one for nodes below `nodes`.
    pub(super) fn new(nodes: usize) -> Heap<K> {
        Heap { items: Vec::with_capacity(nodes), places: vec![None; nodes] }
    }

    /// The key of a node that is in it.
    pub(super) fn key(&self, node: u32) -> Option<K> {
        let place = (*self.places.get(node as usize)?)?;
        self.items.get(place as usize).map(|(key, _)| *key)
    }

    /// Puts a node in, or gives it another key.
    pub(super) fn put(&mut self, node: u32, key: K) {
        let Some(place) = self.places.get(node as usize) else { return };
        let place = match *place {
            Some(place) => {
                if let Some(item) = self.items.get_mut(place as usize) {
                    item.0 = key;
                }
                place as usize
            }
            None => {
                self.items.push((key, node));
                self.items.len() - 1
            }
        };
        self.note(place);
        let place = self.up(place);
        self.down(place);
        self.check_invariants();
    }

    /// Takes a node out.
    pub(super) fn remove(&mut self, node: u32) {
        let Some(place) = self.places.get_mut(node as usize).and_then(Option::take) else { return };
        let place = place as usize;
        self.items.swap_remove(place);
        if place < self.items.len() {
            self.note(place);
            let place = self.up(place);
            self.down(place);
        }
        self.check_invariants();
    }

    /// The least node that is not skipped. Costs as many steps as nodes are skipped, not as there are.
    pub(super) fn first(&self, skip: impl Fn(u32) -> bool) -> Option<(K, u32)> {
        let mut open: SmallVec<[usize; 16]> = SmallVec::new();
        open.push(0);
        loop {
            let least =
                (0..open.len()).min_by_key(|at| open.get(*at).and_then(|place| self.items.get(*place)))?;
            let place = open.swap_remove(least);
            match self.items.get(place) {
                Some((key, node)) if !skip(*node) => return Some((*key, *node)),
                Some(_) => {
                    let children = [2 * place + 1, 2 * place + 2];
                    open.extend(children.into_iter().filter(|child| *child < self.items.len()));
                }
                None => return None,
            }
        }
    }

    fn up(&mut self, mut place: usize) -> usize {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.items.get(parent) <= self.items.get(place) {
                break;
            }
            self.swap(place, parent);
            place = parent;
        }
        place
    }

    fn down(&mut self, mut place: usize) {
        loop {
            let children = [2 * place + 1, 2 * place + 2];
            let inside = children.into_iter().filter(|child| *child < self.items.len());
            let Some(least) = inside.min_by_key(|child| self.items.get(*child)) else { return };
            if self.items.get(place) <= self.items.get(least) {
                return;
            }
            self.swap(place, least);
            place = least;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.items.swap(a, b);
        self.note(a);
        self.note(b);
    }

    fn note(&mut self, place: usize) {
        if let Some((_, node)) = self.items.get(place)
            && let Some(noted) = self.places.get_mut(*node as usize)
        {
            *noted = u32::try_from(place).ok();
        }
    }

    fn check_invariants(&self) {
        debug_assert_eq!(self.places.iter().flatten().count(), self.items.len(), "a node is lost");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_what_a_sorted_list_is(steps in proptest::collection::vec((0u32..20, 0u8..4, 0u64..50), 1..200)) {
            let mut heap = Heap::new(20);
            let mut list: Vec<(u64, u32)> = Vec::new();
            for (node, what, key) in steps {
                list.retain(|(_, known)| what == 3 || *known != node);
                match what {
                    0 => heap.remove(node),
                    3 => {
                        let mut others: Vec<_> = list.iter().filter(|(_, other)| *other % 3 != node % 3).collect();
                        others.sort();
                        prop_assert_eq!(heap.first(|other| other % 3 == node % 3), others.first().copied().copied());
                    }
                    _ => {
                        heap.put(node, key);
                        list.push((key, node));
                    }
                }
                list.sort_unstable();
                prop_assert_eq!(heap.first(|_| false), list.first().copied());
            }
        }
    }
}
