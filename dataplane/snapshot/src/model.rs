//! The logical configuration: Apache APISIX's objects, with the same names, JSON and defaults.
//!
//! Every field of a route, service and upstream has its place here, also when the data plane does not act on it
//! yet: [`crate::validate`] then refuses it by name. Kinds without a type here are refused whole.
//! The JSON form is APISIX's (<https://apisix.apache.org/docs/apisix/admin-api/>); the postcard form is the
//! fields in order, so a change of any type here is a new schema number (see [`crate::frame::SCHEMA`]).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::json::Json;
pub use crate::model::consumer::{Consumer, ConsumerGroup, Credential, credential};
pub use crate::model::map::Map;
pub use crate::model::node::{Node, Nodes};

mod consumer;
mod map;
mod node;
mod shared;

/// The kinds of object that APISIX's Admin API knows, by its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What matches a request.
    #[serde(rename = "routes")]
    Route,
    /// What several routes share.
    #[serde(rename = "services")]
    Service,
    /// Where requests go.
    #[serde(rename = "upstreams")]
    Upstream,
    /// Who may call.
    #[serde(rename = "consumers")]
    Consumer,
    /// A consumer's secret.
    #[serde(rename = "credentials")]
    Credential,
    /// What several consumers share.
    #[serde(rename = "consumer_groups")]
    ConsumerGroup,
    /// Plugins that several routes share.
    #[serde(rename = "plugin_configs")]
    PluginConfig,
    /// Plugins that run on every request.
    #[serde(rename = "global_rules")]
    GlobalRule,
    /// Certificates.
    #[serde(rename = "ssls")]
    Ssl,
    /// Where secrets are kept.
    #[serde(rename = "secrets")]
    Secret,
    /// Layer 4 routes.
    #[serde(rename = "stream_routes")]
    StreamRoute,
    /// Configuration of a plugin as such.
    #[serde(rename = "plugin_metadata")]
    PluginMetadata,
    /// Protocol buffers' definitions.
    #[serde(rename = "protos")]
    Proto,
}

impl Kind {
    /// All kinds, in the order in which an empty store is filled (what is referred to first).
    pub const ALL: [Kind; 13] = [
        Kind::Upstream,
        Kind::Service,
        Kind::Route,
        Kind::ConsumerGroup,
        Kind::Consumer,
        Kind::Credential,
        Kind::PluginConfig,
        Kind::GlobalRule,
        Kind::Ssl,
        Kind::Secret,
        Kind::StreamRoute,
        Kind::PluginMetadata,
        Kind::Proto,
    ];

