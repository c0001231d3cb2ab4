//! JSON as the digest and the wire see it.
//!
//! [`Json`] keeps a free-form value (`vars`, plugin configuration, labels' metadata) as canonical text, because
//! postcard is not self-describing. Canonical: object keys sorted bytewise, no white space, numbers as serde_json prints them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use serde_json::Value;

use crate::limits::JSON_DEPTH_MAX;

/// The canonical text of a value. serde_json's maps are sorted here, so that printing is enough.
pub fn canonical(value: &Value) -> String {
    value.to_string()
}

/// How deep a value nests; a scalar is 1.
pub fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 1,
    }
}

/// A free-form JSON value as its canonical text; a plain value in JSON, a string in postcard.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Box<str>);

impl Json {
    /// The canonical text.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The value again. Text that came from a frame was checked when it was decoded.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or(Value::Null)
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        Json(canonical(value).into_boxed_str())
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            let value: Value = serde_json::from_str(&self.0).map_err(S::Error::custom)?;
            value.serialize(serializer)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = if deserializer.is_human_readable() {
            Value::deserialize(deserializer)?
        } else {
            let text = Box::<str>::deserialize(deserializer)?;
            serde_json::from_str(&text).map_err(D::Error::custom)?
        };
        if depth(&value) > JSON_DEPTH_MAX {
            return Err(D::Error::custom(format_args!("nests deeper than {JSON_DEPTH_MAX} levels")));
        }
        Ok(Json::from(&value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text_does_not_depend_on_the_order_of_keys() {
        let a: Value = serde_json::from_str(r#"{"b": [1, {"y":1,"x":2}], "a": 1.50}"#).unwrap();
        let b: Value = serde_json::from_str(r#"{"a":1.5,"b":[1,{"x":2,"y":1}]}"#).unwrap();
        assert_eq!(canonical(&a), canonical(&b));
        assert_eq!(canonical(&a), r#"{"a":1.5,"b":[1,{"x":2,"y":1}]}"#);
    }

    #[test]
    fn a_free_value_goes_through_json_and_postcard() {
        let json: Json = serde_json::from_str(r#"{"k": [true, null]}"#).unwrap();
        assert_eq!(serde_json::to_string(&json).unwrap(), r#"{"k":[true,null]}"#);
        let bytes = postcard::to_stdvec(&json).unwrap();
        assert_eq!(postcard::from_bytes::<Json>(&bytes).unwrap(), json);
    }

    #[test]
    fn a_value_that_nests_too_deep_is_refused() {
        let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
        assert!(serde_json::from_str::<Json>(&deep).is_err());
    }
}
