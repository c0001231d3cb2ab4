//! `cors`: which pages of other origins may read answers (the Fetch standard's CORS protocol).
//!
//! Refused by name: `allow_origins_by_metadata` and its like, as there is no plugin metadata.

use serde::Deserialize;
use serde_json::Value;

use super::headers::is_value;
use super::{About, Wrong, at, typed};
use crate::limits::RESTRICTIONS_MAX;
use crate::pattern::Pattern;

/// See [`About`].
pub const ABOUT: About = About { name: "cors", priority: 4000, schema: SCHEMA, upstreams: false };

const SCHEMA: &str = r#"{"type": "object", "properties": {
  "allow_origins": {"description": "you can use '*' to allow all origins when no credentials, '**' to allow forcefully(it will bring some security risks, be carefully), multiple origin use ',' to split. default: *.",
    "type": "string", "pattern": "^(\\*|\\*\\*|null|\\w+://[^,]+(,\\w+://[^,]+)*)$", "default": "*"},
  "allow_methods": {"description": "you can use '*' to allow all methods when no credentials, '**' to allow forcefully(it will bring some security risks, be carefully), multiple method use ',' to split. default: *.",
    "type": "string", "default": "*"},
  "allow_headers": {"description": "you can use '*' to allow all header when no credentials, '**' to allow forcefully(it will bring some security risks, be carefully), multiple header use ',' to split. default: *.",
    "type": "string", "default": "*"},
  "expose_headers": {"description": "multiple header use ',' to split.", "type": "string"},
  "max_age": {"description": "maximum number of seconds the results can be cached. -1 means no cached, the max value is depend on browser.",
    "type": "integer", "default": 5},
  "allow_credential": {"description": "allow client append credential. according to CORS specification, if you set this option to 'true', you can not use '*' for other options.",
    "type": "boolean", "default": false},
  "allow_origins_by_regex": {"type": "array", "minItems": 1, "uniqueItems": true,
    "items": {"type": "string", "minLength": 1, "maxLength": 4096}},
  "timing_allow_origins": {"type": "string", "pattern": "^(\\*|\\*\\*|null|\\w+://[^,]+(,\\w+://[^,]+)*)$"},
  "timing_allow_origins_by_regex": {"type": "array", "minItems": 1, "uniqueItems": true,
    "items": {"type": "string", "minLength": 1, "maxLength": 4096}}}}"#;

/// All methods, where the names are to be told.
const METHODS: &str = "GET,POST,PUT,DELETE,PATCH,HEAD,OPTIONS,CONNECT,TRACE";

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Cors {
    /// Whose pages may read.
    pub origins: Origins,
    /// Whether that differs from origin to origin, so that caches must tell them apart.
    pub varies: bool,
    /// With these methods.
    pub methods: Box<str>,
    /// With these fields; `None`: with whichever are asked for.
    pub headers: Option<Box<str>>,
    /// These fields of the answer.
    pub exposed: Option<Box<str>>,
    /// For how long that may be remembered.
    pub max_age: Box<str>,
    /// With cookies and the like.
    pub credentials: bool,
    /// Whose pages may see how long it took.
    pub timing: Option<Origins>,
}

