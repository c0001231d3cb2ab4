//! A hash table from texts to numbers that is made once: an entry is found with one look at memory, where a general table takes two.
//!
//! Texts lie elsewhere, in one buffer that is handed in; they are always compared in full, so that a request made to collide in the
//! hash finds nothing. A fixed hash is no danger: what is stored comes from the operator, and requests add nothing.
//!
//! Invariant: two in five slots or more are empty, so that every probe ends, soon.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;

/// No number.
pub(super) const NONE: u32 = u32::MAX;

/// Where hashing begins.
pub(super) const HASH_START: u64 = 0x9e37_79b9_7f4a_7c15;

/// Texts by hash.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Box<[Slot]>,
}

/// One text and its number. `tag` tells equal texts apart and saves comparing others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) tag: u32,
    pub(super) value: u32,
    pub(super) start: u32,
    pub(super) len: u32,
}

const EMPTY: Slot = Slot { tag: 0, value: NONE, start: 0, len: 0 };

impl Slots {
    /// A table of these, each tag and text once.
    pub(super) fn new(entries: &[(u64, Slot)]) -> Slots {
        if entries.is_empty() {
            return Slots::default();
        }
        let mut slots = vec![EMPTY; entries.len() + entries.len().div_ceil(3) * 2];
        for (hash, slot) in entries {
            let mut at = first(*hash, slots.len());
            while slots[at].value != NONE {
                at = if at + 1 == slots.len() { 0 } else { at + 1 };
            }
            slots[at] = *slot;
        }
        Slots { slots: slots.into_boxed_slice() }
    }

    /// The number of the text, which is compared with what lies in `texts`.
    pub(super) fn find(&self, hash: u64, tag: u32, wanted: &[u8], texts: &[u8]) -> Option<u32> {
        let from = first(hash, self.slots.len());
        let (before, after) = self.slots.split_at_checked(from)?;
        for slot in after.iter().chain(before) {
            if slot.value == NONE {
                return None;
            }
            if slot.tag == tag && text(texts, slot.start, slot.len) == wanted {
                return Some(slot.value);
            }
        }
        None
    }

    /// Whether anything lies where the search for this hash begins. Asked well before [`Slots::find`], it lets the memory of
    /// several searches be fetched at once.
    pub(super) fn may_hold(&self, hash: u64) -> bool {
        self.slots.get(first(hash, self.slots.len())).is_some_and(|slot| slot.value != NONE)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val::<[Slot]>(&self.slots)
    }
}

/// The tag of texts that are told apart by themselves.
pub(super) fn tag_of(hash: u64) -> u32 {
    (hash & u64::from(u32::MAX)) as u32
}

/// The hash of a text, or of a longer one from that of its beginning.
pub(super) fn hash_next(hash: u64, text: &[u8]) -> u64 {
    let mut hasher = FixedState::with_seed(hash).build_hasher();
    hasher.write(text);
    hasher.finish()
}

/// The hash of a text.
pub(super) fn hash_text(text: &[u8]) -> u64 {
    hash_next(HASH_START, text)
}

/// A part of a host's texts.
pub(super) fn text(texts: &[u8], start: u32, len: u32) -> &[u8] {
    let start = start as usize;
    texts.get(start..start.saturating_add(len as usize)).unwrap_or_default()
}

/// The slot in which the search for a hash begins: its upper bits spread over any number of slots.
pub(super) fn first(hash: u64, slots: usize) -> usize {
    ((u128::from(hash) * slots as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_collide_in_everything_are_told_apart() {
        let texts = b"abc";
        let slot = |value, start| (u64::MAX, Slot { tag: 7, value, start, len: 1 });
        let slots = Slots::new(&[slot(0, 0), slot(1, 1), slot(2, 2)]);
        for (value, wanted) in [(Some(0), "a"), (Some(1), "b"), (Some(2), "c"), (None, "d")] {
            assert_eq!(slots.find(u64::MAX, 7, wanted.as_bytes(), texts), value, "{wanted}");
        }
        assert_eq!(slots.find(u64::MAX, 8, b"a", texts), None);
    }

    #[test]
    fn an_empty_table_finds_nothing() {
        let slots = Slots::new(&[]);
        assert_eq!(slots.find(1, 1, b"", b""), None);
        assert!(!slots.may_hold(1));
    }
}