    /// The plural name: the Admin API's path, the declarative file's key and PostgreSQL's `resource.kind`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Route => "routes",
            Kind::Service => "services",
            Kind::Upstream => "upstreams",
            Kind::Consumer => "consumers",
            Kind::Credential => "credentials",
            Kind::ConsumerGroup => "consumer_groups",
            Kind::PluginConfig => "plugin_configs",
            Kind::GlobalRule => "global_rules",
            Kind::Ssl => "ssls",
            Kind::Secret => "secrets",
            Kind::StreamRoute => "stream_routes",
            Kind::PluginMetadata => "plugin_metadata",
            Kind::Proto => "protos",
        }
    }

    /// The kind of an object in this kind's list: APISIX's standalone form has credentials among consumers, told by their ids.
    pub fn in_list(self, id: &str) -> Kind {
        if self == Kind::Consumer && credential(id).is_some() { Kind::Credential } else { self }
    }

    /// The field that holds an object's id, where it has no `id`.
    pub fn naming_field(self) -> Option<&'static str> {
        (self == Kind::Consumer).then_some("username")
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One object of a kind that the data plane acts on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Object {
    /// A route.
    Route(#[serde(deserialize_with = "shared::one")] Arc<Route>),
    /// A service.
    Service(#[serde(deserialize_with = "shared::one")] Arc<Service>),
    /// An upstream.
    Upstream(#[serde(deserialize_with = "shared::one")] Arc<Upstream>),
    /// Plugins that routes share. From schema 3 on.
    PluginConfig(#[serde(deserialize_with = "shared::one")] Arc<PluginConfig>),
    /// Plugins of every request. From schema 3 on.
    GlobalRule(#[serde(deserialize_with = "shared::one")] Arc<GlobalRule>),
    /// Who may call. From schema 4 on.
    Consumer(#[serde(deserialize_with = "shared::one")] Arc<Consumer>),
    /// How a consumer shows who it is. From schema 4 on.
    Credential(#[serde(deserialize_with = "shared::one")] Arc<Credential>),
    /// What consumers share. From schema 4 on.
    ConsumerGroup(#[serde(deserialize_with = "shared::one")] Arc<ConsumerGroup>),
}

impl Object {
    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Object::Route(_) => Kind::Route,
            Object::Service(_) => Kind::Service,
            Object::Upstream(_) => Kind::Upstream,
            Object::PluginConfig(_) => Kind::PluginConfig,
            Object::GlobalRule(_) => Kind::GlobalRule,
            Object::Consumer(_) => Kind::Consumer,
            Object::Credential(_) => Kind::Credential,
            Object::ConsumerGroup(_) => Kind::ConsumerGroup,
        }
    }

    /// Its plugins.
    pub fn plugins(&self) -> Option<&Plugins> {
        match self {
            Object::Route(route) => Some(&route.plugins),
            Object::Service(service) => Some(&service.plugins),
            Object::Upstream(_) => None,
            Object::PluginConfig(config) => Some(&config.plugins),
            Object::GlobalRule(rule) => Some(&rule.plugins),
            Object::Consumer(consumer) => Some(&consumer.plugins),
            Object::Credential(credential) => Some(&credential.plugins),
            Object::ConsumerGroup(group) => Some(&group.plugins),
        }
    }
}

/// An object's id: APISIX allows `[A-Za-z0-9._-]{1,64}`, and integers, which become their decimal text.
pub type Id = Box<str>;

/// Free pairs that tools attach to objects.
pub type Labels = Map<Box<str>>;

/// Plugin name to its configuration.
pub type Plugins = Map<Json>;

/// What matches a request and where it then goes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// Name for people.
    pub name: Option<Box<str>>,
    /// Description for people.
    pub desc: Option<Box<str>>,
    /// Free pairs.
    pub labels: Labels,
    /// One path pattern; exactly one of `uri` and `uris` is given.
    pub uri: Option<Box<str>>,
    /// Several path patterns.
    pub uris: Option<Box<[Box<str>]>>,
    /// One host pattern.
    pub host: Option<Box<str>>,
    /// Several host patterns.
    pub hosts: Option<Box<[Box<str>]>>,
    /// One client address or CIDR block.
    pub remote_addr: Option<Box<str>>,
    /// Several client addresses or CIDR blocks.
    pub remote_addrs: Option<Box<[Box<str>]>>,
    /// Methods that match; none given: all.
    pub methods: Option<Box<[Method]>>,
    /// Among equal patterns the higher is tried first.
    pub priority: i64,
    /// Conditions on variables (lua-resty-expr's form).
    pub vars: Option<Json>,
    /// Lua: refused by name.
    pub filter_func: Option<Box<str>>,
    /// Lua: refused by name.
    pub script: Option<Json>,
    /// Lua: refused by name.
    #[serde(deserialize_with = "id::option")]
    pub script_id: Option<Id>,
    /// Plugins of this route.
    pub plugins: Plugins,
    /// Plugins shared by reference.
    #[serde(deserialize_with = "id::option")]
    pub plugin_config_id: Option<Id>,
    /// An upstream of its own; where one is named besides, that counts, as in APISIX.
    #[serde(deserialize_with = "shared::option")]
    pub upstream: Option<Arc<Upstream>>,
    /// An upstream by reference.
    #[serde(deserialize_with = "id::option")]
    pub upstream_id: Option<Id>,
    /// A service by reference.
    #[serde(deserialize_with = "id::option")]
    pub service_id: Option<Id>,
    /// APISIX's older way to say gRPC.
    pub service_protocol: Option<Box<str>>,
    /// Timeouts that win over the upstream's.
    pub timeout: Option<Timeout>,
    /// Whether an `Upgrade: websocket` may switch the connection.
    pub enable_websocket: Option<bool>,
    /// Whether the route is in use.
    pub status: Status,
    /// Seconds since 1970, written by tools.
    pub create_time: Option<i64>,
    /// Seconds since 1970, written by tools.
    pub update_time: Option<i64>,
}

impl Route {
    /// All path patterns.
    pub fn uris(&self) -> impl Iterator<Item = &str> {
        self.uri.as_deref().into_iter().chain(list(&self.uris))
    }

    /// The route's own host patterns; where it has none, its service's count.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.host.as_deref().into_iter().chain(list(&self.hosts))
    }

    /// The upstream of its own, where that counts.
    pub fn own_upstream(&self) -> Option<&Upstream> {
        self.upstream.as_deref().filter(|_| self.upstream_id.is_none())
    }

    /// All client address patterns.
    pub fn remote_addrs(&self) -> impl Iterator<Item = &str> {
        self.remote_addr.as_deref().into_iter().chain(list(&self.remote_addrs))
    }
}

fn list(texts: &Option<Box<[Box<str>]>>) -> impl Iterator<Item = &str> {
    texts.iter().flatten().map(|text| &**text)
}

/// What several routes share.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// Name for people.
    pub name: Option<Box<str>>,
    /// Description for people.
    pub desc: Option<Box<str>>,
    /// Free pairs.
    pub labels: Labels,
    /// Host patterns for routes that have none.
    pub hosts: Option<Box<[Box<str>]>>,
    /// Plugins of all its routes.
    pub plugins: Plugins,
    /// An upstream of its own; where one is named besides, that counts, as in APISIX.
    #[serde(deserialize_with = "shared::option")]
    pub upstream: Option<Arc<Upstream>>,
    /// An upstream by reference.
    #[serde(deserialize_with = "id::option")]
    pub upstream_id: Option<Id>,
    /// Lua: refused by name.
    pub script: Option<Json>,
    /// Whether an `Upgrade: websocket` may switch the connection.
    pub enable_websocket: Option<bool>,
    /// Seconds since 1970, written by tools.
    pub create_time: Option<i64>,
    /// Seconds since 1970, written by tools.
    pub update_time: Option<i64>,
}

impl Service {
    /// The upstream of its own, where that counts.
    pub fn own_upstream(&self) -> Option<&Upstream> {
        self.upstream.as_deref().filter(|_| self.upstream_id.is_none())
    }
}

/// Plugins that several routes share.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PluginConfig {
    /// Name for people.
    pub name: Option<Box<str>>,
    /// Description for people.
    pub desc: Option<Box<str>>,
    /// Free pairs.
    pub labels: Labels,
    /// The plugins.
    pub plugins: Plugins,
    /// Seconds since 1970, written by tools.
    pub create_time: Option<i64>,
    /// Seconds since 1970, written by tools.
    pub update_time: Option<i64>,
}

/// Plugins of every request, whatever its route, also of those that have none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GlobalRule {
    /// The plugins.
    pub plugins: Plugins,
    /// Seconds since 1970, written by tools.
    pub create_time: Option<i64>,
    /// Seconds since 1970, written by tools.
    pub update_time: Option<i64>,
}

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Upstream {
    /// Name for people.
    pub name: Option<Box<str>>,
    /// Description for people.
    pub desc: Option<Box<str>>,
    /// Free pairs.
    pub labels: Labels,
    /// Backends; `None` only with discovery.
    pub nodes: Option<Nodes>,
    /// How a node is chosen.
    #[serde(rename = "type")]
    pub balancer: Balancer,
    /// What consistent hashing hashes.
    pub hash_on: Option<Box<str>>,
    /// The variable, header or cookie that is hashed.
    pub key: Option<Box<str>>,
    /// Health checks.
    pub checks: Option<Json>,
    /// Further tries on other nodes; none given: as many as there are other nodes.
    pub retries: Option<u32>,
    /// Seconds after which no further try starts; 0 is no limit.
    pub retry_timeout: Option<f64>,
    /// Timeouts.
    pub timeout: Option<Timeout>,
    /// Protocol towards the nodes.
    pub scheme: Scheme,
    /// Which Host the nodes see.
    pub pass_host: PassHost,
    /// The Host with `pass_host: rewrite`.
    pub upstream_host: Option<Box<str>>,
    /// Idle connections kept.
    pub keepalive_pool: Option<KeepalivePool>,
    /// TLS towards the nodes.
    pub tls: Option<Json>,
    /// Discovery: the name to look up.
    pub service_name: Option<Box<str>>,
    /// Discovery: by what.
    pub discovery_type: Option<Box<str>>,
    /// Discovery: further arguments.
    pub discovery_args: Option<Json>,
    /// Slow start (API7's name).
    pub warm_up_conf: Option<Json>,
    /// Seconds since 1970, written by tools.
    pub create_time: Option<i64>,
    /// Seconds since 1970, written by tools.
    pub update_time: Option<i64>,
}

/// Request methods that a route may name (APISIX's list, and QUERY).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names say it: RFC 9110 section 9, RFC 5789, PURGE by custom")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    Purge,
    Query,
}