/// Whose pages.
#[derive(Debug, Clone, PartialEq)]
pub enum Origins {
    /// Everybody's, without cookies.
    Any,
    /// Everybody's, each told by its name.
    Each,
    /// These.
    Listed(Box<[Box<str>]>),
    /// Those in which one of these occurs.
    Matching(Box<[Pattern]>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    allow_origins: Option<String>,
    allow_methods: Option<String>,
    allow_headers: Option<String>,
    expose_headers: Option<String>,
    max_age: Option<i64>,
    #[serde(default)]
    allow_credential: bool,
    allow_origins_by_regex: Option<Vec<String>>,
    allow_origins_by_metadata: Option<Value>,
    timing_allow_origins: Option<String>,
    timing_allow_origins_by_regex: Option<Vec<String>>,
}

impl Cors {
    pub(super) fn read(conf: Value) -> Result<Cors, Wrong> {
        let fields: Fields = typed(conf)?;
        if fields.allow_origins_by_metadata.is_some() {
            return Err(at(
                "/allow_origins_by_metadata",
                "is not supported by this release: there is no plugin metadata",
            ));
        }
        let any = || "*".to_owned();
        let (origins, methods) =
            (fields.allow_origins.unwrap_or_else(any), fields.allow_methods.unwrap_or_else(any));
        let headers = fields.allow_headers.unwrap_or_else(any);
        let exposed = fields.expose_headers.filter(|exposed| !exposed.is_empty());
        let all = [Some(&origins), Some(&methods), Some(&headers), exposed.as_ref()];
        let timing = fields.timing_allow_origins;
        let is_any = |text: &&String| text.as_str() == "*";
        if fields.allow_credential && all.into_iter().chain([timing.as_ref()]).flatten().any(|t| is_any(&t)) {
            return Err(at("", "you can not set '*' for other option when 'allow_credential' is true"));
        }
        for (place, text) in
            [("/allow_methods", Some(&methods)), ("/allow_headers", Some(&headers)), ("/expose_headers", exposed.as_ref())]
        {
            if text.is_some_and(|text| !is_value(text)) {
                return Err(at(place, "must be what can stand in a header's value"));
            }
        }
        Ok(Cors {
            varies: origins != "*",
            origins: whose(
                ("/allow_origins", Some(origins)),
                ("/allow_origins_by_regex", fields.allow_origins_by_regex),
            )?
            .unwrap_or(Origins::Any),
            methods: if methods == "**" { METHODS.into() } else { methods.into() },
            headers: Some(headers).filter(|headers| headers != "**").map(Into::into),
            exposed: exposed.map(Into::into),
            max_age: fields.max_age.unwrap_or(5).to_string().into(),
            credentials: fields.allow_credential,
            timing: whose(
                ("/timing_allow_origins", timing),
                ("/timing_allow_origins_by_regex", fields.timing_allow_origins_by_regex),
            )?,
        })
    }
}

/// Where there are patterns, they alone count.
fn whose(
    (place, list): (&str, Option<String>),
    (patterns_place, patterns): (&str, Option<Vec<String>>),
) -> Result<Option<Origins>, Wrong> {
    if let Some(patterns) = patterns {
        if patterns.is_empty() || patterns.len() > RESTRICTIONS_MAX {
            return Err(at(patterns_place, format!("needs 1 to {RESTRICTIONS_MAX} entries")));
        }
        let compile = |(index, text): (usize, &String)| {
            Pattern::new(text, false).map_err(|reason| (format!("{patterns_place}/{index}"), reason))
        };
        let patterns = patterns.iter().enumerate().map(compile).collect::<Result<_, _>>()?;
        return Ok(Some(Origins::Matching(patterns)));
    }
    let Some(list) = list else { return Ok(None) };
    Ok(Some(match list.as_str() {
        "*" => Origins::Any,
        "**" => Origins::Each,
        "null" => Origins::Listed([list.into()].into()),
        _ if list.split(',').all(is_origin) => Origins::Listed(list.split(',').map(Into::into).collect()),
        _ => return Err(at(place, "must be *, **, null or origins such as https://a.example, with commas between")),
    }))
}

fn is_origin(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.split_once("://").is_some_and(|(scheme, rest)| {
        !scheme.is_empty() && scheme.bytes().all(is_word) && !rest.is_empty() && is_value(rest)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_are_those_of_apisix_and_what_is_wrong_is_told_with_its_place() {
        let read = Cors::read(json!({})).unwrap();
        assert_eq!((&*read.methods, read.headers.as_deref(), &*read.max_age), ("*", Some("*"), "5"));
        assert!(read.origins == Origins::Any && !read.varies && !read.credentials && read.exposed.is_none());
        let read = Cors::read(json!({"allow_origins": "http://a.b,https://c", "allow_methods": "**"})).unwrap();
        assert!(matches!(&read.origins, Origins::Listed(list) if list.len() == 2) && read.varies);
        assert!(read.methods.contains("PATCH"));
        for (conf, place) in [
            (json!({"allow_credential": true}), ""),
            (json!({"allow_origins": "http://a", "allow_methods": "GET", "allow_headers": "*", "allow_credential": true}), ""),
            (json!({"allow_origins": "a.com"}), "/allow_origins"),
            (json!({"allow_origins": "http://a,"}), "/allow_origins"),
            (json!({"allow_origins_by_regex": ["ok", "("]}), "/allow_origins_by_regex/1"),
            (json!({"allow_origins_by_regex": []}), "/allow_origins_by_regex"),
            (json!({"allow_origins_by_metadata": ["a"]}), "/allow_origins_by_metadata"),
            (json!({"expose_headers": "a\r\nb"}), "/expose_headers"),
            (json!({"timing_allow_origins": "x"}), "/timing_allow_origins"),
        ] {
            assert_eq!(Cors::read(conf.clone()).unwrap_err().0, place, "{conf}");
        }
    }
}
