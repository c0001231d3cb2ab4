//! `mocking`: an answer of the plugin's own in place of a node's: one that is given, or one made up by a schema.
//!
//! Refused: XML made up by a schema, and schemas whose answers could have more than so many values.

use serde::Deserialize;
use serde_json::{Value, json};

use super::headers::Headers;
use super::{About, Wrong, at, typed};
use crate::limits::{DELAY_S_MAX, MOCKED_VALUES_MAX};
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
    pub body: Body,
    /// Whether `x-mock-by` tells of it.
    pub with_mock_header: bool,
    /// Other fields.
    pub headers: Headers,
}

/// The body of the answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// It is given.
    Given(Template),
    /// It is made up, as JSON.
    MadeUp(MadeUp),
}

/// A value that is made up; one that stands there as an example is told as it is.
#[derive(Debug, Clone, PartialEq)]
pub enum MadeUp {
    /// As it is.
    Example(Value),
    /// Some letters.
    Text,
    /// A number.
    Number,
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
    /// One to three of these.
    List(Box<MadeUp>),
    /// These.
    Object(Box<[(Box<str>, MadeUp)]>),
}

/// Items of a list that is made up, at most.
const ITEMS_MAX: usize = 3;
/// Letters of a text, at most.
const LETTERS_MAX: u64 = 10;
/// Numbers are below this.
const NUMBER_MAX: u64 = 10_000;

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
        let content_type = fields.content_type.unwrap_or_else(|| "application/json;charset=utf8".into());
        let body = match (fields.response_example, fields.response_schema) {
            (Some(text), _) => {
                Body::Given(Template::read(&text, false).map_err(|reason| at("/response_example", reason))?)
            }
            (None, Some(_)) if content_type.contains("xml") => {
                return Err(at("/response_schema", "makes no XML; give \"response_example\""));
            }
            (None, Some(schema)) => Body::MadeUp(made_up(&schema)?),
            (None, None) => return Err(at("/response_example", "is needed, or \"response_schema\"")),
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
            content_type,
            body,
            with_mock_header: fields.with_mock_header.unwrap_or(true),
            headers: Headers::read(fields.response_headers, false).map_err(below)?,
        })
    }
}

fn made_up(schema: &Value) -> Result<MadeUp, Wrong> {
    let below = |(place, reason): Wrong| (format!("/response_schema{place}"), reason);
    let made = MadeUp::read(schema).map_err(below)?;
    if made.values_max() > MOCKED_VALUES_MAX {
        let reason = format!("could make up more than {MOCKED_VALUES_MAX} values");
        return Err(at("/response_schema", reason));
    }
    Ok(made)
}

impl MadeUp {
    /// Reads the part of JSON schema that APISIX looks at here. How deep it may be is bounded where JSON is read.
    fn read(schema: &Value) -> Result<MadeUp, Wrong> {
        let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
        let example = schema.get("example").filter(|example| match kind.as_str() {
            "string" => example.is_string(),
            "number" => example.is_number(),
            "integer" => example.is_i64() || example.is_u64(),
            "boolean" => example.is_boolean(),
            _ => false,
        });
        if let Some(example) = example {
            return Ok(MadeUp::Example(example.clone()));
        }
        Ok(match kind.as_str() {
            "string" => MadeUp::Text,
            "number" => MadeUp::Number,
            "integer" => MadeUp::Integer,
            "boolean" => MadeUp::Boolean,
            "array" => match schema.get("items") {
                None => MadeUp::Example(Value::Array(Vec::new())),
                Some(items) => {
                    let items = MadeUp::read(items).map_err(|(place, why)| (format!("/items{place}"), why))?;
                    MadeUp::List(Box::new(items))
                }
            },
            "object" => {
                let fields = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
                let read = |(name, schema): (&String, &Value)| {
                    let made = MadeUp::read(schema);
                    let made = made.map_err(|(place, why)| (format!("/properties/{name}{place}"), why))?;
                    Ok((name.as_str().into(), made))
                };
                MadeUp::Object(fields.map(read).collect::<Result<_, Wrong>>()?)
            }
            _ => return Err(at("/type", "must be string, number, integer, boolean, array or object")),
        })
    }

    /// Makes one up. `draw` gives numbers below its argument.
    pub fn value(&self, draw: &mut dyn FnMut(u64) -> u64) -> Value {
        match self {
            MadeUp::Example(value) => value.clone(),
            MadeUp::Text => {
                let length = draw(LETTERS_MAX).saturating_add(1);
                let letter = |_| u8::try_from(draw(26)).map_or('a', |place| char::from(b'a' + place % 26));
                (0..length).map(letter).collect::<String>().into()
            }
            MadeUp::Number => json!(draw(NUMBER_MAX * 100) as f64 / 100.0),
            MadeUp::Integer => json!(draw(NUMBER_MAX)),
            MadeUp::Boolean => json!(draw(2) == 0),
            MadeUp::List(item) => {
                let length = draw(ITEMS_MAX as u64).saturating_add(1);
                (0..length).map(|_| item.value(draw)).collect()
            }
            MadeUp::Object(fields) => {
                fields.iter().map(|(name, made)| (name.to_string(), made.value(draw))).collect()
            }
        }
    }

    fn values_max(&self) -> usize {
        match self {
            MadeUp::List(items) => items.values_max().saturating_mul(ITEMS_MAX).saturating_add(1),
            MadeUp::Object(fields) => {
                fields.iter().fold(1, |sum, (_, made)| sum.saturating_add(made.values_max()))
            }
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        assert!(Mocking::read(json!({"response_example": "a $remote_addr"})).is_ok());
        for (conf, place) in [
            (json!({}), "/response_example"),
            (json!({"response_schema": {}}), "/response_schema/type"),
            (
                json!({"response_schema": {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "x"}}}}}),
                "/response_schema/properties/a/items/type",
            ),
            (json!({"response_schema": {"type": "object"}, "content_type": "text/xml"}), "/response_schema"),
            (json!({"response_example": "", "response_status": 100}), "/response_status"),
            (json!({"response_example": "", "response_headers": {"a b": "c"}}), "/response_headers/a b"),
        ] {
            assert_eq!(Mocking::read(conf.clone()).unwrap_err().0, place, "{conf}");
        }
    }

    #[test]
    fn answers_are_made_up_by_their_schema() {
        let schema = json!({"type": "object", "properties": {
            "a": {"type": "string", "example": "hello"}, "b": {"type": "integer"}, "c": {"type": "boolean", "example": 1},
            "d": {"type": "array", "items": {"type": "string"}}, "e": {"type": "object"}, "f": {"type": "number"}}});
        let Body::MadeUp(made) = Mocking::read(json!({"response_schema": schema})).unwrap().body else {
            panic!("it is made up");
        };
        let made = made.value(&mut |bound| bound - 1);
        let letters = "z".repeat(10);
        let list = [&letters, &letters, &letters];
        let want = json!({"a": "hello", "b": 9_999, "c": false, "d": list, "e": {}, "f": 9_999.99});
        assert_eq!(made, want);
    }

    #[test]
    fn what_could_grow_without_bound_is_refused() {
        let nested = |levels: u32| {
            (0..levels).fold(json!({"type": "integer"}), |inner, _| json!({"type": "array", "items": inner}))
        };
        assert!(Mocking::read(json!({"response_schema": nested(7)})).is_ok());
        assert_eq!(Mocking::read(json!({"response_schema": nested(9)})).unwrap_err().0, "/response_schema");
    }
}
