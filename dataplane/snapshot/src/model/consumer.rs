//! Who may call: consumers, their credentials, and what several consumers share.
//!
//! Which consumer a credential belongs to stands in its id: `jack/credentials/7`.

use serde::{Deserialize, Serialize};

use super::{Id, Labels, Plugins, id};

/// What stands between a consumer's name and a credential's own id.
const BETWEEN: &str = "/credentials/";

/// Who may call.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Consumer {
    /// Its name, which is its id too; where none is given, the id counts.
    pub username: Option<Box<str>>,
    /// Description for people.
    pub desc: Option<Box<str>>,
    /// Free pairs. `custom_id` is told to nodes.
    pub labels: Labels,
    /// How it shows who it is, and plugins of its requests.
    pub plugins: Plugins,
    /// The group that it belongs to.
    #[serde(deserialize_with = "id::option")]
    pub group_id: Option<Id>,
    /// Seconds since 1970, written by tools.
    pub create_time: Option<i64>,
    /// Seconds since 1970, written by tools.
    pub update_time: Option<i64>,
}

/// One more way in which a consumer shows who it is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Credential {
    /// Name for people.
    pub name: Option<Box<str>>,
    /// Description for people.
    pub desc: Option<Box<str>>,
    /// Free pairs.
    pub labels: Labels,
    /// One plugin that tells consumers apart.
    pub plugins: Plugins,
    /// Seconds since 1970, written by tools.
    pub create_time: Option<i64>,
    /// Seconds since 1970, written by tools.
    pub update_time: Option<i64>,
}

/// What several consumers share.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConsumerGroup {
    /// Name for people.
    pub name: Option<Box<str>>,
    /// Description for people.
    pub desc: Option<Box<str>>,
    /// Free pairs.
    pub labels: Labels,
    /// Plugins of its consumers' requests.
    pub plugins: Plugins,
    /// Seconds since 1970, written by tools.
    pub create_time: Option<i64>,
    /// Seconds since 1970, written by tools.
    pub update_time: Option<i64>,
}

/// A credential's consumer and its own id there.
pub fn credential(id: &str) -> Option<(&str, &str)> {
    id.split_once(BETWEEN)
}