impl Method {
    /// All methods that a route can name.
    pub const ALL: [Method; 11] = [
        Method::Get,
        Method::Head,
        Method::Post,
        Method::Put,
        Method::Delete,
        Method::Connect,
        Method::Options,
        Method::Trace,
        Method::Patch,
        Method::Purge,
        Method::Query,
    ];

    /// As it stands in a request line.
    pub fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Connect => "CONNECT",
            Method::Options => "OPTIONS",
            Method::Trace => "TRACE",
            Method::Patch => "PATCH",
            Method::Purge => "PURGE",
            Method::Query => "QUERY",
        }
    }
}

/// How a node is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balancer {
    /// Smooth weighted round robin.
    #[default]
    #[serde(rename = "roundrobin")]
    RoundRobin,
    /// Consistent hashing.
    Chash,
    /// Exponentially weighted moving average of latency.
    Ewma,
    /// Fewest active requests.
    LeastConn,
}

/// Protocol towards the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the protocols")]
pub enum Scheme {
    #[default]
    Http,
    Https,
    Grpc,
    Grpcs,
    Tcp,
    Tls,
    Udp,
    Kafka,
}

/// Which Host the nodes see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PassHost {
    /// The client's.
    #[default]
    Pass,
    /// The node's own name.
    Node,
    /// `upstream_host`.
    Rewrite,
}

