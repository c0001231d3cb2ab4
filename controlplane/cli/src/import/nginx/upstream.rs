//! `upstream` blocks, and the address of a `proxy_pass`: what becomes an upstream's nodes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Placed;
use crate::import::found::Found;

/// A block as it is shared by locations; what a location adds (the Host, for one) makes it an object.
#[derive(Debug, Default, Clone)]
pub(super) struct Blocks(BTreeMap<String, Map<String, Value>>);

impl Blocks {
    /// Reads a block.
    pub(super) fn add(&mut self, block: &Placed, found: &mut Found) {
        let mut fields = Map::from_iter([("type".to_owned(), json!("roundrobin"))]);
        let mut nodes: Vec<Value> = Vec::new();
        for line in &block.block {
            match line.name() {
                "server" => nodes.extend(node(line, found)),
                "least_conn" => drop(fields.insert("type".to_owned(), json!("least_conn"))),
                "ip_hash" => hashed(&mut fields, "remote_addr"),
                "hash" => match line.argument(0).strip_prefix('$') {
                    Some(name) if variable(name).is_some() => {
                        hashed(&mut fields, variable(name).unwrap_or_default());
                    }
                    _ => found.leave_out(
                        line.at(),
                        line.written(),
                        "no such key for consistent hashing; requests go round instead",
                    ),
                },
                "keepalive" | "keepalive_timeout" | "keepalive_requests" | "zone" | "keepalive_time" => {}
                "random" | "least_time" => {
                    found.leave_out(
                        line.at(),
                        line.written(),
                        "no such balancer; requests go round instead (\"ewma\" may suit)",
                    );
                }
                _ => found.leave_out(line.at(), line.written(), "has no counterpart in an upstream"),
            }
        }
        if nodes.is_empty() {
            found.leave_out(block.at(), block.written(), "none of its servers can be carried over");
            return;
        }
        fields.insert("nodes".to_owned(), Value::Array(nodes));
        self.0.insert(block.argument(0).to_owned(), fields);
    }

    /// The fields for a host of a `proxy_pass`: those of the block of that name, or one node.
    pub(super) fn of(&self, authority: &str, scheme: &str) -> Option<Map<String, Value>> {
        if let Some(block) = self.0.get(authority) {
            return Some(block.clone());
        }
        let (host, port) = address(authority, if scheme == "https" { 443 } else { 80 })?;
        Some(Map::from_iter([
            ("type".to_owned(), json!("roundrobin")),
            ("nodes".to_owned(), json!([{"host": host, "port": port, "weight": 1}])),
        ]))
    }

    /// Lists the blocks that no object was made of.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }
}

fn hashed(fields: &mut Map<String, Value>, key: &str) {
    fields.insert("type".to_owned(), json!("chash"));
    fields.insert("hash_on".to_owned(), json!("vars"));
    fields.insert("key".to_owned(), json!(key));
}

/// nginx's name of what is hashed, where APISIX has the same under `hash_on: vars`.
fn variable(name: &str) -> Option<&str> {
    let known = [
        "uri",
        "request_uri",
        "query_string",
        "host",
        "hostname",
        "server_name",
        "server_addr",
        "remote_addr",
        "remote_port",
    ];
    match name {
        "args" => Some("query_string"),
        "binary_remote_addr" => Some("remote_addr"),
        name if name.starts_with("arg_") || known.contains(&name) => Some(name),
        _ => None,
    }
}

fn node(line: &Placed, found: &mut Found) -> Option<Value> {
    let Some((host, port)) = address(line.argument(0), 80) else {
        found.leave_out(line.at(), line.written(), "not an address or name with a port");
        return None;
    };
    let (mut weight, mut priority) = (1, 0);
    for argument in line.arguments().iter().skip(1) {
        match argument.split_once('=').unwrap_or((argument, "")) {
            ("weight", number) => weight = number.parse().unwrap_or(1),
            ("backup", "") => priority = -1,
            ("down", "") => weight = 0,
            ("max_fails" | "fail_timeout", _) => found.leave_out(
                line.at(),
                format!("{argument} of {host}:{port}"),
                "Ringway leaves failing nodes out by its own rules (README, Upstreams: `ringway.eject-...`, `checks`)",
            ),
            _ => found.leave_out(line.at(), format!("{argument} of {host}:{port}"), "has no counterpart"),
        }
    }
    let mut node = json!({"host": host, "port": port, "weight": weight});
    if priority != 0 {
        node["priority"] = json!(priority);
    }
    Some(node)
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`; no variables, no sockets.
pub(in crate::import) fn address(text: &str, port_default: u16) -> Option<(String, u16)> {
    if text.is_empty() || text.contains(['$', '/', '@']) || text.starts_with("unix:") {
        return None;
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, port.strip_prefix(':'))
        }
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map_or(Some(port_default), |port| port.parse().ok().filter(|port| *port > 0))?;
    (!host.is_empty()).then(|| (host.to_owned(), port))
}
