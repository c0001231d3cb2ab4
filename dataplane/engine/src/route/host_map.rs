//! Hosts by name, cheap to change: a table of shards, of which a change copies only the ones it touches.
//!
//! Also how a host is written for matching: in lower case, without port and final dot.

use std::sync::Arc;

use hashbrown::HashTable;
use ringway_snapshot::limits::HOST_BYTES_MAX;
use smallvec::SmallVec;

use super::shards::Host;
use super::slots::hash_text;

/// A host's name or, for a wildcard, what follows its star.
pub(super) type HostName = SmallVec<[u8; 24]>;

/// Hosts by name.
pub(super) struct HostMap<T> {
    shards: Box<[Arc<Shard<T>>]>,
    len: usize,
}

type Shard<T> = HashTable<HostEntry<T>>;

/// One host.
pub(super) struct HostEntry<T> {
    pub(super) name: HostName,
    pub(super) table: Host<T>,
}

/// Which requests a host pattern takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum HostPattern {
    /// This very host.
    Name(HostName),
    /// Hosts that end so.
    Suffix(HostName),
    /// Every host, before the routes without one.
    Any,
    /// Of routes without a host.
    None,
}

/// As many shards as a shard has hosts: a change copies the list of the ones and one of the others, and each host or shard that is copied is
/// another place in memory.
fn shards_for(hosts: usize) -> usize {
    hosts.isqrt().next_power_of_two()
}

/// A map is laid out anew when that would give it so many times the shards it has.
const SHARDS_GROW: usize = 4;

impl HostPattern {
    /// Reads a route's host.
    pub(super) fn read(text: &str) -> HostPattern {
        let (wild, name) = text.strip_prefix('*').map_or((false, text), |suffix| (true, suffix));
        let name = name.as_bytes();
        let mut name = HostName::from_slice(name.strip_suffix(b".").unwrap_or(name));
        name.make_ascii_lowercase();
        match (wild, name.is_empty()) {
            (false, _) => HostPattern::Name(name),
            (true, true) => HostPattern::Any,
            (true, false) => HostPattern::Suffix(name),
        }
    }

    /// As a route writes it; `None` for routes without a host.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            HostPattern::Name(name) => Some(String::from_utf8_lossy(name).into_owned()),
            HostPattern::Suffix(suffix) => Some(format!("*{}", String::from_utf8_lossy(suffix))),
            HostPattern::Any => Some("*".to_owned()),
            HostPattern::None => None,
        }
    }
}

/// Writes a request's host into `buffer` as hosts are matched. An empty one, or one that no DNS name can be, is `None`.
pub(super) fn read_host<'b>(host: &[u8], buffer: &'b mut [u8; HOST_BYTES_MAX]) -> Option<&'b [u8]> {
    let name = match host.first() {
        Some(b'[') => memchr::memchr(b']', host).and_then(|end| host.get(..=end)),
        _ => memchr::memchr(b':', host).and_then(|end| host.get(..end)),
    };
    let name = name.unwrap_or(host);
    let name = name.strip_suffix(b".").unwrap_or(name);
    let lower = buffer.get_mut(..name.len()).filter(|lower| !lower.is_empty())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    Some(lower)
}

impl<T> HostMap<T> {
    /// A map of these hosts, each once.
    pub(super) fn new(entries: Vec<HostEntry<T>>) -> HostMap<T> {
        let len = entries.len();
        let count = shards_for(len);
        let mut lens = vec![0; count];
        for entry in &entries {
            lens[place(hash_text(&entry.name), count)] += 1;
        }
        let mut shards: Vec<Shard<T>> = lens.into_iter().map(HashTable::with_capacity).collect();
        for entry in entries {
            let hash = hash_text(&entry.name);
            shards[place(hash, count)].insert_unique(hash, entry, |entry| hash_text(&entry.name));
        }
        HostMap { shards: shards.into_iter().map(Arc::new).collect(), len }
    }

    /// The host of that name.
    pub(super) fn get(&self, name: &[u8]) -> Option<&Host<T>> {
        let hash = hash_text(name);
        let shard = self.shards.get(place(hash, self.shards.len()))?;
        shard.find(hash, |entry| *entry.name == *name).map(|entry| &entry.table)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &HostEntry<T>> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// The map with these hosts put in, or taken out where there is no table.
    pub(super) fn with(&self, changes: Vec<(HostName, Option<Host<T>>)>) -> HostMap<T> {
        let mut len = self.len;
        let mut shards = self.shards.clone();
        let mut fresh: Vec<bool> = vec![false; shards.len()];
        for (name, table) in changes {
            let hash = hash_text(&name);
            let at = place(hash, shards.len());
            // The first change of a shard copies it; from then on it is ours alone.
            if !std::mem::replace(&mut fresh[at], true) {
                shards[at] = Arc::new(HashTable::clone(&shards[at]));
            }
            let Some(shard) = Arc::get_mut(&mut shards[at]) else { continue };
            if let Ok(old) = shard.find_entry(hash, |entry| entry.name == name) {
                old.remove();
                len -= 1;
            }
            if let Some(table) = table {
                shard.insert_unique(hash, HostEntry { name, table }, |entry| hash_text(&entry.name));
                len += 1;
            }
        }
        let map = HostMap { shards, len };
        if shards_for(len) >= map.shards.len() * SHARDS_GROW {
            return HostMap::new(map.iter().cloned().collect());
        }
        map
    }

    /// Bytes of the map and its hosts.
    pub(super) fn memory_bytes(&self) -> usize {
        let shards = self.shards.iter().map(|shard| size_of::<Shard<T>>() + shard.allocation_size());
        let names = self.iter().filter(|entry| entry.name.spilled()).map(|entry| entry.name.capacity());
        let tables = self.iter().map(|entry| entry.table.memory_bytes());
        size_of_val(&*self.shards) + shards.sum::<usize>() + names.sum::<usize>() + tables.sum::<usize>()
    }
}

fn place(hash: u64, shards: usize) -> usize {
    // Not the bits by which a shard's table places its entries.
    (hash >> 24) as usize & shards.saturating_sub(1)
}

impl<T> Clone for HostEntry<T> {
    fn clone(&self) -> Self {
        HostEntry { name: self.name.clone(), table: self.table.clone() }
    }
}

impl<T> Clone for HostMap<T> {
    fn clone(&self) -> Self {
        HostMap { shards: self.shards.clone(), len: self.len }
    }
}

/// Which lengths suffixes have, those that begin with a dot apart from the others.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lengths {
    words: [u64; 8],
}

impl Lengths {
    pub(super) fn insert(&mut self, suffix: &[u8]) {
        // What is longer than any host is never looked up.
        if let Some((word, bit)) = Lengths::at(suffix)
            && let Some(word) = self.words.get_mut(word)
        {
            *word |= bit;
        }
    }

    pub(super) fn contains(&self, suffix: &[u8]) -> bool {
        Lengths::at(suffix)
            .is_some_and(|(word, bit)| self.words.get(word).is_some_and(|word| word & bit != 0))
    }

    fn at(suffix: &[u8]) -> Option<(usize, u64)> {
        let len = u8::try_from(suffix.len()).ok()?;
        let dotted = if suffix.first() == Some(&b'.') { 4 } else { 0 };
        Some((dotted + usize::from(len >> 6), 1 << (len & 63)))
    }
}
