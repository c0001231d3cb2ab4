//! `basic-auth`: who a request is from, by name and password (RFC 7617).

use serde::Deserialize;
use serde_json::Value;

use super::key_auth::Entrance;
use super::login::LoginAbout;
use super::{About, Wrong, typed};

/// See [`About`].
pub const ABOUT: About = About { name: "basic-auth", priority: 2520, schema: SCHEMA, upstreams: false };

const SCHEMA: &str = r#"{"type": "object", "title": "work with route or service object", "properties": {
  "hide_credentials": {"type": "boolean", "default": false},
  "realm": {"type": "string", "minLength": 1, "maxLength": 128, "default": "basic"},
  "anonymous_consumer": {"type": "string", "minLength": 1}}}"#;

/// Of consumers.
pub const LOGIN: LoginAbout = LoginAbout {
    name: "basic-auth",
    schema: r#"{"type": "object", "title": "work with consumer object", "properties": {
      "username": {"type": "string"}, "password": {"type": "string"}},
     "encrypt_fields": ["password"], "required": ["username", "password"]}"#,
    identity: "username",
    secret: "password",
};

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct BasicAuth(pub Entrance);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default)]
    hide_credentials: bool,
    realm: Option<String>,
    anonymous_consumer: Option<Box<str>>,
}

impl BasicAuth {
    pub(super) fn read(conf: Value) -> Result<BasicAuth, Wrong> {
        let fields: Fields = typed(conf)?;
        let realm = fields.realm.as_deref().unwrap_or("basic");
        Entrance::read(("Basic", realm), fields.hide_credentials, fields.anonymous_consumer).map(BasicAuth)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_are_those_of_apisix_and_what_is_wrong_is_told_with_its_place() {
        let read = BasicAuth::read(json!({"anonymous_consumer": "guest"})).unwrap().0;
        assert_eq!((&*read.challenge, read.anonymous.as_deref()), ("Basic realm=\"basic\"", Some("guest")));
        for (conf, place) in [(json!({"realm": "\\"}), "/realm"), (json!({"password": "p"}), "/password")] {
            assert_eq!(BasicAuth::read(conf.clone()).unwrap_err().0, place, "{conf}");
        }
    }
}
