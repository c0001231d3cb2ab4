//! `_meta`: what may be said of any plugin, beside what it is told itself.
//!
//! Lua (`pre_function`) is refused by name.

use serde::Deserialize;
use serde_json::Value;

use super::{Wrong, at, typed};
use crate::expression::Expression;

/// See the module.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Meta {
    /// It does nothing.
    pub disable: bool,
    /// In place of its own.
    pub priority: Option<i32>,
    /// It acts only on requests for which this holds.
    pub filter: Option<Expression>,
    /// In place of its own words, when it refuses a request.
    pub error_response: Option<ErrorResponse>,
}

/// A body for refusals.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorResponse {
    /// The body.
    pub body: Box<str>,
    /// Whether it is JSON.
    pub is_json: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Fields {
    disable: bool,
    priority: Option<i32>,
    filter: Option<Value>,
    error_response: Option<Value>,
    pre_function: Option<Value>,
}

impl Meta {
    pub(super) fn read(meta: Option<Value>) -> Result<Meta, Wrong> {
        let Some(meta) = meta else { return Ok(Meta::default()) };
        let below = |(place, reason): Wrong| (format!("/_meta{place}"), reason);
        let fields: Fields = typed(meta).map_err(below)?;
        if fields.pre_function.is_some() {
            return Err(at(
                "/_meta/pre_function",
                "is Lua, which is not supported by this release; remove the field",
            ));
        }
        let filter = fields.filter.as_ref().map(Expression::read).transpose();
        let filter = filter.map_err(|(place, reason)| below((format!("/filter{place}"), reason)))?;
        let error_response = match fields.error_response {
            None => None,
            Some(Value::String(text)) => Some(ErrorResponse { body: text.into(), is_json: false }),
            Some(value @ Value::Object(_)) => {
                Some(ErrorResponse { body: crate::json::canonical(&value).into(), is_json: true })
            }
            Some(_) => return Err(at("/_meta/error_response", "must be a string or an object")),
        };
        Ok(Meta { disable: fields.disable, priority: fields.priority, filter, error_response })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_read_and_told_where_it_is_wrong() {
        let meta =
            Meta::read(Some(json!({"disable": true, "priority": -3, "error_response": {"message": "no"}})))
                .unwrap();
        assert!(meta.disable && meta.priority == Some(-3));
        assert_eq!(&*meta.error_response.unwrap().body, r#"{"message":"no"}"#);
        for (meta, place) in [
            (json!({"filter": [["arg_a", "x", "x"]]}), "/_meta/filter/0/1"),
            (json!({"pre_function": "x"}), "/_meta/pre_function"),
            (json!({"disabled": true}), "/_meta/disabled"),
            (json!({"error_response": 1}), "/_meta/error_response"),
        ] {
            assert_eq!(Meta::read(Some(meta)).unwrap_err().0, place);
        }
    }
}
