//! `response-rewrite`: another status, other fields or another body for the client than those of the answer.
//!
//! `filters` replace texts in the body: for that it is held whole, up to a bound. Refused: filters beside a whole other body.

use serde::Deserialize;
use serde_json::Value;

use super::headers::Headers;
use super::{About, Wrong, at, typed, vars};
use crate::expression::Expression;
use crate::limits::{EXPRESSION_TESTS_MAX, FILTERS_MAX};
use crate::replacement::{Options, Replacement};

/// See [`About`].
pub const ABOUT: About = About { name: "response-rewrite", priority: 899, schema: SCHEMA, upstreams: false };

const SCHEMA: &str = r#"{"type": "object", "properties": {
  "headers": {"description": "new headers for response", "type": "object"},
  "body": {"description": "new body for response", "type": "string"},
  "body_base64": {"description": "whether new body for response need base64 decode before return", "type": "boolean",
    "default": false},
  "status_code": {"description": "new status code for response", "type": "integer", "minimum": 200, "maximum": 598},
  "filters": {"description": "a group of filters that modify response body by replacing one specified string by another", "type": "array",
    "minItems": 1, "items": {"description": "filter that modifies response body", "type": "object", "required": ["regex", "replace"],
      "properties": {
        "regex": {"description": "match pattern on response body", "type": "string", "minLength": 1},
        "scope": {"description": "regex substitution range", "type": "string", "enum": ["once", "global"], "default": "once"},
        "replace": {"description": "regex substitution content", "type": "string"},
        "options": {"description": "regex options", "type": "string", "default": "jo"}}}},
  "vars": {"type": "array"}}}"#;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseRewrite {
    /// Another status.
    pub status: Option<u16>,
    /// Another body.
    pub body: Option<Box<[u8]>>,
    /// What is replaced in the body, one after the other.
    pub filters: Box<[Replacement]>,
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
    filters: Option<Vec<Filter>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    regex: String,
    #[serde(default)]
    scope: Scope,
    replace: String,
    options: Option<String>,
}

#[derive(Deserialize, Default, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Scope {
    #[default]
    Once,
    Global,
}

impl ResponseRewrite {
    pub(super) fn read(conf: Value) -> Result<ResponseRewrite, Wrong> {
        let fields: Fields = typed(conf)?;
        let filters = filters(fields.filters)?;
        if !filters.is_empty() && fields.body.is_some() {
            return Err(at("/filters", "have nothing to do where \"body\" replaces the body; remove one of the two"));
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
            filters,
            headers: Headers::read(fields.headers, false)?,
            vars: vars("/vars", fields.vars.as_ref(), &mut tests_left)?,
        })
    }
}

fn filters(given: Option<Vec<Filter>>) -> Result<Box<[Replacement]>, Wrong> {
    let Some(given) = given else { return Ok(Box::default()) };
    if !(1..=FILTERS_MAX).contains(&given.len()) {
        return Err(at("/filters", format!("must have 1 to {FILTERS_MAX} filters")));
    }
    let read = |(index, filter): (usize, Filter)| {
        let wrong = |field: &str, reason: String| (format!("/filters/{index}/{field}"), reason);
        if filter.regex.is_empty() {
            return Err(wrong("regex", "is empty".to_owned()));
        }
        let options = Options::read(filter.options.as_deref().unwrap_or_default());
        let options = options.map_err(|reason| wrong("options", reason))?;
        Replacement::new(&filter.regex, options, &filter.replace, filter.scope == Scope::Global)
            .map_err(|reason| wrong("regex", reason))
    };
    given.into_iter().enumerate().map(read).collect()
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
            (json!({"filters": [{"regex": "a", "replace": "b"}], "body": "c"}), "/filters"),
            (json!({"filters": [{"regex": "a"}]}), "/filters/0"),
            (json!({"filters": [{"regex": "a", "replace": "b", "scope": "all"}]}), "/filters/0/scope"),
            (json!({"filters": [{"regex": "a", "replace": ""}, {"regex": "(", "replace": "b"}]}), "/filters/1/regex"),
            (json!({"filters": [{"regex": "a", "replace": "b", "options": "U"}]}), "/filters/0/options"),
            (json!({"headers": {"a": {}}}), "/headers/a"),
            (json!({"vars": [["status", "?", 1]]}), "/vars/0/1"),
        ] {
            assert_eq!(ResponseRewrite::read(conf.clone()).unwrap_err().0, place, "{conf}");
        }
    }
}
