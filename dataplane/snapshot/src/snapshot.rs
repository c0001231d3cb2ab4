//! A whole configuration as it travels: its version and all objects.
//!
//! Invariant: entries are sorted by kind and id without repetition, and `version.digest` is the sum of theirs. Cloning one is
//! cheap, and versions share what they have in common (see [`Sorted`]).

use std::cmp::Ordering;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::frame::{SCHEMA_MIN, schema_of};
use crate::model::{Id, Kind, Object};
use crate::sorted::{Keyed, Sorted};
use crate::version::{Digest, Version};

/// One object with its id and hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Unique within its kind.
    pub id: Id,
    /// Hash of kind, id and canonical JSON.
    pub digest: Digest,
    /// The object itself.
    pub object: Object,
}

impl Entry {
    /// Its place in the order of a snapshot.
    pub fn key(&self) -> (Kind, &str) {
        (self.object.kind(), &self.id)
    }
}

impl Keyed for Entry {
    type Key<'a> = (Kind, &'a str);

    fn key(&self) -> (Kind, &str) {
        Entry::key(self)
    }

    fn compare(&self, key: &(Kind, &str)) -> Ordering {
        Entry::key(self).cmp(key)
    }
}

/// The objects of a configuration, by kind and id.
pub type Entries = Sorted<Entry>;

impl Entries {
    /// Whether any object is of that kind.
    pub fn has_kind(&self, kind: Kind) -> bool {
        self.of_kind(kind).next().is_some()
    }

    /// The objects of a kind, by id.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Arc<Entry>> {
        // No id is empty, so that this is before the first.
        self.from(&(kind, "")).take_while(move |entry| entry.object.kind() == kind)
    }
}

/// A whole configuration.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// Which one.
    pub version: Version,
    /// All objects.
    pub entries: Entries,
}

impl Snapshot {
    /// Sorts the entries and takes their digest into the version.
    pub fn new(lineage: u64, timeline: u32, revision: u64, entries: Vec<Entry>) -> Snapshot {
        let entries: Entries = entries.into_iter().map(Arc::new).collect();
        Snapshot { version: Version { lineage, timeline, revision, digest: digest(&entries) }, entries }
    }

    /// The lowest schema number that can hold it, so that a release before this one reads it too where it can.
    pub fn schema(&self) -> u16 {
        let kinds = Kind::ALL.into_iter().filter(|kind| self.entries.has_kind(*kind));
        kinds.map(schema_of).max().unwrap_or(SCHEMA_MIN)
    }

    /// What a receiver checks before it looks at the objects.
    pub fn check_integrity(&self) -> Result<(), &'static str> {
        if !self.entries.is_in_order() {
            return Err("objects are not in order or repeat");
        }
        if digest(&self.entries) != self.version.digest {
            return Err("the digest of the objects is not the version's");
        }
        Ok(())
    }
}

fn digest(entries: &Entries) -> Digest {
    entries.iter().fold(Digest::default(), |sum, entry| sum.with(entry.digest))
}
