//! `real-ip`: who counts as the client behind proxies that are trusted.

use serde::Deserialize;
use serde_json::Value;

use super::{About, Wrong, at, typed};
use crate::cidr::Cidr;
use crate::limits::RESTRICTIONS_MAX;
use crate::variable::Variable;

/// See [`About`].
pub const ABOUT: About = About { name: "real-ip", priority: 23000, schema: SCHEMA, upstreams: false };

const SCHEMA: &str = r#"{"type": "object", "properties": {
  "source": {"type": "string", "minLength": 1},
  "trusted_addresses": {"type": "array", "minItems": 1, "items": {"type": "string", "anyOf": [
    {"pattern": "^([0-9]{1,3}\\.){3}[0-9]{1,3}$"}, {"pattern": "^([0-9]{1,3}\\.){3}[0-9]{1,3}/[0-9]{1,2}$"},
    {"pattern": "^[0-9a-fA-F:.]*:[0-9a-fA-F:.]*$"}, {"pattern": "^[0-9a-fA-F:.]*:[0-9a-fA-F:.]*/[0-9]{1,3}$"}]}},
  "recursive": {"type": "boolean", "default": false}},
 "required": ["source"]}"#;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct RealIp {
    /// What tells the address.
    pub source: Variable,
    /// It is a list, whose last address counts, or, where it is looked through, the last that is not trusted.
    pub is_list: bool,
    /// Who may tell it; `None`: everybody.
    pub trusted: Option<Box<[Cidr]>>,
    /// The list is looked through.
    pub looks_through: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    source: Option<String>,
    trusted_addresses: Option<Vec<String>>,
    #[serde(default)]
    recursive: bool,
}

impl RealIp {
    pub(super) fn read(conf: Value) -> Result<RealIp, Wrong> {
        let fields: Fields = typed(conf)?;
        let source = fields.source.ok_or_else(|| at("/source", "is required"))?;
        let list = fields.trusted_addresses.as_deref();
        if list.is_some_and(|list| list.is_empty() || list.len() > RESTRICTIONS_MAX) {
            return Err(at("/trusted_addresses", format!("needs 1 to {RESTRICTIONS_MAX} entries")));
        }
        let block = |(index, text): (usize, &String)| {
            text.parse().map_err(|_| {
                (format!("/trusted_addresses/{index}"), format!("invalid ip address: {text}"))
            })
        };
        let trusted = list.map(|list| list.iter().enumerate().map(block).collect::<Result<_, _>>());
        Ok(RealIp {
            source: Variable::read(&source).map_err(|reason| at("/source", reason))?,
            is_list: source == "http_x_forwarded_for",
            trusted: trusted.transpose()?,
            looks_through: fields.recursive,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let read = RealIp::read(json!({"source": "http_x_forwarded_for", "trusted_addresses": ["10.0.0.0/8"]}));
        assert!(read.is_ok_and(|read| read.is_list && !read.looks_through));
        for (conf, place) in [
            (json!({}), "/source"),
            (json!({"source": "nope"}), "/source"),
            (json!({"source": "arg_ip", "trusted_addresses": []}), "/trusted_addresses"),
            (json!({"source": "arg_ip", "trusted_addresses": ["::1", "::1/129"]}), "/trusted_addresses/1"),
        ] {
            assert_eq!(RealIp::read(conf.clone()).unwrap_err().0, place, "{conf}");
        }
    }
}
