//! `key-auth`: whose key a request carries.
//!
//! Not supported: keys that stand elsewhere (see [`super::login`]).

use serde::Deserialize;
use serde_json::Value;

use super::headers::check_name;
use super::login::LoginAbout;
use super::{About, Wrong, at, typed};
use crate::limits::{ARGUMENT_NAME_BYTES_MAX, REALM_BYTES_MAX};

/// See [`About`].
pub const ABOUT: About = About { name: "key-auth", priority: 2500, schema: SCHEMA, upstreams: false };

const SCHEMA: &str = r#"{"type": "object", "properties": {
  "header": {"type": "string", "default": "apikey"},
  "query": {"type": "string", "default": "apikey"},
  "realm": {"type": "string", "minLength": 1, "maxLength": 128, "default": "key"},
  "hide_credentials": {"type": "boolean", "default": false},
  "anonymous_consumer": {"type": "string", "minLength": 1}}}"#;

/// Of consumers.
pub const LOGIN: LoginAbout = LoginAbout {
    name: "key-auth",
    schema: r#"{"type": "object", "properties": {"key": {"type": "string"}}, "encrypt_fields": ["key"], "required": ["key"]}"#,
    identity: "key",
    secret: "key",
};

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyAuth {
    /// The field that has the key.
    pub header: Box<str>,
    /// The argument that has it, where there is no such field.
    pub query: Box<str>,
    /// See [`Entrance`].
    pub entrance: Entrance,
}

/// What plugins that tell consumers apart have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Entrance {
    /// What `WWW-Authenticate` tells who is refused.
    pub challenge: Box<str>,
    /// Nodes do not see what the client showed.
    pub hides: bool,
    /// Who counts as the consumer of requests that show nothing, or something unknown.
    pub anonymous: Option<Box<str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    header: Option<Box<str>>,
    query: Option<Box<str>>,
    realm: Option<String>,
    #[serde(default)]
    hide_credentials: bool,
    anonymous_consumer: Option<Box<str>>,
}

impl KeyAuth {
    pub(super) fn read(conf: Value) -> Result<KeyAuth, Wrong> {
        let fields: Fields = typed(conf)?;
        let header = fields.header.unwrap_or_else(|| "apikey".into());
        check_name(&header).map_err(|reason| at("/header", reason))?;
        let query = fields.query.unwrap_or_else(|| "apikey".into());
        if query.is_empty() || query.len() > ARGUMENT_NAME_BYTES_MAX {
            return Err(at("/query", format!("needs 1 to {ARGUMENT_NAME_BYTES_MAX} characters")));
        }
        let realm = fields.realm.as_deref().unwrap_or("key");
        let entrance = Entrance::read(("apikey", realm), fields.hide_credentials, fields.anonymous_consumer)?;
        Ok(KeyAuth { header, query, entrance })
    }
}

impl Entrance {
    /// `scheme` is that of `WWW-Authenticate`.
    pub(super) fn read(
        (scheme, realm): (&str, &str),
        hides: bool,
        anonymous: Option<Box<str>>,
    ) -> Result<Entrance, Wrong> {
        let may_stand = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        if !(1..=REALM_BYTES_MAX).contains(&realm.len()) || !realm.bytes().all(may_stand) {
            return Err(at(
                "/realm",
                format!("needs 1 to {REALM_BYTES_MAX} visible ASCII characters, none of them '\"' or '\\'"),
            ));
        }
        if anonymous.as_ref().is_some_and(|name| name.is_empty()) {
            return Err(at("/anonymous_consumer", "is empty"));
        }
        Ok(Entrance { challenge: format!("{scheme} realm=\"{realm}\"").into(), hides, anonymous })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_are_those_of_apisix_and_what_is_wrong_is_told_with_its_place() {
        let read = KeyAuth::read(json!({})).unwrap();
        assert_eq!((&*read.header, &*read.query), ("apikey", "apikey"));
        assert_eq!(&*read.entrance.challenge, "apikey realm=\"key\"");
        assert!(!read.entrance.hides && read.entrance.anonymous.is_none());
        for (conf, place) in [
            (json!({"header": "a b"}), "/header"),
            (json!({"query": ""}), "/query"),
            (json!({"realm": ""}), "/realm"),
            (json!({"realm": "a\"b"}), "/realm"),
            (json!({"realm": "a\r\nb"}), "/realm"),
            (json!({"realm": "a".repeat(129)}), "/realm"),
            (json!({"hide_credentials": "yes"}), "/hide_credentials"),
            (json!({"anonymous_consumer": ""}), "/anonymous_consumer"),
            (json!({"key": "k"}), "/key"),
        ] {
            assert_eq!(KeyAuth::read(conf.clone()).unwrap_err().0, place, "{conf}");
        }
    }
}
