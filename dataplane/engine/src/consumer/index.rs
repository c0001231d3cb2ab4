//! Numbers by a hash of text, cheap to change: a table of shards, of which a change copies only the ones it touches.
//!
//! It holds no text: who asks tells whether a number is the one. Hashes are fixed, because what is stored comes from the operator.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    shards: Box<[Arc<HashTable<Slot>>]>,
    len: usize,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u64,
    place: u32,
}

/// An index is laid out anew when that would give it so many times the shards it has.
const SHARDS_GROW: usize = 4;

impl Index {
    /// The number of that text for which `is_it` holds.
    pub(super) fn find(&self, text: &[u8], is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = hash_of(text);
        let shard = self.shards.get(shard_of(hash, self.shards.len()))?;
        shard.find(hash, |slot| slot.hash == hash && is_it(slot.place)).map(|slot| slot.place)
    }

    /// Adds a number.
    pub(super) fn put(&mut self, text: &[u8], place: u32) {
        // As many shards as a shard has numbers: a change copies the list of the ones and one of the others.
        let wanted = self.len.isqrt().next_power_of_two();
        if self.shards.is_empty() || wanted >= self.shards.len().saturating_mul(SHARDS_GROW) {
            self.lay_out(wanted);
        }
        self.insert(Slot { hash: hash_of(text), place });
        self.len = self.len.saturating_add(1);
    }

    /// Takes a number out.
    pub(super) fn remove(&mut self, text: &[u8], place: u32) {
        let hash = hash_of(text);
        let at = shard_of(hash, self.shards.len());
        let Some(shard) = self.shards.get_mut(at) else { return };
        if let Ok(found) =
            Arc::make_mut(shard).find_entry(hash, |slot| slot.hash == hash && slot.place == place)
        {
            found.remove();
            self.len = self.len.saturating_sub(1);
        }
    }

    fn lay_out(&mut self, count: usize) {
        let before = std::mem::take(&mut self.shards);
        self.shards = (0..count).map(|_| Arc::new(HashTable::new())).collect();
        before.iter().flat_map(|shard| shard.iter()).for_each(|slot| self.insert(*slot));
    }

    fn insert(&mut self, slot: Slot) {
        let at = shard_of(slot.hash, self.shards.len());
        if let Some(shard) = self.shards.get_mut(at) {
            Arc::make_mut(shard).insert_unique(slot.hash, slot, |slot| slot.hash);
        }
    }
}

fn hash_of(text: &[u8]) -> u64 {
    FixedState::with_seed(0).hash_one(text)
}

fn shard_of(hash: u64, shards: usize) -> usize {
    // Not the bits by which a shard's table places its entries.
    (hash >> 24) as usize & shards.saturating_sub(1)
}
