//! `consumer-restriction`: which consumers may ask, or where a consumer may.

use std::collections::HashSet;

use foldhash::fast::FixedState;
use serde::Deserialize;
use serde_json::Value;

use super::{About, Wrong, at, typed};
use crate::limits::RESTRICTIONS_MAX;
use crate::model::Method;

/// See [`About`].
pub const ABOUT: About =
    About { name: "consumer-restriction", priority: 2400, schema: SCHEMA, upstreams: false };

const SCHEMA: &str = r#"{"type": "object", "properties": {
  "type": {"type": "string", "enum": ["consumer_name", "service_id", "route_id", "consumer_group_id"], "default": "consumer_name"},
  "blacklist": {"type": "array", "minItems": 1, "items": {"type": "string"}},
  "whitelist": {"type": "array", "minItems": 1, "items": {"type": "string"}},
  "allowed_by_methods": {"type": "array", "items": {"type": "object", "properties": {
    "user": {"type": "string"},
    "methods": {"type": "array", "minItems": 1, "items": {"type": "string"}}}}},
  "rejected_code": {"type": "integer", "minimum": 200, "default": 403},
  "rejected_msg": {"type": "string"}},
 "anyOf": [{"required": ["blacklist"]}, {"required": ["whitelist"]}, {"required": ["allowed_by_methods"]}]}"#;

/// Names that are looked up.
pub type Names = HashSet<Box<str>, FixedState>;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerRestriction {
    /// What is looked at.
    pub subject: Subject,
    /// Who may not; this comes first.
    pub denied: Option<Names>,
    /// Who may, whatever the method.
    pub allowed: Option<Names>,
    /// Who may with which methods; of several about one only the first counts.
    pub by_methods: Box<[ByMethods]>,
    /// With what the others are refused.
    pub status: u16,
    /// And with what body.
    pub refusal: Box<str>,
    /// What those get who have nothing to look at.
    pub unknown: Box<str>,
}

/// What of a request is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// Its consumer.
    #[default]
    ConsumerName,
    /// Its route's service.
    ServiceId,
    /// Its route.
    RouteId,
    /// Its consumer's group.
    ConsumerGroupId,
}

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Subject::ConsumerName => "consumer_name",
            Subject::ServiceId => "service_id",
            Subject::RouteId => "route_id",
            Subject::ConsumerGroupId => "consumer_group_id",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default, rename = "type")]
    subject: Subject,
    blacklist: Option<Vec<Box<str>>>,
    whitelist: Option<Vec<Box<str>>>,
    allowed_by_methods: Option<Vec<ByMethods>>,
    rejected_code: Option<u16>,
    rejected_msg: Option<String>,
}

/// The methods that one may use.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByMethods {
    /// Who, or what: as the subject says.
    pub user: Box<str>,
    /// With which methods.
    pub methods: Box<[Method]>,
}

impl ConsumerRestriction {
    pub(super) fn read(conf: Value) -> Result<ConsumerRestriction, Wrong> {
        let fields: Fields = typed(conf)?;
        if fields.blacklist.is_none() && fields.whitelist.is_none() && fields.allowed_by_methods.is_none() {
            return Err(at(
                "",
                "object matches none of the required: [\"blacklist\"] or [\"whitelist\"] or [\"allowed_by_methods\"]",
            ));
        }
        let status = fields.rejected_code.unwrap_or(403);
        if !(200..=599).contains(&status) {
            return Err(at("/rejected_code", "must be 200 to 599"));
        }
        let by_methods = fields.allowed_by_methods.unwrap_or_default();
        if by_methods.len() > RESTRICTIONS_MAX {
            return Err(at("/allowed_by_methods", format!("has more than {RESTRICTIONS_MAX} entries")));
        }
        if let Some(index) = by_methods.iter().position(|entry| entry.methods.is_empty()) {
            return Err(at(&format!("/allowed_by_methods/{index}/methods"), "is empty"));
        }
        let name = fields.subject.name();
        let refusal = fields.rejected_msg.unwrap_or_else(|| format!("The {name} is forbidden."));
        Ok(ConsumerRestriction {
            subject: fields.subject,
            denied: names("/blacklist", fields.blacklist)?,
            allowed: names("/whitelist", fields.whitelist)?,
            by_methods: by_methods.into(),
            status,
            refusal: super::message(&refusal),
            unknown: super::message(&format!(
                "The request is rejected, please check the {name} for this request"
            )),
        })
    }
}

fn names(place: &str, list: Option<Vec<Box<str>>>) -> Result<Option<Names>, Wrong> {
    match list {
        Some(list) if list.is_empty() || list.len() > RESTRICTIONS_MAX => {
            Err(at(place, format!("needs 1 to {RESTRICTIONS_MAX} entries")))
        }
        list => Ok(list.map(|list| list.into_iter().collect())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_are_those_of_apisix_and_what_is_wrong_is_told_with_its_place() {
        let read = ConsumerRestriction::read(json!({"whitelist": ["a"]})).unwrap();
        assert_eq!((read.subject, read.status), (Subject::ConsumerName, 403));
        assert_eq!(&*read.refusal, "{\"message\":\"The consumer_name is forbidden.\"}\n");
        for (conf, place) in [
            (json!({}), ""),
            (json!({"whitelist": []}), "/whitelist"),
            (json!({"blacklist": []}), "/blacklist"),
            (json!({"whitelist": ["a"], "type": "host"}), "/type"),
            (json!({"whitelist": ["a"], "rejected_code": 100}), "/rejected_code"),
            (json!({"allowed_by_methods": [{"user": "a", "methods": []}]}), "/allowed_by_methods/0/methods"),
            (
                json!({"allowed_by_methods": [{"user": "a", "methods": ["get"]}]}),
                "/allowed_by_methods/0/methods/0",
            ),
        ] {
            assert_eq!(ConsumerRestriction::read(conf.clone()).unwrap_err().0, place, "{conf}");
        }
    }
}
