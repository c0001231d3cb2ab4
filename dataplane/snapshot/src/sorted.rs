//! A sorted set that versions share: cloning it copies a list of chunks, changing one element copies one chunk.
//!
//! Both planes hold a configuration of 100,000 objects in several versions at once (served, offered, on its way to disk) and change
//! a few of them a thousand times a second. What differs between two versions is found by skipping the chunks they share.
//!
//! Invariants: no chunk is empty; elements ascend and do not repeat, but for what [`Deserialize`] read, which is whatever the bytes
//! said and is checked by [`Sorted::is_in_order`] before it is used.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a set is sorted by.
pub trait Keyed {
    /// The key, borrowed.
    type Key<'a>
    where
        Self: 'a;

    /// Its key.
    fn key(&self) -> Self::Key<'_>;

    /// Compares its key with another.
    fn compare(&self, key: &Self::Key<'_>) -> Ordering;
}

/// See the module.
pub struct Sorted<T> {
    chunks: Vec<Chunk<T>>,
    len: usize,
}

type Chunk<T> = Arc<Vec<Arc<T>>>;

/// Elements of a new chunk.
const CHUNK_LEN: usize = 256;
/// Above this a chunk is split, below a quarter of [`CHUNK_LEN`] it joins its neighbour.
const CHUNK_LEN_MAX: usize = 2 * CHUNK_LEN;

/// What one set has and another has not, or has in another form.
#[derive(Debug)]
pub struct Change<'a, T> {
    /// What the older one has under this key.
    pub old: Option<&'a Arc<T>>,
    /// What the newer one has under this key.
    pub new: Option<&'a Arc<T>>,
}

impl<T> Sorted<T> {
    /// How many elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All elements in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// Puts elements that are in order already, as they come from a source that sorts.
    fn from_ordered(items: impl Iterator<Item = Arc<T>>) -> Sorted<T> {
        let mut set = Sorted::default();
        let mut chunk = Vec::with_capacity(CHUNK_LEN);
        for item in items {
            set.len += 1;
            chunk.push(item);
            if chunk.len() == CHUNK_LEN {
                set.chunks.push(Arc::new(std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK_LEN))));
            }
        }
        if !chunk.is_empty() {
            set.chunks.push(Arc::new(chunk));
        }
        set
    }
}

impl<T: Keyed> Sorted<T> {
    /// The element of that key.
    pub fn get(&self, key: &T::Key<'_>) -> Option<&Arc<T>> {
        let chunk = self.chunks.get(self.chunk_of(key))?;
        let place = chunk.binary_search_by(|item| item.compare(key)).ok()?;
        chunk.get(place)
    }