/// Timeouts in seconds, as APISIX has them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeout {
    /// For the connection to be made.
    pub connect: f64,
    /// Between two successful writes.
    pub send: f64,
    /// Between two successful reads.
    pub read: f64,
}

/// Idle connections kept to an upstream's nodes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeepalivePool {
    /// How many that nobody has needed for a second or two stay, for each core and node.
    pub size: u32,
    /// Seconds until an idle one is closed; 0 is never.
    pub idle_timeout: f64,
    /// Requests after which a connection is closed.
    pub requests: u32,
}

impl Default for KeepalivePool {
    fn default() -> Self {
        KeepalivePool { size: 320, idle_timeout: 60.0, requests: 1000 }
    }
}

/// Whether a route is in use. JSON has 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Status {
    /// It matches nothing.
    Disabled,
    /// It is in use.
    #[default]
    Enabled,
}

impl TryFrom<u8> for Status {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        match number {
            0 => Ok(Status::Disabled),
            1 => Ok(Status::Enabled),
            _ => Err("expected 0 or 1"),
        }
    }
}

impl From<Status> for u8 {
    fn from(status: Status) -> u8 {
        u8::from(status == Status::Enabled)
    }
}

/// Ids in references: text, or an integer in JSON.
mod id {
    use serde::{Deserialize, Deserializer};

    use super::Id;

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a string or an integer")]
    enum Loose {
        Text(Box<str>),
        Number(u64),
    }

    pub(super) fn option<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Id>, D::Error> {
        if !deserializer.is_human_readable() {
            return Option::<Id>::deserialize(deserializer);
        }
        Ok(Option::<Loose>::deserialize(deserializer)?.map(|loose| match loose {
            Loose::Text(text) => text,
            Loose::Number(number) => number.to_string().into_boxed_str(),
        }))
    }
}
