//! The objects of a source, each parsed once.
//!
//! Both sources fill a [`Store`]: the file source anew at every change, the PostgreSQL source object by object. Making a
//! snapshot of it costs what changed since the last one: nothing is parsed, sorted, validated or hashed again that did not change, and
//! the snapshot shares its memory with the store. What does not parse is kept as a
//! fault: as long as there is one, there is no snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringway_snapshot::limits::FAULTS_REPORTED_MAX;
use ringway_snapshot::parse::parse_owned;
use ringway_snapshot::sorted::Change;
use ringway_snapshot::{Digest, Entries, Entry, Fault, Kind, Snapshot, Validator, Version};
use serde_json::Value;

/// All objects of one source.
#[derive(Debug, Default)]
pub struct Store {
    good: Entries,
    digest: Digest,
    bad: BTreeMap<(Box<str>, Box<str>), Fault>,
    /// What `validator` has seen.
    validated: Entries,
    validator: Validator,
}

/// One in so many objects changed: from there on a look at everything is cheaper than one at each change.
const CHANGES_SHARE: usize = 4;

impl Store {
    /// Adds or replaces one object, given as JSON text.
    pub fn put_text(&mut self, kind: &str, id: &str, spec: &str) {
        match serde_json::from_str::<Value>(spec) {
            Ok(value) => self.put_owned(kind, id, value),
            Err(error) => {
                let reason = format!("is not JSON that can be read: {error}");
                self.put_fault(Fault { kind: kind.into(), id: id.into(), pointer: String::new(), reason });
            }
        }
    }

    /// Adds or replaces one object.
    pub fn put(&mut self, kind: &str, id: &str, spec: &Value) {
        self.put_owned(kind, id, spec.clone());
    }

    fn put_owned(&mut self, kind: &str, id: &str, spec: Value) {
        match parse_owned(kind, id, spec) {
            Ok(entry) => {
                if !self.bad.is_empty() {
                    self.bad.remove(&(Box::from(kind), Box::from(id)));
                }
                self.digest = self.digest.with(entry.digest);
                if let Some(old) = self.good.put(Arc::new(entry)) {
                    self.digest = self.digest.without(old.digest);
                }
            }
            Err(fault) => {
                self.remove(kind, id);
                self.bad.insert((kind.into(), id.into()), fault);
            }
        }
    }

    /// Takes note of something wrong that belongs to no readable object.
    pub fn put_fault(&mut self, fault: Fault) {
        self.remove(&fault.kind, &fault.id);
        self.bad.insert((fault.kind.as_str().into(), fault.id.as_str().into()), fault);
    }

    /// Removes one object, readable or not.
    pub fn remove(&mut self, kind: &str, id: &str) {
        if let Some(old) = Kind::from_name(kind).and_then(|known| self.good.remove(&(known, id))) {
            self.digest = self.digest.without(old.digest);
        }
        self.bad.remove(&(Box::from(kind), Box::from(id)));
    }

    /// Whether the object is there, readable or not.
    pub fn contains(&self, kind: &str, id: &str) -> bool {
        Kind::from_name(kind).is_some_and(|known| self.good.get(&(known, id)).is_some())
            || self.bad.contains_key(&(Box::from(kind), Box::from(id)))
    }

    /// The configuration as a whole, or all that is wrong with it. Where an object cannot be read, references to
    /// it are not looked at: they would only be told as broken too.
    pub fn snapshot(&mut self, lineage: u64, timeline: u32, revision: u64) -> Result<Snapshot, Vec<Fault>> {
        if !self.bad.is_empty() {
            return Err(self.bad.values().take(FAULTS_REPORTED_MAX).cloned().collect());
        }
        self.validate();
        let faults = self.validator.faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        let version = Version { lineage, timeline, revision, digest: self.digest };
        Ok(Snapshot { version, entries: self.good.clone() })
    }

    fn validate(&mut self) {
        let changes: Vec<Change<'_, Entry>> = self.validated.changes(&self.good);
        if changes.len() > self.good.len() / CHANGES_SHARE {
            self.validator = Validator::new(&self.good);
        } else {
            self.validator.change(&changes, &self.good);
        }
        drop(changes);
        self.validated = self.good.clone();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_by_object_update_gives_the_same_snapshot_as_a_fresh_store() {
        let mut store = Store::default();
        store.put("routes", "1", &json!({"uri": "/a"}));
        store.put("routes", "2", &json!({"uri": "/b"}));
        store.put("routes", "1", &json!({"uri": "/c"}));
        store.remove("routes", "2");
        let mut fresh = Store::default();
        fresh.put("routes", "1", &json!({"uri": "/c"}));
        assert_eq!(store.snapshot(1, 1, 5), fresh.snapshot(1, 1, 5));
        assert_eq!(store.snapshot(1, 1, 5).unwrap().check_integrity(), Ok(()));
    }

    #[test]
    fn what_is_broken_is_told_until_it_is_corrected_or_removed() {
        let mut store = Store::default();
        store.put("routes", "1", &json!({"uri": "/a"}));
        store.put("routes", "1", &json!({"urii": "/a"}));
        store.put_text("nonsense", "x", "{}");
        store.put_text("routes", "3", "{");
        assert_eq!(store.snapshot(1, 1, 1).unwrap_err().len(), 3);
        store.put("routes", "1", &json!({"uri": "/a"}));
        store.remove("nonsense", "x");
        store.put("routes", "3", &json!({"uri": "/a", "service_id": "s"}));
        let faults = store.snapshot(1, 1, 1).unwrap_err();
        assert_eq!(faults.len(), 1, "{faults:?}");
        store.remove("routes", "3");
        assert_eq!(store.snapshot(1, 1, 1).unwrap().entries.len(), 1);
    }
}
