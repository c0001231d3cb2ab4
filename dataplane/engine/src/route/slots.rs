//! A hash table from texts to numbers that is made once: an entry is found with one look at memory, where a general table takes two.
//!
//! Texts lie elsewhere, in one buffer that is handed in; they are always compared in full, so that a request made to collide in the
//! hash finds nothing. A fixed hash is no danger: what is stored comes from the operator, and requests add nothing.
//!
//! Invariant: two in five slots or more are empty, so that every probe ends, soon.

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

/// The hash of a text, or of a longer one from that of its beginning: eight bytes at a time are multiplied into it, and at last its end with
/// its length. A general hash takes twice the time for the few bytes that a segment of a path has.
pub(super) fn hash_next(hash: u64, text: &[u8]) -> u64 {
    let (words, rest) = text.as_chunks();
    let hash = words.iter().fold(hash, |hash, word| fold(hash, u64::from_le_bytes(*word), MULTIPLIER));
    finish(hash, short_word(rest), text.len())
}

/// The length of a text up to its first slash and with it, and [`hash_next`] of that part.
pub(super) fn hash_to_slash(mut hash: u64, text: &[u8]) -> Option<(usize, u64)> {
    let mut at: usize = 0;
    loop {
        let rest = text.get(at..)?;
        let whole = rest.first_chunk();
        let word = whole.map_or_else(|| short_word(rest), |word| u64::from_le_bytes(*word));
        match slash_in(word) {
            Some(7) => return Some((at + 8, finish(fold(hash, word, MULTIPLIER), 0, at + 8))),
            Some(slash) => {
                let len = at + slash + 1;
                return Some((len, finish(hash, word & (u64::MAX >> (56 - 8 * slash)), len)));
            }
            None if whole.is_none() => return None,
            None => hash = fold(hash, word, MULTIPLIER),
        }
        at += 8;
    }
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

const MULTIPLIER: u64 = 0x5851_f42d_4c95_7f2d;

/// Both halves of a product, which all bits of a word reach.
fn fold(hash: u64, word: u64, by: u64) -> u64 {
    let product = u128::from(hash ^ word) * u128::from(by);
    (product as u64) ^ (product >> 64) as u64
}

fn finish(hash: u64, rest: u64, len: usize) -> u64 {
    fold(hash, rest, HASH_START ^ (len as u64) << 1)
}

/// Less than eight bytes as a word, the first the lowest.
fn short_word(text: &[u8]) -> u64 {
    let shift = |byte: u8, at: usize| u64::from(byte) << (8 * at);
    match *text {
        [] => 0,
        [a] => u64::from(a),
        [a, b] => u64::from(a) | shift(b, 1),
        [a, b, c] => u64::from(a) | shift(b, 1) | shift(c, 2),
        [a, b, c, d, ref rest @ ..] => {
            let low = u64::from(u32::from_le_bytes([a, b, c, d]));
            // Its last four bytes, of which those that stand in `low` too are shifted out.
            let high = text.last_chunk().map_or(0, |last| u64::from(u32::from_le_bytes(*last)));
            low | (high << 32 >> (8 * (4 - rest.len().min(4))) & !u64::from(u32::MAX))
        }
    }
}

/// Which of a word's bytes is the first slash.
fn slash_in(word: u64) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let differs = word ^ u64::from_ne_bytes([b'/'; 8]);
    // The highest bit of each byte that is zero, and maybe of some behind the first.
    let zeros = differs.wrapping_sub(ONES) & !differs & (ONES << 7);
    (zeros != 0).then(|| zeros.trailing_zeros() as usize / 8)
}

/// The slot in which the search for a hash begins: its upper bits spread over any number of slots.
pub(super) fn first(hash: u64, slots: usize) -> usize {
    ((u128::from(hash) * slots as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_short_text_is_a_word_with_its_first_byte_lowest(text in proptest::collection::vec(any::<u8>(), 0..8)) {
            let mut word = [0; 8];
            word[..text.len()].copy_from_slice(&text);
            prop_assert_eq!(short_word(&text), u64::from_le_bytes(word));
        }

        #[test]
        fn the_hash_up_to_a_slash_is_that_of_the_text_up_to_it(
            text in proptest::collection::vec(prop_oneof![Just(b'/'), Just(b'.'), Just(b'0'), 0xaf..=0xafu8, any::<u8>()], 0..40),
            start in any::<u64>(),
        ) {
            let want = memchr::memchr(b'/', &text).map(|at| (at + 1, hash_next(start, &text[..=at])));
            prop_assert_eq!(hash_to_slash(start, &text), want);
        }
    }

    #[test]
    fn texts_that_differ_little_have_hashes_that_differ_much() {
        let hashes: std::collections::HashSet<u64> =
            (0..100_000).map(|n| hash_text(format!("/svc{n}/").as_bytes())).collect();
        assert_eq!(hashes.len(), 100_000);
        for shift in [0, 16, 24, 32, 48] {
            let mut buckets = [0; 256];
            hashes.iter().for_each(|hash| buckets[(hash >> shift & 0xff) as usize] += 1);
            let (least, most) = (buckets.iter().min().unwrap(), buckets.iter().max().unwrap());
            assert!(*least > 290 && *most < 490, "bits from {shift} on: {least} to {most}");
        }
        let padded: std::collections::HashSet<u64> = (0..64).map(|len| hash_text(&vec![0; len])).collect();
        assert_eq!(padded.len(), 64);
    }

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
