//! `ip-restriction`: which client addresses may ask.

use serde::Deserialize;
use serde_json::Value;

use super::{About, Wrong, at, only_list, typed};
use crate::cidr::Cidr;

/// See [`About`].
pub const ABOUT: About = About { name: "ip-restriction", priority: 3000, schema: SCHEMA, upstreams: false };

const SCHEMA: &str = r#"{"type": "object", "properties": {
  "message": {"type": "string", "minLength": 1, "maxLength": 1024, "default": "Your IP address is not allowed"},
  "response_code": {"type": "integer", "minimum": 403, "maximum": 404, "default": 403},
  "whitelist": {"type": "array", "minItems": 1},
  "blacklist": {"type": "array", "minItems": 1}},
 "oneOf": [{"required": ["whitelist"]}, {"required": ["blacklist"]}]}"#;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct IpRestriction {
    /// Who is named.
    pub blocks: Box<[Cidr]>,
    /// Whether who is named may ask, or may not.
    pub allows: bool,
    /// What the others are told.
    pub refusal: Box<str>,
    /// With that status.
    pub status: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    whitelist: Option<Vec<String>>,
    blacklist: Option<Vec<String>>,
    message: Option<String>,
    response_code: Option<u16>,
}

impl IpRestriction {
    pub(super) fn read(conf: Value) -> Result<IpRestriction, Wrong> {
        let fields: Fields = typed(conf)?;
        let (list, field, allows) = only_list(fields.whitelist, fields.blacklist)?;
        let block = |(index, text): (usize, &String)| {
            text.parse().map_err(|_| (format!("{field}/{index}"), format!("invalid ip address: {text}")))
        };
        let status = fields.response_code.unwrap_or(403);
        if !(403..=404).contains(&status) {
            return Err(at("/response_code", "must be 403 or 404"));
        }
        let message = fields.message.as_deref().unwrap_or("Your IP address is not allowed");
        Ok(IpRestriction {
            blocks: list.iter().enumerate().map(block).collect::<Result<_, _>>()?,
            allows,
            refusal: super::message(message),
            status,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        assert!(IpRestriction::read(json!({"whitelist": ["10.0.0.0/8", "::1"]})).is_ok());
        for (conf, place) in [
            (json!({}), ""),
            (json!({"whitelist": ["::1"], "blacklist": ["::1"]}), ""),
            (json!({"whitelist": []}), "/whitelist"),
            (json!({"blacklist": ["::1", "10.0.0.0/33"]}), "/blacklist/1"),
            (json!({"blacklist": ["::1"], "response_code": 500}), "/response_code"),
        ] {
            assert_eq!(IpRestriction::read(conf.clone()).unwrap_err().0, place, "{conf}");
        }
    }
}
