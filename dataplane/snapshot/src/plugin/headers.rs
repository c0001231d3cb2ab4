//! How plugins change the fields of a head: `{"add": ..., "set": ..., "remove": [...]}`, or `{name: value}`, which sets.
//!
//! Names have to be tokens and values to have no line ends, so that no head can be split by what a configuration says.

use serde::Deserialize;
use serde_json::Value;

use super::{Scalar, Wrong, at, typed};
use crate::template::Template;

/// See the module.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Headers {
    /// Beside what is there.
    pub add: Fields,
    /// In place of what is there.
    pub set: Fields,
    /// Taken away.
    pub remove: Box<[Box<str>]>,
}

/// Names and values.
pub type Fields = Box<[(Box<str>, Template)]>;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Parts {
    add: Option<Value>,
    set: Option<Value>,
    remove: Vec<Box<str>>,
}

impl Headers {
    /// Reads the field `headers`. `groups` are known where a pattern stands beside it.
    pub(super) fn read(value: Option<Value>, groups: bool) -> Result<Headers, Wrong> {
        let below = |(place, reason): Wrong| (format!("/headers{place}"), reason);
        let Some(value) = value else { return Ok(Headers::default()) };
        let Value::Object(fields) = &value else { return Err(at("/headers", "must be an object")) };
        let parts = |key: &String| matches!(key.as_str(), "add" | "set" | "remove");
        let is_parts = fields
            .iter()
            .any(|(key, value)| parts(key) && !matches!(value, Value::String(_) | Value::Number(_)));
        if !is_parts {
            let set = pairs(&value, groups).map_err(below)?;
            return Ok(Headers { set, ..Headers::default() });
        }
        let parts: Parts = typed(value).map_err(below)?;
        for (index, name) in parts.remove.iter().enumerate() {
            check_name(name).map_err(|reason| below((format!("/remove/{index}"), reason)))?;
        }
        let list = |field: &str, value: Option<Value>| {
            match value {
                None => Ok(Box::default()),
                Some(value @ Value::Object(_)) => pairs(&value, groups),
                Some(Value::Array(lines)) => split_lines(&lines, groups),
                Some(_) => Err(at("", "must be an object")),
            }
            .map_err(|(place, reason)| below((format!("/{field}{place}"), reason)))
        };
        Ok(Headers {
            add: list("add", parts.add)?,
            set: list("set", parts.set)?,
            remove: parts.remove.into(),
        })
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.set.is_empty() && self.remove.is_empty()
    }
}

fn pairs(value: &Value, groups: bool) -> Result<Fields, Wrong> {
    let fields = value.as_object().into_iter().flatten();
    let pair = |(name, value): (&String, &Value)| {
        let value: Scalar = typed(value.clone()).map_err(|(_, reason)| (format!("/{name}"), reason))?;
        one(name, &value.text(), groups).map_err(|reason| (format!("/{name}"), reason))
    };
    fields.map(pair).collect()
}

/// `"name: value"`, as `response-rewrite` adds.
fn split_lines(lines: &[Value], groups: bool) -> Result<Fields, Wrong> {
    let line = |(index, line): (usize, &Value)| {
        let wrong = |reason: &str| (format!("/{index}"), reason.to_owned());
        let (name, value) = line
            .as_str()
            .and_then(|line| line.split_once(':'))
            .ok_or_else(|| wrong("must be \"name: value\""))?;
        one(name.trim(), value.trim(), groups).map_err(|reason| wrong(&reason))
    };
    lines.iter().enumerate().map(line).collect()
}

fn one(name: &str, value: &str, groups: bool) -> Result<(Box<str>, Template), String> {
    check_name(name)?;
    if value.contains(['\r', '\n', '\0']) {
        return Err("a header's value has no line ends".to_owned());
    }
    Ok((name.into(), Template::read(value, groups)?))
}

/// Whether a text can be a field's value: what ends no line, and is not blank at its ends.
pub(super) fn is_value(text: &str) -> bool {
    !text.bytes().any(|byte| byte.is_ascii_control()) && text.trim_ascii() == text
}

/// RFC 9110 section 5.6.2.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !name.is_empty() && name.bytes().all(is_token) {
        return Ok(());
    }
    Err(format!("{name:?} is not a header's name"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_forms_are_read() {
        let set = Headers::read(Some(json!({"X-A": 1, "X-B": "$host"})), false).unwrap();
        assert_eq!(set.set.len(), 2);
        let parts = json!({"set": {"a": "b"}, "add": ["c: d:e"], "remove": ["f"]});
        let parts = Headers::read(Some(parts), false).unwrap();
        assert_eq!((&*parts.add[0].0, &*parts.remove[0]), ("c", "f"));
        assert_eq!(parts.add[0].1, Template::read("d:e", false).unwrap());
        for (value, place) in [
            (json!({"a b": "c"}), "/headers/a b"),
            (json!({"a": "b\r\nc: d"}), "/headers/a"),
            (json!({"set": {"a": ["b"]}}), "/headers/set/a"),
            (json!({"remove": [""]}), "/headers/remove/0"),
            (json!({"add": ["x"]}), "/headers/add/0"),
            (json!([]), "/headers"),
        ] {
            assert_eq!(Headers::read(Some(value), false).unwrap_err().0, place);
        }
    }
}
