//! Hosts by name, cheap to change: a table of shards, of which a change copies only the ones it touches.
//!
//! A shard is one block of memory in which a host stands where its hash says, or soon behind, so that a lookup finds name and table with one
//! look at memory that is in no cache. Also how a host is written for matching: in lower case, without port and final dot.

use std::sync::Arc;

use ringway_snapshot::limits::HOST_BYTES_MAX;
use smallvec::SmallVec;

use super::host::ARC_BYTES;
use super::shards::Host;
use super::slots::{first, hash_text};

/// A host's name or, for a wildcard, what follows its star.
pub(super) type HostName = SmallVec<[u8; 24]>;

/// Hosts by name.
pub(super) struct HostMap<T> {
    shards: Box<[Arc<Shard<T>>]>,
    len: usize,
}

/// Two in five places or more are empty, so that every probe ends, soon.
type Shard<T> = [Option<HostEntry<T>>];

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

/// The name in a request's host, in whatever case. An empty one, or one that no DNS name can be, is `None`.
pub(super) fn host_name(host: &[u8]) -> Option<&[u8]> {
    let name = match host.first() {
        Some(b'[') => memchr::memchr(b']', host).and_then(|end| host.get(..=end)),
        _ => memchr::memchr(b':', host).and_then(|end| host.get(..end)),
    };
    let name = name.unwrap_or(host);
    let name = name.strip_suffix(b".").unwrap_or(name);
    (1..=HOST_BYTES_MAX).contains(&name.len()).then_some(name)
}

/// A name as hosts are matched; what is behind it is nothing.
pub(super) fn lower_case(name: &[u8]) -> [u8; HOST_BYTES_MAX] {
    let mut lower = [0; HOST_BYTES_MAX];
    lower.iter_mut().zip(name).for_each(|(lower, byte)| *lower = byte.to_ascii_lowercase());
    lower
}

impl<T> HostMap<T> {
    /// A map of these hosts, each once.
    pub(super) fn new(entries: Vec<HostEntry<T>>) -> HostMap<T> {
        let len = entries.len();
        let count = shards_for(len);
        let mut parts: Vec<Vec<HostEntry<T>>> = Vec::new();
        parts.resize_with(count, || Vec::with_capacity(len.div_ceil(count)));
        for entry in entries {
            parts[place(hash_text(&entry.name), count)].push(entry);
        }
        HostMap { shards: parts.into_iter().map(shard).collect(), len }
    }

    /// The host of that name.
    pub(super) fn get(&self, name: &[u8]) -> Option<&Host<T>> {
        let hash = hash_text(name);
        let shard = self.shards.get(place(hash, self.shards.len()))?;
        let (before, after) = shard.split_at_checked(first(hash, shard.len()))?;
        for entry in after.iter().chain(before) {
            let entry = entry.as_ref()?;
            if *entry.name == *name {
                return Some(&entry.table);
            }
        }
        None
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &HostEntry<T>> {
        self.shards.iter().flat_map(|shard| shard.iter().flatten())
    }

    /// The map with these hosts put in, or taken out where there is no table.
    pub(super) fn with(&self, mut changes: Vec<(HostName, Option<Host<T>>)>) -> HostMap<T> {
        let mut shards = self.shards.clone();
        let mut len = self.len;
        let shard_of = |name: &HostName| place(hash_text(name), self.shards.len());
        changes.sort_by_cached_key(|(name, _)| (shard_of(name), name.clone()));
        for changes in changes.chunk_by_mut(|(a, _), (b, _)| shard_of(a) == shard_of(b)) {
            let Some(old) = changes.first().and_then(|(name, _)| shards.get_mut(shard_of(name))) else {
                continue;
            };
            let stays =
                |entry: &&HostEntry<T>| changes.binary_search_by(|(name, _)| name.cmp(&entry.name)).is_err();
            let mut entries: Vec<HostEntry<T>> = Vec::with_capacity(old.len());
            entries.extend(old.iter().flatten().filter(stays).cloned());
            let come = changes.iter_mut().filter_map(|(name, table)| {
                Some(HostEntry { table: table.take()?, name: std::mem::take(name) })
            });
            entries.extend(come);
            len = len + entries.len() - old.iter().flatten().count();
            *old = shard(entries);
        }
        let map = HostMap { shards, len };
        if shards_for(len) >= map.shards.len() * SHARDS_GROW {
            return HostMap::new(map.iter().cloned().collect());
        }
        map
    }

    /// Bytes of the map and its hosts.
    pub(super) fn memory_bytes(&self) -> usize {
        let shards = self.shards.iter().map(|shard| ARC_BYTES + size_of_val(&**shard));
        let names = self.iter().filter(|entry| entry.name.spilled()).map(|entry| entry.name.capacity());
        let tables = self.iter().map(|entry| entry.table.memory_bytes());
        size_of_val(&*self.shards) + shards.sum::<usize>() + names.sum::<usize>() + tables.sum::<usize>()
    }
}

/// A shard of these hosts, each once.
fn shard<T>(entries: Vec<HostEntry<T>>) -> Arc<Shard<T>> {
    let mut places: Vec<Option<HostEntry<T>>> = Vec::new();
    places.resize_with(entries.len() + entries.len().div_ceil(3) * 2, || None);
    for entry in entries {
        let mut at = first(hash_text(&entry.name), places.len());
        while places[at].is_some() {
            at = if at + 1 == places.len() { 0 } else { at + 1 };
        }
        places[at] = Some(entry);
    }
    places.into()
}

fn place(hash: u64, shards: usize) -> usize {
    // Not the bits by which a shard places its hosts.
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
