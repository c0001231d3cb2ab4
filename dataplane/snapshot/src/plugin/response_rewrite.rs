//! `response-rewrite`: another status, other fields or another body for the client than those of the answer.
//!
//! Refused by name: `filters`, which would hold whole bodies in memory.

use serde::Deserialize;
use serde_json::Value;

use super::headers::Headers;
use super::{About, Wrong, at, typed, vars};
use crate::expression::Expression;
use crate::limits::EXPRESSION_TESTS_MAX;

/// See [`About`].
pub const ABOUT: About = About { name: "response-rewrite", priority: 899, schema: SCHEMA, upstreams: false };

const SCHEMA: &str = r#"{"type": "object", "properties": {
  "headers": {"description": "new headers for response", "type": "object"},
  "body": {"description": "new body for response", "type": "string"},
  "body_base64": {"description": "whether new body for response need base64 decode before return", "type": "boolean",
    "default": false},
  "status_code": {"description": "new status code for response", "type": "integer", "minimum": 200, "maximum": 598},
  "vars": {"type": "array"}}}"#;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseRewrite {
    /// Another status.
    pub status: Option<u16>,
    /// Another body.
    pub body: Option<Box<[u8]>>,
    /// Other fields.
    pub headers: Headers,
    /// It acts only where this holds.
    pub vars: Option<Expression>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    headers: Option<Value>,
    body: Option<String>,
    #[serde(default)]
    body_base64: bool,
    status_code: Option<u16>,
    vars: Option<Value>,
    filters: Option<Value>,
}

impl ResponseRewrite {
    pub(super) fn read(conf: Value) -> Result<ResponseRewrite, Wrong> {
        let fields: Fields = typed(conf)?;
        if fields.filters.is_some() {
            return Err(at("/filters", "is not supported by this release; remove the field"));
        }
        if fields.status_code.is_some_and(|status| !(200..=598).contains(&status)) {
            return Err(at("/status_code", "must be 200 to 598"));
        }
        let body = match (fields.body, fields.body_base64) {
            (Some(body), true) => {
                let decoded = base64(body.as_bytes()).filter(|decoded| !decoded.is_empty());
                Some(decoded.ok_or_else(|| at("/body", "invalid base64 content"))?)
            }
            (None, true) => return Err(at("/body", "is needed with \"body_base64\"")),
            (body, false) => body.map(String::into_bytes),
        };
        let mut tests_left = EXPRESSION_TESTS_MAX;
        Ok(ResponseRewrite {
            status: fields.status_code,
            body: body.map(Vec::into_boxed_slice),
            headers: Headers::read(fields.headers, false)?,
            vars: vars("/vars", fields.vars.as_ref(), &mut tests_left)?,
        })
    }
}

/// RFC 4648 section 4.
pub(super) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    if digits.len() % 4 == 1 || (digits.len() != text.len() && !text.len().is_multiple_of(4)) {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    let (mut bits, mut held) = (0u32, 0u32);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0x3fff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bodies_are_decoded_and_what_is_wrong_is_told_with_its_place() {
        for (text, bytes) in
            [("aGVsbG8=", "hello"), ("aGVsbG8", "hello"), ("aGk=", "hi"), ("Zm9vYmFy", "foobar")]
        {
            let rewrite = ResponseRewrite::read(json!({"body": text, "body_base64": true})).unwrap();
            assert_eq!(rewrite.body.as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        for (conf, place) in [
            (json!({"body": "a", "body_base64": true}), "/body"),
            (json!({"body": "a_b=", "body_base64": true}), "/body"),
            (json!({"body_base64": true}), "/body"),
            (json!({"status_code": 199}), "/status_code"),
            (json!({"status_code": 599}), "/status_code"),
            (json!({"filters": []}), "/filters"),
            (json!({"headers": {"a": {}}}), "/headers/a"),
            (json!({"vars": [["status", "?", 1]]}), "/vars/0/1"),
        ] {
            assert_eq!(ResponseRewrite::read(conf.clone()).unwrap_err().0, place, "{conf}");
        }
    }
}
