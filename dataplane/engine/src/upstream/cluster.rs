//! An upstream compiled for the request path: addresses instead of text, milliseconds instead of seconds.
//!
//! Immutable; what outlives a version (pools, balancing, health) is kept elsewhere under [`Cluster::key`] or an
//! endpoint's address, never under an index.

use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use ringway_snapshot::limits::NODES_PER_UPSTREAM_MAX;
use ringway_snapshot::model::{Balancer, KeepalivePool, Nodes, PassHost, Timeout, Upstream};
use ringway_snapshot::upstream::{Checks, HashOn, Tuning, is_host_name, unix_path, zone_of};

use super::Address;
use super::ring::Ring;
use super::zones::Part;

const DEFAULT_PORT: u16 = 80;
/// Of names without an address, in a message.
const NAMES_TOLD_MAX: usize = 3;
/// What a node that is a Unix socket has for a name, as nginx has it.
const SOCKET_AUTHORITY: &[u8] = b"localhost";

/// An upstream of the configuration, ready to use.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// `upstreams/ID`, or the route or service that it stands in.
    pub key: Box<str>,
    /// All nodes whose addresses are known, those of weight 0 too.
    pub endpoints: Box<[Endpoint]>,
    /// Nodes that are told by name. Their addresses come into `endpoints` by [`Cluster::with_addresses`].
    pub names: Box<[Named]>,
    /// How one of them is chosen.
    pub balancer: Balancer,
    /// What is hashed, with [`Balancer::Chash`].
    pub hash_on: Option<HashOn>,
    /// Health checks.
    pub checks: Option<Arc<Checks>>,
    /// Ringway's own options.
    pub tuning: Tuning,
    /// The zone whose nodes come first; `None`: none does.
    pub own_zone: Option<Box<str>>,
    /// Nodes by priority, the highest first; of one priority, those of the own zone first.
    pub(super) tiers: Box<[Tier]>,
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
    /// Where nodes are told by name: the same with the addresses that the names had when it was published.
    published: OnceLock<Arc<Cluster>>,
}

/// Nodes of one priority, or a part of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tier {
    /// Indices of the cluster's endpoints.
    pub(super) members: Box<[u32]>,
    /// With [`Balancer::Chash`].
    pub(super) ring: Option<Arc<Ring>>,
    /// Which part of the priority's nodes these are.
    pub(super) part: Part,
}

/// A node that is told by name, which stands for every address that the name has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub host: Box<str>,
    port: u16,
    weight: u32,
    priority: i32,
    authority: Box<[u8]>,
    zone: Option<Box<str>>,
}

