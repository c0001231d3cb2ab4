//! An upstream compiled for the request path: addresses instead of text, milliseconds instead of seconds.
//!
//! Immutable; what outlives a version (pools, balancing, health) is kept elsewhere under [`Cluster::key`] or an
//! endpoint's address, never under an index.

use std::net::{IpAddr, SocketAddr};

use ringway_snapshot::model::{KeepalivePool, Nodes, PassHost, Timeout, Upstream};

const DEFAULT_PORT: u16 = 80;

/// An upstream of the configuration, ready to use.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// `upstreams/ID`, or the route or service that it stands in.
    pub key: Box<str>,
    /// All nodes, those of weight 0 too.
    pub endpoints: Box<[Endpoint]>,
    /// What the nodes see as Host.
    pub host: HostRule,
    /// Further tries on other nodes; `None`: as many as there are other usable nodes.
    pub retries: Option<u32>,
    /// After this no further try starts.
    pub retry_ms_max: Option<u64>,
    /// Where the route has none of its own.
    pub timeouts: Option<Timeouts>,
    /// Idle connections kept.
    pub keepalive: KeepalivePool,
}

/// One node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Share of the requests; 0 gets none.
    pub weight: u32,
    /// Its own name as a Host field has it (`pass_host: node`).
    pub authority: Box<[u8]>,
}

/// What the nodes see as Host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostRule {
    /// The client's.
    Pass,
    /// The node's own name.
    Node,
    /// A fixed one.
    Rewrite(Box<[u8]>),
}

/// Waits towards a node, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For the connection to be made.
    pub connect_ms: u64,
    /// Between two successful writes.
    pub send_ms: u64,
    /// Between two successful reads.
    pub read_ms: u64,
}

impl From<Timeout> for Timeouts {
    fn from(timeout: Timeout) -> Timeouts {
        Timeouts {
            connect_ms: milliseconds(timeout.connect),
            send_ms: milliseconds(timeout.send),
            read_ms: milliseconds(timeout.read),
        }
    }
}

impl Cluster {
    /// Compiles a validated upstream. A node whose host is not an address is told by its index.
    pub fn compile(key: String, upstream: &Upstream) -> Result<Cluster, (usize, String)> {
        let no_nodes = Nodes::default();
        let nodes = upstream.nodes.as_ref().unwrap_or(&no_nodes);
        let mut endpoints = Vec::with_capacity(nodes.0.len());
        for (index, node) in nodes.0.iter().enumerate() {
            let ip: IpAddr =
                node.host.parse().map_err(|_| (index, format!("{:?} is not an IP address", node.host)))?;
            let address = SocketAddr::new(ip, node.port.unwrap_or(DEFAULT_PORT));
            let authority = authority(address, &node.host);
            endpoints.push(Endpoint { address, weight: node.weight, authority });
        }
        let host = match (upstream.pass_host, upstream.upstream_host.as_deref()) {
            (PassHost::Rewrite, Some(host)) => HostRule::Rewrite(host.as_bytes().into()),
            (PassHost::Pass | PassHost::Rewrite, _) => HostRule::Pass,
            (PassHost::Node, _) => HostRule::Node,
        };
        Ok(Cluster {
            key: key.into_boxed_str(),
            endpoints: endpoints.into_boxed_slice(),
            host,
            retries: upstream.retries,
            retry_ms_max: upstream.retry_timeout.filter(|seconds| *seconds > 0.0).map(milliseconds),
            timeouts: upstream.timeout.map(Timeouts::from),
            keepalive: upstream.keepalive_pool.unwrap_or_default(),
        })
    }

    /// How many nodes may get requests.
    pub fn usable(&self) -> usize {
        self.endpoints.iter().filter(|endpoint| endpoint.weight > 0).count()
    }

    /// How often one request may be tried in all.
    pub fn tries_max(&self) -> u32 {
        match self.retries {
            Some(retries) => retries.saturating_add(1),
            None => u32::try_from(self.usable()).unwrap_or(u32::MAX).max(1),
        }
    }
}

/// A node's address as a Host field has it. nginx, and APISIX with it, leaves the scheme's own port out.
fn authority(address: SocketAddr, host: &str) -> Box<[u8]> {
    match address {
        // An IPv4 address is parsed in one spelling only, so that its text need not be made again.
        SocketAddr::V4(_) if address.port() == DEFAULT_PORT => host.as_bytes().into(),
        SocketAddr::V4(_) => {
            [host, ":", itoa::Buffer::new().format(address.port())].concat().into_bytes().into()
        }
        SocketAddr::V6(v6) if address.port() == DEFAULT_PORT => format!("[{}]", v6.ip()).into_bytes().into(),
        SocketAddr::V6(_) => address.to_string().into_bytes().into(),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what is wanted"
)]
fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(json: &str) -> Cluster {
        Cluster::compile("upstreams/1".into(), &serde_json::from_str(json).unwrap()).unwrap()
    }

    #[test]
    fn ports_and_hosts_are_as_nginx_has_them() {
        let cluster = compile(r#"{"nodes": {"127.0.0.1": 1, "[::1]:80": 1, "127.0.0.2:8080": 0}}"#);
        let hosts: Vec<_> =
            cluster.endpoints.iter().map(|e| String::from_utf8_lossy(&e.authority).into_owned()).collect();
        assert_eq!(hosts, ["127.0.0.1", "[::1]", "127.0.0.2:8080"]);
        assert_eq!((cluster.usable(), cluster.tries_max()), (2, 2));
    }

    #[test]
    fn seconds_become_milliseconds_and_zero_retries_is_one_try() {
        let cluster = compile(
            r#"{"nodes": {}, "retries": 0, "retry_timeout": 0, "timeout": {"connect": 0.0005, "send": 1, "read": 2.5}}"#,
        );
        assert_eq!(cluster.timeouts, Some(Timeouts { connect_ms: 1, send_ms: 1000, read_ms: 2500 }));
        assert_eq!((cluster.tries_max(), cluster.retry_ms_max), (1, None));
    }
}
