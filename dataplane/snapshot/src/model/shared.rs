//! How shared objects are read: straight into their allocation.
//!
//! serde reads an `Arc` by way of a `Box`, which for every object of a configuration is one allocation, one copy and one release more.

use std::sync::Arc;

use serde::{Deserialize, Deserializer};

/// Reads a value that is there.
pub(super) fn one<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Arc<T>, D::Error> {
    T::deserialize(deserializer).map(Arc::new)
}

/// Reads a value that may be missing.
pub(super) fn option<'de, T, D>(deserializer: D) -> Result<Option<Arc<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::<Shared<T>>::deserialize(deserializer).map(|shared| shared.map(|shared| shared.0))
}

struct Shared<T>(Arc<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        one(deserializer).map(Shared)
    }
}