/// One node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: Address,
    /// Share of the requests; 0 gets none.
    pub weight: u32,
    /// Nodes of a lower one get requests when none of the higher is usable.
    pub priority: i32,
    /// Its own name as a Host field has it (`pass_host: node`).
    pub authority: Box<[u8]>,
    /// Where it stands, if it says so.
    pub zone: Option<Box<str>>,
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
    /// Compiles a validated upstream for a gateway that is in no zone.
    pub fn compile(key: String, upstream: &Upstream) -> Result<Cluster, (usize, String)> {
        Cluster::compile_in(None, key, upstream)
    }

    /// Compiles a validated upstream for a gateway in `zone`. A node whose host is neither an address nor a name is told by its index.
    pub fn compile_in(
        zone: Option<&str>,
        key: String,
        upstream: &Upstream,
    ) -> Result<Cluster, (usize, String)> {
        let no_nodes = Nodes::default();
        let nodes = upstream.nodes.as_ref().unwrap_or(&no_nodes);
        let mut endpoints = Vec::with_capacity(nodes.0.len());
        let mut names = Vec::new();
        for (index, node) in nodes.0.iter().enumerate() {
            let (weight, priority) = (node.weight, node.priority);
            let in_zone = zone_of(node).unwrap_or_default();
            let port = node.port.unwrap_or(DEFAULT_PORT);
            let Ok(ip) = node.host.parse::<IpAddr>() else {
                if let Some(path) = unix_path(&node.host) {
                    let address = Address::Unix(path.map_err(|reason| (index, reason))?.into());
                    let authority = SOCKET_AUTHORITY.into();
                    endpoints.push(Endpoint { address, weight, priority, authority, zone: in_zone });
                    continue;
                }
                if !is_host_name(&node.host) {
                    let reason =
                        format!("{:?} is neither an IP address, a host name nor unix:/path", node.host);
                    return Err((index, reason));
                }
                let authority = if port == DEFAULT_PORT {
                    node.host.to_string()
                } else {
                    format!("{}:{port}", node.host)
                };
                let (host, authority) = (node.host.clone(), authority.into_bytes().into());
                names.push(Named { host, port, weight, priority, authority, zone: in_zone });
                continue;
            };
            let address = SocketAddr::new(ip, port);
            let authority = authority(address, &node.host);
            let address = address.into();
            endpoints.push(Endpoint { address, weight, priority, authority, zone: in_zone });
        }
        let host = match (upstream.pass_host, upstream.upstream_host.as_deref()) {
            (PassHost::Rewrite, Some(host)) => HostRule::Rewrite(host.as_bytes().into()),
            (PassHost::Pass | PassHost::Rewrite, _) => HostRule::Pass,
            (PassHost::Node, _) => HostRule::Node,
        };
        let checks = upstream.checks.as_ref().and_then(|checks| Checks::read(checks).ok());
        let is_hashed = upstream.balancer == Balancer::Chash;
        let tuning = Tuning::read(&upstream.labels).unwrap_or_default();
        let own_zone: Option<Box<str>> = zone.filter(|_| tuning.zone_prefer).map(Box::from);
        Ok(Cluster {
            key: key.into_boxed_str(),
            balancer: upstream.balancer,
            hash_on: HashOn::read(upstream).ok().filter(|_| is_hashed),
            checks: checks.map(Arc::new),
            tuning,
            tiers: tiers(&endpoints, is_hashed, own_zone.as_deref()),
            own_zone,
            endpoints: endpoints.into_boxed_slice(),
            names: names.into_boxed_slice(),
            host,
            retries: upstream.retries,
            retry_ms_max: upstream.retry_timeout.filter(|seconds| *seconds > 0.0).map(milliseconds),
            timeouts: upstream.timeout.map(Timeouts::from),
            keepalive: upstream.keepalive_pool.unwrap_or_default(),
            published: OnceLock::new(),
        })
    }

    /// The same cluster with every address that its names have. An address that several nodes have is the first one's.
    pub fn with_addresses<'a>(&self, addresses_of: impl Fn(&str) -> &'a [IpAddr]) -> Cluster {
        let mut endpoints = self.endpoints.to_vec();
        let mut seen: hashbrown::HashSet<Address, foldhash::fast::FixedState> =
            endpoints.iter().map(|endpoint| endpoint.address.clone()).collect();
        for named in &self.names {
            for ip in addresses_of(&named.host) {
                let address = Address::Tcp(SocketAddr::new(*ip, named.port));
                if endpoints.len() < NODES_PER_UPSTREAM_MAX && seen.insert(address.clone()) {
                    let Named { weight, priority, authority, zone, .. } = named.clone();
                    endpoints.push(Endpoint { address, weight, priority, authority, zone });
                }
            }
        }
        let tiers = tiers(&endpoints, self.balancer == Balancer::Chash, self.own_zone.as_deref());
        let published = OnceLock::new();
        Cluster { endpoints: endpoints.into(), tiers, published, ..self.clone() }
    }

    /// Sets, once and before any request sees it, what its names stood for when it was published.
    pub fn publish_with<'a>(&self, addresses_of: impl Fn(&str) -> &'a [IpAddr]) {
        self.published.get_or_init(|| Arc::new(self.with_addresses(addresses_of)));
    }

    /// What its names stood for when it was published; `None`: it has none, or nothing was known.
    pub fn published(&self) -> Option<&Arc<Cluster>> {
        self.published.get()
    }

    /// Whether a node is in the zone whose nodes come first.
    pub fn is_own(&self, endpoint: &Endpoint) -> bool {
        self.own_zone.is_some() && self.own_zone == endpoint.zone
    }

    /// The first and the last tier of the priority that a tier is of.
    pub(super) fn priority_of(&self, number: usize) -> (usize, usize) {
        match self.tiers.get(number).map(|tier| tier.part) {
            Some(Part::Own { .. }) => (number, number + 1),
            Some(Part::Rest) => (number.saturating_sub(1), number),
            Some(Part::Whole) | None => (number, number),
        }
    }

    /// How many nodes may get requests.
    pub fn usable(&self) -> usize {
        self.endpoints.iter().filter(|endpoint| endpoint.weight > 0).count()
    }

    /// Why no request can be served whatever its nodes' health, if so.
    pub fn why_bare(&self) -> Option<String> {
        if self.endpoints.is_empty() && self.names.is_empty() {
            return Some("no node is configured".to_owned());
        }
        if self.endpoints.is_empty() {
            let names: Vec<&str> = self.names.iter().take(NAMES_TOLD_MAX).map(|named| &*named.host).collect();
            let more = if self.names.len() > names.len() { ", ..." } else { "" };
            return Some(format!("no address is known for {}{more}", names.join(", ")));
        }
        (self.usable() == 0).then(|| "every node has weight 0".to_owned())
    }

    /// How often one request may be tried in all.
    pub fn tries_max(&self) -> u32 {
        match self.retries {
            Some(retries) => retries.saturating_add(1),
            None => u32::try_from(self.usable()).unwrap_or(u32::MAX).max(1),
        }
    }
}

