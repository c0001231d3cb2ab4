//! The nodes of an upstream, in both of APISIX's forms: `{"host:port": weight}` and a list of objects.
//!
//! The list form is what is kept and printed. A pair's key may leave the port out (it then follows from the
//! scheme) and may hold an IPv6 address in brackets, or be a Unix socket: `unix:/path`.

use std::fmt;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::json::Json;
use crate::limits::NODES_PER_UPSTREAM_MAX;
use crate::upstream::unix_path;

/// One backend of an upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Address or name; IPv6 without brackets; or `unix:/path`.
    pub host: Box<str>,
    /// Port; none given: the scheme's.
    #[serde(default)]
    pub port: Option<u16>,
    /// Share of the requests; 0 gets none.
    pub weight: u32,
    /// Nodes of the highest priority come first.
    #[serde(default)]
    pub priority: i32,
    /// Free value.
    #[serde(default)]
    pub metadata: Option<Json>,
}

/// The nodes of one upstream.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(transparent)]
pub struct Nodes(pub Vec<Node>);

impl<'de> Deserialize<'de> for Nodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(BothForms)
        } else {
            Vec::deserialize(deserializer).map(Nodes)
        }
    }
}

struct BothForms;

impl<'de> Visitor<'de> for BothForms {
    type Value = Nodes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of \"host:port\": weight, or a list of {host, port, weight}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Nodes, A::Error> {
        let mut nodes = Vec::new();
        while let Some(mut node) = list.next_element::<Node>()? {
            if let Some(inner) = node.host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                node.host = inner.into();
            }
            push(&mut nodes, node)?;
        }
        Ok(Nodes(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Nodes, A::Error> {
        let mut nodes = Vec::new();
        while let Some((address, weight)) = map.next_entry::<String, u32>()? {
            let (host, port) = split_address(&address).ok_or_else(|| {
                A::Error::custom(format_args!("node {address:?} is not \"host\" or \"host:port\""))
            })?;
            push(&mut nodes, Node { host: host.into(), port, weight, priority: 0, metadata: None })?;
        }
        Ok(Nodes(nodes))
    }
}

fn push<E: serde::de::Error>(nodes: &mut Vec<Node>, node: Node) -> Result<(), E> {
    if nodes.len() >= NODES_PER_UPSTREAM_MAX {
        return Err(E::custom(format_args!("more than {NODES_PER_UPSTREAM_MAX} nodes")));
    }
    nodes.push(node);
    Ok(())
}

/// Splits `host`, `host:port`, `[v6]` and `[v6]:port`.
fn split_address(address: &str) -> Option<(&str, Option<u16>)> {
    if unix_path(address).is_some() {
        // Judged as a whole by `validate`.
        return Some((address, None));
    }
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, tail) = rest.split_once(']')?;
            (host, if tail.is_empty() { None } else { Some(tail.strip_prefix(':')?) })
        }
        None => match address.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    if host.is_empty() {
        return None;
    }
    match port {
        None => Some((host, None)),
        Some(digits) => Some((host, Some(digits.parse().ok().filter(|port| *port != 0)?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(json: &str) -> Result<Vec<(String, Option<u16>, u32)>, String> {
        serde_json::from_str::<Nodes>(json)
            .map(|nodes| nodes.0.into_iter().map(|n| (n.host.into_string(), n.port, n.weight)).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn both_forms_give_the_same_nodes() {
        let want = Ok(vec![("127.0.0.1".to_owned(), Some(1980), 1)]);
        assert_eq!(nodes(r#"{"127.0.0.1:1980": 1}"#), want);
        assert_eq!(nodes(r#"[{"host": "127.0.0.1", "port": 1980, "weight": 1}]"#), want);
        assert_eq!(nodes("{}"), Ok(vec![]));
        assert_eq!(nodes("[]"), Ok(vec![]));
    }

    #[test]
    fn addresses_may_be_ipv6_and_may_lack_a_port() {
        assert_eq!(nodes(r#"{"[::1]:80": 2}"#), Ok(vec![("::1".to_owned(), Some(80), 2)]));
        assert_eq!(nodes(r#"{"[::1]": 2}"#), Ok(vec![("::1".to_owned(), None, 2)]));
        let socket = Ok(vec![("unix:/run/app.sock".to_owned(), None, 1)]);
        assert_eq!(nodes(r#"{"unix:/run/app.sock": 1}"#), socket);
        assert_eq!(nodes(r#"[{"host": "unix:/run/app.sock", "weight": 1}]"#), socket);
        assert_eq!(nodes(r#"{"localhost": 0}"#), Ok(vec![("localhost".to_owned(), None, 0)]));
    }

    #[test]
    fn bad_addresses_weights_and_fields_are_refused() {
        for json in [
            r#"{"127.0.0.1:": 1}"#,
            r#"{":80": 1}"#,
            r#"{"a:99999": 1}"#,
            r#"{"a:0": 1}"#,
            r#"{"[::1:80": 1}"#,
            r#"{"a:80": -1}"#,
            r#"{"a:80": 1.5}"#,
            r#"[{"host": "a", "port": 80}]"#,
            r#"[{"host": "a", "port": 80, "weight": 1, "wieght": 2}]"#,
            "5",
        ] {
            assert!(nodes(json).is_err(), "{json}");
        }
    }
}
