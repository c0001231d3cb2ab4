//! `proxy-mirror`: a copy of requests goes aside to another host, whose answers nobody hears.
//!
//! Only plain HTTP to `host` is supported; gRPC is refused by name.

use serde::Deserialize;
use serde_json::Value;

use super::{About, Destination, Wrong, at, typed};
use crate::model::{Node, Nodes, Upstream};
use crate::upstream::is_host_name;

/// See [`About`].
pub const ABOUT: About = About { name: "proxy-mirror", priority: 1010, schema: SCHEMA, upstreams: true };

const SCHEMA: &str = r#"{"type": "object", "properties": {
  "host": {"type": "string", "pattern": "^(http(s)?|grpc(s)?):\\/\\/([\\da-zA-Z.-]+|\\[[\\da-fA-F:]+\\])(:\\d+)?$"},
  "path": {"type": "string", "pattern": "^/[^?&]+$"},
  "path_concat_mode": {"type": "string", "default": "replace", "enum": ["replace", "prefix"]},
  "sample_ratio": {"type": "number", "minimum": 0.00001, "maximum": 1, "default": 1}},
 "required": ["host"]}"#;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyMirror {
    /// Where it goes: an upstream of one node, so that a name is looked up as those of other nodes are.
    pub to: Destination,
    /// Host as the copy has it.
    pub authority: Box<str>,
    /// Another path.
    pub path: Option<Box<str>>,
    /// It is put in front of the request's own.
    pub is_prefix: bool,
    /// Of how many requests a copy is sent.
    pub sample_ratio: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    host: String,
    path: Option<Box<str>>,
    #[serde(default)]
    path_concat_mode: Mode,
    #[serde(default = "all")]
    sample_ratio: f64,
}

#[derive(Deserialize, Default, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Replace,
    Prefix,
}

fn all() -> f64 {
    1.0
}

impl ProxyMirror {
    pub(super) fn read(conf: Value) -> Result<ProxyMirror, Wrong> {
        let fields: Fields = typed(conf)?;
        let Some((scheme, authority)) = fields.host.split_once("://") else {
            return Err(at("/host", "must be like \"http://10.0.0.1:8080\""));
        };
        if scheme != "http" {
            return Err(at(
                "/host",
                format!("{scheme:?} is not supported by this release; only \"http\" is"),
            ));
        }
        let (host, port) =
            split(authority).ok_or_else(|| at("/host", "must be like \"http://10.0.0.1:8080\""))?;
        if let Some(path) = &fields.path
            && (!path.starts_with('/') || path.len() < 2 || path.contains(['?', '&', ' ']))
        {
            return Err(at("/path", "must begin with '/' and have no query"));
        }
        if !(0.00001..=1.0).contains(&fields.sample_ratio) {
            return Err(at("/sample_ratio", "must be 0.00001 to 1"));
        }
        let node = Node { host: host.into(), port: Some(port), weight: 1, priority: 0, metadata: None };
        let upstream = Upstream { nodes: Some(Nodes(vec![node])), ..Upstream::default() };
        Ok(ProxyMirror {
            to: Destination::Own(Box::new(upstream)),
            authority: authority.into(),
            path: fields.path,
            is_prefix: fields.path_concat_mode == Mode::Prefix,
            sample_ratio: fields.sample_ratio,
        })
    }
}

/// Host and port; 80 where there is none.
fn split(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => {
            let (host, port) =
                authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
            let is_host = host.parse::<std::net::Ipv4Addr>().is_ok() || is_host_name(host);
            (Some(host).filter(|_| is_host)?, port)
        }
    };
    let port = port.map_or(Some(80), |port| port.parse().ok().filter(|port| *port != 0))?;
    Some((host, port))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hosts_are_read_and_others_refused() {
        for (host, want) in [
            ("http://127.0.0.1:1986", ("127.0.0.1", 1986)),
            ("http://shop.example", ("shop.example", 80)),
            ("http://[::1]:81", ("::1", 81)),
        ] {
            let mirror = ProxyMirror::read(json!({"host": host})).unwrap();
            let Destination::Own(upstream) = &mirror.to else { panic!() };
            let node = &upstream.nodes.as_ref().unwrap().0[0];
            assert_eq!((&*node.host, node.port), (want.0, Some(want.1)));
        }
        for host in [
            "127.0.0.1",
            "https://a",
            "grpc://a",
            "http://a:0",
            "http://a/b",
            "http://",
            "http://a b",
            "http://[::1",
        ] {
            assert_eq!(ProxyMirror::read(json!({"host": host})).unwrap_err().0, "/host", "{host}");
        }
        for (field, value) in [
            ("sample_ratio", json!(0)),
            ("sample_ratio", json!(2)),
            ("path", json!("a")),
            ("path", json!("/a?b")),
        ] {
            let conf = json!({"host": "http://a", field: value});
            assert_eq!(ProxyMirror::read(conf).unwrap_err().0, format!("/{field}"));
        }
    }
}