fn tiers(endpoints: &[Endpoint], is_hashed: bool, own_zone: Option<&str>) -> Box<[Tier]> {
    let mut priorities: Vec<i32> = endpoints.iter().map(|endpoint| endpoint.priority).collect();
    priorities.sort_unstable_by_key(|priority| Reverse(*priority));
    priorities.dedup();
    let tier = |of_it: &[(u32, &Endpoint)], part: Part| {
        let ring = || {
            let nodes: Vec<_> =
                of_it.iter().map(|(_, endpoint)| (endpoint.address.clone(), endpoint.weight)).collect();
            Arc::new(Ring::build(&nodes))
        };
        Tier { ring: is_hashed.then(ring), members: of_it.iter().map(|(index, _)| *index).collect(), part }
    };
    let mut tiers = Vec::with_capacity(priorities.len());
    for priority in priorities {
        let all: Vec<(u32, &Endpoint)> =
            (0u32..).zip(endpoints).filter(|(_, endpoint)| endpoint.priority == priority).collect();
        let is_own =
            |(_, endpoint): &(u32, &Endpoint)| own_zone.is_some() && endpoint.zone.as_deref() == own_zone;
        let (own, rest): (Vec<_>, Vec<_>) = all.iter().copied().partition(is_own);
        if own.is_empty() || rest.is_empty() {
            tiers.push(tier(&all, Part::Whole));
            continue;
        }
        let mut zones: Vec<_> =
            all.iter().filter(|(_, e)| e.weight > 0).map(|(_, e)| e.zone.as_deref()).collect();
        zones.sort_unstable();
        zones.dedup();
        tiers.push(tier(&own, Part::Own { zones: u32::try_from(zones.len()).unwrap_or(u32::MAX).max(1) }));
        tiers.push(tier(&rest, Part::Rest));
    }
    tiers.into()
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
    fn a_unix_socket_is_an_endpoint_named_localhost() {
        let cluster = compile(r#"{"nodes": {"unix:/run/app.sock": 1, "unix:///run/b.sock": 2}}"#);
        let told: Vec<_> = cluster.endpoints.iter().map(|e| (e.address.to_string(), e.weight)).collect();
        assert_eq!(told, [("unix:/run/app.sock".to_owned(), 1), ("unix:/run/b.sock".to_owned(), 2)]);
        assert!(cluster.names.is_empty() && cluster.endpoints.iter().all(|e| &*e.authority == b"localhost"));
        let wrong = serde_json::from_str(r#"{"nodes": {"127.0.0.1": 1, "unix:x": 1}}"#).unwrap();
        assert_eq!(Cluster::compile("upstreams/1".into(), &wrong).unwrap_err().0, 1);
    }

    #[test]
    fn a_name_stands_for_all_its_addresses_and_keeps_its_host() {
        let cluster = compile(
            r#"{"nodes": [{"host": "a.test", "port": 8080, "weight": 3}, {"host": "b", "weight": 1, "priority": 1}, {"host": "10.0.0.1", "port": 8080, "weight": 2}]}"#,
        );
        assert_eq!((cluster.endpoints.len(), cluster.names.len()), (1, 2));
        let a: Vec<IpAddr> = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap()).to_vec();
        let b: Vec<IpAddr> = vec!["::1".parse().unwrap()];
        let whole = cluster.with_addresses(|name| if name == "a.test" { &a } else { &b });
        let told: Vec<_> = whole
            .endpoints
            .iter()
            .map(|e| (e.address.to_string(), e.weight, String::from_utf8_lossy(&e.authority).into_owned()))
            .collect();
        let want = [
            ("10.0.0.1:8080", 2, "10.0.0.1:8080"),
            ("10.0.0.2:8080", 3, "a.test:8080"),
            ("[::1]:80", 1, "b"),
        ];
        assert_eq!(told, want.map(|(address, weight, host)| (address.to_owned(), weight, host.to_owned())));
        assert_eq!((whole.tiers.len(), whole.names.len()), (2, 2));
    }

    #[test]
    fn nodes_of_the_own_zone_stand_before_the_others_of_their_priority() {
        let json = r#"{"labels": {"ringway.zone-prefer": "on"}, "nodes": [
            {"host": "10.0.0.1", "weight": 1, "metadata": {"zone": "b"}},
            {"host": "a.test", "weight": 1, "metadata": {"zone": "a"}},
            {"host": "10.0.0.2", "weight": 1},
            {"host": "10.0.0.3", "weight": 1, "priority": 1, "metadata": {"zone": "a"}}]}"#;
        let upstream = serde_json::from_str(json).unwrap();
        let cluster = Cluster::compile_in(Some("a"), "upstreams/1".into(), &upstream).unwrap();
        let found: Vec<IpAddr> = vec!["10.0.0.9".parse().unwrap()];
        let whole = cluster.with_addresses(|_| &found);
        let tiers: Vec<(Vec<u32>, Part)> =
            whole.tiers.iter().map(|tier| (tier.members.to_vec(), tier.part)).collect();
        let want = [(vec![2], Part::Whole), (vec![3], Part::Own { zones: 3 }), (vec![0, 1], Part::Rest)];
        assert_eq!(tiers, want, "what a name stands for is where the name is; no zone is one more");
        assert!(whole.is_own(&whole.endpoints[3]) && !whole.is_own(&whole.endpoints[1]));
        let elsewhere = Cluster::compile("upstreams/1".into(), &upstream).unwrap();
        assert!(elsewhere.own_zone.is_none() && elsewhere.tiers.iter().all(|tier| tier.part == Part::Whole));
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
