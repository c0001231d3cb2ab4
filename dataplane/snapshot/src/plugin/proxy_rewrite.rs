//! `proxy-rewrite`: another path, host, method or fields for the node than those that the client sent.
//!
//! Refused by name: `method: HEAD`, since the client of another method waits for a body that no node sends then.

use serde::Deserialize;
use serde_json::Value;

use super::headers::Headers;
use super::{About, Wrong, at, typed};
use crate::limits::{REGEX_URIS_MAX, URI_BYTES_MAX};
use crate::pattern::{Rewriting, check_template};
use crate::template::Template;

/// See [`About`].
pub const ABOUT: About = About { name: "proxy-rewrite", priority: 1008, schema: SCHEMA, upstreams: false };

const SCHEMA: &str = r#"{"type": "object", "minProperties": 1, "properties": {
  "uri": {"description": "new uri for upstream", "type": "string", "minLength": 1, "maxLength": 4096, "pattern": "^\\/.*"},
  "method": {"description": "proxy route method", "type": "string", "enum": ["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS",
    "MKCOL", "COPY", "MOVE", "PROPFIND", "LOCK", "UNLOCK", "PATCH", "TRACE"]},
  "regex_uri": {"description": "regex uri for upstream", "type": "array", "minItems": 2, "items": {"type": "string"}},
  "host": {"description": "new host for upstream", "type": "string", "pattern": "^[0-9a-zA-Z-.]+(:\\d{1,5})?$"},
  "headers": {"description": "new headers for request", "type": "object"},
  "use_real_request_uri_unsafe": {"description": "use real_request_uri instead, THIS IS VERY UNSAFE.", "type": "boolean",
    "default": false}}}"#;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyRewrite {
    /// Another path, maybe with a query.
    pub uri: Option<Template>,
    /// The first pattern that occurs in the path decides, and what it matched is replaced.
    pub regex_uri: Replacements,
    /// Another host.
    pub host: Option<Box<str>>,
    /// Another method.
    pub method: Option<Box<str>>,
    /// Other fields.
    pub headers: Headers,
    /// The path goes on as the client wrote it, whatever it means.
    pub keeps_raw_uri: bool,
}

/// Patterns, each with the template of what takes the place of what it matched.
pub type Replacements = Box<[(Rewriting, Box<str>)]>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    uri: Option<String>,
    method: Option<Box<str>>,
    regex_uri: Option<Vec<String>>,
    host: Option<Box<str>>,
    headers: Option<Value>,
    #[serde(default)]
    use_real_request_uri_unsafe: bool,
}

const METHODS: [&str; 13] = [
    "GET", "POST", "PUT", "DELETE", "OPTIONS", "MKCOL", "COPY", "MOVE", "PROPFIND", "LOCK", "UNLOCK",
    "PATCH", "TRACE",
];

impl ProxyRewrite {
    pub(super) fn read(conf: Value) -> Result<ProxyRewrite, Wrong> {
        if conf.as_object().is_some_and(serde_json::Map::is_empty) {
            return Err(at("", "expect object to have at least 1 properties"));
        }
        let fields: Fields = typed(conf)?;
        let uri = fields.uri.as_deref().map(|uri| match uri {
            uri if !uri.starts_with('/') || uri.len() > URI_BYTES_MAX => {
                Err(at("/uri", format!("must begin with '/' and have at most {URI_BYTES_MAX} bytes")))
            }
            uri => Template::read(uri, false).map_err(|reason| at("/uri", reason)),
        });
        let regex_uri = regexes(fields.regex_uri.as_deref().unwrap_or_default(), fields.regex_uri.is_some())?;
        if let Some(method) = fields.method.as_deref().filter(|method| !METHODS.contains(method)) {
            let why = if method == "HEAD" {
                "is not supported by this release"
            } else {
                "matches none of the enum values"
            };
            return Err(at("/method", why));
        }
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':');
        if fields.host.as_deref().is_some_and(|host| host.is_empty() || !host.bytes().all(is_host)) {
            return Err(at("/host", "must be a host, maybe with a port"));
        }
        Ok(ProxyRewrite {
            uri: uri.transpose()?,
            headers: Headers::read(fields.headers, !regex_uri.is_empty())?,
            regex_uri,
            host: fields.host,
            method: fields.method,
            keeps_raw_uri: fields.use_real_request_uri_unsafe,
        })
    }
}

fn regexes(list: &[String], given: bool) -> Result<Replacements, Wrong> {
    let (pairs, rest) = list.as_chunks::<2>();
    if given && (pairs.is_empty() || !rest.is_empty()) {
        return Err(at(
            "/regex_uri",
            "The length of regex_uri should be an even number: patterns, each with its template",
        ));
    }
    if pairs.len() > REGEX_URIS_MAX {
        return Err(at("/regex_uri", format!("has more than {REGEX_URIS_MAX} patterns")));
    }
    let pair = |(index, [pattern, template]): (usize, &[String; 2])| {
        let read = Rewriting::new(pattern).map_err(|reason| (format!("/regex_uri/{}", index * 2), reason))?;
        check_template(template).map_err(|reason| (format!("/regex_uri/{}", index * 2 + 1), reason))?;
        Ok((read, Box::from(template.as_str())))
    };
    pairs.iter().enumerate().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        assert!(ProxyRewrite::read(json!({"uri": "/a$uri", "host": "a.b:80", "method": "PUT"})).is_ok());
        assert!(ProxyRewrite::read(json!({"headers": {"X-A": "$1"}, "regex_uri": ["^/(a)", "/$1"]})).is_ok());
        for (conf, place) in [
            (json!({}), ""),
            (json!({"uri": "a"}), "/uri"),
            (json!({"uri": "/$nope"}), "/uri"),
            (json!({"regex_uri": []}), "/regex_uri"),
            (json!({"regex_uri": ["a"]}), "/regex_uri"),
            (json!({"regex_uri": ["a", "b", "(", "c"]}), "/regex_uri/2"),
            (json!({"regex_uri": ["a", "b", "c", "$1".repeat(300)]}), "/regex_uri/3"),
            (json!({"regex_uri": vec!["a"; 2 * REGEX_URIS_MAX + 2]}), "/regex_uri"),
            (json!({"method": "HEAD"}), "/method"),
            (json!({"method": "get"}), "/method"),
            (json!({"host": "a/b"}), "/host"),
            (json!({"headers": {"X-A": "$1"}}), "/headers/X-A"),
        ] {
            assert_eq!(ProxyRewrite::read(conf.clone()).unwrap_err().0, place, "{conf}");
        }
    }
}
