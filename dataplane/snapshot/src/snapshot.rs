//! A whole configuration as it travels: its version and all objects.
//!
//! Invariant: entries are sorted by kind and id without repetition, and `version.digest` is the sum of theirs.

use serde::{Deserialize, Serialize};

use crate::model::{Id, Kind, Object};
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

/// A whole configuration.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// Which one.
    pub version: Version,
    /// All objects.
    pub entries: Vec<Entry>,
}

impl Snapshot {
    /// Sorts the entries and takes their digest into the version.
    pub fn new(lineage: u64, timeline: u32, revision: u64, mut entries: Vec<Entry>) -> Snapshot {
        entries.sort_by(|a, b| a.key().cmp(&b.key()));
        let digest = entries.iter().fold(Digest::default(), |sum, entry| sum.with(entry.digest));
        Snapshot { version: Version { lineage, timeline, revision, digest }, entries }
    }

    /// What a receiver checks before it looks at the objects.
    pub fn check_integrity(&self) -> Result<(), &'static str> {
        if !self.entries.windows(2).all(|pair| matches!(pair, [a, b] if a.key() < b.key())) {
            return Err("objects are not in order or repeat");
        }
        let digest = self.entries.iter().fold(Digest::default(), |sum, entry| sum.with(entry.digest));
        if digest != self.version.digest {
            return Err("the digest of the objects is not the version's");
        }
        Ok(())
    }
}
