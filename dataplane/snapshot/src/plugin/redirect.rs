//! `redirect`: the client is told to ask elsewhere.

use serde::Deserialize;
use serde_json::Value;

use super::{About, Wrong, at, typed};
use crate::pattern::{Rewriting, check_template};
use crate::template::Template;

/// See [`About`].
pub const ABOUT: About = About { name: "redirect", priority: 900, schema: SCHEMA, upstreams: false };

const SCHEMA: &str = r#"{"type": "object", "properties": {
  "ret_code": {"type": "integer", "minimum": 200, "default": 302},
  "uri": {"type": "string", "minLength": 2, "pattern": "(\\\\\\$[0-9a-zA-Z_]+)|\\$\\{([0-9a-zA-Z_]+)\\}|\\$([0-9a-zA-Z_]+)|(\\$|[^$\\\\]+|\\\\)"},
  "regex_uri": {"description": "params for generating new uri that substitute from client uri, first param is regular expression, the second one is uri template",
    "type": "array", "maxItems": 2, "minItems": 2, "items": {"type": "string"}},
  "http_to_https": {"type": "boolean"},
  "encode_uri": {"type": "boolean", "default": false},
  "append_query_string": {"type": "boolean", "default": false}}}"#;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Redirect {
    /// Where to.
    pub to: To,
    /// The status.
    pub status: u16,
    /// What cannot stand in a path is escaped.
    pub encode: bool,
    /// The request's query is appended.
    pub append_query: bool,
}

/// Where to ask.
#[derive(Debug, Clone, PartialEq)]
pub enum To {
    /// The same over TLS, where it did not come so.
    Https,
    /// There.
    Uri(Template),
    /// There, where the pattern occurs.
    Regex(Rewriting, Box<str>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    ret_code: Option<u16>,
    uri: Option<String>,
    regex_uri: Option<[String; 2]>,
    http_to_https: Option<bool>,
    #[serde(default)]
    encode_uri: bool,
    #[serde(default)]
    append_query_string: bool,
}

impl Redirect {
    pub(super) fn read(conf: Value) -> Result<Redirect, Wrong> {
        let fields: Fields = typed(conf)?;
        let to = match (fields.uri, fields.regex_uri, fields.http_to_https) {
            (Some(uri), None, None) => {
                To::Uri(Template::read(&uri, false).map_err(|reason| at("/uri", reason))?)
            }
            (None, Some([pattern, template]), None) => {
                let pattern = Rewriting::new(&pattern).map_err(|reason| at("/regex_uri/0", reason))?;
                check_template(&template).map_err(|reason| at("/regex_uri/1", reason))?;
                To::Regex(pattern, template.into())
            }
            (None, None, Some(true)) if fields.append_query_string => {
                return Err(at(
                    "",
                    "only one of `http_to_https` and `append_query_string` can be configured.",
                ));
            }
            (None, None, Some(true)) => To::Https,
            _ => {
                return Err(at(
                    "",
                    "value should match only one schema: give one of uri, regex_uri and http_to_https (true)",
                ));
            }
        };
        let status = fields.ret_code.unwrap_or(302);
        if !(200..=599).contains(&status) {
            return Err(at("/ret_code", "must be 200 to 599"));
        }
        Ok(Redirect { to, status, encode: fields.encode_uri, append_query: fields.append_query_string })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn exactly_one_way_is_told() {
        for conf in
            [json!({"uri": "/a$uri"}), json!({"regex_uri": ["^/a", "/b"]}), json!({"http_to_https": true})]
        {
            assert!(Redirect::read(conf.clone()).is_ok(), "{conf}");
        }
        for (conf, place) in [
            (json!({}), ""),
            (json!({"uri": "/a", "http_to_https": true}), ""),
            (json!({"http_to_https": true, "append_query_string": true}), ""),
            (json!({"uri": "/a", "ret_code": 199}), "/ret_code"),
            (json!({"regex_uri": ["(", "a"]}), "/regex_uri/0"),
            (json!({"uri": "/$nope"}), "/uri"),
        ] {
            assert_eq!(Redirect::read(conf.clone()).unwrap_err().0, place, "{conf}");
        }
    }
}