    /// The elements from that key on, in order.
    pub fn from<'s>(&'s self, key: &T::Key<'_>) -> impl Iterator<Item = &'s Arc<T>> + use<'s, T> {
        let at = self.chunk_of(key);
        let first = self.chunks.get(at);
        let place =
            first.map_or(0, |chunk| chunk.partition_point(|item| item.compare(key) == Ordering::Less));
        self.chunks.iter().skip(at).flat_map(|chunk| chunk.iter()).skip(place)
    }

    /// Adds an element, in place of the one that has its key; gives that back.
    pub fn put(&mut self, item: Arc<T>) -> Option<Arc<T>> {
        let at = self.chunk_of(&item.key());
        let Some(shared) = self.chunks.get_mut(at) else {
            self.chunks.push(Arc::new(vec![item]));
            self.len += 1;
            return None;
        };
        let found = shared.binary_search_by(|known| known.compare(&item.key()));
        let chunk = Arc::make_mut(shared);
        match found {
            Ok(place) => return chunk.get_mut(place).map(|known| std::mem::replace(known, item)),
            Err(place) => chunk.insert(place, item),
        }
        self.len += 1;
        if chunk.len() > CHUNK_LEN_MAX {
            let upper = chunk.split_off(chunk.len() / 2);
            self.chunks.insert(at + 1, Arc::new(upper));
        }
        None
    }

    /// Takes out the element of that key.
    pub fn remove(&mut self, key: &T::Key<'_>) -> Option<Arc<T>> {
        let at = self.chunk_of(key);
        let shared = self.chunks.get_mut(at)?;
        let place = shared.binary_search_by(|known| known.compare(key)).ok()?;
        let chunk = Arc::make_mut(shared);
        let removed = chunk.remove(place);
        let left = chunk.len();
        self.len -= 1;
        if left == 0 {
            self.chunks.remove(at);
        } else if left < CHUNK_LEN / 4 {
            self.join(at);
        }
        Some(removed)
    }

    /// Whether elements ascend and do not repeat.
    pub fn is_in_order(&self) -> bool {
        let mut pairs = self.iter().zip(self.iter().skip(1));
        pairs.all(|(a, b)| a.compare(&b.key()) == Ordering::Less)
    }

    /// What `newer` has otherwise than `self`, in order. Costs what differs, and little for each chunk.
    pub fn changes<'a>(&'a self, newer: &'a Sorted<T>) -> Vec<Change<'a, T>> {
        self.changes_among(newer, usize::MAX).unwrap_or_default()
    }

    /// The same, or `None` where more than so many elements would have to be looked at for it.
    pub fn changes_among<'a>(&'a self, newer: &'a Sorted<T>, looks_max: usize) -> Option<Vec<Change<'a, T>>> {
        let (mut old, mut new) = (Cursor::new(self), Cursor::new(newer));
        let mut changes = Vec::new();
        let mut looks = 0;
        loop {
            if old.shares_chunk(&new) {
                old.skip_chunk();
                new.skip_chunk();
                continue;
            }
            looks += 1;
            let order = match (old.item(), new.item()) {
                (None, None) => return Some(changes),
                _ if looks > looks_max => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(before), Some(after)) => before.compare(&after.key()),
            };
            let change = Change {
                old: if order.is_le() { old.next() } else { None },
                new: if order.is_ge() { new.next() } else { None },
            };
            let same = matches!((change.old, change.new), (Some(a), Some(b)) if Arc::ptr_eq(a, b));
            if !same {
                changes.push(change);
            }
        }
    }

    /// The chunk that has the key, if one has.
    fn chunk_of(&self, key: &T::Key<'_>) -> usize {
        let before = |chunk: &Chunk<T>| chunk.first().is_some_and(|first| first.compare(key).is_le());
        self.chunks.partition_point(before).saturating_sub(1)
    }

    /// Joins a chunk that has become small with its neighbour, unless that has many.
    fn join(&mut self, at: usize) {
        let at = if at + 1 < self.chunks.len() { at } else { at.saturating_sub(1) };
        let together = self.chunks.iter().skip(at).take(2).map(|chunk| chunk.len()).sum::<usize>();
        if at + 1 >= self.chunks.len() || together > CHUNK_LEN {
            return;
        }
        let next = self.chunks.remove(at + 1);
        if let Some(chunk) = self.chunks.get_mut(at) {
            Arc::make_mut(chunk).extend(next.iter().cloned());
        }
    }
}

/// Elements in any order; of those with one key the last stays.
impl<T: Keyed> FromIterator<Arc<T>> for Sorted<T> {
    fn from_iter<I: IntoIterator<Item = Arc<T>>>(items: I) -> Sorted<T> {
        let mut items: Vec<Arc<T>> = items.into_iter().collect();
        if !items.is_sorted_by(|a, b| a.compare(&b.key()) == Ordering::Less) {
            // Stable, so that the last of equals stays last; then each equal run keeps its last.
            items.sort_by(|a, b| a.compare(&b.key()));
            items.reverse();
            items.dedup_by(|a, b| a.compare(&b.key()) == Ordering::Equal);
            items.reverse();
        }
        Sorted::from_ordered(items.into_iter())
    }
}

/// Walks one set, aware of where its chunks begin.
struct Cursor<'a, T> {
    chunks: &'a [Chunk<T>],
    at: usize,
}

impl<'a, T> Cursor<'a, T> {
    fn new(set: &'a Sorted<T>) -> Cursor<'a, T> {
        Cursor { chunks: &set.chunks, at: 0 }
    }

    fn item(&self) -> Option<&'a Arc<T>> {
        self.chunks.first()?.get(self.at)
    }

    fn next(&mut self) -> Option<&'a Arc<T>> {
        let (chunk, rest) = self.chunks.split_first()?;
        let item = chunk.get(self.at);
        self.at += 1;
        if self.at >= chunk.len() {
            (self.chunks, self.at) = (rest, 0);
        }
        item
    }

    fn shares_chunk(&self, other: &Cursor<'_, T>) -> bool {
        let both = self.at == 0 && other.at == 0;
        both && matches!((self.chunks.first(), other.chunks.first()), (Some(a), Some(b)) if Arc::ptr_eq(a, b))
    }

    fn skip_chunk(&mut self) {
        self.chunks = self.chunks.get(1..).unwrap_or_default();
    }
}

impl<'a, T> IntoIterator for &'a Sorted<T> {
    type Item = &'a Arc<T>;
    type IntoIter = std::iter::FlatMap<
        std::slice::Iter<'a, Chunk<T>>,
        std::slice::Iter<'a, Arc<T>>,
        fn(&'a Chunk<T>) -> std::slice::Iter<'a, Arc<T>>,
    >;

    fn into_iter(self) -> Self::IntoIter {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }
}

impl<T> Clone for Sorted<T> {
    fn clone(&self) -> Self {
        Sorted { chunks: self.chunks.clone(), len: self.len }
    }
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Sorted { chunks: Vec::new(), len: 0 }
    }
}

