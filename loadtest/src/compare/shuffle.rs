//! The random order of peers within a round, from a seed that is printed, so that an order can be repeated.

use std::hash::{BuildHasher, RandomState};

/// SplitMix64 (Steele, Lea, Flood, 2014): small, and more than random enough for an order.
#[derive(Debug)]
pub(crate) struct Shuffler {
    state: u64,
}

impl Shuffler {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A seed that differs from run to run.
    pub(crate) fn random_seed() -> u64 {
        // The standard library's hasher keys are the only randomness at hand without another dependency.
        RandomState::new().hash_one(0_u8) & 0xffff_ffff
    }

    /// Fisher-Yates.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = (self.next() % (last as u64 + 1)) as usize;
            items.swap(last, other);
        }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_gives_one_order_and_seeds_give_all() {
        let order = |seed| {
            let mut items = [1, 2, 3];
            Shuffler::new(seed).shuffle(&mut items);
            items
        };
        assert_eq!(order(7), order(7));
        let orders: BTreeSet<_> = (0..200).map(order).collect();
        assert_eq!(orders.len(), 6);
    }
}
