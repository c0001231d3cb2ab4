//! A small map with text for keys, sorted: what labels and plugins are.
//!
//! A tree's smallest node takes half a kilobyte, which a hundred thousand routes with two labels each pay in memory and in the
//! time it takes to fill them. Here pairs lie side by side in one piece, and an empty map takes none.
//!
//! Invariant: keys ascend bytewise and do not repeat; of equal ones the last that was read stays, as in JSON.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Pairs that are reserved before any was read: the number that bytes tell is not to be believed.
const PAIRS_RESERVED_MAX: usize = 64;

/// See the module.
#[derive(Clone, PartialEq)]
pub struct Map<V> {
    pairs: Box<[(Box<str>, V)]>,
}

impl<V> Map<V> {
    /// All pairs by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.pairs.iter().map(|(key, value)| (&**key, value))
    }

    /// All keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(key, _)| key)
    }

    /// The value of that key.
    pub fn get(&self, key: &str) -> Option<&V> {
        let place = self.pairs.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        self.pairs.get(place).map(|(_, value)| value)
    }
}

impl<V> FromIterator<(Box<str>, V)> for Map<V> {
    fn from_iter<I: IntoIterator<Item = (Box<str>, V)>>(pairs: I) -> Map<V> {
        sorted(pairs.into_iter().collect())
    }
}

fn sorted<V>(mut pairs: Vec<(Box<str>, V)>) -> Map<V> {
    if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
        // Stable, so that the last of equals stays last; then each equal run keeps its last.
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.reverse();
        pairs.dedup_by(|a, b| a.0 == b.0);
        pairs.reverse();
    }
    Map { pairs: pairs.into_boxed_slice() }
}

impl<V> Default for Map<V> {
    fn default() -> Self {
        Map { pairs: Box::default() }
    }
}

impl<V: fmt::Debug> fmt::Debug for Map<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<V: Serialize> Serialize for Map<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.pairs.iter().map(|(key, value)| (key, value)))
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Map<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Pairs(PhantomData))
    }
}

struct Pairs<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for Pairs<V> {
    type Value = Map<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Map<V>, A::Error> {
        let mut pairs = Vec::with_capacity(map.size_hint().unwrap_or(0).min(PAIRS_RESERVED_MAX));
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(sorted(pairs))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_reads_and_writes_what_a_tree_does(pairs in prop::collection::vec(("[a-c]{0,2}", 0u8..9), 0..9)) {
            let text = |(key, value): &(String, u8)| format!("{key:?}:{value}");
            let json = format!("{{{}}}", pairs.iter().map(text).collect::<Vec<_>>().join(","));
            let map: Map<u8> = serde_json::from_str(&json).unwrap();
            let tree: BTreeMap<String, u8> = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(serde_json::to_string(&map).unwrap(), serde_json::to_string(&tree).unwrap());
            let bytes = postcard::to_stdvec(&map).unwrap();
            prop_assert_eq!(&bytes, &postcard::to_stdvec(&tree).unwrap());
            prop_assert_eq!(&postcard::from_bytes::<Map<u8>>(&bytes).unwrap(), &map);
            for key in ["", "a", "bb", "ca"] {
                prop_assert_eq!(map.get(key), tree.get(key));
            }
        }
    }
}
