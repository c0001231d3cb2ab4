//! `referer-restriction`: from which sites requests may come.

use serde::Deserialize;
use serde_json::Value;

use super::{About, Wrong, only_list, typed};

/// See [`About`].
pub const ABOUT: About =
    About { name: "referer-restriction", priority: 2990, schema: SCHEMA, upstreams: false };

const SCHEMA: &str = r#"{"type": "object", "properties": {
  "bypass_missing": {"type": "boolean", "default": false},
  "whitelist": {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": "^\\*?[0-9a-zA-Z-._]+$"}},
  "blacklist": {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": "^\\*?[0-9a-zA-Z-._]+$"}},
  "message": {"type": "string", "minLength": 1, "maxLength": 1024, "default": "Your referer host is not allowed"}},
 "oneOf": [{"required": ["whitelist"]}, {"required": ["blacklist"]}]}"#;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct RefererRestriction {
    /// Hosts; what begins with `*` stands for all that end in the rest. In lower case.
    pub hosts: Box<[Box<str>]>,
    /// Whether who is named may ask, or may not.
    pub allows: bool,
    /// Whether a request without a usable Referer may.
    pub bypasses_missing: bool,
    /// What the others are told.
    pub refusal: Box<str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default)]
    bypass_missing: bool,
    whitelist: Option<Vec<String>>,
    blacklist: Option<Vec<String>>,
    message: Option<String>,
}

impl RefererRestriction {
    pub(super) fn read(conf: Value) -> Result<RefererRestriction, Wrong> {
        let fields: Fields = typed(conf)?;
        let (list, field, allows) = only_list(fields.whitelist, fields.blacklist)?;
        for (index, host) in list.iter().enumerate() {
            let rest = host.strip_prefix('*').unwrap_or(host);
            let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            if rest.is_empty() || !rest.bytes().all(is_host) {
                return Err((
                    format!("{field}/{index}"),
                    "must be a host, or '*' and the end of one".to_owned(),
                ));
            }
        }
        let message = fields.message.as_deref().unwrap_or("Your referer host is not allowed");
        Ok(RefererRestriction {
            hosts: list.iter().map(|host| host.to_ascii_lowercase().into()).collect(),
            allows,
            bypasses_missing: fields.bypass_missing,
            refusal: super::message(message),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        assert!(RefererRestriction::read(json!({"whitelist": ["*.a.com", "b.com"]})).is_ok());
        for (conf, place) in [
            (json!({}), ""),
            (json!({"whitelist": ["a/b"]}), "/whitelist/0"),
            (json!({"blacklist": ["*"]}), "/blacklist/0"),
        ] {
            assert_eq!(RefererRestriction::read(conf.clone()).unwrap_err().0, place, "{conf}");
        }
    }
}
