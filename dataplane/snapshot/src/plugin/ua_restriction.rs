//! `ua-restriction`: which programs may ask, by what they call themselves.

use serde::Deserialize;
use serde_json::Value;

use super::{About, Wrong, either, typed};
use crate::pattern::Pattern;

/// See [`About`].
pub const ABOUT: About = About { name: "ua-restriction", priority: 2999, schema: SCHEMA, upstreams: false };

const SCHEMA: &str = r#"{"type": "object", "properties": {
  "bypass_missing": {"type": "boolean", "default": false},
  "allowlist": {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
  "denylist": {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
  "message": {"type": "string", "minLength": 1, "maxLength": 1024, "default": "Not allowed"}},
 "oneOf": [{"required": ["allowlist"]}, {"required": ["denylist"]}]}"#;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct UaRestriction {
    /// One of these occurs in the field User-Agent.
    pub patterns: Box<[Pattern]>,
    /// Whether who fits may ask, or may not.
    pub allows: bool,
    /// Whether a request without the field may.
    pub bypasses_missing: bool,
    /// What the others are told.
    pub refusal: Box<str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default)]
    bypass_missing: bool,
    allowlist: Option<Vec<String>>,
    denylist: Option<Vec<String>>,
    message: Option<String>,
}

impl UaRestriction {
    pub(super) fn read(conf: Value) -> Result<UaRestriction, Wrong> {
        let fields: Fields = typed(conf)?;
        let lists = [("/allowlist", fields.allowlist), ("/denylist", fields.denylist)];
        let (list, place, allows) = either(lists)?;
        let compile = |(index, text): (usize, &String)| {
            Pattern::new(text, false).map_err(|reason| (format!("{place}/{index}"), reason))
        };
        Ok(UaRestriction {
            patterns: list.iter().enumerate().map(compile).collect::<Result<_, _>>()?,
            allows,
            bypasses_missing: fields.bypass_missing,
            refusal: super::message(fields.message.as_deref().unwrap_or("Not allowed")),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        assert!(UaRestriction::read(json!({"allowlist": ["curl", "(?i)wget"]})).unwrap().allows);
        for (conf, place) in [
            (json!({}), ""),
            (json!({"allowlist": ["a"], "denylist": ["b"]}), ""),
            (json!({"denylist": []}), "/denylist"),
            (json!({"denylist": ["a", "("]}), "/denylist/1"),
        ] {
            assert_eq!(UaRestriction::read(conf.clone()).unwrap_err().0, place, "{conf}");
        }
    }
}