impl<T: PartialEq> PartialEq for Sorted<T> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<T: fmt::Debug> fmt::Debug for Sorted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// As a sequence; the chunks do not show.
impl<T: Serialize> Serialize for Sorted<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.len))?;
        for item in self {
            seq.serialize_element(&**item)?;
        }
        seq.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Sorted<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Elements(std::marker::PhantomData))
    }
}

struct Elements<T>(std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
    type Value = Sorted<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Sorted<T>, A::Error> {
        let mut failed = None;
        let items = std::iter::from_fn(|| match seq.next_element::<T>() {
            Ok(item) => item.map(Arc::new),
            Err(error) => {
                failed = Some(error);
                None
            }
        });
        let set = Sorted::from_ordered(items);
        failed.map_or(Ok(set), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Pair(u32, u32);

    impl Keyed for Pair {
        type Key<'a> = u32;

        fn key(&self) -> u32 {
            self.0
        }

        fn compare(&self, key: &u32) -> Ordering {
            self.0.cmp(key)
        }
    }

    fn pairs(set: &Sorted<Pair>) -> Vec<(u32, u32)> {
        set.iter().map(|pair| (pair.0, pair.1)).collect()
    }

    proptest! {
        #[test]
        fn it_is_a_map_whatever_is_done_to_it_and_tells_what_differs(
            start in prop::collection::btree_map(0u32..4_000, 0u32..9, 0..3_000),
            steps in prop::collection::vec((0u32..4_000, prop::option::weighted(0.4, 0u32..9)), 0..600),
        ) {
            let mut model: BTreeMap<u32, u32> = start;
            let first: Sorted<Pair> = model.iter().map(|(key, value)| Arc::new(Pair(*key, *value))).collect();
            let before = model.clone();
            let mut set = first.clone();
            for (key, value) in steps {
                let replaced = match value {
                    Some(value) => (set.put(Arc::new(Pair(key, value))), model.insert(key, value)),
                    None => (set.remove(&key), model.remove(&key)),
                };
                prop_assert_eq!(replaced.0.map(|pair| pair.1), replaced.1);
            }
            prop_assert!(set.is_in_order());
            prop_assert!(set.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK_LEN_MAX));
            prop_assert_eq!(set.len(), model.len());
            prop_assert_eq!(pairs(&set), model.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>());
            prop_assert_eq!(pairs(&first), before.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>());
            let mut replayed = first.clone();
            for change in first.changes(&set) {
                match (change.old, change.new) {
                    (_, Some(new)) => drop(replayed.put(Arc::clone(new))),
                    (Some(old), None) => drop(replayed.remove(&old.key())),
                    (None, None) => prop_assert!(false),
                }
            }
            prop_assert_eq!(replayed, set);
        }
    }

    #[test]
    fn one_change_among_many_is_found_without_a_look_at_the_others() {
        let first: Sorted<Pair> = (0..100_000).map(|key| Arc::new(Pair(key, 0))).collect();
        let mut second = first.clone();
        second.put(Arc::new(Pair(50_000, 1)));
        let shared = first.chunks.iter().zip(&second.chunks).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!(shared, first.chunks.len() - 1);
        let changes = first.changes_among(&second, CHUNK_LEN).unwrap();
        assert!(matches!(&*changes, [Change { old: Some(_), new: Some(new) }] if new.0 == 50_000));
        assert!(first.changes_among(&second, CHUNK_LEN - 1).is_none());
    }

    #[test]
    fn it_travels_as_a_plain_list_and_the_last_of_equal_keys_stays() {
        let set: Sorted<Pair> =
            [(3, 1), (1, 1), (3, 2)].map(|(k, v)| Arc::new(Pair(k, v))).into_iter().collect();
        assert_eq!(pairs(&set), [(1, 1), (3, 2)]);
        let bytes = postcard::to_stdvec(&set).unwrap();
        assert_eq!(bytes, postcard::to_stdvec(&vec![Pair(1, 1), Pair(3, 2)]).unwrap());
        assert_eq!(postcard::from_bytes::<Sorted<Pair>>(&bytes).unwrap(), set);
        let disorder = postcard::to_stdvec(&vec![Pair(2, 1), Pair(1, 2)]).unwrap();
        assert!(!postcard::from_bytes::<Sorted<Pair>>(&disorder).unwrap().is_in_order());
    }
}
