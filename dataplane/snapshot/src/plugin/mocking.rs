//! `mocking`: an answer of the plugin's own in place of a node's.
//!
//! Refused by name: `response_schema`, which makes answers up.

use serde::Deserialize;
use serde_json::Value;

use super::headers::Headers;
use super::{About, Wrong, at, typed};
use crate::limits::DELAY_S_MAX;
use crate::template::Template;

/// See [`About`].
pub const ABOUT: About = About { name: "mocking", priority: 10900, schema: SCHEMA, upstreams: false };

const SCHEMA: &str = r#"{"type": "object", "properties": {
  "delay": {"type": "integer", "default": 0},
  "response_status": {"type": "integer", "default": 200, "minimum": 100},
  "content_type": {"type": "string", "default": "application/json;charset=utf8"},
  "response_example": {"type": "string"},
  "response_schema": {"type": "object"},
  "with_mock_header": {"type": "boolean", "default": true},
  "response_headers": {"type": "object", "minProperties": 1}},
 "anyOf": [{"required": ["response_example"]}, {"required": ["response_schema"]}]}"#;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Mocking {
    /// How long it is held before.
    pub delay_ms: u64,
    /// The status.
    pub status: u16,
    /// The body's type.
    pub content_type: Box<str>,
    /// The body.
    pub body: Template,
    /// Whether `x-mock-by` tells of it.
    pub with_mock_header: bool,
    /// Other fields.
    pub headers: Headers,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default)]
    delay: u32,
    response_status: Option<u16>,
    content_type: Option<Box<str>>,
    response_example: Option<String>,
    response_schema: Option<Value>,
    with_mock_header: Option<bool>,
    response_headers: Option<Value>,
}

impl Mocking {
    pub(super) fn read(conf: Value) -> Result<Mocking, Wrong> {
        let fields: Fields = typed(conf)?;
        if fields.response_schema.is_some() {
            return Err(at(
                "/response_schema",
                "is not supported by this release; give \"response_example\"",
            ));
        }
        let Some(body) = fields.response_example else {
            return Err(at("/response_example", "is needed"));
        };
        if f64::from(fields.delay) > DELAY_S_MAX {
            return Err(at("/delay", format!("must be at most {DELAY_S_MAX} seconds")));
        }
        let status = fields.response_status.unwrap_or(200);
        if !(200..=599).contains(&status) {
            return Err(at("/response_status", "must be 200 to 599"));
        }
        let below = |(place, reason): Wrong| (place.replacen("/headers", "/response_headers", 1), reason);
        Ok(Mocking {
            delay_ms: u64::from(fields.delay).saturating_mul(1_000),
            status,
            content_type: fields.content_type.unwrap_or_else(|| "application/json;charset=utf8".into()),
            body: Template::read(&body, false).map_err(|reason| at("/response_example", reason))?,
            with_mock_header: fields.with_mock_header.unwrap_or(true),
            headers: Headers::read(fields.response_headers, false).map_err(below)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        assert!(Mocking::read(json!({"response_example": "a $remote_addr"})).is_ok());
        for (conf, place) in [
            (json!({}), "/response_example"),
            (json!({"response_schema": {}}), "/response_schema"),
            (json!({"response_example": "", "response_status": 100}), "/response_status"),
            (json!({"response_example": "", "response_headers": {"a b": "c"}}), "/response_headers/a b"),
        ] {
            assert_eq!(Mocking::read(conf.clone()).unwrap_err().0, place, "{conf}");
        }
    }
}
