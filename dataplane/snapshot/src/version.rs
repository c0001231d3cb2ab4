//! What orders configurations and fences stale ones: `Version { lineage, timeline, revision, digest }`.
//!
//! Invariants: within one lineage `(timeline, revision)` is totally ordered and a data plane only goes up; two
//! configurations with equal `(lineage, timeline, revision)` have equal digests or somebody is wrong.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::model::Kind;

/// The version of one whole configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Version {
    /// Identity of the source: PostgreSQL's system identifier, or a hash that stands for a declarative file.
    pub lineage: u64,
    /// Timeline of the WAL in which the revision was written; 1 where there are no timelines.
    pub timeline: u32,
    /// Number of the transaction, in commit order, without gaps.
    pub revision: u64,
    /// Hash of all objects.
    pub digest: Digest,
}

impl Version {
    /// The pair that orders versions of one lineage.
    pub fn order(&self) -> (u32, u64) {
        (self.timeline, self.revision)
    }

    /// Decides whether `offered` may take the place of `self`, the version now served.
    pub fn admit(&self, offered: &Version) -> Result<Admission, Refusal> {
        if self.lineage != offered.lineage {
            return Err(Refusal::OtherLineage { current: *self, offered: *offered });
        }
        match offered.order().cmp(&self.order()) {
            std::cmp::Ordering::Less => Err(Refusal::Older { current: *self, offered: *offered }),
            std::cmp::Ordering::Greater => Ok(Admission::Newer),
            std::cmp::Ordering::Equal if self.digest == offered.digest => Ok(Admission::Same),
            std::cmp::Ordering::Equal => Err(Refusal::Diverged { current: *self, offered: *offered }),
        }
    }
}

/// `lineage:timeline:revision`, as logs and status pages print it.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}:{}:{}", self.lineage, self.timeline, self.revision)
    }
}

/// Why an offered version is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is above the current one.
    Newer,
    /// It is the current one.
    Same,
}

/// Why an offered version is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// The source is not the one this data plane follows.
    #[error(
        "version {offered} comes from another source (lineage) than {current}; if that is meant, run `ringway adopt {:016x}`",
        .offered.lineage
    )]
    OtherLineage {
        /// What is served.
        current: Version,
        /// What was offered.
        offered: Version,
    },
    /// It would take the configuration back.
    #[error("version {offered} is older than {current}, which is being served: {}", went_back(.current, .offered))]
    Older {
        /// What is served.
        current: Version,
        /// What was offered.
        offered: Version,
    },
    /// The same number for another content.
    #[error(
        "version {offered} has digest {} where this data plane has {}: two sources wrote the same revision; stop \
         the wrong one, and change an object in the right one, which takes a higher revision",
        .offered.digest, .current.digest
    )]
    Diverged {
        /// What is served.
        current: Version,
        /// What was offered.
        offered: Version,
    },
}

/// Why a source may offer what is older, and what to do about it.
fn went_back(current: &Version, offered: &Version) -> String {
    if offered.timeline < current.timeline {
        return "it comes from a primary that a promoted standby has replaced, or from a late standby; stop that server, or \
                take it out of the database URL"
            .to_owned();
    }
    format!(
        "the source went back, as a restored backup does, or it is a late standby; if it is meant, run there \
         UPDATE ringway.head SET revision = {}",
        current.revision.saturating_add(1)
    )
}

/// Order-independent 128-bit hash of a set of objects: the wrapping sum of their hashes, so that adding or
/// removing one object updates it without reading the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Digest(pub u128);

impl Digest {
    /// Hash of one object: kind, id and canonical JSON (see [`crate::json::canonical`]).
    pub fn of_object(kind: Kind, id: &str, canonical_json: &str) -> Digest {
        let mut bytes = Vec::with_capacity(kind.name().len() + id.len() + canonical_json.len() + 2);
        bytes.extend_from_slice(kind.name().as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(id.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(canonical_json.as_bytes());
        Digest(xxh3_128(&bytes))
    }

    /// The digest of the set with one object more.
    #[must_use]
    pub fn with(self, object: Digest) -> Digest {
        Digest(self.0.wrapping_add(object.0))
    }

    /// The digest of the set with one object less.
    #[must_use]
    pub fn without(self, object: Digest) -> Digest {
        Digest(self.0.wrapping_sub(object.0))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Digest {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(lineage: u64, timeline: u32, revision: u64, digest: u128) -> Version {
        Version { lineage, timeline, revision, digest: Digest(digest) }
    }

    #[test]
    fn a_promoted_standby_that_lost_commits_replaces_the_newer_revision_of_the_old_timeline() {
        let before = version(7, 1, 105, 1);
        let promoted = version(7, 2, 104, 2);
        assert_eq!(before.admit(&promoted), Ok(Admission::Newer));
        assert!(matches!(promoted.admit(&before), Err(Refusal::Older { .. })));
    }

    #[test]
    fn equal_numbers_with_other_contents_are_a_divergence() {
        let here = version(7, 1, 5, 1);
        assert_eq!(here.admit(&here), Ok(Admission::Same));
        assert!(matches!(here.admit(&version(7, 1, 5, 2)), Err(Refusal::Diverged { .. })));
        assert!(matches!(here.admit(&version(8, 9, 9, 1)), Err(Refusal::OtherLineage { .. })));
    }

    #[test]
    fn the_digest_does_not_depend_on_order_and_forgets_what_is_removed() {
        let a = Digest::of_object(Kind::Route, "1", "{}");
        let b = Digest::of_object(Kind::Service, "1", "{}");
        assert_ne!(a, b);
        assert_eq!(Digest::default().with(a).with(b), Digest::default().with(b).with(a));
        assert_eq!(Digest::default().with(a).with(b).without(a), Digest::default().with(b));
        assert_eq!(a.to_string().parse::<Digest>(), Ok(a));
    }

    #[test]
    fn the_last_of_any_interleaving_of_two_timelines_is_the_highest() {
        use proptest::prelude::*;
        proptest!(|(offers in proptest::collection::vec((1u32..3, 1u64..20), 1..60))| {
            let mut served = version(7, 0, 0, 0);
            for (timeline, revision) in &offers {
                let offered = version(7, *timeline, *revision, u128::from(*timeline) << 64 | u128::from(*revision));
                let before = served.order();
                if matches!(served.admit(&offered), Ok(Admission::Newer)) {
                    served = offered;
                }
                prop_assert!(served.order() >= before);
            }
            prop_assert_eq!(Some(served.order()), offers.iter().copied().max());
        });
    }
}
