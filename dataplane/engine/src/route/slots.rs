//! A hash table from texts to numbers that is made once: an entry is found with one look at memory, where a general table takes two.
//!
//! Texts lie elsewhere, in one buffer that is handed in; they are always compared in full, so that a request made to collide in the
//! hash finds nothing. A fixed hash is no danger: what is stored comes from the operator, and requests add nothing.
//!
//! Invariant: two in five slots or more are empty, so that nearly every probe ends in the bucket in which it begins.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;

/// No number.
pub(super) const NONE: u32 = u32::MAX;

/// Where hashing begins.
pub(super) const HASH_START: u64 = 0x9e37_79b9_7f4a_7c15;

/// Texts by hash.
#[derive(Debug, Default)]
pub(super) struct Slots {
    buckets: Box<[Bucket]>,
}

/// One text and its number. `tag` tells equal texts apart and saves comparing others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) tag: u32,
    pub(super) value: u32,
    pub(super) start: u32,
    pub(super) len: u32,
}

const BUCKET_SLOTS: usize = 4;

/// Slots that are looked at together: one line of a cache. Tags are compared all at once, so that the processor has no branch to guess
/// wrongly but the one on whether any is equal.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Bucket {
    tags: [u32; BUCKET_SLOTS],
    values: [u32; BUCKET_SLOTS],
    starts: [u32; BUCKET_SLOTS],
    /// The first has [`MORE`] beside it.
    lens: [u32; BUCKET_SLOTS],
}

/// Some search that comes by this bucket has to go on to the next one. No text is that long.
const MORE: u32 = 1 << 31;

impl Bucket {
    const EMPTY: Bucket = Bucket {
        tags: [0; BUCKET_SLOTS],
        values: [NONE; BUCKET_SLOTS],
        starts: [0; BUCKET_SLOTS],
        lens: [0; BUCKET_SLOTS],
    };

    fn put(&mut self, slot: Slot) -> bool {
        let Some(at) = self.values.iter().position(|value| *value == NONE) else {
            self.lens[0] |= MORE;
            return false;
        };
        (self.tags[at], self.values[at], self.starts[at]) = (slot.tag, slot.value, slot.start);
        self.lens[at] |= slot.len;
        true
    }

    fn has_more(&self) -> bool {
        self.lens[0] & MORE != 0
    }

    /// A bit for each slot with that tag.
    fn equal(&self, tag: u32) -> u32 {
        (0..).zip(&self.tags).fold(0, |equal, (at, own)| equal | u32::from(*own == tag) << at)
    }
}

impl Slots {
    /// A table of these, each tag and text once.
    pub(super) fn new(entries: &[(u64, Slot)]) -> Slots {
        if entries.is_empty() {
            return Slots::default();
        }
        let slots = entries.len() + entries.len().div_ceil(3) * 2;
        let mut buckets = vec![Bucket::EMPTY; slots.div_ceil(BUCKET_SLOTS)];
        for (hash, slot) in entries {
            let mut at = first(*hash, buckets.len());
            while !buckets[at].put(*slot) {
                at = if at + 1 == buckets.len() { 0 } else { at + 1 };
            }
        }
        Slots { buckets: buckets.into_boxed_slice() }
    }

    /// The number of the text, which is compared with what lies in `texts`.
    pub(super) fn find(&self, hash: u64, tag: u32, wanted: &[u8], texts: &[u8]) -> Option<u32> {
        let from = first(hash, self.buckets.len());
        let (before, after) = self.buckets.split_at_checked(from)?;
        for bucket in after.iter().chain(before) {
            let mut equal = bucket.equal(tag);
            while equal != 0 {
                let at = equal.trailing_zeros() as usize % BUCKET_SLOTS;
                let (value, len) = (bucket.values[at], bucket.lens[at] & !MORE);
                if value != NONE && text(texts, bucket.starts[at], len) == wanted {
                    return Some(value);
                }
                equal &= equal - 1;
            }
            if !bucket.has_more() {
                return None;
            }
        }
        None
    }

    /// Whether a text of this hash, by which it has its tag, may be here. Asked well before [`Slots::find`], it lets the memory of several
    /// searches be fetched at once.
    pub(super) fn may_hold(&self, hash: u64) -> bool {
        let bucket = self.buckets.get(first(hash, self.buckets.len()));
        bucket.is_some_and(|bucket| (bucket.equal(tag_of(hash)) != 0) | bucket.has_more())
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val::<[Bucket]>(&self.buckets)
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

/// The bucket in which the search for a hash begins: its upper bits spread over any number of them.
fn first(hash: u64, buckets: usize) -> usize {
    ((u128::from(hash) * buckets as u128) >> 64) as usize
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
    fn what_does_not_fit_into_its_bucket_is_found_further_on_also_round_the_end() {
        let texts: Vec<u8> = (0..=99).collect();
        for hash in [0, u64::MAX / 2, u64::MAX] {
            let slot = |value: u32| (hash, Slot { tag: tag_of(hash), value, start: value, len: 1 });
            let entries: Vec<_> = (0..100).map(slot).collect();
            let slots = Slots::new(&entries);
            for value in 0..100u8 {
                assert_eq!(slots.find(hash, tag_of(hash), &[value], &texts), Some(u32::from(value)));
            }
            assert_eq!(slots.find(hash, tag_of(hash), &[100], &texts), None);
        }
    }

    #[test]
    fn few_others_look_as_if_they_might_be_there() {
        let texts: Vec<String> = (0..20_000).map(|n| format!("/api/v1/svc{n}/")).collect();
        let hash = |text: &String| hash_text(text.as_bytes());
        let slot = |text| (hash(text), Slot { tag: tag_of(hash(text)), value: 0, start: 0, len: 0 });
        let slots = Slots::new(&texts[..10_000].iter().map(slot).collect::<Vec<_>>());
        assert!(texts[..10_000].iter().all(|text| slots.may_hold(hash(text))));
        let wrong = texts[10_000..].iter().filter(|text| slots.may_hold(hash(text))).count();
        assert!(wrong < 1_500, "{wrong} of 10000");
    }

    #[test]
    fn an_empty_table_finds_nothing() {
        let slots = Slots::new(&[]);
        assert_eq!(slots.find(1, 1, b"", b""), None);
        assert!(!slots.may_hold(1));
    }
}
