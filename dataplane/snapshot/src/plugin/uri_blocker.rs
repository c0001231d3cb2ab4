//! `uri-blocker`: which paths and queries nobody may ask for.

use serde::Deserialize;
use serde_json::Value;

use super::{About, Wrong, at, typed};
use crate::limits::RESTRICTIONS_MAX;
use crate::pattern::Pattern;

/// See [`About`].
pub const ABOUT: About = About { name: "uri-blocker", priority: 2900, schema: SCHEMA, upstreams: false };

const SCHEMA: &str = r#"{"type": "object", "properties": {
  "block_rules": {"type": "array", "uniqueItems": true, "items": {"type": "string", "minLength": 1, "maxLength": 4096}},
  "rejected_code": {"type": "integer", "minimum": 200, "default": 403},
  "rejected_msg": {"type": "string", "minLength": 1},
  "case_insensitive": {"type": "boolean", "default": false}},
 "required": ["block_rules"]}"#;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct UriBlocker {
    /// One of these occurs in path and query as the client wrote them.
    pub patterns: Box<[Pattern]>,
    /// What such a request is answered with.
    pub status: u16,
    /// What it is told; empty: nothing.
    pub refusal: Box<str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    block_rules: Option<Vec<String>>,
    rejected_code: Option<u16>,
    rejected_msg: Option<String>,
    #[serde(default)]
    case_insensitive: bool,
}

impl UriBlocker {
    pub(super) fn read(conf: Value) -> Result<UriBlocker, Wrong> {
        let fields: Fields = typed(conf)?;
        let rules = fields.block_rules.ok_or_else(|| at("/block_rules", "is required"))?;
        if rules.len() > RESTRICTIONS_MAX {
            return Err(at("/block_rules", format!("has more than {RESTRICTIONS_MAX} rules")));
        }
        let compile = |(index, text): (usize, &String)| {
            Pattern::new(text, fields.case_insensitive)
                .map_err(|reason| (format!("/block_rules/{index}"), reason))
        };
        let status = fields.rejected_code.unwrap_or(403);
        if !(200..=599).contains(&status) {
            return Err(at("/rejected_code", "must be 200 to 599"));
        }
        let refusal = fields.rejected_msg.map(|text| format!("{}\n", serde_json::json!({ "error_msg": text })));
        Ok(UriBlocker {
            patterns: rules.iter().enumerate().map(compile).collect::<Result<_, _>>()?,
            status,
            refusal: refusal.unwrap_or_default().into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let read = UriBlocker::read(json!({"block_rules": ["a", "b"], "rejected_msg": "no"})).unwrap();
        assert_eq!((read.status, &*read.refusal), (403, "{\"error_msg\":\"no\"}\n"));
        for (conf, place) in [
            (json!({}), "/block_rules"),
            (json!({"block_rules": ["a", "b("]}), "/block_rules/1"),
            (json!({"block_rules": ["a"], "rejected_code": 199}), "/rejected_code"),
        ] {
            assert_eq!(UriBlocker::read(conf.clone()).unwrap_err().0, place, "{conf}");
        }
    }
}
