//! What leads from one configuration to another: the objects that changed and the names of those that are gone.
//!
//! A delta names the version it starts from and the one it ends in. The end's digest proves the result: it is the sum of the objects'
//! own, so that it is brought up to date with what changed and never computed over all of them. A delta that does not fit is
//! refused as a whole, and the sender is asked for the full configuration.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::frame::{SCHEMA_DELTA, schema_of};
use crate::model::{Id, Kind};
use crate::snapshot::{Entry, Snapshot};
use crate::sorted::Change;
use crate::version::Version;

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// The version it starts from.
    pub base: Version,
    /// The version it ends in.
    pub version: Version,
    /// Objects that are new or other than before.
    pub changed: Vec<Arc<Entry>>,
    /// Objects that are gone.
    pub removed: Vec<(Kind, Id)>,
}

/// Objects that [`Delta::between_near`] looks at and names at most.
const NEAR_LOOKS_MAX: usize = 8 * 1_024;
const NEAR_CHANGES_MAX: usize = 32;

/// Why a delta leads nowhere from here. A full configuration does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// It starts elsewhere.
    #[error("it starts from version {0} with another content or number than what is here")]
    Base(Version),
    /// It removes what is not there.
    #[error("it removes {kind}/{id}, which is not there", kind = .0.name(), id = .1)]
    Missing(Kind, Id),
    /// The result is not what it says.
    #[error("the digest of its result is not the one it names")]
    Digest,
}

impl Delta {
    /// What leads from `base` to `target`. Costs what differs, not what there is.
    pub fn between(base: &Snapshot, target: &Snapshot) -> Delta {
        Delta::of(base, target, base.entries.changes(&target.entries))
    }

    /// The same where it takes no time worth speaking of: nearly everything is shared. `None`: it may.
    pub fn between_near(base: &Snapshot, target: &Snapshot) -> Option<Delta> {
        let changes = base.entries.changes_among(&target.entries, NEAR_LOOKS_MAX)?;
        (changes.len() <= NEAR_CHANGES_MAX).then(|| Delta::of(base, target, changes))
    }

    fn of(base: &Snapshot, target: &Snapshot, changes: Vec<Change<'_, Entry>>) -> Delta {
        let mut delta =
            Delta { base: base.version, version: target.version, changed: Vec::new(), removed: Vec::new() };
        for change in changes {
            match (change.old, change.new) {
                // Written again with the same content.
                (Some(old), Some(new)) if old.digest == new.digest => {}
                (_, Some(new)) => delta.changed.push(Arc::clone(new)),
                (Some(old), None) => delta.removed.push((old.object.kind(), old.id.clone())),
                (None, None) => {}
            }
        }
        delta
    }

    /// The configuration it leads to from `base`.
    pub fn apply(&self, base: &Snapshot) -> Result<Snapshot, DeltaError> {
        if self.base != base.version {
            return Err(DeltaError::Base(self.base));
        }
        let mut entries = base.entries.clone();
        let mut digest = base.version.digest;
        for (kind, id) in &self.removed {
            match entries.remove(&(*kind, id)) {
                Some(removed) => digest = digest.without(removed.digest),
                None => return Err(DeltaError::Missing(*kind, id.clone())),
            }
        }
        for entry in &self.changed {
            digest = digest.with(entry.digest);
            if let Some(replaced) = entries.put(Arc::clone(entry)) {
                digest = digest.without(replaced.digest);
            }
        }
        if digest != self.version.digest {
            return Err(DeltaError::Digest);
        }
        Ok(Snapshot { version: self.version, entries })
    }

    /// The lowest schema number that can hold it.
    pub fn schema(&self) -> u16 {
        self.changed.iter().map(|entry| schema_of(entry.object.kind())).fold(SCHEMA_DELTA, u16::max)
    }

    /// How many objects it names.
    pub fn len(&self) -> usize {
        self.changed.len() + self.removed.len()
    }

    /// Whether it changes nothing but the version.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::parse::parse_object;

    fn entry(id: u8, priority: u8) -> Entry {
        parse_object("routes", &id.to_string(), &json!({"uri": "/", "priority": priority})).unwrap()
    }

    fn snapshot(revision: u64, entries: &[(u8, u8)]) -> Snapshot {
        Snapshot::new(1, 1, revision, entries.iter().map(|(id, priority)| entry(*id, *priority)).collect())
    }

    proptest! {
        #[test]
        fn it_leads_from_any_configuration_to_any_other(
            from in prop::collection::btree_map(0u8..60, 0u8..3, 0..50),
            to in prop::collection::btree_map(0u8..60, 0u8..3, 0..50),
        ) {
            let list = |map: std::collections::BTreeMap<u8, u8>| map.into_iter().collect::<Vec<_>>();
            let (from, to) = (snapshot(1, &list(from)), snapshot(2, &list(to)));
            let delta = Delta::between(&from, &to);
            if let Some(near) = Delta::between_near(&from, &to) {
                prop_assert_eq!(&near, &delta);
            } else {
                prop_assert!(from.entries.changes(&to.entries).len() > NEAR_CHANGES_MAX);
            }
            let result = delta.apply(&from);
            prop_assert_eq!(result.as_ref(), Ok(&to));
            prop_assert_eq!(to.check_integrity(), Ok(()));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (one, two) = (snapshot(1, &[(1, 0), (2, 0)]), snapshot(2, &[(1, 1)]));
        let delta = Delta::between(&one, &two);
        assert_eq!(delta.len(), 2);
        assert_eq!(delta.apply(&two), Err(DeltaError::Base(one.version)));
        let mut other = delta.clone();
        other.changed.clear();
        assert_eq!(other.apply(&one), Err(DeltaError::Digest));
        let mut other = delta;
        other.removed.push((Kind::Service, "x".into()));
        assert_eq!(other.apply(&one), Err(DeltaError::Missing(Kind::Service, "x".into())));
    }
}
