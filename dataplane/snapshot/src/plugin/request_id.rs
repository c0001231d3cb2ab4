//! `request-id`: a name for each request, for the node and the client.
//!
//! Refused: a field's name or a set of characters that could not be sent.

use serde::Deserialize;
use serde_json::Value;

use super::{About, Wrong, at, typed};
use crate::limits::RANGE_ID_BYTES_MAX;

/// See [`About`].
pub const ABOUT: About = About { name: "request-id", priority: 12015, schema: SCHEMA, upstreams: false };

const SCHEMA: &str = r#"{"type": "object", "properties": {
  "header_name": {"type": "string", "default": "X-Request-Id"},
  "include_in_response": {"type": "boolean", "default": true},
  "algorithm": {"type": "string", "enum": ["uuid", "nanoid", "range_id", "ksuid", "uuidv7"], "default": "uuid"},
  "range_id": {"type": "object", "properties": {
    "length": {"type": "integer", "minimum": 6, "default": 16},
    "char_set": {"type": "string", "minLength": 6, "default": "abcdefghijklmnopqrstuvwxyzABCDEFGHIGKLMNOPQRSTUVWXYZ0123456789"}}}}}"#;

const CHARACTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

const NANOID_CHARACTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
const NANOID_BYTES: usize = 21;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestId {
    /// The field that has it.
    pub field: Box<str>,
    /// Whether the client gets it too.
    pub in_answer: bool,
    /// How one is made.
    pub form: Form,
}

/// How a name is made.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// RFC 9562 section 5.4.
    Uuid,
    /// RFC 9562 section 5.7: begins with the time.
    UuidV7,
    /// 27 digits of base 62: the time, and 16 random bytes.
    Ksuid,
    /// So many of these characters.
    Range(usize, Box<[u8]>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    header_name: Option<Box<str>>,
    include_in_response: Option<bool>,
    algorithm: Option<String>,
    range_id: Option<RangeFields>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RangeFields {
    length: Option<usize>,
    char_set: Option<String>,
}

impl RequestId {
    pub(super) fn read(conf: Value) -> Result<RequestId, Wrong> {
        let fields: Fields = typed(conf)?;
        let field = fields.header_name.unwrap_or_else(|| "X-Request-Id".into());
        super::headers::check_name(&field).map_err(|reason| at("/header_name", reason))?;
        let form = match fields.algorithm.as_deref().unwrap_or("uuid") {
            "uuid" => Form::Uuid,
            "uuidv7" => Form::UuidV7,
            "ksuid" => Form::Ksuid,
            "nanoid" => Form::Range(NANOID_BYTES, NANOID_CHARACTERS.as_bytes().into()),
            "range_id" => range(fields.range_id)?,
            other => {
                let reason = format!("{other:?} is none of uuid, uuidv7, nanoid, ksuid, range_id");
                return Err(at("/algorithm", reason));
            }
        };
        Ok(RequestId { field, in_answer: fields.include_in_response.unwrap_or(true), form })
    }
}

fn range(fields: Option<RangeFields>) -> Result<Form, Wrong> {
    let (length, set) = fields.map_or((None, None), |fields| (fields.length, fields.char_set));
    let (length, set) = (length.unwrap_or(16), set.unwrap_or_else(|| CHARACTERS.to_owned()));
    if !(6..=RANGE_ID_BYTES_MAX).contains(&length) {
        return Err(at("/range_id/length", format!("must be 6 to {RANGE_ID_BYTES_MAX}")));
    }
    if !(6..=256).contains(&set.len()) || !set.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(at("/range_id/char_set", "needs 6 to 256 visible ASCII characters"));
    }
    Ok(Form::Range(length, set.into_bytes().into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_are_those_of_apisix_and_what_is_wrong_is_told_with_its_place() {
        let read = RequestId::read(json!({})).unwrap();
        assert_eq!((&*read.field, read.in_answer, read.form), ("X-Request-Id", true, Form::Uuid));
        assert!(RequestId::read(json!({"algorithm": "range_id", "range_id": {"length": 8}})).is_ok());
        for algorithm in ["uuidv7", "nanoid", "ksuid"] {
            assert!(RequestId::read(json!({"algorithm": algorithm})).is_ok(), "{algorithm}");
        }
        for (conf, place) in [
            (json!({"algorithm": "snowflake"}), "/algorithm"),
            (json!({"header_name": "a b"}), "/header_name"),
            (json!({"algorithm": "range_id", "range_id": {"length": 5}}), "/range_id/length"),
            (json!({"algorithm": "range_id", "range_id": {"char_set": "abc"}}), "/range_id/char_set"),
        ] {
            assert_eq!(RequestId::read(conf.clone()).unwrap_err().0, place, "{conf}");
        }
    }
}
